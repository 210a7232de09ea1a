//! The groups and datasets of an HDF5 file, before they are given dimensions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::array::Unreadable;
use crate::error::{Error, Result};
use crate::format::hdf5::attributes::{self, Attribute};
use crate::format::hdf5::dataset::Stored;
use crate::format::hdf5::header::{Header, kind};
use crate::format::hdf5::links::{self, Link, Target};
use crate::format::hdf5::storage::File;
use crate::format::hdf5::types::Dataspace;

/// Groups are nested at most this deep.
const DEPTH: usize = 64;
/// Links to links that are followed at most.
const LINKS: usize = 16;

/// A group; parents stand before children, and `parent` and `children` are places in the list of all groups.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) parent: Option<usize>,
    pub(super) children: Vec<usize>,
    /// Path from the root without a leading slash.
    pub(super) path: String,
    pub(super) attributes: Vec<Attribute>,
    pub(super) datasets: Vec<Dataset>,
    pub(super) unreadable: Vec<Unreadable>,
}

/// A dataset.
#[derive(Debug)]
pub(super) struct Dataset {
    pub(super) name: String,
    /// Address of its header, by which others refer to it.
    pub(super) address: u64,
    pub(super) shape: Vec<u64>,
    /// How far each dimension can grow; `None` without end.
    pub(super) most: Vec<Option<u64>>,
    pub(super) attributes: Vec<Attribute>,
    /// How it is stored, or why it cannot be read.
    pub(super) stored: Result<Stored, Error>,
}

impl Dataset {
    /// The attribute called `name`.
    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|a| a.name == name)
    }
}

/// The path of `name` in the group at `path`.
pub(super) fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}/{name}")
    }
}

/// All groups of a file, the root first.
///
/// # Errors
/// `Corrupt` when the root group is damaged, `Io` when the storage fails.
pub(super) fn read(file: &File) -> Result<Vec<Node>> {
    let mut walk = Walk {
        file,
        nodes: Vec::new(),
        visited: HashMap::new(),
        listed: HashMap::new(),
    };
    let header = Header::read(file, file.root)?;
    if !links::is_group(&header) {
        return Err(Error::Corrupt(
            "the file is damaged: its root is not a group".into(),
        ));
    }
    walk.visited.insert(file.root, String::new());
    walk.group(None, "", file.root, &header, DEPTH)?;
    Ok(walk.nodes)
}

struct Walk<'a> {
    file: &'a File,
    nodes: Vec<Node>,
    /// Paths of the groups seen, by address.
    visited: HashMap<u64, String>,
    /// Links of the groups seen, by address.
    listed: HashMap<u64, Arc<[Link]>>,
}

impl Walk<'_> {
    fn group(
        &mut self,
        parent: Option<usize>,
        path: &str,
        address: u64,
        header: &Header,
        depth: usize,
    ) -> Result<()> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(Error::Unsupported(format!(
                "groups that are nested deeper than {DEPTH} cannot be read"
            )));
        };
        let links = self.links(address, header)?;
        let at = self.nodes.len();
        self.nodes.push(Node {
            parent,
            children: Vec::new(),
            path: path.to_owned(),
            attributes: attributes::read(self.file, header)?,
            datasets: Vec::new(),
            unreadable: Vec::new(),
        });
        let mut groups = Vec::new();
        for link in links.iter() {
            let found = self.object(address, link);
            let place = below(path, &link.name);
            let problem = match found {
                Ok((address, header)) if links::is_group(&header) => {
                    if let Some(known) = self.visited.get(&address) {
                        Error::Unsupported(format!("it is another link to group /{known}"))
                    } else if matches!(link.target, Target::Hard(_)) {
                        self.visited.insert(address, place.clone());
                        groups.push((link.name.clone(), place, address, header));
                        continue;
                    } else {
                        Error::Unsupported("it is a soft link to a group".into())
                    }
                }
                Ok((address, header)) => {
                    // Named datatypes have no extent, and hold nothing.
                    if header.find(kind::DATASPACE).is_none() {
                        continue;
                    }
                    match self.dataset(&link.name, address, &header) {
                        Ok(dataset) => {
                            if let Some(node) = self.nodes.get_mut(at) {
                                node.datasets.push(dataset);
                            }
                            continue;
                        }
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            self.unreadable(at, &link.name, &place, problem)?;
        }
        for (name, place, address, header) in groups {
            let child = self.nodes.len();
            match self.group(Some(at), &place, address, &header, depth) {
                Ok(()) => {
                    if let Some(node) = self.nodes.get_mut(at) {
                        node.children.push(child);
                    }
                }
                Err(error) => {
                    self.nodes.truncate(child);
                    self.unreadable(at, &name, &place, error)?;
                }
            }
        }
        Ok(())
    }

    /// Lists what is wrong with one link; failing storage is wrong with everything.
    fn unreadable(&mut self, at: usize, name: &str, place: &str, error: Error) -> Result<()> {
        if matches!(error, Error::Io { .. }) {
            return Err(error);
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.unreadable.push(Unreadable {
                name: name.to_owned(),
                reason: error.within(place).to_string(),
            });
        }
        Ok(())
    }

    fn links(&mut self, address: u64, header: &Header) -> Result<Arc<[Link]>> {
        if let Some(links) = self.listed.get(&address) {
            return Ok(Arc::clone(links));
        }
        let mut names = HashSet::new();
        let mut links = links::read(self.file, header)?;
        // Names are unique in a sound file.
        links.retain(|link| names.insert(link.name.clone()));
        let links: Arc<[Link]> = links.into();
        self.listed.insert(address, Arc::clone(&links));
        Ok(links)
    }

    fn dataset(&self, name: &str, address: u64, header: &Header) -> Result<Dataset> {
        let body = header.body(self.file, kind::DATASPACE)?;
        let space = Dataspace::parse(self.file, &body.unwrap_or_default())?;
        let Some(shape) = space.shape else {
            return Err(Error::Unsupported("it has no cells by definition".into()));
        };
        let stored = match Stored::read(self.file, header) {
            Err(error @ Error::Io { .. }) => return Err(error),
            stored => stored,
        };
        Ok(Dataset {
            name: name.to_owned(),
            address,
            shape,
            most: space.most,
            attributes: attributes::read(self.file, header)?,
            stored,
        })
    }

    /// Address and header of what a link of the group at `group` refers to.
    fn object(&mut self, group: u64, link: &Link) -> Result<(u64, Header)> {
        let address = self.follow(group, link, LINKS)?;
        Ok((address, Header::read(self.file, address)?))
    }

    fn follow(&mut self, group: u64, link: &Link, left: usize) -> Result<u64> {
        let path = match &link.target {
            Target::Hard(address) => return Ok(*address),
            Target::Soft(path) => path,
            Target::External(other) => {
                return Err(Error::Unsupported(format!(
                    "it is a link to another file ({other}), which is not followed"
                )));
            }
            Target::Unknown => {
                return Err(Error::Unsupported("it is a user-defined link".into()));
            }
        };
        let dangling =
            || Error::Unsupported(format!("it is a soft link to {path}, which does not exist"));
        let left = left.checked_sub(1).ok_or_else(dangling)?;
        let mut at = if path.starts_with('/') {
            self.file.root
        } else {
            group
        };
        for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
            let header = Header::read(self.file, at)?;
            if !links::is_group(&header) {
                return Err(dangling());
            }
            let links = self.links(at, &header)?;
            let next = links.iter().find(|link| link.name == part);
            at = self.follow(at, next.ok_or_else(dangling)?, left)?;
        }
        Ok(at)
    }
}
