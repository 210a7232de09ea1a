//! Transactions: a change of a dataset is seen whole or not at all, survives a crash, and is one of a sequence.
//!
//! ```text
//! begin    lock, finish what a crash has left, read the metadata     create  the same where there is no dataset yet
//! write    cells beyond the shapes that readers know, or put aside
//! commit   journal, publish, log            local: a rename makes the journal valid, everything after it can be done again
//!          publish if unchanged, log        remote: the metadata is put only if it is the version that was read
//! ```

mod create;
mod journal;
pub mod log;
pub mod window;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::array::{Attributes, Dataset};
use crate::error::{Error, Result, Within};
use crate::format::{Appender, Format};
use crate::store::lock::{Lock, LockOptions};
use crate::store::write::{Durability, PRIVATE, Put};
use crate::store::{Kind, Store};

pub use crate::format::{OldCells, Region};
pub use create::IfExists;

use journal::Journal;
use log::Log;

/// How transactions wait and write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppendOptions {
    /// How the right to write is waited for.
    pub lock: LockOptions,
    /// Whether a commit survives a loss of power.
    pub durability: Durability,
}

/// A dataset that can be changed.
#[derive(Clone, Debug)]
pub struct Target {
    store: Store,
    format: &'static dyn Format,
}

/// How a commit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The change is there, as this version of the dataset.
    Committed {
        /// Number of the version, counted from the state in which the first transaction found the dataset, 0.
        version: u64,
    },
    /// Another writer was faster: nothing has changed, the transaction can be made anew.
    Conflict,
}

/// A change of a dataset that nobody sees yet.
#[derive(Debug)]
pub struct Transaction {
    store: Store,
    options: AppendOptions,
    lock: Arc<Lock>,
    appender: Box<dyn Appender>,
    log: Log,
    lengths: BTreeMap<String, u64>,
    rewrites: bool,
    /// Whether there was no dataset before.
    creates: bool,
}

impl Target {
    /// The dataset at the location of `store`, which is of this format.
    #[must_use]
    pub fn new(store: Store, format: &'static dyn Format) -> Self {
        Self { store, format }
    }

    /// Where the dataset is.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Begins a transaction; others wait until it ends.
    ///
    /// # Errors
    /// `Conflict` when another writer does not finish in time, `Unsupported` when the dataset cannot be written, `Io`
    /// when the storage fails.
    pub async fn begin(&self, options: AppendOptions) -> Result<Transaction> {
        let place = || self.store.location().to_owned();
        refuse_foreign_lock(&self.store).await?;
        let lock = Arc::new(Lock::acquire(&self.store, options.lock).await?);
        let begun = async {
            if self.store.is_local() {
                journal::recover(&self.store, options.durability).await?;
                journal::clean(&self.store).await?;
            }
            let mut appender = self
                .format
                .begin(&self.store, &lock, options.durability)
                .await?;
            if lock.was_abandoned() {
                appender.fence().await?;
            }
            let log = Log::last(&self.store).await?;
            Ok((appender, log))
        };
        match begun.await {
            Ok((appender, log)) => Ok(Transaction {
                store: self.store.clone(),
                options,
                lock,
                lengths: lengths(appender.dataset()),
                appender,
                log,
                rewrites: false,
                creates: false,
            }),
            Err(error) => {
                release(lock).await?;
                Err(Error::within(error, place()))
            }
        }
    }
}

impl Transaction {
    /// The dataset before the change, which nobody else changes meanwhile.
    #[must_use]
    pub fn dataset(&self) -> &Dataset {
        self.appender.dataset()
    }

    /// Where the dataset is.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Extents, in cells, of the pieces in which a variable is stored; see [`Appender::piece`].
    ///
    /// # Errors
    /// As [`Appender::piece`].
    pub fn piece(&self, variable: &str) -> Result<Vec<u64>> {
        self.appender
            .piece(variable)
            .within(|| self.store.location())
    }

    /// Writes cells; a region covers every piece that it touches, as far as the variable reaches after the change.
    ///
    /// # Errors
    /// As [`Appender::write`].
    pub async fn write(&mut self, region: Region) -> Result<()> {
        self.rewrites |= region.old == OldCells::Changed;
        self.appender
            .write(region)
            .await
            .within(|| self.store.location())
    }

    /// Gives a dimension of a group another length, and thereby every variable along it.
    ///
    /// # Errors
    /// As [`Appender::resize`].
    pub fn resize(&mut self, group: &str, dimension: &str, length: u64) -> Result<()> {
        self.appender
            .resize(group, dimension, length)
            .within(|| self.store.location())?;
        self.lengths.insert(join(group, dimension), length);
        Ok(())
    }

    /// Gives a group other attributes.
    ///
    /// # Errors
    /// As [`Appender::set_attributes`].
    pub fn set_attributes(&mut self, group: &str, attributes: &Attributes) -> Result<()> {
        self.appender
            .set_attributes(group, attributes)
            .within(|| self.store.location())
    }

    /// The last version of the dataset that the log knows.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.log.entries.last().map(|entry| entry.version)
    }

    /// Publishes the change; `operation` is what the log calls it.
    ///
    /// # Errors
    /// `Io` when the storage fails: unless the text says that the outcome is unknown, nothing has changed.
    pub async fn commit(mut self, operation: &str) -> Result<Outcome> {
        let committed = self.publish(operation).await;
        if committed.is_err() {
            // What was put aside is in nobody's way; the error that led here is worth more than another one.
            let _ = self.appender.abandon().await;
        }
        if self.creates {
            create::unmark(&self.store).await?;
        }
        release(self.lock).await?;
        committed.within(|| self.store.location().to_owned())
    }

    /// Ends the transaction without a change.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub async fn abandon(mut self) -> Result<()> {
        self.appender
            .abandon()
            .await
            .within(|| self.store.location())?;
        if self.creates {
            create::unmark(&self.store).await?;
        }
        release(self.lock).await
    }

    async fn publish(&mut self, operation: &str) -> Result<Outcome> {
        let publication = self.appender.publication().await?;
        let before = lengths(self.appender.dataset());
        let lengths = self.lengths.clone();
        let entries = if self.creates {
            Log::first(operation, lengths)
        } else {
            self.log.next(operation, before, lengths, self.rewrites)
        };
        let version = entries.last().map_or(0, |entry| entry.version);
        let durability = self.options.durability;
        if self.store.is_local() {
            let journal = Journal::new(&publication, entries)?;
            let unsynced = &publication.unsynced;
            journal.commit(&self.store, unsynced, durability).await?;
            return Ok(Outcome::Committed { version });
        }
        self.lock.check().await?;
        let mut documents = publication.documents.into_iter();
        if let Some(root) = documents.next() {
            let put = self.store.put_all(vec![root], durability).await?;
            if put.contains(&Put::Conflict) {
                return Ok(Outcome::Conflict);
            }
        }
        // Readers see the change from here on. What follows is repaired by the next writer if it fails.
        let others = self.store.put_all(documents.collect(), durability).await;
        let logged = log::write(&self.store, &entries, durability).await;
        others.and(logged)?;
        Ok(Outcome::Committed { version })
    }
}

/// Finishes what a crash has left of a commit, so that readers see all of it.
///
/// # Errors
/// `Conflict` when another writer keeps publishing for too long, `Io` when the storage fails.
pub async fn recover(store: &Store, options: AppendOptions) -> Result<()> {
    if !store.is_local() || !journal::is_present(store) {
        return Ok(());
    }
    // Mostly it is just about to be done with, by whoever holds the lock.
    let lock = Lock::acquire(store, options.lock).await?;
    journal::recover(store, options.durability).await?;
    lock.release().await
}

/// What a vacuum found and removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// Keys of objects that belong to no version.
    pub orphans: Vec<String>,
}

async fn release(lock: Arc<Lock>) -> Result<()> {
    match Arc::into_inner(lock) {
        Some(lock) => lock.release().await,
        None => Ok(()),
    }
}

/// Refuses to write where another program says that it does.
async fn refuse_foreign_lock(store: &Store) -> Result<()> {
    if !store.is_local() || store.kind().await? != Kind::Directory {
        return Ok(());
    }
    let path = format!(
        "{}.lock",
        store
            .location()
            .trim_start_matches("file://")
            .trim_end_matches('/')
    );
    if std::path::Path::new(&path).exists() {
        return Err(Error::Conflict(format!(
            "{} is locked by another program, whose lock is {path}; remove it if nothing is writing any more",
            store.location()
        )));
    }
    Ok(())
}

/// The lengths of all dimensions, by `group/name`.
fn lengths(dataset: &Dataset) -> BTreeMap<String, u64> {
    let mut lengths = BTreeMap::new();
    for group in dataset.root.walk() {
        for dimension in &group.dimensions {
            lengths.insert(join(&group.path, &dimension.name), dimension.length);
        }
    }
    lengths
}

fn join(group: &str, name: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{group}/{name}")
    }
}

/// Keys below which objects are that are no part of the dataset.
fn private(name: &str) -> String {
    format!("{PRIVATE}/{name}")
}
