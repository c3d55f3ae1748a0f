//! The `h2` crate's view of a socket: polled reads and writes over our own receives and sends.
//!
//! The crate wants tokio's io traits (not its runtime, of which nothing is linked into a core). Reads
//! copy from the buffer that the ring received into. Writes gather in an outbox; a future of our
//! own sends it, so that a send under way is never dropped, and all that one turn of the connection
//! wrote leaves in one send.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io::{self, ErrorKind, IoSlice},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::places::Places;
use crate::{
    base::limits,
    dataplane::socket::{Broken, Socket},
    proto::h2::{FrameMeter, Refusal, Suspect, Windows},
    rt::{Buf, BufPool, Deadlines},
};

/// Why nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// The peer closed, or the receiving side was shut down.
    Closed,
    /// A deadline passed.
    Expired,
    /// What comes next is refused before the crate sees it.
    Refused(Refusal),
}

impl ReadEnd {
    /// Whether the peer has to be told what it did.
    pub(super) fn is_violation(self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// What the connection and its io know of each other.
#[derive(Default)]
pub(super) struct Shared {
    outbox: RefCell<Vec<u8>>,
    /// Bytes are with the kernel.
    is_sending: Cell<bool>,
    is_broken: Cell<bool>,
    /// No more will be written.
    is_closed: Cell<bool>,
    writer: Cell<Option<Waker>>,
    crate_side: Cell<Option<Waker>>,
    /// Why reading has ended.
    pub(super) read_end: Cell<Option<ReadEnd>>,
    /// All that has come was read, in a turn in which nothing more will be looked for.
    pub(super) is_drained: Cell<bool>,
    /// Keeps the end of reading from the crate, so that it can still say goodbye.
    pub(super) holds_end: Cell<bool>,
    /// Something was read since this was last looked at.
    pub(super) was_heard: Cell<bool>,
    /// The first frame has come.
    pub(super) has_begun: Cell<bool>,
    /// The header block that has begun and is not here as a whole.
    pub(super) unfinished_head: Cell<Option<u32>>,
    /// What the peer takes.
    pub(super) windows: Cell<Windows>,
    /// Small frames that wait are to be put together before more is read.
    pub(super) gathers: Cell<bool>,
    /// The requests under way, where the peer is an endpoint.
    pub(super) streams: RefCell<Places>,
    /// Streams whose request is malformed, and that the crate has not given out, where it is a client.
    refused: RefCell<Vec<u32>>,
}

impl Shared {
    fn wake_writer(&self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    fn wake_crate(&self) {
        if let Some(waker) = self.crate_side.take() {
            waker.wake();
        }
    }

    /// Refuses what breaks the rules, before the crate sees what does: so it passes over all that comes on that
    /// stream, and minds its window.
    #[cold]
    fn judge(&self, suspect: Suspect) {
        let number = match suspect {
            Suspect::Malformed(number) | Suspect::Headless(number) => number,
            Suspect::Request(number) => return self.refused.borrow_mut().push(number),
        };
        let stream = self.streams.borrow().find(number);
        let Some(stream) = stream else { return };
        if suspect == Suspect::Malformed(number) || stream.awaits_head() {
            stream.refuse();
        }
    }

    /// Whether the request of a stream that the crate gives out is one to be refused. It gives them out in order, so that those
    /// before it will not come any more.
    pub(super) fn is_refused(&self, stream: u32) -> bool {
        let mut refused = self.refused.borrow_mut();
        let is_refused = refused.contains(&stream);
        refused.retain(|one| *one > stream);
        is_refused
    }

    /// Whether all that was written has been sent, or never will be.
    fn is_flushed(&self) -> bool {
        self.is_broken.get() || (self.outbox.borrow().is_empty() && !self.is_sending.get())
    }

    /// Ends the sender when it has sent what is there.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        self.wake_writer();
    }

    /// Gives the memory of an idle connection back.
    pub(super) fn trim(&self) {
        if let Ok(mut outbox) = self.outbox.try_borrow_mut()
            && outbox.is_empty()
        {
            *outbox = Vec::new();
        }
    }
}

/// Sends what is written, as long as the connection lives.
///
/// # Cancel safety
/// Not cancel safe: a part may have been sent. To end it, shut the socket down.
pub(super) async fn send_all(socket: Rc<Socket>, shared: Rc<Shared>, within: Duration, tag: u8) {
    let mut bytes = Vec::new();
    while poll_fn(|cx| poll_take(&shared, &mut bytes, cx)).await {
        socket.write_within(within, tag);
        let sent = socket.send_bytes(&mut bytes).await;
        socket.write_without_deadline();
        bytes.clear();
        if bytes.capacity() > limits::H2_OUTBOX_BYTES_KEPT {
            bytes = Vec::new();
        }
        shared.is_sending.set(false);
        if sent.is_err() {
            shared.is_broken.set(true);
            socket.shutdown(); // what is being read has no answer any more
        }
        shared.wake_crate();
        if sent.is_err() {
            return;
        }
    }
}

/// Swaps what was written with the empty `bytes`; false when there will be no more.
fn poll_take(shared: &Shared, bytes: &mut Vec<u8>, cx: &Context<'_>) -> Poll<bool> {
    let mut outbox = shared.outbox.borrow_mut();
    if !outbox.is_empty() {
        std::mem::swap(&mut *outbox, bytes);
        shared.is_sending.set(true);
        return Poll::Ready(true);
    }
    if shared.is_closed.get() {
        return Poll::Ready(false);
    }
    shared.writer.set(Some(cx.waker().clone()));
    Poll::Pending
}

/// The socket as the crate sees it.
pub(super) struct Io {
    socket: Rc<Socket>,
    pool: BufPool,
    deadlines: Deadlines,
    /// Received and not read by the crate yet.
    input: Option<Buf>,
    /// What goes before it.
    front: Vec<u8>,
    /// Nothing is read behind it, for this reason.
    ends_after_input: Option<ReadEnd>,
    meter: FrameMeter,
    shared: Rc<Shared>,
}

impl Io {
    /// `input` is what was received before; frames begin after `preface_bytes`.
    pub(super) fn new(
        socket: Rc<Socket>,
        pool: &BufPool,
        deadlines: &Deadlines,
        input: Option<Buf>,
        preface_bytes: usize,
        shared: Rc<Shared>,
    ) -> Self {
        let mut io = Self {
            socket,
            pool: pool.clone(),
            deadlines: deadlines.clone(),
            input,
            front: Vec::new(),
            ends_after_input: None,
            meter: FrameMeter::new(preface_bytes, deadlines.now_tick()),
            shared,
        };
        io.measure();
        io
    }

    /// Looks at what was received, and takes out what the crate need not see, or must not.
    fn measure(&mut self) {
        let Some(buf) = &mut self.input else { return };
        let passed = self.meter.pass(buf.data_mut(), self.deadlines.now_tick());
        self.shared.has_begun.set(self.meter.has_begun());
        self.shared.unfinished_head.set(self.meter.unfinished_head());
        self.shared.windows.set(self.meter.windows());
        if self.meter.take_small() {
            self.shared.gathers.set(true);
        }
        while let Some(suspect) = self.meter.take_suspect() {
            self.shared.judge(suspect);
        }
        self.meter.forget_unless(|number| self.shared.streams.borrow().find(number).is_some());
        self.front = self.meter.take_front();
        let has_many = self.shared.refused.borrow().len() > limits::H2_REFUSED_MAX;
        let refusal = passed.refusal.or(has_many.then_some(Refusal::Flood));
        self.ends_after_input = refusal.map(ReadEnd::Refused);
        buf.truncate(passed.kept);
        if buf.is_empty() {
            self.input = None;
        }
    }

    /// Gives out what goes before the input.
    #[cold]
    fn read_front(&mut self, out: &mut ReadBuf<'_>) {
        let count = self.front.len().min(out.remaining());
        out.put_slice(&self.front[..count]);
        self.front.drain(..count);
    }

    /// Receives the next bytes; `Ok(false)` at the end.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Broken>> {
        // Cancel safe: what arrives is there for the next call.
        let received = {
            let fill = pin!(self.socket.fill(&mut self.input, &self.pool));
            ready!(fill.poll(cx))
        };
        Poll::Ready(received.map(|count| count > 0))
    }

    fn end(&self, end: ReadEnd) -> Poll<io::Result<()>> {
        if self.shared.read_end.get().is_none() {
            self.shared.read_end.set(Some(end));
        }
        if self.shared.holds_end.get() || end.is_violation() {
            return Poll::Pending; // the connection looks at `read_end` after each turn
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(end) = this.shared.read_end.get() {
            return this.end(end);
        }
        let buf = loop {
            if !this.front.is_empty() {
                this.read_front(out);
                return Poll::Ready(Ok(()));
            }
            if let Some(buf) = &mut this.input {
                break buf;
            }
            if let Some(end) = this.ends_after_input {
                return this.end(end);
            }
            if this.shared.is_drained.get() {
                return Poll::Pending; // who reads was noted when that was found out
            }
            if this.shared.gathers.get() {
                return Poll::Pending; // the connection looks at it after each turn
            }
            match ready!(this.poll_input(cx)) {
                Ok(true) => {}
                Ok(false) | Err(Broken::Reset | Broken::NoBuffer) => {
                    return this.end(ReadEnd::Closed);
                }
                Err(Broken::Deadline(_)) => return this.end(ReadEnd::Expired),
            }
            this.shared.was_heard.set(true);
            this.measure();
        };
        let count = buf.len().min(out.remaining());
        out.put_slice(&buf.data()[..count]);
        buf.consume(count);
        if buf.is_empty() {
            this.input = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let shared = &self.shared;
        if shared.is_broken.get() {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let mut outbox = shared.outbox.borrow_mut();
        if outbox.len() >= limits::H2_OUTBOX_BYTES_MAX {
            shared.crate_side.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        let mut count = 0;
        for slice in slices {
            let room = limits::H2_OUTBOX_BYTES_MAX - outbox.len();
            let taken = slice.len().min(room);
            outbox.extend_from_slice(&slice[..taken]);
            count += taken;
        }
        drop(outbox);
        shared.wake_writer();
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing to do: what was written is sent without being asked. The bound on the outbox is the
    /// back-pressure.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shared.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        self.shared.crate_side.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}
