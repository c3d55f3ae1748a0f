//! `/v1/rollouts`: what rollouts have come to, and orders to them.

use axum::{
    Json,
    extract::State as Shared,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    Api,
    call::{Body, Names},
    failure::Failure,
};
use crate::controlplane::rollout::{Order, Refusal, State};

/// `GET /v1/rollouts`
pub(super) async fn list(api: Shared<Api>) -> Response {
    Json(json!({ "rollouts": api.state.rollouts.shown() })).into_response()
}

/// `GET /v1/rollouts/{name}`
pub(super) async fn get(api: Shared<Api>, Names(name): Names<String>) -> Result<Response, Failure> {
    let shown = api.state.rollouts.shown().into_iter().find(|one| *one.name == *name);
    shown.map(|one| Json(one).into_response()).ok_or_else(|| unknown(&name))
}

/// `POST /v1/rollouts/{name}/pause`
pub(super) async fn pause(
    api: Shared<Api>,
    Names(name): Names<String>,
    body: Body,
) -> Result<Response, Failure> {
    obey(&api, &name, &body, Order::Pause)
}

/// `POST /v1/rollouts/{name}/resume`
pub(super) async fn resume(
    api: Shared<Api>,
    Names(name): Names<String>,
    body: Body,
) -> Result<Response, Failure> {
    obey(&api, &name, &body, Order::Resume)
}

/// `POST /v1/rollouts/{name}/promote`
pub(super) async fn promote(
    api: Shared<Api>,
    Names(name): Names<String>,
    body: Body,
) -> Result<Response, Failure> {
    obey(&api, &name, &body, Order::Promote)
}

/// `POST /v1/rollouts/{name}/abort`
pub(super) async fn abort(
    api: Shared<Api>,
    Names(name): Names<String>,
    body: Body,
) -> Result<Response, Failure> {
    obey(&api, &name, &body, Order::Abort)
}

fn obey(api: &Api, name: &str, body: &Body, order: Order) -> Result<Response, Failure> {
    if !body.object()?.is_empty() {
        return Err(Failure::bad("", "this call takes no keys", "send {}"));
    }
    match api.state.rollouts.obey(name, order) {
        Ok(shown) => Ok(Json(shown).into_response()),
        Err(Refusal::Unknown) => Err(unknown(name)),
        Err(Refusal::State(state)) => {
            let hint = match state {
                State::Running => "pause it, promote it or abort it",
                State::Paused => "resume it, promote it or abort it",
                State::Done => "abort it to go back to the old version",
                State::RolledBack => "resume it to begin anew",
            };
            let message = format!("rollout \"{name}\" is {}", state.word());
            Err(Failure::new(StatusCode::CONFLICT, "rollout", message, hint))
        }
    }
}

fn unknown(name: &str) -> Failure {
    let message = format!("there is no rollout \"{name}\"");
    let hint = "GET /v1/rollouts lists them; they are written in the files";
    Failure::new(StatusCode::NOT_FOUND, "rollout", message, hint)
}
