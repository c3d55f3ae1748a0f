//! HTTP/2 over TLS to endpoints, also of clients that come over TLS themselves.
//! Source: RFC 9113 §3.2, §8.3.1.

use std::{
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
};

use bytes::Bytes;
use http::{HeaderMap, Request};

use crate::support::{
    Conf, Origin, PATIENCE, Ringway, Step, eventually,
    frames::{Http2, block_on},
    process::find_program,
    ringway::free_address,
    skipped,
    tls::{Authority, Pair, server},
};

/// Speaks HTTP/2 over TLS with an endpoint, which is believed if `authority` has signed for it.
fn front(endpoint: SocketAddr, authority: &Authority, listener: &str) -> Ringway {
    let conf = Conf::to(endpoint).one_core().listener(listener).upstream("http = \"h2\"");
    let text = conf.text().replace("http://", "https://");
    let ca = authority.path();
    Ringway::start_text(&format!("{text}\n[upstream.tls]\nca = {ca:?}\nsni = \"a.test\"\n"))
}

/// TLS on a listener.
fn tls(pair: &Pair) -> String {
    format!("tls = {{ certificates = [{{ {} }}] }}", pair.toml())
}

#[test]
fn from_end_to_end() {
    let origin = Origin::auto(|seen| {
        let trailers: String =
            seen.trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let size = format!("{head}{:x}\r\n", seen.body.len());
        let end = format!("\r\n0\r\n{trailers}\r\n");
        vec![Step::Send([size.into_bytes(), seen.body.clone(), end.into_bytes()].concat())]
    });
    let authority = Authority::new();
    let pair = authority.issue("a", &["a.test"]);
    let only_h2 = format!("http = [\"h2\"]\n{}", tls(&pair));
    let behind = Ringway::start(&Conf::to(origin.address).one_core().listener(&only_h2));
    let proxy = front(behind.address(), &authority, &only_h2);
    let mut client = authority.client();
    client.alpn = vec![b"h2".to_vec()];
    let bridge = client.shake(proxy.address()).unwrap().bridge();
    bridge.set_nonblocking(true).unwrap();
    block_on(async {
        let stream = tokio::net::TcpStream::from_std(bridge).unwrap();
        let client = Http2::over(stream).await;
        for size in [1, 100_000, 3_000_000] {
            let body = Bytes::from(vec![b'z'; size]);
            let mut trailers = HeaderMap::new();
            trailers.insert("x-check", "abc".parse().unwrap());
            let request = Request::post("https://a.test/").body(()).unwrap();
            let answer = client.request(request, Some(body.clone()), Some(trailers)).await.unwrap();
            assert!(answer.body == body, "{size} bytes");
            assert_eq!(answer.trailers["x-check"], "abc");
        }
    });
    let seen = origin.wait_seen(3);
    assert!(seen.iter().all(|seen| seen.head.all("via") == ["2.0 ringway", "2.0 ringway"]));
    assert_eq!(behind.metric("ringway_connections_accepted_total", ""), 1.0, "one is shared");
    assert_eq!(behind.metric("ringway_http2_connections_total", ""), 1.0);
}

/// Another implementation as the endpoint, which tells what it was asked.
#[test]
fn an_endpoint_of_nghttp2() {
    let Some(program) = find_program("nghttpd") else {
        return skipped("an_endpoint_of_nghttp2", "apt-get install nghttp2-server");
    };
    let authority = Authority::new();
    let pair = authority.issue("a", &["a.test"]);
    let address = free_address();
    let directory = authority.directory().join("pages");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("page"), "of nghttpd").unwrap();
    let server = Command::new(program)
        .args(["-v", "--echo-upload", "-a", "127.0.0.1", "-d"])
        .arg(&directory)
        .arg(address.port().to_string())
        .args([&pair.key, &pair.cert])
        .stdout(Stdio::piped())
        .spawn();
    let mut server = Server(server.unwrap());
    eventually("nghttpd to listen", PATIENCE, || TcpStream::connect(address).ok());
    let proxy = front(address, &authority, "");
    let mut client = proxy.connect();
    let answer = client.fetch("/page");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "of nghttpd"));
    let body = vec![b'u'; 300_000];
    client.post("/page", &body);
    assert!(client.response().body == body);
    let _ = server.0.kill();
    let mut told = String::new();
    for line in BufReader::new(server.0.stdout.take().unwrap()).lines().map_while(Result::ok) {
        told += &line;
        told.push('\n');
    }
    for field in [":scheme: https", ":authority: a.test", ":path: /page"] {
        assert!(told.contains(field), "no {field} in\n{told}");
    }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// HTTP/2 is never spoken to an endpoint that did not agree to it.
#[test]
fn an_endpoint_that_does_not_agree() {
    let authority = Authority::new();
    let pair = authority.issue("a", &["a.test"]);
    // One that knows only HTTP/1.1, and says so; and one that knows nothing of ALPN.
    let origin = Origin::echo();
    let other = Ringway::start(&Conf::to(origin.address).one_core().listener(&tls(&pair)));
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_address = silent.local_addr().unwrap();
    let config = server(&pair);
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = silent.accept().unwrap();
        let mut tls = rustls::ServerConnection::new(config).unwrap();
        let mut plain = Vec::new();
        let _ = rustls::Stream::new(&mut tls, &mut stream).read_to_end(&mut plain);
        plain
    });
    for (endpoint, told) in
        [(other.address(), "NoApplicationProtocol"), (silent_address, "did not agree to HTTP/2")]
    {
        let proxy = front(endpoint, &authority, "");
        let answer = proxy.connect().fetch("/");
        assert_eq!((answer.status(), answer.reason()), (502, Some("upstream_tls_failed")));
        proxy.wait_for_line(told);
    }
    assert_eq!(reader.join().unwrap(), b"", "it was sent nothing");
}
