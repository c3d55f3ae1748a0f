//! TLS to endpoints: certificates both ways, what is cut off, what comes unasked.
//! Sources: RFC 8446, RFC 9112 §9.

use std::{
    io::{Read, Write},
    sync::mpsc,
};

use crate::support::{
    Conf, End, Origin, Ringway, pattern,
    tls::{Authority, server},
};
use crate::tls::{conf, with};

/// A ringway that speaks TLS as the endpoint of another one.
#[test]
fn endpoints_that_speak_tls() {
    let (origin, authority, others) = (Origin::echo(), Authority::new(), Authority::new());
    let pair = authority.issue("b", &["b.test"]);
    let ours = authority.issue("gateway", &["gateway"]);
    let tls = format!("client_ca = {:?}, {}", authority.path(), with(&[&pair]));
    let behind = Ringway::start(&conf(&origin, &tls));
    let front = |tls: &str| {
        let text = Conf::to(behind.address()).one_core().text().replace("http://", "https://");
        Ringway::start_text(&format!("{text}\n[upstream.tls]\n{tls}\n"))
    };
    let ca = |authority: &Authority| format!("ca = {:?}\n", authority.path());
    let good = format!("sni = \"b.test\"\n{}{}\n", ca(&authority), ours.toml().replace(", ", "\n"));
    let proxy = front(&good);
    let mut client = proxy.connect();
    for number in 0..20 {
        assert_eq!(client.fetch(&format!("/{number}")).text(), format!("GET /{number}"));
    }
    let body = pattern(300_000);
    client.post("/upload", &body);
    assert_eq!(client.response().text(), "POST /upload");
    assert!(origin.wait_seen(21)[20].body == body);
    assert_eq!(behind.metric("ringway_connections_accepted_total", ""), 1.0, "one is reused");
    // New rules with the same TLS: the session is resumed.
    let wrong_name = good.replace("b.test", "c.test");
    let wrong_ca = good.replace(&ca(&authority), &ca(&others));
    let no_certificate = format!("sni = \"b.test\"\n{}", ca(&authority));
    for (what, tls) in [("name", &wrong_name), ("ca", &wrong_ca), ("certificate", &no_certificate)]
    {
        let proxy = front(tls);
        let answer = proxy.connect().fetch("/");
        assert_eq!(answer.status(), 502, "{what}");
        if what != "certificate" {
            assert_eq!(answer.reason(), Some("upstream_tls_failed"), "{what}");
            proxy.wait_for_line("upstream `origin`: no TLS with");
        }
    }
    let careless = front(&format!("verify = false\n{}\n", ours.toml().replace(", ", "\n")));
    assert_eq!(careless.connect().fetch("/careless").text(), "GET /careless");
    careless.wait_for_line("are not checked");
}

/// An endpoint that is cut off inside TLS has not ended its response.
#[test]
fn what_an_endpoint_cuts_off_is_incomplete() {
    let authority = Authority::new();
    let pair = authority.issue("b", &["127.0.0.1"]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let config = server(&pair);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.expect("accepted");
            let mut tls = rustls::ServerConnection::new(config.clone()).expect("a session");
            let mut both = rustls::Stream::new(&mut tls, &mut stream);
            let mut request = [0; 1024];
            let _ = both.read(&mut request);
            let _ = both.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf");
            if number == 0 {
                tls.send_close_notify();
                let _ = tls.complete_io(&mut stream);
            }
        }
    });
    let text = Conf::to(address).one_core().text().replace("http://", "https://");
    let proxy =
        Ringway::start_text(&format!("{text}\n[upstream.tls]\nca = {:?}\n", authority.path()));
    let mut client = proxy.connect();
    let whole = client.fetch("/whole");
    assert_eq!((whole.text().as_str(), whole.end), ("half", End::Complete));
    let cut = proxy.connect().fetch("/cut");
    assert!(matches!(cut.end, End::Truncated(_)), "{:?}", cut.end);
}

/// What an endpoint sends without being asked is nobody's response, and its connection is not used again.
#[test]
fn what_an_endpoint_sends_unasked_ends_its_connection() {
    let authority = Authority::new();
    let pair = authority.issue("b", &["127.0.0.1"]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let config = server(&pair);
    let (was_answered, answered) = mpsc::channel();
    let (has_sent, sent) = mpsc::channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.expect("accepted");
            stream.set_nodelay(true).expect("set"); // or it would come behind the next request
            let mut tls = rustls::ServerConnection::new(config.clone()).expect("a session");
            let mut both = rustls::Stream::new(&mut tls, &mut stream);
            let _ = both.read(&mut [0; 1024]);
            let response = |what: &str| {
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{what}", what.len())
            };
            both.write_all(response(&format!("connection {number}")).as_bytes()).expect("sent");
            if number == 0 {
                answered.recv().expect("the client has it");
                both.write_all(response("nobody asked").as_bytes()).expect("sent");
                has_sent.send(()).expect("the test waits");
            }
            let _ = both.read_to_end(&mut Vec::new());
        }
    });
    let text = Conf::to(address).one_core().text().replace("http://", "https://");
    let proxy =
        Ringway::start_text(&format!("{text}\n[upstream.tls]\nca = {:?}\n", authority.path()));
    let mut client = proxy.connect();
    assert_eq!(client.fetch("/first").text(), "connection 0");
    was_answered.send(()).expect("the endpoint waits");
    sent.recv().expect("sent"); // on loopback it has arrived, then
    assert_eq!(client.fetch("/second").text(), "connection 1");
}
