//! Unused connections to one endpoint, kept for the next request of this core.

use std::{cell::RefCell, net::SocketAddr, time::Duration};

use super::UpstreamConnection;
use crate::{
    base::limits,
    rt::{BufPool, Deadlines},
    telemetry::CoreStats,
};

struct Idle {
    connection: UpstreamConnection,
    since_tick: u64,
}

/// The idle connections of one core to one endpoint; last in, first out, so that those not needed
/// grow old and are closed.
pub struct EndpointPool {
    /// Where the connections go.
    pub address: SocketAddr,
    idle: RefCell<Vec<Idle>>,
}

/// How many ticks a length of time is, rounded up.
fn ticks(length: Duration) -> u64 {
    let tick = limits::TICK.as_millis();
    u64::try_from(length.as_millis().div_ceil(tick)).unwrap_or(u64::MAX)
}

impl EndpointPool {
    /// An empty pool.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, idle: RefCell::default() }
    }

    /// A connection that an earlier request left, alive as far as this machine knows. Connections
    /// that died or hold bytes nobody asked for are closed on the way: such bytes must never be
    /// taken for the next request's response.
    pub fn checkout(&self, stats: &CoreStats) -> Option<UpstreamConnection> {
        loop {
            let Idle { mut connection, .. } = self.idle.borrow_mut().pop()?;
            stats.pool_idle.add(-1);
            if connection.is_quiet() {
                connection.reused = true;
                stats.upstream_reuses.add(1);
                return Some(connection);
            }
            stats.pool_stale.add(1);
        }
    }

    /// Keeps a connection whose response has been read to its end.
    pub fn checkin(
        &self,
        connection: UpstreamConnection,
        keep: KeepLimits,
        buffers: &BufPool,
        deadlines: &Deadlines,
        stats: &CoreStats,
    ) {
        let now_tick = deadlines.now_tick();
        if connection.age_ticks(now_tick) >= ticks(keep.age_max) {
            return;
        }
        connection.socket.read_without_deadline();
        connection.socket.write_without_deadline();
        let mut idle = self.idle.borrow_mut();
        if idle.len() < keep.idle_max {
            connection.socket.stream.listen(buffers); // so that its end is seen without asking
            idle.push(Idle { connection, since_tick: now_tick });
            stats.pool_idle.add(1);
        }
    }

    /// Closes what has been unused for `idle`, was closed by the endpoint, or holds bytes nobody
    /// asked for. Called each second.
    pub fn sweep(&self, idle: Duration, now_tick: u64, stats: &CoreStats) {
        let mut kept = self.idle.borrow_mut();
        if kept.is_empty() {
            return;
        }
        let before = kept.len();
        let idle_ticks = ticks(idle);
        kept.retain(|one| now_tick.wrapping_sub(one.since_tick) < idle_ticks);
        kept.retain(|one| one.connection.is_quiet());
        stats.pool_idle.add(-i64::try_from(before - kept.len()).unwrap_or(0));
        if kept.is_empty() {
            *kept = Vec::new(); // an endpoint nobody uses costs no memory
        }
    }

    /// Closes all idle connections.
    pub fn close_idle(&self, stats: &CoreStats) {
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
    /// Age at which a connection is not kept again.
    pub age_max: Duration,
}
