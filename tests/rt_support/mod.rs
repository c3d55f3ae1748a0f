//! What the tests of `rt` have in common: the driver they run on, and waiting for what comes late.

#![allow(dead_code, reason = "each file of tests takes what it needs")]

use std::time::{Duration, Instant};

use ringway::rt::{self, DriverKind, RuntimeSettings};

/// A loop on the driver that `RINGWAY_TEST_DRIVER` names, `io_uring` where it names none.
pub(crate) fn settings() -> RuntimeSettings {
    let driver = match std::env::var("RINGWAY_TEST_DRIVER").as_deref() {
        Ok("epoll") => DriverKind::Epoll,
        Ok("io_uring") | Err(_) => DriverKind::IoUring,
        Ok(other) => panic!("RINGWAY_TEST_DRIVER={other}: io_uring or epoll"),
    };
    RuntimeSettings { driver, ring_entries: 256, ..Default::default() }
}

/// Waits on a loop until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        rt::sleep(Duration::from_millis(1)).await;
    }
}
