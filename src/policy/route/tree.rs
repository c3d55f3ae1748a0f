//! The routes while they are collected: hosts, exact paths, and a tree of segments for the rest.
//!
//! Made for adding; [`super::compile`] turns it into the form made for finding.

use std::collections::HashMap;

use super::{
    hash::{Interner, NONE},
    host::HostPattern,
    pattern::{Segment, Tail},
    rank::{HostRank, PathClass},
    regexes::Regexes,
};

/// The paths of one host pattern on one set of listeners.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) host: HostRank,
    /// The node all patterns start from, if there is one besides exact paths.
    pub(super) root: u32,
}

/// A point between two segments.
#[derive(Debug)]
pub(super) struct TreeNode {
    /// The first of the edges to nodes behind a literal segment.
    pub(super) literals: u32,
    /// The node behind any segment.
    pub(super) any: u32,
    /// The first of the edges behind a segment that a regex matches, in [`Tree::regex_edges`].
    pub(super) regexes: u32,
    /// Patterns that end here.
    pub(super) end: u32,
    /// Prefixes, and patterns with a rest, that end here.
    pub(super) tail: u32,
    /// The first of the path regexes whose literal beginning ends here, in [`Tree::searches`].
    pub(super) searches: u32,
    pub(super) parent: u32,
    pub(super) by: By,
}

/// How a node is reached from its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Root,
    /// With this key of [`Tree::literal_keys`].
    Literal(u32),
    /// With a segment that this regex matches.
    Regex(u32),
    Any,
}

/// What the entries of a leaf have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    /// The path with this key of [`Tree::exact_keys`].
    Exact(u32),
    /// Patterns that end at this node.
    End(u32),
    /// Prefixes and rests that begin at this node.
    Tail(u32),
    /// A regex over the whole path.
    Search,
}

/// An edge behind a literal segment; its key (parent and segment) has the same number.
#[derive(Debug)]
pub(super) struct LiteralEdge {
    pub(super) child: u32,
    pub(super) next: u32,
}

/// An edge behind a segment that a regex matches.
#[derive(Debug)]
pub(super) struct RegexEdge {
    pub(super) regex: u32,
    pub(super) child: u32,
    pub(super) next: u32,
}

/// A regex over the whole path.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) regex: u32,
    pub(super) leaf: u32,
    pub(super) next: u32,
}

/// One place where one route can match.
#[derive(Debug)]
pub(super) struct TreeEntry {
    /// Its place in the builder's list of routes.
    pub(super) route: u32,
    pub(super) scope: u32,
    pub(super) leaf: u32,
    pub(super) shape: u32,
    pub(super) class: PathClass,
    /// Of a tail: whether something must follow.
    pub(super) rest: bool,
}

#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Keyed by [`scope_space`] and the host's name.
    pub(super) scope_keys: Interner,
    pub(super) scopes: Vec<Scope>,
    /// Keyed by scope and path.
    pub(super) exact_keys: Interner,
    pub(super) exact_leaves: Vec<u32>,
    pub(super) nodes: Vec<TreeNode>,
    /// Keyed by parent node and segment.
    pub(super) literal_keys: Interner,
    pub(super) literal_edges: Vec<LiteralEdge>,
    pub(super) regex_edges: Vec<RegexEdge>,
    pub(super) searches: Vec<Search>,
    /// Edges and searches by node and regex.
    regex_numbers: HashMap<(u32, u32), u32>,
    search_numbers: HashMap<(u32, u32), u32>,
    pub(super) leaves: Vec<Leaf>,
    pub(super) entries: Vec<TreeEntry>,
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

impl Tree {
    /// The scope of a host pattern on a set of listeners.
    pub(super) fn scope(&mut self, set: u32, host: &HostPattern) -> u32 {
        let (scope, new) = self.scope_keys.intern(scope_space(set, host), host_name(host));
        if new {
            let host = match host {
                HostPattern::Exact(_) => HostRank::EXACT,
                HostPattern::Wildcard(suffix) => HostRank::wildcard(suffix),
                HostPattern::Any => HostRank::ANY,
            };
            self.scopes.push(Scope { host, root: NONE });
        }
        scope
    }

    /// The leaf of an exact path.
    pub(super) fn exact_leaf(&mut self, scope: u32, path: &[u8]) -> u32 {
        let (key, new) = self.exact_keys.intern(scope, path);
        if new {
            let leaf = self.new_leaf(Leaf::Exact(key));
            self.exact_leaves.push(leaf);
        }
        self.exact_leaves[key as usize]
    }

    /// The leaf of a pattern whose regexes were interned before.
    pub(super) fn pattern_leaf(
        &mut self,
        scope: u32,
        segments: &[Segment<'_>],
        tail: Tail,
        regexes: &Regexes,
    ) -> u32 {
        let mut node = self.root(scope);
        for segment in segments {
            node = match segment {
                Segment::Literal(bytes) => self.literal_child(node, bytes),
                Segment::Any => self.any_child(node),
                Segment::Regex(text) => match regexes.segment(text) {
                    Some(regex) => self.regex_child(node, regex),
                    None => self.any_child(node), // not reached: `add` interned it
                },
            };
        }
        let node = node as usize;
        let known = match tail {
            Tail::End => self.nodes[node].end,
            Tail::Rest | Tail::Prefix => self.nodes[node].tail,
        };
        if known != NONE {
            return known;
        }
        match tail {
            Tail::End => {
                self.nodes[node].end = self.new_leaf(Leaf::End(node as u32));
                self.nodes[node].end
            }
            Tail::Rest | Tail::Prefix => {
                self.nodes[node].tail = self.new_leaf(Leaf::Tail(node as u32));
                self.nodes[node].tail
            }
        }
    }

    /// The leaf of a path regex, hung where the literal segments of its beginning lead to, so that
    /// only requests with that beginning meet it.
    pub(super) fn search_leaf(&mut self, scope: u32, regex: u32, prefix: &[u8]) -> u32 {
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
        if let Some(known) = self.search_numbers.get(&(node, regex)) {
            return self.searches[*known as usize].leaf;
        }
        self.search_numbers.insert((node, regex), self.searches.len() as u32);
        let leaf = self.new_leaf(Leaf::Search);
        let next = self.nodes[node as usize].searches;
        self.nodes[node as usize].searches = self.searches.len() as u32;
        self.searches.push(Search { regex, leaf, next });
        leaf
    }

    /// The child of `node` behind a literal segment, if there is one.
    pub(super) fn find_literal(&self, node: u32, segment: &[u8]) -> Option<u32> {
        let edge = self.literal_keys.find(node, segment)?;
        Some(self.literal_edges[edge as usize].child)
    }

    fn root(&mut self, scope: u32) -> u32 {
        if self.scopes[scope as usize].root == NONE {
            self.scopes[scope as usize].root = self.new_node(NONE, By::Root);
        }
        self.scopes[scope as usize].root
    }

    fn literal_child(&mut self, node: u32, segment: &[u8]) -> u32 {
        let (edge, new) = self.literal_keys.intern(node, segment);
        if new {
            let child = self.new_node(node, By::Literal(edge));
            let next = self.nodes[node as usize].literals;
            self.literal_edges.push(LiteralEdge { child, next });
            self.nodes[node as usize].literals = edge;
        }
        self.literal_edges[edge as usize].child
    }

    fn any_child(&mut self, node: u32) -> u32 {
        if self.nodes[node as usize].any == NONE {
            self.nodes[node as usize].any = self.new_node(node, By::Any);
        }
        self.nodes[node as usize].any
    }

    fn regex_child(&mut self, node: u32, regex: u32) -> u32 {
        if let Some(known) = self.regex_numbers.get(&(node, regex)) {
            return self.regex_edges[*known as usize].child;
        }
        self.regex_numbers.insert((node, regex), self.regex_edges.len() as u32);
        let child = self.new_node(node, By::Regex(regex));
        let next = self.nodes[node as usize].regexes;
        self.nodes[node as usize].regexes = self.regex_edges.len() as u32;
        self.regex_edges.push(RegexEdge { regex, child, next });
        child
    }

    fn new_node(&mut self, parent: u32, by: By) -> u32 {
        let node = TreeNode {
            literals: NONE,
            any: NONE,
            regexes: NONE,
            end: NONE,
            tail: NONE,
            searches: NONE,
            parent,
            by,
        };
        self.nodes.push(node);
        self.nodes.len() as u32 - 1
    }

    fn new_leaf(&mut self, leaf: Leaf) -> u32 {
        self.leaves.push(leaf);
        self.leaves.len() as u32 - 1
    }
}

/// Literal segments of a regex that are used to find it; the walk recurses once for each.
const SEARCH_DEPTH_MAX: usize = 16;
