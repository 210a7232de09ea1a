//! What is known of the engine itself, as tables of the schema `hyperslab`.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt64Array};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::common::Result;

use crate::query::engine_error;
use crate::store::cache::{Cache, Statistic};

/// The name of the schema.
pub(super) const NAME: &str = "hyperslab";

/// The schema.
#[derive(Debug)]
pub(super) struct SystemSchema;

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        vec!["cache".to_owned()]
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match name {
            "cache" => cache().map(Some),
            _ => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        name == "cache"
    }
}

/// How the cache of remote objects does, as it is when the statement is planned.
fn cache() -> Result<Arc<dyn TableProvider>> {
    let all = Cache::shared().map_err(engine_error)?.statistics();
    let text = |of: fn(&Statistic) -> &'static str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(all.iter().map(of)))
    };
    let values = UInt64Array::from_iter_values(all.iter().map(|one| one.value));
    let batch = RecordBatch::try_from_iter([
        ("name", text(|one| one.name)),
        ("value", Arc::new(values) as ArrayRef),
        ("meaning", text(|one| one.meaning)),
    ])?;
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
    Ok(Arc::new(table))
}
