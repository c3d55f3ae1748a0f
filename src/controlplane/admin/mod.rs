//! The admin API: what the process does, for probes, scrapers and people, and changing it.
//!
//! It answers from what the control thread knows and from the cores' counters; no call reaches a
//! core. A change is submitted like that of a file (`controlplane::changes`). Probes (`/healthz`,
//! `/readyz`) are open; everything else needs the bearer token if one is set, and a caller from this
//! machine if none is. `operations` lists all calls. Tests: in the files, and with the real binary in
//! `tests/blackbox/admin.rs`.

mod aside;
mod auth;
mod by_hand;
mod call;
mod change;
mod endpoints;
mod failure;
mod heartbeat;
mod json;
mod objects;
mod openapi;
mod operations;
mod question;
mod rollouts;
mod serve;
mod standings;
pub mod status;
mod whole;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, FromRef, State as Shared},
    http::{Method, StatusCode, Uri, header},
    middleware,
    response::{IntoResponse, Response},
};
use tokio::sync::Semaphore;

use self::operations::{OPERATIONS, Takes};
pub use self::serve::serve;
use crate::{
    base::limits::{ADMIN_CONFIG_BYTES_MAX, ADMIN_OBJECT_BYTES_MAX, ADMIN_TREES_MAX},
    controlplane::{
        export::{exposition::CONTENT_TYPE, prometheus},
        state::{Phase, State},
    },
    snapshot::AdminSettings,
};

/// What every call works with.
#[derive(Clone)]
struct Api {
    state: Arc<State>,
    /// Whether changes survive a restart.
    keeps: bool,
    /// Gives memory back to the kernel after something large is gone.
    give_back: fn(),
    /// Places for calls that read a whole configuration.
    trees: Arc<Semaphore>,
}

impl FromRef<Api> for Arc<State> {
    fn from_ref(api: &Api) -> Self {
        Self::clone(&api.state)
    }
}

/// The API over the given state. `give_back` is called on threads of its own after work on a whole
/// configuration.
pub fn router(state: Arc<State>, settings: &AdminSettings, give_back: fn()) -> Router {
    let guard = auth::Guard::new(settings.token.as_deref());
    let (keeps, trees) = (settings.state_dir.is_some(), Semaphore::new(ADMIN_TREES_MAX));
    let api = Api { state, keeps, give_back, trees: Arc::new(trees) };
    let (mut open, mut guarded) = (Router::new(), Router::new());
    for operation in &OPERATIONS {
        let bytes_max = match operation.takes {
            Takes::Whole => ADMIN_CONFIG_BYTES_MAX,
            _ => ADMIN_OBJECT_BYTES_MAX,
        };
        let handler = (operation.handler)().layer(DefaultBodyLimit::max(bytes_max));
        match operation.open {
            true => open = open.route(operation.path, handler),
            false => guarded = guarded.route(operation.path, handler),
        }
    }
    open.merge(guarded.route_layer(middleware::from_fn_with_state(guard, auth::check)))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(api)
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
    let hint = "there is /healthz, /readyz, /metrics, /v1/status; /v1/openapi.json lists all";
    problem(StatusCode::NOT_FOUND, &format!("no such path: {}", uri.path()), hint)
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let message = format!("{} does not take {method}", uri.path());
    let hint = "Allow says what it takes; GET /v1/openapi.json lists all calls";
    problem(StatusCode::METHOD_NOT_ALLOWED, &message, hint)
}

/// Every refusal has the same shape: what is wrong and what to do.
fn problem(status: StatusCode, error: &str, hint: &str) -> Response {
    (status, Json(serde_json::json!({ "error": error, "hint": hint }))).into_response()
}

#[cfg(test)]
mod cases;
#[cfg(test)]
mod tests;
