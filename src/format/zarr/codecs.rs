//! Codec chains: from the codecs that metadata names to a pipeline.

use super::dtype::{DataType, Endian};
use super::json::{Json, NULL};
use crate::array::chunk::ElementOrder;
use crate::array::dtype::ElementType;
use crate::codec::{Codec, CodecPipeline};
use crate::error::{Error, Result};

/// What becomes of the elements of a chunk.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chain {
    /// Order of the elements.
    pub(super) order: ElementOrder,
    /// Steps from elements to stored bytes.
    pub(super) pipeline: CodecPipeline,
}

/// Name and configuration of an extension of Zarr v3, which may be written as its name alone.
pub(super) fn named<'a>(what: &str, json: &'a Json) -> Result<(&'a str, &'a Json)> {
    let (name, configuration) = match json.text() {
        Some(name) => (Some(name), &NULL),
        None => (json.get("name").text(), json.get("configuration")),
    };
    match (name, configuration) {
        (Some(name), Json::Null | Json::Object(_)) => Ok((name, configuration)),
        _ => Err(Error::Corrupt(format!("{json} is no valid {what}"))),
    }
}

/// The identifier of a filter or compressor of Zarr v2.
pub(super) fn id(codec: &Json) -> Result<&str> {
    codec
        .get("id")
        .text()
        .ok_or_else(|| Error::Corrupt(format!("{codec} is no valid filter or compressor")))
}

/// The order in which stored axis `i` is array axis `axes[i]`.
pub(super) fn order(axes: Vec<usize>) -> ElementOrder {
    if axes.is_sorted() {
        ElementOrder::C
    } else {
        ElementOrder::Permuted(axes)
    }
}

/// The step that brings numbers of this byte order into the native one, if they need it.
pub(super) fn byte_order(endian: Endian, dtype: DataType) -> Option<Codec> {
    let unit = dtype.swap_unit();
    (endian == Endian::Big && unit > 1).then_some(Codec::ByteSwap(unit))
}

/// The step with this numcodecs identifier; `None` when it only acts while encoding.
///
/// `dtype` is the name of the array's data type, as the codec would call it.
pub(super) fn numcodec(
    id: &str,
    configuration: &Json,
    element: ElementType,
    dtype: &str,
) -> Result<Option<Codec>> {
    Ok(Some(match id {
        "zlib" => Codec::Zlib,
        "gzip" => Codec::Gzip,
        "zstd" => Codec::Zstd,
        "lz4" => Codec::Lz4,
        "blosc" => Codec::Blosc,
        "fletcher32" => Codec::Fletcher32,
        "shuffle" => Codec::Shuffle(element_size(configuration, element)?),
        "crc32c" => match configuration.get("location") {
            Json::Null => Codec::Crc32c,
            Json::Text(place) if place == "end" => Codec::Crc32c,
            place => {
                return Err(Error::Unsupported(format!(
                    "codec crc32c with its checksum at the {place} is not supported"
                )));
            }
        },
        // Both throw digits away while encoding; what is stored are plain floats.
        "bitround" if element.is_float() => return Ok(None),
        "quantize" if element.is_float() && keeps_type(configuration, dtype) => return Ok(None),
        _ => return Err(unsupported(id)),
    }))
}

/// The chain of `codecs` of Zarr v3, of which none shards.
pub(super) fn chain(codecs: &[Json], dtype: DataType, rank: usize) -> Result<Chain> {
    let mut axes: Vec<usize> = (0..rank).collect();
    let mut steps = Vec::new();
    let mut serialized = false;
    for codec in codecs {
        let (name, configuration) = named("codec", codec)?;
        match (name, serialized) {
            ("transpose", false) => axes = transposed(&axes, configuration.get("order"))?,
            ("bytes", false) if dtype.element != ElementType::Text => {
                steps.extend(byte_order(endian(configuration, dtype)?, dtype));
                serialized = true;
            }
            ("vlen-utf8", false) if dtype.element == ElementType::Text => serialized = true,
            ("bytes" | "vlen-utf8" | "transpose", _) => {
                return Err(Error::Corrupt(format!(
                    "codec {name} is out of place for data type {}",
                    dtype.element.name()
                )));
            }
            ("sharding_indexed", _) => {
                return Err(Error::Unsupported(
                    "shards that are transposed, compressed or nested are not supported".into(),
                ));
            }
            (_, true) => steps.extend(bytes_to_bytes(name, configuration, dtype.element)?),
            (_, false) => array_to_array(name, configuration, dtype.element)?,
        }
    }
    if !serialized {
        return Err(Error::Corrupt(
            "the codecs do not say how elements become bytes".into(),
        ));
    }
    Ok(Chain {
        order: order(axes),
        pipeline: CodecPipeline(steps),
    })
}

fn endian(configuration: &Json, dtype: DataType) -> Result<Endian> {
    match configuration.get("endian") {
        Json::Text(endian) if endian == "little" => Ok(Endian::Little),
        Json::Text(endian) if endian == "big" => Ok(Endian::Big),
        Json::Null if dtype.swap_unit() == 1 => Ok(Endian::Little),
        endian => Err(Error::Corrupt(format!(
            "codec bytes has the byte order {endian}"
        ))),
    }
}

fn bytes_to_bytes(name: &str, configuration: &Json, element: ElementType) -> Result<Option<Codec>> {
    let id = match name.strip_prefix("numcodecs.") {
        Some(id) => id,
        None if matches!(name, "gzip" | "zstd" | "blosc" | "crc32c") => name,
        None => return Err(unsupported(name)),
    };
    match numcodec(id, configuration, element, "") {
        Ok(Some(codec)) => Ok(Some(codec)),
        Ok(None) => Err(Error::Corrupt(format!("codec {name} is out of place"))),
        Err(_) if id == name => Err(unsupported(name)),
        Err(error) => Err(error),
    }
}

fn array_to_array(name: &str, configuration: &Json, element: ElementType) -> Result<()> {
    let id = name.strip_prefix("numcodecs.").unwrap_or(name);
    match numcodec(id, configuration, element, &element.name())? {
        None => Ok(()),
        Some(_) => Err(Error::Corrupt(format!(
            "codec {name} is out of place before elements become bytes"
        ))),
    }
}

/// The axes that are stored after another transposition.
fn transposed(axes: &[usize], order: &Json) -> Result<Vec<usize>> {
    let rank = axes.len();
    let order: Option<Vec<usize>> = match order {
        // Early drafts of the specification had names for two orders.
        Json::Text(name) if name == "C" => Some((0..rank).collect()),
        Json::Text(name) if name == "F" => Some((0..rank).rev().collect()),
        _ => order
            .counts()
            .and_then(|axes| axes.into_iter().map(|axis| axis.try_into().ok()).collect()),
    };
    let order = order.filter(|order| {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        sorted.into_iter().eq(0..rank)
    });
    order
        .and_then(|order| order.iter().map(|axis| axes.get(*axis).copied()).collect())
        .ok_or_else(|| {
            Error::Corrupt(format!(
                "codec transpose has an order that does not fit {rank} dimensions"
            ))
        })
}

/// The element size of a shuffle: numcodecs' own default in Zarr v2 metadata is always written out.
pub(super) fn element_size(configuration: &Json, element: ElementType) -> Result<u32> {
    let size = match configuration.get("elementsize") {
        Json::Null => element.size().and_then(|size| u32::try_from(size).ok()),
        size => size.count().and_then(|size| size.try_into().ok()),
    };
    size.filter(|size| *size > 0)
        .ok_or_else(|| Error::Corrupt("codec shuffle has no valid element size".into()))
}

fn keeps_type(configuration: &Json, dtype: &str) -> bool {
    ["dtype", "astype"]
        .into_iter()
        .all(|key| match configuration.get(key) {
            Json::Null => true,
            name => name
                .text()
                .is_some_and(|name| name == dtype || number_protocol(dtype) == Some(name)),
        })
}

/// NumPy's short name of a float type of Zarr v3.
fn number_protocol(dtype: &str) -> Option<&'static str> {
    match dtype {
        "float16" => Some("<f2"),
        "float32" => Some("<f4"),
        "float64" => Some("<f8"),
        _ => None,
    }
}

fn unsupported(name: &str) -> Error {
    Error::Unsupported(format!("codec {name} is not supported"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn parse(codecs: &str, dtype: &str, rank: usize) -> Result<Chain> {
        let json = Json::parse(codecs.as_bytes()).unwrap();
        chain(
            json.list().unwrap(),
            DataType::v3(dtype, &NULL, rank)?,
            rank,
        )
    }

    #[test]
    fn chains() {
        let chain = parse(
            r#"[{"name": "transpose", "configuration": {"order": [2, 0, 1]}}, {"name": "transpose", "configuration": {"order": [1, 0, 2]}},
                {"name": "bytes", "configuration": {"endian": "big"}}, "crc32c", {"name": "numcodecs.shuffle", "configuration": {}}]"#,
            "float32",
            3,
        )
        .unwrap();
        assert_eq!(chain.order, ElementOrder::Permuted(vec![0, 2, 1]));
        assert_eq!(
            chain.pipeline.0,
            [Codec::ByteSwap(4), Codec::Crc32c, Codec::Shuffle(4)]
        );
        assert_eq!(
            parse(r#"[{"name": "bytes"}]"#, "uint8", 1)
                .unwrap()
                .pipeline
                .0,
            []
        );
        assert_eq!(
            parse(r#"["vlen-utf8", "zstd"]"#, "string", 1)
                .unwrap()
                .pipeline
                .0,
            [Codec::Zstd]
        );
    }

    #[test]
    fn rounding_is_no_step_of_decoding() {
        let codecs = r#"[{"name": "numcodecs.quantize", "configuration": {"digits": 2, "dtype": "DTYPE"}}, {"name": "bytes", "configuration": {"endian": "little"}}]"#;
        for dtype in ["float32", "<f4"] {
            let codecs = codecs.replace("DTYPE", dtype);
            assert_eq!(parse(&codecs, "float32", 1).unwrap().pipeline.0, []);
            assert!(matches!(
                parse(&codecs, "float64", 1),
                Err(Error::Unsupported(_))
            ));
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_named() {
        for (codec, kind) in [
            (r#"{"name": "numcodecs.bz2"}"#, "bz2"),
            (
                r#"{"name": "numcodecs.crc32c", "configuration": {"location": "start"}}"#,
                "crc32c",
            ),
            (r#"{"name": "zfp"}"#, "zfp"),
            (
                r#"{"name": "sharding_indexed", "configuration": {}}"#,
                "shards",
            ),
        ] {
            let codecs = format!(
                r#"[{{"name": "bytes", "configuration": {{"endian": "little"}}}}, {codec}]"#
            );
            let error = parse(&codecs, "int16", 1).unwrap_err();
            assert!(
                matches!(&error, Error::Unsupported(text) if text.contains(kind)),
                "{error}"
            );
        }
        for codecs in [
            "[]",
            "[1]",
            r#"["bytes"]"#,
            r#"["vlen-utf8"]"#,
            r#"["bytes", "bytes"]"#,
            r#"[{"name": "transpose", "configuration": {"order": [0, 0]}}]"#,
            r#"[{"name": "transpose", "configuration": {"order": [1]}}]"#,
            r#"[{"name": "transpose", "configuration": {"order": [18446744073709551615]}}]"#,
        ] {
            assert!(
                matches!(parse(codecs, "int16", 1), Err(Error::Corrupt(_))),
                "{codecs}"
            );
        }
    }
}
