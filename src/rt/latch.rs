//! What something without a descriptor has in place of one: it can be shut, like a socket, by a
//! [`Deadline`](super::Deadline) or from elsewhere on this core; who waits for it is woken.
//!
//! Streams of an HTTP/2 connection have one each. Their owners ask it before they wait.

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::{Context, Waker};

use slab::Slab;

use super::deadline::Shut;
use super::stream;

/// The latches of one core. Cloning gives another handle to the same table.
#[derive(Clone, Default)]
pub struct Latches {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    entries: RefCell<Slab<Rc<State>>>,
    generation: Cell<u32>,
}

struct State {
    generation: u32,
    read_shut: Cell<bool>,
    write_shut: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Names a latch; names none once its owner is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatchId {
    place: u32,
    generation: u32,
}

/// What can be shut from elsewhere on this core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handle {
    /// A socket, by its descriptor.
    Socket(RawFd),
    /// Something without one.
    Latch(LatchId),
}

/// The owner's side of a latch, which ends with it.
pub struct Latch {
    latches: Latches,
    state: Rc<State>,
    id: LatchId,
}

impl Latches {
    /// A latch that is open.
    pub fn add(&self) -> Latch {
        let generation = self.shared.generation.get().wrapping_add(1);
        self.shared.generation.set(generation);
        let state = Rc::new(State {
            generation,
            read_shut: Cell::new(false),
            write_shut: Cell::new(false),
            waker: RefCell::default(),
        });
        let place = self.shared.entries.borrow_mut().insert(Rc::clone(&state)) as u32;
        Latch { latches: self.clone(), state, id: LatchId { place, generation } }
    }

    /// Shuts a latch and wakes who waits for it; does nothing if it is gone.
    pub fn shut(&self, id: LatchId, how: Shut) {
        let state = match self.shared.entries.borrow().get(id.place as usize) {
            Some(state) if state.generation == id.generation => Rc::clone(state),
            _ => return,
        };
        state.read_shut.set(true);
        state.write_shut.set(state.write_shut.get() || how == Shut::Both);
        state.wake();
    }

    /// Shuts a socket or a latch, as [`stream::shutdown`] and [`Latches::shut`].
    pub fn shut_handle(&self, handle: Handle, how: Shut) {
        match (handle, how) {
            (Handle::Socket(fd), Shut::Both) => stream::shutdown(fd),
            (Handle::Socket(fd), Shut::Read) => stream::shutdown_read(fd),
            (Handle::Latch(id), how) => self.shut(id, how),
        }
    }
}

impl State {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Latch {
    /// Its name.
    pub fn id(&self) -> LatchId {
        self.id
    }

    /// Whether receiving has been ended.
    pub fn is_read_shut(&self) -> bool {
        self.state.read_shut.get()
    }

    /// Whether both directions have been ended.
    pub fn is_write_shut(&self) -> bool {
        self.state.write_shut.get()
    }

    /// Ends both directions.
    pub fn shut(&self) {
        self.state.read_shut.set(true);
        self.state.write_shut.set(true);
        self.state.wake();
    }

    /// Has the task of `cx` woken when the latch is shut, or by [`Latch::wake`]. One task at a time.
    pub fn wait(&self, cx: &Context<'_>) {
        let mut waker = self.state.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Wakes who waits: something else it waits for has happened.
    pub fn wake(&self) {
        self.state.wake();
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.latches.shared.entries.borrow_mut().try_remove(self.id.place as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_outlives_nobody() {
        let latches = Latches::default();
        let first = latches.add();
        let id = first.id();
        latches.shut(id, Shut::Read);
        assert!(first.is_read_shut() && !first.is_write_shut());
        drop(first);
        let second = latches.add();
        assert_eq!(second.id().place, id.place, "the place is used again");
        latches.shut(id, Shut::Both);
        assert!(!second.is_read_shut(), "by another name");
        latches.shut_handle(Handle::Latch(second.id()), Shut::Both);
        assert!(second.is_write_shut());
    }
}
