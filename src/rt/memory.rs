//! Memory that goes back to the kernel, or is not taken for long in the first place.
//!
//! The allocator keeps what is freed for a while and looks at it again only when somebody asks for
//! more. After the syntax tree of 100,000 routes (270 MiB) nobody may ask for hours.
//! Tests: here; what a process holds in `tests/blackbox/memory.rs`.
#![allow(unsafe_code)]

use std::{ffi::c_int, ffi::c_void, ptr};

/// `mi_option_purge_delay`, which libmimalloc-sys does not name. Source: mimalloc.h.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Returns what was freed, by this thread and by threads that have ended. Takes milliseconds: not
/// for the path of a request.
pub fn give_back() {
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
