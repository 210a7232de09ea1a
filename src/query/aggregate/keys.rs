//! Group keys as labels: a key is evaluated once on the cells of the dimensions that it depends on.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::{filter, take};
use arrow::datatypes::{Field, Schema};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as ColumnExpr;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::aggregates::group_values::new_group_values;
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use futures::FutureExt;

use crate::array::hyperslab::Selection;
use crate::query::grid::Grid;
use crate::query::lowrank::{self, Bound, footprint};
use crate::query::prune::Pruned;
use crate::read::Buffers;
use crate::read::reduce::labels::{Component, Labels, NONE};

/// The keys of an aggregate, sorted by the dimensions that they depend on.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    parts: Vec<Part>,
}

/// Keys and masks that share dimensions with each other and with no others.
#[derive(Clone, Debug)]
struct Part {
    axes: Vec<usize>,
    keys: Vec<usize>,
    masks: Vec<usize>,
}

/// Keys that have been evaluated.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    pub(super) labels: Labels,
    /// For each key, its component, and its value for each label of it.
    values: Vec<(usize, ArrayRef)>,
}

impl Keys {
    /// Sorts keys (on the columns of the table) and the masks of `pruned`; the error says why they cannot be labels.
    pub(super) fn new(
        grid: &Grid,
        pruned: &Pruned,
        exprs: Vec<Arc<dyn PhysicalExpr>>,
    ) -> std::result::Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        for (key, expr) in exprs.iter().enumerate() {
            if is_volatile(expr) {
                return Err(format!("{expr} changes from row to row"));
            }
            let axes = footprint(grid, expr);
            let data = axes.len() == grid.axes.len() && axes.len() > 2;
            if data && !lowrank::in_memory(grid, expr) {
                return Err(format!("GROUP BY {expr} depends on data"));
            }
            parts.push(Part {
                axes,
                keys: vec![key],
                masks: Vec::new(),
            });
        }
        for (mask, plane) in pruned.planes.iter().enumerate() {
            parts.push(Part {
                axes: plane.axes.clone(),
                keys: Vec::new(),
                masks: vec![mask],
            });
        }
        let mut merged: Vec<Part> = Vec::new();
        for mut part in parts {
            let (overlapping, apart) = merged
                .into_iter()
                .partition(|other| other.axes.iter().any(|axis| part.axes.contains(axis)));
            merged = apart;
            for other in overlapping {
                part.axes.extend(other.axes);
                part.keys.extend(other.keys);
                part.masks.extend(other.masks);
            }
            part.axes.sort_unstable();
            part.axes.dedup();
            part.keys.sort_unstable();
            merged.push(part);
        }
        for part in &merged {
            let cells = lowrank::cells(&pruned.selection, &part.axes);
            if cells > lowrank::MAX_PLANE {
                return Err(format!("group keys depend on {cells} cells"));
            }
        }
        merged.sort_by_key(|part| part.axes.last().copied());
        Ok(Self {
            exprs,
            parts: merged,
        })
    }

    /// The keys, on the columns of the table.
    pub(super) fn exprs(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.exprs
    }

    /// The groups, if no variable has to be read for them.
    pub(super) fn known(&self, grid: &Grid, pruned: &Pruned) -> Option<Result<Groups>> {
        let in_memory = self.exprs.iter().all(|expr| lowrank::in_memory(grid, expr));
        let mut buffers = Buffers::default();
        in_memory
            .then(|| self.resolve(grid, pruned, &mut buffers).now_or_never())
            .flatten()
    }

    /// More groups than there can be: the number of cells that keys depend on.
    pub(super) fn at_most(&self, pruned: &Pruned) -> u64 {
        self.parts
            .iter()
            .filter(|part| !part.keys.is_empty())
            .map(|part| lowrank::cells(&pruned.selection, &part.axes))
            .fold(1, u64::saturating_mul)
    }

    /// Evaluates the keys.
    pub(super) async fn resolve(
        &self,
        grid: &Grid,
        pruned: &Pruned,
        buffers: &mut Buffers,
    ) -> Result<Groups> {
        let mut labels = Labels::default();
        let mut values: Vec<Option<(usize, ArrayRef)>> = vec![None; self.exprs.len()];
        for (at, part) in self.parts.iter().enumerate() {
            let exprs: Vec<Arc<dyn PhysicalExpr>> = part
                .keys
                .iter()
                .filter_map(|key| self.exprs.get(*key).cloned())
                .collect();
            let cells = lowrank::cells(&pruned.selection, &part.axes);
            let cells = usize::try_from(cells).unwrap_or(usize::MAX);
            let mask = part.mask(pruned, cells)?;
            let arrays = match &mask {
                None => {
                    let selection = &pruned.selection;
                    lowrank::evaluate(grid, selection, &part.axes, &exprs, buffers).await?
                }
                Some(mask) => part.masked(grid, pruned, &exprs, mask, buffers).await?,
            };
            let (component, of_labels) = part.intern(&arrays, cells, mask.as_ref())?;
            for (key, of_label) in part.keys.iter().zip(of_labels) {
                if let Some(slot) = values.get_mut(*key) {
                    *slot = Some((at, of_label));
                }
            }
            labels.components.push(component);
        }
        let values: Option<Vec<_>> = values.into_iter().collect();
        Ok(Groups {
            labels,
            values: values.ok_or_else(|| internal_datafusion_err!("a key without dimensions"))?,
        })
    }
}

impl Part {
    /// The masks of the part over all of its cells.
    fn mask(&self, pruned: &Pruned, cells: usize) -> Result<Option<BooleanArray>> {
        let place: Vec<std::ops::Range<usize>> = pruned
            .selection
            .dims
            .iter()
            .map(|dim| 0..usize::try_from(dim.count()).unwrap_or(usize::MAX))
            .collect();
        let mut all: Option<BooleanArray> = None;
        for plane in self
            .masks
            .iter()
            .filter_map(|mask| pruned.planes.get(*mask))
        {
            let mask: ArrayRef = Arc::new(plane.cut(&place));
            let part = lowrank::part(&pruned.selection, &self.axes)?;
            let rows = crate::read::batch::Rows::new(&part).map_err(crate::query::engine_error)?;
            let local: Vec<usize> = plane
                .axes
                .iter()
                .filter_map(|axis| self.axes.iter().position(|other| other == axis))
                .collect();
            let spread = rows.broadcast(&local, &mask, 0..cells)?;
            let spread = arrow::array::AsArray::as_boolean(&spread).clone();
            all = Some(match all {
                Some(all) => arrow::compute::and(&all, &spread)?,
                None => spread,
            });
        }
        Ok(all)
    }

    /// Keys on the cells that the mask leaves: on others they may have no value.
    async fn masked(
        &self,
        grid: &Grid,
        pruned: &Pruned,
        exprs: &[Arc<dyn PhysicalExpr>],
        mask: &BooleanArray,
        buffers: &mut Buffers,
    ) -> Result<Vec<ArrayRef>> {
        let bound = Bound::new(grid, exprs)?;
        let columns: Vec<Arc<dyn PhysicalExpr>> = bound
            .columns
            .iter()
            .map(|column| {
                let name = grid.schema.field(*column).name();
                Arc::new(ColumnExpr::new(name, *column)) as _
            })
            .collect();
        let selection = &pruned.selection;
        let values = lowrank::evaluate(grid, selection, &self.axes, &columns, buffers).await?;
        let values = values
            .iter()
            .map(|values| Ok(filter(values, mask)?))
            .collect::<Result<Vec<_>>>()?;
        bound.evaluate(values, mask.true_count())
    }

    /// Numbers the distinct rows of `arrays`, which hold the cells that the mask leaves; keys that are equal to the
    /// engine have the same label.
    fn intern(
        &self,
        arrays: &[ArrayRef],
        cells: usize,
        mask: Option<&BooleanArray>,
    ) -> Result<(Component, Vec<ArrayRef>)> {
        let kept = mask.map_or(cells, BooleanArray::true_count);
        let (ids, values) = if arrays.is_empty() {
            (vec![0; kept], Vec::new())
        } else {
            let fields: Vec<Field> = arrays
                .iter()
                .map(|array| Field::new("key", array.data_type().clone(), true))
                .collect();
            let mut distinct =
                new_group_values(Arc::new(Schema::new(fields)), &GroupOrdering::None)?;
            let mut ids = Vec::with_capacity(kept);
            distinct.intern(arrays, &mut ids)?;
            (ids, distinct.emit(EmitTo::All)?)
        };
        let groups = values.first().map_or(1, |values| values.len());
        let label = |id: usize| u32::try_from(id).unwrap_or(NONE);
        let labels: Arc<[u32]> = match mask {
            None => ids.into_iter().map(label).collect(),
            Some(mask) => {
                let mut ids = ids.into_iter();
                mask.values()
                    .iter()
                    .map(|kept| {
                        if kept {
                            ids.next().map_or(NONE, label)
                        } else {
                            NONE
                        }
                    })
                    .collect()
            }
        };
        let component = Component {
            axes: self.axes.clone(),
            labels,
            groups,
        };
        Ok((component, values))
    }
}

impl Groups {
    /// The key columns of some groups.
    pub(super) fn columns(&self, groups: &[usize]) -> Result<Vec<ArrayRef>> {
        let strides = self.labels.strides();
        self.values
            .iter()
            .map(|(component, values)| {
                let stride = strides.get(*component).copied().unwrap_or(1);
                let count = values.len().max(1);
                let labels: UInt32Array = groups
                    .iter()
                    .map(|group| u32::try_from(group / stride % count).unwrap_or(NONE))
                    .collect();
                Ok(take(values, &labels, None)?)
            })
            .collect()
    }

    /// Into how many parts the groups can be cut: as many as the keys of some one dimension have values.
    pub(super) fn most_parts(&self) -> usize {
        self.widest().map_or(1, |(_, component)| component.groups)
    }

    /// The component of one dimension with the most groups, and its place.
    fn widest(&self) -> Option<(usize, &Component)> {
        self.labels
            .components
            .iter()
            .enumerate()
            .filter(|(_, component)| component.axes.len() == 1)
            .max_by_key(|(_, component)| component.groups)
    }

    /// Cuts the groups, and the cells that belong to them, into at least `parts` parts along the dimension whose keys
    /// have the most values; `None` if no dimension has so many.
    pub(super) fn split(
        &self,
        selection: &Selection,
        parts: usize,
    ) -> Option<Vec<(Self, Selection)>> {
        let (at, component) = self
            .widest()
            .filter(|(_, component)| component.groups >= parts)?;
        let step = component.groups.div_ceil(parts.max(1)).max(1);
        let mut pieces = Vec::with_capacity(parts);
        for first in (0..component.groups).step_by(step) {
            let groups = step.min(component.groups - first);
            let inside = |label: &u32| {
                let label = *label as usize;
                (first..first + groups).contains(&label)
            };
            let mask: Vec<bool> = component.labels.iter().map(inside).collect();
            let mut piece = self.clone();
            let mut cells = selection.clone();
            for axis in &component.axes {
                if let Some(dim) = cells.dims.get_mut(*axis) {
                    *dim = dim.filter(&mask);
                }
            }
            let base = u32::try_from(first).unwrap_or(NONE);
            if let Some(part) = piece.labels.components.get_mut(at) {
                let kept = component.labels.iter().filter(|label| inside(label));
                part.labels = kept.map(|label| label - base).collect();
                part.groups = groups;
            }
            for (of, values) in &mut piece.values {
                if *of == at {
                    *values = values.slice(first, groups);
                }
            }
            pieces.push((piece, cells));
        }
        Some(pieces)
    }

    /// Number of groups of each key's component, for EXPLAIN.
    pub(super) fn sizes(&self) -> Vec<usize> {
        self.values.iter().map(|(_, values)| values.len()).collect()
    }
}
