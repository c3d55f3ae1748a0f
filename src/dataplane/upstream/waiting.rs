//! Requests of one core that wait for something of an upstream: a place, or a connection.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use crate::{
    base::limits,
    policy::overload::Importance,
    rt::{self, race},
};

/// Those who wait, in the order they came.
#[derive(Default)]
pub struct Waiting {
    queue: RefCell<Vec<Rc<Waiter>>>,
    /// Since when there has always been somebody.
    since: Cell<Option<Instant>>,
}

struct Waiter {
    importance: Importance,
    waker: RefCell<Option<Waker>>,
    is_called: Cell<bool>,
}

/// Somebody's place in the queue; given up when dropped.
struct Waits<'a> {
    waiting: &'a Waiting,
    waiter: Rc<Waiter>,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut queue = self.waiting.queue.borrow_mut();
        queue.retain(|one| !Rc::ptr_eq(one, &self.waiter));
        if queue.is_empty() {
            self.waiting.since.set(None);
        }
    }
}

impl Waiting {
    /// How many wait.
    pub fn count(&self) -> usize {
        self.queue.borrow().len()
    }

    /// Waits until `get` gives something, for `within` at most. It is asked when the one that waits is
    /// called, and now and then: what other cores give back is not told.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn wait<T>(
        &self,
        within: Duration,
        importance: Importance,
        mut get: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let waits = self.queue_up(importance);
        let begin = Instant::now();
        loop {
            let left = within.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return None;
            }
            let look = left.min(limits::PENDING_LOOK);
            let (called, late) = (pin!(waits.waiter.called()), pin!(rt::sleep(look)));
            race(called, late).await;
            if let Some(got) = get() {
                return Some(got);
            }
        }
    }

    fn queue_up(&self, importance: Importance) -> Waits<'_> {
        let waiter =
            Rc::new(Waiter { importance, waker: RefCell::default(), is_called: Cell::new(false) });
        let mut queue = self.queue.borrow_mut();
        if queue.is_empty() {
            self.since.set(Some(Instant::now()));
        }
        queue.push(Rc::clone(&waiter));
        Waits { waiting: self, waiter }
    }

    /// Calls the next one: the most important; of those the oldest, or, when somebody has waited all
    /// through `stress_after`, the newest: the old ones will not make it anyway.
    pub fn call_one(&self, stress_after: Duration) {
        let queue = self.queue.borrow();
        let is_stressed = self.since.get().is_some_and(|since| since.elapsed() >= stress_after);
        let free = || queue.iter().filter(|one| !one.is_called.get());
        let Some(most) = free().map(|one| one.importance).max() else { return };
        let mut alike = free().filter(|one| one.importance == most);
        let next = if is_stressed { alike.next_back() } else { alike.next() };
        if let Some(next) = next {
            next.is_called.set(true);
            if let Some(waker) = next.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

impl Waiter {
    async fn called(&self) {
        poll_fn(|cx| {
            if self.is_called.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Importance::{High, Normal};

    /// The order in which three who wait are called.
    fn order(importances: [Importance; 3], stress_after: Duration) -> Vec<usize> {
        let waiting = Waiting::default();
        let waits = importances.map(|importance| waiting.queue_up(importance));
        let mut order = Vec::new();
        for _ in 0..4 {
            waiting.call_one(stress_after);
            let called = (0..3).filter(|at| waits[*at].waiter.is_called.get());
            order.extend(called.filter(|at| !order.contains(at)).collect::<Vec<_>>());
        }
        assert_eq!(waiting.count(), 3);
        drop(waits);
        assert!(waiting.since.get().is_none() && waiting.count() == 0);
        order
    }

    #[test]
    fn the_important_go_first_then_the_oldest_and_under_stress_the_newest() {
        let long = Duration::from_secs(60);
        assert_eq!(order([Normal; 3], long), [0, 1, 2]);
        assert_eq!(order([Normal, High, Normal], long), [1, 0, 2]);
        assert_eq!(order([Normal, High, Normal], Duration::ZERO), [1, 2, 0]);
    }
}
