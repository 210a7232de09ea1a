//! Bytes of remote objects that have been read before, in memory and on disk.
//!
//! ```text
//! key        object + range        one entry each: a newer one takes its place
//! validator  what the object was   an entry is used while the object is still that
//! memory     of this process       bounded; scans do not push out what is used again and again
//! disk       of all processes      one file an entry, checked when it is read; the one used longest ago goes first
//! ```

mod disk;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache as Memory;

pub use disk::{Disk, Kept, Verified};

use crate::error::{Error, Result};

/// Bytes that an entry takes besides its own.
const OVERHEAD: u64 = 128;

/// What an entry is of.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Key {
    /// The object, and who sees it.
    pub object: Arc<str>,
    /// The first byte.
    pub offset: u64,
    /// How many were asked for; [`Key::WHOLE`] for all, however many that are.
    pub length: u64,
}

impl Key {
    /// The length of a key of a whole object.
    pub const WHOLE: u64 = u64::MAX;
}

/// Bytes of an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What tells this state of the object from others.
    pub validator: Arc<str>,
    /// Bytes that the whole object has; [`Entry::UNKNOWN`] where that does not matter.
    pub size: u64,
    /// The bytes.
    pub bytes: Bytes,
}

impl Entry {
    /// The size of an object that nobody asks for.
    pub const UNKNOWN: u64 = u64::MAX;
}

/// How much is kept, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Bytes in memory; 0 for none.
    pub memory: u64,
    /// Where on disk; `None` for nowhere.
    pub directory: Option<PathBuf>,
    /// Bytes on disk.
    pub disk: u64,
}

impl Settings {
    /// What is kept in memory where nobody says how much.
    const MEMORY_MIB: u64 = 256;
    /// What is kept on disk where a directory is named and nobody says how much.
    const DISK_MIB: u64 = 4096;

    /// What the environment says: `HYPERSLAB_CACHE_DIR`, `HYPERSLAB_CACHE_MIB`, `HYPERSLAB_CACHE_MEMORY_MIB`.
    ///
    /// # Errors
    /// `Invalid` when one of them is no number.
    pub fn of_environment() -> Result<Self> {
        let mib = |name: &str, default: u64| {
            let mib = match std::env::var(name) {
                Ok(text) => text.trim().parse().map_err(|_| {
                    Error::Invalid(format!("{name} is '{text}', which is no number of MiB"))
                })?,
                Err(_) => default,
            };
            Ok::<u64, Error>(mib.saturating_mul(1 << 20))
        };
        let directory = std::env::var_os("HYPERSLAB_CACHE_DIR").filter(|text| !text.is_empty());
        Ok(Self {
            memory: mib("HYPERSLAB_CACHE_MEMORY_MIB", Self::MEMORY_MIB)?,
            directory: directory.map(PathBuf::from),
            disk: mib("HYPERSLAB_CACHE_MIB", Self::DISK_MIB)?,
        })
    }
}

/// How often something has happened.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What has happened since the process began.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) memory_hits: Count,
    pub(super) disk_hits: Count,
    pub(super) misses: Count,
    pub(super) hit_bytes: Count,
    pub(super) requests: Count,
    pub(super) retries: Count,
    pub(super) fetched_bytes: Count,
    pub(super) damaged: Count,
}

/// A number that says how the cache does, with what it is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Statistic {
    /// What is counted.
    pub name: &'static str,
    /// The number.
    pub value: u64,
    /// What it means.
    pub meaning: &'static str,
}

/// Bytes that have been read before.
#[derive(Debug)]
pub struct Cache {
    settings: Settings,
    memory: Option<Memory<Key, Entry, Weight>>,
    disk: Option<Disk>,
    pub(super) counts: Counts,
}

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<Key, Entry> for Weight {
    fn weight(&self, _: &Key, entry: &Entry) -> u64 {
        entry.bytes.len() as u64 + OVERHEAD
    }
}

static SHARED: OnceLock<Arc<Cache>> = OnceLock::new();

impl Cache {
    /// A cache.
    ///
    /// # Errors
    /// `Io` when its directory cannot be made.
    pub fn new(settings: Settings) -> Result<Self> {
        let disk = match &settings.directory {
            Some(directory) if settings.disk > 0 => Some(Disk::open(directory, settings.disk)?),
            _ => None,
        };
        // As many as would fit if they were small.
        let items = usize::try_from(settings.memory >> 14).unwrap_or(usize::MAX);
        let memory = || Memory::with_weighter(items.clamp(16, 1 << 20), settings.memory, Weight);
        Ok(Self {
            memory: (settings.memory > 0).then(memory),
            disk,
            counts: Counts::default(),
            settings,
        })
    }

    /// The cache of this process: that of [`Cache::share`], or what the environment says.
    ///
    /// # Errors
    /// As [`Settings::of_environment`] and [`Cache::new`].
    pub fn shared() -> Result<Arc<Self>> {
        if let Some(shared) = SHARED.get() {
            return Ok(Arc::clone(shared));
        }
        let own = Arc::new(Self::new(Settings::of_environment()?)?);
        Ok(Arc::clone(SHARED.get_or_init(|| own)))
    }

    /// Makes a cache that of this process.
    ///
    /// # Errors
    /// `Conflict` when there is one with other settings already; as [`Cache::new`].
    pub fn share(settings: &Settings) -> Result<()> {
        let shared = match SHARED.get() {
            Some(shared) => shared,
            None => {
                let own = Arc::new(Self::new(settings.clone())?);
                SHARED.get_or_init(|| own)
            }
        };
        match shared.settings == *settings {
            true => Ok(()),
            false => Err(Error::Conflict(
                "the cache is in use already, with other settings".to_owned(),
            )),
        }
    }

    /// The entry of a key, if it is of that state of the object, or of whichever when none is named.
    #[must_use]
    pub fn get(&self, key: &Key, validator: Option<&str>) -> Option<Entry> {
        let is_wanted =
            |entry: &Entry| validator.is_none_or(|validator| validator == &*entry.validator);
        let kept = self.memory.as_ref().and_then(|memory| memory.get(key));
        if let Some(entry) = kept.filter(is_wanted) {
            self.hit(&self.counts.memory_hits, &entry);
            return Some(entry);
        }
        let found = self.disk.as_ref().map(|disk| disk.get(key));
        match found {
            Some(Kept::Entry(entry)) if is_wanted(&entry) => {
                self.hit(&self.counts.disk_hits, &entry);
                self.keep(key, &entry);
                return Some(entry);
            }
            Some(Kept::Damaged) => self.counts.damaged.add(1),
            _ => {}
        }
        self.counts.misses.add(1);
        None
    }

    /// The same from memory only, which counts only if it is there.
    pub(super) fn peek(&self, key: &Key, validator: &str) -> Option<Entry> {
        let entry = self.memory.as_ref()?.get(key)?;
        let is_wanted = *entry.validator == *validator;
        is_wanted.then(|| {
            self.hit(&self.counts.memory_hits, &entry);
            entry
        })
    }

    /// Keeps an entry.
    pub fn put(&self, key: &Key, entry: &Entry) {
        self.keep(key, entry);
        if let Some(disk) = &self.disk {
            // What cannot be kept is fetched again.
            let _ = disk.put(key, entry);
        }
    }

    /// The cache on disk, if there is one.
    #[must_use]
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// How it does.
    #[must_use]
    pub fn statistics(&self) -> Vec<Statistic> {
        let counts = &self.counts;
        let (memory, entries) = self
            .memory
            .as_ref()
            .map_or((0, 0), |memory| (memory.weight(), memory.len() as u64));
        let of = |name, value, meaning| Statistic {
            name,
            value,
            meaning,
        };
        vec![
            of("memory_bytes", memory, "bytes held in memory"),
            of(
                "memory_entries",
                entries,
                "ranges and objects held in memory",
            ),
            of(
                "memory_limit",
                self.settings.memory,
                "bytes that may be held in memory",
            ),
            of(
                "disk_bytes",
                self.disk.as_ref().map_or(0, Disk::used),
                "bytes held on disk",
            ),
            of(
                "disk_limit",
                self.disk.as_ref().map_or(0, |_| self.settings.disk),
                "bytes that may be held on disk",
            ),
            of(
                "memory_hits",
                counts.memory_hits.get(),
                "reads answered from memory",
            ),
            of(
                "disk_hits",
                counts.disk_hits.get(),
                "reads answered from disk",
            ),
            of("misses", counts.misses.get(), "reads that were in neither"),
            of(
                "hit_bytes",
                counts.hit_bytes.get(),
                "bytes that need not travel",
            ),
            of("requests", counts.requests.get(), "requests sent to stores"),
            of(
                "retries",
                counts.retries.get(),
                "requests sent again after a failure",
            ),
            of(
                "fetched_bytes",
                counts.fetched_bytes.get(),
                "bytes that stores have sent",
            ),
            of(
                "damaged",
                counts.damaged.get(),
                "entries on disk that were damaged, and fetched again",
            ),
        ]
    }

    fn hit(&self, count: &Count, entry: &Entry) {
        count.add(1);
        self.counts.hit_bytes.add(entry.bytes.len() as u64);
    }

    fn keep(&self, key: &Key, entry: &Entry) {
        if let Some(memory) = &self.memory {
            memory.insert(key.clone(), entry.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn key(number: u64) -> Key {
        Key {
            object: "s3://bucket/key".into(),
            offset: number << 20,
            length: 1 << 10,
        }
    }

    fn entry(validator: &str, byte: u8) -> Entry {
        Entry {
            validator: validator.into(),
            size: 1 << 40,
            bytes: vec![byte; 1 << 10].into(),
        }
    }

    fn statistic(cache: &Cache, name: &str) -> u64 {
        let all = cache.statistics();
        all.iter().find(|one| one.name == name).unwrap().value
    }

    #[test]
    fn an_entry_is_of_one_state_of_its_object() {
        let cache = Cache::new(Settings {
            memory: 1 << 20,
            directory: None,
            disk: 0,
        })
        .unwrap();
        cache.put(&key(1), &entry("a", 1));
        assert_eq!(cache.get(&key(1), Some("a")), Some(entry("a", 1)));
        assert_eq!(cache.get(&key(1), None), Some(entry("a", 1)));
        assert_eq!(cache.get(&key(1), Some("b")), None);
        assert_eq!(cache.get(&key(2), None), None);
        cache.put(&key(1), &entry("b", 2));
        assert_eq!(cache.get(&key(1), Some("a")), None);
        assert_eq!(cache.get(&key(1), Some("b")), Some(entry("b", 2)));
        assert_eq!(
            (
                statistic(&cache, "memory_hits"),
                statistic(&cache, "misses")
            ),
            (3, 3)
        );
    }

    #[test]
    fn memory_is_bounded_and_what_leaves_it_is_on_disk() {
        let place = tempfile::tempdir().unwrap();
        let cache = Cache::new(Settings {
            memory: 20 << 10,
            directory: Some(place.path().to_owned()),
            disk: 1 << 20,
        })
        .unwrap();
        for number in 0..100 {
            cache.put(&key(number), &entry("a", u8::try_from(number).unwrap()));
            assert!(statistic(&cache, "memory_bytes") <= 20 << 10);
        }
        for number in 0..100 {
            let wanted = entry("a", u8::try_from(number).unwrap());
            assert_eq!(cache.get(&key(number), Some("a")), Some(wanted));
        }
        assert!(statistic(&cache, "disk_hits") >= 80);
        assert_eq!(statistic(&cache, "misses"), 0);
    }
}
