//! Why a request goes where it goes.

use super::{
    captures::Span,
    condition::MethodBits,
    rank::{RANK_LAST, Rank},
    request::{FieldSource, RouteQuery},
    table::{Entry, RouteTable},
    walk::Visitor,
};
use crate::base::ids::RouteIndex;

/// A route that a request was compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub route: RouteIndex,
    /// The first condition that fails, in words; `None` if all hold.
    pub failed: Option<Box<str>>,
}

/// Collects all candidates.
pub(super) struct Explainer<'t, 'q, F> {
    table: &'t RouteTable,
    query: &'q RouteQuery<'q, F>,
    method: MethodBits,
    met: Vec<(Rank, Candidate)>,
}

impl<'t, 'q, F: FieldSource> Explainer<'t, 'q, F> {
    pub(super) fn new(table: &'t RouteTable, query: &'q RouteQuery<'q, F>) -> Self {
        Self { table, query, method: table.method_bits(query.method), met: Vec::new() }
    }

    /// The candidates in their order; a route that two of its hosts match counts once, at its best.
    pub(super) fn finish(mut self) -> Vec<Candidate> {
        self.met.sort_by_key(|(rank, _)| *rank);
        let mut seen = std::collections::HashSet::new();
        self.met.retain(|(_, candidate)| seen.insert(candidate.route));
        self.met.into_iter().map(|(_, candidate)| candidate).collect()
    }
}

impl<F: FieldSource> Visitor for Explainer<'_, '_, F> {
    fn limit(&self) -> Rank {
        RANK_LAST
    }

    fn meet(&mut self, entry: &Entry, _: &[Span], _: Option<u32>) {
        let guard = self.table.guard(entry);
        let failed = guard.failure(self.query, self.method, &self.table.methods);
        self.met.push((entry.rank, Candidate { route: entry.route, failed }));
    }
}
