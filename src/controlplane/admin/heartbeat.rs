//! `/v1/upstreams/{name}/endpoints/{endpoint}/heartbeat`: an endpoint says that it lives. No change of
//! the rules: the next request on every core obeys it.

use std::{collections::HashMap, time::Duration};

use axum::{
    Json,
    extract::{Query, State as Shared},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{Api, call::Names, change::not_found, endpoints, failure::Failure};
use crate::{
    base::limits::{HEARTBEAT_TTL_MAX, HEARTBEAT_TTL_MIN},
    controlplane::{
        changes::{Refused, Why},
        config::{overlay::Kind, units},
        heartbeats::Unexpected,
    },
};

/// `PUT /v1/upstreams/{name}/endpoints/{endpoint}/heartbeat?ttl=10s`
pub(super) async fn put(
    api: Shared<Api>,
    Names((name, endpoint)): Names<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, Failure> {
    let endpoint = endpoints::parse_name(&endpoint)?;
    let ttl = ttl(&query)?;
    let rules = api.state.rules();
    let refuse = |refused: &Refused| Failure::refused(refused, &rules.overlay, None);
    let upstream = rules.snapshot.upstreams.iter().find(|one| *one.name == *name);
    let upstream = upstream.ok_or_else(|| refuse(&not_found(Kind::Upstream, &name)))?;
    match api.state.heartbeats.beat(upstream, &endpoint, ttl) {
        Ok(ttl) => {
            let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            let answer = json!({ "upstream": name, "endpoint": endpoint, "ttl_ms": ttl_ms });
            Ok(Json(answer).into_response())
        }
        Err(Unexpected::Endpoint) => Err(refuse(&endpoints::missing(&name, &endpoint))),
        Err(Unexpected::Upstream) => {
            let message = format!("upstream \"{name}\" expects no heartbeats");
            let hint = "give it heartbeat = { ttl = \"10s\" }";
            let refused = Refused::because(Why::Conflict, "upstream.heartbeat", message, hint);
            Err(refuse(&refused))
        }
    }
}

fn ttl(query: &HashMap<String, String>) -> Result<Option<Duration>, Failure> {
    if let Some(unknown) = query.keys().find(|name| *name != "ttl") {
        let message = format!("unknown parameter \"{unknown}\"");
        return Err(Failure::bad(unknown, message, "it takes ttl"));
    }
    let Some(text) = query.get("ttl") else { return Ok(None) };
    match units::parse_duration(text) {
        Ok(ttl) if (HEARTBEAT_TTL_MIN..=HEARTBEAT_TTL_MAX).contains(&ttl) => Ok(Some(ttl)),
        _ => Err(Failure::bad("ttl", "not a duration from 100ms to 24h", "write ttl=10s")),
    }
}
