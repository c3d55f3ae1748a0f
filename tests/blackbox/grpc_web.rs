//! gRPC-Web to an endpoint that speaks gRPC.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tokio::sync::Notify;

use crate::support::{
    Client, Conf, Message, Ringway,
    frames::{
        DATA, END_HEADERS, END_STREAM, HEADERS, Http2, RST_STREAM, Raw, block_on, endpoint, fields,
    },
    ringway::free_address,
    wire::Kind,
};

/// A service. `Say` sends back what it is sent, `Fail` fails without a message, `Two` sends a second
/// message only after `Go`, `Cut` resets the stream instead.
fn service() -> SocketAddr {
    let go = Arc::new(Notify::new());
    endpoint(move |stream| serve(stream, Arc::clone(&go)))
}

async fn serve(stream: tokio::net::TcpStream, go: Arc<Notify>) {
    let handshake = h2::server::Builder::new().handshake::<_, Bytes>(stream).await;
    let Ok(mut connection) = handshake else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond, Arc::clone(&go)));
    }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    go: Arc<Notify>,
) -> Option<()> {
    let (parts, mut body) = request.into_parts();
    let head = Response::builder().header("content-type", "application/grpc+proto");
    if parts.uri.path().ends_with("/Fail") {
        let head = head.header("grpc-status", "5").header("grpc-message", "none of it");
        respond.send_response(head.body(()).ok()?, true).ok()?;
        return Some(());
    }
    let mut send = respond.send_response(head.body(()).ok()?, false).ok()?;
    match parts.uri.path().rsplit('/').next()? {
        "Go" => go.notify_one(),
        "Two" => {
            send.send_data(message(b"one").into(), false).ok()?;
            go.notified().await;
            send.send_data(message(b"two").into(), false).ok()?;
        }
        "Cut" => {
            send.send_data(message(b"one").into(), false).ok()?;
            go.notified().await;
            send.send_reset(h2::Reason::INTERNAL_ERROR);
            return None;
        }
        _ => {
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).ok()?;
                send.send_data(data, false).ok()?;
            }
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().ok()?);
    for name in ["content-type", "te", "grpc-timeout", "content-length"] {
        if let Some(value) = parts.headers.get(name) {
            trailers
                .insert(format!("seen-{name}").parse::<http::HeaderName>().ok()?, value.clone());
        }
    }
    send.send_trailers(trailers).ok()?;
    Some(())
}

/// A message with its frame.
fn message(bytes: &[u8]) -> Vec<u8> {
    [&[0][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

/// The frames of a body: flags and content.
fn frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = body.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        frames.push((head[0], rest[..length].to_vec()));
        body = &rest[length..];
    }
    assert!(body.is_empty(), "half a frame: {body:?}");
    frames
}

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let groups = bytes.chunks(3).map(|part| {
        let bits = part.iter().chain([&0, &0]).take(3).fold(0, |bits, b| bits << 8 | u32::from(*b));
        (0..4).map(move |at| match at <= part.len() {
            true => ALPHABET[(bits >> (18 - 6 * at)) as usize & 63] as char,
            false => '=',
        })
    });
    groups.flatten().collect()
}

fn from_base64(text: &[u8]) -> Vec<u8> {
    let groups = text.chunks(4).map(|group| {
        let value = |c: &u8| ALPHABET.iter().position(|known| known == c).unwrap_or(0) as u32;
        let bits = group.iter().fold(0, |bits, c| bits << 6 | value(c));
        let padding = group.iter().filter(|c| **c == b'=').count();
        bits.to_be_bytes()[1..4 - padding].to_vec()
    });
    groups.flatten().collect()
}

fn start(endpoint: SocketAddr) -> Ringway {
    let conf = Conf::to(endpoint).one_core().listener("http = [\"h1\", \"h2\"]");
    let conf = conf.upstream("http = \"h2\"").route("grpc_web = true");
    Ringway::start(&conf.route("cors = { origins = [\"https://app.test\"] }"))
}

fn post(client: &mut Client, path: &str, kind: &str, body: &[u8]) -> Message {
    client.send(format!(
        "POST /test.Echo/{path} HTTP/1.1\r\nHost: a.test\r\nContent-Type: {kind}\r\n\
         X-Grpc-Web: 1\r\nOrigin: https://app.test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(body);
    client.response()
}

#[track_caller]
fn assert_echo(frames: &[(u8, Vec<u8>)], sent: &[u8], content_type: &str) {
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert_eq!(frames[0], (0, sent.to_vec()));
    assert_eq!(frames[1].0, 0x80);
    let trailers = String::from_utf8(frames[1].1.clone()).expect("text");
    assert!(trailers.contains("grpc-status: 0\r\n"), "{trailers}");
    assert!(trailers.contains(&format!("seen-content-type: {content_type}\r\n")), "{trailers}");
    assert!(trailers.contains("seen-te: trailers\r\n"), "{trailers}");
}

#[test]
fn calls_pass_in_both_forms() {
    let proxy = start(service());
    for size in [0, 1, 2, 3, 1_000, 100_000] {
        let sent = vec![7; size];
        // A service that answers before it has all of a request ends the connection with it.
        let mut client = proxy.connect();
        let answer = post(&mut client, "Say", "application/grpc-web+proto", &message(&sent));
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.head.get("content-type"), Some("application/grpc-web+proto"));
        assert_eq!(answer.head.all("content-type").len(), 1);
        assert_eq!(answer.head.get("access-control-allow-origin"), Some("https://app.test"));
        let expose = answer.head.get("access-control-expose-headers").expect("exposed");
        assert!(expose.contains("grpc-status") && expose.contains("grpc-message"));
        assert_echo(&frames(&answer.body), &sent, "application/grpc+proto");

        let text = base64(&message(&sent));
        let mut client = proxy.connect();
        let answer = post(&mut client, "Say", "application/grpc-web-text", text.as_bytes());
        assert_eq!(answer.head.get("content-type"), Some("application/grpc-web-text"));
        assert_echo(&frames(&from_base64(&answer.body)), &sent, "application/grpc");
    }
}

#[test]
fn the_same_over_http2() {
    let proxy = start(service());
    let answer = block_on(async {
        let client = Http2::connect(proxy.address()).await;
        let request = Request::post("http://a.test/test.Echo/Say")
            .header("content-type", "application/grpc-web-text+proto")
            .header("grpc-timeout", "5S");
        // Message by message, each padded.
        let body = base64(&message(b"ab")) + &base64(&message(b"c"));
        client.request(request.body(()).unwrap(), Some(body.into()), None).await.unwrap()
    });
    assert_eq!(answer.fields["content-type"], "application/grpc-web-text+proto");
    assert!(answer.trailers.is_empty());
    let frames = frames(&from_base64(&answer.body));
    assert_eq!(frames[..2], [(0, b"ab".to_vec()), (0, b"c".to_vec())]);
    assert!(String::from_utf8_lossy(&frames[2].1).contains("seen-grpc-timeout: 5S"));
}

#[test]
fn failures_are_told_in_the_same_form() {
    let proxy = start(service());
    let mut client = proxy.connect();
    let answer = post(&mut client, "Fail", "application/grpc-web", &message(b""));
    assert_eq!((answer.status(), answer.body.len()), (200, 0));
    assert_eq!(answer.head.get("content-type"), Some("application/grpc-web"));
    assert_eq!(answer.head.get("grpc-status"), Some("5"));
    assert_eq!(answer.head.get("grpc-message"), Some("none of it"));

    let answer = post(&mut client, "Say", "application/grpc-web-text", b"AA=A");
    assert_eq!(answer.head.get("grpc-status"), Some("13"), "no base64");

    let proxy = start(free_address());
    let mut client = proxy.connect();
    let answer = post(&mut client, "Say", "application/grpc-web-text+proto", b"AAAAAAA=");
    assert_eq!((answer.status(), answer.body.len()), (200, 0));
    assert_eq!(answer.head.get("content-type"), Some("application/grpc-web-text+proto"));
    assert_eq!(answer.head.get("grpc-status"), Some("14"));
    assert_eq!(answer.head.get("grpc-message"), Some("ringway: upstream_connect_refused"));
    assert_eq!(answer.head.get("access-control-allow-origin"), Some("https://app.test"));
}

#[test]
fn each_message_of_a_stream_comes_at_once() {
    let proxy = start(service());
    for (kind, is_text) in [("application/grpc-web", false), ("application/grpc-web-text", true)] {
        let mut client = proxy.connect();
        let body = if is_text { base64(&message(b"")).into_bytes() } else { message(b"") };
        client.send(format!(
            "POST /test.Echo/Two HTTP/1.1\r\nHost: a.test\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        ));
        client.send(&body);
        let head = client.read_head().expect("a head");
        let first = client.read_chunk().expect("a chunk").expect("the first message");
        let first = if is_text { from_base64(&first) } else { first };
        assert_eq!(frames(&first), [(0, b"one".to_vec())], "before the second was sent");
        post(&mut proxy.connect(), "Go", "application/grpc-web", &message(b""));
        let rest = client.read_body(head, Kind::Response("POST")).expect("the rest").body;
        let rest = if is_text { from_base64(&rest) } else { rest };
        assert_eq!(frames(&rest)[0], (0, b"two".to_vec()));
    }
}

/// Trailers that nobody has sent are not made up.
#[test]
fn a_stream_that_was_cut_does_not_look_whole() {
    let proxy = start(service());
    for (kind, is_text) in [("application/grpc-web", false), ("application/grpc-web-text", true)] {
        let mut client = proxy.connect();
        let body = if is_text { base64(&message(b"")).into_bytes() } else { message(b"") };
        client.send(format!(
            "POST /test.Echo/Cut HTTP/1.1\r\nHost: a.test\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        ));
        client.send(&body);
        let head = client.read_head().expect("a head");
        assert_eq!(head.word(1), "200");
        client.read_chunk().expect("a chunk").expect("the first message");
        post(&mut proxy.connect(), "Go", "application/grpc-web", &message(b""));
        let rest = client.read_to_end().0;
        assert!(!rest.windows(5).any(|end| end == b"0\r\n\r\n"), "{}", rest.escape_ascii());
    }
    let mut raw = Raw::connect(proxy.address());
    let head = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/test.Echo/Cut"),
        ("content-type", "application/grpc-web"),
    ]);
    raw.frame(HEADERS, END_HEADERS, 1, &head);
    raw.frame(DATA, END_STREAM, 1, &message(b""));
    assert_eq!(raw.wait_for(DATA).flags & END_STREAM, 0);
    post(&mut proxy.connect(), "Go", "application/grpc-web", &message(b""));
    assert_eq!(raw.wait_for(RST_STREAM).code(), 2, "INTERNAL_ERROR");
}

#[test]
fn other_requests_of_the_route_pass_as_they_are() {
    let proxy = start(service());
    let answer = post(&mut proxy.connect(), "Say", "text/plain", b"AAAA");
    assert_eq!(answer.body, b"AAAA");
    assert_eq!(answer.head.get("content-type"), Some("application/grpc+proto"));
    assert_eq!(answer.trailers[0], ("grpc-status".into(), "0".into()));
}
