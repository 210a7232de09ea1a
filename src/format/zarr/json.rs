//! JSON metadata documents, with members in the order of the file and every number exact.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, Result};

/// A JSON value.
///
/// Python writes the numbers `NaN`, `Infinity` and `-Infinity` bare, which JSON does not know; here they are floats.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// What a member that is not there is taken for.
pub(super) static NULL: Json = Json::Null;

impl Json {
    /// The value that a document holds.
    pub(super) fn parse(document: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(document)
            .map_err(|error| Error::Corrupt(format!("the metadata is not UTF-8: {error}")))?;
        serde_json::from_str(&quote_numbers(text))
            .map_err(|error| Error::Corrupt(format!("the metadata is not valid JSON: {error}")))
    }

    /// The member called `key`; null when there is none, or when this is no object.
    pub(super) fn get(&self, key: &str) -> &Self {
        self.object()
            .iter()
            .rfind(|(name, _)| name == key)
            .map_or(&NULL, |(_, value)| value)
    }

    /// The members of an object; none for anything else.
    pub(super) fn object(&self) -> &[(String, Self)] {
        let Self::Object(members) = self else {
            return &[];
        };
        members
    }

    /// The entries of a list.
    pub(super) fn list(&self) -> Option<&[Self]> {
        let Self::List(entries) = self else {
            return None;
        };
        Some(entries)
    }

    /// The text of a string.
    pub(super) fn text(&self) -> Option<&str> {
        let Self::Text(text) = self else {
            return None;
        };
        Some(text)
    }

    /// An integer.
    pub(super) fn integer(&self) -> Option<i128> {
        let Self::Integer(number) = self else {
            return None;
        };
        Some(*number)
    }

    /// Any number, as the float nearest to it.
    #[expect(
        clippy::cast_precision_loss,
        reason = "the nearest float is what is meant"
    )]
    pub(super) fn float(&self) -> Option<f64> {
        if let Self::Float(number) = self {
            Some(*number)
        } else {
            self.integer().map(|number| number as f64)
        }
    }

    /// An integer that is not negative.
    pub(super) fn count(&self) -> Option<u64> {
        self.integer()?.try_into().ok()
    }

    /// A list of integers that are not negative.
    pub(super) fn counts(&self) -> Option<Vec<u64>> {
        self.list()?.iter().map(Self::count).collect()
    }

    /// Whether this says nothing.
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Gives the member called `key` a value; a new member comes last. Nothing but an object has members.
    pub(super) fn set(&mut self, key: &str, value: Self) {
        let Self::Object(members) = self else {
            return;
        };
        match members.iter_mut().rfind(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => members.push((key.to_owned(), value)),
        }
    }

    /// The document that holds this value, as Python writes and reads it: indented, numbers that JSON does not know bare.
    pub(super) fn to_document(&self) -> Vec<u8> {
        let mut text = String::new();
        self.write(&mut text, 0);
        text.into_bytes()
    }

    fn write(&self, text: &mut String, depth: usize) {
        match self {
            Self::Null => text.push_str("null"),
            Self::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Self::Integer(number) => text.push_str(&number.to_string()),
            Self::Float(number) if number.is_nan() => text.push_str("NaN"),
            Self::Float(number) if number.is_infinite() => {
                text.push_str(if *number > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                });
            }
            // Debug keeps the fraction of a whole number, so that it stays a float, and is as short as can be.
            Self::Float(number) => text.push_str(&format!("{number:?}")),
            Self::Text(content) => {
                text.push_str(&serde_json::Value::from(content.as_str()).to_string());
            }
            Self::List(entries) => {
                let flat = !entries
                    .iter()
                    .any(|entry| matches!(entry, Self::List(_) | Self::Object(_)));
                write_all(text, ('[', ']'), depth, flat, entries, |text, entry| {
                    entry.write(text, depth + 1);
                });
            }
            Self::Object(members) => {
                write_all(
                    text,
                    ('{', '}'),
                    depth,
                    false,
                    members,
                    |text, (name, value)| {
                        text.push_str(&serde_json::Value::from(name.as_str()).to_string());
                        text.push_str(": ");
                        value.write(text, depth + 1);
                    },
                );
            }
        }
    }

    /// The value that is `value` to those who know [`serde_json`] alone.
    pub(super) fn from_value(value: &serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => number
                .as_i128()
                .map(Self::Integer)
                .or_else(|| number.as_f64().map(Self::Float))
                .unwrap_or(Self::Null),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(entries) => Self::List(entries.iter().map(Self::from_value).collect()),
            Value::Object(members) => Self::Object(
                members
                    .iter()
                    .map(|(name, value)| (name.clone(), Self::from_value(value)))
                    .collect(),
            ),
        }
    }

    /// The same value for those who know [`serde_json`] alone; numbers that JSON does not know become text.
    pub(super) fn to_value(&self) -> serde_json::Value {
        use serde_json::Value;
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Integer(number) => i64::try_from(*number)
                .map(Value::from)
                .or_else(|_| u64::try_from(*number).map(Value::from))
                .unwrap_or_else(|_| Value::String(number.to_string())),
            Self::Float(number) => serde_json::Number::from_f64(*number)
                .map_or_else(|| Value::String(number.to_string()), Value::Number),
            Self::Text(text) => Value::String(text.clone()),
            Self::List(entries) => entries.iter().map(Self::to_value).collect(),
            Self::Object(members) => members
                .iter()
                .map(|(name, value)| (name.clone(), value.to_value()))
                .collect(),
        }
    }
}

/// Writes what is between brackets: on one line if it is `flat`, else each on a line of its own.
fn write_all<T>(
    text: &mut String,
    brackets: (char, char),
    depth: usize,
    flat: bool,
    items: &[T],
    mut write: impl FnMut(&mut String, &T),
) {
    let line = |text: &mut String, depth: usize| {
        if !flat {
            text.push('\n');
            text.push_str(&"  ".repeat(depth));
        }
    };
    text.push(brackets.0);
    for (at, item) in items.iter().enumerate() {
        match (at, flat) {
            (0, _) => {}
            (_, true) => text.push_str(", "),
            (_, false) => text.push(','),
        }
        line(text, depth + 1);
        write(text, item);
    }
    if !items.is_empty() {
        line(text, depth);
    }
    text.push(brackets.1);
}

/// Says what the value is, in a form fit for a message.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 80;
        let text = self.to_value().to_string();
        match text.char_indices().nth(LONGEST) {
            Some((at, _)) => write!(f, "{} …", text.get(..at).unwrap_or_default()),
            None => f.write_str(&text),
        }
    }
}

/// Begins the strings that [`quote_numbers`] makes.
const MARK: char = '\0';

/// Turns the numbers that the JSON parser refuses or rounds (`NaN`, `Infinity`, everything with a fraction or an
/// exponent, integers beyond 64 bits) into marked strings.
fn quote_numbers(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let (mut at, mut copied) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b'-' | b'N' | b'I' | b'0'..=b'9' => {
                let length = bytes
                    .iter()
                    .skip(at)
                    .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
                    .count();
                let token = text.get(at..at + length).unwrap_or_default();
                if number(token).is_some() {
                    out.push_str(text.get(copied..at).unwrap_or_default());
                    out.push_str("\"\\u0000");
                    out.push_str(token);
                    out.push('"');
                    copied = at + length;
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// The place behind the string that begins at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// The number that a token stands for, unless the JSON parser reads it exactly.
fn number(token: &str) -> Option<f64> {
    match token {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ if token.parse::<i64>().is_ok() && token != "-0" || token.parse::<u64>().is_ok() => None,
        _ => {
            let digits = token.strip_prefix('-').unwrap_or(token);
            let numeric = digits
                .bytes()
                .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
            let begins = digits.starts_with(|c: char| c.is_ascii_digit());
            (numeric && begins && !digits.ends_with('.'))
                .then(|| token.parse().ok())
                .flatten()
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(match text.strip_prefix(MARK).and_then(number) {
            Some(number) => Json::Float(number),
            None => Json::Text(text.to_owned()),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element()? {
            list.push(entry);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn bare_python_numbers_are_floats() {
        let json =
            Json::parse(br#"{"b": [NaN, Infinity, -Infinity], "a": "NaN, \"Infinity"}"#).unwrap();
        let list = json.get("b").list().unwrap();
        assert!(
            matches!(list, [Json::Float(nan), Json::Float(f64::INFINITY), Json::Float(f64::NEG_INFINITY)] if nan.is_nan())
        );
        assert_eq!(json.get("a").text(), Some("NaN, \"Infinity"));
        assert_eq!(json.object().first().unwrap().0, "b");
    }

    #[test]
    fn numbers_are_exact() {
        let parse = |text: &str| Json::parse(text.as_bytes()).unwrap();
        assert_eq!(
            parse("9.969209968386869e+36"),
            Json::Float(9.969_209_968_386_869e36)
        );
        assert_eq!(parse("[1e+20]"), Json::List(vec![Json::Float(1e20)]));
        assert_eq!(
            parse("18446744073709551615"),
            Json::Integer(u64::MAX.into())
        );
        assert_eq!(
            parse("-9223372036854775808"),
            Json::Integer(i64::MIN.into())
        );
        assert_eq!(parse("1e400"), Json::Float(f64::INFINITY));
        assert!(matches!(parse("-0.0"), Json::Float(zero) if zero.is_sign_negative()));
    }

    #[test]
    fn documents_are_written_as_they_were_read() {
        let text = r#"{"b": [NaN, Infinity, -Infinity, -0.0, 1.0, 1e-7, 1e+300, 0.1], "a": {"x": "q\"\\é\u0000"}, "n": null,
            "i": [18446744073709551615, -1], "e": [], "o": {}, "l": [[1], [true, false]]}"#;
        let json = Json::parse(text.as_bytes()).unwrap();
        let again = Json::parse(&json.to_document()).unwrap();
        // NaN is not equal to itself.
        assert_eq!(format!("{json:?}"), format!("{again:?}"));
        let mut json = Json::parse(br#"{"shape": [1, 2], "x": 1.0}"#).unwrap();
        json.set(
            "shape",
            Json::List(vec![Json::Integer(3), Json::Integer(2)]),
        );
        json.set("y", Json::Null);
        assert_eq!(
            String::from_utf8(json.to_document()).unwrap(),
            "{\n  \"shape\": [3, 2],\n  \"x\": 1.0,\n  \"y\": null\n}"
        );
    }

    #[test]
    fn what_is_no_json_is_corrupt() {
        for text in [
            "",
            "{",
            "{\"a\": nan}",
            "[1,]",
            "[-]",
            "[1.]",
            "[inf]",
            "\"\\",
            "[NaNs]",
            "[01]",
        ] {
            assert!(
                matches!(Json::parse(text.as_bytes()), Err(Error::Corrupt(_))),
                "{text}"
            );
        }
        assert!(Json::parse("[".repeat(100_000).as_bytes()).is_err());
        assert!(Json::parse(b"\xff").is_err());
    }
}
