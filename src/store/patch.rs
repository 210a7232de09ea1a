//! A file that grows where it is: bytes where no reader looks, then a few that make them seen.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use super::Store;
use super::replace::Replaced;
use super::write::Durability;
use crate::error::{Error, Result};

/// A local file into which bytes are put behind what its readers look at; the caller holds the lock.
#[derive(Debug)]
pub struct InPlace {
    store: Store,
    path: PathBuf,
    file: File,
    /// Bytes of the file before.
    length: u64,
    durability: Durability,
}

/// Bytes that make seen what was put into a file before.
#[derive(Debug)]
pub struct Patch {
    target: InPlace,
    offset: u64,
    bytes: Vec<u8>,
}

impl InPlace {
    /// The file at the location of `store`.
    ///
    /// # Errors
    /// `Unsupported` when there is no local file, `Io` when it cannot be written.
    pub fn open(store: &Store, durability: Durability) -> Result<Self> {
        let Some((path, ..)) = store.file_parts()? else {
            return Err(store.not_local());
        };
        let unwritten = |e| store.unwritten("", e);
        let file = File::options().write(true).open(&path).map_err(unwritten)?;
        Ok(Self {
            length: file.metadata().map_err(unwritten)?.len(),
            store: store.clone(),
            path,
            file,
            durability,
        })
    }

    /// Puts bytes at `offset`, by which the file may grow.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|e| self.store.unwritten("", e))
    }

    /// Gives the file the length that it had; what was put behind that is gone.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub fn restore(self) -> Result<()> {
        let metadata = self.file.metadata();
        metadata
            .and_then(|metadata| match metadata.len() > self.length {
                true => self.file.set_len(self.length),
                false => Ok(()),
            })
            .map_err(|e| self.store.unwritten("", e))
    }

    /// The bytes by which readers will see what was put into the file.
    #[must_use]
    pub fn patch(self, offset: u64, bytes: Vec<u8>) -> Patch {
        Patch {
            target: self,
            offset,
            bytes,
        }
    }
}

impl Patch {
    /// Makes everything that was put before durable, then puts the bytes; they are few, and are there all or not at all.
    ///
    /// # Errors
    /// `Io` when the storage fails: unless the text says that the outcome is unknown, nothing has changed.
    pub fn publish(self) -> Result<Replaced> {
        let InPlace {
            store,
            path,
            file,
            durability,
            ..
        } = &self.target;
        let unwritten = |e| store.unwritten("", e);
        let sync = || match durability {
            Durability::Full => file.sync_data(),
            Durability::None => Ok(()),
        };
        sync().map_err(unwritten)?;
        let own = file.metadata().map_err(unwritten)?;
        let is_same = fs::metadata(path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino()));
        if !is_same {
            return Ok(Replaced::Conflict);
        }
        file.write_all_at(&self.bytes, self.offset)
            .map_err(unwritten)?;
        sync().map_err(|e| {
            Error::io(
                format!(
                    "{} was changed, but whether that survives a loss of power is unknown",
                    store.location()
                ),
                e,
            )
        })?;
        Ok(Replaced::Done)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn setup() -> (tempfile::TempDir, PathBuf, InPlace) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.nc");
        fs::write(&path, b"4 one two").unwrap();
        let store = Store::open(path.to_str().unwrap()).unwrap();
        let file = InPlace::open(&store, Durability::Full).unwrap();
        (directory, path, file)
    }

    #[test]
    fn bytes_behind_the_end_come_before_those_that_tell_of_them() {
        let (_directory, path, file) = setup();
        file.write(9, b" three").unwrap();
        let patch = file.patch(0, b"5".to_vec());
        assert_eq!(fs::read(&path).unwrap(), b"4 one two three");
        assert_eq!(patch.publish().unwrap(), Replaced::Done);
        assert_eq!(fs::read(&path).unwrap(), b"5 one two three");
    }

    #[test]
    fn what_is_given_up_is_cut_off() {
        let (_directory, path, file) = setup();
        file.write(12, b"three").unwrap();
        file.restore().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"4 one two");
    }

    #[test]
    fn a_file_that_was_replaced_meanwhile_is_a_conflict() {
        let (directory, path, file) = setup();
        let other = directory.path().join("b.nc");
        fs::write(&other, b"others").unwrap();
        fs::rename(&other, &path).unwrap();
        let patch = file.patch(0, b"5".to_vec());
        assert_eq!(patch.publish().unwrap(), Replaced::Conflict);
        assert_eq!(fs::read(&path).unwrap(), b"others");
    }
}
