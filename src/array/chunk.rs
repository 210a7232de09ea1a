//! Chunk grids: how the cells of a variable are cut into chunks, and where the bytes of a chunk are.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A regular grid of chunks over an n-dimensional shape.
///
/// ```text
/// shape 5×7, chunk 2×3:   0 | 1 | 2      chunks are numbered in C order;
///                         3 | 4 | 5      those at the upper edges reach beyond the shape,
///                         6 | 7 | 8      their stored bytes are of full size all the same
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Extents")]
pub struct ChunkGrid {
    shape: Vec<u64>,
    chunk: Vec<u64>,
    #[serde(skip_serializing)]
    counts: Vec<u64>,
}

/// A [`ChunkGrid`] as it comes from outside.
#[derive(Deserialize)]
struct Extents {
    shape: Vec<u64>,
    chunk: Vec<u64>,
}

impl TryFrom<Extents> for ChunkGrid {
    type Error = Error;

    fn try_from(Extents { shape, chunk }: Extents) -> Result<Self> {
        Self::new(shape, chunk)
    }
}

impl ChunkGrid {
    /// A grid of chunks of extent `chunk` over `shape` (both in cells, one entry a dimension).
    ///
    /// # Errors
    /// `Corrupt` if the ranks differ, a chunk extent is 0, or the number of cells or chunks does not fit 63 bits.
    pub fn new(shape: Vec<u64>, chunk: Vec<u64>) -> Result<Self> {
        if shape.len() != chunk.len() {
            return Err(Error::Corrupt(format!(
                "chunk shape {chunk:?} has another rank than the array shape {shape:?}"
            )));
        }
        if chunk.contains(&0) {
            return Err(Error::Corrupt(format!(
                "chunk shape {chunk:?} has an extent of 0"
            )));
        }
        let fits = |extents: &[u64]| {
            extents
                .iter()
                .filter(|extent| **extent != 0)
                .try_fold(1u64, |product, extent| product.checked_mul(*extent))
                .is_some_and(|product| product <= i64::MAX as u64)
        };
        if !fits(&shape) || !fits(&chunk) {
            return Err(Error::Corrupt(format!(
                "array shape {shape:?} with chunks {chunk:?} has more cells than can be addressed"
            )));
        }
        let counts: Vec<u64> = shape
            .iter()
            .zip(&chunk)
            .map(|(n, c)| n.div_ceil(*c))
            .collect();
        Ok(Self {
            shape,
            chunk,
            counts,
        })
    }

    /// Extent of the array, in cells.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Extent of a whole chunk, in cells.
    #[must_use]
    pub fn chunk_shape(&self) -> &[u64] {
        &self.chunk
    }

    /// Number of chunks along each dimension.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Number of chunks of the grid.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.counts.iter().product()
    }

    /// Whether there is no chunk at all, because a dimension has length 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.contains(&0)
    }

    /// Cells of a whole chunk.
    #[must_use]
    pub fn chunk_cells(&self) -> u64 {
        self.chunk.iter().product()
    }

    /// The C-order number of the chunk at `coord` (in chunks, one entry a dimension).
    #[must_use]
    pub fn number(&self, coord: &[u64]) -> u64 {
        coord
            .iter()
            .zip(&self.counts)
            .fold(0, |number, (at, count)| number * count + at)
    }

    /// The place in the grid, in chunks, of the chunk with C-order number `number`.
    #[must_use]
    pub fn coord(&self, number: u64) -> Vec<u64> {
        let mut rest = number;
        let mut coord = vec![0; self.counts.len()];
        for (at, count) in coord.iter_mut().zip(&self.counts).rev() {
            *at = rest % count;
            rest /= count;
        }
        coord
    }
}

/// Where the encoded bytes of one chunk are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkAddress {
    /// Never written: every cell has the fill value, nothing is fetched.
    Missing,
    /// The bytes stand in the metadata, already decoded (the pipeline does not apply).
    Inline(Bytes),
    /// The bytes stand in the metadata as they are stored: the pipeline applies.
    Encoded(Bytes),
    /// A byte range of an object.
    Range {
        /// Key below the dataset's location; empty for a dataset that is one object.
        object: Arc<str>,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// Bit `i` set: step `i` of the codec pipeline was left out for this chunk.
        skipped: u32,
    },
    /// A whole object; if there is none, the chunk was never written.
    Object(Arc<str>),
    /// A byte range of an object outside of the dataset, which is not followed: whoever may read the dataset need not be
    /// allowed to read that.
    Foreign {
        /// Where the object is.
        location: Arc<str>,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
}

/// Order of the elements within the decoded bytes of a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ElementOrder {
    /// C order: the last dimension varies fastest.
    C,
    /// C order of the transposed chunk: stored axis `i` is array axis `axes[i]`. Fortran order is `[n-1, …, 0]`.
    Permuted(Vec<usize>),
    /// The chunk is cut into blocks of this shape (in cells), C order within a block and of the blocks; blocks at the
    /// upper edges are padded to full size. With a Blosc pipeline, storage block `i` is block `i` of this order.
    Blocked(Vec<u64>),
}

/// The chunk index of one variable: from chunk numbers to addresses.
#[async_trait]
pub trait ChunkIndex: Debug + Send + Sync {
    /// The addresses of `chunks` (C-order numbers in the variable's [`ChunkGrid`]), in the order asked.
    ///
    /// Reads index structures only where these chunks need them, and keeps what it has read.
    ///
    /// # Errors
    /// `Corrupt` or `Io` when the index cannot be read.
    async fn locate(&self, chunks: &[u64]) -> Result<Vec<ChunkAddress>>;

    /// Forgets what has been read of objects that others may have replaced: asked when reading at an address is a
    /// `Conflict`.
    fn forget(&self) {}
}
