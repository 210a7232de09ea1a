//! Version 1 B-trees of chunks, into which chunks are put.

use super::output::{Fields, Output};
use crate::error::{Error, Result};
use crate::format::hdf5::bytes::Reader;
use crate::format::hdf5::index::Span;

const WHAT: &str = "chunk B-tree";
/// Bytes of a node before its addresses of siblings.
const HEAD: usize = 8;

/// What the nodes of a tree have in common.
#[derive(Debug)]
pub(super) struct Shape {
    /// How many children a node has room for.
    pub(super) children: usize,
    /// Extents of a chunk, and as the last one the bytes of an element.
    pub(super) extents: Vec<u64>,
}

/// A chunk on its way into a tree.
#[derive(Clone, Debug)]
pub(super) struct Put {
    /// Its first cell along each dimension.
    pub(super) start: Vec<u64>,
    pub(super) span: Span,
}

impl Put {
    /// Whether the chunk is before a key, which may be behind the chunk whose place it has.
    fn is_before(&self, key: &Key) -> bool {
        match key.start.split_last() {
            Some((within, cells)) if cells == self.start => *within > 0,
            Some((_, cells)) => self.start.as_slice() < cells,
            None => false,
        }
    }
}

/// Puts chunks, sorted by where they start, into the tree with this root, or into a new one; returns the root.
///
/// Nodes stay where they are as long as they have room: nobody reads the file meanwhile.
///
/// # Errors
/// `Corrupt` when the tree is damaged, `Io` when the storage fails.
pub(super) fn insert(
    output: &mut Output,
    root: Option<u64>,
    shape: &Shape,
    puts: &[Put],
) -> Result<Option<u64>> {
    if puts.is_empty() {
        return Ok(root);
    }
    let mut insert = Insert { output, shape };
    let mut level = 0;
    let mut grown = match root {
        Some(address) => {
            let node = insert.read(address)?;
            level = node.level;
            insert.put_below(address, &node, puts, None)?
        }
        None => {
            let empty = Node {
                level,
                left: None,
                right: None,
                keys: Vec::new(),
                children: Vec::new(),
            };
            insert.put_in_leaf(None, &empty, puts, None)?
        }
    };
    while grown.children.len() > 1 {
        level = level
            .checked_add(1)
            .ok_or_else(|| damaged("it is too deep"))?;
        let (mut keys, children): (Vec<Key>, Vec<u64>) = grown.children.into_iter().unzip();
        keys.push(grown.end);
        let node = Node {
            level,
            left: None,
            right: None,
            keys,
            children,
        };
        grown = insert.write(None, &node, true)?;
    }
    Ok(grown.children.first().map(|(_, address)| *address))
}

/// What stands before and between the children of a node: the first chunk of the one behind it.
#[derive(Clone, Debug)]
struct Key {
    length: u32,
    mask: u32,
    /// The first cell of the chunk, and an offset within the element.
    start: Vec<u64>,
}

/// ```text
/// key 0 | child 0 | key 1 | child 1 | … | key n
/// ```
#[derive(Debug)]
struct Node {
    level: u8,
    left: Option<u64>,
    right: Option<u64>,
    /// One more than there are children, unless the node is new.
    keys: Vec<Key>,
    children: Vec<u64>,
}

/// The nodes that a node has become, with their first keys, and the key behind them all.
struct Grown {
    children: Vec<(Key, u64)>,
    end: Key,
}

struct Insert<'a> {
    output: &'a mut Output,
    shape: &'a Shape,
}

impl Insert<'_> {
    /// Puts chunks into a node; `end` is the key behind it, where another node follows.
    fn put_below(
        &mut self,
        address: u64,
        node: &Node,
        puts: &[Put],
        end: Option<&Key>,
    ) -> Result<Grown> {
        if node.level == 0 {
            return self.put_in_leaf(Some(address), node, puts, end);
        }
        if node.children.is_empty() {
            return Err(damaged("a node has no children"));
        }
        let mut rest = puts;
        let mut keys = Vec::with_capacity(node.keys.len());
        let mut children = Vec::with_capacity(node.children.len());
        let mut last = node.keys.last().cloned();
        let at_end = puts.last().is_some_and(|put| {
            let before = node.keys.len().checked_sub(2);
            let first = before.and_then(|at| node.keys.get(at));
            first.is_some_and(|first| !put.is_before(first))
        });
        for (at, child) in node.children.iter().enumerate() {
            let is_last = at + 1 == node.children.len();
            let behind = node.keys.get(at + 1);
            let mine = match behind {
                Some(behind) if !is_last => rest.partition_point(|put| put.is_before(behind)),
                _ => rest.len(),
            };
            let (mine, others) = rest.split_at_checked(mine).unwrap_or((rest, &[]));
            rest = others;
            if mine.is_empty() {
                keys.extend(node.keys.get(at).cloned());
                children.push(*child);
                continue;
            }
            let below = self.read(*child)?;
            if below.level.checked_add(1) != Some(node.level) {
                return Err(damaged("a node is at the wrong level"));
            }
            let grown = self.put_below(*child, &below, mine, if is_last { end } else { behind })?;
            for (key, child) in grown.children {
                keys.push(key);
                children.push(child);
            }
            if is_last {
                last = Some(grown.end);
            }
        }
        keys.extend(last);
        let node = Node {
            keys,
            children,
            ..*node
        };
        self.write(Some(address), &node, at_end)
    }

    fn put_in_leaf(
        &mut self,
        address: Option<u64>,
        node: &Node,
        puts: &[Put],
        end: Option<&Key>,
    ) -> Result<Grown> {
        let mut keys = Vec::with_capacity(node.children.len() + puts.len() + 1);
        let mut children = Vec::with_capacity(node.children.len() + puts.len());
        let mut at_end = true;
        let mut old = node.keys.iter().zip(&node.children).peekable();
        for put in puts {
            while let Some((key, child)) =
                old.next_if(|(key, _)| cells(&key.start) < put.start.as_slice())
            {
                keys.push(key.clone());
                children.push(*child);
            }
            // The chunk as it was before.
            old.next_if(|(key, _)| cells(&key.start) == put.start.as_slice());
            let mut start = put.start.clone();
            start.push(0);
            keys.push(Key {
                length: put.span.length,
                mask: put.span.mask,
                start,
            });
            children.push(put.span.address);
        }
        for (key, child) in old {
            at_end = false;
            keys.push(key.clone());
            children.push(*child);
        }
        let known = node.keys.get(node.children.len());
        keys.push(self.end(known, keys.last(), end)?);
        let node = Node {
            keys,
            children,
            ..*node
        };
        self.write(address, &node, at_end)
    }

    /// The key behind a leaf whose last chunk is `last`: that of the next node, or one that is greater than all.
    fn end(&self, known: Option<&Key>, last: Option<&Key>, next: Option<&Key>) -> Result<Key> {
        if let Some(next) = next {
            return Ok(next.clone());
        }
        let last = last.ok_or_else(|| damaged("a node is empty"))?;
        if let Some(known) = known
            && known.start > last.start
        {
            return Ok(known.clone());
        }
        let behind = last.start.iter().zip(&self.shape.extents);
        let start = behind
            .map(|(at, extent)| at.checked_add(*extent))
            .collect::<Option<_>>()
            .ok_or_else(|| damaged("a chunk is too far out"))?;
        Ok(Key {
            length: 0,
            mask: 0,
            start,
        })
    }

    /// Writes a node to its address, what it has no room for to new nodes beside it. `at_end`: it grows at its end, so
    /// that what is before need not have room.
    fn write(&mut self, address: Option<u64>, node: &Node, at_end: bool) -> Result<Grown> {
        let room = self.shape.children.max(2);
        let all = node.children.len();
        let part = if at_end {
            room
        } else {
            all.div_ceil(all.div_ceil(room).max(1)).max(1)
        };
        let count = all.div_ceil(part).max(1);
        let Some(end) = node.keys.get(all).cloned() else {
            return Err(damaged("a node has too few keys"));
        };
        let mut addresses = Vec::with_capacity(count);
        let blank = vec![0; self.size()?];
        for at in 0..count {
            addresses.push(match address {
                Some(address) if at == 0 => address,
                _ => self.output.put(&blank)?,
            });
        }
        let mut children = Vec::with_capacity(count);
        for (at, (of, to)) in node.children.chunks(part).zip(&addresses).enumerate() {
            let first = at * part;
            let keys = node.keys.get(first..=first + of.len()).unwrap_or_default();
            let left = match at.checked_sub(1) {
                Some(before) => addresses.get(before).copied(),
                None => node.left,
            };
            let right = match addresses.get(at + 1) {
                Some(next) => Some(*next),
                None => node.right,
            };
            self.write_one(*to, node.level, [left, right], keys, of)?;
            children.extend(keys.first().cloned().map(|key| (key, *to)));
        }
        if let (true, Some(right), Some(last)) = (count > 1, node.right, addresses.last()) {
            let mut fields = Fields::default();
            fields.address(Some(*last), self.output.offset_size)?;
            self.output
                .write(right.saturating_add(HEAD as u64), &fields.0)?;
        }
        Ok(Grown { children, end })
    }

    fn write_one(
        &self,
        address: u64,
        level: u8,
        siblings: [Option<u64>; 2],
        keys: &[Key],
        children: &[u64],
    ) -> Result<()> {
        let width = self.output.offset_size;
        let mut fields = Fields::default();
        fields.bytes(b"TREE\x01");
        fields.uint(level.into(), 1)?;
        fields.uint(children.len() as u64, 2)?;
        for sibling in siblings {
            fields.address(sibling, width)?;
        }
        for (at, key) in keys.iter().enumerate() {
            fields.uint(key.length.into(), 4)?;
            fields.uint(key.mask.into(), 4)?;
            for start in &key.start {
                fields.uint(*start, 8)?;
            }
            if let Some(child) = children.get(at) {
                fields.address(Some(*child), width)?;
            }
        }
        fields.0.resize(self.size()?, 0);
        self.output.write(address, &fields.0)
    }

    fn read(&self, address: u64) -> Result<Node> {
        let bytes = self.output.read(address, self.size()?)?;
        let width = self.output.offset_size;
        let mut reader = Reader::new(&bytes, WHAT);
        reader.signature(b"TREE\x01")?;
        let level = reader.u8()?;
        let count = usize::from(reader.u16()?);
        if count > self.shape.children {
            return Err(damaged("a node has more children than there is room for"));
        }
        let (left, right) = (reader.address(width)?, reader.address(width)?);
        let mut node = Node {
            level,
            left,
            right,
            keys: Vec::with_capacity(count + 1),
            children: Vec::with_capacity(count),
        };
        for at in 0..=count {
            let (length, mask) = (reader.u32()?, reader.u32()?);
            let start = self.shape.extents.iter().map(|_| reader.uint(8));
            let start = start.collect::<Result<_>>()?;
            node.keys.push(Key {
                length,
                mask,
                start,
            });
            if at < count {
                let child = reader.address(width)?;
                node.children
                    .push(child.ok_or_else(|| damaged("a node has no address"))?);
            }
        }
        Ok(node)
    }

    /// Bytes of a node.
    fn size(&self) -> Result<usize> {
        let key = 8 + 8 * self.shape.extents.len();
        let width = self.output.offset_size;
        let children = self.shape.children;
        if children == 0 {
            return Err(damaged("its nodes have no room"));
        }
        Ok(HEAD + 2 * width + (children + 1) * key + children * width)
    }
}

/// The first cell of a chunk, without the offset within the element.
fn cells(start: &[u64]) -> &[u64] {
    start.split_last().map_or(start, |(_, cells)| cells)
}

fn damaged(how: &str) -> Error {
    Error::Corrupt(format!("the {WHAT} is damaged: {how}"))
}
