//! netCDF-3 files: classic (CDF-1), with 64-bit offsets (CDF-2), with 64-bit data (CDF-5).

mod append;
mod arrangement;
mod bytes;
mod header;
mod index;

use std::sync::Arc;

use async_trait::async_trait;

use crate::array::chunk::{ChunkGrid, ElementOrder};
use crate::array::contiguous::{Contiguous, pieces};
use crate::array::dtype::ElementType;
use crate::array::{AttributeValue, Dataset, Dimension, Group, Layout, Unreadable, Variable};
use crate::codec::{Codec, CodecPipeline};
use crate::error::{Error, Result, Within};
use crate::format::{Appender, Format};
use crate::store::Store;
use crate::store::lock::Lock;
use crate::store::write::Durability;

use arrangement::{Arrangement, Slot};
use bytes::Variant;
use header::{Declared, Failure, Header};
use index::{Records, apart};

/// Bytes that are read to find the header, at first and at most.
const HEAD: (u64, u64) = (64 << 10, 16 << 20);

/// The netCDF-3 format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Netcdf3;

#[async_trait]
impl Format for Netcdf3 {
    fn name(&self) -> &'static str {
        "netcdf3"
    }

    async fn sniff(&self, _: &Store, head: &[u8]) -> Result<bool> {
        Ok(Variant::of(head).is_some())
    }

    async fn open(&self, store: &Store) -> Result<Dataset> {
        let (file, _) = File::open(store).await.within(|| store.location())?;
        Ok(file.dataset(store))
    }

    async fn begin(
        &self,
        store: &Store,
        _: &Arc<Lock>,
        durability: Durability,
    ) -> Result<Box<dyn Appender>> {
        Ok(Box::new(append::begin(store, durability).await?))
    }
}

/// A file whose header has been read.
#[derive(Debug)]
struct File {
    header: Header,
    arrangement: Arrangement,
    /// Bytes of the file.
    length: u64,
}

impl File {
    /// Reads the header of the file at the location of `store`, and returns its bytes too.
    async fn open(store: &Store) -> Result<(Self, ::bytes::Bytes)> {
        let (header, head) = read_header(store).await?;
        // Records that the header counts were there before it did, so that the size is asked for afterwards.
        let length = store.size("").await?;
        let arrangement = Arrangement::new(&header, length)?;
        let file = Self {
            header,
            arrangement,
            length,
        };
        Ok((file, head))
    }

    fn dataset(&self, store: &Store) -> Dataset {
        let mut root = Group {
            attributes: self.header.attributes.clone(),
            ..Group::default()
        };
        let record = self.header.record_dimension();
        for (at, (name, length)) in self.header.dimensions.iter().enumerate() {
            let unlimited = record == Some(at);
            root.dimensions.push(Dimension {
                name: name.clone(),
                length: if unlimited {
                    self.arrangement.records
                } else {
                    *length
                },
                unlimited,
            });
        }
        for (declared, slot) in self.header.variables.iter().zip(&self.arrangement.slots) {
            match self.variable(store, declared, slot) {
                Ok(variable) => root.variables.push(Arc::new(variable)),
                Err(error) => root.unreadable.push(Unreadable {
                    name: declared.name.clone(),
                    reason: error.within(&declared.name).to_string(),
                }),
            }
        }
        Dataset {
            location: store.location().to_owned(),
            format: "netcdf3",
            root,
        }
    }

    fn variable(&self, store: &Store, declared: &Declared, slot: &Slot) -> Result<Variable> {
        let end = self.arrangement.end(slot);
        if slot.shape.first() != Some(&0) && end.is_none_or(|end| end > self.length) {
            return Err(Error::Corrupt(format!(
                "its data ends behind the {} bytes of the file: it is truncated or damaged",
                self.length
            )));
        }
        let stride = self.arrangement.stride;
        let in_one_piece = !slot.is_record || stride == slot.bytes || self.arrangement.records <= 1;
        let (grid, record) = if in_one_piece {
            let grid = whole(slot, declared)?;
            (grid.clone(), grid)
        } else {
            apart(&slot.shape, declared.width)?
        };
        let dimensions = declared.dimensions.iter();
        Ok(Variable {
            name: declared.name.clone(),
            path: declared.name.clone(),
            dimensions: dimensions
                .filter_map(|at| self.header.dimensions.get(*at))
                .map(|(name, _)| name.clone())
                .collect(),
            attributes: declared.attributes.clone(),
            layout: Arc::new(Layout {
                element: declared.element,
                grid,
                order: ElementOrder::C,
                pipeline: CodecPipeline(match declared.width {
                    1 => Vec::new(),
                    width => vec![Codec::ByteSwap(width)],
                }),
                fill: fill(declared),
            }),
            index: Arc::new(Records {
                store: store.clone(),
                length: self.length,
                name: format!("variable {} of {}", declared.name, store.location()),
                begin: slot.begin,
                stride: if in_one_piece { 0 } else { stride },
                record: Contiguous::new(record, declared.width.into()),
                width: declared.width,
                object: "".into(),
            }),
            members: None,
        })
    }
}

/// The chunks of a variable that lies in one piece.
fn whole(slot: &Slot, declared: &Declared) -> Result<ChunkGrid> {
    let mut chunk = pieces(&slot.shape, declared.width.into());
    // Characters along the records are no word that grows: a chunk that is longer than the dimension says so.
    if let ([extent], true, ElementType::Char) =
        (chunk.as_mut_slice(), slot.is_record, declared.element)
    {
        *extent += 1;
    }
    ChunkGrid::new(slot.shape.clone(), chunk)
}

/// What cells of a variable hold that nobody gave a value, one element as in a decoded chunk.
fn fill(declared: &Declared) -> Vec<u8> {
    let width = declared.width as usize;
    let chosen = match declared.attributes.get("_FillValue") {
        Some(AttributeValue::Integers { element, values }) if *element == declared.element => {
            values.first().map(|value| value.to_le_bytes().to_vec())
        }
        Some(AttributeValue::Floats { element, values }) if *element == declared.element => {
            values.first().map(|value| match element {
                #[expect(clippy::cast_possible_truncation, reason = "it was single precision")]
                ElementType::Float32 => (*value as f32).to_le_bytes().to_vec(),
                _ => value.to_le_bytes().to_vec(),
            })
        }
        Some(AttributeValue::Text(text)) if declared.element == ElementType::Char => {
            Some(vec![text.bytes().next().unwrap_or(0)])
        }
        _ => None,
    };
    let mut fill = chosen
        .or_else(|| declared.element.netcdf_fill())
        .unwrap_or_default();
    fill.truncate(width);
    fill
}

async fn read_header(store: &Store) -> Result<(Header, ::bytes::Bytes)> {
    let length = store.size("").await?;
    let mut wanted = HEAD.0;
    loop {
        let size = usize::try_from(wanted.min(length)).unwrap_or(0);
        let bytes = store.range("", 0, size).await?;
        match Header::parse(&bytes) {
            Ok(header) => {
                let end = usize::try_from(header.length).unwrap_or(size).min(size);
                return Ok((header, bytes.slice(..end)));
            }
            Err(Failure::Damaged(error)) => return Err(error),
            Err(Failure::Short(error)) if wanted >= length => {
                return Err(error.within("the file is truncated or damaged"));
            }
            Err(Failure::Short(_)) if wanted >= HEAD.1 => {
                return Err(Error::Corrupt(format!(
                    "the header is damaged: it has more than {} bytes",
                    HEAD.1
                )));
            }
            Err(Failure::Short(_)) => wanted *= 4,
        }
    }
}
