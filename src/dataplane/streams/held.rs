//! What waits for clients that take nothing, and how much of that may be.
//!
//! A piece of a body that its stream has no window for waits in memory. Many streams may wait on one
//! connection, and their client decides for how long: so what waits is counted, for the connection and
//! for the core, and so is what an endpoint that speaks HTTP/2 has sent behind it. From some amount on nothing is fetched from endpoints that may have to wait, and
//! beyond another one the connection gets no further streams.

use std::{cell::Cell, rc::Rc};

use crate::{base::limits, proto::h2::Windows};

/// What waits on all connections of a core.
#[derive(Default)]
pub struct HeldByCore {
    waiting: Cell<Waiting>,
}

impl HeldByCore {
    /// How many bytes of bodies there are that wait for windows.
    pub fn bytes(&self) -> usize {
        self.waiting.get().here
    }
}

/// Bytes that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    /// For a window, in a buffer.
    pub(super) here: usize,
    /// Behind these, received of an endpoint or on their way: as many as there may be.
    pub(super) behind: usize,
}

impl Waiting {
    fn change(&mut self, before: Self, now: Self) {
        self.here = self.here - before.here + now.here;
        self.behind = self.behind - before.behind + now.behind;
    }
}

/// What waits on one connection, and what its client may make wait.
pub(super) struct Held {
    waiting: Cell<Waiting>,
    core: Rc<HeldByCore>,
    /// Streams that somebody works for.
    open: Cell<usize>,
    windows: Cell<Windows>,
    /// Bytes that were sent on all streams.
    sent: Cell<u64>,
}

impl Held {
    pub(super) fn new(core: &Rc<HeldByCore>) -> Rc<Self> {
        Rc::new(Self {
            waiting: Cell::default(),
            core: Rc::clone(core),
            open: Cell::new(0),
            windows: Cell::default(),
            sent: Cell::new(0),
        })
    }

    /// Takes note of what the client takes, and for how many streams.
    pub(super) fn learn(&self, windows: Windows, open: usize) {
        self.windows.set(windows);
        self.open.set(open);
    }

    /// Takes note of bytes that have left.
    pub(super) fn note_sent(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
    }

    /// Counts what a stream holds from now on in place of what it held.
    pub(super) fn change(&self, before: Waiting, now: Waiting) {
        for cell in [&self.waiting, &self.core.waiting] {
            let mut waiting = cell.get();
            waiting.change(before, now);
            cell.set(waiting);
        }
    }

    /// Whether only little more should come.
    pub(super) fn is_much(&self) -> bool {
        self.waiting.get().here >= limits::H2_HELD_BYTES_MUCH
            || self.core.waiting.get().here >= limits::H2_HELD_BYTES_MUCH_PER_CORE
            || self.may_become_much()
    }

    /// Whether a buffer for each stream would be much more than there is window for.
    fn may_become_much(&self) -> bool {
        let Windows { of_stream, in_all } = self.windows.get();
        let open = self.open.get();
        let missing = limits::BUFFER_BYTES.saturating_sub(of_stream as usize);
        let left = in_all.saturating_sub(self.sent.get());
        let much = limits::H2_HELD_BYTES_MUCH;
        open * missing > much || (open * limits::BUFFER_BYTES) as u64 > left + much as u64
    }

    /// Whether nothing more may come.
    pub(super) fn is_full(&self) -> bool {
        let (own, all) = (self.waiting.get(), self.core.waiting.get());
        own.here >= limits::H2_HELD_BYTES_MAX
            || (own.here > 0 && all.here >= limits::H2_HELD_BYTES_MAX_PER_CORE)
            || own.behind >= limits::H2_BEHIND_BYTES_MAX
            || (own.behind > 0 && all.behind >= limits::H2_BEHIND_BYTES_MAX_PER_CORE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_is_bounded_and_all_of_a_core_are() {
        let core = Rc::new(HeldByCore::default());
        let (one, other) = (Held::new(&core), Held::new(&core));
        let here = |here| Waiting { here, behind: 0 };
        one.change(here(0), here(limits::H2_HELD_BYTES_MUCH));
        assert!(one.is_much() && !one.is_full() && !other.is_much());
        one.change(here(limits::H2_HELD_BYTES_MUCH), here(limits::H2_HELD_BYTES_MAX));
        assert!(one.is_full() && !other.is_much());
        one.change(here(limits::H2_HELD_BYTES_MAX), here(limits::H2_HELD_BYTES_MAX_PER_CORE));
        assert!(other.is_much() && !other.is_full(), "who holds nothing is not to blame");
        other.change(here(0), here(1));
        assert!(other.is_full());
        one.change(here(limits::H2_HELD_BYTES_MAX_PER_CORE), here(0));
        assert!(!one.is_much() && !other.is_much() && core.bytes() == 1);
    }

    #[test]
    fn what_endpoints_have_sent_behind_is_bounded_too() {
        let core = Rc::new(HeldByCore::default());
        let (one, other) = (Held::new(&core), Held::new(&core));
        let behind = |behind| Waiting { here: 0, behind };
        one.change(behind(0), behind(limits::H2_BEHIND_BYTES_MAX));
        assert!(one.is_full() && !one.is_much() && !other.is_full());
        one.change(behind(limits::H2_BEHIND_BYTES_MAX), behind(0));
        one.change(behind(0), behind(limits::H2_BEHIND_BYTES_MAX_PER_CORE));
        assert!(!other.is_full(), "who holds nothing is not to blame");
        other.change(behind(0), behind(1));
        assert!(other.is_full() && !other.is_much());
    }
}
