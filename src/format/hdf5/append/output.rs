//! The new version of an HDF5 file, by addresses.

use std::collections::BTreeMap;

use hdf5_reader::checksum::jenkins_lookup3;

use crate::error::{Error, Result};
use crate::format::hdf5::storage::File;
use crate::store::replace::Replacement;

/// Everything that is added begins at a multiple of this.
const ALIGNMENT: u64 = 8;
/// Free places that are looked at for one that is large enough.
const LOOKED_AT: usize = 64;

/// A copy of a file that is being changed.
#[derive(Debug)]
pub(in crate::format::hdf5) struct Output {
    replacement: Replacement,
    /// Place of the superblock, which all addresses are relative to.
    base: u64,
    pub(in crate::format::hdf5) offset_size: usize,
    pub(in crate::format::hdf5) length_size: usize,
    /// Bytes of the whole file.
    end: u64,
    /// Ends of places that nothing in the new version refers to, by where they start.
    free: BTreeMap<u64, u64>,
}

impl Output {
    /// The copy `replacement` of `file`.
    pub(in crate::format::hdf5) fn new(replacement: Replacement, file: &File) -> Result<Self> {
        Ok(Self {
            replacement,
            base: file.absolute(0)?,
            offset_size: file.offset_size,
            length_size: file.length_size,
            end: file.length(),
            free: BTreeMap::new(),
        })
    }

    /// Bytes of the whole file.
    pub(in crate::format::hdf5) fn end(&self) -> u64 {
        self.end
    }

    /// The copy, when all has been written to it.
    ///
    /// # Errors
    /// `Io` when the storage fails.
    pub(in crate::format::hdf5) fn finish(self) -> Result<Replacement> {
        self.replacement.set_length(self.end)?;
        Ok(self.replacement)
    }

    /// `length` bytes at an address.
    ///
    /// # Errors
    /// `Corrupt` when they are not within the file, `Io` when the storage fails.
    pub(in crate::format::hdf5) fn read(&self, address: u64, length: usize) -> Result<Vec<u8>> {
        let place = self.place(address, length)?;
        let mut bytes = vec![0; length];
        self.replacement.read(place, &mut bytes)?;
        Ok(bytes)
    }

    /// Replaces what is at an address.
    ///
    /// # Errors
    /// As [`Output::read`].
    pub(in crate::format::hdf5) fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.replacement
            .write(self.place(address, bytes.len())?, bytes)
    }

    /// Gives a place in the file back, to which nothing will refer any more: nobody reads this version yet.
    pub(in crate::format::hdf5) fn release(&mut self, place: u64, length: u64) {
        let Some(mut end) = place.checked_add(length).filter(|end| *end <= self.end) else {
            return;
        };
        let mut start = place;
        if let Some((before, to)) = self.free.range(..=place).next_back() {
            match to.cmp(&place) {
                // It was given back before, as only in a damaged file.
                std::cmp::Ordering::Greater => return,
                std::cmp::Ordering::Equal => start = *before,
                std::cmp::Ordering::Less => {}
            }
        }
        if let Some((after, to)) = self.free.range(place..).next() {
            match after.cmp(&end) {
                std::cmp::Ordering::Less => return,
                std::cmp::Ordering::Equal => end = *to,
                std::cmp::Ordering::Greater => {}
            }
            let after = *after;
            if end > after {
                self.free.remove(&after);
            }
        }
        self.free.remove(&start);
        if end == self.end {
            self.end = start;
        } else {
            self.free.insert(start, end);
        }
    }

    /// Adds bytes to the file, where a place was given back or else at its end; returns their address.
    ///
    /// # Errors
    /// `Unsupported` when the file becomes larger than its addresses can say, `Io` when the storage fails.
    pub(in crate::format::hdf5) fn put(&mut self, bytes: &[u8]) -> Result<u64> {
        let length = bytes.len() as u64;
        let place = match self.take(length) {
            Some(place) => place,
            None => {
                let place = self.end.next_multiple_of(ALIGNMENT);
                let end = place.checked_add(length).ok_or_else(too_large)?;
                if self.offset_size < 8 && end >> (8 * self.offset_size) != 0 {
                    return Err(too_large());
                }
                self.end = end;
                place
            }
        };
        self.replacement.write(place, bytes)?;
        place.checked_sub(self.base).ok_or_else(too_large)
    }

    /// A free place of this length; only the last ones are looked at, where what was just given back mostly is.
    fn take(&mut self, length: u64) -> Option<u64> {
        let fitting = self
            .free
            .iter()
            .rev()
            .take(LOOKED_AT)
            .find_map(|(start, end)| {
                let place = start.next_multiple_of(ALIGNMENT);
                let used = place.checked_add(length)?;
                (used <= *end).then_some((*start, place, used, *end))
            });
        let (start, place, used, end) = fitting?;
        self.free.remove(&start);
        if start < place {
            self.free.insert(start, place);
        }
        if used < end {
            self.free.insert(used, end);
        }
        Some(place)
    }

    fn place(&self, address: u64, length: usize) -> Result<u64> {
        let place = self.base.checked_add(address);
        let end = place.and_then(|place| place.checked_add(length as u64));
        match (place, end) {
            (Some(place), Some(end)) if end <= self.end => Ok(place),
            _ => Err(Error::Corrupt(format!(
                "the file is damaged: {length} bytes at address {address:#x} are outside"
            ))),
        }
    }
}

fn too_large() -> Error {
    Error::Unsupported("the file would become larger than its addresses can say".into())
}

/// Fields one after another, little-endian.
#[derive(Debug, Default)]
pub(in crate::format::hdf5) struct Fields(pub(in crate::format::hdf5) Vec<u8>);

impl Fields {
    /// An unsigned integer of `width` bytes, at most 8.
    ///
    /// # Errors
    /// `Unsupported` when it needs more.
    pub(in crate::format::hdf5) fn uint(&mut self, value: u64, width: usize) -> Result<()> {
        let bytes = value.to_le_bytes();
        let (low, high) = bytes.split_at_checked(width).ok_or_else(too_large)?;
        if high.iter().any(|byte| *byte != 0) {
            return Err(Error::Unsupported(format!(
                "the number {value} does not fit the {width} bytes that the file has for it"
            )));
        }
        self.0.extend_from_slice(low);
        Ok(())
    }

    /// An address of `width` bytes; `None` is undefined.
    ///
    /// # Errors
    /// As [`Fields::uint`].
    pub(in crate::format::hdf5) fn address(
        &mut self,
        address: Option<u64>,
        width: usize,
    ) -> Result<()> {
        match address {
            Some(address) => self.uint(address, width),
            None => {
                self.0.resize(self.0.len() + width, u8::MAX);
                Ok(())
            }
        }
    }

    pub(in crate::format::hdf5) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The fields with their checksum.
    pub(in crate::format::hdf5) fn signed(mut self) -> Vec<u8> {
        let sum = jenkins_lookup3(&self.0);
        self.0.extend_from_slice(&sum.to_le_bytes());
        self.0
    }
}

/// Puts the checksum of `bytes`, without the last four, in the last four.
pub(in crate::format::hdf5) fn sign(bytes: &mut [u8]) {
    if let Some((body, sum)) = bytes.split_last_chunk_mut::<4>() {
        *sum = jenkins_lookup3(body).to_le_bytes();
    }
}
