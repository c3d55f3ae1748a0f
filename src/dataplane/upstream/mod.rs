//! The origin side: connections to endpoints and the pools that keep them between requests.

mod connection;
mod pool;

pub use connection::UpstreamConnection;
pub use pool::{EndpointPool, KeepLimits};
