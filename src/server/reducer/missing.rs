//! Which elements do not count.

use serde_json::Number as Written;

use super::number::{Element, Number, with_number};
use crate::error::{Error, Result};

/// Which elements do not count, as a request says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Missing {
    Values(Vec<Written>),
    Below(Written),
    Above(Written),
    Outside(Written, Written),
}

/// Which elements do not count, as elements.
pub(super) enum Absent<T> {
    Nothing,
    Values(Vec<T>),
    Below(T),
    Above(T),
    Outside(T, T),
}

impl<T: Number> Absent<T> {
    pub(super) fn new(element: Element, missing: Option<&Missing>) -> Result<Self> {
        let number = |written: &Written| {
            T::of_written(written).ok_or_else(|| {
                Error::Invalid(format!(
                    "Incompatible value {written} for missing: it is no {}",
                    element.name()
                ))
            })
        };
        Ok(match missing {
            None => Self::Nothing,
            Some(Missing::Values(values)) => {
                Self::Values(values.iter().map(number).collect::<Result<_>>()?)
            }
            Some(Missing::Below(least)) => Self::Below(number(least)?),
            Some(Missing::Above(most)) => Self::Above(number(most)?),
            Some(Missing::Outside(least, most)) => match (number(least)?, number(most)?) {
                (least, most) if least < most => Self::Outside(least, most),
                (least, most) => {
                    return Err(Error::Invalid(format!(
                        "valid_range goes from {least} to {most}, which is nothing"
                    )));
                }
            },
        })
    }

    /// What is not a number is neither below nor above anything, and counts.
    #[inline]
    pub(super) fn has(&self, value: T) -> bool {
        match self {
            Self::Nothing => false,
            Self::Values(values) => values.contains(&value),
            Self::Below(least) => value < *least,
            Self::Above(most) => value > *most,
            Self::Outside(least, most) => value < *least || value > *most,
        }
    }
}

/// Checks that what is missing can be said of elements of this type.
///
/// # Errors
/// `Invalid` when it cannot.
pub(super) fn check(element: Element, missing: Option<&Missing>) -> Result<()> {
    with_number!(element, T => Absent::<T>::new(element, missing).map(drop))
}
