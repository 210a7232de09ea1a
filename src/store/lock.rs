//! The right to change what is at a location: one writer at a time, and none that holds it for ever.
//!
//! ```text
//! local    a lock of the operating system on a file: gone with the process that holds it; for a dataset that is one file
//!          a hidden file beside it, and a shared lock on the dataset, by which the HDF5 library does not open it for writing
//! remote   an object that says who holds it, renewed while he works; one that is not renewed for a while is taken over
//! ```

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::replace::Identity;
use super::write::{Durability, Expect, PRIVATE, Put, Version, write_id};
use super::{Backend, Kind, Store};
use crate::error::{Error, Result};

/// How the right to write is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockOptions {
    /// How long to wait while somebody else has it; zero fails at once.
    pub timeout: Duration,
    /// How long a holder on another machine may be silent before he is given up.
    pub lease: Duration,
}

impl Default for LockOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            lease: Duration::from_secs(30),
        }
    }
}

/// The right to write, as long as this value lives.
#[derive(Debug)]
pub struct Lock {
    holder: Holder,
    abandoned: bool,
}

#[derive(Debug)]
enum Holder {
    /// The files are unlocked when they are closed.
    Local {
        #[expect(dead_code, reason = "it is held, not used")]
        lock: File,
        #[expect(dead_code, reason = "it is held, not used")]
        dataset: Option<File>,
    },
    Remote {
        held: Arc<Held>,
        /// Renews the lock, however long the holder works on something else.
        renewal: JoinHandle<()>,
    },
}

/// A lock object that this process holds.
#[derive(Debug)]
struct Held {
    store: Store,
    key: String,
    id: String,
    lease: Duration,
    /// The version that this holder has put, and when.
    current: Mutex<(Version, Instant)>,
}

/// Pauses between two tries, at first and at last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// As [`PAUSE`], where a try is a request: many who wait must not keep the store from who works.
const REMOTE_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What a lock object holds when nobody has it.
const FREE: &str = "free";

impl Lock {
    /// Waits for the right to write what is at the location of `store`.
    ///
    /// # Errors
    /// `Conflict` when somebody else keeps it for longer than `options` allow, `Io` when the lock cannot be made, as for
    /// a location that is read-only.
    pub async fn acquire(store: &Store, options: LockOptions) -> Result<Self> {
        let lock = Self::acquire_while(store, options, || true).await?;
        lock.ok_or_else(|| busy(store, options))
    }

    /// As [`Lock::acquire`], for a dataset that is yet to be made and will be `kind`: where that is a file, the lock is
    /// beside it.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub async fn acquire_new(store: &Store, kind: Kind, options: LockOptions) -> Result<Self> {
        let lock = Self::acquire_as(store, kind, options, || true).await?;
        lock.ok_or_else(|| busy(store, options))
    }

    /// As [`Lock::acquire`], but only as long as the lock is `needed`; `None` when it is not any more.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub async fn acquire_while(
        store: &Store,
        options: LockOptions,
        needed: impl Fn() -> bool + Send,
    ) -> Result<Option<Self>> {
        Self::acquire_as(store, Kind::Directory, options, needed).await
    }

    /// `kind` is what will be there if nothing is.
    async fn acquire_as(
        store: &Store,
        kind: Kind,
        options: LockOptions,
        needed: impl Fn() -> bool + Send,
    ) -> Result<Option<Self>> {
        let key = format!("{PRIVATE}/lock");
        match &store.backend {
            Backend::Local { root, .. } => {
                let started = Instant::now();
                let file = match kind {
                    Kind::Object => store.new_file_parts()?,
                    Kind::Directory => store.file_parts()?,
                };
                let path = match &file {
                    Some((_, directory, name)) => directory.join(format!(".{name}.hyperslab-lock")),
                    None => root.join(&key),
                };
                let failed = |e| Error::io(format!("{} cannot be written", store.location()), e);
                if let Some(parent) = path.parent() {
                    make_private(root, parent).map_err(failed)?;
                }
                let lock = File::options()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .open(&path)
                    .map_err(failed)?;
                let mut tried = lock.try_lock();
                let mut pause = PAUSE.0;
                while waits(store, &tried)? {
                    if !needed() {
                        return Ok(None);
                    }
                    rest(&mut pause, started, options, || busy(store, options)).await?;
                    tried = lock.try_lock();
                }
                // Another writer may have made it meanwhile.
                let dataset = match store.file_parts()? {
                    Some((path, ..)) => Some(share(store, &path, started, options).await?),
                    None => None,
                };
                Ok(Some(Self {
                    holder: Holder::Local { lock, dataset },
                    abandoned: false,
                }))
            }
            Backend::Remote(_) => Self::wait_remote(store, key, options, needed).await,
        }
    }

    /// Whether the last holder was given up, so that what he was about to do may be half done.
    #[must_use]
    pub fn was_abandoned(&self) -> bool {
        self.abandoned
    }

    /// Makes sure that this is still the holder.
    ///
    /// # Errors
    /// `Conflict` when somebody else has taken over, `Io` when the storage fails.
    pub async fn check(&self) -> Result<()> {
        match &self.holder {
            Holder::Local { .. } => Ok(()),
            Holder::Remote { held, .. } => held.check().await,
        }
    }

    /// Gives the right back; a lock that is dropped without this is given up by others after its lease.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub async fn release(self) -> Result<()> {
        let Holder::Remote { held, renewal } = &self.holder else {
            return Ok(());
        };
        // Not while it is just being renewed.
        let current = held.current.lock().await;
        renewal.abort();
        let expect = Expect::Version(current.0.clone());
        // If somebody else has it by now, there is nothing to give back.
        held.store
            .put(&held.key, FREE, expect, Durability::Full)
            .await
            .map(drop)
    }

    async fn wait_remote(
        store: &Store,
        key: String,
        options: LockOptions,
        needed: impl Fn() -> bool + Send,
    ) -> Result<Option<Self>> {
        let id = write_id();
        let started = Instant::now();
        let mut pause = REMOTE_PAUSE.0;
        // The version that a silent holder has left, and since when it has been seen.
        let mut seen: Option<(Version, Instant)> = None;
        loop {
            let (expect, abandoned) = match store.get_versioned(&key).await? {
                None => (Some(Expect::Absent), false),
                Some((said, version)) if said == FREE => (Some(Expect::Version(version)), false),
                Some((_, version)) => match &seen {
                    Some((last, since)) if *last == version => {
                        let silent = since.elapsed() >= options.lease;
                        (silent.then_some(Expect::Version(version)), silent)
                    }
                    _ => {
                        seen = Some((version, Instant::now()));
                        (None, false)
                    }
                },
            };
            if let Some(expect) = expect
                && let Put::Done(version) =
                    store.put(&key, said(&id), expect, Durability::Full).await?
            {
                let held = Arc::new(Held {
                    store: store.clone(),
                    key,
                    id,
                    lease: options.lease,
                    current: Mutex::new((version, Instant::now())),
                });
                let renewal = tokio::spawn(keep(Arc::clone(&held)));
                return Ok(Some(Self {
                    holder: Holder::Remote { held, renewal },
                    abandoned,
                }));
            }
            if !needed() {
                return Ok(None);
            }
            if started.elapsed() >= options.timeout {
                return Err(busy(store, options));
            }
            tokio::time::sleep(jitter(pause)).await;
            pause = (pause * 2).min(REMOTE_PAUSE.1);
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Holder::Remote { renewal, .. } = &self.holder {
            renewal.abort();
        }
    }
}

impl Held {
    async fn check(&self) -> Result<()> {
        let mut current = self.current.lock().await;
        if current.1.elapsed() < self.lease / 4 {
            return match self.store.get_versioned(&self.key).await? {
                Some((_, now)) if now == current.0 => Ok(()),
                _ => Err(self.overtaken()),
            };
        }
        self.renew(&mut current).await
    }

    async fn renew(&self, current: &mut (Version, Instant)) -> Result<()> {
        let expect = Expect::Version(current.0.clone());
        let began = Instant::now();
        let put = self
            .store
            .put(&self.key, said(&self.id), expect, Durability::Full);
        match put.await? {
            Put::Done(version) => {
                *current = (version, began);
                Ok(())
            }
            Put::Conflict => Err(self.overtaken()),
        }
    }

    fn overtaken(&self) -> Error {
        Error::Conflict(format!(
            "{}: this writer was silent for too long, and another one has taken over",
            self.store.location()
        ))
    }
}

/// Renews a lock until somebody else has taken it over.
async fn keep(held: Arc<Held>) {
    loop {
        tokio::time::sleep(held.lease / 4).await;
        let mut current = held.current.lock().await;
        if let Err(Error::Conflict(_)) = held.renew(&mut current).await {
            return;
        }
    }
}

/// Makes the directory of what is not part of the dataset; that it is there survives a loss of power.
fn make_private(root: &Path, directory: &Path) -> std::io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(directory)?;
    File::open(root)?.sync_all()
}

/// A shared lock on the file at `path`, with which nobody has it open who has locked it for writing.
async fn share(store: &Store, path: &Path, started: Instant, options: LockOptions) -> Result<File> {
    let mut pause = PAUSE.0;
    loop {
        // To replace a file that one may not write would be a way around its permissions.
        let failed = |e| Error::io(format!("{} cannot be written", store.location()), e);
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed)?;
        let tried = file.try_lock_shared();
        if !waits(store, &tried)? {
            let locked = file.metadata().map_err(failed)?;
            let there = std::fs::metadata(path).map_err(failed)?;
            if Identity::of(&locked) == Identity::of(&there) {
                return Ok(file);
            }
        }
        rest(&mut pause, started, options, || {
            Error::Conflict(format!(
                "{} is open for writing in another program, which did not close it within {:?}; hyperslab.lock_timeout says \
                 how long to wait",
                store.location(),
                options.timeout
            ))
        })
        .await?;
    }
}

/// Whether somebody else has the lock that was tried for.
fn waits(store: &Store, tried: &Result<(), TryLockError>) -> Result<bool> {
    match tried {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(Error::io(
            format!("{} cannot be locked", store.location()),
            std::io::Error::new(e.kind(), e.to_string()),
        )),
    }
}

/// Pauses before the next try, unless there has been time enough.
async fn rest(
    pause: &mut Duration,
    started: Instant,
    options: LockOptions,
    late: impl FnOnce() -> Error,
) -> Result<()> {
    if started.elapsed() >= options.timeout {
        return Err(late());
    }
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).min(PAUSE.1);
    Ok(())
}

/// What a lock object holds while somebody has it: whom to look for, and never the same twice.
fn said(id: &str) -> Bytes {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!(
        "{{\"holder\": \"{id}\", \"host\": {:?}, \"pid\": {}, \"said\": \"{}\"}}",
        host.trim(),
        std::process::id(),
        write_id()
    )
    .into()
}

fn busy(store: &Store, options: LockOptions) -> Error {
    Error::Conflict(format!(
        "{} is being written by somebody else, who did not finish within {:?}; hyperslab.lock_timeout says how long to wait",
        store.location(),
        options.timeout
    ))
}

/// Between half and one and a half of a pause, so that many who wait do not all come at once.
fn jitter(pause: Duration) -> Duration {
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    let part = u32::try_from(random % 1024).unwrap_or(512);
    pause / 2 + pause * part / 1024
}
