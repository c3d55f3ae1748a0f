//! One client connection that speaks HTTP/1: reads request heads, drops what nobody wants, closes
//! so that the last answer arrives.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use crate::{
    base::{ids::ListenerId, limits, reason::Reason},
    dataplane::{
        context::RequestContext,
        socket::{Broken, Socket},
    },
    proto::{
        h1::{HeadLimits, Parse},
        proxy_protocol::{Behalf, ProxyVersion},
    },
    rt::{Buf, BufPool, Deadlines, Stream},
    snapshot::ListenerLimits,
};

/// Tags of the read deadline on the client side.
mod tag {
    pub(super) const IDLE: u8 = 1;
    pub(super) const HEAD: u8 = 2;
    pub(super) const LINGER: u8 = 3;
}

/// How reading a head ended.
pub enum HeadEnd {
    /// A whole head of this many bytes lies at the front of the input.
    Head(usize),
    /// Nothing (more) to answer: the client closed, or was idle for too long.
    Closed,
    /// The client has to be told, and the connection ends.
    Refused(Reason),
}

/// A client's connection.
pub struct Downstream {
    /// The socket with its deadlines.
    pub socket: Socket,
    /// Bytes received and not yet used: the head being served, body bytes, pipelined requests.
    pub input: Option<Buf>,
    /// Who it is.
    pub peer: SocketAddr,
    /// Where it connected to, if that is not what the socket says.
    pub local: Option<Rc<SocketAddr>>,
    /// The text of the client's address, made once.
    pub peer_text: Rc<[u8]>,
    /// Where it came in.
    pub listener: ListenerId,
    /// What is known of its TLS, if it speaks that.
    pub tls: Option<TlsFacts>,
}

/// What is known of a client's TLS, also on the streams of its connection.
#[derive(Clone, Copy, Debug)]
pub struct TlsFacts {
    /// What its handshake asked it for: see [`crate::tls::ServerTls::profile`].
    pub profile: Option<u16>,
}

impl Downstream {
    /// A connection that was just accepted.
    pub fn new(
        stream: Stream,
        peer: SocketAddr,
        listener: ListenerId,
        deadlines: &Deadlines,
    ) -> Self {
        let peer_text = peer_text(peer);
        Self {
            socket: Socket::new(stream, deadlines),
            input: None,
            peer,
            local: None,
            peer_text,
            listener,
            tls: None,
        }
    }

    /// Where the client connected to.
    pub fn local(&self) -> SocketAddr {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        self.local.as_deref().copied().or_else(|| self.socket.local_address()).unwrap_or(unknown)
    }

    /// The client, as an endpoint is told of it.
    pub fn behalf(&self, version: ProxyVersion) -> Behalf {
        Behalf { version, source: self.peer, destination: self.local() }
    }

    /// The bytes received and not yet used.
    pub fn input_bytes(&self) -> &[u8] {
        self.input.as_ref().map_or(&[], Buf::data)
    }

    /// Drops the first `count` bytes of the input, and the buffer with its last byte.
    pub fn consume(&mut self, count: usize) {
        if let Some(buf) = &mut self.input {
            buf.consume(count);
            if buf.is_empty() {
                self.input = None;
            }
        }
    }

    /// Waits for the first byte of a request. Until then the connection holds no context, and
    /// only a bounded number of waiting connections hold a buffer.
    ///
    /// # Cancel safety
    /// Not cancel safe: received bytes could be lost.
    pub async fn wait(&mut self, pool: &BufPool, idle: Duration) -> Result<(), HeadEnd> {
        if self.input.is_some() {
            return Ok(()); // pipelined
        }
        self.socket.read_within(idle, tag::IDLE);
        match self.socket.fill(&mut self.input, pool).await {
            Ok(0) => Err(HeadEnd::Closed),
            Ok(_) => Ok(()),
            Err(Broken::NoBuffer) => Err(HeadEnd::Refused(Reason::Overloaded)),
            Err(_) => Err(HeadEnd::Closed),
        }
    }

    /// Reads one request head into `context.head`.
    ///
    /// # Cancel safety
    /// Not cancel safe: received bytes could be lost.
    pub async fn read_head(
        &mut self,
        context: &mut RequestContext,
        pool: &BufPool,
        limits: &ListenerLimits,
    ) -> HeadEnd {
        let head_limits =
            HeadLimits { bytes_max: limits.header_bytes_max, count_max: limits.header_count_max };
        let mut timed = false;
        loop {
            if let Some(buf) = &mut self.input {
                match context.head.parse(buf.data(), head_limits) {
                    Ok(Parse::Complete { head_bytes }) => {
                        self.socket.read_without_deadline();
                        if self.socket.is_stream() {
                            context.head.note_http2();
                        }
                        return HeadEnd::Head(head_bytes);
                    }
                    Ok(Parse::Partial) => {}
                    Err(error) => return HeadEnd::Refused(error.reason()),
                }
                if buf.spare() == 0 {
                    buf.compact();
                    if buf.spare() == 0 {
                        return HeadEnd::Refused(Reason::HeaderTooLarge);
                    }
                }
            }
            if !timed {
                timed = true; // from the first byte on; most heads are whole and never come here
                self.socket.read_within(limits.header_timeout, tag::HEAD);
            }
            match self.socket.fill(&mut self.input, pool).await {
                Ok(0) => return HeadEnd::Closed,
                Ok(_) => {}
                Err(Broken::Deadline(_)) if context.head.started(self.input_bytes()) => {
                    return HeadEnd::Refused(Reason::HeaderTimeout);
                }
                Err(Broken::NoBuffer) => return HeadEnd::Refused(Reason::Overloaded),
                Err(_) => return HeadEnd::Closed,
            }
        }
    }

    /// Reads and drops `count` body bytes, so that the next request can be found behind them.
    ///
    /// # Errors
    /// When the client ended, stalled or reset the connection first.
    ///
    /// # Cancel safety
    /// Not cancel safe: received bytes could be lost.
    pub async fn discard(
        &mut self,
        mut count: u64,
        pool: &BufPool,
        limits: &ListenerLimits,
    ) -> Result<(), Broken> {
        loop {
            let here = usize::try_from(count).unwrap_or(usize::MAX).min(self.input_bytes().len());
            self.consume(here);
            count -= here as u64;
            if count == 0 {
                self.socket.read_without_deadline();
                return Ok(());
            }
            self.socket.read_within(limits.body_timeout, tag::LINGER);
            if self.socket.fill(&mut self.input, pool).await? == 0 {
                return Err(Broken::Reset);
            }
        }
    }

    /// Ends a connection whose client may still be sending. Closing with unread bytes would reset
    /// it and could destroy the answer on its way, so what comes is read and dropped for a while.
    ///
    /// Source: RFC 9112 §9.6.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing that is read matters.
    pub async fn linger(&mut self, pool: &BufPool) {
        self.socket.end_write().await;
        self.socket.read_within(limits::LINGER_MAX, tag::LINGER);
        self.input = None;
        let mut left = limits::LINGER_BYTES_MAX;
        while left > 0 {
            match self.socket.discard(pool).await {
                Ok(0) | Err(_) => return,
                Ok(received) => left = left.saturating_sub(received),
            }
        }
    }
}

/// A client's address for fields and logs: `::ffff:192.0.2.1`, as a dual-stack socket names an IPv4
/// client, is `192.0.2.1`.
pub(super) fn peer_text(peer: SocketAddr) -> Rc<[u8]> {
    peer.ip().to_canonical().to_string().into_bytes().into()
}
