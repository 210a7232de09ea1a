//! Encoders by the names and parameters that numcodecs, and so Zarr, gives them.

use serde_json::{Value, json};

use super::{Encoder, FrameChecksum};
use crate::codec::blosc::encode::{BloscCompressor, BloscEncoder, BloscShuffle, BloscVersion};
use crate::error::{Error, Result};

/// What all encoders are called that have a name.
pub const NAMES: [&str; 8] = [
    "blosc",
    "zstd",
    "zlib",
    "gzip",
    "lz4",
    "shuffle",
    "fletcher32",
    "crc32c",
];

impl Encoder {
    /// The encoder called `id`; parameters that are not given are those of numcodecs. `size` is the number of bytes of
    /// an element, where they are all of one size.
    ///
    /// # Errors
    /// `Unsupported` when there is no such encoder, `Corrupt` when a parameter is none.
    pub fn from_numcodecs(id: &str, parameters: &Value, size: Option<u32>) -> Result<Self> {
        Ok(match id {
            "zlib" => Self::Zlib {
                level: effort(parameters)?,
            },
            "gzip" => Self::Gzip {
                level: effort(parameters)?,
            },
            "zstd" => Self::Zstd {
                level: level(parameters, "level", 0)?,
                checksum: match parameters.get("checksum") {
                    Some(Value::Bool(true)) => FrameChecksum::Present,
                    _ => FrameChecksum::Absent,
                },
            },
            "lz4" => Self::Lz4,
            "blosc" => blosc(parameters, size)?,
            "fletcher32" => Self::Fletcher32,
            "crc32c" => Self::Crc32c,
            "shuffle" => Self::Shuffle(
                number(parameters, "elementsize")
                    .unwrap_or(size)
                    .filter(|size| *size > 0)
                    .ok_or_else(|| {
                        Error::Corrupt("codec shuffle has no valid element size".into())
                    })?,
            ),
            _ => {
                return Err(Error::Unsupported(format!(
                    "codec {id} is not supported for writing"
                )));
            }
        })
    }

    /// Its name and parameters; `None` for a change of the byte order, which has none.
    #[must_use]
    pub fn to_numcodecs(&self) -> Option<(&'static str, Value)> {
        Some(match self {
            Self::ByteSwap(_) => return None,
            Self::Shuffle(size) => ("shuffle", json!({"elementsize": size})),
            Self::Zlib { level } => ("zlib", json!({"level": level})),
            Self::Gzip { level } => ("gzip", json!({"level": level})),
            Self::Zstd { level, checksum } => (
                "zstd",
                json!({"level": level, "checksum": *checksum == FrameChecksum::Present}),
            ),
            Self::Lz4 => ("lz4", json!({"acceleration": 1})),
            Self::Blosc(blosc) => (
                "blosc",
                json!({
                    "cname": match blosc.compressor {
                        BloscCompressor::Blosclz => "blosclz",
                        BloscCompressor::Lz4 => "lz4",
                        BloscCompressor::Lz4hc => "lz4hc",
                        BloscCompressor::Zlib => "zlib",
                        BloscCompressor::Zstd => "zstd",
                    },
                    "clevel": blosc.level,
                    "shuffle": match blosc.shuffle {
                        BloscShuffle::None => 0,
                        BloscShuffle::Byte => 1,
                        BloscShuffle::Bit => 2,
                    },
                    "blocksize": blosc.blocksize,
                }),
            ),
            Self::Fletcher32 => ("fletcher32", json!({})),
            Self::Crc32c => ("crc32c", json!({})),
        })
    }

    /// Whether it makes data smaller, rather than preparing or protecting it.
    #[must_use]
    pub fn compresses(&self) -> bool {
        match self {
            Self::Zlib { .. } | Self::Gzip { .. } | Self::Zstd { .. } | Self::Lz4 => true,
            Self::Blosc(_) => true,
            Self::ByteSwap(_) | Self::Shuffle(_) | Self::Fletcher32 | Self::Crc32c => false,
        }
    }
}

fn blosc(parameters: &Value, size: Option<u32>) -> Result<Encoder> {
    let wrong = |key: &str| {
        let value = parameters.get(key).unwrap_or(&Value::Null);
        Error::Corrupt(format!("codec blosc has the {key} {value}"))
    };
    let compressor = match parameters.get("cname").and_then(Value::as_str) {
        Some("blosclz") => BloscCompressor::Blosclz,
        Some("lz4") | None => BloscCompressor::Lz4,
        Some("lz4hc") => BloscCompressor::Lz4hc,
        Some("zlib") => BloscCompressor::Zlib,
        Some("zstd") => BloscCompressor::Zstd,
        Some(_) => return Err(wrong("cname")),
    };
    let typesize = number(parameters, "typesize")
        .unwrap_or(size)
        .ok_or_else(|| wrong("typesize"))?;
    let automatic = if typesize == 1 {
        BloscShuffle::Bit
    } else {
        BloscShuffle::Byte
    };
    let shuffle = match parameters.get("shuffle") {
        None | Some(Value::Null) => BloscShuffle::Byte,
        Some(Value::Number(mode)) => match mode.as_i64() {
            Some(0) => BloscShuffle::None,
            Some(1) => BloscShuffle::Byte,
            Some(2) => BloscShuffle::Bit,
            Some(-1) => automatic,
            _ => return Err(wrong("shuffle")),
        },
        Some(Value::String(mode)) => match mode.as_str() {
            "noshuffle" => BloscShuffle::None,
            "shuffle" => BloscShuffle::Byte,
            "bitshuffle" => BloscShuffle::Bit,
            _ => return Err(wrong("shuffle")),
        },
        Some(_) => return Err(wrong("shuffle")),
    };
    Ok(Encoder::Blosc(BloscEncoder {
        compressor,
        level: u8::try_from(level(parameters, "clevel", 5)?.clamp(0, 9)).unwrap_or(5),
        shuffle,
        typesize,
        blocksize: number(parameters, "blocksize")
            .unwrap_or(Some(0))
            .ok_or_else(|| wrong("blocksize"))?,
        version: BloscVersion::Blosc1,
    }))
}

/// A parameter that counts something: `None` when it is not given, `Some(None)` when it is no number of that kind.
fn number(parameters: &Value, key: &str) -> Option<Option<u32>> {
    match parameters.get(key) {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.as_u64().and_then(|value| u32::try_from(value).ok())),
    }
}

/// The level of DEFLATE; -1 is the default of the library, which is 6.
fn effort(parameters: &Value) -> Result<u8> {
    let level = level(parameters, "level", 1)?;
    Ok(match u8::try_from(level) {
        Ok(level) => level.min(9),
        Err(_) => 6,
    })
}

fn level(parameters: &Value, key: &str, default: i32) -> Result<i32> {
    match parameters.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(level) => level
            .as_i64()
            .and_then(|level| i32::try_from(level).ok())
            .ok_or_else(|| Error::Corrupt(format!("a codec has the {key} {level}"))),
    }
}
