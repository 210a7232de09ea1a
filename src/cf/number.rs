//! Stored numbers: what decoding needs to know of a numeric type, and how attributes compare with it.

use arrow::datatypes::{
    ArrowNativeType, ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use crate::array::dtype::ElementType;
use crate::array::number::nearest_f32;
use crate::array::{AttributeValue, Attributes};
use crate::cf::time::Count;

/// A number in an attribute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar {
    /// An integer of a type of `size` bytes.
    Integer { value: i128, size: Option<usize> },
    /// A floating-point number.
    Float(f64),
}

impl Scalar {
    pub(crate) fn to_f64(self) -> f64 {
        match self {
            #[expect(
                clippy::cast_precision_loss,
                reason = "the nearest double is what a floating-point comparison means"
            )]
            Self::Integer { value, .. } => value as f64,
            Self::Float(value) => value,
        }
    }
}

/// The numbers of an attribute; numeric text counts as a number, anything else as no attribute.
pub(crate) fn scalars(attributes: &Attributes, name: &str) -> Option<Vec<Scalar>> {
    let scalars: Vec<Scalar> = match attributes.get(name)? {
        AttributeValue::Integers { element, values } => values
            .iter()
            .map(|value| Scalar::Integer {
                value: *value,
                size: element.size(),
            })
            .collect(),
        AttributeValue::Floats { values, .. } => {
            values.iter().copied().map(Scalar::Float).collect()
        }
        AttributeValue::Text(_) | AttributeValue::Texts(_) => {
            vec![Scalar::Float(attributes.text(name)?.trim().parse().ok()?)]
        }
        AttributeValue::Json(_) => return None,
    };
    (!scalars.is_empty()).then_some(scalars)
}

/// A native type of stored numbers.
pub(crate) trait Number: ArrowNativeType + PartialOrd {
    /// The Arrow type with these values.
    type Arrow: ArrowPrimitiveType<Native = Self>;

    fn is_nan(self) -> bool;
    fn to_f64(self) -> f64;
    fn to_count(self) -> Count;
    fn to_bits(self) -> u64;
    fn from_bits(bits: u64) -> Self;

    /// The stored number that an attribute means; `None` if no stored number equals it.
    fn equal_to(scalar: Scalar) -> Option<Self>;

    /// The stored numbers from `low` to `high` as a range of stored numbers; no number is in it if `first > last`.
    fn between(low: Option<Scalar>, high: Option<Scalar>) -> (Self, Self);
}

macro_rules! integer {
    ($native:ty, $arrow:ty) => {
        impl Number for $native {
            type Arrow = $arrow;

            fn is_nan(self) -> bool {
                false
            }

            #[allow(
                clippy::cast_lossless,
                clippy::cast_precision_loss,
                reason = "doubles are what packed numbers are computed in; one body for all widths"
            )]
            fn to_f64(self) -> f64 {
                self as f64
            }

            fn to_count(self) -> Count {
                Count::Integer(self.into())
            }

            #[allow(
                clippy::cast_sign_loss,
                clippy::cast_lossless,
                reason = "the bits, back and forth"
            )]
            fn to_bits(self) -> u64 {
                self as u64
            }

            fn from_bits(bits: u64) -> Self {
                wrap(bits.into())
            }

            fn equal_to(scalar: Scalar) -> Option<Self> {
                match scalar {
                    Scalar::Integer { value, size } => Self::try_from(value).ok().or_else(|| {
                        // The same bits with the other signedness: `_FillValue = -1b` of an unsigned byte.
                        (size == Some(size_of::<Self>())).then(|| wrap(value))
                    }),
                    Scalar::Float(value) => float_to_integer(value)
                        .filter(|_| value.fract() == 0.0)
                        .and_then(|value| Self::try_from(value).ok()),
                }
            }

            fn between(low: Option<Scalar>, high: Option<Scalar>) -> (Self, Self) {
                let bound = |scalar: Scalar, round: fn(f64) -> f64| match scalar {
                    Scalar::Integer { value, size } if size == Some(size_of::<Self>()) => {
                        let same_width: Self = wrap(value);
                        Some(i128::from(same_width))
                    }
                    Scalar::Integer { value, .. } => Some(value),
                    Scalar::Float(value) => float_to_integer(round(value)),
                };
                let low = low.and_then(|low| bound(low, f64::ceil));
                let high = high.and_then(|high| bound(high, f64::floor));
                let (first, last) = (i128::from(Self::MIN), i128::from(Self::MAX));
                let (low, high) = (low.unwrap_or(first), high.unwrap_or(last));
                match (
                    Self::try_from(low.max(first)),
                    Self::try_from(high.min(last)),
                ) {
                    (Ok(low), Ok(high)) => (low, high),
                    // One bound is beyond the type on the wrong side.
                    _ => (Self::MAX, Self::MIN),
                }
            }
        }

        impl Wrap for $native {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the low bits are what is asked for"
            )]
            fn wrap(value: i128) -> Self {
                value as Self
            }
        }
    };
}

/// The low bits of an integer as a number of another type.
trait Wrap {
    fn wrap(value: i128) -> Self;
}

fn wrap<T: Wrap>(value: i128) -> T {
    T::wrap(value)
}

/// The integer part, limited to the range of the type; `None` for NaN.
fn float_to_integer(value: f64) -> Option<i128> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "callers round first, and the cast saturates"
    )]
    (!value.is_nan()).then_some(value as i128)
}

integer!(i8, Int8Type);
integer!(i16, Int16Type);
integer!(i32, Int32Type);
integer!(i64, Int64Type);
integer!(u8, UInt8Type);
integer!(u16, UInt16Type);
integer!(u32, UInt32Type);
integer!(u64, UInt64Type);

impl Number for f32 {
    type Arrow = Float32Type;

    fn is_nan(self) -> bool {
        self.is_nan()
    }

    fn to_f64(self) -> f64 {
        self.into()
    }

    fn to_count(self) -> Count {
        Count::Float(self.into())
    }

    fn to_bits(self) -> u64 {
        self.to_bits().into()
    }

    fn from_bits(bits: u64) -> Self {
        Self::from_bits(wrap(bits.into()))
    }

    fn equal_to(scalar: Scalar) -> Option<Self> {
        Some(nearest_f32(scalar.to_f64()))
    }

    fn between(low: Option<Scalar>, high: Option<Scalar>) -> (Self, Self) {
        let (low, high) = f64::between(low, high);
        let (first, last) = (nearest_f32(low), nearest_f32(high));
        (
            if f64::from(first) < low {
                first.next_up()
            } else {
                first
            },
            if f64::from(last) > high {
                last.next_down()
            } else {
                last
            },
        )
    }
}

impl Number for f64 {
    type Arrow = Float64Type;

    fn is_nan(self) -> bool {
        self.is_nan()
    }

    fn to_f64(self) -> f64 {
        self
    }

    fn to_count(self) -> Count {
        Count::Float(self)
    }

    fn to_bits(self) -> u64 {
        self.to_bits()
    }

    fn from_bits(bits: u64) -> Self {
        Self::from_bits(bits)
    }

    fn equal_to(scalar: Scalar) -> Option<Self> {
        Some(scalar.to_f64())
    }

    fn between(low: Option<Scalar>, high: Option<Scalar>) -> (Self, Self) {
        let bound =
            |scalar: Option<Scalar>| scalar.map(Scalar::to_f64).filter(|bound| !bound.is_nan());
        (
            bound(low).unwrap_or(Self::NEG_INFINITY),
            bound(high).unwrap_or(Self::INFINITY),
        )
    }
}

/// Runs `$body` with `$native` standing for the native type of a numeric element type, else `$other`. Half precision
/// is single precision here: it is widened before.
macro_rules! with_number {
    ($element:expr, $native:ident => $body:expr, else $other:expr) => {{
        use $crate::array::dtype::ElementType;
        macro_rules! with {
            ($actual:ty) => {{
                type $native = $actual;
                $body
            }};
        }
        match $element {
            ElementType::Int8 => with!(i8),
            ElementType::Int16 => with!(i16),
            ElementType::Int32 => with!(i32),
            ElementType::Int64 => with!(i64),
            ElementType::UInt8 => with!(u8),
            ElementType::UInt16 => with!(u16),
            ElementType::UInt32 => with!(u32),
            ElementType::UInt64 => with!(u64),
            ElementType::Float16 | ElementType::Float32 => with!(f32),
            ElementType::Float64 => with!(f64),
            ElementType::Bool
            | ElementType::Char
            | ElementType::Bytes(_)
            | ElementType::Utf32(_)
            | ElementType::Text => $other,
        }
    }};
}
pub(crate) use with_number;

/// The element type that an `_Unsigned` attribute makes of an integer type.
pub(crate) fn reinterpreted(element: ElementType, attributes: &Attributes) -> ElementType {
    let Some(text) = attributes.text("_Unsigned") else {
        return element;
    };
    let (unsigned, signed) = (
        text.trim().eq_ignore_ascii_case("true"),
        text.trim().eq_ignore_ascii_case("false"),
    );
    match element {
        ElementType::Int8 if unsigned => ElementType::UInt8,
        ElementType::Int16 if unsigned => ElementType::UInt16,
        ElementType::Int32 if unsigned => ElementType::UInt32,
        ElementType::Int64 if unsigned => ElementType::UInt64,
        ElementType::UInt8 if signed => ElementType::Int8,
        ElementType::UInt16 if signed => ElementType::Int16,
        ElementType::UInt32 if signed => ElementType::Int32,
        ElementType::UInt64 if signed => ElementType::Int64,
        ElementType::Bool
        | ElementType::Int8
        | ElementType::Int16
        | ElementType::Int32
        | ElementType::Int64
        | ElementType::UInt8
        | ElementType::UInt16
        | ElementType::UInt32
        | ElementType::UInt64
        | ElementType::Float16
        | ElementType::Float32
        | ElementType::Float64
        | ElementType::Char
        | ElementType::Bytes(_)
        | ElementType::Utf32(_)
        | ElementType::Text => element,
    }
}
