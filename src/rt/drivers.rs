//! The choice of a driver: made once per loop, looked at per operation, which costs a branch that is
//! always taken the same way.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::driver::Driver;
use super::epoll::Epoll;

/// What a loop asks the kernel with.
#[expect(clippy::large_enum_variant, reason = "one per loop, never moved")]
pub(super) enum AnyDriver {
    /// An `io_uring`.
    Ring(Driver),
    /// An epoll, and system calls that don't wait.
    Epoll(Epoll),
}

impl AnyDriver {
    /// The number of a new loop, unique in the process and not 0: what belongs to another loop is
    /// told by it.
    pub(super) fn next_number() -> u32 {
        static LAST: AtomicU32 = AtomicU32::new(0);
        LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Begins what waits to be begun, waits if nobody has anything to do and nothing has arrived, and
    /// wakes those the kernel has something for. Says whether the time of a sleeper may have come, of
    /// whom `first` is the first: no wait is much longer than until then.
    ///
    /// # Errors
    /// When the driver itself fails; nothing can go on then.
    pub(super) fn turn(
        &mut self,
        is_idle: impl Fn() -> bool,
        first: Option<Instant>,
    ) -> io::Result<bool> {
        match self {
            AnyDriver::Ring(ring) => ring.turn(is_idle, first),
            AnyDriver::Epoll(epoll) => {
                // Read only for a wait: a busy core looks at the clock once per turn.
                let timeout = first
                    .filter(|_| is_idle())
                    .map(|at| at.saturating_duration_since(Instant::now()));
                epoll.turn(is_idle, timeout)?;
                Ok(first.is_some())
            }
        }
    }

    /// Ends all that is under way.
    pub(super) fn end_all(&mut self) {
        match self {
            AnyDriver::Ring(ring) => ring.end_all(),
            AnyDriver::Epoll(epoll) => epoll.end_all(),
        }
    }
}
