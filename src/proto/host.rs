//! `host[:port]`: what Host, the target of CONNECT and the authority of an absolute target hold.

use std::{net::Ipv6Addr, ops::Range};

use super::bytes::{HOST, UNRESERVED, is, percent_value};

/// The parts of an authority, as ranges of the bytes it was parsed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Where the host lies, brackets of an IPv6 address included. Never empty.
    pub host: Range<usize>,
    /// Where the digits of the port lie; `None` if there are none.
    pub port_range: Option<Range<usize>>,
    /// The port.
    pub port: Option<u16>,
}

impl Authority {
    /// Where the authority ends when the colon of an empty port is left out.
    pub fn end(&self) -> usize {
        self.port_range.as_ref().map_or(self.host.end, |port| port.end)
    }
}

/// The bytes are not `host[:port]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostError;

/// Splits and validates `host[:port]`: a registered name, an IPv4 address or `[IPv6]`, and a port
/// in `0..=65535`. An empty port (`host:`) counts as none.
///
/// Source: RFC 3986 §3.2.2, §3.2.3; RFC 9110 §7.2.
///
/// # Errors
/// Anything else: empty, user information, a comma, white space, path characters, a zone id.
pub fn parse_authority(bytes: &[u8]) -> Result<Authority, HostError> {
    let host_end = if bytes.first() == Some(&b'[') { ipv6_end(bytes)? } else { name_end(bytes)? };
    let host = 0..host_end;
    let digits = match bytes.get(host_end..) {
        None | Some([]) => return Ok(Authority { host, port_range: None, port: None }),
        Some([b':', digits @ ..]) => digits,
        Some(_) => return Err(HostError),
    };
    if digits.is_empty() {
        return Ok(Authority { host, port_range: None, port: None });
    }
    let port = port_number(digits)?;
    Ok(Authority { host, port_range: Some(host_end + 1..bytes.len()), port: Some(port) })
}

fn port_number(digits: &[u8]) -> Result<u16, HostError> {
    if digits.len() > 5 {
        return Err(HostError);
    }
    let number = super::bytes::parse_u64(digits).ok_or(HostError)?;
    u16::try_from(number).map_err(|_| HostError)
}

fn ipv6_end(bytes: &[u8]) -> Result<usize, HostError> {
    let close = bytes.iter().position(|&b| b == b']').ok_or(HostError)?;
    let text = std::str::from_utf8(&bytes[1..close]).map_err(|_| HostError)?;
    text.parse::<Ipv6Addr>().map_err(|_| HostError)?;
    Ok(close + 1)
}

fn name_end(bytes: &[u8]) -> Result<usize, HostError> {
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        if is(b, HOST) {
            at += 1;
        } else if b == b'%' {
            // Encoded delimiters or controls would be another host to whoever decodes first.
            match percent_value(&bytes[at + 1..]) {
                Some(value) if value >= 0x80 || is(value, UNRESERVED) => at += 3,
                _ => return Err(HostError),
            }
        } else {
            break;
        }
    }
    if at == 0 || &bytes[..at] == b"." { Err(HostError) } else { Ok(at) }
}

/// Appends the host in lower case, without a final dot: the form in which hosts are compared.
pub fn normalise_host(host: &[u8], out: &mut Vec<u8>) {
    let host = host.strip_suffix(b".").unwrap_or(host);
    out.extend(host.iter().map(u8::to_ascii_lowercase));
}

/// Whether two valid authorities name the same place. A missing port is `default_port`.
pub fn same_authority(a: &[u8], b: &[u8], default_port: u16) -> bool {
    if a.eq_ignore_ascii_case(b) {
        return true;
    }
    let (Ok(left), Ok(right)) = (parse_authority(a), parse_authority(b)) else { return false };
    let without_dot = |host: &'_ [u8]| host.len() - usize::from(host.ends_with(b"."));
    let (host_a, host_b) = (&a[left.host], &b[right.host]);
    left.port.unwrap_or(default_port) == right.port.unwrap_or(default_port)
        && host_a[..without_dot(host_a)].eq_ignore_ascii_case(&host_b[..without_dot(host_b)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Option<(&str, Option<u16>)> {
        let authority = parse_authority(text.as_bytes()).ok()?;
        Some((&text[authority.host], authority.port))
    }

    #[test]
    fn accepted() {
        for (text, host, port) in [
            ("a", "a", None),
            ("a.test", "a.test", None),
            ("a.test.", "a.test.", None),
            ("A.Test:80", "A.Test", Some(80)),
            ("a:0", "a", Some(0)),
            ("a:00080", "a", Some(80)),
            ("a:65535", "a", Some(65535)),
            ("a:", "a", None),
            ("127.0.0.1:8080", "127.0.0.1", Some(8080)),
            ("[::1]", "[::1]", None),
            ("[::1]:8080", "[::1]", Some(8080)),
            ("[::1]:", "[::1]", None),
            ("[2001:DB8::1]", "[2001:DB8::1]", None),
            ("[::ffff:1.2.3.4]:1", "[::ffff:1.2.3.4]", Some(1)),
            ("a_b.test", "a_b.test", None),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
            ("b%C3%BCcher", "b%C3%BCcher", None),
            ("a;b=c", "a;b=c", None),
        ] {
            assert_eq!(parts(text), Some((host, port)), "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in [
            "",
            ":",
            ":80",
            ".",
            "a b",
            " a",
            "a ",
            "a,b",
            "a, b",
            "u@a",
            "u:p@a",
            "a/b",
            "a/",
            "a?b",
            "a#b",
            "a\\b",
            "a\"",
            "a<b",
            "a|b",
            "a^b",
            "a:80:80",
            "a:65536",
            "a:99999",
            "a:100000",
            "a:-1",
            "a:+80",
            "a:8a",
            "a: 80",
            "a:80 ",
            "http://a",
            "//a",
            "[::1",
            "::1",
            "[]",
            "[::1]a",
            "[::1]80",
            "[a]",
            "[127.0.0.1]",
            "[fe80::1%25eth0]",
            "[fe80::1%eth0]",
            "[v1.a]",
            "[[::1]]",
            "a[",
            "a]",
            "[::1]:x",
            "a%",
            "a%2",
            "a%zz",
            "a%00",
            "a%2f",
            "a%40b",
            "a%20b",
            "\u{fc}.test",
            "a\t",
            "a\0",
            "a\r",
            "*,",
        ] {
            assert_eq!(parts(text), None, "{text:?}");
        }
    }

    #[test]
    fn comparing() {
        for (a, b, same) in [
            ("a.test", "A.TEST", true),
            ("a.test", "a.test.", true),
            ("a.test", "a.test:80", true),
            ("a.test:", "a.test:80", true),
            ("a.test:080", "a.test:80", true),
            ("a.test", "a.test:8080", false),
            ("a.test", "b.test", false),
            ("a.test", "aa.test", false),
            ("[::1]", "[::1]:80", true),
        ] {
            assert_eq!(same_authority(a.as_bytes(), b.as_bytes(), 80), same, "{a} {b}");
        }
    }

    #[test]
    fn normal_form() {
        let mut out = Vec::new();
        normalise_host(b"A.Test.", &mut out);
        assert_eq!(out, b"a.test");
    }
}
