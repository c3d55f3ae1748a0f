//! Text that leaves on a stream, as frames. Data waits for the peer's window before it is handed to
//! the connection, so that what waits there is bounded.

use std::{
    ops::Range,
    rc::Rc,
    task::{Context, Poll, ready},
};

use ::h2::{
    Reason, SendStream,
    client::{ResponseFuture, SendRequest},
    server::SendResponse,
};
use bytes::{Buf as _, Bytes};

use super::{
    chunk::Chunk,
    held::{Held, Waiting},
};
use crate::{
    base::limits,
    proto::h2::{Frames, Side, Tunnel, Unframer},
    rt::Buf,
};

/// The stream takes nothing (more).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WriteFailure;

/// What a stream is begun with.
enum Role {
    /// By the answer to a request.
    Serve(SendResponse<Chunk>),
    /// By a request.
    Ask(SendRequest<Chunk>),
}

/// What was sent of a request that concerns its response.
pub(super) struct Asked {
    pub(super) future: ResponseFuture,
    pub(super) to_head: bool,
    /// Whether it becomes a tunnel once it is accepted.
    pub(super) tunnel: Option<Tunnel>,
}

/// The sending side of a stream.
pub(super) struct Writing {
    role: Role,
    unframer: Unframer,
    send: Option<SendStream<Chunk>>,
    /// Data that waits for the window, and whether it is the last.
    waiting: Option<(Chunk, bool)>,
    /// What it is counted with in `held`, where that is done.
    counted: Waiting,
    /// The tick since which it is counted with what an endpoint has sent behind.
    stalled_tick: u64,
    held: Option<Rc<Held>>,
    is_failed: bool,
    /// What the peer is told if the message is given up before its end.
    give_up: Reason,
}

impl Writing {
    /// The response to a request.
    pub(super) fn response(respond: SendResponse<Chunk>, to_head: bool, held: Rc<Held>) -> Self {
        let mut writing =
            Self::new(Role::Serve(respond), Side::Server { to_head }, Reason::INTERNAL_ERROR);
        writing.held = Some(held);
        writing
    }

    /// A request.
    pub(super) fn request(link: SendRequest<Chunk>, is_https: bool) -> Self {
        Self::new(Role::Ask(link), Side::Client { is_https }, Reason::CANCEL)
    }

    fn new(role: Role, side: Side, give_up: Reason) -> Self {
        let unframer = Unframer::new(side);
        Self {
            role,
            unframer,
            send: None,
            waiting: None,
            counted: Waiting::default(),
            stalled_tick: 0,
            held: None,
            is_failed: false,
            give_up,
        }
    }

    /// The message ends with these trailers even if its length is told.
    pub(super) fn end_with(&mut self, last_chunk: &[u8]) -> Result<(), WriteFailure> {
        self.unframer.end_with(last_chunk).map_err(|_| WriteFailure)
    }

    /// Takes the next thing from the front of `text`: how many bytes, and what was asked if that was
    /// the head of a request. Nothing may wait.
    pub(super) fn take(&mut self, text: Text<'_>) -> Result<(usize, Option<Asked>), WriteFailure> {
        let mut text = text;
        let (taken, frames) = self.unframer.next(text.bytes()).map_err(|_| WriteFailure)?;
        let asked = match frames {
            Frames::None => None,
            Frames::Request { head, ended } => Some(self.ask(*head, ended)?),
            Frames::Interim(head) => {
                let Role::Serve(respond) = &mut self.role else { return Err(WriteFailure) };
                respond.send_informational(*head).map_err(|_| WriteFailure)?;
                None
            }
            Frames::Response { head, ended } => {
                let Role::Serve(respond) = &mut self.role else { return Err(WriteFailure) };
                let send = respond.send_response(*head, ended).map_err(|_| WriteFailure)?;
                self.send = Some(send);
                None
            }
            Frames::Data { range, ended } => {
                self.waiting = Some((text.cut(range, taken), ended));
                return Ok((taken, None));
            }
            Frames::Trailers(fields) => {
                let Some(send) = &mut self.send else { return Err(WriteFailure) };
                send.send_trailers(fields).map_err(|_| WriteFailure)?;
                None
            }
        };
        Ok((taken, asked))
    }

    fn ask(&mut self, mut head: http::Request<()>, ended: bool) -> Result<Asked, WriteFailure> {
        let Role::Ask(link) = &mut self.role else { return Err(WriteFailure) };
        *head.version_mut() = http::Version::HTTP_2;
        let to_head = head.method() == http::Method::HEAD;
        let tunnel = head.extensions_mut().remove::<Tunnel>();
        let (future, send) = link.send_request(head, ended).map_err(|_| WriteFailure)?;
        self.send = Some(send);
        Ok(Asked { future, to_head, tunnel })
    }

    /// Whether the endpoint takes extended CONNECT, as far as it has said.
    pub(super) fn offers_tunnels(&self) -> bool {
        match &self.role {
            Role::Ask(link) => link.is_extended_connect_protocol_enabled(),
            Role::Serve(_) => false,
        }
    }

    /// Whether something is left to be sent although all text was taken.
    pub(super) fn has_more(&self) -> bool {
        self.waiting.is_some() || self.unframer.has_more()
    }

    /// Hands what waits to the connection as the window allows.
    pub(super) fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteFailure>> {
        let handed = self.poll_hand_over(cx);
        if handed.is_ready() {
            self.count(Waiting::default());
        }
        handed
    }

    fn poll_hand_over(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteFailure>> {
        let Some((mut chunk, ended)) = self.waiting.take() else { return Poll::Ready(Ok(())) };
        let Some(send) = &mut self.send else { return Poll::Ready(Err(WriteFailure)) };
        loop {
            let wanted = chunk.remaining();
            if wanted == 0 && !ended {
                return Poll::Ready(Ok(()));
            }
            if wanted > 0 {
                send.reserve_capacity(wanted);
            }
            let window = send.capacity();
            if let Some(held) = &self.held {
                held.note_sent(window.min(wanted));
            }
            if window >= wanted {
                return Poll::Ready(send.send_data(chunk, ended).map_err(|_| WriteFailure));
            }
            if window > 0 {
                let part = Chunk::Copied(Bytes::copy_from_slice(&chunk.chunk()[..window]));
                chunk.advance(window);
                if send.send_data(part, false).is_err() {
                    return Poll::Ready(Err(WriteFailure));
                }
                continue;
            }
            match send.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(WriteFailure)),
                Poll::Pending => {
                    self.stall(chunk, ended);
                    return Poll::Pending;
                }
            }
        }
    }

    /// There is no window for what is here: it may wait for long.
    #[cold]
    fn stall(&mut self, chunk: Chunk, ended: bool) {
        // A copy is counted as it was made, however much of it was sent since.
        let is_new = self.counted.here == 0 || matches!(chunk, Chunk::Pooled(_));
        let chunk = chunk.shrunk();
        if is_new {
            self.count(Waiting { here: chunk.held_bytes(), ..self.counted });
        }
        self.waiting = Some((chunk, ended));
    }

    /// So many bytes may have come behind what waits.
    #[cold]
    pub(super) fn count_behind(&mut self, behind: usize, now_tick: u64) {
        if self.counted.behind == 0 {
            self.stalled_tick = now_tick;
        }
        self.count(Waiting { behind, ..self.counted });
    }

    /// The tick since which the peer takes nothing of what an endpoint sends.
    pub(super) fn stalled_tick(&self) -> Option<u64> {
        (self.counted.behind > 0 && self.held.is_some()).then_some(self.stalled_tick)
    }

    /// It is given up: nobody else needs to do so.
    pub(super) fn note_given_up(&mut self) {
        self.stalled_tick = u64::MAX;
    }

    fn count(&mut self, now: Waiting) {
        if self.counted != now
            && let Some(held) = &self.held
        {
            held.change(std::mem::replace(&mut self.counted, now), now);
        }
    }

    /// Whether so much waits elsewhere that nothing should be added that may have to.
    pub(super) fn is_pressed(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.is_much())
    }

    /// How many bytes there is window for; waits until there is some. It is kept for this stream.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, WriteFailure>> {
        let Some(send) = &mut self.send else { return Poll::Ready(Err(WriteFailure)) };
        send.reserve_capacity(limits::BUFFER_BYTES);
        loop {
            let room = send.capacity();
            if room > 0 {
                self.count(Waiting::default());
                return Poll::Ready(Ok(room));
            }
            match ready!(send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(WriteFailure)),
            }
        }
    }

    /// Others may have the window.
    pub(super) fn leave_room(&mut self) {
        if let Some(send) = &mut self.send {
            send.reserve_capacity(0);
        }
    }

    /// Ready when the peer has reset the stream, or its connection has ended. Never before a request
    /// was sent, or after all of a message was.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match (&mut self.send, &mut self.role) {
            (Some(send), _) => send.poll_reset(cx),
            (None, Role::Serve(respond)) => respond.poll_reset(cx),
            (None, Role::Ask(_)) => return Poll::Pending,
        };
        reset.map(drop)
    }

    /// The number of the stream, once it has one.
    pub(super) fn number(&self) -> Option<u32> {
        self.send.as_ref().map(|send| send.stream_id().as_u32())
    }

    /// The peer's message is malformed.
    #[cold]
    pub(super) fn refuse(&mut self) {
        self.give_up = Reason::PROTOCOL_ERROR;
        self.fail();
        self.reset();
    }

    fn reset(&mut self) {
        match (&mut self.send, &mut self.role) {
            (Some(send), _) => send.send_reset(self.give_up),
            (None, Role::Serve(respond)) => respond.send_reset(self.give_up),
            (None, Role::Ask(_)) => {}
        }
    }

    /// Ends a tunnel in order.
    pub(super) fn end(&mut self) {
        if self.unframer.end_tunnel()
            && let Some(send) = &mut self.send
        {
            let _ = send.send_data(Chunk::empty(), true); // an error: it has ended already
        }
    }

    /// Nothing more will be sent: the end of the stream is a reset.
    pub(super) fn fail(&mut self) {
        self.is_failed = true;
        self.waiting = None;
        self.count(Waiting::default());
    }
}

impl Drop for Writing {
    /// A message that did not end must not look as if it had.
    fn drop(&mut self) {
        self.count(Waiting::default());
        let is_whole = self.unframer.is_done() && self.waiting.is_none() && !self.is_failed;
        if !is_whole {
            self.reset();
        }
    }
}

/// Text to be sent.
pub(super) enum Text<'a> {
    /// The front of a pooled buffer, whose bytes are used up from the front.
    Pooled(&'a mut Option<Buf>, usize),
    /// Bytes that stay where they are.
    Slice(&'a mut [u8]),
}

impl Text<'_> {
    fn bytes(&mut self) -> &mut [u8] {
        match self {
            Self::Pooled(Some(buf), count) => &mut buf.data_mut()[..*count],
            Self::Pooled(None, _) => &mut [],
            Self::Slice(bytes) => bytes,
        }
    }

    /// The bytes of `range`, which end the first `taken` but for framing. The buffer itself goes
    /// where nothing else is left in it.
    fn cut(self, range: Range<usize>, taken: usize) -> Chunk {
        match self {
            Self::Pooled(slot, count) => {
                let Some(mut buf) = slot.take() else { return Chunk::empty() };
                if taken < count || buf.len() > count {
                    let chunk = Bytes::copy_from_slice(&buf.data()[range]);
                    *slot = Some(buf);
                    return Chunk::Copied(chunk);
                }
                buf.truncate(range.end);
                buf.consume(range.start);
                Chunk::of(buf)
            }
            Self::Slice(bytes) => Chunk::Copied(Bytes::copy_from_slice(&bytes[range])),
        }
    }
}
