//! The node of a reduction in a plan of the engine.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err, resources_err};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{
    EquivalenceProperties, GroupsAccumulatorAdapter, Partitioning, PhysicalExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{StreamExt, TryStreamExt, stream};

use crate::array::hyperslab::Selection;
use crate::query::aggregate::blocks::BlocksPlan;
use crate::query::aggregate::dense::DensePlan;
use crate::query::aggregate::grouped::GroupedPlan;
use crate::query::aggregate::keys::{Groups, Keys};
use crate::query::aggregate::single::Single;
use crate::query::scan::ArraySource;
use crate::query::view::View;
use crate::read::Buffers;

/// What is reduced, into which groups, by which functions.
#[derive(Clone, Debug)]
pub(super) struct Reduce {
    pub(super) view: View,
    pub(super) keys: Keys,
    /// The groups, if they are known before anything is read.
    pub(super) groups: Option<Groups>,
    pub(super) functions: Vec<Arc<AggregateFunctionExpr>>,
    /// The filter of each function, on the columns of the view.
    pub(super) filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    /// Workers that reduce at the same time.
    pub(super) workers: usize,
    /// Whether partial states come out, not final values.
    pub(super) partial: bool,
    /// Most bytes of accumulators.
    pub(super) most: usize,
}

impl Reduce {
    /// What makes the engine's accumulator of a function.
    pub(super) fn accumulator(&self) -> Make {
        if self.keys.exprs().is_empty() {
            single
        } else {
            accumulator
        }
    }
}

/// Makes the engine's accumulator of a function.
pub(super) type Make = fn(&Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>>;

/// How the functions are computed.
#[derive(Clone, Debug)]
pub(super) enum Tier {
    Dense(DensePlan),
    Blocks(BlocksPlan),
    Grouped(GroupedPlan),
}

/// One row for each group that has rows.
pub(super) struct Reduced {
    /// Numbers of the groups.
    pub(super) groups: Vec<usize>,
    /// For each function, its states.
    pub(super) states: Vec<Vec<ArrayRef>>,
}

impl Reduced {
    /// The groups that have rows, of the states of all groups; all of them in an aggregate without keys.
    pub(super) fn of_all(
        rows: &[u64],
        mut states: Vec<Vec<ArrayRef>>,
        global: bool,
    ) -> Result<Self> {
        let groups: Vec<usize> = rows
            .iter()
            .enumerate()
            .filter(|(_, rows)| **rows > 0 || global)
            .map(|(group, _)| group)
            .collect();
        if groups.len() < rows.len() {
            let indices: UInt64Array = groups.iter().map(|group| *group as u64).collect();
            for column in states.iter_mut().flatten() {
                *column = take(column, &indices, None)?;
            }
        }
        Ok(Self { groups, states })
    }
}

/// An aggregate over a grid, computed without making rows.
#[derive(Clone, Debug)]
pub struct ArrayReduceExec {
    reduce: Reduce,
    tier: Tier,
    schema: SchemaRef,
    /// Why it is not computed in a better way.
    note: Option<String>,
    properties: Arc<PlanProperties>,
}

impl ArrayReduceExec {
    pub(super) fn new(reduce: Reduce, tier: Tier, schema: SchemaRef, note: Option<String>) -> Self {
        Self {
            properties: properties(&schema),
            reduce,
            tier,
            schema,
            note,
        }
    }

    /// The cells that it takes in.
    pub(crate) fn source(&self) -> &ArraySource {
        &self.reduce.view.source
    }

    pub(super) fn is_partial(&self) -> bool {
        self.reduce.partial
    }

    /// The same with final values.
    pub(super) fn finished(&self, schema: SchemaRef) -> Self {
        let mut finished = self.clone();
        finished.reduce.partial = false;
        finished.properties = properties(&schema);
        finished.schema = schema;
        finished
    }

    /// The groups, part by part as memory allows.
    async fn parts(self, context: Arc<TaskContext>) -> Result<Parts> {
        let mut buffers = Buffers::default();
        let source = &self.reduce.view.source;
        let groups = match &self.reduce.groups {
            Some(groups) => groups.clone(),
            None => {
                let (grid, pruned) = (source.grid(), source.pruned());
                self.reduce.keys.resolve(grid, pruned, &mut buffers).await?
            }
        };
        let reservation = MemoryConsumer::new("ArrayReduce").register(context.memory_pool());
        let selection = source.pruned().selection.clone();
        let mut workers = self.reduce.workers;
        let mut pieces = vec![(groups, selection)];
        let memory = match &self.tier {
            Tier::Dense(dense) => Some(dense.memory(source)?),
            Tier::Blocks(blocks) => Some(blocks.memory(source)),
            Tier::Grouped(_) => None,
        };
        if let Some((each, fixed)) = memory {
            let out = 16 + 24 * self.reduce.functions.len();
            let (whole, all) = pieces.remove(0);
            let count = whole.labels.groups();
            // Bytes for the groups, and all that is held.
            let wanted = |parts: usize, workers: usize| {
                let groups = count.div_ceil(parts);
                let accumulators = groups.saturating_mul(each).saturating_mul(workers);
                let chunks = fixed.saturating_mul(workers);
                let columns = groups.saturating_mul(out);
                let groups = accumulators.saturating_add(columns);
                (groups, groups.saturating_add(chunks))
            };
            let mut parts = 1;
            loop {
                let (of_groups, bytes) = wanted(parts, workers);
                let allowed = of_groups <= self.reduce.most || count == 1;
                let granted = allowed.then(|| reservation.try_resize(bytes));
                if let Some(Ok(())) = granted {
                    pieces = match parts {
                        1 => vec![(whole, all)],
                        parts => whole.split(&all, parts).unwrap_or(vec![(whole, all)]),
                    };
                    break;
                }
                // Fewer workers first: parts may have to read the same chunks again.
                if workers > 1 {
                    workers -= 1;
                } else if parts * 2 <= whole.most_parts() {
                    parts *= 2;
                } else if let Some(Err(error)) = granted {
                    return Err(error);
                } else {
                    return resources_err!(
                        "{count} groups need {of_groups} bytes even in {parts} parts, hyperslab.reduce_max_bytes allows {}",
                        self.reduce.most
                    );
                }
            }
        }
        pieces.reverse();
        Ok(Parts {
            exec: self,
            context,
            reservation,
            workers,
            pieces,
        })
    }

    /// How the functions are computed from rows.
    fn grouped(&self) -> Result<GroupedPlan> {
        if let Tier::Grouped(grouped) = &self.tier {
            return Ok(grouped.clone());
        }
        GroupedPlan::new(&self.reduce)?.or_else(|reason| internal_err!("{reason}"))
    }

    fn emit(&self, groups: &Groups, reduced: Reduced) -> Result<RecordBatch> {
        let rows = reduced.groups.len();
        if rows == 0 {
            // Not every accumulator of the engine can be asked about no group.
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let mut columns = groups.columns(&reduced.groups)?;
        for (function, states) in self.reduce.functions.iter().zip(reduced.states) {
            if self.reduce.partial {
                columns.extend(states);
                continue;
            }
            let mut accumulator = self.reduce.accumulator()(function)?;
            let all: Vec<usize> = (0..rows).collect();
            accumulator.merge_batch(&states, &all, rows)?;
            columns.push(accumulator.evaluate(EmitTo::All)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.schema);
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }
}

/// What is left of a reduction that runs.
struct Parts {
    exec: ArrayReduceExec,
    context: Arc<TaskContext>,
    reservation: MemoryReservation,
    workers: usize,
    /// Groups and the cells that belong to them, the next ones last.
    pieces: Vec<(Groups, Selection)>,
}

impl Parts {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some((groups, selection)) = self.pieces.pop() else {
            return Ok(None);
        };
        let mut reduce = self.exec.reduce.clone();
        reduce.view.source = reduce.view.source.within(selection)?;
        let metrics = BaselineMetrics::new(reduce.view.source.execution_metrics(), 0);
        let timer = metrics.elapsed_compute().timer();
        let reduced = match &self.exec.tier {
            Tier::Dense(dense) => dense.run(&reduce, &groups, self.workers).await,
            Tier::Blocks(blocks) => {
                blocks
                    .run(&reduce, &groups, &self.context, self.workers)
                    .await
            }
            Tier::Grouped(_) => Ok(None),
        };
        let reduced = match reduced {
            Ok(None) => {
                let grouped = self.exec.grouped()?;
                grouped
                    .run(&reduce, &groups, &self.context, &self.reservation)
                    .await
            }
            Ok(Some(reduced)) => Ok(reduced),
            Err(error) => Err(error),
        };
        // Also what cannot be read may be so because it was changed.
        reduce.view.source.check().await?;
        let batch = self.exec.emit(&groups, reduced?)?;
        timer.done();
        metrics.record_output(batch.num_rows());
        Ok(Some(batch))
    }
}

/// The engine's accumulator of a function, for many groups.
fn accumulator(function: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    if function.groups_accumulator_supported() {
        return function.create_groups_accumulator();
    }
    let function = Arc::clone(function);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || {
        function.create_accumulator()
    })))
}

/// The engine's accumulator of a function, for all rows.
fn single(function: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    Ok(Box::new(Single(function.create_accumulator()?)))
}

fn properties(schema: &SchemaRef) -> Arc<PlanProperties> {
    Arc::new(
        PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative),
    )
}

impl DisplayAs for ArrayReduceExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut Formatter<'_>) -> fmt::Result {
        let source = &self.reduce.view.source;
        let mode = if self.reduce.partial {
            "partial"
        } else {
            "final"
        };
        let tier = match &self.tier {
            Tier::Dense(_) => "dense",
            Tier::Blocks(_) => "blocks",
            Tier::Grouped(_) => "grouped",
        };
        write!(f, "ArrayReduceExec: mode={mode}, tier={tier}, ")?;
        source.fmt_cells(f)?;
        match &self.tier {
            Tier::Dense(dense) => {
                let (touched, all) = dense.chunks(&self.reduce);
                write!(f, ", chunks={touched}/{all}")?;
            }
            Tier::Blocks(_) | Tier::Grouped(_) => {
                let (touched, all) = source.chunks();
                write!(f, ", chunks={touched}/{all}")?;
            }
        }
        source.fmt_filters(f)?;
        let sizes = self.reduce.groups.as_ref().map(Groups::sizes);
        let keys: Vec<String> = self
            .reduce
            .keys
            .exprs()
            .iter()
            .enumerate()
            .map(
                |(at, key)| match sizes.as_ref().and_then(|sizes| sizes.get(at)) {
                    Some(size) => format!("{key}: {size}"),
                    None => key.to_string(),
                },
            )
            .collect();
        write!(f, ", keys=[{}]", keys.join(", "))?;
        let functions: Vec<&str> = self.reduce.functions.iter().map(|f| f.name()).collect();
        write!(f, ", aggregates=[{}]", functions.join(", "))?;
        if let Some(note) = &self.note {
            write!(f, ", not dense: {note}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for ArrayReduceExec {
    fn name(&self) -> &'static str {
        "ArrayReduceExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() {
            Ok(self)
        } else {
            internal_err!("ArrayReduceExec has no children")
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(
            children,
            ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
        )
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let size = context.session_config().batch_size().max(1);
        let batches = stream::once(self.clone().parts(context))
            .map_ok(|parts| {
                stream::try_unfold(parts, |mut parts| async move {
                    let batch = parts.next().await?;
                    Ok::<_, DataFusionError>(batch.map(|batch| (batch, parts)))
                })
            })
            .try_flatten()
            .map_ok(move |batch| {
                let slices = (0..batch.num_rows())
                    .step_by(size)
                    .map(move |start| Ok(batch.slice(start, size.min(batch.num_rows() - start))));
                stream::iter(slices.collect::<Vec<_>>())
            })
            .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            batches.boxed(),
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.reduce.view.source.execution_metrics().clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        _: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        let pruned = self.reduce.view.source.pruned();
        if let Some(groups) = &self.reduce.groups {
            let groups = groups.labels.groups();
            let all = pruned.residual.is_empty() && pruned.selection.cells() > 0;
            let global = self.reduce.keys.exprs().is_empty();
            statistics.num_rows = if all || global {
                Precision::Exact(groups)
            } else {
                Precision::Inexact(groups)
            };
        }
        Ok(Arc::new(statistics))
    }
}
