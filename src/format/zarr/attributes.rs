//! Attributes: from JSON to values of the model.

use super::dtype::{DataType, Time};
use super::fill::{coded_double, number};
use super::json::Json;
use crate::array::dtype::ElementType;
use crate::array::{AttributeValue, Attributes};

/// The attribute by which xarray names the dimensions of an array.
pub(super) const DIMENSIONS: &str = "_ARRAY_DIMENSIONS";

/// The attribute that says which value stands for a missing one.
const FILL: &str = "_FillValue";

/// The attributes of a group.
pub(super) fn of_group(json: &Json) -> Attributes {
    Attributes(
        json.object()
            .iter()
            .map(|(name, json)| (name.clone(), value(json)))
            .collect(),
    )
}

/// The attributes of an array of this data type, without the names of its dimensions; what its data type says about
/// times is said by attributes of the conventions.
pub(super) fn of_array(json: &Json, dtype: DataType) -> Attributes {
    let mut attributes = of_group(json);
    attributes.0.retain(|(name, _)| name != DIMENSIONS);
    for (name, value) in &mut attributes.0 {
        if name != FILL || !dtype.element.is_float() {
            continue;
        }
        if let AttributeValue::Text(text) = value
            && let Some(number) = coded_double(text)
        {
            *value = AttributeValue::Floats {
                element: ElementType::Float64,
                values: vec![number],
            };
        }
    }
    match dtype.time {
        None => {}
        Some(Time::Since(units)) => {
            set(
                &mut attributes,
                "units",
                text(&format!("{units} since 1970-01-01")),
            );
            set(&mut attributes, "calendar", text("proleptic_gregorian"));
            add_fill(&mut attributes, &i64::MIN.to_le_bytes(), dtype);
        }
        Some(Time::Span(units)) => {
            set(&mut attributes, "units", text(units));
            add_fill(&mut attributes, &i64::MIN.to_le_bytes(), dtype);
        }
    }
    attributes
}

/// Lets cells with the value `fill` (one element) be missing ones, unless an attribute of the file says which are.
pub(super) fn add_fill(attributes: &mut Attributes, fill: &[u8], dtype: DataType) {
    if attributes.get(FILL).is_some() {
        return;
    }
    let zeros = vec![0; dtype.element.size().unwrap_or_default()];
    let fill = if fill.is_empty() { &zeros } else { fill };
    if let Some(value) = number(fill, dtype.element) {
        attributes.0.push((FILL.into(), value));
    }
}

/// The names of the dimensions: those given, `dim_0`, `dim_1` … where there is none.
pub(super) fn dimension_names(given: &[Json], rank: usize) -> Vec<String> {
    (0..rank)
        .map(|axis| {
            given
                .get(axis)
                .and_then(Json::text)
                .filter(|name| !name.is_empty())
                .map_or_else(|| format!("dim_{axis}"), str::to_owned)
        })
        .collect()
}

/// The names of the dimensions that xarray keeps among the attributes, if they fit the rank.
pub(super) fn xarray_dimensions(attributes: &Json, rank: usize) -> Option<&[Json]> {
    attributes
        .get(DIMENSIONS)
        .list()
        .filter(|names| names.len() == rank && names.iter().all(|name| name.text().is_some()))
}

fn set(attributes: &mut Attributes, name: &str, value: AttributeValue) {
    attributes.0.retain(|(key, _)| key != name);
    attributes.0.push((name.into(), value));
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::Text(text.into())
}

fn value(json: &Json) -> AttributeValue {
    let entries = match json {
        Json::Text(text) => return AttributeValue::Text(text.clone()),
        Json::Integer(_) | Json::Float(_) => std::slice::from_ref(json),
        Json::List(entries) if !entries.is_empty() => entries,
        Json::Null | Json::Bool(_) | Json::List(_) | Json::Object(_) => {
            return AttributeValue::Json(json.to_value());
        }
    };
    integers(entries)
        .or_else(|| floats(entries))
        .or_else(|| {
            let texts = entries.iter().map(|entry| entry.text().map(str::to_owned));
            texts.collect::<Option<_>>().map(AttributeValue::Texts)
        })
        .unwrap_or_else(|| AttributeValue::Json(json.to_value()))
}

fn integers(entries: &[Json]) -> Option<AttributeValue> {
    let values: Vec<i128> = entries.iter().map(Json::integer).collect::<Option<_>>()?;
    let all = |fits: fn(&i128) -> bool| values.iter().all(fits);
    let element = if all(|number| i64::try_from(*number).is_ok()) {
        ElementType::Int64
    } else if all(|number| u64::try_from(*number).is_ok()) {
        ElementType::UInt64
    } else {
        return None;
    };
    Some(AttributeValue::Integers { element, values })
}

fn floats(entries: &[Json]) -> Option<AttributeValue> {
    let values = entries.iter().map(Json::float).collect::<Option<_>>()?;
    Some(AttributeValue::Floats {
        element: ElementType::Float64,
        values,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn array(json: &str, dtype: &str) -> Attributes {
        of_array(
            &Json::parse(json.as_bytes()).unwrap(),
            DataType::v2(dtype, 1).unwrap().0,
        )
    }

    #[test]
    fn values_keep_their_types_and_order() {
        let attributes = array(
            r#"{"z": 1, "a": [1, 2.5], "t": ["x", "y"], "e": [], "m": [1, "x"], "_ARRAY_DIMENSIONS": ["q"], "b": true}"#,
            "<i4",
        );
        let names: Vec<_> = attributes.0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["z", "a", "t", "e", "m", "b"]);
        assert_eq!(
            attributes.get("z"),
            Some(&AttributeValue::Integers {
                element: ElementType::Int64,
                values: vec![1]
            })
        );
        assert_eq!(
            attributes.get("a"),
            Some(&AttributeValue::Floats {
                element: ElementType::Float64,
                values: vec![1.0, 2.5]
            })
        );
        assert_eq!(
            attributes.get("t"),
            Some(&AttributeValue::Texts(vec!["x".into(), "y".into()]))
        );
        assert_eq!(
            attributes.get("b"),
            Some(&AttributeValue::Json(true.into()))
        );
    }

    #[test]
    fn fill_values_of_floats_may_be_coded() {
        let attributes = array(r#"{"_FillValue": "AAAAAAAA+H8="}"#, "<f4");
        assert!(
            matches!(attributes.get(FILL), Some(AttributeValue::Floats { values, .. }) if values.iter().all(|v| v.is_nan()))
        );
        let attributes = array(r#"{"_FillValue": "AAAAAAAA+H8="}"#, "|S9");
        assert!(attributes.text(FILL).is_some());
    }

    #[test]
    fn times_speak_the_conventions() {
        let attributes = array(r#"{"units": "furlongs", "calendar": "noleap"}"#, "<M8[ns]");
        assert_eq!(
            attributes.text("units"),
            Some("nanoseconds since 1970-01-01")
        );
        assert_eq!(attributes.text("calendar"), Some("proleptic_gregorian"));
        assert_eq!(
            attributes.get(FILL),
            Some(&AttributeValue::Integers {
                element: ElementType::Int64,
                values: vec![i64::MIN.into()]
            })
        );
        assert_eq!(array("{}", "<m8[D]").text("units"), Some("days"));
    }
}
