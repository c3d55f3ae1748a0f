//! A steady load on one thread: asks for routes at random, checks each answer, holds WebSockets.

use super::ringway::changed_in;
use crate::stats::Histogram;
use crate::sys::{self, Epoll, Interest};
use crate::wire;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;

const MS: u64 = 1_000_000;
/// Between two messages of a WebSocket.
const PING_NS: u64 = 20 * MS;
/// An answer that takes longer is missing.
const ANSWER_NS_MAX: u64 = 20_000 * MS;
const ASK_UPGRADE: &[u8] =
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// What to load with.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Where.
    pub port: u16,
    /// Routes to choose from.
    pub routes: usize,
    /// Connections that are kept.
    pub connections: usize,
    /// Connections that end with each answer.
    pub short: usize,
    /// Held WebSockets.
    pub websockets: usize,
    /// Requests per second; 0 for as many as are answered.
    pub rate: u64,
}

/// What the load and the one who makes changes tell each other.
#[derive(Debug, Default)]
pub struct Shared {
    stop: AtomicBool,
    /// Where latencies are counted; 0: nowhere.
    pub phase: AtomicUsize,
    /// The newest round that all cores obey.
    pub obeyed: AtomicUsize,
    /// The newest round that any core may obey.
    pub published: AtomicUsize,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Report {
    /// Of phase 1, 2 and so on, from the moment a request was due.
    pub latency: Vec<Histogram>,
    /// Right answers.
    pub answered: u64,
    /// Requests without an answer, or with an error.
    pub failed: u64,
    /// Answers that no rules in force could give.
    pub misrouted: u64,
    /// Kept connections that were closed with `Connection: close`.
    pub told_to_close: u64,
    /// Kept connections that were closed without a word.
    pub closed: u64,
    /// WebSocket messages that came back.
    pub echoes: u64,
    /// WebSockets that ended.
    pub websockets_closed: u64,
    /// The first thing that went wrong.
    pub first_error: String,
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<Report>,
}

impl Load {
    /// Starts it.
    ///
    /// # Errors
    /// A connection cannot be made.
    pub fn start(plan: Plan, shared: &Arc<Shared>) -> Result<Self, String> {
        let mut engine = Engine::new(plan, Arc::clone(shared))?;
        let thread = std::thread::spawn(move || {
            let _ = sys::sharpen_timers();
            engine.run();
            engine.report
        });
        Ok(Self { shared: Arc::clone(shared), thread })
    }

    /// Ends it.
    ///
    /// # Errors
    /// It panicked.
    pub fn stop(self) -> Result<Report, String> {
        self.shared.stop.store(true, SeqCst);
        let report = self.thread.join().map_err(|_| "the load panicked".to_owned());
        self.shared.stop.store(false, SeqCst);
        report
    }
}

enum Kind {
    Kept,
    Short,
    WebSocket,
}

struct Connection {
    kind: Kind,
    stream: Option<TcpStream>,
    input: Vec<u8>,
    /// When its request was due, which route it is for, and which round was obeyed then.
    busy: Option<(u64, usize, usize)>,
}

struct Engine {
    plan: Plan,
    shared: Arc<Shared>,
    epoll: Epoll,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    room: Vec<u8>,
    random: u64,
    due_ns: u64,
    ping_ns: u64,
    report: Report,
}

impl Engine {
    fn new(plan: Plan, shared: Arc<Shared>) -> Result<Self, String> {
        let kinds = (0..plan.connections + plan.short + plan.websockets).map(|place| {
            match place.checked_sub(plan.connections) {
                None => Kind::Kept,
                Some(rest) if rest < plan.short => Kind::Short,
                Some(_) => Kind::WebSocket,
            }
        });
        let new = |kind| Connection { kind, stream: None, input: Vec::new(), busy: None };
        let mut engine = Self {
            plan,
            shared,
            epoll: Epoll::new(256).map_err(|error| error.to_string())?,
            connections: kinds.map(new).collect(),
            idle: (0..plan.connections + plan.short).collect(),
            room: vec![0; 64 * 1024],
            random: 0x9e37_79b9_7f4a_7c15,
            due_ns: sys::now_ns(),
            ping_ns: 0,
            report: Report::default(),
        };
        for place in 0..engine.connections.len() {
            engine.open(place)?;
        }
        Ok(engine)
    }

    fn open(&mut self, place: usize) -> Result<(), String> {
        let stream = sys::connect(self.plan.port).map_err(|error| format!("connect: {error}"))?;
        let fd = stream.as_raw_fd();
        self.epoll.add(fd, place as u64, Interest::Read).map_err(|error| error.to_string())?;
        let connection = &mut self.connections[place];
        connection.input.clear();
        if let Kind::WebSocket = connection.kind {
            (&stream).write_all(ASK_UPGRADE).map_err(|error| error.to_string())?;
        }
        connection.stream = Some(stream);
        Ok(())
    }

    fn run(&mut self) {
        loop {
            let now = sys::now_ns();
            let stopping = self.shared.stop.load(SeqCst);
            let asked = |one: &Connection| one.busy.map(|(due, ..)| due);
            let oldest = self.connections.iter().filter_map(asked).min();
            if stopping && oldest.is_none() {
                return;
            }
            if oldest.is_some_and(|due| now > due + ANSWER_NS_MAX) {
                self.fail("an answer is missing");
                return;
            }
            if !stopping {
                self.ask_what_is_due(now);
            }
            let wait = match self.plan.rate {
                0 => 10 * MS,
                _ => self.due_ns.saturating_sub(sys::now_ns()).clamp(1_000, 10 * MS),
            };
            let Ok(count) = self.epoll.wait(wait as i64) else { return };
            for index in 0..count {
                let place = self.epoll.get(index).token as usize;
                self.advance(place);
            }
        }
    }

    fn ask_what_is_due(&mut self, now: u64) {
        let step = 1_000_000_000u64.checked_div(self.plan.rate).unwrap_or(0);
        while self.due_ns <= now || step == 0 {
            let Some(place) = self.idle.pop_front() else { break };
            let due = if step == 0 { now } else { self.due_ns };
            self.due_ns += step;
            self.ask(place, due);
        }
        if now >= self.ping_ns {
            self.ping_ns = now + PING_NS;
            for connection in &mut self.connections {
                if let (Kind::WebSocket, Some(stream)) = (&connection.kind, &mut connection.stream)
                    && connection.input == b"up"
                {
                    let _ = stream.write_all(b"ping");
                }
            }
        }
    }

    fn ask(&mut self, place: usize, due: u64) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let route = (self.random >> 16) as usize % self.plan.routes;
        if self.connections[place].stream.is_none()
            && let Err(error) = self.open(place)
        {
            self.fail(&error);
            self.idle.push_back(place);
            return;
        }
        let obeyed = self.shared.obeyed.load(SeqCst);
        let connection = &mut self.connections[place];
        let close = match connection.kind {
            Kind::Short => "Connection: close\r\n",
            _ => "",
        };
        let request = format!("GET /r{route} HTTP/1.1\r\nHost: a.test\r\n{close}\r\n");
        connection.busy = Some((due, route, obeyed));
        let Some(stream) = &mut connection.stream else { return };
        if let Err(error) = stream.write_all(request.as_bytes()) {
            self.broken(place, &format!("while sending: {error}"));
        }
    }

    fn advance(&mut self, place: usize) {
        let connection = &mut self.connections[place];
        let Some(stream) = &mut connection.stream else { return };
        match stream.read(&mut self.room) {
            Ok(0) => self.ended(place),
            Ok(count) => {
                connection.input.extend_from_slice(&self.room[..count]);
                self.understand(place);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.broken(place, &format!("while reading: {error}")),
        }
    }

    fn ended(&mut self, place: usize) {
        if self.connections[place].busy.is_some() {
            return self.broken(place, "closed without an answer");
        }
        self.connections[place].stream = None;
        match self.connections[place].kind {
            Kind::Kept => self.report.closed += 1,
            Kind::Short => {}
            Kind::WebSocket => self.report.websockets_closed += 1,
        }
    }

    fn broken(&mut self, place: usize, error: &str) {
        let connection = &mut self.connections[place];
        connection.stream = None;
        if let Kind::WebSocket = connection.kind {
            self.report.websockets_closed += 1;
        } else if connection.busy.take().is_some() {
            self.idle.push_back(place);
            self.fail(error);
        } else {
            self.report.closed += 1;
        }
    }

    fn fail(&mut self, error: &str) {
        self.report.failed += 1;
        if self.report.first_error.is_empty() {
            self.report.first_error = error.to_owned();
        }
    }

    fn understand(&mut self, place: usize) {
        let connection = &mut self.connections[place];
        if let Kind::WebSocket = connection.kind {
            if connection.input.starts_with(b"HTTP/1.1 101")
                && connection.input.ends_with(b"\r\n\r\n")
            {
                connection.input = b"up".to_vec();
            }
            if let Some(echo) = connection.input.strip_prefix(b"up") {
                self.report.echoes += echo.len() as u64 / 4;
                connection.input.truncate(2 + echo.len() % 4);
            }
            return;
        }
        let head = match wire::response(&connection.input) {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(_) => return self.broken(place, "not HTTP/1"),
        };
        let whole = head.head_bytes + head.body_bytes.unwrap_or(0);
        if connection.input.len() < whole {
            return;
        }
        let answer = std::mem::take(&mut connection.input);
        let (text, body) = answer.split_at(head.head_bytes);
        let closes = text.to_ascii_lowercase().windows(17).any(|word| word == b"connection: close");
        let Some((due, route, obeyed)) = connection.busy.take() else {
            return self.broken(place, "an answer nobody asked for");
        };
        let is_short = matches!(connection.kind, Kind::Short);
        if closes {
            connection.stream = None;
            self.report.told_to_close += u64::from(!is_short);
        }
        self.idle.push_back(place);
        let phase = self.shared.phase.load(SeqCst);
        if phase > self.report.latency.len() {
            self.report.latency.resize_with(phase, Histogram::default);
        }
        if let Some(latency) = phase.checked_sub(1).map(|phase| &mut self.report.latency[phase]) {
            latency.record(sys::now_ns().saturating_sub(due));
        }
        if head.status != 200 {
            return self.fail(&format!("status {} for /r{route}", head.status));
        }
        if self.may_be(body, route, obeyed) {
            self.report.answered += 1;
        } else {
            self.report.misrouted += 1;
            if self.report.first_error.is_empty() {
                self.report.first_error =
                    format!("/r{route} went to {}", String::from_utf8_lossy(body));
            }
        }
    }

    /// Whether rules that were in force while the request was under way lead there.
    fn may_be(&self, body: &[u8], route: usize, obeyed: usize) -> bool {
        let rounds = obeyed..=self.shared.published.load(SeqCst);
        rounds
            .into_iter()
            .any(|round| format!("/s/{}/{route}", changed_in(route, round)).as_bytes() == body)
    }
}
