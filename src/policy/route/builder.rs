//! Signatures the other rooms are written against; the table itself follows.

use super::{Captures, FieldSource, RouteError, RouteMatch, RouteQuery, RouteSpec, TargetRule};
use crate::base::ids::{ListenerIndex, RouteIndex};

/// Two routes that get in each other's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Same listeners (or overlapping), hosts, path, conditions and priority: refused.
    Same {
        /// The one written first.
        first: RouteIndex,
        /// The one that could never match.
        second: RouteIndex,
    },
    /// Every request that `route` matches goes to `by` (a warning).
    Shadowed {
        /// The one that never matches.
        route: RouteIndex,
        /// A route that takes its requests.
        by: RouteIndex,
    },
}

/// A route that a request was compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub route: RouteIndex,
    /// The first condition that failed, in words; `None` if all hold.
    pub failed: Option<Box<str>>,
}

/// Collects routes, in the order of the files, and compiles them.
#[derive(Debug, Default)]
pub struct TableBuilder {}

impl TableBuilder {
    /// A builder for `listeners` listeners, all of which merge slashes.
    pub fn new(_listeners: usize) -> Self {
        Self {}
    }

    /// Says that a listener has `merge_slashes = false`. Call it before the first [`Self::add`].
    pub fn keep_slashes(&mut self, _listener: ListenerIndex) {}

    /// Adds a route; routes come in the order of the files.
    ///
    /// # Errors
    /// All that is wrong with it; nothing was added then.
    pub fn add(
        &mut self,
        _route: RouteIndex,
        _spec: &RouteSpec<'_>,
    ) -> Result<TargetRule, Vec<RouteError>> {
        Ok(TargetRule::Keep)
    }

    /// Routes that get in each other's way.
    pub fn conflicts(&self) -> Vec<Conflict> {
        Vec::new()
    }

    /// The compiled table.
    pub fn build(self) -> RouteTable {
        RouteTable {}
    }
}

/// The compiled routes of one snapshot.
#[derive(Debug)]
pub struct RouteTable {}

impl RouteTable {
    /// The route of a request.
    pub fn find<F: FieldSource>(
        &self,
        _query: &RouteQuery<'_, F>,
        captures: &mut Captures,
    ) -> RouteMatch {
        captures.clear();
        RouteMatch::NotFound
    }

    /// Appends the value of `Allow` for a request that [`Self::find`] answered with
    /// [`RouteMatch::MethodNotAllowed`]: `GET, HEAD`.
    pub fn allow<F: FieldSource>(&self, _query: &RouteQuery<'_, F>, _out: &mut Vec<u8>) {}

    /// All routes whose listener, host and path match, in the order they are tried.
    pub fn explain<F: FieldSource>(&self, _query: &RouteQuery<'_, F>) -> Vec<Candidate> {
        Vec::new()
    }
}
