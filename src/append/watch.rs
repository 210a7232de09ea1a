//! Readers beside writers: whether all that is read belongs to one version.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{AppendOptions, journal, log, recover};
use crate::error::{Error, Result};
use crate::store::{Kind, Store};

/// What a reader of a directory has to look at: cells that are there already get other values by chunks that take the
/// places of those before, one after the other, while he may be reading them.
#[derive(Debug)]
pub struct Watch {
    store: Store,
    /// The newest version as the reader begins.
    began: Option<u64>,
    /// The one that would be the next, and where its entry would be.
    next: Mutex<(u64, Arc<PathBuf>)>,
}

impl Watch {
    /// Begins to watch the dataset at the location of `store`; `None` where there is nothing to see: a dataset of one file
    /// is replaced as a whole, and one in an object store only grows.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub async fn begin(store: &Store) -> Result<Option<Self>> {
        if !store.is_local() || store.kind().await? != Kind::Directory {
            return Ok(None);
        }
        let began = log::newest(store).await?;
        let next = began.map_or(0, |version| version.saturating_add(1));
        Ok(Some(Self {
            next: Mutex::new((next, place(store, next))),
            store: store.clone(),
            began,
        }))
    }

    /// Checks that whatever has been read so far is of one version.
    ///
    /// # Errors
    /// `Conflict` when cells of it have been changed meanwhile, `Io` when the storage fails.
    pub async fn check(&self) -> Result<()> {
        let (mut next, entry) = self.next.lock().clone();
        // In this order: a commit that is not there any more has its entry.
        let is_publishing = journal::is_present(&self.store);
        if !is_publishing && !entry.exists() {
            return Ok(());
        }
        let store = match is_publishing {
            true => recover(&self.store, AppendOptions::default()).await?,
            false => self.store.clone(),
        };
        let began = log::entry(&store, self.began.unwrap_or(0)).await?;
        while let Some(entry) = log::entry(&store, next).await? {
            if began.as_ref().is_some_and(|began| entry.spoils(began)) {
                return Err(Error::Conflict(format!(
                    "{}: version {} ({}) has changed cells while they were read; read them again",
                    self.store.location(),
                    entry.version,
                    entry.operation
                )));
            }
            next = next.saturating_add(1);
        }
        *self.next.lock() = (next, place(&self.store, next));
        Ok(())
    }
}

/// The path of the entry of a version.
fn place(store: &Store, version: u64) -> Arc<PathBuf> {
    Arc::new(store.local_path(&log::key(version)).unwrap_or_default())
}
