//! Buffers on loan to the kernel: what part of them an operation may read or write.
//!
//! What the entries point to lies in a slot of a pool or on the heap, not in the loan itself: so it
//! stays where it is however the loan moves, and it is neither touched nor freed before the
//! completion (see `driver::ops`). A loan that is leaked leaks its buffer too.

use std::os::fd::RawFd;

use io_uring::squeue::Entry;
use io_uring::{opcode, types};

use super::buf::Buf;
use super::driver::{Held, Loan};

/// All is sent before the operation ends, unless the connection fails; no signal if it does.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// A buffer on its way through a receive: the kernel writes to its spare room.
pub(super) struct Receiving(pub(super) Buf);

impl Loan for Receiving {
    fn entry(&mut self, fd: RawFd) -> Entry {
        let room = self.0.spare_mut();
        opcode::Recv::new(types::Fd(fd), room.as_mut_ptr(), room.len() as u32).build()
    }

    fn into_held(self) -> Held {
        Held::Buf(self.0)
    }
}

/// A buffer on its way through a send: the kernel reads the first `n` bytes of its data.
pub(super) struct Sending {
    pub(super) buf: Buf,
    pub(super) n: usize,
}

impl Loan for Sending {
    fn entry(&mut self, fd: RawFd) -> Entry {
        let bytes = &self.buf.data()[..self.n];
        opcode::Send::new(types::Fd(fd), bytes.as_ptr(), length(bytes)).flags(SEND_FLAGS).build()
    }

    fn into_held(self) -> Held {
        Held::Buf(self.buf)
    }
}

/// A vector on its way through a send, from the first byte not sent yet.
pub(super) struct SendingBytes {
    pub(super) bytes: Vec<u8>,
    pub(super) sent: usize,
}

impl Loan for SendingBytes {
    fn entry(&mut self, fd: RawFd) -> Entry {
        let bytes = &self.bytes[self.sent..];
        opcode::Send::new(types::Fd(fd), bytes.as_ptr(), length(bytes)).flags(SEND_FLAGS).build()
    }

    fn into_held(self) -> Held {
        Held::Bytes(self.bytes)
    }
}

/// A wait for readiness: poll(2) events, no buffer.
pub(super) struct Readiness(pub(super) i16);

impl Loan for Readiness {
    fn entry(&mut self, fd: RawFd) -> Entry {
        opcode::PollAdd::new(types::Fd(fd), self.0 as u32).build()
    }

    fn into_held(self) -> Held {
        Held::Nothing
    }
}

/// What one entry can say; a longer vector takes several.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(1 << 30)
}
