//! Parts of a reduction: cells of one file among several, into the same accumulators.

use std::ops::Range;
use std::sync::Arc;

use crate::array::Layout;
use crate::array::hyperslab::{IndexSet, Selection};
use crate::error::{Error, Result};
use crate::read::ReadPlan;
use crate::read::decode::Job;
use crate::read::reduce::dense::Weights as Table;
use crate::read::reduce::walk::Walk;
use crate::read::reduce::{Reducer, Reduction, Weights, labels};

impl Reduction {
    /// The same of those cells whose positions along `axis` among the selected ones are `place`, where they are stored
    /// apart: with `layout`, by the indices `selection`.
    ///
    /// # Errors
    /// `Invalid` when there are not as many indices as positions.
    pub fn part(
        &self,
        axis: usize,
        place: &Range<usize>,
        selection: Selection,
        layout: Arc<Layout>,
    ) -> Result<Self> {
        let whole = &self.plan.selection;
        let indices = selection.dims.get(axis).map(IndexSet::count);
        if indices != Some(place.len() as u64) || selection.dims.len() != whole.dims.len() {
            return Err(Error::Invalid(format!(
                "{}: a part of a reduction has other cells than it should have",
                self.plan.variable
            )));
        }
        let weights = self.weights.iter().map(|weights| Weights {
            axes: weights.axes.clone(),
            values: labels::part(&weights.values, &weights.axes, axis, place, whole),
        });
        Ok(Self {
            labels: self.labels.part(axis, place, whole),
            weights: weights.collect(),
            plan: ReadPlan {
                variable: Arc::clone(&self.plan.variable),
                layout,
                selection,
                chunks: Vec::new(),
            },
            decoding: self.decoding.clone(),
            interval: self.interval,
            aggregates: self.aggregates.clone(),
        })
    }

    /// Its weights as tables, and the axes of all of them.
    pub(super) fn tables(&self) -> Result<(Vec<Table>, Vec<usize>)> {
        let mut tables = Vec::with_capacity(self.weights.len());
        let mut weighted = Vec::new();
        for weights in &self.weights {
            let counts: Vec<usize> = weights
                .axes
                .iter()
                .map(|axis| {
                    self.plan
                        .selection
                        .dims
                        .get(*axis)
                        .map_or(0, IndexSet::count)
                })
                .map(|count| usize::try_from(count).unwrap_or(usize::MAX))
                .collect();
            let cells = counts.iter().fold(1, |n: usize, c| n.saturating_mul(*c));
            if cells != weights.values.len() {
                return Err(Error::Invalid(
                    "weights of a reduction do not fit its selection".into(),
                ));
            }
            weighted.extend(weights.axes.iter().copied());
            tables.push(Table {
                axes: weights.axes.clone(),
                counts,
                values: Arc::clone(&weights.values),
            });
        }
        Ok((tables, weighted))
    }
}

impl Reducer {
    /// Takes chunks of a part of the same reduction from now on, which [`Reduction::part`] has made of it.
    ///
    /// # Errors
    /// `Invalid` when it is not a part of the reduction.
    pub fn turn_to(&mut self, part: &Reduction) -> Result<()> {
        let whole = &self.reduction;
        let selection = &part.plan.selection;
        part.labels.check(selection)?;
        if part.decoding != whole.decoding
            || part.interval != whole.interval
            || part.aggregates != whole.aggregates
            || part.labels.groups() != whole.labels.groups()
            || part.plan.layout.element != whole.plan.layout.element
        {
            return Err(Error::Invalid(format!(
                "{}: a reduction of something else is no part of this one",
                whole.plan.variable
            )));
        }
        let (tables, weighted) = part.tables()?;
        self.job = Job::new(&part.plan.layout, selection)?;
        self.walk = Walk::new(selection, &part.labels, &weighted);
        self.accumulator.weigh(tables);
        Ok(())
    }
}
