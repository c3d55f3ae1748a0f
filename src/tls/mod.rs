//! TLS as bytes in, bytes out: no socket, no clock, no file.
//!
//! The record layer and the handshake are those of rustls with aws-lc-rs, driven by hand over the
//! buffers of whoever calls ([`Session`]; why: docs/adr/0012-tls-by-hand.md). [`ServerTls`] and
//! [`ClientTls`] are what the control plane makes of certificates and keys it has read and checked;
//! they are part of a snapshot. `records` stands between rustls and the AEAD of each suite, and says what
//! rustls does not. [`hello`] reads the name a client asks for before anything else.
//!
//! What must hold: what a peer sends ends in a [`Failure`], never in a panic, however it was cut
//! (tests here, `fuzz/fuzz_targets/tls_session.rs`); nothing is made, not even the provider, before
//! a configuration asks for TLS.

pub mod alert;
mod client;
pub mod hello;
mod records;
mod server;
mod session;
pub mod signers;
mod suites;
#[cfg(test)]
mod told;
mod whole;

use std::sync::{Arc, OnceLock};

use rustls::{CipherSuite, SupportedProtocolVersion, crypto::CryptoProvider};
pub use rustls::{
    RootCertStore, SignatureScheme, pki_types,
    server::ProducesTickets,
    sign::{CertifiedKey, SigningKey},
};

pub use client::{ClientTls, ClientTlsSettings};
pub use server::{
    Certificate, ClientAuth, Pair, Profile, ProfileSettings, ServerTls, ServerTlsSettings, Tickets,
};
pub use session::{Alpn, Failure, Kind, Session};

/// The oldest version that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MinVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl MinVersion {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static ALL: [&SupportedProtocolVersion; 2] =
            [&rustls::version::TLS13, &rustls::version::TLS12];
        match self {
            Self::Tls12 => &ALL,
            Self::Tls13 => &ALL[..1],
        }
    }
}

/// SHA-256, for comparing what was read with what was read before.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let hash = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let mut context = hash.tls13().map(|suite| suite.common.hash_provider.start());
    for part in parts {
        if let Some(context) = &mut context {
            context.update(&(part.len() as u64).to_be_bytes()); // where one ends, and the next begins
            context.update(part);
        }
    }
    let output = context.map(|context| context.finish());
    output.and_then(|output| output.as_ref().try_into().ok()).unwrap_or_default()
}

/// Algorithms: those of aws-lc-rs that rustls takes for safe, with the post-quantum key exchange
/// X25519MLKEM768 first. AES with 128 bits goes before 256: it is as good against anybody who breaks
/// neither, and SHA-256, which comes with it, has instructions of its own. Made when first asked for.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.sort_by_key(|suite| {
            let cost = match suite.suite() {
                CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 0,
                CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => 2,
                _ => 1,
            };
            (suite.tls13().is_none(), cost)
        });
        suites::watch(&mut provider);
        Arc::new(provider)
    })
}
