//! Chunk addresses: from the place of a chunk in the grid to the key of its object.

use std::fmt::Write;

use async_trait::async_trait;

use crate::array::chunk::{ChunkAddress, ChunkGrid, ChunkIndex};
use crate::error::{Error, Result};

/// How the objects of an array are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    /// What stands before every key of the array: its path and a slash; empty for the root.
    pub(super) prefix: String,
    /// The style of the rest.
    pub(super) style: KeyStyle,
    /// `.` or `/`.
    pub(super) separator: char,
}

/// What the keys of chunks look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyStyle {
    /// `c/0/1`, and `c` when there is no dimension.
    Default,
    /// `0.1`, and `0` when there is no dimension.
    V2,
}

impl Keys {
    /// The key of the object at `coord` (in objects, one entry a dimension).
    pub(super) fn key(&self, coord: &[u64]) -> String {
        let mut key = self.prefix.clone();
        match self.style {
            KeyStyle::Default => key.push('c'),
            KeyStyle::V2 if coord.is_empty() => key.push('0'),
            KeyStyle::V2 => {}
        }
        for (axis, at) in coord.iter().enumerate() {
            if axis > 0 || self.style == KeyStyle::Default {
                key.push(self.separator);
            }
            // Writing to a string cannot fail.
            let _ = write!(key, "{at}");
        }
        key
    }

    /// The place of the object with this key in a grid of `rank` dimensions; `None` for what is no such key.
    pub(super) fn coord(&self, key: &str, rank: usize) -> Option<Vec<u64>> {
        let rest = key.strip_prefix(&self.prefix)?;
        let rest = match (self.style, rank) {
            (KeyStyle::Default, 0) => return (rest == "c").then(Vec::new),
            (KeyStyle::V2, 0) => return (rest == "0").then(Vec::new),
            (KeyStyle::Default, _) => rest.strip_prefix('c')?.strip_prefix(self.separator)?,
            (KeyStyle::V2, _) => rest,
        };
        let coord: Option<Vec<u64>> = rest
            .split(self.separator)
            .map(|at| at.parse().ok())
            .collect();
        coord.filter(|coord| coord.len() == rank && self.key(coord) == key)
    }
}

/// The index of an array that has an object for each chunk: no I/O at all.
#[derive(Debug)]
pub(super) struct Objects {
    pub(super) grid: ChunkGrid,
    pub(super) keys: Keys,
}

#[async_trait]
impl ChunkIndex for Objects {
    async fn locate(&self, chunks: &[u64]) -> Result<Vec<ChunkAddress>> {
        chunks
            .iter()
            .map(|chunk| {
                let coord = coord(&self.grid, *chunk)?;
                Ok(ChunkAddress::Object(self.keys.key(&coord).into()))
            })
            .collect()
    }
}

/// The place of a chunk in the grid.
pub(super) fn coord(grid: &ChunkGrid, chunk: u64) -> Result<Vec<u64>> {
    if chunk < grid.len() {
        Ok(grid.coord(chunk))
    } else {
        Err(Error::Invalid(format!(
            "there is no chunk {chunk} in a grid of {} chunks",
            grid.len()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_both_styles() {
        let keys = |style, separator| Keys {
            prefix: "a/b/".into(),
            style,
            separator,
        };
        assert_eq!(keys(KeyStyle::Default, '/').key(&[1, 20]), "a/b/c/1/20");
        assert_eq!(keys(KeyStyle::Default, '.').key(&[1, 20]), "a/b/c.1.20");
        assert_eq!(keys(KeyStyle::Default, '/').key(&[]), "a/b/c");
        assert_eq!(keys(KeyStyle::V2, '.').key(&[1, 20]), "a/b/1.20");
        assert_eq!(keys(KeyStyle::V2, '/').key(&[7]), "a/b/7");
        assert_eq!(keys(KeyStyle::V2, '.').key(&[]), "a/b/0");
    }

    #[test]
    fn keys_tell_their_places() {
        for style in [KeyStyle::Default, KeyStyle::V2] {
            for separator in ['.', '/'] {
                let keys = Keys {
                    prefix: "a/".into(),
                    style,
                    separator,
                };
                // Without dimensions a key is that of the first of one.
                assert_eq!(keys.coord(&keys.key(&[]), 0).as_deref(), Some(&[][..]));
                for coord in [&[0][..], &[7, 20], &[1, 0, 3]] {
                    let key = keys.key(coord);
                    assert_eq!(
                        keys.coord(&key, coord.len()).as_deref(),
                        Some(coord),
                        "{key}"
                    );
                    assert_eq!(keys.coord(&key, coord.len() + 1), None, "{key}");
                }
                for other in [
                    "a/zarr.json",
                    "a/.zarray",
                    "b/c/0/1",
                    "a/c/00/1",
                    "a/01.1",
                    "a/c/-1/0",
                ] {
                    assert_eq!(keys.coord(other, 2), None, "{other}");
                }
            }
        }
    }
}
