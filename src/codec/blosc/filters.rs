//! The filters of a Blosc block, undone.

use super::header::{BITSHUFFLE, DELTA, FILTERS, Header, SHUFFLE};
use crate::codec::shuffle::{bitunshuffle, copy, unshuffle};
use crate::error::{Error, Result};

/// Loses precision when it is applied, and leaves nothing to undo.
const TRUNC_PREC: u8 = 4;

/// Filters in the order in which they are undone; what leaves nothing to undo is not among them.
#[derive(Debug)]
pub(super) struct Filters {
    moves: Vec<Move>,
    /// Bytes of the words that were combined with those of the first block.
    delta: Option<usize>,
}

/// A filter that puts every bit somewhere else.
#[derive(Clone, Copy, Debug)]
enum Move {
    Shuffle(usize),
    Bitshuffle { size: usize, whole: Whole },
}

/// What the bit shuffle does with a number of elements that is no multiple of eight.
#[derive(Clone, Copy, Debug)]
enum Whole {
    /// It leaves them all as they are (Blosc 1).
    OrNothing,
    /// It leaves the last ones as they are (Blosc 2).
    AsFarAsPossible,
}

/// Buffers of a block.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    pub(super) source: Vec<u8>,
    target: Vec<u8>,
    planes: Vec<u8>,
}

impl Filters {
    /// The filters that a header names.
    pub(super) fn of(header: &Header) -> Result<Self> {
        let mut moves = Vec::with_capacity(FILTERS);
        let mut delta = None;
        let mut changed = false;
        for (code, parameter) in header.filters {
            match code {
                0 => continue,
                SHUFFLE => moves.push(Move::Shuffle(match parameter {
                    0 => header.typesize,
                    size => usize::from(size),
                })),
                BITSHUFFLE => moves.push(Move::Bitshuffle {
                    size: header.typesize,
                    whole: match header.version {
                        2 => Whole::OrNothing,
                        _ => Whole::AsFarAsPossible,
                    },
                }),
                // The difference is taken from what was there before all filters, so it must have been the first one.
                DELTA if !changed => delta = Some(delta_word(header)?),
                TRUNC_PREC => {}
                _ => return Err(unsupported(code)),
            }
            changed = true;
        }
        moves.reverse();
        Ok(Self { moves, delta })
    }

    /// Whether a block is decoded into a buffer before filters are undone into its place.
    pub(super) fn moves(&self) -> bool {
        !self.moves.is_empty()
    }

    /// Whether every block needs the first one.
    pub(super) fn refers(&self) -> bool {
        self.delta.is_some()
    }

    /// Undoes all filters, from `buffers.source` if any of them moves, else in place.
    ///
    /// `first` is the first block of the chunk, or `None` if this is it.
    pub(super) fn undo(&self, out: &mut [u8], first: Option<&[u8]>, buffers: &mut Buffers) {
        let length = out.len();
        if let Some((last, others)) = self.moves.split_last() {
            for step in others {
                if buffers.target.len() < length {
                    buffers.target.resize(length, 0);
                }
                let source = buffers.source.get(..length).unwrap_or_default();
                let target = buffers.target.get_mut(..length).unwrap_or_default();
                step.undo(source, target, &mut buffers.planes);
                std::mem::swap(&mut buffers.source, &mut buffers.target);
            }
            let source = buffers.source.get(..length).unwrap_or_default();
            last.undo(source, out, &mut buffers.planes);
        }
        match (self.delta, first) {
            (Some(word), None) => undo_delta_of_first(word, out),
            (Some(_), Some(first)) => undo_delta(first, out),
            (None, _) => {}
        }
    }
}

impl Move {
    fn undo(self, source: &[u8], out: &mut [u8], planes: &mut Vec<u8>) {
        match self {
            Self::Shuffle(size) => unshuffle(size, source, out),
            Self::Bitshuffle { size, whole } => {
                let count = source.len() / size;
                let shuffled = match whole {
                    Whole::OrNothing if !count.is_multiple_of(8) => 0,
                    Whole::OrNothing | Whole::AsFarAsPossible => count - count % 8,
                };
                let (source, rest) = source.split_at(shuffled * size);
                let (out, tail) = out.split_at_mut(source.len());
                bitunshuffle(size, source, out, planes);
                copy(rest, tail);
            }
        }
    }
}

/// The size of the words that the filter combines.
///
/// What is left behind the last word of a block is not written by the encoder, so it is lost.
fn delta_word(header: &Header) -> Result<usize> {
    let word = match header.typesize {
        1 | 2 | 4 => header.typesize,
        size if size.is_multiple_of(8) => 8,
        _ => 1,
    };
    if header.nbytes.is_multiple_of(word) && header.block_size.is_multiple_of(word) {
        Ok(word)
    } else {
        Err(Error::Unsupported(format!(
            "the Blosc filter delta on blocks that are no whole number of {word}-byte words is not supported"
        )))
    }
}

/// Each word of the first block was combined with the one before it.
fn undo_delta_of_first(word: usize, out: &mut [u8]) {
    let mut words = out.chunks_exact_mut(word);
    let mut before = [0; 8];
    for word in &mut words {
        for (byte, before) in word.iter_mut().zip(&mut before) {
            *byte ^= *before;
            *before = *byte;
        }
    }
}

/// Each word of another block was combined with that of the first block at the same place.
fn undo_delta(first: &[u8], out: &mut [u8]) {
    for (byte, first) in out.iter_mut().zip(first) {
        *byte ^= *first;
    }
}

fn unsupported(code: u8) -> Error {
    let name = match code {
        DELTA => "delta after another filter",
        32 => "ndcell",
        33 => "ndmean",
        35 => "bytedelta",
        36 => "int_trunc",
        _ => "unknown",
    };
    Error::Unsupported(format!("the Blosc filter {code} ({name}) is not supported"))
}
