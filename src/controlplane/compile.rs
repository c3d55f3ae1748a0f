//! [`Config`] to [`Snapshot`]: the last place where a change can be refused.
//!
//! The route table was compiled while the configuration was checked; what is left is to look up
//! names of endpoints. Slots of the metrics are given by
//! [`super::series::Series::assign`], identities by [`super::carry::Carry::assign`]: both know the
//! versions before.

use std::{net::SocketAddr, sync::Arc};

use super::{
    config::{
        Config, ConfigErrors, EndpointConfig, EndpointHost, Problem, Severity, UpstreamConfig,
    },
    dns::Names,
};
use crate::{
    base::{
        ids::{Identity, ListenerId, RouteKey},
        pace,
    },
    snapshot::{
        Endpoint, Route, Snapshot, Upstream,
        cells::{EndpointCell, UpstreamCell},
        names::{DnsSettings, From, Query, Template},
    },
    telemetry::core_stats::{ROUTE_OTHER, UPSTREAM_OTHER},
};

/// Whether names of endpoints are looked up.
#[derive(Clone, Copy, Debug)]
pub enum Resolve<'a> {
    /// Leaves them without an address: `check` must not depend on the network.
    No,
    /// Takes the answers from here, where names that are new are asked for first.
    With(&'a Arc<Names>),
}

/// Compiles a configuration. `version` must be higher than that of the snapshot in force.
///
/// Returns warnings too: names of endpoints that have no address. Blocks while new names are looked up.
///
/// # Errors
/// None yet: what can be wrong was found when the configuration was loaded. Certificates and
/// plugins will fail here.
pub fn compile(
    config: Config,
    version: u64,
    resolve: Resolve<'_>,
) -> Result<(Snapshot, Vec<Problem>), ConfigErrors> {
    let mut warnings = Vec::new();
    if let Resolve::With(names) = resolve {
        let endpoints = || config.upstreams.iter().flat_map(|upstream| &upstream.endpoints);
        let queries = endpoints().filter_map(|endpoint| from(endpoint).query().cloned());
        names.look_up(&config.dns, queries);
        warnings.extend(endpoints().filter_map(|one| unresolved(names, one, &config.files)));
    }
    let upstreams = config.upstreams.into_iter().map(|one| Arc::new(upstream(one, resolve)));
    let upstreams = upstreams.collect();
    let routes = config.routes.into_iter().map(|route| {
        pace::step();
        Route {
            stats: ROUTE_OTHER,
            key: RouteKey(0),
            id: route.id,
            upstream: route.upstream,
            extra: route.extra,
        }
    });
    let snapshot = Snapshot {
        version,
        listener_ids: (0..config.listeners.len() as u32).map(ListenerId).collect(),
        listeners: config.listeners.into(),
        table: config.table,
        routes: routes.collect(),
        upstreams,
        access_log: config.log.access,
        drain_timeout: config.runtime.drain_timeout,
        dns: Arc::new(config.dns),
        rollouts: config.rollouts.into_iter().map(Arc::new).collect(),
    };
    Ok((snapshot, warnings))
}

/// Compiles one upstream: the quick way for a change of endpoints. Blocks while new names are looked up.
pub fn compile_upstream(config: UpstreamConfig, dns: &DnsSettings, names: &Arc<Names>) -> Upstream {
    names.look_up(dns, config.endpoints.iter().filter_map(|one| from(one).query().cloned()));
    upstream(config, Resolve::With(names))
}

/// The warning for a name without an address.
fn unresolved(names: &Names, endpoint: &EndpointConfig, files: &[Box<str>]) -> Option<Problem> {
    let from = from(endpoint);
    let query = from.query()?;
    let error = names.error(query)?;
    Some(Problem {
        file: files.get(endpoint.place.file as usize).cloned().unwrap_or_default(),
        line: endpoint.place.line,
        column: endpoint.place.column,
        key: "upstream.endpoints.url".into(),
        message: format!("\"{}\" has no address: {error}", query.name()).into(),
        hint: "it is asked for again; until then its requests go elsewhere, or are answered 502"
            .into(),
        severity: Severity::Warning,
    })
}

/// Where the address of an endpoint comes from.
fn from(config: &EndpointConfig) -> From {
    match &config.host {
        EndpointHost::Ip(_) => From::Given,
        EndpointHost::Name(name) => From::Name(Query::Address(name.clone()), config.port),
        EndpointHost::Service(name) => From::Service(Query::Service(name.clone())),
    }
}

fn upstream(config: UpstreamConfig, resolve: Resolve<'_>) -> Upstream {
    let cell = UpstreamCell::new(); // `carry` puts that of the version before in its place
    let template =
        |one: &EndpointConfig| Template { from: from(one), endpoint: endpoint(one, &cell) };
    let templates: Arc<[Template]> = config.endpoints.iter().map(template).collect();
    let has_names = templates.iter().any(|template| template.from != From::Given);
    let endpoints: Box<[Endpoint]> = match resolve {
        Resolve::With(names) if has_names => names.endpoints(&templates, &cell),
        _ => templates.iter().map(|template| template.endpoint.clone()).collect(),
    };
    let mut upstream = Upstream {
        identity: Identity::default(),
        pools: vec![Identity::default(); endpoints.len()].into(),
        name: config.name,
        stats: UPSTREAM_OTHER,
        strategy: config.balance.kind(),
        rules: config.balance.rules,
        sticky: config.balance.sticky(),
        key: config.balance.key,
        http2: config.http2,
        proxy_protocol: config.proxy_protocol,
        tls: config.tls,
        endpoints,
        templates: has_names.then_some(templates),
        connect_timeout: config.connect_timeout,
        response_timeout: config.response_timeout,
        pace: config.pace,
        pool_idle: config.pool_idle,
        pool_idle_max_per_core: config.pool_idle_max_per_core,
        pool_age_max: config.pool_age_max,
        health_check: config.health_check.map(Arc::new),
        heartbeat: config.heartbeat,
        guards: config.guards,
        cell,
    };
    upstream.rebalance();
    upstream
}

fn endpoint(config: &EndpointConfig, upstream: &Arc<UpstreamCell>) -> Endpoint {
    let address = match config.host {
        EndpointHost::Ip(address) => Some(SocketAddr::new(address, config.port)),
        EndpointHost::Name(_) | EndpointHost::Service(_) => None,
    };
    // Still there, so that what is under way to it goes on; only never picked.
    let weight = if config.enabled { config.weight } else { 0 };
    let cell = EndpointCell::new(upstream);
    let (authority, tls_name) = (config.authority.clone(), config.tls_name.clone());
    Endpoint { authority, address, tls_name, weight, level: config.level, cell }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::ids::UpstreamIndex, controlplane::config};

    const TEXT: &str = r#"
        [[listener]]
        name = "edge"
        address = "127.0.0.1:8080"
        [[route]]
        id = "a"
        upstream = "u"
        [[route]]
        id = "b"
        hosts = ["b.test"]
        upstream = "u"
        timeout = "3s"
        [[upstream]]
        name = "u"
        endpoints = ["http://127.0.0.1:8081", "http://localhost:81", "http://no-such.invalid"]
    "#;

    #[test]
    fn a_snapshot_has_what_the_file_says() {
        let config = config::load_str("x.toml", TEXT).unwrap().config;
        let (snapshot, warnings) = compile(config, 7, Resolve::No).unwrap();
        assert_eq!((snapshot.version, warnings.len()), (7, 0));
        assert_eq!(snapshot.routes.len(), 2);
        assert!(snapshot.routes[0].extra.is_none(), "a plain route stays small");
        let timeout = snapshot.routes[1].extra.as_ref().unwrap().timeout;
        assert_eq!(timeout, Some(std::time::Duration::from_secs(3)));
        let upstream = snapshot.upstream(UpstreamIndex(0));
        assert_eq!(upstream.endpoints[0].address, Some(([127, 0, 0, 1], 8081).into()));
        assert_eq!(upstream.endpoints[1].address, None, "check looks nothing up");
    }

    #[test]
    fn names_are_looked_up_and_those_without_an_address_are_a_warning() {
        let config = config::load_str("x.toml", TEXT).unwrap().config;
        let (snapshot, warnings) = compile(config, 1, Resolve::With(&Arc::default())).unwrap();
        assert_eq!(snapshot.upstreams[0].endpoints[1].address, Some(([127, 0, 0, 1], 81).into()));
        assert_eq!(snapshot.upstreams[0].endpoints[2].address, None);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].to_string().starts_with("x.toml:15:"), "{}", warnings[0]);
    }
}
