//! One check of one endpoint, and why it failed.

use std::{fmt, io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{grpc, http, http2};
use crate::{
    proto::proxy_protocol::{self, ProxyVersion},
    snapshot::health::{GrpcProbe, HealthCheck, HttpProbe, Probe},
    tls::{Alpn, pki_types::ServerName},
};

/// A connection, with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

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
    /// The TLS handshake failed.
    Tls(Box<str>),
    /// The call failed with this gRPC status.
    Grpc(Box<str>),
    /// The service answers that it does not serve: the number of its status.
    NotServing(u64),
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
            Self::Tls(why) => write!(f, "TLS: {why}"),
            Self::Grpc(status) => write!(f, "grpc-status {status}"),
            Self::NotServing(2) => f.write_str("NOT_SERVING"),
            Self::NotServing(3) => f.write_str("SERVICE_UNKNOWN"),
            Self::NotServing(status) => write!(f, "it does not serve: status {status}"),
            Self::Body => f.write_str("the body does not match"),
            Self::Invalid => f.write_str("not a valid answer"),
        }
    }
}

/// Whom a check asks.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) address: SocketAddr,
    /// The `host:port` of the endpoint.
    pub(super) authority: &'a str,
    /// Whom it has to prove to be, where TLS is spoken with it.
    pub(super) tls_name: Option<&'a ServerName<'static>>,
}

/// A check, ready to be asked of any endpoint of its upstream.
pub(super) struct Prober {
    question: Question,
    http2: bool,
    proxy_protocol: Option<ProxyVersion>,
    tls: Option<TlsConnector>,
}

enum Question {
    /// A connection is enough.
    Tcp,
    /// A request and what its response must be.
    Http(HttpProbe, Option<http::Matcher>),
    /// A call.
    Grpc(GrpcProbe),
}

impl Prober {
    pub(super) fn new(check: &HealthCheck) -> Self {
        let question = match &check.probe {
            Probe::Tcp => Question::Tcp,
            Probe::Http(probe) => {
                let matcher = probe.body.as_ref().map(http::Matcher::new);
                Question::Http((**probe).clone(), matcher)
            }
            Probe::Grpc(probe) => Question::Grpc((**probe).clone()),
        };
        let http2 = check.http2 || matches!(question, Question::Grpc(_));
        let alpn = if http2 { Alpn::Http2 } else { Alpn::Http11 };
        let tls = check.tls.as_ref().map(|tls| TlsConnector::from(tls.aside(alpn)));
        Self { question, http2, proxy_protocol: check.proxy_protocol, tls }
    }

    /// Asks once.
    ///
    /// # Errors
    /// Why the endpoint did not pass. Takes as long as the endpoint does: the caller has a timeout.
    ///
    /// # Cancel safety
    /// Dropped, it closes its connection.
    pub(super) async fn ask(&self, target: Target<'_>) -> Result<(), Failure> {
        let connect = TcpStream::connect(target.address).await;
        let mut stream = connect.map_err(|error| Failure::Connect(error.kind()))?;
        if let Some(version) = self.proxy_protocol {
            let sent = stream.write_all(proxy_protocol::local(version)).await;
            sent.map_err(|error| Failure::Cut(error.kind()))?;
        }
        let authority = target.authority;
        match (&self.question, self.tls.as_ref().zip(target.tls_name)) {
            (Question::Tcp, _) => Ok(()),
            (_, None) => {
                let host = authority.strip_suffix(":80").unwrap_or(authority);
                self.speak(stream, "http", host).await
            }
            (_, Some((tls, name))) => {
                let shaken = tls.connect(name.clone(), stream).await;
                let stream = shaken.map_err(|error| Failure::Tls(error.to_string().into()))?;
                if self.http2 && stream.get_ref().1.alpn_protocol() != Some(Alpn::Http2.name()) {
                    return Err(Failure::Tls("it did not agree to HTTP/2 (ALPN h2)".into()));
                }
                let host = authority.strip_suffix(":443").unwrap_or(authority);
                self.speak(stream, "https", host).await
            }
        }
    }

    async fn speak(&self, stream: impl Stream, scheme: &str, host: &str) -> Result<(), Failure> {
        match &self.question {
            Question::Tcp => Ok(()),
            Question::Http(probe, matcher) => {
                let host = probe.host.as_deref().unwrap_or(host);
                match self.http2 {
                    true => http2::ask(stream, probe, matcher.as_ref(), scheme, host).await,
                    false => http::ask(stream, probe, matcher.as_ref(), host).await,
                }
            }
            Question::Grpc(probe) => {
                grpc::ask(stream, probe, scheme, probe.host.as_deref().unwrap_or(host)).await
            }
        }
    }
}
