//! Routes come, go and move: a builder that took the changes one by one against a new one of all routes.

use ringway::{
    base::ids::RouteIndex,
    policy::route::{Captures, Conflict, RouteNumber, TableBuilder, TargetRule},
};

use super::{Built, MERGES, build, new_builder, path_text, spec};
use crate::{
    generate::{Random, Route, request, route},
    oracle::compare_one,
};

/// Rows of changes, how many each has, and requests behind each of them.
const ROWS: u64 = 100;
const CHANGES: usize = 25;
const REQUESTS: usize = 6;

/// A route in the builder.
struct Known {
    route: Route,
    rule: TargetRule,
    number: RouteNumber,
}

/// A builder that takes changes.
struct Changed {
    builder: TableBuilder,
    routes: Vec<Known>,
    /// Those that never matched behind the last change, and those that were the same as another.
    shadowed: Vec<RouteNumber>,
    same: Vec<RouteNumber>,
}

impl Changed {
    fn new() -> Self {
        let (routes, shadowed, same) = (Vec::new(), Vec::new(), Vec::new());
        Self { builder: new_builder(), routes, shadowed, same }
    }

    fn remove(&mut self, position: usize) {
        let number = self.routes.remove(position).number;
        self.builder.remove(number);
        self.shadowed.retain(|other| *other != number);
    }

    fn insert(&mut self, position: usize, route: Route) -> RouteNumber {
        let text = path_text(&route.path);
        let rule = new_builder().add(RouteIndex(0), &spec(&route, &text)).expect("a good route");
        let groups = rule.uses_captures() && matches!(route.path, crate::generate::Path::Regex(_));
        let spec = spec(&route, &text);
        let number = self.builder.add_again(RouteIndex(u32::MAX), &spec, groups);
        let number = number.expect("it was taken before");
        self.routes.insert(position, Known { route, rule, number });
        number
    }

    /// Changes some routes; those that are new.
    fn change(&mut self, random: &mut Random) -> Vec<RouteNumber> {
        for number in std::mem::take(&mut self.same) {
            let position = self.routes.iter().position(|one| one.number == number);
            self.remove(position.expect("it is there"));
        }
        let mut new = Vec::new();
        for _ in 0..random.below(4) + 1 {
            let count = self.routes.len();
            let at = random.below(count + 1);
            match random.below(5) {
                0 | 1 => new.push((at, route(random))),
                _ if count == 0 => {}
                2 => self.remove(at.min(count - 1)),
                3 => {
                    let route = self.routes[at.min(count - 1)].route.clone();
                    self.remove(at.min(count - 1));
                    new.push((random.below(count), route)); // it moves
                }
                _ => {
                    self.remove(at.min(count - 1));
                    new.push((at.min(count - 1), route(random)));
                }
            }
        }
        let positions = new.into_iter().map(|(at, route)| (at.min(self.routes.len()), route));
        let positions: Vec<_> = positions.collect();
        let new = positions.into_iter().map(|(at, route)| self.insert(at, route)).collect();
        self.renumber();
        new
    }

    fn renumber(&mut self) {
        for (position, known) in self.routes.iter().enumerate() {
            self.builder.renumber(known.number, RouteIndex(position as u32));
        }
    }
}

/// The routes that lose, and whether they are the same as another.
fn losers(conflicts: Vec<Conflict>) -> Vec<(usize, bool)> {
    let loser = |conflict| match conflict {
        Conflict::Same { second, .. } => (second.0 as usize, true),
        Conflict::Shadowed { route, .. } => (route.0 as usize, false),
    };
    conflicts.into_iter().map(loser).collect()
}

fn compare(seed: u64) {
    let mut random = Random(seed);
    let mut changed = Changed::new();
    let mut captures = Captures::default();
    for _ in 0..CHANGES {
        let new = changed.change(&mut random);
        let routes: Vec<Route> = changed.routes.iter().map(|one| one.route.clone()).collect();
        let (table, conflicts) = {
            let layout = changed.builder.lay_out();
            (layout.build(), losers(layout.conflicts_again(&new, &changed.shadowed)))
        };
        assert_eq!(conflicts, losers(all_at_once(&routes).conflicts()), "seed {seed}: {routes:#?}");
        let of = |same| move |(_, is_same): &&(usize, bool)| *is_same == same;
        let number = |(position, _): &(usize, bool)| changed.routes[*position].number;
        let (shadowed, same): (Vec<_>, Vec<_>) = (
            conflicts.iter().filter(of(false)).map(number).collect(),
            conflicts.iter().filter(of(true)).map(number).collect(),
        );
        (changed.shadowed, changed.same) = (shadowed, same);
        let rules = changed.routes.iter().map(|one| one.rule.clone()).collect();
        let dead = build(&routes).dead;
        let built = Built { table, rules, dead };
        for _ in 0..REQUESTS.min(REQUESTS * routes.len()) {
            let request = request(&mut random, &routes);
            let _shown = super::Shown(seed, &routes, &request);
            compare_one(&routes, &built, &request, &mut captures);
        }
    }
    while !changed.routes.is_empty() {
        changed.remove(0);
    }
    let left = format!("{:?}", changed.builder.lay_out().build());
    assert!(!left.contains("Entry {") && !left.contains("Node {") && !left.contains("Regex"));
}

fn all_at_once(routes: &[Route]) -> TableBuilder {
    let mut builder = new_builder();
    for (position, route) in routes.iter().enumerate() {
        let text = path_text(&route.path);
        builder.add(RouteIndex(position as u32), &spec(route, &text)).expect("a good route");
    }
    builder
}

#[test]
fn tables_that_take_changes_are_as_if_built_at_once() {
    assert!(MERGES.contains(&false));
    for seed in 0..ROWS {
        compare(seed);
    }
}

/// Routes that come and go for long leave nothing behind.
#[test]
fn a_builder_that_takes_changes_does_not_grow() {
    let mut random = Random(7);
    let mut changed = Changed::new();
    for round in 0..1_500 {
        if changed.routes.len() > 100 {
            changed.remove(random.below(100));
        }
        let new = route(&mut random);
        changed.insert(random.below(changed.routes.len() + 1), new);
        assert!(round < 100 || !changed.builder.is_sparse());
    }
    while changed.routes.len() > 10 {
        changed.remove(0);
    }
    assert!(changed.builder.is_sparse() && !new_builder().is_sparse());
}
