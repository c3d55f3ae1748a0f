//! `/v1/upstreams/{name}/status`: what an upstream and its endpoints are now, and who keeps requests
//! from them. Reads cells that all cores share; changes nothing.

use axum::{
    Json,
    extract::State as Shared,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{Api, call::Names, change::not_found, failure::Failure};
use crate::{
    base::clock::now_ms,
    controlplane::{
        config::overlay::Kind,
        standing::{Shown, Standing},
    },
    policy::breaker,
    snapshot::Upstream,
};

/// One upstream.
#[derive(Debug, Serialize)]
struct Page {
    upstream: String,
    /// `closed`, `open` or `half_open`; `null` without a breaker.
    breaker: Option<&'static str>,
    /// What `[upstream.overload]` does; `null` without it.
    overload: Option<Overload>,
    endpoints: Vec<Shown>,
}

/// What the limit does.
#[derive(Debug, Serialize)]
struct Overload {
    in_flight: u32,
    pending: u32,
    limit: u32,
    /// `null` where they are not limited.
    connections: Option<u32>,
}

/// `GET /v1/upstreams/{name}/status`
pub(super) async fn get(api: Shared<Api>, Names(name): Names<String>) -> Result<Response, Failure> {
    let rules = api.state.rules();
    match rules.snapshot.upstreams.iter().find(|one| *one.name == *name) {
        Some(upstream) => Ok(Json(page(upstream)).into_response()),
        None => Err(Failure::refused(&not_found(Kind::Upstream, &name), &rules.overlay, None)),
    }
}

fn page(upstream: &Upstream) -> Page {
    let guards = upstream.guards.as_deref();
    let breaker = guards.and_then(|guards| guards.upstream_breaker());
    let load = upstream.cell.load();
    let overload = guards.and_then(|guards| guards.overload.as_ref()).map(|rule| Overload {
        in_flight: load.in_flight(),
        pending: load.pending(),
        limit: load.limit(rule),
        connections: rule.connections_max.map(|_| upstream.cell.connections().open()),
    });
    Page {
        upstream: upstream.name.to_string(),
        breaker: breaker.map(|_| breaker::State::name(upstream.cell.breaker().state())),
        overload,
        endpoints: Standing::of_all(upstream, now_ms()).map(|one| one.shown()).collect(),
    }
}
