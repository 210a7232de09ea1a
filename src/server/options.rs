//! Options of a session by the actions of Flight, which are the settings that `SET` changes.
//!
//! The messages are those of `Flight.proto`; the crate does not have them.

use std::collections::HashMap;

use tonic::Status;

use super::status::status;
use crate::catalog::quote::literal;
use crate::session::Session;

/// What other servers call the catalog and the schema that names are looked up in.
const OTHERS: [(&str, &str); 2] = [
    ("catalog", "datafusion.catalog.default_catalog"),
    ("schema", "datafusion.catalog.default_schema"),
];

/// Why an option was not set.
const INVALID_NAME: i32 = 1;
const INVALID_VALUE: i32 = 2;

/// That a session is closed.
const CLOSED: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, SessionOptionValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SessionOptionValue {
    #[prost(oneof = "OptionValue", tags = "1, 2, 3, 4, 5")]
    option_value: Option<OptionValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum OptionValue {
    #[prost(string, tag = "1")]
    String(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Int64(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    Strings(StringListValue),
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct StringListValue {
    #[prost(string, repeated, tag = "1")]
    values: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct OptionError {
    #[prost(int32, tag = "1")]
    value: i32,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, OptionError>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, SessionOptionValue>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct CloseSessionResult {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl CloseSessionResult {
    pub(super) fn closed() -> Self {
        Self { status: CLOSED }
    }
}

/// Changes settings of a session; those that cannot be changed are listed.
pub(super) async fn set(
    session: &Session,
    request: SetSessionOptionsRequest,
) -> Result<SetSessionOptionsResult, Status> {
    let mut errors = HashMap::new();
    for (name, value) in request.session_options {
        let result = set_one(session, &name, value.option_value).await;
        if let Err(value) = result {
            errors.insert(name, OptionError { value });
        }
    }
    Ok(SetSessionOptionsResult { errors })
}

async fn set_one(session: &Session, name: &str, value: Option<OptionValue>) -> Result<(), i32> {
    let own = OTHERS.iter().find(|(other, _)| *other == name);
    let own = own.map_or(name, |(_, own)| own);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    if !own.contains('.') || !own.chars().all(is_plain) {
        return Err(INVALID_NAME);
    }
    let statement = match value {
        // Without a value it is what it was at first.
        None => format!("RESET {own}"),
        Some(OptionValue::String(text)) => format!("SET {own} = {}", literal(&text)),
        Some(OptionValue::Bool(value)) => format!("SET {own} = {value}"),
        Some(OptionValue::Int64(value)) => format!("SET {own} = '{value}'"),
        Some(OptionValue::Double(value)) => format!("SET {own} = '{value}'"),
        Some(OptionValue::Strings(_)) => return Err(INVALID_VALUE),
    };
    match session.sql(&statement).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let message = status(&error).message().to_lowercase();
            let is_unknown = ["not found", "could not find", "unknown", "server"];
            match is_unknown.iter().any(|words| message.contains(words)) {
                true => Err(INVALID_NAME),
                false => Err(INVALID_VALUE),
            }
        }
    }
}

/// The settings of a session.
pub(super) fn get(session: &Session) -> GetSessionOptionsResult {
    let state = session.context().state();
    let entries = state.config_options().entries().into_iter();
    let mut options: HashMap<String, SessionOptionValue> = entries
        .filter_map(|entry| {
            let option_value = Some(OptionValue::String(entry.value?));
            Some((entry.key, SessionOptionValue { option_value }))
        })
        .collect();
    for (other, own) in OTHERS {
        if let Some(value) = options.get(own).cloned() {
            options.insert(other.to_owned(), value);
        }
    }
    GetSessionOptionsResult {
        session_options: options,
    }
}
