//! A client's HTTP/2 connection: drives the `h2` crate, hands out streams, says goodbye.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use ::h2::{
    Ping, PingPong, Reason, RecvStream,
    ext::Protocol,
    server::{Builder, Connection, SendResponse},
};
use http::{Method, Request};

use super::{
    chunk::Chunk,
    held::{Held, HeldByCore},
    io::{Io, ReadEnd, Shared, send_all},
    stream::Stream,
};
use crate::{
    base::limits,
    dataplane::socket::Socket,
    proto::{
        h1::Framing,
        h2::{Malformed, Refusal, write_request},
    },
    rt::{self, Buf, BufPool, Deadlines},
};

/// Tags of the deadlines of a connection's socket.
mod tag {
    pub(super) const PREFACE: u8 = 20;
    pub(super) const IDLE: u8 = 21;
    pub(super) const WRITE: u8 = 22;
    pub(super) const LINGER: u8 = 23;
    pub(super) const HEAD: u8 = 24;
}

/// What a listener allows its HTTP/2 connections.
#[derive(Clone, Copy, Debug)]
pub struct CarrierLimits {
    /// Streams open at once.
    pub streams_max: u32,
    /// Bytes of a request's fields, as RFC 9113 §6.5.2 counts them.
    pub header_bytes_max: usize,
    /// For the preface and the first SETTINGS, and for each header block that has begun.
    pub head_within: Duration,
    /// Without a stream.
    pub idle: Duration,
    /// For the client to take what is sent.
    pub write_within: Duration,
}

/// A request that came in.
pub enum Accepted {
    /// Its stream, and what counts it as one of the connection's.
    Stream(Rc<Stream>, StreamGuard),
    /// It broke the rules; its stream was reset.
    Malformed(Malformed),
    /// Too much waits for the client already; its stream was refused.
    Refused,
}

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// The first frame.
    Preface,
    /// It has streams, and no hurry.
    Streams,
    /// A first stream.
    Idle,
    /// The rest of the header block of this number.
    Head(u32),
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CarrierEnd {
    /// In order, by either side, or because the client has gone.
    Closed,
    /// The client broke the rules of the connection, or flooded it.
    Violation,
}

/// The streams of one connection that somebody works for.
#[derive(Default)]
struct Open {
    count: Cell<usize>,
    waker: Cell<Option<Waker>>,
}

/// One stream under way; its connection learns when it is dropped.
pub struct StreamGuard {
    open: Rc<Open>,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.open.count.set(self.open.count.get() - 1);
        if self.open.count.get() == 0
            && let Some(waker) = self.open.waker.take()
        {
            waker.wake();
        }
    }
}

/// A client's connection.
pub struct Carrier {
    connection: Connection<Io, Chunk>,
    writer: Option<Pin<Box<dyn Future<Output = ()>>>>,
    socket: Rc<Socket>,
    shared: Rc<Shared>,
    open: Rc<Open>,
    held: Rc<Held>,
    deadlines: Deadlines,
    limits: CarrierLimits,
    pool: BufPool,
    /// A head that is being written.
    text: Vec<u8>,
    ping: Option<PingPong>,
    silence: Pin<Box<dyn Future<Output = ()>>>,
    is_asked: bool,
    waits: Waits,
    is_leaving: bool,
    has_said_goodbye: bool,
}

impl Carrier {
    /// Receives the preface and greets. `input` is what was received already. `None` if the client
    /// is too slow, or speaks something else.
    ///
    /// # Cancel safety
    /// Not cancel safe: the connection is of no use afterwards.
    pub async fn open(
        socket: Rc<Socket>,
        input: Option<Buf>,
        pool: &BufPool,
        deadlines: &Deadlines,
        held: &Rc<HeldByCore>,
        limits: CarrierLimits,
    ) -> Option<Self> {
        const PREFACE_BYTES: usize = 24;
        let shared = Rc::new(Shared::default());
        let io =
            Io::new(Rc::clone(&socket), pool, deadlines, input, PREFACE_BYTES, Rc::clone(&shared));
        let sending =
            send_all(Rc::clone(&socket), Rc::clone(&shared), limits.write_within, tag::WRITE);
        let mut writer: Pin<Box<dyn Future<Output = ()>>> = Box::pin(sending);
        socket.read_within(limits.head_within, tag::PREFACE);
        let mut handshake = Box::pin(builder(&limits).handshake::<_, Chunk>(io));
        let greeted = poll_fn(|cx| {
            let greeted = handshake.as_mut().poll(cx);
            if writer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None); // the socket is broken
            }
            greeted.map(Result::ok)
        });
        let mut connection = greeted.await?;
        drop(handshake);
        Some(Self {
            ping: connection.ping_pong(),
            connection,
            writer: Some(writer),
            socket,
            shared,
            open: Rc::default(),
            held: Held::new(held),
            deadlines: deadlines.clone(),
            limits,
            pool: pool.clone(),
            text: Vec::new(),
            silence: Box::pin(rt::sleep(limits::H2_SILENCE_MAX)),
            is_asked: false,
            waits: Waits::Preface,
            is_leaving: false,
            has_said_goodbye: false,
        })
    }

    /// How many streams somebody works for.
    pub fn open_count(&self) -> usize {
        self.open.count.get()
    }

    /// What is due in each turn of its task, before the crate has its own. `leaving`: the client is asked to send
    /// its requests elsewhere, those it has sent are served.
    pub fn begin_turn(&mut self, cx: &mut Context<'_>, leaving: bool) {
        self.shared.is_drained.set(false);
        self.poll_writer(cx);
        self.poll_silence(cx);
        self.learn_windows();
        if leaving && !self.is_leaving {
            self.is_leaving = true;
            //= https://www.rfc-editor.org/rfc/rfc9113#section-6.8
            //# A server that is attempting to gracefully shut down a connection
            //# SHOULD send an initial GOAWAY frame with the last stream identifier
            //# set to 2^31-1 and a NO_ERROR code.
            self.connection.graceful_shutdown();
        }
        self.open.waker.set(Some(cx.waker().clone()));
    }

    /// The next request of this turn; `Err` when there will be none. `random` makes the keys of WebSockets.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        random: &dyn Fn() -> u64,
    ) -> Poll<Result<Accepted, CarrierEnd>> {
        loop {
            // With each request: what is read behind one may be the end, which its stream has to learn.
            self.note_waits();
            if self.has_goodbye_to_say() {
                self.say_goodbye();
            }
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    // The crate gives requests out when it has read all there is.
                    self.shared.is_drained.set(true);
                    return Poll::Ready(Ok(self.accept(request, respond, random)));
                }
                Poll::Ready(Some(Err(error))) => {
                    let is_theirs = error.is_library() || self.is_violated();
                    return Poll::Ready(Err(match is_theirs {
                        true => CarrierEnd::Violation,
                        false => CarrierEnd::Closed,
                    }));
                }
                Poll::Ready(None) if self.is_violated() => {
                    return Poll::Ready(Err(CarrierEnd::Violation));
                }
                Poll::Ready(None) => return Poll::Ready(Err(CarrierEnd::Closed)),
                Poll::Pending => {}
            }
            self.note_waits();
            self.poll_writer(cx); // what this turn wrote leaves now
            if !self.has_goodbye_to_say() {
                return Poll::Pending;
            }
        }
    }

    fn say_goodbye(&mut self) {
        self.has_said_goodbye = true;
        let reason = self.shared.read_end.get().map_or(Reason::NO_ERROR, goodbye);
        self.connection.abrupt_shutdown(reason);
    }

    fn learn_windows(&self) {
        self.held.learn(self.shared.windows.get(), self.open_count());
    }

    fn is_violated(&self) -> bool {
        self.shared.read_end.get().is_some_and(ReadEnd::is_violation)
    }

    /// Nothing more can be received, and nobody waits for an answer, or deserves one.
    fn has_goodbye_to_say(&self) -> bool {
        let has_ended = self.shared.read_end.get().is_some();
        has_ended && !self.has_said_goodbye && (self.open_count() == 0 || self.is_violated())
    }

    /// A connection without streams has a deadline and little memory, a header block that has begun
    /// has a deadline too: nothing else can arrive before its end.
    fn note_waits(&mut self) {
        let is_idle = self.open_count() == 0;
        self.shared.holds_end.set(is_idle);
        let waits = match self.shared.unfinished_head.get() {
            Some(head) => Waits::Head(head),
            None if !self.shared.has_begun.get() => Waits::Preface,
            None if is_idle => Waits::Idle,
            None => Waits::Streams,
        };
        if waits == self.waits {
            return;
        }
        self.waits = waits;
        match waits {
            Waits::Preface => {} // it has the deadline of the preface
            Waits::Streams => self.socket.read_without_deadline(),
            Waits::Idle => {
                self.socket.read_within(self.limits.idle, tag::IDLE);
                self.shared.trim();
                self.text = Vec::new();
            }
            Waits::Head(_) => self.socket.read_within(self.limits.head_within, tag::HEAD),
        }
    }

    /// Asks a silent client that has streams whether it is still there, and gives it up when it does
    /// not answer.
    fn poll_silence(&mut self, cx: &mut Context<'_>) {
        let Some(ping) = &mut self.ping else { return };
        if let Poll::Ready(Ok(_)) = ping.poll_pong(cx) {
            self.is_asked = false;
        }
        while self.silence.as_mut().poll(cx).is_ready() {
            self.silence = Box::pin(rt::sleep(limits::H2_SILENCE_MAX));
            let was_heard = self.shared.was_heard.replace(false);
            if was_heard || self.waits == Waits::Idle {
                continue;
            }
            if self.is_asked {
                self.socket.shutdown();
            } else {
                self.is_asked = ping.send_ping(Ping::opaque()).is_ok();
            }
        }
    }

    fn poll_writer(&mut self, cx: &mut Context<'_>) {
        if let Some(writer) = &mut self.writer
            && writer.as_mut().poll(cx).is_ready()
        {
            self.writer = None;
        }
    }

    fn accept(
        &mut self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Chunk>,
        random: &dyn Fn() -> u64,
    ) -> Accepted {
        //= https://www.rfc-editor.org/rfc/rfc9113#section-8.1.1
        //# Malformed requests or responses that are detected MUST be treated as
        //# a stream error (Section 5.4.2) of type PROTOCOL_ERROR.
        if self.shared.is_refused(respond.stream_id().as_u32()) {
            respond.send_reset(Reason::PROTOCOL_ERROR);
            return Accepted::Malformed(Malformed::Field);
        }
        if self.held.is_full() {
            //= https://www.rfc-editor.org/rfc/rfc9113#section-8.7
            //# The REFUSED_STREAM error code can be included in a RST_STREAM
            //# frame to indicate that the stream is being closed prior to any
            //# processing having occurred.
            respond.send_reset(Reason::REFUSED_STREAM);
            return Accepted::Refused;
        }
        let (parts, body) = request.into_parts();
        let protocol = parts.extensions.get::<Protocol>();
        let protocol = protocol.map(|protocol| protocol.as_str().as_bytes());
        self.text.clear();
        self.text.reserve(limits::SMALL_HEAD_BYTES);
        let key = protocol.map_or([b'A'; 24], |_| websocket_key([random(), random()]));
        match write_request(&mut self.text, &parts, protocol, body.is_end_stream(), &key) {
            Ok(written) => {
                let framing = if written.is_tunnel { Framing::UntilClose } else { written.framing };
                let to_head = parts.method == Method::HEAD;
                let ends = (body, respond);
                let held = Rc::clone(&self.held);
                let text = (&self.text[..], &self.pool);
                let stream = Stream::served(text, framing, to_head, ends, held, &self.deadlines);
                self.open.count.set(self.open.count.get() + 1);
                self.learn_windows();
                Accepted::Stream(Rc::new(stream), StreamGuard { open: Rc::clone(&self.open) })
            }
            Err(malformed) => {
                respond.send_reset(Reason::PROTOCOL_ERROR);
                Accepted::Malformed(malformed)
            }
        }
    }

    /// Sends what is left, and closes so that it arrives. Streams still under way learn that the
    /// connection is gone.
    ///
    /// # Cancel safety
    /// Not cancel safe: what was written last may be lost.
    pub async fn close(self, pool: &BufPool) {
        let Self { connection, writer, socket, shared, .. } = self;
        shared.close();
        drop(connection);
        if let Some(writer) = writer {
            writer.await;
        }
        socket.end_write().await;
        socket.read_within(limits::LINGER_MAX, tag::LINGER);
        let mut left = limits::LINGER_BYTES_MAX;
        let mut slot = None;
        while left > 0 {
            match socket.fill(&mut slot, pool).await {
                Ok(0) | Err(_) => return,
                Ok(received) => left = left.saturating_sub(received),
            }
            slot = None;
        }
    }
}

/// What the client is told when nothing more is read.
fn goodbye(end: ReadEnd) -> Reason {
    let ReadEnd::Refused(refusal) = end else { return Reason::NO_ERROR };
    match refusal {
        Refusal::Flood => Reason::ENHANCE_YOUR_CALM,
        Refusal::NoSettings | Refusal::PseudoTrailers => Reason::PROTOCOL_ERROR,
        Refusal::Compression => Reason::COMPRESSION_ERROR,
        Refusal::FrameSize => Reason::FRAME_SIZE_ERROR,
        Refusal::Window => Reason::FLOW_CONTROL_ERROR,
        Refusal::Ended => Reason::STREAM_CLOSED,
    }
}

fn builder(limits: &CarrierLimits) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(limits::H2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::H2_CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .max_send_buffer_size(limits::H2_SEND_BYTES_MAX)
        .data_frame_budget(limits::H2_SMALL_FRAMES_BYTES_MAX)
        .max_pending_accept_reset_streams(limits::H2_RESETS_PENDING_MAX)
        .max_local_error_reset_streams(Some(limits::H2_RESETS_LOCAL_MAX))
        .enable_connect_protocol();
    builder
}

/// 16 random bytes in base64. Source: RFC 6455 §4.1.
fn websocket_key(random: [u64; 2]) -> [u8; 24] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = u128::from(random[0]) << 64 | u128::from(random[1]);
    let mut key = [b'='; 24];
    for digit in &mut key[..21] {
        *digit = DIGITS[(bits & 63) as usize];
        bits >>= 6;
    }
    key[21] = DIGITS[((bits & 3) << 4) as usize]; // the last two bits of 128
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_16_bytes_in_base64() {
        let key = websocket_key([u64::MAX, 1]);
        assert_eq!(&key[22..], b"==");
        assert!(matches!(key[21], b'A' | b'Q' | b'g' | b'w'));
        assert_eq!(websocket_key([0, 0])[..22], [b'A'; 22]);
    }
}
