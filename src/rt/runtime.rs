//! The loop of one core: a monoio runtime with the best ring this kernel has.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use monoio::time::TimeDriver;
use monoio::{IoUringDriver, Runtime, RuntimeBuilder};

use super::ring_fd::RingFd;
use super::{probe, sys};

/// How the loop of a core is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// Entries of the submission queue, 256..=32768, a power of two. The completion queue has four
    /// times as many. The kernel makes it smaller if it must.
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
/// When the ring cannot be made; [`super::probe`] says why in words.
///
/// # Panics
/// If a loop runs on this thread already.
pub fn run<F: Future>(settings: RuntimeSettings, f: impl FnOnce() -> F) -> io::Result<F::Output> {
    assert!(!is_running(), "a loop runs on this thread already");
    sys::ignore_sigpipe();
    let mut runtime = build(settings)?;
    let output = runtime.block_on(async {
        let _running = Running::begin()?;
        Ok(f().await)
    });
    output
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
        let builder = RuntimeBuilder::<IoUringDriver>::new()
            .with_entries(settings.ring_entries)
            .uring_builder(flags.builder(settings.ring_entries))
            .enable_timer();
        match builder.build() {
            Ok(runtime) => return Ok(runtime),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

/// Binds the calling thread to one core, by the number Linux gives it.
///
/// # Errors
/// `InvalidInput` if there is no such core or the process may not use it.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    sys::set_affinity(core)
}
