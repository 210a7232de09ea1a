//! The grouped tier: the engine's own accumulators over blocks of rows, with the numbers of groups in place of keys.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::datatypes::UInt32Type;
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{Column as ColumnExpr, Literal};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use futures::StreamExt;

use crate::query::aggregate::arguments::is_low;
use crate::query::aggregate::keys::Groups;
use crate::query::aggregate::node::{Reduce, Reduced, accumulator, reserve};
use crate::query::grid::{Column, Grid};
use crate::query::lowrank::{self, Bound, footprint};
use crate::query::scan::{ArraySource, Shared, Work};
use crate::query::stream;
use crate::read::Buffers;
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
    pub(super) fn new(
        reduce: &Reduce,
        filters: &[Option<Arc<dyn PhysicalExpr>>],
    ) -> Result<std::result::Result<Self, String>> {
        let mut functions = Vec::with_capacity(reduce.functions.len());
        for (function, filter) in reduce.functions.iter().zip(filters) {
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
        let most = reduce.keys.at_most(reduce.view.source.pruned());
        let bytes = most.saturating_mul(16);
        if bytes > reduce.most as u64 && reduce.groups.is_none() {
            return Ok(Err(format!("up to {most} groups")));
        }
        if let Some(groups) = &reduce.groups {
            let bytes = groups.labels.groups().saturating_mul(16);
            if bytes > reduce.most {
                return Ok(Err(format!(
                    "the numbers of groups would take {bytes} of {} bytes (hyperslab.reduce_max_bytes)",
                    reduce.most
                )));
            }
        }
        Ok(Ok(Self { functions }))
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
        reserve(reservation, numbers)?;
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
        let tasks: Vec<_> = (1..workers)
            .map(|at| SpawnedTask::spawn(work(at)))
            .collect();
        let mut first = work(0).await?;
        for task in tasks {
            let other = task
                .join()
                .await
                .map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
            first.merge(other)?;
        }
        reserve(reservation, numbers.saturating_add(first.size()))?;
        if reduce.keys.exprs().is_empty() {
            first.number(0);
            first.see_all()?;
        }
        first.finish()
    }

    /// Evaluates what depends on few dimensions, and plans the scan of the rest.
    async fn prepare(&self, reduce: &Reduce, groups: &Groups) -> Result<Prepared> {
        let view = &reduce.view;
        let grid = view.source.grid();
        let selection = &view.source.pruned().selection;
        let mut wide = WideGrid::new(grid);
        let mut functions = self.functions.clone();
        let mut buffers = Buffers::default();
        for function in &mut functions {
            let exprs = function.arguments.iter_mut().chain(&mut function.filter);
            for expr in exprs {
                let mut found: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
                Arc::clone(expr).apply(|node| {
                    let bare = node.downcast_ref::<ColumnExpr>().is_some();
                    let literal = node.downcast_ref::<Literal>().is_some();
                    let low = !bare && !literal && !footprint(grid, node).is_empty();
                    if low && is_low(view, node) {
                        found.push(Arc::clone(node));
                        return Ok(TreeNodeRecursion::Jump);
                    }
                    Ok(TreeNodeRecursion::Continue)
                })?;
                for low in found {
                    let axes = footprint(grid, &low);
                    let one = std::slice::from_ref(&low);
                    let values =
                        lowrank::evaluate(grid, selection, &axes, one, &mut buffers).await?;
                    let Some(values) = values.into_iter().next() else {
                        continue;
                    };
                    let name = low.to_string();
                    let column = wide.derive(&name, selection, axes, &values)?;
                    *expr = substitute(expr, &low, &name, column)?;
                }
            }
        }
        let mut labels = Vec::new();
        for (component, stride) in groups.labels.components.iter().zip(groups.labels.strides()) {
            let name = format!("group {}", labels.len());
            let values: ArrayRef = Arc::new(UInt32Array::from(component.labels.to_vec()));
            let column = wide.derive(&name, selection, component.axes.clone(), &values)?;
            labels.push((column, stride));
        }
        let wide = Arc::new(wide.finish());
        let exprs: Vec<Arc<dyn PhysicalExpr>> = functions
            .iter()
            .flat_map(|function| function.arguments.iter().chain(&function.filter))
            .cloned()
            .collect();
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
            filters: functions.iter().map(|f| f.filter.is_some()).collect(),
            arguments: functions.iter().map(|f| f.arguments.len()).collect(),
            groups: groups.labels.groups(),
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
            accumulators: functions.iter().map(accumulator).collect::<Result<_>>()?,
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

    /// An aggregate over all rows has one group even if there is no row.
    fn see_all(&mut self) -> Result<()> {
        let total = self.seen.len();
        for (accumulator, function) in self.accumulators.iter_mut().zip(&self.functions) {
            let mut empty = function.create_accumulator()?;
            let states = empty
                .state()?
                .into_iter()
                .map(|state| state.to_array_of_size(1))
                .collect::<Result<Vec<_>>>()?;
            accumulator.merge_batch(&states, &[0], total)?;
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
                    let empty = fields
                        .iter()
                        .map(|f| arrow::array::new_empty_array(f.data_type()));
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

/// A grid with columns that have been computed from its own.
struct WideGrid {
    grid: Grid,
    fields: Vec<arrow::datatypes::FieldRef>,
}

impl WideGrid {
    fn new(grid: &Grid) -> Self {
        Self {
            fields: grid.schema.fields().iter().cloned().collect(),
            grid: grid.clone(),
        }
    }

    /// Adds a column with `values` on the selected cells of `axes`; its number.
    fn derive(
        &mut self,
        name: &str,
        selection: &crate::array::hyperslab::Selection,
        axes: Vec<usize>,
        values: &ArrayRef,
    ) -> Result<usize> {
        let column = Column::derived(&self.grid, selection, axes, values)?;
        let field = arrow::datatypes::Field::new(name, values.data_type().clone(), true);
        self.fields.push(Arc::new(field));
        self.grid.columns.push(column);
        Ok(self.grid.columns.len() - 1)
    }

    fn finish(mut self) -> Grid {
        self.grid.schema = Arc::new(arrow::datatypes::Schema::new(self.fields));
        self.grid
    }
}

/// `expr` with a column in place of `part`.
fn substitute(
    expr: &Arc<dyn PhysicalExpr>,
    part: &Arc<dyn PhysicalExpr>,
    name: &str,
    column: usize,
) -> Result<Arc<dyn PhysicalExpr>> {
    Arc::clone(expr)
        .transform_down(|node| {
            Ok(if node.as_ref() == part.as_ref() {
                let column: Arc<dyn PhysicalExpr> = Arc::new(ColumnExpr::new(name, column));
                Transformed::new(column, true, TreeNodeRecursion::Jump)
            } else {
                Transformed::no(node)
            })
        })
        .data()
}
