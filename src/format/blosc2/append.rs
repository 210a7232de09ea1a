//! Longer Blosc2 arrays, made of old ones and new chunks.

use std::collections::HashSet;
use std::io::{Read, Seek, Write};
use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use crate::array::Layout;
use crate::array::chunk::{ChunkGrid, ElementOrder};
use crate::codec::Codec;
use crate::codec::blosc::encode::BloscEncoder;
use crate::codec::encode::{EncodePipeline, Encoder};
use crate::error::{Error, Result, Within};
use crate::format::blosc2::frame::{Frame, place};
use crate::format::blosc2::index::{Chunks, FrameIndex, Stored, chunk_file};
use crate::format::blosc2::shell::{Cut, Shell, ZEROS};
use crate::format::blosc2::write::{Content, FrameWriter, check};
use crate::format::blosc2::{CONCURRENT, Leaf, find, meta};
use crate::store::Store;

/// An array as it is before an append.
///
/// ```text
/// open ── grow ── write                      contiguous: a new file beside the old one, then a rename
///             └── sparse ── add … ── finish  sparse: new chunk files, then a rename of the new index, then old files go
/// ```
#[derive(Debug)]
pub struct OldArray {
    store: Store,
    key: String,
    sparse: Option<String>,
    layout: Layout,
    cut: Cut,
    encoder: BloscEncoder,
    head: Bytes,
    trailer: Bytes,
    /// The metalayer that holds the shape.
    layer: Bytes,
    cbytes: u64,
    chunks: Vec<Stored>,
}

/// An array that gets longer.
#[derive(Debug)]
pub struct Growth<'a> {
    old: &'a OldArray,
    shell: Shell,
    cut: Cut,
}

impl OldArray {
    /// Reads what there is to know of the array whose path in the dataset is `path` before it can get longer.
    ///
    /// A store keeps files open: this one has to be younger than the last change of the dataset.
    ///
    /// # Errors
    /// `NotFound` if there is no such array, `Unsupported` if it is not stored in a way that can be appended to,
    /// `Corrupt` or `Io` if it cannot be read.
    pub async fn open(store: &Store, path: &str) -> Result<Self> {
        let Leaf { key, sparse, .. } = find(store, path).await?;
        let place = || place(store, sparse.as_deref().unwrap_or(&key));
        let frame = Frame::read(store, &key).await?;
        let layout = meta::layout(&frame).within(place)?;
        let ElementOrder::Blocked(block) = &layout.order else {
            return Err(Error::Unsupported(
                "it is a frame of bytes without a shape, which cannot be appended to".into(),
            ))
            .within(place);
        };
        let cut = Cut {
            grid: layout.grid.clone(),
            block: block.clone(),
            item: frame.header.typesize,
            chunk_bytes: meta::chunk_bytes(&layout).within(place)?,
        };
        let encoder = frame.header.encoder(cut.block_bytes()?).within(place)?;
        let layer = frame.metalayer("b2nd").or(frame.metalayer("caterva"));
        let (head, trailer, cbytes) = (
            frame.head.clone(),
            frame.trailer.clone(),
            frame.header.cbytes,
        );
        let layer = layer.cloned().unwrap_or_default();
        let chunks = Chunks {
            count: layout.grid.len(),
            bytes: cut.chunk_bytes,
            is_swapped: layout.pipeline.0.len() > 1,
        };
        let index = FrameIndex::new(store, &key, sparse.clone(), frame, &chunks);
        let chunks = index.stored().await.within(place)?;
        Ok(Self {
            store: store.clone(),
            layout,
            cut,
            encoder,
            head,
            trailer,
            layer,
            cbytes,
            chunks,
            key,
            sparse,
        })
    }

    /// Its layout.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The key of its frame: the file of a contiguous one, the index of a sparse one.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The directory of a sparse frame.
    #[must_use]
    pub fn directory(&self) -> Option<&str> {
        self.sparse.as_deref()
    }

    /// How its chunks are encoded, after [`crate::format::blosc2::blocks::cut`].
    #[must_use]
    pub fn pipeline(&self) -> EncodePipeline {
        let steps = self.layout.pipeline.0.iter().filter_map(|step| match step {
            Codec::ByteSwap(size) => Some(Encoder::ByteSwap(*size)),
            Codec::Blosc => Some(Encoder::Blosc(self.encoder.clone())),
            Codec::Shuffle(_)
            | Codec::Zlib
            | Codec::Gzip
            | Codec::Zstd
            | Codec::Lz4
            | Codec::Fletcher32
            | Codec::Crc32c => None,
        });
        EncodePipeline(steps.collect())
    }

    /// Prepares it for `shape`, which is nowhere shorter than the old one.
    ///
    /// # Errors
    /// `Invalid` if it is shorter or has another rank; `Exhausted` if it has too many chunks; `Unsupported` if the
    /// metadata cannot be changed.
    pub fn grow(&self, shape: Vec<u64>) -> Result<Growth<'_>> {
        let old = self.cut.grid.shape();
        if shape.len() != old.len() || shape.iter().zip(old).any(|(new, old)| new < old) {
            return Err(Error::Invalid(format!(
                "an array of shape {old:?} cannot grow to {shape:?}"
            )))
            .within(|| self.place());
        }
        let cut = Cut {
            grid: ChunkGrid::new(shape, self.cut.grid.chunk_shape().to_vec())?,
            ..self.cut.clone()
        };
        let shell = Shell::grown(&self.head, &self.trailer, &self.layer, &cut);
        Ok(Growth {
            old: self,
            shell: shell.within(|| self.place())?,
            cut,
        })
    }

    fn place(&self) -> String {
        place(&self.store, self.sparse.as_deref().unwrap_or(&self.key))
    }
}

impl<'a> Growth<'a> {
    /// The grid of the longer array; chunks have the numbers that it gives them.
    #[must_use]
    pub fn grid(&self) -> &ChunkGrid {
        &self.cut.grid
    }

    /// Writes the whole frame of the longer array to `new`, from `old`, the bytes of the present one.
    ///
    /// `chunk` gives the encoded chunk with a number of [`Growth::grid`], asked in ascending order, or nothing if the
    /// chunk stays as it is: one that was not there before is then made of zeros.
    ///
    /// Nothing is synced or renamed.
    ///
    /// # Errors
    /// What `chunk` fails with; `Invalid` if it gives no chunk of this array or none where new cells begin within an
    /// old one, or the frame is a sparse one; `Conflict` if `old` is shorter than it was; `Io`.
    pub fn write<W: Write + Seek>(
        &self,
        old: &mut (impl Read + Seek),
        new: W,
        chunk: &mut dyn FnMut(u64) -> Result<Option<Bytes>>,
    ) -> Result<W> {
        self.write_all(old, new, chunk).within(|| self.old.place())
    }

    /// Begins the longer array of a sparse frame.
    ///
    /// # Errors
    /// `Invalid` if the frame is a contiguous one; `Exhausted` if there are no more names for chunk files; `Io` if the
    /// directory cannot be listed.
    pub async fn sparse(self) -> Result<SparseGrowth<'a>> {
        let Some(directory) = self.old.directory() else {
            return Err(Error::Invalid("it is a contiguous frame".into()))
                .within(|| self.old.place());
        };
        // Chunk files are never written over, nor are those that an interrupted append has left.
        let entries = self.old.store.list(directory).await?;
        let numbers = entries.iter().filter_map(|entry| {
            let name = entry.key.rsplit('/').next()?.strip_suffix(".chunk")?;
            u64::from_str_radix(name, 16).ok()
        });
        let next = numbers.max().map_or(0, |last| last.saturating_add(1));
        let count = self.cut.grid.len();
        let mut places = Vec::new();
        for number in 0..count {
            places.push(match self.kept(number) {
                Some(stored) => Some(stored.offset),
                None if self.is_cut(number) => None,
                None => Some(ZEROS),
            });
        }
        Ok(SparseGrowth {
            growth: self,
            next,
            places,
            added: HashSet::new(),
            cbytes: 0,
        })
    }

    fn write_all<W: Write + Seek>(
        &self,
        old: &mut (impl Read + Seek),
        new: W,
        chunk: &mut dyn FnMut(u64) -> Result<Option<Bytes>>,
    ) -> Result<W> {
        if self.old.sparse.is_some() {
            return Err(Error::Invalid("it is a sparse frame".into()));
        }
        let mut writer = FrameWriter::begin(new, self.shell.clone(), self.cut.clone())?;
        // Chunks that follow each other in both files are copied at once.
        let mut run = Run::default();
        for number in 0..self.cut.grid.len() {
            let given = chunk(number)?;
            let kept = self.kept(number);
            match (&given, kept) {
                (
                    None,
                    Some(Stored {
                        range: Some(range), ..
                    }),
                ) => {
                    if !run.take(range) {
                        run.flush(old, &mut writer)?;
                        run.take(range);
                    }
                    continue;
                }
                (None, None) if self.is_cut(number) => return Err(missing(number)),
                (None, _) | (Some(_), _) => run.flush(old, &mut writer)?,
            }
            match (given, kept) {
                (Some(chunk), _) => writer.push(&chunk)?,
                (None, Some(stored)) => writer.push_mark(stored.offset)?,
                (None, None) => writer.push_mark(ZEROS)?,
            }
        }
        run.flush(old, &mut writer)?;
        writer.finish()
    }

    /// The old chunk at the place of a new one, if all cells of the new one were there.
    fn kept(&self, number: u64) -> Option<&'a Stored> {
        let number = self.old_number(number).filter(|_| !self.is_cut(number))?;
        self.old.chunks.get(usize::try_from(number).ok()?)
    }

    /// Whether a chunk has some cells that were there and some that were not.
    fn is_cut(&self, number: u64) -> bool {
        let (old, new) = (&self.old.cut.grid, &self.cut.grid);
        if self.old_number(number).is_none() {
            return false;
        }
        let extents = old.shape().iter().zip(new.shape()).zip(new.chunk_shape());
        let coord = new.coord(number);
        coord.iter().zip(extents).any(|(at, ((old, new), chunk))| {
            let end = (at + 1) * chunk;
            end.min(*old) < end.min(*new)
        })
    }

    /// The number that a chunk had.
    fn old_number(&self, number: u64) -> Option<u64> {
        let old = &self.old.cut.grid;
        let coord = self.cut.grid.coord(number);
        let inside = coord.iter().zip(old.counts()).all(|(at, count)| at < count);
        inside.then(|| old.number(&coord))
    }
}

/// The longer array of a sparse frame, whose chunks are files of their own.
///
/// No file is changed: the old index goes on saying where the old chunks are until the new one takes its place.
#[derive(Debug)]
pub struct SparseGrowth<'a> {
    growth: Growth<'a>,
    /// The number of the next chunk file.
    next: u64,
    /// Where each chunk is; nothing for one that has to be added.
    places: Vec<Option<i64>>,
    /// Chunks that were added, and their bytes.
    added: HashSet<u64>,
    cbytes: u64,
}

/// What is left to do for a sparse frame after its new chunk files are written.
#[derive(Clone, Debug)]
pub struct SparseIndex {
    /// The key of the index.
    pub key: String,
    /// Its new content.
    pub content: Vec<u8>,
    /// The keys of chunk files that nothing refers to once the new index is in place.
    pub obsolete: Vec<String>,
}

impl SparseGrowth<'_> {
    /// The grid of the longer array.
    #[must_use]
    pub fn grid(&self) -> &ChunkGrid {
        self.growth.grid()
    }

    /// Takes a new or changed chunk, in any order; returns the key of the file to be written with its bytes, or nothing
    /// if it is one of zeros, which needs none.
    ///
    /// # Errors
    /// `Invalid` if it is no chunk of this array, or was added before; `Exhausted` if there are no more names.
    pub fn add(&mut self, number: u64, chunk: &[u8]) -> Result<Option<String>> {
        let within = || format!("chunk {number}");
        let slot = usize::try_from(number).ok();
        let slot = slot.and_then(|number| self.places.get_mut(number));
        let slot = slot
            .ok_or_else(|| Error::Invalid("the array has no such chunk".into()))
            .within(within)?;
        let content = check(chunk, &self.growth.cut).within(within)?;
        if !self.added.insert(number) {
            return Err(Error::Invalid("it was added before".into())).within(within);
        }
        if content == Content::Zeros {
            *slot = Some(ZEROS);
            return Ok(None);
        }
        // Names have eight digits.
        let file = u32::try_from(self.next)
            .map_err(|_| Error::Exhausted("there are no more names for chunk files".into()))?;
        *slot = Some(i64::from(file));
        self.next += 1;
        self.cbytes += chunk.len() as u64;
        let directory = self.growth.old.directory().unwrap_or_default();
        Ok(Some(chunk_file(directory, u64::from(file))))
    }

    /// Makes the new index.
    ///
    /// # Errors
    /// `Invalid` if a chunk was not added in which new cells begin within an old one; `Io` if the size of an old chunk
    /// cannot be found out.
    pub async fn finish(mut self) -> Result<SparseIndex> {
        let old = self.growth.old;
        let directory = old.directory().unwrap_or_default();
        let mut offsets = Vec::with_capacity(self.places.len());
        for (number, place) in (0..).zip(&self.places) {
            let missing = || missing(number).within(old.place());
            offsets.push(place.ok_or_else(missing)?);
        }
        let replaced = (0..self.growth.cut.grid.len())
            .filter(|number| self.added.contains(number))
            .filter_map(|number| {
                let number = usize::try_from(self.growth.old_number(number)?).ok()?;
                u64::try_from(old.chunks.get(number)?.offset).ok()
            });
        let obsolete: Vec<String> = replaced.map(|file| chunk_file(directory, file)).collect();
        let sizes: Vec<u64> = futures::stream::iter(obsolete.clone())
            .map(|key| async move { old.store.size(&key).await })
            .buffered(CONCURRENT)
            .try_collect()
            .await?;
        let gone: u64 = sizes.iter().sum();
        let cbytes = old.cbytes.saturating_sub(gone).saturating_add(self.cbytes);
        let shell = &mut self.growth.shell;
        let end = shell.close(&self.growth.cut, &offsets, cbytes, 0)?;
        let mut content = shell.head.clone();
        content.extend(end);
        Ok(SparseIndex {
            key: old.key.clone(),
            content,
            obsolete,
        })
    }
}

/// Chunks that stand one after the other in the old frame.
#[derive(Debug, Default)]
struct Run {
    start: u64,
    end: u64,
    lengths: Vec<u64>,
}

impl Run {
    /// Whether a chunk at `range` is the next one of this run: then it is.
    fn take(&mut self, range: &Range<u64>) -> bool {
        if self.lengths.is_empty() {
            self.start = range.start;
        } else if self.end != range.start {
            return false;
        }
        self.end = range.end;
        self.lengths.push(range.end.saturating_sub(range.start));
        true
    }

    fn flush<W: Write + Seek>(
        &mut self,
        old: &mut (impl Read + Seek),
        writer: &mut FrameWriter<W>,
    ) -> Result<()> {
        if !self.lengths.is_empty() {
            writer.push_copies(old, self.start, &self.lengths)?;
            self.lengths.clear();
        }
        Ok(())
    }
}

fn missing(number: u64) -> Error {
    Error::Invalid(format!("chunk {number} gets longer, but was not given"))
}

#[cfg(test)]
mod tests;
