//! Clients that send HTTP/2 frames to wear ringway down: memory stays flat, the connection ends, and
//! others are served meanwhile.

use std::time::Duration;

use crate::support::{
    Conf, Origin, PATIENCE, Ringway,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, Raw,
        SETTINGS, fields, frame, get,
    },
    process::private_memory,
};

const ENHANCE_YOUR_CALM: u32 = 11;

fn start(origin: &Origin) -> Ringway {
    Ringway::start(&Conf::to(origin.address).one_core().listener("http = [\"h1\", \"h2\"]"))
}

/// Sends `first` and then `piece` again and again; the connection has to end with a GOAWAY (or a
/// reset, for those who never read), and a second client has to be served all the while.
fn flood(name: &str, first: &[u8], count: u32, piece: impl Fn(u32) -> Vec<u8>) {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let mut other = Raw::connect(proxy.address());
    other.frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/"));
    assert_eq!(other.outcome(1), 200);
    let before = private_memory(proxy.pid());
    let mut raw = Raw::connect(proxy.address());
    raw.send(first);
    let mut is_cut = false;
    for from in (0..count).step_by(100) {
        let pieces: Vec<u8> = (from..count.min(from + 100)).flat_map(&piece).collect();
        if !raw.try_send(&pieces) {
            is_cut = true;
            break;
        }
    }
    let (frames, ended) = raw.read_to_end(PATIENCE);
    let goaway = frames.iter().find(|frame| frame.kind == GOAWAY && frame.code() != 0);
    if let Some(goaway) = goaway {
        assert_eq!(goaway.code(), ENHANCE_YOUR_CALM, "{name}");
    }
    assert!(is_cut || ended, "{name}: the connection goes on");
    let grown = private_memory(proxy.pid()).saturating_sub(before);
    assert!(grown < 8 << 20, "{name}: {grown} bytes more");
    other.frame(HEADERS, END_STREAM | END_HEADERS, 3, &get("/"));
    assert_eq!(other.outcome(3), 200, "{name}");
    assert!(proxy.metric("ringway_http2_violations_total", "") >= 1.0, "{name}");
    assert!(origin.seen_count() < 2_000, "{name}: {} requests came through", origin.seen_count());
}

#[test]
fn twenty_thousand_rapid_resets() {
    flood("rapid reset", &[], 20_000, |n| {
        let stream = 2 * n + 1;
        let mut bytes = frame(HEADERS, END_STREAM | END_HEADERS, stream, &get("/"));
        bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        bytes
    });
}

/// Who leaves a page gives up all that it has asked for: no flood, and nothing of it is begun at the endpoint.
#[test]
fn a_hundred_streams_given_up_at_once() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let mut raw = Raw::connect(proxy.address());
    let hasty = (0..100).flat_map(|n| {
        let stream = 2 * n + 1;
        let mut bytes = frame(HEADERS, END_STREAM | END_HEADERS, stream, &get("/"));
        bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        bytes
    });
    raw.send(&hasty.collect::<Vec<u8>>());
    raw.frame(HEADERS, END_STREAM | END_HEADERS, 201, &get("/"));
    assert_eq!(raw.outcome(201), 200);
    assert_eq!(proxy.metric("ringway_http2_violations_total", ""), 0.0);
    // One send may be received in two pieces: a stream between them has begun. What is begun connects, and is cancelled
    // before it has sent anything; all that connected before the last one were accepted before it.
    assert!(origin.connections() <= 5, "{} streams were begun", origin.connections());
    assert!(origin.seen_count() <= 5, "{} requests came through", origin.seen_count());
}

/// A malformed request is refused when its turn comes, and what waits for that is bounded: below the bound on what ringway resets.
#[test]
fn malformed_requests_at_once() {
    const PROTOCOL_ERROR: i64 = 1;
    /// `X: x` behind what a GET needs, in no table.
    const BLOCK: [u8; 11] = [0x82, 0x86, 0x41, 1, b'a', 0x84, 0x40, 1, b'X', 1, b'x'];
    let origin = Origin::echo();
    let proxy = start(&origin);
    let malformed = |count: u32| -> Vec<u8> {
        (0..count)
            .flat_map(|n| frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &BLOCK))
            .collect()
    };
    let mut raw = Raw::connect(proxy.address());
    raw.send(&malformed(100));
    for stream in (1..200).step_by(2) {
        assert_eq!(raw.outcome(stream), -PROTOCOL_ERROR);
    }
    raw.frame(HEADERS, END_STREAM | END_HEADERS, 201, &get("/"));
    assert_eq!(raw.outcome(201), 200);
    assert_eq!(proxy.metric("ringway_http2_violations_total", ""), 0.0);

    let mut raw = Raw::connect(proxy.address());
    raw.send(&malformed(900));
    assert_eq!(raw.wait_for(GOAWAY).code(), ENHANCE_YOUR_CALM);
    assert!(raw.read_to_end(PATIENCE).1, "the connection ends");
    assert_eq!(proxy.metric("ringway_http2_violations_total", ""), 1.0);
    assert_eq!(origin.seen_count(), 1);
}

#[test]
fn a_hundred_thousand_continuations() {
    let first = frame(HEADERS, END_STREAM, 1, &get("/"));
    let field = fields(&[("x", "yyyyyyyyyy")]);
    flood("CONTINUATION", &first, 100_000, |_| frame(CONTINUATION, 0, 1, &field));
    flood("empty CONTINUATION", &first, 100_000, |_| frame(CONTINUATION, 0, 1, &[]));
}

#[test]
fn two_hundred_thousand_empty_data_frames() {
    let head = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/"),
    ]);
    let first = frame(HEADERS, END_HEADERS, 1, &head);
    flood("empty DATA", &first, 200_000, |_| frame(DATA, 0, 1, &[]));
}

#[test]
fn floods_of_frames_that_carry_nothing() {
    flood("PING", &[], 100_000, |n| frame(PING, 0, 0, &u64::from(n).to_be_bytes()));
    flood("SETTINGS", &[], 100_000, |_| frame(SETTINGS, 0, 0, &[]));
    flood("PRIORITY", &[], 100_000, |_| frame(2, 0, 1, &[0, 0, 0, 0, 16]));
    flood("unknown", &[], 100_000, |_| frame(0xfe, 0, 0, &[]));
}

/// A thousand streams that want large answers and take nothing: what they hold is bounded by the
/// streams of a connection, and their time is up after `body_timeout`.
#[test]
fn a_thousand_streams_without_a_window() {
    let origin = Origin::auto(|_| {
        let body = "x".repeat(1 << 20);
        vec![crate::support::Step::Send(crate::support::origin::reply(200, &body))]
    });
    let conf = Conf::to(origin.address)
        .one_core()
        .listener("http = [\"h1\", \"h2\"]")
        .limit("body_timeout = \"1s\"");
    let proxy = Ringway::start(&conf);
    let before = private_memory(proxy.pid());
    let mut raw = Raw::connect_with(proxy.address(), &[(4, 0)]); // INITIAL_WINDOW_SIZE
    let mut other = Raw::connect(proxy.address());
    let mut bytes = Vec::new();
    for n in 0..1000 {
        bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &get("/")));
    }
    let _ = raw.try_send(&bytes);
    other.frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/"));
    assert_eq!(other.outcome(1), 200, "others are served");
    let grown = private_memory(proxy.pid()).saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more");
    let (frames, _) = raw.read_to_end(Duration::from_secs(3));
    let resets = frames.iter().filter(|frame| frame.kind == RST_STREAM).count();
    let over = frames.iter().any(|frame| frame.kind == GOAWAY);
    assert!(resets >= 128 || over, "{resets} resets");
    assert!(!frames.iter().any(|frame| frame.kind == DATA && !frame.payload.is_empty()));
    drop(raw);
    crate::support::eventually("buffers to come back", PATIENCE, || {
        (proxy.metric("http_requests_in_flight", "") < 1.0).then_some(())
    });
}
