//! What one core keeps for each upstream from version to version: whose turn it is, what it counted of
//! the endpoints, and unused connections. Made when a request first needs it, so that upstreams nobody asks for cost nothing.
//!
//! Everything has its place by [`Identity`], given out by the control plane. New rules touch only what
//! they end ([`Upstreams::retire`]). A request that began under older rules may ask for what is
//! gone: it gets a state of its own, which nobody else sees and which ends with it.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
};

use super::tally::Tally;
use crate::{
    base::ids::{EndpointIndex, Identity},
    dataplane::upstream::{EndpointPool, Full, Links, Permit, Permits, Waiting},
    policy::{
        balance::{Ask, Balancer, KeyHash, Load, Standing, Viewer},
        hedge::Latencies,
        outlier::{self, Seen},
    },
    rt::Deadlines,
    snapshot::{
        Endpoint, Upstream,
        cells::{Counts, EndpointCell, Health},
        messages::Gone,
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
    pools: Box<[Option<Rc<EndpointPool>>]>,
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
type Due = Rc<RefCell<Vec<Rc<UpstreamState>>>>;

impl UpstreamState {
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
    fn tell(&self) {
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

impl UpstreamState {
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

/// A place, and the least generation that may still be kept there.
struct Slot<T> {
    generation: u32,
    value: Option<Rc<T>>,
}

/// Values by identity.
struct Slots<T> {
    slots: RefCell<Vec<Slot<T>>>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: RefCell::default() }
    }
}

/// How a place answers.
enum Kept<T> {
    /// It is there.
    Here(Rc<T>),
    /// It may be put there.
    Missing,
    /// Its time is over.
    Gone,
}

impl<T> Slots<T> {
    fn get(&self, identity: Identity) -> Kept<T> {
        let slots = self.slots.borrow();
        let Some(slot) = slots.get(identity.place as usize) else { return Kept::Missing };
        match &slot.value {
            _ if slot.generation > identity.generation => Kept::Gone,
            Some(value) if slot.generation == identity.generation => Kept::Here(Rc::clone(value)),
            _ => Kept::Missing,
        }
    }

    /// Puts a value in its place and returns who was there before.
    fn put(&self, identity: Identity, value: &Rc<T>) -> Option<Rc<T>> {
        let slot = Slot { generation: identity.generation, value: Some(Rc::clone(value)) };
        self.replace(identity.place, slot)
    }

    /// Ends a value: nothing of this generation is kept from now on.
    fn end(&self, identity: Identity) -> Option<Rc<T>> {
        match self.get(identity) {
            Kept::Gone => None,
            _ => {
                let generation = identity.generation.saturating_add(1);
                self.replace(identity.place, Slot { generation, value: None })
            }
        }
    }

    fn replace(&self, place: u32, slot: Slot<T>) -> Option<Rc<T>> {
        let mut slots = self.slots.borrow_mut();
        let place = place as usize;
        if slots.len() <= place {
            slots.resize_with(place + 1, || Slot { generation: 0, value: None });
        }
        std::mem::replace(&mut slots[place], slot).value
    }
}

/// What this core keeps for all upstreams.
pub struct Upstreams {
    /// The CPU, and the number among how many, of this core.
    core: u32,
    number: u32,
    count: u32,
    states: Slots<UpstreamState>,
    pools: Slots<EndpointPool>,
    due: Due,
    /// Those whose connections are limited.
    limited: RefCell<Vec<Weak<UpstreamState>>>,
}

impl Upstreams {
    /// Nothing yet. `core` makes the cores begin at different endpoints; it is the one with this
    /// `number` of `count`.
    pub fn new(core: usize, number: u32, count: u32) -> Self {
        Self {
            core: u32::try_from(core).unwrap_or(0),
            number,
            count,
            states: Slots::default(),
            pools: Slots::default(),
            due: Due::default(),
            limited: RefCell::default(),
        }
    }

    /// What there is for an upstream, of whichever rules.
    pub fn state(&self, upstream: &Upstream) -> Rc<UpstreamState> {
        match self.states.get(upstream.identity) {
            Kept::Here(state) => state,
            Kept::Missing => {
                let state = Rc::new(self.make(upstream));
                self.states.put(upstream.identity, &state);
                if state.permits.is_some() {
                    self.limited.borrow_mut().push(Rc::downgrade(&state));
                }
                state
            }
            Kept::Gone => Rc::new(self.make(upstream)),
        }
    }

    fn make(&self, upstream: &Upstream) -> UpstreamState {
        let pools = upstream.endpoints.iter().zip(&upstream.pools);
        let is_limited =
            upstream.guards.as_deref().is_some_and(|it| it.connections_max().is_some());
        let permits = is_limited.then(|| Permits::new(&upstream.cell, self.number, self.count));
        UpstreamState {
            balancer: RefCell::new(Balancer::among(
                &upstream.strategy,
                self.core,
                Viewer { core: self.number, cores: self.count, ..Viewer::default() },
            )),
            tally: Tally::default(),
            latencies: Latencies::default(),
            waiting: Rc::default(),
            permits,
            panic: Cell::default(),
            rotated_in_panic: Cell::new(false),
            pools: pools
                .map(|(endpoint, identity)| Some(self.pool(*identity, endpoint.address?)))
                .collect(),
            counts: upstream.endpoints.iter().map(Count::of).collect(),
            is_due: Cell::new(false),
            due: Rc::clone(&self.due),
            shares_load: upstream.strategy.needs_load(),
        }
    }

    fn pool(&self, identity: Identity, address: SocketAddr) -> Rc<EndpointPool> {
        let make = || Rc::new(EndpointPool::new(address));
        match self.pools.get(identity) {
            Kept::Here(pool) => pool,
            Kept::Missing => {
                let pool = make();
                self.pools.put(identity, &pool);
                pool
            }
            Kept::Gone => {
                let pool = make();
                pool.retire(); // for the one request that asks: it keeps nothing
                pool
            }
        }
    }

    /// Lets go of what new rules no longer have. Its cost is that of what is gone.
    pub fn retire(&self, gone: &Gone, stats: &CoreStats) {
        for identity in &gone.upstreams {
            self.states.end(*identity);
        }
        for identity in &gone.pools {
            if let Some(pool) = self.pools.end(*identity) {
                pool.retire();
                pool.close_idle(stats);
            }
        }
    }

    /// Tells all cores what this one counted of endpoints since the last tick. Called each tick.
    pub fn tell(&self) {
        for state in self.due.borrow_mut().drain(..) {
            state.tell();
        }
    }

    /// Closes unused connections that requests of other cores wait for. One that several requests share
    /// is hardly ever unused: of those beyond this core's share one takes no more. Called each tick.
    pub fn give_way(&self, stats: &CoreStats) {
        let mut limited = self.limited.borrow_mut();
        limited.retain(|state| state.strong_count() > 0);
        for state in limited.iter().filter_map(Weak::upgrade) {
            let Some(permits) = &state.permits else { continue };
            let wanted = permits.others_waiting();
            let closed = (0..wanted).take_while(|_| state.close_unused(stats)).count();
            let links = || state.pools.iter().flatten().map(|pool| &pool.links);
            if wanted > 0
                && closed == 0
                && links().map(Links::count).sum::<usize>() > permits.share()
            {
                let _ended = links().any(Links::end_one);
            }
        }
    }

    /// Closes unused connections that are too old or dead, in every pool.
    pub fn sweep(&self, deadlines: &Deadlines, stats: &CoreStats) {
        for slot in &*self.pools.slots.borrow() {
            if let Some(pool) = &slot.value {
                pool.sweep(deadlines.now_tick(), stats);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        base::ids::StatsSlot,
        policy::balance::{Kind, Rules},
        snapshot::cells::UpstreamCell,
    };

    pub(in crate::dataplane::shard) fn upstream(place: u32, generation: u32) -> Upstream {
        let identity = Identity { place, generation };
        let cell = UpstreamCell::new();
        Upstream {
            name: "u".into(),
            strategy: Kind::RoundRobin,
            rules: Rules::default(),
            key: None,
            sticky: None,
            tls: None,
            endpoints: [Endpoint {
                tls_name: None,
                authority: "127.0.0.1:1".into(),
                address: Some(([127, 0, 0, 1], 1).into()),
                weight: 1,
                level: 0,
                cell: EndpointCell::new(&cell),
            }]
            .into(),
            templates: None,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
            pace: None,
            pool_idle: Duration::from_secs(1),
            pool_idle_max_per_core: 1,
            http2: false,
            proxy_protocol: None,
            pool_age_max: Duration::MAX,
            health_check: None,
            heartbeat: None,
            guards: None,
            stats: StatsSlot(0),
            identity,
            pools: [identity].into(),
            cell,
        }
    }

    #[test]
    fn a_state_lives_as_long_as_its_identity() {
        let (upstreams, stats) = (Upstreams::new(0, 0, 1), CoreStats::new(0));
        let old = upstream(3, 1);
        let state = upstreams.state(&old);
        assert!(Rc::ptr_eq(&state, &upstreams.state(&old)), "any version with this identity");
        let gone = Gone {
            upstreams: [old.identity].into(),
            pools: [old.identity].into(),
            ..Gone::default()
        };
        upstreams.retire(&gone, &stats);
        let (late, later) = (upstreams.state(&old), upstreams.state(&old));
        assert!(!Rc::ptr_eq(&late, &later), "a late request has one of its own");
        let new = upstream(3, 2);
        let state = upstreams.state(&new);
        assert!(Rc::ptr_eq(&state, &upstreams.state(&new)));
        assert!(!Rc::ptr_eq(&late, &upstreams.state(&old)), "which takes nobody's place");
        assert!(Rc::ptr_eq(&state, &upstreams.state(&new)));
    }

    #[test]
    fn what_is_gone_twice_or_was_never_there_is_no_matter() {
        let (upstreams, stats) = (Upstreams::new(0, 0, 1), CoreStats::new(0));
        let identity = Identity { place: 7, generation: 4 };
        let gone =
            Gone { upstreams: [identity].into(), pools: [identity].into(), ..Gone::default() };
        upstreams.retire(&gone, &stats);
        let new = upstream(7, 5);
        let state = upstreams.state(&new);
        upstreams.retire(&gone, &stats);
        assert!(Rc::ptr_eq(&state, &upstreams.state(&new)), "its successor stays");
    }

    #[test]
    fn only_what_is_gone_goes() {
        let (upstreams, stats) = (Upstreams::new(0, 0, 1), CoreStats::new(0));
        for place in 0..5_000 {
            upstreams.state(&upstream(place, 1));
        }
        let identities: Box<[Identity]> =
            (0..50).map(|place| Identity { place, generation: 1 }).collect();
        let gone = Gone { upstreams: identities.clone(), pools: identities, ..Gone::default() };
        upstreams.retire(&gone, &stats);
        let kept = upstreams.states.slots.borrow().iter().filter(|s| s.value.is_some()).count();
        assert_eq!(kept, 4_950);
    }
}
