//! Configurations: what is said about a target, about slices, and about the way from one to the other.

mod load;
mod schema;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use load::merge;

pub use schema::{SCHEMA, markdown};

/// How slices are appended. The options are those of the schema ([`SCHEMA`]).
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct AppendConfig {
    /// Where the target is.
    #[serde(rename = "target_dir")]
    pub target: String,
    /// Version of Zarr of a target that is created.
    pub zarr_version: u8,
    /// Whether an existing target is removed first.
    pub force_new: bool,
    /// The dimension along which slices are appended.
    pub append_dim: String,
    /// Order of its labels.
    pub append_order: Option<AppendOrder>,
    /// Step between its labels.
    pub append_step: Option<Step>,
    /// Sizes of other dimensions.
    pub fixed_dims: BTreeMap<String, u64>,
    /// Variables of a target that is created.
    pub included_variables: Vec<String>,
    /// Variables that are left out.
    pub excluded_variables: Vec<String>,
    /// What is said about variables, by name; `*` is for all.
    pub variables: BTreeMap<String, VariableConfig>,
    /// Attributes of the dataset.
    pub attrs: Map<String, Value>,
    /// What becomes of attributes of slices.
    pub attrs_update_mode: AttributesMode,
    /// Largest difference between coordinates that count as equal.
    pub tolerance: f64,
    /// Whether units are converted.
    pub convert_units: bool,
    /// Whether slices that are there are left out.
    pub resume: bool,
    /// How slices are waited for.
    #[serde(deserialize_with = "polling")]
    pub slice_polling: Option<Polling>,
    /// Whether a commit may be lost when the power is.
    pub disable_rollback: bool,
    /// Most slices of one transaction.
    pub commit_slices: Option<u64>,
    /// Seconds to wait for other writers; the session decides without it.
    pub lock_timeout: Option<f64>,
    /// Whether nothing is changed.
    pub dry_run: bool,
    /// Where it is told how long things took.
    #[serde(deserialize_with = "profiling")]
    pub profiling: Profiling,
    /// Whether it is told what is done.
    #[serde(deserialize_with = "logging")]
    pub logging: bool,
    /// Options of the object store of the target.
    pub target_storage_options: StorageOptions,
    /// Options of the object store of slices.
    pub slice_storage_options: StorageOptions,
}

/// What is said about a variable.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct VariableConfig {
    /// Its dimensions.
    pub dims: Option<Vec<String>>,
    /// How it is stored, by the names of the schema: what is null is not the same as what is not said.
    pub encoding: Map<String, Value>,
    /// Its attributes.
    pub attrs: Map<String, Value>,
}

/// Order of the labels of the append dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppendOrder {
    /// Each is greater than the one before.
    Increasing,
    /// Each is less than the one before.
    Decreasing,
    /// Any.
    Any,
}

/// Step between the labels of the append dimension.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Step {
    /// A number; seconds for times.
    Number(f64),
    /// A sign, or a duration.
    Text(String),
}

/// What becomes of the attributes of the dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttributesMode {
    /// Those of the target stay.
    Keep,
    /// Those of the slice take their place.
    Replace,
    /// Those of the slice are put over them.
    Update,
    /// Those of slices are never looked at.
    Ignore,
}

/// How slices are waited for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Polling {
    /// Time between two looks.
    pub interval: Duration,
    /// Time until it is an error.
    pub timeout: Duration,
}

/// Where it is told how long things took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Profiling {
    /// Nowhere.
    #[default]
    Off,
    /// On standard error.
    Shown,
    /// In a file.
    File(String),
}

/// Options of an object store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StorageOptions {
    key: Option<String>,
    secret: Option<String>,
    token: Option<String>,
    endpoint_url: Option<String>,
    region: Option<String>,
    anon: bool,
}

impl Default for AppendConfig {
    fn default() -> Self {
        Self {
            target: String::new(),
            zarr_version: 2,
            force_new: false,
            append_dim: "time".into(),
            append_order: None,
            append_step: None,
            fixed_dims: BTreeMap::new(),
            included_variables: Vec::new(),
            excluded_variables: Vec::new(),
            variables: BTreeMap::new(),
            attrs: Map::new(),
            attrs_update_mode: AttributesMode::Keep,
            tolerance: 0.0,
            convert_units: false,
            resume: false,
            slice_polling: None,
            disable_rollback: false,
            commit_slices: None,
            lock_timeout: None,
            dry_run: false,
            profiling: Profiling::Off,
            logging: false,
            target_storage_options: StorageOptions::default(),
            slice_storage_options: StorageOptions::default(),
        }
    }
}

impl AppendConfig {
    /// The configuration of files, later ones over earlier ones, with `over` over all of them.
    ///
    /// # Errors
    /// `NotFound` when a file is not there, `Invalid` naming what is wrong in it.
    pub fn load(paths: &[impl AsRef<Path>], over: Value) -> Result<Self> {
        let mut config = load::load(paths)?;
        merge(&mut config, over);
        Self::from_value(config)
    }

    /// The configuration that a JSON value is.
    ///
    /// # Errors
    /// `Invalid` naming the option that is not known, or whose value cannot be.
    pub fn from_value(value: Value) -> Result<Self> {
        schema::check(&value)?;
        let config: Self = serde_json::from_value(value)
            .map_err(|error| Error::Invalid(format!("the configuration: {error}")))?;
        if config.fixed_dims.contains_key(&config.append_dim) {
            return Err(Error::Invalid(format!(
                "fixed_dims names {}, which is the append dimension and cannot be fixed",
                config.append_dim
            )));
        }
        Ok(config)
    }

    /// What is said about a variable, with what is said about all.
    #[must_use]
    pub(super) fn variable(&self, name: &str) -> VariableConfig {
        let mut config = self.variables.get("*").cloned().unwrap_or_default();
        // The coordinate of one of the dimensions that all have does not have them all.
        config.dims = config
            .dims
            .filter(|dims| !dims.iter().any(|dim| dim == name));
        if let Some(own) = self.variables.get(name) {
            if own.dims.is_some() {
                config.dims.clone_from(&own.dims);
            }
            config.encoding.extend(own.encoding.clone());
            config.attrs.extend(own.attrs.clone());
        }
        config
    }

    /// Whether a variable is neither created nor taken from slices.
    #[must_use]
    pub(super) fn excludes(&self, name: &str) -> bool {
        let is = |list: &[String]| list.iter().any(|other| other == name);
        is(&self.excluded_variables)
            || !self.included_variables.is_empty() && !is(&self.included_variables)
    }

    /// Whether something is said about a variable by its name.
    #[must_use]
    pub(super) fn names(&self, name: &str) -> bool {
        name != "*" && self.variables.contains_key(name)
    }
}

impl StorageOptions {
    /// By the names that object stores give them.
    #[must_use]
    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        let options = [
            ("aws_access_key_id", &self.key),
            ("aws_secret_access_key", &self.secret),
            ("aws_session_token", &self.token),
            ("aws_endpoint_url", &self.endpoint_url),
            ("aws_region", &self.region),
        ];
        for (name, value) in options {
            if let Some(value) = value {
                pairs.push((name.to_owned(), value.clone()));
            }
        }
        if self.anon {
            pairs.push(("aws_skip_signature".to_owned(), "true".to_owned()));
        }
        if self
            .endpoint_url
            .as_ref()
            .is_some_and(|url| url.starts_with("http://"))
        {
            pairs.push(("aws_allow_http".to_owned(), "true".to_owned()));
        }
        pairs
    }
}

fn polling<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Polling>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let seconds = |name: &str, default: f64| {
        let number = value.get(name).and_then(Value::as_f64);
        Duration::try_from_secs_f64(number.unwrap_or(default)).unwrap_or(Duration::MAX)
    };
    Ok((value != Value::Bool(false)).then(|| Polling {
        interval: seconds("interval", 2.0),
        timeout: seconds("timeout", 60.0),
    }))
}

fn profiling<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Profiling, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let enabled = value.get("enabled").and_then(Value::as_bool);
    let path = value
        .as_str()
        .or_else(|| value.get("path").and_then(Value::as_str));
    Ok(
        match (value == Value::Bool(false) || enabled == Some(false), path) {
            (true, _) => Profiling::Off,
            (false, Some(path)) => Profiling::File(path.to_owned()),
            (false, None) => Profiling::Shown,
        },
    )
}

/// Levels above those of ordinary news tell nothing but failures, which are told anyway.
fn logging<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Bool(on) => on,
        Value::String(level) => matches!(level.as_str(), "INFO" | "DEBUG" | "NOTSET"),
        _ => false,
    })
}
