//! Tasks of a core: spawned with a guard around them, so that a panic costs one connection.
#![allow(unsafe_code)]

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::pin::Pin;
use std::sync::Once;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::core;
use super::executor;
use super::timers::Sleep;

/// Where a task panicked and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanicPlace {
    /// The panic's message.
    pub message: String,
    /// Source file, as the compiler names it.
    pub file: String,
    /// Line in it, from 1.
    pub line: u32,
    /// The call stack, if `RUST_BACKTRACE` asks for it.
    pub backtrace: Option<String>,
}

impl fmt::Display for PanicPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Runs `future` as a task of this core. If it panics it is dropped, `on_panic` is told, and the
/// core goes on; nothing is printed, as whoever is told knows what was being done and writes that
/// down too. `on_panic` itself is not guarded.
///
/// # Panics
/// Outside [`super::run`].
pub fn spawn_guarded(
    future: impl Future<Output = ()> + 'static,
    on_panic: impl FnOnce(PanicPlace) + 'static,
) {
    record_panics();
    let task = Guarded { future: Some(future), on_panic: Some(on_panic) };
    if core::with(|core| core.executor.spawn(task)).is_none() {
        panic!("tasks are spawned within rt::run only");
    }
}

/// A future with a guard around each poll. Not an `async` block: that would hold what it is given
/// twice, once as it came and once as it is pinned, and so double the memory of every connection.
struct Guarded<F, P> {
    future: Option<F>, // pinned as long as it is there
    on_panic: Option<P>,
}

impl<F: Future<Output = ()>, P: FnOnce(PanicPlace)> Future for Guarded<F, P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // WHY UNSAFE: a projection; the safe way, boxing, is an allocation per connection more.
        // SAFETY: `future` is only reached through this pin and dropped in place (`Pin::set`);
        // `on_panic` is never pinned; the type has no `Drop` and is `Unpin` only if `F` is.
        let (mut future, on_panic) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.future), &mut this.on_panic)
        };
        // A panic leaves nothing half done that anybody sees again: the future is dropped.
        let polled = guarded(|| match future.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Ready(()),
        });
        if let Ok(Poll::Pending) = polled {
            return Poll::Pending;
        }
        let dropped = guarded(|| future.set(None)); // what it holds may panic too
        if let (Err(place), Some(on_panic)) = (polled.and(dropped), on_panic.take()) {
            on_panic(place);
        }
        Poll::Ready(())
    }
}

/// The time of this turn of the loop: what all tasks that run in it agree on, at most a turn old. One
/// look at the clock for all who ask. Exact outside a loop.
pub fn turn_time() -> Instant {
    let known = core::with(|core| match core.now.get() {
        Some(now) => now,
        None => {
            let now = Instant::now();
            core.now.set(Some(now));
            now
        }
    });
    known.unwrap_or_else(Instant::now)
}

/// Waits for at least `duration` from now on.
///
/// # Panics
/// Outside [`super::run`].
///
/// # Cancel safety
/// Cancel safe.
pub fn sleep(duration: Duration) -> impl Future<Output = ()> {
    Sleep::new(duration)
}

/// Lets all tasks of the core that are ready run, and the ring be asked for completions, before
/// going on.
///
/// # Cancel safety
/// Cancel safe.
pub async fn yield_now() {
    executor::yield_now().await;
}

thread_local! {
    /// Whether a guard is around what this thread runs now.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    /// The panic the hook has seen and the guard has not picked up yet.
    static SEEN: RefCell<Option<PanicPlace>> = const { RefCell::new(None) };
}

/// Runs `f`; a panic becomes an error with its place.
fn guarded<T>(f: impl FnOnce() -> T) -> Result<T, PanicPlace> {
    let outer = GUARDED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    GUARDED.set(outer);
    result.map_err(|payload| {
        SEEN.take().unwrap_or_else(|| PanicPlace {
            message: message(payload.as_ref()), // no hook: `resume_unwind`, or replaced by somebody
            file: "unknown".to_owned(),
            line: 0,
            backtrace: None,
        })
    })
}

/// Makes panics under a guard be recorded instead of printed; others are printed as ever.
fn record_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if GUARDED.get() {
                SEEN.set(Some(place(info)));
            } else {
                print(info);
            }
        }));
    });
}

fn place(info: &PanicHookInfo<'_>) -> PanicPlace {
    let backtrace = Backtrace::capture();
    let captured = backtrace.status() == BacktraceStatus::Captured;
    PanicPlace {
        message: message(info.payload()),
        file: info.location().map_or("unknown", |location| location.file()).to_owned(),
        line: info.location().map_or(0, |location| location.line()),
        backtrace: captured.then(|| backtrace.to_string()),
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeping_task_is_small() {
        let size = size_of_val(&sleep(Duration::ZERO));
        assert!(size <= 48, "{size}");
    }

    #[test]
    fn the_guard_costs_next_to_no_memory() {
        let task = async {
            let room = [1u8; 4000];
            yield_now().await;
            std::hint::black_box(room);
        };
        let bare = size_of_val(&task);
        let guarded = Guarded { future: Some(task), on_panic: Some(|_: PanicPlace| {}) };
        assert!(size_of_val(&guarded) <= bare + 16, "{} for {bare}", size_of_val(&guarded));
    }
}
