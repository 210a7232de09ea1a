//! New Blosc2 arrays, written chunk by chunk.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom, Write};

use rmpv::Value;

use crate::array::chunk::ChunkGrid;
use crate::array::dtype::ElementType;
use crate::codec::blosc::Chunk;
use crate::codec::blosc::encode::{BloscCompressor, BloscEncoder, BloscShuffle, BloscVersion};
use crate::error::{Error, Result, Within};
use crate::format::blosc2::meta::{dtype, padded_bytes};
use crate::format::blosc2::shell::{Cut, Shell, ZEROS};

/// The largest block that is chosen: with what it is compressed to, it fits the cache of a core.
const BLOCK_BYTES: u64 = 256 << 10;

/// An array to be made.
#[derive(Clone, Debug)]
pub struct NewArray {
    /// Its shape and chunks.
    pub grid: ChunkGrid,
    /// Extent of a block, in cells.
    pub block: Vec<u64>,
    /// What its elements are.
    pub element: ElementType,
    /// What its chunks are compressed with.
    pub compressor: BloscCompressor,
    /// With how much effort, 0 to 9.
    pub level: u8,
    /// After which filter.
    pub shuffle: BloscShuffle,
    /// Its attributes, among them `_ARRAY_DIMENSIONS`, a list of names.
    pub attributes: Vec<(String, Value)>,
}

impl NewArray {
    /// How a chunk is encoded, after [`crate::format::blosc2::blocks::cut`].
    ///
    /// # Errors
    /// `Unsupported` if there are no such arrays, `Invalid` if a block does not fit its chunk or either is too large.
    pub fn encoder(&self) -> Result<BloscEncoder> {
        let cut = self.cut()?;
        if self.level > 9 {
            let level = self.level;
            return Err(Error::Invalid(format!("Blosc2 has no level {level}")));
        }
        let too_large = |_| Error::Invalid("the blocks have more bytes than can be counted".into());
        Ok(BloscEncoder {
            compressor: self.compressor,
            level: self.level,
            shuffle: self.shuffle,
            typesize: u32::try_from(cut.item).map_err(too_large)?,
            blocksize: u32::try_from(cut.block_bytes()?).map_err(too_large)?,
            version: BloscVersion::Blosc2,
        })
    }

    fn shell(&self, cut: &Cut) -> Result<Shell> {
        let dtype = dtype(self.element).ok_or_else(|| unwritable(self.element))?;
        Shell::new(cut, &dtype, &self.encoder()?, &self.attributes)
    }

    fn cut(&self) -> Result<Cut> {
        let Some(item) = self.element.size() else {
            return Err(unwritable(self.element));
        };
        let chunk = self.grid.chunk_shape();
        let fits = |(block, chunk): (&u64, &u64)| (1..=*chunk).contains(block);
        if self.block.len() != chunk.len() || !self.block.iter().zip(chunk).all(fits) {
            return Err(Error::Invalid(format!(
                "blocks of {:?} do not divide chunks of {chunk:?}",
                self.block
            )));
        }
        Ok(Cut {
            grid: self.grid.clone(),
            block: self.block.clone(),
            item: item as u64,
            chunk_bytes: padded_bytes(chunk, &self.block, item as u64)
                .map_err(|error| Error::Invalid(error.to_string()))?,
        })
    }
}

/// Blocks for chunks of this extent: the largest that fit the cache of a core, cut along the first dimensions.
#[must_use]
pub fn block_shape(chunk: &[u64], element: ElementType) -> Vec<u64> {
    let item = element.size().unwrap_or(1) as u64;
    let mut block = chunk.to_vec();
    for axis in 0..block.len() {
        let below: u64 = block
            .iter()
            .skip(axis + 1)
            .fold(item, |bytes, extent| bytes.saturating_mul(*extent));
        if let Some(extent) = block.get_mut(axis) {
            let most = (BLOCK_BYTES / below.max(1)).clamp(1, (*extent).max(1));
            // Of equal size as far as possible, so that little is padding.
            *extent = extent.div_ceil(extent.div_ceil(most).max(1)).max(1);
        }
    }
    block
}

/// A new contiguous frame, whose chunks come in any order, and whose shape is known in the end.
///
/// ```text
/// begin ── header with room for the sizes │ put ── chunk │ put ── chunk │ finish ── index │ trailer; sizes
/// ```
///
/// Nothing is a frame before [`NewFrame::finish`] has returned.
#[derive(Debug)]
pub struct NewFrame {
    array: NewArray,
    cut: Cut,
    /// Bytes of the header.
    head: u64,
    /// Where each chunk is, by its place in the grid.
    places: HashMap<Vec<u64>, i64>,
    /// Bytes of the chunks so far, with those that others have replaced.
    cbytes: u64,
}

impl NewFrame {
    /// The frame of an array. Its shape may still change, but not its rank.
    ///
    /// # Errors
    /// Those of [`NewArray::encoder`], `Invalid` for an attribute that no frame can have, `Exhausted` for too many
    /// chunks.
    pub fn begin(array: NewArray) -> Result<Self> {
        let cut = array.cut()?;
        let head = array.shell(&cut)?.head.len() as u64;
        Ok(Self {
            array,
            cut,
            head,
            places: HashMap::new(),
            cbytes: 0,
        })
    }

    /// What it is of.
    #[must_use]
    pub fn array(&self) -> &NewArray {
        &self.array
    }

    /// Writes the chunk at this place of the grid, a Blosc 2 chunk, to `out`, the frame so far; one that was there before
    /// is forgotten.
    ///
    /// # Errors
    /// `Invalid` if the chunk is none of this array, `Io` if the output fails.
    pub fn put(
        &mut self,
        out: &mut (impl Write + Seek),
        coord: &[u64],
        chunk: &[u8],
    ) -> Result<()> {
        let at = self.write(out, chunk);
        let at = at.within(|| format!("chunk {coord:?}"))?;
        self.places.insert(coord.to_vec(), at);
        Ok(())
    }

    /// Writes what is around the chunks, of an array of `shape`; places to which no chunk was put hold the chunk that
    /// `unwritten` gives, or zeros. The output is not synced.
    ///
    /// # Errors
    /// What `unwritten` fails with, `Invalid` if there can be no such array, `Io` if the output fails.
    pub fn finish(
        &mut self,
        mut out: impl Write + Seek,
        shape: Vec<u64>,
        unwritten: impl FnOnce() -> Result<Option<Vec<u8>>>,
    ) -> Result<()> {
        let grid = ChunkGrid::new(shape, self.array.grid.chunk_shape().to_vec())?;
        self.array.grid = grid.clone();
        let cut = self.array.cut()?;
        let shell = self.array.shell(&cut)?;
        if shell.head.len() as u64 != self.head {
            return Err(Error::Invalid(format!(
                "an array of {} dimensions cannot get the shape {:?}",
                self.cut.grid.shape().len(),
                grid.shape()
            )));
        }
        let mut offsets = Vec::new();
        let (mut unwritten, mut elsewhere) = (Some(unwritten), ZEROS);
        for number in 0..grid.len() {
            if let Some(at) = self.places.get(&grid.coord(number)) {
                offsets.push(*at);
                continue;
            }
            if let Some(unwritten) = unwritten.take()
                && let Some(chunk) = unwritten()?
            {
                // All of those places share one chunk.
                elsewhere = self.write(&mut out, &chunk)?;
            }
            offsets.push(elsewhere);
        }
        out.seek(SeekFrom::Start(self.end()?)).map_err(failed)?;
        let writer = FrameWriter {
            out,
            shell,
            cut,
            offsets,
            cbytes: self.cbytes,
        };
        writer.finish().map(drop)
    }

    /// Writes a chunk behind the others, and returns where it is.
    fn write(&mut self, out: &mut (impl Write + Seek), chunk: &[u8]) -> Result<i64> {
        if check(chunk, &self.cut)? == Content::Zeros {
            return Ok(ZEROS);
        }
        let at = i64::try_from(self.cbytes).map_err(|_| too_long())?;
        let cbytes = self.cbytes.checked_add(chunk.len() as u64);
        out.seek(SeekFrom::Start(self.end()?)).map_err(failed)?;
        out.write_all(chunk).map_err(failed)?;
        self.cbytes = cbytes.ok_or_else(too_long)?;
        Ok(at)
    }

    /// Where the chunks end.
    fn end(&self) -> Result<u64> {
        self.head.checked_add(self.cbytes).ok_or_else(too_long)
    }
}

/// Writes a contiguous frame whose chunks come in their order.
#[derive(Debug)]
pub(super) struct FrameWriter<W> {
    out: W,
    shell: Shell,
    cut: Cut,
    offsets: Vec<i64>,
    /// Bytes of the chunks so far.
    cbytes: u64,
}

impl<W: Write + Seek> FrameWriter<W> {
    /// Appends the next chunk of the grid: a Blosc 2 chunk.
    ///
    /// # Errors
    /// `Invalid` if the chunk is none of this array or there is no next one, `Io` if the output fails.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<()> {
        let number = self.next()?;
        if check(chunk, &self.cut).within(|| format!("chunk {number}"))? == Content::Zeros {
            self.offsets.push(ZEROS);
            return Ok(());
        }
        self.out.write_all(chunk).map_err(failed)?;
        self.place(chunk.len() as u64)
    }

    /// Writes what follows the chunks, and the sizes; returns the output, which is not synced.
    ///
    /// # Errors
    /// `Invalid` if chunks are missing, `Io` if the output fails.
    pub(super) fn finish(mut self) -> Result<W> {
        if self.offsets.len() as u64 != self.cut.grid.len() {
            return Err(Error::Invalid(format!(
                "{} of {} chunks were written",
                self.offsets.len(),
                self.cut.grid.len()
            )));
        }
        let (cut, cbytes) = (&self.cut, self.cbytes);
        let end = self.shell.close(cut, &self.offsets, cbytes, cbytes)?;
        self.out.write_all(&end).map_err(failed)?;
        self.out.seek(SeekFrom::Start(0)).map_err(failed)?;
        self.out.write_all(&self.shell.head).map_err(failed)?;
        self.out.flush().map_err(failed)?;
        Ok(self.out)
    }

    /// Begins a frame at the beginning of `out`.
    pub(super) fn begin(mut out: W, shell: Shell, cut: Cut) -> Result<Self> {
        out.write_all(&shell.head).map_err(failed)?;
        Ok(Self {
            out,
            shell,
            cut,
            offsets: Vec::new(),
            cbytes: 0,
        })
    }

    /// Appends a chunk of which nothing is stored.
    pub(super) fn push_mark(&mut self, mark: i64) -> Result<()> {
        self.next()?;
        self.offsets.push(mark);
        Ok(())
    }

    /// Appends chunks of these lengths as they stand one after the other from byte `start` of `old` on.
    pub(super) fn push_copies(
        &mut self,
        old: &mut (impl Read + Seek),
        start: u64,
        lengths: &[u64],
    ) -> Result<()> {
        for length in lengths {
            self.next()?;
            self.place(*length)?;
        }
        let total: u64 = lengths.iter().sum();
        old.seek(SeekFrom::Start(start)).map_err(unreadable)?;
        let copied = std::io::copy(&mut old.take(total), &mut self.out).map_err(unreadable)?;
        if copied != total {
            return Err(Error::Conflict(format!(
                "the old frame ends within its chunks: {copied} of {total} bytes from byte {start} on are there"
            )));
        }
        Ok(())
    }

    /// The number of the next chunk.
    fn next(&self) -> Result<usize> {
        let number = self.offsets.len();
        if number as u64 >= self.cut.grid.len() {
            return Err(Error::Invalid(format!(
                "the array has no chunk {number}: it has {}",
                self.cut.grid.len()
            )));
        }
        Ok(number)
    }

    /// Notes a chunk of this length at the end of the others.
    fn place(&mut self, length: u64) -> Result<()> {
        let at = i64::try_from(self.cbytes).map_err(|_| too_long())?;
        self.offsets.push(at);
        self.cbytes = self.cbytes.checked_add(length).ok_or_else(too_long)?;
        Ok(())
    }
}

/// What an encoded chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Zeros,
    Data,
}

/// Refuses what is no chunk of such an array.
pub(super) fn check(encoded: &[u8], cut: &Cut) -> Result<Content> {
    let chunk = Chunk::parse(encoded)?;
    let block = cut.block_bytes()?;
    let (nbytes, size) = (chunk.nbytes() as u64, chunk.block_size() as u64);
    if nbytes != cut.chunk_bytes || size != block {
        return Err(Error::Invalid(format!(
            "it has {nbytes} bytes in blocks of {size} instead of {} in blocks of {block}",
            cut.chunk_bytes
        )));
    }
    match chunk.repeated() {
        Some(value) if value.iter().all(|byte| *byte == 0) => Ok(Content::Zeros),
        Some(_) | None => Ok(Content::Data),
    }
}

fn unwritable(element: ElementType) -> Error {
    Error::Unsupported(format!(
        "Blosc2 arrays of {} cannot be written",
        element.name()
    ))
}

fn too_long() -> Error {
    Error::Invalid("the frame has more bytes than can be counted".into())
}

fn failed(error: std::io::Error) -> Error {
    Error::io("writing a Blosc2 frame", error)
}

fn unreadable(error: std::io::Error) -> Error {
    Error::io("copying chunks of a Blosc2 frame", error)
}
