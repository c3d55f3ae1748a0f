//! `/v1/upstreams/{name}/endpoints/{endpoint}/health`: what an operator says of an endpoint, whoever
//! owns it.
//!
//! It is a state and no configuration: it is written where all cores look
//! ([`crate::snapshot::cells`]), so it holds from the next request on, without new rules. Changes of the
//! rules leave it alone as long as the endpoint is among them; [`crate::controlplane::by_hand`] keeps it for
//! the next process.

use std::sync::Arc;

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
    change::not_found,
    endpoints::{missing, parse_name},
    failure::Failure,
};
use crate::{
    base::clock::now_ms,
    controlplane::{
        config::{names, overlay::Kind},
        log,
    },
    snapshot::{
        Snapshot,
        cells::{EndpointCell, Health, Voice},
    },
};

/// What may be said.
const WORDS: [Health; 3] = [Health::Up, Health::Down, Health::Draining];

/// `GET /v1/upstreams/{name}/endpoints/{endpoint}/health`
pub(super) async fn get(
    api: Shared<Api>,
    Names((name, endpoint)): Names<(String, String)>,
) -> Result<Response, Failure> {
    let (endpoint, snapshot) = (parse_name(&endpoint)?, rules(&api));
    show(&name, &endpoint, &find(&api, &snapshot, &name, &endpoint)?, None)
}

/// `PUT /v1/upstreams/{name}/endpoints/{endpoint}/health`: `{"health": "draining"}`.
pub(super) async fn put(
    api: Shared<Api>,
    Names((name, endpoint)): Names<(String, String)>,
    body: Body,
) -> Result<Response, Failure> {
    let (endpoint, health, snapshot) = (parse_name(&endpoint)?, wanted(&body)?, rules(&api));
    let cells = find(&api, &snapshot, &name, &endpoint)?;
    for cell in &cells {
        cell.set_health(Voice::Hand, health, now_ms());
    }
    log::info(format_args!("upstream `{name}`: {endpoint} is {} by hand", health.name()));
    let (by_hand, of) = (Arc::clone(&api.state.by_hand), Arc::clone(&snapshot));
    let kept = tokio::task::spawn_blocking(move || by_hand.keep(&of)).await.unwrap_or(false);
    show(&name, &endpoint, &cells, Some(kept))
}

fn rules(api: &Api) -> Arc<Snapshot> {
    Arc::clone(&api.state.rules().snapshot)
}

fn wanted(body: &Body) -> Result<Health, Failure> {
    let keys = body.object()?;
    let words = WORDS.map(Health::name);
    if let Some(unknown) = keys.keys().find(|key| *key != "health") {
        let hint = "write {\"health\": \"draining\"}";
        return Err(Failure::bad(unknown, format!("unknown key \"{unknown}\""), hint));
    }
    let said = keys.get("health").and_then(|word| word.as_str()).unwrap_or("");
    WORDS.into_iter().find(|health| health.name() == said).ok_or_else(|| {
        let hint =
            names::did_you_mean(said, words, || format!("write one of {}", names::list(words)));
        Failure::bad("health", "it is \"up\", \"down\" or \"draining\"", hint)
    })
}

/// What is known of an endpoint in force: of each of its addresses, if it is a name.
fn find<'s>(
    api: &Api,
    snapshot: &'s Snapshot,
    name: &str,
    endpoint: &str,
) -> Result<Vec<&'s EndpointCell>, Failure> {
    let refuse = |refused| {
        let overlay = api.state.rules().overlay.clone();
        Failure::refused(&refused, &overlay, None)
    };
    let upstream = snapshot.upstreams.iter().find(|one| *one.name == *name);
    let upstream = upstream.ok_or_else(|| refuse(not_found(Kind::Upstream, name)))?;
    let all = upstream.endpoints.iter().filter(|one| *one.authority == *endpoint);
    let cells: Vec<&EndpointCell> = all.map(|one| &*one.cell).collect();
    match cells.is_empty() {
        true => Err(refuse(missing(name, endpoint))),
        false => Ok(cells),
    }
}

fn show(
    name: &str,
    endpoint: &str,
    cells: &[&EndpointCell],
    kept: Option<bool>,
) -> Result<Response, Failure> {
    // Of several addresses the best counts: it is where requests go.
    let best = |of: fn(&EndpointCell) -> Health| {
        let is = |wanted: &Health| cells.iter().any(|cell| of(cell) == *wanted);
        [Health::Up, Health::Draining].into_iter().find(is).unwrap_or(Health::Down).name()
    };
    let mut answer = json!({
        "upstream": name,
        "endpoint": endpoint,
        "health": best(EndpointCell::health),
        "by_hand": best(|cell| cell.said_by(Voice::Hand)),
    });
    if let Some(kept) = kept {
        answer["kept"] = kept.into();
    }
    Ok((StatusCode::OK, Json(answer)).into_response())
}
