//! A grid as a table of the engine.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Constraint, Constraints, DFSchema, Result};
use datafusion::datasource::TableType;
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use crate::query::HyperslabOptions;
use crate::query::grid::{Column, Grid};
use crate::query::prune::Pruned;
use crate::query::scan::ArraySource;

/// The table of a grid: one row for each cell.
#[derive(Debug)]
pub struct ArrayTable {
    grid: Arc<Grid>,
    constraints: Constraints,
}

impl ArrayTable {
    /// The table of `grid`.
    #[must_use]
    pub fn new(grid: Arc<Grid>) -> Self {
        let constraints = key(&grid)
            .map(|key| Constraints::new_unverified(vec![Constraint::PrimaryKey(key)]))
            .unwrap_or_default();
        Self { grid, constraints }
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
        // Every filter is applied by the scan: what cannot become a selection filters decoded blocks.
        Ok(filters
            .iter()
            .map(|filter| {
                if filter.is_volatile() {
                    TableProviderFilterPushDown::Unsupported
                } else {
                    TableProviderFilterPushDown::Exact
                }
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = options(state);
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
        .with_limit(limit)?;
        Ok(DataSourceExec::from_data_source(source))
    }
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
