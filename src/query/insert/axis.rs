//! Coordinates of rows: from the values of a dimension's column to indices along the dimension.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt64Array, make_comparator};
use arrow::compute::{SortOptions, cast, concat, take};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;

use crate::error::{Error, Result};
use crate::query::show;

/// The indices along one dimension by the values of its coordinate.
#[derive(Debug)]
pub(super) struct Coordinates {
    name: String,
    /// Type of the values; `None` where the index itself is the coordinate.
    data_type: Option<DataType>,
    /// By value, the index; `None` for a value that occurs twice.
    known: HashMap<u64, Option<u64>>,
    /// Numbers for texts, which have no bits.
    texts: HashMap<String, u64>,
    /// The bits of each value in order, for the guess that rows come in the order of the grid.
    order: Vec<u64>,
    length: u64,
    /// Values that are new, in the order in which they came.
    added: Vec<ArrayRef>,
}

impl Coordinates {
    /// The coordinates of the dimension `name` of `length` indices; `values` is `None` where the index is the coordinate.
    pub(super) fn new(name: &str, length: u64, values: Option<&ArrayRef>) -> Result<Self> {
        let mut coordinates = Self {
            name: name.to_owned(),
            data_type: values.map(|values| values.data_type().clone()),
            known: HashMap::new(),
            texts: HashMap::new(),
            order: Vec::new(),
            length,
            added: Vec::new(),
        };
        if let Some(values) = values {
            let bits = coordinates.any_bits(values)?;
            for (index, bits) in (0..).zip(&bits) {
                // No row can say that it means a coordinate that is missing.
                if usize::try_from(index).is_ok_and(|index: usize| values.is_null(index)) {
                    continue;
                }
                coordinates
                    .known
                    .entry(*bits)
                    .and_modify(|known| *known = None)
                    .or_insert(Some(index));
            }
            coordinates.order = bits;
        }
        Ok(coordinates)
    }

    /// Number of indices, with those of new values.
    pub(super) fn length(&self) -> u64 {
        self.length + self.added.len() as u64
    }

    /// Numbers that are equal where the values of a column are.
    ///
    /// # Errors
    /// `Invalid` when one is NULL, or the type is none of a coordinate.
    pub(super) fn bits(&mut self, column: &ArrayRef) -> Result<Vec<u64>> {
        if column.null_count() > 0 {
            return Err(Error::Invalid(format!(
                "a row has no value of {}, by which its place would be known",
                self.name
            )));
        }
        self.any_bits(column)
    }

    /// As [`Coordinates::bits`]; those of NULL are any.
    fn any_bits(&mut self, column: &ArrayRef) -> Result<Vec<u64>> {
        let column = match &self.data_type {
            Some(data_type) if data_type != column.data_type() => {
                cast(column, data_type).map_err(|e| self.not_comparable(&e))?
            }
            None => cast(column, &DataType::Int64).map_err(|e| self.not_comparable(&e))?,
            Some(_) => Arc::clone(column),
        };
        if *column.data_type() == DataType::Utf8 {
            let texts = column.as_string::<i32>().iter();
            return Ok(texts
                .map(|text| {
                    let text = text.unwrap_or_default();
                    let next = self.texts.len() as u64;
                    match self.texts.get(text) {
                        Some(number) => *number,
                        None => {
                            self.texts.insert(text.to_owned(), next);
                            next
                        }
                    }
                })
                .collect());
        }
        bits_of(&column).ok_or_else(|| {
            Error::Unsupported(format!(
                "rows cannot be placed by values of {}, which are of type {}",
                self.name,
                column.data_type()
            ))
        })
    }

    /// The index of a value given by its bits; `guess` is an index that is likely.
    pub(super) fn find(&self, bits: u64, guess: u64) -> Found {
        if self.data_type.is_none() {
            return match i64::from_ne_bytes(bits.to_ne_bytes()) {
                index if index < 0 => Found::Nowhere,
                index if index.unsigned_abs() < self.length() => Found::At(index.unsigned_abs()),
                index if index.unsigned_abs() == self.length() => Found::New,
                _ => Found::Nowhere,
            };
        }
        let guessed = usize::try_from(guess)
            .ok()
            .and_then(|at| self.order.get(at));
        // Where none is missing or there twice.
        if guessed == Some(&bits) && self.known.len() == self.order.len() {
            return Found::At(guess);
        }
        match self.known.get(&bits) {
            Some(Some(index)) => Found::At(*index),
            Some(None) => Found::Twice,
            None => Found::New,
        }
    }

    /// Gives the value in `row` of `column`, whose bits these are, the next index.
    pub(super) fn add(&mut self, bits: u64, column: &ArrayRef, row: usize) -> Result<u64> {
        let index = self.length();
        let row = UInt64Array::from(vec![row as u64]);
        // A copy: a slice would keep all of the batch.
        let value = take(column, &row, None).map_err(|e| self.not_comparable(&e))?;
        self.added.push(value);
        if self.data_type.is_some() {
            self.known.insert(bits, Some(index));
            self.order.push(bits);
        }
        Ok(index)
    }

    /// The new values; `None` when there is none.
    pub(super) fn added(&self) -> Result<Option<ArrayRef>> {
        let parts: Vec<&dyn Array> = self.added.iter().map(AsRef::as_ref).collect();
        if parts.is_empty() {
            return Ok(None);
        }
        concat(&parts)
            .map(Some)
            .map_err(|e| self.not_comparable(&e))
    }

    fn not_comparable(&self, error: &ArrowError) -> Error {
        Error::Invalid(format!("values of {}: {error}", self.name))
    }
}

/// The values of a column, each once, in the order in which they come.
#[derive(Debug)]
pub(in crate::query) struct Distinct(Coordinates);

impl Distinct {
    /// No values of the dimension `name`; `empty` tells their type.
    ///
    /// # Errors
    /// As [`Coordinates::new`].
    pub(in crate::query) fn new(name: &str, empty: &ArrayRef) -> Result<Self> {
        Coordinates::new(name, 0, Some(empty)).map(Self)
    }

    /// Adds those of a column that are new.
    ///
    /// # Errors
    /// `Invalid` when one is NULL, or the type is none of a coordinate.
    pub(in crate::query) fn add(&mut self, column: &ArrayRef) -> Result<()> {
        for (row, bits) in self.0.bits(column)?.into_iter().enumerate() {
            if self.0.find(bits, 0) == Found::New {
                self.0.add(bits, column, row)?;
            }
        }
        Ok(())
    }

    /// All of them; `None` when there is none.
    ///
    /// # Errors
    /// `Invalid` when they do not make a column.
    pub(in crate::query) fn values(&self) -> Result<Option<ArrayRef>> {
        self.0.added()
    }
}

/// Where a value is along a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// At this index.
    At(u64),
    /// Not yet anywhere, but it could be the next.
    New,
    /// At more than one index.
    Twice,
    /// Nowhere, and not behind the last one either.
    Nowhere,
}

/// Checks that a value of a row comes after the last one that is there, or in some `place`.
///
/// # Errors
/// `Invalid` naming both when it does not.
pub(super) fn check_order(
    name: &str,
    (values, row): (&ArrayRef, usize),
    last: &ArrayRef,
    order: SortOptions,
    place: &str,
) -> Result<()> {
    let invalid = |error: ArrowError| Error::Invalid(error.to_string());
    let value = cast(&values.slice(row, 1), last.data_type()).map_err(invalid)?;
    let compare = make_comparator(&value, last, order).map_err(invalid)?;
    if compare(0, 0).is_gt() {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "{name} {} does not come after {}, which is the last one {place}",
        show(values, row),
        show(last, 0)
    )))
}

/// The values of a column as numbers that are equal where they are.
fn bits_of(column: &ArrayRef) -> Option<Vec<u64>> {
    fn integers<T: ArrowPrimitiveType>(column: &ArrayRef) -> Option<Vec<u64>>
    where
        T::Native: Into<i64>,
    {
        let values = column.as_primitive_opt::<T>()?.values();
        let bits = |value: &T::Native| u64::from_ne_bytes((*value).into().to_ne_bytes());
        Some(values.iter().map(bits).collect())
    }
    match column.data_type() {
        DataType::Int8 => integers::<Int8Type>(column),
        DataType::Int16 => integers::<Int16Type>(column),
        DataType::Int32 => integers::<Int32Type>(column),
        DataType::Int64 => integers::<Int64Type>(column),
        DataType::UInt8 => integers::<UInt8Type>(column),
        DataType::UInt16 => integers::<UInt16Type>(column),
        DataType::UInt32 => integers::<UInt32Type>(column),
        DataType::UInt64 => Some(column.as_primitive_opt::<UInt64Type>()?.values().to_vec()),
        DataType::Date32 => integers::<Date32Type>(column),
        DataType::Date64 => integers::<Date64Type>(column),
        DataType::Timestamp(TimeUnit::Second, _) => integers::<TimestampSecondType>(column),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            integers::<TimestampMillisecondType>(column)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            integers::<TimestampMicrosecondType>(column)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => integers::<TimestampNanosecondType>(column),
        // Both zeros are one place.
        DataType::Float32 => {
            let values = column.as_primitive_opt::<Float32Type>()?.values();
            Some(values.iter().map(|v| (v + 0.0).to_bits().into()).collect())
        }
        DataType::Float64 => {
            let values = column.as_primitive_opt::<Float64Type>()?.values();
            Some(values.iter().map(|v| (v + 0.0).to_bits()).collect())
        }
        _ => None,
    }
}
