//! Endpoints that speak HTTP/2 or TLS, and do it badly: garbage, half frames, resets, GOAWAY in the
//! middle. Every request is answered, none by half, and ringway serves on.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
};

use crate::support::{
    Conf, Origin, PATIENCE, Ringway,
    frames::{END_HEADERS, END_STREAM, Frame, RST_STREAM, Raw, WINDOW_UPDATE, fields, frame, get},
    wire::End,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;

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

/// Answers the nth request of a connection with the nth of these, whose stream is put in where none is; the streams that were
/// reset meanwhile and why.
fn one_after_the_other(answers: Vec<Vec<Frame>>) -> (SocketAddr, mpsc::Receiver<(u32, u32)>) {
    let (tell, told) = mpsc::channel();
    let deed: Deed = Arc::new(move |stream| {
        let _ = stream.write_all(&frame(SETTINGS, 0, 0, &[]));
        let _ = stream.read_exact(&mut [0; 24]); // the preface
        let (mut answers, mut head) = (answers.iter(), [0; 9]);
        while stream.read_exact(&mut head).is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let mut payload = vec![0; length as usize];
            let _ = stream.read_exact(&mut payload);
            match head[3] {
                HEADERS => {
                    let Some(answer) = answers.next() else { return };
                    let of = |one: &Frame| if one.stream == 0 { id } else { one.stream };
                    let put = |one: &Frame| frame(one.kind, one.flags, of(one), &one.payload);
                    let _ = stream.write_all(&answer.iter().flat_map(put).collect::<Vec<u8>>());
                }
                RST_STREAM => {
                    let code = u32::from_be_bytes(payload.try_into().expect("a code"));
                    let _ = tell.send((id, code));
                }
                _ => {}
            }
        }
    });
    (endpoint(&deed), told)
}

/// Pseudo-fields where no response has them: 502, or a cut where the head has gone, and a reset of that
/// stream alone; the connection goes on.
#[test]
fn pseudo_fields_of_responses_are_where_they_belong() {
    let head = |flags: u8, block: Vec<u8>| Frame {
        kind: HEADERS,
        flags: flags | END_HEADERS,
        stream: 0,
        payload: block,
    };
    let data =
        |flags, bytes: &[u8]| Frame { kind: DATA, flags, stream: 0, payload: bytes.to_vec() };
    let ok = |more: &[(&str, &str)]| fields(&[&[(":status", "200")], more].concat());
    let trailers = |block| vec![head(0, ok(&[])), data(0, b"ok"), head(END_STREAM, block)];
    let bad: Vec<(&str, Vec<Frame>)> = vec![
        ("a path", vec![head(END_STREAM, ok(&[(":path", "/")]))]),
        ("a path by its index", vec![head(END_STREAM, vec![0x88, 0x84])]),
        ("a path before more to come", vec![head(0, ok(&[(":path", "/")]))]),
        ("a method first", vec![head(END_STREAM, vec![0x82, 0x88])]),
        (
            "an authority and a body",
            vec![head(0, ok(&[(":authority", "a")])), data(END_STREAM, b"ok")],
        ),
        ("a protocol", vec![head(0, ok(&[(":scheme", "http")])), data(END_STREAM, b"ok")]),
        (
            "a path in an interim",
            vec![head(0, fields(&[(":status", "103"), (":path", "/")])), head(END_STREAM, ok(&[]))],
        ),
        ("an interim that ends", vec![head(END_STREAM, fields(&[(":status", "103")]))]),
        ("no status", vec![head(END_STREAM, fields(&[("x", "y")]))]),
        ("two of them", vec![head(END_STREAM, vec![0x88, 0x88])]),
        (
            "a status behind a field",
            vec![head(END_STREAM, fields(&[("x", "y"), (":status", "200")]))],
        ),
        ("a status in trailers", trailers(ok(&[]))),
        ("the same by its index", trailers(vec![0x88])),
        ("a path in trailers", trailers(fields(&[("x", "y"), (":path", "/")]))),
        ("a head behind the head", vec![head(0, ok(&[])), head(END_STREAM, ok(&[]))]),
    ];
    let good: Vec<(&str, Vec<Frame>)> = vec![
        ("a plain one", vec![head(0, ok(&[])), data(END_STREAM, b"ok")]),
        ("trailers", trailers(fields(&[("x", ":path")]))),
        (
            "interim ones, in the table of the sender",
            vec![
                head(0, vec![0x48, 3, b'1', b'0', b'3']),
                head(0, vec![0xbe]),
                head(0, vec![0x48, 0x82, 0x10, 0x01]), // 200 in the Huffman code, newest in the table
                data(0, b"ok"),
                head(END_STREAM, fields(&[("x", "y")])),
            ],
        ),
        ("the same again", vec![head(0, vec![0xbf]), head(0, vec![0xbe]), data(END_STREAM, b"ok")]),
    ];
    let answers = good.iter().chain(&bad).chain(&good[..2]).map(|(_, frames)| frames.clone());
    let (address, resets) = one_after_the_other(answers.collect());
    let proxy = Ringway::start(&Conf::to(address).one_core().upstream("http = \"h2\""));
    let names = good.iter().map(|one| (one.0, true)).chain(bad.iter().map(|one| (one.0, false)));
    for (n, (name, is_good)) in names.chain([("a plain one", true), ("trailers", true)]).enumerate()
    {
        let answer = proxy.connect().fetch("/x");
        let is_whole = answer.end == End::Complete && answer.status() == 200;
        assert_eq!(is_whole, is_good, "{name}: {} {}", answer.status(), answer.text());
        if is_good {
            assert_eq!(answer.text(), "ok", "{name}");
            continue;
        }
        assert!(
            answer.status() == 502 || answer.end != End::Complete,
            "{name}: {}",
            answer.status()
        );
        if name.ends_with("to come") {
            assert_eq!(resets.recv_timeout(PATIENCE), Ok((2 * n as u32 + 1, 1)), "{name}");
        }
    }
    let invalid = proxy.metric("ringway_answers_total", "reason=\"upstream_invalid\"");
    assert!(invalid >= 8.0, "{invalid} are counted");
}

/// A response that is malformed costs its own stream, and not the connection that it shares with others.
#[test]
fn a_bad_response_hurts_nobody_else() {
    let head = |payload: Vec<u8>| Frame {
        kind: HEADERS,
        flags: END_HEADERS | END_STREAM,
        stream: 0,
        payload,
    };
    let with = |name, value| fields(&[(":status", "200"), (name, value)]);
    let kept = |mut block: Vec<u8>| {
        block[0] = 0x40; // literals begin with how they are kept
        block
    };
    let bad = [
        fields(&[(":foo", "x"), (":status", "200")]),
        with(":foo", "x"),
        with("X-Upper", "x"),
        with("x y", "x"),
        with("x", "a\0b"),
        with("x", "a\r\nb: c"),
        with("connection", "close"),
        with("content-length", "7"),
        fields(&[(":status", "20")]),
        fields(&[(":status", "2000")]),
        vec![0x08, 3, b'a', b'b', b'c'],
        vec![0x48, 0x81, 0x07],                   // `0` in the Huffman code
        vec![0x88, 0, 0x82, 0xfc, 0xf3, 1, b'x'], // `Xx`
        [vec![0x88], kept(fields(&[("X-K", "x")]))].concat(),
        vec![0x88, 0xbe], // the same by its index
        [vec![0x88], kept(fields(&[("x-k", "x")]))].concat(),
    ];
    let data =
        |flags, stream, bytes: &[u8]| Frame { kind: DATA, flags, stream, payload: bytes.to_vec() };
    let mut begun = head(vec![0x88]);
    begun.flags = END_HEADERS;
    let mut answers = vec![vec![begun, data(0, 0, b"one ")]];
    answers.extend(bad.iter().map(|block| vec![head(block.clone())]));
    answers.push(vec![head(vec![0x88, 0xbe]), data(END_STREAM, 1, b"other")]);
    let (address, _) = one_after_the_other(answers);
    let conf = Conf::to(address).one_core().upstream("http = \"h2\"");
    let proxy = Ringway::start(&conf.listener("http = [\"h1\", \"h2\"]"));
    let mut shared = Raw::connect(proxy.address());
    shared.frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/shared"));
    assert_eq!(shared.wait_for(DATA).payload, b"one ");
    for (n, block) in bad.iter().enumerate() {
        let expected = if n + 1 == bad.len() { 200 } else { 502 };
        assert_eq!(proxy.connect().fetch("/bad").status(), expected, "{block:02x?}");
    }
    assert_eq!(proxy.connect().fetch("/last").status(), 200);
    assert_eq!(shared.wait_for(DATA).payload, b"other");
    assert_eq!(proxy.metric("ringway_upstream_connects_total", ""), 1.0);
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
