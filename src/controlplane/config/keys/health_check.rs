//! `[upstream.health_check]` and `[upstream.heartbeat]`.

use super::{DAY, Kind, MICROSECOND, Section, key};
use crate::base::limits;

/// `[upstream.health_check]`.
pub(in crate::controlplane::config) static HEALTH_CHECK: Section = Section {
    path: "upstream.health_check",
    doc: "Checks of every endpoint, once per process: see docs/health-checks.md.",
    keys: &[
        key(
            "type",
            Kind::Choice(&["http", "tcp", "grpc"]),
            "http",
            "What is checked: a response, that a connection is accepted, or grpc.health.v1.",
        )
        .or(&["protocol", "mode"]),
        key(
            "service",
            Kind::Text("shop.Cart"),
            "",
            "type = \"grpc\": whose health is asked for; that of the whole server without it.",
        )
        .or(&["grpc_service", "service_name"]),
        key(
            "http",
            Kind::Choice(&["h1", "h2"]),
            "",
            "type = \"http\": what is spoken; as with the endpoints without it.",
        )
        .or(&["version"]),
        key(
            "tls",
            Kind::Boolean,
            "true",
            "Whether TLS is spoken with endpoints whose URL says https; not for \"tcp\".",
        ),
        key(
            "path",
            Kind::Text("/health"),
            "",
            "The path that is asked for, with its query; \"/\" without it.",
        )
        .or(&["uri", "url", "http_path"]),
        key("method", Kind::Choice(&["GET", "HEAD", "OPTIONS"]), "GET", "The method.")
            .or(&["http_method"]),
        key(
            "host",
            Kind::Text("example.com"),
            "",
            "The Host that is sent; the endpoint's `host:port` without it.",
        )
        .or(&["hostname"]),
        key("headers", Kind::Pairs, "", "Further header fields of the request.").or(&["header"]),
        key(
            "status",
            Kind::Text("200-299,404"),
            "200-299",
            "Statuses that pass, and ranges of them.",
        )
        .or(&["statuses", "expect_status", "expected_statuses", "http_statuses"]),
        key(
            "body",
            Kind::Text("~^ok"),
            "",
            "What the first 64 KiB of the body must hold: a text, or \"~regex\".",
        )
        .or(&["expect_body", "match"]),
        key(
            "port",
            Kind::Integer(1, u16::MAX as i64),
            "",
            "The port that is checked; the endpoint's own without it.",
        ),
        key(
            "interval",
            Kind::Duration(limits::HEALTH_INTERVAL_MIN, DAY, false),
            "5s",
            "From the beginning of one check to that of the next.",
        )
        .or(&["inter", "period"]),
        key(
            "jitter",
            Kind::Text("10%"),
            "10%",
            "How far the interval may vary, so that checks do not come all at once.",
        ),
        key(
            "timeout",
            Kind::Duration(MICROSECOND, DAY, false),
            "1s",
            "For one check, from connect to answer; at most the interval.",
        ),
        key(
            "fails",
            Kind::Integer(1, limits::HEALTH_RESULTS_MAX as i64),
            "2",
            "Failed checks in a row that take an endpoint out.",
        )
        .or(&["fall", "unhealthy_threshold", "max_fails"]),
        key(
            "passes",
            Kind::Integer(1, limits::HEALTH_RESULTS_MAX as i64),
            "1",
            "Passed checks in a row that bring it back.",
        )
        .or(&["rise", "healthy_threshold", "successes"]),
        key(
            "initial",
            Kind::Choice(&["up", "down"]),
            "up",
            "What an endpoint is before its first check.",
        ),
    ],
};

/// `[upstream.heartbeat]`.
pub(in crate::controlplane::config) static HEARTBEAT: Section = Section {
    path: "upstream.heartbeat",
    doc: "Endpoints say through the Admin API that they live: see docs/health-checks.md.",
    keys: &[key(
        "ttl",
        Kind::Duration(limits::HEARTBEAT_TTL_MIN, limits::HEARTBEAT_TTL_MAX, false),
        "10s",
        "An endpoint that has sent no heartbeat for so long is down until the next.",
    )
    .or(&["timeout", "interval"])],
};
