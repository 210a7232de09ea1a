//! Configuration files: read, filled in from the environment, and merged.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result, Within};

/// The configurations of files, later ones over earlier ones.
///
/// # Errors
/// `NotFound` when a file is not there, `Invalid` when it is neither YAML nor JSON by its extension, cannot be parsed,
/// or names a variable of the environment that is not set.
pub(super) fn load(paths: &[impl AsRef<Path>]) -> Result<Value> {
    let mut config = Value::Object(serde_json::Map::new());
    for path in paths {
        let path = path.as_ref();
        let place = || path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::NotFound(format!("{} does not exist", place())),
            _ => Error::io(format!("{} cannot be read", place()), error),
        })?;
        let extension = path.extension().and_then(std::ffi::OsStr::to_str);
        let next = match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("json") => parse_json(&text),
            Some("yaml" | "yml") => parse_yaml(&text),
            _ => Err(Error::Invalid(
                "a configuration is a file with the extension .json, .yaml or .yml".into(),
            )),
        }
        .within(place)?;
        super::schema::check(&next).within(place)?;
        merge(&mut config, next);
    }
    Ok(config)
}

/// The configuration that a JSON document holds.
///
/// # Errors
/// `Invalid` when it holds none.
pub(super) fn parse_json(text: &str) -> Result<Value> {
    let text = interpolate(text)?;
    serde_json::from_str(&text).map_err(|error| Error::Invalid(format!("it is not JSON: {error}")))
}

/// The configuration that a YAML document holds.
///
/// # Errors
/// `Invalid` when it holds none.
pub(super) fn parse_yaml(text: &str) -> Result<Value> {
    let text = interpolate(text)?;
    let value: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text)
        .map_err(|error| Error::Invalid(format!("it is not YAML: {error}")))?;
    json(value)
}

/// Puts one configuration over another: mappings are merged, everything else is replaced.
pub(super) fn merge(config: &mut Value, over: Value) {
    match (config, over) {
        (Value::Object(config), Value::Object(over)) => {
            for (name, value) in over {
                match config.get_mut(&name) {
                    Some(old) => merge(old, value),
                    None => {
                        config.insert(name, value);
                    }
                }
            }
        }
        (config, over) => *config = over,
    }
}

/// Replaces `${NAME}` by what the environment says.
fn interpolate(text: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((name, behind)) = after.split_once('}') else {
            return Err(Error::Invalid("a ${ has no }".into()));
        };
        let value = std::env::var(name.trim()).map_err(|_| {
            Error::Invalid(format!(
                "it needs the environment variable {name}, which is not set"
            ))
        })?;
        out.push_str(&value);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

fn json(value: serde_yaml_ng::Value) -> Result<Value> {
    use serde_yaml_ng::Value as Yaml;
    Ok(match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), _, _) => integer.into(),
            (None, Some(integer), _) => integer.into(),
            (None, None, Some(float)) if float.is_finite() => float.into(),
            // JSON has no such number; its name is understood wherever it may stand.
            (None, None, Some(float)) if float.is_nan() => "NaN".into(),
            _ => return Err(Error::Invalid(format!("{number} is out of range"))),
        },
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(entries) => entries.into_iter().map(json).collect::<Result<_>>()?,
        Yaml::Mapping(members) => {
            let mut object = serde_json::Map::new();
            for (name, value) in members {
                let name = match name {
                    Yaml::String(name) => name,
                    other => plain(&json(other)?),
                };
                object.insert(name, json(value)?);
            }
            Value::Object(object)
        }
        Yaml::Tagged(tagged) => json(tagged.value)?,
    })
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
