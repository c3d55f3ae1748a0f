//! What one core owns: its table, pools, buffers, contexts, deadlines, connections and counters.
//!
//! One [`Shard`] lives on each worker's thread behind an `Rc`; no other thread can reach it.

mod clock;
mod connections;
mod places;
mod table;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

pub use clock::DateCache;
pub use connections::{Connections, Phase, Watch};
pub use places::Place;
pub use table::{Table, UpstreamState};

use super::context::ContextPool;
use crate::{
    base::{ids::ListenerIndex, limits},
    rt::{BufPool, Deadlines, FuturePool, PipePool},
    snapshot::{Snapshot, WorkerSettings},
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
    /// Memory for the futures that serve requests.
    pub futures: FuturePool,
    /// Contexts of requests.
    pub contexts: ContextPool,
    /// Pipes for `splice(2)`.
    pub pipes: PipePool,
    /// Deadlines of all sockets.
    pub deadlines: Deadlines,
    /// The clients' connections.
    pub connections: Rc<Connections>,
    /// The value of `Date`, made once a second.
    pub date: DateCache,
    /// What is counted.
    pub stats: Arc<CoreStats>,
    table: RefCell<Rc<Table>>,
    places: places::Places,
    log: RefCell<Option<LogSender>>,
    random: Cell<u64>,
    draining: Cell<bool>,
}

impl Shard {
    /// A shard that obeys `snapshot`.
    pub fn new(
        settings: &WorkerSettings,
        snapshot: Arc<Snapshot>,
        stats: Arc<CoreStats>,
        log: Option<LogSender>,
    ) -> Self {
        let data_bytes = snapshot
            .listeners
            .iter()
            .map(|listener| listener.limits.header_bytes_max)
            .fold(limits::BUFFER_BYTES, usize::max);
        Self {
            core: settings.core,
            connections_max: settings.connections_max,
            buffers: BufPool::new(data_bytes, limits::BUFFERS_MAX_PER_CORE),
            futures: FuturePool::new(limits::CONTEXTS_KEPT_MAX),
            contexts: ContextPool::default(),
            pipes: PipePool::new(settings.pipes_max, limits::PIPE_BYTES),
            deadlines: Deadlines::new(limits::TICK),
            connections: Rc::default(),
            date: DateCache::new(),
            stats,
            table: RefCell::new(Rc::new(Table::new(snapshot, settings.core))),
            places: places::Places::default(),
            log: RefCell::new(log),
            // Any odd number will do; cores differ so that they do not march in step.
            random: Cell::new(0x9E37_79B9_7F4A_7C15 ^ ((settings.core as u64) << 32 | 1)),
            draining: Cell::new(false),
        }
    }

    /// A place for one more connection of this listener, if the core and the listener allow it.
    pub fn take_place(&self, listener: ListenerIndex) -> Option<Place> {
        if self.connections.len() >= self.connections_max {
            return None;
        }
        let table = self.table();
        let max = table.snapshot.listeners.get(usize::from(listener.0))?.limits;
        self.places.take(listener, max.connections_max_per_core, &self.stats)
    }

    /// The rules in force. `Rc`: an `Arc` clone per request would bounce a line between cores.
    pub fn table(&self) -> Rc<Table> {
        Rc::clone(&self.table.borrow())
    }

    /// Takes the newest snapshot, between two polls. Cannot fail: all that can (parsing, binding)
    /// failed before any core heard of it. Requests in flight keep the table they pinned.
    pub fn swap_table(&self, snapshot: Arc<Snapshot>) {
        let old = self.table();
        if snapshot.version <= old.snapshot.version {
            return; // newest wins: a message that waited behind a newer one changes nothing
        }
        let new = Rc::new(Table::carry_over(&old, snapshot, self.core));
        old.close_pools_not_in(&new, &self.stats);
        self.stats.snapshot_version.set(i64::try_from(new.snapshot.version).unwrap_or(i64::MAX));
        self.table.replace(new);
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

    /// Whether connections end after the request they are serving.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// From now on connections end after the request they are serving; idle ones end at once.
    pub fn start_draining(&self) {
        self.draining.set(true);
        self.connections.close_idle();
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
}
