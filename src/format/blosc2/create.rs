//! New Blosc2 datasets: from a blueprint to frames without chunks.
//!
//! ```text
//! climate.b2d/          what a blueprint of several variables becomes; `blosc2.TreeStore` opens it
//!     embed.b2e             says that it is a tree, and that nothing is embedded in it
//!     __vlmeta__.b2f        attributes of the dataset
//!     tas.b2nd  lat.b2nd    variables and coordinates: attributes, and the names of dimensions, as variable-length metalayers
//!     ocean/                a group: the same again
//! ```

use rmpv::Value;

use super::attributes::{DIMENSIONS, integer, value};
use super::frame::usize_of;
use super::shell::empty_frame;
use super::write::{NewArray, NewFrame, block_shape};
use super::{GROUP_ATTRIBUTES, TREE, blocks};
use crate::array::blueprint::{Blueprint, Codecs, NewVariable};
use crate::array::dtype::ElementType;
use crate::array::{Attributes, Dataset};
use crate::codec::blosc::encode::{BloscCompressor, BloscShuffle};
use crate::codec::encode::{EncodePipeline, EncodeScratch, Encoder};
use crate::error::{Error, Result, Within};
use crate::format::Region;
use crate::store::write::{Expect, Object};

/// The codec, level and filter that python-blosc2 uses if nobody says otherwise.
const USUAL: (BloscCompressor, u8, BloscShuffle) = (BloscCompressor::Zstd, 5, BloscShuffle::Byte);
/// Bytes of the chunks that python-blosc2 gives to its own frames without an array.
const TREE_CHUNK: u64 = 1 << 13;
const ATTRIBUTES_CHUNK: u64 = 1 << 24;

/// A dataset to be made.
#[derive(Debug)]
pub(super) struct Outline {
    /// The dataset without any cell.
    pub(super) dataset: Dataset,
    /// Its arrays by the paths of their variables.
    pub(super) frames: Vec<(String, NewFrame)>,
    /// What else is in its directory.
    pub(super) documents: Vec<Object>,
}

/// The outline of a directory of arrays at `location`.
///
/// # Errors
/// `Invalid` when the blueprint contradicts itself, `Unsupported` when Blosc2 cannot hold what it asks for.
pub(super) fn directory(location: &str, blueprint: &Blueprint) -> Result<Outline> {
    let mut blueprint = blueprint.clone();
    let mut frames = Vec::with_capacity(blueprint.variables.len());
    for variable in &mut blueprint.variables {
        check_path(&variable.path).within(|| format!("variable {}", variable.path))?;
        frames.push((variable.path.clone(), frame(variable)?));
    }
    let mut documents = Vec::new();
    for path in blueprint.paths() {
        check_path(&path).within(|| format!("group {path}"))?;
        let attributes = blueprint.attributes(&path);
        if !attributes.0.is_empty() {
            documents.push(self::attributes(&path, &attributes)?);
        }
    }
    // The last one, so that who looks for a tree finds all of it.
    documents.push(document(TREE.to_owned(), tree()?));
    Ok(Outline {
        dataset: blueprint.dataset(location, "blosc2")?,
        frames,
        documents,
    })
}

/// The outline of one array at `location`: of one variable, whose dimensions have no other coordinates than indices.
///
/// # Errors
/// As [`directory`]; `Unsupported` also for what needs a directory.
pub(super) fn single(location: &str, blueprint: &Blueprint) -> Result<Outline> {
    let needs_directory = |what: &str| {
        Error::Unsupported(format!(
            "{location} would be one Blosc2 array, which cannot hold {what}: a location that ends in .b2d is a directory of \
             arrays, which can"
        ))
    };
    let mut blueprint = blueprint.clone();
    if let Some((name, _)) = blueprint.attributes("").0.first() {
        return Err(needs_directory(&format!(
            "the attribute {name} of a dataset"
        )));
    }
    if let Some(path) = blueprint.paths().get(1) {
        return Err(needs_directory(&format!("the group {path}")));
    }
    let mut frames: Vec<(String, NewFrame)> = Vec::new();
    for variable in &mut blueprint.variables {
        if variable.dimensions == [variable.path.as_str()] {
            let is_index = variable.element.is_integer() && variable.attributes.0.is_empty();
            if !is_index {
                return Err(needs_directory(&format!(
                    "the coordinates {}",
                    variable.path
                )));
            }
            continue;
        }
        if let Some((other, _)) = frames.first() {
            let both = format!("both {other} and {}", variable.path);
            return Err(needs_directory(&both));
        }
        frames.push((variable.path.clone(), frame(variable)?));
    }
    if frames.is_empty() {
        return Err(Error::Invalid(format!(
            "{location} would be one Blosc2 array, but there are only coordinates"
        )));
    }
    Ok(Outline {
        dataset: blueprint.dataset(location, "blosc2")?,
        frames,
        documents: Vec::new(),
    })
}

/// Refuses coordinates that are no indices.
///
/// # Errors
/// `Unsupported` naming the first of them.
pub(super) fn check_indices(region: &Region, element: ElementType) -> Result<()> {
    let size = element.size().unwrap_or(1).max(1);
    let start = region.start.first().copied().unwrap_or(0);
    for (index, cell) in (start..).zip(region.cells.chunks_exact(size)) {
        let value = integer(element, cell);
        if value != i128::from(index) {
            return Err(Error::Unsupported(format!(
                "it would be one Blosc2 array, whose dimensions have indices from 0 on, but {} has the value {value} at \
                 index {index}: a location that ends in .b2d is a directory of arrays, which can hold coordinates",
                region.variable
            )));
        }
    }
    Ok(())
}

/// The attributes of the group at `path`, as its directory holds them.
pub(super) fn attributes(path: &str, attributes: &Attributes) -> Result<Object> {
    let frame = empty_frame(ATTRIBUTES_CHUNK, &[], &layers(attributes));
    let key = match path {
        "" => GROUP_ATTRIBUTES.to_owned(),
        path => format!("{path}/{GROUP_ATTRIBUTES}"),
    };
    let frame = frame.within(|| format!("group \"{path}\""));
    Ok(document(key, frame?))
}

/// A chunk of cells that were never written, if they are no zeros.
pub(super) fn unwritten(array: &NewArray, fill: &[u8]) -> Result<Option<Vec<u8>>> {
    if fill.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let chunk = array.grid.chunk_shape();
    let cells = usize_of(chunk.iter().product())?;
    let mut cut = Vec::new();
    blocks::cut(
        &fill.repeat(cells),
        chunk,
        &array.block,
        fill.len(),
        &mut cut,
    )?;
    let pipeline = EncodePipeline(vec![Encoder::Blosc(array.encoder()?)]);
    pipeline
        .encode(&cut, &mut EncodeScratch::default())
        .map(Some)
}

/// The frame that a variable becomes, whose fill value is looked up.
fn frame(variable: &mut NewVariable) -> Result<NewFrame> {
    let place = || format!("variable {}", variable.path);
    let fill = variable.declared_fill().within(place)?;
    let frame = array(variable).and_then(NewFrame::begin).within(place)?;
    variable.fill = fill;
    Ok(frame)
}

/// The array that a variable becomes.
fn array(variable: &NewVariable) -> Result<NewArray> {
    if variable.shard.is_some() {
        return Err(Error::Unsupported(
            "Blosc2 has no shards: its chunks have blocks, which are read one by one".into(),
        ));
    }
    let grid = variable.grid()?;
    let (compressor, level, shuffle) = recipe(&variable.codecs)?;
    let names = variable.dimensions.iter().map(|name| name.as_str().into());
    let mut attributes = vec![(DIMENSIONS.to_owned(), Value::Array(names.collect()))];
    attributes.extend(layers(&variable.attributes));
    Ok(NewArray {
        block: block_shape(grid.chunk_shape(), variable.element),
        grid,
        element: variable.element,
        compressor,
        level,
        shuffle,
        attributes,
    })
}

/// What a new array does with the elements of a block.
fn recipe(codecs: &Codecs) -> Result<(BloscCompressor, u8, BloscShuffle)> {
    let steps = match codecs {
        Codecs::Usual => return Ok(USUAL),
        Codecs::Steps(steps) => steps.as_slice(),
    };
    match steps {
        [] => Ok((USUAL.0, 0, BloscShuffle::None)),
        [Encoder::Blosc(blosc)] if blosc.blocksize == 0 => {
            Ok((blosc.compressor, blosc.level, blosc.shuffle))
        }
        [Encoder::Blosc(blosc)] => Err(Error::Unsupported(format!(
            "blocks of {} bytes cannot be asked for: those of a Blosc2 array have a shape, which follows from its chunks",
            blosc.blocksize
        ))),
        [step, ..] => {
            let others = steps.iter().find(|step| !matches!(step, Encoder::Blosc(_)));
            Err(Error::Unsupported(format!(
                "codec {} cannot be used in a Blosc2 array, which has one of its own: none or blosc:zstd:5:shuffle",
                others.unwrap_or(step).codec()
            )))
        }
    }
}

/// Attributes as variable-length metalayers.
fn layers(attributes: &Attributes) -> Vec<(String, Value)> {
    let attributes = attributes.0.iter().filter(|(name, _)| name != DIMENSIONS);
    attributes
        .map(|(name, content)| (name.clone(), value(content)))
        .collect()
}

/// The frame of a store of embedded objects that has none.
fn tree() -> Result<Vec<u8>> {
    let map = |entries: Vec<(&str, Value)>| {
        let entries = entries.into_iter();
        Value::Map(entries.map(|(name, value)| (name.into(), value)).collect())
    };
    let mut version = Vec::new();
    rmpv::encode::write_value(&mut version, &map(vec![("version", 1.into())]))
        .map_err(|error| Error::Invalid(error.to_string()))?;
    let nothing = map(vec![
        ("embed_map", Value::Map(Vec::new())),
        ("current_offset", 0.into()),
    ]);
    empty_frame(
        TREE_CHUNK,
        &[("b2tree", version)],
        &[("estore_metadata".to_owned(), nothing)],
    )
}

fn document(key: String, bytes: Vec<u8>) -> Object {
    Object {
        key,
        bytes: bytes.into(),
        expect: Expect::Anything,
    }
}

/// Refuses names that no file could have, or that no reader would find.
fn check_path(path: &str) -> Result<()> {
    let mut parts = path.split('/');
    let is_hidden = |part: &str| part.is_empty() || part.starts_with('.') || part.contains('\0');
    match parts.find(|part| is_hidden(part)) {
        Some(part) if !path.is_empty() => Err(Error::Invalid(format!(
            "{part:?} cannot be the name of a file in the directory of a Blosc2 dataset"
        ))),
        _ => Ok(()),
    }
}
