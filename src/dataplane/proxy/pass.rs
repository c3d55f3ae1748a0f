//! One connection of a listener with `mode = "tcp"`: the name that its client asks for in a TLS
//! ClientHello decides about the route, and all bytes go on as they are.
//!
//! Rules are looked at twice: for how long the hello may take, and, when it is there, for the route.
//! A connection that is passed through holds none of them: it may last for days.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use super::{
    connect::Tried,
    exchange::Reuse,
    finish::{self, Passed},
    guard::{self, Usable},
    timing::tag,
    tunnel,
};
use crate::{
    base::{
        ids::{EndpointIndex, RouteKey, StatsSlot},
        limits,
        reason::Reason,
    },
    dataplane::{
        downstream::Downstream,
        shard::{Lease, Phase, Pin, Shard, Watch, Wish},
        socket::Broken,
        upstream::UpstreamConnection,
    },
    policy::{balance::hash_address, key::RequestKey, overload::Importance},
    rt::{self, Buf},
    snapshot::Upstream,
    tls::hello::{Hello, Look},
};

/// A connection, and what is known of it so far.
struct Passage<'a> {
    shard: &'a Rc<Shard>,
    client: &'a mut Downstream,
    watch: &'a Watch,
    passed: Passed,
}

/// Where a connection goes.
struct Chosen {
    stats: StatsSlot,
    key: RouteKey,
    upstream: Arc<Upstream>,
    importance: Importance,
    idle: Duration,
}

/// A connection to an endpoint, counted as long as it lasts.
struct Connected {
    endpoint: EndpointIndex,
    connection: UpstreamConnection,
    _lease: Lease,
}

/// Why a connection is not passed on.
enum Refusal {
    /// For this reason, which is counted and logged.
    Reason(Reason),
    /// Its client has left before it said anything.
    Silent,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::Reason(reason)
    }
}

/// Passes a connection through until it ends.
///
/// # Cancel safety
/// Not cancel safe: both connections are of no use afterwards.
pub(super) async fn serve(shard: &Rc<Shard>, client: &mut Downstream, watch: &Watch) -> Reuse {
    let mut passage = Passage { shard, client, watch, passed: Passed::begin() };
    let result = passage.run().await;
    passage.watch.enter(Phase::Busy, shard.deadlines.now_tick());
    match result {
        Ok(()) => finish::passed(shard, passage.client, &passage.passed),
        Err(Refusal::Reason(reason)) => {
            passage.passed.reason = Some(reason);
            finish::passed(shard, passage.client, &passage.passed);
        }
        Err(Refusal::Silent) => {}
    }
    // What was cut must not look whole.
    match passage.passed.is_cut {
        true => Reuse::Reset,
        false => Reuse::Close,
    }
}

impl Passage<'_> {
    async fn run(&mut self) -> Result<(), Refusal> {
        self.look().await?;
        let chosen = self.choose()?;
        let (upstream, stats) = (Arc::clone(&chosen.upstream), &self.shard.stats);
        self.passed.route_stats = Some(chosen.stats);
        stats.route(chosen.stats).tcp().begin();
        let _place = guard::place(self.shard, &upstream, chosen.importance).await?;
        let leave = guard::pass(self.shard, &upstream).map_err(|_| Reason::CircuitOpen)?;
        let connected = self.connect(&upstream, chosen.importance).await;
        if let Some(leave) = leave {
            guard::tell(self.shard, &upstream, leave, connected.as_ref().err().copied());
        }
        let connected = connected?;
        self.relay(&chosen, &connected).await;
        Ok(())
    }

    /// Reads as much of the client's first bytes as it takes to know the name it asks for, if that
    /// matters to some route of its listener.
    async fn look(&mut self) -> Result<(), Refusal> {
        let within = {
            let table = self.shard.table_for(self.client.listener).ok_or(Refusal::Silent)?;
            let (index, rules) = table.listener(self.client.listener).ok_or(Refusal::Silent)?;
            if !table.snapshot.table.asks_for_names(index) {
                return Ok(());
            }
            rules.limits.header_timeout
        };
        self.enter(if self.client.input.is_none() { Phase::Idle } else { Phase::Busy });
        self.client.socket.read_within(within, tag::CLIENT);
        let mut look = Look::default();
        let name = loop {
            match look.look(self.client.input_bytes()) {
                Hello::Whole(asked) => break asked.name,
                Hello::Http | Hello::Other(_) => break None,
                Hello::Partial => {}
            }
            if let Some(buf) = &mut self.client.input
                && buf.spare() == 0
            {
                buf.compact();
                if buf.spare() == 0 && !buf.enlarge() {
                    break None; // no hello is that long
                }
            }
            match self.client.socket.fill(&mut self.client.input, &self.shard.buffers).await {
                Ok(0) => return Err(Refusal::Silent),
                Ok(_) => self.enter(Phase::Busy),
                Err(Broken::Deadline(_)) => return Err(Reason::HeaderTimeout.into()),
                Err(Broken::NoBuffer) => return Err(Reason::Overloaded.into()),
                Err(Broken::Reset) => return Err(Refusal::Silent),
            }
        };
        self.client.socket.read_without_deadline();
        self.passed.name = name;
        Ok(())
    }

    /// The route, by the rules of this moment.
    fn choose(&mut self) -> Result<Chosen, Refusal> {
        self.enter(Phase::Busy);
        let table = self.shard.table_for(self.client.listener).ok_or(Refusal::Silent)?;
        let (index, listener) = table.listener(self.client.listener).ok_or(Refusal::Silent)?;
        self.passed.listener = listener.name.clone();
        let name = self.passed.name.as_deref().unwrap_or_default();
        let found = table.snapshot.table.find_name(index, name).ok_or(Reason::NoRoute)?;
        let route = table.snapshot.route(found);
        let upstream = table.snapshot.shared_upstream(route.upstream);
        self.passed.route = Some(Arc::clone(&route.id));
        self.passed.upstream = Some(upstream.name.clone());
        Ok(Chosen {
            stats: route.stats,
            key: route.key,
            upstream: Arc::clone(upstream),
            importance: route.extra.as_ref().map_or(Importance::Normal, |extra| extra.importance),
            idle: listener.limits.idle_timeout,
        })
    }

    /// Connects to an endpoint. Those that do not accept are passed over, within bounds.
    async fn connect(
        &mut self,
        upstream: &Arc<Upstream>,
        importance: Importance,
    ) -> Result<Connected, Reason> {
        let Shard { upstreams, stats, deadlines, .. } = &**self.shard;
        let state = upstreams.state(upstream);
        let by_address = matches!(upstream.key, Some(RequestKey::Ip));
        let key = by_address.then(|| hash_address(self.client.peer.ip()));
        let behalf = upstream.proxy_protocol.map(|version| self.client.behalf(version));
        let mut permit = match state.permit(upstream) {
            Ok(permit) => permit,
            Err(_) => {
                let get = || state.permit_or_close(upstream, stats);
                Some(guard::connection(self.shard, upstream, &state, importance, get).await?)
            }
        };
        let mut tried = Tried::default();
        let mut last = Reason::NoEndpoint;
        for _ in 0..limits::CONNECT_TRIES_MAX {
            let usable = Usable::new(upstream, &state, self.shard);
            let wish = Wish { key, sticky: None, avoid: tried.all() };
            let Some(endpoint) = usable.pick(&state, wish, self.shard.random()) else {
                return Err(if last == Reason::NoEndpoint {
                    usable.refusal(self.shard).0
                } else {
                    last
                });
            };
            tried.failed(endpoint); // or it is not looked at again
            let Some(admitted) = usable.admit(endpoint) else { continue };
            let began = rt::turn_time();
            let of = upstream.endpoints.get(usize::from(endpoint.0));
            self.passed.endpoint = of.map(|one| one.authority.clone());
            let lease = Rc::clone(&state).lease(endpoint);
            let address: Option<SocketAddr> = state.pool(endpoint).map(|pool| pool.address);
            let connected = match address {
                None => Err(Reason::UpstreamConnectFailed), // its name has no address
                Some(address) => {
                    stats.upstream_connects.inc();
                    let within = upstream.connect_timeout;
                    let behalf = behalf.as_ref();
                    UpstreamConnection::connect(address, within, deadlines, behalf, None)
                        .await
                        .map(|made| made.with_permit(permit.take()))
                }
            };
            let failure = connected.as_ref().err().copied();
            guard::learn(self.shard, upstream, endpoint, admitted, began, failure);
            match connected {
                Ok(connection) => return Ok(Connected { endpoint, connection, _lease: lease }),
                Err(reason) => last = reason,
            }
            stats.upstream_connect_failures.inc();
        }
        Err(last)
    }

    /// Moves bytes both ways until the end.
    async fn relay(&mut self, chosen: &Chosen, connected: &Connected) {
        let endpoint = &connected.connection.socket;
        let pools = &chosen.upstream.pools;
        let pool = pools.get(usize::from(connected.endpoint.0)).copied().unwrap_or_default();
        let pin = Pin { route: chosen.key, pool };
        self.enter(Phase::Tunnel { upstream: endpoint.handle(), pin });
        self.shard.doom_if_gone(self.watch, None, pin);
        let client_input: Option<Buf> = self.client.input.take();
        let ends = tunnel::Ends {
            shard: self.shard,
            client: &self.client.socket,
            client_input,
            endpoint,
            endpoint_input: None,
            idle: chosen.idle,
        };
        let moved = tunnel::run(ends).await;
        if moved.is_cut {
            endpoint.reset_on_close();
        }
        self.passed.bytes_in = moved.up;
        self.passed.bytes_out = moved.down;
        self.passed.is_cut = moved.is_cut;
    }

    fn enter(&self, phase: Phase) {
        self.watch.enter(phase, self.shard.deadlines.now_tick());
    }
}
