//! `ringway cert`: an authority for development, and certificates it signs.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use x509_parser::time::ASN1Time;

use crate::cli::serve::fail;

const AFTER: &str = "\
Examples:
  ringway cert                                  for localhost, in ./certs
  ringway cert app.test '*.app.test' 10.0.0.5
  ringway cert --client alice                   one that a client presents

The first call makes an authority (ca.pem, ca.key) in the directory; later ones
use it. Trust its ca.pem on machines of your own only, and give ca.key to nobody.";

/// Make a certificate for development, and the authority that signs it
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(super) struct Args {
    /// Host names (also *.name) and IP addresses it is for
    #[arg(value_name = "NAME", default_values_t = ["localhost", "127.0.0.1", "::1"].map(String::from))]
    names: Vec<String>,

    /// Where the files go
    #[arg(long, value_name = "DIR", default_value = "certs")]
    dir: PathBuf,

    /// How long it is valid
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,

    /// Make one for clients, with this name
    #[arg(long, value_name = "NAME", conflicts_with = "names")]
    client: Option<String>,
}

/// Makes the files and says how to use them.
pub(super) fn run(args: &Args) -> ExitCode {
    match make(args) {
        Ok(text) => {
            // A reader that went away (`| head`) is no reason to fail.
            let _ = io::stdout().lock().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn make(args: &Args) -> Result<String, String> {
    let dir = &args.dir;
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let (issuer, is_new) = authority(dir)?;
    let (title, names) = match &args.client {
        Some(name) => (name.as_str(), Vec::new()),
        None => (args.names[0].as_str(), args.names.clone()),
    };
    let mut params = CertificateParams::new(names)
        .map_err(|error| format!("\"{}\" is no name: {error}", args.names.join("\", \"")))?;
    params.distinguished_name.push(DnType::CommonName, title);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match args.client {
        Some(_) => ExtendedKeyUsagePurpose::ClientAuth,
        None => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    valid_for(&mut params, args.days);
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let signed = params.signed_by(&key, &issuer).map_err(|error| error.to_string())?;
    let file = file_name(title);
    let (cert_path, key_path) = (dir.join(format!("{file}.pem")), dir.join(format!("{file}.key")));
    write(&key_path, &key.serialize_pem(), 0o600)?;
    write(&cert_path, &signed.pem(), 0o644)?;
    Ok(explain(args, is_new, &cert_path, &key_path))
}

/// A title as the name of a file: `*.app.test` is `_.app.test`.
fn file_name(title: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    title.chars().map(safe).collect()
}

/// The authority of a directory, made if there is none. Its certificate says the same each time, so
/// that the key is all that has to be read.
fn authority(dir: &Path) -> Result<(Issuer<'static, KeyPair>, bool), String> {
    let (cert_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
    let mut params = CertificateParams::new([]).map_err(|error| error.to_string())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::CommonName, "ringway development CA");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, 3650);
    let wrong = |error: &dyn std::fmt::Display| {
        format!("{}: {error}; remove it and ca.pem for a new authority", key_path.display())
    };
    match fs::read_to_string(&key_path) {
        Ok(text) => {
            let key = KeyPair::from_pem(&text).map_err(|error| wrong(&error))?;
            Ok((Issuer::new(params, key), false))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate().map_err(|error| error.to_string())?;
            let cert = params.self_signed(&key).map_err(|error| error.to_string())?;
            write(&key_path, &key.serialize_pem(), 0o600)?;
            write(&cert_path, &cert.pem(), 0o644)?;
            Ok((Issuer::new(params, key), true))
        }
        Err(error) => Err(wrong(&error)),
    }
}

/// From an hour ago, as clocks differ.
fn valid_for(params: &mut CertificateParams, days: u64) {
    let now = ASN1Time::now().to_datetime();
    params.not_before = now - Duration::from_secs(3600);
    params.not_after = now + Duration::from_secs(days * 86_400);
}

/// Replaces a file as a whole, so that a ringway that watches it never reads a half.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    let new = path.with_extension("new");
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, path)
    };
    write().map_err(|error: io::Error| format!("{}: {error}", path.display()))
}

fn explain(args: &Args, is_new: bool, cert: &Path, key: &Path) -> String {
    let ca = args.dir.join("ca.pem");
    let (ca, cert, key) = (ca.display(), cert.display(), key.display());
    let made = match is_new {
        true => format!("{ca}, a new authority, signed {cert}"),
        false => format!("{ca} signed {cert}"),
    };
    let days = args.days;
    if args.client.is_some() {
        return format!(
            "{made} (key: {key}), valid for {days} days.\n\n\
             In the configuration:\n\n    [listener.tls]\n    client_ca = \"{ca}\"\n\n\
             Try it:\n\n    curl --cert {cert} --key {key} ...\n"
        );
    }
    let name = &args.names[0];
    format!(
        "{made} (key: {key}), valid for {days} days.\n\n\
         In the configuration:\n\n    [listener.tls]\n    \
         certificates = [{{ cert = \"{cert}\", key = \"{key}\" }}]\n\n\
         Try it:\n\n    curl --cacert {ca} https://{name}:8443/\n\n\
         Trust it on this machine (as root, Debian):\n\n    \
         cp {ca} /usr/local/share/ca-certificates/ringway-dev.crt && update-ca-certificates\n"
    )
}
