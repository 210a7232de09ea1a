//! Objects of an array: from cells to encoded chunks and shards.

use super::dtype::DataType;
use super::encoders::{recipe_v2, recipe_v3};
use super::fill::fill_value;
use super::index::Keys;
use super::json::Json;
use super::shard_encoder::ShardEncoder;
use super::{v2, v3};
use crate::array::chunk::{ChunkGrid, ElementOrder};
use crate::array::slab::{Crop, copy_cells, strides};
use crate::codec::encode::{EncodePipeline, EncodeScratch};
use crate::error::{Error, Result};

/// What becomes of the elements of a chunk when they are stored: the other direction of a chain of codecs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recipe {
    /// Order of the elements.
    pub(super) order: ElementOrder,
    /// Steps from elements to stored bytes.
    pub(super) pipeline: EncodePipeline,
}

/// How the cells of an array become objects.
#[derive(Clone, Debug)]
pub(super) struct ArrayWriter {
    /// Bytes of an element.
    pub(super) size: usize,
    /// One element with the fill value.
    pub(super) fill: Vec<u8>,
    /// The shape of the array, and its division into objects.
    pub(super) objects: ChunkGrid,
    pub(super) keys: Keys,
    pub(super) recipe: Recipe,
    /// Where objects are shards: how chunks are put into them.
    pub(super) shard: Option<ShardEncoder>,
}

impl ArrayWriter {
    /// The writer of an array of Zarr v2 whose keys begin with `prefix`.
    ///
    /// # Errors
    /// `Unsupported` naming what can be read but not written.
    pub(super) fn v2(prefix: String, zarray: &Json) -> Result<Self> {
        let head = v2::head(zarray)?;
        let dtype = head.dtype;
        let recipe = recipe_v2(&head)?;
        Self::new(
            dtype,
            zarray.get("fill_value"),
            head.grid,
            Keys {
                prefix,
                ..head.keys
            },
            recipe,
            None,
        )
    }

    /// The writer of an array of Zarr v3 whose keys begin with `prefix`.
    ///
    /// # Errors
    /// `Unsupported` naming what can be read but not written.
    pub(super) fn v3(prefix: String, document: &Json) -> Result<Self> {
        let head = v3::head(document)?;
        let rank = head.shape.len();
        let (recipe, shard) = match head.sharding {
            Some(configuration) => {
                let (recipe, shard) = ShardEncoder::parse(configuration, head.dtype, &head.stored)?;
                (recipe, Some(shard))
            }
            None => (recipe_v3(head.codecs, head.dtype, rank)?, None),
        };
        let objects = ChunkGrid::new(head.shape, head.stored)?;
        let keys = Keys {
            prefix,
            ..head.keys
        };
        let fill = document.get("fill_value");
        Self::new(head.dtype, fill, objects, keys, recipe, shard)
    }

    fn new(
        dtype: DataType,
        fill: &Json,
        objects: ChunkGrid,
        keys: Keys,
        recipe: Recipe,
        shard: Option<ShardEncoder>,
    ) -> Result<Self> {
        let size = dtype
            .element
            .size()
            .ok_or_else(|| Error::Unsupported("text of any length cannot be written".to_owned()))?;
        let mut fill = fill_value(fill, dtype)?;
        fill.resize(size, 0);
        Ok(Self {
            size,
            fill,
            objects,
            keys,
            recipe,
            shard,
        })
    }

    /// The stored bytes of an object; `cells` are those of a whole one in C order.
    ///
    /// # Errors
    /// As [`EncodePipeline::encode`].
    pub(super) fn encode(&self, cells: &[u8], scratch: &mut EncodeScratch) -> Result<Vec<u8>> {
        let shape = extents(self.objects.chunk_shape())?;
        match &self.shard {
            Some(shard) => shard.encode(&shape, cells, &self.fill, &self.recipe, scratch),
            None => self.recipe.encode(&shape, cells, self.size, scratch),
        }
    }
}

impl Recipe {
    /// The stored bytes of a chunk of `shape`, whose `cells` (elements of `size` bytes) are in C order.
    pub(super) fn encode(
        &self,
        shape: &[usize],
        cells: &[u8],
        size: usize,
        scratch: &mut EncodeScratch,
    ) -> Result<Vec<u8>> {
        match &self.order {
            ElementOrder::C => self.pipeline.encode(cells, scratch),
            ElementOrder::Permuted(axes) => {
                let ordered = permuted(shape, cells, size, axes)?;
                self.pipeline.encode(&ordered, scratch)
            }
            ElementOrder::Blocked(_) => Err(Error::Unsupported(
                "chunks in blocks are none of Zarr".into(),
            )),
        }
    }
}

/// Whether an object has cells within the shape that readers know.
pub(super) fn is_visible(coord: &[u64], extent: &[u64], shape: &[u64]) -> bool {
    coord
        .iter()
        .zip(extent)
        .zip(shape)
        .all(|((at, extent), length)| at * extent < *length)
}

/// C-order cells in the order in which stored axis `i` is axis `axes[i]`.
fn permuted(shape: &[usize], cells: &[u8], size: usize, axes: &[usize]) -> Result<Vec<u8>> {
    let from = strides(shape);
    let pick = |of: &[usize]| -> Vec<usize> {
        axes.iter()
            .map(|axis| of.get(*axis).copied().unwrap_or(1))
            .collect()
    };
    let (shape, from) = (pick(shape), pick(&from));
    let mut ordered = vec![0; cells.len()];
    let (to, crop) = (strides(&shape), Crop::all(&shape));
    copy_cells(cells, &from, &mut ordered, &to, &crop, size)?;
    Ok(ordered)
}

/// Extents as sizes of memory.
pub(super) fn extents(shape: &[u64]) -> Result<Vec<usize>> {
    shape
        .iter()
        .map(|extent| usize::try_from(*extent))
        .collect::<Result<_, _>>()
        .map_err(|_| Error::Exhausted(format!("chunks of {shape:?} cells do not fit memory")))
}
