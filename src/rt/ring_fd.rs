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
use std::time::Duration;

use monoio::BufResult;
use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;

use super::runtime;

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

    /// One receive. `Ok(0)` is the end of the stream.
    pub(super) async fn recv<B: IoBufMut>(&self, buf: B) -> BufResult<usize, B> {
        // WHY UNSAFE: monoio's `read` wants `&mut`, but a task has to receive and send on one
        // socket at a time; the safe way, `Rc<RefCell<_>>`, would keep the borrow over the await.
        // SAFETY: the reference ends with this statement: `read` submits at once and its future
        // owns a handle to the descriptor, it keeps no reference (monoio's own `split` relies on
        // that). The type is `!Sync` and nothing in `read` calls back into this one.
        let receiving = unsafe { &mut *self.io.get() }.read(buf);
        self.finish(receiving).await
    }

    /// One send, perhaps short. A peer that is gone is an error, not a signal (MSG_NOSIGNAL).
    pub(super) async fn send<B: IoBuf>(&self, buf: B) -> BufResult<usize, B> {
        // WHY UNSAFE, SAFETY: as in `recv`; `write` submits at once too.
        let sending = unsafe { &mut *self.io.get() }.write(buf);
        self.finish(sending).await
    }

    /// Waits until a receive would not block: bytes, end of stream or an error (POLLIN).
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.finish(self.io().readable(false)).await
    }

    /// Waits until a send would not block, or would fail (POLLOUT).
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.finish(self.io().writable(false)).await
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

    /// Awaits an operation and counts it: one whose future is dropped stays counted.
    async fn finish<T>(&self, operation: impl Future<Output = T>) -> T {
        self.unfinished.set(self.unfinished.get() + 1);
        let result = operation.await;
        self.unfinished.set(self.unfinished.get() - 1);
        result
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
            monoio::spawn(async move {
                monoio::time::sleep(ABANDONED_GRACE).await;
                drop(io);
            });
        } else {
            std::mem::forget(io); // the driver is gone and its operations with it
        }
    }
}
