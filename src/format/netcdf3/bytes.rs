//! A big-endian cursor over the bytes of a header that are never trusted.

use crate::error::{Error, Result};

/// Which of the three variants of the format a file is in: how wide its numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// CDF-1: counts and offsets have 32 bits.
    Classic,
    /// CDF-2: offsets have 64 bits.
    Offset64,
    /// CDF-5: counts and offsets have 64 bits.
    Data64,
}

impl Variant {
    /// The variant of a file that begins with `head`.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        match head.get(..4)? {
            b"CDF\x01" => Some(Self::Classic),
            b"CDF\x02" => Some(Self::Offset64),
            b"CDF\x05" => Some(Self::Data64),
            _ => None,
        }
    }

    /// Bytes of a count.
    pub(super) fn count_width(self) -> usize {
        match self {
            Self::Classic | Self::Offset64 => 4,
            Self::Data64 => 8,
        }
    }

    fn offset_width(self) -> usize {
        match self {
            Self::Classic => 4,
            Self::Offset64 | Self::Data64 => 8,
        }
    }
}

/// Reads fields one after another; every read is checked against the end.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    place: usize,
    variant: Variant,
    /// Whether a field was wanted that lies beyond the end.
    ended: bool,
}

impl<'a> Reader<'a> {
    /// A reader behind the four bytes that tell the variant.
    pub(super) fn new(bytes: &'a [u8], variant: Variant) -> Self {
        Self {
            bytes,
            place: 4,
            variant,
            ended: false,
        }
    }

    /// Which variant the file is in.
    pub(super) fn variant(&self) -> Variant {
        self.variant
    }

    /// Number of bytes read so far.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// Whether a field was wanted that lies beyond the end.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// `Corrupt` when there are fewer, as for all methods below.
    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let taken = self
            .place
            .checked_add(n)
            .and_then(|end| self.bytes.get(self.place..end));
        match taken {
            Some(taken) => {
                self.place += n;
                Ok(taken)
            }
            None => {
                self.ended = true;
                Err(Error::Corrupt("the header ends early".into()))
            }
        }
    }

    /// `n` bytes and what pads them to a multiple of four.
    pub(super) fn padded(&mut self, n: usize) -> Result<&'a [u8]> {
        let taken = self.take(n)?;
        self.take(n.wrapping_neg() & 3)?;
        Ok(taken)
    }

    /// A tag, or a type.
    pub(super) fn u32(&mut self) -> Result<u32> {
        let taken = self.take(4)?;
        Ok(u32::from_be_bytes(taken.try_into().unwrap_or_default()))
    }

    /// A number of things, each of which takes at least `least` bytes of the header.
    pub(super) fn count(&mut self, least: usize) -> Result<usize> {
        let count = self.length()?;
        let left = self.bytes.len().saturating_sub(self.place);
        match usize::try_from(count) {
            Ok(count) if count.checked_mul(least).is_some_and(|n| n <= left) => Ok(count),
            _ => {
                self.ended = true;
                Err(Error::Corrupt(format!(
                    "the header ends before the {count} entries that it announces"
                )))
            }
        }
    }

    /// A number that is not negative, of the width of counts.
    pub(super) fn length(&mut self) -> Result<u64> {
        self.uint(self.variant.count_width())
    }

    /// A place in the file.
    pub(super) fn offset(&mut self) -> Result<u64> {
        self.uint(self.variant.offset_width())
    }

    /// A name; what is not Unicode in it is replaced.
    pub(super) fn name(&mut self) -> Result<String> {
        let length = self.count(1)?;
        let bytes = self.padded(length)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn uint(&mut self, width: usize) -> Result<u64> {
        let taken = self.take(width)?;
        Ok(taken
            .iter()
            .fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    }
}
