//! The waist: a [`ReadPlan`] says which cells of one variable and where their chunks are; reading it gives a slab.
//!
//! ```text
//! ReadPlan = layout + selection + [chunk number, address]      plain data, can be printed and sent
//!    fetch    address -> bytes      of the whole chunk, or of the blocks that the selection touches; local chunks are read
//!                                 while decoding, straight into reused buffers
//!    decode   bytes   -> cells      only the blocks of a chunk that the selection touches
//!    crop     cells   -> slab       C order of the selection
//! ```

pub mod batch;
mod decode;
mod encoded;
pub mod reduce;
mod text;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::array::chunk::{ChunkAddress, ChunkGrid};
use crate::array::hyperslab::Selection;
use crate::array::slab::Slab;
use crate::array::{Layout, Variable};
use crate::cf::decode::{DecodeOptions, Decoding};
use crate::error::{Error, Result, Within};
use crate::store::Store;

pub use decode::{Buffers, Counters};
pub use encoded::Encoded;

/// How often cells are read again whose objects others replace meanwhile by such as hold the same and more.
pub const TRIES: usize = 10;

/// Requests of one plan that are under way at the same time.
const REQUESTS: usize = 64;

/// Which cells of one variable to read, and where the bytes of their chunks are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadPlan {
    /// Path of the variable, for messages.
    pub variable: Arc<str>,
    /// How its cells are stored.
    pub layout: Arc<Layout>,
    /// The cells to read.
    pub selection: Selection,
    /// Number and address of every chunk that holds one of these cells, in C order.
    pub chunks: Vec<(u64, ChunkAddress)>,
}

impl ReadPlan {
    /// Plans the reading of the cells `selection` of `variable`.
    ///
    /// # Errors
    /// As [`crate::array::chunk::ChunkIndex::locate`].
    pub async fn new(variable: &Variable, selection: Selection) -> Result<Self> {
        let numbers = touched_chunks(&variable.layout.grid, &selection);
        Self::of_chunks(variable, selection, numbers).await
    }

    /// Plans the reading of what of the cells `selection` of `variable` lies in the chunks `numbers` (C-order numbers
    /// in its grid, increasing).
    ///
    /// # Errors
    /// As [`crate::array::chunk::ChunkIndex::locate`].
    pub async fn of_chunks(
        variable: &Variable,
        selection: Selection,
        numbers: Vec<u64>,
    ) -> Result<Self> {
        let addresses = variable
            .index
            .locate(&numbers)
            .await
            .within(|| &variable.path)?;
        Ok(Self {
            variable: variable.path.as_str().into(),
            layout: Arc::clone(&variable.layout),
            selection,
            chunks: numbers.into_iter().zip(addresses).collect(),
        })
    }
}

/// Bytes that reading `cells` cells of a variable holds at once: the slab, and one chunk before and after decoding.
#[must_use]
pub fn memory(layout: &Layout, cells: u64) -> u64 {
    let size = layout.element.size().unwrap_or(32) as u64;
    let chunk = layout.grid.chunk_cells().saturating_mul(size);
    cells
        .saturating_mul(size)
        .saturating_add(chunk.saturating_mul(2))
}

/// C-order numbers of the chunks that hold a selected cell, in increasing order. Costs one step a run and one a chunk.
#[must_use]
pub fn touched_chunks(grid: &ChunkGrid, selection: &Selection) -> Vec<u64> {
    let mut numbers = vec![0u64];
    for ((dim, extent), count) in selection
        .dims
        .iter()
        .zip(grid.chunk_shape())
        .zip(grid.counts())
    {
        let blocks = dim.blocks(*extent);
        numbers = numbers
            .iter()
            .flat_map(|number| blocks.iter().map(move |at| number * count + at))
            .collect();
    }
    numbers
}

/// The chunks that hold a selected cell, counted off without listing them.
#[derive(Clone, Debug)]
pub struct TouchedChunks {
    /// For each dimension, the places of the touched chunks along it, and the number of all chunks along it.
    dims: Vec<(Vec<u64>, u64)>,
}

impl TouchedChunks {
    /// The chunks of `grid` that hold a cell of `selection`.
    #[must_use]
    pub fn new(grid: &ChunkGrid, selection: &Selection) -> Self {
        let extents = grid.chunk_shape().iter().zip(grid.counts());
        Self {
            dims: selection
                .dims
                .iter()
                .zip(extents)
                .map(|(dim, (extent, count))| (dim.blocks(*extent).iter().collect(), *count))
                .collect(),
        }
    }

    /// How many they are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.dims.iter().fold(1, |len: u64, (places, _)| {
            len.saturating_mul(places.len() as u64)
        })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The C-order numbers in the grid of some of them, by their place among the touched ones.
    #[must_use]
    pub fn numbers(&self, places: Range<u64>) -> Vec<u64> {
        let number = |place: u64| {
            let (mut rest, mut number, mut stride) = (place, 0u64, 1u64);
            for (touched, count) in self.dims.iter().rev() {
                let among = (touched.len() as u64).max(1);
                let at = usize::try_from(rest % among).unwrap_or(usize::MAX);
                number += touched.get(at).copied().unwrap_or(0) * stride;
                stride = stride.saturating_mul(*count);
                rest /= among;
            }
            number
        };
        places.map(number).collect()
    }
}

/// How many chunks hold a selected cell. Costs one step a run.
#[must_use]
pub fn count_touched_chunks(grid: &ChunkGrid, selection: &Selection) -> u64 {
    selection
        .dims
        .iter()
        .zip(grid.chunk_shape())
        .fold(1, |count, (dim, extent)| {
            count * dim.blocks(*extent).count()
        })
}

/// Encoded chunks of a plan that had to be fetched before decoding, in the order of its chunks; empty for a local
/// store, whose chunks are read while decoding.
pub type Fetched = Vec<Option<Encoded>>;

/// Places in a plan of the chunks that one object holds, and where in it they are.
type Wholes = (Vec<usize>, Vec<Range<u64>>);

/// Some chunks of a plan, by their places in it.
type Chunks = Vec<(usize, Option<Encoded>)>;

/// Fetches the chunks of a plan from a store that is not local, many at a time; those that stand near each other come together.
///
/// # Errors
/// `Io` when the storage fails, `Corrupt` when an object is shorter than the index says or a chunk than its head says;
/// they name variable and chunk.
pub async fn fetch(store: &Store, plan: &ReadPlan) -> Result<Fetched> {
    if store.is_local() {
        return Ok(Vec::new());
    }
    let job = decode::Job::new(&plan.layout, &plan.selection).within(|| &plan.variable)?;
    // Chunks that are wanted whole, by the objects that they are part of.
    let mut wholes: HashMap<&Arc<str>, Wholes> = HashMap::new();
    let mut requests: Vec<BoxFuture<'_, Result<Chunks>>> = Vec::new();
    for (at, (number, address)) in plan.chunks.iter().enumerate() {
        let crop = job.crop(*number);
        let touched = crop.and_then(|crop| job.touched(encoded::skipped(address), &crop));
        let touched = touched
            .within(|| job.place(*number))
            .within(|| &plan.variable)?;
        let needed = touched.map(|blocks| blocks.needed());
        match encoded::whole(store, address, needed.as_ref()) {
            Some((object, range)) => {
                let (places, ranges) = wholes.entry(object).or_default();
                places.push(at);
                ranges.push(range);
            }
            None => {
                let place = job.place(*number);
                requests.push(Box::pin(async move {
                    let fetched = encoded::fetch(store, address, needed.as_ref()).await;
                    Ok(vec![(at, fetched.within(|| place)?)])
                }));
            }
        }
    }
    for (object, (places, ranges)) in wholes {
        requests.push(Box::pin(async move {
            let fetched = store.ranges(object, ranges).await?;
            let chunks = fetched.into_iter().map(|bytes| Some(Encoded::whole(bytes)));
            Ok(places.into_iter().zip(chunks).collect())
        }));
    }
    let mut fetched: Fetched = vec![None; plan.chunks.len()];
    let mut coming = stream::iter(requests).buffer_unordered(REQUESTS);
    while let Some(chunks) = coming.next().await {
        for (at, chunk) in chunks.within(|| &plan.variable)? {
            if let Some(slot) = fetched.get_mut(at) {
                *slot = chunk;
            }
        }
    }
    Ok(fetched)
}

/// Decodes the fetched chunks of a plan into the slab of its selection. Synchronous: it only computes, and for a local
/// store reads.
///
/// # Errors
/// `Corrupt` when a chunk does not decode, `Io` when the storage fails; both name variable and chunk.
pub fn decode(
    store: &Store,
    plan: &ReadPlan,
    fetched: &Fetched,
    buffers: &mut Buffers,
) -> Result<Slab> {
    decode::slab(store, plan, fetched, buffers).within(|| &plan.variable)
}

/// Reads and decodes all cells of a variable.
///
/// # Errors
/// As [`read`], [`Decoding::new`] and [`Decoding::apply`].
pub async fn values(
    store: &Store,
    variable: &Variable,
    decode: &DecodeOptions,
    buffers: &mut Buffers,
) -> Result<ArrayRef> {
    let decoding = Decoding::new(variable, decode)?;
    let selection = Selection::all(variable.shape());
    decoding.apply(read(store, variable, selection, buffers).await?)
}

/// Plans, fetches and decodes in one go: for coordinates, predicates on planes and other small things.
///
/// # Errors
/// As [`ReadPlan::new`], [`fetch`] and [`decode`].
pub async fn read(
    store: &Store,
    variable: &Variable,
    selection: Selection,
    buffers: &mut Buffers,
) -> Result<Slab> {
    let mut tries = 0;
    loop {
        let read = async {
            let plan = ReadPlan::new(variable, selection.clone()).await?;
            let fetched = fetch(store, &plan).await?;
            decode(store, &plan, &fetched, buffers)
        };
        match read.await {
            Err(Error::Conflict(_)) if tries < TRIES => {
                tries += 1;
                variable.index.forget();
            }
            other => return other,
        }
    }
}
