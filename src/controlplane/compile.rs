//! [`Config`] to [`Snapshot`]: the last place where a change can be refused.
//!
//! The route table was compiled while the configuration was checked; what is left is to look up
//! names of endpoints. Slots of the metrics are given by
//! [`super::series::Series::assign`], identities by [`super::carry::Carry::assign`]: both know the
//! versions before.

use std::{
    collections::HashMap,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use super::config::{
    Config, ConfigErrors, EndpointConfig, EndpointHost, Place, Problem, Severity, UpstreamConfig,
};
use crate::{
    base::ids::{Identity, ListenerId, RouteKey},
    snapshot::{
        Endpoint, Route, Snapshot, Upstream,
        cells::{EndpointCell, UpstreamCell},
    },
    telemetry::core_stats::{ROUTE_OTHER, UPSTREAM_OTHER},
};

/// Whether names of endpoints are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolve {
    /// Leaves them without an address: `check` must not depend on the network.
    No,
    /// Asks the system's resolver, which blocks: for the control thread.
    Yes,
}

/// Compiles a configuration. `version` must be higher than that of the snapshot in force.
///
/// Returns warnings too: names of endpoints that have no address. Blocks while names are looked up.
///
/// # Errors
/// None yet: what can be wrong was found when the configuration was loaded. Certificates and
/// plugins will fail here.
pub fn compile(
    config: Config,
    version: u64,
    resolve: Resolve,
) -> Result<(Snapshot, Vec<Problem>), ConfigErrors> {
    let mut resolver = Resolver { resolve, known: HashMap::new(), failed: Vec::new() };
    let upstreams = config.upstreams.into_iter().map(|one| Arc::new(resolver.upstream(one)));
    let upstreams = upstreams.collect();
    let routes = config.routes.into_iter().map(|route| Route {
        stats: ROUTE_OTHER,
        key: RouteKey(0),
        id: route.id,
        upstream: route.upstream,
        extra: route.extra,
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
    };
    let files = config.files;
    let warnings = resolver.failed.into_iter().map(|failed| failed.problem(&files)).collect();
    Ok((snapshot, warnings))
}

/// Compiles one upstream: the quick way for a change of endpoints. Blocks while names are looked up.
pub fn compile_upstream(config: UpstreamConfig) -> Upstream {
    Resolver { resolve: Resolve::Yes, known: HashMap::new(), failed: Vec::new() }.upstream(config)
}

/// Looks each name up once.
struct Resolver {
    resolve: Resolve,
    known: HashMap<(Box<str>, u16), Option<SocketAddr>>,
    failed: Vec<Failed>,
}

/// A name without an address.
struct Failed {
    name: Box<str>,
    error: Box<str>,
    place: Place,
}

impl Failed {
    fn problem(self, files: &[Box<str>]) -> Problem {
        Problem {
            file: files.get(self.place.file as usize).cloned().unwrap_or_default(),
            line: self.place.line,
            column: self.place.column,
            key: "upstream.endpoints.url".into(),
            message: format!("\"{}\" has no address: {}", self.name, self.error).into(),
            hint: "its requests are answered 502 until a reload finds one".into(),
            severity: Severity::Warning,
        }
    }
}

impl Resolver {
    fn upstream(&mut self, config: UpstreamConfig) -> Upstream {
        let cell = UpstreamCell::new(); // `carry` puts that of the version before in its place
        let endpoints: Box<[Endpoint]> =
            config.endpoints.into_iter().map(|one| self.endpoint(one, &cell)).collect();
        Upstream {
            identity: Identity::default(),
            pools: vec![Identity::default(); endpoints.len()].into(),
            name: config.name,
            stats: UPSTREAM_OTHER,
            strategy: config.strategy,
            endpoints,
            connect_timeout: config.connect_timeout,
            response_timeout: config.response_timeout,
            pool_idle: config.pool_idle,
            pool_idle_max_per_core: config.pool_idle_max_per_core,
            http2: config.http2,
            pool_age_max: config.pool_age_max,
            health_check: config.health_check.map(Arc::new),
            guards: config.guards,
            cell,
        }
    }

    fn endpoint(&mut self, config: EndpointConfig, upstream: &Arc<UpstreamCell>) -> Endpoint {
        let address = match config.host {
            EndpointHost::Ip(address) => Some(SocketAddr::new(address, config.port)),
            EndpointHost::Name(_) if self.resolve == Resolve::No => None,
            EndpointHost::Name(name) => self.look_up(name, config.port, config.place),
        };
        // Still there, so that what is under way to it goes on; only never picked.
        let weight = if config.enabled { config.weight } else { 0 };
        let cell = EndpointCell::new(upstream);
        Endpoint { authority: config.authority, address, weight, cell }
    }

    /// The first address the system gives, IPv4 before IPv6: most origins listen on IPv4 only.
    fn look_up(&mut self, name: Box<str>, port: u16, place: Place) -> Option<SocketAddr> {
        if let Some(address) = self.known.get(&(name.clone(), port)) {
            return *address;
        }
        let address = match (&*name, port).to_socket_addrs() {
            Ok(found) => found.min_by_key(SocketAddr::is_ipv6),
            Err(error) => {
                let error = error.to_string().into();
                self.failed.push(Failed { name: name.clone(), error, place });
                None
            }
        };
        self.known.insert((name, port), address);
        address
    }
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
        let (snapshot, warnings) = compile(config, 1, Resolve::Yes).unwrap();
        assert_eq!(snapshot.upstreams[0].endpoints[1].address, Some(([127, 0, 0, 1], 81).into()));
        assert_eq!(snapshot.upstreams[0].endpoints[2].address, None);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].to_string().starts_with("x.toml:15:"), "{}", warnings[0]);
    }
}
