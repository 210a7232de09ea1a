//! What a statement says of a dataset to be made: from options and columns to a blueprint.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema};

use crate::array::blueprint::{Blueprint, Codecs, NewGroup, NewVariable};
use crate::array::dtype::ElementType;
use crate::array::{AttributeValue, Attributes, Dimension};
use crate::cf::time::TimeUnits;
use crate::error::{Error, Result};

/// The metadata entry of a field that names the dimensions on which its values depend.
pub const DIMENSIONS: &str = "hyperslab.dimensions";

/// Bytes that a chunk aims to have before it is encoded, where nobody says otherwise.
const CHUNK_BYTES: u64 = 4 << 20;

/// Most indices of a chunk along the dimension that grows, whose length nobody knows yet.
const GROWING_CHUNK: u64 = 4096;

/// More values than this are no dimension that anybody means.
const MOST_VALUES: f64 = 1e8;

/// The attribute that names auxiliary coordinates.
const COORDINATES: &str = "coordinates";

/// Attributes that tell how values are stored: they are made anew, whatever the source had.
const ENCODING: &[&str] = &[
    "_FillValue",
    "missing_value",
    "scale_factor",
    "add_offset",
    "valid_min",
    "valid_max",
    "valid_range",
    "_Unsigned",
    "calendar",
    COORDINATES,
    "_Netcdf4Dimid",
    "_Netcdf4Coordinates",
    "NAME",
    "CLASS",
    "DIMENSION_LIST",
    "REFERENCE_LIST",
    DIMENSIONS,
];

/// The options of a statement.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    dims: Option<Vec<String>>,
    version: Option<u8>,
    /// For all columns, where they do not say otherwise.
    all: ColumnSpec,
    /// Attributes of the dataset.
    attributes: Vec<(String, AttributeValue)>,
    /// By the name of the column in lower case, as the engine passes the names of options.
    columns: BTreeMap<String, ColumnSpec>,
}

/// The options of one column.
#[derive(Clone, Debug, Default)]
struct ColumnSpec {
    dims: Option<Vec<String>>,
    chunks: Option<Vec<u64>>,
    element: Option<ElementType>,
    fill: Option<f64>,
    scale: Option<f64>,
    offset: Option<f64>,
    /// Characters of its texts.
    width: Option<u32>,
    /// Its values, if it is a dimension of a dataset that is made empty.
    values: Option<String>,
    codec: Option<String>,
    attributes: Vec<(String, AttributeValue)>,
}

/// Which columns are dimensions, and which of them every other column has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The columns that are dimensions, slowest first.
    pub dims: Vec<usize>,
    /// For every other column, its dimensions by their place among `dims`.
    pub variables: Vec<(usize, Vec<usize>)>,
}

impl Spec {
    /// Reads the options of a statement (names in lower case): `dims`, `chunks`, `codec`, `zarr_format`, `attr.NAME`, and
    /// for one column `COLUMN.dims`, `.chunks`, `.codec`, `.dtype`, `.fill_value`, `.scale_factor`, `.add_offset`, `.width`,
    /// `.values`, `.attr.NAME`.
    ///
    /// # Errors
    /// `Invalid` naming an option that is unknown, or whose value is none.
    pub fn parse(options: &HashMap<String, String>) -> Result<Self> {
        let mut spec = Self::default();
        for (key, value) in options {
            let key = key.strip_prefix("format.").unwrap_or(key);
            let wrong = || Error::Invalid(format!("option '{key}' has the value '{value}'"));
            match key.split_once('.') {
                None => match key {
                    "dims" => spec.dims = Some(list(value)),
                    "zarr_format" => {
                        spec.version = Some(value.parse().map_err(|_| wrong())?);
                    }
                    _ => spec.all.set(key, value)?,
                },
                Some(("attr", name)) => {
                    spec.attributes.push((name.to_owned(), attribute(value)));
                }
                Some((column, option)) => {
                    let column = spec.columns.entry(column.to_owned()).or_default();
                    column.set(option, value).map_err(|_| {
                        Error::Invalid(format!("option '{key}' is unknown, or cannot be '{value}'"))
                    })?;
                }
            }
        }
        Ok(spec)
    }

    /// What the columns of rows are in the dataset.
    ///
    /// # Errors
    /// `Invalid` when it is not known which columns are dimensions, or an option names a column that is none.
    pub fn shape(&self, schema: &Schema) -> Result<Shape> {
        let fields = schema.fields();
        let position = |name: &str| {
            fields
                .iter()
                .position(|field| field.name() == name)
                .or_else(|| {
                    fields
                        .iter()
                        .position(|f| f.name().eq_ignore_ascii_case(name))
                })
        };
        for name in self.columns.keys() {
            if position(name).is_none() {
                return Err(Error::Invalid(format!(
                    "an option is for the column {name}, which is not there"
                )));
            }
        }
        let known = |field: &Field| field.metadata().get(DIMENSIONS).map(|dims| list(dims));
        let is_own =
            |field: &Field| known(field).is_some_and(|dims| dims == [field.name().clone()]);
        let dims: Vec<usize> = match &self.dims {
            Some(names) => names
                .iter()
                .map(|name| {
                    position(name).ok_or_else(|| {
                        Error::Invalid(format!("dims names {name}, which is no column of the rows"))
                    })
                })
                .collect::<Result<_>>()?,
            None => {
                let own = fields.iter().enumerate().filter(|(_, field)| is_own(field));
                own.map(|(at, _)| at).collect()
            }
        };
        let name_of = |at: usize| fields.get(at).map_or("", |field| field.name().as_str());
        let mut variables = Vec::new();
        for (at, field) in fields.iter().enumerate() {
            if dims.contains(&at) {
                continue;
            }
            let given = self
                .column(field.name())
                .and_then(|column| column.dims.clone());
            let own = given.or_else(|| {
                // What the source says holds if all of these dimensions are there.
                known(field)
                    .filter(|own| own.iter().all(|d| dims.iter().any(|at| name_of(*at) == d)))
            });
            let axes = match own {
                Some(names) => names
                    .iter()
                    .map(|name| {
                        let axis = dims
                            .iter()
                            .position(|at| name_of(*at).eq_ignore_ascii_case(name));
                        axis.ok_or_else(|| {
                            Error::Invalid(format!(
                                "{} is to have the dimension {name}, which is not one of dims",
                                field.name()
                            ))
                        })
                    })
                    .collect::<Result<Vec<_>>>()?,
                None => (0..dims.len()).collect(),
            };
            variables.push((at, axes));
        }
        if dims.is_empty() || variables.is_empty() {
            return Err(Error::Invalid(
                "it is not known which columns are dimensions, or there are no others: OPTIONS (dims 'time,lat,lon') names \
                 them, slowest first"
                    .into(),
            ));
        }
        Ok(Shape { dims, variables })
    }

    /// The characters that texts of a column have at most, if an option tells it.
    #[must_use]
    pub fn width(&self, column: &str) -> Option<u32> {
        self.column(column)?.width
    }

    /// The coordinates that the option `values` gives the dimensions behind the first: a list of values, or, for numbers,
    /// `first:last:step`.
    ///
    /// # Errors
    /// `Invalid` when they are none of the type of the column, or of a column that is no such dimension.
    pub fn coordinates(&self, schema: &Schema, shape: &Shape) -> Result<Vec<Option<ArrayRef>>> {
        let mut coordinates = Vec::with_capacity(shape.dims.len());
        for at in &shape.dims {
            let field = schema.fields().get(*at);
            let given = field.and_then(|field| Some((field, self.column(field.name())?)));
            let values = given.and_then(|(field, column)| Some((field, column.values.as_ref()?)));
            coordinates.push(match values {
                Some((field, _)) if coordinates.is_empty() => {
                    return Err(Error::Invalid(format!(
                        "{} is the dimension that grows: its values come with the rows",
                        field.name()
                    )));
                }
                Some((field, text)) => Some(values_of(field, text)?),
                None => None,
            });
        }
        for (at, _) in &shape.variables {
            let field = schema.fields().get(*at);
            if let Some(field) = field
                && self
                    .column(field.name())
                    .is_some_and(|c| c.values.is_some())
            {
                return Err(Error::Invalid(format!(
                    "{} is no dimension: its values come with the rows",
                    field.name()
                )));
            }
        }
        Ok(coordinates)
    }

    /// The dataset for rows of `schema`, the dimensions of which have these lengths (the first may grow); `text` tells
    /// the elements of a column of texts.
    ///
    /// # Errors
    /// `Invalid` when options and columns do not belong together, `Unsupported` for a type that cannot be stored.
    pub fn blueprint(
        &self,
        schema: &Schema,
        shape: &Shape,
        lengths: &[u64],
        text: &dyn Fn(usize) -> Option<ElementType>,
    ) -> Result<Blueprint> {
        let field = |at: usize| {
            let field = schema.fields().get(at);
            field.ok_or_else(|| Error::Invalid(format!("there is no column {at}")))
        };
        let mut names = Vec::with_capacity(shape.dims.len());
        for at in &shape.dims {
            names.push(field(*at)?.name().clone());
        }
        let dimensions = names.iter().zip(lengths).enumerate();
        let dimensions = dimensions.map(|(at, (name, length))| Dimension {
            name: name.clone(),
            length: *length,
            unlimited: at == 0,
        });
        let mut variables = Vec::new();
        for (axis, at) in shape.dims.iter().enumerate() {
            let length = lengths.get(axis).copied().unwrap_or(0);
            let chunk = match (axis, length) {
                (0, _) | (_, 0) => GROWING_CHUNK,
                _ => length,
            };
            let own = vec![(axis, length, chunk)];
            variables.push(self.variable(
                field(*at)?,
                &names,
                &own,
                Role::Coordinate,
                text(*at),
            )?);
        }
        for (at, axes) in &shape.variables {
            let field = field(*at)?;
            let lengths = axes
                .iter()
                .map(|axis| lengths.get(*axis).copied().unwrap_or(0));
            let lengths: Vec<u64> = lengths.collect();
            let chunks = self.chunks(field, axes, &lengths, shape.dims.len())?;
            let own = axes.iter().zip(&lengths).zip(&chunks);
            let own: Vec<_> = own
                .map(|((axis, length), chunk)| (*axis, *length, *chunk))
                .collect();
            variables.push(self.variable(field, &names, &own, Role::Data, text(*at))?);
        }
        name_coordinates(schema, &mut variables);
        Ok(Blueprint {
            version: self.version,
            groups: vec![NewGroup {
                path: String::new(),
                attributes: Attributes(self.attributes.clone()),
                dimensions: dimensions.collect(),
            }],
            variables,
        })
    }

    fn column(&self, name: &str) -> Option<&ColumnSpec> {
        self.columns.get(&name.to_lowercase())
    }

    /// Extents of a chunk of a variable.
    fn chunks(
        &self,
        field: &Field,
        axes: &[usize],
        lengths: &[u64],
        rank: usize,
    ) -> Result<Vec<u64>> {
        let wrong = |chunks: &[u64], rank: usize| {
            Error::Invalid(format!(
                "{}: chunks {chunks:?} are not {rank} extents of at least 1",
                field.name()
            ))
        };
        let valid = |chunks: &[u64], rank| chunks.len() == rank && !chunks.contains(&0);
        if let Some(chunks) = self.column(field.name()).and_then(|c| c.chunks.as_ref()) {
            if !valid(chunks, axes.len()) {
                return Err(wrong(chunks, axes.len()));
            }
            return Ok(chunks.clone());
        }
        let is_unknown = |(length, axis): (&u64, &usize)| *length == 0 && *axis > 0;
        if self.all.chunks.is_none() && lengths.iter().zip(axes).any(is_unknown) {
            return Err(Error::Invalid(format!(
                "{}: how it is to be cut into chunks is not known, because some of its dimensions have no values yet: OPTIONS \
                 ('chunks' '1,180,360') or OPTIONS ('lat.values' '-89.5:89.5:1') tells it",
                field.name()
            )));
        }
        if let Some(chunks) = &self.all.chunks {
            if !valid(chunks, rank) {
                return Err(wrong(chunks, rank));
            }
            let own = axes
                .iter()
                .map(|axis| chunks.get(*axis).copied().unwrap_or(1));
            return Ok(own.collect());
        }
        let size = element_of(field.data_type()).and_then(ElementType::size);
        let mut room = CHUNK_BYTES / (size.unwrap_or(8) as u64);
        let mut chunks = vec![1; axes.len()];
        // The last dimensions whole, as far as they fit.
        for ((chunk, length), axis) in chunks.iter_mut().zip(lengths).zip(axes).rev() {
            let most = if *axis == 0 {
                GROWING_CHUNK
            } else {
                (*length).max(1)
            };
            *chunk = most.min(room.max(1));
            room /= *chunk;
        }
        Ok(chunks)
    }

    fn variable(
        &self,
        field: &Field,
        names: &[String],
        own: &[(usize, u64, u64)],
        role: Role,
        text: Option<ElementType>,
    ) -> Result<NewVariable> {
        let name = field.name();
        let spec = self.column(name);
        let time = time_units(field);
        let natural = match element_of(field.data_type()) {
            _ if time.is_some() => Some(ElementType::Float64),
            Some(element) => Some(element),
            None => text,
        };
        let element = spec
            .and_then(|spec| spec.element)
            .or(natural)
            .ok_or_else(|| {
                Error::Unsupported(format!(
                    "{name} has the type {}, which cannot be stored as an array",
                    field.data_type()
                ))
            })?;
        let mut attributes = Vec::new();
        for (key, value) in sorted(field.metadata()) {
            if !ENCODING.contains(&key.as_str()) && (key != "units" || !is_time(field.data_type()))
            {
                attributes.push((key.clone(), AttributeValue::Text(value.clone())));
            }
        }
        let text = |value: &str| AttributeValue::Text(value.to_owned());
        if is_time(field.data_type()) || time.is_some() {
            attributes.retain(|(key, _)| key != "units");
            let (units, calendar) =
                time.unwrap_or(("microseconds since 1970-01-01", "proleptic_gregorian"));
            attributes.push(("units".into(), text(units)));
            attributes.push(("calendar".into(), text(calendar)));
        }
        let packed = spec.is_some_and(|spec| spec.scale.is_some() || spec.offset.is_some());
        if role == Role::Data {
            let fill = spec.and_then(|spec| spec.fill).or_else(|| {
                let needs = element.is_float() || packed || field.is_nullable();
                needs.then(|| usual_fill(element)).flatten()
            });
            if let Some(fill) = fill {
                attributes.push(("_FillValue".into(), number(element, fill)));
            }
        }
        if let Some(spec) = spec {
            let double = |value| number(ElementType::Float64, value);
            for (key, value) in [("scale_factor", spec.scale), ("add_offset", spec.offset)] {
                attributes.extend(value.map(|value| (key.to_owned(), double(value))));
            }
            for (key, value) in &spec.attributes {
                attributes.retain(|(other, _)| other != key);
                attributes.push((key.clone(), value.clone()));
            }
        }
        let codec = spec.and_then(|spec| spec.codec.as_ref()).or(self
            .all
            .codec
            .as_ref()
            .filter(|_| role == Role::Data));
        let size = element.size().and_then(|size| u32::try_from(size).ok());
        Ok(NewVariable {
            path: name.clone(),
            element,
            dimensions: own
                .iter()
                .map(|(axis, _, _)| names.get(*axis).cloned().unwrap_or_default())
                .collect(),
            shape: own.iter().map(|(_, length, _)| *length).collect(),
            chunk: own.iter().map(|(_, _, chunk)| *chunk).collect(),
            shard: None,
            codecs: match codec {
                Some(codec) => Codecs::parse(codec, size)?,
                None => Codecs::Usual,
            },
            fill: None,
            attributes: Attributes(attributes),
        })
    }
}

/// Lets variables name their auxiliary coordinates, as far as those come along.
fn name_coordinates(schema: &Schema, variables: &mut [NewVariable]) {
    let known: Vec<(String, Vec<String>)> = variables
        .iter()
        .map(|variable| (variable.path.clone(), variable.dimensions.clone()))
        .collect();
    for variable in variables {
        let field = schema.field_with_name(&variable.path);
        let Some(names) = field.ok().and_then(|f| f.metadata().get(COORDINATES)) else {
            continue;
        };
        let own = &variable.dimensions;
        let is_along = |name: &&str| {
            known.iter().any(|(other, dimensions)| {
                other == name
                    && *other != variable.path
                    && !own.contains(other)
                    && dimensions.iter().all(|dimension| own.contains(dimension))
            })
        };
        let names: Vec<&str> = names.split_whitespace().filter(is_along).collect();
        if !names.is_empty() && variable.attributes.get(COORDINATES).is_none() {
            let names = AttributeValue::Text(names.join(" "));
            variable.attributes.0.push((COORDINATES.into(), names));
        }
    }
}

/// What a variable of a dataset to be made is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Coordinate,
    Data,
}

impl ColumnSpec {
    fn set(&mut self, option: &str, value: &str) -> Result<()> {
        let wrong = || {
            Error::Invalid(format!(
                "option '{option}' is unknown, or cannot be '{value}'"
            ))
        };
        let number = || value.trim().parse::<f64>().map_err(|_| wrong());
        match option {
            "dims" => self.dims = Some(list(value)),
            "chunks" => {
                let chunks = list(value)
                    .iter()
                    .map(|extent| extent.parse().ok())
                    .collect();
                self.chunks = Some(Option::ok_or_else(chunks, wrong)?);
            }
            "codec" => self.codec = Some(value.to_owned()),
            "dtype" => {
                self.element = Some(ElementType::number_called(value.trim()).ok_or_else(wrong)?)
            }
            "fill_value" => self.fill = Some(number()?),
            "scale_factor" => self.scale = Some(number()?),
            "add_offset" => self.offset = Some(number()?),
            "width" => self.width = Some(value.trim().parse().map_err(|_| wrong())?),
            "values" => self.values = Some(value.to_owned()),
            _ => match option.split_once('.') {
                Some(("attr", name)) => self.attributes.push((name.to_owned(), attribute(value))),
                _ => return Err(wrong()),
            },
        }
        Ok(())
    }
}

/// The elements in which values of a type are stored; `None` for texts and what cannot be stored.
fn element_of(data_type: &DataType) -> Option<ElementType> {
    Some(match data_type {
        DataType::Boolean => ElementType::Bool,
        DataType::Int8 => ElementType::Int8,
        DataType::Int16 => ElementType::Int16,
        DataType::Int32 => ElementType::Int32,
        DataType::Int64 => ElementType::Int64,
        DataType::UInt8 => ElementType::UInt8,
        DataType::UInt16 => ElementType::UInt16,
        DataType::UInt32 => ElementType::UInt32,
        DataType::UInt64 => ElementType::UInt64,
        DataType::Float16 | DataType::Float32 => ElementType::Float32,
        DataType::Float64 | DataType::Decimal128(_, _) => ElementType::Float64,
        DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 => ElementType::Int64,
        _ => return None,
    })
}

fn is_time(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64
    )
}

/// Units and calendar of the axis of time that a column comes from.
fn time_units(field: &Field) -> Option<(&str, &str)> {
    let units = field.metadata().get("units")?;
    let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::Utf8View);
    ((is_time(field.data_type()) || is_text) && TimeUnits::is_time(units)).then(|| {
        let calendar = field.metadata().get("calendar");
        (units.as_str(), calendar.map_or("standard", String::as_str))
    })
}

/// The missing value of an element type, where nobody names one: NaN, and those of the netCDF library.
fn usual_fill(element: ElementType) -> Option<f64> {
    match element {
        ElementType::Float16 | ElementType::Float32 | ElementType::Float64 => Some(f64::NAN),
        ElementType::Int8 => Some(-127.0),
        ElementType::UInt8 => Some(255.0),
        ElementType::Int16 => Some(-32_767.0),
        ElementType::UInt16 => Some(65_535.0),
        ElementType::Int32 => Some(-2_147_483_647.0),
        ElementType::UInt32 => Some(4_294_967_295.0),
        // Doubles cannot tell those of the netCDF library from their neighbours.
        ElementType::Int64 => Some(-9_223_372_036_854_775_808.0),
        ElementType::UInt64 => Some(9_223_372_036_854_775_808.0),
        ElementType::Bool
        | ElementType::Char
        | ElementType::Bytes(_)
        | ElementType::Utf32(_)
        | ElementType::Text => None,
    }
}

/// A number as an attribute of an element type.
#[expect(
    clippy::cast_possible_truncation,
    reason = "i128 holds every whole number that is a fill value of an integer type"
)]
fn number(element: ElementType, value: f64) -> AttributeValue {
    if element.is_integer() {
        AttributeValue::Integers {
            element,
            values: vec![value as i128],
        }
    } else {
        AttributeValue::Floats {
            element,
            values: vec![value],
        }
    }
}

/// The value of an attribute: a number if it is one, else text.
fn attribute(value: &str) -> AttributeValue {
    if let Ok(integer) = value.parse::<i64>() {
        return AttributeValue::Integers {
            element: ElementType::Int64,
            values: vec![integer.into()],
        };
    }
    match value.parse::<f64>() {
        Ok(float) => number(ElementType::Float64, float),
        Err(_) => AttributeValue::Text(value.to_owned()),
    }
}

/// The values of a list, or of `first:last:step`.
fn values_of(field: &Field, text: &str) -> Result<ArrayRef> {
    let wrong = || {
        Error::Invalid(format!(
            "the values '{text}' of {} are no list of {} values, nor first:last:step",
            field.name(),
            field.data_type()
        ))
    };
    let parts: Option<Vec<f64>> = text
        .split(':')
        .map(|part| part.trim().parse().ok())
        .collect();
    let values: ArrayRef = match parts.as_deref() {
        Some([first, last, step]) => {
            let count = ((last - first) / step).round();
            if !(0.0..MOST_VALUES).contains(&count) {
                return Err(wrong());
            }
            let values = (0u32..).take_while(|at| f64::from(*at) <= count);
            let values = values.map(|at| first + f64::from(at) * step);
            Arc::new(Float64Array::from_iter_values(values))
        }
        _ => Arc::new(StringArray::from(list(text))),
    };
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let values = cast_with_options(&values, field.data_type(), &options).map_err(|_| wrong())?;
    if values.is_empty() {
        return Err(wrong());
    }
    Ok(values)
}

fn list(text: &str) -> Vec<String> {
    let parts = text.split(',').map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

fn sorted(metadata: &HashMap<String, String>) -> BTreeMap<&String, &String> {
    metadata.iter().collect()
}
