//! Side-by-side benchmarks of ringway and its peers: see `docs/benchmarks.md`.
//!
//! `origin` answers, `load` asks and measures CPU time in interleaved slices, `compare` starts
//! everything, checks the set-up and prints ratios; `validate` checks `load` against wrk and
//! `flame` draws where the time goes.

pub mod args;
pub mod churn;
pub mod fleet;
pub mod load;
pub mod origin;
pub mod peers;
pub mod procfs;
pub mod report;
pub mod scenario;
pub mod setup;
pub mod shares;
pub mod stats;
pub mod sys;
pub mod wire;
