//! The attributes of a Blosc2 array, from the variable-length metalayers of its frame.

use rmpv::Value;
use serde_json::json;

use crate::array::dtype::ElementType;
use crate::array::number::nearest_f32;
use crate::array::{AttributeValue, Attributes};
use crate::error::{Error, Result, Within};
use crate::format::blosc2::frame::{Frame, decode_chunk};
use crate::format::blosc2::meta::element_type;

/// Nesting of msgpack values that is followed.
const DEEPEST: usize = 64;
/// The largest attribute that is read. Larger ones are no attributes but payloads (images, embedded arrays).
const LARGEST_ATTRIBUTE: usize = 1 << 20;
/// What all attributes of one array may have together.
const LARGEST_ATTRIBUTES: usize = 16 << 20;
/// The msgpack extension type of NumPy arrays.
const NUMPY_ARRAY: i8 = 46;

/// The attribute by which writers of labelled arrays name the dimensions.
pub(super) const DIMENSIONS: &str = "_ARRAY_DIMENSIONS";
/// Another spelling of it.
const DIMS: &str = "dims";

/// The attributes of a frame, without the names of the dimensions, which come second.
pub(super) fn attributes(frame: &Frame, rank: usize) -> Result<(Attributes, Option<Vec<String>>)> {
    let mut attributes = Vec::new();
    let mut budget = LARGEST_ATTRIBUTES;
    for (name, chunk) in &frame.vlmeta {
        let decoded = decode_chunk(chunk, LARGEST_ATTRIBUTE);
        let Some(value) = decoded.within(|| format!("attribute {name}"))? else {
            continue;
        };
        budget = budget.checked_sub(value.len()).ok_or_else(|| {
            Error::Exhausted(format!(
                "its attributes have more than {LARGEST_ATTRIBUTES} bytes"
            ))
        })?;
        let value = msgpack(&value).within(|| format!("attribute {name}"))?;
        if let Some(value) = attribute(&value) {
            attributes.push((name.clone(), value));
        }
    }
    let mut attributes = Attributes(attributes);
    let mut names = None;
    if let Some(value) = attributes.get(DIMENSIONS) {
        let given = dimension_names(value, rank).ok_or_else(|| {
            Error::Corrupt(format!(
                "attribute {DIMENSIONS} does not name the {rank} dimensions of the array"
            ))
        })?;
        names = Some(given);
        attributes.0.retain(|(key, _)| key != DIMENSIONS);
    } else if let Some(given) = attributes.get(DIMS).and_then(|v| dimension_names(v, rank)) {
        names = Some(given);
        attributes.0.retain(|(key, _)| key != DIMS);
    }
    Ok((attributes, names))
}

/// The names of the arrays that a store of embedded objects (`embed.b2e`) holds.
pub(super) fn embedded_names(frame: &Frame) -> Result<Vec<String>> {
    let Some((_, chunk)) = frame
        .vlmeta
        .iter()
        .find(|(name, _)| name == "estore_metadata")
    else {
        return Ok(Vec::new());
    };
    let Some(metadata) = decode_chunk(chunk, LARGEST_ATTRIBUTE)? else {
        return Err(Error::Exhausted(format!(
            "its list of embedded objects has more than {LARGEST_ATTRIBUTE} bytes"
        )));
    };
    let metadata = msgpack(&metadata)?;
    let map = field(&metadata, "embed_map").and_then(Value::as_map);
    let names = map.into_iter().flatten();
    Ok(names
        .filter_map(|(name, _)| name.as_str().map(|name| name.trim_matches('/').to_owned()))
        .collect())
}

/// One msgpack value.
pub(super) fn msgpack(mut bytes: &[u8]) -> Result<Value> {
    rmpv::decode::read_value_with_max_depth(&mut bytes, DEEPEST)
        .map_err(|error| Error::Corrupt(format!("it is not valid msgpack: {error}")))
}

/// A msgpack value as an attribute; `None` for what is none: extension types (embedded arrays, expressions that would
/// have to be evaluated, references), and bytes that are no text.
fn attribute(value: &Value) -> Option<AttributeValue> {
    if let Some(text) = text(value) {
        return Some(AttributeValue::Text(text));
    }
    match value {
        Value::Ext(NUMPY_ARRAY, payload) => numpy_array(payload),
        Value::Array(items) => {
            let items = without_tuple_mark(items);
            if items.is_empty() {
                None
            } else if let Some(texts) = items.iter().map(text).collect() {
                Some(AttributeValue::Texts(texts))
            } else {
                numbers(items).or_else(|| json(value).map(AttributeValue::Json))
            }
        }
        Value::Integer(_) | Value::F32(_) | Value::F64(_) => numbers(std::slice::from_ref(value)),
        Value::Nil
        | Value::Boolean(_)
        | Value::String(_)
        | Value::Binary(_)
        | Value::Map(_)
        | Value::Ext(..) => json(value).map(AttributeValue::Json),
    }
}

/// An attribute as a msgpack value, from which it is read as the same one: single-precision numbers keep their type.
pub(super) fn value(attribute: &AttributeValue) -> Value {
    fn one_or_all(values: Vec<Value>) -> Value {
        match <[Value; 1]>::try_from(values) {
            Ok([value]) => value,
            Err(values) => Value::Array(values),
        }
    }
    match attribute {
        AttributeValue::Text(text) => text.as_str().into(),
        AttributeValue::Texts(texts) => {
            Value::Array(texts.iter().map(|text| text.as_str().into()).collect())
        }
        AttributeValue::Integers { values, .. } => {
            one_or_all(values.iter().map(|value| whole(*value)).collect())
        }
        AttributeValue::Floats { element, values } => {
            let float = |value: &f64| match element {
                ElementType::Float32 => Value::F32(nearest_f32(*value)),
                _ => Value::F64(*value),
            };
            one_or_all(values.iter().map(float).collect())
        }
        AttributeValue::Json(value) => of_json(value),
    }
}

/// An integer of any type that elements have.
fn whole(value: i128) -> Value {
    match (i64::try_from(value), u64::try_from(value)) {
        (Ok(value), _) => value.into(),
        (_, Ok(value)) => value.into(),
        _ => Value::Nil,
    }
}

fn of_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => (*value).into(),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => value.into(),
            (None, Some(value)) => value.into(),
            (None, None) => number.as_f64().map_or(Value::Nil, Value::F64),
        },
        serde_json::Value::String(text) => text.as_str().into(),
        serde_json::Value::Array(items) => Value::Array(items.iter().map(of_json).collect()),
        serde_json::Value::Object(entries) => {
            let entries = entries.iter();
            Value::Map(
                entries
                    .map(|(name, value)| (name.as_str().into(), of_json(value)))
                    .collect(),
            )
        }
    }
}

/// Numbers as they are meant: integers as long as all of them are.
fn numbers(items: &[Value]) -> Option<AttributeValue> {
    let integers: Option<Vec<i128>> = items
        .iter()
        .map(|item| match item {
            Value::Integer(n) => n
                .as_i64()
                .map(i128::from)
                .or_else(|| n.as_u64().map(i128::from)),
            _ => None,
        })
        .collect();
    if let Some(values) = integers {
        let fits = values.iter().all(|value| i64::try_from(*value).is_ok());
        let element = if fits {
            ElementType::Int64
        } else {
            ElementType::UInt64
        };
        return Some(AttributeValue::Integers { element, values });
    }
    let values: Option<Vec<f64>> = items
        .iter()
        .map(|item| match item {
            Value::F32(value) => Some(f64::from(*value)),
            Value::F64(_) | Value::Integer(_) => item.as_f64(),
            _ => None,
        })
        .collect();
    let is_single = items.iter().all(|item| matches!(item, Value::F32(_)));
    values.map(|values| AttributeValue::Floats {
        element: if is_single {
            ElementType::Float32
        } else {
            ElementType::Float64
        },
        values,
    })
}

/// A NumPy array of numbers among the attributes: `{dtype: {str}, shape, data}`.
fn numpy_array(payload: &[u8]) -> Option<AttributeValue> {
    let value = msgpack(payload).ok()?;
    let dtype = field(field(&value, "dtype")?, "str")?.as_str()?;
    let (element, is_swapped) = element_type(dtype).ok()?;
    let Value::Binary(data) = field(&value, "data")? else {
        return None;
    };
    let size = element.size().filter(|_| element.is_numeric())?;
    if data.is_empty() || data.len() % size != 0 {
        return None;
    }
    let items = data.chunks_exact(size).map(|item| {
        let mut item = item.to_vec();
        if is_swapped {
            item.reverse();
        }
        item
    });
    if element.is_float() {
        let values: Option<Vec<f64>> = items.map(|item| float(&item)).collect();
        return Some(AttributeValue::Floats {
            element,
            values: values?,
        });
    }
    let values = items.map(|item| integer(element, &item)).collect();
    Some(AttributeValue::Integers { element, values })
}

/// The entry of a map.
fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    let mut entries = map.as_map()?.iter();
    entries
        .find(|(key, _)| key.as_str() == Some(name))
        .map(|(_, value)| value)
}

fn float(bytes: &[u8]) -> Option<f64> {
    Some(match bytes.len() {
        2 => half::f16::from_le_bytes(bytes.try_into().ok()?).to_f64(),
        4 => f64::from(f32::from_le_bytes(bytes.try_into().ok()?)),
        _ => f64::from_le_bytes(bytes.try_into().ok()?),
    })
}

/// The integer that the bytes of an element are.
pub(super) fn integer(element: ElementType, bytes: &[u8]) -> i128 {
    let is_signed = matches!(
        element,
        ElementType::Int8 | ElementType::Int16 | ElementType::Int32 | ElementType::Int64
    );
    let negative = is_signed && bytes.last().is_some_and(|last| *last >= 0x80);
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    for (to, from) in wide.iter_mut().zip(bytes) {
        *to = *from;
    }
    i128::from_le_bytes(wide)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.as_str().map(str::to_owned),
        Value::Binary(bytes) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    }
}

fn json(value: &Value) -> Option<serde_json::Value> {
    Some(match value {
        Value::Nil => serde_json::Value::Null,
        Value::Boolean(value) => json!(value),
        Value::Integer(value) => match (value.as_i64(), value.as_u64()) {
            (Some(value), _) => json!(value),
            (None, value) => json!(value?),
        },
        Value::F32(value) => float_json(f64::from(*value)),
        Value::F64(value) => float_json(*value),
        Value::String(_) | Value::Binary(_) => json!(text(value)?),
        Value::Array(items) => without_tuple_mark(items)
            .iter()
            .map(json)
            .collect::<Option<Vec<_>>>()?
            .into(),
        Value::Map(entries) => {
            let mut map = serde_json::Map::new();
            for (key, value) in entries {
                let key = text(key).unwrap_or_else(|| key.to_string());
                map.insert(key, json(value)?);
            }
            map.into()
        }
        Value::Ext(..) => return None,
    })
}

/// JSON has no words for what is not finite.
fn float_json(value: f64) -> serde_json::Value {
    if value.is_nan() {
        json!("NaN")
    } else if value.is_infinite() {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        json!(value)
    }
}

/// Tuples are written as lists that begin with a mark.
fn without_tuple_mark(items: &[Value]) -> &[Value] {
    match items {
        [first, rest @ ..] if first.as_str() == Some("__tuple__") => rest,
        _ => items,
    }
}

fn dimension_names(value: &AttributeValue, rank: usize) -> Option<Vec<String>> {
    let names = match value {
        AttributeValue::Texts(names) => names.clone(),
        AttributeValue::Text(name) => vec![name.clone()],
        AttributeValue::Integers { .. }
        | AttributeValue::Floats { .. }
        | AttributeValue::Json(_) => return None,
    };
    let complete = names.len() == rank && names.iter().all(|name| !name.is_empty());
    complete.then_some(names)
}
