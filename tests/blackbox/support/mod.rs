//! What the black-box tests stand on: the real binary, scripted origins, a raw client.
//!
//! Everything is blocking and bounded: a wait that takes longer than [`PATIENCE`] fails the test with
//! a sentence that says what was waited for. No test sleeps to "let something happen"; it waits for
//! the thing. Ports are chosen by the kernel, so tests run side by side.

pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod dns;
pub(crate) mod frames;
pub(crate) mod load;
pub(crate) mod origin;
pub(crate) mod process;
pub(crate) mod ringway;
pub(crate) mod table;
pub(crate) mod tls;
pub(crate) mod wire;

pub(crate) use client::Client;
pub(crate) use config::Conf;
pub(crate) use load::Load;
pub(crate) use origin::{Origin, Step};
pub(crate) use ringway::Ringway;
pub(crate) use table::{Row, row, run_rows};
pub(crate) use wire::{End, Message};

use std::{
    io::Write,
    time::{Duration, Instant},
};

/// Longest wait for anything that should happen at once. Generous, because test machines are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Asks again and again, with short pauses, until `check` yields a value. For what can't be waited
/// for in a better way, such as a number in `/proc`.
pub(crate) fn eventually<T>(
    what: &str,
    within: Duration,
    mut check: impl FnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < end, "waited {within:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Says that a test did not run, and what it misses. Past libtest's capture, so that it is seen.
pub(crate) fn skipped(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// A small generator (splitmix64) for tests that need many different values; printed seeds repeat it.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A value below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// `len` bytes that differ from each other enough to show a shifted or repeated copy.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let mut random = Random(len as u64);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Bytes for a failure message: escaped, cut.
pub(crate) fn show(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(600)];
    let more = if cut.len() < bytes.len() {
        format!("… ({} bytes)", bytes.len())
    } else {
        String::new()
    };
    format!("\"{}\"{more}", cut.escape_ascii())
}
