//! TLS on listeners: names and certificates, versions, resumption, certificates of clients, torn and
//! cut input, plain text on the wrong port.
//! Sources: RFC 8446, RFC 5246, RFC 6066 §3, RFC 7301.

use std::{io::Write, net::TcpStream, process::Command, time::Duration};

use crate::support::{
    Client, Conf, End, Origin, Ringway, Step, eventually, pattern, skipped,
    tls::{Authority, Pair},
};

fn conf(origin: &Origin, tls: &str) -> Conf {
    Conf::to(origin.address).one_core().listener(&format!("tls = {{ {tls} }}"))
}

fn with(pairs: &[&Pair]) -> String {
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
    Client::over(stream).assert_closed();
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
    let refusals = proxy.metric("ringway_tls_handshakes_total", "result=\"certificate\"");
    assert_eq!(refusals, 2.0);
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

/// OpenSSL as the peer: versions, resumption with either, no name.
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
