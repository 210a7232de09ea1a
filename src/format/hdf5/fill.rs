//! Fill values: what cells hold that were never written.

use crate::error::{Error, Result};
use crate::format::hdf5::attributes::text;
use crate::format::hdf5::bytes::Reader;
use crate::format::hdf5::dataset::{TextForm, unsupported};
use crate::format::hdf5::header::{Header, kind};
use crate::format::hdf5::storage::File;
use crate::format::hdf5::types::{Class, Datatype, Padding};

/// The fill value that the writer of a dataset chose, one element as in a decoded chunk, empty when it is zero bytes;
/// `None` when the writer left it to HDF5, where it is zero bytes too.
///
/// # Errors
/// `Corrupt` when it does not fit the datatype, `Unsupported` when it cannot be said in one element.
pub(super) fn fill_value(
    file: &File,
    header: &Header,
    datatype: &Datatype,
    form: Option<TextForm>,
) -> Result<Option<Vec<u8>>> {
    let stored = match header.body(file, kind::FILL)? {
        Some(body) => from_message(&body)?,
        None => match header.body(file, kind::FILL_OLD)? {
            Some(body) => value(&mut Reader::new(&body, "fill value"))?,
            None => None,
        },
    };
    let Some(stored) = stored else {
        return Ok(None);
    };
    if stored.iter().all(|byte| *byte == 0) {
        return Ok(Some(Vec::new()));
    }
    let width = usize::try_from(datatype.size).unwrap_or(usize::MAX);
    let mut cells = stored.chunks_exact(width.max(1));
    let mut one = cells.next().unwrap_or_default().to_vec();
    if one.is_empty() || !cells.remainder().is_empty() {
        return Err(Error::Corrupt(format!(
            "its fill value is damaged: it has {} bytes",
            stored.len()
        )));
    }
    if cells.any(|other| other != one) {
        return Err(unsupported("a fill value that differs within an element"));
    }
    match form {
        Some(TextForm::Heap) => return text(file, &one).map(Some),
        Some(TextForm::SpacePadded) => return Ok(Some(Padding::Space.trim(&one).to_vec())),
        None => {}
    }
    if let Class::Number {
        big_endian: true, ..
    } = datatype.class
    {
        one.reverse();
    }
    Ok(Some(one))
}

fn from_message(body: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut reader = Reader::new(body, "fill value");
    let defined = match reader.u8()? {
        1 | 2 => {
            reader.skip(2)?;
            reader.u8()? != 0
        }
        3 => reader.u8()? & 0x20 != 0,
        version => return Err(unsupported(&format!("fill value version {version}"))),
    };
    if defined {
        value(&mut reader)
    } else {
        Ok(None)
    }
}

fn value(reader: &mut Reader<'_>) -> Result<Option<Vec<u8>>> {
    // Lengths of 0 and below say that there is none.
    match usize::try_from(reader.u32()?.cast_signed()) {
        Ok(length @ 1..) => reader.take(length).map(|value| Some(value.to_vec())),
        _ => Ok(None),
    }
}
