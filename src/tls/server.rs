//! What a listener presents and asks for: certificates by name, client certificates, tickets.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs::Ticketer,
    server::{
        ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
        ServerSessionMemoryCache, StoresServerSessions, VerifierBuilderError, WebPkiClientVerifier,
    },
    sign::CertifiedKey,
};

use super::{Alpn, Failure, MinVersion, Session, hello::Asked, provider, whole::whole};
use crate::base::limits;

/// A certificate and its key, read and checked.
#[derive(Debug)]
pub struct Pair {
    /// Chain, key and OCSP answer.
    pub key: Arc<CertifiedKey>,
    /// The names it is for, lower-case, `*.` in front of those that stand for all names one level
    /// below.
    pub names: Box<[Box<str>]>,
    /// When it stops being valid, seconds since 1970.
    pub not_after: i64,
    /// Whether signing with it takes longer than [`limits::TLS_SIGN_ON_CORE_MAX`].
    pub is_slow: bool,
}

/// A certificate of a listener.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Itself.
    pub pair: Arc<Pair>,
    /// What it is called in metrics and logs: the path of its file, as configured.
    pub label: Box<str>,
    /// Index of the [`Profile`] that connections to its names get.
    pub profile: u16,
}

/// What a client has to prove.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// Nothing.
    None,
    /// A certificate that one of these signed, if it has one.
    Optional(Arc<RootCertStore>),
    /// A certificate that one of these signed.
    Required(Arc<RootCertStore>),
}

/// What makes sessions resumable. Outlives the rules it was made for, so that a session can be
/// resumed after a change; shared by all cores.
#[derive(Clone)]
pub struct Tickets {
    ticketer: Arc<dyn ProducesTickets>,
    /// For listeners that take early data: a ticket that is good once must be remembered.
    sessions: Arc<dyn StoresServerSessions>,
}

impl Tickets {
    /// New keys. They are replaced every six hours, and tickets are good for twelve.
    ///
    /// # Errors
    /// When the machine gives no random numbers.
    pub fn new(early_data: bool) -> Result<Self, Failure> {
        let ticketer = Ticketer::new().map_err(Failure)?;
        let sessions: Arc<dyn StoresServerSessions> = match early_data {
            true => ServerSessionMemoryCache::new(limits::TLS_SESSIONS_MAX),
            false => Arc::new(NoServerSessionStorage {}),
        };
        Ok(Self { ticketer, sessions })
    }
}

/// How connections to some of a listener's names are made.
pub struct Profile {
    config: Arc<ServerConfig>,
    /// The same for clients that are not good at AES: their order of suites holds.
    for_chacha: Arc<ServerConfig>,
    /// Lives as long as something uses it.
    _tickets: Option<Arc<Tickets>>,
}

/// What a [`Profile`] is made of.
pub struct ProfileSettings {
    /// What the client has to prove.
    pub client_auth: ClientAuth,
    /// How sessions are resumed; `None`: they aren't.
    pub tickets: Option<Arc<Tickets>>,
}

/// What a [`ServerTls`] is made of.
pub struct ServerTlsSettings {
    /// At least one; the first is presented to clients that ask for no name, or for none of these.
    pub certificates: Vec<Certificate>,
    /// Those that the certificates name.
    pub profiles: Vec<ProfileSettings>,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// Protocols that are offered, the preferred one first.
    pub alpn: Vec<Alpn>,
    /// Whether clients may send their first request with the first flight.
    pub early_data: bool,
    /// For the whole handshake.
    pub handshake_timeout: Duration,
    /// Of everything it is made of: equal digests mean the same thing.
    pub digest: [u8; 32],
}

/// `[listener.tls]`, ready to be used.
pub struct ServerTls {
    certificates: Arc<Certificates>,
    profiles: Box<[Profile]>,
    handshake_timeout: Duration,
    digest: [u8; 32],
}

impl PartialEq for ServerTls {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl ServerTls {
    /// Makes what connections need.
    ///
    /// # Errors
    /// When certificates of authorities can't be used, or the versions rule everything out.
    pub fn new(settings: ServerTlsSettings) -> Result<Self, Failure> {
        let certificates = Arc::new(Certificates::new(settings.certificates));
        let alpn: Vec<Vec<u8>> = settings.alpn.iter().map(|one| one.name().to_vec()).collect();
        let profile = |one: ProfileSettings| {
            let builder = ServerConfig::builder_with_provider(Arc::clone(provider()))
                .with_protocol_versions(settings.min_version.versions())
                .map_err(Failure)?;
            let builder = match one.client_auth {
                ClientAuth::None => builder.with_no_client_auth(),
                ClientAuth::Optional(roots) => builder.with_client_cert_verifier(
                    WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider()))
                        .allow_unauthenticated()
                        .build()
                        .map(whole)
                        .map_err(no_verifier)?,
                ),
                ClientAuth::Required(roots) => builder.with_client_cert_verifier(
                    WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider()))
                        .build()
                        .map(whole)
                        .map_err(no_verifier)?,
                ),
            };
            let mut config = builder.with_cert_resolver(Arc::clone(&certificates) as _);
            config.alpn_protocols.clone_from(&alpn);
            config.ignore_client_order = true; // ours has the cheapest first
            match &one.tickets {
                None => {
                    config.session_storage = Arc::new(NoServerSessionStorage {});
                    config.send_tls13_tickets = 0;
                }
                // Early data needs tickets that are good once, which are remembered, not sealed.
                Some(tickets) if settings.early_data => {
                    config.session_storage = Arc::clone(&tickets.sessions);
                    config.max_early_data_size = limits::TLS_EARLY_DATA_BYTES_MAX;
                    config.send_half_rtt_data = true;
                }
                Some(tickets) => {
                    config.session_storage = Arc::clone(&tickets.sessions);
                    config.ticketer = Arc::clone(&tickets.ticketer);
                }
            }
            let mut for_chacha = config.clone();
            for_chacha.ignore_client_order = false;
            Ok(Profile {
                config: Arc::new(config),
                for_chacha: Arc::new(for_chacha),
                _tickets: one.tickets,
            })
        };
        Ok(Self {
            profiles: settings.profiles.into_iter().map(profile).collect::<Result<_, Failure>>()?,
            certificates,
            handshake_timeout: settings.handshake_timeout,
            digest: settings.digest,
        })
    }

    /// A session for a client and what it asks for.
    ///
    /// # Errors
    /// When the configuration can't be used.
    pub fn session(&self, asked: &Asked) -> Result<Session, Failure> {
        let profile = self
            .profile(asked.name.as_deref())
            .and_then(|index| self.profiles.get(usize::from(index)));
        let profile = profile.ok_or_else(|| Failure::ours("no such profile"))?;
        Session::server(if asked.prefers_chacha { &profile.for_chacha } else { &profile.config })
    }

    /// The profile of connections for a name.
    pub fn profile(&self, name: Option<&str>) -> Option<u16> {
        self.certificates.of(name).next().map(|certificate| certificate.profile)
    }

    /// Whether all names are served alike, so that a connection for one can serve them all.
    pub fn has_one_profile(&self) -> bool {
        self.profiles.len() == 1
    }

    /// Whether signing for a name may take longer than [`limits::TLS_SIGN_ON_CORE_MAX`].
    pub fn is_slow(&self, name: Option<&str>) -> bool {
        self.certificates.of(name).any(|certificate| certificate.pair.is_slow)
    }

    /// For the whole handshake.
    pub fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout
    }

    /// All certificates, in the order of the configuration.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates.all
    }

    /// Of everything it is made of.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

fn no_verifier(error: VerifierBuilderError) -> Failure {
    Failure::ours(&format!("client_ca: {error}"))
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<&str> = self.certificates().iter().map(|one| &*one.label).collect();
        f.debug_struct("ServerTls").field("certificates", &labels).finish_non_exhaustive()
    }
}

/// Certificates by name. Several may be for one name (RSA for old clients, ECDSA for the others):
/// the first that the client can check is presented.
struct Certificates {
    all: Box<[Certificate]>,
    exact: HashMap<Box<str>, Vec<u16>>,
    /// `example.org` for `*.example.org`.
    below: HashMap<Box<str>, Vec<u16>>,
    /// For clients that ask for no name, or for none of these.
    fallback: Vec<u16>,
}

impl Certificates {
    fn new(all: Vec<Certificate>) -> Self {
        let mut exact: HashMap<Box<str>, Vec<u16>> = HashMap::new();
        let mut below: HashMap<Box<str>, Vec<u16>> = HashMap::new();
        for (index, certificate) in (0..).zip(&all) {
            for name in &certificate.pair.names {
                match name.strip_prefix("*.") {
                    Some(rest) => below.entry(rest.into()).or_default().push(index),
                    None => exact.entry(name.clone()).or_default().push(index),
                }
            }
        }
        // With the first one, those that are for the same names.
        let same =
            |other: &Certificate| all.first().is_some_and(|one| one.pair.names == other.pair.names);
        let fallback = (0..)
            .zip(&all)
            .filter(|(index, other)| *index == 0 || same(other))
            .map(|(index, _)| index);
        Self { fallback: fallback.collect(), exact, below, all: all.into() }
    }

    /// Those for a name, never none.
    fn of(&self, name: Option<&str>) -> impl Iterator<Item = &Certificate> {
        let found = name.and_then(|name| {
            self.exact.get(name).or_else(|| self.below.get(name.split_once('.')?.1))
        });
        let all = &self.all;
        found.unwrap_or(&self.fallback).iter().filter_map(|index| all.get(usize::from(*index)))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let name = name.as_deref().map(|name| name.strip_suffix('.').unwrap_or(name));
        let schemes = hello.signature_schemes();
        let fits = |one: &&Certificate| one.pair.key.key.choose_scheme(schemes).is_some();
        let first = self.of(name).find(fits).or_else(|| self.of(name).next())?;
        Some(Arc::clone(&first.pair.key))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.all.len())
    }
}
