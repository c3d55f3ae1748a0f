//! The clients' connections of one core: who is idle, and whose client has gone.
//!
//! A client that leaves while its request is at an endpoint is found by the tick, with one poll(2)
//! over all exchanges older than a tick. Requests that are answered quickly pay nothing for it, and
//! no ring operation has to be armed and cancelled.

use std::{
    cell::{Cell, RefCell},
    os::fd::RawFd,
    rc::Rc,
};

use slab::Slab;

use crate::{base::limits, rt};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for a request: may be closed at any time.
    Idle,
    /// Receiving a head, or sending an answer of our own.
    Busy,
    /// Its request is at the endpoint behind `upstream_fd`.
    Exchange {
        /// The endpoint's socket, shut down when the client has gone.
        upstream_fd: RawFd,
    },
}

struct Entry {
    fd: RawFd,
    phase: Cell<Phase>,
    /// The last tick at which this exchange began or sent something to its client.
    progress_tick: Cell<u64>,
    gone: Cell<bool>,
}

/// All connections of clients on this core.
#[derive(Default)]
pub struct Connections {
    entries: RefCell<Slab<Rc<Entry>>>,
}

impl Connections {
    /// Adds a connection; it stays listed as long as its [`Watch`] lives.
    pub fn add(self: &Rc<Self>, fd: RawFd) -> Watch {
        let entry = Rc::new(Entry {
            fd,
            phase: Cell::new(Phase::Busy),
            progress_tick: Cell::new(0),
            gone: Cell::new(false),
        });
        let key = self.entries.borrow_mut().insert(Rc::clone(&entry));
        Watch { connections: Rc::clone(self), key, entry }
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the connections that wait for a request. Only their receiving side is shut down: a
    /// request that has already arrived is still read, and answered.
    pub fn close_idle(&self) {
        for (_, entry) in &*self.entries.borrow() {
            if entry.phase.get() == Phase::Idle {
                rt::shutdown_read(entry.fd);
            }
        }
    }

    /// Ends all connections, whatever they are doing.
    pub fn close_all(&self) {
        for (_, entry) in &*self.entries.borrow() {
            if let Phase::Exchange { upstream_fd } = entry.phase.get() {
                rt::shutdown(upstream_fd);
            }
            rt::shutdown(entry.fd);
        }
    }

    /// Cancels the exchanges whose clients have gone. Called each tick.
    ///
    /// A reset tells at once. A client that only closed its sending side may still read, so its
    /// exchange lives on while the response moves, and for [`limits::HALF_CLOSE_GRACE`] without.
    pub fn cancel_gone(&self, now_tick: u64) {
        let entries = self.entries.borrow();
        let waiting: Vec<&Rc<Entry>> = entries
            .iter()
            .map(|(_, entry)| entry)
            .filter(|entry| matches!(entry.phase.get(), Phase::Exchange { .. }))
            .filter(|entry| now_tick.wrapping_sub(entry.progress_tick.get()) > 1)
            .collect();
        if waiting.is_empty() {
            return;
        }
        let fds: Vec<RawFd> = waiting.iter().map(|entry| entry.fd).collect();
        let mut gone = Vec::new();
        rt::poll_gone(&fds, &mut gone);
        let grace = u64::try_from(limits::HALF_CLOSE_GRACE.as_millis() / limits::TICK.as_millis())
            .unwrap_or(u64::MAX);
        for (index, half) in gone {
            let entry = waiting[index];
            if half && now_tick.wrapping_sub(entry.progress_tick.get()) <= grace {
                continue;
            }
            if let Phase::Exchange { upstream_fd } = entry.phase.get() {
                entry.gone.set(true);
                rt::shutdown(upstream_fd);
            }
        }
    }
}

/// A connection's place in [`Connections`]; leaving it is dropping it, before the socket closes.
pub struct Watch {
    connections: Rc<Connections>,
    key: usize,
    entry: Rc<Entry>,
}

impl Watch {
    /// Tells what the connection is doing now.
    pub fn enter(&self, phase: Phase, now_tick: u64) {
        self.entry.phase.set(phase);
        self.entry.progress_tick.set(now_tick);
    }

    /// Tells that something was sent to the client.
    pub fn progress(&self, now_tick: u64) {
        self.entry.progress_tick.set(now_tick);
    }

    /// Whether the tick found the client gone.
    pub fn is_gone(&self) -> bool {
        self.entry.gone.get()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.connections.entries.borrow_mut().remove(self.key);
    }
}
