//! Hierarchies that grow: chunks beyond the shapes that metadata tells, then the metadata.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};

use super::Zarr;
use super::hierarchy::{self, ARRAY, ATTRIBUTES, CONSOLIDATED, GROUP, V3};
use super::json::Json;
use super::writer::ArrayWriter;
use crate::array::{Dataset, Group, Variable};
use crate::codec::encode::EncodeScratch;
use crate::error::{Error, Result, Within};
use crate::format::{Appender, Format, OldCells, Publication, Region};
use crate::store::Store;
use crate::store::lock::Lock;
use crate::store::write::{Durability, Expect, Object, PRIVATE, Put, Version, write_id};

/// Objects that are encoded at the same time, and put together.
const BATCH: usize = 16;

/// A hierarchy that is being changed.
#[derive(Debug)]
pub(super) struct ZarrAppender {
    store: Store,
    lock: Arc<Lock>,
    durability: Durability,
    dataset: Dataset,
    metadata: Metadata,
    arrays: BTreeMap<String, Array>,
    /// Name of the place for objects that are put aside.
    aside: String,
    moves: Vec<(String, String)>,
}

/// The documents of a hierarchy.
#[derive(Debug)]
enum Metadata {
    /// One array, whose own document is all there is.
    Single { key: String, version: Version },
    /// Documents of all members in one, which is what readers look at.
    Consolidated {
        key: String,
        root: Json,
        version: Option<Version>,
    },
}

/// An array as its metadata tells.
#[derive(Debug)]
struct Array {
    variable: Arc<Variable>,
    /// `.zarray` or `zarr.json`.
    document: Json,
    /// The group that it is in.
    group: String,
    writer: Result<Arc<ArrayWriter>, String>,
    /// Extents after the change.
    shape: Vec<u64>,
}

/// Begins to change the hierarchy at the location of `store`.
pub(super) async fn begin(
    store: &Store,
    lock: &Arc<Lock>,
    durability: Durability,
) -> Result<ZarrAppender> {
    let dataset = Zarr.open(store).await?;
    let (metadata, documents) = hierarchy_documents(store, &dataset).await?;
    let mut arrays = BTreeMap::new();
    for group in dataset.root.walk() {
        for variable in &group.variables {
            let directory = match &metadata {
                Metadata::Single { .. } => String::new(),
                Metadata::Consolidated { .. } => variable.path.clone(),
            };
            let found = [V3, ARRAY]
                .into_iter()
                .find_map(|name| documents.get(&hierarchy::key(&directory, name)));
            let Some(document) = found else { continue };
            let prefix = hierarchy::key(&directory, "");
            let writer = if document.get("node_type").is_null() {
                ArrayWriter::v2(prefix, document)
            } else {
                ArrayWriter::v3(prefix, document)
            };
            let array = Array {
                shape: variable.shape().to_vec(),
                document: document.clone(),
                group: group.path.clone(),
                writer: writer.map(Arc::new).map_err(|error| error.to_string()),
                variable: Arc::clone(variable),
            };
            arrays.insert(variable.path.clone(), array);
        }
    }
    Ok(ZarrAppender {
        store: store.clone(),
        lock: Arc::clone(lock),
        durability,
        dataset,
        metadata,
        arrays,
        aside: format!("{PRIVATE}/aside/{}", write_id()),
        moves: Vec::new(),
    })
}

/// Documents by their keys.
type Documents = BTreeMap<String, Json>;

/// The metadata by which readers see a hierarchy, and all documents of its members.
async fn hierarchy_documents(store: &Store, dataset: &Dataset) -> Result<(Metadata, Documents)> {
    let mut documents = Documents::new();
    if let Some((root, version)) = get(store, V3).await? {
        if root.get("node_type").text() == Some("array") {
            documents.insert(V3.to_owned(), root);
            let key = V3.to_owned();
            return Ok((Metadata::Single { key, version }, documents));
        }
        match hierarchy::consolidated_v3(&root) {
            Some(metadata) => {
                for (path, document) in metadata.object() {
                    documents.insert(hierarchy::key(path, V3), document.clone());
                }
            }
            None => {
                for key in own_keys(&dataset.root, &[V3], &[V3]) {
                    if let Some((document, _)) = get(store, &key).await? {
                        documents.insert(key, document);
                    }
                }
            }
        }
        return Ok((
            Metadata::Consolidated {
                key: V3.to_owned(),
                root,
                version: Some(version),
            },
            documents,
        ));
    }
    if let Some((root, version)) = get(store, CONSOLIDATED).await? {
        for (key, document) in root.get("metadata").object() {
            documents.insert(key.clone(), document.clone());
        }
        return Ok((
            Metadata::Consolidated {
                key: CONSOLIDATED.to_owned(),
                root,
                version: Some(version),
            },
            documents,
        ));
    }
    if let Some((document, version)) = get(store, ARRAY).await? {
        documents.insert(ARRAY.to_owned(), document);
        let key = ARRAY.to_owned();
        return Ok((Metadata::Single { key, version }, documents));
    }
    for key in own_keys(&dataset.root, &[GROUP, ATTRIBUTES], &[ARRAY, ATTRIBUTES]) {
        if let Some((document, _)) = get(store, &key).await? {
            documents.insert(key, document);
        }
    }
    let members = documents.iter();
    let root = Json::Object(vec![
        (
            "metadata".to_owned(),
            Json::Object(
                members
                    .map(|(key, json)| (key.clone(), json.clone()))
                    .collect(),
            ),
        ),
        ("zarr_consolidated_format".to_owned(), Json::Integer(1)),
    ]);
    Ok((
        Metadata::Consolidated {
            key: CONSOLIDATED.to_owned(),
            root,
            version: None,
        },
        documents,
    ))
}

/// The keys of the documents of all members, whether they are there or not.
fn own_keys(root: &Group, of_group: &[&str], of_array: &[&str]) -> Vec<String> {
    let mut keys = Vec::new();
    for group in root.walk() {
        keys.extend(
            of_group
                .iter()
                .map(|name| hierarchy::key(&group.path, name)),
        );
        let variables = group.variables.iter().map(|variable| variable.path.clone());
        let unreadable = group
            .unreadable
            .iter()
            .map(|array| hierarchy::key(&group.path, &array.name));
        for path in variables.chain(unreadable) {
            keys.extend(of_array.iter().map(|name| hierarchy::key(&path, name)));
        }
    }
    keys
}

async fn get(store: &Store, key: &str) -> Result<Option<(Json, Version)>> {
    let Some((bytes, version)) = store.get_versioned(key).await? else {
        return Ok(None);
    };
    Ok(Some((Json::parse(&bytes).within(|| key)?, version)))
}

#[async_trait]
impl Appender for ZarrAppender {
    fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    fn piece(&self, variable: &str) -> Result<Vec<u64>> {
        Ok(self.writer(variable)?.objects.chunk_shape().to_vec())
    }

    fn along(&self, group: &str, dimension: &str) -> Vec<Arc<Variable>> {
        let before = self.length(group, dimension);
        self.arrays
            .values()
            .filter(|array| is_within(&array.group, group))
            .map(|array| &array.variable)
            .filter(|variable| {
                let mut extents = variable.dimensions.iter().zip(variable.shape());
                extents.any(|(name, extent)| name == dimension && Some(*extent) == before)
            })
            .cloned()
            .collect()
    }

    async fn write(&mut self, region: Region) -> Result<()> {
        let writer = self.writer(&region.variable)?;
        let old_shape = self.array(&region.variable)?.variable.shape().to_vec();
        let region = Arc::new(region);
        let objects = region.pieces(writer.objects.chunk_shape());
        let encoded = stream::iter(objects)
            .map(|coord| {
                let (writer, region) = (Arc::clone(&writer), Arc::clone(&region));
                async move {
                    let work = move || {
                        let mut scratch = EncodeScratch::default();
                        let bytes = encode(&writer, &region, &coord, &mut scratch)?;
                        Ok((coord, bytes))
                    };
                    tokio::task::spawn_blocking(work)
                        .await
                        .map_err(|e| Error::io("a chunk cannot be encoded", e))?
                }
            })
            .buffered(parallelism())
            .ready_chunks(BATCH);
        futures::pin_mut!(encoded);
        while let Some(batch) = encoded.next().await {
            let batch: Vec<(Vec<u64>, Vec<u8>)> = batch
                .into_iter()
                .collect::<Result<_>>()
                .within(|| &region.variable)?;
            let objects = batch
                .into_iter()
                .map(|(coord, bytes)| {
                    let visible = is_visible(&coord, writer.objects.chunk_shape(), &old_shape);
                    (writer.keys.key(&coord), bytes, visible)
                })
                .collect();
            self.put(objects, region.old).await?;
        }
        Ok(())
    }

    fn resize(&mut self, group: &str, dimension: &str, length: u64) -> Result<()> {
        for below in self.dataset.root.walk() {
            // What cannot be read has no known dimensions, and could silently stay behind.
            if let (true, Some(array)) = (is_within(&below.path, group), below.unreadable.first()) {
                return Err(Error::Unsupported(format!(
                    "{}: {} cannot be read, so that it is unknown whether it has dimension {dimension}: {}",
                    self.dataset.location, array.name, array.reason
                )));
            }
        }
        let before = self.length(group, dimension);
        for array in self.arrays.values_mut() {
            if !is_within(&array.group, group) {
                continue;
            }
            let dimensions = array.variable.dimensions.iter().zip(&mut array.shape);
            for (name, extent) in dimensions {
                // The same name with another length is another dimension.
                if name == dimension && Some(*extent) == before {
                    if let Err(reason) = &array.writer {
                        return Err(Error::Unsupported(format!(
                            "{}: {reason}",
                            array.variable.path
                        )));
                    }
                    *extent = length;
                }
            }
        }
        Ok(())
    }

    async fn fence(&mut self) -> Result<()> {
        if self.store.is_local() {
            return Ok(());
        }
        let (key, document, version) = match &self.metadata {
            Metadata::Single { key, version } => {
                let array = self.arrays.values().next();
                (
                    key.clone(),
                    array.map(|array| array.document.clone()),
                    Some(version.clone()),
                )
            }
            Metadata::Consolidated { key, root, version } => {
                (key.clone(), Some(root.clone()), version.clone())
            }
        };
        let (Some(document), Some(version)) = (document, version) else {
            return Ok(());
        };
        // Other bytes with the same meaning are another version, which nobody else expects.
        let mut bytes = document.to_document();
        let before = self.store.get(&key).await?.unwrap_or_default();
        if !before.ends_with(b"\n") {
            bytes.push(b'\n');
        }
        let put = self
            .store
            .put(&key, bytes, Expect::Version(version), self.durability)
            .await?;
        let Put::Done(fenced) = put else {
            return Err(self.overtaken());
        };
        match &mut self.metadata {
            Metadata::Single { version, .. } => *version = fenced,
            Metadata::Consolidated { version, .. } => *version = Some(fenced),
        }
        self.settle().await
    }

    async fn publication(&mut self) -> Result<Publication> {
        let mut documents = Vec::new();
        let mut changed: Vec<(String, Json)> = Vec::new();
        for array in self.arrays.values() {
            if array.shape == array.variable.shape() {
                continue;
            }
            let mut document = array.document.clone();
            let shape = array
                .shape
                .iter()
                .map(|extent| Json::Integer((*extent).into()));
            document.set("shape", Json::List(shape.collect()));
            changed.push((array.variable.path.clone(), document));
        }
        if changed.is_empty() {
            return Ok(Publication {
                moves: self.moves.clone(),
                documents,
                ..Publication::default()
            });
        }
        match &self.metadata {
            Metadata::Single { key, version } => {
                for (_, document) in &changed {
                    documents.push(self.object(key, document, Some(version)));
                }
            }
            Metadata::Consolidated { key, root, version } => {
                self.check_own(&changed).await?;
                let name = if key == V3 { V3 } else { ARRAY };
                let mut root = root.clone();
                let mut members = self.members(&root).await?;
                for (path, document) in &changed {
                    let place = if key == V3 {
                        path.clone()
                    } else {
                        hierarchy::key(path, name)
                    };
                    members.set(&place, document.clone());
                }
                if key == V3 {
                    let consolidated = Json::Object(vec![
                        ("kind".to_owned(), Json::Text("inline".to_owned())),
                        ("must_understand".to_owned(), Json::Bool(false)),
                        ("metadata".to_owned(), members),
                    ]);
                    root.set("consolidated_metadata", consolidated);
                } else {
                    root.set("metadata", members);
                }
                documents.push(self.object(key, &root, version.as_ref()));
                for (path, document) in &changed {
                    documents.push(Object {
                        key: hierarchy::key(path, name),
                        bytes: document.to_document().into(),
                        expect: Expect::Anything,
                    });
                }
            }
        }
        Ok(Publication {
            moves: self.moves.clone(),
            documents,
            ..Publication::default()
        })
    }

    async fn orphans(&self) -> Result<Vec<String>> {
        let mut orphans = Vec::new();
        for array in self.arrays.values() {
            let Ok(writer) = &array.writer else { continue };
            let directory = writer.keys.prefix.trim_end_matches('/');
            for key in self.store.list_all(directory).await? {
                let beyond = writer
                    .keys
                    .coord(&key, array.shape.len())
                    .is_some_and(|coord| {
                        !is_visible(&coord, writer.objects.chunk_shape(), &array.shape)
                    });
                if beyond {
                    orphans.push(key);
                }
            }
        }
        Ok(orphans)
    }

    async fn abandon(&mut self) -> Result<()> {
        let aside: Vec<String> = self.moves.drain(..).map(|(from, _)| from).collect();
        self.store.delete_all(&aside).await
    }
}

impl ZarrAppender {
    fn array(&self, variable: &str) -> Result<&Array> {
        self.arrays.get(variable).ok_or_else(|| {
            Error::NotFound(format!(
                "{} has no variable {variable}",
                self.dataset.location
            ))
        })
    }

    /// The length of a dimension of a group.
    fn length(&self, group: &str, dimension: &str) -> Option<u64> {
        self.arrays.values().find_map(|array| {
            let names = &array.variable.dimensions;
            let at = names.iter().position(|name| name == dimension)?;
            (array.group == group).then(|| array.variable.shape().get(at).copied())?
        })
    }

    fn writer(&self, variable: &str) -> Result<Arc<ArrayWriter>> {
        match &self.array(variable)?.writer {
            Ok(writer) => Ok(Arc::clone(writer)),
            Err(reason) => Err(Error::Unsupported(format!("{variable}: {reason}"))),
        }
    }

    /// Puts encoded objects (key, bytes, whether readers see any of them) in their places or aside.
    async fn put(&mut self, objects: Vec<(String, Vec<u8>, bool)>, old: OldCells) -> Result<()> {
        if !self.store.is_local() {
            return self.put_remote(objects, old).await;
        }
        let mut puts = Vec::with_capacity(objects.len());
        for (key, bytes, visible) in objects {
            let place = if visible && old == OldCells::Changed {
                let aside = format!("{}/{key}", self.aside);
                self.moves.push((aside.clone(), key));
                aside
            } else {
                key
            };
            puts.push(Object {
                key: place,
                bytes: bytes.into(),
                expect: Expect::Anything,
            });
        }
        self.store.put_all(puts, self.durability).await.map(drop)
    }

    /// What an earlier writer left beyond the shapes is replaced; what it may still be about to write must fail, so that
    /// every object is put only if there is none, or the one that has been looked at.
    async fn put_remote(&self, objects: Vec<(String, Vec<u8>, bool)>, old: OldCells) -> Result<()> {
        if old == OldCells::Changed && objects.iter().any(|(_, _, visible)| *visible) {
            return Err(Error::Unsupported(format!(
                "{}: cells that are there already cannot be replaced in an object store, because readers would see some of \
                 them before others",
                self.dataset.location
            )));
        }
        stream::iter(objects)
            .map(Ok)
            .try_for_each_concurrent(BATCH, |(key, bytes, visible)| async move {
                let bytes = bytes::Bytes::from(bytes);
                if !visible
                    && let Put::Done(_) = self
                        .store
                        .put(&key, bytes.clone(), Expect::Absent, self.durability)
                        .await?
                {
                    return Ok(());
                }
                // A writer who has been given up can be in between once for each request that he had under way.
                for _ in 0..4 {
                    let expect = match self.store.get_versioned(&key).await? {
                        Some((_, version)) => Expect::Version(version),
                        None => Expect::Absent,
                    };
                    // Whoever has taken over since that version was seen has put another one, or will.
                    self.lock.check().await?;
                    let put = self.store.put(&key, bytes.clone(), expect, self.durability);
                    if let Put::Done(_) = put.await? {
                        return Ok(());
                    }
                }
                Err(self.overtaken())
            })
            .await
    }

    fn object(&self, key: &str, document: &Json, version: Option<&Version>) -> Object {
        let expect = match version {
            _ if self.store.is_local() => Expect::Anything,
            Some(version) => Expect::Version(version.clone()),
            None => Expect::Absent,
        };
        Object {
            key: key.to_owned(),
            bytes: document.to_document().into(),
            expect,
        }
    }

    /// The documents of all members as consolidated metadata holds them.
    async fn members(&self, root: &Json) -> Result<Json> {
        if root.get("metadata").object().is_empty() {
            if let Some(metadata) = hierarchy::consolidated_v3(root) {
                return Ok(metadata.clone());
            }
            let mut members = Vec::new();
            for key in own_keys(&self.dataset.root, &[V3], &[V3]) {
                let path = key.strip_suffix(V3).unwrap_or(&key).trim_end_matches('/');
                if !path.is_empty()
                    && let Some((document, _)) = get(&self.store, &key).await?
                {
                    members.push((path.to_owned(), document));
                }
            }
            return Ok(Json::Object(members));
        }
        Ok(root.get("metadata").clone())
    }

    /// Checks that the own documents of arrays say what the consolidated metadata says.
    async fn check_own(&self, changed: &[(String, Json)]) -> Result<()> {
        for (path, _) in changed {
            let array = self.array(path)?;
            let name = self.own_name();
            let Some((own, _)) = get(&self.store, &hierarchy::key(path, name)).await? else {
                continue;
            };
            if own.get("shape") != array.document.get("shape") {
                return Err(Error::Conflict(format!(
                    "{}: {path} has the shape {} in the consolidated metadata, but {} in its own; another program has \
                     changed it without consolidating the metadata, so do that first",
                    self.dataset.location,
                    array.document.get("shape"),
                    own.get("shape")
                )));
            }
        }
        Ok(())
    }

    /// Lets the own documents of arrays say what the consolidated metadata says.
    async fn settle(&self) -> Result<()> {
        let name = self.own_name();
        for (path, array) in &self.arrays {
            let key = hierarchy::key(path, name);
            let own = get(&self.store, &key).await?;
            if own.is_some_and(|(own, _)| own.get("shape") != array.document.get("shape")) {
                let bytes = array.document.to_document();
                self.store
                    .put(&key, bytes, Expect::Anything, self.durability)
                    .await?;
            }
        }
        Ok(())
    }

    fn own_name(&self) -> &'static str {
        let (Metadata::Single { key, .. } | Metadata::Consolidated { key, .. }) = &self.metadata;
        if key == V3 { V3 } else { ARRAY }
    }

    fn overtaken(&self) -> Error {
        Error::Conflict(format!(
            "{}: another writer has taken over",
            self.dataset.location
        ))
    }
}

/// The stored bytes of the object at `coord`.
fn encode(
    writer: &ArrayWriter,
    region: &Region,
    coord: &[u64],
    scratch: &mut EncodeScratch,
) -> Result<Vec<u8>> {
    let extent = writer.objects.chunk_shape();
    let cells = region.piece(coord, extent, writer.size, &writer.fill)?;
    writer.encode(&cells, scratch)
}

/// Whether an object has cells within the shape that readers know.
fn is_visible(coord: &[u64], extent: &[u64], shape: &[u64]) -> bool {
    coord
        .iter()
        .zip(extent)
        .zip(shape)
        .all(|((at, extent), length)| at * extent < *length)
}

/// Whether the group at `path` is `group` or within it.
fn is_within(path: &str, group: &str) -> bool {
    path == group || group.is_empty() || path.starts_with(&format!("{group}/"))
}

fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
