//! What is below a key, and when it was written.

use std::fs;
use std::time::SystemTime;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::{Backend, Entry, Store, absent, below, join, local_path};
use crate::error::Result;

/// An object of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated {
    /// Key below the location.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written.
    pub modified: SystemTime,
}

impl Store {
    /// The entries directly below `key`, sorted.
    ///
    /// # Errors
    /// `NotFound` when a local directory does not exist, `Io` when the storage fails.
    pub async fn list(&self, key: &str) -> Result<Vec<Entry>> {
        let mut entries = match &self.backend {
            Backend::Local { root, aside, .. } => {
                let mut entries: Vec<Entry> = aside
                    .keys()
                    .filter_map(|to| {
                        let below = to.strip_prefix(key)?.trim_start_matches('/');
                        let (name, is_directory) = match below.split_once('/') {
                            Some((name, _)) => (name, true),
                            None => (below, false),
                        };
                        let key = join(key, name);
                        to.starts_with(&key).then_some(Entry { key, is_directory })
                    })
                    .collect();
                let directory =
                    fs::read_dir(local_path(root, key)).map_err(|e| self.failed(key, e))?;
                for entry in directory {
                    let entry = entry.map_err(|e| self.failed(key, e))?;
                    // Names that are not UTF-8 cannot be keys of any format here.
                    let Ok(name) = entry.file_name().into_string() else {
                        continue;
                    };
                    let is_directory = entry.path().is_dir();
                    entries.push(Entry {
                        key: join(key, &name),
                        is_directory,
                    });
                }
                entries
            }
            Backend::Remote(remote) => {
                let listed = remote
                    .objects()
                    .list_with_delimiter(Some(&below(&remote.prefix, key)))
                    .await;
                let listed = match listed {
                    Ok(listed) if self.is_web() && listed.common_prefixes.is_empty() => {
                        return Err(self.not_listed(key));
                    }
                    Err(_) if self.is_web() => return Err(self.not_listed(key)),
                    listed => listed.map_err(|e| self.remote_failed(key, &e))?,
                };
                let entry = |path: &Path, is_directory| Entry {
                    key: join(key, path.filename().unwrap_or_default()),
                    is_directory,
                };
                listed
                    .common_prefixes
                    .iter()
                    .map(|path| entry(path, true))
                    .chain(
                        listed
                            .objects
                            .iter()
                            .map(|meta| entry(&meta.location, false)),
                    )
                    .collect()
            }
        };
        entries.sort();
        entries.dedup();
        Ok(entries)
    }

    /// The keys of all objects below a key, sorted.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub async fn list_all(&self, key: &str) -> Result<Vec<String>> {
        let mut keys = match &self.backend {
            Backend::Local { root, aside, .. } => {
                let own = format!("{key}/");
                let mut keys: Vec<String> = aside.keys().cloned().collect();
                keys.retain(|to| key.is_empty() || to.starts_with(&own));
                let mut directories = vec![key.to_owned()];
                while let Some(directory) = directories.pop() {
                    let entries = match fs::read_dir(local_path(root, &directory)) {
                        Ok(entries) => entries,
                        Err(e) if absent(&e) => continue,
                        Err(e) => return Err(self.failed(&directory, e)),
                    };
                    for entry in entries {
                        let entry = entry.map_err(|e| self.failed(&directory, e))?;
                        let Ok(name) = entry.file_name().into_string() else {
                            continue;
                        };
                        let below = join(&directory, &name);
                        let kind = entry.file_type().map_err(|e| self.failed(&below, e))?;
                        if kind.is_dir() {
                            directories.push(below);
                        } else {
                            keys.push(below);
                        }
                    }
                }
                keys
            }
            Backend::Remote(_) => {
                let listed = self.list_remote(key).await?;
                listed.into_iter().map(|(key, _)| key).collect()
            }
        };
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    /// All objects below a key, sorted by their keys.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub async fn list_dated(&self, key: &str) -> Result<Vec<Dated>> {
        let Backend::Local { root, .. } = &self.backend else {
            let mut listed: Vec<Dated> = self
                .list_remote(key)
                .await?
                .into_iter()
                .map(|(key, meta)| Dated {
                    key,
                    size: meta.size,
                    modified: meta.last_modified.into(),
                })
                .collect();
            listed.sort_by(|a, b| a.key.cmp(&b.key));
            return Ok(listed);
        };
        let mut listed = Vec::new();
        for key in self.list_all(key).await? {
            let stat = fs::metadata(local_path(root, &key));
            let stat = stat.and_then(|stat| Ok((stat.len(), stat.modified()?)));
            let (size, modified) = stat.map_err(|e| self.failed(&key, e))?;
            listed.push(Dated {
                key,
                size,
                modified,
            });
        }
        Ok(listed)
    }

    /// When an object was written.
    ///
    /// # Errors
    /// `NotFound` when there is no such object, `Io` when the storage fails.
    pub async fn modified(&self, key: &str) -> Result<SystemTime> {
        match &self.backend {
            Backend::Local { root, .. } => fs::metadata(local_path(root, key))
                .and_then(|stat| stat.modified())
                .map_err(|e| self.failed(key, e)),
            Backend::Remote(remote) => remote
                .objects()
                .head(&below(&remote.prefix, key))
                .await
                .map(|meta| meta.last_modified.into())
                .map_err(|e| self.remote_failed(key, &e)),
        }
    }

    /// All objects below a key of a store that is not local, with their keys; none for a local one.
    pub(super) async fn list_remote(&self, key: &str) -> Result<Vec<(String, ObjectMeta)>> {
        let Backend::Remote(remote) = &self.backend else {
            return Ok(Vec::new());
        };
        let prefix = &remote.prefix;
        let listed: Vec<ObjectMeta> = remote
            .objects()
            .list(Some(&below(prefix, key)))
            .try_collect()
            .await
            .map_err(|e| self.remote_failed(key, &e))?;
        let base = prefix.as_ref();
        Ok(listed
            .into_iter()
            .filter_map(|meta| {
                let key = meta.location.as_ref().strip_prefix(base)?;
                Some((key.trim_start_matches('/').to_owned(), meta))
            })
            .collect())
    }
}
