//! Chunks to slabs: decodes each chunk of a plan into reused buffers and crops it to the selection.

mod plain;

use std::sync::Arc;

use arrow::buffer::{Buffer, MutableBuffer};

use crate::array::Layout;
use crate::array::chunk::{ChunkAddress, ElementOrder};
use crate::array::hyperslab::Selection;
use crate::array::slab::{
    Crop, Run, Slab, SlabData, copy_cells, fill_cells, runs_by_chunk, strides,
};
use crate::codec::Scratch;
use crate::error::{Error, Result, Within};
use crate::read::encoded::{Encoded, Needed, Part, Stored};
use crate::read::{Fetched, ReadPlan};
use crate::store::Store;

use plain::Place;

/// What reading has cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Chunks that were fetched and decoded.
    pub chunks_read: usize,
    /// Chunks that were never written and stand for their fill value.
    pub chunks_missing: usize,
    /// Stored bytes that were read.
    pub bytes_read: usize,
    /// Bytes that came out of the codecs (of uncompressed data: that were copied).
    pub bytes_decoded: usize,
}

/// Buffers that are kept from chunk to chunk and slab to slab, and the count of what they were used for.
///
/// Allocating and freeing megabytes a chunk costs more than decoding them: the page faults dominate.
#[derive(Debug, Default)]
pub struct Buffers {
    /// What has been read through these buffers.
    pub counters: Counters,
    pub(super) encoded: Vec<u8>,
    chunk: Vec<u8>,
    pub(super) span: Vec<u8>,
    pub(super) scratch: Scratch,
    slabs: Vec<MutableBuffer>,
}

impl Buffers {
    /// Takes the memory of a slab back that nobody else refers to any more.
    pub fn recycle(&mut self, slab: Slab) {
        if let SlabData::Fixed(buffer) = slab.data
            && let Ok(buffer) = buffer.into_mutable()
            && self.slabs.len() < 8
        {
            self.slabs.push(buffer);
        }
    }

    fn slab(&mut self, length: usize) -> MutableBuffer {
        match self.slabs.pop() {
            Some(mut buffer) if buffer.capacity() >= length => {
                buffer.resize(length, 0);
                buffer
            }
            _ => MutableBuffer::from_len_zeroed(length),
        }
    }
}

/// A buffer of exactly `length` bytes whose content does not matter.
pub(super) fn sized(buffer: &mut Vec<u8>, length: usize) -> &mut [u8] {
    if buffer.len() < length {
        // Fresh zeroed pages are not touched before they are needed; growing in place would touch all of them. Some room
        // is left, since encoded chunks differ in size and each growth costs new pages.
        *buffer = vec![0; length + length / 4];
    }
    &mut buffer[..length]
}

pub(super) fn slab(
    store: &Store,
    plan: &ReadPlan,
    fetched: &Fetched,
    buffers: &mut Buffers,
) -> Result<Slab> {
    let cells = usize::try_from(plan.selection.cells())
        .map_err(|_| Error::Exhausted("the selection has too many cells".into()))?;
    let job = Job::new(&plan.layout, &plan.selection)?;
    let data = match plan.layout.element.size() {
        None => SlabData::Text(job.text(store, plan, fetched, buffers, cells)?),
        Some(size) => {
            let length = cells
                .checked_mul(size)
                .ok_or_else(|| Error::Exhausted("the selection has too many cells".into()))?;
            SlabData::Fixed(job.fixed(store, plan, fetched, buffers, length)?)
        }
    };
    Ok(Slab {
        element: plan.layout.element,
        cells,
        data,
    })
}

/// Who takes the cells of decoded chunks.
pub(super) trait Sink {
    /// Memory that all cells of a chunk or block of this shape are decoded into, in C order, if all are wanted there.
    fn target(&mut self, crop: &Crop, shape: &[usize]) -> Option<&mut [u8]>;

    /// Takes the cells of `crop` from `cells`, which has these strides (in elements).
    fn cells(&mut self, cells: &[u8], strides: &[usize], crop: &Crop) -> Result<()>;

    /// Takes cells that were never written: each is `element`; empty stands for zero bytes.
    fn fill(&mut self, element: &[u8], crop: &Crop) -> Result<()>;
}

/// Brings cells into a slab.
struct SlabSink<'a> {
    slab: &'a mut [u8],
    strides: &'a [usize],
    size: usize,
}

impl Sink for SlabSink<'_> {
    fn target(&mut self, crop: &Crop, shape: &[usize]) -> Option<&mut [u8]> {
        let cells = crop.in_one_piece(shape, self.strides)?;
        let (start, end) = (cells.start * self.size, cells.end * self.size);
        self.slab.get_mut(start..end)
    }

    fn cells(&mut self, cells: &[u8], strides: &[usize], crop: &Crop) -> Result<()> {
        copy_cells(cells, strides, self.slab, self.strides, crop, self.size)
    }

    fn fill(&mut self, element: &[u8], crop: &Crop) -> Result<()> {
        fill_cells(element, self.slab, self.strides, crop, self.size)
    }
}

/// A selection of an array with the geometry that all of its chunks share.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) layout: Arc<Layout>,
    /// Extent of a chunk in cells.
    chunk: Vec<usize>,
    /// Strides of the slab, of a decoded chunk in its stored order.
    pub(super) to: Vec<usize>,
    pub(super) from: Vec<usize>,
    /// For each dimension, the touched chunks and their runs.
    runs: Vec<Vec<(u64, Vec<Run>)>>,
    /// Cells of a decoded chunk, padding included.
    chunk_cells: usize,
}

impl Job {
    pub(super) fn new(layout: &Arc<Layout>, selection: &Selection) -> Result<Self> {
        let too_large = || Error::Exhausted("a chunk has too many cells".into());
        let to_usize = |extents: &[u64]| -> Result<Vec<usize>> {
            extents
                .iter()
                .map(|extent| usize::try_from(*extent).map_err(|_| too_large()))
                .collect()
        };
        let chunk = to_usize(layout.grid.chunk_shape())?;
        let shape: Vec<u64> = selection.dims.iter().map(|dim| dim.count()).collect();
        let shape = to_usize(&shape)?;
        if shape.len() != chunk.len() {
            return Err(Error::Invalid(format!(
                "a selection of {} dimensions does not fit an array of {}",
                shape.len(),
                chunk.len()
            )));
        }
        let (from, chunk_cells) = stored_geometry(&layout.order, &chunk)?;
        Ok(Self {
            layout: Arc::clone(layout),
            to: strides(&shape),
            from,
            runs: selection
                .dims
                .iter()
                .zip(layout.grid.chunk_shape())
                .map(|(dim, extent)| runs_by_chunk(dim, *extent))
                .collect(),
            chunk,
            chunk_cells,
        })
    }

    pub(super) fn crop(&self, number: u64) -> Result<Crop> {
        let coord = self.layout.grid.coord(number);
        self.runs
            .iter()
            .zip(coord)
            .map(|(chunks, at)| {
                chunks
                    .binary_search_by_key(&at, |(chunk, _)| *chunk)
                    .ok()
                    .and_then(|found| chunks.get(found))
                    .map(|(_, runs)| runs.clone())
                    .ok_or_else(|| {
                        Error::Invalid(format!("chunk {number} is not part of the selection"))
                    })
            })
            .collect::<Result<_>>()
            .map(Crop)
    }

    pub(super) fn place(&self, number: u64) -> String {
        format!("chunk {:?}", self.layout.grid.coord(number))
    }

    fn fixed(
        &self,
        store: &Store,
        plan: &ReadPlan,
        fetched: &Fetched,
        buffers: &mut Buffers,
        length: usize,
    ) -> Result<Buffer> {
        let mut slab = buffers.slab(length);
        let mut sink = SlabSink {
            slab: &mut slab,
            strides: &self.to,
            size: self.size()?,
        };
        for (at, (number, address)) in plan.chunks.iter().enumerate() {
            let bytes = stored(fetched, at);
            self.visit(store, (*number, address), bytes, buffers, &mut sink)?;
        }
        Ok(slab.into())
    }

    /// Size of an element in bytes.
    fn size(&self) -> Result<usize> {
        self.layout
            .element
            .size()
            .ok_or_else(|| Error::Invalid("its elements have no fixed size".into()))
    }

    /// Decodes one chunk and hands its selected cells to `sink`.
    pub(super) fn visit(
        &self,
        store: &Store,
        (number, address): (u64, &ChunkAddress),
        fetched: Option<Stored<'_>>,
        buffers: &mut Buffers,
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let part = Part {
            address,
            fetched,
            crop: self.crop(number)?,
        };
        self.chunk(store, &part, sink, buffers)
            .within(|| self.place(number))
    }

    fn chunk(
        &self,
        store: &Store,
        part: &Part<'_>,
        sink: &mut dyn Sink,
        buffers: &mut Buffers,
    ) -> Result<()> {
        let size = self.size()?;
        let decoded_length = self
            .chunk_cells
            .checked_mul(size)
            .ok_or_else(|| Error::Exhausted("the chunk has too many cells".into()))?;
        if let ChunkAddress::Inline(bytes) = part.address {
            buffers.counters.chunks_read += 1;
            return self.stored(bytes, &part.crop, sink);
        }
        if self.is_plain() && part.fetched.is_none() {
            match part.address {
                ChunkAddress::Range {
                    object,
                    offset,
                    length,
                    ..
                } => {
                    if *length < decoded_length as u64 {
                        return Err(wrong_length(*length, decoded_length));
                    }
                    let place = Place::Range(store, object, *offset);
                    return self.plain(&place, &part.crop, sink, buffers);
                }
                ChunkAddress::Object(object) if store.is_local() => {
                    let Some((file, length)) = store.file_of(object)? else {
                        buffers.counters.chunks_missing += 1;
                        return sink.fill(&self.layout.fill, &part.crop);
                    };
                    if length != decoded_length as u64 {
                        return Err(wrong_length(length, decoded_length));
                    }
                    let place = Place::File(store, object, file);
                    return self.plain(&place, &part.crop, sink, buffers);
                }
                _ => {}
            }
        }
        let Buffers {
            counters,
            encoded,
            chunk,
            scratch,
            ..
        } = buffers;
        let pipeline = &self.layout.pipeline;
        let blocks = self.touched(part.skipped(), &part.crop)?;
        let needed = blocks.as_ref().map(|blocks| blocks.needed());
        let Some(Stored { bytes, read }) = part.encoded(store, needed.as_ref(), encoded)? else {
            counters.chunks_missing += 1;
            return sink.fill(&self.layout.fill, &part.crop);
        };
        counters.chunks_read += 1;
        counters.bytes_read += read;
        if let Some(touched) = blocks
            && let Some(blocks) = pipeline.blocks(bytes, part.skipped())?
        {
            let length = size * touched.cells;
            if blocks.block_size() != length.min(blocks.nbytes())
                || blocks.nbytes() != decoded_length
            {
                return Err(Error::Corrupt(format!(
                    "its blocks of {} in {} bytes do not have the block shape of the array",
                    blocks.block_size(),
                    blocks.nbytes()
                )));
            }
            for (number, crop) in touched.blocks {
                counters.bytes_decoded += length;
                if let Some(target) = sink.target(&crop, &touched.shape) {
                    blocks.decode_block(number, target, scratch)?;
                    continue;
                }
                let decoded = sized(chunk, length);
                blocks.decode_block(number, decoded, scratch)?;
                sink.cells(decoded, &touched.strides, &crop)?;
            }
            return Ok(());
        }
        counters.bytes_decoded += decoded_length;
        if pipeline.0.is_empty() {
            if bytes.len() != decoded_length {
                return Err(wrong_length(bytes.len() as u64, decoded_length));
            }
            return self.stored(bytes, &part.crop, sink);
        }
        if self.layout.order == ElementOrder::C
            && let Some(target) = sink.target(&part.crop, &self.chunk)
        {
            return pipeline.decode(bytes, part.skipped(), target, scratch);
        }
        let decoded = sized(chunk, decoded_length);
        pipeline.decode(bytes, part.skipped(), decoded, scratch)?;
        self.stored(decoded, &part.crop, sink)
    }

    /// Hands over the cells of a decoded chunk.
    fn stored(&self, chunk: &[u8], crop: &Crop, sink: &mut dyn Sink) -> Result<()> {
        let ElementOrder::Blocked(block) = &self.layout.order else {
            return sink.cells(chunk, &self.from, crop);
        };
        let length = self.size()? * self.block_cells(block)?;
        let strides = strides(&block_shape(block));
        for (number, crop) in self.blocks_of(block, crop)? {
            let decoded = chunk
                .get(number * length..(number + 1) * length)
                .ok_or_else(|| Error::Corrupt("it has fewer blocks than its shape says".into()))?;
            sink.cells(decoded, &strides, &crop)?;
        }
        Ok(())
    }

    /// What the blocks of a chunk are that hold a selected cell, where blocks are decoded one by one.
    pub(super) fn touched(&self, skipped: u32, crop: &Crop) -> Result<Option<Touched>> {
        let ElementOrder::Blocked(block) = &self.layout.order else {
            return Ok(None);
        };
        if !self.layout.pipeline.has_blocks(skipped) {
            return Ok(None);
        }
        let cells = self.block_cells(block)?;
        let shape = block_shape(block);
        Ok(Some(Touched {
            cells,
            of: self.chunk_cells.div_ceil(cells.max(1)),
            strides: strides(&shape),
            shape,
            blocks: self.blocks_of(block, crop)?,
        }))
    }

    fn block_cells(&self, block: &[u64]) -> Result<usize> {
        usize::try_from(block.iter().product::<u64>())
            .map_err(|_| Error::Exhausted("a block has too many cells".into()))
    }

    /// The blocks of a chunk that hold a selected cell: number in C order, and the part of the crop in it.
    fn blocks_of(&self, block: &[u64], crop: &Crop) -> Result<Vec<(usize, Crop)>> {
        let mut numbers = vec![(0usize, Vec::new())];
        for ((extent, block), runs) in self.chunk.iter().zip(block).zip(&crop.0) {
            let block = usize::try_from(*block)
                .map_err(|_| Error::Exhausted("a block has too many cells".into()))?;
            let mut touched: Vec<usize> = runs
                .iter()
                .flat_map(|run| run.from / block..(run.from + run.length).div_ceil(block))
                .collect();
            touched.dedup();
            let count = extent.div_ceil(block);
            numbers = numbers
                .into_iter()
                .flat_map(|(number, place)| {
                    touched.iter().map(move |at| {
                        let mut place: Vec<_> = place.clone();
                        place.push(at * block..(at + 1) * block);
                        (number * count + at, place)
                    })
                })
                .collect();
        }
        Ok(numbers
            .into_iter()
            .filter_map(|(number, place)| crop.within(&place).map(|crop| (number, crop)))
            .collect())
    }
}

/// Stored bytes of a chunk are fewer, or more, than its cells need.
fn wrong_length(length: u64, needed: usize) -> Error {
    Error::Corrupt(format!("it has {length} bytes where {needed} are needed"))
}

/// The blocks of a chunk that hold a selected cell.
pub(super) struct Touched {
    /// Cells of a block, its extent, and the strides of its cells.
    cells: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
    /// How many blocks the chunk has.
    of: usize,
    /// Their numbers, and the part of the crop in each.
    blocks: Vec<(usize, Crop)>,
}

impl Touched {
    pub(super) fn needed(&self) -> Needed {
        Needed {
            blocks: self.blocks.iter().map(|(number, _)| *number).collect(),
            of: self.of,
        }
    }
}

/// The bytes of a chunk that was fetched.
pub(super) fn stored(fetched: &Fetched, at: usize) -> Option<Stored<'_>> {
    let encoded = fetched.get(at).and_then(Option::as_ref);
    encoded.map(Encoded::stored)
}

/// Extent of a block in cells.
fn block_shape(block: &[u64]) -> Vec<usize> {
    block
        .iter()
        .map(|extent| usize::try_from(*extent).unwrap_or(usize::MAX))
        .collect()
}

/// Strides of each array dimension within a decoded chunk, and its number of cells with padding.
fn stored_geometry(order: &ElementOrder, chunk: &[usize]) -> Result<(Vec<usize>, usize)> {
    let cells = |extents: &[usize]| {
        extents
            .iter()
            .try_fold(1usize, |product, extent| product.checked_mul(*extent))
            .ok_or_else(|| Error::Exhausted("a chunk has too many cells".into()))
    };
    match order {
        ElementOrder::C => Ok((strides(chunk), cells(chunk)?)),
        ElementOrder::Permuted(axes) => {
            let mut seen = vec![false; chunk.len()];
            let mut stored = Vec::with_capacity(chunk.len());
            for axis in axes {
                match (chunk.get(*axis), seen.get_mut(*axis)) {
                    (Some(extent), Some(seen)) if !*seen => {
                        *seen = true;
                        stored.push(*extent);
                    }
                    _ => break,
                }
            }
            if stored.len() != chunk.len() {
                return Err(Error::Corrupt(format!(
                    "{axes:?} is not an order of {} dimensions",
                    chunk.len()
                )));
            }
            let mut from = vec![0; chunk.len()];
            for (axis, stride) in axes.iter().zip(strides(&stored)) {
                if let Some(slot) = from.get_mut(*axis) {
                    *slot = stride;
                }
            }
            Ok((from, cells(chunk)?))
        }
        ElementOrder::Blocked(block) => {
            let mut padded = Vec::with_capacity(chunk.len());
            for (extent, block) in chunk.iter().zip(block) {
                let block = usize::try_from(*block).ok().filter(|block| *block > 0);
                let padded_extent =
                    block.and_then(|block| extent.div_ceil(block).checked_mul(block));
                padded.push(
                    padded_extent.ok_or_else(|| {
                        Error::Corrupt("a block shape cannot be addressed".into())
                    })?,
                );
            }
            Ok((Vec::new(), cells(&padded)?))
        }
    }
}
