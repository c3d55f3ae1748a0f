//! The load generator: one epoll thread that turns from proxy to proxy in short slices.
//!
//! In each cycle it goes A B C C B A, so that a drift of the machine weighs on all alike. A slice
//! loads one proxy, stops, waits for the last answers and a moment more, and only then reads the
//! CPU time the proxy's threads have used: every nanosecond belongs to a request that was counted.

mod connection;
mod probe;
mod record;
mod slices;

pub use probe::{open_idle, probe};
pub use record::{Outcome, Slice, Tally};
pub use slices::run;

use crate::scenario::Scenario;

/// A proxy to load.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its name in the results.
    pub name: String,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// Its process, whose descendants count as well.
    pub pid: u32,
}

impl Target {
    /// Reads `NAME=PORT,PID`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text}: expected NAME=PORT,PID");
        let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (port, pid) = rest.split_once(',').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let pid = pid.parse().map_err(|_| wrong())?;
        Ok(Self { name: name.to_owned(), port, pid })
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The kind of load.
    pub scenario: Scenario,
    /// Measured cycles; one cycle loads every target twice.
    pub cycles: usize,
    /// Cycles before those, not recorded.
    pub warmup_cycles: usize,
    /// Length of a slice in milliseconds.
    pub slice_ms: u64,
    /// The proxies, in the order of a cycle's first half.
    pub targets: Vec<Target>,
    /// The origin, to show that it was not the bottleneck.
    pub origin_pid: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let target = Target { name: "nginx".to_owned(), port: 80, pid: 7 };
        assert_eq!(Target::parse("nginx=80,7"), Ok(target));
        assert!(Target::parse("nginx=80").is_err());
    }
}
