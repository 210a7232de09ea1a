//! DataFusion's side of tables: which rows and columns, and the scan that reads no more than them.

pub mod aggregate;
mod ahead;
pub mod align;
pub mod copy;
pub mod cost;
pub mod grid;
pub mod insert;
pub mod join;
pub mod lowrank;
pub mod members;
mod metrics;
mod promises;
pub mod prune;
pub mod scan;
mod sets;
mod stream;
pub mod table;
mod tile;
mod view;

use std::any::Any;
use std::ops::Deref;
use std::sync::Arc;

use arrow::array::Array;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::common::extensions_options;
use datafusion::error::DataFusionError;
use datafusion::physical_optimizer::PhysicalOptimizerRule;

use crate::error::Error;
use crate::query::aggregate::ArrayReduce;
use crate::query::join::GridJoin;
use crate::query::sets::GroupingSets;

extensions_options! {
    /// The values of the settings.
    pub struct Settings {
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
        /// Joins of arrays on their dimensions become one scan.
        pub push_joins: bool, default = true
        /// Row counts and the extremes of dimensions are answered from the grid.
        pub use_statistics: bool, default = true
        /// Bytes of decoded data that a partition aims to hold at once, if chunks are not larger.
        pub tile_bytes: usize, default = 1_048_576
        /// Aggregates over a grid are reduced where its chunks are decoded: `auto`, `partial` (the engine finishes partial states) or `off`.
        pub reduce_mode: String, default = "auto".to_string()
        /// Reductions of stored numbers by dense kernels.
        pub reduce_dense: bool, default = true
        /// Reductions of any function with groups that are computed, not hashed.
        pub reduce_grouped: bool, default = true
        /// Most bytes of accumulators of a reduction; above it the rows are aggregated.
        pub reduce_max_bytes: usize, default = 1_073_741_824
        /// What `INSERT` does about values of the growing dimension that are there: `error`, `skip`, or `replace` their cells.
        pub insert_existing: String, default = "error".to_string()
        /// What `INSERT` does about cells and variables without a value in the rows: `error`, or `fill` with missing values.
        pub insert_missing: String, default = "error".to_string()
        /// The dimension that `INSERT` lets grow; empty: `time`, if there is one, else the first.
        pub append_dim: String, default = String::new()
        /// How long a writer waits while another one writes, like `30s`; 0 fails at once.
        pub lock_timeout: String, default = "60s".to_string()
        /// How long a writer of a dataset in an object store may be silent before others take over.
        pub lock_lease: String, default = "30s".to_string()
        /// Whether what was inserted survives a loss of power: `full`, or `none`.
        pub durability: String, default = "full".to_string()
        /// How the rows are compressed that a server sends: `none`, `lz4` or `zstd`.
        pub compression: String, default = "none".to_string()
        /// Largest number of bytes that a partition gathers so that variables with different chunks are each decoded once.
        pub rechunk_bytes: usize, default = 67_108_864
    }
}

/// How rows can be compressed.
const COMPRESSIONS: [&str; 3] = ["none", "lz4", "zstd"];

/// The settings of hyperslab: `SET hyperslab.<name> = <value>`, `SHOW hyperslab.<name>`.
#[derive(Clone, Debug, Default)]
pub struct HyperslabOptions(Settings);

impl Deref for HyperslabOptions {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.0
    }
}

impl ConfigExtension for HyperslabOptions {
    const PREFIX: &'static str = "hyperslab";
}

impl ExtensionOptions for HyperslabOptions {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), DataFusionError> {
        if key == "compression" && !COMPRESSIONS.contains(&value) {
            return Err(engine_error(Error::Invalid(format!(
                "hyperslab.compression is '{value}', but has to be one of {}",
                COMPRESSIONS.join(", ")
            ))));
        }
        self.0.set(key, value)
    }

    /// The engine lists and shows settings by these names, so they need their prefix.
    fn entries(&self) -> Vec<ConfigEntry> {
        let mut entries = self.0.entries();
        for entry in &mut entries {
            entry.key = format!("{}.{}", Self::PREFIX, entry.key);
        }
        entries
    }
}

/// The rules of an engine with ours among them: before the one that adds exchanges and sorts, so that plans are still as
/// they were meant. Rules that are there already stay as they are.
#[must_use]
pub fn rules(mut rules: Vec<Rule>) -> Vec<Rule> {
    let ours: [Rule; 3] = [
        Arc::new(GridJoin),
        Arc::new(ArrayReduce),
        Arc::new(GroupingSets),
    ];
    for rule in ours {
        if rules.iter().all(|other| other.name() != rule.name())
            && let Some(at) = rules
                .iter()
                .position(|other| other.name() == "EnsureRequirements")
        {
            rules.insert(at, rule);
        }
    }
    rules
}

type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// A value as messages show it.
#[must_use]
pub fn show(column: &dyn Array, row: usize) -> String {
    ArrayFormatter::try_new(column, &FormatOptions::default())
        .map(|formatter| formatter.value(row).to_string())
        .unwrap_or_default()
}

/// The engine's error for one of ours; the sentence stays, its kind can be got back by downcasting.
#[must_use]
pub fn engine_error(error: Error) -> DataFusionError {
    match error {
        Error::Exhausted(text) => DataFusionError::ResourcesExhausted(text),
        error => DataFusionError::External(Box::new(error)),
    }
}
