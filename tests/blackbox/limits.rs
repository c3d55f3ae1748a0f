//! Every bound has an answer: heads, bodies, connections, time. And what comes without end costs
//! ringway no memory.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use crate::support::{
    Conf, Origin, Ringway, Step, eventually, origin::reply, process::private_memory, row, run_rows,
    tls::rules_out,
};

fn start(origin: &Origin, limits: &[&str]) -> Ringway {
    let mut conf = Conf::to(origin.address).one_core();
    for limit in limits {
        conf = conf.limit(limit);
    }
    Ringway::start(&conf)
}

#[test]
fn heads_that_are_too_large() {
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
    let rows = vec![
        row("128 fields", get(&"X: y\r\n".repeat(127))),
        row("129 fields", get(&"X: y\r\n".repeat(128))).refused(&[431]).reason("header_too_large"),
        row("1000 fields", get(&"X: y\r\n".repeat(1000))).refused(&[431]),
        row("16 KiB in a field", get(&format!("X: {}\r\n", "y".repeat(16_000)))),
        row("31 KiB in a field", get(&format!("X: {}\r\n", "y".repeat(31_000)))),
        row("33 KiB in a field", get(&format!("X: {}\r\n", "y".repeat(33_000)))).refused(&[431]),
        row("100 KiB in a field", get(&format!("X: {}\r\n", "y".repeat(100_000)))).refused(&[431]),
        row("70 KiB of a name", get(&format!("{}: y\r\n", "x".repeat(70_000)))).refused(&[431]),
        row("an 8 KiB target", format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "x".repeat(8000))),
        row("a 40 KiB target", format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "x".repeat(40_000)))
            .refused(&[414])
            .reason("target_too_long"),
        row("a 200 KiB target", format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "x".repeat(200_000)))
            .refused(&[414]),
        row("an endless method", "G".repeat(40_000)).refused(&[400, 414, 431, 501]),
        row("long chunk extension",
            format!("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5;{}\r\nhello\r\n0\r\n\r\n",
                "x".repeat(1000)))
            .refused(&[400]),
        row("long trailers",
            format!("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: {}\r\n\r\n",
                "x".repeat(20_000)))
            .refused(&[400, 431]),
        row("many trailers",
            format!("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{}\r\n", "X: y\r\n".repeat(200)))
            .refused(&[400, 431]),
    ];
    run_rows(rows);
}

#[test]
fn limits_that_are_configured() {
    let origin = Origin::echo();
    let proxy = start(&origin, &["header_bytes_max = \"1KiB\"", "header_count_max = 5"]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n");
    assert_eq!(client.response().status(), 200, "five fields");
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\n\r\n");
    client.response().assert_own(431, "header_too_large");
    client.assert_closed();
    let mut client = proxy.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {}\r\n\r\n", "y".repeat(1000)));
    client.response().assert_own(431, "header_too_large");
    let mut client = proxy.connect();
    client.send(format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "x".repeat(1100)));
    client.response().assert_own(414, "target_too_long");
}

#[test]
fn bodies_that_are_too_large() {
    let origin = Origin::echo();
    let proxy = start(&origin, &["body_bytes_max = \"10KiB\""]);
    let mut client = proxy.connect();
    client.post("/fits", &[b'x'; 10_240]);
    assert_eq!(client.response().text(), "POST /fits");
    client.send("POST /long HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10241\r\n\r\n");
    client.response().assert_own(413, "body_too_large");
    assert_eq!(origin.seen_count(), 1, "refused by its length, before the endpoint hears of it");

    let mut client = proxy.connect();
    client.send("POST /chunks HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..11 {
        if !client.try_send(format!("400\r\n{}\r\n", "x".repeat(1024))) {
            break;
        }
    }
    client.response().assert_own(413, "body_too_large");
    client.assert_closed();
    assert!(origin.seen().iter().all(|seen| seen.head.word(1) != "/chunks" || !seen.whole));

    let mut client = proxy.connect();
    client.send(
        "POST /e HTTP/1.1\r\nHost: a.test\r\nContent-Length: 99999\r\nExpect: 100-continue\r\n\r\n",
    );
    let answer = client.response();
    answer.assert_own(413, "body_too_large");
    assert!(answer.interim.is_empty(), "nobody asks for a body that is refused");
}

#[test]
fn slow_heads_time_out() {
    let origin = Origin::echo();
    let proxy = start(&origin, &["header_timeout = \"400ms\"", "idle_timeout = \"30s\""]);
    for part in [
        "G",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r",
    ] {
        let mut client = proxy.connect();
        let begin = Instant::now();
        client.send(part);
        client.response().assert_own(408, "header_timeout");
        client.assert_closed();
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(390), "{part:?} timed out after {took:?}");
    }
    // Bytes that trickle in do not extend it: the whole head has to arrive in time.
    let mut client = proxy.connect();
    let begin = Instant::now();
    let mut writer = client.stream.try_clone().expect("a handle");
    let trickle = std::thread::spawn(move || {
        for byte in b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Slow: ".iter().chain([b'y'; 200].iter()) {
            if writer.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20)); // the attack itself, not a wait
        }
    });
    client.response().assert_own(408, "header_timeout");
    assert!(begin.elapsed() < Duration::from_secs(3), "took {:?}", begin.elapsed());
    drop(client);
    trickle.join().expect("the trickling client");
    assert_eq!(origin.seen_count(), 0);
}

#[test]
fn idle_connections_time_out_silently() {
    let origin = Origin::echo();
    let proxy = start(&origin, &["idle_timeout = \"400ms\"", "header_timeout = \"30s\""]);
    let mut fresh = proxy.connect();
    fresh.assert_closes_within(Duration::from_secs(3));
    let mut used = proxy.connect();
    assert_eq!(used.fetch("/").status(), 200);
    let begin = Instant::now();
    used.assert_closed();
    assert!(begin.elapsed() >= Duration::from_millis(380), "after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(3), "after {:?}", begin.elapsed());
}

#[test]
fn request_bodies_that_pause_time_out() {
    let origin = Origin::start();
    let proxy = start(&origin, &["body_timeout = \"400ms\""]);
    for head in ["Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n5\r\nhel"] {
        let mut client = proxy.connect();
        client.send(format!("POST /x HTTP/1.1\r\nHost: a.test\r\n{head}"));
        let mut request = origin.next_head();
        client.response().assert_own(408, "body_timeout");
        client.assert_closed();
        assert!(request.cancelled_within(Duration::from_secs(3)));
    }
    // A body that moves, however slowly, does not.
    let mut client = proxy.connect();
    client.send("POST /y HTTP/1.1\r\nHost: a.test\r\nContent-Length: 8\r\n\r\n");
    let mut request = origin.next_head();
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(100)); // the pause itself is what is tested
        client.send("x");
    }
    request.read_body();
    request.reply(200, "patience");
    assert_eq!(client.response().text(), "patience");
}

/// The endpoint takes its time: that is not the client's body being slow, nor its head.
#[test]
fn a_slow_answer_is_not_a_slow_client() {
    let origin = Origin::auto(|_| {
        vec![Step::Pause(Duration::from_millis(900)), Step::Send(reply(200, "slow"))]
    });
    let limits =
        ["header_timeout = \"300ms\"", "body_timeout = \"300ms\"", "idle_timeout = \"300ms\""];
    let proxy = start(&origin, &limits);
    assert_eq!(proxy.connect().fetch("/").text(), "slow");
    let mut client = proxy.connect();
    client.post("/", b"body");
    assert_eq!(client.response().text(), "slow");
}

#[test]
fn connections_of_a_core_are_bounded() {
    if rules_out("connections_of_a_core_are_bounded", "who is refused gets no handshake") {
        return;
    }
    let origin = Origin::echo();
    let proxy = start(&origin, &["connections_max_per_core = 10"]);
    let mut kept: Vec<_> = (0..10)
        .map(|_| {
            let mut client = proxy.connect();
            assert_eq!(client.fetch("/").status(), 200);
            client
        })
        .collect();
    let mut refused = proxy.connect();
    refused.try_send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    match refused.try_response("GET") {
        Ok(answer) => answer.assert_own(503, "connection_limit"),
        Err(crate::support::wire::ReadError::Silent(_)) => {
            panic!("refused at once, not left waiting")
        }
        Err(_) => {} // closed or reset: just as clear
    }
    assert_eq!(kept[0].fetch("/still").status(), 200, "those inside are served");
    drop(kept);
    eventually("a place to become free", Duration::from_secs(15), || {
        let mut client = proxy.connect();
        client.try_send("GET /free HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client.try_response("GET").is_ok_and(|answer| answer.status() == 200).then_some(())
    });
}

/// Floods `send` at ringway until it answers or closes; memory must stay flat.
fn flood(name: &str, head: &str, repeat: &str) {
    let origin = Origin::echo();
    let proxy = start(&origin, &["header_timeout = \"3s\"", "body_timeout = \"3s\""]);
    for _ in 0..10 {
        assert_eq!(proxy.connect().fetch("/warm").status(), 200);
    }
    let before = private_memory(proxy.pid());
    let mut client = proxy.connect();
    client.try_send(head);
    let block = repeat.repeat(65_536 / repeat.len() + 1);
    let mut sent = 0;
    while sent < 64 * 1024 * 1024 && client.try_send(&block) {
        sent += block.len();
    }
    let after = private_memory(proxy.pid());
    assert!(after < before + 1024 * 1024, "{name}: {before} -> {after} bytes after {sent} sent");
    assert!(sent < 64 * 1024 * 1024, "{name}: ringway swallowed 64 MiB without an end");
    assert_eq!(proxy.connect().fetch("/alive").status(), 200, "{name}");
    assert!(
        origin.seen().iter().all(|seen| seen.head.word(1) != "/flood" || !seen.whole),
        "{name}"
    );
}

#[test]
fn floods_of_a_client() {
    flood("endless header value", "GET /flood HTTP/1.1\r\nHost: a.test\r\nX: ", "y");
    flood("endless headers", "GET /flood HTTP/1.1\r\nHost: a.test\r\n", "X: y\r\n");
    flood("endless target", "GET /flood", "x");
    flood("endless method", "G", "G");
    flood("endless empty lines", "", "\r\n");
    let chunked = "POST /flood HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    flood("endless chunk size", chunked, "0");
    flood("endless chunk extension", &format!("{chunked}5;"), "x");
    flood("endless trailers", &format!("{chunked}0\r\n"), "X: y\r\n");
    flood("endless trailer value", &format!("{chunked}0\r\nX: "), "y");
    flood(
        "extensions in each chunk",
        chunked,
        "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n",
    );
}

/// The same from the endpoint's side: never-ending interim responses, heads and trailers.
#[test]
fn floods_of_an_endpoint() {
    for (name, head, repeat, status) in [
        ("endless 1xx", "", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 502),
        ("endless 100", "", "HTTP/1.1 100 Continue\r\n\r\n", 502),
        ("endless headers", "HTTP/1.1 200 OK\r\n", "X: y\r\n", 502),
        ("endless header", "HTTP/1.1 200 OK\r\nX: ", "y", 502),
        ("endless phrase", "HTTP/1.1 200 ", "x", 502),
        ("endless garbage", "", "x", 502),
        (
            "endless trailers",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            "X: y\r\n",
            200,
        ),
        ("endless extension", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", "x", 200),
        ("endless size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0", 200),
    ] {
        let origin = Origin::start();
        let proxy = start(&origin, &[]);
        let before = private_memory(proxy.pid());
        let mut client = proxy.connect();
        client.get("/flood");
        let mut request = origin.next_request();
        request.wire().try_send(head);
        let block = repeat.repeat(65_536 / repeat.len() + 1);
        let mut sent = 0;
        while sent < 32 * 1024 * 1024 && request.wire().try_send(&block) {
            sent += block.len();
        }
        assert!(sent < 32 * 1024 * 1024, "{name}: ringway swallowed 32 MiB");
        let answer = client.try_response("GET");
        match answer {
            Ok(answer) if status == 502 => assert_eq!(answer.status(), 502, "{name}"),
            Ok(answer) => assert!(
                answer.status() == 502 || answer.end != crate::support::End::Complete,
                "{name}: looks whole"
            ),
            Err(error) => assert_ne!(status, 502, "{name}: {error:?}"),
        }
        let after = private_memory(proxy.pid());
        assert!(after < before + 1024 * 1024, "{name}: {before} -> {after} bytes");
    }
}
