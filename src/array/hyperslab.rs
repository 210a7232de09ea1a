//! Hyperslabs: which indices of each dimension are selected.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A set of indices along one dimension, as sorted runs that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Runs")]
pub struct IndexSet {
    runs: Vec<Range<u64>>,
}

/// An [`IndexSet`] as it comes from outside.
#[derive(Deserialize)]
struct Runs {
    runs: Vec<Range<u64>>,
}

impl TryFrom<Runs> for IndexSet {
    type Error = Error;

    fn try_from(Runs { runs }: Runs) -> Result<Self> {
        let apart = runs
            .iter()
            .zip(runs.iter().skip(1))
            .all(|(run, next)| run.end < next.start);
        if !apart || runs.iter().any(Range::is_empty) {
            return Err(Error::Invalid(
                "runs of indices are empty, touch, or are not in order".into(),
            ));
        }
        Ok(Self { runs })
    }
}

impl IndexSet {
    /// All indices of a dimension of length `length`.
    #[must_use]
    pub fn all(length: u64) -> Self {
        Self::range(0..length)
    }

    /// The indices of one range.
    #[must_use]
    pub fn range(range: Range<u64>) -> Self {
        Self {
            runs: if range.is_empty() {
                Vec::new()
            } else {
                vec![range]
            },
        }
    }

    /// The indices at which `selected` is true, the first of them being index `first`.
    #[must_use]
    pub fn from_mask(first: u64, selected: impl IntoIterator<Item = bool>) -> Self {
        let mut set = Self::default();
        for (index, selected) in (first..).zip(selected) {
            if selected {
                set.push(index);
            }
        }
        set
    }

    /// The indices of a sequence that never decreases; one that repeats counts once.
    #[must_use]
    pub fn from_sorted(indices: impl IntoIterator<Item = u64>) -> Self {
        let mut set = Self::default();
        for index in indices {
            if set.last().is_none_or(|last| last < index) {
                set.push(index);
            }
        }
        set
    }

    /// Every `step`-th index from `start` up to, not including, `stop`.
    #[must_use]
    pub fn strided(start: u64, stop: u64, step: u64) -> Self {
        if step <= 1 {
            return Self::range(start..stop);
        }
        let mut set = Self::default();
        let mut index = start;
        while index < stop {
            set.push(index);
            let Some(next) = index.checked_add(step) else {
                break;
            };
            index = next;
        }
        set
    }

    /// Adds an index that is larger than every index of the set.
    fn push(&mut self, index: u64) {
        match self.runs.last_mut() {
            Some(run) if run.end == index => run.end += 1,
            _ => self.runs.push(index..index + 1),
        }
    }

    /// The runs, in increasing order.
    #[must_use]
    pub fn runs(&self) -> &[Range<u64>] {
        &self.runs
    }

    /// Number of indices.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    /// Whether no index is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The smallest index.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.runs.first().map(|run| run.start)
    }

    /// The largest index.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.runs.last().map(|run| run.end - 1)
    }

    /// The indices, in increasing order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.runs.iter().cloned().flatten()
    }

    /// The indices that are in both sets. Costs one step a run.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.runs.iter().peekable(), other.runs.iter().peekable());
        let mut runs = Vec::new();
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let (start, end) = (a.start.max(b.start), a.end.min(b.end));
            if start < end {
                runs.push(start..end);
            }
            if a.end < b.end {
                left.next();
            } else {
                right.next();
            }
        }
        Self { runs }
    }

    /// The indices at some positions of the set.
    #[must_use]
    pub fn at(&self, positions: &Range<u64>) -> Self {
        let mut before = 0;
        let here = |run: &Range<u64>| {
            let length = run.end - run.start;
            let from = positions.start.saturating_sub(before).min(length);
            let to = positions.end.saturating_sub(before).min(length);
            before += length;
            (from < to).then(|| run.start + from..run.start + to)
        };
        Self {
            runs: self.runs.iter().filter_map(here).collect(),
        }
    }

    /// The indices within `range`. Costs a binary search and one step a run of the answer.
    #[must_use]
    pub fn clip(&self, range: &Range<u64>) -> Self {
        let from = self.runs.partition_point(|run| run.end <= range.start);
        Self {
            runs: self
                .runs
                .iter()
                .skip(from)
                .take_while(|run| run.start < range.end)
                .map(|run| run.start.max(range.start)..run.end.min(range.end))
                .collect(),
        }
    }

    /// The indices within `range`, counted from its start.
    #[must_use]
    pub fn within(&self, range: &Range<u64>) -> Self {
        let mut inside = self.clip(range);
        for run in &mut inside.runs {
            *run = run.start - range.start..run.end - range.start;
        }
        inside
    }

    /// The indices, each larger by `by`.
    #[must_use]
    pub fn shifted(mut self, by: u64) -> Self {
        for run in &mut self.runs {
            *run = run.start.saturating_add(by)..run.end.saturating_add(by);
        }
        self
    }

    /// The indices for which `keep`, one flag an index of this set, is true.
    #[must_use]
    pub fn filter(&self, keep: &[bool]) -> Self {
        let mut set = Self::default();
        for (index, _) in self.iter().zip(keep).filter(|(_, keep)| **keep) {
            set.push(index);
        }
        set
    }

    /// The blocks of `extent` indices each (block `k` holds `k*extent..(k+1)*extent`) that hold a selected index,
    /// in increasing order. Costs one step a run plus one a block of the answer.
    #[must_use]
    pub fn blocks(&self, extent: u64) -> Self {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for run in &self.runs {
            let (start, end) = (run.start / extent, run.end.div_ceil(extent));
            match runs.last_mut() {
                Some(last) if last.end >= start => last.end = last.end.max(end),
                _ => runs.push(start..end),
            }
        }
        Self { runs }
    }
}

/// A hyperslab of an n-dimensional grid: the cells whose index along every dimension is selected there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The selected indices, one set a dimension.
    pub dims: Vec<IndexSet>,
}

impl Selection {
    /// Every cell of a grid.
    #[must_use]
    pub fn all(shape: &[u64]) -> Self {
        Self {
            dims: shape.iter().map(|length| IndexSet::all(*length)).collect(),
        }
    }

    /// Number of selected cells.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.dims
            .iter()
            .fold(1, |cells, dim| cells.saturating_mul(dim.count()))
    }

    /// Whether no cell is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dims.iter().any(IndexSet::is_empty)
    }
}

/// One entry of NumPy basic indexing: `3`, `2:10`, `::3`, `-5:`, or `...` in a list of them.
///
/// The selection that `text`, a comma-separated list of such entries, makes of a grid of shape `shape`. Dimensions
/// that the list does not reach are selected whole. An integer selects one index (the dimension stays).
///
/// # Errors
/// `Invalid` when an entry cannot be parsed, an integer index is out of range, a step is not positive, or there are
/// more entries than dimensions.
pub fn parse_slices(text: &str, shape: &[u64]) -> Result<Selection> {
    let entries: Vec<&str> = text
        .trim()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .split(',')
        .map(str::trim)
        .collect();
    let entries = if entries == [""] { Vec::new() } else { entries };
    let named = entries.iter().filter(|entry| **entry != "...").count();
    if named > shape.len() || entries.len() - named > 1 {
        return Err(Error::Invalid(format!(
            "slices '{text}' have {named} entries for an array of {} dimensions",
            shape.len()
        )));
    }
    let mut dims = Vec::with_capacity(shape.len());
    for entry in &entries {
        if *entry == "..." {
            for length in shape.iter().skip(dims.len()).take(shape.len() - named) {
                dims.push(IndexSet::all(*length));
            }
        } else if let Some(length) = shape.get(dims.len()) {
            dims.push(parse_slice(entry, *length)?);
        }
    }
    for length in shape.iter().skip(dims.len()) {
        dims.push(IndexSet::all(*length));
    }
    Ok(Selection { dims })
}

fn parse_slice(entry: &str, length: u64) -> Result<IndexSet> {
    let number = |text: &str| {
        text.trim().parse::<i128>().map_err(|_| {
            Error::Invalid(format!(
                "'{entry}' is not an index or a slice like 2:10, ::3 or -5:"
            ))
        })
    };
    let size = i128::from(length);
    let resolve = |value: i128| if value < 0 { value + size } else { value };
    let index = |value: i128| u64::try_from(value.clamp(0, size)).unwrap_or(0);
    let parts: Vec<&str> = entry.split(':').map(str::trim).collect();
    let bound = |at: usize, default: i128| match parts.get(at) {
        None | Some(&"") => Ok(default),
        Some(part) => number(part).map(resolve),
    };
    match parts.len() {
        1 => {
            let at = resolve(number(entry)?);
            if at < 0 || at >= size {
                return Err(Error::Invalid(format!(
                    "index {entry} is out of range for a dimension of length {length}"
                )));
            }
            Ok(IndexSet::range(index(at)..index(at) + 1))
        }
        2 | 3 => {
            let (start, stop) = (bound(0, 0)?, bound(1, size)?);
            let step = match parts.get(2) {
                None | Some(&"") => 1,
                Some(part) => number(part)?,
            };
            if step <= 0 {
                return Err(Error::Invalid(format!(
                    "slice '{entry}' has step {step}; rows have no direction, so the step must be positive"
                )));
            }
            let step = u64::try_from(step).unwrap_or(u64::MAX);
            Ok(IndexSet::strided(index(start), index(stop), step))
        }
        _ => Err(Error::Invalid(format!(
            "'{entry}' is not an index or a slice like 2:10, ::3 or -5:"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn indices(text: &str, length: u64) -> Vec<u64> {
        parse_slices(text, &[length]).unwrap().dims[0]
            .iter()
            .collect()
    }

    #[test]
    fn slices_select_what_numpy_selects() {
        // numpy.arange(10)[…]
        assert_eq!(indices("0:2", 10), [0, 1]);
        assert_eq!(indices("::3", 10), [0, 3, 6, 9]);
        assert_eq!(indices("-3:", 10), [7, 8, 9]);
        assert_eq!(indices(":-8", 10), [0, 1]);
        assert_eq!(indices("2:100:4", 10), [2, 6]);
        assert_eq!(indices("-1", 10), [9]);
        assert!(indices("5:2", 10).is_empty());
        assert!(indices("20:", 10).is_empty());
    }

    #[test]
    fn an_ellipsis_stands_for_whole_dimensions() {
        let slices = parse_slices("1, ..., 0:2", &[3, 4, 5]).unwrap();
        assert_eq!(slices.dims[0].iter().collect::<Vec<_>>(), [1]);
        assert_eq!(slices.dims[1].count(), 4);
        assert_eq!(slices.dims[2].count(), 2);
    }

    #[test]
    fn wrong_slices_are_named() {
        for text in ["x", "1:2:0", "10", "1,2", "1:2:3:4", "::-1", "...,..."] {
            assert!(parse_slices(text, &[10]).is_err(), "{text}");
        }
    }

    #[test]
    fn sets_intersect_and_clip_by_runs() {
        let threes = IndexSet::strided(0, 100, 3);
        let middle = IndexSet::range(10..20);
        let both = threes.intersect(&middle);
        assert_eq!(both.iter().collect::<Vec<_>>(), [12, 15, 18]);
        assert_eq!(threes.clip(&(10..20)), both);
        assert_eq!(both.blocks(8).iter().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(threes.blocks(10).count(), 10);
    }
}
