//! This core's way to the threads that sign with slow keys, and back.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use crate::{
    base::limits,
    rt::{self, MailboxSender},
    tls::{
        Session,
        signers::{self, Begun},
    },
};

/// Sessions of this core that begin elsewhere.
#[derive(Default)]
pub struct Signing {
    /// Made when first needed.
    desk: OnceCell<Rc<Desk>>,
}

struct Desk {
    done: MailboxSender<(u64, Begun)>,
    waiting: RefCell<HashMap<u64, Waiting>>,
    next: Cell<u64>,
}

#[derive(Default)]
struct Waiting {
    waker: Option<Waker>,
    begun: Option<Begun>,
}

/// A place in the list of those who wait, given up when dropped.
struct Turn {
    desk: Rc<Desk>,
    number: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.desk.waiting.borrow_mut().remove(&self.number);
    }
}

impl Signing {
    /// Lets a session take in its first bytes on another thread; `None` if too many wait there.
    ///
    /// # Cancel safety
    /// The session is lost with the future.
    pub(super) async fn begin(&self, session: Session, input: Vec<u8>) -> Option<Begun> {
        let desk = Rc::clone(self.desk.get_or_init(Desk::open));
        let number = desk.next.get();
        desk.next.set(number + 1);
        desk.waiting.borrow_mut().insert(number, Waiting::default());
        let turn = Turn { desk, number };
        let done = turn.desk.done.clone();
        let told = move |begun| {
            // The core is gone, or drowned in answers: whoever waits for this one has a deadline.
            let _ = done.send((number, begun));
        };
        if !signers::begin(session, input, Box::new(told)) {
            return None;
        }
        poll_fn(|cx| {
            let mut waiting = turn.desk.waiting.borrow_mut();
            let Some(mine) = waiting.get_mut(&number) else { return Poll::Ready(None) };
            if let Some(begun) = mine.begun.take() {
                return Poll::Ready(Some(begun));
            }
            mine.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Desk {
    /// Opens the desk: a task hands out what comes back.
    fn open() -> Rc<Self> {
        let (done, mailbox) = rt::mailbox(limits::TLS_SIGNING_WAITING_MAX * 2);
        let desk = Rc::new(Self { done, waiting: RefCell::default(), next: Cell::new(0) });
        let weak = Rc::downgrade(&desk);
        let hand_out = async move {
            while let Some((number, begun)) = mailbox.recv().await {
                let Some(desk) = weak.upgrade() else { return };
                if let Some(waiting) = desk.waiting.borrow_mut().get_mut(&number) {
                    waiting.begun = Some(begun);
                    if let Some(waker) = waiting.waker.take() {
                        waker.wake();
                    }
                }
            }
        };
        rt::spawn_guarded(hand_out, |_| {});
        desk
    }
}
