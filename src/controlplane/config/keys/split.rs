//! Keys of `[[route]]` about several upstreams, as [`super`] has the others.

use super::{Key, Kind, Section, balance::STICKY_KEYS, key, required};
use crate::base::limits;

/// `route.split`.
pub(super) static SPLIT: Section = Section {
    path: "route.split",
    doc: "Several upstreams instead of one, each with a share of the requests: see docs/canaries.md.",
    keys: &[
        required("upstream", Kind::Text("users-v2"), "Name of the upstream.")
            .or(&["backend", "service", "name", "to"]),
        key(
            "weight",
            Kind::Integer(0, limits::SPLIT_WEIGHT_MAX as i64),
            "",
            "Its share of requests relative to the others; 1 without it, 0 if it has `headers` or \
            `cookies`.",
        ),
        key(
            "headers",
            Kind::Pairs,
            "",
            "A request with all of these header fields goes here whatever its share: a literal or \
            \"present\". The first that fits counts.",
        )
        .or(&["header"]),
        key("cookies", Kind::Pairs, "", "The same for cookies; all of both must be there.")
            .or(&["cookie"]),
    ],
};

/// `route.split_sticky`.
pub(super) static SPLIT_STICKY: Section = Section {
    path: "route.split_sticky",
    doc: "A cookie that keeps a client with its upstream of the split while that has its share.",
    keys: STICKY_KEYS,
};

/// The key of `[[route]]`.
pub(super) const ROUTE_SPLIT: Key = key("split", Kind::Many(&SPLIT), "", SPLIT.doc).or(&[
    "weighted",
    "traffic_split",
    "traffic-split",
    "weighted_clusters",
    "backends",
]);

/// The key of `[[route]]`.
pub(super) const ROUTE_SPLIT_KEY: Key = key(
    "split_key",
    Kind::Text("header:x-user"),
    "",
    "What keeps a client with its upstream of the split: \"ip\", \"header:NAME\", \"cookie:NAME\", \
    \"path:NAME\" or \"query:NAME\". Each request by itself without it, and without the key.",
);

/// The key of `[[route]]`.
pub(super) const ROUTE_SPLIT_STICKY: Key =
    key("split_sticky", Kind::One(&SPLIT_STICKY), "", SPLIT_STICKY.doc);

/// `route.mirror`.
pub(super) static MIRROR: Section = Section {
    path: "route.mirror",
    doc: "Sends copies of requests to another upstream and drops its answers: see docs/canaries.md.",
    keys: &[
        required("upstream", Kind::Text("users-v2"), "Where the copies go.")
            .or(&["backend", "service", "to"]),
        key("share", Kind::Text("10%"), "100%", "Share of the requests that are copied.").or(&[
            "percent",
            "percentage",
            "sample",
        ]),
    ],
};

/// The key of `[[route]]`.
pub(super) const ROUTE_MIRROR: Key =
    key("mirror", Kind::One(&MIRROR), "", MIRROR.doc).or(&["mirroring", "shadow"]);
