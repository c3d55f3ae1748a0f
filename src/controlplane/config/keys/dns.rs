//! `[dns]` and `upstream.discovery`.

use std::time::Duration;

use super::{DAY, Kind, Section, key, later, required};

/// `[dns]`.
pub(in crate::controlplane::config) static DNS: Section = Section {
    path: "dns",
    doc: "How names of endpoints are looked up: see docs/dns.md.",
    keys: &[
        key(
            "servers",
            Kind::Texts("10.0.0.2"),
            "",
            "IP addresses of name servers, with a port unless that is 53. Those of \
            /etc/resolv.conf without it, and its search list.",
        )
        .or(&["resolver", "resolvers", "nameservers", "server"]),
        key(
            "family",
            Kind::Choice(&["auto", "v4", "v6", "both"]),
            "auto",
            "Which addresses are used: \"auto\" takes IPv4, or IPv6 if a name has no other.",
        )
        .or(&["prefer", "ip_version", "dns_lookup_family"]),
        key(
            "timeout",
            Kind::Duration(Duration::from_millis(10), DAY, false),
            "5s",
            "For one question, with its repetitions.",
        ),
        key(
            "ttl_min",
            Kind::Duration(Duration::from_millis(100), DAY, false),
            "1s",
            "An answer is used at least that long.",
        )
        .or(&["refresh_min", "min_ttl"]),
        key(
            "ttl_max",
            Kind::Duration(Duration::from_millis(100), DAY, false),
            "5m",
            "An answer is used at most that long before it is asked for again.",
        )
        .or(&["refresh", "valid", "max_ttl"]),
    ],
};

/// `upstream.discovery`.
pub(in crate::controlplane::config) static DISCOVERY: Section = Section {
    path: "upstream.discovery",
    doc: "Where endpoints come from, beside those of `endpoints`.",
    keys: &[
        key("dns", Kind::One(&DISCOVERY_DNS), "", DISCOVERY_DNS.doc),
        later("kubernetes", "list the endpoints: endpoints = [{ url = \"http://...\" }]"),
        later("etcd", "list the endpoints: endpoints = [{ url = \"http://...\" }]"),
        later("consul", "list the endpoints: endpoints = [{ url = \"http://...\" }]"),
        later("nacos", "list the endpoints: endpoints = [{ url = \"http://...\" }]"),
    ],
};

/// `upstream.discovery.dns`.
pub(in crate::controlplane::config) static DISCOVERY_DNS: Section = Section {
    path: "upstream.discovery.dns",
    doc: "Endpoints that DNS names.",
    keys: &[
        required("name", Kind::Text("_http._tcp.users.example"), "The name that is asked for."),
        key(
            "type",
            Kind::Choice(&["A", "SRV"]),
            "A",
            "\"A\": each address of the name (IPv4 or IPv6), with `port`. \"SRV\": the hosts, ports \
            and weights of a service; of its priorities the first one that has an address.",
        ),
        key(
            "port",
            Kind::Integer(1, u16::MAX as i64),
            "",
            "The port of each address; not for SRV.",
        ),
    ],
};
