//! Chunks of Blosc 1 and Blosc 2, encoded block by block.

use serde::{Deserialize, Serialize};

use super::header::{BITSHUFFLE, FILTERS, SHUFFLE};
use crate::codec::encode::FrameChecksum;
use crate::codec::encode::compress::{Compressors, grown};
use crate::codec::encode::shuffle::{bitshuffle, shuffle};
use crate::codec::shuffle::copy;
use crate::error::{Error, Result};

/// Most byte planes of a block that are compressed by themselves.
const MOST_STREAMS: usize = 16;
/// Elements of the shortest of them.
const SHORTEST_STREAM: usize = 128;
/// The largest elements that a chunk can name; larger ones are single bytes to it.
const LARGEST_ELEMENT: usize = 255;
/// Marks a chunk whose data is stored as it is.
const STORED: u8 = 2;
/// Marks a chunk whose blocks are one stream each.
const NOT_SPLIT: u8 = 0x10;
/// Both filter flags of Blosc 1 at once mark the longer header of Blosc 2.
const EXTENDED: u8 = 0b101;
/// What all values of the chunk are: zero, or one that follows the header.
const ZEROS: u8 = 1 << 4;
const ONE_VALUE: u8 = 3 << 4;

/// How Blosc chunks are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BloscEncoder {
    /// The compressor inside.
    pub compressor: BloscCompressor,
    /// Effort, 0 (stored) to 9.
    pub level: u8,
    /// What happens to the elements of a block before they are compressed.
    pub shuffle: BloscShuffle,
    /// Bytes of an element. Those of more than 255 bytes are taken as single bytes, as Blosc itself does.
    pub typesize: u32,
    /// Bytes of a block; 0 chooses by the level. It is made a multiple of the elements and no longer than the chunk.
    pub blocksize: u32,
    /// Which libraries the chunk is for.
    pub version: BloscVersion,
}

/// The compressor of the blocks.
///
/// A chunk names the format of its streams, not what its array prescribes, and every reader goes by that. So a
/// compressor without an encoder here is replaced by one that all readers know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BloscCompressor {
    /// BloscLZ, Blosc's own; written as LZ4, which is of the same kind and speed.
    Blosclz,
    /// LZ4.
    Lz4,
    /// LZ4 with more effort: its data is LZ4 data, and it is written with the effort of `Lz4`.
    Lz4hc,
    /// DEFLATE in a zlib wrapper.
    Zlib,
    /// Zstandard.
    Zstd,
}

/// The filter of the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BloscShuffle {
    /// None.
    None,
    /// Byte shuffle.
    Byte,
    /// Bit shuffle.
    Bit,
}

/// The format of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BloscVersion {
    /// Readable by all libraries (Zarr).
    Blosc1,
    /// Readable by Blosc 2 only; streams and chunks of one value take no room (b2nd).
    Blosc2,
}

/// Buffers of a block.
#[derive(Debug, Default)]
pub(in crate::codec) struct Buffers {
    filtered: Vec<u8>,
    planes: Vec<u8>,
    stream: Vec<u8>,
}

impl BloscEncoder {
    /// Encodes a chunk to the beginning of `out`, which grows as needed, and returns the number of bytes written.
    pub(in crate::codec) fn encode(
        &self,
        data: &[u8],
        out: &mut Vec<u8>,
        compressors: &mut Compressors,
        buffers: &mut Buffers,
    ) -> Result<usize> {
        let plan = Plan::of(self, data.len())?;
        let chunk = grown(out, plan.header + data.len());
        if self.version == BloscVersion::Blosc2 && self.level > 0 {
            if data.iter().all(|byte| *byte == 0) && !data.is_empty() {
                plan.write_header(chunk, 0, ZEROS, plan.header)?;
                return Ok(plan.header);
            }
            if let Some(value) = plan.one_value(data) {
                plan.write_header(chunk, 0, ONE_VALUE, plan.header + value.len())?;
                copy(value, chunk.get_mut(plan.header..).unwrap_or_default());
                return Ok(plan.header + value.len());
            }
        }
        let written = match self.level {
            0 => None,
            _ => plan.blocks(data, chunk, compressors, buffers)?,
        };
        let (length, flags) = match written {
            Some(length) => (length, 0),
            None => {
                copy(data, chunk.get_mut(plan.header..).unwrap_or_default());
                (chunk.len(), STORED)
            }
        };
        plan.write_header(chunk, flags, 0, length)?;
        Ok(length)
    }
}

/// What is decided of a chunk before its data is looked at.
struct Plan<'a> {
    encoder: &'a BloscEncoder,
    typesize: usize,
    nbytes: usize,
    block: usize,
    /// Bytes of the header.
    header: usize,
    /// Streams of a whole block.
    streams: usize,
}

impl<'a> Plan<'a> {
    fn of(encoder: &'a BloscEncoder, nbytes: usize) -> Result<Self> {
        let header = match encoder.version {
            BloscVersion::Blosc1 => 16,
            BloscVersion::Blosc2 => 32,
        };
        if encoder.level > 9 {
            let level = encoder.level;
            return Err(Error::Invalid(format!("Blosc has no level {level}")));
        }
        if i32::try_from(nbytes.saturating_add(header)).is_err() {
            return Err(Error::Invalid(format!(
                "{nbytes} bytes are more than a Blosc chunk can have"
            )));
        }
        let typesize = match usize::try_from(encoder.typesize) {
            Ok(0) => {
                return Err(Error::Invalid(
                    "a Blosc chunk has elements of at least one byte".into(),
                ));
            }
            Ok(size) if size <= LARGEST_ELEMENT => size,
            Ok(_) | Err(_) => 1,
        };
        let block = block_size(encoder, nbytes, typesize);
        // Planes that are easy to compress gain the most from being alone; to the slower compressors that matters less
        // than what planes have in common.
        let quick = match encoder.compressor {
            BloscCompressor::Blosclz | BloscCompressor::Lz4 | BloscCompressor::Lz4hc => true,
            BloscCompressor::Zstd => encoder.level <= 5,
            BloscCompressor::Zlib => false,
        };
        let split = quick
            && encoder.shuffle == BloscShuffle::Byte
            && (2..=MOST_STREAMS).contains(&typesize)
            && block >= SHORTEST_STREAM * typesize;
        Ok(Self {
            encoder,
            typesize,
            nbytes,
            block,
            header,
            streams: if split { typesize } else { 1 },
        })
    }

    /// The element that the whole chunk repeats.
    fn one_value<'d>(&self, data: &'d [u8]) -> Option<&'d [u8]> {
        let (value, others) = data.split_at_checked(self.typesize)?;
        let one = !others.is_empty()
            && data.len().is_multiple_of(self.typesize)
            && data.get(..others.len()) == Some(others);
        one.then_some(value)
    }

    /// Writes everything behind the header, and returns where it ends; nothing if that is no shorter than the data.
    fn blocks(
        &self,
        data: &[u8],
        chunk: &mut [u8],
        compressors: &mut Compressors,
        buffers: &mut Buffers,
    ) -> Result<Option<usize>> {
        let count = data.len().div_ceil(self.block);
        let mut end = self.header + 4 * count;
        for (index, block) in data.chunks(self.block).enumerate() {
            let starts = chunk.get_mut(self.header + 4 * index..);
            let Some(start) = starts.and_then(<[u8]>::first_chunk_mut) else {
                return Ok(None);
            };
            *start = int(end)?;
            let streams = match block.len() == self.block {
                true => self.streams,
                false => 1,
            };
            let Buffers {
                filtered,
                planes,
                stream,
            } = &mut *buffers;
            let block = self.filter(block, filtered, planes);
            for data in block.chunks(block.len() / streams) {
                let room = chunk.get_mut(end..).unwrap_or_default();
                match self.stream(data, room, compressors, stream)? {
                    Some(written) => end += written,
                    None => return Ok(None),
                }
            }
        }
        Ok((end < chunk.len()).then_some(end))
    }

    /// A block after its filter.
    fn filter<'b>(
        &self,
        block: &'b [u8],
        filtered: &'b mut Vec<u8>,
        planes: &mut Vec<u8>,
    ) -> &'b [u8] {
        match self.filter_code() {
            SHUFFLE => {
                let out = grown(filtered, block.len());
                shuffle(self.typesize, block, out);
                out
            }
            BITSHUFFLE => {
                let count = block.len() / self.typesize;
                let shuffled = match self.encoder.version {
                    BloscVersion::Blosc1 if !count.is_multiple_of(8) => 0,
                    BloscVersion::Blosc1 | BloscVersion::Blosc2 => count - count % 8,
                };
                let out = grown(filtered, block.len());
                let (head, tail) = out.split_at_mut(shuffled * self.typesize);
                let (elements, rest) = block.split_at(head.len());
                bitshuffle(self.typesize, elements, head, planes);
                copy(rest, tail);
                out
            }
            _ => block,
        }
    }

    /// Writes one stream after its size, and returns the bytes of both; nothing if there is too little room.
    fn stream(
        &self,
        data: &[u8],
        room: &mut [u8],
        compressors: &mut Compressors,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<usize>> {
        let mut put = |size: [u8; 4], bytes: &[u8]| {
            let length = size.len() + bytes.len();
            let (head, tail) = room.get_mut(..length)?.split_at_mut(size.len());
            copy(&size, head);
            copy(bytes, tail);
            Some(length)
        };
        if let (BloscVersion::Blosc2, Some(byte)) = (self.encoder.version, one_byte(data)) {
            return Ok(match byte {
                0 => put([0; 4], &[]),
                byte => put((-i32::from(byte)).to_le_bytes(), &[1]),
            });
        }
        let level = self.encoder.level;
        let written = match self.encoder.compressor {
            BloscCompressor::Blosclz | BloscCompressor::Lz4 | BloscCompressor::Lz4hc => {
                compressors.lz4_block(data, buffer)
            }
            BloscCompressor::Zlib => compressors.zlib(level, data, buffer),
            BloscCompressor::Zstd => {
                compressors.zstd(zstd_level(level), FrameChecksum::Absent, data, buffer)
            }
        }?;
        let stream = match buffer.get(..written) {
            Some(stream) if written < data.len() => stream,
            Some(_) | None => data,
        };
        Ok(put(int(stream.len())?, stream))
    }

    /// Writes the header; `special` says what all values are.
    fn write_header(&self, chunk: &mut [u8], flags: u8, special: u8, cbytes: usize) -> Result<()> {
        let (format, code) = match self.encoder.compressor {
            BloscCompressor::Blosclz | BloscCompressor::Lz4 | BloscCompressor::Lz4hc => (1, 1),
            BloscCompressor::Zlib => (3, 4),
            BloscCompressor::Zstd => (4, 5),
        };
        let filter = self.filter_code();
        let (version, filters) = match (self.encoder.version, filter) {
            (BloscVersion::Blosc2, _) => (5, EXTENDED),
            (BloscVersion::Blosc1, SHUFFLE) => (2, 1),
            (BloscVersion::Blosc1, BITSHUFFLE) => (2, 4),
            (BloscVersion::Blosc1, _) => (2, 0),
        };
        let split = match self.streams {
            1 => NOT_SPLIT,
            _ => 0,
        };
        let typesize = u8::try_from(self.typesize).unwrap_or(1);
        let mut header = [0; 32];
        copy(
            &[version, 1, flags | filters | split | format << 5, typesize],
            &mut header,
        );
        let sizes = [int(self.nbytes)?, int(self.block)?, int(cbytes)?];
        copy(sizes.as_flattened(), &mut header[4..]);
        header[16 + FILTERS - 1] = filter;
        header[16 + FILTERS] = code;
        header[31] = special;
        copy(header.get(..self.header).unwrap_or_default(), chunk);
        Ok(())
    }

    /// The filter that changes something; none does that is 0.
    fn filter_code(&self) -> u8 {
        match self.encoder.shuffle {
            BloscShuffle::Byte if self.typesize > 1 => SHUFFLE,
            BloscShuffle::Bit => BITSHUFFLE,
            BloscShuffle::Byte | BloscShuffle::None => 0,
        }
    }
}

/// Bytes of all blocks but the last. All begin with an element.
fn block_size(encoder: &BloscEncoder, nbytes: usize, typesize: usize) -> usize {
    let (block, unit) = match usize::try_from(encoder.blocksize) {
        // The larger, the better they compress; the larger ones still fit a cache of a core.
        Ok(0) => match encoder.level {
            0..=1 => (64 << 10, 8 * typesize),
            2..=5 => (256 << 10, 8 * typesize),
            _ => (512 << 10, 8 * typesize),
        },
        Ok(given) => (given, typesize),
        Err(_) => (usize::MAX, typesize),
    };
    let block = block.min(nbytes);
    // What is too short for eight elements may have some, and what is too short for one is as it is.
    let unit = if block < unit { typesize } else { unit };
    match block - block % unit {
        0 => nbytes.clamp(1, typesize),
        block => block,
    }
}

/// Zstandard has more levels.
fn zstd_level(level: u8) -> i32 {
    match level {
        9.. => 22,
        level => 2 * i32::from(level) - 1,
    }
}

/// The byte that a stream repeats.
fn one_byte(stream: &[u8]) -> Option<u8> {
    let (first, others) = stream.split_first()?;
    others.iter().all(|byte| byte == first).then_some(*first)
}

/// A size as it is written; the plan has seen to it that all of them fit.
fn int(size: usize) -> Result<[u8; 4]> {
    i32::try_from(size)
        .map(i32::to_le_bytes)
        .map_err(|_| Error::Invalid(format!("{size} bytes are too many for a Blosc chunk")))
}
