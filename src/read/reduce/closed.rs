//! Reductions of values that depend on few axes: every other axis only repeats them, so no cell is visited.

use crate::array::hyperslab::Selection;
use crate::error::{Error, Result};
use crate::read::reduce::kernels::Lane;
use crate::read::reduce::labels::{Labels, NONE};

/// Values on the selected cells of some axes.
#[derive(Clone, Debug)]
pub struct Plane {
    /// The axes, in increasing order.
    pub axes: Vec<usize>,
    /// One value for each selected cell of these axes, in C order; `None` where there is none.
    pub values: Vec<Option<f64>>,
}

/// What the values of a [`Plane`] add up to in each group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Number of values.
    pub count: Vec<u64>,
    /// Their sum.
    pub sum: Vec<f64>,
    /// The least.
    pub min: Vec<f64>,
    /// The greatest.
    pub max: Vec<f64>,
    /// Their mean.
    pub mean: Vec<f64>,
    /// The sum of squared differences from the mean.
    pub m2: Vec<f64>,
}

/// Totals of one cell of the table over the components that share an axis with the plane.
#[derive(Clone, Copy, Debug)]
struct Total {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    mean: f64,
    m2: f64,
}

const NOTHING: Total = Total {
    count: 0,
    sum: 0.0,
    min: f64::INFINITY,
    max: f64::NEG_INFINITY,
    mean: 0.0,
    m2: 0.0,
};

/// The axes that a reduction of a plane has to go over: its own, and those of the components that share one with it.
#[must_use]
pub fn axes(plane: &[usize], labels: &Labels) -> Vec<usize> {
    let mut axes = plane.to_vec();
    for component in &labels.components {
        if component.axes.iter().any(|axis| plane.contains(axis)) {
            axes.extend(&component.axes);
        }
    }
    axes.sort_unstable();
    axes.dedup();
    axes
}

/// Reduces a plane over `selection` in the groups of `labels`.
///
/// # Errors
/// `Invalid` when plane and selection do not fit each other.
pub fn totals(plane: &Plane, labels: &Labels, selection: &Selection) -> Result<Totals> {
    let wide = axes(&plane.axes, labels);
    let count_of = |axis: &usize| {
        let count = selection.dims.get(*axis).map_or(0, |dim| dim.count());
        usize::try_from(count).unwrap_or(usize::MAX)
    };
    let counts: Vec<usize> = wide.iter().map(count_of).collect();
    let cells = counts
        .iter()
        .fold(1usize, |n, count| n.saturating_mul(*count));
    let shared: Vec<bool> = labels
        .components
        .iter()
        .map(|component| component.axes.iter().any(|axis| plane.axes.contains(axis)))
        .collect();
    let table: usize = labels
        .components
        .iter()
        .zip(&shared)
        .filter(|(_, shared)| **shared)
        .map(|(component, _)| component.groups)
        .product();
    let mut totals = vec![NOTHING; table];
    let mut at = vec![0usize; wide.len()];
    let number = |axes: &[usize], at: &[usize]| {
        axes.iter().fold(0usize, |number, axis| {
            let place = wide.binary_search(axis).unwrap_or(usize::MAX);
            number * count_of(axis) + at.get(place).copied().unwrap_or(0)
        })
    };
    for _ in 0..cells {
        let value = plane
            .values
            .get(number(&plane.axes, &at))
            .ok_or_else(|| Error::Invalid("a plane has fewer values than cells".into()))?;
        let mut slot = Some(0usize);
        for (component, shared) in labels.components.iter().zip(&shared) {
            if *shared {
                let label = component.labels.get(number(&component.axes, &at));
                slot = match (slot, label) {
                    (Some(slot), Some(label)) if *label != NONE => {
                        Some(slot * component.groups + *label as usize)
                    }
                    _ => None,
                };
            }
        }
        if let (Some(value), Some(total)) = (value, slot.and_then(|slot| totals.get_mut(slot))) {
            total.add(*value);
        }
        for (at, count) in at.iter_mut().zip(&counts).rev() {
            *at += 1;
            if *at < *count {
                break;
            }
            *at = 0;
        }
    }
    Ok(spread(&totals, &shared, &wide, labels, selection))
}

/// The totals of every group: those of the table, as often as the other axes repeat them.
fn spread(
    totals: &[Total],
    shared: &[bool],
    wide: &[usize],
    labels: &Labels,
    selection: &Selection,
) -> Totals {
    let others: Vec<Vec<u64>> = labels.components.iter().map(|c| c.cells()).collect();
    let free = selection
        .dims
        .iter()
        .enumerate()
        .filter(|(axis, _)| {
            let labelled = labels.components.iter().any(|c| c.axes.contains(axis));
            !labelled && !wide.contains(axis)
        })
        .fold(1u64, |free, (_, dim)| free.saturating_mul(dim.count()));
    let strides = labels.strides();
    let mut spread = Totals::default();
    for group in 0..labels.groups() {
        let mut slot = 0;
        let mut times = free;
        for ((component, stride), (shared, cells)) in labels
            .components
            .iter()
            .zip(&strides)
            .zip(shared.iter().zip(&others))
        {
            let label = group / stride % component.groups.max(1);
            if *shared {
                slot = slot * component.groups + label;
            } else {
                times = times.saturating_mul(cells.get(label).copied().unwrap_or(0));
            }
        }
        let total = totals.get(slot).copied().unwrap_or(NOTHING);
        let total = if times == 0 { NOTHING } else { total };
        let factor = times.to_f64();
        spread.count.push(total.count.saturating_mul(times));
        spread.sum.push(if total.count == 0 {
            0.0
        } else {
            total.sum * factor
        });
        spread.min.push(total.min);
        spread.max.push(total.max);
        spread.mean.push(total.mean);
        spread.m2.push(total.m2 * factor);
    }
    spread
}

impl Total {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        // Total order: NaN is the greatest, as the engine has it.
        if value.total_cmp(&self.min).is_lt() || self.count == 1 {
            self.min = value;
        }
        if value.total_cmp(&self.max).is_gt() || self.count == 1 {
            self.max = value;
        }
        let delta = value - self.mean;
        self.mean += delta / self.count.to_f64();
        self.m2 += delta * (value - self.mean);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::array::hyperslab::IndexSet;
    use crate::read::reduce::labels::Component;

    /// A grid of 2 × 3 × 4 cells; groups by parity of the last axis, and by the first; a mask over the middle one.
    #[test]
    fn planes_are_repeated_along_the_other_axes() {
        let selection = Selection {
            dims: vec![IndexSet::all(2), IndexSet::all(3), IndexSet::all(4)],
        };
        let component = |axes: Vec<usize>, labels: Vec<u32>, groups| Component {
            axes,
            labels: labels.into(),
            groups,
        };
        let labels = Labels {
            components: vec![
                component(vec![0], vec![0, 1], 2),
                component(vec![1], vec![0, NONE, 0], 1),
                component(vec![2], vec![0, 1, 0, 1], 2),
            ],
        };
        let plane = Plane {
            axes: vec![1, 2],
            values: (0..12).map(|i| (i != 8).then_some(f64::from(i))).collect(),
        };
        let totals = totals(&plane, &labels, &selection).unwrap();
        // Rows 0 and 2 of the plane, even columns: 0, 2, 10 (8 is missing); odd columns: 1, 3, 9, 11.
        assert_eq!(totals.count, [3, 4, 3, 4]);
        assert_eq!(totals.sum, [12.0, 24.0, 12.0, 24.0]);
        assert_eq!((totals.min[0], totals.max[1]), (0.0, 11.0));
        assert_eq!(totals.mean[1], 6.0);
        assert!((totals.m2[1] - (25.0 + 9.0 + 9.0 + 25.0)).abs() < 1e-12);
        let whole = Labels::default();
        let totals = super::totals(&plane, &whole, &selection).unwrap();
        assert_eq!((totals.count[0], totals.sum[0]), (22, 116.0));
    }
}
