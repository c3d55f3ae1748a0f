//! Elements of `upstream.endpoints`.

use super::{Kind, Section, key, required};
use crate::{base::limits, policy::balance::LEVELS};

/// An element of `upstream.endpoints`.
pub(in crate::controlplane::config) static ENDPOINT: Section = Section {
    path: "upstream.endpoints",
    doc: "One address of an upstream.",
    keys: &[
        required(
            "url",
            Kind::Text("http://127.0.0.1:8081"),
            "\"http://\" or \"https://\", a host \
            name or IP address, and a port (80 or 443 without one). \"tcp://\", with a port, for \
            routes of listeners with `mode = \"tcp\"`.",
        )
        .or(&["address", "host", "addr", "uri"]),
        key(
            "weight",
            Kind::Integer(1, limits::ENDPOINT_WEIGHT_MAX as i64),
            "1",
            "Its share of requests relative to the other endpoints.",
        ),
        key(
            "enabled",
            Kind::Boolean,
            "true",
            "false drains it: it gets no new requests, those in flight finish.",
        ),
        key(
            "priority",
            Kind::Integer(0, LEVELS as i64 - 2),
            "0",
            "Which endpoints are used first: those of 0, then of 1, as `failover_below` says.",
        ),
        key("backup", Kind::Boolean, "false", "Whether it is used after all priorities only."),
    ],
};
