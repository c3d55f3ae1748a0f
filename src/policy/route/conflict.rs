//! Routes that get in each other's way.

use super::builder::TableBuilder;
use crate::base::ids::RouteIndex;

/// Two routes of which one never matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Same hosts, path, conditions and priority on a listener they share: to be refused.
    Same {
        /// The one written first.
        first: RouteIndex,
        /// The one that could never match.
        second: RouteIndex,
    },
    /// Every request that `route` matches goes to others: worth a warning.
    Shadowed {
        /// The one that never matches.
        route: RouteIndex,
        /// One that takes its requests.
        by: RouteIndex,
    },
}

pub(super) fn find(_builder: &TableBuilder) -> Vec<Conflict> {
    Vec::new()
}
