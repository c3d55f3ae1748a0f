//! Finds the route of a request: one compiled table, never a scan over all routes.
//!
//! The order of candidates is a total order over all routes, known when the table is built (see
//! `rank.rs`): each entry carries its place in it. A look-up walks the few parts of the table that
//! can match (host by hash, exact path by hash, the rest by a tree of segments) and keeps the entry
//! with the lowest rank; whole parts are skipped when nothing in them could still win. Priority
//! cuts across hosts and path classes, and costs nothing where it isn't used.
//!
//! The compiler (`controlplane::compile`) builds it with [`TableBuilder`], the data plane calls
//! [`RouteTable::find`], `ringway explain` calls [`RouteTable::explain`], which walks the same code
//! with another observer. `tests/routing_oracle/main.rs` compares it with a naive scan.

mod affected;
mod builder;
mod captures;
mod check;
mod compile;
mod condition;
mod conflict;
mod error;
mod explain;
mod guards;
mod hash;
mod host;
mod interner;
mod layout;
mod literal;
mod pattern;
mod rank;
mod regexes;
mod request;
mod spec;
mod table;
mod target;
mod tree;
mod walk;

pub use builder::{RouteNumber, TableBuilder};
pub use captures::Captures;
pub use conflict::Conflict;
pub use error::RouteError;
pub use explain::Candidate;
pub use layout::Layout;
pub use request::{FieldSource, RouteMatch, RouteQuery};
pub use spec::{PathSpec, RouteSpec, ValueSpec};
pub use table::RouteTable;
pub use target::TargetRule;
pub(super) use {condition::query_value, hash::hash as hash_bytes};
