//! What connections to an upstream present and ask for.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::{Alpn, Failure, MinVersion, Session, provider};
use crate::base::limits;

/// What a [`ClientTls`] is made of.
pub struct ClientTlsSettings {
    /// Who may have signed an endpoint's certificate; `None`: its certificate is not looked at.
    pub roots: Option<Arc<RootCertStore>>,
    /// What we present to endpoints that ask.
    pub certificate: Option<Arc<CertifiedKey>>,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// The protocol that is offered.
    pub alpn: Alpn,
    /// Of everything it is made of: equal digests mean the same thing.
    pub digest: [u8; 32],
}

/// `[upstream.tls]`, ready to be used. Remembers the sessions of its endpoints, for all cores.
pub struct ClientTls {
    config: Arc<ClientConfig>,
    alpn: Alpn,
    digest: [u8; 32],
}

impl ClientTls {
    /// Makes what connections need.
    ///
    /// # Errors
    /// When the authorities can't be used, or the versions rule everything out.
    pub fn new(settings: ClientTlsSettings) -> Result<Self, Failure> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(settings.min_version.versions())
            .map_err(Failure)?;
        let builder = match settings.roots {
            Some(roots) => {
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
                        .build()
                        .map_err(|error| Failure::ours(&error.to_string()))?;
                builder.with_webpki_verifier(verifier)
            }
            None => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody { provider }))
            }
        };
        let mut config = match settings.certificate {
            None => builder.with_no_client_auth(),
            Some(key) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from((*key).clone())))
            }
        };
        config.alpn_protocols = vec![settings.alpn.name().to_vec()];
        config.resumption = Resumption::in_memory_sessions(limits::TLS_UPSTREAM_SESSIONS_MAX);
        Ok(Self { config: Arc::new(config), alpn: settings.alpn, digest: settings.digest })
    }

    /// A session with an endpoint that must prove to be `name`.
    ///
    /// # Errors
    /// When the configuration can't be used.
    pub fn session(&self, name: &ServerName<'static>) -> Result<Session, Failure> {
        Session::client(&self.config, name.clone())
    }

    /// What a connection beside those of the cores needs, which offers `alpn` and makes a whole
    /// handshake each time: a health check, which finds out whether that works.
    pub fn aside(&self, alpn: Alpn) -> Arc<ClientConfig> {
        let mut config = (*self.config).clone();
        config.alpn_protocols = vec![alpn.name().to_vec()];
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }

    /// Whether the endpoint may be spoken to after a handshake.
    ///
    /// # Errors
    /// HTTP/2 was offered, and it has not taken it up.
    pub fn check_agreed(&self, agreed: Alpn) -> Result<(), Failure> {
        //= https://www.rfc-editor.org/rfc/rfc9113#section-3.2
        //# A client that makes a request to an "https" URI uses TLS [TLS13] with
        //# the ALPN extension [TLS-ALPN].
        match agreed == self.alpn {
            true => Ok(()),
            false => Err(Failure::ours("the endpoint did not agree to HTTP/2 (ALPN h2)")),
        }
    }

    /// Of everything it is made of.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for ClientTls {}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

/// Takes any certificate: `verify = false`. That the endpoint has its key is still checked.
#[derive(Debug)]
struct Anybody {
    provider: &'static Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
