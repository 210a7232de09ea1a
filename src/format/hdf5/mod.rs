//! netCDF-4 and HDF5 files.

mod append;
mod attributes;
mod bytes;
mod contiguous;
mod create;
mod dataset;
mod extensible_array;
mod fill;
mod filters;
mod fixed_array;
mod header;
mod index;
mod links;
mod netcdf4;
mod numbering;
mod rewrite;
mod storage;
#[cfg(test)]
mod tests;
mod tree;
mod trees;
mod types;

use std::sync::Arc;

use async_trait::async_trait;

use crate::array::blueprint::Blueprint;
use crate::array::chunk::ElementOrder;
use crate::array::dtype::ElementType;
use crate::array::{Dataset, Dimension, Group, Layout, Unreadable, Variable};
use crate::error::{Error, Result, Within};
use crate::format::hdf5::index::Chunks;
use crate::format::hdf5::netcdf4::Dimensions;
use crate::format::hdf5::storage::File;
use crate::format::hdf5::tree::Node;
use crate::format::{Appender, Format};
use crate::store::lock::Lock;
use crate::store::write::Durability;
use crate::store::{Kind, Store};

const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
/// A user block before the file is looked behind up to this size.
const LARGEST_USER_BLOCK: u64 = 1 << 30;

/// The format of netCDF-4 and HDF5 files.
#[derive(Debug)]
pub struct Hdf5;

#[async_trait]
impl Format for Hdf5 {
    fn name(&self) -> &'static str {
        "hdf5"
    }

    async fn sniff(&self, store: &Store, head: &[u8]) -> Result<bool> {
        let mut length = None;
        let places = std::iter::successors(Some(512u64), |place| place.checked_mul(2));
        for place in std::iter::once(0).chain(places) {
            let end = place + SIGNATURE.len() as u64;
            let found = match usize::try_from(place).ok().and_then(|at| head.get(at..)) {
                Some(rest) if rest.len() >= SIGNATURE.len() => rest.starts_with(SIGNATURE),
                // All of the object is in `head` unless that is full.
                _ if head.len() < 512 || !head.len().is_power_of_two() => return Ok(false),
                _ => {
                    let length = match length {
                        Some(length) => length,
                        None => *length.insert(store.size("").await?),
                    };
                    if end > length.min(LARGEST_USER_BLOCK) {
                        return Ok(false);
                    }
                    store.range("", place, SIGNATURE.len()).await? == SIGNATURE
                }
            };
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn open(&self, store: &Store) -> Result<Dataset> {
        let length = store.size("").await?;
        let store = store.clone();
        let location = store.location().to_owned();
        let opened = tokio::task::spawn_blocking(move || open(&store, length))
            .await
            .unwrap_or_else(|_| Err(Error::Corrupt("the metadata cannot be parsed".into())));
        opened.within(|| location)
    }

    async fn begin(
        &self,
        store: &Store,
        _lock: &Arc<Lock>,
        durability: Durability,
    ) -> Result<Box<dyn Appender>> {
        // Before the file is opened: another one that takes its place from here on is noticed.
        let found = store.identity()?;
        let length = store.size("").await?;
        let store = store.clone();
        tokio::task::spawn_blocking(move || append::begin(&store, found, length, durability))
            .await
            .unwrap_or_else(|_| Err(Error::Corrupt("the metadata cannot be parsed".into())))
            .map(|appender| Box::new(appender) as Box<dyn Appender>)
    }

    fn makes(&self, _store: &Store) -> Kind {
        Kind::Object
    }

    fn text_element(&self, _characters: u32, bytes: u32) -> ElementType {
        ElementType::Bytes(bytes.max(1))
    }

    async fn create(
        &self,
        store: &Store,
        blueprint: &Blueprint,
        _lock: &Arc<Lock>,
        durability: Durability,
    ) -> Result<Box<dyn Appender>> {
        let (store, blueprint) = (store.clone(), blueprint.clone());
        tokio::task::spawn_blocking(move || create::create(&store, &blueprint, durability))
            .await
            .unwrap_or_else(|_| Err(Error::Corrupt("the file cannot be laid out".into())))
            .map(|appender| Box::new(appender) as Box<dyn Appender>)
    }
}

/// What is in a file.
struct Contents {
    file: Arc<File>,
    nodes: Vec<Node>,
    dimensions: Dimensions,
    is_netcdf: bool,
}

impl Contents {
    fn read(store: &Store, length: u64) -> Result<Self> {
        let file = Arc::new(File::open(store, length)?);
        let nodes = tree::read(&file)?;
        let location = store.location();
        let named = [".nc", ".nc4", ".cdf"];
        let is_netcdf =
            named.iter().any(|end| location.ends_with(end)) || netcdf4::is_netcdf(&file, &nodes);
        let dimensions = Dimensions::find(&file, &nodes, !is_netcdf);
        Ok(Self {
            file,
            nodes,
            dimensions,
            is_netcdf,
        })
    }
}

fn open(store: &Store, length: u64) -> Result<Dataset> {
    dataset(store.location(), &Contents::read(store, length)?)
}

/// The contents of the file at a location, as the model has them.
fn dataset(location: &str, contents: &Contents) -> Result<Dataset> {
    let nodes = &contents.nodes;
    let parts = Parts {
        file: &contents.file,
        location,
        dimensions: &contents.dimensions,
    };
    let mut groups: Vec<Option<Group>> = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        groups.push(Some(parts.group(at, node)?));
    }
    // Children stand after their parents: when one is taken, all of its own are in it.
    for at in (1..groups.len()).rev() {
        let parent = nodes.get(at).and_then(|node| node.parent);
        let child = groups.get_mut(at).and_then(Option::take);
        let parent = parent.and_then(|parent| groups.get_mut(parent)?.as_mut());
        if let (Some(mut child), Some(parent)) = (child, parent) {
            child.groups.reverse();
            parent.groups.push(child);
        }
    }
    let mut root = groups.into_iter().next().flatten().unwrap_or_default();
    root.groups.reverse();
    Ok(Dataset {
        location: location.to_owned(),
        format: if contents.is_netcdf {
            "netcdf4"
        } else {
            "hdf5"
        },
        root,
    })
}

/// What the variables of a file have in common.
struct Parts<'a> {
    file: &'a Arc<File>,
    location: &'a str,
    dimensions: &'a Dimensions,
}

impl Parts<'_> {
    /// A group, without those within it.
    fn group(&self, at: usize, node: &Node) -> Result<Group> {
        let mut variables = Vec::new();
        let mut unreadable = node.unreadable.clone();
        let of = self.dimensions.of.get(at).map(Vec::as_slice);
        for (dataset, of) in node.datasets.iter().zip(of.unwrap_or_default()) {
            if !netcdf4::is_variable(self.file, dataset) {
                continue;
            }
            let name = netcdf4::variable_name(dataset);
            let path = tree::below(&node.path, name);
            match self.variable(&path, dataset, of) {
                Ok(variable) => variables.push(Arc::new(variable)),
                Err(error @ Error::Io { .. }) => return Err(error),
                Err(error) => unreadable.push(Unreadable {
                    name: name.to_owned(),
                    reason: error.within(path).to_string(),
                }),
            }
        }
        let declared = self.dimensions.all.iter();
        Ok(Group {
            path: node.path.clone(),
            attributes: attributes::visible(self.file, &node.attributes)?,
            dimensions: declared
                .filter(|dimension| dimension.group == at)
                .map(|dimension| Dimension {
                    name: dimension.name.clone(),
                    length: dimension.length,
                    unlimited: dimension.unlimited,
                })
                .collect(),
            variables,
            unreadable,
            groups: Vec::new(),
        })
    }

    fn variable(&self, path: &str, dataset: &tree::Dataset, of: &[usize]) -> Result<Variable> {
        let stored = match &dataset.stored {
            Ok(stored) => stored,
            Err(Error::Unsupported(text)) => return Err(Error::Unsupported(text.clone())),
            Err(error) => return Err(Error::Corrupt(error.to_string())),
        };
        let dimensions = &self.dimensions.all;
        let grid = stored.grid(netcdf4::shape(dimensions, of, dataset))?;
        let index = Chunks::new(
            self.file,
            format!("variable {path} of {}", self.location),
            stored,
            &grid,
            dataset.shape.clone(),
            dataset.most.clone(),
        );
        let names = of.iter().filter_map(|at| dimensions.get(*at));
        Ok(Variable {
            name: netcdf4::variable_name(dataset).to_owned(),
            path: path.to_owned(),
            dimensions: names.map(|dimension| dimension.name.clone()).collect(),
            attributes: attributes::visible(self.file, &dataset.attributes)?,
            layout: Arc::new(Layout {
                element: stored.element,
                grid,
                order: ElementOrder::C,
                pipeline: stored.pipeline.clone(),
                fill: index.fill().unwrap_or(&stored.fill).to_vec(),
            }),
            index: Arc::new(index),
            members: None,
        })
    }
}
