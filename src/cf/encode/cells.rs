//! Cells: the loop that turns values of a column into stored elements.

use arrow::buffer::NullBuffer;
use arrow::datatypes::ToByteSlice;

use crate::array::dtype::ElementType;
use crate::cf::encode::stored::Stored;
use crate::cf::missing::Limits;
use crate::error::{Error, Result};

/// Values are converted in blocks of as many as a word of a validity bitmap has bits.
const BLOCK: usize = 64;

/// How values become elements of type `T`.
pub(super) trait Conversion<T> {
    /// The values.
    type Value: Copy + std::fmt::Debug;

    /// The element of `value`, and whether it may stand for it.
    fn convert(&self, value: Self::Value) -> (T, bool);

    /// Whether `value` is NaN.
    fn is_nan(&self, value: Self::Value) -> bool;

    /// `value` as it is written.
    fn show(&self, value: Self::Value) -> String {
        format!("{value:?}")
    }

    /// Why no element may stand for `value`.
    fn refusal(&self, value: Self::Value) -> String;
}

/// What is to be known of a variable to store values in it.
pub(super) struct Cells<T: Stored> {
    /// The type of its numbers, for messages.
    pub(super) number: ElementType,
    /// Which elements mean NULL.
    pub(super) limits: Limits<T::Number>,
    /// The element that is stored for NULL.
    pub(super) null: Option<T>,
    /// Whether NaN is stored as NULL is.
    pub(super) nan_is_null: bool,
}

impl<T: Stored> Cells<T> {
    /// Whether every element stands for itself.
    pub(super) fn is_verbatim(&self) -> bool {
        !self.nan_is_null && self.limits.equal.is_empty() && self.limits.valid.is_none()
    }

    /// Appends the elements of `values` to `out`.
    pub(super) fn encode<C: Conversion<T>>(
        &self,
        values: &[C::Value],
        nulls: Option<&NullBuffer>,
        conversion: &C,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        out.reserve(size_of::<T>().saturating_mul(values.len()));
        let chunks = nulls.map(|nulls| nulls.inner().bit_chunks());
        let mut words = chunks.as_ref().map(|chunks| chunks.iter_padded());
        for block in values.chunks(BLOCK) {
            let word = words.as_mut().map_or(Some(u64::MAX), Iterator::next);
            let present = self.present(block, word.unwrap_or_default(), conversion);
            let present = &present[..block.len()];
            let mut cells = [T::default(); BLOCK];
            let cells = &mut cells[..block.len()];
            let mut fits = true;
            for ((cell, value), present) in cells.iter_mut().zip(block).zip(present) {
                let (element, fit) = conversion.convert(*value);
                *cell = element;
                fits &= fit | !present;
            }
            if !fits || self.reads_as_null(cells, present) {
                return Err(self.refusal(block, present, conversion));
            }
            if present.contains(&false) {
                let null = self.null.ok_or_else(no_null)?;
                for (cell, present) in cells.iter_mut().zip(present) {
                    *cell = if *present { *cell } else { null };
                }
            }
            out.extend_from_slice(cells.to_byte_slice());
        }
        Ok(())
    }

    /// That `cell`, which stands for what `shown` says, does not mean NULL.
    pub(super) fn check(&self, cell: T, shown: impl Fn() -> String) -> Result<()> {
        let number = cell.number();
        if !self.limits.is_missing(number) {
            return Ok(());
        }
        let shown = shown();
        let outside = self
            .limits
            .valid
            .filter(|(low, high)| number < *low || number > *high);
        Err(Error::Invalid(match outside {
            Some((low, high)) if low <= high => format!(
                "{shown} would read back as NULL: the stored {number:?} is outside of the valid range {low:?} to {high:?}"
            ),
            Some(_) => format!("{shown} would read back as NULL: no number is in the valid range"),
            None => format!(
                "{shown} would read back as NULL: the stored {number:?} is a missing value of the variable"
            ),
        }))
    }

    /// Which cells of a block hold a value.
    fn present<C: Conversion<T>>(
        &self,
        block: &[C::Value],
        word: u64,
        conversion: &C,
    ) -> [bool; BLOCK] {
        let mut present = [true; BLOCK];
        if word != u64::MAX {
            for (at, present) in present.iter_mut().enumerate() {
                *present = (word >> at) & 1 == 1;
            }
        }
        if self.nan_is_null {
            for (present, value) in present.iter_mut().zip(block) {
                *present &= !conversion.is_nan(*value);
            }
        }
        present
    }

    /// Whether one of the `present` cells means NULL; a loop for each reason, so that none of them has a branch.
    fn reads_as_null(&self, cells: &[T], present: &[bool]) -> bool {
        let mut any = false;
        for missing in &self.limits.equal {
            for (cell, present) in cells.iter().zip(present) {
                any |= present & (cell.number() == *missing);
            }
        }
        if let Some((low, high)) = self.limits.valid {
            for (cell, present) in cells.iter().zip(present) {
                any |= present & ((cell.number() < low) | (cell.number() > high));
            }
        }
        any
    }

    /// What is wrong with the first value that is.
    fn refusal<C: Conversion<T>>(
        &self,
        block: &[C::Value],
        present: &[bool],
        conversion: &C,
    ) -> Error {
        let values = block.iter().zip(present);
        for (value, _) in values.filter(|(_, present)| **present) {
            let shown = || format!("value {}", conversion.show(*value));
            let (cell, fits) = conversion.convert(*value);
            if !fits {
                return Error::Invalid(format!(
                    "{} cannot be stored as {}: {}",
                    shown(),
                    self.number.name(),
                    conversion.refusal(*value)
                ));
            }
            if let Err(error) = self.check(cell, shown) {
                return error;
            }
        }
        Error::Invalid("a value cannot be stored".into())
    }
}

/// NULL where there is nothing to store for it.
pub(super) fn no_null() -> Error {
    Error::Invalid(
        "the variable has no missing value (no _FillValue or missing_value), so it cannot hold NULL".into(),
    )
}
