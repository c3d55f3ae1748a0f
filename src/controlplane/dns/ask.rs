//! One question to the name servers, and what they say.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use hickory_resolver::{
    ResolveError, TokioResolver,
    config::{NameServerConfig, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    name_server::TokioConnectionProvider,
    proto::{
        ProtoErrorKind,
        op::ResponseCode,
        rr::{RData, RecordType},
        xfer::Protocol,
    },
    system_conf::read_system_conf,
};

use super::records::{Records, Service};
use crate::{
    base::limits::DNS_RECORDS_MAX,
    snapshot::names::{DnsSettings, Family, Query},
};

/// An answer, and how long it may be used.
pub(super) struct Answer {
    pub(super) records: Records,
    pub(super) ttl: Duration,
}

/// Where glibc asks when there is no `/etc/resolv.conf`.
const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 53);

/// A question is put this often before it counts as unanswered.
const ATTEMPTS: u32 = 3;

/// A resolver for a moment: it reads `/etc/resolv.conf` and `/etc/hosts` when it is made, and what it
/// remembers is never old.
pub(super) fn resolver(settings: &DnsSettings) -> TokioResolver {
    let system =
        || read_system_conf().unwrap_or_else(|_| (of(&[LOCAL.into()]), Default::default()));
    let (config, mut options) = match &*settings.servers {
        [] => system(),
        servers => (of(servers), ResolverOpts::default()),
    };
    options.timeout = settings.timeout / ATTEMPTS;
    options.attempts = ATTEMPTS as usize - 1; // further ones
    let builder = TokioResolver::builder_with_config(config, TokioConnectionProvider::default());
    builder.with_options(options).build()
}

fn of(servers: &[std::net::SocketAddr]) -> ResolverConfig {
    let mut config = ResolverConfig::new();
    for server in servers {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            config.add_name_server(NameServerConfig::new(*server, protocol));
        }
    }
    config
}

/// Asks, and waits for `[dns] timeout` at most.
///
/// # Errors
/// Why there is no answer, in the words of logs and `/v1/status`.
pub(super) async fn ask(
    resolver: &TokioResolver,
    settings: &DnsSettings,
    query: &Query,
) -> Result<Answer, String> {
    let asked = async {
        match query {
            Query::Address(name) => addresses(resolver, settings.family, name).await,
            Query::Service(name) => services(resolver, settings.family, name).await,
        }
    };
    match tokio::time::timeout(settings.timeout, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(reason(&error)),
        Err(_) => Err("no answer in time".into()),
    }
}

async fn addresses(
    resolver: &TokioResolver,
    family: Family,
    name: &str,
) -> Result<Answer, ResolveError> {
    let v4 = || resolver.lookup(name, RecordType::A);
    let v6 = || resolver.lookup(name, RecordType::AAAA);
    let lookups = match family {
        Family::V4 => vec![v4().await?],
        Family::V6 => vec![v6().await?],
        Family::Auto => match v4().await {
            // Another error may hide IPv4 addresses for a moment.
            Err(error) if has_none(&error) => vec![v6().await.map_err(|_| error)?],
            other => vec![other?],
        },
        Family::Both => match tokio::join!(v4(), v6()) {
            (Err(error), Ok(other)) | (Ok(other), Err(error)) if has_none(&error) => vec![other],
            (a, b) => vec![a?, b?],
        },
    };
    let ttl = lookups.iter().map(ttl).min().unwrap_or_default();
    let records = lookups.iter().flat_map(Lookup::iter);
    let mut addresses: Vec<IpAddr> = records.filter_map(RData::ip_addr).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(DNS_RECORDS_MAX);
    match addresses.is_empty() {
        true => Err(ResolveError::from("no address")),
        false => Ok(Answer { records: Records::Addresses(addresses), ttl }),
    }
}

async fn services(
    resolver: &TokioResolver,
    family: Family,
    name: &str,
) -> Result<Answer, ResolveError> {
    let lookup = resolver.lookup(name, RecordType::SRV).await?;
    let mut ttl = ttl(&lookup);
    let mut services = Vec::new();
    let mut failed = None;
    for record in lookup.iter().filter_map(RData::as_srv).take(DNS_RECORDS_MAX) {
        let target = record.target().to_utf8();
        let mut addresses = Vec::new();
        match self::addresses(resolver, family, &target).await {
            Ok(Answer { records: Records::Addresses(found), ttl: other }) => {
                ttl = ttl.min(other);
                addresses = found;
            }
            Ok(_) => {}
            Err(error) if has_none(&error) => failed = failed.or(Some(error)),
            Err(error) => return Err(error), // some are unknown: no answer is better than a part
        }
        services.push(Service {
            priority: record.priority(),
            weight: record.weight(),
            target: target.trim_end_matches('.').to_ascii_lowercase().into(),
            port: record.port(),
            addresses,
        });
    }
    services.sort_unstable();
    match services.iter().any(|one| !one.addresses.is_empty()) {
        true => Ok(Answer { records: Records::Services(services), ttl }),
        false => Err(failed.unwrap_or_else(|| ResolveError::from("no such service"))),
    }
}

/// How long all of an answer may be used.
fn ttl(lookup: &Lookup) -> Duration {
    lookup.valid_until().saturating_duration_since(Instant::now())
}

/// Whether the servers said that there is no such record.
fn has_none(error: &ResolveError) -> bool {
    let kind = error.proto().map(|error| error.kind());
    matches!(
        kind,
        Some(ProtoErrorKind::NoRecordsFound {
            response_code: ResponseCode::NXDomain | ResponseCode::NoError,
            ..
        })
    )
}

fn reason(error: &ResolveError) -> String {
    match error.proto().map(|error| error.kind()) {
        Some(ProtoErrorKind::NoRecordsFound { response_code, .. }) => match *response_code {
            ResponseCode::NXDomain => "no such name".into(),
            ResponseCode::NoError => "no such record".into(),
            ResponseCode::ServFail => "the name servers failed (SERVFAIL)".into(),
            ResponseCode::Refused => "the name servers refuse (REFUSED)".into(),
            code => format!("the name servers said: {code}"),
        },
        Some(ProtoErrorKind::Timeout) => "no answer in time".into(),
        Some(ProtoErrorKind::NoConnections) => "no name server can be reached".into(),
        _ => error.to_string(),
    }
}
