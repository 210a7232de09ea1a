//! Arrays of Zarr v2: the documents `.zarray` with `.zattrs`.

use super::attributes;
use super::codecs::{self, Chain};
use super::dtype::{DataType, Endian};
use super::fill::fill_value;
use super::index::{KeyStyle, Keys};
use super::json::Json;
use super::site::{self, Parts, Site};
use crate::array::Variable;
use crate::array::chunk::{ChunkGrid, ElementOrder};
use crate::array::dtype::ElementType;
use crate::codec::CodecPipeline;
use crate::error::{Error, Result};

/// What `.zarray` says of an array, before its codecs are looked at.
pub(super) struct Head<'a> {
    pub(super) dtype: DataType,
    /// The name of the data type in the file.
    pub(super) name: &'a str,
    pub(super) endian: Endian,
    pub(super) grid: ChunkGrid,
    pub(super) order: ElementOrder,
    /// Filters, then the compressor.
    pub(super) steps: Vec<&'a Json>,
    /// The keys of its chunks, without a prefix.
    pub(super) keys: Keys,
}

/// Reads the document `.zarray`.
pub(super) fn head(zarray: &Json) -> Result<Head<'_>> {
    if zarray.get("zarr_format").count() != Some(2) {
        return Err(Error::Corrupt(format!(
            ".zarray has the zarr_format {}",
            zarray.get("zarr_format")
        )));
    }
    let shape = site::shape(zarray.get("shape"))?;
    let rank = shape.len();
    let name = match zarray.get("dtype") {
        Json::Text(name) => name,
        Json::List(_) => {
            return Err(Error::Unsupported(
                "structured data types are not supported".into(),
            ));
        }
        other => return Err(Error::Corrupt(format!("the array has the dtype {other}"))),
    };
    let (dtype, endian) = DataType::v2(name, rank)?;
    let chunk = zarray.get("chunks").counts().ok_or_else(|| {
        Error::Corrupt(format!("the array has the chunks {}", zarray.get("chunks")))
    })?;
    let grid = site::grid(shape, chunk, dtype)?;

    let mut filters = filters(zarray.get("filters"))?;
    if dtype.element == ElementType::Text {
        filters = text_filter(filters)?;
    }
    let compressor = zarray.get("compressor");
    let order = codecs::order(match zarray.get("order").text() {
        Some("C") => (0..rank).collect(),
        Some("F") => (0..rank).rev().collect(),
        _ => {
            return Err(Error::Corrupt(format!(
                "the array has the order {}",
                zarray.get("order")
            )));
        }
    });
    let separator = match zarray.get("dimension_separator") {
        Json::Null => '.',
        Json::Text(separator) if separator == "." => '.',
        Json::Text(separator) if separator == "/" => '/',
        other => {
            return Err(Error::Corrupt(format!(
                "the array has the dimension_separator {other}"
            )));
        }
    };
    Ok(Head {
        dtype,
        name,
        endian,
        grid,
        order,
        steps: filters
            .iter()
            .chain((!compressor.is_null()).then_some(compressor))
            .collect(),
        keys: Keys {
            prefix: String::new(),
            style: KeyStyle::V2,
            separator,
        },
    })
}

/// The variable that an array is.
pub(super) fn array(site: Site<'_>, zarray: &Json, zattrs: &Json) -> Result<Variable> {
    let Head {
        dtype,
        name,
        endian,
        grid,
        order,
        steps: codecs,
        keys,
    } = head(zarray)?;
    let rank = grid.shape().len();
    let mut steps = Vec::from_iter(codecs::byte_order(endian, dtype));
    for codec in codecs {
        let id = codecs::id(codec)?;
        steps.extend(codecs::numcodec(id, codec, dtype.element, name)?);
    }
    let chain = Chain {
        order,
        pipeline: CodecPipeline(steps),
    };
    let fill = fill_value(zarray.get("fill_value"), dtype)?;
    let dimensions = attributes::xarray_dimensions(zattrs, rank);
    let mut attributes = attributes::of_array(zattrs, dtype);
    // xarray, netCDF-C and all who name dimensions keep `_FillValue` here; elsewhere it is but the value of unwritten
    // cells, and mostly a zero that is meant.
    if dimensions.is_some() && !zarray.get("fill_value").is_null() {
        attributes::add_fill(&mut attributes, &fill, dtype);
    }
    Ok(site.variable(Parts {
        dimensions: attributes::dimension_names(dimensions.unwrap_or_default(), rank),
        attributes,
        dtype,
        index: site.objects(&grid, &keys)?,
        grid,
        chain,
        fill,
    }))
}

fn filters(json: &Json) -> Result<&[Json]> {
    match json {
        Json::Null => Ok(&[]),
        Json::List(filters) => Ok(filters),
        other => Err(Error::Corrupt(format!("the array has the filters {other}"))),
    }
}

/// The filters behind the first one, which must be the one that makes bytes of texts.
fn text_filter(filters: &[Json]) -> Result<&[Json]> {
    match filters.split_first() {
        None => Err(Error::Unsupported(
            "data type |O without a filter is not supported".into(),
        )),
        Some((first, rest)) => match codecs::id(first)? {
            "vlen-utf8" => Ok(rest),
            other => Err(Error::Unsupported(format!(
                "data type |O with filter {other} is not supported"
            ))),
        },
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::array::AttributeValue;
    use crate::codec::Codec;
    use crate::store::Store;

    const ZARRAY: &str = r#"{"zarr_format": 2, "shape": [4, 5], "chunks": [2, 5], "dtype": ">i2", "order": "F", "fill_value": -1,
        "filters": [{"id": "shuffle", "elementsize": 2}], "compressor": {"id": "zlib", "level": 1}}"#;

    fn open(zarray: &str, zattrs: &str) -> Result<Variable> {
        let store = Store::open("/data/cube.zarr").unwrap();
        let site = Site::of(&store, "a/b");
        let parse = |text: &str| Json::parse(text.as_bytes()).unwrap();
        array(site, &parse(zarray), &parse(zattrs))
    }

    #[test]
    fn the_parts_of_a_variable() {
        let variable = open(ZARRAY, r#"{"_ARRAY_DIMENSIONS": ["y", "x"], "units": "K"}"#).unwrap();
        assert_eq!(
            (variable.name.as_str(), variable.path.as_str()),
            ("b", "a/b")
        );
        assert_eq!(variable.dimensions, ["y", "x"]);
        assert_eq!(variable.layout.order, ElementOrder::Permuted(vec![1, 0]));
        assert_eq!(
            variable.layout.pipeline.0,
            [Codec::ByteSwap(2), Codec::Shuffle(2), Codec::Zlib]
        );
        assert_eq!(variable.layout.fill, (-1i16).to_le_bytes());
        assert_eq!(
            variable.attributes.get("_FillValue"),
            Some(&AttributeValue::Integers {
                element: ElementType::Int16,
                values: vec![-1]
            })
        );
    }

    #[test]
    fn a_fill_value_is_a_missing_one_only_where_dimensions_have_names() {
        let variable = open(ZARRAY, "{}").unwrap();
        assert_eq!(variable.dimensions, ["dim_0", "dim_1"]);
        assert!(variable.attributes.get("_FillValue").is_none());
        let variable = open(
            ZARRAY,
            r#"{"_ARRAY_DIMENSIONS": ["y", "x"], "_FillValue": 7}"#,
        )
        .unwrap();
        assert_eq!(
            variable.attributes.get("_FillValue"),
            Some(&AttributeValue::Integers {
                element: ElementType::Int64,
                values: vec![7]
            })
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (from, to, named) in [
            ("\"zlib\"", "\"bz2\"", "bz2"),
            ("\"shuffle\"", "\"delta\"", "delta"),
            ("\">i2\"", "[[\"a\", \"<i2\"]]", "structured"),
            ("\">i2\"", "\"<c8\"", "c8"),
            ("\">i2\"", "\"|O\"", "shuffle"),
        ] {
            let error = open(&ZARRAY.replace(from, to), "{}").unwrap_err();
            assert!(
                matches!(&error, Error::Unsupported(text) if text.contains(named)),
                "{error}"
            );
        }
        for (from, to) in [
            ("[2, 5]", "[2]"),
            ("[2, 5]", "[0, 5]"),
            ("[2, 5]", "false"),
            ("[4, 5]", "[4.5, 5]"),
            ("[4, 5]", "[4611686018427387904, 5]"),
            ("[2, 5]", "[4611686018427387904, 1]"),
            ("\"F\"", "\"A\""),
            ("\"order\"", "\"dimension_separator\": \"../\", \"order\""),
            ("-1", "-40000"),
            ("\"zarr_format\": 2", "\"zarr_format\": 3"),
            ("\"id\"", "\"no\""),
        ] {
            assert!(
                matches!(
                    open(&ZARRAY.replace(from, to), "{}"),
                    Err(Error::Corrupt(_))
                ),
                "{from} {to}"
            );
        }
    }
}
