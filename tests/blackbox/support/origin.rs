//! Scripted origins: what stands behind ringway, and does exactly what a test says.
//!
//! Two kinds. [`Origin::start`] hands each request to the test, which answers, hangs, resets, ...;
//! [`Origin::auto`] answers by a function and remembers what it saw. Both read strictly: an origin
//! that received something that isn't HTTP fails its test when it is dropped.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

use super::{
    PATIENCE, eventually, show,
    wire::{End, Head, Kind, ReadError, Wire},
};

/// A request as an origin received it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Which connection of the origin, from 0.
    pub(crate) connection: usize,
    /// Start line and fields.
    pub(crate) head: Head,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
    /// Trailer fields.
    pub(crate) trailers: Vec<(String, String)>,
    /// Whether the body came to its end.
    pub(crate) whole: bool,
}

/// One step of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// These bytes.
    Send(Vec<u8>),
    /// A pause: part of what is tested (timeouts, random delays), never a means to wait.
    Pause(Duration),
    /// The end of the stream, both directions.
    Close,
    /// A reset.
    Reset,
    /// Nothing more, until the peer ends the connection.
    Hang,
}

/// A whole answer with a length.
pub(crate) fn reply(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} Test\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

type Script = dyn Fn(&Seen) -> Vec<Step> + Send + Sync;

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    accepted: AtomicUsize,
    open: Mutex<HashMap<usize, TcpStream>>,
    seen: Mutex<Vec<Seen>>,
    changed: Condvar,
    garbage: Mutex<Vec<String>>,
}

impl Shared {
    fn remember(&self, seen: Seen) {
        self.seen.lock().expect("no panic while locked").push(seen);
        self.changed.notify_all();
    }

    fn complain(&self, what: String) {
        self.garbage.lock().expect("no panic while locked").push(what);
    }
}

/// A scripted origin on a port of its own.
pub(crate) struct Origin {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    requests: Mutex<Receiver<OriginRequest>>,
}

/// A request whose answer is up to the test. Dropped without one, the connection closes.
pub(crate) struct OriginRequest {
    /// Which connection of the origin, from 0.
    pub(crate) connection: usize,
    /// Start line and fields.
    pub(crate) head: Head,
    /// The body, once read.
    pub(crate) body: Vec<u8>,
    /// Trailer fields, once read.
    pub(crate) trailers: Vec<(String, String)>,
    wire: Option<Wire>,
    back: Sender<Wire>,
    shared: Arc<Shared>,
}

impl Origin {
    /// An origin that hands each request to the test.
    pub(crate) fn start() -> Self {
        Self::listen(None)
    }

    /// An origin that answers each request by a function.
    pub(crate) fn auto(script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::listen(Some(Arc::new(script)))
    }

    /// The same at an address; `None` if somebody else has it.
    pub(crate) fn auto_at(
        address: SocketAddr,
        script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
    ) -> Option<Self> {
        let listener = TcpListener::bind(address).ok()?;
        Some(Self::listen_on(listener, Some(Arc::new(script))))
    }

    /// An origin that says what it saw, in the field `x-seen` and as body.
    pub(crate) fn echo() -> Self {
        Self::auto(|seen| {
            let line = format!("{} {}", seen.head.word(0), seen.head.word(1));
            let body = if seen.head.word(0) == "HEAD" { "" } else { line.as_str() };
            let length = line.len();
            vec![Step::Send(
                format!(
                    "HTTP/1.1 200 OK\r\nx-seen: {line}\r\nContent-Length: {length}\r\n\r\n{body}"
                )
                .into_bytes(),
            )]
        })
    }

    fn listen(script: Option<Arc<Script>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        Self::listen_on(listener, script)
    }

    fn listen_on(listener: TcpListener, script: Option<Arc<Script>>) -> Self {
        let address = listener.local_addr().expect("its address");
        let shared = Arc::<Shared>::default();
        let (sender, requests) = channel();
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { return };
                let number = of_thread.accepted.fetch_add(1, Ordering::SeqCst);
                let copy = stream.try_clone().expect("a second handle");
                of_thread.open.lock().expect("no panic while locked").insert(number, copy);
                let connection = Connection {
                    number,
                    script: script.clone(),
                    shared: Arc::clone(&of_thread),
                    requests: sender.clone(),
                };
                std::thread::spawn(move || connection.serve(Wire::new(stream)));
            }
        });
        Origin { address, shared, requests: Mutex::new(requests) }
    }

    /// The next request with its whole body.
    #[track_caller]
    pub(crate) fn next_request(&self) -> OriginRequest {
        let mut request = self.next_head();
        request.read_body();
        request
    }

    /// The next request, its body unread.
    #[track_caller]
    pub(crate) fn next_head(&self) -> OriginRequest {
        let requests = self.requests.lock().expect("no panic while locked");
        match requests.recv_timeout(PATIENCE) {
            Ok(request) => request,
            Err(RecvTimeoutError::Timeout) => panic!("no request reached the origin"),
            Err(RecvTimeoutError::Disconnected) => panic!("the origin has stopped"),
        }
    }

    /// Whether another request came within a short time. Only to show that none did.
    pub(crate) fn got_another(&self, within: Duration) -> bool {
        self.requests.lock().expect("no panic while locked").recv_timeout(within).is_ok()
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.lock().expect("no panic while locked").len()
    }

    /// Waits until `count` connections are open.
    pub(crate) fn wait_open(&self, count: usize, within: Duration) {
        eventually(&format!("{count} open origin connections"), within, || {
            (self.open() == count).then_some(())
        });
    }

    /// Requests seen so far by an origin that answers by a function.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("no panic while locked").clone()
    }

    /// How many requests an origin that answers by a function has seen.
    pub(crate) fn seen_count(&self) -> usize {
        self.shared.seen.lock().expect("no panic while locked").len()
    }

    /// How many of the requests seen are like this.
    pub(crate) fn count(&self, is_like_this: impl Fn(&Seen) -> bool) -> usize {
        let seen = self.shared.seen.lock().expect("no panic while locked");
        seen.iter().filter(|seen| is_like_this(seen)).count()
    }

    /// The requests seen since there were `before`.
    pub(crate) fn seen_since(&self, before: usize) -> Vec<Seen> {
        self.shared.seen.lock().expect("no panic while locked")[before..].to_vec()
    }

    /// Waits until `count` requests were seen.
    pub(crate) fn wait_seen(&self, count: usize) -> Vec<Seen> {
        let seen = self.shared.seen.lock().expect("no panic while locked");
        let waited =
            self.shared.changed.wait_timeout_while(seen, PATIENCE, |seen| seen.len() < count);
        let (seen, timeout) = waited.expect("no panic while locked");
        assert!(!timeout.timed_out(), "waited for {count} requests, saw {}", seen.len());
        seen.clone()
    }

    /// What came that isn't HTTP; taken, so that dropping the origin passes.
    pub(crate) fn take_garbage(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.garbage.lock().expect("no panic while locked"))
    }

    /// Ends all connections now, as a dying process would.
    pub(crate) fn cut_all(&self) {
        for stream in self.shared.open.lock().expect("no panic while locked").values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Ends all connections and listens no more: later connects are refused.
    pub(crate) fn kill(self) -> SocketAddr {
        self.stop();
        self.cut_all();
        self.address
    }

    fn stop(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect_timeout(&self.address, PATIENCE); // wakes the accepting thread
        eventually("the origin to stop listening", PATIENCE, || {
            TcpStream::connect_timeout(&self.address, PATIENCE).is_err().then_some(())
        });
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if !self.shared.stopping.load(Ordering::SeqCst) {
            self.shared.stopping.store(true, Ordering::SeqCst);
            let _ = TcpStream::connect_timeout(&self.address, PATIENCE);
        }
        self.cut_all();
        let garbage = self.take_garbage();
        if !std::thread::panicking() {
            assert!(garbage.is_empty(), "an origin received what isn't HTTP: {garbage:?}");
        }
    }
}

struct Connection {
    number: usize,
    script: Option<Arc<Script>>,
    shared: Arc<Shared>,
    requests: Sender<OriginRequest>,
}

impl Connection {
    fn serve(self, wire: Wire) {
        let mut wire = Some(wire);
        while let Some(mut open) = wire.take() {
            open.patience = Duration::from_secs(3600); // an idle pooled connection is no error
            let head = match open.read_head() {
                Ok(head) if is_request_line(&head.start) => head,
                Ok(head) => {
                    self.shared.complain(show(&head.raw));
                    break;
                }
                Err(ReadError::Garbage(what)) => {
                    self.shared.complain(what);
                    break;
                }
                Err(_) => break,
            };
            open.patience = PATIENCE;
            wire = match &self.script {
                Some(script) => self.play(open, head, script),
                None => self.hand_over(open, head),
            };
        }
        self.shared.open.lock().expect("no panic while locked").remove(&self.number);
    }

    /// Gives the request to the test and waits until the test gives the connection back.
    fn hand_over(&self, wire: Wire, head: Head) -> Option<Wire> {
        let (back, returned) = channel();
        let request = OriginRequest {
            connection: self.number,
            head,
            body: Vec::new(),
            trailers: Vec::new(),
            wire: Some(wire),
            back,
            shared: Arc::clone(&self.shared),
        };
        self.requests.send(request).ok()?;
        returned.recv().ok()
    }

    fn play(&self, mut wire: Wire, head: Head, script: &Arc<Script>) -> Option<Wire> {
        let seen = match wire.read_body(head, Kind::Request) {
            Ok(message) => Seen {
                connection: self.number,
                head: message.head,
                body: message.body,
                trailers: message.trailers,
                whole: message.end == End::Complete,
            },
            Err(error) => {
                self.shared.complain(format!("body: {error:?}"));
                return None;
            }
        };
        let (whole, steps) = (seen.whole, script(&seen));
        self.shared.remember(seen);
        if !whole {
            return None;
        }
        for step in steps {
            match step {
                Step::Send(bytes) => {
                    if !wire.try_send(&bytes) {
                        return None;
                    }
                }
                Step::Pause(length) => std::thread::sleep(length),
                Step::Close => return None,
                Step::Reset => {
                    self.shared.open.lock().expect("no panic while locked").remove(&self.number);
                    wire.reset();
                    return None;
                }
                Step::Hang => {
                    wire.closes_within(Duration::from_secs(60));
                    return None;
                }
            }
        }
        Some(wire)
    }
}

impl OriginRequest {
    /// The connection, to read from or send to piece by piece.
    pub(crate) fn wire(&mut self) -> &mut Wire {
        self.wire.as_mut().expect("the connection is still here")
    }

    /// Reads the body; a broken one fails the test.
    #[track_caller]
    pub(crate) fn read_body(&mut self) {
        let head = self.head.clone();
        match self.wire().read_body(head, Kind::Request) {
            Ok(message) if message.end == End::Complete => {
                (self.body, self.trailers) = (message.body, message.trailers);
            }
            other => panic!("the origin could not read the body: {other:?}"),
        }
    }

    /// Sends bytes as they are; the connection stays with the test.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire().send(bytes);
    }

    /// Sends an answer and waits for the next request on this connection.
    #[track_caller]
    pub(crate) fn answer(mut self, raw: impl AsRef<[u8]>) {
        self.send(raw);
        self.done();
    }

    /// Sends a whole answer with a length and waits for the next request on this connection.
    #[track_caller]
    pub(crate) fn reply(self, status: u16, body: &str) {
        self.answer(reply(status, body));
    }

    /// Waits for the next request on this connection.
    pub(crate) fn done(mut self) {
        if let Some(wire) = self.wire.take() {
            let _ = self.back.send(wire);
        }
    }

    /// Ends the connection.
    pub(crate) fn close(self) {}

    /// Ends the connection with a reset.
    pub(crate) fn reset(mut self) {
        // The second handle must go first, or the socket stays open behind it.
        self.shared.open.lock().expect("no panic while locked").remove(&self.connection);
        if let Some(wire) = self.wire.take() {
            wire.reset();
        }
    }

    /// Whether ringway ends the connection within `within`.
    pub(crate) fn cancelled_within(&mut self, within: Duration) -> bool {
        self.wire().closes_within(within)
    }
}

impl Drop for OriginRequest {
    fn drop(&mut self) {
        // Closes both handles, so that the peer sees the end at once.
        if let Some(wire) = &self.wire {
            let _ = wire.stream.shutdown(Shutdown::Both);
        }
    }
}

fn is_request_line(line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    matches!(words.as_slice(), [method, target, "HTTP/1.1"] if !method.is_empty() && !target.is_empty())
}
