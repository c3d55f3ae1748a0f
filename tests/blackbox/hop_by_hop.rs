//! Fields that belong to one connection only are dropped in both directions, what ringway adds is
//! added once, and what clients claim about themselves is not believed.
//! Sources: RFC 9110 §7.6, RFC 7239.

use crate::support::{Conf, Origin, Ringway, Row, Step, row, run_rows, tls::scheme};

fn get(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
}

#[test]
fn request_fields_that_are_dropped() {
    let mut rows: Vec<Row> = Vec::new();
    for (fields, dropped) in [
        ("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", "keep-alive"),
        ("Keep-Alive: timeout=5\r\n", "keep-alive"),
        ("Proxy-Connection: keep-alive\r\n", "proxy-connection"),
        ("proxy-connection: x\r\n", "proxy-connection"),
        ("TE: gzip\r\n", "te"),
        ("TE: gzip\r\nConnection: te\r\n", "te"),
        ("Upgrade: h2c\r\n", "upgrade"),
        ("Upgrade: websocket\r\n", "upgrade"),
        (
            "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
            "upgrade",
        ),
        (
            "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
            "http2-settings",
        ),
        ("HTTP2-Settings: AAMAAABk\r\n", "http2-settings"),
        ("Proxy-Authorization: Basic eDp5\r\n", "proxy-authorization"),
        ("Connection: X-Hop\r\nX-Hop: 1\r\n", "x-hop"),
        ("Connection: x-hop\r\nX-HOP: 1\r\nX-hop: 2\r\n", "x-hop"),
        ("X-Hop: 1\r\nConnection: keep-alive, X-Hop\r\n", "x-hop"),
        ("Connection: a\r\nConnection: x-hop\r\nX-Hop: 1\r\n", "x-hop"),
        ("Connection: ,, x-hop ,\r\nX-Hop: 1\r\n", "x-hop"),
        ("Connection:x-a,x-hop\r\nX-Hop: 1\r\nX-A: 2\r\n", "x-hop"),
        ("Connection: \tx-hop\t\r\nX-Hop: 1\r\n", "x-hop"),
        ("X_Forwarded_For: 1.1.1.1\r\n", "x_forwarded_for"),
        ("X-Forwarded_For: 1.1.1.1\r\n", "x-forwarded_for"),
        ("X_Real_IP: 1.1.1.1\r\n", "x_real_ip"),
        ("X-Real-IP: 1.1.1.1\r\n", "x-real-ip"),
        ("Forwarded: for=1.1.1.1\r\n", "forwarded"),
        ("X-Forwarded-Port: 99\r\n", "x-forwarded-port"),
    ] {
        rows.push(row(format!("{fields:?}"), get(fields)).absent(dropped).absent("keep-alive"));
    }
    run_rows(rows);
}

#[test]
fn request_fields_that_stay() {
    let mut rows: Vec<Row> = Vec::new();
    for (fields, name, value) in [
        ("Connection: authorization\r\nAuthorization: Bearer x\r\n", "authorization", "Bearer x"),
        ("Connection: cookie\r\nCookie: a=b\r\n", "cookie", "a=b"),
        ("Connection: content-type\r\nContent-Type: text/plain\r\n", "content-type", "text/plain"),
        ("Connection: cache-control\r\nCache-Control: no-cache\r\n", "cache-control", "no-cache"),
        ("Connection: date\r\nDate: x\r\n", "date", "x"),
        ("Connection: x-other\r\nX-Hop: 1\r\n", "x-hop", "1"),
        ("Connection: hop\r\nX-Hop: 1\r\n", "x-hop", "1"),
        ("X-A: 1\r\nX-A: 2\r\n", "x-a", "1, 2"),
        ("X-Empty:\r\n", "x-empty", ""),
        ("X-Tab: a\tb\r\n", "x-tab", "a\tb"),
        ("X-Obs: caf\u{e9}\r\n", "x-obs", "caf\u{c3}\u{a9}"),
        ("X-Long_Name: 1\r\n", "x-long_name", "1"),
        ("Trailer: X-Sum\r\n", "trailer", "X-Sum"),
        ("Cookie: a=1; b=2\r\n", "cookie", "a=1; b=2"),
        ("!#$%&'*+-.^_`|~9: odd\r\n", "!#$%&'*+-.^_`|~9", "odd"),
        ("X:1\r\n", "x", "1"),
        ("Range: bytes=0-1\r\n", "range", "bytes=0-1"),
        ("Accept-Encoding: gzip\r\n", "accept-encoding", "gzip"),
        ("User-Agent: \"x\" (y; z)\r\n", "user-agent", "\"x\" (y; z)"),
    ] {
        rows.push(row(format!("{fields:?}"), get(fields)).field(name, value));
    }
    rows.push(row("TE: trailers is sent on", get("TE: trailers\r\n")).field("te", "trailers"));
    rows.push(
        row("TE: trailers among others", get("TE: gzip;q=0.5, trailers\r\n"))
            .field("te", "trailers"),
    );
    for fields in
        ["Connection: @\r\n", "Connection: a b\r\n", "Connection: \"x\"\r\n", "Connection: a;b\r\n"]
    {
        rows.push(row(format!("bad {fields:?}"), get(fields)).refused(&[400]));
    }
    run_rows(rows);
}

#[test]
fn connection_close_and_versions() {
    let rows = vec![
        row("close is obeyed and not forwarded", get("Connection: close\r\n"))
            .absent("connection")
            .closes(),
        row("Close in capitals", get("Connection: CLOSE\r\n")).closes(),
        row("close among others", get("Connection: x-a, close\r\nX-A: 1\r\n"))
            .absent("x-a")
            .closes(),
        row("keep-alive", get("Connection: keep-alive\r\n")),
        row("1.0 closes", "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").line("GET / HTTP/1.1").closes(),
        row(
            "1.0 with keep-alive is kept",
            "GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n",
        )
        .answers_field("connection", "keep-alive"),
        row(
            "1.0 with keep-alive and close",
            "GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive, close\r\n\r\n",
        )
        .closes(),
        row(
            "pipelined behind close is not served",
            format!("{}{}", get("Connection: close\r\n"), get("")),
        )
        .closes(),
    ];
    run_rows(rows);
}

#[test]
fn what_is_added() {
    let rows = vec![
        row("Via", get("")).field("via", "1.1 ringway").answers_field("via", "1.1 ringway"),
        row("Via extended", get("Via: 1.0 old\r\n")).field("via", "1.0 old, 1.1 ringway"),
        row("X-Forwarded-*", get(""))
            .field("x-forwarded-for", "127.0.0.1")
            .field("x-forwarded-proto", scheme())
            .field("x-forwarded-host", "a.test"),
        row("a client's claims are replaced",
            get("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\n"))
            .field("x-forwarded-for", "127.0.0.1")
            .field("x-forwarded-proto", scheme())
            .field("x-forwarded-host", "a.test")
            .absent("forwarded"),
        row("claims sent twice", get("X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 7.7.7.7\r\n"))
            .field("x-forwarded-for", "127.0.0.1"),
        row("Max-Forwards is left alone on GET", get("Max-Forwards: 7\r\n")).field("max-forwards", "7"),
        row("Max-Forwards counts down on OPTIONS", "OPTIONS /x HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 7\r\n\r\n")
            .field("max-forwards", "6"),
        row("Max-Forwards: 1", "OPTIONS /x HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 1\r\n\r\n")
            .field("max-forwards", "0"),
        row("Max-Forwards: 0 OPTIONS", "OPTIONS /x HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n").own(&[200]),
        row("Max-Forwards: 0 TRACE", "TRACE /x HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n").own(&[405]),
        row("Max-Forwards that is no number", "OPTIONS /x HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: x\r\n\r\n")
            .refused(&[400]),
    ];
    run_rows(rows);
}

#[test]
fn trusted_proxies_are_believed_and_extended() {
    let origin = Origin::echo();
    let conf = Conf::to(origin.address)
        .one_core()
        .listener("trusted_proxies = [\"127.0.0.0/8\", \"::1\"]")
        .listener("forwarded = true");
    let proxy = Ringway::start(&conf);
    let mut client = proxy.connect();
    client.send(get(
        "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.test\r\n",
    ));
    assert_eq!(client.response().status(), 200);
    client.send(get(""));
    assert_eq!(client.response().status(), 200);
    let seen = origin.seen();
    let first = &seen[0].head;
    assert_eq!(first.get("x-forwarded-for"), Some("192.0.2.7, 127.0.0.1"));
    assert_eq!(first.get("x-forwarded-proto"), Some("https"));
    assert_eq!(first.get("x-forwarded-host"), Some("shop.test"));
    let second = &seen[1].head;
    assert_eq!(second.get("x-forwarded-for"), Some("127.0.0.1"));
    let forwarded = second.get("forwarded").expect("`forwarded = true` adds the field");
    assert!(forwarded.contains("for=127.0.0.1"), "{forwarded}");
    assert!(forwarded.contains("proto=http"), "{forwarded}");
}

/// What an endpoint says about its own connection is not the client's business.
#[test]
fn response_fields_that_are_dropped() {
    let origin = Origin::auto(|_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-Hop, set-cookie\r\n\
                    X-Hop: 1\r\nKeep-Alive: timeout=9\r\nProxy-Connection: x\r\nUpgrade: h2c\r\n\
                    Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nTrailer: X-Sum\r\nX-Stay: 1\r\nDate: Fri, 20 Nov 2026 10:00:00 GMT\r\n\
                    Server: test\r\nVia: 1.0 inner\r\n\r\nhi";
        vec![Step::Send(head.into())]
    });
    let proxy = Ringway::start(&Conf::to(origin.address).one_core());
    let answer = proxy.connect().fetch("/");
    for name in ["x-hop", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(answer.head.get(name), None, "{name}");
    }
    assert_eq!(answer.head.all("set-cookie"), ["a=1", "b=2"], "a protected field stays");
    assert_eq!(answer.head.get("x-stay"), Some("1"));
    assert_eq!(answer.head.get("date"), Some("Fri, 20 Nov 2026 10:00:00 GMT"), "kept as it came");
    assert_eq!(answer.head.get("server"), Some("test"));
    assert_eq!(answer.head.all("via").join(", "), "1.0 inner, 1.1 ringway");
    assert_eq!(answer.text(), "hi");
}

#[test]
fn date_is_added_when_missing() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address).one_core());
    let answer = proxy.connect().fetch("/");
    let date = answer.head.get("date").expect("a date").to_owned();
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    let own = proxy.connect();
    let mut own = own;
    own.send("BAD\r\n\r\n");
    assert!(own.response().head.get("date").is_some(), "ringway's own answers have a date");
}
