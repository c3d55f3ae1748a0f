//! Small values for the tests of this room.

use std::{sync::Arc, time::Instant};

use crate::{
    base::{
        ids::{Identity, ListenerId, RouteKey, UpstreamIndex},
        limits,
    },
    controlplane::{
        changes::{Changes, Orders},
        export::access_log::WriterStats,
        series::Series,
        state::{DriverInfo, Rules, State},
    },
    policy::{balance::Kind, route::TableBuilder},
    snapshot::{
        Endpoint, Listener, ListenerLimits, Route, Snapshot, Upstream,
        cells::{EndpointCell, UpstreamCell},
        names::{DnsSettings, Family},
    },
    telemetry::{
        CoreStats,
        core_stats::{ROUTE_OTHER, UPSTREAM_OTHER},
    },
};

/// Rules with the routes `first` and `second`, the upstream `first` and the listener `edge`.
pub(crate) fn snapshot(version: u64) -> Snapshot {
    let route = |id: &str| Route {
        id: id.into(),
        upstream: UpstreamIndex(0),
        stats: ROUTE_OTHER,
        key: RouteKey(0),
        extra: None,
    };
    let seconds = std::time::Duration::from_secs;
    let listener = Listener {
        mode: Default::default(),
        name: "edge".into(),
        address: "127.0.0.1:8080".parse().expect("an address"),
        limits: ListenerLimits {
            header_timeout: seconds(10),
            body_timeout: seconds(30),
            idle_timeout: seconds(60),
            header_bytes_max: limits::HEADER_BYTES_MAX_DEFAULT,
            header_count_max: limits::HEADER_COUNT_MAX_DEFAULT,
            body_bytes_max: u64::MAX,
            connections_max_per_core: 100,
            streams_max: limits::H2_STREAMS_MAX,
        },
        http1: true,
        http2: false,
        merge_slashes: true,
        trusted_proxies: Default::default(),
        proxy_protocol: false,
        forwarded: false,
        tls: None,
    };
    let cell = UpstreamCell::new();
    let endpoint = Endpoint {
        tls_name: None,
        authority: "127.0.0.1:9".into(),
        address: None,
        weight: 1,
        level: 0,
        cell: EndpointCell::new(&cell),
    };
    let upstream = Upstream {
        tls: None,
        name: "first".into(),
        strategy: Kind::RoundRobin,
        rules: Default::default(),
        key: None,
        sticky: None,
        endpoints: [endpoint].into(),
        templates: None,
        connect_timeout: seconds(1),
        response_timeout: seconds(60),
        pace: None,
        pool_idle: seconds(60),
        pool_idle_max_per_core: 128,
        http2: false,
        proxy_protocol: None,
        pool_age_max: std::time::Duration::MAX,
        health_check: None,
        heartbeat: None,
        guards: None,
        stats: UPSTREAM_OTHER,
        identity: Identity::default(),
        pools: [Identity::default()].into(),
        cell,
    };
    Snapshot {
        version,
        listeners: [listener].into(),
        listener_ids: [ListenerId(0)].into(),
        table: Arc::new(TableBuilder::new(1).build()),
        routes: [route("first"), route("second")].into(),
        upstreams: [Arc::new(upstream)].into(),
        access_log: None,
        dns: Arc::new(DnsSettings {
            servers: Box::default(),
            family: Family::Auto,
            timeout: seconds(5),
            ttl_min: seconds(1),
            ttl_max: seconds(300),
        }),
        drain_timeout: seconds(30),
        rollouts: Arc::default(),
    }
}

/// A process with so many cores that has just started.
pub(crate) fn state(cores: usize) -> State {
    state_and_orders(cores).0
}

/// The same, with the changes that are submitted to it.
pub(crate) fn state_and_orders(cores: usize) -> (State, Orders) {
    let (mut snapshot, mut series) = (snapshot(1), Series::default());
    series.assign(None, &mut snapshot);
    let rules = Rules::new(Arc::new(snapshot), series, "ringway.toml".into());
    let cores = (0..cores).map(CoreStats::new).collect();
    let (log, (changes, orders)) = (Arc::<WriterStats>::default(), Changes::new());
    let name = "io_uring";
    let driver = DriverInfo { name, description: format!("Linux, {name}"), reason: None };
    (State::new(Instant::now(), cores, log, driver, changes, rules), orders)
}
