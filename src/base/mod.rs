//! What every room may use: bounds, ids, reason codes. Knows nothing of sockets, clocks or HTTP.

pub mod ids;
pub mod limits;
pub mod reason;
