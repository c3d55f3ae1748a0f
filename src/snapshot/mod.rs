//! The immutable rules of one version: what the control plane compiles and the data plane obeys.
//!
//! Built by `controlplane::compile`, shared read-only by all cores, never changed. What a core adds
//! (balancer cursors, pools) lives in its shard. Plain data: no socket, no clock, no lock. Beside the
//! rules it points to [`cells`], which hold what changes without new rules.

pub mod cells;
pub mod health;
pub mod messages;
pub mod names;
pub mod rollout;
pub mod split;

use std::{borrow::Cow, net::SocketAddr, sync::Arc, time::Duration};

use cells::{EndpointCell, UpstreamCell};

pub use crate::telemetry::access::AccessLogFormat;
use crate::{
    base::ids::{
        Identity, ListenerId, ListenerIndex, RouteIndex, RouteKey, StatsSlot, UpstreamIndex,
    },
    policy::{
        balance::{Kind, Rules, StickyCookie},
        breaker::BreakerRule,
        cors::Cors,
        forwarded::TrustedProxies,
        hedge::HedgeRule,
        key::RequestKey,
        outlier::PassiveRule,
        overload::{Importance, OverloadRule},
        pace::PaceRule,
        retry::RetryRule,
        route::{RouteTable, TargetRule},
    },
    proto::proxy_protocol::ProxyVersion,
    tls::{ClientTls, ServerTls, pki_types::ServerName},
};

/// The rules of one version.
#[derive(Debug)]
pub struct Snapshot {
    /// Rises by at least one with each change; the first is 1.
    pub version: u64,
    /// Where clients connect, by [`ListenerIndex`].
    pub listeners: Box<[Listener]>,
    /// Who each of them is, in the same order.
    pub listener_ids: Box<[ListenerId]>,
    /// Finds the route of a request; yields indices into `routes`.
    pub table: Arc<RouteTable>,
    /// What to do with a request, by [`RouteIndex`].
    pub routes: Arc<[Route]>,
    /// Groups of endpoints, by [`UpstreamIndex`]; those that a change leaves alone are shared with
    /// the version before.
    pub upstreams: Box<[Arc<Upstream>]>,
    /// How long what a change removes may go on: connections of a listener, exchanges of a route.
    pub drain_timeout: Duration,
    /// What is logged of each request.
    pub access_log: Option<AccessLog>,
    /// How names of endpoints are looked up.
    pub dns: Arc<names::DnsSettings>,
    /// New versions that take over step by step.
    pub rollouts: Arc<[Arc<rollout::Rollout>]>,
}

impl Snapshot {
    /// The listener of an index this snapshot handed out.
    pub fn listener(&self, index: ListenerIndex) -> &Listener {
        &self.listeners[usize::from(index.0)]
    }

    /// Where a listener stands in this snapshot, if it has it. Ids are given out in the order of the
    /// files, so until one is removed or put in between, the first look finds any of many.
    pub fn listener_index(&self, id: ListenerId) -> Option<ListenerIndex> {
        let guess = id.0.wrapping_sub(self.listener_ids.first()?.0) as usize;
        let index = match self.listener_ids.get(guess) {
            Some(found) if *found == id => guess,
            _ => self.listener_ids.iter().position(|one| *one == id)?,
        };
        u16::try_from(index).ok().map(ListenerIndex)
    }

    /// The route of an index this snapshot handed out.
    pub fn route(&self, index: RouteIndex) -> &Route {
        &self.routes[index.0 as usize]
    }

    /// The same as [`Snapshot::upstream`], for who keeps it.
    pub fn shared_upstream(&self, index: UpstreamIndex) -> &Arc<Upstream> {
        &self.upstreams[index.0 as usize]
    }

    /// The upstream of an index this snapshot handed out.
    pub fn upstream(&self, index: UpstreamIndex) -> &Upstream {
        &self.upstreams[index.0 as usize]
    }
}

/// One address that clients connect to.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The name in TOML, metrics and logs.
    pub name: Box<str>,
    /// Bound on every core with `SO_REUSEPORT`.
    pub address: SocketAddr,
    /// What becomes of connections.
    pub mode: Mode,
    /// Bounds on what a client may do.
    pub limits: ListenerLimits,
    /// Whether HTTP/1 is spoken.
    pub http1: bool,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// Whether `//` in a path means `/`.
    pub merge_slashes: bool,
    /// Peers whose `X-Forwarded-*` and `Forwarded` fields are believed and extended.
    pub trusted_proxies: TrustedProxies,
    /// Whether connections begin with a PROXY protocol header, which only `trusted_proxies` may send.
    pub proxy_protocol: bool,
    /// Whether `Forwarded` (RFC 7239) is sent beside `X-Forwarded-*`.
    pub forwarded: bool,
    /// TLS, where it is spoken.
    pub tls: Option<Arc<ServerTls>>,
}

/// What a listener makes of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Requests are read from them.
    #[default]
    Http,
    /// They are passed through as they are.
    Tcp,
}

/// `[listener.limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerLimits {
    /// For a whole request head, from its first byte.
    pub header_timeout: Duration,
    /// Longest pause inside a request body, and of a client that does not read its response.
    pub body_timeout: Duration,
    /// A keep-alive connection without a request.
    pub idle_timeout: Duration,
    /// Bytes of a request head.
    pub header_bytes_max: usize,
    /// Fields of a request head.
    pub header_count_max: usize,
    /// Bytes of a request body; `u64::MAX` for unlimited.
    pub body_bytes_max: u64,
    /// Connections of this listener on one core.
    pub connections_max_per_core: usize,
    /// Streams open at once on one HTTP/2 connection.
    pub streams_max: u32,
}

/// What to do with a request that matched.
#[derive(Clone, Debug)]
pub struct Route {
    /// The id in TOML, logs and metrics.
    pub id: Arc<str>,
    /// Where it goes.
    pub upstream: UpstreamIndex,
    /// Which counters it writes to; `compile` puts `telemetry::core_stats::ROUTE_OTHER`, the
    /// control plane gives out slots that survive reloads.
    pub stats: StatsSlot,
    /// Who it is over versions; given by the control plane too.
    pub key: RouteKey,
    /// What most routes do not have; `None` means all defaults.
    pub extra: Option<Arc<RouteExtra>>,
}

/// The rarer settings of a route, apart so that a plain route stays small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteExtra {
    /// How the path that is sent upstream is made.
    pub target: TargetRule,
    /// What Host the endpoint sees.
    pub host_header: HostHeader,
    /// For the whole exchange.
    pub timeout: Option<Duration>,
    /// Which other origins browsers let use it.
    pub cors: Option<Box<Cors>>,
    /// Whether calls in gRPC-Web become calls in gRPC.
    pub grpc_web: bool,
    /// Captures that an upstream of the route wants to know by name.
    pub key_captures: Vec<(Box<str>, u8)>,
    /// Whether early data of TLS is served.
    pub early_data: bool,
    /// When a request that failed is tried again.
    pub retry: Option<RetryRule>,
    /// When a second endpoint is asked beside the first.
    pub hedge: Option<HedgeRule>,
    /// Who is refused first when the upstream has too much to do.
    pub importance: Importance,
    /// The upstreams its requests are shared out over; [`Route::upstream`] is the first of them.
    pub split: Option<Arc<split::Split>>,
    /// Where copies of its requests go.
    pub mirror: Option<Mirror>,
}

/// `route.mirror`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Where the copies go.
    pub upstream: UpstreamIndex,
    /// How many of 10,000 requests are copied.
    pub share_per_10k: u16,
}

impl RouteExtra {
    /// All defaults.
    pub const PLAIN: Self = Self {
        target: TargetRule::Keep,
        host_header: HostHeader::Preserve,
        timeout: None,
        cors: None,
        grpc_web: false,
        key_captures: Vec::new(),
        early_data: false,
        retry: None,
        hedge: None,
        importance: Importance::Normal,
        split: None,
        mirror: None,
    };
}

/// What Host the endpoint sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostHeader {
    /// The client's.
    #[default]
    Preserve,
    /// The endpoint's own authority.
    Upstream,
    /// This one.
    Literal(Box<str>),
}

/// A named group of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The name in TOML, metrics and logs.
    pub name: Box<str>,
    /// How an endpoint is picked.
    pub strategy: Kind,
    /// Who takes part in that.
    pub rules: Rules,
    /// What requests are known by, if the strategy wants to know.
    pub key: Option<RequestKey>,
    /// The cookie that keeps a client on its endpoint.
    pub sticky: Option<StickyCookie>,
    /// At least one, in the order of the configuration.
    pub endpoints: Box<[Endpoint]>,
    /// What `endpoints` are made from, if that needs names to be looked up.
    pub templates: Option<Arc<[names::Template]>>,
    /// Whether HTTP/2 is spoken to the endpoints.
    pub http2: bool,
    /// What they are told of the client before its first byte.
    pub proxy_protocol: Option<ProxyVersion>,
    /// To establish a connection.
    pub connect_timeout: Duration,
    /// Longest silence of an endpoint, also between two reads of a body.
    pub response_timeout: Duration,
    /// How fast bodies of responses have to come.
    pub pace: Option<PaceRule>,
    /// How long an unused connection is kept.
    pub pool_idle: Duration,
    /// Unused connections kept to each endpoint on one core.
    pub pool_idle_max_per_core: usize,
    /// Age at which a connection is not used again; `Duration::MAX` for never.
    pub pool_age_max: Duration,
    /// How its endpoints are checked, if they are.
    pub health_check: Option<Arc<health::HealthCheck>>,
    /// How long a heartbeat of an endpoint counts, if they are expected.
    pub heartbeat: Option<Duration>,
    /// Which counters it writes to; `compile` puts `telemetry::core_stats::UPSTREAM_OTHER`, the
    /// control plane gives out slots that survive reloads.
    pub stats: StatsSlot,
    /// How TLS is spoken with those endpoints that have a `tls_name`.
    pub tls: Option<Arc<ClientTls>>,
    /// Where cores keep its balancer; another one when strategy or endpoints change. Given by
    /// `controlplane::carry`, like `pools`.
    pub identity: Identity,
    /// Where cores keep the unused connections to each endpoint's address, in the order of
    /// `endpoints`; upstreams with the same address share them.
    pub pools: Box<[Identity]>,
    /// What all cores know of it; carried over as long as its name stays.
    pub cell: Arc<UpstreamCell>,
    /// What is done when it fails; `None` for nothing.
    pub guards: Option<Box<Guards>>,
}

/// What is done when an upstream or its endpoints fail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guards {
    /// `[upstream.passive]`.
    pub passive: Option<PassiveRule>,
    /// `[upstream.circuit_breaker]`.
    pub breaker: Option<BreakerRule>,
    /// `[upstream.overload]`.
    pub overload: Option<OverloadRule>,
}

impl Guards {
    /// The rule of the upstream's breaker, if it has one.
    pub fn upstream_breaker(&self) -> Option<&BreakerRule> {
        self.breaker.as_ref().filter(|rule| rule.of_upstream)
    }

    /// How many connections there may be, if that is limited.
    pub fn connections_max(&self) -> Option<u32> {
        self.overload.as_ref().and_then(|rule| rule.connections_max)
    }

    /// The rule of the endpoints' breakers, if they have one.
    pub fn endpoint_breaker(&self) -> Option<&BreakerRule> {
        self.breaker.as_ref().filter(|rule| rule.of_endpoints)
    }
}

impl Upstream {
    /// Makes anew what is made of the list of endpoints: tables of hashes, and what cookies say.
    /// Takes some milliseconds if there is such a table.
    pub fn rebalance(&mut self) {
        let names: Vec<Cow<'_, str>> = self.endpoints.iter().map(Endpoint::name).collect();
        let weights = self.endpoints.iter().map(|one| one.weight);
        self.strategy = self.strategy.over(names.iter().map(AsRef::as_ref).zip(weights));
        let sticky = self.sticky.as_ref();
        self.sticky = sticky.map(|sticky| sticky.over(names.iter().map(AsRef::as_ref)));
    }
}

impl Endpoint {
    /// What tells it from all others of its upstream: its authority, with the address where that is
    /// one of several of a name.
    fn name(&self) -> Cow<'_, str> {
        match self.address {
            Some(address) if address.to_string() != *self.authority => {
                format!("{} {address}", self.authority).into()
            }
            _ => Cow::Borrowed(&*self.authority),
        }
    }
}

/// One address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port` as configured: its name in metrics and logs, and the Host of
    /// [`HostHeader::Upstream`] (without `:80`).
    pub authority: Box<str>,
    /// Where to connect; `None` while its name has no address.
    pub address: Option<SocketAddr>,
    /// Whom it has to prove to be, where TLS is spoken with it.
    pub tls_name: Option<ServerName<'static>>,
    /// Share of requests relative to the other endpoints; 0 for one that is disabled.
    pub weight: u32,
    /// Its level, below [`crate::policy::balance::LEVELS`]: a higher one helps out.
    pub level: u8,
    /// What all cores know of it: up or not, ejected or not. Carried over as long as its upstream
    /// has this authority at this address.
    pub cell: Arc<EndpointCell>,
}

/// What is logged of each request, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Where the lines go.
    pub to: AccessLogTarget,
    /// JSON lines, or the formats of Apache.
    pub format: AccessLogFormat,
    /// Of 10,000 requests, how many are logged.
    pub sample_per_10k: u16,
    /// Whether status 400 and above is logged whatever the sample says.
    pub keep_errors: bool,
    /// Requests at least this slow are logged whatever the sample says.
    pub keep_slower_than: Option<Duration>,
}

/// Where access log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// Standard output.
    Stdout,
    /// A file, appended to; reopened on SIGHUP.
    File(std::path::PathBuf),
}

/// How the loop of one core is set up; fixed for the life of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// The CPU this worker stands for (and is pinned to, if `pin`).
    pub core: usize,
    /// Which of them it is, counted from 0.
    pub number: u32,
    /// How many there are.
    pub count: u32,
    /// Whether the thread is bound to its CPU.
    pub pin: bool,
    /// Submission queue entries; a power of two.
    pub ring_entries: u32,
    /// Connections of clients on this core, all listeners together.
    pub connections_max: usize,
    /// Connections taken from the accept queue in one go.
    pub accept_batch: usize,
    /// Bytes of one buffer for received data, at least.
    pub buffer_bytes: usize,
    /// Buffers in use at a time.
    pub buffers_max: usize,
    /// Body bytes to go from which on a body moves by `splice(2)`.
    pub splice_bytes_min: u64,
    /// Pipes for `splice(2)`.
    pub pipes_max: usize,
    /// How long the kernel is asked again before the core sleeps.
    pub busy_poll: Duration,
}

/// Where the admin API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Loopback unless the operator says otherwise.
    pub address: SocketAddr,
    /// Bearer token that every call but the probes must carry.
    pub token: Option<Box<str>>,
    /// Where changes made through the API are kept.
    pub state_dir: Option<std::path::PathBuf>,
}
