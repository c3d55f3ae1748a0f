//! Brings a request to an endpoint and its response back.

use std::{pin::pin, rc::Rc, time::Instant};

use super::{
    exchange::{Exchange, Reuse},
    piece::{Sink, Source},
    relay::{Relay, Ways},
    respond::{RequestFacts, Respond, Responded},
    timing::{Timing, tag},
    tunnel,
    upload::{UploadState, UploadWays},
};
use crate::{
    base::{
        ids::{EndpointIndex, RouteIndex},
        limits,
        reason::Reason,
    },
    dataplane::{
        shard::{Phase, Pin, Shard},
        upstream::{KeepLimits, UpstreamConnection},
    },
    proto::h1::{ForwardedOut, Framing, RequestForward, write_request_head},
    rt::{Buf, Either, race},
    snapshot::{HostHeader, Route, RouteExtra, Upstream},
};

/// The endpoints that did not accept a connection for this request.
#[derive(Default)]
struct Tried {
    endpoints: [Option<EndpointIndex>; limits::CONNECT_TRIES_MAX],
    count: usize,
}

impl Tried {
    /// Notes a failed try; whether another one is allowed.
    fn add(&mut self, endpoint: EndpointIndex) -> bool {
        self.endpoints[self.count] = Some(endpoint);
        self.count += 1;
        self.count < self.endpoints.len()
    }

    fn list(&self) -> ([EndpointIndex; limits::CONNECT_TRIES_MAX], usize) {
        (self.endpoints.map(|one| one.unwrap_or(EndpointIndex(u16::MAX))), self.count)
    }
}

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

    /// Whether the request may be sent again on another connection should its own turn out to be
    /// dead, whatever the endpoint saw of it.
    fn is_repeatable(&self) -> bool {
        let head = &self.context.head;
        let stays = match head.framing() {
            Framing::Empty => true,
            Framing::Length(length) => length <= limits::REPLAY_BYTES_MAX as u64,
            Framing::Chunked | Framing::UntilClose => false,
        };
        stays && head.method().is_idempotent()
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

    /// A connection to an endpoint: pooled if there is one, else new. Endpoints that do not accept
    /// one are passed over, within bounds: nothing of the request has been sent.
    async fn connect(
        &mut self,
        upstream: &Upstream,
        timing: Timing,
        fresh_only: bool,
    ) -> Result<(EndpointIndex, UpstreamConnection), Reason> {
        let state = self.shard.upstreams.state(upstream);
        let stats = &self.shard.stats;
        let mut tried = Tried::default();
        let mut last = Reason::NoEndpoint;
        loop {
            let (avoid, count) = tried.list();
            let random = self.shard.random();
            let now_ms = self.shard.now_ms();
            let is_available = |endpoint: EndpointIndex| {
                let endpoint = upstream.endpoints.get(usize::from(endpoint.0));
                endpoint.is_some_and(|endpoint| endpoint.cell.is_available(now_ms))
            };
            let avoid = &avoid[..count];
            let picked = state.balancer.borrow_mut().pick(random, avoid, is_available);
            let Some(endpoint) = picked else { return Err(last) };
            self.record.endpoint = Some(endpoint);
            let Some(pool) = state.pool(endpoint) else {
                last = Reason::UpstreamConnectFailed; // its name has no address
                if tried.add(endpoint) {
                    continue;
                }
                return Err(last);
            };
            self.pool = Some(Rc::clone(pool));
            let deadlines = &self.shard.deadlines;
            let now_tick = deadlines.now_tick();
            let repeatable = self.is_repeatable();
            if !fresh_only && let Some(connection) = pool.checkout(repeatable, now_tick, stats) {
                return Ok((endpoint, connection));
            }
            let (within, tag) =
                timing.at_most(upstream.connect_timeout, tag::UPSTREAM, deadlines.now_tick());
            stats.upstream_connects.inc();
            match UpstreamConnection::connect(pool.address, within, deadlines).await {
                Ok(connection) => return Ok((endpoint, connection)),
                Err(Reason::UpstreamConnectTimeout) if tag == tag::ROUTE => {
                    return Err(Reason::RouteTimeout);
                }
                Err(reason) => last = reason,
            }
            stats.upstream_connect_failures.inc();
            if !tried.add(endpoint) || timing.is_over(self.shard.deadlines.now_tick()) {
                return Err(last);
            }
        }
    }

    /// One try. On success the connection has gone back to its pool, or was closed.
    async fn attempt(
        &mut self,
        route: &Route,
        upstream: &Upstream,
        endpoint: EndpointIndex,
        timing: Timing,
        slot: &mut Option<UpstreamConnection>,
    ) -> Result<Reuse, Reason> {
        self.write_head(route, upstream, endpoint);
        let Some(connection) = slot.as_mut() else { return Err(Reason::Internal) };
        let now_tick = self.shard.deadlines.now_tick();
        let upstream_fd = connection.socket.fd();
        let pool = upstream.pools.get(usize::from(endpoint.0)).copied().unwrap_or_default();
        let pin = Pin { route: route.key, pool };
        self.watch.enter(Phase::Exchange { upstream_fd, pin }, now_tick);
        let responded = self.converse(connection, timing).await;
        self.watch.enter(Phase::Busy, self.shard.deadlines.now_tick());
        match responded? {
            Responded::Whole { endpoint_reusable, client_keeps } => {
                if endpoint_reusable
                    && let Some(connection) = slot.take()
                    && let Some(pool) = self.pool.take()
                {
                    let keep = KeepLimits {
                        idle_max: upstream.pool_idle_max_per_core,
                        idle: upstream.pool_idle,
                        age_max: upstream.pool_age_max,
                    };
                    let Shard { buffers, deadlines, stats, .. } = self.shard;
                    pool.checkin(connection, keep, buffers, deadlines, stats);
                }
                Ok(match (client_keeps, self.upload.is_done.get()) {
                    (true, _) => Reuse::Keep,
                    (false, true) => Reuse::Close,
                    (false, false) => Reuse::Linger,
                })
            }
            Responded::Upgraded(early) => {
                let now_tick = self.shard.deadlines.now_tick();
                self.watch.enter(Phase::Tunnel { upstream_fd, pin }, now_tick);
                self.shard.doom_if_gone(self.watch, self.table, pin);
                let ends = tunnel::Ends {
                    shard: self.shard,
                    client: &self.client.socket,
                    client_input: self.client.input.take(),
                    endpoint: &connection.socket,
                    endpoint_input: early,
                };
                let moved = tunnel::run(ends).await;
                self.watch.enter(Phase::Busy, self.shard.deadlines.now_tick());
                self.upload.bytes.set(self.upload.bytes.get() + moved.up);
                self.progress.bytes += moved.down;
                Ok(Reuse::Close)
            }
        }
    }

    /// Writes the head for this endpoint into the context's `out`.
    fn write_head(&mut self, route: &Route, upstream: &Upstream, endpoint: EndpointIndex) {
        static PLAIN: RouteExtra = RouteExtra::PLAIN;
        let extra = route.extra.as_deref().unwrap_or(&PLAIN);
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
                    proto: b"http",
                    host: client_host,
                    forwarded: self.listener.forwarded,
                },
                max_forwards: context.head.max_forwards().map(|hops| hops.saturating_sub(1)),
                framing: context.head.framing(),
                close: false,
            },
        );
    }

    /// Sends the request and reads the response, side by side where the body is still on its way.
    async fn converse(
        &mut self,
        connection: &mut UpstreamConnection,
        timing: Timing,
    ) -> Result<Responded, Reason> {
        let Self { shard, client, watch, context, head_bytes, forwarded, upload, .. } = self;
        let shard = *shard;
        let head = &context.head;
        let framing = head.framing();
        let request = RequestFacts {
            method: head.method(),
            version: head.version(),
            upgrade: head.upgrade(),
            keep_alive: head.keep_alive(),
        };
        let has_body = !matches!(framing, Framing::Empty | Framing::Length(0));
        let copied = match &client.input {
            Some(input) if has_body && connection.reused => {
                copy_body(&input.data()[*head_bytes..], framing, &mut context.out)
            }
            _ => 0,
        };
        let stays = !has_body || copied > 0;
        upload.is_done.set(stays);
        upload.awaits_continue.set(head.expects_continue());
        connection.sent += context.out.len() as u64;
        let endpoint = &connection.socket;
        let respond = Respond {
            shard,
            endpoint,
            client: &client.socket,
            watch,
            timing,
            upload,
            request,
            response: &mut context.response,
            out: &mut context.response_out,
            decoder: &mut context.download,
            progress: &mut self.progress,
        };
        let ways = UploadWays {
            shard,
            client: &client.socket,
            endpoint,
            timing,
            state: upload,
            bytes_max: self.listener.limits.body_bytes_max,
        };
        if stays {
            // The request stays in the input: should the connection be dead, it is sent once more.
            ways.before_write();
            let sent = endpoint.send_bytes(&mut context.out).await;
            endpoint.write_without_deadline();
            if let Err(broken) = sent
                && !endpoint.has_input()
            {
                return Err(ways.write_failed(broken));
            }
            upload.bytes.set(copied as u64);
            let result = respond.run().await;
            if self.progress.status != 0 {
                take_sent(&mut client.input, *head_bytes + copied, forwarded);
            }
            return result;
        }
        take_sent(&mut client.input, *head_bytes, forwarded);
        let at_hand = client.input.as_ref().map_or(0, |buf| buf.len() as u64);
        let here = match framing {
            Framing::Length(length) if length <= at_hand => Some(length),
            _ => None,
        };
        let mut relay = Relay {
            shard,
            from: &client.socket,
            to: endpoint,
            input: &mut client.input,
            head: &mut context.out,
            source: Source::new(framing, &mut context.upload),
            sink: if framing == Framing::Chunked { Sink::Chunks } else { Sink::Plain },
            ways,
        };
        if let Some(length) = here {
            if let Err(reason) = relay.run().await {
                if !upload.endpoint_refused.get() {
                    return Err(reason);
                }
                // What was not sent must never be read as the next request: the upload stays
                // undone, which ends the client's connection.
                *relay.input = None;
                return respond.run().await;
            }
            connection.sent += length;
            upload.is_done.set(true);
            return respond.run().await;
        }
        side_by_side(relay, respond, upload, timing, shard).await
    }
}

/// Appends the body to the head in `out` if it is short and all of it has arrived. How many bytes
/// it has; 0 where it is sent the usual way.
fn copy_body(arrived: &[u8], framing: Framing, out: &mut Vec<u8>) -> usize {
    let Framing::Length(length) = framing else { return 0 };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    match arrived.get(..length) {
        Some(body) if length <= limits::REPLAY_BYTES_MAX => {
            out.extend_from_slice(body);
            length
        }
        _ => 0,
    }
}

/// Takes what was sent off the client's input: it can't be sent again.
fn take_sent(input: &mut Option<Buf>, bytes: usize, forwarded: &mut bool) {
    *forwarded = true;
    if let Some(buf) = input {
        buf.consume(bytes);
        if buf.is_empty() {
            *input = None;
        }
    }
}

/// Uploads and responds at the same time. The one that fails ends the other: both sockets are given
/// up then, so that dropping what was under way loses nothing anybody could use.
async fn side_by_side(
    mut relay: Relay<'_, UploadWays<'_>>,
    respond: Respond<'_>,
    upload: &UploadState,
    timing: Timing,
    shard: &Shard,
) -> Result<Responded, Reason> {
    let endpoint = respond.endpoint;
    let mut sending = pin!(relay.run());
    let mut responding = pin!(respond.run());
    match race(sending.as_mut(), responding.as_mut()).await {
        Either::Right(result) => result,
        Either::Left(Ok(())) => {
            upload.is_done.set(true);
            if upload.head_is_awaited.get() {
                let now_tick = shard.deadlines.now_tick();
                let (after, tag) = timing.at_most(timing.upstream, tag::UPSTREAM, now_tick);
                endpoint.read_within(after, tag); // its turn to speak begins now
            }
            responding.await
        }
        // It would not take the rest, and may be telling why: an early answer is an answer.
        Either::Left(Err(_)) if upload.endpoint_refused.get() => responding.await,
        Either::Left(Err(reason)) => Err(reason),
    }
}
