//! Encoding: from the elements of a chunk to its stored bytes.

use serde::{Deserialize, Serialize};

use self::compress::{Compressors, grown};
use self::shuffle::shuffle;
use super::blosc::encode::{BloscEncoder, Buffers};
use super::shuffle::{copy, swap_bytes};
use super::{Codec, CodecPipeline, checksum};
use crate::error::{Result, Within};

pub(super) mod compress;
pub mod numcodecs;
pub(super) mod shuffle;
#[cfg(test)]
mod tests;

/// One step of an encoding pipeline: a [`Codec`] with what a reader need not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoder {
    /// Elements of this many bytes get the opposite byte order.
    ByteSwap(u32),
    /// Byte shuffle of elements of this many bytes (HDF5, numcodecs): a last incomplete element stays as it is.
    Shuffle(u32),
    /// DEFLATE in a zlib wrapper (HDF5 `deflate`, numcodecs `zlib`).
    Zlib {
        /// Effort, 0 (stored) to 12; other libraries end at 9.
        level: u8,
    },
    /// DEFLATE in a gzip wrapper.
    Gzip {
        /// Effort, 0 (stored) to 12; other libraries end at 9.
        level: u8,
    },
    /// One Zstandard frame that tells the size of its data.
    Zstd {
        /// Effort, up to 22: 0 is the library's default, negative ones are faster.
        level: i32,
        /// Whether a checksum of the data follows it.
        checksum: FrameChecksum,
    },
    /// An LZ4 block after its uncompressed size as little-endian `u32` (numcodecs `lz4`, whose parameter
    /// `acceleration` says nothing about the format and is not needed here).
    Lz4,
    /// A Blosc 1 or Blosc 2 chunk.
    Blosc(BloscEncoder),
    /// HDF5's Fletcher-32 checksum, little-endian, after the data.
    Fletcher32,
    /// CRC-32C, little-endian, after the data.
    Crc32c,
}

/// Whether a Zstandard frame ends in a checksum of its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrameChecksum {
    /// It does not.
    #[default]
    Absent,
    /// It does.
    Present,
}

/// The steps from the elements of a chunk to its stored bytes, in their order.
///
/// ```
/// use hyperslab::codec::Scratch;
/// use hyperslab::codec::encode::{EncodePipeline, EncodeScratch, Encoder};
///
/// let pipeline = EncodePipeline(vec![Encoder::Shuffle(4), Encoder::Zlib { level: 4 }]);
/// let elements: Vec<u8> = (0..1000_u32).flat_map(u32::to_le_bytes).collect();
/// let encoded = pipeline.encode(&elements, &mut EncodeScratch::default())?;
/// assert!(encoded.len() < elements.len() / 2);
///
/// let mut decoded = vec![0; elements.len()];
/// pipeline.decoder().decode(&encoded, 0, &mut decoded, &mut Scratch::default())?;
/// assert_eq!(decoded, elements);
/// # Ok::<(), hyperslab::error::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodePipeline(pub Vec<Encoder>);

/// Buffers and encoder states that are kept from chunk to chunk.
#[derive(Debug, Default)]
pub struct EncodeScratch {
    front: Vec<u8>,
    back: Vec<u8>,
    compressors: Compressors,
    buffers: Buffers,
}

impl EncodePipeline {
    /// Encodes the elements of a chunk.
    ///
    /// # Errors
    ///
    /// `Invalid` if a step has a parameter that does not exist or cannot hold as many bytes, `Exhausted` if an encoder
    /// finds no memory.
    pub fn encode(&self, elements: &[u8], scratch: &mut EncodeScratch) -> Result<Vec<u8>> {
        self.encode_borrowed(elements, scratch).map(<[u8]>::to_vec)
    }

    /// The same, but what comes out stays in `scratch` (without any step, where it is).
    ///
    /// # Errors
    ///
    /// Those of [`EncodePipeline::encode`].
    pub fn encode_borrowed<'a>(
        &self,
        elements: &'a [u8],
        scratch: &'a mut EncodeScratch,
    ) -> Result<&'a [u8]> {
        let EncodeScratch {
            front,
            back,
            compressors,
            buffers,
        } = scratch;
        let mut encoded = None;
        for step in &self.0 {
            let data = match encoded {
                Some(length) => front.get(..length).unwrap_or_default(),
                None => elements,
            };
            let written = step.encode(data, back, compressors, buffers);
            encoded = Some(written.within(|| format!("codec {}", step.codec()))?);
            std::mem::swap(front, back);
        }
        Ok(match encoded {
            Some(length) => front.get(..length).unwrap_or_default(),
            None => elements,
        })
    }

    /// The pipeline that decodes what this one encodes.
    #[must_use]
    pub fn decoder(&self) -> CodecPipeline {
        CodecPipeline(self.0.iter().map(Encoder::codec).collect())
    }
}

impl Encoder {
    /// What a reader has to know of this step.
    #[must_use]
    pub fn codec(&self) -> Codec {
        match self {
            Self::ByteSwap(size) => Codec::ByteSwap(*size),
            Self::Shuffle(size) => Codec::Shuffle(*size),
            Self::Zlib { .. } => Codec::Zlib,
            Self::Gzip { .. } => Codec::Gzip,
            Self::Zstd { .. } => Codec::Zstd,
            Self::Lz4 => Codec::Lz4,
            Self::Blosc(_) => Codec::Blosc,
            Self::Fletcher32 => Codec::Fletcher32,
            Self::Crc32c => Codec::Crc32c,
        }
    }

    /// Takes this step to the beginning of `out`, which grows as needed, and returns the number of bytes written.
    fn encode(
        &self,
        data: &[u8],
        out: &mut Vec<u8>,
        compressors: &mut Compressors,
        buffers: &mut Buffers,
    ) -> Result<usize> {
        match self {
            Self::ByteSwap(size) => {
                let out = grown(out, data.len());
                copy(data, out);
                swap_bytes(bytes_of(*size), out);
                Ok(data.len())
            }
            Self::Shuffle(size) => {
                shuffle(bytes_of(*size), data, grown(out, data.len()));
                Ok(data.len())
            }
            Self::Zlib { level } => compressors.zlib(*level, data, out),
            Self::Gzip { level } => compressors.gzip(*level, data, out),
            Self::Zstd { level, checksum } => compressors.zstd(*level, *checksum, data, out),
            Self::Lz4 => compressors.lz4(data, out),
            Self::Blosc(encoder) => encoder.encode(data, out, compressors, buffers),
            Self::Fletcher32 => Ok(checked(data, checksum::fletcher32(data), out)),
            Self::Crc32c => Ok(checked(data, crc32c::crc32c(data), out)),
        }
    }
}

/// Data with its checksum behind it.
fn checked(data: &[u8], sum: u32, out: &mut Vec<u8>) -> usize {
    let length = data.len() + checksum::LENGTH;
    let (front, end) = grown(out, length).split_at_mut(data.len());
    copy(data, front);
    copy(&sum.to_le_bytes(), end);
    length
}

/// An element longer than memory is as good as none.
fn bytes_of(element: u32) -> usize {
    usize::try_from(element).unwrap_or(usize::MAX)
}
