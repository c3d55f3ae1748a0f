//! One file descriptor and the ring: the only place that holds a monoio I/O object.
//!
//! monoio closes a dropped stream with a ring operation (two entries, an allocation, at some later
//! time) and, when an operation on it was abandoned, from inside its completion loop. Neither is
//! wanted: this type counts the operations that were begun and not seen to end, closes at once
//! with close(2) when there are none, and otherwise lets the driver finish first.
#![allow(unsafe_code)]

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use monoio::BufResult;
use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;

use super::{runtime, task};

/// How long an abandoned operation gets to end before its descriptor is closed. Dropping it has
/// asked the kernel to cancel it, which happens on the next turn of the loop.
const ABANDONED_GRACE: Duration = Duration::from_millis(5);

/// A descriptor that operations of this thread's ring may be made on. Never two of them for one
/// descriptor.
pub(super) struct RingFd {
    io: ManuallyDrop<UnsafeCell<TcpStream>>,
    raw: RawFd,
    /// Operations begun and not seen to end: in flight now, or abandoned at some time.
    unfinished: Cell<u32>,
}

impl RingFd {
    /// Takes over `fd`: a socket for all operations, anything that can be polled for
    /// [`RingFd::readable`].
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let raw = fd.as_raw_fd();
        let io = TcpStream::from_std(std::net::TcpStream::from(fd))?;
        Ok(Self { io: ManuallyDrop::new(UnsafeCell::new(io)), raw, unfinished: Cell::new(0) })
    }

    /// One receive, begun by the call. `Ok(0)` is the end of the stream.
    pub(super) fn recv<B: IoBufMut>(&self, buf: B) -> impl Future<Output = BufResult<usize, B>> {
        // WHY UNSAFE: monoio's `read` wants `&mut`, but a task has to receive and send on one
        // socket at a time; the safe way, `Rc<RefCell<_>>`, would keep the borrow over the await.
        // SAFETY: the reference ends with this statement: `read` submits at once and its future
        // owns a handle to the descriptor, it keeps no reference (monoio's own `split` relies on
        // that). The type is `!Sync` and nothing in `read` calls back into this one.
        self.count(unsafe { &mut *self.io.get() }.read(buf))
    }

    /// One send, perhaps short, begun by the call. A peer that is gone is an error, not a signal
    /// (MSG_NOSIGNAL).
    pub(super) fn send<B: IoBuf>(&self, buf: B) -> impl Future<Output = BufResult<usize, B>> {
        // WHY UNSAFE, SAFETY: as in `recv`; `write` submits at once too.
        self.count(unsafe { &mut *self.io.get() }.write(buf))
    }

    /// Waits until a receive would not block: bytes, end of stream or an error (POLLIN).
    pub(super) fn readable(&self) -> impl Future<Output = io::Result<()>> {
        self.count(self.io().readable(false))
    }

    /// Waits until a send would not block, or would fail (POLLOUT).
    pub(super) fn writable(&self) -> impl Future<Output = io::Result<()>> {
        self.count(self.io().writable(false))
    }

    fn count<F: Future>(&self, operation: F) -> Counted<'_, F> {
        self.unfinished.set(self.unfinished.get() + 1);
        Counted { unfinished: &self.unfinished, operation }
    }

    /// Whether an operation is in flight or was abandoned, so that a close would be late.
    pub(super) fn has_unfinished(&self) -> bool {
        self.unfinished.get() > 0
    }

    fn io(&self) -> &TcpStream {
        // WHY UNSAFE: reading through the cell that `recv` needs.
        // SAFETY: exclusive references exist only within one statement of `recv` and `send`.
        unsafe { &*self.io.get() }
    }
}

/// An operation that is counted as unfinished until its result was taken; one that is dropped
/// before stays counted. Not an `async` block, which would hold the operation twice: this is part of
/// the future of every connection.
struct Counted<'a, F> {
    unfinished: &'a Cell<u32>,
    operation: F,
}

impl<F: Future> Future for Counted<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let unfinished = self.unfinished;
        // WHY UNSAFE: a projection; the safe way, boxing, is an allocation per operation.
        // SAFETY: `operation` is only reached through this pin; the type has no `Drop` and is
        // `Unpin` only if `F` is.
        let poll = unsafe { self.map_unchecked_mut(|this| &mut this.operation) }.poll(cx);
        if poll.is_ready() {
            unfinished.set(unfinished.get() - 1);
        }
        poll
    }
}

impl AsRawFd for RingFd {
    fn as_raw_fd(&self) -> RawFd {
        self.raw
    }
}

impl AsFd for RingFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // WHY UNSAFE: monoio's stream does not implement `AsFd`.
        // SAFETY: `raw` is the stream's own descriptor, open for as long as `self` is.
        unsafe { BorrowedFd::borrow_raw(self.raw) }
    }
}

impl Drop for RingFd {
    fn drop(&mut self) {
        // WHY UNSAFE: the stream has to be moved out to decide how it ends.
        // SAFETY: `drop` runs once and `self.io` is not used after this line.
        let io = unsafe { ManuallyDrop::take(&mut self.io) }.into_inner();
        if self.unfinished.get() == 0 {
            // Every operation returned, so its handle to the descriptor is gone and this one is
            // the last: `into_raw_fd`, which panics otherwise, gives the descriptor back.
            let raw = io.into_raw_fd();
            // WHY UNSAFE: close(2) through `OwnedFd`.
            // SAFETY: `into_raw_fd` just passed the ownership on.
            drop(unsafe { OwnedFd::from_raw_fd(raw) });
        } else if runtime::is_running() {
            task::spawn(async move {
                task::sleep(ABANDONED_GRACE).await;
                drop(io);
            });
        } else {
            std::mem::forget(io); // the driver is gone and its operations with it
        }
    }
}
