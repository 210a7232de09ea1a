//! What is in a dataset, as plain data that can be shown to a person or given to a program.

mod example;
mod range;
mod text;

use std::collections::HashMap;

use arrow::datatypes::DataType;
use futures::TryStreamExt;
use object_store::path::Path;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::array::dtype::ElementType;
use crate::array::{AttributeValue, Attributes, Group, Variable};
use crate::catalog::{Opened, functions, tables};
use crate::cf::decode::{DecodeOptions, Decoding};
use crate::cf::roles::{self, Role};
use crate::error::Result;
use crate::store::Kind;

pub use range::CoordinateRange;

/// Objects below a directory whose sizes are added up; of more, the size is not told.
const MOST_OBJECTS: usize = 1 << 20;

/// What is in a dataset.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// Path or URL it was opened from.
    pub location: String,
    /// Name of the format: `netcdf4`, `netcdf3`, `hdf5`, `zarr`, `blosc2`.
    pub format: &'static str,
    /// Bytes it takes where it is stored, if that is known.
    pub stored_bytes: Option<u64>,
    /// Attributes of the dataset, in the order of the file.
    #[serde(serialize_with = "object")]
    pub attributes: Vec<(String, Value)>,
    /// Its groups, the root first.
    pub groups: Vec<GroupDescription>,
    /// The tables that stand for dimension tuples; each variable is a table too, by its path.
    pub tables: Vec<TableDescription>,
    /// A statement that reads some rows.
    pub example: Option<String>,
}

/// What is in a group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupDescription {
    /// Path from the root; empty for the root.
    pub path: String,
    /// Number of its attributes.
    pub attributes: usize,
    /// Its dimensions.
    pub dimensions: Vec<DimensionDescription>,
    /// Its variables.
    pub variables: Vec<VariableDescription>,
    /// What of it cannot be read.
    pub unreadable: Vec<UnreadableDescription>,
}

/// A dimension, with what its coordinate says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DimensionDescription {
    /// Its name.
    pub name: String,
    /// Number of its indices.
    pub length: u64,
    /// Whether it can grow.
    pub unlimited: bool,
    /// The axis that it runs along: `X`, `Y`, `Z` or `T`.
    pub axis: Option<char>,
    /// From where to where its coordinate goes.
    pub coordinate: Option<CoordinateRange>,
    /// Why the coordinate cannot be read.
    pub problem: Option<String>,
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VariableDescription {
    /// Its path from the root.
    pub path: String,
    /// What it is to the others: `data`, `coordinate`, `auxiliary coordinate`, `bounds`.
    pub role: &'static str,
    /// Names of its dimensions, slowest first.
    pub dimensions: Vec<String>,
    /// Number of indices of each.
    pub shape: Vec<u64>,
    /// Number of cells.
    pub cells: u64,
    /// The type of the stored values.
    pub stored_type: String,
    /// The type of the column.
    pub column_type: String,
    /// Indices of each dimension in a chunk.
    pub chunks: Vec<u64>,
    /// Number of chunks.
    pub chunk_count: u64,
    /// The codecs of a chunk, in the order in which they encode.
    pub codecs: String,
    /// Bytes of all cells as a column, if cells are of a fixed size.
    pub decoded_bytes: Option<u64>,
    /// Attribute `units`.
    pub units: Option<String>,
    /// Attribute `standard_name`.
    pub standard_name: Option<String>,
    /// Attribute `long_name`.
    pub long_name: Option<String>,
    /// Attributes that change values: packing, missing values, valid range.
    #[serde(serialize_with = "object")]
    pub encoding: Vec<(String, Value)>,
    /// Why it cannot be decoded.
    pub problem: Option<String>,
}

/// An array that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnreadableDescription {
    /// Its path from the root.
    pub path: String,
    /// What prevents it.
    pub reason: String,
}

/// A table that statements see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableDescription {
    /// Its name within the dataset.
    pub name: String,
    /// Number of rows.
    pub rows: u64,
    /// Names of its columns.
    pub columns: Vec<String>,
    /// Whether it is the one that the dataset itself stands for.
    pub is_main: bool,
}

/// Describes a dataset. Of its arrays only coordinates are read, and one that cannot be read is described so.
///
/// # Errors
/// `Io` when the storage fails.
pub async fn describe(opened: &Opened) -> Result<Description> {
    let decode = DecodeOptions {
        decode: true,
        nan_as_null: true,
        default_fill: opened.dataset.has_netcdf_fills(),
    };
    let roles = roles::roles(&opened.dataset.root);
    let mut groups = Vec::new();
    for group in opened.dataset.root.walk() {
        groups.push(describe_group(opened, group, &roles, &decode).await);
    }
    let main = tables::main_table(opened).ok();
    let all = tables::tables(opened);
    Ok(Description {
        location: opened.store.location().to_owned(),
        format: opened.dataset.format,
        stored_bytes: stored_bytes(opened).await?,
        attributes: attributes(&opened.dataset.root.attributes),
        example: main
            .as_ref()
            .and_then(|main| example::example(opened, main, &groups)),
        groups,
        tables: all
            .iter()
            .filter(|table| table.is_tuple)
            .map(|table| TableDescription {
                name: table.name.clone(),
                rows: table.rows(),
                columns: columns(table),
                is_main: main.as_ref().is_some_and(|main| main.name == table.name),
            })
            .collect(),
    })
}

async fn stored_bytes(opened: &Opened) -> Result<Option<u64>> {
    let mut all = 0u64;
    for file in &opened.members {
        let Some(bytes) = Box::pin(stored_bytes(file)).await? else {
            return Ok(None);
        };
        all = all.saturating_add(bytes);
    }
    if !opened.members.is_empty() {
        return Ok(Some(all));
    }
    if opened.store.kind().await? == Kind::Object {
        return opened.store.size("").await.map(Some);
    }
    let location = opened.store.location();
    let path = location.strip_prefix("file://").unwrap_or(location);
    if !opened.store.is_local() {
        return Ok(None);
    }
    // A prefix that has no name in the object store is not worth an error.
    let Ok(prefix) = Path::from_filesystem_path(path) else {
        return Ok(None);
    };
    let objects = opened.store.objects();
    let mut listed = objects.list(Some(&prefix));
    let (mut bytes, mut count) = (0u64, 0usize);
    loop {
        match listed.try_next().await {
            Ok(Some(object)) => {
                bytes = bytes.saturating_add(object.size);
                count += 1;
            }
            Ok(None) => return Ok(Some(bytes)),
            Err(_) => return Ok(None),
        }
        if count >= MOST_OBJECTS {
            return Ok(None);
        }
    }
}

async fn describe_group(
    opened: &Opened,
    group: &Group,
    roles: &HashMap<String, Role>,
    decode: &DecodeOptions,
) -> GroupDescription {
    let variables = tables::with_roles(roles, group);
    let mut dimensions = Vec::new();
    for dimension in &group.dimensions {
        let coordinate = variables.iter().find(|(variable, role)| {
            *role == Role::Coordinate
                && variable.name == dimension.name
                && variable.shape() == [dimension.length]
        });
        let mut description = DimensionDescription {
            name: dimension.name.clone(),
            length: dimension.length,
            unlimited: dimension.unlimited,
            axis: None,
            coordinate: None,
            problem: None,
        };
        if let Some((variable, _)) = coordinate {
            description.axis = roles::axis(variable).map(roles::Axis::letter);
            match range::of_files(opened, variable, decode).await {
                Ok(range) => description.coordinate = Some(range),
                Err(error) => description.problem = Some(error.to_string()),
            }
        }
        dimensions.push(description);
    }
    GroupDescription {
        path: group.path.clone(),
        attributes: group.attributes.0.len(),
        dimensions,
        variables: variables
            .iter()
            .map(|(variable, role)| describe_variable(variable, role, decode))
            .collect(),
        unreadable: group
            .unreadable
            .iter()
            .map(|array| UnreadableDescription {
                path: match group.path.as_str() {
                    "" => array.name.clone(),
                    path => format!("{path}/{}", array.name),
                },
                reason: array.reason.clone(),
            })
            .collect(),
    }
}

fn describe_variable(
    variable: &Variable,
    role: &Role,
    decode: &DecodeOptions,
) -> VariableDescription {
    let layout = &variable.layout;
    let decoding = Decoding::new(variable, decode);
    let stored = layout.element;
    let column = match &decoding {
        Ok(decoding) => decoding.data_type(),
        Err(_) => stored.arrow_type(),
    };
    let size = match (column.primitive_width(), stored) {
        (Some(width), _) => Some(width),
        (None, ElementType::Text) => None,
        (None, _) => stored.size(),
    };
    let text = |name| variable.attributes.text(name).map(str::to_owned);
    VariableDescription {
        path: variable.path.clone(),
        role: functions::role_name(role),
        dimensions: variable.dimensions.clone(),
        shape: variable.shape().to_vec(),
        cells: variable.cells(),
        stored_type: stored.name(),
        column_type: type_name(&column),
        chunks: layout.grid.chunk_shape().to_vec(),
        chunk_count: layout.grid.len(),
        codecs: layout.pipeline.to_string(),
        decoded_bytes: size.and_then(|size| variable.cells().checked_mul(size as u64)),
        units: text("units"),
        standard_name: text("standard_name"),
        long_name: text("long_name"),
        encoding: attributes(&variable.attributes)
            .into_iter()
            .filter(|(name, _)| ENCODING.contains(&name.as_str()))
            .collect(),
        problem: decoding.err().map(|error| error.to_string()),
    }
}

/// Attributes that change what the stored values mean.
const ENCODING: &[&str] = &[
    "scale_factor",
    "add_offset",
    "_Unsigned",
    "_FillValue",
    "missing_value",
    "valid_min",
    "valid_max",
    "valid_range",
    "calendar",
];

/// The name of a column's type, in the words of array files.
fn type_name(column: &DataType) -> String {
    match column {
        DataType::Utf8 => "string".to_owned(),
        DataType::Boolean => "bool".to_owned(),
        DataType::Timestamp(_, _) => "timestamp".to_owned(),
        other => other.to_string().to_ascii_lowercase(),
    }
}

fn attributes(attributes: &Attributes) -> Vec<(String, Value)> {
    let pair = |(name, value): &(String, AttributeValue)| (name.clone(), json(value));
    attributes.0.iter().map(pair).collect()
}

/// An attribute as JSON: one value as itself, several as an array; numbers that JSON does not have as text.
fn json(value: &AttributeValue) -> Value {
    fn list(values: impl ExactSizeIterator<Item = Value>) -> Value {
        let mut values: Vec<Value> = values.collect();
        match (values.len(), values.pop()) {
            (1, Some(value)) => value,
            (_, last) => Value::Array(values.into_iter().chain(last).collect()),
        }
    }
    let integer = |value: &i128| match (i64::try_from(*value), u64::try_from(*value)) {
        (Ok(value), _) => Value::from(value),
        (_, Ok(value)) => Value::from(value),
        (Err(_), Err(_)) => Value::from(value.to_string()),
    };
    match value {
        AttributeValue::Text(text) => Value::from(text.as_str()),
        AttributeValue::Texts(texts) => list(texts.iter().map(|text| Value::from(text.as_str()))),
        AttributeValue::Integers { values, .. } => list(values.iter().map(integer)),
        AttributeValue::Floats { element, values } => {
            list(values.iter().map(|value| float(*element, *value)))
        }
        AttributeValue::Json(value) => value.clone(),
    }
}

/// A number with no more digits than its type holds.
fn float(element: ElementType, value: f64) -> Value {
    if !value.is_finite() {
        return Value::from(value.to_string());
    }
    if element == ElementType::Float64 {
        return Value::from(value);
    }
    // The shortest text that means the same single-precision number, read as a double.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "single precision holds it exactly"
    )]
    let shortest = (value as f32).to_string();
    Value::from(shortest.parse::<f64>().unwrap_or(value))
}

/// Names with their values as one object.
fn object<S: Serializer>(pairs: &[(String, Value)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

fn columns(table: &tables::TableParts) -> Vec<String> {
    let dimensions = table.dimensions.iter().map(|(name, _)| name.clone());
    dimensions
        .chain(table.variable_names().map(str::to_owned))
        .collect()
}
