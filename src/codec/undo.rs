//! A pipeline undone step by step, from the stored bytes to the elements of a chunk.

use zstd::zstd_safe::get_frame_content_size;

use super::blosc::{Chunk, Workspace};
use super::checksum::{self, verify_crc32c, verify_fletcher32};
use super::compress::{self, Failure, Outcome};
use super::shuffle::{copy, swap_bytes, unshuffle};
use super::{Codec, CodecPipeline, Scratch};
use crate::error::{Error, Result};

/// A chunk on its way back through a pipeline.
pub(super) struct Undo<'a> {
    /// The steps that were taken, in the order in which they encode.
    steps: Vec<&'a Codec>,
    /// The stored bytes, as long as nothing but an end has been cut off.
    stored: Option<&'a [u8]>,
    /// Else the first `length` bytes of `front` are the data.
    length: usize,
    front: &'a mut Vec<u8>,
    back: &'a mut Vec<u8>,
    workspace: &'a mut Workspace,
}

/// What is known of the size of data before it is decoded.
#[derive(Clone, Copy)]
enum Size {
    Exactly(usize),
    /// The caller takes no more.
    AtMost(usize),
    /// No compressor makes more of what is inside.
    Plausibly(usize),
}

impl<'a> Undo<'a> {
    /// Bit `i` of `skipped` tells that step `i` was not taken.
    pub(super) fn new(
        pipeline: &'a CodecPipeline,
        stored: &'a [u8],
        skipped: u32,
        scratch: &'a mut Scratch,
    ) -> Self {
        let taken = |index: usize| {
            let index = u32::try_from(index).ok();
            let bits = index.and_then(|index| skipped.checked_shr(index));
            bits.is_none_or(|bits| bits & 1 == 0)
        };
        let indexed = pipeline.0.iter().enumerate();
        let steps = indexed.filter(|(index, _)| taken(*index));
        Self {
            steps: steps.map(|(_, codec)| codec).collect(),
            stored: Some(stored),
            length: 0,
            front: &mut scratch.front,
            back: &mut scratch.back,
            workspace: &mut scratch.workspace,
        }
    }

    /// Undoes all steps; what comes out has exactly the length of `decoded`.
    pub(super) fn into_slice(mut self, decoded: &mut [u8]) -> Result<()> {
        let steps = std::mem::take(&mut self.steps);
        let size = Size::Exactly(decoded.len());
        // The order of bytes is exchanged in place in the end, so that the step outside of it writes into `decoded`.
        let swapped = |step: &&&Codec| matches!(step, Codec::ByteSwap(_));
        let swaps = steps.iter().take_while(swapped).count();
        let (swaps, steps) = steps.split_at(swaps);
        match steps.split_first() {
            Some((last, others)) if !is_checksum(last) => {
                self.undo_all(others, size.after(last))?;
                let outcome = expand(
                    last,
                    data(self.stored, self.front, self.length),
                    decoded,
                    self.workspace,
                );
                size.check(last, outcome)?;
            }
            _ => {
                self.undo_all(steps, size)?;
                let data = data(self.stored, self.front, self.length);
                if data.len() != decoded.len() {
                    return Err(Error::Corrupt(format!(
                        "the chunk has {} bytes instead of {}",
                        data.len(),
                        decoded.len()
                    )));
                }
                copy(data, decoded);
            }
        }
        for swap in swaps {
            if let Codec::ByteSwap(element) = swap {
                swap_bytes(bytes_of(*element), decoded);
            }
        }
        Ok(())
    }

    /// Undoes all steps, if what comes out has at most `limit` bytes.
    pub(super) fn into_vec(mut self, limit: usize) -> Result<Vec<u8>> {
        let steps = std::mem::take(&mut self.steps);
        self.undo_all(&steps, Size::AtMost(limit))?;
        let data = data(self.stored, self.front, self.length);
        if data.len() > limit {
            return Err(too_long(limit));
        }
        Ok(data.to_vec())
    }

    /// Undoes `steps`, of which the first was given data of this `size`.
    fn undo_all(&mut self, steps: &[&'a Codec], size: Size) -> Result<()> {
        let mut size = size;
        let with_size = |step: &&'a Codec| {
            let given = size;
            size = size.after(step);
            (*step, given)
        };
        let steps: Vec<(&Codec, Size)> = steps.iter().map(with_size).collect();
        let mut outermost_first = steps.into_iter().rev();
        outermost_first.try_for_each(|(step, size)| self.undo(step, size))
    }

    /// Undoes one step that was given data of this `size`.
    fn undo(&mut self, step: &Codec, size: Size) -> Result<()> {
        match step {
            Codec::ByteSwap(element) => {
                if let Some(stored) = self.stored.take() {
                    self.front.clear();
                    self.front.extend_from_slice(stored);
                    self.length = stored.len();
                }
                let data = self.front.get_mut(..self.length).unwrap_or_default();
                swap_bytes(bytes_of(*element), data);
                Ok(())
            }
            Codec::Fletcher32 => self.cut(verify_fletcher32),
            Codec::Crc32c => self.cut(verify_crc32c),
            Codec::Shuffle(_)
            | Codec::Zlib
            | Codec::Gzip
            | Codec::Zstd
            | Codec::Lz4
            | Codec::Blosc => self.replace(step, size),
        }
    }

    /// Leaves what `verify` says is the data.
    fn cut(&mut self, verify: fn(&[u8]) -> Result<&[u8]>) -> Result<()> {
        match self.stored {
            Some(stored) => self.stored = Some(verify(stored)?),
            None => self.length = verify(data(None, self.front, self.length))?.len(),
        }
        Ok(())
    }

    /// Decodes into the other buffer.
    fn replace(&mut self, step: &Codec, size: Size) -> Result<()> {
        let data = data(self.stored, self.front, self.length);
        let (Size::Exactly(most) | Size::AtMost(most) | Size::Plausibly(most)) = size;
        let mut capacity = match size {
            Size::Exactly(length) => length,
            Size::AtMost(_) | Size::Plausibly(_) => expected(step, data).min(most),
        };
        let outcome = loop {
            if self.back.len() < capacity {
                self.back.resize(capacity, 0);
            }
            let out = self.back.get_mut(..capacity).unwrap_or_default();
            match expand(step, data, out, self.workspace) {
                Err(Failure::NoSpace) if capacity < most => {
                    capacity = capacity.saturating_mul(4).min(most);
                }
                outcome => break outcome,
            }
        };
        self.length = size.check(step, outcome)?;
        self.stored = None;
        std::mem::swap(self.front, self.back);
        Ok(())
    }
}

impl Size {
    /// What is known after a step has encoded data of this size.
    fn after(self, step: &Codec) -> Self {
        let longer = |size: usize| size.saturating_add(checksum::LENGTH);
        match step {
            Codec::ByteSwap(_) | Codec::Shuffle(_) => self,
            Codec::Fletcher32 | Codec::Crc32c => match self {
                Self::Exactly(size) => Self::Exactly(longer(size)),
                Self::AtMost(size) => Self::AtMost(longer(size)),
                Self::Plausibly(size) => Self::Plausibly(longer(size)),
            },
            Codec::Zlib | Codec::Gzip | Codec::Zstd | Codec::Lz4 | Codec::Blosc => {
                let (Self::Exactly(size) | Self::AtMost(size) | Self::Plausibly(size)) = self;
                Self::Plausibly(size.saturating_mul(2).saturating_add(64 << 10))
            }
        }
    }

    /// The number of bytes written, if it is one of this size.
    fn check(self, step: &Codec, outcome: Outcome) -> Result<usize> {
        match (outcome, self) {
            (Ok(written), Self::Exactly(length)) if written != length => Err(Error::Corrupt(
                format!("{step} data of {written} bytes was found instead of {length}"),
            )),
            (Ok(written), _) => Ok(written),
            (Err(Failure::NoSpace), Self::AtMost(limit)) => Err(too_long(limit)),
            (Err(Failure::NoSpace), Self::Exactly(length) | Self::Plausibly(length)) => Err(
                Error::Corrupt(format!("{step} data of more than {length} bytes was found")),
            ),
            (Err(Failure::Error(error)), _) => Err(error),
        }
    }
}

/// The data between two steps.
fn data<'a>(stored: Option<&'a [u8]>, front: &'a [u8], length: usize) -> &'a [u8] {
    match stored {
        Some(stored) => stored,
        None => front.get(..length).unwrap_or_default(),
    }
}

/// Undoes a step that puts its data somewhere else; `out` may be longer than needed.
fn expand(step: &Codec, data: &[u8], out: &mut [u8], workspace: &mut Workspace) -> Outcome {
    let decompressors = &mut workspace.decompressors;
    match step {
        Codec::Zlib => decompressors.zlib(data, out),
        Codec::Gzip => decompressors.gzip(data, out),
        Codec::Zstd => decompressors.zstd(data, out),
        Codec::Lz4 => compress::lz4(data, out),
        Codec::Blosc => {
            let chunk = Chunk::parse(data)?;
            let out = out.get_mut(..chunk.nbytes()).ok_or(Failure::NoSpace)?;
            chunk.decode_with(out, workspace)?;
            Ok(out.len())
        }
        Codec::Shuffle(element) => {
            let out = out.get_mut(..data.len()).ok_or(Failure::NoSpace)?;
            unshuffle(bytes_of(*element), data, out);
            Ok(out.len())
        }
        Codec::ByteSwap(_) | Codec::Fletcher32 | Codec::Crc32c => {
            let out = out.get_mut(..data.len()).ok_or(Failure::NoSpace)?;
            copy(data, out);
            Ok(out.len())
        }
    }
}

/// A first guess of the decoded size: what the data says, if its length makes that plausible.
fn expected(step: &Codec, data: &[u8]) -> usize {
    let word = |at: usize| {
        let bytes = data.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)))
    };
    let length = data.len();
    let said = match step {
        Codec::Lz4 => word(0),
        Codec::Blosc => word(4),
        Codec::Zstd => get_frame_content_size(data).ok().flatten().unwrap_or(0),
        Codec::Shuffle(_) | Codec::ByteSwap(_) | Codec::Fletcher32 | Codec::Crc32c => 0,
        Codec::Zlib | Codec::Gzip => 0,
    };
    let said = usize::try_from(said).unwrap_or(usize::MAX);
    said.max(length.saturating_mul(2))
        .clamp(1024, length.saturating_mul(256).max(1024))
}

fn is_checksum(step: &Codec) -> bool {
    matches!(step, Codec::Fletcher32 | Codec::Crc32c)
}

/// An element longer than memory is as good as none.
fn bytes_of(element: u32) -> usize {
    usize::try_from(element).unwrap_or(usize::MAX)
}

fn too_long(limit: usize) -> Error {
    Error::Exhausted(format!("the chunk decodes to more than {limit} bytes"))
}
