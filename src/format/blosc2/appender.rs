//! Blosc2 datasets that grow: each array is written anew beside the old one, with the old chunks as they are.
//!
//! ```text
//! tas.b2nd          a new file, which takes the place of the old one
//! tas.b2nd/         new chunk files under names of their own; the new index takes the place of the old one
//! climate.b2d/      the same for every array that grows, all of them put aside first
//! ```
//!
//! A new dataset is made in the same way, but for the old arrays; its chunks are written as they come.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;

use super::append::{Growth, OldArray};
use super::create;
use super::write::NewFrame;
use super::{Blosc2, blocks, is_sparse_frame};
use crate::array::blueprint::Blueprint;
use crate::array::chunk::ElementOrder;
use crate::array::{Attributes, Dataset, Variable};
use crate::codec::encode::{EncodePipeline, EncodeScratch, Encoder};
use crate::error::{Error, Result, Within};
use crate::format::{Appender, Format, Publication, Region};
use crate::store::replace::{Identity, Replacement};
use crate::store::write::{Durability, Expect, Object, aside};
use crate::store::{Kind, Store};

/// A dataset that is being changed.
#[derive(Debug)]
pub(super) struct Blosc2Appender {
    store: Store,
    durability: Durability,
    dataset: Dataset,
    /// What tells whether a dataset of one file is still the same.
    found: Option<Identity>,
    arrays: BTreeMap<String, Array>,
    moves: Vec<(String, String)>,
    /// What else a new dataset consists of.
    documents: Vec<Object>,
    /// Whether it is one array, without a group around it.
    is_single: bool,
}

/// An array that takes cells.
#[derive(Debug)]
struct Array {
    variable: Arc<Variable>,
    /// Extents after the change.
    shape: Vec<u64>,
    content: Content,
}

/// What an array holds.
#[derive(Debug)]
enum Content {
    /// It was there before.
    Old {
        /// As it was, once it has been looked at.
        array: Option<Box<OldArray>>,
        /// New chunks by their places, encoded.
        chunks: HashMap<Vec<u64>, Bytes>,
    },
    /// It is new.
    New {
        frame: Box<NewFrame>,
        output: Output,
    },
    /// The indices of a dimension of a single array, which are not stored.
    Indices,
}

/// Where a new array is until it is complete.
#[derive(Debug)]
enum Output {
    /// Put aside, under this key.
    Aside(String),
    /// Beside the file that it will be; nothing once it is handed over.
    Beside(Option<Replacement>),
}

/// How cells become chunks.
struct Recipe {
    chunk: Vec<u64>,
    block: Vec<u64>,
    /// One element of cells without a value.
    fill: Vec<u8>,
    pipeline: EncodePipeline,
}

/// Begins to change the dataset at the location of `store`.
pub(super) async fn begin(store: &Store, durability: Durability) -> Result<Blosc2Appender> {
    check_local(store)?;
    let dataset = Blosc2.open(store).await?;
    let mut arrays = BTreeMap::new();
    for group in dataset.root.walk() {
        for variable in &group.variables {
            let array = Array {
                variable: Arc::clone(variable),
                shape: variable.shape().to_vec(),
                content: Content::Old {
                    array: None,
                    chunks: HashMap::new(),
                },
            };
            arrays.insert(variable.path.clone(), array);
        }
    }
    let (found, is_single) = match store.kind().await? {
        Kind::Object => (store.identity()?, true),
        Kind::Directory => (None, is_sparse_frame(&store.list("").await?)),
    };
    Ok(Blosc2Appender {
        found,
        is_single,
        store: store.clone(),
        durability,
        dataset,
        arrays,
        moves: Vec::new(),
        documents: Vec::new(),
    })
}

/// Begins to make a dataset at the location of `store`, where there is none.
pub(super) fn create(
    store: &Store,
    blueprint: &Blueprint,
    durability: Durability,
) -> Result<Blosc2Appender> {
    check_local(store)?;
    let is_single = Blosc2.makes(store) == Kind::Object;
    let outline = match is_single {
        true => create::single(store.location(), blueprint),
        false => create::directory(store.location(), blueprint),
    }?;
    let mut frames: HashMap<String, NewFrame> = outline.frames.into_iter().collect();
    let (mut arrays, mut moves) = (BTreeMap::new(), Vec::new());
    for group in outline.dataset.root.walk() {
        for variable in &group.variables {
            let content = match frames.remove(&variable.path) {
                None => Content::Indices,
                Some(frame) => Content::New {
                    frame: Box::new(frame),
                    output: if is_single {
                        Output::Beside(Some(Replacement::first(store, durability)?))
                    } else {
                        let aside = aside();
                        moves.push((aside.clone(), format!("{}.b2nd", variable.path)));
                        Output::Aside(aside)
                    },
                },
            };
            let array = Array {
                variable: Arc::clone(variable),
                shape: variable.shape().to_vec(),
                content,
            };
            arrays.insert(variable.path.clone(), array);
        }
    }
    Ok(Blosc2Appender {
        store: store.clone(),
        durability,
        dataset: outline.dataset,
        found: None,
        arrays,
        moves,
        documents: outline.documents,
        is_single,
    })
}

fn check_local(store: &Store) -> Result<()> {
    if store.is_local() {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "{}: Blosc2 datasets can only be written on this machine",
        store.location()
    )))
}

#[async_trait]
impl Appender for Blosc2Appender {
    fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    fn piece(&self, variable: &str) -> Result<Vec<u64>> {
        let array = self
            .arrays
            .get(variable)
            .ok_or_else(|| self.unknown(variable))?;
        Ok(array.variable.layout.grid.chunk_shape().to_vec())
    }

    fn along(&self, group: &str, dimension: &str) -> Vec<Arc<Variable>> {
        let variables = self.dataset.along(group, dimension).into_iter();
        variables.map(|(variable, _)| variable).collect()
    }

    async fn write(&mut self, region: Region) -> Result<()> {
        let unknown = self.unknown(&region.variable);
        let array = self.arrays.get_mut(&region.variable).ok_or(unknown)?;
        if let Content::Indices = array.content {
            return create::check_indices(&region, array.variable.layout.element)
                .within(|| &self.dataset.location);
        }
        let recipe = array.recipe(&self.store).await?;
        let chunk = recipe.chunk.clone();
        let encode = move |region: &Region, coord: &[u64], scratch: &mut EncodeScratch| {
            let size = recipe.fill.len();
            let cells = region.piece(coord, &recipe.chunk, size, &recipe.fill)?;
            let mut cut = Vec::new();
            blocks::cut(&cells, &recipe.chunk, &recipe.block, size, &mut cut)?;
            recipe.pipeline.encode(&cut, scratch)
        };
        let encoded = Arc::new(region).encoded(&chunk, encode);
        futures::pin_mut!(encoded);
        while let Some((coord, bytes)) = encoded.try_next().await? {
            array.take(&self.store, coord, bytes)?;
        }
        Ok(())
    }

    fn resize(&mut self, group: &str, dimension: &str, length: u64) -> Result<()> {
        let known = self.dataset.dimension(group, dimension);
        if known.is_some_and(|(_, known)| length < known.length) {
            return Err(Error::Unsupported(format!(
                "{}: Blosc2 datasets cannot be made shorter",
                self.dataset.location
            )));
        }
        for (variable, axes) in self.dataset.along(group, dimension) {
            let Some(array) = self.arrays.get_mut(&variable.path) else {
                continue;
            };
            for axis in axes {
                if let Some(extent) = array.shape.get_mut(axis) {
                    *extent = length;
                }
            }
        }
        Ok(())
    }

    async fn fence(&mut self) -> Result<()> {
        Ok(())
    }

    fn set_attributes(&mut self, group: &str, attributes: &Attributes) -> Result<()> {
        if self.is_single {
            return Err(Error::Unsupported(format!(
                "{} is an array without a group, which has no attributes",
                self.dataset.location
            )));
        }
        let document = create::attributes(group, attributes)?;
        self.documents.retain(|other| other.key != document.key);
        self.documents.insert(0, document);
        Ok(())
    }

    async fn publication(&mut self) -> Result<Publication> {
        let mut publication = Publication::default();
        for (path, array) in &mut self.arrays {
            let (old, chunks) = match &mut array.content {
                Content::Old { array, chunks } => (array, chunks),
                Content::Indices => continue,
                Content::New { frame, output } => {
                    let fill = array.variable.layout.fill.as_slice();
                    let new = frame.array().clone();
                    let shape = array.shape.clone();
                    let unwritten = || create::unwritten(&new, fill);
                    match output {
                        Output::Aside(key) => {
                            frame.finish(self.store.edit_local(key)?, shape, unwritten)
                        }
                        Output::Beside(Some(file)) => frame.finish(file.writer(), shape, unwritten),
                        Output::Beside(None) => Ok(()),
                    }
                    .within(|| path)?;
                    if let Output::Beside(file) = output {
                        publication.replacement = file.take();
                    }
                    continue;
                }
            };
            if chunks.is_empty() && array.shape == array.variable.shape() {
                continue;
            }
            let opened;
            let old = match old {
                Some(old) => &**old,
                None => {
                    opened = OldArray::open(&self.store, path).await?;
                    &opened
                }
            };
            let growth = old.grow(array.shape.clone())?;
            if old.directory().is_some() {
                let (objects, index) = sparse(growth, chunks).await?;
                self.store.put_all(objects, self.durability).await?;
                publication.documents.push(index);
                continue;
            }
            let mut before = self.store.open_local(old.key())?;
            if let Some(found) = self.found {
                let new = Replacement::empty(&self.store, found, self.durability)?;
                write(&growth, &mut before, new.writer(), chunks)?;
                publication.replacement = Some(new);
            } else {
                let aside = aside();
                self.store.put_stream(&aside, self.durability, |new| {
                    write(&growth, &mut before, new, chunks)
                })?;
                self.moves.push((aside, old.key().to_owned()));
            }
        }
        publication.moves = self.moves.clone();
        publication.documents.extend(self.documents.iter().cloned());
        Ok(publication)
    }

    async fn abandon(&mut self) -> Result<()> {
        let aside: Vec<String> = self.moves.drain(..).map(|(from, _)| from).collect();
        self.store.delete_all(&aside).await
    }
}

impl Blosc2Appender {
    fn unknown(&self, variable: &str) -> Error {
        Error::NotFound(format!(
            "{} has no variable {variable}",
            self.dataset.location
        ))
    }
}

impl Array {
    /// How its cells become chunks.
    async fn recipe(&mut self, store: &Store) -> Result<Recipe> {
        let path = &self.variable.path;
        let (layout, block, pipeline) = match &mut self.content {
            Content::New { frame, .. } => {
                let array = frame.array();
                let encoder = Encoder::Blosc(array.encoder().within(|| path)?);
                let layout = &*self.variable.layout;
                (layout, &array.block, EncodePipeline(vec![encoder]))
            }
            Content::Indices => {
                return Err(Error::Invalid(format!("{path} holds nothing but indices")));
            }
            Content::Old { array, .. } => {
                let old = match array.take() {
                    Some(old) => old,
                    None => Box::new(OldArray::open(store, path).await?),
                };
                let old = array.insert(old);
                let pipeline = old.pipeline();
                let layout = old.layout();
                let ElementOrder::Blocked(block) = &layout.order else {
                    return Err(Error::Unsupported(format!(
                        "{path}: its chunks are not in blocks"
                    )));
                };
                (layout, block, pipeline)
            }
        };
        let size = layout.element.size().ok_or_else(|| {
            Error::Unsupported(format!("{path}: text of any length cannot be written"))
        })?;
        let mut fill = layout.fill.clone();
        fill.resize(size, 0);
        Ok(Recipe {
            chunk: layout.grid.chunk_shape().to_vec(),
            block: block.clone(),
            fill,
            pipeline,
        })
    }

    /// Takes an encoded chunk.
    fn take(&mut self, store: &Store, coord: Vec<u64>, encoded: Vec<u8>) -> Result<()> {
        match &mut self.content {
            Content::Old { chunks, .. } => {
                chunks.insert(coord, encoded.into());
                Ok(())
            }
            Content::New { frame, output } => match output {
                Output::Aside(key) => frame.put(&mut store.edit_local(key)?, &coord, &encoded),
                Output::Beside(Some(file)) => frame.put(&mut file.writer(), &coord, &encoded),
                Output::Beside(None) => Ok(()),
            }
            .within(|| &self.variable.path),
            Content::Indices => Ok(()),
        }
    }
}

/// Writes the longer array of a contiguous frame.
fn write<W: std::io::Write + Seek>(
    growth: &Growth<'_>,
    old: &mut (impl Read + Seek),
    new: W,
    chunks: &HashMap<Vec<u64>, Bytes>,
) -> Result<()> {
    let grid = growth.grid().clone();
    let mut chunk = |number: u64| Ok(chunks.get(&grid.coord(number)).cloned());
    growth.write(old, new, &mut chunk).map(drop)
}

/// The chunk files and the index of the longer array of a sparse frame.
async fn sparse(
    growth: Growth<'_>,
    chunks: &HashMap<Vec<u64>, Bytes>,
) -> Result<(Vec<Object>, Object)> {
    let mut sparse = growth.sparse().await?;
    let mut numbered: Vec<(u64, &Bytes)> = chunks
        .iter()
        .map(|(coord, bytes)| (sparse.grid().number(coord), bytes))
        .collect();
    numbered.sort_by_key(|(number, _)| *number);
    let mut objects = Vec::new();
    for (number, bytes) in numbered {
        if let Some(key) = sparse.add(number, bytes)? {
            objects.push(Object {
                key,
                bytes: bytes.clone(),
                expect: Expect::Anything,
            });
        }
    }
    // Old chunk files that nothing refers to any more stay for those who have the old index open.
    let index = sparse.finish().await?;
    Ok((
        objects,
        Object {
            key: index.key,
            bytes: index.content.into(),
            expect: Expect::Anything,
        },
    ))
}
