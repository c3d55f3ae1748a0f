//! The plain course of HTTP/1.0 and 1.1: keep-alive, pipelining, torn input, Expect, interim
//! responses, HEAD, framing towards each version, half-closed clients.
//! Sources: RFC 9110 §10.1.1, §15.2; RFC 9112 §9.3.

use std::time::Duration;

use crate::support::{
    Conf, End, Origin, Random, Ringway, Step,
    origin::reply,
    pattern,
    wire::{Kind, ReadError},
};

fn start(origin: &Origin) -> Ringway {
    Ringway::start(&Conf::to(origin.address).one_core())
}

#[test]
fn many_requests_on_one_connection() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let mut client = proxy.connect();
    for number in 0..300 {
        assert_eq!(client.fetch(&format!("/{number}")).text(), format!("GET /{number}"));
    }
    assert_eq!(origin.connections(), 1, "one endpoint connection serves them all");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let mut client = proxy.connect();
    let mut all = String::new();
    for number in 0..100 {
        if number % 3 == 0 {
            all += &format!(
                "POST /{number} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody"
            );
        } else {
            all += &format!("GET /{number} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        }
    }
    client.send(&all);
    for number in 0..100 {
        let answer = client.response();
        let seen = answer.head.get("x-seen").expect("x-seen").to_owned();
        assert!(seen.ends_with(&format!(" /{number}")), "answer {number} is {seen:?}");
    }
}

/// Whatever way the bytes of a request are cut, the outcome is the same.
#[test]
fn requests_torn_at_every_byte() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let mut client = proxy.connect();
    let request = b"POST /torn HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                    5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nX-T: 1\r\n\r\n";
    for cut in 1..request.len() {
        client.send(&request[..cut]);
        // The origin's answer to the first part can't exist yet; a byte is all that is missing.
        std::thread::yield_now();
        client.send(&request[cut..]);
        assert_eq!(client.response().text(), "POST /torn", "cut at {cut}");
    }
    for byte in request {
        client.send([*byte]);
    }
    assert_eq!(client.response().text(), "POST /torn", "byte by byte");
    let seen = origin.wait_seen(request.len());
    assert!(seen.iter().all(|seen| seen.body == b"hello world" && seen.whole));
}

/// Whatever way the bytes of a response are cut, the client gets the same.
#[test]
fn responses_torn_at_every_byte() {
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n\
                   5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nX-T: 1\r\n\r\n";
    let origin = Origin::auto(|seen| {
        let cut: usize = seen.head.word(1)[1..].parse().expect("a number");
        let pause = Step::Pause(Duration::from_millis(1));
        vec![Step::Send(answer[..cut].to_vec()), pause, Step::Send(answer[cut..].to_vec())]
    });
    let proxy = start(&origin);
    let mut client = proxy.connect();
    for cut in 0..answer.len() {
        let got = client.fetch(&format!("/{cut}"));
        assert_eq!((got.text().as_str(), got.end), ("hello world", End::Complete), "cut at {cut}");
        assert_eq!(got.head.get("x-a"), Some("b"), "cut at {cut}");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn answers_are_never_mixed_up_between_clients() {
    const SEED: u64 = 20_261_120;
    let origin = Origin::auto(|seen| {
        let mut random = Random(SEED ^ seen.head.raw.len() as u64 ^ seen.body.len() as u64);
        for byte in &seen.head.raw {
            random.0 = random.next() ^ u64::from(*byte);
        }
        let body = format!("{}|{}", seen.head.word(1), "x".repeat(random.below(3000)));
        let pause = Step::Pause(Duration::from_micros(random.next() % 2000));
        let whole = reply(200, &body);
        let cut = random.below(whole.len());
        vec![
            pause.clone(),
            Step::Send(whole[..cut].to_vec()),
            pause,
            Step::Send(whole[cut..].to_vec()),
        ]
    });
    let proxy = Ringway::start(&Conf::to(origin.address));
    std::thread::scope(|scope| {
        for who in 0..16_u64 {
            let proxy = &proxy;
            scope.spawn(move || {
                let mut random = Random(SEED + who);
                let mut client = proxy.connect();
                for number in 0..60 {
                    let path = format!("/client-{who}-request-{number}");
                    if random.below(3) == 0 {
                        client.post(&path, &pattern(random.below(5000)));
                    } else {
                        client.get(&path);
                    }
                    if random.below(12) == 0 {
                        client = proxy.connect(); // leaves in the middle of it
                        continue;
                    }
                    let text = client.response().text();
                    let owner = text.split('|').next().unwrap_or("");
                    assert_eq!(owner, path, "seed {SEED}");
                }
            });
        }
    });
}

#[test]
fn expect_100_continue_reaches_the_endpoint() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut client = proxy.connect();
    client.send(
        "POST /e HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n",
    );
    let mut request = origin.next_head();
    assert_eq!(request.head.get("expect").map(str::to_lowercase).as_deref(), Some("100-continue"));
    request.send("HTTP/1.1 100 Continue\r\n\r\n");
    let interim = client.read_head().expect("the 100 arrives before the body is sent");
    assert!(interim.start.starts_with("HTTP/1.1 100"), "{}", interim.start);
    client.send("hello");
    request.read_body();
    assert_eq!(request.body, b"hello");
    request.reply(200, "thanks");
    assert_eq!(client.response().text(), "thanks");
    assert_eq!(client_reuse(&mut client, &origin), "again", "the connection is kept");
}

fn client_reuse(client: &mut crate::support::Client, origin: &Origin) -> String {
    client.get("/again");
    origin.next_request().reply(200, "again");
    client.response().text()
}

#[test]
fn expect_with_a_final_answer_instead_of_100() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut client = proxy.connect();
    client.send(
        "POST /e HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    let mut request = origin.next_head();
    request.send(reply(417, "no"));
    let answer = client.response();
    assert_eq!((answer.status(), answer.text().as_str()), (417, "no"));
    // The body was never sent: either side may close, but nothing may be taken for a request.
    client.try_send("GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n");
    match client.try_response("GET") {
        Err(ReadError::Eof(_) | ReadError::Reset(_)) => {}
        Ok(next) => assert_ne!(next.text(), "no", "an answer given twice"),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn expect_of_a_client_that_does_not_wait() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    let mut client = proxy.connect();
    client.send(
        "POST /e HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    );
    assert_eq!(client.response().text(), "POST /e");
    assert_eq!(origin.seen()[0].body, b"hello");
    client.send("POST /f HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 200-ok\r\n\r\n");
    client.response().assert_own(417, "expectation_failed");
    let mut old = proxy.connect();
    old.send("POST /g HTTP/1.0\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello");
    let answer = old.response();
    assert_eq!(answer.text(), "POST /g");
    assert!(answer.interim.is_empty(), "no 100 to a 1.0 client");
    assert_eq!(origin.seen()[1].head.get("expect"), None, "dropped: a 1.0 client can't mean it");
}

#[test]
fn early_hints_are_passed_on() {
    let origin = Origin::auto(|_| {
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
        let more = "HTTP/1.1 102 Processing\r\n\r\n";
        vec![Step::Send([interim.as_bytes(), more.as_bytes(), &reply(200, "page")].concat())]
    });
    let proxy = start(&origin);
    let mut client = proxy.connect();
    for _ in 0..3 {
        let answer = client.fetch("/");
        let starts: Vec<&str> = answer.interim.iter().map(|head| head.word(1)).collect();
        assert_eq!(starts, ["103", "102"]);
        assert_eq!(answer.interim[0].get("link"), Some("</a.css>; rel=preload"));
        assert_eq!(answer.text(), "page");
    }
    let mut old = proxy.connect();
    old.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    assert!(old.response().interim.is_empty(), "a 1.0 client gets no interim response");
}

/// An endpoint may refuse while the upload runs; the client hears it, and nothing is left behind.
#[test]
fn early_final_response_during_an_upload() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut client = proxy.connect();
    client.send("POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n");
    client.send(pattern(1000));
    let mut request = origin.next_head();
    request.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
    let answer = client.response();
    assert_eq!((answer.status(), answer.text().as_str()), (413, "big"));
    assert!(request.cancelled_within(Duration::from_secs(5)), "the upload to the endpoint ends");
    let mut next = proxy.connect();
    next.get("/next");
    origin.next_request().reply(200, "fine");
    assert_eq!(next.response().text(), "fine");
}

#[test]
fn a_response_streams_while_the_upload_runs() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut client = proxy.connect();
    client.send("POST /chat HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut request = origin.next_head();
    request.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let head = client.read_head().expect("the head arrives during the upload");
    assert!(head.start.contains("200"));
    for round in 0..20 {
        let word = format!("word-{round:02}");
        client.send(format!("7\r\n{word}\r\n"));
        assert_eq!(request.wire().read_chunk(), Ok(Some(word.clone().into_bytes())));
        request.send(format!("7\r\n{word}\r\n"));
        assert_eq!(client.read_chunk(), Ok(Some(word.into_bytes())), "round {round}");
    }
    client.send("0\r\n\r\n");
    assert_eq!(request.wire().read_chunk(), Ok(None));
    request.send("0\r\n\r\n");
    assert_eq!(client.read_chunk(), Ok(None));
}

#[test]
fn a_client_that_closes_its_sending_side_still_gets_its_answer() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut client = proxy.connect();
    client.get("/half");
    client.half_close();
    origin.next_request().reply(200, "still here");
    assert_eq!(client.response().text(), "still here");
    client.assert_closed();
}

#[test]
fn a_client_that_left_cancels_the_request_upstream() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut client = proxy.connect();
    client.get("/slow");
    let mut request = origin.next_request();
    client.gone();
    assert!(request.cancelled_within(Duration::from_secs(3)), "the endpoint is told within 3 s");
    let log = proxy.access_log(1);
    assert_eq!(log[0]["reason"], "client_gone", "{log:?}");

    let mut client = proxy.connect();
    client.send("POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\nhalf of it");
    let mut request = origin.next_head();
    client.reset_now();
    assert!(request.cancelled_within(Duration::from_secs(3)), "also in the middle of an upload");
}

impl crate::support::Client {
    /// Ends with a reset.
    fn reset_now(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }
}

#[test]
fn head_and_bodiless_statuses() {
    let origin = Origin::auto(|seen| {
        let answer = match seen.head.word(1) {
            "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
            "/head-chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "/head-none" => "HTTP/1.1 200 OK\r\nX: y\r\n\r\n",
            "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
            "/205" => "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 77\r\n\r\n",
            "/304-plain" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        };
        vec![Step::Send(answer.into())]
    });
    let proxy = start(&origin);
    let mut client = proxy.connect();
    for (method, path, status, length) in [
        ("HEAD", "/head", 200, Some("1234")),
        ("HEAD", "/head-chunked", 200, None),
        ("HEAD", "/head-none", 200, None),
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, Some("77")),
        ("GET", "/304-plain", 304, None),
        ("HEAD", "/304", 304, Some("77")),
    ] {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        let answer = client.response_to(method);
        assert_eq!(answer.status(), status, "{method} {path}");
        assert_eq!(answer.head.get("content-length"), length, "{method} {path}");
        assert_eq!(client.fetch("/after").text(), "ok", "after {method} {path}");
    }
    let answer = client.fetch("/205");
    assert_eq!((answer.status(), answer.body.len(), answer.end), (205, 0, End::Complete));
    assert_eq!(client.fetch("/after").text(), "ok");
}

#[test]
fn a_body_of_unknown_length_is_framed_for_the_clients_version() {
    let origin = Origin::auto(|seen| {
        match seen.head.word(1) {
        "/chunked" => vec![Step::Send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n".to_vec(),
        )],
        "/close" => vec![Step::Send(b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec()), Step::Close],
        "/close-1.0" => vec![Step::Send(b"HTTP/1.0 200 OK\r\n\r\nhello".to_vec()), Step::Close],
        _ => vec![Step::Send(reply(200, "hello"))],
    }
    });
    let proxy = start(&origin);
    for path in ["/chunked", "/close", "/close-1.0", "/length"] {
        let mut client = proxy.connect();
        let answer = client.fetch(path);
        assert_eq!((answer.text().as_str(), &answer.end), ("hello", &End::Complete), "{path}");
        assert_eq!(client.fetch(path).text(), "hello", "{path}: the connection is kept");

        let mut old = proxy.connect();
        old.send(format!("GET {path} HTTP/1.0\r\nHost: a.test\r\n\r\n"));
        let answer = old.response();
        assert_eq!(answer.text(), "hello", "{path} for 1.0");
        assert!(answer.head.all("transfer-encoding").is_empty(), "{path}: no chunks for 1.0");
        assert_ne!(answer.end, End::Truncated("reset"), "{path}: an orderly end");

        let mut old = proxy.connect();
        old.send(format!("GET {path} HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n"));
        let head = old.read_head().expect("a head");
        let answer = old.read_body(head, Kind::Response("GET")).expect("a body");
        assert_eq!(answer.text(), "hello", "{path} for 1.0 with keep-alive");
        assert_eq!(
            answer.end == End::Complete,
            path == "/length",
            "{path}: only a length keeps it"
        );
    }
}

#[test]
fn trailers_of_a_response_are_passed_on() {
    let origin = Origin::auto(|_| {
        let answer = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
                      5\r\nhello\r\n0\r\nX-Sum: abc\r\nContent-Length: 3\r\n\r\n";
        vec![Step::Send(answer.into())]
    });
    let proxy = start(&origin);
    let mut client = proxy.connect();
    let answer = client.fetch("/");
    assert_eq!(answer.text(), "hello");
    assert_eq!(
        answer.trailers,
        [("X-Sum".to_owned(), "abc".to_owned())],
        "the forbidden one is gone"
    );
    assert_eq!(client.fetch("/").text(), "hello");
}

#[test]
fn a_slow_endpoint_does_not_hold_up_other_clients() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut slow = proxy.connect();
    slow.get("/slow");
    let waiting = origin.next_request();
    for number in 0..20 {
        let mut quick = proxy.connect();
        quick.get("/quick");
        origin.next_request().reply(200, &format!("quick {number}"));
        assert_eq!(quick.response().text(), format!("quick {number}"));
    }
    waiting.reply(200, "slow");
    assert_eq!(slow.response().text(), "slow");
}
