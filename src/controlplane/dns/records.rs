//! Answers, and the endpoints that follow from them. Pure.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    base::limits::{ENDPOINT_WEIGHT_MAX, ENDPOINTS_MAX_PER_UPSTREAM},
    snapshot::{
        Endpoint,
        cells::{EndpointCell, UpstreamCell},
        names::{From, Query, Template},
    },
};

/// An answer; sorted, so that equal ones are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Records {
    Addresses(Vec<IpAddr>),
    Services(Vec<Service>),
}

/// An SRV record and the addresses of its target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Service {
    /// Lower ones first.
    pub(super) priority: u16,
    /// Its share among those of the same priority.
    pub(super) weight: u16,
    /// Without a final dot.
    pub(super) target: Box<str>,
    pub(super) port: u16,
    pub(super) addresses: Vec<IpAddr>,
}

impl Records {
    /// What the log says of it.
    pub(super) fn shown(&self) -> Vec<String> {
        match self {
            Self::Addresses(addresses) => addresses.iter().map(ToString::to_string).collect(),
            Self::Services(services) => services
                .iter()
                .flat_map(|one| one.addresses.iter().map(|ip| SocketAddr::new(*ip, one.port)))
                .map(|address| address.to_string())
                .collect(),
        }
    }
}

/// The endpoints of an upstream. A name without an answer is one endpoint without an address, so that
/// its requests are answered with a reason. Beyond the bound on endpoints the rest is left out.
pub(super) fn expand(
    templates: &[Template],
    cell: &Arc<UpstreamCell>,
    answer: impl Fn(&Query) -> Option<Arc<Records>>,
) -> Box<[Endpoint]> {
    let mut all = Vec::with_capacity(templates.len());
    for template in templates {
        let records = template.from.query().and_then(&answer);
        match (&template.from, records.as_deref()) {
            (From::Name(_, port), Some(Records::Addresses(addresses))) => {
                all.extend(addresses.iter().map(|ip| {
                    let address = Some(SocketAddr::new(*ip, *port));
                    Endpoint { address, ..template.endpoint.clone() }
                }));
            }
            (From::Service(_), Some(Records::Services(services))) => {
                all.extend(of_services(&template.endpoint, services));
            }
            _ => all.push(template.endpoint.clone()),
        }
    }
    let mut seen = HashSet::new();
    all.retain(|one| seen.insert((one.authority.clone(), one.address)));
    all.truncate(ENDPOINTS_MAX_PER_UPSTREAM);
    for endpoint in &mut all {
        endpoint.cell = EndpointCell::new(cell); // `carry` puts that of the version before in its place
    }
    all.into()
}

/// The endpoints of the first priority that has an address. Source: RFC 2782.
fn of_services(template: &Endpoint, services: &[Service]) -> Vec<Endpoint> {
    let usable = || services.iter().filter(|one| !one.addresses.is_empty());
    let Some(priority) = usable().map(|one| one.priority).min() else {
        return vec![template.clone()];
    };
    let first = usable().filter(|one| one.priority == priority);
    let endpoint = |one: &Service, ip: &IpAddr| Endpoint {
        authority: format!("{}:{}", one.target, one.port).into(),
        address: Some(SocketAddr::new(*ip, one.port)),
        // A weight of 0 is "almost nothing", not "nothing".
        weight: (u32::from(one.weight) * 10).clamp(1, ENDPOINT_WEIGHT_MAX),
        ..template.clone()
    };
    first.flat_map(|one| one.addresses.iter().map(move |ip| endpoint(one, ip))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controlplane::fixtures;

    fn template(authority: &str, from: From) -> Template {
        let mut endpoint = fixtures::snapshot(1).upstreams[0].endpoints[0].clone();
        endpoint.authority = authority.into();
        Template { endpoint, from }
    }

    fn expanded(templates: &[Template], records: Option<Records>) -> Vec<(String, String, u32)> {
        let records = records.map(Arc::new);
        let all = expand(templates, &UpstreamCell::new(), |_| records.clone());
        let show = |one: &Endpoint| {
            let address = one.address.map_or("none".into(), |address| address.to_string());
            (one.authority.to_string(), address, one.weight)
        };
        all.iter().map(show).collect()
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn each_address_of_a_name_is_an_endpoint_of_its_own() {
        let name = From::Name(Query::Address("a.test".into()), 81);
        let templates = [template("a.test:81", name), template("127.0.0.1:9", From::Given)];
        let row = |authority: &str, address: &str| (authority.into(), address.into(), 1);
        let records = Records::Addresses(ips(&["10.0.0.1", "::1"]));
        assert_eq!(
            expanded(&templates, Some(records)),
            [
                row("a.test:81", "10.0.0.1:81"),
                row("a.test:81", "[::1]:81"),
                row("127.0.0.1:9", "none")
            ]
        );
        assert_eq!(expanded(&templates[..1], None), [row("a.test:81", "none")]);
    }

    #[test]
    fn services_bring_ports_and_weights_and_the_first_priority_counts() {
        let service = |priority, weight, target: &str, addresses: &[&str]| Service {
            priority,
            weight,
            target: target.into(),
            port: 80 + weight,
            addresses: ips(addresses),
        };
        let templates = [template("_x._tcp.a.test", From::Service(Query::Service("x".into())))];
        let all = vec![
            service(1, 9, "gone.test", &[]),
            service(2, 0, "b.test", &["10.0.0.1"]),
            service(2, 3, "c.test", &["10.0.0.2", "10.0.0.3"]),
            service(2, 3, "c.test", &["10.0.0.2"]),
            service(3, 1, "late.test", &["10.0.0.4"]),
        ];
        let row = |authority: &str, address: &str, weight| {
            (authority.to_owned(), address.to_owned(), weight)
        };
        assert_eq!(
            expanded(&templates, Some(Records::Services(all))),
            [
                row("b.test:80", "10.0.0.1:80", 1),
                row("c.test:83", "10.0.0.2:83", 30),
                row("c.test:83", "10.0.0.3:83", 30)
            ]
        );
        let nothing = Records::Services(vec![service(1, 9, "gone.test", &[])]);
        assert_eq!(expanded(&templates, Some(nothing)), [row("_x._tcp.a.test", "none", 1)]);
    }
}
