//! Columns of one grid on their way to another: what they are there, seen through the links between the two.

use std::sync::Arc;

use arrow::array::ArrayRef;

use crate::array::hyperslab::{IndexSet, Selection};
use crate::query::align::{Alignment, Link, NONE};
use crate::query::grid::{Column, Grid, VariableColumn};
use crate::query::join::Stays;
use crate::read::batch::{indices, select};

/// Most cells of the dimensions that decide one index.
pub(super) const MAX_MAP: u64 = 1 << 20;

/// Most values of a key column of the other side.
const MAX_DERIVED: u64 = 1 << 22;

/// Where the dimensions of the looked up side are found, and which of them leave rows without a partner.
pub(super) struct Links {
    pub(super) links: Vec<Link>,
    pub(super) partial: Vec<usize>,
}

/// Columns of one grid on their way to another.
pub(super) struct Moving<'a> {
    pub(super) fact: &'a Grid,
    pub(super) other: &'a Grid,
    pub(super) links: &'a Links,
    pub(super) selection: &'a Selection,
}

impl Moving<'_> {
    /// A column of the other grid as a column of the new one.
    pub(super) fn column(&self, column: usize) -> Result<Column, Stays> {
        let missing = || Stays(format!("no column {column}"));
        match self.other.columns.get(column).ok_or_else(missing)? {
            Column::Coordinate { axis } | Column::Index { axis } => {
                let vector = self.other.vector(column);
                let length = self.other.axes.get(*axis).map_or(0, |axis| axis.length);
                let values = vector.map_or_else(|| indices(&IndexSet::all(length)), Arc::clone);
                match self.same_coordinate(*axis, vector)? {
                    Some(column) => Ok(column),
                    None => self.derived(&[*axis], &values),
                }
            }
            Column::Derived { axes, values } => self.derived(axes, values),
            Column::Variable(variable) => self.variable(variable).map(Column::Variable),
        }
    }

    /// The dimension of the grid that is a dimension of the other, index by index and value by value.
    fn same_coordinate(
        &self,
        axis: usize,
        vector: Option<&ArrayRef>,
    ) -> Result<Option<Column>, Stays> {
        let Some(Link {
            axes, map: None, ..
        }) = self.links.links.get(axis)
        else {
            return Ok(None);
        };
        let ([axis], true) = (axes.as_slice(), self.links.partial.is_empty()) else {
            return Ok(None);
        };
        let own = self.fact.axes.get(*axis);
        let own = own.and_then(|axis| axis.values.as_ref());
        let set = self.selection.dims.get(*axis);
        Ok(match (own, vector, set) {
            (_, None, _) => Some(Column::Index { axis: *axis }),
            (Some(own), Some(other), Some(set))
                if select(own, set).map_err(stays)? == select(other, set).map_err(stays)? =>
            {
                Some(Column::Coordinate { axis: *axis })
            }
            _ => None,
        })
    }

    /// Links that only tell whether there is a partner, for a column on the dimensions `axes` of the other grid.
    fn presence(&self, axes: &[usize]) -> Vec<Link> {
        let partial = self.links.partial.iter();
        partial
            .filter(|axis| !axes.contains(axis))
            .filter_map(|axis| self.links.links.get(*axis).cloned())
            .collect()
    }

    /// Values in memory on the dimensions `axes` of the other grid.
    fn derived(&self, axes: &[usize], values: &ArrayRef) -> Result<Column, Stays> {
        let own = axes
            .iter()
            .filter_map(|axis| self.links.links.get(*axis).cloned());
        let links: Vec<Link> = own.chain(self.presence(axes)).collect();
        let alignment = Alignment::new(links, axes.len());
        let all = Selection::all(&self.fact.shape());
        let lengths = alignment.axes().iter();
        let lengths = lengths.filter_map(|axis| self.fact.axes.get(*axis));
        if lengths.fold(1u64, |cells, axis| cells.saturating_mul(axis.length)) > MAX_DERIVED {
            return Err(Stays("a key column would have too many values".into()));
        }
        let lengths = axes.iter().filter_map(|axis| self.other.axes.get(*axis));
        let lengths: Vec<u64> = lengths.map(|axis| axis.length).collect();
        let values = alignment.gather(&Selection::all(&lengths), values, &all)?;
        Ok(Column::Derived {
            axes: alignment.axes().to_vec(),
            values,
        })
    }

    fn variable(&self, variable: &VariableColumn) -> Result<VariableColumn, Stays> {
        let of = |axis: &usize| self.links.links.get(*axis).cloned();
        let (mut links, rank) = match &variable.alignment {
            None => {
                let links: Vec<Link> = variable.axes.iter().filter_map(of).collect();
                (links, variable.axes.len())
            }
            Some(alignment) => {
                let links = alignment.links().iter().map(|link| self.composed(link));
                (links.collect::<Result<Vec<_>, Stays>>()?, alignment.rank())
            }
        };
        links.extend(self.presence(&variable.axes));
        let same: Option<Vec<usize>> = links
            .iter()
            .map(|link| match (link.axes.as_slice(), &link.map) {
                ([axis], None) => Some(*axis),
                _ => None,
            })
            .collect();
        let (axes, alignment) = match same.filter(|_| links.len() == rank) {
            Some(axes) => (axes, None),
            None => {
                let alignment = Alignment::new(links, rank);
                (alignment.axes().to_vec(), Some(Arc::new(alignment)))
            }
        };
        Ok(VariableColumn {
            axes,
            alignment,
            ..variable.clone()
        })
    }

    /// A link from the dimensions of the other grid as one from those of this grid.
    fn composed(&self, link: &Link) -> Result<Link, Stays> {
        let between = link.axes.iter().map(|axis| self.links.links.get(*axis));
        let between: Vec<&Link> = between
            .collect::<Option<_>>()
            .ok_or_else(|| Stays("no link".into()))?;
        if let ([only], None) = (between.as_slice(), &link.map) {
            return Ok((*only).clone());
        }
        let axes: Vec<usize> = between.iter().flat_map(|link| link.axes.clone()).collect();
        let lengths: Vec<u64> = between.iter().flat_map(|l| l.lengths.clone()).collect();
        if lengths.iter().copied().fold(1, u64::saturating_mul) > MAX_MAP {
            return Err(Stays("a chain of joins has too many cells".into()));
        }
        let shape = Selection::all(&self.fact.shape());
        let mut cells = vec![Some(0u64)];
        for (between, length) in between.iter().zip(&link.lengths) {
            let indices = between.indices(&shape);
            cells = cells
                .iter()
                .flat_map(|cell| {
                    indices.iter().map(move |index| {
                        let cell = (*cell)?;
                        (index < length).then(|| cell * length + index)
                    })
                })
                .collect();
        }
        let target = |cell: Option<u64>| match (&link.map, cell) {
            (Some(map), Some(cell)) => map.get(usize::try_from(cell).ok()?).copied(),
            (None, cell) => cell,
            (_, None) => None,
        };
        let map: Vec<u64> = cells
            .into_iter()
            .map(|cell| target(cell).unwrap_or(NONE))
            .collect();
        let mut link = Link {
            axes,
            lengths,
            map: Some(map.into()),
        };
        simplify(&mut link, self.selection);
        Ok(link)
    }
}

/// A map that gives every selected index itself is no map.
pub(super) fn simplify(link: &mut Link, selection: &Selection) {
    if let [axis] = link.axes.as_slice()
        && let Some(set) = selection.dims.get(*axis)
        && link.indices(selection).into_iter().eq(set.iter())
    {
        link.map = None;
    }
}

fn stays(error: arrow::error::ArrowError) -> Stays {
    Stays::from(datafusion::error::DataFusionError::from(error))
}
