//! What the scan of a grid promises about its rows before it has read any: their order, their number, extremes.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::Field;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::physical_expr::expressions::Column as ColumnExpr;
use datafusion::physical_expr::{
    AcrossPartitions, ConstExpr, EquivalenceProperties, PhysicalExpr, PhysicalSortExpr,
};

use crate::array::hyperslab::IndexSet;
use crate::query::grid::Column;
use crate::query::scan::ArraySource;
use crate::read::batch::select;

impl ArraySource {
    /// The order of the rows, and columns with one value.
    pub(super) fn equivalences(&self) -> EquivalenceProperties {
        let mut properties = EquivalenceProperties::new(Arc::clone(&self.schema));
        if self.silent {
            return properties;
        }
        let ordering = self.ordering();
        if !ordering.is_empty() {
            properties.add_ordering(ordering);
        }
        let constants: Vec<ConstExpr> = self
            .pruned
            .selection
            .dims
            .iter()
            .enumerate()
            .filter(|(_, set)| set.count() == 1)
            .filter_map(|(axis, _)| self.output_axis(axis))
            .map(|(at, field)| {
                let column: Arc<dyn PhysicalExpr> = Arc::new(ColumnExpr::new(field.name(), at));
                ConstExpr::new(column, AcrossPartitions::Uniform(None))
            })
            .collect();
        // A constant that cannot be declared is only a missed optimisation.
        if !constants.is_empty() {
            let _ = properties.add_constants(constants);
        }
        properties
    }

    /// The columns of the output, by the dimension of which they are the coordinate.
    fn output_axis(&self, axis: usize) -> Option<(usize, &Field)> {
        self.projection.iter().enumerate().find_map(|(at, column)| {
            match self.grid.columns.get(*column)? {
                Column::Coordinate { axis: of } | Column::Index { axis: of } if *of == axis => {
                    Some((at, self.schema.field(at)))
                }
                Column::Coordinate { .. }
                | Column::Index { .. }
                | Column::Variable(_)
                | Column::Derived { .. } => None,
            }
        })
    }

    /// The longest prefix of the dimensions by which the rows of every partition come sorted. A partition reads tiles
    /// in increasing order, so a dimension sorts when a tile has one index of it, or no faster one is cut into tiles.
    pub(super) fn ordering(&self) -> Vec<PhysicalSortExpr> {
        if self.silent {
            return Vec::new();
        }
        let counts = self.tiles().counts();
        let mut ordering = Vec::new();
        for (axis, set) in self.pruned.selection.dims.iter().enumerate() {
            if set.count() <= 1 {
                continue;
            }
            let whole = counts.iter().skip(axis + 1).all(|count| *count <= 1);
            let single = self.tile.get(axis).is_some_and(|extent| *extent == 1);
            let order = self.grid.axes.get(axis).and_then(|axis| axis.order);
            let (Some(order), Some((at, field)), true) =
                (order, self.output_axis(axis), whole || single)
            else {
                break;
            };
            ordering.push(PhysicalSortExpr::new(
                Arc::new(ColumnExpr::new(field.name(), at)),
                SortOptions::new(order.descending, false),
            ));
            if !order.strict {
                break;
            }
        }
        ordering
    }

    /// What is known of the rows of all partitions.
    pub(super) fn scan_statistics(&self) -> Statistics {
        let mut statistics = Statistics::new_unknown(&self.schema);
        let whole = self.fetch.is_none() && self.limit.is_none();
        if !self.options.use_statistics {
            return statistics;
        }
        let rows = self
            .pruned
            .rows()
            .and_then(|rows| usize::try_from(rows).ok());
        let upper = usize::try_from(self.pruned.selection.cells()).unwrap_or(usize::MAX);
        let exact = whole && self.residual.is_none() && rows.is_some();
        let limit = self.limit.unwrap_or(usize::MAX);
        statistics.num_rows = match rows {
            Some(rows) if self.residual.is_none() && self.fetch.is_none() => {
                Precision::Exact(rows.min(limit))
            }
            _ => Precision::Inexact(upper.min(limit)),
        };
        if exact && rows != Some(0) {
            statistics.column_statistics = self
                .projection
                .iter()
                .map(|column| self.column_statistics(*column))
                .collect();
        }
        statistics
    }

    fn column_statistics(&self, column: usize) -> ColumnStatistics {
        self.dimension_statistics(column).unwrap_or_default()
    }

    /// Extremes and distinct count of a coordinate without missing values, from its two ends.
    fn dimension_statistics(&self, column: usize) -> Option<ColumnStatistics> {
        let axis = match self.grid.columns.get(column)? {
            Column::Coordinate { axis } | Column::Index { axis } => *axis,
            Column::Variable(_) | Column::Derived { .. } => return None,
        };
        let set = self.pruned.selection.dims.get(axis)?;
        let (first, last) = (set.first()?, set.last()?);
        let is_index = matches!(self.grid.columns.get(column)?, Column::Index { .. });
        let axis = self.grid.axes.get(axis)?;
        let (low, high, strict) = if is_index {
            let scalar = |index| {
                i64::try_from(index)
                    .ok()
                    .map(|i| ScalarValue::Int64(Some(i)))
            };
            (scalar(first)?, scalar(last)?, true)
        } else {
            let order = axis.order?;
            let values = axis.values.as_ref()?;
            let ends = select(values, &IndexSet::range(first..first + 1)).ok()?;
            let end = select(values, &IndexSet::range(last..last + 1)).ok()?;
            let first = ScalarValue::try_from_array(&ends, 0).ok()?;
            let last = ScalarValue::try_from_array(&end, 0).ok()?;
            if order.descending {
                (last, first, order.strict)
            } else {
                (first, last, order.strict)
            }
        };
        let mut statistics = ColumnStatistics::new_unknown();
        statistics.null_count = Precision::Exact(0);
        statistics.min_value = Precision::Exact(low);
        statistics.max_value = Precision::Exact(high);
        if strict && let Ok(count) = usize::try_from(set.count()) {
            statistics.distinct_count = Precision::Exact(count);
        }
        Some(statistics)
    }
}
