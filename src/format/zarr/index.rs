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
}
