//! What waits for clients that take nothing, and how much of that may be.
//!
//! A piece of a body that its stream has no window for waits in memory. Many streams may wait on one
//! connection, and their client decides for how long: so what waits is counted, for the connection and
//! for the core. From some amount on nothing is fetched from endpoints that may have to wait, and
//! beyond another one the connection gets no further streams.

use std::{cell::Cell, rc::Rc};

use crate::{base::limits, proto::h2::Windows};

/// What waits on all connections of a core, in bytes.
#[derive(Default)]
pub struct HeldByCore {
    bytes: Cell<usize>,
}

impl HeldByCore {
    /// How many there are.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }
}

/// What waits on one connection, and what its client may make wait.
pub(super) struct Held {
    bytes: Cell<usize>,
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
            bytes: Cell::new(0),
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
    pub(super) fn change(&self, before: usize, now: usize) {
        for bytes in [&self.bytes, &self.core.bytes] {
            bytes.set(bytes.get() - before + now);
        }
    }

    /// Whether only little more should come.
    pub(super) fn is_much(&self) -> bool {
        self.bytes.get() >= limits::H2_HELD_BYTES_MUCH
            || self.core.bytes.get() >= limits::H2_HELD_BYTES_MUCH_PER_CORE
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
        self.bytes.get() >= limits::H2_HELD_BYTES_MAX
            || (self.bytes.get() > 0 && self.core.bytes.get() >= limits::H2_HELD_BYTES_MAX_PER_CORE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_is_bounded_and_all_of_a_core_are() {
        let core = Rc::new(HeldByCore::default());
        let (one, other) = (Held::new(&core), Held::new(&core));
        one.change(0, limits::H2_HELD_BYTES_MUCH);
        assert!(one.is_much() && !one.is_full() && !other.is_much());
        one.change(limits::H2_HELD_BYTES_MUCH, limits::H2_HELD_BYTES_MAX);
        assert!(one.is_full() && !other.is_much());
        one.change(limits::H2_HELD_BYTES_MAX, limits::H2_HELD_BYTES_MAX_PER_CORE);
        assert!(other.is_much() && !other.is_full(), "who holds nothing is not to blame");
        other.change(0, 1);
        assert!(other.is_full());
        one.change(limits::H2_HELD_BYTES_MAX_PER_CORE, 0);
        assert!(!one.is_much() && !other.is_much() && core.bytes() == 1);
    }
}
