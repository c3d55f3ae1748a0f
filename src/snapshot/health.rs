//! How endpoints of an upstream are checked: `[upstream.health_check]`.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use crate::{policy::health::Thresholds, proto::proxy_protocol::ProxyVersion, tls::ClientTls};

/// One check, asked of every endpoint of its upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked, and what it must answer.
    pub probe: Probe,
    /// Whether it is asked in HTTP/2; a gRPC check always is.
    pub http2: bool,
    /// Which header each connection begins with: that nobody is behind it.
    pub proxy_protocol: Option<ProxyVersion>,
    /// How TLS is spoken with endpoints that have a name to prove; `None`: with none.
    pub tls: Option<Arc<ClientTls>>,
    /// The port that is asked; the endpoint's own without one.
    pub port: Option<u16>,
    /// From the beginning of one check to that of the next.
    pub interval: Duration,
    /// How far the interval may vary, of 10,000.
    pub jitter_per_10k: u16,
    /// For one check, from connect to answer.
    pub timeout: Duration,
    /// How many results in a row count.
    pub thresholds: Thresholds,
    /// Whether an endpoint gets requests before its first check.
    pub initially_up: bool,
}

/// What a check does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A request and its response.
    Http(Box<HttpProbe>),
    /// A connection that is accepted.
    Tcp,
    /// `grpc.health.v1.Health/Check`.
    Grpc(Box<GrpcProbe>),
}

/// Whose health is asked for in gRPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcProbe {
    /// The service; empty for the server as a whole.
    pub service: Box<str>,
    /// The authority; that of the endpoint without one.
    pub host: Option<Box<str>>,
}

/// A request, and what the response must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// In capitals.
    pub method: Box<str>,
    /// With a slash in front; may have a query.
    pub path: Box<str>,
    /// The Host; that of the endpoint without one.
    pub host: Option<Box<str>>,
    /// Further fields, ready to be sent.
    pub fields: Box<[HeaderField]>,
    /// Statuses that pass.
    pub status: StatusSet,
    /// What the body must hold.
    pub body: Option<BodyMatch>,
}

/// Name and value.
pub type HeaderField = (Box<str>, Box<str>);

/// Statuses, as ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSet(pub Box<[RangeInclusive<u16>]>);

impl StatusSet {
    /// Whether a status is among them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

/// What a body must hold, within its first
/// [`HEALTH_BODY_BYTES_MAX`](crate::base::limits::HEALTH_BODY_BYTES_MAX) bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyMatch {
    /// These bytes, anywhere.
    Contains(Box<str>),
    /// A match of this regular expression; it compiles.
    Regex(Box<str>),
}
