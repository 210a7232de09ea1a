//! Entries as files of one directory, which several processes may use at the same time.
//!
//! ```text
//! DIR/lock      who holds it may change what is counted; holds the number of bytes in use
//! DIR/ab/…      an entry by the hash of its key: head, object, validator, bytes, CRC-32C of all of it
//! DIR/new-…     one that is being written
//! ```
//!
//! A file is whole or not there; after a loss of power it may be damaged, which its checksum tells.

use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::super::private::write_id;
use super::{Entry, Key};
use crate::error::{Error, Result};

/// The first bytes of an entry; another format has others.
const MAGIC: &[u8; 8] = b"hslab\x01\r\n";
/// Bytes before the names: magic, offset, length, size of the object, and how long the two names are.
const HEAD: usize = 8 + 8 + 8 + 8 + 4 + 4;
/// Bytes of the checksum.
const SUM: usize = 4;
/// Files take whole blocks.
const BLOCK: u64 = 4096;
/// How many parts of the bound may be one entry.
const PARTS: u64 = 4;
/// What is left after room has been made, of 10 parts.
const LEFT: u64 = 9;
/// How long a use is remembered as the last one.
const RECENT: Duration = Duration::from_secs(60);
/// When somebody who writes an entry is given up.
const ABANDONED: Duration = Duration::from_secs(600);

/// The entries on disk.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
    most: u64,
}

/// What is found on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// An entry.
    Entry(Entry),
    /// One that is not what was written, and has been removed.
    Damaged,
}

/// What became of checking all entries.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Verified {
    /// Entries that are what was written.
    pub whole: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Those that were not, and have been removed.
    pub damaged: u64,
}

/// A file in the directory.
struct Found {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
    is_entry: bool,
}

impl Disk {
    /// Opens the cache in a directory, which is made if it is not there.
    ///
    /// # Errors
    /// `Io` when it cannot be made.
    pub fn open(directory: &Path, most: u64) -> Result<Self> {
        // What is in it is nobody else's business.
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(|e| Error::io(format!("{} cannot be made", directory.display()), e))?;
        Ok(Self {
            directory: directory.to_owned(),
            most,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Bytes in use, as far as it is known.
    #[must_use]
    pub fn used(&self) -> u64 {
        File::open(self.directory.join("lock"))
            .ok()
            .and_then(|lock| counted(&lock))
            .unwrap_or(0)
    }

    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: &Key) -> Kept {
        let path = self.path(key);
        let Ok(file) = File::open(&path) else {
            return Kept::Nothing;
        };
        let Ok(bytes) = read(&file) else {
            return Kept::Nothing;
        };
        match parse(&bytes) {
            Some((found, entry)) if found == *key => {
                let used = file.metadata().and_then(|found| found.modified());
                if used.is_ok_and(|used| used.elapsed().is_ok_and(|since| since > RECENT)) {
                    let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
                }
                Kept::Entry(entry)
            }
            // Another key of the same hash.
            Some(_) => Kept::Nothing,
            None => {
                let _ = self.remove(&path);
                Kept::Damaged
            }
        }
    }

    /// Writes an entry, for which older ones make room.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn put(&self, key: &Key, entry: &Entry) -> io::Result<()> {
        let bytes = rendered(key, entry);
        let size = on_disk(bytes.len() as u64);
        if size > self.most / PARTS {
            return Ok(());
        }
        let path = self.path(key);
        self.make_room(&path, size)?;
        let new = self.directory.join(format!("new-{}", write_id()));
        let write = || {
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(&bytes)?;
            if let Some(parent) = path.parent() {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(parent)?;
            }
            fs::rename(&new, &path)
        };
        write().inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })
    }

    /// All entries: what each is of, its bytes, and when it was used last.
    ///
    /// # Errors
    /// `Io` when the directory cannot be read.
    pub fn list(&self) -> Result<Vec<(Key, u64, SystemTime)>> {
        let found = self.files().map_err(|e| self.failed(e))?;
        let entries = found.into_iter().filter(|file| file.is_entry);
        Ok(entries
            .filter_map(|file| {
                let bytes = fs::read(&file.path).ok()?.into();
                let (key, _) = parse(&bytes)?;
                Some((key, file.bytes, file.used))
            })
            .collect())
    }

    /// Checks all entries, and removes those that are damaged.
    ///
    /// # Errors
    /// `Io` when the directory cannot be read.
    pub fn verify(&self) -> Result<Verified> {
        let mut verified = Verified::default();
        for file in self.files().map_err(|e| self.failed(e))? {
            // One that is gone by now has made room.
            let Ok(bytes) = fs::read(&file.path) else {
                continue;
            };
            if !file.is_entry {
                continue;
            }
            match parse(&bytes.into()) {
                Some(_) => {
                    verified.whole += 1;
                    verified.bytes += file.bytes;
                }
                None => {
                    verified.damaged += 1;
                    self.remove(&file.path).map_err(|e| self.failed(e))?;
                }
            }
        }
        Ok(verified)
    }

    /// Removes all entries; says how many bytes they had.
    ///
    /// # Errors
    /// `Io` when one cannot be removed.
    pub fn clear(&self) -> Result<u64> {
        let clear = || {
            let lock = self.lock()?;
            let mut bytes = 0;
            for file in self.files()? {
                bytes += file.bytes;
                gone(fs::remove_file(&file.path))?;
            }
            count(&lock, 0)?;
            Ok(bytes)
        };
        clear().map_err(|e| self.failed(e))
    }

    fn path(&self, key: &Key) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let name = format!("{:016x}", hasher.finish());
        let (folder, name) = name.split_at(2);
        self.directory.join(folder).join(name)
    }

    /// Counts bytes that will be written to a path; if they are too many, removes those that were used longest ago.
    fn make_room(&self, path: &Path, size: u64) -> io::Result<()> {
        let lock = self.lock()?;
        let mut used = match counted(&lock) {
            Some(used) => used,
            None => self.files()?.iter().map(|file| file.bytes).sum(),
        };
        if let Ok(old) = fs::metadata(path) {
            gone(fs::remove_file(path))?;
            used = used.saturating_sub(on_disk(old.len()));
        }
        if used.saturating_add(size) > self.most {
            let mut files = self.files()?;
            files.sort_by_key(|file| file.used);
            used = files.iter().map(|file| file.bytes).sum();
            let wanted = (self.most / 10 * LEFT).saturating_sub(size);
            for file in files {
                let is_old = file.used.elapsed().is_ok_and(|since| since > ABANDONED);
                if used <= wanted {
                    break;
                }
                if file.is_entry || is_old {
                    gone(fs::remove_file(&file.path))?;
                    used = used.saturating_sub(file.bytes);
                }
            }
        }
        count(&lock, used.saturating_add(size))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let lock = self.lock()?;
        let size = fs::metadata(path).map_or(0, |found| on_disk(found.len()));
        gone(fs::remove_file(path))?;
        match counted(&lock) {
            Some(used) => count(&lock, used.saturating_sub(size)),
            None => Ok(()),
        }
    }

    /// The right to change what is counted; it ends with the file.
    fn lock(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let lock = options.mode(0o600).open(self.directory.join("lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    fn files(&self) -> io::Result<Vec<Found>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                for entry in fs::read_dir(entry.path())? {
                    files.extend(found(entry?.path(), true));
                }
            } else if entry.file_name() != "lock" {
                files.extend(found(entry.path(), false));
            }
        }
        Ok(files)
    }

    fn failed(&self, error: io::Error) -> Error {
        let place = self.directory.display();
        Error::io(format!("the cache {place} cannot be used"), error)
    }
}

/// What is at a path; nothing when it is gone.
fn found(path: PathBuf, is_entry: bool) -> Option<Found> {
    let metadata = fs::metadata(&path).ok()?;
    Some(Found {
        bytes: on_disk(metadata.size()),
        used: metadata.modified().ok()?,
        path,
        is_entry,
    })
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn on_disk(length: u64) -> u64 {
    length.div_ceil(BLOCK).saturating_mul(BLOCK)
}

fn counted(lock: &File) -> Option<u64> {
    let mut bytes = [0; 8];
    lock.read_exact_at(&mut bytes, 0).ok()?;
    Some(u64::from_le_bytes(bytes))
}

fn count(lock: &File, used: u64) -> io::Result<()> {
    lock.write_all_at(&used.to_le_bytes(), 0)
}

fn read(mut file: &File) -> io::Result<Bytes> {
    use std::io::Read;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

fn rendered(key: &Key, entry: &Entry) -> Vec<u8> {
    let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
    let all = [
        MAGIC.as_slice(),
        &key.offset.to_le_bytes(),
        &key.length.to_le_bytes(),
        &entry.size.to_le_bytes(),
        &length(&key.object),
        &length(&entry.validator),
        key.object.as_bytes(),
        entry.validator.as_bytes(),
        &entry.bytes,
    ];
    let mut bytes = all.concat();
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// A key and its entry; `None` when they are not what was written.
fn parse(file: &Bytes) -> Option<(Key, Entry)> {
    let (body, sum) = file.split_at_checked(file.len().checked_sub(SUM)?)?;
    if crc32c::crc32c(body).to_le_bytes() != sum || !body.starts_with(MAGIC) {
        return None;
    }
    let wide = |at: usize| Some(u64::from_le_bytes(*body.get(at..)?.first_chunk()?));
    let short = |at: usize| {
        let length = u32::from_le_bytes(*body.get(at..)?.first_chunk()?);
        usize::try_from(length).ok()
    };
    let (object, validator) = (short(32)?, short(36)?);
    let text = |start: usize, length: usize| {
        let bytes = body.get(start..start.checked_add(length)?)?;
        Some(Arc::from(std::str::from_utf8(bytes).ok()?))
    };
    let key = Key {
        object: text(HEAD, object)?,
        offset: wide(8)?,
        length: wide(16)?,
    };
    let validator_at = HEAD.checked_add(object)?;
    let start = validator_at.checked_add(validator)?;
    let entry = Entry {
        validator: text(validator_at, validator)?,
        size: wide(24)?,
        bytes: (start <= body.len()).then(|| file.slice(start..body.len()))?,
    };
    Some((key, entry))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn key(number: u64) -> Key {
        Key {
            object: "s3://bucket/key".into(),
            offset: number,
            length: 10,
        }
    }

    fn entry(number: u64, length: usize) -> Entry {
        Entry {
            validator: format!("\"{number}\"").into(),
            size: 1 << 40,
            bytes: (0..length)
                .map(|at| u8::try_from((at as u64 + number) % 251).unwrap())
                .collect::<Vec<u8>>()
                .into(),
        }
    }

    /// Bytes of all files, as the file system has them.
    fn size(disk: &Disk) -> u64 {
        disk.files().unwrap().iter().map(|file| file.bytes).sum()
    }

    #[test]
    fn entries_are_there_until_others_need_the_room() {
        let place = tempfile::tempdir().unwrap();
        let disk = Disk::open(&place.path().join("a/b"), 200 << 10).unwrap();
        assert_eq!(disk.get(&key(1)), Kept::Nothing);
        for number in 0..100 {
            disk.put(&key(number), &entry(number, 7000)).unwrap();
            assert!(size(&disk) <= 200 << 10);
            assert_eq!(disk.used(), size(&disk));
            assert_eq!(disk.get(&key(number)), Kept::Entry(entry(number, 7000)));
        }
        assert_eq!(disk.get(&key(1)), Kept::Nothing);
        assert!(disk.list().unwrap().len() > 15);
        // A new entry of a key takes the place of the old one.
        let before = size(&disk);
        disk.put(&key(99), &entry(5, 7000)).unwrap();
        assert_eq!(
            (disk.get(&key(99)), size(&disk)),
            (Kept::Entry(entry(5, 7000)), before)
        );
        // What is too large is not kept.
        disk.put(&key(200), &entry(200, 100 << 10)).unwrap();
        assert_eq!(disk.get(&key(200)), Kept::Nothing);
        assert_eq!(disk.clear().unwrap(), before);
        assert_eq!((size(&disk), disk.used()), (0, 0));
    }

    #[test]
    fn the_one_used_longest_ago_goes_first() {
        let place = tempfile::tempdir().unwrap();
        let disk = Disk::open(place.path(), 80 << 10).unwrap();
        for number in 0..10 {
            disk.put(&key(number), &entry(number, 4000)).unwrap();
            let old = SystemTime::now() - Duration::from_secs(1000 - number);
            let file = File::open(disk.path(&key(number))).unwrap();
            file.set_times(FileTimes::new().set_modified(old)).unwrap();
        }
        // The oldest is used again.
        assert_eq!(disk.get(&key(0)), Kept::Entry(entry(0, 4000)));
        for number in 10..17 {
            disk.put(&key(number), &entry(number, 8000)).unwrap();
        }
        assert_eq!(disk.get(&key(0)), Kept::Entry(entry(0, 4000)));
        assert_eq!(disk.get(&key(1)), Kept::Nothing);
    }

    #[test]
    fn damage_is_found_wherever_it_is() {
        let place = tempfile::tempdir().unwrap();
        let disk = Disk::open(place.path(), 1 << 20).unwrap();
        let path = disk.path(&key(1));
        disk.put(&key(1), &entry(1, 50)).unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 0x10;
            }
            fs::write(&path, bytes).unwrap();
            assert_eq!(disk.get(&key(1)), Kept::Damaged, "byte {at}");
            assert!(!path.exists());
            fs::write(&path, whole.get(..at).unwrap()).unwrap();
            assert_eq!(disk.get(&key(1)), Kept::Damaged, "{at} bytes");
        }
        disk.put(&key(1), &entry(1, 50)).unwrap();
        disk.put(&key(2), &entry(2, 50)).unwrap();
        fs::write(&path, b"something else").unwrap();
        let verified = disk.verify().unwrap();
        assert_eq!((verified.whole, verified.damaged), (1, 1));
        assert_eq!(disk.used(), size(&disk));
    }

    #[test]
    fn several_may_write_at_the_same_time() {
        let place = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..8u64 {
                let place = place.path();
                scope.spawn(move || {
                    let disk = Disk::open(place, 256 << 10).unwrap();
                    for number in 0..100 {
                        let number = (number * 7 + writer) % 60;
                        disk.put(&key(number), &entry(number, 9000)).unwrap();
                        assert!(disk.used() <= 256 << 10);
                        let found = disk.get(&key(number));
                        let expected = Kept::Entry(entry(number, 9000));
                        assert!(found == expected || found == Kept::Nothing);
                    }
                });
            }
        });
        let disk = Disk::open(place.path(), 256 << 10).unwrap();
        assert!(size(&disk) <= 256 << 10, "{}", size(&disk));
        assert_eq!(disk.verify().unwrap().damaged, 0);
    }
}
