//! What this core saw of upstreams since its last tick, brought to the cells of the process then: so
//! no line is shared between cores per request.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use super::{Shard, UpstreamState, judging};
use crate::{base::ids::EndpointIndex, policy::breaker::Outcome, snapshot::Upstream};

/// What one core saw of one upstream since the last tick.
#[derive(Default)]
pub struct Tally {
    is_listed: Cell<bool>,
    earned: Cell<u64>,
    /// Tries that say something of how busy the upstream is, and their time to the response head.
    latencies: Cell<(u64, u64)>,
}

impl Tally {
    /// A request earned this many parts of 10,000 of a further try.
    pub fn earn(&self, per_10k: u16) {
        self.earned.set(self.earned.get() + u64::from(per_10k));
    }

    /// A try ended that says something of how busy the upstream is. Failures do only if they took
    /// their time: a refused connection is no sign of an idle upstream.
    pub fn note_latency(&self, outcome: Outcome, micros: u64) {
        let (count, sum) = self.latencies.get();
        let is_quick_failure = outcome == Outcome::Failed && (count == 0 || micros <= sum / count);
        if !is_quick_failure {
            self.latencies.set((count + 1, sum.saturating_add(micros)));
        }
    }

    /// Brings it to the process, with what was seen of the endpoints.
    fn bring(&self, shard: &Shard, state: &UpstreamState, upstream: &Upstream) {
        let now_ms = shard.now_ms();
        self.is_listed.set(false);
        upstream.cell.retry_budget().earn(self.earned.take(), now_ms);
        let Some(guards) = upstream.guards.as_deref() else { return };
        let (count, micros) = self.latencies.take();
        if let Some(rule) = guards.overload.as_ref().filter(|rule| rule.adaptive && count > 0) {
            upstream.cell.load().learn(rule, count, micros, now_ms);
        }
        for (index, (seen, endpoint)) in state.take_seen().zip(&upstream.endpoints).enumerate() {
            if seen.requests == 0 {
                continue;
            }
            judging::bring(guards, endpoint, seen, now_ms);
            if let Some(rule) = &guards.passive {
                shard.judge(upstream, rule, EndpointIndex(index as u16));
            }
        }
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
}

impl Shard {
    /// What this core keeps for an upstream, its tally to be brought to the process at the next tick.
    pub fn tallied(&self, upstream: &Arc<Upstream>) -> Rc<UpstreamState> {
        let state = self.upstreams.state(upstream);
        self.tallies.list(&state, upstream);
        state
    }

    /// Brings to the process what this core saw of upstreams. Called each tick.
    pub fn bring_tallies(&self) {
        for (state, upstream) in self.tallies.listed.borrow_mut().drain(..) {
            state.tally.bring(self, &state, &upstream);
        }
    }
}
