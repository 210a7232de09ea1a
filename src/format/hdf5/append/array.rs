//! Datasets that grow: how cells become chunks, and what is patched for them to be found.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::output::Output;
use super::patch::{self, Patch};
use super::superblock::Superblock;
use super::{extensible, tree};
use crate::array::Variable;
use crate::array::chunk::ChunkAddress;
use crate::codec::Codec;
use crate::codec::encode::{EncodePipeline, Encoder};
use crate::error::{Error, Result};
use crate::format::hdf5::dataset::{IndexKind, Place, Stored};
use crate::format::hdf5::filters;
use crate::format::hdf5::header::{Header, kind};
use crate::format::hdf5::index::Span;
use crate::format::hdf5::numbering::{Counting, Numbering};
use crate::format::hdf5::storage::File;

/// A dataset of the file.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) path: String,
    /// For each axis, its place in the list of dimensions.
    pub(super) of: Vec<usize>,
    /// Extent as stored, which may be smaller than that of a netCDF dimension.
    pub(super) stored: Vec<u64>,
    /// How far each axis can grow.
    pub(super) most: Vec<Option<u64>>,
    /// Extent after the change.
    pub(super) extent: Vec<u64>,
    /// What cells hold that a dimension has and the dataset has not, where that is not what HDF5 fills with.
    pub(super) has_other_end: bool,
    /// `None` for the scale of a dimension that is no variable, or what cannot be read.
    pub(super) variable: Option<Arc<Variable>>,
    /// Whether it is the scale of a dimension and no variable, so that nobody looks at its cells.
    pub(super) is_bare: bool,
    pub(super) writer: Result<Arc<Writer>, String>,
    /// The chunks that were written.
    pub(super) written: BTreeMap<Vec<u64>, Span>,
}

/// How cells become chunks.
#[derive(Debug)]
pub(super) struct Writer {
    /// Extents of a chunk, with the dimensions within an element.
    pub(super) chunk: Vec<u64>,
    /// Dimensions of the dataset.
    pub(super) rank: usize,
    /// Bytes of an element.
    pub(super) size: usize,
    pub(super) fill: Vec<u8>,
    pub(super) pipeline: EncodePipeline,
    pub(super) is_filtered: bool,
    pub(super) index: Index,
}

/// How chunks are found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Index {
    /// By a version 1 B-tree, which may be made yet.
    Tree1(Option<u64>),
    /// By an extensible array, which may be made yet.
    Extensible(Option<u64>),
    /// There is but one cell, at this address.
    Cell(u64),
}

impl Array {
    pub(super) fn writer(&self) -> Result<Arc<Writer>> {
        match &self.writer {
            Ok(writer) => Ok(Arc::clone(writer)),
            Err(reason) => {
                let names = self.variable.as_ref().map(|v| v.dimensions.join(", "));
                let fixed = self.most.iter().all(Option::is_some);
                let fixed = match names {
                    Some(names) if fixed => {
                        format!("; none of its dimensions ({names}) is unlimited")
                    }
                    _ => String::new(),
                };
                Err(Error::Unsupported(format!(
                    "{}: {reason}{fixed}",
                    self.path
                )))
            }
        }
    }

    /// Where those of the chunks at `coords` are that are there already: place in the file and length.
    pub(super) async fn places(
        &self,
        coords: &[Vec<u64>],
    ) -> Result<HashMap<Vec<u64>, (u64, u64)>> {
        let Some(variable) = &self.variable else {
            return Ok(HashMap::new());
        };
        let grid = &variable.layout.grid;
        let is_inside = |coord: &&Vec<u64>| {
            let mut counts = coord.iter().zip(grid.counts());
            counts.all(|(at, count)| at < count)
        };
        let inside: Vec<&Vec<u64>> = coords.iter().filter(is_inside).collect();
        let numbers: Vec<u64> = inside.iter().map(|coord| grid.number(coord)).collect();
        let places = variable.index.locate(&numbers).await?;
        let place = |(coord, address): (&Vec<u64>, ChunkAddress)| match address {
            ChunkAddress::Range { offset, length, .. } => Some((coord.clone(), (offset, length))),
            ChunkAddress::Missing
            | ChunkAddress::Inline(_)
            | ChunkAddress::Encoded(_)
            | ChunkAddress::Foreign { .. }
            | ChunkAddress::Object(_) => None,
        };
        Ok(inside.into_iter().zip(places).filter_map(place).collect())
    }

    pub(super) fn is_changed(&self) -> bool {
        self.extent != self.stored || !self.written.is_empty()
    }

    /// Patches the header and the chunk index.
    pub(super) fn publish(
        &self,
        file: &File,
        address: u64,
        superblock: &Superblock,
        output: &mut Output,
    ) -> Result<()> {
        let patch = Patch::read(file, address)?;
        if !self.written.is_empty() {
            let writer = self.writer()?;
            let layout = patch.layout(file)?;
            let (before, index) = match writer.index {
                Index::Tree1(before) => {
                    let shape = tree::Shape {
                        children: superblock.children,
                        extents: layout.extents.clone(),
                    };
                    let puts = self.tree_puts(&writer)?;
                    (before, tree::insert(output, before, &shape, &puts)?)
                }
                Index::Extensible(before) => {
                    let mut parameters = layout.array.ok_or_else(|| {
                        Error::Corrupt("its header is damaged: it has no data layout".into())
                    })?;
                    parameters.length_width = writer.is_filtered.then(|| length_width(&layout));
                    let puts = self.array_puts(&writer)?;
                    let index = extensible::insert(output, before, parameters, &puts)?;
                    (before, index)
                }
                Index::Cell(_) => (None, None),
            };
            if let Some(index) = index.filter(|_| index != before) {
                patch.set_index(output, &layout, index)?;
            }
        }
        if self.extent != self.stored {
            patch.set_lengths(output, &self.extent)?;
        }
        patch.finish(output)
    }

    /// The written chunks by where they start.
    fn tree_puts(&self, writer: &Writer) -> Result<Vec<tree::Put>> {
        let start = |coord: &[u64]| {
            let starts = coord.iter().zip(&writer.chunk);
            starts.map(|(at, extent)| at.checked_mul(*extent)).collect()
        };
        let put = |(coord, span): (&Vec<u64>, &Span)| {
            let start: Option<Vec<u64>> = start(coord);
            Ok(tree::Put {
                start: start.ok_or_else(|| {
                    Error::Invalid("it would become longer than can be counted".into())
                })?,
                span: *span,
            })
        };
        self.written.iter().map(put).collect()
    }

    /// The written chunks by their numbers.
    fn array_puts(&self, writer: &Writer) -> Result<Vec<(u64, Span)>> {
        let numbering = Numbering {
            chunk: writer.chunk.get(..writer.rank).unwrap_or_default().to_vec(),
            counts: Vec::new(),
            extent: self.extent.clone(),
            most: self.most.clone(),
            bytes: 0,
        };
        let unlimited = self.most.iter().position(Option::is_none);
        let counting = Counting::new(&numbering, unlimited)?;
        let mut puts = Vec::with_capacity(self.written.len());
        for (coord, span) in &self.written {
            let number = counting.element(coord)?;
            let number = number
                .ok_or_else(|| Error::Invalid("it would become longer than it can".into()))?;
            puts.push((number, *span));
        }
        puts.sort_unstable_by_key(|(number, _)| *number);
        Ok(puts)
    }
}

impl Writer {
    pub(super) fn new(file: &File, address: u64, stored: &Stored, rank: usize) -> Result<Self> {
        let (chunk, index) = match &stored.place {
            Place::Chunked {
                plain_edges: true, ..
            } => {
                return Err(Error::Unsupported(
                    "it cannot be written, because its last chunks are not filtered".into(),
                ));
            }
            Place::Chunked {
                chunk,
                index,
                address,
                ..
            } => {
                let index = match index {
                    IndexKind::Tree1 => Index::Tree1(*address),
                    IndexKind::Extensible => Index::Extensible(*address),
                    IndexKind::Single(_)
                    | IndexKind::Implicit
                    | IndexKind::Fixed
                    | IndexKind::Tree2 => return Err(no_index(*index)),
                };
                (chunk.as_slice(), index)
            }
            Place::Contiguous(Some(cell)) if rank == 0 && stored.inner.is_empty() => {
                (&[] as &[u64], Index::Cell(*cell))
            }
            Place::Compact(_) => {
                return Err(Error::Unsupported(
                    "it cannot be written, because it is stored in its header (compact) and not in chunks".into(),
                ));
            }
            Place::Contiguous(_) => {
                return Err(Error::Unsupported(
                    "it cannot be written, because it is stored in one piece (contiguous) and not in chunks".into(),
                ));
            }
        };
        let size = stored
            .element
            .size()
            .ok_or_else(|| Error::Unsupported("text of any length cannot be written".to_owned()))?;
        let header = Header::read(file, address)?;
        let mut steps = Vec::new();
        // The byte order is the first step, where it is one.
        if let Some(Codec::ByteSwap(size)) = stored.pipeline.0.first() {
            steps.push(Encoder::ByteSwap(*size));
        }
        let mut is_filtered = false;
        if let Some(filters) = header.body(file, kind::FILTERS)? {
            let inner = stored.inner.iter();
            let width = inner.fold(u64::from(stored.width), |size, n| size.saturating_mul(*n));
            let filters = filters::encoders(&filters, u32::try_from(width).unwrap_or(1))?;
            is_filtered = !filters.is_empty();
            steps.extend(filters);
        }
        Ok(Self {
            chunk: [chunk, &stored.inner].concat(),
            rank,
            size,
            fill: stored.fill.clone(),
            pipeline: EncodePipeline(steps),
            is_filtered,
            index,
        })
    }
}

/// Width of the sizes of filtered chunks in a new index.
fn length_width(layout: &patch::Layout) -> usize {
    if layout.version > 4 {
        return 8;
    }
    let bytes = layout
        .extents
        .iter()
        .fold(1u64, |bytes, n| bytes.saturating_mul(*n));
    let bits = bytes.checked_ilog2().unwrap_or(0);
    usize::try_from(1 + (bits + 8) / 8).unwrap_or(8).min(8)
}

fn no_index(index: IndexKind) -> Error {
    let name = match index {
        IndexKind::Tree1 => "version 1 B-tree",
        IndexKind::Single(_) => "single chunk",
        IndexKind::Implicit => "implicit index",
        IndexKind::Fixed => "fixed array",
        IndexKind::Extensible => "extensible array",
        IndexKind::Tree2 => "version 2 B-tree",
    };
    Error::Unsupported(format!(
        "it cannot be written, because its chunks are found by an index that cannot be changed ({name})"
    ))
}
