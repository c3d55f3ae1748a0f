//! `[upstream.tls]`: whom endpoints have to be, and what they are shown.

use std::sync::Arc;

use super::{
    endpoint::EndpointConfig,
    errors::Report,
    table::Table,
    tls::{min_version, path},
};
use crate::{
    controlplane::certificates::{
        self, authorities, kept,
        pair::{self, PairFiles, Which},
    },
    tls::{self, Alpn, CertifiedKey, ClientTls, ClientTlsSettings, pki_types::ServerName},
};

/// Reads the table of an upstream, and puts its `sni` into the endpoints. `Some(None)` if no endpoint
/// speaks TLS.
pub(super) fn read(
    upstream: &Table<'_>,
    name: &str,
    endpoints: Option<&mut [EndpointConfig]>,
    http2: bool,
    report: &Report,
) -> Option<Option<Arc<ClientTls>>> {
    let given = match upstream.get("tls") {
        Some(value) => Some(value.table()?),
        None => None,
    };
    let endpoints = endpoints?;
    if endpoints.iter().all(|one| one.tls_name.is_none()) {
        if let Some(given) = given {
            let message = "no endpoint speaks TLS";
            report.warning(given.place(), "upstream.tls", message, "write https:// in their URLs");
        }
        return Some(None);
    }
    let Some(given) = given else {
        let read = super::defaults::with("[[upstream]]\n[upstream.tls]", |root| {
            from_table(root.tables("upstream").first()?.table("tls").as_ref()?, "", http2, report)
        });
        return read.map(Some);
    };
    if let Some(value) = given.get("sni") {
        let text = value.text()?;
        let Ok(sni) = ServerName::try_from(text.to_string()) else {
            let message = format!("\"{}\" can't be the name in a certificate", value.shown(&text));
            value.error(message, "write a DNS name or an IP address");
            return None;
        };
        for endpoint in endpoints.iter_mut().filter(|one| one.tls_name.is_some()) {
            endpoint.tls_name = Some(sni.clone());
        }
    }
    from_table(&given, name, http2, report).map(Some)
}

fn from_table(
    table: &Table<'_>,
    name: &str,
    http2: bool,
    report: &Report,
) -> Option<Arc<ClientTls>> {
    let min_version = min_version(table);
    let verify = table.boolean("verify");
    if !verify {
        let value = table.get("verify")?;
        let message = format!("certificates of the endpoints of \"{name}\" are not checked");
        let hint =
            "anybody on the way can read and change what is sent; name their authority in ca";
        report.warning(value.place(), &value.path(), message, hint);
    }
    let roots = match table.get("ca") {
        Some(value) => match authorities::read(&path(&value)?) {
            Ok((roots, bytes)) => Some((roots, tls::digest([&bytes[..]]))),
            Err((message, hint)) => {
                let text = value.text()?;
                value.error(format!("\"{}\" {message}", value.shown(&text)), hint);
                return None;
            }
        },
        None if verify => match authorities::of_the_system() {
            Ok(roots) => Some((roots, [0; 32])),
            Err(message) => {
                table.error(message, "name a file in ca = \"...\"");
                return None;
            }
        },
        None => None,
    };
    let (certificate, pair_digest) = certificate(table, report)?;
    let alpn = if http2 { Alpn::Http2 } else { Alpn::Http11 };
    let settings = format!("{min_version:?} {verify} {alpn:?}");
    let roots_digest = roots.as_ref().map_or([1; 32], |(_, digest)| *digest);
    let digest = tls::digest([settings.as_bytes(), &roots_digest, &pair_digest]);
    let made = kept::upstream(&digest, || {
        ClientTls::new(ClientTlsSettings {
            roots: roots.filter(|_| verify).map(|(roots, _)| roots),
            certificate,
            min_version,
            alpn,
            digest,
        })
    });
    made.map_err(|failure| table.error(failure.to_string(), "correct it")).ok()
}

/// Our own certificate, if there is one.
fn certificate(
    table: &Table<'_>,
    report: &Report,
) -> Option<(Option<Arc<CertifiedKey>>, [u8; 32])> {
    let (cert, key) = match (table.get("cert"), table.get("key")) {
        (None, None) => return Some((None, [0; 32])),
        (Some(cert), Some(key)) => (cert, key),
        (Some(one), None) | (None, Some(one)) => {
            one.error("a certificate and its key belong together", "name both, or neither");
            return None;
        }
    };
    let files = PairFiles { cert: path(&cert)?, key: path(&key)?, ocsp: None };
    let label = cert.text()?;
    match pair::read(&files, certificates::now()) {
        Ok(pair::Read { pair, digest, warnings }) => {
            for (message, hint) in warnings {
                let message = format!("\"{}\" {message}", cert.shown(&label));
                report.warning(cert.place(), &cert.path(), message, hint);
            }
            Some((Some(Arc::clone(&pair.key)), digest))
        }
        Err(error) => {
            let value = if error.which == Which::Key { &key } else { &cert };
            let text = value.text()?;
            value.error(format!("\"{}\" {}", value.shown(&text), error.message), error.hint);
            None
        }
    }
}
