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
use std::time::Duration;

use super::runtime;

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

/// Runs `future` as a task of this core, which ends if it panics. For tasks that cannot.
///
/// # Panics
/// Outside [`super::run`].
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub(super) fn spawn(future: impl Future<Output = ()> + 'static) {
    drop(monoio::spawn(future)); // detaches
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
    spawn(Guarded { future: Some(future), on_panic: Some(on_panic) });
}

/// A future whose panic ends only itself. By hand, as an async block would hold it twice.
struct Guarded<F, P> {
    future: Option<F>,
    on_panic: Option<P>,
}

impl<F: Future<Output = ()>, P: FnOnce(PanicPlace)> Future for Guarded<F, P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // WHY UNSAFE: a pinned field of a pinned struct; a box for it costs an allocation per task.
        // SAFETY: `future` is never moved: it is polled in place and dropped by `Pin::set`.
        // `on_panic` is never pinned. The struct has no `Drop` of its own and is not packed.
        let this = unsafe { self.get_unchecked_mut() };
        let mut future = unsafe { Pin::new_unchecked(&mut this.future) };
        // A panic leaves nothing half done that anybody sees again: the future is dropped.
        let polled = guarded(|| match future.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Ready(()),
        });
        if matches!(polled, Ok(Poll::Pending)) {
            return Poll::Pending;
        }
        let dropped = guarded(|| future.set(None)); // what it holds may panic too
        if let (Err(place), Some(on_panic)) = (polled.and(dropped), this.on_panic.take()) {
            on_panic(place);
        }
        Poll::Ready(())
    }
}

/// Waits for at least `duration`, up to 2 ms longer.
///
/// # Cancel safety
/// Cancel safe.
pub async fn sleep(duration: Duration) {
    monoio::time::sleep(duration).await;
}

/// Lets other tasks of the core run, and the ring be asked for completions, before going on. A task
/// that woke itself instead would be run first again, and nothing else.
///
/// # Cancel safety
/// Cancel safe.
pub async fn yield_now() {
    if let Some(always_ready) = runtime::always_ready() {
        let _ = always_ready.readable().await; // an error comes through the ring as well
    }
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
