//! Brings a request to an endpoint and its response back: try after try, as far as the route's rule and
//! the upstream's budget allow.

use std::{sync::Arc, time::Instant};

use super::{
    attempt::Attempted,
    connect::{Connected, Tried},
    exchange::{Exchange, Reuse},
    retry::{Repeat, Retries},
    timing::Timing,
};
use crate::{
    base::{ids::RouteIndex, reason::Reason},
    dataplane::upstream::UpstreamConnection,
    policy::overload::Importance,
    rt,
    snapshot::{Route, Upstream},
};

impl Exchange<'_> {
    /// Sends the request to an endpoint of the route and passes its response on.
    pub(super) async fn forward(&mut self, index: RouteIndex) -> Result<Reuse, Reason> {
        let table = self.table;
        let route = table.snapshot.route(index);
        let extra = route.extra.as_deref();
        let index = match extra.and_then(|extra| extra.split.as_deref()) {
            None => route.upstream,
            Some(split) => self.choose(split, extra).unwrap_or(route.upstream),
        };
        let upstream = table.snapshot.shared_upstream(index);
        self.record.upstream = Some(index);
        if upstream.http2 && self.context.head.upgrade() {
            // Without the upgrade it would be another request, which nobody has made.
            return Err(Reason::UpgradeUnsupported);
        }
        self.note_affinity(upstream, extra);
        let of_route = extra.and_then(|extra| extra.timeout);
        let of_call = self.call.and_then(|call| call.timeout);
        let timing = Timing::new(
            self.listener.limits.body_timeout,
            upstream.response_timeout,
            of_route.into_iter().chain(of_call).min(),
            self.shard.deadlines.now_tick(),
        );
        let importance = extra.map_or(Importance::Normal, |extra| extra.importance);
        let _place = self.take_place(upstream, importance).await?;
        let leave = self.pass_breaker(upstream)?;
        let retries = match extra.and_then(|extra| extra.retry.as_ref()) {
            None => Ok(None),
            Some(rule) => self.retries(rule, upstream, timing).await.map(Some),
        };
        let result = match retries {
            Ok(retries) => self.tries(route, upstream, timing, retries).await,
            Err(reason) => Err(reason),
        };
        if let Some(leave) = leave {
            self.tell_breaker(upstream, leave, &result);
        }
        result
    }

    /// Tries until a response has been passed on, or nothing allows another try.
    async fn tries(
        &mut self,
        route: &Route,
        upstream: &Arc<Upstream>,
        timing: Timing,
        mut retries: Option<Retries<'_>>,
    ) -> Result<Reuse, Reason> {
        let mut tried = Tried::default();
        let mut fresh_only = false;
        loop {
            let timing = match &retries {
                Some(retries) => retries.timing(timing, self.shard.deadlines.now_tick()),
                None => timing,
            };
            let result = self
                .try_once(route, upstream, timing, &mut tried, &mut fresh_only, retries.as_ref())
                .await;
            let failure = match result {
                Ok(Attempted::Done(reuse)) => return Ok(reuse),
                Ok(Attempted::Stale) => continue,
                Ok(Attempted::Refused(status)) => Repeat::granted(status),
                Err(reason) => Repeat::asked(reason),
            };
            let Some(retries) = &mut retries else { return failure.into_result() };
            if !self.repeat(retries, &failure, timing).await {
                return failure.into_result();
            }
        }
    }

    /// One try: a connection, and what comes of it.
    async fn try_once(
        &mut self,
        route: &Route,
        upstream: &Arc<Upstream>,
        timing: Timing,
        tried: &mut Tried,
        fresh_only: &mut bool,
        retries: Option<&Retries<'_>>,
    ) -> Result<Attempted, Reason> {
        let Connected { endpoint, connection, admitted, began } =
            self.connect(upstream, timing, *fresh_only, tried).await?;
        if self.record.retries > 0
            && let Some(lease) = &self.lease
        {
            lease.note_retry();
        }
        let was_reused = connection.reused;
        let sent_before = connection.sent;
        let gate = retries.filter(|retries| self.is_gated(retries));
        let mut connection = Some(connection);
        let result = self.attempt(route, upstream, endpoint, timing, gate, &mut connection).await;
        self.note_upstream(upstream, began, result.is_err());
        if was_reused
            && matches!(result, Err(Reason::UpstreamClosed))
            && !self.progress.endpoint_spoke
            && let Some(pool) = &self.pool
        {
            pool.note_silent_close(self.shard.deadlines.now_tick());
        }
        let result = match result {
            Err(reason)
                if was_reused
                    && !*fresh_only
                    && self.may_repeat(reason, connection.as_ref(), sent_before) =>
            {
                // The pooled connection was dead, and nothing of the request was processed.
                *fresh_only = true;
                self.note_retry(upstream, None);
                Ok(Attempted::Stale)
            }
            done => done,
        };
        self.learn(upstream, endpoint, admitted, began, &result);
        if !matches!(result, Ok(Attempted::Done(_) | Attempted::Stale)) {
            tried.failed(endpoint);
        }
        result
    }

    fn note_upstream(&mut self, upstream: &Upstream, began: Instant, failed: bool) {
        let until = self.progress.head_at.unwrap_or_else(rt::turn_time);
        let micros = u64::try_from((until - began).as_micros()).unwrap_or(u64::MAX);
        self.record.upstream_micros = Some(micros);
        if let Some(lease) = &self.lease {
            lease.learn_latency(micros, self.shard.now_ms());
        }
        self.shard.stats.upstream(upstream.stats).record(micros, failed);
    }

    /// Whether the request can be sent again: nothing came back, all of it is still here, and
    /// repeating it changes nothing (RFC 9110 §9.2.2) or nothing of it has arrived.
    fn may_repeat(
        &self,
        reason: Reason,
        connection: Option<&UpstreamConnection>,
        sent_before: u64,
    ) -> bool {
        let Some(connection) = connection else { return false };
        let has_ended = self.progress.endpoint_ended;
        reason == Reason::UpstreamClosed
            && !self.progress.endpoint_spoke
            && !self.forwarded
            && !connection.socket.is_reset_by_peer()
            && (self.context.head.method().is_idempotent()
                || connection.socket.nothing_arrived_since(sent_before, has_ended))
    }
}
