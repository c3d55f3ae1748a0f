//! `host[:port]`.

use std::ops::Range;

/// The parts of an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Where the host lies, brackets of an IPv6 address included.
    pub host: Range<usize>,
    /// Where the digits of the port lie; `None` if there are none.
    pub port_range: Option<Range<usize>>,
    /// The port.
    pub port: Option<u16>,
}

/// The bytes are not `host[:port]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostError;

/// Splits and validates `host[:port]`.
pub fn parse_authority(bytes: &[u8]) -> Result<Authority, HostError> {
    let _ = bytes;
    todo!()
}

/// Appends the host in lower case, without a final dot.
pub fn normalise_host(host: &[u8], out: &mut Vec<u8>) {
    let _ = (host, out);
    todo!()
}
