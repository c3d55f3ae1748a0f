//! `[listener.tls]`: certificates, whom clients have to be, how sessions are made.

use std::{path::PathBuf, sync::Arc};

use super::{errors::Report, table::Table, value::Value};
use crate::{
    controlplane::certificates::{
        self, authorities, kept,
        pair::{self, PairFiles, Which},
    },
    tls::{
        self, Alpn, Certificate, ClientAuth, Failure, MinVersion, ProfileSettings, RootCertStore,
        ServerTls, ServerTlsSettings, Tickets,
    },
};

/// Whom clients have to be, and the bytes that say so.
#[derive(Clone)]
struct Auth {
    is_required: bool,
    authorities: Option<(Arc<RootCertStore>, Arc<[u8]>)>,
}

impl Auth {
    fn digest(&self) -> [u8; 32] {
        let bytes = self.authorities.as_ref().map_or(&[][..], |(_, bytes)| bytes);
        tls::digest([&[u8::from(self.is_required)][..], bytes])
    }

    fn client_auth(&self) -> ClientAuth {
        match &self.authorities {
            None => ClientAuth::None,
            Some((roots, _)) if self.is_required => ClientAuth::Required(Arc::clone(roots)),
            Some((roots, _)) => ClientAuth::Optional(Arc::clone(roots)),
        }
    }
}

/// Reads the table of the listener `name`, which offers the protocols `alpn`.
pub(super) fn read(
    table: &Table<'_>,
    name: &str,
    alpn: Vec<Alpn>,
    report: &Report,
) -> Option<Arc<ServerTls>> {
    let min_version = min_version(table);
    let handshake_timeout = table.duration("handshake_timeout");
    let with_tickets = table.boolean("session_tickets");
    let early_data = table.boolean("early_data");
    if early_data && !with_tickets {
        let value = table.get("early_data")?;
        value.error("early data needs tickets", "remove session_tickets = false");
    }
    let all = auth(table, None);
    let list = table.require("certificates")?;
    if list.elements_len() == Some(0) {
        let hint = "write [{ cert = \"cert.pem\", key = \"key.pem\" }]";
        list.error("an empty list", hint);
        return None;
    }
    let mut certificates = Vec::new();
    let mut profiles: Vec<([u8; 32], Auth)> = Vec::new();
    let mut digests = Vec::new();
    let mut complete = all.is_some();
    for one in table.tables("certificates") {
        let auth = all.clone().and_then(|all| auth(&one, Some(all)));
        let (Some((certificate, digest)), Some(auth)) = (certificate(&one, report), auth) else {
            complete = false;
            continue;
        };
        let profile = auth.digest();
        let known = profiles.iter().position(|(known, _)| *known == profile);
        let index = known.unwrap_or_else(|| {
            profiles.push((profile, auth));
            profiles.len() - 1
        });
        digests.push(digest);
        digests.push(profile);
        digests.push(tls::digest([certificate.label.as_bytes()]));
        certificates.push(Certificate { profile: u16::try_from(index).ok()?, ..certificate });
    }
    if !complete || certificates.is_empty() {
        return None;
    }
    let settings = format!(
        "{name} {min_version:?} {handshake_timeout:?} {with_tickets} {early_data} {alpn:?}"
    );
    let parts = digests.iter().map(|digest| &digest[..]);
    let digest = tls::digest(parts.chain([settings.as_bytes()]));
    let made = kept::listener(&digest, || {
        let profile = |(digest, auth): &([u8; 32], Auth)| {
            let digest = tls::digest([name.as_bytes(), digest, &[u8::from(early_data)]]);
            let tickets = with_tickets
                .then(|| kept::tickets(&digest, || Tickets::new(early_data)))
                .transpose()?;
            Ok(ProfileSettings { client_auth: auth.client_auth(), tickets })
        };
        let profiles = profiles.iter().map(profile).collect::<Result<_, Failure>>()?;
        ServerTls::new(ServerTlsSettings {
            certificates,
            profiles,
            min_version,
            alpn,
            early_data,
            handshake_timeout,
            digest,
        })
    });
    made.map_err(|failure| table.error(failure.to_string(), "correct it")).ok()
}

pub(super) fn min_version(table: &Table<'_>) -> MinVersion {
    match table.choice("min_version") {
        "1.3" => MinVersion::Tls13,
        _ => MinVersion::Tls12,
    }
}

/// A path, from the directory of the file it is written in.
pub(super) fn path(value: &Value<'_>) -> Option<PathBuf> {
    let text = value.text()?;
    if text.is_empty() {
        value.error("an empty path", "name a file");
        return None;
    }
    Some(value.source.directory.join(&*text))
}

/// `client_ca` and `client_auth`; what is not written is as in `outer`.
fn auth(table: &Table<'_>, outer: Option<Auth>) -> Option<Auth> {
    let mut auth = outer.unwrap_or(Auth { is_required: true, authorities: None });
    if let Some(value) = table.get("client_ca") {
        let read = authorities::read(&path(&value)?);
        match read {
            Ok((roots, bytes)) => auth.authorities = Some((roots, bytes.into())),
            Err((message, hint)) => {
                let text = value.text()?;
                value.error(format!("\"{}\" {message}", value.shown(&text)), hint);
                return None;
            }
        }
    }
    if let Some(value) = table.get("client_auth") {
        match value.choice()? {
            "none" => auth.authorities = None,
            word => auth.is_required = word == "required",
        }
        if value.choice()? != "none" && auth.authorities.is_none() {
            let message = "there is no client_ca to check certificates of clients with";
            value.error(message, "add client_ca = \"clients.pem\"");
            return None;
        }
    }
    Some(auth)
}

fn certificate(table: &Table<'_>, report: &Report) -> Option<(Certificate, [u8; 32])> {
    let (cert, key) = (table.require("cert"), table.require("key"));
    let (cert, key) = (cert?, key?);
    let ocsp = table.get("ocsp");
    let files = PairFiles {
        cert: path(&cert)?,
        key: path(&key)?,
        ocsp: match &ocsp {
            Some(value) => Some(path(value)?),
            None => None,
        },
    };
    let label = cert.text()?;
    match pair::read(&files, certificates::now()) {
        Ok(pair::Read { pair, digest, warnings }) => {
            for (message, hint) in warnings {
                let message = format!("\"{}\" {message}", cert.shown(&label));
                report.warning(cert.place(), &cert.path(), message, hint);
            }
            Some((Certificate { pair, label: label.as_ref().into(), profile: 0 }, digest))
        }
        Err(error) => {
            let value = match error.which {
                Which::Cert => &cert,
                Which::Key => &key,
                Which::Ocsp => ocsp.as_ref().unwrap_or(&cert),
            };
            let text = value.text()?;
            value.error(format!("\"{}\" {}", value.shown(&text), error.message), error.hint);
            None
        }
    }
}
