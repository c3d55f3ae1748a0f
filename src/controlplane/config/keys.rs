//! Every key of the configuration, once: name, type, range, default and what it does.
//!
//! [`super::table`] checks against these declarations, [`super::schema`] turns them into JSON
//! Schema, and the tables of `docs/configuration.md` are made from them.

pub(super) mod balance;
mod browsers;
mod dns;
mod endpoint;
pub(super) mod failures;
mod health_check;
mod rollout;
mod runtime;
mod split;
mod tls;

use std::time::Duration;

pub(super) use self::endpoint::ENDPOINT;
use self::{
    balance::{HASH, STICKY},
    dns::{DISCOVERY, DISCOVERY_DNS, DNS},
    health_check::HEALTH_CHECK,
    runtime::{CORE, RUNTIME},
    tls::{CERTIFICATE, TLS, UPSTREAM_TLS},
};
use crate::base::limits;

/// The keys of one table.
#[derive(Debug)]
pub(super) struct Section {
    /// The dotted path: `listener.limits`; empty for the file itself.
    pub(super) path: &'static str,
    /// What the table is for.
    pub(super) doc: &'static str,
    /// Its keys, in the order of the documentation.
    pub(super) keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// As written in TOML.
    pub(super) name: &'static str,
    /// What it takes.
    pub(super) kind: Kind,
    /// As written in TOML, without quotes; empty for none.
    pub(super) default: &'static str,
    /// Whether it must be there.
    pub(super) required: bool,
    /// What it does, in a sentence or two.
    pub(super) doc: &'static str,
    /// What users of other proxies may call it.
    pub(super) aliases: &'static [&'static str],
}

/// What a key takes.
#[derive(Debug)]
pub(super) enum Kind {
    /// A string; with an example.
    Text(&'static str),
    /// An array of strings; with an example element.
    Texts(&'static str),
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// An array of these strings.
    Choices(&'static [&'static str]),
    /// `true` or `false`.
    Boolean,
    /// A whole number in a range.
    Integer(i64, i64),
    /// A duration in a range; whether `"unlimited"` is one too.
    Duration(Duration, Duration, bool),
    /// A size in bytes in a range; whether `"unlimited"` is one too.
    Size(u64, u64, bool),
    /// A table from names to strings.
    Pairs,
    /// A table.
    One(&'static Section),
    /// An array of tables.
    Many(&'static Section),
    /// An array of tables or of strings, which stand for the first key.
    ManyOrTexts(&'static Section),
    /// A string or a table.
    TextOr(&'static Section),
    /// A key of a later version: what to do until then.
    Later(&'static str),
}

pub(super) const MICROSECOND: Duration = Duration::from_micros(1);
const SECOND: Duration = Duration::from_secs(1);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

pub(super) const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key { name, kind, default, required: false, doc, aliases: &[] }
}

const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, default: "", required: true, doc, aliases: &[] }
}

const fn later(name: &'static str, instead: &'static str) -> Key {
    Key { name, kind: Kind::Later(instead), default: "", required: false, doc: "", aliases: &[] }
}

impl Key {
    pub(super) const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}

/// The file itself.
pub(super) static ROOT: Section = Section {
    path: "",
    doc: "A configuration of ringway: where clients connect, which requests go where.",
    keys: &[
        key("runtime", Kind::One(&RUNTIME), "", RUNTIME.doc).or(&["worker", "workers", "global"]),
        key("admin", Kind::One(&ADMIN), "", ADMIN.doc),
        key("log", Kind::One(&LOG), "", LOG.doc).or(&["logging", "logs"]),
        key("dns", Kind::One(&DNS), "", DNS.doc).or(&["resolver", "resolvers", "nameserver"]),
        key("listener", Kind::Many(&LISTENER), "", LISTENER.doc).or(&[
            "listeners",
            "server",
            "servers",
            "frontend",
            "entrypoint",
        ]),
        key("route", Kind::Many(&ROUTE), "", ROUTE.doc).or(&["routes", "location", "router"]),
        key("upstream", Kind::Many(&UPSTREAM), "", UPSTREAM.doc).or(&[
            "upstreams",
            "backend",
            "backends",
            "cluster",
            "service",
            "services",
        ]),
        later("plugin", "remove it"),
        key("rollout", Kind::Many(&rollout::ROLLOUT), "", rollout::ROLLOUT.doc)
            .or(&["rollouts", "canary", "canaries"]),
        later("source", "remove it; a file or directory is the only source"),
    ],
};

/// `[admin]`.
pub(super) static ADMIN: Section = Section {
    path: "admin",
    doc: "The admin API: see docs/admin-api.md.",
    keys: &[
        key("enabled", Kind::Boolean, "true", "Whether it is served."),
        key(
            "address",
            Kind::Text("127.0.0.1:9180"),
            "127.0.0.1:9180",
            "IP address and port. Beyond loopback only with a token.",
        )
        .or(&["listen", "bind", "addr"]),
        key(
            "token",
            Kind::Text("${RINGWAY_ADMIN_TOKEN}"),
            "",
            "Bearer token that calls to /v1 must carry. Visible ASCII without spaces.",
        ),
        key(
            "state_dir",
            Kind::Text("/var/lib/ringway"),
            "",
            "Directory, which must exist, that keeps what the API is told over restarts.",
        )
        .or(&["data_dir"]),
    ],
};

/// `[log]`.
pub(super) static LOG: Section = Section {
    path: "log",
    doc: "What is written down.",
    keys: &[
        key(
            "level",
            Kind::Choice(&["off", "error", "warn", "info", "debug", "trace"]),
            "info",
            "Least severity of ringway's own messages.",
        ),
        key(
            "access",
            Kind::TextOr(&ACCESS),
            "off",
            "Log of requests: \"off\", \"stdout\", the path of a file, or a table.",
        ),
    ],
};

/// `log.access` as a table.
pub(super) static ACCESS: Section = Section {
    path: "log.access",
    doc: "Log of requests, in detail.",
    keys: &[
        required("to", Kind::Text("stdout"), "\"stdout\", \"off\", or the path of a file.")
            .or(&["path", "file"]),
        key(
            "format",
            Kind::Choice(&["json", "common", "combined"]),
            "json",
            "JSON lines, or Apache's common or combined format.",
        ),
        key(
            "sample",
            Kind::Text("10%"),
            "100%",
            "Share of requests that are logged, in steps of \
            0.01%.",
        ),
        key(
            "keep",
            Kind::Texts("errors"),
            "",
            "What is logged whatever the sample says: \
            \"errors\" (status 400 and above), or a duration: requests at least that slow.",
        ),
    ],
};

/// `[[listener]]`.
pub(super) static LISTENER: Section = Section {
    path: "listener",
    doc: "An address that clients connect to.",
    keys: &[
        required("name", Kind::Text("edge"), "Its name in routes, metrics and logs."),
        required(
            "address",
            Kind::Text("0.0.0.0:8080"),
            "IP address and port, each core listens \
            on. IPv6 in brackets: \"[::]:8080\".",
        )
        .or(&["listen", "bind", "addr"]),
        key(
            "mode",
            Kind::Choice(&["http", "tcp"]),
            "http",
            "\"tcp\" passes connections through as they are, by the name that TLS clients ask for: see \
            docs/tcp.md.",
        )
        .or(&["protocol"]),
        key(
            "http",
            Kind::Choices(&["h1", "h2"]),
            "h1",
            "HTTP versions spoken. Without TLS, HTTP/2 is spoken to clients that begin with it (prior \
            knowledge).",
        ),
        key(
            "proxy_protocol",
            Kind::Boolean,
            "false",
            "Whether connections begin with a PROXY protocol header (version 1 or 2) that names the \
            client. Only `trusted_proxies` may connect then.",
        )
        .or(&["accept_proxy", "proxyProtocol"]),
        key(
            "merge_slashes",
            Kind::Boolean,
            "true",
            "Whether repeated slashes in a path count as one.",
        ),
        key(
            "trusted_proxies",
            Kind::Texts("10.0.0.0/8"),
            "",
            "Peers (IP addresses or CIDR \
            networks) whose X-Forwarded-* fields are believed and extended. Those of others are \
            dropped.",
        )
        .or(&["set_real_ip_from", "trusted_ips"]),
        key(
            "forwarded",
            Kind::Boolean,
            "false",
            "Whether `Forwarded` (RFC 7239) is sent beside X-Forwarded-*.",
        ),
        key("limits", Kind::One(&LIMITS), "", LIMITS.doc),
        key("tls", Kind::One(&TLS), "", TLS.doc).or(&["ssl"]),
        later("http2", "write http = [\"h1\", \"h2\"]"),
    ],
};

/// `[listener.limits]`.
pub(super) static LIMITS: Section = Section {
    path: "listener.limits",
    doc: "Bounds on what a client may do.",
    keys: &[
        key(
            "header_timeout",
            Kind::Duration(MICROSECOND, DAY, false),
            "10s",
            "For a whole request head, from its first byte; then 408.",
        )
        .or(&["client_header_timeout", "read_timeout"]),
        key(
            "body_timeout",
            Kind::Duration(MICROSECOND, DAY, false),
            "30s",
            "Longest pause inside a request body; then 408. Also the longest time in which a \
            client reads nothing of its response.",
        )
        .or(&["client_body_timeout", "write_timeout"]),
        key(
            "idle_timeout",
            Kind::Duration(MICROSECOND, DAY, false),
            "60s",
            "How long a keep-alive connection without a request stays open.",
        )
        .or(&["keepalive_timeout"]),
        key(
            "header_bytes_max",
            Kind::Size(
                limits::HEADER_BYTES_MAX_MIN as u64,
                limits::HEADER_BYTES_MAX_MAX as u64,
                false,
            ),
            "32KiB",
            "Longest request head; then 431, or 414 for a request line alone.",
        )
        .or(&["large_client_header_buffers", "max_header_bytes", "max_header_size"]),
        key(
            "header_count_max",
            Kind::Integer(1, limits::HEADER_COUNT_MAX_MAX as i64),
            "128",
            "Most fields in a request head; then 431.",
        )
        .or(&["max_header_count"]),
        key(
            "body_bytes_max",
            Kind::Size(0, i64::MAX as u64, true),
            "unlimited",
            "Longest request body; then 413.",
        )
        .or(&["client_max_body_size", "max_body_size", "max_request_bytes"]),
        key(
            "connections_max_per_core",
            Kind::Integer(1, limits::CONNECTIONS_MAX_PER_CORE_MAX as i64),
            "65536",
            "Connections of this listener on one core.",
        )
        .or(&["connections_max", "max_connections"]),
        key(
            "streams_max",
            Kind::Integer(1, limits::H2_STREAMS_MAX_MAX as i64),
            "128",
            "Requests open at once on one HTTP/2 connection; further ones are refused, to be sent \
            again.",
        )
        .or(&["http2_max_concurrent_streams", "max_concurrent_streams"]),
    ],
};

/// `[[route]]`.
pub(super) static ROUTE: Section = Section {
    path: "route",
    doc: "Which requests go to which upstream. All conditions count together.",
    keys: &[
        key(
            "id",
            Kind::Text("user-service"),
            "",
            "Its name in metrics and logs; unique. Without \
            one it is \"#\" and its number.",
        )
        .or(&["name"]),
        key("description", Kind::Text("user profiles"), "", "For people.").or(&["comment"]),
        key("listeners", Kind::Texts("edge"), "", "Names of listeners; all without it."),
        key(
            "hosts",
            Kind::Texts("*.example.com"),
            "",
            "Host names, `*.` and a name for all below \
            it, `*` for any; without ports. Any without it.",
        )
        .or(&["host", "server_name", "domains"]),
        key(
            "path",
            Kind::Text("/users/{id}"),
            "",
            "The whole path. `{name}` takes one segment, \
            `{name:regex}` one that matches, `{*name}` at the end the rest; `:name` and `*name` \
            mean the same.",
        )
        .or(&["uri", "location"]),
        key("path_prefix", Kind::Text("/api"), "", "The first segments of the path.")
            .or(&["prefix"]),
        key(
            "path_regex",
            Kind::Text("^/v[0-9]+/"),
            "",
            "A regular expression that is searched in \
            the path; write `^` and `$` to tie it to the ends.",
        )
        .or(&["regex"]),
        key("methods", Kind::Texts("GET"), "", "Methods, in capitals; all without it.")
            .or(&["method"]),
        key(
            "headers",
            Kind::Pairs,
            "",
            "Header fields and what they must be: a literal, \
            \"present\", or \"~regex\".",
        )
        .or(&["header"]),
        key(
            "query",
            Kind::Pairs,
            "",
            "Query parameters and what they must be: a literal, \
            \"present\", or \"~regex\".",
        ),
        key(
            "priority",
            Kind::Integer(i64::MIN, i64::MAX),
            "0",
            "The higher one is tried first, before everything else that orders routes.",
        ),
        key(
            "upstream",
            Kind::Text("users"),
            "",
            "Name of the upstream the request goes to. Required unless there is a `split`.",
        )
        .or(&["backend", "service", "cluster", "proxy_pass", "to", "target"]),
        split::ROUTE_SPLIT,
        split::ROUTE_SPLIT_KEY,
        split::ROUTE_SPLIT_STICKY,
        split::ROUTE_MIRROR,
        key(
            "strip_path",
            Kind::Boolean,
            "false",
            "Drops the literal part of the path before the \
            first capture.",
        )
        .or(&["strip_prefix", "stripprefix"]),
        key(
            "rewrite",
            Kind::Text("/people/{id}"),
            "",
            "The path that is sent instead, with \
            captures by name.",
        )
        .or(&["path_rewrite", "replace_path"]),
        key(
            "host_header",
            Kind::Text("upstream"),
            "preserve",
            "The Host that is sent: \
            \"preserve\" (the client's), \"upstream\" (the endpoint's), or a literal.",
        )
        .or(&["preserve_host"]),
        key(
            "timeout",
            Kind::Duration(MICROSECOND, DAY, false),
            "",
            "For the whole exchange; then 504. None without it.",
        ),
        key(
            "early_data",
            Kind::Boolean,
            "false",
            "Whether requests may be served that came as early data of TLS (0-RTT), which anybody \
            who saw them once can send again: for routes where that changes nothing. Others wait \
            for the handshake.",
        ),
        browsers::ROUTE_GRPC_WEB,
        browsers::ROUTE_CORS,
        failures::ROUTE_RETRY,
        failures::ROUTE_HEDGE,
        failures::ROUTE_IMPORTANCE,
        later("plugins", "remove it"),
        key(
            "sni",
            Kind::Texts("db.example.com"),
            "",
            "Only with `mode = \"tcp\"`: names that TLS clients ask for, `*.` and a name for all \
            below it, `*` for any. Any without it, also of clients that ask for none or speak no TLS.",
        )
        .or(&["server_name_indication", "host_sni", "HostSNI"]),
    ],
};

/// `[[upstream]]`.
pub(super) static UPSTREAM: Section = Section {
    path: "upstream",
    doc: "A named group of endpoints.",
    keys: &[
        required("name", Kind::Text("users"), "Its name in routes, metrics and logs.").or(&["id"]),
        key(
            "strategy",
            Kind::Choice(balance::STRATEGIES),
            "round-robin",
            "How an endpoint is picked: see docs/balancing.md. \"round-robin\" ignores weights.",
        )
        .or(&["algorithm", "balance", "lb_policy", "policy"]),
        key(
            "endpoints",
            Kind::ManyOrTexts(&ENDPOINT),
            "",
            "Where the group is: tables, or just \
            their URLs. Required unless `discovery` names some.",
        )
        .or(&["servers", "targets", "nodes", "urls", "url", "server", "hosts"]),
        key("hash", Kind::One(&HASH), "", HASH.doc).or(&["hash_on", "hash_policy"]),
        key("sticky", Kind::One(&STICKY), "", STICKY.doc).or(&["sticky_cookie", "session"]),
        key(
            "slow_start",
            Kind::Duration(MICROSECOND, DAY, false),
            "",
            "How long an endpoint that came up takes to its full share; at once without it.",
        ),
        key(
            "failover_below",
            Kind::Text("50%"),
            "0%",
            "The share of endpoints that must be left of a priority and those before it; below \
            it the next one joins. \"0%\": when nothing is left.",
        ),
        key("discovery", Kind::One(&DISCOVERY), "", DISCOVERY.doc).or(&["dns", "resolve"]),
        key("timeouts", Kind::One(&TIMEOUTS), "", TIMEOUTS.doc),
        key("pool", Kind::One(&POOL), "", POOL.doc).or(&["keepalive"]),
        key("tls", Kind::One(&UPSTREAM_TLS), "", UPSTREAM_TLS.doc).or(&["ssl", "proxy_ssl"]),
        key("health_check", Kind::One(&HEALTH_CHECK), "", HEALTH_CHECK.doc).or(&[
            "healthcheck",
            "health_checks",
            "healthchecks",
            "check",
        ]),
        key("heartbeat", Kind::One(&health_check::HEARTBEAT), "", health_check::HEARTBEAT.doc),
        key("circuit_breaker", Kind::One(&failures::BREAKER), "", failures::BREAKER.doc)
            .or(&["breaker"]),
        key("passive", Kind::One(&failures::PASSIVE), "", failures::PASSIVE.doc)
            .or(&["outlier_detection", "passive_health_check"]),
        key("overload", Kind::One(&failures::OVERLOAD), "", failures::OVERLOAD.doc)
            .or(&["limits", "concurrency"]),
        key(
            "http",
            Kind::Choice(&["h1", "h2"]),
            "h1",
            "HTTP version spoken to the endpoints. \"h2\" without TLS means that they know \
            beforehand.",
        )
        .or(&["protocol"]),
        later("http2", "write http = \"h2\""),
        key(
            "proxy_protocol",
            Kind::Choice(&["off", "v1", "v2"]),
            "off",
            "Whether each connection to an endpoint begins with a PROXY protocol header that names \
            the client, and of which version. Connections are not shared between clients then.",
        )
        .or(&["send_proxy", "send-proxy", "send_proxy_protocol"]),
    ],
};

/// `[upstream.timeouts]`.
pub(super) static TIMEOUTS: Section = Section {
    path: "upstream.timeouts",
    doc: "How long an endpoint is waited for.",
    keys: &[
        key(
            "connect",
            Kind::Duration(MICROSECOND, DAY, false),
            "1s",
            "To establish a connection; then 504.",
        )
        .or(&["connect_timeout"]),
        key(
            "response",
            Kind::Duration(MICROSECOND, DAY, false),
            "60s",
            "Longest silence of an endpoint, also between two reads of a body; then 504.",
        )
        .or(&["read", "read_timeout", "response_timeout"]),
        key(
            "body_rate_min",
            Kind::Size(1, limits::BODY_RATE_MAX, false),
            "",
            "Bytes a second that the body of a response has to come with while it is waited for; \
            one that trickles is cut, which counts as a failure. Nothing is asked without it.",
        )
        .or(&["min_rate", "low_speed_limit"]),
        key(
            "body_rate_grace",
            Kind::Duration(Duration::from_millis(100), DAY, false),
            "5s",
            "How far a body may fall behind that: for so long nothing may come.",
        )
        .or(&["low_speed_time"]),
    ],
};

/// `[upstream.pool]`.
pub(super) static POOL: Section = Section {
    path: "upstream.pool",
    doc: "Connections that are kept for the next request.",
    keys: &[
        key(
            "idle",
            Kind::Duration(MICROSECOND, DAY, false),
            "60s",
            "How long an unused connection is kept.",
        )
        .or(&["idle_timeout", "keepalive_timeout"]),
        key(
            "idle_max_per_core",
            Kind::Integer(0, limits::POOL_IDLE_MAX_PER_CORE_MAX as i64),
            "512",
            "Unused connections kept to each endpoint on one core; 0 keeps none.",
        )
        .or(&["idle_max", "max_idle", "keepalive"]),
        key(
            "endpoints_per_core",
            Kind::Integer(1, limits::ENDPOINTS_MAX_PER_UPSTREAM as i64),
            "",
            "How many of the endpoints a core uses at least, so that not every core has connections to \
            every endpoint; without it all.",
        )
        .or(&["subset", "subset_size", "aperture"]),
        key(
            "age_max",
            Kind::Duration(MICROSECOND, YEAR, true),
            "unlimited",
            "Age at which a connection is not used again.",
        )
        .or(&["max_age", "keepalive_time"]),
    ],
};

/// All tables, in the order of the documentation.
pub(super) static SECTIONS: &[&Section] = &[
    &ROOT,
    &RUNTIME,
    &CORE,
    &ADMIN,
    &LOG,
    &ACCESS,
    &DNS,
    &LISTENER,
    &TLS,
    &CERTIFICATE,
    &LIMITS,
    &ROUTE,
    &split::SPLIT,
    &split::SPLIT_STICKY,
    &browsers::CORS,
    &split::MIRROR,
    &failures::RETRY,
    &failures::HEDGE,
    &UPSTREAM,
    &ENDPOINT,
    &HASH,
    &STICKY,
    &DISCOVERY,
    &DISCOVERY_DNS,
    &TIMEOUTS,
    &POOL,
    &UPSTREAM_TLS,
    &HEALTH_CHECK,
    &health_check::HEARTBEAT,
    &failures::BREAKER,
    &failures::PASSIVE,
    &failures::OVERLOAD,
    &rollout::ROLLOUT,
    &rollout::STAGE,
];

impl Section {
    /// The declaration of a key.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// How its header is written: `[admin]`, `[[route]]`.
    pub(super) fn header(&self) -> String {
        let many = SECTIONS.iter().flat_map(|section| section.keys).any(|key| match key.kind {
            Kind::Many(inner) | Kind::ManyOrTexts(inner) => std::ptr::eq(inner, self),
            _ => false,
        });
        if many { format!("[[{}]]", self.path) } else { format!("[{}]", self.path) }
    }
}

#[cfg(test)]
mod tests;
