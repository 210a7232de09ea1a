//! Chunk addresses: from chunk numbers to places in an HDF5 file.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::array::chunk::{ChunkAddress, ChunkGrid, ChunkIndex};
use crate::codec::Codec;
use crate::error::{Error, Result, Within};
use crate::format::hdf5::contiguous::Contiguous;
use crate::format::hdf5::dataset::{IndexKind, Place, Stored};
use crate::format::hdf5::numbering::Numbering;
use crate::format::hdf5::rewrite::Rewrite;
use crate::format::hdf5::storage::File;
use crate::format::hdf5::{extensible_array, fixed_array, trees};

/// Once this part of all chunks was asked for, the rest of a tree is read too.
const MOST: u64 = 4;

/// Where the encoded bytes of one chunk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Address, relative to the superblock.
    pub(super) address: u64,
    /// Number of bytes.
    pub(super) length: u32,
    /// Bit `i` set: filter `i` was left out.
    pub(super) mask: u32,
}

/// The chunk with this number, as found in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) span: Span,
}

/// The chunk index of one dataset.
#[derive(Debug)]
pub(super) struct Chunks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: Arc<File>,
    /// What errors call the array.
    name: String,
    numbering: Numbering,
    source: Source,
    /// Filters of the pipeline are this many steps further back than in the file.
    shift: u32,
    /// All filters, for chunks that were not filtered because they reach beyond the array.
    plain_edges: Option<u32>,
    /// Bytes to swap in data that is delivered decoded.
    swap: Option<usize>,
    rewrite: Option<Rewrite>,
    object: Arc<str>,
    /// All entries of a tree, sorted by number, once they have been read.
    table: OnceLock<Vec<Entry>>,
    loading: Mutex<()>,
    asked: AtomicU64,
}

#[derive(Debug)]
enum Source {
    Nothing,
    Compact(Bytes),
    Contiguous(Contiguous),
    Chunked { address: u64, index: IndexKind },
}

impl Chunks {
    /// The index of a dataset stored as `stored` says, whose grid is `grid`; `extent` and `most` are those of its
    /// dataspace.
    pub(super) fn new(
        file: &Arc<File>,
        name: String,
        stored: &Stored,
        grid: &ChunkGrid,
        extent: Vec<u64>,
        most: Vec<Option<u64>>,
    ) -> Self {
        let rank = extent.len();
        let width = u64::from(stored.width);
        let outer = |all: &[u64]| all.get(..rank).unwrap_or(all).to_vec();
        let filters = stored.pipeline.0.iter();
        let swap = filters.clone().find_map(|step| match step {
            Codec::ByteSwap(size) => usize::try_from(*size).ok(),
            _ => None,
        });
        let shift = u32::from(swap.is_some());
        let (source, plain_edges) = match &stored.place {
            Place::Compact(bytes) => (Source::Compact(Bytes::from(bytes.clone())), false),
            Place::Contiguous(Some(address)) => {
                let pieces = Contiguous::new(file, *address, grid.clone(), width);
                (Source::Contiguous(pieces), false)
            }
            Place::Chunked {
                plain_edges,
                index,
                address: Some(address),
                ..
            } => (
                Source::Chunked {
                    address: *address,
                    index: *index,
                },
                *plain_edges,
            ),
            Place::Contiguous(None) | Place::Chunked { .. } => (Source::Nothing, false),
        };
        let numbering = Numbering {
            chunk: outer(grid.chunk_shape()),
            counts: outer(grid.counts()),
            extent,
            most,
            bytes: grid.chunk_cells().saturating_mul(width),
        };
        let rewrite = Rewrite::new(stored, grid, &numbering.extent);
        let every = 1u32.checked_shl(u32::try_from(filters.len()).unwrap_or(32));
        Self(Arc::new(Inner {
            file: Arc::clone(file),
            name,
            numbering,
            source,
            shift,
            plain_edges: plain_edges.then(|| every.unwrap_or(0).wrapping_sub(1) & !shift),
            swap,
            rewrite,
            object: "".into(),
            table: OnceLock::new(),
            loading: Mutex::new(()),
            asked: AtomicU64::new(0),
        }))
    }
}

impl Chunks {
    /// The value of cells that were never written, where it is not that of the dataset.
    pub(super) fn fill(&self) -> Option<&[u8]> {
        self.0.rewrite.as_ref()?.fill()
    }
}

#[async_trait]
impl ChunkIndex for Chunks {
    async fn locate(&self, chunks: &[u64]) -> Result<Vec<ChunkAddress>> {
        let inner = Arc::clone(&self.0);
        if inner.is_at_hand() {
            return inner.locate(chunks);
        }
        let chunks = chunks.to_vec();
        let name = inner.name.clone();
        tokio::task::spawn_blocking(move || inner.locate(&chunks))
            .await
            .map_err(|_| Error::Corrupt(format!("{name}: the chunk index cannot be parsed")))?
    }
}

impl Inner {
    /// Whether no byte has to be read to answer.
    fn is_at_hand(&self) -> bool {
        if self.rewrite.is_some() {
            return false;
        }
        match &self.source {
            Source::Nothing | Source::Compact(_) => true,
            Source::Contiguous(pieces) => pieces.is_inside(),
            Source::Chunked { index, .. } => match index {
                IndexKind::Single(_) | IndexKind::Implicit => true,
                IndexKind::Tree1 | IndexKind::Tree2 => self.table.get().is_some(),
                IndexKind::Fixed | IndexKind::Extensible => false,
            },
        }
    }

    fn locate(&self, chunks: &[u64]) -> Result<Vec<ChunkAddress>> {
        let all = self.numbering.len();
        if let Some(beyond) = chunks.iter().find(|number| **number >= all) {
            return Err(Error::Invalid(format!(
                "{} has {all} chunks, there is no chunk {beyond}",
                self.name
            )));
        }
        let addresses = if chunks.is_sorted_by(|a, b| a < b) {
            self.addresses(chunks)
        } else {
            let mut sorted = chunks.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            self.addresses(&sorted).map(|addresses| {
                let place = |number| sorted.binary_search(number).ok();
                let address = |place: usize| addresses.get(place).cloned();
                chunks
                    .iter()
                    .map(|number| {
                        place(number)
                            .and_then(address)
                            .unwrap_or(ChunkAddress::Missing)
                    })
                    .collect()
            })
        };
        addresses.within(|| &self.name)
    }

    /// The addresses of `chunks`, which are sorted and distinct.
    fn addresses(&self, chunks: &[u64]) -> Result<Vec<ChunkAddress>> {
        let mut addresses = match &self.source {
            Source::Nothing => vec![ChunkAddress::Missing; chunks.len()],
            Source::Compact(bytes) => {
                let length = usize::try_from(self.numbering.bytes).unwrap_or(usize::MAX);
                if bytes.len() < length {
                    return Err(Error::Corrupt(
                        "its header is damaged: it holds less data than the array has".into(),
                    ));
                }
                let bytes = self.decoded(bytes.slice(..length));
                vec![ChunkAddress::Inline(bytes); chunks.len()]
            }
            Source::Contiguous(pieces) => chunks
                .iter()
                .map(|number| {
                    let piece = pieces.address(&self.file, &self.object, *number)?;
                    Ok(match piece {
                        ChunkAddress::Inline(bytes) => ChunkAddress::Inline(self.decoded(bytes)),
                        piece => piece,
                    })
                })
                .collect::<Result<_>>()?,
            Source::Chunked { address, index } => {
                let spans = self.spans(*address, *index, chunks)?;
                self.ranges(chunks, &spans)?
            }
        };
        if let Some(rewrite) = &self.rewrite {
            for (number, address) in chunks.iter().zip(&mut addresses) {
                rewrite.apply(&self.file, *number, address)?;
            }
        }
        Ok(addresses)
    }

    fn ranges(&self, chunks: &[u64], spans: &[Option<Span>]) -> Result<Vec<ChunkAddress>> {
        let mut coord = Vec::new();
        let mut addresses = Vec::with_capacity(chunks.len());
        for (number, span) in chunks.iter().zip(spans) {
            let Some(span) = span else {
                addresses.push(ChunkAddress::Missing);
                continue;
            };
            let mut skipped = span.mask.wrapping_shl(self.shift);
            if let Some(every) = self.plain_edges
                && self.numbering.is_partial(*number, &mut coord)
            {
                skipped = every;
            }
            addresses.push(ChunkAddress::Range {
                object: Arc::clone(&self.object),
                offset: self.file.absolute(span.address)?,
                length: span.length.into(),
                skipped,
            });
        }
        Ok(addresses)
    }

    fn spans(&self, address: u64, index: IndexKind, chunks: &[u64]) -> Result<Vec<Option<Span>>> {
        let numbering = &self.numbering;
        let whole = || {
            u32::try_from(numbering.bytes)
                .map_err(|_| Error::Unsupported("chunks of 4 GiB and more cannot be read".into()))
        };
        match index {
            IndexKind::Single(filtered) => {
                let span = match filtered {
                    Some((length, mask)) => Span {
                        address,
                        length: u32::try_from(length).or_else(|_| whole())?,
                        mask,
                    },
                    None => Span {
                        address,
                        length: whole()?,
                        mask: 0,
                    },
                };
                // A chunk beyond the first is one that the dimension has and the dataset has not.
                let place = |number: &u64| (*number == 0).then_some(span);
                Ok(chunks.iter().map(place).collect())
            }
            IndexKind::Implicit => {
                let length = whole()?;
                let mut spans = vec![None; chunks.len()];
                for (element, position) in numbering.elements(chunks, None)? {
                    let at = element
                        .checked_mul(length.into())
                        .and_then(|offset| offset.checked_add(address))
                        .ok_or_else(|| Error::Corrupt("its chunk index is damaged".into()))?;
                    if let Some(span) = spans.get_mut(position) {
                        *span = Some(Span {
                            address: at,
                            length,
                            mask: 0,
                        });
                    }
                }
                Ok(spans)
            }
            IndexKind::Fixed => fixed_array::find(&self.file, address, numbering, chunks),
            IndexKind::Extensible => extensible_array::find(&self.file, address, numbering, chunks),
            IndexKind::Tree1 | IndexKind::Tree2 => {
                let read = |wanted: Option<&[u64]>| match index {
                    IndexKind::Tree1 => trees::read_v1(&self.file, address, numbering, wanted),
                    _ => trees::read_v2(&self.file, address, numbering, wanted),
                };
                self.in_tree(chunks, read)
            }
        }
    }

    /// Looks chunks up in the table, or in the tree where they should be.
    fn in_tree(
        &self,
        chunks: &[u64],
        read: impl Fn(Option<&[u64]>) -> Result<Vec<Entry>>,
    ) -> Result<Vec<Option<Span>>> {
        let asked = self.asked.fetch_add(chunks.len() as u64, Ordering::Relaxed);
        let asked = asked.saturating_add(chunks.len() as u64);
        let most = asked > self.numbering.len() / MOST;
        if self.table.get().is_none() && !most {
            return Ok(join(chunks, &read(Some(chunks))?));
        }
        let table = match self.table.get() {
            Some(table) => table,
            None => {
                let _one_at_a_time = self.loading.lock();
                match self.table.get() {
                    Some(table) => table,
                    None => {
                        let table = read(None)?;
                        self.table.get_or_init(|| table)
                    }
                }
            }
        };
        Ok(join(chunks, table))
    }

    /// Data that is delivered decoded, in native byte order.
    fn decoded(&self, bytes: Bytes) -> Bytes {
        match self.swap {
            None => bytes,
            Some(size) => {
                let mut bytes = bytes.to_vec();
                for element in bytes.chunks_exact_mut(size.max(1)) {
                    element.reverse();
                }
                bytes.into()
            }
        }
    }
}

/// The spans of `chunks` among `entries`; both are sorted by number.
fn join(chunks: &[u64], entries: &[Entry]) -> Vec<Option<Span>> {
    let few = chunks.len() < entries.len() / 16;
    let mut next = entries.iter().peekable();
    chunks
        .iter()
        .map(|number| {
            if few {
                let place = entries
                    .binary_search_by_key(number, |entry| entry.number)
                    .ok();
                return place
                    .and_then(|place| entries.get(place))
                    .map(|entry| entry.span);
            }
            while next.next_if(|entry| entry.number < *number).is_some() {}
            next.peek()
                .filter(|entry| entry.number == *number)
                .map(|entry| entry.span)
        })
        .collect()
}
