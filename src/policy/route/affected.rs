//! Which routes may never match any more because others were added.

use super::{
    builder::{RouteNumber, TableBuilder},
    conflict::{Step, steps},
    hash::NONE,
    layout::Layout,
    tree::{LeafKind, SPACE_EXACT, SPACES, Tree, TreeEntry},
};

/// The routes that a look at `new` ones and at what they may shadow has to go through, with them.
/// `None` if that may be any.
///
/// A route takes all requests of another only if it comes first. With the priority of the other it does so
/// only where both have the same host and the same path, names of parameters aside: what matches more
/// comes later. With a higher one a path without parameters takes requests of the same path, for any
/// host that it matches, and a pattern those of any path.
pub(super) fn routes<'l>(
    layout: &'l Layout<'_>,
    new: &[RouteNumber],
) -> Option<impl Iterator<Item = u32> + use<'l>> {
    let builder = layout.builder;
    let lowest = builder.routes.iter().map(|(_, route)| route.priority).min()?;
    let mut places = Places::new(builder);
    for number in new {
        let route = &builder.routes[number.0 as usize];
        let mut at = route.entries;
        while at != NONE {
            let entry = &builder.tree.entries[at as usize];
            places.add(entry, route.priority > lowest)?;
            at = entry.next;
        }
    }
    let tree = &builder.tree;
    let route = |entry: &u32| tree.entries[*entry as usize].route;
    Some(places.leaves.into_iter().flat_map(move |leaf| layout.entries.of(leaf).iter().map(route)))
}

/// The leaves where routes may be shadowed.
struct Places<'b> {
    builder: &'b TableBuilder,
    leaves: Vec<u32>,
    /// How many places may be looked for until a look at all routes is quicker.
    looks_left: usize,
}

impl<'b> Places<'b> {
    fn new(builder: &'b TableBuilder) -> Self {
        Self { builder, leaves: Vec::new(), looks_left: builder.tree.entries.len() }
    }

    /// Adds those of an entry. `overtakes`: some routes have a lower priority.
    fn add(&mut self, entry: &TreeEntry, overtakes: bool) -> Option<()> {
        self.leaves.push(entry.leaf);
        let tree = &self.builder.tree;
        let keys = &tree.scope_keys;
        let (space, host) = (keys.seed(entry.scope), keys.get(entry.scope));
        let leaf = tree.leaves[entry.leaf as usize].kind;
        match leaf {
            LeafKind::Search { .. } => return Some(()), // it covers its like alone
            LeafKind::End(_) | LeafKind::Tail(_) if overtakes => return None,
            LeafKind::Exact(key) if overtakes && space % SPACES != SPACE_EXACT => {
                for scope in keys.numbers() {
                    self.look()?;
                    self.leaves.extend(tree.find_exact(scope, tree.exact_keys.get(key)));
                }
                return Some(());
            }
            LeafKind::Exact(_) | LeafKind::End(_) | LeafKind::Tail(_) => {}
        }
        let steps = steps(tree, leaf);
        for set in self.builder.sets.numbers().filter(|set| *set != space / SPACES) {
            self.look()?;
            let scope = keys.find(set * SPACES + space % SPACES, host);
            self.leaves.extend(scope.and_then(|scope| same_leaf(tree, scope, leaf, &steps)));
        }
        Some(())
    }

    fn look(&mut self) -> Option<()> {
        self.looks_left = self.looks_left.checked_sub(1)?;
        Some(())
    }
}

/// The leaf of the same path in another scope.
fn same_leaf(tree: &Tree, scope: u32, leaf: LeafKind, steps: &[Step<'_>]) -> Option<u32> {
    if let LeafKind::Exact(key) = leaf {
        return tree.find_exact(scope, tree.exact_keys.get(key));
    }
    let mut node = tree.scopes[scope as usize].root;
    for step in steps {
        node = match step {
            Step::Literal(segment) => tree.find_literal(node, segment)?,
            Step::Regex(regex) => *tree.regex_children.get(&(node, *regex))?,
            Step::Any => tree.nodes.get(node as usize)?.any,
        };
    }
    let node = tree.nodes.get(node as usize)?;
    let same = if matches!(leaf, LeafKind::End(_)) { node.end } else { node.tail };
    (same != NONE).then_some(same)
}
