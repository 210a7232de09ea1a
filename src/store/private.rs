//! Names that no dataset uses: what is kept beside its objects, and what they are called until they are in their places.

use std::sync::atomic::{AtomicU64, Ordering};

/// Directory below a location for what is not part of the dataset there: staged objects, locks, logs.
pub const PRIVATE: &str = ".hyperslab";

/// A key for an object that is put aside until it is moved to its place.
#[must_use]
pub fn aside() -> String {
    format!("{PRIVATE}/aside/{}", write_id())
}

/// Whether a key is that of an object which is no part of the dataset.
#[must_use]
pub fn is_private(key: &str) -> bool {
    key.split('/').next() == Some(PRIVATE)
}

/// A name that no other writer gives.
#[must_use]
pub fn write_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos());
    // A hasher of the standard library is seeded by the operating system's random numbers.
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), (now, count));
    format!("{now:x}-{:x}-{count:x}-{random:016x}", std::process::id())
}
