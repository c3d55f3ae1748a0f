//! HTTP/2 frame by frame, for what no client would send; and [`Http2`], a real client, for the rest.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};

use super::PATIENCE;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }

    /// The status of a response's HEADERS, if it is one that the static table has.
    pub(crate) fn status(&self) -> Option<u16> {
        const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        match self.payload.first() {
            Some(index @ 0x88..=0x8e) => Some(STATIC[usize::from(index - 0x88)]),
            // A literal with the indexed name `:status`, which may have been remembered.
            Some(0x48 | 0x08) => {
                let length = *self.payload.get(1)?;
                let value = self.payload.get(2..2 + usize::from(length & 0x7f))?;
                if length & 0x80 == 0 {
                    return std::str::from_utf8(value).ok()?.parse().ok();
                }
                Some(huffman_digits(value))
            }
            _ => None,
        }
    }
}

/// Three digits in the Huffman code of HPACK: 0 to 2 have five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u16> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |n| u16::from(byte >> n & 1))).collect();
    let number = |bits: &[u16]| bits.iter().fold(0, |sum, bit| sum * 2 + bit);
    let (mut at, mut value) = (0, 0);
    for _ in 0..3 {
        let short = number(&bits[at..at + 5]);
        let digit = if short < 3 { short } else { number(&bits[at..at + 6]) - 22 };
        at += if short < 3 { 5 } else { 6 };
        value = value * 10 + digit;
    }
    value
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Fields as HPACK literals that are not remembered.
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            match u8::try_from(text.len()) {
                Ok(length @ 0..127) => block.push(length),
                _ => {
                    block.push(127);
                    let mut rest = text.len() - 127;
                    while rest >= 128 {
                        block.push((rest % 128) as u8 | 128);
                        rest /= 128;
                    }
                    block.push(rest as u8);
                }
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The head of a plain GET.
pub(crate) fn get(path: &str) -> Vec<u8> {
    fields(&[(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", path)])
}

/// A connection spoken frame by frame.
pub(crate) struct Raw {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Raw {
    /// Connects and greets.
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::connect_with(to, &[])
    }

    /// The same with these settings.
    pub(crate) fn connect_with(to: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut raw = Self::silent(to);
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend(id.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        raw.frame(SETTINGS, 0, 0, &payload);
        raw
    }

    /// Connects and says nothing.
    pub(crate) fn silent(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).expect("ringway listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, input: Vec::new() }
    }

    /// Sends bytes; whether the other side takes them.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends bytes, of which the other side need not take all: whether it has already ended the connection
    /// is a race, and what it said before that is read afterwards.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes);
    }

    /// Sends no more.
    pub(crate) fn end(&self) {
        self.stream.shutdown(std::net::Shutdown::Write).expect("the connection is there");
    }

    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send(&frame(kind, flags, stream, payload));
    }

    /// The next frame; `None` at the end of the connection, or when nothing comes.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.parse() {
                return Some(frame);
            }
            let mut piece = [0; 16 * 1024];
            match self.stream.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.input.extend_from_slice(&piece[..count]),
            }
        }
    }

    fn parse(&mut self) -> Option<Frame> {
        let head: [u8; 9] = self.input.get(..9)?.try_into().ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = self.input.get(9..9 + length)?.to_vec();
        self.input.drain(..9 + length);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of this kind; others are passed over, SETTINGS acknowledged.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next();
            let frame = frame.unwrap_or_else(|| panic!("the connection ended without kind {kind}"));
            if frame.kind == SETTINGS && frame.flags == 0 {
                self.frame(SETTINGS, 1, 0, &[]);
            }
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// What is made of a request: the status, or the code of its reset (negative).
    #[track_caller]
    pub(crate) fn outcome(&mut self, stream: u32) -> i64 {
        loop {
            let Some(frame) = self.next() else { return i64::MIN };
            match frame.kind {
                HEADERS if frame.stream == stream => {
                    return i64::from(frame.status().unwrap_or(0));
                }
                RST_STREAM if frame.stream == stream => return -i64::from(frame.code()),
                GOAWAY if frame.code() != 0 => return i64::MIN + i64::from(frame.code()),
                _ => {}
            }
        }
    }

    /// Everything until the connection ends; whether it does.
    pub(crate) fn read_to_end(&mut self, within: Duration) -> (Vec<Frame>, bool) {
        self.stream.set_read_timeout(Some(within)).expect("a timeout");
        let mut frames = Vec::new();
        loop {
            while let Some(frame) = self.parse() {
                frames.push(frame);
            }
            let mut piece = [0; 16 * 1024];
            match self.stream.read(&mut piece) {
                Ok(0) => return (frames, true),
                Ok(count) => self.input.extend_from_slice(&piece[..count]),
                Err(error) => {
                    let is_open = matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    );
                    return (frames, !is_open);
                }
            }
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) interim: Vec<u16>,
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection of the `h2` crate's client.
#[derive(Clone)]
pub(crate) struct Http2 {
    send: h2::client::SendRequest<Bytes>,
}

impl Http2 {
    /// Connects; must be called within [`block_on`].
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        Self::over(tokio::net::TcpStream::connect(to).await.expect("ringway listens")).await
    }

    /// Over a connection that is there; as [`Http2::connect`].
    pub(crate) async fn over(stream: tokio::net::TcpStream) -> Self {
        let (send, connection) = h2::client::handshake(stream).await.expect("a greeting");
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Self { send }
    }

    /// Sends a request with a body and trailers.
    pub(crate) async fn request(
        &self,
        request: Request<()>,
        body: Option<Bytes>,
        trailers: Option<HeaderMap>,
    ) -> Result<Answer, h2::Error> {
        let mut ready = self.send.clone().ready().await?;
        let (mut response, mut send) =
            ready.send_request(request, body.is_none() && trailers.is_none())?;
        let sending = async {
            let mut left = body.unwrap_or_default();
            if left.is_empty() && trailers.is_none() {
                let _ = send.send_data(left, true); // an error: the head ended it
                return;
            }
            while !left.is_empty() {
                send.reserve_capacity(left.len());
                let Some(Ok(window)) = std::future::poll_fn(|cx| send.poll_capacity(cx)).await
                else {
                    return;
                };
                let piece = left.split_to(window.min(left.len()));
                let is_last = left.is_empty() && trailers.is_none();
                if send.send_data(piece, is_last).is_err() {
                    return;
                }
            }
            if let Some(trailers) = trailers {
                let _ = send.send_trailers(trailers);
            }
        };
        let receiving = async {
            let mut interim = Vec::new();
            while let Some(head) = std::future::poll_fn(|cx| response.poll_informational(cx)).await
            {
                interim.push(head?.status().as_u16());
            }
            let (parts, body) = response.await?.into_parts();
            read(interim, Response::from_parts(parts, ()), body).await
        };
        let ((), answer) = tokio::join!(sending, receiving);
        answer
    }

    /// A GET.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer, h2::Error> {
        let request = Request::get(format!("http://a.test{path}")).body(()).expect("a request");
        self.request(request, None, None).await
    }
}

async fn read(
    interim: Vec<u16>,
    response: Response<()>,
    mut body: h2::RecvStream,
) -> Result<Answer, h2::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok(Answer {
        interim,
        status: response.status().as_u16(),
        fields: response.headers().clone(),
        body: bytes.into(),
        trailers,
    })
}

/// Runs a client on this thread, within the patience of all tests.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE * 3, work).await.expect("in time") })
}

/// An endpoint on a thread of its own; each connection is `serve`'s, in a task of its own.
pub(crate) fn endpoint<F>(serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("non-blocking");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
    });
    address
}
