//! Deadlines of connections: a dense array, scanned on each tick of the core.
//!
//! A deadline that expires shuts its socket down; the receive or send that waits there then ends
//! by itself and no future is ever dropped. Setting one is a few stores, as it happens several
//! times per request; looking for expired ones costs little enough that no wheel or heap is worth
//! having (docs/adr/0003-deadlines-are-a-scan.md has the numbers).
//!
//! Time here is milliseconds since an origin, 31 bits of them; the origin moves when they run out.
//! A deadline set between two ticks is kept as "so long from the next tick on" and becomes a point
//! in time there: so `set` reads no clock, and a core that was busy for a second does not fire
//! deadlines that were set at the end of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::base::limits;

use super::latch::{Handle, Latch, Latches};
use super::stream::Stream;

/// The deadlines of one core. Cloning gives another handle to the same table.
#[derive(Clone)]
pub struct Deadlines {
    table: Rc<Table>,
}

/// What an expired deadline does to its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// Ends receiving: a pending receive returns 0. Sending goes on, so an answer can be sent.
    Read,
    /// Ends both directions: a pending send fails too.
    Both,
}

/// The deadline of one stream. Not running at first; ends with this guard or with the stream,
/// whichever goes first.
pub struct Deadline {
    table: Rc<Table>,
    index: u32,
}

/// A stream's side of its deadline: when the stream goes, the descriptor is struck from the table
/// before it is closed, so that no deadline ever hits a stranger that got the same number.
pub(super) struct Link {
    table: Rc<Table>,
    index: u32,
    generation: u32,
}

struct Table {
    tick_millis: u64,
    origin: Cell<Instant>,
    now: Cell<u32>, // milliseconds since `origin`, of the last advance
    ticks_before_origin: Cell<u64>,
    tick: Cell<u64>, // of the last advance; kept, as it is asked for several times per request
    due: RefCell<Vec<u32>>, // what is scanned: NEVER, FRESH | milliseconds, or a time
    acts: RefCell<Vec<Act>>, // the same index: what happens then
    slots: RefCell<Vec<Slot>>, // the same index: to whom
    free: RefCell<Vec<u32>>,
    latches: Latches,
}

/// What is written with each deadline that is set: small and apart, so that those of many connections
/// share a line of the cache.
#[derive(Clone, Copy)]
struct Act {
    how: Shut,
    why: u8,
    /// Whether there is something to shut.
    has_target: bool,
}

#[derive(Clone, Copy)]
struct Slot {
    /// What is shut then; `None`: the stream is gone.
    target: Option<Handle>,
    generation: u32,
    fired: Option<u8>,
}

/// Not running. Later than any time, so the scan needs no case for it.
const NEVER: u32 = i32::MAX as u32;

/// Set since the last tick: the other bits say how long from the next one on.
const FRESH: u32 = 1 << 31;

/// When `now` reaches this (12 days) the origin moves.
const NOW_MAX: u32 = 1 << 30;

/// Longest time a deadline can be set to, milliseconds: 12 days.
const AFTER_MAX: u32 = NOW_MAX - 2;

/// Entries looked at together: the common case, none expired, is one branch for all of them.
const SCAN_CHUNK: usize = 64;

impl Deadlines {
    /// An empty table for a core that calls [`Deadlines::advance`] every `tick`.
    pub fn new(tick: Duration) -> Self {
        let table = Table {
            tick_millis: (tick.as_millis() as u64).max(1),
            origin: Cell::new(Instant::now()),
            now: Cell::new(0),
            ticks_before_origin: Cell::new(0),
            tick: Cell::new(0),
            due: RefCell::new(Vec::new()),
            acts: RefCell::new(Vec::new()),
            slots: RefCell::new(Vec::new()),
            free: RefCell::new(Vec::new()),
            latches: Latches::default(),
        };
        Self { table: Rc::new(table) }
    }

    /// A deadline for `stream`, not running yet. A stream has up to two (one for each
    /// direction); with a third, the first never fires again.
    pub fn register(&self, stream: &Stream) -> Deadline {
        let (index, generation) = self.table.occupy(Handle::Socket(stream.fd()));
        stream.link_deadline(Link { table: Rc::clone(&self.table), index, generation });
        Deadline { table: Rc::clone(&self.table), index }
    }

    /// A deadline for what has a latch in place of a descriptor. The latch has to outlive it.
    pub fn register_latch(&self, latch: &Latch) -> Deadline {
        let (index, _) = self.table.occupy(Handle::Latch(latch.id()));
        Deadline { table: Rc::clone(&self.table), index }
    }

    /// The latches of this core.
    pub fn latches(&self) -> &Latches {
        &self.table.latches
    }

    /// Moves time to `now` and shuts down the sockets whose deadline is reached. To be called each
    /// tick; a call later than that makes deadlines late. None is more than a millisecond early: points in time
    /// are whole ones. At most
    /// [`limits::DEADLINES_FIRED_AT_ONCE`] fire; whether there are more is said.
    pub fn advance(&self, now: Instant) -> bool {
        self.table.advance(now)
    }

    /// Ticks between the making of this table and the last [`Deadlines::advance`].
    pub fn now_tick(&self) -> u64 {
        self.table.now_tick()
    }
}

impl Deadline {
    /// Starts the deadline, or moves it: `after` from now (rounded up to milliseconds, at most 12
    /// days) the socket is shut down `how`, and [`Deadline::fired`] says `why`. Not more than a millisecond early, at most
    /// two ticks late. A few stores: no clock is read, nothing allocated.
    pub fn set(&self, after: Duration, how: Shut, why: u8) {
        let part = u64::from(after.subsec_nanos().div_ceil(1_000_000));
        let millis = after.as_secs().saturating_mul(1000).saturating_add(part);
        let millis = millis.min(u64::from(AFTER_MAX)) as u32;
        let act = &mut self.table.acts.borrow_mut()[self.index as usize];
        act.how = how;
        act.why = why;
        if act.has_target {
            self.table.due.borrow_mut()[self.index as usize] = FRESH | millis;
        }
    }

    /// Has it fire with the next tick if it is running.
    pub fn hasten(&self) {
        let due = &mut self.table.due.borrow_mut()[self.index as usize];
        if *due != NEVER {
            *due = FRESH;
        }
    }

    /// As [`Deadlines::now_tick`].
    pub fn now_tick(&self) -> u64 {
        self.table.now_tick()
    }

    /// Stops the deadline. What it did before stays done and remembered.
    pub fn clear(&self) {
        self.table.due.borrow_mut()[self.index as usize] = NEVER;
    }

    /// The `why` of the last time it fired, if it did since [`Deadline::take_fired`]. Setting the
    /// deadline anew does not forget it: the socket is still shut down.
    pub fn fired(&self) -> Option<u8> {
        self.table.slots.borrow()[self.index as usize].fired
    }

    /// The same, and forgets it.
    pub fn take_fired(&self) -> Option<u8> {
        self.table.slots.borrow_mut()[self.index as usize].fired.take()
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.table.vacate(self.index);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.table.strike(self.index, self.generation);
    }
}

impl Table {
    fn now_tick(&self) -> u64 {
        self.tick.get()
    }

    fn occupy(&self, target: Handle) -> (u32, u32) {
        let (mut due, mut acts) = (self.due.borrow_mut(), self.acts.borrow_mut());
        let mut slots = self.slots.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            due.push(NEVER);
            acts.push(Act { how: Shut::Both, why: 0, has_target: false });
            slots.push(Slot { target: None, generation: 0, fired: None });
            (slots.len() - 1) as u32
        });
        let slot = &mut slots[index as usize];
        *slot = Slot { target: Some(target), fired: None, ..*slot };
        acts[index as usize].has_target = true;
        (index, slot.generation)
    }

    fn vacate(&self, index: u32) {
        let slot = &mut self.slots.borrow_mut()[index as usize];
        slot.target = None;
        slot.generation = slot.generation.wrapping_add(1);
        self.disable(index);
        self.free.borrow_mut().push(index);
    }

    /// The descriptor is about to be closed; does nothing if the slot is somebody else's by now.
    fn strike(&self, index: u32, generation: u32) {
        let slot = &mut self.slots.borrow_mut()[index as usize];
        if slot.generation == generation {
            slot.target = None;
            self.disable(index);
        }
    }

    /// There is nothing to shut any more.
    fn disable(&self, index: u32) {
        self.acts.borrow_mut()[index as usize].has_target = false;
        self.due.borrow_mut()[index as usize] = NEVER;
    }

    fn advance(&self, now: Instant) -> bool {
        let mut passed = now.saturating_duration_since(self.origin.get()).as_millis();
        if passed >= u128::from(NOW_MAX) {
            self.move_origin();
            passed = now.saturating_duration_since(self.origin.get()).as_millis();
        }
        // A pause of more than 12 days (a suspended machine) counts as 12 days.
        let now = self.now.get().max(passed.min(u128::from(NOW_MAX)) as u32);
        self.now.set(now);
        self.tick.set(self.ticks_before_origin.get() + u64::from(now) / self.tick_millis);
        let mut due = self.due.borrow_mut();
        let mut left = limits::DEADLINES_FIRED_AT_ONCE;
        for (chunk, due) in due.chunks_mut(SCAN_CHUNK).enumerate() {
            if any_expired(due, now) && !self.fire(chunk * SCAN_CHUNK, due, now, &mut left) {
                return true;
            }
        }
        false
    }

    /// Fires what is due, `left` of them at most; whether that was all.
    #[cold]
    fn fire(&self, first_index: usize, due: &mut [u32], now: u32, left: &mut usize) -> bool {
        let (acts, mut slots) = (self.acts.borrow(), self.slots.borrow_mut());
        for (offset, due) in due.iter_mut().enumerate().filter(|(_, due)| **due <= now) {
            if *left == 0 {
                return false;
            }
            *left -= 1;
            *due = NEVER;
            let slot = &mut slots[first_index + offset];
            let Act { how, why, .. } = acts[first_index + offset];
            slot.fired = Some(why);
            if let Some(target) = slot.target {
                self.latches.shut_handle(target, how);
            }
        }
        true
    }

    /// Makes the time of the last advance the new origin.
    #[cold]
    fn move_origin(&self) {
        let now = self.now.replace(0);
        self.origin.set(self.origin.get() + Duration::from_millis(u64::from(now)));
        let ticks = u64::from(now) / self.tick_millis;
        self.ticks_before_origin.set(self.ticks_before_origin.get() + ticks);
        for due in self.due.borrow_mut().iter_mut().filter(|due| **due < NEVER) {
            *due -= now; // not expired at the last advance, so later than `now`
        }
    }
}

/// Turns what was set since the last tick into points in time, and says whether any entry is due.
/// Without branches, so that it becomes a few vector instructions per eight entries.
fn any_expired(due: &mut [u32], now: u32) -> bool {
    let mut expired = 0;
    for due in due {
        let fresh = due.cast_signed() >> 31; // all ones or all zeroes
        *due = (*due & !FRESH) + (now & fresh.cast_unsigned());
        expired |= u32::from(due.cast_signed() <= now.cast_signed());
    }
    expired != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(50);

    /// A table whose entries watch no real socket: shutdown(2) of a number that is none is refused.
    fn entry(deadlines: &Deadlines) -> Deadline {
        let (index, _) = deadlines.table.occupy(Handle::Socket(i32::MAX));
        Deadline { table: Rc::clone(&deadlines.table), index }
    }

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_crowd_fires_in_pieces() {
        let deadlines = Deadlines::new(TICK);
        let start = deadlines.table.origin.get();
        let crowd: Vec<_> =
            (0..limits::DEADLINES_FIRED_AT_ONCE * 2 + 1).map(|_| entry(&deadlines)).collect();
        crowd.iter().for_each(|one| one.set(millis(10), Shut::Both, 1));
        let fired = || crowd.iter().filter(|one| one.fired().is_some()).count();
        assert!(!deadlines.advance(start), "none is due");
        let mut steps = Vec::new();
        while deadlines.advance(start + millis(20)) {
            steps.push(fired());
        }
        let once = limits::DEADLINES_FIRED_AT_ONCE;
        assert_eq!((steps, fired()), (vec![once, 2 * once], 2 * once + 1));
    }

    #[test]
    fn fires_never_early_and_at_most_two_ticks_late() {
        for (set_at, after) in [(0, 0), (0, 1), (1, 49), (49, 50), (50, 50), (20, 1000), (30, 33)] {
            let deadlines = Deadlines::new(TICK);
            let start = deadlines.table.origin.get();
            let deadline = entry(&deadlines);
            let mut fired_at = None;
            for at in 0..3000 {
                if at == set_at {
                    deadline.set(millis(after), Shut::Both, 7);
                }
                if at % 50 == 0 && at > set_at {
                    deadlines.advance(start + millis(at));
                }
                if fired_at.is_none() && deadline.fired() == Some(7) {
                    fired_at = Some(at);
                }
            }
            let late = fired_at.expect("it fires") - set_at - after;
            assert!(late <= 100, "set at {set_at} for {after}: {late} ms late");
        }
    }

    #[test]
    fn a_stall_of_the_core_does_not_fire_what_was_set_at_its_end() {
        let deadlines = Deadlines::new(TICK);
        let start = deadlines.table.origin.get();
        let deadline = entry(&deadlines);
        deadlines.advance(start + TICK);
        deadline.set(millis(100), Shut::Both, 1); // after 5 s without a tick
        deadlines.advance(start + millis(5_050));
        assert_eq!(deadline.fired(), None);
        deadlines.advance(start + millis(5_150));
        assert_eq!(deadline.fired(), Some(1));
    }

    #[test]
    fn cleared_does_not_fire_and_set_again_moves() {
        let deadlines = Deadlines::new(TICK);
        let start = deadlines.table.origin.get();
        let (cleared, moved) = (entry(&deadlines), entry(&deadlines));
        cleared.set(TICK, Shut::Read, 1);
        moved.set(TICK, Shut::Read, 2);
        deadlines.advance(start + TICK);
        cleared.clear();
        moved.set(millis(200), Shut::Both, 3);
        for tick in 2..=5 {
            deadlines.advance(start + TICK * tick);
            assert_eq!((cleared.fired(), moved.fired()), (None, None));
        }
        deadlines.advance(start + TICK * 6);
        assert_eq!((cleared.fired(), moved.fired()), (None, Some(3)));
        moved.set(TICK, Shut::Both, 4);
        assert_eq!(moved.take_fired(), Some(3), "set does not forget");
        assert_eq!(moved.fired(), None);
    }

    #[test]
    fn a_slot_is_reused_blank() {
        let deadlines = Deadlines::new(TICK);
        let start = deadlines.table.origin.get();
        let first = entry(&deadlines);
        first.set(TICK, Shut::Both, 1);
        drop(first);
        let second = entry(&deadlines);
        assert_eq!(deadlines.table.slots.borrow().len(), 1);
        deadlines.advance(start + millis(500));
        assert_eq!(second.fired(), None);
        deadlines.table.strike(second.index, 0); // the first one's stream goes late
        second.set(TICK, Shut::Both, 2);
        deadlines.advance(start + millis(600));
        deadlines.advance(start + millis(700));
        assert_eq!(second.fired(), Some(2), "a stranger's link changes nothing");
    }

    #[test]
    fn a_struck_descriptor_is_never_shut_down() {
        let deadlines = Deadlines::new(TICK);
        let start = deadlines.table.origin.get();
        let deadline = entry(&deadlines);
        deadline.set(TICK, Shut::Both, 1);
        deadlines.table.strike(deadline.index, 0);
        deadline.set(TICK, Shut::Both, 2); // the guard lives on: no effect
        deadlines.advance(start + millis(500));
        deadlines.advance(start + millis(900));
        assert_eq!(deadline.fired(), None);
    }

    #[test]
    fn time_outlives_the_bits_it_is_counted_in() {
        let deadlines = Deadlines::new(TICK);
        let start = deadlines.table.origin.get();
        let hour = Duration::from_secs(3600);
        let deadline = entry(&deadlines);
        for hours in 1..24 * 40 {
            deadlines.advance(start + hour * hours);
            if hours % 10 == 0 {
                assert_eq!(deadline.take_fired(), (hours > 10).then_some(9), "hour {hours}");
                deadline.set(hour * 7 + hour / 2, Shut::Both, 9);
            } else if hours > 10 {
                let due = hours % 10 > 8; // becomes a time at hour 1, plus 7.5 hours
                assert_eq!(deadline.fired().is_some(), due, "hour {hours}");
            }
            assert_eq!(deadlines.now_tick() / (20 * 3600), u64::from(hours));
        }
    }

    #[test]
    fn many_entries_expire_each_at_its_time() {
        let deadlines = Deadlines::new(TICK);
        let start = deadlines.table.origin.get();
        let all: Vec<_> = (0..1000).map(|_| entry(&deadlines)).collect();
        for (index, deadline) in all.iter().enumerate() {
            deadline.set(TICK * (index as u32 % 20), Shut::Both, (index % 20) as u8);
        }
        for tick in 1..=20 {
            deadlines.advance(start + TICK * tick);
            for (index, deadline) in all.iter().enumerate() {
                let expect = (index as u32 % 20) < tick;
                assert_eq!(deadline.fired().is_some(), expect, "entry {index}, tick {tick}");
            }
        }
    }

    /// Prints what a scan and a set cost; the command is in docs/adr/0003-deadlines-are-a-scan.md.
    #[test]
    #[ignore = "a measurement"]
    fn scan_cost() {
        for count in [10_000, 100_000] {
            for (share, step) in [("all", 1), ("a tenth", 10), ("none", usize::MAX)] {
                let deadlines = Deadlines::new(TICK);
                let start = deadlines.table.origin.get();
                let all: Vec<_> = (0..count).map(|_| entry(&deadlines)).collect();
                let mut costs = Vec::new();
                for round in 0..1000 {
                    for deadline in all.iter().step_by(step) {
                        deadline.set(Duration::from_secs(600), Shut::Both, 1);
                    }
                    let before = Instant::now();
                    deadlines.advance(start + TICK * round);
                    costs.push(before.elapsed());
                }
                costs.sort();
                println!("{count} entries, {share} set since: median {:?}", costs[500]);
            }
        }
        let deadlines = Deadlines::new(TICK);
        let deadline = entry(&deadlines);
        let before = Instant::now();
        for seconds in 0..1_000_000 {
            std::hint::black_box(&deadline).set(Duration::from_secs(seconds), Shut::Both, 1);
        }
        println!("set: {:?}", before.elapsed() / 1_000_000);
    }
}
