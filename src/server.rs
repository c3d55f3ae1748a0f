//! Starts one control thread and one worker per core; signals, reload, drain, stop.
//!
//! [`run`] is called by the commands that serve (`run`, `proxy`, `demo`). The calling thread becomes
//! the control thread. Order of the start: rules, machine, sockets, workers, then ready; whatever
//! can fail fails before the first connection is accepted, and says what to do.
//! Tests: in each file; with the real binary in `tests/blackbox/` (`cli`, `drain`, `reload`, `observe`).

mod boot;
mod changing;
mod control;
mod error;
mod listen;
mod machine;
mod prepare;
mod reader;
mod rules;
mod systemd;
mod upgrade;
mod upgrading;
mod watch;

pub use self::{
    boot::{Options, Running, Stopper, run},
    error::ServerError,
    rules::Source,
};
