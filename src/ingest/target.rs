//! The target as slices are checked against: its variables, its labels, and the values that do not grow.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::ArrayRef;

use super::labels::Labels;
use super::slice::{Slice, selection};
use crate::array::slab::SlabData;
use crate::array::{Attributes, Dataset, Variable};
use crate::cf::decode::{DecodeOptions, Decoding};
use crate::cf::encode::Encoding;
use crate::error::{Error, Result, Within};
use crate::read::{self, Buffers};
use crate::store::Store;

/// What a target is, as far as slices have to fit it; only its root group.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) attributes: Attributes,
    pub(super) variables: Vec<Arc<Variable>>,
    /// The length of the append dimension.
    pub(super) length: u64,
    /// The labels of the append dimension, if it has a coordinate.
    pub(super) labels: Option<Labels>,
    /// The same as values, as far as they were there when this was read.
    pub(super) label_values: Option<ArrayRef>,
    /// Values of variables that do not grow, by their names.
    pub(super) fixed: HashMap<String, Fixed>,
}

/// What a variable that does not grow holds.
#[derive(Clone, Debug)]
pub(super) struct Fixed {
    /// Stored elements, where they are of a fixed size.
    pub(super) stored: Option<Vec<u8>>,
    pub(super) values: ArrayRef,
}

impl Known {
    /// What is known of a dataset that exists.
    pub(super) async fn of_dataset(
        store: &Store,
        dataset: &Dataset,
        append_dim: &str,
        decode: &DecodeOptions,
    ) -> Result<Self> {
        let root = &dataset.root;
        let length = length(&root.variables, append_dim).ok_or_else(|| {
            Error::Invalid(format!(
                "no variable has the dimension {append_dim}, along which slices would be appended"
            ))
        })?;
        let mut known = Self {
            attributes: root.attributes.clone(),
            variables: root.variables.clone(),
            length,
            labels: None,
            label_values: None,
            fixed: HashMap::new(),
        };
        for variable in &root.variables {
            let is_label = is_coordinate(variable, append_dim);
            if !is_label && variable.dimensions.iter().any(|name| name == append_dim) {
                continue;
            }
            let shape = variable.shape();
            let all = selection(&vec![0; shape.len()], shape);
            let slab = read::read(store, variable, all, &mut Buffers::default()).await?;
            let stored = match &slab.data {
                SlabData::Fixed(buffer) => Some(buffer.to_vec()),
                SlabData::Text(_) => None,
            };
            let decoding = Decoding::new(variable, decode)?;
            let values = decoding
                .apply(slab)
                .within(|| format!("variable {}", variable.path))?;
            if is_label {
                let labels = Labels::new(&values, &decoding);
                known.labels = Some(labels.within(|| format!("variable {}", variable.path))?);
                known.label_values = Some(values);
            } else {
                let fixed = Fixed { stored, values };
                known.fixed.insert(variable.name.clone(), fixed);
            }
        }
        Ok(known)
    }

    /// What will be known of a dataset that is made of its first slice.
    pub(super) async fn of_first(
        slice: &Slice,
        dataset: &Dataset,
        append_dim: &str,
        decode: &DecodeOptions,
    ) -> Result<Self> {
        let variables = dataset.root.variables.clone();
        let mut known = Self {
            attributes: dataset.root.attributes.clone(),
            length: slice.length(append_dim).unwrap_or(0),
            labels: None,
            label_values: None,
            fixed: HashMap::new(),
            variables,
        };
        for variable in &known.variables {
            let is_label = is_coordinate(variable, append_dim);
            if !is_label && variable.dimensions.iter().any(|name| name == append_dim) {
                continue;
            }
            let Some(own) = slice.variable(&variable.name)? else {
                continue;
            };
            let values = own.all().await?;
            if is_label {
                known.labels = Some(Labels::new(&values, &own.decoding)?);
                continue;
            }
            let mut stored = Vec::new();
            let encoded = Encoding::of_variable(variable, decode)
                .and_then(|encoding| encoding.encode(&values, &mut stored));
            let stored = encoded.is_ok().then_some(stored);
            let fixed = Fixed { stored, values };
            known.fixed.insert(variable.name.clone(), fixed);
        }
        Ok(known)
    }

    /// The variables along the append dimension.
    pub(super) fn growing<'a>(
        &'a self,
        append_dim: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Variable>> {
        self.variables
            .iter()
            .filter(move |variable| variable.dimensions.iter().any(|name| name == append_dim))
    }

    /// Takes the labels of a slice in.
    pub(super) fn grow(&mut self, by: u64, labels: Option<&Labels>) {
        self.length += by;
        if let (Some(own), Some(new)) = (&mut self.labels, labels) {
            own.extend(new);
        }
    }
}

/// Whether a variable is the coordinate of a dimension.
pub(super) fn is_coordinate(variable: &Variable, dimension: &str) -> bool {
    variable.name == dimension && variable.dimensions == [dimension]
}

/// The length of a dimension of variables.
pub(super) fn length(variables: &[Arc<Variable>], dimension: &str) -> Option<u64> {
    variables.iter().find_map(|variable| {
        let at = variable.dimensions.iter().position(|d| d == dimension)?;
        variable.shape().get(at).copied()
    })
}
