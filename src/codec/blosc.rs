//! Chunks of Blosc 1 and Blosc 2, decoded block by block.
//!
//! ```text
//! header | start of each block | [dictionary] | streams of block | streams of block | …
//! stream = size | bytes        one for the block, or one for each byte of its elements
//! ```
//!
//! The format is that of <https://www.blosc.org/c-blosc2/format/chunk_format.html>.

use std::ops::Range;

use self::filters::{Buffers, Filters};
use self::header::{Compressor, Header};
use super::Scratch;
use super::compress::{self, Decompressors, Failure, Outcome};
use super::shuffle::copy;
use crate::error::{Error, Result, Within};

mod blosclz;
pub mod encode;
mod filters;
mod head;
mod header;

pub use self::head::Head;

/// A chunk whose header has been read and whose blocks can be decoded one by one.
///
/// The header may claim any size: compare [`Chunk::nbytes`] with what is known before memory is made for a block.
#[derive(Debug)]
pub struct Chunk<'a> {
    nbytes: usize,
    block_size: usize,
    body: Body<'a>,
}

#[derive(Debug)]
enum Body<'a> {
    /// The data itself.
    Stored(&'a [u8]),
    /// These bytes over and over.
    Repeated(&'a [u8]),
    Compressed(Blocks<'a>),
}

#[derive(Debug)]
struct Blocks<'a> {
    chunk: &'a [u8],
    /// Where each block is in the chunk.
    ranges: Vec<Range<usize>>,
    dictionary: Option<&'a [u8]>,
    compressor: Compressor,
    /// Streams of a whole block; the last block has one if it is shorter.
    streams: usize,
    filters: Filters,
}

/// What the decoder of blocks keeps from chunk to chunk.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub(super) decompressors: Decompressors,
    buffers: Buffers,
    first: Vec<u8>,
}

impl<'a> Chunk<'a> {
    /// Reads the header of a chunk; what follows the chunk is ignored.
    ///
    /// # Errors
    ///
    /// `Corrupt` if sizes contradict each other or the bytes present, `Unsupported` for a compressor, a filter or a
    /// flag that is not implemented.
    pub fn parse(encoded: &'a [u8]) -> Result<Self> {
        let header = Header::parse(encoded, encoded.len())?;
        let chunk = encoded.get(..header.cbytes).unwrap_or_default();
        let body = chunk.get(header.length..).unwrap_or_default();
        let body = if header.nbytes == 0 {
            Body::Stored(&[])
        } else if header.special != 0 {
            Body::Repeated(header.special_value(body)?)
        } else if header.stored() {
            Body::Stored(body.get(..header.nbytes).ok_or_else(|| {
                corrupt(format_args!(
                    "stores {} bytes instead of {}",
                    body.len(),
                    header.nbytes
                ))
            })?)
        } else {
            Body::Compressed(Blocks::parse(&header, chunk, body)?)
        };
        Ok(Self {
            nbytes: header.nbytes,
            block_size: header.block_size,
            body,
        })
    }

    /// Bytes of the decoded chunk.
    #[must_use]
    pub fn nbytes(&self) -> usize {
        self.nbytes
    }

    /// Bytes of every decoded block but the last, which may be shorter.
    #[must_use]
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// Number of blocks.
    #[must_use]
    pub fn blocks(&self) -> usize {
        match self.nbytes {
            0 => 0,
            nbytes => nbytes.div_ceil(self.block_size),
        }
    }

    /// Bytes of the decoded chunk that block `index` holds; none behind the last block.
    #[must_use]
    pub fn block_range(&self, index: usize) -> Range<usize> {
        let start = index.saturating_mul(self.block_size).min(self.nbytes);
        start..start.saturating_add(self.block_size).min(self.nbytes)
    }

    /// The bytes that the whole chunk repeats, if it is made of one value: zero, NaN or another.
    #[must_use]
    pub fn repeated(&self) -> Option<&'a [u8]> {
        match &self.body {
            Body::Repeated(value) => Some(value),
            Body::Stored(_) | Body::Compressed(_) => None,
        }
    }

    /// Decodes block `index` into `out`, which has exactly its length.
    ///
    /// # Errors
    ///
    /// `Invalid` if `out` has another length, `Corrupt` if the block is no valid data of that length.
    pub fn decode_block(&self, index: usize, out: &mut [u8], scratch: &mut Scratch) -> Result<()> {
        let length = self.block_range(index).len();
        if index >= self.blocks() || out.len() != length {
            return Err(Error::Invalid(format!(
                "block {index} of a Blosc chunk of {} blocks was asked for as {} bytes",
                self.blocks(),
                out.len()
            )));
        }
        let workspace = &mut scratch.workspace;
        if index == 0 || !self.refers() {
            return self.block(index, out, None, workspace);
        }
        let mut first = std::mem::take(&mut workspace.first);
        first.resize(self.block_range(0).len(), 0);
        let done = self.block(0, &mut first, None, workspace);
        let done = done.and_then(|()| self.block(index, out, Some(&first), workspace));
        workspace.first = first;
        done
    }

    /// Decodes the whole chunk into `out`, which has exactly its length.
    ///
    /// # Errors
    ///
    /// `Corrupt` if the chunk has another length, or a block is no valid data.
    pub fn decode(&self, out: &mut [u8], scratch: &mut Scratch) -> Result<()> {
        self.decode_with(out, &mut scratch.workspace)
    }

    pub(super) fn decode_with(&self, out: &mut [u8], workspace: &mut Workspace) -> Result<()> {
        if out.len() != self.nbytes {
            return Err(corrupt(format_args!(
                "decodes to {} bytes instead of {}",
                self.nbytes,
                out.len()
            )));
        }
        match &self.body {
            Body::Stored(data) => copy(data, out),
            Body::Repeated(value) => repeat(value, 0, out),
            Body::Compressed(_) => {
                let (first, others) = out.split_at_mut(self.block_range(0).len());
                self.block(0, first, None, workspace)?;
                for (index, block) in (1..).zip(others.chunks_mut(self.block_size)) {
                    self.block(index, block, Some(first), workspace)?;
                }
            }
        }
        Ok(())
    }

    fn refers(&self) -> bool {
        match &self.body {
            Body::Stored(_) | Body::Repeated(_) => false,
            Body::Compressed(blocks) => blocks.filters.refers(),
        }
    }

    fn block(
        &self,
        index: usize,
        out: &mut [u8],
        first: Option<&[u8]>,
        workspace: &mut Workspace,
    ) -> Result<()> {
        let range = self.block_range(index);
        match &self.body {
            Body::Stored(data) => copy(data.get(range).unwrap_or_default(), out),
            Body::Repeated(value) => repeat(value, range.start, out),
            Body::Compressed(blocks) => {
                let streams = match out.len() == self.block_size {
                    true => blocks.streams,
                    false => 1,
                };
                blocks
                    .decode(index, streams, out, first, workspace)
                    .within(|| format!("block {index} of the Blosc chunk"))?;
            }
        }
        Ok(())
    }
}

impl<'a> Blocks<'a> {
    fn parse(header: &Header, chunk: &'a [u8], body: &'a [u8]) -> Result<Self> {
        if header.block_size > header.typesize && !header.block_size.is_multiple_of(header.typesize)
        {
            // Encoders that let this happen have lost the end of each block.
            return Err(corrupt(format_args!(
                "has blocks of {} bytes for elements of {}",
                header.block_size, header.typesize
            )));
        }
        let count = header.nbytes.div_ceil(header.block_size);
        let (starts, rest) = count
            .checked_mul(4)
            .and_then(|length| body.split_at_checked(length))
            .ok_or_else(|| corrupt(format_args!("ends within the starts of {count} blocks")))?;
        Ok(Self {
            chunk,
            ranges: head::ranges(starts.as_chunks().0, chunk.len()),
            dictionary: match header.dictionary {
                true => Some(dictionary(rest)?),
                false => None,
            },
            compressor: header.compressor()?,
            streams: match header.split() {
                true => header.typesize,
                false => 1,
            },
            filters: Filters::of(header)?,
        })
    }

    fn decode(
        &self,
        index: usize,
        streams: usize,
        out: &mut [u8],
        first: Option<&[u8]>,
        workspace: &mut Workspace,
    ) -> Result<()> {
        // What stands behind the block need not have been read.
        let range = self.ranges.get(index).filter(|range| !range.is_empty());
        let mut rest = range
            .and_then(|range| self.chunk.get(range.clone()))
            .ok_or_else(|| bad("it begins behind the end of the chunk"))?;
        let length = out.len() / streams;
        if length == 0 || length * streams != out.len() {
            return Err(bad("it cannot be divided into streams of equal length"));
        }
        let Workspace {
            decompressors,
            buffers,
            ..
        } = workspace;
        if self.filters.moves() && buffers.source.len() < out.len() {
            buffers.source.resize(out.len(), 0);
        }
        let target = match self.filters.moves() {
            true => buffers.source.get_mut(..out.len()).unwrap_or_default(),
            false => &mut *out,
        };
        for stream in target.chunks_exact_mut(length) {
            rest = self.stream(rest, stream, decompressors)?;
        }
        self.filters.undo(out, first, buffers);
        Ok(())
    }

    /// Decodes the stream that `bytes` begin with, and returns what follows it.
    fn stream(
        &self,
        bytes: &'a [u8],
        out: &mut [u8],
        decompressors: &mut Decompressors,
    ) -> Result<&'a [u8]> {
        let cut = || bad("it ends within a stream");
        let (size, rest) = bytes.split_first_chunk().ok_or_else(cut)?;
        let size = i32::from_le_bytes(*size);
        if size == 0 {
            out.fill(0);
            return Ok(rest);
        }
        let Ok(size) = usize::try_from(size) else {
            // A run of one byte, told by the lowest bit of the next byte.
            let (token, rest) = rest.split_first().ok_or_else(cut)?;
            let byte = u8::try_from(size.unsigned_abs());
            let byte = byte.map_err(|_| bad("a run of more than one byte"))?;
            if *token != 1 {
                return Err(Error::Unsupported(format!(
                    "stream token {token:#04x} is not supported"
                )));
            }
            out.fill(byte);
            return Ok(rest);
        };
        let (stream, rest) = rest.split_at_checked(size).ok_or_else(cut)?;
        if size == out.len() {
            copy(stream, out);
            return Ok(rest);
        }
        match self.decompress(stream, out, decompressors) {
            Ok(written) if written == out.len() => Ok(rest),
            Ok(written) => Err(Error::Corrupt(format!(
                "a stream decodes to {written} bytes instead of {}",
                out.len()
            ))),
            Err(Failure::NoSpace) => Err(Error::Corrupt(format!(
                "a stream decodes to more than {} bytes",
                out.len()
            ))),
            Err(Failure::Error(error)) => Err(error),
        }
    }

    fn decompress(&self, stream: &[u8], out: &mut [u8], state: &mut Decompressors) -> Outcome {
        match (self.compressor, self.dictionary) {
            (Compressor::Blosclz, None) => blosclz::decompress(stream, out)
                .ok_or_else(|| bad("the BloscLZ data is damaged").into()),
            (Compressor::Lz4, None) => compress::lz4_block(stream, out),
            (Compressor::Lz4, Some(dictionary)) => {
                compress::lz4_block_with(dictionary, stream, out)
            }
            (Compressor::Zlib, None) => state.zlib(stream, out),
            (Compressor::Zstd, None) => state.zstd(stream, out),
            (Compressor::Zstd, Some(dictionary)) => state.zstd_with(dictionary, stream, out),
            (Compressor::Blosclz | Compressor::Zlib, Some(_)) => Err(Failure::Error(
                Error::Unsupported("a dictionary for BloscLZ or zlib is not supported".into()),
            )),
        }
    }
}

/// Fills `out`, which begins `offset` bytes after the beginning of a value.
fn repeat(value: &[u8], offset: usize, out: &mut [u8]) {
    if let [byte] = value {
        out.fill(*byte);
        return;
    }
    let phase = offset.checked_rem(value.len()).unwrap_or(0);
    let (head, tail) = value.split_at(phase);
    copy(tail, out);
    copy(head, out.get_mut(tail.len()..).unwrap_or_default());
    // What is there already is repeated as a whole: twice as much with every turn.
    let mut done = value.len();
    while done < out.len() {
        let count = done.min(out.len() - done);
        out.copy_within(..count, done);
        done += count;
    }
}

/// The dictionary behind the starts of blocks, after its length.
fn dictionary(rest: &[u8]) -> Result<&[u8]> {
    rest.split_first_chunk()
        .and_then(|(length, rest)| rest.get(..usize::try_from(i32::from_le_bytes(*length)).ok()?))
        .ok_or_else(|| corrupt(format_args!("ends within its dictionary")))
}

fn corrupt(what: std::fmt::Arguments<'_>) -> Error {
    Error::Corrupt(format!("the Blosc chunk {what}"))
}

fn bad(text: &str) -> Error {
    Error::Corrupt(text.into())
}
