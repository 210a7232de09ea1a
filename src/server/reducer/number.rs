//! The element types of requests, each with the arithmetic that its reductions need.

use half::f16;
use serde::Deserialize;
use serde_json::Number as Written;

/// Says `$body` with `$number` as the type of elements.
macro_rules! with_number {
    ($element:expr, $number:ident => $body:expr) => {{
        use crate::server::reducer::number::Element;
        macro_rules! with {
            ($type:ty) => {{
                type $number = $type;
                $body
            }};
        }
        match $element {
            Element::Int8 => with!(i8),
            Element::Int16 => with!(i16),
            Element::Int32 => with!(i32),
            Element::Int64 => with!(i64),
            Element::Uint8 => with!(u8),
            Element::Uint16 => with!(u16),
            Element::Uint32 => with!(u32),
            Element::Uint64 => with!(u64),
            Element::Float16 => with!(half::f16),
            Element::Float32 => with!(f32),
            Element::Float64 => with!(f64),
        }
    }};
}
pub(super) use with_number;

/// An element type, by its name in NumPy.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Element {
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Float16,
    Float32,
    Float64,
}

impl Element {
    /// Bytes of an element.
    pub(super) fn size(self) -> usize {
        with_number!(self, T => T::SIZE)
    }

    /// The name in NumPy.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Uint8 => "uint8",
            Self::Uint16 => "uint16",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Float16 => "float16",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
        }
    }
}

/// An element of an array.
pub(super) trait Number: Copy + PartialOrd + std::fmt::Display {
    /// Bytes of an element.
    const SIZE: usize;
    /// What a minimum of no elements is: nothing is greater.
    const TOP: Self;
    /// What a maximum of no elements is: nothing is less.
    const BOTTOM: Self;
    /// What elements are added up in: wide enough for any number of integers; double precision for floats.
    type Sum: Copy + Default + std::fmt::Display;

    /// The element in the first bytes, which have the byte order of this machine; zero if there are too few.
    fn read(bytes: &[u8]) -> Self;

    /// Appends the bytes of the element in the byte order of this machine.
    fn write(self, bytes: &mut Vec<u8>);

    /// The sum with one more element.
    fn plus(self, sum: Self::Sum) -> Self::Sum;

    /// A sum as an element: floats are rounded, an integer that is out of range is none.
    fn of_sum(sum: Self::Sum) -> Option<Self>;

    /// A number of a request as an element, if it is one: integers have to be written as integers, floats are rounded.
    fn of_written(written: &Written) -> Option<Self>;

    /// Whether the element is not a number.
    fn is_nan(self) -> bool;
}

macro_rules! integer {
    ($($number:ty),*) => {$(
        impl Number for $number {
            const SIZE: usize = size_of::<Self>();
            const TOP: Self = Self::MAX;
            const BOTTOM: Self = Self::MIN;
            type Sum = i128;

            #[inline]
            fn read(bytes: &[u8]) -> Self {
                bytes.first_chunk().map_or(0, |bytes| Self::from_ne_bytes(*bytes))
            }

            #[inline]
            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_ne_bytes());
            }

            #[inline]
            fn plus(self, sum: i128) -> i128 {
                // 2^63 elements of 64 bits do not overflow.
                sum.wrapping_add(i128::from(self))
            }

            fn of_sum(sum: i128) -> Option<Self> {
                sum.try_into().ok()
            }

            fn of_written(written: &Written) -> Option<Self> {
                match (written.as_i64(), written.as_u64()) {
                    (Some(value), _) => value.try_into().ok(),
                    (None, Some(value)) => value.try_into().ok(),
                    (None, None) => None,
                }
            }

            #[inline]
            fn is_nan(self) -> bool {
                false
            }
        }
    )*};
}

integer!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! float {
    ($($number:ty, $rounded:expr;)*) => {$(
        impl Number for $number {
            const SIZE: usize = size_of::<Self>();
            const TOP: Self = Self::INFINITY;
            const BOTTOM: Self = Self::NEG_INFINITY;
            type Sum = f64;

            #[inline]
            fn read(bytes: &[u8]) -> Self {
                bytes.first_chunk().map_or(Self::from_ne_bytes([0; _]), |bytes| Self::from_ne_bytes(*bytes))
            }

            #[inline]
            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_ne_bytes());
            }

            #[inline]
            fn plus(self, sum: f64) -> f64 {
                sum + f64::from(self)
            }

            fn of_sum(sum: f64) -> Option<Self> {
                Some($rounded(sum))
            }

            fn of_written(written: &Written) -> Option<Self> {
                let rounded: Self = $rounded(written.as_f64()?);
                rounded.is_finite().then_some(rounded)
            }

            #[inline]
            fn is_nan(self) -> bool {
                self.is_nan()
            }
        }
    )*};
}

float! {
    f16, f16::from_f64;
    f32, single;
    f64, f64::from;
}

#[expect(clippy::cast_possible_truncation, reason = "it is rounded")]
fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Written {
        serde_json::from_str(text).unwrap_or_else(|_| Written::from(0))
    }

    #[test]
    fn numbers_of_requests_are_elements_or_nothing() {
        assert_eq!(i8::of_written(&written("-128")), Some(-128));
        assert_eq!(i8::of_written(&written("128")), None);
        assert_eq!(u8::of_written(&written("-1")), None);
        assert_eq!(i32::of_written(&written("1.0")), None);
        assert_eq!(
            u64::of_written(&written("18446744073709551615")),
            Some(u64::MAX)
        );
        assert_eq!(i64::of_written(&written("18446744073709551615")), None);
        assert_eq!(f32::of_written(&written("1e39")), None);
        assert_eq!(f32::of_written(&written("0.1")), Some(0.1));
        assert_eq!(f16::of_written(&written("70000")), None);
        assert_eq!(f64::of_written(&written("7")), Some(7.0));
    }

    #[test]
    fn a_sum_is_rounded_once_or_refused() {
        let sum = (0..1_000_000).fold(0.0, |sum, _| 0.1f32.plus(sum));
        assert_eq!(f32::of_sum(sum), Some(100_000.0));
        let sum = (0..4).fold(0, |sum, _| i32::MAX.plus(sum));
        assert_eq!(i32::of_sum(sum), None);
        assert_eq!(i32::of_sum(i128::from(i32::MIN)), Some(i32::MIN));
        assert_eq!(f16::of_sum(1e6), Some(f16::INFINITY));
    }
}
