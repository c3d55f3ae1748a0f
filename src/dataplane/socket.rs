//! A socket with its two deadlines: what both sides of the proxy read from and write to.
//!
//! What bytes travel through is a [`Transport`]; nobody above this file knows which one it is. A new
//! one is a variant, and an arm in each method here.

mod tls;

use std::{
    cell::Cell,
    future::poll_fn,
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

pub use self::tls::HandshakeEnd;
use self::tls::Tls;
use super::{signing::Signing, streams};
use crate::{
    rt::{Buf, BufPool, Deadline, Deadlines, Handle, PeerState, Shut, Stream},
    tls::{
        Alpn, ServerTls, Session, alert,
        hello::{Hello, Look},
        signers::Begun,
    },
};

/// Why reading or writing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The deadline of this direction passed; the tag tells which one it was.
    Deadline(u8),
    /// The peer reset the connection, or the socket failed otherwise.
    Reset,
    /// No buffer is free on this core.
    NoBuffer,
}

/// A connected socket. Reading and writing have a deadline each, because an upload and its response
/// move at the same time.
pub struct Socket {
    transport: Transport,
}

/// What bytes travel through.
enum Transport {
    /// TCP, as it is or with TLS in it.
    Tcp(Wire, Option<Box<Tls>>),
    /// A stream of an HTTP/2 connection, which reads and takes the text of HTTP/1.
    Stream(Rc<streams::Stream>),
}

/// A TCP connection under the deadlines of its core. They go before the stream, so that none can
/// fire on a stranger's descriptor.
struct Wire {
    read_deadline: Deadline,
    write_deadline: Deadline,
    stream: Stream,
}

impl Socket {
    /// Takes the stream under the deadlines of this core.
    pub fn new(stream: Stream, deadlines: &Deadlines) -> Self {
        Self { transport: Transport::Tcp(Wire::new(stream, deadlines), None) }
    }

    /// A stream of an HTTP/2 connection.
    pub fn of_stream(stream: Rc<streams::Stream>) -> Self {
        Self { transport: Transport::Stream(stream) }
    }

    /// Whether this is a stream whose client has asked for a tunnel.
    pub fn is_tunnel(&self) -> bool {
        matches!(&self.transport, Transport::Stream(stream) if stream.is_tunnel())
    }

    /// Has the trailers of each of two streams that answer each other pass to the other one.
    pub fn pair(one: &Self, other: &Self) {
        if let (Transport::Stream(one), Transport::Stream(other)) =
            (&one.transport, &other.transport)
        {
            streams::Stream::pair(one, other);
        }
    }

    fn tls(&self) -> Option<&Tls> {
        match &self.transport {
            Transport::Tcp(_, tls) => tls.as_deref(),
            Transport::Stream(_) => None,
        }
    }

    /// Begins TLS as the end that is connected to, and goes on until the handshake has ended, or the
    /// client has sent early data. Reads must have a deadline. Plaintext that came with the last
    /// flight is in `input` afterwards, as are the bytes of a client that speaks plain HTTP.
    /// Returns the name that the client asked for.
    ///
    /// # Errors
    /// [`HandshakeEnd`], after which nothing can be read; an answer can be sent only to a client
    /// that speaks plain HTTP.
    ///
    /// # Cancel safety
    /// Not cancel safe: only drop it with the socket.
    pub async fn accept_tls(
        &mut self,
        with: &ServerTls,
        pool: &BufPool,
        signing: &Signing,
        input: &mut Option<Buf>,
    ) -> Result<Option<Box<str>>, HandshakeEnd> {
        let mut look = Look::default();
        let asked = loop {
            match look.look(input.as_ref().map_or(&[], Buf::data)) {
                Hello::Whole(asked) => break asked,
                Hello::Http => return Err(HandshakeEnd::PlainHttp),
                Hello::Other(description) => {
                    self.alert(description);
                    return Err(HandshakeEnd::NotTls);
                }
                Hello::Partial => {}
            }
            if let Some(buf) = input
                && buf.spare() == 0
                && let Err(end) = tls::make_room(buf)
            {
                self.alert(alert::DECODE_ERROR);
                return Err(end);
            }
            match self.fill(input, pool).await {
                Ok(0) if input.is_none() => return Err(HandshakeEnd::Silent),
                Ok(0) => return Err(HandshakeEnd::Broken(Broken::Reset)),
                Ok(_) => {}
                Err(broken) => return Err(HandshakeEnd::Broken(broken)),
            }
        };
        let session = with.session(&asked).map_err(HandshakeEnd::Failed)?;
        let name = asked.name;
        let arrived = input.take();
        if with.is_slow(name.as_deref())
            && let Some(arrived) = arrived
        {
            let begun = signing.begin(session, arrived.data().to_vec()).await;
            let begun = begun.ok_or(HandshakeEnd::Broken(Broken::NoBuffer))?;
            self.go_on(begun, arrived, pool, input).await?;
        } else {
            self.begin(session, arrived, pool);
        }
        self.handshake(input, true).await?;
        Ok(name)
    }

    /// Begins TLS as the end that connects, and goes on until the handshake has ended. Reads and
    /// writes must have a deadline.
    ///
    /// # Errors
    /// [`HandshakeEnd`], after which the socket is of no use.
    ///
    /// # Cancel safety
    /// As [`Socket::accept_tls`].
    pub async fn connect_tls(
        &mut self,
        session: Session,
        pool: &BufPool,
    ) -> Result<(), HandshakeEnd> {
        self.begin(session, None, pool);
        self.handshake(&mut None, false).await
    }

    /// Goes on with a session that has begun on another thread. `buf` is what it was given, from which
    /// on its input goes on.
    async fn go_on(
        &mut self,
        begun: Begun,
        mut buf: Buf,
        pool: &BufPool,
        input: &mut Option<Buf>,
    ) -> Result<(), HandshakeEnd> {
        buf.clear();
        buf.append(&begun.input); // it came out of this buffer
        let left = (!buf.is_empty()).then_some(buf);
        self.begin(begun.session, left, pool);
        if !begun.plain.is_empty() {
            let mut plain = pool.take().ok_or(HandshakeEnd::Broken(Broken::NoBuffer))?;
            plain.append(&begun.plain); // early data, which is less
            *input = Some(plain);
        }
        match (begun.result, &self.transport) {
            (Err(failure), Transport::Tcp(wire, Some(tls))) => {
                Err(tls.give_up(wire, failure).await)
            }
            (Err(failure), _) => Err(HandshakeEnd::Failed(failure)),
            (Ok(()), _) => Ok(()),
        }
    }

    /// Tells a peer that has not begun TLS why it does not begin, as far as it goes without waiting.
    fn alert(&self, description: u8) {
        if let Transport::Tcp(wire, None) = &self.transport {
            wire.alert(description);
        }
    }

    /// Puts TLS into the connection.
    fn begin(&mut self, session: Session, arrived: Option<Buf>, pool: &BufPool) {
        if let Transport::Tcp(_, tls) = &mut self.transport {
            *tls = Some(Box::new(Tls::new(session, arrived, pool)));
        }
    }

    async fn handshake(
        &self,
        input: &mut Option<Buf>,
        accept_early: bool,
    ) -> Result<(), HandshakeEnd> {
        match &self.transport {
            Transport::Tcp(wire, Some(tls)) => tls.handshake(wire, input, accept_early).await,
            _ => Ok(()),
        }
    }

    /// The protocol that client and listener agreed on; HTTP/1.1 where nothing was negotiated.
    pub fn alpn(&self) -> Alpn {
        self.tls().map_or(Alpn::Http11, Tls::alpn)
    }

    /// Whether what was received came as early data of a handshake that has not ended: it may be a
    /// copy that somebody else sent. Source: RFC 8470 §2.
    pub fn is_early(&self) -> bool {
        self.tls().is_some_and(Tls::is_early)
    }

    /// Looks at the TLS session, if there is one.
    pub fn with_session<T>(&self, look: impl FnOnce(&Session) -> T) -> Option<T> {
        self.tls().map(|tls| tls.with_session(look))
    }

    /// Waits for the end of a handshake that early data has overtaken. What comes with it goes
    /// behind what is in `input`.
    ///
    /// # Errors
    /// [`HandshakeEnd`].
    ///
    /// # Cancel safety
    /// As [`Socket::accept_tls`].
    pub async fn finish_handshake(&self, input: &mut Option<Buf>) -> Result<(), HandshakeEnd> {
        self.handshake(input, false).await
    }

    fn read_deadline(&self) -> &Deadline {
        match &self.transport {
            Transport::Tcp(wire, _) => &wire.read_deadline,
            Transport::Stream(stream) => stream.read_deadline(),
        }
    }

    fn write_deadline(&self) -> &Deadline {
        match &self.transport {
            Transport::Tcp(wire, _) => &wire.write_deadline,
            Transport::Stream(stream) => stream.write_deadline(),
        }
    }

    /// The next read has to end within `after`. Only the receiving side is shut down then, so that
    /// an answer can still be sent.
    pub fn read_within(&self, after: Duration, tag: u8) {
        self.read_deadline().set(after, Shut::Read, tag);
    }

    /// The next write has to end within `after`; the socket is shut down otherwise.
    pub fn write_within(&self, after: Duration, tag: u8) {
        self.write_deadline().set(after, Shut::Both, tag);
    }

    /// Reads have no deadline from now on.
    pub fn read_without_deadline(&self) {
        self.read_deadline().clear();
    }

    /// Writes have no deadline from now on.
    pub fn write_without_deadline(&self) {
        self.write_deadline().clear();
    }

    /// The tag of the read deadline, once it has passed.
    pub fn read_expired(&self) -> Option<u8> {
        self.read_deadline().fired()
    }

    /// Whether the peer has sent something that was not yet received. Of a stream: whether a response
    /// may still be there.
    pub fn has_input(&self) -> bool {
        match &self.transport {
            Transport::Tcp(wire, tls) => {
                tls.as_ref().is_some_and(|tls| tls.has_plain())
                    || matches!(wire.stream.peek_state(), PeerState::HasBytes)
            }
            Transport::Stream(stream) => stream.is_expecting(),
        }
    }

    /// Whether the peer has neither closed nor sent anything, as far as the last turn of the loop
    /// has seen. Asks the kernel only if nobody listens ([`Socket::listen`]). A stream is never used
    /// twice, and so never quiet.
    pub fn is_quiet(&self) -> bool {
        match &self.transport {
            Transport::Tcp(wire, None) => wire.stream.is_quiet(),
            Transport::Tcp(wire, Some(tls)) => tls.is_quiet(wire),
            Transport::Stream(_) => false,
        }
    }

    /// Receives from now on, without waiting for it: so that [`Socket::is_quiet`] knows what the
    /// peer of an idle connection does.
    pub fn listen(&self, pool: &BufPool) {
        match &self.transport {
            Transport::Tcp(wire, _) => wire.stream.listen(pool),
            Transport::Stream(_) => {}
        }
    }

    /// Whether not one byte sent after the first `sent_before` can have reached the peer's program:
    /// it ended its side in order (`has_ended`), the connection is reset and the peer's kernel
    /// acknowledged nothing of them. `false` where that can't be known. Of a stream: whether the peer
    /// has promised so.
    ///
    /// A peer that had closed its socket before our bytes arrived answers them with a reset and no
    /// acknowledgement; had they arrived before, the FIN would have acknowledged them. A reset
    /// without a FIN proves nothing: a program may have read them and reset the connection before
    /// its kernel acknowledged a byte, and the reset's own acknowledgement is not counted.
    /// Source: RFC 9293 §3.10.7.1; tcp(7), `tcpi_bytes_acked`; RFC 9113 §8.7.
    pub fn nothing_arrived_since(&self, sent_before: u64, has_ended: bool) -> bool {
        match &self.transport {
            Transport::Tcp(wire, None) => {
                has_ended
                    && wire.stream.tcp_info().is_ok_and(|info| {
                        info.state_closed && info.bytes_acked <= sent_before.saturating_add(1)
                    })
            }
            Transport::Tcp(_, Some(_)) => false, // what was sent are other bytes
            Transport::Stream(stream) => stream.is_refused(),
        }
    }

    /// Whether this is a stream of an HTTP/2 connection, good for one request.
    pub fn is_stream(&self) -> bool {
        matches!(self.transport, Transport::Stream(_))
    }

    /// Whether an endpoint that speaks HTTP/2 takes tunnels; waits until it has said so.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn offers_tunnels(&self) -> bool {
        match &self.transport {
            Transport::Tcp(..) => false,
            Transport::Stream(stream) => stream.offers_tunnels().await,
        }
    }

    /// Whether the peer has said that it will not answer, after it had looked at the request.
    pub fn is_reset_by_peer(&self) -> bool {
        match &self.transport {
            Transport::Tcp(..) => false,
            Transport::Stream(stream) => stream.is_reset(),
        }
    }

    /// Whether the peer's message breaks rules of HTTP/2 that its text does not show.
    pub fn is_malformed(&self) -> bool {
        matches!(&self.transport, Transport::Stream(stream) if stream.is_malformed())
    }

    /// Where the peer connected to; `None` of a stream.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match &self.transport {
            Transport::Tcp(wire, _) => wire.stream.local_addr().ok(),
            Transport::Stream(_) => None,
        }
    }

    /// What to watch, and to shut down, from elsewhere on this core.
    pub fn handle(&self) -> Handle {
        match &self.transport {
            Transport::Tcp(wire, _) => Handle::Socket(wire.stream.fd()),
            Transport::Stream(stream) => stream.handle(),
        }
    }

    /// The two streams, if bytes can move from one socket to the other without being looked at.
    pub fn spliceable<'a>(from: &'a Self, to: &'a Self) -> Option<(&'a Stream, &'a Stream)> {
        match (&from.transport, &to.transport) {
            (Transport::Tcp(from, None), Transport::Tcp(to, None)) => {
                Some((&from.stream, &to.stream))
            }
            _ => None,
        }
    }

    /// Tells the peer that nothing more will be sent; receiving goes on.
    ///
    /// # Cancel safety
    /// Not cancel safe: whether the peer learns it is unknown then.
    pub async fn end_write(&self) {
        match &self.transport {
            Transport::Tcp(wire, tls) => {
                if let Some(tls) = tls {
                    tls.close(wire).await;
                }
                wire.stream.shutdown_write();
            }
            Transport::Stream(stream) => stream.end_write(),
        }
    }

    /// Our side ends behind the next `bytes`, and can say so with them.
    pub fn end_after(&self, bytes: u64) {
        if let Some(tls) = self.tls() {
            tls.end_after(bytes);
        }
    }

    /// Tells the peer that the connection ends in order, where dropping it would not.
    ///
    /// # Cancel safety
    /// As [`Socket::end_write`].
    pub async fn say_goodbye(&self) {
        if let Transport::Tcp(wire, Some(tls)) = &self.transport {
            tls.close(wire).await;
        }
    }

    /// Ends both directions at once.
    pub fn shutdown(&self) {
        match &self.transport {
            Transport::Tcp(wire, tls) => {
                if let Some(tls) = tls {
                    tls.close_now(wire);
                }
                wire.stream.shutdown();
            }
            Transport::Stream(stream) => stream.shutdown(),
        }
    }

    /// Makes the close look like a failure to the peer, and throw away what was not sent yet. A
    /// stream that did not end its message looks so anyway.
    pub fn reset_on_close(&self) {
        match &self.transport {
            Transport::Tcp(wire, _) => wire.stream.reset_on_close(),
            Transport::Stream(_) => {}
        }
    }

    /// Receives and drops what comes, as it comes; 0 at its end. For a connection that ends.
    ///
    /// # Errors
    /// [`Broken`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn discard(&self, pool: &BufPool) -> Result<usize, Broken> {
        match &self.transport {
            Transport::Tcp(wire, _) => wire.fill(&mut None, pool).await,
            Transport::Stream(stream) => stream.fill(&mut None, pool).await,
        }
    }

    /// Receives into `slot`: what comes next, or behind what is there. Waits without a buffer.
    ///
    /// Returns the bytes received; 0 at the end of the stream.
    ///
    /// # Errors
    /// [`Broken`], after which the socket is of no use.
    ///
    /// # Cancel safety
    /// Cancel safe: what has arrived is there for the next call.
    pub async fn fill(&self, slot: &mut Option<Buf>, pool: &BufPool) -> Result<usize, Broken> {
        debug_assert!(slot.as_ref().is_none_or(|buf| buf.spare() > 0), "the caller makes room");
        match &self.transport {
            Transport::Tcp(wire, None) => wire.fill(slot, pool).await,
            Transport::Tcp(wire, Some(tls)) => tls.fill(wire, slot).await,
            Transport::Stream(stream) => stream.fill(slot, pool).await,
        }
    }

    /// As [`Socket::fill`], but no more than `max` says at that moment, as far as that is for us to
    /// say: a record of TLS comes whole.
    ///
    /// # Errors
    /// [`Broken`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn fill_at_most(
        &self,
        slot: &mut Option<Buf>,
        pool: &BufPool,
        max: &Cell<usize>,
    ) -> Result<usize, Broken> {
        match &self.transport {
            Transport::Tcp(wire, None) => {
                wire.received(wire.stream.fill_at_most(slot, pool, max).await)
            }
            Transport::Tcp(wire, Some(tls)) => tls.fill(wire, slot).await,
            Transport::Stream(stream) => stream.fill_at_most(slot, pool, max).await,
        }
    }

    /// Whether so much waits for the receiver's connection, or for those of this core together, that
    /// nothing more should be fetched that it may not take.
    pub fn is_pressed(&self) -> bool {
        matches!(&self.transport, Transport::Stream(stream) if stream.is_pressed())
    }

    /// How many bytes the receiver takes at once; waits until it takes some. They are kept for it
    /// until [`Socket::leave_room`] or the next send.
    ///
    /// # Errors
    /// [`Broken`], after which the socket is of no use.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
        match &self.transport {
            Transport::Tcp(..) => Poll::Ready(Ok(usize::MAX)),
            Transport::Stream(stream) => stream.poll_room(cx),
        }
    }

    /// Leaves to others what [`Socket::poll_room`] has found.
    pub fn leave_room(&self) {
        if let Transport::Stream(stream) = &self.transport {
            stream.leave_room();
        }
    }

    /// Sends the first `count` bytes of `slot` and leaves the rest there.
    ///
    /// # Errors
    /// [`Broken`], after which the socket is of no use.
    ///
    /// # Cancel safety
    /// Not cancel safe: a part may have been sent.
    pub async fn send(&self, slot: &mut Option<Buf>, count: usize) -> Result<(), Broken> {
        match &self.transport {
            Transport::Tcp(wire, None) => wire.send(slot, count).await,
            Transport::Tcp(wire, Some(tls)) => tls.send_from(wire, slot, count).await,
            Transport::Stream(stream) => stream.send(slot, count).await,
        }
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// [`Broken`], after which the socket is of no use.
    ///
    /// # Cancel safety
    /// Not cancel safe: a part may have been sent.
    pub async fn send_bytes(&self, bytes: &mut Vec<u8>) -> Result<(), Broken> {
        match &self.transport {
            Transport::Tcp(wire, None) => wire.send_bytes(bytes).await,
            Transport::Tcp(wire, Some(tls)) => tls.send(wire, bytes).await,
            Transport::Stream(stream) => stream.send_bytes(bytes).await,
        }
    }

    /// Why a read that failed did so.
    pub fn broken_read(&self) -> Broken {
        self.read_deadline().fired().map_or(Broken::Reset, Broken::Deadline)
    }

    /// Why a write that failed did so.
    pub fn broken_write(&self) -> Broken {
        self.write_deadline().fired().map_or(Broken::Reset, Broken::Deadline)
    }
}

impl Wire {
    /// Sends a fatal alert in plain text. Source: RFC 8446 §6.
    fn alert(&self, description: u8) {
        let _ = self.stream.try_send(&alert::record(description)); // it may have gone
    }

    fn new(stream: Stream, deadlines: &Deadlines) -> Self {
        Self {
            read_deadline: deadlines.register(&stream),
            write_deadline: deadlines.register(&stream),
            stream,
        }
    }

    async fn fill(&self, slot: &mut Option<Buf>, pool: &BufPool) -> Result<usize, Broken> {
        self.received(self.stream.fill(slot, pool).await)
    }

    fn received(&self, received: io::Result<usize>) -> Result<usize, Broken> {
        match received {
            Ok(0) => match self.read_deadline.fired() {
                Some(tag) => Err(Broken::Deadline(tag)),
                None => Ok(0),
            },
            Ok(received) => Ok(received),
            Err(error) if error.kind() == ErrorKind::OutOfMemory => Err(Broken::NoBuffer),
            Err(_) => Err(self.broken_read()),
        }
    }

    /// Not an async fn, nor is the next one: they would hold their arguments twice.
    fn send<'a>(
        &'a self,
        slot: &'a mut Option<Buf>,
        count: usize,
    ) -> impl Future<Output = Result<(), Broken>> + 'a {
        let mut sending = slot.take().map(|buf| self.stream.send(buf, count));
        poll_fn(move |cx| {
            let Some(sending) = &mut sending else { return Poll::Ready(Ok(())) };
            let (result, buf) = ready!(Pin::new(sending).poll(cx));
            if !buf.is_empty() {
                *slot = Some(buf);
            }
            Poll::Ready(result.map_err(|_| self.broken_write()))
        })
    }

    fn send_bytes<'a>(
        &'a self,
        bytes: &'a mut Vec<u8>,
    ) -> impl Future<Output = Result<(), Broken>> + 'a {
        let mut sending = self.stream.send_bytes(std::mem::take(bytes));
        poll_fn(move |cx| {
            let (result, returned) = ready!(Pin::new(&mut sending).poll(cx));
            *bytes = returned;
            Poll::Ready(result.map_err(|_| self.broken_write()))
        })
    }

    fn broken_read(&self) -> Broken {
        self.read_deadline.fired().map_or(Broken::Reset, Broken::Deadline)
    }

    fn broken_write(&self) -> Broken {
        self.write_deadline.fired().map_or(Broken::Reset, Broken::Deadline)
    }
}
