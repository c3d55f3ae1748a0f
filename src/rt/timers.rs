//! The sleepers of a core. There are few (ticks, connects under way), so an ordered map does.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::core;

/// Those who sleep, by the time they want to be woken.
#[derive(Default)]
pub(super) struct Timers {
    sleepers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    last: Cell<u64>,
}

impl Timers {
    /// When the first one has to be woken.
    pub(super) fn first(&self) -> Option<Instant> {
        self.sleepers.borrow().first_key_value().map(|((at, _), _)| *at)
    }

    /// Wakes those whose time has come.
    pub(super) fn wake_due(&self, now: Instant) {
        while let Some(waker) = self.pop_due(now) {
            waker.wake();
        }
    }

    fn pop_due(&self, now: Instant) -> Option<Waker> {
        let mut sleepers = self.sleepers.borrow_mut();
        let first = sleepers.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn set(&self, at: Instant, number: Option<u64>, waker: Waker) -> u64 {
        let number = number.unwrap_or_else(|| {
            self.last.set(self.last.get() + 1);
            self.last.get()
        });
        let old = self.sleepers.borrow_mut().insert((at, number), waker);
        drop(old); // after the borrow
        number
    }

    fn remove(&self, at: Instant, number: u64) {
        let removed = self.sleepers.borrow_mut().remove(&(at, number));
        drop(removed);
    }
}

/// A wait for a point in time. Takes its place among the sleepers when first polled, gives it up
/// when dropped.
pub(super) struct Sleep {
    at: Instant,
    number: Option<u64>,
}

impl Sleep {
    pub(super) fn new(duration: Duration) -> Self {
        let now = Instant::now();
        // A sum that does not exist is later than any machine runs.
        let at = now.checked_add(duration).unwrap_or(now + Duration::from_secs(1 << 30));
        Self { at, number: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.at {
            return Poll::Ready(());
        }
        let (at, number) = (self.at, self.number);
        self.number = core::with(|core| core.timers.set(at, number, cx.waker().clone()));
        assert!(self.number.is_some(), "sleeps within rt::run only");
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            core::with(|core| core.timers.remove(self.at, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::{RuntimeSettings, run};

    #[test]
    fn sleepers_wake_in_the_order_of_their_times() {
        run(RuntimeSettings::default(), || async {
            let order = std::rc::Rc::new(RefCell::new(Vec::new()));
            for millis in [30, 10, 20, 10] {
                let order = std::rc::Rc::clone(&order);
                crate::rt::spawn_guarded(
                    async move {
                        let started = Instant::now();
                        Sleep::new(Duration::from_millis(millis)).await;
                        assert!(started.elapsed() >= Duration::from_millis(millis), "never early");
                        order.borrow_mut().push(millis);
                    },
                    |place| panic!("{place}"),
                );
            }
            Sleep::new(Duration::from_millis(60)).await;
            assert_eq!(*order.borrow(), [10, 10, 20, 30]);
        })
        .unwrap();
    }

    #[test]
    fn a_dropped_sleeper_leaves_nothing() {
        run(RuntimeSettings::default(), || async {
            for _ in 0..100 {
                let mut sleep = std::pin::pin!(Sleep::new(Duration::from_secs(60)));
                let once = std::future::poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx))).await;
                assert!(once.is_pending());
            }
            assert_eq!(core::with(|core| core.timers.first()), Some(None));
        })
        .unwrap();
    }
}
