//! Indices into a snapshot. Each is valid only for the snapshot that handed it out.

/// Position of a listener in [`crate::snapshot::Snapshot::listeners`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerIndex(pub u16);

/// Position of a route in [`crate::snapshot::Snapshot::routes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteIndex(pub u32);

/// Position of an upstream in [`crate::snapshot::Snapshot::upstreams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamIndex(pub u32);

/// Position of an endpoint inside its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointIndex(pub u16);

/// Which counters a route or upstream writes to; survives reloads, bounded by
/// [`crate::base::limits::ROUTE_SERIES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatsSlot(pub u16);
