//! Datasets as schemas and paths as tables: `FROM 'file.nc'`, `FROM 'file.nc'.tas`, `FROM name.tas`.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::UrlTableFactory;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::TableType;
use datafusion::error::DataFusionError;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::catalog::guard::Access;
use crate::catalog::system::{self, SystemSchema};
use crate::catalog::{Catalog, Opened, grow, location, tables};
use crate::error::Error;
use crate::query::engine_error;
use crate::query::insert::InsertTarget;
use crate::query::table::ArrayTable;

/// Extensions of array datasets: a name that ends so is meant as a path, even when nothing is there.
pub const EXTENSIONS: &[&str] = &[
    "nc", "nc4", "cdf", "h5", "hdf", "hdf5", "he5", "zarr", "b2nd", "b2d", "b2frame", "icechunk",
];

/// A catalog whose schemas are those of another one, and datasets besides.
#[derive(Debug)]
pub struct DatasetCatalog {
    inner: Arc<dyn CatalogProvider>,
    catalog: Arc<Catalog>,
    files: Arc<dyn UrlTableFactory>,
}

impl DatasetCatalog {
    /// Puts datasets in front of `inner`; paths that are no array datasets go to `files`.
    #[must_use]
    pub fn new(
        inner: Arc<dyn CatalogProvider>,
        catalog: Arc<Catalog>,
        files: Arc<dyn UrlTableFactory>,
    ) -> Self {
        Self {
            inner,
            catalog,
            files,
        }
    }
}

impl CatalogProvider for DatasetCatalog {
    fn schema_names(&self) -> Vec<String> {
        let mut names = self.inner.schema_names();
        for name in self.catalog.names() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if let Some(inner) = self.inner.schema(name) {
            return Some(Arc::new(PathSchema {
                inner,
                catalog: Arc::clone(&self.catalog),
                files: Arc::clone(&self.files),
            }));
        }
        let (plain, version) = location::split(name);
        let named = self.catalog.location_of(plain);
        if named.is_none() && name == system::NAME {
            return Some(Arc::new(SystemSchema));
        }
        let location = named.or_else(|| is_location(plain).then(|| plain.to_owned()))?;
        let location = format!("{location}{version}");
        Some(Arc::new(DatasetSchema {
            location,
            catalog: Arc::clone(&self.catalog),
        }))
    }

    fn register_schema(
        &self,
        name: &str,
        schema: Arc<dyn SchemaProvider>,
    ) -> Result<Option<Arc<dyn SchemaProvider>>> {
        self.inner.register_schema(name, schema)
    }

    fn deregister_schema(
        &self,
        name: &str,
        cascade: bool,
    ) -> Result<Option<Arc<dyn SchemaProvider>>> {
        if self.inner.schema(name).is_none() && self.catalog.location_of(name).is_some() {
            let schema = self.schema(name);
            self.catalog.forget(name);
            return Ok(schema);
        }
        self.inner.deregister_schema(name, cascade)
    }
}

/// A schema in which a path or the name of a dataset is a table too: its main one.
#[derive(Debug)]
struct PathSchema {
    inner: Arc<dyn SchemaProvider>,
    catalog: Arc<Catalog>,
    files: Arc<dyn UrlTableFactory>,
}

#[async_trait]
impl SchemaProvider for PathSchema {
    fn owner_name(&self) -> Option<&str> {
        self.inner.owner_name()
    }

    fn table_names(&self) -> Vec<String> {
        self.inner.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(table) = self.inner.table(name).await? {
            return Ok(Some(table));
        }
        let (plain, version) = location::split(name);
        let named = self.catalog.location_of(plain);
        let named = named.map(|location| format!("{location}{version}"));
        if named.is_none() && !is_location(plain) {
            return Ok(None);
        }
        let location = named.as_deref().unwrap_or(name);
        let unknown = match self.catalog.open(location).await {
            Ok(opened) => return main_provider(&self.catalog, &opened).await.map(Some),
            Err(error @ Error::Unsupported(_)) => error,
            Err(error) => return Err(engine_error(error)),
        };
        // Not an array dataset: perhaps a file of rows.
        let place = self
            .catalog
            .place(location::split(location).0, Access::Read);
        let place = place.map_err(engine_error)?;
        if self.catalog.is_confined() && !is_one_file(&place) {
            return Err(engine_error(unknown));
        }
        match self.files.try_new(&place).await {
            Ok(Some(table)) => Ok(Some(table)),
            Ok(None) | Err(_) => Err(engine_error(unknown)),
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        self.inner.table_type(name).await
    }

    fn register_table(
        &self,
        name: String,
        table: Arc<dyn TableProvider>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        self.inner.register_table(name, table)
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.inner.deregister_table(name)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.inner.table_exist(name)
    }
}

/// The tables of one dataset, opened when the first is asked for.
#[derive(Debug)]
struct DatasetSchema {
    location: String,
    catalog: Arc<Catalog>,
}

#[async_trait]
impl SchemaProvider for DatasetSchema {
    fn table_names(&self) -> Vec<String> {
        match open_blocking(&self.catalog, &self.location) {
            Ok(opened) => tables::tables(&opened)
                .iter()
                .map(|table| table.name.clone())
                .collect(),
            // A dataset that cannot be opened has no tables to list; asking for one tells why.
            Err(_) => Vec::new(),
        }
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let opened = self
            .catalog
            .open(&self.location)
            .await
            .map_err(engine_error)?;
        let parts = tables::table(&opened, name).map_err(engine_error)?;
        provider(&self.catalog, &opened, &parts).await.map(Some)
    }

    async fn table_type(&self, _: &str) -> Result<Option<TableType>> {
        Ok(Some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|table| table == name)
    }
}

/// The main table of a dataset.
///
/// # Errors
/// As [`tables::main_table`] and [`tables::grid`].
pub async fn main_provider(
    catalog: &Arc<Catalog>,
    opened: &Opened,
) -> Result<Arc<dyn TableProvider>> {
    let parts = tables::main_table(opened).map_err(engine_error)?;
    provider(catalog, opened, &parts).await
}

/// The provider of one table of a dataset.
///
/// # Errors
/// As [`tables::grid`].
pub async fn provider(
    catalog: &Arc<Catalog>,
    opened: &Opened,
    parts: &tables::TableParts,
) -> Result<Arc<dyn TableProvider>> {
    ordered(catalog, opened, parts, &[]).await
}

/// The same with the columns of these names first, in this order.
///
/// # Errors
/// As [`tables::grid`].
pub async fn ordered(
    catalog: &Arc<Catalog>,
    opened: &Opened,
    parts: &tables::TableParts,
    columns: &[String],
) -> Result<Arc<dyn TableProvider>> {
    let options = catalog.options();
    let grid = tables::grid(opened, parts, &options)
        .await
        .map_err(engine_error)?;
    let table = ArrayTable::new(Arc::new(grid.ordered(columns)));
    if let Err(forbidden) = catalog.place(opened.store.location(), Access::Write) {
        return Ok(Arc::new(table.with_refusal(forbidden.to_string())));
    }
    if let Some(target) = grow::target(catalog, opened, parts, &options) {
        return Ok(Arc::new(table.with_target(target)));
    }
    Ok(Arc::new(match opened.target.clone() {
        None => table,
        Some(target) => table.with_target(InsertTarget {
            target,
            decode: tables::decode_options(opened, &options),
            group: parts.group().to_owned(),
            files: None,
        }),
    }))
}

/// Whether a place is one file on this machine: what lies in a folder, or matches a pattern, may lead somewhere else by links
/// that whoever lists it follows.
pub(crate) fn is_one_file(place: &str) -> bool {
    std::fs::metadata(place).is_ok_and(|found| found.is_file())
}

/// Whether a name ends as those of datasets do.
pub(crate) fn is_dataset_name(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, extension)| EXTENSIONS.contains(&extension))
}

/// Whether a name is meant as a path or URL.
fn is_location(name: &str) -> bool {
    name.contains('/')
        || is_dataset_name(name)
        || (name.contains('.') && std::path::Path::new(name).exists())
}

/// Runs a future to its end for a caller that is not asynchronous. The caller may be running on the thread of a runtime:
/// one with several threads lets a thread block, within another one only a thread of its own may.
pub(crate) fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> std::io::Result<T> {
    if let Ok(runtime) = Handle::try_current()
        && runtime.runtime_flavor() == RuntimeFlavor::MultiThread
    {
        return Ok(tokio::task::block_in_place(|| runtime.block_on(future)));
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            Ok(runtime.block_on(future))
        });
        thread
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("the opening thread failed")))
    })
}

/// [`Catalog::open`] for a caller that is not asynchronous.
///
/// # Errors
/// As [`Catalog::open`].
pub(crate) fn open_blocking(catalog: &Arc<Catalog>, location: &str) -> Result<Arc<Opened>> {
    block_on(catalog.open(location))
        .map_err(DataFusionError::IoError)?
        .map_err(engine_error)
}
