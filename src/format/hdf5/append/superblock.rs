//! The superblock of a file that is about to grow: whether it may, and how long it is.

use super::output::{Output, sign};
use crate::error::{Error, Result};
use crate::format::hdf5::bytes::Reader;
use crate::format::hdf5::header::{Header, kind};
use crate::format::hdf5::storage::File;

const WHAT: &str = "superblock";
/// Children of a version 1 B-tree node of chunks, unless the file says otherwise.
const CHILDREN: usize = 64;

/// What the superblock says to a writer.
#[derive(Debug)]
pub(super) struct Superblock {
    /// Where in it the length of the file stands.
    length_at: usize,
    /// Bytes of it, if it ends in a checksum.
    signed: Option<usize>,
    /// How many children a version 1 B-tree node of chunks has room for.
    pub(super) children: usize,
}

impl Superblock {
    /// Reads the superblock of a file that is to be changed.
    ///
    /// # Errors
    /// `Conflict` when another program is writing the file, `Unsupported` naming what prevents that it grows.
    pub(super) fn read(file: &File) -> Result<Self> {
        let (o, head) = (file.offset_size, 8 + 1);
        let start = file.read(0, head)?;
        let version = start.last().copied().unwrap_or_default();
        if version < 2 {
            let room = if version == 0 { 24 } else { 28 };
            let bytes = file.read(0, room + 4 * o)?;
            let mut reader = Reader::new(&bytes, WHAT);
            reader.skip(room + 3 * o)?;
            if reader.address(o)?.is_some() {
                return Err(unsupported("it is one of several files of one dataset"));
            }
            let children = 2 * file.chunk_tree_k;
            return Ok(Self {
                length_at: room + 2 * o,
                signed: None,
                children,
            });
        }
        let bytes = file.read(0, 12 + 4 * o + 4)?;
        let mut reader = Reader::new(&bytes, WHAT);
        reader.skip(11)?;
        if reader.u8()? != 0 {
            return Err(Error::Conflict(
                "another program has it open for writing, or died while it had (then h5clear -s makes it whole)".into(),
            ));
        }
        let mut superblock = Self {
            length_at: 12 + 2 * o,
            signed: Some(bytes.len()),
            children: CHILDREN,
        };
        if let Some(extension) = file.extension {
            superblock.extend(file, &Header::read(file, extension)?)?;
        }
        Ok(superblock)
    }

    /// Writes how long the file is.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub(super) fn finish(&self, output: &Output) -> Result<()> {
        let width = output.offset_size;
        let length = output.end().to_le_bytes();
        let length = length.get(..width).unwrap_or(&length);
        let Some(size) = self.signed else {
            return output.write(self.length_at as u64, length);
        };
        let mut bytes = output.read(0, size)?;
        if let Some(place) = bytes.get_mut(self.length_at..self.length_at + length.len()) {
            place.copy_from_slice(length);
        }
        sign(&mut bytes);
        output.write(0, &bytes)
    }

    /// Takes in what the extension of the superblock says.
    fn extend(&mut self, file: &File, extension: &Header) -> Result<()> {
        if let Some(body) = extension.body(file, kind::TREE_SIZES)? {
            let mut reader = Reader::new(&body, WHAT);
            reader.skip(1)?;
            self.children = 2 * usize::from(reader.u16()?);
        }
        if extension.find(kind::DRIVER).is_some() {
            return Err(unsupported("it is one of several files of one dataset"));
        }
        if extension.find(kind::CACHE_IMAGE).is_some() {
            return Err(unsupported(
                "it holds a copy of its metadata (a cache image)",
            ));
        }
        if let Some(body) = extension.body(file, kind::FILE_SPACE)? {
            let mut reader = Reader::new(&body, WHAT);
            let (version, strategy, persists) = (reader.u8()?, reader.u8()?, reader.u8()?);
            // Free space that is kept is found again from how long the file was.
            if version == 0 && strategy == 1 || version > 0 && persists != 0 {
                return Err(unsupported("it keeps an account of its free space"));
            }
            if version > 0 && strategy == 1 {
                return Err(unsupported("its space is managed in pages"));
            }
        }
        Ok(())
    }
}

fn unsupported(reason: &str) -> Error {
    Error::Unsupported(format!("the file cannot be written: {reason}"))
}
