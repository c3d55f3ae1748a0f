//! The compiled table.

use std::sync::Arc;

use regex::bytes::Regex;

use super::{
    captures::{Captures, Span},
    condition::{Guard, MethodBits, Verdict, join_methods},
    explain::{Candidate, Explainer},
    hash::Index,
    rank::{RANK_LAST, Rank},
    request::{FieldSource, RouteMatch, RouteQuery},
    walk::{Visitor, walk},
};
use crate::base::ids::{ListenerIndex, RouteIndex};

/// The compiled routes of one snapshot: flat arrays and numbers into them.
#[derive(Debug)]
pub struct RouteTable {
    /// The sets that each listener is in, the one with the lowest rank first.
    pub(super) sets_of_listener: Box<[Box<[ListenerSet]>]>,
    /// From set and host to [`Self::scopes`].
    pub(super) host_index: Index,
    pub(super) host_names: Box<[u8]>,
    pub(super) scopes: Box<[Scope]>,
    /// From scope and whole path to [`Self::exacts`].
    pub(super) exact_index: Index,
    pub(super) exact_paths: Box<[u8]>,
    pub(super) exacts: Box<[Exact]>,
    /// From node and segment to [`Self::nodes`].
    pub(super) node_index: Index,
    pub(super) labels: Box<[u8]>,
    pub(super) nodes: Box<[Node]>,
    pub(super) regex_nodes: Box<[RegexNode]>,
    pub(super) regex_edges: Box<[RegexEdge]>,
    pub(super) searches: Box<[Search]>,
    pub(super) entries: Box<[Entry]>,
    pub(super) guards: Box<[Guard]>,
    pub(super) regexes: Box<[Arc<Regex>]>,
    /// By bit.
    pub(super) methods: Box<[Box<[u8]>]>,
}

/// Listeners that some routes name together.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListenerSet {
    pub(super) number: u32,
    pub(super) rank_min: Rank,
    /// Whether some route names a host exactly.
    pub(super) exact_hosts: bool,
    /// Bytes of the longest wildcard suffix; 0 for no wildcards.
    pub(super) wildcard_bytes_max: u16,
    /// The scope of routes for any host.
    pub(super) any: u32,
}

/// The paths of one host pattern.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    /// Listener set and kind of host.
    pub(super) space: u32,
    /// Its name in [`RouteTable::host_names`].
    pub(super) name: Span,
    pub(super) root: u32,
    pub(super) rank_min: Rank,
    /// Whether it has exact paths.
    pub(super) exacts: bool,
}

/// A path without parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exact {
    pub(super) scope: u32,
    pub(super) path: Span,
    pub(super) entries: u32,
}

/// A point between two segments of a pattern. Half a cache line, so that a step through a large
/// table waits for memory once.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(super) struct Node {
    /// The segments that lead here from the parent, in [`RouteTable::labels`]: more than one
    /// where nothing branches in between.
    pub(super) label: u32,
    pub(super) label_bytes: u16,
    /// Whether literal segments lead on.
    pub(super) literals: bool,
    pub(super) parent: u32,
    /// Of all entries here and below: nothing below can win if this doesn't.
    pub(super) rank_min: Rank,
    /// Where any segment leads.
    pub(super) any: u32,
    /// What regexes do here, in [`RouteTable::regex_nodes`].
    pub(super) regexes: u32,
    /// Entries of patterns that end here.
    pub(super) end: u32,
    /// Entries of prefixes, and of patterns with a rest, that end here.
    pub(super) tail: u32,
}

const _: () = assert!(size_of::<Node>() == 32);

/// The part of a [`Node`] that few have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RegexNode {
    /// Where segments that match regexes lead, in [`RouteTable::regex_edges`].
    pub(super) edges: Span,
    /// Regexes over the whole path, in [`RouteTable::searches`].
    pub(super) searches: Span,
}

/// Where a segment that matches a regex leads.
#[derive(Clone, Copy, Debug)]
pub(super) struct RegexEdge {
    pub(super) regex: u32,
    pub(super) child: u32,
}

/// A regex over the whole path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    pub(super) regex: u32,
    /// What the path must begin with, in [`RouteTable::labels`]: cheaper than the regex.
    pub(super) prefix: u32,
    pub(super) prefix_bytes: u16,
    pub(super) entries: u32,
}

/// One place where one route can match. The entries of a place lie together, sorted by rank.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) rank: Rank,
    pub(super) route: RouteIndex,
    pub(super) guard: u32,
    /// Whether it is the last of its place.
    pub(super) last: bool,
    /// Of a tail: whether something must follow.
    pub(super) rest: bool,
    /// Of a regex: whether its named groups are used.
    pub(super) groups: bool,
}

impl RouteTable {
    /// The route of a request, and in `captures` what its captures matched.
    ///
    /// Does not allocate, but where a route's `rewrite` uses groups of its `path_regex` and the
    /// last one that `captures` was used for was another. Bounded by the parts of the table that
    /// match: each node of the tree is met at most once.
    pub fn find<F: FieldSource>(
        &self,
        query: &RouteQuery<'_, F>,
        captures: &mut Captures,
    ) -> RouteMatch {
        captures.clear();
        let method = self.method_bits(query.method);
        let mut finder =
            Finder { table: self, query, method, captures, best: None, method_only: false };
        walk(self, query, &mut finder);
        match finder.best {
            Some((_, route)) => RouteMatch::Found(route),
            None if finder.method_only => RouteMatch::MethodNotAllowed,
            None => RouteMatch::NotFound,
        }
    }

    /// The route of a connection by the name that its client asks for, lower-case and without a final
    /// dot; empty if it asks for none. Of listeners whose routes have hosts alone.
    pub fn find_name(&self, listener: ListenerIndex, name: &str) -> Option<RouteIndex> {
        let query = name_query(listener, name);
        match self.find(&query, &mut Captures::default()) {
            RouteMatch::Found(route) => Some(route),
            RouteMatch::MethodNotAllowed | RouteMatch::NotFound => None,
        }
    }

    /// The routes for a name, as [`Self::explain`] does for a request.
    pub fn explain_name(&self, listener: ListenerIndex, name: &str) -> Vec<Candidate> {
        self.explain(&name_query(listener, name))
    }

    /// Whether some route of a listener wants a certain host.
    pub fn asks_for_names(&self, listener: ListenerIndex) -> bool {
        let sets = self.sets_of_listener.get(usize::from(listener.0));
        let asks = |set: &ListenerSet| set.exact_hosts || set.wildcard_bytes_max > 0;
        sets.is_some_and(|sets| sets.iter().any(asks))
    }

    /// Appends the value of `Allow` for a request that [`Self::find`] answered with
    /// [`RouteMatch::MethodNotAllowed`]: `GET, HEAD`.
    pub fn allow<F: FieldSource>(&self, query: &RouteQuery<'_, F>, out: &mut Vec<u8>) {
        let mut collector = AllowCollector { table: self, query, scratch: Vec::new(), methods: 0 };
        walk(self, query, &mut collector);
        out.extend_from_slice(&join_methods(collector.methods, &self.methods));
    }

    /// The routes whose listener, host and path match, in the order they are tried, each with the
    /// first of its other conditions that fails. The first without a failure is the one found.
    pub fn explain<F: FieldSource>(&self, query: &RouteQuery<'_, F>) -> Vec<Candidate> {
        let mut explainer = Explainer::new(self, query);
        walk(self, query, &mut explainer);
        explainer.finish()
    }

    pub(super) fn guard(&self, entry: &Entry) -> &Guard {
        &self.guards[entry.guard as usize]
    }

    pub(super) fn method_bits(&self, method: &[u8]) -> MethodBits {
        self.methods.iter().position(|name| **name == *method).map_or(0, |bit| 1 << bit)
    }
}

/// What a connection asks of which nothing but the name is known.
fn name_query(listener: ListenerIndex, name: &str) -> RouteQuery<'_, NoFields> {
    let host = name.as_bytes();
    RouteQuery { listener, host, path: b"/", query: None, method: b"", fields: &NoFields }
}

struct NoFields;

impl FieldSource for NoFields {
    fn values<'s>(&'s self, _: &[u8]) -> impl Iterator<Item = &'s [u8]> {
        std::iter::empty()
    }
}

/// Keeps the best candidate whose conditions hold.
struct Finder<'t, 'q, F> {
    table: &'t RouteTable,
    query: &'q RouteQuery<'q, F>,
    method: MethodBits,
    captures: &'q mut Captures,
    best: Option<(Rank, RouteIndex)>,
    /// Whether only the method of some candidate failed.
    method_only: bool,
}

impl<F: FieldSource> Visitor for Finder<'_, '_, F> {
    fn limit(&self) -> Rank {
        self.best.map_or(RANK_LAST, |(rank, _)| rank)
    }

    fn meet(&mut self, entry: &Entry, spans: &[Span], regex: Option<u32>) {
        let guard = self.table.guard(entry);
        match guard.judge(self.query, self.method, &mut self.captures.scratch) {
            Verdict::Fails => return,
            Verdict::MethodFails => {
                self.method_only = true;
                return;
            }
            Verdict::Holds => self.best = Some((entry.rank, entry.route)),
        }
        match regex.filter(|_| entry.groups) {
            Some(regex) => {
                self.captures.set_groups(&self.table.regexes[regex as usize], self.query.path);
            }
            None => self.captures.set(spans),
        }
    }
}

/// Collects the methods of all candidates whose other conditions hold.
struct AllowCollector<'t, 'q, F> {
    table: &'t RouteTable,
    query: &'q RouteQuery<'q, F>,
    scratch: Vec<u8>,
    methods: MethodBits,
}

impl<F: FieldSource> Visitor for AllowCollector<'_, '_, F> {
    fn limit(&self) -> Rank {
        RANK_LAST
    }

    fn meet(&mut self, entry: &Entry, _: &[Span], _: Option<u32>) {
        let guard = self.table.guard(entry);
        if guard.judge(self.query, 0, &mut self.scratch) == Verdict::MethodFails {
            self.methods |= guard.methods;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{PathSpec, RouteSpec, TableBuilder},
        *,
    };

    fn query<'a>(method: &'a str, host: &'a str, path: &'a str) -> RouteQuery<'a, NoFields> {
        RouteQuery {
            listener: ListenerIndex(0),
            host: host.as_bytes(),
            path: path.as_bytes(),
            query: None,
            method: method.as_bytes(),
            fields: &NoFields,
        }
    }

    fn table(specs: &[RouteSpec<'_>]) -> RouteTable {
        let mut builder = TableBuilder::new(1);
        for (number, spec) in specs.iter().enumerate() {
            builder.add(RouteIndex(number as u32), spec).unwrap();
        }
        builder.build()
    }

    fn find(table: &RouteTable, query: &RouteQuery<'_, NoFields>) -> RouteMatch {
        table.find(query, &mut Captures::default())
    }

    /// The table of docs/routing.md.
    fn documented() -> Vec<RouteSpec<'static>> {
        let on = |host, path| RouteSpec { hosts: vec![host], path, ..RouteSpec::default() };
        let api = |path| on("api.example.com", path);
        vec![
            api(PathSpec::Pattern("/users/7/posts")),
            api(PathSpec::Pattern("/users/{id:[0-9]+}/posts")),
            api(PathSpec::Pattern("/users/{id}/posts")),
            api(PathSpec::Pattern("/{kind}/7/posts")),
            api(PathSpec::Regex("/posts$")),
            api(PathSpec::Prefix("/users/7")),
            api(PathSpec::Pattern("/users/{id}/{*rest}")),
            RouteSpec { methods: vec!["GET"], ..api(PathSpec::Prefix("/users")) },
            api(PathSpec::Prefix("/users")),
            on("*.example.com", PathSpec::Pattern("/users/7/posts")),
            RouteSpec { path: PathSpec::Pattern("/users/7/posts"), ..RouteSpec::default() },
        ]
    }

    #[test]
    fn candidates_come_in_the_documented_order_whatever_the_order_in_the_file() {
        let mut specs = documented();
        let query = query("GET", "api.example.com", "/users/7/posts");
        let explained = |specs: &[RouteSpec<'_>]| -> Vec<u32> {
            table(specs).explain(&query).iter().map(|candidate| candidate.route.0).collect()
        };
        assert_eq!(explained(&specs), (0..11).collect::<Vec<_>>());
        specs.reverse();
        assert_eq!(explained(&specs), (0..11).rev().collect::<Vec<_>>());
        // The highest priority is before everything else, the lowest after.
        specs[0].priority = i64::MAX;
        specs[10].priority = i64::MIN;
        let order = explained(&specs);
        assert_eq!((order[0], order[10]), (0, 10));
    }

    #[test]
    fn only_a_wrong_method_is_405_and_all_its_methods_are_allowed() {
        let takes = |methods, path| RouteSpec { methods, path, ..RouteSpec::default() };
        let table = table(&[
            takes(vec!["GET", "HEAD"], PathSpec::Pattern("/a")),
            takes(vec!["PUT"], PathSpec::Prefix("/")),
        ]);
        let post = query("POST", "a.test", "/a");
        assert_eq!(find(&table, &post), RouteMatch::MethodNotAllowed);
        let mut allow = b"allow: ".to_vec();
        table.allow(&post, &mut allow);
        assert_eq!(allow, b"allow: GET, HEAD, PUT");
        assert_eq!(find(&table, &query("PUT", "a.test", "/a")), RouteMatch::Found(RouteIndex(1)));
        assert_eq!(find(&table, &query("get", "a.test", "/a")), RouteMatch::MethodNotAllowed);
    }

    #[test]
    fn the_asterisk_goes_to_routes_that_take_all_paths() {
        let path = |path| RouteSpec { path, ..RouteSpec::default() };
        let star = query("OPTIONS", "a.test", "*");
        let some = table(&[path(PathSpec::Prefix("/a")), path(PathSpec::Regex("."))]);
        assert_eq!(find(&some, &star), RouteMatch::NotFound);
        let all = table(&[path(PathSpec::Prefix("/a")), RouteSpec::default()]);
        assert_eq!(find(&all, &star), RouteMatch::Found(RouteIndex(1)));
    }

    #[test]
    fn an_unknown_listener_and_an_empty_table_find_nothing() {
        let mut query = query("GET", "a.test", "/");
        assert_eq!(find(&table(&[]), &query), RouteMatch::NotFound);
        query.listener = ListenerIndex(9);
        assert_eq!(find(&table(&[RouteSpec::default()]), &query), RouteMatch::NotFound);
    }

    /// Sixteen segments, each a literal or a parameter: a matcher that goes back at every choice
    /// would try 65,536 ways for each request that fails in the end.
    #[test]
    fn a_walk_never_takes_longer_than_the_table_is_large() {
        struct Counter(usize);
        impl Visitor for Counter {
            fn limit(&self) -> Rank {
                RANK_LAST
            }
            fn meet(&mut self, _: &Entry, _: &[Span], _: Option<u32>) {
                self.0 += 1;
            }
        }
        let patterns: Vec<String> = (0..16)
            .map(|at| {
                let segment = |n| if n == at { "a".into() } else { format!("{{p{n}}}") };
                (0..16).map(|n| format!("/{}", segment(n))).collect()
            })
            .collect();
        let specs: Vec<_> = patterns
            .iter()
            .map(|text| RouteSpec { path: PathSpec::Pattern(text), ..RouteSpec::default() })
            .collect();
        let table = table(&specs);
        let path = "/a".repeat(16);
        let mut counter = Counter(0);
        walk(&table, &query("GET", "a.test", &path), &mut counter);
        assert_eq!(counter.0, 16, "each pattern is met once");
        let longer = "/a".repeat(10_000);
        assert_eq!(find(&table, &query("GET", "a.test", &longer)), RouteMatch::NotFound);
    }

    /// A host of 20,000 labels costs one pass, not one per label.
    #[test]
    fn a_long_host_is_no_work() {
        let wildcard = RouteSpec { hosts: vec!["*.a.test"], ..RouteSpec::default() };
        let table = table(&[wildcard]);
        let host = "x.".repeat(20_000) + "a.test";
        assert_eq!(find(&table, &query("GET", &host, "/")), RouteMatch::Found(RouteIndex(0)));
    }
}
