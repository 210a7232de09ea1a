//! Contiguous data: one piece of the file, addressed as if it were chunks.

use std::sync::Arc;

use crate::array::chunk::{ChunkAddress, ChunkGrid};
use crate::error::{Error, Result};
use crate::format::hdf5::storage::File;

/// Contiguous data, divided into the chunks of a grid; each of them is contiguous too.
#[derive(Debug)]
pub(super) struct Contiguous {
    address: u64,
    grid: ChunkGrid,
    width: u64,
    inside: bool,
}

impl Contiguous {
    /// Elements of `width` bytes at `address`. The chunks of `grid` are whole along the last dimensions, and 1 along
    /// the first.
    pub(super) fn new(file: &File, address: u64, grid: ChunkGrid, width: u64) -> Self {
        let mut cells = 0u64;
        let sizes = grid.counts().iter().zip(grid.chunk_shape());
        for ((count, chunk), n) in sizes.zip(grid.shape()) {
            let last = count.saturating_sub(1).saturating_mul(*chunk);
            cells = cells.saturating_mul(*n).saturating_add(last);
        }
        let cells = cells.saturating_add(grid.chunk_cells());
        let bytes = cells.saturating_mul(width);
        let start = file.absolute(address);
        Self {
            inside: start.is_ok_and(|start| start.saturating_add(bytes) <= file.length()),
            address,
            grid,
            width,
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
        let mut first = 0u64;
        let mut used = 1u64;
        let coord = self.grid.coord(number);
        let sizes = coord.iter().zip(self.grid.chunk_shape());
        for ((at, chunk), n) in sizes.zip(self.grid.shape()) {
            let start = at * chunk;
            first = first * n + start;
            used *= (n - start).min(*chunk);
        }
        let start = first
            .checked_mul(self.width)
            .and_then(|offset| offset.checked_add(self.address))
            .ok_or_else(outside)?;
        let offset = file.absolute(start)?;
        let ends_inside = |length: u64| {
            let end = offset.checked_add(length);
            end.is_some_and(|end| end <= file.length())
        };
        let whole = self.grid.chunk_cells().saturating_mul(self.width);
        if ends_inside(whole) {
            return Ok(ChunkAddress::Range {
                object: Arc::clone(object),
                offset,
                length: whole,
                skipped: 0,
            });
        }
        // The last chunk would reach beyond the end of the file: what is missing is beyond the array too.
        let used = used.saturating_mul(self.width);
        if !ends_inside(used) {
            return Err(outside());
        }
        let sizes = usize::try_from(used).and_then(|used| Ok((used, usize::try_from(whole)?)));
        let (used, whole) = sizes.map_err(|_| outside())?;
        let mut bytes = file.read_absolute(offset, used)?.to_vec();
        bytes.resize(whole, 0);
        Ok(ChunkAddress::Inline(bytes.into()))
    }
}
