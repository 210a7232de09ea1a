//! Regions: boxes of cells that are written, and the pieces of a variable that they are cut into.

use std::sync::Arc;

use futures::{Stream, StreamExt, stream};

use crate::array::slab::{Crop, Run, copy_cells, fill_cells, strides};
use crate::codec::encode::EncodeScratch;
use crate::error::{Error, Result, Within};

/// Cells of one variable, in a box.
#[derive(Clone, Debug)]
pub struct Region {
    /// Path of the variable.
    pub variable: String,
    /// First index of each dimension.
    pub start: Vec<u64>,
    /// Number of indices of each dimension.
    pub shape: Vec<u64>,
    /// Stored elements in C order.
    pub cells: Vec<u8>,
    /// Whether readers of the dataset as it is may see the region.
    pub old: OldCells,
}

/// What a region holds where there were cells before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldCells {
    /// The same values, so that readers may see it at once.
    Kept,
    /// Other values.
    Changed,
}

impl Region {
    /// The places, in pieces of `extent`, of all pieces that the region touches, in C order.
    #[must_use]
    pub fn pieces(&self, extent: &[u64]) -> Vec<Vec<u64>> {
        let mut pieces: Vec<Vec<u64>> = vec![Vec::new()];
        for (axis, extent) in extent.iter().enumerate() {
            let (start, count) = self.bounds(axis);
            let extent = (*extent).max(1);
            let places = match count {
                0 => 0..0,
                _ => start / extent..start.saturating_add(count).div_ceil(extent),
            };
            pieces = pieces
                .iter()
                .flat_map(|before| {
                    places.clone().map(move |at| {
                        let mut coord = before.clone();
                        coord.push(at);
                        coord
                    })
                })
                .collect();
        }
        pieces
    }

    /// The stored bytes of each piece of `extent` that the region touches, by its place, in C order; `encode` makes them
    /// of the region and the place of a piece, several at a time.
    ///
    /// # Errors
    /// What `encode` says, within the variable.
    pub fn encoded<F>(
        self: Arc<Self>,
        extent: &[u64],
        encode: F,
    ) -> impl Stream<Item = Result<(Vec<u64>, Vec<u8>)>> + Send + use<F>
    where
        F: Fn(&Self, &[u64], &mut EncodeScratch) -> Result<Vec<u8>> + Send + Sync + 'static,
    {
        let encode = Arc::new(encode);
        stream::iter(self.pieces(extent))
            .map(move |coord| {
                let (region, encode) = (Arc::clone(&self), Arc::clone(&encode));
                async move {
                    let work = move || {
                        let bytes = encode(&region, &coord, &mut EncodeScratch::default());
                        Ok((coord, bytes.within(|| &region.variable)?))
                    };
                    tokio::task::spawn_blocking(work)
                        .await
                        .map_err(|e| Error::io("a chunk cannot be encoded", e))?
                }
            })
            .buffered(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// The cells (elements of `size` bytes) of the whole piece at `coord`, in C order; what the region does not have of it
    /// is filled with `fill`, or zero bytes if that is empty.
    ///
    /// # Errors
    /// `Exhausted` when a piece does not fit memory.
    pub fn piece(
        &self,
        coord: &[u64],
        extent: &[u64],
        size: usize,
        fill: &[u8],
    ) -> Result<Vec<u8>> {
        let shape = extents(&self.shape)?;
        let mut runs = Vec::with_capacity(coord.len());
        let mut whole = true;
        for (axis, (at, extent)) in coord.iter().zip(extent).enumerate() {
            let (start, count) = self.bounds(axis);
            let first = (at * extent).max(start);
            let last = ((at + 1) * extent).min(start + count);
            let run = [
                first - start,
                first - at * extent,
                last.saturating_sub(first),
            ];
            let [from, to, length] = extents(&run)?[..] else {
                continue;
            };
            whole &= length as u64 == *extent;
            runs.push(vec![Run { from, to, length }]);
        }
        let extent = extents(extent)?;
        let bytes = extent
            .iter()
            .try_fold(size, |bytes, extent| bytes.checked_mul(*extent))
            .ok_or_else(|| too_large(&extent))?;
        let mut piece = vec![0; bytes];
        let to = strides(&extent);
        if !whole && fill.iter().any(|byte| *byte != 0) {
            fill_cells(fill, &mut piece, &to, &Crop::all(&extent), size)?;
        }
        copy_cells(
            &self.cells,
            &strides(&shape),
            &mut piece,
            &to,
            &Crop(runs),
            size,
        )?;
        Ok(piece)
    }

    /// First index of a dimension, and number of indices.
    fn bounds(&self, axis: usize) -> (u64, u64) {
        let of = |extents: &[u64]| extents.get(axis).copied().unwrap_or(0);
        (of(&self.start), of(&self.shape))
    }
}

/// Extents as sizes of memory.
fn extents(shape: &[u64]) -> Result<Vec<usize>> {
    shape
        .iter()
        .map(|extent| usize::try_from(*extent))
        .collect::<Result<_, _>>()
        .map_err(|_| too_large(shape))
}

fn too_large(shape: &(impl std::fmt::Debug + ?Sized)) -> Error {
    Error::Exhausted(format!("chunks of {shape:?} cells do not fit memory"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn pieces_take_their_part_of_a_region_and_the_fill_value() {
        // Cells 20 … 25 at rows 1 and 2, columns 1 … 3, in pieces of 2 × 2.
        let region = Region {
            variable: "v".to_owned(),
            start: vec![1, 1],
            shape: vec![2, 3],
            cells: (20..26).collect(),
            old: OldCells::Kept,
        };
        let extent = [2, 2];
        let pieces = region.pieces(&extent);
        assert_eq!(pieces, [[0, 0], [0, 1], [1, 0], [1, 1]]);
        let cells = |coord: &[u64]| region.piece(coord, &extent, 1, &[9]).unwrap();
        assert_eq!(cells(&[0, 0]), [9, 9, 9, 20]);
        assert_eq!(cells(&[0, 1]), [9, 9, 21, 22]);
        assert_eq!(cells(&[1, 0]), [9, 23, 9, 9]);
        assert_eq!(cells(&[1, 1]), [24, 25, 9, 9]);
    }

    #[test]
    fn an_empty_region_touches_nothing() {
        let region = Region {
            variable: "v".to_owned(),
            start: vec![3, 0],
            shape: vec![0, 4],
            cells: Vec::new(),
            old: OldCells::Kept,
        };
        assert_eq!(region.pieces(&[2, 2]), Vec::<Vec<u64>>::new());
    }
}
