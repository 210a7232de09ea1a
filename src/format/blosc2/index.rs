//! The chunk index of a Blosc2 array, from its offsets chunk.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::array::chunk::{ChunkAddress, ChunkIndex};
use crate::error::{Error, Result, Within};
use crate::format::blosc2::frame::{Frame, decode_chunk, place, usize_of};
use crate::store::Store;

/// The most chunks of an array that are kept account of.
pub(super) const MOST_CHUNKS: u64 = 8 << 20;
/// The largest offsets chunk that is read: it is compressed, if not by much.
const LARGEST_OFFSETS: u64 = 128 << 20;
/// The largest chunk of nothing but NaN that is made up in memory.
const LARGEST_INLINE: usize = 64 << 20;
/// A compressed chunk is at most this much longer than a decoded one (Blosc2 then stores it as it is).
const CHUNK_OVERHEAD: u64 = 4096;

/// Where the chunks of one frame are; the offsets are read once, at the first question.
#[derive(Debug)]
pub(super) struct FrameIndex {
    store: Store,
    key: Arc<str>,
    /// Directory of the chunk files of a sparse frame.
    sparse: Option<String>,
    header_bytes: u64,
    offsets: Range<u64>,
    offsets_bytes: Option<Bytes>,
    chunks: u64,
    chunk_bytes: u64,
    /// Decoded bytes of the last chunk, where it is a shorter one.
    last_bytes: u64,
    typesize: u64,
    is_swapped: bool,
    table: OnceCell<Table>,
    nan_chunk: OnceCell<Bytes>,
}

/// What an index has to know about the array besides its frame.
#[derive(Debug)]
pub(super) struct Chunks {
    /// How many there are.
    pub(super) count: u64,
    /// Decoded size of one.
    pub(super) bytes: u64,
    /// Whether elements have to be byte-swapped.
    pub(super) is_swapped: bool,
}

/// The offsets of all chunks.
#[derive(Debug, Default)]
struct Table {
    /// Relative to the end of the header; negative numbers stand for chunks without bytes.
    offsets: Vec<i64>,
    /// The offsets that are none of those, in ascending order.
    starts: Vec<u64>,
}

/// A chunk as its frame stores it.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// Its entry among the offsets: a place, the number of a file, or what stands for a chunk without bytes.
    pub(super) offset: i64,
    /// Its bytes in a contiguous frame.
    pub(super) range: Option<Range<u64>>,
}

/// A chunk in the terms of its frame.
enum Place {
    /// Its offset, or the number of its file.
    At(u64),
    /// All zeros, or never written.
    Zeros,
    /// All NaN.
    Nan,
}

impl FrameIndex {
    /// The index of the array in `frame`, which was read from `key` (for a sparse frame: in `directory`).
    pub(super) fn new(
        store: &Store,
        key: &str,
        sparse: Option<String>,
        frame: Frame,
        chunks: &Chunks,
    ) -> Self {
        let header = &frame.header;
        Self {
            store: store.clone(),
            key: key.into(),
            sparse,
            header_bytes: header.length,
            chunks: chunks.count,
            chunk_bytes: chunks.bytes,
            last_bytes: match header.nbytes.checked_rem(chunks.bytes) {
                None | Some(0) => chunks.bytes,
                Some(rest) => rest,
            },
            typesize: header.typesize,
            is_swapped: chunks.is_swapped,
            offsets: frame.offsets,
            offsets_bytes: frame.offsets_bytes,
            table: OnceCell::new(),
            nan_chunk: OnceCell::new(),
        }
    }

    /// All chunks, in their order.
    pub(super) async fn stored(&self) -> Result<Vec<Stored>> {
        let table = self.table.get_or_try_init(|| self.table()).await?;
        let stored = |offset: &i64| {
            let range = match (u64::try_from(*offset), &self.sparse) {
                (Ok(at), None) => {
                    let (start, length) = self.range(table, at)?;
                    Some(start..start.saturating_add(length))
                }
                (Ok(_), Some(_)) | (Err(_), _) => None,
            };
            Ok(Stored {
                offset: *offset,
                range,
            })
        };
        table.offsets.iter().map(stored).collect()
    }

    async fn address(&self, table: &Table, chunk: u64) -> Result<ChunkAddress> {
        let at = match table.place(chunk)? {
            Place::Zeros => return Ok(ChunkAddress::Missing),
            Place::Nan => {
                let bytes = self
                    .nan_chunk
                    .get_or_try_init(|| async { self.nan() })
                    .await?;
                return Ok(ChunkAddress::Inline(bytes.clone()));
            }
            Place::At(at) => at,
        };
        let address = match &self.sparse {
            Some(directory) => ChunkAddress::Object(chunk_file(directory, at).into()),
            None => {
                let (offset, length) = self.range(table, at)?;
                ChunkAddress::Range {
                    object: Arc::clone(&self.key),
                    offset,
                    length,
                    skipped: 0,
                }
            }
        };
        if chunk + 1 == self.chunks && self.last_bytes < self.chunk_bytes {
            return self.padded(address).await;
        }
        Ok(address)
    }

    /// From the chunk's start to that of the next one, which is at least as long as the chunk: its own length stands
    /// in its header only, and the decoder looks at nothing behind it.
    fn range(&self, table: &Table, at: u64) -> Result<(u64, u64)> {
        let end_of_chunks = self.offsets.start.saturating_sub(self.header_bytes);
        let next = table.starts.partition_point(|start| *start <= at);
        let end = table.starts.get(next).map_or(end_of_chunks, |next| *next);
        let longest = self.chunk_bytes.saturating_add(CHUNK_OVERHEAD);
        match (self.header_bytes.checked_add(at), end.checked_sub(at)) {
            (Some(offset), Some(length)) if end <= end_of_chunks && length > 0 => {
                Ok((offset, length.min(longest)))
            }
            _ => Err(Error::Corrupt(format!(
                "a chunk at offset {at} lies outside of the {end_of_chunks} bytes of chunks"
            ))),
        }
    }

    /// A chunk of nothing but NaN, in its decoded form.
    fn nan(&self) -> Result<Bytes> {
        let nan: &[u8] = match self.typesize {
            4 => &f32::NAN.to_le_bytes(),
            8 => &f64::NAN.to_le_bytes(),
            other => {
                return Err(Error::Corrupt(format!(
                    "a chunk of NaN has items of {other} bytes"
                )));
            }
        };
        let chunk_bytes = usize_of(self.chunk_bytes)?;
        if chunk_bytes > LARGEST_INLINE {
            return Err(Error::Unsupported(format!(
                "a chunk of {chunk_bytes} bytes that is stored as a run of NaN cannot be read"
            )));
        }
        // The run is one of native NaNs whatever the declared byte order: the bytes are those that Blosc2 returns.
        let element: Vec<u8> = if self.is_swapped {
            nan.iter().rev().copied().collect()
        } else {
            nan.to_vec()
        };
        Ok(element.repeat(chunk_bytes / element.len()).into())
    }

    /// The last chunk of an array without a block grid, which is stored shorter than the others.
    async fn padded(&self, address: ChunkAddress) -> Result<ChunkAddress> {
        let encoded = match &address {
            ChunkAddress::Range {
                object,
                offset,
                length,
                ..
            } => {
                self.store
                    .range(object, *offset, usize_of(*length)?)
                    .await?
            }
            ChunkAddress::Object(key) => match self.store.get(key).await? {
                Some(bytes) => bytes,
                None => return Ok(address),
            },
            ChunkAddress::Encoded(bytes) => bytes.clone(),
            ChunkAddress::Missing | ChunkAddress::Inline(_) | ChunkAddress::Foreign { .. } => {
                return Ok(address);
            }
        };
        let last_bytes = usize_of(self.last_bytes)?;
        if usize_of(self.chunk_bytes)? > LARGEST_INLINE {
            return Err(Error::Unsupported(format!(
                "a last chunk that is shorter than the {} bytes of the others cannot be read",
                self.chunk_bytes
            )));
        }
        let decoded = decode_chunk(&encoded, last_bytes)?;
        let Some(mut decoded) = decoded.filter(|decoded| decoded.len() == last_bytes) else {
            return Err(Error::Corrupt(format!(
                "the last chunk does not have the {last_bytes} bytes that are left for it"
            )));
        };
        decoded.resize(usize_of(self.chunk_bytes)?, 0);
        Ok(ChunkAddress::Inline(decoded.into()))
    }

    async fn table(&self) -> Result<Table> {
        if self.chunks == 0 {
            return Ok(Table::default());
        }
        let length = self.offsets.end - self.offsets.start;
        if self.chunks > MOST_CHUNKS || length > LARGEST_OFFSETS {
            return Err(Error::Exhausted(format!(
                "it has {} chunks, more than the {MOST_CHUNKS} that are kept account of",
                self.chunks
            )));
        }
        let encoded = match &self.offsets_bytes {
            Some(bytes) => bytes.clone(),
            None => {
                let length = usize_of(length)?;
                self.store
                    .range(&self.key, self.offsets.start, length)
                    .await?
            }
        };
        let decoded = decode_chunk(&encoded, usize_of(self.chunks * 8)?)?;
        let table = decoded.and_then(|decoded| Table::parse(&decoded, self.chunks));
        let Some(table) = table else {
            return Err(Error::Corrupt(format!(
                "its chunk index does not have one entry for each of its {} chunks",
                self.chunks
            )));
        };
        if let Some(directory) = &self.sparse {
            // A missing file would read as a chunk that was never written.
            let entries = self.store.list(directory).await?;
            let files: HashSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
            for number in &table.starts {
                let file = chunk_file(directory, *number);
                if !files.contains(file.as_str()) {
                    return Err(Error::Corrupt(format!("chunk file {file} is missing")));
                }
            }
        }
        Ok(table)
    }
}

#[async_trait]
impl ChunkIndex for FrameIndex {
    async fn locate(&self, chunks: &[u64]) -> Result<Vec<ChunkAddress>> {
        let place = || place(&self.store, &self.key);
        let table = self
            .table
            .get_or_try_init(|| self.table())
            .await
            .within(place)?;
        let mut addresses = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            addresses.push(self.address(table, *chunk).await.within(place)?);
        }
        Ok(addresses)
    }
}

impl Table {
    /// The table of `chunks` offsets; `None` when there are more or fewer.
    fn parse(bytes: &[u8], chunks: u64) -> Option<Self> {
        let (offsets, rest) = bytes.as_chunks::<8>();
        if offsets.len() as u64 != chunks || !rest.is_empty() {
            return None;
        }
        let offsets: Vec<i64> = offsets
            .iter()
            .map(|entry| i64::from_le_bytes(*entry))
            .collect();
        let mut starts: Vec<u64> = offsets
            .iter()
            .filter_map(|offset| u64::try_from(*offset).ok())
            .collect();
        starts.sort_unstable();
        Some(Self { offsets, starts })
    }

    fn place(&self, chunk: u64) -> Result<Place> {
        let offset = usize::try_from(chunk)
            .ok()
            .and_then(|chunk| self.offsets.get(chunk))
            .ok_or_else(|| Error::Invalid(format!("there is no chunk {chunk}")))?;
        if let Ok(at) = u64::try_from(*offset) {
            return Ok(Place::At(at));
        }
        let [.., kind] = offset.to_le_bytes();
        match kind & 0x7f {
            // What was never written has no value; zeros are what the library shows for it.
            1 | 4 => Ok(Place::Zeros),
            2 => Ok(Place::Nan),
            other => Err(Error::Corrupt(format!(
                "chunk {chunk} is marked as a special chunk of unknown kind {other}"
            ))),
        }
    }
}

/// The file of a sparse frame's chunk.
pub(super) fn chunk_file(directory: &str, number: u64) -> String {
    let name = format!("{number:08X}.chunk");
    if directory.is_empty() {
        name
    } else {
        format!("{directory}/{name}")
    }
}
