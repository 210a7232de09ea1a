//! `COPY (SELECT …) TO 'new.zarr' [STORED AS ZARR] [OPTIONS (dims 'time,lat,lon', …)]`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{GetExt, Result, Statistics};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory};
use datafusion::datasource::physical_plan::{
    CsvSource, FileScanConfig, FileSinkConfig, FileSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::DataFusionError;
use datafusion::object_store::{ObjectMeta, ObjectStore};
use datafusion::physical_expr::LexRequirement;
use datafusion::physical_plan::ExecutionPlan;

use crate::append::Target;
use crate::catalog::format_called;
use crate::error::Error;
use crate::query::copy::CopySink;
use crate::query::engine_error;
use crate::query::insert::InsertOptions;
use crate::query::table::options;
use crate::store::Store;

/// The extensions by which a new dataset tells its format.
pub const EXTENSIONS: &[&str] = &[
    "zarr", "icechunk", "nc", "nc4", "cdf", "netcdf", "netcdf4", "h5", "hdf5", "b2nd", "b2d",
    "blosc2",
];

/// Makes datasets of rows.
#[derive(Clone, Debug)]
pub struct DatasetFormat {
    extension: &'static str,
    /// Options of the statement.
    statement: HashMap<String, String>,
}

impl DatasetFormat {
    /// The format that goes by an extension.
    #[must_use]
    pub fn new(extension: &'static str) -> Self {
        Self {
            extension,
            statement: HashMap::new(),
        }
    }

    /// Rows of files are read by this engine through tables, never through this.
    fn unread<T>(&self) -> Result<T> {
        Err(engine_error(Error::Invalid(format!(
            "datasets of format {} are read by their path, or as STORED AS tables",
            self.extension
        ))))
    }
}

impl GetExt for DatasetFormat {
    fn get_ext(&self) -> String {
        self.extension.to_owned()
    }
}

impl FileFormatFactory for DatasetFormat {
    fn create(
        &self,
        _: &dyn Session,
        statement: &HashMap<String, String>,
    ) -> Result<Arc<dyn FileFormat>> {
        Ok(Arc::new(Self {
            extension: self.extension,
            statement: statement.clone(),
        }))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl FileFormat for DatasetFormat {
    fn get_ext(&self) -> String {
        self.extension.to_owned()
    }

    fn get_ext_with_compression(&self, _: &FileCompressionType) -> Result<String> {
        Ok(self.extension.to_owned())
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        None
    }

    async fn infer_schema(
        &self,
        _: &dyn Session,
        _: &Arc<dyn ObjectStore>,
        _: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        self.unread()
    }

    async fn infer_stats(
        &self,
        _: &dyn Session,
        _: &Arc<dyn ObjectStore>,
        _: SchemaRef,
        _: &ObjectMeta,
    ) -> Result<Statistics> {
        self.unread()
    }

    async fn create_physical_plan(
        &self,
        _: &dyn Session,
        _: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.unread()
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        state: &dyn Session,
        sink: FileSinkConfig,
        _: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let format = format_called(self.extension).ok_or_else(|| {
            DataFusionError::Plan(format!("there is no format {}", self.extension))
        })?;
        let is_zarr_option = |name: &&String| name.trim_start_matches("format.") == "zarr_format";
        if format.name() != "zarr"
            && let Some(option) = self.statement.keys().find(is_zarr_option)
        {
            return Err(engine_error(Error::Invalid(format!(
                "option '{option}' is for Zarr, not for {}",
                format.name()
            ))));
        }
        let store = Store::open(&sink.original_url).map_err(engine_error)?;
        let options = InsertOptions::new(&options(state)).map_err(engine_error)?;
        CopySink::plan(input, Target::new(store, format), &self.statement, options)
            .map_err(engine_error)
    }

    /// Nothing is ever scanned through it, since no schema can be inferred.
    fn file_source(&self, schema: TableSchema) -> Arc<dyn FileSource> {
        Arc::new(CsvSource::new(schema))
    }
}
