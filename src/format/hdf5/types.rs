//! Datatypes and dataspaces: what the elements of an array are, and how many there are.

use crate::array::dtype::ElementType;
use crate::error::{Error, Result};
use crate::format::hdf5::bytes::Reader;
use crate::format::hdf5::storage::File;

/// Types are nested at most this deep.
const DEPTH: usize = 16;

/// A datatype, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Datatype {
    /// Bytes of one element in the file.
    pub(super) size: u32,
    pub(super) class: Class,
}

/// What the elements of a datatype are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Numbers, and enumerations of them.
    Number {
        element: ElementType,
        big_endian: bool,
    },
    /// Text of a fixed number of bytes.
    FixedText(Padding),
    /// Text of any length, in the global heap.
    Text,
    /// Addresses of objects.
    Reference,
    /// Lists of any length, in the global heap.
    List(Box<Datatype>),
    /// Small arrays of a fixed shape.
    Array {
        base: Box<Datatype>,
        shape: Vec<u64>,
    },
    /// Anything else, by what messages call it.
    Other(String),
}

/// How text that is shorter than its room ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    /// At the first NUL.
    NullTerminated,
    /// Before the trailing NULs.
    Null,
    /// Before the trailing spaces.
    Space,
}

impl Padding {
    /// The text without its padding.
    pub(super) fn trim(self, bytes: &[u8]) -> &[u8] {
        let without = |pad: u8| {
            let end = bytes.iter().rposition(|byte| *byte != pad);
            bytes
                .get(..end.map_or(0, |end| end + 1))
                .unwrap_or_default()
        };
        match self {
            Self::NullTerminated => bytes.split(|byte| *byte == 0).next().unwrap_or_default(),
            Self::Null => without(0),
            Self::Space => without(b' '),
        }
    }
}

impl Datatype {
    /// Parses a datatype message.
    ///
    /// # Errors
    /// `Corrupt` when it contradicts itself.
    pub(super) fn parse(body: &[u8]) -> Result<Self> {
        parse(&mut Reader::new(body, "datatype"), DEPTH)
    }
}

fn parse(reader: &mut Reader<'_>, depth: usize) -> Result<Datatype> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(reader.damaged("it is nested too deep"));
    };
    let (class, version) = split(reader.u8()?);
    let flags = [reader.u8()?, reader.u8()?, reader.u8()?];
    let size = reader.u32()?;
    let class = match class {
        0 => integer(reader, flags, size)?,
        1 => float(reader, flags, size)?,
        2 => Class::Other("the time class".into()),
        3 if size == 0 => return Err(reader.damaged("a text has 0 bytes")),
        3 => Class::FixedText(padding(flags)),
        4 => Class::Other("bit fields".into()),
        5 => Class::Other("opaque elements".into()),
        6 => Class::Other("compound elements".into()),
        7 if flags[0] & 15 == 0 => Class::Reference,
        7 => Class::Other("region references".into()),
        8 => enumeration(reader, flags, size, version, depth)?,
        9 if flags[0] & 15 == 1 => Class::Text,
        9 => Class::List(Box::new(parse(reader, depth)?)),
        10 => {
            let rank = reader.u8()?;
            if version < 3 {
                reader.skip(3)?;
            }
            let shape = (0..rank)
                .map(|_| reader.u32().map(u64::from))
                .collect::<Result<_>>()?;
            if version < 3 {
                reader.skip(4 * usize::from(rank))?;
            }
            let base = Box::new(parse(reader, depth)?);
            Class::Array { base, shape }
        }
        11 => Class::Other("complex numbers".into()),
        class => Class::Other(format!("elements of datatype class {class}")),
    };
    Ok(Datatype { size, class })
}

fn split(byte: u8) -> (u8, u8) {
    (byte & 15, byte >> 4)
}

fn padding(flags: [u8; 3]) -> Padding {
    match flags[0] & 15 {
        1 => Padding::Null,
        2 => Padding::Space,
        _ => Padding::NullTerminated,
    }
}

fn integer(reader: &mut Reader<'_>, flags: [u8; 3], size: u32) -> Result<Class> {
    let (offset, precision) = (reader.u16()?, reader.u16()?);
    let signed = flags[0] & 8 != 0;
    let element = match (size, signed) {
        (1, true) => ElementType::Int8,
        (2, true) => ElementType::Int16,
        (4, true) => ElementType::Int32,
        (8, true) => ElementType::Int64,
        (1, false) => ElementType::UInt8,
        (2, false) => ElementType::UInt16,
        (4, false) => ElementType::UInt32,
        (8, false) => ElementType::UInt64,
        _ => return Ok(Class::Other(format!("integers of {size} bytes"))),
    };
    if offset != 0 || u32::from(precision) != size * 8 {
        return Ok(Class::Other(format!(
            "integers of {precision} bits at bit {offset} of {size} bytes"
        )));
    }
    Ok(Class::Number {
        element,
        big_endian: flags[0] & 1 != 0,
    })
}

fn float(reader: &mut Reader<'_>, flags: [u8; 3], size: u32) -> Result<Class> {
    let (offset, precision) = (reader.u16()?, reader.u16()?);
    // Place and size of exponent, place and size of mantissa.
    let parts = [reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?];
    let bias = reader.u32()?;
    let (element, ieee) = match size {
        2 => (ElementType::Float16, ([10, 5, 0, 10], 15, 15)),
        4 => (ElementType::Float32, ([23, 8, 0, 23], 127, 31)),
        8 => (ElementType::Float64, ([52, 11, 0, 52], 1023, 63)),
        _ => {
            return Ok(Class::Other(format!(
                "floating-point numbers of {size} bytes"
            )));
        }
    };
    let implied_leading_bit = flags[0] >> 4 & 3 == 2;
    let standard = (parts, bias, flags[1]) == ieee
        && offset == 0
        && u32::from(precision) == size * 8
        && implied_leading_bit
        && flags[0] & 0x40 == 0;
    if !standard {
        return Ok(Class::Other(
            "floating-point numbers that are not IEEE 754".into(),
        ));
    }
    Ok(Class::Number {
        element,
        big_endian: flags[0] & 1 != 0,
    })
}

fn enumeration(
    reader: &mut Reader<'_>,
    flags: [u8; 3],
    size: u32,
    version: u8,
    depth: usize,
) -> Result<Class> {
    let members = u16::from_le_bytes([flags[0], flags[1]]);
    let base = parse(reader, depth)?;
    if base.size != size {
        return Err(reader.damaged("an enumeration and its integers differ in size"));
    }
    let is_bool = size == 1 && members == 2 && {
        let mut names = Vec::new();
        for _ in 0..members {
            let rest = reader.rest();
            let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
            let room = name.len() + 1;
            reader.skip(if version < 3 {
                room.next_multiple_of(8)
            } else {
                room
            })?;
            names.push(name);
        }
        names == [b"FALSE".as_slice(), b"TRUE".as_slice()] && reader.take(2)? == [0, 1]
    };
    Ok(match base.class {
        Class::Number { big_endian, .. } if is_bool => Class::Number {
            element: ElementType::Bool,
            big_endian,
        },
        class => class,
    })
}

/// A dataspace: the extent of an array or attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dataspace {
    /// One entry a dimension; `None` when there are no elements by definition.
    pub(super) shape: Option<Vec<u64>>,
    /// How far each dimension can grow; `None` without end.
    pub(super) most: Vec<Option<u64>>,
}

impl Dataspace {
    /// Parses a dataspace message.
    ///
    /// # Errors
    /// `Corrupt` when it contradicts itself, `Unsupported` for an unknown version.
    pub(super) fn parse(file: &File, body: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(body, "dataspace");
        let version = reader.u8()?;
        let rank = reader.u8()?;
        let flags = reader.u8()?;
        let null = match version {
            1 => {
                reader.skip(5)?;
                false
            }
            2 => reader.u8()? == 2,
            _ => {
                return Err(Error::Unsupported(format!(
                    "dataspaces of version {version}"
                )));
            }
        };
        let shape = (0..rank)
            .map(|_| reader.uint(file.length_size))
            .collect::<Result<Vec<_>>>()?;
        let most = if flags & 1 == 0 {
            shape.iter().map(|n| Some(*n)).collect()
        } else {
            (0..rank)
                .map(|_| reader.address(file.length_size))
                .collect::<Result<_>>()?
        };
        Ok(Self {
            shape: (!null).then_some(shape),
            most,
        })
    }

    /// Number of elements.
    ///
    /// # Errors
    /// `Corrupt` when it does not fit.
    pub(super) fn elements(&self) -> Result<u64> {
        let Some(shape) = &self.shape else {
            return Ok(0);
        };
        shape
            .iter()
            .try_fold(1u64, |product, n| product.checked_mul(*n))
            .ok_or_else(|| Error::Corrupt("the dataspace is damaged: it is too large".into()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn text_ends_where_its_padding_begins() {
        assert_eq!(Padding::NullTerminated.trim(b"ab\0c\0"), b"ab");
        assert_eq!(Padding::Null.trim(b"ab\0c\0"), b"ab\0c");
        assert_eq!(Padding::Space.trim(b"a b  "), b"a b");
        assert_eq!(Padding::Space.trim(b"   "), b"");
    }

    #[test]
    fn only_numbers_that_fill_their_bytes_are_numbers() {
        let integer = |precision: u8| [0x10, 9, 0, 0, 4, 0, 0, 0, 0, 0, precision, 0];
        let whole = Datatype::parse(&integer(32)).unwrap();
        let number = Class::Number {
            element: ElementType::Int32,
            big_endian: true,
        };
        assert_eq!(whole.class, number);
        let part = Datatype::parse(&integer(20)).unwrap();
        assert!(matches!(part.class, Class::Other(_)));
    }

    #[test]
    fn only_ieee_floats_are_floats() {
        let float = |bias: u8| {
            [
                0x11, 0x20, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, bias, 0, 0, 0,
            ]
        };
        let ieee = Datatype::parse(&float(127)).unwrap();
        let number = Class::Number {
            element: ElementType::Float32,
            big_endian: false,
        };
        assert_eq!(ieee.class, number);
        let other = Datatype::parse(&float(126)).unwrap();
        assert!(matches!(other.class, Class::Other(_)));
    }

    #[test]
    fn nesting_without_end_is_damage() {
        let array = [0x3a, 0, 0, 0, 4, 0, 0, 0, 1, 1, 0, 0, 0];
        assert!(matches!(
            Datatype::parse(&array.repeat(100)),
            Err(Error::Corrupt(_))
        ));
    }
}
