//! `[[listener]]` and `[listener.limits]`.

use super::{
    admin::parse_address,
    errors::{Place, Report},
    links::Named,
    table::Table,
    value::Value,
};
use crate::{
    base::limits,
    controlplane::certificates::files,
    policy::forwarded::{Network, TrustedProxies},
    snapshot::{Listener, ListenerLimits, Mode},
    tls::Alpn,
};

/// Reads the listeners of all files, each with the place of its address.
pub(super) fn read(roots: &[Table<'_>], report: &Report) -> Named<(Listener, Place)> {
    let mut listeners = Named::new();
    files::begin();
    for table in roots.iter().flat_map(|root| root.tables("listener")) {
        let name = listeners.add_name(&table, "name");
        let listener = read_one(&table, name.as_deref().unwrap_or(""), report);
        if listeners.len() == limits::LISTENERS_MAX {
            let message = format!("more than {} listeners", limits::LISTENERS_MAX);
            report.error(table.place(), "listener", message, "remove some");
            break;
        }
        listeners.push(name, table.place(), listener);
    }
    listeners
}

fn read_one(table: &Table<'_>, name: &str, report: &Report) -> Option<(Listener, Place)> {
    let mode = match table.choice("mode") {
        "tcp" => Mode::Tcp,
        _ => Mode::Http,
    };
    if mode == Mode::Tcp {
        super::tcp::check_listener(table);
    }
    let trusted_proxies = trusted_proxies(table);
    let limits = limits(table);
    let (http1, http2) = versions(table);
    let merge_slashes = table.boolean("merge_slashes");
    let forwarded = table.boolean("forwarded");
    let proxy_protocol = proxy_protocol(table);
    let tls = match table.get("tls") {
        None => Some(None),
        Some(value) => value
            .table()
            .and_then(|given| super::tls::read(&given, name, alpn(http1, http2), report))
            .map(Some),
    };
    let value = table.require("address")?;
    let address = parse_address(&value)?;
    let listener = Listener {
        name: name.into(),
        address,
        mode,
        limits: limits?,
        http1,
        http2,
        merge_slashes,
        trusted_proxies,
        proxy_protocol,
        forwarded,
        tls: tls?,
    };
    Some((listener, value.place()))
}

/// Who may send the header has to be said: anybody else could claim to be anybody.
fn proxy_protocol(table: &Table<'_>) -> bool {
    let is_on = table.boolean("proxy_protocol");
    if is_on
        && table.get("trusted_proxies").is_none()
        && let Some(value) = table.get("proxy_protocol")
    {
        value.error(
            "nobody is trusted to send the PROXY protocol's header",
            "set trusted_proxies to the addresses of the load balancers",
        );
    }
    is_on
}

/// Whether HTTP/1 and HTTP/2 are spoken.
fn versions(table: &Table<'_>) -> (bool, bool) {
    let Some(list) = table.get("http") else { return (true, false) };
    let versions = list.elements().unwrap_or_default();
    if list.elements_len() == Some(0) {
        list.error("an empty list", "write http = [\"h1\", \"h2\"]");
    }
    let versions: Vec<_> = versions.iter().filter_map(Value::choice).collect();
    (versions.contains(&"h1"), versions.contains(&"h2"))
}

/// What is offered inside TLS: the newer one first.
fn alpn(http1: bool, http2: bool) -> Vec<Alpn> {
    let all = [(http2, Alpn::Http2), (http1, Alpn::Http11)];
    all.into_iter().filter_map(|(is_spoken, one)| is_spoken.then_some(one)).collect()
}

fn trusted_proxies(table: &Table<'_>) -> TrustedProxies {
    let Some(list) = table.get("trusted_proxies") else { return TrustedProxies::default() };
    let networks =
        list.texts().into_iter().filter_map(|(text, value)| match Network::parse(&text) {
            Ok(network) => Some(network),
            Err(error) => {
                let error = error.to_string();
                let (problem, hint) = error.split_once("; ").unwrap_or((&error, "correct it"));
                value.error(format!("\"{}\": {problem}", value.shown(&text)), hint);
                None
            }
        });
    TrustedProxies::new(networks.collect::<Vec<_>>())
}

/// `[listener.limits]`; without it, the same of an empty table.
fn limits(table: &Table<'_>) -> Option<ListenerLimits> {
    let given = match table.get("limits") {
        Some(value) => value.table()?,
        None => {
            return super::defaults::with("[[listener]]\n[listener.limits]", |root| {
                limits(root.tables("listener").first()?)
            });
        }
    };
    Some(ListenerLimits {
        header_timeout: given.duration("header_timeout"),
        body_timeout: given.duration("body_timeout"),
        idle_timeout: given.duration("idle_timeout"),
        header_bytes_max: given.size("header_bytes_max") as usize,
        header_count_max: given.integer("header_count_max") as usize,
        body_bytes_max: given.size("body_bytes_max"),
        connections_max_per_core: given.integer("connections_max_per_core") as usize,
        streams_max: given.integer("streams_max") as u32,
    })
}
