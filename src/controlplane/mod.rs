//! May wait, may fail: reads the configuration, compiles it, sends it to the cores, shows what they
//! do. One ordinary thread with a tokio runtime; no core ever waits for it.

pub mod admin;
pub mod broadcast;
pub mod by_hand;
pub mod carry;
pub mod certificates;
pub mod changes;
pub mod compile;
pub mod config;
pub mod diff;
pub mod dns;
pub mod explain;
pub mod export;
#[cfg(test)]
pub(crate) mod fixtures;
mod hash;
pub mod health;
pub mod heartbeats;
pub mod log;
pub mod rollout;
pub mod series;
pub mod source;
pub mod standing;
pub mod state;
mod state_file;
pub mod store;
