//! The layout of a Blosc2 array, from the fixed metalayers of its frame.

use bytes::Bytes;
use rmpv::Value;

use crate::array::Layout;
use crate::array::chunk::{ChunkGrid, ElementOrder};
use crate::array::dtype::ElementType;
use crate::codec::{Codec, CodecPipeline};
use crate::error::{Error, Result};
use crate::format::blosc2::attributes::msgpack;
use crate::format::blosc2::frame::Frame;

/// Most dimensions of an array.
const MOST_DIMENSIONS: usize = 16;
/// The largest chunk, in bytes: Blosc2 counts them in 31 bits.
const LARGEST_CHUNK: u64 = i32::MAX as u64;

/// Metalayers of frames that are something else than the array they look like.
const NOT_ARRAYS: [(&str, &str); 7] = [
    ("LazyArray", "a lazy expression"),
    ("b2o", "a reference to a computed or remote object"),
    ("proxy-source", "a proxy of a remote array"),
    ("b2embed", "a store of embedded objects"),
    ("listarray", "an array of lists"),
    ("vlarray", "an array of objects"),
    ("batcharray", "an array of batches"),
];

/// The layout of the array in `frame`.
pub(super) fn layout(frame: &Frame) -> Result<Layout> {
    for (layer, what) in NOT_ARRAYS {
        if frame.metalayer(layer).is_some() {
            return Err(Error::Unsupported(format!(
                "it is {what}, which cannot be read"
            )));
        }
    }
    frame.header.check_features()?;
    let layout = match (frame.metalayer("b2nd"), frame.metalayer("caterva")) {
        (Some(content), _) | (None, Some(content)) => Shape::parse(content)?.layout(frame)?,
        (None, None) => plain(frame)?,
    };
    check_sizes(frame, &layout)?;
    Ok(layout)
}

/// The decoded bytes of a chunk of the array.
pub(super) fn chunk_bytes(layout: &Layout) -> Result<u64> {
    let chunk = layout.grid.chunk_shape();
    let item = layout.element.size().unwrap_or(1) as u64;
    match &layout.order {
        ElementOrder::Blocked(blocks) => padded_bytes(chunk, blocks, item),
        ElementOrder::C | ElementOrder::Permuted(_) => padded_bytes(chunk, chunk, item),
    }
}

/// The bytes of a chunk that is padded to whole blocks, for elements of `item` bytes.
pub(super) fn padded_bytes(chunk: &[u64], block: &[u64], item: u64) -> Result<u64> {
    padded_cells(chunk, block)
        .and_then(|cells| cells.checked_mul(item))
        .filter(|bytes| *bytes <= LARGEST_CHUNK)
        .ok_or_else(|| {
            Error::Corrupt(format!(
                "chunks of {chunk:?} cells are larger than Blosc2 chunks can be"
            ))
        })
}

/// The bytes of a block, for elements of `item` bytes.
pub(super) fn block_bytes(block: &[u64], item: u64) -> Result<u64> {
    padded_bytes(block, block, item)
}

/// What the metalayer `b2nd` says (`caterva`, its ancestor, has no dtype).
struct Shape {
    shape: Vec<u64>,
    chunk: Vec<u64>,
    block: Vec<u64>,
    dtype: Option<String>,
}

impl Shape {
    fn parse(content: &Bytes) -> Result<Self> {
        let damaged = || Error::Corrupt("the metalayer b2nd is damaged".into());
        let value = msgpack(content)?;
        let items = value.as_array().ok_or_else(damaged)?;
        let [version, rank, shape, chunk, block, rest @ ..] = items.as_slice() else {
            return Err(damaged());
        };
        if version.as_u64() != Some(0) {
            return Err(Error::Unsupported(format!(
                "version {version} of the metalayer b2nd cannot be read"
            )));
        }
        let rank = rank
            .as_u64()
            .and_then(|rank| usize::try_from(rank).ok())
            .filter(|rank| *rank <= MOST_DIMENSIONS)
            .ok_or_else(damaged)?;
        let extents = |value: &Value| -> Result<Vec<u64>> {
            let extents: Option<Vec<u64>> = value
                .as_array()
                .and_then(|items| items.iter().map(Value::as_u64).collect());
            extents
                .filter(|extents| extents.len() == rank)
                .ok_or_else(damaged)
        };
        let dtype = match rest {
            [] => None,
            [format, dtype, ..] => match (format.as_u64(), dtype.as_str()) {
                (Some(0), Some(dtype)) => Some(dtype.to_owned()),
                (Some(0), None) | (None, _) => return Err(damaged()),
                (Some(other), _) => {
                    return Err(Error::Unsupported(format!(
                        "element types of notation {other} cannot be read"
                    )));
                }
            },
            [_] => return Err(damaged()),
        };
        Ok(Self {
            shape: extents(shape)?,
            chunk: extents(chunk)?,
            block: extents(block)?,
            dtype,
        })
    }

    fn layout(self, frame: &Frame) -> Result<Layout> {
        let (element, is_swapped) = match &self.dtype {
            Some(dtype) => element_type(dtype)?,
            None if frame.header.typesize == 1 => (ElementType::UInt8, false),
            None => return Err(no_element_type(frame)),
        };
        // A dimension of length 0 has chunks and blocks of length 0.
        let stretch = |extents: Vec<u64>| -> Vec<u64> {
            let pairs = extents.into_iter().zip(&self.shape);
            pairs
                .map(|(extent, length)| if *length == 0 { extent.max(1) } else { extent })
                .collect()
        };
        let (chunk, block) = (stretch(self.chunk), stretch(self.block));
        if block.contains(&0) {
            return Err(Error::Corrupt(format!(
                "block shape {block:?} has an extent of 0"
            )));
        }
        Ok(Layout {
            element,
            grid: ChunkGrid::new(self.shape, chunk)?,
            order: ElementOrder::Blocked(block),
            pipeline: pipeline(element, is_swapped),
            fill: Vec::new(),
        })
    }
}

/// A frame without a shape: bytes, or items that nothing describes.
fn plain(frame: &Frame) -> Result<Layout> {
    let header = &frame.header;
    if header.typesize != 1 {
        return Err(no_element_type(frame));
    }
    Ok(Layout {
        element: ElementType::UInt8,
        grid: ChunkGrid::new(vec![header.nbytes], vec![header.chunksize.max(1)])?,
        order: ElementOrder::C,
        pipeline: pipeline(ElementType::UInt8, false),
        fill: Vec::new(),
    })
}

/// Compares the sizes in the frame's header with those that follow from the shape.
fn check_sizes(frame: &Frame, layout: &Layout) -> Result<()> {
    let header = &frame.header;
    let item = layout.element.size().unwrap_or(1) as u64;
    let chunk = chunk_bytes(layout)?;
    if header.typesize != item {
        return Err(Error::Unsupported(format!(
            "its items have {} bytes, but its element type {} has {item}",
            header.typesize,
            layout.element.name()
        )));
    }
    if layout.grid.is_empty() || layout.grid.shape().contains(&0) {
        return Ok(());
    }
    let nbytes = match layout.order {
        ElementOrder::Blocked(_) => layout.grid.len().checked_mul(chunk),
        ElementOrder::C | ElementOrder::Permuted(_) => Some(header.nbytes),
    };
    if header.chunksize != chunk || Some(header.nbytes) != nbytes {
        return Err(Error::Corrupt(format!(
            "shape {:?} in chunks of {:?} does not give the {} bytes in chunks of {} that its frame has",
            layout.grid.shape(),
            layout.grid.chunk_shape(),
            header.nbytes,
            header.chunksize
        )));
    }
    Ok(())
}

fn padded_cells(chunk: &[u64], block: &[u64]) -> Option<u64> {
    chunk
        .iter()
        .zip(block)
        .try_fold(1u64, |cells, (chunk, block)| {
            let padded = chunk.checked_next_multiple_of(*block)?;
            cells.checked_mul(padded)
        })
}

fn pipeline(element: ElementType, is_swapped: bool) -> CodecPipeline {
    let unit = match element {
        ElementType::Utf32(_) => 4,
        ElementType::Int16 | ElementType::UInt16 | ElementType::Float16 => 2,
        ElementType::Int32 | ElementType::UInt32 | ElementType::Float32 => 4,
        ElementType::Int64 | ElementType::UInt64 | ElementType::Float64 => 8,
        ElementType::Bool
        | ElementType::Int8
        | ElementType::UInt8
        | ElementType::Char
        | ElementType::Bytes(_)
        | ElementType::Text => 1,
    };
    if is_swapped && unit > 1 {
        CodecPipeline(vec![Codec::ByteSwap(unit), Codec::Blosc])
    } else {
        CodecPipeline(vec![Codec::Blosc])
    }
}

/// The element type of a NumPy type string (`<f4`, `|S6`), and whether its byte order is big-endian.
pub(super) fn element_type(dtype: &str) -> Result<(ElementType, bool)> {
    let unsupported = || Error::Unsupported(format!("its element type {dtype} cannot be read"));
    let (is_swapped, rest) = match dtype.as_bytes() {
        [b'>', ..] => (true, dtype.get(1..)),
        [b'<' | b'|' | b'=', ..] => (false, dtype.get(1..)),
        _ => (false, Some(dtype)),
    };
    let rest = rest.ok_or_else(unsupported)?;
    let kind = rest.get(..1).ok_or_else(unsupported)?;
    let size: u32 = rest
        .get(1..)
        .and_then(|size| size.parse().ok())
        .ok_or_else(unsupported)?;
    // Elements of no bytes have no cells to find; the largest text is that of NumPy, 2^31 bytes.
    let element = match (kind, size) {
        ("b", 1) => ElementType::Bool,
        ("i", 1) => ElementType::Int8,
        ("i", 2) => ElementType::Int16,
        ("i", 4) => ElementType::Int32,
        ("i", 8) => ElementType::Int64,
        ("u", 1) => ElementType::UInt8,
        ("u", 2) => ElementType::UInt16,
        ("u", 4) => ElementType::UInt32,
        ("u", 8) => ElementType::UInt64,
        ("f", 2) => ElementType::Float16,
        ("f", 4) => ElementType::Float32,
        ("f", 8) => ElementType::Float64,
        ("S", 1..=0x1fff_ffff) => ElementType::Bytes(size),
        ("U", 1..=0x1fff_ffff) => ElementType::Utf32(size),
        _ => return Err(unsupported()),
    };
    Ok((element, is_swapped))
}

/// The NumPy type string of little-endian elements; `None` for what has none.
pub(super) fn dtype(element: ElementType) -> Option<String> {
    let dtype = match element {
        ElementType::Bool => "|b1",
        ElementType::Int8 => "|i1",
        ElementType::Int16 => "<i2",
        ElementType::Int32 => "<i4",
        ElementType::Int64 => "<i8",
        ElementType::UInt8 => "|u1",
        ElementType::UInt16 => "<u2",
        ElementType::UInt32 => "<u4",
        ElementType::UInt64 => "<u8",
        ElementType::Float16 => "<f2",
        ElementType::Float32 => "<f4",
        ElementType::Float64 => "<f8",
        ElementType::Char => "|S1",
        ElementType::Bytes(size) => return Some(format!("|S{size}")),
        ElementType::Utf32(size) => return Some(format!("<U{size}")),
        ElementType::Text => return None,
    };
    Some(dtype.into())
}

fn no_element_type(frame: &Frame) -> Error {
    Error::Unsupported(format!(
        "it has items of {} bytes and no shape or element type that says what they are",
        frame.header.typesize
    ))
}
