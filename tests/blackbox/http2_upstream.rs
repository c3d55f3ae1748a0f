//! Endpoints that speak HTTP/2, and every pairing of versions on the two sides.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::sync::Mutex;

use crate::support::{
    Conf, Origin, PATIENCE, Ringway, Step, eventually,
    frames::{
        END_HEADERS, END_STREAM, HEADERS, Http2, RST_STREAM, Raw, block_on, endpoint, frame, get,
    },
};

/// What an [`Endpoint`] makes of the nth stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// 200, body and trailers as they came.
    Echo,
    /// A reset with this reason.
    Reset(u32),
    /// A head and a part of a body, then a reset.
    Cut,
    /// A whole response, then a reset where its end should be.
    CutAtTheEnd,
    /// Nothing; the test is told when the stream has been reset.
    Hang,
    /// GOAWAY, so that this stream and later ones are not processed.
    GoAway,
}

/// An endpoint that speaks HTTP/2, on a thread of its own.
struct Endpoint {
    address: SocketAddr,
    streams: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    resets: mpsc::Receiver<u32>,
}

impl Endpoint {
    fn start(streams_max: u32, deed: impl Fn(usize) -> Deed + Send + Sync + 'static) -> Self {
        let (streams, connections) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (tell, resets) = mpsc::channel();
        let counts = (Arc::clone(&streams), Arc::clone(&connections));
        let deed = Arc::new(deed);
        let address = endpoint(move |stream| {
            counts.1.fetch_add(1, Ordering::SeqCst);
            serve(stream, streams_max, Arc::clone(&counts.0), Arc::clone(&deed), tell.clone())
        });
        Self { address, streams, connections, resets }
    }

    fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }
}

async fn serve<D: Fn(usize) -> Deed + Send + Sync + 'static>(
    stream: tokio::net::TcpStream,
    streams_max: u32,
    streams: Arc<AtomicUsize>,
    deed: Arc<D>,
    tell: mpsc::Sender<u32>,
) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(streams_max);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let ping = Arc::new(Mutex::new(connection.ping_pong().unwrap()));
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let number = streams.fetch_add(1, Ordering::SeqCst);
        match deed(number) {
            Deed::Reset(reason) => respond.send_reset(reason.into()),
            Deed::GoAway => {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
                connection.graceful_shutdown();
            }
            Deed::Cut => {
                let mut send = respond.send_response(Response::new(()), false).unwrap();
                send.send_data("part".into(), false).unwrap();
                tokio::spawn(reset_when_seen(send, Arc::clone(&ping)));
            }
            Deed::CutAtTheEnd => {
                let response = Response::builder().header("content-length", 5).body(()).unwrap();
                let mut send = respond.send_response(response, false).unwrap();
                send.send_data("whole".into(), false).unwrap();
                tokio::spawn(reset_when_seen(send, Arc::clone(&ping)));
            }
            Deed::Hang => {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                    let _ = tell.send(reset.map_or(0, u32::from));
                });
            }
            Deed::Echo => {
                tokio::spawn(echo(request, respond));
            }
        }
    }
}

/// A PING may overtake what is to be sent. When it is answered that has gone, and when a second one is,
/// it has been read.
async fn reset_when_seen(mut send: h2::SendStream<Bytes>, ping: Arc<Mutex<h2::PingPong>>) {
    for _ in 0..2 {
        let _ = ping.lock().await.ping(h2::Ping::opaque()).await;
    }
    send.send_reset(h2::Reason::INTERNAL_ERROR);
}

async fn echo(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let (parts, mut body) = request.into_parts();
    let mut response = Response::new(());
    response.headers_mut().insert("x-host", parts.uri.host().unwrap_or("").parse().unwrap());
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    response.headers_mut().insert("x-target", target.parse().unwrap());
    for name in ["content-length", "content-type", "trailer"] {
        if let Some(value) = parts.headers.get(name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    let is_empty = body.is_end_stream();
    let Ok(mut send) = respond.send_response(response, is_empty) else { return };
    if is_empty {
        return;
    }
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
        if send.send_data(piece, false).is_err() {
            return;
        }
    }
    let _ = match body.trailers().await {
        Ok(Some(trailers)) => send.send_trailers(trailers),
        _ => send.send_data(Bytes::new(), true),
    };
}

fn start(endpoint: &Endpoint) -> Ringway {
    let conf = Conf::to(endpoint.address).one_core().listener("http = [\"h1\", \"h2\"]");
    Ringway::start(&conf.upstream("http = \"h2\""))
}

#[test]
fn every_pairing_of_versions() {
    let endpoint = Endpoint::start(100, |_| Deed::Echo);
    let origin = Origin::auto(|seen| {
        let trailers: String =
            seen.trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let body = String::from_utf8_lossy(&seen.body);
        let answer = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n{trailers}\r\n",
            body.len()
        );
        vec![Step::Send(answer.into_bytes())]
    });
    for (address, version) in [(endpoint.address, "h2"), (origin.address, "h1")] {
        let conf = Conf::to(address).one_core().listener("http = [\"h1\", \"h2\"]");
        let proxy = Ringway::start(&conf.upstream(&format!("http = \"{version}\"")));
        let mut old = proxy.connect();
        old.send(
            "POST / HTTP/1.1\r\nhost: a.test\r\nte: trailers\r\nconnection: te\r\n\
             transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nx-check: abc\r\n\r\n",
        );
        let answer = old.response();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "body"), "h1 to {version}");
        assert_eq!(answer.trailers, [("x-check".to_owned(), "abc".to_owned())]);
        block_on(async {
            let client = Http2::connect(proxy.address()).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-check", "abc".parse().unwrap());
            let request = Request::post("http://a.test/").body(()).unwrap();
            let answer = client.request(request, Some("body".into()), Some(trailers)).await;
            let answer = answer.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "body"), "h2 to {version}");
            assert_eq!(answer.trailers["x-check"], "abc");
            for size in [100_000, 3_000_000] {
                let body = Bytes::from(vec![b'z'; size]);
                let request = Request::post("http://a.test/").body(()).unwrap();
                let answer = client.request(request, Some(body.clone()), None).await.unwrap();
                assert!(answer.body == body, "{size} bytes to {version}");
            }
        });
    }
}

#[test]
fn a_query_passes_as_browsers_send_it() {
    const TARGET: &str = "/a?{b|c}=^`\\d";
    let endpoint = Endpoint::start(100, |_| Deed::Echo);
    let proxy = start(&endpoint);
    let mut old = proxy.connect();
    old.send(format!("GET {TARGET} HTTP/1.1\r\nhost: a.test\r\n\r\n"));
    assert_eq!(old.response().head.get("x-target"), Some(TARGET));
    block_on(async {
        let client = Http2::connect(proxy.address()).await;
        let request = Request::get(format!("http://a.test{TARGET}")).body(()).unwrap();
        let answer = client.request(request, None, None).await.unwrap();
        assert_eq!(answer.fields["x-target"], TARGET);
    });
}

/// HTTP/1.1, by whose text messages travel, has no place for them.
#[test]
fn trailers_pass_beside_a_length() {
    let endpoint = Endpoint::start(100, |_| Deed::Echo);
    let proxy = start(&endpoint);
    let trailers = |name: &str| {
        HeaderMap::from_iter([(name.parse().unwrap(), "abc".parse::<HeaderValue>().unwrap())])
    };
    block_on(async {
        let client = Http2::connect(proxy.address()).await;
        for (name, value) in [("trailer", "x-check"), ("content-type", "application/grpc")] {
            let request = Request::post("http://a.test/").header("content-length", 4);
            let request = request.header(name, value).body(()).unwrap();
            let answer = client.request(request, Some("body".into()), Some(trailers("x-check")));
            let answer = answer.await.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "body"), "{name}");
            assert_eq!(answer.trailers["x-check"], "abc", "{name}");
        }
        for length in [0, 4, 100_000] {
            let body = "b".repeat(length);
            for (name, passes) in [("x-check", true), ("content-range", false)] {
                let request = Request::put("http://a.test/").header("content-length", length);
                let request = request.body(()).unwrap();
                let answer =
                    client.request(request, Some(body.clone().into()), Some(trailers(name)));
                let answer = answer.await.unwrap();
                assert_eq!(answer.fields["content-length"], length.to_string());
                assert!(answer.text() == body, "{length} bytes");
                assert_eq!(answer.trailers.contains_key(name), passes, "{name} behind {length}");
            }
        }
    });
}

/// All bytes of a response are here, and then its end is a reset.
#[test]
fn a_reset_behind_the_last_byte_is_no_end() {
    let endpoint = Endpoint::start(100, |_| Deed::CutAtTheEnd);
    let proxy = start(&endpoint);
    block_on(async {
        let client = Http2::connect(proxy.address()).await;
        let reset = client.get("/").await.unwrap_err();
        assert_eq!(reset.reason(), Some(h2::Reason::INTERNAL_ERROR));
    });
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
    let (answer, _) = client.read_to_end();
    assert!(!answer.ends_with(b"whole"), "{}", answer.escape_ascii());
}

#[test]
fn requests_share_connections_and_respect_the_endpoints_bound() {
    let endpoint = Endpoint::start(2, |_| Deed::Echo);
    let proxy = start(&endpoint);
    block_on(async {
        let client = Http2::connect(proxy.address()).await;
        assert_eq!(client.get("/").await.unwrap().status, 200); // its settings are known from here on
        let all: Vec<_> = (0..60)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.get("/").await.unwrap().status })
            })
            .collect();
        for one in all {
            assert_eq!(one.await.unwrap(), 200);
        }
    });
    let connections = endpoint.connections.load(Ordering::SeqCst);
    assert!((1..=4).contains(&connections), "{connections} connections for 61 requests");
}

/// Four connections with one place each: who waits for one gets it in the order in which they came.
#[test]
fn places_are_given_in_order() {
    const TAKEN: usize = 4;
    let (tell, told) = mpsc::channel();
    let address = endpoint(move |stream| {
        let tell = tell.clone();
        async move {
            let mut builder = h2::server::Builder::new();
            builder.max_concurrent_streams(1);
            let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let send = respond.send_response(Response::new(()), false);
                let _ = tell.send((request.uri().path().to_owned(), send.expect("a head")));
            }
        }
    });
    let conf = Conf::to(address).one_core().upstream("http = \"h2\"");
    let conf = conf.timeout("connect = \"30s\"").listener("http = [\"h1\", \"h2\"]");
    let proxy = Ringway::start(&conf);
    let mut client = Raw::connect(proxy.address());
    let number = |n: usize| 2 * n as u32 + 1;
    let ask =
        |n: usize| frame(HEADERS, END_STREAM | END_HEADERS, number(n), &get(&format!("/{n}")));
    let next = || told.recv_timeout(PATIENCE).expect("a request");
    let mut open = Vec::new();
    for n in 0..TAKEN {
        client.send(&ask(n));
        assert_eq!(client.outcome(number(n)), 200); // what its connection takes is known from here on
        open.push(next());
    }
    let in_flight = |count: f64| {
        eventually("requests in flight", PATIENCE, || {
            (proxy.metric("http_requests_in_flight", "") == count).then_some(())
        });
    };
    client.send(&(TAKEN..12).flat_map(ask).collect::<Vec<u8>>());
    in_flight(12.0);
    for expected in TAKEN..12 {
        let (_, mut send) = open.remove(0);
        send.send_data(Bytes::new(), true).expect("an end");
        let (path, send) = next();
        assert_eq!(path, format!("/{expected}"));
        open.push((path, send));
    }
    open.iter_mut().for_each(|(_, send)| send.send_data(Bytes::new(), true).expect("an end"));
    in_flight(0.0);
    assert_eq!(proxy.metric("ringway_upstream_connects_total", ""), 4.0);
}

/// Connections that requests share are limited too, and a core whose connection is never unused gives way to
/// another one: what comes next on that core waits as well.
#[test]
fn connections_are_limited_for_all_cores_together() {
    let endpoint = Endpoint::start(100, |n| if n == 0 { Deed::Hang } else { Deed::Echo });
    let rules = "[upstream.overload]\nconnections_max = 1\npending_timeout = \"20s\"";
    let conf = Conf::to(endpoint.address).runtime("pin = false").upstream("http = \"h2\"");
    let proxy = Ringway::start(&conf.listener("http = [\"h1\", \"h2\"]").more(rules));
    let pending = |count: f64| {
        eventually("requests that wait", PATIENCE, || {
            let now = proxy.metric("ringway_upstream_requests_pending", "origin");
            (now == count).then_some(())
        });
    };
    let mut busy = Raw::connect(proxy.address());
    busy.frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/held"));
    eventually("a stream", PATIENCE, || (endpoint.streams() == 1).then_some(()));
    let mut other = proxy.connect(); // on the other core, which has fewer
    other.get("/other");
    pending(1.0);
    let ticks = || proxy.metric("ringway_loop_ticks_total", "");
    let enough = ticks() + 3.0 * proxy.versions().len() as f64;
    eventually("some ticks of each core", PATIENCE, || (ticks() >= enough).then_some(()));
    busy.frame(HEADERS, END_STREAM | END_HEADERS, 3, &get("/next"));
    pending(2.0);
    busy.frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    assert_eq!(other.response().status(), 200);
    assert_eq!(busy.outcome(3), 200);
    assert_eq!(proxy.metric("ringway_shed_total", "origin"), 0.0);
}

#[test]
fn what_the_endpoint_did_not_process_is_sent_again() {
    const REFUSED_STREAM: u32 = 7;
    for deed in [Deed::Reset(REFUSED_STREAM), Deed::GoAway] {
        let endpoint =
            Endpoint::start(100, move |number| if number == 0 { deed } else { Deed::Echo });
        let proxy = start(&endpoint);
        let mut client = proxy.connect();
        client.post("/", b"not idempotent");
        let answer = client.response();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "not idempotent"), "{deed:?}");
        assert_eq!(endpoint.streams(), 2);
    }
}

#[test]
fn what_the_endpoint_looked_at_is_not_sent_again() {
    const INTERNAL_ERROR: u32 = 2;
    let endpoint = Endpoint::start(100, |_| Deed::Reset(INTERNAL_ERROR));
    let proxy = start(&endpoint);
    let mut client = proxy.connect();
    client.get("/");
    client.response().assert_own(502, "upstream_closed");
    assert_eq!(endpoint.streams(), 1);
}

#[test]
fn a_stream_that_was_cut_never_looks_whole() {
    let endpoint = Endpoint::start(100, |_| Deed::Cut);
    let proxy = start(&endpoint);
    block_on(async {
        let client = Http2::connect(proxy.address()).await;
        let error = client.get("/").await.unwrap_err();
        assert!(error.is_reset(), "{error}");
    });
    let mut old = proxy.connect();
    old.get("/");
    assert!(old.closes_within(PATIENCE));
}

#[test]
fn a_client_that_left_resets_the_stream_at_the_endpoint() {
    const CANCEL: u32 = 8;
    let endpoint = Endpoint::start(100, |_| Deed::Hang);
    let proxy = start(&endpoint);
    let mut client = proxy.connect();
    client.get("/");
    crate::support::eventually("the request to arrive", PATIENCE, || {
        (endpoint.streams() == 1).then_some(())
    });
    drop(client);
    assert_eq!(endpoint.resets.recv_timeout(PATIENCE), Ok(CANCEL));
}

/// A WebSocket is not turned into a plain request.
#[test]
fn an_upgrade_is_not_left_out_in_silence() {
    let endpoint = Endpoint::start(100, |_| Deed::Echo);
    let proxy = start(&endpoint);
    let mut client = proxy.connect();
    client.send(
        "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    client.response().assert_own(501, "upgrade_unsupported");
    block_on(async {
        let client = Http2::connect(proxy.address()).await;
        assert_eq!(client.get("/").await.unwrap().status, 200); // its settings are known from here on
        let request = Request::connect("http://a.test/ws");
        let request = request.extension(h2::ext::Protocol::from_static("websocket"));
        let answer = client.request(request.body(()).unwrap(), Some("".into()), None).await;
        assert_eq!(answer.unwrap().status, 501);
    });
    assert_eq!(endpoint.streams(), 1, "of the plain one");
}

#[test]
fn an_endpoint_that_does_not_speak_it_is_a_bad_gateway() {
    let origin = Origin::auto(|_| vec![Step::Close]);
    let conf = Conf::to(origin.address).one_core().upstream("http = \"h2\"");
    let proxy = Ringway::start(&conf);
    let mut client = proxy.connect();
    client.get("/");
    assert_eq!(client.response().status(), 502);
    drop(origin.take_garbage());
}
