//! The clients' connections of one core: who is idle, whose client has gone, and who has to leave.
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

use crate::{
    base::{
        ids::{Identity, ListenerId, RouteKey},
        limits,
    },
    rt,
    snapshot::messages::Gone,
};

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
        /// What it depends on.
        pin: Pin,
    },
    /// Its protocol was switched; each side may close its half and go on.
    Tunnel {
        /// The endpoint's socket.
        upstream_fd: RawFd,
        /// What it depends on.
        pin: Pin,
    },
}

/// The rules that an exchange depends on: when they go, it has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The route it took.
    pub route: RouteKey,
    /// Where the endpoint's connections are pooled.
    pub pool: Identity,
}

/// A tick that never comes.
const NEVER: u64 = u64::MAX;

struct Entry {
    fd: RawFd,
    listener: ListenerId,
    phase: Cell<Phase>,
    /// The last tick at which this exchange began or sent something to its client.
    progress_tick: Cell<u64>,
    gone: Cell<bool>,
    /// It ends after the request it is serving: its listener is gone, or a successor takes over.
    leaving: Cell<bool>,
    /// The tick at which its exchange is cut, because its route or endpoint is gone.
    cut_tick: Cell<u64>,
}

/// All connections of clients on this core.
#[derive(Default)]
pub struct Connections {
    entries: RefCell<Slab<Rc<Entry>>>,
    /// Whether some exchange is to be cut.
    has_doomed: Cell<bool>,
}

impl Connections {
    /// Adds a connection; it stays listed as long as its [`Watch`] lives.
    pub fn add(self: &Rc<Self>, fd: RawFd, listener: ListenerId) -> Watch {
        let entry = Rc::new(Entry {
            fd,
            listener,
            phase: Cell::new(Phase::Busy),
            progress_tick: Cell::new(0),
            gone: Cell::new(false),
            leaving: Cell::new(false),
            cut_tick: Cell::new(NEVER),
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
            entry.cut();
        }
    }

    /// How many are not waiting for a request.
    pub fn busy_count(&self) -> usize {
        let entries = self.entries.borrow();
        entries.iter().filter(|(_, entry)| entry.phase.get() != Phase::Idle).count()
    }

    /// From now on all connections, or those of one listener, end after the next request.
    pub fn let_leave(&self, listener: Option<ListenerId>) {
        for (_, entry) in &*self.entries.borrow() {
            if listener.is_none_or(|listener| listener == entry.listener) {
                entry.leaving.set(true);
            }
        }
    }

    /// Ends the connections of one listener, whatever they are doing.
    pub fn close_of(&self, listener: ListenerId) {
        for (_, entry) in &*self.entries.borrow() {
            if entry.listener == listener {
                entry.cut();
            }
        }
    }

    /// Exchanges under way of routes and endpoints that are gone have until `cut_tick`.
    pub fn doom(&self, gone: &Gone, cut_tick: u64) {
        if gone.routes.is_empty() && gone.pools.is_empty() {
            return;
        }
        for (_, entry) in &*self.entries.borrow() {
            if let Phase::Exchange { pin, .. } | Phase::Tunnel { pin, .. } = entry.phase.get()
                && (gone.routes.binary_search(&pin.route).is_ok()
                    || gone.pools.binary_search(&pin.pool).is_ok())
            {
                entry.cut_tick.set(cut_tick.min(entry.cut_tick.get()));
                self.has_doomed.set(true);
            }
        }
    }

    /// Cuts the exchanges whose time is up. Called each tick; free while nothing is doomed.
    pub fn cut_doomed(&self, now_tick: u64) {
        if !self.has_doomed.get() {
            return;
        }
        let mut left = false;
        for (_, entry) in &*self.entries.borrow() {
            match entry.cut_tick.get() {
                NEVER => {}
                tick if tick <= now_tick => {
                    entry.cut_tick.set(NEVER);
                    entry.cut();
                }
                _ => left = true,
            }
        }
        self.has_doomed.set(left);
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
            if let Phase::Exchange { upstream_fd, .. } = entry.phase.get() {
                entry.gone.set(true);
                rt::shutdown(upstream_fd);
            }
        }
    }
}

impl Entry {
    /// Ends it: its task sees it, logs and ends.
    fn cut(&self) {
        if let Phase::Exchange { upstream_fd, .. } | Phase::Tunnel { upstream_fd, .. } =
            self.phase.get()
        {
            rt::shutdown(upstream_fd);
        }
        rt::shutdown(self.fd);
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
        self.entry.cut_tick.set(NEVER);
    }

    /// Tells that something was sent to the client.
    pub fn progress(&self, now_tick: u64) {
        self.entry.progress_tick.set(now_tick);
    }

    /// Cuts this exchange at a tick: it was begun under rules whose end it missed.
    pub fn doom(&self, cut_tick: u64) {
        self.entry.cut_tick.set(cut_tick);
        self.connections.has_doomed.set(true);
    }

    /// The connection ends after the request it is serving.
    pub fn leave(&self) {
        self.entry.leaving.set(true);
    }

    /// Whether the connection ends after the request it is serving.
    pub fn is_leaving(&self) -> bool {
        self.entry.leaving.get()
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
