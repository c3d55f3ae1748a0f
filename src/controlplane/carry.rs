//! What stays itself from one version to the next, found out here so that no core has to.
//!
//! Listeners, routes, upstreams and addresses of endpoints get identities that survive as long as they
//! do ([`Carry::assign`]). A core keeps balancers and pools in arrays by identity: taking new rules
//! it looks only at what is gone ([`gone`]), however many routes and upstreams there are. What the
//! process knows of endpoints (`snapshot::cells`) goes along with their names.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use crate::{
    base::{
        clock::now_ms,
        ids::{Identity, ListenerId, RouteKey},
        pace,
    },
    proto::proxy_protocol::ProxyVersion,
    snapshot::{
        Endpoint, Listener, Route, Snapshot, Upstream,
        cells::{EndpointCell, Health, Voice},
        messages::Gone,
    },
    tls::pki_types::ServerName,
};

/// The identities given out so far.
#[derive(Clone, Debug, Default)]
pub struct Carry {
    listeners: u32,
    routes: u32,
    upstreams: Places,
    pools: Places,
}

/// Places in an array; those given back are given out again.
#[derive(Clone, Debug, Default)]
struct Places {
    /// The generation of the last owner of each.
    generations: Vec<u32>,
    free: Vec<u32>,
}

impl Places {
    fn take(&mut self) -> Identity {
        match self.free.pop() {
            Some(place) => self.renew(place),
            None => {
                self.generations.push(0); // which nobody has: the default is no identity
                self.renew(self.generations.len() as u32 - 1)
            }
        }
    }

    /// A new owner of a place that is not free.
    fn renew(&mut self, place: u32) -> Identity {
        let generation = &mut self.generations[place as usize];
        *generation += 1;
        Identity { place, generation: *generation }
    }

    fn give_back(&mut self, identity: Identity) {
        self.free.push(identity.place);
    }
}

fn next(counter: &mut u32) -> u32 {
    *counter += 1;
    *counter
}

impl Carry {
    /// Gives everything in new rules its identity: that of the rules before where it is the same.
    /// For rules that will be in force, and before anybody sees them.
    pub fn assign(&mut self, old: Option<&Snapshot>, new: &mut Snapshot) {
        self.listeners(old, new);
        self.routes(old, new);
        carry_splits(old, new);
        let before: HashMap<&str, &Arc<Upstream>> = old
            .into_iter()
            .flat_map(|old| old.upstreams.iter().map(|upstream| (&*upstream.name, upstream)))
            .collect();
        carry_cells(&before, new, now_ms());
        self.pools(&before, new);
        self.upstreams(&before, new);
    }

    fn listeners(&mut self, old: Option<&Snapshot>, new: &mut Snapshot) {
        let id = |listener: &Listener| match old.and_then(|old| find_listener(old, listener)) {
            Some(id) => id,
            None => ListenerId(next(&mut self.listeners)),
        };
        new.listener_ids = new.listeners.iter().map(id).collect();
    }

    /// Nearly all routes stand where they stood: only what is left is looked up by id.
    fn routes(&mut self, old: Option<&Snapshot>, new: &mut Snapshot) {
        let old = old.map_or(&[][..], |old| &old.routes);
        // Shared with the version before: they have their keys.
        let Some(routes) = Arc::get_mut(&mut new.routes) else { return };
        let mut by_id: Option<HashMap<&str, RouteKey>> = None;
        for (index, route) in routes.iter_mut().enumerate() {
            pace::step();
            let known = match old.get(index) {
                // The very id, mostly: its text is not looked at.
                Some(same) if Arc::ptr_eq(&same.id, &route.id) || same.id == route.id => {
                    Some(same.key)
                }
                _ => {
                    let make = || old.iter().map(|route| (&*route.id, route.key)).collect();
                    by_id.get_or_insert_with(make).get(&*route.id).copied()
                }
            };
            route.key = known.unwrap_or_else(|| RouteKey(next(&mut self.routes)));
        }
    }

    fn pools(&mut self, before: &HashMap<&str, &Arc<Upstream>>, new: &mut Snapshot) {
        let mut old: HashMap<Peer, Identity> = HashMap::new();
        for upstream in before.values() {
            old.extend(addresses(upstream));
        }
        let mut used: HashMap<Peer, Identity> = HashMap::with_capacity(old.len());
        for upstream in &mut new.upstreams {
            if before.get(&*upstream.name).is_some_and(|before| Arc::ptr_eq(before, upstream)) {
                used.extend(addresses(upstream));
                continue;
            }
            let mut pool = |peer: Option<Peer>| match peer {
                None => Identity::default(),
                Some(peer) => *used.entry(peer.clone()).or_insert_with(|| {
                    old.get(&peer).copied().unwrap_or_else(|| self.pools.take())
                }),
            };
            let peers = upstream.endpoints.iter().map(|endpoint| Peer::of(upstream, endpoint));
            let pools = peers.map(&mut pool).collect();
            Arc::make_mut(upstream).pools = pools;
        }
        for (address, identity) in old {
            if !used.contains_key(&address) {
                self.pools.give_back(identity);
            }
        }
    }

    fn upstreams(&mut self, before: &HashMap<&str, &Arc<Upstream>>, new: &mut Snapshot) {
        let mut kept: HashSet<u32> = HashSet::with_capacity(new.upstreams.len());
        for upstream in &mut new.upstreams {
            let identity = match before.get(&*upstream.name) {
                Some(before) if Arc::ptr_eq(before, upstream) => before.identity,
                Some(before) if is_balanced_alike(before, upstream) => before.identity,
                Some(before) => self.upstreams.renew(before.identity.place),
                None => self.upstreams.take(),
            };
            kept.insert(identity.place);
            if upstream.identity != identity {
                Arc::make_mut(upstream).identity = identity;
            }
            // One copy of what did not change, however many versions there are.
            if let Some(before) =
                before.get(&*upstream.name).filter(|before| ***before == *upstream)
            {
                *upstream = Arc::clone(before);
            }
        }
        for upstream in before.values().filter(|old| !kept.contains(&old.identity.place)) {
            self.upstreams.give_back(upstream.identity);
        }
    }
}

/// The shares in force, and whose turn it is, go along with the id of the route, as long as it is shared
/// out the same way.
fn carry_splits(old: Option<&Snapshot>, new: &mut Snapshot) {
    let (Some(old), Some(routes)) = (old, Arc::get_mut(&mut new.routes)) else { return };
    for (index, route) in routes.iter_mut().enumerate() {
        let before = old.routes.get(index).and_then(|one| one.extra.as_ref());
        if let (Some(extra), Some(before)) = (&route.extra, before)
            && Arc::ptr_eq(extra, before)
        {
            continue; // and so is the split, if there is one
        }
        let Some(extra) = route.extra.as_mut().filter(|extra| extra.split.is_some()) else {
            continue;
        };
        let same = old.routes.get(index).filter(|one| one.id == route.id);
        let before = same.or_else(|| old.routes.iter().find(|one| one.id == route.id));
        let before = before.and_then(|one| one.extra.as_ref()?.split.as_ref());
        let split = Arc::make_mut(extra).split.as_mut();
        if let (Some(before), Some(split)) = (before, split)
            && before.is_shared_out_like(split)
        {
            Arc::make_mut(split).cell = Arc::clone(&before.cell);
        }
    }
}

/// What is known of upstreams and endpoints belongs to their names: new rules get the very cells of the
/// rules before. An endpoint that joins is new since `now_ms`.
fn carry_cells(before: &HashMap<&str, &Arc<Upstream>>, new: &mut Snapshot, now_ms: u64) {
    for upstream in &mut new.upstreams {
        let Some(before) = before.get(&*upstream.name) else { continue };
        if Arc::ptr_eq(before, upstream) {
            continue;
        }
        let key = |one: &Endpoint| (one.authority.clone(), one.address);
        let known: HashMap<_, _> =
            before.endpoints.iter().map(|one| (key(one), &one.cell)).collect();
        // What an operator says concerns a name, whatever addresses it stands for.
        let hand = |one: &Endpoint| one.cell.said_by(Voice::Hand);
        let told = before.endpoints.iter().filter(|one| hand(one) != Health::Up);
        let told: HashMap<_, _> = told.map(|one| (one.authority.clone(), hand(one))).collect();
        let upstream = Arc::make_mut(upstream);
        upstream.cell = Arc::clone(&before.cell);
        for endpoint in &mut upstream.endpoints {
            if let Some(cell) = known.get(&key(endpoint)) {
                endpoint.cell = Arc::clone(cell);
                continue;
            }
            endpoint.cell = EndpointCell::added(&upstream.cell, now_ms);
            if let Some(health) = told.get(&endpoint.authority) {
                endpoint.cell.set_health(Voice::Hand, *health, now_ms);
            }
        }
    }
}

/// The listener of older rules that a newer one is: the same address means the same socket,
/// whatever it is called now. Port 0 is another port each time, so there the name decides.
pub fn find_listener(old: &Snapshot, new: &Listener) -> Option<ListenerId> {
    let is_same = |one: &Listener| {
        one.address == new.address && (one.address.port() != 0 || one.name == new.name)
    };
    let index = old.listeners.iter().position(is_same)?;
    Some(old.listener_ids[index])
}

fn is_balanced_alike(a: &Upstream, b: &Upstream) -> bool {
    a.strategy == b.strategy
        && a.rules == b.rules
        && a.endpoints == b.endpoints
        && a.pools == b.pools
}

/// Whom a connection is with: only such connections are pooled together. With TLS that is also how
/// it was made, and for which name. An upstream whose connections are limited has its own: those of
/// another one would not be counted.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Peer {
    address: SocketAddr,
    tls: Option<([u8; 32], ServerName<'static>)>,
    proxy_protocol: Option<ProxyVersion>,
    only: Option<Box<str>>,
}

impl Peer {
    /// `None` while the endpoint's name has no address.
    fn of(upstream: &Upstream, endpoint: &Endpoint) -> Option<Self> {
        let profile = || Some((*upstream.tls.as_ref()?.digest(), endpoint.tls_name.clone()?));
        let (address, tls) = (endpoint.address?, profile());
        let is_limited =
            upstream.guards.as_deref().is_some_and(|it| it.connections_max().is_some());
        let only = is_limited.then(|| upstream.name.clone());
        Some(Self { address, tls, proxy_protocol: upstream.proxy_protocol, only })
    }
}

fn addresses(upstream: &Upstream) -> impl Iterator<Item = (Peer, Identity)> {
    let pairs = upstream.endpoints.iter().zip(&upstream.pools);
    pairs.filter_map(|(endpoint, pool)| Some((Peer::of(upstream, endpoint)?, *pool)))
}

/// What a core that obeys `old` has to let go of when it takes `new`.
pub fn gone(old: &Snapshot, new: &Snapshot) -> Gone {
    let pools = |snapshot: &Snapshot| -> HashSet<Identity> {
        let all = snapshot.upstreams.iter().flat_map(|upstream| addresses(upstream));
        all.map(|(_, identity)| identity).collect()
    };
    // Upstreams that both share need no look: none of theirs is gone.
    let shared: HashSet<*const Upstream> = new.upstreams.iter().map(Arc::as_ptr).collect();
    let changed: Vec<&Arc<Upstream>> =
        old.upstreams.iter().filter(|one| !shared.contains(&Arc::as_ptr(one))).collect();
    let mut gone = Gone { listeners: missing_listeners(old, new), ..Gone::default() };
    if !changed.is_empty() {
        let kept: HashSet<Identity> = new.upstreams.iter().map(|one| one.identity).collect();
        let identities = changed.iter().map(|upstream| upstream.identity);
        gone.upstreams = identities.filter(|identity| !kept.contains(identity)).collect();
        let kept = pools(new);
        let identities = changed.iter().flat_map(|upstream| addresses(upstream));
        let mut pools: Vec<Identity> =
            identities.map(|(_, pool)| pool).filter(|pool| !kept.contains(pool)).collect();
        pools.sort_unstable();
        pools.dedup();
        gone.pools = pools.into();
    }
    gone.routes = missing_routes(&old.routes, &new.routes);
    gone
}

fn missing_listeners(old: &Snapshot, new: &Snapshot) -> Box<[ListenerId]> {
    let ids = old.listener_ids.iter().copied();
    ids.filter(|id| new.listener_index(*id).is_none()).collect()
}

/// Keys of routes that are no longer there, ascending.
fn missing_routes(old: &Arc<[Route]>, new: &Arc<[Route]>) -> Box<[RouteKey]> {
    if Arc::ptr_eq(old, new) {
        return Box::default();
    }
    let moved = |(index, route): &(usize, &Route)| {
        new.get(*index).is_none_or(|other| other.key != route.key)
    };
    let mut moved: Vec<RouteKey> =
        old.iter().enumerate().filter(moved).map(|(_, route)| route.key).collect();
    if !moved.is_empty() {
        let kept: HashSet<RouteKey> = new.iter().map(|route| route.key).collect();
        moved.retain(|key| !kept.contains(key));
        moved.sort_unstable();
    }
    moved.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{controlplane::fixtures, snapshot::cells::UpstreamCell};

    fn upstream(name: &str, ports: &[u16]) -> Arc<Upstream> {
        let mut upstream = (*fixtures::snapshot(1).upstreams[0]).clone();
        upstream.name = name.into();
        let template = upstream.endpoints[0].clone();
        upstream.cell = UpstreamCell::new();
        let endpoint = |port: &u16| crate::snapshot::Endpoint {
            authority: format!("127.0.0.1:{port}").into(),
            address: Some(([127, 0, 0, 1], *port).into()),
            cell: EndpointCell::new(&upstream.cell),
            ..template.clone()
        };
        upstream.endpoints = ports.iter().map(endpoint).collect();
        Arc::new(upstream)
    }

    fn rules(carry: &mut Carry, old: Option<&Snapshot>, all: &[(&str, &[u16])]) -> Snapshot {
        let mut new = fixtures::snapshot(old.map_or(1, |old| old.version + 1));
        new.upstreams = all.iter().map(|(name, ports)| upstream(name, ports)).collect();
        carry.assign(old, &mut new);
        new
    }

    #[test]
    fn what_did_not_change_is_the_same_object() {
        let mut carry = Carry::default();
        let one = rules(&mut carry, None, &[("a", &[1, 2]), ("b", &[2, 3])]);
        let two = rules(&mut carry, Some(&one), &[("b", &[2, 3]), ("a", &[1])]);
        assert!(Arc::ptr_eq(&one.upstreams[1], &two.upstreams[0]));
        assert_eq!(one.upstreams[0].pools[1], one.upstreams[1].pools[0], "one pool per address");
        let (old, new) = (one.upstreams[0].identity, two.upstreams[1].identity);
        assert_eq!(old.place, new.place);
        assert!(new.generation > old.generation, "its balancer begins anew");
        let gone = gone(&one, &two);
        assert_eq!(*gone.upstreams, [old]);
        assert!(gone.pools.is_empty(), "b still uses port 2");
        assert!(gone.routes.is_empty() && gone.listeners.is_empty());
    }

    #[test]
    fn cells_go_along_with_the_names_of_endpoints() {
        let mut carry = Carry::default();
        let one = rules(&mut carry, None, &[("a", &[1, 2]), ("b", &[1])]);
        let cells = |rules: &Snapshot, at: usize| -> Vec<*const EndpointCell> {
            rules.upstreams[at].endpoints.iter().map(|one| Arc::as_ptr(&one.cell)).collect()
        };
        let before = (cells(&one, 0), cells(&one, 1));
        assert!(before.0[0] != before.1[0], "an endpoint of two upstreams has two cells");
        let two = rules(&mut carry, Some(&one), &[("b", &[1]), ("a", &[3, 2])]);
        assert_eq!(cells(&two, 0), before.1);
        assert_eq!(cells(&two, 1)[1], before.0[1], "one that stays, wherever it stands");
        let (old, new) = (&one.upstreams[0], &two.upstreams[1]);
        assert!(Arc::ptr_eq(&old.cell, &new.cell));
        let added = &new.endpoints[0].cell;
        assert!(Arc::ptr_eq(added.upstream(), &new.cell), "its changes are heard of too");
        assert!(added.up_since_ms(u64::MAX) > 0 && new.endpoints[1].cell.up_since_ms(1) == 0);
        // Another address of a name that somebody took out is out too.
        new.endpoints[1].cell.set_health(Voice::Hand, Health::Draining, 1);
        let mut moved = rules(&mut Carry::default(), None, &[("b", &[1]), ("a", &[3, 2])]);
        let upstream = Arc::make_mut(&mut moved.upstreams[1]);
        upstream.endpoints[1].address = Some(([127, 0, 0, 9], 2).into());
        carry.assign(Some(&two), &mut moved);
        let health = |place: usize| moved.upstreams[1].endpoints[place].cell.health();
        assert_eq!((health(0), health(1)), (Health::Up, Health::Draining));
        let three = rules(&mut carry, Some(&two), &[("b", &[1])]);
        let four = rules(&mut carry, Some(&three), &[("a", &[2])]);
        assert!(cells(&four, 0)[0] != before.0[1], "gone and back is another one");
    }

    #[test]
    fn places_are_used_again_but_nobody_is_mistaken() {
        let mut carry = Carry::default();
        let one = rules(&mut carry, None, &[("a", &[1])]);
        let two = rules(&mut carry, Some(&one), &[("b", &[9])]);
        let three = rules(&mut carry, Some(&two), &[("a", &[1])]);
        let all = [&one, &two, &three].map(|rules| rules.upstreams[0].pools[0]);
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2], "{all:?}");
        assert_eq!(*gone(&one, &three).pools, [all[0]], "a core that skips two sees it too");
        let mut last = three;
        for round in 0..100 {
            last = rules(&mut carry, Some(&last), &[("a", &[round]), ("c", &[round + 1])]);
        }
        assert!(carry.pools.generations.len() <= 6, "{}", carry.pools.generations.len());
        assert!(carry.upstreams.generations.len() <= 3);
    }

    #[test]
    fn a_listener_is_its_address() {
        let mut carry = Carry::default();
        let one = rules(&mut carry, None, &[("a", &[1])]);
        let mut two = fixtures::snapshot(2);
        two.listeners[0].name = "renamed".into();
        carry.assign(Some(&one), &mut two);
        assert_eq!(one.listener_ids, two.listener_ids);
        let mut three = fixtures::snapshot(3);
        three.listeners[0].address.set_port(1);
        carry.assign(Some(&two), &mut three);
        assert_eq!(gone(&two, &three).listeners, two.listener_ids);
        let mut four = fixtures::snapshot(4);
        carry.assign(Some(&three), &mut four);
        assert!(four.listener_ids != two.listener_ids, "back, but another one");
    }

    #[test]
    fn routes_keep_their_keys_wherever_they_stand() {
        let mut carry = Carry::default();
        let one = rules(&mut carry, None, &[("a", &[1])]);
        let mut two = fixtures::snapshot(2);
        Arc::get_mut(&mut two.routes).expect("ours alone").reverse();
        carry.assign(Some(&one), &mut two);
        assert_eq!(two.routes[0].key, one.routes[1].key);
        assert!(gone(&one, &two).routes.is_empty());
        let mut three = fixtures::snapshot(3);
        Arc::get_mut(&mut three.routes).expect("ours alone")[0].id = "other".into();
        carry.assign(Some(&two), &mut three);
        assert_eq!(*gone(&two, &three).routes, [one.routes[0].key]);
    }
}
