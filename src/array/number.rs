//! Numbers as elements: the nearest floating-point number, and the element that an attribute means.

use half::f16;

use crate::array::AttributeValue;
use crate::array::dtype::ElementType;

/// The nearest single-precision number.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding is what is asked for"
)]
#[inline]
#[must_use]
pub fn nearest_f32(value: f64) -> f32 {
    value as f32
}

/// The nearest number of half precision.
///
/// Rounding to single precision first would make ties of what are none. If what was cut off there leaves an odd
/// last bit, it is none.
#[inline]
#[must_use]
pub fn nearest_f16(value: f64) -> f16 {
    let near = nearest_f32(value);
    let exact = f64::from(near);
    let odd = if near.to_bits() % 2 == 1 {
        near
    } else if exact < value {
        near.next_up()
    } else if exact > value {
        near.next_down()
    } else {
        near
    };
    f16::from_f32(odd)
}

/// The one number that an attribute holds, as an element; `None` where it holds none or several, or one that such elements
/// cannot be. Floating-point elements are the nearest ones.
#[must_use]
pub fn element(value: &AttributeValue, element: ElementType) -> Option<Vec<u8>> {
    match value {
        AttributeValue::Integers { values, .. } => match values.as_slice() {
            [value] => of_integer(*value, element),
            _ => None,
        },
        AttributeValue::Floats { values, .. } => match values.as_slice() {
            [value] => of_float(*value, element),
            _ => None,
        },
        AttributeValue::Text(_) | AttributeValue::Texts(_) | AttributeValue::Json(_) => None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "it is whole, and what is larger than any integer stays so"
)]
fn of_float(value: f64, element: ElementType) -> Option<Vec<u8>> {
    match element {
        ElementType::Float16 => Some(nearest_f16(value).to_le_bytes().into()),
        ElementType::Float32 => Some(nearest_f32(value).to_le_bytes().into()),
        ElementType::Float64 => Some(value.to_le_bytes().into()),
        // Infinity is its own whole part, NaN is not.
        _ if value.trunc() == value => of_integer(value as i128, element),
        _ => None,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the nearest number is what is asked for"
)]
fn of_integer(value: i128, element: ElementType) -> Option<Vec<u8>> {
    fn bytes<T: TryFrom<i128>, const N: usize>(
        value: i128,
        bytes: fn(T) -> [u8; N],
    ) -> Option<Vec<u8>> {
        T::try_from(value).ok().map(|value| bytes(value).into())
    }
    match element {
        ElementType::Int8 => bytes(value, i8::to_le_bytes),
        ElementType::Int16 => bytes(value, i16::to_le_bytes),
        ElementType::Int32 => bytes(value, i32::to_le_bytes),
        ElementType::Int64 => bytes(value, i64::to_le_bytes),
        ElementType::UInt8 => bytes(value, u8::to_le_bytes),
        ElementType::UInt16 => bytes(value, u16::to_le_bytes),
        ElementType::UInt32 => bytes(value, u32::to_le_bytes),
        ElementType::UInt64 => bytes(value, u64::to_le_bytes),
        ElementType::Bool => (0..=1).contains(&value).then(|| vec![u8::from(value == 1)]),
        ElementType::Float16 => Some(nearest_f16(value as f64).to_le_bytes().into()),
        ElementType::Float32 => Some((value as f32).to_le_bytes().into()),
        ElementType::Float64 => Some((value as f64).to_le_bytes().into()),
        ElementType::Char | ElementType::Bytes(_) | ElementType::Utf32(_) | ElementType::Text => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_rounded_once() {
        // numpy.float64(x).astype(numpy.float16).view("u2")
        for (value, bits) in [
            (1.0 + 2f64.powi(-11) + 2f64.powi(-30), 0x3c01),
            (1.0 + 2f64.powi(-11) - 2f64.powi(-30), 0x3c00),
            (1.0 + 2f64.powi(-11), 0x3c00),
            (1.0 + 3.0 * 2f64.powi(-11), 0x3c02),
            (-(1.0 + 2f64.powi(-11) + 2f64.powi(-40)), 0xbc01),
            (2049.0 + 2f64.powi(-30), 0x6801),
            (2049.0, 0x6800),
            (0.1, 0x2e66),
            (-999.0, 0xe3ce),
            (65519.9999999, 0x7bff),
            (65520.0, 0x7c00),
            (1e20, 0x7c00),
            (2f64.powi(-25), 0x0000),
            (2f64.powi(-25) + 2f64.powi(-60), 0x0001),
            (3.0 * 2f64.powi(-25) + 2f64.powi(-70), 0x0002),
            (f64::NEG_INFINITY, 0xfc00),
            (f64::NAN, 0x7e00),
        ] {
            assert_eq!(nearest_f16(value).to_bits(), bits, "{value:e}");
        }
    }

    #[test]
    fn attributes_are_elements_or_none() {
        let integer = |value| AttributeValue::Integers {
            element: ElementType::Int64,
            values: vec![value],
        };
        let float = |value| AttributeValue::Floats {
            element: ElementType::Float64,
            values: vec![value],
        };
        let bytes = |bytes: &[u8]| Some(bytes.to_vec());
        for (value, of, expected) in [
            (integer(-2), ElementType::Int16, bytes(&[0xfe, 0xff])),
            (integer(-2), ElementType::UInt16, None),
            (integer(300), ElementType::Int8, None),
            (integer(1), ElementType::Bool, bytes(&[1])),
            (integer(2), ElementType::Bool, None),
            (integer(3), ElementType::Float32, bytes(&[0, 0, 0x40, 0x40])),
            (float(3.0), ElementType::UInt8, bytes(&[3])),
            (float(3.5), ElementType::UInt8, None),
            (float(f64::NAN), ElementType::Int32, None),
            (float(f64::INFINITY), ElementType::Int64, None),
            (float(f64::NAN), ElementType::Float16, bytes(&[0, 0x7e])),
            (
                float(1e20),
                ElementType::Float32,
                bytes(&[0xec, 0x78, 0xad, 0x60]),
            ),
            (integer(1), ElementType::Utf32(2), None),
        ] {
            assert_eq!(element(&value, of), expected, "{value} as {}", of.name());
        }
    }
}
