//! The beginning of a dataset: a place of its own, and what is done about what is there.

use std::path::Path;
use std::sync::Arc;

use super::{
    AppendOptions, Target, Transaction, journal, lengths, private, refuse_foreign_lock, release,
    words,
};
use crate::array::blueprint::Blueprint;
use crate::error::{Error, Result};
use crate::store::lock::Lock;
use crate::store::write::{Expect, is_private};
use crate::store::{Kind, Store};

/// What is done about a dataset that is where another one is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    /// It is an error.
    Refuse,
    /// It is removed for good.
    Remove,
}

/// Stands where a dataset is being made, so that what is left of one that never was can be told from foreign objects.
const MARK: &str = "creating";

impl Target {
    /// Whether there is a dataset of this format.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub async fn exists(&self) -> Result<bool> {
        match self.store.kind().await {
            Ok(Kind::Object) => Ok(true),
            Ok(Kind::Directory) => self.format.sniff(&self.store, &[]).await,
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begins to make a dataset; nobody finds it before it is committed.
    ///
    /// # Errors
    /// `Conflict` when there is a dataset already, or another writer does not finish in time; `Invalid` when there is
    /// something else; `NotFound` when the directory for it does not exist; `Io` when the storage fails.
    pub async fn create(
        &self,
        blueprint: &Blueprint,
        existing: IfExists,
        options: AppendOptions,
    ) -> Result<Transaction> {
        let store = &self.store;
        check_parent(store)?;
        let makes = self.format.makes(store);
        if makes == Kind::Object && !store.is_local() {
            return Err(Error::Unsupported(format!(
                "{}: files of format {} can only be made on this machine",
                store.location(),
                self.format.name()
            )));
        }
        if let Ok(kind) = store.kind().await {
            self.check_place(kind, makes, existing)?;
            refuse_foreign_lock(store).await?;
        }
        let lock = Arc::new(Lock::acquire_new(store, makes, options.lock).await?);
        let begun = async {
            match makes {
                Kind::Directory => self.prepare_directory(existing, options).await?,
                Kind::Object => {
                    // It may have been made while the lock was waited for.
                    if let Ok(kind) = store.kind().await {
                        self.check_place(kind, makes, existing)?;
                    }
                    store.remove_replacements()?;
                }
            }
            self.format
                .create(store, blueprint, &lock, options.durability)
                .await
        };
        match begun.await {
            Ok(appender) => Ok(Transaction {
                store: store.clone(),
                options,
                lock,
                lengths: lengths(appender.dataset()),
                dataset: words(appender.dataset()),
                appender,
                last: None,
                is_file: makes == Kind::Object,
                rewrites: false,
                creates: true,
            }),
            Err(error) => {
                release(lock).await?;
                Err(error.within(store.location()))
            }
        }
    }

    /// Refuses to make a dataset that is a file where there is something else, or a file that must stay.
    fn check_place(&self, there: Kind, makes: Kind, existing: IfExists) -> Result<()> {
        let (format, place) = (self.format.name(), self.store.location());
        match (there, makes) {
            (Kind::Directory, Kind::Directory) => Ok(()),
            (Kind::Object, _) if existing == IfExists::Refuse => {
                Err(Error::Conflict(format!("{place} exists already")))
            }
            (Kind::Object, Kind::Object) => Ok(()),
            (Kind::Object, Kind::Directory) => Err(Error::Invalid(format!(
                "{place} is a file, in the place of which a dataset of format {format} cannot be made, because that is a \
                 directory"
            ))),
            (Kind::Directory, Kind::Object) => Err(Error::Invalid(format!(
                "{place} is a directory, in the place of which a dataset of format {format} cannot be made, because that is \
                 a file"
            ))),
        }
    }

    /// Makes the place of a dataset that is a directory, and marks it.
    async fn prepare_directory(&self, existing: IfExists, options: AppendOptions) -> Result<()> {
        let store = &self.store;
        if store.is_local() {
            journal::recover(store, options.durability).await?;
            journal::clean(store)?;
        }
        self.make_room(existing).await?;
        store
            .put(&private(MARK), "", Expect::Anything, options.durability)
            .await
            .map(drop)
    }

    /// Removes what may be removed, and refuses what may not.
    async fn make_room(&self, existing: IfExists) -> Result<()> {
        let store = &self.store;
        if self.exists().await? {
            if existing == IfExists::Refuse {
                return Err(Error::Conflict(format!(
                    "{} exists already",
                    store.location()
                )));
            }
            return remove(store).await;
        }
        if others(store).await?.is_empty() {
            return Ok(());
        }
        if store.get(&private(MARK)).await?.is_some() {
            return remove(store).await;
        }
        Err(Error::Invalid(format!(
            "{} is not empty, and there is no {} dataset that could be replaced",
            store.location(),
            self.format.name()
        )))
    }
}

/// Says that what is there is no longer about to become a dataset.
pub(super) async fn unmark(store: &Store) -> Result<()> {
    store.delete_all(&[private(MARK)]).await
}

/// Removes a dataset: what it is found by first, so that no reader meets half of it.
async fn remove(store: &Store) -> Result<()> {
    let (root, below): (Vec<_>, Vec<_>) = others(store)
        .await?
        .into_iter()
        .partition(|key| !key.contains('/'));
    store.delete_all(&root).await?;
    store.delete_all(&below).await?;
    let log = store.list_all(&private("log")).await?;
    store.delete_all(&log).await
}

/// The keys of all objects but our own.
async fn others(store: &Store) -> Result<Vec<String>> {
    let mut keys = store.list_all("").await?;
    keys.retain(|key| !is_private(key));
    Ok(keys)
}

/// A directory is made for a dataset, but those around it are not: mostly they are missing because of a typing error.
fn check_parent(store: &Store) -> Result<()> {
    let Some(path) = store.local_path("") else {
        return Ok(());
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if parent.is_dir() {
        return Ok(());
    }
    Err(Error::NotFound(format!(
        "{}: the directory {} that it is to be in does not exist",
        store.location(),
        parent.display()
    )))
}
