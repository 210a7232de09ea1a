//! Slices: what is appended, as variables whose values can be asked for box by box.

mod rows;
mod wait;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;

use crate::array::blueprint::{Codecs, NewVariable};
use crate::array::dtype::ElementType;
use crate::array::hyperslab::{IndexSet, Selection};
use crate::array::slab::SlabData;
use crate::array::{Attributes, Unreadable, Variable};
use crate::catalog::Opened;
use crate::cf::decode::{DecodeOptions, Decoding};
use crate::error::{Error, Result, Within};
use crate::read::{self, Buffers};
use crate::store::Store;

pub(super) use rows::{Rows, from_rows};
pub(super) use wait::open;

/// What is to be appended.
#[derive(Clone, Debug)]
pub enum SliceItem {
    /// The dataset at this path or URL.
    Location(String),
    /// The rows of this query.
    Query(String),
    /// These rows.
    Rows {
        /// What messages call them.
        name: String,
        /// Their columns.
        schema: SchemaRef,
        /// The rows themselves.
        batches: Vec<RecordBatch>,
    },
}

impl From<&str> for SliceItem {
    /// A text that begins with `SELECT` or `sql:` is a query, every other one a location.
    fn from(text: &str) -> Self {
        let trimmed = text.trim_start();
        if let Some(query) = trimmed.strip_prefix("sql:") {
            return Self::Query(query.trim().to_owned());
        }
        let begins = |word: &str| {
            let rest = trimmed
                .get(..word.len())
                .filter(|start| start.eq_ignore_ascii_case(word))
                .and_then(|_| trimmed.get(word.len()..));
            rest.is_some_and(|rest| rest.starts_with(char::is_whitespace))
        };
        if begins("SELECT") || begins("WITH") {
            Self::Query(text.trim().to_owned())
        } else {
            Self::Location(text.to_owned())
        }
    }
}

impl SliceItem {
    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Location(name) | Self::Query(name) | Self::Rows { name, .. } => name,
        }
    }
}

/// A slice that can be read.
#[derive(Debug)]
pub(super) struct Slice {
    pub(super) attributes: Attributes,
    /// Names and lengths.
    pub(super) dimensions: Vec<(String, u64)>,
    pub(super) variables: Vec<SliceVariable>,
    /// What of it cannot be read.
    pub(super) unreadable: Vec<Unreadable>,
}

/// A variable of a slice.
#[derive(Debug)]
pub(super) struct SliceVariable {
    /// The variable as it is stored, or as it would be.
    pub(super) variable: Arc<Variable>,
    pub(super) decoding: Decoding,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// In a dataset.
    Stored(Store),
    /// Values in C order.
    Values(ArrayRef),
}

impl Slice {
    /// The root group of a dataset.
    pub(super) fn of_dataset(opened: &Opened, decode: &DecodeOptions) -> Result<Self> {
        let root = &opened.dataset.root;
        let mut slice = Self {
            attributes: root.attributes.clone(),
            dimensions: Vec::new(),
            variables: Vec::new(),
            unreadable: root.unreadable.clone(),
        };
        for variable in &root.variables {
            for (name, length) in variable.dimensions.iter().zip(variable.shape()) {
                let known = slice.dimensions.iter().find(|(other, _)| other == name);
                match known {
                    None => slice.dimensions.push((name.clone(), *length)),
                    Some((_, other)) if other == length => {}
                    Some((_, other)) => {
                        return Err(Error::Invalid(format!(
                            "dimension {name} has the lengths {other} and {length}, that of {}",
                            variable.path
                        )));
                    }
                }
            }
            match Decoding::new(variable, decode) {
                Ok(decoding) => slice.variables.push(SliceVariable {
                    variable: Arc::clone(variable),
                    decoding,
                    source: Source::Stored(opened.store.clone()),
                }),
                Err(error) => slice.unreadable.push(Unreadable {
                    name: variable.name.clone(),
                    reason: error.to_string(),
                }),
            }
        }
        Ok(slice)
    }

    /// Bytes of all variables, decoded.
    pub(super) fn bytes(&self) -> u64 {
        let variables = self.variables.iter().map(|own| {
            let size = own.variable.layout.element.size().unwrap_or(16) as u64;
            own.variable.cells().saturating_mul(size)
        });
        variables.fold(0, u64::saturating_add)
    }

    /// The length of a dimension.
    pub(super) fn length(&self, dimension: &str) -> Option<u64> {
        self.dimensions
            .iter()
            .find(|(name, _)| name == dimension)
            .map(|(_, length)| *length)
    }

    /// A variable by its name; `None` when there is none.
    ///
    /// # Errors
    /// `Unsupported` when it cannot be read.
    pub(super) fn variable(&self, name: &str) -> Result<Option<&SliceVariable>> {
        if let Some(found) = self
            .variables
            .iter()
            .find(|other| other.variable.name == name)
        {
            return Ok(Some(found));
        }
        match self.unreadable.iter().find(|other| other.name == name) {
            Some(unreadable) => Err(Error::Unsupported(unreadable.reason.clone())),
            None => Ok(None),
        }
    }
}

impl SliceVariable {
    /// A variable that is not stored anywhere: its values, and what it would be if it were.
    pub(super) fn of_values(
        name: &str,
        dimensions: &[(String, u64)],
        element: ElementType,
        attributes: Attributes,
        values: ArrayRef,
        decode: &DecodeOptions,
    ) -> Result<Self> {
        let shape: Vec<u64> = dimensions.iter().map(|(_, length)| *length).collect();
        let variable = NewVariable {
            path: name.to_owned(),
            element,
            dimensions: dimensions.iter().map(|(name, _)| name.clone()).collect(),
            chunk: shape.iter().map(|extent| (*extent).max(1)).collect(),
            shape,
            shard: None,
            codecs: Codecs::Usual,
            fill: None,
            attributes,
        };
        let variable = variable.variable()?;
        Ok(Self {
            decoding: Decoding::new(&variable, decode)?,
            variable,
            source: Source::Values(values),
        })
    }

    /// Whether it is stored, so that elements could be copied as they are.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self.source, Source::Stored(_))
    }

    /// The stored elements of a box; `None` where there are none of a fixed size.
    pub(super) async fn elements(&self, start: &[u64], shape: &[u64]) -> Result<Option<Vec<u8>>> {
        let Source::Stored(store) = &self.source else {
            return Ok(None);
        };
        let selection = selection(start, shape);
        let slab = read::read(store, &self.variable, selection, &mut Buffers::default()).await?;
        Ok(match slab.data {
            SlabData::Fixed(buffer) => Some(match buffer.into_vec::<u8>() {
                Ok(bytes) => bytes,
                Err(buffer) => buffer.to_vec(),
            }),
            SlabData::Text(_) => None,
        })
    }

    /// The values of a box in C order.
    pub(super) async fn values(&self, start: &[u64], shape: &[u64]) -> Result<ArrayRef> {
        match &self.source {
            Source::Stored(store) => {
                let selection = selection(start, shape);
                let slab =
                    read::read(store, &self.variable, selection, &mut Buffers::default()).await?;
                self.decoding
                    .apply(slab)
                    .within(|| format!("variable {}", self.variable.path))
            }
            Source::Values(values) => {
                let whole = self.variable.shape();
                if whole == shape {
                    return Ok(Arc::clone(values));
                }
                let mut cells = vec![0u64];
                for ((start, extent), length) in start.iter().zip(shape).zip(whole) {
                    cells = cells
                        .iter()
                        .flat_map(|cell| {
                            (*start..start + extent).map(move |index| cell * length + index)
                        })
                        .collect();
                }
                take(values, &UInt64Array::from(cells), None)
                    .map_err(|error| Error::Invalid(error.to_string()))
            }
        }
    }

    /// All values.
    pub(super) async fn all(&self) -> Result<ArrayRef> {
        let shape = self.variable.shape();
        self.values(&vec![0; shape.len()], shape).await
    }
}

/// The cells of a box.
pub(super) fn selection(start: &[u64], shape: &[u64]) -> Selection {
    let dims = start.iter().zip(shape);
    Selection {
        dims: dims
            .map(|(start, extent)| IndexSet::range(*start..start + extent))
            .collect(),
    }
}
