//! Codec chains for writing: from the codecs that metadata names, with their parameters, to encoders.

use super::codecs::{self, named};
use super::dtype::DataType;
use super::json::Json;
use super::v2;
use super::writer::Recipe;
use crate::array::dtype::ElementType;
use crate::codec::Codec;
use crate::codec::blosc::encode::{BloscCompressor, BloscEncoder, BloscShuffle, BloscVersion};
use crate::codec::encode::{EncodePipeline, Encoder, FrameChecksum};
use crate::error::{Error, Result};

/// What becomes of the elements of a chunk of Zarr v2.
pub(super) fn recipe_v2(head: &v2::Head<'_>) -> Result<Recipe> {
    let mut steps = Vec::from_iter(swap(codecs::byte_order(head.endian, head.dtype).as_ref()));
    for codec in &head.steps {
        steps.push(encoder(codecs::id(codec)?, codec, head.dtype.element)?);
    }
    Ok(Recipe {
        order: head.order.clone(),
        pipeline: EncodePipeline(steps),
    })
}

/// What becomes of the elements of a chunk by `codecs` of Zarr v3, of which none shards.
pub(super) fn recipe_v3(codecs: &[Json], dtype: DataType, rank: usize) -> Result<Recipe> {
    // The order of elements and bytes is that of decoding; its checks hold here too.
    let chain = codecs::chain(codecs, dtype, rank)?;
    let mut steps = Vec::from_iter(swap(chain.pipeline.0.first()));
    for codec in codecs {
        let (name, configuration) = named("codec", codec)?;
        if matches!(name, "bytes" | "transpose") {
            continue;
        }
        let id = name.strip_prefix("numcodecs.").unwrap_or(name);
        steps.push(encoder(id, configuration, dtype.element)?);
    }
    Ok(Recipe {
        order: chain.order,
        pipeline: EncodePipeline(steps),
    })
}

/// The exchange of bytes with which a pipeline begins, if it does.
fn swap(codec: Option<&Codec>) -> Option<Encoder> {
    match codec {
        Some(Codec::ByteSwap(unit)) => Some(Encoder::ByteSwap(*unit)),
        _ => None,
    }
}

/// The encoder with this identifier of numcodecs; defaults are those of numcodecs.
fn encoder(id: &str, configuration: &Json, element: ElementType) -> Result<Encoder> {
    Ok(match id {
        "zlib" => Encoder::Zlib {
            level: effort(configuration)?,
        },
        "gzip" => Encoder::Gzip {
            level: effort(configuration)?,
        },
        "zstd" => Encoder::Zstd {
            level: level(configuration, "level", 0)?,
            checksum: match configuration.get("checksum") {
                Json::Bool(true) => FrameChecksum::Present,
                _ => FrameChecksum::Absent,
            },
        },
        "lz4" => Encoder::Lz4,
        "blosc" => blosc(configuration, element)?,
        "fletcher32" => Encoder::Fletcher32,
        "crc32c" => Encoder::Crc32c,
        "shuffle" => Encoder::Shuffle(codecs::element_size(configuration, element)?),
        _ => {
            return Err(Error::Unsupported(format!(
                "codec {id} is not supported for writing"
            )));
        }
    })
}

fn blosc(configuration: &Json, element: ElementType) -> Result<Encoder> {
    let wrong = |key: &str| {
        Error::Corrupt(format!(
            "codec blosc has the {key} {}",
            configuration.get(key)
        ))
    };
    let compressor = match configuration.get("cname").text() {
        Some("blosclz") => BloscCompressor::Blosclz,
        Some("lz4") | None => BloscCompressor::Lz4,
        Some("lz4hc") => BloscCompressor::Lz4hc,
        Some("zlib") => BloscCompressor::Zlib,
        Some("zstd") => BloscCompressor::Zstd,
        Some(_) => return Err(wrong("cname")),
    };
    let typesize = match configuration.get("typesize") {
        Json::Null => element.size().and_then(|size| u32::try_from(size).ok()),
        size => size.count().and_then(|size| u32::try_from(size).ok()),
    };
    let typesize = typesize.ok_or_else(|| wrong("typesize"))?;
    let automatic = if typesize == 1 {
        BloscShuffle::Bit
    } else {
        BloscShuffle::Byte
    };
    let shuffle = match configuration.get("shuffle") {
        Json::Null => BloscShuffle::Byte,
        Json::Integer(0) => BloscShuffle::None,
        Json::Integer(1) => BloscShuffle::Byte,
        Json::Integer(2) => BloscShuffle::Bit,
        Json::Integer(-1) => automatic,
        Json::Text(name) if name == "noshuffle" => BloscShuffle::None,
        Json::Text(name) if name == "shuffle" => BloscShuffle::Byte,
        Json::Text(name) if name == "bitshuffle" => BloscShuffle::Bit,
        _ => return Err(wrong("shuffle")),
    };
    let blocksize = match configuration.get("blocksize") {
        Json::Null => Some(0),
        size => size.count().and_then(|size| u32::try_from(size).ok()),
    };
    Ok(Encoder::Blosc(BloscEncoder {
        compressor,
        level: u8::try_from(level(configuration, "clevel", 5)?.clamp(0, 9)).unwrap_or(5),
        shuffle,
        typesize,
        blocksize: blocksize.ok_or_else(|| wrong("blocksize"))?,
        version: BloscVersion::Blosc1,
    }))
}

/// The level of DEFLATE; -1 is the default of the library, which is 6.
fn effort(configuration: &Json) -> Result<u8> {
    let level = level(configuration, "level", 1)?;
    Ok(match u8::try_from(level) {
        Ok(level) => level.min(9),
        Err(_) => 6,
    })
}

fn level(configuration: &Json, key: &str, default: i32) -> Result<i32> {
    match configuration.get(key) {
        Json::Null => Ok(default),
        level => level
            .integer()
            .and_then(|level| i32::try_from(level).ok())
            .ok_or_else(|| Error::Corrupt(format!("a codec has the {key} {level}"))),
    }
}
