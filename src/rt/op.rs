//! One operation, on whichever driver the loop has.

use std::io;
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
}

impl<'a, L: Loan + Attempt> Op<'a, L> {
    /// Begins an operation, here or when it is first polled.
    ///
    /// # Panics
    /// Outside a loop.
    pub(super) fn begin(fd: &'a RingFd, loan: L) -> Self {
        let has_ring = core::with(|core| matches!(*core.driver.borrow(), AnyDriver::Ring(_)));
        match has_ring {
            Some(true) => Op::Ring(driver::Op::begin(fd, loan)),
            Some(false) => Op::Epoll(epoll::Op::new(fd, loan)),
            None => panic!("I/O happens within rt::run only"),
        }
    }
}

impl<L: Loan + Attempt> Future for Op<'_, L> {
    type Output = (io::Result<usize>, L);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Op::Ring(op) => Pin::new(op).poll(cx),
            Op::Epoll(op) => Pin::new(op).poll(cx),
        }
    }
}
