//! Blueprints: what a dataset is to be that does not exist yet, in the terms of every format.

use std::sync::Arc;

use async_trait::async_trait;

use crate::array::chunk::{ChunkAddress, ChunkGrid, ChunkIndex, ElementOrder};
use crate::array::dtype::ElementType;
use crate::array::number;
use crate::array::{AttributeValue, Attributes, Dataset, Dimension, Group, Layout, Variable};
use crate::codec::encode::{Encoder, FrameChecksum};
use crate::codec::{Codec, CodecPipeline};
use crate::error::{Error, Result};

/// A dataset to be created.
#[derive(Clone, Debug, Default)]
pub struct Blueprint {
    /// Version of the format, where it has several.
    pub version: Option<u8>,
    /// The groups, parents before children; the root, whose path is empty, may be left out.
    pub groups: Vec<NewGroup>,
    /// The variables of all groups.
    pub variables: Vec<NewVariable>,
}

/// A group to be created.
#[derive(Clone, Debug, Default)]
pub struct NewGroup {
    /// Its path; empty for the root.
    pub path: String,
    /// Its attributes.
    pub attributes: Attributes,
    /// The dimensions that it declares.
    pub dimensions: Vec<Dimension>,
}

/// A variable to be created.
#[derive(Clone, Debug)]
pub struct NewVariable {
    /// Its path, `group/name`.
    pub path: String,
    /// What one element is.
    pub element: ElementType,
    /// Names of its dimensions, slowest first.
    pub dimensions: Vec<String>,
    /// Extent in cells, one entry a dimension.
    pub shape: Vec<u64>,
    /// Extent of a chunk.
    pub chunk: Vec<u64>,
    /// Extent of a shard, which holds whole chunks, in formats that have them.
    pub shard: Option<Vec<u64>>,
    /// From elements to stored bytes.
    pub codecs: Codecs,
    /// The value of cells that are never written, one element; `None` leaves that to `_FillValue` among the attributes,
    /// and then to the format.
    pub fill: Option<Vec<u8>>,
    /// Its attributes by the conventions: `_FillValue`, `scale_factor` and the like too.
    pub attributes: Attributes,
}

/// What becomes of the elements of chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Codecs {
    /// What the format does if nobody says otherwise.
    #[default]
    Usual,
    /// These steps.
    Steps(Vec<Encoder>),
}

impl Codecs {
    /// The steps of `none`, `zstd:3`, `blosc:zstd:5:bitshuffle`, `shuffle,zlib:4`; `size` is the number of bytes of an
    /// element.
    ///
    /// # Errors
    /// `Invalid` when there are no such steps.
    pub fn parse(text: &str, size: Option<u32>) -> Result<Self> {
        let unknown = || {
            Error::Invalid(format!(
                "codec '{text}' is none of none, zstd:3, gzip:6, zlib:4, lz4, blosc:zstd:5:shuffle, or several like shuffle,zlib"
            ))
        };
        if text.trim() == "none" {
            return Ok(Self::Steps(Vec::new()));
        }
        let step = |step: &str| {
            let mut parts = step.split(':').map(str::trim);
            let id = parts.next().unwrap_or_default();
            let mut parameters = serde_json::Map::new();
            let level = |text: &str| text.parse::<i64>().map_err(|_| unknown());
            if id == "blosc" {
                if let Some(name) = parts.next() {
                    parameters.insert("cname".into(), name.into());
                }
                if let Some(text) = parts.next() {
                    parameters.insert("clevel".into(), level(text)?.into());
                }
                if let Some(name) = parts.next() {
                    parameters.insert("shuffle".into(), name.into());
                }
            } else if let Some(text) = parts.next() {
                parameters.insert("level".into(), level(text)?.into());
            }
            if parts.next().is_some() {
                return Err(unknown());
            }
            Encoder::from_numcodecs(id, &parameters.into(), size).map_err(|_| unknown())
        };
        let steps = text
            .split(',')
            .map(str::trim)
            .filter(|step| !step.is_empty());
        steps.map(step).collect::<Result<_>>().map(Self::Steps)
    }
}

impl Codecs {
    /// The steps that a pipeline undoes; of how hard they have tried it says nothing.
    #[must_use]
    pub fn like(pipeline: &CodecPipeline) -> Self {
        let step = |codec: &Codec| {
            Some(match codec {
                Codec::ByteSwap(_) | Codec::Blosc => return None,
                Codec::Shuffle(size) => Encoder::Shuffle(*size),
                Codec::Zlib => Encoder::Zlib { level: 4 },
                Codec::Gzip => Encoder::Gzip { level: 5 },
                Codec::Zstd => Encoder::Zstd {
                    level: 3,
                    checksum: FrameChecksum::Absent,
                },
                Codec::Lz4 => Encoder::Lz4,
                Codec::Fletcher32 => Encoder::Fletcher32,
                Codec::Crc32c => Encoder::Crc32c,
            })
        };
        match pipeline.0.contains(&Codec::Blosc) {
            true => Self::Usual,
            false => Self::Steps(pipeline.0.iter().filter_map(step).collect()),
        }
    }
}

impl Blueprint {
    /// The attributes of the group at `path`.
    #[must_use]
    pub fn attributes(&self, path: &str) -> Attributes {
        let group = self.groups.iter().find(|group| group.path == path);
        group.map_or_else(Attributes::default, |group| group.attributes.clone())
    }

    /// The paths of all groups, parents before children: those that are declared, and those that variables are in.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut paths = vec![String::new()];
        let declared = self.groups.iter().map(|group| group.path.as_str());
        let parents = self
            .variables
            .iter()
            .filter_map(|variable| Some(variable.path.rsplit_once('/')?.0));
        for path in declared.chain(parents) {
            let ends = path.match_indices('/').map(|(at, _)| at);
            for end in ends.chain([path.len()]) {
                let outer = path.get(..end).unwrap_or_default().to_owned();
                if !paths.contains(&outer) {
                    paths.push(outer);
                }
            }
        }
        paths
    }

    /// The dataset that it will be, in which no cell is written, as far as formats agree.
    ///
    /// # Errors
    /// `Invalid` when the extents of a variable do not belong together.
    pub fn dataset(&self, location: &str, format: &'static str) -> Result<Dataset> {
        Ok(Dataset {
            location: location.to_owned(),
            format,
            root: self.group("", &self.paths())?,
        })
    }

    /// The group at `path`, one of `paths`, with all that is in it.
    fn group(&self, path: &str, paths: &[String]) -> Result<Group> {
        let parent = |path: &str| match path.rsplit_once('/') {
            Some((parent, _)) => parent.to_owned(),
            None => String::new(),
        };
        let declared = self.groups.iter().find(|group| group.path == path);
        let variables = self.variables.iter();
        let below = paths.iter().filter(|below| !below.is_empty());
        Ok(Group {
            path: path.to_owned(),
            attributes: self.attributes(path),
            dimensions: declared.map_or_else(Vec::new, |group| group.dimensions.clone()),
            variables: variables
                .filter(|variable| parent(&variable.path) == path)
                .map(NewVariable::variable)
                .collect::<Result<_>>()?,
            unreadable: Vec::new(),
            groups: below
                .filter(|below| parent(below) == path)
                .map(|below| self.group(below, paths))
                .collect::<Result<_>>()?,
        })
    }
}

impl NewVariable {
    /// Its name within its group.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path
            .rsplit_once('/')
            .map_or(self.path.as_str(), |(_, name)| name)
    }

    /// Its division into chunks.
    ///
    /// # Errors
    /// `Invalid` when extents do not belong together.
    pub fn grid(&self) -> Result<ChunkGrid> {
        let wrong = |reason: &dyn std::fmt::Display| {
            Error::Invalid(format!("variable {}: {reason}", self.path))
        };
        if self.dimensions.len() != self.shape.len() {
            return Err(wrong(&format!(
                "the dimensions {:?} have the extents {:?}",
                self.dimensions, self.shape
            )));
        }
        if let Some(shard) = &self.shard {
            let tiles = shard.len() == self.chunk.len()
                && shard
                    .iter()
                    .zip(&self.chunk)
                    .all(|(shard, chunk)| *chunk > 0 && *shard > 0 && shard.is_multiple_of(*chunk));
            if !tiles {
                return Err(wrong(&format!(
                    "shards of {shard:?} cells cannot be cut into chunks of {:?}",
                    self.chunk
                )));
            }
        }
        ChunkGrid::new(self.shape.clone(), self.chunk.clone()).map_err(|error| wrong(&error))
    }

    /// The element that stands for cells without a value, if anything says which.
    ///
    /// # Errors
    /// `Invalid` when its `_FillValue` is a number that its elements cannot be.
    pub fn declared_fill(&self) -> Result<Option<Vec<u8>>> {
        if let Some(fill) = &self.fill {
            let mut fill = fill.clone();
            fill.resize(self.element.size().unwrap_or(fill.len()), 0);
            return Ok(Some(fill));
        }
        let Some(value) = self.attributes.get("_FillValue") else {
            return Ok(None);
        };
        let is_number = match value {
            AttributeValue::Integers { values, .. } => values.len() == 1,
            AttributeValue::Floats { values, .. } => values.len() == 1,
            AttributeValue::Text(_) | AttributeValue::Texts(_) | AttributeValue::Json(_) => false,
        };
        if !is_number {
            return Ok(None);
        }
        let fill = number::element(value, self.element).ok_or_else(|| {
            Error::Invalid(format!(
                "the fill value {value} cannot be stored as {}",
                self.element.name()
            ))
        })?;
        Ok(Some(fill))
    }

    /// The variable that it will be, without any chunk yet.
    ///
    /// # Errors
    /// As [`NewVariable::grid`].
    pub fn variable(&self) -> Result<Arc<Variable>> {
        Ok(Arc::new(Variable {
            name: self.name().to_owned(),
            path: self.path.clone(),
            dimensions: self.dimensions.clone(),
            attributes: self.attributes.clone(),
            layout: Arc::new(Layout {
                element: self.element,
                grid: self.grid()?,
                order: ElementOrder::C,
                pipeline: CodecPipeline(Vec::new()),
                fill: self.fill.clone().unwrap_or_default(),
            }),
            index: Arc::new(Unwritten),
            members: None,
        }))
    }
}

/// The index of a variable without any chunk.
#[derive(Debug)]
pub struct Unwritten;

#[async_trait]
impl ChunkIndex for Unwritten {
    async fn locate(&self, chunks: &[u64]) -> Result<Vec<ChunkAddress>> {
        Ok(vec![ChunkAddress::Missing; chunks.len()])
    }
}
