//! The header of a Blosc chunk.

use crate::error::{Error, Result};

/// Filters of a chunk, applied from the first to the last.
pub(super) const FILTERS: usize = 6;

/// Byte shuffle.
pub(super) const SHUFFLE: u8 = 1;
/// Bit shuffle.
pub(super) const BITSHUFFLE: u8 = 2;
/// Difference from the element before, or from the first block.
pub(super) const DELTA: u8 = 3;

/// The 16 bytes of Blosc 1, and what Blosc 2 adds.
#[derive(Debug)]
pub(super) struct Header {
    /// Version of the chunk format.
    pub(super) version: u8,
    /// Shuffled, stored, not split; the compressor in the upper three bits.
    pub(super) flags: u8,
    pub(super) typesize: usize,
    pub(super) nbytes: usize,
    pub(super) block_size: usize,
    /// Bytes of the whole chunk.
    pub(super) cbytes: usize,
    /// Bytes of the header itself.
    pub(super) length: usize,
    /// Codes with their parameters.
    pub(super) filters: [(u8, u8); FILTERS],
    /// A compressor that was registered, or that of a user.
    pub(super) user_codec: u8,
    /// What all values of the chunk are, if not what blocks say.
    pub(super) special: u8,
    /// Whether a dictionary is used.
    pub(super) dictionary: bool,
}

/// What made the streams of a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Compressor {
    Blosclz,
    Lz4,
    Zlib,
    Zstd,
}

impl Header {
    /// Reads the header that a chunk begins with, and compares its sizes with each other and with the bytes `present`.
    pub(super) fn parse(chunk: &[u8], present: usize) -> Result<Self> {
        let Some((base, rest)) = chunk.split_first_chunk::<16>() else {
            return Err(Error::Corrupt(format!(
                "{} bytes are too few for the header of a Blosc chunk",
                chunk.len()
            )));
        };
        let [version, _, flags, typesize, sizes @ ..] = *base;
        let [nbytes, block_size, cbytes] = read_sizes(sizes)?;
        if !(2..=6).contains(&version) {
            return Err(Error::Unsupported(format!(
                "version {version} of the Blosc chunk format is not supported"
            )));
        }
        let mut header = Self {
            version,
            flags,
            typesize: usize::from(typesize),
            nbytes,
            block_size,
            cbytes,
            length: 16,
            filters: [(0, 0); FILTERS],
            user_codec: 0,
            special: 0,
            dictionary: false,
        };
        if flags & 0b101 == 0b101 {
            header.extend(rest)?;
        } else {
            header.filters = filters_of_flags(flags);
        }
        header.check(present)?;
        Ok(header)
    }

    /// Whether the data is stored as it is.
    pub(super) fn stored(&self) -> bool {
        self.flags & 2 != 0
    }

    /// Whether a block may have been combined with the first one.
    pub(super) fn refers(&self) -> bool {
        self.filters.iter().any(|(code, _)| *code == DELTA)
    }

    /// Whether a whole block is stored in one stream for each byte of an element.
    pub(super) fn split(&self) -> bool {
        /// Blosc 1 splits no further; its older chunks do not say so in the flags.
        const STREAMS: usize = 16;
        /// Nor does it make shorter streams.
        const SHORTEST: usize = 128;
        let allowed = self.flags & 0x10 == 0;
        if self.length == 16 {
            let long = self.block_size >= SHORTEST.saturating_mul(self.typesize);
            allowed && self.typesize <= STREAMS && long
        } else {
            allowed
        }
    }

    /// The compressor of all streams.
    pub(super) fn compressor(&self) -> Result<Compressor> {
        let name = match (self.flags >> 5, self.user_codec) {
            (0, _) => return Ok(Compressor::Blosclz),
            (1, _) => return Ok(Compressor::Lz4),
            (3, _) => return Ok(Compressor::Zlib),
            (4, _) => return Ok(Compressor::Zstd),
            (2, _) => "snappy".into(),
            (6, 32) => "ndlz".into(),
            (6, 33..=35) => "zfp".into(),
            (6, 36) => "openhtj2k".into(),
            (6, 37) => "grok".into(),
            (6, 38) => "openzl".into(),
            (6, 39) => "j2k".into(),
            (6, code) => format!("number {code}"),
            (format, _) => format!("format {format}"),
        };
        Err(Error::Unsupported(format!(
            "the Blosc compressor {name} is not supported"
        )))
    }

    /// The bytes that a chunk without blocks repeats; `body` is what follows the header.
    pub(super) fn special_value<'a>(&self, body: &'a [u8]) -> Result<&'a [u8]> {
        match (self.special, self.typesize) {
            // Values that were never set read as zeros.
            (1 | 4, _) => Ok(&[0]),
            (2, 4) => Ok(&[0, 0, 0xc0, 0x7f]),
            (2, 8) => Ok(&[0, 0, 0, 0, 0, 0, 0xf8, 0x7f]),
            (2, typesize) => Err(Error::Unsupported(format!(
                "a Blosc chunk of NaN values of {typesize} bytes is not supported"
            ))),
            // Elements of more than 255 bytes are single bytes to the header, but their value is whole.
            (3, typesize)
                if (typesize == body.len() || typesize == 1 && body.len() > 255)
                    && self.nbytes.is_multiple_of(body.len()) =>
            {
                Ok(body)
            }
            (3, _) => Err(Error::Corrupt(format!(
                "the Blosc chunk repeats a value of {} bytes in {}",
                body.len(),
                self.nbytes
            ))),
            (special, _) => Err(Error::Unsupported(format!(
                "special value {special} of a Blosc chunk is not supported"
            ))),
        }
    }

    /// The 16 bytes that Blosc 2 adds.
    fn extend(&mut self, rest: &[u8]) -> Result<()> {
        let Some(extension) = rest.first_chunk::<16>() else {
            return Err(Error::Corrupt(
                "the chunk ends within its Blosc 2 header".into(),
            ));
        };
        let [codes @ .., _, _] = *extension.first_chunk::<8>().unwrap_or(&[0; 8]);
        let [.., user_codec, _] = *extension.first_chunk::<8>().unwrap_or(&[0; 8]);
        let [parameters @ .., flags2, flags] = *extension.last_chunk::<8>().unwrap_or(&[0; 8]);
        for (filter, pair) in self
            .filters
            .iter_mut()
            .zip(codes.into_iter().zip(parameters))
        {
            *filter = pair;
        }
        if self.version == 3 {
            // The first version had five filters, the sixth was left undefined.
            self.filters[FILTERS - 1] = (0, 0);
        }
        self.length = 32;
        self.user_codec = user_codec;
        self.special = flags >> 4 & 7;
        self.dictionary = flags & 1 != 0;
        let unsupported = [
            (flags2 & 1, "blocks of variable length"),
            (flags2 & !1, "an unknown flag"),
            (flags & 2, "a longer header"),
            (flags & 4, "a compressor for each block"),
            (flags & 8, "blocks stored elsewhere (a lazy chunk)"),
            (flags & 0x80, "instrumented blocks"),
        ];
        match unsupported.iter().find(|(set, _)| *set != 0) {
            Some((_, what)) => Err(Error::Unsupported(format!(
                "a Blosc chunk with {what} is not supported"
            ))),
            None => Ok(()),
        }
    }

    fn check(&self, present: usize) -> Result<()> {
        let wrong = if self.cbytes > present {
            format!("claims {} bytes, of which {present} are there", self.cbytes)
        } else if self.cbytes < self.length {
            format!("claims {} bytes, less than its header", self.cbytes)
        } else if self.typesize == 0 {
            "has elements of 0 bytes".into()
        } else if self.nbytes > 0 && !(1..=self.nbytes).contains(&self.block_size) {
            format!("has blocks of {} in {} bytes", self.block_size, self.nbytes)
        } else {
            return Ok(());
        };
        Err(Error::Corrupt(format!("the Blosc chunk {wrong}")))
    }
}

/// The three sizes: decoded, of a block, encoded.
fn read_sizes(bytes: [u8; 12]) -> Result<[usize; 3]> {
    let mut sizes = [0; 3];
    for (size, bytes) in sizes.iter_mut().zip(bytes.as_chunks().0) {
        let value = i32::from_le_bytes(*bytes);
        *size = usize::try_from(value)
            .map_err(|_| Error::Corrupt(format!("the Blosc chunk has a size of {value} bytes")))?;
    }
    Ok(sizes)
}

/// Blosc 1 has a flag for each of its filters.
fn filters_of_flags(flags: u8) -> [(u8, u8); FILTERS] {
    let mut filters = [(0, 0); FILTERS];
    if flags & 1 != 0 {
        filters[FILTERS - 1] = (SHUFFLE, 0);
    }
    if flags & 4 != 0 {
        filters[FILTERS - 1] = (BITSHUFFLE, 0);
    }
    if flags & 8 != 0 {
        filters[FILTERS - 2] = (DELTA, 0);
    }
    filters
}
