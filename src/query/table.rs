//! A grid as a table of the engine.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Constraint, Constraints, DFSchema, Result};
use datafusion::datasource::TableType;
use datafusion::datasource::sink::DataSinkExec;
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::expressions::{Column as PhysicalColumn, Literal};
use datafusion::physical_expr::{LexRequirement, PhysicalExpr, PhysicalSortRequirement};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;

use crate::append::watch::Watch;
use crate::error::Error;
use crate::query::grid::{Column, Grid};
use crate::query::insert::{ArraySink, InsertOptions, InsertTarget};
use crate::query::prune::Pruned;
use crate::query::scan::ArraySource;
use crate::query::{HyperslabOptions, engine_error};

/// The table of a grid: one row for each cell.
#[derive(Debug)]
pub struct ArrayTable {
    grid: Arc<Grid>,
    constraints: Constraints,
    /// Where rows can be inserted; `None` for a part of a grid.
    target: Option<InsertTarget>,
    /// Why who asks must not insert rows.
    refusal: Option<String>,
}

impl ArrayTable {
    /// The table of `grid`.
    #[must_use]
    pub fn new(grid: Arc<Grid>) -> Self {
        let constraints = key(&grid)
            .map(|key| Constraints::new_unverified(vec![Constraint::PrimaryKey(key)]))
            .unwrap_or_default();
        Self {
            grid,
            constraints,
            target: None,
            refusal: None,
        }
    }

    /// The same table, into which rows can be inserted.
    #[must_use]
    pub fn with_target(self, target: InsertTarget) -> Self {
        Self {
            target: Some(target),
            ..self
        }
    }

    /// The same table, into which who asks must not insert rows, for this reason.
    #[must_use]
    pub fn with_refusal(self, refusal: String) -> Self {
        Self {
            refusal: Some(refusal),
            ..self
        }
    }

    /// The grid behind the table.
    #[must_use]
    pub fn grid(&self) -> &Arc<Grid> {
        &self.grid
    }
}

/// The columns that identify a row: the coordinates of all dimensions, if no value of one occurs twice.
fn key(grid: &Grid) -> Option<Vec<usize>> {
    let mut key = Vec::with_capacity(grid.axes.len());
    for (at, axis) in grid.axes.iter().enumerate() {
        axis.order.filter(|order| order.strict)?;
        let column = grid.columns.iter().position(|column| match column {
            Column::Coordinate { axis } | Column::Index { axis } => *axis == at,
            Column::Variable(_) | Column::Derived { .. } => false,
        })?;
        key.push(column);
    }
    (!key.is_empty()).then_some(key)
}

#[async_trait]
impl TableProvider for ArrayTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.grid.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(push_down(filters))
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = options(state);
        let mut watches = Vec::new();
        for store in self.grid.stores() {
            let watch = Watch::begin(store).await.map_err(engine_error)?;
            watches.extend(watch.map(Arc::new));
        }
        let mut pruned = Pruned::all(&self.grid);
        if let Some(filter) = conjunction(filters.iter().cloned()) {
            let schema = DFSchema::try_from(self.grid.schema.as_ref().clone())?;
            let filter = state.create_physical_expr(filter, &schema)?;
            pruned.absorb(&self.grid, &[filter], &options).await?;
        }
        let projection = projection
            .cloned()
            .unwrap_or_else(|| (0..self.grid.columns.len()).collect());
        let partitions = state.config().target_partitions();
        let source = ArraySource::new(
            Arc::clone(&self.grid),
            projection,
            pruned,
            options,
            partitions,
        )?
        .with_limit(limit)?
        .watched(watches);
        Ok(DataSourceExec::from_data_source(source))
    }

    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        operation: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(refusal) = &self.refusal {
            return Err(engine_error(Error::Forbidden(refusal.clone())));
        }
        let target = self.target.clone().ok_or_else(|| {
            engine_error(Error::Unsupported(format!(
                "{}: rows cannot be inserted into a part of a grid or an earlier version",
                self.grid.name
            )))
        })?;
        let options = InsertOptions::new(&options(state)).map_err(engine_error)?;
        let options = match operation {
            InsertOp::Append => options,
            InsertOp::Replace => options.replacing(),
            InsertOp::Overwrite => options.overwriting(),
        };
        let given = given(input.as_ref());
        let sink =
            ArraySink::new(Arc::clone(&self.grid), target, options, given).map_err(engine_error)?;
        let (column, order) = sink.order();
        let name = self.grid.schema.field(column).name();
        let order = LexRequirement::new(vec![PhysicalSortRequirement::new(
            Arc::new(PhysicalColumn::new(name, column)),
            Some(order),
        )]);
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), order)))
    }
}

/// Which filters a scan applies: all, since what cannot become a selection filters decoded blocks.
#[must_use]
pub fn push_down(filters: &[&Expr]) -> Vec<TableProviderFilterPushDown> {
    let filters = filters.iter().map(|filter| match filter.is_volatile() {
        true => TableProviderFilterPushDown::Unsupported,
        false => TableProviderFilterPushDown::Exact,
    });
    filters.collect()
}

/// Which columns of the input of an `INSERT` the statement gives: the others are NULL throughout.
fn given(input: &dyn ExecutionPlan) -> Vec<bool> {
    let columns = input.schema().fields().len();
    let Some(projection) = input.downcast_ref::<ProjectionExec>() else {
        return vec![true; columns];
    };
    let is_null = |expr: &Arc<dyn PhysicalExpr>| {
        let literal = expr.downcast_ref::<Literal>();
        literal.is_some_and(|literal| literal.value().is_null())
    };
    projection
        .expr()
        .iter()
        .map(|projected| !is_null(&projected.expr))
        .collect()
}

/// The settings of hyperslab in a session; the defaults where the session does not know them.
#[must_use]
pub fn options(state: &dyn Session) -> HyperslabOptions {
    state
        .config_options()
        .extensions
        .get::<HyperslabOptions>()
        .cloned()
        .unwrap_or_default()
}
