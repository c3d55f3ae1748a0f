//! From the tree that routes were added to, to the table that requests are looked up in.

use super::{
    builder::TableBuilder,
    captures::Span,
    hash::{Index, NONE, hash},
    interner::Interner,
    layout::Layout,
    rank::{RANK_LAST, Rank},
    regexes,
    table::{Entry, Exact, ListenerSet, Node, RegexEdge, RegexNode, RouteTable, Scope, Search},
    tree::{By, LeafKind, SPACE_ANY, SPACE_EXACT, SPACES, Tree},
};
use crate::base::pace;

/// Compiles all that was added.
pub(super) fn compile(layout: &Layout<'_>) -> RouteTable {
    let builder = layout.builder;
    let tree = &builder.tree;
    let entries = copy_entries(layout);
    let (regexes, regex_places) = builder.regexes.list();
    let mut flattener = Flattener {
        layout,
        tree,
        regex_places: &regex_places,
        entries: &entries,
        labels: Interner::default(),
        label_starts: Vec::new(),
        label_texts: Vec::new(),
        nodes: Vec::with_capacity(tree.nodes.len()),
        regex_nodes: Vec::new(),
        literal_nodes: Vec::new(),
        regex_edges: Vec::new(),
        searches: Vec::new(),
    };
    let (mut scopes, host_names) = make_scopes(layout);
    for number in tree.scope_keys.numbers() {
        let root = tree.scopes[number as usize].root;
        if root != NONE {
            scopes[number as usize].root = flattener.flatten(root, NONE, (0, 0));
        }
    }
    let Flattener { label_texts, nodes, regex_nodes, literal_nodes, regex_edges, searches, .. } =
        flattener;
    let sets_of_listener = make_sets(builder, &scopes);
    let hosts: Vec<(u64, u32)> =
        tree.scope_keys.numbers().map(|number| (tree.scope_keys.hash(number), number)).collect();
    let (exacts, exact_paths, exact_index) = copy_exacts(layout);
    RouteTable {
        sets_of_listener,
        host_index: Index::build(hosts.into_iter()),
        host_names,
        scopes,
        exact_index,
        exact_paths,
        exacts,
        node_index: Index::build(literal_nodes.into_iter()),
        labels: label_texts.into(),
        nodes: nodes.into(),
        regex_nodes: regex_nodes.into(),
        regex_edges: regex_edges.into(),
        searches: searches.into(),
        entries,
        guards: builder.guards.list(),
        regexes,
        methods: builder.methods.clone().into(),
    }
}

/// The entries of all leaves, those of each together, by rank.
fn copy_entries(layout: &Layout<'_>) -> Box<[Entry]> {
    let TableBuilder { tree, routes, .. } = layout.builder;
    let items = layout.entries.items();
    let leaf_of = |number: u32| tree.entries[number as usize].leaf;
    let entries = items.iter().enumerate().map(|(place, number)| {
        pace::step();
        let entry = &tree.entries[*number as usize];
        let route = &routes[entry.route as usize];
        let next = items.get(place + 1);
        Entry {
            rank: layout.ranks[*number as usize],
            route: route.index,
            guard: route.guard,
            last: next.is_none_or(|next| leaf_of(*next) != entry.leaf),
            rest: entry.rest,
            groups: route.groups,
        }
    });
    entries.collect()
}

/// The scopes by their number in the tree, and the names of their hosts.
fn make_scopes(layout: &Layout<'_>) -> (Box<[Scope]>, Box<[u8]>) {
    let tree = &layout.builder.tree;
    let keys = &tree.scope_keys;
    let mut names = Vec::new();
    let none = Scope { space: 0, name: (0, 0), root: NONE, rank_min: RANK_LAST, exacts: false };
    let mut scopes = vec![none; keys.bound()];
    for number in keys.numbers() {
        let start = names.len() as u32;
        names.extend_from_slice(keys.get(number));
        let (space, name) = (keys.seed(number), (start, names.len() as u32));
        scopes[number as usize] = Scope { space, name, ..none };
    }
    for (rank, number) in layout.ranked.iter().enumerate() {
        let scope = &mut scopes[tree.entries[*number as usize].scope as usize];
        scope.rank_min = scope.rank_min.min(rank as Rank);
    }
    for exact in tree.exact_keys.numbers() {
        scopes[tree.exact_keys.seed(exact) as usize].exacts = true;
    }
    (scopes.into(), names.into())
}

/// The paths without parameters, their texts, and the way to them.
fn copy_exacts(layout: &Layout<'_>) -> (Box<[Exact]>, Box<[u8]>, Index) {
    let tree = &layout.builder.tree;
    let keys = &tree.exact_keys;
    let (mut paths, mut hashes) = (Vec::new(), Vec::with_capacity(keys.len()));
    let exacts = keys.numbers().enumerate().map(|(place, number)| {
        pace::step();
        let start = paths.len() as u32;
        paths.extend_from_slice(keys.get(number));
        hashes.push((keys.hash(number), place as u32));
        let entries = layout.entries.start(tree.exact_leaves[number as usize]);
        Exact { scope: keys.seed(number), path: (start, paths.len() as u32), entries }
    });
    let exacts = exacts.collect();
    pace::long_step();
    (exacts, paths.into(), Index::build(hashes.into_iter()))
}

fn make_sets(builder: &TableBuilder, scopes: &[Scope]) -> Box<[Box<[ListenerSet]>]> {
    let mut described: Vec<ListenerSet> = (0..builder.sets.bound() as u32)
        .map(|number| ListenerSet {
            number,
            rank_min: RANK_LAST,
            exact_hosts: false,
            wildcard_bytes_max: 0,
            any: NONE,
        })
        .collect();
    for number in builder.tree.scope_keys.numbers() {
        let scope = &scopes[number as usize];
        let set = &mut described[(scope.space / SPACES) as usize];
        set.rank_min = set.rank_min.min(scope.rank_min);
        match scope.space % SPACES {
            SPACE_EXACT => set.exact_hosts = true,
            SPACE_ANY => set.any = number,
            _ => {
                let bytes = (scope.name.1 - scope.name.0) as u16; // at most 253
                set.wildcard_bytes_max = set.wildcard_bytes_max.max(bytes);
            }
        }
    }
    let mut of_listener = vec![Vec::new(); builder.merges.len()];
    for set in described.iter().filter(|set| set.rank_min < RANK_LAST) {
        for listener in builder.listeners(set.number) {
            of_listener[usize::from(listener)].push(*set);
        }
    }
    for sets in &mut of_listener {
        sets.sort_unstable_by_key(|set| set.rank_min);
    }
    of_listener.into_iter().map(Vec::into_boxed_slice).collect()
}

/// Copies the tree into flat nodes, and joins segments between which nothing branches.
struct Flattener<'t> {
    layout: &'t Layout<'t>,
    tree: &'t Tree,
    /// By number in the tree.
    regex_places: &'t [u32],
    entries: &'t [Entry],
    /// Equal labels are kept once.
    labels: Interner,
    label_starts: Vec<u32>,
    label_texts: Vec<u8>,
    nodes: Vec<Node>,
    regex_nodes: Vec<RegexNode>,
    /// The nodes behind literals, by hash of parent and first segment.
    literal_nodes: Vec<(u64, u32)>,
    regex_edges: Vec<RegexEdge>,
    searches: Vec<Search>,
}

impl Flattener<'_> {
    /// Copies a node and all below it; `label` is its place in the labels. Yields its number.
    fn flatten(&mut self, from: u32, parent: u32, label: (u32, u16)) -> u32 {
        pace::step();
        let number = self.nodes.len() as u32;
        let source = &self.tree.nodes[from as usize];
        let (end, tail) = (self.leaf(source.end), self.leaf(source.tail));
        let searches = self.copy_searches(from);
        self.nodes.push(Node {
            label: label.0,
            label_bytes: label.1,
            literals: false,
            parent,
            rank_min: RANK_LAST,
            any: NONE,
            regexes: NONE,
            end,
            tail,
        });
        let mut rank_min = self.rank(end).min(self.rank(tail));
        for search in searches.0..searches.1 {
            rank_min = rank_min.min(self.rank(self.searches[search as usize].entries));
        }
        let (mut any, mut literals, mut edges) = (NONE, false, Vec::new());
        let layout = self.layout;
        for child in layout.children.of(from) {
            let copy = match self.tree.nodes[*child as usize].by {
                By::Literal(key) => {
                    literals = true;
                    self.flatten_literal(key, *child, number)
                }
                By::Regex(regex) => {
                    let child = self.flatten(*child, number, (0, 0));
                    edges.push(RegexEdge { regex: self.regex_places[regex as usize], child });
                    child
                }
                By::Any | By::Root(_) => {
                    any = self.flatten(*child, number, (0, 0));
                    any
                }
            };
            rank_min = rank_min.min(self.nodes[copy as usize].rank_min);
        }
        let edges = self.keep_edges(edges);
        let mut regexes = NONE;
        if edges.0 < edges.1 || searches.0 < searches.1 {
            regexes = self.regex_nodes.len() as u32;
            self.regex_nodes.push(RegexNode { edges, searches });
        }
        let node = &mut self.nodes[number as usize];
        (node.any, node.literals, node.regexes, node.rank_min) = (any, literals, regexes, rank_min);
        number
    }

    fn flatten_literal(&mut self, key: u32, child: u32, parent: u32) -> u32 {
        let (tree, mut child) = (self.tree, child);
        let first = tree.literal_keys.get(key);
        let mut label = first.to_vec();
        while let Some((next, key)) = self.only_way_on(child) {
            label.push(b'/');
            label.extend_from_slice(tree.literal_keys.get(key));
            child = next;
        }
        let place = self.label(&label);
        let node = self.flatten(child, parent, place);
        self.literal_nodes.push((hash(parent, first), node));
        node
    }

    /// The only child of a node at which nothing else begins or ends, if a literal leads there.
    fn only_way_on(&self, node: u32) -> Option<(u32, u32)> {
        let leads_on = self.tree.nodes[node as usize].leads_on();
        let child = *self.layout.children.of(node).first().filter(|_| leads_on)?;
        match self.tree.nodes[child as usize].by {
            By::Literal(key) => Some((child, key)),
            By::Regex(_) | By::Any | By::Root(_) => None,
        }
    }

    fn keep_edges(&mut self, mut edges: Vec<RegexEdge>) -> Span {
        let start = self.regex_edges.len() as u32;
        edges.sort_by_key(|edge| self.nodes[edge.child as usize].rank_min);
        self.regex_edges.append(&mut edges);
        (start, self.regex_edges.len() as u32)
    }

    fn copy_searches(&mut self, node: u32) -> Span {
        let (layout, start) = (self.layout, self.searches.len());
        for leaf in layout.searches.of(node) {
            let LeafKind::Search { regex, .. } = self.tree.leaves[*leaf as usize].kind else {
                continue;
            };
            let text = layout.builder.regexes.get(regex).as_str();
            let (prefix, prefix_bytes) = self.label(&regexes::required_prefix(text));
            let regex = self.regex_places[regex as usize];
            self.searches.push(Search { regex, prefix, prefix_bytes, entries: self.leaf(*leaf) });
        }
        let entries = self.entries;
        self.searches[start..].sort_by_key(|search| entries[search.entries as usize].rank);
        (start as u32, self.searches.len() as u32)
    }

    /// The place of a label, which is at most [`crate::base::limits::PATTERN_BYTES_MAX`] long.
    fn label(&mut self, bytes: &[u8]) -> (u32, u16) {
        let (key, new) = self.labels.intern(0, bytes);
        if new {
            self.label_starts.push(self.label_texts.len() as u32);
            self.label_texts.extend_from_slice(bytes);
        }
        (self.label_starts[key as usize], bytes.len() as u16)
    }

    fn leaf(&self, leaf: u32) -> u32 {
        if leaf == NONE { NONE } else { self.layout.entries.start(leaf) }
    }

    fn rank(&self, entries: u32) -> Rank {
        if entries == NONE { RANK_LAST } else { self.entries[entries as usize].rank }
    }
}
