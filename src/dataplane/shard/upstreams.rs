//! What one core keeps for all upstreams from version to version: a state of each, and unused connections. A state
//! is made when a request first needs it, so that upstreams nobody asks for cost nothing.
//!
//! Everything has its place by [`Identity`], given out by the control plane. New rules touch only what
//! they end ([`Upstreams::retire`]). A request that began under older rules may ask for what is
//! gone: it gets a state of its own, which nobody else sees and which ends with it.

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::{Rc, Weak},
};

use super::{
    slots::{Kept, Slots},
    upstream_state::{Due, UpstreamState},
};
use crate::{
    base::ids::Identity,
    dataplane::upstream::{EndpointPool, Links},
    policy::balance::Viewer,
    rt::Deadlines,
    snapshot::{Upstream, messages::Gone},
    telemetry::CoreStats,
};

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
        let pools = pools
            .map(|(endpoint, identity)| Some(self.pool(*identity, endpoint.address?)))
            .collect();
        let viewer = Viewer { core: self.number, cores: self.count, ..Viewer::default() };
        UpstreamState::new(upstream, self.core, viewer, pools, Rc::clone(&self.due))
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
        self.pools.each(|pool| pool.sweep(deadlines.now_tick(), stats));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        base::ids::StatsSlot,
        policy::balance::{Kind, Rules},
        snapshot::{
            Endpoint,
            cells::{EndpointCell, UpstreamCell},
        },
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
        let mut kept = 0;
        upstreams.states.each(|_| kept += 1);
        assert_eq!(kept, 4_950);
    }
}
