//! What is written to the other side.

use super::*;

const UNTRUSTED: ForwardedOut<'static> = ForwardedOut {
    trusted: false,
    client_ip: b"192.0.2.1",
    proto: b"http",
    host: b"a.test",
    forwarded: false,
};

/// What is written for a request; `change` sets what is not as usual.
fn forward(text: &str, change: impl FnOnce(&mut RequestForward<'_>)) -> String {
    let head = accept(text);
    let buf = text.as_bytes();
    let mut f = RequestForward {
        path_and_query: head.target(buf),
        host: head.host(buf).unwrap_or(b"origin"),
        forwarded: &UNTRUSTED,
        max_forwards: None,
        framing: head.framing(),
        close: false,
        early: false,
    };
    change(&mut f);
    let mut out = b"kept".to_vec();
    write_request_head(&mut out, buf, &head, &f);
    let out = String::from_utf8(out).unwrap();
    out.strip_prefix("kept").unwrap().to_owned()
}

const OURS: &str = "x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: http\r\n\
                    x-forwarded-host: a.test\r\nvia: 1.1 ringway\r\n";

#[test]
fn untouched_lines_stay_as_they_were_sent() {
    let text = "GET /a?b HTTP/1.1\r\nhOsT:a.test\r\nX:y\r\nAccept: \t*/*  \r\nx: z\r\n\r\n";
    let want =
        format!("GET /a?b HTTP/1.1\r\nhOsT:a.test\r\nX:y\r\nAccept: \t*/*  \r\nx: z\r\n{OURS}\r\n");
    assert_eq!(forward(text, |_| {}), want);
    let after_empty_line = format!("\r\n{text}");
    assert_eq!(forward(&after_empty_line, |_| {}), want);
}

#[test]
fn lines_that_stay_and_lines_that_go() {
    for (lines, kept, added) in [
        ("Connection: close\r\nX: y\r\n", "X: y\r\n", ""),
        ("X: y\r\nConnection: x, z\r\nZ: 1\r\nA: b\r\n", "A: b\r\n", ""),
        (
            "A: 1\r\nKeep-Alive: 5\r\nB: 2\r\nProxy-Connection: x\r\nC: 3\r\n",
            "A: 1\r\nB: 2\r\nC: 3\r\n",
            "",
        ),
        ("Upgrade: websocket\r\n", "", ""),
        ("Upgrade: h2c\r\nConnection: upgrade, http2-settings\r\nHTTP2-Settings: x\r\n", "", ""),
        ("TE: trailers\r\nConnection: te\r\n", "", "te: trailers\r\nconnection: te\r\n"),
        ("TE: deflate;q=0.5, Trailers\r\n", "", "te: trailers\r\nconnection: te\r\n"),
        ("TE: gzip\r\n", "", ""),
        ("Trailer: X\r\n", "Trailer: X\r\n", ""),
        ("Content-Length: 007\r\nA: b\r\n", "A: b\r\n", "content-length: 7\r\n"),
        ("A: b\r\nContent-Length: 0\r\n", "A: b\r\n", "content-length: 0\r\n"),
        ("Transfer-Encoding: Chunked\r\n", "", "transfer-encoding: chunked\r\n"),
        (
            "Content-Length: 1\r\nExpect: 100-Continue\r\n",
            "Expect: 100-Continue\r\n",
            "content-length: 1\r\n",
        ),
        ("Expect: 100-continue\r\n", "", ""),
        ("Via: 1.0 b\r\n", "Via: 1.0 b\r\n", ""),
        ("X-Forwarded-For: 1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n", "", ""),
        (
            "X-Forwarded-Port: 1\r\nX-Real-IP: 1\r\nForwarded: for=1\r\nX_Forwarded_For: 1\r\n",
            "",
            "",
        ),
        ("my_header: 1\r\n", "my_header: 1\r\n", ""),
        ("Proxy-Authorization: x\r\nAuthorization: y\r\n", "Authorization: y\r\n", ""),
        ("Connection: authorization\r\nAuthorization: y\r\n", "Authorization: y\r\n", ""),
        ("Cookie: a\r\nCookie: b\r\n", "Cookie: a\r\nCookie: b\r\n", ""),
        (
            "Connection: upgrade\r\nUpgrade: h2c, websocket, x/1\r\nSec-WebSocket-Key: k\r\n",
            "Sec-WebSocket-Key: k\r\n",
            "upgrade: websocket, x/1\r\nconnection: upgrade\r\n",
        ),
        (
            "Connection: upgrade, te\r\nUpgrade: a\r\nUpgrade: b\r\nTE: trailers\r\n",
            "",
            "upgrade: a, b\r\nte: trailers\r\nconnection: upgrade, te\r\n",
        ),
    ] {
        let want = format!("POST /p HTTP/1.1\r\nHost: a.test\r\n{kept}{OURS}{added}\r\n");
        assert_eq!(forward(&post_with(lines), |_| {}), want, "{lines:?}");
    }
}

#[test]
fn a_changed_first_line_or_host() {
    let text = "\r\nGET http://A.test:/a?b HTTP/1.1\r\nX: y\r\nHost: a.test\r\nZ: 1\r\n\r\n";
    assert_eq!(
        forward(text, |f| f.path_and_query = b"/c"),
        format!("GET /c HTTP/1.1\r\nhost: A.test\r\nX: y\r\nZ: 1\r\n{OURS}\r\n")
    );
    let text = get_with("X: y\r\n");
    assert_eq!(
        forward(&text, |f| f.host = b"10.0.0.1:81"),
        format!("GET /p HTTP/1.1\r\nhost: 10.0.0.1:81\r\nX: y\r\n{OURS}\r\n")
    );
    assert_eq!(
        forward("OPTIONS http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n", |f| f.path_and_query =
            b"*"),
        format!("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n{OURS}\r\n")
    );
    let text = "GET / HTTP/1.1\r\nHost: a.test:\r\n\r\n"; // an empty port is dropped
    assert_eq!(forward(text, |_| {}), format!("GET / HTTP/1.1\r\nhost: a.test\r\n{OURS}\r\n"));
}

#[test]
fn http_1_0_goes_on_as_1_1() {
    let ours = OURS.replace("1.1 ringway", "1.0 ringway");
    assert_eq!(
        forward("GET /a HTTP/1.0\r\nConnection: keep-alive\r\nTE: trailers\r\n\r\n", |_| {}),
        format!("GET /a HTTP/1.1\r\nhost: origin\r\n{ours}\r\n")
    );
    assert_eq!(
        forward("POST /a HTTP/1.0\r\nExpect: x\r\nContent-Length: 3\r\n\r\n", |_| {}),
        format!("POST /a HTTP/1.1\r\nhost: origin\r\n{ours}content-length: 3\r\n\r\n")
    );
    assert_eq!(
        forward("GET / HTTP/1.0\r\n\r\n", |_| {}),
        format!("GET / HTTP/1.1\r\nhost: origin\r\n{ours}\r\n")
    );
}

#[test]
fn settings_of_the_caller() {
    let want = format!("GET /p HTTP/1.1\r\nHost: a.test\r\n{OURS}connection: close\r\n\r\n");
    assert_eq!(forward(&get_with(""), |f| f.close = true), want);
    let want = format!(
        "GET /p HTTP/1.1\r\nHost: a.test\r\n{OURS}te: trailers\r\nconnection: close, te\r\n\r\n"
    );
    assert_eq!(forward(&get_with("TE: trailers\r\n"), |f| f.close = true), want);
    let text = "OPTIONS / HTTP/1.1\r\nMax-Forwards: 5\r\nHost: a.test\r\n\r\n";
    let ours = OURS.replace("via", "max-forwards: 4\r\nvia");
    assert_eq!(
        forward(text, |f| f.max_forwards = Some(4)),
        format!("OPTIONS / HTTP/1.1\r\nHost: a.test\r\n{ours}\r\n")
    );
    assert!(forward(text, |_| {}).contains("Max-Forwards: 5\r\n"));
}

#[test]
fn what_a_trusted_peer_says_is_kept_and_extended() {
    const TRUSTED: ForwardedOut<'static> = ForwardedOut { trusted: true, ..UNTRUSTED };
    let lines = "X-Forwarded-For: 1, 2\r\nx-forwarded-for:\r\nA: b\r\nX-Forwarded-For: 3\r\n";
    let out = forward(&get_with(lines), |f| f.forwarded = &TRUSTED);
    assert_eq!(
        out,
        "GET /p HTTP/1.1\r\nHost: a.test\r\nA: b\r\nx-forwarded-for: 1, 2, 3, 192.0.2.1\r\n\
         x-forwarded-proto: http\r\nx-forwarded-host: a.test\r\nvia: 1.1 ringway\r\n\r\n"
    );
    let lines = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nX-Real-IP: 9\r\nX-Forwarded-Port: 1\r\n";
    let out = forward(&get_with(lines), |f| f.forwarded = &TRUSTED);
    assert_eq!(
        out,
        format!(
            "GET /p HTTP/1.1\r\nHost: a.test\r\n{lines}x-forwarded-for: 192.0.2.1\r\nvia: 1.1 ringway\r\n\r\n"
        )
    );
    let out = forward(&get_with("X_Forwarded_For: 1\r\n"), |f| f.forwarded = &TRUSTED);
    assert!(!out.contains("X_Forwarded"));
}

#[test]
fn forwarded() {
    const V4: ForwardedOut<'static> = ForwardedOut { forwarded: true, ..UNTRUSTED };
    let out = forward(&get_with("Forwarded: for=evil\r\n"), |f| f.forwarded = &V4);
    assert!(out.contains("\r\nforwarded: for=192.0.2.1;proto=http;host=\"a.test\"\r\n"));
    assert!(!out.contains("evil"));
    const V6: ForwardedOut<'static> = ForwardedOut {
        trusted: true,
        client_ip: b"2001:db8::1",
        host: b"",
        forwarded: true,
        ..UNTRUSTED
    };
    let out = forward(&get_with("Forwarded: for=b\r\n"), |f| f.forwarded = &V6);
    assert!(out.contains("Forwarded: for=b\r\n"));
    assert!(out.contains("forwarded: for=\"[2001:db8::1]\";proto=http\r\n"));
    assert!(out.contains("x-forwarded-for: 2001:db8::1\r\n"));
    assert!(!out.contains("x-forwarded-host"));
}

const TO_CLIENT: ResponseForward<'static> = ResponseForward {
    framing: Framing::Length(3),
    keep_content_length: false,
    client_version: Version::Http11,
    keep_alive: true,
    date: b"NOW",
    fields: b"",
};

fn answer(text: &str, of: ResponseTo, f: ResponseForward<'_>) -> String {
    let (head, _) = parse_response(text.as_bytes(), of).unwrap().unwrap();
    let mut out = Vec::new();
    write_response_head(&mut out, text.as_bytes(), &head, &f);
    String::from_utf8(out).unwrap()
}

#[test]
fn responses() {
    for (text, want) in [
        (
            "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 003\r\nX: y\r\n\r\n",
            "HTTP/1.1 200 OK\r\nDate: D\r\nX: y\r\nvia: 1.1 ringway\r\ncontent-length: 3\r\n\r\n",
        ),
        (
            "HTTP/1.0 404 Who Knows\r\nContent-Length: 3\r\n\r\n",
            "HTTP/1.1 404 Who Knows\r\ndate: NOW\r\nvia: 1.0 ringway\r\ncontent-length: 3\r\n\r\n",
        ),
        (
            "HTTP/1.1 200\r\nContent-Length: 3\r\nX: y\r\n\r\n",
            "HTTP/1.1 200 \r\nX: y\r\ndate: NOW\r\nvia: 1.1 ringway\r\ncontent-length: 3\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 \r\nContent-Length: 3\r\n\r\n",
            "HTTP/1.1 200 \r\ndate: NOW\r\nvia: 1.1 ringway\r\ncontent-length: 3\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nDate: D\r\nSet-Cookie: a=b, c\r\nset-cookie: d\r\n\r\n",
            "HTTP/1.1 200 OK\r\nDate: D\r\nSet-Cookie: a=b, c\r\nset-cookie: d\r\nvia: 1.1 ringway\r\n\
             content-length: 3\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: close, x\r\nX: 1\r\nDate: D\r\nKeep-Alive: 5\r\nVia: 1.1 b\r\n\
             Upgrade: h2\r\nProxy-Connection: a\r\nProxy-Authenticate: b\r\nTE: c\r\nA: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nDate: D\r\nVia: 1.1 b\r\nA: 1\r\nvia: 1.1 ringway\r\ncontent-length: 3\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nDate: D\r\nConnection: set-cookie, date\r\nSet-Cookie: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nDate: D\r\nSet-Cookie: a\r\nvia: 1.1 ringway\r\ncontent-length: 3\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nDate: D\r\nServer: s\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nDate: D\r\nServer: s\r\nTrailer: x\r\nvia: 1.1 ringway\r\ncontent-length: 3\r\n\r\n",
        ),
        ("HTTP/1.1 100 Continue\r\nX: y\r\n\r\n", "HTTP/1.1 100 Continue\r\nX: y\r\n\r\n"),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        ),
        ("HTTP/1.1 102\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "HTTP/1.1 102 \r\n\r\n"),
        (
            "HTTP/1.1 204 No Content\r\nDate: D\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nDate: D\r\nvia: 1.1 ringway\r\n\r\n",
        ),
    ] {
        assert_eq!(answer(text, GET, TO_CLIENT), want, "{text:?}");
    }
}

#[test]
fn framing_and_connection_of_responses() {
    let text = "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 3\r\n\r\n";
    let written = |f| {
        let out = answer(text, GET, f);
        out.strip_prefix("HTTP/1.1 200 OK\r\nDate: D\r\nvia: 1.1 ringway\r\n").unwrap().to_owned()
    };
    let chunked = ResponseForward { framing: Framing::Chunked, ..TO_CLIENT };
    assert_eq!(written(chunked), "transfer-encoding: chunked\r\n\r\n");
    let until_close =
        ResponseForward { framing: Framing::UntilClose, keep_alive: false, ..TO_CLIENT };
    assert_eq!(written(until_close), "connection: close\r\n\r\n");
    let old = ResponseForward { client_version: Version::Http10, ..TO_CLIENT };
    assert_eq!(written(old), "connection: keep-alive\r\ncontent-length: 3\r\n\r\n");
    let closing = ResponseForward { keep_alive: false, ..TO_CLIENT };
    assert_eq!(written(closing), "connection: close\r\ncontent-length: 3\r\n\r\n");
    let empty = ResponseForward { framing: Framing::Empty, ..TO_CLIENT };
    assert_eq!(written(empty), "content-length: 0\r\n\r\n");
}

#[test]
fn lengths_of_bodies_that_are_not_there() {
    let head = ResponseTo { method: Method::Head, upgrade: false };
    let kept = ResponseForward { framing: Framing::Empty, keep_content_length: true, ..TO_CLIENT };
    let bare = ResponseForward { keep_content_length: false, ..kept };
    for (text, of, f, length) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", head, kept, Some("9")),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", head, bare, None),
        ("HTTP/1.1 200 OK\r\n\r\n", head, kept, None),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", head, kept, None),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", GET, kept, Some("9")),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", GET, kept, None),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", GET, bare, None),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", GET, kept, None),
        ("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", GET, bare, Some("0")),
        ("HTTP/1.1 205 Reset Content\r\n\r\n", GET, bare, Some("0")),
    ] {
        let out = answer(text, of, f);
        let want = length.map(|length| format!("content-length: {length}\r\n"));
        assert_eq!(out.contains("content-length"), want.is_some(), "{text:?}: {out}");
        assert!(out.contains(want.as_deref().unwrap_or("")), "{text:?}: {out}");
        assert!(!out.contains("transfer-encoding"));
    }
}

#[test]
fn switching_protocols() {
    let of = ResponseTo { method: Method::Get, upgrade: true };
    let text = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Accept: x\r\n\r\n";
    assert_eq!(
        answer(text, of, TO_CLIENT),
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nupgrade: websocket\r\n\
         connection: upgrade\r\n\r\n"
    );
}
