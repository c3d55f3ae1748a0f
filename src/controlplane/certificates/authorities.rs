//! Certificates of authorities: whom to believe.

use std::{path::Path, sync::Arc};

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
