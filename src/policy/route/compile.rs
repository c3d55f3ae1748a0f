//! From the tree that routes were added to, to the table that requests are looked up in.

use super::{
    builder::TableBuilder,
    captures::Span,
    hash::{Index, Interner, NONE, hash},
    rank::{RANK_LAST, Rank, RankKey, mirror_priority},
    regexes,
    table::{Entry, Exact, ListenerSet, Node, RegexEdge, RegexNode, RouteTable, Scope, Search},
    tree::{SPACE_ANY, SPACE_EXACT, SPACES, Tree},
};

/// Compiles all that was added.
pub(super) fn compile(builder: TableBuilder) -> RouteTable {
    let ranked = rank_entries(&builder);
    let (entries, leaves) = lay_out_entries(&builder, &ranked);
    let TableBuilder { merges, sets, regexes, guards, methods, tree, .. } = builder;
    let regexes = regexes.into_list();
    let mut flattener = Flattener {
        tree: &tree,
        regexes: &regexes,
        entries: &entries,
        leaves: &leaves,
        labels: Interner::default(),
        label_starts: Vec::new(),
        label_bytes: 0,
        nodes: Vec::new(),
        regex_nodes: Vec::new(),
        literal_nodes: Vec::new(),
        regex_edges: Vec::new(),
        searches: Vec::new(),
    };
    let mut scopes = make_scopes(&tree, &ranked);
    for (number, scope) in tree.scopes.iter().enumerate() {
        if scope.root != NONE {
            scopes[number].root = flattener.flatten(scope.root, NONE, (0, 0));
        }
    }
    let Flattener { labels, nodes, regex_nodes, literal_nodes, regex_edges, searches, .. } =
        flattener;
    let sets_of_listener = make_sets(merges.len(), &sets, &scopes);
    let spaces_and_names = scopes.iter().enumerate().map(|(number, scope)| {
        (hash(scope.space, tree.scope_keys.get(number as u32)), number as u32)
    });
    let host_index = Index::build(spaces_and_names);
    let exact_count = tree.exact_leaves.len() as u32;
    let exact_hashes = (0..exact_count)
        .map(|key| (hash(tree.exact_keys.seed(key), tree.exact_keys.get(key)), key));
    let exact_index = Index::build(exact_hashes);
    let exact_scopes: Vec<u32> = (0..exact_count).map(|key| tree.exact_keys.seed(key)).collect();
    let (host_names, _) = tree.scope_keys.into_keys();
    let (exact_paths, spans) = tree.exact_keys.into_keys();
    let exacts = spans
        .zip(exact_scopes)
        .zip(&tree.exact_leaves)
        .map(|((path, scope), leaf)| Exact { scope, path, entries: leaves[*leaf as usize] })
        .collect();
    RouteTable {
        sets_of_listener,
        host_index,
        host_names,
        scopes: scopes.into(),
        exact_index,
        exact_paths,
        exacts,
        node_index: Index::build(literal_nodes.into_iter()),
        labels: labels.into_keys().0,
        nodes: nodes.into(),
        regex_nodes: regex_nodes.into(),
        regex_edges: regex_edges.into(),
        searches: searches.into(),
        entries,
        guards: guards.into(),
        regexes,
        methods: methods.into(),
    }
}

/// The numbers of all entries of the tree, the first candidate first.
pub(super) fn rank_entries(builder: &TableBuilder) -> Vec<u32> {
    let places = shape_places(&builder.shapes);
    let mut keyed: Vec<(RankKey, u32)> = (0..builder.tree.entries.len() as u32)
        .map(|number| (rank_key(builder, &places, number), number))
        .collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, number)| number).collect()
}

/// The place of each shape among all shapes.
fn shape_places(shapes: &Interner) -> Vec<u32> {
    let mut sorted: Vec<u32> = (0..shapes.len() as u32).collect();
    sorted.sort_unstable_by_key(|shape| shapes.get(*shape));
    let mut places = vec![0; sorted.len().max(1)]; // regexes have no shape: 0
    for (place, shape) in sorted.into_iter().enumerate() {
        places[shape as usize] = place as u32;
    }
    places
}

fn rank_key(builder: &TableBuilder, shape_places: &[u32], number: u32) -> RankKey {
    let entry = &builder.tree.entries[number as usize];
    let route = &builder.routes[entry.route as usize];
    RankKey {
        priority: mirror_priority(route.priority),
        host: builder.tree.scopes[entry.scope as usize].host,
        class: entry.class,
        shape: shape_places[entry.shape as usize],
        conditions: u32::MAX - route.conditions,
        order: entry.route,
    }
}

/// Puts the entries of each leaf together, by rank; also says where each leaf begins.
fn lay_out_entries(builder: &TableBuilder, ranked: &[u32]) -> (Box<[Entry]>, Vec<u32>) {
    let tree = &builder.tree;
    let mut sizes = vec![0_u32; tree.leaves.len()];
    for entry in &tree.entries {
        sizes[entry.leaf as usize] += 1;
    }
    let mut starts = Vec::with_capacity(sizes.len());
    let mut total = 0;
    for size in &sizes {
        starts.push(total);
        total += size;
    }
    let mut next = starts.clone();
    let mut places = vec![(0, 0); ranked.len()];
    for (rank, number) in ranked.iter().enumerate() {
        let slot = &mut next[tree.entries[*number as usize].leaf as usize];
        places[*slot as usize] = (rank as Rank, *number);
        *slot += 1;
    }
    let entries = places.iter().enumerate().map(|(place, (rank, number))| {
        let entry = &tree.entries[*number as usize];
        let route = &builder.routes[entry.route as usize];
        let leaf = entry.leaf as usize;
        Entry {
            rank: *rank,
            route: route.index,
            guard: route.guard,
            last: place as u32 + 1 == starts[leaf] + sizes[leaf],
            rest: entry.rest,
            groups: route.groups,
        }
    });
    (entries.collect(), starts)
}

fn make_scopes(tree: &Tree, ranked: &[u32]) -> Vec<Scope> {
    let mut start = 0;
    let mut scopes: Vec<Scope> = (0..tree.scopes.len() as u32)
        .map(|number| {
            let end = start + tree.scope_keys.get(number).len() as u32;
            let name = (std::mem::replace(&mut start, end), end);
            let space = tree.scope_keys.seed(number);
            Scope { space, name, root: NONE, rank_min: RANK_LAST, exacts: false }
        })
        .collect();
    for (rank, number) in ranked.iter().enumerate() {
        let scope = &mut scopes[tree.entries[*number as usize].scope as usize];
        scope.rank_min = scope.rank_min.min(rank as Rank);
    }
    for exact in 0..tree.exact_leaves.len() as u32 {
        scopes[tree.exact_keys.seed(exact) as usize].exacts = true;
    }
    scopes
}

fn make_sets(listeners: usize, sets: &[Box<[u16]>], scopes: &[Scope]) -> Box<[Box<[ListenerSet]>]> {
    let mut described: Vec<ListenerSet> = (0..sets.len() as u32)
        .map(|number| ListenerSet {
            number,
            rank_min: RANK_LAST,
            exact_hosts: false,
            wildcard_bytes_max: 0,
            any: NONE,
        })
        .collect();
    for (number, scope) in scopes.iter().enumerate() {
        let set = &mut described[(scope.space / SPACES) as usize];
        set.rank_min = set.rank_min.min(scope.rank_min);
        match scope.space % SPACES {
            SPACE_EXACT => set.exact_hosts = true,
            SPACE_ANY => set.any = number as u32,
            _ => {
                let bytes = (scope.name.1 - scope.name.0) as u16; // at most 253
                set.wildcard_bytes_max = set.wildcard_bytes_max.max(bytes);
            }
        }
    }
    let mut of_listener = vec![Vec::new(); listeners];
    for (set, members) in described.iter().zip(sets).filter(|(set, _)| set.rank_min < RANK_LAST) {
        for listener in members {
            of_listener[usize::from(*listener)].push(*set);
        }
    }
    for sets in &mut of_listener {
        sets.sort_unstable_by_key(|set| set.rank_min);
    }
    of_listener.into_iter().map(Vec::into_boxed_slice).collect()
}

/// Copies the tree into flat nodes, and joins segments between which nothing branches.
struct Flattener<'t> {
    tree: &'t Tree,
    regexes: &'t [std::sync::Arc<regex::bytes::Regex>],
    entries: &'t [Entry],
    leaves: &'t [u32],
    /// Equal labels are kept once.
    labels: Interner,
    label_starts: Vec<u32>,
    label_bytes: u32,
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
        let number = self.nodes.len() as u32;
        let source = &self.tree.nodes[from as usize];
        let (end, tail) = (self.leaf(source.end), self.leaf(source.tail));
        let searches = self.copy_searches(source.searches);
        self.nodes.push(Node {
            label: label.0,
            label_bytes: label.1,
            literals: source.literals != NONE,
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
        let mut at = source.literals;
        while at != NONE {
            let child = self.flatten_literal(at, number);
            rank_min = rank_min.min(self.nodes[child as usize].rank_min);
            at = self.tree.literal_edges[at as usize].next;
        }
        let edges = self.flatten_regexes(source.regexes, number);
        for edge in edges.0..edges.1 {
            let child = self.regex_edges[edge as usize].child;
            rank_min = rank_min.min(self.nodes[child as usize].rank_min);
        }
        let mut any = NONE;
        if source.any != NONE {
            any = self.flatten(source.any, number, (0, 0));
            rank_min = rank_min.min(self.nodes[any as usize].rank_min);
        }
        let mut regexes = NONE;
        if source.regexes != NONE || source.searches != NONE {
            regexes = self.regex_nodes.len() as u32;
            self.regex_nodes.push(RegexNode { edges, searches });
        }
        let node = &mut self.nodes[number as usize];
        (node.any, node.regexes, node.rank_min) = (any, regexes, rank_min);
        number
    }

    fn flatten_literal(&mut self, edge: u32, parent: u32) -> u32 {
        let first = self.tree.literal_keys.get(edge);
        let mut label = first.to_vec();
        let mut child = self.tree.literal_edges[edge as usize].child;
        while let Some(next) = self.only_way_on(child) {
            label.push(b'/');
            label.extend_from_slice(self.tree.literal_keys.get(next));
            child = self.tree.literal_edges[next as usize].child;
        }
        let place = self.label(&label);
        let node = self.flatten(child, parent, place);
        self.literal_nodes.push((hash(parent, first), node));
        node
    }

    /// The only literal edge of a node at which nothing else begins or ends.
    fn only_way_on(&self, node: u32) -> Option<u32> {
        let node = &self.tree.nodes[node as usize];
        let others = [node.any, node.regexes, node.end, node.tail, node.searches];
        if node.literals == NONE || others.iter().any(|link| *link != NONE) {
            return None;
        }
        let single = self.tree.literal_edges[node.literals as usize].next == NONE;
        single.then_some(node.literals)
    }

    fn flatten_regexes(&mut self, first: u32, parent: u32) -> Span {
        let mut edges = Vec::new();
        let mut at = first;
        while at != NONE {
            let edge = &self.tree.regex_edges[at as usize];
            edges.push(RegexEdge {
                regex: edge.regex,
                child: self.flatten(edge.child, parent, (0, 0)),
            });
            at = edge.next;
        }
        let start = self.regex_edges.len() as u32;
        edges.sort_by_key(|edge| self.nodes[edge.child as usize].rank_min);
        self.regex_edges.append(&mut edges);
        (start, self.regex_edges.len() as u32)
    }

    fn copy_searches(&mut self, first: u32) -> Span {
        let start = self.searches.len();
        let mut at = first;
        while at != NONE {
            let search = &self.tree.searches[at as usize];
            let text = self.regexes[search.regex as usize].as_str();
            let (prefix, prefix_bytes) = self.label(&regexes::required_prefix(text));
            let entries = self.leaf(search.leaf);
            self.searches.push(Search { regex: search.regex, prefix, prefix_bytes, entries });
            at = search.next;
        }
        let entries = self.entries;
        self.searches[start..].sort_by_key(|search| entries[search.entries as usize].rank);
        (start as u32, self.searches.len() as u32)
    }

    /// The place of a label, which is at most [`crate::base::limits::PATTERN_BYTES_MAX`] long.
    fn label(&mut self, bytes: &[u8]) -> (u32, u16) {
        let (key, new) = self.labels.intern(0, bytes);
        if new {
            self.label_starts.push(self.label_bytes);
            self.label_bytes += bytes.len() as u32;
        }
        (self.label_starts[key as usize], bytes.len() as u16)
    }

    fn leaf(&self, leaf: u32) -> u32 {
        if leaf == NONE { NONE } else { self.leaves[leaf as usize] }
    }

    fn rank(&self, entries: u32) -> Rank {
        if entries == NONE { RANK_LAST } else { self.entries[entries as usize].rank }
    }
}
