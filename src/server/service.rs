//! The statements of Flight SQL, each by the session of who asks.

mod sql;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::sql::{
    CommandPreparedStatementQuery, CommandStatementQuery, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc, Ticket};
use datafusion::common::DataFusionError;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::MemTable;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::scalar::ScalarValue;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use prost::Message;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tonic::metadata::MetadataMap;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Extensions, Request, Response, Status};

use super::access::{Everybody, Principal};
use super::config::{Config, Limits, Store};
use super::handles::Handles;
use super::lanes::{Lanes, Permit, Size};
use super::log::Line;
use super::metrics::Metrics;
use super::rows::{Given, Messages, Stop, compressed, late, plain, send};
use super::status::{of, status};
use super::yielding::yielding;
use crate::session::{Prepared, Session, SessionOptions, Transaction};

/// Most bytes of a statement.
const STATEMENT: usize = 1 << 20;

/// What a plan needs to run once, for whoever has planned it.
#[derive(Debug)]
struct Planned {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    schema: SchemaRef,
    size: Size,
    sql: String,
}

/// A statement that a client comes back to.
#[derive(Debug)]
struct Kept {
    sql: String,
    /// The transaction that it was prepared in.
    transaction: Option<bytes::Bytes>,
    /// Rows of parameters that were bound last.
    bound: Mutex<Vec<Vec<ScalarValue>>>,
}

/// A transaction until it ends; its statements come one after the other.
pub(super) type Open = tokio::sync::Mutex<Option<Transaction>>;

/// What a statement says of its transaction. One that has ended matters to an INSERT only: clients that read go on for hours in
/// a transaction in which nothing happens.
pub(super) type Said = Option<Result<Arc<Open>, Status>>;

/// Somebody's session: settings, and tables with names.
#[derive(Debug)]
struct Own {
    session: Session,
    principal: Arc<Principal>,
    /// What it goes by.
    key: String,
}

impl Own {
    /// How its rows are written.
    fn write_options(&self) -> Result<IpcWriteOptions, Status> {
        compressed(&self.session.catalog().options().compression)
    }
}

/// Everything that requests share.
#[derive(Debug)]
struct Shared {
    everybody: Everybody,
    metrics: Arc<Metrics>,
    limits: Limits,
    /// How stores are reached.
    stores: Vec<Store>,
    lanes: Lanes,
    sessions: Handles<Own>,
    prepared: Handles<Kept>,
    planned: Handles<Planned>,
    transactions: Handles<Open>,
    /// Statements whose rows are being sent, by their handles, and whose they are.
    running: Mutex<HashMap<String, (String, AbortHandle)>>,
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Service(Arc<Shared>);

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    /// A service that nobody has asked yet.
    pub(super) fn new(config: &Config) -> crate::error::Result<Self> {
        let limits = config.limits.clone();
        Ok(Self(Arc::new(Shared {
            everybody: Everybody::new(config)?,
            stores: config.stores.clone(),
            metrics: Arc::default(),
            lanes: Lanes::new(config)?,
            sessions: Handles::new(limits.sessions, limits.handle()),
            prepared: Handles::new(limits.handles, limits.handle()),
            planned: Handles::new(limits.handles, limits.handle()),
            transactions: Handles::new(limits.handles, limits.handle()),
            running: Mutex::default(),
            limits,
        })))
    }

    /// The session of who asks.
    async fn own<T>(&self, request: &Request<T>) -> Result<Arc<Own>, Status> {
        let peer = address(request.extensions());
        let token = token(request.metadata())?;
        let everybody = &self.0.everybody;
        let principal = everybody
            .of_token(token.as_deref(), peer.map(|peer| peer.ip()))
            .await?;
        let connection = peer.map(|peer| peer.to_string()).unwrap_or_default();
        // A session lasts as long as the token that was given for a password, or as the connection.
        let token = token.unwrap_or_default();
        let key = format!("{}\n{token}\n{connection}", principal.name);
        let make = || {
            let session = Session::with_options(&SessionOptions {
                runtime: Some(Arc::clone(self.0.lanes.runtime(&principal.name))),
                ..SessionOptions::default()
            });
            let session = session.map_err(|error| status(&error))?;
            session.confine(principal.roots());
            for store in &self.0.stores {
                let options = store.options().map_err(|error| of(&error))?;
                session.reach(&store.prefix, options);
            }
            Ok(Own {
                session,
                principal: Arc::clone(&principal),
                key: key.clone(),
            })
        };
        self.0.sessions.get_or(&principal.name, &key, make)
    }

    /// Forgets the session of who asks.
    async fn close_session<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let own = self.own(request).await?;
        self.0
            .sessions
            .take(&own.principal.name, own.key.as_bytes())
            .map(drop)
    }

    /// The right to run, which has to be waited for while too many others do.
    async fn permit(&self, own: &Own, size: Size) -> Result<Permit, Status> {
        let shared = &self.0;
        let permit = shared
            .lanes
            .permit(&own.principal.name, size, &shared.metrics);
        permit.await
    }

    /// What has happened so far and happens now, as Prometheus reads it.
    pub(super) fn metrics(&self) -> String {
        let shared = &self.0;
        let (running, memory) = shared.lanes.used();
        shared.metrics.text(running, shared.sessions.len(), memory)
    }

    /// What counts what happens.
    pub(super) fn counts(&self) -> Arc<Metrics> {
        Arc::clone(&self.0.metrics)
    }

    /// Where much is decoded, apart from the network.
    pub(super) fn workers(&self) -> Handle {
        self.0.lanes.threads(Size::Much).clone()
    }

    /// Runs something short apart from the network.
    async fn on_workers<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<T, Status> {
        self.run(Size::Little, work).await
    }

    /// Runs something of a statement apart from the network.
    async fn run<T: Send + 'static>(
        &self,
        size: Size,
        work: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<T, Status> {
        let task = self.0.lanes.threads(size).spawn(work);
        let running = Stop(task.abort_handle());
        let done = task.await;
        drop(running);
        done.unwrap_or_else(|error| Err(Status::internal(format!("a statement failed: {error}"))))
    }

    /// Plans a statement whose rows are fetched later. What is no query runs now.
    async fn plan(
        &self,
        own: &Arc<Own>,
        sql: String,
        parameters: Option<Vec<ScalarValue>>,
        open: Said,
    ) -> Result<Planned, Status> {
        let line = Line::new(&self.0.metrics, &own.principal.name, &sql);
        let planned = self.planned(own, sql, parameters, open).await;
        if let Err(error) = &planned {
            line.end(Given::default(), Some(error));
        }
        planned
    }

    async fn planned(
        &self,
        own: &Arc<Own>,
        sql: String,
        parameters: Option<Vec<ScalarValue>>,
        open: Said,
    ) -> Result<Planned, Status> {
        let (session, text) = (own.session.clone(), sql.clone());
        let prepared = self.on_workers(async move {
            let prepared = prepare(&session, &text).await?;
            bound(prepared, parameters)
        });
        let prepared = prepared.await?;
        // What it decodes is not known before it is planned, and what is no query runs by that.
        let (size, permit) = match prepared.is_query() {
            true => (Size::Little, None),
            false => (Size::Much, Some(self.permit(own, Size::Little).await?)),
        };
        let session = own.session.clone();
        let planned = self.run(size, async move {
            let is_query = prepared.is_query();
            let mut frame = run_in(&open, &session, prepared).await?;
            if !is_query {
                // It is done when the client hears of it, whether he fetches what it says or not.
                let rows = stream(frame).await?;
                let schema = rows.schema();
                let rows: Vec<RecordBatch> = rows.try_collect().await.map_err(|e| status(&e))?;
                let done = MemTable::try_new(schema, vec![rows]);
                let done = done.and_then(|done| session.context().read_table(Arc::new(done)));
                frame = done.map_err(|e| status(&e))?;
            }
            let context = Arc::new(frame.task_ctx());
            let plan = frame.create_physical_plan().await;
            let plan = plan.and_then(yielding).map_err(|e| status(&e))?;
            Ok(Planned {
                size: Size::of(&plan),
                schema: plain(&plan.schema()),
                plan,
                context,
                sql,
            })
        });
        let planned = self.in_time(planned).await;
        drop(permit);
        planned
    }

    /// Ends what takes longer than a statement may.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let limit = self.0.limits.statement();
        match tokio::time::timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => Err(late(limit)),
        }
    }

    /// Runs something that changes rows, of which there is a line in the log; returns how many rows.
    async fn counted(
        &self,
        own: &Own,
        statement: &str,
        work: impl Future<Output = Result<i64, Status>> + Send + 'static,
    ) -> Result<i64, Status> {
        let permit = self.permit(own, Size::Little).await?;
        let line = Line::new(&self.0.metrics, &own.principal.name, statement);
        let done = self.in_time(self.run(Size::Much, work)).await;
        drop(permit);
        let given = Given {
            rows: done.as_ref().map_or(0, |count| count.unsigned_abs()),
            bytes: 0,
        };
        line.end(given, done.as_ref().err());
        done
    }

    /// Plans a statement, and says where its rows are.
    async fn info(
        &self,
        own: &Arc<Own>,
        sql: String,
        parameters: Option<Vec<ScalarValue>>,
        open: Said,
        descriptor: FlightDescriptor,
    ) -> Answer<FlightInfo> {
        let planned = self.plan(own, sql, parameters, open).await?;
        let schema = Arc::clone(&planned.schema);
        let handle = self.0.planned.keep(&own.principal.name, planned)?;
        let ticket = TicketStatementQuery {
            statement_handle: handle.into(),
        };
        info(&schema, ticket.as_any().encode_to_vec(), descriptor)
    }

    /// Sends the rows of a plan.
    async fn rows(&self, own: &Own, planned: &Planned, handle: String) -> Answer<Messages> {
        let options = own.write_options()?;
        let permit = self.permit(own, planned.size).await?;
        let workers = self.0.lanes.threads(planned.size);
        let rows = {
            // Operators start to work in here.
            let _inside = workers.enter();
            execute_stream(Arc::clone(&planned.plan), Arc::clone(&planned.context))
        };
        let rows = rows.map_err(|error| status(&error))?;
        let line = Line::new(&self.0.metrics, &own.principal.name, &planned.sql);
        let shared = Arc::clone(&self.0);
        let key = handle.clone();
        let limit = self.0.limits.statement();
        // Locked, so that it is not removed before it is there.
        let mut running = self.0.running.lock();
        let (messages, abort) = send(
            &planned.schema,
            rows,
            options,
            workers,
            limit,
            move |given, ended| {
                shared.running.lock().remove(&key);
                line.end(given, ended);
                drop(permit);
            },
        );
        running.insert(handle, (own.principal.name.clone(), abort));
        drop(running);
        Ok(Response::new(messages))
    }

    /// The transaction that a statement belongs to.
    fn transaction(&self, own: &Own, handle: Option<&[u8]>) -> Said {
        let open = self
            .0
            .transactions
            .get(&own.principal.name, handle?)
            .map_err(|_| Status::not_found("there is no such transaction, or it has ended"));
        Some(open)
    }

    /// Runs a statement to its end; returns how many rows it has changed.
    async fn update(
        &self,
        own: &Arc<Own>,
        sql: String,
        parameters: Vec<Vec<ScalarValue>>,
        open: Said,
    ) -> Result<i64, Status> {
        let session = own.session.clone();
        let text = sql.clone();
        let run = async move {
            let prepared = prepare(&session, &text).await?;
            let rows: Vec<Option<Vec<ScalarValue>>> = match parameters.is_empty() {
                true => vec![None],
                false => parameters.into_iter().map(Some).collect(),
            };
            let mut count = 0;
            for row in rows {
                let prepared = bound(prepared.clone(), row)?;
                let is_query = prepared.is_query();
                let frame = run_in(&open, &session, prepared).await?;
                let mut batches = stream(frame).await?;
                while let Some(batch) = batches.next().await {
                    let batch = batch.map_err(|e| status(&e))?;
                    count += if is_query { 0 } else { changed(&batch) };
                }
            }
            Ok(count)
        };
        self.counted(own, &sql, run).await
    }

    /// Ends a statement whose rows are not fetched yet, or being sent.
    fn cancel(&self, own: &Own, info: &FlightInfo) -> bool {
        let mut is_cancelled = false;
        for endpoint in &info.endpoint {
            let Some(handle) = endpoint.ticket.as_ref().and_then(handle_of) else {
                continue;
            };
            is_cancelled |= self.0.planned.take(&own.principal.name, &handle).is_ok();
            let Ok(handle) = std::str::from_utf8(&handle) else {
                continue;
            };
            if let Some((owner, abort)) = self.0.running.lock().get(handle)
                && *owner == own.principal.name
            {
                abort.abort();
                is_cancelled = true;
            }
        }
        is_cancelled
    }

    /// The columns that a command gives, if it is one of a statement.
    pub(super) async fn schema(
        &self,
        request: &Request<FlightDescriptor>,
    ) -> Result<Option<SchemaRef>, Status> {
        let own = self.own(request).await?;
        let Ok(any) = arrow_flight::sql::Any::decode(&*request.get_ref().cmd) else {
            return Ok(None);
        };
        let unpacked =
            |error: arrow::error::ArrowError| Status::invalid_argument(error.to_string());
        let sql = if let Some(command) = any.unpack::<CommandStatementQuery>().map_err(unpacked)? {
            command.query
        } else if let Some(command) = any
            .unpack::<CommandPreparedStatementQuery>()
            .map_err(unpacked)?
        {
            let handle = &command.prepared_statement_handle;
            self.0
                .prepared
                .get(&own.principal.name, handle)?
                .sql
                .clone()
        } else {
            return Ok(None);
        };
        self.on_workers(async move {
            let prepared = prepare(&own.session, &sql).await?;
            Ok(Some(plain(&prepared.schema())))
        })
        .await
    }
}

/// Runs a statement; an INSERT of a transaction is kept until that is committed, and says how many rows it has.
pub(super) async fn run_in(
    open: &Said,
    session: &Session,
    prepared: Prepared,
) -> Result<DataFrame, Status> {
    let frame = match open {
        Some(open) if Transaction::takes(&prepared) => {
            let mut open = open.as_ref().map_err(Status::clone)?.lock().await;
            let Some(transaction) = open.as_mut() else {
                return Err(Status::not_found("the transaction has ended already"));
            };
            let count = transaction.add(session, prepared).await;
            let count: ArrayRef = Arc::new(UInt64Array::from(vec![count.map_err(|e| status(&e))?]));
            RecordBatch::try_from_iter([("count", count)])
                .map_err(|error| DataFusionError::ArrowError(Box::new(error), None))
                .and_then(|count| session.context().read_batch(count))
        }
        _ => session.run(prepared).await,
    };
    frame.map_err(|error| status(&error))
}

/// The rows of a statement, which can be stopped.
async fn stream(frame: DataFrame) -> Result<SendableRecordBatchStream, Status> {
    let context = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await;
    plan.and_then(yielding)
        .and_then(|plan| execute_stream(plan, context))
        .map_err(|error| status(&error))
}

/// Reads a statement.
async fn prepare(session: &Session, sql: &str) -> Result<Prepared, Status> {
    if sql.len() > STATEMENT {
        return Err(Status::invalid_argument(format!(
            "the statement has {} bytes, and may have {STATEMENT}",
            sql.len()
        )));
    }
    session.prepare(sql).await.map_err(|error| status(&error))
}

fn bound(prepared: Prepared, parameters: Option<Vec<ScalarValue>>) -> Result<Prepared, Status> {
    match parameters {
        Some(values) => prepared.with_parameters(values).map_err(|e| status(&e)),
        None => Ok(prepared),
    }
}

/// How many rows a statement that changes something has changed, as it says itself.
pub(super) fn changed(batch: &RecordBatch) -> i64 {
    use arrow::array::AsArray;
    use arrow::datatypes::UInt64Type;
    let count = batch.column_by_name("count");
    let count = count.and_then(|count| count.as_primitive_opt::<UInt64Type>());
    let sum = count.map_or(0, |count| count.iter().flatten().sum::<u64>());
    i64::try_from(sum).unwrap_or(i64::MAX)
}

/// Where a client is.
fn address(extensions: &Extensions) -> Option<SocketAddr> {
    let plain = extensions
        .get::<TcpConnectInfo>()
        .and_then(TcpConnectInfo::remote_addr);
    plain.or_else(|| {
        extensions
            .get::<TlsConnectInfo<TcpConnectInfo>>()?
            .get_ref()
            .remote_addr()
    })
}

/// The token of a request.
fn token(metadata: &MetadataMap) -> Result<Option<String>, Status> {
    let Some(header) = metadata.get("authorization") else {
        return Ok(None);
    };
    let header = header
        .to_str()
        .map_err(|_| Status::unauthenticated("the header authorization is not text"))?;
    match header.split_once(' ') {
        Some((kind, token)) if kind.eq_ignore_ascii_case("bearer") => {
            Ok(Some(token.trim().to_owned()))
        }
        // It goes with the handshake; clients may send it with every request.
        Some((kind, _)) if kind.eq_ignore_ascii_case("basic") => Ok(None),
        _ => Err(Status::unauthenticated(
            "the header authorization is neither Basic nor Bearer",
        )),
    }
}

/// The handle in a ticket of a statement.
fn handle_of(ticket: &Ticket) -> Option<bytes::Bytes> {
    let any = arrow_flight::sql::Any::decode(&*ticket.ticket).ok()?;
    let ticket = any.unpack::<TicketStatementQuery>().ok()??;
    Some(ticket.statement_handle)
}

/// A schema as it travels.
pub(super) fn encoded(schema: &Schema) -> Result<bytes::Bytes, Status> {
    let options = IpcWriteOptions::default();
    let message: Result<IpcMessage, _> = SchemaAsIpc::new(schema, &options).try_into();
    let IpcMessage(bytes) = message.map_err(|error| Status::internal(error.to_string()))?;
    Ok(bytes)
}

/// Where the rows of a plan are.
fn info(schema: &Schema, ticket: Vec<u8>, descriptor: FlightDescriptor) -> Answer<FlightInfo> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
    let info = FlightInfo::new()
        .try_with_schema(schema)
        .map_err(|error| Status::internal(error.to_string()))?
        .with_endpoint(endpoint)
        .with_descriptor(descriptor)
        .with_total_records(-1)
        .with_total_bytes(-1)
        .with_ordered(true);
    Ok(Response::new(info))
}
