//! Further tries: what is tried again, where, and that it never becomes a storm.

use std::{
    io::Write,
    net::TcpListener,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use crate::support::{Client, Conf, Origin, Ringway, Step, origin::reply, ringway::free_address};

const PLAIN: &str = "retry = { backoff = \"1ms\" }";

fn status(status: u16) -> Origin {
    Origin::auto(move |_| vec![Step::Send(reply(status, "no"))])
}

fn good() -> Origin {
    Origin::auto(|_| vec![Step::Send(reply(200, "yes"))])
}

fn with(origins: &[&Origin], rule: &str) -> Ringway {
    let addresses: Vec<_> = origins.iter().map(|one| one.address).collect();
    Ringway::start(&Conf::to_all(&addresses).one_core().route(rule))
}

fn post(client: &mut Client, body: &str) -> u16 {
    client.post("/x", body.as_bytes());
    client.response_to("POST").status()
}

#[test]
fn a_listed_status_is_tried_at_another_endpoint() {
    let (bad, good) = (status(503), good());
    let proxy = with(&[&bad, &good], PLAIN);
    let mut client = proxy.connect();
    for _ in 0..6 {
        assert_eq!(client.fetch("/x").status(), 200);
    }
    assert!(bad.seen_count() >= 3, "{}", bad.seen_count());
    assert_eq!(good.seen_count(), 6);
    assert!(proxy.metric("ringway_retries_total", "status") >= 3.0);
    let logged = proxy.stop().access_log;
    assert!(logged.iter().any(|line| line["retries"] == 1), "{logged:?}");
}

#[test]
fn a_status_that_is_not_listed_is_the_answer() {
    let (bad, good) = (status(500), good());
    let proxy = with(&[&bad, &good], PLAIN);
    let mut client = proxy.connect();
    let statuses: Vec<u16> = (0..4).map(|_| client.fetch("/x").status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 2, "{statuses:?}");
}

/// With nobody left who answers better, the last answer is passed on as it is.
#[test]
fn the_last_answer_is_passed_on() {
    let (one, two) = (status(503), status(503));
    let proxy = with(&[&one, &two], PLAIN);
    let response = proxy.connect().fetch("/x");
    assert_eq!((response.status(), &*response.body), (503, &b"no"[..]));
    assert_eq!(one.seen_count() + two.seen_count(), 3, "one try and two further ones");
}

/// POST may have been done already; the route can say that it does not matter.
#[test]
fn what_is_not_idempotent_is_tried_once_unless_the_route_says_so() {
    let (bad, good) = (status(503), good());
    let proxy = with(&[&bad, &good], PLAIN);
    let mut client = proxy.connect();
    let statuses: Vec<u16> = (0..4).map(|_| post(&mut client, "body")).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 2, "{statuses:?}");
    let rule = "retry = { backoff = \"1ms\", non_idempotent = true }";
    let proxy = with(&[&bad, &good], rule);
    let mut client = proxy.connect();
    for _ in 0..4 {
        assert_eq!(post(&mut client, "body"), 200);
    }
    let bodies: Vec<_> = bad.seen().into_iter().chain(good.seen()).map(|seen| seen.body).collect();
    assert!(bodies.iter().all(|body| body == b"body"), "{bodies:?}");
}

/// A body that arrives slowly is waited for and kept; one that is too long is passed on as it comes.
#[test]
fn bodies_are_kept_up_to_a_bound() {
    let (bad, good) = (status(503), good());
    let proxy = with(&[&bad, &good], "retry = { backoff = \"1ms\", body_bytes_max = \"8KiB\" }");
    let mut client = proxy.connect();
    for length in [8 * 1024, 8 * 1024 + 1] {
        let body = "x".repeat(length);
        let (first, second) = body.split_at(length / 2);
        let mut statuses = Vec::new();
        for _ in 0..2 {
            client.send(format!(
                "PUT /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{first}"
            ));
            std::thread::park_timeout(Duration::from_millis(20)); // what is tested: a slow client
            client.send(second);
            statuses.push(client.response().status());
        }
        let refused = statuses.iter().filter(|status| **status == 503).count();
        assert_eq!(refused, usize::from(length > 8 * 1024), "{length}: {statuses:?}");
    }
    assert!(good.seen().iter().all(|seen| seen.whole));
}

#[test]
fn resets_timeouts_and_garbage_are_tried_again_where_listed() {
    let good = good();
    let steps: [(&str, Vec<Step>); 3] = [
        ("reset", vec![Step::Reset]),
        ("timeout", vec![Step::Hang]),
        ("invalid", vec![Step::Send(b"garbage\r\n\r\n".to_vec())]),
    ];
    for (cause, steps) in steps {
        let bad = Origin::auto(move |_| steps.clone());
        let rule = format!(
            "retry = {{ on = [\"{cause}\"], per_try_timeout = \"100ms\", backoff = \"1ms\" }}"
        );
        let proxy = with(&[&bad, &good], &rule);
        for _ in 0..4 {
            assert_eq!(proxy.connect().fetch("/x").status(), 200, "{cause}");
        }
        assert!(proxy.metric("ringway_retries_total", cause) >= 2.0, "{cause}");
        let other = if cause == "reset" { "connect" } else { "reset" };
        let proxy =
            with(&[&bad], &rule.replace(&format!("[\"{cause}\"]"), &format!("[\"{other}\"]")));
        assert!(proxy.connect().fetch("/x").status() >= 500, "{cause} is not listed");
    }
}

/// An endpoint that comes up in the meantime is found by a further try.
#[test]
fn a_refused_connection_is_tried_again_after_a_pause() {
    let address = free_address();
    let conf = Conf::to(address).one_core();
    let rule =
        "retry = { attempts = 10, on = [\"connect\"], backoff = \"200ms\", budget = \"100%\" }";
    let proxy = Ringway::start(&conf.route(rule));
    let mut client = proxy.connect();
    client.send("GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n");
    std::thread::park_timeout(Duration::from_millis(100)); // what is tested: it comes late
    let listener = TcpListener::bind(address).expect("the port");
    let late = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(&reply(200, "late")).expect("sent");
        stream
    });
    assert_eq!(client.response().status(), 200);
    drop(late);
}

/// With every endpoint failing, what is sent upstream stays within the budget: of 1.2 for each
/// request, ten a second besides.
#[test]
fn a_retry_storm_is_impossible() {
    static SENT: AtomicUsize = AtomicUsize::new(0);
    let bad = || {
        Origin::auto(|_| {
            SENT.fetch_add(1, Ordering::Relaxed);
            vec![Step::Send(reply(503, "no"))]
        })
    };
    let origins = [bad(), bad(), bad()];
    let addresses: Vec<_> = origins.iter().map(|one| one.address).collect();
    let rule = "retry = { attempts = 10, on = [\"5xx\", \"reset\"], backoff = \"0s\" }";
    let proxy = Ringway::start(&Conf::to_all(&addresses).route(rule));
    let begin = Instant::now();
    let received: usize = std::thread::scope(|scope| {
        let one = || {
            let mut client = proxy.connect();
            (0..500).filter(|_| client.fetch("/x").status() == 503).count()
        };
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        clients.into_iter().map(|client| client.join().expect("no panic")).sum()
    });
    let floor = 10.0 * (begin.elapsed().as_secs_f64() + 1.0) + 1.0;
    let (sent, received) = (SENT.load(Ordering::Relaxed) as f64, received as f64);
    println!("{sent} sent for {received} received: {:.3}, floor {floor:.0}", sent / received);
    assert_eq!(received, 4_000.0);
    assert!(sent <= received * 1.2 + floor, "{sent} for {received}");
    assert!(sent > received * 1.1, "the budget is used: {sent} for {received}");
    assert!(proxy.metric("ringway_retries_denied_total", "origin") > 0.0);
}

/// Pauses and tries all lie within the route's time.
#[test]
fn the_time_of_the_route_holds() {
    let bad = Origin::auto(|_| vec![Step::Hang]);
    let rule = "timeout = \"300ms\"\nretry = { attempts = 10, on = [\"timeout\"], per_try_timeout = \"100ms\" }";
    let proxy = with(&[&bad], rule);
    let begin = Instant::now();
    assert_eq!(proxy.connect().fetch("/x").status(), 504);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert!(bad.seen_count() >= 2, "{}", bad.seen_count());
}
