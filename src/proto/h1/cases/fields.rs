//! Field lines, Connection, Expect, Upgrade, Max-Forwards.

use super::*;

#[test]
fn lines_accepted() {
    for (line, name, value) in [
        ("X: y", "X", "y"),
        ("X:y", "X", "y"),
        ("X:", "X", ""),
        ("X: ", "X", ""),
        ("X: \t \t", "X", ""),
        ("X:\ty\t", "X", "y"),
        ("X:  a  b  ", "X", "a  b"),
        ("X: a\tb", "X", "a\tb"),
        ("X: a:b:c", "X", "a:b:c"),
        ("X: \"a, b\"", "X", "\"a, b\""),
        ("X: caf\u{e9}", "X", "caf\u{e9}"),
        ("X: \u{20ac}", "X", "\u{20ac}"),
        ("!#$%&'*+-.^_`|~09azAZ: y", "!#$%&'*+-.^_`|~09azAZ", "y"),
        ("my_header: y", "my_header", "y"),
        ("_: y", "_", "y"),
        ("1: y", "1", "y"),
    ] {
        let text = get_with(&format!("{line}\r\n"));
        let head = accept(&text);
        let field = head.fields(text.as_bytes()).nth(1).unwrap();
        assert_eq!((field.name, field.value), (name.as_bytes(), value.as_bytes()), "{line:?}");
        assert!(!field.hop_by_hop);
        let values: Vec<_> = head.field_values(text.as_bytes(), field.name).collect();
        assert_eq!(values, [value.as_bytes()]);
    }
}

#[test]
fn lines_refused() {
    for (line, error) in [
        (": y", HeadError::FieldName),
        ("X", HeadError::FieldName),
        ("X y", HeadError::FieldName),
        ("X : y", HeadError::FieldName),
        ("X\t: y", HeadError::FieldName),
        ("X\u{a0}: y", HeadError::FieldName),
        ("X y: z", HeadError::FieldName),
        ("(X): y", HeadError::FieldName),
        ("X,Y: z", HeadError::FieldName),
        ("X/Y: z", HeadError::FieldName),
        ("X;Y: z", HeadError::FieldName),
        ("X=Y: z", HeadError::FieldName),
        ("X?: z", HeadError::FieldName),
        ("X@: z", HeadError::FieldName),
        ("X[]: z", HeadError::FieldName),
        ("{X}: z", HeadError::FieldName),
        ("\"X\": z", HeadError::FieldName),
        ("X\\: z", HeadError::FieldName),
        ("\u{e9}: z", HeadError::FieldName),
        ("X\0: z", HeadError::FieldName),
        ("\0: z", HeadError::FieldName),
        ("X\x7f: z", HeadError::FieldName),
        ("GET / HTTP/1.1", HeadError::FieldName),
        (" X: y", HeadError::ObsFold),
        ("\tX: y", HeadError::ObsFold),
        (" ", HeadError::ObsFold),
        ("X: y\r\n z", HeadError::ObsFold),
        ("X: y\r\n\tz", HeadError::ObsFold),
        ("X: y\r\n ", HeadError::ObsFold),
        ("X: \0", HeadError::FieldValue),
        ("X: a\0b", HeadError::FieldValue),
        ("X: \x01", HeadError::FieldValue),
        ("X: \x08", HeadError::FieldValue),
        ("X: \x0b", HeadError::FieldValue),
        ("X: \x0c", HeadError::FieldValue),
        ("X: \x1b[0m", HeadError::FieldValue),
        ("X: \x1f", HeadError::FieldValue),
        ("X: \x7f", HeadError::FieldValue),
        ("X: y\nZ: 1", HeadError::BareLf),
        ("X: y\n Z", HeadError::BareLf),
        ("X\n: y", HeadError::BareLf),
        ("X:\n y", HeadError::BareLf),
        ("X: y\rZ: 1", HeadError::BareCr),
        ("X: y\r\r\n", HeadError::BareCr),
        ("X\r: y", HeadError::FieldName),
    ] {
        assert_eq!(refuse(get_with(&format!("{line}\r\n")).as_bytes()), error, "{line:?}");
        let first = format!("GET / HTTP/1.1\r\n{line}\r\nHost: a\r\n\r\n");
        assert_eq!(refuse(first.as_bytes()), error, "{line:?}");
    }
}

#[test]
fn keep_alive() {
    for (version, lines, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: x, ,close\r\n", false),
        ("1.1", "Connection:\r\n", true),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Proxy-Connection: close\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: Keep-Alive, x\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Proxy-Connection: keep-alive\r\n", false),
        ("1.0", "Keep-Alive: timeout=5\r\n", false),
    ] {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(accept(&text).keep_alive(), keep_alive, "{version} {lines:?}");
    }
    for value in ["close;x", "a b", "\"close\"", "keep-alive; timeout=5", "a=b", "(x)", "\u{e9}"] {
        let text = get_with(&format!("Connection: {value}\r\n"));
        assert_eq!(refuse(text.as_bytes()), HeadError::Connection, "{value}");
    }
    let many = get_with(&format!("Connection: {}\r\n", "a,".repeat(40)));
    assert_eq!(refuse(many.as_bytes()), HeadError::Connection);
    let many = get_with(&"Connection: a\r\n".repeat(40));
    assert_eq!(refuse(many.as_bytes()), HeadError::Connection);
}

#[test]
fn hop_by_hop_marks() {
    for (lines, dropped) in [
        ("Connection: close\r\nX: y\r\n", "Connection"),
        ("X: y\r\nConnection: x\r\n", "X Connection"),
        ("Connection: x-a, X-B\r\nX-A: 1\r\nx-b: 2\r\nX-C: 3\r\n", "Connection X-A x-b"),
        ("Connection: a\r\nConnection: b\r\nA: 1\r\nB: 2\r\n", "Connection Connection A B"),
        ("X: 1\r\nX: 2\r\nConnection: x\r\nX: 3\r\n", "X X Connection X"),
        ("Keep-Alive: 5\r\nProxy-Connection: x\r\n", "Keep-Alive Proxy-Connection"),
        ("TE: trailers\r\nTrailer: x\r\n", "TE"),
        ("Connection: trailer\r\nTrailer: x\r\n", "Connection Trailer"),
        ("Upgrade: websocket\r\n", "Upgrade"),
        ("HTTP2-Settings: AAMAAABkAAQAAP__\r\n", "HTTP2-Settings"),
        ("Proxy-Authorization: Basic eA==\r\n", "Proxy-Authorization"),
        ("Proxy-Authenticate: Basic\r\n", "Proxy-Authenticate"),
        ("Transfer-Encoding: chunked\r\n", "Transfer-Encoding"),
        ("Connection: authorization\r\nAuthorization: x\r\n", "Connection"),
        ("Connection: cookie\r\nCookie: x\r\n", "Connection"),
        (
            "Connection: x-forwarded-for, x-forwarded-port\r\nX-Forwarded-For: 1\r\nX-Forwarded-Port: 1\r\n",
            "Connection",
        ),
        ("Connection: forwarded, via, date\r\nForwarded: a\r\nVia: b\r\nDate: c\r\n", "Connection"),
        (
            "Connection: content-type, cache-control\r\nContent-Type: a\r\nCache-Control: b\r\n",
            "Connection",
        ),
        (
            "Connection: x-real-ip, range, max-forwards\r\nX-Real-IP: a\r\nRange: b\r\nMax-Forwards: 1\r\n",
            "Connection",
        ),
        ("Connection: not-there\r\n", "Connection"),
        (
            "X_Forwarded_For: 1\r\nX-Forwarded_Proto: a\r\nx_real_ip: 1\r\n",
            "X_Forwarded_For X-Forwarded_Proto x_real_ip",
        ),
        ("Expect: 100-continue\r\n", "Expect"), // there is no body to wait with
    ] {
        let text = get_with(lines);
        let head = accept(&text);
        let names = head.fields(text.as_bytes()).filter(|field| field.hop_by_hop);
        let names: Vec<_> = names.map(|field| std::str::from_utf8(field.name).unwrap()).collect();
        assert_eq!(names.join(" "), dropped, "{lines:?}");
    }
}

#[test]
fn expectations() {
    let expects = |text: &str| accept(text).expects_continue();
    assert!(expects(&post_with("Content-Length: 5\r\nExpect: 100-continue\r\n")));
    assert!(expects(&post_with("Expect: 100-CONTINUE\r\nTransfer-Encoding: chunked\r\n")));
    assert!(!expects(&post_with("Expect: 100-continue\r\n")));
    assert!(!expects(&post_with("Expect: 100-continue\r\nContent-Length: 0\r\n")));
    assert!(!expects(&post_with("Content-Length: 5\r\n")));
    assert!(!expects("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"));
    assert!(!expects("POST / HTTP/1.0\r\nExpect: cow\r\nContent-Length: 5\r\n\r\n"));
    for value in
        ["cow", "", "100", "100-continue, cow", "200-ok", "100-continue;q=1", "\"100-continue\""]
    {
        let text = post_with(&format!("Content-Length: 5\r\nExpect: {value}\r\n"));
        assert_eq!(refuse(text.as_bytes()), HeadError::Expectation, "{value}");
    }
    let two = post_with("Expect: cow\r\nContent-Length: 5\r\nExpect: 100-continue\r\n");
    assert_eq!(refuse(two.as_bytes()), HeadError::Expectation);
    assert_eq!(HeadError::Expectation.reason().status(), 417);
}

#[test]
fn upgrades() {
    for (text, upgrade) in [
        (get_with("Connection: Upgrade\r\nUpgrade: websocket\r\n"), true),
        (get_with("Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\n"), true),
        (get_with("Connection: upgrade\r\nUpgrade: h2c, websocket\r\n"), true),
        (get_with("Connection: upgrade\r\nUpgrade: a/1\r\nContent-Length: 0\r\n"), true),
        (get_with("Upgrade: websocket\r\n"), false),
        (get_with("Connection: upgrade\r\n"), false),
        (get_with("Connection: upgrade\r\nUpgrade:\r\n"), false),
        (get_with("Connection: upgrade\r\nUpgrade: h2c\r\n"), false),
        (
            get_with(
                "Connection: upgrade, http2-settings\r\nUpgrade: H2C\r\nHTTP2-Settings: x\r\n",
            ),
            false,
        ),
        (get_with("Connection: upgrade\r\nUpgrade: web socket\r\n"), false),
        (post_with("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n"), false),
        (post_with("Connection: upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n"), false),
        ("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(), false),
    ] {
        assert_eq!(accept(&text).upgrade(), upgrade, "{text:?}");
    }
}

#[test]
fn max_forwards() {
    for (method, value, want) in [
        ("OPTIONS", "0", Some(0)),
        ("TRACE", "10", Some(10)),
        ("OPTIONS", "007", Some(7)),
        ("OPTIONS", "4294967295", Some(u32::MAX)),
        ("TRACE", "99999999999999999999999", Some(u32::MAX)),
        ("GET", "0", None),
        ("GET", "junk", None),
    ] {
        let text = format!("{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {value}\r\n\r\n");
        assert_eq!(accept(&text).max_forwards(), want, "{method} {value}");
    }
    for lines in [
        "Max-Forwards: x",
        "Max-Forwards:",
        "Max-Forwards: -1",
        "Max-Forwards: 1, 1",
        "Max-Forwards: 1\r\nMax-Forwards: 1",
    ] {
        let text = format!("TRACE / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
        assert_eq!(refuse(text.as_bytes()), HeadError::MaxForwards, "{lines:?}");
    }
}
