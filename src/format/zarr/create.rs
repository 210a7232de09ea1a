//! New hierarchies: from a blueprint to metadata documents.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::attributes::DIMENSIONS;
use super::documents::Documents;
use super::dtype::DataType;
use super::fill::number;
use super::hierarchy::{self, ARRAY, ATTRIBUTES, CONSOLIDATED, GROUP, V3};
use super::json::Json;
use crate::array::blueprint::{Blueprint, Codecs, NewVariable};
use crate::array::dtype::ElementType;
use crate::array::{AttributeValue, Attributes};
use crate::codec::blosc::encode::{BloscCompressor, BloscEncoder, BloscShuffle, BloscVersion};
use crate::codec::encode::{Encoder, FrameChecksum};
use crate::error::{Error, Result, Within};

/// The attribute that says which value stands for a missing one.
const FILL: &str = "_FillValue";

/// The documents of all members of a hierarchy by their keys, and the key of the one by which readers see it.
///
/// # Errors
/// `Invalid` when the blueprint contradicts itself, `Unsupported` when Zarr cannot hold what it asks for.
pub(super) fn documents(blueprint: &Blueprint) -> Result<(&'static str, Documents)> {
    let mut documents = Documents::new();
    let v3 = match blueprint.version {
        None | Some(2) => false,
        Some(3) => true,
        Some(other) => {
            return Err(Error::Unsupported(format!(
                "version {other} of Zarr is not supported, only 2 and 3"
            )));
        }
    };
    for path in &blueprint.paths() {
        let attributes = attributes(&blueprint.attributes(path));
        if v3 {
            let group = object([
                ("attributes", attributes),
                ("zarr_format", Json::Integer(3)),
                ("node_type", text("group")),
            ]);
            documents.insert(hierarchy::key(path, V3), group);
        } else {
            let group = object([("zarr_format", Json::Integer(2))]);
            documents.insert(hierarchy::key(path, GROUP), group);
            documents.insert(hierarchy::key(path, ATTRIBUTES), attributes);
        }
    }
    for variable in &blueprint.variables {
        variable.grid()?;
        let place = || format!("variable {}", variable.path);
        if v3 {
            let document = array_v3(variable).within(place)?;
            documents.insert(hierarchy::key(&variable.path, V3), document);
        } else {
            let document = array_v2(variable).within(place)?;
            documents.insert(hierarchy::key(&variable.path, ARRAY), document);
            let mut own = without_fill(&variable.attributes);
            own.set(DIMENSIONS, names(&variable.dimensions));
            documents.insert(hierarchy::key(&variable.path, ATTRIBUTES), own);
        }
    }
    Ok((if v3 { V3 } else { CONSOLIDATED }, documents))
}

/// The documents of a new hierarchy of Zarr v3 by the paths of its members, groups before what is in them.
///
/// # Errors
/// As [`documents`].
pub(in crate::format) fn given(blueprint: &Blueprint) -> Result<Vec<(String, Bytes)>> {
    let (_, documents) = documents(&Blueprint {
        version: Some(3),
        ..blueprint.clone()
    })?;
    let mut given: Vec<(String, Bytes)> = documents
        .iter()
        .filter_map(|(key, document)| {
            let path = key.strip_suffix(V3)?.trim_end_matches('/');
            Some((path.to_owned(), document.to_document().into()))
        })
        .collect();
    given.sort();
    Ok(given)
}

/// A document of a group of Zarr v3 with other attributes.
///
/// # Errors
/// `Corrupt` when it is damaged.
pub(in crate::format) fn with_attributes(document: &[u8], new: &Attributes) -> Result<Vec<u8>> {
    let mut document = Json::parse(document)?;
    document.set("attributes", attributes(new));
    Ok(document.to_document())
}

/// Attributes as JSON; values that JSON does not know are written as Python writes them.
pub(super) fn attributes(attributes: &Attributes) -> Json {
    let values = attributes.0.iter();
    Json::Object(
        values
            .map(|(name, value)| (name.clone(), attribute(value)))
            .collect(),
    )
}

fn array_v2(variable: &NewVariable) -> Result<Json> {
    if variable.shard.is_some() {
        return Err(Error::Unsupported(
            "Zarr v2 has no shards; zarr_version 3 has".into(),
        ));
    }
    let size = size(variable)?;
    let mut steps = match &variable.codecs {
        Codecs::Usual => vec![Encoder::Blosc(BloscEncoder {
            compressor: BloscCompressor::Lz4,
            level: 5,
            shuffle: BloscShuffle::Byte,
            typesize: size,
            blocksize: 0,
            version: BloscVersion::Blosc1,
        })],
        Codecs::Steps(steps) => steps.clone(),
    };
    let compressor = match steps.pop() {
        Some(last) if last.compresses() => codec_v2(&last),
        Some(last) => {
            steps.push(last);
            Json::Null
        }
        None => Json::Null,
    };
    let filters: Vec<Json> = steps.iter().map(codec_v2).collect();
    let fill = variable
        .declared_fill()?
        .map_or(Json::Null, |fill| element(&fill, variable.element));
    Ok(object([
        ("shape", counts(&variable.shape)),
        ("chunks", counts(&variable.chunk)),
        ("dtype", text(&name_v2(variable.element)?)),
        ("fill_value", fill),
        ("order", text("C")),
        (
            "filters",
            if filters.is_empty() {
                Json::Null
            } else {
                Json::List(filters)
            },
        ),
        ("dimension_separator", text(".")),
        ("compressor", compressor),
        ("zarr_format", Json::Integer(2)),
    ]))
}

fn array_v3(variable: &NewVariable) -> Result<Json> {
    let size = size(variable)?;
    let steps = match &variable.codecs {
        Codecs::Usual => vec![Encoder::Zstd {
            level: 0,
            checksum: FrameChecksum::Absent,
        }],
        Codecs::Steps(steps) => steps.clone(),
    };
    let little = || object([("endian", text("little"))]);
    let dtype = DataType {
        element: variable.element,
        time: None,
    };
    let bytes = if dtype.swap_unit() > 1 {
        extension("bytes", little())
    } else {
        extension("bytes", Json::Object(Vec::new()))
    };
    let mut codecs = vec![bytes];
    codecs.extend(steps.iter().map(|step| codec_v3(step, size)));
    let stored = variable.shard.as_ref().unwrap_or(&variable.chunk);
    if variable.shard.is_some() {
        codecs = vec![extension(
            "sharding_indexed",
            object([
                ("chunk_shape", counts(&variable.chunk)),
                ("codecs", Json::List(codecs)),
                (
                    "index_codecs",
                    Json::List(vec![
                        extension("bytes", little()),
                        extension("crc32c", Json::Object(Vec::new())),
                    ]),
                ),
                ("index_location", text("end")),
            ]),
        )];
    }
    let fill = match variable.declared_fill()? {
        Some(fill) => fill,
        None => vec![0; usize::try_from(size).unwrap_or(0)],
    };
    let mut own = without_fill(&variable.attributes);
    // Here the value of cells that were never written says nothing about missing ones: xarray keeps that attribute, with
    // floating-point numbers as the bytes of a double.
    match variable.attributes.get(FILL) {
        Some(AttributeValue::Floats { values, .. }) if variable.element.is_float() => {
            if let [value] = values.as_slice() {
                own.set(FILL, text(&STANDARD.encode(value.to_le_bytes())));
            }
        }
        Some(value) => own.set(FILL, attribute(value)),
        None => {}
    }
    Ok(object([
        ("shape", counts(&variable.shape)),
        ("data_type", name_v3(variable.element)?),
        (
            "chunk_grid",
            extension("regular", object([("chunk_shape", counts(stored))])),
        ),
        (
            "chunk_key_encoding",
            extension("default", object([("separator", text("/"))])),
        ),
        ("fill_value", element(&fill, variable.element)),
        ("codecs", Json::List(codecs)),
        ("attributes", own),
        ("dimension_names", names(&variable.dimensions)),
        ("zarr_format", Json::Integer(3)),
        ("node_type", text("array")),
        ("storage_transformers", Json::List(Vec::new())),
    ]))
}

fn without_fill(own: &Attributes) -> Json {
    let others = own.0.iter().filter(|(name, _)| name != FILL);
    attributes(&Attributes(others.cloned().collect()))
}

fn attribute(value: &AttributeValue) -> Json {
    fn one_or_all(values: Vec<Json>) -> Json {
        match <[Json; 1]>::try_from(values) {
            Ok([value]) => value,
            Err(values) => Json::List(values),
        }
    }
    match value {
        AttributeValue::Text(value) => text(value),
        AttributeValue::Texts(values) => {
            Json::List(values.iter().map(|value| text(value)).collect())
        }
        AttributeValue::Integers { values, .. } => {
            one_or_all(values.iter().map(|value| Json::Integer(*value)).collect())
        }
        AttributeValue::Floats { values, .. } => {
            one_or_all(values.iter().map(|value| Json::Float(*value)).collect())
        }
        AttributeValue::Json(value) => Json::from_value(value),
    }
}

/// One element, as fill values are written.
fn element(bytes: &[u8], element: ElementType) -> Json {
    let named = |value: f64| {
        let name = match value {
            value if value.is_nan() => "NaN",
            f64::INFINITY => "Infinity",
            f64::NEG_INFINITY => "-Infinity",
            value => return Json::Float(value),
        };
        text(name)
    };
    match number(bytes, element) {
        Some(AttributeValue::Integers { values, .. }) => values
            .first()
            .map_or(Json::Null, |value| Json::Integer(*value)),
        Some(AttributeValue::Floats { values, .. }) => {
            values.first().map_or(Json::Null, |value| named(*value))
        }
        _ => match element {
            ElementType::Bool => Json::Bool(bytes.first().is_some_and(|byte| *byte != 0)),
            ElementType::Utf32(_) => {
                let points = bytes.as_chunks::<4>().0.iter();
                let letters = points
                    .filter_map(|point| char::from_u32(u32::from_le_bytes(*point)))
                    .take_while(|letter| *letter != '\0');
                Json::Text(letters.collect())
            }
            _ => text(&STANDARD.encode(bytes)),
        },
    }
}

/// Bytes of an element.
fn size(variable: &NewVariable) -> Result<u32> {
    variable
        .element
        .size()
        .and_then(|size| u32::try_from(size).ok())
        .ok_or_else(|| Error::Unsupported("text of any length cannot be written".into()))
}

fn codec_v2(step: &Encoder) -> Json {
    let (id, parameters) = step.to_numcodecs().unwrap_or(("", serde_json::Value::Null));
    let mut codec = object([("id", text(id))]);
    for (name, value) in Json::from_value(&parameters).object() {
        // numcodecs leaves the default out, and older readers do not know it.
        if id != "zstd" || name != "checksum" || *value != Json::Bool(false) {
            codec.set(name, value.clone());
        }
    }
    codec
}

fn codec_v3(step: &Encoder, size: u32) -> Json {
    let (id, parameters) = step.to_numcodecs().unwrap_or(("", serde_json::Value::Null));
    let mut parameters = Json::from_value(&parameters);
    match step {
        Encoder::Blosc(blosc) => {
            let shuffle = match blosc.shuffle {
                BloscShuffle::None => "noshuffle",
                BloscShuffle::Byte => "shuffle",
                BloscShuffle::Bit => "bitshuffle",
            };
            parameters.set("shuffle", text(shuffle));
            parameters.set("typesize", Json::Integer(size.into()));
            extension(id, parameters)
        }
        Encoder::Zstd { .. } | Encoder::Gzip { .. } | Encoder::Crc32c => extension(id, parameters),
        Encoder::ByteSwap(_)
        | Encoder::Shuffle(_)
        | Encoder::Zlib { .. }
        | Encoder::Lz4
        | Encoder::Fletcher32 => extension(&format!("numcodecs.{id}"), parameters),
    }
}

/// The name of a data type of Zarr v2.
fn name_v2(element: ElementType) -> Result<String> {
    Ok(match element {
        ElementType::Bool => "|b1".into(),
        ElementType::Int8 => "|i1".into(),
        ElementType::UInt8 => "|u1".into(),
        ElementType::Int16 => "<i2".into(),
        ElementType::Int32 => "<i4".into(),
        ElementType::Int64 => "<i8".into(),
        ElementType::UInt16 => "<u2".into(),
        ElementType::UInt32 => "<u4".into(),
        ElementType::UInt64 => "<u8".into(),
        ElementType::Float16 => "<f2".into(),
        ElementType::Float32 => "<f4".into(),
        ElementType::Float64 => "<f8".into(),
        ElementType::Char => "|S1".into(),
        ElementType::Bytes(length) => format!("|S{length}"),
        ElementType::Utf32(length) => format!("<U{length}"),
        ElementType::Text => return Err(any_length()),
    })
}

/// The name of a data type of Zarr v3, with its configuration where it has one.
fn name_v3(element: ElementType) -> Result<Json> {
    let sized = |name: &str, bytes: u32| {
        let length = Json::Integer(bytes.into());
        extension(name, object([("length_bytes", length)]))
    };
    Ok(match element {
        ElementType::Char => sized("null_terminated_bytes", 1),
        ElementType::Bytes(length) => sized("null_terminated_bytes", length),
        ElementType::Utf32(length) => sized("fixed_length_utf32", length.saturating_mul(4)),
        ElementType::Text => return Err(any_length()),
        ElementType::Bool
        | ElementType::Int8
        | ElementType::Int16
        | ElementType::Int32
        | ElementType::Int64
        | ElementType::UInt8
        | ElementType::UInt16
        | ElementType::UInt32
        | ElementType::UInt64
        | ElementType::Float16
        | ElementType::Float32
        | ElementType::Float64 => text(&element.name()),
    })
}

fn any_length() -> Error {
    Error::Unsupported("text of any length cannot be written".into())
}

fn extension(name: &str, configuration: Json) -> Json {
    object([("name", text(name)), ("configuration", configuration)])
}

fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::Object(members.map(|(name, value)| (name.to_owned(), value)).into())
}

fn text(text: &str) -> Json {
    Json::Text(text.to_owned())
}

fn counts(extents: &[u64]) -> Json {
    let extents = extents.iter().map(|extent| Json::Integer((*extent).into()));
    Json::List(extents.collect())
}

fn names(names: &[String]) -> Json {
    Json::List(names.iter().map(|name| text(name)).collect())
}
