//! The admin API: what the process does, for probes, scrapers and people.
//!
//! It answers from what the control thread knows and from the cores' counters; no call reaches a
//! core. Probes (`/healthz`, `/readyz`) are open; everything else needs the bearer token if one is
//! set, and a caller from this machine if none is.

mod auth;
mod serve;
pub mod status;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State as Shared,
    http::{StatusCode, Uri, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};

pub use self::serve::serve;
use crate::{
    controlplane::{
        export::{exposition::CONTENT_TYPE, prometheus},
        state::{Phase, State},
    },
    snapshot::AdminSettings,
};

/// The API over the given state.
pub fn router(state: Arc<State>, settings: &AdminSettings) -> Router {
    let guard = auth::Guard::new(settings.token.as_deref());
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/v1/status", get(show_status))
        .route_layer(middleware::from_fn_with_state(guard, auth::check));
    Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .merge(guarded)
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(state)
}

/// The process runs and its control thread answers.
async fn healthy() -> &'static str {
    "ok\n"
}

/// All cores serve. 503 while starting, so that nobody sends traffic too early, and while draining,
/// so that nobody sends more.
async fn ready(Shared(state): Shared<Arc<State>>) -> (StatusCode, &'static str) {
    match state.phase() {
        Phase::Ready => (StatusCode::OK, "ready\n"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

async fn metrics(Shared(state): Shared<Arc<State>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], prometheus::render(&state))
}

async fn show_status(Shared(state): Shared<Arc<State>>) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], Json(status::status(&state)))
}

async fn unknown_path(uri: Uri) -> Response {
    let hint = "there is /healthz, /readyz, /metrics and /v1/status";
    problem(StatusCode::NOT_FOUND, &format!("no such path: {}", uri.path()), hint)
}

async fn wrong_method() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "this path only answers GET and HEAD", "use GET")
}

/// Every refusal has the same shape: what is wrong and what to do.
fn problem(status: StatusCode, error: &str, hint: &str) -> Response {
    (status, Json(serde_json::json!({ "error": error, "hint": hint }))).into_response()
}

#[cfg(test)]
mod tests;
