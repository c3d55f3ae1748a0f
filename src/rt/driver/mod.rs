//! The ring of one core: what is put to the kernel, and who hears when it is done.
//!
//! Everything that tasks begin in one turn is submitted with the system call that also asks for
//! completions, and waits if there is nothing to do. What happens to a completion is in [`ops`]
//! (operations that end with it) and [`flows`] (receives that go on).
//!
//! # Identity
//! Each entry carries a [`Tag`]: kind, place, generation. A place is not given to another before the
//! last completion of its operation has arrived, so no completion can reach a stranger. A cancel
//! can arrive after what it was meant for; it names the generation and finds nothing.
//!
//! Entries name descriptors by number. So a descriptor is closed only when all entries that name it
//! have been submitted, from where on the kernel knows the file itself: see [`Driver::submit_up_to`].
#![allow(unsafe_code)]

mod alarm;
mod entry;
mod flows;
mod group;
mod ops;
mod trial;

use std::io;
use std::os::fd::RawFd;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};

use self::alarm::Alarm;
use self::flows::{Asked, Flows, Todo};
use self::ops::Ops;
use super::buf::{Buf, BufPool};
use super::drivers::AnyDriver;
use super::probe::RingFlags;

pub use self::flows::Receive;
pub(super) use self::ops::{Held, Left, Loan, Op};

/// `IORING_ENTER_GETEVENTS` in linux/io_uring.h.
const ENTER_GETEVENTS: u32 = 1;

/// Completions of a turn, and tasks that are ready, up to which an entry of the ring is not worth it for
/// a send: its own completion, and one more turn for that, cost more than a system call. With more of
/// them a batch is cheaper.
pub(super) const CALM_MAX: usize = 4;

/// What an entry of the ring belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag {
    kind: Kind,
    generation: u32,
    index: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Op,
    CancelOp,
    Flow,
    CancelFlow,
    Alarm,
    CancelAlarm,
}

impl Tag {
    /// Generations have 29 bits, kinds three.
    const GENERATION_MAX: u32 = (1 << 29) - 1;

    fn pack(self) -> u64 {
        let kind = self.kind as u64;
        kind << 61 | u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn unpack(data: u64) -> Self {
        let kind = match data >> 61 {
            0 => Kind::Op,
            1 => Kind::CancelOp,
            2 => Kind::Flow,
            3 => Kind::CancelFlow,
            4 => Kind::Alarm,
            _ => Kind::CancelAlarm,
        };
        let generation = (data >> 32) as u32 & Self::GENERATION_MAX;
        Self { kind, generation, index: data as u32 }
    }

    /// The tag of the entry that cancels this one.
    fn cancel(self) -> Self {
        let kind = match self.kind {
            Kind::Op | Kind::CancelOp => Kind::CancelOp,
            Kind::Flow | Kind::CancelFlow => Kind::CancelFlow,
            Kind::Alarm | Kind::CancelAlarm => Kind::CancelAlarm,
        };
        Self { kind, ..self }
    }

    /// What an entry that cancels is meant for.
    fn target(self) -> Self {
        let kind = match self.kind {
            Kind::Op | Kind::CancelOp => Kind::Op,
            Kind::Flow | Kind::CancelFlow => Kind::Flow,
            Kind::Alarm | Kind::CancelAlarm => Kind::Alarm,
        };
        Self { kind, ..self }
    }
}

/// The ring of a loop and all that is under way on it.
pub(super) struct Driver {
    ring: IoUring,
    /// Of the loop, unique in the process: what belongs to another loop is told by it.
    pub(super) number: u32,
    ops: Ops,
    flows: Flows,
    alarm: Alarm,
    todo: Vec<Todo>,
    /// Entries ever put into the queue, and how many of them the kernel has.
    pushed: u64,
    submitted: u64,
    /// Entries whose last completion has not arrived.
    under_way: u64,
    /// Sends that may still be done without the ring in this turn.
    calm: usize,
}

impl Driver {
    /// Sets up a ring, with receives as good as asked for and as the kernel has them.
    pub(super) fn new(flags: RingFlags, entries: u32, receive: Receive) -> io::Result<Self> {
        let mut ring = flags.builder(entries).build(entries)?;
        let receive = trial::receive(&mut ring, receive)?;
        Ok(Self {
            ring,
            number: AnyDriver::next_number(),
            ops: Ops::default(),
            flows: Flows::new(receive),
            alarm: Alarm::default(),
            todo: Vec::new(),
            pushed: 0,
            submitted: 0,
            under_way: 0,
            calm: 0,
        })
    }

    /// Puts an entry into the queue; its number, for [`Driver::submit_up_to`].
    fn push(&mut self, entry: squeue::Entry, tag: Tag) -> u64 {
        let entry = entry.user_data(tag.pack());
        // WHY UNSAFE: the crate can't know that what an entry points to lives long enough.
        // SAFETY: buffers of operations: see `ops::Loan` and the head of that file; lent buffers: see
        // `Group`; the other entries point to nothing.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.submit(); // full
        }
        self.pushed += 1;
        self.under_way += 1;
        self.pushed
    }

    /// Asks the kernel to end an operation. Its completion tells.
    fn cancel(&mut self, tag: Tag) {
        let entry = opcode::AsyncCancel::new(tag.target().pack()).build();
        self.push(entry, tag.cancel());
    }

    /// Makes sure that the kernel has the entry with this number, and all before it. Then what they
    /// name is theirs: the descriptor's number may be used again.
    pub(super) fn submit_up_to(&mut self, number: u64) {
        while self.submitted < number {
            self.submit();
        }
    }

    /// Gives the kernel what is in the queue, now.
    fn submit(&mut self) {
        match self.enter(0, None) {
            Ok(()) => {}
            // The kernel wants completions to be taken first.
            Err(error) if is_transient(&error) => self.reap(),
            // A ring that takes nothing any more: going on would be to wait for ever.
            Err(error) => panic!("io_uring_enter: {error}"),
        }
    }

    fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        let count = self.ring.submission().len() as u32;
        let submitter = self.ring.submitter();
        let entered = match timeout {
            Some(timeout) if want > 0 => {
                let timespec = types::Timespec::from(timeout);
                let arguments = types::SubmitArgs::new().timespec(&timespec);
                submitter.submit_with_args(want as usize, &arguments)
            }
            // WHY UNSAFE: without a wait the crate's calls do not ask for completions, and with
            // DEFER_TASKRUN then none arrive.
            // SAFETY: what is submitted is sound (see `push`); there is no argument.
            _ => unsafe { submitter.enter(count, want, ENTER_GETEVENTS, None::<&libc::sigset_t>) },
        };
        // Counted by what is left, as an error may come after a part was taken.
        let left = self.ring.submission().len() as u64;
        self.submitted = self.pushed - left;
        entered.map(drop)
    }

    /// Submits, waits if nobody has anything to do and nothing has arrived, and wakes those whose
    /// operations have ended. Asked late, as lending buffers may wake somebody. Says whether the time
    /// of a sleeper may have come, of whom `first` is the first.
    ///
    /// # Errors
    /// When the ring itself fails; nothing can go on then.
    pub(super) fn turn(
        &mut self,
        is_idle: impl Fn() -> bool,
        first: Option<Instant>,
    ) -> io::Result<bool> {
        self.flows.lend(&mut self.todo);
        self.work_off();
        self.set_alarm(first);
        let want = u32::from(is_idle() && self.ring.completion().is_empty());
        match self.enter(want, None) {
            Err(error) if !is_transient(&error) => return Err(error),
            _ => {}
        }
        self.reap();
        self.work_off();
        Ok(self.alarm.take_rung())
    }

    /// Whether a send is better done at once than with the ring. Bounded in each turn, also so that
    /// nobody goes on for ever without one.
    pub(super) fn take_calm(&mut self) -> bool {
        let is_calm = self.calm > 0;
        self.calm = self.calm.saturating_sub(1);
        is_calm
    }

    /// Sets the alarm, unless it rings in time as it is.
    fn set_alarm(&mut self, first: Option<Instant>) {
        let Some(at) = first.filter(|at| self.alarm.is_later_than(*at)) else { return };
        self.submit_up_to(self.alarm.number);
        if let Some(later) = self.alarm.under_way() {
            self.cancel(later);
        }
        let (entry, tag) = self.alarm.set(at, Instant::now());
        self.alarm.number = self.push(entry, tag);
    }

    /// Looks at all completions.
    fn reap(&mut self) {
        let Self { ring, ops, flows, alarm, todo, under_way, calm, .. } = self;
        let completions = ring.completion();
        *calm = if completions.len() <= CALM_MAX { CALM_MAX } else { 0 };
        for completion in completions {
            let (result, flags) = (completion.result(), completion.flags());
            let tag = Tag::unpack(completion.user_data());
            if !io_uring::cqueue::more(flags) {
                *under_way -= 1;
            }
            match tag.kind {
                Kind::Op => ops.complete(tag, result),
                Kind::Flow => flows.complete(tag, result, flags, todo),
                // A cancel that found nothing: it came late, or between two tries of the operation.
                Kind::CancelOp if result < 0 && ops.is_abandoned(tag) => {
                    todo.push(Todo::Cancel(tag.target()));
                }
                Kind::CancelFlow if result < 0 && flows.is_cancelling(tag) => {
                    todo.push(Todo::Cancel(tag.target()));
                }
                Kind::CancelOp | Kind::CancelFlow | Kind::CancelAlarm => {}
                Kind::Alarm => alarm.complete(tag),
            }
        }
    }

    fn work_off(&mut self) {
        while let Some(todo) = self.todo.pop() {
            match todo {
                Todo::Cancel(tag) => self.cancel(tag),
                Todo::Arm(index) => {
                    self.arm(index);
                }
            }
        }
    }

    fn arm(&mut self, index: u32) -> u64 {
        let (entry, tag) = self.flows.arm(index);
        self.push(entry, tag)
    }

    /// A queue for what arrives on a connection.
    ///
    /// # Errors
    /// When the kernel does not take the ring of buffers.
    pub(super) fn open_flow(&mut self, fd: RawFd, pool: &BufPool) -> io::Result<u32> {
        self.flows.open(&self.ring, fd, pool)
    }

    /// The next buffer of a queue. The number is that of the entry it was armed with just now.
    pub(super) fn poll_flow(
        &mut self,
        index: u32,
        cx: &mut Context<'_>,
    ) -> (Poll<io::Result<Option<Buf>>>, Option<u64>) {
        match self.flows.ask(index, cx) {
            Asked::Ready(result) => (Poll::Ready(result), None),
            Asked::Wait => (Poll::Pending, None),
            Asked::Arm => (Poll::Pending, Some(self.arm(index))),
        }
    }

    /// Arms a queue that nobody waits at, so that it shows what arrives.
    pub(super) fn listen_flow(&mut self, index: u32) -> Option<u64> {
        self.flows.should_listen(index).then(|| self.arm(index))
    }

    /// Ready when the queue is not armed: from then on nothing is received but by other ways.
    pub(super) fn poll_unarmed(&mut self, index: u32, cx: &mut Context<'_>) -> Poll<()> {
        match self.flows.poll_unarmed(index, cx) {
            Poll::Ready(None) => Poll::Ready(()),
            Poll::Ready(Some(tag)) => {
                self.cancel(tag);
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Ends a queue, and cancels what is under way for it.
    pub(super) fn close_flow(&mut self, index: u32) {
        if let Some(tag) = self.flows.close(index) {
            self.cancel(tag);
        }
    }

    /// The queues, for what needs no entry.
    pub(super) fn flows(&mut self) -> &mut Flows {
        &mut self.flows
    }

    /// Cancels all that is under way and waits until it has ended, so that the kernel uses no
    /// memory of ours any more.
    pub(super) fn end_all(&mut self) {
        for round in 0..100 {
            self.todo.clear();
            let all = self.ops.under_way().chain(self.flows.under_way());
            let tags: Vec<Tag> = all.chain(self.alarm.under_way()).collect();
            tags.into_iter().for_each(|tag| self.cancel(tag));
            let entered = self.enter(u32::from(round > 0), Some(Duration::from_millis(100)));
            self.reap();
            if self.under_way == 0 {
                self.flows.unregister(&self.ring);
                return;
            }
            if entered.is_err_and(|error| !is_transient(&error)) {
                break;
            }
        }
        // Freeing buffers that the kernel may write to would be worse than ending here.
        eprintln!("ringway: {} ring operations do not end", self.under_way);
        std::process::abort();
    }
}

/// Whether asking again may help.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN | libc::ENOMEM)
    )
}
