//! Filter pipelines: HDF5's filters as codecs.

use crate::codec::Codec;
use crate::error::Result;
use crate::format::hdf5::bytes::Reader;
use crate::format::hdf5::dataset::unsupported;
use crate::format::hdf5::types::Padding;

/// Our steps for the filters of the pipeline message `body`, one for one, in the order in which they encode; elements
/// have `width` bytes.
///
/// # Errors
/// `Unsupported` naming a filter that there is no codec for, `Corrupt` when the message is damaged.
pub(super) fn codecs(body: &[u8], width: u32) -> Result<Vec<Codec>> {
    let mut reader = Reader::new(body, "filter pipeline");
    let version = reader.u8()?;
    let count = reader.u8()?;
    match version {
        1 => reader.skip(6)?,
        2 => {}
        _ => return Err(unsupported(&format!("filter pipeline version {version}"))),
    }
    let mut steps = Vec::new();
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
        steps.push(match id {
            1 => Codec::Zlib,
            2 => Codec::Shuffle(parameters.first().copied().unwrap_or(width)),
            3 => Codec::Fletcher32,
            32001 => Codec::Blosc,
            32015 => Codec::Zstd,
            _ => {
                let name = filter_name(id).map_or_else(
                    || String::from_utf8_lossy(Padding::NullTerminated.trim(name)).into_owned(),
                    Into::into,
                );
                return Err(unsupported(&format!("filter {id} ({name})")));
            }
        });
    }
    Ok(steps)
}

fn filter_name(id: u16) -> Option<&'static str> {
    Some(match id {
        4 => "szip",
        5 => "nbit",
        6 => "scale-offset",
        307 => "bzip2",
        32000 => "lzf",
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
    use crate::error::Error;

    #[test]
    fn filters_become_steps_in_their_order() {
        let body = [
            2, 3, 2, 0, 0, 0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1, 0, 4, 0, 0, 0, 3, 0, 0, 0, 0, 0,
        ];
        let steps = codecs(&body, 1).unwrap();
        assert_eq!(steps, [Codec::Shuffle(8), Codec::Zlib, Codec::Fletcher32]);
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
