//! WebSockets to endpoints that speak HTTP/2.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Response;

use crate::support::{
    Client, Conf, Message, Origin, Ringway,
    frames::{DATA, END_HEADERS, END_STREAM, HEADERS, Raw, SETTINGS, endpoint, fields},
    wire::Kind,
};

/// An endpoint that sends back what comes through a tunnel; whether it offers any.
fn echo(offers: bool) -> SocketAddr {
    endpoint(move |stream| serve(stream, offers))
}

async fn serve(stream: tokio::net::TcpStream, offers: bool) {
    let mut builder = h2::server::Builder::new();
    if offers {
        builder.enable_connect_protocol();
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let protocol = request.extensions().get::<h2::ext::Protocol>().cloned();
            let is_asked = protocol.is_some_and(|one| one.as_str() == "websocket");
            let has_key = request.headers().contains_key("sec-websocket-key");
            let status = if is_asked && has_key { 200 } else { 400 };
            let head = Response::builder().status(status).header("x-path", request.uri().path());
            let head = head.header("sec-websocket-accept", "of somebody behind it");
            let mut send = respond.send_response(head.body(()).ok()?, false).ok()?;
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).ok()?;
                send.send_data(data, false).ok()?;
            }
            send.send_data(Bytes::new(), true).ok()
        });
    }
}

fn start(offers: bool) -> Ringway {
    let conf = Conf::to(echo(offers)).one_core().listener("http = [\"h1\", \"h2\"]");
    Ringway::start(&conf.upstream("http = \"h2\""))
}

fn upgrade(client: &mut Client, protocol: &str) -> Message {
    client.send(format!(
        "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ));
    let head = client.read_head().expect("a head");
    client.read_body(head, Kind::Response("GET")).expect("an answer")
}

#[test]
fn a_websocket_becomes_an_extended_connect() {
    let proxy = start(true);
    for _ in 0..3 {
        let mut client = proxy.connect();
        let answer = upgrade(&mut client, "websocket");
        assert_eq!(answer.status(), 101);
        let accept = Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer.head.get("sec-websocket-accept"), accept);
        assert_eq!(answer.head.get("x-path"), Some("/chat"));
        for size in [1, 1_000, 100_000] {
            let sent = vec![b'x'; size];
            client.send(&sent);
            assert_eq!(client.read_bytes(size).0, sent);
        }
        client.half_close();
        assert!(client.read_to_end().0.is_empty());
    }
}

#[test]
fn an_endpoint_that_offers_none_is_no_way() {
    let proxy = start(false);
    upgrade(&mut proxy.connect(), "websocket").assert_own(501, "upgrade_unsupported");
    let proxy = start(true);
    upgrade(&mut proxy.connect(), "other").assert_own(501, "upgrade_unsupported");
}

/// Extended CONNECT on both sides: the client's tunnel is one of the endpoint's.
#[test]
fn an_extended_connect_stays_one() {
    let head = fields(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/chat"),
        ("sec-websocket-version", "13"),
    ]);
    let proxy = start(true);
    let mut raw = Raw::connect(proxy.address());
    raw.wait_for(SETTINGS);
    raw.frame(HEADERS, END_HEADERS, 1, &head);
    assert_eq!(raw.outcome(1), 200);
    for word in [&b"to the endpoint"[..], &[b'x'; 10_000]] {
        raw.frame(DATA, 0, 1, word);
        let mut back = Vec::new();
        while back.len() < word.len() {
            back.extend(raw.wait_for(DATA).payload);
        }
        assert_eq!(back, word);
    }
    raw.frame(DATA, END_STREAM, 1, b"");
    while raw.wait_for(DATA).flags & END_STREAM == 0 {}
    let proxy = start(false);
    let mut raw = Raw::connect(proxy.address());
    raw.wait_for(SETTINGS);
    raw.frame(HEADERS, END_HEADERS, 1, &head);
    assert_eq!(raw.outcome(1), 501, "an endpoint that offers none");
}

/// What an extended CONNECT asks for is either begun or refused: the plain GET that is left without it, and the answer to
/// that, would both look like a tunnel.
#[test]
fn an_extended_connect_is_no_plain_request() {
    let origin = Origin::echo();
    let conf = Conf::to(origin.address).one_core().listener("http = [\"h1\", \"h2\"]");
    let proxy = Ringway::start(&conf);
    let mut raw = Raw::connect(proxy.address());
    raw.wait_for(SETTINGS);
    for (stream, protocol, expected) in
        [(1, "h2c", 501), (3, "", -1), (5, "websocket, x", -1), (7, "websocket", 502)]
    {
        let head = fields(&[
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "http"),
            (":authority", "a.test"),
            (":path", "/chat"),
        ]);
        raw.frame(HEADERS, END_HEADERS, stream, &head);
        assert_eq!(raw.outcome(stream), expected, "{protocol}");
    }
    assert_eq!(origin.seen_count(), 1, "only that of the websocket, which it did not take for one");
}
