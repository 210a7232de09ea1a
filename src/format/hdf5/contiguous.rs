//! Contiguous data: one piece of the file, addressed as if it were chunks.

use std::sync::Arc;

use crate::array::chunk::{ChunkAddress, ChunkGrid};
use crate::array::contiguous;
use crate::error::{Error, Result};
use crate::format::hdf5::storage::File;

/// Contiguous data, divided into the chunks of a grid.
#[derive(Debug)]
pub(super) struct Contiguous {
    address: u64,
    data: contiguous::Contiguous,
    inside: bool,
}

impl Contiguous {
    /// Elements of `width` bytes at `address`. The chunks of `grid` are those of [`contiguous::pieces`].
    pub(super) fn new(file: &File, address: u64, grid: ChunkGrid, width: u64) -> Self {
        let data = contiguous::Contiguous::new(grid, width);
        let end = file
            .absolute(address)
            .ok()
            .and_then(|start| start.checked_add(data.padded()?));
        Self {
            inside: end.is_some_and(|end| end <= file.length()),
            address,
            data,
        }
    }

    /// Whether the last chunk, padded to full size, ends within the file: then nothing has to be read.
    pub(super) fn is_inside(&self) -> bool {
        self.inside
    }

    /// The address of chunk `number` of the file called `object`; bytes in the header are in the file's byte order.
    ///
    /// # Errors
    /// `Corrupt` when the chunk is outside the file, `Io` when the storage fails.
    pub(super) fn address(
        &self,
        file: &File,
        object: &Arc<str>,
        number: u64,
    ) -> Result<ChunkAddress> {
        let outside = || Error::Corrupt("its data is outside the file".into());
        let span = self.data.span(number).ok_or_else(outside)?;
        let start = span.offset.checked_add(self.address).ok_or_else(outside)?;
        let offset = file.absolute(start)?;
        if let Some(address) = span.address(object, offset, file.length())? {
            return Ok(address);
        }
        let (used, whole) = span.sizes()?;
        let mut bytes = file.read_absolute(offset, used)?.to_vec();
        bytes.resize(whole, 0);
        Ok(ChunkAddress::Inline(bytes.into()))
    }
}
