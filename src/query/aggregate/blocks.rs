//! The block tier: arguments are evaluated by the engine on the rows of a tile, and reduced by the dense kernels while
//! they are in cache.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr_common::physical_expr::is_volatile;

use crate::query::aggregate::arguments::{Call, Kind};
use crate::query::aggregate::keys::Groups;
use crate::query::aggregate::node::{Reduce, Reduced};
use crate::query::aggregate::wide::hoist;
use crate::query::aggregate::workers;
use crate::query::engine_error;
use crate::query::lowrank::Bound;
use crate::query::prune::holds;
use crate::query::scan::{ArraySource, Shared, Work};
use crate::query::stream::Worker;
use crate::query::tile::Part;
use crate::read::reduce::{Aggregate, Argument, Block, Cells, Reducer, Reduction};

/// Rows that are evaluated at once: what is made of them stays in cache, and the allocator gives the same memory again.
const ROWS: usize = 8000;

/// The functions of a reduction whose arguments are evaluated block by block.
#[derive(Clone, Debug)]
pub(super) struct BlocksPlan {
    functions: Vec<Function>,
}

#[derive(Clone, Debug)]
struct Function {
    aggregate: Aggregate,
    /// What is reduced, on the columns of the table; `None` counts rows.
    argument: Option<Arc<dyn PhysicalExpr>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    block: Block,
    /// Types of the columns of its state.
    state: Vec<DataType>,
}

impl BlocksPlan {
    /// How the functions of `reduce` are computed; `None` if they cannot be this way.
    pub(super) fn new(reduce: &Reduce) -> Result<Option<Self>> {
        let functions = reduce.functions.iter().zip(&reduce.filters);
        let functions: Option<Vec<_>> = functions
            .map(|(function, filter)| Function::new(reduce, function, filter.as_ref()))
            .collect::<Result<_>>()?;
        Ok(functions.map(|functions| Self { functions }))
    }

    /// Bytes that a worker holds for each group, and in any case.
    pub(super) fn memory(&self, source: &ArraySource) -> (usize, usize) {
        let reductions = self.functions.iter().map(|function| function.bytes());
        (8 + reductions.sum::<usize>(), source.tile_memory())
    }

    /// Computes the states of all groups; `None` if an argument is NaN or the least integer somewhere, which the
    /// kernels take for no value, or cannot be evaluated in some row.
    pub(super) async fn run(
        &self,
        reduce: &Reduce,
        groups: &Groups,
        context: &Arc<TaskContext>,
        workers: usize,
    ) -> Result<Option<Reduced>> {
        let view = &reduce.view;
        let mut exprs = Vec::new();
        for function in &self.functions {
            exprs.extend(function.argument.iter().chain(&function.filter).cloned());
        }
        let (wide, exprs) = hoist(view, exprs).await?;
        let wide = Arc::new(wide.finish());
        let bound = Bound::new(&wide, &exprs)?;
        let source = view.source.over(wide, bound.columns.clone())?;
        let selection = &source.pruned().selection;
        let filtered = !source.pruned().residual.is_empty();
        let cells = if filtered { Cells::Some } else { Cells::All };
        let of = |block: Block, aggregate: Aggregate| {
            let labels = groups.labels.clone();
            Reduction::of_block(block, selection.clone(), labels, aggregate, cells)
        };
        let mut reductions = vec![of(Block::Floats, Aggregate::Count)];
        for function in &self.functions {
            let aggregate = match function.aggregate {
                Aggregate::Rows => Aggregate::Count,
                other => other,
            };
            reductions.push(of(function.block, aggregate));
        }
        let reductions = reductions
            .into_iter()
            .map(|reduction| reduction.map(Arc::new))
            .collect::<crate::error::Result<Vec<_>>>()
            .map_err(engine_error)?;
        let job = Arc::new(Job {
            functions: self.functions.clone(),
            bound,
            filtered,
            reductions,
        });
        let shared = Arc::new(Shared::new(None));
        let work = |at: usize| {
            let (job, shared) = (Arc::clone(&job), Arc::clone(&shared));
            let worker = Worker::new(source.clone(), at, context, shared, Work::Queue).in_parts();
            async move { job.work(worker).await }
        };
        let merge = |all: &mut Option<Vec<Reducer>>, others: Option<Vec<Reducer>>| {
            match (all.as_mut(), others) {
                (Some(all), Some(others)) => {
                    for (reducer, other) in all.iter_mut().zip(&others) {
                        reducer.merge(other);
                    }
                }
                (_, None) => *all = None,
                (None, Some(_)) => {}
            }
            Ok(())
        };
        let Some(reducers) = workers::run(workers, work, merge).await? else {
            return Ok(None);
        };
        let mut partials = Vec::with_capacity(reducers.len());
        for reducer in &reducers {
            partials.push(reducer.finish().map_err(engine_error)?);
        }
        let mut partials = partials.into_iter();
        let rows = match partials.next() {
            Some(partial) if filtered => counted(&partial.states),
            _ => groups.labels.cells(selection),
        };
        let mut states = Vec::with_capacity(self.functions.len());
        for (function, partial) in self.functions.iter().zip(partials) {
            let state = partial.states.into_iter().next().unwrap_or_default();
            let columns = state.iter().zip(&function.state);
            let columns = columns.map(|(column, of)| Ok(cast(column, of)?));
            states.push(columns.collect::<Result<Vec<ArrayRef>>>()?);
        }
        Ok(Some(Reduced::of_all(
            &rows,
            states,
            reduce.keys.exprs().is_empty(),
        )?))
    }
}

impl Function {
    /// How a function is computed; `None` if it cannot be this way.
    fn new(
        reduce: &Reduce,
        function: &AggregateFunctionExpr,
        filter: Option<&Arc<dyn PhysicalExpr>>,
    ) -> Result<Option<Self>> {
        let Ok(Call {
            kind,
            argument,
            state,
        }) = Call::of(&reduce.view, function)?
        else {
            return Ok(None);
        };
        let filter = filter
            .map(|filter| reduce.view.on_table(filter))
            .transpose()?;
        if filter.as_ref().is_some_and(is_volatile) {
            return Ok(None);
        }
        let counts_rows = kind == Kind::Count
            && argument
                .downcast_ref::<Literal>()
                .is_some_and(|literal| !literal.value().is_null());
        let of = argument.data_type(&reduce.view.source.grid().schema)?;
        let block = match &of {
            _ if kind == Kind::Count => Block::Floats,
            DataType::Float32 | DataType::Float64 => Block::Floats,
            of if of.is_integer() && *of != DataType::UInt64 => Block::Integers,
            _ => return Ok(None),
        };
        let float = block == Block::Floats;
        let aggregate = match (kind, state.as_slice()) {
            (Kind::Count, [DataType::Int64]) if counts_rows => Aggregate::Rows,
            (Kind::Count, [DataType::Int64]) => Aggregate::Count,
            (Kind::Sum, [DataType::Float64]) if float => Aggregate::Sum(Argument::VALUE),
            (Kind::Sum, [DataType::Int64]) if !float => Aggregate::Sum(Argument::Exact),
            (Kind::Mean, [DataType::UInt64, DataType::Float64]) if of == DataType::Float64 => {
                Aggregate::Mean(Argument::VALUE)
            }
            (Kind::Min, [state]) if *state == of => Aggregate::Min,
            (Kind::Max, [state]) if *state == of => Aggregate::Max,
            (Kind::Variance, [DataType::UInt64, DataType::Float64, DataType::Float64])
                if of == DataType::Float64 =>
            {
                Aggregate::Variance {
                    scale: 1.0,
                    offset: 0.0,
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(Self {
            aggregate,
            argument: (!counts_rows).then_some(argument),
            filter,
            block,
            state,
        }))
    }

    /// Bytes of accumulators for each group.
    fn bytes(&self) -> usize {
        match self.aggregate {
            Aggregate::Variance { .. } => 32,
            Aggregate::Rows
            | Aggregate::Count
            | Aggregate::Sum(_)
            | Aggregate::Mean(_)
            | Aggregate::Min
            | Aggregate::Max => 16,
        }
    }
}

/// What all workers do.
struct Job {
    functions: Vec<Function>,
    bound: Bound,
    /// Whether predicates on data leave out rows.
    filtered: bool,
    /// That of rows, then that of each function.
    reductions: Vec<Arc<Reduction>>,
}

impl Job {
    /// Reduces tiles until there are no more; `None` if a value stands for none.
    async fn work(&self, mut worker: Worker) -> Result<Option<Vec<Reducer>>> {
        let mut reducers = self
            .reductions
            .iter()
            .map(Reducer::new)
            .collect::<crate::error::Result<Vec<_>>>()
            .map_err(engine_error)?;
        let mut taken = Taken::default();
        while let Some(loaded) = worker.next_tile().await? {
            let mask = loaded.mask().filter(|_| self.filtered);
            for part in loaded.tile.parts(ROWS) {
                let columns = self
                    .bound
                    .columns
                    .iter()
                    .map(|column| worker.borrowed(&loaded, *column, &part))
                    .collect::<Result<Vec<_>>>()?;
                let Ok(values) = self.bound.evaluate(columns, part.rows.len()) else {
                    // Perhaps of a row that a predicate leaves out.
                    return Ok(None);
                };
                let mask = mask
                    .as_ref()
                    .map(|mask| mask.slice(part.rows.start, part.rows.len()));
                if !self.reduce(&part, values, mask.as_ref(), &mut reducers, &mut taken)? {
                    return Ok(None);
                }
            }
            worker.recycle(loaded);
            tokio::task::yield_now().await;
        }
        Ok(Some(reducers))
    }

    /// Reduces the values of all functions in some rows; false if some row has one that stands for none.
    fn reduce(
        &self,
        part: &Part,
        values: Vec<ArrayRef>,
        mask: Option<&BooleanBuffer>,
        reducers: &mut [Reducer],
        taken: &mut Taken,
    ) -> Result<bool> {
        let mut values = values.into_iter();
        let Some((rows, reducers)) = reducers.split_first_mut() else {
            return Ok(true);
        };
        if self.filtered {
            let ones = taken.ones(mask, part.rows.len());
            rows.reduce_block(ones, &part.place).map_err(engine_error)?;
        }
        for (function, reducer) in self.functions.iter().zip(reducers) {
            let argument = function.argument.as_ref().and_then(|_| values.next());
            let filter = function.filter.as_ref().and_then(|_| values.next());
            let kept = both(mask, filter.as_ref());
            let kept = kept.as_ref();
            let bytes = match (&argument, function.block) {
                (Some(argument), Block::Integers) => {
                    let argument = cast(argument, &DataType::Int64)?;
                    let argument = argument.as_primitive::<Int64Type>();
                    let none = |value| value == i64::MIN;
                    take(&mut taken.integers, argument, kept, i64::MIN, none)
                        .map(|values| reducer.reduce_block(values, &part.place))
                }
                (Some(argument), Block::Floats) if argument.data_type().is_floating() => {
                    let argument = cast(argument, &DataType::Float64)?;
                    let argument = argument.as_primitive::<Float64Type>();
                    take(&mut taken.floats, argument, kept, f64::NAN, f64::is_nan)
                        .map(|values| reducer.reduce_block(values, &part.place))
                }
                (argument, _) => {
                    // Only whether there is a value counts.
                    let valid = argument
                        .as_ref()
                        .and_then(|argument| argument.logical_nulls());
                    let kept = match (kept, valid) {
                        (Some(kept), Some(valid)) => Some(kept & valid.inner()),
                        (None, Some(valid)) => Some(valid.inner().clone()),
                        (kept, None) => kept.cloned(),
                    };
                    let ones = taken.ones(kept.as_ref(), part.rows.len());
                    Some(reducer.reduce_block(ones, &part.place))
                }
            };
            match bytes {
                Some(reduced) => reduced.map_err(engine_error)?,
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Values in which something stands for none, kept from block to block.
#[derive(Default)]
struct Taken {
    floats: Vec<f64>,
    integers: Vec<i64>,
}

impl Taken {
    /// 1 for each row, NaN for those that are not kept.
    fn ones(&mut self, kept: Option<&BooleanBuffer>, rows: usize) -> &[u8] {
        self.floats.clear();
        self.floats.resize(rows, 1.0);
        if let Some(kept) = kept {
            blank(&mut self.floats, kept, f64::NAN);
        }
        bytemuck::cast_slice(&self.floats)
    }
}

/// The rows that `mask` and `filter` keep; a filter that is NULL keeps nothing.
fn both(mask: Option<&BooleanBuffer>, filter: Option<&ArrayRef>) -> Option<BooleanBuffer> {
    let filter = filter.and_then(|filter| filter.as_boolean_opt()).map(holds);
    match (mask, filter) {
        (Some(mask), Some(filter)) => Some(mask & &filter),
        (None, Some(filter)) => Some(filter),
        (mask, None) => mask.cloned(),
    }
}

/// The values, `none` where there is none: as they are if every row has one, else in `buffer`. Nothing if a value is
/// taken for none itself.
fn take<'a, T: ArrowPrimitiveType>(
    buffer: &'a mut Vec<T::Native>,
    values: &'a PrimitiveArray<T>,
    kept: Option<&BooleanBuffer>,
    none: T::Native,
    is_none: impl Fn(T::Native) -> bool,
) -> Option<&'a [u8]>
where
    T::Native: bytemuck::NoUninit,
{
    let nulls = values.nulls().filter(|nulls| nulls.null_count() > 0);
    let stands = |(at, value): (usize, &T::Native)| {
        is_none(*value) && nulls.is_none_or(|nulls| nulls.is_valid(at))
    };
    // Without a branch first: nearly always there is none.
    let any = values
        .values()
        .iter()
        .fold(false, |any, value| any | is_none(*value));
    if any && values.values().iter().enumerate().any(stands) {
        return None;
    }
    let holes = [nulls.map(NullBuffer::inner), kept];
    if holes.iter().all(Option::is_none) {
        return Some(bytemuck::cast_slice(values.values()));
    }
    buffer.clear();
    buffer.extend_from_slice(values.values());
    for bits in holes.into_iter().flatten() {
        blank(buffer, bits, none);
    }
    Some(bytemuck::cast_slice(buffer.as_slice()))
}

/// Puts `none` where there is no bit.
fn blank<N: Copy>(values: &mut [N], bits: &BooleanBuffer, none: N) {
    for (value, bit) in values.iter_mut().zip(bits.iter()) {
        *value = if bit { *value } else { none };
    }
}

/// The counts that a state holds.
fn counted(states: &[Vec<ArrayRef>]) -> Vec<u64> {
    let counts = states.first().and_then(|state| state.first());
    counts.map_or_else(Vec::new, |counts| {
        let counts = counts.as_primitive::<Int64Type>().values();
        counts
            .iter()
            .map(|count| u64::try_from(*count).unwrap_or(0))
            .collect()
    })
}
