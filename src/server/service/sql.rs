//! Flight SQL: what each of its commands means.

use std::pin::Pin;
use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionBeginTransactionResult, ActionCancelQueryRequest,
    ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    ActionEndTransactionRequest, Any, CommandGetCatalogs, CommandGetCrossReference,
    CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys,
    CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest,
    CommandStatementQuery, CommandStatementUpdate, DoPutPreparedStatementResult, EndTransaction,
    ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus,
    FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse, RenewFlightEndpointRequest,
    Ticket,
};
use datafusion::scalar::ScalarValue;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::{Answer, Kept, Open, Service, address, encoded, handle_of, info, prepare, token};
use crate::server::access::{basic, random};
use crate::server::ingest;
use crate::server::metadata::{
    CATALOG, Listed, SQL_INFO, TYPES, no_foreign_keys, primary_keys_schema,
};
use crate::server::options;
use crate::server::rows::{plain, received, send_batch};
use crate::server::status::status;
use crate::session::Transaction;

/// Most rows of parameters of a statement.
const PARAMETERS: usize = 100_000;

/// Results of a cancellation, as the protocol numbers them.
const CANCELLED: i32 = 1;
const NOT_CANCELLABLE: i32 = 3;

/// Name and password of a request.
fn credentials(metadata: &MetadataMap) -> Option<(String, String)> {
    basic(metadata.get("authorization")?.to_str().ok()?)
}

/// The rows of parameters that a client sends.
async fn parameters(
    request: Request<PeekableFlightDataStream>,
) -> Result<Vec<Vec<ScalarValue>>, Status> {
    let messages = request.into_inner().into_peekable();
    // Some clients send no parameters here but a message with nothing else than the command.
    let messages = messages.try_filter(|message| {
        std::future::ready(!message.data_header.is_empty() || !message.data_body.is_empty())
    });
    let mut batches = received(messages);
    let mut rows = Vec::new();
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        if rows.len() + batch.num_rows() > PARAMETERS {
            return Err(Status::invalid_argument(format!(
                "a statement takes at most {PARAMETERS} rows of parameters"
            )));
        }
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter();
            let values = values.map(|column| ScalarValue::try_from_array(column, row));
            rows.push(values.collect::<Result<_, _>>().map_err(|e| status(&e))?);
        }
    }
    Ok(rows)
}

/// An answer of one message.
fn one<T: Message>(message: &T) -> Answer<<Service as FlightService>::DoActionStream> {
    let result = arrow_flight::Result {
        body: message.encode_to_vec().into(),
    };
    Ok(Response::new(Box::pin(stream::iter([Ok(result)]))))
}

/// Where the answer to a command is, whose ticket is the command itself.
fn described(
    schema: &Schema,
    command: &Any,
    request: Request<FlightDescriptor>,
) -> Answer<FlightInfo> {
    info(schema, command.encode_to_vec(), request.into_inner())
}

#[tonic::async_trait]
impl FlightSqlService for Service {
    type FlightService = Self;

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Answer<Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>> {
        let peer = address(request.extensions()).map(|peer| peer.ip());
        let principal = match credentials(request.metadata()) {
            Some((name, password)) => self.0.everybody.of_password(&name, &password, peer).await?,
            None => {
                let token = token(request.metadata())?;
                self.0.everybody.of_token(token.as_deref(), peer).await?
            }
        };
        let token = self.0.everybody.give(&principal)?;
        let answer = HandshakeResponse {
            protocol_version: 0,
            payload: token.clone().into(),
        };
        let answer: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(stream::iter([Ok(answer)]));
        let mut response = Response::new(answer);
        let header = format!("Bearer {token}").parse();
        let header = header.map_err(|_| Status::internal("a token is no header"))?;
        response.metadata_mut().insert("authorization", header);
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let own = self.own(&request).await?;
        let open = self.transaction(&own, query.transaction_id.as_deref());
        self.info(&own, query.query, None, open, request.into_inner())
            .await
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let own = self.own(&request).await?;
        let kept = self
            .0
            .prepared
            .get(&own.principal.name, &query.prepared_statement_handle)?;
        let mut rows = kept.bound.lock().clone();
        let parameters = match rows.len() {
            0 => None,
            1 => rows.pop(),
            more => {
                return Err(Status::invalid_argument(format!(
                    "a query takes one row of parameters, not {more}"
                )));
            }
        };
        let open = self.transaction(&own, kept.transaction.as_deref());
        let descriptor = request.into_inner();
        self.info(&own, kept.sql.clone(), parameters, open, descriptor)
            .await
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Answer<<Self as FlightService>::DoGetStream> {
        let own = self.own(&request).await?;
        // It runs once: a statement may change something.
        let planned = self
            .0
            .planned
            .take(&own.principal.name, &ticket.statement_handle)?;
        let handle = String::from_utf8_lossy(&ticket.statement_handle).into_owned();
        self.rows(&own, &planned, handle).await
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> Answer<<Self as FlightService>::DoGetStream> {
        let own = self.own(&request).await?;
        let kept = self
            .0
            .prepared
            .get(&own.principal.name, &query.prepared_statement_handle)?;
        let parameters = kept.bound.lock().last().cloned();
        let open = self.transaction(&own, kept.transaction.as_deref());
        let planned = self.plan(&own, kept.sql.clone(), parameters, open);
        let planned = planned.await?;
        self.rows(&own, &planned, random()?).await
    }

    async fn do_put_statement_update(
        &self,
        command: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let own = self.own(&request).await?;
        let open = self.transaction(&own, command.transaction_id.as_deref());
        self.update(&own, command.query, Vec::new(), open).await
    }

    async fn do_put_statement_ingest(
        &self,
        command: CommandStatementIngest,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let own = self.own(&request).await?;
        let open = self.transaction(&own, command.transaction_id.as_deref());
        let statement = format!("ingest into {}", command.table);
        let session = own.session.clone();
        let run = async move { ingest::run(&session, command, request.into_inner(), open).await };
        self.counted(&own, &statement, run).await
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let own = self.own(&request).await?;
        let kept = self
            .0
            .prepared
            .get(&own.principal.name, &query.prepared_statement_handle)?;
        let rows = parameters(request).await?;
        *kept.bound.lock() = rows;
        Ok(DoPutPreparedStatementResult {
            prepared_statement_handle: Some(query.prepared_statement_handle),
        })
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let own = self.own(&request).await?;
        let kept = self
            .0
            .prepared
            .get(&own.principal.name, &query.prepared_statement_handle)?;
        let mut rows = parameters(request).await?;
        if rows.is_empty() {
            rows.clone_from(&kept.bound.lock());
        }
        let open = self.transaction(&own, kept.transaction.as_deref());
        self.update(&own, kept.sql.clone(), rows, open).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let own = self.own(&request).await?;
        let session = own.session.clone();
        let sql = query.query.clone();
        let (columns, parameters) = self
            .on_workers(async move {
                let prepared = prepare(&session, &sql).await?;
                let parameters = prepared.parameters().map_err(|e| status(&e))?;
                // Of a statement that gives no rows, clients expect no columns.
                let columns = match prepared.is_query() {
                    true => plain(&prepared.schema()),
                    false => Arc::new(Schema::empty()),
                };
                Ok((columns, parameters))
            })
            .await?;
        let handle = self.0.prepared.keep(
            &own.principal.name,
            Kept {
                sql: query.query,
                transaction: query.transaction_id,
                bound: Mutex::default(),
            },
        )?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle.into(),
            dataset_schema: encoded(&columns)?,
            parameter_schema: encoded(&plain(&parameters))?,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        let own = self.own(&request).await?;
        // One that is forgotten already is closed.
        let _ = self
            .0
            .prepared
            .take(&own.principal.name, &query.prepared_statement_handle);
        Ok(())
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let own = self.own(&request).await?;
        let info = FlightInfo::decode(&*query.info)
            .map_err(|error| Status::invalid_argument(format!("info: {error}")))?;
        let result = match self.cancel(&own, &info) {
            true => CANCELLED,
            false => NOT_CANCELLABLE,
        };
        Ok(ActionCancelQueryResult { result })
    }

    async fn do_action_begin_transaction(
        &self,
        _: ActionBeginTransactionRequest,
        request: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        let own = self.own(&request).await?;
        let open = &self.0.transactions;
        let handle = open.keep(&own.principal.name, Open::new(Some(Transaction::default())))?;
        Ok(ActionBeginTransactionResult {
            transaction_id: handle.into(),
        })
    }

    async fn do_action_end_transaction(
        &self,
        query: ActionEndTransactionRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        let own = self.own(&request).await?;
        let open = &self.0.transactions;
        let open = match open.take(&own.principal.name, &query.transaction_id) {
            // Clients roll back what could not be committed.
            Err(_) if query.action() == EndTransaction::Rollback => return Ok(()),
            open => open?,
        };
        // A statement of it that runs is waited for.
        let transaction = open.lock().await.take();
        let Some(transaction) = transaction else {
            return Err(Status::not_found("the transaction has ended already"));
        };
        match query.action() {
            EndTransaction::Commit => {
                let session = own.session.clone();
                let run = async move {
                    let count = transaction.commit(&session).await.map_err(|e| status(&e))?;
                    Ok(i64::try_from(count).unwrap_or(i64::MAX))
                };
                self.counted(&own, "commit", run).await.map(drop)
            }
            EndTransaction::Rollback => Ok(()),
            EndTransaction::Unspecified => Err(Status::invalid_argument(
                "a transaction ends with a commit or a rollback",
            )),
        }
    }

    async fn list_custom_actions(&self) -> Option<Vec<Result<ActionType, Status>>> {
        let actions = [
            (
                "CancelFlightInfo",
                "Cancels a query. CancelFlightInfoRequest → CancelFlightInfoResult",
            ),
            (
                "RenewFlightEndpoint",
                "Keeps an endpoint for longer. RenewFlightEndpointRequest → FlightEndpoint",
            ),
            (
                "SetSessionOptions",
                "Changes settings. SetSessionOptionsRequest → SetSessionOptionsResult",
            ),
            (
                "GetSessionOptions",
                "The settings. GetSessionOptionsRequest → GetSessionOptionsResult",
            ),
            (
                "CloseSession",
                "Forgets settings and named tables. → CloseSessionResult",
            ),
        ];
        let actions = actions.map(|(name, description)| {
            Ok(ActionType {
                r#type: name.to_owned(),
                description: description.to_owned(),
            })
        });
        Some(actions.into())
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Answer<<Self as FlightService>::DoActionStream> {
        let own = self.own(&request).await?;
        let action = request.get_ref();
        let wrong = |error: prost::DecodeError| {
            Status::invalid_argument(format!("{}: {error}", action.r#type))
        };
        match action.r#type.as_str() {
            "CancelFlightInfo" => {
                let cancel = CancelFlightInfoRequest::decode(&*action.body).map_err(wrong)?;
                let is_cancelled = cancel.info.is_some_and(|info| self.cancel(&own, &info));
                let status = match is_cancelled {
                    true => CancelStatus::Cancelled,
                    false => CancelStatus::NotCancellable,
                };
                one(&CancelFlightInfoResult {
                    status: status.into(),
                })
            }
            "RenewFlightEndpoint" => {
                let renew = RenewFlightEndpointRequest::decode(&*action.body).map_err(wrong)?;
                let endpoint = renew.endpoint.unwrap_or_default();
                let handle = endpoint.ticket.as_ref().and_then(handle_of);
                let handle = handle.ok_or_else(|| {
                    Status::invalid_argument("the endpoint has no ticket of a statement")
                })?;
                self.0.planned.get(&own.principal.name, &handle)?;
                one(&endpoint)
            }
            "CloseSession" => {
                self.close_session(&request).await?;
                one(&options::CloseSessionResult::closed())
            }
            "SetSessionOptions" => {
                let set =
                    options::SetSessionOptionsRequest::decode(&*action.body).map_err(wrong)?;
                let session = own.session.clone();
                let done = self.on_workers(async move { options::set(&session, set).await });
                one(&done.await?)
            }
            "GetSessionOptions" => one(&options::get(&own.session)),
            other => Err(Status::unimplemented(format!("there is no action {other}"))),
        }
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let ticket = query.as_any();
        described(&query.into_builder().schema(), &ticket, request)
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<Ticket>,
    ) -> Answer<<Self as FlightService>::DoGetStream> {
        self.own(&request).await?;
        let mut builder = query.into_builder();
        builder.append(CATALOG);
        Ok(Response::new(send_batch(builder.build()?)))
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let ticket = query.as_any();
        described(&query.into_builder().schema(), &ticket, request)
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<Ticket>,
    ) -> Answer<<Self as FlightService>::DoGetStream> {
        let own = self.own(&request).await?;
        let batch = self.on_workers(async move {
            Listed::new(&own.session, &own.principal)
                .db_schemas(query)
                .await
        });
        Ok(Response::new(send_batch(batch.await?)))
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let ticket = query.as_any();
        described(&query.into_builder().schema(), &ticket, request)
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        request: Request<Ticket>,
    ) -> Answer<<Self as FlightService>::DoGetStream> {
        let own = self.own(&request).await?;
        let batch = self.on_workers(async move {
            Listed::new(&own.session, &own.principal)
                .tables(query)
                .await
        });
        Ok(Response::new(send_batch(batch.await?)))
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let ticket = query.as_any();
        described(&query.into_builder().schema(), &ticket, request)
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<Ticket>,
    ) -> Answer<<Self as FlightService>::DoGetStream> {
        self.own(&request).await?;
        let mut builder = query.into_builder();
        builder.append("TABLE");
        builder.append("VIEW");
        Ok(Response::new(send_batch(builder.build()?)))
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let ticket = query.as_any();
        described(&query.into_builder(&SQL_INFO).schema(), &ticket, request)
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<Ticket>,
    ) -> Answer<<Self as FlightService>::DoGetStream> {
        self.own(&request).await?;
        let batch = query.into_builder(&SQL_INFO).build()?;
        Ok(Response::new(send_batch(batch)))
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let ticket = query.as_any();
        described(&primary_keys_schema(), &ticket, request)
    }

    async fn do_get_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<Ticket>,
    ) -> Answer<<Self as FlightService>::DoGetStream> {
        let own = self.own(&request).await?;
        let batch = self.on_workers(async move {
            Listed::new(&own.session, &own.principal)
                .primary_keys(query)
                .await
        });
        Ok(Response::new(send_batch(batch.await?)))
    }

    async fn get_flight_info_exported_keys(
        &self,
        query: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let ticket = query.as_any();
        described(&no_foreign_keys().schema(), &ticket, request)
    }

    async fn do_get_exported_keys(
        &self,
        _: CommandGetExportedKeys,
        request: Request<Ticket>,
    ) -> Answer<<Self as FlightService>::DoGetStream> {
        self.own(&request).await?;
        Ok(Response::new(send_batch(no_foreign_keys())))
    }

    async fn get_flight_info_imported_keys(
        &self,
        query: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let ticket = query.as_any();
        described(&no_foreign_keys().schema(), &ticket, request)
    }

    async fn do_get_imported_keys(
        &self,
        _: CommandGetImportedKeys,
        request: Request<Ticket>,
    ) -> Answer<<Self as FlightService>::DoGetStream> {
        self.own(&request).await?;
        Ok(Response::new(send_batch(no_foreign_keys())))
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let ticket = query.as_any();
        described(&no_foreign_keys().schema(), &ticket, request)
    }

    async fn do_get_cross_reference(
        &self,
        _: CommandGetCrossReference,
        request: Request<Ticket>,
    ) -> Answer<<Self as FlightService>::DoGetStream> {
        self.own(&request).await?;
        Ok(Response::new(send_batch(no_foreign_keys())))
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let ticket = query.as_any();
        described(&query.into_builder(&TYPES).schema(), &ticket, request)
    }

    async fn do_get_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<Ticket>,
    ) -> Answer<<Self as FlightService>::DoGetStream> {
        self.own(&request).await?;
        let batch = query.into_builder(&TYPES).build()?;
        Ok(Response::new(send_batch(batch)))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}
