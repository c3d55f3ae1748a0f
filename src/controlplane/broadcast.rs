//! New rules to every core, and who obeys which.
//!
//! A core has at most one version on its way: the next is sent when it said that it obeys the last
//! one, and then the newest. So a slow core skips versions and never queues them; what a skipped
//! version brought along (sockets) waits here, and what it took away is worked out anew from the rules
//! the core does obey. Those are held here as long, so that no core is the last to let go of them.
//! Tests: below, with a model of cores that are slow, stuck and full, in random order.

use std::sync::Arc;

use crate::{
    controlplane::carry,
    snapshot::{
        Snapshot,
        messages::{End, Gone, ListenSocket, ToWorker, Update},
    },
};

/// Hands a message to one core without waiting, or gives it back: its mailbox is full, or the core is
/// gone.
pub type Send = Box<dyn Fn(ToWorker) -> Result<(), ToWorker>>;

/// One mailbox per core, newest wins.
pub struct Broadcast {
    cores: Vec<Core>,
    newest: Arc<Snapshot>,
}

struct Core {
    id: usize,
    send: Send,
    /// The rules in force.
    applied: Arc<Snapshot>,
    /// The rules on their way.
    on_way: Option<Arc<Snapshot>>,
    /// Sockets of listeners that the core has not been told of.
    sockets: Vec<ListenSocket>,
}

/// What is gone between two versions, for the next core that makes the same step.
type Step = Option<(u64, Arc<Gone>)>;

impl Broadcast {
    /// The cores were started with `first`.
    pub fn new(first: Arc<Snapshot>, cores: impl IntoIterator<Item = (usize, Send)>) -> Self {
        let core = |(id, send)| Core {
            id,
            send,
            applied: Arc::clone(&first),
            on_way: None,
            sockets: Vec::new(),
        };
        Self { cores: cores.into_iter().map(core).collect(), newest: Arc::clone(&first) }
    }

    /// Sends newer rules to every core that is not still busy with older ones. `sockets` has the new
    /// listeners' sockets for each core, in the order of the cores.
    pub fn publish(&mut self, snapshot: Arc<Snapshot>, sockets: Vec<Vec<ListenSocket>>) {
        assert!(snapshot.version > self.newest.version, "versions only rise");
        self.newest = snapshot;
        for (core, sockets) in self.cores.iter_mut().zip(sockets) {
            core.sockets.extend(sockets);
        }
        self.send_to_all();
    }

    /// Notes that a core obeys a version; sends it the newest if that is another one by now. Returns what
    /// it obeyed before, which nobody else may hold any more.
    pub fn applied(&mut self, id: usize, version: u64) -> Option<Arc<Snapshot>> {
        let core = self.cores.iter_mut().find(|core| core.id == id)?;
        let snapshot = core.on_way.take_if(|on_way| on_way.version == version)?;
        let before = std::mem::replace(&mut core.applied, snapshot);
        core.send_newest(&self.newest, &mut None);
        Some(before)
    }

    /// Tries again what a full mailbox did not take. For every now and then.
    pub fn send_to_all(&mut self) {
        let mut step = None;
        for core in &mut self.cores {
            core.send_newest(&self.newest, &mut step);
        }
    }

    /// Tells every core to end. It takes no rules afterwards.
    pub fn drain(&self, within: std::time::Duration, end: End) {
        for core in &self.cores {
            // A core that takes nothing is cut when the time is up.
            let _ = (core.send)(ToWorker::Drain { within, end });
        }
    }

    /// The version that every core obeys at least.
    pub fn version_everywhere(&self) -> u64 {
        let versions = self.cores.iter().map(|core| core.applied.version);
        versions.min().unwrap_or(self.newest.version)
    }

    /// Whether every core obeys the newest rules.
    pub fn settled(&self) -> bool {
        self.version_everywhere() >= self.newest.version
    }
}

impl Core {
    fn send_newest(&mut self, newest: &Arc<Snapshot>, step: &mut Step) {
        let from = self.applied.version;
        if self.on_way.is_some() || from >= newest.version {
            return;
        }
        // Of listeners that came and went meanwhile.
        self.sockets.retain(|socket| newest.listener_index(socket.listener).is_some());
        let gone = match step {
            Some((version, gone)) if *version == from => Arc::clone(gone),
            _ => Arc::new(carry::gone(&self.applied, newest)),
        };
        *step = Some((from, Arc::clone(&gone)));
        let sockets = std::mem::take(&mut self.sockets);
        let update = Update { snapshot: Arc::clone(newest), gone, sockets };
        match (self.send)(ToWorker::Rules(Box::new(update))) {
            Ok(()) => self.on_way = Some(Arc::clone(newest)),
            Err(ToWorker::Rules(update)) => self.sockets = update.sockets,
            Err(ToWorker::Drain { .. }) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        collections::{HashSet, VecDeque},
        net::TcpListener,
        rc::Rc,
    };

    use super::*;
    use crate::{
        base::ids::{Identity, ListenerId},
        controlplane::{carry::Carry, fixtures},
        snapshot::Upstream,
    };

    /// A core as the control plane sees it: a mailbox that may be full, and what it obeys.
    struct Model {
        mailbox: Rc<RefCell<VecDeque<Box<Update>>>>,
        is_full: Rc<Cell<bool>>,
        obeys: Arc<Snapshot>,
        /// Rules that requests in flight pin.
        pinned: Vec<Arc<Snapshot>>,
        listeners: HashSet<ListenerId>,
        pools: HashSet<Identity>,
    }

    impl Model {
        fn new(first: &Arc<Snapshot>) -> (Self, Send) {
            let mailbox = Rc::<RefCell<VecDeque<Box<Update>>>>::default();
            let is_full = Rc::<Cell<bool>>::default();
            let (to, full) = (Rc::clone(&mailbox), Rc::clone(&is_full));
            let send = move |message| match message {
                ToWorker::Rules(update) if !full.get() => {
                    assert!(to.borrow().is_empty(), "one version on its way");
                    to.borrow_mut().push_back(update);
                    Ok(())
                }
                other => Err(other),
            };
            let model = Self {
                mailbox,
                is_full,
                obeys: Arc::clone(first),
                pinned: Vec::new(),
                listeners: first.listener_ids.iter().copied().collect(),
                pools: HashSet::new(),
            };
            (model, Box::new(send))
        }

        /// Obeys what is in the mailbox as a worker does; the version it acknowledges.
        fn turn(&mut self) -> Option<u64> {
            let update = self.mailbox.borrow_mut().pop_front()?;
            assert!(update.snapshot.version > self.obeys.version, "a version went back");
            for listener in &update.gone.listeners {
                assert!(self.listeners.remove(listener), "it has what it is told to close");
            }
            for socket in &update.sockets {
                assert!(self.listeners.insert(socket.listener), "a socket comes once");
            }
            for pool in &update.gone.pools {
                self.pools.remove(pool);
            }
            self.obeys = Arc::clone(&update.snapshot);
            let expected: HashSet<ListenerId> = self.obeys.listener_ids.iter().copied().collect();
            assert_eq!(self.listeners, expected, "it listens where its rules say");
            let all = self.obeys.upstreams.iter().flat_map(|one| one.pools.iter().copied());
            let all: HashSet<Identity> = all.collect();
            assert!(self.pools.is_subset(&all), "no pool outlives its address");
            self.pools = all; // as if each endpoint were asked at once
            Some(self.obeys.version)
        }
    }

    /// splitmix64
    fn random(state: &mut u64, below: u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    /// Other rules: listeners and endpoints come and go.
    fn rules(seed: &mut u64, carry: &mut Carry, old: &Snapshot) -> Snapshot {
        let mut new = fixtures::snapshot(old.version + 1 + random(seed, 3));
        let template = new.listeners[0].clone();
        let listeners = (1..=3).filter(|_| random(seed, 2) == 0).map(|port| {
            let mut listener = template.clone();
            listener.address.set_port(port);
            listener
        });
        new.listeners = listeners.collect();
        let template = Arc::clone(&new.upstreams[0]);
        let upstream = |port: u16| {
            let mut upstream = Upstream::clone(&template);
            upstream.name = format!("u{}", port % 4).into();
            upstream.endpoints[0].address = Some(([127, 0, 0, 1], port).into());
            Arc::new(upstream)
        };
        let ports: Vec<u16> =
            (0..4).map(|name| name + 4 * random(seed, 3) as u16).filter(|port| *port > 0).collect();
        new.upstreams = ports.into_iter().map(upstream).collect();
        carry.assign(Some(old), &mut new);
        new
    }

    fn sockets(old: &Snapshot, new: &Snapshot, one: &TcpListener) -> Vec<ListenSocket> {
        let added = new.listener_ids.iter().filter(|id| old.listener_index(**id).is_none());
        let socket = |id: &ListenerId| ListenSocket {
            listener: *id,
            fd: one.try_clone().expect("a descriptor").into(),
            address: ([127, 0, 0, 1], 1).into(),
            foreign: false,
        };
        added.map(socket).collect()
    }

    /// Random interleavings of publishes, acknowledgements, slow, stuck and full cores.
    #[test]
    fn whatever_the_order_no_core_goes_back_or_stays_behind() {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        for seed in 0..300 {
            run_model(seed, &socket);
        }
    }

    fn run_model(seed: u64, socket: &TcpListener) {
        let mut state = seed;
        let mut carry = Carry::default();
        let mut first = fixtures::snapshot(1);
        carry.assign(None, &mut first);
        let first = Arc::new(first);
        let (mut cores, sends): (Vec<Model>, Vec<Send>) =
            (0..3).map(|_| Model::new(&first)).unzip();
        let mut broadcast = Broadcast::new(Arc::clone(&first), sends.into_iter().enumerate());
        let mut newest = Arc::clone(&first);
        let mut published = vec![Arc::downgrade(&first)];
        drop(first);
        let stuck = random(&mut state, 6) as usize; // often none
        for _ in 0..200 {
            let one = random(&mut state, 3) as usize;
            let core = &mut cores[one];
            match random(&mut state, 10) {
                0..=2 => {
                    let new = Arc::new(rules(&mut state, &mut carry, &newest));
                    let sockets = (0..3).map(|_| sockets(&newest, &new, socket)).collect();
                    published.push(Arc::downgrade(&new));
                    newest = Arc::clone(&new);
                    broadcast.publish(new, sockets);
                }
                3..=6 if one != stuck => {
                    if let Some(version) = core.turn() {
                        broadcast.applied(one, version);
                        broadcast.applied(one, version.saturating_sub(1)); // a late echo
                    }
                }
                7 => core.is_full.set(!core.is_full.get()),
                8 => core.pinned.push(Arc::clone(&core.obeys)),
                9 => core.pinned.clear(),
                _ => broadcast.send_to_all(),
            }
            assert!(cores.iter().all(|core| core.obeys.version >= broadcast.version_everywhere()));
            let alive = published.iter().filter(|one| one.strong_count() > 0).count();
            let pins: usize = cores.iter().map(|core| core.pinned.len()).sum();
            // Newest, and for each core: what it obeys and what is on its way.
            assert!(alive <= 1 + 2 * cores.len() + pins, "seed {seed}: {alive} versions alive");
        }
        for core in &mut cores {
            core.is_full.set(false);
            core.pinned.clear();
        }
        for _ in 0..4 {
            broadcast.send_to_all();
            for (id, core) in cores.iter_mut().enumerate() {
                if let Some(version) = core.turn() {
                    broadcast.applied(id, version);
                }
            }
        }
        assert!(broadcast.settled(), "seed {seed}: a core stays behind");
        assert!(cores.iter().all(|core| core.obeys.version == newest.version), "seed {seed}");
        let alive = published.iter().filter(|one| one.strong_count() > 0).count();
        assert_eq!(alive, 1, "seed {seed}: old rules are kept");
    }

    /// A core never holds the last reference to rules it obeys: what it drops is freed elsewhere.
    #[test]
    fn rules_in_force_are_held_here_too() {
        let first = Arc::new(fixtures::snapshot(1));
        let (mut core, send) = Model::new(&first);
        let mut broadcast = Broadcast::new(first, [(0, send)]);
        broadcast.publish(Arc::new(fixtures::snapshot(2)), vec![Vec::new()]);
        assert_eq!(core.turn(), Some(2));
        broadcast.publish(Arc::new(fixtures::snapshot(3)), vec![Vec::new()]);
        assert!(Arc::strong_count(&core.obeys) >= 2);
        broadcast.applied(0, 2);
        assert!(Arc::strong_count(&core.obeys) >= 2);
    }
}
