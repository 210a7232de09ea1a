//! The store of a repository as Icechunk asks for it: the same credentials, durability and conditional writes as everywhere.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::io::Cursor;
use std::ops::Range;
use std::pin::Pin;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use icechunk::storage::{
    DeleteObjectsResult, ETag, Generation, GetModifiedResult, ListInfo, Settings, Storage,
    StorageError, StorageErrorKind, StorageInfo, StorageResult, VersionInfo, VersionedUpdateResult,
};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::store::Store;
use crate::store::write::{Durability, Expect, Put, Version};

/// The object that makes a repository; what is not in it is in no snapshot.
pub(super) const ENTRY: &str = "repo";

/// A store with the methods that Icechunk asks of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(super) struct Bridge {
    store: Store,
    durability: Durability,
    /// The key of the object by which the repository is found: another one as long as nobody shall find it.
    entry: String,
}

type Reader = Pin<Box<dyn tokio::io::AsyncBufRead + Send>>;
type Chunks = Pin<Box<dyn Stream<Item = StorageResult<Bytes>> + Send>>;

impl Bridge {
    pub(super) fn new(store: &Store, durability: Durability) -> Self {
        Self::hidden(store, durability, ENTRY)
    }

    /// A repository that nobody finds, because the object that makes it one has the key `entry`.
    pub(super) fn hidden(store: &Store, durability: Durability, entry: &str) -> Self {
        Self {
            store: store.clone(),
            durability,
            entry: entry.to_owned(),
        }
    }

    fn key<'a>(&'a self, path: &'a str) -> &'a str {
        if path == ENTRY { &self.entry } else { path }
    }

    /// An object with its version. Local files have none: there it is a sum of what they hold, so that it can be
    /// compared under the lock that every writer of ours has.
    async fn get(&self, key: &str) -> StorageResult<(Bytes, VersionInfo)> {
        let got = self.store.get_versioned(key).await.map_err(failed)?;
        let (bytes, version) =
            got.ok_or_else(|| StorageError::capture(StorageErrorKind::ObjectNotFound))?;
        let version = if self.store.is_local() {
            VersionInfo::from_etag_only(sum(&bytes))
        } else {
            told(version)
        };
        Ok((bytes, version))
    }

    async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        previous: Option<&VersionInfo>,
    ) -> StorageResult<VersionedUpdateResult> {
        let expect = match previous {
            None => Expect::Anything,
            Some(version) if version.is_create() => Expect::Absent,
            Some(version) if self.store.is_local() => {
                match self.get(key).await {
                    Ok((_, present)) if present == *version => {}
                    Ok(_) => return Ok(VersionedUpdateResult::NotOnLatestVersion),
                    Err(error) => return Err(error),
                }
                Expect::Anything
            }
            Some(version) => Expect::Version(Version {
                e_tag: version.etag().cloned(),
                version: version.generation().cloned(),
            }),
        };
        let local = self.store.is_local().then(|| sum(&bytes));
        let put = self.store.put(key, bytes, expect, self.durability).await;
        Ok(match put.map_err(failed)? {
            Put::Conflict => VersionedUpdateResult::NotOnLatestVersion,
            Put::Done(version) => VersionedUpdateResult::Updated {
                new_version: match local {
                    Some(sum) => VersionInfo::from_etag_only(sum),
                    None => told(version),
                },
            },
        })
    }
}

impl icechunk_storage::sealed::Sealed for Bridge {}

#[async_trait]
#[typetag::serde(name = "hyperslab")]
impl Storage for Bridge {
    fn storage_info(&self) -> StorageInfo {
        StorageInfo {
            backend_type: "hyperslab",
            fields: vec![("location", self.store.location().to_owned())],
        }
    }

    async fn can_write(&self) -> StorageResult<bool> {
        Ok(true)
    }

    async fn get_object(
        &self,
        _: &Settings,
        path: &str,
        range: Option<&Range<u64>>,
    ) -> StorageResult<(Reader, VersionInfo)> {
        let (bytes, version) = self.read(path, range).await?;
        Ok((Box::pin(Cursor::new(bytes)), version))
    }

    async fn get_object_range(
        &self,
        _: &Settings,
        path: &str,
        range: Option<&Range<u64>>,
    ) -> StorageResult<(Chunks, VersionInfo)> {
        let (bytes, version) = self.read(path, range).await?;
        Ok((Box::pin(stream::once(async { Ok(bytes) })), version))
    }

    async fn put_object(
        &self,
        _: &Settings,
        path: &str,
        bytes: Bytes,
        _: Option<&str>,
        _: Vec<(String, String)>,
        previous_version: Option<&VersionInfo>,
    ) -> StorageResult<VersionedUpdateResult> {
        self.put(self.key(path), bytes, previous_version).await
    }

    async fn copy_object(
        &self,
        _: &Settings,
        from: &str,
        to: &str,
        _: Option<&str>,
        version: &VersionInfo,
    ) -> StorageResult<VersionedUpdateResult> {
        let (bytes, present) = self.get(self.key(from)).await?;
        if present != *version {
            return Ok(VersionedUpdateResult::NotOnLatestVersion);
        }
        self.put(self.key(to), bytes, None).await?;
        Ok(VersionedUpdateResult::Updated {
            new_version: present,
        })
    }

    async fn list_objects<'a>(
        &'a self,
        _: &Settings,
        prefix: &str,
    ) -> StorageResult<BoxStream<'a, StorageResult<ListInfo<String>>>> {
        let prefix = prefix.trim_end_matches('/');
        let listed = self.store.list_dated(prefix).await.map_err(failed)?;
        let skipped = if prefix.is_empty() {
            0
        } else {
            prefix.len() + 1
        };
        let infos: Vec<StorageResult<ListInfo<String>>> = listed
            .into_iter()
            .map(|object| {
                Ok(ListInfo {
                    id: object.key.get(skipped..).unwrap_or_default().to_owned(),
                    created_at: object.modified.into(),
                    size_bytes: object.size,
                })
            })
            .collect();
        Ok(stream::iter(infos).boxed())
    }

    async fn delete_batch(
        &self,
        _: &Settings,
        prefix: &str,
        batch: Vec<(String, u64)>,
    ) -> StorageResult<DeleteObjectsResult> {
        let prefix = prefix.trim_end_matches('/');
        let keys: Vec<String> = batch
            .iter()
            .map(|(id, _)| format!("{prefix}/{id}"))
            .collect();
        self.store.delete_all(&keys).await.map_err(failed)?;
        Ok(DeleteObjectsResult {
            deleted_objects: batch.len() as u64,
            deleted_bytes: batch.iter().map(|(_, size)| size).sum(),
        })
    }

    async fn get_object_last_modified(
        &self,
        path: &str,
        _: &Settings,
    ) -> StorageResult<chrono::DateTime<chrono::Utc>> {
        let modified: SystemTime = self.store.modified(self.key(path)).await.map_err(failed)?;
        Ok(modified.into())
    }

    async fn get_object_conditional(
        &self,
        _: &Settings,
        path: &str,
        previous_version: Option<&VersionInfo>,
    ) -> StorageResult<GetModifiedResult> {
        let (bytes, version) = self.get(self.key(path)).await?;
        Ok(if previous_version == Some(&version) {
            GetModifiedResult::OnLatestVersion
        } else {
            GetModifiedResult::Modified {
                data: Box::pin(Cursor::new(bytes)),
                new_version: version,
            }
        })
    }
}

impl Bridge {
    async fn read(
        &self,
        path: &str,
        range: Option<&Range<u64>>,
    ) -> StorageResult<(Bytes, VersionInfo)> {
        let key = self.key(path);
        let Some(range) = range else {
            return self.get(key).await;
        };
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let read = self.store.range(key, range.start, length).await;
        Ok((read.map_err(failed)?, VersionInfo::for_creation()))
    }
}

impl fmt::Display for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.store.location())
    }
}

/// Icechunk lets stores travel; ours never do, but they could as their locations.
impl From<Bridge> for String {
    fn from(bridge: Bridge) -> Self {
        bridge.store.location().to_owned()
    }
}

impl TryFrom<String> for Bridge {
    type Error = Error;

    fn try_from(location: String) -> Result<Self, Error> {
        Ok(Self::new(&Store::open(&location)?, Durability::Full))
    }
}

fn told(version: Version) -> VersionInfo {
    VersionInfo {
        etag: version.e_tag.map(ETag),
        generation: version.version.map(Generation),
    }
}

fn sum(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("{}-{:016x}", bytes.len(), hasher.finish())
}

/// Our error travels through Icechunk as it is; see [`super::repository::error`].
fn failed(error: Error) -> StorageError {
    StorageError::capture(match error {
        Error::NotFound(_) => StorageErrorKind::ObjectNotFound,
        error => StorageErrorKind::ObjectStore(Box::new(error)),
    })
}
