//! Which receives this kernel has: tried, not looked up, as distributions add features to old
//! versions.
#![allow(unsafe_code)]

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use io_uring::{IoUring, cqueue, squeue, types};

use super::super::buf::BufPool;
use super::flows::Receive;
use super::group::Group;
use super::{ENTER_GETEVENTS, entry};

/// The group of the trial; groups of pools are counted from 0.
const GROUP: u16 = u16::MAX;

/// The best way to receive on this ring, of those not better than `wanted`. The ring is as before.
pub(super) fn receive(ring: &mut IoUring, wanted: Receive) -> io::Result<Receive> {
    if wanted == Receive::Readiness {
        return Ok(wanted);
    }
    let Ok(mut group) = Group::register(ring, GROUP, BufPool::new(16, 64)) else {
        return Ok(Receive::Readiness);
    };
    group.fill();
    let has = has_bounded_multishot(ring, &mut group);
    group.unregister(ring);
    match has? {
        true if wanted == Receive::Multishot => Ok(Receive::Multishot),
        _ => Ok(Receive::OneShot),
    }
}

/// Whether a multishot receive ends by itself with the message that reaches the bytes it was told.
/// Older kernels refuse that, as the field must be zero there.
fn has_bounded_multishot(ring: &mut IoUring, group: &mut Group) -> io::Result<bool> {
    let (ours, mut other) = UnixStream::pair()?;
    other.write_all(b"123")?;
    drop(other); // ends the receive, should it not end by itself
    let fd = types::Fd(ours.as_raw_fd());
    let (result, flags) = finish(ring, entry::receive_many(fd, GROUP, 2))?;
    let got = group.take(flags, result);
    Ok(result == 3 && got.is_some() && !cqueue::more(flags))
}

/// Submits one entry to a ring that has no other and waits for its last completion; the first
/// completion's result and flags.
fn finish(ring: &mut IoUring, entry: squeue::Entry) -> io::Result<(i32, u32)> {
    // WHY UNSAFE: as in `Driver::push`.
    // SAFETY: the buffers of the group live until it is unregistered, after the last completion.
    if unsafe { ring.submission().push(&entry) }.is_err() {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let mut first = None;
    loop {
        // WHY UNSAFE, SAFETY: as in `Driver::enter`.
        unsafe { ring.submitter().enter(1, 1, ENTER_GETEVENTS, None::<&libc::sigset_t>)? };
        let mut ended = false;
        for completion in ring.completion() {
            ended |= !cqueue::more(completion.flags());
            first.get_or_insert((completion.result(), completion.flags()));
        }
        if let (true, Some(first)) = (ended, first) {
            return Ok(first);
        }
    }
}
