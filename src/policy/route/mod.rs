//! Finds the route of a request.

mod builder;
mod captures;
mod error;
mod literal;
mod request;
mod spec;
mod target;

pub use builder::{Candidate, Conflict, RouteTable, TableBuilder};
pub use captures::Captures;
pub use error::RouteError;
pub use request::{FieldSource, RouteMatch, RouteQuery};
pub use spec::{PathSpec, RouteSpec, ValueSpec};
pub use target::TargetRule;
