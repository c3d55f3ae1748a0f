//! The origin behind all proxies: one epoll thread whose answers are ready-made bytes.
//!
//! `/s` 100 bytes, `/16k` to `/512k`, `/1m`, `/upload` (reads a body of a known length, answers 100 bytes),
//! `/ws` (echoes WebSocket messages), `/count` (how many requests it has answered). It must not be the bottleneck: an answer is one receive and
//! one send, uploads are thrown away in the kernel, the date changes once a second.

use crate::scenario::{LARGE_BYTES, MEDIUM_BYTES, SIZES, SMALL_BYTES, body};
use crate::sys::{self, Epoll, Interest, Ready};
use crate::wire;
use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{SystemTime, UNIX_EPOCH};

const LISTENER: u64 = u64::MAX;
const BACKLOG: i32 = 4096;
const READ_BYTES: usize = 64 * 1024;
/// A request head longer than this is none.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const UPGRADE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const REFUSAL: &[u8] = b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n";

/// Serves on 127.0.0.1:`port` for as long as the process lives.
///
/// # Errors
/// The port is taken, or epoll fails. Trouble with one connection ends that connection only.
pub fn serve(port: u16, extra_headers: &[String]) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    sys::set_backlog(listener.as_raw_fd(), BACKLOG)?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(1024)?;
    epoll.add(listener.as_raw_fd(), LISTENER, Interest::Read)?;
    let pages = Pages::new(extra_headers);
    let connections = Vec::new();
    Origin { listener, epoll, pages, connections, free: Vec::new() }.run()
}

struct Origin {
    listener: TcpListener,
    epoll: Epoll,
    pages: Pages,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
}

/// A connection is over: why does not matter to an origin.
struct Gone;

impl Origin {
    fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = self.epoll.wait(-1)?;
            self.pages.refresh_date();
            for index in 0..count {
                let ready = self.epoll.get(index);
                match ready.token {
                    LISTENER => self.accept()?,
                    _ => self.advance(ready, &mut buffer),
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.epoll.add(stream.as_raw_fd(), slot as u64, Interest::Read)?;
            self.connections[slot] = Some(Connection::new(stream));
        }
    }

    fn advance(&mut self, ready: Ready, buffer: &mut [u8]) {
        let slot = ready.token as usize;
        let Some(connection) = &mut self.connections[slot] else { return };
        let was_blocked = connection.blocked();
        let result = connection.advance(&self.pages, buffer);
        let blocked = connection.blocked();
        if blocked != was_blocked && result.is_ok() {
            // While an answer waits for room nothing is read: the peer must take it first.
            let interest = if blocked { Interest::Write } else { Interest::Read };
            let _ = self.epoll.modify(connection.stream.as_raw_fd(), ready.token, interest);
        }
        if result.is_err() {
            self.connections[slot] = None; // dropped, so closed, so out of the epoll set
            self.free.push(slot);
        }
    }
}

/// What is left to send.
enum Out {
    Nothing,
    Page { page: Page, sent: usize },
    Bytes { bytes: Vec<u8>, sent: usize },
}

struct Connection {
    stream: TcpStream,
    /// Received, not yet understood: a torn head or frame.
    input: Vec<u8>,
    upload_left: usize,
    out: Out,
    close_after: bool,
    websocket: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            upload_left: 0,
            out: Out::Nothing,
            close_after: false,
            websocket: false,
        }
    }

    fn blocked(&self) -> bool {
        !matches!(self.out, Out::Nothing)
    }

    fn advance(&mut self, pages: &Pages, buffer: &mut [u8]) -> Result<(), Gone> {
        if self.blocked() {
            self.flush(pages)?;
            return if self.blocked() { Ok(()) } else { self.digest(&[], pages) };
        }
        if self.upload_left > 0 {
            match sys::discard(&self.stream, self.upload_left) {
                Ok(0) => return Err(Gone),
                Ok(count) => self.upload_left -= count,
                Err(error) => return would_block(error),
            }
            return if self.upload_left == 0 { self.answer(Page::Uploaded, pages) } else { Ok(()) };
        }
        match self.stream.read(buffer) {
            Ok(0) => Err(Gone),
            Ok(count) => self.digest(&buffer[..count], pages),
            Err(error) => would_block(error),
        }
    }

    /// Handles what was received, together with what was left over.
    fn digest(&mut self, received: &[u8], pages: &Pages) -> Result<(), Gone> {
        let joined;
        let mut rest = received;
        if !self.input.is_empty() {
            self.input.extend_from_slice(received);
            joined = std::mem::take(&mut self.input);
            rest = &joined;
        }
        while !rest.is_empty() && !self.blocked() {
            let used = if self.websocket { self.echo(rest)? } else { self.request(rest, pages)? };
            if used == 0 {
                break;
            }
            rest = &rest[used..];
        }
        if !rest.is_empty() {
            self.input = rest.to_vec();
        }
        Ok(())
    }

    /// Takes one request with what is there of its body; returns the bytes used, 0 if torn.
    fn request(&mut self, bytes: &[u8], pages: &Pages) -> Result<usize, Gone> {
        let Some(request) = wire::request(bytes).map_err(|_| Gone)? else {
            return if bytes.len() > HEAD_BYTES_MAX { Err(Gone) } else { Ok(0) };
        };
        self.close_after = request.close;
        if request.chunked {
            self.close_after = true;
            self.send(Out::Bytes { bytes: REFUSAL.to_vec(), sent: 0 }, pages)?;
            return Ok(bytes.len());
        }
        let body_here = request.body_bytes.min(bytes.len() - request.head_bytes);
        self.upload_left = request.body_bytes - body_here;
        let used = request.head_bytes + body_here;
        match request.path {
            "/ws" => {
                self.websocket = true;
                self.send(Out::Bytes { bytes: UPGRADE.to_vec(), sent: 0 }, pages)?;
            }
            "/count" => {
                self.close_after = true;
                self.send(Out::Bytes { bytes: pages.count(), sent: 0 }, pages)?;
            }
            _ if self.upload_left > 0 => {} // answered when all of it is here
            path => self.answer(Page::at(path), pages)?,
        }
        Ok(used)
    }

    fn echo(&mut self, bytes: &[u8]) -> Result<usize, Gone> {
        let Some((payload, used)) = wire::unframe(bytes) else {
            return if bytes.len() > 1 << 16 { Err(Gone) } else { Ok(0) };
        };
        self.out = Out::Bytes { bytes: wire::frame(&payload, None), sent: 0 };
        self.flush_bytes()?;
        Ok(used)
    }

    fn answer(&mut self, page: Page, pages: &Pages) -> Result<(), Gone> {
        pages.answered.set(pages.answered.get() + 1);
        if self.close_after {
            return self.send(Out::Bytes { bytes: pages.closing(page), sent: 0 }, pages);
        }
        self.send(Out::Page { page, sent: 0 }, pages)
    }

    fn send(&mut self, out: Out, pages: &Pages) -> Result<(), Gone> {
        self.out = out;
        self.flush(pages)
    }

    fn flush(&mut self, pages: &Pages) -> Result<(), Gone> {
        let Out::Page { page, sent } = &mut self.out else { return self.flush_bytes() };
        let bytes = pages.bytes(*page);
        if write_some(&mut self.stream, bytes, sent)? { self.sent_all() } else { Ok(()) }
    }

    fn flush_bytes(&mut self) -> Result<(), Gone> {
        let Out::Bytes { bytes, sent } = &mut self.out else { return Ok(()) };
        if write_some(&mut self.stream, bytes, sent)? { self.sent_all() } else { Ok(()) }
    }

    fn sent_all(&mut self) -> Result<(), Gone> {
        self.out = Out::Nothing;
        if self.close_after { Err(Gone) } else { Ok(()) }
    }
}

/// Writes until all is out (`true`) or the socket is full.
fn write_some(stream: &mut TcpStream, bytes: &[u8], sent: &mut usize) -> Result<bool, Gone> {
    while *sent < bytes.len() {
        match stream.write(&bytes[*sent..]) {
            Ok(count) => *sent += count,
            Err(error) => return would_block(error).map(|()| false),
        }
    }
    Ok(true)
}

fn would_block(error: io::Error) -> Result<(), Gone> {
    let harmless = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
    if harmless { Ok(()) } else { Err(Gone) }
}

#[derive(Clone, Copy)]
enum Page {
    Small,
    Medium,
    Large,
    Uploaded,
    Missing,
    /// One of [`SIZES`].
    Sized(usize),
}

impl Page {
    const NAMED: [Self; 5] =
        [Self::Small, Self::Medium, Self::Large, Self::Uploaded, Self::Missing];

    /// All of them, in the order of [`Page::index`].
    fn all() -> impl Iterator<Item = Self> {
        Self::NAMED.into_iter().chain((0..SIZES.len()).map(Self::Sized))
    }

    fn index(self) -> usize {
        match self {
            Self::Small => 0,
            Self::Medium => 1,
            Self::Large => 2,
            Self::Uploaded => 3,
            Self::Missing => 4,
            Self::Sized(index) => Self::NAMED.len() + index,
        }
    }

    fn at(path: &str) -> Self {
        match path {
            "/s" => Self::Small,
            "/16k" => Self::Medium,
            "/1m" => Self::Large,
            "/upload" => Self::Uploaded,
            _ => SIZES.iter().position(|size| size.path == path).map_or(Self::Missing, Self::Sized),
        }
    }

    /// Status, media type and body length.
    fn shape(self) -> (&'static str, &'static str, usize) {
        match self {
            Self::Small | Self::Uploaded => ("200 OK", "text/plain; charset=utf-8", SMALL_BYTES),
            Self::Medium => ("200 OK", "application/json", MEDIUM_BYTES),
            Self::Large => ("200 OK", "application/octet-stream", LARGE_BYTES),
            Self::Sized(index) => ("200 OK", "application/json", SIZES[index].answer_bytes),
            Self::Missing => ("404 Not Found", "text/plain; charset=utf-8", 0),
        }
    }
}

/// The answers, head and body in one piece each, so that one send does.
struct Pages {
    second: u64,
    pages: Vec<Vec<u8>>,
    answered: Cell<u64>,
}

/// What stands before the date in every page; status lines differ in length.
const DATE_FIELD: &[u8] = b"\r\nDate: ";

impl Pages {
    fn new(extra_headers: &[String]) -> Self {
        let pages = Page::all().map(|page| {
            let (status, media_type, length) = page.shape();
            let mut head = format!(
                "HTTP/1.1 {status}\r\nDate: {}\r\nServer: origin\r\nContent-Type: {media_type}\r\n\
                 Content-Length: {length}\r\nCache-Control: no-store\r\n",
                wire::http_date(0)
            );
            extra_headers.iter().for_each(|header| head.push_str(&format!("{header}\r\n")));
            head.push_str("\r\n");
            head.into_bytes().into_iter().chain(body(length)).collect()
        });
        let mut pages = Self { second: 0, pages: pages.collect(), answered: Cell::new(0) };
        pages.refresh_date();
        pages
    }

    fn bytes(&self, page: Page) -> &[u8] {
        &self.pages[page.index()]
    }

    /// How many requests for pages were answered, as the answer to one more.
    fn count(&self) -> Vec<u8> {
        let count = self.answered.get();
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{count}\n").into_bytes()
    }

    /// The same page, with the announcement that the connection ends here.
    fn closing(&self, page: Page) -> Vec<u8> {
        let bytes = self.bytes(page);
        let status_line = bytes.windows(2).position(|two| two == b"\r\n").unwrap_or_default();
        let (status, rest) = bytes.split_at(status_line);
        [status, b"\r\nConnection: close", rest].concat()
    }

    fn refresh_date(&mut self) {
        let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        if second == self.second {
            return;
        }
        self.second = second;
        let date = wire::http_date(second);
        for page in &mut self.pages {
            let field = page.windows(DATE_FIELD.len()).position(|bytes| bytes == DATE_FIELD);
            if let Some(at) = field.map(|at| at + DATE_FIELD.len()) {
                page[at..at + date.len()].copy_from_slice(date.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_every_page_torn_at_every_byte() {
        let hint = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = hint.local_addr().unwrap().port();
        drop(hint);
        std::thread::spawn(move || serve(port, &["X-More: yes".to_owned()]));
        let mut stream = (0..200)
            .find_map(|_| {
                std::thread::sleep(std::time::Duration::from_millis(10));
                TcpStream::connect(("127.0.0.1", port)).ok()
            })
            .unwrap();
        stream.set_nodelay(true).unwrap();
        for (path, length) in
            [("/s", SMALL_BYTES), ("/16k", MEDIUM_BYTES), ("/1m", LARGE_BYTES), ("/64k", 65_536)]
        {
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
            assert_answer(&mut stream, length);
        }
        let upload = b"POST /upload HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";
        for cut in 1..upload.len() {
            stream.write_all(&upload[..cut]).unwrap();
            std::thread::sleep(std::time::Duration::from_micros(300));
            stream.write_all(&upload[cut..]).unwrap();
            assert_answer(&mut stream, SMALL_BYTES);
        }
        let mut last = TcpStream::connect(("127.0.0.1", port)).unwrap();
        last.write_all(b"GET /s HTTP/1.0\r\n\r\n").unwrap();
        let mut whole = String::new();
        last.read_to_string(&mut whole).unwrap();
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\nConnection: close\r\nDate: "), "{whole}");
        let mut asked = TcpStream::connect(("127.0.0.1", port)).unwrap();
        asked.write_all(b"GET /count HTTP/1.1\r\n\r\n").unwrap();
        let mut count = String::new();
        asked.read_to_string(&mut count).unwrap();
        assert!(count.ends_with(&format!("\r\n\r\n{}\n", 4 + upload.len() - 1 + 1)), "{count}");
        stream.write_all(b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n").unwrap();
        let mut answer = vec![0; UPGRADE.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, UPGRADE);
        stream.write_all(&wire::frame(b"hello", Some([9, 8, 7, 6]))).unwrap();
        let mut echo = [0; 7];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(wire::unframe(&echo), Some((b"hello".to_vec(), 7)));
    }

    fn assert_answer(stream: &mut TcpStream, length: usize) {
        let mut got = Vec::new();
        let head = loop {
            let mut some = [0; 4096];
            let count = stream.read(&mut some).unwrap();
            got.extend_from_slice(&some[..count]);
            if let Some(head) = wire::response(&got).unwrap() {
                break head;
            }
        };
        assert_eq!((head.status, head.body_bytes), (200, Some(length)));
        let mut rest = got.split_off(head.head_bytes);
        let here = rest.len();
        rest.resize(length, 0);
        stream.read_exact(&mut rest[here..]).unwrap();
        assert!(rest.into_iter().eq(body(length)));
        assert!(String::from_utf8(got).unwrap().contains("X-More: yes\r\n"));
    }
}
