//! Starts one control thread and one worker per core; signals, reload, drain, stop.
//!
//! [`run`] is called by the commands that serve (`run`, `proxy`, `demo`). The calling thread becomes
//! the control thread. Order of the start: rules, machine, sockets, workers, then ready; whatever
//! can fail fails before the first connection is accepted, and says what to do.
//! Tests: in each file, `tests/lifecycle.rs` with the real binary.

mod boot;
mod control;
mod error;
mod listen;
mod machine;
mod rules;

pub use self::{
    boot::{Running, Stopper, run},
    error::ServerError,
    rules::Source,
};
