//! What depends on few dimensions is taken out of expressions: evaluated once, it is a column like any other.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, FieldRef, Schema};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column as ColumnExpr, Literal};

use crate::array::hyperslab::Selection;
use crate::query::aggregate::arguments::is_low;
use crate::query::grid::{Column, Grid};
use crate::query::lowrank::{self, footprint};
use crate::query::view::View;
use crate::read::Buffers;

/// Evaluates the parts of `exprs` that depend on few dimensions, and puts columns of a wider grid in their place.
pub(super) async fn hoist(
    view: &View,
    mut exprs: Vec<Arc<dyn PhysicalExpr>>,
) -> Result<(WideGrid, Vec<Arc<dyn PhysicalExpr>>)> {
    let grid = view.source.grid();
    let selection = &view.source.pruned().selection;
    let mut wide = WideGrid::new(grid);
    let mut buffers = Buffers::default();
    for expr in &mut exprs {
        let mut found: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
        Arc::clone(expr).apply(|node| {
            let bare = node.downcast_ref::<ColumnExpr>().is_some();
            let literal = node.downcast_ref::<Literal>().is_some();
            let low = !bare && !literal && !footprint(grid, node).is_empty();
            if low && is_low(view, node) {
                found.push(Arc::clone(node));
                return Ok(TreeNodeRecursion::Jump);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        for low in found {
            let axes = footprint(grid, &low);
            let one = std::slice::from_ref(&low);
            // What has no value on some cell may not be asked for there: left to the rows.
            let values = lowrank::evaluate(grid, selection, &axes, one, &mut buffers).await;
            let Some(values) = values.ok().and_then(|values| values.into_iter().next()) else {
                continue;
            };
            let name = low.to_string();
            let column = wide.derive(&name, selection, axes, &values)?;
            *expr = substitute(expr, &low, &name, column)?;
        }
    }
    Ok((wide, exprs))
}

/// A grid with columns that have been computed from its own.
pub(super) struct WideGrid {
    grid: Grid,
    fields: Vec<FieldRef>,
}

impl WideGrid {
    fn new(grid: &Grid) -> Self {
        Self {
            fields: grid.schema.fields().iter().cloned().collect(),
            grid: grid.clone(),
        }
    }

    /// Adds a column with `values` on the selected cells of `axes`; its number.
    pub(super) fn derive(
        &mut self,
        name: &str,
        selection: &Selection,
        axes: Vec<usize>,
        values: &ArrayRef,
    ) -> Result<usize> {
        let column = Column::derived(&self.grid, selection, axes, values)?;
        let field = Field::new(name, values.data_type().clone(), true);
        self.fields.push(Arc::new(field));
        self.grid.columns.push(column);
        Ok(self.grid.columns.len() - 1)
    }

    pub(super) fn finish(mut self) -> Grid {
        self.grid.schema = Arc::new(Schema::new(self.fields));
        self.grid
    }
}

/// `expr` with a column in place of `part`.
fn substitute(
    expr: &Arc<dyn PhysicalExpr>,
    part: &Arc<dyn PhysicalExpr>,
    name: &str,
    column: usize,
) -> Result<Arc<dyn PhysicalExpr>> {
    Arc::clone(expr)
        .transform_down(|node| {
            Ok(if node.as_ref() == part.as_ref() {
                let column: Arc<dyn PhysicalExpr> = Arc::new(ColumnExpr::new(name, column));
                Transformed::new(column, true, TreeNodeRecursion::Jump)
            } else {
                Transformed::no(node)
            })
        })
        .data()
}
