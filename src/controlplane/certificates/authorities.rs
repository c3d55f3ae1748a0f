//! Certificates of authorities: whom to believe.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use super::files;
use crate::tls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// The authorities of a PEM file, and their bytes.
///
/// # Errors
/// What is wrong with the file, and what to do.
pub fn read(path: &Path) -> Result<(Arc<RootCertStore>, Vec<u8>), (String, String)> {
    let hint = "name a PEM file of CA certificates";
    let bytes = files::read(path).map_err(|error| (error, hint.to_owned()))?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate =
            certificate.map_err(|error| (format!("is not PEM: {error}"), hint.into()))?;
        store.add(certificate).map_err(|error| {
            (format!("holds a certificate that can't be used: {error}"), hint.to_owned())
        })?;
    }
    match store.is_empty() {
        true => Err(("holds no certificate".into(), hint.into())),
        false => Ok((Arc::new(store), bytes)),
    }
}

/// The authorities that the system believes, read once.
///
/// # Errors
/// Why there are none.
pub fn of_the_system() -> Result<Arc<RootCertStore>, String> {
    static SYSTEM: OnceLock<Result<Arc<RootCertStore>, String>> = OnceLock::new();
    let read = || {
        let found = rustls_native_certs::load_native_certs();
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(found.certs);
        match (store.is_empty(), found.errors.first()) {
            (false, _) => Ok(Arc::new(store)),
            (true, Some(error)) => Err(format!("the system's authorities can't be read: {error}")),
            (true, None) => Err("the system has no authorities (package ca-certificates)".into()),
        }
    };
    SYSTEM.get_or_init(read).clone()
}
