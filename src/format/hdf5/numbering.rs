//! Chunk numbers: the chunk grid of a dataset as index structures count it.

use crate::error::{Error, Result};

/// The chunk grid as index structures see it.
#[derive(Debug)]
pub(super) struct Numbering {
    /// Cells along each dimension of a chunk, without the dimensions within an element.
    pub(super) chunk: Vec<u64>,
    /// Chunks along each dimension.
    pub(super) counts: Vec<u64>,
    /// Extent of the dataset as stored: the grid is longer where a netCDF dimension is.
    pub(super) extent: Vec<u64>,
    /// How far each dimension can grow.
    pub(super) most: Vec<Option<u64>>,
    /// Bytes of a decoded chunk.
    pub(super) bytes: u64,
}

impl Numbering {
    /// Number of chunks.
    pub(super) fn len(&self) -> u64 {
        self.counts.iter().product()
    }

    /// The smallest number of a chunk that is not before `coord` (in chunks) in C order.
    pub(super) fn first_from(&self, coord: impl Iterator<Item = u64>) -> u64 {
        let mut number = 0u64;
        let mut beyond = false;
        for (at, count) in coord.zip(&self.counts) {
            let within = if beyond { 0 } else { at };
            if within >= *count {
                // Past the end of this dimension: the next step of the one above.
                beyond = true;
                number = number.saturating_add(1).saturating_mul(*count);
            } else {
                number = number.saturating_mul(*count).saturating_add(within);
            }
        }
        number.min(self.len())
    }

    /// The number of the chunk at `coord` (in chunks), if it is in the grid.
    pub(super) fn number(&self, coord: impl Iterator<Item = u64>) -> Option<u64> {
        coord
            .zip(&self.counts)
            .try_fold(0u64, |number, (at, count)| {
                (at < *count).then(|| number * count + at)
            })
    }

    /// Puts the place, in chunks, of the chunk called `number` into `coord`.
    pub(super) fn coord(&self, number: u64, coord: &mut Vec<u64>) {
        coord.clear();
        coord.resize(self.counts.len(), 0);
        let mut rest = number;
        for (at, count) in coord.iter_mut().zip(&self.counts).rev() {
            *at = rest % count;
            rest /= count;
        }
    }

    /// For each of `chunks` its number in an array of chunks and its position in `chunks`, sorted. Such numbers count
    /// over the largest extent, with dimension `first` slowest; chunks beyond it are left out.
    ///
    /// # Errors
    /// `Corrupt` when there are more chunks than can be counted.
    pub(super) fn elements(
        &self,
        chunks: &[u64],
        first: Option<usize>,
    ) -> Result<Vec<(u64, usize)>> {
        let counting = Counting::new(self, first)?;
        let mut coord = Vec::new();
        let mut elements = Vec::with_capacity(chunks.len());
        for (position, number) in chunks.iter().enumerate() {
            self.coord(*number, &mut coord);
            if let Some(element) = counting.element(&coord)? {
                elements.push((element, position));
            }
        }
        if !elements.is_sorted() {
            elements.sort_unstable();
        }
        Ok(elements)
    }

    /// Whether the chunk reaches beyond the stored extent.
    pub(super) fn is_partial(&self, number: u64, coord: &mut Vec<u64>) -> bool {
        self.coord(number, coord);
        coord
            .iter()
            .zip(&self.chunk)
            .zip(&self.extent)
            .any(|((at, chunk), extent)| (at + 1).saturating_mul(*chunk) > *extent)
    }
}

/// How chunks are counted in an array of chunks: over the largest extent.
#[derive(Debug)]
pub(super) struct Counting {
    steps: Vec<u64>,
    limits: Vec<u64>,
}

impl Counting {
    /// The counting with dimension `first` slowest.
    ///
    /// # Errors
    /// `Corrupt` when there are more chunks than can be counted.
    pub(super) fn new(numbering: &Numbering, first: Option<usize>) -> Result<Self> {
        let limit = |(most, chunk): (&Option<u64>, &u64)| match most {
            Some(most) => most.div_ceil(*chunk),
            None => u64::MAX,
        };
        let limits: Vec<u64> = numbering
            .most
            .iter()
            .zip(&numbering.chunk)
            .map(limit)
            .collect();
        let mut steps = vec![0u64; numbering.chunk.len()];
        let mut step = 1u64;
        let slow_last = (0..steps.len()).rev().filter(|d| Some(*d) != first);
        for dimension in slow_last.chain(first) {
            let (Some(to), Some(limit)) = (steps.get_mut(dimension), limits.get(dimension)) else {
                return Err(too_many());
            };
            *to = step;
            if Some(dimension) != first {
                step = step.checked_mul(*limit).ok_or_else(too_many)?;
            }
        }
        Ok(Self { steps, limits })
    }

    /// The number of the chunk at `coord`; `None` beyond the largest extent.
    ///
    /// # Errors
    /// `Corrupt` when it cannot be counted so far.
    pub(super) fn element(&self, coord: &[u64]) -> Result<Option<u64>> {
        let mut element = 0u64;
        let mut inside = true;
        for (d, at) in coord.iter().enumerate() {
            let part = self.steps.get(d).and_then(|step| at.checked_mul(*step));
            element = part
                .and_then(|part| element.checked_add(part))
                .ok_or_else(too_many)?;
            inside &= self.limits.get(d).is_none_or(|limit| at < limit);
        }
        Ok(inside.then_some(element))
    }
}

fn too_many() -> Error {
    Error::Corrupt("its chunk index is damaged: it has too many chunks".into())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// 3 × 4 chunks, the second dimension can grow.
    fn numbering() -> Numbering {
        Numbering {
            chunk: vec![2, 5],
            counts: vec![3, 4],
            extent: vec![5, 20],
            most: vec![Some(9), None],
            bytes: 10,
        }
    }

    #[test]
    fn keys_beyond_the_grid_stand_for_the_next_chunk_within() {
        let first = |coord: [u64; 2]| numbering().first_from(coord.into_iter());
        assert_eq!(first([1, 2]), 6);
        assert_eq!(first([1, 4]), 8);
        assert_eq!(first([2, 9]), 12);
        assert_eq!(first([3, 0]), 12);
        assert_eq!(first([u64::MAX, u64::MAX]), 12);
    }

    #[test]
    fn arrays_of_chunks_count_along_the_growing_dimension_last() {
        // 5 chunks along the first dimension at most: chunk (1, 2) is element 2 · 5 + 1.
        let elements = numbering().elements(&[6, 0], Some(1)).unwrap();
        assert_eq!(elements, [(0, 1), (11, 0)]);
        assert!(numbering().elements(&[6], None).is_err());
    }

    #[test]
    fn chunks_at_the_upper_edge_are_partial() {
        let coord = &mut Vec::new();
        assert!(!numbering().is_partial(7, coord));
        assert!(numbering().is_partial(8, coord));
    }
}
