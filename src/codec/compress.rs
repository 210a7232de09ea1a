//! The general compressors, decoded: zlib, gzip, Zstandard, LZ4.

use std::fmt::Debug;

use libdeflater::DecompressionError;
use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd::zstd_safe::{self, DCtx, DDict};

use super::shuffle::copy;
use crate::error::Error;

/// Why bytes could not be decompressed into a buffer.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is more data than fits the buffer.
    NoSpace,
    /// It would fail with any buffer.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Number of bytes written.
pub(super) type Outcome = Result<usize, Failure>;

/// States of the decompressors, made when they are needed and kept.
#[derive(Default)]
pub(super) struct Decompressors {
    inflate: Option<libdeflater::Decompressor>,
    zstd: Option<DCtx<'static>>,
    dictionary: Option<(Vec<u8>, DDict<'static>)>,
}

impl Decompressors {
    pub(super) fn zlib(&mut self, encoded: &[u8], out: &mut [u8]) -> Outcome {
        let inflate = self.inflate.get_or_insert_default();
        inflate
            .zlib_decompress(encoded, out)
            .map_err(|error| deflate_failure(&error, "zlib"))
    }

    /// Members one after the other.
    pub(super) fn gzip(&mut self, encoded: &[u8], out: &mut [u8]) -> Outcome {
        let inflate = self.inflate.get_or_insert_default();
        let mut members = encoded;
        let mut written = 0;
        loop {
            let room = out.get_mut(written..).unwrap_or_default();
            let length = inflate
                .gzip_decompress(members, room)
                .map_err(|error| deflate_failure(&error, "gzip"))?;
            let full = length == room.len();
            let member = room.get(..length).unwrap_or_default();
            members = after_member(members, member, full);
            written += length;
            // Zeros may follow the last member.
            if only_zeros(members) {
                return Ok(written);
            }
        }
    }

    /// Frames one after the other.
    pub(super) fn zstd(&mut self, encoded: &[u8], out: &mut [u8]) -> Outcome {
        context(&mut self.zstd)?
            .decompress(out, encoded)
            .map_err(zstd_failure)
    }

    /// Frames that were compressed with a dictionary.
    pub(super) fn zstd_with(
        &mut self,
        dictionary: &[u8],
        encoded: &[u8],
        out: &mut [u8],
    ) -> Outcome {
        let prepared = match self.dictionary.take() {
            Some((bytes, prepared)) if bytes == dictionary => prepared,
            _ => DDict::try_create(dictionary)
                .ok_or_else(|| corrupt("the Zstandard dictionary is damaged"))?,
        };
        let outcome = context(&mut self.zstd)?
            .decompress_using_ddict(out, encoded, &prepared)
            .map_err(zstd_failure);
        self.dictionary = Some((dictionary.into(), prepared));
        outcome
    }
}

impl Debug for Decompressors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressors").finish_non_exhaustive()
    }
}

/// An LZ4 block without anything around it.
pub(super) fn lz4_block(encoded: &[u8], out: &mut [u8]) -> Outcome {
    lz4_flex::block::decompress_into(encoded, out).map_err(lz4_failure)
}

/// An LZ4 block that may copy from a dictionary in front of it.
pub(super) fn lz4_block_with(dictionary: &[u8], encoded: &[u8], out: &mut [u8]) -> Outcome {
    lz4_flex::block::decompress_into_with_dict(encoded, out, dictionary).map_err(lz4_failure)
}

/// An LZ4 block after its uncompressed size.
pub(super) fn lz4(encoded: &[u8], out: &mut [u8]) -> Outcome {
    let Some((size, block)) = encoded.split_first_chunk() else {
        return Err(corrupt("the LZ4 data has no size").into());
    };
    let size = usize::try_from(u32::from_le_bytes(*size)).map_err(|_| Failure::NoSpace)?;
    let out = out.get_mut(..size).ok_or(Failure::NoSpace)?;
    match lz4_block(block, out)? {
        written if written == size => Ok(written),
        written => Err(corrupt(format!(
            "the LZ4 data decodes to {written} bytes instead of {size}"
        ))
        .into()),
    }
}

/// What follows a gzip member that decoded to `decoded`.
///
/// The inflater does not tell where it stopped, but a member ends in the CRC-32 and the length of its data. Where no
/// room is `full` of data, the end of `members` is not taken for the end of this member: two may be equal.
fn after_member<'a>(members: &'a [u8], decoded: &[u8], full: bool) -> &'a [u8] {
    /// Bytes of the shortest header.
    const HEADER: usize = 10;
    let mut trailer = [0; 8];
    let (crc, length) = trailer.split_at_mut(4);
    copy(&libdeflater::crc32(decoded).to_le_bytes(), crc);
    copy(&decoded.len().to_le_bytes(), length);
    if full && members.ends_with(&trailer) {
        return &[];
    }
    let body = members.get(HEADER..).unwrap_or_default();
    let ends = body.windows(8).enumerate();
    let mut rests = ends
        .filter(|(_, bytes)| *bytes == trailer)
        .filter_map(|(at, _)| body.get(at + 8..));
    // The trailer of no data is eight zeros, and there may be one more before them.
    rests
        .find(|rest| rest.starts_with(&[0x1f, 0x8b]) || only_zeros(rest))
        .unwrap_or_default()
}

fn only_zeros(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn context<'a>(slot: &'a mut Option<DCtx<'static>>) -> Result<&'a mut DCtx<'static>, Failure> {
    if slot.is_none() {
        *slot = DCtx::try_create();
    }
    slot.as_mut()
        .ok_or_else(|| Error::Exhausted("no memory is left for a Zstandard decoder".into()).into())
}

fn deflate_failure(error: &DecompressionError, name: &str) -> Failure {
    match error {
        DecompressionError::BadData => corrupt(format!("the {name} data is damaged")).into(),
        DecompressionError::InsufficientSpace => Failure::NoSpace,
    }
}

fn zstd_failure(code: usize) -> Failure {
    const NO_SPACE: usize = (ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize).wrapping_neg();
    match code {
        NO_SPACE => Failure::NoSpace,
        code => {
            let reason = zstd_safe::get_error_name(code);
            corrupt(format!("the Zstandard data is damaged: {reason}")).into()
        }
    }
}

fn lz4_failure(error: lz4_flex::block::DecompressError) -> Failure {
    match error {
        lz4_flex::block::DecompressError::OutputTooSmall { .. } => Failure::NoSpace,
        error => corrupt(format!("the LZ4 data is damaged: {error}")).into(),
    }
}

fn corrupt(text: impl Into<String>) -> Error {
    Error::Corrupt(text.into())
}
