//! What the same port answers over plain HTTP: whether the server is well, what it has counted, and reductions.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use super::reducer::Reducer;
use super::service::Service;

/// The format of metrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The paths that are answered.
pub(super) fn routes(service: &Service, reducer: Option<Reducer>) -> Router {
    let service = service.clone();
    let metrics = move || async move { ([(CONTENT_TYPE, OPEN_METRICS)], service.metrics()) };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics));
    match reducer {
        None => router,
        Some(reducer) => router.merge(reducer.routes()),
    }
}
