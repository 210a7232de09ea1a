//! Links: what a group contains, and under which names.

use hdf5_reader::btree_v1::collect_btree_v1_leaves_storage;
use hdf5_reader::btree_v2::{BTreeV2Header, BTreeV2Record, collect_btree_v2_records_storage};
use hdf5_reader::fractal_heap::{FractalHeap, FractalHeapDirectBlockCache};
use hdf5_reader::local_heap::LocalHeap;

use crate::error::{Error, Result};
use crate::format::hdf5::bytes::Reader;
use crate::format::hdf5::header::{Header, kind};
use crate::format::hdf5::storage::{File, damaged};

const WHAT: &str = "link";

/// A named link of a group.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) target: Target,
    /// Its creation order, if the group keeps it.
    order: Option<u64>,
}

/// What a link refers to.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// The object whose header is at this address.
    Hard(u64),
    /// The object at this path of the file.
    Soft(String),
    /// An object of another file.
    External(String),
    /// Something that a program defines.
    Unknown,
}

/// Whether an object with this header is a group.
pub(super) fn is_group(header: &Header) -> bool {
    header.find(kind::SYMBOL_TABLE).is_some() || header.find(kind::LINK_INFO).is_some()
}

/// The links of the group with this header, in creation order if the group keeps it, else by name.
///
/// # Errors
/// `Corrupt` when the group is damaged.
pub(super) fn read(file: &File, header: &Header) -> Result<Vec<Link>> {
    let mut links = match header.body(file, kind::SYMBOL_TABLE)? {
        Some(table) => from_symbol_table(file, &table)?,
        None => from_messages(file, header)?,
    };
    if links.iter().all(|link| link.order.is_some()) {
        links.sort_by_key(|link| link.order);
    } else {
        links.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(links)
}

fn from_symbol_table(file: &File, table: &[u8]) -> Result<Vec<Link>> {
    let mut reader = Reader::new(table, "symbol table");
    let tree = reader.uint(file.offset_size)?;
    let heap = reader.uint(file.offset_size)?;
    let (offset_size, length_size) = file.sizes();
    let heap = LocalHeap::parse_at_storage(&file.blocks, heap, offset_size, length_size)
        .map_err(damaged)?;
    let leaves = collect_btree_v1_leaves_storage(
        &file.blocks,
        tree,
        offset_size,
        length_size,
        None,
        &[],
        None,
    )
    .map_err(damaged)?;
    let size = usize::try_from(heap.data_segment_size).unwrap_or(usize::MAX);
    let names = file.read(heap.data_segment_address, size)?;
    let mut links = Vec::new();
    for (_, leaf) in leaves {
        let prefix = file.read(leaf, 8)?;
        let mut reader = Reader::new(&prefix, "symbol table node");
        reader.signature(b"SNOD\x01")?;
        reader.skip(1)?;
        let count = usize::from(reader.u16()?);
        let node = file.read(leaf, 8 + count * (2 * file.offset_size + 24))?;
        let mut reader = Reader::new(&node, "symbol table node");
        reader.skip(8)?;
        for _ in 0..count {
            let name = heap_text(&names, reader.uint(file.offset_size)?)?;
            let address = reader.uint(file.offset_size)?;
            let cached = reader.u32()?;
            reader.skip(4)?;
            let mut scratch = Reader::new(reader.take(16)?, "symbol table node");
            let target = if cached == 2 {
                Target::Soft(heap_text(&names, scratch.u32()?.into())?)
            } else {
                Target::Hard(address)
            };
            links.push(Link {
                name,
                target,
                order: None,
            });
        }
    }
    Ok(links)
}

fn heap_text(heap: &[u8], offset: u64) -> Result<String> {
    usize::try_from(offset)
        .ok()
        .and_then(|offset| heap.get(offset..))
        .and_then(|rest| rest.split(|byte| *byte == 0).next())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .ok_or_else(|| Error::Corrupt("the local heap is damaged: a name is outside".into()))
}

fn from_messages(file: &File, header: &Header) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for message in header.messages.iter().filter(|m| m.kind == kind::LINK) {
        links.push(parse(file, &message.body(file)?)?);
    }
    if let Some(info) = header.body(file, kind::LINK_INFO)? {
        let mut reader = Reader::new(&info, "link info");
        reader.skip(1)?;
        if reader.u8()? & 1 != 0 {
            reader.skip(8)?;
        }
        let heap = reader.address(file.offset_size)?;
        let tree = reader.address(file.offset_size)?;
        if let (Some(heap), Some(tree)) = (heap, tree) {
            for (_, body) in dense(file, heap, tree)? {
                links.push(parse(file, &body)?);
            }
        }
    }
    Ok(links)
}

/// The messages that are kept in a fractal heap, indexed by a version 2 B-tree; for attributes with their creation
/// order.
///
/// # Errors
/// `Corrupt` when the heap or the tree is damaged.
pub(super) fn dense(file: &File, heap: u64, tree: u64) -> Result<Vec<(u32, Vec<u8>)>> {
    let (offset_size, length_size) = file.sizes();
    let read = || {
        let heap = FractalHeap::parse_at_storage(&file.blocks, heap, offset_size, length_size)?;
        let tree = BTreeV2Header::parse_at_storage(&file.blocks, tree, offset_size, length_size)?;
        let records = collect_btree_v2_records_storage(
            &file.blocks,
            &tree,
            offset_size,
            length_size,
            None,
            &[],
            None,
        )?;
        let mut blocks = FractalHeapDirectBlockCache::default();
        let mut bodies = Vec::with_capacity(records.len());
        for record in &records {
            let (order, id) = match record {
                BTreeV2Record::LinkNameHash { heap_id, .. } => (0, heap_id),
                BTreeV2Record::AttributeNameHash {
                    heap_id,
                    creation_order,
                    ..
                } => (*creation_order, heap_id),
                _ => continue,
            };
            let body = heap.get_object_storage_cached(
                id,
                &file.blocks,
                offset_size,
                length_size,
                &mut blocks,
            )?;
            bodies.push((order, body));
        }
        Ok(bodies)
    };
    read().map_err(damaged)
}

fn parse(file: &File, body: &[u8]) -> Result<Link> {
    let mut reader = Reader::new(body, WHAT);
    let version = reader.u8()?;
    if version != 1 {
        return Err(Error::Unsupported(format!("links of version {version}")));
    }
    let flags = reader.u8()?;
    let class = if flags & 8 == 0 { 0 } else { reader.u8()? };
    let order = if flags & 4 == 0 {
        None
    } else {
        Some(reader.uint(8)?)
    };
    if flags & 16 != 0 {
        reader.skip(1)?;
    }
    let length = reader.uint(1 << (flags & 3))?;
    let mut text = |length: u64| {
        let taken = reader.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        Ok::<_, Error>(String::from_utf8_lossy(taken).into_owned())
    };
    let name = text(length)?;
    let target = match class {
        0 => Target::Hard(reader.uint(file.offset_size)?),
        1 | 64 => {
            let length = reader.u16()?;
            let value = String::from_utf8_lossy(reader.take(length.into())?).into_owned();
            if class == 1 {
                Target::Soft(value)
            } else {
                // Version and flags, then file name and path, each ended by a NUL.
                let other = value.get(1..).unwrap_or_default();
                Target::External(other.split('\0').next().unwrap_or_default().into())
            }
        }
        _ => Target::Unknown,
    };
    Ok(Link {
        name,
        target,
        order,
    })
}
