//! Patches of the header of a dataset: how long it is, and where its chunk index is.

use super::extensible::Parameters;
use super::output::{Fields, Output, sign};
use crate::error::{Error, Result};
use crate::format::hdf5::bytes::Reader;
use crate::format::hdf5::header::{Header, kind};
use crate::format::hdf5::storage::File;

/// The header of a dataset that grows.
#[derive(Debug)]
pub(super) struct Patch {
    header: Header,
    /// Address of the lengths of the dimensions.
    lengths: u64,
}

/// What the message about the layout of chunks says to a writer.
#[derive(Debug)]
pub(super) struct Layout {
    /// Address of the address of the chunk index.
    index_at: u64,
    /// Extents of a chunk, and as the last one the bytes of an element.
    pub(super) extents: Vec<u64>,
    /// What an extensible array is made of; whether chunks are filtered is not known here.
    pub(super) array: Option<Parameters>,
    pub(super) version: u8,
}

impl Patch {
    /// The header at an address.
    ///
    /// # Errors
    /// `Unsupported` when its dataspace is shared with other objects, else as [`Header::read`].
    pub(super) fn read(file: &File, address: u64) -> Result<Self> {
        let header = Header::read(file, address)?;
        let message = header
            .find(kind::DATASPACE)
            .ok_or_else(|| damaged("it has no dataspace"))?;
        if message.shared {
            return Err(Error::Unsupported(
                "it cannot grow, because it shares its dataspace with other objects".into(),
            ));
        }
        let body = message.body(file)?;
        let head = match body.first() {
            Some(1) => 8,
            Some(2) => 4,
            _ => return Err(damaged("its dataspace has an unknown version")),
        };
        let lengths = message.address.saturating_add(head);
        Ok(Self { header, lengths })
    }

    /// What the header says about chunks.
    ///
    /// # Errors
    /// `Corrupt` when it says nothing.
    pub(super) fn layout(&self, file: &File) -> Result<Layout> {
        let message = self
            .header
            .find(kind::LAYOUT)
            .filter(|message| !message.shared)
            .ok_or_else(|| damaged("it has no data layout"))?;
        let body = message.body(file)?;
        let mut reader = Reader::new(&body, "data layout");
        let version = reader.u8()?;
        let mut array = None;
        let (at, extents) = match version {
            1..=3 => {
                // Rank, class and reserved bytes, or class and rank.
                let rank = if version == 3 {
                    reader.skip(1)?;
                    reader.u8()?
                } else {
                    let rank = reader.u8()?;
                    reader.skip(6)?;
                    rank
                };
                let at = body.len() - reader.left();
                reader.skip(file.offset_size)?;
                (at, extents(&mut reader, rank, 4)?)
            }
            4 | 5 => {
                reader.skip(2)?;
                let (rank, width) = (reader.u8()?, reader.u8()?);
                let extents = extents(&mut reader, rank, width)?;
                if reader.u8()? == 4 {
                    array = Some(Parameters {
                        bits: reader.u8()?,
                        direct: reader.u8()?,
                        pointers: reader.u8()?,
                        smallest: reader.u8()?,
                        page_bits: reader.u8()?,
                        length_width: None,
                    });
                }
                (body.len() - reader.left(), extents)
            }
            _ => return Err(damaged("its data layout has an unknown version")),
        };
        Ok(Layout {
            index_at: message.address.saturating_add(at as u64),
            extents,
            array,
            version,
        })
    }

    /// Writes the lengths of the dimensions.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub(super) fn set_lengths(&self, output: &Output, lengths: &[u64]) -> Result<()> {
        let mut fields = Fields::default();
        for length in lengths {
            fields.uint(*length, output.length_size)?;
        }
        output.write(self.lengths, &fields.0)
    }

    /// Writes where the chunk index is.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub(super) fn set_index(&self, output: &Output, layout: &Layout, index: u64) -> Result<()> {
        let mut fields = Fields::default();
        fields.address(Some(index), output.offset_size)?;
        output.write(layout.index_at, &fields.0)
    }

    /// Makes the checksums right again.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub(super) fn finish(&self, output: &Output) -> Result<()> {
        for (address, length) in &self.header.signed {
            let mut bytes = output.read(*address, *length)?;
            sign(&mut bytes);
            output.write(*address, &bytes)?;
        }
        Ok(())
    }
}

fn extents(reader: &mut Reader<'_>, rank: u8, width: u8) -> Result<Vec<u64>> {
    (0..rank).map(|_| reader.uint(width.into())).collect()
}

fn damaged(how: &str) -> Error {
    Error::Corrupt(format!("its header is damaged: {how}"))
}
