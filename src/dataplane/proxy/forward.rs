//! Brings a request to an endpoint and its response back.

use std::time::Instant;

use super::{
    exchange::{Exchange, Reuse},
    timing::Timing,
};
use crate::{
    base::{ids::RouteIndex, reason::Reason},
    dataplane::upstream::UpstreamConnection,
    snapshot::Upstream,
};

impl Exchange<'_> {
    /// Sends the request to an endpoint of the route and passes its response on.
    pub(super) async fn forward(&mut self, index: RouteIndex) -> Result<Reuse, Reason> {
        let table = self.table;
        let route = table.snapshot.route(index);
        let upstream = table.snapshot.upstream(route.upstream);
        self.record.upstream = Some(route.upstream);
        let extra = route.extra.as_deref();
        let now_tick = self.shard.deadlines.now_tick();
        let timing = Timing::new(
            self.listener.limits.body_timeout,
            upstream.response_timeout,
            extra.and_then(|extra| extra.timeout),
            now_tick,
        );
        let mut fresh_only = false;
        loop {
            let began = Instant::now();
            let (endpoint, connection) = self.connect(upstream, timing, fresh_only).await?;
            let was_reused = connection.reused;
            let sent_before = connection.sent;
            let mut connection = Some(connection);
            let result = self.attempt(route, upstream, endpoint, timing, &mut connection).await;
            self.note_upstream(upstream, began, result.is_err());
            if was_reused
                && matches!(result, Err(Reason::UpstreamClosed))
                && !self.progress.endpoint_spoke
                && let Some(pool) = &self.pool
            {
                pool.note_silent_close(self.shard.deadlines.now_tick());
            }
            match result {
                Err(reason)
                    if was_reused
                        && !fresh_only
                        && self.may_repeat(reason, connection.as_ref(), sent_before) =>
                {
                    // The pooled connection was dead, and nothing of the request was processed.
                    fresh_only = true;
                    self.record.retries += 1;
                    self.shard.stats.upstream_retries.inc();
                }
                done => return done,
            }
        }
    }

    fn note_upstream(&mut self, upstream: &Upstream, began: Instant, failed: bool) {
        let until = self.progress.head_at.unwrap_or_else(Instant::now);
        let micros = u64::try_from((until - began).as_micros()).unwrap_or(u64::MAX);
        self.record.upstream_micros = Some(micros);
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
        reason == Reason::UpstreamClosed
            && !self.progress.endpoint_spoke
            && !self.forwarded
            && (self.context.head.method().is_idempotent()
                || (self.progress.endpoint_ended
                    && connection.is_some_and(|one| one.socket.nothing_arrived_since(sent_before))))
    }
}
