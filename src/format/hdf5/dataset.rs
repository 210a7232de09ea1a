//! Datasets: how the header of an HDF5 dataset says that its elements are stored.

use crate::array::chunk::ChunkGrid;
use crate::array::contiguous::pieces;
use crate::array::dtype::ElementType;
use crate::codec::{Codec, CodecPipeline};
use crate::error::{Error, Result};
use crate::format::hdf5::bytes::Reader;
use crate::format::hdf5::fill::fill_value;
use crate::format::hdf5::filters::codecs;
use crate::format::hdf5::header::{Header, kind};
use crate::format::hdf5::storage::File;
use crate::format::hdf5::types::{Class, Datatype, Padding};

/// How a dataset is stored.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// What one element is, once decoded.
    pub(super) element: ElementType,
    /// Bytes of one element in the file.
    pub(super) width: u32,
    /// Dimensions within an element, which follow those of the dataset.
    pub(super) inner: Vec<u64>,
    /// For text that is not delivered as it stands in the file.
    pub(super) text: Option<TextForm>,
    pub(super) pipeline: CodecPipeline,
    /// Value of cells that were never written, as in a decoded chunk.
    pub(super) fill: Vec<u8>,
    /// Value of cells that a netCDF dimension has and the dataset has not, if that is another one.
    pub(super) beyond: Option<Vec<u8>>,
    pub(super) place: Place,
}

/// Text that has to be rewritten before it can be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextForm {
    /// References into the global heap.
    Heap,
    /// A fixed number of bytes, padded with spaces.
    SpacePadded,
}

/// Where the elements are.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In the header.
    Compact(Vec<u8>),
    /// In one piece; never written when there is no address.
    Contiguous(Option<u64>),
    /// In chunks; never written when there is no address.
    Chunked {
        /// Extent of a chunk.
        chunk: Vec<u64>,
        /// Chunks that reach beyond the array are not filtered.
        plain_edges: bool,
        index: IndexKind,
        address: Option<u64>,
    },
}

/// The structure that says where chunks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IndexKind {
    /// Version 1 B-tree.
    Tree1,
    /// One chunk; size and filter mask if it is filtered.
    Single(Option<(u64, u32)>),
    /// All chunks one after another.
    Implicit,
    /// Fixed array.
    Fixed,
    /// Extensible array.
    Extensible,
    /// Version 2 B-tree.
    Tree2,
}

impl Stored {
    /// How the dataset with this header is stored.
    ///
    /// # Errors
    /// `Unsupported` naming the feature that prevents reading it exactly, `Corrupt` when the header is damaged.
    pub(super) fn read(file: &File, header: &Header) -> Result<Self> {
        let missing =
            |what: &str| Error::Corrupt(format!("its header is damaged: it has no {what}"));
        let body = header
            .body(file, kind::DATATYPE)?
            .ok_or_else(|| missing("datatype"))?;
        let (datatype, inner) = flatten(Datatype::parse(&body)?)?;
        if header.find(kind::EXTERNAL_FILES).is_some() {
            return Err(unsupported("external storage (its data is in other files)"));
        }
        let body = header
            .body(file, kind::LAYOUT)?
            .ok_or_else(|| missing("data layout"))?;
        let place = place(file, &body)?;
        let mut steps = Vec::new();
        let mut element = match datatype.class {
            Class::Number {
                element,
                big_endian,
            } => {
                if big_endian && datatype.size > 1 {
                    steps.push(Codec::ByteSwap(datatype.size));
                }
                element
            }
            Class::FixedText(_) if datatype.size == 1 => ElementType::Char,
            Class::FixedText(_) => ElementType::Bytes(datatype.size),
            Class::Text => ElementType::Text,
            Class::Reference => return Err(unsupported("object references")),
            Class::List(_) => return Err(unsupported("lists of variable length")),
            // Arrays of arrays are flattened.
            Class::Array { .. } => return Err(unsupported("nested arrays")),
            Class::Other(feature) => return Err(unsupported(&feature)),
        };
        let text = match (element, &datatype.class) {
            (ElementType::Text, _) => Some(TextForm::Heap),
            (ElementType::Bytes(_), Class::FixedText(Padding::Space)) => {
                element = ElementType::Text;
                Some(TextForm::SpacePadded)
            }
            _ => None,
        };
        if let Some(filters) = header.body(file, kind::FILTERS)?
            && matches!(place, Place::Chunked { .. })
        {
            let size = inner
                .iter()
                .try_fold(u64::from(datatype.size), |size, n| size.checked_mul(*n));
            let size = size.and_then(|size| u32::try_from(size).ok());
            steps.extend(codecs(&filters, size.unwrap_or(1))?);
        }
        let fill = fill_value(file, header, &datatype, text)?;
        let beyond = match fill {
            Some(_) => None,
            None => element.netcdf_fill(),
        };
        Ok(Self {
            element,
            width: datatype.size,
            inner,
            text,
            pipeline: CodecPipeline(steps),
            fill: fill.unwrap_or_default(),
            beyond,
            place,
        })
    }

    /// The grid of chunks over `shape`, which includes the dimensions within an element.
    ///
    /// # Errors
    /// `Corrupt` when the chunks do not fit the shape.
    pub(super) fn grid(&self, shape: Vec<u64>) -> Result<ChunkGrid> {
        let chunk = match &self.place {
            Place::Compact(_) => shape.iter().map(|n| (*n).max(1)).collect(),
            Place::Contiguous(_) => pieces(&shape, self.width.into()),
            Place::Chunked { chunk, .. } => [chunk.as_slice(), &self.inner].concat(),
        };
        ChunkGrid::new(shape, chunk)
    }
}

/// The error for a feature that cannot be read exactly.
pub(super) fn unsupported(feature: &str) -> Error {
    Error::Unsupported(format!("{feature} cannot be read"))
}

/// The innermost type of an array type, and the dimensions around it.
fn flatten(mut datatype: Datatype) -> Result<(Datatype, Vec<u64>)> {
    let mut inner = Vec::new();
    while let Class::Array { base, shape } = datatype.class {
        let cells = shape.iter().try_fold(1u64, |n, m| n.checked_mul(*m));
        let size = cells.and_then(|cells| cells.checked_mul(base.size.into()));
        if size != Some(datatype.size.into()) || size == Some(0) {
            return Err(Error::Corrupt(
                "the datatype is damaged: its size is not that of its array".into(),
            ));
        }
        inner.extend(shape);
        datatype = *base;
    }
    Ok((datatype, inner))
}

fn place(file: &File, body: &[u8]) -> Result<Place> {
    let mut reader = Reader::new(body, "data layout");
    let version = reader.u8()?;
    match version {
        1 | 2 => place_v1(file, &mut reader),
        3..=5 => match reader.u8()? {
            0 => {
                let length = reader.u16()?;
                Ok(Place::Compact(reader.take(length.into())?.to_vec()))
            }
            1 => Ok(Place::Contiguous(reader.address(file.offset_size)?)),
            2 if version == 3 => {
                let rank = reader.u8()?;
                let address = reader.address(file.offset_size)?;
                let extents = extents(&mut reader, rank, 4)?;
                Ok(Place::Chunked {
                    chunk: extents,
                    plain_edges: false,
                    index: IndexKind::Tree1,
                    address,
                })
            }
            2 => place_v4(file, &mut reader),
            3 => Err(unsupported(
                "a virtual dataset (its data is in other datasets)",
            )),
            class => Err(unsupported(&format!("data layout class {class}"))),
        },
        _ => Err(unsupported(&format!("data layout version {version}"))),
    }
}

fn place_v1(file: &File, reader: &mut Reader<'_>) -> Result<Place> {
    let rank = reader.u8()?;
    let class = reader.u8()?;
    reader.skip(5)?;
    match class {
        0 => {
            reader.skip(4 * usize::from(rank))?;
            let length = reader.u32()?;
            let data = reader.take(usize::try_from(length).unwrap_or(usize::MAX))?;
            Ok(Place::Compact(data.to_vec()))
        }
        1 => Ok(Place::Contiguous(reader.address(file.offset_size)?)),
        2 => {
            let address = reader.address(file.offset_size)?;
            Ok(Place::Chunked {
                chunk: extents(reader, rank, 4)?,
                plain_edges: false,
                index: IndexKind::Tree1,
                address,
            })
        }
        class => Err(unsupported(&format!("data layout class {class}"))),
    }
}

fn place_v4(file: &File, reader: &mut Reader<'_>) -> Result<Place> {
    let flags = reader.u8()?;
    let rank = reader.u8()?;
    let width = reader.u8()?;
    let chunk = extents(reader, rank, width)?;
    let index = match reader.u8()? {
        1 if flags & 2 != 0 => {
            // The size has the width of lengths (version 4) or of 8 bytes (version 5): what is left says which.
            let fixed = 4 + file.offset_size;
            let width = reader
                .left()
                .saturating_sub(fixed)
                .clamp(file.length_size, 8);
            IndexKind::Single(Some((reader.uint(width)?, reader.u32()?)))
        }
        1 => IndexKind::Single(None),
        2 => IndexKind::Implicit,
        3 => {
            reader.skip(1)?;
            IndexKind::Fixed
        }
        4 => {
            reader.skip(5)?;
            IndexKind::Extensible
        }
        5 => {
            reader.skip(6)?;
            IndexKind::Tree2
        }
        index => return Err(unsupported(&format!("chunk index type {index}"))),
    };
    Ok(Place::Chunked {
        chunk,
        plain_edges: flags & 1 != 0,
        index,
        address: reader.address(file.offset_size)?,
    })
}

/// The extents of a chunk; the last one stored is the size of an element.
fn extents(reader: &mut Reader<'_>, rank: u8, width: u8) -> Result<Vec<u64>> {
    let mut extents = (0..rank)
        .map(|_| reader.uint(width.into()))
        .collect::<Result<Vec<_>>>()?;
    extents.pop();
    Ok(extents)
}
