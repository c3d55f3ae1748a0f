//! One file descriptor and the ring: what may be asked of the kernel with it, and how it is closed.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::task::Poll;

use super::buf::{Buf, BufPool};
use super::core;
use super::driver::Driver;
use super::drivers::AnyDriver;
use super::epoll::{Epoll, Side};
use super::loan::{Readiness, Receiving, Sending, SendingBytes};
use super::op::Op;

/// A descriptor that operations of this thread's ring may be made on. Never two of them for one
/// descriptor.
pub(super) struct RingFd {
    fd: OwnedFd,
    /// Where what arrives is queued: (number of the loop, index); no loop has the number 0.
    flow: Cell<(u32, u32)>,
    /// The last entry that names the descriptor: (number of the loop, number of the entry).
    pushed: Cell<(u32, u64)>,
    /// Whether an operation was ever dropped before its end.
    abandoned: Cell<bool>,
    not_send: PhantomData<*const ()>,
}

impl RingFd {
    /// Takes over `fd`: a socket for all operations, anything that can be polled for
    /// [`RingFd::readable`].
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            flow: Cell::new((0, 0)),
            pushed: Cell::new((0, 0)),
            abandoned: Cell::new(false),
            not_send: PhantomData,
        }
    }

    /// One receive, begun by the call. `Ok(0)` is the end of the stream. Only while the queue is
    /// not armed: see [`RingFd::is_armed`].
    pub(super) fn recv(&self, buf: Buf) -> Op<'_, Receiving> {
        Op::begin(self, Receiving(buf))
    }

    /// One send of the first `n` bytes, begun by the call. Short only if the connection failed
    /// meanwhile (MSG_WAITALL). A peer that is gone is an error, not a signal (MSG_NOSIGNAL).
    pub(super) fn send(&self, sending: Sending) -> Op<'_, Sending> {
        Op::begin_or_do(self, sending)
    }

    /// One send of a vector, as [`RingFd::send`].
    pub(super) fn send_bytes(&self, sending: SendingBytes) -> Op<'_, SendingBytes> {
        Op::begin_or_do(self, sending)
    }

    /// Waits until a receive would not block: bytes, end of stream or an error, in the queue or
    /// (POLLIN) in the kernel.
    pub(super) async fn readable(&self) -> io::Result<()> {
        let queued = poll_fn(|cx| {
            let filled = self.with_flow(
                |ring, index| ring.flows().poll_filled(index, cx),
                |epoll, index| epoll.arrived(index).map(|_| Poll::Ready(())),
            );
            match filled.flatten() {
                Some(poll) => poll.map(|()| true),
                None => Poll::Ready(false),
            }
        });
        if queued.await {
            return Ok(());
        }
        Op::begin(self, Readiness(libc::POLLIN)).await.0.map(drop)
    }

    /// Waits until a send would not block, or would fail (POLLOUT).
    pub(super) async fn writable(&self) -> io::Result<()> {
        Op::begin(self, Readiness(libc::POLLOUT)).await.0.map(drop)
    }

    /// The next buffer that arrives; `None` is the end of the stream, again and again. Waits with
    /// no buffer; `pool` is where it comes from, as long as it is the one of the first call.
    ///
    /// # Cancel safety
    /// Cancel safe: what has arrived stays in the queue.
    pub(super) fn poll_next(
        &self,
        pool: &BufPool,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<io::Result<Option<Buf>>> {
        let polled = core::with(|core| match &mut *core.driver.borrow_mut() {
            AnyDriver::Ring(ring) => {
                let index = match self.open_flow(ring, pool) {
                    Ok(index) => index,
                    Err(error) => return Poll::Ready(Err(error)),
                };
                let (poll, pushed) = ring.poll_flow(index, cx);
                if let Some(number) = pushed {
                    self.note_push(ring, number);
                }
                poll
            }
            AnyDriver::Epoll(epoll) => {
                let index = self.watched(epoll);
                epoll.poll_next(index, pool, cx)
            }
        });
        polled.unwrap_or_else(|| panic!("I/O happens within rt::run only"))
    }

    /// Makes what arrives from now on show, without waiting for it.
    pub(super) fn listen(&self, pool: &BufPool) {
        core::with(|core| match &mut *core.driver.borrow_mut() {
            AnyDriver::Ring(ring) => {
                if let Ok(index) = self.open_flow(ring, pool)
                    && let Some(number) = ring.listen_flow(index)
                {
                    self.note_push(ring, number);
                }
            }
            AnyDriver::Epoll(epoll) => {
                let index = self.watched(epoll);
                epoll.listen(index);
            }
        });
    }

    /// Whether it is known, without asking, that nothing has arrived and the peer has not closed.
    pub(super) fn is_quiet(&self) -> bool {
        let is_quiet = self.with_flow(
            |ring, index| ring.flows().is_quiet(index),
            |epoll, index| epoll.is_quiet(index),
        );
        is_quiet.unwrap_or(false)
    }

    /// Whether the kernel receives by itself: then nobody else may.
    pub(super) fn is_armed(&self) -> bool {
        self.with_flow(|ring, index| ring.flows().is_armed(index), |_, _| false).unwrap_or(false)
    }

    /// What lies in the queue: bytes (true), the end (false), an error; `None` if it is empty.
    pub(super) fn arrived(&self) -> Option<io::Result<bool>> {
        self.with_flow(
            |ring, index| ring.flows().arrived(index),
            |epoll, index| epoll.arrived(index),
        )
        .flatten()
    }

    /// Takes a buffer that has arrived already.
    pub(super) fn pop(&self) -> Option<Buf> {
        self.with_flow(|ring, index| ring.flows().pop(index), |epoll, index| epoll.pop(index))
            .flatten()
    }

    /// Puts back, in front of the queue, what was taken from it last.
    pub(super) fn push_front(&self, buf: Buf) {
        let buf = Cell::new(Some(buf)); // for one of the two
        self.with_flow(
            |ring, index| buf.take().map(|buf| ring.flows().push_front(index, buf)),
            |epoll, index| buf.take().map(|buf| epoll.push_front(index, buf)),
        );
    }

    /// Somebody has received or sent in a way of his own, and was told that he would have to wait.
    pub(super) fn note_blocked(&self, side: Side) {
        self.with_flow(|_, _| (), |epoll, index| epoll.note_blocked(index, side));
    }

    /// Ends the receiving by itself. What had arrived lies in the queue then; all that comes later
    /// stays in the socket, until the next [`RingFd::poll_next`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn disarm(&self) {
        poll_fn(|cx| {
            let unarmed = self.with_flow(
                |ring, index| ring.poll_unarmed(index, cx),
                |epoll, index| {
                    epoll.disarm(index);
                    Poll::Ready(())
                },
            );
            unarmed.unwrap_or(Poll::Ready(()))
        })
        .await;
    }

    /// Runs one of both with the driver of the loop that runs, if that knows the descriptor.
    fn with_flow<T>(
        &self,
        ring: impl FnOnce(&mut Driver, u32) -> T,
        epoll: impl FnOnce(&mut Epoll, u32) -> T,
    ) -> Option<T> {
        let (loop_number, index) = self.flow.get();
        if loop_number == 0 {
            return None;
        }
        core::with(|core| match &mut *core.driver.borrow_mut() {
            AnyDriver::Ring(driver) if driver.number == loop_number => Some(ring(driver, index)),
            AnyDriver::Epoll(driver) if driver.number == loop_number => Some(epoll(driver, index)),
            _ => None,
        })
        .flatten()
    }

    fn open_flow(&self, driver: &mut Driver, pool: &BufPool) -> io::Result<u32> {
        let (loop_number, index) = self.flow.get();
        if loop_number == driver.number {
            return Ok(index);
        }
        let index = driver.open_flow(self.as_raw_fd(), pool)?;
        self.flow.set((driver.number, index));
        Ok(index)
    }

    /// Where the epoll keeps what it knows of the descriptor.
    pub(super) fn watched(&self, epoll: &mut Epoll) -> u32 {
        let (loop_number, index) = self.flow.get();
        if loop_number == epoll.number {
            return index;
        }
        let index = epoll.watch(self.as_raw_fd());
        self.flow.set((epoll.number, index));
        index
    }

    /// Remembers an entry that names the descriptor.
    pub(super) fn note_push(&self, driver: &Driver, number: u64) {
        self.pushed.set((driver.number, number));
    }

    /// Remembers that an operation was dropped before its end.
    pub(super) fn note_abandoned(&self) {
        self.abandoned.set(true);
    }

    /// Whether the kernel may hold the file a little longer than the descriptor is open.
    pub(super) fn has_unfinished(&self) -> bool {
        self.abandoned.get() || self.is_armed()
    }
}

impl AsRawFd for RingFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for RingFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for RingFd {
    /// What is under way is cancelled; then the descriptor is closed.
    fn drop(&mut self) {
        let (loop_number, index) = self.flow.get();
        core::with(|core| match &mut *core.driver.borrow_mut() {
            AnyDriver::Ring(ring) => {
                if loop_number == ring.number {
                    ring.close_flow(index);
                }
                let (loop_number, number) = self.pushed.get();
                if loop_number == ring.number {
                    // An entry that waits in the queue would otherwise mean whoever gets the
                    // descriptor's number next. Most have been submitted long ago.
                    ring.submit_up_to(number);
                }
            }
            AnyDriver::Epoll(epoll) => {
                if loop_number == epoll.number {
                    epoll.unwatch(index);
                }
            }
        });
    }
}
