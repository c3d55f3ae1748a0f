//! Pooled receive buffers with room in front and behind, one pool per core.
//!
//! A slot is `headroom | data | tailroom` (see [`crate::base::limits`]). The kernel receives into
//! the data part; a rewritten head goes in front of it and the end of a chunk behind it, so that
//! what came with one receive leaves with one send. Free slots are reused last in, first out: the
//! one just returned is still in the cache.
//!
//! Who calls it: `dataplane`, and [`super::Stream`], which lends the buffer to the kernel.
#![allow(unsafe_code)]

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::ptr::NonNull;
use std::rc::Rc;

use super::slots::Slots;
use crate::base::limits::{BUFFER_HEADROOM_BYTES, BUFFER_TAILROOM_BYTES};

/// The buffers of one core, bounded in number, allocated when first needed, kept until the pool
/// and its last buffer are gone. Cloning gives another handle to the same pool.
#[derive(Clone)]
pub struct BufPool {
    shared: Rc<Shared>,
}

/// How a pool is used, in buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufStats {
    /// Buffers somebody holds.
    pub in_use: usize,
    /// Buffers that wait to be used again.
    pub free: usize,
    /// Buffers that lie ready for the kernel, which takes one when bytes arrive.
    pub lent: usize,
    /// Buffers that exist: `in_use + free + lent`.
    pub allocated: usize,
    /// How often the kernel found none of those lent; the receive was made again.
    pub starved: u64,
}

struct Shared {
    data_bytes: usize,
    slots: RefCell<Slots>,
    free: RefCell<Vec<NonNull<u8>>>,
    /// Fewest free buffers since the last trim: those below were not used since.
    free_low: Cell<usize>,
    /// Free buffers, from the bottom of the list, whose memory the kernel has back.
    trimmed: Cell<usize>,
    lent: Cell<usize>,
    starved: Cell<u64>,
    /// Where [`Buf::enlarge`] finds room.
    larger: OnceCell<BufPool>,
    /// Where [`BufPool::take_small`] takes.
    smaller: OnceCell<BufPool>,
}

impl BufPool {
    /// A pool of at most `count_max` buffers that each receive up to `data_bytes` bytes. Allocates
    /// nothing yet.
    ///
    /// # Panics
    /// If a slot would not be addressable with 32 bits.
    pub fn new(data_bytes: usize, count_max: usize) -> Self {
        let slot_bytes = BUFFER_HEADROOM_BYTES + data_bytes + BUFFER_TAILROOM_BYTES;
        assert!(u32::try_from(slot_bytes).is_ok(), "a buffer is addressed with 32 bits");
        let shared = Shared {
            data_bytes,
            slots: RefCell::new(Slots::new(slot_bytes, count_max)),
            free: RefCell::new(Vec::new()),
            free_low: Cell::new(0),
            trimmed: Cell::new(0),
            lent: Cell::new(0),
            starved: Cell::new(0),
            larger: OnceCell::new(),
            smaller: OnceCell::new(),
        };
        Self { shared: Rc::new(shared) }
    }

    /// Beside it another pool, of larger buffers, for what is rare and does not fit ([`Buf::enlarge`]).
    pub fn with_larger(self, data_bytes: usize, count_max: usize) -> Self {
        let _ = self.shared.larger.set(Self::new(data_bytes, count_max)); // a pool has one of them
        self
    }

    /// Beside it another pool, of smaller buffers, for what is known to be little ([`BufPool::take_small`]).
    pub fn with_smaller(self, data_bytes: usize, count_max: usize) -> Self {
        let _ = self.shared.smaller.set(Self::new(data_bytes, count_max)); // a pool has one of them
        self
    }

    /// An empty smaller buffer; `None` when all are in use, or there are none.
    pub fn take_small(&self) -> Option<Buf> {
        self.shared.smaller.get()?.take()
    }

    /// An empty buffer; `None` when `count_max` are in use or the machine has no memory left.
    pub fn take(&self) -> Option<Buf> {
        let base = match self.shared.pop() {
            Some(base) => base,
            None => self.shared.grow()?,
        };
        Some(Buf {
            base,
            start: BUFFER_HEADROOM_BYTES as u32,
            end: BUFFER_HEADROOM_BYTES as u32,
            shared: Rc::clone(&self.shared),
        })
    }

    /// The same, for the kernel to take when it needs one. Counts as lent until [`Buf::returned`].
    pub(super) fn take_to_lend(&self) -> Option<Buf> {
        let buf = self.take()?;
        self.shared.lent.set(self.shared.lent.get() + 1);
        Some(buf)
    }

    /// Counts a receive that found no lent buffer.
    pub(super) fn note_starved(&self) {
        self.shared.starved.set(self.shared.starved.get() + 1);
    }

    /// Buffers at most.
    pub fn count_max(&self) -> usize {
        self.shared.slots.borrow().count_max()
    }

    /// Whether this is a handle to the same pool.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.shared, &other.shared)
    }

    /// Gives the memory of up to `count_max` buffers back to the kernel, of those that nobody used
    /// since the last call, and says how many that were. The buffers stay: their pages come back,
    /// zeroed, when they are used. Meant to be called every few seconds, so that a burst does not
    /// cost memory for ever.
    pub fn trim(&self, count_max: usize) -> usize {
        let shared = &self.shared;
        let free = shared.free.borrow();
        let unused = shared.free_low.replace(free.len());
        let from = shared.trimmed.get();
        let to = unused.min(from.saturating_add(count_max)).max(from);
        let slots = shared.slots.borrow();
        free[from..to].iter().for_each(|slot| slots.release(*slot));
        shared.trimmed.set(to);
        let others = [&shared.larger, &shared.smaller].into_iter().filter_map(OnceCell::get);
        to - from + others.map(|other| other.trim(count_max)).sum::<usize>()
    }

    /// How the pool is used right now.
    pub fn stats(&self) -> BufStats {
        let allocated = self.shared.slots.borrow().handed_out();
        let free = self.shared.free.borrow().len();
        let lent = self.shared.lent.get();
        let starved = self.shared.starved.get();
        BufStats { in_use: allocated - free - lent, free, lent, allocated, starved }
    }
}

impl fmt::Debug for BufPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}

impl Shared {
    fn pop(&self) -> Option<NonNull<u8>> {
        let mut free = self.free.borrow_mut();
        let slot = free.pop()?;
        self.free_low.set(self.free_low.get().min(free.len()));
        self.trimmed.set(self.trimmed.get().min(free.len()));
        Some(slot)
    }

    #[cold]
    fn grow(&self) -> Option<NonNull<u8>> {
        let mut slots = self.slots.borrow_mut();
        let base = slots.next()?;
        // Room for all of them now: a `Buf` may be dropped inside the driver, where nothing may
        // allocate.
        let mut free = self.free.borrow_mut();
        let missing = slots.handed_out() - free.len();
        free.reserve(missing);
        Some(base)
    }
}

/// One pooled buffer: some data, room in front of it and room behind it. Goes back to its pool
/// when dropped; dropping touches nothing but the free list.
pub struct Buf {
    base: NonNull<u8>,
    start: u32, // first data byte, counted from `base`
    end: u32,   // one past the last data byte
    shared: Rc<Shared>,
}

impl Buf {
    /// What was received or written and not consumed yet.
    pub fn data(&self) -> &[u8] {
        &self.slot()[self.start as usize..self.end as usize]
    }

    /// The same, to change in place.
    pub fn data_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.start as usize, self.end as usize);
        &mut self.slot_mut()[start..end]
    }

    /// Bytes of [`Buf::data`].
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there is no data.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes a receive may still add. An empty buffer has all of its data part free, wherever the
    /// data it held before lay.
    pub fn spare(&self) -> usize {
        if self.is_empty() {
            return self.shared.data_bytes;
        }
        self.data_limit().saturating_sub(self.end as usize)
    }

    /// Removes the first `n` bytes of the data.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.len(), "consume({n}) of {} bytes", self.len());
        self.start += n as u32;
    }

    /// Keeps the first `n` bytes of the data; does nothing if there are fewer.
    pub fn truncate(&mut self, n: usize) {
        self.end = self.start + n.min(self.len()) as u32;
    }

    /// Removes all data.
    pub fn clear(&mut self) {
        self.start = BUFFER_HEADROOM_BYTES as u32;
        self.end = self.start;
    }

    /// Moves the data back to the headroom mark, so that [`Buf::spare`] is as large as it can be.
    pub fn compact(&mut self) {
        let len = self.len();
        let start = BUFFER_HEADROOM_BYTES.min(self.slot_bytes() - len);
        let data = self.start as usize..self.end as usize;
        if data.start != start {
            self.slot_mut().copy_within(data, start);
            self.start = start as u32;
            self.end = (start + len) as u32;
        }
    }

    /// Bytes [`Buf::prepend`] has room for.
    pub fn prepend_room(&self) -> usize {
        if self.is_empty() { self.slot_bytes() } else { self.start as usize }
    }

    /// Bytes of memory it takes, full or not.
    pub fn room(&self) -> usize {
        self.slot_bytes()
    }

    /// Whether there are larger buffers than this one.
    pub fn has_larger(&self) -> bool {
        self.shared.larger.get().is_some()
    }

    /// Moves the data to a larger buffer; false, and nothing changed, if all of them are in use, or
    /// there are none.
    #[cold]
    pub fn enlarge(&mut self) -> bool {
        let larger = self.shared.larger.get().and_then(BufPool::take);
        self.move_to(larger)
    }

    /// Moves the data to a buffer of `pool`, if it is in a larger one and fits.
    pub fn reduce(&mut self, pool: &BufPool) {
        let shared = &pool.shared;
        if self.shared.data_bytes > shared.data_bytes && self.len() <= shared.data_bytes {
            self.move_to(pool.take());
        }
    }

    fn move_to(&mut self, to: Option<Self>) -> bool {
        let Some(mut to) = to else { return false };
        let is_moved = to.append(self.data());
        if is_moved {
            *self = to;
        }
        is_moved
    }

    /// Writes `bytes` right in front of the data; false, and nothing changed, if they don't fit.
    pub fn prepend(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.prepend_room() {
            return false;
        }
        if self.is_empty() {
            self.start = self.start.max(bytes.len() as u32);
            self.end = self.start;
        }
        self.start -= bytes.len() as u32;
        self.data_mut()[..bytes.len()].copy_from_slice(bytes);
        true
    }

    /// Writes `bytes` right behind the data, tailroom included; false, and nothing changed, if they
    /// don't fit.
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let end = if self.is_empty() { BUFFER_HEADROOM_BYTES } else { self.end as usize };
        if bytes.len() > self.slot_bytes() - end {
            return false;
        }
        if self.is_empty() {
            self.clear();
        }
        self.slot_mut()[end..end + bytes.len()].copy_from_slice(bytes);
        self.end = (end + bytes.len()) as u32;
        true
    }

    /// Lets `fill` write to the whole buffer, head and tail room included, and takes the first bytes,
    /// as many as it says, for its data. What was there is gone.
    ///
    /// # Panics
    /// If it says more than there are.
    pub fn write(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) {
        let filled = fill(self.slot_mut());
        assert!(filled <= self.slot_bytes(), "{filled} bytes written to a buffer");
        self.start = 0;
        self.end = filled as u32;
    }

    /// The pool it came from.
    pub(super) fn pool(&self) -> BufPool {
        BufPool { shared: Rc::clone(&self.shared) }
    }

    /// The room a receive writes to, `spare()` bytes. What it wrote is announced with
    /// [`Buf::received`].
    pub(super) fn spare_mut(&mut self) -> &mut [u8] {
        if self.is_empty() {
            self.clear();
        }
        let (end, limit) = (self.end as usize, self.data_limit());
        &mut self.slot_mut()[end.min(limit)..limit]
    }

    /// The kernel no longer has it.
    pub(super) fn returned(&mut self) {
        self.shared.lent.set(self.shared.lent.get() - 1);
    }

    /// Counts the first `n` bytes of the spare room as data.
    pub(super) fn received(&mut self, n: usize) {
        assert!(n <= self.spare(), "the kernel wrote past the end of a buffer");
        self.end += n as u32;
    }

    /// Where a receive must stop: the tailroom stays free for a chunk's end.
    fn data_limit(&self) -> usize {
        BUFFER_HEADROOM_BYTES + self.shared.data_bytes
    }

    fn slot_bytes(&self) -> usize {
        self.data_limit() + BUFFER_TAILROOM_BYTES
    }

    fn slot(&self) -> &[u8] {
        // WHY UNSAFE: the slot is part of a mapping, not an allocation Rust knows (see `slots`).
        // SAFETY:
        // - alive: `shared` owns the mapping and is held by `self`;
        // - initialised: anonymous mappings are zero;
        // - exclusive: a slot is handed out once and is out of the free list while `self` lives.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.slot_bytes()) }
    }

    fn slot_mut(&mut self) -> &mut [u8] {
        // WHY UNSAFE, SAFETY: as in `slot`; `&mut self` makes it the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.slot_bytes()) }
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        self.shared.free.borrow_mut().push(self.base);
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} bytes, {} spare)", self.len(), self.spare())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: usize = 100;

    fn pool() -> BufPool {
        BufPool::new(DATA, 2)
    }

    fn filled(pool: &BufPool, bytes: &[u8]) -> Buf {
        let mut buf = pool.take().expect("a free buffer");
        buf.spare_mut()[..bytes.len()].copy_from_slice(bytes);
        buf.received(bytes.len());
        buf
    }

    #[test]
    fn the_pool_is_bounded_and_reuses_the_hottest() {
        let pool = pool();
        let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
        assert!(pool.take().is_none());
        let hot = first.base;
        drop(second);
        drop(first);
        assert_eq!(pool.take().unwrap().base, hot);
        assert_eq!(
            pool.stats(),
            BufStats { in_use: 0, free: 2, lent: 0, allocated: 2, starved: 0 }
        );
    }

    #[test]
    fn trimming_takes_only_what_was_not_used() {
        let pool = BufPool::new(DATA, 10);
        let burst: Vec<_> = (0..10).map(|i| filled(&pool, &[i; DATA])).collect();
        drop(burst);
        assert_eq!(pool.trim(100), 0, "all were in use since the start");
        let busy: Vec<_> = (0..3).map(|_| pool.take().unwrap()).collect();
        drop(busy);
        assert_eq!(pool.trim(5), 5, "no more than asked for");
        assert_eq!(pool.trim(5), 5, "two that were cold before, three that are now");
        assert_eq!(pool.trim(5), 0, "each once");
        let all: Vec<_> = (0..10).map(|_| pool.take().unwrap()).collect();
        assert!(all.iter().all(|buf| buf.slot().iter().all(|byte| *byte == 0)), "given back");
        drop(all);
        assert_eq!(pool.trim(5), 0);
        assert_eq!(pool.trim(5), 5, "and cold again");
    }

    #[test]
    fn what_is_rare_finds_more_room_and_gives_it_back() {
        let pool = BufPool::new(DATA, 3).with_larger(DATA * 4, 1);
        let (mut buf, mut other) = (filled(&pool, &[1; DATA]), filled(&pool, &[2; DATA]));
        assert!(buf.has_larger() && buf.enlarge());
        assert_eq!((buf.data(), buf.spare()), (&[1; DATA][..], DATA * 3));
        assert_eq!(pool.stats().in_use, 1, "the smaller one is back");
        assert!(!buf.has_larger() && !buf.enlarge());
        assert!(!other.enlarge() && other.data() == [2; DATA], "there is one");
        assert!(buf.append(&[3]));
        buf.reduce(&pool);
        assert_eq!(buf.spare(), DATA * 3 - 1, "it does not fit yet");
        buf.consume(DATA);
        buf.reduce(&pool);
        assert_eq!((buf.data(), buf.spare()), (&[3][..], DATA - 1));
        assert!(other.enlarge());
    }

    #[test]
    fn what_is_little_takes_little() {
        let pool = BufPool::new(DATA, 3).with_smaller(10, 1);
        let small = pool.take_small().expect("a small one");
        assert_eq!((small.spare(), small.room() < pool.take().unwrap().room()), (10, true));
        assert!(pool.take_small().is_none() && pool.stats().in_use == 0);
        drop(small);
        assert!(pool.take_small().is_some());
        assert!(self::pool().take_small().is_none(), "there are none");
    }

    #[test]
    fn a_buffer_outlives_its_pool() {
        let pool = pool();
        let buf = filled(&pool, b"still here");
        drop(pool);
        assert_eq!(buf.data(), b"still here");
    }

    #[test]
    fn a_head_goes_in_front_and_a_chunk_end_behind() {
        let pool = pool();
        let mut buf = filled(&pool, &[b'x'; DATA]);
        assert_eq!(buf.spare(), 0);
        buf.consume(10);
        assert_eq!(buf.prepend_room(), BUFFER_HEADROOM_BYTES + 10);
        assert!(buf.prepend(&[b'h'; 30]));
        assert!(buf.append(b"\r\n0\r\n\r\n"));
        assert_eq!(buf.len(), 30 + 90 + 7);
        assert!(buf.data().starts_with(&[b'h'; 30]) && buf.data().ends_with(b"x\r\n0\r\n\r\n"));
        assert!(!buf.append(&[0; BUFFER_TAILROOM_BYTES]), "the tailroom has an end");
        assert!(!buf.prepend(&vec![0; BUFFER_HEADROOM_BYTES]), "the headroom has an end");
        assert_eq!(buf.len(), 127, "a refused write changes nothing");
    }

    #[test]
    fn an_empty_buffer_has_all_its_room_wherever_it_stopped() {
        let pool = pool();
        let mut buf = filled(&pool, &[b'x'; DATA]);
        buf.consume(DATA);
        assert_eq!(buf.spare(), DATA);
        assert!(buf.prepend(&vec![b'h'; BUFFER_HEADROOM_BYTES + DATA + BUFFER_TAILROOM_BYTES]));
        buf.consume(buf.len());
        assert!(buf.append(&[b't'; DATA + BUFFER_TAILROOM_BYTES]));
        assert_eq!((buf.len(), buf.spare()), (DATA + BUFFER_TAILROOM_BYTES, 0));
    }

    #[test]
    fn compact_moves_data_back_to_the_mark() {
        let pool = pool();
        let mut buf = filled(&pool, &(0..DATA as u8).collect::<Vec<_>>());
        buf.consume(DATA - 3);
        assert_eq!(buf.spare(), 0);
        buf.compact();
        assert_eq!((buf.data(), buf.spare()), (&[97, 98, 99][..], DATA - 3));
        buf.truncate(1);
        assert_eq!((buf.data(), buf.spare()), (&[97][..], DATA - 1));
        buf.truncate(5);
        assert_eq!(buf.len(), 1);
        buf.clear();
        assert!(buf.is_empty());
    }

    #[test]
    #[should_panic(expected = "consume(2) of 1 bytes")]
    fn consuming_more_than_there_is_is_a_defect() {
        filled(&pool(), b"x").consume(2);
    }
}
