//! Buffers on loan to the kernel: what part of them an operation may read or write, put to a ring or
//! tried as a system call.
//!
//! What the entries point to lies in a slot of a pool or on the heap, not in the loan itself: so it
//! stays where it is however the loan moves, and it is neither touched nor freed before the
//! completion (see `driver::ops`). A loan that is leaked leaks its buffer too.

use std::io;
use std::os::fd::RawFd;

use io_uring::squeue::Entry;
use io_uring::{opcode, types};

use super::buf::Buf;
use super::driver::{Held, Loan};
use super::epoll::{Attempt, Side};
use super::op::Op;
use super::ring_fd::RingFd;
use super::sys;

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

impl Attempt for Receiving {
    fn side(&self) -> Side {
        Side::Read
    }

    fn attempt(&mut self, fd: RawFd, _has_waited: bool) -> (io::Result<usize>, usize) {
        let room = self.0.spare_mut();
        (sys::recv(fd, room), room.len())
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

impl Attempt for Sending {
    fn side(&self) -> Side {
        Side::Write
    }

    fn attempt(&mut self, fd: RawFd, _has_waited: bool) -> (io::Result<usize>, usize) {
        (sys::send(fd, &self.buf.data()[..self.n]), self.n)
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

impl Attempt for SendingBytes {
    fn side(&self) -> Side {
        Side::Write
    }

    fn attempt(&mut self, fd: RawFd, _has_waited: bool) -> (io::Result<usize>, usize) {
        let bytes = &self.bytes[self.sent..];
        (sys::send(fd, bytes), bytes.len())
    }
}

/// What leaves with one send after the other until all of it has been taken.
pub(super) trait SendAll: Loan + Attempt + Sized {
    /// What is given back in the end.
    type Memory;

    /// Bytes still to be sent.
    fn left(&self) -> usize;

    /// The socket has taken so many of them.
    fn advance(&mut self, sent: usize);

    /// Sends what is left.
    fn begin(self, fd: &RingFd) -> Op<'_, Self>;

    /// What it was made of.
    fn into_memory(self) -> Self::Memory;
}

impl SendAll for Sending {
    type Memory = Buf;

    fn left(&self) -> usize {
        self.n
    }

    fn advance(&mut self, sent: usize) {
        self.buf.consume(sent);
        self.n -= sent;
    }

    fn begin(self, fd: &RingFd) -> Op<'_, Self> {
        fd.send(self)
    }

    fn into_memory(self) -> Buf {
        self.buf
    }
}

impl SendAll for SendingBytes {
    type Memory = Vec<u8>;

    fn left(&self) -> usize {
        self.bytes.len() - self.sent
    }

    fn advance(&mut self, sent: usize) {
        self.sent += sent;
    }

    fn begin(self, fd: &RingFd) -> Op<'_, Self> {
        fd.send_bytes(self)
    }

    fn into_memory(self) -> Vec<u8> {
        self.bytes
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

impl Attempt for Readiness {
    fn side(&self) -> Side {
        if self.0 == libc::POLLOUT { Side::Write } else { Side::Read }
    }

    /// Asks the kernel, unless it has just said so.
    fn attempt(&mut self, fd: RawFd, has_waited: bool) -> (io::Result<usize>, usize) {
        let mut asked = [libc::pollfd { fd, events: self.0, revents: 0 }];
        if !has_waited {
            sys::poll_now(&mut asked);
        }
        let is_ready = has_waited || asked[0].revents != 0;
        (if is_ready { Ok(1) } else { Err(io::ErrorKind::WouldBlock.into()) }, 1)
    }
}

/// What one entry can say; a longer vector takes several.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(1 << 30)
}
