//! Keys of `[[rollout]]`, as [`super`] has the others.

use std::time::Duration;

use super::{DAY, Kind, Section, key, required};

/// How long a stage may last at most.
const STAGE_MAX: Duration = Duration::from_secs(30 * 86_400);
const STAGE_MIN: Duration = Duration::from_millis(50);

/// `[[rollout]]`.
pub(in crate::controlplane::config) static ROLLOUT: Section = Section {
    path: "rollout",
    doc: "A new version that takes over step by step, and goes back by itself: see docs/canaries.md.",
    keys: &[
        required("name", Kind::Text("users-v2"), "Its name in the admin API, metrics and logs.")
            .or(&["id"]),
        required(
            "route",
            Kind::Text("user-service"),
            "Id of the route; its upstream is `from`, or both are in its split.",
        ),
        required("from", Kind::Text("users-v1"), "Upstream of the old version.")
            .or(&["stable", "old"]),
        required("to", Kind::Text("users-v2"), "Upstream of the new version.")
            .or(&["canary", "new"]),
        key(
            "stages",
            Kind::ManyOrTexts(&STAGE),
            "",
            "What share of the requests of both the new version gets, step by step: tables, or just \
            the shares. Without it \"5%\", \"25%\", \"50%\", \"100%\".",
        )
        .or(&["steps"]),
        key(
            "stage_time",
            Kind::Duration(STAGE_MIN, STAGE_MAX, false),
            "5m",
            "How long each stage lasts at least.",
        )
        .or(&["interval", "duration", "pause"]),
        key(
            "stage_requests",
            Kind::Integer(0, 1_000_000_000),
            "500",
            "How many requests the new version has to serve in each stage, at least.",
        ),
        key(
            "error_margin",
            Kind::Text("1%"),
            "1%",
            "By how much its share of errors (5xx, ringway's own among them) may be above that of \
            the old version.",
        )
        .or(&["max_error_rate", "error_rate"]),
        key(
            "latency_margin",
            Kind::Text("50%"),
            "50%",
            "By how much its 99th percentile may be above that of the old version, \"0%\" to \
            \"10000%\".",
        ),
        key(
            "latency_floor",
            Kind::Duration(Duration::ZERO, DAY, false),
            "10ms",
            "By how much it may be above in any case.",
        ),
        key(
            "window",
            Kind::Duration(STAGE_MIN, DAY, false),
            "1m",
            "How far back the quick comparison looks; the slow one looks at the whole stage.",
        ),
    ],
};

/// `rollout.stages`.
pub(in crate::controlplane::config) static STAGE: Section = Section {
    path: "rollout.stages",
    doc: "One step of a rollout.",
    keys: &[
        required("share", Kind::Text("25%"), "The share, above that of the stage before."),
        key(
            "time",
            Kind::Duration(STAGE_MIN, STAGE_MAX, false),
            "",
            "How long it lasts at least; `stage_time` without it.",
        ),
        key(
            "requests",
            Kind::Integer(0, 1_000_000_000),
            "",
            "How many requests the new version has to serve; `stage_requests` without it.",
        ),
    ],
};
