//! Texts: how they are stored, padded to the length of an element or as they are.

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::DataType;

use crate::array::dtype::ElementType;
use crate::cf::encode::cells::no_null;
use crate::cf::encode::{cast_exactly, not_storable};
use crate::error::{Error, Result};

/// The element that is stored for the text `fill`; `None` if it does not fit, so that nothing can equal it.
pub(super) fn fill(element: ElementType, fill: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match element {
        ElementType::Char => put_padded(fill, 1, &mut out).ok()?,
        ElementType::Bytes(length) => put_padded(fill, length as usize, &mut out).ok()?,
        ElementType::Utf32(length) => put_code_points(fill, length as usize, &mut out).ok()?,
        ElementType::Text => out.extend_from_slice(fill.as_bytes()),
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
        | ElementType::Float64 => return None,
    }
    Some(out)
}

/// Appends texts of `length` bytes each, padded with NUL. `missing` is the text that means NULL, `null` what is stored
/// for it.
pub(super) fn padded(
    column: &ArrayRef,
    length: usize,
    missing: Option<&str>,
    null: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let texts = texts(
        column,
        ElementType::Bytes(u32::try_from(length).unwrap_or(u32::MAX)),
    )?;
    each(&texts, missing, |text| match text {
        Some(text) => put_padded(text, length, out),
        None => put(null, out),
    })
}

/// Appends texts of `length` UTF-32 code points each, padded with NUL.
pub(super) fn code_points(
    column: &ArrayRef,
    length: usize,
    missing: Option<&str>,
    null: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let texts = texts(
        column,
        ElementType::Utf32(u32::try_from(length).unwrap_or(u32::MAX)),
    )?;
    each(&texts, missing, |text| match text {
        Some(text) => put_code_points(text, length, out),
        None => put(null, out),
    })
}

/// The texts with `null` for NULL.
pub(super) fn stored(
    column: &ArrayRef,
    missing: Option<&str>,
    null: Option<&[u8]>,
) -> Result<StringArray> {
    let texts = texts(column, ElementType::Text)?;
    let null = null.and_then(|null| std::str::from_utf8(null).ok());
    let mut stored = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
    each(&texts, missing, |text| {
        stored.append_value(text.or(null).ok_or_else(no_null)?);
        Ok(())
    })?;
    Ok(stored.finish())
}

fn texts(column: &ArrayRef, element: ElementType) -> Result<StringArray> {
    match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            Ok(cast_exactly(column, &DataType::Utf8)?
                .as_string::<i32>()
                .clone())
        }
        other => Err(not_storable(other, element)),
    }
}

fn each(
    texts: &StringArray,
    missing: Option<&str>,
    mut store: impl FnMut(Option<&str>) -> Result<()>,
) -> Result<()> {
    for text in texts {
        if text.is_some() && text == missing {
            return Err(Error::Invalid(format!(
                "text {:?} would read back as NULL: it is the fill value of the variable",
                text.unwrap_or_default()
            )));
        }
        store(text)?;
    }
    Ok(())
}

fn put(element: Option<&[u8]>, out: &mut Vec<u8>) -> Result<()> {
    out.extend_from_slice(element.ok_or_else(no_null)?);
    Ok(())
}

fn put_padded(text: &str, length: usize, out: &mut Vec<u8>) -> Result<()> {
    fits(text, text.len(), length, "bytes")?;
    out.extend_from_slice(text.as_bytes());
    out.resize(out.len() + (length - text.len()), 0);
    Ok(())
}

fn put_code_points(text: &str, length: usize, out: &mut Vec<u8>) -> Result<()> {
    let points = text.chars().count();
    fits(text, points, length, "characters")?;
    for point in text.chars() {
        out.extend_from_slice(&u32::from(point).to_ne_bytes());
    }
    out.resize(out.len() + (length - points) * 4, 0);
    Ok(())
}

fn fits(text: &str, has: usize, length: usize, what: &str) -> Result<()> {
    if has > length {
        return Err(Error::Invalid(format!(
            "text {text:?} has {has} {what}, and only {length} can be stored"
        )));
    }
    if text.ends_with('\0') {
        return Err(Error::Invalid(format!(
            "text {text:?} ends with NUL, which would be lost in the padding"
        )));
    }
    Ok(())
}
