//! Blosc2 datasets that grow: each array is written anew beside the old one, with the old chunks as they are.
//!
//! ```text
//! tas.b2nd          a new file, which takes the place of the old one
//! tas.b2nd/         new chunk files under names of their own; the new index takes the place of the old one
//! climate.b2d/      the same for every array that grows, all of them put aside first
//! ```

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;

use super::Blosc2;
use super::append::{Growth, OldArray};
use super::blocks;
use crate::array::chunk::ElementOrder;
use crate::array::{Dataset, Variable};
use crate::error::{Error, Result};
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
}

/// An array that takes cells.
#[derive(Debug)]
struct Array {
    variable: Arc<Variable>,
    /// Extents after the change.
    shape: Vec<u64>,
    old: Option<OldArray>,
    /// New chunks by their places, encoded.
    chunks: HashMap<Vec<u64>, Bytes>,
}

/// Begins to change the dataset at the location of `store`.
pub(super) async fn begin(store: &Store, durability: Durability) -> Result<Blosc2Appender> {
    if !store.is_local() {
        return Err(Error::Unsupported(format!(
            "{}: Blosc2 datasets can only be written on this machine",
            store.location()
        )));
    }
    let dataset = Blosc2.open(store).await?;
    let mut arrays = BTreeMap::new();
    for group in dataset.root.walk() {
        for variable in &group.variables {
            let array = Array {
                variable: Arc::clone(variable),
                shape: variable.shape().to_vec(),
                old: None,
                chunks: HashMap::new(),
            };
            arrays.insert(variable.path.clone(), array);
        }
    }
    Ok(Blosc2Appender {
        found: match store.kind().await? {
            Kind::Object => store.identity()?,
            Kind::Directory => None,
        },
        store: store.clone(),
        durability,
        dataset,
        arrays,
        moves: Vec::new(),
    })
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
        let old = match array.old.take() {
            Some(old) => old,
            None => OldArray::open(&self.store, &region.variable).await?,
        };
        let old = array.old.insert(old);
        let layout = old.layout();
        let ElementOrder::Blocked(block) = layout.order.clone() else {
            return Err(Error::Unsupported(format!(
                "{}: its chunks are not in blocks",
                region.variable
            )));
        };
        let size = layout.element.size().ok_or_else(|| {
            Error::Unsupported(format!(
                "{}: text of any length cannot be written",
                region.variable
            ))
        })?;
        let mut fill = layout.fill.clone();
        fill.resize(size, 0);
        let extent = layout.grid.chunk_shape().to_vec();
        let pipeline = old.pipeline().clone();
        let encoded = Arc::new(region).encoded(
            old.layout().grid.chunk_shape(),
            move |region, coord, scratch| {
                let cells = region.piece(coord, &extent, size, &fill)?;
                let mut cut = Vec::new();
                blocks::cut(&cells, &extent, &block, size, &mut cut)?;
                pipeline.encode(&cut, scratch)
            },
        );
        futures::pin_mut!(encoded);
        while let Some((coord, bytes)) = encoded.try_next().await? {
            array.chunks.insert(coord, bytes.into());
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

    async fn publication(&mut self) -> Result<Publication> {
        let mut publication = Publication::default();
        for (path, array) in &self.arrays {
            if array.chunks.is_empty() && array.shape == array.variable.shape() {
                continue;
            }
            let opened;
            let old = match &array.old {
                Some(old) => old,
                None => {
                    opened = OldArray::open(&self.store, path).await?;
                    &opened
                }
            };
            let growth = old.grow(array.shape.clone())?;
            if old.directory().is_some() {
                let (objects, index) = sparse(growth, &array.chunks).await?;
                self.store.put_all(objects, self.durability).await?;
                publication.documents.push(index);
            } else if let Some(found) = self.found {
                let new = Replacement::empty(&self.store, found, self.durability)?;
                write(&growth, &mut self.old(old)?, new.writer(), &array.chunks)?;
                publication.replacement = Some(new);
            } else {
                let aside = aside();
                let mut before = self.old(old)?;
                self.store.put_stream(&aside, self.durability, |new| {
                    write(&growth, &mut before, new, &array.chunks)
                })?;
                self.moves.push((aside, old.key().to_owned()));
            }
        }
        publication.moves = self.moves.clone();
        Ok(publication)
    }

    async fn abandon(&mut self) -> Result<()> {
        let aside: Vec<String> = self.moves.drain(..).map(|(from, _)| from).collect();
        self.store.delete_all(&aside).await
    }
}

impl Blosc2Appender {
    /// The frame of an array as it is.
    fn old(&self, array: &OldArray) -> Result<std::fs::File> {
        self.store.open_local(array.key())
    }

    fn unknown(&self, variable: &str) -> Error {
        Error::NotFound(format!(
            "{} has no variable {variable}",
            self.dataset.location
        ))
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
