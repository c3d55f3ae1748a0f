//! The driver where there is no `io_uring`: system calls that don't wait, and epoll(7) to wait.
//!
//! An operation is tried at once. If it would have to wait, its descriptor is registered, once in
//! its life, for both directions, edge-triggered; from then on the kernel says when trying again
//! is worth it, and [`watched`] remembers what it said. Nothing is ever under way in the kernel: a
//! future that is dropped takes its buffer with it, and a descriptor that is closed is just closed.
//!
//! # The same thing many times in a row
//! What a task waits to receive is received before it is woken, for all of them one behind the
//! other; then the tasks run; then what they send is sent, one behind the other: a send waits until
//! all tasks that are ready have run, unless there is no other. Done task by task, receive, work,
//! send, the same system calls cost a tenth more with 64 connections, and a quarter with 512; the
//! likely reason is that each of the three throws the others out of the caches. (docs/adr/0010-fallback-driver.md)
//!
//! # Nobody eats the turn
//! An operation that succeeds at once does not give the others a turn. So a descriptor has
//! [`TURN_TRIES_MAX`] operations in one turn of the loop; the next one waits for the next turn.

mod op;
mod watched;

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::task::{Context, Poll};
use std::time::Duration;

use slab::Slab;

use self::watched::{End, Watched};
use super::buf::{Buf, BufPool};
use super::drivers::AnyDriver;
use super::sys;

use self::op::Stage;
pub(super) use self::op::{Attempt, Op};
pub(super) use self::watched::Side;

/// Operations of one descriptor in one turn of the loop. A request has one or two; a body of any
/// size moves half a megabyte before others get theirs.
const TURN_TRIES_MAX: u8 = 16;

/// Descriptors the kernel names with one call, each of which may take a buffer then. Those left over
/// come with the next, soon after.
const EVENTS_MAX: usize = 512;

/// The epoll of a loop and what is known of the descriptors in it.
pub(super) struct Epoll {
    fd: OwnedFd,
    /// Of the loop, unique in the process: what belongs to another loop is told by it.
    pub(super) number: u32,
    watched: Slab<Watched>,
    /// Descriptors ever watched: late events of others are told apart by it.
    generation: u32,
    /// Turns so far.
    turn: u32,
    /// The last turn in which something was received that no event had told of, or began to be watched: what had come to
    /// others before it, no event has told of either.
    behind_turn: u32,
    events: Box<[libc::epoll_event]>,
}

impl Epoll {
    /// Sets up an epoll.
    ///
    /// # Errors
    /// As epoll_create1(2).
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            fd: sys::epoll()?,
            number: AnyDriver::next_number(),
            watched: Slab::new(),
            generation: 0,
            turn: 0,
            behind_turn: 0,
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX].into(),
        })
    }

    /// Waits (at most `timeout`, in whole milliseconds) if nobody has anything to do, and wakes
    /// those whose descriptors are ready.
    ///
    /// # Errors
    /// When the epoll itself fails; nothing can go on then.
    pub(super) fn turn(
        &mut self,
        is_idle: impl FnOnce() -> bool,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        self.turn = self.turn.wrapping_add(1);
        let wait = if is_idle() { timeout } else { Some(Duration::ZERO) };
        let count = match sys::epoll_wait(&self.fd, &mut self.events, wait) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            result => result?,
        };
        for event in &self.events[..count] {
            let (events, data) = (event.events, event.u64); // the struct is packed
            let watched = self.watched.get_mut(data as u32 as usize);
            if let Some(watched) = watched.filter(|one| one.generation == (data >> 32) as u32) {
                watched.note(events, self.turn);
            }
        }
        Ok(())
    }

    /// Begins to watch a descriptor, without a system call.
    pub(super) fn watch(&mut self, fd: RawFd) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.watched.insert(Watched::new(fd, self.generation)) as u32
    }

    /// Ends that. The descriptor is still open.
    pub(super) fn unwatch(&mut self, index: u32) {
        let watched = self.watched.remove(index as usize);
        if watched.is_registered {
            // Not left to the close: other descriptors of the same file may stay open.
            sys::epoll_remove(&self.fd, watched.fd);
        }
    }

    fn watched(&mut self, index: u32) -> &mut Watched {
        &mut self.watched[index as usize]
    }

    /// The next buffer that arrives, from `pool`; `None` is the end, again and again.
    pub(super) fn poll_next(
        &mut self,
        index: u32,
        pool: &BufPool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Buf>>> {
        let turn = self.turn;
        let watched = self.watched(index);
        if let Some(buf) = watched.front.take() {
            return Poll::Ready(Ok(Some(buf)));
        }
        match watched.end {
            Some(End::Eof) => return Poll::Ready(Ok(None)),
            Some(End::Failed(code)) => {
                return Poll::Ready(Err(io::Error::from_raw_os_error(code)));
            }
            None => {}
        }
        if watched.side(Side::Read).is_ready {
            if !watched.may_try(turn) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let is_behind = watched.noted_turn != turn;
            match watched.receive(pool) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    if is_behind {
                        self.behind_turn = turn;
                    }
                    return Poll::Ready(result);
                }
            }
        }
        match self.wait(index, Side::Read, cx) {
            Ok(()) => {
                self.watched(index).wanted.get_or_insert_with(|| pool.clone());
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Tries an operation when its turn has come, or waits until that is worth it. `is_alone`: no
    /// other task is ready.
    fn poll_attempt(
        &mut self,
        index: u32,
        attempt: &mut impl Attempt,
        stage: &mut Stage,
        is_alone: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let (turn, side) = (self.turn, attempt.side());
        let watched = self.watched(index);
        if side == Side::Read {
            watched.wanted = None; // of a wait that was dropped: these bytes are somebody else's
        }
        if watched.side(side).is_ready {
            let is_early = *stage == Stage::New && side == Side::Write && !is_alone;
            if is_early || !watched.may_try(turn) {
                *stage = Stage::Due;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let is_behind = side == Side::Read && watched.noted_turn != turn;
            match watched.attempt(attempt, *stage == Stage::Waiting) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    if is_behind {
                        self.behind_turn = turn;
                    }
                    return Poll::Ready(result);
                }
            }
        }
        *stage = Stage::Waiting;
        match self.wait(index, side, cx) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Waits for one direction of a descriptor that is not ready now.
    fn wait(&mut self, index: u32, side: Side, cx: &mut Context<'_>) -> io::Result<()> {
        self.register(index)?;
        let direction = self.watched(index).side(side);
        direction.is_ready = false;
        let waker = &mut direction.waker;
        match waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
        Ok(())
    }

    /// Makes the kernel report what becomes of a descriptor, beginning with what it is now.
    fn register(&mut self, index: u32) -> io::Result<()> {
        let watched = &mut self.watched[index as usize];
        if !watched.is_registered {
            let data = u64::from(watched.generation) << 32 | u64::from(index);
            sys::epoll_add(&self.fd, watched.fd, watched::EVENTS, data)?;
            watched.is_registered = true;
        }
        Ok(())
    }

    /// Makes what arrives from now on show, without waiting for it.
    pub(super) fn listen(&mut self, index: u32) {
        if !self.watched(index).is_registered && self.register(index).is_ok() {
            self.watched(index).side(Side::Read).is_ready = false; // or the kernel says otherwise
            self.behind_turn = self.turn;
        }
    }

    /// What arrives from now on stays in the socket until somebody asks for it.
    pub(super) fn disarm(&mut self, index: u32) {
        self.watched(index).wanted = None;
    }

    /// Whether it is known, without asking, that nothing has arrived and the peer has not closed.
    pub(super) fn is_quiet(&mut self, index: u32) -> bool {
        self.behind_turn != self.turn && self.watched(index).is_quiet()
    }

    /// What was put back or came behind all bytes: bytes (true), the end (false), an error.
    pub(super) fn arrived(&mut self, index: u32) -> Option<io::Result<bool>> {
        self.watched(index).arrived()
    }

    /// Takes what was put back.
    pub(super) fn pop(&mut self, index: u32) -> Option<Buf> {
        self.watched(index).front.take()
    }

    /// Puts back a buffer; there is none put back already.
    pub(super) fn push_front(&mut self, index: u32, buf: Buf) {
        let front = self.watched(index).front.replace(buf);
        debug_assert!(front.is_none(), "what was put back is taken first");
    }

    /// Somebody tried in another way and would have had to wait.
    pub(super) fn note_blocked(&mut self, index: u32, side: Side) {
        let watched = self.watched(index);
        if watched.is_registered {
            watched.side(side).is_ready = false;
        }
    }

    /// Forgets everything; nothing is under way that could need it.
    pub(super) fn end_all(&mut self) {
        self.watched.clear();
    }
}
