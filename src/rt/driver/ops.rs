//! Operations with one completion: a receive or send with its buffer, a wait for readiness.
//!
//! While the kernel works, the buffer lies in the future, which its task owns. A future that is
//! dropped then leaves the buffer in the operation's slot and asks the kernel to cancel; the slot is
//! freed, and the buffer with it, when the completion arrives and not before.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use io_uring::squeue::Entry;

use super::super::buf::Buf;
use super::super::core;
use super::super::drivers::AnyDriver;
use super::super::loan::Sending;
use super::super::ring_fd::RingFd;
use super::{Driver, Kind, Tag};

/// What an operation borrows, and how it is put to the kernel.
pub(in crate::rt) trait Loan: Unpin {
    /// The entry of the submission queue. What it points to stays where it is however `self` moves,
    /// and is not touched before the completion.
    fn entry(&mut self, fd: RawFd) -> Entry;

    /// What must outlive the operation.
    fn into_held(self) -> Held;
}

/// What an abandoned operation keeps alive.
#[expect(dead_code, reason = "held only to be dropped")]
pub(in crate::rt) enum Held {
    Nothing,
    Buf(Buf),
    Bytes(Vec<u8>),
}

/// The operations under way.
#[derive(Default)]
pub(super) struct Ops {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    /// How often the slot was used: a late cancel must not hit its next user.
    generation: u32,
    state: State,
}

enum State {
    Free,
    Pending(Option<Waker>),
    /// A send that nobody waits for; he is woken if it does not take all, or once he waits.
    Leaving(Leaving),
    Done(i32),
    /// A send that nobody waited for did not take all of this: its result.
    Returned(Buf, i32),
    /// The future is gone.
    Abandoned(#[expect(dead_code, reason = "held only to be dropped")] Held),
}

/// What a send that nobody waits for keeps.
struct Leaving {
    buf: Buf,
    /// What it ends with when all was sent.
    all: i32,
    waker: Waker,
    is_awaited: bool,
}

impl Ops {
    pub(super) fn begin(&mut self) -> Tag {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, state: State::Free });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.state = State::Pending(None);
        Tag { kind: Kind::Op, generation: slot.generation, index }
    }

    /// Ready once only.
    fn poll(&mut self, tag: Tag, cx: &mut Context<'_>) -> Poll<i32> {
        let slot = &mut self.slots[tag.index as usize];
        match &mut slot.state {
            State::Done(result) => {
                let result = *result;
                self.release(tag.index);
                Poll::Ready(result)
            }
            State::Pending(waker) => {
                match waker {
                    Some(waker) if waker.will_wake(cx.waker()) => {}
                    _ => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            _ => unreachable!("the future holds the slot"),
        }
    }

    /// Nobody waits for this one: its buffer is kept here.
    fn leave(&mut self, tag: Tag, buf: Buf, cx: &Context<'_>) {
        let (all, waker) = (buf.len() as i32, cx.waker().clone());
        let leaving = Leaving { buf, all, waker, is_awaited: false };
        self.slots[tag.index as usize].state = State::Leaving(leaving);
    }

    /// Ready once only: with what is left to be sent, if there is something, and the result.
    fn poll_left(&mut self, tag: Tag, cx: &Context<'_>) -> Poll<Option<(Buf, i32)>> {
        let slot = &mut self.slots[tag.index as usize];
        match std::mem::replace(&mut slot.state, State::Free) {
            State::Leaving(mut leaving) => {
                leaving.is_awaited = true;
                leaving.waker.clone_from(cx.waker());
                slot.state = State::Leaving(leaving);
                Poll::Pending
            }
            State::Returned(buf, result) => {
                self.release(tag.index);
                Poll::Ready(Some((buf, result)))
            }
            _ => {
                self.release(tag.index);
                Poll::Ready(None)
            }
        }
    }

    /// The future is dropped. Whether the kernel has to be asked to cancel.
    fn abandon(&mut self, tag: Tag, held: Held) -> bool {
        let slot = &mut self.slots[tag.index as usize];
        match std::mem::replace(&mut slot.state, State::Free) {
            State::Pending(_) => {
                slot.state = State::Abandoned(held);
                true
            }
            State::Leaving(leaving) => {
                slot.state = State::Abandoned(Held::Buf(leaving.buf));
                true
            }
            _ => {
                self.release(tag.index);
                false
            }
        }
    }

    pub(super) fn complete(&mut self, tag: Tag, result: i32) {
        let slot = &mut self.slots[tag.index as usize];
        debug_assert_eq!(slot.generation, tag.generation, "a slot is held until its completion");
        match &mut slot.state {
            State::Pending(waker) => {
                let waker = waker.take();
                slot.state = State::Done(result);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            State::Leaving(_) => slot.state.end_leaving(result),
            _ => self.release(tag.index),
        }
    }

    /// Whether a cancel that found nothing has to be repeated: the operation was between two tries.
    pub(super) fn is_abandoned(&self, tag: Tag) -> bool {
        let slot = &self.slots[tag.index as usize];
        slot.generation == tag.generation && matches!(slot.state, State::Abandoned(_))
    }

    /// All that the kernel still works on.
    pub(super) fn under_way(&self) -> impl Iterator<Item = Tag> {
        self.slots.iter().zip(0..).filter_map(|(slot, index)| match slot.state {
            State::Pending(_) | State::Leaving(_) | State::Abandoned(_) => {
                Some(Tag { kind: Kind::Op, generation: slot.generation, index })
            }
            State::Free | State::Done(_) | State::Returned(..) => None,
        })
    }

    fn release(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.generation = (slot.generation + 1) & Tag::GENERATION_MAX;
        slot.state = State::Free;
        self.free.push(index);
    }
}

impl State {
    /// The end of a send that nobody waits for, or somebody by now.
    fn end_leaving(&mut self, result: i32) {
        let State::Leaving(leaving) = std::mem::replace(self, State::Done(result)) else { return };
        let has_left = result == leaving.all;
        if !has_left {
            *self = State::Returned(leaving.buf, result);
        }
        if !has_left || leaving.is_awaited {
            leaving.waker.wake();
        }
    }
}

/// One operation, begun when it was made. Ends with the result as the kernel gives it, and the loan.
pub(in crate::rt) struct Op<'a, L: Loan> {
    fd: &'a RingFd,
    loan: Option<L>, // `None` once it has ended
    tag: Tag,
    loop_number: u32,
}

impl<'a, L: Loan> Op<'a, L> {
    /// Puts the operation to the kernel; it is submitted with the others of this turn.
    ///
    /// # Panics
    /// Outside a loop with a ring.
    pub(in crate::rt) fn begin(fd: &'a RingFd, mut loan: L) -> Self {
        let entry = loan.entry(fd.as_raw_fd());
        let begun = core::with(|core| {
            let AnyDriver::Ring(driver) = &mut *core.driver.borrow_mut() else { return None };
            let tag = driver.ops.begin();
            let number = driver.push(entry, tag);
            fd.note_push(driver, number);
            Some((tag, driver.number))
        });
        let Some(Some((tag, loop_number))) = begun else {
            panic!("I/O happens within rt::run only")
        };
        Self { fd, loan: Some(loan), tag, loop_number }
    }
}

/// The driver of the loop an operation was begun on, if it still runs. All operations of a loop
/// that is gone have ended with it.
fn with_driver<T>(loop_number: u32, f: impl FnOnce(&mut Driver) -> T) -> Option<T> {
    core::with(|core| match &mut *core.driver.borrow_mut() {
        AnyDriver::Ring(driver) if driver.number == loop_number => Some(f(driver)),
        _ => None,
    })
    .flatten()
}

impl<L: Loan> Future for Op<'_, L> {
    type Output = (io::Result<usize>, L);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let tag = self.tag;
        let Some(polled) = with_driver(self.loop_number, |driver| driver.ops.poll(tag, cx)) else {
            panic!("the loop of this operation has ended");
        };
        let Poll::Ready(result) = polled else { return Poll::Pending };
        let Some(loan) = self.loan.take() else { panic!("polled after its end") };
        Poll::Ready((outcome(result), loan))
    }
}

impl<L: Loan> Drop for Op<'_, L> {
    fn drop(&mut self) {
        let Some(loan) = self.loan.take() else { return };
        let tag = self.tag;
        with_driver(self.loop_number, |driver| {
            if driver.ops.abandon(tag, loan.into_held()) {
                driver.cancel(tag);
                self.fd.note_abandoned();
            }
        });
    }
}

/// A send that nobody waits for. The driver has its buffer, and gives it back to its pool when all was
/// sent; its owner is woken only if it was not, or if he waits by then.
pub(in crate::rt) struct Left<'a> {
    fd: &'a RingFd,
    tag: Option<Tag>, // `None` once it has ended
    loop_number: u32,
}

impl<'a> Left<'a> {
    /// Puts the send of all of `buf` to the kernel.
    ///
    /// # Panics
    /// Outside a loop with a ring.
    pub(in crate::rt) fn begin(fd: &'a RingFd, buf: Buf, cx: &Context<'_>) -> Self {
        let n = buf.len();
        let mut sending = Sending { buf, n };
        let entry = sending.entry(fd.as_raw_fd());
        let begun = core::with(|core| {
            let AnyDriver::Ring(driver) = &mut *core.driver.borrow_mut() else { return None };
            let tag = driver.ops.begin();
            driver.ops.leave(tag, sending.buf, cx);
            let number = driver.push(entry, tag);
            fd.note_push(driver, number);
            Some((tag, driver.number))
        });
        let Some(Some((tag, loop_number))) = begun else {
            panic!("I/O happens within rt::run only")
        };
        Self { fd, tag: Some(tag), loop_number }
    }

    /// Ready when it has ended: with what is left to be sent, if there is something, and the result.
    pub(in crate::rt) fn poll(
        &mut self,
        cx: &Context<'_>,
    ) -> Poll<Option<(io::Result<usize>, Buf)>> {
        let Some(tag) = self.tag else { return Poll::Ready(None) };
        let polled = with_driver(self.loop_number, |driver| driver.ops.poll_left(tag, cx));
        let Some(polled) = polled else { panic!("the loop of this operation has ended") };
        if polled.is_ready() {
            self.tag = None;
        }
        polled.map(|left| left.map(|(buf, result)| (outcome(result), buf)))
    }
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let Some(tag) = self.tag else { return };
        with_driver(self.loop_number, |driver| {
            if driver.ops.abandon(tag, Held::Nothing) {
                driver.cancel(tag);
                self.fd.note_abandoned();
            }
        });
    }
}

/// A result as the kernel gives it.
fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}
