//! A client of rustls' buffered kind and our session, with the network in the hands of the fuzzer.

use std::{
    io::{Read, Write},
    sync::{Arc, OnceLock},
    time::Duration,
};

use ringway::tls::{
    Alpn, Certificate, CertifiedKey, ClientAuth, MinVersion, Pair, ProfileSettings, ServerTls,
    ServerTlsSettings, Session, Tickets,
    hello::{Asked, Hello, Look},
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::PrivateKeyDer};

struct Ends {
    server: ServerTls,
    client: Arc<ClientConfig>,
}

/// The same for all runs: keys take longer to make than a run.
fn ends() -> &'static Ends {
    static ENDS: OnceLock<Ends> = OnceLock::new();
    ENDS.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let key = ringway::tls::provider().key_provider.load_private_key(key).unwrap();
        let chain = vec![made.cert.der().clone()];
        let pair = Pair {
            key: Arc::new(CertifiedKey::new(chain, key)),
            names: ["a.test".into()].into(),
            not_after: i64::MAX,
            is_slow: false,
        };
        let tickets = Some(Arc::new(Tickets::new(false).unwrap()));
        let server = ServerTls::new(ServerTlsSettings {
            certificates: vec![Certificate { pair: Arc::new(pair), label: "a".into(), profile: 0 }],
            profiles: vec![ProfileSettings { client_auth: ClientAuth::None, tickets }],
            min_version: MinVersion::Tls12,
            alpn: vec![Alpn::Http11],
            early_data: false,
            handshake_timeout: Duration::from_secs(1),
            digest: [0; 32],
        })
        .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::clone(ringway::tls::provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ends { server, client: Arc::new(client) }
    })
}

struct Run {
    client: ClientConnection,
    session: Session,
    /// On its way to the session.
    wire: Vec<u8>,
    /// Arrived and not used up.
    input: Vec<u8>,
    sent: Vec<u8>,
    got: Vec<u8>,
    over: bool,
}

impl Run {
    fn deliver(&mut self, count: usize) {
        let count = count.min(self.wire.len());
        self.input.extend(self.wire.drain(..count));
        if self.over {
            return;
        }
        let got = &mut self.got;
        match self.session.receive(&mut self.input, &mut |bytes| got.extend_from_slice(bytes)) {
            Ok(used) => drop(self.input.drain(..used)),
            Err(_) => self.over = true,
        }
        assert!(self.sent.starts_with(&self.got), "plaintext that nobody sent");
    }

    fn collect(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.wire).unwrap();
        }
    }

    fn answer(&mut self) {
        let mut pending = self.session.pending().to_vec();
        self.session.sent(pending.len());
        self.feed(&mut pending);
    }

    fn feed(&mut self, bytes: &mut [u8]) {
        let mut rest = &*bytes;
        while !rest.is_empty() && self.client.read_tls(&mut rest).is_ok_and(|count| count > 0) {
            let _ = self.client.process_new_packets();
            let mut plain = [0; 1024];
            let _ = self.client.reader().read(&mut plain);
        }
    }

    fn seal(&mut self, count: usize) {
        if self.over {
            return;
        }
        let mut out = vec![0; 2048];
        let plain = vec![b's'; count];
        match self.session.seal(&mut self.input, &plain, 100, &mut out) {
            Ok((_, filled)) => self.feed(&mut out[..filled]),
            Err(_) => self.over = true,
        }
    }
}

fn asked() -> Asked {
    Asked { name: Some("a.test".into()), prefers_chacha: false }
}

/// Each two bytes are something that happens on the way.
pub fn check(data: &[u8]) {
    let _ = Look::default().look(data);
    let ends = ends();
    let name = "a.test".try_into().unwrap();
    let mut run = Run {
        client: ClientConnection::new(Arc::clone(&ends.client), name).unwrap(),
        session: ends.server.session(&asked()).unwrap(),
        wire: Vec::new(),
        input: Vec::new(),
        sent: Vec::new(),
        got: Vec::new(),
        over: false,
    };
    run.collect();
    assert_eq!(Look::default().look(&run.wire), Hello::Whole(asked()));
    for step in data.chunks_exact(2).take(200) {
        let (what, count) = (step[0], usize::from(step[1]));
        match what % 10 {
            0 => run.deliver(count),
            1 => run.deliver(usize::MAX),
            2 => run.collect(),
            3 => run.answer(),
            4 => {
                let bytes = vec![what; count];
                if run.client.writer().write(&bytes).is_ok_and(|written| written == count) {
                    run.sent.extend(bytes);
                }
            }
            5 => run.seal(count * 8),
            6 => {
                if let Some(byte) = run.wire.get_mut(count) {
                    *byte ^= what | 1;
                }
            }
            7 => {
                let at = count.min(run.wire.len());
                run.wire.rotate_left(at);
            }
            8 => run.wire.extend(&data[..count.min(data.len())]),
            _ if what == 9 => {
                run.session.close(&mut run.input);
                run.over = true; // rustls asserts that no alert follows a close_notify
            }
            _ => {
                // A whole round trip, so that many runs get beyond the handshake.
                run.collect();
                run.deliver(usize::MAX);
                run.answer();
            }
        }
    }
}
