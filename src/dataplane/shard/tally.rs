//! What this core saw of upstreams since its last tick, brought to the cells of the process then: so
//! no line is shared between cores per request.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use super::upstreams::UpstreamState;
use crate::snapshot::Upstream;

/// What one core saw of one upstream since the last tick.
#[derive(Default)]
pub struct Tally {
    is_listed: Cell<bool>,
    earned: Cell<u64>,
}

impl Tally {
    /// A request earned this many parts of 10,000 of a further try.
    pub fn earn(&self, per_10k: u16) {
        self.earned.set(self.earned.get() + u64::from(per_10k));
    }

    /// Brings it to the process.
    fn bring(&self, upstream: &Upstream, now_ms: u64) {
        self.is_listed.set(false);
        upstream.cell.retry_budget().earn(self.earned.take(), now_ms);
    }
}

/// The upstreams with something to bring.
#[derive(Default)]
pub(super) struct Tallies {
    listed: RefCell<Vec<(Rc<UpstreamState>, Arc<Upstream>)>>,
}

impl Tallies {
    /// Sees to it that the tally of `state` is brought at the next tick, by the rules of `upstream`.
    pub(super) fn list(&self, state: &Rc<UpstreamState>, upstream: &Arc<Upstream>) {
        if !state.tally.is_listed.replace(true) {
            self.listed.borrow_mut().push((Rc::clone(state), Arc::clone(upstream)));
        }
    }

    /// Brings all of them. Called each tick.
    pub(super) fn bring(&self, now_ms: u64) {
        for (state, upstream) in self.listed.borrow_mut().drain(..) {
            state.tally.bring(&upstream, now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::limits, dataplane::shard::upstreams::tests::upstream};

    #[test]
    fn what_requests_earned_arrives_with_the_tick() {
        let (tallies, upstreams) = (Tallies::default(), super::super::Upstreams::new(0));
        let upstream = Arc::new(upstream(0, 1));
        let state = upstreams.state(&upstream);
        for _ in 0..15 {
            tallies.list(&state, &upstream);
            state.tally.earn(2_000);
        }
        assert_eq!((upstream.cell.retry_budget().left(), tallies.listed.borrow().len()), (0, 1));
        tallies.bring(5);
        assert_eq!(upstream.cell.retry_budget().left(), 3);
        tallies.bring(5 + limits::RETRY_BUDGET_MEMORY.as_millis() as u64);
        assert_eq!(upstream.cell.retry_budget().left(), 3, "old ones fade when new ones come");
    }
}
