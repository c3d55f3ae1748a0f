//! Clients behind a balancer that speaks the PROXY protocol: who they are is said before their
//! first byte.

use std::{rc::Rc, time::Duration};

use super::h1::{Downstream, peer_text};
use crate::{
    policy::forwarded::TrustedProxies,
    proto::proxy_protocol::{Origin, Parsed, parse},
    rt::BufPool,
};

/// The tag of the read deadline.
const DEADLINE: u8 = 4;

impl Downstream {
    /// Receives the header and takes the client's address from it. Only balancers that are trusted
    /// may send one: anybody else could claim to be anybody. `false`: the connection ends without
    /// an answer, as what follows could not be told from a header.
    ///
    /// # Cancel safety
    /// Not cancel safe: received bytes could be lost.
    pub async fn learn_origin(
        &mut self,
        pool: &BufPool,
        trusted: &TrustedProxies,
        within: Duration,
    ) -> bool {
        if !trusted.contains(self.peer.ip()) {
            return false;
        }
        self.socket.read_within(within, DEADLINE);
        let origin = loop {
            match parse(self.input_bytes()) {
                Ok(Parsed::Complete { origin, bytes }) => {
                    self.consume(bytes);
                    break origin;
                }
                Ok(Parsed::Partial) => {} // there is room: PROXY_HEADER_BYTES_MAX < BUFFER_BYTES_MIN
                Err(_) => return false,
            }
            if !matches!(self.socket.fill(&mut self.input, pool).await, Ok(1..)) {
                return false;
            }
        };
        self.socket.read_without_deadline();
        if let Origin::Proxied { source, destination } = origin {
            self.local = Some(Rc::new(destination));
            self.peer = source;
            self.peer_text = peer_text(source);
        }
        true
    }
}
