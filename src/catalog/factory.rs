//! `CREATE EXTERNAL TABLE name [(columns)] STORED AS NETCDF | HDF5 | ZARR | BLOSC2 LOCATION '…' [OPTIONS (…)]`.
//!
//! With columns, the dataset is made if it is not there.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::common::Result;
use datafusion::logical_expr::CreateExternalTable;

use crate::append::Target;
use crate::catalog::live::{LiveTable, Place};
use crate::catalog::stores::is_of_store;
use crate::catalog::{Catalog, format_called};
use crate::error::Error;
use crate::query::copy::empty;
use crate::query::engine_error;
use crate::query::insert::append_options;
use crate::query::table::options as settings;

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
        session: &dyn Session,
        statement: &CreateExternalTable,
    ) -> Result<Arc<dyn TableProvider>> {
        let invalid = |text: String| engine_error(Error::Invalid(text));
        let [location] = statement.locations.as_slice() else {
            return Err(invalid(format!(
                "table {}: a dataset has one LOCATION",
                statement.name
            )));
        };
        let plain = |key: &str| key.strip_prefix("format.").unwrap_or(key).to_owned();
        let given = statement.options.iter();
        let (store, options): (Vec<_>, Vec<_>) = given
            .map(|(key, value)| (key.clone(), value.clone()))
            .partition(|(key, _)| is_of_store(&plain(key)));
        if let Some((option, _)) = store.first()
            && self.catalog.is_confined()
        {
            return Err(engine_error(Error::Forbidden(format!(
                "table {}: option '{option}' must not be given here, as the server decides how stores are reached",
                statement.name
            ))));
        }
        if !store.is_empty() {
            let store = store.into_iter().map(|(key, value)| (plain(&key), value));
            self.catalog.reach(location, store.collect());
        }
        if !statement.schema.fields().is_empty() {
            let options = options.into_iter().collect();
            return self
                .create_empty(session, statement, location, &options)
                .await;
        }
        let mut variable = None;
        for (key, value) in &options {
            match key.strip_prefix("format.").unwrap_or(key) {
                "variable" | "table" => variable = Some(value.as_str()),
                other => {
                    return Err(invalid(format!(
                        "table {}: unknown option '{other}'; known are 'variable' and those of stores (aws_…, google_…, azure_…)",
                        statement.name
                    )));
                }
            }
        }
        let place = Place {
            location: location.clone(),
            format: statement.file_type.clone(),
            table: variable.map(str::to_owned),
            columns: Vec::new(),
        };
        Ok(Arc::new(
            LiveTable::open(Arc::clone(&self.catalog), place).await?,
        ))
    }
}

impl DatasetTableFactory {
    /// The table of a dataset with these columns, which is made if it is not there.
    async fn create_empty(
        &self,
        session: &dyn Session,
        statement: &CreateExternalTable,
        location: &str,
        options: &HashMap<String, String>,
    ) -> Result<Arc<dyn TableProvider>> {
        let schema = statement.schema.as_arrow();
        let name = &statement.name;
        let format = format_called(&statement.file_type).ok_or_else(|| {
            engine_error(Error::Invalid(format!(
                "table {name}: there is no format {}",
                statement.file_type
            )))
        })?;
        let store = self.catalog.store(location).map_err(engine_error)?;
        let target = Target::new(store, format);
        if !target.exists().await.map_err(engine_error)? {
            let append = append_options(&settings(session)).map_err(engine_error)?;
            let created = empty::create(&target, schema, options, append);
            created
                .await
                .map_err(|error| engine_error(error.within(format!("table {name}"))))?;
        }
        let declared = schema.fields().iter().map(|field| field.name().clone());
        let place = Place {
            location: location.to_owned(),
            format: statement.file_type.clone(),
            table: None,
            columns: declared.collect(),
        };
        let table = LiveTable::open(Arc::clone(&self.catalog), place).await?;
        let columns = table.schema();
        for field in schema.fields() {
            let found = columns.field_with_name(field.name()).ok();
            // The type in which values are stored, and so read, may be another one.
            let kind = |data_type: &DataType| {
                (
                    data_type.is_temporal(),
                    data_type.is_string(),
                    data_type.is_numeric(),
                )
            };
            let problem = match found {
                Some(found) if kind(found.data_type()) == kind(field.data_type()) => continue,
                Some(found) => format!("its column {} is {}", field.name(), found.data_type()),
                None => format!("it has no column {}", field.name()),
            };
            return Err(engine_error(Error::Conflict(format!(
                "table {name}: {location} is there already, and {problem}; leave the column list out to read it as it is"
            ))));
        }
        Ok(Arc::new(table))
    }
}
