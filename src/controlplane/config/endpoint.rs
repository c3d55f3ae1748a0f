//! One endpoint of an upstream: a URL and a weight.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{errors::Place, table::Table, value::Value};
use crate::{policy::balance::LEVELS, tls::pki_types::ServerName};

/// One address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// `host:port`, lower-case; IPv6 in brackets. The name of a service.
    pub authority: Box<str>,
    /// What to connect to.
    pub host: EndpointHost,
    /// In 1..=65535; 0 for a service.
    pub port: u16,
    /// At least 1.
    pub weight: u32,
    /// Whom it has to prove to be, where TLS is spoken with it.
    pub tls_name: Option<ServerName<'static>>,
    /// Whether its URL says that it is for TCP connections only.
    pub is_tcp: bool,
    /// Whether it gets new requests.
    pub enabled: bool,
    /// Its level, below [`LEVELS`]: the lowest is used first.
    pub level: u8,
    /// Where its URL stands.
    pub place: Place,
}

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointHost {
    /// An address.
    Ip(IpAddr),
    /// A name whose addresses are looked up.
    Name(Box<str>),
    /// A service whose hosts and ports are looked up.
    Service(Box<str>),
}

/// Reads an element of `endpoints`: a table, or just a URL.
pub(super) fn read(value: &Value<'_>) -> Option<EndpointConfig> {
    if value.is_text() {
        from_url(value, Share { weight: 1, enabled: true, level: 0 })
    } else {
        read_table(&value.table()?)
    }
}

/// Reads an element that is a table.
pub(super) fn read_table(table: &Table<'_>) -> Option<EndpointConfig> {
    let weight = table.integer("weight") as u32;
    let enabled = table.boolean("enabled");
    let level = match (table.integer("priority") as u8, table.boolean("backup")) {
        (level, false) => level,
        (level, true) => {
            if level != 0 {
                table.error("it has a priority, and is a backup", "remove one of the two keys");
            }
            LEVELS as u8 - 1
        }
    };
    from_url(&table.require("url")?, Share { weight, enabled, level })
}

/// What an endpoint gets of the requests.
struct Share {
    weight: u32,
    enabled: bool,
    level: u8,
}

fn from_url(value: &Value<'_>, share: Share) -> Option<EndpointConfig> {
    let text = value.text()?;
    let (scheme, host, port) = match parse_url(&text) {
        Ok(parsed) => parsed,
        Err((problem, hint)) => {
            let shown = without_userinfo(value.shown(&text));
            value.error(format!("\"{shown}\": {problem}"), hint);
            return None;
        }
    };
    let (authority, place) = (authority_of(&host, port).into(), value.place());
    let Share { weight, enabled, level } = share;
    let is_tcp = scheme == Scheme::Tcp;
    let tls_name = match (&host, scheme == Scheme::Https) {
        (_, false) => None,
        (EndpointHost::Ip(address), true) => Some(ServerName::from(*address)),
        (EndpointHost::Name(name) | EndpointHost::Service(name), true) => {
            match ServerName::try_from(name.to_string()) {
                Ok(name) => Some(name),
                Err(_) => {
                    let message = format!("\"{name}\" can't be the name in a certificate");
                    value.error(message, "write a DNS name or an IP address");
                    return None;
                }
            }
        }
    };
    Some(EndpointConfig { authority, host, port, weight, tls_name, is_tcp, enabled, level, place })
}

fn authority_of(host: &EndpointHost, port: u16) -> String {
    match host {
        EndpointHost::Ip(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        EndpointHost::Ip(address) => format!("{address}:{port}"),
        EndpointHost::Name(name) | EndpointHost::Service(name) => format!("{name}:{port}"),
    }
}

/// `host:port` of an endpoint's URL, in the form in which endpoints are compared and named.
pub fn authority(url: &str) -> Option<String> {
    parse_url(url).ok().map(|(_, host, port)| authority_of(&host, port))
}

/// A URL without its password.
fn without_userinfo(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://...{}", &text[..scheme], &text[at..])
        }
        _ => text.to_owned(),
    }
}

/// What is wrong with a URL, and what to write.
type UrlError = (String, String);

fn wrong<T>(problem: impl Into<String>, hint: impl Into<String>) -> Result<T, UrlError> {
    Err((problem.into(), hint.into()))
}

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    Tcp,
}

/// `http://host[:port][/]`, `https://`, or `tcp://host:port`. Source: RFC 3986 §3.2, RFC 9110 §4.2.
fn parse_url(text: &str) -> Result<(Scheme, EndpointHost, u16), UrlError> {
    const EXAMPLE: &str = "write \"http://127.0.0.1:8081\"";
    if text.is_empty() {
        return wrong("an empty URL", EXAMPLE);
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        let hint = if parse_authority(text, 80).is_ok() {
            format!("write \"http://{text}\"")
        } else {
            EXAMPLE.into()
        };
        return wrong("it has no scheme", hint);
    };
    let scheme = match &*scheme.to_ascii_lowercase() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        "tcp" => Scheme::Tcp,
        other => return wrong(format!("the scheme \"{other}\" is not known"), EXAMPLE),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if !matches!(tail, "" | "/") {
        let what = match tail.as_bytes()[0] {
            b'/' if tail.contains('?') => "a path and a query",
            b'/' => "a path",
            b'?' => "a query",
            _ => "a fragment",
        };
        let hint = format!("write \"http://{authority}\"; paths are changed with route.rewrite");
        return wrong(format!("it has {what}"), hint);
    }
    if let Some((_, host)) = authority.rsplit_once('@') {
        return wrong("it has a user name or password", format!("write \"http://{host}\""));
    }
    let default = match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
        Scheme::Tcp if matches!(split_port(authority)?, (_, None)) => {
            return wrong("it has no port", format!("write \"tcp://{authority}:5432\""));
        }
        Scheme::Tcp => 0, // there is one
    };
    let (host, port) = parse_authority(authority, default)?;
    Ok((scheme, host, port))
}

/// `host[:port]`, with a port for those without one.
fn parse_authority(text: &str, default: u16) -> Result<(EndpointHost, u16), UrlError> {
    let (host, port) = split_port(text)?;
    let port = match port {
        None => default,
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) => port,
            _ => {
                let message = format!("the port \"{digits}\" is outside 1..=65535");
                return wrong(message, format!("write \"http://{host}:8081\""));
            }
        },
    };
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return match address.parse::<Ipv6Addr>() {
            Ok(address) => Ok((EndpointHost::Ip(address.into()), port)),
            Err(_) => wrong(
                format!("\"{address}\" is not an IPv6 address"),
                "write \"http://[::1]:8081\"",
            ),
        };
    }
    if host.is_empty() {
        return wrong("it has no host", format!("write \"http://127.0.0.1:{port}\""));
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok((EndpointHost::Ip(address.into()), port));
    }
    if host.split('.').next_back().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return wrong(format!("\"{host}\" is not an IPv4 address"), "write four numbers up to 255");
    }
    match is_name(host) {
        true => Ok((EndpointHost::Name(host.to_ascii_lowercase().into()), port)),
        false => wrong(
            format!("\"{host}\" is not a host name"),
            "write a name of letters, digits, - and dots, or an IP address",
        ),
    }
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), UrlError> {
    let after_brackets = text.rfind(']').map_or(0, |end| end + 1);
    match text[after_brackets..].matches(':').count() {
        0 => Ok((text, None)),
        1 => {
            let colon = after_brackets + text[after_brackets..].find(':').unwrap_or(0);
            Ok((&text[..colon], Some(&text[colon + 1..])))
        }
        _ if text.rsplit_once(':').is_some_and(|(host, port)| {
            host.parse::<Ipv6Addr>().is_ok() && port.len() >= 2 && port.parse::<u16>().is_ok()
        }) =>
        {
            let (host, port) = text.rsplit_once(':').unwrap_or((text, "80"));
            wrong("an IPv6 address needs brackets", format!("write \"http://[{host}]:{port}\""))
        }
        _ if text.parse::<Ipv6Addr>().is_ok() => {
            wrong("an IPv6 address needs brackets", format!("write \"http://[{text}]:8081\""))
        }
        _ => wrong("it has more than one port", "write \"http://127.0.0.1:8081\""),
    }
}

/// Names as DNS and /etc/hosts have them; `_` because container networks use it.
pub(super) fn is_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_endpoints() {
        let ip = |text: &str| EndpointHost::Ip(text.parse().unwrap());
        let name = |text: &str| EndpointHost::Name(text.into());
        assert_eq!(parse_url("http://127.0.0.1:8081"), Ok((Scheme::Http, ip("127.0.0.1"), 8081)));
        assert_eq!(
            parse_url("HTTP://Users.Shop.svc/"),
            Ok((Scheme::Http, name("users.shop.svc"), 80))
        );
        assert_eq!(
            parse_url("https://users.shop.svc"),
            Ok((Scheme::Https, name("users.shop.svc"), 443))
        );
        assert_eq!(parse_url("http://[::1]:81"), Ok((Scheme::Http, ip("::1"), 81)));
        assert_eq!(parse_url("http://[::1]"), Ok((Scheme::Http, ip("::1"), 80)));
        assert_eq!(parse_url("tcp://db:5432"), Ok((Scheme::Tcp, name("db"), 5432)));
        assert_eq!(parse_url("http://my_app:1"), Ok((Scheme::Http, name("my_app"), 1)));
    }

    #[test]
    fn urls_that_are_none() {
        for text in [
            "",
            "127.0.0.1:80",
            "localhost",
            "//a",
            "ftp://a",
            "http://",
            "http://:80",
            "http://a/b",
            "http://a?b",
            "http://a/#c",
            "http://u:p@a",
            "http://a:0",
            "http://a:",
            "http://a:65536",
            "http://a:+1",
            "http://a:x",
            "http://::1:80",
            "http://::1",
            "http://[::1",
            "http://[x]",
            "http://1.2.3",
            "http://1.2.3.256",
            "http://a b",
            "http://a..b",
            "http://-a",
            "http://a:1:2",
            "http://ä",
            "http:/a",
            "tcp://db",
            "tcp://[::1]",
            "http://[::1]x:80",
        ] {
            assert!(parse_url(text).is_err(), "{text}");
        }
    }
}
