//! What the tests of `rt` have in common: the driver they run on.

use ringway::rt::{DriverKind, RuntimeSettings};

/// A loop on the driver that `RINGWAY_TEST_DRIVER` names, `io_uring` where it names none.
pub(crate) fn settings() -> RuntimeSettings {
    let driver = match std::env::var("RINGWAY_TEST_DRIVER").as_deref() {
        Ok("epoll") => DriverKind::Epoll,
        Ok("io_uring") | Err(_) => DriverKind::IoUring,
        Ok(other) => panic!("RINGWAY_TEST_DRIVER={other}: io_uring or epoll"),
    };
    RuntimeSettings { driver, ring_entries: 256, ..Default::default() }
}
