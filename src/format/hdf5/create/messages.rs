//! Messages of object headers, as version 1.8 of the HDF5 library writes them.

use crate::array::dtype::ElementType;
use crate::codec::encode::Encoder;
use crate::error::{Error, Result};
use crate::format::hdf5::append::output::Fields;
use crate::format::hdf5::header::kind;

/// Bytes of an address, and of a length.
pub(super) const WIDTH: usize = 8;
/// A message is not longer: its size has 2 bytes, and what is around it some more.
pub(super) const LARGEST: usize = 65_000;
/// Attributes or links that are kept in a header unless it says otherwise.
const KEPT: usize = 8;

/// A message on its way into an object header.
#[derive(Debug)]
pub(super) struct Message {
    kind: u16,
    /// 1: it never changes.
    flags: u8,
    /// Creation order, of attributes.
    order: u16,
    body: Vec<u8>,
}

impl Message {
    pub(super) fn new(kind: u16, body: Vec<u8>) -> Self {
        let constant = [kind::DATATYPE, kind::FILL].contains(&kind);
        Self {
            kind,
            flags: u8::from(constant),
            order: 0,
            body,
        }
    }
}

/// An object header of version 2 with these messages, followed by attributes (name, datatype, dataspace, data) in the
/// order of their creation.
///
/// # Errors
/// `Unsupported` when one of them is too long.
pub(super) fn object(messages: Vec<Message>, attributes: &[Attribute]) -> Result<Vec<u8>> {
    // Creation order of attributes is tracked and indexed; the size of what follows has 4 bytes.
    let mut flags = 0x0e;
    let count = u16::try_from(attributes.len())
        .map_err(|_| Error::Unsupported(format!("{} attributes are too many", attributes.len())))?;
    let is_many = attributes.len() > KEPT;
    if is_many {
        flags |= 0x10;
    }
    let mut all = messages;
    if count > 0 {
        let mut info = Fields::default();
        info.bytes(&[0, 3]);
        info.uint(count.into(), 2)?;
        for _ in 0..3 {
            info.address(None, WIDTH)?;
        }
        all.push(Message::new(kind::ATTRIBUTE_INFO, info.0));
    }
    for (order, attribute) in (0..).zip(attributes) {
        all.push(Message {
            order,
            ..Message::new(kind::ATTRIBUTE, attribute.body()?)
        });
    }
    let mut body = Fields::default();
    for message in &all {
        body.uint(message.kind.into(), 1)?;
        body.uint(message.body.len() as u64, 2)?;
        body.uint(message.flags.into(), 1)?;
        body.uint(message.order.into(), 2)?;
        body.bytes(&message.body);
    }
    let mut header = Fields::default();
    header.bytes(b"OHDR\x02");
    header.bytes(&[flags]);
    if is_many {
        header.uint(count.into(), 2)?;
        header.uint(KEPT as u64 - 2, 2)?;
    }
    header.uint(body.0.len() as u64, 4)?;
    header.bytes(&body.0);
    Ok(header.signed())
}

/// An attribute of an object.
#[derive(Debug)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) datatype: Vec<u8>,
    pub(super) space: Vec<u8>,
    pub(super) data: Vec<u8>,
}

impl Attribute {
    fn body(&self) -> Result<Vec<u8>> {
        let mut fields = Fields::default();
        fields.bytes(&[3, 0]);
        fields.uint(self.name.len() as u64 + 1, 2)?;
        fields.uint(self.datatype.len() as u64, 2)?;
        fields.uint(self.space.len() as u64, 2)?;
        fields.bytes(&[charset(&self.name)]);
        fields.bytes(self.name.as_bytes());
        fields.bytes(&[0]);
        fields.bytes(&self.datatype);
        fields.bytes(&self.space);
        fields.bytes(&self.data);
        if fields.0.len() > LARGEST {
            return Err(Error::Unsupported(format!(
                "attribute {} has {} bytes, and HDF5 has room for {LARGEST}",
                self.name,
                self.data.len()
            )));
        }
        Ok(fields.0)
    }
}

/// The datatype of elements.
///
/// # Errors
/// `Unsupported` for a type that netCDF-4 does not have.
pub(super) fn datatype(element: ElementType) -> Result<Vec<u8>> {
    let integer = |size: u8, flags: u8| vec![0x10, flags, 0, 0, size, 0, 0, 0, 0, 0, 8 * size, 0];
    Ok(match element {
        ElementType::Int8 => integer(1, 8),
        ElementType::Int16 => integer(2, 8),
        ElementType::Int32 => integer(4, 8),
        ElementType::Int64 => integer(8, 8),
        ElementType::UInt8 => integer(1, 0),
        ElementType::UInt16 => integer(2, 0),
        ElementType::UInt32 => integer(4, 0),
        ElementType::UInt64 => integer(8, 0),
        ElementType::Float32 => single(0x20),
        ElementType::Float64 => vec![
            0x11, 0x20, 63, 0, 8, 0, 0, 0, 0, 0, 64, 0, 52, 11, 0, 52, 0xff, 3, 0, 0,
        ],
        ElementType::Char => fixed_text(1, 0)?,
        ElementType::Bool
        | ElementType::Float16
        | ElementType::Bytes(_)
        | ElementType::Utf32(_)
        | ElementType::Text => {
            return Err(Error::Unsupported(format!(
                "netCDF-4 has no elements of type {}",
                element.name()
            )));
        }
    })
}

/// The datatype of the scale of a dimension that is no variable: single precision, big-endian, as netCDF-C has it.
pub(super) fn bare() -> Vec<u8> {
    single(0x21)
}

fn single(flags: u8) -> Vec<u8> {
    vec![
        0x11, flags, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0,
    ]
}

/// Text of a fixed number of bytes, of a character set (0: ASCII, 1: UTF-8).
///
/// # Errors
/// `Unsupported` when it is too long.
pub(super) fn fixed_text(size: usize, charset: u8) -> Result<Vec<u8>> {
    let mut fields = Fields::default();
    fields.bytes(&[0x13, charset << 4, 0, 0]);
    fields.uint(size as u64, 4)?;
    Ok(fields.0)
}

/// Text of any length in UTF-8.
pub(super) fn any_text() -> Vec<u8> {
    let mut text = vec![0x19, 1, 1, 0, 16, 0, 0, 0];
    text.extend([0x10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 8, 0]);
    text
}

const REFERENCE: [u8; 8] = [0x17, 0, 0, 0, 8, 0, 0, 0];

/// Lists of objects.
pub(super) fn references() -> Vec<u8> {
    let mut lists = vec![0x19, 0, 0, 0, 16, 0, 0, 0];
    lists.extend(REFERENCE);
    lists
}

/// Bytes of an entry of [`back_references`]: an object, 4 bytes for an axis of it, and 4 bytes of nothing.
pub(super) const BACK_REFERENCE: usize = 16;

/// Objects and axes of them.
pub(super) fn back_references() -> Vec<u8> {
    let mut compound = vec![0x16, 2, 0, 0, 16, 0, 0, 0];
    let member = |name: &[u8], offset: u8| {
        let mut member = name.to_vec();
        member.extend([offset, 0, 0, 0]);
        // Neither rank nor extents.
        member.extend([0; 28]);
        member
    };
    compound.extend(member(b"dataset\0", 0));
    compound.extend(REFERENCE);
    compound.extend(member(b"dimension\0\0\0\0\0\0\0", 8));
    compound.extend([0x10, 8, 0, 0, 4, 0, 0, 0, 0, 0, 32, 0]);
    compound
}

/// The extent of what has one element.
pub(super) const SCALAR: [u8; 4] = [2, 0, 0, 0];
/// The extent of what has none.
pub(super) const NULL: [u8; 4] = [2, 0, 0, 2];

/// An extent, and how far each dimension can grow: `None` without end.
///
/// # Errors
/// `Unsupported` for more than 32 dimensions.
pub(super) fn space(shape: &[u64], most: Option<&[Option<u64>]>) -> Result<Vec<u8>> {
    if shape.is_empty() {
        return Ok(SCALAR.to_vec());
    }
    let rank = u8::try_from(shape.len()).ok().filter(|rank| *rank <= 32);
    let rank = rank.ok_or_else(|| {
        Error::Unsupported(format!(
            "{} dimensions are more than HDF5 has room for",
            shape.len()
        ))
    })?;
    let mut fields = Fields::default();
    fields.bytes(&[2, rank, u8::from(most.is_some()), 1]);
    for extent in shape {
        fields.uint(*extent, WIDTH)?;
    }
    for extent in most.unwrap_or_default() {
        fields.address(*extent, WIDTH)?;
    }
    Ok(fields.0)
}

/// The message about what cells hold that were never written: `None` leaves that to HDF5.
///
/// # Errors
/// `Unsupported` when it is too long.
pub(super) fn fill(value: Option<&[u8]>, is_chunked: bool) -> Result<Message> {
    // When room is made: with each chunk, or all at once; it is filled if a value was chosen.
    let when = if is_chunked { 3 } else { 2 } | 2 << 2;
    let mut fields = Fields::default();
    match value {
        Some(value) => {
            fields.bytes(&[3, when | 0x20]);
            fields.uint(value.len() as u64, 4)?;
            fields.bytes(value);
        }
        None => fields.bytes(&[3, when]),
    }
    Ok(Message::new(kind::FILL, fields.0))
}

/// The layout of data in one piece.
///
/// # Errors
/// None in practice.
pub(super) fn contiguous(address: Option<u64>, length: u64) -> Result<Message> {
    let mut fields = Fields::default();
    fields.bytes(&[3, 1]);
    fields.address(address, WIDTH)?;
    fields.uint(length, WIDTH)?;
    Ok(Message::new(kind::LAYOUT, fields.0))
}

/// The layout of data in chunks, of which there is none yet, found by a version 1 B-tree; elements have `size` bytes.
///
/// # Errors
/// `Unsupported` when chunks are too large.
pub(super) fn chunked(chunk: &[u64], size: usize) -> Result<Message> {
    let bytes = chunk
        .iter()
        .try_fold(size as u64, |bytes, extent| bytes.checked_mul(*extent))
        .filter(|bytes| u32::try_from(*bytes).is_ok());
    if bytes.is_none() {
        return Err(Error::Unsupported(format!(
            "chunks of {chunk:?} cells have 4 GiB or more, which HDF5 does not take"
        )));
    }
    let mut fields = Fields::default();
    fields.bytes(&[3, 2]);
    fields.uint(chunk.len() as u64 + 1, 1)?;
    fields.address(None, WIDTH)?;
    for extent in chunk {
        fields.uint(*extent, 4)?;
    }
    fields.uint(size as u64, 4)?;
    Ok(Message::new(kind::LAYOUT, fields.0))
}

/// The filter pipeline of chunks.
///
/// # Errors
/// `Unsupported` naming a step that not every reader of netCDF-4 knows.
pub(super) fn filters(steps: &[Encoder]) -> Result<Message> {
    let mut fields = Fields::default();
    fields.bytes(&[2]);
    fields.uint(steps.len() as u64, 1)?;
    for step in steps {
        // Readers may leave out those that are optional where they make nothing smaller.
        let (id, optional, parameter) = match step {
            Encoder::Zlib { level } if *level <= 9 => (1, 1, Some(u32::from(*level))),
            Encoder::Shuffle(size) => (2, 1, Some(*size)),
            Encoder::Fletcher32 => (3, 0, None),
            Encoder::Zlib { .. }
            | Encoder::ByteSwap(_)
            | Encoder::Gzip { .. }
            | Encoder::Zstd { .. }
            | Encoder::Lz4
            | Encoder::Blosc(_)
            | Encoder::Crc32c => {
                return Err(Error::Unsupported(format!(
                    "not every program that reads netCDF-4 knows the codec {}: shuffle, zlib (levels up to 9), fletcher32 \
                     and none are those that can be written",
                    step.codec()
                )));
            }
        };
        fields.uint(id, 2)?;
        fields.uint(optional, 2)?;
        fields.uint(u64::from(parameter.is_some()), 2)?;
        if let Some(parameter) = parameter {
            fields.uint(parameter.into(), 4)?;
        }
    }
    Ok(Message::new(kind::FILTERS, fields.0))
}

/// The messages of a group with links to objects at these addresses, in the order of their creation.
///
/// # Errors
/// `Unsupported` when there are too many.
pub(super) fn links(links: &[(&str, u64)]) -> Result<Vec<Message>> {
    let mut info = Fields::default();
    // Creation order is tracked and indexed, by which netCDF-C knows its own files.
    info.bytes(&[0, 3]);
    info.uint(links.len() as u64, 8)?;
    for _ in 0..3 {
        info.address(None, WIDTH)?;
    }
    let mut group = Fields::default();
    if links.len() > KEPT {
        let most = u16::try_from(links.len()).map_err(|_| {
            Error::Unsupported(format!("{} members of a group are too many", links.len()))
        })?;
        group.bytes(&[0, 1]);
        group.uint(most.into(), 2)?;
        group.uint(KEPT as u64 - 2, 2)?;
    } else {
        group.bytes(&[0, 0]);
    }
    let mut messages = vec![
        Message::new(kind::LINK_INFO, info.0),
        Message::new(kind::GROUP_INFO, group.0),
    ];
    for (order, (name, address)) in (0..).zip(links) {
        let charset = charset(name);
        let mut link = Fields::default();
        let is_long = name.len() > usize::from(u8::MAX);
        let flags = u8::from(is_long) | 0x04 | charset << 4;
        link.bytes(&[1, flags]);
        link.uint(order, 8)?;
        if charset != 0 {
            link.bytes(&[charset]);
        }
        link.uint(name.len() as u64, if is_long { 2 } else { 1 })?;
        link.bytes(name.as_bytes());
        link.uint(*address, WIDTH)?;
        messages.push(Message::new(kind::LINK, link.0));
    }
    Ok(messages)
}

/// The character set of a text: ASCII, or UTF-8.
pub(super) fn charset(text: &str) -> u8 {
    u8::from(!text.is_ascii())
}
