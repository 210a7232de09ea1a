//! What the same port answers over plain HTTP: whether the server is well, and what it has counted.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use super::service::Service;

/// The format of metrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The paths that are answered.
pub(super) fn routes(service: &Service) -> Router {
    let service = service.clone();
    let metrics = move || async move { ([(CONTENT_TYPE, OPEN_METRICS)], service.metrics()) };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
}
