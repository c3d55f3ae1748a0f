//! What stands between a request and an endpoint that fails: breakers, ejections and the one try of an
//! endpoint that comes back. Asks before a try, learns from each, once. The decisions are those of
//! `policy::{breaker, outlier}`; upstreams without such rules pay one branch.

use std::{rc::Rc, sync::Arc, time::Instant};

use super::{
    attempt::Attempted,
    exchange::{Exchange, Reuse},
};
use crate::{
    base::{ids::EndpointIndex, reason::Reason},
    dataplane::{
        shard::{InFlight, Now, Shard, UpstreamState, Wish},
        upstream::Full,
    },
    policy::{
        breaker::{Leave, Outcome},
        overload::Importance,
    },
    snapshot::{Guards, Upstream},
    telemetry::upstream_stats::Refuser,
};

/// Leave to try one endpoint, given back by [`Exchange::learn`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Admitted {
    /// Of the endpoint's breaker.
    leave: Option<Leave>,
    /// It is the one try of an endpoint that was ejected.
    is_trial: bool,
}

/// Which endpoints may be picked now.
pub(super) struct Usable<'a> {
    upstream: &'a Upstream,
    now_ms: u64,
    is_panic: bool,
}

impl<'a> Usable<'a> {
    /// As of now.
    pub(super) fn new(upstream: &'a Upstream, state: &UpstreamState, shard: &Shard) -> Self {
        let is_panic = upstream.guards.as_deref().is_some_and(|guards| {
            guards.passive.is_some() && state.is_panic(upstream, shard.now_ms())
        });
        Self { upstream, now_ms: shard.now_ms(), is_panic }
    }

    /// Whether this endpoint may be.
    pub(super) fn allows(&self, endpoint: EndpointIndex) -> bool {
        let Some(endpoint) = self.upstream.endpoints.get(usize::from(endpoint.0)) else {
            return false;
        };
        let cell = &endpoint.cell;
        (self.is_panic || cell.is_available(self.now_ms))
            && self
                .upstream
                .guards
                .as_deref()
                .and_then(Guards::endpoint_breaker)
                .is_none_or(|rule| !cell.breaker().is_shut(rule, self.now_ms))
    }

    /// The endpoint for a request, as its upstream's strategy picks it.
    pub(super) fn pick(
        &self,
        state: &UpstreamState,
        wish: Wish<'_>,
        random: u64,
    ) -> Option<EndpointIndex> {
        let allows = |endpoint| self.allows(endpoint);
        let now = Now { ms: self.now_ms, is_panic: self.is_panic, allows };
        state.pick(self.upstream, wish, random, now)
    }

    /// Takes leave to try the endpoint that was picked; `None` if others were faster.
    pub(super) fn admit(&self, endpoint: EndpointIndex) -> Option<Admitted> {
        let Some(guards) = self.upstream.guards.as_deref() else {
            return Some(Admitted::default());
        };
        let cell = &self.upstream.endpoints.get(usize::from(endpoint.0))?.cell;
        let is_trial = guards.passive.is_some() && cell.is_on_trial() && !self.is_panic;
        if is_trial && !cell.claim_trial(self.now_ms) {
            return None;
        }
        let leave = match guards.endpoint_breaker() {
            Some(rule) => Some(cell.breaker().admit(rule, self.now_ms).ok()?),
            None => None,
        };
        Some(Admitted { leave, is_trial })
    }

    /// Why nothing could be picked, and in how many milliseconds it may be different; counted.
    pub(super) fn refusal(&self, shard: &Shard) -> (Reason, Option<u64>) {
        let rule = self.upstream.guards.as_deref().and_then(Guards::endpoint_breaker);
        let is_shut = rule.is_some_and(|rule| {
            let mut cells = self.upstream.endpoints.iter().map(|one| &one.cell);
            cells.any(|cell| cell.breaker().is_shut(rule, self.now_ms))
        });
        let (by, refusal) = match rule {
            Some(rule) if is_shut => {
                (Refuser::EndpointBreakers, (Reason::CircuitOpen, Some(rule.open_for_ms)))
            }
            _ => (Refuser::NoEndpoint, (Reason::NoEndpoint, None)),
        };
        shard.stats.upstream(self.upstream.stats).note_refused(by);
        refusal
    }
}

/// How a failure counts for the endpoint. Those of the client and of ringway itself say nothing.
fn outcome_of(reason: Reason) -> Outcome {
    match reason {
        Reason::UpstreamConnectRefused
        | Reason::UpstreamConnectTimeout
        | Reason::UpstreamConnectFailed
        | Reason::UpstreamClosed
        | Reason::UpstreamInvalid
        | Reason::UpstreamHeaderTooLarge
        | Reason::UpstreamTimeout
        | Reason::UpstreamTooSlow
        | Reason::UpstreamTruncated => Outcome::Failed,
        _ => Outcome::Unknown,
    }
}

fn outcome_of_status(status: u16) -> Outcome {
    if status >= 500 { Outcome::Failed } else { Outcome::Good }
}

/// Takes a place among what is in flight with an upstream, where that is limited; waits if need be.
///
/// # Errors
/// When there is none.
pub(super) async fn place(
    shard: &Shard,
    upstream: &Arc<Upstream>,
    importance: Importance,
) -> Result<Option<InFlight>, Reason> {
    let rule = upstream.guards.as_deref().and_then(|guards| guards.overload.as_ref());
    let Some(rule) = rule else { return Ok(None) };
    let waiting = Rc::clone(&shard.upstreams.state(upstream).waiting);
    // Boxed only where a request has to wait.
    if let Some(place) = InFlight::enter_now(&waiting, &upstream.cell, rule, importance) {
        return Ok(Some(place));
    }
    let place = Box::pin(InFlight::enter(&waiting, &upstream.cell, rule, importance)).await;
    if let Err(reason) = place {
        let waited = reason == Reason::PendingTimeout;
        let by = if waited { Refuser::PendingTimeout } else { Refuser::Limit };
        shard.stats.upstream(upstream.stats).note_refused(by);
    }
    place.map(Some)
}

/// Gets something that will do for a connection where there are as many as may be; waits if need be.
///
/// # Errors
/// When there is none in time, or too many wait.
pub(super) async fn connection<T>(
    shard: &Shard,
    upstream: &Upstream,
    state: &UpstreamState,
    importance: Importance,
    mut get: impl FnMut() -> Option<T>,
) -> Result<T, Reason> {
    if let Some(got) = get() {
        return Ok(got);
    }
    let rule = upstream.guards.as_deref().and_then(|guards| guards.overload.as_ref());
    let (Some(rule), Some(permits)) = (rule, &state.permits) else {
        return Err(Reason::UpstreamOverloaded);
    };
    permits.wait(rule, importance, get).await.map_err(|full| {
        let (by, reason) = match full {
            Full::Queue => (Refuser::Connections, Reason::UpstreamOverloaded),
            Full::TimedOut => (Refuser::PendingTimeout, Reason::PendingTimeout),
        };
        shard.stats.upstream(upstream.stats).note_refused(by);
        reason
    })
}

/// Asks the breaker of an upstream.
///
/// # Errors
/// When it is open: for so many milliseconds.
pub(super) fn pass(shard: &Shard, upstream: &Upstream) -> Result<Option<Leave>, u64> {
    let rule = upstream.guards.as_deref().and_then(Guards::upstream_breaker);
    let Some(rule) = rule else { return Ok(None) };
    let admitted = upstream.cell.breaker().admit(rule, shard.now_ms());
    if admitted.is_err() {
        shard.stats.upstream(upstream.stats).note_refused(Refuser::Breaker);
    }
    admitted.map(Some)
}

/// Tells the breaker of an upstream whether a connection for a client could be made.
pub(super) fn tell(shard: &Shard, upstream: &Upstream, leave: Leave, failure: Option<Reason>) {
    let rule = upstream.guards.as_deref().and_then(Guards::upstream_breaker);
    let Some(rule) = rule else { return };
    let outcome = failure.map_or(Outcome::Good, outcome_of);
    let change = upstream.cell.breaker().report(leave, outcome, rule, shard.now_ms());
    shard.note_breaker(upstream, change);
}

/// Learns from a connection to an endpoint that was made, or not.
pub(super) fn learn(
    shard: &Shard,
    upstream: &Arc<Upstream>,
    endpoint: EndpointIndex,
    admitted: Admitted,
    began: Instant,
    failure: Option<Reason>,
) {
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    shard.stats.upstream(upstream.stats).record(micros, failure.is_some());
    if upstream.guards.is_none() {
        return;
    }
    let outcome = failure.map_or(Outcome::Good, outcome_of);
    let state = shard.tallied(upstream);
    let Admitted { leave, is_trial } = admitted;
    shard.learn(upstream, &state, endpoint, outcome, micros, leave, is_trial);
}

impl Exchange<'_> {
    /// Takes a place among the requests in flight, where they are limited; waits if need be.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn take_place(
        &mut self,
        upstream: &Arc<Upstream>,
        importance: Importance,
    ) -> Result<Option<InFlight>, Reason> {
        let place = place(self.shard, upstream, importance).await;
        if place.is_err() {
            self.retry_after_ms = Some(1_000);
        }
        place
    }

    /// Asks the breaker of the upstream.
    ///
    /// # Errors
    /// When it is open; `retry_after` says for how long.
    pub(super) fn pass_breaker(&mut self, upstream: &Upstream) -> Result<Option<Leave>, Reason> {
        pass(self.shard, upstream).map_err(|wait_ms| {
            self.retry_after_ms = Some(wait_ms);
            Reason::CircuitOpen
        })
    }

    /// Tells the breaker of the upstream how the request ended.
    pub(super) fn tell_breaker(
        &self,
        upstream: &Upstream,
        leave: Leave,
        result: &Result<Reuse, Reason>,
    ) {
        let rule = upstream.guards.as_deref().and_then(Guards::upstream_breaker);
        let Some(rule) = rule else { return };
        let outcome = match result {
            Ok(_) => outcome_of_status(self.progress.status),
            Err(reason) => self.outcome(*reason),
        };
        let change = upstream.cell.breaker().report(leave, outcome, rule, self.shard.now_ms());
        self.shard.note_breaker(upstream, change);
    }

    /// How a failure counts. The route's time is the endpoint's fault if it has the whole request and
    /// has answered nothing.
    fn outcome(&self, reason: Reason) -> Outcome {
        let was_waiting = self.upload.is_done.get() && self.progress.head_at.is_none();
        match reason {
            Reason::RouteTimeout if was_waiting => Outcome::Failed,
            reason => outcome_of(reason),
        }
    }

    /// Learns from one try.
    pub(super) fn learn(
        &self,
        upstream: &Arc<Upstream>,
        endpoint: EndpointIndex,
        admitted: Admitted,
        began: Instant,
        result: &Result<Attempted, Reason>,
    ) {
        let outcome = match result {
            Ok(Attempted::Done(_)) => outcome_of_status(self.progress.status),
            Ok(Attempted::Refused(status)) => outcome_of_status(*status),
            Ok(Attempted::Stale) => Outcome::Unknown,
            Err(reason) => self.outcome(*reason),
        };
        if outcome == Outcome::Failed
            && let Some(lease) = &self.lease
        {
            lease.note_failure();
        }
        if upstream.guards.is_none() {
            return;
        }
        let until = self.progress.head_at.unwrap_or_else(Instant::now);
        let micros = u64::try_from((until - began).as_micros()).unwrap_or(u64::MAX);
        let state = self.shard.tallied(upstream);
        let Admitted { leave, is_trial } = admitted;
        self.shard.learn(upstream, &state, endpoint, outcome, micros, leave, is_trial);
    }
}
