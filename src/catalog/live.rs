//! Tables with names of their own: what a dataset is whenever a statement is planned.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Constraints, Result};
use datafusion::datasource::TableType;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use crate::catalog::{Catalog, provider, tables};
use crate::error::Error;
use crate::query::engine_error;
use crate::query::table::push_down;

/// Which table of which dataset.
#[derive(Clone, Debug)]
pub struct Place {
    /// Path or URL of the dataset.
    pub location: String,
    /// What it has to be stored as.
    pub format: String,
    /// Name of the table; without it, the main one.
    pub table: Option<String>,
    /// Columns that come first, in this order.
    pub columns: Vec<String>,
}

/// A table whose dataset is opened anew for each statement, since it may have grown.
#[derive(Debug)]
pub struct LiveTable {
    catalog: Arc<Catalog>,
    place: Place,
    schema: SchemaRef,
    constraints: Option<Constraints>,
}

impl LiveTable {
    /// The table at a place.
    ///
    /// # Errors
    /// As [`Catalog::open_as`] and [`tables::table`].
    pub async fn open(catalog: Arc<Catalog>, place: Place) -> Result<Self> {
        let now = now(&catalog, &place).await?;
        Ok(Self {
            schema: now.schema(),
            constraints: now.constraints().cloned(),
            catalog,
            place,
        })
    }

    /// The table as it is now.
    async fn now(&self) -> Result<Arc<dyn TableProvider>> {
        let now = now(&self.catalog, &self.place).await?;
        let columns = |schema: &SchemaRef| {
            let fields = schema.fields().iter();
            let columns = fields.map(|field| (field.name().clone(), field.data_type().clone()));
            columns.collect::<Vec<_>>()
        };
        if columns(&now.schema()) == columns(&self.schema) {
            return Ok(now);
        }
        Err(engine_error(Error::Conflict(format!(
            "{} has other columns than when its table was created; DROP TABLE and CREATE EXTERNAL TABLE make it anew",
            self.place.location
        ))))
    }
}

async fn now(catalog: &Arc<Catalog>, place: &Place) -> Result<Arc<dyn TableProvider>> {
    let opened = catalog.open_as(&place.location, Some(&place.format)).await;
    let opened = opened.map_err(engine_error)?;
    let parts = match &place.table {
        Some(table) => tables::table(&opened, table),
        None => tables::main_table(&opened),
    };
    let parts = parts.map_err(engine_error)?;
    provider::ordered(catalog, &opened, &parts, &place.columns).await
}

#[async_trait]
impl TableProvider for LiveTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn constraints(&self) -> Option<&Constraints> {
        self.constraints.as_ref()
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(push_down(filters))
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let now = self.now().await?;
        now.scan(state, projection, filters, limit).await
    }

    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        operation: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let now = self.now().await?;
        now.insert_into(state, input, operation).await
    }
}
