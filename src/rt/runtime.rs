//! The loop of one core: runs tasks, submits what they began, waits, wakes.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::core::{self, Core, Entered};
use super::driver::{Driver, Receive};
use super::drivers::AnyDriver;
use super::epoll::Epoll;
use super::executor::Executor;
use super::probe::{self, RingFlags};
use super::sys;
use super::timers::Timers;

/// What a loop asks the kernel with. Nobody outside of `rt` notices which one it is, but by what it
/// costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverKind {
    /// `io_uring`: many operations with one system call.
    #[default]
    IoUring,
    /// epoll(7) and system calls that don't wait, one for each operation.
    Epoll,
}

impl DriverKind {
    /// As the configuration names it.
    pub fn name(self) -> &'static str {
        match self {
            DriverKind::IoUring => "io_uring",
            DriverKind::Epoll => "epoll",
        }
    }
}

/// How the loop of a core is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// What it asks the kernel with.
    pub driver: DriverKind,
    /// Entries of the submission queue; brought into 64..=32768 and up to a power of two. The
    /// completion queue has four times as many, up to 65536.
    pub ring_entries: u32,
    /// How long the kernel is asked again and again, when there is nothing to do, before the thread
    /// sleeps.
    pub busy_poll: Duration,
    /// How receives are made, at best: less if the kernel has less.
    pub receive: Receive,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        Self {
            driver: DriverKind::default(),
            ring_entries: 1024,
            busy_poll: Duration::ZERO,
            receive: Receive::default(),
        }
    }
}

/// Builds a loop on the calling thread and runs `f` on it until its future ends. Tasks that were
/// spawned and did not end are dropped then, and what they began is cancelled.
///
/// One at a time per thread.
///
/// # Errors
/// When the driver cannot be made ([`super::choose`] says why in words), or fails later.
///
/// # Panics
/// If a loop runs on this thread already.
pub fn run<F: Future>(settings: RuntimeSettings, f: impl FnOnce() -> F) -> io::Result<F::Output> {
    assert!(!core::is_running(), "a loop runs on this thread already");
    sys::ignore_sigpipe();
    let driver = match settings.driver {
        DriverKind::IoUring => AnyDriver::Ring(build(settings)?),
        DriverKind::Epoll => AnyDriver::Epoll(Epoll::new()?),
    };
    run_on(driver, settings.busy_poll, f)
}

fn run_on<F: Future>(
    driver: AnyDriver,
    busy_poll: Duration,
    f: impl FnOnce() -> F,
) -> io::Result<F::Output> {
    let core = Core {
        executor: Executor::new(),
        timers: Timers::default(),
        driver: RefCell::new(driver),
        now: Cell::new(None),
    };
    let _entered = Entered::new(&core); // after the future below has been dropped, ends the rest
    let mut main = pin!(f());
    let mut output = None;
    let mut poll_main = |cx: &mut Context<'_>| match main.as_mut().poll(cx) {
        Poll::Ready(ended) => {
            output = Some(ended);
            true
        }
        Poll::Pending => false,
    };
    core.executor.wake_main();
    while !core.executor.run(&mut poll_main) {
        if !busy_poll.is_zero() && core.executor.is_idle() {
            spin(&core, busy_poll)?;
        }
        turn(&core, true)?;
    }
    output.ok_or_else(|| io::ErrorKind::Other.into())
}

/// What has become of operations and timers. Also while tasks are ready: one that wakes itself
/// for ever keeps neither from coming. Waits, if it may and nobody has anything to do.
fn turn(core: &Core, may_wait: bool) -> io::Result<()> {
    let is_idle = || may_wait && core.executor.is_idle();
    let is_due = core.driver.borrow_mut().turn(is_idle, core.timers.first())?;
    core.now.set(None);
    if is_due {
        core.timers.wake_due(Instant::now());
    }
    Ok(())
}

/// Asks the kernel again and again, for at most `busy_poll`, until something has happened.
fn spin(core: &Core, busy_poll: Duration) -> io::Result<()> {
    let begin = Instant::now();
    while core.executor.is_idle() && begin.elapsed() < busy_poll {
        turn(core, false)?;
    }
    Ok(())
}

/// The first set of flags this kernel takes, best first.
fn build(settings: RuntimeSettings) -> io::Result<Driver> {
    let mut refused = io::Error::from(io::ErrorKind::Unsupported);
    for flags in probe::FLAGS {
        match build_with(flags, settings) {
            Ok(driver) => return Ok(driver),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

fn build_with(flags: RingFlags, settings: RuntimeSettings) -> io::Result<Driver> {
    Driver::new(flags, settings.ring_entries.clamp(64, 32_768), settings.receive)
}

/// Binds the calling thread to one core, by the number Linux gives it.
///
/// # Errors
/// `InvalidInput` if there is no such core or the process may not use it.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    sys::set_affinity(core)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::task::{sleep, yield_now};
    use std::time::Duration;

    /// What older kernels get is a loop as well.
    #[test]
    fn every_set_of_flags_runs() {
        if !crate::rt::machine::kernel_version().is_at_least(6, 1) {
            return; // refuses some of them, rightly
        }
        for flags in probe::FLAGS {
            let driver = build_with(flags, RuntimeSettings::default()).unwrap();
            let turns = run_on(AnyDriver::Ring(driver), Duration::ZERO, || async {
                for _ in 0..10 {
                    yield_now().await;
                }
                sleep(Duration::from_millis(1)).await;
                10
            });
            assert_eq!(turns.unwrap(), 10, "{flags}");
        }
    }

    #[test]
    fn a_ring_of_any_size_is_made() {
        for ring_entries in [1, 256, 32_768] {
            let settings = RuntimeSettings { ring_entries, ..RuntimeSettings::default() };
            assert_eq!(run(settings, || async { 1 }).unwrap(), 1);
        }
    }
}
