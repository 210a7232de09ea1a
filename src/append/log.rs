//! The log of a dataset: one entry for each version, from which the earlier ones can be read again.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::private;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::write::{Expect, Object};

/// One version of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counted from the state in which the first transaction found the dataset, 0.
    pub version: u64,
    /// Milliseconds since 1970, UTC, by the clock of the writer.
    pub time: u64,
    /// What was done: `append`, `replace` …
    pub operation: String,
    /// Lengths of the dimensions, by `group/name`.
    pub lengths: BTreeMap<String, u64>,
    /// Whether cells of the version before got other values, so that it cannot be read any more.
    #[serde(default)]
    pub rewrites: bool,
}

/// The versions of a dataset, in their order; a dataset that no transaction has changed has none.
#[derive(Clone, Debug, Default)]
pub struct Log(pub Vec<Entry>);

impl Log {
    /// Reads the log of the dataset at the location of `store`.
    ///
    /// # Errors
    /// `Corrupt` when an entry is damaged, `Io` when the storage fails.
    pub async fn read(store: &Store) -> Result<Self> {
        let mut entries = Vec::new();
        for key in store.list_all(&private("log")).await? {
            entries.extend(read(store, &key).await?);
        }
        entries.sort_by_key(|entry| entry.version);
        Ok(Self(entries))
    }

    /// The entry of a version whose cells are all still what they were.
    ///
    /// # Errors
    /// `NotFound` when there is no such version, `Invalid` when a later one has replaced or removed cells of it.
    pub fn version(&self, version: u64) -> Result<&Entry> {
        let at = self.0.iter().position(|entry| entry.version == version);
        let Some((entry, later)) = at.and_then(|at| self.0.get(at..)?.split_first()) else {
            return Err(Error::NotFound(match (self.0.first(), self.0.last()) {
                (Some(first), Some(last)) => format!(
                    "there is no version {version}; there are {} to {}",
                    first.version, last.version
                ),
                _ => format!(
                    "there is no version {version}: no transaction has changed the dataset so far"
                ),
            }));
        };
        match later.iter().find(|later| later.spoils(entry)) {
            None => Ok(entry),
            Some(later) => Err(Error::Invalid(format!(
                "version {version} cannot be read any more, because version {} ({}) changed cells of it",
                later.version, later.operation
            ))),
        }
    }
}

/// The number of a version.
///
/// # Errors
/// `Invalid` when it is none.
pub fn number(version: &str) -> Result<u64> {
    version
        .parse()
        .map_err(|_| Error::Invalid(format!("{version} is not the number of a version")))
}

/// The newest version of a dataset, if there is one.
pub(super) async fn last(store: &Store) -> Result<Option<Entry>> {
    match store.list_all(&private("log")).await?.last() {
        Some(key) => read(store, key).await,
        None => Ok(None),
    }
}

/// Its number.
pub(super) async fn newest(store: &Store) -> Result<Option<u64>> {
    let keys = store.list_all(&private("log")).await?;
    Ok(keys.last().and_then(|key| {
        let (_, name) = key.rsplit_once('/')?;
        name.strip_suffix(".json")?.parse().ok()
    }))
}

/// The entry of a version, if there is one.
pub(super) async fn entry(store: &Store, version: u64) -> Result<Option<Entry>> {
    read(store, &key(version)).await
}

/// Where the entry of a version is.
pub(super) fn key(version: u64) -> String {
    private(&format!("log/{version:020}.json"))
}

async fn read(store: &Store, key: &str) -> Result<Option<Entry>> {
    let Some(bytes) = store.get(key).await? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| Error::Corrupt(format!("{key} is damaged: {e}")))
}

impl Entry {
    /// The entry of a dataset that did not exist before.
    pub(super) fn first(operation: &str, lengths: BTreeMap<String, u64>) -> Vec<Self> {
        vec![made(0, operation, lengths, false)]
    }

    /// The entries of a change, after the entry `last`, from lengths `before` to `after`: what has not been logged
    /// before comes first.
    pub(super) fn next(
        last: Option<&Self>,
        operation: &str,
        before: BTreeMap<String, u64>,
        after: BTreeMap<String, u64>,
        rewrites: bool,
    ) -> Vec<Self> {
        let mut entries = Vec::new();
        let mut version = match last {
            // Somebody else has changed the dataset, or a writer died before he could log.
            Some(last) if last.lengths != before => {
                entries.push(made(last.version + 1, "found", before, false));
                last.version + 1
            }
            Some(last) => last.version,
            None => {
                entries.push(made(0, "found", before, false));
                0
            }
        };
        version += 1;
        entries.push(made(version, operation, after, rewrites));
        entries
    }

    /// Whether cells of an earlier version have got other values by this one, or are gone.
    pub(super) fn spoils(&self, earlier: &Self) -> bool {
        let shorter = |(dimension, length): (&String, &u64)| {
            self.lengths.get(dimension).is_some_and(|now| now < length)
        };
        self.rewrites || earlier.lengths.iter().any(shorter)
    }
}

fn made(version: u64, operation: &str, lengths: BTreeMap<String, u64>, rewrites: bool) -> Entry {
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| {
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
        });
    Entry {
        version,
        time,
        operation: operation.to_owned(),
        lengths,
        rewrites,
    }
}

/// The objects of entries; one that is there already is replaced.
pub(super) fn objects(entries: &[Entry]) -> Result<Vec<Object>> {
    entries
        .iter()
        .map(|entry| {
            let json = serde_json::to_vec(entry)
                .map_err(|e| Error::Invalid(format!("the log cannot be written: {e}")))?;
            Ok(Object {
                key: key(entry.version),
                bytes: json.into(),
                expect: Expect::Anything,
            })
        })
        .collect()
}
