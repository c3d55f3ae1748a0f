//! The rules in force on one core: the shared snapshot plus what this core adds to it.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};

use crate::{
    base::ids::{EndpointIndex, ListenerIndex, UpstreamIndex},
    dataplane::upstream::EndpointPool,
    policy::balance::Balancer,
    rt::Deadlines,
    snapshot::{Listener, Snapshot, Upstream},
    telemetry::CoreStats,
};

/// A snapshot with this core's balancers and pools.
pub struct Table {
    /// The rules all cores share.
    pub snapshot: Arc<Snapshot>,
    upstreams: Box<[UpstreamState]>,
}

/// What this core keeps for one upstream.
pub struct UpstreamState {
    /// Whose turn it is.
    pub balancer: RefCell<Balancer>,
    pools: Box<[Option<Rc<EndpointPool>>]>,
}

impl UpstreamState {
    /// The pool of an endpoint; none while its name has no address.
    pub fn pool(&self, endpoint: EndpointIndex) -> Option<&Rc<EndpointPool>> {
        self.pools.get(usize::from(endpoint.0))?.as_ref()
    }
}

impl Table {
    /// A table with empty pools.
    pub fn new(snapshot: Arc<Snapshot>, core: usize) -> Self {
        Self::with_pools(snapshot, core, &HashMap::new(), &HashMap::new())
    }

    /// A table for a newer snapshot. Pools of addresses and balancers of upstreams that are still
    /// there go on where they stood.
    pub fn carry_over(old: &Self, snapshot: Arc<Snapshot>, core: usize) -> Self {
        let pools = old.pools().map(|pool| (pool.address, Rc::clone(pool))).collect();
        let balancers = old
            .snapshot
            .upstreams
            .iter()
            .zip(&old.upstreams)
            .map(|(upstream, state)| (&*upstream.name, (upstream, state)))
            .collect();
        Self::with_pools(snapshot, core, &pools, &balancers)
    }

    fn with_pools(
        snapshot: Arc<Snapshot>,
        core: usize,
        pools: &HashMap<SocketAddr, Rc<EndpointPool>>,
        balancers: &HashMap<&str, (&Upstream, &UpstreamState)>,
    ) -> Self {
        let mut pools = pools.clone(); // two upstreams with the same address share its pool
        let upstreams = snapshot
            .upstreams
            .iter()
            .map(|upstream| UpstreamState {
                balancer: RefCell::new(balancer_for(upstream, core, balancers)),
                pools: upstream
                    .endpoints
                    .iter()
                    .map(|endpoint| endpoint.address)
                    .map(|address| {
                        let address = address?;
                        let pool = pools
                            .entry(address)
                            .or_insert_with(|| Rc::new(EndpointPool::new(address)));
                        Some(Rc::clone(pool))
                    })
                    .collect(),
            })
            .collect();
        Self { snapshot, upstreams }
    }

    /// The listener a connection came in by, if these rules still have it.
    pub fn listener(&self, index: ListenerIndex) -> Option<&Listener> {
        self.snapshot.listeners.get(usize::from(index.0))
    }

    /// What this core keeps for an upstream of this table's snapshot.
    pub fn upstream(&self, index: UpstreamIndex) -> &UpstreamState {
        &self.upstreams[index.0 as usize]
    }

    /// Closes unused connections that are too old or dead, in every pool.
    pub fn sweep(&self, deadlines: &Deadlines, stats: &CoreStats) {
        for (upstream, state) in self.snapshot.upstreams.iter().zip(&self.upstreams) {
            for pool in state.pools.iter().flatten() {
                pool.sweep(upstream.pool_idle, deadlines.now_tick(), stats);
            }
        }
    }

    /// Closes the unused connections to addresses that `new` does not know.
    pub fn close_pools_not_in(&self, new: &Self, stats: &CoreStats) {
        let kept: HashSet<SocketAddr> = new.pools().map(|pool| pool.address).collect();
        for pool in self.pools().filter(|pool| !kept.contains(&pool.address)) {
            pool.close_idle(stats);
        }
    }

    fn pools(&self) -> impl Iterator<Item = &Rc<EndpointPool>> {
        self.upstreams.iter().flat_map(|state| state.pools.iter().flatten())
    }
}

fn balancer_for(
    upstream: &Upstream,
    core: usize,
    old: &HashMap<&str, (&Upstream, &UpstreamState)>,
) -> Balancer {
    if let Some((before, state)) = old.get(&*upstream.name)
        && before.strategy == upstream.strategy
        && before.endpoints == upstream.endpoints
    {
        return state.balancer.borrow().clone();
    }
    let offset = u32::try_from(core).unwrap_or(0);
    Balancer::new(upstream.strategy, upstream.endpoints.iter().map(|one| one.weight), offset)
}
