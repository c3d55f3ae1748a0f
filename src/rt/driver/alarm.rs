//! The one timer that lies in the ring, for the first of the sleepers.
//!
//! A wait with a time limit sets up a timer in the kernel and takes it down again, thousands of times
//! a second, while the first sleeper of a core stays the same for a whole tick. So the timer is an
//! entry of its own; waits have no limit, and the clock is read when it has rung.

use std::time::Instant;

use io_uring::{opcode, squeue, types};

use super::{Kind, Tag};

/// When the ring tells that somebody's time has come.
#[derive(Default)]
pub(super) struct Alarm {
    at: Option<Instant>,
    generation: u32,
    /// Read by the kernel when the entry is submitted. Boxed, as the driver may move until then.
    length: Box<types::Timespec>,
    /// The entry's, of the last time it was set.
    pub(super) number: u64,
    has_rung: bool,
}

impl Alarm {
    /// Whether it has to be set for somebody who wants to be woken at `at`.
    pub(super) fn is_later_than(&self, at: Instant) -> bool {
        self.at.is_none_or(|set| set > at)
    }

    /// The tag of the entry under way.
    pub(super) fn under_way(&self) -> Option<Tag> {
        self.at.map(|_| self.tag())
    }

    fn tag(&self) -> Tag {
        Tag { kind: Kind::Alarm, generation: self.generation, index: 0 }
    }

    /// The entry that rings at `at`. The one before must have been submitted, if there was one.
    pub(super) fn set(&mut self, at: Instant, now: Instant) -> (squeue::Entry, Tag) {
        self.generation = (self.generation + 1) & Tag::GENERATION_MAX;
        self.at = Some(at);
        *self.length = types::Timespec::from(at.saturating_duration_since(now));
        (opcode::Timeout::new(&raw const *self.length).build(), self.tag())
    }

    /// A completion. Of an earlier one: it was cancelled, or came too late for that.
    pub(super) fn complete(&mut self, tag: Tag) {
        if tag == self.tag() {
            self.at = None;
            self.has_rung = true;
        }
    }

    /// Whether it has rung since the last call.
    pub(super) fn take_rung(&mut self) -> bool {
        std::mem::take(&mut self.has_rung)
    }
}
