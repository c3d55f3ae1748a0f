//! SIGTERM: what runs is finished, nothing new begins, and the process ends in time.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::support::{
    Client, Conf, End, Origin, PATIENCE, Ringway, eventually,
    process::signal,
    wire::{Kind, ReadError},
};

fn start(origin: &Origin, drain_timeout: &str) -> Ringway {
    let line = format!("drain_timeout = \"{drain_timeout}\"");
    Ringway::start(&Conf::to(origin.address).one_core().runtime(&line))
}

/// Once draining has begun, `/readyz` says no, so that load balancers look elsewhere.
fn wait_draining(proxy: &Ringway) {
    eventually("ringway to drain", PATIENCE, || (!proxy.is_ready()).then_some(()));
}

#[test]
fn an_idle_ringway_ends_at_once() {
    let origin = Origin::echo();
    let proxy = start(&origin, "20s");
    let mut idle = proxy.connect();
    assert_eq!(idle.fetch("/").status(), 200);
    let begin = Instant::now();
    let stopped = proxy.stop();
    assert!(stopped.status.success(), "{:?}", stopped.status);
    assert!(begin.elapsed() < Duration::from_secs(5), "took {:?}", begin.elapsed());
    assert_eq!(stopped.access_log.len(), 1);
    idle.assert_closed();
}

#[test]
fn requests_in_flight_are_finished() {
    let origin = Origin::start();
    let mut proxy = start(&origin, "20s");
    let mut waiting = proxy.connect();
    waiting.get("/waiting");
    let first = origin.next_request();
    let mut streaming = proxy.connect();
    streaming.get("/streaming");
    let mut second = origin.next_request();
    second.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    let head = streaming.read_head().expect("a head");
    let mut uploading = proxy.connect();
    uploading.send("POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhello");
    let mut third = origin.next_head();

    proxy.terminate();
    wait_draining(&proxy);

    first.reply(200, "in time");
    let answer = waiting.response();
    assert_eq!(answer.text(), "in time");
    assert_eq!(answer.head.get("connection"), Some("close"), "the client is told");
    waiting.assert_closed();
    second.answer("world");
    let answer = streaming.read_body(head, Kind::Response("GET")).expect("a body");
    assert_eq!((answer.text().as_str(), answer.end), ("helloworld", End::Complete));
    uploading.send("world");
    third.read_body();
    assert_eq!(third.body, b"helloworld");
    third.reply(200, "got it");
    assert_eq!(uploading.response().text(), "got it");

    let stopped = proxy.wait_ended(PATIENCE);
    assert!(stopped.status.success(), "{:?}", stopped.status);
    assert_eq!(stopped.access_log.len(), 3, "each request is logged exactly once");
}

/// New connections are refused or answered, never accepted and forgotten.
#[test]
fn new_requests_are_not_left_hanging() {
    let origin = Origin::start();
    let mut proxy = start(&origin, "20s");
    let mut busy = proxy.connect();
    busy.get("/busy");
    let request = origin.next_request();
    let mut idle = proxy.connect();
    proxy.terminate();
    wait_draining(&proxy);
    idle.try_send("GET /late HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let last = origin.next_request(); // it may have been sent before the drain began
    last.reply(200, "the last one");
    let answer = idle.response();
    assert_eq!(
        (answer.text().as_str(), answer.head.get("connection")),
        ("the last one", Some("close"))
    );
    idle.assert_closed();
    match std::net::TcpStream::connect_timeout(&proxy.address(), PATIENCE) {
        Err(_) => {} // refused: the listener is gone
        Ok(_) => {
            let mut late = Client::connect(proxy.address());
            late.try_send("GET /later HTTP/1.1\r\nHost: a.test\r\n\r\n");
            assert!(
                !matches!(late.try_response("GET"), Err(ReadError::Silent(_))),
                "accepted and forgotten"
            );
        }
    }
    request.reply(200, "done");
    assert_eq!(busy.response().text(), "done");
    assert!(proxy.wait_ended(PATIENCE).status.success());
}

/// What doesn't finish within the deadline is cut; the process ends anyway.
#[test]
fn the_deadline_holds() {
    let origin = Origin::start();
    let mut proxy = start(&origin, "600ms");
    let mut client = proxy.connect();
    client.get("/never");
    let _request = origin.next_request();
    let begin = Instant::now();
    proxy.terminate();
    proxy.wait_ended(Duration::from_secs(8));
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(500), "cut early: {took:?}");
    assert!(took < Duration::from_secs(5), "took {took:?}");
    match client.try_response("GET") {
        Ok(answer) => assert!(answer.status() >= 500, "{}", answer.status()),
        Err(ReadError::Eof(_) | ReadError::Reset(_)) => {}
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let origin = Origin::start();
    let mut proxy = start(&origin, "60s");
    let mut client = proxy.connect();
    client.get("/never");
    let _request = origin.next_request();
    proxy.terminate();
    wait_draining(&proxy);
    signal(proxy.pid(), "TERM");
    proxy.wait_ended(Duration::from_secs(5));
}

/// Clients in the middle of their work see answers that say close, and never a connection that ends
/// under a request.
#[test]
fn no_request_is_lost_under_load() {
    let origin = Origin::echo();
    let mut proxy = start(&origin, "20s");
    let address = proxy.address();
    let clients: Vec<_> = (0..8)
        .map(|client| {
            std::thread::spawn(move || {
                let mut connection = Client::connect(address);
                for answered in 1.. {
                    let answer = connection.fetch(&format!("/{client}"));
                    assert_eq!(answer.status(), 200);
                    if answer.head.get("connection") == Some("close") {
                        return answered;
                    }
                }
                0
            })
        })
        .collect();
    origin.wait_seen(100);
    proxy.terminate();
    let answered: usize = clients.into_iter().map(|one| one.join().expect("no request lost")).sum();
    assert!(answered > 8, "{answered} requests");
    assert!(proxy.wait_ended(PATIENCE).status.success());
}

/// Whoever got a connection gets an answer on it, to the last one; later ones are refused.
#[test]
fn connections_made_at_the_end_are_answered() {
    let origin = Origin::echo();
    let mut proxy = Ringway::start(&Conf::to(origin.address));
    let address = proxy.address();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut answered = 0;
                while let Ok(stream) = TcpStream::connect(address) {
                    assert_eq!(Client::over(stream).fetch("/").status(), 200);
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    eventually("some connections", PATIENCE, || (origin.seen_count() > 50).then_some(()));
    proxy.terminate();
    let answered: usize = clients.into_iter().map(|one| one.join().expect("none is lost")).sum();
    assert!(answered > 50, "{answered} connections");
    assert!(proxy.wait_ended(PATIENCE).status.success());
}
