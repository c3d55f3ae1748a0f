//! Gives the memory of large syntax trees back to the kernel.
//!
//! 100,000 routes are 270 MiB as a tree and 30 MiB as rules. The allocator keeps what is freed for
//! a while and looks again only when somebody asks for a large block; after a start or a reload
//! nobody may ask for hours.

use std::{hint::black_box, thread, time::Duration};

/// Bytes of text from which on the trees are worth it.
const TEXT_BYTES_MIN: usize = 1024 * 1024;

/// Bytes of the block that is asked for; never touched, so it costs address space only.
const NUDGE_BYTES: usize = 64 * 1024 * 1024;

/// Times it is asked for, and the pause before each: the allocator waits up to 100 ms by itself.
const NUDGES: u32 = 4;
const NUDGE_PAUSE: Duration = Duration::from_millis(200);

/// Makes the allocator look for memory to give back, after `text_bytes` of configuration were read
/// and their trees dropped. Returns at once; a thread of less than a second does the rest.
pub(super) fn give_back(text_bytes: usize) {
    if text_bytes < TEXT_BYTES_MIN {
        return;
    }
    let nudge = || {
        for _ in 0..NUDGES {
            thread::sleep(NUDGE_PAUSE);
            drop(black_box(Vec::<u8>::with_capacity(NUDGE_BYTES)));
        }
    };
    // Without the thread the memory stays where it is: no reason to fail.
    let _ = thread::Builder::new().name("ringway-memory".into()).spawn(nudge);
}
