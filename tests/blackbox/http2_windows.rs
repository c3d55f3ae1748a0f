//! Clients over HTTP/2 that open their windows late, in pieces, in any order, or never: what waits for them
//! is little, and goes on when it may.

use std::{collections::BTreeMap, net::SocketAddr};

use bytes::Bytes;
use http::Response;

use crate::support::{
    Conf, Origin, PATIENCE, Random, Ringway, Step, eventually,
    frames::{
        self, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Raw, SETTINGS,
        WINDOW_UPDATE, frame, get,
    },
    origin::reply,
    process::private_memory,
};

const INITIAL_WINDOW_SIZE: u16 = 4;
const REFUSED_STREAM: i64 = 7;

/// The body of `/n`: no two have the same.
fn body(path: &str, bytes: usize) -> String {
    format!("{path:>16}").repeat(bytes / 16)
}

/// Answers `/n` with that body.
fn origin(bytes: usize) -> Origin {
    Origin::auto(move |seen| vec![Step::Send(reply(200, &body(seen.head.word(1), bytes)))])
}

fn conf(origins: &[SocketAddr]) -> Conf {
    Conf::to_all(origins).one_core().listener("http = [\"h1\", \"h2\"]").limit("streams_max = 1000")
}

/// The nth stream of a client.
fn id(n: usize) -> u32 {
    u32::try_from(2 * n + 1).expect("a stream")
}

fn ask(raw: &mut Raw, count: usize) {
    let asked = |n| frame(HEADERS, END_STREAM | END_HEADERS, id(n), &get(&format!("/{n}")));
    raw.send(&(0..count).flat_map(asked).collect::<Vec<u8>>());
}

fn initial_window(bytes: u32) -> Vec<u8> {
    let mut setting = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
    setting.extend(bytes.to_be_bytes());
    frame(SETTINGS, 0, 0, &setting)
}

fn open(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

/// What has come of each stream: a head, bytes, an end.
#[derive(Default)]
struct Come {
    streams: BTreeMap<u32, (bool, Vec<u8>, bool)>,
    goodbye: bool,
}

impl Come {
    /// Reads until it is enough.
    #[track_caller]
    fn read(&mut self, raw: &mut Raw, mut is_enough: impl FnMut(&Self) -> bool) {
        while !is_enough(self) {
            let frame = raw.next().expect("more of the answers");
            let stream = self.streams.entry(frame.stream).or_default();
            match frame.kind {
                HEADERS => {
                    stream.0 = true;
                    stream.2 |= frame.flags & END_STREAM != 0;
                }
                DATA => {
                    stream.1.extend(&frame.payload);
                    stream.2 |= frame.flags & END_STREAM != 0;
                }
                RST_STREAM => panic!("a reset of {}: {}", frame.stream, frame.code()),
                GOAWAY => {
                    assert_eq!(frame.code(), 0);
                    self.goodbye = true;
                }
                _ => {}
            }
        }
    }

    fn heads(&self) -> usize {
        self.streams.values().filter(|(head, ..)| *head).count()
    }

    fn bytes(&self) -> usize {
        self.streams.values().map(|(_, bytes, _)| bytes.len()).sum()
    }

    fn ends(&self) -> usize {
        self.streams.values().filter(|(.., ended)| *ended).count()
    }

    #[track_caller]
    fn assert_whole(&self, n: usize, bytes: usize) {
        let (_, came, ended) = &self.streams[&id(n)];
        let whole = body(&format!("/{n}"), bytes);
        let same =
            came.iter().zip(whole.bytes()).take_while(|(one, other)| **one == *other).count();
        assert!(
            *ended && *came == whole.as_bytes(),
            "stream {n}: {} bytes, {same} of them right, {ended}: {}",
            came.len(),
            String::from_utf8_lossy(&came[..came.len().min(200)])
        );
    }
}

/// Four hundred streams for 64 KB each of a client that takes nothing, and of one that takes 20 KB of each and
/// then nothing. What is counted as waiting stays far below a buffer for each, and so does the memory.
#[test]
fn what_waits_for_a_client_that_takes_nothing_is_little() {
    const STREAMS: usize = 400;
    const BYTES: usize = 64_000;
    let origins = [(); 4].map(|()| origin(BYTES)); // each with its own queue of those who connect
    let proxy = Ringway::start(&conf(&origins.each_ref().map(|origin| origin.address)));
    for window in [0, 20_000] {
        let before = private_memory(proxy.pid());
        let mut raw = Raw::connect_with(proxy.address(), &[(INITIAL_WINDOW_SIZE, window)]);
        raw.send(&open(0, 1 << 30));
        ask(&mut raw, STREAMS);
        let mut come = Come::default();
        let taken = STREAMS * window as usize;
        come.read(&mut raw, |come| come.heads() == STREAMS && come.bytes() == taken);
        let beats = || proxy.metric("ringway_loop_ticks_total", "");
        let then = beats();
        eventually("two beats", PATIENCE, || (beats() >= then + 2.0).then_some(()));
        let held = proxy.metric("ringway_http2_held_bytes", "");
        let bound = (2048 + 34 + STREAMS) << 10; // 64 buffers or so, and the first KiB of each
        assert!(held <= bound as f64, "{held} bytes are held with a window of {window}");
        // Besides, what a request in flight takes in a build without optimisation, and buffers that are free again.
        let bound = (12 << 20) + (STREAMS as u64) * (24 << 10);
        let grown = private_memory(proxy.pid()).saturating_sub(before);
        assert!(grown < bound, "{grown} bytes more with a window of {window}");
        assert!(proxy.metric("ringway_http2_streams_refused_total", "") < 1.0);
        raw.send(&initial_window(BYTES as u32));
        come.read(&mut raw, |come| come.ends() == STREAMS);
        (0..STREAMS).for_each(|n| come.assert_whole(n, BYTES));
        eventually("nothing to wait", PATIENCE, || {
            (proxy.metric("ringway_http2_held_bytes", "") < 1.0).then_some(())
        });
    }
}

/// Opens the windows of `count` streams by settings that go up and down and by updates of any size, in any
/// order and torn anywhere, with resets in between. Each answer that was not reset comes whole.
fn open_in_any_order(proxy: &Ringway, count: usize, bytes: usize, seed: u64) {
    let mut chance = Random(seed);
    let mut raw = Raw::connect_with(proxy.address(), &[(INITIAL_WINDOW_SIZE, 0)]);
    ask(&mut raw, count);
    let mut come = Come::default();
    come.read(&mut raw, |come| come.heads() == count);
    assert_eq!(come.bytes(), 0);
    let is_reset = |n: usize| n % 8 == 7;
    let mut frames = Vec::new();
    let mut left: Vec<usize> = (0..count).map(|_| bytes).collect();
    let mut of_all = bytes * count;
    frames.push(initial_window(1000));
    frames.push(initial_window(0)); // windows may be negative now, and will be just what is needed
    while left.iter().any(|left| *left > 0) {
        let n = chance.below(count);
        let piece = (1 + chance.below(9_000)).min(left[n]);
        if is_reset(n) && piece > 0 {
            left[n] = 0;
            frames.push(frame(RST_STREAM, 0, id(n), &8u32.to_be_bytes()));
        } else if piece > 0 {
            left[n] -= piece;
            frames.push(open(id(n), piece as u32));
        }
        if of_all > 0 && chance.below(3) == 0 {
            let piece = (1 + chance.below(30_000)).min(of_all);
            of_all -= piece;
            frames.push(open(0, piece as u32));
        }
    }
    frames.push(open(0, (of_all + 1) as u32));
    let torn = frames.concat();
    let mut torn = torn.as_slice();
    while !torn.is_empty() {
        let (piece, rest) = torn.split_at((1 + chance.below(200)).min(torn.len()));
        raw.send(piece);
        torn = rest;
    }
    let whole: Vec<usize> = (0..count).filter(|n| !is_reset(*n)).collect();
    let is_whole = |come: &Come, n: usize| come.streams.get(&id(n)).is_some_and(|(.., end)| *end);
    come.read(&mut raw, |come| whole.iter().all(|n| is_whole(come, *n)));
    whole.iter().for_each(|n| come.assert_whole(*n, bytes));
    eventually("nothing to wait", PATIENCE, || {
        let waits = proxy.metric("ringway_http2_held_bytes", "");
        let in_flight = proxy.metric("http_requests_in_flight", "");
        (waits < 1.0 && in_flight < 1.0).then_some(())
    });
}

#[test]
fn stalled_streams_go_on_in_whatever_order_their_windows_open() {
    let origin = origin(48_000);
    let proxy = Ringway::start(&conf(&[origin.address]));
    (0..4).for_each(|seed| open_in_any_order(&proxy, 8 + 20 * seed as usize, 48_000, seed));
}

/// The same where the endpoint speaks HTTP/2, and where it sends chunks of its own choice, with trailers or without, or no length
/// at all: their end needs no window.
#[test]
fn stalled_streams_of_other_endpoints_go_on_too() {
    let first = origin(48_000);
    let behind = Ringway::start(&conf(&[first.address]));
    let proxy = Ringway::start(&conf(&[behind.address()]).upstream("http = \"h2\""));
    (0..3).for_each(|seed| open_in_any_order(&proxy, 8 + 16 * seed as usize, 48_000, seed));
    let chunked = |trailers: &'static str| {
        Origin::auto(move |seen| {
            let body = body(seen.head.word(1), 48_000);
            let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for (n, piece) in body.as_bytes().chunks(777).enumerate() {
                answer.extend(format!("{:x};n={n}\r\n", piece.len()).bytes());
                answer.extend(piece);
                answer.extend(b"\r\n");
            }
            answer.extend(b"0\r\n");
            answer.extend(trailers.as_bytes());
            answer.extend(b"\r\n");
            vec![Step::Send(answer)]
        })
    };
    let until_close = Origin::auto(|seen| {
        let body = body(seen.head.word(1), 48_000);
        vec![Step::Send(format!("HTTP/1.1 200 OK\r\n\r\n{body}").into_bytes()), Step::Close]
    });
    let trailers = "x-sum: 123456789\r\nx-more: of the same\r\n";
    for origin in [chunked(""), chunked(trailers), until_close] {
        let proxy = Ringway::start(&conf(&[origin.address]));
        (0..3).for_each(|seed| open_in_any_order(&proxy, 8 + 40 * seed as usize, 48_000, seed));
    }
}

/// Draining waits for streams that wait for their windows.
#[test]
fn stalled_streams_are_finished_while_draining() {
    let origin = origin(48_000);
    let proxy = Ringway::start(&conf(&[origin.address]).runtime("drain_timeout = \"20s\""));
    let mut raw = Raw::connect_with(proxy.address(), &[(INITIAL_WINDOW_SIZE, 0)]);
    ask(&mut raw, 20);
    let mut come = Come::default();
    come.read(&mut raw, |come| come.heads() == 20);
    proxy.terminate();
    come.read(&mut raw, |come| come.goodbye);
    raw.send(&open(0, 1 << 30));
    raw.send(&initial_window(48_000));
    come.read(&mut raw, |come| come.ends() == 20);
    (0..20).for_each(|n| come.assert_whole(n, 48_000));
    assert!(proxy.stop().status.success());
}

/// Answers `/` at once, and all else with as much as windows allow.
async fn serve_much(stream: tokio::net::TcpStream) {
    let Ok(connection) = h2::server::handshake(stream).await else { return };
    answer_much(connection).await;
}

async fn answer_much(mut connection: h2::server::Connection<tokio::net::TcpStream, Bytes>) {
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let is_much = request.uri().path() != "/";
        let bytes = Bytes::from(vec![b'x'; if is_much { 1 << 20 } else { 30_000 }]);
        let Ok(mut send) = respond.send_response(Response::new(()), false) else { continue };
        let _ = send.send_data(bytes, true);
    }
}

/// Where all places of an endpoint are taken, and its streams stand still as their clients take nothing, one of them goes
/// for each who finds none.
#[test]
fn who_takes_nothing_gives_up_its_place() {
    let endpoint = frames::endpoint(|stream| async {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(2);
        let Ok(connection) = builder.handshake::<_, Bytes>(stream).await else { return };
        answer_much(connection).await;
    });
    let conf = conf(&[endpoint]).upstream("http = \"h2\"").timeout("connect = \"10s\"");
    let proxy = Ringway::start(&conf);
    let mut stalled = Raw::connect_with(proxy.address(), &[(INITIAL_WINDOW_SIZE, 0)]);
    for n in 0..8 {
        // Two on each of four connections, whose endpoint has said so when it answers.
        stalled.frame(HEADERS, END_STREAM | END_HEADERS, id(n), &get("/much"));
        assert_eq!(stalled.outcome(id(n)), 200);
    }
    for n in 0..2 {
        assert_eq!(proxy.connect().fetch("/").status(), 200, "the answer to {n}");
    }
    let stalls = proxy.metric("ringway_answers_total", "reason=\"client_stalled\"");
    assert!((1.0..=2.0).contains(&stalls), "{stalls} were given up for two");
}

/// Requests of many clients share the connections to an endpoint. Of those whose client takes nothing, a window full
/// waits on them; the others go on. From 16 MiB on, which are 256 of these, their client gets no more.
#[test]
fn who_takes_nothing_holds_up_nobody_else() {
    let endpoint = frames::endpoint(serve_much);
    let proxy = Ringway::start(&conf(&[endpoint]).upstream("http = \"h2\""));
    let mut stalled = Raw::connect_with(proxy.address(), &[(INITIAL_WINDOW_SIZE, 0)]);
    ask(&mut stalled, 200);
    let mut come = Come::default();
    come.read(&mut stalled, |come| come.heads() == 200);
    for n in 0..8 {
        let answer = proxy.connect().fetch("/");
        assert_eq!((answer.status(), answer.body.len()), (200, 30_000), "the answer to {n}");
    }
    let refused = (200..500).find(|n| {
        stalled.frame(HEADERS, END_STREAM | END_HEADERS, id(*n), &get("/more"));
        stalled.outcome(id(*n)) == -REFUSED_STREAM
    });
    assert!(refused.is_some_and(|n| n >= 256), "{refused:?}");
    assert_eq!(proxy.connect().fetch("/").status(), 200, "others are not refused");
    assert_eq!(proxy.metric("ringway_upstream_connects_total", ""), 2.0);
}
