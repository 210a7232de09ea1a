//! Hierarchies that grow: chunks beyond the shapes that metadata tells, then the metadata.

mod rebase;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};

use super::arrays::Arrays;
use super::create;
use super::documents::{
    self, Documents, Metadata, anyway, consolidate_v3, consolidated, get, hierarchy_documents,
    mark, own_keys, refuse_part,
};
use super::hierarchy::{self, ARRAY, ATTRIBUTES, GROUP, V3};
use super::json::Json;
use super::writer::is_visible;
use crate::array::blueprint::Blueprint;
use crate::array::{Attributes, Dataset, Variable};
use crate::error::{Error, Result};
use crate::format::{Appender, OldCells, Publication, Region};
use crate::store::Store;
use crate::store::lock::Lock;
use crate::store::write::{Durability, Expect, Object, Put, Version, aside, is_private};

/// Objects that are put at the same time.
const BATCH: usize = 16;

/// Objects that nobody sees yet are made durable when there are so many.
const UNSYNCED: usize = 512;

/// A hierarchy that is being changed.
#[derive(Debug)]
pub(super) struct ZarrAppender {
    store: Store,
    lock: Arc<Lock>,
    durability: Durability,
    dataset: Dataset,
    metadata: Metadata,
    arrays: Arrays,
    /// New attributes of groups, by their paths.
    attributes: BTreeMap<String, Json>,
    /// The documents of a hierarchy that is not there yet.
    new: Option<Documents>,
    moves: Vec<(String, String)>,
    /// Objects where there was none that readers know of.
    added: Vec<String>,
    /// Objects that have been put, but may be lost with the power.
    unsynced: Vec<String>,
}

/// Begins to change the hierarchy at the location of `store`.
pub(super) async fn begin(
    store: &Store,
    lock: &Arc<Lock>,
    durability: Durability,
) -> Result<ZarrAppender> {
    refuse_part(store).await?;
    let (dataset, metadata, documents) = hierarchy_documents(store).await?;
    Ok(ZarrAppender::new(
        store, lock, durability, dataset, metadata, &documents,
    ))
}

/// Begins to make a hierarchy at the location of `store`, where there is none.
pub(super) fn create(
    store: &Store,
    blueprint: &Blueprint,
    lock: &Arc<Lock>,
    durability: Durability,
) -> Result<ZarrAppender> {
    let (key, documents) = create::documents(blueprint)?;
    let root = consolidated(key, &documents);
    let dataset = documents::dataset(store, &root)?;
    let metadata = Metadata::Consolidated {
        key: key.to_owned(),
        root,
        version: None,
    };
    let mut appender = ZarrAppender::new(store, lock, durability, dataset, metadata, &documents);
    for group in appender.dataset.root.walk() {
        if let Some(array) = group.unreadable.first() {
            return Err(Error::Unsupported(array.reason.clone()));
        }
    }
    appender.arrays = appender.arrays.unknown()?;
    appender.new = Some(documents);
    Ok(appender)
}

#[async_trait]
impl Appender for ZarrAppender {
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
        let keys = self.arrays.writer(&region.variable)?;
        let old = region.old;
        let encoded = self.arrays.encoded(region)?;
        futures::pin_mut!(encoded);
        while let Some(batch) = encoded.next().await {
            let objects = batch?
                .into_iter()
                .map(|object| {
                    (
                        keys.keys.key(&object.coord),
                        object.bytes,
                        object.is_visible,
                    )
                })
                .collect();
            self.put(objects, old).await?;
        }
        Ok(())
    }

    fn resize(&mut self, group: &str, dimension: &str, length: u64) -> Result<()> {
        self.arrays.resize(&self.dataset, group, dimension, length)
    }

    async fn fence(&mut self) -> Result<()> {
        if self.store.is_local() {
            return Ok(());
        }
        let (key, document, version) = match &self.metadata {
            Metadata::Single { key, version } => {
                let array = self.arrays.iter().next();
                let document = array.map(|array| array.document.clone());
                (key.clone(), document, Some(version.clone()))
            }
            Metadata::Consolidated { key, root, version } => {
                (key.clone(), Some(root.clone()), version.clone())
            }
        };
        let Some(document) = document else {
            return Ok(());
        };
        // Where there is no consolidated metadata yet, that it is there now stops whoever expects none.
        let object = self.object(&key, &document, version.as_ref());
        let put = self.store.put_all(vec![object], self.durability).await?;
        let [Put::Done(fenced)] = put.as_slice() else {
            return Err(self.overtaken());
        };
        let fenced = fenced.clone();
        match &mut self.metadata {
            Metadata::Single { version, .. } => *version = fenced,
            Metadata::Consolidated { version, .. } => *version = Some(fenced),
        }
        Ok(())
    }

    fn set_attributes(&mut self, group: &str, attributes: &Attributes) -> Result<()> {
        if let Metadata::Single { .. } = self.metadata {
            return Err(Error::Unsupported(format!(
                "{} is an array without a group, which has no attributes",
                self.dataset.location
            )));
        }
        self.attributes
            .insert(group.to_owned(), create::attributes(attributes));
        Ok(())
    }

    async fn publication(&mut self) -> Result<Publication> {
        let unsynced = std::mem::take(&mut self.unsynced);
        let shapes = self.arrays.changed_shapes();
        if self.new.is_some() {
            return self.first_publication(shapes, unsynced).await;
        }
        let mut documents = Vec::new();
        if shapes.is_empty() && self.attributes.is_empty() {
            return Ok(Publication {
                moves: self.moves.clone(),
                documents,
                unsynced,
                ..Publication::default()
            });
        }
        match &self.metadata {
            Metadata::Single { key, version } => {
                for (_, document) in &shapes {
                    documents.push(self.object(key, document, Some(version)));
                }
            }
            Metadata::Consolidated { key, root, version } => {
                let versions = self.own_versions(&shapes).await?;
                let mut root = root.clone();
                let mut members = self.members(&root).await?;
                let mut own = Vec::new();
                for (path, document) in shapes {
                    let own_key = hierarchy::key(&path, self.own_name());
                    members.set(if key == V3 { &path } else { &own_key }, document.clone());
                    own.push((own_key, document));
                }
                for (path, attributes) in &self.attributes {
                    if key != V3 {
                        let own_key = hierarchy::key(path, ATTRIBUTES);
                        members.set(&own_key, attributes.clone());
                        own.push((own_key, attributes.clone()));
                    } else if path.is_empty() {
                        root.set("attributes", attributes.clone());
                    } else {
                        let mut group = members.get(path).clone();
                        group.set("attributes", attributes.clone());
                        members.set(path, group.clone());
                        own.push((hierarchy::key(path, V3), group));
                    }
                }
                if key == V3 {
                    consolidate_v3(&mut root, members);
                } else {
                    root.set("metadata", members);
                }
                documents.push(self.object(key, &root, version.as_ref()));
                // Attributes have no part in what is checked, so that theirs are put whatever is there.
                for ((key, document), version) in own.iter().zip(&versions) {
                    documents.push(self.object(key, document, version.as_ref()));
                }
                let others = own.iter().skip(versions.len());
                documents.extend(others.map(|(key, document)| anyway(key, document)));
            }
        }
        Ok(Publication {
            moves: self.moves.clone(),
            documents,
            unsynced,
            ..Publication::default()
        })
    }

    async fn rebase(&mut self) -> Result<bool> {
        self.begin_anew().await
    }

    async fn orphans(&self) -> Result<Vec<String>> {
        let mut orphans = Vec::new();
        for array in self.arrays.iter() {
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
        if self.new.is_some() {
            let mut written = self.store.list_all("").await?;
            written.retain(|key| !is_private(key));
            return self.store.delete_all(&written).await;
        }
        let moves = self.moves.drain(..).map(|(from, _)| from);
        let left: Vec<String> = self.added.drain(..).chain(moves).collect();
        self.store.delete_all(&left).await
    }
}

impl ZarrAppender {
    fn new(
        store: &Store,
        lock: &Arc<Lock>,
        durability: Durability,
        dataset: Dataset,
        metadata: Metadata,
        documents: &Documents,
    ) -> Self {
        let root = match metadata {
            Metadata::Single { .. } => Some(""),
            Metadata::Consolidated { .. } => None,
        };
        Self {
            store: store.clone(),
            lock: Arc::clone(lock),
            durability,
            arrays: Arrays::new(&dataset, documents, root),
            dataset,
            metadata,
            attributes: BTreeMap::new(),
            new: None,
            moves: Vec::new(),
            added: Vec::new(),
            unsynced: Vec::new(),
        }
    }

    /// Puts the documents of all members; what is left to publish is the root, without which nobody finds them.
    async fn first_publication(
        &self,
        shapes: Vec<(String, Json)>,
        mut unsynced: Vec<String>,
    ) -> Result<Publication> {
        let (Some(new), Metadata::Consolidated { key, version, .. }) = (&self.new, &self.metadata)
        else {
            return Ok(Publication::default());
        };
        let mut all = new.clone();
        for (path, document) in shapes {
            all.insert(hierarchy::key(&path, self.own_name()), document);
        }
        for (path, attributes) in &self.attributes {
            if key != V3 {
                all.insert(hierarchy::key(path, ATTRIBUTES), attributes.clone());
            } else if let Some(group) = all.get_mut(&hierarchy::key(path, V3)) {
                group.set("attributes", attributes.clone());
            }
        }
        let root = if key == V3 { V3 } else { GROUP };
        let members = all.iter().filter(|(key, _)| *key != root);
        let members: Vec<Object> = members
            .map(|(key, document)| anyway(key, document))
            .collect();
        unsynced.extend(members.iter().map(|object| object.key.clone()));
        self.store.put_all(members, Durability::None).await?;
        let mut documents = vec![self.object(key, &consolidated(key, &all), version.as_ref())];
        if let (false, Some(group)) = (key == V3, all.get(root)) {
            documents.push(anyway(root, group));
        }
        Ok(Publication {
            documents,
            unsynced,
            ..Publication::default()
        })
    }

    /// Puts encoded objects (key, bytes, whether readers see any of them) in their places or aside.
    ///
    /// An object that readers see is replaced only with the commit even if its old cells stay, so that a transaction that
    /// fails leaves nothing behind.
    async fn put(&mut self, objects: Vec<(String, Vec<u8>, bool)>, old: OldCells) -> Result<()> {
        if !self.store.is_local() {
            return self.put_remote(objects, old).await;
        }
        let mut puts = Vec::with_capacity(objects.len());
        for (key, bytes, visible) in objects {
            let place = if visible {
                let aside = aside();
                if self.moves.iter().any(|(_, to)| *to == key) {
                    return Err(Error::Unsupported(format!(
                        "{}: cells of {key} come in two parts with others between them, because the values of the \
                         dimension are in no order; replace the cells in statements of their own",
                        self.dataset.location
                    )));
                }
                self.moves.push((aside.clone(), key));
                aside
            } else {
                self.added.push(key.clone());
                key
            };
            self.unsynced.push(place.clone());
            puts.push(Object {
                key: place,
                bytes: bytes.into(),
                expect: Expect::Anything,
            });
        }
        self.store.put_all(puts, Durability::None).await?;
        if self.unsynced.len() >= UNSYNCED && self.durability == Durability::Full {
            self.store.sync_all(&std::mem::take(&mut self.unsynced))?;
        }
        Ok(())
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
                    let (before, expect) = match self.store.get_versioned(&key).await? {
                        Some((before, version)) => (Some(before), Expect::Version(version)),
                        None => (None, Expect::Absent),
                    };
                    // Whoever has taken over since that version was seen has put another one, or will.
                    self.lock.check().await?;
                    let put = self.store.put(&key, bytes.clone(), expect, self.durability);
                    let Put::Done(version) = put.await? else {
                        continue;
                    };
                    // Unless it has the same bytes: then it looked the same, and it is his now.
                    if let (Err(overtaken), Some(before)) = (self.lock.check().await, before) {
                        let expect = Expect::Version(version);
                        self.store
                            .put(&key, before, expect, self.durability)
                            .await?;
                        return Err(overtaken);
                    }
                    return Ok(());
                }
                Err(self.overtaken())
            })
            .await
    }

    fn object(&self, key: &str, document: &Json, version: Option<&Version>) -> Object {
        let mut bytes = document.to_document();
        let expect = match version {
            _ if self.store.is_local() => Expect::Anything,
            Some(version) => Expect::Version(version.clone()),
            None => Expect::Absent,
        };
        if expect != Expect::Anything {
            bytes.extend(mark());
        }
        Object {
            key: key.to_owned(),
            bytes: bytes.into(),
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

    /// The versions of the own documents of arrays, which must not tell of more than the consolidated metadata.
    ///
    /// They tell of less when a writer was cut off after he had published.
    async fn own_versions(&self, changed: &[(String, Json)]) -> Result<Vec<Option<Version>>> {
        let mut versions = Vec::with_capacity(changed.len());
        for (path, _) in changed {
            let array = self.arrays.array(path)?;
            let own = get(&self.store, &hierarchy::key(path, self.own_name())).await?;
            if let Some((own, _)) = &own
                && is_beyond(own.get("shape"), array.variable.shape())
            {
                return Err(Error::Conflict(format!(
                    "{}: {path} has the shape {} in the consolidated metadata, but {} in its own; another program has \
                     changed it without consolidating the metadata, so do that first",
                    self.dataset.location,
                    array.document.get("shape"),
                    own.get("shape")
                )));
            }
            versions.push(own.map(|(_, version)| version));
        }
        Ok(versions)
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

/// Whether the shape that a document tells is another one than `shape`, and not just smaller.
fn is_beyond(told: &Json, shape: &[u64]) -> bool {
    told.counts().is_none_or(|told| {
        told.len() != shape.len() || told.iter().zip(shape).any(|(told, extent)| told > extent)
    })
}
