//! Reductions of single chunks next to the data, as Reductionist answers them.
//!
//! ```text
//! request   what is asked, checked
//! object    a range of an object, by the credentials of who asks
//! reduce    decoded elements -> one element for each that is kept
//! answer    CBOR, or headers before raw bytes; errors
//! ```
//!
//! The protocol is that of <https://github.com/stackhpc/reductionist-rs>: `POST /v2/{count,max,min,select,sum}`, and
//! `/v1/…` as older clients use it.

mod answer;
mod fold;
mod missing;
mod number;
mod object;
mod reduce;
mod request;

use std::borrow::Cow;
use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request as HttpRequest};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::answer::{Encoded, Refusal, Version};
use self::object::{Credentials, Objects, collect};
use self::reduce::{Operation, Plan};
use self::request::Request;
use super::config;
use super::metrics::Metrics;
use crate::codec::Scratch;
use crate::error::{Error, Result};

/// Most bytes of the body of a request.
const BODY: usize = 2 << 20;

/// Most bytes of a longer one that are read all the same: clients do not hear an answer before they have sent all.
const HEARD: usize = 64 << 20;

/// Memory is reserved by KiB.
const UNIT: usize = 1 << 10;

/// The most that deflate makes of a byte. Other compressors may make more, up to all memory that there is.
const EXPANSION: usize = 1032;

/// What clients ask for to find out whether the server is ready.
const READY: &str = "/.well-known/reductionist-schema";

/// The reducer.
#[derive(Clone, Debug)]
pub(super) struct Reducer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    objects: Objects,
    metrics: Arc<Metrics>,
    workers: Handle,
    /// How long a request may take, with the time that it waits.
    time: Duration,
    /// KiB that requests may hold.
    memory: Arc<Semaphore>,
    /// How many there are.
    total: usize,
    connections: Semaphore,
    /// Threads that decode and reduce.
    threads: Arc<Semaphore>,
}

/// What a request holds of the memory of all.
struct Reserved {
    bytes: usize,
    permit: OwnedSemaphorePermit,
}

impl Reducer {
    /// A reducer that decodes and reduces on `workers`.
    ///
    /// # Errors
    /// `Invalid` when one of the stores is no URL; [`check`] finds more.
    pub(super) fn new(
        config: &config::Reducer,
        time: Duration,
        metrics: Arc<Metrics>,
        workers: Handle,
    ) -> Result<Self> {
        let total = config.memory_mib.saturating_mul(1 << 20) / UNIT;
        let total = total.min(u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        Ok(Self(Arc::new(Shared {
            objects: Objects::new(&config.stores)?,
            metrics,
            workers,
            time,
            memory: Arc::new(Semaphore::new(total)),
            total: total * UNIT,
            connections: Semaphore::new(config.connections.min(Semaphore::MAX_PERMITS)),
            threads: Arc::new(Semaphore::new(threads)),
        })))
    }

    /// The paths that are answered.
    pub(super) fn routes(self) -> Router {
        let mut router = Router::new().route(READY, get(|| async { "Hello, world!" }));
        for (path, version) in [("/v1", Version::One), ("/v2", Version::Two)] {
            for end in ["", "/"] {
                let reducer = self.clone();
                let answer = move |Path(operation): Path<String>, request: HttpRequest| {
                    let reducer = reducer.clone();
                    async move { reducer.answer(version, &operation, request).await }
                };
                router = router.route(&format!("{path}/{{operation}}{end}"), post(answer));
            }
        }
        router
    }

    async fn answer(&self, version: Version, operation: &str, request: HttpRequest) -> Response {
        let began = Instant::now();
        let known = known(operation);
        let path = match (version, known) {
            (Version::One, Some(_)) => Cow::Owned(format!("/v1/{operation}")),
            (Version::Two, Some(_)) => Cow::Owned(format!("/v2/{operation}")),
            // Any name would be a metric of its own.
            (_, None) => Cow::Borrowed("other"),
        };
        self.0.metrics.requested(&path);
        let reduced = self.reduced(version, known.ok_or(operation), request);
        let answered = match tokio::time::timeout(self.0.time, reduced).await {
            Ok(answered) => answered,
            Err(_) => Err(Refusal::late()),
        };
        let response = answered.unwrap_or_else(IntoResponse::into_response);
        let status = response.status().as_u16();
        self.0.metrics.responded(&path, status, began.elapsed());
        response
    }

    async fn reduced(
        &self,
        version: Version,
        operation: Result<Operation, &str>,
        request: HttpRequest,
    ) -> Result<Response, Refusal> {
        let shared = &self.0;
        let (parts, body) = request.into_parts();
        let body = read(body).await?;
        let operation = operation.map_err(Refusal::unknown)?;
        let kind = parts
            .headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        if !kind.is_some_and(is_json) {
            return Err(Refusal::invalid(
                "Expected request with `Content-Type: application/json`",
            ));
        }
        let request = Request::parse(version, operation, &body);
        let request = request.map_err(|error| Refusal::invalid(&error.to_string()))?;
        drop(body);
        shared.objects.check(&request.address)?;
        let credentials = Credentials::of(&parts.headers)?;
        let (memory, stored) = self.fetch(&request, credentials).await?;
        let thread = Arc::clone(&shared.threads).acquire_owned().await;
        let thread = thread.map_err(|error| Refusal::internal(&error))?;
        let total = shared.total;
        // It is not given up when the client is, and holds its memory until it is done.
        let work = shared.workers.spawn_blocking(move || {
            let answer = reduce(version, &request, &stored, memory.bytes, total);
            drop(thread);
            answer.map(|answer| answer.response(memory.permit))
        });
        work.await.map_err(|error| Refusal::internal(&error))?
    }

    /// Reads the stored bytes, after the memory for the whole request has been reserved.
    async fn fetch(
        &self,
        request: &Request,
        credentials: Option<Credentials>,
    ) -> Result<(Reserved, Vec<u8>), Refusal> {
        let shared = &self.0;
        let (objects, address) = (&shared.objects, &request.address);
        let connection = || async {
            let connection = shared.connections.acquire().await;
            connection.map_err(|error| Refusal::internal(&error))
        };
        // Nobody waits for memory with a connection: who has memory may wait for that.
        let stored = match request.size {
            Some(size) => size,
            None => {
                let _connection = connection().await?;
                let length = objects.length(address, credentials.clone(), request.offset);
                usize::try_from(length.await?).unwrap_or(usize::MAX)
            }
        };
        let memory = self.reserve(request, stored).await?;
        let _connection = connection().await?;
        let size = request.size.and_then(|size| u64::try_from(size).ok());
        let result = objects.begin(address, credentials, request.offset, size);
        Ok((memory, collect(result.await?, stored).await?))
    }

    /// Waits for the memory that a request needs whose stored bytes are so many.
    async fn reserve(&self, request: &Request, stored: usize) -> Result<Reserved, Refusal> {
        let shared = &self.0;
        let known = request.known(stored);
        let bytes = match known.map_err(|error| Refusal::irreducible(&error))? {
            Some(plan) => needed(request, &plan, stored),
            // Nobody knows before it is decoded.
            None => stored
                .saturating_mul(4 * EXPANSION)
                .min(shared.total.max(stored)),
        };
        if bytes > shared.total {
            return Err(Refusal::memory(bytes, shared.total));
        }
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&shared.memory).acquire_many_owned(units).await;
        let permit = permit.map_err(|error| Refusal::internal(&error))?;
        Ok(Reserved { bytes, permit })
    }
}

/// Checks what can be checked of a configuration without serving.
///
/// # Errors
/// `Invalid` when there are no stores, one is no URL, or nothing could ever be answered.
pub(super) fn check(config: &config::Reducer) -> Result<()> {
    if config.stores.is_empty() {
        return Err(Error::Invalid(
            "reducer: stores has to have the URLs below which objects may be read".to_owned(),
        ));
    }
    if config.memory_mib == 0 || config.connections == 0 {
        return Err(Error::Invalid(
            "reducer: memory_mib and connections have to be at least 1".to_owned(),
        ));
    }
    Objects::new(&config.stores)
        .map(drop)
        .map_err(|error| error.within("reducer: stores"))
}

/// The bytes that a request holds at the same time: stored, decoded, and of the result.
fn needed(request: &Request, plan: &Plan, stored: usize) -> usize {
    let size = request.element.size();
    let decoded = plan.cells().saturating_mul(size);
    // The last step writes to the array; those before it to one of two buffers in turn.
    let steps = request.pipeline.0.len();
    let copies = steps.min(3);
    stored
        .saturating_add(decoded.saturating_mul(copies))
        .saturating_add(plan.memory(request.operation, size))
}

/// Decodes and reduces.
fn reduce(
    version: Version,
    request: &Request,
    stored: &[u8],
    reserved: usize,
    total: usize,
) -> Result<Encoded, Refusal> {
    let undecodable = |error| Refusal::undecodable(&error);
    let irreducible = |error| Refusal::irreducible(&error);
    let mut scratch = Scratch::default();
    let size = request.element.size();
    let known = request.known(stored.len()).map_err(irreducible)?;
    let decoded: Cow<'_, [u8]> = match &known {
        _ if request.pipeline.0.is_empty() => Cow::Borrowed(stored),
        Some(plan) => {
            let mut decoded = vec![0; plan.cells().saturating_mul(size)];
            let pipeline = &request.pipeline;
            pipeline
                .decode(stored, 0, &mut decoded, &mut scratch)
                .map_err(undecodable)?;
            Cow::Owned(decoded)
        }
        None => {
            // There may be three copies.
            let limit = reserved.saturating_sub(stored.len()) / 3;
            let pipeline = &request.pipeline;
            let decoded = pipeline.decode_to_vec(stored, 0, limit, &mut scratch);
            Cow::Owned(decoded.map_err(undecodable)?)
        }
    };
    drop(scratch);
    let plan = match known {
        Some(plan) => plan,
        None => {
            let plan = request.plan(decoded.len() / size).map_err(irreducible)?;
            let wanted = needed(request, &plan, stored.len());
            if wanted > reserved {
                return Err(Refusal::memory(wanted, total));
            }
            plan
        }
    };
    let missing = request.missing.as_ref();
    let reduced = plan.reduce(request.operation, request.element, &decoded, missing);
    Encoded::new(version, reduced.map_err(irreducible)?, request.as_bytes)
}

/// The body of a request.
async fn read(body: Body) -> Result<Vec<u8>, Refusal> {
    let (mut read, mut length) = (Vec::new(), 0usize);
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await
        && length < HEARD
    {
        let part = part.map_err(|error| Refusal::invalid(&error.to_string()))?;
        length = length.saturating_add(part.len());
        if length <= BODY {
            read.extend_from_slice(&part);
        }
    }
    match length <= BODY {
        true => Ok(read),
        false => Err(Refusal::too_long(BODY)),
    }
}

/// The operation of a name.
fn known(name: &str) -> Option<Operation> {
    match name {
        "count" => Some(Operation::Count),
        "max" => Some(Operation::Max),
        "min" => Some(Operation::Min),
        "select" => Some(Operation::Select),
        "sum" => Some(Operation::Sum),
        _ => None,
    }
}

/// Whether a content type is JSON.
fn is_json(kind: &str) -> bool {
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}
