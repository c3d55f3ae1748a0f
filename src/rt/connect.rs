//! Connecting to an endpoint within a time.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::join::{Either, race};
use super::stream::Stream;
use super::timers::Sleep;

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// Nobody listens there (ECONNREFUSED).
    Refused,
    /// No answer within the time given, or within the kernel's own (ETIMEDOUT).
    TimedOut,
    /// Anything else, as the system's error number: unreachable, no free port, no free descriptor.
    Other(i32),
}

/// Connects to `addr`; waits at most `within`. No name resolution.
///
/// # Errors
/// See [`ConnectError`]. The descriptor is closed in every case.
///
/// # Cancel safety
/// Cancel safe: dropping it closes the socket.
pub async fn connect(addr: SocketAddr, within: Duration) -> Result<Stream, ConnectError> {
    let (stream, established) = begin(addr)?;
    if established {
        return Ok(stream);
    }
    // The wait that loses the race is dropped, and loses nothing: nothing was received yet.
    match race(pin!(stream.writable()), pin!(Sleep::new(within))).await {
        Either::Left(writable) => writable?,
        Either::Right(()) => return Err(ConnectError::TimedOut),
    }
    match stream.take_error()? {
        None => Ok(stream),
        Some(error) => Err(error.into()),
    }
}

/// Sends the SYN. True if the connection is there already, as it often is on one machine.
fn begin(addr: SocketAddr) -> io::Result<(Stream, bool)> {
    let kind = Type::STREAM.nonblocking(); // CLOEXEC comes with `Socket::new`
    let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    let established = match socket.connect(&SockAddr::from(addr)) {
        Ok(()) => true,
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => false,
        Err(error) => return Err(error),
    };
    Ok((Stream::adopt(socket.into()), established))
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => ConnectError::Refused,
            Some(libc::ETIMEDOUT) => ConnectError::TimedOut,
            other => ConnectError::Other(other.unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It is part of the future of every connection, so its size is memory per idle client.
    #[test]
    fn connecting_takes_little_room() {
        let size = size_of_val(&connect(([127, 0, 0, 1], 9).into(), Duration::ZERO));
        assert!(size <= 768, "{size}");
    }
}
