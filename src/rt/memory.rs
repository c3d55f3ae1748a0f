//! Gives memory back to the kernel after something large is gone.
//!
//! The allocator keeps what is freed for a while and looks at it again only when somebody asks for
//! more. After the syntax tree of 100,000 routes (270 MiB) nobody may ask for hours.
#![allow(unsafe_code)]

/// Returns what was freed, by this thread and by threads that have ended. Takes milliseconds: not
/// for the path of a request.
pub fn give_back() {
    // WHY UNSAFE: a C function; there is no safe way to ask mimalloc for this.
    // SAFETY: it may be called at any time from any thread, and touches free memory only.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
