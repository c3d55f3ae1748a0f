//! The walk through the table that finding, `Allow` and explaining share.
//!
//! It meets every place whose listener, host and path fit and whose rank is still below what the
//! visitor asks for. The order of the walk is only a matter of speed (likely winners first): ranks
//! decide. Each node of the tree is reached by one way only, so it is met at most once for a
//! request: no pattern and no path makes the walk longer than the tree.

use super::{
    captures::Span,
    hash::{NONE, hash},
    host::CanonicalHost,
    rank::Rank,
    request::RouteQuery,
    table::{Entry, ListenerSet, RouteTable},
    tree::{SPACE_EXACT, SPACE_WILDCARD, SPACES},
};
use crate::base::limits::CAPTURES_MAX;

/// What a walk is for.
pub(super) trait Visitor {
    /// Entries of this rank and later ones need not be met.
    fn limit(&self) -> Rank;

    /// An entry whose listener, host and path match; `spans` are the captures of its path, `regex`
    /// is the one found in it.
    fn meet(&mut self, entry: &Entry, spans: &[Span], regex: Option<u32>);
}

/// Leads `visitor` to all entries that could match.
pub(super) fn walk<F, V: Visitor>(table: &RouteTable, query: &RouteQuery<'_, F>, visitor: &mut V) {
    let Some(sets) = table.sets_of_listener.get(usize::from(query.listener.0)) else { return };
    let canonical = CanonicalHost::of(query.host);
    let host = canonical.as_ref().map_or(query.host, CanonicalHost::as_bytes);
    let mut walk = Walk { table, path: query.path, spans: [(0, 0); CAPTURES_MAX], visitor };
    for set in sets {
        if set.rank_min >= walk.visitor.limit() {
            return; // sets come by rank
        }
        walk.set(set, host);
    }
}

struct Walk<'w, V> {
    table: &'w RouteTable,
    path: &'w [u8],
    /// What the parameters on the way to the current node took.
    spans: [Span; CAPTURES_MAX],
    visitor: &'w mut V,
}

impl<V: Visitor> Walk<'_, V> {
    fn set(&mut self, set: &ListenerSet, host: &[u8]) {
        let space = set.number * SPACES;
        if set.exact_hosts {
            self.host(space + SPACE_EXACT, host);
        }
        if set.wildcard_bytes_max > 0 {
            let wildcard_max = usize::from(set.wildcard_bytes_max);
            let dots = host.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'.');
            for suffix in dots.map(|(dot, _)| &host[dot + 1..]) {
                if suffix.len() <= wildcard_max {
                    self.host(space + SPACE_WILDCARD, suffix);
                }
            }
        }
        if set.any != NONE {
            self.scope(set.any);
        }
    }

    fn host(&mut self, space: u32, name: &[u8]) {
        let table = self.table;
        let scope = table.host_index.get(hash(space, name), |scope| {
            let scope = &table.scopes[scope as usize];
            scope.space == space && slice(&table.host_names, scope.name) == name
        });
        if let Some(scope) = scope {
            self.scope(scope);
        }
    }

    fn scope(&mut self, number: u32) {
        let table = self.table;
        let scope = &table.scopes[number as usize];
        if scope.rank_min >= self.visitor.limit() {
            return;
        }
        if scope.exacts {
            let exact = table.exact_index.get(hash(number, self.path), |exact| {
                let exact = &table.exacts[exact as usize];
                exact.scope == number && slice(&table.exact_paths, exact.path) == self.path
            });
            if let Some(exact) = exact {
                self.entries(table.exacts[exact as usize].entries, 0, false, None);
            }
        }
        if scope.root == NONE {
            return;
        }
        if self.path.first() == Some(&b'/') {
            self.node(scope.root, 0, 0);
        } else {
            // "*" is no path: only what takes all paths takes it.
            self.tail(scope.root, self.path.len(), 0);
        }
    }

    /// Walks on from a node. `at` is where the part of the path ends that led here: at a slash or
    /// at the end of the path. `taken` parameters were met on the way.
    fn node(&mut self, number: u32, at: usize, taken: usize) {
        let table = self.table;
        let node = &table.nodes[number as usize];
        if node.rank_min >= self.visitor.limit() {
            return;
        }
        if at < self.path.len() {
            let start = at + 1;
            let rest = &self.path[start..];
            let end = memchr::memchr(b'/', rest).map_or(self.path.len(), |slash| start + slash);
            if node.literals {
                self.literal(number, start, end, taken);
            }
            if start < end {
                self.parameters(number, start, end, taken);
            }
        } else if node.end != NONE {
            self.entries(node.end, taken, false, None);
        }
        if node.regexes != NONE {
            self.searches(node.regexes);
        }
        if node.tail != NONE {
            self.tail(number, at, taken);
        }
    }

    fn literal(&mut self, parent: u32, start: usize, end: usize, taken: usize) {
        let table = self.table;
        let rest = &self.path[start..];
        let child = table.node_index.get(hash(parent, &self.path[start..end]), |child| {
            let child = &table.nodes[child as usize];
            let label = child.label as usize..child.label as usize + usize::from(child.label_bytes);
            child.parent == parent
                && rest
                    .strip_prefix(&table.labels[label])
                    .is_some_and(|after| matches!(after.first(), None | Some(b'/')))
        });
        if let Some(child) = child {
            let label_bytes = usize::from(table.nodes[child as usize].label_bytes);
            self.node(child, start + label_bytes, taken);
        }
    }

    fn parameters(&mut self, number: u32, start: usize, end: usize, taken: usize) {
        let table = self.table;
        let node = &table.nodes[number as usize];
        let Some(span) = self.spans.get_mut(taken) else { return };
        *span = (start as u32, end as u32);
        if node.regexes != NONE {
            let (first, last) = table.regex_nodes[node.regexes as usize].edges;
            for edge in &table.regex_edges[first as usize..last as usize] {
                let child = &table.nodes[edge.child as usize];
                let regex = &table.regexes[edge.regex as usize];
                if child.rank_min < self.visitor.limit() && regex.is_match(&self.path[start..end]) {
                    self.node(edge.child, end, taken + 1);
                }
            }
        }
        if node.any != NONE {
            self.node(node.any, end, taken + 1);
        }
    }

    fn searches(&mut self, regexes: u32) {
        let table = self.table;
        let (first, last) = table.regex_nodes[regexes as usize].searches;
        for search in &table.searches[first as usize..last as usize] {
            if table.entries[search.entries as usize].rank >= self.visitor.limit() {
                return; // they come by rank
            }
            let prefix =
                search.prefix as usize..search.prefix as usize + usize::from(search.prefix_bytes);
            if self.path.starts_with(&table.labels[prefix])
                && table.regexes[search.regex as usize].is_match(self.path)
            {
                self.entries(search.entries, 0, false, Some(search.regex));
            }
        }
    }

    fn tail(&mut self, number: u32, at: usize, taken: usize) {
        let tail = self.table.nodes[number as usize].tail;
        let Some(span) = self.spans.get_mut(taken).filter(|_| tail != NONE) else { return };
        let ended = at == self.path.len();
        let start = if ended { at } else { at + 1 };
        *span = (start as u32, self.path.len() as u32);
        // Nothing follows the root only if the path is "*".
        let nothing_follows = ended && at > 0 && self.path.first() == Some(&b'/');
        self.entries(tail, taken + 1, nothing_follows, None);
    }

    fn entries(&mut self, first: u32, taken: usize, nothing_follows: bool, regex: Option<u32>) {
        for entry in &self.table.entries[first as usize..] {
            if entry.rank >= self.visitor.limit() {
                return;
            }
            if !(entry.rest && nothing_follows) {
                self.visitor.meet(entry, &self.spans[..taken], regex);
            }
            if entry.last {
                return;
            }
        }
    }
}

fn slice(bytes: &[u8], (start, end): Span) -> &[u8] {
    &bytes[start as usize..end as usize]
}
