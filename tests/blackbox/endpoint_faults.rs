//! Endpoints that speak HTTP/2 or TLS, and do it badly: garbage, half frames, resets, GOAWAY in the
//! middle. Every request is answered, none by half, and ringway serves on.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
};

use crate::support::{
    Conf, Origin, PATIENCE, Ringway,
    frames::{fields, frame},
    wire::End,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// What an endpoint does with a connection.
type Deed = Arc<dyn Fn(&mut TcpStream) + Send + Sync>;

/// An endpoint that does this to each connection, and then closes it.
fn endpoint(deed: &Deed) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, deed) = (listener.local_addr().expect("its address"), Arc::clone(deed));
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let deed = Arc::clone(&deed);
            std::thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(PATIENCE));
                deed(&mut stream);
            });
        }
    });
    address
}

/// Reads until the request's HEADERS have come.
fn read_request(stream: &mut TcpStream) {
    let mut bytes = [0; 24];
    let _ = stream.read_exact(&mut bytes); // the preface
    let mut head = [0; 9];
    while stream.read_exact(&mut head).is_ok() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).is_err() || head[3] == HEADERS {
            return;
        }
    }
}

/// Greets, reads the request, sends these bytes, closes.
fn after_request(bytes: Vec<u8>) -> Deed {
    Arc::new(move |stream| {
        let _ = stream.write_all(&frame(SETTINGS, 0, 0, &[]));
        read_request(stream);
        let _ = stream.write_all(&bytes);
    })
}

fn at_once(bytes: &'static [u8]) -> Deed {
    Arc::new(move |stream| {
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    })
}

/// Closes with a reset: what was received is not read.
fn reset() -> Deed {
    Arc::new(|stream| {
        let _ = stream.peek(&mut [0; 1]);
    })
}

/// One request after the other to an endpoint that fails each; whatever comes is no whole success.
fn assert_fails(proxy: &Ringway, what: &str) {
    for _ in 0..2 {
        let answer = proxy.connect().fetch("/x");
        let is_cut = answer.end != End::Complete;
        assert!(is_cut || (502..=504).contains(&answer.status()), "{what}: {}", answer.text());
    }
}

fn goaway(last: u32, error: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), error.to_be_bytes()].concat())
}

fn answer_head(end: bool) -> Vec<u8> {
    frame(HEADERS, if end { 5 } else { 4 }, 1, &fields(&[(":status", "200")]))
}

#[test]
fn endpoints_that_speak_http2_badly() {
    let half = |bytes: Vec<u8>| bytes[..bytes.len() - 3].to_vec();
    let data = frame(DATA, 0, 1, b"the first half");
    let cases: Vec<(&str, Deed)> = vec![
        ("HTTP/1 instead of a preface", at_once(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")),
        ("garbage", at_once(&[0xff; 64])),
        ("nothing", at_once(b"")),
        ("a reset", reset()),
        ("half of SETTINGS", at_once(&[0, 0, 6, 4, 0, 0, 0])),
        ("half of HEADERS", after_request(half(answer_head(true)))),
        ("half of DATA", after_request(half([answer_head(false), data.clone()].concat()))),
        ("a body without its end", after_request([answer_head(false), data].concat())),
        ("bad HPACK", after_request(frame(HEADERS, 5, 1, &[0xff; 9]))),
        ("a stream nobody opened", after_request(frame(DATA, 1, 7, b"x"))),
        ("a push nobody allowed", after_request(frame(PUSH_PROMISE, 4, 1, &[0, 0, 0, 2, 0x88]))),
        ("a window of nothing", after_request(frame(WINDOW_UPDATE, 0, 0, &[0; 4]))),
        ("a frame too long", after_request(vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1])),
        ("GOAWAY with an error", after_request(goaway(1, 1))),
        ("GOAWAY before the request", after_request(goaway(0, 0))),
        ("GOAWAY in the middle", after_request([answer_head(false), goaway(1, 2)].concat())),
    ];
    for (what, deed) in &cases {
        let conf = Conf::to(endpoint(deed)).one_core().upstream("http = \"h2\"");
        let proxy = Ringway::start(&conf.timeout("response = \"2s\""));
        assert_fails(&proxy, what);
        assert_eq!(proxy.metric("ringway_panics_total", ""), 0.0, "{what}");
    }
}

#[test]
fn endpoints_that_speak_tls_badly() {
    let origin = Origin::echo();
    let cases: Vec<(&str, Deed)> = vec![
        ("plain HTTP", at_once(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")),
        ("garbage", at_once(&[0xff; 64])),
        ("nothing", at_once(b"")),
        ("a reset", reset()),
        ("half a record", at_once(&[22, 3, 3, 0, 80, 2, 0, 0])),
        ("an alert", at_once(&[21, 3, 3, 0, 2, 2, 40])),
        ("an empty handshake record", at_once(&[22, 3, 3, 0, 0])),
    ];
    for http in ["h1", "h2"] {
        for (what, deed) in &cases {
            let bad = format!("https://{}", endpoint(deed));
            let conf = Conf::to(origin.address).one_core().upstream(&format!("http = \"{http}\""));
            let text = conf.timeout("connect = \"2s\"").text();
            let text = text.replace(&format!("http://{}", origin.address), &bad);
            let proxy = Ringway::start_text(&format!("{text}\n[upstream.tls]\nverify = false\n"));
            assert_fails(&proxy, what);
            assert_eq!(proxy.metric("ringway_panics_total", ""), 0.0, "{what}");
        }
    }
}
