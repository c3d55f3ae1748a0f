//! `mode = "tcp"`: the keys of its listeners and routes, and the upstreams they can go to.
//!
//! Such a listener passes connections through and reads nothing of them but the name in a TLS
//! ClientHello. So whatever is about requests is refused there, and `sni` everywhere else.

use super::{endpoint::EndpointConfig, links::Named, table::Table, upstream::UpstreamConfig};
use crate::{
    base::ids::ListenerIndex,
    policy::key::RequestKey,
    snapshot::{Listener, Mode},
};

use super::errors::Place;

/// Keys of a `[[listener]]` that mean something without HTTP.
const LISTENER_KEYS: [&str; 6] =
    ["name", "address", "mode", "proxy_protocol", "trusted_proxies", "limits"];

/// The same of `[listener.limits]`.
const LIMITS_KEYS: [&str; 3] = ["header_timeout", "idle_timeout", "connections_max_per_core"];

/// The same of a `[[route]]`.
const ROUTE_KEYS: [&str; 7] =
    ["id", "description", "listeners", "sni", "priority", "upstream", "importance"];

/// Reports keys of a listener that passes connections through.
pub(super) fn check_listener(table: &Table<'_>) {
    refuse_others(table, &LISTENER_KEYS, "a listener with mode = \"tcp\"");
    if let Some(limits) = table.table("limits") {
        refuse_others(&limits, &LIMITS_KEYS, "a listener with mode = \"tcp\"");
    }
}

/// Reports keys of a route that don't go with the mode of its listeners.
pub(super) fn check_route(table: &Table<'_>, mode: Mode) {
    match mode {
        Mode::Tcp => refuse_others(table, &ROUTE_KEYS, "a route of listeners with mode = \"tcp\""),
        Mode::Http => {
            if let Some(value) = table.get("sni") {
                value.error(
                    "only routes of listeners with mode = \"tcp\" match by it",
                    "write hosts, or name such a listener",
                );
            }
        }
    }
}

fn refuse_others(table: &Table<'_>, known: &[&str], whose: &str) {
    let others = table.section.keys.iter().filter(|key| !known.contains(&key.name));
    for value in others.filter_map(|key| table.get(key.name)) {
        value.error(format!("{whose} has no such key"), "remove it");
    }
}

type Listeners = Named<(Listener, Place)>;

fn mode_at(listeners: &Listeners, position: usize) -> Option<Mode> {
    listeners.at(position).map(|(_, (listener, _))| listener.mode)
}

/// The mode of a route: that of its listeners. One that names none is for those of its own mode: TCP
/// if it has `sni`, or if there is nothing else. `None` if the listeners it names differ.
pub(super) fn mode_of(
    listeners: &Listeners,
    named: &[ListenerIndex],
    has_sni: bool,
) -> Option<Mode> {
    let is_tcp = |position| mode_at(listeners, position) == Some(Mode::Tcp);
    let mut modes = named.iter().filter_map(|one| mode_at(listeners, usize::from(one.0)));
    match modes.next() {
        Some(first) => modes.all(|other| other == first).then_some(first),
        None if has_sni || (!listeners.is_empty() && (0..listeners.len()).all(is_tcp)) => {
            Some(Mode::Tcp)
        }
        None => Some(Mode::Http),
    }
}

/// The listeners of a mode, for a route that names none; empty if that is all of them, which is what
/// the table of routes takes it for.
pub(super) fn all_of(listeners: &Listeners, mode: Mode) -> Vec<ListenerIndex> {
    let all = 0..listeners.len();
    let found: Vec<_> =
        all.filter(|at| mode_at(listeners, *at).is_none_or(|one| one == mode)).collect();
    found.iter().for_each(|position| listeners.use_at(*position));
    if found.len() == listeners.len() {
        return Vec::new();
    }
    found.into_iter().map(|position| ListenerIndex(position as u16)).collect()
}

/// Whether no listener has the mode.
pub(super) fn has_none(listeners: &Listeners, mode: Mode) -> bool {
    (0..listeners.len()).all(|at| mode_at(listeners, at).is_some_and(|one| one != mode))
}

/// Why routes of a mode can't go to an upstream, and what to do; `None` if they can.
pub(super) fn misfit(upstream: &UpstreamConfig, mode: Mode) -> Option<(String, &'static str)> {
    let has = |is: fn(&EndpointConfig) -> bool| upstream.endpoints.iter().any(is);
    let because = |what: &str, hint| Some((format!("the upstream has {what}"), hint));
    match mode {
        Mode::Http if has(|one| one.is_tcp) => because(
            "tcp:// endpoints, which this route of requests can't use",
            "write http:// there, or name a listener with mode = \"tcp\"",
        ),
        Mode::Http => None,
        Mode::Tcp if has(|one| one.tls_name.is_some()) => because(
            "https:// endpoints, and a route of TCP connections speaks no TLS itself",
            "write tcp:// there: what the client sends is passed on as it is",
        ),
        Mode::Tcp if upstream.http2 => because(
            "http = \"h2\", which a route of TCP connections does not speak",
            "give it an upstream of its own, with tcp:// endpoints",
        ),
        Mode::Tcp if upstream.balance.is_sticky() => because(
            "a sticky cookie, and a TCP connection has no cookies",
            "write strategy = \"consistent-hash\" there, which goes by the client's address",
        ),
        Mode::Tcp if upstream.balance.key.as_ref().is_some_and(|key| *key != RequestKey::Ip) => {
            because(
                "a hash key of requests, and of a TCP connection only the address is known",
                "write hash = { key = \"ip\" } there",
            )
        }
        Mode::Tcp => None,
    }
}

/// Reports endpoints that no route could use together.
pub(super) fn check_endpoints(table: &Table<'_>, endpoints: &[EndpointConfig]) {
    let has_tls = endpoints.iter().any(|one| one.tls_name.is_some());
    if let Some(one) = endpoints.iter().find(|one| one.is_tcp).filter(|_| has_tls) {
        table.report.error(
            one.place,
            "upstream.endpoints.url",
            "a tcp:// endpoint beside https:// ones",
            "put it into an upstream of its own",
        );
    }
}
