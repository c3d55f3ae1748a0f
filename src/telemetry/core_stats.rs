//! All that one core counts. The core writes, anybody reads; nobody waits.

use std::sync::{Arc, OnceLock};

use crate::{
    base::{
        ids::StatsSlot,
        limits::{ROUTE_SERIES_MAX, UPSTREAM_SERIES_MAX},
        reason::Reason,
    },
    telemetry::{
        counter::{Counter, Gauge},
        route_stats::RouteStats,
        upstream_stats::UpstreamStats,
    },
};

/// Where requests are counted whose route has no series of its own.
pub const ROUTE_OTHER: StatsSlot = StatsSlot(ROUTE_SERIES_MAX as u16);
/// Where requests are counted that matched no route.
pub const ROUTE_NONE: StatsSlot = StatsSlot(ROUTE_SERIES_MAX as u16 + 1);
/// Where exchanges are counted whose upstream has no series of its own.
pub const UPSTREAM_OTHER: StatsSlot = StatsSlot(UPSTREAM_SERIES_MAX as u16);

const ROUTE_SLOTS: usize = ROUTE_SERIES_MAX + 2;
const UPSTREAM_SLOTS: usize = UPSTREAM_SERIES_MAX + 1;

macro_rules! core_stats {
    ($($(#[$doc:meta])* $name:ident: $kind:ty;)*) => {
        /// The numbers of one core. Aligned so that no two cores share a cache line (two, for the
        /// prefetcher that fetches pairs).
        #[derive(Debug)]
        #[repr(align(128))]
        pub struct CoreStats {
            core: usize,
            $($(#[$doc])* pub $name: $kind,)*
            /// Answers and cuts of ringway's own, by [`Reason`].
            pub reasons: [Counter; Reason::COUNT],
            routes: Box<[OnceLock<Box<RouteStats>>]>,
            upstreams: Box<[OnceLock<Box<UpstreamStats>>]>,
        }

        impl CoreStats {
            /// All at zero. `core` is the number of the CPU the worker stands for.
            pub fn new(core: usize) -> Arc<Self> {
                Arc::new(Self {
                    core,
                    $($name: <$kind>::new(),)*
                    reasons: [const { Counter::new() }; Reason::COUNT],
                    routes: (0..ROUTE_SLOTS).map(|_| OnceLock::new()).collect(),
                    upstreams: (0..UPSTREAM_SLOTS).map(|_| OnceLock::new()).collect(),
                })
            }
        }
    };
}

core_stats! {
    /// Connections of clients taken from the accept queue.
    connections_accepted: Counter;
    /// Connections of clients open now.
    connections_open: Gauge;
    /// Connections accepted here and handed to a core that had fewer.
    connections_handed: Counter;
    /// Connections closed at once because the core had as many as it may.
    connections_refused: Counter;
    /// TLS handshakes that made a new session.
    tls_full: Counter;
    /// TLS handshakes that resumed a session.
    tls_resumed: Counter;
    /// TLS handshakes that failed because the two sides have nothing in common.
    tls_incompatible: Counter;
    /// TLS handshakes that failed because of a certificate of the client.
    tls_certificate: Counter;
    /// TLS handshakes that the client ended with an alert.
    tls_alert: Counter;
    /// TLS handshakes that broke the protocol, and connections that are no TLS.
    tls_protocol: Counter;
    /// TLS handshakes that took too long.
    tls_timeout: Counter;
    /// TLS handshakes that the client gave up.
    tls_closed: Counter;
    /// TLS handshakes not begun because too many were under way.
    tls_refused: Counter;
    /// TLS handshakes that failed for a reason of ours.
    tls_other: Counter;
    /// Requests that ended, answered or not.
    requests_total: Counter;
    /// Requests between their head and their last byte.
    requests_in_flight: Gauge;
    /// Panics caught at the edge of a task; each cost one connection.
    panics: Counter;
    /// Bytes received from clients.
    downstream_bytes_in: Counter;
    /// Bytes sent to clients.
    downstream_bytes_out: Counter;
    /// Bytes moved by `splice(2)`, both directions.
    spliced_bytes: Counter;
    /// Connections to endpoints begun.
    upstream_connects: Counter;
    /// Connections to endpoints that could not be made.
    upstream_connect_failures: Counter;
    /// Exchanges over a pooled connection.
    upstream_reuses: Counter;
    /// Further tries after the first one failed.
    upstream_retries: Counter;
    /// Copies of requests that were answered.
    mirrored_answered: Counter;
    /// Copies of requests that were not.
    mirrored_failed: Counter;
    /// Requests not copied because too many copies were under way.
    mirrored_full: Counter;
    /// Requests not copied because they can't be: upgrades, long bodies and those of unknown length.
    mirrored_unfit: Counter;
    /// Idle connections to endpoints kept now.
    pool_idle: Gauge;
    /// Pooled connections found dead when they were to be used.
    pool_stale: Counter;
    /// Requests whose client left before the end.
    client_gone: Counter;
    /// HTTP/2 connections of clients begun.
    http2_connections: Counter;
    /// HTTP/2 connections ended because the client broke the rules or flooded.
    http2_violations: Counter;
    /// Streams of clients begun.
    http2_streams: Counter;
    /// Streams that their client reset before the response had ended.
    http2_streams_reset: Counter;
    /// Streams refused because too much waits for their client already.
    http2_streams_refused: Counter;
    /// Streams refused because their request was malformed.
    http2_streams_malformed: Counter;
    /// Access log records dropped because the writer did not keep up.
    access_log_dropped: Counter;
    /// Beats of the loop's clock.
    loop_ticks: Counter;
    /// Connections closed because their PROXY protocol header was bad, late, or of a stranger.
    proxy_headers_refused: Counter;
    /// Microseconds that the thread of this core was running.
    busy_micros: Counter;
    /// The longest delay of a beat so far, microseconds: somebody held the core that long.
    loop_stall_micros_max: Counter;
    /// The longest this core was held by taking new rules, microseconds.
    rules_swap_micros_max: Counter;
    /// The version of the rules in force on this core.
    snapshot_version: Gauge;
    /// Pooled buffers in use now.
    buffers_in_use: Gauge;
    /// Bytes of response bodies that wait because HTTP/2 clients take nothing.
    http2_held_bytes: Gauge;
}

impl CoreStats {
    /// The number of the CPU this worker stands for.
    pub fn core(&self) -> usize {
        self.core
    }

    /// The counters of a route; made on first use. A slot out of range is [`ROUTE_OTHER`].
    #[inline]
    pub fn route(&self, slot: StatsSlot) -> &RouteStats {
        let slot = self.routes.get(usize::from(slot.0)).unwrap_or(&self.routes[ROUTE_SERIES_MAX]);
        slot.get_or_init(Box::default)
    }

    /// The counters of an upstream; made on first use. A slot out of range is [`UPSTREAM_OTHER`].
    #[inline]
    pub fn upstream(&self, slot: StatsSlot) -> &UpstreamStats {
        let slot =
            self.upstreams.get(usize::from(slot.0)).unwrap_or(&self.upstreams[UPSTREAM_SERIES_MAX]);
        slot.get_or_init(Box::default)
    }

    /// Counts an answer or a cut of ringway's own.
    #[inline]
    pub fn reason(&self, reason: Reason) {
        self.reasons[reason as usize].inc();
    }

    /// What was counted for a route, if this core ever served it. For readers.
    pub fn route_if_used(&self, slot: StatsSlot) -> Option<&RouteStats> {
        self.routes.get(usize::from(slot.0))?.get().map(Box::as_ref)
    }

    /// What was counted for an upstream, if this core ever used it. For readers.
    pub fn upstream_if_used(&self, slot: StatsSlot) -> Option<&UpstreamStats> {
        self.upstreams.get(usize::from(slot.0))?.get().map(Box::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_counters_are_made_on_first_use() {
        let stats = CoreStats::new(3);
        assert_eq!(stats.core(), 3);
        assert!(stats.route_if_used(StatsSlot(5)).is_none());
        stats.route(StatsSlot(5)).record(0, 200, 1);
        assert!(stats.route_if_used(StatsSlot(5)).is_some());
        assert!(stats.route_if_used(StatsSlot(6)).is_none());
    }

    #[test]
    fn a_slot_out_of_range_is_other() {
        let stats = CoreStats::new(0);
        stats.route(StatsSlot(u16::MAX)).record(0, 200, 1);
        assert!(stats.route_if_used(ROUTE_OTHER).is_some());
        assert!(stats.route_if_used(ROUTE_NONE).is_none());
        stats.upstream(StatsSlot(u16::MAX)).record(5, true);
        let other = stats.upstream_if_used(UPSTREAM_OTHER).expect("counted");
        assert_eq!((other.exchanges(), other.failures(), other.micros()), (1, 1, 5));
    }

    #[test]
    fn reasons_are_counted_by_their_index() {
        let stats = CoreStats::new(0);
        stats.reason(Reason::Internal);
        assert_eq!(stats.reasons[Reason::Internal as usize].get(), 1);
    }
}
