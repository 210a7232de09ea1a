//! `--connect`: statements are run by a server, which is asked over Arrow Flight SQL.

use std::path::PathBuf;
use std::time::Duration;

use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::{StreamExt, TryStreamExt};
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use url::Url;

use super::args::Connect;
use super::sql::Answer;

/// How long a connection may take to be there.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a connection on which nothing happens is looked after.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A server that runs statements.
pub(crate) struct Remote {
    client: FlightSqlServiceClient<Channel>,
}

impl Remote {
    /// Connects to a server.
    ///
    /// # Errors
    /// A sentence that names the server.
    pub(crate) async fn connect(connect: &Connect) -> Result<Self, String> {
        let place = &connect.url;
        let url = Url::parse(place).map_err(|error| format!("{place} is no URL: {error}"))?;
        let (scheme, is_safe) = match url.scheme() {
            "grpc" | "grpc+tcp" | "http" => ("http", false),
            "grpc+tls" | "https" => ("https", true),
            other => {
                return Err(format!(
                    "{place}: a server has a URL grpc://host:port or grpc+tls://host:port, not one of {other}"
                ));
            }
        };
        let host = url.host_str().unwrap_or_default();
        let port = url.port().unwrap_or(50051);
        let endpoint = Endpoint::new(format!("{scheme}://{host}:{port}"));
        let endpoint = endpoint.map_err(|error| format!("{place}: {error}"))?;
        let mut endpoint = endpoint
            .connect_timeout(PATIENCE)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_while_idle(false);
        if is_safe {
            let mut tls = ClientTlsConfig::new().with_enabled_roots();
            if let Some(path) = &connect.certificates {
                tls = tls.ca_certificate(Certificate::from_pem(read(path)?));
            }
            endpoint = endpoint
                .tls_config(tls)
                .map_err(|e| format!("{place}: {}", chain(&e)))?;
        }
        let channel = endpoint.connect().await;
        let channel = channel.map_err(|e| format!("{place} does not answer: {}", chain(&e)))?;
        let mut client = FlightSqlServiceClient::new(channel);
        let user = match url.username() {
            "" => connect.user.clone(),
            user => Some(user.to_owned()),
        };
        match (&connect.token, user) {
            (Some(token), _) => client.set_token(token.clone()),
            (None, Some(user)) => {
                let password = connect.password.as_deref().unwrap_or_default();
                let token = client.handshake(&user, password).await;
                let token = token.map_err(|error| format!("{place}: {}", said(error)))?;
                if client.token().is_none() {
                    let token = String::from_utf8_lossy(&token).into_owned();
                    client.set_token(token);
                }
            }
            (None, None) => {}
        }
        Ok(Self { client })
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// What the server says.
    pub(crate) async fn stream(&mut self, statement: &str) -> Result<Answer, String> {
        let info = self.client.execute(statement.to_owned(), None).await;
        let info = info.map_err(said)?;
        let schema = info.clone().try_decode_schema();
        let schema = schema.map_err(|error| error.to_string())?;
        let mut parts = Vec::new();
        for endpoint in info.endpoint {
            let ticket = endpoint
                .ticket
                .ok_or("the server sends an endpoint without a ticket")?;
            let rows = self.client.do_get(ticket).await.map_err(said)?;
            parts.push(rows.map_err(said).boxed());
        }
        Ok((
            schema.into(),
            futures::stream::iter(parts).flatten().boxed(),
        ))
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// What the server has said, without the words of the protocol.
fn said(error: FlightError) -> String {
    match error {
        FlightError::Tonic(status) => sentence(&status),
        FlightError::Arrow(error) => chain(&error),
        error => error.to_string(),
    }
}

fn sentence(status: &Status) -> String {
    match status.message() {
        "" => format!("{:?}", status.code()),
        message => message.to_owned(),
    }
}

/// An error and what it came of.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
