//! Endpoints whose address is the answer to a question: `[dns]`, names in URLs, `discovery.dns`.

use std::{net::SocketAddr, time::Duration};

use super::Endpoint;

/// What is asked of DNS.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Query {
    /// The addresses of a name: A and AAAA records, and `/etc/hosts`.
    Address(Box<str>),
    /// Where a service is: SRV records, and the addresses of their targets.
    Service(Box<str>),
}

impl Query {
    /// The name that is asked for.
    pub fn name(&self) -> &str {
        match self {
            Self::Address(name) | Self::Service(name) => name,
        }
    }

    /// The word in `/v1/status`: `A` stands for both kinds of addresses.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Address(_) => "A",
            Self::Service(_) => "SRV",
        }
    }
}

/// One element of an upstream's endpoints as it was configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// What each endpoint made from it is, but for what the answer says.
    pub endpoint: Endpoint,
    /// Where its address comes from.
    pub from: From,
}

/// Where an address comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// It was given.
    Given,
    /// Each address of a name, with this port.
    Name(Query, u16),
    /// Each address and port of a service.
    Service(Query),
}

impl From {
    /// What has to be asked.
    pub fn query(&self) -> Option<&Query> {
        match self {
            Self::Given => None,
            Self::Name(query, _) | Self::Service(query) => Some(query),
        }
    }
}

/// Which addresses of a name are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4, or IPv6 if there is none.
    Auto,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// Both.
    Both,
}

/// `[dns]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// Who is asked; those of `/etc/resolv.conf` if empty.
    pub servers: Box<[SocketAddr]>,
    /// Which addresses are used.
    pub family: Family,
    /// For one question, with all its repetitions.
    pub timeout: Duration,
    /// An answer is used at least that long, whatever it says.
    pub ttl_min: Duration,
    /// And at most that long.
    pub ttl_max: Duration,
}
