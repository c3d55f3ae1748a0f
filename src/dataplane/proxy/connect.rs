//! Which endpoint a request goes to, and a connection there.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Instant};

use super::{
    exchange::Exchange,
    guard::{self, Admitted, Usable},
    links::connect_stream,
    timing::tag,
};
use crate::{
    base::{ids::EndpointIndex, limits, reason::Reason},
    dataplane::{
        shard::{UpstreamState, Wish},
        socket::HandshakeEnd,
        upstream::{Permit, TlsWish, UpstreamConnection},
    },
    proto::h1::Framing,
    rt,
    snapshot::Upstream,
    tls::{ClientTls, pki_types::ServerName},
};

/// The endpoints where this request failed, the latest last.
pub(super) struct Tried {
    endpoints: [EndpointIndex; TRIED_MAX],
    count: u8,
}

/// How many endpoints are remembered; with more the first are forgotten.
const TRIED_MAX: usize = limits::CONNECT_TRIES_MAX + limits::RETRY_ATTEMPTS_MAX;

impl Default for Tried {
    fn default() -> Self {
        Self { endpoints: [EndpointIndex(u16::MAX); TRIED_MAX], count: 0 }
    }
}

impl Tried {
    /// Notes an endpoint that failed.
    pub(super) fn failed(&mut self, endpoint: EndpointIndex) {
        if self.count() == TRIED_MAX {
            self.endpoints.copy_within(1.., 0);
            self.count -= 1;
        }
        self.endpoints[self.count()] = endpoint;
        self.count += 1;
    }

    /// All of them.
    pub(super) fn all(&self) -> &[EndpointIndex] {
        self.after(0)
    }

    /// Forgets the one that was noted last.
    pub(super) fn forgive(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// All but the first `skip`.
    fn after(&self, skip: usize) -> &[EndpointIndex] {
        &self.endpoints[skip.min(self.count())..self.count()]
    }

    fn count(&self) -> usize {
        usize::from(self.count)
    }
}

/// How TLS is spoken with an endpoint, if it is.
pub(super) fn tls_of(
    upstream: &Upstream,
    endpoint: EndpointIndex,
) -> Option<(&ClientTls, &ServerName<'static>)> {
    let name = upstream.endpoints.get(usize::from(endpoint.0))?.tls_name.as_ref()?;
    Some((upstream.tls.as_deref()?, name))
}

const _: () = assert!(TRIED_MAX <= u8::MAX as usize);

/// An endpoint there is a connection to, and leave to use it.
pub(super) struct Connected {
    pub(super) endpoint: EndpointIndex,
    pub(super) admitted: Admitted,
    /// When the endpoint was chosen.
    pub(super) began: Instant,
}

/// What came free where connections are limited.
#[derive(Default)]
struct Freed {
    /// An endpoint there is an unused connection to.
    endpoint: Option<EndpointIndex>,
    /// Leave to open one.
    permit: Cell<Option<Permit>>,
}

impl Exchange<'_> {
    /// A connection to an endpoint: pooled if there is one, else new. Endpoints that do not accept
    /// one are passed over, within bounds: nothing of the request has been sent.
    pub(super) async fn connect(&mut self, upstream: &Arc<Upstream>) -> Result<Connected, Reason> {
        let state = self.shard.upstreams.state(upstream);
        let stats = &self.shard.stats;
        let behalf = upstream.proxy_protocol.map(|version| Box::new(self.client.behalf(version)));
        let mut freed = Freed::default();
        let mut refused = 0; // of those in `tried`, the last ones
        let mut last = Reason::NoEndpoint;
        loop {
            let usable = Usable::new(upstream, &state, self.shard);
            let Some(endpoint) = self.pick(&usable, &state, refused, freed.endpoint) else {
                if last == Reason::NoEndpoint {
                    (last, self.retry_after_ms) = usable.refusal(self.shard);
                }
                return Err(last);
            };
            let Some(admitted) = usable.admit(endpoint) else {
                self.tried.failed(endpoint); // others took the trials it had
                refused += 1;
                if refused < limits::CONNECT_TRIES_MAX {
                    continue;
                }
                return Err(usable.refusal(self.shard).0);
            };
            let began = rt::turn_time();
            self.record.endpoint = Some(endpoint);
            self.lease = Some(Rc::clone(&state).lease(endpoint));
            let Some(pool) = state.pool(endpoint) else {
                last = Reason::UpstreamConnectFailed; // its name has no address
                self.tried.failed(endpoint);
                refused += 1;
                if refused < limits::CONNECT_TRIES_MAX {
                    continue;
                }
                return Err(last);
            };
            self.pool = Some(Rc::clone(pool));
            let deadlines = &self.shard.deadlines;
            let now_tick = deadlines.now_tick();
            let repeatable = self.is_repeatable();
            if upstream.http2 {
                if let Some(stream) = pool.links.try_stream() {
                    let connection = UpstreamConnection::of_stream(stream, deadlines);
                    self.connection = Some(Box::new(connection));
                    return Ok(Connected { endpoint, admitted, began });
                }
            } else if !self.fresh_only {
                self.connection = match &behalf {
                    None => pool.checkout(repeatable, now_tick, stats),
                    Some(behalf) => pool.checkout_for(behalf, now_tick, stats),
                };
                if self.connection.is_some() {
                    return Ok(Connected { endpoint, admitted, began });
                }
            }
            let (within, tag) = self.timing.of_try(upstream.connect_timeout, deadlines.now_tick());
            let failed = |end: &HandshakeEnd| self.shard.note_tls_failure(upstream, endpoint, end);
            let buffers = &self.shard.buffers;
            let tls = tls_of(upstream, endpoint);
            let tls = tls.map(|(tls, name)| TlsWish { tls, name, buffers, failed: &failed });
            let permit = || match freed.permit.take() {
                None => state.permit(upstream),
                permit => Ok(permit),
            };
            let connected = if upstream.http2 {
                // Boxed: requests over HTTP/1 do not carry its room.
                Box::pin(connect_stream(self.shard, pool, upstream, tls, within, &permit)).await
            } else {
                match permit() {
                    Ok(permit) => {
                        stats.upstream_connects.inc();
                        let (address, behalf) = (pool.address, behalf.as_deref());
                        UpstreamConnection::connect(address, within, deadlines, behalf, tls)
                            .await
                            .map(|made| made.with_permit(permit))
                    }
                    Err(_) => Err(Reason::UpstreamOverloaded),
                }
            };
            match connected {
                Ok(connection) => {
                    self.connection = Some(Box::new(connection));
                    return Ok(Connected { endpoint, admitted, began });
                }
                Err(Reason::UpstreamOverloaded) => {
                    // Nothing is wrong with the endpoint: there are as many connections as may be.
                    let full = Err(Reason::UpstreamOverloaded);
                    self.learn(upstream, endpoint, admitted, began, &full);
                    (self.lease, self.pool) = (None, None);
                    // Boxed: it is rare.
                    freed = Box::pin(self.await_connection(upstream, &state)).await?;
                    continue;
                }
                Err(Reason::UpstreamConnectTimeout) if tag == tag::ROUTE => {
                    self.learn(upstream, endpoint, admitted, began, &Err(last));
                    return Err(Reason::RouteTimeout);
                }
                Err(reason) => last = reason,
            }
            stats.upstream_connect_failures.inc();
            self.learn(upstream, endpoint, admitted, began, &Err(last));
            self.tried.failed(endpoint);
            refused += 1;
            let is_over = self.timing.is_over(self.shard.deadlines.now_tick());
            if refused == limits::CONNECT_TRIES_MAX || is_over {
                return Err(last);
            }
        }
    }

    /// Gets a connection where there are as many as may be: one that is unused, to whichever endpoint,
    /// or leave to open one. Waits if need be.
    ///
    /// # Errors
    /// When there is none in time, or too many wait.
    #[cold]
    async fn await_connection(
        &mut self,
        upstream: &Arc<Upstream>,
        state: &UpstreamState,
    ) -> Result<Freed, Reason> {
        let is_bound = self.affinity.is_bound() || upstream.proxy_protocol.is_some();
        let may_be_used = !is_bound && !self.fresh_only && self.is_repeatable();
        let get = || {
            let usable = Usable::new(upstream, state, self.shard);
            let may = |one| usable.allows(one) && !self.tried.all().contains(&one);
            if may_be_used && let Some(endpoint) = state.connected(may) {
                return Some(Freed { endpoint: Some(endpoint), ..Freed::default() });
            }
            let permit = state.permit_or_close(upstream, &self.shard.stats);
            permit.map(|permit| Freed { permit: Some(permit).into(), ..Freed::default() })
        };
        let route = self.record.route.map(|route| self.table.snapshot.route(route));
        let importance = route.and_then(|route| route.extra.as_deref()).map(|it| it.importance);
        let importance = importance.unwrap_or_default();
        let freed = guard::connection(self.shard, upstream, state, importance, get).await;
        if freed.is_err() {
            self.retry_after_ms = Some(1_000);
        }
        freed
    }

    /// Whether there is an endpoint that was not tried yet.
    pub(super) fn has_another(&self, upstream: &Upstream) -> bool {
        let state = self.shard.upstreams.state(upstream);
        let usable = Usable::new(upstream, &state, self.shard);
        let is_new = |at: &usize| !self.tried.all().contains(&EndpointIndex(*at as u16));
        (0..upstream.endpoints.len())
            .filter(is_new)
            .any(|at| upstream.endpoints[at].weight > 0 && usable.allows(EndpointIndex(at as u16)))
    }

    /// The endpoint for the next try: one where nothing failed yet, else any but the last that
    /// failed, else any but those that refused just now.
    fn pick(
        &self,
        usable: &Usable<'_>,
        state: &UpstreamState,
        refused: usize,
        connected: Option<EndpointIndex>,
    ) -> Option<EndpointIndex> {
        let pick = |avoid: &[EndpointIndex]| {
            let mut wish = Wish { avoid, ..self.affinity.wish() };
            wish.sticky = connected.or(wish.sticky);
            usable.pick(state, wish, self.shard.random())
        };
        let tried = &self.tried;
        let before = tried.count() - refused;
        let picked = pick(tried.after(0));
        if picked.is_some() || before == 0 {
            return picked;
        }
        pick(tried.after(before - 1)).or_else(|| pick(tried.after(before)))
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
}
