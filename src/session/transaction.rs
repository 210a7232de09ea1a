//! Several INSERTs that become one version of a dataset.
//!
//! ```text
//! add       the rows of an INSERT are computed and kept in a file; the dataset does not change
//! commit    one INSERT of all rows, in their order: there at once, or not at all
//! dropped   nothing has happened
//! ```

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Fields, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{Result, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SendableRecordBatchStream, SpillFile, TaskContext};
use datafusion::logical_expr::{DmlStatement, LogicalPlan, LogicalPlanBuilder, WriteOp};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use datafusion::physical_plan::spill::SpillManager;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{StreamExt, TryStreamExt, stream};

use super::Session;
use super::statement::{Kind, Prepared};
use crate::error::Error;
use crate::query::engine_error;

/// Rows of INSERTs into one table, which are not there before they are committed.
#[derive(Debug, Default)]
pub struct Transaction {
    /// The first INSERT, of which all others are more rows.
    first: Option<DmlStatement>,
    rows: Vec<Rows>,
}

/// The rows of one INSERT.
#[derive(Clone)]
struct Rows {
    spill: Arc<SpillManager>,
    /// `None` when there were none.
    file: Option<Arc<dyn SpillFile>>,
    count: u64,
}

impl Debug for Rows {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl Transaction {
    /// Whether a statement can be part of a transaction: an INSERT. Others are what they are, at once.
    #[must_use]
    pub fn takes(prepared: &Prepared) -> bool {
        match &prepared.0 {
            Kind::Plan(LogicalPlan::Dml(dml)) => matches!(dml.op, WriteOp::Insert(_)),
            _ => false,
        }
    }

    /// Computes the rows of an INSERT, and keeps them; returns how many they are.
    ///
    /// # Errors
    /// `Unsupported` for another statement than an INSERT, or one into another table or of another kind than those before;
    /// what goes wrong in computing the rows.
    pub async fn add(&mut self, session: &Session, prepared: Prepared) -> Result<u64> {
        let Kind::Plan(LogicalPlan::Dml(insert)) = prepared.0 else {
            return Err(refused("only INSERT can be part of a transaction"));
        };
        if let Some(first) = &self.first
            && (place(&first.table_name) != place(&insert.table_name) || first.op != insert.op)
        {
            return Err(refused(&format!(
                "a transaction changes one table in one way, and this one does {} on {}: commit it before {} on {}",
                first.op, first.table_name, insert.op, insert.table_name
            )));
        }
        let input = LogicalPlan::clone(&insert.input);
        let frame = session.run(Prepared(Kind::Plan(input))).await?;
        let environment = frame.task_ctx().runtime_env();
        let mut batches = frame.execute_stream().await?;
        let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
        let spill = SpillManager::new(environment, metrics, batches.schema());
        let mut file = spill.create_in_progress_file("rows of a transaction")?;
        let mut count = 0;
        while let Some(batch) = batches.try_next().await? {
            count += batch.num_rows() as u64;
            file.append_batch(&batch)?;
        }
        self.rows.push(Rows {
            file: file.finish()?,
            spill: Arc::new(spill),
            count,
        });
        self.first.get_or_insert(insert);
        Ok(count)
    }

    /// Inserts all rows in one version; returns how many they were.
    ///
    /// # Errors
    /// As an INSERT of all of them; then none of them is there.
    pub async fn commit(self, session: &Session) -> Result<u64> {
        let Some(first) = self.first else {
            return Ok(0);
        };
        let count = self.rows.iter().map(|rows| rows.count).sum();
        // Each INSERT knows of its own rows only whether there is NULL among them.
        let fields = first.input.schema().fields().iter();
        let fields: Fields = fields
            .map(|field| field.as_ref().clone().with_nullable(true))
            .collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let all = Arc::new(All {
            schema: Arc::clone(&schema),
            rows: self.rows,
        });
        let table = Arc::new(StreamingTable::try_new(schema, vec![all])?);
        let input = LogicalPlanBuilder::scan("rows", provider_as_source(table), None)?.build()?;
        let insert = DmlStatement::new(first.table_name, first.target, first.op, Arc::new(input));
        let insert = Prepared(Kind::Plan(LogicalPlan::Dml(insert)));
        session.run(insert).await?.collect().await?;
        Ok(count)
    }
}

/// The name of a table, however much of it is said.
fn place(name: &TableReference) -> (Option<&str>, &str) {
    (name.schema(), name.table())
}

fn refused(text: &str) -> datafusion::error::DataFusionError {
    engine_error(Error::Unsupported(text.to_owned()))
}

/// The rows of all INSERTs, in their order.
#[derive(Debug)]
struct All {
    schema: SchemaRef,
    rows: Vec<Rows>,
}

impl PartitionStream for All {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let files = self.rows.clone().into_iter();
        let files = files.filter_map(|rows| Some((rows.spill, rows.file?)));
        let schema = Arc::clone(&self.schema);
        let batches = stream::iter(files)
            .map(|(spill, file)| spill.read_spill_as_stream(file, None))
            .try_flatten()
            .map(move |batch| {
                let columns = batch?.columns().to_vec();
                Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
            });
        let schema = Arc::clone(&self.schema);
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }
}
