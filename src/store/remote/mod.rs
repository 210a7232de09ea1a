//! Objects of other machines: requests, what is known of the objects, and what has been read of them before.
//!
//! ```text
//! open     URL -> store           connections are shared by all who come back
//! look     the object at the location: its first bytes, its size and its state, by one request
//! pinned   what is read later is of that state, or a `Conflict`
//! range    from the cache if it is there; one request if not
//! ranges   those that stand near each other by one request, many requests at the same time
//! ```

mod open;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use super::cache::{Cache, Counts, Entry, Key};
use super::fetch::{self, Speed};
use super::{Store, below, split};
use crate::error::{Error, Result};

#[cfg(feature = "server")]
pub(crate) use open::Connector;
pub(super) use open::{SCHEMES, open};

/// Requests to one store that are under way at the same time.
const REQUESTS: usize = 64;

/// Bytes that are read when an object is looked at for the first time, and by which small reads are rounded out: most headers
/// are in them.
pub(super) const BLOCK: u64 = 1 << 20;

/// No store has objects of more bytes.
const LARGEST: u64 = 1 << 46;

/// How often an answer that breaks off is asked for, besides what the client of the store does itself.
const TRIES: u32 = 2;

/// The pause before that, doubled each time.
const PAUSE: Duration = Duration::from_millis(100);

/// A store that is reached over the network, with all that those who read from it share.
pub(super) struct Link {
    objects: Arc<dyn ObjectStore>,
    requests: Semaphore,
    speed: Mutex<Speed>,
    /// What tells its objects from those of other stores; `None` when nothing of it is kept.
    name: Option<String>,
}

impl std::fmt::Debug for Link {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Link").field(&self.name).finish()
    }
}

/// A place in a store that is not of this machine.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    link: Arc<Link>,
    pub(super) prefix: Path,
    /// What is known of the object at the location itself.
    head: Arc<OnceCell<Head>>,
}

/// What is known of an object.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) size: u64,
    pub(super) state: State,
}

/// What an object is at a time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// By what the store calls it.
    Tag(Arc<str>),
    /// By when it was changed last, and its size: enough to notice that it is replaced while it is read, and not to know it again
    /// later.
    Dated(u64, chrono::DateTime<chrono::Utc>),
    /// The store says nothing of it.
    Unknown,
}

impl State {
    fn of(meta: &ObjectMeta) -> Self {
        // A weak tag stands for bytes that are alike.
        match &meta.e_tag {
            Some(tag) if !tag.starts_with("W/") => Self::Tag(tag.as_str().into()),
            // Which stands for nothing known.
            _ if meta.last_modified.timestamp() == 0 => Self::Unknown,
            _ => Self::Dated(meta.size, meta.last_modified),
        }
    }

    /// What the store calls it, by which it is known in the cache and in stamped keys.
    pub(super) fn text(&self) -> Option<&Arc<str>> {
        match self {
            Self::Tag(text) => Some(text),
            Self::Dated(..) | Self::Unknown => None,
        }
    }
}

impl Link {
    pub(super) fn new(objects: Arc<dyn ObjectStore>, name: Option<String>) -> Self {
        Self {
            objects,
            requests: Semaphore::new(REQUESTS),
            speed: Mutex::default(),
            name,
        }
    }
}

impl Remote {
    pub(super) fn new(link: Arc<Link>, prefix: Path) -> Self {
        Self {
            link,
            prefix,
            head: Arc::default(),
        }
    }

    /// The same place as it is now.
    pub(super) fn afresh(&self) -> Self {
        Self::new(Arc::clone(&self.link), self.prefix.clone())
    }

    /// Another place in the same store.
    pub(super) fn at(&self, prefix: Path) -> Self {
        Self::new(Arc::clone(&self.link), prefix)
    }

    pub(super) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.link.objects
    }

    fn path(&self, key: &str) -> Path {
        below(&self.prefix, key)
    }

    /// How many bytes can be read in the time that a request takes.
    pub(super) fn cost(&self) -> u64 {
        self.link.speed.lock().cost()
    }

    fn cache(&self) -> Result<Option<(Arc<Cache>, &str)>> {
        match &self.link.name {
            Some(name) => Ok(Some((Cache::shared()?, name))),
            None => Ok(None),
        }
    }
}

/// The key in the cache of bytes of an object.
fn cache_key(name: &str, path: &Path, offset: u64, length: u64) -> Key {
    Key {
        object: format!("{name}{path}").into(),
        offset,
        length,
    }
}

/// All of these are boxed: what they hold meanwhile is nothing that those who wait for them have to know.
impl Store {
    /// Looks at the object at the location, of whose state everything is that is read from then on.
    pub(super) fn look<'a>(&'a self, remote: &'a Remote) -> BoxFuture<'a, Result<Head>> {
        Box::pin(async move {
            let look = || async {
                let first = self.conditional(remote, "", Some(0..BLOCK), &State::Unknown, BLOCK);
                match first.await {
                    Ok((_, head)) => Ok(head),
                    // Of an object without bytes there is no range, and some servers have none at all.
                    Err(Error::NotFound(text)) => Err(Error::NotFound(text)),
                    Err(error) => match remote.objects().head(&remote.path("")).await {
                        Ok(meta) if meta.size == 0 => Ok(Head {
                            size: 0,
                            state: State::of(&meta),
                        }),
                        Ok(_) => Err(error),
                        Err(object_store::Error::NotFound { .. }) => Err(self.not_found("")),
                        Err(_) => Err(error),
                    },
                }
            };
            remote.head.get_or_try_init(look).await.cloned()
        })
    }

    /// What an object is now.
    pub(super) fn head_remote<'a>(
        &'a self,
        remote: &'a Remote,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Head>> {
        Box::pin(async move {
            if key.is_empty() {
                return self.look(remote).await;
            }
            let meta = remote.objects().head(&remote.path(key)).await;
            let meta = meta.map_err(|e| self.remote_failed(key, &e))?;
            Ok(Head {
                size: meta.size,
                state: State::of(&meta),
            })
        })
    }

    /// A whole object of at most `most` bytes; `None` when there is none.
    pub(super) fn get_remote<'a>(
        &'a self,
        remote: &'a Remote,
        key: &'a str,
        most: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            let got = self.conditional(remote, key, None, &State::Unknown, most);
            match got.await {
                Ok((bytes, _)) => Ok(Some(bytes)),
                Err(Error::NotFound(_)) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    /// Bytes of an object, as many as asked for.
    pub(super) fn range_remote<'a>(
        &'a self,
        remote: &'a Remote,
        key: &'a str,
        offset: u64,
        length: usize,
    ) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(async move {
            let range = offset..offset.saturating_add(length as u64);
            let bytes = self.ranges_remote(remote, key, vec![range]).await?.pop();
            bytes.ok_or_else(|| self.ends_early(key, offset, length))
        })
    }

    /// Ranges of one object, each as long as asked for.
    pub(super) fn ranges_remote<'a>(
        &'a self,
        remote: &'a Remote,
        key: &'a str,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'a, Result<Vec<Bytes>>> {
        Box::pin(async move {
            let (plain, stamp) = split(key);
            let head = match stamp {
                Some(stamp) => Head {
                    size: LARGEST,
                    state: State::Tag(stamp.into()),
                },
                None if plain.is_empty() => self.look(remote).await?,
                None => Head {
                    size: LARGEST,
                    state: State::Unknown,
                },
            };
            // A length from a damaged file must not become an allocation.
            if let Some(beyond) = ranges.iter().find(|range| range.end > head.size) {
                let length = beyond.end.saturating_sub(beyond.start);
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                return Err(self.ends_early(plain, beyond.start, length));
            }
            let state = head.state;
            let path = remote.path(plain);
            let mut found: Vec<Option<Bytes>> = vec![None; ranges.len()];
            let cache = remote.cache()?.zip(state.text());
            if let Some(((cache, name), state)) = &cache {
                for (range, found) in ranges.iter().zip(&mut found) {
                    *found = cached(cache, name, &path, state, range);
                }
            }
            let left: Vec<usize> = (0..ranges.len())
                .filter(|at| found.get(*at).is_some_and(Option::is_none))
                .collect();
            let range = |at: usize| ranges.get(at).cloned().unwrap_or_default();
            let wanted: Vec<Range<u64>> = left.iter().map(|at| range(*at)).collect();
            let mut fetched: FuturesUnordered<_> = fetch::requests(&wanted, remote.cost())
                .into_iter()
                .map(|request| {
                    let state = &state;
                    async move {
                        let parts =
                            fetch::parts(&request.range)
                                .into_iter()
                                .map(|part| async move {
                                    let length = part.end.saturating_sub(part.start);
                                    let (bytes, _) = self
                                        .conditional(
                                            remote,
                                            plain,
                                            Some(part.clone()),
                                            state,
                                            length,
                                        )
                                        .await?;
                                    if bytes.len() as u64 == length {
                                        return Ok(bytes);
                                    }
                                    let length = usize::try_from(length).unwrap_or(usize::MAX);
                                    Err(self.ends_early(plain, part.start, length))
                                });
                        let parts: Vec<Bytes> = futures::future::try_join_all(parts).await?;
                        let bytes = match <[Bytes; 1]>::try_from(parts) {
                            Ok([bytes]) => bytes,
                            Err(parts) => parts.concat().into(),
                        };
                        Ok::<_, Error>((request, bytes))
                    }
                })
                .collect();
            while let Some((request, bytes)) = fetched.try_next().await? {
                let is_shared = request.members.len() > 1;
                for member in request.members {
                    let Some(at) = left.get(member).copied() else {
                        continue;
                    };
                    let own = range(at);
                    let place = |end: u64| usize::try_from(end - request.range.start).unwrap_or(0);
                    let mut own_bytes = bytes.slice(place(own.start)..place(own.end));
                    if let (true, Some(((cache, name), validator))) = (is_shared, &cache) {
                        // What is kept does not hold on to its neighbours.
                        own_bytes = Bytes::copy_from_slice(&own_bytes);
                        let key = cache_key(name, &path, own.start, own.end - own.start);
                        let entry = Entry {
                            validator: Arc::clone(validator),
                            size: Entry::UNKNOWN,
                            bytes: own_bytes.clone(),
                        };
                        cache.put(&key, &entry);
                    }
                    if let Some(slot) = found.get_mut(at) {
                        *slot = Some(own_bytes);
                    }
                }
            }
            Ok(found.into_iter().map(Option::unwrap_or_default).collect())
        })
    }

    /// At most `most` bytes of an object in a state, all of it without a range. Of an object in whichever state, what is in the cache is used if
    /// the store says that it has not changed.
    async fn conditional(
        &self,
        remote: &Remote,
        key: &str,
        range: Option<Range<u64>>,
        wanted: &State,
        most: u64,
    ) -> Result<(Bytes, Head)> {
        let path = remote.path(key);
        let cache = remote.cache()?.map(|(cache, name)| {
            let (offset, length) = match &range {
                Some(range) => (range.start, range.end.saturating_sub(range.start)),
                None => (0, Key::WHOLE),
            };
            (cache, cache_key(name, &path, offset, length))
        });
        // Of a state that is wanted, it has been looked for already.
        let kept = match (&cache, wanted) {
            (Some((cache, key)), State::Unknown) => cache.get(key, None),
            _ => None,
        };
        let options = GetOptions {
            range: range.map(Into::into),
            if_match: match wanted {
                State::Tag(tag) => Some(tag.to_string()),
                State::Dated(..) | State::Unknown => None,
            },
            if_unmodified_since: match wanted {
                State::Dated(_, date) => Some(*date),
                State::Tag(_) | State::Unknown => None,
            },
            if_none_match: kept.as_ref().map(|entry| entry.validator.to_string()),
            ..GetOptions::default()
        };
        let mut tries = 0;
        let (bytes, meta) = loop {
            let request = remote.link.request(&path, options.clone(), most);
            match (request.await, &kept) {
                (Ok(answer), _) => break answer,
                (Err(Failure::Store(object_store::Error::NotModified { .. })), Some(entry)) => {
                    let head = Head {
                        size: entry.size,
                        state: State::Tag(Arc::clone(&entry.validator)),
                    };
                    return Ok((entry.bytes.clone(), head));
                }
                (Err(Failure::Broken(_)), _) if tries + 1 < TRIES => {
                    tries += 1;
                    counts(&cache, |counts| counts.retries.add(1));
                    tokio::time::sleep(pause(tries)).await;
                }
                (Err(Failure::Long(size)), _) => {
                    self.check_size(key, size, most)?;
                }
                (Err(Failure::Store(error) | Failure::Broken(error)), _) => {
                    return Err(self.remote_failed(key, &error));
                }
            }
        };
        counts(&cache, |counts| {
            counts.requests.add(1);
            counts.fetched_bytes.add(bytes.len() as u64);
        });
        let head = Head {
            size: meta.size,
            state: State::of(&meta),
        };
        if *wanted != State::Unknown && head.state != *wanted {
            return Err(self.replaced(key));
        }
        if let (Some((cache, key)), State::Tag(tag)) = (&cache, &head.state) {
            let entry = Entry {
                validator: Arc::clone(tag),
                size: head.size,
                bytes: bytes.clone(),
            };
            cache.put(key, &entry);
        }
        Ok((bytes, head))
    }
}

/// Why there is no answer.
enum Failure {
    /// The store says so.
    Store(object_store::Error),
    /// It has begun to answer, and not ended.
    Broken(object_store::Error),
    /// There are more bytes than are wanted.
    Long(u64),
}

impl Link {
    /// One request, while not too many others are under way.
    async fn request(
        &self,
        path: &Path,
        options: GetOptions,
        most: u64,
    ) -> Result<(Bytes, ObjectMeta), Failure> {
        let failed = |error: tokio::sync::AcquireError| generic(error.to_string());
        let _permit = self.requests.acquire().await;
        let _permit = _permit.map_err(|error| Failure::Store(failed(error)))?;
        let began = Instant::now();
        let got = self.objects.get_opts(path, options).await;
        let got = got.map_err(Failure::Store)?;
        let (range, meta) = (got.range.clone(), got.meta.clone());
        let promised = range.end.saturating_sub(range.start);
        if promised > most {
            return Err(Failure::Long(promised));
        }
        let first = began.elapsed();
        let bytes = got.bytes().await.map_err(Failure::Broken)?;
        let last = began.elapsed();
        if bytes.len() as u64 != promised {
            let text = format!("{} of {promised} bytes have come", bytes.len());
            return Err(Failure::Broken(generic(text)));
        }
        let (first, last) = (first.as_secs_f64(), last.as_secs_f64());
        self.speed.lock().observe(first, last, bytes.len());
        Ok((bytes, meta))
    }
}

fn generic(text: String) -> object_store::Error {
    object_store::Error::Generic {
        store: "remote",
        source: text.into(),
    }
}

fn counts(cache: &Option<(Arc<Cache>, Key)>, count: impl Fn(&Counts)) {
    if let Some((cache, _)) = cache {
        count(&cache.counts);
    }
}

/// The pause before another try; not the same for all, so that they do not come back together.
fn pause(tries: u32) -> Duration {
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), tries);
    let most = PAUSE.saturating_mul(1 << tries.min(8));
    let percent = u32::try_from(random % 50).unwrap_or(0);
    most * (50 + percent) / 100
}

/// Bytes of an object that are in the cache: by themselves, or in the block that small reads are rounded out to.
fn cached(
    cache: &Cache,
    name: &str,
    path: &Path,
    state: &Arc<str>,
    range: &Range<u64>,
) -> Option<Bytes> {
    let length = range.end.saturating_sub(range.start);
    let own = cache_key(name, path, range.start, length);
    let block = range.start / BLOCK;
    if range.end <= (block + 1) * BLOCK {
        let whole = cache_key(name, path, block * BLOCK, BLOCK);
        if whole != own
            && let Some(entry) = cache.peek(&whole, state)
        {
            let start = usize::try_from(range.start - block * BLOCK).ok()?;
            let end = start.checked_add(usize::try_from(length).ok()?)?;
            if end <= entry.bytes.len() {
                return Some(entry.bytes.slice(start..end));
            }
        }
    }
    cache.get(&own, Some(state)).map(|entry| entry.bytes)
}
