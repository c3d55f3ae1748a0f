//! Which counters a route or an upstream writes to: slots that survive reloads, in bounded number.
//!
//! A slot belongs to a name for the life of the process, so a counter never falls and never changes
//! its meaning. When all are given out, further names share the slot `(other)`.

use std::{collections::HashMap, sync::Arc};

use crate::{
    base::{
        ids::StatsSlot,
        limits::{ROUTE_SERIES_MAX, UPSTREAM_SERIES_MAX},
    },
    snapshot::Snapshot,
    telemetry::{
        core_stats::{ROUTE_NONE, ROUTE_OTHER, UPSTREAM_OTHER},
        names::{NONE, OTHER},
    },
};

/// The slots given out so far.
#[derive(Debug, Default)]
pub struct Series {
    routes: Slots,
    upstreams: Slots,
}

#[derive(Debug, Default)]
struct Slots {
    by_name: HashMap<Box<str>, StatsSlot>,
    names: Vec<Box<str>>,
}

impl Slots {
    fn slot(&mut self, name: &str, max: usize, other: StatsSlot) -> StatsSlot {
        if let Some(slot) = self.by_name.get(name) {
            return *slot;
        }
        // A name like one of the shared labels must not make the same series twice.
        if self.names.len() == max || name == OTHER || name == NONE {
            return other;
        }
        let slot = StatsSlot(self.names.len() as u16);
        self.by_name.insert(name.into(), slot);
        self.names.push(name.into());
        slot
    }

    fn iter(&self) -> impl Iterator<Item = (StatsSlot, &str)> {
        self.names.iter().enumerate().map(|(slot, name)| (StatsSlot(slot as u16), &**name))
    }
}

impl Series {
    /// Gives each route and upstream of new rules its slot. For rules that have their identities, and
    /// that no core has seen yet.
    pub fn assign(&mut self, old: Option<&Snapshot>, snapshot: &mut Snapshot) {
        let old = old.map_or(&[][..], |old| &old.routes);
        // Routes that are shared with the version before have theirs already.
        let routes = Arc::get_mut(&mut snapshot.routes).into_iter().flatten();
        for (place, route) in routes.enumerate() {
            route.stats = match old.get(place) {
                Some(same) if same.key == route.key => same.stats,
                _ => self.routes.slot(&route.id, ROUTE_SERIES_MAX, ROUTE_OTHER),
            };
        }
        for upstream in &mut snapshot.upstreams {
            let slot = self.upstreams.slot(&upstream.name, UPSTREAM_SERIES_MAX, UPSTREAM_OTHER);
            if upstream.stats != slot {
                Arc::make_mut(upstream).stats = slot;
            }
        }
    }

    /// Slots and labels of all routes ever seen, the shared ones last.
    pub fn routes(&self) -> impl Iterator<Item = (StatsSlot, &str)> {
        self.routes.iter().chain([(ROUTE_OTHER, OTHER), (ROUTE_NONE, NONE)])
    }

    /// Slots and labels of all upstreams ever seen, the shared one last.
    pub fn upstreams(&self) -> impl Iterator<Item = (StatsSlot, &str)> {
        self.upstreams.iter().chain([(UPSTREAM_OTHER, OTHER)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_slot_and_the_number_is_bounded() {
        let mut slots = Slots::default();
        let other = StatsSlot(9);
        assert_eq!(slots.slot("a", 2, other), StatsSlot(0));
        assert_eq!(slots.slot(OTHER, 2, other), other);
        assert_eq!(slots.slot("b", 2, other), StatsSlot(1));
        assert_eq!(slots.slot("c", 2, other), other);
        assert_eq!(slots.slot("a", 2, other), StatsSlot(0));
        assert_eq!(slots.iter().map(|(_, name)| name).collect::<Vec<_>>(), ["a", "b"]);
    }
}
