//! Tests of what a session tells its peer: a client of rustls' own that seals other things than it was given,
//! and says which alert it got.

use std::{
    cell::RefCell,
    io::{Read, Write},
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustls::{
    AlertDescription, CipherSuiteCommon, ClientConfig, ClientConnection, ConnectionTrafficSecrets,
    ContentType, Error, ProtocolVersion, RootCertStore, SupportedCipherSuite, Tls12CipherSuite,
    Tls13CipherSuite,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{cipher_suite, default_provider},
        cipher::{
            AeadKey, Iv, KeyBlockShape, MessageDecrypter, MessageEncrypter, OutboundChunks,
            OutboundOpaqueMessage, OutboundPlainMessage, Tls12AeadAlgorithm, Tls13AeadAlgorithm,
            UnsupportedOperationError,
        },
    },
    pki_types::{CertificateDer, PrivateKeyDer},
};

use super::{
    Alpn, Certificate, CertifiedKey, ClientAuth, MinVersion, Pair, ProfileSettings, ServerTls,
    ServerTlsSettings, Session, Tickets, hello::Asked, provider,
};
use crate::base::limits;

/// What becomes of a record that the client seals.
type Spoil = fn(ContentType, &mut Vec<u8>) -> ContentType;

thread_local! {
    static SPOIL: RefCell<Option<Spoil>> = const { RefCell::new(None) };
}

struct Spoiled<T>(T);

impl MessageEncrypter for Spoiled<Box<dyn MessageEncrypter>> {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        seq: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let mut bytes = message.payload.to_vec();
        let typ = match SPOIL.take() {
            Some(spoil) => spoil(message.typ, &mut bytes),
            None => message.typ,
        };
        let payload = OutboundChunks::Single(&bytes);
        self.0.encrypt(OutboundPlainMessage { typ, payload, ..message }, seq)
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        self.0.encrypted_payload_len(payload_len)
    }
}

impl Tls13AeadAlgorithm for Spoiled<&'static dyn Tls13AeadAlgorithm> {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Spoiled(self.0.encrypter(key, iv)))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(
        &self,
        _: AeadKey,
        _: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }
}

impl Tls12AeadAlgorithm for Spoiled<&'static dyn Tls12AeadAlgorithm> {
    fn encrypter(&self, key: AeadKey, iv: &[u8], extra: &[u8]) -> Box<dyn MessageEncrypter> {
        Box::new(Spoiled(self.0.encrypter(key, iv, extra)))
    }

    fn decrypter(&self, key: AeadKey, iv: &[u8]) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_block_shape(&self) -> KeyBlockShape {
        self.0.key_block_shape()
    }

    fn extract_keys(
        &self,
        _: AeadKey,
        _: &[u8],
        _: &[u8],
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }
}

/// Suites for the client, one for each version.
fn spoiled() -> CryptoProvider {
    let common = |common: &CipherSuiteCommon| CipherSuiteCommon { ..*common };
    let new = cipher_suite::TLS13_AES_128_GCM_SHA256.tls13().expect("of TLS 1.3");
    let SupportedCipherSuite::Tls12(old) = cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    else {
        unreachable!("of TLS 1.2")
    };
    let new = Tls13CipherSuite {
        common: common(&new.common),
        aead_alg: Box::leak(Box::new(Spoiled(new.aead_alg))),
        ..*new
    };
    let old = Tls12CipherSuite {
        common: common(&old.common),
        aead_alg: Box::leak(Box::new(Spoiled(old.aead_alg))),
        ..*old
    };
    let cipher_suites = vec![
        SupportedCipherSuite::Tls13(Box::leak(Box::new(new))),
        SupportedCipherSuite::Tls12(Box::leak(Box::new(old))),
    ];
    CryptoProvider { cipher_suites, ..default_provider() }
}

/// A certificate, and its key.
fn made() -> &'static (CertificateDer<'static>, Vec<u8>) {
    static MADE: OnceLock<(CertificateDer<'static>, Vec<u8>)> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("made");
        (made.cert.der().clone(), made.signing_key.serialize_der())
    })
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(made().0.clone()).expect("a certificate");
    roots
}

fn server(early_data: bool, client_auth: ClientAuth) -> ServerTls {
    let (cert, key) = made();
    let key = PrivateKeyDer::try_from(key.clone()).expect("a key");
    let key = provider().key_provider.load_private_key(key).expect("a key");
    let pair = Pair {
        key: Arc::new(CertifiedKey::new(vec![cert.clone()], key)),
        names: ["a.test".into()].into(),
        not_after: i64::MAX,
        is_slow: false,
    };
    let tickets = Some(Arc::new(Tickets::new(early_data).expect("random numbers")));
    let settings = ServerTlsSettings {
        certificates: vec![Certificate { pair: Arc::new(pair), label: "a".into(), profile: 0 }],
        profiles: vec![ProfileSettings { client_auth, tickets }],
        min_version: MinVersion::Tls12,
        alpn: vec![Alpn::Http11],
        early_data,
        handshake_timeout: Duration::from_secs(1),
        digest: [0; 32],
    };
    ServerTls::new(settings).expect("settings that fit")
}

fn client(is_tls13: bool, chain: Option<Vec<CertificateDer<'static>>>) -> Arc<ClientConfig> {
    let versions = if is_tls13 { &[&rustls::version::TLS13] } else { &[&rustls::version::TLS12] };
    let builder = ClientConfig::builder_with_provider(Arc::new(spoiled()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots());
    let mut config = match chain {
        None => builder.with_no_client_auth(),
        Some(chain) => {
            let key = PrivateKeyDer::try_from(made().1.clone()).expect("a key");
            let key = provider().key_provider.load_private_key(key).expect("a key");
            let certified = Arc::new(CertifiedKey::new(chain, key));
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
                certified,
            )))
        }
    };
    config.enable_early_data = true;
    Arc::new(config)
}

/// Both ends, and what is on its way between them.
struct Ends {
    client: ClientConnection,
    session: Session,
    wire: Vec<u8>,
    input: Vec<u8>,
    got: Vec<u8>,
}

impl Ends {
    fn new(server: &ServerTls, client: &Arc<ClientConfig>) -> Self {
        let asked = Asked { name: Some("a.test".into()), prefers_chacha: false };
        let name = "a.test".try_into().expect("a name");
        Self {
            client: ClientConnection::new(Arc::clone(client), name).expect("a client"),
            session: server.session(&asked).expect("a session"),
            wire: Vec::new(),
            input: Vec::new(),
            got: Vec::new(),
        }
    }

    /// What the client has to send goes on its way.
    fn write(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.wire).expect("memory");
        }
    }

    /// What is on its way arrives, so many bytes at a time.
    fn deliver(&mut self, piece: usize) {
        for piece in std::mem::take(&mut self.wire).chunks(piece) {
            self.input.extend(piece);
            let got = &mut self.got;
            match self.session.receive(&mut self.input, &mut |bytes| got.extend(bytes)) {
                Ok(used) => drop(self.input.drain(..used)),
                Err(_) => return,
            }
        }
    }

    /// What the session has to send arrives.
    fn answer(&mut self) -> Result<(), Error> {
        let pending = self.session.pending().to_vec();
        self.session.sent(pending.len());
        let mut rest = &pending[..];
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).expect("memory");
            self.client.process_new_packets()?;
        }
        Ok(())
    }

    /// To the end of the handshake.
    fn shake(mut self) -> Self {
        while self.client.is_handshaking() || self.session.is_handshaking() {
            self.write();
            self.deliver(usize::MAX);
            self.answer().expect("a good flight");
        }
        self
    }

    /// To where the client has to answer the server's first flight.
    fn half(mut self) -> Self {
        self.write();
        self.deliver(usize::MAX);
        self.answer().expect("a good flight");
        self
    }

    /// The client ends the handshake with another record than a good Finished.
    fn finishes(self, spoil: Spoil) -> Self {
        SPOIL.set(Some(spoil));
        let mut half = self.half();
        half.write();
        half
    }

    /// The client seals another record than a good one.
    fn seals(mut self, spoil: Spoil) -> Self {
        SPOIL.set(Some(spoil));
        self.client.writer().write_all(b"x").expect("memory");
        self.write();
        self
    }

    /// What the client is told about what it has sent.
    fn told(mut self) -> Option<AlertDescription> {
        self.deliver(usize::MAX);
        match self.answer() {
            Err(Error::AlertReceived(description)) => Some(description),
            Err(error) => panic!("{error}"),
            Ok(()) => None,
        }
    }

    fn told_of(mut self, bytes: &[u8]) -> Option<AlertDescription> {
        self.write();
        self.wire.extend(bytes);
        self.told()
    }
}

fn empty_alert(_: ContentType, bytes: &mut Vec<u8>) -> ContentType {
    bytes.clear();
    ContentType::Alert
}

fn empty_message(_: ContentType, bytes: &mut Vec<u8>) -> ContentType {
    bytes.clear();
    ContentType::Handshake
}

/// A byte more; the first record of the client is its Finished.
fn longer(typ: ContentType, bytes: &mut Vec<u8>) -> ContentType {
    bytes.push(0);
    bytes[3] += 1;
    typ
}

fn shorter(typ: ContentType, bytes: &mut Vec<u8>) -> ContentType {
    bytes.pop();
    bytes[3] -= 1;
    typ
}

/// The beginning of a Finished that is too long.
fn cut(typ: ContentType, bytes: &mut Vec<u8>) -> ContentType {
    bytes.truncate(4);
    bytes[1] = 1;
    typ
}

/// The beginning of a key update.
fn half_an_update(_: ContentType, bytes: &mut Vec<u8>) -> ContentType {
    *bytes = vec![24, 0, 0];
    ContentType::Handshake
}

fn no_such_update(_: ContentType, bytes: &mut Vec<u8>) -> ContentType {
    *bytes = vec![24, 0, 0, 1, 9];
    ContentType::Handshake
}

#[test]
fn encrypted_alerts_say_what_was_wrong() {
    use AlertDescription as Said;
    let (server, config) = (server(false, ClientAuth::None), client(true, None));
    let ends = || Ends::new(&server, &config);
    for (what, told, wanted) in [
        ("an empty alert", ends().shake().seals(empty_alert).told(), Said::UnexpectedMessage),
        ("in the handshake", ends().finishes(empty_alert).told(), Said::UnexpectedMessage),
        ("an empty message", ends().shake().seals(empty_message).told(), Said::UnexpectedMessage),
        ("a longer Finished", ends().finishes(longer).told(), Said::DecodeError),
        ("a shorter one", ends().finishes(shorter).told(), Said::DecodeError),
        ("the head of one", ends().finishes(cut).told(), Said::DecodeError),
        ("rustls' own", ends().shake().seals(no_such_update).told(), Said::IllegalParameter),
    ] {
        assert_eq!(told, Some(wanted), "{what}");
    }
    let interleaved = ends().shake().seals(half_an_update).seals(|typ, _| typ);
    assert_eq!(interleaved.told(), Some(Said::UnexpectedMessage));
    let sealed =
        |bytes: usize| [&[23, 3, 3, (bytes >> 8) as u8, bytes as u8][..], &vec![0; bytes]].concat();
    for (what, bytes, wanted) in [
        ("no type", vec![99, 3, 3, 0, 1, 0], Said::DecodeError),
        ("not genuine", sealed(16_640), Said::BadRecordMac),
        ("nor short", sealed(16_641), Said::RecordOverflow),
        ("nor possible", sealed(18_432)[..5].to_vec(), Said::RecordOverflow),
        ("plain text", vec![22, 3, 3, 0, 4, 20, 0, 0, 0], Said::UnexpectedMessage),
        ("an alert in plain text", vec![21, 3, 3, 0, 2, 1, 0], Said::UnexpectedMessage),
        ("a late change_cipher_spec", vec![20, 3, 3, 0, 1, 1], Said::UnexpectedMessage),
        ("a wrong one", vec![20, 3, 3, 0, 2, 1, 1], Said::UnexpectedMessage),
    ] {
        assert_eq!(ends().shake().told_of(&bytes), Some(wanted), "{what}");
    }
    let three = [20, 3, 3, 0, 1, 1].repeat(3);
    let mut half = ends().half();
    half.wire.extend(&three);
    assert_eq!(half.told(), Some(Said::UnexpectedMessage));
    let mut first = ends();
    first.write();
    assert_eq!(first.told_of(&three), Some(Said::UnexpectedMessage), "behind the server's flight");
    // A record that is genuine, and says that it is not encrypted.
    let mut ends = ends().shake().seals(|typ, _| typ);
    ends.wire[0] = 22;
    assert_eq!(ends.told(), Some(Said::UnexpectedMessage));
}

#[test]
fn so_do_those_of_tls_1_2() {
    use AlertDescription as Said;
    let (server, config) = (server(false, ClientAuth::None), client(false, None));
    let ends = || Ends::new(&server, &config);
    assert_eq!(ends().finishes(longer).told(), Some(Said::DecodeError));
    assert_eq!(ends().finishes(shorter).told(), Some(Said::DecodeError));
    let mut two_bytes = ends().half();
    two_bytes.write();
    let change = two_bytes.wire.windows(6).position(|six| six == [20, 3, 3, 0, 1, 1]).expect("one");
    two_bytes.wire.splice(change..change + 6, [20, 3, 3, 0, 2, 1, 1]);
    assert_eq!(two_bytes.told(), Some(Said::UnexpectedMessage));
    let overlong = [23, 3, 3, 0x48, 0];
    assert_eq!(ends().shake().told_of(&overlong), Some(Said::RecordOverflow));
}

#[test]
fn an_empty_certificate_can_not_be_read() {
    let server = server(false, ClientAuth::Optional(Arc::new(roots())));
    for is_tls13 in [true, false] {
        for chain in [vec![made().0.clone(), Vec::new().into()], vec![Vec::new().into()]] {
            let mut ends = Ends::new(&server, &client(is_tls13, Some(chain))).half();
            ends.write();
            assert_eq!(ends.told(), Some(AlertDescription::DecodeError));
        }
    }
}

/// What is no error is not changed, and a close stays one.
#[test]
fn good_records_pass() {
    for is_tls13 in [true, false] {
        let mut ends = Ends::new(&server(false, ClientAuth::None), &client(is_tls13, None)).shake();
        let version = if is_tls13 { ProtocolVersion::TLSv1_3 } else { ProtocolVersion::TLSv1_2 };
        assert_eq!(ends.client.protocol_version(), Some(version));
        ends.client.writer().write_all(b"hello").expect("memory");
        ends.write();
        ends.deliver(1);
        assert_eq!(ends.got, b"hello");
        ends.session.close(&mut []);
        ends.answer().expect("a close");
        assert_eq!(ends.client.reader().read(&mut [0; 9]).expect("an end in order"), 0);
    }
}

#[test]
fn key_updates_are_answered_at_once_but_not_without_data() {
    let mut ends = Ends::new(&server(false, ClientAuth::None), &client(true, None)).shake();
    let updates = |ends: &mut Ends, count: usize| {
        for _ in 0..count {
            ends.client.refresh_traffic_keys().expect("after the handshake");
        }
        ends.write();
        ends.deliver(1);
        let bytes = ends.session.pending().len();
        ends.answer().expect("an answer");
        bytes
    };
    assert_eq!(updates(&mut ends, 3), 0, "nothing was read");
    ends.client.writer().write_all(b"GET").expect("memory");
    ends.write();
    ends.deliver(usize::MAX);
    let answer = ends.session.pending().len();
    assert!(answer > 0, "to those of before");
    ends.answer().expect("an answer");
    ends.client.writer().write_all(b" / ").expect("memory");
    assert_eq!(updates(&mut ends, 1), answer, "behind data");
    assert_eq!(updates(&mut ends, 5), 0, "once for these");
    let mut out = vec![0; 4096];
    let (taken, filled) = ends.session.seal(&mut [], b"there", 100, &mut out).expect("sealed");
    assert_eq!(taken, 5);
    let mut rest = &out[..filled];
    while !rest.is_empty() {
        ends.client.read_tls(&mut rest).expect("memory");
        ends.client.process_new_packets().expect("under the new key");
    }
    let mut got = [0; 5];
    ends.client.reader().read_exact(&mut got).expect("what was sealed");
    assert_eq!((&got, &ends.got[..]), (b"there", &b"GET / "[..]));
    // Who does not read gets one.
    ends.client.writer().write_all(b"a").expect("memory");
    ends.client.refresh_traffic_keys().expect("after the handshake");
    ends.client.writer().write_all(b"b").expect("memory");
    ends.client.refresh_traffic_keys().expect("after the handshake");
    ends.write();
    ends.deliver(1);
    assert_eq!(ends.session.pending().len(), answer);
}

/// Early data of a session that nobody knows any more is skipped, and counted once, however it comes.
#[test]
fn early_data_that_is_not_wanted_is_counted_once() {
    let config = client(true, None);
    let before = server(true, ClientAuth::None);
    let mut ends = Ends::new(&before, &config).shake();
    ends.answer().expect("tickets");
    for piece in [1000, 7, usize::MAX] {
        // Which takes the ticket; the next comes from the end of this one.
        let after = server(true, ClientAuth::None);
        let mut ends = Ends::new(&after, &config);
        let bytes = vec![b'e'; limits::TLS_EARLY_DATA_BYTES_MAX as usize - 200];
        let mut early = ends.client.early_data().expect("a ticket");
        for some in bytes.chunks(4000) {
            early.write_all(some).expect("room");
        }
        ends.write();
        while ends.client.is_handshaking() || ends.session.is_handshaking() {
            ends.deliver(piece);
            ends.answer().expect("a good flight");
            ends.write();
        }
        assert!(!ends.client.is_early_data_accepted());
        ends.client.writer().write_all(b"late").expect("memory");
        ends.write();
        ends.deliver(piece);
        assert_eq!(ends.got, b"late");
        ends.answer().expect("tickets");
    }
}
