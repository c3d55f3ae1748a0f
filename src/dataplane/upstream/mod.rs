//! The origin side: connections to endpoints and the pools that keep them between requests.

mod connection;
mod links;
mod pool;

pub use connection::{TlsWish, UpstreamConnection};
pub use links::{LinkKeep, LinkNeeds, Links};
pub use pool::{EndpointPool, KeepLimits};
