//! The log of a dataset: one entry for each version, from which the earlier ones can be read again.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::private;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::write::{Durability, Expect, Object};

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

/// The versions of a dataset.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// In their order; those of a dataset that no transaction has changed are none.
    pub entries: Vec<Entry>,
}

impl Log {
    /// Reads the log of the dataset at the location of `store`.
    ///
    /// # Errors
    /// `Corrupt` when an entry is damaged, `Io` when the storage fails.
    pub async fn read(store: &Store) -> Result<Self> {
        let keys = store.list_all(&private("log")).await?;
        Self::of_keys(store, &keys).await
    }

    /// Reads the last entry of the log alone, which is all that the next one depends on.
    pub(super) async fn last(store: &Store) -> Result<Self> {
        let mut keys = store.list_all(&private("log")).await?;
        keys.drain(..keys.len().saturating_sub(1));
        Self::of_keys(store, &keys).await
    }

    async fn of_keys(store: &Store, keys: &[String]) -> Result<Self> {
        let mut entries = Vec::new();
        for key in keys {
            let Some(bytes) = store.get(key).await? else {
                continue;
            };
            let entry: Entry = serde_json::from_slice(&bytes)
                .map_err(|e| Error::Corrupt(format!("{key} is damaged: {e}")))?;
            entries.push(entry);
        }
        entries.sort_by_key(|entry| entry.version);
        Ok(Self { entries })
    }

    /// The entry of a dataset that did not exist before.
    pub(super) fn first(operation: &str, lengths: BTreeMap<String, u64>) -> Vec<Entry> {
        vec![entry(0, operation, lengths, false)]
    }

    /// The entries of a change from lengths `before` to `after`: the first change is preceded by what it found.
    pub(super) fn next(
        &self,
        operation: &str,
        before: BTreeMap<String, u64>,
        after: BTreeMap<String, u64>,
        rewrites: bool,
    ) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut version = match self.entries.last() {
            // Somebody else has changed the dataset, or a writer died before he could log.
            Some(last) if last.lengths != before => {
                entries.push(entry(last.version + 1, "found", before, false));
                last.version + 1
            }
            Some(last) => last.version,
            None => {
                entries.push(entry(0, "found", before, false));
                0
            }
        };
        version += 1;
        entries.push(entry(version, operation, after, rewrites));
        entries
    }
}

fn entry(version: u64, operation: &str, lengths: BTreeMap<String, u64>, rewrites: bool) -> Entry {
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

/// Writes entries; one that is there already is written again.
pub(super) async fn write(store: &Store, entries: &[Entry], durability: Durability) -> Result<()> {
    store.put_all(objects(entries)?, durability).await.map(drop)
}

/// The objects that entries are.
pub(super) fn objects(entries: &[Entry]) -> Result<Vec<Object>> {
    entries
        .iter()
        .map(|entry| {
            let json = serde_json::to_vec(entry)
                .map_err(|e| Error::Invalid(format!("the log cannot be written: {e}")))?;
            Ok(Object {
                key: private(&format!("log/{:020}.json", entry.version)),
                bytes: json.into(),
                expect: Expect::Anything,
            })
        })
        .collect()
}
