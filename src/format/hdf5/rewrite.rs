//! Chunks that are rewritten before they are delivered: text, and the ends of arrays that a dimension is longer than.

use bytes::Bytes;

use crate::array::chunk::{ChunkAddress, ChunkGrid};
use crate::codec::{CodecPipeline, Scratch};
use crate::error::{Error, Result};
use crate::format::hdf5::attributes::text;
use crate::format::hdf5::dataset::{Stored, TextForm};
use crate::format::hdf5::storage::File;
use crate::format::hdf5::types::Padding;

/// No rewritten chunk is larger, before or after.
const LARGEST: usize = 256 * 1024 * 1024;

/// Replaces addresses of chunks by what they are to hold.
#[derive(Debug)]
pub(super) struct Rewrite {
    form: Form,
    width: usize,
    grid: ChunkGrid,
    pipeline: CodecPipeline,
}

/// What is to become of a chunk.
#[derive(Debug)]
enum Form {
    /// Texts of any length.
    Text(TextForm),
    /// As it is within the stored extent, and this element beyond it.
    Ended { extent: Vec<u64>, beyond: Vec<u8> },
}

impl Rewrite {
    /// What a dataset stored as `stored` says, over `grid` but ending at `extent`, needs; nothing for most.
    pub(super) fn new(stored: &Stored, grid: &ChunkGrid, extent: &[u64]) -> Option<Self> {
        let form = match (stored.text, &stored.beyond) {
            (Some(text), _) => Form::Text(text),
            (None, Some(beyond)) if !grid.shape().starts_with(extent) => Form::Ended {
                extent: [extent, &stored.inner].concat(),
                beyond: beyond.clone(),
            },
            (None, _) => return None,
        };
        Some(Self {
            form,
            width: usize::try_from(stored.width).unwrap_or(usize::MAX),
            grid: grid.clone(),
            pipeline: stored.pipeline.clone(),
        })
    }

    /// The value of cells that were never written, where it differs from that in the file.
    pub(super) fn fill(&self) -> Option<&[u8]> {
        match &self.form {
            Form::Text(_) => None,
            Form::Ended { beyond, .. } => Some(beyond),
        }
    }

    /// Replaces the address of chunk `number`.
    ///
    /// # Errors
    /// `Corrupt` when the chunk or the heap is damaged, `Unsupported` when a text is not UTF-8, `Exhausted` when the
    /// chunk is too large.
    pub(super) fn apply(&self, file: &File, number: u64, address: &mut ChunkAddress) -> Result<()> {
        let rewritten = match &self.form {
            Form::Text(form) => match self.decoded(file, number, address)? {
                // Missing texts are the fill value.
                None => return Ok(()),
                Some(stored) => self.texts(file, *form, number, &stored)?,
            },
            Form::Ended { extent, beyond } => {
                let used = used(&self.grid, extent, number);
                // Chunks beyond the extent are missing, those within it are as they are if they were written.
                let within = used
                    .iter()
                    .zip(self.grid.chunk_shape())
                    .all(|(used, n)| used >= n);
                let written = !matches!(address, ChunkAddress::Missing);
                if used.contains(&0) || (within && written) {
                    return Ok(());
                }
                let stored = self.decoded(file, number, address)?;
                let mut bytes = match stored {
                    Some(stored) => stored,
                    None => vec![0; self.length(number)?],
                };
                let mut inside = Inside::new(&self.grid, used);
                for element in bytes.chunks_exact_mut(self.width.max(1)) {
                    if !inside.next() {
                        element.copy_from_slice(beyond);
                    }
                }
                bytes
            }
        };
        *address = ChunkAddress::Inline(Bytes::from(rewritten));
        Ok(())
    }

    fn length(&self, number: u64) -> Result<usize> {
        usize::try_from(self.grid.chunk_cells())
            .ok()
            .and_then(|cells| cells.checked_mul(self.width))
            .filter(|length| *length <= LARGEST)
            .ok_or_else(|| too_large(number))
    }

    /// The decoded bytes of a chunk; `None` when it was never written.
    fn decoded(&self, file: &File, number: u64, address: &ChunkAddress) -> Result<Option<Vec<u8>>> {
        let decoded_length = self.length(number)?;
        match address {
            ChunkAddress::Missing
            | ChunkAddress::Encoded(_)
            | ChunkAddress::Foreign { .. }
            | ChunkAddress::Object(_) => Ok(None),
            ChunkAddress::Inline(bytes) => Ok(Some(bytes.to_vec())),
            ChunkAddress::Range {
                offset,
                length,
                skipped,
                ..
            } => {
                let length = usize::try_from(*length).map_err(|_| too_large(number))?;
                let encoded = file.read_absolute(*offset, length)?;
                let mut decoded = vec![0; decoded_length];
                let scratch = &mut Scratch::default();
                self.pipeline
                    .decode(&encoded, *skipped, &mut decoded, scratch)?;
                Ok(Some(decoded))
            }
        }
    }

    fn texts(&self, file: &File, form: TextForm, number: u64, stored: &[u8]) -> Result<Vec<u8>> {
        let cells = stored.len() / self.width.max(1);
        let count = u32::try_from(cells).map_err(|_| too_large(number))?;
        let mut texts = count.to_le_bytes().to_vec();
        let mut inside = Inside::new(&self.grid, used(&self.grid, self.grid.shape(), number));
        for element in stored.chunks_exact(self.width.max(1)) {
            // What is beyond the array may be anything.
            let text = if inside.next() {
                one(file, form, element)?
            } else {
                Vec::new()
            };
            let length = u32::try_from(text.len()).map_err(|_| too_large(number))?;
            if texts.len() + text.len() > LARGEST {
                return Err(too_large(number));
            }
            texts.extend_from_slice(&length.to_le_bytes());
            texts.extend_from_slice(&text);
        }
        Ok(texts)
    }
}

fn too_large(number: u64) -> Error {
    Error::Exhausted(format!(
        "chunk {number} has to be rewritten and is larger than {LARGEST} bytes"
    ))
}

fn one(file: &File, form: TextForm, element: &[u8]) -> Result<Vec<u8>> {
    let text = match form {
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

/// Cells of chunk `number` before `extent`, along each dimension.
fn used(grid: &ChunkGrid, extent: &[u64], number: u64) -> Vec<u64> {
    let starts = grid.coord(number);
    let sizes = starts.iter().zip(grid.chunk_shape()).zip(extent);
    sizes
        .map(|((at, chunk), n)| n.saturating_sub(at * chunk))
        .collect()
}

/// Says of one cell of a chunk after another, in C order, whether it is inside the array.
struct Inside {
    chunk: Vec<u64>,
    /// Cells of the chunk inside the array, along each dimension.
    used: Vec<u64>,
    at: Vec<u64>,
}

impl Inside {
    fn new(grid: &ChunkGrid, used: Vec<u64>) -> Self {
        let chunk = grid.chunk_shape().to_vec();
        Self {
            used,
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
