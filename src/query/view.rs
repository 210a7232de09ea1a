//! What a node sees below it: a scan of a grid, through projections that are put into expressions.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as ColumnExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;

use crate::query::scan::ArraySource;

/// A scan of a grid below projections.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) source: ArraySource,
    /// The columns that the view shows, as expressions on the columns of the table.
    pub(super) columns: Vec<Arc<dyn PhysicalExpr>>,
}

impl View {
    /// The view that `plan` is; `None` if it is more than projections over a scan of a grid.
    pub(super) fn of(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Self>> {
        let Some(projection) = plan.downcast_ref::<ProjectionExec>() else {
            return Ok(Self::scan(plan));
        };
        let below = Self::of(projection.input())?;
        below.map(|below| below.through(projection)).transpose()
    }

    /// The view that `plan` is, if it is a scan of a grid.
    pub(super) fn scan(plan: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        let source = source_of(plan)?;
        Some(Self {
            columns: source.shown(),
            source: source.clone(),
        })
    }

    /// This view through a projection of it.
    pub(super) fn through(self, projection: &ProjectionExec) -> Result<Self> {
        let columns = projection
            .expr()
            .iter()
            .map(|shown| self.on_table(&shown.expr))
            .collect::<Result<_>>()?;
        Ok(Self { columns, ..self })
    }

    /// An expression on the columns of the view as one on the columns of the table.
    pub(super) fn on_table(&self, expr: &Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        inlined(expr, |column| self.columns.get(column).cloned())
    }
}

/// An expression whose columns are replaced by other expressions.
pub(super) fn inlined(
    expr: &Arc<dyn PhysicalExpr>,
    by: impl Fn(usize) -> Option<Arc<dyn PhysicalExpr>>,
) -> Result<Arc<dyn PhysicalExpr>> {
    Arc::clone(expr)
        .transform(|node| {
            Ok(match node.downcast_ref::<ColumnExpr>() {
                Some(column) => Transformed::yes(
                    by(column.index())
                        .ok_or_else(|| internal_datafusion_err!("no column {}", column.name()))?,
                ),
                None => Transformed::no(node),
            })
        })
        .data()
}

/// A plan whose scans of grids have a remark in EXPLAIN.
pub(super) fn noted(plan: &Arc<dyn ExecutionPlan>, note: &str) -> Result<Arc<dyn ExecutionPlan>> {
    rescanned(plan, |source| source.with_note(note.to_owned()))
}

/// A plan over other scans of the same grids.
pub(super) fn rescanned(
    plan: &Arc<dyn ExecutionPlan>,
    change: impl Fn(ArraySource) -> ArraySource,
) -> Result<Arc<dyn ExecutionPlan>> {
    Arc::clone(plan)
        .transform_down(|node| {
            Ok(match source_of(&node) {
                Some(source) => {
                    let changed = change(source.clone());
                    Transformed::yes(DataSourceExec::from_data_source(changed) as _)
                }
                None => Transformed::no(node),
            })
        })
        .data()
}

fn source_of(plan: &Arc<dyn ExecutionPlan>) -> Option<&ArraySource> {
    plan.downcast_ref::<DataSourceExec>()
        .and_then(|scan| scan.data_source().downcast_ref::<ArraySource>())
}
