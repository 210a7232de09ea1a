//! Datasets with dimensions of other lengths: what they were before they grew, or will be.

use std::sync::Arc;

use async_trait::async_trait;

use crate::array::chunk::{ChunkAddress, ChunkGrid, ChunkIndex};
use crate::array::{Dataset, Dimension, Group, Layout, Variable};
use crate::error::{Error, Result, Within};

/// The dataset with dimensions of other lengths, none of them longer; `length` tells it by the path of the group of a
/// dimension and its name, `None` where it stays.
///
/// # Errors
/// `Invalid` when a dimension would have to be longer than it is.
pub fn cut(dataset: &Dataset, length: &dyn Fn(&str, &str) -> Option<u64>) -> Result<Dataset> {
    let shorter = |group: &str, dimension: &Dimension| {
        let new = length(group, &dimension.name).unwrap_or(dimension.length);
        if new <= dimension.length {
            return Ok(new);
        }
        Err(Error::Invalid(format!(
            "dimension {} has only {} indices, not {new}",
            dimension.name, dimension.length
        )))
    };
    Ok(Dataset {
        root: cut_group(&dataset.root, &mut Vec::new(), &shorter)?,
        ..dataset.clone()
    })
}

/// The dataset in which a dimension of the group at `path` that had no index has `length` of them. Nothing is stored
/// along it yet.
///
/// # Errors
/// `Invalid` when the dimension has indices already.
pub fn define(dataset: &Dataset, path: &str, name: &str, length: u64) -> Result<Dataset> {
    let defined = |group: &str, dimension: &Dimension| {
        if group != path || dimension.name != name {
            return Ok(dimension.length);
        }
        if dimension.length == 0 {
            return Ok(length);
        }
        Err(Error::Invalid(format!(
            "dimension {name} has {} indices already",
            dimension.length
        )))
    };
    Ok(Dataset {
        root: cut_group(&dataset.root, &mut Vec::new(), &defined)?,
        ..dataset.clone()
    })
}

/// A dimension of a group that encloses the current one: its name, old and new length.
type Scope = Vec<(String, u64, u64)>;

fn cut_group(
    group: &Group,
    scope: &mut Scope,
    length: &dyn Fn(&str, &Dimension) -> Result<u64>,
) -> Result<Group> {
    let mut dimensions = group.dimensions.clone();
    let outer = scope.len();
    for dimension in &mut dimensions {
        let new = length(&group.path, dimension)?;
        scope.push((dimension.name.clone(), dimension.length, new));
        dimension.length = new;
    }
    let variables = group
        .variables
        .iter()
        .map(|variable| cut_variable(variable, scope).within(|| &variable.path))
        .collect::<Result<_>>()?;
    let groups = group
        .groups
        .iter()
        .map(|inner| cut_group(inner, scope, length))
        .collect::<Result<_>>()?;
    scope.truncate(outer);
    Ok(Group {
        dimensions,
        variables,
        groups,
        ..group.clone()
    })
}

fn cut_variable(variable: &Arc<Variable>, scope: &Scope) -> Result<Arc<Variable>> {
    let full = &variable.layout.grid;
    let shape: Vec<u64> = variable
        .dimensions
        .iter()
        .zip(full.shape())
        .map(|(name, extent)| {
            // The innermost dimension of a name hides the others.
            let dimension = scope.iter().rev().find(|(other, _, _)| other == name);
            match dimension {
                Some((_, old, new)) if old == extent => *new,
                _ => *extent,
            }
        })
        .collect();
    if shape == full.shape() {
        return Ok(Arc::clone(variable));
    }
    let grid = ChunkGrid::new(shape, full.chunk_shape().to_vec())?;
    let index: Arc<dyn ChunkIndex> = if full.is_empty() {
        Arc::new(Nothing)
    } else {
        Arc::new(CutIndex {
            inner: Arc::clone(&variable.index),
            full: full.clone(),
            cut: grid.clone(),
        })
    };
    Ok(Arc::new(Variable {
        layout: Arc::new(Layout {
            grid,
            ..variable.layout.as_ref().clone()
        }),
        index,
        ..variable.as_ref().clone()
    }))
}

/// The index of a variable that has been cut: its chunks have other numbers.
#[derive(Debug)]
struct CutIndex {
    inner: Arc<dyn ChunkIndex>,
    full: ChunkGrid,
    cut: ChunkGrid,
}

/// The index of a variable that has no chunk.
#[derive(Debug)]
struct Nothing;

#[async_trait]
impl ChunkIndex for Nothing {
    async fn locate(&self, chunks: &[u64]) -> Result<Vec<ChunkAddress>> {
        Ok(vec![ChunkAddress::Missing; chunks.len()])
    }
}

#[async_trait]
impl ChunkIndex for CutIndex {
    async fn locate(&self, chunks: &[u64]) -> Result<Vec<ChunkAddress>> {
        let numbers: Vec<u64> = chunks
            .iter()
            .map(|chunk| self.full.number(&self.cut.coord(*chunk)))
            .collect();
        self.inner.locate(&numbers).await
    }
}
