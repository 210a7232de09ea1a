//! The bytes of an HDF5 file: cached small reads for its metadata, exact reads for its chunk indexes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hdf5_reader::error::Error as ParseError;
use hdf5_reader::storage::{Storage, StorageBuffer};
use hdf5_reader::superblock::Superblock;
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::format::hdf5::bytes::Reader;
use crate::format::hdf5::header::SharedMessages;
use crate::store::Store;

/// Small reads are rounded out to blocks of this size.
const BLOCK: u64 = 64 * 1024;
/// Those of a file that is far away, to which each request takes long.
const FAR_BLOCK: u64 = 1 << 20;
/// Blocks kept.
const BLOCKS: usize = 64;
/// No metadata structure is larger.
const LARGEST_READ: usize = 64 * 1024 * 1024;
/// Bytes of global heap collections kept.
const HEAP_BYTES: usize = 8 * 1024 * 1024;

/// An open HDF5 file.
pub(super) struct File {
    pub(super) blocks: Blocks,
    pub(super) offset_size: usize,
    pub(super) length_size: usize,
    /// Half the number of children of a version 1 chunk B-tree node.
    pub(super) chunk_tree_k: usize,
    pub(super) root: u64,
    pub(super) extension: Option<u64>,
    pub(super) shared_messages: OnceLock<SharedMessages>,
    heaps: Mutex<Heaps>,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("File")
            .field(&self.blocks.store.location())
            .finish()
    }
}

impl File {
    /// Reads the superblock of the file of `length` bytes at the store's location.
    ///
    /// # Errors
    /// `Corrupt` when there is none or the file is truncated.
    pub(super) fn open(store: &Store, length: u64) -> Result<Self> {
        let mut blocks = Blocks {
            store: store.clone(),
            length,
            size: if store.is_local() { BLOCK } else { FAR_BLOCK },
            base: 0,
            kept: Mutex::default(),
        };
        let superblock = Superblock::parse_from_storage(&blocks).map_err(damaged)?;
        if superblock.eof_address > length {
            return Err(Error::Corrupt(format!(
                "the file is truncated: it has {length} of {} bytes",
                superblock.eof_address
            )));
        }
        blocks.base = superblock.base_address;
        Ok(Self {
            blocks,
            offset_size: superblock.offset_size.into(),
            length_size: superblock.length_size.into(),
            chunk_tree_k: match superblock.indexed_storage_k {
                0 => 32,
                k => k.into(),
            },
            root: superblock.root_object_header_address().map_err(damaged)?,
            extension: superblock.extension_address,
            shared_messages: OnceLock::new(),
            heaps: Mutex::default(),
        })
    }

    /// Sizes of addresses and of lengths, as the parser wants them.
    pub(super) fn sizes(&self) -> (u8, u8) {
        let byte = |size| u8::try_from(size).unwrap_or(u8::MAX);
        (byte(self.offset_size), byte(self.length_size))
    }

    /// Bytes of the whole file.
    pub(super) fn length(&self) -> u64 {
        self.blocks.length
    }

    /// The place in the file of an address.
    pub(super) fn absolute(&self, address: u64) -> Result<u64> {
        address.checked_add(self.blocks.base).ok_or_else(|| {
            Error::Corrupt(format!(
                "the file is damaged: address {address:#x} is outside"
            ))
        })
    }

    /// Metadata bytes at an address, through the cache.
    ///
    /// # Errors
    /// `Corrupt` when they are not within the file, `Io` when the storage fails.
    pub(super) fn read(&self, address: u64, length: usize) -> Result<StorageBuffer> {
        self.blocks.read_range(address, length).map_err(damaged)
    }

    /// Bytes at a place in the file, past the cache.
    ///
    /// # Errors
    /// As [`Store::range`].
    pub(super) fn read_absolute(&self, place: u64, length: usize) -> Result<Bytes> {
        self.blocks.store.range_blocking("", place, length)
    }

    /// Nodes of an index at `addresses`, each of `length` bytes or up to the end of the file, past the cache: they
    /// are scattered, and remote ones are fetched at the same time.
    ///
    /// # Errors
    /// As [`File::read`].
    pub(super) fn read_nodes(&self, addresses: &[u64], length: usize) -> Result<Vec<Bytes>> {
        let ranges = addresses
            .iter()
            .map(|address| {
                let start = self.absolute(*address)?;
                let left = self.length().saturating_sub(start);
                let length = length.min(usize::try_from(left).unwrap_or(usize::MAX));
                if length > LARGEST_READ {
                    return Err(too_large(length));
                }
                Ok((start, length))
            })
            .collect::<Result<Vec<_>>>()?;
        let store = &self.blocks.store;
        if store.is_local() || ranges.len() == 1 {
            return ranges
                .iter()
                .map(|(start, length)| store.range_blocking("", *start, *length))
                .collect();
        }
        let ranges = ranges
            .into_iter()
            .map(|(start, length)| start..start.saturating_add(length as u64));
        tokio::runtime::Handle::current().block_on(store.ranges("", ranges.collect()))
    }

    /// Bytes of object `index` of the global heap collection at `address`.
    ///
    /// # Errors
    /// `Corrupt` when there is no such object.
    pub(super) fn heap_object(&self, address: u64, index: u32) -> Result<StorageBuffer> {
        let kept = self.heaps.lock().collections.get(&address).cloned();
        let collection = match kept {
            Some(collection) => collection,
            None => {
                let collection = Arc::new(Collection::read(self, address)?);
                let mut heaps = self.heaps.lock();
                if heaps.bytes > HEAP_BYTES {
                    *heaps = Heaps::default();
                }
                heaps.bytes += collection.bytes.len();
                heaps.collections.insert(address, Arc::clone(&collection));
                collection
            }
        };
        let object = collection.objects.get(&index).and_then(|(start, length)| {
            StorageBuffer::from_shared(Arc::clone(&collection.bytes), *start, *length).ok()
        });
        object.ok_or_else(|| {
            Error::Corrupt(format!(
                "the global heap at {address:#x} is damaged: it has no object {index}"
            ))
        })
    }
}

/// The error of the parser, as ours.
pub(super) fn damaged(error: ParseError) -> Error {
    match error {
        ParseError::Io(error) => match error.downcast::<Error>() {
            Ok(ours) => ours,
            Err(error) => Error::io("the metadata cannot be read", error),
        },
        ParseError::Context { path, source } => damaged(*source).within(path),
        ParseError::ResourceLimit(text) => {
            Error::Exhausted(format!("the metadata is too large: {text}"))
        }
        error @ (ParseError::UnsupportedSuperblockVersion(_)
        | ParseError::UnsupportedObjectHeaderVersion(_)
        | ParseError::UnsupportedBTreeVersion(_)
        | ParseError::UnsupportedSymbolTableNodeVersion(_)
        | ParseError::UnsupportedLocalHeapVersion(_)
        | ParseError::UnsupportedFractalHeapVersion(_)
        | ParseError::UnsupportedLinkVersion(_)
        | ParseError::UnsupportedLinkType(_)
        | ParseError::UnsupportedFilter(_)
        | ParseError::UnsupportedOffsetSize(_)
        | ParseError::UnsupportedLengthSize(_)
        | ParseError::UnsupportedEncoding(_)) => Error::Unsupported(error.to_string()),
        error => Error::Corrupt(format!("the metadata is damaged: {error}")),
    }
}

/// Block-wise cached reads: what the parser sees of the file.
pub(super) struct Blocks {
    store: Store,
    length: u64,
    /// Bytes of a block.
    size: u64,
    /// Place of the superblock, which all addresses are relative to.
    base: u64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    blocks: HashMap<u64, Arc<[u8]>>,
    oldest_first: VecDeque<u64>,
}

impl Blocks {
    fn block(&self, number: u64) -> hdf5_reader::error::Result<Arc<[u8]>> {
        if let Some(block) = self.kept.lock().blocks.get(&number) {
            return Ok(Arc::clone(block));
        }
        let start = number * self.size;
        let length = usize::try_from(self.length.saturating_sub(start).min(self.size))
            .map_err(|_| ParseError::OffsetOutOfBounds(start))?;
        let block: Arc<[u8]> = self.fetch(start, length)?.as_ref().into();
        let mut kept = self.kept.lock();
        if kept.blocks.insert(number, Arc::clone(&block)).is_none() {
            kept.oldest_first.push_back(number);
        }
        if kept.oldest_first.len() > BLOCKS
            && let Some(oldest) = kept.oldest_first.pop_front()
        {
            kept.blocks.remove(&oldest);
        }
        Ok(block)
    }

    fn fetch(&self, start: u64, length: usize) -> hdf5_reader::error::Result<Bytes> {
        self.store
            .range_blocking("", start, length)
            .map_err(|error| ParseError::Io(std::io::Error::other(error)))
    }
}

impl Storage for Blocks {
    fn len(&self) -> u64 {
        self.length.saturating_sub(self.base)
    }

    fn read_range(&self, offset: u64, len: usize) -> hdf5_reader::error::Result<StorageBuffer> {
        let range = offset
            .checked_add(self.base)
            .and_then(|start| Some((start, start.checked_add(len as u64)?)))
            .filter(|(_, end)| *end <= self.length);
        let Some((start, end)) = range else {
            return Err(ParseError::UnexpectedEof {
                offset,
                needed: len as u64,
                available: self.len().saturating_sub(offset),
            });
        };
        if len == 0 {
            return Ok(StorageBuffer::from_vec(Vec::new()));
        }
        if len > LARGEST_READ {
            return Err(ParseError::Io(std::io::Error::other(too_large(len))));
        }
        let (first, last) = (start / self.size, (end - 1) / self.size);
        let within = |place: u64, block: u64| {
            usize::try_from(place.saturating_sub(block * self.size).min(self.size))
                .map_err(|_| ParseError::OffsetOutOfBounds(place))
        };
        if first == last {
            return StorageBuffer::from_shared(self.block(first)?, within(start, first)?, len);
        }
        if last - first > 4 {
            return Ok(StorageBuffer::from_vec(self.fetch(start, len)?.into()));
        }
        let mut bytes = Vec::with_capacity(len);
        for number in first..=last {
            let block = self.block(number)?;
            let part = within(start, number)?..within(end, number)?;
            bytes.extend_from_slice(block.get(part).unwrap_or_default());
        }
        Ok(StorageBuffer::from_vec(bytes))
    }
}

fn too_large(length: usize) -> Error {
    Error::Corrupt(format!(
        "the metadata is damaged: one structure has {length} bytes"
    ))
}

#[derive(Default)]
struct Heaps {
    collections: HashMap<u64, Arc<Collection>>,
    bytes: usize,
}

/// A global heap collection: texts and other values of variable length.
struct Collection {
    bytes: Arc<[u8]>,
    /// Place and length of each object in `bytes`, by index.
    objects: HashMap<u32, (usize, usize)>,
}

impl Collection {
    fn read(file: &File, address: u64) -> Result<Self> {
        const WHAT: &str = "global heap";
        let head = 8 + file.length_size;
        let prefix = file.read(address, head)?;
        let mut reader = Reader::new(&prefix, WHAT);
        reader.signature(b"GCOL\x01")?;
        reader.skip(3)?;
        let length = usize::try_from(reader.uint(file.length_size)?)
            .map_err(|_| reader.damaged("it is too large"))?;
        let bytes: Arc<[u8]> = file.read(address, length)?.as_ref().into();
        let mut reader = Reader::new(&bytes, WHAT);
        reader.skip(head)?;
        let mut objects = HashMap::new();
        while reader.left() >= 8 + file.length_size {
            let index = reader.u16()?;
            // Object 0 is the free space at the end.
            if index == 0 {
                break;
            }
            reader.skip(6)?;
            let size = usize::try_from(reader.uint(file.length_size)?)
                .map_err(|_| reader.damaged("an object is too large"))?;
            let start = bytes.len() - reader.left();
            reader.skip(size)?;
            reader.skip(reader.left().min(size.wrapping_neg() & 7))?;
            objects.insert(index.into(), (start, size));
        }
        Ok(Self { bytes, objects })
    }
}
