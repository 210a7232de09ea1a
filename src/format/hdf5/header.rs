//! Object headers: the messages that describe a group, an array or a named type.

use std::borrow::Cow;
use std::collections::HashSet;

use hdf5_reader::fractal_heap::FractalHeap;

use crate::error::{Error, Result};
use crate::format::hdf5::bytes::{Reader, checked};
use crate::format::hdf5::storage::{File, damaged};

/// Message types.
pub(super) mod kind {
    pub(in crate::format::hdf5) const DATASPACE: u16 = 0x01;
    pub(in crate::format::hdf5) const LINK_INFO: u16 = 0x02;
    pub(in crate::format::hdf5) const DATATYPE: u16 = 0x03;
    pub(in crate::format::hdf5) const FILL_OLD: u16 = 0x04;
    pub(in crate::format::hdf5) const FILL: u16 = 0x05;
    pub(in crate::format::hdf5) const LINK: u16 = 0x06;
    pub(in crate::format::hdf5) const EXTERNAL_FILES: u16 = 0x07;
    pub(in crate::format::hdf5) const LAYOUT: u16 = 0x08;
    pub(in crate::format::hdf5) const GROUP_INFO: u16 = 0x0a;
    pub(in crate::format::hdf5) const FILTERS: u16 = 0x0b;
    pub(in crate::format::hdf5) const ATTRIBUTE: u16 = 0x0c;
    pub(in crate::format::hdf5) const SHARED_TABLE: u16 = 0x0f;
    pub(in crate::format::hdf5) const CONTINUATION: u16 = 0x10;
    pub(in crate::format::hdf5) const SYMBOL_TABLE: u16 = 0x11;
    pub(in crate::format::hdf5) const TREE_SIZES: u16 = 0x13;
    pub(in crate::format::hdf5) const DRIVER: u16 = 0x14;
    pub(in crate::format::hdf5) const ATTRIBUTE_INFO: u16 = 0x15;
    pub(in crate::format::hdf5) const FILE_SPACE: u16 = 0x17;
    pub(in crate::format::hdf5) const CACHE_IMAGE: u16 = 0x18;
}

const WHAT: &str = "object header";
/// No object header is larger.
const LARGEST_HEADER: usize = 16 * 1024 * 1024;
/// A shared message may be shared again, but not for ever.
const SHARED_DEPTH: usize = 4;

/// The messages of an object, in the order of the file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) messages: Vec<Message>,
    /// Address and length of each part of the header that ends in a checksum of it: in version 2 all of them.
    pub(super) signed: Vec<(u64, usize)>,
}

/// One message, as stored.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: u16,
    /// Its creation order, if the object keeps it.
    pub(super) order: Option<u16>,
    /// Address of its body.
    pub(super) address: u64,
    /// Whether `body` only says where the message is.
    pub(super) shared: bool,
    body: Vec<u8>,
}

impl Header {
    /// Reads the object header at an address.
    ///
    /// # Errors
    /// `Corrupt` when it contradicts itself, `Unsupported` for an unknown version.
    pub(super) fn read(file: &File, address: u64) -> Result<Self> {
        let start = file.read(address, 6)?;
        if start.starts_with(b"OHDR") {
            Self::read_v2(file, address)
        } else {
            Self::read_v1(file, address)
        }
    }

    /// The first message of a type.
    pub(super) fn find(&self, kind: u16) -> Option<&Message> {
        self.messages.iter().find(|message| message.kind == kind)
    }

    /// The body of the first message of a type, wherever it is.
    ///
    /// # Errors
    /// `Corrupt` when it is shared and not where it should be.
    pub(super) fn body(&self, file: &File, kind: u16) -> Result<Option<Cow<'_, [u8]>>> {
        self.find(kind)
            .map(|message| message.body(file))
            .transpose()
    }

    fn read_v1(file: &File, address: u64) -> Result<Self> {
        let prefix = file.read(address, 16)?;
        let mut reader = Reader::new(&prefix, WHAT);
        let version = reader.u8()?;
        if version != 1 {
            return Err(Error::Corrupt(format!(
                "the object header at {address:#x} is damaged: it has version {version}"
            )));
        }
        reader.skip(7)?;
        let length = reader.u32()?;
        let mut parse = Parse::new(file, 1, false);
        parse.chunk(address.saturating_add(16), length.into())?;
        parse.finish()
    }

    fn read_v2(file: &File, address: u64) -> Result<Self> {
        let prefix = file.read(address, 6)?;
        let mut reader = Reader::new(&prefix, WHAT);
        reader.signature(b"OHDR")?;
        let version = reader.u8()?;
        if version != 2 {
            return Err(Error::Unsupported(format!(
                "object headers of version {version}"
            )));
        }
        let flags = reader.u8()?;
        let times = if flags & 0x20 == 0 { 0 } else { 16 };
        let phases = if flags & 0x10 == 0 { 0 } else { 4 };
        let width = 1usize << (flags & 3);
        let head = 6 + times + phases + width;
        let prefix = file.read(address, head)?;
        let mut reader = Reader::new(&prefix, WHAT);
        reader.skip(head - width)?;
        let length = reader.uint(width)?;
        let mut parse = Parse::new(file, 2, flags & 4 != 0);
        parse.chunk_v2(address, head, length)?;
        parse.finish()
    }
}

impl Message {
    /// The body of the message, wherever it is.
    ///
    /// # Errors
    /// `Corrupt` when it is shared and not where it should be.
    pub(super) fn body(&self, file: &File) -> Result<Cow<'_, [u8]>> {
        if self.shared {
            shared_body(file, self.kind, &self.body, SHARED_DEPTH).map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(&self.body))
        }
    }
}

/// The message of type `kind` that the shared-message body `reference` refers to.
///
/// # Errors
/// `Corrupt` when it is not there.
pub(super) fn shared_body(
    file: &File,
    kind: u16,
    reference: &[u8],
    depth: usize,
) -> Result<Vec<u8>> {
    let mut reader = Reader::new(reference, "shared message");
    let version = reader.u8()?;
    let place = reader.u8()?;
    if version == 3 && place == 1 {
        return file.shared_messages()?.body(file, kind, reader.take(8)?);
    }
    if version == 1 {
        reader.skip(6)?;
        // The oldest writers put a heap offset before the address.
        if reader.left() >= file.length_size + file.offset_size {
            reader.skip(file.length_size)?;
        }
    }
    let address = reader.address(file.offset_size)?;
    let (Some(address), Some(depth)) = (address, depth.checked_sub(1)) else {
        return Err(reader.damaged("it refers to nothing"));
    };
    let header = Header::read(file, address)?;
    match header.find(kind) {
        Some(message) if message.shared => shared_body(file, kind, &message.body, depth),
        Some(message) => Ok(message.body.clone()),
        None => Err(reader.damaged("what it refers to is not there")),
    }
}

/// Parses the chunks of one object header.
struct Parse<'a> {
    file: &'a File,
    version: u8,
    ordered: bool,
    messages: Vec<Message>,
    signed: Vec<(u64, usize)>,
    continuations: Vec<(u64, u64)>,
    next: usize,
    visited: HashSet<u64>,
    bytes: usize,
}

impl<'a> Parse<'a> {
    fn new(file: &'a File, version: u8, ordered: bool) -> Self {
        Self {
            file,
            version,
            ordered,
            messages: Vec::new(),
            signed: Vec::new(),
            continuations: Vec::new(),
            next: 0,
            visited: HashSet::new(),
            bytes: 0,
        }
    }

    fn finish(mut self) -> Result<Header> {
        while let Some((address, length)) = self.continuations.get(self.next).copied() {
            self.next += 1;
            if !self.visited.insert(address) {
                return Err(Error::Corrupt(
                    "the object header is damaged: it continues in itself".into(),
                ));
            }
            if self.version == 1 {
                self.chunk(address, length)?;
            } else {
                self.chunk_v2(address, 4, length.saturating_sub(8))?;
            }
        }
        Ok(Header {
            messages: self.messages,
            signed: self.signed,
        })
    }

    fn chunk(&mut self, address: u64, length: u64) -> Result<()> {
        let length = self.budget(length)?;
        let bytes = self.file.read(address, length)?;
        self.parse(address, &bytes)
    }

    /// A chunk of `head` bytes, `length` bytes of messages and a checksum.
    fn chunk_v2(&mut self, address: u64, head: usize, length: u64) -> Result<()> {
        let length = self.budget(length)?;
        let bytes = self.file.read(address, head + length + 4)?;
        let body = checked(&bytes, WHAT)?;
        let mut reader = Reader::new(body, WHAT);
        reader.signature(if head == 4 { b"OCHK" } else { b"OHDR" })?;
        self.signed.push((address, bytes.len()));
        let messages = address.saturating_add(head as u64);
        self.parse(messages, body.get(head..).unwrap_or_default())
    }

    fn budget(&mut self, length: u64) -> Result<usize> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.bytes = self.bytes.saturating_add(length);
        if self.bytes > LARGEST_HEADER {
            return Err(Error::Corrupt(format!(
                "the object header is damaged: it has more than {LARGEST_HEADER} bytes"
            )));
        }
        Ok(length)
    }

    /// The messages in `bytes`, which are those at an address.
    fn parse(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let mut reader = Reader::new(bytes, WHAT);
        let head = match (self.version, self.ordered) {
            (1, _) => 8,
            (_, true) => 6,
            (_, false) => 4,
        };
        while reader.left() >= head {
            let kind = if self.version == 1 {
                reader.u16()?
            } else {
                reader.u8()?.into()
            };
            let length = reader.u16()?.into();
            let flags = reader.u8()?;
            let mut order = None;
            if self.version == 1 {
                reader.skip(3)?;
            } else if self.ordered {
                order = Some(reader.u16()?);
            }
            let place = address.saturating_add((bytes.len() - reader.left()) as u64);
            let body = reader.take(length)?;
            match kind {
                0 => {}
                kind::CONTINUATION => {
                    let mut reader = Reader::new(body, WHAT);
                    let address = reader.uint(self.file.offset_size)?;
                    let length = reader.uint(self.file.length_size)?;
                    self.continuations.push((address, length));
                }
                kind => self.messages.push(Message {
                    kind,
                    order,
                    address: place,
                    shared: flags & 2 != 0,
                    body: body.to_vec(),
                }),
            }
        }
        Ok(())
    }
}

/// The file's table of messages that several objects share: which heap holds which types.
#[derive(Debug)]
pub(super) struct SharedMessages {
    heaps: Vec<(u16, u64)>,
}

impl File {
    fn shared_messages(&self) -> Result<&SharedMessages> {
        if let Some(known) = self.shared_messages.get() {
            return Ok(known);
        }
        let read = SharedMessages::read(self)?;
        Ok(self.shared_messages.get_or_init(|| read))
    }
}

impl SharedMessages {
    fn read(file: &File) -> Result<Self> {
        const WHAT: &str = "table of shared messages";
        let missing = || Error::Corrupt(format!("the {WHAT} is missing"));
        let extension = Header::read(file, file.extension.ok_or_else(missing)?)?;
        let message = extension
            .body(file, kind::SHARED_TABLE)?
            .ok_or_else(missing)?;
        let mut reader = Reader::new(&message, WHAT);
        reader.skip(1)?;
        let address = reader.uint(file.offset_size)?;
        let count = usize::from(reader.u8()?);
        let entry = 14 + 2 * file.offset_size;
        let table = file.read(address, 8 + count * entry)?;
        let mut reader = Reader::new(checked(&table, WHAT)?, WHAT);
        reader.signature(b"SMTB")?;
        let mut heaps = Vec::new();
        for _ in 0..count {
            reader.skip(2)?;
            let kinds = reader.u16()?;
            reader.skip(10 + file.offset_size)?;
            if let Some(heap) = reader.address(file.offset_size)? {
                heaps.push((kinds, heap));
            }
        }
        Ok(Self { heaps })
    }

    fn body(&self, file: &File, kind: u16, id: &[u8]) -> Result<Vec<u8>> {
        let bit = 1u16.checked_shl(kind.into()).unwrap_or(0);
        let heap = self.heaps.iter().find(|(kinds, _)| kinds & bit != 0);
        let Some((_, address)) = heap else {
            return Err(Error::Corrupt(
                "the table of shared messages is damaged: it has no heap for a message".into(),
            ));
        };
        let (offset_size, length_size) = file.sizes();
        FractalHeap::parse_at_storage(&file.blocks, *address, offset_size, length_size)
            .and_then(|heap| heap.get_object_storage(id, &file.blocks, offset_size, length_size))
            .map_err(damaged)
    }
}
