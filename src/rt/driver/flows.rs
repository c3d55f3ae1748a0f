//! What arrives on a connection, as a queue of buffers that the kernel fills by itself.
//!
//! A receive is armed once and stays so while messages are small: the kernel takes a lent buffer
//! when bytes have come, and reports again and again. What nobody has asked for yet waits here, the
//! end of the stream behind it. So an idle connection holds no buffer, needs no poll, and shows
//! here that its peer has closed.
//!
//! # Nobody eats the buffers
//! A multishot receive that is being fed cannot be cancelled (it is between two tries whenever the
//! cancel looks for it), and would take a buffer for every 32 KiB its peer sends. So it is armed for
//! [`ARMED_BYTES`] in all, which the kernel counts (Linux 6.17); and it is cancelled when
//! [`QUEUED_MAX`] buffers wait, which a peer of many tiny messages reaches first. It is armed again
//! when somebody asks. On kernels without that bound receives are armed one by one.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::task::{Context, Poll, Waker};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::super::buf::{Buf, BufPool};
use super::super::sys;
use super::group::Group;
use super::{Kind, Tag, entry};

/// How receives are made; the best that a kernel offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Receive {
    /// One operation for many messages, of a bounded number of bytes (Linux 6.17).
    #[default]
    Multishot,
    /// An operation for each, into a buffer chosen when the bytes are there (Linux 5.19).
    OneShot,
    /// A wait for readiness, then recv(2).
    Readiness,
}

/// Bytes after which a multishot receive ends. The message that reaches them comes whole, so a
/// connection nobody reads gets no more than this and one buffer.
const ARMED_BYTES: u32 = 64 * 1024;

/// Buffers that may wait to be asked for before a multishot receive is cancelled.
const QUEUED_MAX: usize = 2;

/// What the driver has to do once it has looked at all completions.
pub(super) enum Todo {
    Cancel(Tag),
    Arm(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Eof,
    Failed(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Armed {
    No,
    Once,
    Many,
}

pub(super) struct Flow {
    fd: RawFd,
    group: u16,
    /// Of the last arming; late cancels and completions of others are told apart by it.
    generation: u32,
    armed: Armed,
    is_cancelling: bool,
    /// Somebody wants to read past this queue: do not arm until somebody asks again.
    is_held: bool,
    /// Was never armed. The first receive is made alone: a connection of one message then has nothing
    /// to cancel when it closes.
    is_fresh: bool,
    /// Waits for lent buffers.
    is_starved: bool,
    /// Told that no buffer is to be had.
    is_refused: bool,
    /// [`Receive::Readiness`]: recv(2) may find something.
    is_readable: bool,
    /// The connection is gone; ends with the armed receive.
    is_orphan: bool,
    first: Option<Buf>,
    /// Behind the first, once there were some.
    #[expect(clippy::box_collection, reason = "hardly ever used, and half a line of the cache")]
    more: Option<Box<VecDeque<Buf>>>,
    end: Option<End>,
    waker: Option<Waker>,
}

impl Flow {
    fn push(&mut self, buf: Buf) {
        if self.first.is_none() {
            self.first = Some(buf);
        } else {
            self.more.get_or_insert_default().push_back(buf);
        }
    }

    fn pop(&mut self) -> Option<Buf> {
        let buf = self.first.take()?;
        self.first = self.more.as_mut().and_then(|more| more.pop_front());
        Some(buf)
    }

    fn queued(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.as_ref().map_or(0, |more| more.len())
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.end.is_none() && !self.is_readable
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn tag(&self, index: u32) -> Tag {
        Tag { kind: Kind::Flow, generation: self.generation, index }
    }
}

/// The queues of all connections of a loop, and the buffers they are filled from.
pub(in crate::rt) struct Flows {
    pub(super) receive: Receive,
    flows: slab::Slab<Flow>,
    pools: Vec<BufPool>,
    /// One for each pool; none with [`Receive::Readiness`].
    groups: Vec<Group>,
    starved: Vec<u32>,
    arms: u32,
}

/// What polling a queue asks of the driver.
pub(super) enum Asked {
    Ready(io::Result<Option<Buf>>),
    /// It has to be armed, then waited for.
    Arm,
    Wait,
}

impl Flows {
    pub(super) fn new(receive: Receive) -> Self {
        Self {
            receive,
            flows: slab::Slab::new(),
            pools: Vec::new(),
            groups: Vec::new(),
            starved: Vec::new(),
            arms: 0,
        }
    }

    /// A queue for a connection, not armed.
    pub(super) fn open(&mut self, ring: &IoUring, fd: RawFd, pool: &BufPool) -> io::Result<u32> {
        let group = match self.pools.iter().position(|known| known.is_same(pool)) {
            Some(group) => group,
            None => {
                if self.receive != Receive::Readiness {
                    let id = self.groups.len() as u16;
                    self.groups.push(Group::register(ring, id, pool.clone())?);
                }
                self.pools.push(pool.clone());
                self.pools.len() - 1
            }
        };
        let flow = Flow {
            fd,
            group: group as u16,
            generation: 0,
            armed: Armed::No,
            is_cancelling: false,
            is_held: false,
            is_fresh: true,
            is_starved: false,
            is_refused: false,
            is_readable: false,
            is_orphan: false,
            first: None,
            more: None,
            end: None,
            waker: None,
        };
        Ok(self.flows.insert(flow) as u32)
    }

    fn flow(&mut self, index: u32) -> &mut Flow {
        &mut self.flows[index as usize]
    }

    /// The next buffer, or what has to be done to get one.
    pub(super) fn ask(&mut self, index: u32, cx: &mut Context<'_>) -> Asked {
        let flow = &mut self.flows[index as usize];
        if let Some(buf) = flow.pop() {
            return Asked::Ready(Ok(Some(buf)));
        }
        match flow.end {
            Some(End::Eof) => return Asked::Ready(Ok(None)),
            Some(End::Failed(code)) => {
                return Asked::Ready(Err(io::Error::from_raw_os_error(code)));
            }
            None => {}
        }
        if std::mem::take(&mut flow.is_refused) {
            return Asked::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        if flow.is_readable {
            match receive_now(flow, &self.pools[usize::from(flow.group)]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Asked::Ready(result),
            }
        }
        flow.is_held = false;
        self.wait(index, cx);
        let flow = &self.flows[index as usize];
        if flow.armed == Armed::No && !flow.is_starved { Asked::Arm } else { Asked::Wait }
    }

    fn wait(&mut self, index: u32, cx: &mut Context<'_>) {
        let flow = self.flow(index);
        match &flow.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => flow.waker = Some(cx.waker().clone()),
        }
    }

    /// Waits until there is something to take; `None` where nothing is armed that would tell.
    pub(in crate::rt) fn poll_filled(
        &mut self,
        index: u32,
        cx: &mut Context<'_>,
    ) -> Option<Poll<()>> {
        let flow = self.flow(index);
        if !flow.is_empty() {
            return Some(Poll::Ready(()));
        }
        if flow.armed == Armed::No && !flow.is_starved {
            return None;
        }
        self.wait(index, cx);
        Some(Poll::Pending)
    }

    /// Waits until nothing is armed; what has to be cancelled for that.
    pub(super) fn poll_unarmed(&mut self, index: u32, cx: &mut Context<'_>) -> Poll<Option<Tag>> {
        self.wait(index, cx);
        let flow = self.flow(index);
        flow.is_held = true;
        flow.is_starved = false;
        if flow.armed == Armed::No {
            flow.waker = None;
            return Poll::Ready(None);
        }
        let cancel = !flow.is_cancelling;
        flow.is_cancelling = true;
        if cancel { Poll::Ready(Some(flow.tag(index))) } else { Poll::Pending }
    }

    /// Puts a buffer back in front.
    pub(in crate::rt) fn push_front(&mut self, index: u32, buf: Buf) {
        let flow = self.flow(index);
        if let Some(second) = flow.first.replace(buf) {
            flow.more.get_or_insert_default().push_front(second);
        }
    }

    /// Takes a buffer that has arrived already.
    pub(in crate::rt) fn pop(&mut self, index: u32) -> Option<Buf> {
        self.flow(index).pop()
    }

    /// Whether nothing has arrived, and it would show if it had.
    pub(in crate::rt) fn is_quiet(&self, index: u32) -> bool {
        let flow = &self.flows[index as usize];
        flow.is_empty() && flow.armed != Armed::No
    }

    pub(in crate::rt) fn is_armed(&self, index: u32) -> bool {
        let flow = &self.flows[index as usize];
        flow.armed != Armed::No || flow.is_starved // which is armed again at the next turn
    }

    /// What has arrived: `None` nothing, bytes, the end, or an error.
    pub(in crate::rt) fn arrived(&self, index: u32) -> Option<io::Result<bool>> {
        let flow = &self.flows[index as usize];
        if flow.first.is_some() {
            return Some(Ok(true));
        }
        match flow.end? {
            End::Eof => Some(Ok(false)),
            End::Failed(code) => Some(Err(io::Error::from_raw_os_error(code))),
        }
    }

    /// Whether it has to be armed to notice what arrives.
    pub(super) fn should_listen(&mut self, index: u32) -> bool {
        let flow = self.flow(index);
        flow.is_held = false;
        flow.is_empty() && flow.armed == Armed::No && !flow.is_starved
    }

    /// The entry that arms a queue, and its tag.
    pub(super) fn arm(&mut self, index: u32) -> (squeue::Entry, Tag) {
        self.arms = (self.arms + 1) & Tag::GENERATION_MAX;
        let (generation, receive) = (self.arms, self.receive);
        let flow = self.flow(index);
        flow.generation = generation;
        flow.is_cancelling = false;
        let many = receive == Receive::Multishot && !std::mem::take(&mut flow.is_fresh);
        flow.armed = if many { Armed::Many } else { Armed::Once };
        let fd = types::Fd(flow.fd);
        let entry = match receive {
            Receive::Readiness => opcode::PollAdd::new(fd, libc::POLLIN as u32).build(),
            _ if many => entry::receive_many(fd, flow.group, ARMED_BYTES),
            _ => entry::receive_once(fd, flow.group),
        };
        (entry, flow.tag(index))
    }

    /// A completion of an armed receive.
    pub(super) fn complete(&mut self, tag: Tag, result: i32, flags: u32, todo: &mut Vec<Todo>) {
        let flow = &mut self.flows[tag.index as usize];
        debug_assert_eq!(flow.generation, tag.generation, "one is armed at a time");
        let mut group = self.groups.get_mut(usize::from(flow.group));
        let buf = group.as_mut().and_then(|group| group.take(flags, result));
        if !cqueue::more(flags) {
            flow.armed = Armed::No;
            flow.is_cancelling = false;
        }
        if flow.is_orphan {
            drop(buf);
            if flow.armed == Armed::No {
                self.flows.remove(tag.index as usize);
            }
            return;
        }
        match (result, buf) {
            (1.., Some(buf)) => {
                flow.push(buf);
                if flow.queued() >= QUEUED_MAX && flow.armed == Armed::Many && !flow.is_cancelling {
                    flow.is_cancelling = true;
                    todo.push(Todo::Cancel(tag));
                }
            }
            (1.., None) => flow.is_readable = true, // of a poll
            (0, _) => flow.end = Some(End::Eof),
            (code, _) => match -code {
                libc::ENOBUFS => {
                    if let Some(group) = group {
                        group.ran_out();
                    }
                    flow.is_starved = true;
                    self.starved.push(tag.index);
                    return;
                }
                // Cancelled because too much was queued, or interrupted: whoever asks arms it again.
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                code => flow.end = Some(End::Failed(code)),
            },
        }
        let nothing_came = flow.is_empty();
        if nothing_came && !flow.is_held {
            if flow.waker.is_some() && flow.armed == Armed::No {
                todo.push(Todo::Arm(tag.index)); // the cancel came late: it was asked for again
            }
            return;
        }
        flow.wake();
    }

    /// Whether a cancel that found nothing has to be repeated: the receive was between two tries.
    pub(super) fn is_cancelling(&self, tag: Tag) -> bool {
        self.flows.get(tag.index as usize).is_some_and(|flow| {
            flow.generation == tag.generation && flow.armed != Armed::No && flow.is_cancelling
        })
    }

    /// Lends buffers, and finds those that waited for some: they are to be armed. Where none are to
    /// be had, those who wait are told.
    pub(super) fn lend(&mut self, todo: &mut Vec<Todo>) {
        let Self { groups, flows, starved, .. } = self;
        groups.iter_mut().for_each(Group::fill);
        starved.retain(|index| {
            let Some(flow) = flows.get_mut(*index as usize).filter(|flow| flow.is_starved) else {
                return false;
            };
            if groups[usize::from(flow.group)].has_lent() {
                flow.is_starved = false;
                todo.push(Todo::Arm(*index));
                return false;
            }
            if flow.waker.is_some() {
                flow.is_refused = true;
                flow.is_starved = false;
                flow.wake();
                return false;
            }
            true
        });
    }

    /// The connection is gone. What has to be cancelled.
    pub(super) fn close(&mut self, index: u32) -> Option<Tag> {
        let flow = self.flow(index);
        if flow.armed == Armed::No {
            let flow = self.flows.remove(index as usize);
            drop(flow);
            return None;
        }
        flow.is_orphan = true;
        flow.is_cancelling = true; // also when a cancel is under way: another one is harmless
        flow.first = None;
        flow.more = None;
        flow.waker = None;
        Some(flow.tag(index))
    }

    /// All that is armed.
    pub(super) fn under_way(&mut self) -> impl Iterator<Item = Tag> {
        self.flows.iter_mut().filter(|(_, flow)| flow.armed != Armed::No).map(|(index, flow)| {
            flow.is_held = true;
            flow.is_cancelling = true;
            flow.tag(index as u32)
        })
    }

    /// The kernel forgets the buffers. Nothing is armed any more.
    pub(super) fn unregister(&mut self, ring: &IoUring) {
        self.groups.iter().for_each(|group| group.unregister(ring));
    }
}

/// Takes what recv(2) finds. `WouldBlock` when that is nothing.
fn receive_now(flow: &mut Flow, pool: &BufPool) -> io::Result<Option<Buf>> {
    let Some(mut buf) = pool.take() else {
        return Err(io::ErrorKind::OutOfMemory.into());
    };
    flow.is_readable = false;
    match sys::recv(flow.fd, buf.spare_mut()) {
        Ok(0) => {
            flow.end = Some(End::Eof);
            Ok(None)
        }
        Ok(received) => {
            buf.received(received);
            Ok(Some(buf))
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        Err(error) => {
            if error.kind() != io::ErrorKind::WouldBlock {
                flow.end = error.raw_os_error().map(End::Failed);
            }
            Err(error)
        }
    }
}
