//! B-trees of chunks, both versions: only the nodes that can hold the chunks asked for are read.

use std::collections::HashSet;

use bytes::Bytes;
use hdf5_reader::btree_v2::BTreeV2Header;

use crate::error::{Error, Result};
use crate::format::hdf5::bytes::{Reader, checked};
use crate::format::hdf5::index::{Entry, Span};
use crate::format::hdf5::numbering::Numbering;
use crate::format::hdf5::storage::{File, damaged};

const WHAT: &str = "chunk B-tree";
/// Nodes in memory at once.
const BATCH: usize = 64;

/// The chunks in `wanted` (sorted) of a version 1 B-tree, or all of them, sorted by number.
///
/// ```text
/// node: key 0 | child 0 | key 1 | child 1 | … | key n      child i holds the chunks from key i to before key i + 1
/// ```
///
/// # Errors
/// `Corrupt` when the tree is damaged, `Io` when the storage fails.
pub(super) fn read_v1(
    file: &File,
    root: u64,
    numbering: &Numbering,
    wanted: Option<&[u64]>,
) -> Result<Vec<Entry>> {
    let rank = numbering.chunk.len();
    let key = 8 + 8 * (rank + 1);
    let head = 8 + 2 * file.offset_size;
    let size = |children: usize| head + (children + 1) * key + children * file.offset_size;
    let mut entries = Vec::new();
    let mut level = None;
    let mut frontier = vec![root];
    let mut visited = HashSet::from([root]);
    while !frontier.is_empty() {
        let mut below = Vec::new();
        for batch in frontier.chunks(BATCH) {
            let nodes = file.read_nodes(batch, size(2 * file.chunk_tree_k))?;
            for (address, mut node) in batch.iter().zip(nodes) {
                let mut reader = Reader::new(&node, WHAT);
                reader.signature(b"TREE\x01")?;
                let found = reader.u8()?;
                if *level.get_or_insert(found) != found {
                    return Err(reader.damaged("a node is at the wrong level"));
                }
                let children = usize::from(reader.u16()?);
                if node.len() < size(children) {
                    node = file
                        .read_nodes(&[*address], size(children))?
                        .concat()
                        .into();
                }
                let body = Reader::new(node.get(head..).unwrap_or_default(), WHAT);
                let node = NodeV1 {
                    file,
                    numbering,
                    wanted,
                    children,
                };
                if found == 0 {
                    node.leaf(body, &mut entries)?;
                } else {
                    node.inner(body, &mut below, &mut visited)?;
                }
            }
        }
        frontier = below;
        level = match level {
            Some(level) if level > 0 => Some(level - 1),
            _ => break,
        };
    }
    Ok(sorted(entries))
}

struct NodeV1<'a> {
    file: &'a File,
    numbering: &'a Numbering,
    wanted: Option<&'a [u64]>,
    children: usize,
}

impl NodeV1<'_> {
    fn leaf<'a>(&'a self, mut reader: Reader<'a>, entries: &mut Vec<Entry>) -> Result<()> {
        for _ in 0..self.children {
            let length = reader.u32()?;
            let mask = reader.u32()?;
            let coord = self.coord(&mut reader)?;
            let address = reader.address(self.file.offset_size)?;
            let number = self.numbering.number(coord);
            if let (Some(number), Some(address)) = (number, address)
                && holds(self.wanted, number, number + 1)
            {
                let span = Span {
                    address,
                    length,
                    mask,
                };
                entries.push(Entry { number, span });
            }
        }
        Ok(())
    }

    fn inner<'a>(
        &'a self,
        mut reader: Reader<'a>,
        below: &mut Vec<u64>,
        visited: &mut HashSet<u64>,
    ) -> Result<()> {
        reader.skip(8)?;
        let mut low = self.numbering.first_from(self.coord(&mut reader)?);
        for _ in 0..self.children {
            let child = reader.address(self.file.offset_size)?;
            reader.skip(8)?;
            let high = self.end(&mut reader)?;
            if let Some(child) = child
                && holds(self.wanted, low, high)
            {
                if !visited.insert(child) {
                    return Err(reader.damaged("a node is its own ancestor or has two parents"));
                }
                below.push(child);
            }
            low = high;
        }
        Ok(())
    }

    /// The smallest number of a chunk that is not before a key. A key that ends with an offset within the element is behind
    /// the chunk whose place it has: the last one of a tree may.
    fn end<'a>(&'a self, reader: &mut Reader<'a>) -> Result<u64> {
        let (mut place, mut within) = (*reader, *reader);
        let first = self.numbering.first_from(self.coord(reader)?);
        within.skip(8 * self.numbering.chunk.len())?;
        if within.uint(8)? == 0 {
            return Ok(first);
        }
        let at = self.numbering.number(self.coord(&mut place)?);
        Ok(at.map_or(first, |at| at + 1))
    }

    /// The place of a chunk in the grid; a key ends with an offset within the element, which is mostly 0.
    fn coord<'a>(&'a self, reader: &mut Reader<'a>) -> Result<impl Iterator<Item = u64> + use<'a>> {
        let chunk = &self.numbering.chunk;
        let offsets = reader.take(8 * (chunk.len() + 1))?;
        let offsets = offsets.as_chunks::<8>().0.iter();
        Ok(offsets
            .zip(chunk)
            .map(|(offset, chunk)| u64::from_le_bytes(*offset) / chunk))
    }
}

/// The chunks in `wanted` (sorted) of a version 2 B-tree, or all of them, sorted by number.
///
/// # Errors
/// As [`read_v1`].
pub(super) fn read_v2(
    file: &File,
    address: u64,
    numbering: &Numbering,
    wanted: Option<&[u64]>,
) -> Result<Vec<Entry>> {
    let (offset_size, length_size) = file.sizes();
    let header = BTreeV2Header::parse_at_storage(&file.blocks, address, offset_size, length_size)
        .map_err(damaged)?;
    let bad = |how: &str| Error::Corrupt(format!("the {WHAT} is damaged: {how}"));
    let fixed = file.offset_size + 8 * numbering.chunk.len();
    let record = usize::from(header.record_size);
    // A filtered record has a size, as wide as need be, and a filter mask too.
    let length_width = match header.btree_type {
        10 if record == fixed => 0,
        11 if (fixed + 5..=fixed + 12).contains(&record) => record - fixed - 4,
        _ => return Err(bad("its records are not those of chunks")),
    };
    let Some(root) = Reader::new(&header.root_node_address.to_le_bytes(), WHAT).address(8)? else {
        return Ok(Vec::new());
    };
    let levels = Levels::new(&header, file.offset_size).ok_or_else(|| bad("it is too deep"))?;
    let mut entries = Vec::new();
    let mut visited = HashSet::from([root]);
    let mut frontier = vec![(root, usize::from(header.num_records_in_root))];
    let size = usize::try_from(header.node_size).unwrap_or(usize::MAX);
    for depth in (0..=usize::from(header.depth)).rev() {
        let mut below = Vec::new();
        for batch in frontier.chunks(BATCH) {
            let addresses: Vec<u64> = batch.iter().map(|(address, _)| *address).collect();
            let nodes = file.read_nodes(&addresses, size)?;
            for ((_, records), bytes) in batch.iter().zip(nodes) {
                let node = NodeV2 {
                    file,
                    numbering,
                    wanted,
                    header: &header,
                    length_width,
                    records: *records,
                };
                let pointer = levels.pointer(depth);
                node.read(&bytes, pointer, &mut entries, &mut below, &mut visited)?;
            }
        }
        frontier = below;
    }
    Ok(sorted(entries))
}

/// Widths of the record counts beside child addresses, which depend on how many records fit.
struct Levels {
    /// Width of the number of records of a child.
    child: usize,
    /// Width of the number of records of a child and all below it, by depth of the node.
    below: Vec<usize>,
}

impl Levels {
    fn new(header: &BTreeV2Header, offset_size: usize) -> Option<Self> {
        let width = |most: u64| usize::try_from(most.max(1).ilog2() / 8 + 1).ok();
        let node = u64::from(header.node_size);
        let record = u64::from(header.record_size);
        let mut all = node.checked_sub(10)?.checked_div(record)?;
        let child = width(all)?;
        // Leaves have no children, and the children of the nodes above them have none below.
        let mut below = vec![0, 0];
        let mut pointer = offset_size + child;
        for _ in 1..header.depth {
            let room = node.checked_sub(10 + pointer as u64)?;
            let most = room / (record + pointer as u64);
            all = (most + 1).checked_mul(all)?.checked_add(most)?;
            below.push(width(all)?);
            pointer = offset_size + child + width(all)?;
        }
        Some(Self { child, below })
    }

    /// Widths of the two counts beside a child address in a node at `depth`; `None` in a leaf.
    fn pointer(&self, depth: usize) -> Option<(usize, usize)> {
        (depth > 0).then(|| (self.child, self.below.get(depth).copied().unwrap_or(8)))
    }
}

struct NodeV2<'a> {
    file: &'a File,
    numbering: &'a Numbering,
    wanted: Option<&'a [u64]>,
    header: &'a BTreeV2Header,
    length_width: usize,
    records: usize,
}

impl NodeV2<'_> {
    fn read(
        &self,
        bytes: &Bytes,
        pointer: Option<(usize, usize)>,
        entries: &mut Vec<Entry>,
        below: &mut Vec<(u64, usize)>,
        visited: &mut HashSet<u64>,
    ) -> Result<()> {
        let record = usize::from(self.header.record_size);
        let widths = pointer.map_or(0, |(child, all)| self.file.offset_size + child + all);
        let children = pointer.map_or(0, |_| self.records + 1);
        let used = 6 + self.records * record + children * widths + 4;
        let body = checked(bytes.get(..used).unwrap_or_default(), WHAT)?;
        let mut reader = Reader::new(body, WHAT);
        reader.signature(if pointer.is_some() {
            b"BTIN\0"
        } else {
            b"BTLF\0"
        })?;
        reader.skip(1)?;
        // Chunks between two records are below the child between them.
        let mut bounds = vec![0];
        for _ in 0..self.records {
            bounds.push(self.record(&mut reader, entries)?);
        }
        bounds.push(self.numbering.len());
        let Some((child_width, all_width)) = pointer else {
            return Ok(());
        };
        for bound in bounds.windows(2) {
            let child = reader.address(self.file.offset_size)?;
            let records = reader.uint(child_width)?;
            reader.skip(all_width)?;
            let (Some(child), [low, high]) = (child, bound) else {
                continue;
            };
            if holds(self.wanted, *low, *high) {
                if !visited.insert(child) {
                    return Err(reader.damaged("a node is its own ancestor or has two parents"));
                }
                below.push((child, usize::try_from(records).unwrap_or(usize::MAX)));
            }
        }
        Ok(())
    }

    /// Takes in one record; returns the smallest number that is not before it.
    fn record(&self, reader: &mut Reader<'_>, entries: &mut Vec<Entry>) -> Result<u64> {
        let address = reader.address(self.file.offset_size)?;
        let (length, mask) = if self.length_width == 0 {
            (self.numbering.bytes, 0)
        } else {
            (reader.uint(self.length_width)?, reader.u32()?)
        };
        let offsets = reader.take(8 * self.numbering.chunk.len())?;
        let coord = || {
            let offsets = offsets.as_chunks::<8>().0.iter();
            offsets.map(|at| u64::from_le_bytes(*at))
        };
        if let (Some(number), Some(address)) = (self.numbering.number(coord()), address)
            && holds(self.wanted, number, number + 1)
        {
            let length = u32::try_from(length).map_err(|_| {
                Error::Unsupported("chunks of 4 GiB and more cannot be read".into())
            })?;
            let span = Span {
                address,
                length,
                mask,
            };
            entries.push(Entry { number, span });
        }
        Ok(self.numbering.first_from(coord()))
    }
}

/// Whether any wanted chunk is from `low` to before `high`.
fn holds(wanted: Option<&[u64]>, low: u64, high: u64) -> bool {
    let Some(wanted) = wanted else { return true };
    let first = wanted.partition_point(|number| *number < low);
    wanted.get(first).is_some_and(|number| *number < high)
}

fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    if !entries.is_sorted_by_key(|entry| entry.number) {
        entries.sort_by_key(|entry| entry.number);
    }
    entries.dedup_by_key(|entry| entry.number);
    entries.shrink_to_fit();
    entries
}
