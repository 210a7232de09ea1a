//! What clients come back for: statements that were prepared, and plans whose rows were not fetched yet.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tonic::Status;

use super::access::random;

/// Values by random handles, each of somebody, who alone can use it.
#[derive(Debug)]
pub(super) struct Handles<T> {
    kept: Mutex<All<T>>,
    /// Most of each user; the oldest are forgotten.
    most: usize,
    lasts: Duration,
}

type All<T> = HashMap<String, Kept<T>>;

#[derive(Debug)]
struct Kept<T> {
    owner: String,
    value: Arc<T>,
    used: Instant,
}

impl<T> Handles<T> {
    pub(super) fn new(most: usize, lasts: Duration) -> Self {
        Self {
            kept: Mutex::default(),
            most,
            lasts,
        }
    }

    /// Keeps a value of `owner`; returns its handle.
    pub(super) fn keep(&self, owner: &str, value: T) -> Result<String, Status> {
        let handle = random()?;
        self.insert(
            &mut self.kept.lock(),
            owner,
            handle.clone(),
            Arc::new(value),
        );
        Ok(handle)
    }

    /// The value of `owner` that goes by a key which is no secret; it is made if it is not there.
    pub(super) fn get_or(
        &self,
        owner: &str,
        key: &str,
        make: impl FnOnce() -> Result<T, Status>,
    ) -> Result<Arc<T>, Status> {
        let mut kept = self.kept.lock();
        if let Some(known) = self.known(&mut kept, owner, key) {
            return Ok(known);
        }
        let value = Arc::new(make()?);
        self.insert(&mut kept, owner, key.to_owned(), Arc::clone(&value));
        Ok(value)
    }

    fn insert(&self, kept: &mut All<T>, owner: &str, key: String, value: Arc<T>) {
        let now = Instant::now();
        kept.retain(|_, other| now.duration_since(other.used) < self.lasts);
        let own = kept.values().filter(|other| other.owner == owner).count();
        if own >= self.most {
            let own = kept.iter().filter(|(_, other)| other.owner == owner);
            let oldest = own
                .min_by_key(|(_, other)| other.used)
                .map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                kept.remove(&oldest);
            }
        }
        kept.insert(
            key,
            Kept {
                owner: owner.to_owned(),
                value,
                used: now,
            },
        );
    }

    fn known(&self, kept: &mut All<T>, owner: &str, key: &str) -> Option<Arc<T>> {
        let known = kept.get_mut(key)?;
        if known.owner != owner || known.used.elapsed() >= self.lasts {
            return None;
        }
        known.used = Instant::now();
        Some(Arc::clone(&known.value))
    }

    /// The value of a handle of `owner`.
    pub(super) fn get(&self, owner: &str, handle: &[u8]) -> Result<Arc<T>, Status> {
        let handle = std::str::from_utf8(handle).map_err(|_| unknown())?;
        // Whose it is, if it is somebody else's, is nobody's business.
        self.known(&mut self.kept.lock(), owner, handle)
            .ok_or_else(unknown)
    }

    /// The value of a handle of `owner`, which is forgotten.
    pub(super) fn take(&self, owner: &str, handle: &[u8]) -> Result<Arc<T>, Status> {
        let value = self.get(owner, handle)?;
        if let Ok(handle) = std::str::from_utf8(handle) {
            self.kept.lock().remove(handle);
        }
        Ok(value)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.kept.lock().len()
    }
}

fn unknown() -> Status {
    Status::not_found("there is no such handle: it was closed, fetched already, or has expired")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn handles_belong_to_somebody_and_are_bounded() {
        let handles = Handles::new(3, Duration::from_secs(60));
        let first = handles.keep("ann", 0).unwrap();
        assert!(handles.get("bob", first.as_bytes()).is_err());
        assert_eq!(*handles.get("ann", first.as_bytes()).unwrap(), 0);
        for number in 1..100 {
            handles.keep("ann", number).unwrap();
        }
        assert_eq!(handles.len(), 3);
        assert!(handles.get("ann", first.as_bytes()).is_err());
        let last = handles.keep("bob", 7).unwrap();
        assert_eq!(*handles.take("bob", last.as_bytes()).unwrap(), 7);
        assert!(handles.take("bob", last.as_bytes()).is_err());
        assert!(handles.get("ann", b"\xff").is_err());
    }

    #[test]
    fn handles_expire() {
        let handles = Handles::new(3, Duration::ZERO);
        let handle = handles.keep("ann", 0).unwrap();
        assert!(handles.get("ann", handle.as_bytes()).is_err());
    }
}
