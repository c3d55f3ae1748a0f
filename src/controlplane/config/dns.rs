//! `[dns]` and `upstream.discovery.dns`.

use std::net::{IpAddr, SocketAddr};

use super::{
    defaults,
    endpoint::{EndpointConfig, EndpointHost, is_name},
    table::Table,
    value::Value,
};
use crate::snapshot::names::{DnsSettings, Family};

/// The port of name servers. Source: RFC 1035 §4.2.
const PORT: u16 = 53;

/// Reads `[dns]`; all defaults if there is none.
pub(super) fn read(table: Option<Table<'_>>) -> Option<DnsSettings> {
    let Some(table) = table else {
        return defaults::with("[dns]", |root| read(root.table("dns")));
    };
    let servers = match table.get("servers") {
        Some(value) => value.texts().iter().map(|(text, value)| server(text, value)).collect(),
        None => Some(Box::default()),
    };
    let family = match table.choice("family") {
        "v4" => Family::V4,
        "v6" => Family::V6,
        "both" => Family::Both,
        _ => Family::Auto,
    };
    let (ttl_min, ttl_max) = (table.duration("ttl_min"), table.duration("ttl_max"));
    if let Some(value) = table.get("ttl_min").or(table.get("ttl_max"))
        && ttl_min > ttl_max
    {
        value.error("ttl_min is longer than ttl_max", "make one of them fit the other");
    }
    let timeout = table.duration("timeout");
    Some(DnsSettings { servers: servers?, family, timeout, ttl_min, ttl_max })
}

/// An IP address, with or without a port.
fn server(text: &str, value: &Value<'_>) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, PORT));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Some(address),
        _ => {
            let message = format!("\"{}\" is not the address of a name server", value.shown(text));
            value
                .error(message, "write an IP address, with a port unless that is 53: \"10.0.0.2\"");
            None
        }
    }
}

/// Reads `discovery`: an endpoint that stands for as many as the answer has.
pub(super) fn discovered(table: &Table<'_>) -> Option<EndpointConfig> {
    let Some(dns) = table.table("dns") else {
        let is_later =
            ["kubernetes", "etcd", "consul", "nacos"].iter().any(|key| table.get(key).is_some());
        if !is_later && !table.may_say_more() {
            table.error("it says nothing", "add dns = { name = \"...\", port = 8080 }");
        }
        return None;
    };
    let value = dns.require("name")?;
    let name = value.text()?;
    if !is_name(&name) {
        let hint = "write a name such as \"users.example\" or \"_http._tcp.users.example\"";
        value.error(format!("\"{}\" is not a host name", value.shown(&name)), hint);
        return None;
    }
    let name: Box<str> = name.to_ascii_lowercase().into();
    let place = value.place();
    let (host, port, authority) = match dns.choice("type") {
        "SRV" => {
            if let Some(port) = dns.get("port") {
                port.error("SRV records say the port", "remove it, or write type = \"A\"");
            }
            (EndpointHost::Service(name.clone()), 0, name)
        }
        _ => {
            dns.require("port")?;
            let port = dns.integer_opt("port")? as u16; // in its declared range
            let authority = format!("{name}:{port}").into();
            (EndpointHost::Name(name), port, authority)
        }
    };
    let (weight, tls_name, enabled) = (1, None, true); // discovered endpoints speak plain HTTP
    Some(EndpointConfig {
        authority,
        host,
        port,
        weight,
        tls_name,
        is_tcp: false,
        enabled,
        level: 0,
        place,
    })
}
