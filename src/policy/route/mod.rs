//! Finds the route of a request.

/// The compiled routes of one snapshot.
#[derive(Debug)]
pub struct RouteTable;

/// How the path that is sent upstream is made.
#[derive(Clone, Debug, Default)]
pub enum TargetRule {
    /// As it came.
    #[default]
    Keep,
}
