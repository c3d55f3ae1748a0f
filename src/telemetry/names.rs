//! Every metric, once: its name, its labels, what it means. `docs/metrics.md` says the same to
//! operators; a test holds the two together.

/// What kind of number a metric is. Source: Prometheus, "Metric types".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts by upper bound, with sum and count.
    Histogram,
    /// Sum and count.
    Summary,
}

impl Kind {
    /// The word of a `# TYPE` line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// One metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name on the wire; unit and `_total` last.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// Names of its labels, in the order they are written.
    pub labels: &'static [&'static str],
    /// What it means, as one sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($id:ident = $name:literal, $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Metric =
                Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*

        /// All of them, in the order of the exposition.
        pub const ALL: &[Metric] = &[$($id),*];
    };
}

metrics! {
    HTTP_REQUESTS = "http_requests_total", Counter, ["route", "method", "status_code"],
        "Requests that ended, by route, method and status.";
    HTTP_DURATION = "http_request_duration_seconds", Histogram, ["route"],
        "From the first byte of a request to the last of its response.";
    HTTP_IN_FLIGHT = "http_requests_in_flight", Gauge, [],
        "Requests between their head and their last byte.";
    TCP_CONNECTIONS = "ringway_tcp_connections_total", Counter, ["route"],
        "Connections of listeners with `mode = \"tcp\"` that a route took.";
    TCP_OPEN = "ringway_tcp_connections_open", Gauge, ["route"],
        "Those of them that are open.";
    TCP_RECEIVED = "ringway_tcp_received_bytes_total", Counter, ["route"],
        "Bytes they received from clients, counted when they end.";
    TCP_SENT = "ringway_tcp_sent_bytes_total", Counter, ["route"],
        "Bytes they sent to clients, counted when they end.";
    ANSWERS = "ringway_answers_total", Counter, ["reason"],
        "Answers and cuts of ringway's own, by reason code.";
    UPSTREAM_EXCHANGES = "ringway_upstream_response_seconds", Summary, ["upstream"],
        "From the choice of an endpoint to its response head or its failure.";
    UPSTREAM_FAILURES = "ringway_upstream_failures_total", Counter, ["upstream"],
        "Exchanges without a usable response.";
    UPSTREAM_CONNECTS = "ringway_upstream_connects_total", Counter, ["core"],
        "Connections to endpoints begun.";
    UPSTREAM_CONNECT_FAILURES = "ringway_upstream_connect_failures_total", Counter, ["core"],
        "Connections to endpoints that could not be made.";
    UPSTREAM_REUSES = "ringway_upstream_reuses_total", Counter, ["core"],
        "Exchanges over a pooled connection.";
    UPSTREAM_RETRIES = "ringway_upstream_retries_total", Counter, ["core"],
        "Further tries after the first one failed.";
    RETRIES = "ringway_retries_total", Counter, ["upstream", "cause"],
        "Further tries, by what the one before failed of.";
    RETRIES_DENIED = "ringway_retries_denied_total", Counter, ["upstream"],
        "Further tries that the budget did not allow.";
    HEDGED = "ringway_hedged_total", Counter, ["upstream", "answered"],
        "Requests sent to a second endpoint, by who answered first.";
    EJECTIONS = "ringway_ejections_total", Counter, ["upstream", "why"],
        "Ejections of endpoints, by what live traffic showed.";
    EJECTIONS_DENIED = "ringway_ejections_denied_total", Counter, ["upstream"],
        "Ejections that `eject_max` did not allow.";
    EJECTED = "ringway_endpoints_ejected", Gauge, ["upstream"],
        "Endpoints that are ejected, or were and have not proved themselves.";
    BREAKER_OPENED = "ringway_breaker_opened_total", Counter, ["upstream"],
        "How often a circuit breaker opened, that of the upstream or of an endpoint.";
    BREAKERS_OPEN = "ringway_breakers_open", Gauge, ["upstream"],
        "Circuit breakers that are open or half-open, of the upstream and its endpoints.";
    SHED = "ringway_shed_total", Counter, ["upstream", "why"],
        "Requests refused before an endpoint was tried, by who refused them.";
    LIMITED_IN_FLIGHT = "ringway_upstream_requests_in_flight", Gauge, ["upstream"],
        "Requests with an upstream whose number is limited.";
    LIMITED_PENDING = "ringway_upstream_requests_pending", Gauge, ["upstream"],
        "Requests that wait for a place.";
    REQUEST_LIMIT = "ringway_upstream_requests_limit", Gauge, ["upstream"],
        "The limit in force, which follows latency if it is adaptive.";
    LIMITED_CONNECTIONS = "ringway_upstream_connections", Gauge, ["upstream"],
        "Connections to the endpoints of an upstream whose number is limited, unused ones included.";
    SPLIT_SHARE = "ringway_split_share_ratio", Gauge, ["route", "upstream"],
        "The share of a route's requests that an upstream of its split gets now.";
    ROLLOUT_STATE = "ringway_rollout_state", Gauge, ["rollout", "state"],
        "1 for the state of a rollout: `running`, `paused`, `done` or `rolled_back`.";
    ROLLOUT_SHARE = "ringway_rollout_share_ratio", Gauge, ["rollout"],
        "What the new version gets of the requests of both.";
    ROLLOUT_PROMOTIONS = "ringway_rollout_promotions_total", Counter, ["rollout"],
        "Stages that a rollout has passed.";
    ROLLOUT_ROLLBACKS = "ringway_rollout_rollbacks_total", Counter, ["rollout"],
        "How often a rollout went back to the old version.";
    MIRRORED = "ringway_mirrored_requests_total", Counter, ["result"],
        "Copies of requests: `answered`, `failed`; not made as too many were under way (`full`) or it can't be (`unfit`).";
    POOL_IDLE = "ringway_pool_idle_connections", Gauge, ["core"],
        "Idle connections to endpoints kept.";
    POOL_STALE = "ringway_pool_stale_total", Counter, ["core"],
        "Pooled connections found dead when they were to be used.";
    ENDPOINT_UP = "ringway_endpoint_up", Gauge, ["upstream", "endpoint", "address"],
        "1 if the checks of an endpoint say that it is up, 0 if not.";
    ENDPOINT_STATE = "ringway_endpoint_state", Gauge, ["upstream", "endpoint", "address", "state"],
        "Always 1; the label says what an endpoint is.";
    ENDPOINT_BREAKER = "ringway_endpoint_breaker", Gauge,
        ["upstream", "endpoint", "address", "state"],
        "Always 1; the label says what the circuit breaker of an endpoint is.";
    ENDPOINT_IN_FLIGHT = "ringway_endpoint_requests_in_flight", Gauge,
        ["upstream", "endpoint", "address"], "Tries that are with an endpoint.";
    ENDPOINT_REQUESTS = "ringway_endpoint_requests_total", Counter,
        ["upstream", "endpoint", "address"], "Tries of an endpoint.";
    ENDPOINT_ERRORS = "ringway_endpoint_errors_total", Counter,
        ["upstream", "endpoint", "address"],
        "Tries that an endpoint failed: no usable response, or a status from 500 on.";
    ENDPOINT_RETRIES = "ringway_endpoint_retries_total", Counter,
        ["upstream", "endpoint", "address"],
        "Tries of an endpoint that were not the first one of their request.";
    HEALTH_CHECKS = "ringway_health_checks_total", Counter, ["result"],
        "Health checks: passed or failed.";
    DNS_QUERIES = "ringway_dns_queries_total", Counter, ["result"],
        "Names of endpoints that were asked for: answered or failed.";
    DNS_FAILING = "ringway_dns_names_failing", Gauge, [],
        "Names of endpoints whose last question was not answered.";
    CONNECTIONS_ACCEPTED = "ringway_connections_accepted_total", Counter, ["core"],
        "Connections of clients taken from the accept queue.";
    CONNECTIONS_OPEN = "ringway_connections_open", Gauge, ["core"],
        "Connections of clients open.";
    CONNECTIONS_HANDED = "ringway_connections_handed_total", Counter, ["core"],
        "Connections accepted on this core and handed to one that had fewer.";
    CONNECTIONS_REFUSED = "ringway_connections_refused_total", Counter, ["core"],
        "Connections closed at once because the core had as many as it may.";
    TLS_HANDSHAKES = "ringway_tls_handshakes_total", Counter, ["result"],
        "TLS handshakes of clients, by how they ended.";
    CERTIFICATE_NOT_AFTER = "ringway_certificate_not_after_seconds", Gauge,
        ["listener", "certificate"],
        "When a certificate stops being valid, seconds since 1970.";
    CORE_REQUESTS = "ringway_core_requests_total", Counter, ["core"],
        "Requests that ended on this core.";
    DOWNSTREAM_RECEIVED = "ringway_downstream_received_bytes_total", Counter, ["core"],
        "Bytes received from clients.";
    DOWNSTREAM_SENT = "ringway_downstream_sent_bytes_total", Counter, ["core"],
        "Bytes sent to clients.";
    SPLICED = "ringway_spliced_bytes_total", Counter, ["core"],
        "Bytes moved by splice(2), both directions.";
    CLIENT_GONE = "ringway_client_gone_total", Counter, ["core"],
        "Requests whose client left before the end.";
    HTTP2_CONNECTIONS = "ringway_http2_connections_total", Counter, ["core"],
        "HTTP/2 connections of clients begun.";
    HTTP2_VIOLATIONS = "ringway_http2_violations_total", Counter, ["core"],
        "HTTP/2 connections ended because the client broke the rules or flooded.";
    HTTP2_STREAMS = "ringway_http2_streams_total", Counter, ["core"],
        "HTTP/2 streams of clients begun.";
    HTTP2_STREAMS_RESET = "ringway_http2_streams_reset_total", Counter, ["core"],
        "HTTP/2 streams that their client reset before the response had ended.";
    HTTP2_STREAMS_REFUSED = "ringway_http2_streams_refused_total", Counter, ["core"],
        "HTTP/2 streams refused because too much waits for their client already.";
    HTTP2_HELD_BYTES = "ringway_http2_held_bytes", Gauge, ["core"],
        "Bytes of response bodies that wait because HTTP/2 clients take nothing.";
    HTTP2_STREAMS_MALFORMED = "ringway_http2_streams_malformed_total", Counter, ["core"],
        "HTTP/2 streams refused because their request was malformed.";
    PANICS = "ringway_panics_total", Counter, ["core"],
        "Defects of ringway that cost one connection each.";
    BUFFERS = "ringway_buffers_in_use", Gauge, ["core"],
        "Pooled buffers in use.";
    PROXY_HEADERS_REFUSED = "ringway_proxy_headers_refused_total", Counter, ["core"],
        "Connections closed because their PROXY protocol header was bad, late, or of a stranger.";
    CORE_BUSY = "ringway_core_busy_seconds_total", Counter, ["core"],
        "Time that the thread of this core was running.";
    LOOP_TICKS = "ringway_loop_ticks_total", Counter, ["core"],
        "Beats of the loop's clock.";
    LOOP_STALL = "ringway_loop_stall_longest_seconds", Gauge, ["core"],
        "The longest delay of a beat since the start.";
    RULES_SWAP = "ringway_rules_swap_longest_seconds", Gauge, ["core"],
        "The longest a core was held by taking new rules, since the start.";
    LOOP_BUSY = "ringway_loop_cpu_seconds_total", Counter, ["core"],
        "Processor time of the loop; its rate is the share of the core that is busy.";
    SNAPSHOT_VERSION = "ringway_snapshot_version", Gauge, ["core"],
        "The version of the rules in force.";
    LOG_DROPPED = "ringway_access_log_dropped_total", Counter, ["core"],
        "Access log lines dropped because the writer did not keep up.";
    LOG_LOST = "ringway_access_log_lost_total", Counter, [],
        "Access log lines that could not be written.";
    LOG_WRITTEN = "ringway_access_log_written_total", Counter, [],
        "Access log lines written.";
    RELOADS = "ringway_config_reloads_total", Counter, ["result"],
        "Changes of the configuration: applied or refused.";
    RELOAD_OK = "ringway_config_last_reload_successful", Gauge, [],
        "1 if the last change was applied, 0 if it was refused.";
    RELOAD_TIME = "ringway_config_last_reload_success_timestamp_seconds", Gauge, [],
        "When the rules in force were taken, seconds since 1970.";
    RELOAD_TOOK = "ringway_config_last_reload_duration_seconds", Gauge, [],
        "How long the last change took, from the wish to the last core.";
    DRAINING = "ringway_draining", Gauge, [],
        "1 while ringway finishes requests before it ends.";
    RUNTIME = "ringway_runtime_info", Gauge, ["driver"],
        "Always 1; the label says what the loops ask the kernel with: `io_uring` or `epoll`.";
    BUILD = "ringway_build_info", Gauge, ["version"],
        "Always 1; the label says which ringway this is.";
    PROCESS_CPU = "process_cpu_seconds_total", Counter, [],
        "Processor time of the process, user and system.";
    PROCESS_RESIDENT = "process_resident_memory_bytes", Gauge, [],
        "Memory of the process that is in RAM.";
    PROCESS_OPEN_FDS = "process_open_fds", Gauge, [],
        "File descriptors open.";
    PROCESS_MAX_FDS = "process_max_fds", Gauge, [],
        "File descriptors that may be open.";
    PROCESS_START = "process_start_time_seconds", Gauge, [],
        "When the process started, seconds since 1970.";
}

/// Label value for routes and upstreams beyond the bound, and for pairs of method and status beyond
/// theirs. The parentheses keep it apart from names an operator gives.
pub const OTHER: &str = "(other)";

/// Label value for requests that matched no route.
pub const NONE: &str = "(none)";

/// Names of the methods counted apart, by their index in [`crate::telemetry::RouteStats::record`].
pub const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", OTHER];

/// The name of a method by its index.
pub fn method(index: u8) -> &'static str {
    METHODS.get(usize::from(index)).copied().unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_say_their_unit() {
        for metric in ALL {
            assert_eq!(ALL.iter().filter(|other| other.name == metric.name).count(), 1);
            let total = metric.name.ends_with("_total");
            assert_eq!(total, metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }

    /// The table of `docs/metrics.md` has exactly the metrics above, with the same words.
    #[test]
    fn the_documentation_lists_exactly_these() {
        let text = include_str!("../../docs/metrics.md");
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
        let expected: Vec<String> = ALL
            .iter()
            .map(|metric| {
                let labels: Vec<String> =
                    metric.labels.iter().map(|label| format!("`{label}`")).collect();
                let (name, kind, help) = (metric.name, metric.kind.word(), metric.help);
                format!("| `{name}` | {kind} | {} | {help} |", labels.join(", "))
            })
            .collect();
        for (row, expected) in rows.iter().zip(&expected) {
            assert_eq!(row, expected);
        }
        assert_eq!(rows.len(), expected.len());
    }
}
