//! Long work beside the cores, in short pieces.
//!
//! A thread that computes is not taken off its processor at once when a worker there has something to
//! do: where that worker has had more than its share lately, which one that serves at 70 % has, the worker
//! waits for the kernel's next tick, 1 to 10 ms. No priority changes that, short of one by which a busy
//! machine would never take a change. So whoever goes through ten thousand routes rests by itself.
//! Measured: `docs/reload.md`.

use std::{cell::Cell, thread, time::Instant};

use super::limits::{PACE_PIECE, PACE_REST, PACE_RESTS_MAX};

/// Steps between two looks at the clock: some microseconds.
const STEPS: u32 = 32;

thread_local! {
    static RESTS: Cell<bool> = const { Cell::new(false) };
    static RESTS_LEFT: Cell<u32> = const { Cell::new(PACE_RESTS_MAX) };
    static STEPS_DONE: Cell<u32> = const { Cell::new(0) };
    /// When this thread rested last.
    static RESTED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// From now on this thread rests between pieces of what it does.
pub fn rest_between_pieces() {
    RESTS.set(true);
}

/// Other work begins, which may rest as often as any.
pub fn begin() {
    RESTS_LEFT.set(PACE_RESTS_MAX);
}

/// A step of some work that has many of them, none of which takes long. Where this thread
/// [rests between pieces](rest_between_pieces) and one is done, it rests here; costs next to nothing
/// elsewhere.
#[inline]
pub fn step() {
    if RESTS.get() {
        count_step();
    }
}

/// The same behind a step that may take a whole piece.
pub fn long_step() {
    let left = RESTS_LEFT.get();
    if RESTS.get() && left > 0 && RESTED.get().is_none_or(|at| at.elapsed() >= PACE_PIECE) {
        thread::sleep(PACE_REST);
        RESTED.set(Some(Instant::now()));
        RESTS_LEFT.set(left - 1);
    }
}

#[cold]
fn count_step() {
    let steps = STEPS_DONE.get() + 1;
    STEPS_DONE.set(steps % STEPS);
    if steps == STEPS {
        long_step();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_thread_that_wants_to_rests() {
        let steps = || (0..STEPS).for_each(|_| step());
        steps();
        assert_eq!(RESTED.get(), None);
        rest_between_pieces();
        let before = Instant::now();
        steps();
        assert!(before.elapsed() >= PACE_REST && RESTED.get().is_some());
    }

    #[test]
    fn what_takes_long_rests_no_more_than_so_often() {
        rest_between_pieces();
        let rests = || {
            let before = RESTS_LEFT.get();
            RESTED.set(None); // long ago
            long_step();
            before - RESTS_LEFT.get()
        };
        assert_eq!((0..PACE_RESTS_MAX + 5).map(|_| rests()).sum::<u32>(), PACE_RESTS_MAX);
        begin();
        assert_eq!(rests(), 1);
    }
}
