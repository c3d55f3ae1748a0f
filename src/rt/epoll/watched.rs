//! What is known of one descriptor, and trying things with it.
//!
//! Edge-triggered readiness is told once. So a direction counts as ready until an operation finds
//! that it is not: until then "ready" may be wrong, "not ready" never is. A stream that gave or
//! took less than it was asked to has run dry or full, which saves the try that would have to wait.

use std::io;
use std::os::fd::RawFd;
use std::task::Waker;

use super::super::buf::{Buf, BufPool};
use super::super::loan::Receiving;
use super::TURN_TRIES_MAX;
use super::op::Attempt;

/// What descriptors are registered for. Source: epoll_ctl(2).
pub(super) const EVENTS: u32 =
    (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;

const READS: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP) as u32;
const WRITES: u32 = libc::EPOLLOUT as u32;
/// Reported unasked; both directions then find an error or the end.
const BOTH: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
/// The end follows what is there; nothing will be reported any more.
const CLOSED: u32 = BOTH | libc::EPOLLRDHUP as u32;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rt) enum Side {
    Read,
    Write,
}

/// How one direction fares.
pub(super) struct Direction {
    /// Trying may succeed.
    pub(super) is_ready: bool,
    /// Who waits for that.
    pub(super) waker: Option<Waker>,
}

impl Direction {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Eof,
    Failed(i32),
}

/// One descriptor.
pub(super) struct Watched {
    pub(super) fd: RawFd,
    pub(super) generation: u32,
    /// The kernel reports what becomes of it.
    pub(super) is_registered: bool,
    /// The peer has sent its last byte, or the connection failed.
    is_closed: bool,
    read: Direction,
    write: Direction,
    /// Somebody waits for bytes, to be received into a buffer of this pool.
    pub(super) wanted: Option<BufPool>,
    /// What was received and put back.
    pub(super) front: Option<Buf>,
    pub(super) end: Option<End>,
    /// The turn of the last try, and the tries in it.
    tries: (u32, u8),
    /// The turn of the last events.
    pub(super) noted_turn: u32,
}

impl Watched {
    /// A descriptor of which nothing is known: trying shows.
    pub(super) fn new(fd: RawFd, generation: u32) -> Self {
        Self {
            fd,
            generation,
            is_registered: false,
            is_closed: false,
            read: Direction { is_ready: true, waker: None },
            write: Direction { is_ready: true, waker: None },
            wanted: None,
            front: None,
            end: None,
            tries: (0, 0),
            noted_turn: 0,
        }
    }

    pub(super) fn side(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Read => &mut self.read,
            Side::Write => &mut self.write,
        }
    }

    /// Takes note of what the kernel reports, and wakes who waits for it.
    pub(super) fn note(&mut self, events: u32, turn: u32) {
        self.noted_turn = turn;
        self.is_closed |= events & CLOSED != 0;
        if events & (READS | BOTH) != 0 {
            self.read.is_ready = true;
            // What else may come of it, no buffer or the end, is seen by the task.
            if let Some(pool) = self.wanted.take()
                && let Ok(Some(buf)) = self.receive(&pool)
            {
                self.front = Some(buf);
            }
            self.read.wake();
        }
        if events & (WRITES | BOTH) != 0 {
            self.write.is_ready = true;
            self.write.wake();
        }
    }

    /// Whether one more try belongs to this turn. Counts it.
    pub(super) fn may_try(&mut self, turn: u32) -> bool {
        let (last, tries) = self.tries;
        let tries = if last == turn { tries } else { 0 };
        self.tries = (turn, tries.saturating_add(1));
        tries < TURN_TRIES_MAX
    }

    /// Receives what is there into a buffer of `pool`. `WouldBlock` when that is nothing.
    pub(super) fn receive(&mut self, pool: &BufPool) -> io::Result<Option<Buf>> {
        let Some(buf) = pool.take() else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        let mut receiving = Receiving(buf);
        match self.attempt(&mut receiving, false) {
            Ok(0) => {
                self.end = Some(End::Eof);
                Ok(None)
            }
            Ok(received) => {
                receiving.0.received(received);
                Ok(Some(receiving.0))
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    self.end = error.raw_os_error().map(End::Failed);
                }
                Err(error)
            }
        }
    }

    /// Tries an operation of somebody else's.
    pub(super) fn attempt(
        &mut self,
        attempt: &mut impl Attempt,
        has_waited: bool,
    ) -> io::Result<usize> {
        loop {
            let (result, asked) = attempt.attempt(self.fd, has_waited);
            self.learn(attempt.side(), &result, asked);
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// What the result of a try says of the next one.
    fn learn(&mut self, side: Side, result: &io::Result<usize>, asked: usize) {
        let is_dry = match result {
            Ok(done) => *done < asked,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        // Of an end that was reported already nothing more is heard; a descriptor that is not
        // registered is not heard of at all.
        let stays = side == Side::Read && self.is_closed && result.is_ok();
        if is_dry && self.is_registered && !stays {
            self.side(side).is_ready = false;
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.is_registered && !self.read.is_ready && self.front.is_none() && self.end.is_none()
    }

    pub(super) fn arrived(&self) -> Option<io::Result<bool>> {
        if self.front.is_some() {
            return Some(Ok(true));
        }
        match self.end? {
            End::Eof => Some(Ok(false)),
            End::Failed(code) => Some(Err(io::Error::from_raw_os_error(code))),
        }
    }
}
