//! One certificate with its key: read from PEM files and checked before anybody depends on it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::{files, kept};
use crate::{
    base::limits,
    tls::{
        self, CertifiedKey, Pair, SignatureScheme, SigningKey,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// Where a pair lies.
#[derive(Clone, Debug)]
pub struct PairFiles {
    /// The chain: the certificate itself first, then those that signed it. PEM.
    pub cert: PathBuf,
    /// The private key. PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
    /// The answer of an OCSP responder. DER.
    pub ocsp: Option<PathBuf>,
}

/// Which of the files is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The certificate.
    Cert,
    /// The key.
    Key,
    /// The OCSP answer.
    Ocsp,
}

/// Why a pair can't be used.
#[derive(Debug)]
pub struct PairError {
    /// Which file.
    pub which: Which,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl PairError {
    fn new(which: Which, message: impl Into<String>, hint: &str) -> Self {
        Self { which, message: message.into(), hint: hint.into() }
    }
}

/// What was read.
pub struct Read {
    /// The pair.
    pub pair: Arc<Pair>,
    /// Of the files' contents.
    pub digest: [u8; 32],
    /// What looks odd about it.
    pub warnings: Vec<(String, &'static str)>,
}

/// Reads and checks a pair; one that is in use already, with the same contents, is the same object.
///
/// # Errors
/// The first thing that is wrong.
pub fn read(of: &PairFiles, now: i64) -> Result<Read, PairError> {
    const PEM: &str = "name a PEM file";
    let load = |path: &Path, which, hint: &str| {
        files::read(path).map_err(|message| PairError::new(which, message, hint))
    };
    let cert = load(&of.cert, Which::Cert, PEM)?;
    let key = load(&of.key, Which::Key, PEM)?;
    let ocsp =
        of.ocsp.as_deref().map(|path| load(path, Which::Ocsp, "leave it out")).transpose()?;
    let digest = tls::digest([&cert[..], &key, ocsp.as_deref().unwrap_or_default()]);
    let (pair, is_new) = match kept::pair(&digest) {
        Some(pair) => (pair, false),
        None => (kept::keep_pair(digest, make(&cert, &key, ocsp)?), true),
    };
    let mut warnings = Vec::new();
    let left = pair.not_after - now;
    const RENEW: &str = "have it renewed";
    if left < 0 {
        let message = format!("expired {}", ago(-left));
        if is_new && kept::is_expired_refused() {
            return Err(PairError::new(Which::Cert, message, RENEW));
        }
        warnings.push((message, RENEW));
    } else if left < limits::CERTIFICATE_WARN_DAYS * super::DAY {
        warnings.push((format!("expires in {}", days(left)), RENEW));
    }
    Ok(Read { pair, digest, warnings })
}

fn days(seconds: i64) -> String {
    match seconds / super::DAY {
        0 => "less than a day".into(),
        1 => "1 day".into(),
        days => format!("{days} days"),
    }
}

fn ago(seconds: i64) -> String {
    format!("{} ago", days(seconds))
}

fn make(cert: &[u8], key: &[u8], ocsp: Option<Vec<u8>>) -> Result<Pair, PairError> {
    let chain = chain(cert)?;
    let leaf = parse(&chain, 0)?;
    check_order(&chain)?;
    let not_after = leaf.validity().not_after.timestamp();
    if leaf.validity().not_before.timestamp() > super::now() {
        let message = format!("is not valid before {}", leaf.validity().not_before);
        return Err(PairError::new(Which::Cert, message, "look at the clock of this machine"));
    }
    let names = names(&leaf);
    if ocsp.as_ref().is_some_and(|ocsp| ocsp.first() != Some(&0x30)) {
        let message = "is not an OCSP answer in DER";
        let hint = "write what `openssl ocsp -respout` wrote";
        return Err(PairError::new(Which::Ocsp, message, hint));
    }
    let key = private_key(key)?;
    let mut certified = CertifiedKey::new(chain.clone(), key);
    certified.ocsp = ocsp;
    if certified.keys_match().is_err() {
        let message = "is not the key of the certificate";
        let hint = "name the key that the certificate was asked for with";
        return Err(PairError::new(Which::Key, message, hint));
    }
    let is_slow = signing_takes(&*certified.key) > limits::TLS_SIGN_ON_CORE_MAX;
    if is_slow {
        tls::signers::start();
    }
    Ok(Pair { key: Arc::new(certified), names, not_after, is_slow })
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PairError> {
    let hint = "name a PEM file with the certificate, and behind it those that signed it";
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => {
            Err(PairError::new(Which::Cert, "holds no certificate", hint))
        }
        Ok(chain) => Ok(chain),
        Err(error) => Err(PairError::new(Which::Cert, format!("is not PEM: {error}"), hint)),
    }
}

fn private_key(pem: &[u8]) -> Result<Arc<dyn SigningKey>, PairError> {
    let hint = "name a PEM file with a private key that has no password";
    let wrong = |message: String| PairError::new(Which::Key, message, hint);
    let key = PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| wrong(format!("holds no private key: {error}")))?;
    let loaded = tls::provider().key_provider.load_private_key(key);
    loaded.map_err(|error| wrong(format!("holds a key that can't be used: {error}")))
}

fn parse<'a>(
    chain: &'a [CertificateDer<'static>],
    index: usize,
) -> Result<X509Certificate<'a>, PairError> {
    let parsed = X509Certificate::from_der(&chain[index]);
    parsed.map(|(_, certificate)| certificate).map_err(|error| {
        let message = format!("certificate {} in it can't be read: {error}", index + 1);
        PairError::new(Which::Cert, message, "have it issued anew")
    })
}

/// Each certificate must have been signed by the next one.
fn check_order(chain: &[CertificateDer<'static>]) -> Result<(), PairError> {
    for index in 1..chain.len() {
        let (one, next) = (parse(chain, index - 1)?, parse(chain, index)?);
        if one.issuer() != next.subject() {
            let message = format!(
                "certificate {} (\"{}\") did not sign certificate {index}, which \"{}\" did",
                index + 1,
                next.subject(),
                one.issuer(),
            );
            let hint = "put the certificate first, then the one that signed it, and so on";
            return Err(PairError::new(Which::Cert, message, hint));
        }
    }
    Ok(())
}

/// The names a certificate is for: the DNS names of its extension; its common name if it has none.
fn names(leaf: &X509Certificate<'_>) -> Box<[Box<str>]> {
    let mut names: Vec<Box<str>> = Vec::new();
    for extension in leaf.extensions() {
        if let ParsedExtension::SubjectAlternativeName(alternative) = extension.parsed_extension() {
            for name in &alternative.general_names {
                if let GeneralName::DNSName(name) = name {
                    names.push(name.to_ascii_lowercase().into());
                }
            }
        }
    }
    if names.is_empty() {
        let common = leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.map(|name| name.to_ascii_lowercase().into()));
    }
    names.into()
}

/// How long one signature takes: the best of three.
fn signing_takes(key: &dyn SigningKey) -> Duration {
    const ALL: &[SignatureScheme] = &[
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::ECDSA_NISTP384_SHA384,
        SignatureScheme::ECDSA_NISTP521_SHA512,
        SignatureScheme::ED25519,
        SignatureScheme::RSA_PSS_SHA256,
        SignatureScheme::RSA_PKCS1_SHA256,
    ];
    let Some(signer) = key.choose_scheme(ALL) else { return Duration::ZERO };
    let time = || {
        let began = Instant::now();
        let _ = signer.sign(b"how long does it take");
        began.elapsed()
    };
    time().min(time()).min(time())
}
