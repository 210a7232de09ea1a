//! Contiguous data: elements that follow one another in C order, cut into the chunks of a grid.

use std::sync::Arc;

use crate::array::chunk::{ChunkAddress, ChunkGrid};
use crate::error::{Error, Result};

/// Contiguous data is read in pieces of about this many bytes.
const PIECE: u64 = 512 * 1024;

/// Extents of pieces of an array of this `shape`, whose elements have `width` bytes, that are contiguous in C order:
/// whole along the last dimensions, 1 along the first.
#[must_use]
pub fn pieces(shape: &[u64], width: u64) -> Vec<u64> {
    let mut bytes = width.max(1);
    let mut piece = vec![1; shape.len()];
    for (extent, n) in piece.iter_mut().zip(shape).rev() {
        let whole = bytes.saturating_mul((*n).max(1));
        if whole <= PIECE {
            *extent = (*n).max(1);
            bytes = whole;
        } else {
            // Even pieces, so that the last one is nearly full.
            let count = whole.div_ceil(PIECE).min(*n);
            *extent = n.div_ceil(count);
            break;
        }
    }
    piece
}

/// Contiguous data, divided into the chunks of a grid; each of them is contiguous too.
#[derive(Clone, Debug)]
pub struct Contiguous {
    grid: ChunkGrid,
    width: u64,
}

/// The bytes of one chunk of contiguous data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte, counted from the start of the data.
    pub offset: u64,
    /// Bytes of the chunk that belong to the array.
    pub used: u64,
    /// Bytes of a chunk of full size: what follows those that are used belongs to something else.
    pub whole: u64,
}

impl Span {
    /// The address of the chunk if it begins at `offset` of a file called `object` of `length` bytes. `None` when a chunk of
    /// full size would reach beyond its end: then what is used has to be read, what is missing is beyond the array too.
    ///
    /// # Errors
    /// `Corrupt` when what is used is outside the file.
    pub fn address(
        &self,
        object: &Arc<str>,
        offset: u64,
        length: u64,
    ) -> Result<Option<ChunkAddress>> {
        let is_inside = |bytes: u64| offset.checked_add(bytes).is_some_and(|end| end <= length);
        if is_inside(self.whole) {
            return Ok(Some(ChunkAddress::Range {
                object: Arc::clone(object),
                offset,
                length: self.whole,
                skipped: 0,
            }));
        }
        if is_inside(self.used) {
            return Ok(None);
        }
        Err(outside())
    }

    /// The bytes that are used, and those of a chunk of full size, as sizes of memory.
    ///
    /// # Errors
    /// `Corrupt` when they are none.
    pub fn sizes(&self) -> Result<(usize, usize)> {
        let size = |bytes| usize::try_from(bytes).map_err(|_| outside());
        Ok((size(self.used)?, size(self.whole)?))
    }
}

fn outside() -> Error {
    Error::Corrupt("its data is outside the file".into())
}

impl Contiguous {
    /// Elements of `width` bytes; the chunks of `grid` are extents as [`pieces`] gives them.
    #[must_use]
    pub fn new(grid: ChunkGrid, width: u64) -> Self {
        Self { grid, width }
    }

    /// Number of chunks.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.grid.len()
    }

    /// Bytes up to the end of the last chunk, padded to full size; `None` when they do not fit 64 bits.
    #[must_use]
    pub fn padded(&self) -> Option<u64> {
        match self.chunks().checked_sub(1) {
            Some(last) => {
                let span = self.span(last)?;
                span.offset.checked_add(span.whole)
            }
            None => Some(0),
        }
    }

    /// The bytes of chunk `number`; `None` when there is no such chunk, or its place does not fit 64 bits.
    #[must_use]
    pub fn span(&self, number: u64) -> Option<Span> {
        if number >= self.chunks() {
            return None;
        }
        let mut first = 0u64;
        let mut used = 1u64;
        let coord = self.grid.coord(number);
        let sizes = coord.iter().zip(self.grid.chunk_shape());
        for ((at, chunk), n) in sizes.zip(self.grid.shape()) {
            let start = at.checked_mul(*chunk)?;
            first = first.checked_mul(*n)?.checked_add(start)?;
            used = used.checked_mul(n.checked_sub(start)?.min(*chunk))?;
        }
        Some(Span {
            offset: first.checked_mul(self.width)?,
            used: used.checked_mul(self.width)?,
            whole: self.grid.chunk_cells().checked_mul(self.width)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn pieces_are_whole_along_the_last_dimensions() {
        assert_eq!(pieces(&[], 8), Vec::<u64>::new());
        assert_eq!(pieces(&[0, 7], 8), [1, 7]);
        assert_eq!(pieces(&[100, 100], 8), [100, 100]);
        // 800,000 bytes: two pieces of half of it.
        assert_eq!(pieces(&[9, 100_000], 8), [1, 50_000]);
        assert_eq!(pieces(&[1000, 10, 1000], 4), [13, 10, 1000]);
    }

    #[test]
    fn the_last_chunk_is_used_in_part() {
        let grid = ChunkGrid::new(vec![7, 5], vec![3, 5]).unwrap();
        let data = Contiguous::new(grid, 4);
        let span = |offset, used| Span {
            offset,
            used,
            whole: 60,
        };
        assert_eq!(data.span(0), Some(span(0, 60)));
        assert_eq!(data.span(2), Some(span(120, 20)));
        assert_eq!((data.span(3), data.padded()), (None, Some(180)));
        let empty = ChunkGrid::new(vec![0, 5], vec![1, 5]).unwrap();
        let empty = Contiguous::new(empty, 4);
        assert_eq!((empty.span(0), empty.padded()), (None, Some(0)));
    }
}
