//! The routes while they are collected: hosts, exact paths, and a tree of segments for the rest.
//!
//! Made for adding routes and for taking them out again: whatever an entry needs counts its users, and
//! goes with the last. [`super::compile`] turns it into the form made for finding.

use std::collections::HashMap;

use slab::Slab;

use super::{
    hash::NONE,
    host::HostPattern,
    interner::Interner,
    pattern::{Segment, Tail},
    rank::{HostRank, PathClass},
    regexes::{Purpose, Regexes},
};

/// The paths of one host pattern on one set of listeners.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    pub(super) host: HostRank,
    /// The node all patterns start from, if there is one besides exact paths.
    pub(super) root: u32,
}

/// A point between two segments.
#[derive(Clone, Copy, Debug)]
pub(super) struct TreeNode {
    pub(super) parent: u32,
    pub(super) by: By,
    /// The node behind any segment.
    pub(super) any: u32,
    /// Patterns that end here.
    pub(super) end: u32,
    /// Prefixes, and patterns with a rest, that end here.
    pub(super) tail: u32,
    /// How many nodes have this parent.
    children: u32,
    /// How many path regexes have a literal beginning that ends here.
    searches: u32,
}

impl TreeNode {
    /// Whether no pattern needs it.
    fn is_bare(&self) -> bool {
        self.end == NONE && self.tail == NONE && self.children == 0 && self.searches == 0
    }

    /// Whether nothing begins or ends here but one way on.
    pub(super) fn leads_on(&self) -> bool {
        self.end == NONE && self.tail == NONE && self.children == 1 && self.searches == 0
    }
}

/// How a node is reached from its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// It is the root of this scope.
    Root(u32),
    /// With this key of [`Tree::literal_keys`].
    Literal(u32),
    /// With a segment that this regex matches.
    Regex(u32),
    Any,
}

/// Where the entries of one path lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    pub(super) kind: LeafKind,
    /// How many there are.
    entries: u32,
}

/// What the entries of a leaf have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeafKind {
    /// The path with this key of [`Tree::exact_keys`].
    Exact(u32),
    /// Patterns that end at this node.
    End(u32),
    /// Prefixes and rests that begin at this node.
    Tail(u32),
    /// A regex over the whole path; its literal beginning leads to this node.
    Search { node: u32, regex: u32 },
}

/// One place where one route can match.
#[derive(Clone, Copy, Debug)]
pub(super) struct TreeEntry {
    /// Its number in the builder's list of routes.
    pub(super) route: u32,
    pub(super) scope: u32,
    pub(super) leaf: u32,
    pub(super) shape: u32,
    pub(super) class: PathClass,
    /// Of a tail: whether something must follow.
    pub(super) rest: bool,
    /// The next one of the same route.
    pub(super) next: u32,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    /// Keyed by [`scope_space`] and the host's name; used by each entry.
    pub(super) scope_keys: Interner,
    /// By number of its key.
    pub(super) scopes: Vec<Scope>,
    /// Keyed by scope and path; used by its leaf.
    pub(super) exact_keys: Interner,
    /// By number of its key.
    pub(super) exact_leaves: Vec<u32>,
    pub(super) nodes: Slab<TreeNode>,
    /// Keyed by parent node and segment; used by the node behind it.
    pub(super) literal_keys: Interner,
    /// The node, by number of its key.
    literal_children: Vec<u32>,
    /// Nodes by parent and regex.
    pub(super) regex_children: HashMap<(u32, u32), u32>,
    /// Leaves by node and regex.
    search_leaves: HashMap<(u32, u32), u32>,
    pub(super) leaves: Slab<Leaf>,
    pub(super) entries: Slab<TreeEntry>,
}

/// The key space of the hosts of one listener set: exact names, wildcards, and any apart.
pub(super) fn scope_space(set: u32, host: &HostPattern) -> u32 {
    let class = match host {
        HostPattern::Exact(_) => SPACE_EXACT,
        HostPattern::Wildcard(_) => SPACE_WILDCARD,
        HostPattern::Any => SPACE_ANY,
    };
    set * SPACES + class
}

pub(super) const SPACES: u32 = 3;
pub(super) const SPACE_EXACT: u32 = 0;
pub(super) const SPACE_WILDCARD: u32 = 1;
pub(super) const SPACE_ANY: u32 = 2;

/// The part of a host pattern that requests are compared with.
pub(super) fn host_name(host: &HostPattern) -> &[u8] {
    match host {
        HostPattern::Exact(name) | HostPattern::Wildcard(name) => name,
        HostPattern::Any => &[],
    }
}

/// One more than the highest number in use.
pub(super) fn bound<T>(list: &Slab<T>) -> usize {
    list.iter().next_back().map_or(0, |(number, _)| number + 1)
}

impl Tree {
    /// The scope of a host pattern on a set of listeners, which one more entry is in now, and whether it
    /// is new.
    pub(super) fn scope(&mut self, set: u32, host: &HostPattern) -> (u32, bool) {
        let (scope, new) = self.scope_keys.intern(scope_space(set, host), host_name(host));
        if new {
            let host = match host {
                HostPattern::Exact(_) => HostRank::EXACT,
                HostPattern::Wildcard(suffix) => HostRank::wildcard(suffix),
                HostPattern::Any => HostRank::ANY,
            };
            put(&mut self.scopes, scope, Scope { host, root: NONE });
        }
        (scope, new)
    }

    /// The leaf of an exact path.
    pub(super) fn exact_leaf(&mut self, scope: u32, path: &[u8]) -> u32 {
        if let Some(leaf) = self.find_exact(scope, path) {
            return leaf;
        }
        let (key, _) = self.exact_keys.intern(scope, path);
        let leaf = self.new_leaf(LeafKind::Exact(key));
        put(&mut self.exact_leaves, key, leaf);
        leaf
    }

    /// The leaf of a pattern whose regexes were interned before.
    pub(super) fn pattern_leaf(
        &mut self,
        scope: u32,
        segments: &[Segment<'_>],
        tail: Tail,
        regexes: &mut Regexes,
    ) -> u32 {
        let mut node = self.root(scope);
        for segment in segments {
            node = match segment {
                Segment::Literal(bytes) => self.literal_child(node, bytes),
                Segment::Any => self.any_child(node),
                Segment::Regex(text) => match regexes.find(Purpose::Segment, text) {
                    Some(regex) => self.regex_child(node, regex, regexes),
                    None => self.any_child(node), // not reached: `add` interned it
                },
            };
        }
        let TreeNode { end, tail: rest, .. } = self.nodes[node as usize];
        match tail {
            Tail::End if end != NONE => end,
            Tail::Rest | Tail::Prefix if rest != NONE => rest,
            Tail::End => {
                let leaf = self.new_leaf(LeafKind::End(node));
                self.nodes[node as usize].end = leaf;
                leaf
            }
            Tail::Rest | Tail::Prefix => {
                let leaf = self.new_leaf(LeafKind::Tail(node));
                self.nodes[node as usize].tail = leaf;
                leaf
            }
        }
    }

    /// The leaf of a path regex, hung where the literal segments of its beginning lead to, so that
    /// only requests with that beginning meet it.
    pub(super) fn search_leaf(
        &mut self,
        scope: u32,
        regex: u32,
        prefix: &[u8],
        regexes: &mut Regexes,
    ) -> u32 {
        let mut node = self.root(scope);
        if let Some((b'/', inner)) = prefix.split_first() {
            let whole = inner.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            if whole > 0 {
                let segments = inner[..whole].split(|byte| *byte == b'/');
                for segment in segments.take(SEARCH_DEPTH_MAX) {
                    node = self.literal_child(node, segment);
                }
            }
        }
        if let Some(known) = self.search_leaves.get(&(node, regex)) {
            return *known;
        }
        let leaf = self.new_leaf(LeafKind::Search { node, regex });
        self.search_leaves.insert((node, regex), leaf);
        self.nodes[node as usize].searches += 1;
        regexes.hold(regex);
        leaf
    }

    /// Puts an entry into its leaf; its number.
    pub(super) fn push(&mut self, entry: TreeEntry) -> u32 {
        self.leaves[entry.leaf as usize].entries += 1;
        self.entries.insert(entry) as u32
    }

    /// Takes an entry out, with all that was there for it alone. Whether its scope is gone.
    pub(super) fn remove(&mut self, entry: u32, regexes: &mut Regexes) -> (TreeEntry, bool) {
        let entry = self.entries.remove(entry as usize);
        self.leave(entry.leaf, regexes);
        let is_gone = self.scope_keys.release(entry.scope);
        (entry, is_gone)
    }

    /// The leaf of an exact path that is known.
    pub(super) fn find_exact(&self, scope: u32, path: &[u8]) -> Option<u32> {
        let key = self.exact_keys.find(scope, path)?;
        Some(self.exact_leaves[key as usize])
    }

    /// The child of `node` behind a literal segment, if there is one.
    pub(super) fn find_literal(&self, node: u32, segment: &[u8]) -> Option<u32> {
        let key = self.literal_keys.find(node, segment)?;
        Some(self.literal_children[key as usize])
    }

    fn leave(&mut self, number: u32, regexes: &mut Regexes) {
        let leaf = &mut self.leaves[number as usize];
        leaf.entries -= 1;
        if leaf.entries > 0 {
            return;
        }
        match self.leaves.remove(number as usize).kind {
            LeafKind::Exact(key) => {
                self.exact_keys.release(key);
            }
            LeafKind::End(node) => {
                self.nodes[node as usize].end = NONE;
                self.prune(node, regexes);
            }
            LeafKind::Tail(node) => {
                self.nodes[node as usize].tail = NONE;
                self.prune(node, regexes);
            }
            LeafKind::Search { node, regex } => {
                self.search_leaves.remove(&(node, regex));
                regexes.release(regex);
                self.nodes[node as usize].searches -= 1;
                self.prune(node, regexes);
            }
        }
    }

    /// Removes a node that no pattern needs any more, and those above it that were there for it.
    fn prune(&mut self, mut node: u32, regexes: &mut Regexes) {
        while self.nodes[node as usize].is_bare() {
            let TreeNode { parent, by, .. } = self.nodes.remove(node as usize);
            match by {
                By::Root(scope) => {
                    self.scopes[scope as usize].root = NONE;
                    return;
                }
                By::Literal(key) => {
                    self.literal_keys.release(key);
                }
                By::Regex(regex) => {
                    self.regex_children.remove(&(parent, regex));
                    regexes.release(regex);
                }
                By::Any => self.nodes[parent as usize].any = NONE,
            }
            self.nodes[parent as usize].children -= 1;
            node = parent;
        }
    }

    fn root(&mut self, scope: u32) -> u32 {
        if self.scopes[scope as usize].root == NONE {
            self.scopes[scope as usize].root = self.new_node(NONE, By::Root(scope));
        }
        self.scopes[scope as usize].root
    }

    fn literal_child(&mut self, node: u32, segment: &[u8]) -> u32 {
        if let Some(child) = self.find_literal(node, segment) {
            return child;
        }
        let (key, _) = self.literal_keys.intern(node, segment);
        let child = self.new_node(node, By::Literal(key));
        put(&mut self.literal_children, key, child);
        child
    }

    fn any_child(&mut self, node: u32) -> u32 {
        if self.nodes[node as usize].any == NONE {
            self.nodes[node as usize].any = self.new_node(node, By::Any);
        }
        self.nodes[node as usize].any
    }

    fn regex_child(&mut self, node: u32, regex: u32, regexes: &mut Regexes) -> u32 {
        if let Some(known) = self.regex_children.get(&(node, regex)) {
            return *known;
        }
        let child = self.new_node(node, By::Regex(regex));
        self.regex_children.insert((node, regex), child);
        regexes.hold(regex);
        child
    }

    fn new_node(&mut self, parent: u32, by: By) -> u32 {
        if let Some(parent) = self.nodes.get_mut(parent as usize) {
            parent.children += 1;
        }
        let (any, end, tail) = (NONE, NONE, NONE);
        let node = TreeNode { parent, by, any, end, tail, children: 0, searches: 0 };
        self.nodes.insert(node) as u32
    }

    fn new_leaf(&mut self, kind: LeafKind) -> u32 {
        self.leaves.insert(Leaf { kind, entries: 0 }) as u32
    }
}

/// Puts something in the place with this number, which is in the list or the next one.
fn put<T>(list: &mut Vec<T>, number: u32, item: T) {
    match list.get_mut(number as usize) {
        Some(place) => *place = item,
        None => list.push(item),
    }
}

/// Literal segments of a regex that are used to find it; the walk recurses once for each.
const SEARCH_DEPTH_MAX: usize = 16;
