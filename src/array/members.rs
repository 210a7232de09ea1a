//! Variables of several datasets as one: the cells of each behind those of the one before, along one dimension.
//!
//! ```text
//! tas_2001.nc  tas(365, 192, 288)  \
//! tas_2002.nc  tas(365, 192, 288)   >  tas(1096, 192, 288); lat, lon and what else has no time are those of the first
//! tas_2003.nc  tas(366, 192, 288)  /
//! ```

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;

use crate::array::chunk::{ChunkAddress, ChunkGrid, ChunkIndex};
use crate::array::hyperslab::{IndexSet, Selection};
use crate::array::{Dataset, Group, Layout, Unreadable, Variable};
use crate::error::{Error, Result};

/// The variables that one is made of.
#[derive(Clone, Debug)]
pub struct Members {
    /// Along which of its dimensions they lie one behind the other.
    pub axis: usize,
    /// The variables, in this order: at least one.
    pub parts: Vec<Member>,
}

/// A variable of one of several datasets.
#[derive(Clone, Debug)]
pub struct Member {
    /// Which dataset it belongs to.
    pub dataset: usize,
    /// The indices that it has in the whole.
    pub range: Range<u64>,
    /// The variable.
    pub variable: Arc<Variable>,
}

impl Members {
    /// What of the selected cells of the whole each part has: its number, the cells by its own indices, and the positions of
    /// these among the selected indices along the axis. Parts that have none are left out.
    pub fn split(
        &self,
        selection: &Selection,
    ) -> impl Iterator<Item = (usize, Selection, Range<usize>)> {
        let along = selection.dims.get(self.axis);
        let first = along.and_then(IndexSet::first).unwrap_or(0);
        let last = along.and_then(IndexSet::last);
        let start = self.parts.partition_point(|part| part.range.end <= first);
        let parts = self.parts.iter().enumerate().skip(start);
        let parts =
            parts.take_while(move |(_, part)| last.is_some_and(|at| part.range.start <= at));
        let mut before = 0;
        parts.filter_map(move |(at, part)| {
            let own = along?.within(&part.range);
            if own.is_empty() {
                return None;
            }
            let start = before;
            before += usize::try_from(own.count()).unwrap_or(usize::MAX);
            let mut selection = selection.clone();
            *selection.dims.get_mut(self.axis)? = own;
            Some((at, selection, start..before))
        })
    }
}

/// The dataset that has all variables of the first of `datasets`, those along a dimension of the root group continued by
/// those of the others. What cannot be continued is listed as unreadable.
///
/// # Errors
/// `Invalid` when one of them has no such dimension, or there are more cells than can be addressed.
pub fn concatenate(location: &str, datasets: &[&Dataset], dimension: &str) -> Result<Dataset> {
    let first = datasets.first().ok_or_else(|| {
        Error::Invalid(format!("{location}: there is nothing to be put together"))
    })?;
    let mut members = Vec::with_capacity(datasets.len());
    let mut length = 0u64;
    for dataset in datasets {
        let declared = dataset.root.dimensions.iter();
        let mut declared = declared.filter(|declared| declared.name == dimension);
        let own = declared.next().ok_or_else(|| {
            Error::Invalid(format!(
                "{}: there is no dimension {dimension} in the root group, along which the files could be put together",
                dataset.location
            ))
        })?;
        let along = dataset.along("", dimension).into_iter();
        members.push(Source {
            location: &dataset.location,
            range: length..length.saturating_add(own.length),
            along: along
                .map(|(variable, axes)| (variable.path.clone(), (variable, axes)))
                .collect(),
        });
        length = length.saturating_add(own.length);
    }
    let mut root = continued(&first.root, &members)?;
    for declared in &mut root.dimensions {
        if declared.name == dimension {
            declared.length = length;
        }
    }
    Ok(Dataset {
        location: location.to_owned(),
        format: first.format,
        root,
    })
}

/// One of the datasets that are put together.
struct Source<'a> {
    location: &'a str,
    /// The indices that it has in the whole.
    range: Range<u64>,
    /// By its path, each variable along the dimension, and which of its dimensions that is.
    along: HashMap<String, (Arc<Variable>, Vec<usize>)>,
}

fn continued(group: &Group, sources: &[Source<'_>]) -> Result<Group> {
    let mut whole = Group {
        variables: Vec::with_capacity(group.variables.len()),
        groups: Vec::with_capacity(group.groups.len()),
        ..group.clone()
    };
    for variable in &group.variables {
        let along = sources.first().and_then(|s| s.along.get(&variable.path));
        let joined = match along.map(|(_, axes)| axes.as_slice()) {
            None => Ok(alone(variable)),
            Some([axis]) => join(variable, *axis, sources)?,
            Some(_) => Err("it has the dimension of the files twice".to_owned()),
        };
        match joined {
            Ok(joined) => whole.variables.push(Arc::new(joined)),
            Err(reason) => whole.unreadable.push(Unreadable {
                name: variable.name.clone(),
                reason,
            }),
        }
    }
    for inner in &group.groups {
        whole.groups.push(continued(inner, sources)?);
    }
    Ok(whole)
}

/// A variable that is that of the first dataset.
fn alone(variable: &Arc<Variable>) -> Variable {
    let length = variable.shape().first().copied().unwrap_or(1);
    Variable {
        members: Some(Arc::new(Members {
            axis: 0,
            parts: vec![Member {
                dataset: 0,
                range: 0..length,
                variable: Arc::clone(variable),
            }],
        })),
        ..variable.as_ref().clone()
    }
}

/// A variable that all datasets continue, or why they do not.
fn join(
    variable: &Arc<Variable>,
    axis: usize,
    sources: &[Source<'_>],
) -> Result<Result<Variable, String>> {
    let mut parts = Vec::with_capacity(sources.len());
    let mut chunk = variable.layout.grid.chunk_shape().to_vec();
    for (dataset, source) in sources.iter().enumerate() {
        let Some((own, axes)) = source.along.get(&variable.path) else {
            return Ok(Err(format!("{} does not have it", source.location)));
        };
        let extents = own.shape().iter().zip(variable.shape()).enumerate();
        let is_same = own.shape().len() == variable.shape().len()
            && extents
                .clone()
                .all(|(at, (own, first))| at == axis || own == first);
        if *axes != [axis] || own.dimensions != variable.dimensions || !is_same {
            return Ok(Err(format!(
                "it is {} in {}, and {} in {}",
                extent(own),
                source.location,
                extent(variable),
                sources.first().map_or("", |first| first.location),
            )));
        }
        for (largest, extent) in chunk.iter_mut().zip(own.layout.grid.chunk_shape()) {
            *largest = (*largest).max(*extent);
        }
        parts.push(Member {
            dataset,
            range: source.range.clone(),
            variable: Arc::clone(own),
        });
    }
    let mut shape = variable.shape().to_vec();
    if let (Some(extent), Some(last)) = (shape.get_mut(axis), sources.last()) {
        *extent = last.range.end;
    }
    Ok(Ok(Variable {
        layout: Arc::new(Layout {
            grid: ChunkGrid::new(shape, chunk)?,
            ..variable.layout.as_ref().clone()
        }),
        index: Arc::new(Elsewhere),
        members: Some(Arc::new(Members { axis, parts })),
        ..variable.as_ref().clone()
    }))
}

/// Dimensions and lengths of a variable, as messages show them.
fn extent(variable: &Variable) -> String {
    let dims = variable.dimensions.iter().zip(variable.shape());
    let dims: Vec<String> = dims
        .map(|(name, length)| format!("{name}={length}"))
        .collect();
    format!("({})", dims.join(", "))
}

/// The index of a variable whose chunks are those of its parts.
#[derive(Debug)]
struct Elsewhere;

#[async_trait]
impl ChunkIndex for Elsewhere {
    async fn locate(&self, _: &[u64]) -> Result<Vec<ChunkAddress>> {
        Err(Error::Unsupported(
            "its chunks are those of several files".into(),
        ))
    }
}
