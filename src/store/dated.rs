//! Objects with their sizes and the times at which they were written.

use std::time::SystemTime;

use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::{Backend, Store, below, local_path};
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
            let stat = std::fs::metadata(local_path(root, &key));
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
            Backend::Local { root, .. } => std::fs::metadata(local_path(root, key))
                .and_then(|stat| stat.modified())
                .map_err(|e| self.failed(key, e)),
            Backend::Remote { objects, prefix } => objects
                .head(&below(prefix, key))
                .await
                .map(|meta| meta.last_modified.into())
                .map_err(|e| self.remote_failed(key, e)),
        }
    }

    /// All objects below a key of a store that is not local, with their keys; none for a local one.
    pub(super) async fn list_remote(&self, key: &str) -> Result<Vec<(String, ObjectMeta)>> {
        let Backend::Remote { objects, prefix } = &self.backend else {
            return Ok(Vec::new());
        };
        let listed: Vec<ObjectMeta> = objects
            .list(Some(&below(prefix, key)))
            .try_collect()
            .await
            .map_err(|e| self.remote_failed(key, e))?;
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
