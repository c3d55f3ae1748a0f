//! The keys about upstreams that fail, as [`super`] has the others.

use std::time::Duration;

use super::{DAY, HEALTH_CHECK, Key, Kind, MICROSECOND, Section, health_check::HEARTBEAT, key};
use crate::base::limits;

/// `route.retry`.
pub(super) static RETRY: Section = Section {
    path: "route.retry",
    doc: "When a request that failed is tried again, at another endpoint: see docs/upstreams-that-fail.md.",
    keys: &[
        key(
            "attempts",
            Kind::Integer(0, limits::RETRY_ATTEMPTS_MAX as i64),
            "2",
            "Further tries after the first, at most.",
        )
        .or(&["retries", "num_retries", "tries", "max_retries", "count"]),
        key(
            "on",
            Kind::Texts("503"),
            "",
            "What is tried again: \"connect\", \"reset\", \"timeout\", \"invalid\" (garbage), \
            a status from \"400\" to \"599\", or \"5xx\". Without it \"connect\", \"reset\" and \"503\".",
        )
        .or(&["retry_on", "conditions", "codes", "statuses"]),
        key(
            "budget",
            Kind::Text("20%"),
            "20%",
            "What all further tries of the upstream may add to its requests, over the whole process; \
            ten a second are free.",
        ),
        key(
            "backoff",
            Kind::Duration(Duration::ZERO, limits::RETRY_BACKOFF_MAX, false),
            "10ms",
            "Longest pause before the first further try; it is chosen by chance and its bound doubles \
            with each.",
        ),
        key(
            "per_try_timeout",
            Kind::Duration(MICROSECOND, DAY, false),
            "",
            "For one try, until its response head. Without it the upstream's timeouts alone count.",
        )
        .or(&["timeout", "try_timeout"]),
        key(
            "non_idempotent",
            Kind::Boolean,
            "false",
            "Whether POST, PATCH and methods ringway does not know are tried again too, though the \
            endpoint may have done what they ask.",
        )
        .or(&["unsafe_methods", "unsafe", "all_methods"]),
        key(
            "body_bytes_max",
            Kind::Size(0, limits::RETRY_BODY_BYTES_MAX as u64, false),
            "16KiB",
            "Longest body of known length that is received whole and kept until the response comes; \
            requests with longer ones are tried once.",
        )
        .or(&["buffer", "max_body_size"]),
    ],
};

/// `[upstream.circuit_breaker]`.
pub(super) static BREAKER: Section = Section {
    path: "upstream.circuit_breaker",
    doc: "Refuses requests for a while after failures in a row: see docs/upstreams-that-fail.md.",
    keys: &[
        key(
            "consecutive_failures",
            Kind::Integer(1, 1_000_000),
            "3",
            "Failures in a row (resets, timeouts, garbage, 5xx), over all cores, that open it.",
        )
        .or(&["failures", "threshold", "max_failures"]),
        key(
            "open_for",
            Kind::Duration(limits::TICK, DAY, false),
            "60s",
            "How long it refuses everything before trials.",
        )
        .or(&["timeout", "break_for", "sleep_window"]),
        key(
            "half_open_requests",
            Kind::Integer(1, crate::policy::breaker::TRIALS_MAX as i64),
            "5",
            "Trials then, over all cores: all good close it, one failure opens it again.",
        )
        .or(&["trials", "max_requests"]),
        key(
            "scope",
            Kind::Choice(&["both", "upstream", "endpoint"]),
            "both",
            "Whether the upstream has a breaker, each endpoint has one, or both.",
        ),
    ],
};

/// `[upstream.passive]`.
pub(super) static PASSIVE: Section = Section {
    path: "upstream.passive",
    doc: "Leaves endpoints alone that live traffic shows to be bad: see docs/upstreams-that-fail.md.",
    keys: &[
        key(
            "consecutive_errors",
            Kind::Integer(0, 1_000_000),
            "5",
            "Errors in a row (resets, timeouts, garbage, 5xx), over all cores, that eject an \
            endpoint; 0 for never.",
        )
        .or(&["consecutive_5xx", "max_fails"]),
        key(
            "error_rate",
            Kind::Text("50%"),
            "50%",
            "Share of errors in the window that ejects; 0% for never.",
        ),
        key(
            "window",
            Kind::Duration(Duration::from_secs(1), Duration::from_secs(600), false),
            "10s",
            "How far back shares and means look.",
        )
        .or(&["interval"]),
        key(
            "requests_min",
            Kind::Integer(1, 1_000_000),
            "20",
            "Requests in the window from which on shares and means count.",
        )
        .or(&["min_requests", "request_volume"]),
        key(
            "eject_for",
            Kind::Duration(limits::TICK, limits::EJECT_FOR_MAX, false),
            "5s",
            "How long the first ejection lasts; twice as long each time, up to 5 minutes.",
        )
        .or(&["base_ejection_time", "fail_timeout"]),
        key(
            "eject_max",
            Kind::Text("50%"),
            "50%",
            "Share of the endpoints, rounded down, that may be ejected at once.",
        )
        .or(&["max_ejection_percent"]),
        key(
            "panic",
            Kind::Choice(&["all", "refuse"]),
            "all",
            "When more than `eject_max` can't be used, ejected or down: use all as if nothing were \
            known, or only those left (503 without any).",
        ),
        key(
            "success_gap",
            Kind::Text("20%"),
            "0%",
            "Ejects an endpoint whose share of successes is this far below the mean of the others; \
            0% for never.",
        ),
        key(
            "latency_factor",
            Kind::Integer(0, 1_000),
            "0",
            "Ejects an endpoint whose mean time to the response head is more than this many times the \
            median of the others; 0 for never.",
        ),
    ],
};

/// `[upstream.overload]`.
pub(super) static OVERLOAD: Section = Section {
    path: "upstream.overload",
    doc: "How much the upstream is given to do at once: see docs/upstreams-that-fail.md.",
    keys: &[
        key(
            "requests_max",
            Kind::Integer(1, 1_000_000),
            "1000",
            "Requests in flight, for the whole process; beyond it they wait or are refused with 503.",
        )
        .or(&["max_requests", "maxconn"]),
        key(
            "connections_max",
            Kind::Integer(1, 1_000_000),
            "",
            "Connections to its endpoints, unused ones included, for the whole process; without it any \
            number. Beyond it requests wait for one like for a place.",
        )
        .or(&["max_connections", "max_conns"]),
        key(
            "pending_max",
            Kind::Integer(0, 1_000_000),
            "100",
            "Requests that wait for a place or a connection, for the whole process.",
        )
        .or(&["max_pending", "max_pending_requests", "queue"]),
        key(
            "pending_timeout",
            Kind::Duration(Duration::from_millis(1), DAY, false),
            "100ms",
            "How long one waits; then 503.",
        )
        .or(&["queue_timeout"]),
        key(
            "adaptive",
            Kind::Boolean,
            "false",
            "Whether the limit follows latency, up to `requests_max`.",
        ),
    ],
};

/// Tables whose being there switches something on, even with nothing in them.
pub(in crate::controlplane::config) fn is_off_unless_written(section: &Section) -> bool {
    let all = [
        &RETRY,
        &HEDGE,
        &HEALTH_CHECK,
        &HEARTBEAT,
        &BREAKER,
        &PASSIVE,
        &OVERLOAD,
        &super::split::MIRROR,
    ];
    all.into_iter().any(|one| std::ptr::eq(one, section))
}

/// The key of `[[route]]`.
pub(super) const ROUTE_HEDGE: Key = key("hedge", Kind::One(&HEDGE), "", HEDGE.doc).or(&["hedging"]);

/// `route.hedge`.
pub(super) static HEDGE: Section = Section {
    path: "route.hedge",
    doc: "A second endpoint for idempotent requests that take long: see docs/upstreams-that-fail.md.",
    keys: &[key(
        "after",
        Kind::Text("p95"),
        "p95",
        "How long the first endpoint is waited for: \"p50\", \"p75\", \"p90\", \"p95\" or \"p99\" of \
        what requests take, or a duration.",
    )
    .or(&["delay", "timeout"])],
};

/// The key of `[[route]]`.
pub(super) const ROUTE_RETRY: Key = key("retry", Kind::One(&RETRY), "", RETRY.doc);

/// The key of `[[route]]`.
pub(super) const ROUTE_IMPORTANCE: Key = key(
    "importance",
    Kind::Choice(&["low", "normal", "high"]),
    "normal",
    "Who gives way when `[upstream.overload]` refuses requests: \"low\" first, \"high\" last.",
);
