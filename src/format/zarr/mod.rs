//! Zarr v2 and v3: directories of chunks with metadata in JSON.
//!
//! ```text
//! json        documents                      attributes, dtype, fill, codecs   their parts
//! v2, v3      documents -> a variable        index, shard                      where its chunks are
//! hierarchy   a store -> its groups          site                              where an array is
//! writer      cells -> objects               encoders, shard_encoder           their codecs, with parameters
//! append      a hierarchy that grows             documents, create         all its metadata, and that of a new one
//! arrays      what grows of it
//! ```

mod append;
mod arrays;
mod attributes;
mod codecs;
mod create;
mod documents;
mod dtype;
mod encoders;
mod fill;
mod hierarchy;
mod index;
mod json;
mod shard;
mod shard_encoder;
mod site;
mod v2;
mod v3;
mod writer;

pub(in crate::format) use arrays::{Arrays, Encoded};
pub(in crate::format) use create::{given as new_documents, with_attributes};
pub(in crate::format) use hierarchy::given;
pub(in crate::format) use site::Places;

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream};

use crate::array::Dataset;
use crate::array::blueprint::Blueprint;
use crate::error::{Error, Result};
use crate::format::{Appender, Format};
use crate::store::Store;
use crate::store::lock::Lock;
use crate::store::write::Durability;

/// Zarr v2 and v3, in directories.
#[derive(Clone, Copy, Debug, Default)]
pub struct Zarr;

#[async_trait]
impl Format for Zarr {
    fn name(&self) -> &'static str {
        "zarr"
    }

    async fn sniff(&self, store: &Store, head: &[u8]) -> Result<bool> {
        if !head.is_empty() {
            return Ok(false);
        }
        // Asked for by name: the directory of an array may have a million entries. All at the same time where that takes long.
        let together = if store.is_local() {
            1
        } else {
            hierarchy::MARKS.len()
        };
        let sizes: Vec<_> = hierarchy::MARKS
            .iter()
            .map(|name| store.size(name))
            .collect();
        let mut sizes = stream::iter(sizes).buffered(together);
        while let Some(size) = sizes.next().await {
            match size {
                Ok(_) => return Ok(true),
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    async fn open(&self, store: &Store) -> Result<Dataset> {
        let root = match hierarchy::read(store).await {
            Ok(root) => root,
            // The store has named its location already.
            Err(error @ (Error::NotFound(_) | Error::Io { .. })) => return Err(error),
            Err(error) => return Err(error.within(store.location())),
        };
        Ok(Dataset {
            location: store.location().into(),
            format: self.name(),
            root,
        })
    }

    async fn begin(
        &self,
        store: &Store,
        lock: &Arc<Lock>,
        durability: Durability,
    ) -> Result<Box<dyn Appender>> {
        Ok(Box::new(append::begin(store, lock, durability).await?))
    }

    async fn create(
        &self,
        store: &Store,
        blueprint: &Blueprint,
        lock: &Arc<Lock>,
        durability: Durability,
    ) -> Result<Box<dyn Appender>> {
        Ok(Box::new(append::create(
            store, blueprint, lock, durability,
        )?))
    }
}
