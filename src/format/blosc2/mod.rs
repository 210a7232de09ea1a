//! Blosc2: one b2nd array, or a directory of them.

pub mod append;
mod appender;
mod attributes;
pub mod blocks;
mod create;
mod dimensions;
mod frame;
mod index;
mod meta;
mod shell;
#[cfg(test)]
mod tests;
pub mod write;

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};

use crate::array::blueprint::Blueprint;
use crate::array::{Attributes, Dataset, Dimension, Group, Unreadable};
use crate::error::{Error, Result, Within};
use crate::format::blosc2::dimensions::{Array, Opened, assemble};
use crate::format::blosc2::frame::{Frame, MAGIC, place};
use crate::format::blosc2::index::{Chunks, FrameIndex};
use crate::format::{Appender, Format};
use crate::store::lock::Lock;
use crate::store::write::Durability;
use crate::store::{Entry, Kind, Store};

/// The frame of an array whose chunks are files of their own.
const SPARSE_FRAME: &str = "chunks.b2frame";
/// The frame whose variable-length metalayers are the attributes of the group around it.
const GROUP_ATTRIBUTES: &str = "__vlmeta__.b2f";
/// The frame by which python-blosc2 knows a tree of arrays; it may hold small ones itself.
const TREE: &str = "embed.b2e";
/// Extensions of the files of a directory that are frames.
const FRAMES: [&str; 4] = ["b2nd", "b2f", "b2b", "b2e"];
/// Groups within groups that are followed.
const DEEPEST: usize = 16;
/// Arrays whose metadata are read at once.
const CONCURRENT: usize = 16;
/// Entries of one directory that are looked at.
const MOST_ENTRIES: usize = 100_000;

/// The Blosc2 format.
///
/// ```text
/// tas.b2nd                  contiguous frame: dataset of one array, `tas`
/// tas.b2nd/                 sparse frame: the same, with
///     chunks.b2frame            its metadata
///     00000000.chunk …          and its chunks
/// climate.b2d/              directory: dataset of many arrays
///     tas.b2nd  lat.b2nd …      contiguous or sparse
///     ocean/sst.b2nd            group `ocean`
/// ```
///
/// An array has no place for the names of its dimensions; they are taken from its variable-length metalayer
/// `_ARRAY_DIMENSIONS` (a list of names), which is how arrays of a directory share coordinates. Dimensions without a name
/// are called `dim_0`, `dim_1`, …
#[derive(Clone, Copy, Debug, Default)]
pub struct Blosc2;

#[async_trait]
impl Format for Blosc2 {
    fn name(&self) -> &'static str {
        "blosc2"
    }

    async fn sniff(&self, store: &Store, head: &[u8]) -> Result<bool> {
        if !head.is_empty() {
            return Ok(head.starts_with(MAGIC));
        }
        match store.list("").await {
            Ok(entries) => Ok(entries.iter().any(|entry| {
                let (_, extension) = split(&entry.key);
                entry.key == SPARSE_FRAME || matches!(extension, "b2nd" | "b2e" | "b2f")
            })),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn open(&self, store: &Store) -> Result<Dataset> {
        let root = match store.kind().await? {
            Kind::Object => single(store, "", None).await?,
            Kind::Directory => {
                let entries = store.list("").await?;
                if is_sparse_frame(&entries) {
                    single(store, SPARSE_FRAME, Some(String::new())).await?
                } else {
                    group(store, String::new(), entries, Vec::new(), 0).await?
                }
            }
        };
        if is_empty(&root) {
            return Err(Error::NotFound(format!(
                "{} holds no Blosc2 arrays",
                store.location()
            )));
        }
        Ok(Dataset {
            location: store.location().to_owned(),
            format: "blosc2",
            root,
        })
    }

    async fn begin(
        &self,
        store: &Store,
        _lock: &Arc<Lock>,
        durability: Durability,
    ) -> Result<Box<dyn Appender>> {
        Ok(Box::new(appender::begin(store, durability).await?))
    }

    fn makes(&self, store: &Store) -> Kind {
        match split(last_part(store.location().trim_end_matches('/'))) {
            (_, "b2nd") => Kind::Object,
            _ => Kind::Directory,
        }
    }

    async fn create(
        &self,
        store: &Store,
        blueprint: &Blueprint,
        _lock: &Arc<Lock>,
        durability: Durability,
    ) -> Result<Box<dyn Appender>> {
        Ok(Box::new(appender::create(store, blueprint, durability)?))
    }
}

/// A frame to be opened.
#[derive(Debug)]
struct Leaf {
    /// Name of its variable.
    name: String,
    /// Key of the frame.
    key: String,
    /// Directory of the chunk files of a sparse frame.
    sparse: Option<String>,
}

/// The dataset of one frame.
async fn single(store: &Store, key: &str, sparse: Option<String>) -> Result<Group> {
    let leaf = Leaf {
        name: store.stem().to_owned(),
        key: key.to_owned(),
        sparse,
    };
    let opened = match array(store, &leaf).await {
        Ok(array) => Opened::Array(Box::new(array)),
        Err(Error::Unsupported(reason)) => Opened::Unreadable(vec![Unreadable {
            name: leaf.name,
            reason,
        }]),
        Err(error) => return Err(error),
    };
    Ok(assemble("", vec![opened], &[]))
}

/// The frame of the array whose path in the dataset is `path`.
async fn find(store: &Store, path: &str) -> Result<Leaf> {
    let unknown = || Error::NotFound(format!("{} has no array {path}", store.location()));
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let leaf = |key: &str, sparse: Option<String>| Leaf {
        name: name.to_owned(),
        key: key.to_owned(),
        sparse,
    };
    if store.kind().await? == Kind::Object {
        return match path == store.stem() {
            true => Ok(leaf("", None)),
            false => Err(unknown()),
        };
    }
    let entries = store.list(directory).await?;
    if directory.is_empty() && is_sparse_frame(&entries) {
        return match path == store.stem() {
            true => Ok(leaf(SPARSE_FRAME, Some(String::new()))),
            false => Err(unknown()),
        };
    }
    let contents = Contents::of(store, directory, entries).await?;
    let mut leaves = contents.leaves.into_iter();
    let found = leaves.find(|leaf| leaf.name == name && !leaf.key.ends_with(".b2e"));
    found.ok_or_else(unknown)
}

/// The group that is the directory at `key`.
fn group(
    store: &Store,
    key: String,
    entries: Vec<Entry>,
    outer: Vec<Dimension>,
    depth: usize,
) -> BoxFuture<'_, Result<Group>> {
    Box::pin(async move {
        let contents = Contents::of(store, &key, entries).await?;
        let frames = contents.leaves.into_iter().map(|leaf| open(store, leaf));
        let opened: Vec<Opened> = futures::stream::iter(frames)
            .buffered(CONCURRENT)
            .try_collect()
            .await?;
        let mut group = assemble(&key, opened, &outer);
        group.attributes = contents.attributes;
        if depth < DEEPEST {
            // The nearest ones first: they hide those of the same name further out.
            let mut visible = group.dimensions.clone();
            visible.extend(outer);
            for (key, entries) in contents.directories {
                let inner = self::group(store, key, entries, visible.clone(), depth + 1).await?;
                if !(is_empty(&inner) && inner.attributes.0.is_empty()) {
                    group.groups.push(inner);
                }
            }
        }
        Ok(group)
    })
}

/// What a directory that is a group holds.
#[derive(Debug, Default)]
struct Contents {
    leaves: Vec<Leaf>,
    /// Further directories, with what is in them.
    directories: Vec<(String, Vec<Entry>)>,
    attributes: Attributes,
}

impl Contents {
    async fn of(store: &Store, key: &str, entries: Vec<Entry>) -> Result<Self> {
        if entries.len() > MOST_ENTRIES {
            return Err(Error::Exhausted(format!(
                "{} has more than {MOST_ENTRIES} entries",
                place(store, key)
            )));
        }
        let mut contents = Self::default();
        for entry in entries {
            let name = last_part(&entry.key);
            let (stem, extension) = split(name);
            if name == GROUP_ATTRIBUTES {
                let frame = Frame::read(store, &entry.key).await?;
                let found = attributes::attributes(&frame, 0);
                (contents.attributes, _) = found.within(|| place(store, &entry.key))?;
            } else if entry.is_directory && !name.starts_with('.') {
                let inner = store.list(&entry.key).await?;
                if is_sparse_frame(&inner) {
                    contents.leaves.push(Leaf {
                        name: stem.to_owned(),
                        key: format!("{}/{SPARSE_FRAME}", entry.key),
                        sparse: Some(entry.key),
                    });
                } else {
                    contents.directories.push((entry.key, inner));
                }
            } else if !entry.is_directory && FRAMES.contains(&extension) {
                contents.leaves.push(Leaf {
                    name: stem.to_owned(),
                    key: entry.key,
                    sparse: None,
                });
            }
        }
        Ok(contents)
    }
}

/// Opens one frame of a directory; a damaged one does not hide the others.
async fn open(store: &Store, leaf: Leaf) -> Result<Opened> {
    if leaf.key.ends_with(".b2e") {
        return embedded(store, &leaf).await;
    }
    match array(store, &leaf).await {
        Ok(array) => Ok(Opened::Array(Box::new(array))),
        Err(Error::Io { what, source }) => Err(Error::Io { what, source }),
        Err(error) => Ok(Opened::Unreadable(vec![Unreadable {
            name: leaf.name,
            reason: error.to_string(),
        }])),
    }
}

async fn array(store: &Store, leaf: &Leaf) -> Result<Array> {
    let place = || place(store, leaf.sparse.as_deref().unwrap_or(&leaf.key));
    let frame = Frame::read(store, &leaf.key).await?;
    if frame.header.is_sparse != leaf.sparse.is_some() {
        return Err(Error::Corrupt(
            "the chunks of a sparse frame are not beside it".into(),
        ))
        .within(place);
    }
    let layout = meta::layout(&frame).within(place)?;
    let (attributes, dimensions) =
        attributes::attributes(&frame, layout.grid.shape().len()).within(place)?;
    let chunks = Chunks {
        count: layout.grid.len(),
        bytes: meta::chunk_bytes(&layout).within(place)?,
        is_swapped: layout.pipeline.0.len() > 1,
    };
    let index = FrameIndex::new(store, &leaf.key, leaf.sparse.clone(), frame, &chunks);
    Ok(Array {
        name: leaf.name.clone(),
        layout,
        attributes,
        dimensions,
        index,
    })
}

/// The arrays within a store of embedded objects: their bytes are compressed a second time, as the data of one frame.
async fn embedded(store: &Store, leaf: &Leaf) -> Result<Opened> {
    let frame = Frame::read(store, &leaf.key).await?;
    let names = attributes::embedded_names(&frame).within(|| place(store, &leaf.key))?;
    let unreadable = names.into_iter().map(|name| Unreadable {
        reason: format!(
            "{}: {name} is embedded in this file, and embedded arrays cannot be read: store it as a file of its own",
            place(store, &leaf.key)
        ),
        name,
    });
    Ok(Opened::Unreadable(unreadable.collect()))
}

fn is_empty(group: &Group) -> bool {
    group.variables.is_empty() && group.unreadable.is_empty() && group.groups.is_empty()
}

fn is_sparse_frame(entries: &[Entry]) -> bool {
    entries
        .iter()
        .any(|entry| !entry.is_directory && last_part(&entry.key) == SPARSE_FRAME)
}

fn last_part(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

/// A file name without its extension, and the extension.
fn split(name: &str) -> (&str, &str) {
    match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, extension),
        _ => (name, ""),
    }
}
