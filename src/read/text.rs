//! Chunks of text to slabs of text: elements of no fixed size, decoded one by one.

use arrow::array::StringArray;

use crate::array::chunk::ChunkAddress;
use crate::array::slab::each_row;
use crate::error::{Error, Result, Within};
use crate::read::decode::{Buffers, Job, stored};
use crate::read::encoded::{Part, Stored};
use crate::read::{Fetched, ReadPlan};
use crate::store::Store;

/// Largest decoded chunk of text, in bytes.
const MAX_TEXT_CHUNK: usize = 1 << 30;

impl Job {
    /// The texts of all cells of a plan.
    pub(super) fn text(
        &self,
        store: &Store,
        plan: &ReadPlan,
        fetched: &Fetched,
        buffers: &mut Buffers,
        cells: usize,
    ) -> Result<StringArray> {
        let mut words = vec![String::new(); cells];
        let fill = String::from_utf8_lossy(&self.layout.fill);
        for (at, (number, address)) in plan.chunks.iter().enumerate() {
            let part = Part {
                address,
                fetched: stored(fetched, at),
                crop: self.crop(*number)?,
            };
            self.text_chunk(store, &part, &fill, &mut words, buffers)
                .within(|| self.place(*number))?;
        }
        Ok(StringArray::from(words))
    }

    fn text_chunk(
        &self,
        store: &Store,
        part: &Part<'_>,
        fill: &str,
        words: &mut [String],
        buffers: &mut Buffers,
    ) -> Result<()> {
        let Buffers {
            counters,
            encoded,
            scratch,
            ..
        } = buffers;
        let decoded;
        let stored = match part.address {
            ChunkAddress::Inline(bytes) => Some(bytes.as_ref()),
            ChunkAddress::Missing
            | ChunkAddress::Encoded(_)
            | ChunkAddress::Foreign { .. }
            | ChunkAddress::Range { .. }
            | ChunkAddress::Object(_) => match part.encoded(store, None, encoded)? {
                None => None,
                Some(Stored { bytes, read }) => {
                    counters.bytes_read += read;
                    decoded = self.layout.pipeline.decode_to_vec(
                        bytes,
                        part.skipped(),
                        MAX_TEXT_CHUNK,
                        scratch,
                    )?;
                    Some(decoded.as_slice())
                }
            },
        };
        let stored = match stored {
            None => {
                counters.chunks_missing += 1;
                None
            }
            Some(bytes) => {
                counters.chunks_read += 1;
                counters.bytes_decoded += bytes.len();
                Some(vlen_utf8(bytes)?)
            }
        };
        each_row(
            &self.from,
            &self.to,
            &part.crop,
            &mut |from, to, cells, stride| {
                for cell in 0..cells {
                    let word = match &stored {
                        None => fill,
                        Some(stored) => stored.get(from + cell * stride).ok_or_else(|| {
                            Error::Corrupt("it has fewer texts than cells".into())
                        })?,
                    };
                    if let Some(slot) = words.get_mut(to + cell) {
                        word.clone_into(slot);
                    }
                }
                Ok(())
            },
        )
    }
}

/// The texts of a decoded chunk of [`crate::array::dtype::ElementType::Text`].
fn vlen_utf8(bytes: &[u8]) -> Result<Vec<&str>> {
    let short = || Error::Corrupt("its texts end early".into());
    let number = |at: usize| -> Result<usize> {
        let bytes = bytes
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok());
        let number = u32::from_le_bytes(bytes.ok_or_else(short)?);
        usize::try_from(number).map_err(|_| short())
    };
    let count = number(0)?;
    let mut words = Vec::with_capacity(count.min(bytes.len() / 4));
    let mut at = 4usize;
    for _ in 0..count {
        let end = (at + 4).checked_add(number(at)?).ok_or_else(short)?;
        let word = bytes.get(at + 4..end).ok_or_else(short)?;
        words.push(
            std::str::from_utf8(word)
                .map_err(|_| Error::Corrupt("a text is not valid UTF-8".into()))?,
        );
        at = end;
    }
    Ok(words)
}
