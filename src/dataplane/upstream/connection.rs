//! One connection to an endpoint.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use super::Permit;
use crate::{
    base::{limits, reason::Reason},
    dataplane::{
        socket::{Broken, HandshakeEnd, Socket},
        streams::Stream,
    },
    proto::proxy_protocol::Behalf,
    rt::{self, BufPool, ConnectError, Deadlines},
    tls::{ClientTls, pki_types::ServerName},
};

/// A connection to an endpoint, in use by at most one request.
pub struct UpstreamConnection {
    /// The socket with its deadlines.
    pub socket: Socket,
    /// Whether an earlier request used it: it may have died without our knowing.
    pub reused: bool,
    /// Leave to have it, where that is limited.
    pub(super) permit: Option<Permit>,
    /// Bytes sent over it, to tell how much of a request its endpoint has acknowledged.
    pub sent: u64,
    born_tick: u64,
    /// Whom its endpoint was told to be behind it: nobody else may use it.
    behalf: Option<Box<Behalf>>,
}

/// How an endpoint wants to be spoken to by TLS.
#[derive(Clone, Copy)]
pub struct TlsWish<'a> {
    /// Whom to believe, and what to show.
    pub tls: &'a ClientTls,
    /// Whom it has to prove to be.
    pub name: &'a ServerName<'static>,
    /// Buffers of this core.
    pub buffers: &'a BufPool,
    /// Is told why it failed.
    pub failed: &'a dyn Fn(&HandshakeEnd),
}

impl UpstreamConnection {
    /// Connects to an endpoint, by TLS if there is a session for it. Before anything else it is told on
    /// whose behalf, if that is given.
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
        behalf: Option<&Behalf>,
        tls: Option<TlsWish<'_>>,
    ) -> Result<Self, Reason> {
        let born_tick = deadlines.now_tick();
        match rt::connect(address, within).await {
            Ok(stream) => {
                let socket = Socket::new(stream, deadlines);
                let mut made =
                    Self { socket, reused: false, permit: None, sent: 0, born_tick, behalf: None };
                if let Some(behalf) = behalf {
                    Box::pin(made.announce(behalf, within)).await?;
                }
                if let Some(wish) = tls {
                    let passed = deadlines.now_tick().wrapping_sub(born_tick);
                    let passed = limits::TICK.saturating_mul(u32::try_from(passed).unwrap_or(0));
                    // Boxed: it happens once for many requests, and is not small.
                    Box::pin(made.begin_tls(wish, within.saturating_sub(passed))).await?;
                }
                Ok(made)
            }
            Err(ConnectError::Refused) => Err(Reason::UpstreamConnectRefused),
            Err(ConnectError::TimedOut) => Err(Reason::UpstreamConnectTimeout),
            Err(ConnectError::Other(_)) => Err(Reason::UpstreamConnectFailed),
        }
    }

    /// The same, with leave to be there.
    pub fn with_permit(self, permit: Option<Permit>) -> Self {
        Self { permit, ..self }
    }

    /// Says on whose behalf the connection was made.
    async fn announce(&mut self, behalf: &Behalf, within: Duration) -> Result<(), Reason> {
        let mut header = Vec::new();
        behalf.write(&mut header);
        self.sent += header.len() as u64;
        self.behalf = Some(Box::new(*behalf));
        self.socket.write_within(within, 1);
        let sent = self.socket.send_bytes(&mut header).await;
        self.socket.write_without_deadline();
        sent.map_err(|_| Reason::UpstreamConnectFailed)
    }

    /// Whether it was made on behalf of this client, and told so.
    pub fn is_for(&self, behalf: &Behalf) -> bool {
        self.behalf.as_deref() == Some(behalf)
    }

    /// Whether nobody but one client may use it.
    pub fn is_for_one(&self) -> bool {
        self.behalf.is_some()
    }

    async fn begin_tls(&mut self, wish: TlsWish<'_>, within: Duration) -> Result<(), Reason> {
        const DEADLINE: u8 = 1;
        let TlsWish { tls, name, buffers, failed } = wish;
        let session = match tls.session(name) {
            Ok(session) => session,
            Err(failure) => {
                failed(&HandshakeEnd::Failed(failure));
                return Err(Reason::UpstreamTlsFailed);
            }
        };
        self.socket.read_within(within, DEADLINE);
        self.socket.write_within(within, DEADLINE);
        let made = self.socket.connect_tls(session, buffers).await;
        self.socket.read_without_deadline();
        self.socket.write_without_deadline();
        let agreed = |()| tls.check_agreed(self.socket.alpn()).map_err(HandshakeEnd::Failed);
        made.and_then(agreed).map_err(|end| match end {
            HandshakeEnd::Broken(Broken::Deadline(_)) => Reason::UpstreamConnectTimeout,
            HandshakeEnd::Broken(Broken::NoBuffer) => Reason::Overloaded,
            end => {
                failed(&end);
                Reason::UpstreamTlsFailed
            }
        })
    }

    /// A stream of a connection that others use too. Counts as used before, as its connection was
    /// made without regard to it: it may have died without our knowing.
    pub fn of_stream(stream: Rc<Stream>, deadlines: &Deadlines) -> Self {
        Self {
            socket: Socket::of_stream(stream),
            reused: true,
            permit: None,
            sent: 0,
            born_tick: deadlines.now_tick(),
            behalf: None,
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
