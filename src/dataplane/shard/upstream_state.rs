//! What one core keeps for one upstream: whose turn it is, what it counted of the endpoints, and its pools.
//!
//! [`Upstreams`](super::Upstreams) makes one when a request first needs it, and says when it ends.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use super::tally::Tally;
use crate::{
    base::ids::EndpointIndex,
    dataplane::upstream::{EndpointPool, Full, Permit, Permits, Waiting},
    policy::{
        balance::{Ask, Balancer, KeyHash, Load, Standing, Viewer},
        hedge::Latencies,
        outlier::{self, Seen},
    },
    snapshot::{
        Endpoint, Upstream,
        cells::{Counts, EndpointCell, Health},
    },
    telemetry::CoreStats,
};

/// What this core keeps for one upstream.
pub struct UpstreamState {
    balancer: RefCell<Balancer>,
    /// What was seen of it since the last tick.
    pub tally: Tally,
    /// How long it takes to its first byte; kept up only for routes with `hedge`.
    pub latencies: Latencies,
    /// Those who wait on this core for a place among its requests in flight.
    pub waiting: Rc<Waiting>,
    /// Leave to have connections, where their number is limited.
    pub permits: Option<Rc<Permits>>,
    /// Whether too many endpoints can't be used, and as of when.
    panic: Cell<(u64, bool)>,
    /// Whether there was panic when the balancer looked at the endpoints.
    rotated_in_panic: Cell<bool>,
    pub(super) pools: Box<[Option<Rc<EndpointPool>>]>,
    counts: Box<[Count]>,
    /// Whether its counts are among those to be told of at the next tick.
    is_due: Cell<bool>,
    due: Due,
    /// Whether requests in flight are counted for all cores to see.
    shares_load: bool,
}

/// What this core has counted of one endpoint since the last tick.
struct Count {
    begun: Cell<u32>,
    ended: Cell<u32>,
    failed: Cell<u32>,
    retried: Cell<u32>,
    /// What verdicts are made of, where the upstream has rules for them.
    seen: Cell<Seen>,
    cell: Arc<EndpointCell>,
}

impl Count {
    fn of(endpoint: &Endpoint) -> Self {
        Self {
            begun: Cell::default(),
            ended: Cell::default(),
            failed: Cell::default(),
            retried: Cell::default(),
            seen: Cell::default(),
            cell: Arc::clone(&endpoint.cell),
        }
    }

    /// Adds it to what all cores know.
    fn tell(&self) {
        let (begun, ended) = (self.begun.take(), self.ended.take());
        if begun != 0 || ended != 0 {
            let (failed, retried) = (self.failed.take(), self.retried.take());
            self.cell.add_counts(Counts {
                begun: begun.into(),
                ended: ended.into(),
                failed: failed.into(),
                retried: retried.into(),
            });
        }
    }
}

/// One more.
fn count_one(count: &Cell<u32>) {
    count.set(count.get().wrapping_add(1));
}

/// Upstreams that have something to tell at the next tick.
pub(super) type Due = Rc<RefCell<Vec<Rc<UpstreamState>>>>;

impl UpstreamState {
    /// Nothing seen yet. `core` is where its balancer begins, which sees the endpoints as `viewer`;
    /// `pools` are in the order of the endpoints; `due` is told of at each tick.
    pub(super) fn new(
        upstream: &Upstream,
        core: u32,
        viewer: Viewer,
        pools: Box<[Option<Rc<EndpointPool>>]>,
        due: Due,
    ) -> Self {
        let is_limited =
            upstream.guards.as_deref().is_some_and(|it| it.connections_max().is_some());
        let permits = is_limited.then(|| Permits::new(&upstream.cell, viewer.core, viewer.cores));
        Self {
            balancer: RefCell::new(Balancer::among(&upstream.strategy, core, viewer)),
            tally: Tally::default(),
            latencies: Latencies::default(),
            waiting: Rc::default(),
            permits,
            panic: Cell::default(),
            rotated_in_panic: Cell::new(false),
            pools,
            counts: upstream.endpoints.iter().map(Count::of).collect(),
            is_due: Cell::new(false),
            due,
            shares_load: upstream.strategy.needs_load(),
        }
    }

    /// The pool of an endpoint; none while its name has no address.
    pub fn pool(&self, endpoint: EndpointIndex) -> Option<&Rc<EndpointPool>> {
        self.pools.get(usize::from(endpoint.0))?.as_ref()
    }

    /// The endpoint for a request; none if there is none that may be picked and that is not in
    /// `avoid`. Neither allocates nor waits, but that a change of the endpoints is looked at here.
    pub fn pick(
        &self,
        upstream: &Upstream,
        wish: Wish<'_>,
        random: u64,
        now: Now<impl Fn(EndpointIndex) -> bool>,
    ) -> Option<EndpointIndex> {
        let mut balancer = self.balancer.borrow_mut();
        let is_current = balancer.is_current(upstream.cell.epoch(), now.ms)
            && self.rotated_in_panic.get() == now.is_panic;
        if !is_current {
            self.refresh(&mut balancer, upstream, &now);
        }
        let picked = Self::pick_in(&mut balancer, upstream, wish, random, now.ms);
        if picked.is_none_or(|endpoint| (now.allows)(endpoint)) {
            return picked;
        }
        // Its breaker has opened since.
        self.refresh(&mut balancer, upstream, &now);
        Self::pick_in(&mut balancer, upstream, wish, random, now.ms)
    }

    #[cold]
    fn refresh(
        &self,
        balancer: &mut Balancer,
        upstream: &Upstream,
        now: &Now<impl Fn(EndpointIndex) -> bool>,
    ) {
        // Read before what it stands for, so that no change is missed.
        let epoch = upstream.cell.epoch();
        self.rotated_in_panic.set(now.is_panic);
        let standings =
            upstream.endpoints.iter().enumerate().map(|(index, one)| {
                standing(one, now.ms, (now.allows)(EndpointIndex(index as u16)))
            });
        balancer.refresh(upstream.rules, standings, epoch, now.ms);
    }

    fn pick_in(
        balancer: &mut Balancer,
        upstream: &Upstream,
        wish: Wish<'_>,
        random: u64,
        now_ms: u64,
    ) -> Option<EndpointIndex> {
        if let Some(sticky) = wish.sticky
            && balancer.rotation().contains(sticky)
            && !wish.avoid.contains(&sticky)
        {
            return Some(sticky);
        }
        let load = Loads { upstream, now_ms };
        balancer.pick(&Ask { random, key: wish.key, avoid: wish.avoid, load: &load })
    }

    /// Leave to open a connection, where that is limited.
    ///
    /// # Errors
    /// There is none now.
    pub fn permit(&self, upstream: &Upstream) -> Result<Option<Permit>, Full> {
        let Some(permits) = &self.permits else { return Ok(None) };
        let rule = upstream.guards.as_deref().and_then(|guards| guards.overload.as_ref());
        rule.map_or(Ok(None), |rule| permits.take(rule).map(Some).ok_or(Full::Queue))
    }

    /// The same, if need be in the place of a connection that nobody uses.
    pub fn permit_or_close(&self, upstream: &Upstream, stats: &CoreStats) -> Option<Permit> {
        let take = || self.permit(upstream).ok().flatten();
        take().or_else(|| if self.close_unused(stats) { take() } else { None })
    }

    /// Closes an unused connection to one of the endpoints, if there is one.
    pub fn close_unused(&self, stats: &CoreStats) -> bool {
        self.pools.iter().flatten().any(|pool| pool.close_unused(stats))
    }

    /// An endpoint that a request can be sent to at once, over a connection there is.
    pub fn connected(&self, may: impl Fn(EndpointIndex) -> bool) -> Option<EndpointIndex> {
        let all = self.pools.iter().enumerate();
        let is_connected = |pool: &EndpointPool| pool.idle_count() > 0 || pool.links.has_room();
        all.filter(|(_, pool)| pool.as_deref().is_some_and(is_connected))
            .map(|(index, _)| EndpointIndex(index as u16))
            .find(|endpoint| may(*endpoint))
    }

    /// A request goes to an endpoint, until the lease is dropped.
    pub fn lease(self: Rc<Self>, endpoint: EndpointIndex) -> Lease {
        if let Some(count) = self.count(endpoint) {
            count_one(&count.begun);
            if self.shares_load {
                count.cell.begin();
            }
        }
        Lease { state: self, endpoint }
    }

    fn count(&self, endpoint: EndpointIndex) -> Option<&Count> {
        self.counts.get(usize::from(endpoint.0))
    }

    /// Adds what was counted since the last tick to what all cores know.
    pub(super) fn tell(&self) {
        self.is_due.set(false);
        self.counts.iter().for_each(Count::tell);
    }

    /// A try of an endpoint ended, `micros` to its response head or its failure.
    pub fn note_seen(&self, endpoint: EndpointIndex, is_error: bool, micros: u64) {
        if let Some(count) = self.count(endpoint) {
            let mut seen = count.seen.get();
            seen.note(is_error, micros);
            count.seen.set(seen);
        }
    }

    /// What was seen of each endpoint since the last tick, in the order of the endpoints.
    pub(super) fn take_seen(&self) -> impl Iterator<Item = Seen> {
        self.counts.iter().map(|count| count.seen.take())
    }

    /// Whether so many endpoints can't be used that it must not matter. Looked up once per tick.
    pub fn is_panic(&self, upstream: &Upstream, now_ms: u64) -> bool {
        let (known_ms, is_panic) = self.panic.get();
        if known_ms == now_ms {
            return is_panic;
        }
        let rule = upstream.guards.as_deref().and_then(|guards| guards.passive.as_ref());
        let unusable = || {
            let cells = upstream.endpoints.iter().map(|endpoint| &endpoint.cell);
            cells.filter(|cell| !cell.is_available(now_ms) || cell.is_on_trial()).count()
        };
        let count = upstream.endpoints.len();
        let is_panic = rule.is_some_and(|rule| outlier::is_panic(rule, count, unusable()));
        self.panic.set((now_ms, is_panic));
        is_panic
    }
}

/// Which endpoints may be picked now.
pub struct Now<F> {
    /// Milliseconds of the shard's clock.
    pub ms: u64,
    /// Whether so many can't be used that ejections don't count.
    pub is_panic: bool,
    /// Whether one may be.
    pub allows: F,
}

/// What a request wants of an endpoint.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    /// What it is known by.
    pub key: Option<KeyHash>,
    /// The endpoint its client was given before.
    pub sticky: Option<EndpointIndex>,
    /// Endpoints tried for it already.
    pub avoid: &'a [EndpointIndex],
}

/// One request that is with an endpoint.
pub struct Lease {
    state: Rc<UpstreamState>,
    endpoint: EndpointIndex,
}

impl Lease {
    /// Notes how long the endpoint took to answer.
    pub fn learn_latency(&self, micros: u64, now_ms: u64) {
        if self.state.shares_load
            && let Some(count) = self.state.count(self.endpoint)
        {
            count.cell.learn_latency(u32::try_from(micros).unwrap_or(u32::MAX), now_ms);
        }
    }

    /// Notes that it is with the endpoint because an earlier try of it failed.
    pub fn note_retry(&self) {
        if let Some(count) = self.state.count(self.endpoint) {
            count_one(&count.retried);
        }
    }

    /// Notes that the endpoint failed it.
    pub fn note_failure(&self) {
        if let Some(count) = self.state.count(self.endpoint) {
            count_one(&count.failed);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(count) = self.state.count(self.endpoint) else { return };
        count_one(&count.ended);
        if self.state.shares_load {
            count.cell.end();
        }
        // Once per tick: the list keeps its room.
        if !self.state.is_due.replace(true) {
            self.state.due.borrow_mut().push(Rc::clone(&self.state));
        }
    }
}

/// The load of an upstream's endpoints, as all cores see it.
struct Loads<'a> {
    upstream: &'a Upstream,
    now_ms: u64,
}

impl Loads<'_> {
    fn cell(&self, endpoint: EndpointIndex) -> Option<&EndpointCell> {
        self.upstream.endpoints.get(usize::from(endpoint.0)).map(|one| &*one.cell)
    }
}

impl Load for Loads<'_> {
    fn in_flight(&self, endpoint: EndpointIndex) -> u32 {
        self.cell(endpoint).map_or(0, EndpointCell::in_flight)
    }

    fn in_flight_total(&self) -> u32 {
        self.upstream.cell.in_flight()
    }

    fn latency_us(&self, endpoint: EndpointIndex) -> Option<u32> {
        self.cell(endpoint)?.latency_us(self.now_ms)
    }
}

fn standing(endpoint: &Endpoint, now_ms: u64, is_allowed: bool) -> Standing {
    let cell = &endpoint.cell;
    let until_ms = cell.ejected_until_ms();
    let is_up = cell.health() == Health::Up;
    Standing {
        weight: endpoint.weight,
        level: endpoint.level,
        is_available: is_allowed,
        available_at_ms: match (is_up, until_ms > now_ms) {
            (false, _) => u64::MAX,
            (true, true) => until_ms,
            (true, false) => now_ms + 1, // its breaker is open: to be asked again at the next tick
        },
        up_since_ms: cell.up_since_ms(now_ms),
    }
}
