//! Filter pipelines: HDF5's filters as codecs.

use crate::codec::Codec;
use crate::codec::encode::{Encoder, FrameChecksum};
use crate::error::{Error, Result};
use crate::format::hdf5::bytes::Reader;
use crate::format::hdf5::dataset::unsupported;
use crate::format::hdf5::types::Padding;

/// One filter as the pipeline message has it.
struct Filter<'a> {
    id: u16,
    name: &'a [u8],
    parameters: Vec<u32>,
}

/// Our steps for the filters of the pipeline message `body`, one for one, in the order in which they encode; elements
/// have `width` bytes.
///
/// # Errors
/// `Unsupported` naming a filter that there is no codec for, `Corrupt` when the message is damaged.
pub(super) fn codecs(body: &[u8], width: u32) -> Result<Vec<Codec>> {
    let step = |filter: Filter<'_>| {
        Ok(match filter.id {
            1 => Codec::Zlib,
            2 => Codec::Shuffle(filter.parameters.first().copied().unwrap_or(width)),
            3 => Codec::Fletcher32,
            32001 => Codec::Blosc,
            32015 => Codec::Zstd,
            _ => return Err(unsupported(&filter.describe())),
        })
    };
    filters(body)?.into_iter().map(step).collect()
}

/// The steps that encode chunks as the filters of the pipeline message `body` do; elements have `width` bytes.
///
/// # Errors
/// As [`codecs`], of filters that there is no encoder for.
pub(super) fn encoders(body: &[u8], width: u32) -> Result<Vec<Encoder>> {
    let step = |filter: Filter<'_>| {
        let parameter = filter.parameters.first().copied();
        Ok(match filter.id {
            1 => Encoder::Zlib {
                level: u8::try_from(parameter.unwrap_or(6)).unwrap_or(9).min(9),
            },
            2 => Encoder::Shuffle(parameter.unwrap_or(width)),
            3 => Encoder::Fletcher32,
            32015 => Encoder::Zstd {
                // As the filter itself, which takes the number for a signed one.
                level: parameter.unwrap_or(3).cast_signed(),
                checksum: FrameChecksum::Absent,
            },
            _ => {
                return Err(Error::Unsupported(format!(
                    "its chunks cannot be written, because there is no encoder for {}",
                    filter.describe()
                )));
            }
        })
    };
    filters(body)?.into_iter().map(step).collect()
}

fn filters(body: &[u8]) -> Result<Vec<Filter<'_>>> {
    let mut reader = Reader::new(body, "filter pipeline");
    let version = reader.u8()?;
    let count = reader.u8()?;
    match version {
        1 => reader.skip(6)?,
        2 => {}
        _ => return Err(unsupported(&format!("filter pipeline version {version}"))),
    }
    let mut filters = Vec::new();
    for _ in 0..count {
        let id = reader.u16()?;
        let named = version == 1 || id >= 256;
        let name = if named { reader.u16()? } else { 0 };
        reader.skip(2)?;
        let values = reader.u16()?;
        let name = reader.take(name.into())?;
        let parameters = (0..values)
            .map(|_| reader.u32())
            .collect::<Result<Vec<_>>>()?;
        if version == 1 && values % 2 == 1 {
            reader.skip(4)?;
        }
        filters.push(Filter {
            id,
            name,
            parameters,
        });
    }
    Ok(filters)
}

impl Filter<'_> {
    fn describe(&self) -> String {
        let name = filter_name(self.id).map_or_else(
            || String::from_utf8_lossy(Padding::NullTerminated.trim(self.name)).into_owned(),
            Into::into,
        );
        format!("filter {} ({name})", self.id)
    }
}

fn filter_name(id: u16) -> Option<&'static str> {
    Some(match id {
        4 => "szip",
        5 => "nbit",
        6 => "scale-offset",
        307 => "bzip2",
        32000 => "lzf",
        32001 => "blosc",
        32004 => "lz4",
        32008 => "bitshuffle",
        32013 => "zfp",
        32017 => "sz",
        32026 => "blosc2",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn filters_become_steps_in_their_order() {
        let body = [
            2, 3, 2, 0, 0, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1, 0, 4, 0, 0, 0, 3, 0, 0, 0, 0, 0,
        ];
        let steps = codecs(&body, 1).unwrap();
        assert_eq!(steps, [Codec::Shuffle(8), Codec::Zlib, Codec::Fletcher32]);
    }

    #[test]
    fn encoders_take_the_parameters_of_the_filters() {
        let body = [
            2, 2, 2, 0, 0, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1, 0, 4, 0, 0, 0,
        ];
        let steps = encoders(&body, 1).unwrap();
        assert_eq!(steps, [Encoder::Shuffle(8), Encoder::Zlib { level: 4 }]);
        let blosc = [2, 1, 1, 125, 0, 0, 0, 0, 0, 0];
        let Err(Error::Unsupported(text)) = encoders(&blosc, 1) else {
            unreachable!()
        };
        assert!(text.ends_with("filter 32001 (blosc)"), "{text}");
    }

    #[test]
    fn a_filter_without_codec_is_named() {
        let lzf = [2, 1, 0, 125, 0, 0, 0, 0, 0, 0];
        let Err(Error::Unsupported(text)) = codecs(&lzf, 1) else {
            unreachable!()
        };
        assert_eq!(text, "filter 32000 (lzf) cannot be read");
    }
}
