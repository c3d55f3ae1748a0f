//! How many connections each listener has on this core.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
};

use super::spread::Seat;
use crate::{base::ids::ListenerId, telemetry::CoreStats};

/// The connections of each listener, counted.
#[derive(Default)]
pub(super) struct Places {
    counts: RefCell<HashMap<ListenerId, Rc<Cell<usize>>>>,
}

impl Places {
    /// Takes a place under the listener's limit of `max` connections, if one is free.
    pub(super) fn take(
        &self,
        listener: ListenerId,
        max: usize,
        stats: &Arc<CoreStats>,
        seat: Seat,
    ) -> Option<Place> {
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry(listener).or_default();
        if count.get() >= max {
            return None;
        }
        count.set(count.get() + 1);
        stats.connections_open.inc();
        Some(Place { count: Rc::clone(count), stats: Arc::clone(stats), _seat: seat })
    }

    /// Forgets listeners that are gone; connections they still have count for nobody.
    pub(super) fn forget(&self, listeners: &[ListenerId]) {
        let mut counts = self.counts.borrow_mut();
        for listener in listeners {
            counts.remove(listener);
        }
    }
}

/// A connection's place; given back when dropped, also by a panic.
pub struct Place {
    count: Rc<Cell<usize>>,
    stats: Arc<CoreStats>,
    _seat: Seat,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
        self.stats.connections_open.dec();
    }
}
