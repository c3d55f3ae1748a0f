//! HTTP/2 of clients without TLS: what a real client gets, and what becomes of messages that break
//! the rules of RFC 9113 §8.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};

use crate::support::{
    Conf, Origin, PATIENCE, Ringway, Step,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, PING, RST_STREAM, Raw,
        SETTINGS, block_on, fields, frame, get,
    },
    origin::reply,
};

const PROTOCOL_ERROR: i64 = -1;

fn start(origin: &Origin) -> Ringway {
    Ringway::start(&conf(origin))
}

fn conf(origin: &Origin) -> Conf {
    Conf::to(origin.address).one_core().listener("http = [\"h1\", \"h2\"]")
}

/// Answers with what came: the head as the body's first part, the body behind it.
fn mirror() -> Origin {
    Origin::auto(|seen| {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        vec![Step::Send(reply(200, &format!("{} {}", seen.head.word(0), body)))]
    })
}

#[test]
fn requests_with_and_without_bodies() {
    let origin = mirror();
    let proxy = start(&origin);
    block_on(async {
        let client = Http2::connect(proxy.address()).await;
        assert_eq!(client.get("/").await.unwrap().text(), "GET ");
        for size in [0, 1, 16_384, 65_536, 3_000_000] {
            let body = Bytes::from(vec![b'x'; size]);
            let post = || Request::post("http://a.test/");
            let lengthy = post().header("content-length", size).body(()).unwrap();
            for request in [lengthy, post().body(()).unwrap()] {
                let answer = client.request(request, Some(body.clone()), None).await.unwrap();
                assert_eq!(answer.status, 200);
                assert_eq!(answer.body.len(), "POST ".len() + size);
            }
        }
        let head = Request::head("http://a.test/").body(()).unwrap();
        let answer = client.request(head, None, None).await;
        drop(answer); // the mirror sends a body where none may be: only that the connection lives on
        assert_eq!(client.get("/").await.unwrap().status, 200);
    });
    for seen in origin.seen() {
        let of_client = seen.head.get("x-forwarded-for");
        assert_eq!(of_client, Some("127.0.0.1"));
        assert_eq!(seen.head.get("host"), Some("a.test"));
    }
}

#[test]
fn trailers_and_interim_responses_pass() {
    let origin = Origin::auto(|seen| {
        let trailers = format!("{:?}", seen.trailers);
        let length = trailers.len();
        vec![Step::Send(
            format!(
                "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\
                 transfer-encoding: chunked\r\n\r\n{length:x}\r\n{trailers}\r\n0\r\nx-sum: 7\r\n\r\n"
            )
            .into_bytes(),
        )]
    });
    let proxy = start(&origin);
    block_on(async {
        let client = Http2::connect(proxy.address()).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-check", "abc".parse().unwrap());
        let request = Request::post("http://a.test/").header("te", "trailers").body(()).unwrap();
        let answer = client.request(request, Some("body".into()), Some(trailers)).await.unwrap();
        assert_eq!(answer.interim, [103]);
        assert_eq!(answer.text(), "[(\"x-check\", \"abc\")]");
        assert_eq!(answer.trailers["x-sum"], "7");
        assert!(!answer.fields.contains_key("transfer-encoding"));
    });
    assert_eq!(origin.seen()[0].head.get("te"), Some("trailers"));
}

#[test]
fn many_streams_at_once_get_their_own_answers() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    block_on(async {
        let client = Http2::connect(proxy.address()).await;
        for round in 0..5 {
            let paths: Vec<String> = (0..100).map(|n| format!("/{round}/{n}")).collect();
            let mut waiting = Vec::new();
            for path in paths {
                let client = client.clone();
                waiting.push(tokio::spawn(async move {
                    let text = client.get(&path).await.unwrap().text();
                    assert_eq!(text, format!("GET {path}"));
                }));
            }
            for one in waiting {
                one.await.unwrap();
            }
        }
    });
}

/// Fields of a request, and what becomes of it.
#[test]
fn malformed_requests_reach_nobody() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let mut raw = Raw::connect(proxy.address());
    const M: (&str, &str) = (":method", "GET");
    const S: (&str, &str) = (":scheme", "http");
    const A: (&str, &str) = (":authority", "a.test");
    const P: (&str, &str) = (":path", "/");
    let refused: Vec<Vec<(&str, &str)>> = vec![
        vec![S, A, P],
        vec![M, A, P],
        vec![M, S, A],
        vec![M, S, A, (":path", "")],
        vec![M, S, A, (":path", "a")],
        vec![M, S, A, (":path", "http://a.test/")],
        vec![M, S, A, (":path", "/ HTTP/1.1\r\nx: y")],
        vec![M, S, A, (":path", "/a b")],
        vec![M, S, A, (":path", "/\u{e9}")],
        vec![M, S, A, ("*", "*"), P],
        vec![M, M, S, A, P],
        vec![M, S, S, A, P],
        vec![M, S, A, A, P],
        vec![M, S, A, P, P],
        vec![M, S, A, P, (":status", "200")],
        vec![M, S, A, P, (":unknown", "x")],
        vec![M, S, A, ("a", "b"), P],
        vec![(":method", "get"), S, A, P],
        vec![(":method", "GE T"), S, A, P],
        vec![(":method", "GET / HTTP/1.1\r\nx: y\r\n\r\nGET"), S, A, P],
        vec![M, (":scheme", "ftp"), A, P],
        vec![M, S, (":authority", "a@b"), P],
        vec![M, S, (":authority", "a.test/"), P],
        vec![M, S, (":authority", "a.test\r\nx: y"), P],
        vec![M, S, (":authority", ""), P],
        vec![M, S, P],
        vec![M, S, A, P, ("host", "b.test")],
        vec![M, S, A, P, ("host", "a.test"), ("host", "a.test")],
        vec![M, S, A, P, ("X-Upper", "1")],
        vec![M, S, A, P, ("x y", "1")],
        vec![M, S, A, P, ("x:y", "1")],
        vec![M, S, A, P, ("", "1")],
        vec![M, S, A, P, ("x\r\ny", "1")],
        vec![M, S, A, P, ("x", "a\r\ny: z")],
        vec![M, S, A, P, ("x", "a\0b")],
        vec![M, S, A, P, ("x", "a\nb")],
        vec![M, S, A, P, ("x", " a")],
        vec![M, S, A, P, ("x", "a ")],
        vec![M, S, A, P, ("connection", "close")],
        vec![M, S, A, P, ("keep-alive", "1")],
        vec![M, S, A, P, ("proxy-connection", "close")],
        vec![M, S, A, P, ("transfer-encoding", "chunked")],
        vec![M, S, A, P, ("upgrade", "h2c")],
        vec![M, S, A, P, ("te", "gzip")],
        vec![M, S, A, P, ("transfer_encoding", "chunked")],
        vec![M, S, A, P, ("content_length", "1")],
        vec![M, S, A, P, ("content-length", "5")],
        vec![M, S, A, P, ("content-length", "0"), ("content-length", "0")],
        vec![M, S, A, P, ("content-length", "x")],
        vec![M, S, A, P, ("expect", "miracles")],
    ];
    let mut stream = 1;
    for case in &refused {
        raw.frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields(case));
        let outcome = raw.outcome(stream);
        assert!(matches!(outcome, PROTOCOL_ERROR | 400 | 417), "{case:?}: {outcome}");
        stream += 2;
    }
    assert_eq!(origin.seen_count(), 0, "{:?}", origin.seen());
    // CONNECT, in its own form, is answered.
    raw.frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        stream,
        &fields(&[(":method", "CONNECT"), (":authority", "a.test:443")]),
    );
    assert!(raw.outcome(stream) >= 0);
    raw.frame(HEADERS, END_STREAM | END_HEADERS, stream + 2, &get("/ok"));
    assert_eq!(raw.outcome(stream + 2), 200, "the connection goes on");
    assert_eq!(origin.seen_count(), 1);
}

#[test]
fn a_body_that_is_not_as_long_as_told_is_no_request() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let head = |length| {
        fields(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "a.test"),
            (":path", "/"),
            ("content-length", length),
        ])
    };
    let mut raw = Raw::connect(proxy.address());
    raw.frame(HEADERS, END_HEADERS, 1, &head("5"));
    raw.frame(DATA, END_STREAM, 1, b"abc");
    assert_eq!(raw.outcome(1), PROTOCOL_ERROR, "too short");
    raw.frame(HEADERS, END_HEADERS, 3, &head("3"));
    raw.frame(DATA, END_STREAM, 3, b"abcdef");
    assert_eq!(raw.outcome(3), PROTOCOL_ERROR, "too long");
    raw.frame(HEADERS, END_HEADERS | END_STREAM, 5, &head("3"));
    assert_eq!(raw.outcome(5), PROTOCOL_ERROR, "none");
    for (stream, length) in [(7, "3"), (9, "0")] {
        raw.frame(HEADERS, END_HEADERS, stream, &head(length));
        raw.frame(DATA, 0, stream, &b"abc"[..length.parse().expect("a number")]);
        raw.frame(PING, 0, 0, b"12345678");
        raw.wait_for(PING); // all that was sent has been looked at
        raw.frame(DATA, END_STREAM, stream, b"d");
        assert_eq!(raw.outcome(stream), PROTOCOL_ERROR, "one more");
    }
    assert!(origin.seen().iter().all(|seen| !seen.whole), "no request looks complete");
}

#[test]
fn cookies_and_hosts_are_put_together() {
    let origin = mirror();
    let proxy = start(&origin);
    let mut raw = Raw::connect(proxy.address());
    let head = fields(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        ("host", "b.test"),
        ("cookie", "a=1"),
        ("x", "y"),
        ("cookie", "b=2"),
    ]);
    raw.frame(HEADERS, END_STREAM, 1, &head[..10]);
    raw.frame(CONTINUATION, END_HEADERS, 1, &head[10..]);
    assert_eq!(raw.outcome(1), 200);
    let seen = origin.seen();
    assert_eq!(seen[0].head.get("cookie"), Some("a=1; b=2"));
    assert_eq!(seen[0].head.get("host"), Some("b.test"));
}

#[test]
fn a_response_that_was_cut_is_a_reset() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx",
    ] {
        let origin = Origin::auto(move |_| vec![Step::Send(answer.into()), Step::Close]);
        let proxy = start(&origin);
        let mut raw = Raw::connect(proxy.address());
        raw.frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/"));
        // The reset takes with it what has not been sent, if the end came with the head.
        let first = raw.outcome(1);
        assert!(first == 200 || first == -2, "{answer}: {first}, neither a response nor a reset");
        if first == 200 {
            loop {
                let frame = raw.next().expect("a reset");
                assert!(frame.stream != 1 || frame.flags & END_STREAM == 0, "{answer}: {frame:?}");
                if frame.kind == RST_STREAM {
                    assert_eq!(frame.code(), 2, "INTERNAL_ERROR");
                    break;
                }
            }
        }
        drop(origin.take_garbage());
    }
}

#[test]
fn a_client_that_resets_cancels_the_request_upstream() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut raw = Raw::connect(proxy.address());
    for (stream, ended) in [(1, true), (3, false)] {
        let flags = END_HEADERS | if ended { END_STREAM } else { 0 };
        raw.frame(HEADERS, flags, stream, &get("/"));
        let mut request = origin.next_head();
        raw.frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
        assert!(request.wire().closes_within(PATIENCE));
    }
    // Other streams of the connection go on.
    raw.frame(HEADERS, END_STREAM | END_HEADERS, 5, &get("/"));
    origin.next_request().reply(200, "on");
    assert_eq!(raw.outcome(5), 200);
}

/// The end may be read in the same turn as the request, on a connection that has no other.
#[test]
fn a_client_that_leaves_as_it_asks_is_noticed() {
    let origin = Origin::start(); // answers nothing
    let proxy = start(&origin);
    for _ in 0..20 {
        let mut raw = Raw::connect(proxy.address());
        raw.wait_for(SETTINGS);
        raw.frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/"));
        raw.end();
        assert!(raw.read_to_end(PATIENCE).1, "the request is still waited for");
    }
    drop(origin.take_garbage());
}

#[test]
fn an_early_answer_leaves_the_rest_of_the_upload_unread() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut raw = Raw::connect(proxy.address());
    let head = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/"),
    ]);
    raw.frame(HEADERS, END_HEADERS, 1, &head);
    raw.frame(DATA, 0, 1, b"abc");
    let mut request = origin.next_head();
    request.send("HTTP/1.1 403 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let frame = raw.wait_for(HEADERS);
    assert_eq!(frame.flags & END_STREAM, END_STREAM);
    let reset = raw.wait_for(RST_STREAM);
    assert_eq!((reset.stream, reset.code()), (1, 0), "NO_ERROR: stop sending");
    drop(request);
    drop(origin.take_garbage());
}

#[test]
fn draining_says_goaway_and_finishes() {
    let origin = Origin::start();
    let mut proxy = start(&origin);
    let mut raw = Raw::connect(proxy.address());
    raw.frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/"));
    let request = origin.next_request();
    proxy.terminate();
    assert_eq!(raw.wait_for(GOAWAY).code(), 0);
    let ping = raw.wait_for(PING);
    raw.frame(PING, 1, 0, &ping.payload);
    request.reply(200, "done");
    assert_eq!(raw.outcome(1), 200);
    let (_, ended) = raw.read_to_end(PATIENCE);
    assert!(ended);
    assert!(proxy.wait_ended(PATIENCE).status.success());
}

#[test]
fn an_idle_connection_is_sent_away() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&conf(&origin).limit("idle_timeout = \"200ms\""));
    let mut raw = Raw::connect(proxy.address());
    raw.frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/"));
    assert_eq!(raw.outcome(1), 200);
    let (frames, ended) = raw.read_to_end(PATIENCE);
    assert!(ended);
    assert!(frames.iter().any(|frame| frame.kind == GOAWAY && frame.code() == 0), "{frames:?}");
}

#[test]
fn a_preface_that_does_not_come_is_not_waited_for() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&conf(&origin).limit("header_timeout = \"200ms\""));
    let mut client = proxy.connect();
    client.send("PRI * HTTP/2.0\r\n\r\nSM");
    assert!(client.closes_within(PATIENCE));
}

#[test]
fn a_header_block_that_does_not_end_is_not_waited_for() {
    let origin = Origin::echo();
    let conf = conf(&origin).limit("header_timeout = \"300ms\"");
    let proxy = Ringway::start(&conf);
    let whole = frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/"));
    let half = frame(HEADERS, END_STREAM, 1, &get("/"));
    for sent in [&whole[..12], &half[..]] {
        let mut raw = Raw::connect(proxy.address());
        raw.send(sent);
        assert!(raw.read_to_end(PATIENCE).1, "{} bytes", sent.len());
    }
    // Bytes that trickle in don't help, nor does a stream that is open: nothing else can arrive on
    // this connection.
    let mut raw = Raw::connect(proxy.address());
    let upload = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/"),
    ]);
    raw.frame(HEADERS, END_HEADERS, 1, &upload);
    let slow = frame(HEADERS, END_STREAM | END_HEADERS, 3, &get("/"));
    let went_on = slow.iter().take(12).chain([&0; 200]).all(|byte| {
        std::thread::sleep(Duration::from_millis(25));
        raw.try_send(std::slice::from_ref(byte))
    });
    assert!(!went_on, "a trickle holds the connection");
    assert_eq!(proxy.metric("ringway_http2_streams_total", ""), 1.0);
}

#[test]
fn without_http1_only_http2_is_spoken() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address).one_core().listener("http = [\"h2\"]"));
    let mut raw = Raw::connect(proxy.address());
    raw.frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/"));
    assert_eq!(raw.outcome(1), 200);
    let mut old = proxy.connect();
    old.send("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
    assert_eq!(origin.seen_count(), 1);
    assert!(old.closes_within(PATIENCE));
}

#[test]
fn a_preface_is_none_behind_a_request() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a.test\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    assert_eq!(client.response().status(), 400);
}

#[test]
fn a_websocket_by_extended_connect_becomes_an_upgrade() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut raw = Raw::connect(proxy.address());
    let settings = raw.wait_for(SETTINGS);
    assert!(settings.payload.chunks(6).any(|one| one == [0, 8, 0, 0, 0, 1]), "RFC 8441 §3");
    let head = fields(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/chat"),
        ("sec-websocket-version", "13"),
    ]);
    raw.frame(HEADERS, END_HEADERS, 1, &head);
    let mut request = origin.next_head();
    assert_eq!(request.head.start, "GET /chat HTTP/1.1");
    assert_eq!(request.head.get("upgrade"), Some("websocket"));
    assert_eq!(request.head.get("connection"), Some("upgrade"));
    assert_eq!(request.head.get("sec-websocket-key").map(str::len), Some(24));
    request.send(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: x\r\n\r\nhello",
    );
    assert_eq!(raw.outcome(1), 200);
    assert_eq!(raw.wait_for(DATA).payload, b"hello");
    raw.frame(DATA, 0, 1, b"to the endpoint");
    let (bytes, _) = request.wire().read_bytes(15);
    assert_eq!(bytes, b"to the endpoint");
    // Each direction ends by itself.
    raw.frame(DATA, END_STREAM, 1, b"");
    assert_eq!(request.wire().read_bytes(1).0, b"");
    request.send("late");
    assert_eq!(raw.wait_for(DATA).payload, b"late");
    drop(request);
    let end = raw.wait_for(DATA);
    assert_eq!((end.payload.len(), end.flags & END_STREAM), (0, END_STREAM));
}
