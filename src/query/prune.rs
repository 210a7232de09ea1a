//! Predicates become selections: every conjunct is evaluated by the engine's own expressions, on as few cells as it
//! depends on.
//!
//! ```text
//! month(time) = 7              one dimension       evaluated on the coordinate vector   -> index set
//! lat(y,x) > 60 OR x < 3       a plane of low rank evaluated once on the plane          -> mask, and index sets
//! tas > 310                    data                evaluated on decoded blocks          -> residual
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use datafusion::common::{Result, ScalarValue, internal_datafusion_err};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column as ColumnExpr, Literal};
use datafusion::physical_expr::utils::split_conjunction;

use crate::array::hyperslab::{IndexSet, Selection};
use crate::query::HyperslabOptions;
use crate::query::grid::{Column, Grid};
use crate::query::lowrank::{self, Bound, columns_of, coordinate, footprint};
use crate::read::Buffers;

/// What is left to read of a grid once the predicates have been looked at.
#[derive(Clone, Debug)]
pub struct Pruned {
    /// The selected indices of each dimension.
    pub selection: Selection,
    /// Masks over some of the dimensions.
    pub planes: Vec<Plane>,
    /// Predicates on the columns of the table that filter decoded blocks.
    pub residual: Vec<Arc<dyn PhysicalExpr>>,
    /// Filters that change while the statement runs; they only skip chunks.
    pub dynamic: Vec<Arc<dyn PhysicalExpr>>,
}

/// A mask over some dimensions of a grid: which of their selected cells have rows.
#[derive(Clone, Debug)]
pub struct Plane {
    /// The dimensions, in increasing order.
    pub axes: Vec<usize>,
    /// Number of selected indices of each of them.
    pub counts: Vec<usize>,
    /// One bit a cell, in C order of the selected indices.
    pub mask: BooleanBuffer,
}

impl Pruned {
    /// All rows of a grid.
    #[must_use]
    pub fn all(grid: &Grid) -> Self {
        Self {
            selection: grid.window.clone(),
            planes: Vec::new(),
            residual: Vec::new(),
            dynamic: Vec::new(),
        }
    }

    /// Takes in predicates on the columns of the table, reading variables of low rank where a predicate needs them.
    ///
    /// # Errors
    /// When a predicate cannot be evaluated, or a variable it needs cannot be read.
    pub async fn absorb(
        &mut self,
        grid: &Grid,
        predicates: &[Arc<dyn PhysicalExpr>],
        options: &HyperslabOptions,
    ) -> Result<()> {
        let mut conjuncts: Vec<&Arc<dyn PhysicalExpr>> =
            predicates.iter().flat_map(split_conjunction).collect();
        // The cheapest first: what they exclude, the others need not look at.
        conjuncts.sort_by_key(|conjunct| footprint(grid, conjunct).len());
        let mut buffers = Buffers::default();
        for conjunct in conjuncts {
            let axes = footprint(grid, conjunct);
            if !self.is_plane(grid, conjunct, &axes, options) {
                if !(axes.len() == 1 && self.absorb_comparison(grid, conjunct, &axes, options)) {
                    self.residual.push(Arc::clone(conjunct));
                }
                continue;
            }
            let predicate = std::slice::from_ref(conjunct);
            let values =
                lowrank::evaluate(grid, &self.selection, &axes, predicate, &mut buffers).await?;
            let mask = conjunction(&values)?;
            self.apply_mask(axes, &mask);
        }
        self.restrict_planes();
        Ok(())
    }

    /// Takes in predicates without reading anything: those on coordinates become index sets, the rest is residual.
    ///
    /// # Errors
    /// When a predicate cannot be evaluated.
    pub fn absorb_in_memory(
        &mut self,
        grid: &Grid,
        predicates: &[Arc<dyn PhysicalExpr>],
        options: &HyperslabOptions,
    ) -> Result<()> {
        for conjunct in predicates.iter().flat_map(split_conjunction) {
            let axes = footprint(grid, conjunct);
            let in_memory = lowrank::in_memory(grid, conjunct);
            if axes.len() == 1 && in_memory && self.is_plane(grid, conjunct, &axes, options) {
                let predicate = std::slice::from_ref(conjunct);
                let values = lowrank::evaluate_in_memory(grid, &self.selection, &axes, predicate)?;
                let mask = conjunction(&values)?;
                self.apply_mask(axes, &mask);
            } else {
                self.residual.push(Arc::clone(conjunct));
            }
        }
        self.restrict_planes();
        Ok(())
    }

    /// Rows that are selected, if no residual predicate remains; `None` when masks overlap and counting would need
    /// every cell.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        let mut rows = 1u64;
        let mut masked = vec![false; self.selection.dims.len()];
        for plane in &self.planes {
            for axis in &plane.axes {
                let seen = masked.get_mut(*axis)?;
                if std::mem::replace(seen, true) {
                    return None;
                }
            }
            rows = rows.checked_mul(plane.mask.count_set_bits() as u64)?;
        }
        for (dim, masked) in self.selection.dims.iter().zip(masked) {
            if !masked {
                rows = rows.checked_mul(dim.count())?;
            }
        }
        Some(rows)
    }

    fn dim(&self, axis: usize) -> Result<&IndexSet> {
        self.selection
            .dims
            .get(axis)
            .ok_or_else(|| internal_datafusion_err!("no dimension {axis}"))
    }

    /// Whether a conjunct is evaluated on its footprint before the scan.
    fn is_plane(
        &self,
        grid: &Grid,
        conjunct: &Arc<dyn PhysicalExpr>,
        axes: &[usize],
        options: &HyperslabOptions,
    ) -> bool {
        let allowed = match axes.len() {
            0 | 1 => options.push_index_sets,
            _ => options.push_planes,
        };
        let cells = axes.iter().fold(1u64, |cells, axis| {
            cells.saturating_mul(self.dim(*axis).map_or(u64::MAX, IndexSet::count))
        });
        // A predicate on data of full rank would read the data before it is scanned.
        let full_rank = axes.len() == grid.axes.len()
            && !axes.is_empty()
            && columns_of(conjunct).iter().any(|column| {
                grid.variable(*column)
                    .is_some_and(|variable| variable.axes.len() == grid.axes.len())
            });
        allowed && cells <= lowrank::MAX_PLANE && !full_rank
    }

    /// `index <op> literal` on a dimension too long for a vector: a range, without a step a cell.
    fn absorb_comparison(
        &mut self,
        grid: &Grid,
        conjunct: &Arc<dyn PhysicalExpr>,
        axes: &[usize],
        options: &HyperslabOptions,
    ) -> bool {
        let Some(axis) = axes.first().copied().filter(|_| options.push_index_sets) else {
            return false;
        };
        let is_index = columns_of(conjunct)
            .iter()
            .all(|column| matches!(grid.columns.get(*column), Some(Column::Index { .. })));
        let (Some(range), Some(dim)) = (
            index_range(conjunct).filter(|_| is_index),
            self.selection.dims.get_mut(axis),
        ) else {
            return false;
        };
        *dim = dim.intersect(&IndexSet::range(range));
        true
    }

    /// Narrows the selection to the cells of a mask over `axes`.
    pub(super) fn apply_mask(&mut self, axes: Vec<usize>, mask: &BooleanBuffer) {
        let counts: Vec<usize> = axes
            .iter()
            .filter_map(|axis| self.selection.dims.get(*axis))
            .map(|dim| usize::try_from(dim.count()).unwrap_or(usize::MAX))
            .collect();
        // Masks over the same dimensions are one.
        let mut mask = mask.clone();
        self.planes.retain(|earlier| {
            let same = earlier.axes == axes && earlier.mask.len() == mask.len();
            if same {
                mask = &mask & &earlier.mask;
            }
            !same
        });
        let plane = Plane { axes, counts, mask };
        if plane.axes.is_empty() {
            if !plane.mask.value(0) {
                for dim in &mut self.selection.dims {
                    *dim = IndexSet::default();
                }
                // A table without dimensions has one row, and only a residual predicate can drop it.
                if self.selection.dims.is_empty() {
                    self.residual
                        .push(Arc::new(Literal::new(ScalarValue::Boolean(Some(false)))));
                }
            }
            return;
        }
        let projections = plane.projections();
        for (axis, used) in plane.axes.iter().zip(&projections) {
            if let Some(dim) = self.selection.dims.get_mut(*axis) {
                *dim = dim.filter(used);
            }
        }
        // Earlier masks over the same dimensions shrink with them.
        for earlier in &mut self.planes {
            let keep: Vec<Vec<bool>> = earlier
                .axes
                .iter()
                .zip(&earlier.counts)
                .map(|(axis, count)| {
                    let at = plane.axes.iter().position(|other| other == axis);
                    at.and_then(|at| projections.get(at).cloned())
                        .unwrap_or_else(|| vec![true; *count])
                })
                .collect();
            *earlier = earlier.restrict(&keep);
        }
        if plane.axes.len() > 1 {
            self.planes.push(plane.restrict(&projections));
        }
    }

    /// After everything is taken in: an empty mask empties the selection, a full one is dropped.
    pub(super) fn restrict_planes(&mut self) {
        if self
            .planes
            .iter()
            .any(|plane| plane.mask.count_set_bits() == 0)
        {
            for dim in &mut self.selection.dims {
                *dim = IndexSet::default();
            }
            self.planes.clear();
        }
        self.planes
            .retain(|plane| plane.mask.count_set_bits() != plane.mask.len());
    }
}

impl Plane {
    /// For each dimension, which of its selected indices have a cell in the mask.
    fn projections(&self) -> Vec<Vec<bool>> {
        let mut used: Vec<Vec<bool>> = self
            .counts
            .iter()
            .map(|count| vec![false; *count])
            .collect();
        for position in self.mask.set_indices() {
            let mut rest = position;
            for (used, count) in used.iter_mut().zip(&self.counts).rev() {
                if let Some(slot) = used.get_mut(rest % count) {
                    *slot = true;
                }
                rest /= count;
            }
        }
        used
    }

    /// The mask over the indices that are kept of each dimension.
    fn restrict(&self, keep: &[Vec<bool>]) -> Self {
        let kept: Vec<Vec<usize>> = keep
            .iter()
            .map(|keep| {
                keep.iter()
                    .enumerate()
                    .filter(|(_, keep)| **keep)
                    .map(|(at, _)| at)
                    .collect()
            })
            .collect();
        let counts: Vec<usize> = kept.iter().map(Vec::len).collect();
        if counts == self.counts {
            return self.clone();
        }
        let mut positions = vec![0usize];
        for (kept, count) in kept.iter().zip(&self.counts) {
            positions = positions
                .iter()
                .flat_map(|position| kept.iter().map(move |at| position * count + at))
                .collect();
        }
        Self {
            axes: self.axes.clone(),
            counts,
            mask: positions
                .iter()
                .map(|position| self.mask.value(*position))
                .collect(),
        }
    }

    /// Whether any cell of a box is in the mask: `place` holds, for each dimension of the grid, the positions of the
    /// box among the selected indices.
    #[must_use]
    pub fn touches(&self, place: &[std::ops::Range<usize>]) -> bool {
        self.rows_of(place)
            .into_iter()
            .any(|(start, length)| self.mask.slice(start, length).has_true())
    }

    /// The mask of a box, one bit a cell of it in C order.
    #[must_use]
    pub fn cut(&self, place: &[std::ops::Range<usize>]) -> BooleanArray {
        let mut bits = BooleanBufferBuilder::new(0);
        for (start, length) in self.rows_of(place) {
            bits.append_buffer(&self.mask.slice(start, length));
        }
        BooleanArray::new(bits.finish(), None)
    }

    /// Start and length of each contiguous run of the mask in a box.
    fn rows_of(&self, place: &[std::ops::Range<usize>]) -> Vec<(usize, usize)> {
        let mut starts = vec![0usize];
        let mut length = 1;
        for (at, (axis, count)) in self.axes.iter().zip(&self.counts).enumerate() {
            let range = place.get(*axis).cloned().unwrap_or(0..*count);
            let last = at + 1 == self.axes.len();
            starts = starts
                .iter()
                .flat_map(|start| {
                    let first = start * count + range.start;
                    let cells = if last { 1 } else { range.len() };
                    (0..cells).map(move |cell| first + cell)
                })
                .collect();
            if last {
                length = range.len();
            }
        }
        starts.into_iter().map(|start| (start, length)).collect()
    }
}

/// A conjunction of predicates, ready to be evaluated on the columns that it needs.
#[derive(Clone, Debug)]
pub struct Predicate(Bound);

impl Predicate {
    /// The conjunction of `terms`, which refer to the columns of the grid's table.
    ///
    /// # Errors
    /// When a term refers to a column that the table does not have.
    pub fn new(grid: &Grid, terms: &[Arc<dyn PhysicalExpr>]) -> Result<Self> {
        Bound::new(grid, terms).map(Self)
    }

    /// The columns of the table that it needs, in increasing order.
    #[must_use]
    pub fn columns(&self) -> &[usize] {
        &self.0.columns
    }

    /// Its value for each of `rows` rows; NULL counts as false. `values` holds one array for each of its columns.
    ///
    /// # Errors
    /// When it cannot be evaluated, for instance because a division by zero occurs.
    pub fn evaluate(&self, values: Vec<ArrayRef>, rows: usize) -> Result<BooleanBuffer> {
        if rows == 0 {
            return Ok(BooleanBuffer::new_unset(0));
        }
        conjunction(&self.0.evaluate(values, rows)?)
    }
}

/// Which rows a predicate holds for; NULL counts as false.
pub(super) fn holds(predicate: &BooleanArray) -> BooleanBuffer {
    match predicate.nulls() {
        Some(nulls) => predicate.values() & nulls.inner(),
        None => predicate.values().clone(),
    }
}

/// Which rows all of `terms` hold for; NULL counts as false.
fn conjunction(terms: &[ArrayRef]) -> Result<BooleanBuffer> {
    let mut all: Option<BooleanBuffer> = None;
    for term in terms {
        let term = term
            .as_boolean_opt()
            .ok_or_else(|| internal_datafusion_err!("a predicate is not boolean"))?;
        let term = holds(term);
        all = Some(match all {
            Some(all) => &all & &term,
            None => term,
        });
    }
    all.ok_or_else(|| internal_datafusion_err!("a conjunction of nothing"))
}

/// Whether no index of `set` along a dimension can satisfy `expr`, as far as its conjuncts on that dimension alone
/// tell: for filters that change while the statement runs.
///
/// # Errors
/// When a conjunct cannot be evaluated.
pub fn excludes(grid: &Grid, expr: &Arc<dyn PhysicalExpr>, dims: &[IndexSet]) -> Result<bool> {
    for conjunct in split_conjunction(expr) {
        let axes = footprint(grid, conjunct);
        let columns = columns_of(conjunct);
        let in_memory = columns
            .iter()
            .all(|column| grid.variable(*column).is_none());
        let [axis] = axes.as_slice() else { continue };
        let Some(set) = dims.get(*axis).filter(|_| in_memory) else {
            continue;
        };
        let predicate = Predicate::new(grid, std::slice::from_ref(conjunct))?;
        let values = columns
            .iter()
            .map(|column| coordinate(grid, *column, set))
            .collect::<Result<Vec<_>>>()?;
        let rows = usize::try_from(set.count()).unwrap_or(usize::MAX);
        if predicate.evaluate(values, rows)?.count_set_bits() == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The indices that satisfy `index <op> literal` or `literal <op> index`.
fn index_range(expr: &Arc<dyn PhysicalExpr>) -> Option<std::ops::Range<u64>> {
    let binary = expr.downcast_ref::<BinaryExpr>()?;
    let (left, right) = (binary.left(), binary.right());
    let value = |expr: &Arc<dyn PhysicalExpr>| match expr.downcast_ref::<Literal>()?.value() {
        ScalarValue::Int64(Some(value)) => Some(i128::from(*value)),
        _ => None,
    };
    let is_column = |expr: &Arc<dyn PhysicalExpr>| expr.downcast_ref::<ColumnExpr>().is_some();
    let (op, value) = if is_column(left) {
        (*binary.op(), value(right)?)
    } else if is_column(right) {
        (binary.op().swap()?, value(left)?)
    } else {
        return None;
    };
    let clamp = |value: i128| u64::try_from(value.max(0)).unwrap_or(u64::MAX);
    match op {
        Operator::Eq => Some(clamp(value)..clamp(value + 1)),
        Operator::Lt => Some(0..clamp(value)),
        Operator::LtEq => Some(0..clamp(value + 1)),
        Operator::Gt => Some(clamp(value + 1)..u64::MAX),
        Operator::GtEq => Some(clamp(value)..u64::MAX),
        _ => None,
    }
}
