//! Where two rules meet: a good request before a bad one, an answer before the end of its request, a
//! client that leaves at the worst moment, an endpoint that says too much.

use std::time::Duration;

use crate::support::{
    Conf, End, Origin, Ringway, Step,
    origin::reply,
    pattern, row, run_rows,
    wire::{Kind, ReadError},
};

fn start(origin: &Origin) -> Ringway {
    Ringway::start(&Conf::to(origin.address).one_core())
}

/// What follows a good request is judged by itself: the good one is served, the bad one refused,
/// and what stands behind the bad one is never read as a request.
#[test]
fn a_bad_request_behind_a_good_one() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    for bad in [
        "garbage\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX : y\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        "GET / HTTP/1.1\nHost: a.test\n\n",
    ] {
        for good in [
            "GET /good HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "POST /good HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello",
            "POST /good HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ] {
            let before = origin.seen_count();
            let mut client = proxy.connect();
            client.send(format!("{good}{bad}GET /behind HTTP/1.1\r\nHost: a.test\r\n\r\n"));
            let first = client.response();
            assert_eq!(first.status(), 200, "{good:?} before {bad:?}");
            assert_eq!(client.response().status(), 400, "{bad:?} behind {good:?}");
            client.assert_closed();
            assert_eq!(proxy.connect().fetch("/probe").text(), "GET /probe");
            let seen = origin.seen_since(before);
            let whole: Vec<_> = seen.iter().filter(|seen| seen.whole).collect();
            assert_eq!(whole.len(), 2, "{bad:?}: {whole:?}");
        }
    }
}

/// Bytes beyond the announced length are the next request, and a bad one.
#[test]
fn a_body_that_is_longer_than_announced() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let mut client = proxy.connect();
    client.send("POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello world, this is more\r\n\r\n");
    assert_eq!(client.response().text(), "POST /x");
    assert_eq!(client.response().status(), 400);
    client.assert_closed();
    assert_eq!(origin.seen()[0].body, b"hello");
}

/// A body that ends early is no request.
#[test]
fn a_body_that_is_shorter_than_announced() {
    let origin = Origin::start();
    let proxy = start(&origin);
    for part in [
        "Content-Length: 10\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ] {
        let mut client = proxy.connect();
        client.send(format!("POST /x HTTP/1.1\r\nHost: a.test\r\n{part}"));
        let mut request = origin.next_head();
        client.half_close();
        let head = request.head.clone();
        request.wire().patience = Duration::from_secs(5);
        match request.wire().read_body(head, Kind::Request) {
            Ok(message) => {
                assert!(matches!(message.end, End::Truncated(_)), "{part:?} looks whole upstream");
            }
            Err(error) => assert!(!matches!(error, ReadError::Garbage(_)), "{error:?}"),
        }
        match client.try_response("POST") {
            Ok(answer) => assert!(answer.status() >= 400, "{part:?}: {}", answer.status()),
            Err(ReadError::Silent(_)) => panic!("{part:?}: left hanging"),
            Err(_) => {}
        }
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_download() {
    for framing in ["Content-Length: 100000000", "Transfer-Encoding: chunked"] {
        for reset in [false, true] {
            let origin = Origin::start();
            let proxy = start(&origin);
            let mut client = proxy.connect();
            client.get("/big");
            let mut request = origin.next_request();
            request.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
            request.send("8\r\nabcdefgh\r\n");
            client.read_head().expect("a head");
            if reset {
                socket2::SockRef::from(&client.stream)
                    .set_linger(Some(Duration::ZERO))
                    .expect("linger");
                drop(client);
            } else {
                client.gone();
            }
            let told = request.cancelled_within(Duration::from_secs(3));
            assert!(told, "{framing}, reset {reset}: the endpoint is told within 3 s");
        }
    }
}

/// The endpoint answers and closes before it has read the whole upload.
#[test]
fn an_endpoint_that_answers_an_upload_early_and_closes() {
    for status in [200, 401, 413, 500] {
        let origin = Origin::start();
        let proxy = start(&origin);
        let mut client = proxy.connect();
        client.send("POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3000000\r\n\r\n");
        client.send(pattern(10_000));
        let mut request = origin.next_head();
        request.send(format!(
            "HTTP/1.1 {status} Early\r\nConnection: close\r\nContent-Length: 5\r\n\r\nearly"
        ));
        request.close();
        // The client goes on sending, as most do until they look.
        for _ in 0..20 {
            if !client.try_send(pattern(100_000)) {
                break;
            }
        }
        match client.try_response("POST") {
            Ok(answer) => assert_eq!((answer.status(), answer.text().as_str()), (status, "early")),
            Err(error) => panic!("{status}: the answer was lost: {error:?}"),
        }
    }
}

/// An upload whose endpoint goes away has no answer but 502, and is not sent again.
#[test]
fn an_endpoint_that_dies_during_an_upload() {
    for reset in [false, true] {
        let origin = Origin::start();
        let proxy = start(&origin);
        let mut client = proxy.connect();
        client.send("PUT /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\n");
        client.send(pattern(50_000));
        let request = origin.next_head();
        if reset {
            request.reset()
        } else {
            request.close()
        }
        client.try_send(pattern(50_000));
        client.response().assert_own(502, "upstream_closed");
        assert!(!origin.got_another(Duration::from_millis(200)), "sent twice");
    }
}

#[test]
fn odd_but_valid_combinations() {
    let rows = vec![
        row("1.0 POST", "POST /x HTTP/1.0\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello").body("hello").closes(),
        row(
            "1.0 POST kept alive",
            "POST /x HTTP/1.0\r\nHost: a.test\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\nhello",
        )
        .body("hello"),
        row("OPTIONS with a body", "OPTIONS /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi").body("hi"),
        row("TRACE is forwarded", "TRACE /x HTTP/1.1\r\nHost: a.test\r\n\r\n").line("TRACE /x HTTP/1.1"),
        row("100 fields", format!("GET /x HTTP/1.1\r\nHost: a.test\r\n{}\r\n", "X-A: b\r\n".repeat(100))),
        row("an empty header value", "GET /x HTTP/1.1\r\nHost: a.test\r\nX-E: \t \r\n\r\n").field("x-e", ""),
        row("Content-Length and close", "POST /x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
            .body("hi")
            .closes(),
        row("chunked and close", "POST /x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
            .body("hi")
            .closes(),
        row("an empty line between two requests", "GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n\r\nGET /b HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .requests(2)
            .line("GET /a HTTP/1.1"),
    ];
    run_rows(rows);
}

/// Framing fields in answers that have no body by definition mislead nobody.
#[test]
fn bodiless_answers_with_framing_fields() {
    let origin = Origin::auto(|seen| {
        let answer = match seen.head.word(1) {
            "/100" => {
                "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            }
            "/304-chunked" => "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
            "/head-both" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain",
        };
        vec![Step::Send(answer.into())]
    });
    let proxy = start(&origin);
    let mut client = proxy.connect();
    for (method, path, statuses) in [
        ("GET", "/100", [200, 502]),
        ("GET", "/304-chunked", [304, 502]),
        ("HEAD", "/head-both", [200, 200]),
    ] {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        let answer = client.response_to(method);
        assert!(statuses.contains(&answer.status()), "{path}: {}", answer.status());
        assert_eq!(client.fetch("/plain").text(), "plain", "after {path}");
    }
}

/// A 204 has neither body nor framing; an endpoint that sends some gets its connection closed.
#[test]
fn a_204_with_a_body() {
    let origin = Origin::auto(|seen| match seen.head.word(1) {
        "/204" => {
            vec![Step::Send(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nextra".to_vec())]
        }
        path => vec![Step::Send(reply(200, path))],
    });
    let proxy = start(&origin);
    let mut client = proxy.connect();
    client.get("/204");
    let answer = client.response();
    assert!(answer.status() == 204 || answer.status() == 502, "{}", answer.status());
    if answer.status() == 204 {
        assert_eq!(answer.head.get("content-length"), None, "RFC 9110 §8.6 forbids it");
    }
    let mut client =
        if client.leftover().is_empty() { client } else { panic!("bytes behind a 204") };
    client.get("/next");
    assert_eq!(client.response().text(), "/next");
}

/// Hundreds of clients that trickle cost nobody else anything.
#[test]
fn slow_clients_do_not_hold_up_quick_ones() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let slow: Vec<_> = (0..300)
        .map(|number| {
            let mut client = proxy.connect();
            client.send(&"GET / HTTP/1.1\r\nHost: a.test\r\nX: y"[..1 + number % 30]);
            client
        })
        .collect();
    let mut quick = proxy.connect();
    for number in 0..200 {
        let path = format!("/{number}");
        assert_eq!(quick.fetch(&path).text(), format!("GET {path}"));
    }
    drop(slow);
}

/// A client that pipelines and never reads is stopped by back-pressure, not by our memory.
#[test]
fn a_client_that_pipelines_without_reading() {
    let body = "x".repeat(20_000);
    let origin = Origin::auto(move |_| vec![Step::Send(reply(200, &body))]);
    let proxy = Ringway::start(&Conf::to(origin.address).one_core().limit("body_timeout = \"1s\""));
    assert_eq!(proxy.connect().fetch("/warm").status(), 200);
    let before = crate::support::process::private_memory(proxy.pid());
    let mut client = proxy.connect();
    client.stream.set_write_timeout(Some(Duration::from_secs(3))).expect("a timeout");
    let block = "GET /flood HTTP/1.1\r\nHost: a.test\r\n\r\n".repeat(1000);
    let mut sent = 0;
    while sent < 64 * 1024 * 1024 && client.try_send(&block) {
        sent += block.len();
    }
    assert!(sent < 64 * 1024 * 1024, "no back-pressure");
    let after = crate::support::process::private_memory(proxy.pid());
    assert!(after < before + 1024 * 1024, "{before} -> {after} bytes");
    assert_eq!(proxy.connect().fetch("/alive").status(), 200);
}
