//! Versions that a format keeps itself: branches, tags and snapshots.

use std::fmt;
use std::time::SystemTime;

use async_trait::async_trait;

use super::Appender;
use crate::array::Dataset;
use crate::error::Result;
use crate::store::Store;
use crate::store::write::Durability;

/// A version of a dataset by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The newest snapshot of a branch.
    Branch(String),
    /// The snapshot that a tag stands for.
    Tag(String),
    /// The snapshot with this id.
    Snapshot(String),
    /// Whichever of them goes by this name.
    Named(String),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(name) => write!(f, "branch {name}"),
            Self::Tag(name) => write!(f, "tag {name}"),
            Self::Snapshot(id) => write!(f, "snapshot {id}"),
            Self::Named(name) => write!(f, "branch, tag or snapshot {name}"),
        }
    }
}

/// What a dataset was after one of its changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: String,
    /// When it was made.
    pub time: SystemTime,
    /// What was said about the change.
    pub message: String,
    /// The branches whose newest snapshot it is.
    pub branches: Vec<String>,
    /// The tags that stand for it.
    pub tags: Vec<String>,
}

/// Datasets with a history of their own.
#[async_trait]
pub trait Versions: fmt::Debug + Send + Sync {
    /// The branch that is meant where none is named.
    fn default_branch(&self) -> &'static str;

    /// Reads the metadata of a version of the dataset at the store's location; tells the branch if it is one, because the
    /// others cannot be changed.
    ///
    /// # Errors
    /// `NotFound` when there is no such version, and as [`super::Format::open`].
    async fn open(&self, store: &Store, reference: &Reference)
    -> Result<(Dataset, Option<String>)>;

    /// Begins to change a branch.
    ///
    /// # Errors
    /// As [`super::Format::begin`]; `NotFound` when there is no such branch.
    async fn begin(
        &self,
        store: &Store,
        branch: &str,
        durability: Durability,
    ) -> Result<Box<dyn Appender>>;

    /// A version and those before it, the newest first.
    ///
    /// # Errors
    /// As [`Versions::open`].
    async fn history(&self, store: &Store, reference: &Reference) -> Result<Vec<Snapshot>>;

    /// Lets a branch end with an earlier version; the snapshots after that can still be named by their ids.
    ///
    /// # Errors
    /// As [`Versions::open`]; `Conflict` when the branch has changed meanwhile.
    async fn reset(
        &self,
        store: &Store,
        branch: &str,
        to: &Reference,
        durability: Durability,
    ) -> Result<()>;
}
