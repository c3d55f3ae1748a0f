//! What this core makes of the tries it saw: ejections and breakers. The verdicts are those of
//! `policy::outlier` and `policy::breaker`, the state is in the cells of the process.

use std::sync::Arc;

use super::{Shard, UpstreamState};
use crate::{
    base::{ids::EndpointIndex, limits},
    policy::{
        breaker::{Change, Leave, Outcome},
        outlier::{self, PassiveRule, Seen, Why},
    },
    snapshot::{Endpoint, Guards, Upstream},
};

impl Shard {
    /// Learns from one try of an endpoint.
    #[allow(clippy::too_many_arguments)] // one call, and each is a fact of its own
    pub fn learn(
        &self,
        upstream: &Arc<Upstream>,
        state: &UpstreamState,
        index: EndpointIndex,
        outcome: Outcome,
        micros: u64,
        leave: Option<Leave>,
        is_trial: bool,
    ) {
        let Some(guards) = upstream.guards.as_deref() else { return };
        let Some(endpoint) = upstream.endpoints.get(usize::from(index.0)) else { return };
        let now_ms = self.now_ms();
        if let (Some(leave), Some(rule)) = (leave, guards.endpoint_breaker()) {
            let change = endpoint.cell.breaker().report(leave, outcome, rule, now_ms);
            self.note_breaker(upstream, change);
            if change.is_some() {
                upstream.cell.changed(); // another one may be picked now, or one less
            }
        }
        if outcome != Outcome::Unknown && guards.overload.as_ref().is_some_and(|rule| rule.adaptive)
        {
            state.tally.note_latency(outcome, micros);
        }
        let Some(rule) = &guards.passive else { return };
        match (outcome, is_trial) {
            (Outcome::Unknown, false) => {}
            (Outcome::Unknown, true) => endpoint.cell.give_trial_back(now_ms),
            (Outcome::Good, true) => endpoint.cell.readmit(now_ms),
            (Outcome::Failed, true) => self.eject(upstream, rule, endpoint, Why::Trial),
            (Outcome::Good, false) => {
                endpoint.cell.note_success();
                state.note_seen(index, false, micros);
            }
            (Outcome::Failed, false) => {
                state.note_seen(index, true, micros);
                let row = endpoint.cell.note_error();
                if rule.consecutive_errors > 0
                    && row >= rule.consecutive_errors
                    && !endpoint.cell.is_out(now_ms)
                {
                    self.eject(upstream, rule, endpoint, Why::ConsecutiveErrors);
                }
            }
        }
    }

    /// Judges the endpoints of an upstream by what all cores saw of them. Called each tick in which
    /// this core saw something.
    pub(super) fn judge(&self, upstream: &Upstream, rule: &PassiveRule, touched: EndpointIndex) {
        let now_ms = self.now_ms();
        let Some(endpoint) = upstream.endpoints.get(usize::from(touched.0)) else { return };
        if endpoint.cell.is_out(now_ms) {
            return;
        }
        let sum = |one: &Endpoint| one.cell.window().sum(rule.window_ms, now_ms);
        let seen = sum(endpoint);
        let compares = rule.success_gap_per_10k > 0 || rule.latency_factor > 0;
        let why = outlier::judge_alone(rule, &seen).or_else(|| {
            let others = upstream.endpoints.iter().filter(|one| {
                compares && !Arc::ptr_eq(&one.cell, &endpoint.cell) && !one.cell.is_out(now_ms)
            });
            let mut scratch = self.scratch.borrow_mut();
            outlier::judge_among(rule, &seen, others.map(sum), &mut scratch)
        });
        if let Some(why) = why {
            self.eject(upstream, rule, endpoint, why);
        }
    }

    /// Ejects an endpoint, unless as many as may be are ejected already.
    fn eject(&self, upstream: &Upstream, rule: &PassiveRule, endpoint: &Endpoint, why: Why) {
        let now_ms = self.now_ms();
        let stats = self.stats.upstream(upstream.stats);
        let cell = &endpoint.cell;
        let may_be = outlier::eject_max(rule, upstream.endpoints.len());
        let out = || upstream.endpoints.iter().filter(|one| one.cell.is_out(now_ms)).count();
        if why != Why::Trial && out() >= may_be {
            stats.ejections_denied.inc();
            cell.window().clear(); // or it would be judged by the same again at the next tick
            return;
        }
        let good_for_ms = now_ms.saturating_sub(cell.up_since_ms(now_ms));
        if why != Why::Trial && good_for_ms > limits::EJECT_FOR_MAX.as_millis() as u64 {
            cell.forgive();
        }
        let until_ms = now_ms + outlier::ejection_ms(rule, cell.ejections());
        let is_mine = match why {
            Why::Trial => cell.eject_again(until_ms),
            _ => cell.eject(until_ms, now_ms),
        };
        if !is_mine {
            return;
        }
        if out() > may_be {
            cell.readmit(now_ms); // another core ejected another one at this very moment
            return;
        }
        if let Some(counter) = stats.ejections.get(why as usize) {
            counter.inc();
        }
    }

    /// Counts what a breaker did.
    pub fn note_breaker(&self, upstream: &Upstream, change: Option<Change>) {
        if change == Some(Change::Opened) {
            self.stats.upstream(upstream.stats).breaker_opened.inc();
        }
    }
}

/// Brings what a core saw of one endpoint to the window of the process.
pub(super) fn bring(guards: &Guards, endpoint: &Endpoint, seen: Seen, now_ms: u64) {
    if let Some(rule) = &guards.passive {
        endpoint.cell.window().add(seen, rule.window_ms, now_ms);
    }
}
