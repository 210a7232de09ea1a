//! How rows are inserted, by the settings of a session.

use std::time::Duration;

use crate::append::AppendOptions;
use crate::error::{Error, Result};
use crate::query::HyperslabOptions;
use crate::store::lock::LockOptions;
use crate::store::write::Durability;

/// What is done about values of the growing dimension that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// They are an error.
    Error,
    /// Their rows are left out.
    Skip,
    /// Their cells get the new values.
    Replace,
    /// Their slices are replaced, each as a whole.
    Overwrite,
}

/// What is done about cells of new slices, and variables, that no row gives a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// They are an error.
    Error,
    /// They are missing values.
    Fill,
}

/// How rows are inserted.
#[derive(Clone, Debug)]
pub struct InsertOptions {
    pub(super) existing: Existing,
    pub(super) missing: Missing,
    pub(super) append: AppendOptions,
    /// The dimension that grows, if a setting names one.
    pub(super) dimension: Option<String>,
}

impl InsertOptions {
    /// What the settings of a session say.
    ///
    /// # Errors
    /// `Invalid` naming a setting whose value is none.
    pub fn new(options: &HyperslabOptions) -> Result<Self> {
        let wrong = |name: &str, value: &str, known: &str| {
            Error::Invalid(format!(
                "hyperslab.{name} is '{value}', but has to be one of {known}"
            ))
        };
        Ok(Self {
            existing: match options.insert_existing.as_str() {
                "error" => Existing::Error,
                "skip" => Existing::Skip,
                "replace" => Existing::Replace,
                other => return Err(wrong("insert_existing", other, "error, skip, replace")),
            },
            missing: match options.insert_missing.as_str() {
                "error" => Missing::Error,
                "fill" => Missing::Fill,
                other => return Err(wrong("insert_missing", other, "error, fill")),
            },
            append: append_options(options)?,
            dimension: (!options.append_dim.is_empty()).then(|| options.append_dim.clone()),
        })
    }

    /// How transactions wait and write.
    #[must_use]
    pub fn append(&self) -> AppendOptions {
        self.append
    }

    /// The same, with cells that are there being replaced.
    #[must_use]
    pub fn replacing(self) -> Self {
        Self {
            existing: Existing::Replace,
            ..self
        }
    }

    /// The same, with slices that are there being replaced, all of their cells.
    #[must_use]
    pub fn overwriting(self) -> Self {
        Self {
            existing: Existing::Overwrite,
            ..self
        }
    }
}

/// How transactions wait and write, by the settings of a session.
///
/// # Errors
/// `Invalid` naming a setting whose value is none.
pub fn append_options(options: &HyperslabOptions) -> Result<AppendOptions> {
    Ok(AppendOptions {
        lock: LockOptions {
            timeout: duration("lock_timeout", &options.lock_timeout)?,
            lease: duration("lock_lease", &options.lock_lease)?,
        },
        durability: match options.durability.as_str() {
            "full" => Durability::Full,
            "none" => Durability::None,
            other => {
                return Err(Error::Invalid(format!(
                    "hyperslab.durability is '{other}', but has to be one of full, none"
                )));
            }
        },
    })
}

/// `30s`, `500ms`, `2m`, or a number of seconds.
fn duration(name: &str, text: &str) -> Result<Duration> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "s" => Some(1.0),
        "ms" => Some(0.001),
        "m" | "min" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    };
    factor
        .zip(number.parse::<f64>().ok())
        .and_then(|(factor, number)| Duration::try_from_secs_f64(number * factor).ok())
        .ok_or_else(|| {
            Error::Invalid(format!(
                "hyperslab.{name} is '{text}', which is no duration like 30s, 500ms or 2m"
            ))
        })
}
