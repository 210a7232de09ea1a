//! The grouped tier: the engine's own accumulators over blocks of rows, with the numbers of groups in place of keys.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, UInt32Array, new_empty_array};
use arrow::datatypes::UInt32Type;
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use futures::StreamExt;

use crate::query::aggregate::keys::Groups;
use crate::query::aggregate::node::{Make, Reduce, Reduced};
use crate::query::aggregate::wide::hoist;
use crate::query::aggregate::workers;
use crate::query::lowrank::Bound;
use crate::query::scan::{ArraySource, Shared, Work};
use crate::query::stream;
use crate::read::reduce::labels::NONE;

/// The functions of a reduction, with their arguments and filters on the columns of the table.
#[derive(Clone, Debug)]
pub(super) struct GroupedPlan {
    functions: Vec<Function>,
}

#[derive(Clone, Debug)]
struct Function {
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
}

impl GroupedPlan {
    /// How the functions of `reduce` are fed; the error says why they cannot be.
    pub(super) fn new(reduce: &Reduce) -> Result<std::result::Result<Self, String>> {
        let mut functions = Vec::with_capacity(reduce.functions.len());
        for (function, filter) in reduce.functions.iter().zip(&reduce.filters) {
            let ordered = !function.order_sensitivity().is_insensitive();
            if ordered || !function.order_bys().is_empty() {
                return Ok(Err(format!(
                    "{} depends on the order of rows",
                    function.name()
                )));
            }
            let arguments = function
                .expressions()
                .iter()
                .map(|argument| reduce.view.on_table(argument))
                .collect::<Result<Vec<_>>>()?;
            let filter = filter
                .as_ref()
                .map(|filter| reduce.view.on_table(filter))
                .transpose()?;
            if arguments.iter().chain(&filter).any(is_volatile) {
                return Ok(Err(format!("{} changes from row to row", function.name())));
            }
            functions.push(Function { arguments, filter });
        }
        Ok(Ok(Self { functions }))
    }

    /// Whether the numbers of groups may be held; the error says why not.
    pub(super) fn fits(reduce: &Reduce) -> std::result::Result<(), String> {
        let Some(groups) = &reduce.groups else {
            let most = reduce.keys.at_most(reduce.view.source.pruned());
            if most.saturating_mul(16) > reduce.most as u64 {
                return Err(format!("up to {most} groups"));
            }
            return Ok(());
        };
        let bytes = groups.labels.groups().saturating_mul(16);
        if bytes > reduce.most {
            return Err(format!(
                "the numbers of groups would take {bytes} of {} bytes (hyperslab.reduce_max_bytes)",
                reduce.most
            ));
        }
        Ok(())
    }

    /// Computes the states of all groups.
    pub(super) async fn run(
        &self,
        reduce: &Reduce,
        groups: &Groups,
        context: &Arc<TaskContext>,
        reservation: &MemoryReservation,
    ) -> Result<Reduced> {
        let prepared = Arc::new(self.prepare(reduce, groups).await?);
        let workers = reduce.workers.max(1);
        let numbers = groups.labels.groups().saturating_mul(8 * workers);
        reservation.try_resize(numbers)?;
        let shared = Arc::new(Shared::new(None));
        let work = |at: usize| {
            let (prepared, shared) = (Arc::clone(&prepared), Arc::clone(&shared));
            let (context, functions) = (Arc::clone(context), reduce.functions.clone());
            async move {
                let source = prepared.source.clone();
                let mut batches = stream::batches(source, at, &context, shared, Work::Queue);
                let mut worker = Worker::new(&functions, &prepared)?;
                while let Some(batch) = batches.next().await {
                    worker.take(&batch?, &prepared)?;
                    tokio::task::yield_now().await;
                }
                Ok::<_, DataFusionError>(worker)
            }
        };
        let mut all = workers::run(workers, work, Worker::merge).await?;
        reservation.try_resize(numbers.saturating_add(all.size()))?;
        if reduce.keys.exprs().is_empty() {
            // An aggregate over all rows has one group even if there is no row.
            all.number(0);
        }
        all.finish()
    }

    /// Evaluates what depends on few dimensions, and plans the scan of the rest.
    async fn prepare(&self, reduce: &Reduce, groups: &Groups) -> Result<Prepared> {
        let view = &reduce.view;
        let selection = &view.source.pruned().selection;
        let exprs: Vec<Arc<dyn PhysicalExpr>> = self
            .functions
            .iter()
            .flat_map(|function| function.arguments.iter().chain(&function.filter))
            .cloned()
            .collect();
        let (mut wide, exprs) = hoist(view, exprs).await?;
        let mut labels = Vec::new();
        for (component, stride) in groups.labels.components.iter().zip(groups.labels.strides()) {
            let name = format!("group {}", labels.len());
            let values: ArrayRef = Arc::new(UInt32Array::from(component.labels.to_vec()));
            let column = wide.derive(&name, selection, component.axes.clone(), &values)?;
            labels.push((column, stride));
        }
        let wide = Arc::new(wide.finish());
        let bound = Bound::new(&wide, &exprs)?;
        let mut projection = bound.columns.clone();
        let first = projection.len();
        projection.extend(labels.iter().map(|(column, _)| *column));
        let labels = labels.into_iter().enumerate();
        let labels = labels
            .map(|(at, (_, stride))| (first + at, stride))
            .collect();
        Ok(Prepared {
            source: view.source.over(wide, projection)?,
            bound,
            columns: first,
            labels,
            filters: self.functions.iter().map(|f| f.filter.is_some()).collect(),
            arguments: self.functions.iter().map(|f| f.arguments.len()).collect(),
            groups: groups.labels.groups(),
            accumulator: reduce.accumulator(),
        })
    }
}

/// The scan that feeds the accumulators, and what its batches hold.
struct Prepared {
    source: ArraySource,
    bound: Bound,
    /// Number of columns of a batch that the expressions need; labels come behind them.
    columns: usize,
    /// Place of the labels of each component in a batch, and the component's stride.
    labels: Vec<(usize, usize)>,
    /// For each function, its number of arguments, and whether a filter follows them.
    arguments: Vec<usize>,
    filters: Vec<bool>,
    groups: usize,
    accumulator: Make,
}

/// A worker: accumulators, and the numbers that groups have in them.
///
/// The engine's accumulators expect that groups are numbered as they are first seen: one that has been counted but not
/// seen would not be NULL.
struct Worker {
    functions: Vec<Arc<AggregateFunctionExpr>>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// For each group, its number, or [`NONE`].
    numbers: Vec<u32>,
    /// For each number, the group.
    seen: Vec<usize>,
}

impl Worker {
    fn new(functions: &[Arc<AggregateFunctionExpr>], prepared: &Prepared) -> Result<Self> {
        Ok(Self {
            functions: functions.to_vec(),
            accumulators: functions
                .iter()
                .map(prepared.accumulator)
                .collect::<Result<_>>()?,
            numbers: vec![NONE; prepared.groups],
            seen: Vec::new(),
        })
    }

    fn number(&mut self, group: usize) -> usize {
        match self.numbers.get_mut(group) {
            Some(number) if *number == NONE => {
                let next = self.seen.len();
                *number = u32::try_from(next).unwrap_or(NONE);
                self.seen.push(group);
                next
            }
            Some(number) => *number as usize,
            None => 0,
        }
    }

    fn take(&mut self, batch: &RecordBatch, prepared: &Prepared) -> Result<()> {
        let rows = batch.num_rows();
        let mut groups = vec![0usize; rows];
        for (at, stride) in &prepared.labels {
            let labels = batch.column(*at).as_primitive::<UInt32Type>();
            for (group, label) in groups.iter_mut().zip(labels.values()) {
                *group += *label as usize * stride;
            }
        }
        // Neighbours often have the same group.
        let mut last = None;
        for group in &mut groups {
            let number = match last {
                Some((of, number)) if of == *group => number,
                _ => self.number(*group),
            };
            last = Some((*group, number));
            *group = number;
        }
        let columns = batch.columns().get(..prepared.columns).unwrap_or_default();
        let mut values = prepared.bound.evaluate(columns.to_vec(), rows)?.into_iter();
        let total = self.seen.len();
        for ((accumulator, arguments), filtered) in self
            .accumulators
            .iter_mut()
            .zip(&prepared.arguments)
            .zip(&prepared.filters)
        {
            let arguments: Vec<ArrayRef> = values.by_ref().take(*arguments).collect();
            let filter: Option<BooleanArray> = if *filtered {
                values
                    .next()
                    .and_then(|filter| filter.as_boolean_opt().cloned())
            } else {
                None
            };
            accumulator.update_batch(&arguments, &groups, filter.as_ref(), total)?;
        }
        Ok(())
    }

    fn merge(&mut self, mut other: Self) -> Result<()> {
        let groups: Vec<usize> = other.seen.iter().map(|group| self.number(*group)).collect();
        if groups.is_empty() {
            return Ok(());
        }
        let total = self.seen.len();
        for (into, from) in self.accumulators.iter_mut().zip(&mut other.accumulators) {
            let states = from.state(EmitTo::All)?;
            into.merge_batch(&states, &groups, total)?;
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.accumulators
            .iter()
            .map(|accumulator| accumulator.size())
            .sum()
    }

    fn finish(mut self) -> Result<Reduced> {
        let states = if self.seen.is_empty() {
            self.functions
                .iter()
                .map(|function| {
                    let fields = function.state_fields()?;
                    let empty = fields.iter().map(|f| new_empty_array(f.data_type()));
                    Ok(empty.collect())
                })
                .collect::<Result<Vec<Vec<ArrayRef>>>>()?
        } else {
            self.accumulators
                .iter_mut()
                .map(|accumulator| accumulator.state(EmitTo::All))
                .collect::<Result<_>>()?
        };
        Ok(Reduced {
            groups: self.seen,
            states,
        })
    }
}
