//! The place of an array in its hierarchy, with what both versions have in common.

use std::fmt::Debug;
use std::sync::Arc;

use super::codecs::Chain;
use super::dtype::DataType;
use super::index::{Keys, Objects};
use super::json::Json;
use crate::array::chunk::{ChunkGrid, ChunkIndex};
use crate::array::{Attributes, Layout, Variable};
use crate::error::{Error, Result};
use crate::store::Store;

/// NumPy itself cannot have more.
const MOST_DIMENSIONS: usize = 64;

/// Says where the objects of arrays are, if that is not at the keys that Zarr gives them.
pub(in crate::format) trait Places: Debug + Send + Sync {
    /// The index of the objects of the array at `directory`, whose grid is `objects`.
    ///
    /// # Errors
    /// `Corrupt` when nothing is known of such an array.
    fn index(&self, directory: &str, objects: &ChunkGrid) -> Result<Arc<dyn ChunkIndex>>;
}

/// Where an array is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    /// The store of the dataset.
    pub(super) store: &'a Store,
    /// Path of its directory below the location; empty for the location itself.
    pub(super) directory: &'a str,
    /// Where its objects are, if not at its keys.
    pub(super) places: Option<&'a dyn Places>,
}

/// What an array is, once its metadata is understood.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) dimensions: Vec<String>,
    pub(super) attributes: Attributes,
    pub(super) dtype: DataType,
    pub(super) grid: ChunkGrid,
    pub(super) chain: Chain,
    pub(super) fill: Vec<u8>,
    pub(super) index: Arc<dyn ChunkIndex>,
}

impl<'a> Site<'a> {
    /// The place of an array whose objects are at the keys that Zarr gives them.
    pub(super) fn of(store: &'a Store, directory: &'a str) -> Self {
        Self {
            store,
            directory,
            places: None,
        }
    }

    /// What stands before every key of the array.
    pub(super) fn prefix(&self) -> String {
        if self.directory.is_empty() {
            String::new()
        } else {
            format!("{}/", self.directory)
        }
    }

    /// The index of the objects of the array, whose grid is `grid`.
    pub(super) fn objects(&self, grid: &ChunkGrid, keys: &Keys) -> Result<Arc<dyn ChunkIndex>> {
        if let Some(places) = self.places {
            return places.index(self.directory, grid);
        }
        Ok(Arc::new(Objects {
            grid: grid.clone(),
            keys: Keys {
                prefix: self.prefix(),
                ..keys.clone()
            },
        }))
    }

    /// The variable that the array is; an array at the location itself goes by the name of the dataset.
    pub(super) fn variable(&self, parts: Parts) -> Variable {
        let path = if self.directory.is_empty() {
            self.store.stem()
        } else {
            self.directory
        };
        let name = path.rsplit('/').next().unwrap_or(path);
        Variable {
            name: name.into(),
            path: path.into(),
            dimensions: parts.dimensions,
            attributes: parts.attributes,
            layout: Arc::new(Layout {
                element: parts.dtype.element,
                grid: parts.grid,
                order: parts.chain.order,
                pipeline: parts.chain.pipeline,
                fill: parts.fill,
            }),
            index: parts.index,
            members: None,
        }
    }
}

/// The extent of an array.
pub(super) fn shape(json: &Json) -> Result<Vec<u64>> {
    let shape = json
        .counts()
        .ok_or_else(|| Error::Corrupt(format!("the array has the shape {json}")))?;
    if shape.len() > MOST_DIMENSIONS {
        return Err(Error::Unsupported(format!(
            "arrays of {} dimensions are not supported, only up to {MOST_DIMENSIONS}",
            shape.len()
        )));
    }
    Ok(shape)
}

/// The grid of an array of this shape; decoded chunks must be addressable.
pub(super) fn grid(shape: Vec<u64>, mut chunk: Vec<u64>, dtype: DataType) -> Result<ChunkGrid> {
    // Nothing is stored along a dimension of length 0, so an extent of 0 does no harm there.
    for (extent, length) in chunk.iter_mut().zip(&shape) {
        if *extent == 0 && *length == 0 {
            *extent = 1;
        }
    }
    let grid = ChunkGrid::new(shape, chunk)?;
    let element = dtype.element.size().unwrap_or(1) as u64;
    match grid.chunk_cells().checked_mul(element) {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(grid),
        _ => Err(Error::Corrupt(format!(
            "chunks of {:?} elements of type {} are larger than any memory",
            grid.chunk_shape(),
            dtype.element.name()
        ))),
    }
}
