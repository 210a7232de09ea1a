//! HDF5 files that grow: a copy with more chunks, which takes the place of the file in the end.
//!
//! ```text
//! write         chunks are added behind the end of the copy
//! publication   chunk indexes, extents of datasets and the length of the file are patched in the copy
//! ```

mod array;
mod extensible;
pub(super) mod output;
mod patch;
mod superblock;
mod tree;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use futures::TryStreamExt;

use crate::array::{Attributes, Dataset, Variable};
use crate::error::{Error, Result, Within};
use crate::format::hdf5::create::Created;
use crate::format::hdf5::index::Span;
use crate::format::hdf5::netcdf4::Named;
use crate::format::hdf5::storage::File;
use crate::format::hdf5::{Contents, netcdf4, tree as groups};
use crate::format::{Appender, Publication, Region};
use crate::store::Store;
use crate::store::replace::{Identity, Replacement};
use crate::store::write::Durability;

use self::array::{Array, Index, Writer};
use self::output::Output;
use self::superblock::Superblock;

/// A file that is being changed.
#[derive(Debug)]
pub(super) struct Hdf5Appender {
    store: Store,
    way: Way,
    file: Arc<File>,
    superblock: Superblock,
    dataset: Dataset,
    /// Dimensions, and the paths of the groups that they belong to.
    dimensions: Vec<(String, Named)>,
    /// By the addresses of their headers.
    arrays: BTreeMap<u64, Array>,
    /// Addresses by the paths of variables.
    paths: HashMap<String, u64>,
    /// The new version, once there is something to write.
    output: Option<Output>,
}

/// How a file comes about.
#[derive(Debug)]
pub(super) enum Way {
    /// As a copy of the one that was found.
    Copy(Identity, Durability),
    /// It is new.
    New(Created),
}

/// Begins to change the file of `length` bytes at the location of `store`, which is `found`.
pub(super) fn begin(
    store: &Store,
    found: Option<Identity>,
    length: u64,
    durability: Durability,
) -> Result<Hdf5Appender> {
    let found = found.ok_or_else(|| {
        Error::Unsupported("HDF5 files can only be written on this machine".into())
    })?;
    let contents = Contents::read(store, length)?;
    Hdf5Appender::new(store, contents, Way::Copy(found, durability), None)
}

impl Hdf5Appender {
    /// The appender of a file with these contents, at the location of `store` before or after.
    pub(super) fn new(
        store: &Store,
        contents: Contents,
        way: Way,
        output: Option<Output>,
    ) -> Result<Self> {
        let superblock = Superblock::read(&contents.file)?;
        let dataset = super::dataset(store.location(), &contents)?;
        let Contents {
            file,
            nodes,
            dimensions,
            ..
        } = contents;
        let variables: HashMap<&str, &Arc<Variable>> = dataset
            .root
            .walk()
            .into_iter()
            .flat_map(|group| &group.variables)
            .map(|variable| (variable.path.as_str(), variable))
            .collect();
        let mut arrays = BTreeMap::new();
        let mut paths = HashMap::new();
        for (node, of) in nodes.iter().zip(&dimensions.of) {
            for (array, of) in node.datasets.iter().zip(of) {
                let is_variable = netcdf4::is_variable(&file, array);
                let of = if is_variable {
                    of.clone()
                } else {
                    // The scale of a dimension is as long as that.
                    let own = dimensions.all.iter();
                    own.enumerate()
                        .filter(|(_, dimension)| dimension.scale == Some(array.address))
                        .map(|(at, _)| at)
                        .take(1)
                        .collect()
                };
                let path = groups::below(&node.path, netcdf4::variable_name(array));
                let variable = variables.get(path.as_str()).filter(|_| is_variable);
                let writer = match &array.stored {
                    Ok(stored) => Writer::new(&file, array.address, stored, array.shape.len()),
                    Err(error) => Err(Error::Unsupported(error.to_string())),
                };
                if is_variable {
                    paths.insert(path.clone(), array.address);
                }
                arrays.entry(array.address).or_insert_with(|| Array {
                    path,
                    of,
                    stored: array.shape.clone(),
                    most: array.most.clone(),
                    extent: array.shape.clone(),
                    has_other_end: matches!(&array.stored, Ok(stored) if stored.beyond.is_some()),
                    variable: variable.map(|variable| Arc::clone(variable)),
                    is_bare: !is_variable,
                    writer: writer.map(Arc::new).map_err(|error| error.to_string()),
                    written: BTreeMap::new(),
                });
            }
        }
        let group = |named: &Named| nodes.get(named.group).map(|node| node.path.clone());
        let dimensions = dimensions.all.into_iter();
        Ok(Self {
            store: store.clone(),
            way,
            superblock,
            dimensions: dimensions
                .map(|named| (group(&named).unwrap_or_default(), named))
                .collect(),
            arrays,
            paths,
            output,
            dataset,
            file,
        })
    }
}

#[async_trait]
impl Appender for Hdf5Appender {
    fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    fn piece(&self, variable: &str) -> Result<Vec<u64>> {
        Ok(self.array(variable)?.writer()?.chunk.clone())
    }

    fn along(&self, group: &str, dimension: &str) -> Vec<Arc<Variable>> {
        let Some(at) = self.visible(group, dimension) else {
            return Vec::new();
        };
        self.arrays
            .values()
            .filter(|array| array.of.contains(&at))
            .filter_map(|array| array.variable.clone())
            .collect()
    }

    async fn write(&mut self, region: Region) -> Result<()> {
        let array = self.array(&region.variable)?;
        let writer = array.writer()?;
        let ends = region.start.iter().zip(&region.shape);
        for (axis, (start, count)) in ends.enumerate() {
            self.check_growth(array, axis, start.saturating_add(*count))?;
        }
        let address = self.paths.get(&region.variable).copied();
        let pieces = region.pieces(&writer.chunk);
        let mut before = array.places(&pieces).await?;
        let path = region.variable.clone();
        let encoder = Arc::clone(&writer);
        let encoded = Arc::new(region).encoded(&writer.chunk, move |region, coord, scratch| {
            let cells = region.piece(coord, &encoder.chunk, encoder.size, &encoder.fill)?;
            encoder.pipeline.encode(&cells, scratch)
        });
        futures::pin_mut!(encoded);
        while let Some((mut coord, bytes)) = encoded.try_next().await? {
            let before = before.remove(&coord);
            coord.truncate(writer.rank);
            let length = u32::try_from(bytes.len()).map_err(|_| {
                Error::Unsupported(format!(
                    "{}: chunks of 4 GiB and more cannot be written",
                    path
                ))
            })?;
            self.output()?;
            let array = address.and_then(|address| self.arrays.get_mut(&address));
            let (Some(array), Some(output)) = (array, self.output.as_mut()) else {
                continue;
            };
            if let Index::Cell(place) = writer.index {
                output.write(place, &bytes)?;
                continue;
            }
            let before = match array.written.get(&coord) {
                Some(span) => Some((self.file.absolute(span.address)?, span.length.into())),
                None => before,
            };
            if let Some((place, length)) = before {
                output.release(place, length);
            }
            let span = Span {
                address: output.put(&bytes)?,
                length,
                mask: 0,
            };
            array.written.insert(coord, span);
        }
        Ok(())
    }

    fn resize(&mut self, group: &str, dimension: &str, length: u64) -> Result<()> {
        let at = self.visible(group, dimension).ok_or_else(|| {
            Error::NotFound(format!(
                "{} has no dimension {dimension}",
                self.dataset.location
            ))
        })?;
        let before = self.dimensions.get(at).map_or(0, |(_, named)| named.length);
        for array in self.arrays.values() {
            for axis in axes(&array.of, at) {
                if !array.is_bare {
                    array.writer()?;
                }
                self.check_growth(array, axis, length)?;
                let stored = array.stored.get(axis).copied().unwrap_or(0);
                if array.has_other_end && stored < before && !array.is_bare {
                    return Err(Error::Unsupported(format!(
                        "{}: it cannot grow, because it ends at index {stored} of {dimension}, which has {before}, and what \
                         is missing would get another value",
                        array.path
                    )));
                }
            }
        }
        for array in self.arrays.values_mut() {
            for axis in axes(&array.of, at) {
                if let Some(extent) = array.extent.get_mut(axis) {
                    *extent = length;
                }
            }
        }
        Ok(())
    }

    fn set_attributes(&mut self, group: &str, attributes: &Attributes) -> Result<()> {
        match (&mut self.way, &mut self.output) {
            (Way::New(created), Some(output)) if group.is_empty() => {
                created.set_attributes(attributes, output)
            }
            _ => Err(Error::Unsupported(format!(
                "{}: the attributes of group \"{group}\" cannot be changed in this format",
                self.dataset.location
            ))),
        }
    }

    async fn fence(&mut self) -> Result<()> {
        // A file on this machine is locked by the operating system: nobody is given up who still writes.
        Ok(())
    }

    async fn publication(&mut self) -> Result<Publication> {
        let changed = self.arrays.values().any(|array| array.is_changed());
        if changed {
            self.output()?;
        }
        let Some(mut output) = self.output.take() else {
            return Ok(Publication::default());
        };
        for (address, array) in &self.arrays {
            if array.is_changed() {
                array
                    .publish(&self.file, *address, &self.superblock, &mut output)
                    .within(|| &array.path)?;
            }
        }
        self.superblock.finish(&output)?;
        Ok(Publication {
            replacement: Some(output.finish()?),
            ..Publication::default()
        })
    }

    async fn orphans(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn abandon(&mut self) -> Result<()> {
        self.output = None;
        Ok(())
    }
}

impl Hdf5Appender {
    fn array(&self, variable: &str) -> Result<&Array> {
        self.paths
            .get(variable)
            .and_then(|address| self.arrays.get(address))
            .ok_or_else(|| {
                Error::NotFound(format!(
                    "{} has no variable {variable}",
                    self.dataset.location
                ))
            })
    }

    /// The place of the dimension that a name means in a group: its own, or one of a group around it.
    fn visible(&self, group: &str, name: &str) -> Option<usize> {
        let outwards = std::iter::successors(Some(group), |path| {
            let outer = path.rsplit_once('/').map_or("", |(outer, _)| outer);
            (!path.is_empty()).then_some(outer)
        });
        outwards.into_iter().find_map(|group| {
            let mut dimensions = self.dimensions.iter();
            dimensions.position(|(of, named)| of == group && named.name == name)
        })
    }

    /// Refuses an end beyond which an axis cannot grow.
    fn check_growth(&self, array: &Array, axis: usize, end: u64) -> Result<()> {
        let Some(Some(most)) = array.most.get(axis) else {
            return Ok(());
        };
        if end <= *most {
            return Ok(());
        }
        let dimension = array.of.get(axis).and_then(|at| self.dimensions.get(*at));
        let name = dimension.map_or("", |(_, named)| named.name.as_str());
        Err(Error::Invalid(format!(
            "{}: dimension {name} cannot grow beyond {most}, because it is not unlimited",
            array.path
        )))
    }

    /// The new version of the file.
    fn output(&mut self) -> Result<&mut Output> {
        let output = match self.output.take() {
            Some(output) => output,
            None => {
                let Way::Copy(found, durability) = self.way else {
                    return Err(Error::Invalid(format!(
                        "{} was published or abandoned already",
                        self.dataset.location
                    )));
                };
                let copy = Replacement::copy(&self.store, found, durability)?;
                Output::new(copy, &self.file)?
            }
        };
        Ok(self.output.insert(output))
    }
}

/// The axes of an array that are the dimension at a place.
fn axes(of: &[usize], dimension: usize) -> impl Iterator<Item = usize> {
    let all = of.iter().enumerate();
    all.filter(move |(_, at)| **at == dimension)
        .map(|(axis, _)| axis)
}
