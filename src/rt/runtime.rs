//! The loop of one core: a monoio runtime with the best ring this kernel has.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use monoio::time::TimeDriver;
use monoio::{IoUringDriver, Runtime, RuntimeBuilder};

use super::probe::{self, RingFlags};
use super::ring_fd::RingFd;
use super::sys;

/// How the loop of a core is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// Entries of the submission queue; brought into 256..=32768 and up to a power of two. The
    /// completion queue has four times as many, up to 65536.
    pub ring_entries: u32,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        Self { ring_entries: 4096 }
    }
}

thread_local! {
    /// What belongs to the loop that runs on this thread.
    static RUNNING: RefCell<Option<Rc<RingFd>>> = const { RefCell::new(None) };
}

/// Builds a loop on the calling thread and runs `f` on it until its future ends. Tasks that were
/// spawned and did not end are forgotten, with what they hold: drain them first.
///
/// One at a time per thread, and a thread should run only one in its life.
///
/// # Errors
/// When the ring cannot be made; [`super::probe()`] says why in words.
///
/// # Panics
/// If a loop runs on this thread already.
pub fn run<F: Future>(settings: RuntimeSettings, f: impl FnOnce() -> F) -> io::Result<F::Output> {
    assert!(!is_running(), "a loop runs on this thread already");
    sys::ignore_sigpipe();
    run_on(build(settings)?, f)
}

fn run_on<F: Future>(
    mut runtime: Runtime<TimeDriver<IoUringDriver>>,
    f: impl FnOnce() -> F,
) -> io::Result<F::Output> {
    runtime.block_on(async {
        let _running = Running::begin()?;
        Ok(f().await)
    })
}

/// Whether a loop runs on this thread.
pub(super) fn is_running() -> bool {
    RUNNING.with_borrow(Option::is_some)
}

/// A descriptor that is always readable, for yielding through the ring. `None` outside a loop.
pub(super) fn always_ready() -> Option<Rc<RingFd>> {
    RUNNING.with_borrow(Clone::clone)
}

struct Running;

impl Running {
    fn begin() -> io::Result<Self> {
        let always_ready = RingFd::new(sys::eventfd(1)?)?;
        RUNNING.set(Some(Rc::new(always_ready)));
        Ok(Self)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let always_ready = RUNNING.take();
        drop(always_ready); // after the borrow: closing asks `is_running`
    }
}

/// The first set of flags this kernel takes, best first.
fn build(settings: RuntimeSettings) -> io::Result<Runtime<TimeDriver<IoUringDriver>>> {
    let mut refused = io::Error::from(io::ErrorKind::Unsupported);
    for flags in probe::FLAGS {
        match build_with(flags, settings) {
            Ok(runtime) => return Ok(runtime),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

fn build_with(
    flags: RingFlags,
    settings: RuntimeSettings,
) -> io::Result<Runtime<TimeDriver<IoUringDriver>>> {
    // monoio never goes below 256; a completion queue made for less would be refused.
    let entries = settings.ring_entries.clamp(256, 32_768);
    RuntimeBuilder::<IoUringDriver>::new()
        .with_entries(entries)
        .uring_builder(flags.builder(entries))
        .enable_timer()
        .build()
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
            let runtime = build_with(flags, RuntimeSettings { ring_entries: 256 }).unwrap();
            let turns = run_on(runtime, || async {
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
            assert_eq!(run(RuntimeSettings { ring_entries }, || async { 1 }).unwrap(), 1);
        }
    }
}
