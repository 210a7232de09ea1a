//! DataFusion's side of one table: which rows and columns, and the scan that reads no more than them.

pub mod grid;
pub mod prune;
pub mod scan;
mod stream;
pub mod table;
mod tile;

use datafusion::common::config::ConfigExtension;
use datafusion::common::extensions_options;
use datafusion::error::DataFusionError;

use crate::error::Error;

extensions_options! {
    /// The settings of hyperslab: `SET hyperslab.<name> = <value>`.
    pub struct HyperslabOptions {
        /// Apply CF conventions (missing values, packing, times). Off: the stored values.
        pub decode: bool, default = true
        /// NaN is NULL.
        pub nan_as_null: bool, default = true
        /// Every dimension `d` also has its index as a column `d_i`.
        pub index_columns: bool, default = false
        /// Predicates on one dimension become index sets before anything is read.
        pub push_index_sets: bool, default = true
        /// Predicates on several dimensions of low rank become masks before data is read.
        pub push_planes: bool, default = true
        /// Filters that other operators learn while they run skip chunks.
        pub push_dynamic: bool, default = true
        /// Row counts and the extremes of dimensions are answered from the grid.
        pub use_statistics: bool, default = true
        /// Bytes of decoded data that a partition aims to hold at once, if chunks are not larger.
        pub tile_bytes: usize, default = 1_048_576
        /// Largest number of bytes that a partition gathers so that variables with different chunks are each decoded once.
        pub rechunk_bytes: usize, default = 67_108_864
    }
}

impl ConfigExtension for HyperslabOptions {
    const PREFIX: &'static str = "hyperslab";
}

/// The engine's error for one of ours; the sentence stays, its kind can be got back by downcasting.
#[must_use]
pub fn engine_error(error: Error) -> DataFusionError {
    match error {
        Error::Exhausted(text) => DataFusionError::ResourcesExhausted(text),
        error => DataFusionError::External(Box::new(error)),
    }
}
