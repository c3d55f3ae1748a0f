//! One operation, on whichever driver the loop has.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::core;
use super::driver::{self, Loan};
use super::drivers::AnyDriver;
use super::epoll::{self, Attempt};
use super::ring_fd::RingFd;

/// Ends with the result as the kernel gives it, and the loan.
pub(super) enum Op<'a, L: Loan + Attempt> {
    Ring(driver::Op<'a, L>),
    Epoll(epoll::Op<'a, L>),
    /// It has been done already.
    Done(Option<(io::Result<usize>, L)>),
}

impl<'a, L: Loan + Attempt> Op<'a, L> {
    /// Begins an operation, here or when it is first polled.
    ///
    /// # Panics
    /// Outside a loop.
    pub(super) fn begin(fd: &'a RingFd, loan: L) -> Self {
        if has_ring() {
            Op::Ring(driver::Op::begin(fd, loan))
        } else {
            Op::Epoll(epoll::Op::new(fd, loan))
        }
    }

    /// An operation that has nothing to do.
    pub(super) fn done(loan: L) -> Self {
        Op::Done(Some((Ok(0), loan)))
    }

    /// The same, but done at once with a system call of its own where that is cheaper and does not have
    /// to wait: on a ring with little to do.
    ///
    /// # Panics
    /// Outside a loop.
    pub(super) fn begin_or_do(fd: &'a RingFd, mut loan: L) -> Self {
        if is_calm() {
            match loan.attempt(fd.as_raw_fd(), false).0 {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Op::Done(Some((result, loan))),
            }
        }
        Self::begin(fd, loan)
    }
}

/// Whether the loop has a ring.
///
/// # Panics
/// Outside a loop.
pub(super) fn has_ring() -> bool {
    match core::with(|core| matches!(*core.driver.borrow(), AnyDriver::Ring(_))) {
        Some(has_ring) => has_ring,
        None => panic!("I/O happens within rt::run only"),
    }
}

/// Whether a send is better done with a system call of its own: on a ring with little to do. Counts it.
pub(super) fn is_calm() -> bool {
    let is_calm = core::with(|core| match &mut *core.driver.borrow_mut() {
        AnyDriver::Ring(ring) => {
            core.executor.ready_count() <= driver::CALM_MAX && ring.take_calm()
        }
        AnyDriver::Epoll(_) => false, // does so when it is polled
    });
    is_calm == Some(true)
}

impl<L: Loan + Attempt> Future for Op<'_, L> {
    type Output = (io::Result<usize>, L);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Op::Ring(op) => Pin::new(op).poll(cx),
            Op::Epoll(op) => Pin::new(op).poll(cx),
            Op::Done(done) => match done.take() {
                Some(done) => Poll::Ready(done),
                None => panic!("polled after its end"),
            },
        }
    }
}
