//! Icechunk: repositories of snapshots, each of which is a Zarr hierarchy.
//!
//! ```text
//! storage      a store as Icechunk asks for it       repository   a location -> the snapshot that is meant
//! index        chunks -> what manifests say of them  append       cells -> chunks of a session
//! commit       a session -> a snapshot               orphans      what is in no snapshot
//! ```

mod append;
mod commit;
mod index;
mod orphans;
mod repository;
mod storage;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use icechunk::Repository;
use icechunk::format::snapshot::{NodeData, NodeSnapshot, Snapshot as SnapshotFile};
use icechunk::format::{SNAPSHOTS_FILE_PATH, SnapshotId, V1_REFS_FILE_PATH};
use icechunk::refs::Ref;

use crate::array::blueprint::Blueprint;
use crate::array::{Dataset, Group};
use crate::error::{Error, Result, Within};
use crate::format::zarr::given;
use crate::format::{Appender, Format, Reference, Snapshot, Versions};
use crate::store::Store;
use crate::store::lock::Lock;
use crate::store::write::Durability;

use index::Arrays;
use storage::ENTRY;

/// Repositories of Icechunk, of both versions of its format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Icechunk;

#[async_trait]
impl Format for Icechunk {
    fn name(&self) -> &'static str {
        "icechunk"
    }

    async fn sniff(&self, store: &Store, head: &[u8]) -> Result<bool> {
        if !head.is_empty() {
            return Ok(false);
        }
        // The branch that every repository of the first version of the format has.
        let first = format!(
            "{V1_REFS_FILE_PATH}/branch.{}/ref.json",
            Ref::DEFAULT_BRANCH
        );
        for (mark, beside) in [(ENTRY, true), (first.as_str(), false)] {
            match store.size(mark).await {
                Ok(_) if !beside => return Ok(true),
                // Any dataset may have something called so, but not beside snapshots.
                Ok(_) => match store.list(SNAPSHOTS_FILE_PATH).await {
                    Ok(snapshots) if !snapshots.is_empty() => return Ok(true),
                    Ok(_) | Err(Error::NotFound(_)) => {}
                    Err(error) => return Err(error),
                },
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    async fn open(&self, store: &Store) -> Result<Dataset> {
        let (dataset, _) = Versions::open(self, store, &main()).await?;
        Ok(dataset)
    }

    fn versions(&self) -> Option<&'static dyn Versions> {
        Some(&Self)
    }

    async fn begin(
        &self,
        store: &Store,
        _: &Arc<Lock>,
        durability: Durability,
    ) -> Result<Box<dyn Appender>> {
        Versions::begin(self, store, Ref::DEFAULT_BRANCH, durability).await
    }

    async fn create(
        &self,
        store: &Store,
        blueprint: &Blueprint,
        _: &Arc<Lock>,
        durability: Durability,
    ) -> Result<Box<dyn Appender>> {
        Ok(Box::new(
            append::create(store, blueprint, durability).await?,
        ))
    }
}

#[async_trait]
impl Versions for Icechunk {
    fn default_branch(&self) -> &'static str {
        Ref::DEFAULT_BRANCH
    }

    async fn open(
        &self,
        store: &Store,
        reference: &Reference,
    ) -> Result<(Dataset, Option<String>)> {
        let read = async {
            let repository = repository::open(store, Durability::Full).await?;
            let resolved = repository::resolve(&repository, reference).await?;
            let hierarchy = Hierarchy::read(&repository, &resolved.snapshot).await?;
            Ok((hierarchy.dataset(store, &repository)?, resolved.branch))
        };
        read.await.within(|| store.location())
    }

    async fn begin(
        &self,
        store: &Store,
        branch: &str,
        durability: Durability,
    ) -> Result<Box<dyn Appender>> {
        Ok(Box::new(append::begin(store, branch, durability).await?))
    }

    async fn history(&self, store: &Store, reference: &Reference) -> Result<Vec<Snapshot>> {
        let repository = repository::open(store, Durability::Full).await?;
        let resolved = repository::resolve(&repository, reference).await;
        repository::history(&repository, resolved?.snapshot).await
    }

    async fn reset(
        &self,
        store: &Store,
        branch: &str,
        to: &Reference,
        durability: Durability,
    ) -> Result<()> {
        let repository = repository::open(store, durability).await?;
        let from = Reference::Branch(branch.to_owned());
        let from = repository::resolve(&repository, &from).await?.snapshot;
        let to = repository::resolve(&repository, to).await?.snapshot;
        repository
            .reset_branch(branch, &to, Some(&from))
            .await
            .map_err(|failure| repository::error(failure.kind))
    }
}

/// The version that is meant where none is named.
fn main() -> Reference {
    Reference::Branch(Ref::DEFAULT_BRANCH.to_owned())
}

/// The members of a snapshot.
struct Hierarchy {
    snapshot: Arc<SnapshotFile>,
    /// Metadata documents by the paths of the members.
    documents: Vec<(String, Bytes)>,
    arrays: HashMap<String, NodeSnapshot>,
}

impl Hierarchy {
    /// Reads what is in a snapshot.
    async fn read(repository: &Repository, id: &SnapshotId) -> Result<Self> {
        let snapshot = repository.asset_manager().fetch_snapshot(id).await;
        let snapshot = snapshot.map_err(|failure| repository::error(failure.kind))?;
        let mut documents = Vec::new();
        let mut arrays = HashMap::new();
        for node in snapshot.iter() {
            let node = node.map_err(|failure| Error::Corrupt(failure.kind.to_string()))?;
            let path = node.path.to_string().trim_start_matches('/').to_owned();
            documents.push((path.clone(), node.user_data.clone()));
            if matches!(node.node_data, NodeData::Array { .. }) {
                arrays.insert(path, node);
            }
        }
        Ok(Self {
            snapshot,
            documents,
            arrays,
        })
    }

    /// The dataset that it is.
    fn dataset(&self, store: &Store, repository: &Repository) -> Result<Dataset> {
        let places = Arrays::new(
            repository.asset_manager(),
            &self.snapshot,
            self.arrays.clone(),
        );
        // A repository begins without anything.
        let root = if self.documents.is_empty() {
            Group::default()
        } else {
            given(store, &self.documents, &places)?
        };
        Ok(Dataset {
            location: store.location().into(),
            format: Icechunk.name(),
            root,
        })
    }
}
