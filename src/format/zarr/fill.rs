//! Fill values: from their spellings in JSON to the bytes of one element.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use half::f16;

use super::dtype::DataType;
use super::json::Json;
use crate::array::AttributeValue;
use crate::array::dtype::ElementType;
use crate::array::number::{nearest_f16, nearest_f32};
use crate::error::{Error, Result};

/// The bytes of one element with the fill value `json`; empty stands for zero bytes.
///
/// The spellings of both versions are understood: numbers (also whole ones with a fraction of 0), `"NaN"`,
/// `"Infinity"`, `"-Infinity"`, the bits of a float as `"0x7fc00000"`, base64 for bytes, text, booleans. Null leaves
/// the value undefined; it is taken for zero, or for "not a time".
pub(super) fn fill_value(json: &Json, dtype: DataType) -> Result<Vec<u8>> {
    let wrong = || {
        Error::Corrupt(format!(
            "fill value {json} is none of data type {}",
            dtype.element.name()
        ))
    };
    if dtype.time.is_some() && (json.is_null() || json.text() == Some("NaT")) {
        return Ok(i64::MIN.to_le_bytes().to_vec());
    }
    if json.is_null() {
        return Ok(Vec::new());
    }
    let bytes = match dtype.element {
        ElementType::Bool => {
            let number = match json {
                Json::Bool(value) => Some((*value).into()),
                other => integer(other),
            };
            number
                .filter(|number| (0..=1).contains(number))
                .map(|number| vec![u8::from(number == 1)])
        }
        ElementType::Int8 => whole(json, i8::to_le_bytes),
        ElementType::Int16 => whole(json, i16::to_le_bytes),
        ElementType::Int32 => whole(json, i32::to_le_bytes),
        ElementType::Int64 => whole(json, i64::to_le_bytes),
        ElementType::UInt8 => whole(json, u8::to_le_bytes),
        ElementType::UInt16 => whole(json, u16::to_le_bytes),
        ElementType::UInt32 => whole(json, u32::to_le_bytes),
        ElementType::UInt64 => whole(json, u64::to_le_bytes),
        ElementType::Float16 => bits(json, u16::to_le_bytes)
            .or_else(|| Some(nearest_f16(float(json)?).to_le_bytes().into())),
        ElementType::Float32 => bits(json, u32::to_le_bytes)
            .or_else(|| Some(nearest_f32(float(json)?).to_le_bytes().into())),
        ElementType::Float64 => {
            bits(json, u64::to_le_bytes).or_else(|| Some(float(json)?.to_le_bytes().into()))
        }
        ElementType::Char => padded(letters(json), 1),
        ElementType::Bytes(length) => padded(letters(json), length as usize),
        ElementType::Utf32(length) => padded(code_points(json), length as usize * 4),
        // Zarr v2 wrote 0 where nobody had thought of a fill value; readers take it for its digits.
        ElementType::Text => json
            .text()
            .map(str::to_owned)
            .or_else(|| Some(json.integer()?.to_string()))
            .map(String::into_bytes),
    };
    bytes.ok_or_else(wrong)
}

/// The number that the bytes of an element are, as a value of an attribute.
pub(super) fn number(bytes: &[u8], element: ElementType) -> Option<AttributeValue> {
    let integer = |value: i128| AttributeValue::Integers {
        element,
        values: vec![value],
    };
    let float = |value: f64| AttributeValue::Floats {
        element,
        values: vec![value],
    };
    Some(match element {
        ElementType::Int8 => integer(i8::from_le_bytes(bytes.try_into().ok()?).into()),
        ElementType::Int16 => integer(i16::from_le_bytes(bytes.try_into().ok()?).into()),
        ElementType::Int32 => integer(i32::from_le_bytes(bytes.try_into().ok()?).into()),
        ElementType::Int64 => integer(i64::from_le_bytes(bytes.try_into().ok()?).into()),
        ElementType::UInt8 => integer(u8::from_le_bytes(bytes.try_into().ok()?).into()),
        ElementType::UInt16 => integer(u16::from_le_bytes(bytes.try_into().ok()?).into()),
        ElementType::UInt32 => integer(u32::from_le_bytes(bytes.try_into().ok()?).into()),
        ElementType::UInt64 => integer(u64::from_le_bytes(bytes.try_into().ok()?).into()),
        ElementType::Float16 => float(f16::from_le_bytes(bytes.try_into().ok()?).into()),
        ElementType::Float32 => float(f32::from_le_bytes(bytes.try_into().ok()?).into()),
        ElementType::Float64 => float(f64::from_le_bytes(bytes.try_into().ok()?)),
        ElementType::Bool
        | ElementType::Char
        | ElementType::Bytes(_)
        | ElementType::Utf32(_)
        | ElementType::Text => return None,
    })
}

/// The double that xarray writes as the base64 of its little-endian bytes, or JSON as the name of the number.
pub(super) fn coded_double(text: &str) -> Option<f64> {
    named(text).or_else(|| {
        let bytes = STANDARD.decode(text).ok()?;
        Some(f64::from_le_bytes(bytes.try_into().ok()?))
    })
}

fn named(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// An integer, which may be written with a fraction of 0.
fn integer(json: &Json) -> Option<i128> {
    if let Json::Float(number) = json {
        whole_float(*number)
    } else {
        json.integer()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "whole numbers of 64 bits"
)]
fn whole_float(number: f64) -> Option<i128> {
    (number.fract() == 0.0 && number.abs() <= u64::MAX as f64).then_some(number as i128)
}

fn whole<T: TryFrom<i128>, const N: usize>(
    json: &Json,
    bytes: fn(T) -> [u8; N],
) -> Option<Vec<u8>> {
    T::try_from(integer(json)?)
        .ok()
        .map(|number| bytes(number).into())
}

fn float(json: &Json) -> Option<f64> {
    json.float().or_else(|| coded_double(json.text()?))
}

/// `"0x…"`, the bits of a float from the highest to the lowest.
fn bits<T: TryFrom<u64>, const N: usize>(json: &Json, bytes: fn(T) -> [u8; N]) -> Option<Vec<u8>> {
    let digits = json.text()?.strip_prefix("0x")?;
    if digits.len() != N * 2 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let number = u64::from_str_radix(digits, 16).ok()?;
    T::try_from(number).ok().map(|number| bytes(number).into())
}

/// Bytes in base64, or 0 for none.
fn letters(json: &Json) -> Option<Vec<u8>> {
    if let Json::Text(text) = json {
        STANDARD.decode(text).ok()
    } else {
        (json.integer() == Some(0)).then(Vec::new)
    }
}

/// Text as UTF-32, or 0 for none.
fn code_points(json: &Json) -> Option<Vec<u8>> {
    if let Json::Text(text) = json {
        let points = text.chars().flat_map(|c| u32::from(c).to_le_bytes());
        Some(points.collect())
    } else {
        (json.integer() == Some(0)).then(Vec::new)
    }
}

/// Pads with zeros, unless that would be all there is: a data type may claim elements of gigabytes.
fn padded(bytes: Option<Vec<u8>>, length: usize) -> Option<Vec<u8>> {
    let mut bytes = bytes?;
    if bytes.len() > length {
        return None;
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return Some(Vec::new());
    }
    bytes.resize(length, 0);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn fill(json: &str, name: &str) -> Result<Vec<u8>> {
        let dtype = DataType::v2(name, 1).unwrap().0;
        fill_value(&Json::parse(json.as_bytes()).unwrap(), dtype)
    }

    #[test]
    fn floats() {
        let nan = f32::NAN.to_le_bytes();
        for json in ["NaN", "\"NaN\"", "\"0x7fc00000\"", "\"AAAAAAAA+H8=\""] {
            assert_eq!(fill(json, "<f4").unwrap(), nan, "{json}");
        }
        assert_eq!(
            fill("\"-Infinity\"", "<f8").unwrap(),
            f64::NEG_INFINITY.to_le_bytes()
        );
        assert_eq!(fill("1e20", ">f4").unwrap(), 1e20f32.to_le_bytes());
        assert_eq!(
            fill("-999", "<f2").unwrap(),
            f16::from_f32(-999.0).to_le_bytes()
        );
        assert_eq!(fill("null", "<f4").unwrap(), [0u8; 0]);
        for json in [
            "\"nan\"",
            "\"0x7fc0\"",
            "\"0x+fc00000\"",
            "true",
            "[1]",
            "{}",
        ] {
            assert!(fill(json, "<f4").is_err(), "{json}");
        }
    }

    #[test]
    fn integers() {
        assert_eq!(fill("-32768.0", "<i2").unwrap(), i16::MIN.to_le_bytes());
        assert_eq!(fill("18446744073709551615", "<u8").unwrap(), [255; 8]);
        assert_eq!(fill("null", "<M8[ns]").unwrap(), i64::MIN.to_le_bytes());
        assert_eq!(fill("\"NaT\"", "<m8[s]").unwrap(), i64::MIN.to_le_bytes());
        assert_eq!(fill("0", "<M8[ns]").unwrap(), [0; 8]);
        for (json, name) in [
            ("32768", "<i2"),
            ("0.5", "<i2"),
            ("-1", "|u1"),
            ("NaN", "<i4"),
            ("1e30", "<i8"),
            ("2", "|b1"),
        ] {
            assert!(fill(json, name).is_err(), "{json} {name}");
        }
    }

    #[test]
    fn text() {
        assert_eq!(fill("\"YWI=\"", "|S3").unwrap(), b"ab\0");
        assert_eq!(fill("\"\"", "|S3").unwrap(), b"");
        assert_eq!(fill("\"b\"", "<U2").unwrap(), b"b\0\0\0\0\0\0\0");
        assert_eq!(fill("\"none\"", "|O").unwrap(), b"none");
        assert_eq!(fill("0", "|O").unwrap(), b"0");
        assert_eq!(fill("true", "|b1").unwrap(), [1]);
        for (json, name) in [
            ("\"YWJjZA==\"", "|S3"),
            ("\"abc\"", "<U2"),
            ("\"?\"", "|S3"),
            ("[]", "|O"),
        ] {
            assert!(fill(json, name).is_err(), "{json} {name}");
        }
    }
}
