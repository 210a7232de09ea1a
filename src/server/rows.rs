//! Rows on their way to clients: run apart from the network, in messages that every client takes, until they are fetched,
//! the client is gone, or the statement is cancelled.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use datafusion::common::Result as EngineResult;
use datafusion::execution::SendableRecordBatchStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tonic::Status;

use super::status::status;

/// Bytes of a message: below the 4 MiB that clients take if nobody tells them otherwise.
const MESSAGE: usize = 2 << 20;

/// Batches that are ready before they are sent.
const READY: usize = 2;

/// What a client gets.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;

/// The schema that clients get: types that some of them do not know become such that all do.
pub(super) fn plain(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter();
    let fields: Vec<Field> = fields
        .map(|field| {
            let data_type = plain_type(field.data_type());
            field.as_ref().clone().with_data_type(data_type)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type()),
        other => other.clone(),
    }
}

fn plain_batch(schema: &SchemaRef, batch: &RecordBatch) -> EngineResult<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| {
        if column.data_type() == field.data_type() {
            Ok(Arc::clone(column))
        } else {
            cast(column, field.data_type())
        }
    });
    let columns = columns.collect::<Result<_, _>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}

/// How rows are written that are compressed in a way of the settings.
///
/// # Errors
/// `INTERNAL` when they cannot be.
pub(super) fn compressed(way: &str) -> Result<IpcWriteOptions, Status> {
    let compression = match way {
        "lz4" => Some(CompressionType::LZ4_FRAME),
        "zstd" => Some(CompressionType::ZSTD),
        _ => None,
    };
    let options = IpcWriteOptions::default().try_with_compression(compression);
    options.map_err(|error| Status::internal(error.to_string()))
}

/// What a statement has given so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Given {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

/// Stops what nobody waits for any more.
pub(super) struct Stop(pub(super) AbortHandle);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends the rows of a statement. It runs on `workers`; when it ends, however that is, `end` is told what it has given and
/// how it ended.
pub(super) fn send(
    schema: &SchemaRef,
    mut rows: SendableRecordBatchStream,
    options: IpcWriteOptions,
    workers: &Handle,
    limit: Duration,
    end: impl FnOnce(Given, Option<&Status>) + Send + 'static,
) -> (Messages, AbortHandle) {
    let (sender, receiver) = mpsc::channel(READY);
    let own = Arc::clone(schema);
    let until = Instant::now() + limit;
    let task = workers.spawn(async move {
        let mut ended = Ended {
            given: Given::default(),
            status: Some(Status::cancelled("the statement was cancelled")),
            end: Some(end),
        };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(next) = tokio::time::timeout(left, rows.next()).await else {
                ended.status = Some(late(limit));
                let _ = sender.send(Err(late(limit))).await;
                return;
            };
            let batch = match next {
                None => {
                    ended.status = None;
                    return;
                }
                Some(batch) => batch.and_then(|batch| plain_batch(&own, &batch)),
            };
            match batch {
                Ok(batch) => {
                    let (rows, bytes) = (batch.num_rows(), batch.get_array_memory_size());
                    ended.given.rows += rows as u64;
                    ended.given.bytes += bytes as u64;
                    let left = until.saturating_duration_since(Instant::now());
                    // Nobody may be there any more, or be too slow.
                    match tokio::time::timeout(left, sender.send(Ok(batch))).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) | Err(_) => return,
                    }
                }
                Err(error) => {
                    let status = status(&error);
                    ended.status = Some(status.clone());
                    let _ = sender.send(Err(status)).await;
                    return;
                }
            }
        }
    });
    let abort = task.abort_handle();
    let running = Stop(task.abort_handle());
    let batches = stream::unfold((receiver, running, task, false), |state| async move {
        let (mut receiver, running, mut task, is_over) = state;
        if is_over {
            return None;
        }
        if let Some(batch) = receiver.recv().await {
            return Some((batch, (receiver, running, task, false)));
        }
        // Whether it ended by itself, or was cancelled.
        match (&mut task).await {
            Ok(()) => None,
            Err(_) => {
                let cancelled = Err(Status::cancelled("the statement was cancelled"));
                Some((cancelled, (receiver, running, task, true)))
            }
        }
    });
    let batches = batches.map_err(|status: Status| FlightError::Tonic(Box::new(status)));
    let messages = FlightDataEncoderBuilder::new()
        .with_schema(Arc::clone(schema))
        .with_options(options)
        .with_max_flight_data_size(MESSAGE)
        .build(batches)
        .map_err(Status::from);
    (Box::pin(messages), abort)
}

/// What a statement ends with that takes longer than it may.
pub(super) fn late(limit: Duration) -> Status {
    Status::deadline_exceeded(format!(
        "the statement did not end within {} seconds",
        limit.as_secs()
    ))
}

/// The batches in messages that a client sends; the first of them has been looked at already.
pub(super) fn received(
    messages: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
) -> FlightRecordBatchStream {
    FlightRecordBatchStream::new_from_flight_data(
        messages.map_err(|status| FlightError::Tonic(Box::new(status))),
    )
}

/// Tells how a statement has ended, also when it is cancelled.
struct Ended<F: FnOnce(Given, Option<&Status>)> {
    given: Given,
    status: Option<Status>,
    end: Option<F>,
}

impl<F: FnOnce(Given, Option<&Status>)> Drop for Ended<F> {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end(self.given, self.status.as_ref());
        }
    }
}

/// Sends rows that are there.
pub(super) fn send_batch(batch: RecordBatch) -> Messages {
    let messages = FlightDataEncoderBuilder::new()
        .with_schema(batch.schema())
        .with_max_flight_data_size(MESSAGE)
        .build(stream::iter([Ok(batch)]))
        .map_err(Status::from);
    Box::pin(messages)
}
