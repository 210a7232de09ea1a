//! Slabs: the stored values of a hyperslab, in C order, before CF decoding; and the copying of cells into them.

use std::ops::Range;

use arrow::array::StringArray;
use arrow::buffer::Buffer;

use crate::array::dtype::ElementType;
use crate::array::hyperslab::IndexSet;
use crate::error::{Error, Result};

/// Stored values of some cells, in C order of their hyperslab.
#[derive(Clone, Debug)]
pub struct Slab {
    /// What one element is.
    pub element: ElementType,
    /// Number of cells.
    pub cells: usize,
    /// The values.
    pub data: SlabData,
}

/// The values of a [`Slab`].
#[derive(Clone, Debug)]
pub enum SlabData {
    /// Elements of a fixed size, one after another in native byte order; aligned to 64 bytes or to their own size.
    Fixed(Buffer),
    /// Elements of [`ElementType::Text`].
    Text(StringArray),
}

/// One run of cells along a dimension, in the source box and in the destination slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First index in the source.
    pub from: usize,
    /// First index in the destination.
    pub to: usize,
    /// Number of indices.
    pub length: usize,
}

/// What to copy of a box of cells (a chunk, or a block of one) into a slab: the runs of each dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crop(pub Vec<Vec<Run>>);

/// The chunks of `extent` indices each that a selection touches along one dimension, each with the runs of it that
/// are selected; destinations count selected indices from 0.
#[must_use]
pub fn runs_by_chunk(dim: &IndexSet, extent: u64) -> Vec<(u64, Vec<Run>)> {
    let mut chunks: Vec<(u64, Vec<Run>)> = Vec::new();
    let mut to = 0usize;
    for run in dim.runs() {
        let mut start = run.start;
        while start < run.end {
            let chunk = start / extent;
            let end = run.end.min((chunk + 1).saturating_mul(extent));
            let (Ok(from), Ok(length)) = (
                usize::try_from(start - chunk * extent),
                usize::try_from(end - start),
            ) else {
                return chunks;
            };
            let piece = Run { from, to, length };
            match chunks.last_mut() {
                Some((last, runs)) if *last == chunk => runs.push(piece),
                _ => chunks.push((chunk, vec![piece])),
            }
            to += length;
            start = end;
        }
    }
    chunks
}

impl Crop {
    /// All of a box of these extents, at its place.
    #[must_use]
    pub fn all(extents: &[usize]) -> Self {
        let run = |length: &usize| Run {
            from: 0,
            to: 0,
            length: *length,
        };
        Self(extents.iter().map(|length| vec![run(length)]).collect())
    }

    /// The part of this crop that lies in a smaller box within the source (one range a dimension, in source indices),
    /// with source indices counted from that box. `None` when nothing of it is selected.
    #[must_use]
    pub fn within(&self, place: &[Range<usize>]) -> Option<Self> {
        let mut crop = Vec::with_capacity(place.len());
        for (range, runs) in place.iter().zip(&self.0) {
            let inside: Vec<Run> = runs
                .iter()
                .filter_map(|run| {
                    let start = run.from.max(range.start);
                    let end = (run.from + run.length).min(range.end);
                    (start < end).then(|| Run {
                        from: start - range.start,
                        to: run.to + (start - run.from),
                        length: end - start,
                    })
                })
                .collect();
            if inside.is_empty() {
                return None;
            }
            crop.push(inside);
        }
        Some(Self(crop))
    }

    /// The source elements from the first to the last one that is selected, for a source with these strides.
    #[must_use]
    pub fn span(&self, strides: &[usize]) -> Range<usize> {
        let (mut first, mut last) = (0, 0);
        for (runs, stride) in self.0.iter().zip(strides) {
            if let (Some(low), Some(high)) = (runs.first(), runs.last()) {
                first += low.from * stride;
                last += (high.from + high.length - 1) * stride;
            }
        }
        first..last + 1
    }

    /// The same cells of a source that begins with the first selected one.
    #[must_use]
    pub fn shifted(&self) -> Self {
        let shift = |runs: &Vec<Run>| {
            let first = runs.first().map_or(0, |run| run.from);
            let shifted = runs.iter().map(|run| Run {
                from: run.from - first,
                ..*run
            });
            shifted.collect()
        };
        Self(self.0.iter().map(shift).collect())
    }

    /// The destination cells, if all cells of a source of this shape come to lie there one after another, in the same
    /// order; the destination has the strides `to`.
    #[must_use]
    pub fn in_one_piece(&self, source: &[usize], to: &[usize]) -> Option<Range<usize>> {
        let (mut start, mut cells) = (0, 1);
        for ((runs, extent), stride) in self.0.iter().zip(source).zip(to).rev() {
            let [run] = runs.as_slice() else {
                return None;
            };
            let follows = *stride == cells || *extent == 1;
            if run.from != 0 || run.length != *extent || !follows {
                return None;
            }
            start += run.to * stride;
            cells *= extent;
        }
        Some(start..start + cells)
    }
}

/// Strides, in elements, of a C-order box of this shape.
#[must_use]
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for at in (1..shape.len()).rev() {
        if let (Some(stride), Some(extent)) = (strides.get(at).copied(), shape.get(at))
            && let Some(slower) = strides.get_mut(at - 1)
        {
            *slower = stride.saturating_mul(*extent);
        }
    }
    strides
}

/// Copies the cells of `crop` from `source` (elements of `size` bytes, `from` strides) into `destination` (`to`
/// strides, C order).
///
/// # Errors
/// `Corrupt` when a run reaches beyond one of the buffers: the caller's shapes and buffers do not belong together.
pub fn copy_cells(
    source: &[u8],
    from: &[usize],
    destination: &mut [u8],
    to: &[usize],
    crop: &Crop,
    size: usize,
) -> Result<()> {
    each_row(from, to, crop, &mut |from_cell, to_cell, length, stride| {
        if stride == 1 {
            let bytes = source.get(from_cell * size..(from_cell + length) * size);
            let into = destination.get_mut(to_cell * size..(to_cell + length) * size);
            let (Some(bytes), Some(into)) = (bytes, into) else {
                return Err(outside());
            };
            into.copy_from_slice(bytes);
            return Ok(());
        }
        for cell in 0..length {
            let at = (from_cell + cell * stride) * size;
            let into = (to_cell + cell) * size;
            let (Some(bytes), Some(into)) = (
                source.get(at..at + size),
                destination.get_mut(into..into + size),
            ) else {
                return Err(outside());
            };
            into.copy_from_slice(bytes);
        }
        Ok(())
    })
}

/// Writes `element` into the cells of `crop` of a C-order `destination`; an empty element stands for zero bytes.
///
/// # Errors
/// `Corrupt` when a run reaches beyond the buffer.
pub fn fill_cells(
    element: &[u8],
    destination: &mut [u8],
    to: &[usize],
    crop: &Crop,
    size: usize,
) -> Result<()> {
    each_row(to, to, crop, &mut |_, to_cell, length, _| {
        let into = destination
            .get_mut(to_cell * size..(to_cell + length) * size)
            .ok_or_else(outside)?;
        if element.iter().all(|byte| *byte == 0) {
            into.fill(0);
        } else if let [byte] = element {
            into.fill(*byte);
        } else {
            for cell in into.chunks_exact_mut(size) {
                let n = size.min(element.len());
                cell[..n].copy_from_slice(&element[..n]);
                cell[n..].fill(0);
            }
        }
        Ok(())
    })
}

/// Calls `row(source cell, destination cell, length, source stride)` for each run of the fastest dimension of `crop`.
/// Dimensions that are contiguous on both sides are joined into one run first.
pub fn each_row(
    from: &[usize],
    to: &[usize],
    crop: &Crop,
    row: &mut dyn FnMut(usize, usize, usize, usize) -> Result<()>,
) -> Result<()> {
    let (from, to, runs) = join_contiguous(from, to, crop);
    let Some((last, outer)) = runs.split_last() else {
        return row(0, 0, 1, 1);
    };
    let stride = from.last().copied().unwrap_or(1);
    let to_stride = to.last().copied().unwrap_or(1);
    // An odometer over the indices of the outer dimensions: (run, position within the run).
    let mut at = vec![(0usize, 0usize); outer.len()];
    loop {
        let (mut source, mut destination) = (0, 0);
        for (((runs, (run, step)), from), to) in outer.iter().zip(&at).zip(&from).zip(&to) {
            if let Some(run) = runs.get(*run) {
                source += (run.from + step) * from;
                destination += (run.to + step) * to;
            }
        }
        for run in last {
            row(
                source + run.from * stride,
                destination + run.to * to_stride,
                run.length,
                stride,
            )?;
        }
        if !advance(outer.iter().map(Vec::as_slice), &mut at) {
            return Ok(());
        }
    }
}

/// Steps an odometer over the indices of some dimensions, each given by its runs; false at its end.
pub fn advance<'a>(
    dims: impl DoubleEndedIterator<Item = &'a [Run]> + ExactSizeIterator,
    at: &mut [(usize, usize)],
) -> bool {
    for (runs, (run, step)) in dims.zip(at.iter_mut()).rev() {
        *step += 1;
        if runs.get(*run).is_some_and(|run| *step < run.length) {
            return true;
        }
        *step = 0;
        *run += 1;
        if *run < runs.len() {
            return true;
        }
        *run = 0;
    }
    false
}

type Joined = (Vec<usize>, Vec<usize>, Vec<Vec<Run>>);

/// Joins a dimension with the next faster one where a run of whole rows is one run of bytes on both sides.
fn join_contiguous(from: &[usize], to: &[usize], crop: &Crop) -> Joined {
    let mut joined: Joined = (Vec::new(), Vec::new(), Vec::new());
    for ((from, to), runs) in from.iter().zip(to).zip(&crop.0).rev() {
        if let (Some(faster_from), Some(faster_to), Some([faster])) = (
            joined.0.last().copied(),
            joined.1.last().copied(),
            joined.2.last().map(Vec::as_slice),
        ) {
            let extent = faster.length;
            let whole = faster.from == 0
                && faster.to == 0
                && *from == extent * faster_from
                && *to == extent * faster_to
                && faster_to == 1
                && joined.2.len() == 1;
            if whole {
                let scaled = runs
                    .iter()
                    .map(|run| Run {
                        from: run.from * extent,
                        to: run.to * extent,
                        length: run.length * extent,
                    })
                    .collect();
                if let Some(last) = joined.2.last_mut() {
                    *last = scaled;
                }
                continue;
            }
        }
        joined.0.push(*from);
        joined.1.push(*to);
        joined.2.push(runs.clone());
    }
    joined.0.reverse();
    joined.1.reverse();
    joined.2.reverse();
    joined
}

fn outside() -> Error {
    Error::Corrupt("a chunk holds fewer cells than its shape says".into())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    /// The chunk at (2, 2) of a grid of 4×6 chunks; rows 5..11 and columns 12, 13, 16 of the array are selected.
    fn crop() -> Crop {
        let rows = runs_by_chunk(&IndexSet::range(5..11), 4);
        let columns = runs_by_chunk(
            &IndexSet::from_mask(12, [true, true, false, false, true]),
            6,
        );
        assert_eq!((rows[1].0, columns[0].0), (2, 2));
        Crop(vec![rows[1].1.clone(), columns[0].1.clone()])
    }

    #[test]
    fn a_block_takes_its_part_of_the_crop() {
        let block = crop().within(&[2..4, 3..6]).unwrap();
        assert_eq!(
            block.0[0],
            [Run {
                from: 0,
                to: 5,
                length: 1
            }]
        );
        assert_eq!(
            block.0[1],
            [Run {
                from: 1,
                to: 2,
                length: 1
            }]
        );
        assert!(crop().within(&[0..4, 2..4]).is_none());
        assert_eq!(block.span(&[3, 1]), 1..2);
        assert_eq!(crop().span(&[6, 1]), 0..17);
    }

    #[test]
    fn cells_land_where_the_selection_has_them() {
        let source: Vec<u8> = (0..24).collect();
        let mut destination = vec![99; 6 * 3];
        copy_cells(&source, &[6, 1], &mut destination, &[3, 1], &crop(), 1).unwrap();
        assert_eq!(&destination[..9], &[99; 9]);
        assert_eq!(&destination[9..], &[0, 1, 4, 6, 7, 10, 12, 13, 16]);
    }

    #[test]
    fn permuted_sources_are_gathered_by_stride() {
        // The same box stored in Fortran order.
        let mut source = vec![0u8; 24];
        for row in 0..4u8 {
            for column in 0..6u8 {
                source[usize::from(column) * 4 + usize::from(row)] = row * 6 + column;
            }
        }
        let mut destination = vec![99; 6 * 3];
        copy_cells(&source, &[1, 4], &mut destination, &[3, 1], &crop(), 1).unwrap();
        assert_eq!(&destination[9..], &[0, 1, 4, 6, 7, 10, 12, 13, 16]);
    }

    #[test]
    fn whole_boxes_are_one_run() {
        let whole = |length| runs_by_chunk(&IndexSet::all(length), length)[0].1.clone();
        let crop = Crop(vec![whole(2), whole(3), whole(4)]);
        let mut rows = Vec::new();
        each_row(&[12, 4, 1], &[12, 4, 1], &crop, &mut |a, b, n, s| {
            rows.push((a, b, n, s));
            Ok(())
        })
        .unwrap();
        assert_eq!(rows, [(0, 0, 24, 1)]);
    }

    #[test]
    fn boxes_of_the_slowest_dimension_stay_in_one_piece() {
        let rows = runs_by_chunk(&IndexSet::range(1..7), 2);
        let columns = runs_by_chunk(&IndexSet::all(3), 3)[0].1.clone();
        let crop = |chunk: usize| Crop(vec![rows[chunk].1.clone(), columns.clone()]);
        // The first chunk is selected in part.
        assert_eq!(crop(0).in_one_piece(&[2, 3], &[3, 1]), None);
        assert_eq!(crop(1).in_one_piece(&[2, 3], &[3, 1]), Some(3..9));
        assert_eq!(crop(2).in_one_piece(&[2, 3], &[3, 1]), Some(9..15));
        // Between its rows there are others.
        assert_eq!(crop(1).in_one_piece(&[2, 3], &[5, 1]), None);
        assert_eq!(crop(1).in_one_piece(&[2, 4], &[3, 1]), None);
        assert_eq!(Crop(Vec::new()).in_one_piece(&[], &[]), Some(0..1));
    }

    #[test]
    fn a_short_source_is_an_error() {
        let mut destination = vec![0; 18];
        assert!(copy_cells(&[0; 5], &[6, 1], &mut destination, &[3, 1], &crop(), 1).is_err());
    }

    #[test]
    fn fill_values_of_every_size() {
        let mut destination = vec![9; 18 * 2];
        fill_cells(&[1, 2], &mut destination, &[3, 1], &crop(), 2).unwrap();
        assert_eq!(&destination[18..24], &[1, 2, 1, 2, 1, 2]);
        fill_cells(&[], &mut destination, &[3, 1], &crop(), 2).unwrap();
        assert_eq!(&destination[18..24], &[0; 6]);
    }
}
