//! The rows of a scan: tiles taken from the queue, predicates first, and only then the other variables.

mod cells;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{BatchCoalescer, filter_record_batch};
use arrow::datatypes::DataType;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::array::hyperslab::Selection;
use crate::array::slab::{Slab, SlabData};
use crate::cf::decode::Decoding;
use crate::query::ahead::{self, Coming};
use crate::query::engine_error;
use crate::query::grid::{Column, VariableColumn};
use crate::query::members::values;
use crate::query::metrics::ScanMetrics;
use crate::query::prune::excludes;
use crate::query::scan::{ArraySource, Shared, Work};
use crate::query::tile::{Part, Tile, Tiles};
use crate::read::batch::{DimensionColumn, Rows, slice, view};
use crate::read::{self, Buffers};
use crate::store::Store;

/// The batches of one partition.
pub(super) fn batches(
    source: ArraySource,
    partition: usize,
    context: &Arc<TaskContext>,
    shared: Arc<Shared>,
    work: Work,
) -> BoxStream<'static, Result<RecordBatch>> {
    let worker = Worker::new(source, partition, context, shared, work);
    futures::stream::try_unfold(worker, |mut worker| async move {
        let timer = worker.metrics.baseline.elapsed_compute().clone();
        let _timer = timer.timer();
        let batch = worker.next().await;
        // Also what cannot be read may be so because it was changed.
        worker.source.check().await?;
        let batch = batch?;
        Ok(batch.map(|batch| {
            worker.metrics.baseline.record_output(batch.num_rows());
            (batch, worker)
        }))
    })
    .boxed()
}

pub(super) struct Worker {
    source: ArraySource,
    tiles: Tiles,
    shared: Arc<Shared>,
    work: Work,
    /// Rows that this partition may still deliver.
    fetch: usize,
    batch_size: usize,
    buffers: Buffers,
    reservation: MemoryReservation,
    /// Per dimension column of the grid, its pattern.
    dimensions: Vec<DimensionColumn>,
    /// Per column of the grid, a decoded variable of lower rank that is read once.
    kept: Vec<Option<ArrayRef>>,
    kept_bytes: usize,
    /// Per column of the grid, how its variable is read.
    ways: Vec<Option<Way>>,
    /// Per column of the grid, the own cells of an aligned variable that the last tile needed, and their values.
    last: Vec<Option<(Selection, ArrayRef)>>,
    gather: Gather,
    /// How many tiles are fetched before they are needed.
    depth: usize,
    /// Tiles that are this worker's, in their order, and what comes of them.
    ahead: VecDeque<(u64, Vec<Coming>)>,
    /// What comes of the current tile.
    coming: Vec<Coming>,
    current: Option<Loaded>,
    /// Gathers the rows of batches that would be too small.
    coalescer: BatchCoalescer,
    metrics: ScanMetrics,
}

/// A tile whose variables have been read.
pub(super) struct Loaded {
    pub(super) tile: Tile,
    pub(super) rows: Rows,
    next: usize,
    /// Per batch of the tile, which rows are kept; `None` when all are.
    pub(super) masks: Option<Vec<BooleanArray>>,
    /// Per column of the grid, its cells.
    cells: Vec<Option<Cells>>,
}

impl Loaded {
    /// Which rows of the tile are kept; `None` when all are.
    pub(super) fn mask(&self) -> Option<BooleanBuffer> {
        let masks = self.masks.as_ref()?;
        let mut all = BooleanBufferBuilder::new(self.rows.len());
        for mask in masks {
            all.append_buffer(mask.values());
        }
        Some(all.finish())
    }
}

/// How a variable is read.
#[derive(Clone, Debug)]
struct Way {
    /// Whether its cells come in the order of its dimensions in the grid, each once.
    straight: bool,
    /// Its own cells that the scan needs, if they are few enough to be read once.
    kept: Option<Selection>,
}

/// The cells of a variable within a tile.
enum Cells {
    /// Stored values of all rows, in the order of the rows.
    Rows(Stored),
    /// Values of all rows, in the order of the rows.
    Values(ArrayRef),
    /// Values on some of the dimensions, to be repeated.
    Lower(ArrayRef),
    /// Own cells of an aligned variable with their values, to be gathered for each part of the tile.
    Own(Selection, ArrayRef),
}

/// Stored values that are decoded batch by batch.
struct Stored {
    slab: Slab,
    decoding: Arc<Decoding>,
    /// The type of the column, if that of the values may be another one.
    wider: Option<DataType>,
    store: Store,
}

impl Stored {
    /// The values of some of its cells.
    fn decoded(&self, cells: Slab) -> Result<ArrayRef> {
        let values = values(&self.decoding, self.wider.as_ref(), cells);
        values.map_err(|error| engine_error(error.within(self.store.location())))
    }
}

/// When the values of an aligned variable are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gather {
    /// When a tile has been read, for all of its rows.
    Tiles,
    /// For each part of a tile: [`Worker::borrowed`].
    Parts,
}

impl Worker {
    pub(super) fn new(
        source: ArraySource,
        partition: usize,
        context: &Arc<TaskContext>,
        shared: Arc<Shared>,
        work: Work,
    ) -> Self {
        let batch_size = context.session_config().batch_size();
        let columns = source.grid.columns.len();
        let reservation =
            MemoryConsumer::new(format!("ArrayScan[{partition}]")).register(context.memory_pool());
        Self {
            tiles: source.tiles(),
            shared,
            work,
            fetch: source.fetch.unwrap_or(usize::MAX),
            batch_size,
            buffers: Buffers::default(),
            reservation,
            dimensions: (0..columns).map(|_| DimensionColumn::default()).collect(),
            kept: (0..columns).map(|_| None).collect(),
            kept_bytes: 0,
            ways: vec![None; columns],
            last: vec![None; columns],
            gather: Gather::Tiles,
            depth: depth(&source),
            ahead: VecDeque::new(),
            coming: Vec::new(),
            current: None,
            coalescer: BatchCoalescer::new(Arc::clone(&source.schema), batch_size),
            metrics: ScanMetrics::new(&source, partition),
            source,
        }
    }

    /// The same worker for who takes tiles in parts.
    pub(super) fn in_parts(mut self) -> Self {
        self.gather = Gather::Parts;
        self
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.coalescer.next_completed_batch() {
                return Ok(Some(batch));
            }
            if self.fetch == 0 || (self.shared.is_satisfied() && self.coalescer.is_empty()) {
                return Ok(None);
            }
            if let Some(mut loaded) = self.current.take() {
                let batch = self.emit(&mut loaded)?;
                if loaded.next < loaded.rows.len() {
                    self.current = Some(loaded);
                } else {
                    self.recycle(loaded);
                }
                if let Some(batch) = batch {
                    let wanted = self.shared.deliver(batch.num_rows()).min(self.fetch);
                    self.fetch -= wanted;
                    let batch = batch.slice(0, wanted);
                    if batch.num_rows() * 2 >= self.batch_size && self.coalescer.is_empty() {
                        return Ok(Some(batch));
                    }
                    self.coalescer.push_batch(batch)?;
                    if self.fetch == 0 || self.shared.is_satisfied() {
                        self.coalescer.finish_buffered_batch()?;
                        self.current = None;
                        return Ok(self.coalescer.next_completed_batch());
                    }
                }
                continue;
            }
            let Some(number) = self.take() else {
                self.coalescer.finish_buffered_batch()?;
                self.fetch = if self.coalescer.has_completed_batch() {
                    self.fetch
                } else {
                    0
                };
                return Ok(self.coalescer.next_completed_batch());
            };
            let tile = self.tiles.tile(number);
            if !self.is_excluded(&tile)? {
                self.current = self.load(tile).await?;
            }
        }
    }

    /// The next tile that has rows, read.
    pub(super) async fn next_tile(&mut self) -> Result<Option<Loaded>> {
        while let Some(number) = self.take() {
            let tile = self.tiles.tile(number);
            if self.is_excluded(&tile)? {
                continue;
            }
            if let Some(loaded) = self.load(tile).await? {
                return Ok(Some(loaded));
            }
        }
        Ok(None)
    }

    /// The next tile; those behind it are fetched meanwhile, where they are far away.
    fn take(&mut self) -> Option<u64> {
        while self.ahead.len() < self.depth.max(1) {
            let Some(number) = self.claim() else {
                break;
            };
            let coming = match self.depth {
                0 => Vec::new(),
                _ => self.begin(&self.tiles.tile(number)),
            };
            self.ahead.push_back((number, coming));
        }
        let (number, coming) = self.ahead.pop_front()?;
        self.coming = coming;
        Some(number)
    }

    fn claim(&mut self) -> Option<u64> {
        let number = match &mut self.work {
            Work::Queue => self.shared.take(),
            Work::Share(share) => share.next()?,
        };
        (number < self.tiles.len()).then_some(number)
    }

    /// Whether masks or dynamic filters leave nothing of a tile.
    fn is_excluded(&mut self, tile: &Tile) -> Result<bool> {
        if self.source.pruned.planes.is_empty() && self.source.pruned.dynamic.is_empty() {
            return Ok(false);
        }
        let chunks = chunks_of(self.source.variables().into_iter(), tile);
        if !self.source.pruned.planes.is_empty() {
            let touched = self
                .source
                .pruned
                .planes
                .iter()
                .all(|plane| plane.touches(&tile.place));
            if !touched {
                self.metrics.pruned_mask.add_pruned(chunks);
                return Ok(true);
            }
            self.metrics.pruned_mask.add_matched(chunks);
        }
        for filter in &self.source.pruned.dynamic {
            let current = datafusion::physical_expr_common::physical_expr::snapshot_physical_expr(
                Arc::clone(filter),
            )?;
            if excludes(&self.source.grid, &current, &tile.selection.dims)? {
                self.metrics.pruned_dynamic.add_pruned(chunks);
                return Ok(true);
            }
        }
        if !self.source.pruned.dynamic.is_empty() {
            self.metrics.pruned_dynamic.add_matched(chunks);
        }
        Ok(false)
    }

    /// Reads a tile: the variables of the predicate, then, if it leaves a row, those of the output.
    async fn load(&mut self, tile: Tile) -> Result<Option<Loaded>> {
        self.reserve(&tile)?;
        let rows = Rows::new(&tile.selection).map_err(engine_error)?;
        let columns = self.source.grid.columns.len();
        let mut loaded = Loaded {
            tile,
            rows,
            next: 0,
            masks: None,
            cells: (0..columns).map(|_| None).collect(),
        };
        if loaded.rows.is_empty() {
            return Ok(None);
        }
        if let Some(residual) = self.source.residual.clone() {
            self.read(&mut loaded, residual.columns(), Gather::Tiles)
                .await?;
            let mut masks = Vec::new();
            let mut any = false;
            for range in self.ranges(&loaded.rows) {
                let mut values = Vec::with_capacity(residual.columns().len());
                for column in residual.columns() {
                    values.push(self.column(&loaded, *column, range.clone())?);
                }
                let mask = residual.evaluate(values, range.len())?;
                any |= mask.has_true();
                masks.push(BooleanArray::new(mask, None));
            }
            if !any {
                let skipped = self.skipped_chunks(&loaded);
                self.metrics.skipped_by_predicate.add(skipped);
                self.recycle(loaded);
                return Ok(None);
            }
            loaded.masks = Some(masks);
        }
        self.mask_planes(&mut loaded)?;
        let output = self.source.projection.clone();
        self.read(&mut loaded, &output, self.gather).await?;
        Ok(Some(loaded))
    }

    /// Chunks of the output that need not be read because no row of the tile passed the predicate.
    fn skipped_chunks(&self, loaded: &Loaded) -> usize {
        let mut columns = self.source.projection.clone();
        columns.sort_unstable();
        columns.dedup();
        let unread = columns
            .into_iter()
            .filter(|column| loaded.cells.get(*column).is_some_and(Option::is_none))
            .filter_map(|column| self.source.grid.variable(column));
        chunks_of(unread, &loaded.tile)
    }

    /// Adds the masks over planes to the masks of the batches.
    fn mask_planes(&mut self, loaded: &mut Loaded) -> Result<()> {
        for plane in &self.source.pruned.planes {
            let cut = plane.cut(&loaded.tile.place);
            if cut.false_count() == 0 {
                continue;
            }
            let cut: ArrayRef = Arc::new(cut);
            let ranges = self.ranges(&loaded.rows);
            let masks = loaded.masks.take();
            let mut combined = Vec::with_capacity(ranges.len());
            for (at, range) in ranges.into_iter().enumerate() {
                let spread = loaded.rows.broadcast(&plane.axes, &cut, range)?;
                let spread = arrow::array::AsArray::as_boolean(&spread).clone();
                combined.push(match masks.as_ref().and_then(|masks| masks.get(at)) {
                    Some(mask) => arrow::compute::and(mask, &spread)?,
                    None => spread,
                });
            }
            loaded.masks = Some(combined);
        }
        Ok(())
    }

    pub(super) fn ranges(&self, rows: &Rows) -> Vec<Range<usize>> {
        let step = self.batch_size.max(1);
        (0..rows.len())
            .step_by(step)
            .map(|start| start..rows.len().min(start + step))
            .collect()
    }

    fn emit(&mut self, loaded: &mut Loaded) -> Result<Option<RecordBatch>> {
        let start = loaded.next;
        let range = start..loaded.rows.len().min(start + self.batch_size.max(1));
        loaded.next = range.end;
        let mask = loaded
            .masks
            .as_ref()
            .and_then(|masks| masks.get(start / self.batch_size.max(1)));
        if mask.is_some_and(|mask| mask.true_count() == 0) {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(self.source.projection.len());
        for column in self.source.projection.clone() {
            values.push(self.column(loaded, column, range.clone())?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(range.len()));
        let schema = Arc::clone(&self.source.schema);
        let batch = RecordBatch::try_new_with_options(schema, values, &options)?;
        Ok(Some(match mask {
            Some(mask) if mask.true_count() < mask.len() => filter_record_batch(&batch, mask)?,
            _ => batch,
        }))
    }

    /// A column of the grid for a part of a tile, which may share the memory of the tile: it has to be gone before the
    /// tile is recycled.
    pub(super) fn borrowed(
        &mut self,
        loaded: &Loaded,
        column: usize,
        part: &Part,
    ) -> Result<ArrayRef> {
        let grid = &self.source.grid;
        let (Some(Column::Variable(variable)), Some(Some(cells))) =
            (grid.columns.get(column), loaded.cells.get(column))
        else {
            return self.column(loaded, column, part.rows.clone());
        };
        match (cells, &variable.alignment) {
            (Cells::Rows(stored), _) => stored.decoded(view(&stored.slab, part.rows.clone())),
            (Cells::Own(own, values), Some(alignment)) => {
                let selection = loaded.tile.selection_of(part);
                let values = alignment.gather(own, values, &selection)?;
                let rows = Rows::new(&selection).map_err(engine_error)?;
                Ok(rows.broadcast(&variable.axes, &values, 0..rows.len())?)
            }
            (Cells::Values(_) | Cells::Lower(_) | Cells::Own(..), _) => {
                self.column(loaded, column, part.rows.clone())
            }
        }
    }

    /// A column of the grid for some rows of a tile.
    pub(super) fn column(
        &mut self,
        loaded: &Loaded,
        column: usize,
        range: Range<usize>,
    ) -> Result<ArrayRef> {
        let grid = &self.source.grid;
        match (grid.columns.get(column), loaded.cells.get(column)) {
            (Some(Column::Variable(variable)), Some(Some(cells))) => match cells {
                Cells::Rows(stored) => {
                    let timer = self.metrics.decode_time.timer();
                    let values = stored.decoded(slice(&stored.slab, range));
                    timer.done();
                    values
                }
                Cells::Values(values) => Ok(values.slice(range.start, range.len())),
                Cells::Lower(values) => Ok(loaded.rows.broadcast(&variable.axes, values, range)?),
                Cells::Own(..) => Err(missing(column)),
            },
            (Some(Column::Derived { axes, .. }), Some(Some(Cells::Lower(values)))) => {
                Ok(match axes.as_slice() {
                    [axis] => loaded.rows.dimension(*axis, values, range)?,
                    axes => loaded.rows.broadcast(axes, values, range)?,
                })
            }
            (Some(Column::Coordinate { axis } | Column::Index { axis }), _) => {
                let (Some(set), Some(pattern)) = (
                    loaded.tile.selection.dims.get(*axis),
                    self.dimensions.get_mut(column),
                ) else {
                    return Err(missing(column));
                };
                let part = (*axis, set, grid.vector(column));
                Ok(pattern.build(&loaded.rows, part, range, self.batch_size)?)
            }
            _ => Err(missing(column)),
        }
    }

    /// Reserves the memory of a tile: a slab of each variable, and the largest chunk before and after decoding.
    fn reserve(&mut self, tile: &Tile) -> Result<()> {
        let bytes: u64 = self
            .source
            .variables()
            .into_iter()
            .map(|variable| {
                let cells = variable.selection(&tile.selection).cells();
                let own = read::memory(&variable.variable.layout, cells);
                // The values of several files are put together.
                let own = own.saturating_mul(1 + u64::from(variable.members.is_some()));
                // What is gathered from the own cells, and from where.
                let gathered = variable.alignment.as_ref().map_or(0, |alignment| {
                    let sets = alignment.axes().iter();
                    let sets = sets.filter_map(|axis| tile.selection.dims.get(*axis));
                    sets.fold(16u64, |bytes, set| bytes.saturating_mul(set.count()))
                });
                own.saturating_add(gathered)
            })
            .fold(0u64, u64::saturating_add);
        // Tiles that are under way are held as they are stored, which is hardly more than they are decoded.
        let under_way = bytes.saturating_mul(self.ahead.len() as u64);
        let bytes = bytes
            .saturating_add(under_way)
            .saturating_add(self.kept_bytes as u64);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if bytes > self.reservation.size() {
            self.reservation.try_resize(bytes)?;
        }
        Ok(())
    }

    /// Takes the memory of a tile back.
    pub(super) fn recycle(&mut self, loaded: Loaded) {
        for cells in loaded.cells.into_iter().flatten() {
            if let Cells::Rows(Stored { slab, .. }) = cells
                && matches!(slab.data, SlabData::Fixed(_))
            {
                self.buffers.recycle(slab);
            }
        }
    }
}

/// How many tiles of a scan are fetched before they are needed: none of files of this machine, and of a scan that may end early.
fn depth(source: &ArraySource) -> usize {
    let variables = source.variables();
    let is_far = |variable: &&VariableColumn| match &variable.members {
        Some(members) => members.stores().any(|store| !store.is_local()),
        None => !variable.store.is_local(),
    };
    match variables.into_iter().any(|variable| is_far(&variable)) && !source.is_limited() {
        true => ahead::depth(source.tile_memory() as u64),
        false => 0,
    }
}

/// How many chunks of some variables hold a cell of a tile.
fn chunks_of<'a>(variables: impl Iterator<Item = &'a VariableColumn>, tile: &Tile) -> usize {
    let chunks: u64 = variables
        .map(|variable| {
            let selection = variable.selection(&tile.selection);
            variable.touched_chunks(&selection)
        })
        .sum();
    usize::try_from(chunks).unwrap_or(usize::MAX)
}

fn missing(column: usize) -> DataFusionError {
    DataFusionError::Internal(format!("column {column} has not been read"))
}
