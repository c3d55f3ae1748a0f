//! The origin side: connections to endpoints and the pools that keep them between requests.

mod connection;
mod links;
mod permits;
mod pool;
mod waiting;

pub use connection::{TlsWish, UpstreamConnection};
pub use links::{LinkKeep, LinkNeeds, Links};
pub use permits::{Full, Permit, Permits};
pub use pool::{EndpointPool, KeepLimits};
pub use waiting::Waiting;
