//! The clients' connections of one core: who is idle, whose client has gone, and who has to leave.
//!
//! A client that leaves while its request is at an endpoint is found by the tick, with one poll(2)
//! over all exchanges older than a tick. Requests that are answered quickly pay nothing for it, and
//! no ring operation has to be armed and cancelled.
//!
//! A stream of an HTTP/2 connection is listed like a connection of its own, beside the connection that
//! carries it: it is a request that may have to be cut. Its reset is seen by its own task, not here.

use std::{
    cell::{Cell, RefCell},
    os::fd::RawFd,
    rc::Rc,
    task::{Context, Waker},
};

use slab::Slab;

use crate::{
    base::{
        ids::{Identity, ListenerId, RouteKey},
        limits,
    },
    rt::{self, Handle, Latches, Shut},
    snapshot::messages::Gone,
};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for a request: may be closed at any time.
    Idle,
    /// Receiving a head, or sending an answer of our own.
    Busy,
    /// Carrying streams, each of which is listed itself.
    Carrying,
    /// Its request is at the endpoint behind `upstream`.
    Exchange {
        /// The endpoint's socket, shut down when the client has gone.
        upstream: Handle,
        /// What it depends on.
        pin: Pin,
    },
    /// Its protocol was switched; each side may close its half and go on.
    Tunnel {
        /// The endpoint's socket.
        upstream: Handle,
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
    handle: Handle,
    listener: ListenerId,
    phase: Cell<Phase>,
    /// The last tick at which this exchange began or sent something to its client.
    progress_tick: Cell<u64>,
    gone: Cell<bool>,
    /// It ends after the request it is serving: its listener is gone, or a successor takes over.
    leaving: Cell<bool>,
    /// The tick at which its exchange is cut, because its route or endpoint is gone.
    cut_tick: Cell<u64>,
    /// Who wants to know when the connection has to leave.
    waker: Cell<Option<Waker>>,
}

/// All connections of clients on this core.
pub struct Connections {
    entries: RefCell<Slab<Rc<Entry>>>,
    latches: Latches,
    /// How many of the entries are streams.
    streams: Cell<usize>,
    /// Whether some exchange is to be cut.
    has_doomed: Cell<bool>,
}

impl Connections {
    /// None yet. `latches` are those of the same core.
    pub fn new(latches: Latches) -> Self {
        Self {
            entries: RefCell::default(),
            latches,
            streams: Cell::new(0),
            has_doomed: Cell::new(false),
        }
    }

    /// Adds a connection, or a stream of one; it stays listed as long as its [`Watch`] lives.
    pub fn add(self: &Rc<Self>, handle: Handle, listener: ListenerId) -> Watch {
        self.streams.set(self.streams.get() + usize::from(is_stream(handle)));
        let entry = Rc::new(Entry {
            handle,
            listener,
            phase: Cell::new(Phase::Busy),
            progress_tick: Cell::new(0),
            gone: Cell::new(false),
            leaving: Cell::new(false),
            cut_tick: Cell::new(NEVER),
            waker: Cell::new(None),
        });
        let key = self.entries.borrow_mut().insert(Rc::clone(&entry));
        Watch { connections: Rc::clone(self), key, entry }
    }

    /// How many connections there are, streams not counted.
    pub fn len(&self) -> usize {
        self.entries.borrow().len() - self.streams.get()
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
                self.latches.shut_handle(entry.handle, Shut::Read);
            }
        }
    }

    /// Ends all connections, whatever they are doing.
    pub fn close_all(&self) {
        for (_, entry) in &*self.entries.borrow() {
            self.cut(entry);
        }
    }

    /// How many are not waiting for a request; of a connection that carries streams, those count.
    pub fn busy_count(&self) -> usize {
        let entries = self.entries.borrow();
        let is_busy = |entry: &Entry| !matches!(entry.phase.get(), Phase::Idle | Phase::Carrying);
        entries.iter().filter(|(_, entry)| is_busy(entry)).count()
    }

    /// From now on all connections, or those of one listener, end after the next request.
    pub fn let_leave(&self, listener: Option<ListenerId>) {
        for (_, entry) in &*self.entries.borrow() {
            if listener.is_none_or(|listener| listener == entry.listener) {
                entry.leaving.set(true);
                if let Some(waker) = entry.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    /// Ends the connections of one listener, whatever they are doing.
    pub fn close_of(&self, listener: ListenerId) {
        for (_, entry) in &*self.entries.borrow() {
            if entry.listener == listener {
                self.cut(entry);
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
                    self.cut(entry);
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
        let (waiting, fds): (Vec<&Rc<Entry>>, Vec<RawFd>) = entries
            .iter()
            .map(|(_, entry)| entry)
            .filter(|entry| matches!(entry.phase.get(), Phase::Exchange { .. }))
            .filter(|entry| now_tick.wrapping_sub(entry.progress_tick.get()) > 1)
            .filter_map(|entry| match entry.handle {
                Handle::Socket(fd) => Some((entry, fd)),
                Handle::Latch(_) => None,
            })
            .unzip();
        if waiting.is_empty() {
            return;
        }
        let mut gone = Vec::new();
        rt::poll_gone(&fds, &mut gone);
        let grace = u64::try_from(limits::HALF_CLOSE_GRACE.as_millis() / limits::TICK.as_millis())
            .unwrap_or(u64::MAX);
        for (index, half) in gone {
            let entry = waiting[index];
            if half && now_tick.wrapping_sub(entry.progress_tick.get()) <= grace {
                continue;
            }
            self.cancel(entry);
        }
    }

    /// Ends what the endpoint does for a client that has gone; false if it does nothing right now.
    fn cancel(&self, entry: &Entry) -> bool {
        let Phase::Exchange { upstream, .. } = entry.phase.get() else { return false };
        entry.gone.set(true);
        self.latches.shut_handle(upstream, Shut::Both);
        true
    }

    /// Ends a connection: its task sees it, logs and ends.
    fn cut(&self, entry: &Entry) {
        if let Phase::Exchange { upstream, .. } | Phase::Tunnel { upstream, .. } = entry.phase.get()
        {
            self.latches.shut_handle(upstream, Shut::Both);
        }
        self.latches.shut_handle(entry.handle, Shut::Both);
    }
}

fn is_stream(handle: Handle) -> bool {
    matches!(handle, Handle::Latch(_))
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

    /// Has the task of `cx` woken when the connection has to leave.
    pub fn wake_to_leave(&self, cx: &Context<'_>) {
        self.entry.waker.set(Some(cx.waker().clone()));
    }

    /// The client has gone: ends what the endpoint does for it. False if it does nothing right now.
    pub fn cancel(&self) -> bool {
        self.connections.cancel(&self.entry)
    }

    /// Whether the client was found gone.
    pub fn is_gone(&self) -> bool {
        self.entry.gone.get()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Connections { entries, streams, .. } = &*self.connections;
        entries.borrow_mut().remove(self.key);
        streams.set(streams.get() - usize::from(is_stream(self.entry.handle)));
    }
}
