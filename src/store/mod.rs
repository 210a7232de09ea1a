//! Bytes at an address: a location, the objects below it, and byte ranges of them.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use parking_lot::Mutex;

use crate::error::{Error, Result};

pub mod cache;
mod failure;
mod fetch;
mod files;
pub mod list;
pub mod lock;
pub mod patch;
mod private;
mod remote;
pub mod replace;
pub mod write;

use remote::{Link, Remote};

#[cfg(feature = "server")]
pub(crate) use remote::Connector;

/// Open file handles kept per location.
const OPEN_FILES: usize = 64;

/// What in a key is followed by the stamp of an object; no path has it.
const STAMP: char = '\0';

/// A location and the objects below it.
///
/// Keys are relative to the location and use `/`; the empty key is the location itself (a dataset that is one file).
/// Cloning is cheap and shares open files.
#[derive(Clone, Debug)]
pub struct Store {
    location: Arc<str>,
    backend: Backend,
}

#[derive(Clone, Debug)]
enum Backend {
    /// Files are read by `pread` straight into the caller's buffer: no copy, no task switch.
    Local {
        root: Arc<FilePath>,
        files: Arc<Mutex<HashMap<String, Arc<File>>>>,
        /// By key, where an object is as long as it is not in its place.
        aside: Arc<HashMap<String, String>>,
    },
    /// Everything else, and the seam for it.
    Remote(Remote),
}

/// What a location is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One object.
    Object,
    /// A directory, or a prefix with objects below it.
    Directory,
}

/// One entry directly below a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Key relative to the store's location.
    pub key: String,
    /// Whether there are entries below it.
    pub is_directory: bool,
}

impl Store {
    /// The store at a location: a local path, a `file://` URL, or an object store (`s3://bucket/prefix`, `gs://`, `az://`,
    /// `http(s)://`) whose region, endpoint and credentials the environment names (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
    ///
    /// # Errors
    /// `Unsupported` for a URL of another scheme, `Invalid` for a malformed one. Whether there is anything at the
    /// location is not looked at.
    pub fn open(location: &str) -> Result<Self> {
        Self::open_with(location, &[])
    }

    /// The same, with options of an object store, which count more than those of the environment.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(location: &str, options: &[(String, String)]) -> Result<Self> {
        let path = match location.split_once("://") {
            None => PathBuf::from(location),
            Some(("file", _)) => url::Url::parse(location)
                .ok()
                .and_then(|url| url.to_file_path().ok())
                .ok_or_else(|| Error::Invalid(format!("{location} is not a valid file URL")))?,
            Some((scheme, _)) if remote::SCHEMES.contains(&scheme) => {
                return Ok(Self {
                    location: location.into(),
                    backend: Backend::Remote(remote::open(location, options)?),
                });
            }
            Some((scheme, _)) => {
                return Err(Error::Unsupported(format!(
                    "{location}: locations with scheme {scheme}:// cannot be read, only local paths, file://, s3://, gs://, \
                     az://, http:// and https:// URLs"
                )));
            }
        };
        Ok(Self {
            location: location.into(),
            backend: Backend::Local {
                root: path.into(),
                files: Arc::default(),
                aside: Arc::default(),
            },
        })
    }

    /// A store over any [`ObjectStore`], at `prefix` of it; `location` is what messages call it.
    #[must_use]
    pub fn with_objects(location: &str, objects: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        let link = Arc::new(Link::new(objects, None));
        Self {
            location: location.into(),
            backend: Backend::Remote(Remote::new(link, prefix)),
        }
    }

    /// The same location without the files that are open: what other programs have put in their places is seen.
    #[must_use]
    pub fn afresh(&self) -> Self {
        let backend = match &self.backend {
            Backend::Local { root, .. } => Backend::Local {
                root: Arc::clone(root),
                files: Arc::default(),
                aside: Arc::default(),
            },
            Backend::Remote(remote) => Backend::Remote(remote.afresh()),
        };
        Self {
            location: Arc::clone(&self.location),
            backend,
        }
    }

    /// The same location of a local store, where objects are read at the first of two keys instead of the second, as long
    /// as they are there.
    #[must_use]
    pub fn redirected(&self, moves: Vec<(String, String)>) -> Self {
        let mut store = self.afresh();
        if let Backend::Local { aside, .. } = &mut store.backend {
            *aside = Arc::new(moves.into_iter().map(|(from, to)| (to, from)).collect());
        }
        store
    }

    /// Path or URL the store was opened with.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The last part of the location without its extension: the name a dataset goes by.
    #[must_use]
    pub fn stem(&self) -> &str {
        let trimmed = self.location.trim_end_matches('/');
        let name = trimmed.rsplit('/').next().unwrap_or(trimmed);
        match name.rsplit_once('.') {
            Some((stem, _)) if !stem.is_empty() => stem,
            _ => name,
        }
    }

    /// The handle through which the engine sees the same bytes.
    #[must_use]
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        match &self.backend {
            Backend::Local { .. } => Arc::new(LocalFileSystem::new()),
            Backend::Remote(remote) => Arc::clone(remote.objects()),
        }
    }

    /// Whether reads are plain `pread`s of this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.backend, Backend::Local { .. })
    }

    /// The store of the directory or prefix around the location, if there is one.
    #[must_use]
    pub fn around(&self) -> Option<Self> {
        match &self.backend {
            Backend::Local { root, .. } => {
                let parent = fs::canonicalize(root).ok()?.parent()?.to_owned();
                Self::open(parent.to_str()?).ok()
            }
            Backend::Remote(remote) => {
                let (outer, _) = remote.prefix.as_ref().rsplit_once('/')?;
                let (location, _) = self.location.trim_end_matches('/').rsplit_once('/')?;
                Some(Self {
                    location: location.into(),
                    backend: Backend::Remote(remote.at(Path::parse(outer).ok()?)),
                })
            }
        }
    }

    /// The path of an object on this machine, if that is where it is.
    #[must_use]
    pub fn local_path(&self, key: &str) -> Option<PathBuf> {
        match &self.backend {
            Backend::Local { root, .. } => Some(local_path(root, key)),
            Backend::Remote(_) => None,
        }
    }

    /// What the location is.
    ///
    /// # Errors
    /// `NotFound` when there is nothing at the location, `Io` when the storage fails.
    pub async fn kind(&self) -> Result<Kind> {
        match &self.backend {
            Backend::Local { root, .. } => {
                let metadata = fs::metadata(root.as_ref()).map_err(|e| self.failed("", e))?;
                Ok(if metadata.is_dir() {
                    Kind::Directory
                } else {
                    Kind::Object
                })
            }
            Backend::Remote(remote) => match self.look(remote).await {
                Ok(_) => Ok(Kind::Object),
                // A web server has no directories that could be listed, and says this or that where one is.
                Err(
                    Error::NotFound(_)
                    | Error::Forbidden(_)
                    | Error::Unsupported(_)
                    | Error::Invalid(_),
                ) if self.is_web() => Ok(Kind::Directory),
                Err(Error::NotFound(_)) if !self.list("").await?.is_empty() => Ok(Kind::Directory),
                Err(error) => Err(error),
            },
        }
    }

    /// Size of an object in bytes.
    ///
    /// # Errors
    /// `NotFound` when there is no such object, `Io` when the storage fails.
    pub async fn size(&self, key: &str) -> Result<u64> {
        match &self.backend {
            Backend::Local { .. } => {
                let file = self.file(key)?;
                Ok(file.metadata().map_err(|e| self.failed(key, e))?.len())
            }
            Backend::Remote(remote) => Ok(self.head_remote(remote, key).await?.size),
        }
    }

    /// A whole object; `None` when there is none.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        match &self.backend {
            Backend::Local { .. } => {
                let mut bytes = Vec::new();
                Ok(self.get_local(key, &mut bytes)?.then(|| bytes.into()))
            }
            Backend::Remote(remote) => self.get_remote(remote, key, u64::MAX).await,
        }
    }

    /// A whole object of at most `most` bytes; `None` when there is none.
    ///
    /// # Errors
    /// `Exhausted` when it has more, `Io` when the storage fails.
    pub async fn get_small(&self, key: &str, most: u64) -> Result<Option<Bytes>> {
        if let Backend::Remote(remote) = &self.backend {
            return self.get_remote(remote, key, most).await;
        }
        match self.size(key).await {
            Ok(size) => self.check_size(key, size, most)?,
            Err(Error::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        }
        self.get(key).await
    }

    fn check_size(&self, key: &str, size: u64, most: u64) -> Result<()> {
        if size <= most {
            return Ok(());
        }
        Err(Error::Exhausted(format!(
            "{} has {size} bytes, of which at most {most} are allowed",
            self.place(key)
        )))
    }

    /// A byte range of an object, exactly as long as asked.
    ///
    /// # Errors
    /// `NotFound` when there is no such object, `Corrupt` when it ends before the range does, `Io` when the storage
    /// fails.
    pub async fn range(&self, key: &str, offset: u64, length: usize) -> Result<Bytes> {
        match &self.backend {
            Backend::Local { .. } => self.range_local(key, offset, length),
            Backend::Remote(remote) => self.range_remote(remote, key, offset, length).await,
        }
    }

    /// Byte ranges of an object, each exactly as long as asked. Of an object that is far away, those that stand near each other
    /// come together, and many at the same time.
    ///
    /// # Errors
    /// As [`Store::range`].
    pub async fn ranges(&self, key: &str, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>> {
        match &self.backend {
            Backend::Local { .. } => {
                let range = |range: Range<u64>| {
                    let length = range.end.saturating_sub(range.start);
                    let length = usize::try_from(length).unwrap_or(usize::MAX);
                    self.range_local(key, range.start, length)
                };
                ranges.into_iter().map(range).collect()
            }
            Backend::Remote(remote) => self.ranges_remote(remote, key, ranges).await,
        }
    }

    /// How many bytes can be read in the time that a request takes; nothing of a local store.
    #[must_use]
    pub fn request_cost(&self) -> u64 {
        match &self.backend {
            Backend::Local { .. } => 0,
            Backend::Remote(remote) => remote.cost(),
        }
    }

    /// What the store calls the state that the object at the location is in; everything that is read of it is of that state.
    /// `None` for local files, and where the store has no name for it.
    ///
    /// # Errors
    /// `NotFound` when there is no object, `Io` when the storage fails.
    pub async fn state(&self) -> Result<Option<Arc<str>>> {
        match &self.backend {
            Backend::Local { .. } => Ok(None),
            Backend::Remote(remote) => Ok(self.look(remote).await?.state.text().cloned()),
        }
    }

    /// Whether the location is on a web server, which has objects but no lists of them.
    #[must_use]
    pub fn is_web(&self) -> bool {
        let is_web = |scheme: &str| self.location.starts_with(scheme);
        matches!(self.backend, Backend::Remote(_)) && (is_web("http://") || is_web("https://"))
    }

    /// [`Store::range`] for synchronous callers on a blocking thread (a parser inside `spawn_blocking`).
    ///
    /// # Errors
    /// As [`Store::range`].
    pub fn range_blocking(&self, key: &str, offset: u64, length: usize) -> Result<Bytes> {
        match &self.backend {
            Backend::Local { .. } => self.range_local(key, offset, length),
            Backend::Remote(_) => {
                tokio::runtime::Handle::current().block_on(self.range(key, offset, length))
            }
        }
    }

    /// Fills `buffer` from a local object, by one `pread`.
    ///
    /// # Errors
    /// As [`Store::range`]; `Unsupported` when the store is not local.
    pub fn read_local(&self, key: &str, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let file = self.file(key)?;
        file.read_exact_at(buffer, offset).map_err(|e| {
            if e.kind() == ErrorKind::UnexpectedEof {
                self.ends_early(key, offset, buffer.len())
            } else {
                self.failed(key, e)
            }
        })
    }

    /// Checks that a local object has the range, so that a length from a damaged file never becomes an allocation.
    ///
    /// # Errors
    /// As [`Store::range`]; `Unsupported` when the store is not local.
    pub fn check_local(&self, key: &str, offset: u64, length: usize) -> Result<()> {
        // A range as small as this costs nothing to allocate, and reading it finds out.
        if length <= 1 << 20 {
            return Ok(());
        }
        self.check_range(key, self.file(key)?.as_ref(), offset, length)
    }

    /// Reads a whole local object into `buffer`, replacing what is in it; `false` when there is no such object.
    ///
    /// # Errors
    /// `Io` when the storage fails; `Unsupported` when the store is not local.
    pub fn get_local(&self, key: &str, buffer: &mut Vec<u8>) -> Result<bool> {
        use std::io::Read;
        let Backend::Local { root, aside, .. } = &self.backend else {
            return Err(self.not_local());
        };
        buffer.clear();
        match open(root, aside, key) {
            Ok(mut file) => {
                file.read_to_end(buffer).map_err(|e| self.failed(key, e))?;
                Ok(true)
            }
            Err(e) if absent(&e) => Ok(false),
            Err(e) => Err(self.failed(key, e)),
        }
    }

    /// The key of an object as it is now, and its size: what is read by this key is of this object, and a `Conflict` once
    /// another one has taken its place.
    ///
    /// # Errors
    /// `NotFound` when there is no such object, `Io` when the storage fails.
    pub async fn stamped(&self, key: &str) -> Result<(String, u64)> {
        match &self.backend {
            Backend::Local { root, files, aside } => {
                let file = open(root, aside, key).map_err(|e| self.failed(key, e))?;
                let metadata = file.metadata().map_err(|e| self.failed(key, e))?;
                let key = format!("{key}{STAMP}{}", stamp(&metadata));
                keep(files, &key, Arc::new(file));
                Ok((key, metadata.len()))
            }
            Backend::Remote(remote) => {
                let head = self.head_remote(remote, key).await?;
                let key = match head.state.text() {
                    Some(tag) => format!("{key}{STAMP}{tag}"),
                    None => key.to_owned(),
                };
                Ok((key, head.size))
            }
        }
    }

    fn file(&self, key: &str) -> Result<Arc<File>> {
        let Backend::Local { root, files, aside } = &self.backend else {
            return Err(self.not_local());
        };
        if let Some(file) = files.lock().get(key) {
            return Ok(Arc::clone(file));
        }
        let (plain, expected) = split(key);
        let file = Arc::new(open(root, aside, plain).map_err(|e| self.failed(key, e))?);
        if let Some(expected) = expected {
            let metadata = file.metadata().map_err(|e| self.failed(key, e))?;
            if expected != stamp(&metadata) {
                return Err(self.replaced(key));
            }
        }
        keep(files, key, Arc::clone(&file));
        Ok(file)
    }

    fn range_local(&self, key: &str, offset: u64, length: usize) -> Result<Bytes> {
        // A length from a damaged file must not become an allocation.
        self.check_range(key, self.file(key)?.as_ref(), offset, length)?;
        let mut bytes = vec![0; length];
        self.read_local(key, offset, &mut bytes)?;
        Ok(bytes.into())
    }

    fn check_range(&self, key: &str, file: &File, offset: u64, length: usize) -> Result<()> {
        let size = file.metadata().map_err(|e| self.failed(key, e))?.len();
        match offset.checked_add(length as u64) {
            Some(end) if end <= size => Ok(()),
            _ => Err(self.ends_early(key, offset, length)),
        }
    }

    fn place(&self, key: &str) -> String {
        join(&self.location, unstamped(key))
    }

    fn ends_early(&self, key: &str, offset: u64, length: usize) -> Error {
        Error::Corrupt(format!(
            "{} ends before byte {} that its metadata refers to: it is truncated or damaged",
            self.place(key),
            offset.saturating_add(length as u64)
        ))
    }

    fn replaced(&self, key: &str) -> Error {
        Error::Conflict(format!(
            "{} was replaced while it was read; read it again",
            self.place(key)
        ))
    }

    fn not_found(&self, key: &str) -> Error {
        Error::NotFound(format!("{} does not exist", self.place(key)))
    }

    fn not_local(&self) -> Error {
        Error::Unsupported(format!("{} is not a local path", self.location))
    }

    fn failed(&self, key: &str, error: std::io::Error) -> Error {
        if absent(&error) {
            self.not_found(key)
        } else {
            Error::io(format!("{} cannot be read", self.place(key)), error)
        }
    }
}

/// The key of an object, whatever it has to be; see [`Store::stamped`].
#[must_use]
pub fn unstamped(key: &str) -> &str {
    split(key).0
}

/// A key without its stamp, and that.
fn split(key: &str) -> (&str, Option<&str>) {
    match key.split_once(STAMP) {
        Some((key, stamp)) => (key, Some(stamp)),
        None => (key, None),
    }
}

/// What no other file is.
fn stamp(metadata: &Metadata) -> String {
    let m = metadata;
    let changed = (m.mtime(), m.mtime_nsec());
    format!("{:x}.{:x}.{changed:x?}.{:x}", m.dev(), m.ino(), m.len())
}

/// Keeps a file open for the next one who reads it.
fn keep(files: &Mutex<HashMap<String, Arc<File>>>, key: &str, file: Arc<File>) {
    let mut files = files.lock();
    if files.len() >= OPEN_FILES {
        files.clear();
    }
    files.insert(key.to_owned(), file);
}

/// Opens a file below `root`, or what is to take its place.
fn open(root: &FilePath, aside: &HashMap<String, String>, key: &str) -> std::io::Result<File> {
    match aside
        .get(key)
        .map(|aside| File::open(local_path(root, aside)))
    {
        Some(Ok(file)) => Ok(file),
        Some(Err(e)) if !absent(&e) => Err(e),
        _ => File::open(local_path(root, key)),
    }
}

fn absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn local_path(root: &FilePath, key: &str) -> PathBuf {
    if key.is_empty() {
        root.to_owned()
    } else {
        root.join(key)
    }
}

fn below(prefix: &Path, key: &str) -> Path {
    if key.is_empty() {
        prefix.clone()
    } else {
        Path::from(join(prefix.as_ref(), key))
    }
}

/// `key` below `base`, either of which may be empty.
fn join(base: &str, key: &str) -> String {
    let base = base.trim_end_matches('/');
    match (base.is_empty(), key.is_empty()) {
        (true, _) => key.to_owned(),
        (_, true) => base.to_owned(),
        (false, false) => format!("{base}/{key}"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use object_store::ObjectStoreExt;

    use super::*;

    #[tokio::test]
    async fn a_stamped_key_is_of_one_object() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().to_str().unwrap()).unwrap();
        let put = |name: &str, bytes: &str| fs::write(directory.path().join(name), bytes).unwrap();
        put("a", "old bytes");
        let (key, size) = store.stamped("a").await.unwrap();
        assert_eq!(size, 9);
        assert_eq!(unstamped(&key), "a");
        put("b", "other bytes");
        fs::rename(directory.path().join("b"), directory.path().join("a")).unwrap();
        assert_eq!(store.range(&key, 0, 3).await.unwrap(), "old");
        // Other files are read, so that this one is not open any more.
        for number in 0..=OPEN_FILES {
            let name = format!("c{number}");
            put(&name, "");
            store.size(&name).await.unwrap();
        }
        let error = store.range(&key, 0, 3).await.unwrap_err();
        assert!(matches!(error, Error::Conflict(_)), "{error}");
        let said = format!(
            "{}/a was replaced while it was read; read it again",
            directory.path().display()
        );
        assert_eq!(error.to_string(), said);
        let (key, _) = store.stamped("a").await.unwrap();
        assert_eq!(store.range(&key, 0, 5).await.unwrap(), "other");
    }

    #[tokio::test]
    async fn a_stamped_key_is_of_one_object_of_an_object_store() {
        let objects: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let store = Store::with_objects("memory", Arc::clone(&objects), Path::from("data"));
        let path = Path::from("data/a");
        let put = |bytes: &'static str| objects.put(&path, bytes.into());
        put("old bytes").await.unwrap();
        let (key, size) = store.stamped("a").await.unwrap();
        assert_eq!((unstamped(&key), size), ("a", 9));
        assert_eq!(store.range(&key, 4, 5).await.unwrap(), "bytes");
        put("other bytes").await.unwrap();
        let error = store.range(&key, 4, 5).await.unwrap_err();
        assert!(matches!(error, Error::Conflict(_)), "{error}");
        assert_eq!(store.range("a", 0, 5).await.unwrap(), "other");
    }
}
