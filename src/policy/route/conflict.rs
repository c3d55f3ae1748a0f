//! Routes that get in each other's way.

use std::collections::{HashMap, HashSet};

use super::{
    affected,
    builder::{BuiltRoute, RouteNumber, TableBuilder},
    check::{NAME_END, PRESENT},
    hash::NONE,
    layout::Layout,
    pattern::Tail,
    rank::PathClass,
    tree::{By, LeafKind, SPACE_ANY, SPACE_WILDCARD, SPACES, Tree, TreeNode},
};
use crate::base::{
    ids::RouteIndex,
    limits::{SHADOW_ENTRIES_MAX, SHADOW_NODES_MAX, SHADOW_SETS_MAX},
    pace,
};

/// Two routes that get in each other's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Same hosts, path, conditions and priority on a listener they share: to be refused.
    Same {
        /// The one written first.
        first: RouteIndex,
        /// The one that could never match on that listener.
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

/// All conflicts, in the order of the routes that lose.
pub(super) fn find(layout: &Layout<'_>) -> Vec<Conflict> {
    among(layout, layout.builder.routes.iter().map(|(number, _)| number as u32))
}

/// The same where `new` routes were added, and some removed, since `shadowed` ones were those that
/// never match, and none was the same as another.
pub(super) fn find_again(
    layout: &Layout<'_>,
    new: &[RouteNumber],
    shadowed: &[RouteNumber],
) -> Vec<Conflict> {
    match affected::routes(layout, new) {
        Some(routes) => among(layout, routes.chain(shadowed.iter().map(|route| route.0))),
        None => find(layout),
    }
}

/// The conflicts that some routes lose, or those that are alike.
fn among(layout: &Layout<'_>, routes: impl Iterator<Item = u32>) -> Vec<Conflict> {
    let builder = layout.builder;
    let routes = all_alike(builder, routes);
    let alike = find_alike(builder, &routes);
    let shadows = Shadows::new(layout);
    let mut conflicts = Vec::new();
    for (number, route) in routes {
        pace::step();
        if let Some(first) = alike.get(&number) {
            let first = builder.routes[*first as usize].index;
            conflicts.push(Conflict::Same { first, second: route.index });
        } else if let Some(by) = shadows.of(route) {
            let by = builder.routes[by as usize].index;
            conflicts.push(Conflict::Shadowed { route: route.index, by });
        }
    }
    conflicts
}

/// Some routes and those with the same hosts and path, in their order. Not those that are set aside.
fn all_alike(builder: &TableBuilder, routes: impl Iterator<Item = u32>) -> Vec<(u32, &BuiltRoute)> {
    let mut asked = vec![false; builder.likeness.bound()];
    for number in routes {
        asked[builder.routes[number as usize].alike as usize] = true;
    }
    let all = builder.routes.iter().map(|(number, route)| (number as u32, route));
    let mut found: Vec<(u32, &BuiltRoute)> =
        all.filter(|(_, route)| asked[route.alike as usize] && !route.set_aside).collect();
    found.sort_unstable_by_key(|(_, route)| route.index.0);
    found
}

/// From each route to the first that is like it on a listener they share.
fn find_alike(builder: &TableBuilder, routes: &[(u32, &BuiltRoute)]) -> HashMap<u32, u32> {
    let mut firsts: HashMap<(u32, u32, i64), Vec<(u32, u32)>> = HashMap::new();
    let mut alike = HashMap::new();
    for (number, route) in routes {
        let group = firsts.entry((route.alike, route.guard, route.priority)).or_default();
        let shares = |other: u32| {
            let mut others = builder.listeners(other);
            other == route.set || others.any(|one| builder.listeners(route.set).any(|l| l == one))
        };
        if let Some((_, first)) = group.iter().find(|(other, _)| shares(*other)) {
            alike.insert(*number, *first);
        } else {
            group.push((route.set, *number)); // one for each set without a listener in common
        }
    }
    alike
}

/// Finds routes that never match, entry by entry: an entry is covered if an earlier one matches
/// every request that it matches.
struct Shadows<'b> {
    layout: &'b Layout<'b>,
    builder: &'b TableBuilder,
    /// The sets that hold all listeners of each set.
    supersets: Vec<Vec<u32>>,
}

/// What one step of a pattern takes.
#[derive(Clone, Copy)]
pub(super) enum Step<'b> {
    Literal(&'b [u8]),
    Regex(u32),
    Any,
}

/// The path of the entry that may be covered.
struct Covered<'b> {
    entry: u32,
    steps: Vec<Step<'b>>,
    tail: Tail,
}

impl<'b> Shadows<'b> {
    fn new(layout: &'b Layout<'b>) -> Self {
        let builder = layout.builder;
        Self { layout, builder, supersets: supersets(builder) }
    }

    /// A route that takes requests of `route`, if all are taken.
    fn of(&self, route: &BuiltRoute) -> Option<u32> {
        let mut by = None;
        let mut entry = route.entries;
        while entry != NONE {
            let coverer = self.coverer(entry)?;
            by = by.or(Some(coverer));
            entry = self.builder.tree.entries[entry as usize].next;
        }
        by
    }

    fn coverer(&self, entry: u32) -> Option<u32> {
        let covered = self.describe(entry);
        let scopes = self.covering_scopes(self.builder.tree.entries[entry as usize].scope);
        scopes.into_iter().find_map(|scope| self.coverer_in(scope, &covered))
    }

    fn describe(&self, entry: u32) -> Covered<'b> {
        let tree = &self.builder.tree;
        let source = &tree.entries[entry as usize];
        let steps = steps(tree, tree.leaves[source.leaf as usize].kind);
        let tail = match source.class {
            PathClass::Exact | PathClass::Parameters => Tail::End,
            PathClass::Regex => Tail::Rest, // it matches below the root
            PathClass::Prefix if source.rest => Tail::Rest,
            PathClass::Prefix => Tail::Prefix,
        };
        Covered { entry, steps, tail }
    }

    /// The scopes that hold all hosts and listeners of `scope`, itself first.
    fn covering_scopes(&self, scope: u32) -> Vec<u32> {
        let keys = &self.builder.tree.scope_keys;
        let (space, name) = (keys.seed(scope), keys.get(scope));
        let mut scopes = vec![scope];
        for set in &self.supersets[(space / SPACES) as usize] {
            let space_of = |class| set * SPACES + class;
            let class = space % SPACES;
            if class != SPACE_ANY {
                scopes.extend(keys.find(space_of(class), name));
                let dots = name.iter().enumerate().filter(|(_, byte)| **byte == b'.');
                for (dot, _) in dots {
                    scopes.extend(keys.find(space_of(SPACE_WILDCARD), &name[dot + 1..]));
                }
            }
            scopes.extend(keys.find(space_of(SPACE_ANY), &[]));
        }
        scopes
    }

    fn coverer_in(&self, scope: u32, covered: &Covered<'_>) -> Option<u32> {
        let tree = &self.builder.tree;
        let source = &tree.entries[covered.entry as usize];
        let same = source.scope == scope;
        let leaf = match tree.leaves[source.leaf as usize].kind {
            LeafKind::Exact(key) => tree.find_exact(scope, tree.exact_keys.get(key)),
            LeafKind::Search { .. } => same.then_some(source.leaf),
            LeafKind::End(_) | LeafKind::Tail(_) => None, // the walk comes by
        };
        let root = tree.scopes[scope as usize].root;
        let in_leaf = leaf.and_then(|leaf| self.coverer_of(leaf, covered, true));
        in_leaf.or_else(|| {
            let mut nodes_left = SHADOW_NODES_MAX;
            (root != NONE).then(|| self.walk(root, 0, covered, &mut nodes_left)).flatten()
        })
    }

    /// Looks at all nodes that every path of `covered` leads to.
    fn walk(
        &self,
        number: u32,
        taken: usize,
        covered: &Covered<'_>,
        nodes_left: &mut usize,
    ) -> Option<u32> {
        *nodes_left = nodes_left.checked_sub(1)?;
        let tree = &self.builder.tree;
        let node = &tree.nodes[number as usize];
        let step = covered.steps.get(taken);
        // A rest needs something after this node; after the root there is always something.
        let goes_on = step.is_some() || covered.tail == Tail::Rest || taken == 0;
        if node.tail != NONE
            && let Some(by) = self.coverer_of(node.tail, covered, goes_on)
        {
            return Some(by);
        }
        let Some(step) = step else {
            let ends = node.end != NONE && covered.tail == Tail::End;
            return ends.then(|| self.coverer_of(node.end, covered, true)).flatten();
        };
        let mut children = Vec::new();
        if let Step::Literal(segment) = step {
            children.extend(tree.find_literal(number, segment));
        }
        if !matches!(step, Step::Literal(segment) if segment.is_empty()) {
            for child in self.layout.children.of(number) {
                let By::Regex(regex) = tree.nodes[*child as usize].by else { continue };
                if children.len() >= SHADOW_NODES_MAX {
                    break;
                }
                let takes = match step {
                    Step::Literal(segment) => self.builder.regexes.get(regex).is_match(segment),
                    Step::Regex(other) => *other == regex,
                    Step::Any => false,
                };
                children.extend(takes.then_some(*child));
            }
            children.extend((node.any != NONE).then_some(node.any));
        }
        children.into_iter().find_map(|child| self.walk(child, taken + 1, covered, nodes_left))
    }

    /// A route with an entry in `leaf` that comes before `covered` and asks for no more.
    fn coverer_of(&self, leaf: u32, covered: &Covered<'_>, goes_on: bool) -> Option<u32> {
        let (tree, routes) = (&self.builder.tree, &self.builder.routes);
        let entry = &tree.entries[covered.entry as usize];
        let guard = routes[entry.route as usize].guard;
        let ranks = &self.layout.ranks;
        let earlier = self.layout.entries.of(leaf).iter().take(SHADOW_ENTRIES_MAX);
        let earlier =
            earlier.take_while(|other| ranks[**other as usize] < ranks[covered.entry as usize]);
        for other in earlier {
            let other = &tree.entries[*other as usize];
            let takes = goes_on || !other.rest;
            if takes
                && other.route != entry.route
                && !routes[other.route as usize].set_aside
                && self.asks_no_more(routes[other.route as usize].guard, guard)
            {
                return Some(other.route);
            }
        }
        None
    }

    /// Whether all requests that pass the guard `strict` pass `loose`.
    fn asks_no_more(&self, loose: u32, strict: u32) -> bool {
        let guards = &self.builder.guards;
        let (loose, strict) = (guards.key(loose), guards.key(strict));
        let methods =
            loose.methods == 0 || (strict.methods != 0 && strict.methods & !loose.methods == 0);
        methods && loose.checks.iter().all(|check| asks_as_much(&strict.checks, check))
    }
}

/// Whether one of some sorted conditions is `loose` or says more about the same value.
fn asks_as_much(strict: &[Box<[u8]>], loose: &[u8]) -> bool {
    strict.binary_search_by(|one| (**one).cmp(loose)).is_ok()
        || loose.strip_suffix(&[PRESENT]).is_some_and(|name| {
            name.ends_with(&[NAME_END]) && strict.iter().any(|one| one.starts_with(name))
        })
}

/// What a path takes, step by step.
pub(super) fn steps(tree: &Tree, leaf: LeafKind) -> Vec<Step<'_>> {
    let mut node = match leaf {
        LeafKind::Exact(key) => {
            let segments = tree.exact_keys.get(key).split(|byte| *byte == b'/').skip(1);
            return segments.map(Step::Literal).collect();
        }
        LeafKind::Search { .. } => return Vec::new(),
        LeafKind::End(node) | LeafKind::Tail(node) => node,
    };
    let mut steps = Vec::new();
    while node != NONE {
        let TreeNode { parent, by, .. } = tree.nodes[node as usize];
        match by {
            By::Root(_) => {}
            By::Literal(key) => steps.push(Step::Literal(tree.literal_keys.get(key))),
            By::Regex(regex) => steps.push(Step::Regex(regex)),
            By::Any => steps.push(Step::Any),
        }
        node = parent;
    }
    steps.reverse();
    steps
}

/// For each set those that hold all its listeners. With very many sets only itself: this is a
/// check of habits, not worth a quadratic wait.
fn supersets(builder: &TableBuilder) -> Vec<Vec<u32>> {
    let mut supersets = vec![Vec::new(); builder.sets.bound()];
    let members: Vec<(u32, HashSet<u16>)> =
        builder.sets.numbers().map(|set| (set, builder.listeners(set).collect())).collect();
    for (set, listeners) in &members {
        if members.len() > SHADOW_SETS_MAX {
            supersets[*set as usize].push(*set);
            continue;
        }
        let holding = members.iter().filter(|(_, other)| listeners.is_subset(other));
        supersets[*set as usize].extend(holding.map(|(number, _)| *number));
    }
    supersets
}

#[cfg(test)]
mod tests {
    use super::{
        super::spec::{PathSpec, RouteSpec, ValueSpec},
        *,
    };
    use crate::base::ids::ListenerIndex;

    fn path(text: &str) -> RouteSpec<'_> {
        RouteSpec { path: PathSpec::Pattern(text), ..RouteSpec::default() }
    }

    fn prefix(text: &str) -> RouteSpec<'_> {
        RouteSpec { path: PathSpec::Prefix(text), ..RouteSpec::default() }
    }

    fn regex(text: &str) -> RouteSpec<'_> {
        RouteSpec { path: PathSpec::Regex(text), ..RouteSpec::default() }
    }

    fn conflicts(specs: &[RouteSpec<'_>]) -> Vec<Conflict> {
        let mut builder = TableBuilder::new(3);
        for (number, spec) in specs.iter().enumerate() {
            builder.add(RouteIndex(number as u32), spec).unwrap();
        }
        builder.conflicts()
    }

    fn same(first: u32, second: u32) -> Conflict {
        Conflict::Same { first: RouteIndex(first), second: RouteIndex(second) }
    }

    fn shadowed(route: u32, by: u32) -> Conflict {
        Conflict::Shadowed { route: RouteIndex(route), by: RouteIndex(by) }
    }

    #[test]
    fn routes_that_are_alike_are_named() {
        let header = |spec: RouteSpec<'static>, name| RouteSpec {
            headers: vec![(name, ValueSpec::Present)],
            ..spec
        };
        for (a, b) in [
            (path("/a/{x}"), path("/a/:y")),
            (prefix("/a"), prefix("/a/")),
            (path("/%7ea"), path("/~a")),
            (RouteSpec::default(), path("/{*any}")),
            (regex("^/a"), regex("^/a")),
            (header(path("/a"), "X-A"), header(path("/a"), "x-a")),
            (
                RouteSpec { hosts: vec!["a.test", "b.test"], ..path("/a") },
                RouteSpec { hosts: vec!["B.test.", "a.test"], ..path("/a") },
            ),
            (path("/a"), RouteSpec { listeners: vec![ListenerIndex(1)], ..path("/a") }),
            (RouteSpec { hosts: vec!["*"], ..path("/a") }, path("/a")),
        ] {
            assert_eq!(conflicts(&[a.clone(), b.clone()]), [same(0, 1)], "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_route_that_is_set_aside_is_compared_with_none() {
        let mut builder = TableBuilder::new(1);
        builder.add(RouteIndex(0), &RouteSpec { priority: 1, ..prefix("/") }).unwrap();
        builder.set_aside();
        for number in 1..3 {
            builder.add(RouteIndex(number), &path("/a")).unwrap();
        }
        builder.add(RouteIndex(3), &path("/a")).unwrap();
        builder.set_aside();
        assert_eq!(builder.conflicts(), [same(1, 2)]);
    }

    #[test]
    fn routes_that_differ_in_something_are_fine() {
        let on = |listener| RouteSpec { listeners: vec![ListenerIndex(listener)], ..path("/a") };
        for (a, b) in [
            (path("/a"), path("/a/")),
            (path("/a"), prefix("/a")),
            (path("/{x}"), path("/{x:a}")),
            (path("/a"), RouteSpec { priority: 1, methods: vec!["GET"], ..path("/a") }),
            (path("/a"), RouteSpec { methods: vec!["GET"], ..path("/a") }),
            (path("/a"), RouteSpec { hosts: vec!["a.test"], ..path("/a") }),
            (on(0), on(1)),
        ] {
            assert_eq!(conflicts(&[a.clone(), b.clone()]), [], "{a:?} {b:?}");
        }
    }

    /// A route is shadowed by another from when that is added until it is removed.
    fn comes_and_goes(other: &RouteSpec<'_>, route: &RouteSpec<'_>) {
        let mut builder = TableBuilder::new(3);
        // Another host, and a listener of its own, so that there is more to look at.
        let (listeners, hosts) = (vec![ListenerIndex(2)], vec!["c.test"]);
        let aside = RouteSpec { listeners, hosts, priority: 9, ..path("/") };
        builder.add(RouteIndex(2), &aside).unwrap();
        builder.add(RouteIndex(1), route).unwrap();
        let route = builder.last_number();
        builder.add(RouteIndex(0), other).unwrap();
        let other = builder.last_number();
        let with = builder.lay_out().conflicts_again(&[other], &[]);
        builder.remove(other);
        let without = builder.lay_out().conflicts_again(&[], &[route]);
        assert_eq!((with, without), (vec![shadowed(1, 0)], Vec::new()), "{other:?}");
    }

    #[test]
    fn routes_that_others_shadow_are_named() {
        let first = |spec| RouteSpec { priority: 1, ..spec };
        let get = |spec| RouteSpec { methods: vec!["GET"], ..spec };
        let hosts = |spec, hosts| RouteSpec { hosts, ..spec };
        let header = |spec, value| RouteSpec { headers: vec![("x-a", value)], ..spec };
        let on = |spec, one| RouteSpec { listeners: vec![ListenerIndex(one)], ..spec };
        let both = |spec| RouteSpec { methods: vec!["GET", "POST"], ..spec };
        let one = ValueSpec::Literal("1");
        for (a, b) in [
            (first(RouteSpec::default()), path("/a")),
            (first(prefix("/a")), path("/a")),
            (first(prefix("/a")), path("/a/{*rest}")),
            (prefix("/a"), path("/a/{*rest}")),
            (prefix("/"), RouteSpec::default()),
            (RouteSpec::default(), prefix("/")),
            (first(path("/a/{*rest}")), path("/a/{x}")),
            (first(path("/a/{*rest}")), prefix("/a/b")),
            (first(path("/{x}/b")), path("/a/b")),
            (first(path("/{x:[a-z]+}/b")), path("/a/b")),
            (first(path("/{x:[a-z]+}")), path("/{y:[a-z]+}")),
            (first(RouteSpec::default()), regex("^/a")),
            (first(get(prefix("/"))), get(path("/a"))),
            (first(header(path("/a"), ValueSpec::Present)), header(path("/a"), one)),
            (first(path("/a")), hosts(path("/a"), vec!["a.test", "*.b.test"])),
            (first(hosts(path("/a"), vec!["*.test"])), hosts(path("/a"), vec!["*.a.test"])),
            (hosts(path("/a"), vec!["a.test", "b.test"]), hosts(path("/a"), vec!["a.test"])),
            (
                hosts(both(path("/a")), vec!["a.test", "b.test"]),
                on(hosts(get(path("/a")), vec!["a.test"]), 1),
            ),
            (
                hosts(both(path("/a/{x}/b")), vec!["a.test", "b.test"]),
                on(hosts(get(path("/a/{y}/b")), vec!["a.test"]), 1),
            ),
            (
                hosts(both(path("/{x:a}/b")), vec!["a.test", "b.test"]),
                on(hosts(get(path("/{y:a}/b")), vec!["a.test"]), 1),
            ),
            (
                hosts(both(prefix("/a")), vec!["a.test", "b.test"]),
                on(hosts(get(prefix("/a")), vec!["a.test"]), 1),
            ),
            (first(hosts(path("/a"), vec!["a.test"])), on(hosts(path("/a"), vec!["a.test"]), 1)),
        ] {
            assert_eq!(conflicts(&[a.clone(), b.clone()]), [shadowed(1, 0)], "{a:?} {b:?}");
            comes_and_goes(&a, &b);
        }
    }

    #[test]
    fn routes_that_keep_some_requests_are_not_shadowed() {
        let first = |spec| RouteSpec { priority: 1, ..spec };
        let hosts = |spec, hosts| RouteSpec { hosts, ..spec };
        let header = |name, value| RouteSpec { headers: vec![(name, value)], ..path("/a") };
        let one = ValueSpec::Literal("1");
        for (a, b) in [
            (first(path("/a/{*rest}")), path("/a")),
            (first(path("/a/{*rest}")), prefix("/a")),
            (first(path("/{x}")), path("/")),
            (first(path("/{x:[a-z]+}")), path("/a1")),
            (first(path("/{x:[a-z]+}")), path("/{x}")),
            (path("/a/{*rest}"), prefix("/a")),
            (first(RouteSpec { methods: vec!["GET"], ..prefix("/") }), path("/a")),
            (
                first(RouteSpec { methods: vec!["GET"], ..prefix("/") }),
                RouteSpec { methods: vec!["GET", "HEAD"], ..path("/a") },
            ),
            (first(hosts(path("/a"), vec!["*.a.test"])), hosts(path("/a"), vec!["a.test"])),
            (first(hosts(path("/a"), vec!["a.test"])), path("/a")),
            (prefix("/"), prefix("/a")),
            (first(header("x-a", one)), header("x-a", ValueSpec::Present)),
            (first(header("x-a", ValueSpec::Present)), header("x-ab", one)),
            (first(RouteSpec { listeners: vec![ListenerIndex(1)], ..path("/a") }), path("/a")),
        ] {
            assert_eq!(conflicts(&[a.clone(), b.clone()]), [], "{a:?} {b:?}");
        }
    }
}
