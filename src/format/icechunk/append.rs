//! Changes of a branch: chunks that no snapshot knows yet, recorded in a session until the commit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use icechunk::Repository;
use icechunk::format::format_constants::SpecVersionBin;
use icechunk::format::manifest::{ChunkPayload, ChunkRef};
use icechunk::format::snapshot::{ArrayShape, DimensionName, NodeData};
use icechunk::format::{ChunkId, ChunkIndices, Path};
use icechunk::refs::Ref;
use icechunk::session::Session;

use super::commit::{Branch, SessionCommit};
use super::storage::Bridge;
use super::{Hierarchy, Icechunk, index, orphans, repository};
use crate::array::blueprint::{Blueprint, Unwritten};
use crate::array::chunk::{ChunkGrid, ChunkIndex};
use crate::array::{Attributes, Dataset, Variable};
use crate::error::{Error, Result, Within};
use crate::format::zarr::{Arrays, Encoded, Places, given, new_documents, with_attributes};
use crate::format::{Appender, Format, Publication, Region};
use crate::store::Store;
use crate::store::write::{Durability, Expect, Object, PRIVATE, is_private, write_id};

/// Chunks that nobody sees yet are made durable when there are so many.
const UNSYNCED: usize = 512;

/// A branch that is being changed.
#[derive(Debug)]
pub(super) struct BranchAppender {
    store: Store,
    durability: Durability,
    repository: Repository,
    /// What is to be committed; gone when that has begun.
    session: Option<Session>,
    dataset: Dataset,
    arrays: Arrays,
    /// The metadata documents of all members, by their paths.
    documents: HashMap<String, Bytes>,
    /// The path of the array that is all there is, without a group around it.
    single: Option<String>,
    /// New documents of groups, by their paths.
    groups: BTreeMap<String, Bytes>,
    /// Where the cells of chunks are now: array, place of the chunk, bytes.
    chunks: Vec<(String, Vec<u64>, ChunkPayload)>,
    /// The chunks of them that readers see cells of.
    replaced: HashSet<(String, Vec<u64>)>,
    /// Objects that are in no snapshot.
    added: Vec<String>,
    /// Objects that have been put, but may be lost with the power.
    unsynced: Vec<String>,
    /// The key of what makes a repository of objects that nobody shall find yet.
    hidden: Option<String>,
}

/// Begins to change a branch of the repository at the location of `store`.
pub(super) async fn begin(
    store: &Store,
    branch: &str,
    durability: Durability,
) -> Result<BranchAppender> {
    let repository = repository::open(store, durability).await?;
    let session = session(&repository, branch).await?;
    let hierarchy = Hierarchy::read(&repository, session.snapshot_id()).await?;
    let dataset = hierarchy.dataset(store, &repository)?;
    BranchAppender::new(
        store,
        durability,
        (repository, session),
        dataset,
        hierarchy.documents,
    )
}

/// Begins to make a repository at the location of `store`, where there is none.
pub(super) async fn create(
    store: &Store,
    blueprint: &Blueprint,
    durability: Durability,
) -> Result<BranchAppender> {
    if blueprint.version == Some(2) {
        return Err(Error::Unsupported(
            "repositories of Icechunk hold Zarr of version 3 only".to_owned(),
        ));
    }
    let documents = new_documents(blueprint)?;
    let root = given(store, &documents, &Nowhere)?;
    if let Some(array) = root
        .walk()
        .iter()
        .find_map(|group| group.unreadable.first())
    {
        return Err(Error::Unsupported(array.reason.clone()));
    }
    let dataset = Dataset {
        location: store.location().into(),
        format: Icechunk.name(),
        root,
    };
    let hidden = format!("{PRIVATE}/repo-{}", write_id());
    let bridge = Arc::new(Bridge::hidden(store, durability, &hidden));
    let version = Some(SpecVersionBin::current());
    let created = Repository::create(None, bridge, HashMap::new(), version, false).await;
    let repository = created.map_err(|failure| repository::error(failure.kind))?;
    let mut session = session(&repository, Ref::DEFAULT_BRANCH).await?;
    let arrays = Arrays::given(&dataset, &documents)?.unknown()?;
    for (path, document) in &documents {
        let at = node(path)?;
        let groups = dataset.root.walk().into_iter();
        let mut variables = groups.flat_map(|group| &group.variables);
        let added = match variables.find(|variable| variable.path == *path) {
            None => session.add_group(at, document.clone()).await,
            Some(variable) => {
                let shape = shape(variable.shape(), &arrays.piece(path)?)?;
                let names = variable.dimensions.iter();
                let names = names
                    .map(|name| DimensionName::Name(name.clone()))
                    .collect();
                session
                    .add_array(at, shape, Some(names), document.clone())
                    .await
            }
        };
        added.map_err(|failure| repository::of_session(failure.kind))?;
    }
    let made = (repository, session);
    let mut appender = BranchAppender::new(store, durability, made, dataset, documents)?;
    appender.arrays = arrays;
    appender.hidden = Some(hidden);
    Ok(appender)
}

/// The places of chunks of arrays that are not there yet.
#[derive(Debug)]
struct Nowhere;

impl Places for Nowhere {
    fn index(&self, _: &str, _: &ChunkGrid) -> Result<Arc<dyn ChunkIndex>> {
        Ok(Arc::new(Unwritten))
    }
}

#[async_trait]
impl Appender for BranchAppender {
    fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    fn piece(&self, variable: &str) -> Result<Vec<u64>> {
        self.arrays.piece(variable)
    }

    fn along(&self, group: &str, dimension: &str) -> Vec<Arc<Variable>> {
        let variables = self.dataset.along(group, dimension).into_iter();
        variables.map(|(variable, _)| variable).collect()
    }

    async fn write(&mut self, region: Region) -> Result<()> {
        let variable = region.variable.clone();
        let encoded = self.arrays.encoded(region)?;
        futures::pin_mut!(encoded);
        while let Some(batch) = encoded.next().await {
            self.put(&variable, batch?).await?;
        }
        Ok(())
    }

    fn resize(&mut self, group: &str, dimension: &str, length: u64) -> Result<()> {
        self.arrays.resize(&self.dataset, group, dimension, length)
    }

    fn set_attributes(&mut self, group: &str, attributes: &Attributes) -> Result<()> {
        let document = self.documents.get(group).filter(|_| self.single.is_none());
        let document = document.ok_or_else(|| {
            Error::Unsupported(format!(
                "{} has no group \"{group}\" whose attributes could be changed",
                self.dataset.location
            ))
        })?;
        let document = with_attributes(document, attributes)?;
        self.groups.insert(group.to_owned(), document.into());
        Ok(())
    }

    /// Whoever publishes a commit finds out by himself that the branch has moved on.
    async fn fence(&mut self) -> Result<()> {
        Ok(())
    }

    async fn publication(&mut self) -> Result<Publication> {
        let ended = || Error::Invalid("the change has been published already".to_owned());
        let mut session = self.session.take().ok_or_else(ended)?;
        let resized = self.arrays.resized()?;
        let resizes = !resized.is_empty();
        let failed =
            |failure: icechunk::session::SessionError| repository::of_session(failure.kind);
        for array in resized {
            let at = self.node(&array.path)?;
            let names = match session.get_array(&at).await.map_err(failed)?.node_data {
                NodeData::Array {
                    dimension_names, ..
                } => dimension_names,
                NodeData::Group => None,
            };
            let shape = shape(&array.shape, &array.piece).within(|| &array.path)?;
            let document = array.document.into();
            let updated = session.update_array(&at, shape, names, document).await;
            updated.map_err(failed)?;
        }
        for (path, document) in std::mem::take(&mut self.groups) {
            let updated = session.update_group(&node(&path)?, document).await;
            updated.map_err(failed)?;
        }
        for (path, coord, chunk) in std::mem::take(&mut self.chunks) {
            let place = indices(&coord).within(|| &path)?;
            let set = session.set_chunk_ref(self.node(&path)?, place, Some(chunk));
            set.await.map_err(failed)?;
        }
        if self.durability == Durability::Full {
            self.store.sync_all(&std::mem::take(&mut self.unsynced))?;
        }
        let mut relied = HashSet::new();
        for variable in self
            .dataset
            .root
            .walk()
            .iter()
            .flat_map(|group| &group.variables)
        {
            // Rows have found their cells by these.
            if variable
                .dimensions
                .iter()
                .any(|name| *name == variable.name)
            {
                let node = session.get_array(&self.node(&variable.path)?).await;
                relied.insert(node.map_err(failed)?.id);
            }
        }
        let commit = SessionCommit {
            session,
            branch: Branch { relied, resizes },
            store: self.store.clone(),
            durability: self.durability,
            added: std::mem::take(&mut self.added),
            hidden: self.hidden.take(),
        };
        Ok(Publication {
            commit: Some(Box::new(commit)),
            ..Publication::default()
        })
    }

    async fn orphans(&self) -> Result<Vec<String>> {
        orphans::find(&self.repository, &self.store).await
    }

    async fn abandon(&mut self) -> Result<()> {
        // What is being published may have become part of a snapshot.
        if self.session.is_none() {
            return Ok(());
        }
        if self.hidden.is_some() {
            let mut written = self.store.list_all("").await?;
            written.retain(|key| !is_private(key));
            written.extend(self.hidden.take());
            return self.store.delete_all(&written).await;
        }
        self.store
            .delete_all(&std::mem::take(&mut self.added))
            .await
    }
}

impl BranchAppender {
    fn new(
        store: &Store,
        durability: Durability,
        (repository, session): (Repository, Session),
        dataset: Dataset,
        documents: Vec<(String, Bytes)>,
    ) -> Result<Self> {
        let single = match (dataset.root.variables.as_slice(), documents.as_slice()) {
            ([variable], [_]) => Some(variable.path.clone()),
            _ => None,
        };
        Ok(Self {
            store: store.clone(),
            durability,
            repository,
            session: Some(session),
            arrays: Arrays::given(&dataset, &documents)?,
            dataset,
            documents: documents.into_iter().collect(),
            single,
            groups: BTreeMap::new(),
            chunks: Vec::new(),
            replaced: HashSet::new(),
            added: Vec::new(),
            unsynced: Vec::new(),
            hidden: None,
        })
    }

    /// The path of a variable in the repository.
    fn node(&self, variable: &str) -> Result<Path> {
        match &self.single {
            Some(single) if single == variable => Ok(Path::root()),
            _ => node(variable),
        }
    }

    /// Stores encoded chunks: small ones stand in manifests, others become objects.
    async fn put(&mut self, variable: &str, chunks: Vec<Encoded>) -> Result<()> {
        let session = self.session.as_ref();
        let inline = session.map_or(0, |session| session.config().inline_chunk_threshold_bytes());
        let mut objects = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let place = (variable.to_owned(), chunk.coord);
            if chunk.is_visible && !self.replaced.insert(place.clone()) {
                return Err(Error::Unsupported(format!(
                    "{}: cells of chunk {:?} of {variable} come in two parts with others between them, because the \
                     values of the dimension are in no order; replace the cells in statements of their own",
                    self.dataset.location, place.1
                )));
            }
            let payload = if chunk.bytes.len() <= usize::from(inline) {
                ChunkPayload::Inline(chunk.bytes.into())
            } else {
                let id = ChunkId::random();
                let length = chunk.bytes.len() as u64;
                objects.push(Object {
                    key: index::key(&id.to_string()),
                    bytes: chunk.bytes.into(),
                    expect: Expect::Anything,
                });
                ChunkPayload::Ref(ChunkRef {
                    id,
                    offset: 0,
                    length,
                })
            };
            self.chunks.push((place.0, place.1, payload));
        }
        let keys: Vec<String> = objects.iter().map(|object| object.key.clone()).collect();
        self.added.extend(keys.iter().cloned());
        self.unsynced.extend(keys);
        self.store.put_all(objects, Durability::None).await?;
        if self.unsynced.len() >= UNSYNCED && self.durability == Durability::Full {
            self.store.sync_all(&std::mem::take(&mut self.unsynced))?;
        }
        Ok(())
    }
}

async fn session(repository: &Repository, branch: &str) -> Result<Session> {
    let session = repository.writable_session(branch).await;
    session.map_err(|failure| repository::error(failure.kind))
}

/// The path of a member in a repository.
fn node(path: &str) -> Result<Path> {
    Path::try_from(format!("/{path}"))
        .map_err(|e| Error::Invalid(format!("{path:?} cannot be a path in a repository: {e}")))
}

fn shape(shape: &[u64], piece: &[u64]) -> Result<ArrayShape> {
    let counts = shape
        .iter()
        .zip(piece)
        .map(|(length, extent)| {
            let count = length.div_ceil((*extent).max(1));
            Ok((*length, u32::try_from(count).map_err(|_| too_many(count))?))
        })
        .collect::<Result<Vec<(u64, u32)>>>()?;
    ArrayShape::new(counts).ok_or_else(|| Error::Invalid(format!("{shape:?} is no shape")))
}

fn indices(coord: &[u64]) -> Result<ChunkIndices> {
    let coord = coord.iter();
    let coord = coord.map(|at| u32::try_from(*at).map_err(|_| too_many(*at)));
    Ok(ChunkIndices(coord.collect::<Result<_>>()?))
}

fn too_many(count: u64) -> Error {
    Error::Unsupported(format!(
        "{count} chunks along a dimension are more than a repository can have"
    ))
}
