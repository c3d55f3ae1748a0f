//! Checks routes and collects them for the table.

use std::collections::HashMap;

use super::{
    check::{self, CheckedPath, CheckedRoute},
    compile,
    condition::{Guard, MethodBits},
    conflict::{self, Conflict},
    error::RouteError,
    hash::Interner,
    pattern::{Segments, Tail},
    rank::{self, PathClass},
    regexes::Regexes,
    spec::RouteSpec,
    table::RouteTable,
    target::TargetRule,
    tree::{Tree, TreeEntry, host_name, scope_space},
};
use crate::base::ids::{ListenerIndex, RouteIndex};

/// Collects routes, in the order of the files, and compiles them.
#[derive(Debug, Default)]
pub struct TableBuilder {
    /// Whether each listener merges slashes.
    pub(super) merges: Vec<bool>,
    /// Different sets of listeners, each sorted.
    pub(super) sets: Vec<Box<[u16]>>,
    set_numbers: HashMap<Box<[u16]>, u32>,
    pub(super) regexes: Regexes,
    pub(super) guards: Vec<Guard>,
    /// What makes two guards equal.
    pub(super) guard_keys: Vec<GuardKey>,
    guard_numbers: HashMap<GuardKey, u32>,
    pub(super) methods: Vec<Box<[u8]>>,
    pub(super) shapes: Interner,
    pub(super) tree: Tree,
    pub(super) routes: Vec<BuiltRoute>,
    /// Canonical texts of host lists and paths, to see which routes are alike.
    pub(super) likeness: Interner,
    /// The captures of the route added last.
    names: Vec<Box<str>>,
    /// Whether a regex makes them.
    by_regex: bool,
}

/// A guard by value: its methods, and each condition as sorted text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct GuardKey {
    pub(super) methods: MethodBits,
    pub(super) checks: Box<[Box<[u8]>]>,
}

/// A route that was added.
#[derive(Debug)]
pub(super) struct BuiltRoute {
    pub(super) index: RouteIndex,
    pub(super) priority: i64,
    pub(super) guard: u32,
    pub(super) conditions: u32,
    /// Its listeners, as the route says it.
    pub(super) set: u32,
    /// Equal for routes with equal hosts and path.
    pub(super) alike: u32,
    /// Its entries in the tree, one after the other.
    pub(super) entries: (u32, u32),
    /// Whether named groups of its regex are used.
    pub(super) groups: bool,
    /// Whether it is left out when conflicts are looked for.
    pub(super) set_aside: bool,
}

impl TableBuilder {
    /// A builder for `listeners` listeners, all of which merge slashes.
    pub fn new(listeners: usize) -> Self {
        let mut builder = Self { merges: vec![true; listeners], ..Self::default() };
        builder.guards.push(Guard { methods: 0, checks: Box::new([]) });
        builder.guard_keys.push(GuardKey::default());
        builder.guard_numbers.insert(GuardKey::default(), GUARD_NONE);
        builder.shapes.intern(0, &[]); // SHAPE_NONE
        builder
    }

    /// Says that a listener has `merge_slashes = false`, so that literals of patterns keep their
    /// `//` there. Call it before the first [`Self::add`].
    pub fn keep_slashes(&mut self, listener: ListenerIndex) {
        if let Some(merges) = self.merges.get_mut(usize::from(listener.0)) {
            *merges = false;
        }
    }

    /// Adds a route; routes come in the order of the files.
    ///
    /// # Errors
    /// All that is wrong with it; it was not added then.
    pub fn add(
        &mut self,
        route: RouteIndex,
        spec: &RouteSpec<'_>,
    ) -> Result<TargetRule, Vec<RouteError>> {
        let (checked, target) = check::check(self, spec)?;
        self.place(route, spec, &checked);
        self.by_regex = matches!(checked.path, CheckedPath::Search { .. });
        self.names = checked.names;
        Ok(target)
    }

    /// Adds a route that [`Self::add`] of another builder took, without its target. `groups` says
    /// whether that uses named groups of its regex. Whether it was added: it is, with the same
    /// listeners.
    pub fn add_again(&mut self, route: RouteIndex, spec: &RouteSpec<'_>, groups: bool) -> bool {
        let Ok((mut checked, _)) = check::check(self, spec) else { return false };
        checked.groups = groups;
        self.place(route, spec, &checked);
        true
    }

    fn place(&mut self, route: RouteIndex, spec: &RouteSpec<'_>, checked: &CheckedRoute<'_>) {
        let set = self.set(checked.listeners.clone());
        let first = self.tree.entries.len() as u32;
        match &checked.path {
            CheckedPath::Segments { merged, kept } => match kept {
                None => self.place_segments(set, checked, merged),
                Some(kept) => {
                    let merges = |listener: &u16| self.merges[usize::from(*listener)];
                    let (merging, keeping) = checked.listeners.iter().partition(|l| merges(l));
                    self.place_variant(merging, checked, merged);
                    self.place_variant(keeping, checked, kept);
                }
            },
            CheckedPath::Search { regex, prefix } => {
                for host in &checked.hosts {
                    let scope = self.tree.scope(set, host);
                    let leaf = self.tree.search_leaf(scope, *regex, prefix);
                    self.push(scope, leaf, SHAPE_NONE, PathClass::Regex, false);
                }
            }
        }
        let alike = self.alike(checked, spec);
        let conditions =
            u32::from(!spec.methods.is_empty()) + (spec.headers.len() + spec.query.len()) as u32;
        self.routes.push(BuiltRoute {
            index: route,
            priority: spec.priority,
            guard: checked.guard,
            conditions,
            set,
            alike,
            entries: (first, self.tree.entries.len() as u32),
            groups: checked.groups,
            set_aside: false,
        });
    }

    /// The number of a capture of the route added last, by its name; from now on that route's regex
    /// captures its groups.
    pub fn capture(&mut self, name: &str) -> Option<u8> {
        let index = self.names.iter().position(|known| **known == *name)?;
        let route = self.routes.last_mut()?;
        route.groups |= self.by_regex;
        Some(index as u8) // at most CAPTURES_MAX
    }

    /// Leaves the last route out of [`Self::conflicts`]: a condition of it is not known, because of
    /// a mistake that the builder was not told of.
    pub fn set_aside(&mut self) {
        if let Some(route) = self.routes.last_mut() {
            route.set_aside = true;
        }
    }

    /// Routes that get in each other's way: those that are alike, and those that never match
    /// because others take all their requests. It looks at each route alone and at what a
    /// `path_regex` matches not at all, so a shadowed route may go unnoticed; none is named that
    /// isn't.
    pub fn conflicts(&self) -> Vec<Conflict> {
        conflict::find(self)
    }

    /// The compiled table.
    pub fn build(self) -> RouteTable {
        compile::compile(self)
    }

    /// The number of a guard with these conditions.
    pub(super) fn guard(&mut self, key: GuardKey, make: impl FnOnce() -> Guard) -> u32 {
        if let Some(number) = self.guard_numbers.get(&key) {
            return *number;
        }
        let number = self.guards.len() as u32;
        self.guards.push(make());
        self.guard_keys.push(key.clone());
        self.guard_numbers.insert(key, number);
        number
    }

    fn set(&mut self, listeners: Vec<u16>) -> u32 {
        let next = self.sets.len() as u32;
        let listeners: Box<[u16]> = listeners.into();
        if let Some(number) = self.set_numbers.get(&listeners) {
            return *number;
        }
        self.sets.push(listeners.clone());
        self.set_numbers.insert(listeners, next);
        next
    }

    fn place_variant(
        &mut self,
        listeners: Vec<u16>,
        route: &CheckedRoute<'_>,
        segments: &Segments<'_>,
    ) {
        if !listeners.is_empty() {
            let set = self.set(listeners);
            self.place_segments(set, route, segments);
        }
    }

    fn place_segments(&mut self, set: u32, route: &CheckedRoute<'_>, segments: &Segments<'_>) {
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
        for host in &route.hosts {
            let scope = self.tree.scope(set, host);
            let leaf = match &exact {
                Some(path) => self.tree.exact_leaf(scope, path),
                None => {
                    let (list, tail) = (&segments.list, segments.tail);
                    self.tree.pattern_leaf(scope, list, tail, &self.regexes)
                }
            };
            self.push(scope, leaf, shape, class, segments.tail == Tail::Rest);
        }
    }

    fn push(&mut self, scope: u32, leaf: u32, shape: u32, class: PathClass, rest: bool) {
        let route = self.routes.len() as u32;
        self.tree.entries.push(TreeEntry { route, scope, leaf, shape, class, rest });
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

/// The guard of a route without conditions.
pub(super) const GUARD_NONE: u32 = 0;
