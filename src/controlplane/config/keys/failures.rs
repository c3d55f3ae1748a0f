//! The keys about upstreams that fail, as [`super`] has the others.

use std::time::Duration;

use super::{DAY, HEALTH_CHECK, Key, Kind, MICROSECOND, Section, key};
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

/// Tables whose being there switches something on, even with nothing in them.
pub(in crate::controlplane::config) fn is_off_unless_written(section: &Section) -> bool {
    [&RETRY, &HEALTH_CHECK].into_iter().any(|one| std::ptr::eq(one, section))
}

/// The key of `[[route]]`.
pub(super) const ROUTE_RETRY: Key = key("retry", Kind::One(&RETRY), "", RETRY.doc);
