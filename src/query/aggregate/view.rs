//! What an aggregate sees below it: a scan of a grid, through projections that are put into its expressions.

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
    columns: Vec<Arc<dyn PhysicalExpr>>,
}

impl View {
    /// The view that `plan` is; `None` if it is more than projections over a scan of a grid.
    pub(super) fn of(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Self>> {
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            let Some(below) = Self::of(projection.input())? else {
                return Ok(None);
            };
            let columns = projection
                .expr()
                .iter()
                .map(|shown| below.on_table(&shown.expr))
                .collect::<Result<Vec<_>>>()?;
            return Ok(Some(Self { columns, ..below }));
        }
        let Some(source) = plan
            .downcast_ref::<DataSourceExec>()
            .and_then(|scan| scan.data_source().downcast_ref::<ArraySource>())
        else {
            return Ok(None);
        };
        let columns = source
            .projection()
            .iter()
            .map(|column| {
                let name = source.grid().schema.field(*column).name();
                Arc::new(ColumnExpr::new(name, *column)) as _
            })
            .collect();
        Ok(Some(Self {
            source: source.clone(),
            columns,
        }))
    }

    /// An expression on the columns of the view as one on the columns of the table.
    pub(super) fn on_table(&self, expr: &Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        Arc::clone(expr)
            .transform(|node| {
                Ok(match node.downcast_ref::<ColumnExpr>() {
                    Some(column) => {
                        let of = self.columns.get(column.index());
                        let of = of.ok_or_else(|| {
                            internal_datafusion_err!("no column {}", column.name())
                        })?;
                        // What stands for the column is on the table already.
                        Transformed::new(
                            Arc::clone(of),
                            true,
                            datafusion::common::tree_node::TreeNodeRecursion::Jump,
                        )
                    }
                    None => Transformed::no(node),
                })
            })
            .data()
    }
}
