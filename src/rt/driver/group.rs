//! Buffers lent to the kernel: a ring it takes one from when bytes have arrived, not before.
//!
//! A connection that waits so holds no buffer. The kernel uses the entries in order, so all that lie
//! in the ring take turns; few of them stay in the cache, many do not. So the ring is filled to a
//! level that follows the need: it doubles when the kernel ran out, and sinks again.
#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue};

use super::super::buf::{Buf, BufPool};
use super::super::sys;

/// Entries of a ring of buffers: the most that can be lent at once, a power of two. As many
/// receives can complete between two turns of the loop before one has to be asked for again.
const ENTRIES: u16 = 1024;

/// Buffers that are always lent. Fewer are no hotter: the kernel needs one per ready connection.
const LEVEL_MIN: usize = 16;

/// Turns after which the level may sink.
const TURNS_PER_LEVEL: u32 = 4096;

/// The buffers of one pool that are lent to the kernel.
pub(super) struct Group {
    id: u16,
    entries: NonNull<BufRingEntry>,
    tail: u16,
    pool: BufPool,
    /// Who lies in the ring, by the id its entry has.
    lent: Box<[Option<Buf>]>,
    free_ids: Vec<u16>,
    level: usize,
    level_max: usize,
    has_run_out: bool,
    /// Fewest in the ring before it was filled, and over how many turns that was.
    low: (usize, u32),
}

impl Group {
    /// Makes the ring known to the kernel. Lends nothing yet.
    ///
    /// # Errors
    /// `InvalidInput` where the kernel has no such rings (before Linux 5.19).
    pub(super) fn register(ring: &IoUring, id: u16, pool: BufPool) -> io::Result<Self> {
        // Half of a small pool is left to those who take buffers themselves.
        let level_max = (pool.count_max() / 2).clamp(1, usize::from(ENTRIES));
        let entries = sys::map_pages(Self::bytes())?.cast::<BufRingEntry>();
        let group = Self {
            id,
            entries,
            tail: 0,
            pool,
            lent: (0..ENTRIES).map(|_| None).collect(),
            free_ids: (0..ENTRIES).rev().collect(),
            level: LEVEL_MIN.min(level_max),
            level_max,
            has_run_out: false,
            low: (usize::MAX, 0),
        };
        // WHY UNSAFE: the kernel reads this memory from now on, and writes to what entries name.
        // SAFETY: the mapping is page-aligned, large enough, zero, and outlives the registration:
        // `Driver` ends all operations before it drops its groups, and `unregister` comes first.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                entries.as_ptr() as u64,
                ENTRIES,
                id,
                0,
            )?;
        }
        Ok(group)
    }

    fn bytes() -> usize {
        usize::from(ENTRIES) * size_of::<BufRingEntry>()
    }

    /// The kernel forgets the ring.
    pub(super) fn unregister(&self, ring: &IoUring) {
        let _ = ring.submitter().unregister_buf_ring(self.id); // an error: it did already
    }

    /// Lends buffers up to the level, which doubles first if the kernel ran out.
    pub(super) fn fill(&mut self) {
        if std::mem::take(&mut self.has_run_out) {
            self.level = (self.level * 2).min(self.level_max);
            self.low = (0, 0);
        }
        let in_ring = usize::from(ENTRIES) - self.free_ids.len();
        if in_ring < self.level {
            self.lend(self.level - in_ring);
        }
        self.note_low(in_ring);
    }

    /// Whether the kernel has at least one buffer to take.
    pub(super) fn has_lent(&self) -> bool {
        self.free_ids.len() < usize::from(ENTRIES)
    }

    fn lend(&mut self, count: usize) {
        let start = self.tail;
        for _ in 0..count {
            let Some(id) = self.free_ids.pop() else { break };
            let Some(mut buf) = self.pool.take_to_lend() else {
                self.free_ids.push(id);
                break;
            };
            let room = buf.spare_mut();
            let (address, bytes) = (room.as_mut_ptr() as u64, room.len() as u32);
            let place = usize::from(self.tail % ENTRIES);
            // WHY UNSAFE: an entry of the ring, in memory shared with the kernel.
            // SAFETY: `place` is below ENTRIES; the kernel does not read the entry before the tail
            // passes it; what it names is a whole slot's data part, which `lent` owns until the
            // kernel has given it back or can't use it any more.
            unsafe {
                let entry = self.entries.add(place).as_mut();
                entry.set_addr(address);
                entry.set_len(bytes);
                entry.set_bid(id);
            }
            self.lent[usize::from(id)] = Some(buf);
            self.tail = self.tail.wrapping_add(1);
        }
        if self.tail != start {
            self.publish();
        }
    }

    fn publish(&self) {
        // WHY UNSAFE: the tail lies in memory shared with the kernel, which reads it.
        // SAFETY: it is aligned and inside the mapping; only this thread writes it. Release: the
        // entries are seen before it.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// The level sinks when much of the ring was never used for a while.
    fn note_low(&mut self, in_ring: usize) {
        let (low, turns) = self.low;
        self.low = (low.min(in_ring), turns + 1);
        if turns >= TURNS_PER_LEVEL {
            if low > self.level / 2 {
                self.level = (self.level - self.level / 4).max(LEVEL_MIN.min(self.level_max));
            }
            self.low = (usize::MAX, 0);
        }
    }

    /// The kernel found no buffer. However many connections it was for, the level doubles once.
    pub(super) fn ran_out(&mut self) {
        self.pool.note_starved();
        self.has_run_out = true;
    }

    /// The buffer of a completion, with what was received into it.
    pub(super) fn take(&mut self, flags: u32, received: i32) -> Option<Buf> {
        let id = cqueue::buffer_select(flags)?;
        let mut buf = self.lent.get_mut(usize::from(id))?.take()?;
        self.free_ids.push(id);
        buf.returned();
        buf.received(usize::try_from(received).unwrap_or(0));
        Some(buf)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.lent.iter_mut().flatten().for_each(Buf::returned);
        sys::unmap_pages(self.entries.cast(), Self::bytes());
    }
}
