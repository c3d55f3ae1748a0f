//! `[admin]`, and IP addresses with a port.

use std::{net::SocketAddr, path::PathBuf};

use super::{errors::Place, table::Table, value::Value};
use crate::snapshot::AdminSettings;

/// The section, and where its address stands.
pub(super) struct Admin {
    pub(super) settings: Option<AdminSettings>,
    /// `None` for the default.
    pub(super) place: Option<Place>,
}

/// Where the admin API listens unless told otherwise.
fn default_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9180))
}

/// Reads the section; all defaults if there is none.
pub(super) fn read(table: Option<Table<'_>>) -> Admin {
    let Some(table) = table else {
        let settings = AdminSettings { address: default_address(), token: None, state_dir: None };
        return Admin { settings: Some(settings), place: None };
    };
    let enabled = table.boolean("enabled");
    let given = table.get("address");
    let address = match &given {
        Some(value) => parse_address(value),
        None => Some(default_address()),
    };
    let token = token(&table);
    let exposed = |address: &SocketAddr| {
        enabled && !address.ip().to_canonical().is_loopback() && table.get("token").is_none()
    };
    if let (Some(value), Some(address)) = (&given, address.filter(exposed)) {
        value.error(
            format!("{address} can be reached by others, and there is no token"),
            "write token = \"${RINGWAY_ADMIN_TOKEN}\", or an address on 127.0.0.1",
        );
    }
    let state_dir = state_dir(&table);
    let settings = address.map(|address| AdminSettings { address, token, state_dir });
    Admin { settings: settings.filter(|_| enabled), place: given.map(|value| value.place()) }
}

/// The token, which must fit into an Authorization field (RFC 6750 §2.1). Never shown.
fn token(table: &Table<'_>) -> Option<Box<str>> {
    let value = table.get("token")?;
    let token = value.text()?;
    if token.is_empty() {
        value.error("an empty token", "write a long random text, or remove the key");
        return None;
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        value
            .error("the token has spaces, controls or non-ASCII characters", "write visible ASCII");
        return None;
    }
    Some(token.into())
}

/// The directory for what the API is told. Whether it can be used shows when it is used.
fn state_dir(table: &Table<'_>) -> Option<PathBuf> {
    let value = table.get("state_dir")?;
    let text = value.text()?;
    if text.is_empty() {
        value.error("an empty path", "write state_dir = \"/var/lib/ringway\", or remove the key");
        return None;
    }
    Some(table.source.directory.join(&*text))
}

/// An IP address and a port other than 0.
pub(super) fn parse_address(value: &Value<'_>) -> Option<SocketAddr> {
    let text = value.text()?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => return Some(address),
        Ok(address) => {
            let hint = format!("write a port in 1..=65535: \"{}:8080\"", bracketed(&address));
            value.error("port 0 is none that clients can know", hint);
            return None;
        }
        Err(_) => {}
    }
    let shown = value.shown(&text);
    let (problem, hint) = explain_address(&text);
    value.error(format!("\"{shown}\" is not an address: {problem}"), hint);
    None
}

fn bracketed(address: &SocketAddr) -> String {
    let text = address.to_string();
    text.rsplit_once(':').map_or(text.clone(), |(host, _)| host.to_owned())
}

/// Why a text is not an IP address with a port, and what it was probably meant to be.
fn explain_address(text: &str) -> (&'static str, String) {
    let example =
        || String::from("write an IP address and a port: \"0.0.0.0:8080\", \"[::1]:8080\"");
    if text.is_empty() {
        return ("it is empty", example());
    }
    if let Some((_, rest)) = text.split_once("://") {
        let rest = rest.split('/').next().unwrap_or(rest);
        return ("it has a scheme", format!("write \"{rest}\""));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return ("it has no IP address", format!("write \"0.0.0.0:{text}\" for all addresses"));
    }
    if text.parse::<std::net::Ipv4Addr>().is_ok() {
        return ("it has no port", format!("write \"{text}:8080\""));
    }
    if let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) {
        let host_ok = host.parse::<std::net::Ipv6Addr>().is_ok();
        if host_ok && port.len() >= 2 && port.parse::<u16>().is_ok() {
            return ("an IPv6 address needs brackets", format!("write \"[{host}]:{port}\""));
        }
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<std::net::Ipv6Addr>() {
        return ("it has no port", format!("write \"[{address}]:8080\""));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return ("it has no port", example());
    };
    if host.is_empty() || host == "*" {
        let hint = format!("write \"0.0.0.0:{port}\" (IPv4) or \"[::]:{port}\" (IPv6)");
        return ("it has no IP address", hint);
    }
    if host.parse::<std::net::Ipv6Addr>().is_ok() {
        return ("an IPv6 address needs brackets", format!("write \"[{host}]:{port}\""));
    }
    if port.is_empty() || port.parse::<u16>().is_err() {
        return ("its port is not a number in 1..=65535", example());
    }
    if host == "localhost" {
        return ("names are not looked up here", format!("write \"127.0.0.1:{port}\""));
    }
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return ("its IPv4 address is not four numbers up to 255", example());
    }
    ("names are not looked up here", example())
}
