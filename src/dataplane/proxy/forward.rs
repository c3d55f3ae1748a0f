//! Brings a request to an endpoint and its response back: try after try, as far as the route's rule and
//! the upstream's budget allow.

use std::{pin::pin, sync::Arc, time::Instant};

use super::{
    attempt::Attempted,
    connect::Connected,
    exchange::{Exchange, Reuse},
    retry::{Repeat, Retries},
    timing::Timing,
};
use crate::{
    base::{ids::RouteIndex, limits, reason::Reason},
    policy::overload::Importance,
    rt::{self, Either},
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
        if upstream.http2 && self.context.head.upgrade() && !self.is_websocket() {
            // Without the upgrade it would be another request, which nobody has made.
            return Err(Reason::UpgradeUnsupported);
        }
        self.note_affinity(upstream, extra);
        let of_route = extra.and_then(|extra| extra.timeout);
        let of_call = self.call.and_then(|call| call.timeout);
        self.timing = Timing::new(
            self.listener.limits.body_timeout,
            upstream.response_timeout,
            of_route.into_iter().chain(of_call).min(),
            self.shard.deadlines.now_tick(),
        );
        if let Some(mirror) = extra.and_then(|extra| extra.mirror.as_ref()) {
            // Boxed: routes without one do not carry its room.
            Box::pin(self.mirror(mirror, route)).await?;
        }
        let importance = extra.map_or(Importance::Normal, |extra| extra.importance);
        let _place = self.take_place(upstream, importance).await?;
        let leave = self.pass_breaker(upstream)?;
        let retries = match extra.and_then(|extra| extra.retry.as_ref()) {
            None => Ok(None),
            Some(rule) => self.retries(rule, upstream).await.map(Some),
        };
        let result = match retries {
            Ok(mut retries) => self.tries(route, upstream, &mut retries).await,
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
        retries: &mut Option<Retries<'_>>,
    ) -> Result<Reuse, Reason> {
        let hedge = route.extra.as_deref().and_then(|extra| extra.hedge);
        loop {
            if let Some(retries) = retries {
                self.timing = retries.timing(self.timing, self.shard.deadlines.now_tick());
            }
            let given = retries.as_ref();
            let result = match hedge.filter(|_| self.record.retries == 0 && self.may_be_hedged()) {
                None => self.try_once(route, upstream, given).await,
                // Boxed: other routes do not carry its room.
                Some(rule) => Box::pin(self.try_hedged(route, upstream, rule, given)).await,
            };
            let failure = match result {
                Ok(Attempted::Done(reuse)) => return Ok(reuse),
                Ok(Attempted::Stale) => continue,
                Ok(Attempted::Refused(status)) => Repeat::granted(status),
                Err(reason) => Repeat::asked(reason),
            };
            let Some(retries) = retries else { return failure.into_result() };
            if !self.repeat(retries, &failure).await {
                return failure.into_result();
            }
        }
    }

    /// One try: a connection, and what comes of it.
    async fn try_once(
        &mut self,
        route: &Route,
        upstream: &Arc<Upstream>,
        retries: Option<&Retries<'_>>,
    ) -> Result<Attempted, Reason> {
        let Connected { endpoint, admitted, began } = self.connect(upstream).await?;
        if self.record.retries > 0
            && let Some(lease) = &self.lease
        {
            lease.note_retry();
        }
        if upstream.http2 && self.context.head.upgrade() && !Box::pin(self.may_tunnel()).await {
            self.connection = None;
            let refused = Err(Reason::UpgradeUnsupported);
            self.learn(upstream, endpoint, admitted, began, &refused);
            return refused;
        }
        let (was_reused, sent_before) =
            self.connection.as_ref().map_or((false, 0), |one| (one.reused, one.sent));
        let gate = retries.filter(|retries| self.is_gated(retries));
        self.write_head(route, upstream, endpoint);
        self.write_cookies(upstream, endpoint);
        let result = self.attempt(route, upstream, endpoint, gate).await;
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
                if was_reused && !self.fresh_only && self.may_repeat(reason, sent_before) =>
            {
                // The pooled connection was dead, and nothing of the request was processed.
                self.fresh_only = true;
                self.note_retry(upstream, None);
                Ok(Attempted::Stale)
            }
            done => done,
        };
        self.connection = None;
        self.learn(upstream, endpoint, admitted, began, &result);
        if !matches!(result, Ok(Attempted::Done(_) | Attempted::Stale)) {
            self.tried.failed(endpoint);
        }
        result
    }

    /// Whether the protocol that is asked for has a way over HTTP/2.
    fn is_websocket(&self) -> bool {
        let bytes = self.client.input_bytes();
        let mut protocols = self.context.head.field_values(bytes, b"upgrade");
        protocols.next().is_some_and(|first| first.eq_ignore_ascii_case(b"websocket"))
            && protocols.next().is_none()
    }

    /// Whether the endpoint takes tunnels: it has a while to say so.
    async fn may_tunnel(&self) -> bool {
        let Some(connection) = &self.connection else { return false };
        let now_tick = self.shard.deadlines.now_tick();
        let (within, _) = self.timing.of_try(limits::TUNNEL_OFFER_MAX, now_tick);
        let (offered, late) = (pin!(connection.socket.offers_tunnels()), pin!(rt::sleep(within)));
        matches!(rt::race(offered, late).await, Either::Left(true))
    }

    pub(super) fn note_upstream(&mut self, upstream: &Upstream, began: Instant, failed: bool) {
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
    pub(super) fn may_repeat(&self, reason: Reason, sent_before: u64) -> bool {
        let Some(connection) = &self.connection else { return false };
        let has_ended = self.progress.endpoint_ended;
        reason == Reason::UpstreamClosed
            && !self.progress.endpoint_spoke
            && !self.forwarded
            && !connection.socket.is_reset_by_peer()
            && (self.context.head.method().is_idempotent()
                || connection.socket.nothing_arrived_since(sent_before, has_ended))
    }
}
