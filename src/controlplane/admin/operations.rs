//! Every call of the admin API, once: the router and the OpenAPI document are both made from this
//! list, so neither can have what the other lacks.

use axum::routing::{MethodRouter, delete, get, patch, post, put};

use super::{
    Api, by_hand, endpoints, healthy, heartbeat, metrics, objects, openapi, question, ready,
    rollouts, show_status, standings, whole,
};
use crate::controlplane::config::overlay::Kind;

/// One call.
pub(super) struct Operation {
    /// As in `OpenAPI`: `get`, `put`.
    pub(super) method: &'static str,
    /// With parameters in braces.
    pub(super) path: &'static str,
    /// What it is for, in a few words.
    pub(super) summary: &'static str,
    /// What it takes.
    pub(super) takes: Takes,
    /// What a success holds.
    pub(super) gives: Gives,
    /// Statuses of refusals, beside those that every call has.
    pub(super) refusals: &'static [u16],
    /// Who may call.
    pub(super) open: bool,
    /// Who answers.
    pub(super) handler: fn() -> MethodRouter<Api>,
}

/// What a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing.
    Nothing,
    /// If-None-Match.
    Read,
    /// `limit` and `after`.
    Page,
    /// The parameters and conditions of changes.
    Change,
    /// The same, and an object of this schema.
    Object(&'static str),
    /// The same, and some keys of an object of this schema.
    Patch(&'static str),
    /// The same, and a whole configuration.
    Whole,
    /// A time to live in the query.
    Beat,
    /// What an operator says of an endpoint.
    Health,
    /// A question in the query.
    Asks,
    /// A question in the body.
    Question,
    /// An empty object: pages of other sites can't send one unasked.
    Order,
}

/// What a success holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gives {
    /// Plain text.
    Text,
    /// JSON of this schema.
    Json(&'static str),
}

const CHANGED: Gives = Gives::Json("Changed");

/// The refusals of a change of an object.
const CHANGE: &[u16] = &[400, 404, 409, 412, 413, 415, 429, 503, 507];

const fn read(path: &'static str, summary: &'static str, gives: Gives) -> Operation {
    let handler = || get(show_status);
    let (method, takes, refusals) = ("get", Takes::Nothing, &[] as &[u16]);
    Operation { method, path, summary, takes, gives, refusals, open: false, handler }
}

impl Operation {
    const fn by(mut self, handler: fn() -> MethodRouter<Api>) -> Self {
        self.handler = handler;
        self
    }

    const fn open(mut self) -> Self {
        self.open = true;
        self
    }

    const fn takes(mut self, takes: Takes, refusals: &'static [u16]) -> Self {
        self.takes = takes;
        self.refusals = refusals;
        self
    }

    const fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }
}

const fn change(
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    takes: Takes,
    handler: fn() -> MethodRouter<Api>,
) -> Operation {
    read(path, summary, CHANGED).method(method).takes(takes, CHANGE).by(handler)
}

const fn order(
    path: &'static str,
    summary: &'static str,
    handler: fn() -> MethodRouter<Api>,
) -> Operation {
    read(path, summary, Gives::Json("Rollout"))
        .method("post")
        .takes(Takes::Order, &[400, 404, 409, 413, 415])
        .by(handler)
}

const ROLLOUT: &str = "/v1/rollouts/{name}";
const ROUTE: &str = "/v1/routes/{id}";
const UPSTREAM: &str = "/v1/upstreams/{name}";
const ENDPOINT: &str = "/v1/upstreams/{name}/endpoints/{endpoint}";

const HEARTBEAT: &str = "/v1/upstreams/{name}/endpoints/{endpoint}/heartbeat";
const HEALTH: &str = "/v1/upstreams/{name}/endpoints/{endpoint}/health";

/// All calls.
pub(super) static OPERATIONS: [Operation; 34] = [
    read("/healthz", "The process runs", Gives::Text).by(|| get(healthy)).open(),
    read("/readyz", "All cores serve", Gives::Text)
        .takes(Takes::Nothing, &[503])
        .by(|| get(ready))
        .open(),
    read("/metrics", "Metrics for Prometheus", Gives::Text).by(|| get(metrics)),
    read("/v1/status", "What the process does", Gives::Json("Status")).by(|| get(show_status)),
    read("/v1/openapi.json", "This document", Gives::Json("Any")).by(|| get(openapi::show)),
    read("/v1/explain", "Which route a request takes", Gives::Json("Explained"))
        .takes(Takes::Asks, &[400])
        .by(|| get(question::get)),
    read("/v1/explain", "Which route a request takes", Gives::Json("Explained"))
        .method("post")
        .takes(Takes::Question, &[400, 413, 415])
        .by(|| post(question::post)),
    read("/v1/config", "The configuration in force", Gives::Json("Configuration"))
        .takes(Takes::Read, &[])
        .by(|| get(whole::get)),
    change("post", "/v1/config", "Replaces everything that the API holds", Takes::Whole, || {
        post(whole::post)
    }),
    read("/v1/routes", "All routes in their order", Gives::Json("Routes"))
        .takes(Takes::Page, &[400])
        .by(|| objects::list(Kind::Route)),
    read(ROUTE, "A route", Gives::Json("Route"))
        .takes(Takes::Read, &[404])
        .by(|| objects::get(Kind::Route)),
    change("put", ROUTE, "Makes or replaces a route", Takes::Object("Route"), || {
        objects::put(Kind::Route)
    }),
    change("patch", ROUTE, "Changes keys of a route", Takes::Patch("Route"), || {
        objects::patch(Kind::Route)
    }),
    change("delete", ROUTE, "Removes a route", Takes::Change, || objects::delete(Kind::Route)),
    read("/v1/upstreams", "All upstreams in their order", Gives::Json("Upstreams"))
        .takes(Takes::Page, &[400])
        .by(|| objects::list(Kind::Upstream)),
    read(UPSTREAM, "An upstream", Gives::Json("Upstream"))
        .takes(Takes::Read, &[404])
        .by(|| objects::get(Kind::Upstream)),
    change("put", UPSTREAM, "Makes or replaces an upstream", Takes::Object("Upstream"), || {
        objects::put(Kind::Upstream)
    }),
    change("patch", UPSTREAM, "Changes keys of an upstream", Takes::Patch("Upstream"), || {
        objects::patch(Kind::Upstream)
    }),
    change("delete", UPSTREAM, "Removes an upstream", Takes::Change, || {
        objects::delete(Kind::Upstream)
    }),
    read(
        "/v1/upstreams/{name}/status",
        "What its endpoints are now, and who keeps requests from them",
        Gives::Json("UpstreamStatus"),
    )
    .takes(Takes::Nothing, &[404])
    .by(|| get(standings::get)),
    read("/v1/upstreams/{name}/endpoints", "Endpoints of an upstream", Gives::Json("Endpoints"))
        .takes(Takes::Read, &[404])
        .by(|| get(endpoints::list)),
    read(ENDPOINT, "An endpoint", Gives::Json("Endpoint"))
        .takes(Takes::Read, &[400, 404])
        .by(|| get(endpoints::get)),
    change("put", ENDPOINT, "Adds or replaces an endpoint", Takes::Patch("Endpoint"), || {
        put(endpoints::put)
    }),
    change(
        "patch",
        ENDPOINT,
        "Changes weight or enabled of an endpoint; enabled = false drains it",
        Takes::Patch("Endpoint"),
        || patch(endpoints::patch),
    ),
    read(HEARTBEAT, "An endpoint says that it lives", Gives::Json("Any"))
        .method("put")
        .takes(Takes::Beat, &[400, 404, 409])
        .by(|| put(heartbeat::put)),
    change("delete", ENDPOINT, "Removes an endpoint", Takes::Change, || delete(endpoints::delete)),
    read(HEALTH, "Whether an endpoint takes requests", Gives::Json("Health"))
        .takes(Takes::Nothing, &[400, 404])
        .by(|| get(by_hand::get)),
    read(HEALTH, "Drains an endpoint, takes it out, or back in", Gives::Json("Health"))
        .method("put")
        .takes(Takes::Health, &[400, 404, 413, 415])
        .by(|| put(by_hand::put)),
    read("/v1/rollouts", "What rollouts have come to", Gives::Json("Rollouts"))
        .by(|| get(rollouts::list)),
    read(ROLLOUT, "What a rollout has come to", Gives::Json("Rollout"))
        .takes(Takes::Nothing, &[404])
        .by(|| get(rollouts::get)),
    order("/v1/rollouts/{name}/pause", "Stays at its stage", || post(rollouts::pause)),
    order("/v1/rollouts/{name}/resume", "Goes on, or begins anew", || post(rollouts::resume)),
    order("/v1/rollouts/{name}/promote", "On to the next stage", || post(rollouts::promote)),
    order("/v1/rollouts/{name}/abort", "Back to the old version", || post(rollouts::abort)),
];
