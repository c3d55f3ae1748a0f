//! One file descriptor and the ring: what may be asked of the kernel with it, and how it is closed.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::task::Poll;

use super::buf::{Buf, BufPool};
use super::core;
use super::driver::{Driver, Op};
use super::drivers::AnyDriver;
use super::loan::{Readiness, Receiving, Sending, SendingBytes};

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
        Op::begin(self, sending)
    }

    /// One send of a vector, as [`RingFd::send`].
    pub(super) fn send_bytes(&self, sending: SendingBytes) -> Op<'_, SendingBytes> {
        Op::begin(self, sending)
    }

    /// Waits until a receive would not block: bytes, end of stream or an error, in the queue or
    /// (POLLIN) in the kernel.
    pub(super) async fn readable(&self) -> io::Result<()> {
        let queued = poll_fn(|cx| {
            match self.with_flow(|driver, index| driver.flows().poll_filled(index, cx)).flatten() {
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
        let polled = core::with(|core| {
            let AnyDriver::Ring(driver) = &mut *core.driver.borrow_mut();
            let index = match self.open_flow(driver, pool) {
                Ok(index) => index,
                Err(error) => return Poll::Ready(Err(error)),
            };
            let (poll, pushed) = driver.poll_flow(index, cx);
            if let Some(number) = pushed {
                self.note_push(driver, number);
            }
            poll
        });
        polled.unwrap_or_else(|| panic!("I/O happens within rt::run only"))
    }

    /// Makes what arrives from now on show in the queue, without waiting for it.
    pub(super) fn listen(&self, pool: &BufPool) {
        core::with(|core| {
            let AnyDriver::Ring(driver) = &mut *core.driver.borrow_mut();
            if let Ok(index) = self.open_flow(driver, pool)
                && let Some(number) = driver.listen_flow(index)
            {
                self.note_push(driver, number);
            }
        });
    }

    /// Whether it is known, without asking, that nothing has arrived and the peer has not closed.
    pub(super) fn is_quiet(&self) -> bool {
        self.with_flow(|driver, index| driver.flows().is_quiet(index)).unwrap_or(false)
    }

    /// Whether the kernel receives by itself: then nobody else may.
    pub(super) fn is_armed(&self) -> bool {
        self.with_flow(|driver, index| driver.flows().is_armed(index)).unwrap_or(false)
    }

    /// What lies in the queue: bytes (true), the end (false), an error; `None` if it is empty.
    pub(super) fn arrived(&self) -> Option<io::Result<bool>> {
        self.with_flow(|driver, index| driver.flows().arrived(index)).flatten()
    }

    /// Takes a buffer that has arrived already.
    pub(super) fn pop(&self) -> Option<Buf> {
        self.with_flow(|driver, index| driver.flows().pop(index)).flatten()
    }

    /// Puts back, in front of the queue, what was taken from it.
    pub(super) fn push_front(&self, buf: Buf) {
        self.with_flow(|driver, index| driver.flows().push_front(index, buf));
    }

    /// Ends the receiving by itself. What had arrived lies in the queue then; all that comes later
    /// stays in the socket, until the next [`RingFd::poll_next`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn disarm(&self) {
        poll_fn(|cx| {
            self.with_flow(|driver, index| driver.poll_unarmed(index, cx))
                .unwrap_or(Poll::Ready(()))
        })
        .await;
    }

    /// Runs `f` with the queue, if there is one on the loop that runs.
    fn with_flow<T>(&self, f: impl FnOnce(&mut Driver, u32) -> T) -> Option<T> {
        let (loop_number, index) = self.flow.get();
        if loop_number == 0 {
            return None;
        }
        core::with(|core| {
            let AnyDriver::Ring(driver) = &mut *core.driver.borrow_mut();
            (driver.number == loop_number).then(|| f(driver, index))
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
        core::with(|core| {
            let AnyDriver::Ring(driver) = &mut *core.driver.borrow_mut();
            if loop_number == driver.number {
                driver.close_flow(index);
            }
            let (loop_number, number) = self.pushed.get();
            if loop_number == driver.number {
                // An entry that waits in the queue would otherwise mean whoever gets the descriptor's
                // number next. Most have been submitted long ago.
                driver.submit_up_to(number);
            }
        });
    }
}
