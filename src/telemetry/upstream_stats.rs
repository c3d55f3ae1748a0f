//! What one core counted for one upstream.

use crate::telemetry::counter::Counter;

/// Exchanges with one upstream. One writer: its core.
#[derive(Debug, Default)]
pub struct UpstreamStats {
    exchanges: Counter,
    failures: Counter,
    micros: Counter,
    /// Further tries, by the place of their cause in [`RETRY_CAUSES`].
    pub retries: [Counter; RETRY_CAUSES.len()],
    /// Ejections of endpoints, by the place of their reason in [`EJECTION_REASONS`].
    pub ejections: [Counter; EJECTION_REASONS.len()],
    /// Ejections that the ceiling did not allow.
    pub ejections_denied: Counter,
    /// Requests refused before an endpoint was tried, by who refused them.
    pub refused: [Counter; Refuser::NAMES.len()],
    /// Requests that were sent to a second endpoint, by who answered.
    pub hedged: [Counter; Hedged::NAMES.len()],
    /// How often a breaker opened, that of the upstream or of an endpoint.
    pub breaker_opened: Counter,
    /// Further tries that the budget did not allow.
    pub retries_denied: Counter,
}

/// Why an endpoint was ejected: what `[upstream.passive]` looks at, and a trial that failed.
pub const EJECTION_REASONS: [&str; 5] =
    ["consecutive_errors", "error_rate", "success_rate", "latency", "trial"];

/// Who answered a request that was sent to two endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hedged {
    /// The first one, after all.
    First,
    /// The second one.
    Second,
    /// Neither.
    Nobody,
}

impl Hedged {
    /// Their words in metrics, by discriminant.
    pub const NAMES: [&str; 3] = ["first", "second", "nobody"];
}

/// Who refused a request before an endpoint was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuser {
    /// `[upstream.overload]`: no place, and none to wait.
    Limit,
    /// `[upstream.overload]`: it waited for a place in vain.
    PendingTimeout,
    /// `[upstream.overload]`: no connection, and no place to wait for one.
    Connections,
    /// The circuit breaker of the upstream.
    Breaker,
    /// Nothing can be picked, and breakers of endpoints are open.
    EndpointBreakers,
    /// Nothing can be picked: all endpoints are down, draining, ejected or disabled.
    NoEndpoint,
}

impl Refuser {
    /// Their words in metrics, by discriminant.
    pub const NAMES: [&str; 6] =
        ["limit", "pending_timeout", "connections", "breaker", "endpoint_breakers", "no_endpoint"];
}

/// Why a request was tried again: the causes that `route.retry.on` names, and a pooled connection
/// that had died unseen.
pub const RETRY_CAUSES: [&str; 6] =
    ["connect", "reset", "timeout", "invalid", "status", "stale_connection"];

impl UpstreamStats {
    /// Counts one exchange: `micros` from the choice of an endpoint to its response head (or to the
    /// failure), `failed` if no usable response came.
    #[inline]
    pub fn record(&self, micros: u64, failed: bool) {
        self.exchanges.inc();
        self.failures.add(u64::from(failed));
        self.micros.add(micros);
    }

    /// Counts a request that was sent to a second endpoint.
    pub fn note_hedged(&self, answered: Hedged) {
        self.hedged[answered as usize].inc();
    }

    /// Counts a request that was refused before an endpoint was tried.
    pub fn note_refused(&self, by: Refuser) {
        self.refused[by as usize].inc();
    }

    /// Exchanges, failed ones included.
    pub fn exchanges(&self) -> u64 {
        self.exchanges.get()
    }

    /// Exchanges without a usable response.
    pub fn failures(&self) -> u64 {
        self.failures.get()
    }

    /// The time of all exchanges, microseconds.
    pub fn micros(&self) -> u64 {
        self.micros.get()
    }
}
