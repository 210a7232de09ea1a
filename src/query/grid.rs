//! Grids: the dimensions and columns of one table, with its coordinate vectors in memory.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt64Array};
use arrow::compute::{SortOptions, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use futures::future::BoxFuture;

use crate::array::hyperslab::{IndexSet, Selection};
use crate::array::{Attributes, Variable};
use crate::cf::decode::Decoding;
use crate::error::{Error, Result, Within};
use crate::query::align::Alignment;
use crate::query::copy::spec::DIMENSIONS;
use crate::query::members::Members;
use crate::read::Buffers;
use crate::read::batch::select;
use crate::store::Store;

/// Longest dimension whose coordinate vector is kept in memory; a longer coordinate is a variable like any other.
const MAX_AXIS: u64 = 1 << 22;

/// The grid of a table: its cells are the rows.
#[derive(Clone, Debug)]
pub struct Grid {
    /// What messages and plans call it.
    pub name: String,
    /// Where its coordinate vectors were read from; a joined variable has a store of its own.
    pub store: Store,
    /// The dimensions, slowest first.
    pub axes: Vec<Axis>,
    /// The columns, in the order of the schema.
    pub columns: Vec<Column>,
    /// Names and types of the columns.
    pub schema: SchemaRef,
    /// Rows that exist at all, where the table is a part of its grid (`read_array` with slices).
    pub window: Selection,
}

/// One dimension of a grid.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Name of the dimension.
    pub name: String,
    /// Number of indices.
    pub length: u64,
    /// The decoded coordinate vector; `None` where the index is the coordinate or the vector is too long to keep.
    pub values: Option<ArrayRef>,
    /// Order of the coordinate vector, if it has one.
    pub order: Option<AxisOrder>,
}

/// The order of a coordinate vector without missing values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AxisOrder {
    /// Whether values decrease.
    pub descending: bool,
    /// Whether no value occurs twice.
    pub strict: bool,
}

/// What a column of a grid is.
#[derive(Clone, Debug)]
pub enum Column {
    /// The coordinate vector of a dimension.
    Coordinate {
        /// The dimension.
        axis: usize,
    },
    /// The index along a dimension.
    Index {
        /// The dimension.
        axis: usize,
    },
    /// A variable.
    Variable(VariableColumn),
    /// Values in memory.
    Derived {
        /// The dimensions, in increasing order.
        axes: Vec<usize>,
        /// One value for each cell of these dimensions, in C order.
        values: ArrayRef,
    },
}

/// A variable as a column.
#[derive(Clone, Debug)]
pub struct VariableColumn {
    /// The variable.
    pub variable: Arc<Variable>,
    /// How its stored values become values of the column.
    pub decoding: Arc<Decoding>,
    /// Where its chunks are read from.
    pub store: Store,
    /// Which dimension of the grid each of its own dimensions is; with an alignment, those that it depends on.
    pub axes: Vec<usize>,
    /// How its own indices follow from those of the grid, where they are not the same.
    pub alignment: Option<Arc<Alignment>>,
    /// The files that it is continued in, if there are several: its chunks are theirs.
    pub members: Option<Arc<Members>>,
}

impl VariableColumn {
    /// The part of a selection of the grid that the variable has: in its own dimensions.
    #[must_use]
    pub fn selection(&self, of: &Selection) -> Selection {
        if let Some(alignment) = &self.alignment {
            return alignment.own(of);
        }
        Selection {
            dims: self
                .axes
                .iter()
                .map(|axis| of.dims.get(*axis).cloned().unwrap_or_default())
                .collect(),
        }
    }

    /// Whether its cells are those of a grid of `rank` dimensions, index by index.
    #[must_use]
    pub fn is_whole(&self, rank: usize) -> bool {
        self.alignment.is_none() && self.axes.iter().copied().eq(0..rank)
    }

    /// For the dimensions of the grid along which its chunks lie one after another: how far one reaches.
    #[must_use]
    pub fn extents(&self) -> Vec<(usize, u64)> {
        let chunk = self.variable.layout.grid.chunk_shape();
        match &self.alignment {
            Some(alignment) => alignment.extents(chunk),
            None => self
                .axes
                .iter()
                .copied()
                .zip(chunk.iter().copied())
                .collect(),
        }
    }
}

/// What a grid is made of.
#[derive(Clone, Debug)]
pub struct GridParts {
    /// What messages and plans call the table.
    pub name: String,
    /// Name and length of each dimension, slowest first.
    pub dimensions: Vec<(String, u64)>,
    /// The coordinate variable of each dimension, where there is one.
    pub coordinates: Vec<Option<GridVariable>>,
    /// The further variables, in the order of the columns.
    pub variables: Vec<GridVariable>,
    /// Whether every dimension also has a column with its index.
    pub index_columns: bool,
}

/// A variable of a grid to be, with its decoding.
#[derive(Clone, Debug)]
pub struct GridVariable {
    /// The variable.
    pub variable: Arc<Variable>,
    /// How its stored values become values of the column.
    pub decoding: Arc<Decoding>,
    /// Where its chunks are read from.
    pub store: Store,
    /// The files that it is continued in, if there are several.
    pub members: Option<Arc<Members>>,
}

impl GridVariable {
    /// The type of its values.
    fn data_type(&self) -> DataType {
        let own = || self.decoding.data_type();
        self.members
            .as_ref()
            .map_or_else(own, |members| members.data_type())
    }

    /// Whether one of its values can be NULL.
    fn nullable(&self) -> bool {
        let own = || self.decoding.nullable();
        self.members
            .as_ref()
            .map_or_else(own, |members| members.nullable())
    }

    /// The variable as a column of a grid whose dimensions `axes` are its own.
    fn column(&self, axes: Vec<usize>) -> VariableColumn {
        VariableColumn {
            variable: Arc::clone(&self.variable),
            decoding: Arc::clone(&self.decoding),
            store: self.store.clone(),
            axes,
            alignment: None,
            members: self.members.clone(),
        }
    }
}

impl Grid {
    /// The same grid with the columns of these names first, in this order.
    #[must_use]
    pub fn ordered(mut self, names: &[String]) -> Self {
        let place = |field: &str| {
            let place = names.iter().position(|name| name == field);
            place.unwrap_or(names.len())
        };
        let fields = self.schema.fields().iter().cloned();
        let mut columns: Vec<_> = fields.zip(self.columns).collect();
        columns.sort_by_key(|(field, _)| place(field.name()));
        let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        self.schema = Arc::new(Schema::new_with_metadata(
            fields,
            self.schema.metadata().clone(),
        ));
        self.columns = columns;
        self
    }

    /// Builds the grid of a table; reads its coordinate vectors.
    ///
    /// # Errors
    /// When a coordinate vector cannot be read or decoded; names the variable.
    pub async fn open(store: &Store, parts: GridParts) -> Result<Self> {
        let mut columns = Vec::new();
        let mut fields: Vec<Field> = Vec::new();
        let mut axes = Vec::new();
        let vectors = vectors(&parts).await?;
        let names = unique_names(parts.dimensions.iter().map(|(name, _)| name.as_str()));
        let coordinates = parts.coordinates.iter().zip(vectors);
        for (axis, ((_, length), (coordinate, values))) in
            parts.dimensions.iter().zip(coordinates).enumerate()
        {
            let name = names.get(axis).cloned().unwrap_or_default();
            match (coordinate, &values) {
                (Some(coordinate), Some(vector)) => {
                    let field = field(&name, coordinate, vector.null_count() > 0);
                    fields.push(field);
                    columns.push(Column::Coordinate { axis });
                }
                (Some(coordinate), None) => {
                    fields.push(field(&name, coordinate, coordinate.nullable()));
                    columns.push(Column::Variable(coordinate.column(vec![axis])));
                }
                (None, _) => {
                    fields.push(index_field(&name));
                    columns.push(Column::Index { axis });
                }
            }
            let order = match (&values, coordinate) {
                (Some(values), _) => axis_order(values),
                (None, Some(_)) => None,
                (None, None) => Some(AxisOrder {
                    descending: false,
                    strict: true,
                }),
            };
            axes.push(Axis {
                name,
                length: *length,
                values,
                order,
            });
        }
        for variable in &parts.variables {
            let axes = variable_axes(&parts.dimensions, &variable.variable)?;
            fields.push(field(
                &variable.variable.name,
                variable,
                variable.nullable(),
            ));
            columns.push(Column::Variable(variable.column(axes)));
        }
        if parts.index_columns {
            for (axis, name) in names.iter().enumerate() {
                fields.push(Field::new(format!("{name}_i"), DataType::Int64, false));
                columns.push(Column::Index { axis });
            }
        }
        let column_names = unique_names(fields.iter().map(|field| field.name().as_str()));
        let fields: Vec<Field> = fields
            .into_iter()
            .zip(column_names)
            .map(|(field, name)| field.with_name(name))
            .collect();
        Ok(Self {
            name: parts.name,
            store: store.clone(),
            window: Selection {
                dims: axes
                    .iter()
                    .map(|axis: &Axis| IndexSet::all(axis.length))
                    .collect(),
            },
            axes,
            columns,
            schema: Arc::new(Schema::new(fields)),
        })
    }

    /// Number of indices of each dimension.
    #[must_use]
    pub fn shape(&self) -> Vec<u64> {
        self.axes.iter().map(|axis| axis.length).collect()
    }

    /// Where its cells are read from: its own store, or those of the files that its variables are continued in.
    #[must_use]
    pub fn stores(&self) -> Vec<&Store> {
        let columns = (0..self.columns.len()).filter_map(|column| self.variable(column));
        let members = columns.filter_map(|column| column.members.as_ref());
        // All variables of a table are continued in the same files.
        let mut members = members.map(|members| members.stores().collect());
        members.next().unwrap_or_else(|| vec![&self.store])
    }

    /// The dimensions on which column `column` depends, in increasing order: its footprint.
    #[must_use]
    pub fn footprint(&self, column: usize) -> Vec<usize> {
        match self.columns.get(column) {
            Some(Column::Coordinate { axis } | Column::Index { axis }) => vec![*axis],
            Some(Column::Variable(VariableColumn { axes, .. }) | Column::Derived { axes, .. }) => {
                let mut axes = axes.clone();
                axes.sort_unstable();
                axes.dedup();
                axes
            }
            None => Vec::new(),
        }
    }

    /// The vector in memory behind a column of one dimension; `None` for an index, which needs none.
    #[must_use]
    pub fn vector(&self, column: usize) -> Option<&ArrayRef> {
        match self.columns.get(column)? {
            Column::Coordinate { axis } => self.axes.get(*axis)?.values.as_ref(),
            Column::Derived { axes, values } if axes.len() == 1 => Some(values),
            Column::Index { .. } | Column::Variable(_) | Column::Derived { .. } => None,
        }
    }

    /// The variable behind a column, if it is one.
    #[must_use]
    pub fn variable(&self, column: usize) -> Option<&VariableColumn> {
        match self.columns.get(column) {
            Some(Column::Variable(variable)) => Some(variable),
            Some(Column::Coordinate { .. } | Column::Index { .. } | Column::Derived { .. })
            | None => None,
        }
    }
}

impl Column {
    /// A column of `values` on the selected cells of `axes` (in increasing order; C order); NULL elsewhere.
    ///
    /// # Errors
    /// When the values cannot be gathered.
    pub fn derived(
        grid: &Grid,
        selection: &Selection,
        axes: Vec<usize>,
        values: &ArrayRef,
    ) -> Result<Self, ArrowError> {
        let mut positions = vec![Some(0u64)];
        let mut before = 1u64;
        for axis in axes.iter().rev() {
            let (Some(of), Some(set)) = (grid.axes.get(*axis), selection.dims.get(*axis)) else {
                continue;
            };
            let mut place = vec![None; usize::try_from(of.length).unwrap_or(0)];
            for (at, index) in set.iter().enumerate() {
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                if let Some(slot) = place.get_mut(index) {
                    *slot = Some(at as u64 * before);
                }
            }
            positions = place
                .iter()
                .flat_map(|slow| positions.iter().map(move |fast| Some((*slow)? + (*fast)?)))
                .collect();
            before = before.saturating_mul(set.count());
        }
        let values = take(values, &UInt64Array::from(positions), None)?;
        Ok(Self::Derived { axes, values })
    }

    /// The values of a column in memory on the selected cells of its dimensions.
    ///
    /// # Errors
    /// When the values cannot be gathered.
    pub fn selected(
        grid: &Grid,
        selection: &Selection,
        axes: &[usize],
        values: &ArrayRef,
    ) -> Result<ArrayRef, ArrowError> {
        if let [axis] = axes
            && let Some(set) = selection.dims.get(*axis)
        {
            return select(values, set);
        }
        let mut positions = vec![0u64];
        for axis in axes {
            let (Some(of), Some(set)) = (grid.axes.get(*axis), selection.dims.get(*axis)) else {
                continue;
            };
            positions = positions
                .iter()
                .flat_map(|at| set.iter().map(move |index| at * of.length + index))
                .collect();
        }
        take(values, &UInt64Array::from(positions), None)
    }
}

/// Which dimension of the grid each dimension of a variable is. A dimension that occurs twice is matched in order.
fn variable_axes(dimensions: &[(String, u64)], variable: &Variable) -> Result<Vec<usize>> {
    let mut axes: Vec<usize> = Vec::with_capacity(variable.dimensions.len());
    for (name, length) in variable.dimensions.iter().zip(variable.shape()) {
        let axis = dimensions
            .iter()
            .enumerate()
            .find(|(axis, (other, size))| other == name && size == length && !axes.contains(axis))
            .map(|(axis, _)| axis)
            .ok_or_else(|| {
                Error::Invalid(format!(
                    "{}: dimension {name} of length {length} is not one of this table",
                    variable.path
                ))
            })?;
        axes.push(axis);
    }
    Ok(axes)
}

fn field(name: &str, variable: &GridVariable, nullable: bool) -> Field {
    let mut metadata = metadata(&variable.variable.attributes);
    let dimensions = variable.variable.dimensions.join(", ");
    metadata.insert(DIMENSIONS.to_owned(), dimensions);
    Field::new(name, variable.data_type(), nullable).with_metadata(metadata)
}

/// The field of a dimension whose index is its coordinate.
fn index_field(name: &str) -> Field {
    let metadata = HashMap::from([(DIMENSIONS.to_owned(), name.to_owned())]);
    Field::new(name, DataType::Int64, false).with_metadata(metadata)
}

/// CF attributes as metadata of a field.
fn metadata(attributes: &Attributes) -> HashMap<String, String> {
    attributes
        .0
        .iter()
        .map(|(name, value)| (name.clone(), value.to_string()))
        .collect()
}

/// The values of the coordinates along dimensions that are not too long, read at the same time.
async fn vectors(parts: &GridParts) -> Result<Vec<Option<ArrayRef>>> {
    let mut reads: Vec<BoxFuture<'_, Result<Option<ArrayRef>>>> = Vec::new();
    for (axis, ((_, length), coordinate)) in
        parts.dimensions.iter().zip(&parts.coordinates).enumerate()
    {
        let coordinate = coordinate.as_ref().filter(|_| *length <= MAX_AXIS);
        reads.push(Box::pin(async move {
            let Some(coordinate) = coordinate else {
                return Ok(None);
            };
            let whole = Selection::all(coordinate.variable.shape());
            let column = coordinate.column(vec![axis]);
            let vector = column.read(&whole, &mut Buffers::default()).await;
            vector.within(|| &coordinate.variable.path).map(Some)
        }));
    }
    futures::future::try_join_all(reads).await
}

/// Names in order, the second and later uses of one with `_2`, `_3` … put behind.
pub(super) fn unique_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut unique: Vec<String> = Vec::new();
    for name in names {
        let mut candidate = name.to_owned();
        let mut uses = 1;
        while unique.contains(&candidate) {
            uses += 1;
            candidate = format!("{name}_{uses}");
        }
        unique.push(candidate);
    }
    unique
}

/// The order of a coordinate vector, found out by looking at every pair of neighbours.
#[must_use]
pub fn axis_order(values: &ArrayRef) -> Option<AxisOrder> {
    if values.null_count() > 0 || values.len() < 2 {
        return (values.null_count() == 0).then_some(AxisOrder {
            descending: false,
            strict: true,
        });
    }
    let converter = RowConverter::new(vec![SortField::new_with_options(
        values.data_type().clone(),
        SortOptions::default(),
    )])
    .ok()?;
    let rows = converter.convert_columns(&[Arc::clone(values)]).ok()?;
    let (mut up, mut down, mut strict) = (true, true, true);
    let mut rows = rows.iter();
    let mut last = rows.next()?;
    for row in rows {
        match last.cmp(&row) {
            std::cmp::Ordering::Less => down = false,
            std::cmp::Ordering::Greater => up = false,
            std::cmp::Ordering::Equal => strict = false,
        }
        if !up && !down {
            return None;
        }
        last = row;
    }
    Some(AxisOrder {
        descending: !up,
        strict,
    })
}
