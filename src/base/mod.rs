//! What every room may use: bounds, ids, reason codes, the clock of the process, the pace of long work.
//! Knows nothing of sockets or HTTP.

pub mod clock;
pub mod ids;
pub mod limits;
pub mod pace;
pub mod reason;
