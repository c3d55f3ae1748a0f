//! A socket with its two deadlines: what both sides of the proxy read from and write to.

use std::{io::ErrorKind, time::Duration};

use crate::rt::{Buf, BufPool, Deadline, Deadlines, PeerState, Shut, Stream};

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
/// move at the same time. The deadlines go before the stream, so that none can fire on a stranger's
/// descriptor.
pub struct Socket {
    read_deadline: Deadline,
    write_deadline: Deadline,
    /// The stream itself, for what needs no deadline.
    pub stream: Stream,
}

impl Socket {
    /// Takes the stream under the deadlines of this core.
    pub fn new(stream: Stream, deadlines: &Deadlines) -> Self {
        Self {
            read_deadline: deadlines.register(&stream),
            write_deadline: deadlines.register(&stream),
            stream,
        }
    }

    /// The next read has to end within `after`. Only the receiving side is shut down then, so that
    /// an answer can still be sent.
    pub fn read_within(&self, after: Duration, tag: u8) {
        self.read_deadline.set(after, Shut::Read, tag);
    }

    /// The next write has to end within `after`; the socket is shut down otherwise.
    pub fn write_within(&self, after: Duration, tag: u8) {
        self.write_deadline.set(after, Shut::Both, tag);
    }

    /// Reads have no deadline from now on.
    pub fn read_without_deadline(&self) {
        self.read_deadline.clear();
    }

    /// Writes have no deadline from now on.
    pub fn write_without_deadline(&self) {
        self.write_deadline.clear();
    }

    /// Whether the peer has sent something that was not yet received.
    pub fn has_input(&self) -> bool {
        matches!(self.stream.peek_state(), PeerState::HasBytes)
    }

    /// The tag of the read deadline, once it has passed.
    pub fn read_expired(&self) -> Option<u8> {
        self.read_deadline.fired()
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
        match self.stream.fill(slot, pool).await {
            Ok(0) => match self.read_deadline.fired() {
                Some(tag) => Err(Broken::Deadline(tag)),
                None => Ok(0),
            },
            Ok(received) => Ok(received),
            Err(error) if error.kind() == ErrorKind::OutOfMemory => Err(Broken::NoBuffer),
            Err(_) => Err(self.broken_read()),
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
        let Some(buf) = slot.take() else { return Ok(()) };
        let (result, buf) = self.stream.send(buf, count).await;
        if !buf.is_empty() {
            *slot = Some(buf);
        }
        result.map_err(|_| self.broken_write())
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// [`Broken`], after which the socket is of no use.
    ///
    /// # Cancel safety
    /// Not cancel safe: a part may have been sent.
    pub async fn send_bytes(&self, bytes: &mut Vec<u8>) -> Result<(), Broken> {
        let (result, returned) = self.stream.send_bytes(std::mem::take(bytes)).await;
        *bytes = returned;
        result.map_err(|_| self.broken_write())
    }

    /// Why a read that failed did so.
    pub fn broken_read(&self) -> Broken {
        self.read_deadline.fired().map_or(Broken::Reset, Broken::Deadline)
    }

    /// Why a write that failed did so.
    pub fn broken_write(&self) -> Broken {
        self.write_deadline.fired().map_or(Broken::Reset, Broken::Deadline)
    }
}
