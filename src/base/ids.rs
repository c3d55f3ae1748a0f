//! Indices into a snapshot, each valid only for the snapshot that handed it out, and identities, which
//! keep their meaning from version to version.

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

/// Which listener a connection came in by: the same in every version that has the listener's address,
/// and never given out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u32);

/// Which route, by its id in TOML: the same in every version that has it, never given out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKey(pub u32);

/// Who has a place in the arrays that a core keeps over versions. Places are given out again, each time
/// with a higher generation, so that nobody is taken for who was there before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Index into the arrays; dense.
    pub place: u32,
    /// Rises with each new owner of the place.
    pub generation: u32,
}
