//! One connection to an endpoint.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use crate::{
    base::reason::Reason,
    dataplane::{socket::Socket, streams::Stream},
    rt::{self, ConnectError, Deadlines},
};

/// A connection to an endpoint, in use by at most one request.
pub struct UpstreamConnection {
    /// The socket with its deadlines.
    pub socket: Socket,
    /// Whether an earlier request used it: it may have died without our knowing.
    pub reused: bool,
    /// Bytes sent over it, to tell how much of a request its endpoint has acknowledged.
    pub sent: u64,
    born_tick: u64,
}

impl UpstreamConnection {
    /// Connects to an endpoint.
    ///
    /// # Errors
    /// The reason that a client is given if no other endpoint can be had.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing was sent; a half-open socket is closed.
    pub async fn connect(
        address: SocketAddr,
        within: Duration,
        deadlines: &Deadlines,
    ) -> Result<Self, Reason> {
        match rt::connect(address, within).await {
            Ok(stream) => Ok(Self {
                socket: Socket::new(stream, deadlines),
                reused: false,
                sent: 0,
                born_tick: deadlines.now_tick(),
            }),
            Err(ConnectError::Refused) => Err(Reason::UpstreamConnectRefused),
            Err(ConnectError::TimedOut) => Err(Reason::UpstreamConnectTimeout),
            Err(ConnectError::Other(_)) => Err(Reason::UpstreamConnectFailed),
        }
    }

    /// A stream of a connection that others use too. Counts as used before, as its connection was
    /// made without regard to it: it may have died without our knowing.
    pub fn of_stream(stream: Stream, deadlines: &Deadlines) -> Self {
        Self {
            socket: Socket::of_stream(Rc::new(stream)),
            reused: true,
            sent: 0,
            born_tick: deadlines.now_tick(),
        }
    }

    /// Ticks since it was connected.
    pub fn age_ticks(&self, now_tick: u64) -> u64 {
        now_tick.wrapping_sub(self.born_tick)
    }

    /// Whether the endpoint has neither closed it nor sent anything nobody asked for.
    pub fn is_quiet(&self) -> bool {
        self.socket.is_quiet()
    }
}
