//! Endpoints that speak HTTP/2 or TLS, and do it badly: garbage, half frames, resets, GOAWAY in the
//! middle. Every request is answered, none by half, and ringway serves on.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
};

use crate::support::{
    Conf, Origin, PATIENCE, Ringway,
    frames::{
        CONTINUATION, END_HEADERS, END_STREAM, Frame, RST_STREAM, Raw, WINDOW_UPDATE, fields,
        frame, get,
    },
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
            let stream = 2 * n as u32 + 1;
            let mut resets = std::iter::from_fn(|| resets.recv_timeout(PATIENCE).ok());
            assert_eq!(resets.find(|reset| reset.0 == stream), Some((stream, 1)), "{name}");
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

/// What is wrong on one stream before its response, behind it or without one: that stream is reset, and all others go on. The
/// bytes of bodies that nobody takes are given back to the window of the connection.
#[test]
fn what_breaks_one_stream_hurts_nobody_else() {
    const PROTOCOL_ERROR: u32 = 1;
    let one = |kind, flags, stream, payload: &[u8]| Frame {
        kind,
        flags,
        stream,
        payload: payload.to_vec(),
    };
    let head = |flags, block: &[u8]| one(HEADERS, END_HEADERS | flags, 0, block);
    let data = |flags, bytes: &[u8]| one(DATA, flags, 0, bytes);
    let nothing = one(WINDOW_UPDATE, 0, 0, &[0; 4]);
    let large = data(0, &[b'x'; 16_000]);
    let alone = |block: &[u8]| vec![head(END_STREAM, block)];
    let mut bad = vec![
        ("a body without a head", vec![data(END_STREAM, b"early")]),
        ("a body before its head", vec![data(0, b"early"), head(END_STREAM, &[0x88])]),
        ("an empty one", vec![data(0, b""), head(0, &[0x88]), data(END_STREAM, b"late")]),
        (
            "one behind an interim head",
            vec![head(0, &[0x08, 3, b'1', b'0', b'3']), data(END_STREAM, b"early")],
        ),
        ("one behind the end", vec![head(END_STREAM, &[0x88]), data(END_STREAM, b"late")]),
        ("a window of nothing", vec![nothing.clone()]),
        ("the same in a response", vec![head(0, &[0x88]), data(0, b"part"), nothing]),
        ("a name of no bytes", alone(&[0x88, 0, 0, 1, b'x'])),
        ("the same in the table", alone(&[0x88, 0x40, 0, 1, b'x'])),
        ("the same by its index", alone(&[0x88, 0xbe])),
        (
            "CR LF in the Huffman code",
            alone(&[
                0x88, 0x40, 1, b'x', 0x89, 0x1f, 0xff, 0xff, 0xff, 0xbf, 0xff, 0xff, 0xfe, 0x47,
            ]),
        ),
        ("a name beyond ASCII in it", alone(&[0x88, 0x40, 0x84, 0x1f, 0xff, 0xf3, 0x7f, 1, b'x'])),
        ("a method with a space", alone(&[0x88, 0x42, 3, b'G', b' ', b'T'])),
        ("a path that is no text", alone(&[0x88, 0x04, 1, 0xff])),
        ("more than 32 KiB out of the table", {
            let long = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat();
            vec![head(0, &[&[0x88][..], &long, &[0xbe; 10]].concat())]
        }),
        ("more than 32 KiB in many frames", {
            let field = [&[0, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat();
            let more =
                |n| one(CONTINUATION, if n == 3 { END_HEADERS } else { 0 }, 0, &field.repeat(4));
            [one(HEADERS, 0, 0, &[0x88])].into_iter().chain((0..4).map(more)).collect()
        }),
        ("a name in a frame behind", {
            let rest = [0, 2, b'X', b'y', 1, b'z'];
            vec![one(HEADERS, END_STREAM, 0, &[0x88]), one(CONTINUATION, END_HEADERS, 0, &rest)]
        }),
        ("a long status", alone(&[&[0x48, 0x7f, 1][..], &[b'2'; 128]].concat())),
    ];
    bad.extend((0..300).map(|_| ("a large body without a head", vec![large.clone(); 4])));
    let mut answers = vec![vec![head(0, &[0x88]), data(0, b"one ")]];
    answers.extend(bad.iter().map(|(_, frames)| frames.clone()));
    answers.push(vec![head(END_STREAM, &[0x88]), one(DATA, END_STREAM, 1, b"other")]);
    let (address, resets) = one_after_the_other(answers);
    let conf = Conf::to(address).one_core().upstream("http = \"h2\"");
    let proxy = Ringway::start(&conf.listener("http = [\"h1\", \"h2\"]"));
    let mut shared = Raw::connect(proxy.address());
    shared.frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/shared"));
    assert_eq!(shared.wait_for(DATA).payload, b"one ");
    for (n, (name, _)) in bad.iter().enumerate() {
        let answer = proxy.connect().fetch("/bad");
        let is_cut = answer.end != End::Complete;
        assert!(is_cut || answer.status() == 502, "{name}: {}", answer.status());
        let stream = 2 * n as u32 + 3;
        let reset = resets.recv_timeout(PATIENCE);
        assert_eq!(reset, Ok((stream, PROTOCOL_ERROR)), "{name}");
    }
    assert_eq!(proxy.connect().fetch("/last").status(), 200);
    assert_eq!(shared.wait_for(DATA).payload, b"other");
    assert_eq!(proxy.metric("ringway_upstream_connects_total", ""), 1.0);
}

/// Interim responses wait for their stream, and no window bounds them. More of them than are passed on cost their response, and a
/// flood its connection, with what shares it, at once.
#[test]
fn a_flood_of_interim_responses_ends_the_connection() {
    let is_flood = |count| {
        let AtHand { address, asked, .. } = AtHand::start();
        let conf = Conf::to(address).one_core().upstream("http = \"h2\"");
        let proxy = Ringway::start(&conf.listener("http = [\"h1\", \"h2\"]"));
        let mut shared = Raw::connect(proxy.address());
        shared.frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/shared"));
        let (id, mut wire) = asked.recv_timeout(PATIENCE).expect("the request");
        let begun = [frame(HEADERS, END_HEADERS, id, &[0x88]), frame(DATA, 0, id, b"one ")];
        wire.write_all(&begun.concat()).expect("it is read");
        assert_eq!(shared.wait_for(DATA).payload, b"one ");
        let mut client = proxy.connect();
        client.get("/x");
        let (id, _) = asked.recv_timeout(PATIENCE).expect("the request");
        let interim = frame(HEADERS, END_HEADERS, id, &[0x08, 3, b'1', b'0', b'3']);
        let _ = wire.write_all(&interim.repeat(count)); // it may be ended before
        assert_eq!(client.response().status(), 502, "{count} of them");
        let _ = wire.write_all(&frame(DATA, END_STREAM, 1, b"other"));
        std::iter::from_fn(|| shared.next()).find(|one| matches!(one.kind, DATA | RST_STREAM))
    };
    assert_eq!(is_flood(900).expect("the rest").payload, b"other");
    assert_eq!(is_flood(1_100).expect("an end").kind, RST_STREAM);
}

/// An endpoint on whose connections the test speaks.
struct AtHand {
    address: SocketAddr,
    /// The streams that were opened, each with its connection.
    asked: mpsc::Receiver<(u32, TcpStream)>,
    /// Those that were reset, and why.
    resets: mpsc::Receiver<(u32, u32)>,
}

impl AtHand {
    fn start() -> Self {
        let ((ask, asked), (tell, resets)) = (mpsc::channel(), mpsc::channel());
        let deed: Deed = Arc::new(move |stream| {
            let _ = stream.write_all(&frame(SETTINGS, 0, 0, &[]));
            let _ = stream.read_exact(&mut [0; 24]); // the preface
            let mut head = [0; 9];
            while stream.read_exact(&mut head).is_ok() {
                let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
                let _ = stream.read_exact(&mut payload);
                let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                match head[3] {
                    HEADERS => drop(ask.send((id, stream.try_clone().expect("a second handle")))),
                    RST_STREAM => {
                        let code = u32::from_be_bytes(payload.try_into().expect("a code"));
                        let _ = tell.send((id, code));
                    }
                    _ => {}
                }
            }
        });
        Self { address: endpoint(&deed), asked, resets }
    }
}

/// A malformed header block that comes in two pieces, with new rules in between, or the beginning of the end: it costs its own stream,
/// wherever it is cut.
#[test]
fn a_bad_response_that_comes_in_two_pieces() {
    let blocks = [
        [vec![0x88], fields(&[("X-Upper", "a\0b")])].concat(),
        fields(&[(":foo", "x"), (":status", "200")]),
        vec![0x48, 3, b'2', b'0', b'x'],
        vec![0x88, 0x40, 0x82, 0xfc, 0xf3, 0x83, 0x1f, 0xfe, 0x3f], // `Xx`, `a\0` in the Huffman code
        vec![0x88, 0x40, 0, 1, b'x'],
    ];
    let AtHand { address, asked, resets } = AtHand::start();
    let conf = || {
        let conf = Conf::to(address).one_core().upstream("http = \"h2\"");
        conf.listener("http = [\"h1\", \"h2\"]").runtime("drain_timeout = \"20s\"")
    };
    let proxy = Ringway::start(&conf());
    let mut client = Raw::connect(proxy.address());
    client.frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/shared"));
    let (shared, mut wire) = asked.recv_timeout(PATIENCE).expect("the request");
    let begun = [frame(HEADERS, END_HEADERS, shared, &[0x88]), frame(DATA, 0, shared, b"one ")];
    wire.write_all(&begun.concat()).expect("it is read");
    assert_eq!(client.wait_for(DATA).payload, b"one ");
    let mut seconds = 20;
    let mut torn = |block: &[u8], cut: usize, between: &mut dyn FnMut(String)| {
        let mut other = proxy.connect();
        other.get("/x");
        let (id, mut wire) = asked.recv_timeout(PATIENCE).expect("the request");
        let bytes = frame(HEADERS, END_HEADERS | END_STREAM, id, block);
        wire.write_all(&bytes[..cut]).expect("it is read");
        seconds += 1;
        between(conf().route(&format!("timeout = \"{seconds}s\"")).text());
        wire.write_all(&bytes[cut..]).expect("it is read");
        assert_eq!(other.response().status(), 502, "{block:02x?} cut at {cut}");
        assert_eq!(resets.recv_timeout(PATIENCE), Ok((id, 1)), "{block:02x?} cut at {cut}");
    };
    let mut reload = |rules: String| proxy.reload(&rules).wait_until_applied_on_all_cores();
    for block in &blocks {
        for cut in [5, 9, 11, 13] {
            torn(block, cut, &mut reload);
        }
    }
    torn(&blocks[0], 13, &mut |_| {
        proxy.terminate();
        client.wait_for(GOAWAY);
    });
    wire.write_all(&frame(DATA, END_STREAM, shared, b"other")).expect("it is read");
    assert_eq!(client.wait_for(DATA).payload, b"other");
    assert!(proxy.stop().status.success());
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
