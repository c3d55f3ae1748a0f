//! A socket with its two deadlines: what both sides of the proxy read from and write to.
//!
//! What bytes travel through is a [`Transport`]; nobody above this file knows which one it is. A new
//! one is a variant, and an arm in each method here.

use std::{io::ErrorKind, os::fd::RawFd, time::Duration};

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
/// move at the same time.
pub struct Socket {
    transport: Transport,
}

/// What bytes travel through.
enum Transport {
    /// TCP as it is.
    Plain(Wire),
}

/// A TCP connection under the deadlines of its core. They go before the stream, so that none can
/// fire on a stranger's descriptor.
struct Wire {
    read_deadline: Deadline,
    write_deadline: Deadline,
    stream: Stream,
}

impl Socket {
    /// Takes the stream under the deadlines of this core.
    pub fn new(stream: Stream, deadlines: &Deadlines) -> Self {
        Self { transport: Transport::Plain(Wire::new(stream, deadlines)) }
    }

    fn wire(&self) -> &Wire {
        match &self.transport {
            Transport::Plain(wire) => wire,
        }
    }

    /// The next read has to end within `after`. Only the receiving side is shut down then, so that
    /// an answer can still be sent.
    pub fn read_within(&self, after: Duration, tag: u8) {
        self.wire().read_deadline.set(after, Shut::Read, tag);
    }

    /// The next write has to end within `after`; the socket is shut down otherwise.
    pub fn write_within(&self, after: Duration, tag: u8) {
        self.wire().write_deadline.set(after, Shut::Both, tag);
    }

    /// Reads have no deadline from now on.
    pub fn read_without_deadline(&self) {
        self.wire().read_deadline.clear();
    }

    /// Writes have no deadline from now on.
    pub fn write_without_deadline(&self) {
        self.wire().write_deadline.clear();
    }

    /// The tag of the read deadline, once it has passed.
    pub fn read_expired(&self) -> Option<u8> {
        self.wire().read_deadline.fired()
    }

    /// Whether the peer has sent something that was not yet received.
    pub fn has_input(&self) -> bool {
        matches!(self.wire().stream.peek_state(), PeerState::HasBytes)
    }

    /// Whether the peer has neither closed nor sent anything, as far as the last turn of the loop
    /// has seen. Asks the kernel only if nobody listens ([`Socket::listen`]).
    pub fn is_quiet(&self) -> bool {
        self.wire().stream.is_quiet()
    }

    /// Receives from now on, without waiting for it: so that [`Socket::is_quiet`] knows what the
    /// peer of an idle connection does.
    pub fn listen(&self, pool: &BufPool) {
        self.wire().stream.listen(pool);
    }

    /// Whether not one byte sent after the first `sent_before` can have reached the peer's program,
    /// given that it ended its side with a FIN: the connection is reset and the peer's kernel
    /// acknowledged nothing of them. `false` where that can't be known.
    ///
    /// A peer that had closed its socket before our bytes arrived answers them with a reset and no
    /// acknowledgement; had they arrived before, the FIN would have acknowledged them. A reset
    /// without a FIN proves nothing: a program may have read them and reset the connection before
    /// its kernel acknowledged a byte, and the reset's own acknowledgement is not counted.
    /// Source: RFC 9293 §3.10.7.1; tcp(7), `tcpi_bytes_acked`.
    pub fn nothing_arrived_since(&self, sent_before: u64) -> bool {
        match &self.transport {
            Transport::Plain(wire) => wire.stream.tcp_info().is_ok_and(|info| {
                info.state_closed && info.bytes_acked <= sent_before.saturating_add(1)
            }),
        }
    }

    /// The descriptor to watch, and to shut down, from elsewhere on this core.
    pub fn fd(&self) -> RawFd {
        self.wire().stream.fd()
    }

    /// The two streams, if bytes can move from one socket to the other without being looked at.
    pub fn spliceable<'a>(from: &'a Self, to: &'a Self) -> Option<(&'a Stream, &'a Stream)> {
        match (&from.transport, &to.transport) {
            (Transport::Plain(from), Transport::Plain(to)) => Some((&from.stream, &to.stream)),
        }
    }

    /// Tells the peer that nothing more will be sent; receiving goes on.
    ///
    /// # Cancel safety
    /// Not cancel safe: whether the peer learns it is unknown then.
    #[expect(clippy::unused_async, reason = "other transports have something to send first")]
    pub async fn end_write(&self) {
        match &self.transport {
            Transport::Plain(wire) => wire.stream.shutdown_write(),
        }
    }

    /// Ends both directions at once.
    pub fn shutdown(&self) {
        self.wire().stream.shutdown();
    }

    /// Makes the close look like a failure to the peer, and throw away what was not sent yet.
    pub fn reset_on_close(&self) {
        self.wire().stream.reset_on_close();
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
        match &self.transport {
            Transport::Plain(wire) => wire.fill(slot, pool).await,
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
        match &self.transport {
            Transport::Plain(wire) => wire.send(slot, count).await,
        }
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// [`Broken`], after which the socket is of no use.
    ///
    /// # Cancel safety
    /// Not cancel safe: a part may have been sent.
    pub async fn send_bytes(&self, bytes: &mut Vec<u8>) -> Result<(), Broken> {
        match &self.transport {
            Transport::Plain(wire) => wire.send_bytes(bytes).await,
        }
    }

    /// Why a read that failed did so.
    pub fn broken_read(&self) -> Broken {
        self.wire().broken_read()
    }

    /// Why a write that failed did so.
    pub fn broken_write(&self) -> Broken {
        self.wire().broken_write()
    }
}

impl Wire {
    fn new(stream: Stream, deadlines: &Deadlines) -> Self {
        Self {
            read_deadline: deadlines.register(&stream),
            write_deadline: deadlines.register(&stream),
            stream,
        }
    }

    async fn fill(&self, slot: &mut Option<Buf>, pool: &BufPool) -> Result<usize, Broken> {
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

    async fn send(&self, slot: &mut Option<Buf>, count: usize) -> Result<(), Broken> {
        let Some(buf) = slot.take() else { return Ok(()) };
        let (result, buf) = self.stream.send(buf, count).await;
        if !buf.is_empty() {
            *slot = Some(buf);
        }
        result.map_err(|_| self.broken_write())
    }

    async fn send_bytes(&self, bytes: &mut Vec<u8>) -> Result<(), Broken> {
        let (result, returned) = self.stream.send_bytes(std::mem::take(bytes)).await;
        *bytes = returned;
        result.map_err(|_| self.broken_write())
    }

    fn broken_read(&self) -> Broken {
        self.read_deadline.fired().map_or(Broken::Reset, Broken::Deadline)
    }

    fn broken_write(&self) -> Broken {
        self.write_deadline.fired().map_or(Broken::Reset, Broken::Deadline)
    }
}
