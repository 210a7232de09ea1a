//! Labels: which group each selected cell belongs to, said once for every axis instead of once for every cell.
//!
//! ```text
//! GROUP BY month(time), lat        component (time): 0 0 … 1 1 …    12 groups, stride 192
//!                                  component (lat):  0 1 2 … 191    192 groups, stride 1
//! group of a cell = label(time) * 192 + label(lat)
//! ```

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::array::hyperslab::{IndexSet, Selection};
use crate::error::{Error, Result};

/// The label of cells that belong to no group: a mask excludes them.
pub const NONE: u32 = u32::MAX;

/// The groups of a selection: the product of those of its components, numbered in C order of the components.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Labels {
    /// Components over disjoint sets of axes, ordered by their last axis.
    pub components: Vec<Component>,
}

/// Labels of the cells of some axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// The axes, in increasing order.
    pub axes: Vec<usize>,
    /// One label for each selected cell of these axes in C order; [`NONE`] for cells in no group.
    pub labels: Arc<[u32]>,
    /// Number of groups; labels are below it.
    pub groups: usize,
}

impl Labels {
    /// Number of groups: 1 without components.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.components.iter().fold(1, |groups, component| {
            groups.saturating_mul(component.groups)
        })
    }

    /// What a step of one label of each component adds to the number of the group.
    #[must_use]
    pub fn strides(&self) -> Vec<usize> {
        let mut stride = 1usize;
        let mut strides: Vec<usize> = self
            .components
            .iter()
            .rev()
            .map(|component| {
                let here = stride;
                stride = stride.saturating_mul(component.groups);
                here
            })
            .collect();
        strides.reverse();
        strides
    }

    /// For every group, the number of cells of `selection` in it.
    #[must_use]
    pub fn cells(&self, selection: &Selection) -> Vec<u64> {
        let free: u64 = selection
            .dims
            .iter()
            .enumerate()
            .filter(|(axis, _)| !self.components.iter().any(|c| c.axes.contains(axis)))
            .fold(1, |cells, (_, dim)| cells.saturating_mul(dim.count()));
        let tables: Vec<Vec<u64>> = self.components.iter().map(Component::cells).collect();
        product(&tables, free)
    }

    /// The labels of those cells of `selection` whose positions along `axis` are `place`. The groups stay.
    #[must_use]
    pub fn part(&self, axis: usize, place: &Range<usize>, selection: &Selection) -> Self {
        let of = |component: &Component| Component {
            labels: part(&component.labels, &component.axes, axis, place, selection),
            ..component.clone()
        };
        Self {
            components: self.components.iter().map(of).collect(),
        }
    }

    /// Whether the labels fit `selection`: requests come from outside.
    ///
    /// # Errors
    /// `Invalid` when a component names an axis twice or one that is not there, or has a wrong number of labels.
    pub fn check(&self, selection: &Selection) -> Result<()> {
        let wrong = |what: &str| Err(Error::Invalid(format!("labels of a reduction {what}")));
        let mut seen = vec![false; selection.dims.len()];
        for component in &self.components {
            let mut cells = 1u64;
            if component.axes.windows(2).any(|pair| pair[0] >= pair[1]) {
                return wrong("do not name their axes in order");
            }
            for axis in &component.axes {
                match (seen.get_mut(*axis), selection.dims.get(*axis)) {
                    (Some(seen), Some(dim)) if !*seen => {
                        *seen = true;
                        cells = cells.saturating_mul(dim.count());
                    }
                    _ => return wrong("name an axis twice, or one that is not there"),
                }
            }
            if component.labels.len() as u64 != cells {
                return wrong("are not as many as there are cells");
            }
            let fits = |label: &u32| *label == NONE || (*label as usize) < component.groups;
            if !component.labels.iter().all(fits) {
                return wrong("are larger than their number of groups");
            }
        }
        if self.groups() > u32::MAX as usize {
            return Err(Error::Exhausted(format!(
                "{} groups are more than can be numbered",
                self.groups()
            )));
        }
        Ok(())
    }
}

impl Component {
    /// For every label, the number of cells that have it.
    #[must_use]
    pub fn cells(&self) -> Vec<u64> {
        let mut cells = vec![0; self.groups];
        for label in self.labels.iter() {
            if let Some(cells) = cells.get_mut(*label as usize) {
                *cells += 1;
            }
        }
        cells
    }
}

/// Of one value for each selected cell of `axes`, in C order, those of the cells whose positions along `axis` are `place`.
pub(super) fn part<T: Copy>(
    values: &Arc<[T]>,
    axes: &[usize],
    axis: usize,
    place: &Range<usize>,
    selection: &Selection,
) -> Arc<[T]> {
    let Some(at) = axes.iter().position(|own| *own == axis) else {
        return Arc::clone(values);
    };
    let count = |axis: &usize| {
        let count = selection.dims.get(*axis).map_or(0, IndexSet::count);
        usize::try_from(count).unwrap_or(usize::MAX)
    };
    let length = count(&axis);
    let inner: usize = axes.iter().skip(at + 1).map(count).product();
    let rows = values.chunks(length.saturating_mul(inner).max(1));
    rows.filter_map(|row| row.get(place.start * inner..place.end * inner))
        .flatten()
        .copied()
        .collect()
}

/// The outer product of `tables`, times `factor`.
fn product(tables: &[Vec<u64>], factor: u64) -> Vec<u64> {
    let mut all = vec![factor];
    for table in tables {
        all = all
            .iter()
            .flat_map(|left| table.iter().map(move |right| left.saturating_mul(*right)))
            .collect();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> (Selection, Labels) {
        let selection = Selection {
            dims: vec![IndexSet::all(2), IndexSet::range(4..7), IndexSet::all(5)],
        };
        let labels = Labels {
            components: vec![
                Component {
                    axes: vec![0],
                    labels: vec![1, 0].into(),
                    groups: 2,
                },
                Component {
                    axes: vec![1],
                    labels: vec![2, NONE, 2].into(),
                    groups: 3,
                },
            ],
        };
        (selection, labels)
    }

    #[test]
    fn groups_are_the_product_of_the_components() {
        let (selection, labels) = labels();
        assert!(labels.check(&selection).is_ok());
        assert_eq!((labels.groups(), labels.strides()), (6, vec![3, 1]));
        assert_eq!(labels.cells(&selection), [0, 0, 10, 0, 0, 10]);
        assert_eq!(Labels::default().cells(&selection), [30]);
    }

    #[test]
    fn a_part_has_the_labels_of_its_cells() {
        let (selection, mut labels) = labels();
        let place = 1..3;
        let own = |selection: &Selection| Selection {
            dims: vec![
                selection.dims[0].clone(),
                selection.dims[1].at(&(1..3)),
                selection.dims[2].clone(),
            ],
        };
        let part = labels.part(1, &place, &selection);
        assert_eq!(part.components[0], labels.components[0]);
        assert_eq!(*part.components[1].labels, [NONE, 2]);
        assert!(part.check(&own(&selection)).is_ok());
        labels.components = vec![Component {
            axes: vec![0, 1],
            labels: vec![0, 1, 2, 3, 4, 5].into(),
            groups: 6,
        }];
        let part = labels.part(1, &place, &selection);
        assert_eq!(*part.components[0].labels, [1, 2, 4, 5]);
        assert!(part.check(&own(&selection)).is_ok());
        let part = labels.part(0, &(1..2), &selection);
        assert_eq!(*part.components[0].labels, [3, 4, 5]);
    }

    #[test]
    fn labels_that_do_not_fit_are_refused() {
        let (selection, good) = labels();
        let with = |change: &dyn Fn(&mut Component)| {
            let mut labels = good.clone();
            change(&mut labels.components[1]);
            labels.check(&selection)
        };
        assert!(with(&|component| component.axes = vec![0]).is_err());
        assert!(with(&|component| component.axes = vec![3]).is_err());
        assert!(with(&|component| component.groups = 2).is_err());
        assert!(with(&|component| component.labels = vec![0].into()).is_err());
        assert!(with(&|component| component.groups = 1 << 33).is_err());
    }
}
