//! The scan of a grid as DataFusion's data source, and how EXPLAIN shows it.

use std::any::Any;
use std::fmt::{self, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, Statistics};
use datafusion::datasource::source::{DataSource, OpenArgs};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{Column as ColumnExpr, DynamicFilterTracking};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::SchedulingType;
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use crate::append::watch::Watch;
use crate::array::chunk::{ChunkGrid, ElementOrder};
use crate::array::hyperslab::{IndexSet, Selection};
use crate::query::grid::{Grid, VariableColumn};
use crate::query::prune::{Predicate, Pruned};
use crate::query::stream;
use crate::query::tile::{Tiles, tile_shape};
use crate::query::view::inlined;
use crate::query::{HyperslabOptions, engine_error};
use crate::read::count_touched_chunks;

/// Decoded bytes below which another partition costs more than it brings.
const PARTITION_BYTES: u64 = 1 << 20;

/// A scan of a grid: which cells, which columns, in which boxes.
#[derive(Clone, Debug)]
pub struct ArraySource {
    pub(super) grid: Arc<Grid>,
    /// Columns of the grid, in the order of the output.
    pub(super) projection: Vec<usize>,
    pub(super) schema: SchemaRef,
    pub(super) pruned: Pruned,
    /// The conjunction of the residual predicates.
    pub(super) residual: Option<Predicate>,
    pub(super) options: HyperslabOptions,
    /// Extent of a tile.
    pub(super) tile: Vec<u64>,
    /// Most rows of the whole scan.
    pub(super) limit: Option<usize>,
    /// Most rows of each partition.
    pub(super) fetch: Option<usize>,
    partitions: usize,
    pub(super) target_partitions: usize,
    /// Whether nothing is said about order and constants of the rows.
    pub(super) silent: bool,
    /// What tells whether the cells that were read are of one version.
    watches: Vec<Arc<Watch>>,
    /// Why a join or an aggregate over the scan is computed from its rows.
    notes: Vec<String>,
    metrics: ExecutionPlanMetricsSet,
}

/// What the partitions of one execution share: the queue of tiles, and how many rows are still wanted.
#[derive(Debug)]
pub(super) struct Shared {
    next: AtomicU64,
    rows: AtomicUsize,
}

impl Shared {
    pub(super) fn new(limit: Option<usize>) -> Self {
        Self {
            next: AtomicU64::new(0),
            rows: AtomicUsize::new(limit.unwrap_or(usize::MAX)),
        }
    }

    /// The number of the next tile that nobody has taken.
    pub(super) fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// How many of `rows` rows are still wanted; they count as delivered.
    pub(super) fn deliver(&self, rows: usize) -> usize {
        let before = self
            .rows
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(left.saturating_sub(rows))
            })
            .unwrap_or(0);
        before.min(rows)
    }

    pub(super) fn is_satisfied(&self) -> bool {
        self.rows.load(Ordering::Relaxed) == 0
    }
}

/// Which tiles a partition reads.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// Whatever is next in the queue that all partitions share.
    Queue,
    /// A fixed share, because the partitions cannot see each other.
    Share(std::ops::Range<u64>),
}

impl ArraySource {
    /// A scan of the columns `projection` of the cells that `pruned` leaves.
    ///
    /// # Errors
    /// When a residual predicate refers to a column that the table does not have.
    pub fn new(
        grid: Arc<Grid>,
        projection: Vec<usize>,
        pruned: Pruned,
        options: HyperslabOptions,
        target_partitions: usize,
    ) -> Result<Self> {
        let schema = Arc::new(grid.schema.project(&projection)?);
        Self {
            grid,
            projection,
            schema,
            pruned,
            residual: None,
            options,
            tile: Vec::new(),
            limit: None,
            fetch: None,
            partitions: 1,
            target_partitions,
            silent: false,
            watches: Vec::new(),
            notes: Vec::new(),
            metrics: ExecutionPlanMetricsSet::new(),
        }
        .planned()
    }

    /// At most `limit` rows in all.
    ///
    /// # Errors
    /// As [`ArraySource::new`].
    pub fn with_limit(mut self, limit: Option<usize>) -> Result<Self> {
        self.limit = limit;
        self.planned()
    }

    /// The same scan, which fails when one of these datasets is changed under it.
    #[must_use]
    pub(super) fn watched(mut self, watches: impl IntoIterator<Item = Arc<Watch>>) -> Self {
        self.watches.extend(watches);
        self
    }

    /// What tells whether the cells that were read are of one version.
    pub(super) fn watches(&self) -> &[Arc<Watch>] {
        &self.watches
    }

    /// Checks that all that has been read so far is of one version of each dataset.
    ///
    /// # Errors
    /// As [`Watch::check`].
    pub(super) async fn check(&self) -> Result<()> {
        for watch in &self.watches {
            watch.check().await.map_err(engine_error)?;
        }
        Ok(())
    }

    /// The same scan whose output has other names and less certain fields, one for each column.
    pub(super) fn with_schema(mut self, schema: SchemaRef) -> Self {
        self.schema = schema;
        self
    }

    /// The grid that is scanned.
    #[must_use]
    pub fn grid(&self) -> &Arc<Grid> {
        &self.grid
    }

    /// The cells and masks that are left to read.
    #[must_use]
    pub fn pruned(&self) -> &Pruned {
        &self.pruned
    }

    /// Columns of the grid in the order of the output.
    #[must_use]
    pub fn projection(&self) -> &[usize] {
        &self.projection
    }

    /// Whether a limit ends the scan early.
    pub(super) fn is_limited(&self) -> bool {
        self.limit.is_some() || self.fetch.is_some()
    }

    /// The same scan, with a remark in EXPLAIN: why a join or an aggregate over it is computed from its rows.
    #[must_use]
    pub(super) fn with_note(mut self, note: String) -> Self {
        self.notes.push(note);
        self
    }

    /// The same scan, which says nothing about the order of its rows or columns with one value.
    #[must_use]
    pub(super) fn without_promises(mut self) -> Self {
        self.silent = true;
        self
    }

    /// The same cells of a grid that has the columns of this one and more.
    ///
    /// # Errors
    /// As [`ArraySource::new`].
    pub(super) fn over(&self, grid: Arc<Grid>, projection: Vec<usize>) -> Result<Self> {
        let mut source = self.clone();
        source.schema = Arc::new(grid.schema.project(&projection)?);
        source.grid = grid;
        source.projection = projection;
        source.planned()
    }

    /// The scan of some of its cells.
    ///
    /// # Errors
    /// As [`ArraySource::new`].
    pub(super) fn within(&self, selection: Selection) -> Result<Self> {
        let mut source = self.clone();
        source.pruned.selection = selection;
        source.planned()
    }

    /// The boxes of cells in which it reads.
    pub(super) fn tiles(&self) -> Tiles {
        let mut cuts = vec![Vec::new(); self.tile.len()];
        for variable in self.variables() {
            // Where a variable begins in another file, its chunks begin anew.
            let (None, Some(members)) = (&variable.alignment, &variable.members) else {
                continue;
            };
            let axis = variable.axes.get(members.axis());
            if let Some(cuts) = axis.and_then(|axis| cuts.get_mut(*axis)) {
                cuts.extend(members.cuts());
            }
        }
        Tiles::new(&self.pruned.selection, &self.tile, &cuts)
    }

    /// Bytes of the values of one expression on a tile.
    pub(super) fn tile_memory(&self) -> usize {
        let shape = self.grid.shape();
        let extents = self.tile.iter().zip(&shape);
        let cells = extents.fold(8u64, |cells, (extent, length)| {
            cells.saturating_mul((*extent).min(*length))
        });
        usize::try_from(cells).unwrap_or(usize::MAX)
    }

    /// The grid, and the selected indices of each dimension.
    pub(super) fn fmt_cells(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.grid.name)?;
        let selected = self.grid.axes.iter().zip(&self.pruned.selection.dims);
        for (at, (axis, set)) in selected.enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}={}", axis.name, show_set(set, axis.length))?;
        }
        write!(f, "]")
    }

    /// Masks and residual predicates.
    pub(super) fn fmt_filters(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for plane in &self.pruned.planes {
            let names: Vec<&str> = plane
                .axes
                .iter()
                .filter_map(|axis| self.grid.axes.get(*axis))
                .map(|axis| axis.name.as_str())
                .collect();
            let cells = plane.mask.len();
            write!(
                f,
                ", mask({})={}/{cells}",
                names.join(", "),
                plane.mask.count_set_bits()
            )?;
        }
        if !self.pruned.residual.is_empty() {
            let terms: Vec<String> = self
                .pruned
                .residual
                .iter()
                .map(ToString::to_string)
                .collect();
            write!(f, ", residual={}", terms.join(" AND "))?;
        }
        Ok(())
    }

    /// Decides what follows from columns, selection and limit: residual, tiles, partitions.
    fn planned(mut self) -> Result<Self> {
        self.residual = if self.pruned.residual.is_empty() {
            None
        } else {
            Some(Predicate::new(&self.grid, &self.pruned.residual)?)
        };
        let shape = self.grid.shape();
        let variables = self.variables();
        let tile = tile_shape(
            &shape,
            &variables,
            self.options.tile_bytes as u64,
            self.options.rechunk_bytes as u64,
        );
        let row: u64 = variables
            .iter()
            .map(|variable| variable.variable.layout.element.size().unwrap_or(32) as u64)
            .sum::<u64>()
            .max(8);
        self.tile = tile;
        let rows = self.pruned.selection.cells();
        let tiles = self.tiles().len();
        // Few rows come from one partition, in order, so that LIMIT without ORDER BY gives the first ones.
        let few = self.residual.is_none() && self.limit.is_some_and(|limit| limit <= 65_536);
        let bytes = rows.saturating_mul(row).max(self.encoded_bytes());
        let useful = (bytes / PARTITION_BYTES).min(tiles).max(1);
        let useful = usize::try_from(useful).unwrap_or(usize::MAX);
        self.partitions = if few {
            1
        } else {
            useful.min(self.target_partitions.max(1))
        };
        Ok(self)
    }

    /// Decoded bytes of the chunks, or of the blocks of them, that have to be decoded as a whole, however few of their
    /// cells are selected.
    fn encoded_bytes(&self) -> u64 {
        let bytes = |variable: &VariableColumn| {
            let layout = &variable.variable.layout;
            if layout.pipeline.0.is_empty() {
                return 0;
            }
            let selection = variable.selection(&self.pruned.selection);
            let size = layout.element.size().unwrap_or(32) as u64;
            let blocks = match &layout.order {
                ElementOrder::Blocked(block) if layout.pipeline.has_blocks(0) => {
                    // As if the chunks were a whole number of blocks.
                    ChunkGrid::new(layout.grid.shape().to_vec(), block.clone()).ok()
                }
                ElementOrder::C | ElementOrder::Permuted(_) | ElementOrder::Blocked(_) => None,
            };
            let grid = blocks.as_ref().unwrap_or(&layout.grid);
            count_touched_chunks(grid, &selection)
                .saturating_mul(grid.chunk_cells())
                .saturating_mul(size)
        };
        let variables = self.variables().into_iter();
        variables.map(bytes).fold(0, u64::saturating_add)
    }

    /// The variables that are read: those of the output and of the residual predicate, each once.
    pub(super) fn variables(&self) -> Vec<&VariableColumn> {
        self.needed_columns()
            .into_iter()
            .filter_map(|column| self.grid.variable(column))
            .collect()
    }

    pub(super) fn needed_columns(&self) -> Vec<usize> {
        let mut columns = self.projection.clone();
        columns.extend(
            self.residual
                .iter()
                .flat_map(|residual| residual.columns().iter()),
        );
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// Chunks that hold a selected cell, and all chunks, of the variables that are read.
    #[must_use]
    pub fn chunks(&self) -> (u64, u64) {
        let (mut touched, mut all) = (0, 0);
        for variable in self.variables() {
            let selection = variable.selection(&self.pruned.selection);
            touched += variable.touched_chunks(&selection);
            all += variable.chunks();
        }
        (touched, all)
    }

    /// The cells of the chunks that hold a selected cell, of all variables that are read.
    #[must_use]
    pub fn decoded_cells(&self) -> u64 {
        let cells = self.variables().into_iter().map(|variable| {
            let selection = variable.selection(&self.pruned.selection);
            let chunk = variable.variable.layout.grid.chunk_cells();
            variable.touched_chunks(&selection).saturating_mul(chunk)
        });
        cells.fold(0, u64::saturating_add)
    }

    fn stream(
        &self,
        partition: usize,
        context: &Arc<TaskContext>,
        shared: Arc<Shared>,
        work: Work,
    ) -> Result<SendableRecordBatchStream> {
        let batches = stream::batches(self.clone(), partition, context, shared, work);
        Ok(Box::pin(cooperative(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            batches,
        ))))
    }

    pub(super) fn execution_metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }
}

impl DataSource for ArraySource {
    fn open(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.open_with_args(OpenArgs::new(partition, context))
    }

    fn create_sibling_state(&self, config: &ConfigOptions) -> Option<Arc<dyn Any + Send + Sync>> {
        config
            .execution
            .enable_file_stream_work_stealing
            .then(|| Arc::new(Shared::new(self.limit)) as _)
    }

    fn open_with_args(&self, args: OpenArgs) -> Result<SendableRecordBatchStream> {
        let shared = args
            .sibling_state
            .and_then(|state| state.downcast::<Shared>().ok());
        match shared {
            Some(shared) => self.stream(args.partition, &args.context, shared, Work::Queue),
            None => {
                let tiles = self.tiles().len();
                let count = self.partitions as u64;
                let bound = |partition: u64| {
                    u64::try_from(u128::from(tiles) * u128::from(partition) / u128::from(count))
                        .unwrap_or(tiles)
                };
                let partition = args.partition as u64;
                let share = bound(partition)..bound(partition + 1);
                let shared = Arc::new(Shared::new(self.limit));
                self.stream(args.partition, &args.context, shared, Work::Share(share))
            }
        }
    }

    fn fmt_as(&self, _: DisplayFormatType, f: &mut Formatter<'_>) -> fmt::Result {
        let (touched, all) = self.chunks();
        write!(f, "ArraySource: ")?;
        self.fmt_cells(f)?;
        write!(f, ", columns=[")?;
        for (at, field) in self.schema.fields().iter().enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { ", " }, field.name())?;
        }
        write!(f, "], chunks={touched}/{all}")?;
        self.fmt_filters(f)?;
        for filter in &self.pruned.dynamic {
            write!(f, ", dynamic={filter}")?;
        }
        if let Some(limit) = self.limit {
            write!(f, ", limit={limit}")?;
        }
        if let Some(fetch) = self.fetch {
            write!(f, ", fetch={fetch}")?;
        }
        let order = self.ordering();
        if !order.is_empty() {
            let terms: Vec<String> = order.iter().map(ToString::to_string).collect();
            write!(f, ", order=[{}]", terms.join(", "))?;
        }
        for note in &self.notes {
            write!(f, ", {note}")?;
        }
        Ok(())
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(self.partitions)
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        self.equivalences()
    }

    fn scheduling_type(&self) -> SchedulingType {
        SchedulingType::Cooperative
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        Ok(Arc::new(match partition {
            Some(_) if self.partitions > 1 => Statistics::new_unknown(&self.schema),
            _ => self.scan_statistics(),
        }))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn DataSource>> {
        Some(Arc::new(Self {
            fetch: limit,
            ..self.clone()
        }))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    fn metrics(&self) -> ExecutionPlanMetricsSet {
        self.metrics.clone()
    }

    fn try_swapping_with_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> Result<Option<Arc<dyn DataSource>>> {
        let mut columns = Vec::new();
        let mut fields = Vec::new();
        for item in projection.iter() {
            let Some(column) = item.expr.downcast_ref::<ColumnExpr>() else {
                return Ok(None);
            };
            let Some(of) = self.projection.get(column.index()) else {
                return Ok(None);
            };
            columns.push(*of);
            fields.push(
                self.schema
                    .field(column.index())
                    .clone()
                    .with_name(&item.alias),
            );
        }
        let mut source = self.clone();
        source.projection = columns;
        source.schema = Arc::new(Schema::new(fields));
        Ok(Some(Arc::new(source.planned()?)))
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn DataSource>>> {
        // A limit is counted after the filters that it was planned with, not after later ones.
        if self.limit.is_some() || self.fetch.is_some() {
            return Ok(FilterPushdownPropagation::with_parent_pushdown_result(
                vec![PushedDown::No; filters.len()],
            ));
        }
        let mut source = self.clone();
        let mut answers = Vec::with_capacity(filters.len());
        for filter in filters {
            if is_volatile(&filter) || contains_subquery(&filter) {
                answers.push(PushedDown::No);
                continue;
            }
            let filter = self.to_table(&filter)?;
            if DynamicFilterTracking::classify(&filter).contains_dynamic_filter() {
                // It only skips chunks: whoever made it checks the rows.
                answers.push(PushedDown::No);
                if self.options.push_dynamic {
                    source.pruned.dynamic.push(filter);
                }
            } else {
                answers.push(PushedDown::Yes);
                source
                    .pruned
                    .absorb_in_memory(&self.grid, &[filter], &self.options)?;
            }
        }
        let source = source.planned()?;
        Ok(
            FilterPushdownPropagation::with_parent_pushdown_result(answers)
                .with_updated_node(Arc::new(source) as _),
        )
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for expr in self.pruned.residual.iter().chain(&self.pruned.dynamic) {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }
}

impl ArraySource {
    /// A filter on the output as a filter on the table.
    fn to_table(&self, filter: &Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let shown = self.shown();
        inlined(filter, |column| shown.get(column).cloned())
    }

    /// The columns of the output, as expressions on the columns of the table.
    pub(super) fn shown(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        let columns = self.projection.iter();
        columns
            .map(|column| {
                let name = self.grid.schema.field(*column).name();
                Arc::new(ColumnExpr::new(name, *column)) as _
            })
            .collect()
    }
}

pub(super) fn contains_subquery(filter: &Arc<dyn PhysicalExpr>) -> bool {
    filter
        .exists(|node| Ok(node.downcast_ref::<ScalarSubqueryExpr>().is_some()))
        .unwrap_or(true)
}

/// `all`, `3..7`, or the span and number of indices of a set with holes.
fn show_set(set: &IndexSet, length: u64) -> String {
    match set.runs() {
        [] => "none".into(),
        [run] if run.start == 0 && run.end == length => "all".into(),
        [run] => format!("{}..{}", run.start, run.end),
        _ => format!(
            "{}..{}({})",
            set.first().unwrap_or_default(),
            set.last().unwrap_or_default() + 1,
            set.count()
        ),
    }
}
