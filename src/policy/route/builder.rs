//! Checks routes and collects them for the table.

use slab::Slab;

use super::{
    check::{self, CheckedPath, CheckedRoute},
    conflict::Conflict,
    error::RouteError,
    guards::Guards,
    hash::NONE,
    host::HostPattern,
    interner::Interner,
    layout::Layout,
    pattern::{Segments, Tail},
    rank::{self, PathClass},
    regexes::Regexes,
    spec::RouteSpec,
    table::RouteTable,
    target::TargetRule,
    tree::{SPACES, Tree, TreeEntry, bound, host_name, scope_space},
};
use crate::base::ids::{ListenerIndex, RouteIndex};

/// Collects routes and compiles them. One that is kept takes further changes: routes are removed, added
/// and numbered anew without a look at the others.
#[derive(Clone, Debug)]
pub struct TableBuilder {
    /// Whether each listener merges slashes.
    pub(super) merges: Vec<bool>,
    /// Different sets of listeners, as bytes; used by their scopes and by routes.
    pub(super) sets: Interner,
    pub(super) regexes: Regexes,
    pub(super) guards: Guards,
    pub(super) methods: Vec<Box<[u8]>>,
    pub(super) shapes: Interner,
    pub(super) tree: Tree,
    pub(super) routes: Slab<BuiltRoute>,
    /// Canonical texts of host lists and paths, to see which routes are alike.
    pub(super) likeness: Interner,
    last: LastRoute,
}

/// The route added last.
#[derive(Clone, Debug)]
struct LastRoute {
    number: RouteNumber,
    /// Its captures.
    names: Vec<Box<str>>,
    /// Whether a regex makes them.
    by_regex: bool,
}

/// A route of a builder, until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteNumber(pub(super) u32);

/// A route that was added.
#[derive(Clone, Debug)]
pub(super) struct BuiltRoute {
    pub(super) index: RouteIndex,
    pub(super) priority: i64,
    pub(super) guard: u32,
    pub(super) conditions: u32,
    /// Its listeners, as the route says it.
    pub(super) set: u32,
    /// Equal for routes with equal hosts and path.
    pub(super) alike: u32,
    /// The first of its entries in the tree.
    pub(super) entries: u32,
    /// Whether named groups of its regex are used.
    pub(super) groups: bool,
    /// Whether it is left out when conflicts are looked for.
    pub(super) set_aside: bool,
}

impl TableBuilder {
    /// A builder for `listeners` listeners, all of which merge slashes.
    pub fn new(listeners: usize) -> Self {
        let mut shapes = Interner::default();
        shapes.intern(0, &[]); // SHAPE_NONE
        Self {
            merges: vec![true; listeners],
            sets: Interner::default(),
            regexes: Regexes::default(),
            guards: Guards::new(),
            methods: Vec::new(),
            shapes,
            tree: Tree::default(),
            routes: Slab::new(),
            likeness: Interner::default(),
            last: LastRoute { number: RouteNumber(NONE), names: Vec::new(), by_regex: false },
        }
    }

    /// Says that a listener has `merge_slashes = false`, so that literals of patterns keep their
    /// `//` there. Call it before the first [`Self::add`].
    pub fn keep_slashes(&mut self, listener: ListenerIndex) {
        if let Some(merges) = self.merges.get_mut(usize::from(listener.0)) {
            *merges = false;
        }
    }

    /// Adds a route; those with lower indices are before it in the order of the files. An index is a
    /// position among all routes: no two have the same, and few or none are left out.
    ///
    /// # Errors
    /// All that is wrong with it; it was not added then.
    pub fn add(
        &mut self,
        route: RouteIndex,
        spec: &RouteSpec<'_>,
    ) -> Result<TargetRule, Vec<RouteError>> {
        let (checked, target) = check::check(self, spec)?;
        let number = self.place(route, spec, &checked);
        let by_regex = matches!(checked.path, CheckedPath::Search { .. });
        self.last = LastRoute { number, names: checked.names, by_regex };
        Ok(target)
    }

    /// Adds a route that [`Self::add`] of another builder with the same listeners took, without its
    /// target. `groups` says whether that uses named groups of its regex. `None` if it was not added:
    /// this builder is to be thrown away then.
    pub fn add_again(
        &mut self,
        route: RouteIndex,
        spec: &RouteSpec<'_>,
        groups: bool,
    ) -> Option<RouteNumber> {
        let (mut checked, _) = check::check(self, spec).ok()?;
        checked.groups = groups;
        Some(self.place(route, spec, &checked))
    }

    /// The number of the route added last.
    pub fn last_number(&self) -> RouteNumber {
        self.last.number
    }

    /// Takes a route out again.
    pub fn remove(&mut self, route: RouteNumber) {
        let route = self.routes.remove(route.0 as usize);
        let mut number = route.entries;
        while number != NONE {
            let set = self.set_of(self.tree.entries[number as usize].scope);
            let (entry, scope_is_gone) = self.tree.remove(number, &mut self.regexes);
            if scope_is_gone {
                self.sets.release(set);
            }
            self.shapes.release(entry.shape);
            number = entry.next;
        }
        self.sets.release(route.set);
        self.likeness.release(route.alike);
        self.guards.release(route.guard, &mut self.regexes);
    }

    /// Gives a route its index in the next table.
    pub fn renumber(&mut self, route: RouteNumber, index: RouteIndex) {
        self.routes[route.0 as usize].index = index;
    }

    /// Whether so much was removed that a new builder would be a good deal smaller.
    pub fn is_sparse(&self) -> bool {
        let (tree, spare) = (&self.tree, 64);
        let parts = [
            (bound(&self.routes), self.routes.len()),
            (bound(&tree.entries), tree.entries.len()),
            (bound(&tree.nodes), tree.nodes.len()),
            (tree.scope_keys.bound(), tree.scope_keys.len()),
            (tree.exact_keys.bound(), tree.exact_keys.len()),
        ];
        parts.into_iter().any(|(bound, used)| bound > 2 * used + spare)
    }

    fn place(
        &mut self,
        route: RouteIndex,
        spec: &RouteSpec<'_>,
        checked: &CheckedRoute<'_>,
    ) -> RouteNumber {
        let set = self.set(&checked.listeners);
        let alike = self.alike(checked, spec);
        let conditions =
            u32::from(!spec.methods.is_empty()) + (spec.headers.len() + spec.query.len()) as u32;
        let number = RouteNumber(self.routes.insert(BuiltRoute {
            index: route,
            priority: spec.priority,
            guard: checked.guard,
            conditions,
            set,
            alike,
            entries: NONE,
            groups: checked.groups,
            set_aside: false,
        }) as u32);
        match &checked.path {
            CheckedPath::Segments { merged, kept: None } => {
                self.place_segments(number, &checked.listeners, &checked.hosts, merged);
            }
            CheckedPath::Segments { merged, kept: Some(kept) } => {
                let merges = |listener: &u16| self.merges[usize::from(*listener)];
                let (merging, keeping): (Vec<u16>, Vec<u16>) =
                    checked.listeners.iter().partition(|listener| merges(listener));
                for (listeners, segments) in [(merging, merged), (keeping, kept)] {
                    if !listeners.is_empty() {
                        self.place_segments(number, &listeners, &checked.hosts, segments);
                    }
                }
            }
            CheckedPath::Search { regex, prefix } => {
                for host in &checked.hosts {
                    let scope = self.scope(&checked.listeners, host);
                    let leaf = self.tree.search_leaf(scope, *regex, prefix, &mut self.regexes);
                    self.push(number, scope, leaf, (SHAPE_NONE, PathClass::Regex, false));
                }
            }
        }
        number
    }

    /// The number of a capture of the route added last, by its name; from now on that route's regex
    /// captures its groups.
    pub fn capture(&mut self, name: &str) -> Option<u8> {
        let index = self.last.names.iter().position(|known| **known == *name)?;
        let route = self.routes.get_mut(self.last.number.0 as usize)?;
        route.groups |= self.last.by_regex;
        Some(index as u8) // at most CAPTURES_MAX
    }

    /// Leaves the last route out of [`Self::conflicts`]: a condition of it is not known, because of
    /// a mistake that the builder was not told of.
    pub fn set_aside(&mut self) {
        if let Some(route) = self.routes.get_mut(self.last.number.0 as usize) {
            route.set_aside = true;
        }
    }

    /// The order of all that was added, from which conflicts are found and the table is built.
    pub fn lay_out(&self) -> Layout<'_> {
        Layout::new(self)
    }

    /// [`Layout::conflicts`] of all that was added.
    pub fn conflicts(&self) -> Vec<Conflict> {
        self.lay_out().conflicts()
    }

    /// [`Layout::build`] of all that was added.
    pub fn build(&self) -> RouteTable {
        self.lay_out().build()
    }

    fn place_segments(
        &mut self,
        route: RouteNumber,
        listeners: &[u16],
        hosts: &[HostPattern],
        segments: &Segments<'_>,
    ) {
        let exact = segments.exact();
        let mut shape = Vec::new();
        if exact.is_none() {
            rank::shape(segments, &mut shape);
        }
        let (shape, _) = self.shapes.intern(0, &shape);
        let class = match (&exact, segments.tail) {
            (Some(_), _) => PathClass::Exact,
            (None, Tail::End) => PathClass::Parameters,
            (None, Tail::Rest | Tail::Prefix) => PathClass::Prefix,
        };
        for host in hosts {
            let scope = self.scope(listeners, host);
            let leaf = match &exact {
                Some(path) => self.tree.exact_leaf(scope, path),
                None => {
                    let (list, tail) = (&segments.list, segments.tail);
                    self.tree.pattern_leaf(scope, list, tail, &mut self.regexes)
                }
            };
            self.push(route, scope, leaf, (shape, class, segments.tail == Tail::Rest));
        }
        self.shapes.release(shape); // its entries have it
    }

    fn push(
        &mut self,
        route: RouteNumber,
        scope: u32,
        leaf: u32,
        (shape, class, rest): (u32, PathClass, bool),
    ) {
        self.shapes.hold(shape);
        let built = &mut self.routes[route.0 as usize];
        let next = built.entries;
        let entry = TreeEntry { route: route.0, scope, leaf, shape, class, rest, next };
        built.entries = self.tree.push(entry);
    }

    /// The scope of a host on some listeners, which one more entry is in now.
    fn scope(&mut self, listeners: &[u16], host: &HostPattern) -> u32 {
        let set = self.set(listeners);
        let (scope, is_new) = self.tree.scope(set, host);
        if !is_new {
            self.sets.release(set); // it has it
        }
        scope
    }

    /// The number of a set of listeners, which has one more user now.
    fn set(&mut self, listeners: &[u16]) -> u32 {
        let key: Vec<u8> = listeners.iter().flat_map(|one| one.to_be_bytes()).collect();
        self.sets.intern(0, &key).0
    }

    fn set_of(&self, scope: u32) -> u32 {
        self.tree.scope_keys.seed(scope) / SPACES
    }

    /// The listeners of a set, ascending.
    pub(super) fn listeners(&self, set: u32) -> impl Iterator<Item = u16> {
        let (listeners, _) = self.sets.get(set).as_chunks();
        listeners.iter().map(|one| u16::from_be_bytes(*one))
    }

    /// A number that two routes share if they have the same hosts and the same path.
    fn alike(&mut self, checked: &CheckedRoute<'_>, spec: &RouteSpec<'_>) -> u32 {
        let mut text = Vec::new();
        for host in &checked.hosts {
            text.push(scope_space(0, host) as u8);
            text.extend_from_slice(host_name(host));
            text.push(0);
        }
        check::write_path_key(&checked.path, spec, &mut text);
        self.likeness.intern(0, &text).0
    }
}

/// The shape of paths that are not compared segment by segment.
const SHAPE_NONE: u32 = 0;
