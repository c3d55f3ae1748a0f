//! Upgraded connections (WebSocket and others) become tunnels: bytes both ways, half-close included.
//! Source: RFC 9110 §7.8, RFC 6455 §4.

use std::time::Duration;

use crate::support::{Client, Conf, Origin, Ringway, origin::OriginRequest, pattern};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const YES: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn tunnel() -> (Origin, Ringway, Client, OriginRequest) {
    tunnel_with(|conf| conf)
}

fn tunnel_with(more: fn(Conf) -> Conf) -> (Origin, Ringway, Client, OriginRequest) {
    let origin = Origin::start();
    let proxy = Ringway::start(&more(Conf::to(origin.address).one_core()));
    let mut client = proxy.connect();
    client.send(ASK);
    let mut request = origin.next_request();
    assert_eq!(request.head.get("upgrade"), Some("websocket"));
    let connection = request.head.all("connection").join(",").to_lowercase();
    assert!(connection.contains("upgrade"), "{connection}");
    assert!(request.head.get("sec-websocket-key").is_some());
    request.send(YES);
    let answer = client.response();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.head.get("upgrade").map(str::to_lowercase).as_deref(), Some("websocket"));
    assert_eq!(answer.head.get("connection").map(str::to_lowercase).as_deref(), Some("upgrade"));
    assert!(answer.head.get("sec-websocket-accept").is_some());
    (origin, proxy, client, request)
}

#[test]
fn bytes_flow_both_ways() {
    let (_origin, _proxy, mut client, mut endpoint) = tunnel();
    for size in [1, 5, 1000, 40_000, 500_000] {
        let bytes = pattern(size);
        client.send(&bytes);
        assert!(endpoint.wire().read_bytes(size).0 == bytes, "{size} up");
        endpoint.send(&bytes);
        assert!(client.read_bytes(size).0 == bytes, "{size} down");
    }
    let zeros = vec![0; 3];
    client.send(&zeros);
    assert_eq!(endpoint.wire().read_bytes(3).0, zeros, "no byte means anything here");
}

#[test]
fn both_directions_at_once() {
    let (_origin, _proxy, mut client, mut endpoint) = tunnel();
    let bytes = pattern(3_000_000);
    let (mut up, down) = (client.stream.try_clone().expect("a handle"), bytes.clone());
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut up, &down));
    let expected = bytes.clone();
    let far = std::thread::spawn(move || {
        let mut half = endpoint.wire().stream.try_clone().expect("a handle");
        let echo = expected.clone();
        let sender = std::thread::spawn(move || std::io::Write::write_all(&mut half, &echo));
        let (got, _) = endpoint.wire().read_bytes(expected.len());
        sender.join().expect("joins").expect("sends");
        assert!(got == expected);
        endpoint
    });
    let (got, _) = client.read_bytes(bytes.len());
    assert!(got == bytes);
    writer.join().expect("joins").expect("sends");
    drop(far.join().expect("the endpoint got everything"));
}

#[test]
fn a_half_close_is_passed_on_and_the_other_half_lives() {
    let (_origin, _proxy, mut client, mut endpoint) = tunnel();
    client.send("last words");
    client.half_close();
    assert_eq!(endpoint.wire().read_to_end(), (b"last words".to_vec(), false));
    endpoint.send("the reply");
    endpoint.close();
    assert_eq!(client.read_to_end(), (b"the reply".to_vec(), false));

    let (_origin, _proxy, mut client, mut endpoint) = tunnel();
    endpoint.send("bye");
    endpoint.wire().half_close();
    assert_eq!(client.read_to_end(), (b"bye".to_vec(), false));
    client.send("one more");
    client.half_close();
    assert_eq!(endpoint.wire().read_to_end(), (b"one more".to_vec(), false));
}

#[test]
fn the_end_of_one_side_ends_the_other() {
    let (_origin, _proxy, client, mut endpoint) = tunnel();
    client.gone();
    assert!(endpoint.cancelled_within(Duration::from_secs(3)));
    let (_origin, proxy, mut client, endpoint) = tunnel();
    endpoint.reset();
    client.assert_closes_within(Duration::from_secs(3));
    let log = proxy.access_log(1);
    assert_eq!(log[0]["status"], 101, "{log:?}");
}

/// Bytes that follow the 101, or the request, in the same packet belong to the tunnel.
#[test]
fn bytes_that_come_along_with_the_heads() {
    let origin = Origin::start();
    let proxy = Ringway::start(&Conf::to(origin.address).one_core());
    let mut client = proxy.connect();
    client.send(format!("{ASK}early bird"));
    let mut request = origin.next_request();
    request.send(format!("{YES}worm"));
    assert_eq!(client.response().status(), 101);
    assert_eq!(client.read_bytes(4).0, b"worm");
    assert_eq!(request.wire().read_bytes(10).0, b"early bird");
}

/// The endpoint says no: an ordinary answer, and the connection goes on as HTTP.
#[test]
fn an_upgrade_that_is_declined() {
    let origin = Origin::start();
    let proxy = Ringway::start(&Conf::to(origin.address).one_core());
    let mut client = proxy.connect();
    client.send(ASK);
    origin.next_request().reply(426, "not today");
    assert_eq!(client.response().text(), "not today");
    client.get("/http");
    origin.next_request().reply(200, "http");
    assert_eq!(client.response().text(), "http");
}

/// An upgrade that may not be passed on is dropped, and the request served as plain HTTP.
#[test]
fn upgrades_that_are_not_passed_on() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address).one_core());
    for request in [
        "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let mut client = proxy.connect();
        client.send(request);
        assert_eq!(client.response().status(), 200, "{request:?}");
    }
    for seen in origin.seen() {
        assert_eq!(seen.head.get("upgrade"), None, "{:?}", seen.head);
    }
}

/// The times of requests and responses do not count in a tunnel.
#[test]
fn a_quiet_tunnel_lives_on() {
    let (_origin, _proxy, mut client, mut endpoint) =
        tunnel_with(|conf| conf.limit("body_timeout = \"300ms\"").timeout("response = \"300ms\""));
    std::thread::sleep(Duration::from_millis(900));
    endpoint.send("still here");
    assert_eq!(client.read_bytes(10).0, b"still here");
    std::thread::sleep(Duration::from_millis(900));
    client.send("me too");
    assert_eq!(endpoint.wire().read_bytes(6).0, b"me too");
}
