//! A second endpoint for a request that takes long: whoever speaks first answers, the other is given
//! up without blame. Only requests without a body that may be repeated; only within the budget of
//! further tries. Everything here is boxed: a route without `hedge` pays one branch.

use std::{
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    attempt::Attempted,
    connect::Connected,
    exchange::Exchange,
    retry::{Retries, pay},
    timing::{Timing, tag},
};
use crate::{
    base::{limits::HEDGE_BUDGET_PER_10K, reason::Reason},
    dataplane::{
        shard::{Lease, Phase, Pin, Shard, Watch},
        socket::{Broken, Socket},
        upstream::{EndpointPool, UpstreamConnection},
    },
    policy::hedge::HedgeRule,
    proto::h1::Framing,
    rt::{self, Buf, Either, race},
    snapshot::{Route, Upstream},
    telemetry::upstream_stats::Hedged,
};

/// A request that was sent to an endpoint, and what ties it there.
struct Launched {
    to: Connected,
    connection: Box<UpstreamConnection>,
    sent_before: u64,
    sent_at: Instant,
    lease: Option<Lease>,
    pool: Option<Rc<EndpointPool>>,
    /// The first bytes that came back.
    input: Option<Buf>,
    /// The endpoint ended its side in order, and said nothing.
    has_ended: bool,
}

/// What one of them has said, if it has.
type Heard = Option<Result<(), Reason>>;

impl Launched {
    /// Waits for the first bytes.
    async fn hear(&mut self, shard: &Shard, watch: &Watch, timing: Timing) -> Result<(), Reason> {
        let socket = &self.connection.socket;
        let (after, tag) = timing.until_head(shard.deadlines.now_tick());
        socket.read_within(after, tag);
        let received = socket.fill(&mut self.input, &shard.buffers).await;
        socket.read_without_deadline();
        match received {
            _ if watch.is_gone() => Err(Reason::ClientGone),
            Ok(0) => {
                self.has_ended = true;
                Err(Reason::UpstreamClosed)
            }
            Ok(_) => Ok(()),
            Err(Broken::Deadline(tag::ROUTE)) => Err(Reason::RouteTimeout),
            Err(Broken::Deadline(_)) => Err(Reason::UpstreamTimeout),
            Err(Broken::Reset) => Err(Reason::UpstreamClosed),
            Err(Broken::NoBuffer) => Err(Reason::Overloaded),
        }
    }
}

impl Exchange<'_> {
    /// Whether it may be sent twice at the same time.
    pub(super) fn may_be_hedged(&self) -> bool {
        let head = &self.context.head;
        matches!(head.framing(), Framing::Empty | Framing::Length(0))
            && head.method().is_idempotent()
            && !head.upgrade()
    }

    /// One try, with a second endpoint if the first one takes long.
    pub(super) async fn try_hedged(
        &mut self,
        route: &Route,
        upstream: &Arc<Upstream>,
        rule: HedgeRule,
        retries: Option<&Retries<'_>>,
    ) -> Result<Attempted, Reason> {
        let state = self.shard.tallied(upstream);
        if retries.is_none() {
            state.tally.earn(HEDGE_BUDGET_PER_10K);
        }
        let mut first = self.launch(route, upstream).await?;
        let mut second = None;
        let (of_first, of_second) = match state.latencies.patience(rule.after) {
            None => (Some(first.hear(self.shard, self.watch, self.timing).await), None),
            Some(patience) => {
                self.hear_both(route, upstream, patience, &mut first, &mut second).await
            }
        };
        state.latencies.note(first.sent_at.elapsed());
        let gone = Some(Err(Reason::ClientGone));
        if of_first == gone || of_second == gone {
            return Err(Reason::ClientGone);
        }
        let stats = self.shard.stats.upstream(upstream.stats);
        let (winner, heard) = match second {
            Some(second) if of_second == Some(Ok(())) => {
                stats.note_hedged(Hedged::Second);
                self.give_up(upstream, first, of_first);
                (second, Ok(()))
            }
            second => {
                let heard = of_first.unwrap_or(Err(Reason::Internal));
                if let Some(second) = second {
                    stats.note_hedged(if heard.is_ok() { Hedged::First } else { Hedged::Nobody });
                    self.give_up(upstream, second, of_second);
                }
                (first, heard)
            }
        };
        self.take_answer(route, upstream, winner, heard, retries).await
    }

    /// Waits for the first endpoint alone, then for both.
    async fn hear_both(
        &mut self,
        route: &Route,
        upstream: &Arc<Upstream>,
        patience: Duration,
        first: &mut Launched,
        second: &mut Option<Launched>,
    ) -> (Heard, Heard) {
        let (shard, watch, timing) = (self.shard, self.watch, self.timing);
        let endpoint = first.to.endpoint;
        let mut hearing = pin!(first.hear(shard, watch, timing));
        if let Either::Left(heard) = race(hearing.as_mut(), pin!(rt::sleep(patience))).await {
            return (Some(heard), None);
        }
        self.tried.failed(endpoint); // so that it is another one
        if !self.has_another(upstream) || !pay(shard, upstream) {
            self.tried.forgive();
            return (Some(hearing.await), None);
        }
        self.record.retries = self.record.retries.saturating_add(1);
        let mut chasing = pin!(async {
            let launched = self.launch(route, upstream).await?;
            second.insert(launched).hear(shard, watch, timing).await
        });
        match race(hearing.as_mut(), chasing.as_mut()).await {
            Either::Left(Err(reason)) if reason != Reason::ClientGone => {
                (Some(Err(reason)), Some(chasing.await))
            }
            Either::Left(heard) => (Some(heard), None),
            Either::Right(Err(reason)) if reason != Reason::ClientGone => {
                (Some(hearing.await), Some(Err(reason)))
            }
            Either::Right(heard) => (None, Some(heard)),
        }
    }

    /// Sends the request to an endpoint.
    async fn launch(
        &mut self,
        route: &Route,
        upstream: &Arc<Upstream>,
    ) -> Result<Launched, Reason> {
        let to = self.connect(upstream).await?;
        let Some(mut connection) = self.connection.take() else { return Err(Reason::Internal) };
        let (lease, pool) = (self.lease.take(), self.pool.take());
        if self.record.retries > 0
            && let Some(lease) = &lease
        {
            lease.note_retry();
        }
        self.write_head(route, upstream, to.endpoint);
        let sent_before = connection.sent;
        connection.sent += self.context.out.len() as u64;
        let now_tick = self.shard.deadlines.now_tick();
        let identity = upstream.pools.get(usize::from(to.endpoint.0)).copied().unwrap_or_default();
        let pin = Pin { route: route.key, pool: identity };
        let socket = &connection.socket;
        Socket::pair(&self.client.socket, socket);
        self.watch.enter(Phase::Exchange { upstream: socket.handle(), pin }, now_tick);
        let (after, tag) = self.timing.until_head(now_tick);
        socket.write_within(after, tag);
        // Whether it could be sent is told by what comes back.
        let _ = socket.send_bytes(&mut self.context.out).await;
        socket.write_without_deadline();
        self.context.out.clear();
        self.upload.is_done.set(true);
        let sent_at = Instant::now();
        let (input, has_ended) = (None, false);
        Ok(Launched { to, connection, sent_before, sent_at, lease, pool, input, has_ended })
    }

    /// Closes the connection of one that does not answer: blamed if it failed, not if it was slow.
    fn give_up(&mut self, upstream: &Arc<Upstream>, loser: Launched, heard: Heard) {
        let Launched { to, lease, .. } = loser;
        self.lease = lease;
        let result = match heard {
            Some(Err(reason)) => Err(reason),
            _ => Ok(Attempted::Stale), // which says nothing of it
        };
        self.learn(upstream, to.endpoint, to.admitted, to.began, &result);
        self.lease = None;
        if result.is_err() {
            self.tried.failed(to.endpoint);
        }
    }

    /// Passes the answer of one on.
    async fn take_answer(
        &mut self,
        route: &Route,
        upstream: &Arc<Upstream>,
        winner: Launched,
        heard: Result<(), Reason>,
        retries: Option<&Retries<'_>>,
    ) -> Result<Attempted, Reason> {
        let Launched { to, connection, sent_before, lease, pool, input, has_ended, .. } = winner;
        let Connected { endpoint, admitted, began } = to;
        let was_reused = connection.reused;
        (self.lease, self.pool, self.record.endpoint) = (lease, pool, Some(endpoint));
        self.connection = Some(connection);
        self.progress.endpoint_ended = has_ended;
        let result = match heard {
            Err(reason) if was_reused && self.may_repeat(reason, sent_before) => {
                // The pooled connection was dead, and nothing of the request was processed.
                self.fresh_only = true;
                self.note_retry(upstream, None);
                Ok(Attempted::Stale)
            }
            Err(reason) => Err(reason),
            Ok(()) => {
                self.context.heard = input;
                self.progress.endpoint_spoke = true;
                self.write_cookies(upstream, endpoint);
                let gate = retries.filter(|retries| self.is_gated(retries));
                self.attempt(route, upstream, endpoint, gate).await
            }
        };
        self.note_upstream(upstream, began, result.is_err());
        self.connection = None;
        self.learn(upstream, endpoint, admitted, began, &result);
        if !matches!(result, Ok(Attempted::Done(_) | Attempted::Stale)) {
            self.tried.failed(endpoint);
        }
        result
    }
}
