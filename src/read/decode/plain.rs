//! Chunks that are stored as they are: only the parts that hold selected cells are read, piece by piece, so that each is still
//! in cache when it is used.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{Job, Sink, sized};
use crate::array::chunk::ElementOrder;
use crate::array::slab::{Crop, Run};
use crate::error::{Error, Result};
use crate::read::Buffers;
use crate::store::Store;

/// Bytes that are read at once.
const PIECE: usize = 1 << 18;

/// Bytes between two parts from which on it costs less to read them one by one than with what lies between them.
const GAP: usize = 8 << 10;

/// Where the bytes of a chunk are.
pub(super) enum Place<'a> {
    /// In an object, from a byte on.
    Range(&'a Store, &'a str, u64),
    /// In a file of its own.
    File(&'a Store, &'a str, File),
}

impl Place<'_> {
    /// Fills a buffer with the bytes from `offset` on.
    fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<()> {
        let offset = offset as u64;
        match self {
            Place::Range(store, object, start) => {
                store.read_local(object, start.saturating_add(offset), buffer)
            }
            Place::File(store, object, file) => file.read_exact_at(buffer, offset).map_err(|e| {
                let place = store.local_path(object).unwrap_or_default();
                Error::io(format!("{} cannot be read", place.display()), e)
            }),
        }
    }

    fn check(&self, offset: usize, length: usize) -> Result<()> {
        match self {
            Place::Range(store, object, start) => {
                store.check_local(object, start.saturating_add(offset as u64), length)
            }
            // Its length is known.
            Place::File(..) => Ok(()),
        }
    }
}

impl Job {
    /// Whether stored bytes are cells in C order: parts of a chunk can be read.
    pub(super) fn is_plain(&self) -> bool {
        self.layout.pipeline.0.is_empty() && self.layout.order == ElementOrder::C
    }

    /// Reads what of a chunk the selection needs.
    pub(super) fn plain(
        &self,
        place: &Place<'_>,
        crop: &Crop,
        sink: &mut dyn Sink,
        buffers: &mut Buffers,
    ) -> Result<()> {
        let size = self.size()?;
        let span = crop.span(&self.from);
        let (start, length) = (span.start * size, span.len() * size);
        place.check(start, length)?;
        buffers.counters.chunks_read += 1;
        if let Some(target) = sink.target(crop, &self.chunk) {
            buffers.counters.bytes_read += length;
            buffers.counters.bytes_decoded += length;
            return place.read(start, target);
        }
        let mut is_begun = false;
        for piece in self.pieces(crop, size) {
            let read = self.piece(place, &piece, size, sink, buffers);
            read.map_err(|error| match error {
                // What is half done cannot be done again.
                Error::Conflict(text) if is_begun => Error::io("a chunk cannot be read", text),
                error => error,
            })?;
            is_begun = true;
        }
        Ok(())
    }

    /// Reads the cells that `crop` spans.
    fn piece(
        &self,
        place: &Place<'_>,
        crop: &Crop,
        size: usize,
        sink: &mut dyn Sink,
        buffers: &mut Buffers,
    ) -> Result<()> {
        let span = crop.span(&self.from);
        let length = span.len() * size;
        buffers.counters.bytes_read += length;
        buffers.counters.bytes_decoded += length;
        let part = sized(&mut buffers.chunk, length);
        place.read(span.start * size, part)?;
        // Source indices count from the start of the chunk, the buffer from the first selected cell.
        let shifted = crop.shifted();
        sink.cells(part, &self.from, &shifted)
    }

    /// A crop cut along its slowest dimension into pieces of few bytes; where the selected cells of its indices lie far from
    /// each other, each index is one.
    fn pieces(&self, crop: &Crop, size: usize) -> Vec<Crop> {
        let (Some(runs), Some(stride)) = (crop.0.first(), self.from.first()) else {
            return vec![crop.clone()];
        };
        let piece = |run: &Run, start: usize, length: usize| {
            let mut piece = crop.clone();
            if let Some(slowest) = piece.0.first_mut() {
                *slowest = vec![Run {
                    from: run.from + start,
                    to: run.to + start,
                    length,
                }];
            }
            piece
        };
        let bytes = stride * size;
        let of_index = runs
            .first()
            .map(|run| piece(run, 0, 1).span(&self.from).len() * size);
        let is_sparse = bytes.saturating_sub(of_index.unwrap_or(0)) >= GAP;
        let near = runs.windows(2).all(|pair| match pair {
            [one, next] => (next.from - one.from - one.length) * bytes < GAP,
            _ => true,
        });
        if !is_sparse && near && crop.span(&self.from).len() * size <= PIECE {
            return vec![crop.clone()];
        }
        let step = match is_sparse {
            true => 1,
            false => (PIECE / bytes.max(1)).max(1),
        };
        let pieces = runs.iter().flat_map(|run| {
            let starts = (0..run.length).step_by(step);
            starts.map(move |start| (run, start, step.min(run.length - start)))
        });
        pieces
            .map(|(run, start, length)| piece(run, start, length))
            .collect()
    }
}
