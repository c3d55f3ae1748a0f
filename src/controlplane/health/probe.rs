//! One check of one endpoint, and why it failed.

use std::{fmt, io, net::SocketAddr};

use tokio::net::TcpStream;

use super::http;
use crate::snapshot::health::{HealthCheck, HttpProbe, Probe};

/// Why a check failed, in the words of logs, metrics and `/v1/status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The connection could not be made.
    Connect(io::ErrorKind),
    /// No answer in time.
    Timeout,
    /// The connection broke before the answer was complete.
    Cut(io::ErrorKind),
    /// It answered with another status.
    Status(u16),
    /// The body does not hold what it must.
    Body,
    /// What it answered is not the protocol that was asked for.
    Invalid,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(io::ErrorKind::ConnectionRefused) => f.write_str("connect refused"),
            Self::Connect(kind) => write!(f, "connect: {kind}"),
            Self::Timeout => f.write_str("timeout"),
            Self::Cut(io::ErrorKind::UnexpectedEof) => f.write_str("closed before it answered"),
            Self::Cut(kind) => write!(f, "{kind}"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Body => f.write_str("the body does not match"),
            Self::Invalid => f.write_str("not a valid answer"),
        }
    }
}

/// A check, ready to be asked of any endpoint of its upstream.
#[derive(Debug)]
pub(super) enum Prober {
    /// A connection is enough.
    Tcp,
    /// A request and what its response must be.
    Http(HttpProbe, Option<http::Matcher>),
}

impl Prober {
    pub(super) fn new(check: &HealthCheck) -> Self {
        match &check.probe {
            Probe::Tcp => Self::Tcp,
            Probe::Http(probe) => {
                let matcher = probe.body.as_ref().map(http::Matcher::new);
                Self::Http((**probe).clone(), matcher)
            }
        }
    }

    /// Asks once. `authority` is the `host:port` of the endpoint.
    ///
    /// # Errors
    /// Why the endpoint did not pass. Takes as long as the endpoint does: the caller has a timeout.
    ///
    /// # Cancel safety
    /// Dropped, it closes its connection.
    pub(super) async fn ask(&self, address: SocketAddr, authority: &str) -> Result<(), Failure> {
        let connect = TcpStream::connect(address).await;
        let stream = connect.map_err(|error| Failure::Connect(error.kind()))?;
        match self {
            Self::Tcp => Ok(()),
            Self::Http(probe, matcher) => {
                http::ask(stream, probe, matcher.as_ref(), authority).await
            }
        }
    }
}
