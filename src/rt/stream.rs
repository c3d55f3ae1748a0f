//! A connected TCP socket on this core's ring.
//!
//! Receive and send go through the ring and own their buffer while the kernel uses it. Everything
//! that cannot wait (options, shutdown, a look at the state) is a direct system call.
//!
//! # How a connection ends
//! Dropping a [`Stream`] closes it at once with close(2). The kernel then sends a reset if received
//! bytes were never read, even when the last answer is still on its way: who wants the answer to
//! arrive calls [`Stream::shutdown_write`] and reads to the end first. [`Stream::reset_on_close`]
//! is for those who want the reset.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;

use super::buf::{Buf, BufPool};
use super::deadline::Link;
use super::epoll::Side;
use super::loan::{Receiving, SendAll, Sending, SendingBytes};
use super::op::Op;
use super::ring_fd::RingFd;
use super::sys;

/// A connected TCP socket: `O_NONBLOCK`, `CLOEXEC`, no Nagle delay. All methods take `&self`, so
/// one task can receive and send at the same time; at most one of each may be under way.
pub struct Stream {
    deadlines: [RefCell<Option<Link>>; 2], // end before the descriptor does: see `Deadlines::register`
    ring: RingFd,
    reset: Cell<bool>,
}

/// What lies in a socket's receive queue; see [`Stream::peek_state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Connected, nothing to read.
    Quiet,
    /// Bytes wait to be read.
    HasBytes,
    /// The peer has closed its sending side and all it sent was read.
    Closed,
    /// The connection was reset or timed out.
    Failed,
}

/// What the kernel knows of a connection. Source: tcp(7), linux/tcp.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// Both directions are closed or the connection was reset.
    pub state_closed: bool,
    /// The peer sent its FIN (CLOSE_WAIT, LAST_ACK, CLOSING or later).
    pub peer_closed: bool,
    /// Bytes the peer has acknowledged since the connection began. Counts SYN and FIN as one byte
    /// each where we sent them, so compare two readings rather than one with a total.
    pub bytes_acked: u64,
    /// Bytes received since the connection began.
    pub bytes_received: u64,
    /// Bytes written but not sent yet (the peer's window or the network does not take them).
    pub bytes_unsent: u32,
    /// Segments sent and not acknowledged.
    pub segments_unacked: u32,
    /// Segments sent again since the connection began.
    pub retransmits: u32,
    /// Smoothed round trip time, microseconds.
    pub rtt_micros: u32,
}

impl Stream {
    /// Takes over a connected socket and makes it `O_NONBLOCK` and without Nagle delay. Must be
    /// called within [`super::run`].
    ///
    /// # Errors
    /// When `fd` is not a TCP socket.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let socket = SockRef::from(&fd);
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        Ok(Self::adopt(fd))
    }

    /// Takes over a socket that already is what [`Stream::from_fd`] would make of it.
    pub(super) fn adopt(fd: OwnedFd) -> Self {
        let ring = RingFd::new(fd);
        Self { deadlines: Default::default(), ring, reset: Cell::new(false) }
    }

    /// The descriptor's number, valid while this stream lives.
    pub fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Receives once, behind the data `buf` has, up to [`Buf::spare`] bytes; waits until there is
    /// something. `Ok(0)` is the end of the stream, or a deadline that shut it down: ask
    /// [`super::Deadline::fired`]. One ring operation.
    ///
    /// # Errors
    /// As recv(2); `InvalidInput` if `buf` has no spare room, as the kernel's answer would look
    /// like the end of the stream.
    ///
    /// # Cancel safety
    /// Not cancel safe: bytes that arrive while the future is dropped are lost. Only drop it with
    /// the whole connection; `buf` goes back to its pool when the kernel is done with it.
    pub async fn recv(&self, buf: Buf) -> (io::Result<usize>, Buf) {
        if buf.spare() == 0 {
            return (Err(io::ErrorKind::InvalidInput.into()), buf);
        }
        if self.ring.is_armed() || self.ring.arrived().is_some() {
            return self.recv_queued(buf).await;
        }
        let (result, Receiving(mut buf)) = self.ring.recv(buf).await;
        if let Ok(received) = result {
            buf.received(received);
        }
        (result, buf)
    }

    /// The same where the kernel receives by itself: what it has received is copied.
    async fn recv_queued(&self, mut buf: Buf) -> (io::Result<usize>, Buf) {
        let pool = buf.pool();
        let next = poll_fn(|cx| self.ring.poll_next(&pool, cx)).await;
        let result =
            next.map(|next| next.map_or(0, |next| self.append(&mut buf, next, usize::MAX)));
        (result, buf)
    }

    /// Receives what comes next into `slot`: as it is where that is empty, behind the data that is
    /// there otherwise, and then no more than fits. Waits without a buffer. `Ok(0)` is the end of
    /// the stream, or a deadline that shut it down. Most messages cost no ring operation: one
    /// receives many of them (see `driver::flows`).
    ///
    /// The buffers are those of `pool`, or of that which was given first for this stream.
    ///
    /// # Errors
    /// As recv(2); `OutOfMemory` if `pool` has no buffer left, which can be tried again; `InvalidInput` if the
    /// buffer in `slot` has no spare room.
    ///
    /// # Cancel safety
    /// Cancel safe: what has arrived is there for the next call.
    pub fn fill<'a>(
        &'a self,
        slot: &'a mut Option<Buf>,
        pool: &'a BufPool,
    ) -> impl Future<Output = io::Result<usize>> + 'a {
        poll_fn(move |cx| {
            if slot.as_ref().is_some_and(|buf| buf.spare() == 0) {
                return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
            }
            self.ring.poll_next(pool, cx).map_ok(|next| match (next, &mut *slot) {
                (None, _) => 0,
                (Some(next), Some(buf)) if !buf.is_empty() => self.append(buf, next, usize::MAX),
                (Some(next), slot) => slot.insert(next).len(),
            })
        })
    }

    /// The next bytes that arrive, in a buffer of `pool`; `None` at the end of the stream. As
    /// [`Stream::fill`] with an empty slot.
    ///
    /// # Errors
    /// As [`Stream::fill`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub fn next<'a>(
        &'a self,
        pool: &'a BufPool,
    ) -> impl Future<Output = io::Result<Option<Buf>>> + 'a {
        poll_fn(move |cx| self.ring.poll_next(pool, cx))
    }

    /// As [`Stream::next`], for those who poll by hand.
    pub(super) fn poll_next(
        &self,
        pool: &BufPool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Buf>>> {
        self.ring.poll_next(pool, cx)
    }

    /// What operations are made on.
    pub(super) fn ring_fd(&self) -> &RingFd {
        &self.ring
    }

    /// Lets the kernel receive from now on, without waiting for it: so that [`Stream::is_quiet`]
    /// knows what the peer of an idle connection does.
    pub fn listen(&self, pool: &BufPool) {
        self.ring.listen(pool);
    }

    /// Whether the peer has neither closed nor sent anything, as far as the last turn of the loop
    /// has seen. Asks the kernel only if nobody listens ([`Stream::listen`]).
    pub fn is_quiet(&self) -> bool {
        self.ring.is_quiet() || self.peek_state() == PeerState::Quiet
    }

    /// Ends the receiving by itself, for those who read the socket in another way (splice). What
    /// has arrived by then is given by [`Stream::take_arrived`].
    pub(super) async fn disarm(&self) {
        self.ring.disarm().await;
    }

    /// What has arrived and was not taken yet.
    pub(super) fn take_arrived(&self) -> Option<Buf> {
        self.ring.pop()
    }

    /// The error that came behind it.
    pub(super) fn take_arrived_error(&self) -> Option<io::Error> {
        self.ring.arrived()?.err()
    }

    /// Puts back what [`Stream::take_arrived`] gave.
    pub(super) fn put_back(&self, buf: Buf) {
        self.ring.push_front(buf);
    }

    /// As [`Stream::fill`], but takes no more than `max` says when bytes are there, and leaves the rest
    /// with the kernel. Ends the receiving by itself, and costs a system call more.
    ///
    /// # Errors
    /// As [`Stream::fill`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn fill_at_most(
        &self,
        slot: &mut Option<Buf>,
        pool: &BufPool,
        max: &Cell<usize>,
    ) -> io::Result<usize> {
        self.disarm().await;
        loop {
            self.readable().await?;
            if slot.is_none() {
                *slot = pool.take();
            }
            let Some(buf) = slot else { return Err(io::ErrorKind::OutOfMemory.into()) };
            let received = self.try_recv_at_most(buf, max.get());
            if buf.is_empty() {
                *slot = None;
            }
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ring.note_blocked(Side::Read);
                }
                received => return received,
            }
        }
    }

    /// Moves what fits, up to `max` bytes, from `next` to the end of `buf`; the rest is received next.
    fn append(&self, buf: &mut Buf, mut next: Buf, max: usize) -> usize {
        let count = next.len().min(buf.spare()).min(max);
        buf.append(&next.data()[..count]);
        next.consume(count);
        if !next.is_empty() {
            self.ring.push_front(next);
        }
        count
    }

    /// Sends the first `n` bytes of `buf` completely and consumes them. One ring operation when
    /// the socket takes all at once, else one for each part it takes. After an error the bytes
    /// that were taken are consumed, the others still there.
    ///
    /// # Errors
    /// As send(2); `WriteZero` if the socket takes nothing.
    ///
    /// # Panics
    /// If `buf` has fewer than `n` bytes.
    ///
    /// # Cancel safety
    /// Not cancel safe: how much was sent is unknown after a drop. Only drop it with the whole
    /// connection.
    pub fn send(&self, buf: Buf, n: usize) -> impl Future<Output = (io::Result<()>, Buf)> + Unpin {
        assert!(n <= buf.len(), "send({n}) of {} bytes", buf.len());
        self.send_all(Sending { buf, n })
    }

    /// Sends all of `bytes` and gives the vector back unchanged, so that its memory can be used
    /// again. One ring operation when the socket takes all at once.
    ///
    /// # Errors
    /// As [`Stream::send`].
    ///
    /// # Cancel safety
    /// As [`Stream::send`].
    pub fn send_bytes(
        &self,
        bytes: Vec<u8>,
    ) -> impl Future<Output = (io::Result<()>, Vec<u8>)> + Unpin {
        self.send_all(SendingBytes { bytes, sent: 0 })
    }

    /// One send after the other. Not an async fn: that would hold what is sent three times over, and
    /// with many requests under way each line of memory is a cold one.
    fn send_all<L: SendAll>(
        &self,
        sending: L,
    ) -> impl Future<Output = (io::Result<()>, L::Memory)> + Unpin {
        let mut op =
            if sending.left() == 0 { Op::done(sending) } else { sending.begin(&self.ring) };
        poll_fn(move |cx| {
            loop {
                let (result, mut sending) = ready!(Pin::new(&mut op).poll(cx));
                match result.and_then(|sent| taken(sent, sending.left())) {
                    Ok(sent) => sending.advance(sent),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Poll::Ready((Err(error), sending.into_memory())),
                }
                if sending.left() == 0 {
                    return Poll::Ready((Ok(()), sending.into_memory()));
                }
                op = sending.begin(&self.ring);
            }
        })
    }

    /// Waits until there are bytes to read, the peer closed, or the connection failed. One ring
    /// operation (POLL_ADD), or none where the kernel receives by itself; no buffer.
    ///
    /// # Errors
    /// Only if the ring itself fails.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is read.
    pub async fn readable(&self) -> io::Result<()> {
        self.ring.readable().await
    }

    /// Waits until the socket takes bytes again, or the connection failed. One ring operation.
    ///
    /// # Errors
    /// Only if the ring itself fails.
    ///
    /// # Cancel safety
    /// As [`Stream::readable`].
    pub async fn writable(&self) -> io::Result<()> {
        self.ring.writable().await
    }

    /// Waits as [`Stream::readable`] or [`Stream::writable`] after a system call said that it would
    /// have to.
    pub(super) async fn unblocked(&self, side: Side) -> io::Result<()> {
        self.ring.note_blocked(side);
        match side {
            Side::Read => self.ring.readable().await,
            Side::Write => self.ring.writable().await,
        }
    }

    /// Receives what is there now, without the ring, behind the data `buf` has.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing; `InvalidInput` if `buf` has no spare room; as recv(2).
    pub fn try_recv(&self, buf: &mut Buf) -> io::Result<usize> {
        self.try_recv_at_most(buf, usize::MAX)
    }

    fn try_recv_at_most(&self, buf: &mut Buf, max: usize) -> io::Result<usize> {
        if buf.spare() == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if let Some(next) = self.ring.pop() {
            return Ok(self.append(buf, next, max));
        }
        match self.ring.arrived() {
            Some(end) => return end.map(usize::from),
            None if self.ring.is_armed() => return Err(io::ErrorKind::WouldBlock.into()),
            None => {}
        }
        let room = buf.spare_mut();
        let count = room.len().min(max);
        let received = (&*self.socket()).read(&mut room[..count])?; // the socket is O_NONBLOCK
        buf.received(received);
        Ok(received)
    }

    /// Sends what the socket takes now, without the ring; says how many bytes that were.
    ///
    /// # Errors
    /// `WouldBlock` if it takes nothing; as send(2).
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket().send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    }

    /// Looks at what has arrived without taking anything. One direct system call, unless something
    /// was received already.
    pub fn peek_state(&self) -> PeerState {
        match self.ring.arrived() {
            Some(Ok(true)) => return PeerState::HasBytes,
            Some(Ok(false)) => return PeerState::Closed,
            Some(Err(_)) => return PeerState::Failed,
            None => {}
        }
        let mut byte = [MaybeUninit::uninit()];
        match self.socket().recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT) {
            Ok(0) => PeerState::Closed,
            Ok(_) => PeerState::HasBytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => PeerState::Quiet,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => PeerState::Quiet,
            Err(_) => PeerState::Failed,
        }
    }

    /// Sends FIN after what was sent; receiving goes on. A pending send ends with an error.
    pub fn shutdown_write(&self) {
        let _ = self.socket().shutdown(Shutdown::Write); // an error: the peer was faster
    }

    /// Ends both directions: a pending receive ends with 0, a pending send with an error.
    pub fn shutdown(&self) {
        let _ = self.socket().shutdown(Shutdown::Both); // an error: the peer was faster
    }

    /// Makes the close send a reset and throw away what was not sent yet.
    /// Source: `SO_LINGER` in socket(7).
    pub fn reset_on_close(&self) {
        self.reset.set(true);
        let _ = self.socket().set_linger(Some(Duration::ZERO));
    }

    /// Turns the Nagle delay off (`true`, as it is from the start) or on.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket().set_tcp_nodelay(nodelay)
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` if the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket().peer_addr()?.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Our address on this connection.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// What the kernel knows of this connection. One direct system call.
    ///
    /// # Errors
    /// As getsockopt(2).
    pub fn tcp_info(&self) -> io::Result<TcpInfo> {
        Ok(TcpInfo::from_kernel(&sys::tcp_info(self.fd())?))
    }

    /// Bytes sent that the peer has not acknowledged, sent or not; 0 when all has arrived at the
    /// peer's kernel. Source: `SIOCOUTQ` in tcp(7).
    ///
    /// # Errors
    /// As ioctl(2).
    pub fn unacknowledged_bytes(&self) -> io::Result<u32> {
        sys::unacknowledged(&self.ring)
    }

    /// The pending error of the socket, which asking for clears. Source: `SO_ERROR` in socket(7).
    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket().take_error()
    }

    /// Remembers a deadline that watches this socket. Of more than two the oldest stops to.
    pub(super) fn link_deadline(&self, link: Link) {
        let [newer, older] = &self.deadlines;
        older.replace(newer.replace(Some(link)));
    }

    fn socket(&self) -> SockRef<'_> {
        SockRef::from(&self.ring)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // What is under way holds the socket until it is cancelled, at the end of this turn. The peer
        // should not notice, unless it is to get a reset, which only the close can send.
        if self.ring.has_unfinished() && !self.reset.get() {
            self.shutdown();
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream(fd {})", self.fd())
    }
}

/// How many bytes of a send the socket took, of so many. None of some is an error.
pub(super) fn taken(sent: usize, of: usize) -> io::Result<usize> {
    if sent == 0 && of > 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(sent) }
}

impl TcpInfo {
    fn from_kernel(info: &[u8; sys::TCP_INFO_BYTES]) -> Self {
        let u32_at = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|i| info[at + i]));
        let u64_at = |at: usize| u64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| info[at + i]));
        let state = info[0]; // the enum in net/tcp_states.h
        Self {
            state_closed: state == 7,
            peer_closed: matches!(state, 6..=9 | 11),
            segments_unacked: u32_at(24),
            rtt_micros: u32_at(68),
            retransmits: u32_at(100),
            bytes_acked: u64_at(120),
            bytes_received: u64_at(128),
            bytes_unsent: u32_at(144),
        }
    }
}

/// Shuts down both directions of a socket whose [`Stream`] is somewhere else on this core. The
/// caller knows that it still lives.
pub fn shutdown(fd: RawFd) {
    sys::shutdown(fd, libc::SHUT_RDWR);
}

/// Shuts down the receiving direction, as [`shutdown`]: what has arrived can still be received, the
/// end of the stream follows.
pub fn shutdown_read(fd: RawFd) {
    sys::shutdown(fd, libc::SHUT_RD);
}

/// Sockets asked about with one poll(2).
const POLL_BATCH: usize = 128;

/// Finds the sockets among `fds` whose peer hung up, with one direct system call per 128 of them,
/// and pushes `(index, half)` for each: `half` when the peer closed only its sending side, as far
/// as the wire shows; `!half` when the connection is dead. Source: POLLRDHUP, POLLHUP, POLLERR in
/// poll(2).
pub fn poll_gone(fds: &[RawFd], gone: &mut Vec<(usize, bool)>) {
    poll_for(libc::POLLRDHUP, fds, |index, found| {
        let half = found == libc::POLLRDHUP;
        // A receiving side that we shut down ourselves looks just like one that the peer ended.
        if !half || peer_has_closed(fds[index]) {
            gone.push((index, half));
        }
    });
}

/// Whether the peer's FIN has arrived; taken for granted where the kernel does not say.
fn peer_has_closed(fd: RawFd) -> bool {
    sys::tcp_info(fd).map_or(true, |info| TcpInfo::from_kernel(&info).peer_closed)
}

fn poll_for(events: i16, fds: &[RawFd], mut found: impl FnMut(usize, i16)) {
    let blank = libc::pollfd { fd: -1, events, revents: 0 };
    for (batch, fds) in fds.chunks(POLL_BATCH).enumerate() {
        let mut asked = [blank; POLL_BATCH];
        for (asked, fd) in asked.iter_mut().zip(fds) {
            asked.fd = *fd;
        }
        sys::poll_now(&mut asked[..fds.len()]);
        for (index, answer) in asked[..fds.len()].iter().enumerate() {
            if answer.revents != 0 {
                found(batch * POLL_BATCH + index, answer.revents);
            }
        }
    }
}
