//! One end of a connection: sends raw bytes, reads exactly one message by its framing.
//!
//! The reader is strict about what it reads (CRLF only, whole chunk grammar), because it stands for
//! a careful client or origin; what breaks the grammar is reported, never repaired.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use socket2::SockRef;

use super::{PATIENCE, show};

/// Why nothing (more) could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// The peer closed; what came of the unfinished message.
    Eof(Vec<u8>),
    /// The peer reset; what came before.
    Reset(Vec<u8>),
    /// Nothing more came in time.
    Silent(Vec<u8>),
    /// What came breaks the grammar.
    Garbage(String),
}

/// The start line and the fields of a message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// The first line without its CRLF.
    pub(crate) start: String,
    /// Names as sent, values trimmed (obs-text becomes U+0080..U+00FF).
    pub(crate) fields: Vec<(String, String)>,
    /// All bytes, the empty line included.
    pub(crate) raw: Vec<u8>,
}

impl Head {
    fn parse(raw: &[u8]) -> Result<Head, ReadError> {
        let garbage = |what: &str| ReadError::Garbage(format!("{what} in head {}", show(raw)));
        let text: String = raw.iter().map(|byte| char::from(*byte)).collect();
        let lines: Vec<&str> = text.trim_end_matches("\r\n").split("\r\n").collect();
        let mut head = Head { start: lines[0].to_owned(), fields: Vec::new(), raw: raw.to_owned() };
        if lines.iter().any(|line| line.contains(['\r', '\n', '\0'])) {
            return Err(garbage("bare CR, LF or NUL"));
        }
        for line in &lines[1..] {
            let (name, value) =
                line.split_once(':').ok_or_else(|| garbage("a line without ':'"))?;
            if name.is_empty() || name.contains([' ', '\t']) {
                return Err(garbage("a bad field name"));
            }
            head.fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
        Ok(head)
    }

    /// All values of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a field that must not be repeated.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} is repeated in {}", show(&self.raw));
        all.first().copied()
    }

    /// Word `index` of the start line.
    pub(crate) fn word(&self, index: usize) -> &str {
        self.start.splitn(3, ' ').nth(index).unwrap_or("")
    }

    fn is_chunked(&self) -> bool {
        self.all("transfer-encoding").iter().any(|value| value.eq_ignore_ascii_case("chunked"))
    }

    fn content_length(&self) -> Result<Option<usize>, ReadError> {
        match self.all("content-length").as_slice() {
            [] => Ok(None),
            [one] => match one.parse() {
                Ok(length) => Ok(Some(length)),
                Err(_) => Err(ReadError::Garbage(format!("content-length {one:?}"))),
            },
            several => Err(ReadError::Garbage(format!("content-length {several:?}"))),
        }
    }
}

/// How a body ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As its framing says.
    Complete,
    /// By the end of the connection, because nothing else delimits it.
    Closed,
    /// Too early: the reader can tell.
    Truncated(&'static str),
    /// Nothing more came, nor an end, for as long as tests wait.
    Missing,
}

/// A request or a response.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Start line and fields.
    pub(crate) head: Head,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
    /// Trailer fields.
    pub(crate) trailers: Vec<(String, String)>,
    /// How the body ended.
    pub(crate) end: End,
    /// Interim responses that came before.
    pub(crate) interim: Vec<Head>,
}

impl Message {
    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        self.head.word(1).parse().unwrap_or_else(|_| panic!("no status in {:?}", self.head.start))
    }

    /// The reason code of an answer that ringway itself made.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.head.get("x-ringway-reason")
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Asserts status and reason code of an answer that ringway itself made.
    #[track_caller]
    pub(crate) fn assert_own(&self, status: u16, reason: &str) {
        let seen = (self.status(), self.reason().unwrap_or("(none)"));
        assert_eq!(seen, (status, reason), "answer: {}", show(&self.head.raw));
        assert_eq!(self.end, End::Complete, "an answer of ringway itself is whole");
    }
}

/// What frames the body of a message.
#[derive(Clone, Copy)]
pub(crate) enum Kind<'a> {
    /// A request.
    Request,
    /// The response to this method.
    Response(&'a str),
}

/// One end of a connection and the bytes read ahead.
#[derive(Debug)]
pub(crate) struct Wire {
    /// The socket, for what tests do to it directly.
    pub(crate) stream: TcpStream,
    ahead: Vec<u8>,
    /// Longest silence.
    pub(crate) patience: Duration,
    /// All bytes ever received (bounded: tests of big bodies turn it off).
    pub(crate) received: Option<Vec<u8>>,
}

/// Whether a send failed because the peer has ended the connection.
fn is_ended(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_write_timeout(Some(PATIENCE)).expect("write timeout");
        Wire { stream, ahead: Vec::new(), patience: PATIENCE, received: None }
    }

    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .unwrap_or_else(|error| panic!("connecting to {address}: {error}"));
        Wire::new(stream)
    }

    /// Sends bytes. That the peer has ended the connection fails nothing here: whether it is in time for
    /// that is a race, and what it said before is read afterwards.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        match self.stream.write_all(bytes) {
            Err(error) if !is_ended(&error) => panic!("sending {}: {error}", show(bytes)),
            _ => {}
        }
    }

    /// Sends what it can; the peer may have closed already.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Closes the sending side only.
    pub(crate) fn half_close(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes with a reset instead of an end.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// Receives once into the bytes read ahead.
    pub(crate) fn fill(&mut self) -> Result<(), ReadError> {
        self.fill_until(Instant::now() + self.patience)
    }

    fn fill_until(&mut self, end: Instant) -> Result<(), ReadError> {
        let mut bytes = [0; 64 * 1024];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ReadError::Silent(std::mem::take(&mut self.ahead)));
            }
            self.stream.set_read_timeout(Some(left)).expect("read timeout");
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ReadError::Eof(std::mem::take(&mut self.ahead))),
                Ok(n) => {
                    if let Some(received) = &mut self.received {
                        received.extend_from_slice(&bytes[..n]);
                    }
                    self.ahead.extend_from_slice(&bytes[..n]);
                    return Ok(());
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                    ErrorKind::Interrupted => {}
                    _ => return Err(ReadError::Reset(std::mem::take(&mut self.ahead))),
                },
            }
        }
    }

    /// Reads until the empty line.
    pub(crate) fn read_head(&mut self) -> Result<Head, ReadError> {
        let mut searched = 0;
        loop {
            let found = self.ahead[searched..].windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(at) = found {
                let raw: Vec<u8> = self.ahead.drain(..searched + at + 4).collect();
                return Head::parse(&raw);
            }
            searched = self.ahead.len().saturating_sub(3);
            self.fill()?;
        }
    }

    /// Reads `n` bytes, or fewer if the connection ends.
    pub(crate) fn read_bytes(&mut self, n: usize) -> (Vec<u8>, End) {
        let mut bytes = Vec::with_capacity(n);
        loop {
            let take = self.ahead.len().min(n - bytes.len());
            bytes.extend(self.ahead.drain(..take));
            if bytes.len() == n {
                return (bytes, End::Complete);
            }
            if let Err(error) = self.fill() {
                return (bytes, truncated(&error));
            }
        }
    }

    /// Reads one line of the chunk grammar, without its CRLF.
    fn read_line(&mut self) -> Result<String, ReadError> {
        loop {
            if let Some(at) = self.ahead.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.ahead.drain(..=at).collect();
                return match line.strip_suffix(b"\r\n") {
                    Some(line) => Ok(line.iter().map(|byte| char::from(*byte)).collect()),
                    None => Err(ReadError::Garbage(format!("bare LF in {}", show(&line)))),
                };
            }
            self.fill()?;
        }
    }

    /// Reads one chunk; `None` for the last one.
    pub(crate) fn read_chunk(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        let line = self.read_line()?;
        let size = line.split(';').next().unwrap_or("");
        let garbage = || ReadError::Garbage(format!("chunk line {line:?}"));
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(garbage());
        }
        let size = usize::from_str_radix(size, 16).map_err(|_| garbage())?;
        if size == 0 {
            return Ok(None);
        }
        match self.read_bytes(size) {
            (chunk, End::Complete) => {
                if !self.read_line()?.is_empty() {
                    return Err(ReadError::Garbage("data behind a chunk".to_owned()));
                }
                Ok(Some(chunk))
            }
            (chunk, _) => Err(ReadError::Eof(chunk)),
        }
    }

    fn read_trailers(&mut self) -> Result<Vec<(String, String)>, ReadError> {
        let mut trailers = Vec::new();
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok(trailers);
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| ReadError::Garbage(format!("trailer line {line:?}")))?;
            trailers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// Reads the body that belongs to `head`.
    pub(crate) fn read_body(&mut self, head: Head, kind: Kind<'_>) -> Result<Message, ReadError> {
        let mut message = Message {
            head,
            body: Vec::new(),
            trailers: Vec::new(),
            end: End::Complete,
            interim: Vec::new(),
        };
        let status = message.head.word(1).to_owned();
        let bodiless = match kind {
            Kind::Request => false,
            Kind::Response(method) => {
                method == "HEAD" || status.starts_with('1') || status == "204" || status == "304"
            }
        };
        if bodiless {
            return Ok(message);
        }
        let length = message.head.content_length()?;
        if message.head.is_chunked() {
            if length.is_some() {
                return Err(ReadError::Garbage("content-length beside chunked".to_owned()));
            }
            self.read_chunked(&mut message)?;
        } else if let Some(length) = length {
            (message.body, message.end) = self.read_bytes(length);
        } else if matches!(kind, Kind::Response(_)) {
            let (body, reset) = self.read_to_end();
            message.body = body;
            message.end = if reset { End::Truncated("reset") } else { End::Closed };
        }
        Ok(message)
    }

    fn read_chunked(&mut self, message: &mut Message) -> Result<(), ReadError> {
        loop {
            match self.read_chunk() {
                Ok(Some(chunk)) => message.body.extend(chunk),
                Ok(None) => break,
                Err(ReadError::Garbage(what)) => return Err(ReadError::Garbage(what)),
                Err(error) => {
                    if let ReadError::Eof(part) | ReadError::Reset(part) = &error {
                        message.body.extend(part);
                    }
                    message.end = truncated(&error);
                    return Ok(());
                }
            }
        }
        match self.read_trailers() {
            Ok(trailers) => message.trailers = trailers,
            Err(ReadError::Garbage(what)) => return Err(ReadError::Garbage(what)),
            Err(error) => message.end = truncated(&error),
        }
        Ok(())
    }

    /// Reads until the peer ends the connection: what came, and whether it ended with a reset.
    /// A peer that stays silent and open fails the test.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self) -> (Vec<u8>, bool) {
        let mut all = std::mem::take(&mut self.ahead);
        loop {
            let result = self.fill();
            all.append(&mut self.ahead);
            match result {
                Ok(()) => {}
                Err(ReadError::Eof(part)) => {
                    all.extend(part);
                    return (all, false);
                }
                Err(ReadError::Reset(part)) => {
                    all.extend(part);
                    return (all, true);
                }
                Err(_) => panic!("the peer neither sent nor closed; so far {}", show(&all)),
            }
        }
    }

    /// Whether the peer ends the connection within `within`; bytes that come before are dropped.
    pub(crate) fn closes_within(&mut self, within: Duration) -> bool {
        let end = Instant::now() + within;
        loop {
            match self.fill_until(end) {
                Ok(()) => self.ahead.clear(),
                Err(ReadError::Silent(_)) => return false,
                Err(_) => return true,
            }
        }
    }

    /// Bytes read ahead that belong to no message yet.
    pub(crate) fn leftover(&self) -> &[u8] {
        &self.ahead
    }
}

fn truncated(error: &ReadError) -> End {
    match error {
        ReadError::Eof(_) => End::Truncated("end of stream"),
        ReadError::Reset(_) => End::Truncated("reset"),
        ReadError::Garbage(_) => End::Truncated("garbage"),
        ReadError::Silent(_) => End::Missing,
    }
}
