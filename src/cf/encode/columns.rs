//! Columns of numbers: the few Arrow types that values are stored from, and the ways to do it.

use std::marker::PhantomData;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float32Array, Float64Array, Int64Array, UInt64Array,
};
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, DecimalType, Float32Type, Float64Type,
    Int64Type, UInt64Type,
};

use crate::array::dtype::ElementType;
use crate::array::number::nearest_f32;
use crate::cf::encode::cells::Conversion;
use crate::cf::encode::stored::{Stored, Value};
use crate::cf::encode::{cast_exactly, not_storable};
use crate::cf::number::Number;
use crate::cf::packing::Packing;
use crate::error::Result;

/// A column of numbers, in the widest type of its kind.
pub(super) enum Source {
    Single(Float32Array),
    Double(Float64Array),
    Signed(Int64Array),
    Unsigned(UInt64Array),
    /// With the number of decimals.
    Decimal(Decimal128Array, u8),
}

impl Source {
    /// Decimals are kept if they are to be stored as integers, else they become the nearest doubles. `element` is what
    /// errors say that the column cannot be stored as.
    pub(super) fn new(
        column: &ArrayRef,
        keep_decimals: bool,
        element: ElementType,
    ) -> Result<Self> {
        let to = |data_type| cast_exactly(column, &data_type);
        Ok(match column.data_type() {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                Self::Signed(to(DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            // Formats without booleans have 0 and 1.
            DataType::Boolean if element.is_integer() => {
                Self::Signed(to(DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                Self::Unsigned(to(DataType::UInt64)?.as_primitive::<UInt64Type>().clone())
            }
            DataType::Float16 | DataType::Float32 => {
                Self::Single(to(DataType::Float32)?.as_primitive::<Float32Type>().clone())
            }
            DataType::Decimal32(_, scale)
            | DataType::Decimal64(_, scale)
            | DataType::Decimal128(_, scale)
            | DataType::Decimal256(_, scale)
                if keep_decimals =>
            {
                let decimals = u8::try_from(*scale).unwrap_or_default();
                let wide = DataType::Decimal128(DECIMAL128_MAX_PRECISION, decimals.cast_signed());
                Self::Decimal(to(wide)?.as_primitive::<Decimal128Type>().clone(), decimals)
            }
            DataType::Float64
            | DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..) => {
                Self::Double(to(DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
            other => return Err(not_storable(other, element)),
        })
    }
}

/// Values that are elements already.
pub(super) struct Same;

impl<T: Stored> Conversion<T> for Same {
    type Value = T;

    #[inline]
    fn convert(&self, value: T) -> (T, bool) {
        (value, true)
    }

    #[inline]
    fn is_nan(&self, value: T) -> bool {
        value.number().is_nan()
    }

    fn refusal(&self, _: T) -> String {
        String::new()
    }
}

/// Values that are stored as numbers of another type.
pub(super) struct Plain<V>(PhantomData<V>);

impl<V> Plain<V> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Stored, V: Value> Conversion<T> for Plain<V> {
    type Value = V;

    #[inline]
    fn convert(&self, value: V) -> (T, bool) {
        value.store()
    }

    #[inline]
    fn is_nan(&self, value: V) -> bool {
        value.is_nan()
    }

    fn refusal(&self, value: V) -> String {
        let (double, exact) = value.to_double();
        if value.is_nan() {
            "it is not a number".into()
        } else if !T::nearest(double).1 {
            outside::<T>()
        } else if T::INTEGER && exact && double.fract() != 0.0 {
            "it is not a whole number".into()
        } else if T::INTEGER {
            outside::<T>()
        } else {
            "it would be rounded".into()
        }
    }
}

/// Decimals that are stored as integers.
pub(super) struct Decimals {
    scale: u8,
    one: i128,
}

impl Decimals {
    pub(super) fn new(scale: u8) -> Self {
        Self {
            scale,
            one: 10i128.saturating_pow(scale.into()),
        }
    }
}

impl<T: Stored> Conversion<T> for Decimals {
    type Value = i128;

    fn convert(&self, value: i128) -> (T, bool) {
        let (element, fits) = T::from_integer(value / self.one);
        (element, fits & (value % self.one == 0))
    }

    fn is_nan(&self, _: i128) -> bool {
        false
    }

    fn show(&self, value: i128) -> String {
        Decimal128Type::format_decimal(value, DECIMAL128_MAX_PRECISION, self.scale.cast_signed())
    }

    fn refusal(&self, value: i128) -> String {
        if value % self.one == 0 {
            outside::<T>()
        } else {
            "it is not a whole number".into()
        }
    }
}

/// Values that are stored packed.
pub(super) struct Pack<V> {
    packing: Packing,
    scale: f64,
    offset: f64,
    values: PhantomData<V>,
}

impl<V> Pack<V> {
    pub(super) fn new(packing: Packing) -> Self {
        let (scale, offset) = packing.factors();
        Self {
            packing,
            scale,
            offset,
            values: PhantomData,
        }
    }

    fn unpack<T: Stored>(&self, element: T) -> f64 {
        element.number().to_f64() * self.scale + self.offset
    }

    #[inline]
    fn reads_back<T: Stored>(&self, element: T, value: f64) -> bool {
        let unpacked = self.unpack(element);
        if self.packing.is_single() {
            nearest_f32(unpacked) == nearest_f32(value)
        } else {
            unpacked == value
        }
    }

    /// Floating-point elements are not rounded to whole numbers: the quotient may be one bit off the element that reads
    /// back as the very value.
    #[inline]
    fn adjust<T: Stored>(&self, element: T, value: f64) -> T {
        if T::INTEGER || self.reads_back(element, value) {
            return element;
        }
        element
            .neighbours()
            .into_iter()
            .find(|element| self.reads_back(*element, value))
            .unwrap_or(element)
    }
}

impl<T: Stored, V: Value> Conversion<T> for Pack<V> {
    type Value = V;

    #[inline]
    fn convert(&self, value: V) -> (T, bool) {
        let (value, exact) = value.to_double();
        let quotient = (value - self.offset) / self.scale;
        let (element, fits) = T::nearest(quotient);
        // Unpacking rounds: the least and the greatest element may read as a value that is beyond them.
        let fits = fits | self.reads_back(element, value);
        let finite = quotient.is_finite() | !value.is_finite();
        (self.adjust(element, value), exact & fits & finite)
    }

    #[inline]
    fn is_nan(&self, value: V) -> bool {
        value.is_nan()
    }

    fn refusal(&self, value: V) -> String {
        if value.is_nan() {
            "it is not a number".into()
        } else if !value.to_double().1 {
            "it would be rounded".into()
        } else {
            let (first, last) = T::range();
            let (first, last) = (self.unpack(first), self.unpack(last));
            let (low, high) = (first.min(last), first.max(last));
            format!(
                "with scale_factor {:?} and add_offset {:?} it is outside of {low:?} to {high:?}",
                self.scale, self.offset
            )
        }
    }
}

fn outside<T: Stored>() -> String {
    let (low, high) = T::range();
    format!("it is outside of {low:?} to {high:?}")
}
