//! TLS for tests: a small authority, and a bridge that lets every raw client speak TLS.
//!
//! A [`bridge`] is a local TCP connection whose other end speaks TLS with ringway: what a client of
//! [`super::client`] writes leaves encrypted, and ends look the same on both sides (FIN is
//! close_notify, a connection that was cut is a reset). With `RINGWAY_TEST_TLS=1` all listeners of all
//! tests speak TLS and all clients go over a bridge: so the HTTP/1 groups hold over TLS.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    ServerConfig, SignatureScheme, SupportedCipherSuite,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use socket2::SockRef;

/// What a server that shows this certificate needs. It offers no ALPN.
pub(crate) fn server(pair: &Pair) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = CertificateDer::pem_file_iter(&pair.cert).expect("PEM");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            chain.map(|one| one.expect("PEM")).collect(),
            PrivateKeyDer::from_pem_file(&pair.key).expect("PEM"),
        );
    Arc::new(config.expect("a pair"))
}

/// An authority that lives as long as the test.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

/// Paths of a certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pair {
    /// As in a configuration.
    pub(crate) fn toml(&self) -> String {
        format!("cert = {:?}, key = {:?}", self.cert, self.key)
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("signed");
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).expect("written");
        Authority { issuer, directory }
    }

    /// Its own certificate.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Where its files lie.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A certificate for these names, in files called `file`.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> Pair {
        self.issue_with(file, names, |_| {})
    }

    /// The same for a key of the test's own.
    pub(crate) fn issue_for(&self, file: &str, names: &[&str], key: KeyPair) -> Pair {
        self.issue_all(file, names, key, |_| {})
    }

    /// The same with settings of the test's own.
    pub(crate) fn issue_with(
        &self,
        file: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        self.issue_all(file, names, KeyPair::generate().expect("a key"), change)
    }

    fn issue_all(
        &self,
        file: &str,
        names: &[&str],
        key: KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).expect("signed");
        let path = |end: &str| self.directory.path().join(format!("{file}.{end}"));
        let pair = Pair { cert: path("pem"), key: path("key") };
        // Each replaced as a whole, as tools that renew certificates do.
        for (path, text) in [(&pair.key, key.serialize_pem()), (&pair.cert, cert.pem())] {
            let new = path.with_extension("new");
            std::fs::write(&new, text).expect("written");
            std::fs::rename(&new, path).expect("renamed");
        }
        pair
    }

    /// What a client that believes this authority needs.
    pub(crate) fn client(&self) -> TlsClient {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a root");
        TlsClient {
            roots,
            name: "a.test".into(),
            cut: usize::MAX,
            pair: None,
            alpn: Vec::new(),
            before: Vec::new(),
            chacha: false,
        }
    }
}

/// How a client speaks TLS.
#[derive(Clone)]
pub(crate) struct TlsClient {
    roots: RootCertStore,
    pub(crate) name: String,
    /// How many bytes it sends at once.
    pub(crate) cut: usize,
    pub(crate) pair: Option<Pair>,
    pub(crate) alpn: Vec<Vec<u8>>,
    /// What it sends before its handshake.
    pub(crate) before: Vec<u8>,
    /// Whether it likes ChaCha20 best.
    pub(crate) chacha: bool,
}

impl TlsClient {
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        self.cut = bytes;
        self
    }

    pub(crate) fn with(mut self, pair: &Pair) -> Self {
        self.pair = Some(pair.clone());
        self
    }

    pub(crate) fn after(mut self, bytes: &[u8]) -> Self {
        self.before = bytes.to_vec();
        self
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        if self.chacha {
            let is_other = |suite: &SupportedCipherSuite| {
                suite.suite() != CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            };
            provider.cipher_suites.sort_by_key(is_other);
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::pem_file_iter(&pair.cert).expect("PEM");
                let key = PrivateKeyDer::from_pem_file(&pair.key).expect("PEM");
                let chain = chain.map(|one| one.expect("PEM")).collect();
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config
    }

    /// Connects and shakes hands.
    pub(crate) fn shake(&self, address: SocketAddr) -> std::io::Result<Shaken> {
        self.shake_with(address, self.config())
    }

    /// What the listener has stapled to its certificate.
    pub(crate) fn stapled(&self, address: SocketAddr) -> Vec<u8> {
        let mut config = self.config();
        let provider = Arc::clone(config.crypto_provider());
        let roots = Arc::new(self.roots.clone());
        let inner = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        let verifier = Arc::new(Stapled { inner: inner.expect("roots"), seen: Mutex::default() });
        config.dangerous().set_certificate_verifier(Arc::clone(&verifier) as _);
        drop(self.shake_with(address, config).expect("a handshake"));
        verifier.seen.lock().expect("no panic while locked").clone()
    }

    fn shake_with(&self, address: SocketAddr, config: ClientConfig) -> std::io::Result<Shaken> {
        let name = ServerName::try_from(self.name.clone()).expect("a name");
        let mut connection =
            ClientConnection::new(Arc::new(config), name).expect("a configuration");
        let mut stream = TcpStream::connect_timeout(&address, super::PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(super::PATIENCE))?;
        stream.write_all(&self.before)?;
        while connection.is_handshaking() {
            let mut out = Vec::new();
            while connection.wants_write() {
                connection.write_tls(&mut out)?;
            }
            send_cut(&mut stream, &out, self.cut)?;
            if connection.is_handshaking() {
                if connection.read_tls(&mut stream)? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                connection.process_new_packets().map_err(std::io::Error::other)?;
            }
        }
        let mut out = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut out)?;
        }
        send_cut(&mut stream, &out, self.cut)?;
        stream.set_read_timeout(None)?;
        Ok(Shaken { connection, stream, cut: self.cut })
    }

    /// A client whose bytes travel by TLS.
    #[track_caller]
    pub(crate) fn connect(&self, address: SocketAddr) -> super::Client {
        super::Client::over(self.shake(address).expect("a handshake").bridge())
    }
}

fn send_cut(stream: &mut TcpStream, bytes: &[u8], cut: usize) -> std::io::Result<()> {
    for piece in bytes.chunks(cut.max(1)) {
        stream.write_all(piece)?;
    }
    Ok(())
}

/// Checks a certificate as usual, and remembers what was stapled to it.
#[derive(Debug)]
struct Stapled {
    inner: Arc<WebPkiServerVerifier>,
    seen: Mutex<Vec<u8>>,
}

impl ServerCertVerifier for Stapled {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.seen.lock().expect("no panic while locked") = ocsp.to_vec();
        self.inner.verify_server_cert(certificate, others, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A connection whose handshake has ended.
pub(crate) struct Shaken {
    pub(crate) connection: ClientConnection,
    pub(crate) stream: TcpStream,
    cut: usize,
}

impl Shaken {
    /// The certificate that was presented.
    pub(crate) fn presented(&self) -> CertificateDer<'static> {
        self.connection.peer_certificates().expect("one")[0].clone().into_owned()
    }

    /// A local connection whose other end is this one.
    pub(crate) fn bridge(self) -> TcpStream {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (far, _) = listener.accept().expect("accepted");
        near.set_nodelay(true).expect("an option");
        far.set_nodelay(true).expect("an option");
        let Shaken { connection, stream, cut } = self;
        let connection = Arc::new(Mutex::new(connection));
        {
            let connection = Arc::clone(&connection);
            let far = far.try_clone().expect("a descriptor");
            let stream = stream.try_clone().expect("a descriptor");
            std::thread::spawn(move || encrypt(&connection, far, stream, cut));
        }
        std::thread::spawn(move || decrypt(&connection, stream, far));
        near
    }
}

fn encrypt(
    connection: &Mutex<ClientConnection>,
    mut from: TcpStream,
    mut to: TcpStream,
    cut: usize,
) {
    let mut bytes = [0; 16 * 1024];
    loop {
        let read = from.read(&mut bytes);
        let mut out = Vec::new();
        {
            let mut connection = connection.lock().expect("no panic while locked");
            match read {
                Ok(0) => connection.send_close_notify(),
                Ok(count) => connection.writer().write_all(&bytes[..count]).expect("buffered"),
                Err(_) => {
                    // The client is gone: so is the connection.
                    let _ = SockRef::from(&to).set_linger(Some(Duration::ZERO));
                    let _ = to.shutdown(Shutdown::Both);
                    return;
                }
            }
            while connection.wants_write() {
                connection.write_tls(&mut out).expect("a vector");
            }
        }
        if send_cut(&mut to, &out, cut).is_err() {
            // As a client that writes to a closed connection sees it.
            let _ = SockRef::from(&from).set_linger(Some(Duration::ZERO));
            return;
        }
        if matches!(read, Ok(0)) {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
    }
}

fn decrypt(connection: &Mutex<ClientConnection>, mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 16 * 1024];
    let mut plain = Vec::new();
    let mut count = 0; // what came with the handshake first
    loop {
        plain.clear();
        let ended = {
            let mut connection = connection.lock().expect("no panic while locked");
            let mut rest = &bytes[..count];
            let mut result = connection.process_new_packets();
            while result.is_ok() && !rest.is_empty() {
                connection.read_tls(&mut rest).expect("a slice");
                result = connection.process_new_packets();
                let mut part = [0; 32 * 1024];
                while let Ok(count @ 1..) = connection.reader().read(&mut part) {
                    plain.extend(&part[..count]);
                }
            }
            match result {
                Ok(state) => {
                    let mut part = [0; 32 * 1024];
                    while let Ok(count @ 1..) = connection.reader().read(&mut part) {
                        plain.extend(&part[..count]);
                    }
                    state.peer_has_closed()
                }
                Err(_) => break,
            }
        };
        if to.write_all(&plain).is_err() {
            return;
        }
        if ended {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
        match from.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(read) => count = read,
        }
    }
    // Cut off: the client gets a reset, as soon as the other direction has let go too.
    let _ = SockRef::from(&to).set_linger(Some(Duration::ZERO));
    let _ = to.shutdown(Shutdown::Read);
}

/// Whether all tests are to speak TLS.
pub(crate) fn everywhere() -> Option<&'static (Authority, Pair)> {
    static ALL: OnceLock<Option<(Authority, Pair)>> = OnceLock::new();
    ALL.get_or_init(|| {
        std::env::var_os("RINGWAY_TEST_TLS")?;
        let authority = Authority::new();
        let pair = authority.issue("all", &["a.test"]);
        Some((authority, pair))
    })
    .as_ref()
}

/// Whether a test can't be meant to speak TLS, and so does not run; says so.
pub(crate) fn rules_out(test: &str, why: &str) -> bool {
    let is_out = everywhere().is_some();
    if is_out {
        super::skipped(test, why);
    }
    is_out
}

/// The scheme that listeners speak.
pub(crate) fn scheme() -> &'static str {
    if everywhere().is_some() { "https" } else { "http" }
}
