//! What is counted and logged, and how; knows neither plane.
//!
//! A core counts with plain stores into its own [`core_stats::CoreStats`]; the control side reads
//! them whenever it is asked and never makes a core wait. Log records travel in batches
//! ([`log_ring`]). Whoever adds a metric adds it to [`names`] and to `docs/metrics.md`.

pub mod access;
pub mod core_stats;
pub mod counter;
pub mod escape;
pub mod histogram;
pub mod log_ring;
pub mod names;
pub mod route_stats;
pub mod time;
pub mod upstream_stats;

pub use access::{AccessLogFormat, AccessRecord};
pub use core_stats::CoreStats;
pub use counter::{Counter, Gauge};
pub use log_ring::LogSender;
pub use route_stats::{RouteStats, TcpStats};
pub use upstream_stats::UpstreamStats;
