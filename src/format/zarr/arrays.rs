//! The arrays of a hierarchy that is being changed: their documents, shapes, and how their cells are stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};

use super::documents::Documents;
use super::hierarchy::{self, ARRAY, ATTRIBUTES, V3};
use super::json::Json;
use super::writer::{ArrayWriter, is_visible};
use crate::array::{Dataset, Variable, is_within};
use crate::error::{Error, Result, Within};
use crate::format::Region;

/// Objects that are encoded at the same time, and put together.
const BATCH: usize = 16;

/// The arrays of a hierarchy, by their paths.
#[derive(Debug)]
pub(in crate::format) struct Arrays {
    location: String,
    arrays: BTreeMap<String, Array>,
    /// Whether readers know of them.
    are_known: bool,
}

/// An array as its metadata tells.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) variable: Arc<Variable>,
    /// `.zarray` or `zarr.json`.
    pub(super) document: Json,
    /// All that its documents say of it.
    pub(super) said: Vec<u8>,
    pub(super) writer: Result<Arc<ArrayWriter>, String>,
    /// Extents after the change.
    pub(super) shape: Vec<u64>,
}

/// An object that holds cells of an array.
#[derive(Debug)]
pub(in crate::format) struct Encoded {
    /// Its place in the grid of objects.
    pub(in crate::format) coord: Vec<u64>,
    pub(in crate::format) bytes: Vec<u8>,
    /// Whether readers see any of its cells.
    pub(in crate::format) is_visible: bool,
}

/// An array that has got another shape.
#[derive(Debug)]
pub(in crate::format) struct Resized {
    /// The path of the variable.
    pub(in crate::format) path: String,
    pub(in crate::format) shape: Vec<u64>,
    /// Extents of its objects.
    pub(in crate::format) piece: Vec<u64>,
    /// Its metadata with that shape.
    pub(in crate::format) document: Vec<u8>,
}

impl Arrays {
    /// The arrays of a hierarchy with these documents; with `root`, the one array that has no group around it.
    pub(super) fn new(dataset: &Dataset, documents: &Documents, root: Option<&str>) -> Self {
        let mut arrays = BTreeMap::new();
        for group in dataset.root.walk() {
            for variable in &group.variables {
                let directory = root.unwrap_or(&variable.path);
                let found = [V3, ARRAY]
                    .into_iter()
                    .find_map(|name| documents.get(&hierarchy::key(directory, name)));
                let Some(document) = found else { continue };
                let prefix = hierarchy::key(directory, "");
                let writer = if document.get("node_type").is_null() {
                    ArrayWriter::v2(prefix, document)
                } else {
                    ArrayWriter::v3(prefix, document)
                };
                let mut said = document.to_document();
                if let Some(attributes) = documents.get(&hierarchy::key(directory, ATTRIBUTES)) {
                    said.extend(attributes.to_document());
                }
                let array = Array {
                    said,
                    shape: variable.shape().to_vec(),
                    document: document.clone(),
                    writer: writer.map(Arc::new).map_err(|error| error.to_string()),
                    variable: Arc::clone(variable),
                };
                arrays.insert(variable.path.clone(), array);
            }
        }
        Self {
            location: dataset.location.clone(),
            arrays,
            are_known: true,
        }
    }

    /// The arrays of a hierarchy of Zarr v3, with the documents of all members by their paths.
    ///
    /// # Errors
    /// `Corrupt` when a document is damaged.
    pub(in crate::format) fn given(
        dataset: &Dataset,
        documents: &[(String, Bytes)],
    ) -> Result<Self> {
        let mut all = Documents::new();
        for (path, document) in documents {
            all.insert(
                hierarchy::key(path, V3),
                Json::parse(document).within(|| path)?,
            );
        }
        let single = documents.len() == 1 && dataset.root.variables.len() == 1;
        Ok(Self::new(dataset, &all, single.then_some("")))
    }

    /// The same in a hierarchy that nobody knows of yet; each of them has to be one that can be written.
    ///
    /// # Errors
    /// `Unsupported` for one that cannot.
    pub(in crate::format) fn unknown(mut self) -> Result<Self> {
        for array in self.arrays.values() {
            if let Err(reason) = &array.writer {
                return Err(Error::Unsupported(format!(
                    "variable {}: {reason}",
                    array.variable.path
                )));
            }
        }
        self.are_known = false;
        Ok(self)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Array> {
        self.arrays.values()
    }

    pub(super) fn array(&self, variable: &str) -> Result<&Array> {
        self.arrays
            .get(variable)
            .ok_or_else(|| Error::NotFound(format!("{} has no variable {variable}", self.location)))
    }

    pub(super) fn writer(&self, variable: &str) -> Result<Arc<ArrayWriter>> {
        match &self.array(variable)?.writer {
            Ok(writer) => Ok(Arc::clone(writer)),
            Err(reason) => Err(Error::Unsupported(format!("{variable}: {reason}"))),
        }
    }

    /// Extents of the objects of a variable.
    ///
    /// # Errors
    /// As [`crate::format::Appender::piece`].
    pub(in crate::format) fn piece(&self, variable: &str) -> Result<Vec<u64>> {
        Ok(self.writer(variable)?.objects.chunk_shape().to_vec())
    }

    /// The objects that a region touches, some at a time.
    ///
    /// # Errors
    /// As [`crate::format::Appender::piece`]; the stream's are those of encoding.
    pub(in crate::format) fn encoded(
        &self,
        region: Region,
    ) -> Result<impl Stream<Item = Result<Vec<Encoded>>> + Send + use<>> {
        let writer = self.writer(&region.variable)?;
        let seen = match self.are_known {
            true => self.array(&region.variable)?.variable.shape().to_vec(),
            false => vec![0; region.start.len()],
        };
        let encoder = Arc::clone(&writer);
        let encoded = Arc::new(region).encoded(
            writer.objects.chunk_shape(),
            move |region, coord, scratch| {
                let extent = encoder.objects.chunk_shape();
                let cells = region.piece(coord, extent, encoder.size, &encoder.fill)?;
                encoder.encode(&cells, scratch)
            },
        );
        Ok(encoded.ready_chunks(BATCH).map(move |batch| {
            batch
                .into_iter()
                .map(|object| {
                    let (coord, bytes) = object?;
                    Ok(Encoded {
                        is_visible: is_visible(&coord, writer.objects.chunk_shape(), &seen),
                        coord,
                        bytes,
                    })
                })
                .collect()
        }))
    }

    /// Gives a dimension that is visible in a group of `dataset` another length.
    ///
    /// # Errors
    /// As [`crate::format::Appender::resize`].
    pub(in crate::format) fn resize(
        &mut self,
        dataset: &Dataset,
        group: &str,
        dimension: &str,
        length: u64,
    ) -> Result<()> {
        for below in dataset.root.walk() {
            // What cannot be read has no known dimensions, and could silently stay behind.
            if let (true, Some(array)) = (is_within(&below.path, group), below.unreadable.first()) {
                return Err(Error::Unsupported(format!(
                    "{}: {} cannot be read, so that it is unknown whether it has dimension {dimension}: {}",
                    dataset.location, array.name, array.reason
                )));
            }
        }
        for (variable, axes) in dataset.along(group, dimension) {
            let Some(array) = self.arrays.get_mut(&variable.path) else {
                continue;
            };
            if let Err(reason) = &array.writer {
                return Err(Error::Unsupported(format!("{}: {reason}", variable.path)));
            }
            for axis in axes {
                if let Some(extent) = array.shape.get_mut(axis) {
                    *extent = length;
                }
            }
        }
        Ok(())
    }

    /// Gives the arrays the shapes that those of the same paths have got among others.
    pub(super) fn take_shapes(&mut self, others: &Self) {
        for (path, array) in &mut self.arrays {
            if let Some(other) = others.arrays.get(path).filter(|other| other.is_changed()) {
                array.shape.clone_from(&other.shape);
            }
        }
    }

    /// The documents of arrays that have got another shape, by their paths.
    pub(super) fn changed_shapes(&self) -> Vec<(String, Json)> {
        self.resized_arrays()
            .map(|array| (array.variable.path.clone(), array.resized()))
            .collect()
    }

    /// The arrays that have got another shape.
    ///
    /// # Errors
    /// `Unsupported` for one that cannot be written.
    pub(in crate::format) fn resized(&self) -> Result<Vec<Resized>> {
        self.resized_arrays()
            .map(|array| {
                Ok(Resized {
                    path: array.variable.path.clone(),
                    shape: array.shape.clone(),
                    piece: self.piece(&array.variable.path)?,
                    document: array.resized().to_document(),
                })
            })
            .collect()
    }

    fn resized_arrays(&self) -> impl Iterator<Item = &Array> {
        let arrays = self.arrays.values();
        arrays.filter(|array| array.is_changed())
    }
}

impl Array {
    /// Whether it gets another shape.
    pub(super) fn is_changed(&self) -> bool {
        self.shape != self.variable.shape()
    }

    /// The document with the shape after the change.
    fn resized(&self) -> Json {
        let mut document = self.document.clone();
        let shape = self.shape.iter();
        let shape = shape.map(|extent| Json::Integer((*extent).into()));
        document.set("shape", Json::List(shape.collect()));
        document
    }
}
