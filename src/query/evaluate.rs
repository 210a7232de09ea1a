//! Expressions evaluated on columns that are in memory, as few cells as they depend on.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::compute::take;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as ColumnExpr;

use crate::array::hyperslab::{IndexSet, Selection};
use crate::query::engine_error;
use crate::query::grid::{Column, Grid};
use crate::query::prune::{columns_of, coordinate};
use crate::read::batch::{Rows, select};

/// The same expression over other columns: `place` says where each column of it is found.
///
/// # Errors
/// When a column is not found.
pub(super) fn renumbered(
    expr: &Arc<dyn PhysicalExpr>,
    place: impl Fn(usize) -> Option<usize>,
) -> Result<Arc<dyn PhysicalExpr>> {
    Arc::clone(expr)
        .transform(|node| {
            Ok(match node.downcast_ref::<ColumnExpr>() {
                Some(column) => {
                    let at = place(column.index())
                        .ok_or_else(|| internal_datafusion_err!("no column {}", column.name()))?;
                    Transformed::yes(Arc::new(ColumnExpr::new(column.name(), at)) as _)
                }
                None => Transformed::no(node),
            })
        })
        .data()
}

/// The values of an expression over columns in memory, for every selected cell of the dimensions `axes`, in C order.
///
/// # Errors
/// When a column is not in memory, or the expression cannot be evaluated.
pub(super) fn evaluate_in_memory(
    grid: &Grid,
    expr: &Arc<dyn PhysicalExpr>,
    axes: &[usize],
    selection: &Selection,
) -> Result<ArrayRef> {
    let columns = columns_of(expr);
    let local = Selection {
        dims: axes
            .iter()
            .map(|axis| selection.dims.get(*axis).cloned().unwrap_or_default())
            .collect(),
    };
    let rows = Rows::new(&local).map_err(engine_error)?;
    let mut values = Vec::with_capacity(columns.len());
    for column in &columns {
        let (of, vector) = match grid.columns.get(*column) {
            Some(Column::Coordinate { axis } | Column::Index { axis }) => {
                let set = selection.dims.get(*axis).cloned().unwrap_or_default();
                (vec![*axis], coordinate(grid, *column, &set)?)
            }
            Some(Column::Derived { axes, values }) => {
                (axes.clone(), derived(grid, axes, values, selection)?)
            }
            Some(Column::Variable(_)) | None => {
                return Err(internal_datafusion_err!("column {column} is not in memory"));
            }
        };
        let of: Vec<usize> = of
            .iter()
            .filter_map(|axis| axes.iter().position(|other| other == axis))
            .collect();
        values.push(rows.broadcast(&of, &vector, 0..rows.len())?);
    }
    let schema = Arc::new(grid.schema.project(&columns)?);
    let expr = renumbered(expr, |column| columns.binary_search(&column).ok())?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let batch = RecordBatch::try_new_with_options(schema, values, &options)?;
    expr.evaluate(&batch)?.into_array(rows.len())
}

/// The values of a column in memory for the selected cells of its dimensions: `values` holds those of all cells.
///
/// # Errors
/// When the values cannot be gathered (of an unusual type).
pub(super) fn derived(
    grid: &Grid,
    axes: &[usize],
    values: &ArrayRef,
    selection: &Selection,
) -> Result<ArrayRef> {
    let sets = axes
        .iter()
        .map(|axis| selection.dims.get(*axis).cloned().unwrap_or_default());
    let sets: Vec<IndexSet> = sets.collect();
    if let [set] = sets.as_slice() {
        return Ok(select(values, set)?);
    }
    let mut cells = vec![0u64];
    for (axis, set) in axes.iter().zip(&sets) {
        let length = grid.axes.get(*axis).map_or(0, |axis| axis.length);
        cells = cells
            .iter()
            .flat_map(|cell| set.iter().map(move |index| cell * length + index))
            .collect();
    }
    Ok(take(values, &UInt64Array::from(cells), None)?)
}
