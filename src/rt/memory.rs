//! Memory that goes back to the kernel, or is not taken for long in the first place.
//!
//! The allocator keeps what is freed for a while and looks at it again only when somebody asks for
//! more. After the syntax tree of 100,000 routes (270 MiB) nobody may ask for hours. Large blocks it
//! would keep for good: see [`Allocator`].
//! Tests: here; what a process holds in `tests/blackbox/memory.rs`.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::Cell,
    ffi::{c_int, c_void},
    ptr,
    sync::atomic::{AtomicPtr, AtomicUsize, Ordering},
};

use libmimalloc_sys::{mi_is_in_heap_region, mi_malloc};
use mimalloc::MiMalloc;

thread_local! {
    static MAPS_LARGE_BLOCKS: Cell<bool> = const { Cell::new(false) };
}

/// From how many bytes on a block is large. Of the arrays of a table of 5,000 routes most are.
const LARGE_BYTES_MIN: usize = 32 << 10;

/// No page is smaller, so each mapping is aligned to it.
const PAGE_BYTES_MIN: usize = 4 << 10;

/// What all blocks of mimalloc are aligned to that are as long. Source: its types.h, `MI_MAX_ALIGN_SIZE`.
const BLOCK_ALIGN: usize = 16;

/// Up to how many bytes a mapping that was freed is kept for a while: more than each of a change of
/// 10,000 routes.
const SPARE_BYTES_MAX: usize = 4 << 20;

/// Mappings that were freed, until [`give_back`]. A change frees what the one before it made, and makes
/// the like: without them a quarter of its time goes into pages that are mapped anew, and every other core
/// is interrupted for each that is let go of. As many as a change has, twice.
static SPARES: [Spare; 128] = [const { Spare::none() }; 128];

/// Room for one mapping, which whoever takes it out owns.
struct Spare {
    /// Its first word is its length.
    mapping: AtomicPtr<usize>,
    /// The length of the one put in last: most that do not fit are known by it, and stay untouched.
    bytes: AtomicUsize,
}

impl Spare {
    const fn none() -> Self {
        Self { mapping: AtomicPtr::new(ptr::null_mut()), bytes: AtomicUsize::new(0) }
    }

    /// Takes out what is in it.
    fn take(&self) -> Option<(*mut usize, usize)> {
        let mapping = self.mapping.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: what was in it is nobody else's now, at least a page long, and begins with its length.
        (!mapping.is_null()).then(|| (mapping, unsafe { mapping.read() }))
    }

    /// Puts a mapping in if there is room, or unmaps it.
    ///
    /// # Safety
    /// It is the caller's, and of so many bytes.
    unsafe fn put(&self, mapping: *mut usize, bytes: usize) {
        // SAFETY: it is at least a page long and aligned to one.
        unsafe { mapping.write(bytes) };
        let (release, relaxed) = (Ordering::Release, Ordering::Relaxed);
        if self.mapping.compare_exchange(ptr::null_mut(), mapping, release, relaxed).is_ok() {
            self.bytes.store(bytes, relaxed);
        } else {
            // SAFETY: as the caller promises.
            unsafe { unmap(mapping, bytes) };
        }
    }

    fn is_free(&self) -> bool {
        self.mapping.load(Ordering::Relaxed).is_null()
    }
}

/// The allocator of the program: mimalloc, but for large blocks of threads that want it so.
///
/// mimalloc gives back whole pages, and its page for blocks of 32 to 512 KiB is up to 4 MiB. The arrays of
/// new rules and of those before lie in one such page in turn, so that room for both stays: 0.8 MiB with
/// 5,000 routes. Cores pay nothing for it: they have large blocks too (bodies in HTTP/2), often, and
/// a mapping each time would be dear.
#[derive(Debug)]
pub struct Allocator;

/// From now on each large block that this thread allocates is a mapping of its own, gone when it is freed.
pub fn map_large_blocks() {
    MAPS_LARGE_BLOCKS.set(true);
}

// WHY UNSAFE: the interface of an allocator is.
// SAFETY: a block comes from mimalloc, with the size and alignment of its layout, or is a mapping, which
// begins at a page, has at least the bytes asked for, is zero and nobody else's. Where it came from its
// address says, so it goes back there. Where there is no memory null is returned, as is asked for. Nothing
// unwinds.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match map_if_wanted(layout, spare_or_map) {
            // SAFETY: as above.
            None => unsafe { allocate(layout) },
            Some(mapping) => mapping,
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match map_if_wanted(layout, clear_spare_or_map) {
            // SAFETY: as above.
            None => unsafe { MiMalloc.alloc_zeroed(layout) },
            Some(mapping) => mapping,
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe {
            match is_mapping(block, layout) {
                true => keep_or_unmap(block, layout.size()),
                false => MiMalloc.dealloc(block, layout),
            }
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller promises that `bytes`, rounded up to the alignment, is not too much.
        let wanted = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        if !is_large(layout) && !is_large(wanted) {
            // SAFETY: as above: it is no mapping.
            return unsafe { MiMalloc.realloc(block, layout, bytes) };
        }
        // SAFETY: as the caller was told.
        unsafe { self.realloc_large(block, layout, wanted) }
    }
}

impl Allocator {
    /// [`GlobalAlloc::realloc`] of what is large, or will be.
    ///
    /// # Safety
    /// The same.
    #[cold]
    unsafe fn realloc_large(&self, block: *mut u8, layout: Layout, wanted: Layout) -> *mut u8 {
        let (old, new) = (layout.size(), wanted.size());
        // SAFETY: as the block says it is one or the other; a mapping that moves is the caller's at its
        // new address alone. `wanted` is not empty, by what the caller promises; the new block is
        // another one, both have the bytes that are copied, and the old one is freed once.
        unsafe {
            match (is_mapping(block, layout), is_large(wanted) && MAPS_LARGE_BLOCKS.get()) {
                (false, false) => MiMalloc.realloc(block, layout, new),
                (true, true) => match libc::mremap(block.cast(), old, new, libc::MREMAP_MAYMOVE) {
                    libc::MAP_FAILED => ptr::null_mut(),
                    mapping => mapping.cast(),
                },
                _ => {
                    let other = self.alloc(wanted);
                    if !other.is_null() {
                        ptr::copy_nonoverlapping(block, other, old.min(new));
                        self.dealloc(block, layout);
                    }
                    other
                }
            }
        }
    }
}

/// A block of mimalloc's. One that need not be aligned to more than any block is, is asked for as such: the
/// way through its alignments is twice as long.
///
/// # Safety
/// As [`GlobalAlloc::alloc`].
#[inline]
unsafe fn allocate(layout: Layout) -> *mut u8 {
    if layout.align() <= BLOCK_ALIGN && layout.align() <= layout.size() {
        // SAFETY: as the caller promises.
        return unsafe { mi_malloc(layout.size()) }.cast();
    }
    // SAFETY: as the caller promises.
    unsafe { MiMalloc.alloc(layout) }
}

#[inline]
fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE_BYTES_MIN && layout.align() <= PAGE_BYTES_MIN
}

#[inline]
fn is_mapping(block: *mut u8, layout: Layout) -> bool {
    // SAFETY: any address may be asked for.
    is_large(layout) && unsafe { !mi_is_in_heap_region(block.cast()) }
}

/// A mapping, if this thread wants one for such a block and there is one to be had.
#[inline]
fn map_if_wanted(layout: Layout, map: fn(usize) -> Option<*mut u8>) -> Option<*mut u8> {
    // What a thread wants needs no memory and has no end: it may be read at any time.
    if is_large(layout) && MAPS_LARGE_BLOCKS.get() { map(layout.size()) } else { None }
}

/// A mapping with any bytes in it.
#[cold]
fn spare_or_map(bytes: usize) -> Option<*mut u8> {
    SPARES.iter().find_map(|spare| take_if_alike(spare, bytes)).or_else(|| map(bytes))
}

/// A mapping with zeros in it. To clear one is quicker than to have the kernel clear each page of another.
#[cold]
fn clear_spare_or_map(bytes: usize) -> Option<*mut u8> {
    let spare = SPARES.iter().find_map(|spare| take_if_alike(spare, bytes));
    spare
        .inspect(|spare| {
            // SAFETY: it is nobody else's, and has as many bytes.
            unsafe { spare.write_bytes(0, bytes) };
        })
        .or_else(|| map(bytes))
}

/// A spare mapping made as long as is wanted, if it is not much longer or shorter.
fn take_if_alike(spare: &Spare, wanted: usize) -> Option<*mut u8> {
    let pages = |bytes: usize| bytes.div_ceil(PAGE_BYTES_MIN);
    let is_alike = |bytes| pages(bytes).abs_diff(pages(wanted)) <= pages(wanted) / 8;
    if spare.is_free() || !is_alike(spare.bytes.load(Ordering::Relaxed)) {
        return None;
    }
    let (mapping, bytes) = spare.take()?;
    if pages(bytes) == pages(wanted) {
        return Some(mapping.cast());
    }
    // SAFETY: what was taken is nobody else's, and of so many bytes. A mapping that moves is the caller's
    // at its new address alone; one that can't be moved stays as it was, and goes back.
    unsafe {
        if is_alike(bytes) {
            let resized = libc::mremap(mapping.cast(), bytes, wanted, libc::MREMAP_MAYMOVE);
            if resized != libc::MAP_FAILED {
                return Some(resized.cast());
            }
        }
        spare.put(mapping, bytes);
    }
    None
}

/// Keeps a mapping that was freed for the next who wants one like it, if there is room.
///
/// # Safety
/// It is the caller's, and of so many bytes.
#[cold]
unsafe fn keep_or_unmap(mapping: *mut u8, bytes: usize) {
    let free = (bytes <= SPARE_BYTES_MAX).then(|| SPARES.iter().find(|spare| spare.is_free()));
    // SAFETY: as the caller promises.
    unsafe {
        match free.flatten() {
            Some(spare) => spare.put(mapping.cast(), bytes),
            None => unmap(mapping.cast(), bytes),
        }
    }
}

/// Ends a mapping. That fails if the process has too many; then it stays.
///
/// # Safety
/// It is the caller's, and of so many bytes.
unsafe fn unmap(mapping: *mut usize, bytes: usize) {
    // SAFETY: as the caller promises.
    unsafe { libc::munmap(mapping.cast(), bytes) };
}

#[cold]
fn map(bytes: usize) -> Option<*mut u8> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping where the kernel likes it touches nothing that is there.
    match unsafe { libc::mmap(ptr::null_mut(), bytes, access, kind, -1, 0) } {
        libc::MAP_FAILED => None,
        mapping => Some(mapping.cast()),
    }
}

/// `mi_option_purge_delay`, which libmimalloc-sys does not name. Source: mimalloc.h.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Returns what was freed, by this thread and by threads that have ended. Takes milliseconds: not
/// for the path of a request.
pub fn give_back() {
    for spare in &SPARES {
        if let Some((mapping, bytes)) = spare.take() {
            // SAFETY: what was taken out is nobody else's, and of so many bytes.
            unsafe { unmap(mapping, bytes) };
        }
    }
    // WHY UNSAFE: a C function; there is no safe way to ask mimalloc for this.
    // SAFETY: it may be called at any time from any thread, and touches free memory only.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// Does something large of which little stays, every page that is freed meanwhile given back at once.
///
/// What stays would lie in pages that were full before otherwise, and holds all of each such page:
/// 3.4 MiB with 5,000 routes. Slower, so for the start of the process only.
pub fn sparingly<T>(work: impl FnOnce() -> T) -> T {
    // WHY UNSAFE: C functions; options have no safe interface.
    // SAFETY: the number is that of an option, which mimalloc reads and writes atomically; any delay
    // is valid at any time.
    let delay = unsafe {
        let delay = libmimalloc_sys::mi_option_get(PURGE_DELAY);
        libmimalloc_sys::mi_option_set(PURGE_DELAY, 0);
        delay
    };
    let result = work();
    // WHY UNSAFE, SAFETY: as above.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, delay) };
    result
}

/// Lets go of the pages of the program itself. What goes on running is mapped again as it is touched,
/// 64 KiB and more with each fault, from the kernel's cache of the file; what only the start or a
/// change needed is held no longer. Costs the next requests some 50 us, all together.
pub fn give_back_program() {
    // WHY UNSAFE: a C function that calls back; the one safe way, reading /proc/self/maps, is told the
    // same by text and can't tell the segments of a file apart.
    // SAFETY: `let_go` has the signature asked for, does not unwind and needs no data.
    unsafe { libc::dl_iterate_phdr(Some(let_go), ptr::null_mut()) };
}

/// Lets go of what cannot be written of the first object, which is the program, and ends the walk.
unsafe extern "C" fn let_go(
    object: *mut libc::dl_phdr_info,
    _: libc::size_t,
    _: *mut c_void,
) -> c_int {
    // SAFETY: the loader passes an object that lives as long as the program.
    let segments = unsafe {
        let object = &*object;
        match object.dlpi_phdr.is_null() {
            true => return 1,
            false => std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()),
        }
    };
    // SAFETY: any number may be asked for.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
    for segment in segments {
        if segment.p_type != libc::PT_LOAD || segment.p_flags & libc::PF_W != 0 {
            continue;
        }
        // SAFETY: as above.
        let start = unsafe { (*object).dlpi_addr } + segment.p_vaddr;
        let (first, end) = (start.next_multiple_of(page), (start + segment.p_memsz) / page * page);
        if first < end {
            // WHY UNSAFE: there is no safe way to talk about the program's own memory.
            // SAFETY: whole pages of a private mapping of the program's file which was never
            // writable: relocations are in segments that are (the linker refuses others), and the
            // kernel lets no one write a file that runs. So each page reads the same afterwards, and
            // a thread that runs in it waits for a fault and no more. A refusal (a locked page)
            // changes nothing.
            unsafe {
                libc::madvise(first as *mut c_void, (end - first) as usize, libc::MADV_DONTNEED)
            };
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of all sizes around the limit, growing and shrinking over it, from threads of both kinds:
    /// their bytes go along, zeroed ones are zero, and alignment is kept.
    #[test]
    fn blocks_keep_their_bytes_over_the_limit() {
        let sizes =
            [1, LARGE_BYTES_MIN - 1, LARGE_BYTES_MIN, 3 * LARGE_BYTES_MIN, 2 << 20, 5 << 20];
        let layout = |size, align| Layout::from_size_align(size, align).expect("a layout");
        let check = move || {
            for (size, align) in sizes.iter().flat_map(|size| [1, 64, 8192].map(|one| (*size, one)))
            {
                for wanted in sizes {
                    // SAFETY: each layout is that of the block, whose bytes alone are touched.
                    unsafe {
                        let block = Allocator.alloc_zeroed(layout(size, align));
                        assert!(!block.is_null() && block.addr() % align == 0);
                        assert!(
                            std::slice::from_raw_parts(block, size).iter().all(|one| *one == 0)
                        );
                        block.write_bytes(7, size);
                        let block = Allocator.realloc(block, layout(size, align), wanted);
                        assert!(!block.is_null() && block.addr() % align == 0);
                        let kept = std::slice::from_raw_parts(block, size.min(wanted));
                        assert!(kept.iter().all(|one| *one == 7), "{size} to {wanted}");
                        block.write_bytes(9, wanted);
                        Allocator.dealloc(block, layout(wanted, align));
                    }
                }
            }
        };
        std::thread::spawn(check).join().expect("blocks of a core");
        let mapped = std::thread::spawn(move || {
            map_large_blocks();
            check();
            // SAFETY: as above.
            unsafe {
                let large = layout(LARGE_BYTES_MIN, 1);
                let block = Allocator.alloc(large);
                assert!(is_mapping(block, large), "a mapping of its own");
                let elsewhere = block.addr();
                let freed =
                    move || Allocator.dealloc(ptr::with_exposed_provenance_mut(elsewhere), large);
                std::thread::spawn(freed).join().expect("any thread may free it");
            }
        });
        mapped.join().expect("blocks of the control plane");
    }

    /// What is not asked for by its alignment has it all the same.
    #[test]
    fn blocks_of_all_sizes_are_aligned() {
        let layouts = (1..=4096).flat_map(|size| {
            [1, 2, 4, 8, 16, 32]
                .map(|align| Layout::from_size_align(size, align).expect("a layout"))
        });
        let blocks = layouts.map(|layout| {
            // SAFETY: no layout is empty.
            let block = unsafe { Allocator.alloc(layout) };
            assert!(!block.is_null() && block.addr() % layout.align() == 0, "{layout:?}");
            (block, layout)
        });
        for (block, layout) in blocks.collect::<Vec<_>>() {
            // SAFETY: each is freed once, as what it is.
            unsafe { Allocator.dealloc(block, layout) };
        }
    }

    /// Blocks that come and go on several threads, spare ones given back meanwhile: what was written into
    /// one stays in it until it is freed.
    #[test]
    fn a_spare_mapping_has_one_owner() {
        let churn = |thread: usize| {
            move || {
                map_large_blocks();
                let mut held = std::collections::VecDeque::new();
                for round in 0..2_000 {
                    let size =
                        LARGE_BYTES_MIN + (round * 7919 + thread * 4099) % (4 * LARGE_BYTES_MIN);
                    let layout = Layout::from_size_align(size, 8).expect("a layout");
                    let mark = [thread, round];
                    // SAFETY: each layout is that of the block, which has room for a mark at both ends.
                    unsafe {
                        let block = Allocator.alloc(layout);
                        assert!(is_mapping(block, layout));
                        let end = block.add(size - size_of_val(&mark)).cast::<[usize; 2]>();
                        block.cast::<[usize; 2]>().write(mark);
                        end.write_unaligned(mark);
                        held.push_back((block, end, layout, mark));
                        if held.len() > 5 {
                            let (block, end, layout, mark) = held.pop_front().expect("the oldest");
                            assert_eq!(block.cast::<[usize; 2]>().read(), mark);
                            assert_eq!(end.read_unaligned(), mark);
                            Allocator.dealloc(block, layout);
                        }
                        if round % 500 == 499 {
                            give_back();
                        }
                    }
                }
                for (block, _, layout, _) in held {
                    // SAFETY: as above.
                    unsafe { Allocator.dealloc(block, layout) };
                }
            }
        };
        let threads: Vec<_> = (0..4).map(|thread| std::thread::spawn(churn(thread))).collect();
        assert!(threads.into_iter().all(|one| one.join().is_ok()));
    }

    #[test]
    fn the_delay_is_as_before_afterwards() {
        // SAFETY: as in `sparingly`.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        let before = delay();
        assert!(before > 0, "the number is that of the delay: {before}");
        assert_eq!((sparingly(delay), delay()), (0, before));
    }

    #[test]
    fn the_program_runs_on_while_it_is_let_go() {
        static WORDS: [&str; 3] = ["a", "bc", "def"]; // relocated: not among what is let go
        let others: Vec<_> = (0..2)
            .map(|_| {
                std::thread::spawn(|| (0..10_000).map(|n| format!("{n}").len()).sum::<usize>())
            })
            .collect();
        for _ in 0..20 {
            give_back_program();
            assert_eq!(WORDS.concat(), "abcdef");
        }
        assert!(others.into_iter().all(|one| one.join().is_ok_and(|sum| sum == 38_890)));
    }
}
