//! `[[upstream]]` with its balancing, endpoints, timeouts and pool.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    balance::{self, BalanceConfig},
    client_tls, dns, endpoint,
    errors::{Place, Report},
    guards, health_check,
    links::Named,
    table::Table,
    value::Value,
};
use crate::{
    base::limits,
    policy::pace::PaceRule,
    proto::proxy_protocol::ProxyVersion,
    snapshot::{Guards, health::HealthCheck},
    tls::ClientTls,
};

pub use endpoint::{EndpointConfig, EndpointHost};

/// One `[[upstream]]`.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// Its name in routes, metrics and logs.
    pub name: Box<str>,
    /// How an endpoint is picked.
    pub balance: BalanceConfig,
    /// At least one, in the order of the file.
    pub endpoints: Vec<EndpointConfig>,
    /// Whether HTTP/2 is spoken to them.
    pub http2: bool,
    /// To establish a connection.
    pub connect_timeout: Duration,
    /// Longest silence of an endpoint.
    pub response_timeout: Duration,
    /// How fast bodies of responses have to come.
    pub pace: Option<PaceRule>,
    /// How long an unused connection is kept.
    pub pool_idle: Duration,
    /// Unused connections kept to each endpoint on one core.
    pub pool_idle_max_per_core: usize,
    /// Age at which a connection is not used again; `Duration::MAX` for never.
    pub pool_age_max: Duration,
    /// What they are told of the client before its first byte.
    pub proxy_protocol: Option<ProxyVersion>,
    /// How TLS is spoken with those endpoints that want it.
    pub tls: Option<Arc<ClientTls>>,
    /// How its endpoints are checked, if they are.
    pub health_check: Option<HealthCheck>,
    /// How long a heartbeat of an endpoint counts, if they are expected.
    pub heartbeat: Option<Duration>,
    /// What is done when it fails.
    pub guards: Option<Box<Guards>>,
    /// Where its header stands.
    pub place: Place,
}

/// Reads the upstreams of all files.
pub(super) fn read(roots: &[Table<'_>], report: &Report) -> Named<UpstreamConfig> {
    let mut upstreams = Named::new();
    for table in roots.iter().flat_map(|root| root.tables("upstream")) {
        let name = upstreams.add_name(&table, "name");
        let upstream = read_one(&table, name.as_deref().unwrap_or(""), report);
        if upstreams.len() == limits::UPSTREAMS_MAX {
            let message = format!("more than {} upstreams", limits::UPSTREAMS_MAX);
            report.error(table.place(), "upstream", message, "remove some");
            break;
        }
        upstreams.push(name, table.place(), upstream);
    }
    upstreams
}

fn read_one(table: &Table<'_>, name: &str, report: &Report) -> Option<UpstreamConfig> {
    let balance = balance::read(table);
    let mut endpoints = endpoints(table);
    if let Some(endpoints) = &endpoints {
        super::tcp::check_endpoints(table, endpoints);
    }
    let http2 = table.choice("http") == "h2";
    let proxy_protocol = proxy_protocol(table, http2);
    let tls = client_tls::read(table, name, endpoints.as_deref_mut(), http2, report);
    let timeouts = timeouts(table);
    let pool = pool(table);
    let health_check = match table.table("health_check") {
        Some(check) => health_check::read(&check, tls.as_ref().and_then(Option::as_ref), http2)
            .map(|check| Some(HealthCheck { proxy_protocol, ..check })),
        None => Some(None),
    };
    let (connect_timeout, response_timeout, pace) = timeouts?;
    let (pool_idle, pool_idle_max_per_core, pool_age_max) = pool?;
    Some(UpstreamConfig {
        name: name.into(),
        balance: balance?,
        endpoints: endpoints?,
        http2,
        connect_timeout,
        response_timeout,
        pace,
        pool_idle,
        pool_idle_max_per_core,
        pool_age_max,
        proxy_protocol,
        tls: tls?,
        health_check: health_check?,
        heartbeat: table.table("heartbeat").map(|table| table.duration("ttl")),
        guards: guards::read(table),
        place: table.place(),
    })
}

/// Connections of HTTP/2 are shared by requests of many clients, and there is one header for each.
fn proxy_protocol(table: &Table<'_>, http2: bool) -> Option<ProxyVersion> {
    let version = match table.choice("proxy_protocol") {
        "v1" => ProxyVersion::V1,
        "v2" => ProxyVersion::V2,
        _ => return None,
    };
    if http2 && let Some(value) = table.get("proxy_protocol") {
        value.error(
            "with http = \"h2\" clients share connections, which can name one of them only",
            "write http = \"h1\", or remove it: X-Forwarded-For names the client too",
        );
    }
    Some(version)
}

/// At least one endpoint, none twice.
fn endpoints(table: &Table<'_>) -> Option<Vec<EndpointConfig>> {
    let Some(discovery) = table.get("discovery") else {
        return listed(table, &table.require("endpoints")?);
    };
    let discovered = discovery.table().and_then(|table| dns::discovered(&table));
    let mut endpoints = match table.get("endpoints") {
        Some(value) => listed(table, &value)?,
        None => Vec::new(),
    };
    endpoints.push(discovered?);
    Some(endpoints)
}

/// Those of `endpoints`.
fn listed(table: &Table<'_>, value: &Value<'_>) -> Option<Vec<EndpointConfig>> {
    if value.elements_len() == Some(0) {
        value.error("an empty list", "write [{ url = \"http://127.0.0.1:8081\" }]");
        return None;
    }
    let elements = match value.is_table() {
        // One table instead of an array: said so, and read all the same.
        true => value.tables().iter().map(endpoint::read_table).collect(),
        false => value.elements()?.iter().map(endpoint::read).collect::<Vec<_>>(),
    };
    if elements.len() > limits::ENDPOINTS_MAX_PER_UPSTREAM {
        let message = format!("more than {} endpoints", limits::ENDPOINTS_MAX_PER_UPSTREAM);
        value.error(message, "put some into another upstream");
        return None;
    }
    let mut seen: HashMap<Box<str>, Place> = HashMap::new();
    for endpoint in elements.iter().flatten() {
        if let Some(first) = seen.get(&endpoint.authority) {
            table.report.error(
                endpoint.place,
                "upstream.endpoints",
                format!("{} is already at {}", endpoint.authority, table.report.describe(*first)),
                "remove one; for a larger share give it a weight",
            );
        }
        seen.entry(endpoint.authority.clone()).or_insert(endpoint.place);
    }
    elements.into_iter().collect()
}

fn timeouts(table: &Table<'_>) -> Option<(Duration, Duration, Option<PaceRule>)> {
    match table.get("timeouts") {
        Some(value) => {
            let given = value.table()?;
            let grace = given.duration("body_rate_grace");
            let pace = given.size_opt("body_rate_min").map(|rate| PaceRule { rate, grace });
            Some((given.duration("connect"), given.duration("response"), pace))
        }
        None => super::defaults::with("[[upstream]]\n[upstream.timeouts]", |root| {
            timeouts(root.tables("upstream").first()?)
        }),
    }
}

fn pool(table: &Table<'_>) -> Option<(Duration, usize, Duration)> {
    match table.get("pool") {
        Some(value) => {
            let given = value.table()?;
            let idle_max = given.integer("idle_max_per_core") as usize;
            Some((given.duration("idle"), idle_max, given.duration("age_max")))
        }
        None => super::defaults::with("[[upstream]]\n[upstream.pool]", |root| {
            pool(root.tables("upstream").first()?)
        }),
    }
}
