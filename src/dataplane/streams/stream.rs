//! A stream as a socket: what reads as HTTP/1 text, and takes it.

use std::{
    cell::{Cell, Ref, RefCell},
    future::poll_fn,
    rc::{Rc, Weak},
    task::{Context, Poll},
};

use ::h2::{RecvStream, client::SendRequest, server::SendResponse};

use super::{
    chunk::Chunk,
    held::Held,
    link::LinkGuard,
    reading::{ReadFailure, Reading},
    writing::{Text, WriteFailure, Writing},
};
use crate::{
    dataplane::socket::Broken,
    proto::h1::Framing,
    rt::{Buf, BufPool, Deadline, Deadlines, Handle, Latch},
};

/// A stream of an HTTP/2 connection. Its two sides are used by one task.
pub struct Stream {
    // The deadlines go before the latch they shut.
    read_deadline: Deadline,
    write_deadline: Deadline,
    latch: Latch,
    reading: RefCell<Reading>,
    writing: RefCell<Writing>,
    /// Where what is written comes from, if that is a stream too.
    source: RefCell<Weak<Stream>>,
    /// Counts it as one of its connection's, where that is ours.
    guard: Option<LinkGuard>,
}

impl Stream {
    fn new(
        reading: Reading,
        writing: Writing,
        guard: Option<LinkGuard>,
        deadlines: &Deadlines,
    ) -> Self {
        let latch = deadlines.latches().add();
        Self {
            read_deadline: deadlines.register_latch(&latch),
            write_deadline: deadlines.register_latch(&latch),
            latch,
            reading: RefCell::new(reading),
            writing: RefCell::new(writing),
            source: RefCell::default(),
            guard,
        }
    }

    /// A client's request, whose head is `text`. `Framing::UntilClose` is that of a tunnel.
    pub(super) fn served(
        (text, pool): (&[u8], &BufPool),
        framing: Framing,
        to_head: bool,
        (body, respond): (RecvStream, SendResponse<Chunk>),
        held: Rc<Held>,
        deadlines: &Deadlines,
    ) -> Self {
        let reading = match framing {
            Framing::UntilClose => Reading::of_tunnel(text.to_vec(), body),
            framing => Reading::of_request(text, pool, framing, body),
        };
        Self::new(reading, Writing::response(respond, to_head, held), None, deadlines)
    }

    /// A request to an endpoint that is yet to be written.
    pub(super) fn asking(
        link: SendRequest<Chunk>,
        is_https: bool,
        guard: LinkGuard,
        deadlines: &Deadlines,
    ) -> Self {
        let writing = Writing::request(link, is_https);
        Self::new(Reading::of_response(), writing, Some(guard), deadlines)
    }

    /// Of two streams that answer each other each passes the other one's trailers on, even beside a length.
    pub fn pair(one: &Rc<Self>, other: &Rc<Self>) {
        *one.source.borrow_mut() = Rc::downgrade(other);
        *other.source.borrow_mut() = Rc::downgrade(one);
    }

    /// The deadline of the next read.
    pub fn read_deadline(&self) -> &Deadline {
        &self.read_deadline
    }

    /// The deadline of the next write.
    pub fn write_deadline(&self) -> &Deadline {
        &self.write_deadline
    }

    /// What to shut from elsewhere on this core.
    pub fn handle(&self) -> Handle {
        Handle::Latch(self.latch.id())
    }

    /// Ends both directions at once.
    pub fn shutdown(&self) {
        self.latch.shut();
    }

    /// Whether its client has asked for a tunnel.
    pub fn is_tunnel(&self) -> bool {
        self.reading.borrow().is_tunnel()
    }

    /// Whether a response may still be there although a request could not be sent.
    pub fn is_expecting(&self) -> bool {
        self.reading.borrow().is_expecting()
    }

    /// Whether the endpoint has promised that it processed nothing.
    pub fn is_refused(&self) -> bool {
        self.reading.borrow().is_refused
    }

    /// Whether the endpoint itself has reset the stream, after it had looked at the request.
    pub fn is_reset(&self) -> bool {
        self.reading.borrow().is_reset
    }

    /// Whether what the peer has sent breaks the rules.
    pub fn is_malformed(&self) -> bool {
        self.reading.borrow().is_malformed
    }

    /// Whether the endpoint takes extended CONNECT; waits until it has said what it takes.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn offers_tunnels(&self) -> bool {
        let Some(guard) = &self.guard else { return false };
        guard.has_settings().await;
        self.writing.borrow().offers_tunnels()
    }

    /// Puts small pieces of a body that wait together.
    #[cold]
    pub(super) fn gather(&self) {
        if self.reading.borrow_mut().gather().is_err() {
            self.latch.wake(); // the crate would not wake who waits
        }
    }

    /// Of a request: its number, once it has one.
    pub(super) fn number(&self) -> Option<u32> {
        self.writing.borrow().number()
    }

    /// Of a request: whether no head of its response has been seen here.
    pub(super) fn awaits_head(&self) -> bool {
        self.reading.borrow().awaits_head()
    }

    /// What the peer sends breaks the rules: resets the stream, and has whoever waits for it learn so.
    #[cold]
    pub(super) fn refuse(&self) {
        self.reading.borrow_mut().refuse();
        self.writing.borrow_mut().refuse();
        self.latch.wake();
    }

    /// Of a request: the tick since which its client takes nothing of the response.
    pub(super) fn stalled_tick(&self) -> Option<u64> {
        self.source.borrow().upgrade()?.writing.borrow().stalled_tick()
    }

    /// Has the time be over that the client of a request has to take something.
    pub(super) fn give_up(&self) {
        if let Some(client) = self.source.borrow().upgrade() {
            client.writing.borrow_mut().note_given_up();
            client.write_deadline.hasten();
        }
    }

    /// Ready when the peer has reset the stream, or its connection has ended, before all of our
    /// message was sent.
    pub fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.writing.borrow_mut().poll_reset(cx)
    }

    /// Ends a tunnel in order.
    pub fn end_write(&self) {
        self.writing.borrow_mut().end();
    }

    /// As [`crate::dataplane::socket::Socket::fill`].
    ///
    /// # Cancel safety
    /// Cancel safe: what has arrived is there for the next call.
    pub async fn fill(&self, slot: &mut Option<Buf>, pool: &BufPool) -> Result<usize, Broken> {
        poll_fn(|cx| self.poll_fill(cx, slot, pool, usize::MAX)).await
    }

    /// As [`crate::dataplane::socket::Socket::fill_at_most`].
    ///
    /// # Cancel safety
    /// As [`Stream::fill`].
    pub async fn fill_at_most(
        &self,
        slot: &mut Option<Buf>,
        pool: &BufPool,
        max: &Cell<usize>,
    ) -> Result<usize, Broken> {
        poll_fn(|cx| self.poll_fill(cx, slot, pool, max.get())).await
    }

    fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        slot: &mut Option<Buf>,
        pool: &BufPool,
        max: usize,
    ) -> Poll<Result<usize, Broken>> {
        if self.latch.is_read_shut() {
            return Poll::Ready(
                self.read_deadline.fired().map_or(Ok(0), |tag| Err(Broken::Deadline(tag))),
            );
        }
        let filled = self.reading.borrow_mut().poll_fill(cx, slot, pool, max);
        if filled.is_pending() {
            self.latch.wait(cx);
        }
        if filled == Poll::Ready(Err(ReadFailure::Reset)) && self.is_malformed() {
            self.writing.borrow_mut().refuse();
        }
        filled.map_err(|failure| match failure {
            ReadFailure::NoBuffer => Broken::NoBuffer,
            ReadFailure::Reset => Broken::Reset,
        })
    }

    /// As [`crate::dataplane::socket::Socket::is_pressed`].
    pub fn is_pressed(&self) -> bool {
        self.writing.borrow().is_pressed()
    }

    /// As [`crate::dataplane::socket::Socket::poll_room`].
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
        if self.latch.is_write_shut() {
            return Poll::Ready(Err(self.broken_write()));
        }
        let room = self.writing.borrow_mut().poll_room(cx);
        if room.is_pending() {
            self.count_behind();
            self.latch.wait(cx);
        }
        room.map_err(|WriteFailure| {
            self.writing.borrow_mut().fail();
            self.broken_write()
        })
    }

    /// As [`crate::dataplane::socket::Socket::leave_room`].
    pub fn leave_room(&self) {
        self.writing.borrow_mut().leave_room();
    }

    /// As [`crate::dataplane::socket::Socket::send`].
    ///
    /// # Cancel safety
    /// Not cancel safe: a part may have been sent.
    pub async fn send(&self, slot: &mut Option<Buf>, count: usize) -> Result<(), Broken> {
        let mut left = count;
        loop {
            let taken = self.take(Text::Pooled(slot, left))?;
            left -= taken;
            if let Some(buf) = slot {
                buf.consume(taken);
                if buf.is_empty() {
                    *slot = None;
                }
            }
            self.flush().await?;
            if left == 0 && !self.writing.borrow().has_more() {
                return Ok(());
            }
        }
    }

    /// As [`crate::dataplane::socket::Socket::send_bytes`].
    ///
    /// # Cancel safety
    /// Not cancel safe: a part may have been sent.
    pub async fn send_bytes(&self, bytes: &mut [u8]) -> Result<(), Broken> {
        let mut at = 0;
        loop {
            at += self.take(Text::Slice(&mut bytes[at..]))?;
            self.flush().await?;
            if at == bytes.len() && !self.writing.borrow().has_more() {
                return Ok(());
            }
        }
    }

    fn take(&self, text: Text<'_>) -> Result<usize, Broken> {
        if self.latch.is_write_shut() {
            return Err(self.broken_write());
        }
        let mut writing = self.writing.borrow_mut();
        let source = self.source.borrow().upgrade();
        let trailers = source
            .as_ref()
            .and_then(|source| Ref::filter_map(source.reading.borrow(), Reading::last_chunk).ok());
        let ready = trailers.map_or(Ok(()), |last_chunk| writing.end_with(&last_chunk));
        let taken = ready.and_then(|()| writing.take(text));
        match taken {
            Ok((taken, None)) => Ok(taken),
            Ok((taken, Some(asked))) => {
                self.reading.borrow_mut().await_response(asked.future, asked.to_head, asked.tunnel);
                self.latch.wake();
                Ok(taken)
            }
            Err(WriteFailure) => {
                writing.fail();
                Err(self.broken_write())
            }
        }
    }

    /// Waits until the connection has taken what waits.
    async fn flush(&self) -> Result<(), Broken> {
        let sent = poll_fn(|cx| {
            if self.latch.is_write_shut() {
                return Poll::Ready(Err(WriteFailure));
            }
            let sent = self.writing.borrow_mut().poll_waiting(cx);
            if sent.is_pending() {
                self.count_behind();
                self.latch.wait(cx);
            }
            sent
        });
        sent.await.map_err(|WriteFailure| {
            self.writing.borrow_mut().fail();
            self.broken_write()
        })
    }

    /// Of what the endpoint answers, as much as there is window for may be here soon.
    #[cold]
    fn count_behind(&self) {
        let source = self.source.borrow().upgrade();
        let behind = source.map_or(0, |source| source.reading.borrow().may_wait());
        self.writing.borrow_mut().count_behind(behind, self.write_deadline.now_tick());
    }

    /// Why a write that failed did so.
    fn broken_write(&self) -> Broken {
        self.write_deadline.fired().map_or(Broken::Reset, Broken::Deadline)
    }
}
