//! Stored types: how a value becomes the nearest element of a numeric type, and whether it is still the same value.

use std::fmt::Debug;

use arrow::datatypes::{
    ArrowNativeType, ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use half::f16;

use crate::array::number::{nearest_f16, nearest_f32};
use crate::cf::number::Number;

/// A native type of stored elements, half precision included.
///
/// Conversions give an element in any case, and beside it whether that is what was asked for: loops over cells then
/// have no branch.
pub(super) trait Stored: ArrowNativeType + Default {
    /// The Arrow type with these values.
    type Arrow: ArrowPrimitiveType<Native = Self>;
    /// What decoding takes the elements for.
    type Number: Number;

    /// Whether the elements are integers.
    const INTEGER: bool;

    /// The element as decoding sees it.
    fn number(self) -> Self::Number;

    /// The element that decoding sees as `number`.
    fn from_number(number: Self::Number) -> Self;

    /// The element whose bytes these are.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;

    /// The element that holds `value`: integers exactly, floating-point numbers rounded, but not to infinity.
    fn from_float(value: f64) -> (Self, bool);

    /// The element that holds `value` exactly.
    fn from_integer(value: i128) -> (Self, bool);

    /// The element nearest to `value`, ties to even, if there is one in range.
    fn nearest(value: f64) -> (Self, bool);

    /// The elements beside this one, if rounding can have missed one of them.
    fn neighbours(self) -> [Self; 2];

    /// The numbers that elements can be; infinities left out.
    fn range() -> (Self, Self);
}

/// A value of a column that may be stored as a number.
pub(super) trait Value: Copy + Debug {
    fn is_nan(self) -> bool;

    /// The nearest double, and whether it is the value.
    fn to_double(self) -> (f64, bool);

    /// See [`Stored::from_float`] and [`Stored::from_integer`].
    fn store<T: Stored>(self) -> (T, bool);
}

macro_rules! stored_integer {
    ($native:ty, $arrow:ty, $round:expr) => {
        impl Stored for $native {
            type Arrow = $arrow;
            type Number = Self;

            const INTEGER: bool = true;

            #[inline]
            fn number(self) -> Self {
                self
            }

            fn from_number(number: Self) -> Self {
                number
            }

            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::from_ne_bytes)
            }

            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_lossless,
                clippy::cast_precision_loss,
                clippy::float_cmp,
                reason = "the cast saturates, and what it changed is seen by casting back"
            )]
            #[inline]
            fn from_float(value: f64) -> (Self, bool) {
                let element = value as Self;
                // The largest 64-bit integers are no doubles: they are rounded to the limit here, where saturation
                // would hide that it is one.
                let fits = (value < Self::MAX as f64 + 1.0) & (element as f64 == value);
                (element, fits)
            }

            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "what the cast changed is seen by casting back"
            )]
            #[inline]
            fn from_integer(value: i128) -> (Self, bool) {
                let element = value as Self;
                (element, i128::from(element) == value)
            }

            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_lossless,
                clippy::cast_precision_loss,
                reason = "whole numbers, saturated where they do not fit"
            )]
            #[inline]
            fn nearest(value: f64) -> (Self, bool) {
                let round: fn(f64) -> f64 = $round;
                let whole = round(value);
                let fits = (whole >= Self::MIN as f64) & (whole < Self::MAX as f64 + 1.0);
                (whole as Self, fits)
            }

            #[inline]
            fn neighbours(self) -> [Self; 2] {
                [self; 2]
            }

            fn range() -> (Self, Self) {
                (Self::MIN, Self::MAX)
            }
        }
    };
}

stored_integer!(i8, Int8Type, round_small);
stored_integer!(i16, Int16Type, round_small);
stored_integer!(i32, Int32Type, round_small);
stored_integer!(i64, Int64Type, f64::round_ties_even);
stored_integer!(u8, UInt8Type, round_small);
stored_integer!(u16, UInt16Type, round_small);
stored_integer!(u32, UInt32Type, round_small);
stored_integer!(u64, UInt64Type, f64::round_ties_even);

/// The nearest integer, ties to even, of numbers below 2^51; larger ones stay larger than any integer of 32 bits.
///
/// The sum has no bits left for a fraction. The function of the library is a call on processors of the oldest kind, and
/// a call keeps a loop from being vectorised.
#[inline]
fn round_small(value: f64) -> f64 {
    const NO_FRACTION: f64 = 6_755_399_441_055_744.0;
    (value + NO_FRACTION) - NO_FRACTION
}

macro_rules! stored_float {
    ($native:ty, $arrow:ty, $number:ty, $bits:expr, $rounded:expr, $narrow:expr, $beside:expr) => {
        impl Stored for $native {
            type Arrow = $arrow;
            type Number = $number;

            const INTEGER: bool = false;

            #[inline]
            fn number(self) -> $number {
                self.into()
            }

            fn from_number(number: $number) -> Self {
                let narrow: fn($number) -> Self = $narrow;
                narrow(number)
            }

            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::from_ne_bytes)
            }

            #[inline]
            fn from_float(value: f64) -> (Self, bool) {
                let rounded: fn(f64) -> Self = $rounded;
                let element = rounded(value);
                (element, element.is_finite() | !value.is_finite())
            }

            #[inline]
            fn from_integer(value: i128) -> (Self, bool) {
                #[expect(clippy::cast_precision_loss, reason = "seen by the number of bits")]
                let (element, fits) = Self::from_float(value as f64);
                let size = value.unsigned_abs();
                let bits = u128::BITS - size.leading_zeros() - size.trailing_zeros().min(127);
                (element, fits & (value == 0 || bits <= $bits))
            }

            #[inline]
            fn nearest(value: f64) -> (Self, bool) {
                Self::from_float(value)
            }

            #[inline]
            fn neighbours(self) -> [Self; 2] {
                let beside: fn(Self) -> [Self; 2] = $beside;
                beside(self)
            }

            fn range() -> (Self, Self) {
                (Self::MIN, Self::MAX)
            }
        }
    };
}

// Nobody packs into half precision.
stored_float!(
    f16,
    Float16Type,
    f32,
    11,
    nearest_f16,
    f16::from_f32,
    |v| [v; 2]
);
stored_float!(f32, Float32Type, f32, 24, nearest_f32, |v| v, |v| [
    v.next_down(),
    v.next_up()
]);
stored_float!(f64, Float64Type, f64, 53, |v| v, |v| v, |v| [
    v.next_down(),
    v.next_up()
]);

macro_rules! float_value {
    ($native:ty) => {
        impl Value for $native {
            #[inline]
            fn is_nan(self) -> bool {
                self.is_nan()
            }

            #[inline]
            fn to_double(self) -> (f64, bool) {
                (self.into(), true)
            }

            #[inline]
            fn store<T: Stored>(self) -> (T, bool) {
                T::from_float(self.into())
            }
        }
    };
}

float_value!(f32);
float_value!(f64);

macro_rules! integer_value {
    ($native:ty) => {
        impl Value for $native {
            #[inline]
            fn is_nan(self) -> bool {
                false
            }

            #[inline]
            fn to_double(self) -> (f64, bool) {
                f64::from_integer(self.into())
            }

            #[inline]
            fn store<T: Stored>(self) -> (T, bool) {
                T::from_integer(self.into())
            }
        }
    };
}

integer_value!(i64);
integer_value!(u64);
