//! What belongs to the loop that runs on this thread, and how futures find it.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::ptr;
use std::time::Instant;

use super::drivers::AnyDriver;
use super::executor::Executor;
use super::timers::Timers;

/// Everything one loop consists of.
pub(super) struct Core {
    pub(super) executor: Executor,
    pub(super) timers: Timers,
    pub(super) driver: RefCell<AnyDriver>,
    /// The time, once somebody has asked in this turn: see [`super::turn_time`].
    pub(super) now: Cell<Option<Instant>>,
}

thread_local! {
    static CORE: Cell<*const Core> = const { Cell::new(ptr::null()) };
}

/// Runs `f` with the loop of this thread. `None` when none runs.
pub(super) fn with<T>(f: impl FnOnce(&Core) -> T) -> Option<T> {
    let core = CORE.get();
    // WHY UNSAFE: the safe way, a counted pointer in a `RefCell`, costs each operation a borrow flag,
    // two counters and a branch for the destructor.
    // SAFETY: `Entered` sets the pointer while it borrows the core and clears it before the borrow
    // ends; the reference does not leave this function, and thread-locals stay on their thread.
    unsafe { core.as_ref() }.map(f)
}

/// While this lives, [`with`] finds the core.
pub(super) struct Entered<'a> {
    _core: &'a Core,
}

impl<'a> Entered<'a> {
    /// Makes `core` the one of this thread.
    ///
    /// # Panics
    /// If there is one already.
    pub(super) fn new(core: &'a Core) -> Self {
        assert!(CORE.get().is_null(), "a loop runs on this thread already");
        CORE.set(core);
        Self { _core: core }
    }
}

impl Drop for Entered<'_> {
    /// Ends what is left: tasks, then the operations they began.
    fn drop(&mut self) {
        self._core.executor.drop_all();
        self._core.driver.borrow_mut().end_all();
        CORE.set(ptr::null());
    }
}

/// Whether a loop runs on this thread.
pub(super) fn is_running() -> bool {
    !CORE.get().is_null()
}
