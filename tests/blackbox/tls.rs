//! TLS on listeners: names and certificates, versions, resumption, certificates of clients, torn and
//! cut input, plain text on the wrong port.
//! Sources: RFC 8446, RFC 5246, RFC 6066 §3, RFC 7301.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{AlertDescription, ClientConnection, pki_types::ServerName};

use crate::support::{
    Client, Conf, End, Origin, Ringway, Step, eventually, pattern, skipped,
    tls::{Authority, Pair, TlsClient},
};

pub(crate) fn conf(origin: &Origin, tls: &str) -> Conf {
    Conf::to(origin.address).one_core().listener(&format!("tls = {{ {tls} }}"))
}

pub(crate) fn with(pairs: &[&Pair]) -> String {
    let all: Vec<String> = pairs.iter().map(|pair| format!("{{ {} }}", pair.toml())).collect();
    format!("certificates = [{}]", all.join(", "))
}

#[test]
fn requests_over_tls() {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.issue("a", &["a.test"]);
    let proxy = Ringway::start(&conf(&origin, &with(&[&pair])));
    let mut client = authority.client().connect(proxy.address());
    for number in 0..50 {
        assert_eq!(client.fetch(&format!("/{number}")).text(), format!("GET /{number}"));
    }
    let mut all = String::new();
    for number in 0..50 {
        all += &format!("GET /p{number} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    }
    client.send(&all);
    for number in 0..50 {
        assert_eq!(client.response().text(), format!("GET /p{number}"), "pipelined");
    }
    let seen = origin.wait_seen(100);
    assert!(seen.iter().all(|seen| seen.head.get("x-forwarded-proto") == Some("https")));
    assert_eq!(origin.connections(), 1);
    client.gone();
    eventually("a full handshake in the metrics", Duration::from_secs(5), || {
        let full = proxy.metric("ringway_tls_handshakes_total", "result=\"full\"");
        (full == 1.0).then_some(())
    });
}

/// However the bytes of the client are cut, the handshake and the request come through.
#[test]
fn a_client_that_sends_byte_by_byte() {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.issue("a", &["a.test"]);
    let proxy = Ringway::start(&conf(&origin, &with(&[&pair])));
    for cut in [1, 2, 3, 5, 7, 100, 1000] {
        let mut client = authority.client().cut(cut).connect(proxy.address());
        client.post("/torn", &pattern(300));
        assert_eq!(client.response().text(), "POST /torn", "cut at {cut}");
    }
    let seen = origin.wait_seen(7);
    assert!(seen.iter().all(|seen| seen.body == pattern(300)));
}

#[test]
fn bodies_of_all_sizes_both_ways() {
    let origin = Origin::auto(|seen| {
        let body = seen.body.clone();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        vec![Step::Send([head.into_bytes(), body].concat())]
    });
    let authority = Authority::new();
    let pair = authority.issue("a", &["a.test"]);
    let proxy = Ringway::start(&conf(&origin, &with(&[&pair])));
    let mut client = authority.client().connect(proxy.address());
    for size in [1, 1349, 1350, 1351, 16_383, 16_384, 16_385, 32_768, 65_537, 300_000, 3_000_001] {
        let body = pattern(size);
        client.post("/echo", &body);
        let answer = client.response();
        assert_eq!(answer.end, End::Complete, "{size}");
        assert!(answer.body == body, "{size}: the body changed");
    }
}

#[test]
fn the_name_decides_the_certificate() {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let first = authority.issue("first", &["a.test"]);
    let wild = authority.issue("wild", &["*.b.test"]);
    let exact = authority.issue("exact", &["x.b.test", "c.test"]);
    let proxy = Ringway::start(&conf(&origin, &with(&[&first, &wild, &exact])));
    let presented = |name: &str| {
        authority.client().named(name).shake(proxy.address()).map(|shaken| shaken.presented())
    };
    let names = ["a.test", "y.b.test", "X.B.test", "c.test"];
    let seen: Vec<_> = names.iter().map(|name| presented(name).expect(name)).collect();
    assert!(seen[2] == seen[3] && seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2]);
    for name in ["b.test", "z.y.b.test", "d.test"] {
        let error = presented(name).expect_err("the first certificate is not for this name");
        assert!(error.to_string().contains("certificate"), "{name}: {error}");
    }
}

#[test]
fn plain_text_on_a_tls_port_gets_a_clear_answer() {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.issue("a", &["a.test"]);
    let proxy = Ringway::start(&conf(&origin, &with(&[&pair])));
    let mut client = Client::over(TcpStream::connect(proxy.address()).expect("connected"));
    client.get("/");
    client.response().assert_own(400, "plain_http");
    client.assert_closed();
    let mut stream = TcpStream::connect(proxy.address()).expect("connected");
    stream.write_all(b"SSH-2.0-x\r\n").expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an end");
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 10], "an alert");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn certificates_of_clients() {
    let (origin, authority, others) = (Origin::echo(), Authority::new(), Authority::new());
    let pair = authority.issue("a", &["a.test"]);
    let open = authority.issue("open", &["open.test"]);
    let mine = authority.issue("client", &["me"]);
    let strange = others.issue("client", &["me"]);
    let tls = format!(
        "client_ca = {:?}, certificates = [{{ {} }}, {{ {}, client_auth = \"none\" }}]",
        authority.path(),
        pair.toml(),
        open.toml(),
    );
    let proxy = Ringway::start(&conf(&origin, &tls));
    let client = authority.client();
    let mut known = client.clone().with(&mine).connect(proxy.address());
    assert_eq!(known.fetch("/known").text(), "GET /known");
    for refused in [client.clone(), client.clone().with(&strange)] {
        // With TLS 1.3 the client has ended its handshake before it hears of it.
        let answer = match refused.shake(proxy.address()) {
            Err(_) => continue,
            Ok(shaken) => {
                let mut client = Client::over(shaken.bridge());
                client.try_send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
                client.try_response("GET")
            }
        };
        answer.expect_err("no request comes through");
    }
    // The client may hear of it before it is counted.
    eventually("both are counted", Duration::from_secs(10), || {
        let refusals = proxy.metric("ringway_tls_handshakes_total", "result=\"certificate\"");
        (refusals == 2.0).then_some(())
    });
    // A connection for the open name must not reach the other one's requests.
    let mut crossing = client.named("open.test").connect(proxy.address());
    crossing.send("GET / HTTP/1.1\r\nHost: open.test\r\n\r\n");
    assert_eq!(crossing.response().text(), "GET /");
    crossing.get("/crossing");
    crossing.response().assert_own(421, "misdirected");
}

/// A body that ends with the connection has ended only if the client hears so.
#[test]
fn a_cut_response_is_not_taken_for_a_whole_one() {
    let authority = Authority::new();
    let pair = authority.issue("a", &["a.test"]);
    let origin = Origin::auto(|seen| {
        let mut steps = vec![Step::Send(b"HTTP/1.0 200 OK\r\n\r\nhalf".to_vec())];
        if seen.head.word(1) == "/cut" {
            steps.push(Step::Reset);
        } else {
            steps.push(Step::Close);
        }
        steps
    });
    let proxy = Ringway::start(&conf(&origin, &with(&[&pair])));
    for (path, whole) in [("/whole", true), ("/cut", false)] {
        let mut client = authority.client().connect(proxy.address());
        client.send(format!("GET {path} HTTP/1.0\r\nHost: a.test\r\n\r\n"));
        let answer = client.try_response("GET");
        let is_whole = answer.as_ref().is_ok_and(|answer| answer.end == End::Closed);
        assert_eq!(is_whole, whole, "{path}: {answer:?}");
    }
}

#[test]
fn a_handshake_has_its_time() {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.issue("a", &["a.test"]);
    let tls = format!("handshake_timeout = \"200ms\", {}", with(&[&pair]));
    let proxy = Ringway::start(&conf(&origin, &tls));
    let mut stream = TcpStream::connect(proxy.address()).expect("connected");
    stream.write_all(b"\x16\x03\x01\x02").expect("sent");
    Client::over(stream).assert_closes_within(Duration::from_secs(5));
    eventually("the timeout in the metrics", Duration::from_secs(5), || {
        let timeouts = proxy.metric("ringway_tls_handshakes_total", "result=\"timeout\"");
        (timeouts == 1.0).then_some(())
    });
}

#[test]
fn an_ocsp_answer_is_stapled_and_renewed() {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let (pair, file) = (authority.issue("a", &["a.test"]), authority.directory().join("a.ocsp"));
    let write = |answer: &[u8]| {
        let new = file.with_extension("new");
        std::fs::write(&new, answer).expect("written");
        std::fs::rename(&new, &file).expect("renamed");
    };
    write(b"\x30\x03\x0a\x01\x06");
    let tls = format!("certificates = [{{ {}, ocsp = {file:?} }}]", pair.toml());
    let proxy = Ringway::start(&conf(&origin, &tls));
    assert_eq!(authority.client().stapled(proxy.address()), b"\x30\x03\x0a\x01\x06");
    write(b"\x30\x03\x0a\x01\x03");
    eventually("the new answer", Duration::from_secs(20), || {
        let stapled = authority.client().stapled(proxy.address());
        (stapled == b"\x30\x03\x0a\x01\x03").then_some(())
    });
}

#[test]
fn a_websocket_over_tls() {
    let (origin, authority) = (Origin::start(), Authority::new());
    let pair = authority.issue("a", &["a.test"]);
    let proxy = Ringway::start(&conf(&origin, &with(&[&pair])));
    let mut client = authority.client().connect(proxy.address());
    client.send(
        "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    let mut endpoint = origin.next_request();
    assert_eq!(endpoint.head.get("upgrade"), Some("websocket"), "not somebody else's");
    endpoint.send(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    );
    assert_eq!(client.response().status(), 101);
    for size in [1, 5_000, 300_000] {
        let bytes = pattern(size);
        client.send(&bytes);
        assert!(endpoint.wire().read_bytes(size).0 == bytes, "{size} up");
        endpoint.send(&bytes);
        assert!(client.read_bytes(size).0 == bytes, "{size} down");
    }
}

/// A client that is not good at AES gets what it is good at, all others what is cheapest here.
#[test]
fn the_first_suite_of_a_client_decides_between_aes_and_chacha() {
    use rustls::CipherSuite::{TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256};
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.issue("a", &["a.test"]);
    let proxy = Ringway::start(&conf(&origin, &with(&[&pair])));
    let chosen = |client: &TlsClient| {
        let shaken = client.shake(proxy.address()).expect("a handshake");
        shaken.connection.negotiated_cipher_suite().expect("one").suite()
    };
    let mut client = authority.client();
    assert_eq!(chosen(&client), TLS13_AES_128_GCM_SHA256, "rustls offers 256 bits first");
    client.chacha = true;
    assert_eq!(chosen(&client), TLS13_CHACHA20_POLY1305_SHA256);
}

/// Each hello that stops half way holds a buffer.
#[test]
fn hellos_that_stop_half_way_leave_buffers_for_others() {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.issue("a", &["a.test"]);
    let proxy = Ringway::start(&conf(&origin, &with(&[&pair])).runtime("buffers_max = 256"));
    let mut client = authority.client().connect(proxy.address());
    client.get("/before");
    assert_eq!(client.response().status(), 200);
    let halves: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(proxy.address()).expect("connected");
            stream.write_all(b"\x16\x03\x01\x02").expect("sent");
            stream
        })
        .collect();
    eventually("the last ones to be refused", Duration::from_secs(10), || {
        (proxy.metric("ringway_tls_handshakes_total", "result=\"refused\"") >= 36.0).then_some(())
    });
    client.get("/meanwhile");
    assert_eq!(client.response().status(), 200);
    drop(halves);
}

/// A hello of 60,000 bytes, by protocols that nobody knows.
fn large(mut client: TlsClient) -> TlsClient {
    client.alpn = (0..235_u8).map(|number| vec![number; 255]).collect();
    client.alpn.push(b"http/1.1".to_vec());
    client
}

/// They are put together in larger buffers, of which each core has 64.
#[test]
fn large_hellos_are_read_and_bounded_in_number() {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let (first, named) = (authority.issue("a", &["a.test"]), authority.issue("b", &["b.test"]));
    let proxy = Ringway::start(&conf(&origin, &with(&[&first, &named])));
    for cut in [usize::MAX, 1000] {
        let shaken = large(authority.client().named("b.test")).cut(cut).shake(proxy.address());
        let mut client = Client::over(shaken.expect("a handshake").bridge());
        assert_eq!(client.fetch("/large").text(), "GET /large");
    }
    let begun = [&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[0; 0x3ffc]].concat();
    let half = [begun, [&[22, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat().repeat(2)].concat();
    let begin = || {
        let mut stream = TcpStream::connect(proxy.address()).expect("connected");
        let _ = stream.write_all(&half); // the last ones are refused meanwhile
        stream
    };
    let halves: Vec<_> = (0..66).map(|_| begin()).collect();
    let refused = || proxy.metric("ringway_tls_handshakes_total", "result=\"refused\"");
    eventually("two to be refused", Duration::from_secs(10), || (refused() == 2.0).then_some(()));
    assert!(authority.client().shake(proxy.address()).is_ok(), "others have room");
    assert!(large(authority.client()).shake(proxy.address()).is_err());
    drop(halves);
    eventually("room again", Duration::from_secs(10), || {
        large(authority.client()).shake(proxy.address()).ok()
    });
}

/// A hello of TLS 1.3 for a suite that is there, with these extensions.
fn hello(version: [u8; 2], extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let vector = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let one = |(kind, value): &(u16, &[u8])| [&kind.to_be_bytes()[..], &vector(value)].concat();
    let extensions: Vec<u8> = extensions.iter().flat_map(one).collect();
    let body = [&version[..], &[7; 32], &[0], &vector(&[0x13, 1]), &[1, 0], &vector(&extensions)];
    [&[22, 3, 1][..], &vector(&[&[1, 0][..], &vector(&body.concat())].concat())].concat()
}

/// What can't be TLS, what is too long for it, and what has nothing to agree on is answered by an alert.
#[test]
fn what_is_no_hello_gets_an_alert() {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.issue("a", &["a.test"]);
    let proxy = Ringway::start(&conf(&origin, &with(&[&pair])));
    let too_long = [&[22, 3, 1, 0x40, 0, 1, 1, 0, 0][..], &[0; 0x3ffc]].concat();
    // Short, but in too many records.
    let begun = [22, 3, 1, 0, 4, 1, 0, 0xff, 0];
    let crumbs = [&begun[..], &[22, 3, 1, 0, 1, 0].repeat(14_000)].concat();
    const V13: (u16, &[u8]) = (43, &[2, 3, 4]);
    const GROUPS: (u16, &[u8]) = (10, &[0, 2, 0, 29]);
    const ECDSA: (u16, &[u8]) = (13, &[0, 2, 4, 3]);
    let share = [&[0, 36, 0, 29, 0, 32][..], &[9; 32]].concat();
    let share = (51, &share[..]);
    // Another record between two pieces of a hello.
    let torn = [&[22, 3, 1, 0, 8, 1, 0, 0, 0x40][..], &[3; 4], &[21, 3, 1, 0, 2, 1, 0]].concat();
    for (bytes, description) in [
        (&b"\x17\x03\x03\0\x05aaaaa"[..], 10),
        (b"\x80\x2e\x01", 10),
        (&crumbs, 50),
        (b"\x16\x03\x01\x40\x01", 22), // longer than records are
        (b"\x16\x03\x01\0\x04\x02\0\0\0", 10), // a message that is no hello
        (&hello([3, 0], &[V13, GROUPS, ECDSA]), 70),
        (&hello([3, 3], &[V13, GROUPS, ECDSA]), 109), // no key share
        (&hello([3, 3], &[V13, GROUPS, share, (13, &[0, 2, 4, 1])]), 40), // not for this version
        (&too_long, 50),
        (&torn, 10),
    ] {
        let mut stream = TcpStream::connect(proxy.address()).expect("connected");
        let _ = stream.write_all(bytes); // the end may come before the last bytes
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).expect("an alert");
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, description]);
    }
}

/// OpenSSL as the peer: versions, resumption with either, no name.
/// Once alerts are encrypted rustls alone can send them, and has none for some mistakes: it is made to.
#[test]
fn what_breaks_a_handshake_under_way_gets_an_alert() {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.issue("a", &["a.test"]);
    let proxy = Ringway::start(&conf(&origin, &with(&[&pair])));
    let config = Arc::new(authority.client().named("a.test").config());
    let change = [20, 3, 3, 0, 1, 1];
    let too_long = [&[23, 3, 3, 0x41, 1][..], &[0; 0x4101]].concat();
    for (what, is_done, bytes, wanted) in [
        ("a record of no type", false, &[99, 3, 3, 0, 1, 0][..], AlertDescription::DecodeError),
        ("the same, later", true, &[99, 3, 3, 0, 1, 0], AlertDescription::DecodeError),
        ("three change_cipher_spec", false, &change.repeat(3), AlertDescription::UnexpectedMessage),
        ("change_cipher_spec, later", true, &change, AlertDescription::UnexpectedMessage),
        ("too long, and not genuine", true, &too_long, AlertDescription::RecordOverflow),
        ("longer than any record", true, &[23, 3, 3, 0x48, 0], AlertDescription::RecordOverflow),
        ("plain text", true, &[22, 3, 3, 0, 4, 20, 0, 0, 0], AlertDescription::UnexpectedMessage),
    ] {
        let name = ServerName::try_from("a.test").expect("a name");
        let mut client = ClientConnection::new(Arc::clone(&config), name).expect("a client");
        let mut stream = TcpStream::connect(proxy.address()).expect("connected");
        while client.is_handshaking() {
            while client.wants_write() {
                client.write_tls(&mut stream).expect("sent");
            }
            assert!(client.read_tls(&mut stream).expect("received") > 0, "{what}");
            client.process_new_packets().expect("a good flight");
        }
        while is_done && client.wants_write() {
            client.write_tls(&mut stream).expect("sent"); // the Finished
        }
        let _ = stream.write_all(bytes);
        let error = loop {
            if client.read_tls(&mut stream).expect("received") == 0 {
                break None;
            }
            if let Err(error) = client.process_new_packets() {
                break Some(error);
            }
        };
        assert_eq!(error, Some(rustls::Error::AlertReceived(wanted)), "{what}");
    }
}

#[test]
fn openssl_connects_and_resumes() {
    if Command::new("openssl").arg("version").output().is_err() {
        return skipped("openssl_connects_and_resumes", "apt-get install openssl");
    }
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.issue("a", &["a.test"]);
    let proxy = Ringway::start(&conf(&origin, &with(&[&pair])));
    let run = |arguments: &[&str]| {
        let address = proxy.address().to_string();
        let script = format!(
            "(printf 'GET /x HTTP/1.1\\r\\nHost: a.test\\r\\nConnection: close\\r\\n\\r\\n'; sleep 0.3) | \
             timeout 10 openssl s_client -connect {address} -ign_eof {} 2>&1",
            arguments.join(" ")
        );
        let output = Command::new("sh").arg("-c").arg(script).output().expect("a shell");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let session = authority.directory().join(version);
        let session = session.display().to_string();
        let first = run(&["-servername a.test", version, "-sess_out", &session]);
        assert!(first.contains("GET /x") && first.contains("New, TLSv1."), "{first}");
        let again = run(&["-servername a.test", version, "-sess_in", &session]);
        assert!(again.contains("GET /x") && again.contains("Reused, TLSv1."), "{again}");
        assert!(run(&["-noservername", version]).contains("GET /x"), "{version} without a name");
    }
    assert!(run(&["-tls1_1"]).contains("alert"), "older versions are refused");
    assert_eq!(proxy.metric("ringway_tls_handshakes_total", "result=\"resumed\""), 2.0);
}

/// A certificate changed again and again under load: no handshake fails, and each new one is served
/// within a second.
#[test]
fn a_certificate_is_renewed_under_load() {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.issue("a", &["a.test"]);
    let proxy = Ringway::start(&conf(&origin, &with(&[&pair])));
    let (client, address) = (authority.client(), proxy.address());
    let stop = std::sync::atomic::AtomicBool::new(false);
    let changes: u32 = std::env::var("RINGWAY_TEST_CHANGES").map_or(5, |n| n.parse().expect("n"));
    std::thread::scope(|scope| {
        let load = || {
            let mut handshakes = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let mut client = client.connect(address);
                assert_eq!(client.fetch("/load").text(), "GET /load");
                handshakes += 1;
            }
            handshakes
        };
        let loads = [scope.spawn(load), scope.spawn(load)];
        let mut slowest = Duration::ZERO;
        for change in 0..changes {
            let before = client.shake(address).expect("a handshake").presented();
            authority.issue("a", &["a.test"]);
            let began = Instant::now();
            eventually("the new certificate", Duration::from_secs(20), || {
                let now = client.shake(address).expect("a handshake").presented();
                (now != before).then_some(())
            });
            slowest = slowest.max(began.elapsed());
            assert!(slowest < Duration::from_secs(5), "change {change} took {slowest:?}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let handshakes: Vec<u32> =
            loads.map(|load| load.join().expect("no handshake failed")).into();
        println!("{changes} changes, slowest {slowest:?}, handshakes beside {handshakes:?}");
    });
    assert_eq!(proxy.metric("ringway_config_last_reload_successful", ""), 1.0);
}

#[test]
fn a_bad_pair_leaves_the_old_one_and_heals() {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.issue("a", &["a.test"]);
    let other = authority.issue("b", &["a.test"]);
    let proxy = Ringway::start(&conf(&origin, &with(&[&pair])));
    let presented = || authority.client().shake(proxy.address()).expect("one").presented();
    let first = presented();
    let good = std::fs::read(&pair.key).expect("a key");
    std::fs::copy(&other.key, &pair.key).expect("copied");
    let line = proxy.wait_for_line("is not the key of the certificate");
    assert!(line.contains("listener.tls.certificates.key"), "{line}");
    assert!(presented() == first, "the old pair stays");
    assert_eq!(proxy.metric("ringway_config_last_reload_successful", ""), 0.0);
    std::fs::copy(&other.cert, &pair.cert).expect("copied");
    eventually("the new pair", Duration::from_secs(10), || (presented() != first).then_some(()));
    std::fs::write(&pair.key, good).expect("written");
    authority.issue("a", &["a.test"]);
    eventually("a healthy state", Duration::from_secs(10), || {
        (proxy.metric("ringway_config_last_reload_successful", "") == 1.0).then_some(())
    });
}

#[test]
fn expiry_is_told() {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let until = |days: u64| {
        move |params: &mut rcgen::CertificateParams| {
            let now = x509_parser::time::ASN1Time::now().to_datetime();
            params.not_before = now - Duration::from_secs(10 * 86_400);
            params.not_after =
                now - Duration::from_secs(86_400) + Duration::from_secs(days * 86_400);
        }
    };
    let soon = authority.issue_with("soon", &["a.test"], until(10));
    let expired = authority.issue_with("expired", &["b.test"], until(0));
    let check = |pair: &Pair| {
        let path = authority.directory().join("check.toml");
        let text = conf(&origin, &with(&[pair])).text().replace("{listen}", "127.0.0.1:1");
        std::fs::write(&path, text).expect("written");
        let command = Command::new(env!("CARGO_BIN_EXE_ringway")).arg("check").arg(&path).output();
        let output = command.expect("ringway check");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = check(&soon);
    assert!(
        code == Some(0) && text.contains("warning: ") && text.contains("expires in "),
        "{text}"
    );
    let (code, text) = check(&expired);
    assert!(code == Some(78) && text.contains("expired 1 day ago"), "{text}");
    let proxy = Ringway::start(&conf(&origin, &with(&[&soon])));
    let not_after = proxy.metric("ringway_certificate_not_after_seconds", "listener=\"edge\"");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let left = not_after - now.expect("after 1970").as_secs_f64();
    assert!((8.0..9.1).contains(&(left / 86_400.0)), "{left} s");
}

/// `ringway cert`, and what it made in use.
#[test]
fn certificates_to_develop_with() {
    let directory = tempfile::tempdir().expect("a directory");
    let cert = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
        let command = command.current_dir(directory.path()).arg("cert").args(arguments);
        let output = command.output().expect("ringway cert");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(cert(&["a.test", "127.0.0.1"]).contains("a new authority"));
    assert!(!cert(&["--client", "me"]).contains("a new authority"));
    let path = |name: &str| directory.path().join("certs").join(name);
    let pair = Pair { cert: path("a.test.pem"), key: path("a.test.key") };
    let origin = Origin::echo();
    let tls = format!("client_ca = {:?}, {}", path("ca.pem"), with(&[&pair]));
    let proxy = Ringway::start(&conf(&origin, &tls));
    let url = format!("https://127.0.0.1:{}/x", proxy.address().port());
    let output = Command::new("curl")
        .args(["-sS", "--cacert"])
        .arg(path("ca.pem"))
        .arg("--cert")
        .arg(path("me.pem"))
        .arg("--key")
        .arg(path("me.key"))
        .arg(&url)
        .output();
    let Ok(output) = output else {
        return skipped("certificates_to_develop_with", "apt-get install curl");
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text, "GET /x", "{}", String::from_utf8_lossy(&output.stderr));
}

/// A key that takes long to sign with holds no core up: other threads do it.
#[test]
fn slow_keys_sign_elsewhere() {
    let (origin, authority) = (Origin::echo(), Authority::new());
    let size = rcgen::RsaKeySize::_3072;
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).expect("a key");
    let pair = authority.issue_for("rsa", &["a.test"], key);
    let proxy = Ringway::start(&conf(&origin, &with(&[&pair])));
    for cut in [usize::MAX, 1, 7] {
        for number in 0..5 {
            let mut client = authority.client().cut(cut).connect(proxy.address());
            assert_eq!(client.fetch(&format!("/{number}")).text(), format!("GET /{number}"));
        }
    }
    // A hello that can't be served is told so by the same way.
    let mut stream = TcpStream::connect(proxy.address()).expect("connected");
    stream.write_all(&[22, 3, 1, 0, 5, 1, 0, 0, 1, 0]).expect("sent");
    let mut alert = Vec::new();
    stream.read_to_end(&mut alert).expect("closed in order");
    assert!(alert.starts_with(&[21, 3]), "an alert: {alert:?}");
    let threads = std::fs::read_dir(format!("/proc/{}/task", proxy.pid())).expect("threads");
    let names =
        threads.filter_map(|one| std::fs::read_to_string(one.ok()?.path().join("comm")).ok());
    assert_eq!(names.filter(|name| name.starts_with("ringway-sign-")).count(), 2);
}

/// Early data is served where a route says so, and marked; other requests wait for the handshake.
#[test]
fn early_data_where_a_route_takes_it() {
    if Command::new("openssl").arg("version").output().is_err() {
        return skipped("early_data_where_a_route_takes_it", "apt-get install openssl");
    }
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.issue("a", &["a.test"]);
    let tls = format!("early_data = true, {}", with(&[&pair]));
    let more = "[[route]]\nid = \"early\"\npath = \"/early\"\nupstream = \"origin\"\n\
                early_data = true\n";
    let proxy = Ringway::start(&conf(&origin, &tls).more(more));
    let file = |name: &str| authority.directory().join(name).display().to_string();
    let shell = |script: String| {
        let output = Command::new("sh").arg("-c").arg(script).output().expect("a shell");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let connect = format!(
        "timeout 10 openssl s_client -connect {} -servername a.test -tls1_3 -ign_eof",
        proxy.address()
    );
    for path in ["/early", "/late"] {
        let session = file("session");
        shell(format!(
            "(printf 'GET /first HTTP/1.1\\r\\nHost: a.test\\r\\nConnection: close\\r\\n\\r\\n'; \
             sleep 0.3) | {connect} -sess_out {session} 2>&1"
        ));
        let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        std::fs::write(file("request"), request).expect("written");
        let early = format!("{connect} -sess_in {session} -early_data {}", file("request"));
        let answer = shell(format!("sleep 0.3 | {early} 2>&1"));
        assert!(answer.contains("Early data was accepted"), "{answer}");
        assert!(answer.contains(&format!("GET {path}")), "{answer}");
        // A ticket is good once: who sends the same again is not heard early.
        let early = early.replace(" -ign_eof", ""); // nobody answers: it would wait for that
        let again = shell(format!("sleep 0.3 | {early} 2>&1"));
        assert!(again.contains("Early data was rejected"), "{again}");
    }
    let seen = origin.wait_seen(4);
    let marks: Vec<_> =
        seen.iter().map(|seen| (seen.head.word(1), seen.head.get("early-data"))).collect();
    let firsts = ("/first", None);
    assert_eq!(marks, [firsts, ("/early", Some("1")), firsts, ("/late", None)]);
}
