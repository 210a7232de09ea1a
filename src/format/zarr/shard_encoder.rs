//! Shards being written: chunks one after another, and the index of their places.

use super::dtype::DataType;
use super::encoders::recipe_v3;
use super::json::{Json, NULL};
use super::shard::{Location, Sharding, UNWRITTEN};
use super::writer::{Recipe, extents};
use crate::array::slab::{Crop, Run, copy_cells, strides};
use crate::codec::encode::EncodeScratch;
use crate::error::{Error, Result};

/// How cells become a shard.
#[derive(Clone, Debug)]
pub(super) struct ShardEncoder {
    /// Extent of a chunk.
    chunk: Vec<usize>,
    index: Recipe,
    location: Location,
}

impl ShardEncoder {
    /// Reads the configuration of `sharding_indexed`; what becomes of a chunk within the shard comes with it.
    pub(super) fn parse(
        configuration: &Json,
        dtype: DataType,
        shard: &[u64],
    ) -> Result<(Recipe, Self)> {
        let rank = shard.len();
        let sharding = Sharding::parse(configuration, dtype, rank)?;
        let list = |key: &str| configuration.get(key).list().unwrap_or_default();
        let recipe = recipe_v3(list("codecs"), dtype, rank)?;
        let index = recipe_v3(list("index_codecs"), DataType::v3("uint64", &NULL, 1)?, 1)?;
        let tiles = shard
            .iter()
            .zip(&sharding.chunk)
            .all(|(shard, chunk)| *chunk > 0 && shard.is_multiple_of(*chunk));
        if !tiles {
            return Err(Error::Corrupt(format!(
                "shards of {shard:?} cannot be cut into chunks of {:?}",
                sharding.chunk
            )));
        }
        let encoder = Self {
            chunk: extents(&sharding.chunk)?,
            index,
            location: sharding.location,
        };
        Ok((recipe, encoder))
    }

    /// The stored bytes of a shard of `shape`, whose `cells` are in C order. Chunks with nothing but `fill` are left out.
    pub(super) fn encode(
        &self,
        shape: &[usize],
        cells: &[u8],
        fill: &[u8],
        recipe: &Recipe,
        scratch: &mut EncodeScratch,
    ) -> Result<Vec<u8>> {
        let size = fill.len();
        let counts: Vec<usize> = shape.iter().zip(&self.chunk).map(|(s, c)| s / c).collect();
        let chunks = counts.iter().product::<usize>();
        let index_length = self.index_length(chunks, scratch)?;
        let start = match self.location {
            Location::Start => index_length,
            Location::End => 0,
        };
        let mut body = Vec::new();
        let mut index = Vec::with_capacity(chunks * 16);
        let mut chunk = vec![0; self.chunk.iter().product::<usize>() * size];
        let (from, to) = (strides(shape), strides(&self.chunk));
        for number in 0..chunks {
            let crop = self.crop(&counts, number);
            copy_cells(cells, &from, &mut chunk, &to, &crop, size)?;
            let empty = chunk.chunks_exact(size.max(1)).all(|cell| cell == fill);
            let entry = if empty {
                UNWRITTEN
            } else {
                let encoded = recipe.encode(&self.chunk, &chunk, size, scratch)?;
                let offset = start + body.len();
                body.extend_from_slice(&encoded);
                (offset as u64, encoded.len() as u64)
            };
            index.extend_from_slice(&entry.0.to_le_bytes());
            index.extend_from_slice(&entry.1.to_le_bytes());
        }
        let index = self.encode_index(&index, scratch)?;
        Ok(match self.location {
            Location::Start => [index, body].concat(),
            Location::End => [body, index].concat(),
        })
    }

    /// The cells of chunk `number` (C order within the shard).
    fn crop(&self, counts: &[usize], number: usize) -> Crop {
        let mut rest = number;
        let mut runs: Vec<Vec<Run>> = counts
            .iter()
            .zip(&self.chunk)
            .rev()
            .map(|(count, extent)| {
                let at = rest % count;
                rest /= count;
                vec![Run {
                    from: at * extent,
                    to: 0,
                    length: *extent,
                }]
            })
            .collect();
        runs.reverse();
        Crop(runs)
    }

    fn index_length(&self, chunks: usize, scratch: &mut EncodeScratch) -> Result<usize> {
        // The codecs of an index do not change its size but by a checksum.
        Ok(self.encode_index(&vec![0; chunks * 16], scratch)?.len())
    }

    fn encode_index(&self, index: &[u8], scratch: &mut EncodeScratch) -> Result<Vec<u8>> {
        self.index.encode(&[index.len() / 8], index, 8, scratch)
    }
}
