//! The dimensions that the arrays of a directory share.

use std::sync::Arc;

use crate::array::{Attributes, Dimension, Group, Layout, Unreadable, Variable};
use crate::format::blosc2::index::FrameIndex;

/// What a frame turned out to be.
#[derive(Debug)]
pub(super) enum Opened {
    Array(Box<Array>),
    Unreadable(Vec<Unreadable>),
}

/// An array whose dimensions have no names yet.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) name: String,
    pub(super) layout: Layout,
    pub(super) attributes: Attributes,
    pub(super) dimensions: Option<Vec<String>>,
    pub(super) index: FrameIndex,
}

/// A group of these arrays: finds the dimensions that they share.
pub(super) fn assemble(path: &str, opened: Vec<Opened>, outer: &[Dimension]) -> Group {
    let mut group = Group {
        path: path.to_owned(),
        ..Group::default()
    };
    let mut arrays = Vec::new();
    for opened in opened {
        match opened {
            Opened::Array(array) => arrays.push(array),
            Opened::Unreadable(unreadable) => group.unreadable.extend(unreadable),
        }
    }
    // Where lengths disagree, coordinate variables are right; where there are none, the first array is.
    arrays.sort_by_key(|array| !array.is_coordinate());
    for array in arrays {
        let array = *array;
        match array.dimensions(&group) {
            Ok(dimensions) => add(&mut group, array, dimensions, outer),
            Err(reason) => group.unreadable.push(Unreadable {
                name: array.name,
                reason,
            }),
        }
    }
    group.variables.sort_by(|a, b| a.name.cmp(&b.name));
    group
}

impl Array {
    /// Whether it is a one-dimensional array that is named like its dimension.
    fn is_coordinate(&self) -> bool {
        self.dimensions.as_deref() == Some(std::slice::from_ref(&self.name))
    }

    /// Its dimensions, or why it cannot have them.
    fn dimensions(&self, group: &Group) -> Result<Vec<Dimension>, String> {
        let clash =
            |other: &str| format!("{}: another array of the directory is {other}", self.name);
        if group
            .variables
            .iter()
            .any(|variable| variable.name == self.name)
        {
            return Err(clash("called the same"));
        }
        let mut dimensions: Vec<Dimension> = Vec::new();
        for (axis, length) in self.layout.grid.shape().iter().enumerate() {
            let given = self.dimensions.as_ref().and_then(|names| names.get(axis));
            let name = match given {
                Some(name) => name.clone(),
                None => free_name(axis, *length, group),
            };
            // One of an enclosing group does not clash: that of this group hides it.
            if let Some(known) = group.dimensions.iter().find(|known| known.name == name)
                && known.length != *length
            {
                return Err(clash(&format!(
                    "{} long in dimension {name}, this one {length}",
                    known.length
                )));
            }
            if dimensions.iter().any(|dimension| dimension.name == name) {
                return Err(format!("{}: it has dimension {name} twice", self.name));
            }
            dimensions.push(Dimension {
                name,
                length: *length,
                unlimited: false,
            });
        }
        Ok(dimensions)
    }
}

/// Puts an array into a group, with those of its dimensions that are not known there.
fn add(group: &mut Group, array: Array, dimensions: Vec<Dimension>, outer: &[Dimension]) {
    let names = dimensions
        .iter()
        .map(|dimension| dimension.name.clone())
        .collect();
    for dimension in dimensions {
        let mut visible = group.dimensions.iter().chain(outer);
        let known = visible.find(|known| known.name == dimension.name);
        if known != Some(&dimension) {
            group.dimensions.push(dimension);
        }
    }
    let path = if group.path.is_empty() {
        array.name.clone()
    } else {
        format!("{}/{}", group.path, array.name)
    };
    group.variables.push(Arc::new(Variable {
        name: array.name,
        path,
        dimensions: names,
        attributes: array.attributes,
        layout: Arc::new(array.layout),
        index: Arc::new(array.index),
        members: None,
    }));
}

/// The name of a dimension that has none: `dim_0`, or `dim_0_100` where another length has taken that.
fn free_name(axis: usize, length: u64, group: &Group) -> String {
    let name = format!("dim_{axis}");
    let taken = |known: &Dimension| known.name == name && known.length != length;
    if group.dimensions.iter().any(taken) {
        format!("{name}_{length}")
    } else {
        name
    }
}
