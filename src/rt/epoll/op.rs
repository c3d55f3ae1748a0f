//! Operations that end: a receive or send with its buffer, a wait for readiness.
//!
//! The buffer lies in the future from beginning to end; the kernel has it only while a system call
//! runs.

use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::super::core;
use super::super::drivers::AnyDriver;
use super::super::ring_fd::RingFd;
use super::Side;

/// What an operation does, as one system call that does not wait.
pub(in crate::rt) trait Attempt: Unpin {
    /// What it waits for.
    fn side(&self) -> Side;

    /// Tries, and says how much could have been done: who does less has emptied or filled the
    /// socket. `WouldBlock` if it has to wait; `has_waited` tells that the kernel has reported
    /// readiness since the operation began.
    fn attempt(&mut self, fd: RawFd, has_waited: bool) -> (io::Result<usize>, usize);
}

/// One operation. Ends with its result, and what it was made with.
pub(in crate::rt) struct Op<'a, A: Attempt> {
    fd: &'a RingFd,
    attempt: Option<A>, // `None` once it has ended
    stage: Stage,
}

/// How far an operation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It was not polled yet.
    New,
    /// Its turn has come: it is tried.
    Due,
    /// It was tried, in vain; the kernel reports when it is worth it.
    Waiting,
}

impl<'a, A: Attempt> Op<'a, A> {
    /// An operation that is tried when it is polled.
    pub(in crate::rt) fn new(fd: &'a RingFd, attempt: A) -> Self {
        Self { fd, attempt: Some(attempt), stage: Stage::New }
    }
}

impl<A: Attempt> Future for Op<'_, A> {
    type Output = (io::Result<usize>, A);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { fd, attempt, stage } = self.get_mut();
        let Some(mut held) = attempt.take() else { panic!("polled after its end") };
        let polled = core::with(|core| match &mut *core.driver.borrow_mut() {
            AnyDriver::Epoll(epoll) => {
                let (index, is_alone) = (fd.watched(epoll), core.executor.is_idle());
                Some(epoll.poll_attempt(index, &mut held, stage, is_alone, cx))
            }
            AnyDriver::Ring(_) => None,
        });
        let Some(Some(polled)) = polled else { panic!("the loop of this operation has ended") };
        match polled {
            Poll::Ready(result) => Poll::Ready((result, held)),
            Poll::Pending => {
                *attempt = Some(held);
                Poll::Pending
            }
        }
    }
}
