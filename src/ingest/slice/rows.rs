//! Rows as a slice: one cell for each row, in a grid that the values of some columns span.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::compute::{SortOptions, cast, concat_batches, sort_to_indices, take};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::row::{OwnedRow, RowConverter, SortField};

use super::{Slice, SliceVariable};
use crate::array::dtype::ElementType;
use crate::array::{AttributeValue, Attributes};
use crate::cf::decode::DecodeOptions;
use crate::cf::time::TimeUnits;
use crate::error::{Error, Result};
use crate::query::show;

/// Rows that are to be a slice, and what is known of it.
#[derive(Debug)]
pub(in crate::ingest) struct Rows<'a> {
    pub(in crate::ingest) schema: SchemaRef,
    pub(in crate::ingest) batches: &'a [RecordBatch],
    /// The dimensions, slowest first, with their values where those are given.
    pub(in crate::ingest) dimensions: Vec<(String, Option<ArrayRef>)>,
    /// The dimensions of variables that do not have all of them.
    pub(in crate::ingest) variables: HashMap<String, Vec<String>>,
    /// Whether cells without a row are missing values.
    pub(in crate::ingest) fill: bool,
}

/// Attributes that keep their meaning when values are unpacked.
const KEPT: [&str; 9] = [
    "units",
    "calendar",
    "standard_name",
    "long_name",
    "axis",
    "positive",
    "cell_methods",
    "comment",
    "grid_mapping",
];

/// The slice that rows are.
///
/// # Errors
/// `Invalid` when two rows are for one cell, a cell has none, or a coordinate is missing.
pub(in crate::ingest) fn from_rows(rows: &Rows<'_>, decode: &DecodeOptions) -> Result<Slice> {
    let batch = concat_batches(&rows.schema, rows.batches).map_err(|e| failed(&e))?;
    let mut axes = Vec::with_capacity(rows.dimensions.len());
    for (name, values) in &rows.dimensions {
        let column = batch
            .column_by_name(name)
            .ok_or_else(|| Error::Invalid(format!("no column is called {name}, a dimension")))?;
        axes.push(Axis::new(name, column, values.as_ref())?);
    }
    let mut slice = Slice {
        attributes: Attributes::default(),
        dimensions: axes
            .iter()
            .map(|axis| (axis.name.clone(), axis.values.len() as u64))
            .collect(),
        variables: Vec::new(),
        unreadable: Vec::new(),
    };
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let own: Vec<&Axis> = match axes.iter().find(|axis| axis.name == *field.name()) {
            Some(axis) => vec![axis],
            None => match rows.variables.get(field.name()) {
                Some(names) => names
                    .iter()
                    .filter_map(|name| axes.iter().find(|axis| axis.name == *name))
                    .collect(),
                None => axes.iter().collect(),
            },
        };
        let is_axis = own.len() == 1 && own.iter().all(|axis| axis.name == *field.name());
        let (values, own) = match own.as_slice() {
            [axis] if is_axis => (Arc::clone(&axis.values), own),
            _ => (
                scatter(
                    field.name(),
                    column,
                    &own,
                    own.len() == axes.len(),
                    rows.fill,
                )?,
                own,
            ),
        };
        let dimensions: Vec<(String, u64)> = own
            .iter()
            .map(|axis| (axis.name.clone(), axis.values.len() as u64))
            .collect();
        let (element, attributes, values) = stored_as(field, values)?;
        slice.variables.push(SliceVariable::of_values(
            field.name(),
            &dimensions,
            element,
            attributes,
            values,
            decode,
        )?);
    }
    Ok(slice)
}

/// A dimension.
struct Axis {
    name: String,
    /// Its values in order.
    values: ArrayRef,
    /// The index of each row.
    places: Vec<u64>,
}

impl Axis {
    fn new(name: &str, column: &ArrayRef, given: Option<&ArrayRef>) -> Result<Self> {
        if column.null_count() > 0 {
            return Err(Error::Invalid(format!(
                "a row has no value of {name}, by which its place would be known"
            )));
        }
        let column = match given {
            Some(given) => cast(column, given.data_type()).map_err(|e| failed(&e))?,
            None => Arc::clone(column),
        };
        let field = SortField::new(column.data_type().clone());
        let converter = RowConverter::new(vec![field]).map_err(|e| failed(&e))?;
        let keys = |column: &ArrayRef| -> Result<Vec<OwnedRow>> {
            let rows = converter
                .convert_columns(&[Arc::clone(column)])
                .map_err(|e| failed(&e))?;
            Ok(rows.iter().map(|row| row.owned()).collect())
        };
        let of_rows = keys(&column)?;
        let values = match given {
            Some(given) => Arc::clone(given),
            None => distinct(&column, &of_rows)?,
        };
        let known: HashMap<OwnedRow, u64> = keys(&values)?.into_iter().zip(0..).collect();
        let mut places = Vec::with_capacity(of_rows.len());
        for (row, key) in of_rows.iter().enumerate() {
            places.push(*known.get(key).ok_or_else(|| {
                Error::Invalid(format!(
                    "{} is not one of the values of {name}, which does not grow",
                    show(&column, row)
                ))
            })?);
        }
        Ok(Self {
            name: name.to_owned(),
            values,
            places,
        })
    }
}

/// The values of a column, each once, from the least to the greatest.
fn distinct(column: &ArrayRef, keys: &[OwnedRow]) -> Result<ArrayRef> {
    let order =
        sort_to_indices(column, Some(SortOptions::default()), None).map_err(|e| failed(&e))?;
    let mut last = None;
    let mut first = Vec::new();
    for row in order.values() {
        let key = keys.get(*row as usize);
        if key != last {
            first.push(u64::from(*row));
            last = key;
        }
    }
    take(column, &UInt64Array::from(first), None).map_err(|e| failed(&e))
}

/// The values of a column in the order of cells.
fn scatter(
    name: &str,
    column: &ArrayRef,
    axes: &[&Axis],
    is_whole: bool,
    fill: bool,
) -> Result<ArrayRef> {
    let cells = axes.iter().try_fold(1usize, |cells, axis| {
        cells
            .checked_mul(axis.values.len())
            .ok_or_else(|| Error::Exhausted(format!("{name} has more cells than can be addressed")))
    })?;
    if cells > column.len() && !fill && is_whole {
        return Err(Error::Invalid(format!(
            "there are rows for {} of {cells} cells; SET hyperslab.insert_missing = 'fill' makes the others missing values",
            column.len()
        )));
    }
    let mut rows: Vec<Option<u64>> = vec![None; cells];
    for row in 0..column.len() {
        let mut cell = 0;
        for axis in axes {
            let at = axis.places.get(row).copied().unwrap_or(0);
            cell = cell * axis.values.len() + usize::try_from(at).unwrap_or(0);
        }
        let Some(slot) = rows.get_mut(cell) else {
            continue;
        };
        match *slot {
            None => *slot = Some(row as u64),
            Some(_) if is_whole => {
                let place: Vec<String> = axes
                    .iter()
                    .map(|axis| {
                        let at = axis.places.get(row).copied().unwrap_or(0);
                        let at = usize::try_from(at).unwrap_or(0);
                        format!("{} {}", axis.name, show(&axis.values, at))
                    })
                    .collect();
                return Err(Error::Invalid(format!(
                    "two rows are for one cell: {}",
                    place.join(", ")
                )));
            }
            Some(other) => {
                let other = usize::try_from(other).unwrap_or(0);
                if column.slice(other, 1).to_data() != column.slice(row, 1).to_data() {
                    return Err(Error::Invalid(format!(
                        "rows give the values {} and {} of {name}, where there is one cell for all of them",
                        show(column, other),
                        show(column, row)
                    )));
                }
            }
        }
    }
    if let (false, Some(_)) = (fill, rows.iter().find(|row| row.is_none())) {
        return Err(Error::Invalid(format!(
            "there are cells of {name} without a row; SET hyperslab.insert_missing = 'fill' makes them missing values"
        )));
    }
    take(column, &UInt64Array::from(rows), None).map_err(|e| failed(&e))
}

/// How the values of a column would be stored, with its attributes and with values as they are decoded.
fn stored_as(field: &Field, values: ArrayRef) -> Result<(ElementType, Attributes, ArrayRef)> {
    let mut attributes = Attributes::default();
    for name in KEPT {
        if let Some(text) = field.metadata().get(name) {
            let text = AttributeValue::Text(text.clone());
            attributes.0.push((name.to_owned(), text));
        }
    }
    let to = |data_type: DataType| cast(&values, &data_type).map_err(|e| failed(&e));
    let is_time = attributes.text("units").is_some_and(TimeUnits::is_time);
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    Ok(match field.data_type() {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            if !is_time {
                set(&mut attributes, "units", "microseconds since 1970-01-01");
                set(&mut attributes, "calendar", "proleptic_gregorian");
                return Ok((ElementType::Int64, attributes, to(micros)?));
            }
            (ElementType::Float64, attributes, to(micros)?)
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let values = to(DataType::Utf8)?;
            if is_time {
                return Ok((ElementType::Float64, attributes, values));
            }
            let texts = values.as_string::<i32>().iter().flatten();
            let longest = texts.map(|text| text.chars().count()).max().unwrap_or(1);
            let longest = u32::try_from(longest.max(1)).unwrap_or(u32::MAX);
            (ElementType::Utf32(longest), attributes, values)
        }
        DataType::Boolean => (ElementType::Bool, attributes, values),
        DataType::Int8 => (ElementType::Int8, attributes, values),
        DataType::Int16 => (ElementType::Int16, attributes, values),
        DataType::Int32 => (ElementType::Int32, attributes, values),
        DataType::Int64 => (ElementType::Int64, attributes, values),
        DataType::UInt8 => (ElementType::UInt8, attributes, values),
        DataType::UInt16 => (ElementType::UInt16, attributes, values),
        DataType::UInt32 => (ElementType::UInt32, attributes, values),
        DataType::UInt64 => (ElementType::UInt64, attributes, values),
        DataType::Float16 | DataType::Float32 => {
            (ElementType::Float32, attributes, to(DataType::Float32)?)
        }
        DataType::Float64
        | DataType::Null
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => (ElementType::Float64, attributes, to(DataType::Float64)?),
        other => {
            return Err(Error::Invalid(format!(
                "column {} is of type {other}, which no variable can hold",
                field.name()
            )));
        }
    })
}

fn set(attributes: &mut Attributes, name: &str, text: &str) {
    attributes.0.retain(|(other, _)| other != name);
    let text = AttributeValue::Text(text.to_owned());
    attributes.0.push((name.to_owned(), text));
}

fn failed(error: &ArrowError) -> Error {
    Error::Invalid(error.to_string())
}
