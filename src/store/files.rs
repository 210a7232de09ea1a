//! Objects of a local store as the files that they are.

use std::fs::File;

use super::write::{Durability, Local};
use super::{Backend, Store, absent, local_path, open};
use crate::error::Result;

impl Store {
    /// Writes a new object of a local store as it comes.
    ///
    /// # Errors
    /// What `write` fails with; `Io` when the storage fails; `Unsupported` for a store that is not local.
    pub fn put_stream(
        &self,
        key: &str,
        durability: Durability,
        write: impl FnOnce(&File) -> Result<()>,
    ) -> Result<()> {
        let Backend::Local { root, .. } = &self.backend else {
            return Err(self.not_local());
        };
        let failed = |e| self.unwritten(key, e);
        let mut local = Local::new(root, durability);
        let path = local_path(root, key);
        local.parent(&path).map_err(failed)?;
        let file = File::create_new(&path).map_err(failed)?;
        write(&file)?;
        if durability == Durability::Full {
            file.sync_all().map_err(failed)?;
        }
        local.finish().map_err(failed)
    }

    /// An object of a local store that nobody knows yet, to be written in any order; it is made if it is not there.
    ///
    /// # Errors
    /// `Io` when the storage fails; `Unsupported` for a store that is not local.
    pub fn edit_local(&self, key: &str) -> Result<File> {
        let Backend::Local { root, .. } = &self.backend else {
            return Err(self.not_local());
        };
        let path = local_path(root, key);
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true);
        let opened = match options.open(&path) {
            Err(e) if absent(&e) => {
                let made = Local::new(root, Durability::None).parent(&path);
                made.and_then(|()| options.open(&path))
            }
            opened => opened,
        };
        opened.map_err(|e| self.unwritten(key, e))
    }

    /// An object of a local store, to be read in any order, and its length; `None` when there is no such object.
    ///
    /// # Errors
    /// `Io` when the storage fails; `Unsupported` for a store that is not local.
    pub fn file_of(&self, key: &str) -> Result<Option<(File, u64)>> {
        let Backend::Local { root, aside, .. } = &self.backend else {
            return Err(self.not_local());
        };
        let opened = open(root, aside, key).and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((length, file)) => Ok(Some((file, length))),
            Err(e) if absent(&e) => Ok(None),
            Err(e) => Err(self.failed(key, e)),
        }
    }

    /// An object of a local store, to be read in any order.
    ///
    /// # Errors
    /// `NotFound` when there is no such object; `Io` when the storage fails; `Unsupported` for a store that is not local.
    pub fn open_local(&self, key: &str) -> Result<File> {
        let Backend::Local { root, .. } = &self.backend else {
            return Err(self.not_local());
        };
        File::open(local_path(root, key)).map_err(|e| self.failed(key, e))
    }
}
