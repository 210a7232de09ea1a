//! Writing of objects: whole, atomic, durable, and only if what stands there is what was expected.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path as FilePath, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{
    Attribute, AttributeValue, Attributes, GetOptions, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, PutPayload, UpdateVersion,
};

pub use super::private::{PRIVATE, aside, is_private, write_id};

use super::{Backend, Store, absent, below, local_path};
use crate::error::{Error, Result};

/// Requests under way at the same time.
const REQUESTS: usize = 16;

/// How long a request that failed is made again, beyond what the client of the store does itself.
const TRIES: Duration = Duration::from_secs(5);

/// Pause before such a request.
const PAUSE: Duration = Duration::from_millis(100);

/// The metadata entry by which a writer finds out whether an object is its own, when the answer to a request is lost.
const WRITE_ID: &str = "hyperslab-write-id";

/// What has to be at a key for an object to be put there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// Whatever is there is replaced.
    #[default]
    Anything,
    /// Nothing.
    Absent,
    /// This version of the object.
    Version(Version),
}

/// A version of an object of a store that is not local.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// What the store calls the state of the object.
    pub e_tag: Option<String>,
    /// What a store that keeps earlier states calls this one.
    pub version: Option<String>,
}

/// What became of an object that was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there; its version, where the store has versions.
    Done(Version),
    /// What was there was not what was expected: nothing has changed.
    Conflict,
}

/// Who put an object.
enum Owner {
    Nobody,
    /// The writer who asks, in this version.
    This(Version),
    Other,
}

/// An object to be put.
#[derive(Clone, Debug)]
pub struct Object {
    /// Key below the location.
    pub key: String,
    /// What it holds.
    pub bytes: Bytes,
    /// What has to be there before.
    pub expect: Expect,
}

/// Whether what has been written survives a loss of power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Files and directories are synchronised before a write counts as done.
    #[default]
    Full,
    /// The operating system writes when it likes.
    None,
}

impl Store {
    /// Puts objects, each of them whole or not at all; of a local store they are durable together at the end.
    ///
    /// # Errors
    /// `Io` when the storage fails, by which some of the objects may have been put; `Unsupported` when a local object
    /// is expected to have a version.
    pub async fn put_all(&self, objects: Vec<Object>, durability: Durability) -> Result<Vec<Put>> {
        match &self.backend {
            Backend::Local { root, .. } => {
                let mut local = Local::new(root, durability);
                let put = local
                    .put_all(&objects)
                    .map_err(|(key, e)| self.unwritten(&key, e))?;
                local.finish().map_err(|e| self.unwritten("", e))?;
                self.forget_files();
                Ok(put)
            }
            Backend::Remote(_) => {
                stream::iter(objects)
                    .map(|object| self.put_remote(object))
                    .buffered(REQUESTS)
                    .try_collect()
                    .await
            }
        }
    }

    /// Puts one object.
    ///
    /// # Errors
    /// As [`Store::put_all`].
    pub async fn put(
        &self,
        key: &str,
        bytes: impl Into<Bytes>,
        expect: Expect,
        durability: Durability,
    ) -> Result<Put> {
        let object = Object {
            key: key.to_owned(),
            bytes: bytes.into(),
            expect,
        };
        let put = self.put_all(vec![object], durability).await?;
        Ok(put.into_iter().next().unwrap_or(Put::Conflict))
    }

    /// Makes objects durable that were put without [`Durability::Full`], and their names; those of a store that is not
    /// local are. Objects that are not there any more are passed over.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub fn sync_all(&self, keys: &[String]) -> Result<()> {
        let Backend::Local { root, .. } = &self.backend else {
            return Ok(());
        };
        let paths: Vec<PathBuf> = around(root, keys).into_iter().collect();
        sync(&paths).map_err(|e| self.unwritten("", e))
    }

    /// Moves objects of a local store, one after the other, and makes that durable.
    ///
    /// An object that is not there any more counts as moved, so that this can be done again after it was cut short.
    ///
    /// # Errors
    /// `Io` when the storage fails; `Unsupported` for a store that is not local.
    pub fn rename_all(&self, moves: &[(String, String)], durability: Durability) -> Result<()> {
        let Backend::Local { root, .. } = &self.backend else {
            return Err(self.not_local());
        };
        let mut local = Local::new(root, durability);
        for (from, to) in moves {
            local
                .rename(&local_path(root, from), to)
                .or_else(|e| if absent(&e) { Ok(()) } else { Err(e) })
                .map_err(|e| self.unwritten(to, e))?;
        }
        local.finish().map_err(|e| self.unwritten("", e))?;
        self.forget_files();
        Ok(())
    }

    /// Removes objects; those that are not there are no error.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub async fn delete_all(&self, keys: &[String]) -> Result<()> {
        match &self.backend {
            Backend::Local { root, .. } => {
                for key in keys {
                    match fs::remove_file(local_path(root, key)) {
                        Err(e) if !absent(&e) => return Err(self.unwritten(key, e)),
                        _ => {}
                    }
                }
                self.forget_files();
                Ok(())
            }
            Backend::Remote(remote) => {
                let prefix = &remote.prefix;
                let paths: Vec<_> = keys.iter().map(|key| Ok(below(prefix, key))).collect();
                let mut deleted = remote.objects().delete_stream(stream::iter(paths).boxed());
                while let Some(outcome) = deleted.next().await {
                    match outcome {
                        Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                        Err(e) => return Err(self.unwritten("", e)),
                    }
                }
                Ok(())
            }
        }
    }

    /// Removes everything in a directory of a local store. The directory stays, so that the next writer need not make it.
    ///
    /// # Errors
    /// `Io` when the storage fails; `Unsupported` for a store that is not local.
    pub fn clear_directory(&self, key: &str) -> Result<()> {
        let Backend::Local { root, .. } = &self.backend else {
            return Err(self.not_local());
        };
        let clear = || {
            for entry in fs::read_dir(local_path(root, key))? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(entry.path())?;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        match clear() {
            Err(e) if !absent(&e) => Err(self.unwritten(key, e)),
            _ => Ok(()),
        }
    }

    /// A whole object with its version; `None` when there is none. Local objects have no versions.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub async fn get_versioned(&self, key: &str) -> Result<Option<(Bytes, Version)>> {
        self.get_bounded(key, u64::MAX).await
    }

    /// The same of an object of at most `most` bytes.
    ///
    /// # Errors
    /// `Exhausted` when it has more, `Io` when the storage fails.
    pub async fn get_bounded(&self, key: &str, most: u64) -> Result<Option<(Bytes, Version)>> {
        let Backend::Remote(remote) = &self.backend else {
            let found = self.get_small(key, most).await?;
            return Ok(found.map(|bytes| (bytes, Version::NONE)));
        };
        let got = match remote.objects().get(&below(&remote.prefix, key)).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(self.remote_failed(key, &e)),
        };
        self.check_size(key, got.meta.size, most)?;
        let version = Version {
            e_tag: got.meta.e_tag.clone(),
            version: got.meta.version.clone(),
        };
        let bytes = got.bytes().await.map_err(|e| self.remote_failed(key, &e))?;
        Ok(Some((bytes, version)))
    }

    async fn put_remote(&self, object: Object) -> Result<Put> {
        let Backend::Remote(remote) = &self.backend else {
            return Err(self.not_local());
        };
        let id = write_id();
        let mode = match object.expect {
            Expect::Anything => PutMode::Overwrite,
            Expect::Absent => PutMode::Create,
            Expect::Version(Version { e_tag, version }) => {
                PutMode::Update(UpdateVersion { e_tag, version })
            }
        };
        let attributes: Attributes = [(
            Attribute::Metadata(WRITE_ID.into()),
            AttributeValue::from(id.clone()),
        )]
        .into_iter()
        .collect();
        let options = PutOptions {
            mode,
            attributes,
            ..PutOptions::default()
        };
        let path = below(&remote.prefix, &object.key);
        let payload = PutPayload::from_bytes(object.bytes);
        let began = Instant::now();
        loop {
            let put = remote
                .objects()
                .put_opts(&path, payload.clone(), options.clone())
                .await;
            let error = match put {
                Ok(done) => {
                    return Ok(Put::Done(Version {
                        e_tag: done.e_tag,
                        version: done.version,
                    }));
                }
                Err(
                    error @ (object_store::Error::NotImplemented { .. }
                    | object_store::Error::NotSupported { .. }),
                ) => {
                    return Err(Error::Unsupported(format!(
                        "{} cannot be written: the store has no conditional writes ({error})",
                        self.place(&object.key)
                    )));
                }
                Err(error) => error,
            };
            // The answer to an earlier try of the same request may have been lost: whose object is it?
            let owner = self.owner(&path, &id).await;
            match (&error, owner) {
                (_, Ok(Owner::This(version))) => return Ok(Put::Done(version)),
                (object_store::Error::Precondition { .. }, Ok(_))
                | (object_store::Error::AlreadyExists { .. }, Ok(Owner::Other)) => {
                    return Ok(Put::Conflict);
                }
                (
                    object_store::Error::PermissionDenied { .. }
                    | object_store::Error::Unauthenticated { .. }
                    | object_store::Error::NotFound { .. },
                    Ok(_),
                ) => return Err(self.unwritten(&object.key, error)),
                // As long as this object is expected, and no other, it does no harm to ask again.
                (_, Ok(_)) if began.elapsed() < TRIES => tokio::time::sleep(PAUSE).await,
                // A request that was not answered may still be on its way.
                (_, _) => {
                    return Err(Error::io(
                        format!(
                            "{}: whether it was written is unknown, because the storage does not answer",
                            self.place(&object.key)
                        ),
                        error,
                    ));
                }
            }
        }
    }

    /// Who put the object at `path`, if this writer's write id is `id`.
    async fn owner(
        &self,
        path: &object_store::path::Path,
        id: &str,
    ) -> Result<Owner, object_store::Error> {
        let Backend::Remote(remote) = &self.backend else {
            return Ok(Owner::Nobody);
        };
        let head = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        match remote.objects().get_opts(path, head).await {
            Ok(got) => {
                let found = got.attributes.get(&Attribute::Metadata(WRITE_ID.into()));
                Ok(match found {
                    Some(found) if found.as_ref() == id => Owner::This(Version {
                        e_tag: got.meta.e_tag.clone(),
                        version: got.meta.version.clone(),
                    }),
                    _ => Owner::Other,
                })
            }
            Err(object_store::Error::NotFound { .. }) => Ok(Owner::Nobody),
            Err(error) => Err(error),
        }
    }

    /// Forgets open files, because other files may be at their places now.
    fn forget_files(&self) {
        if let Backend::Local { files, .. } = &self.backend {
            files.lock().clear();
        }
    }

    pub(super) fn unwritten(
        &self,
        key: &str,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error::io(format!("{} cannot be written", self.place(key)), error)
    }
}

impl Version {
    /// The version of an object where there are none.
    const NONE: Self = Self {
        e_tag: None,
        version: None,
    };
}

/// Writes below a directory of this machine.
pub(super) struct Local<'a> {
    root: &'a FilePath,
    durability: Durability,
    /// Directories whose entries have changed.
    changed: BTreeSet<PathBuf>,
}

impl<'a> Local<'a> {
    pub(super) fn new(root: &'a FilePath, durability: Durability) -> Self {
        Self {
            root,
            durability,
            changed: BTreeSet::new(),
        }
    }

    /// Objects appear under their names in their order, and only when all of them are on disk.
    fn put_all(&mut self, objects: &[Object]) -> Result<Vec<Put>, (String, std::io::Error)> {
        let mut staged = Vec::with_capacity(objects.len());
        let put = self.put_staged(objects, &mut staged);
        // What is left of those that could not be put is in nobody's way: if it cannot be removed now, it is with the next
        // clean-up.
        let is_done =
            |at: usize| matches!(&put, Ok(put) if matches!(put.get(at), Some(Put::Done(_))));
        for (at, path) in staged.iter().enumerate() {
            if !is_done(at) {
                let _ = fs::remove_file(path);
            }
        }
        put
    }

    fn put_staged(
        &mut self,
        objects: &[Object],
        staged: &mut Vec<PathBuf>,
    ) -> Result<Vec<Put>, (String, std::io::Error)> {
        self.stage(objects, staged)?;
        if self.durability == Durability::Full {
            sync(staged).map_err(|e| (String::new(), e))?;
        }
        let mut put = Vec::with_capacity(objects.len());
        for (object, path) in objects.iter().zip(staged) {
            let is_done = match object.expect {
                Expect::Anything => self.rename(path, &object.key).map(|()| true),
                Expect::Absent => self.link(path, &object.key),
                Expect::Version(_) => Err(std::io::Error::new(
                    std::io::ErrorKind::Unsupported,
                    "local files have no versions",
                )),
            };
            put.push(if is_done.map_err(|e| (object.key.clone(), e))? {
                Put::Done(Version::NONE)
            } else {
                Put::Conflict
            });
        }
        Ok(put)
    }

    /// Writes objects to names that nobody knows.
    fn stage(
        &mut self,
        objects: &[Object],
        staged: &mut Vec<PathBuf>,
    ) -> Result<(), (String, std::io::Error)> {
        let tmp = self.root.join(PRIVATE).join("tmp");
        for object in objects {
            let failed = |e| (object.key.clone(), e);
            self.make_directory(&tmp).map_err(failed)?;
            let path = tmp.join(write_id());
            let mut file = File::create_new(&path).map_err(failed)?;
            staged.push(path);
            file.write_all(&object.bytes).map_err(failed)?;
        }
        Ok(())
    }

    fn rename(&mut self, from: &FilePath, key: &str) -> std::io::Result<()> {
        let to = local_path(self.root, key);
        self.parent(&to)?;
        fs::rename(from, &to)
    }

    /// Gives a file its name if nothing has it; `false` if something has.
    fn link(&mut self, from: &FilePath, key: &str) -> std::io::Result<bool> {
        let to = local_path(self.root, key);
        self.parent(&to)?;
        match fs::hard_link(from, &to) {
            Ok(()) => fs::remove_file(from).map(|()| true),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        }
    }

    pub(super) fn parent(&mut self, path: &FilePath) -> std::io::Result<()> {
        let parent = path.parent().unwrap_or(self.root).to_owned();
        self.make_directory(&parent)?;
        self.changed.insert(parent);
        Ok(())
    }

    /// Makes a directory and those around it; each of them changes the one that it is in.
    fn make_directory(&mut self, directory: &FilePath) -> std::io::Result<()> {
        let mut missing = Vec::new();
        let mut at = directory;
        while !at.is_dir() {
            missing.push(at.to_owned());
            match at.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => at = parent,
                _ => break,
            }
        }
        for directory in missing.into_iter().rev() {
            match fs::create_dir(&directory) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            if let Some(parent) = directory.parent() {
                let here = FilePath::new(".");
                let parent = if parent.as_os_str().is_empty() {
                    here
                } else {
                    parent
                };
                self.changed.insert(parent.to_owned());
            }
        }
        Ok(())
    }

    /// Makes the names durable.
    pub(super) fn finish(self) -> std::io::Result<()> {
        if self.durability == Durability::None {
            return Ok(());
        }
        sync(&self.changed.into_iter().collect::<Vec<_>>())
    }
}

/// Files and the directories that hold their names: each of them may be new, that of the location too.
fn around(root: &FilePath, keys: &[String]) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    for key in keys {
        let path = local_path(root, key);
        let directories = path
            .ancestors()
            .skip(1)
            .take_while(|directory| directory.starts_with(root));
        paths.extend(directories.chain(root.parent()).map(|directory| {
            if directory.as_os_str().is_empty() {
                PathBuf::from(".")
            } else {
                directory.to_owned()
            }
        }));
        paths.insert(path);
    }
    paths
}

/// Makes files and directories durable, all at the same time: a file system writes its own journal once for many of them.
fn sync(paths: &[PathBuf]) -> std::io::Result<()> {
    let one = |path: &PathBuf| match File::open(path) {
        Ok(file) => file.sync_all(),
        Err(e) if absent(&e) => Ok(()),
        Err(e) => Err(e),
    };
    match paths {
        [] => Ok(()),
        [path] => one(path),
        paths => std::thread::scope(|scope| {
            let share = paths.len().div_ceil(REQUESTS);
            let threads: Vec<_> = paths
                .chunks(share)
                .map(|share| scope.spawn(move || share.iter().try_for_each(one)))
                .collect();
            threads.into_iter().try_for_each(|thread| {
                let panicked = |_| Err(std::io::Error::other("a thread ended early"));
                thread.join().unwrap_or_else(panicked)
            })
        }),
    }
}
