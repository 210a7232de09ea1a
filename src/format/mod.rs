//! What a file format has to answer: what is in there, where are these chunks, how does it grow?

pub mod blosc2;
pub mod hdf5;
#[cfg(feature = "icechunk")]
pub mod icechunk;
pub mod netcdf3;
mod region;
mod versions;
#[cfg_attr(
    not(feature = "icechunk"),
    expect(
        dead_code,
        unused_imports,
        reason = "repositories keep the metadata of Zarr, and use parts of it that nothing else does"
    )
)]
pub mod zarr;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::array::blueprint::Blueprint;
use crate::array::dtype::ElementType;
use crate::array::{Attributes, Dataset, Variable};
use crate::error::{Error, Result};
use crate::store::lock::Lock;
use crate::store::patch::Patch;
use crate::store::replace::Replacement;
use crate::store::write::{Durability, Object};
use crate::store::{Kind, Store};

pub use region::{OldCells, Region};
pub use versions::{Reference, Snapshot, Versions};

/// A format of array datasets.
///
/// Odd layouts become ordinary through the answers of [`crate::array::chunk::ChunkAddress`]; nothing above this floor
/// knows which format a variable came from.
#[async_trait]
pub trait Format: Debug + Send + Sync {
    /// The name used in `STORED AS` and in messages, in lower case.
    fn name(&self) -> &'static str;

    /// Whether the location looks like a dataset of this format, from its first bytes or its entries alone.
    ///
    /// `head` holds the first bytes of the object (at most 4 KiB), and is empty when the location is a directory.
    ///
    /// # Errors
    /// `Io` when the storage fails; a location that is something else is `Ok(false)`.
    async fn sniff(&self, store: &Store, head: &[u8]) -> Result<bool>;

    /// Reads the metadata of the dataset at the store's location. Arrays that cannot be read exactly are listed in
    /// [`crate::array::Group::unreadable`].
    ///
    /// # Errors
    /// `Corrupt` when the metadata contradicts itself, `Unsupported` when nothing of it can be read, `Io` when the
    /// storage fails.
    async fn open(&self, store: &Store) -> Result<Dataset>;

    /// The versions of datasets of this format, if it keeps them itself.
    fn versions(&self) -> Option<&'static dyn Versions> {
        None
    }

    /// Begins to change the dataset at the store's location, for which the caller holds `lock`.
    ///
    /// # Errors
    /// `Unsupported` when datasets of this format, or as this one is, cannot be changed; else as [`Format::open`].
    async fn begin(
        &self,
        store: &Store,
        _lock: &Arc<Lock>,
        _durability: Durability,
    ) -> Result<Box<dyn Appender>> {
        Err(Error::Unsupported(format!(
            "{}: datasets of format {} cannot be written",
            store.location(),
            self.name()
        )))
    }

    /// What a dataset that is made at the store's location will be.
    fn makes(&self, _store: &Store) -> Kind {
        Kind::Directory
    }

    /// The elements in which a new dataset stores texts of at most so many characters and bytes.
    fn text_element(&self, characters: u32, _bytes: u32) -> ElementType {
        ElementType::Utf32(characters.max(1))
    }

    /// Begins to make a dataset at the store's location, for which the caller holds `lock`. Nobody finds it before it is
    /// published. Where it makes a directory, there is nothing; where it makes a file, there may be one, whose place the
    /// new one is to take (see [`Replacement::first`]).
    ///
    /// # Errors
    /// `Unsupported` when the format cannot hold what the blueprint asks for, `Invalid` when the blueprint contradicts
    /// itself.
    async fn create(
        &self,
        store: &Store,
        _blueprint: &Blueprint,
        _lock: &Arc<Lock>,
        _durability: Durability,
    ) -> Result<Box<dyn Appender>> {
        Err(Error::Unsupported(format!(
            "{}: datasets of format {} cannot be created",
            store.location(),
            self.name()
        )))
    }
}

/// A dataset that is being changed: takes cells, and tells in the end what has to be published.
///
/// Until then no reader sees any of it: what is written lies beyond the shapes that metadata tells, is the same as before
/// within them, or is put aside.
#[async_trait]
pub trait Appender: Debug + Send + Sync {
    /// The dataset before the change.
    fn dataset(&self) -> &Dataset;

    /// Extents, in cells, of the pieces in which a variable is stored. A region that is written covers every piece that
    /// it touches, as far as the variable reaches after the change.
    ///
    /// # Errors
    /// `NotFound` when there is no such variable, `Unsupported` when it cannot be written.
    fn piece(&self, variable: &str) -> Result<Vec<u64>>;

    /// The variables that grow with a dimension of a group; see [`Appender::resize`].
    fn along(&self, group: &str, dimension: &str) -> Vec<Arc<Variable>>;

    /// Writes cells.
    ///
    /// # Errors
    /// As [`Appender::piece`]; `Io` when the storage fails, `Conflict` when somebody else has written there.
    async fn write(&mut self, region: Region) -> Result<()>;

    /// Gives a dimension that is visible in a group another length, and thereby every variable along it.
    ///
    /// # Errors
    /// `Unsupported` when one of them cannot be written, or cannot grow.
    fn resize(&mut self, group: &str, dimension: &str, length: u64) -> Result<()>;

    /// Gives a group other attributes.
    ///
    /// # Errors
    /// `Unsupported` when the format, or this dataset, cannot do that.
    fn set_attributes(&mut self, group: &str, _attributes: &Attributes) -> Result<()> {
        Err(Error::Unsupported(format!(
            "{}: the attributes of group \"{group}\" cannot be changed in this format",
            self.dataset().location
        )))
    }

    /// Makes sure that no earlier writer, who may not know that it has been given up, can publish any more; finishes
    /// what it had begun to publish.
    ///
    /// # Errors
    /// `Io` when the storage fails, `Conflict` when somebody else was faster.
    async fn fence(&mut self) -> Result<()>;

    /// What has to be published for the change to be seen.
    ///
    /// # Errors
    /// `Conflict` when the metadata is not what it was at the beginning.
    async fn publication(&mut self) -> Result<Publication>;

    /// Takes over what somebody who does not ask for the lock has changed since the beginning, where the change that is
    /// being made fits that as it did what was there before: then [`Appender::publication`] can be asked for again. Else
    /// `false`, and nothing is taken over.
    ///
    /// # Errors
    /// As [`Format::begin`].
    async fn rebase(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// Objects of the dataset that no reader of it can see, like chunks beyond the shape of a variable.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    async fn orphans(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Removes what was written and will not be published.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    async fn abandon(&mut self) -> Result<()>;
}

/// A commit that a format makes itself, in a history of its own.
#[async_trait]
pub trait Commit: Debug + Send {
    /// Publishes the change; `message` is what the history says of it.
    ///
    /// # Errors
    /// `Io` when the storage fails: the outcome is unknown.
    async fn commit(self: Box<Self>, message: &str) -> Result<Committed>;
}

/// How a commit that a format makes itself has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The change is there.
    Done,
    /// Somebody else was faster, with a change that this one cannot follow: nothing has changed.
    Conflict,
}

/// What makes a change seen: a commit of the format's own, or a new version of a dataset that is one file, or else steps in this order, each of which is
/// atomic, and which can be done again.
#[derive(Debug, Default)]
pub struct Publication {
    /// A commit that the format makes itself; then there is nothing else.
    pub commit: Option<Box<dyn Commit>>,
    /// The new version of the file; then there is nothing else.
    pub replacement: Option<Replacement>,
    /// What makes seen the bytes that were put into the file itself; then there is nothing else.
    pub patch: Option<Patch>,
    /// Objects that were put aside, and their places.
    pub moves: Vec<(String, String)>,
    /// Metadata. With the first of them, readers of the whole dataset see all of the change.
    pub documents: Vec<Object>,
    /// Objects of a local store that have been put, and may still be lost with the power.
    pub unsynced: Vec<String>,
}
