//! What a file format has to answer: what is in there, and where are these chunks?

pub mod blosc2;
pub mod hdf5;
pub mod zarr;

use std::fmt::Debug;

use async_trait::async_trait;

use crate::array::Dataset;
use crate::error::Result;
use crate::store::Store;

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
}
