//! The general compressors: zlib, gzip, Zstandard, LZ4.

use std::fmt::Debug;

use libdeflater::{CompressionLvl, Compressor};
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use zstd::zstd_safe::{self, CCtx, CParameter, compress_bound};

use super::FrameChecksum;
use crate::error::{Error, Result};

/// States of the compressors, made when they are needed and kept.
#[derive(Default)]
pub(in crate::codec) struct Compressors {
    deflate: Option<(u8, Compressor)>,
    zstd: Option<CCtx<'static>>,
    lz4: Option<Tables>,
}

/// What LZ4 remembers of its input, which is less where positions fit 16 bits.
struct Tables {
    small: CompressTable,
    large: CompressTable,
}

impl Compressors {
    /// Compresses `data` to the beginning of `out`, which grows as needed, and returns the number of bytes written.
    pub(in crate::codec) fn zlib(
        &mut self,
        level: u8,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize> {
        let deflate = self.deflate(level)?;
        let room = grown(out, deflate.zlib_compress_bound(data.len()));
        let written = deflate.zlib_compress(data, room);
        written.map_err(|_| no_room("zlib"))
    }

    /// The same as one gzip member.
    pub(in crate::codec) fn gzip(
        &mut self,
        level: u8,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize> {
        let deflate = self.deflate(level)?;
        let room = grown(out, deflate.gzip_compress_bound(data.len()));
        let written = deflate.gzip_compress(data, room);
        written.map_err(|_| no_room("gzip"))
    }

    /// The same as one Zstandard frame that tells the size of its data.
    pub(in crate::codec) fn zstd(
        &mut self,
        level: i32,
        checksum: FrameChecksum,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize> {
        if self.zstd.is_none() {
            self.zstd = CCtx::try_create();
        }
        let context = self
            .zstd
            .as_mut()
            .ok_or_else(|| Error::Exhausted("no memory is left for a Zstandard encoder".into()))?;
        let checksum = matches!(checksum, FrameChecksum::Present);
        context
            .set_parameter(CParameter::CompressionLevel(level))
            .and_then(|_| context.set_parameter(CParameter::ChecksumFlag(checksum)))
            .and_then(|_| context.compress2(grown(out, compress_bound(data.len())), data))
            .map_err(|code| {
                let reason = zstd_safe::get_error_name(code);
                Error::Exhausted(format!("Zstandard cannot compress the data: {reason}"))
            })
    }

    /// The same as one LZ4 block without anything around it.
    pub(in crate::codec) fn lz4_block(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<usize> {
        self.lz4_block_at(0, data, out)
    }

    /// The same after its size.
    pub(in crate::codec) fn lz4(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<usize> {
        let size = i32::try_from(data.len()).map_err(|_| {
            Error::Invalid(format!(
                "{} bytes are more than an LZ4 block can have",
                data.len()
            ))
        })?;
        let size = size.to_le_bytes();
        let written = self.lz4_block_at(size.len(), data, out)?;
        if let Some(place) = out.first_chunk_mut() {
            *place = size;
        }
        Ok(size.len() + written)
    }

    fn lz4_block_at(&mut self, start: usize, data: &[u8], out: &mut Vec<u8>) -> Result<usize> {
        let tables = self.lz4.get_or_insert_with(|| Tables {
            small: CompressTable::small(),
            large: CompressTable::large(),
        });
        let table = match data.len() < usize::from(u16::MAX) {
            true => &mut tables.small,
            false => &mut tables.large,
        };
        let room = grown(out, start + get_maximum_output_size(data.len()));
        let (_, room) = room.split_at_mut(start);
        compress_into_with_table(data, room, table).map_err(|_| no_room("LZ4"))
    }

    fn deflate(&mut self, level: u8) -> Result<&mut Compressor> {
        if self.deflate.as_ref().is_none_or(|(made, _)| *made != level) {
            // Making one fills hundreds of kilobytes.
            let valid = CompressionLvl::new(i32::from(level));
            let valid = valid
                .map_err(|_| Error::Invalid(format!("DEFLATE has no compression level {level}")))?;
            self.deflate = Some((level, Compressor::new(valid)));
        }
        let (_, made) = self.deflate.as_mut().ok_or_else(|| no_room("DEFLATE"))?;
        Ok(made)
    }
}

impl Debug for Compressors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressors").finish_non_exhaustive()
    }
}

/// The first `length` bytes of a buffer that is kept, of which what they were does not matter.
pub(in crate::codec) fn grown(buffer: &mut Vec<u8>, length: usize) -> &mut [u8] {
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    buffer.get_mut(..length).unwrap_or_default()
}

/// The buffers are as large as the libraries ask for, so this is not met.
fn no_room(name: &str) -> Error {
    Error::Exhausted(format!("{name} finds too little room for its output"))
}
