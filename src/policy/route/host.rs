//! The entries of `hosts`: a name, `*.suffix`, or `*`.

use std::{
    io::Write,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::error::Problem;

/// Bytes of a host name. Source: RFC 1035 §2.3.4.
const NAME_BYTES_MAX: usize = 253;

/// Bytes of one label. Source: RFC 1035 §2.3.4.
const LABEL_BYTES_MAX: usize = 63;

/// Which hosts a route takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HostPattern {
    /// This name or address, lower-case, no final dot.
    Exact(Vec<u8>),
    /// Names that end in `.` and this.
    Wildcard(Vec<u8>),
    /// All.
    Any,
}

impl HostPattern {
    /// Reads one entry of `hosts`.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        if text == "*" {
            return Ok(Self::Any);
        }
        refuse_what_is_no_host(text)?;
        if text.starts_with('[') {
            return parse_ipv6(text).map(Self::Exact);
        }
        match text.strip_prefix("*.") {
            Some(suffix) if is_numeric(suffix.trim_end_matches('.').as_bytes()) => {
                Err(Problem::new(
                    format!("{text:?} is a wildcard over IP addresses"),
                    "wildcards cover names; list the addresses, or leave hosts out",
                ))
            }
            Some(suffix) => parse_name(suffix, text).map(Self::Wildcard),
            None => parse_name(text, text).map(Self::Exact),
        }
    }
}

fn refuse_what_is_no_host(text: &str) -> Result<(), Problem> {
    if text.is_empty() || text == "." {
        return Err(Problem::new("an empty host", "write a name, *.suffix or * for any host"));
    }
    if let Some((_, after)) = text.split_once("://") {
        let host = after.split(['/', ':']).next().unwrap_or_default();
        return Err(Problem::new(
            format!("{text:?} is a URL"),
            format!("write the host only: {host:?}"),
        ));
    }
    if text.contains('/') {
        return Err(Problem::new(
            format!("{text:?} contains a /"),
            "write the host here and the rest in path or path_prefix",
        ));
    }
    if text.bytes().filter(|byte| *byte == b':').count() > 1 && !text.starts_with('[') {
        return match text.parse::<Ipv6Addr>() {
            Ok(_) => {
                Err(Problem::new(format!("{text:?} lacks brackets"), format!("write \"[{text}]\"")))
            }
            Err(_) => Err(Problem::new(
                format!("{text:?} is no host"),
                "write a name, an IPv4 address, or an IPv6 address in brackets",
            )),
        };
    }
    let bare = match text.strip_prefix('[') {
        Some(inner) => inner.split_once(']').map_or("", |(_, after)| after),
        None => text,
    };
    if let Some((_, port)) = bare.rsplit_once(':') {
        let host = &text[..text.len() - port.len() - 1];
        return Err(Problem::new(
            format!("{text:?} has a port"),
            format!("write {host:?}: hosts match on any port; a listener decides the port"),
        ));
    }
    Ok(())
}

fn parse_ipv6(text: &str) -> Result<Vec<u8>, Problem> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match inner.and_then(|inner| inner.parse::<Ipv6Addr>().ok()) {
        Some(address) => Ok(format!("[{address}]").into_bytes()),
        None => Err(Problem::new(
            format!("{text:?} is no IPv6 address"),
            "write it in brackets: [2001:db8::1]",
        )),
    }
}

fn parse_name(name: &str, text: &str) -> Result<Vec<u8>, Problem> {
    let bad = |what: &str, hint: &str| Err(Problem::new(format!("{text:?} {what}"), hint));
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if !name.is_ascii() {
        return bad(
            "has letters outside ASCII",
            "write the name as browsers send it, in punycode: b\u{fc}cher.example is \
             xn--bcher-kva.example",
        );
    }
    if name.contains('*') {
        return bad(
            "has a * inside",
            "a wildcard stands for whole labels at the start: *.example.com",
        );
    }
    if name.len() > NAME_BYTES_MAX {
        return bad("is longer than 253 characters", "shorten it");
    }
    if is_numeric(name.as_bytes()) && name.parse::<Ipv4Addr>().is_err() {
        return bad(
            "is no IPv4 address",
            "write four numbers up to 255 without leading zeros: 192.0.2.1",
        );
    }
    for label in name.split('.') {
        if label.is_empty() && name.starts_with('.') && name == text.to_ascii_lowercase() {
            let hint = format!("write \"*{name}\" for all names below it");
            return bad("begins with a dot", &hint);
        }
        if label.is_empty() {
            return bad("has an empty label", "remove the extra dot");
        }
        if label.len() > LABEL_BYTES_MAX {
            return bad("has a label longer than 63 characters", "shorten it");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return bad("has a label that begins or ends with -", "remove the -");
        }
        let odd = label.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
        if let Some(odd) = odd {
            return bad(
                &format!("contains {odd:?}"),
                "a host name has letters, digits, - and dots",
            );
        }
    }
    Ok(name.into_bytes())
}

/// Whether the last label is a number: then the whole is an IPv4 address or nothing.
/// Source: WHATWG URL §3.5, "ends in a number".
fn is_numeric(name: &[u8]) -> bool {
    let last = name.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    !last.is_empty() && last.iter().all(u8::is_ascii_digit)
}

/// An address in brackets in the one spelling the table knows; names are left alone.
pub(super) struct CanonicalHost {
    text: [u8; 48],
    len: usize,
}

impl CanonicalHost {
    /// The canonical spelling of `host`, if it is an IPv6 address.
    pub(super) fn of(host: &[u8]) -> Option<Self> {
        let inner = host.strip_prefix(b"[")?.strip_suffix(b"]")?;
        let address: Ipv6Addr = std::str::from_utf8(inner).ok()?.parse().ok()?;
        let mut canonical = Self { text: [0; 48], len: 0 };
        let mut left = &mut canonical.text[..];
        write!(left, "[{address}]").ok()?;
        let unused = left.len();
        canonical.len = canonical.text.len() - unused;
        Some(canonical)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case_and_final_dot() {
        let exact = |name: &str| HostPattern::Exact(name.as_bytes().to_vec());
        assert_eq!(HostPattern::parse("API.Example.COM."), Ok(exact("api.example.com")));
        assert_eq!(HostPattern::parse("localhost"), Ok(exact("localhost")));
        assert_eq!(HostPattern::parse("my_service"), Ok(exact("my_service")));
        assert_eq!(HostPattern::parse("192.0.2.1"), Ok(exact("192.0.2.1")));
        assert_eq!(HostPattern::parse("[2001:DB8:0::1]"), Ok(exact("[2001:db8::1]")));
        assert_eq!(HostPattern::parse("xn--bcher-kva.example"), Ok(exact("xn--bcher-kva.example")));
        assert_eq!(HostPattern::parse("*.A.test."), Ok(HostPattern::Wildcard(b"a.test".to_vec())));
        assert_eq!(HostPattern::parse("*"), Ok(HostPattern::Any));
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (text, hint) in [
            ("", "* for any host"),
            ("a.test:8080", "\"a.test\""),
            ("[::1]:80", "\"[::1]\""),
            ("::1", "[::1]"),
            ("a:b:c", "brackets"),
            ("https://a.test/x", "\"a.test\""),
            ("a.test/x", "path"),
            ("*a.test", "*.example.com"),
            ("a.*.test", "*.example.com"),
            ("*.*.test", "*.example.com"),
            ("a..test", "dot"),
            (".a.test", "\"*.a.test\""),
            ("*.", "dot"),
            ("b\u{fc}cher.example", "punycode"),
            ("a b.test", "letters"),
            ("-a.test", "remove"),
            ("1.2.3.400", "255"),
            ("*.0.0.1", "addresses"),
            ("[::g]", "[2001:db8::1]"),
            ("[::1", "[2001:db8::1]"),
        ] {
            let problem = HostPattern::parse(text).expect_err(text);
            assert!(problem.hint.contains(hint), "{text}: {}; {}", problem.message, problem.hint);
        }
        let long = format!("{}.test", "a".repeat(64));
        assert!(HostPattern::parse(&long).is_err());
    }

    #[test]
    fn addresses_have_one_spelling() {
        let canonical = CanonicalHost::of(b"[2001:0db8:0:0::0001]").unwrap();
        assert_eq!(canonical.as_bytes(), b"[2001:db8::1]");
        assert!(CanonicalHost::of(b"a.test").is_none());
        assert!(CanonicalHost::of(b"[::g]").is_none());
    }
}
