//! Moving bytes from one socket to another without copying them through user memory.
//!
//! Readiness comes through the ring, the move itself is a non-blocking splice(2). The ring's own
//! splice operation is not used: it runs each waiting splice on a kernel thread of its own.

use std::cell::Cell;
use std::io;

use super::epoll::Side;
use super::pipe::{Ends, Pipe};
use super::stream::Stream;
use super::sys;
use super::task::yield_now;

/// Bytes moved before other connections of the core get their turn.
const TURN_BYTES: usize = 1024 * 1024;

/// Is told of every step forward, to move deadlines and count bytes while a splice goes on.
pub trait Progress {
    /// The source is asked for more next, which may take as long as it is silent.
    fn before_receive(&self) {}
    /// The target is given something next, which may take as long as it does not read.
    fn before_send(&self) {}
    /// `moved` more bytes were given to the target.
    fn advance(&self, moved: u64);
}

impl Progress for Cell<u64> {
    fn advance(&self, moved: u64) {
        self.set(self.get() + moved);
    }
}

impl<F: Fn(u64)> Progress for F {
    fn advance(&self, moved: u64) {
        self(moved);
    }
}

/// Why a splice ended early, and whose side it was.
#[derive(Debug)]
pub enum SpliceError {
    /// The source ended before all bytes had come.
    FromEnded,
    /// Receiving from the source failed.
    From(io::Error),
    /// Sending to the target failed.
    To(io::Error),
}

/// Moves exactly `n` bytes and says how many that were: `n`. `moved` is told of each step.
///
/// # Errors
/// See [`SpliceError`]. What was moved is known from `moved`; when the source fails, all it sent
/// before has been given to the target.
///
/// # Cancel safety
/// Not cancel safe: bytes may be left in `pipe`. Only drop it with both connections; the pipe is
/// then closed, not pooled.
pub async fn splice_exact(
    from: &Stream,
    to: &Stream,
    pipe: &mut Pipe,
    n: u64,
    moved: &impl Progress,
) -> Result<u64, SpliceError> {
    match splice_up_to(from, to, pipe, n, moved).await? {
        all if all == n => Ok(n),
        _ => Err(SpliceError::FromEnded),
    }
}

/// Moves all bytes until the source ends, and says how many that were.
///
/// # Errors
/// [`SpliceError::From`] and [`SpliceError::To`], as [`splice_exact`].
///
/// # Cancel safety
/// As [`splice_exact`].
pub async fn splice_until_eof(
    from: &Stream,
    to: &Stream,
    pipe: &mut Pipe,
    moved: &impl Progress,
) -> Result<u64, SpliceError> {
    splice_up_to(from, to, pipe, u64::MAX, moved).await
}

/// Moves `n` bytes or as many as there are before the source ends.
async fn splice_up_to(
    from: &Stream,
    to: &Stream,
    pipe: &mut Pipe,
    n: u64,
    moved: &impl Progress,
) -> Result<u64, SpliceError> {
    let mut total = pass_arrived(from, to, n, moved).await?;
    let mut turn = 0;
    while total < n {
        let ask = pipe_bytes(pipe).min(usize::try_from(n - total).unwrap_or(usize::MAX));
        let got = fill(from, pipe, ask, moved).await.map_err(SpliceError::From)?;
        if got == 0 {
            break;
        }
        // A short answer means that the source has nothing more right now: send what there is.
        let more = got == ask && total + (got as u64) < n;
        drain(to, pipe, more, moved).await.map_err(SpliceError::To)?;
        total += got as u64;
        turn += got;
        if turn >= TURN_BYTES && total < n {
            turn = 0;
            yield_now().await;
        }
    }
    Ok(total)
}

/// Stops the kernel from receiving by itself and sends what it has received already, up to `n`
/// bytes. How many that were.
async fn pass_arrived(
    from: &Stream,
    to: &Stream,
    n: u64,
    moved: &impl Progress,
) -> Result<u64, SpliceError> {
    from.disarm().await;
    let mut total = 0;
    while total < n
        && let Some(buf) = from.take_arrived()
    {
        let count = buf.len().min(usize::try_from(n - total).unwrap_or(usize::MAX));
        moved.before_send();
        let (result, buf) = to.send(buf, count).await;
        if !buf.is_empty() {
            from.put_back(buf);
        }
        result.map_err(SpliceError::To)?;
        moved.advance(count as u64);
        total += count as u64;
    }
    match from.take_arrived_error() {
        // The kernel tells of a reset once, and has told it: splice(2) would see a clean end.
        Some(error) if total < n => Err(SpliceError::From(error)),
        _ => Ok(total),
    }
}

/// Waits for bytes and moves up to `max` of them into the empty pipe. 0 is the end of the source.
async fn fill(
    from: &Stream,
    pipe: &mut Pipe,
    max: usize,
    moved: &impl Progress,
) -> io::Result<usize> {
    moved.before_receive();
    loop {
        match sys::splice(from, &ends(pipe)?.write, max, false) {
            Ok(got) => {
                pipe.set_held(got);
                return Ok(got);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                from.unblocked(Side::Read).await?
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Gives all the pipe holds to the target.
async fn drain(to: &Stream, pipe: &mut Pipe, more: bool, moved: &impl Progress) -> io::Result<()> {
    while pipe.held() > 0 {
        moved.before_send();
        match sys::splice(&ends(pipe)?.read, to, pipe.held(), more) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => {
                pipe.set_held(pipe.held() - sent);
                moved.advance(sent as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                to.unblocked(Side::Write).await?
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn pipe_bytes(pipe: &Pipe) -> usize {
    pipe.ends().map_or(1, |ends| ends.bytes_max)
}

fn ends(pipe: &Pipe) -> io::Result<&Ends> {
    pipe.ends().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
}
