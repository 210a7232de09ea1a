//! Alignments: where the cells of a grid are found in a variable that has dimensions of its own.
//!
//! ```text
//! grid      time 0 1 2 3 4 …            lat 0 1 2 …
//! link      month 0 0 0 … 1 1 …         the same index
//! variable  clim(month, lat)            read: the own indices that occur; gather: one own cell a cell of the grid
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, MutableArrayData, UInt32Array, UInt64Array, make_array};
use arrow::compute::take;
use datafusion::common::Result;

use crate::array::hyperslab::{IndexSet, Selection};
use crate::query::engine_error;
use crate::read::batch::Rows;

/// Stands for no index: the cell of the grid has no partner.
pub const NONE: u64 = u64::MAX;

/// Shortest run of cells that is copied as one.
const RUN: usize = 16;

/// Where along one dimension of a variable the cells of a grid are found.
#[derive(Clone, Debug)]
pub struct Link {
    /// The dimensions of the grid that decide.
    pub axes: Vec<usize>,
    /// Their lengths.
    pub lengths: Vec<u64>,
    /// The index, or [`NONE`], for every cell of these dimensions in C order; `None` when it is the index of the grid.
    pub map: Option<Arc<[u64]>>,
}

/// Where the cells of a grid are found in a variable.
#[derive(Clone, Debug)]
pub struct Alignment {
    /// One link for each dimension of the variable, and more that only tell whether there is a partner.
    links: Vec<Link>,
    /// Number of dimensions of the variable.
    rank: usize,
    /// The dimensions of the grid that take part, in increasing order.
    axes: Vec<usize>,
}

impl Link {
    /// The same index as dimension `axis` of the grid.
    #[must_use]
    pub fn same(axis: usize, length: u64) -> Self {
        Self {
            axes: vec![axis],
            lengths: vec![length],
            map: None,
        }
    }

    /// The index, or [`NONE`], for every selected cell of its dimensions, in C order.
    #[must_use]
    pub fn indices(&self, of: &Selection) -> Vec<u64> {
        let mut cells = vec![0u64];
        for (axis, length) in self.axes.iter().zip(&self.lengths) {
            let Some(set) = of.dims.get(*axis) else {
                return Vec::new();
            };
            cells = cells
                .iter()
                .flat_map(|cell| set.iter().map(move |index| cell * length + index))
                .collect();
        }
        if let Some(map) = &self.map {
            for cell in &mut cells {
                *cell = usize::try_from(*cell)
                    .ok()
                    .and_then(|cell| map.get(cell).copied())
                    .unwrap_or(NONE);
            }
        }
        cells
    }

    /// The indices that occur.
    fn own(&self, of: &Selection) -> IndexSet {
        if let (None, [axis]) = (&self.map, self.axes.as_slice()) {
            return of.dims.get(*axis).cloned().unwrap_or_default();
        }
        let mut indices = self.indices(of);
        indices.retain(|index| *index != NONE);
        if !indices.is_sorted() {
            indices.sort_unstable();
        }
        IndexSet::from_sorted(indices)
    }

    /// The single dimension of the grid that decides, if the index grows with its index and nothing is left out.
    fn grows_with(&self, of: &Selection) -> Option<usize> {
        let [axis] = self.axes.as_slice() else {
            return None;
        };
        if self.map.is_some() {
            let indices = self.indices(of);
            let grows = indices.windows(2).all(|pair| pair[0] < pair[1]);
            if !grows || indices.last() == Some(&NONE) {
                return None;
            }
        }
        Some(*axis)
    }

    /// How far `extent` own indices reach along the single dimension of the grid that decides, if they lie one after
    /// another there.
    fn reach(&self, extent: u64) -> Option<(usize, u64)> {
        let [axis] = self.axes.as_slice() else {
            return None;
        };
        let Some(map) = &self.map else {
            return Some((*axis, extent));
        };
        let (mut first, mut last) = (None, None);
        let (mut up, mut down) = (true, true);
        for (index, own) in (0u64..).zip(map.iter()).filter(|(_, own)| **own != NONE) {
            if let Some((_, before)) = last {
                up &= before < *own;
                down &= before > *own;
            }
            first = first.or(Some((index, *own)));
            last = Some((index, *own));
        }
        let ((first, own_first), (last, own_last)) = (first?, last?);
        if !up && !down {
            return None;
        }
        let own = u128::from(own_first.abs_diff(own_last)) + 1;
        let reach = u128::from(extent) * (u128::from(last - first) + 1) / own;
        Some((*axis, u64::try_from(reach).unwrap_or(u64::MAX).max(1)))
    }
}

impl Alignment {
    /// The alignment of a variable of `rank` dimensions: a link for each of them, then those that only tell whether
    /// there is a partner.
    #[must_use]
    pub fn new(links: Vec<Link>, rank: usize) -> Self {
        let mut axes: Vec<usize> = links.iter().flat_map(|link| link.axes.clone()).collect();
        axes.sort_unstable();
        axes.dedup();
        Self { links, rank, axes }
    }

    /// The dimensions of the grid that take part, in increasing order.
    #[must_use]
    pub fn axes(&self) -> &[usize] {
        &self.axes
    }

    /// Number of dimensions of the variable.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The links.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The cells of the variable that a selection of the grid needs.
    #[must_use]
    pub fn own(&self, of: &Selection) -> Selection {
        let own = self.links.iter().take(self.rank);
        Selection {
            dims: own.map(|link| link.own(of)).collect(),
        }
    }

    /// Whether the own cells of a selection are one for one, and in the same order, those of its dimensions.
    #[must_use]
    pub fn is_straight(&self, of: &Selection) -> bool {
        self.links.len() == self.rank
            && self
                .links
                .iter()
                .map(|link| link.grows_with(of))
                .eq(self.axes.iter().map(|axis| Some(*axis)))
    }

    /// See [`crate::query::grid::VariableColumn::extents`].
    #[must_use]
    pub fn extents(&self, chunk: &[u64]) -> Vec<(usize, u64)> {
        self.links
            .iter()
            .zip(chunk)
            .filter_map(|(link, extent)| link.reach(*extent))
            .collect()
    }

    /// For every cell of a selection of the grid (C order of [`Alignment::axes`]) the value of its partner, or NULL:
    /// `values` holds those of the cells `own` of the variable.
    ///
    /// # Errors
    /// When the selection has too many cells, or the values cannot be gathered (of an unusual type).
    pub fn gather(&self, own: &Selection, values: &ArrayRef, of: &Selection) -> Result<ArrayRef> {
        let mut stride = 1usize;
        let mut strides = vec![0usize; self.links.len()];
        for (at, set) in own.dims.iter().enumerate().rev() {
            if let Some(slot) = strides.get_mut(at) {
                *slot = stride;
            }
            stride = stride.saturating_mul(count(set));
        }
        let places: Vec<Vec<Option<usize>>> = self
            .links
            .iter()
            .enumerate()
            .map(|(at, link)| match own.dims.get(at) {
                Some(set) => ranks(set, &link.indices(of)),
                None => {
                    let indices = link.indices(of);
                    let present = indices.iter().map(|index| (*index != NONE).then_some(0));
                    present.collect()
                }
            })
            .collect();
        let (outer, first, run) = self.runs(own, &places);
        let starts = self.starts(outer, &places, &strides, of)?;
        if run < RUN {
            let starts = starts.iter().flat_map(|start| {
                (0..run).map(move |at| start.map(|start| (first + start + at) as u64))
            });
            let positions: UInt64Array = starts.collect();
            return Ok(take(values, &positions, None)?);
        }
        let data = values.to_data();
        let holes = starts.iter().any(Option::is_none);
        let mut gathered = MutableArrayData::new(vec![&data], holes, starts.len() * run);
        let mut copy = |(start, length): (Option<usize>, usize)| match start {
            Some(start) => gathered.try_extend(0, first + start, first + start + length),
            None => gathered.try_extend_nulls(length),
        };
        let mut pending: Option<(Option<usize>, usize)> = None;
        for start in starts {
            pending = Some(match pending {
                Some((Some(from), length)) if start == Some(from + length) => {
                    (Some(from), length + run)
                }
                Some((None, length)) if start.is_none() => (None, length + run),
                Some(done) => {
                    copy(done)?;
                    (start, run)
                }
                None => (start, run),
            });
        }
        pending.map_or(Ok(()), copy)?;
        Ok(make_array(gathered.freeze()))
    }

    /// The fastest dimensions along which own cells lie as those of the grid do: how many dimensions are left, where
    /// in the others' cells a run starts, and how long it is.
    fn runs(&self, own: &Selection, places: &[Vec<Option<usize>>]) -> (usize, usize, usize) {
        let (mut outer, mut first, mut run) = (self.axes.len(), 0, 1);
        let links = self.links.iter().zip(places).take(self.rank);
        for ((link, places), set) in links.rev().zip(own.dims.iter().rev()) {
            let axis = outer.checked_sub(1).and_then(|at| self.axes.get(at));
            let alone = axis.is_some_and(|axis| {
                link.axes == [*axis] && {
                    let users = self.links.iter().filter(|other| other.axes.contains(axis));
                    users.count() == 1
                }
            });
            let Some(Some(start)) = places.first().filter(|_| alone) else {
                break;
            };
            if !places
                .iter()
                .copied()
                .eq((*start..).take(places.len()).map(Some))
            {
                break;
            }
            outer -= 1;
            first += start * run;
            run *= places.len();
            if places.len() != count(set) {
                break;
            }
        }
        (outer, first, run)
    }

    /// For every cell of the first `outer` dimensions, where in the own cells it starts.
    fn starts(
        &self,
        outer: usize,
        places: &[Vec<Option<usize>>],
        strides: &[usize],
        of: &Selection,
    ) -> Result<Vec<Option<usize>>> {
        let axes = self.axes.get(..outer).unwrap_or_default();
        let dims = axes
            .iter()
            .map(|axis| of.dims.get(*axis).cloned().unwrap_or_default());
        let selection = Selection {
            dims: dims.collect(),
        };
        let rows = Rows::new(&selection).map_err(engine_error)?;
        let mut starts = vec![Some(0usize); rows.len()];
        for ((link, places), stride) in self.links.iter().zip(places).zip(strides) {
            let local: Option<Vec<usize>> = link
                .axes
                .iter()
                .map(|axis| axes.iter().position(|other| other == axis))
                .collect();
            // A link of the dimensions that a run covers.
            let Some(local) = local else { continue };
            let cells: UInt32Array = rows.positions(&local, 0..rows.len());
            for (start, cell) in starts.iter_mut().zip(cells.values()) {
                let place = places.get(*cell as usize).copied().flatten();
                *start = match (*start, place) {
                    (Some(start), Some(place)) => Some(start + place * stride),
                    _ => None,
                };
            }
        }
        Ok(starts)
    }
}

/// The place of each index in a set.
#[must_use]
pub fn ranks(set: &IndexSet, indices: &[u64]) -> Vec<Option<usize>> {
    let mut before = Vec::with_capacity(set.runs().len());
    let mut all = 0u64;
    for run in set.runs() {
        before.push(all);
        all += run.end - run.start;
    }
    let mut at = 0usize;
    indices
        .iter()
        .map(|index| {
            let holds = |at: usize| set.runs().get(at).is_some_and(|run| run.contains(index));
            if !holds(at) {
                at = set.runs().partition_point(|run| run.end <= *index);
            }
            let (run, before) = (set.runs().get(at)?, before.get(at)?);
            let place = before + index.checked_sub(run.start)?;
            holds(at).then_some(usize::try_from(place).ok()?)
        })
        .collect()
}

fn count(set: &IndexSet) -> usize {
    usize::try_from(set.count()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use arrow::array::{AsArray, Int32Array};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn link(axes: &[usize], lengths: &[u64], map: &[u64]) -> Link {
        Link {
            axes: axes.to_vec(),
            lengths: lengths.to_vec(),
            map: Some(map.into()),
        }
    }

    /// Gathers cell numbers and compares them with a step a cell.
    fn check(links: Vec<Link>, own_shape: &[u64], of: &Selection) -> ArrayRef {
        let alignment = Alignment::new(links, own_shape.len());
        let own = alignment.own(of);
        let mut numbers = vec![0i32];
        for (set, length) in own.dims.iter().zip(own_shape) {
            numbers = numbers
                .iter()
                .flat_map(|number| {
                    set.iter().map(move |index| {
                        number * i32::try_from(*length).unwrap() + i32::try_from(index).unwrap()
                    })
                })
                .collect();
        }
        let values: ArrayRef = Arc::new(Int32Array::from(numbers));
        let got = alignment.gather(&own, &values, of).unwrap();
        if alignment.is_straight(of) {
            assert_eq!(&got, &values);
        }
        got
    }

    #[test]
    fn months_of_days_find_their_climatology() {
        let of = Selection {
            dims: vec![IndexSet::range(1..5), IndexSet::all(20)],
        };
        let months = link(&[0], &[6], &[0, 0, 1, 1, 2, 0]);
        let got = check(vec![months, Link::same(1, 20)], &[3, 20], &of);
        let want: Vec<i32> = [0, 1, 1, 2]
            .iter()
            .flat_map(|month| (0..20).map(move |x| month * 20 + x))
            .collect();
        assert_eq!(got.as_primitive::<Int32Type>().values(), &want);
    }

    #[test]
    fn reversed_and_absent_indices_are_gathered() {
        let of = Selection {
            dims: vec![IndexSet::all(2), IndexSet::all(3)],
        };
        let reversed = link(&[1], &[3], &[2, 1, NONE]);
        let got = check(vec![Link::same(0, 2), reversed], &[2, 3], &of);
        let want = Int32Array::from(vec![Some(2), Some(1), None, Some(5), Some(4), None]);
        assert_eq!(got.as_primitive::<Int32Type>(), &want);
    }

    #[test]
    fn an_index_may_follow_from_two_dimensions() {
        let of = Selection {
            dims: vec![IndexSet::all(2), IndexSet::range(0..2)],
        };
        let valid = link(&[0, 1], &[2, 3], &[0, 1, 2, 1, 2, 3]);
        let got = check(vec![valid], &[4], &of);
        assert_eq!(got.as_primitive::<Int32Type>().values(), &[0, 1, 1, 2]);
    }

    #[test]
    fn a_link_that_is_no_dimension_takes_values_away() {
        let of = Selection {
            dims: vec![IndexSet::all(2), IndexSet::all(20)],
        };
        let absent = link(&[0], &[2], &[NONE, 0]);
        let got = check(vec![Link::same(1, 20), absent], &[20], &of);
        assert_eq!(got.null_count(), 20);
        assert!(got.is_null(0) && got.is_valid(20));
    }

    #[test]
    fn places_in_a_set_with_holes() {
        let set = IndexSet::from_sorted([2, 3, 7, 9]);
        let got = ranks(&set, &[9, 2, 4, NONE, 7]);
        assert_eq!(got, [Some(3), Some(0), None, None, Some(2)]);
    }
}
