//! Chunk addresses: from the place of a chunk to what manifests say of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use icechunk::asset_manager::AssetManager;
use icechunk::format::manifest::{ChunkPayload, Manifest, ManifestRef};
use icechunk::format::snapshot::{NodeData, NodeSnapshot, Snapshot};
use icechunk::format::{CHUNKS_FILE_PATH, ChunkIndices, IcechunkFormatErrorKind, NodeId};

use super::repository::error;
use crate::array::chunk::{ChunkAddress, ChunkGrid, ChunkIndex};
use crate::error::{Error, Result};
use crate::format::zarr::Places;

/// Manifests that are fetched at the same time.
const REQUESTS: usize = 8;

/// The arrays of a snapshot.
#[derive(Debug)]
pub(super) struct Arrays {
    manager: Arc<AssetManager>,
    snapshot: Arc<Snapshot>,
    nodes: HashMap<String, NodeSnapshot>,
}

impl Arrays {
    /// The arrays of a snapshot, by their paths.
    pub(super) fn new(
        manager: &Arc<AssetManager>,
        snapshot: &Arc<Snapshot>,
        nodes: HashMap<String, NodeSnapshot>,
    ) -> Self {
        Self {
            manager: Arc::clone(manager),
            snapshot: Arc::clone(snapshot),
            nodes,
        }
    }
}

impl Places for Arrays {
    fn index(&self, directory: &str, objects: &ChunkGrid) -> Result<Arc<dyn ChunkIndex>> {
        let node = self
            .nodes
            .get(directory)
            .map(|node| (node, &node.node_data));
        let Some((node, NodeData::Array { manifests, .. })) = node else {
            return Err(Error::Corrupt(
                "the snapshot has it as a group, its metadata as an array".to_owned(),
            ));
        };
        Ok(Arc::new(Chunks {
            manager: Arc::clone(&self.manager),
            snapshot: Arc::clone(&self.snapshot),
            node: node.id.clone(),
            manifests: manifests.clone(),
            grid: objects.clone(),
        }))
    }
}

/// The chunks of an array.
#[derive(Debug)]
struct Chunks {
    manager: Arc<AssetManager>,
    snapshot: Arc<Snapshot>,
    node: NodeId,
    manifests: Vec<ManifestRef>,
    grid: ChunkGrid,
}

impl Chunks {
    /// The place of a chunk, and the manifest that knows of it if any does.
    fn place(&self, chunk: u64) -> Result<(ChunkIndices, Option<usize>)> {
        let far = || Error::Corrupt(format!("there cannot be a chunk {chunk} in a repository"));
        let coord = self.grid.coord(chunk).into_iter();
        let coord: Vec<u32> = coord
            .map(|at| u32::try_from(at).map_err(|_| far()))
            .collect::<Result<_>>()?;
        let mut manifests = self.manifests.iter();
        let known = manifests.position(|manifest| manifest.extents.contains(&coord));
        Ok((ChunkIndices(coord), known))
    }

    async fn manifest(&self, at: usize) -> Result<(usize, Arc<Manifest>)> {
        let manifest = self.manifests.get(at).map(|manifest| &manifest.object_id);
        let id = manifest.ok_or_else(|| Error::Corrupt("there is no such manifest".to_owned()))?;
        let info = self.snapshot.manifest_info(id).ok().flatten();
        let size = info.map_or(0, |info| info.size_bytes);
        let fetched = self.manager.fetch_manifest(id, size).await;
        Ok((at, fetched.map_err(|failure| error(failure.kind))?))
    }

    fn address(&self, manifest: &Manifest, place: &ChunkIndices) -> Result<ChunkAddress> {
        let payload = match manifest.get_chunk_payload(&self.node, place) {
            Ok(payload) => payload,
            Err(failure) => {
                return match failure.kind {
                    IcechunkFormatErrorKind::ChunkCoordinatesNotFound { .. } => {
                        Ok(ChunkAddress::Missing)
                    }
                    kind => Err(Error::Corrupt(kind.to_string())),
                };
            }
        };
        Ok(match payload {
            ChunkPayload::Inline(bytes) => ChunkAddress::Encoded(bytes),
            ChunkPayload::Ref(chunk) => ChunkAddress::Range {
                object: key(&chunk.id.to_string()).into(),
                offset: chunk.offset,
                length: chunk.length,
                skipped: 0,
            },
            ChunkPayload::Virtual(chunk) => ChunkAddress::Foreign {
                location: chunk.location.url().into(),
                offset: chunk.offset,
                length: chunk.length,
            },
            _ => {
                return Err(Error::Unsupported(format!(
                    "chunk {:?} is stored in a way that is not known",
                    place.0
                )));
            }
        })
    }
}

#[async_trait]
impl ChunkIndex for Chunks {
    async fn locate(&self, chunks: &[u64]) -> Result<Vec<ChunkAddress>> {
        let places = chunks.iter().map(|chunk| self.place(*chunk));
        let places: Vec<_> = places.collect::<Result<_>>()?;
        let needed: BTreeSet<usize> = places.iter().filter_map(|(_, at)| *at).collect();
        let manifests: HashMap<usize, Arc<Manifest>> = stream::iter(needed)
            .map(|at| self.manifest(at))
            .buffer_unordered(REQUESTS)
            .try_collect()
            .await?;
        places
            .iter()
            .map(|(place, at)| match at.and_then(|at| manifests.get(&at)) {
                Some(manifest) => self.address(manifest, place),
                None => Ok(ChunkAddress::Missing),
            })
            .collect()
    }
}

/// The key of the object of a chunk.
pub(super) fn key(id: &str) -> String {
    format!("{CHUNKS_FILE_PATH}/{id}")
}
