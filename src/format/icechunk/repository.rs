//! Repositories: from a location to the snapshot that is meant.

use std::collections::HashMap;
use std::sync::Arc;

use futures::TryStreamExt;
use icechunk::Repository;
use icechunk::format::{IcechunkFormatErrorKind, SnapshotId};
use icechunk::refs::RefErrorKind;
use icechunk::repository::{RepositoryErrorKind, VersionInfo};
use icechunk::session::SessionErrorKind;
use icechunk::storage::StorageErrorKind;

use super::storage::Bridge;
use crate::error::{Error, Result};
use crate::format::{Reference, Snapshot};
use crate::store::Store;
use crate::store::write::Durability;

/// Opens the repository at the location of the store.
pub(super) async fn open(store: &Store, durability: Durability) -> Result<Repository> {
    let bridge = Arc::new(Bridge::new(store, durability));
    Repository::open(None, bridge, HashMap::new())
        .await
        .map_err(|failure| error(failure.kind))
}

/// What a reference names.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) snapshot: SnapshotId,
    /// The branch, if it is one.
    pub(super) branch: Option<String>,
}

/// The snapshot that `reference` names.
pub(super) async fn resolve(repository: &Repository, reference: &Reference) -> Result<Resolved> {
    let branches = repository
        .list_branches()
        .await
        .map_err(|failure| error(failure.kind))?;
    let tags = repository
        .list_tags()
        .await
        .map_err(|failure| error(failure.kind))?;
    let (name, kinds) = match reference {
        Reference::Branch(name) => (name, (true, false, false)),
        Reference::Tag(name) => (name, (false, true, false)),
        Reference::Snapshot(name) => (name, (false, false, true)),
        Reference::Named(name) => (name, (true, true, true)),
    };
    let is_branch = kinds.0 && branches.contains(name);
    let is_tag = kinds.1 && tags.contains(name);
    let version = match (is_branch, is_tag) {
        (true, true) => {
            return Err(Error::Invalid(format!(
                "{name} is a branch and a tag; write #branch={name} or #tag={name}"
            )));
        }
        (true, false) => VersionInfo::BranchTipRef(name.clone()),
        (false, true) => VersionInfo::TagRef(name.clone()),
        (false, false) => {
            // Some of the last bits of an id are none of it.
            let is_id = |id: &SnapshotId| kinds.2 && id.to_string() == *name;
            let id = SnapshotId::try_from(name.as_str()).ok().filter(is_id);
            let known = match &id {
                Some(id) => repository.lookup_snapshot(id).await.is_ok(),
                None => false,
            };
            match id {
                Some(id) if known => VersionInfo::SnapshotId(id),
                _ => {
                    let list = |names: &mut dyn Iterator<Item = &String>| {
                        names.map(String::as_str).collect::<Vec<_>>().join(", ")
                    };
                    return Err(Error::NotFound(format!(
                        "there is no {reference}; branches: {}; tags: {}",
                        list(&mut branches.iter()),
                        list(&mut tags.iter())
                    )));
                }
            }
        }
    };
    let snapshot = repository
        .resolve_version(&version)
        .await
        .map_err(|failure| error(failure.kind))?;
    Ok(Resolved {
        snapshot,
        branch: is_branch.then(|| name.clone()),
    })
}

/// A snapshot and those before it.
pub(super) async fn history(
    repository: &Repository,
    snapshot: SnapshotId,
) -> Result<Vec<Snapshot>> {
    let failed = |failure: icechunk::repository::RepositoryError| error(failure.kind);
    let mut branches: HashMap<SnapshotId, Vec<String>> = HashMap::new();
    for branch in repository.list_branches().await.map_err(failed)? {
        let tip = repository.lookup_branch(&branch).await.map_err(failed)?;
        branches.entry(tip).or_default().push(branch);
    }
    let mut tags: HashMap<SnapshotId, Vec<String>> = HashMap::new();
    for tag in repository.list_tags().await.map_err(failed)? {
        let tagged = repository.lookup_tag(&tag).await.map_err(failed)?;
        tags.entry(tagged).or_default().push(tag);
    }
    let ancestry = repository
        .ancestry(&VersionInfo::SnapshotId(snapshot))
        .await
        .map_err(failed)?;
    ancestry
        .map_ok(|snapshot| Snapshot {
            branches: branches.remove(&snapshot.id).unwrap_or_default(),
            tags: tags.remove(&snapshot.id).unwrap_or_default(),
            id: snapshot.id.to_string(),
            time: snapshot.flushed_at.into(),
            message: snapshot.message,
        })
        .map_err(failed)
        .try_collect()
        .await
}

/// What a failure of Icechunk means to a caller of ours.
pub(super) fn error(kind: RepositoryErrorKind) -> Error {
    match kind {
        RepositoryErrorKind::StorageError(kind) => of_storage(kind),
        RepositoryErrorKind::FormatError(kind) => of_format(&kind),
        RepositoryErrorKind::Ref(RefErrorKind::Storage(kind)) => of_storage(kind),
        RepositoryErrorKind::Ref(RefErrorKind::Conflict { .. })
        | RepositoryErrorKind::Conflict { .. }
        | RepositoryErrorKind::RepoInfoUpdated
        | RepositoryErrorKind::RepoUpdateAttemptsLimit(_) => overtaken(),
        RepositoryErrorKind::Ref(kind) => Error::Corrupt(kind.to_string()),
        RepositoryErrorKind::IOError(damage) => {
            Error::Corrupt(format!("an object of the repository is damaged: {damage}"))
        }
        kind @ (RepositoryErrorKind::SnapshotNotFound { .. }
        | RepositoryErrorKind::RepositoryDoesntExist) => Error::NotFound(kind.to_string()),
        kind @ (RepositoryErrorKind::ReadonlyRepository(_)
        | RepositoryErrorKind::BadRepoVersion { .. }) => Error::Unsupported(kind.to_string()),
        kind => Error::Corrupt(kind.to_string()),
    }
}

/// The same for a session.
pub(super) fn of_session(kind: SessionErrorKind) -> Error {
    match kind {
        SessionErrorKind::RepositoryError(kind) => error(kind),
        SessionErrorKind::StorageError(kind) => of_storage(kind),
        SessionErrorKind::FormatError(kind) => of_format(&kind),
        SessionErrorKind::RefError(RefErrorKind::Storage(kind)) => of_storage(kind),
        SessionErrorKind::RefError(RefErrorKind::Conflict { .. })
        | SessionErrorKind::Conflict { .. }
        | SessionErrorKind::RebaseFailed { .. } => overtaken(),
        kind => Error::Invalid(kind.to_string()),
    }
}

fn of_storage(kind: StorageErrorKind) -> Error {
    match kind {
        StorageErrorKind::ObjectStore(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(inner) => Error::io("the repository cannot be read or written", inner),
        },
        StorageErrorKind::ObjectNotFound => {
            Error::Corrupt("an object that the repository refers to is not there".to_owned())
        }
        kind => Error::io("the repository cannot be read or written", kind.to_string()),
    }
}

fn of_format(kind: &IcechunkFormatErrorKind) -> Error {
    Error::Corrupt(kind.to_string())
}

fn overtaken() -> Error {
    Error::Conflict("somebody else has changed the repository meanwhile".to_owned())
}
