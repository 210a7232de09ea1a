//! Dense accumulators: one slot a group for every quantity that the aggregates of a variable need.

use std::sync::Arc;

use bytemuck::PodCastError;

use crate::array::slab::Crop;
use crate::error::{Error, Result};
use crate::read::decode::Sink;
use crate::read::reduce::kernels::{self, Accept, Lane};
use crate::read::reduce::walk::{Collapse, Groups, Piece, Walk};

/// Cells that several kernels go over one after another: they stay in the first-level cache.
const BLOCK: usize = 4096;

/// Which quantities are accumulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Quantities {
    /// Sum in double precision.
    pub(super) sum: bool,
    /// Sum of integers, exact up to wrapping.
    pub(super) exact: bool,
    /// Least value.
    pub(super) min: bool,
    /// Greatest value.
    pub(super) max: bool,
    /// Mean and sum of squared differences from it.
    pub(super) moments: bool,
    /// Which values count is decided by the data: they are counted one by one.
    pub(super) selective: bool,
}

/// Weights on some axes, in C order of their selected cells.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    pub(super) axes: Vec<usize>,
    /// Number of selected indices of each of them.
    pub(super) counts: Vec<usize>,
    pub(super) values: Arc<[f64]>,
}

/// What has been accumulated for each group.
#[derive(Debug)]
pub(super) struct Dense<T> {
    pub(super) quantities: Quantities,
    accept: Accept<T>,
    weights: Vec<Weights>,
    pub(super) slots: Slots<T>,
    /// A row that is not contiguous or not aligned in its source.
    row: Vec<T>,
}

/// The accumulators; those that are not needed are empty.
#[derive(Debug)]
pub(super) struct Slots<T> {
    /// Values that count, or, if the data does not decide, values that do not.
    pub(super) counts: Vec<u64>,
    pub(super) sum: Vec<f64>,
    pub(super) exact: Vec<i64>,
    pub(super) min: Vec<T>,
    pub(super) max: Vec<T>,
    pub(super) moments: Moments,
    /// One list for each weight.
    pub(super) weighted: Vec<Vec<f64>>,
}

/// Count, mean, and sum of squared differences from the mean.
#[derive(Debug, Default)]
pub(super) struct Moments {
    pub(super) count: Vec<u64>,
    pub(super) mean: Vec<f64>,
    pub(super) m2: Vec<f64>,
}

/// A walk that feeds accumulators: what a decoded chunk is handed to.
pub(super) struct Feed<'a, T> {
    pub(super) walk: &'a Walk,
    pub(super) dense: &'a mut Dense<T>,
}

/// Bytes that the accumulators of a group take, for elements of `size` bytes.
pub(super) fn bytes_per_group(quantities: Quantities, weights: usize, size: usize) -> usize {
    let of = |needed: bool, bytes: usize| if needed { bytes } else { 0 };
    8 + of(quantities.sum, 8)
        + of(quantities.exact, 8)
        + of(quantities.min, size)
        + of(quantities.max, size)
        + of(quantities.moments, 24)
        + 8 * weights
}

impl<T: Lane> Dense<T> {
    pub(super) fn new(
        groups: usize,
        quantities: Quantities,
        accept: Accept<T>,
        weights: Vec<Weights>,
    ) -> Self {
        let of = |needed: bool| if needed { groups } else { 0 };
        let rejects = accept != Accept::All || quantities.selective;
        let moments = of(quantities.moments);
        Self {
            slots: Slots {
                counts: vec![0; of(rejects)],
                sum: vec![0.0; of(quantities.sum)],
                exact: vec![0; of(quantities.exact)],
                min: vec![T::HIGHEST; of(quantities.min)],
                max: vec![T::LOWEST; of(quantities.max)],
                moments: Moments {
                    count: vec![0; moments],
                    mean: vec![0.0; moments],
                    m2: vec![0.0; moments],
                },
                weighted: weights.iter().map(|_| vec![0.0; groups]).collect(),
            },
            quantities,
            accept,
            weights,
            row: Vec::new(),
        }
    }

    /// Takes other weights for the cells that come, as many as before.
    pub(super) fn set_weights(&mut self, weights: Vec<Weights>) {
        self.weights = weights;
    }

    /// Adds what another accumulator of the same kind has seen.
    pub(super) fn merge(&mut self, other: &Self) {
        let (into, from) = (&mut self.slots, &other.slots);
        for (into, from) in into.counts.iter_mut().zip(&from.counts) {
            *into += from;
        }
        for (into, from) in into.sum.iter_mut().zip(&from.sum) {
            *into += from;
        }
        for (into, from) in into.exact.iter_mut().zip(&from.exact) {
            *into = into.wrapping_add(*from);
        }
        for (into, from) in into.min.iter_mut().zip(&from.min) {
            if *from < *into {
                *into = *from;
            }
        }
        for (into, from) in into.max.iter_mut().zip(&from.max) {
            if *from > *into {
                *into = *from;
            }
        }
        for (into, from) in into.weighted.iter_mut().zip(&from.weighted) {
            for (into, from) in into.iter_mut().zip(from) {
                *into += from;
            }
        }
        let from = &from.moments;
        for (group, count) in from.count.iter().enumerate() {
            let at = |values: &Vec<f64>| values.get(group).copied().unwrap_or_default();
            into.moments
                .add(group, (*count, at(&from.mean), at(&from.m2)));
        }
    }

    /// Takes a run of cells.
    fn take(&mut self, values: &[T], piece: &Piece<'_>, place: &[usize]) {
        let accept = self.accept;
        let wanted = self.quantities;
        match piece.groups {
            Groups::Same(group) => {
                for (at, block) in values.chunks(BLOCK).enumerate() {
                    self.same(block, group, place, piece.start + at * BLOCK);
                }
            }
            Groups::Consecutive(first) => {
                let range = first..first + values.len();
                let slots = &mut self.slots;
                let mut rejected = None;
                if let (true, Some(sum)) = (wanted.sum, slots.sum.get_mut(range.clone())) {
                    rejected = Some(kernels::add_cells(sum, values, accept));
                }
                if let (true, Some(exact)) = (wanted.exact, slots.exact.get_mut(range.clone())) {
                    rejected = Some(kernels::add_cells_exact(exact, values, accept));
                }
                if let (true, Some(min)) = (wanted.min, slots.min.get_mut(range.clone())) {
                    kernels::min_cells(min, values, accept);
                }
                if let (true, Some(max)) = (wanted.max, slots.max.get_mut(range.clone())) {
                    kernels::max_cells(max, values, accept);
                }
                if wanted.moments
                    && let (Some(count), Some(mean), Some(m2)) = (
                        slots.moments.count.get_mut(range.clone()),
                        slots.moments.mean.get_mut(range.clone()),
                        slots.moments.m2.get_mut(range.clone()),
                    )
                {
                    kernels::moments_cells(count, mean, m2, values, accept);
                }
                for (weights, sums) in self.weights.iter().zip(&mut slots.weighted) {
                    let Some(sums) = sums.get_mut(range.clone()) else {
                        continue;
                    };
                    match weights.row(place, piece.start, values.len()) {
                        Row::Same(weight) => {
                            kernels::add_scaled_cells(sums, values, weight, accept);
                        }
                        Row::Cells(weights) => {
                            kernels::add_weighted_cells(sums, values, weights, accept);
                        }
                    }
                }
                if let Some(counts) = slots.counts.get_mut(range) {
                    if wanted.selective {
                        kernels::count_cells(counts, values, accept);
                    } else if rejected != Some(0) {
                        kernels::reject_cells(counts, values, accept);
                    }
                }
            }
            Groups::Mixed { base, labels } => self.mixed(values, base, labels, piece, place),
        }
    }

    /// A run of cells of one group.
    fn same(&mut self, values: &[T], group: usize, place: &[usize], start: usize) {
        let accept = self.accept;
        let wanted = self.quantities;
        let slots = &mut self.slots;
        let mut counted = None;
        if wanted.moments {
            let (sum, count) = kernels::sum(values, accept);
            counted = Some(count);
            if count > 0 {
                let mean = sum / count.to_f64();
                let m2 = kernels::squares(values, accept, mean);
                slots.moments.add(group, (count, mean, m2));
            }
            if let Some(slot) = slots.sum.get_mut(group) {
                *slot += sum;
            }
        } else if let Some(slot) = slots.sum.get_mut(group) {
            let (sum, count) = kernels::sum(values, accept);
            counted = Some(count);
            *slot += sum;
        }
        if let Some(slot) = slots.exact.get_mut(group) {
            let (sum, count) = kernels::sum_exact(values, accept);
            counted = Some(count);
            *slot = slot.wrapping_add(sum);
        }
        if wanted.min || wanted.max {
            let (low, high) = kernels::extremes(values, accept);
            slots.extremes(group, low, high);
        }
        for (weights, sums) in self.weights.iter().zip(&mut slots.weighted) {
            let (sum, count) = match weights.row(place, start, values.len()) {
                Row::Same(weight) => {
                    let (sum, count) = kernels::sum(values, accept);
                    (if count > 0 { sum * weight } else { 0.0 }, count)
                }
                Row::Cells(weights) => kernels::dot(values, weights, accept),
            };
            counted = Some(count);
            if let Some(slot) = sums.get_mut(group) {
                *slot += sum;
            }
        }
        if let Some(slot) = slots.counts.get_mut(group) {
            let counted = counted.unwrap_or_else(|| kernels::count(values, accept));
            *slot += if wanted.selective {
                counted
            } else {
                values.len() as u64 - counted
            };
        }
    }

    /// A run of cells whose groups change often.
    fn mixed(
        &mut self,
        values: &[T],
        base: usize,
        labels: &[u32],
        piece: &Piece<'_>,
        place: &[usize],
    ) {
        let accept = self.accept;
        let wanted = self.quantities;
        let slots = &mut self.slots;
        if let (true, Some(sum)) = (wanted.sum, slots.sum.get_mut(base..)) {
            kernels::add_labels(sum, labels, values, accept);
        }
        if let (true, Some(exact)) = (wanted.exact, slots.exact.get_mut(base..)) {
            kernels::add_labels_exact(exact, labels, values, accept);
        }
        if let (true, Some(min)) = (wanted.min, slots.min.get_mut(base..)) {
            kernels::min_labels(min, labels, values, accept);
        }
        if let (true, Some(max)) = (wanted.max, slots.max.get_mut(base..)) {
            kernels::max_labels(max, labels, values, accept);
        }
        if wanted.moments
            && let (Some(count), Some(mean), Some(m2)) = (
                slots.moments.count.get_mut(base..),
                slots.moments.mean.get_mut(base..),
                slots.moments.m2.get_mut(base..),
            )
        {
            kernels::moments_labels(count, mean, m2, labels, values, accept);
        }
        for (weights, sums) in self.weights.iter().zip(&mut slots.weighted) {
            let Some(sums) = sums.get_mut(base..) else {
                continue;
            };
            let constant;
            let row = match weights.row(place, piece.start, values.len()) {
                Row::Cells(row) => row,
                Row::Same(weight) => {
                    constant = vec![weight; values.len()];
                    &constant
                }
            };
            kernels::add_weighted_labels(sums, labels, values, row, accept);
        }
        if let Some(counts) = slots.counts.get_mut(base..) {
            if wanted.selective {
                kernels::count_labels(counts, labels, values, accept);
            } else {
                kernels::reject_labels(counts, labels, values, accept);
            }
        }
    }

    /// A run of cells that all have the value `value`, each of them `times` times.
    fn constant(&mut self, value: T, piece: &Piece<'_>, place: &[usize]) {
        let accepted = self.accept.accepts(value);
        let number = value.to_f64();
        for cell in 0..piece.cells {
            let (group, cells) = match piece.groups {
                Groups::Same(group) => (group, piece.cells as u64),
                Groups::Consecutive(first) => (first + cell, 1),
                Groups::Mixed { base, labels } => match labels.get(cell) {
                    Some(label) if *label != u32::MAX => (base + *label as usize, 1),
                    _ => continue,
                },
            };
            let weight_of = |weights: &Weights| match weights.row(place, piece.start, piece.cells) {
                Row::Same(weight) => weight,
                Row::Cells(row) if cells > 1 => row.iter().sum::<f64>() / cells.to_f64(),
                Row::Cells(row) => row.get(cell).copied().unwrap_or_default(),
            };
            let times = cells.saturating_mul(piece.times);
            let slots = &mut self.slots;
            if accepted == self.quantities.selective
                && let Some(slot) = slots.counts.get_mut(group)
            {
                *slot += times;
            }
            if accepted {
                if let Some(slot) = slots.sum.get_mut(group) {
                    *slot += number * times.to_f64();
                }
                if let Some(slot) = slots.exact.get_mut(group) {
                    let times = i64::from_ne_bytes(times.to_ne_bytes());
                    *slot = slot.wrapping_add(value.to_i64().wrapping_mul(times));
                }
                slots.extremes(group, value, value);
                if self.quantities.moments {
                    slots.moments.add(group, (times, number, 0.0));
                }
                for (weights, sums) in self.weights.iter().zip(&mut slots.weighted) {
                    if let Some(slot) = sums.get_mut(group) {
                        *slot += number * weight_of(weights) * times.to_f64();
                    }
                }
            }
            if matches!(piece.groups, Groups::Same(_)) {
                return;
            }
        }
    }
}

impl<T: Lane> Slots<T> {
    fn extremes(&mut self, group: usize, low: T, high: T) {
        if let Some(slot) = self.min.get_mut(group)
            && low < *slot
        {
            *slot = low;
        }
        if let Some(slot) = self.max.get_mut(group)
            && high > *slot
        {
            *slot = high;
        }
    }
}

impl Moments {
    pub(super) fn add(&mut self, group: usize, more: (u64, f64, f64)) {
        if let (Some(count), Some(mean), Some(m2)) = (
            self.count.get_mut(group),
            self.mean.get_mut(group),
            self.m2.get_mut(group),
        ) {
            (*count, *mean, *m2) = kernels::merge_moments((*count, *mean, *m2), more);
        }
    }
}

/// The weights of a run of cells.
enum Row<'a> {
    Same(f64),
    Cells(&'a [f64]),
}

impl Weights {
    /// The weights of `cells` cells: `place` are positions along the slower axes, `start` is that along the fastest.
    fn row(&self, place: &[usize], start: usize, cells: usize) -> Row<'_> {
        let fastest = place.len().checked_sub(1);
        let along = self.axes.last().copied() == fastest && fastest.is_some();
        let mut number = 0;
        for (axis, count) in self.axes.iter().zip(&self.counts) {
            let at = if Some(*axis) == fastest {
                start
            } else {
                place.get(*axis).copied().unwrap_or(0)
            };
            number = number * count + at;
        }
        if along {
            Row::Cells(self.values.get(number..number + cells).unwrap_or_default())
        } else {
            Row::Same(self.values.get(number).copied().unwrap_or_default())
        }
    }
}

impl<T: Lane> Sink for Feed<'_, T> {
    fn target(&mut self, _: &Crop, _: &[usize]) -> Option<&mut [u8]> {
        None
    }

    fn cells(&mut self, cells: &[u8], strides: &[usize], crop: &Crop) -> Result<()> {
        let size = size_of::<T>();
        let span = crop.span(strides);
        if span
            .end
            .checked_mul(size)
            .is_none_or(|end| end > cells.len())
        {
            return Err(Error::Corrupt(
                "a chunk holds fewer cells than its shape says".into(),
            ));
        }
        let typed: Option<&[T]> = match bytemuck::try_cast_slice(trimmed::<T>(cells)) {
            Ok(typed) => Some(typed),
            Err(PodCastError::TargetAlignmentGreaterAndInputNotAligned) => None,
            Err(error) => return Err(Error::Corrupt(format!("a chunk has no numbers: {error}"))),
        };
        let stride = strides.last().copied().unwrap_or(1);
        let mut row = std::mem::take(&mut self.dense.row);
        let dense = &mut *self.dense;
        self.walk
            .visit(crop, strides, Collapse::Nothing, &mut |piece, place| {
                let straight = typed
                    .filter(|_| stride == 1)
                    .and_then(|typed| typed.get(piece.source..piece.source + piece.cells));
                if let Some(values) = straight {
                    dense.take(values, &piece, place);
                    return;
                }
                row.clear();
                row.extend((0..piece.cells).filter_map(|cell| {
                    let at = (piece.source + cell * stride) * size;
                    cells
                        .get(at..at + size)
                        .map(bytemuck::pod_read_unaligned::<T>)
                }));
                dense.take(&row, &piece, place);
            });
        self.dense.row = row;
        Ok(())
    }

    fn fill(&mut self, element: &[u8], crop: &Crop) -> Result<()> {
        let mut bytes = vec![0u8; size_of::<T>()];
        let length = bytes.len().min(element.len());
        for (byte, from) in bytes
            .iter_mut()
            .zip(element.get(..length).unwrap_or_default())
        {
            *byte = *from;
        }
        let value: T = bytemuck::pod_read_unaligned(&bytes);
        let strides = vec![0; crop.0.len()];
        let dense = &mut *self.dense;
        self.walk
            .visit(crop, &strides, Collapse::Unlabelled, &mut |piece, place| {
                dense.constant(value, &piece, place);
            });
        Ok(())
    }
}

/// Whole elements of a buffer that may end with padding.
fn trimmed<T>(cells: &[u8]) -> &[u8] {
    let length = cells.len() - cells.len() % size_of::<T>().max(1);
    cells.get(..length).unwrap_or_default()
}
