//! TLS of clients, by rustls as it is: what any proxy that uses it has to pay.

use crate::socket;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ServerConfig, ServerConnection, crypto::aws_lc_rs};
use std::io::{self, Read, Write};
use std::sync::Arc;

/// What all connections share.
pub struct Tls(Arc<ServerConfig>);

/// One connection.
pub struct Session {
    connection: ServerConnection,
    /// The client wants to know where the answer ends by the end of the connection.
    pub is_last: bool,
}

impl Tls {
    /// Tickets as ringway's: stateless, two with each handshake; suites in ringway's order.
    pub fn new(certificate: &str, key: &str) -> Result<Self, String> {
        let mut provider = aws_lc_rs::default_provider();
        provider
            .cipher_suites
            .sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("AES_128"));
        let chain =
            CertificateDer::pem_file_iter(certificate).map_err(|error| error.to_string())?;
        let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| error.to_string())?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| error.to_string())?;
        config.ignore_client_order = true;
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
        Ok(Self(Arc::new(config)))
    }

    pub fn session(&self) -> io::Result<Box<Session>> {
        let connection = ServerConnection::new(Arc::clone(&self.0)).map_err(io::Error::other)?;
        Ok(Box::new(Session { connection, is_last: false }))
    }
}

impl Session {
    /// Takes what has arrived and sends what the handshake wants; the plaintext goes to `out`.
    pub fn receive(&mut self, fd: i32, mut bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() {
            self.connection.read_tls(&mut bytes)?;
            let state = self.connection.process_new_packets().map_err(io::Error::other)?;
            let (at, count) = (out.len(), state.plaintext_bytes_to_read());
            out.resize(at + count, 0);
            self.connection.reader().read_exact(&mut out[at..])?;
        }
        // Tickets go with the answer, where there is one to come.
        if out.is_empty() { self.flush(fd) } else { Ok(()) }
    }

    /// Sends plaintext, and the end of the connection behind it if that is due.
    pub fn send(&mut self, fd: i32, bytes: &[u8], ended: bool) -> io::Result<()> {
        self.connection.writer().write_all(bytes)?;
        if ended {
            self.connection.send_close_notify();
        }
        self.flush(fd)
    }

    fn flush(&mut self, fd: i32) -> io::Result<()> {
        let mut records = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut records)?;
        }
        socket::send_all(fd, &records)
    }
}
