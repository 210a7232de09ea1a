//! Text chunks: rewritten from what an HDF5 file stores to texts of any length.

use bytes::Bytes;

use crate::array::chunk::{ChunkAddress, ChunkGrid};
use crate::codec::{CodecPipeline, Scratch};
use crate::error::{Error, Result};
use crate::format::hdf5::attributes::text;
use crate::format::hdf5::dataset::{Stored, TextForm};
use crate::format::hdf5::storage::File;
use crate::format::hdf5::types::Padding;

/// No chunk of texts is larger, before or after.
const LARGEST: usize = 256 * 1024 * 1024;

/// Turns addresses of stored chunks into texts.
#[derive(Debug)]
pub(super) struct Texts {
    form: TextForm,
    width: usize,
    grid: ChunkGrid,
    pipeline: CodecPipeline,
}

impl Texts {
    /// For a dataset stored as `stored` says, over `grid`.
    pub(super) fn new(form: TextForm, stored: &Stored, grid: ChunkGrid) -> Self {
        Self {
            form,
            width: usize::try_from(stored.width).unwrap_or(usize::MAX),
            grid,
            pipeline: stored.pipeline.clone(),
        }
    }

    /// Replaces the address of chunk `number` by its texts.
    ///
    /// # Errors
    /// `Corrupt` when the chunk or the heap is damaged, `Unsupported` when a text is not UTF-8, `Exhausted` when the
    /// chunk is too large.
    pub(super) fn resolve(
        &self,
        file: &File,
        number: u64,
        address: &mut ChunkAddress,
    ) -> Result<()> {
        let too_large = || Error::Exhausted(format!("chunk {number} of texts is too large"));
        let cells = usize::try_from(self.grid.chunk_cells()).map_err(|_| too_large())?;
        let length = cells
            .checked_mul(self.width)
            .filter(|length| *length <= LARGEST)
            .ok_or_else(too_large)?;
        let stored = match address {
            ChunkAddress::Missing | ChunkAddress::Object(_) => return Ok(()),
            ChunkAddress::Inline(bytes) => bytes.to_vec(),
            ChunkAddress::Range {
                offset,
                length: encoded,
                skipped,
                ..
            } => {
                let encoded = usize::try_from(*encoded).map_err(|_| too_large())?;
                let encoded = file.read_absolute(*offset, encoded)?;
                let mut decoded = vec![0; length];
                let scratch = &mut Scratch::default();
                self.pipeline
                    .decode(&encoded, *skipped, &mut decoded, scratch)?;
                decoded
            }
        };
        let count = u32::try_from(cells).map_err(|_| too_large())?;
        let mut texts = count.to_le_bytes().to_vec();
        let mut inside = Inside::new(&self.grid, number);
        for element in stored.chunks_exact(self.width.max(1)).take(cells) {
            // What is beyond the array may be anything.
            let text = if inside.next() {
                self.one(file, element)?
            } else {
                Vec::new()
            };
            let length = u32::try_from(text.len()).map_err(|_| too_large())?;
            if texts.len() + text.len() > LARGEST {
                return Err(too_large());
            }
            texts.extend_from_slice(&length.to_le_bytes());
            texts.extend_from_slice(&text);
        }
        *address = ChunkAddress::Inline(Bytes::from(texts));
        Ok(())
    }

    fn one(&self, file: &File, element: &[u8]) -> Result<Vec<u8>> {
        let text = match self.form {
            TextForm::Heap => text(file, element)?,
            TextForm::SpacePadded => Padding::Space.trim(element).to_vec(),
        };
        if std::str::from_utf8(&text).is_err() {
            return Err(Error::Unsupported(
                "text that is not UTF-8 cannot be read".into(),
            ));
        }
        Ok(text)
    }
}

/// Says of one cell of a chunk after another, in C order, whether it is inside the array.
struct Inside {
    chunk: Vec<u64>,
    /// Cells of the chunk inside the array, along each dimension.
    used: Vec<u64>,
    at: Vec<u64>,
}

impl Inside {
    fn new(grid: &ChunkGrid, number: u64) -> Self {
        let chunk = grid.chunk_shape().to_vec();
        let starts = grid.coord(number);
        let used = starts.iter().zip(&chunk).zip(grid.shape());
        Self {
            used: used
                .map(|((at, chunk), n)| n.saturating_sub(at * chunk))
                .collect(),
            at: vec![0; chunk.len()],
            chunk,
        }
    }

    fn next(&mut self) -> bool {
        let inside = self.at.iter().zip(&self.used).all(|(at, used)| at < used);
        for (at, chunk) in self.at.iter_mut().zip(&self.chunk).rev() {
            *at += 1;
            if *at < *chunk {
                break;
            }
            *at = 0;
        }
        inside
    }
}
