//! Where configuration comes from, and how its changes are noticed.

mod stamp;
mod watch;

pub use stamp::{Look, Stamp};
pub use watch::{Watch, WatchError};
