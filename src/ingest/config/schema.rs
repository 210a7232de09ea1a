//! The schema of configurations: what can be said, checked value by value and printed.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The schema as a JSON document.
pub const SCHEMA: &str = include_str!("schema.json");

/// Options of zappend that need Python, and what takes their place.
const ELSEWHERE: [(&str, &str); 4] = [
    (
        "permit_eval",
        "attributes are computed by SQL expressions instead, like attrs: {start: \"=min(time)\"}",
    ),
    (
        "slice_source",
        "a slice that has to be prepared is a query instead, like \"SELECT time, lat, lon, tas * 2 AS tas FROM 'a.nc'\"",
    ),
    (
        "slice_source_kwargs",
        "a slice that has to be prepared is a query instead, like \"SELECT time, lat, lon, tas * 2 AS tas FROM 'a.nc'\"",
    ),
    (
        "slice_engine",
        "the format of a slice is recognised by its content",
    ),
];

/// Checks a configuration.
///
/// # Errors
/// `Invalid` naming the first key that is not known, with the nearest one that is, or the first value that cannot be.
pub(super) fn check(config: &Value) -> Result<()> {
    let schema = schema()?;
    Checker { root: &schema }.check(config, &schema, "")
}

/// The schema as a page for people.
///
/// # Errors
/// `Invalid` when the schema itself is damaged.
pub fn markdown() -> Result<String> {
    let schema = schema()?;
    let checker = Checker { root: &schema };
    let mut page = String::from("# Configuration of hyperslab append\n");
    let properties = members(&schema, "properties");
    let mut categories: Vec<&str> = Vec::new();
    for property in properties.values() {
        let category = text(property, "category");
        if !categories.contains(&category) {
            categories.push(category);
        }
    }
    for category in categories {
        let _ = writeln!(page, "\n## {category}\n");
        let of = properties
            .iter()
            .filter(|(_, property)| text(property, "category") == category);
        for (name, property) in of {
            checker.describe(&mut page, name, property, 0);
        }
    }
    Ok(page)
}

fn schema() -> Result<Value> {
    serde_json::from_str(SCHEMA)
        .map_err(|error| Error::Invalid(format!("the schema of configurations: {error}")))
}

struct Checker<'a> {
    root: &'a Value,
}

impl<'a> Checker<'a> {
    fn check(&self, value: &Value, schema: &'a Value, place: &str) -> Result<()> {
        let schema = self.resolve(schema);
        if let Some(Value::Array(alternatives)) = schema.get("oneOf") {
            return self.check_any(value, alternatives, place);
        }
        if !self.fits(value, schema) {
            return Err(wrong(value, place, &self.expected(schema)));
        }
        if let (Some(entries), Some(items)) = (value.as_array(), schema.get("items")) {
            for (at, entry) in entries.iter().enumerate() {
                self.check(entry, items, &format!("{place}[{at}]"))?;
            }
        }
        if let Some(given) = value.as_object() {
            self.check_members(given, schema, place)?;
        }
        Ok(())
    }

    /// The alternative of the same type says best what is wrong within a value.
    fn check_any(&self, value: &Value, alternatives: &'a [Value], place: &str) -> Result<()> {
        let mut nearest = None;
        for alternative in alternatives {
            match self.check(value, alternative, place) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    let alternative = self.resolve(alternative);
                    let nests = value.is_object() || value.is_array();
                    if nests && text(alternative, "type") == type_name(value) {
                        nearest = Some(error);
                    }
                }
            }
        }
        let all: Vec<String> = alternatives
            .iter()
            .map(|alternative| self.expected(self.resolve(alternative)))
            .collect();
        Err(nearest.unwrap_or_else(|| wrong(value, place, &all.join(" or "))))
    }

    fn check_members(
        &self,
        given: &Map<String, Value>,
        schema: &'a Value,
        place: &str,
    ) -> Result<()> {
        let known = members(schema, "properties");
        for (name, value) in given {
            let inner = join(place, name);
            if let Some(property) = known.get(name) {
                self.check(value, property, &inner)?;
                continue;
            }
            match schema.get("additionalProperties") {
                Some(Value::Bool(true)) | None => {}
                Some(Value::Bool(false)) => return Err(unknown(name, &inner, known)),
                Some(other) => self.check(value, other, &inner)?,
            }
        }
        for name in schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let name = name.as_str().unwrap_or_default();
            if !given.contains_key(name) {
                return Err(Error::Invalid(format!("{place} has no {name}")));
            }
        }
        Ok(())
    }

    /// Whether a value is right as far as it is not made of others.
    fn fits(&self, value: &Value, schema: &Value) -> bool {
        let limit = |name: &str| schema.get(name).and_then(Value::as_f64);
        let number = value.as_f64();
        let type_fits = match text(schema, "type") {
            "" => true,
            "number" => value.is_number(),
            "integer" => value.is_i64() || value.is_u64(),
            name => name == type_name(value),
        };
        type_fits
            && schema.get("const").is_none_or(|only| only == value)
            && schema
                .get("enum")
                .and_then(Value::as_array)
                .is_none_or(|all| all.contains(value))
            && limit("minimum").is_none_or(|least| number >= Some(least))
            && limit("exclusiveMinimum").is_none_or(|least| number > Some(least))
            && limit("minLength").is_none_or(|_| value.as_str() != Some(""))
    }

    /// What a value has to be, in words.
    fn expected(&self, schema: &Value) -> String {
        if let Some(only) = schema.get("const") {
            return only.to_string();
        }
        if let Some(Value::Array(all)) = schema.get("enum") {
            let all: Vec<String> = all.iter().map(plain).collect();
            return format!("one of {}", all.join(", "));
        }
        if let Some(Value::Array(all)) = schema.get("oneOf") {
            let all: Vec<String> = all
                .iter()
                .map(|alternative| self.expected(self.resolve(alternative)))
                .collect();
            return all.join(" or ");
        }
        let kind = match text(schema, "type") {
            "array" => "a list",
            "boolean" => "true or false",
            "integer" => "a whole number",
            "number" => "a number",
            "object" => "a mapping",
            _ => "a text",
        };
        let least = |name: &str, words: &str| {
            let least = schema.get(name)?.as_f64()?;
            Some(format!("{kind} {words} {least}"))
        };
        least("minimum", "of at least")
            .or_else(|| least("exclusiveMinimum", "greater than"))
            .unwrap_or_else(|| kind.to_owned())
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let Some(name) = text(schema, "$ref").strip_prefix("#/$defs/") else {
            return schema;
        };
        members(self.root, "$defs").get(name).unwrap_or(schema)
    }

    fn describe(&self, page: &mut String, name: &str, property: &'a Value, depth: usize) {
        let schema = self.resolve(property);
        let indent = "  ".repeat(depth);
        let _ = write!(page, "{indent}- `{name}`");
        let kind = self.expected(schema);
        let _ = write!(page, " ({kind}");
        if let Some(default) = schema.get("default") {
            let _ = write!(page, "; default `{default}`");
        }
        let _ = writeln!(page, "): {}", text(property, "description"));
        let nested = schema.get("oneOf").and_then(Value::as_array);
        let alternatives = nested.into_iter().flatten().chain([schema]);
        for alternative in alternatives {
            let alternative = self.resolve(alternative);
            for (name, property) in members(alternative, "properties") {
                self.describe(page, name, property, depth + 1);
            }
            if let Some(each @ Value::Object(_)) = alternative.get("additionalProperties") {
                for (name, property) in members(self.resolve(each), "properties") {
                    self.describe(page, &format!("<name>.{name}"), property, depth + 1);
                }
            }
        }
    }
}

static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);

fn members<'a>(schema: &'a Value, name: &str) -> &'a Map<String, Value> {
    schema.get(name).and_then(Value::as_object).unwrap_or(&NONE)
}

fn text<'a>(schema: &'a Value, name: &str) -> &'a str {
    schema.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn join(place: &str, name: &str) -> String {
    if place.is_empty() {
        name.to_owned()
    } else {
        format!("{place}.{name}")
    }
}

/// A value as a person would write it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn wrong(value: &Value, place: &str, expected: &str) -> Error {
    let place = if place.is_empty() {
        "the configuration"
    } else {
        place
    };
    Error::Invalid(format!("{place} is {value}, but has to be {expected}"))
}

fn unknown(name: &str, place: &str, known: &Map<String, Value>) -> Error {
    if let Some((_, instead)) = ELSEWHERE.iter().find(|(other, _)| *other == place) {
        return Error::Invalid(format!("{place} needs Python, which is not run: {instead}"));
    }
    let nearest = known
        .keys()
        .map(|key| (distance(name, key), key))
        .min()
        .filter(|(distance, key)| *distance <= key.len().max(name.len()) / 2);
    Error::Invalid(match nearest {
        Some((_, key)) => format!("there is no option {place}; did you mean {key}?"),
        None => {
            let all: Vec<&str> = known.keys().map(String::as_str).collect();
            format!("there is no option {place}; known are {}", all.join(", "))
        }
    })
}

/// How many letters have to be put in, taken out or changed to make one word of another.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, letter) in left.chars().enumerate() {
        let mut next = vec![at + 1];
        for (column, other) in right.iter().enumerate() {
            let of = |at: usize| row.get(at).copied().unwrap_or(usize::MAX);
            let changed = of(column) + usize::from(*other != letter);
            let before = next.last().copied().unwrap_or(0);
            next.push(changed.min(of(column + 1) + 1).min(before + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
