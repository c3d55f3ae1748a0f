//! The PROXY protocol, versions 1 and 2: what a balancer in front says of a connection before its
//! first byte, and what is said to an endpoint.
//!
//! Source: "The PROXY protocol, Versions 1 & 2" (haproxy.org, doc/proxy-protocol.txt), sections 2.1
//! and 2.2. Whatever deviates from it is refused: a receiver that guesses can be lied to.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::base::limits::PROXY_HEADER_BYTES_MAX;

/// Bytes of the longest header of version 1, with its line end.
const V1_BYTES_MAX: usize = 107;
const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What every header of version 2 begins with: the start, version and command, family, length.
const V2_FIXED_BYTES: usize = 16;

/// Who a connection is really between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The client's own address, and the one it connected to.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
    /// The balancer speaks for itself (a check), or of addresses that are not TCP's: the connection's
    /// own addresses hold.
    Local,
}

/// How far a header has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More has to come.
    Partial,
    /// A whole header of `bytes` bytes.
    Complete {
        /// What it says.
        origin: Origin,
        /// How long it is.
        bytes: usize,
    },
}

/// Not a header, or one that is broken or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads the header at the front of a connection's first bytes. The result does not depend on how
/// they were cut.
///
/// # Errors
/// [`Malformed`] as soon as the bytes can't become a header.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    if starts_alike(bytes, V2_START) {
        return parse_v2(bytes);
    }
    if starts_alike(bytes, V1_START) {
        return parse_v1(bytes);
    }
    Err(Malformed)
}

/// Whether one of the two begins with the other.
fn starts_alike(bytes: &[u8], start: &[u8]) -> bool {
    let length = bytes.len().min(start.len());
    bytes[..length] == start[..length]
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let within = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return if bytes.len() >= V1_BYTES_MAX { Err(Malformed) } else { Ok(Parsed::Partial) };
    };
    let line = within[..end].strip_suffix(b"\r").ok_or(Malformed)?;
    let line = std::str::from_utf8(line).map_err(|_| Malformed)?;
    let mut words = line.split(' ').skip(1);
    let origin = match words.next() {
        Some("UNKNOWN") => Origin::Local, // what follows is to be ignored
        Some("TCP4") => v1_addresses::<Ipv4Addr>(words)?,
        Some("TCP6") => v1_addresses::<Ipv6Addr>(words)?,
        _ => return Err(Malformed),
    };
    Ok(Parsed::Complete { origin, bytes: end + 1 })
}

fn v1_addresses<'a, A>(mut words: impl Iterator<Item = &'a str>) -> Result<Origin, Malformed>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let mut word = || words.next().ok_or(Malformed);
    let (source, destination) = (v1_address::<A>(word()?)?, v1_address::<A>(word()?)?);
    let (source_port, destination_port) = (v1_port(word()?)?, v1_port(word()?)?);
    match words.next() {
        Some(_) => Err(Malformed),
        None => Ok(Origin::Proxied {
            source: (source, source_port).into(),
            destination: (destination, destination_port).into(),
        }),
    }
}

fn v1_address<A: std::str::FromStr + Into<IpAddr>>(word: &str) -> Result<IpAddr, Malformed> {
    word.parse::<A>().map(Into::into).map_err(|_| Malformed)
}

/// Digits without a leading zero.
fn v1_port(word: &str) -> Result<u16, Malformed> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain || (word.len() > 1 && word.starts_with('0')) {
        return Err(Malformed);
    }
    word.parse().map_err(|_| Malformed)
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, Malformed> {
    if bytes.get(12).is_some_and(|byte| !matches!(byte, 0x20 | 0x21)) {
        return Err(Malformed);
    }
    let Some(fixed) = bytes.first_chunk::<V2_FIXED_BYTES>() else { return Ok(Parsed::Partial) };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if V2_FIXED_BYTES + length > PROXY_HEADER_BYTES_MAX {
        return Err(Malformed);
    }
    let Some(rest) = bytes.get(V2_FIXED_BYTES..V2_FIXED_BYTES + length) else {
        return Ok(Parsed::Partial);
    };
    let is_local = fixed[12] & 0x0F == 0;
    let origin = match fixed[13] {
        _ if is_local => Origin::Local,
        0x11 => v2_addresses::<4>(rest, |octets| Ipv4Addr::from(octets).into())?,
        0x21 => v2_addresses::<16>(rest, |octets| Ipv6Addr::from(octets).into())?,
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => Origin::Local, // not TCP: "must be accepted"
        _ => return Err(Malformed),
    };
    Ok(Parsed::Complete { origin, bytes: V2_FIXED_BYTES + length })
}

/// Two addresses and two ports; what follows are extensions nobody here asks for.
fn v2_addresses<const N: usize>(
    rest: &[u8],
    address: impl Fn([u8; N]) -> IpAddr,
) -> Result<Origin, Malformed> {
    let (source, rest) = rest.split_first_chunk::<N>().ok_or(Malformed)?;
    let (destination, rest) = rest.split_first_chunk::<N>().ok_or(Malformed)?;
    let (source_port, rest) = rest.split_first_chunk::<2>().ok_or(Malformed)?;
    let (destination_port, _) = rest.split_first_chunk::<2>().ok_or(Malformed)?;
    Ok(Origin::Proxied {
        source: (address(*source), u16::from_be_bytes(*source_port)).into(),
        destination: (address(*destination), u16::from_be_bytes(*destination_port)).into(),
    })
}

/// Which version an endpoint is spoken to with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// On whose behalf a connection is made, for an endpoint that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behalf {
    /// How it is told.
    pub version: ProxyVersion,
    /// The client.
    pub source: SocketAddr,
    /// Where the client connected to.
    pub destination: SocketAddr,
}

impl Behalf {
    /// Appends the header that says so.
    pub fn write(&self, out: &mut Vec<u8>) {
        write(out, self.version, self.source, self.destination);
    }
}

/// Appends the header for a connection on behalf of `source`. Addresses of two families are written
/// as IPv6 both, IPv4 ones mapped.
fn write(out: &mut Vec<u8>, version: ProxyVersion, source: SocketAddr, destination: SocketAddr) {
    let (from, to) = match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V6(to)) => (from.to_ipv6_mapped().into(), to.into()),
        (IpAddr::V6(from), IpAddr::V4(to)) => (from.into(), to.to_ipv6_mapped().into()),
        same => same,
    };
    let ports = [source.port(), destination.port()];
    match version {
        ProxyVersion::V1 => {
            let family = if from.is_ipv4() { 4 } else { 6 };
            let [from_port, to_port] = ports;
            // Writing to a `Vec` cannot fail.
            let _ = write!(out, "PROXY TCP{family} {from} {to} {from_port} {to_port}\r\n");
        }
        ProxyVersion::V2 => write_v2(out, from, to, ports),
    }
}

/// The header for a connection that nobody is behind, such as a check.
pub fn local(version: ProxyVersion) -> &'static [u8] {
    match version {
        ProxyVersion::V1 => b"PROXY UNKNOWN\r\n",
        ProxyVersion::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    }
}

fn write_v2(out: &mut Vec<u8>, from: IpAddr, to: IpAddr, ports: [u16; 2]) {
    out.extend_from_slice(V2_START);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        (from, to) => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&octets(from));
            out.extend_from_slice(&octets(to));
        }
    }
    for port in ports {
        out.extend_from_slice(&port.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n";

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = V2_START.to_vec();
        bytes.extend_from_slice(&[command, family]);
        bytes.extend_from_slice(&(rest.len() as u16).to_be_bytes());
        bytes.extend_from_slice(rest);
        bytes
    }

    fn proxied(source: &str, destination: &str) -> Origin {
        let address = |text: &str| text.parse().expect("an address");
        Origin::Proxied { source: address(source), destination: address(destination) }
    }

    fn complete(bytes: &[u8]) -> Origin {
        match parse(bytes) {
            Ok(Parsed::Complete { origin, bytes: length }) if length == bytes.len() => origin,
            other => panic!("{bytes:?}: {other:?}"),
        }
    }

    #[test]
    fn headers_of_the_specification() {
        assert_eq!(complete(V1), proxied("192.0.2.1:56324", "198.51.100.2:443"));
        let six = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n";
        assert_eq!(complete(six), proxied("[2001:db8::1]:1", "[2001:db8::2]:65535"));
        assert_eq!(complete(local(ProxyVersion::V1)), Origin::Local);
        assert_eq!(complete(local(ProxyVersion::V2)), Origin::Local);
        let longest = b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
        assert_eq!(complete(longest), Origin::Local);
        let four = v2(0x21, 0x11, &[192, 0, 2, 1, 198, 51, 100, 2, 0xDC, 4, 1, 0xBB]);
        assert_eq!(complete(&four), proxied("192.0.2.1:56324", "198.51.100.2:443"));
        assert_eq!(complete(&v2(0x20, 0x00, &[])), Origin::Local);
        assert_eq!(complete(&v2(0x20, 0x11, &[0; 12])), Origin::Local);
        assert_eq!(complete(&v2(0x21, 0x31, &[0; 216])), Origin::Local);
    }

    #[test]
    fn extensions_are_skipped() {
        let mut rest = vec![192, 0, 2, 1, 198, 51, 100, 2, 0xDC, 4, 1, 0xBB];
        rest.extend_from_slice(&[0x02, 0, 9]);
        rest.extend_from_slice(b"a.example");
        assert_eq!(
            complete(&v2(0x21, 0x11, &rest)),
            proxied("192.0.2.1:56324", "198.51.100.2:443")
        );
    }

    #[test]
    fn what_is_not_a_header_is_refused_at_the_first_byte_that_shows_it() {
        for bad in [
            &b"G"[..],
            b"GET / HTTP/1.1\r\n",
            b"PROXZ",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
            b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
            b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
            b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x11",
            b"\r\n\r\n\0\r\nQUIT\n\x22",
            b"\r\n\r\nGET",
        ] {
            assert_eq!(parse(bad), Err(Malformed), "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(parse(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 120]].concat()), Err(Malformed));
        assert_eq!(parse(&v2(0x21, 0x11, &[0; 11])), Err(Malformed));
        assert_eq!(parse(&v2(0x21, 0x41, &[0; 40])), Err(Malformed));
        let long = v2(0x21, 0x11, &vec![0; PROXY_HEADER_BYTES_MAX]);
        assert_eq!(parse(&long[..V2_FIXED_BYTES]), Err(Malformed), "before it has arrived");
    }

    #[test]
    fn headers_torn_at_every_byte() {
        for whole in [V1.to_vec(), v2(0x21, 0x11, &[7; 12]), v2(0x21, 0x21, &[7; 40])] {
            for cut in 0..whole.len() {
                assert_eq!(parse(&whole[..cut]), Ok(Parsed::Partial), "cut at {cut}");
            }
            let followed = [&whole[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(parse(&followed), parse(&whole), "what follows is not looked at");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(source: SocketAddr, destination: SocketAddr, is_v1: bool) {
            let version = if is_v1 { ProxyVersion::V1 } else { ProxyVersion::V2 };
            let mut out = Vec::new();
            write(&mut out, version, source, destination);
            let Origin::Proxied { source: from, destination: to } = complete(&out) else {
                return Err(TestCaseError::fail("local"));
            };
            let plain = |one: SocketAddr| (one.ip().to_canonical(), one.port());
            prop_assert_eq!((plain(from), plain(to)), (plain(source), plain(destination)));
        }

        #[test]
        fn bytes_of_a_stranger_never_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            let _ = parse(&[V2_START.as_slice(), &bytes].concat());
            let _ = parse(&[V1_START, &bytes].concat());
        }
    }
}
