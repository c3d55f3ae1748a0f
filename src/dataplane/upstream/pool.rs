//! Unused connections to one endpoint, kept for the next request of this core.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    time::Duration,
};

use super::{LinkKeep, Links, UpstreamConnection};
use crate::{
    base::limits,
    proto::proxy_protocol::Behalf,
    rt::{BufPool, Deadlines},
    telemetry::CoreStats,
};

struct Idle {
    /// Boxed: it comes and goes with every request.
    connection: Box<UpstreamConnection>,
    since_tick: u64,
    /// The tick from which on it is too old.
    until_tick: u64,
}

/// The idle connections of one core to one endpoint; last in, first out, so that those not needed
/// grow old and are closed.
pub struct EndpointPool {
    /// Where the connections go.
    pub address: SocketAddr,
    /// Where HTTP/2 is spoken.
    pub links: Links,
    idle: RefCell<Vec<Idle>>,
    /// No endpoint has this address any more.
    retired: Cell<bool>,
    /// Until this tick the endpoint is known to close connections without saying so.
    closes_silently_until: Cell<u64>,
}

/// How many ticks a length of time is, rounded up.
fn ticks(length: Duration) -> u64 {
    let tick = limits::TICK.as_millis();
    u64::try_from(length.as_millis().div_ceil(tick)).unwrap_or(u64::MAX)
}

impl EndpointPool {
    /// An empty pool.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            links: Links::default(),
            idle: RefCell::default(),
            retired: Cell::new(false),
            closes_silently_until: Cell::new(0),
        }
    }

    /// A connection that an earlier request left, alive as far as this machine knows. Connections
    /// that died or hold bytes nobody asked for are closed on the way: such bytes must never be
    /// taken for the next request's response. So are those unused for too long: the sweep comes only
    /// once a second, and the endpoint may be about to close them.
    ///
    /// For a request that is not `repeatable` there is none while the endpoint is known to close
    /// right after its responses and the last one came only just now.
    pub fn checkout(
        &self,
        repeatable: bool,
        now_tick: u64,
        stats: &CoreStats,
    ) -> Option<Box<UpstreamConnection>> {
        loop {
            let unused_ticks = now_tick.wrapping_sub(self.idle.borrow().last()?.since_tick);
            if !repeatable
                && now_tick < self.closes_silently_until.get()
                && unused_ticks <= ticks(limits::SILENT_CLOSE_WAIT)
            {
                return None;
            }
            let Idle { mut connection, until_tick, .. } = self.idle.borrow_mut().pop()?;
            stats.pool_idle.add(-1);
            if now_tick >= until_tick {
                continue;
            }
            if connection.is_quiet() {
                connection.reused = true;
                stats.upstream_reuses.add(1);
                return Some(connection);
            }
            stats.pool_stale.add(1);
            if unused_ticks <= ticks(limits::SILENT_CLOSE_WAIT) {
                self.note_silent_close(now_tick);
            }
        }
    }

    /// A connection that an earlier request of the same client left, likewise.
    pub fn checkout_for(
        &self,
        behalf: &Behalf,
        now_tick: u64,
        stats: &CoreStats,
    ) -> Option<Box<UpstreamConnection>> {
        loop {
            let mut idle = self.idle.borrow_mut();
            let at = idle.iter().rposition(|one| one.connection.is_for(behalf))?;
            let Idle { mut connection, until_tick, .. } = idle.remove(at);
            stats.pool_idle.add(-1);
            if now_tick < until_tick && connection.is_quiet() {
                connection.reused = true;
                stats.upstream_reuses.add(1);
                return Some(connection);
            }
        }
    }

    /// Remembers that the endpoint closed a connection it had just promised to keep.
    pub fn note_silent_close(&self, now_tick: u64) {
        self.closes_silently_until.set(now_tick + ticks(limits::SILENT_CLOSE_MEMORY));
    }

    /// Keeps a connection whose response has been read to its end.
    pub fn checkin(
        &self,
        connection: Box<UpstreamConnection>,
        keep: KeepLimits,
        buffers: &BufPool,
        deadlines: &Deadlines,
        stats: &CoreStats,
    ) {
        let now_tick = deadlines.now_tick();
        if connection.socket.is_stream()
            || self.retired.get()
            || connection.permit.as_ref().is_some_and(|permit| !permit.may_be_kept())
            || connection.age_ticks(now_tick) >= ticks(keep.age_max)
        {
            return;
        }
        connection.socket.read_without_deadline();
        connection.socket.write_without_deadline();
        let mut idle = self.idle.borrow_mut();
        if connection.is_for_one() && idle.len() >= keep.idle_max && !idle.is_empty() {
            idle.remove(0); // the client of the oldest has probably left
            stats.pool_idle.add(-1);
        }
        if idle.len() < keep.idle_max {
            connection.socket.listen(buffers); // so that its end is seen without asking
            let until_tick = now_tick.saturating_add(ticks(keep.idle));
            if let Some(permit) = &connection.permit {
                permit.note_unused();
            }
            idle.push(Idle { connection, since_tick: now_tick, until_tick });
            stats.pool_idle.add(1);
        }
    }

    /// Closes the connection that has been unused for longest, if there is one.
    pub fn close_unused(&self, stats: &CoreStats) -> bool {
        let mut idle = self.idle.borrow_mut();
        if idle.is_empty() {
            drop(idle);
            return self.links.close_unused();
        }
        let closed = idle.remove(0);
        drop(idle);
        stats.pool_idle.add(-1);
        drop(closed); // calls one who waits for it
        true
    }

    /// Closes what has been unused for too long, was closed by the endpoint, or holds bytes nobody
    /// asked for. Called each second.
    pub fn sweep(&self, now_tick: u64, stats: &CoreStats) {
        self.links.sweep(now_tick);
        let mut kept = self.idle.borrow_mut();
        if kept.is_empty() {
            return;
        }
        let before = kept.len();
        kept.retain(|one| now_tick < one.until_tick && one.connection.is_quiet());
        stats.pool_idle.add(-i64::try_from(before - kept.len()).unwrap_or(0));
        if kept.is_empty() {
            *kept = Vec::new(); // an endpoint nobody uses costs no memory
        }
    }

    /// Keeps no connection from now on.
    pub fn retire(&self) {
        self.retired.set(true);
    }

    /// Closes all idle connections.
    pub fn close_idle(&self, stats: &CoreStats) {
        self.links.close();
        let closed = std::mem::take(&mut *self.idle.borrow_mut());
        stats.pool_idle.add(-i64::try_from(closed.len()).unwrap_or(0));
    }

    /// How many connections wait.
    pub fn idle_count(&self) -> usize {
        self.idle.borrow().len()
    }
}

/// `[upstream.pool]`.
#[derive(Clone, Copy, Debug)]
pub struct KeepLimits {
    /// Connections kept at most.
    pub idle_max: usize,
    /// How long one is kept.
    pub idle: Duration,
    /// Age at which a connection is not kept again.
    pub age_max: Duration,
}

impl KeepLimits {
    /// The same for connections of HTTP/2.
    pub fn of_links(&self) -> LinkKeep {
        LinkKeep { idle: ticks(self.idle), age: ticks(self.age_max) }
    }
}
