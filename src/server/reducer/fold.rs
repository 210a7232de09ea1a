//! What is accumulated for one element of a result.

use super::number::{Element, Number};
use super::reduce::Reduced;
use crate::error::{Error, Result};

/// An accumulator of one element of a result.
pub(super) trait Fold<T>: Copy {
    /// What it is of no elements.
    fn first() -> Self;

    fn take(&mut self, value: T);
}

/// An accumulator that becomes an element, or the text of what is none.
pub(super) trait Finish<T> {
    fn finish(&self) -> Result<T, String>;
}

#[derive(Clone, Copy)]
pub(super) struct Nothing;

/// The greatest element, or the least.
#[derive(Clone, Copy)]
pub(super) struct Extreme<T, const GREATEST: bool>(T);

#[derive(Clone, Copy)]
pub(super) struct Total<T: Number>(T::Sum);

impl<T> Fold<T> for Nothing {
    fn first() -> Self {
        Self
    }

    #[inline]
    fn take(&mut self, _: T) {}
}

impl<T: Number, const GREATEST: bool> Fold<T> for Extreme<T, GREATEST> {
    fn first() -> Self {
        Self(if GREATEST { T::BOTTOM } else { T::TOP })
    }

    /// What is not a number is beyond all others, and stays.
    #[inline]
    fn take(&mut self, value: T) {
        let is_beyond = if GREATEST {
            value > self.0
        } else {
            value < self.0
        };
        if is_beyond || value.is_nan() {
            self.0 = value;
        }
    }
}

impl<T: Number> Fold<T> for Total<T> {
    fn first() -> Self {
        Self(T::Sum::default())
    }

    #[inline]
    fn take(&mut self, value: T) {
        self.0 = value.plus(self.0);
    }
}

impl<T: Number, const GREATEST: bool> Finish<T> for Extreme<T, GREATEST> {
    fn finish(&self) -> Result<T, String> {
        Ok(self.0)
    }
}

impl<T: Number> Finish<T> for Total<T> {
    fn finish(&self) -> Result<T, String> {
        T::of_sum(self.0).ok_or_else(|| self.0.to_string())
    }
}

/// Accumulators as elements.
///
/// # Errors
/// `Invalid` when a sum of integers is none.
pub(super) fn finished<T: Number, F: Finish<T>>(
    element: Element,
    slots: &[(i64, F)],
) -> Result<Reduced> {
    let mut bytes = Vec::with_capacity(slots.len().saturating_mul(T::SIZE));
    for (_, fold) in slots {
        let value = fold.finish().map_err(|sum| {
            Error::Invalid(format!(
                "the sum is {sum}, which is out of the range of {}: select the elements and add them up in a wider type",
                element.name()
            ))
        })?;
        value.write(&mut bytes);
    }
    Ok(Reduced {
        bytes,
        element,
        shape: Vec::new(),
        counts: slots.iter().map(|(count, _)| *count).collect(),
    })
}

/// The numbers of elements themselves.
pub(super) fn counted(slots: &[(i64, Nothing)]) -> Reduced {
    let counts: Vec<i64> = slots.iter().map(|(count, _)| *count).collect();
    Reduced {
        bytes: counts
            .iter()
            .flat_map(|count| count.to_ne_bytes())
            .collect(),
        element: Element::Int64,
        shape: Vec::new(),
        counts,
    }
}
