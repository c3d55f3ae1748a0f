//! Those who wait for a place on the connections to an endpoint, in the order in which they came. Each place that comes free wakes
//! one of them, and who has taken one wakes the next if there are more: waking all for each would cost each of them a look.
//!
//! Who was woken and gives up hands that on ([`Waits`]), so that no place stays free while somebody waits for it.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use crate::base::limits;

/// The queue.
#[derive(Default)]
pub struct Room {
    /// Who has not been woken.
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
    /// How many have been, and did not come yet.
    woken: Cell<usize>,
}

#[derive(Default)]
struct Waiter {
    waker: RefCell<Option<Waker>>,
    is_woken: Cell<bool>,
}

/// Somebody in the queue; dropped, it leaves.
pub struct Waits {
    room: Rc<Room>,
    waiter: Rc<Waiter>,
}

impl Room {
    /// Goes to the end of the queue; `None` if too many wait already.
    pub fn queue_up(self: &Rc<Self>) -> Option<Waits> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= limits::H2_WAITING_MAX {
            return None;
        }
        let waiter = Rc::<Waiter>::default();
        waiting.push_back(Rc::clone(&waiter));
        Some(Waits { room: Rc::clone(self), waiter })
    }

    /// Whether somebody waits who has not been woken.
    pub fn is_waited_for(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Whether somebody has been woken who did not come yet.
    pub fn is_waking(&self) -> bool {
        self.woken.get() > 0
    }

    /// Whether somebody was before one who comes now.
    pub fn has_queue(&self) -> bool {
        self.is_waking() || self.is_waited_for()
    }

    /// Wakes the first one.
    pub fn wake_one(&self) {
        let Some(waiter) = self.waiting.borrow_mut().pop_front() else { return };
        waiter.is_woken.set(true);
        self.woken.set(self.woken.get() + 1);
        if let Some(waker) = waiter.waker.take() {
            waker.wake();
        }
    }
}

impl Waits {
    /// Waits to be woken.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn woken(&self) {
        poll_fn(|cx| {
            if self.waiter.is_woken.get() {
                return Poll::Ready(());
            }
            *self.waiter.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Whether it has been woken.
    pub fn is_woken(&self) -> bool {
        self.waiter.is_woken.get()
    }

    /// There was nothing for who was woken: it waits again, before all others.
    pub fn wait_again(&self) {
        if self.come() {
            self.room.waiting.borrow_mut().push_front(Rc::clone(&self.waiter));
        }
    }

    /// It has what it waited for: nobody else is woken for it.
    pub fn end(self) {
        self.come();
    }

    /// It looks; whether it had been woken to.
    fn come(&self) -> bool {
        let was_woken = self.waiter.is_woken.replace(false);
        self.room.woken.set(self.room.woken.get() - usize::from(was_woken));
        was_woken
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        if self.come() {
            self.room.wake_one();
        } else {
            self.room.waiting.borrow_mut().retain(|one| !Rc::ptr_eq(one, &self.waiter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn woken(all: &[Waits]) -> Vec<bool> {
        all.iter().map(|waits| waits.waiter.is_woken.get()).collect()
    }

    #[test]
    fn one_is_woken_for_each_place_in_order() {
        let room = Rc::new(Room::default());
        room.wake_one(); // for nobody
        let all: Vec<_> = (0..3).filter_map(|_| room.queue_up()).collect();
        assert_eq!(woken(&all), [false; 3]);
        room.wake_one();
        assert_eq!(woken(&all), [true, false, false]);
        room.wake_one();
        assert_eq!(woken(&all), [true, true, false]);
        all[1].wait_again();
        let last = room.queue_up().expect("room in the queue");
        room.wake_one();
        assert_eq!(woken(&all), [true, true, false], "before all others");
        room.wake_one();
        room.wake_one();
        assert!(all[2].waiter.is_woken.get() && last.waiter.is_woken.get());
        assert!(!room.is_waited_for() && room.has_queue(), "three are on their way");
    }

    #[test]
    fn who_gives_up_hands_on_what_it_was_woken_for() {
        let room = Rc::new(Room::default());
        let mut all: Vec<_> = (0..4).filter_map(|_| room.queue_up()).collect();
        room.wake_one();
        drop(all.remove(1)); // was not woken: nobody is
        assert_eq!(woken(&all), [true, false, false]);
        drop(all.remove(0));
        assert_eq!(woken(&all), [true, false]);
        all.remove(0).end();
        assert_eq!(woken(&all), [false], "it has taken the place");
        drop(all);
        assert!(!room.has_queue());
    }

    #[test]
    fn the_queue_is_bounded() {
        let room = Rc::new(Room::default());
        let all: Vec<_> = (0..limits::H2_WAITING_MAX).filter_map(|_| room.queue_up()).collect();
        assert_eq!(all.len(), limits::H2_WAITING_MAX);
        assert!(room.queue_up().is_none());
        drop(all);
        assert!(room.queue_up().is_some());
    }
}
