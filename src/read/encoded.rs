//! The encoded bytes of a chunk: all of them in one request, or its head first and then the blocks that are needed.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::array::chunk::ChunkAddress;
use crate::array::slab::Crop;
use crate::codec::blosc::Head;
use crate::error::{Error, Result};
use crate::read::decode::sized;
use crate::store::Store;

/// The encoded bytes of a chunk that had to be fetched before decoding.
#[derive(Clone, Debug)]
pub struct Encoded {
    bytes: Bytes,
    read: usize,
}

impl Encoded {
    /// All bytes of a chunk.
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self {
            read: bytes.len(),
            bytes,
        }
    }

    pub(super) fn stored(&self) -> Stored<'_> {
        Stored {
            bytes: &self.bytes,
            read: self.read,
        }
    }
}

/// The encoded bytes of a chunk, each at its place; those of blocks that nobody needs may be anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored<'a> {
    pub(super) bytes: &'a [u8],
    /// How many of them were read.
    pub(super) read: usize,
}

impl<'a> Stored<'a> {
    /// All bytes of a chunk.
    pub(super) fn whole(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            read: bytes.len(),
        }
    }
}

/// One chunk of a plan: where it is, its bytes where they had to be fetched, and what of it is selected.
pub(super) struct Part<'a> {
    pub(super) address: &'a ChunkAddress,
    pub(super) fetched: Option<Stored<'a>>,
    pub(super) crop: Crop,
}

impl Part<'_> {
    /// The stored bytes, of which only those of some blocks need be right; `None` when the chunk was never written.
    pub(super) fn encoded<'b>(
        &'b self,
        store: &Store,
        needed: Option<&Needed>,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Option<Stored<'b>>> {
        match (self.address, self.fetched) {
            (ChunkAddress::Missing, _) => Ok(None),
            (_, Some(stored)) => Ok(Some(stored)),
            (ChunkAddress::Inline(bytes) | ChunkAddress::Encoded(bytes), None) => {
                Ok(Some(Stored::whole(bytes)))
            }
            (ChunkAddress::Foreign { location, .. }, None) => Err(refused(location)),
            (ChunkAddress::Object(_), None) if !store.is_local() => Ok(None),
            (ChunkAddress::Object(object), None) => Ok(store
                .get_local(object, buffer)?
                .then_some(Stored::whole(buffer))),
            (
                ChunkAddress::Range {
                    object,
                    offset,
                    length,
                    ..
                },
                None,
            ) => {
                let length = addressable(*length)?;
                store.check_local(object, *offset, length)?;
                if let Some(needed) = needed.filter(|needed| LOCAL.pays(length, needed)) {
                    return local_blocks(store, (object, *offset, length), needed, buffer)
                        .map(Some);
                }
                let encoded = sized(buffer, length);
                store.read_local(object, *offset, encoded)?;
                Ok(Some(Stored::whole(encoded)))
            }
        }
    }

    pub(super) fn skipped(&self) -> u32 {
        skipped(self.address)
    }
}

/// The steps of the pipeline that were left out for a chunk.
pub(super) fn skipped(address: &ChunkAddress) -> u32 {
    match address {
        ChunkAddress::Range { skipped, .. } => *skipped,
        ChunkAddress::Missing
        | ChunkAddress::Inline(_)
        | ChunkAddress::Encoded(_)
        | ChunkAddress::Foreign { .. }
        | ChunkAddress::Object(_) => 0,
    }
}

/// Where the bytes of a chunk are in an object that holds others too, if it is cheapest to read all of them.
pub(super) fn whole<'a>(
    store: &Store,
    address: &'a ChunkAddress,
    needed: Option<&Needed>,
) -> Option<(&'a Arc<str>, Range<u64>)> {
    let ChunkAddress::Range {
        object,
        offset,
        length,
        ..
    } = address
    else {
        return None;
    };
    let size = usize::try_from(*length).ok()?;
    let is_part = needed.is_some_and(|needed| Cost::of(store).pays(size, needed));
    (!is_part).then(|| (object, *offset..offset.saturating_add(*length)))
}

/// Fetches a chunk that [`whole`] does not want whole; `None` when it was never written.
pub(super) async fn fetch(
    store: &Store,
    address: &ChunkAddress,
    needed: Option<&Needed>,
) -> Result<Option<Encoded>> {
    match address {
        ChunkAddress::Missing | ChunkAddress::Inline(_) | ChunkAddress::Encoded(_) => Ok(None),
        ChunkAddress::Foreign { location, .. } => Err(refused(location)),
        ChunkAddress::Object(object) => Ok(store.get(object).await?.map(Encoded::whole)),
        ChunkAddress::Range {
            object,
            offset,
            length,
            ..
        } => {
            let length = addressable(*length)?;
            let fetched = match needed {
                Some(needed) => remote_blocks(store, (object, *offset, length), needed).await,
                None => store
                    .range(object, *offset, length)
                    .await
                    .map(Encoded::whole),
            };
            fetched.map(Some)
        }
    }
}

/// Blocks of a chunk.
#[derive(Clone, Debug)]
pub(super) struct Needed {
    /// The numbers of those that are needed.
    pub(super) blocks: Vec<usize>,
    /// How many the chunk has.
    pub(super) of: usize,
}

/// What a request costs, as the number of bytes that could be read in its time.
#[derive(Clone, Copy, Debug)]
struct Cost(usize);

/// A system call against copying from memory.
const LOCAL: Cost = Cost(16 << 10);

impl Cost {
    /// That of a store that is not local.
    fn of(store: &Store) -> Self {
        Self(usize::try_from(store.request_cost()).unwrap_or(usize::MAX))
    }

    /// Whether it is likely to be cheaper to look at the head of a chunk of `length` bytes and then to read what is
    /// needed, than to read the chunk in one request.
    fn pays(self, length: usize, needed: &Needed) -> bool {
        // Blocks are taken to be of one size, and those that are needed to stand side by side.
        let blocks = (length / needed.of.max(1)).saturating_mul(needed.blocks.len());
        let parts = blocks.saturating_add(Head::most(needed.of));
        let [one, two] = [1, 2].map(|requests| self.0.saturating_mul(requests));
        parts.saturating_add(two) < length.saturating_add(one)
    }

    /// The requests for some ranges, in ascending order: what lies between two of them is read along where a request
    /// of its own would cost more.
    fn requests(self, mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
        ranges.sort_unstable_by_key(|range| range.start);
        let mut requests: Vec<Range<usize>> = Vec::new();
        for range in ranges {
            match requests.last_mut() {
                Some(last) if range.start <= last.end.saturating_add(self.0) => {
                    last.end = last.end.max(range.end);
                }
                _ => requests.push(range),
            }
        }
        requests
    }
}

/// Reads the head of a local chunk and the blocks that are needed.
fn local_blocks<'b>(
    store: &Store,
    (object, offset, length): (&str, u64, usize),
    needed: &Needed,
    buffer: &'b mut Vec<u8>,
) -> Result<Stored<'b>> {
    let encoded = sized(buffer, length);
    let first = encoded
        .get_mut(..Head::most(needed.of).min(length))
        .unwrap_or_default();
    store.read_local(object, offset, first)?;
    let mut read = first.len();
    let head = Head::parse(first, length)?;
    for range in LOCAL.requests(head.ranges(&needed.blocks)?) {
        let at = offset.saturating_add(range.start as u64);
        let part = encoded.get_mut(range).unwrap_or_default();
        store.read_local(object, at, part)?;
        read += part.len();
    }
    let bytes = encoded.get(..head.length()).unwrap_or_default();
    Ok(Stored { bytes, read })
}

/// Fetches the head of a chunk, and then the blocks that are needed.
async fn remote_blocks(
    store: &Store,
    (object, offset, length): (&str, u64, usize),
    needed: &Needed,
) -> Result<Encoded> {
    let first = Head::most(needed.of).min(length);
    let first = store.range(object, offset, first).await?;
    let head = Head::parse(&first, length)?;
    let blocks = head.ranges(&needed.blocks)?;
    let place = |at: usize| offset.saturating_add(at as u64);
    let ranges = blocks
        .iter()
        .map(|range| place(range.start)..place(range.end));
    let fetched = store.ranges(object, ranges.collect()).await?;
    let parts = blocks.into_iter().zip(fetched);
    // Pages that no part falls into are not touched.
    let mut bytes = vec![0; head.length()];
    let mut read = 0;
    let whole = 0..first.len().min(bytes.len());
    let first = first.slice(whole.clone());
    for (range, part) in std::iter::once((whole, first)).chain(parts) {
        if let Some(into) = bytes.get_mut(range) {
            into.copy_from_slice(&part);
            read += part.len();
        }
    }
    Ok(Encoded {
        bytes: bytes.into(),
        read,
    })
}

/// References out of a dataset are not followed.
fn refused(location: &str) -> Error {
    Error::Unsupported(format!(
        "its bytes are in {location}, outside of the dataset, and such references are not followed"
    ))
}

fn addressable(length: u64) -> Result<usize> {
    usize::try_from(length)
        .map_err(|_| Error::Corrupt("its stored size cannot be addressed".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(blocks: usize, of: usize) -> Needed {
        Needed {
            blocks: (0..blocks).collect(),
            of,
        }
    }

    /// Tens of milliseconds against tens of megabytes a second.
    const REMOTE: Cost = Cost(1 << 20);

    #[test]
    fn a_few_blocks_of_a_long_chunk_are_read_by_themselves() {
        assert!(LOCAL.pays(1 << 20, &needed(1, 20)));
        assert!(LOCAL.pays(1 << 20, &needed(15, 20)));
        assert!(!LOCAL.pays(1 << 20, &needed(20, 20)));
        // What is saved is less than a request costs.
        assert!(!LOCAL.pays(16 << 10, &needed(1, 20)));
        assert!(!REMOTE.pays(1 << 20, &needed(1, 20)));
        assert!(REMOTE.pays(8 << 20, &needed(10, 20)));
        assert!(!REMOTE.pays(8 << 20, &needed(18, 20)));
        assert!(!LOCAL.pays(usize::MAX, &needed(3, 0)));
    }

    #[test]
    fn ranges_near_each_other_are_one_request() {
        let cost = Cost(10);
        assert!(cost.requests(Vec::new()).is_empty());
        assert_eq!(
            cost.requests(vec![70..80, 0..5, 15..20, 31..40, 33..35]),
            [0..20, 31..40, 70..80]
        );
    }
}
