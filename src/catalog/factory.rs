//! `CREATE EXTERNAL TABLE name STORED AS NETCDF | HDF5 | ZARR | BLOSC2 LOCATION '…' [OPTIONS ('variable' 'tas')]`.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::common::Result;
use datafusion::logical_expr::CreateExternalTable;

use crate::catalog::{Catalog, provider, tables};
use crate::error::Error;
use crate::query::engine_error;

/// The words after `STORED AS`.
pub const STORED_AS: &[&str] = &[
    "NETCDF", "NETCDF4", "NETCDF3", "HDF5", "ZARR", "ICECHUNK", "BLOSC2", "B2ND",
];

/// Makes tables of datasets.
#[derive(Debug)]
pub struct DatasetTableFactory {
    catalog: Arc<Catalog>,
}

impl DatasetTableFactory {
    /// A factory that opens datasets through `catalog`.
    #[must_use]
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog }
    }
}

#[async_trait]
impl TableProviderFactory for DatasetTableFactory {
    async fn create(
        &self,
        _: &dyn Session,
        statement: &CreateExternalTable,
    ) -> Result<Arc<dyn TableProvider>> {
        let invalid = |text: String| engine_error(Error::Invalid(text));
        let [location] = statement.locations.as_slice() else {
            return Err(invalid(format!(
                "table {}: a dataset has one LOCATION",
                statement.name
            )));
        };
        if !statement.schema.fields().is_empty() {
            return Err(invalid(format!(
                "table {}: the columns of a dataset are its own; leave the column list out",
                statement.name
            )));
        }
        let mut variable = None;
        for (key, value) in &statement.options {
            match key.strip_prefix("format.").unwrap_or(key) {
                "variable" | "table" => variable = Some(value.as_str()),
                other => {
                    return Err(invalid(format!(
                        "table {}: unknown option '{other}'; known is 'variable'",
                        statement.name
                    )));
                }
            }
        }
        let opened = self
            .catalog
            .open_as(location, Some(&statement.file_type))
            .await
            .map_err(engine_error)?;
        match variable {
            None => provider::main_provider(&self.catalog, &opened).await,
            Some(variable) => {
                let parts = tables::table(&opened, variable).map_err(engine_error)?;
                provider::provider(&self.catalog, &opened, &parts).await
            }
        }
    }
}
