//! The dense tier: each variable is reduced on its own chunks by workers with accumulators of their own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::physical_expr::PhysicalExpr;

use crate::array::hyperslab::Selection;
use crate::error::{Error, Within};
use crate::query::aggregate::arguments::{Dense, Kind};
use crate::query::aggregate::interval;
use crate::query::aggregate::keys::Groups;
use crate::query::aggregate::node::{Reduce, Reduced};
use crate::query::aggregate::workers;
use crate::query::ahead::{self, Coming};
use crate::query::engine_error;
use crate::query::grid::{Grid, VariableColumn};
use crate::query::lowrank::{self, Bound, footprint};
use crate::query::members::Piece;
use crate::query::metrics::ReadMetrics;
use crate::query::scan::ArraySource;
use crate::read::reduce::closed::{self, Plane, Totals};
use crate::read::reduce::labels::Labels;
use crate::read::reduce::{Aggregate, Argument, Partial, Reducer, Reduction, Weights};
use crate::read::{self, Buffers, ReadPlan, TouchedChunks};

/// Decoded bytes of the chunks that a worker takes at once.
const BATCH_BYTES: u64 = 1 << 22;

/// The functions of a reduction, by what each needs.
#[derive(Clone, Debug)]
pub(super) struct DensePlan {
    aggregates: Vec<Dense>,
    /// If the data decides which rows count: the column, and the bits between which it does.
    interval: Option<(usize, (u64, u64))>,
}

/// One variable's part of a reduction.
struct Part {
    reduction: Arc<Reduction>,
    variable: VariableColumn,
    /// For each aggregate of the reduction, which function it belongs to.
    functions: Vec<usize>,
}

impl Part {
    /// What of its cells is in which file.
    fn pieces(&self) -> Vec<Piece<'_>> {
        self.variable.pieces(&self.reduction.plan.selection)
    }

    /// Lets a reducer take chunks of a piece.
    fn turn(&self, reducer: &mut Reducer, piece: &Piece<'_>) -> crate::error::Result<()> {
        let Some(members) = &self.variable.members else {
            return Ok(());
        };
        let axis = members.axis();
        let layout = Arc::clone(&piece.variable.layout);
        let selection = piece.selection.clone();
        let own = self.reduction.part(axis, &piece.place, selection, layout);
        reducer.turn_to(&own?)
    }

    /// Reduces some chunks of a piece, which may be under way.
    async fn reduce(
        piece: &Piece<'_>,
        reducer: &mut Reducer,
        numbers: Vec<u64>,
        coming: Option<Coming>,
        buffers: &mut Buffers,
    ) -> crate::error::Result<()> {
        let (plan, fetched) = match coming {
            Some(coming) => coming.fetched().await?,
            None => {
                let (store, variable) = (piece.store.clone(), Arc::clone(piece.variable));
                ahead::fetch(store, variable, piece.selection.clone(), Some(numbers)).await?
            }
        };
        reducer.reduce(piece.store, &plan.chunks, &fetched, buffers)
    }

    /// Where its variable is read from, for messages.
    fn location(&self) -> &str {
        self.variable.store.location()
    }
}

impl DensePlan {
    /// How the functions of `reduce` are computed; the error says why they cannot be this way.
    pub(super) fn new(reduce: &Reduce) -> Result<std::result::Result<Self, String>> {
        if reduce.filters.iter().any(Option::is_some) {
            return Ok(Err("FILTER (WHERE …)".into()));
        }
        let mut aggregates = Vec::with_capacity(reduce.functions.len());
        for function in &reduce.functions {
            match Dense::new(&reduce.view, function)? {
                Ok(dense) => aggregates.push(dense),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let source = &reduce.view.source;
        let grid = source.grid();
        let mut plan = Self {
            aggregates,
            interval: None,
        };
        let residual = &source.pruned().residual;
        if !residual.is_empty() {
            let Some(column) = interval::column(residual) else {
                return Ok(Err(
                    "a predicate on data that is not a range of one variable".into(),
                ));
            };
            let others = plan.aggregates.iter().any(|aggregate| match aggregate {
                Dense::Rows => false,
                Dense::Data { column: of, .. } => *of != column,
                Dense::Plane { .. } => true,
            });
            if others {
                return Ok(Err("a predicate on another variable".into()));
            }
            let whole = grid
                .variable(column)
                .filter(|variable| variable.is_whole(grid.axes.len()));
            let bits = match whole {
                Some(variable) => interval::bits(grid, variable, residual).unwrap_or(None),
                None => None,
            };
            let Some(bits) = bits else {
                return Ok(Err(
                    "a predicate that is not a range of stored numbers".into()
                ));
            };
            plan.interval = Some((column, bits));
        }
        // Whether stored numbers can be reduced does not depend on the labels.
        let parts = plan.parts(source, &Labels::default(), None)?;
        let differs = |part: &&Part| {
            let members = part.variable.members.as_ref();
            members.is_some_and(|members| !members.is_uniform())
        };
        if let Some(part) = parts.iter().find(differs) {
            return Ok(Err(format!(
                "{} is not stored alike in all files",
                part.variable.variable.path
            )));
        }
        if let Some(part) = parts.iter().find(|part| !part.reduction.is_supported()) {
            return Ok(Err(format!(
                "{} is not reduced as it is stored",
                part.variable.variable.path
            )));
        }
        Ok(Ok(plan))
    }

    /// Bytes that a worker holds for each group, and in any case.
    pub(super) fn memory(&self, source: &ArraySource) -> Result<(usize, usize)> {
        let parts = self.parts(source, &Labels::default(), None)?;
        let weights = |aggregate: &Dense| {
            usize::from(matches!(
                aggregate,
                Dense::Data {
                    weight: Some(_),
                    ..
                }
            ))
        };
        let weighted: usize = self.aggregates.iter().map(weights).sum();
        let (mut group, mut fixed) = (8 * weighted, 0usize);
        for part in &parts {
            let layout = &part.reduction.plan.layout;
            group = group.saturating_add(part.reduction.memory());
            let chunk = usize::try_from(read::memory(layout, 0)).unwrap_or(usize::MAX);
            let is_local = part.variable.store.is_local();
            let under_way = if is_local { 0 } else { ahead::BYTES };
            let under_way = usize::try_from(under_way).unwrap_or(usize::MAX);
            fixed = fixed.saturating_add(chunk).saturating_add(under_way);
        }
        Ok((group, fixed))
    }

    /// Chunks that are read, and all chunks of the variables that are.
    pub(super) fn chunks(&self, reduce: &Reduce) -> (u64, u64) {
        let source = &reduce.view.source;
        let parts = self
            .parts(source, &Labels::default(), None)
            .unwrap_or_default();
        parts.iter().fold((0, 0), |(touched, all), part| {
            let variable = &part.variable;
            let here = if part.reduction.reads() {
                variable.touched_chunks(&part.reduction.plan.selection)
            } else {
                0
            };
            (touched + here, all + variable.chunks())
        })
    }

    /// One reduction for each variable.
    fn parts(
        &self,
        source: &ArraySource,
        labels: &Labels,
        weights: Option<&[Option<Weights>]>,
    ) -> Result<Vec<Part>> {
        let grid = source.grid();
        let mut columns: Vec<usize> = self
            .aggregates
            .iter()
            .filter_map(|aggregate| match aggregate {
                Dense::Data { column, .. } => Some(*column),
                Dense::Rows | Dense::Plane { .. } => None,
            })
            .chain(self.interval.map(|(column, _)| column))
            .collect();
        columns.sort_unstable();
        columns.dedup();
        columns
            .into_iter()
            .map(|column| {
                let variable = grid
                    .variable(column)
                    .ok_or_else(|| internal_datafusion_err!("no variable {column}"))?;
                let mut reduction = Reduction {
                    plan: ReadPlan {
                        variable: variable.variable.path.as_str().into(),
                        layout: Arc::clone(&variable.variable.layout),
                        selection: source.pruned().selection.clone(),
                        chunks: Vec::new(),
                    },
                    decoding: variable.decoding.as_ref().clone(),
                    labels: labels.clone(),
                    interval: self.interval.map(|(_, bits)| bits),
                    weights: Vec::new(),
                    aggregates: Vec::new(),
                };
                let mut functions = Vec::new();
                for (at, dense) in self.aggregates.iter().enumerate() {
                    match dense {
                        Dense::Data {
                            column: of,
                            aggregate,
                            ..
                        } if *of == column => {
                            let table = weights.and_then(|weights| weights.get(at)).cloned();
                            let number = reduction.weights.len();
                            reduction.weights.extend(table.flatten());
                            reduction.aggregates.push(weighted_by(*aggregate, number));
                            functions.push(at);
                        }
                        Dense::Rows if self.interval.is_some() => {
                            reduction.aggregates.push(Aggregate::Rows);
                            functions.push(at);
                        }
                        Dense::Data { .. } | Dense::Rows | Dense::Plane { .. } => {}
                    }
                }
                Ok(Part {
                    reduction: Arc::new(reduction),
                    variable: variable.clone(),
                    functions,
                })
            })
            .collect()
    }

    /// Computes the states of all groups; `None` if a weight is missing or infinite somewhere (what it weighs is so too then,
    /// which stored numbers do not tell), or a value of few dimensions cannot be evaluated on every cell.
    pub(super) async fn run(
        &self,
        reduce: &Reduce,
        groups: &Groups,
        workers: usize,
    ) -> Result<Option<Reduced>> {
        let source = &reduce.view.source;
        let (grid, selection) = (source.grid(), &source.pruned().selection);
        let labels = &groups.labels;
        let Some(weights) = self.weights(grid, selection).await? else {
            return Ok(None);
        };
        let parts = Arc::new(self.parts(source, labels, Some(&weights))?);
        let mut states: Vec<Vec<ArrayRef>> = vec![Vec::new(); self.aggregates.len()];
        let mut rows = None;
        let partials = reduce_parts(reduce, &parts, self.chunks(reduce), workers).await?;
        for (part, partial) in parts.iter().zip(partials) {
            for (function, state) in part.functions.iter().zip(partial.states) {
                if let Some(slot) = states.get_mut(*function) {
                    *slot = state;
                }
            }
            rows = Some(partial.rows);
        }
        let rows = rows.unwrap_or_else(|| labels.cells(selection));
        for (aggregate, state) in self.aggregates.iter().zip(&mut states) {
            match aggregate {
                Dense::Rows if state.is_empty() => *state = vec![counts(&rows)],
                Dense::Plane { expr, kind } => {
                    // Cells that a mask leaves out may have no value; rows are not asked for it.
                    let Ok(of_plane) = plane(grid, selection, labels, expr, *kind).await else {
                        return Ok(None);
                    };
                    *state = of_plane;
                }
                Dense::Data {
                    column,
                    extreme: Some(expr),
                    ..
                } => *state = vec![extreme(grid, *column, expr, state)?],
                Dense::Rows | Dense::Data { .. } => {}
            }
        }
        let global = reduce.keys.exprs().is_empty();
        Ok(Some(Reduced::of_all(&rows, states, global)?))
    }

    /// The weights of each function that has some.
    async fn weights(
        &self,
        grid: &Grid,
        selection: &Selection,
    ) -> Result<Option<Vec<Option<Weights>>>> {
        let mut buffers = Buffers::default();
        let mut tables = Vec::with_capacity(self.aggregates.len());
        for aggregate in &self.aggregates {
            tables.push(match aggregate {
                Dense::Data {
                    weight: Some(expr), ..
                } => {
                    let axes = footprint(grid, expr);
                    let weights = floats(grid, selection, &axes, expr, &mut buffers).await;
                    // Infinite weights cannot be taken out of a sum.
                    let finite = |weight: &Option<f64>| weight.is_some_and(f64::is_finite);
                    let Some((values, _)) = weights.ok().filter(|(all, _)| all.iter().all(finite))
                    else {
                        return Ok(None);
                    };
                    Some(Weights {
                        axes,
                        values: values.into_iter().flatten().collect(),
                    })
                }
                Dense::Data { .. } | Dense::Rows | Dense::Plane { .. } => None,
            });
        }
        Ok(Some(tables))
    }
}

/// The aggregate with the number that its weights have in the reduction.
fn weighted_by(aggregate: Aggregate, number: usize) -> Aggregate {
    match aggregate {
        Aggregate::Sum(Argument::Weighted(_)) => Aggregate::Sum(Argument::Weighted(number)),
        Aggregate::Mean(Argument::Weighted(_)) => Aggregate::Mean(Argument::Weighted(number)),
        other => other,
    }
}

/// Values of a numeric expression on the cells of its dimensions, and the expression's own array of them.
async fn floats(
    grid: &Grid,
    selection: &Selection,
    axes: &[usize],
    expr: &Arc<dyn PhysicalExpr>,
    buffers: &mut Buffers,
) -> Result<(Vec<Option<f64>>, ArrayRef)> {
    let exprs = std::slice::from_ref(expr);
    let array = lowrank::evaluate(grid, selection, axes, exprs, buffers)
        .await?
        .pop()
        .ok_or_else(|| internal_datafusion_err!("{expr} has no value"))?;
    let values = arrow::compute::cast(&array, &DataType::Float64)?;
    Ok((values.as_primitive::<Float64Type>().iter().collect(), array))
}

/// The state of an aggregate of values that depend on few dimensions.
async fn plane(
    grid: &Grid,
    selection: &Selection,
    labels: &Labels,
    expr: &Arc<dyn PhysicalExpr>,
    kind: Kind,
) -> Result<Vec<ArrayRef>> {
    let axes = footprint(grid, expr);
    let mut buffers = Buffers::default();
    let values = if kind == Kind::Count {
        let exprs = std::slice::from_ref(expr);
        let arrays = lowrank::evaluate(grid, selection, &axes, exprs, &mut buffers).await?;
        let array = arrays
            .first()
            .ok_or_else(|| internal_datafusion_err!("{expr} has no value"))?;
        let nulls = array.logical_nulls();
        (0..array.len())
            .map(|at| {
                nulls
                    .as_ref()
                    .is_none_or(|nulls| nulls.is_valid(at))
                    .then_some(0.0)
            })
            .collect()
    } else {
        floats(grid, selection, &axes, expr, &mut buffers).await?.0
    };
    let plane = Plane { axes, values };
    let Totals {
        count,
        sum,
        min,
        max,
        mean,
        m2,
    } = closed::totals(&plane, labels, selection).map_err(engine_error)?;
    let seen = || Some(NullBuffer::from_iter(count.iter().map(|count| *count > 0)));
    let float = |values: Vec<f64>| Arc::new(Float64Array::new(values.into(), seen())) as ArrayRef;
    Ok(match kind {
        Kind::Count => vec![counts(&count)],
        Kind::Sum => vec![float(sum)],
        Kind::Mean => vec![
            Arc::new(UInt64Array::new(count.clone().into(), seen())),
            float(sum),
        ],
        Kind::Min => vec![float(min)],
        Kind::Max => vec![float(max)],
        Kind::Variance => vec![
            Arc::new(UInt64Array::from(count)),
            Arc::new(Float64Array::from(mean)),
            Arc::new(Float64Array::from(m2)),
        ],
    })
}

/// The extreme of an expression that keeps or turns the order of a column, from the extreme of the column.
fn extreme(
    grid: &Grid,
    column: usize,
    expr: &Arc<dyn PhysicalExpr>,
    state: &[ArrayRef],
) -> Result<ArrayRef> {
    let values = state
        .first()
        .ok_or_else(|| internal_datafusion_err!("no extreme of column {column}"))?;
    let nullable = Bound::new(grid, std::slice::from_ref(expr))?.nullable();
    let mut evaluated = nullable.evaluate(vec![Arc::clone(values)], values.len())?;
    evaluated
        .pop()
        .ok_or_else(|| internal_datafusion_err!("{expr} has no value"))
}

fn counts(counts: &[u64]) -> ArrayRef {
    let counts = counts
        .iter()
        .map(|count| i64::try_from(*count).unwrap_or(i64::MAX));
    Arc::new(Int64Array::from_iter_values(counts))
}

/// What the workers of a reduction share: which batch of chunks is next.
struct Queue<'a> {
    next: &'a AtomicU64,
    /// For each piece of each part, its chunks.
    pieces: Vec<Queued<'a>>,
    /// Batches that a worker takes at once: of what is far away, those behind the first come while that is reduced.
    depth: usize,
}

/// A piece of a part, whose chunks are taken in batches.
struct Queued<'a> {
    part: usize,
    piece: Piece<'a>,
    chunks: TouchedChunks,
    /// Chunks in a batch.
    step: u64,
    /// The number of its first batch.
    first: u64,
}

impl<'a> Queue<'a> {
    fn new(parts: &'a [Part], next: &'a AtomicU64) -> Self {
        let mut pieces = Vec::new();
        let mut first = 0u64;
        let mut depth = 1;
        for (at, part) in parts.iter().enumerate() {
            if !part.reduction.reads() {
                continue;
            }
            for piece in part.pieces() {
                let layout = &piece.variable.layout;
                let chunks = TouchedChunks::new(&layout.grid, &piece.selection);
                let size = layout.element.size().unwrap_or(8) as u64;
                let chunk = layout.grid.chunk_cells().saturating_mul(size).max(1);
                let step = (BATCH_BYTES / chunk).clamp(1, 4096);
                if !piece.store.is_local() {
                    depth = depth.max(ahead::depth(step.saturating_mul(chunk)));
                }
                let batches = chunks.len().div_ceil(step);
                pieces.push(Queued {
                    part: at,
                    piece,
                    chunks,
                    step,
                    first,
                });
                first = first.saturating_add(batches);
            }
        }
        Self {
            next,
            pieces,
            depth,
        }
    }

    /// Number of all batches.
    fn batches(&self) -> u64 {
        let last = self.pieces.last();
        last.map_or(0, |last| last.first + last.chunks.len().div_ceil(last.step))
    }

    /// The next batch that nobody has taken: its piece, by its place in the queue, and the C-order numbers of its chunks.
    fn take(&self) -> Option<(usize, &Queued<'a>, Vec<u64>)> {
        let batch = self.next.fetch_add(1, Ordering::Relaxed);
        let behind = self.pieces.partition_point(|piece| piece.first <= batch);
        // A piece without chunks has the number of the one behind it.
        let at = behind.checked_sub(1)?;
        let queued = self.pieces.get(at)?;
        let start = (batch - queued.first).saturating_mul(queued.step);
        let end = queued.chunks.len().min(start.saturating_add(queued.step));
        (start < end).then(|| (at, queued, queued.chunks.numbers(start..end)))
    }
}

/// Reduces every part by several workers; each has accumulators of its own, which are added up at the end.
async fn reduce_parts(
    reduce: &Reduce,
    parts: &Arc<Vec<Part>>,
    chunks: (u64, u64),
    workers: usize,
) -> Result<Vec<Partial>> {
    let next = Arc::new(AtomicU64::new(0));
    let batches = Queue::new(parts, &next).batches();
    let wanted = usize::try_from(batches).unwrap_or(usize::MAX);
    let workers = workers.min(wanted).max(1);
    let metrics = ReadMetrics::new(reduce.view.source.execution_metrics(), 0, chunks);
    let work = |_: usize| {
        let (parts, next) = (Arc::clone(parts), Arc::clone(&next));
        let metrics = metrics.clone();
        async move { work(&parts, &next, &metrics).await.map_err(engine_error) }
    };
    let merge = |all: &mut Vec<Reducer>, others: Vec<Reducer>| {
        for (reducer, other) in all.iter_mut().zip(&others) {
            reducer.merge(other);
        }
        Ok(())
    };
    let all = workers::run(workers, work, merge).await?;
    all.iter()
        .zip(parts.iter())
        .map(|(reducer, part)| reducer.finish().within(|| part.location()))
        .collect::<crate::error::Result<_>>()
        .map_err(engine_error)
}

/// Reduces batches of chunks until there are no more, into one reducer for each part.
async fn work(
    parts: &[Part],
    next: &AtomicU64,
    metrics: &ReadMetrics,
) -> crate::error::Result<Vec<Reducer>> {
    let mut reducers = parts
        .iter()
        .map(|part| Reducer::new(&part.reduction).within(|| part.location()))
        .collect::<crate::error::Result<Vec<_>>>()?;
    let queue = Queue::new(parts, next);
    let mut buffers = Buffers::default();
    let mut last = None;
    let mut ahead = VecDeque::new();
    loop {
        while ahead.len() < queue.depth
            && let Some((at, queued, numbers)) = queue.take()
        {
            let Piece {
                store,
                variable,
                selection,
                ..
            } = &queued.piece;
            let begin = || Coming::begin(store, variable, selection, Some(numbers.clone()));
            let coming = (!store.is_local()).then(begin);
            ahead.push_back((at, queued, numbers, coming));
        }
        let Some((at, queued, mut numbers, mut coming)) = ahead.pop_front() else {
            break;
        };
        let (Some(part), Some(reducer)) = (parts.get(queued.part), reducers.get_mut(queued.part))
        else {
            break;
        };
        let piece = &queued.piece;
        if last != Some(at) {
            part.turn(reducer, piece)
                .within(|| piece.store.location())?;
            last = Some(at);
        }
        let mut tries = 0;
        loop {
            let seen = reducer.seen();
            let reduced =
                Part::reduce(piece, reducer, numbers.clone(), coming.take(), &mut buffers);
            match reduced.await {
                Err(Error::Conflict(_)) if tries < read::TRIES => {
                    tries += 1;
                    piece.variable.index.forget();
                    numbers.drain(..(reducer.seen() - seen).min(numbers.len()));
                }
                reduced => break reduced.within(|| piece.store.location())?,
            }
        }
        metrics.add(std::mem::take(&mut buffers.counters));
        tokio::task::yield_now().await;
    }
    Ok(reducers)
}
