//! What is known of the routes of a builder only when all are there: their ranks, and what belongs
//! together. It is made anew for each table, by passes over numbers: no text is looked at.

use super::{
    builder::{RouteNumber, TableBuilder},
    compile,
    conflict::{self, Conflict},
    hash::NONE,
    interner::Interner,
    rank::{Rank, RankKey},
    table::RouteTable,
    tree::{Leaf, LeafKind, TreeEntry, TreeNode, bound},
};
use crate::base::pace;

/// The routes of a builder in the order of candidates.
#[derive(Debug)]
pub struct Layout<'b> {
    pub(super) builder: &'b TableBuilder,
    /// The numbers of all entries, the first candidate first.
    pub(super) ranked: Vec<u32>,
    /// The place of each entry there.
    pub(super) ranks: Vec<Rank>,
    /// The entries of each leaf, by rank.
    pub(super) entries: Groups,
    /// The children of each node.
    pub(super) children: Groups,
    /// The leaves of the path regexes that hang on each node.
    pub(super) searches: Groups,
}

impl<'b> Layout<'b> {
    pub(super) fn new(builder: &'b TableBuilder) -> Self {
        let tree = &builder.tree;
        let ranked = rank_entries(builder);
        pace::long_step();
        let mut ranks = vec![0; bound(&tree.entries)];
        for (rank, entry) in ranked.iter().enumerate() {
            ranks[*entry as usize] = rank as Rank;
        }
        let leaf = |entry: &u32| (tree.entries[*entry as usize].leaf, *entry);
        let entries = Groups::new(bound(&tree.leaves), ranked.iter().map(leaf));
        pace::long_step();
        let nodes = bound(&tree.nodes);
        let child = |(number, node): (usize, &TreeNode)| {
            (node.parent != NONE).then_some((node.parent, number as u32))
        };
        let children = Groups::new(nodes, tree.nodes.iter().filter_map(child));
        let search = |(number, leaf): (usize, &Leaf)| match leaf.kind {
            LeafKind::Search { node, .. } => Some((node, number as u32)),
            LeafKind::Exact(_) | LeafKind::End(_) | LeafKind::Tail(_) => None,
        };
        let searches = Groups::new(nodes, tree.leaves.iter().filter_map(search));
        pace::long_step();
        Self { builder, ranked, ranks, entries, children, searches }
    }

    /// Routes that get in each other's way: those that are alike, and those that never match
    /// because others take all their requests. It looks at each route alone and at what a
    /// `path_regex` matches not at all, so a shadowed route may go unnoticed; none is named that
    /// isn't.
    pub fn conflicts(&self) -> Vec<Conflict> {
        conflict::find(self)
    }

    /// The same, quicker, where routes were removed and `new` ones added since `shadowed` ones were all
    /// those in conflict. With very many routes of one path a shadowed one may go unnoticed that
    /// [`Self::conflicts`] names.
    pub fn conflicts_again(&self, new: &[RouteNumber], shadowed: &[RouteNumber]) -> Vec<Conflict> {
        conflict::find_again(self, new, shadowed)
    }

    /// The compiled table.
    pub fn build(&self) -> RouteTable {
        compile::compile(self)
    }
}

/// Numbers by what they belong to.
#[derive(Debug)]
pub(super) struct Groups {
    /// Where each begins in `items`; one more than there are.
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl Groups {
    /// Of pairs of owner and item; those of one owner stay in their order.
    fn new(owners: usize, pairs: impl Iterator<Item = (u32, u32)> + Clone) -> Self {
        let mut starts = vec![0; owners + 2];
        let mut count = 0;
        for (owner, _) in pairs.clone() {
            starts[owner as usize + 2] += 1;
            count += 1;
        }
        for owner in 2..starts.len() {
            starts[owner] += starts[owner - 1];
        }
        let mut items = vec![0; count];
        for (owner, item) in pairs {
            let next = &mut starts[owner as usize + 1];
            items[*next as usize] = item;
            *next += 1;
        }
        starts.pop();
        Self { starts, items }
    }

    /// The items of one owner.
    pub(super) fn of(&self, owner: u32) -> &[u32] {
        let owner = owner as usize;
        &self.items[self.starts[owner] as usize..self.starts[owner + 1] as usize]
    }

    /// Where the items of an owner begin among all.
    pub(super) fn start(&self, owner: u32) -> u32 {
        self.starts[owner as usize]
    }

    /// The items of one owner after the other.
    pub(super) fn items(&self) -> &[u32] {
        &self.items
    }
}

/// The entries by [`RankKey`], then by the order of their routes: routes differ in little, so they are put
/// in order by what few of them have, and not each compared with others.
fn rank_entries(builder: &TableBuilder) -> Vec<u32> {
    let places = shape_places(&builder.shapes);
    let tree = &builder.tree;
    let last = builder.routes.iter().map(|(_, route)| route.index.0).max();
    let mut routes = vec![NONE; last.map_or(0, |last| last as usize + 1)];
    for (number, route) in &builder.routes {
        routes[route.index.0 as usize] = number as u32;
    }
    pace::long_step();
    let (mut keys, mut known) = (Vec::new(), Interner::default());
    let mut keyed = Vec::with_capacity(tree.entries.len());
    for number in routes.into_iter().filter(|number| *number != NONE) {
        pace::step();
        let route = &builder.routes[number as usize];
        let mut entry = route.entries;
        while entry != NONE {
            let TreeEntry { scope, class, shape, next, .. } = tree.entries[entry as usize];
            let (host, shape) = (tree.scopes[scope as usize].host, places[shape as usize]);
            let key = RankKey::new(route.priority, host, class, shape, route.conditions);
            let (number, is_new) = known.intern(0, &key.to_bytes());
            if is_new {
                keys.push((key, number));
            }
            keyed.push((number, entry));
            entry = next;
        }
    }
    keys.sort_unstable();
    let mut ranks = vec![0; keys.len()];
    for (rank, (_, number)) in keys.into_iter().enumerate() {
        ranks[number as usize] = rank as u32;
    }
    let ranked = keyed.iter().map(|(number, entry)| (ranks[*number as usize], *entry));
    Groups::new(ranks.len(), ranked).items
}

/// The place of each shape among all shapes.
fn shape_places(shapes: &Interner) -> Vec<u32> {
    let mut sorted: Vec<u32> = shapes.numbers().collect();
    sorted.sort_unstable_by_key(|shape| shapes.get(*shape));
    let mut places = vec![0; shapes.bound()];
    for (place, shape) in sorted.into_iter().enumerate() {
        places[shape as usize] = place as u32;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_lie_with_their_owner_in_their_order() {
        let pairs = [(3, 7), (0, 1), (3, 2), (1, 5), (3, 9)];
        let groups = Groups::new(5, pairs.into_iter());
        let all: Vec<&[u32]> = (0..5).map(|owner| groups.of(owner)).collect();
        assert_eq!(all, [&[1][..], &[5], &[], &[7, 2, 9], &[]]);
        assert_eq!((groups.start(3), groups.items()), (2, &[1, 5, 7, 2, 9][..]));
    }
}
