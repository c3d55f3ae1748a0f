//! ringway: an L7 edge proxy and API gateway for Linux, one `io_uring` loop per core.
//!
//! The rooms, from the ground up: [`base`], [`telemetry`], [`proto`], [`policy`], [`snapshot`],
//! [`rt`], then the two planes ([`controlplane`], [`dataplane`]) that meet only in the types of
//! [`snapshot`], and on top [`server`] and [`cli`]. ARCHITECTURE.md walks through them;
//! `tests/tidy.rs` holds the doors between them.

pub mod base;
pub mod cli;
pub mod controlplane;
pub mod dataplane;
pub mod policy;
pub mod proto;
pub mod rt;
pub mod server;
pub mod snapshot;
pub mod telemetry;
pub mod tls;
