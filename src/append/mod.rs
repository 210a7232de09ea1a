//! Transactions: a change of a dataset is seen whole or not at all, survives a crash, and is one of a sequence.
//!
//! ```text
//! begin    lock, finish what a crash has left, read the metadata     create  the same where there is no dataset yet
//! write    cells beyond the shapes that readers know, or put aside
//! commit   commit                           the format has a history of its own, and does it itself
//!          rename                           one file: what was written is a new version of it, beside it until then
//!          patch                            one file that grows where it is: a few bytes tell of what was written behind it
//!          journal, publish, log            local: a rename makes the journal valid, everything after it can be done again
//!          publish if unchanged, log        remote: the metadata is put only if it is the version that was read
//! ```

mod create;
mod journal;
pub mod log;
pub mod watch;
pub mod window;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

use crate::array::cut;
use crate::array::dtype::ElementType;
use crate::array::{Attributes, Dataset, Variable};
use crate::cf::join_words;
use crate::error::{Error, Result, Within};
use crate::format::{Appender, Committed, Format, Publication, Reference};
use crate::store::lock::{Lock, LockOptions};
use crate::store::replace::Replaced;
use crate::store::write::{Durability, PRIVATE, Put};
use crate::store::{Kind, Store};

pub use crate::format::{OldCells, Region};
pub use create::IfExists;

use journal::{Failure, Journal};
use log::{Entry, Log};

/// How often a commit is tried while others, who do not ask for the lock, keep changing the metadata.
const REBASES: usize = 5;

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
    /// The branch that is changed, in formats that have them.
    branch: Option<String>,
}

/// How a commit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The change is there, as this version of the dataset.
    Committed {
        /// Number of the version, counted from the state in which the first transaction found the dataset, 0; `None` for
        /// a dataset that is one file, which has no log, or has a history of its own.
        version: Option<u64>,
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
    /// What the appender changes, characters joined to words.
    dataset: Dataset,
    /// The newest version that the log knows.
    last: Option<Entry>,
    /// Whether the dataset is one file, which has no log.
    is_file: bool,
    lengths: BTreeMap<String, u64>,
    rewrites: bool,
    /// Whether there was no dataset before.
    creates: bool,
}

impl Target {
    /// The dataset at the location of `store`, which is of this format.
    #[must_use]
    pub fn new(store: Store, format: &'static dyn Format) -> Self {
        Self {
            store,
            format,
            branch: None,
        }
    }

    /// The same on a branch of the dataset, if its format has them.
    #[must_use]
    pub fn on(self, branch: Option<String>) -> Self {
        Self { branch, ..self }
    }

    /// Where the dataset is.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The elements in which a new dataset stores texts of at most so many characters and bytes.
    #[must_use]
    pub fn text_element(&self, characters: u32, bytes: u32) -> ElementType {
        self.format.text_element(characters, bytes)
    }

    /// Begins a transaction; others wait until it ends.
    ///
    /// # Errors
    /// `Conflict` when another writer does not finish in time, `Unsupported` when the dataset cannot be written, `Io`
    /// when the storage fails.
    pub async fn begin(&self, options: AppendOptions) -> Result<Transaction> {
        let place = || self.store.location().to_owned();
        // What readers have open may be an older version.
        let store = self.store.afresh();
        refuse_foreign_lock(&store).await?;
        let lock = Arc::new(Lock::acquire(&store, options.lock).await?);
        let begun = async {
            let is_file = store.is_local() && store.kind().await? == Kind::Object;
            if is_file {
                store.remove_replacements()?;
            } else if store.is_local() {
                journal::recover(&store, options.durability).await?;
                journal::clean(&store)?;
            }
            let durability = options.durability;
            let mut appender = match (&self.branch, self.format.versions()) {
                (Some(branch), Some(versions)) => {
                    versions.begin(&store, branch, durability).await?
                }
                _ => self.format.begin(&store, &lock, durability).await?,
            };
            if lock.was_abandoned() {
                appender.fence().await?;
            }
            let has_log = !is_file && self.format.versions().is_none();
            let last = match has_log {
                true => log::last(&store).await?,
                false => None,
            };
            Ok((appender, last, is_file))
        };
        match begun.await {
            Ok((appender, last, is_file)) => Ok(Transaction {
                store,
                is_file,
                options,
                lock,
                lengths: lengths(appender.dataset()),
                dataset: words(appender.dataset()),
                appender,
                last,
                rewrites: false,
                creates: false,
            }),
            Err(error) => {
                let _ = release(lock).await;
                Err(Error::within(error, place()))
            }
        }
    }
}

impl Transaction {
    /// The dataset before the change, which nobody else changes meanwhile, with what [`Transaction::define`] has made of it;
    /// characters are joined to words.
    #[must_use]
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
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
        let piece = self.appender.piece(variable);
        let mut piece = piece.within(|| self.store.location())?;
        // A word is always whole.
        let groups = self.dataset.root.walk().into_iter();
        let mut variables = groups.flat_map(|group| &group.variables);
        if let Some(variable) = variables.find(|known| known.path == variable) {
            piece.truncate(variable.shape().len());
        }
        Ok(piece)
    }

    /// The variables that grow with a dimension of a group, characters joined to words.
    #[must_use]
    pub fn along(&self, group: &str, dimension: &str) -> Vec<Arc<Variable>> {
        let variables = self.appender.along(group, dimension).into_iter();
        let groups = self.dataset().root.walk();
        let own = |path: &str| {
            let mut variables = groups.iter().flat_map(|group| &group.variables);
            variables.find(|variable| variable.path == path).cloned()
        };
        variables
            .map(|variable| own(&variable.path).unwrap_or(variable))
            .collect()
    }

    /// Writes cells, of characters also words; a region covers every piece that it touches, as far as the variable reaches after the change.
    ///
    /// # Errors
    /// As [`Appender::write`].
    pub async fn write(&mut self, mut region: Region) -> Result<()> {
        if let Some(length) = self.word(&region) {
            region.start.push(0);
            region.shape.push(length);
        }
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

    /// Gives a dimension of a group that has no index its length, before anything is written along it.
    ///
    /// # Errors
    /// As [`Appender::resize`]; `Invalid` when it has indices already.
    pub fn define(&mut self, group: &str, dimension: &str, length: u64) -> Result<()> {
        let defined = cut::define(&self.dataset, group, dimension, length)
            .within(|| self.store.location())?;
        self.resize(group, dimension, length)?;
        self.dataset = defined;
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
        self.last.as_ref().map(|entry| entry.version)
    }

    /// Publishes the change; `operation` is what the log calls it.
    ///
    /// # Errors
    /// `Io` when the storage fails: unless the text says that the change is decided or its outcome unknown, nothing has
    /// changed. `Conflict` when this writer was silent for so long that another one has taken over.
    pub async fn commit(mut self, operation: &str) -> Result<Outcome> {
        let place = self.store.location().to_owned();
        match self.publish(operation).await {
            Ok(outcome) => {
                // What is published stays so, whether the mark can be removed and the lock be given back or not.
                if self.creates && !self.is_file {
                    let _ = create::unmark(&self.store).await;
                }
                let _ = self.end().await;
                Ok(outcome)
            }
            Err(Failure::Undone(error)) => {
                // What was put aside is in nobody's way; the error that led here is worth more than another one.
                let _ = self.abandon().await;
                Err(error.within(place))
            }
            // The lock is not given back: whoever comes next has to find out what became of the change.
            Err(Failure::Decided(error)) => Err(error.within(place)),
        }
    }

    /// Ends the transaction without a change.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub async fn abandon(mut self) -> Result<()> {
        let is_marked = self.creates && !self.is_file;
        let abandoned = self.appender.abandon().await;
        let unmarked = if is_marked {
            create::unmark(&self.store).await
        } else {
            Ok(())
        };
        let place = self.store.location().to_owned();
        let ended = self.end().await;
        abandoned.and(unmarked).and(ended).within(|| place)
    }

    /// Gives the lock back.
    async fn end(self) -> Result<()> {
        // It has the lock, too.
        drop(self.appender);
        release(self.lock).await
    }

    /// The length of the words of a region, if it is one of words that are stored as characters.
    fn word(&self, region: &Region) -> Option<u64> {
        let groups = self.appender.dataset().root.walk().into_iter();
        let variable = groups
            .flat_map(|group| &group.variables)
            .find(|variable| variable.path == region.variable)?;
        let (length, outer) = variable.shape().split_last()?;
        let is_char = variable.layout.element == ElementType::Char;
        (is_char && outer.len() == region.shape.len()).then_some(*length)
    }

    async fn publish(&mut self, operation: &str) -> Result<Outcome, Failure> {
        let mut publication = self.appender.publication().await.map_err(Failure::Undone)?;
        if let Some(commit) = publication.commit.take() {
            // What becomes of objects after a failure is the format's to know: they may belong to the commit.
            let committed = commit.commit(operation).await.map_err(Failure::Undone)?;
            return Ok(match committed {
                Committed::Done => Outcome::Committed { version: None },
                Committed::Conflict => Outcome::Conflict,
            });
        }
        if self.is_file {
            let replaced = match (publication.replacement, publication.patch) {
                (Some(replacement), _) => Some(replacement.publish().map_err(Failure::Undone)?),
                // Some of the bytes may have been written.
                (None, Some(patch)) => Some(patch.publish().map_err(Failure::Decided)?),
                (None, None) => None,
            };
            return Ok(match replaced {
                Some(Replaced::Conflict) => Outcome::Conflict,
                Some(Replaced::Done) | None => Outcome::Committed { version: None },
            });
        }
        if self.store.is_local() {
            let (entries, version) = self.entries(operation);
            let durability = self.options.durability;
            Journal::prepare(&self.store, publication, &entries, durability)
                .await
                .map_err(Failure::Undone)?
                .commit(&self.store, durability)
                .await?;
            return Ok(Outcome::Committed {
                version: Some(version),
            });
        }
        let mut publication = publication;
        for _ in 0..REBASES {
            let (entries, version) = self.entries(operation);
            let outcome = self.publish_remote(publication, &entries, version).await?;
            if outcome != Outcome::Conflict || !self.rebase().await.map_err(Failure::Undone)? {
                return Ok(outcome);
            }
            publication = self.appender.publication().await.map_err(Failure::Undone)?;
        }
        Ok(Outcome::Conflict)
    }

    /// What the log will say of the change, and the version that it makes.
    fn entries(&self, operation: &str) -> (Vec<Entry>, u64) {
        let before = lengths(self.appender.dataset());
        let after = self.lengths.clone();
        let entries = if self.creates {
            Entry::first(operation, after)
        } else {
            Entry::next(self.last.as_ref(), operation, before, after, self.rewrites)
        };
        let version = entries.last().map_or(0, |entry| entry.version);
        (entries, version)
    }

    /// As [`Appender::rebase`].
    async fn rebase(&mut self) -> Result<bool> {
        let before = lengths(self.appender.dataset());
        if !self.appender.rebase().await? {
            return Ok(false);
        }
        let mut after = lengths(self.appender.dataset());
        let own = std::mem::take(&mut self.lengths).into_iter();
        after.extend(own.filter(|(path, length)| before.get(path) != Some(length)));
        self.lengths = after;
        Ok(true)
    }

    async fn publish_remote(
        &self,
        publication: Publication,
        entries: &[Entry],
        version: u64,
    ) -> Result<Outcome, Failure> {
        let durability = self.options.durability;
        self.lock.check().await.map_err(Failure::Undone)?;
        let mut documents = publication.documents.into_iter();
        if let Some(root) = documents.next() {
            let unknown = |error| {
                Failure::Decided(Error::io(
                    format!(
                        "the outcome of the change is unknown; if it was published, it is version {version} of the dataset"
                    ),
                    error,
                ))
            };
            match self.store.put_all(vec![root], durability).await {
                Ok(put) if !put.contains(&Put::Conflict) => {}
                // Whoever has taken over may have changed what this writer had published just before.
                Ok(_) => {
                    self.lock.check().await.map_err(unknown)?;
                    return Ok(Outcome::Conflict);
                }
                Err(error @ Error::Unsupported(_)) => return Err(Failure::Undone(error)),
                Err(error) => return Err(unknown(error)),
            }
        }
        // Readers see the change from here on. What follows is repaired by the next writer if it fails.
        let _ = self.store.put_all(documents.collect(), durability).await;
        if let Ok(logged) = log::objects(entries) {
            let _ = self.store.put_all(logged, durability).await;
        }
        Ok(Outcome::Committed {
            version: Some(version),
        })
    }
}

/// Finishes what a crash has left of a commit, so that readers see all of it; returns where they do. Who may not write
/// reads what the commit would move where it is.
///
/// # Errors
/// `Conflict` when another writer keeps publishing for too long, `Io` when the storage fails.
pub async fn recover(store: &Store, options: AppendOptions) -> Result<Store> {
    if !store.is_local() || !journal::is_present(store) {
        return Ok(store.clone());
    }
    match finish(store, options).await {
        Err(error) if is_forbidden(&error) => journal::ahead(store).await,
        finished => finished.map(|()| store.clone()),
    }
}

async fn finish(store: &Store, options: AppendOptions) -> Result<()> {
    // Mostly it is just about to be done with, by whoever holds the lock.
    let waiting = Lock::acquire_while(store, options.lock, || journal::is_present(store));
    if let Some(lock) = waiting.await? {
        journal::recover(store, options.durability).await?;
        lock.release().await?;
    }
    Ok(())
}

/// Whether the storage does not let this user write.
fn is_forbidden(error: &Error) -> bool {
    let Error::Io { source, .. } = error else {
        return false;
    };
    let kind = source.downcast_ref().map(std::io::Error::kind);
    matches!(
        kind,
        Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
    )
}

impl Target {
    /// Lets the dataset be again what it was as a version, which goes by its number; that is a version of its own, whose
    /// number is returned. Where the format keeps versions itself, the branch ends with that version.
    ///
    /// # Errors
    /// As [`Target::begin`] and [`Log::version`].
    pub async fn roll_back(&self, version: &str, options: AppendOptions) -> Result<Outcome> {
        if let Some(versions) = self.format.versions() {
            let lock = Arc::new(Lock::acquire(&self.store, options.lock).await?);
            let branch = self.branch.as_deref().unwrap_or(versions.default_branch());
            let to = Reference::Named(version.to_owned());
            let reset = versions.reset(&self.store, branch, &to, options.durability);
            let reset = reset.await.within(|| self.store.location());
            release(lock).await?;
            return match reset {
                Ok(()) => Ok(Outcome::Committed { version: None }),
                Err(Error::Conflict(_)) => Ok(Outcome::Conflict),
                Err(error) => Err(error),
            };
        }
        let version = log::number(version).within(|| self.store.location())?;
        let mut transaction = self.begin(options).await?;
        let resized = async {
            let log = Log::read(&self.store).await?;
            let entry = log.version(version).within(|| self.store.location())?;
            for (path, length) in &entry.lengths {
                let (group, dimension) = path.rsplit_once('/').unwrap_or(("", path));
                if transaction.lengths.get(path) != Some(length) {
                    transaction.resize(group, dimension, *length)?;
                }
            }
            Ok(())
        };
        match resized.await {
            Ok(()) => transaction.commit(&format!("rollback to {version}")).await,
            Err(error) => {
                transaction.abandon().await?;
                Err(error)
            }
        }
    }

    /// Removes objects that belong to no version that can still be read, like those of writers that crashed, and returns
    /// their keys; with [`Vacuum::Listed`] they stay.
    ///
    /// # Errors
    /// As [`Target::begin`].
    pub async fn vacuum(&self, vacuum: Vacuum, options: AppendOptions) -> Result<Vec<String>> {
        // A writer cleans up after those before him as he begins; nobody else writes until this ends.
        let transaction = self.begin(options).await?;
        let orphans = transaction.appender.orphans().await;
        let removed = match (&orphans, vacuum) {
            (Ok(orphans), Vacuum::Removed) => self.store.delete_all(orphans).await,
            _ => Ok(()),
        };
        transaction.abandon().await?;
        removed?;
        orphans
    }
}

/// What becomes of objects that belong to no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vacuum {
    /// They are listed.
    Listed,
    /// They are removed.
    Removed,
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

/// A dataset whose characters are joined to words.
fn words(dataset: &Dataset) -> Dataset {
    let mut words = dataset.clone();
    join_words(&mut words.root);
    words
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
