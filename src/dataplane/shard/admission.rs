//! A place among an upstream's requests in flight: taken at once, waited for, or refused. The limit is
//! that of the whole process (`policy::overload`); who waits, waits on its own core.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use crate::{
    base::{limits, reason::Reason},
    policy::overload::{Importance, OverloadRule},
    rt::{self, race},
    snapshot::cells::UpstreamCell,
};

/// Those who wait on this core for a place with one upstream, in the order they came.
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

/// A place; given back when dropped, also by a panic.
pub struct InFlight {
    cell: Arc<UpstreamCell>,
    waiting: Rc<Waiting>,
    stress_after: Duration,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.cell.load().leave();
        self.waiting.call_one(self.stress_after);
    }
}

/// Somebody's place in the queue; given up when dropped.
struct Waits<'a> {
    cell: &'a UpstreamCell,
    waiting: &'a Waiting,
    waiter: Rc<Waiter>,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.cell.load().stop_waiting();
        let mut queue = self.waiting.queue.borrow_mut();
        queue.retain(|one| !Rc::ptr_eq(one, &self.waiter));
        if queue.is_empty() {
            self.waiting.since.set(None);
        }
    }
}

impl Waiting {
    /// Takes a place if one is free.
    pub fn enter_now(
        self: &Rc<Self>,
        cell: &Arc<UpstreamCell>,
        rule: &OverloadRule,
        importance: Importance,
    ) -> Option<InFlight> {
        cell.load().enter(rule, importance).then(|| InFlight {
            cell: Arc::clone(cell),
            waiting: Rc::clone(self),
            stress_after: Duration::from_millis(rule.pending_timeout_ms),
        })
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// [`Reason::UpstreamOverloaded`] when not even a place to wait is free, or the request is not
    /// important enough; [`Reason::PendingTimeout`] when it waited in vain.
    ///
    /// # Cancel safety
    /// Cancel safe: a place that was waited for is given up.
    pub async fn enter(
        self: &Rc<Self>,
        cell: &Arc<UpstreamCell>,
        rule: &OverloadRule,
        importance: Importance,
    ) -> Result<InFlight, Reason> {
        let wait = Duration::from_millis(rule.pending_timeout_ms);
        if importance == Importance::Low || !cell.load().wait(rule) {
            return Err(Reason::UpstreamOverloaded);
        }
        let waits = self.queue_up(cell, importance);
        let begin = Instant::now();
        loop {
            let left = wait.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Err(Reason::PendingTimeout);
            }
            // Places that other cores give back are not told: they are looked for.
            let look = left.min(limits::PENDING_LOOK);
            let (called, late) = (pin!(waits.waiter.called()), pin!(rt::sleep(look)));
            race(called, late).await;
            if let Some(place) = self.enter_now(cell, rule, importance) {
                return Ok(place);
            }
        }
    }

    fn queue_up<'a>(&'a self, cell: &'a UpstreamCell, importance: Importance) -> Waits<'a> {
        let waiter =
            Rc::new(Waiter { importance, waker: RefCell::default(), is_called: Cell::new(false) });
        let mut queue = self.queue.borrow_mut();
        if queue.is_empty() {
            self.since.set(Some(Instant::now()));
        }
        queue.push(Rc::clone(&waiter));
        Waits { cell, waiting: self, waiter }
    }

    /// Calls the next one: the most important; of those the oldest, or, when somebody has waited all
    /// through `stress_after`, the newest: the old ones will not make it anyway.
    fn call_one(&self, stress_after: Duration) {
        let queue = self.queue.borrow();
        let is_stressed = self.since.get().is_some_and(|since| since.elapsed() > stress_after);
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

    const RULE: OverloadRule =
        OverloadRule { requests_max: 1, pending_max: 3, pending_timeout_ms: 200, adaptive: false };

    /// The order in which three who wait are called.
    fn order(importances: [Importance; 3], stress_after: Duration) -> Vec<usize> {
        let (cell, waiting) = (UpstreamCell::new(), Waiting::default());
        let waits = importances.map(|importance| {
            assert!(cell.load().wait(&RULE));
            waiting.queue_up(&cell, importance)
        });
        let mut order = Vec::new();
        for _ in 0..4 {
            waiting.call_one(stress_after);
            let called = (0..3).filter(|at| waits[*at].waiter.is_called.get());
            order.extend(called.filter(|at| !order.contains(at)).collect::<Vec<_>>());
        }
        drop(waits);
        assert!(waiting.since.get().is_none() && waiting.queue.borrow().is_empty());
        assert_eq!(cell.load().pending(), 0);
        order
    }

    #[test]
    fn the_important_go_first_then_the_oldest_and_under_stress_the_newest() {
        let long = Duration::from_secs(60);
        assert_eq!(order([Normal; 3], long), [0, 1, 2]);
        assert_eq!(order([Normal, High, Normal], long), [1, 0, 2]);
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(order([Normal, High, Normal], Duration::ZERO), [1, 2, 0]);
    }
}
