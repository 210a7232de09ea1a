//! A new version of a file: written beside it, and unseen until it takes its place.

use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path as FilePath, PathBuf};

use super::write::{Durability, write_id};
use super::{Backend, Store, absent};
use crate::error::{Error, Result};

/// What tells whether the file at a path is still the same one, with the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl Store {
    /// The identity of the file at the location; `None` where files have none, in an object store.
    ///
    /// # Errors
    /// `NotFound` when there is nothing at the location, `Io` when the storage fails.
    pub fn identity(&self) -> Result<Option<Identity>> {
        let Backend::Local { root, .. } = &self.backend else {
            return Ok(None);
        };
        let metadata = fs::metadata(root).map_err(|e| self.failed("", e))?;
        Ok(Some(Identity::of(&metadata)))
    }

    /// Removes what writers that are gone have left beside the file at the location; the caller holds the lock.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub fn remove_replacements(&self) -> Result<()> {
        let Some((_, directory, name)) = self.new_file_parts()? else {
            return Ok(());
        };
        let entries = fs::read_dir(&directory).map_err(|e| self.unwritten("", e))?;
        for entry in entries {
            let entry = entry.map_err(|e| self.unwritten("", e))?;
            let left = entry.file_name();
            if left
                .to_str()
                .is_some_and(|left| is_replacement(left, &name))
            {
                match fs::remove_file(entry.path()) {
                    Err(e) if !absent(&e) => return Err(self.unwritten("", e)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The file at the location, whatever links lead there: its path, directory and name.
    pub(super) fn file_parts(&self) -> Result<Option<(PathBuf, PathBuf, String)>> {
        let Backend::Local { root, .. } = &self.backend else {
            return Ok(None);
        };
        let path = match fs::canonicalize(root) {
            Ok(path) if path.is_file() => path,
            Ok(_) => return Ok(None),
            Err(e) if absent(&e) => return Ok(None),
            Err(e) => return Err(self.failed("", e)),
        };
        self.parts_of(path).map(Some)
    }

    /// The same for a file that may not be there yet; `None` where there can be none, as in the place of a directory.
    pub(super) fn new_file_parts(&self) -> Result<Option<(PathBuf, PathBuf, String)>> {
        let Backend::Local { root, .. } = &self.backend else {
            return Ok(None);
        };
        if let Some(parts) = self.file_parts()? {
            return Ok(Some(parts));
        }
        if root.exists() {
            return Ok(None);
        }
        let directory = match root.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => FilePath::new("."),
        };
        let directory = fs::canonicalize(directory).map_err(|e| self.unwritten("", e))?;
        match root.file_name() {
            Some(name) => self.parts_of(directory.join(name)).map(Some),
            None => Ok(None),
        }
    }

    fn parts_of(&self, path: PathBuf) -> Result<(PathBuf, PathBuf, String)> {
        let parts = path.parent().map(FilePath::to_owned);
        let name = path.file_name().and_then(|name| name.to_str());
        match (parts, name.map(str::to_owned)) {
            (Some(directory), Some(name)) => Ok((path, directory, name)),
            _ => Err(Error::Unsupported(format!(
                "{} cannot be written: its name is not UTF-8",
                self.location()
            ))),
        }
    }
}

/// A new version of a local file. It begins as a copy, shares what it does not change with the file where the file
/// system can, and is removed unless it is published.
#[derive(Debug)]
pub struct Replacement {
    store: Store,
    target: PathBuf,
    directory: PathBuf,
    path: PathBuf,
    file: File,
    /// What it takes the place of; `None`: of nothing.
    found: Option<Identity>,
    durability: Durability,
}

/// What became of a new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// It is the file.
    Done,
    /// Somebody else has changed the file meanwhile: nothing has changed.
    Conflict,
}

impl Replacement {
    /// A copy of the file at the location of `store`, which is `found`; the caller holds the lock.
    ///
    /// # Errors
    /// `Conflict` when the file has been changed since, `Unsupported` when there is no local file, `Io` when the storage
    /// fails.
    pub fn copy(store: &Store, found: Identity, durability: Durability) -> Result<Self> {
        let (mut copy, mut old) = Self::begin(store, found, durability)?;
        std::io::copy(&mut old, &mut copy.file).map_err(|e| store.unwritten("", e))?;
        Ok(copy)
    }

    /// The same without any bytes yet, which [`Replacement::writer`] takes.
    ///
    /// # Errors
    /// As [`Replacement::copy`].
    pub fn empty(store: &Store, found: Identity, durability: Durability) -> Result<Self> {
        Self::begin(store, found, durability).map(|(empty, _)| empty)
    }

    /// The first version of a file, without any bytes yet; if there is a file, which the caller may replace, it takes its
    /// place. The caller holds the lock.
    ///
    /// # Errors
    /// As [`Replacement::copy`].
    pub fn first(store: &Store, durability: Durability) -> Result<Self> {
        match store.identity() {
            Ok(Some(found)) => Self::empty(store, found, durability),
            Ok(None) => Err(store.not_local()),
            Err(Error::NotFound(_)) => {
                let Some((target, directory, name)) = store.new_file_parts()? else {
                    return Err(store.not_local());
                };
                Self::beside(store, (target, directory, &name), None, durability)
            }
            Err(error) => Err(error),
        }
    }

    /// The new version, as a location of its own.
    ///
    /// # Errors
    /// `Unsupported` when its path is not UTF-8.
    pub fn store(&self) -> Result<Store> {
        let path = self.path.to_str().ok_or_else(|| {
            Error::Unsupported(format!(
                "{} cannot be written: the directory around it has a name that is not UTF-8",
                self.store.location()
            ))
        })?;
        Store::open(path)
    }

    /// What writes the new version from its beginning on.
    pub fn writer(&self) -> impl Write + Seek + '_ {
        &self.file
    }

    /// A new version without bytes, and the old one.
    fn begin(store: &Store, found: Identity, durability: Durability) -> Result<(Self, File)> {
        let Some((target, directory, name)) = store.file_parts()? else {
            return Err(store.not_local());
        };
        let unwritten = |e| store.unwritten("", e);
        let old = File::open(&target).map_err(|e| store.failed("", e))?;
        let metadata = old.metadata().map_err(|e| store.failed("", e))?;
        if Identity::of(&metadata) != found {
            return Err(Error::Conflict(format!(
                "{} was changed by another program meanwhile; try again",
                store.location()
            )));
        }
        let copy = Self::beside(store, (target, directory, &name), Some(found), durability)?;
        copy.file
            .set_permissions(metadata.permissions())
            .map_err(unwritten)?;
        // Only the administrator can give files away, and others have no file of somebody else's to lose.
        let _ = std::os::unix::fs::fchown(&copy.file, Some(metadata.uid()), Some(metadata.gid()));
        Ok((copy, old))
    }

    /// An empty file beside the one of this path, directory and name; from here on it is removed with this value.
    fn beside(
        store: &Store,
        (target, directory, name): (PathBuf, PathBuf, &str),
        found: Option<Identity>,
        durability: Durability,
    ) -> Result<Self> {
        let path = directory.join(format!(".{name}.{}.tmp", write_id()));
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| store.unwritten("", e))?;
        Ok(Self {
            store: store.clone(),
            target,
            directory,
            path,
            file,
            found,
            durability,
        })
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// `Corrupt` when they are not within the file, `Io` when the storage fails.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|e| {
            if e.kind() == ErrorKind::UnexpectedEof {
                self.store.ends_early("", offset, buffer.len())
            } else {
                self.store.failed("", e)
            }
        })
    }

    /// Puts bytes at `offset`, by which the new version may grow.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|e| self.store.unwritten("", e))
    }

    /// Cuts or extends the new version.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub fn set_length(&self, length: u64) -> Result<()> {
        self.file
            .set_len(length)
            .map_err(|e| self.store.unwritten("", e))
    }

    /// Makes this the file, at once and for all.
    ///
    /// # Errors
    /// `Io` when the storage fails: unless the text says that the outcome is unknown, nothing has changed.
    pub fn publish(self) -> Result<Replaced> {
        let unwritten = |e| self.store.unwritten("", e);
        if self.durability == Durability::Full {
            self.file.sync_all().map_err(unwritten)?;
        }
        let there = match fs::metadata(&self.target) {
            Ok(metadata) => Some(Identity::of(&metadata)),
            Err(e) if absent(&e) => None,
            Err(e) => return Err(self.store.failed("", e)),
        };
        if there != self.found {
            return Ok(Replaced::Conflict);
        }
        if there.is_none() {
            // Unlike a rename, a link never takes the place of a file that came just now; some file systems have none.
            match fs::hard_link(&self.path, &self.target) {
                Ok(()) => {
                    // What it was called until now: it is the file either way.
                    let _ = fs::remove_file(&self.path);
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(Replaced::Conflict),
                Err(_) => fs::rename(&self.path, &self.target).map_err(unwritten)?,
            }
        } else {
            fs::rename(&self.path, &self.target).map_err(unwritten)?;
        }
        if self.durability == Durability::Full {
            let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
            synced.map_err(|e| {
                Error::io(
                    format!(
                        "{} was changed, but whether that survives a loss of power is unknown",
                        self.store.location()
                    ),
                    e,
                )
            })?;
        }
        Ok(Replaced::Done)
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // Once it is published, there is nothing under this name. What cannot be removed now, the next writer will.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether `left` is the name of a new version of the file called `name`.
fn is_replacement(left: &str, name: &str) -> bool {
    left.strip_prefix('.')
        .and_then(|left| left.strip_prefix(name)?.strip_prefix('.'))
        .and_then(|left| left.strip_suffix(".tmp"))
        .is_some_and(|id| {
            // As `write_id` makes them: another file may be called like this one with something more.
            id.split('-').count() == 4 && id.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
        })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn setup() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.nc");
        fs::write(&path, b"old bytes").unwrap();
        let store = Store::open(path.to_str().unwrap()).unwrap();
        (directory, store)
    }

    fn copy(store: &Store) -> Replacement {
        let found = store.identity().unwrap().unwrap();
        Replacement::copy(store, found, Durability::Full).unwrap()
    }

    fn names(directory: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_new_version_is_seen_when_it_is_published() {
        let (directory, store) = setup();
        let before = store.identity().unwrap();
        let new = copy(&store);
        new.write(0, b"new").unwrap();
        new.write(9, b" and more").unwrap();
        assert_eq!(store.get("").await.unwrap().unwrap(), "old bytes");
        assert_eq!(new.publish().unwrap(), Replaced::Done);
        assert_eq!(store.get("").await.unwrap().unwrap(), "new bytes and more");
        assert_eq!(names(&directory), ["a.nc"]);
        assert_ne!(store.identity().unwrap(), before);
    }

    #[test]
    fn the_first_version_of_a_file_is_seen_when_it_is_published() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new.nc");
        let store = Store::open(path.to_str().unwrap()).unwrap();
        let first = Replacement::first(&store, Durability::Full).unwrap();
        first.write(0, b"first").unwrap();
        assert!(!path.exists());
        assert_eq!(first.publish().unwrap(), Replaced::Done);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(&directory), ["new.nc"]);
        // Where there is a file, another one takes its place.
        let second = Replacement::first(&store, Durability::Full).unwrap();
        second.write(0, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(second.publish().unwrap(), Replaced::Done);
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names(&directory), ["new.nc"]);
    }

    #[test]
    fn the_first_version_of_a_file_takes_the_place_of_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new.nc");
        let store = Store::open(path.to_str().unwrap()).unwrap();
        let first = Replacement::first(&store, Durability::Full).unwrap();
        fs::write(&path, b"others").unwrap();
        assert_eq!(first.publish().unwrap(), Replaced::Conflict);
        assert_eq!(fs::read(&path).unwrap(), b"others");
        assert_eq!(names(&directory), ["new.nc"]);
    }

    #[tokio::test]
    async fn what_is_not_published_leaves_nothing() {
        let (directory, store) = setup();
        copy(&store).write(0, b"new").unwrap();
        assert_eq!(store.get("").await.unwrap().unwrap(), "old bytes");
        assert_eq!(names(&directory), ["a.nc"]);
    }

    #[test]
    fn a_file_that_another_program_has_changed_is_a_conflict() {
        let (directory, store) = setup();
        let new = copy(&store);
        fs::write(directory.path().join("a.nc"), b"others").unwrap();
        assert_eq!(new.publish().unwrap(), Replaced::Conflict);
        assert_eq!(fs::read(directory.path().join("a.nc")).unwrap(), b"others");
        assert_eq!(names(&directory), ["a.nc"]);
    }

    #[test]
    fn a_link_stays_a_link() {
        let (directory, _) = setup();
        let link = directory.path().join("link.nc");
        std::os::unix::fs::symlink("a.nc", &link).unwrap();
        let store = Store::open(link.to_str().unwrap()).unwrap();
        let new = copy(&store);
        new.write(0, b"new").unwrap();
        assert_eq!(new.publish().unwrap(), Replaced::Done);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            fs::read(directory.path().join("a.nc")).unwrap(),
            b"new bytes"
        );
    }

    #[test]
    fn only_what_writers_of_this_file_have_left_is_removed() {
        let (directory, store) = setup();
        let id = write_id();
        let keep = [
            "a.nc".to_owned(),
            format!(".a.nc.b.{id}.tmp"),
            ".a.nc.tmp".into(),
        ];
        for name in keep.iter().chain([&format!(".a.nc.{id}.tmp")]) {
            fs::write(directory.path().join(name), b"").unwrap();
        }
        store.remove_replacements().unwrap();
        let mut keep = keep.to_vec();
        keep.sort();
        assert_eq!(names(&directory), keep);
    }
}
