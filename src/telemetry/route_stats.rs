//! What one core counted for one route.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use crate::{
    base::limits::ROUTE_STATUS_SERIES_MAX,
    telemetry::{
        counter::{Counter, Gauge},
        histogram::Histogram,
    },
};

const _: () = assert!(ROUTE_STATUS_SERIES_MAX.is_power_of_two());

/// Requests by method and status, and their durations. One writer: its core.
#[derive(Debug)]
pub struct RouteStats {
    keys: [AtomicU32; ROUTE_STATUS_SERIES_MAX],
    counts: [Counter; ROUTE_STATUS_SERIES_MAX],
    other: Counter,
    durations: Histogram,
    tcp: OnceLock<Box<TcpStats>>,
}

/// Connections that were passed through.
#[derive(Debug, Default)]
pub struct TcpStats {
    /// Those begun.
    pub connections: Counter,
    /// Those open now.
    pub open: Gauge,
    /// Bytes from clients, counted when a connection ends.
    pub received: Counter,
    /// Bytes to clients, likewise.
    pub sent: Counter,
}

impl TcpStats {
    /// Counts one that begins.
    pub fn begin(&self) {
        self.connections.inc();
        self.open.inc();
    }

    /// Counts its end.
    pub fn end(&self, received: u64, sent: u64) {
        self.open.dec();
        self.received.add(received);
        self.sent.add(sent);
    }
}

impl Default for RouteStats {
    fn default() -> Self {
        Self {
            keys: [const { AtomicU32::new(FREE) }; ROUTE_STATUS_SERIES_MAX],
            counts: [const { Counter::new() }; ROUTE_STATUS_SERIES_MAX],
            other: Counter::new(),
            durations: Histogram::default(),
            tcp: OnceLock::new(),
        }
    }
}

/// A key that no pair of method and status has.
const FREE: u32 = u32::MAX;

impl RouteStats {
    /// Counts one request that ended: `method` is the index of its method, `status` what the client
    /// was (or would have been) told, `micros` how long it took.
    #[inline]
    pub fn record(&self, method: u8, status: u16, micros: u64) {
        self.counter(method, status).inc();
        self.durations.record(micros);
    }

    /// What was passed through; made on first use.
    pub fn tcp(&self) -> &TcpStats {
        self.tcp.get_or_init(Box::default)
    }

    /// The same, if there was anything. For readers.
    pub fn tcp_if_used(&self) -> Option<&TcpStats> {
        self.tcp.get().map(Box::as_ref)
    }

    /// How long requests took.
    pub fn durations(&self) -> &Histogram {
        &self.durations
    }

    /// Calls `each(method, status, count)` for every pair seen.
    pub fn for_each(&self, mut each: impl FnMut(u8, u16, u64)) {
        for (key, count) in self.keys.iter().zip(&self.counts) {
            let key = key.load(Relaxed);
            if key != FREE {
                each((key >> 16) as u8, key as u16, count.get());
            }
        }
    }

    /// Requests of pairs beyond [`ROUTE_STATUS_SERIES_MAX`].
    pub fn other(&self) -> u64 {
        self.other.get()
    }

    /// Open addressing over a handful of pairs: almost always the first slot looked at.
    #[inline]
    fn counter(&self, method: u8, status: u16) -> &Counter {
        let key = u32::from(method) << 16 | u32::from(status);
        let start = (key.wrapping_mul(0x9E37_79B1) >> 16) as usize;
        for step in 0..ROUTE_STATUS_SERIES_MAX {
            let slot = (start + step) & (ROUTE_STATUS_SERIES_MAX - 1);
            match self.keys[slot].load(Relaxed) {
                found if found == key => return &self.counts[slot],
                FREE => {
                    self.keys[slot].store(key, Relaxed);
                    return &self.counts[slot];
                }
                _ => {}
            }
        }
        &self.other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_apart() {
        let stats = RouteStats::default();
        stats.record(0, 200, 10);
        stats.record(0, 200, 20);
        stats.record(1, 200, 30);
        stats.record(0, 404, 40);
        let mut seen = Vec::new();
        stats.for_each(|method, status, count| seen.push((method, status, count)));
        seen.sort_unstable();
        assert_eq!(seen, [(0, 200, 2), (0, 404, 1), (1, 200, 1)]);
        assert_eq!(stats.durations().sum_micros(), 100);
    }

    #[test]
    fn pairs_beyond_the_bound_share_one_counter() {
        let stats = RouteStats::default();
        for status in 100..1000 {
            stats.record(0, status, 1);
        }
        let (mut pairs, mut counted) = (0, 0);
        stats.for_each(|_, _, count| {
            pairs += 1;
            counted += count;
        });
        assert_eq!(pairs, ROUTE_STATUS_SERIES_MAX);
        assert_eq!(counted + stats.other(), 900);
    }
}
