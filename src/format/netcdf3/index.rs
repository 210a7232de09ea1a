//! Chunk addresses: from chunk numbers to places in a netCDF-3 file.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::array::chunk::{ChunkAddress, ChunkGrid, ChunkIndex};
use crate::array::contiguous::{Contiguous, pieces};
use crate::error::{Error, Result, Within};
use crate::store::Store;

/// The chunk index of one variable.
///
/// Each record is contiguous, and is cut as such; what lies in one piece all in all counts as one record.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) store: Store,
    /// Bytes of the file.
    pub(super) length: u64,
    /// What errors call the variable.
    pub(super) name: String,
    /// First byte of the first record.
    pub(super) begin: u64,
    /// Bytes from one record to the next.
    pub(super) stride: u64,
    pub(super) record: Contiguous,
    /// Bytes of an element.
    pub(super) width: u32,
    pub(super) object: Arc<str>,
}

/// The chunks of a variable whose records are apart, and the grid of one record.
///
/// # Errors
/// As [`ChunkGrid::new`].
pub(super) fn apart(shape: &[u64], width: u32) -> Result<(ChunkGrid, ChunkGrid)> {
    let inner = shape.get(1..).unwrap_or_default();
    let piece = pieces(inner, width.into());
    let chunk = [&[1], piece.as_slice()].concat();
    Ok((
        ChunkGrid::new(shape.to_vec(), chunk)?,
        ChunkGrid::new(inner.to_vec(), piece)?,
    ))
}

#[async_trait]
impl ChunkIndex for Records {
    async fn locate(&self, chunks: &[u64]) -> Result<Vec<ChunkAddress>> {
        let mut addresses = Vec::with_capacity(chunks.len());
        for number in chunks {
            addresses.push(self.address(*number).await.within(|| &self.name)?);
        }
        Ok(addresses)
    }
}

impl Records {
    async fn address(&self, number: u64) -> Result<ChunkAddress> {
        let outside = || Error::Corrupt("its data is outside the file".into());
        let chunks = self.record.chunks().max(1);
        let span = self.record.span(number % chunks).ok_or_else(outside)?;
        let offset = (number / chunks)
            .checked_mul(self.stride)
            .and_then(|offset| offset.checked_add(self.begin)?.checked_add(span.offset))
            .ok_or_else(outside)?;
        if let Some(address) = span.address(&self.object, offset, self.length)? {
            return Ok(address);
        }
        let (used, whole) = span.sizes()?;
        let mut bytes = self.store.range("", offset, used).await?.to_vec();
        bytes.resize(whole, 0);
        for element in bytes.chunks_exact_mut(self.width.max(1) as usize) {
            element.reverse();
        }
        Ok(ChunkAddress::Inline(Bytes::from(bytes)))
    }
}
