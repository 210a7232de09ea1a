//! Reductions: what the cells of a selection add up to in each group, computed where the chunks are decoded.
//!
//! ```text
//! Reduction = ReadPlan + decoding + labels + weights + aggregates     plain data, can be sent to where the bytes are
//!    chunk    decoded into cache, never copied into a slab
//!    walk     rows of the chunk, cut where the group changes
//!    dense    one slot a group; the engine's own partial states come out
//! ```

pub mod closed;
mod dense;
mod kernels;
pub mod labels;
mod part;
mod states;
mod walk;

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use serde::{Deserialize, Serialize};

use crate::array::Layout;
use crate::array::chunk::{ChunkAddress, ChunkGrid, ElementOrder};
use crate::array::dtype::ElementType;
use crate::array::hyperslab::{IndexSet, Selection};
use crate::array::slab::{Crop, Run, strides};
use crate::cf::decode::Decoding;
use crate::cf::number::{Number, with_number};
use crate::codec::CodecPipeline;
use crate::error::{Error, Result, Within};
use crate::read::decode::{Job, Sink, stored};
use crate::read::encoded::Stored;
use crate::read::reduce::dense::{Dense, Feed, Quantities, Weights as Table};
use crate::read::reduce::kernels::{Accept, Lane};
use crate::read::reduce::labels::Labels;
use crate::read::reduce::walk::Walk;
use crate::read::{Buffers, Fetched, ReadPlan, fetch};
use crate::store::Store;

pub use kernels::{Level, level};

/// Chunks up to this many stored bytes are read together with their neighbours in the file.
const SMALL: u64 = 1 << 16;

/// Most bytes of neighbouring chunks that are read at once.
const SPAN: u64 = 1 << 18;

/// A reduction of one variable: which cells, in which groups, to which aggregates. Plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reduction {
    /// The cells, and where they are. Where the chunks are looked up while reducing, it lists none.
    pub plan: ReadPlan,
    /// What the stored numbers mean.
    pub decoding: Decoding,
    /// The group of every cell.
    pub labels: Labels,
    /// If the data decides which rows count: the bits of the least and greatest stored number that do.
    pub interval: Option<(u64, u64)>,
    /// Weights that aggregates refer to.
    pub weights: Vec<Weights>,
    /// What is computed for each group.
    pub aggregates: Vec<Aggregate>,
}

/// Weights of the cells of some axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// The axes, in increasing order.
    pub axes: Vec<usize>,
    /// One weight for each selected cell of these axes, in C order.
    pub values: Arc<[f64]>,
}

/// An aggregate of the values of the variable, by the partial state it comes as.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Aggregate {
    /// Rows, whatever their value: `[count Int64]`.
    Rows,
    /// Values that are not missing: `[count Int64]`.
    Count,
    /// `[sum]`: NULL in a group without values.
    Sum(Argument),
    /// `[count UInt64, sum Float64]`: NULL in a group without values.
    Mean(Argument),
    /// `[value]`, of the type of the decoded values.
    Min,
    /// `[value]`, of the type of the decoded values.
    Max,
    /// `[count UInt64, mean Float64, m2 Float64]` of `scale * value + offset`.
    Variance {
        /// Factor.
        scale: f64,
        /// Summand.
        offset: f64,
    },
}

/// What is summed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Argument {
    /// The integers themselves: the sum is an `Int64` or `UInt64` that wraps.
    Exact,
    /// `scale * value + offset`, in double precision.
    Affine {
        /// Factor.
        scale: f64,
        /// Summand.
        offset: f64,
    },
    /// The value times a weight, by its place in [`Reduction::weights`].
    Weighted(usize),
}

impl Argument {
    /// The value itself, in double precision.
    pub const VALUE: Self = Self::Affine {
        scale: 1.0,
        offset: 0.0,
    };
}

/// The numbers of a block of values that have been computed: the element type, and what stands for no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// `f64`; NaN is no value.
    Floats,
    /// `i64`; the least one is no value.
    Integers,
}

/// Which cells of a selection are handed to a reduction of computed values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cells {
    /// Every one.
    All,
    /// Those that predicates leave.
    Some,
}

impl Reduction {
    /// A reduction of computed values: blocks of them are handed to [`Reducer::reduce_block`]. If cells may be left out,
    /// those that count are counted one by one.
    ///
    /// # Errors
    /// `Corrupt` when the selection has more cells than can be addressed.
    pub fn of_block(
        block: Block,
        selection: Selection,
        labels: Labels,
        aggregate: Aggregate,
        cells: Cells,
    ) -> Result<Self> {
        let (element, everything) = match block {
            Block::Floats => (
                ElementType::Float64,
                (f64::NEG_INFINITY.to_bits(), f64::INFINITY.to_bits()),
            ),
            Block::Integers => (
                ElementType::Int64,
                (Number::to_bits(i64::MIN), Number::to_bits(i64::MAX)),
            ),
        };
        let shape: Vec<u64> = selection.dims.iter().map(|dim| dim.count()).collect();
        let chunk = shape.iter().map(|extent| (*extent).max(1)).collect();
        Ok(Self {
            plan: ReadPlan {
                variable: "".into(),
                layout: Arc::new(Layout {
                    element,
                    grid: ChunkGrid::new(shape, chunk)?,
                    order: ElementOrder::C,
                    pipeline: CodecPipeline::default(),
                    fill: Vec::new(),
                }),
                selection,
                chunks: Vec::new(),
            },
            decoding: Decoding::computed(element),
            labels,
            interval: (cells == Cells::Some).then_some(everything),
            weights: Vec::new(),
            aggregates: vec![aggregate],
        })
    }

    /// Whether stored numbers can be reduced this way at all: dates, text, half precision, rules for missing values
    /// with many exceptions, NaN that counts as a value, and weighted sums of values that are packed with a summand cannot.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        let extremes = self
            .aggregates
            .iter()
            .any(|aggregate| matches!(aggregate, Aggregate::Min | Aggregate::Max));
        let Some(number) = self.decoding.number() else {
            return false;
        };
        // The summand of packed values would be needed as often as their weights say.
        let shifted = self
            .decoding
            .packing()
            .is_some_and(|(_, offset)| offset != 0.0);
        let weighted = |aggregate: &Aggregate| {
            matches!(
                aggregate,
                Aggregate::Sum(Argument::Weighted(_)) | Aggregate::Mean(Argument::Weighted(_))
            )
        };
        let whole = self.decoding.is_integer() && self.decoding.packing().is_none();
        let exact = |aggregate: &Aggregate| *aggregate == Aggregate::Sum(Argument::Exact);
        if (shifted && self.aggregates.iter().any(weighted))
            || (!whole && self.aggregates.iter().any(exact))
        {
            return false;
        }
        with_number!(
            number,
            T => match self.accept::<T>() {
                None => false,
                // NaN that counts as a value is the greatest of all to the engine, and not to a comparison.
                Some(Accept::All) => !(extremes && is_float::<T>()),
                Some(Accept::Range { .. } | Accept::RangeExcept { .. }) => true,
            },
            else false
        )
    }

    /// Bytes that the accumulators of one worker take.
    #[must_use]
    pub fn memory(&self) -> usize {
        let size = self.plan.layout.element.size().unwrap_or(8);
        let each = dense::bytes_per_group(self.quantities(), self.weights.len(), size);
        self.labels.groups().saturating_mul(each)
    }

    /// Whether its parts fit each other: requests come from outside.
    fn check(&self) -> Result<()> {
        let ReadPlan {
            variable,
            layout,
            selection,
            chunks,
        } = &self.plan;
        let wrong = |what: &str| Err(Error::Invalid(format!("{variable}: {what}")));
        let shape = layout.grid.shape();
        let beyond = |(dim, length): (&IndexSet, &u64)| dim.last().is_some_and(|at| at >= *length);
        if selection.dims.len() != shape.len() || selection.dims.iter().zip(shape).any(beyond) {
            return wrong("the selection of a reduction is not one of the array");
        }
        if self.decoding.element() != layout.element {
            return wrong("the decoding of a reduction is for elements of another type");
        }
        if chunks
            .iter()
            .any(|(number, _)| *number >= layout.grid.len())
        {
            return wrong("a reduction names a chunk that the array does not have");
        }
        for weights in &self.weights {
            let mut axes = weights.axes.iter();
            let ordered = weights.axes.is_sorted_by(|axis, next| axis < next);
            if !ordered || axes.any(|axis| *axis >= shape.len()) {
                return wrong("weights of a reduction do not name axes of the array in order");
            }
        }
        Ok(())
    }

    /// Which stored numbers count; `None` if that cannot be said simply enough.
    fn accept<T: Lane + Number>(&self) -> Option<Accept<T>> {
        let limits = self.decoding.limits::<T>();
        let float = is_float::<T>();
        let interval = self
            .interval
            .map(|(low, high)| (T::from_bits(low), T::from_bits(high)));
        if limits.valid.is_none() && interval.is_none() && limits.equal.is_empty() && !limits.nan {
            return Some(Accept::All);
        }
        if float && !limits.nan {
            return None;
        }
        let (mut low, mut high) = (T::LOWEST, T::HIGHEST);
        for (least, greatest) in limits.valid.into_iter().chain(interval) {
            low = if least > low { least } else { low };
            high = if greatest < high { greatest } else { high };
        }
        let inside = |value: &&T| low <= **value && **value <= high;
        let except: Vec<T> = limits.equal.iter().filter(inside).copied().collect();
        match except.as_slice() {
            [] => Some(Accept::Range { low, high }),
            [one] => Some(Accept::RangeExcept {
                low,
                high,
                except: [*one, *one],
            }),
            [one, two] => Some(Accept::RangeExcept {
                low,
                high,
                except: [*one, *two],
            }),
            _ => None,
        }
    }

    fn quantities(&self) -> Quantities {
        let mut wanted = Quantities {
            selective: self.interval.is_some(),
            ..Quantities::default()
        };
        // Integers of few bytes are added exactly; the sum becomes a floating-point number once.
        let size = self.plan.layout.element.size().unwrap_or(8);
        let is_integer = self.decoding.is_integer();
        let many = self.plan.selection.cells() > 1 << 31;
        let exactly = is_integer && (size <= 2 || (size == 4 && !many));
        for aggregate in &self.aggregates {
            match aggregate {
                Aggregate::Sum(Argument::Exact) => wanted.exact = true,
                Aggregate::Sum(Argument::Affine { .. })
                | Aggregate::Mean(Argument::Affine { .. } | Argument::Exact) => {
                    wanted.exact |= exactly;
                    wanted.sum |= !exactly;
                }
                Aggregate::Min => wanted.min = true,
                Aggregate::Max => wanted.max = true,
                Aggregate::Variance { .. } => wanted.moments = true,
                Aggregate::Rows
                | Aggregate::Count
                | Aggregate::Sum(Argument::Weighted(_))
                | Aggregate::Mean(Argument::Weighted(_)) => {}
            }
        }
        if self.decoding.is_descending() {
            std::mem::swap(&mut wanted.min, &mut wanted.max);
        }
        wanted
    }

    /// Whether any cell must be looked at.
    #[must_use]
    pub fn reads(&self) -> bool {
        let wanted = self.quantities();
        let counts = self
            .aggregates
            .iter()
            .any(|aggregate| !matches!(aggregate, Aggregate::Rows));
        wanted.selective
            || wanted
                != Quantities {
                    selective: false,
                    ..Quantities::default()
                }
            || !self.weights.is_empty()
            || (counts && self.decoding.nullable())
    }
}

/// Reduces all chunks that a request lists.
///
/// # Errors
/// `Invalid` when the selection, the chunks or the weights are not those of the array, and as [`Reducer::new`] and
/// [`Reducer::reduce`].
pub async fn reduce(
    store: &Store,
    reduction: &Arc<Reduction>,
    buffers: &mut Buffers,
) -> Result<Partial> {
    reduction.check()?;
    let mut reducer = Reducer::new(reduction)?;
    let fetched = fetch(store, &reduction.plan).await?;
    reducer.reduce(store, &reduction.plan.chunks, &fetched, buffers)?;
    reducer.finish()
}

/// The partial states of a reduction, one row for each group.
#[derive(Clone, Debug)]
pub struct Partial {
    /// Number of rows in each group; a group without rows does not exist.
    pub rows: Vec<u64>,
    /// For each aggregate, the columns of its state.
    pub states: Vec<Vec<ArrayRef>>,
}

/// A worker of a reduction: takes chunks one after another.
#[derive(Debug)]
pub struct Reducer {
    reduction: Arc<Reduction>,
    job: Job,
    walk: Walk,
    accumulator: Box<dyn Accumulator>,
    /// Chunks that it has seen.
    seen: usize,
}

impl Reducer {
    /// A worker that has seen no chunk.
    ///
    /// # Errors
    /// `Invalid` when the parts of the request do not fit each other, `Unsupported` when its variable cannot be reduced.
    pub fn new(reduction: &Arc<Reduction>) -> Result<Self> {
        let selection = &reduction.plan.selection;
        reduction.labels.check(selection)?;
        let (tables, weighted) = reduction.tables()?;
        let refuse = || {
            Error::Unsupported(format!(
                "{}: its values cannot be reduced as they are stored",
                reduction.plan.variable
            ))
        };
        if !reduction.is_supported() {
            return Err(refuse());
        }
        let number = reduction.decoding.number().ok_or_else(refuse)?;
        let groups = reduction.labels.groups();
        let quantities = reduction.quantities();
        let accumulator: Box<dyn Accumulator> = with_number!(
            number,
            T => Box::new(Dense::<T>::new(
                groups,
                quantities,
                reduction.accept::<T>().ok_or_else(refuse)?,
                tables,
            )),
            else return Err(refuse())
        );
        Ok(Self {
            job: Job::new(&reduction.plan.layout, selection)?,
            walk: Walk::new(selection, &reduction.labels, &weighted),
            accumulator,
            seen: 0,
            reduction: Arc::clone(reduction),
        })
    }

    /// How many chunks it has seen; after an error, all before the one that it is about.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Takes some chunks: their C-order numbers and addresses, and their bytes where the store is not local.
    ///
    /// # Errors
    /// As [`crate::read::decode`].
    pub fn reduce(
        &mut self,
        store: &Store,
        chunks: &[(u64, ChunkAddress)],
        fetched: &Fetched,
        buffers: &mut Buffers,
    ) -> Result<()> {
        let variable = Arc::clone(&self.reduction.plan.variable);
        let mut at = 0;
        while let Some((number, address)) = chunks.get(at) {
            let here = chunks.get(at..).unwrap_or_default();
            let together = if store.is_local() {
                neighbours(here)
            } else {
                0
            };
            if together > 1 {
                self.span(store, here.get(..together).unwrap_or_default(), buffers)
                    .within(|| &variable)?;
                at += together;
                self.seen += together;
                continue;
            }
            let bytes = stored(fetched, at);
            let mut feed = self.accumulator.feed(&self.walk);
            self.job
                .visit(store, (*number, address), bytes, buffers, feed.as_mut())
                .within(|| &variable)?;
            at += 1;
            self.seen += 1;
        }
        Ok(())
    }

    /// Takes chunks that lie one behind the other in an object: their bytes are read at once.
    fn span(
        &mut self,
        store: &Store,
        chunks: &[(u64, ChunkAddress)],
        buffers: &mut Buffers,
    ) -> Result<()> {
        let Some((object, start)) = chunks.first().and_then(|(_, address)| place(address)) else {
            return Ok(());
        };
        let end = chunks
            .last()
            .and_then(|(_, address)| place(address))
            .map_or(start.start, |(_, range)| range.end);
        let too_long = || Error::Corrupt("its stored size cannot be addressed".into());
        let length = usize::try_from(end - start.start).map_err(|_| too_long())?;
        store.check_local(object, start.start, length)?;
        let mut bytes = std::mem::take(&mut buffers.span);
        if bytes.len() < length {
            bytes = vec![0; length];
        }
        store.read_local(
            object,
            start.start,
            bytes.get_mut(..length).unwrap_or_default(),
        )?;
        for (number, address) in chunks {
            let Some((_, range)) = place(address) else {
                continue;
            };
            let from = usize::try_from(range.start - start.start).map_err(|_| too_long())?;
            let to = usize::try_from(range.end - start.start).map_err(|_| too_long())?;
            let mut feed = self.accumulator.feed(&self.walk);
            let stored = bytes.get(from..to).map(Stored::whole);
            self.job
                .visit(store, (*number, address), stored, buffers, feed.as_mut())?;
        }
        buffers.span = bytes;
        Ok(())
    }

    /// Takes computed values: `cells` holds those of the box whose positions among the selected indices are `place`, in
    /// C order and native byte order.
    ///
    /// # Errors
    /// `Corrupt` when there are fewer values than cells.
    pub fn reduce_block(&mut self, cells: &[u8], place: &[Range<usize>]) -> Result<()> {
        let run = |range: &Range<usize>| Run {
            from: 0,
            to: range.start,
            length: range.len(),
        };
        let crop = Crop(place.iter().map(|range| vec![run(range)]).collect());
        let shape: Vec<usize> = place.iter().map(ExactSizeIterator::len).collect();
        self.accumulator
            .feed(&self.walk)
            .cells(cells, &strides(&shape), &crop)
    }

    /// Adds what another worker of the same reduction has seen.
    pub fn merge(&mut self, other: &Self) {
        self.accumulator.merge(other.accumulator.as_ref());
    }

    /// The states of what has been seen, under the assumption that it was the whole selection.
    ///
    /// # Errors
    /// When a state cannot be decoded.
    pub fn finish(&self) -> Result<Partial> {
        self.accumulator.finish(&self.reduction)
    }
}

/// Object and byte range of a chunk that is one.
fn place(address: &ChunkAddress) -> Option<(&str, Range<u64>)> {
    match address {
        ChunkAddress::Range {
            object,
            offset,
            length,
            ..
        } => Some((object, *offset..offset.checked_add(*length)?)),
        ChunkAddress::Missing
        | ChunkAddress::Inline(_)
        | ChunkAddress::Encoded(_)
        | ChunkAddress::Foreign { .. }
        | ChunkAddress::Object(_) => None,
    }
}

/// How many of the first chunks lie one behind the other and are small.
fn neighbours(chunks: &[(u64, ChunkAddress)]) -> usize {
    let Some((object, first)) = chunks.first().and_then(|(_, address)| place(address)) else {
        return 0;
    };
    let mut end = first.end;
    if end - first.start > SMALL {
        return 1;
    }
    let next = |(_, address): &&(u64, ChunkAddress)| match place(address) {
        Some((other, range))
            if other == object && range.start == end && range.end - first.start <= SPAN =>
        {
            end = range.end;
            true
        }
        _ => false,
    };
    1 + chunks.iter().skip(1).take_while(next).count()
}

fn is_float<T: Lane>() -> bool {
    Lane::to_f64(T::HIGHEST).is_infinite()
}

/// Accumulators of some element type.
trait Accumulator: Debug + Send {
    fn feed<'a>(&'a mut self, walk: &'a Walk) -> Box<dyn Sink + 'a>;
    /// Takes other weights, as many as before.
    fn weigh(&mut self, weights: Vec<Table>);
    fn merge(&mut self, other: &dyn Accumulator);
    fn finish(&self, reduction: &Reduction) -> Result<Partial>;
    fn as_any(&self) -> &dyn Any;
}

impl<T: Lane + Number> Accumulator for Dense<T> {
    fn feed<'a>(&'a mut self, walk: &'a Walk) -> Box<dyn Sink + 'a> {
        Box::new(Feed { walk, dense: self })
    }

    fn weigh(&mut self, weights: Vec<Table>) {
        self.set_weights(weights);
    }

    fn merge(&mut self, other: &dyn Accumulator) {
        if let Some(other) = other.as_any().downcast_ref::<Self>() {
            Self::merge(self, other);
        }
    }

    fn finish(&self, reduction: &Reduction) -> Result<Partial> {
        states::partial(self, reduction)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
