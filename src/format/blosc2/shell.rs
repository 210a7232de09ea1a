//! What stands around the chunks of a frame that is written: header, chunk index, trailer.

use rmpv::Value;

use crate::array::chunk::ChunkGrid;
use crate::codec::blosc::encode::{BloscCompressor, BloscEncoder, BloscShuffle, BloscVersion};
use crate::codec::encode::{EncodePipeline, EncodeScratch, Encoder};
use crate::error::{Error, Result};
use crate::format::blosc2::frame::MAGIC;
use crate::format::blosc2::index::MOST_CHUNKS;
use crate::format::blosc2::meta::block_bytes;

/// The offset that stands for a chunk of zeros, of which nothing is stored.
pub(super) const ZEROS: i64 = i64::from_be_bytes([0x81, 0, 0, 0, 0, 0, 0, 0]);
/// Places of the sizes in the header.
const HEADER_LENGTH: usize = 0x0b;
const FRAME_LENGTH: usize = 0x10;
const FLAGS: usize = 0x19;
const NBYTES: usize = 0x1e;
const CBYTES: usize = 0x27;
const BLOCK_SIZE: usize = 0x35;
const CHUNK_SIZE: usize = 0x3a;
/// Marks chunks of variable length.
const VARIABLE_CHUNKS: u8 = 0x40;

/// The grid of an array, and the division of its chunks.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    pub(super) grid: ChunkGrid,
    /// Extent of a block, in cells.
    pub(super) block: Vec<u64>,
    /// Bytes of an element.
    pub(super) item: u64,
    /// Bytes of a decoded chunk, padded to whole blocks.
    pub(super) chunk_bytes: u64,
}

/// The bytes around the chunks; sizes are filled in when they are known.
#[derive(Clone, Debug)]
pub(super) struct Shell {
    pub(super) head: Vec<u8>,
    trailer: Vec<u8>,
}

impl Cut {
    /// Bytes of a decoded block.
    pub(super) fn block_bytes(&self) -> Result<u64> {
        block_bytes(&self.block, self.item)
    }

    /// Bytes of all decoded chunks.
    fn nbytes(&self) -> Result<u64> {
        let nbytes = self.grid.len().checked_mul(self.chunk_bytes);
        nbytes.ok_or_else(|| Error::Invalid("the array has more bytes than can be counted".into()))
    }
}

impl Shell {
    /// The shell of a new contiguous array whose elements are `dtype` to NumPy, with these attributes.
    pub(super) fn new(
        cut: &Cut,
        dtype: &str,
        encoder: &BloscEncoder,
        attributes: &[(String, Value)],
    ) -> Result<Self> {
        let mut layer = b2nd(cut)?;
        layer.extend([0, 0xdb]);
        layer.extend(u32_of(dtype.len())?);
        layer.extend(dtype.as_bytes());

        let sizes = [cut.item, cut.block_bytes()?, cut.chunk_bytes];
        Self::around(sizes, encoder, &[("b2nd", layer)], attributes)
    }

    /// The shell of a contiguous frame whose items, blocks and chunks have these sizes, with these metalayers.
    fn around(
        sizes: [u64; 3],
        encoder: &BloscEncoder,
        layers: &[(&str, Vec<u8>)],
        attributes: &[(String, Value)],
    ) -> Result<Self> {
        let compressor = match encoder.compressor {
            BloscCompressor::Blosclz => 0,
            BloscCompressor::Lz4 => 1,
            BloscCompressor::Lz4hc => 2,
            BloscCompressor::Zlib => 4,
            BloscCompressor::Zstd => 5,
        };
        let filter = match encoder.shuffle {
            BloscShuffle::None => 0,
            BloscShuffle::Byte => 1,
            BloscShuffle::Bit => 2,
        };
        let vlmeta = if attributes.is_empty() { 0xc2 } else { 0xc3 };
        let mut head = MAGIC.to_vec();
        // Each number follows the byte that says its msgpack type; sizes that are not known yet are 0.
        head.extend([0xd2, 0, 0, 0, 0, 0xcf, 0, 0, 0, 0, 0, 0, 0, 0]);
        // Version 2 with offsets of 64 bits; contiguous; the streams are split where it pays.
        head.extend([0xa4, 0x12, 0, compressor | encoder.level << 4, 2]);
        head.extend([0xd3, 0, 0, 0, 0, 0, 0, 0, 0]);
        head.extend([0xd3, 0, 0, 0, 0, 0, 0, 0, 0]);
        for size in sizes {
            head.push(0xd2);
            head.extend(i32_of(size)?);
        }
        // One thread in either direction.
        head.extend([0xd1, 0, 1, 0xd1, 0, 1, vlmeta, 0xd8, 6]);
        head.extend([0, 0, 0, 0, 0, filter, compressor, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        append_metalayers(&mut head, 0, layers)?;
        let length = u32_of(head.len())?;
        put(&mut head, HEADER_LENGTH, &length)?;
        Ok(Self {
            head,
            trailer: trailer(attributes)?,
        })
    }

    /// The shell of a longer array, from that of the old one; all that does not tell its size stays byte for byte.
    pub(super) fn grown(head: &[u8], trailer: &[u8], layer: &[u8], cut: &Cut) -> Result<Self> {
        let longer = b2nd(cut)?;
        let start = head
            .windows(layer.len().max(1))
            .position(|window| window == layer);
        // Behind the numbers stands the element type, which stays; before them, in as many bytes, what they were.
        let is_alike = same_notation(layer, &longer);
        let (Some(start), true) = (start, is_alike) else {
            return Err(Error::Unsupported(
                "the shape in its metalayer b2nd is written in a notation that cannot be changed in place".into(),
            ));
        };
        let mut head = head.to_vec();
        // How many items there are, with the element type or without, is not ours to change.
        put(&mut head, start + 1, longer.get(1..).unwrap_or_default())?;
        put(&mut head, BLOCK_SIZE, &i32_of(cut.block_bytes()?)?)?;
        put(&mut head, CHUNK_SIZE, &i32_of(cut.chunk_bytes)?)?;
        // An array that had no cells may have been marked so for want of a chunk size.
        if let Some(flags) = head.get_mut(FLAGS) {
            *flags &= !VARIABLE_CHUNKS;
        }
        Ok(Self {
            head,
            trailer: trailer.to_vec(),
        })
    }

    /// Closes the frame: fills the sizes into the header, and returns what follows the chunks.
    ///
    /// `cbytes` is the number of bytes that all chunks take, `inside` that of those which are in the frame.
    pub(super) fn close(
        &mut self,
        cut: &Cut,
        offsets: &[i64],
        cbytes: u64,
        inside: u64,
    ) -> Result<Vec<u8>> {
        let mut end = match offsets {
            [] => Vec::new(),
            offsets => index(offsets)?,
        };
        end.extend(&self.trailer);
        let around = self.head.len() + end.len();
        let length = u64::try_from(around)
            .ok()
            .and_then(|n| n.checked_add(inside));
        let length = length.unwrap_or(u64::MAX);
        put(&mut self.head, FRAME_LENGTH, &length.to_be_bytes())?;
        put(&mut self.head, NBYTES, &cut.nbytes()?.to_be_bytes())?;
        put(&mut self.head, CBYTES, &cbytes.to_be_bytes())?;
        Ok(end)
    }
}

/// A whole frame that holds nothing but metalayers; chunks of bytes that it may get one day have `chunk_bytes`.
pub(super) fn empty_frame(
    chunk_bytes: u64,
    layers: &[(&str, Vec<u8>)],
    attributes: &[(String, Value)],
) -> Result<Vec<u8>> {
    let encoder = BloscEncoder {
        compressor: BloscCompressor::Zstd,
        level: 5,
        shuffle: BloscShuffle::Byte,
        typesize: 1,
        blocksize: 0,
        version: BloscVersion::Blosc2,
    };
    let Shell { mut head, trailer } =
        Shell::around([1, 0, chunk_bytes], &encoder, layers, attributes)?;
    let length = u32_of(head.len() + trailer.len())?;
    put(&mut head, FRAME_LENGTH + 4, &length)?;
    head.extend(trailer);
    Ok(head)
}

/// The metalayer of the shape, up to the element type; all numbers in the notation of fixed length that the library
/// uses, so that another shape takes the same room.
fn b2nd(cut: &Cut) -> Result<Vec<u8>> {
    let rank = u8::try_from(cut.block.len()).ok().filter(|rank| *rank < 16);
    let rank = rank.ok_or_else(|| {
        Error::Unsupported(format!(
            "arrays of {} dimensions cannot be written",
            cut.block.len()
        ))
    })?;
    let chunks = cut.grid.len();
    if chunks > MOST_CHUNKS {
        return Err(Error::Exhausted(format!(
            "it would have {chunks} chunks, more than the {MOST_CHUNKS} that are kept account of"
        )));
    }
    let mut layer = vec![0x97, 0, rank, 0x90 | rank];
    for extent in cut.grid.shape() {
        layer.push(0xd3);
        layer.extend(extent.to_be_bytes());
    }
    for extents in [cut.grid.chunk_shape(), &cut.block] {
        layer.push(0x90 | rank);
        for extent in extents {
            layer.push(0xd2);
            layer.extend(i32_of(*extent)?);
        }
    }
    Ok(layer)
}

/// Whether both metalayers have the same msgpack types at the same places, as far as the second one goes.
fn same_notation(layer: &[u8], numbers: &[u8]) -> bool {
    let Some([_, head @ ..]) = layer.get(..numbers.len()) else {
        return false;
    };
    // Followed by as many bytes as its type says, each number is one item.
    let mut at = 0;
    let numbers = numbers.get(1..).unwrap_or_default();
    while let Some(kind) = numbers.get(at) {
        if head.get(at) != Some(kind) {
            return false;
        }
        at += match kind {
            0xd3 => 9,
            0xd2 => 5,
            _ => 1,
        };
    }
    true
}

/// The offsets of all chunks, as a chunk.
fn index(offsets: &[i64]) -> Result<Vec<u8>> {
    let bytes: Vec<u8> = offsets.iter().flat_map(|at| at.to_le_bytes()).collect();
    let encoder = BloscEncoder {
        compressor: BloscCompressor::Lz4,
        // The library looks single offsets up, which is quickest where they are stored as they are.
        level: if offsets.len() < 1024 { 0 } else { 5 },
        shuffle: BloscShuffle::Byte,
        typesize: 8,
        blocksize: 0,
        version: BloscVersion::Blosc2,
    };
    encode(encoder, &bytes)
}

/// The trailer, with attributes as variable-length metalayers: chunks of msgpack.
fn trailer(attributes: &[(String, Value)]) -> Result<Vec<u8>> {
    let encoder = BloscEncoder {
        compressor: BloscCompressor::Zstd,
        level: 5,
        shuffle: BloscShuffle::None,
        typesize: 1,
        blocksize: 0,
        version: BloscVersion::Blosc2,
    };
    let mut layers = Vec::with_capacity(attributes.len());
    for (name, value) in attributes {
        let mut content = Vec::new();
        rmpv::encode::write_value(&mut content, value)
            .map_err(|error| Error::Invalid(format!("attribute {name}: {error}")))?;
        layers.push((name.as_str(), encode(encoder.clone(), &content)?));
    }
    let mut trailer = vec![0x94, 1];
    append_metalayers(&mut trailer, 1, &layers)?;
    // Its own length, then a fingerprint of 16 bytes that is none.
    let length = u32_of(trailer.len() + 5 + 18)?;
    trailer.push(0xce);
    trailer.extend(length);
    trailer.extend([0xd8, 0]);
    trailer.extend([0; 16]);
    Ok(trailer)
}

/// Appends an index of metalayers (their places in `part`) and their contents.
///
/// The index tells its length, of which the header counts the first byte and the trailer does not (`uncounted`).
fn append_metalayers(
    part: &mut Vec<u8>,
    uncounted: usize,
    layers: &[(&str, Vec<u8>)],
) -> Result<()> {
    /// Bytes of the numbers of the index: its own length, and how many layers there are; then those before contents.
    const INDEX: usize = 7;
    const BETWEEN: usize = 3;
    let entry = |name: &str| 1 + name.len() + 5;
    let entries: usize = layers.iter().map(|(name, _)| entry(name)).sum();
    let too_many = || Error::Invalid("there are more attributes than a frame can have".into());
    let length = u16::try_from(INDEX + entries - uncounted).map_err(|_| too_many())?;
    let count = u16::try_from(layers.len()).map_err(|_| too_many())?;
    let mut place = part.len() + INDEX + entries + BETWEEN;
    part.extend([0x93, 0xcd]);
    part.extend(length.to_be_bytes());
    part.push(0xde);
    part.extend(count.to_be_bytes());
    for (name, content) in layers {
        let marker = u8::try_from(name.len()).ok().filter(|length| *length < 32);
        let marker = marker.ok_or_else(|| {
            Error::Invalid(format!("attribute {name}: its name has more than 31 bytes"))
        })?;
        part.push(0xa0 | marker);
        part.extend(name.as_bytes());
        part.push(0xd2);
        part.extend(u32_of(place)?);
        place += 5 + content.len();
    }
    part.push(0xdc);
    part.extend(count.to_be_bytes());
    for (_, content) in layers {
        part.push(0xc6);
        part.extend(u32_of(content.len())?);
        part.extend(content);
    }
    Ok(())
}

fn encode(encoder: BloscEncoder, bytes: &[u8]) -> Result<Vec<u8>> {
    let pipeline = EncodePipeline(vec![Encoder::Blosc(encoder)]);
    pipeline.encode(bytes, &mut EncodeScratch::default())
}

/// Overwrites bytes of a header that are known to be there.
fn put(head: &mut [u8], at: usize, bytes: &[u8]) -> Result<()> {
    let place = head.get_mut(at..at + bytes.len());
    place
        .ok_or_else(|| Error::Corrupt("the header of the frame is too short".into()))?
        .copy_from_slice(bytes);
    Ok(())
}

fn i32_of(number: u64) -> Result<[u8; 4]> {
    i32::try_from(number)
        .map(i32::to_be_bytes)
        .map_err(|_| Error::Invalid(format!("{number} is more than a Blosc2 array can have")))
}

fn u32_of(size: usize) -> Result<[u8; 4]> {
    u32::try_from(size)
        .map(u32::to_be_bytes)
        .map_err(|_| Error::Invalid(format!("{size} bytes are more than a frame can have")))
}
