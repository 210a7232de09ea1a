//! The header of a netCDF-3 file: dimensions, attributes, and where variables begin.
//!
//! ```text
//! "CDF" variant · number of records · dimensions · attributes · variables
//! ```

use std::collections::HashSet;

use super::bytes::{Reader, Variant};
use crate::array::dtype::ElementType;
use crate::array::{AttributeValue, Attributes};
use crate::error::{Error, Result, Within};

const DIMENSIONS: u32 = 0x0A;
const VARIABLES: u32 = 0x0B;
const ATTRIBUTES: u32 = 0x0C;

/// A header as it stands in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) variant: Variant,
    /// Number of records; `None` when it was not known when the header was written.
    pub(super) records: Option<u64>,
    /// Names and lengths; the record dimension has length 0.
    pub(super) dimensions: Vec<(String, u64)>,
    pub(super) attributes: Attributes,
    pub(super) variables: Vec<Declared>,
    /// Bytes of the header.
    pub(super) length: u64,
}

/// A variable as the header declares it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Declared {
    pub(super) name: String,
    /// Its dimensions, by their place in the header.
    pub(super) dimensions: Vec<usize>,
    pub(super) attributes: Attributes,
    pub(super) element: ElementType,
    /// Bytes of an element.
    pub(super) width: u32,
    /// Its first byte in the file.
    pub(super) begin: u64,
}

/// Why a header could not be parsed.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is more of it than the bytes at hand.
    Short(Error),
    /// More bytes do not help.
    Damaged(Error),
}

impl Header {
    /// Parses the first bytes of a file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let Some(variant) = Variant::of(bytes) else {
            return Err(Failure::Damaged(Error::Corrupt(
                "it does not begin as a netCDF-3 file does".into(),
            )));
        };
        let mut reader = Reader::new(bytes, variant);
        let parsed = header(&mut reader);
        parsed.map_err(|error| {
            if reader.has_ended() {
                Failure::Short(error)
            } else {
                Failure::Damaged(error)
            }
        })
    }

    /// The place of the record dimension.
    pub(super) fn record_dimension(&self) -> Option<usize> {
        self.dimensions.iter().position(|(_, length)| *length == 0)
    }
}

fn header(reader: &mut Reader<'_>) -> Result<Header> {
    let streaming = match reader.variant().count_width() {
        4 => u64::from(u32::MAX),
        _ => u64::MAX,
    };
    let records = reader.length()?;
    let width = reader.variant().count_width();
    let count = list(reader, DIMENSIONS, "dimensions", 2 * width)?;
    let mut dimensions = Vec::with_capacity(count);
    for _ in 0..count {
        dimensions.push((reader.name()?, reader.length()?));
    }
    check_dimensions(&dimensions)?;
    let global = attributes(reader)?;
    let count = list(reader, VARIABLES, "variables", 2 * width)?;
    let mut variables: Vec<Declared> = Vec::with_capacity(count);
    let mut names = HashSet::new();
    for _ in 0..count {
        let name = reader.name()?;
        let declared =
            variable(reader, &dimensions, name.clone()).within(|| format!("variable {name}"))?;
        if !names.insert(name) {
            return Err(damaged(&format!(
                "two variables are called {}",
                declared.name
            )));
        }
        variables.push(declared);
    }
    Ok(Header {
        variant: reader.variant(),
        records: (records != streaming).then_some(records),
        dimensions,
        attributes: global,
        variables,
        length: reader.place() as u64,
    })
}

fn check_dimensions(dimensions: &[(String, u64)]) -> Result<()> {
    let mut names = HashSet::new();
    if let Some((twice, _)) = dimensions.iter().find(|(name, _)| !names.insert(name)) {
        return Err(damaged(&format!("two dimensions are called {twice}")));
    }
    let mut records = dimensions.iter().filter(|(_, length)| *length == 0);
    if let (Some((one, _)), Some((other, _))) = (records.next(), records.next()) {
        return Err(damaged(&format!(
            "{one} and {other} are both the dimension of records"
        )));
    }
    Ok(())
}

fn variable(
    reader: &mut Reader<'_>,
    dimensions: &[(String, u64)],
    name: String,
) -> Result<Declared> {
    let width = reader.variant().count_width();
    let rank = reader.count(width)?;
    let mut of = Vec::with_capacity(rank);
    for at in 0..rank {
        let number = reader.length()?;
        let place = usize::try_from(number).ok();
        let Some((place, (dimension, length))) =
            place.and_then(|place| Some((place, dimensions.get(place)?)))
        else {
            return Err(damaged(&format!(
                "it has dimension {number} of {}",
                dimensions.len()
            )));
        };
        if at > 0 && *length == 0 {
            return Err(damaged(&format!(
                "{dimension}, the dimension of records, is not its first one"
            )));
        }
        of.push(place);
    }
    let attributes = attributes(reader)?;
    let (element, width) = element(reader)?;
    // What it says of its size follows from its dimensions, and was written wrong by several programs.
    reader.length()?;
    Ok(Declared {
        name,
        dimensions: of,
        attributes,
        element,
        width,
        begin: reader.offset()?,
    })
}

/// The number of entries of a list; each takes at least `least` bytes.
fn list(reader: &mut Reader<'_>, tag: u32, what: &str, least: usize) -> Result<usize> {
    let found = reader.u32()?;
    if found == tag {
        return reader.count(least);
    }
    match (found, reader.length()?) {
        (0, 0) => Ok(0),
        _ => Err(damaged(&format!(
            "its list of {what} has the tag {found:#x}"
        ))),
    }
}

fn attributes(reader: &mut Reader<'_>) -> Result<Attributes> {
    let least = 2 * reader.variant().count_width() + 4;
    let count = list(reader, ATTRIBUTES, "attributes", least)?;
    let mut attributes = Vec::with_capacity(count);
    for _ in 0..count {
        let name = reader.name()?;
        let value = attribute(reader).within(|| format!("attribute {name}"))?;
        attributes.push((name, value));
    }
    Ok(Attributes(attributes))
}

fn attribute(reader: &mut Reader<'_>) -> Result<AttributeValue> {
    let (element, width) = element(reader)?;
    let count = reader.count(width as usize)?;
    let bytes = reader.padded(count * width as usize)?;
    Ok(match element {
        ElementType::Char => {
            // Texts of C end with a NUL, which some programs store.
            let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            AttributeValue::Text(String::from_utf8_lossy(text).into_owned())
        }
        element if element.is_float() => AttributeValue::Floats {
            element,
            values: words(bytes, width)
                .map(|bits| match u32::try_from(bits) {
                    Ok(single) if width == 4 => f32::from_bits(single).into(),
                    _ => f64::from_bits(bits),
                })
                .collect(),
        },
        element => {
            let unused = 64 - 8 * width;
            let signed = matches!(
                element,
                ElementType::Int8 | ElementType::Int16 | ElementType::Int32 | ElementType::Int64
            );
            AttributeValue::Integers {
                element,
                values: words(bytes, width)
                    .map(|bits| {
                        if signed {
                            i128::from((bits << unused).cast_signed() >> unused)
                        } else {
                            i128::from(bits)
                        }
                    })
                    .collect(),
            }
        }
    })
}

/// Big-endian numbers of `width` bytes.
fn words(bytes: &[u8], width: u32) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(width.max(1) as usize).map(|element| {
        element
            .iter()
            .fold(0, |value, byte| (value << 8) | u64::from(*byte))
    })
}

/// An element type and the bytes of an element.
fn element(reader: &mut Reader<'_>) -> Result<(ElementType, u32)> {
    let number = reader.u32()?;
    let element = match number {
        1 => ElementType::Int8,
        2 => ElementType::Char,
        3 => ElementType::Int16,
        4 => ElementType::Int32,
        5 => ElementType::Float32,
        6 => ElementType::Float64,
        _ if reader.variant() != Variant::Data64 => return Err(unknown(number)),
        7 => ElementType::UInt8,
        8 => ElementType::UInt16,
        9 => ElementType::UInt32,
        10 => ElementType::Int64,
        11 => ElementType::UInt64,
        _ => return Err(unknown(number)),
    };
    let width = element.size().and_then(|size| u32::try_from(size).ok());
    Ok((element, width.unwrap_or(1)))
}

fn unknown(number: u32) -> Error {
    damaged(&format!("there is no element type {number}"))
}

fn damaged(how: &str) -> Error {
    Error::Corrupt(format!("the header is damaged: {how}"))
}
