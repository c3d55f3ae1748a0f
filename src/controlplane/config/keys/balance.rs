//! `[upstream.hash]` and `[upstream.sticky]`.

use super::{Key, Kind, SECOND, Section, YEAR, key, required};

/// The strategies of ringway.
pub(in crate::controlplane::config) const STRATEGIES: &[&str] = &[
    "round-robin",
    "weighted-round-robin",
    "random",
    "least-connections",
    "p2c-ewma",
    "consistent-hash",
];

/// `[upstream.hash]`.
pub(in crate::controlplane::config) static HASH: Section = Section {
    path: "upstream.hash",
    doc: "How \"consistent-hash\" finds the endpoint of a request: see docs/balancing.md.",
    keys: &[
        key(
            "key",
            Kind::Text("header:x-user"),
            "ip",
            "What a request is known by: \"ip\", \"header:NAME\", \"cookie:NAME\", \"path:NAME\" (a \
            capture of the route's path) or \"query:NAME\". A request without it goes anywhere.",
        )
        .or(&["on", "hash_on", "header", "cookie"]),
        key(
            "algorithm",
            Kind::Choice(&["ring", "maglev"]),
            "ring",
            "A ring of points (ketama), or a Maglev table: more even, but a change of the list \
            moves a few more keys.",
        )
        .or(&["type", "method"]),
        key(
            "bounded_load",
            Kind::Text("125%"),
            "",
            "What an endpoint may have in flight, in percent of its fair share (\"101%\" to \
            \"1000%\"); further requests go to the next one. No bound without it.",
        )
        .or(&["hash_balance_factor", "load_factor"]),
    ],
};

/// `[upstream.sticky]`.
pub(in crate::controlplane::config) static STICKY: Section = Section {
    path: "upstream.sticky",
    doc: "A cookie that keeps a client on its endpoint while that may be picked.",
    keys: STICKY_KEYS,
};

/// The keys about a cookie that keeps a client somewhere.
pub(super) const STICKY_KEYS: &[Key] = &[
    required("cookie", Kind::Text("ringway"), "The name of the cookie.").or(&["name"]),
    key(
        "ttl",
        Kind::Duration(SECOND, YEAR, false),
        "",
        "How long the client keeps it; without it until the browser is closed.",
    )
    .or(&["expires", "max_age"]),
    key("path", Kind::Text("/"), "/", "The paths that the client sends it with."),
    key(
        "same_site",
        Kind::Choice(&["lax", "strict", "none"]),
        "lax",
        "With which requests of other sites it is sent.",
    )
    .or(&["samesite"]),
];
