//! What one core owns: its table, pools, buffers, contexts, deadlines, connections and counters.
//!
//! One [`Shard`] lives on each worker's thread behind an `Rc`; no other thread can reach it.

mod admission;
mod connections;
mod date;
mod judging;
mod leaving;
mod places;
mod slots;
mod spread;
mod table;
mod tally;
mod turns;
mod upstream_state;
mod upstreams;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

pub use admission::InFlight;
pub use connections::{Connections, Phase, Pin, Watch};
pub use date::DateCache;
pub use places::Place;
pub use spread::{Handed, Seat, Spread, spread};
pub use table::Table;
use tally::Tallies;
pub use turns::{Turn, Turns};
pub use upstream_state::{Lease, Now, UpstreamState, Wish};
pub use upstreams::Upstreams;

use super::{context::ContextPool, streams::HeldByCore};
use crate::{
    base::{
        clock,
        ids::{EndpointIndex, ListenerId},
        limits,
    },
    dataplane::{signing::Signing, socket::HandshakeEnd},
    rt::{BufPool, Deadlines, FuturePool, PanicPlace, PipePool},
    snapshot::{
        Listener, Mode, Snapshot, Upstream, WorkerSettings,
        messages::{FromWorker, Gone, ReportSender},
    },
    telemetry::{AccessLogFormat, AccessRecord, CoreStats, LogSender},
};

/// Everything one core needs to serve requests.
pub struct Shard {
    /// The CPU this shard belongs to.
    pub core: usize,
    /// Connections of clients this core takes at most.
    pub connections_max: usize,
    /// Buffers for heads and bodies.
    pub buffers: BufPool,
    /// What waits for HTTP/2 clients that take nothing.
    pub held: Rc<HeldByCore>,
    /// Memory for the futures that serve requests.
    pub futures: FuturePool,
    /// The same for those whose body arrives while their response may.
    pub uploads: FuturePool,
    /// Contexts of requests.
    pub contexts: ContextPool,
    /// Pipes for `splice(2)`.
    pub pipes: PipePool,
    /// Body bytes to go from which on a body moves through one.
    pub splice_bytes_min: u64,
    /// Deadlines of all sockets.
    pub deadlines: Deadlines,
    /// The clients' connections.
    pub connections: Rc<Connections>,
    /// TLS handshakes of clients.
    pub handshakes: Turns,
    /// Those whose key is slow.
    pub signing: Signing,
    /// Balancers and pools.
    pub upstreams: Upstreams,
    /// The value of `Date`, made once a second.
    pub date: DateCache,
    /// What is counted.
    pub stats: Arc<CoreStats>,
    /// Copies of requests under way.
    pub mirrors_open: Cell<usize>,
    table: RefCell<Rc<Table>>,
    leaving: leaving::Leaving,
    reports: ReportSender,
    places: places::Places,
    tallies: Tallies,
    /// For comparing endpoints.
    scratch: RefCell<Vec<u64>>,
    log: RefCell<Option<LogSender>>,
    random: Cell<u64>,
    now_ms: Cell<u64>,
    draining: Cell<bool>,
    /// From this tick on a TLS failure is told.
    tls_told_tick: Cell<u64>,
    idle_ended: Cell<bool>,
}

impl Shard {
    /// A shard that obeys `snapshot`.
    pub fn new(
        settings: &WorkerSettings,
        snapshot: Arc<Snapshot>,
        stats: Arc<CoreStats>,
        log: Option<LogSender>,
        reports: ReportSender,
    ) -> Self {
        let data_bytes = snapshot
            .listeners
            .iter()
            .map(|listener| listener.limits.header_bytes_max)
            .fold(settings.buffer_bytes, usize::max);
        let deadlines = Deadlines::new(limits::TICK);
        Self {
            core: settings.core,
            connections_max: settings.connections_max,
            buffers: BufPool::new(data_bytes, settings.buffers_max)
                .with_larger(
                    limits::TLS_LARGE_MESSAGE_BYTES,
                    limits::TLS_LARGE_MESSAGES_MAX_PER_CORE,
                )
                .with_smaller(limits::SMALL_BUFFER_BYTES, settings.buffers_max),
            held: Rc::default(),
            futures: FuturePool::new(limits::CONTEXTS_KEPT_MAX),
            uploads: FuturePool::new(limits::CONTEXTS_KEPT_MAX),
            contexts: ContextPool::default(),
            pipes: PipePool::new(settings.pipes_max, limits::PIPE_BYTES),
            splice_bytes_min: settings.splice_bytes_min,
            connections: Rc::new(Connections::new(deadlines.latches().clone())),
            deadlines,
            date: DateCache::new(),
            stats,
            handshakes: Turns::default(),
            signing: Signing::default(),
            upstreams: Upstreams::new(settings.core, settings.number, settings.count),
            table: RefCell::new(Rc::new(Table::new(snapshot, reports.clone()))),
            leaving: leaving::Leaving::default(),
            reports,
            places: places::Places::default(),
            tallies: Tallies::default(),
            scratch: RefCell::default(),
            log: RefCell::new(log),
            // Any odd number will do; cores differ so that they do not march in step.
            random: Cell::new(0x9E37_79B9_7F4A_7C15 ^ ((settings.core as u64) << 32 | 1)),
            now_ms: Cell::new(clock::now_ms()),
            draining: Cell::new(false),
            tls_told_tick: Cell::new(0),
            idle_ended: Cell::new(false),
            mirrors_open: Cell::new(0),
        }
    }

    /// A place for one more connection of this listener, if the core and the listener allow it.
    pub fn take_place(&self, listener: ListenerId, seat: Seat) -> Option<Place> {
        if self.connections.len() >= self.connections_max {
            return None;
        }
        let table = self.table_for(listener)?;
        let (_, rules) = table.listener(listener)?;
        self.places.take(listener, rules.limits.connections_max_per_core, &self.stats, seat)
    }

    /// The rules in force. `Rc`: an `Arc` clone per request would bounce a line between cores.
    pub fn table(&self) -> Rc<Table> {
        Rc::clone(&self.table.borrow())
    }

    /// The rules for connections of a listener: those in force, or, for a while, the last that had
    /// it.
    pub fn table_for(&self, listener: ListenerId) -> Option<Rc<Table>> {
        let table = self.table();
        match table.snapshot.listener_index(listener) {
            Some(_) => Some(table),
            None => self.leaving.table(listener),
        }
    }

    /// Whether connections of a listener are passed through as they are.
    pub fn is_passed_through(&self, listener: ListenerId) -> bool {
        self.holds_for(listener, |rules| rules.mode == Mode::Tcp)
    }

    /// Whether clients of a listener read HTTP from the first byte on.
    pub fn speaks_plain_http(&self, listener: ListenerId) -> bool {
        self.holds_for(listener, |rules| rules.mode == Mode::Http && rules.tls.is_none())
    }

    fn holds_for(&self, listener: ListenerId, holds: impl Fn(&Listener) -> bool) -> bool {
        self.table_for(listener)
            .is_some_and(|table| table.listener(listener).is_some_and(|(_, rules)| holds(rules)))
    }

    /// Takes newer rules, between two polls. Cannot fail: all that can (parsing, binding) failed
    /// before any core heard of it. Requests in flight keep the table they pinned; what the rules
    /// no longer have gets `drain_timeout`. Costs what is gone and what is in flight, not what the
    /// rules hold.
    ///
    /// `gone` is what the new rules lack of those in force.
    pub fn swap_table(&self, snapshot: Arc<Snapshot>, gone: &Gone) {
        let old = self.table();
        debug_assert!(snapshot.version > old.snapshot.version, "snapshots arrive in order");
        let drain_ticks = ticks(snapshot.drain_timeout);
        let until_tick = self.deadlines.now_tick().saturating_add(drain_ticks);
        self.stats.snapshot_version.set(i64::try_from(snapshot.version).unwrap_or(i64::MAX));
        self.table.replace(Rc::new(Table::new(snapshot, self.reports.clone())));
        self.upstreams.retire(gone, &self.stats);
        self.connections.doom(gone, until_tick);
        for listener in &gone.listeners {
            self.connections.let_leave(Some(*listener));
            self.leaving.add(*listener, Rc::clone(&old), until_tick);
        }
        self.places.forget(&gone.listeners);
    }

    /// Ends what was given time when its rules went and still goes on. Called each tick.
    pub fn end_leaving(&self) {
        let now_tick = self.deadlines.now_tick();
        self.connections.cut_doomed(now_tick);
        self.leaving.end(now_tick, |listener| self.connections.close_of(listener));
    }

    /// An exchange that began under older rules and is going to last (a tunnel): it gets the time of
    /// those that were under way when its route went, if it went.
    ///
    /// `pinned`: the rules it began under, if they are still known.
    pub fn doom_if_gone(&self, watch: &Watch, pinned: Option<&Table>, pin: Pin) {
        let newest = self.table();
        if pinned.is_some_and(|pinned| newest.snapshot.version == pinned.snapshot.version) {
            return;
        }
        let has_route = newest.snapshot.routes.iter().any(|one| one.key == pin.route);
        let has_pool = newest.snapshot.upstreams.iter().any(|one| one.pools.contains(&pin.pool));
        if !has_route || !has_pool {
            let drain_ticks = ticks(newest.snapshot.drain_timeout);
            watch.doom(self.deadlines.now_tick().saturating_add(drain_ticks));
        }
    }

    /// The next number of this core's sequence (xorshift64*). Good enough to spread load, not to
    /// keep secrets. Source: Vigna, "An experimental exploration of Marsaglia's xorshift
    /// generators, scrambled", 2016.
    pub fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Milliseconds of [`clock::now_ms`] as of the last tick: at most about a tick old, and no read
    /// of the clock.
    #[inline]
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// Reads the clock. Called each tick.
    pub fn advance_clock(&self) {
        self.now_ms.set(clock::now_ms());
    }

    /// Whether connections end after the request they are serving.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// From now on all connections end after the next request they serve.
    pub fn let_leave(&self) {
        self.connections.let_leave(None);
    }

    /// From now on connections end after the next request they serve.
    pub fn start_draining(&self) {
        self.draining.set(true);
        self.connections.let_leave(None);
    }

    /// Whether no connection may wait for another request.
    pub fn has_ended_idle(&self) -> bool {
        self.idle_ended.get()
    }

    /// From now on connections end instead of waiting for a request. To be called again as long as
    /// there are any: one may have begun to wait in between.
    pub fn end_idle(&self) {
        self.idle_ended.set(true);
        self.connections.close_idle();
    }

    /// What is done when a task panics: it is counted, and the control plane told where.
    pub fn at_panic(&self) -> impl FnOnce(PanicPlace) + use<> {
        let (core, stats, reports) = (self.core, Arc::clone(&self.stats), self.reports.clone());
        move |place| {
            stats.panics.inc();
            reports.send(FromWorker::Panicked { core, place: place.to_string().into() });
        }
    }

    /// Tells the control plane why TLS with an endpoint could not be begun; once a second at most.
    pub fn note_tls_failure(
        &self,
        upstream: &Upstream,
        endpoint: EndpointIndex,
        end: &HandshakeEnd,
    ) {
        let now_tick = self.deadlines.now_tick();
        if now_tick < self.tls_told_tick.get() {
            return;
        }
        self.tls_told_tick.set(now_tick + ticks(limits::TLS_FAILURES_TOLD));
        let endpoint = upstream.endpoints.get(usize::from(endpoint.0));
        self.reports.send(FromWorker::TlsFailed {
            upstream: upstream.name.clone(),
            endpoint: endpoint.map(|one| one.authority.clone()).unwrap_or_default(),
            error: end.to_string().into(),
        });
    }

    /// Writes one access log record, if a log is written.
    pub fn log(&self, record: &AccessRecord<'_>, format: AccessLogFormat) {
        if let Some(sender) = &mut *self.log.borrow_mut() {
            sender.push(record, format);
        }
    }

    /// Hands what has been logged so far to the writer.
    pub fn flush_log(&self) {
        if let Some(sender) = &mut *self.log.borrow_mut() {
            sender.flush();
        }
    }

    /// The same for each tick: see [`LogSender::tick`].
    pub fn tick_log(&self) {
        if let Some(sender) = &mut *self.log.borrow_mut() {
            sender.tick();
        }
    }
}

/// How many ticks a length of time is, rounded up.
fn ticks(length: Duration) -> u64 {
    u64::try_from(length.as_millis().div_ceil(limits::TICK.as_millis())).unwrap_or(u64::MAX)
}
