//! Routes that get in each other's way.

use std::collections::{HashMap, HashSet};

use super::{
    builder::{BuiltRoute, TableBuilder},
    check::{NAME_END, PRESENT},
    compile::rank_entries,
    hash::NONE,
    pattern::Tail,
    rank::{PathClass, Rank},
    tree::{By, Leaf, SPACE_ANY, SPACE_WILDCARD, SPACES, TreeNode},
};
use crate::base::{
    ids::RouteIndex,
    limits::{SHADOW_ENTRIES_MAX, SHADOW_NODES_MAX, SHADOW_SETS_MAX},
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
pub(super) fn find(builder: &TableBuilder) -> Vec<Conflict> {
    let alike = find_alike(builder);
    let shadows = Shadows::new(builder);
    let mut conflicts = Vec::new();
    for (number, route) in builder.routes.iter().enumerate().filter(|(_, route)| !route.set_aside) {
        if let Some(first) = alike.get(&(number as u32)) {
            let first = builder.routes[*first as usize].index;
            conflicts.push(Conflict::Same { first, second: route.index });
        } else if let Some(by) = shadows.of(route) {
            let by = builder.routes[by as usize].index;
            conflicts.push(Conflict::Shadowed { route: route.index, by });
        }
    }
    conflicts
}

/// From each route to the first that is like it on a listener they share.
fn find_alike(builder: &TableBuilder) -> HashMap<u32, u32> {
    let mut firsts: HashMap<(u32, u32, i64), Vec<(u32, u32)>> = HashMap::new();
    let mut alike = HashMap::new();
    for (number, route) in builder.routes.iter().enumerate().filter(|(_, route)| !route.set_aside) {
        let group = firsts.entry((route.alike, route.guard, route.priority)).or_default();
        let set = &builder.sets[route.set as usize];
        let shares = |other: u32| {
            other == route.set || builder.sets[other as usize].iter().any(|one| contains(set, *one))
        };
        if let Some((_, first)) = group.iter().find(|(other, _)| shares(*other)) {
            alike.insert(number as u32, *first);
        } else {
            group.push((route.set, number as u32)); // one for each set without a listener in common
        }
    }
    alike
}

/// Whether a sorted list has `one`.
fn contains(list: &[u16], one: u16) -> bool {
    list.binary_search(&one).is_ok()
}

/// Finds routes that never match, entry by entry: an entry is covered if an earlier one matches
/// every request that it matches.
struct Shadows<'b> {
    builder: &'b TableBuilder,
    /// By entry.
    ranks: Vec<Rank>,
    /// The entries of each leaf, by rank.
    leaves: Vec<Vec<u32>>,
    /// The sets that hold all listeners of each set.
    supersets: Vec<Vec<u32>>,
}

/// What one step of a pattern takes.
#[derive(Clone, Copy)]
enum Step<'b> {
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
    fn new(builder: &'b TableBuilder) -> Self {
        let ranked = rank_entries(builder);
        let mut ranks = vec![0; ranked.len()];
        let mut leaves = vec![Vec::new(); builder.tree.leaves.len()];
        for (rank, entry) in ranked.iter().enumerate() {
            ranks[*entry as usize] = rank as Rank;
            leaves[builder.tree.entries[*entry as usize].leaf as usize].push(*entry);
        }
        Self { builder, ranks, leaves, supersets: supersets(&builder.sets) }
    }

    /// A route that takes requests of `route`, if all are taken.
    fn of(&self, route: &BuiltRoute) -> Option<u32> {
        let (first, last) = route.entries;
        let mut by = None;
        for entry in first..last {
            let coverer = self.coverer(entry)?;
            by = by.or(Some(coverer));
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
        let leaf = tree.leaves[source.leaf as usize];
        let mut steps = Vec::new();
        if let Leaf::Exact(key) = leaf {
            let segments = tree.exact_keys.get(key).split(|byte| *byte == b'/').skip(1);
            steps.extend(segments.map(Step::Literal));
        }
        if let Leaf::End(node) | Leaf::Tail(node) = leaf {
            let mut node = node;
            while node != NONE {
                let TreeNode { parent, by, .. } = tree.nodes[node as usize];
                match by {
                    By::Root => {}
                    By::Literal(key) => steps.push(Step::Literal(tree.literal_keys.get(key))),
                    By::Regex(regex) => steps.push(Step::Regex(regex)),
                    By::Any => steps.push(Step::Any),
                }
                node = parent;
            }
            steps.reverse();
        }
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
        let leaf = match tree.leaves[source.leaf as usize] {
            Leaf::Exact(key) => {
                let key = tree.exact_keys.find(scope, tree.exact_keys.get(key));
                key.map(|key| tree.exact_leaves[key as usize])
            }
            Leaf::Search => same.then_some(source.leaf),
            Leaf::End(_) | Leaf::Tail(_) => None, // the walk comes by
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
            let mut at = node.regexes;
            while at != NONE && children.len() < SHADOW_NODES_MAX {
                let edge = &tree.regex_edges[at as usize];
                let takes = match step {
                    Step::Literal(segment) => {
                        self.builder.regexes.get(edge.regex).is_match(segment)
                    }
                    Step::Regex(regex) => *regex == edge.regex,
                    Step::Any => false,
                };
                children.extend(takes.then_some(edge.child));
                at = edge.next;
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
        let earlier = self.leaves[leaf as usize]
            .iter()
            .take(SHADOW_ENTRIES_MAX)
            .take_while(|other| self.ranks[**other as usize] < self.ranks[covered.entry as usize]);
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
        let keys = &self.builder.guard_keys;
        let (loose, strict) = (&keys[loose as usize], &keys[strict as usize]);
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

/// For each set those that hold all its listeners. With very many sets only itself: this is a
/// check of habits, not worth a quadratic wait.
fn supersets(sets: &[Box<[u16]>]) -> Vec<Vec<u32>> {
    let numbers = || 0..sets.len() as u32;
    if sets.len() > SHADOW_SETS_MAX {
        return numbers().map(|number| vec![number]).collect();
    }
    let members: Vec<HashSet<u16>> = sets.iter().map(|set| set.iter().copied().collect()).collect();
    let holds = |number: &u32, set: &[u16]| {
        set.iter().all(|listener| members[*number as usize].contains(listener))
    };
    sets.iter().map(|set| numbers().filter(|number| holds(number, set)).collect()).collect()
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

    #[test]
    fn routes_that_others_shadow_are_named() {
        let first = |spec| RouteSpec { priority: 1, ..spec };
        let get = |spec| RouteSpec { methods: vec!["GET"], ..spec };
        let hosts = |spec, hosts| RouteSpec { hosts, ..spec };
        let header = |spec, value| RouteSpec { headers: vec![("x-a", value)], ..spec };
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
        ] {
            assert_eq!(conflicts(&[a.clone(), b.clone()]), [shadowed(1, 0)], "{a:?} {b:?}");
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
