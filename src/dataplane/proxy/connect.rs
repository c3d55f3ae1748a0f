//! Which endpoint a request goes to, and a connection there.

use std::rc::Rc;

use super::{
    exchange::Exchange,
    timing::{Timing, tag},
};
use crate::{
    base::{ids::EndpointIndex, limits, reason::Reason},
    dataplane::upstream::UpstreamConnection,
    proto::h1::Framing,
    snapshot::Upstream,
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
    /// A connection to an endpoint: pooled if there is one, else new. Endpoints that do not accept
    /// one are passed over, within bounds: nothing of the request has been sent.
    pub(super) async fn connect(
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
