//! A little-endian cursor over metadata bytes that are never trusted.

use crate::error::{Error, Result};

/// Reads fields one after another; every read is checked against the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`; `what` is what errors call them.
    pub(super) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { bytes, what }
    }

    /// The bytes not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Number of bytes not read yet.
    pub(super) fn left(&self) -> usize {
        self.bytes.len()
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// `Corrupt` when there are fewer, as for all methods below.
    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        match self.bytes.split_at_checked(n) {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(taken)
            }
            None => Err(self.damaged("it ends early")),
        }
    }

    /// Leaves out `n` bytes.
    pub(super) fn skip(&mut self, n: usize) -> Result<()> {
        self.take(n).map(|_| ())
    }

    /// An unsigned integer of `n` bytes, at most 8.
    pub(super) fn uint(&mut self, n: usize) -> Result<u64> {
        let taken = self.take(n)?;
        let mut value = [0; 8];
        match value.get_mut(..n) {
            Some(low) => low.copy_from_slice(taken),
            None => return Err(self.damaged(&format!("it has an integer of {n} bytes"))),
        }
        Ok(u64::from_le_bytes(value))
    }

    /// An address of `n` bytes; `None` when it is undefined.
    pub(super) fn address(&mut self, n: usize) -> Result<Option<u64>> {
        let value = self.uint(n)?;
        let undefined = if n >= 8 { u64::MAX } else { (1 << (8 * n)) - 1 };
        Ok((value != undefined).then_some(value))
    }

    /// One byte.
    pub(super) fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    /// An unsigned integer of 2 bytes.
    pub(super) fn u16(&mut self) -> Result<u16> {
        let taken = self.take(2)?;
        Ok(u16::from_le_bytes(taken.try_into().unwrap_or_default()))
    }

    /// An unsigned integer of 4 bytes.
    pub(super) fn u32(&mut self) -> Result<u32> {
        let taken = self.take(4)?;
        Ok(u32::from_le_bytes(taken.try_into().unwrap_or_default()))
    }

    /// Fails unless the next bytes are `signature`.
    pub(super) fn signature(&mut self, signature: &[u8]) -> Result<()> {
        if self.take(signature.len())? == signature {
            Ok(())
        } else {
            Err(self.damaged("its signature is wrong"))
        }
    }

    /// The error for these bytes being wrong.
    pub(super) fn damaged(&self, how: &str) -> Error {
        Error::Corrupt(format!("the {} is damaged: {how}", self.what))
    }
}

/// The bytes before a trailing Jenkins checksum.
///
/// # Errors
/// `Corrupt` when the checksum is not that of the bytes.
pub(super) fn checked<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a [u8]> {
    let damaged = || Error::Corrupt(format!("the {what} is damaged: its checksum is wrong"));
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
    if hdf5_reader::checksum::jenkins_lookup3(body) == u32::from_le_bytes(*sum) {
        Ok(body)
    } else {
        Err(damaged())
    }
}
