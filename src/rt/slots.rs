//! The memory behind buffer slots: page-aligned, zero, and resident only where it was touched.
//!
//! A slot is about nine pages but most requests touch one or two of them. So slots come from
//! anonymous mappings that are never written before use, and transparent huge pages are turned
//! off for them: with those, the first byte of a slot would make 2 MiB resident.
#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;

/// Slots of one mapping. The kernel allows 65530 mappings per process, so a mapping per slot would
/// run out; address space costs nothing.
const SLOTS_PER_CHUNK: usize = 64;

/// Bytes of a page. Larger pages (arm64) only make the alignment weaker, never wrong.
const PAGE_BYTES: usize = 4096;

/// Hands out slots of one size, each once. They stay mapped until this is dropped.
pub(super) struct Slots {
    stride: usize,
    count_max: usize,
    handed_out: usize,
    chunks: Vec<Chunk>,
}

impl Slots {
    /// Room for up to `count_max` slots of at least `slot_bytes` bytes; maps nothing yet.
    pub(super) fn new(slot_bytes: usize, count_max: usize) -> Self {
        let stride = slot_bytes.next_multiple_of(PAGE_BYTES);
        Self { stride, count_max, handed_out: 0, chunks: Vec::new() }
    }

    /// A slot that was never handed out, all zero. `None` at the bound or without memory.
    pub(super) fn next(&mut self) -> Option<NonNull<u8>> {
        if self.handed_out == self.count_max {
            return None;
        }
        let (chunk, place) = (self.handed_out / SLOTS_PER_CHUNK, self.handed_out % SLOTS_PER_CHUNK);
        if chunk == self.chunks.len() {
            self.chunks.push(Chunk::map(self.stride * SLOTS_PER_CHUNK).ok()?);
        }
        self.handed_out += 1;
        // WHY UNSAFE: pointer arithmetic inside one mapping.
        // SAFETY: `place` is below SLOTS_PER_CHUNK, so the result lies inside the chunk.
        Some(unsafe { self.chunks[chunk].base.add(place * self.stride) })
    }

    /// Gives the memory of `slot` back to the kernel; it is zero when used again.
    /// `slot` must be one of these and nobody's at the moment, or its user loses his bytes.
    pub(super) fn release(&self, slot: NonNull<u8>) {
        let at = slot.as_ptr() as usize;
        debug_assert!(self.chunks.iter().any(|chunk| chunk.has(at)), "a slot of this");
        // WHY UNSAFE: there is no safe madvise(2).
        // SAFETY: the range is one slot of a mapping of ours, of plain bytes that may become zero.
        unsafe { libc::madvise(slot.as_ptr().cast(), self.stride, libc::MADV_DONTNEED) };
    }

    /// Slots at most.
    pub(super) fn count_max(&self) -> usize {
        self.count_max
    }

    /// Slots handed out so far.
    pub(super) fn handed_out(&self) -> usize {
        self.handed_out
    }
}

struct Chunk {
    base: NonNull<u8>,
    bytes: usize,
}

impl Chunk {
    fn map(bytes: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // WHY UNSAFE: the safe way, `vec![0; n]`, leaves it to the allocator whether it hands out
        // fresh zero pages or clears used ones; clearing makes every page of the slot resident.
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of
        // ours; `madvise` gets exactly the mapping just made.
        let base = unsafe {
            let base = libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0);
            if base == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            libc::madvise(base, bytes, libc::MADV_NOHUGEPAGE); // refused without THP: fine too
            base
        };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, bytes })
    }
}

impl Chunk {
    fn has(&self, at: usize) -> bool {
        (self.base.as_ptr() as usize..self.base.as_ptr() as usize + self.bytes).contains(&at)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // WHY UNSAFE: the counterpart of `mmap` above.
        // SAFETY: exactly the mapping of `map`; the pool that owns it is gone, and every `Buf`
        // holds that pool, so no slot of it is in use.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages of the mapping at `base` that are in memory. Source: mincore(2).
    fn resident_pages(base: NonNull<u8>, bytes: usize) -> usize {
        let mut pages = vec![0u8; bytes.div_ceil(PAGE_BYTES)];
        // SAFETY: `pages` has one byte per page of the range, which is mapped.
        let result = unsafe { libc::mincore(base.as_ptr().cast(), bytes, pages.as_mut_ptr()) };
        assert_eq!(result, 0);
        pages.iter().filter(|page| **page & 1 == 1).count()
    }

    #[test]
    fn only_touched_pages_are_resident() {
        let mut slots = Slots::new(34 * 1024, 200);
        let taken: Vec<_> = (0..128).map(|_| slots.next().expect("below the bound")).collect();
        let chunk = (slots.chunks[0].base, slots.chunks[0].bytes);
        assert_eq!(resident_pages(chunk.0, chunk.1), 0);
        for slot in &taken[..10] {
            // SAFETY: a slot is at least 34 KiB of writable memory of ours.
            unsafe { slot.add(2048).write(1) };
        }
        assert_eq!(resident_pages(chunk.0, chunk.1), 10);
        assert_eq!(slots.chunks.len(), 2);
        slots.release(taken[3]);
        assert_eq!(resident_pages(chunk.0, chunk.1), 9);
    }

    #[test]
    fn slots_are_zero_apart_and_bounded() {
        let mut slots = Slots::new(100, 3);
        let taken: Vec<_> = std::iter::from_fn(|| slots.next()).collect();
        assert_eq!(taken.len(), 3);
        assert_eq!(slots.handed_out(), 3);
        for (index, slot) in taken.iter().enumerate() {
            assert_eq!(slot.as_ptr() as usize % PAGE_BYTES, 0);
            // SAFETY: a slot is at least 100 bytes of zeroed memory of ours.
            let bytes = unsafe { std::slice::from_raw_parts_mut(slot.as_ptr(), 100) };
            assert!(bytes.iter().all(|byte| *byte == 0), "slot {index} overlaps an earlier one");
            bytes.fill(0xff);
        }
    }
}
