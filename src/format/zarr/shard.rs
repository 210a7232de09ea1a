//! Shards: objects that hold many chunks and an index of their byte ranges.
//!
//! ```text
//! shard 6×4, chunks of 3×2:   0 1      the chunks of a shard are entries of its index in C order;
//!                             2 3      the grid of the variable is that of the chunks, across all shards
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::codecs::{self, Chain};
use super::dtype::DataType;
use super::index::coord;
use super::json::{Json, NULL};
use crate::array::chunk::{ChunkAddress, ChunkGrid, ChunkIndex};
use crate::codec::{Codec, CodecPipeline, Scratch};
use crate::error::{Error, Result, Within};
use crate::store::Store;

/// Offset and length of a chunk, as little-endian `u64` each.
const ENTRY: u64 = 16;

/// An index beyond this size is no reasonable one.
const LARGEST_INDEX: u64 = 64 << 20;

/// Bytes of index entries kept per variable.
const CACHE_BYTES: u64 = 16 << 20;

/// Shards whose indexes are kept per variable, however small they are.
const CACHE_SHARDS: u64 = 4096;

/// Offset and length of a chunk that was never written.
pub(super) const UNWRITTEN: (u64, u64) = (u64::MAX, u64::MAX);

/// The configuration of the codec `sharding_indexed`.
#[derive(Debug)]
pub(super) struct Sharding {
    /// Extent of a chunk within a shard.
    pub(super) chunk: Vec<u64>,
    /// What becomes of the elements of such a chunk.
    pub(super) chain: Chain,
    index: CodecPipeline,
    /// Bytes that the codecs of the index add to it.
    index_extra: u64,
    pub(super) location: Location,
}

/// Where in a shard its index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Start,
    End,
}

impl Sharding {
    /// Reads the configuration for an array of this data type and rank.
    pub(super) fn parse(configuration: &Json, dtype: DataType, rank: usize) -> Result<Self> {
        let chunk = configuration.get("chunk_shape").counts();
        let codecs = configuration.get("codecs").list();
        let index = configuration.get("index_codecs").list();
        let (Some(chunk), Some(codecs), Some(index)) = (chunk, codecs, index) else {
            return Err(Error::Corrupt(
                "codec sharding_indexed lacks a valid chunk_shape, codecs or index_codecs".into(),
            ));
        };
        let location = match configuration.get("index_location") {
            Json::Null => Location::End,
            Json::Text(location) if location == "end" => Location::End,
            Json::Text(location) if location == "start" => Location::Start,
            location => {
                return Err(Error::Corrupt(format!(
                    "codec sharding_indexed has its index at {location}"
                )));
            }
        };
        let chain = codecs::chain(codecs, dtype, rank).within(|| "codecs within shards")?;
        let (index, index_extra) = index_codecs(index).within(|| "codecs of the shard index")?;
        Ok(Self {
            chunk,
            chain,
            index,
            index_extra,
            location,
        })
    }
}

/// The pipeline of an index, and the bytes that it adds: its stored size must be known before it is read.
fn index_codecs(json: &[Json]) -> Result<(CodecPipeline, u64)> {
    let chain = codecs::chain(json, DataType::v3("uint64", &NULL, 1)?, 1)?;
    let mut extra = 0;
    for codec in &chain.pipeline.0 {
        if matches!(codec, Codec::Crc32c | Codec::Fletcher32) {
            extra += 4;
        } else if !matches!(codec, Codec::ByteSwap(_) | Codec::Shuffle(_)) {
            return Err(Error::Unsupported(format!(
                "codec {codec} makes the size of the index unknown, which is not supported"
            )));
        }
    }
    Ok((chain.pipeline, extra))
}

/// The index of an array whose chunks are in shards.
#[derive(Debug)]
pub(super) struct Shards {
    store: Store,
    /// Where the shards are.
    objects: Arc<dyn ChunkIndex>,
    /// The chunks of the array.
    chunks: ChunkGrid,
    /// The shards of the array.
    shards: ChunkGrid,
    /// Number of chunks of a shard along each dimension.
    per_shard: Vec<u64>,
    sharding: Sharding,
    entries: u64,
    cache: Mutex<HashMap<u64, Option<Arc<Shard>>>>,
}

/// A shard whose index has been read.
#[derive(Debug)]
struct Shard {
    whole: Whole,
    size: u64,
    ranges: Vec<(u64, u64)>,
}

/// All bytes of a shard.
#[derive(Debug)]
enum Whole {
    /// They begin at an offset of an object.
    Stored(Arc<str>, u64),
    /// They stand in the metadata.
    Inline(Bytes),
}

impl Shards {
    /// The index of the array with the chunk grid `chunks`, whose shards are those of the grid `shards` and are found by
    /// `objects`.
    pub(super) fn new(
        store: &Store,
        objects: Arc<dyn ChunkIndex>,
        chunks: &ChunkGrid,
        shards: ChunkGrid,
        sharding: Sharding,
    ) -> Result<Self> {
        let per_shard = shards
            .chunk_shape()
            .iter()
            .zip(chunks.chunk_shape())
            .map(|(shard, chunk)| shard.is_multiple_of(*chunk).then_some(shard / chunk))
            .collect::<Option<Vec<u64>>>()
            .ok_or_else(|| {
                Error::Corrupt(format!(
                    "shards of {:?} cannot be cut into chunks of {:?}",
                    shards.chunk_shape(),
                    chunks.chunk_shape()
                ))
            })?;
        // The cells of a shard fit 63 bits, and so do its chunks.
        let entries = per_shard.iter().product::<u64>();
        if entries > LARGEST_INDEX / ENTRY {
            return Err(Error::Unsupported(format!(
                "shards of {entries} chunks are not supported, only up to {}",
                LARGEST_INDEX / ENTRY
            )));
        }
        Ok(Self {
            store: store.clone(),
            objects,
            chunks: chunks.clone(),
            shards,
            per_shard,
            sharding,
            entries,
            cache: Mutex::default(),
        })
    }

    /// The shard of a chunk, and the entry of the chunk in its index.
    fn place(&self, chunk: u64) -> Result<(u64, usize)> {
        let mut shard = coord(&self.chunks, chunk)?;
        let mut entry = 0;
        for (at, count) in shard.iter_mut().zip(&self.per_shard) {
            entry = entry * count + *at % count;
            *at /= count;
        }
        let entry = usize::try_from(entry).map_err(|_| self.short())?;
        Ok((self.shards.number(&shard), entry))
    }

    async fn shard(&self, number: u64) -> Result<Option<Arc<Shard>>> {
        if let Some(shard) = self.cache.lock().get(&number) {
            return Ok(shard.clone());
        }
        let place = || match self.shards.coord(number).as_slice() {
            [] => "shard".to_owned(),
            coord => format!("shard {coord:?}"),
        };
        let shard = self.read(number).await.within(place)?.map(Arc::new);
        let capacity = (CACHE_BYTES / (self.entries * ENTRY)).clamp(1, CACHE_SHARDS);
        let mut cache = self.cache.lock();
        if cache.len() as u64 >= capacity {
            cache.clear();
        }
        cache.insert(number, shard.clone());
        Ok(shard)
    }

    async fn read(&self, number: u64) -> Result<Option<Shard>> {
        let address = self.objects.locate(&[number]).await?.pop();
        let (whole, size) = match address {
            None | Some(ChunkAddress::Missing) => return Ok(None),
            Some(ChunkAddress::Foreign { location, .. }) => {
                return Err(Error::Unsupported(format!(
                    "it is in {location}, outside of the dataset, and such references are not followed"
                )));
            }
            // An append replaces the last shards: their chunks must not be looked for where they were before.
            Some(ChunkAddress::Object(object)) => match self.store.stamped(&object).await {
                Ok((object, size)) => (Whole::Stored(object.into(), 0), size),
                Err(Error::NotFound(_)) => return Ok(None),
                Err(error) => return Err(error),
            },
            Some(ChunkAddress::Range {
                object,
                offset,
                length,
                ..
            }) => (Whole::Stored(object, offset), length),
            Some(ChunkAddress::Inline(bytes) | ChunkAddress::Encoded(bytes)) => {
                let size = bytes.len() as u64;
                (Whole::Inline(bytes), size)
            }
        };
        let decoded = self.entries * ENTRY;
        let stored = decoded + self.sharding.index_extra;
        let offset = match self.sharding.location {
            Location::Start => 0,
            Location::End => size.checked_sub(stored).ok_or_else(|| self.short())?,
        };
        let (Ok(stored), Ok(decoded)) = (usize::try_from(stored), usize::try_from(decoded)) else {
            return Err(self.short());
        };
        let stored = match &whole {
            Whole::Stored(object, start) => {
                let offset = start.checked_add(offset).ok_or_else(|| self.short())?;
                self.store.range(object, offset, stored).await?
            }
            Whole::Inline(bytes) => {
                slice(bytes, offset, stored as u64).ok_or_else(|| self.short())?
            }
        };
        let mut index = vec![0; decoded];
        self.sharding
            .index
            .decode(&stored, 0, &mut index, &mut Scratch::default())
            .within(|| "index")?;
        let numbers: Vec<u64> = index
            .chunks_exact(8)
            .filter_map(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)))
            .collect();
        let ranges = numbers
            .chunks_exact(2)
            .filter_map(|pair| match pair {
                [offset, length] => Some((*offset, *length)),
                _ => None,
            })
            .collect();
        Ok(Some(Shard {
            whole,
            size,
            ranges,
        }))
    }

    fn short(&self) -> Error {
        Error::Corrupt(format!(
            "it is too small for an index of {} chunks",
            self.entries
        ))
    }
}

impl Shard {
    fn address(&self, entry: usize) -> Result<ChunkAddress> {
        match self.ranges.get(entry) {
            Some(&UNWRITTEN) => Ok(ChunkAddress::Missing),
            Some(&(offset, length))
                if offset
                    .checked_add(length)
                    .is_some_and(|end| end <= self.size) =>
            {
                match &self.whole {
                    Whole::Stored(object, start) => Ok(ChunkAddress::Range {
                        object: Arc::clone(object),
                        offset: start
                            .checked_add(offset)
                            .ok_or_else(|| self.outside(entry))?,
                        length,
                        skipped: 0,
                    }),
                    Whole::Inline(bytes) => slice(bytes, offset, length)
                        .map(ChunkAddress::Encoded)
                        .ok_or_else(|| self.outside(entry)),
                }
            }
            _ => Err(self.outside(entry)),
        }
    }

    fn outside(&self, entry: usize) -> Error {
        let name = match &self.whole {
            Whole::Stored(object, _) => object.as_ref(),
            Whole::Inline(_) => "in the metadata",
        };
        Error::Corrupt(format!(
            "shard {name}: the index places chunk {entry} outside of the shard"
        ))
    }
}

/// Some of the bytes; `None` when they end earlier.
fn slice(bytes: &Bytes, offset: u64, length: u64) -> Option<Bytes> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    (end <= bytes.len()).then(|| bytes.slice(start..end))
}

#[async_trait]
impl ChunkIndex for Shards {
    async fn locate(&self, chunks: &[u64]) -> Result<Vec<ChunkAddress>> {
        let mut places = Vec::with_capacity(chunks.len());
        for (asked, chunk) in chunks.iter().enumerate() {
            let (shard, entry) = self.place(*chunk)?;
            places.push((shard, asked, entry));
        }
        // Shard after shard, so that no index is read twice however little the cache holds.
        places.sort_unstable();
        let mut addresses = vec![ChunkAddress::Missing; chunks.len()];
        let mut current = None;
        for (number, asked, entry) in places {
            let shard = match current.take() {
                Some((last, shard)) if last == number => shard,
                _ => self.shard(number).await?,
            };
            if let (Some(shard), Some(address)) = (&shard, addresses.get_mut(asked)) {
                *address = shard.address(entry)?;
            }
            current = Some((number, shard));
        }
        Ok(addresses)
    }

    fn forget(&self) {
        self.cache.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::super::index::{KeyStyle, Keys, Objects};
    use super::*;

    fn shards(shape: &[u64], shard: &[u64], chunk: &[u64]) -> Result<Shards> {
        let configuration = format!(
            r#"{{"chunk_shape": {chunk:?}, "codecs": [{{"name": "bytes", "configuration": {{"endian": "little"}}}}],
                "index_codecs": [{{"name": "bytes", "configuration": {{"endian": "little"}}}}, "crc32c"]}}"#
        );
        let configuration = Json::parse(configuration.as_bytes()).unwrap();
        let dtype = DataType::v3("int16", &NULL, shape.len()).unwrap();
        let sharding = Sharding::parse(&configuration, dtype, shape.len())?;
        let keys = Keys {
            prefix: String::new(),
            style: KeyStyle::Default,
            separator: '/',
        };
        let chunks = ChunkGrid::new(shape.to_vec(), sharding.chunk.clone())?;
        let grid = ChunkGrid::new(shape.to_vec(), shard.to_vec())?;
        let objects = Arc::new(Objects {
            grid: grid.clone(),
            keys,
        });
        let store = Store::open("/nowhere").unwrap();
        Shards::new(&store, objects, &chunks, grid, sharding)
    }

    #[test]
    fn chunks_have_their_places_in_shards() {
        // Chunks: 3 × 3 of 2 × 2; shards: 2 × 2 of 2 × 2 chunks, those at the edges reach beyond the array.
        let shards = shards(&[5, 5], &[4, 4], &[2, 2]).unwrap();
        let places: Vec<_> = (0..9).map(|chunk| shards.place(chunk).unwrap()).collect();
        assert_eq!(
            places,
            [
                (0, 0),
                (0, 1),
                (1, 0),
                (0, 2),
                (0, 3),
                (1, 2),
                (2, 0),
                (2, 1),
                (3, 0)
            ]
        );
        assert!(shards.place(9).is_err());
    }

    #[test]
    fn shards_that_chunks_do_not_tile_are_refused() {
        assert!(matches!(shards(&[6], &[6], &[4]), Err(Error::Corrupt(_))));
        assert!(matches!(shards(&[6], &[0], &[0]), Err(Error::Corrupt(_))));
        assert!(matches!(
            shards(&[6], &[1 << 40], &[1]),
            Err(Error::Unsupported(_))
        ));
    }

    #[test]
    fn ranges_outside_of_a_shard_are_corrupt() {
        let shard = Shard {
            whole: Whole::Stored("c/0".into(), 0),
            size: 100,
            ranges: vec![(0, 100), UNWRITTEN, (1, 100), (u64::MAX, 2)],
        };
        assert!(matches!(
            shard.address(0),
            Ok(ChunkAddress::Range { length: 100, .. })
        ));
        assert_eq!(shard.address(1).unwrap(), ChunkAddress::Missing);
        for entry in 2..5 {
            assert!(
                matches!(shard.address(entry), Err(Error::Corrupt(_))),
                "{entry}"
            );
        }
    }
}
