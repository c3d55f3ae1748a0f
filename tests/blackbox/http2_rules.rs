//! Rules of HTTP/2 that the crate below does not hold, and trailers beside a length.

use bytes::Bytes;
use http::{Method, Response};

use crate::support::{
    Conf, Origin, PATIENCE, Ringway, eventually,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, Raw, SETTINGS,
        WINDOW_UPDATE, endpoint, fields, frame, get,
    },
};

const PROTOCOL_ERROR: u32 = 1;

fn start(origin: &Origin) -> Ringway {
    Ringway::start(&Conf::to(origin.address).one_core().listener("http = [\"h1\", \"h2\"]"))
}

#[test]
fn a_connection_begins_with_settings() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let hello = frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/never"));
    for first in [frame(PING, 0, 0, b"12345678"), frame(SETTINGS, 1, 0, b""), hello] {
        for is_cut in [false, true] {
            let mut raw = Raw::silent(proxy.address());
            let bytes = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &first].concat();
            let (start, rest) = bytes.split_at(if is_cut { 24 } else { bytes.len() });
            raw.send(start);
            if is_cut {
                raw.wait_for(SETTINGS);
                raw.try_send(rest);
            }
            assert_eq!(raw.wait_for(GOAWAY).code(), PROTOCOL_ERROR);
            assert!(raw.read_to_end(PATIENCE).1, "the connection ends");
        }
    }
    assert_eq!(origin.seen_count(), 0);
    assert!(proxy.metric("ringway_http2_violations_total", "") >= 6.0);
}

/// Who has sent the preface and no SETTINGS has not begun.
#[test]
fn a_preface_alone_has_a_deadline() {
    let origin = Origin::echo();
    let conf = Conf::to(origin.address).one_core().listener("http = [\"h1\", \"h2\"]");
    let proxy = Ringway::start(&conf.limit("header_timeout = \"300ms\""));
    let mut raw = Raw::silent(proxy.address());
    raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    raw.wait_for(GOAWAY);
    assert!(raw.read_to_end(PATIENCE).1, "the connection ends");
}

#[test]
fn trailers_have_no_pseudo_fields() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let mut head = vec![0x44, 2, b'/', b'r']; // `:path`, to be remembered
    head.extend(fields(&[(":method", "POST"), (":scheme", "http"), (":authority", "a.test")]));
    let trailers = [
        fields(&[(":path", "/x")]),
        fields(&[(":status", "200")]),
        fields(&[("x", "y"), (":unknown", "x")]),
        vec![0x84],          // `:path: /` by its index
        vec![0x41, 1, b'b'], // `:authority` by its index
        vec![0xbe],          // the first entry of the client's own table
    ];
    for block in &trailers {
        for cut in [0, block.len() - 1] {
            let mut raw = Raw::connect(proxy.address());
            raw.frame(HEADERS, END_HEADERS, 1, &head);
            raw.frame(DATA, 0, 1, b"abc");
            raw.frame(HEADERS, END_STREAM, 1, &block[..cut]);
            raw.frame(CONTINUATION, END_HEADERS, 1, &block[cut..]);
            assert_ne!(raw.outcome(1), 200, "{block:02x?}");
        }
    }
    assert!(origin.seen().iter().all(|seen| !seen.whole), "no request looks complete");
    drop(origin.take_garbage());
    let mut raw = Raw::connect(proxy.address());
    raw.frame(HEADERS, END_HEADERS, 1, &head);
    raw.frame(DATA, 0, 1, b"abc");
    raw.frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(&[("x", ":path")]));
    assert_eq!(raw.outcome(1), 200);
}

/// Values of trailers are those of fields: no space at either end, wherever the trailers go.
#[test]
fn values_of_trailers_have_no_spaces_around_them() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let head = [(":method", "POST"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")];
    for length in [None, Some(("content-length", "3"))] {
        let head = fields(&head.into_iter().chain(length).collect::<Vec<_>>());
        for (value, outcome) in
            [(" v", -1), ("v ", -1), ("\tv", -1), ("v\t", -1), (" ", -1), ("v v", 200)]
        {
            let mut raw = Raw::connect(proxy.address());
            raw.frame(HEADERS, END_HEADERS, 1, &head);
            raw.frame(DATA, 0, 1, b"abc");
            raw.frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(&[("x", value)]));
            assert_eq!(raw.outcome(1), outcome, "{value:?} {length:?}");
        }
    }
    let malformed = || proxy.metric("ringway_http2_streams_malformed_total", "");
    eventually("all to be counted", PATIENCE, || (malformed() >= 10.0).then_some(()));
    drop(origin.take_garbage());
}

/// What is malformed about one request hurts no other one on its connection, in whatever form it comes, now or by its index later.
#[test]
fn malformed_requests_end_their_own_streams() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let mut raw = Raw::connect(proxy.address());
    raw.frame(HEADERS, END_HEADERS, 1, &{
        let head = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
        fields(&head)
    });
    let start = [0x82, 0x86, 0x41, 1, b'a'];
    let mut stream = 1;
    for (rest, is_kept) in [
        (&[0x84, 0x40, 1, b'X', 1, b'x'][..], true),
        (&[0x84, 0x40, 1, b'x', 1, b'\n'], true),
        (&[0x84, 0x40, 0x82, 0xfc, 0xf3, 1, b'x'], true), // `Xx` in the Huffman code
        (&[0x84, 0x40, 4, b':', b'f', b'o', b'o', 1, b'x'], false),
        (&[0x44, 2, b'/', 0xe9], false),
        (&[0x04, 4, b'/', b'a', b'#', b'b'], false),
        (&[0x44, 0x84, 0x60, 0x7f, 0xf4, 0x3f], false), // `/a#a`
    ] {
        let block = [&start[..], rest].concat();
        for cut in [block.len(), block.len() - 1] {
            stream += 2;
            let head = frame(HEADERS, END_STREAM | END_HEADERS, stream, &block);
            raw.send(&head[..9 + cut]);
            raw.send(&head[9 + cut..]);
            assert_eq!(raw.outcome(stream), -i64::from(PROTOCOL_ERROR), "{block:02x?}");
        }
        if is_kept {
            stream += 2;
            let again = [&start[..], &[0x84, 0xbf]].concat(); // behind `:authority`
            raw.frame(HEADERS, END_STREAM | END_HEADERS, stream, &again);
            assert_eq!(raw.outcome(stream), -i64::from(PROTOCOL_ERROR), "{block:02x?} again");
        }
    }
    raw.frame(HEADERS, END_STREAM | END_HEADERS, stream + 2, &get("/ok"));
    assert_eq!(raw.outcome(stream + 2), 200);
    raw.frame(DATA, END_STREAM, 1, b"abc");
    assert_eq!(raw.outcome(1), 200, "the one that was under way all the time");
    assert_eq!(origin.seen_count(), 2);
}

#[test]
fn what_is_wrong_is_called_by_its_name() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let hello = |block: &[u8]| frame(HEADERS, END_STREAM | END_HEADERS, 1, block);
    for (bytes, code) in [
        (frame(PING, 0, 0, b"1234567"), 6),
        ([frame(HEADERS, END_STREAM, 1, &[0x82]), frame(DATA, END_STREAM, 1, b"x")].concat(), 1),
        (frame(SETTINGS, 0, 0, b"12345"), 6),
        (frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]), 3),
        (hello(&[0x80]), 9),
        (hello(&[0x82, 0x84, 0xff, 0xff, 0x7f]), 9),
        (hello(&[0x3f, 0xe2, 0x1f]), 9),
        (hello(&get("/a")[..7]), 9),
        (hello(&[&get("/a")[..], &[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]].concat()), 9),
        (hello(&[&get("/a")[..], &[0, 1, b'x', 0x82, 0x1f, 0xff]].concat()), 9),
    ] {
        let mut raw = Raw::connect(proxy.address());
        raw.send(&bytes);
        assert_eq!(raw.wait_for(GOAWAY).code(), code, "{bytes:02x?}");
        assert!(raw.read_to_end(PATIENCE).1, "the connection ends");
    }
    assert_eq!(origin.seen_count(), 0);
    let whole = hello(&get("/a"));
    for behind in [frame(DATA, END_STREAM, 1, b"x"), whole.clone()] {
        let mut raw = Raw::connect(proxy.address());
        raw.send(&[whole.clone(), behind].concat());
        assert_eq!(raw.wait_for(GOAWAY).code(), 5, "the stream was closed");
    }
}

/// Of six bytes each: three windows of a stream.
const MANY: usize = 30_000;

/// A small message of gRPC, the nth of a stream.
fn message(n: usize) -> Bytes {
    Bytes::copy_from_slice(&[0, 0, 0, 0, 1, (n % 251) as u8])
}

/// Takes nothing of an upload, and answers `/many` with thousands of small messages.
async fn serve_slowly(stream: tokio::net::TcpStream) {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(0);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let (mut uploads, mut open) = (Vec::new(), Vec::new()); // dropped, they would be reset
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        if request.method() == Method::POST {
            uploads.push((request, respond));
            continue;
        }
        let is_many = request.uri().path() == "/many";
        let Ok(mut send) = respond.send_response(Response::new(()), !is_many) else { continue };
        for n in 0..if is_many { MANY } else { 0 } {
            let _ = send.send_data(message(n), false);
        }
        open.push(send);
    }
}

/// Windows full of messages of a few bytes, as gRPC sends them, are no flood: neither end gives its connection
/// up, which others share. They come when there is room for them.
#[test]
fn small_messages_that_wait_end_no_connection() {
    const STREAMS: u32 = 8;
    let conf = Conf::to(endpoint(serve_slowly)).one_core().upstream("http = \"h2\"");
    let proxy = Ringway::start(&conf.listener("http = [\"h1\", \"h2\"]"));
    let mut raw = Raw::connect(proxy.address());
    let head = [(":method", "POST"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")];
    raw.frame(HEADERS, END_HEADERS, 1, &fields(&head));
    for _ in 0..100 {
        raw.send(&frame(DATA, 0, 1, b"\0\0\0\0\x01x").repeat(100));
    }
    raw.frame(HEADERS, END_STREAM | END_HEADERS, 3, &get("/"));
    assert_eq!(raw.outcome(3), 200);
    let mut slow = Raw::connect_with(proxy.address(), &[(4, 0)]);
    for stream in (1..2 * STREAMS).step_by(2) {
        slow.frame(HEADERS, END_STREAM | END_HEADERS, stream, &get("/many"));
        assert_eq!(slow.outcome(stream), 200);
    }
    for stream in (5..45).step_by(2) {
        raw.frame(HEADERS, END_STREAM | END_HEADERS, stream, &get("/"));
        assert_eq!(raw.outcome(stream), 200);
    }
    for stream in (1..2 * STREAMS).step_by(2) {
        let expected: Vec<u8> = (0..MANY).flat_map(message).collect();
        let bytes = (expected.len() as u32).to_be_bytes();
        slow.frame(WINDOW_UPDATE, 0, 0, &bytes);
        slow.frame(WINDOW_UPDATE, 0, stream, &bytes);
        let mut came = Vec::new();
        while came.len() < expected.len() {
            came.extend(slow.wait_for(DATA).payload);
        }
        assert!(came == expected, "stream {stream}");
    }
    assert_eq!(proxy.metric("ringway_http2_violations_total", ""), 0.0);
    assert_eq!(proxy.metric("ringway_upstream_connects_total", ""), 1.0);
}

/// Answers with a message and an empty DATA frame, before the one that ends the stream.
async fn serve_with_empty_data(stream: tokio::net::TcpStream) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let Ok(mut send) = respond.send_response(Response::new(()), false) else { continue };
        for (data, ended) in [("x", false), ("", false), ("", true)] {
            let _ = send.send_data(Bytes::from_static(data.as_bytes()), ended);
        }
    }
}

/// Some clients end each request, and some endpoints each answer, with an empty DATA frame, or have one before it.
/// The crate takes 100 of the latter, which would end a connection that lives for long.
#[test]
fn empty_data_beside_messages_ends_no_connection() {
    const AT_ONCE: u32 = 50;
    let conf = Conf::to(endpoint(serve_with_empty_data)).one_core().upstream("http = \"h2\"");
    let proxy = Ringway::start(&conf.listener("http = [\"h1\", \"h2\"]"));
    let mut raw = Raw::connect(proxy.address());
    let head = [(":method", "POST"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")];
    for empty in [0, 1] {
        for batch in 0..1_000 / AT_ONCE {
            let streams = (0..AT_ONCE).map(|n| ((empty * 1_000 + batch * AT_ONCE + n) * 2) + 1);
            for stream in streams.clone() {
                raw.frame(HEADERS, END_HEADERS, stream, &fields(&head));
                raw.frame(DATA, 0, stream, b"abc");
                raw.send(&frame(DATA, 0, stream, b"").repeat(empty as usize));
                raw.frame(DATA, END_STREAM, stream, b"");
            }
            let mut left: Vec<u32> = streams.collect();
            while !left.is_empty() {
                let ended = raw.wait_for(DATA);
                if ended.flags & END_STREAM != 0 {
                    left.retain(|stream| *stream != ended.stream);
                }
            }
        }
    }
    assert_eq!(proxy.metric("ringway_http2_violations_total", ""), 0.0);
    let connects = proxy.metric("ringway_upstream_connects_total", "");
    assert!(connects <= 4.0, "{connects} connections for 2,000 answers");
}
