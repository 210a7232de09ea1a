//! The outline of a new target: the first slice, and what the configuration says otherwise.

use arrow::array::AsArray;
use serde_json::{Map, Value};

use super::attributes::attribute;
use super::config::{AppendConfig, AttributesMode, VariableConfig};
use super::slice::{Slice, SliceVariable};
use crate::append::Target;
use crate::array::blueprint::{Blueprint, Codecs, NewGroup, NewVariable};
use crate::array::dtype::ElementType;
use crate::array::{AttributeValue, Attributes, Dimension};
use crate::cf::time::TimeUnits;
use crate::codec::encode::{Encoder, FrameChecksum};
use crate::error::{Error, Result, Within};

/// Bytes of elements that a chunk has at most, if nobody says how large it is to be.
const LARGEST_CHUNK: u64 = 32 << 20;

/// Indices of the append dimension in a chunk of its coordinate, so that a long axis is not thousands of objects.
const LABELS: u64 = 1024;

/// Attributes that say how a variable is stored.
const ENCODING: [&str; 7] = [
    "dtype",
    "chunks",
    "fill_value",
    "scale_factor",
    "add_offset",
    "compressor",
    "filters",
];

/// Attributes that speak of stored elements, and mean nothing any more when those are of another kind.
const OF_STORED: [&str; 6] = [
    "missing_value",
    "valid_range",
    "valid_min",
    "valid_max",
    "_Unsigned",
    "actual_range",
];

/// The target that the first slice makes.
pub(super) async fn blueprint(
    slice: &Slice,
    config: &AppendConfig,
    target: &Target,
) -> Result<Blueprint> {
    let mut names: Vec<String> = slice
        .variables
        .iter()
        .map(|own| own.variable.name.clone())
        .collect();
    let unreadable = slice.unreadable.iter().map(|own| &own.name);
    let configured = config.variables.keys().filter(|name| *name != "*");
    for name in unreadable.chain(configured) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let unknown = config
        .included_variables
        .iter()
        .find(|name| !names.contains(name));
    if let Some(unknown) = unknown {
        return Err(Error::Invalid(format!(
            "there is no variable {unknown}, which included_variables names"
        )));
    }
    names.retain(|name| !config.excludes(name));
    let mut variables = Vec::with_capacity(names.len());
    for name in &names {
        let variable = variable(slice, name, config, target).await;
        variables.push(variable.within(|| format!("variable {name}"))?);
    }
    if !variables
        .iter()
        .any(|variable| variable.dimensions.contains(&config.append_dim))
    {
        return Err(Error::Invalid(format!(
            "no variable would have the dimension {}, along which slices are appended",
            config.append_dim
        )));
    }
    let used = slice.dimensions.iter().filter(|(name, _)| {
        variables
            .iter()
            .any(|variable| variable.dimensions.contains(name))
    });
    let dimensions = used.map(|(name, length)| Dimension {
        name: name.clone(),
        length: *length,
        unlimited: *name == config.append_dim,
    });
    Ok(Blueprint {
        version: Some(config.zarr_version),
        groups: vec![NewGroup {
            path: String::new(),
            attributes: match config.attrs_update_mode {
                AttributesMode::Ignore => Attributes::default(),
                AttributesMode::Keep | AttributesMode::Replace | AttributesMode::Update => {
                    slice.attributes.clone()
                }
            },
            dimensions: dimensions.collect(),
        }],
        variables,
    })
}

async fn variable(
    slice: &Slice,
    name: &str,
    config: &AppendConfig,
    target: &Target,
) -> Result<NewVariable> {
    let mut spec = config.variable(name);
    move_encoding(&mut spec);
    let own = slice.variable(name)?;
    let dimensions = dimensions(slice, own, &spec)?;
    let shape: Vec<u64> = dimensions
        .iter()
        .map(|dimension| {
            slice.length(dimension).ok_or_else(|| {
                Error::Invalid(format!("there is no dimension {dimension} in the slice"))
            })
        })
        .collect::<Result<_>>()?;
    let element = element(own, &spec, target).await?;
    let mut attributes =
        own.map_or_else(Attributes::default, |own| own.variable.attributes.clone());
    let is_coordinate = dimensions == [name];
    encode_attributes(&mut attributes, own, element, &spec, is_coordinate)?;
    for (name, value) in &spec.attrs {
        set(&mut attributes, name, attribute(value));
    }
    let size = element.size().unwrap_or(1) as u64;
    let chunk = chunk(own, &dimensions, &shape, size, &spec.encoding, config)?;
    Ok(NewVariable {
        path: name.to_owned(),
        element,
        shard: shard(&spec.encoding, &shape)?,
        codecs: codecs(&spec.encoding, element, config.zarr_version)?,
        dimensions,
        shape,
        chunk,
        fill: None,
        attributes,
    })
}

/// What attributes of the configuration say about the encoding belongs there.
fn move_encoding(spec: &mut VariableConfig) {
    let aliases = ENCODING.iter().map(|name| (*name, *name));
    for (name, key) in aliases.chain([("_FillValue", "fill_value")]) {
        if let Some(value) = spec.attrs.remove(name)
            && !spec.encoding.contains_key(key)
        {
            spec.encoding.insert(key.to_owned(), value);
        }
    }
}

fn dimensions(
    slice: &Slice,
    own: Option<&SliceVariable>,
    spec: &VariableConfig,
) -> Result<Vec<String>> {
    match (own, &spec.dims) {
        (Some(own), Some(wanted)) if own.variable.dimensions != *wanted => {
            Err(Error::Invalid(format!(
                "it has the dimensions ({}), but ({}) in the configuration",
                own.variable.dimensions.join(", "),
                wanted.join(", ")
            )))
        }
        (Some(own), _) => Ok(own.variable.dimensions.clone()),
        (None, Some(wanted)) => match wanted.iter().find(|name| slice.length(name).is_none()) {
            Some(unknown) => Err(Error::Invalid(format!(
                "there is no dimension {unknown} in the slice"
            ))),
            None => Ok(wanted.clone()),
        },
        (None, None) => Err(Error::Invalid(
            "the slice does not have it, so that the configuration has to say its dims".into(),
        )),
    }
}

async fn element(
    own: Option<&SliceVariable>,
    spec: &VariableConfig,
    target: &Target,
) -> Result<ElementType> {
    if let Some(name) = spec.encoding.get("dtype").and_then(Value::as_str) {
        return ElementType::number_called(name)
            .ok_or_else(|| Error::Invalid(format!("there is no dtype {name}")));
    }
    let Some(own) = own else {
        return Err(Error::Invalid(
            "the slice does not have it, so that the configuration has to say the dtype of its encoding"
                .into(),
        ));
    };
    match own.variable.layout.element {
        // Texts of any length are stored in the length of the longest one.
        ElementType::Text => {
            let values = own.all().await?;
            let texts = values.as_string_opt::<i32>();
            let texts = || texts.into_iter().flat_map(|texts| texts.iter().flatten());
            let characters = texts().map(|text| text.chars().count()).max();
            let bytes = texts().map(str::len).max();
            let number = |longest: Option<usize>| {
                u32::try_from(longest.unwrap_or(1).max(1)).unwrap_or(u32::MAX)
            };
            Ok(target.text_element(number(characters), number(bytes)))
        }
        element => Ok(element),
    }
}

/// Lets the attributes say how values are stored.
fn encode_attributes(
    attributes: &mut Attributes,
    own: Option<&SliceVariable>,
    element: ElementType,
    spec: &VariableConfig,
    is_coordinate: bool,
) -> Result<()> {
    let before = own.map(|own| own.variable.layout.element);
    let mut changes = before != Some(element);
    for name in ["scale_factor", "add_offset"] {
        let Some(value) = spec.encoding.get(name) else {
            continue;
        };
        changes |= attributes.get(name) != Some(&attribute(value));
        attributes.0.retain(|(other, _)| other != name);
        if !value.is_null() {
            set(attributes, name, attribute(value));
        }
    }
    for name in ["units", "calendar"] {
        let Some(value) = spec.encoding.get(name).and_then(Value::as_str) else {
            continue;
        };
        let is_time = own.is_none_or(|own| own.decoding.time_units().is_some());
        if name == "units" && is_time != TimeUnits::is_time(value) {
            return Err(Error::Invalid(format!(
                "the units {value:?} of its encoding are {}",
                if is_time {
                    "none of times, which it holds"
                } else {
                    "those of times, which it does not hold"
                }
            )));
        }
        changes |= attributes.text(name) != Some(value);
        set(attributes, name, AttributeValue::Text(value.to_owned()));
    }
    let fill = attributes.get("_FillValue").cloned();
    if changes {
        let stays = |name: &str| !OF_STORED.contains(&name) && name != "_FillValue";
        attributes.0.retain(|(name, _)| stays(name));
    }
    let declared = match spec.encoding.get("fill_value") {
        Some(Value::Null) => {
            attributes.0.retain(|(name, _)| name != "_FillValue");
            return Ok(());
        }
        Some(Value::String(_)) => Some(AttributeValue::Floats {
            element: ElementType::Float64,
            values: vec![f64::NAN],
        }),
        Some(value) => Some(attribute(value)),
        None => None,
    };
    if let Some(declared) = declared {
        return match stored_fill(&declared, element) {
            Some(fill) => {
                set(attributes, "_FillValue", fill);
                Ok(())
            }
            None => Err(Error::Invalid(format!(
                "the fill_value {declared} cannot be stored as {}",
                element.name()
            ))),
        };
    }
    let kept = fill.filter(|_| {
        let kind = |element: ElementType| (element.is_float(), element.is_integer());
        before.map(kind) == Some(kind(element))
    });
    let usual = (element.is_float() && !is_coordinate).then_some(AttributeValue::Floats {
        element: ElementType::Float64,
        values: vec![f64::NAN],
    });
    match kept.and_then(|fill| stored_fill(&fill, element)).or(usual) {
        Some(fill) => set(attributes, "_FillValue", fill),
        None => attributes.0.retain(|(name, _)| name != "_FillValue"),
    }
    Ok(())
}

/// A fill value as one of an element type; `None` when it is none.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "whether anything was lost is looked at"
)]
fn stored_fill(value: &AttributeValue, element: ElementType) -> Option<AttributeValue> {
    let integer = match value {
        AttributeValue::Integers { values, .. } => values.first().copied(),
        AttributeValue::Floats { values, .. } => {
            let value = values.first().copied()?;
            (value.fract() == 0.0 && value.abs() < 1e18).then_some(value as i128)
        }
        AttributeValue::Text(_) | AttributeValue::Texts(_) | AttributeValue::Json(_) => {
            return (!element.is_numeric()).then(|| value.clone());
        }
    };
    if element.is_float() {
        let float = match value {
            AttributeValue::Floats { values, .. } => values.first().copied()?,
            _ => integer? as f64,
        };
        return Some(AttributeValue::Floats {
            element,
            values: vec![float],
        });
    }
    let range = element.integers()?;
    let integer = integer.filter(|integer| range.contains(integer))?;
    Some(AttributeValue::Integers {
        element,
        values: vec![integer],
    })
}

/// Extents of chunks: those of the configuration, else those of the slice, and its length along the append dimension.
fn chunk(
    own: Option<&SliceVariable>,
    dimensions: &[String],
    shape: &[u64],
    size: u64,
    encoding: &Map<String, Value>,
    config: &AppendConfig,
) -> Result<Vec<u64>> {
    let given = match encoding.get("chunks") {
        Some(Value::Array(given)) if given.len() == shape.len() => Some(given.clone()),
        Some(Value::Array(given)) => {
            return Err(Error::Invalid(format!(
                "its encoding has {} extents of chunks, but it has {} dimensions",
                given.len(),
                shape.len()
            )));
        }
        // All of them whole.
        Some(Value::Null) => Some(vec![Value::Null; shape.len()]),
        _ => None,
    };
    if let Some(given) = given {
        let extents = given.iter().zip(shape);
        return Ok(extents
            .map(|(given, length)| given.as_u64().unwrap_or(*length).max(1))
            .collect());
    }
    let is_axis = shape.len() == 1;
    let grows = dimensions.contains(&config.append_dim);
    if is_axis && grows {
        let length = shape.first().copied().unwrap_or(1).max(1);
        return Ok(vec![length * LABELS.div_ceil(length)]);
    }
    let stored = own
        .filter(|own| own.is_stored() && !own.variable.layout.pipeline.0.is_empty())
        .map(|own| own.variable.layout.grid.chunk_shape())
        .filter(|_| !is_axis);
    let mut chunk: Vec<u64> = dimensions
        .iter()
        .zip(shape)
        .enumerate()
        .map(|(at, (name, length))| {
            let own = stored.and_then(|stored| stored.get(at)).copied();
            let own = own.filter(|_| *name != config.append_dim);
            own.unwrap_or(*length).min(*length).max(1)
        })
        .collect();
    // Halved from the slowest dimension on; the fastest is what readers want in one piece.
    for at in 0..chunk.len() {
        while chunk.iter().product::<u64>().saturating_mul(size) > LARGEST_CHUNK {
            match chunk.get_mut(at) {
                Some(extent) if *extent > 1 => *extent = extent.div_ceil(2),
                _ => break,
            }
        }
    }
    Ok(chunk)
}

fn shard(encoding: &Map<String, Value>, shape: &[u64]) -> Result<Option<Vec<u64>>> {
    let Some(Value::Array(given)) = encoding.get("shards") else {
        return Ok(None);
    };
    if given.len() != shape.len() {
        return Err(Error::Invalid(format!(
            "its encoding has {} extents of shards, but it has {} dimensions",
            given.len(),
            shape.len()
        )));
    }
    Ok(Some(given.iter().filter_map(Value::as_u64).collect()))
}

fn codecs(encoding: &Map<String, Value>, element: ElementType, version: u8) -> Result<Codecs> {
    let size = element.size().and_then(|size| u32::try_from(size).ok());
    let parse = |codec: &Value| {
        let id = codec.get("id").and_then(Value::as_str).unwrap_or_default();
        Encoder::from_numcodecs(id, codec, size).map_err(|error| {
            Error::Invalid(format!(
                "{error}; known are {}",
                crate::codec::encode::numcodecs::NAMES.join(", ")
            ))
        })
    };
    let filters = encoding.get("filters").filter(|filters| !filters.is_null());
    let compressor = encoding.get("compressor");
    if filters.is_none() && compressor.is_none() {
        return Ok(Codecs::Usual);
    }
    let mut steps = Vec::new();
    for filter in filters.and_then(Value::as_array).into_iter().flatten() {
        steps.push(parse(filter)?);
    }
    match compressor {
        Some(Value::Null) => {}
        Some(compressor) => steps.push(parse(compressor)?),
        None if version == 2 => steps.push(Encoder::from_numcodecs("blosc", &Value::Null, size)?),
        None => steps.push(Encoder::Zstd {
            level: 0,
            checksum: FrameChecksum::Absent,
        }),
    }
    Ok(Codecs::Steps(steps))
}

fn set(attributes: &mut Attributes, name: &str, value: AttributeValue) {
    match attributes.0.iter_mut().find(|(other, _)| other == name) {
        Some((_, old)) => *old = value,
        None => attributes.0.push((name.to_owned(), value)),
    }
}
