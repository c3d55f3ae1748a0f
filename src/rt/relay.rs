//! Passing on what arrives, as it arrives, from one socket to another: for small messages, which are
//! cheaper to copy than to splice.
//!
//! Nobody waits for the end of a send: the driver gives the buffer back by itself, and the next message
//! finds it ended. So a message costs one wake, and a way that is silent holds no buffer.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::buf::{Buf, BufPool};
use super::driver;
use super::epoll::{self, Attempt};
use super::loan::Sending;
use super::op;
use super::ring_fd::RingFd;
use super::splice::{Progress, SpliceError};
use super::stream::{Stream, taken};

/// Why [`relay`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// The source has ended; all it sent was given to the target.
    Ended,
    /// A message of at least the size asked about was given to the target.
    Large,
}

/// Passes on what lies in `input`, then what arrives, until the source ends or a message has at
/// least `large` bytes. `moved` is told of each message with [`Progress::advance`] as its send begins;
/// with [`Progress::before_send`] that the target does not take it at once, and with
/// [`Progress::before_receive`] that it has.
///
/// # Errors
/// As [`super::splice_exact`]; of the source also `OutOfMemory` if `pool` has no buffer left.
///
/// # Cancel safety
/// Not cancel safe: how much was sent is unknown then. Only drop it with both connections.
pub fn relay<'a>(
    from: &'a Stream,
    to: &'a Stream,
    input: Option<Buf>,
    pool: &'a BufPool,
    large: usize,
    moved: &'a impl Progress,
) -> impl Future<Output = Result<Relayed, SpliceError>> + 'a {
    let mut out = Outgoing { fd: to.ring_fd(), state: State::Free, is_late: false };
    let mut arrived = input.map(|buf| Ok(Some(buf)));
    let mut end = None;
    poll_fn(move |cx| {
        loop {
            ready!(out.poll_free(moved, cx)).map_err(SpliceError::To)?;
            if let Some(end) = end {
                return Poll::Ready(Ok(end));
            }
            let next = match arrived.take() {
                Some(next) => next,
                None => ready!(from.poll_next(pool, cx)),
            };
            let Some(buf) = next.map_err(SpliceError::From)? else {
                end = Some(Relayed::Ended);
                continue;
            };
            end = (buf.len() >= large).then_some(Relayed::Large);
            moved.advance(buf.len() as u64);
            out.begin(buf, cx).map_err(SpliceError::To)?;
            if end.is_none() && matches!(out.state, State::Ring(_)) {
                arrived = Some(ready!(from.poll_next(pool, cx))); // without asking how the send does
            }
        }
    })
}

/// What is on its way to the target: one send at most.
struct Outgoing<'a> {
    fd: &'a RingFd,
    state: State<'a>,
    /// The target has let us wait.
    is_late: bool,
}

enum State<'a> {
    Free,
    Ring(driver::Left<'a>),
    Epoll(epoll::Op<'a, Sending>),
}

impl Outgoing<'_> {
    /// Ready when nothing is on its way.
    fn poll_free(&mut self, moved: &impl Progress, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let polled = match &mut self.state {
                State::Free => break,
                State::Ring(left) => left.poll(cx),
                State::Epoll(op) => {
                    Pin::new(op).poll(cx).map(|(result, sending)| Some((result, sending.buf)))
                }
            };
            let Poll::Ready(ended) = polled else {
                if !std::mem::replace(&mut self.is_late, true) {
                    moved.before_send();
                }
                return Poll::Pending;
            };
            self.state = State::Free;
            if let Some((result, buf)) = ended {
                self.go_on(result, buf, cx)?;
            }
        }
        if std::mem::take(&mut self.is_late) {
            moved.before_receive();
        }
        Poll::Ready(Ok(()))
    }

    /// Sends all of `buf`; at once, where that is cheaper. Nothing else is on its way.
    fn begin(&mut self, buf: Buf, cx: &Context<'_>) -> io::Result<()> {
        if !op::is_calm() {
            self.put(buf, cx);
            return Ok(());
        }
        let n = buf.len();
        let mut sending = Sending { buf, n };
        match sending.attempt(self.fd.as_raw_fd(), false).0 {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.put(sending.buf, cx);
                Ok(())
            }
            result => self.go_on(result, sending.buf, cx),
        }
    }

    /// So much of `buf` was sent: sends the rest.
    fn go_on(
        &mut self,
        result: io::Result<usize>,
        mut buf: Buf,
        cx: &Context<'_>,
    ) -> io::Result<()> {
        match result.and_then(|sent| taken(sent, buf.len())) {
            Ok(sent) => buf.consume(sent),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if !buf.is_empty() {
            self.put(buf, cx);
        }
        Ok(())
    }

    fn put(&mut self, buf: Buf, cx: &Context<'_>) {
        self.state = if op::has_ring() {
            State::Ring(driver::Left::begin(self.fd, buf, cx))
        } else {
            let n = buf.len();
            State::Epoll(epoll::Op::new(self.fd, Sending { buf, n }))
        };
    }
}
