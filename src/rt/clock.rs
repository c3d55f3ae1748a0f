//! How long a core has worked.

/// Microseconds that the calling thread has run on a core since it began. A system call.
pub fn thread_micros() -> u64 {
    super::sys::thread_time().map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}
