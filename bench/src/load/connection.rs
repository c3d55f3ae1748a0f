//! One connection of the load generator: sends a request, checks the answer.

use super::probe;
use crate::scenario::{Mode, Scenario};
use crate::sys;
use crate::wire;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

/// From here on a body is counted and thrown away in the kernel instead of being copied: with it
/// one core is enough to saturate a proxy at 1 MiB.
const DISCARD_BYTES_MIN: usize = 64 * 1024;

/// The bytes every connection of a run shares.
pub(super) struct Script {
    pub(super) scenario: Scenario,
    pub(super) request: Vec<u8>,
    /// WebSocket: the whole expected answer.
    pub(super) echo: Vec<u8>,
}

impl Script {
    pub(super) fn new(scenario: Scenario) -> Self {
        match scenario.mode {
            Mode::WebSocket => {
                let (request, echo) = probe::message();
                Self { scenario, request, echo }
            }
            _ => Self { scenario, request: scenario.request(), echo: Vec::new() },
        }
    }
}

/// Where a request stands after an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Progress {
    /// Nothing to do until the socket is ready again.
    Waiting,
    /// The right answer is there; the connection can take another request.
    Answered,
    /// The right answer is there and the proxy has closed, as it should.
    AnsweredAndClosed,
    /// Closed by the proxy between two requests.
    ClosedIdle,
}

#[derive(Clone, Copy, PartialEq)]
enum Expect {
    Nothing,
    Head,
    Body { left: usize },
    End,
}

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    sent: usize,
    expect: Expect,
    /// Received, not yet understood: a torn head or message.
    torn: Vec<u8>,
    /// When the request was due, in [`sys::now_ns`].
    pub(super) due_ns: u64,
    /// Whether epoll watches for room to write.
    pub(super) watches_write: bool,
}

impl Connection {
    /// Connects. For a WebSocket scenario this waits for the handshake.
    pub(super) fn open(script: &Script, port: u16) -> Result<Self, String> {
        let stream = match script.scenario.mode {
            Mode::WebSocket => {
                let stream = probe::open_websocket(&script.scenario, port)?;
                stream.set_nonblocking(true).map_err(|error| error.to_string())?;
                stream
            }
            _ => sys::connect(port).map_err(|error| format!("connect: {error}"))?,
        };
        Ok(Self {
            stream,
            sent: 0,
            expect: Expect::Nothing,
            torn: Vec::new(),
            due_ns: 0,
            watches_write: false,
        })
    }

    /// Begins a request that was due at `due_ns`.
    pub(super) fn begin(&mut self, script: &Script, due_ns: u64) -> Result<(), String> {
        self.due_ns = due_ns;
        self.sent = 0;
        self.expect = Expect::Head;
        self.send(script)
    }

    /// Whether a request is on its way.
    pub(super) fn is_busy(&self) -> bool {
        self.expect != Expect::Nothing
    }

    /// Whether the request is not sent completely.
    pub(super) fn is_sending(&self, script: &Script) -> bool {
        self.is_busy() && self.sent < script.request.len()
    }

    /// Sends as much as there is room for.
    pub(super) fn send(&mut self, script: &Script) -> Result<(), String> {
        while self.sent < script.request.len() {
            match self.stream.write(&script.request[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(format!("after {} bytes sent: {error}", self.sent)),
            }
        }
        Ok(())
    }

    /// Takes what has arrived.
    pub(super) fn receive(&mut self, script: &Script, room: &mut [u8]) -> Result<Progress, String> {
        if let Expect::Body { left } = self.expect
            && left >= DISCARD_BYTES_MIN
        {
            return match sys::discard(&self.stream, left) {
                Ok(0) => Err(format!("closed with {left} bytes of the body missing")),
                Ok(count) => self.body(script, count),
                Err(error) => blocked(&error),
            };
        }
        match self.stream.read(room) {
            Ok(0) => self.end(),
            Ok(count) if script.echo.is_empty() => self.understand(script, &room[..count]),
            Ok(count) => self.compare_echo(script, &room[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !self.is_busy() => {
                Ok(Progress::ClosedIdle)
            }
            Err(error) => blocked(&error),
        }
    }

    fn end(&mut self) -> Result<Progress, String> {
        match std::mem::replace(&mut self.expect, Expect::Nothing) {
            Expect::Nothing => Ok(Progress::ClosedIdle),
            Expect::End => Ok(Progress::AnsweredAndClosed),
            Expect::Head => Err("closed without an answer".to_owned()),
            Expect::Body { left } => Err(format!("closed with {left} bytes of the body missing")),
        }
    }

    fn understand(&mut self, script: &Script, bytes: &[u8]) -> Result<Progress, String> {
        match self.expect {
            Expect::Body { .. } => return self.body(script, bytes.len()),
            Expect::Nothing | Expect::End => return Err("more bytes than the answer".to_owned()),
            Expect::Head => {}
        }
        let whole = if self.torn.is_empty() {
            bytes
        } else {
            self.torn.extend_from_slice(bytes);
            &self.torn
        };
        let Some(head) = wire::response(whole).map_err(|_| "not HTTP/1".to_owned())? else {
            if self.torn.is_empty() {
                self.torn = bytes.to_vec();
            }
            return Ok(Progress::Waiting);
        };
        if (head.status, head.body_bytes) != (200, Some(script.scenario.answer_bytes)) {
            return Err(probe::describe(&head, &script.scenario));
        }
        let here = whole.len() - head.head_bytes;
        self.torn.clear();
        self.expect = Expect::Body { left: script.scenario.answer_bytes };
        self.body(script, here)
    }

    /// Counts `count` more bytes of the body.
    fn body(&mut self, script: &Script, count: usize) -> Result<Progress, String> {
        let Expect::Body { left } = self.expect else { return Ok(Progress::Waiting) };
        match left.checked_sub(count) {
            None => Err("more bytes than the answer".to_owned()),
            Some(0) if script.scenario.mode == Mode::Close => {
                self.expect = Expect::End;
                Ok(Progress::Waiting)
            }
            Some(0) => {
                self.expect = Expect::Nothing;
                if self.is_early(script) {
                    Err("answered too early".to_owned())
                } else {
                    Ok(Progress::Answered)
                }
            }
            Some(left) => {
                self.expect = Expect::Body { left };
                Ok(Progress::Waiting)
            }
        }
    }

    /// A right answer before the request was sent: the proxy did not forward it.
    fn is_early(&self, script: &Script) -> bool {
        self.sent < script.request.len()
    }

    fn compare_echo(&mut self, script: &Script, bytes: &[u8]) -> Result<Progress, String> {
        if self.expect == Expect::Nothing {
            return Err("more bytes than the echo".to_owned());
        }
        if self.torn.is_empty() && bytes == script.echo {
            self.expect = Expect::Nothing;
            return Ok(Progress::Answered);
        }
        self.torn.extend_from_slice(bytes);
        if self.torn.len() < script.echo.len() {
            return Ok(Progress::Waiting);
        }
        let right = self.torn == script.echo;
        self.torn.clear();
        self.expect = Expect::Nothing;
        if right { Ok(Progress::Answered) } else { Err("echo: other bytes than sent".to_owned()) }
    }
}

fn blocked(error: &std::io::Error) -> Result<Progress, String> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(Progress::Waiting),
        _ => Err(format!("while reading: {error}")),
    }
}
