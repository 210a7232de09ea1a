//! `hyperslab serve`: the engine over Arrow Flight SQL, for many users at a time.
//!
//! ```text
//! access     who asks, and below which roots their statements may read and write
//! service    statements, prepared statements, metadata: Flight SQL
//! lanes      who runs when, on which threads, with how much memory
//! handles    plans and statements that clients come back for
//! web        health, metrics and reductions, over plain HTTP on the same port
//! reducer    reductions of single chunks, as Reductionist answers them
//! rows       runs apart from the network; ends when the client is gone, the statement cancelled, or its time over
//! ```

mod access;
pub mod config;
mod flight;
mod handles;
mod ingest;
mod lanes;
mod log;
mod metadata;
mod metrics;
mod options;
mod reducer;
mod rows;
mod service;
mod status;
mod tls;
mod web;
mod yielding;

use std::net::SocketAddr;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Server as Transport;
use tonic::transport::server::TcpIncoming;

use crate::error::{Error, Result};
use crate::store::cache::Cache;
use flight::Flight;
use reducer::Reducer;
use service::Service;
use tls::Certificates;

pub use config::Config;

/// How often a connection on which nothing happens is looked after.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Most requests of one connection at a time.
const STREAMS: u32 = 256;

/// A server that listens, and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    service: Service,
    reducer: Option<Reducer>,
    config: Config,
    certificates: Option<Certificates>,
}

impl Server {
    /// Checks a configuration, and listens.
    ///
    /// # Errors
    /// As [`Config::check`]; `Invalid` or `Io` when certificates cannot be used, or the address not be listened on.
    pub async fn bind(config: Config) -> Result<Self> {
        config.check()?;
        let wanted = config.address()?;
        let certificates = config.tls.as_ref().map(Certificates::read).transpose()?;
        let listener = TcpListener::bind(wanted)
            .await
            .map_err(|error| Error::io(format!("{wanted} cannot be listened on"), error))?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::io("the address is not known", error))?;
        if let Some(cache) = &config.cache {
            Cache::share(&cache.settings())?;
        }
        let service = Service::new(&config)?;
        let time = config.limits.statement();
        let reducer = |reducer| Reducer::new(reducer, time, service.counts(), service.workers());
        let reducer = config.reducer.as_ref().map(reducer).transpose()?;
        Ok(Self {
            service,
            reducer,
            listener,
            address,
            certificates,
            config,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is done; then statements that are running end, and no others begin.
    ///
    /// # Errors
    /// `Io` when the network fails.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Result<()> {
        let mut transport = Transport::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .tcp_keepalive(Some(KEEP_ALIVE))
            .max_concurrent_streams(Some(STREAMS))
            // For who asks after health, metrics and reductions.
            .accept_http1(true);
        let most = self.config.limits.message_mib.saturating_mul(1 << 20);
        let routes = web::routes(&self.service, self.reducer);
        let service = FlightServiceServer::new(Flight(self.service))
            .max_decoding_message_size(most)
            .max_encoding_message_size(usize::MAX);
        let (health, healthy) = tonic_health::server::health_reporter();
        health.set_serving::<FlightServiceServer<Flight>>().await;
        let router = transport
            .add_routes(Routes::from(routes))
            .add_service(service)
            .add_service(healthy);
        let served = match self.certificates {
            None => {
                let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
                router.serve_with_incoming_shutdown(incoming, stop).await
            }
            Some(certificates) => {
                let incoming = Box::pin(tls::accepted(self.listener, certificates));
                router.serve_with_incoming_shutdown(incoming, stop).await
            }
        };
        served.map_err(|error| Error::io(format!("{}: the network failed", self.address), error))
    }
}
