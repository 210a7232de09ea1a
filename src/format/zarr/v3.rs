//! Arrays of Zarr v3: the document `zarr.json`.

use std::sync::Arc;

use super::attributes;
use super::codecs::{self, named};
use super::dtype::DataType;
use super::fill::fill_value;
use super::index::{KeyStyle, Keys};
use super::json::Json;
use super::shard::{Sharding, Shards};
use super::site::{self, Parts, Site};
use crate::array::Variable;
use crate::array::chunk::{ChunkGrid, ChunkIndex};
use crate::error::{Error, Result};

/// Members of a document that are understood.
const MEMBERS: [&str; 12] = [
    "zarr_format",
    "node_type",
    "shape",
    "data_type",
    "chunk_grid",
    "chunk_key_encoding",
    "fill_value",
    "codecs",
    "attributes",
    "storage_transformers",
    "dimension_names",
    "consolidated_metadata",
];

/// Checks that a document is one of Zarr v3, without members that have to be understood and are not.
pub(super) fn check(document: &Json) -> Result<()> {
    if document.get("zarr_format").count() != Some(3) {
        return Err(Error::Corrupt(format!(
            "zarr.json has the zarr_format {}",
            document.get("zarr_format")
        )));
    }
    for (name, extension) in document.object() {
        let ignorable = matches!(extension.get("must_understand"), Json::Bool(false));
        if !MEMBERS.contains(&name.as_str()) && !ignorable {
            return Err(Error::Unsupported(format!(
                "the metadata extension {name} is not supported"
            )));
        }
    }
    Ok(())
}

/// What `zarr.json` says of an array, before its codecs are looked at.
pub(super) struct Head<'a> {
    pub(super) shape: Vec<u64>,
    pub(super) dtype: DataType,
    /// Extent of what one object holds.
    pub(super) stored: Vec<u64>,
    /// The keys of its objects, without a prefix.
    pub(super) keys: Keys,
    pub(super) codecs: &'a [Json],
    /// The configuration of sharding, if that is the one codec.
    pub(super) sharding: Option<&'a Json>,
}

/// Reads the document `zarr.json` of an array.
pub(super) fn head(document: &Json) -> Result<Head<'_>> {
    check(document)?;
    match document.get("storage_transformers") {
        Json::Null => {}
        Json::List(transformers) if transformers.is_empty() => {}
        other => {
            return Err(Error::Unsupported(format!(
                "the storage transformers {other} are not supported"
            )));
        }
    }
    let shape = site::shape(document.get("shape"))?;
    let rank = shape.len();
    let (name, configuration) = named("data type", document.get("data_type"))?;
    let codecs = document
        .get("codecs")
        .list()
        .ok_or_else(|| Error::Corrupt("the array has no list of codecs".into()))?;
    Ok(Head {
        dtype: DataType::v3(name, configuration, rank)?,
        shape,
        stored: chunk_shape(document.get("chunk_grid"))?,
        keys: keys(document.get("chunk_key_encoding"))?,
        codecs,
        sharding: sharding(codecs)?,
    })
}

/// The variable that an array is.
pub(super) fn array(site: Site<'_>, document: &Json) -> Result<Variable> {
    let head = head(document)?;
    let (dtype, rank) = (head.dtype, head.shape.len());
    let (grid, chain, index): (_, _, Arc<dyn ChunkIndex>) = match head.sharding {
        Some(configuration) => {
            let sharding = Sharding::parse(configuration, dtype, rank)?;
            let grid = site::grid(head.shape, sharding.chunk.clone(), dtype)?;
            let chain = sharding.chain.clone();
            let shards = ChunkGrid::new(grid.shape().to_vec(), head.stored)?;
            let objects = site.objects(&shards, &head.keys)?;
            let index = Shards::new(site.store, objects, &grid, shards, sharding)?;
            (grid, chain, Arc::new(index))
        }
        None => {
            let grid = site::grid(head.shape, head.stored, dtype)?;
            let index = site.objects(&grid, &head.keys)?;
            let chain = codecs::chain(head.codecs, dtype, rank)?;
            (grid, chain, index)
        }
    };
    let json = document.get("attributes");
    Ok(site.variable(Parts {
        dimensions: dimensions(document.get("dimension_names"), json, rank)?,
        attributes: attributes::of_array(json, dtype),
        dtype,
        grid,
        chain,
        fill: fill_value(document.get("fill_value"), dtype)?,
        index,
    }))
}

fn chunk_shape(json: &Json) -> Result<Vec<u64>> {
    let (name, configuration) = named("chunk grid", json)?;
    if name != "regular" {
        return Err(Error::Unsupported(format!(
            "the chunk grid {name} is not supported"
        )));
    }
    configuration
        .get("chunk_shape")
        .counts()
        .ok_or_else(|| Error::Corrupt(format!("{json} is no valid chunk grid")))
}

fn keys(json: &Json) -> Result<Keys> {
    let (name, configuration) = named("chunk key encoding", json)?;
    let style = match name {
        "default" => KeyStyle::Default,
        "v2" => KeyStyle::V2,
        _ => {
            return Err(Error::Unsupported(format!(
                "the chunk key encoding {name} is not supported"
            )));
        }
    };
    let separator = match (configuration.get("separator"), style) {
        (Json::Null, KeyStyle::Default) => '/',
        (Json::Null, KeyStyle::V2) => '.',
        (Json::Text(separator), _) if separator == "/" => '/',
        (Json::Text(separator), _) if separator == "." => '.',
        _ => {
            return Err(Error::Corrupt(format!(
                "{json} is no valid chunk key encoding"
            )));
        }
    };
    Ok(Keys {
        prefix: String::new(),
        style,
        separator,
    })
}

/// The configuration of sharding, if that is the one codec.
fn sharding(codecs: &[Json]) -> Result<Option<&Json>> {
    let [codec] = codecs else { return Ok(None) };
    let (name, configuration) = named("codec", codec)?;
    Ok((name == "sharding_indexed").then_some(configuration))
}

fn dimensions(names: &Json, attributes: &Json, rank: usize) -> Result<Vec<String>> {
    let names = match names {
        Json::Null => attributes::xarray_dimensions(attributes, rank).unwrap_or_default(),
        Json::List(names)
            if names.len() == rank
                && names
                    .iter()
                    .all(|name| name.is_null() || name.text().is_some()) =>
        {
            names
        }
        other => {
            return Err(Error::Corrupt(format!(
                "an array of {rank} dimensions has the dimension_names {other}"
            )));
        }
    };
    Ok(attributes::dimension_names(names, rank))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::array::chunk::ElementOrder;
    use crate::codec::Codec;
    use crate::store::Store;

    const DOCUMENT: &str = r#"{"zarr_format": 3, "node_type": "array", "shape": [6, 4], "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 4]}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": "NaN", "dimension_names": ["y", null],
        "codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": [2, 4],
            "codecs": [{"name": "transpose", "configuration": {"order": [1, 0]}}, {"name": "bytes", "configuration": {"endian": "little"}}, {"name": "zstd"}],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]}}],
        "attributes": {"units": "K"}, "extension": {"must_understand": false}}"#;

    fn open(document: &str) -> Result<Variable> {
        let store = Store::open("/data/cube.zarr").unwrap();
        let site = Site::of(&store, "");
        array(site, &Json::parse(document.as_bytes()).unwrap())
    }

    #[test]
    fn a_sharded_variable_has_the_grid_of_its_inner_chunks() {
        let variable = open(DOCUMENT).unwrap();
        assert_eq!(
            (variable.name.as_str(), variable.path.as_str()),
            ("cube", "cube")
        );
        assert_eq!(variable.dimensions, ["y", "dim_1"]);
        assert_eq!(variable.layout.grid.chunk_shape(), [2, 4]);
        assert_eq!(variable.layout.grid.len(), 3);
        assert_eq!(variable.layout.order, ElementOrder::Permuted(vec![1, 0]));
        assert_eq!(variable.layout.pipeline.0, [Codec::Zstd]);
        assert_eq!(variable.layout.fill, f32::NAN.to_le_bytes());
        assert!(variable.attributes.get("_FillValue").is_none());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (from, to, named) in [
            ("\"regular\"", "\"rectilinear\"", "rectilinear"),
            ("\"default\"", "\"default_suffix\"", "default_suffix"),
            ("\"float32\"", "\"complex64\"", "complex64"),
            ("\"zstd\"", "\"numcodecs.bz2\"", "bz2"),
            (
                "\"must_understand\": false",
                "\"must_understand\": true",
                "extension",
            ),
            (
                "\"attributes\"",
                "\"storage_transformers\": [{\"name\": \"manifest\"}], \"attributes\"",
                "manifest",
            ),
            (
                "{\"name\": \"crc32c\"}",
                "{\"name\": \"zstd\"}",
                "codec zstd",
            ),
        ] {
            let error = open(&DOCUMENT.replace(from, to)).unwrap_err();
            assert!(
                matches!(&error, Error::Unsupported(text) if text.contains(named)),
                "{error}"
            );
        }
        for (from, to) in [
            ("[2, 4]", "[3, 4]"),
            ("[2, 4]", "[8, 4]"),
            ("[2, 4]", "[4]"),
            ("[4, 4]", "[0, 4]"),
            ("[\"y\", null]", "[\"y\"]"),
            ("\"NaN\"", "\"nan\""),
            ("\"zarr_format\": 3", "\"zarr_format\": 2"),
            (
                "\"codecs\": [{\"name\": \"sh",
                "\"codecs\": [{\"nome\": \"sh",
            ),
        ] {
            assert!(
                matches!(open(&DOCUMENT.replace(from, to)), Err(Error::Corrupt(_))),
                "{from} {to}"
            );
        }
    }
}
