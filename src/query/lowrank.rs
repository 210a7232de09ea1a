//! Expressions of low rank: evaluated by the engine once on the cells of the few dimensions that they depend on.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as ColumnExpr;
use datafusion::physical_expr::utils::collect_columns;

use crate::array::hyperslab::{IndexSet, Selection};
use crate::query::engine_error;
use crate::query::grid::{Column, Grid};
use crate::read::Buffers;
use crate::read::batch::{Rows, indices, select};

/// Most cells on which anything is evaluated before data is read.
pub(super) const MAX_PLANE: u64 = 1 << 24;

/// Rows of one evaluation.
const BLOCK: usize = 1 << 16;

/// Expressions on the columns of a table, ready to be evaluated on the columns that they need.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The columns of the table that they need, in increasing order.
    pub columns: Vec<usize>,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

impl Bound {
    /// Binds expressions that refer to the columns of the grid's table.
    ///
    /// # Errors
    /// When one refers to a column that the table does not have.
    pub fn new(grid: &Grid, exprs: &[Arc<dyn PhysicalExpr>]) -> Result<Self> {
        let columns = columns_of_all(exprs);
        let schema: Schema = grid.schema.project(&columns)?;
        let exprs = exprs
            .iter()
            .map(|expr| {
                Arc::clone(expr)
                    .transform(|node| {
                        Ok(match node.downcast_ref::<ColumnExpr>() {
                            Some(column) => {
                                let at = columns.binary_search(&column.index()).map_err(|_| {
                                    internal_datafusion_err!("no column {}", column.name())
                                })?;
                                Transformed::yes(Arc::new(ColumnExpr::new(column.name(), at)) as _)
                            }
                            None => Transformed::no(node),
                        })
                    })
                    .data()
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            columns,
            exprs,
            schema: Arc::new(schema),
        })
    }

    /// The same for columns in which any value may be NULL.
    #[must_use]
    pub fn nullable(mut self) -> Self {
        let fields = self.schema.fields().iter();
        let fields: Vec<Field> = fields
            .map(|field| field.as_ref().clone().with_nullable(true))
            .collect();
        self.schema = Arc::new(Schema::new(fields));
        self
    }

    /// The values of the expressions for `rows` rows; `values` holds one array for each column that they need.
    ///
    /// # Errors
    /// When one cannot be evaluated, for instance because a division by zero occurs.
    pub fn evaluate(&self, values: Vec<ArrayRef>, rows: usize) -> Result<Vec<ArrayRef>> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), values, &options)?;
        self.exprs
            .iter()
            .map(|expr| expr.evaluate(&batch)?.into_array(rows))
            .collect()
    }
}

/// The columns of the table that an expression refers to, in increasing order.
#[must_use]
pub fn columns_of(expr: &Arc<dyn PhysicalExpr>) -> Vec<usize> {
    columns_of_all([expr])
}

/// The columns of the table that some expressions refer to, in increasing order.
pub(super) fn columns_of_all<'a>(
    exprs: impl IntoIterator<Item = &'a Arc<dyn PhysicalExpr>>,
) -> Vec<usize> {
    let columns = exprs.into_iter().flat_map(collect_columns);
    let mut columns: Vec<usize> = columns.map(|column| column.index()).collect();
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// The dimensions of a grid on which the value of an expression depends, in increasing order.
#[must_use]
pub fn footprint(grid: &Grid, expr: &Arc<dyn PhysicalExpr>) -> Vec<usize> {
    let mut axes: Vec<usize> = columns_of(expr)
        .iter()
        .flat_map(|column| grid.footprint(*column))
        .collect();
    axes.sort_unstable();
    axes.dedup();
    axes
}

/// Whether an expression can be evaluated without reading a variable.
#[must_use]
pub fn in_memory(grid: &Grid, expr: &Arc<dyn PhysicalExpr>) -> bool {
    columns_of(expr)
        .iter()
        .all(|column| grid.variable(*column).is_none())
}

/// Number of selected cells of some axes.
#[must_use]
pub fn cells(selection: &Selection, axes: &[usize]) -> u64 {
    axes.iter().fold(1u64, |cells, axis| {
        let count = selection.dims.get(*axis).map_or(0, IndexSet::count);
        cells.saturating_mul(count)
    })
}

/// The values of `exprs` on every selected cell of the dimensions `axes` (in increasing order), in C order. Variables
/// that they need are read.
///
/// # Errors
/// When an expression cannot be evaluated, or a variable cannot be read.
pub async fn evaluate(
    grid: &Grid,
    selection: &Selection,
    axes: &[usize],
    exprs: &[Arc<dyn PhysicalExpr>],
    buffers: &mut Buffers,
) -> Result<Vec<ArrayRef>> {
    let columns = columns_of_all(exprs);
    let mut sources = Vec::with_capacity(columns.len());
    for column in columns {
        sources.push(match grid.variable(column) {
            Some(variable) => {
                let own = variable.selection(selection);
                let values = variable.read(&own, buffers).await.map_err(engine_error)?;
                let values = match &variable.alignment {
                    Some(alignment) => alignment.gather(&own, &values, selection)?,
                    None => values,
                };
                Source::Cells(variable.axes.clone(), values)
            }
            None => vector(grid, selection, column)?,
        });
    }
    evaluate_on(grid, selection, axes, exprs, &sources)
}

/// As [`evaluate`], for expressions that need no variable.
///
/// # Errors
/// When an expression cannot be evaluated.
pub fn evaluate_in_memory(
    grid: &Grid,
    selection: &Selection,
    axes: &[usize],
    exprs: &[Arc<dyn PhysicalExpr>],
) -> Result<Vec<ArrayRef>> {
    let sources = columns_of_all(exprs)
        .into_iter()
        .map(|column| vector(grid, selection, column))
        .collect::<Result<Vec<_>>>()?;
    evaluate_on(grid, selection, axes, exprs, &sources)
}

/// The values at the indices `set` of a column that is the coordinate or the index of a dimension.
///
/// # Errors
/// When they cannot be gathered.
pub fn coordinate(grid: &Grid, column: usize, set: &IndexSet) -> Result<ArrayRef> {
    match grid.vector(column) {
        Some(values) => Ok(select(values, set)?),
        None => Ok(indices(set)),
    }
}

/// Values of a column over its footprint.
enum Source {
    /// One value for each selected index of a dimension.
    Vector(usize, ArrayRef),
    /// One value for each selected cell of these dimensions, in C order.
    Cells(Vec<usize>, ArrayRef),
}

/// What of a selection lies along some axes.
///
/// # Errors
/// When the selection has no such axis.
pub(super) fn part(selection: &Selection, axes: &[usize]) -> Result<Selection> {
    let dim = |axis: &usize| {
        selection
            .dims
            .get(*axis)
            .cloned()
            .ok_or_else(|| internal_datafusion_err!("no dimension {axis}"))
    };
    Ok(Selection {
        dims: axes.iter().map(dim).collect::<Result<_>>()?,
    })
}

/// The selected values of a column that is the coordinate or the index of a dimension.
fn vector(grid: &Grid, selection: &Selection, column: usize) -> Result<Source> {
    match grid.columns.get(column) {
        Some(Column::Coordinate { axis } | Column::Index { axis }) => {
            let set = part(selection, &[*axis])?.dims.remove(0);
            Ok(Source::Vector(*axis, coordinate(grid, column, &set)?))
        }
        Some(Column::Derived { axes, values }) => {
            let values = Column::selected(grid, selection, axes, values)?;
            Ok(Source::Cells(axes.clone(), values))
        }
        Some(Column::Variable(_)) | None => Err(internal_datafusion_err!("no column {column}")),
    }
}

fn evaluate_on(
    grid: &Grid,
    selection: &Selection,
    axes: &[usize],
    exprs: &[Arc<dyn PhysicalExpr>],
    sources: &[Source],
) -> Result<Vec<ArrayRef>> {
    let rows = Rows::new(&part(selection, axes)?).map_err(engine_error)?;
    let bound = Bound::new(grid, exprs)?;
    let local = |axis: &usize| axes.iter().position(|other| other == axis);
    let block = |range: Range<usize>| {
        let columns = sources
            .iter()
            .map(|source| match source {
                Source::Vector(axis, values) => {
                    let axis = local(axis).unwrap_or_default();
                    Ok(rows.dimension(axis, values, range.clone())?)
                }
                Source::Cells(cells, values) => {
                    let cells: Vec<usize> = cells.iter().filter_map(local).collect();
                    Ok(rows.broadcast(&cells, values, range.clone())?)
                }
            })
            .collect::<Result<Vec<_>>>()?;
        bound.evaluate(columns, range.len())
    };
    if rows.len() <= BLOCK {
        return block(0..rows.len());
    }
    let mut pieces: Vec<Vec<ArrayRef>> = exprs.iter().map(|_| Vec::new()).collect();
    for start in (0..rows.len()).step_by(BLOCK) {
        let values = block(start..rows.len().min(start + BLOCK))?;
        for (pieces, values) in pieces.iter_mut().zip(values) {
            pieces.push(values);
        }
    }
    pieces
        .iter()
        .map(|pieces| {
            let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
            Ok(arrow::compute::concat(&pieces)?)
        })
        .collect()
}
