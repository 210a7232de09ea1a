//! Blosc2 frames: the header and trailer around the chunks of one array.

use std::ops::Range;

use bytes::Bytes;

use crate::codec::Scratch;
use crate::codec::blosc::Chunk;
use crate::codec::blosc::encode::{BloscCompressor, BloscEncoder, BloscShuffle, BloscVersion};
use crate::error::{Error, Result, Within};
use crate::store::Store;

/// How every frame begins: a msgpack array whose first item is the magic text.
pub(super) const MAGIC: &[u8] = b"\x9e\xa8b2frame\0";
/// Bytes of the header before its metalayers.
const HEADER_BYTES: usize = 0x57;
/// Bytes at the end of a frame from which the length of the trailer is known.
const FOOTER_BYTES: usize = 23;
/// What is read at once from both ends of a frame.
const END_BYTES: u64 = 16 << 10;
/// Frames up to this size are read whole.
const WHOLE_BYTES: u64 = 64 << 10;
/// The longest header and the longest trailer that are read.
const LONGEST_END: u64 = 4 << 20;

/// The metadata of one frame.
///
/// ```text
/// header │ metalayers │ chunk │ chunk │ … │ offsets chunk │ trailer with vlmeta
///        (a sparse frame has no chunks here: each is a file of its own)
/// ```
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) header: Header,
    /// Fixed metalayers: msgpack by name.
    pub(super) meta: Vec<(String, Bytes)>,
    /// Variable-length metalayers: Blosc2 chunks of msgpack by name.
    pub(super) vlmeta: Vec<(String, Bytes)>,
    /// Where the offsets chunk stands.
    pub(super) offsets: Range<u64>,
    /// The bytes of the offsets chunk, where reading the ends of the frame has brought them along.
    pub(super) offsets_bytes: Option<Bytes>,
    /// The header with its metalayers, as it is.
    pub(super) head: Bytes,
    /// The trailer with its metalayers, as it is.
    pub(super) trailer: Bytes,
}

/// The fixed part of a frame's header.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) length: u64,
    pub(super) frame_length: u64,
    pub(super) nbytes: u64,
    pub(super) cbytes: u64,
    pub(super) typesize: u64,
    pub(super) chunksize: u64,
    pub(super) is_sparse: bool,
    flags: u8,
    codec: u8,
    level: u8,
    user_codec: u8,
    filters: [u8; 6],
}

impl Frame {
    /// Reads both ends of the frame at `key`.
    pub(super) async fn read(store: &Store, key: &str) -> Result<Self> {
        let place = || place(store, key);
        let size = store.size(key).await?;
        if size < (HEADER_BYTES + FOOTER_BYTES) as u64 {
            return Err(not_a_frame()).within(place);
        }
        let whole = size <= WHOLE_BYTES;
        let head_bytes = if whole { size } else { END_BYTES };
        let mut head = read(store, key, 0..head_bytes).await?;
        let header = Header::parse(&head).within(place)?;
        if header.frame_length > size {
            return Err(Error::Corrupt(format!(
                "the file has {size} of the {} bytes of its frame: it is truncated",
                header.frame_length
            )))
            .within(place);
        }
        if header.length > head.len() as u64 {
            head = read(
                store,
                key,
                0..bounded(header.length, "header").within(place)?,
            )
            .await?;
        }
        let tail_start = if whole {
            0
        } else {
            header.frame_length.saturating_sub(END_BYTES)
        };
        let mut tail = Tail {
            start: tail_start,
            bytes: if whole {
                head.slice(..usize_of(header.frame_length)?)
            } else {
                read(store, key, tail_start..header.frame_length).await?
            },
        };
        let trailer = tail.trailer_start(&header).within(place)?;
        if trailer < tail.start {
            bounded(header.frame_length - trailer, "trailer").within(place)?;
            tail.start = trailer;
            tail.bytes = read(store, key, trailer..header.frame_length).await?;
        }
        Self::assemble(header, &head, &tail, trailer).within(place)
    }

    fn assemble(header: Header, head: &Bytes, tail: &Tail, trailer: u64) -> Result<Self> {
        let head = head.slice(..usize_of(header.length)?);
        let meta = metalayers(&head, HEADER_BYTES)?;
        let trailer_bytes = tail.bytes.slice(usize_of(trailer - tail.start)?..);
        // A fixarray of four whose first item is the trailer's version.
        let vlmeta = match trailer_bytes.get(..2) {
            Some([0x94, 1]) => metalayers(&trailer_bytes, 2)?,
            _ => {
                return Err(Error::Corrupt(
                    "the trailer of the frame is not where its length says".into(),
                ));
            }
        };
        let start = if header.is_sparse {
            Some(header.length)
        } else {
            header.length.checked_add(header.cbytes)
        };
        let offsets = match start {
            Some(start) if start <= trailer => start..trailer,
            _ => {
                return Err(Error::Corrupt(format!(
                    "the {} bytes of chunks reach beyond the frame",
                    header.cbytes
                )));
            }
        };
        let offsets_bytes = match offsets.start.checked_sub(tail.start) {
            Some(skip) => {
                let skip = usize_of(skip)?;
                let end = usize_of(trailer - tail.start)?;
                Some(tail.bytes.slice(skip..end))
            }
            None => None,
        };
        Ok(Self {
            header,
            meta,
            vlmeta,
            offsets,
            offsets_bytes,
            head,
            trailer: trailer_bytes,
        })
    }

    /// The content of the fixed metalayer called `name`.
    pub(super) fn metalayer(&self, name: &str) -> Option<&Bytes> {
        self.meta
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, content)| content)
    }
}

impl Header {
    fn parse(head: &[u8]) -> Result<Self> {
        if !head.starts_with(MAGIC) {
            return Err(not_a_frame());
        }
        // What stands where is fixed: each number follows a byte that says its msgpack type.
        let typed = |at: usize, marker: u8| {
            if head.get(at) == Some(&marker) {
                Ok(at + 1)
            } else {
                Err(Error::Corrupt(format!(
                    "byte {at} of the frame header has an unexpected type"
                )))
            }
        };
        let int = |at: usize| be32(head, typed(at, 0xd2)?);
        let long = |at: usize, marker: u8| be64(head, typed(at, marker)?);
        let nbytes = long(0x1d, 0xd3)?;
        // Without chunks, their size may be left open as -1.
        let chunksize = match array(head, typed(0x39, 0xd2)?)? {
            [0xff, 0xff, 0xff, 0xff] if nbytes == 0 => 0,
            _ => int(0x39)?,
        };
        let flags: [u8; 4] = array(head, typed(0x18, 0xa4)?)?;
        let tail: [u8; 16] = array(head, typed(0x45, 0xd8)? + 1)?;
        let [f0, f1, f2, f3, f4, f5, user_codec, ..] = tail;
        let [general, kind, codec, _] = flags;
        let header = Self {
            length: int(0x0a)?,
            frame_length: long(0x0f, 0xcf)?,
            nbytes,
            cbytes: long(0x26, 0xd3)?,
            typesize: int(0x2f)?,
            chunksize,
            is_sparse: kind & 0x0f == 1,
            flags: general,
            codec: codec & 0x0f,
            level: codec >> 4,
            user_codec,
            filters: [f0, f1, f2, f3, f4, f5],
        };
        let ends = HEADER_BYTES as u64 + FOOTER_BYTES as u64;
        if header.length < HEADER_BYTES as u64
            || header.frame_length < header.length
            || header.frame_length < ends
        {
            return Err(Error::Corrupt(format!(
                "a frame of {} bytes with a header of {} bytes cannot be",
                header.frame_length, header.length
            )));
        }
        if kind & 0x0f > 1 {
            return Err(Error::Unsupported(format!(
                "Blosc2 frames of type {} cannot be read",
                kind & 0x0f
            )));
        }
        Ok(header)
    }

    /// Refuses what cannot be read exactly.
    pub(super) fn check_features(&self) -> Result<()> {
        let version = self.flags & 0x0f;
        // An array without cells is marked as having chunks of variable length, for want of any.
        let feature = if self.flags & 0x80 != 0 {
            "blocks of variable length".to_owned()
        } else if self.flags & 0x40 != 0 && self.nbytes != 0 {
            "chunks of variable length".to_owned()
        } else if version > 3 {
            format!("version {version} of the Blosc2 frame format")
        } else if self.codec >= 6 {
            user_codec_name(self.user_codec)
        } else if self.codec == 3 {
            "codec snappy".to_owned()
        } else if let Some(filter) = self
            .filters
            .iter()
            .find(|filter| !readable_filter(**filter))
        {
            filter_name(*filter)
        } else {
            return Ok(());
        };
        Err(Error::Unsupported(format!(
            "it uses {feature}, which cannot be read"
        )))
    }
}

impl Header {
    /// How the library would encode another chunk, with blocks of this many bytes.
    ///
    /// Filters that lose precision and differences from other elements are left out: each chunk says for itself what
    /// was done to it.
    pub(super) fn encoder(&self, block_bytes: u64) -> Result<BloscEncoder> {
        let compressor = match self.codec {
            0 => BloscCompressor::Blosclz,
            1 => BloscCompressor::Lz4,
            2 => BloscCompressor::Lz4hc,
            4 => BloscCompressor::Zlib,
            5 => BloscCompressor::Zstd,
            code => {
                return Err(Error::Unsupported(format!(
                    "it uses compressor {code}, which cannot be written"
                )));
            }
        };
        let mut shuffles = self.filters.iter().filter_map(|filter| match filter {
            1 => Some(BloscShuffle::Byte),
            2 => Some(BloscShuffle::Bit),
            _ => None,
        });
        let too_large = |_| Error::Corrupt("its elements or blocks are too large".into());
        Ok(BloscEncoder {
            compressor,
            level: self.level.min(9),
            shuffle: shuffles.next_back().unwrap_or(BloscShuffle::None),
            typesize: u32::try_from(self.typesize).map_err(too_large)?,
            blocksize: u32::try_from(block_bytes).map_err(too_large)?,
            version: BloscVersion::Blosc2,
        })
    }
}

/// The last bytes of a frame.
struct Tail {
    start: u64,
    bytes: Bytes,
}

impl Tail {
    /// Where the trailer begins, from the length that stands near its end.
    fn trailer_start(&self, header: &Header) -> Result<u64> {
        let at = self.bytes.len().checked_sub(FOOTER_BYTES);
        let length = match at.and_then(|at| Some((at, *self.bytes.get(at)?))) {
            Some((at, 0xce)) => u64::from(u32::from_be_bytes(array(&self.bytes, at + 1)?)),
            _ => {
                return Err(Error::Corrupt(
                    "the frame has no trailer: it is truncated or damaged".into(),
                ));
            }
        };
        match header.frame_length.checked_sub(length) {
            Some(start) if start >= header.length && length >= FOOTER_BYTES as u64 => Ok(start),
            _ => Err(Error::Corrupt(format!(
                "a trailer of {length} bytes does not fit into a frame of {} bytes",
                header.frame_length
            ))),
        }
    }
}

/// Decodes a Blosc2 chunk of metadata; `None` when it decodes to more than `limit` bytes.
///
/// Bytes of `encoded` after the chunk are not looked at.
pub(super) fn decode_chunk(encoded: &[u8], limit: usize) -> Result<Option<Vec<u8>>> {
    let chunk = Chunk::parse(encoded)?;
    let nbytes = chunk.nbytes();
    if nbytes > limit {
        return Ok(None);
    }
    let mut decoded = vec![0; nbytes];
    chunk.decode(&mut decoded, &mut Scratch::default())?;
    Ok(Some(decoded))
}

/// What messages call the object at `key`.
pub(super) fn place(store: &Store, key: &str) -> String {
    let location = store.location().trim_end_matches('/');
    if key.is_empty() {
        location.to_owned()
    } else {
        format!("{location}/{key}")
    }
}

/// The metalayers of a header or trailer (`part`): an index `name -> offset in part`, then the contents.
fn metalayers(part: &Bytes, at: usize) -> Result<Vec<(String, Bytes)>> {
    let damaged = || Error::Corrupt("the index of the metalayers is damaged".into());
    let index_bytes = match part.get(at..at + 2) {
        Some([0x93, 0xcd]) => usize::from(u16::from_be_bytes(array(part, at + 2)?)),
        _ => return Err(damaged()),
    };
    // Header and trailer count the size from different bytes; it is at most 64 KiB, which bounds what parsing allocates.
    let end = part.len().min(at + 4 + index_bytes);
    let mut index = part.get(at + 4..end).ok_or_else(damaged)?;
    let value = rmpv::decode::read_value_with_max_depth(&mut index, 8).map_err(|_| damaged())?;
    let rmpv::Value::Map(entries) = value else {
        return Err(damaged());
    };
    let mut layers = Vec::with_capacity(entries.len());
    for (name, offset) in &entries {
        let (Some(name), Some(offset)) = (name.as_str(), offset.as_u64()) else {
            return Err(damaged());
        };
        let at = usize_of(offset)?;
        if part.get(at) != Some(&0xc6) {
            return Err(damaged());
        }
        let length = u32::from_be_bytes(array(part, at + 1)?);
        let start = at + 5;
        let end = start.saturating_add(usize_of(u64::from(length))?);
        if end > part.len() {
            return Err(damaged());
        }
        layers.push((name.to_owned(), part.slice(start..end)));
    }
    Ok(layers)
}

async fn read(store: &Store, key: &str, range: Range<u64>) -> Result<Bytes> {
    let length = usize_of(range.end.saturating_sub(range.start))?;
    store.range(key, range.start, length).await
}

fn bounded(length: u64, what: &str) -> Result<u64> {
    if length > LONGEST_END {
        return Err(Error::Exhausted(format!(
            "the {what} of the frame has {length} bytes, more than the {LONGEST_END} that are read"
        )));
    }
    Ok(length)
}

fn readable_filter(filter: u8) -> bool {
    filter <= 4
}

fn filter_name(filter: u8) -> String {
    match filter {
        32 => "filter ndcell".into(),
        33 => "filter ndmean".into(),
        35 => "filter bytedelta".into(),
        36 => "filter int_trunc".into(),
        other => format!("filter {other}"),
    }
}

fn user_codec_name(codec: u8) -> String {
    match codec {
        32 => "codec ndlz".into(),
        33..=35 => "codec zfp".into(),
        36 => "codec openhtj2k".into(),
        37 => "codec grok".into(),
        38 => "codec openzl".into(),
        39 => "codec j2k".into(),
        other => format!("codec {other}"),
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    at.checked_add(N)
        .and_then(|end| bytes.get(at..end))
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Error::Corrupt(format!("the frame ends before byte {at} of its metadata")))
}

fn be32(bytes: &[u8], at: usize) -> Result<u64> {
    let value = i32::from_be_bytes(array(bytes, at)?);
    u64::try_from(value).map_err(|_| negative(at))
}

fn be64(bytes: &[u8], at: usize) -> Result<u64> {
    let value = i64::from_be_bytes(array(bytes, at)?);
    u64::try_from(value).map_err(|_| negative(at))
}

fn not_a_frame() -> Error {
    Error::Corrupt("the file is no Blosc2 frame, or it ends within the header of one".into())
}

fn negative(at: usize) -> Error {
    Error::Corrupt(format!(
        "the size at byte {at} of the frame header is negative"
    ))
}

/// A size as an index: it fails only where memory is smaller than files.
pub(super) fn usize_of(size: u64) -> Result<usize> {
    usize::try_from(size)
        .map_err(|_| Error::Exhausted(format!("{size} bytes cannot be addressed here")))
}
