//! What arrives on a stream, as HTTP/1 text: a head, then the body in its framing, then its trailers.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use ::h2::{RecvStream, client::ResponseFuture};
use bytes::Bytes;

use crate::{
    base::limits,
    proto::{
        h1::{Framing, LAST_CHUNK, write_chunk_size},
        h2::{Tunnel, write_response, write_trailers, write_upgrade},
    },
    rt::{Buf, BufPool},
};

/// Why nothing more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadFailure {
    /// No buffer is free on this core.
    NoBuffer,
    /// The stream was reset, or its connection ended.
    Reset,
}

/// Where the text comes from next.
enum From {
    /// The request has not been sent yet.
    Nowhere,
    /// The endpoint has the word.
    Response {
        future: Box<ResponseFuture>,
        to_head: bool,
        tunnel: Option<Tunnel>,
    },
    /// A body.
    Body(RecvStream),
    /// Nothing follows the text that is there.
    End,
    Failed,
}

/// The receiving side of a stream.
pub(super) struct Reading {
    from: From,
    framing: Framing,
    /// A head that nothing follows, to be given out as it is.
    head: Option<Buf>,
    /// Text to be given out before anything else.
    text: Vec<u8>,
    text_at: usize,
    /// Payload to be given out after it.
    data: Bytes,
    /// Payload to be given out behind that, put together from small frames.
    gathered: Vec<u8>,
    /// Bytes of the length that was told that have not come yet.
    length_left: Option<u64>,
    /// All of them have, but not the end of the stream: what is here is not given out before it, so that no
    /// message looks whole that turns out to be longer than it says, or is reset at its end.
    awaits_end: bool,
    /// What followed a body whose length was told, as the last chunk that text has no place for.
    last_chunk: Option<Box<[u8]>>,
    /// Whether the endpoint had processed nothing when it refused.
    pub(super) is_refused: bool,
    /// Whether the endpoint has reset the stream otherwise.
    pub(super) is_reset: bool,
    /// Whether what came breaks the rules.
    pub(super) is_malformed: bool,
}

impl Reading {
    /// A request whose head is `text`.
    pub(super) fn of_request(
        text: &[u8],
        pool: &BufPool,
        framing: Framing,
        body: RecvStream,
    ) -> Self {
        if framing != Framing::Empty {
            let mut reading = Self::nothing(text.to_vec());
            reading.begin(framing, body);
            return reading;
        }
        match pool.take_small().filter(|buf| text.len() <= buf.spare()) {
            Some(mut buf) => {
                buf.append(text);
                Self { from: From::End, head: Some(buf), ..Self::nothing(Vec::new()) }
            }
            None => Self { from: From::End, ..Self::nothing(text.to_vec()) },
        }
    }

    /// The head is here, the body follows.
    fn begin(&mut self, framing: Framing, body: RecvStream) {
        self.framing = framing;
        if let Framing::Length(length) = framing {
            self.length_left = Some(length);
            self.awaits_end = length == 0 && !body.is_end_stream();
        }
        self.from = From::Body(body);
    }

    /// A tunnel whose request is `text`.
    pub(super) fn of_tunnel(text: Vec<u8>, body: RecvStream) -> Self {
        Self { from: From::Body(body), framing: Framing::UntilClose, ..Self::nothing(text) }
    }

    /// A response that nobody has asked for yet.
    pub(super) fn of_response() -> Self {
        Self::nothing(Vec::new())
    }

    fn nothing(text: Vec<u8>) -> Self {
        Self {
            from: From::Nowhere,
            framing: Framing::Empty,
            head: None,
            text,
            text_at: 0,
            data: Bytes::new(),
            gathered: Vec::new(),
            length_left: None,
            awaits_end: false,
            last_chunk: None,
            is_refused: false,
            is_reset: false,
            is_malformed: false,
        }
    }

    /// From now on the response is waited for.
    pub(super) fn await_response(
        &mut self,
        future: ResponseFuture,
        to_head: bool,
        tunnel: Option<Tunnel>,
    ) {
        self.from = From::Response { future: Box::new(future), to_head, tunnel };
    }

    /// Whether it has no end but that of the stream.
    pub(super) fn is_tunnel(&self) -> bool {
        self.framing == Framing::UntilClose
    }

    /// What came breaks the rules: nothing of it that is still here is given out.
    #[cold]
    pub(super) fn refuse(&mut self) {
        self.is_malformed = true;
        self.from = From::Failed;
        self.awaits_end = false;
        self.head = None;
        self.text.clear();
        self.text_at = 0;
        self.data = Bytes::new();
        self.gathered = Vec::new();
    }

    /// Whether a response may come.
    pub(super) fn is_expecting(&self) -> bool {
        !matches!(self.from, From::Nowhere | From::Failed)
    }

    /// Whether the head of a response is waited for.
    pub(super) fn awaits_head(&self) -> bool {
        matches!(self.from, From::Response { .. })
    }

    /// How many bytes of a body may wait in the connection.
    pub(super) fn may_wait(&self) -> usize {
        let window = limits::H2_STREAM_WINDOW_BYTES as usize;
        let left = self.length_left.and_then(|left| usize::try_from(left).ok());
        match &self.from {
            From::Body(body) if !body.is_end_stream() => left.unwrap_or(window).min(window),
            _ => 0,
        }
    }

    /// The trailers of a message whose length was told; known before the last bytes are given out.
    pub(super) fn last_chunk(&self) -> Option<&[u8]> {
        self.last_chunk.as_deref()
    }

    /// Takes all payload that waits in the crate, where each frame costs hundreds of bytes.
    ///
    /// # Errors
    /// When there was less than it had said, and who waits for more has to ask again.
    pub(super) fn gather(&mut self) -> Result<(), ReadFailure> {
        let From::Body(body) = &mut self.from else { return Ok(()) };
        let is_here = self.data.len() + self.gathered.len();
        let mut left = body.flow_control().used_capacity().saturating_sub(is_here);
        let mut cx = Context::from_waker(Waker::noop());
        while left > 0 {
            let Poll::Ready(Some(Ok(data))) = body.poll_data(&mut cx) else {
                return Err(ReadFailure::Reset);
            };
            left = left.saturating_sub(data.len());
            self.gathered.extend_from_slice(&data);
        }
        Ok(())
    }

    /// Fills `slot` with what there is, up to `max` bytes; waits without a buffer. 0 at the end.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        slot: &mut Option<Buf>,
        pool: &BufPool,
        max: usize,
    ) -> Poll<Result<usize, ReadFailure>> {
        if let Some(head) = self.head.take() {
            let count = head.len();
            if slot.is_none() && count <= max {
                *slot = Some(head);
                return Poll::Ready(Ok(count));
            }
            self.text.extend_from_slice(head.data());
        }
        let mut filled = 0;
        loop {
            if self.awaits_end {
                match self.poll_end(cx) {
                    Poll::Ready(Ok(())) => self.awaits_end = false,
                    Poll::Ready(Err(_)) | Poll::Pending if filled > 0 => {
                        return Poll::Ready(Ok(filled));
                    }
                    Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.text_at == self.text.len() && self.data.is_empty() {
                if matches!(self.from, From::End) {
                    return Poll::Ready(Ok(filled));
                }
                match self.poll_next(cx) {
                    Poll::Ready(Ok(())) => continue,
                    // What was read before the failure is given out before it.
                    Poll::Ready(Err(_)) | Poll::Pending if filled > 0 => {
                        return Poll::Ready(Ok(filled));
                    }
                    Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if filled == max {
                return Poll::Ready(Ok(filled));
            }
            if slot.is_none() {
                *slot = self.take_buffer(pool);
            }
            let Some(buf) = slot else { return Poll::Ready(Err(ReadFailure::NoBuffer)) };
            let count = self.copy_to(buf, max - filled);
            filled += count;
            if count == 0 {
                return Poll::Ready(Ok(filled)); // full
            }
        }
    }

    /// A buffer: of one page for a message that is nothing but a short head.
    fn take_buffer(&self, pool: &BufPool) -> Option<Buf> {
        let is_small = matches!(self.from, From::End)
            && self.text.len() - self.text_at <= limits::SMALL_BUFFER_BYTES;
        if is_small && let Some(buf) = pool.take_small() { Some(buf) } else { pool.take() }
    }

    /// Moves what fits, up to `max` bytes.
    fn copy_to(&mut self, buf: &mut Buf, max: usize) -> usize {
        let room = buf.spare().min(max);
        let text = &self.text[self.text_at..];
        if !text.is_empty() {
            let count = text.len().min(room);
            buf.append(&text[..count]);
            self.text_at += count;
            if self.text_at == self.text.len() {
                self.text_at = 0;
                match self.from {
                    From::End => self.text = Vec::new(), // the answer may take long
                    _ => self.text.clear(),
                }
            }
            return count;
        }
        let count = self.data.len().min(room);
        buf.append(&self.data[..count]);
        bytes::Buf::advance(&mut self.data, count);
        // Only now the peer may send as much again.
        if let From::Body(body) = &mut self.from {
            let _ = body.flow_control().release_capacity(count); // an error: the stream is gone
        }
        if self.data.is_empty() && self.framing == Framing::Chunked {
            self.text.extend_from_slice(b"\r\n");
        }
        count
    }

    /// Fetches more text or data.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReadFailure>> {
        let result = match &mut self.from {
            From::Nowhere => return Poll::Pending, // its sender wakes us
            From::Failed => Err(ReadFailure::Reset),
            From::End => Ok(()),
            From::Response { .. } => ready!(self.poll_response(cx)),
            From::Body(_) => ready!(self.poll_body(cx)),
        };
        if result.is_err() {
            self.from = From::Failed;
        }
        Poll::Ready(result)
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReadFailure>> {
        let From::Body(body) = &mut self.from else { return Poll::Ready(Ok(())) };
        let next = match self.gathered.is_empty() {
            true => ready!(body.poll_data(cx)),
            false => Some(Ok(Bytes::from(std::mem::take(&mut self.gathered)))),
        };
        match next {
            Some(Ok(data)) => {
                if self.framing == Framing::Chunked && !data.is_empty() {
                    let mut line = [0; 18];
                    let length = write_chunk_size(&mut line, data.len());
                    self.text.extend_from_slice(&line[..length]);
                }
                if let Some(left) = &mut self.length_left {
                    *left = left.saturating_sub(data.len() as u64); // the crate refuses more
                    self.awaits_end = *left == 0 && !body.is_end_stream();
                }
                self.data = data;
                return Poll::Ready(Ok(()));
            }
            Some(Err(error)) => return Poll::Ready(Err(self.failed(&error))),
            None => {}
        }
        let trailers = match ready!(body.poll_trailers(cx)) {
            Ok(trailers) => trailers,
            Err(error) => return Poll::Ready(Err(self.failed(&error))),
        };
        if self.framing == Framing::Chunked {
            match trailers {
                Some(fields) if write_trailers(&mut self.text, &fields).is_err() => {
                    self.refuse();
                    return Poll::Ready(Err(ReadFailure::Reset));
                }
                Some(_) => {}
                None => self.text.extend_from_slice(LAST_CHUNK),
            }
        }
        self.from = From::End;
        Poll::Ready(Ok(()))
    }

    /// Waits for the end of a stream of which all bytes are here.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReadFailure>> {
        loop {
            let From::Body(body) = &mut self.from else {
                return Poll::Ready(Err(ReadFailure::Reset));
            };
            match ready!(body.poll_data(cx)) {
                None => break, // trailers may follow, but no more payload
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(_)) => self.from = From::Failed,
                Some(Err(error)) => return Poll::Ready(Err(self.has_failed(&error))),
            }
        }
        let From::Body(body) = &mut self.from else { return Poll::Ready(Ok(())) };
        match ready!(body.poll_trailers(cx)) {
            Ok(Some(fields)) => {
                let mut last_chunk = Vec::new();
                if write_trailers(&mut last_chunk, &fields).is_err() {
                    self.refuse();
                    return Poll::Ready(Err(ReadFailure::Reset));
                }
                self.last_chunk = Some(last_chunk.into());
                Poll::Ready(Ok(()))
            }
            Ok(None) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(self.has_failed(&error))),
        }
    }

    fn has_failed(&mut self, error: &::h2::Error) -> ReadFailure {
        self.from = From::Failed;
        self.failed(error)
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReadFailure>> {
        let From::Response { future, to_head, tunnel } = &mut self.from else {
            return Poll::Ready(Ok(()));
        };
        let (to_head, tunnel) = (*to_head, *tunnel);
        match future.poll_informational(cx) {
            Poll::Ready(Some(Ok(interim))) => {
                let (parts, ()) = interim.into_parts();
                let written = write_response(&mut self.text, &parts, false, to_head);
                if written.is_err() {
                    self.refuse();
                }
                return Poll::Ready(written.map(drop).map_err(|_| ReadFailure::Reset));
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.failed(&error))),
            Poll::Ready(None) | Poll::Pending => {}
        }
        let response = match ready!(Pin::new(&mut **future).poll(cx)) {
            Ok(response) => response,
            Err(error) => return Poll::Ready(Err(self.failed(&error))),
        };
        let (mut parts, body) = response.into_parts();
        let written = match tunnel {
            Some(tunnel) if parts.status.is_success() => {
                write_upgrade(&mut self.text, &mut parts, &tunnel.accept)
            }
            _ => write_response(&mut self.text, &parts, body.is_end_stream(), to_head),
        };
        match written {
            Ok(framing) => {
                self.begin(framing, body);
                Poll::Ready(Ok(()))
            }
            Err(_) => {
                self.refuse();
                Poll::Ready(Err(ReadFailure::Reset))
            }
        }
    }

    /// Notes whether the peer promised that it had done nothing.
    fn failed(&mut self, error: &::h2::Error) -> ReadFailure {
        //= https://www.rfc-editor.org/rfc/rfc9113#section-8.7
        //# The REFUSED_STREAM error code can be included in a RST_STREAM
        //# frame to indicate that the stream is being closed prior to any
        //# processing having occurred.  Any request that was sent on the
        //# reset stream can be safely retried.
        // The crate gives the error of a GOAWAY only to streams that are beyond its last one.
        self.is_refused |= error.reason() == Some(::h2::Reason::REFUSED_STREAM)
            || (error.is_go_away() && error.is_remote());
        self.is_malformed |= error.is_library() && error.is_reset();
        self.is_reset |= error.is_reset() && error.is_remote() && !self.is_refused;
        ReadFailure::Reset
    }
}
