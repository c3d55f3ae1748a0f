//! `host_header`: what Host an endpoint sees.

use super::{endpoint, names, value::Value};
use crate::snapshot::HostHeader;

/// `"preserve"`, `"upstream"`, or a host with or without a port.
pub(super) fn read(value: &Value<'_>) -> Option<HostHeader> {
    let text = value.text()?;
    match &*text {
        "preserve" => return Some(HostHeader::Preserve),
        "upstream" => return Some(HostHeader::Upstream),
        _ => {}
    }
    let shown = value.shown(&text);
    if let Some(word) = names::nearest(&text, ["preserve", "upstream"]) {
        value.error(format!("\"{shown}\" is not known here"), format!("did you mean \"{word}\"?"));
        return None;
    }
    if !is_authority(&text) {
        value.error(
            format!("\"{shown}\" is not a host"),
            "write \"preserve\", \"upstream\", or a host such as \"example.com\" or \"example.com:8080\"",
        );
        return None;
    }
    Some(HostHeader::Literal((*text).into()))
}

pub(super) fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_ok = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
    });
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_ok = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => endpoint::is_name(host),
    };
    port_ok && host_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_may_be_sent() {
        for host in ["example.com", "example.com:8080", "[::1]", "[::1]:80", "127.0.0.1", "my_app"]
        {
            assert!(is_authority(host), "{host}");
        }
        for host in ["", "a b", "a:", "a:0", "a:99999", "http://a", "a/b", "a\r\nb", "::1", ":80"] {
            assert!(!is_authority(host), "{host}");
        }
    }
}
