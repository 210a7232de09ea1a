//! Objects of a repository that no snapshot refers to: what writers that crashed have left.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use futures::{StreamExt, TryStreamExt, stream};
use icechunk::Repository;
use icechunk::format::format_constants::SpecVersionBin;
use icechunk::format::manifest::ChunkPayload;
use icechunk::format::{
    CHUNKS_FILE_PATH, MANIFESTS_FILE_PATH, ManifestId, SNAPSHOTS_FILE_PATH, SnapshotId,
    TRANSACTION_LOGS_FILE_PATH,
};

use super::repository::error;
use crate::error::{Error, Result};
use crate::store::Store;

/// Other programs know nothing of our lock: what is younger than this may be part of a commit that is still to come.
const AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Snapshots or manifests that are fetched at the same time.
const REQUESTS: usize = 8;

/// The objects that are in no snapshot, and are no part of a commit that is under way.
pub(super) async fn find(repository: &Repository, store: &Store) -> Result<Vec<String>> {
    let (snapshots, logs) = known(repository, store).await?;
    let manager = repository.asset_manager();
    let manifests: Vec<Vec<(ManifestId, u64)>> = stream::iter(snapshots.clone())
        .map(|id| async move {
            let snapshot = manager.fetch_snapshot(&id).await;
            let snapshot = snapshot.map_err(|failure| error(failure.kind))?;
            snapshot
                .manifest_files()
                .map(|file| {
                    let file = file.map_err(|failure| Error::Corrupt(failure.kind.to_string()))?;
                    Ok((file.id, file.size_bytes))
                })
                .collect::<Result<_>>()
        })
        .buffer_unordered(REQUESTS)
        .try_collect()
        .await?;
    let manifests: HashSet<(ManifestId, u64)> = manifests.into_iter().flatten().collect();
    let mut chunks = HashSet::new();
    let mut fetched = stream::iter(manifests.clone())
        .map(|(id, size)| async move { manager.fetch_manifest(&id, size).await })
        .buffer_unordered(REQUESTS);
    while let Some(manifest) = fetched.next().await {
        let manifest = manifest.map_err(|failure| error(failure.kind))?;
        let payloads = manifest.chunk_payloads();
        let damaged = |failure: icechunk::format::IcechunkFormatError| {
            Error::Corrupt(failure.kind.to_string())
        };
        for payload in payloads.map_err(damaged)? {
            if let ChunkPayload::Ref(chunk) = payload.map_err(damaged)? {
                chunks.insert(chunk.id.to_string());
            }
        }
    }
    let of = |ids: &HashSet<SnapshotId>| ids.iter().map(ToString::to_string).collect();
    let manifests = manifests.iter().map(|(id, _)| id.to_string()).collect();
    let kinds: [(&str, HashSet<String>); 4] = [
        (CHUNKS_FILE_PATH, chunks),
        (MANIFESTS_FILE_PATH, manifests),
        (SNAPSHOTS_FILE_PATH, of(&snapshots)),
        (TRANSACTION_LOGS_FILE_PATH, of(&logs)),
    ];
    let old = SystemTime::now().checked_sub(AGE);
    let mut orphans = Vec::new();
    for (directory, known) in kinds {
        for object in store.list_dated(directory).await? {
            let id = object.key.rsplit('/').next().unwrap_or_default();
            if !known.contains(id) && old.is_some_and(|old| object.modified < old) {
                orphans.push(object.key);
            }
        }
    }
    Ok(orphans)
}

/// The snapshots that can be named, and those whose transaction logs are needed.
async fn known(
    repository: &Repository,
    store: &Store,
) -> Result<(HashSet<SnapshotId>, HashSet<SnapshotId>)> {
    if repository.spec_version() == SpecVersionBin::V1 {
        // Only what is there tells which snapshots there are.
        let listed = store.list_all(SNAPSHOTS_FILE_PATH).await?;
        let ids = listed.iter().filter_map(|key| key.rsplit('/').next());
        let ids: HashSet<SnapshotId> = ids.filter_map(|id| SnapshotId::try_from(id).ok()).collect();
        return Ok((ids.clone(), ids));
    }
    let (info, _) = repository
        .asset_manager()
        .fetch_repo_info()
        .await
        .map_err(|failure| error(failure.kind))?;
    let damaged =
        |failure: icechunk::format::IcechunkFormatError| Error::Corrupt(failure.kind.to_string());
    let mut snapshots = HashSet::new();
    let mut logs = HashSet::new();
    for snapshot in info.all_snapshots().map_err(damaged)? {
        let snapshot = snapshot.map_err(damaged)?;
        logs.extend(snapshot.pruned_ancestor_tx_logs);
        logs.insert(snapshot.id.clone());
        snapshots.insert(snapshot.id);
    }
    Ok((snapshots, logs))
}
