//! Codec pipelines: from the elements of a chunk to its stored bytes, and back.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use self::undo::Undo;
use crate::error::Result;

pub mod blosc;
mod checksum;
mod compress;
pub mod encode;
mod shuffle;
#[cfg(test)]
mod tests;
mod undo;

/// One step of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Codec {
    /// Elements of this many bytes have the opposite byte order.
    ByteSwap(u32),
    /// Byte shuffle of elements of this many bytes (HDF5, numcodecs): a last incomplete element stays as it is.
    Shuffle(u32),
    /// DEFLATE in a zlib wrapper (HDF5 `deflate`, numcodecs `zlib`).
    Zlib,
    /// DEFLATE in a gzip wrapper.
    Gzip,
    /// Zstandard frames.
    Zstd,
    /// An LZ4 block after its uncompressed size as little-endian `u32` (numcodecs `lz4`).
    Lz4,
    /// A Blosc 1 or Blosc 2 chunk.
    Blosc,
    /// HDF5's Fletcher-32 checksum, little-endian, after the data.
    Fletcher32,
    /// CRC-32C, little-endian, after the data.
    Crc32c,
}

/// The steps from the elements of a chunk to its stored bytes, in the order in which they encode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodecPipeline(pub Vec<Codec>);

/// Buffers and decoder states that are kept from chunk to chunk.
///
/// Fresh memory for every chunk costs more than decoding, so whoever decodes many chunks keeps one of these.
#[derive(Debug, Default)]
pub struct Scratch {
    front: Vec<u8>,
    back: Vec<u8>,
    workspace: blosc::Workspace,
}

impl CodecPipeline {
    /// Decodes the stored bytes of a chunk into `decoded`, whose length is that of the decoded chunk.
    ///
    /// Bit `i` of `skipped` tells that step `i` was left out when this chunk was encoded.
    ///
    /// # Errors
    ///
    /// `Corrupt` if a checksum is wrong, a step cannot be undone or the decoded size is another one; `Unsupported` if
    /// the chunk uses a feature of its format that is not implemented.
    pub fn decode(
        &self,
        encoded: &[u8],
        skipped: u32,
        decoded: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<()> {
        Undo::new(self, encoded, skipped, scratch).into_slice(decoded)
    }

    /// Decodes a chunk whose decoded size is not known, but at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// Those of [`CodecPipeline::decode`], and `Exhausted` if there are more than `limit` bytes.
    pub fn decode_to_vec(
        &self,
        encoded: &[u8],
        skipped: u32,
        limit: usize,
        scratch: &mut Scratch,
    ) -> Result<Vec<u8>> {
        Undo::new(self, encoded, skipped, scratch).into_vec(limit)
    }

    /// The chunk as blocks to be decoded one by one, if Blosc is the only step.
    ///
    /// # Errors
    ///
    /// Those of [`blosc::Chunk::parse`].
    pub fn blocks<'a>(&self, encoded: &'a [u8], skipped: u32) -> Result<Option<blosc::Chunk<'a>>> {
        match self.has_blocks(skipped) {
            true => blosc::Chunk::parse(encoded).map(Some),
            false => Ok(None),
        }
    }

    /// Whether chunks consist of blocks to be decoded one by one: [`CodecPipeline::blocks`].
    #[must_use]
    pub fn has_blocks(&self, skipped: u32) -> bool {
        self.0 == [Codec::Blosc] && skipped & 1 == 0
    }
}

impl Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByteSwap(size) => write!(f, "byteswap({size})"),
            Self::Shuffle(size) => write!(f, "shuffle({size})"),
            Self::Zlib => f.write_str("zlib"),
            Self::Gzip => f.write_str("gzip"),
            Self::Zstd => f.write_str("zstd"),
            Self::Lz4 => f.write_str("lz4"),
            Self::Blosc => f.write_str("blosc"),
            Self::Fletcher32 => f.write_str("fletcher32"),
            Self::Crc32c => f.write_str("crc32c"),
        }
    }
}

impl Display for CodecPipeline {
    /// The steps in the order in which they encode, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.0.split_first() else {
            return f.write_str("none");
        };
        write!(f, "{first}")?;
        others.iter().try_for_each(|codec| write!(f, ", {codec}"))
    }
}
