//! The head of a Blosc chunk, which tells where the bytes of each block are.

use std::ops::Range;

use super::header::Header;
use crate::error::{Error, Result};

/// Bytes of the longest header.
const HEADER: usize = 32;

/// What the first bytes of a chunk say about where the others are, so that some blocks can be read without the rest.
#[derive(Debug)]
pub struct Head {
    /// Bytes of the encoded chunk.
    length: usize,
    blocks: Places,
}

#[derive(Debug)]
enum Places {
    /// They cannot be told without reading the chunk, or there are none.
    Whole,
    /// Blocks of this size one after another, from this offset on.
    Stored { first: usize, size: usize },
    /// Compressed blocks, of which each may refer to the first one.
    Compressed {
        ranges: Vec<Range<usize>>,
        refer: bool,
    },
}

impl Head {
    /// The most bytes that the head of a chunk of this many blocks has.
    #[must_use]
    pub const fn most(blocks: usize) -> usize {
        blocks.saturating_mul(4).saturating_add(HEADER)
    }

    /// Reads the head from the first bytes of a chunk, of which `length` bytes are stored.
    ///
    /// # Errors
    ///
    /// Those of [`super::Chunk::parse`] that the head shows.
    pub fn parse(first: &[u8], length: usize) -> Result<Self> {
        let header = Header::parse(first, length)?;
        let blocks = if header.nbytes == 0 || header.special != 0 || header.dictionary {
            Places::Whole
        } else if header.stored() {
            Places::Stored {
                first: header.length,
                size: header.block_size,
            }
        } else {
            let count = header.nbytes.div_ceil(header.block_size);
            let table = count
                .checked_mul(4)
                .and_then(|length| first.get(header.length..)?.get(..length));
            match table {
                Some(table) => Places::Compressed {
                    ranges: ranges(table.as_chunks().0, header.cbytes),
                    refer: header.refers(),
                },
                None => Places::Whole,
            }
        };
        Ok(Self {
            length: header.cbytes,
            blocks,
        })
    }

    /// Bytes of the encoded chunk.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Where in the chunk the bytes are that decoding `blocks` needs besides its head.
    ///
    /// # Errors
    ///
    /// `Corrupt` if a block does not begin within the chunk.
    pub fn ranges(&self, blocks: &[usize]) -> Result<Vec<Range<usize>>> {
        let place = |block: &usize| {
            let range = match &self.blocks {
                Places::Whole => 0..self.length,
                Places::Stored { first, size } => {
                    let start = block.saturating_mul(*size).saturating_add(*first);
                    start..start.saturating_add(*size).min(self.length)
                }
                Places::Compressed { ranges, .. } => ranges.get(*block).cloned().unwrap_or(0..0),
            };
            if range.is_empty() {
                return Err(Error::Corrupt(format!(
                    "block {block} of the Blosc chunk begins behind the end of the chunk"
                )));
            }
            Ok(range)
        };
        let first = matches!(&self.blocks, Places::Compressed { refer: true, .. });
        let first = first.then_some(&0);
        first.into_iter().chain(blocks).map(place).collect()
    }
}

/// Where each block of a chunk of `length` bytes is, from the table of their starts: blocks may stand in any order, and
/// each ends where the next one begins. The range of a block that begins outside of the chunk is empty.
pub(super) fn ranges(starts: &[[u8; 4]], length: usize) -> Vec<Range<usize>> {
    let starts: Vec<usize> = starts
        .iter()
        .map(|start| usize::try_from(i32::from_le_bytes(*start)).unwrap_or(length))
        .collect();
    let mut sorted = starts.clone();
    sorted.sort_unstable();
    starts
        .into_iter()
        .map(|start| {
            let next = sorted.partition_point(|other| *other <= start);
            let end = sorted.get(next).copied().unwrap_or(length);
            start.min(length)..end.min(length)
        })
        .collect()
}
