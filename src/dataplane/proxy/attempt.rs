//! One try of a request: its head for this endpoint, and what becomes of the connection.

use super::{
    exchange::{Exchange, Reuse},
    links::keep_limits,
    respond::Responded,
    retry::Retries,
    tunnel,
};
use crate::{
    base::{ids::EndpointIndex, limits, reason::Reason},
    dataplane::shard::{Phase, Pin, Shard},
    proto::h1::{ForwardedOut, Framing, RequestForward, write_request_head},
    snapshot::{HostHeader, Route, RouteExtra, Upstream},
};

/// How a try ended that did not fail.
pub(super) enum Attempted {
    /// A response was passed on.
    Done(Reuse),
    /// A response with this status was dropped for another try.
    Refused(u16),
    /// The pooled connection was dead; a new one will do.
    Stale,
}

impl Exchange<'_> {
    /// One try, whose head lies in the context's `out`, or was sent. On success the connection has gone
    /// back to its pool, or was closed.
    pub(super) async fn attempt(
        &mut self,
        route: &Route,
        upstream: &Upstream,
        endpoint: EndpointIndex,
        gate: Option<&Retries<'_>>,
    ) -> Result<Attempted, Reason> {
        self.context.pace.begin(upstream.pace);
        let Some(connection) = &self.connection else { return Err(Reason::Internal) };
        let now_tick = self.shard.deadlines.now_tick();
        let upstream_handle = connection.socket.handle();
        let pool = upstream.pools.get(usize::from(endpoint.0)).copied().unwrap_or_default();
        let pin = Pin { route: route.key, pool };
        self.watch.enter(Phase::Exchange { upstream: upstream_handle, pin }, now_tick);
        let responded = self.converse(gate).await;
        self.watch.enter(Phase::Busy, self.shard.deadlines.now_tick());
        match responded? {
            Responded::Whole { endpoint_reusable, client_keeps } => {
                if endpoint_reusable {
                    self.keep_connection(upstream);
                }
                Ok(Attempted::Done(match (client_keeps, self.upload.is_done.get()) {
                    (true, _) => Reuse::Keep,
                    (false, true) => Reuse::Close,
                    (false, false) => Reuse::Linger,
                }))
            }
            Responded::Refused { status, endpoint_reusable } => {
                if endpoint_reusable {
                    self.keep_connection(upstream);
                }
                Ok(Attempted::Refused(status))
            }
            Responded::Upgraded(early) => {
                let now_tick = self.shard.deadlines.now_tick();
                self.watch.enter(Phase::Tunnel { upstream: upstream_handle, pin }, now_tick);
                self.shard.doom_if_gone(self.watch, Some(self.table), pin);
                let Some(connection) = &self.connection else { return Err(Reason::Internal) };
                let ends = tunnel::Ends {
                    shard: self.shard,
                    client: &self.client.socket,
                    client_input: self.client.input.take(),
                    endpoint: &connection.socket,
                    endpoint_input: early,
                    idle: limits::TUNNEL_IDLE_MAX,
                };
                // Boxed, as it happens once to a connection, and is not small.
                let moved = Box::pin(tunnel::run(ends)).await;
                self.watch.enter(Phase::Busy, self.shard.deadlines.now_tick());
                self.upload.bytes.set(self.upload.bytes.get() + moved.up);
                self.progress.bytes += moved.down;
                if moved.is_cut {
                    connection.socket.reset_on_close();
                    return Ok(Attempted::Done(Reuse::Reset));
                }
                Ok(Attempted::Done(Reuse::Close))
            }
        }
    }

    /// Puts a connection that can serve another request into its pool.
    fn keep_connection(&mut self, upstream: &Upstream) {
        if let Some(connection) = self.connection.take()
            && let Some(pool) = self.pool.take()
        {
            let keep = keep_limits(upstream);
            let Shard { buffers, deadlines, stats, .. } = &**self.shard;
            pool.checkin(connection, keep, buffers, deadlines, stats);
        }
    }

    /// Writes the head for this endpoint into the context's `out`.
    pub(super) fn write_head(
        &mut self,
        route: &Route,
        upstream: &Upstream,
        endpoint: EndpointIndex,
    ) {
        static PLAIN: RouteExtra = RouteExtra::PLAIN;
        let extra = route.extra.as_deref().unwrap_or(&PLAIN);
        let is_recoded = self.browser.as_ref().is_some_and(|one| one.request.is_some());
        let bytes = self.client.input_bytes();
        let context = &mut *self.context;
        context.target.clear();
        extra.target.write(&context.path, &context.captures, &mut context.target);
        if let Some(query) = context.head.query(bytes) {
            context.target.push(b'?');
            context.target.extend_from_slice(query);
        }
        let client_host = context.head.host(bytes).unwrap_or_default();
        let authority = upstream
            .endpoints
            .get(usize::from(endpoint.0))
            .map_or(&[][..], |endpoint| endpoint.authority.as_bytes());
        let host = match &extra.host_header {
            HostHeader::Preserve if !client_host.is_empty() => client_host,
            HostHeader::Preserve | HostHeader::Upstream => authority,
            HostHeader::Literal(literal) => literal.as_bytes(),
        };
        let trusted = !self.listener.trusted_proxies.is_empty()
            && self.listener.trusted_proxies.contains(self.client.peer.ip());
        let framing = match context.head.framing() {
            Framing::Length(1..) if is_recoded => Framing::Chunked,
            framing => framing,
        };
        context.out.clear();
        write_request_head(
            &mut context.out,
            bytes,
            &context.head,
            &RequestForward {
                path_and_query: &context.target,
                host,
                forwarded: &ForwardedOut {
                    trusted,
                    client_ip: &self.client.peer_text,
                    proto: if self.client.tls.is_some() { b"https" } else { b"http" },
                    host: client_host,
                    forwarded: self.listener.forwarded,
                },
                max_forwards: context.head.max_forwards().map(|hops| hops.saturating_sub(1)),
                framing,
                close: false,
                early: self.client.socket.is_early(),
            },
        );
        if let Some(browser) = &self.browser {
            browser.response.write_call(&mut context.out);
        }
    }
}
