//! The suites: those of aws-lc-rs, with [`records`] in front of their AEAD. Called by [`super::provider`].

use rustls::{
    CipherSuiteCommon, ConnectionTrafficSecrets, SupportedCipherSuite, Tls12CipherSuite,
    Tls13CipherSuite,
    crypto::{
        CryptoProvider,
        cipher::{
            AeadKey, Iv, KeyBlockShape, MessageDecrypter, MessageEncrypter, Tls12AeadAlgorithm,
            Tls13AeadAlgorithm, UnsupportedOperationError,
        },
    },
};

use super::records;

/// Bytes of a Finished of TLS 1.2. Source: RFC 5246 §7.4.9.
const FINISHED_BYTES_TLS12: u32 = 12;

/// Has all suites of a provider seal and open records by way of [`records`]. It lives as long as the process.
pub(super) fn watch(provider: &mut CryptoProvider) {
    for suite in &mut provider.cipher_suites {
        *suite = match *suite {
            SupportedCipherSuite::Tls12(suite) => {
                SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                    common: same(&suite.common),
                    aead_alg: Box::leak(Box::new(Tls12(suite.aead_alg))),
                    ..*suite
                })))
            }
            SupportedCipherSuite::Tls13(suite) => {
                SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                    common: same(&suite.common),
                    aead_alg: Box::leak(Box::new(Tls13 {
                        aead: suite.aead_alg,
                        finished_bytes: suite.common.hash_provider.output_len() as u32,
                    })),
                    ..*suite
                })))
            }
        };
    }
}

fn same(common: &CipherSuiteCommon) -> CipherSuiteCommon {
    CipherSuiteCommon { ..*common }
}

/// For TLS 1.2.
struct Tls12(&'static dyn Tls12AeadAlgorithm);

impl Tls12AeadAlgorithm for Tls12 {
    fn encrypter(&self, key: AeadKey, iv: &[u8], extra: &[u8]) -> Box<dyn MessageEncrypter> {
        Box::new(records::Sealing(self.0.encrypter(key, iv, extra)))
    }

    fn decrypter(&self, key: AeadKey, iv: &[u8]) -> Box<dyn MessageDecrypter> {
        Box::new(records::Opening::new(self.0.decrypter(key, iv), FINISHED_BYTES_TLS12, false))
    }

    fn key_block_shape(&self) -> KeyBlockShape {
        self.0.key_block_shape()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: &[u8],
        explicit: &[u8],
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv, explicit)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

/// For TLS 1.3.
struct Tls13 {
    aead: &'static dyn Tls13AeadAlgorithm,
    finished_bytes: u32,
}

impl Tls13AeadAlgorithm for Tls13 {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(records::Sealing(self.aead.encrypter(key, iv)))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(records::Opening::new(self.aead.decrypter(key, iv), self.finished_bytes, true))
    }

    fn key_len(&self) -> usize {
        self.aead.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.aead.extract_keys(key, iv)
    }

    fn fips(&self) -> bool {
        self.aead.fips()
    }
}
