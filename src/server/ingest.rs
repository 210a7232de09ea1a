//! Rows that clients send: into a table that is there, or a dataset that is made of them.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::sql::server::PeekableFlightDataStream;
use arrow_flight::sql::{CommandStatementIngest, TableExistsOption, TableNotExistOption};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tonic::Status;

use super::access::random;
use super::rows::received;
use super::service::{Said, run_in};
use super::status::status;
use crate::catalog::quote::{identifier, literal};
use crate::error::Error;
use crate::query::engine_error;
use crate::session::Session;

/// Takes the rows of a client; returns how many they were.
pub(super) async fn run(
    session: &Session,
    command: CommandStatementIngest,
    messages: PeekableFlightDataStream,
    open: Said,
) -> Result<i64, Status> {
    if command.temporary {
        return Err(Status::unimplemented(
            "there are no temporary tables to send rows to",
        ));
    }
    let mut batches = received(messages.into_peekable());
    let first = batches.next().await.transpose()?;
    let schema = match (&first, batches.schema()) {
        (Some(first), _) => first.schema(),
        (None, Some(schema)) => Arc::clone(schema),
        (None, None) => Arc::new(Schema::empty()),
    };
    let rest = batches.map_err(|error| DataFusionError::External(Box::new(error)));
    let rows = futures::stream::iter(first.map(Ok)).chain(rest);
    let rows = RecordBatchStreamAdapter::new(Arc::clone(&schema), rows);
    let table = target(&command);
    let statement = statement(session, &command, &table, &schema).await?;
    let sent = Arc::new(Sent {
        schema: Arc::clone(&schema),
        rows: Mutex::new(Some(Box::pin(rows))),
    });
    // Nobody else knows its name.
    let name = format!("sent_{}", random()?);
    let provider = StreamingTable::try_new(schema, vec![sent]).map_err(|e| status(&e))?;
    let context = session.context();
    context
        .register_table(name.as_str(), Arc::new(provider))
        .map_err(|e| status(&e))?;
    let sql = statement.replace("{rows}", &identifier(&name));
    let done = async {
        let prepared = session.prepare(&sql).await.map_err(|e| status(&e))?;
        let frame = run_in(&open, session, prepared).await?;
        let batches = frame.collect().await.map_err(|e| status(&e))?;
        Ok(batches.iter().map(super::service::changed).sum())
    };
    let done: Result<i64, Status> = done.await;
    let _ = context.deregister_table(name.as_str());
    done
}

/// The table that rows are sent to, as statements write it.
fn target(command: &CommandStatementIngest) -> String {
    let parts = [&command.catalog, &command.schema];
    let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
    let parts = parts.chain([&command.table]).map(|part| identifier(part));
    parts.collect::<Vec<_>>().join(".")
}

/// The statement that takes the rows `{rows}`.
async fn statement(
    session: &Session,
    command: &CommandStatementIngest,
    table: &str,
    schema: &Schema,
) -> Result<String, Status> {
    let options = command.table_definition_options.unwrap_or_default();
    let found = session.prepare(&format!("SELECT * FROM {table}")).await;
    let is_there = match found {
        Ok(_) => true,
        Err(error) => {
            let error = status(&error);
            let is_missing =
                error.code() == tonic::Code::NotFound || error.message().contains("not found");
            if !is_missing {
                return Err(error);
            }
            if options.if_not_exist() != TableNotExistOption::Create {
                return Err(error);
            }
            false
        }
    };
    let columns: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| identifier(field.name()))
        .collect();
    let columns = columns.join(", ");
    if is_there {
        return match options.if_exists() {
            TableExistsOption::Append => Ok(format!(
                "INSERT INTO {table} ({columns}) SELECT {columns} FROM {{rows}}"
            )),
            TableExistsOption::Replace => Err(Status::unimplemented(format!(
                "{table} is there, and a dataset is not replaced as a whole; append to it, or give it another name"
            ))),
            TableExistsOption::Fail | TableExistsOption::Unspecified => {
                Err(Status::already_exists(format!("{table} exists already")))
            }
        };
    }
    let location = match &command.schema {
        Some(schema) if !schema.is_empty() => format!("{schema}/{}", command.table),
        _ => command.table.clone(),
    };
    let options: Vec<String> = command
        .options
        .iter()
        .map(|(name, value)| format!("{} {}", literal(name), literal(value)))
        .collect();
    let options = match options.is_empty() {
        true => String::new(),
        false => format!(" OPTIONS ({})", options.join(", ")),
    };
    Ok(format!(
        "COPY (SELECT {columns} FROM {{rows}}) TO {}{options}",
        literal(&location)
    ))
}

/// Rows that come from a client, once.
struct Sent {
    schema: SchemaRef,
    rows: Mutex<Option<SendableRecordBatchStream>>,
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sent")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl PartitionStream for Sent {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        match self.rows.lock().take() {
            Some(rows) => rows,
            None => {
                let again = engine_error(Error::Invalid(
                    "rows that were sent are read once".to_owned(),
                ));
                let again = futures::stream::iter([Err(again)]);
                Box::pin(RecordBatchStreamAdapter::new(
                    Arc::clone(&self.schema),
                    again,
                ))
            }
        }
    }
}
