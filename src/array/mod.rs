//! The format-neutral model of a dataset: groups, dimensions, variables, attributes.

pub mod blueprint;
pub mod chunk;
pub mod contiguous;
pub mod cut;
pub mod dtype;
pub mod hyperslab;
pub mod members;
pub mod number;
pub mod slab;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::array::chunk::{ChunkGrid, ChunkIndex, ElementOrder};
use crate::array::dtype::ElementType;
use crate::array::members::Members;
use crate::codec::CodecPipeline;

/// A dataset as its metadata describes it; no chunk has been read.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Path or URL it was opened from.
    pub location: String,
    /// Name of the format: `netcdf4`, `netcdf3`, `hdf5`, `zarr`, `blosc2`.
    pub format: &'static str,
    /// The root group.
    pub root: Group,
}

impl Dataset {
    /// Whether cells that nobody wrote hold the fill values of the netCDF library.
    #[must_use]
    pub fn has_netcdf_fills(&self) -> bool {
        matches!(self.format, "netcdf4" | "netcdf3")
    }

    /// The dimension that a name means in the group at `path`, and the group that declares it: that one, or the nearest
    /// one around it.
    #[must_use]
    pub fn dimension(&self, path: &str, name: &str) -> Option<(&Group, &Dimension)> {
        let mut groups = self.root.walk();
        groups.retain(|group| is_within(path, &group.path));
        groups.sort_by_key(|group| std::cmp::Reverse(group.path.len()));
        groups.into_iter().find_map(|group| {
            let mut dimensions = group.dimensions.iter();
            let dimension = dimensions.find(|dimension| dimension.name == name)?;
            Some((group, dimension))
        })
    }

    /// The variables along the dimension that a name means in the group at `path`, each with the axes that it is. This is
    /// for formats that know dimensions only by what variables say: the same name with another length is another one.
    #[must_use]
    pub fn along(&self, path: &str, name: &str) -> Vec<(Arc<Variable>, Vec<usize>)> {
        let Some((declaring, dimension)) = self.dimension(path, name) else {
            return Vec::new();
        };
        let mut groups = self.root.walk();
        groups.retain(|group| is_within(&group.path, &declaring.path));
        let variables = groups.into_iter().flat_map(|group| &group.variables);
        variables
            .filter_map(|variable| {
                let axes = variable.dimensions.iter().zip(variable.shape());
                let axes: Vec<usize> = axes
                    .enumerate()
                    .filter(|(_, (own, length))| *own == name && **length == dimension.length)
                    .map(|(axis, _)| axis)
                    .collect();
                (!axes.is_empty()).then(|| (Arc::clone(variable), axes))
            })
            .collect()
    }
}

/// A group of a dataset: a namespace of dimensions, variables and further groups.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Path from the root without a leading slash, `a/b`; empty for the root group.
    pub path: String,
    /// Attributes of the group (of the dataset, for the root).
    pub attributes: Attributes,
    /// Dimensions declared in this group; those of enclosing groups are visible too.
    pub dimensions: Vec<Dimension>,
    /// Variables of this group.
    pub variables: Vec<Arc<Variable>>,
    /// What is in the group and cannot be read exactly.
    pub unreadable: Vec<Unreadable>,
    /// Groups within this one.
    pub groups: Vec<Group>,
}

impl Group {
    /// This group and all groups below it, parents before children.
    #[must_use]
    pub fn walk(&self) -> Vec<&Self> {
        let mut all = vec![self];
        let mut next = 0;
        while let Some(group) = all.get(next) {
            all.extend(group.groups.iter());
            next += 1;
        }
        all
    }
}

/// Whether the group at `path` is the one at `group` or within it.
#[must_use]
pub fn is_within(path: &str, group: &str) -> bool {
    match path.strip_prefix(group) {
        Some(rest) => group.is_empty() || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

/// An array of a dataset that cannot be read exactly, and the feature that prevents it.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Name within its group.
    pub name: String,
    /// The sentence to answer with when it is asked for: names the feature.
    pub reason: String,
}

/// A named dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimension {
    /// Name, as in the file.
    pub name: String,
    /// Current length, in cells.
    pub length: u64,
    /// Whether it can grow.
    pub unlimited: bool,
}

/// An array with named dimensions.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Name within its group.
    pub name: String,
    /// Path from the root, `group/name`; equals `name` in the root group.
    pub path: String,
    /// Names of its dimensions, slowest first, as many as the grid's shape has.
    pub dimensions: Vec<String>,
    /// Its attributes.
    pub attributes: Attributes,
    /// How its cells are stored.
    pub layout: Arc<Layout>,
    /// Where its chunks are.
    pub index: Arc<dyn ChunkIndex>,
    /// The variables whose cells and chunks its own are, where it belongs to several datasets that are read as one.
    pub members: Option<Arc<Members>>,
}

impl Variable {
    /// Extent in cells, one entry a dimension.
    #[must_use]
    pub fn shape(&self) -> &[u64] {
        self.layout.grid.shape()
    }

    /// Number of cells.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.shape().iter().product()
    }
}

/// How the cells of a variable are stored: all that is needed to decode a chunk whose bytes are at hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// What one element is.
    pub element: ElementType,
    /// Shape, and its division into chunks.
    pub grid: ChunkGrid,
    /// Order of the elements within a decoded chunk.
    pub order: ElementOrder,
    /// From elements to stored bytes.
    pub pipeline: CodecPipeline,
    /// One element, as in a decoded chunk (for text: its UTF-8 bytes): the value of cells that were never written.
    /// Empty means zero bytes.
    pub fill: Vec<u8>,
}

/// Attributes of a variable or group, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attributes(pub Vec<(String, AttributeValue)>);

impl Attributes {
    /// The value of the attribute called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&AttributeValue> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// The text of the attribute called `name`, if it is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            AttributeValue::Text(text) => Some(text),
            AttributeValue::Texts(texts) => match texts.as_slice() {
                [text] => Some(text),
                _ => None,
            },
            AttributeValue::Integers { .. }
            | AttributeValue::Floats { .. }
            | AttributeValue::Json(_) => None,
        }
    }
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AttributeValue {
    /// One text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// Integers of a type, one or several; `i128` holds every integer type.
    Integers {
        /// The type in the file.
        element: ElementType,
        /// The values.
        values: Vec<i128>,
    },
    /// Floating-point numbers of a type, one or several; `f64` holds every one of them exactly.
    Floats {
        /// The type in the file.
        element: ElementType,
        /// The values.
        values: Vec<f64>,
    },
    /// Anything else that JSON metadata can say.
    Json(serde_json::Value),
}

impl std::fmt::Display for AttributeValue {
    /// The value as a person would write it: text as it is, several values separated by `, `.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        fn list<T: ToString>(values: &[T]) -> String {
            let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
            texts.join(", ")
        }
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Texts(texts) => f.write_str(&texts.join(", ")),
            Self::Integers { values, .. } => f.write_str(&list(values)),
            Self::Floats { values, .. } => f.write_str(&list(values)),
            Self::Json(value) => write!(f, "{value}"),
        }
    }
}
