//! Upstreams that fail, as real processes behind ringway under load: killed, stopped, failing in part,
//! slow, talking nonsense. What clients see before, while it lasts, and afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{
    Client, Conf, Origin, PATIENCE, Ringway, Step, eventually, origin::reply, process::signal,
};

const PASSIVE: &str = "[upstream.passive]\nconsecutive_errors = 3\neject_for = \"300ms\"";

fn good() -> Origin {
    Origin::auto(|_| vec![Step::Send(reply(200, "yes"))])
}

/// An endpoint in a process of its own.
struct Endpoint {
    process: Ringway,
    _origin: Origin,
}

fn endpoint() -> Endpoint {
    let origin = good();
    let process = Ringway::start(&Conf::to(origin.address).one_core());
    Endpoint { process, _origin: origin }
}

fn three(endpoints: &[Endpoint; 3], retry: &str, more: &str) -> Ringway {
    let addresses = endpoints.each_ref().map(|one| one.process.address());
    let conf = Conf::to_all(&addresses).route(retry).timeout("response = \"300ms\"");
    Ringway::start(&conf.more(more))
}

/// Statuses of `count` requests, one after the other, each on a connection that goes on if it can.
fn fetch(proxy: &Ringway, count: usize) -> Vec<u16> {
    let mut client = proxy.connect();
    (0..count).map(|_| client.fetch("/x").status()).collect()
}

fn errors(statuses: &[u16]) -> usize {
    statuses.iter().filter(|status| **status >= 500).count()
}

fn wait_ejected(proxy: &Ringway, count: f64) {
    eventually("an ejection", PATIENCE, || {
        fetch(proxy, 3);
        (proxy.metric("ringway_endpoints_ejected", "origin") == count).then_some(())
    });
}

const RETRY: &str = "retry = { on = [\"connect\", \"reset\", \"timeout\"], backoff = \"1ms\" }";

#[test]
fn a_killed_endpoint_costs_no_client_error_and_comes_back() {
    let endpoints = [endpoint(), endpoint(), endpoint()];
    let proxy = three(&endpoints, RETRY, PASSIVE);
    let (stop, failed) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = proxy.connect();
                while !stop.load(Ordering::Relaxed) {
                    failed.fetch_add(
                        u64::from(client.fetch("/x").status() != 200),
                        Ordering::Relaxed,
                    );
                }
            });
        }
        signal(endpoints[0].process.pid(), "KILL");
        wait_ejected(&proxy, 1.0);
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(failed.load(Ordering::Relaxed), 0, "no client saw it");
    assert!(proxy.metric("ringway_ejections_total", "consecutive_errors") >= 1.0);
}

/// After it was found out, a hung endpoint costs nobody anything: one request at a time tries it, and
/// is tried elsewhere.
#[test]
fn a_hung_endpoint_costs_no_client_error_and_comes_back() {
    let endpoints = [endpoint(), endpoint(), endpoint()];
    let proxy = three(&endpoints, RETRY, PASSIVE);
    assert_eq!(errors(&fetch(&proxy, 9)), 0);
    let pid = endpoints[1].process.pid();
    signal(pid, "STOP");
    wait_ejected(&proxy, 1.0);
    let begin = Instant::now();
    let mut slow = 0;
    while begin.elapsed() < Duration::from_secs(2) {
        let one = Instant::now();
        assert_eq!(errors(&fetch(&proxy, 1)), 0);
        slow += usize::from(one.elapsed() > Duration::from_millis(250));
    }
    assert!(slow <= 6, "{slow} requests met it after it was ejected");
    assert!(proxy.metric("ringway_ejections_total", "trial") >= 1.0, "ejected again each time");
    signal(pid, "CONT");
    wait_ejected(&proxy, 0.0);
    assert_eq!(errors(&fetch(&proxy, 9)), 0);
}

/// Of two cores each sees half of it; together they see enough.
#[test]
fn an_endpoint_that_fails_in_part_is_ejected_for_its_share() {
    let count = Arc::new(AtomicU64::new(0));
    let of_origin = Arc::clone(&count);
    let partly = Origin::auto(move |_| {
        let is_bad = of_origin.fetch_add(1, Ordering::Relaxed).is_multiple_of(3);
        vec![Step::Send(reply(if is_bad { 500 } else { 200 }, "x"))]
    });
    let (one, two) = (good(), good());
    let conf = Conf::to_all(&[partly.address, one.address, two.address]);
    let passive =
        "[upstream.passive]\nerror_rate = \"25%\"\nrequests_min = 10\neject_for = \"60s\"";
    let proxy = Ringway::start(&conf.more(passive));
    eventually("its ejection", PATIENCE, || {
        fetch(&proxy, 6);
        (proxy.metric("ringway_ejections_total", "error_rate") == 1.0).then_some(())
    });
    let before = count.load(Ordering::Relaxed);
    assert_eq!(errors(&fetch(&proxy, 60)), 0);
    assert_eq!(count.load(Ordering::Relaxed), before, "it gets nothing any more");
}

#[test]
fn a_slow_endpoint_stands_out_among_the_others() {
    let slow = Origin::auto(|_| {
        vec![Step::Pause(Duration::from_millis(200)), Step::Send(reply(200, "late"))]
    });
    let (one, two) = (good(), good());
    let conf = Conf::to_all(&[slow.address, one.address, two.address]);
    let passive = "[upstream.passive]\nlatency_factor = 4\nrequests_min = 5\neject_for = \"60s\"";
    let proxy = Ringway::start(&conf.more(passive));
    eventually("its ejection", PATIENCE, || {
        fetch(&proxy, 6);
        (proxy.metric("ringway_ejections_total", "latency") == 1.0).then_some(())
    });
}

#[test]
fn garbage_and_cut_responses_count_as_errors() {
    for steps in [
        vec![Step::Send(b"garbage\r\n\r\n".to_vec())],
        vec![Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab".to_vec()), Step::Close],
        vec![Step::Close],
    ] {
        let bad = Origin::auto(move |_| steps.clone());
        let (one, two) = (good(), good());
        let conf = Conf::to_all(&[bad.address, one.address, two.address]);
        let proxy = Ringway::start(&conf.more(PASSIVE));
        eventually("its ejection", PATIENCE, || {
            let mut client = proxy.connect();
            client.get("/x");
            let _ = client.try_response("GET");
            (proxy.metric("ringway_ejections_total", "consecutive_errors") >= 1.0).then_some(())
        });
    }
}

/// Never more than the share: with all of them bad, half are ejected and the others go on.
#[test]
fn the_ceiling_holds() {
    let bad = || Origin::auto(|_| vec![Step::Send(reply(500, "no"))]);
    let origins = [bad(), bad(), bad(), bad()];
    let conf = Conf::to_all(&origins.each_ref().map(|one| one.address));
    let passive = "[upstream.passive]\nconsecutive_errors = 2\neject_for = \"60s\"";
    let proxy = Ringway::start(&conf.more(passive));
    for _ in 0..20 {
        fetch(&proxy, 10);
        assert!(proxy.metric("ringway_endpoints_ejected", "origin") <= 2.0);
    }
    assert_eq!(proxy.metric("ringway_endpoints_ejected", "origin"), 2.0);
    assert!(proxy.metric("ringway_ejections_denied_total", "origin") >= 1.0);
}

fn open(proxy: &Ringway, client: &mut Client) -> bool {
    let response = client.fetch("/x");
    let is_open = response.reason() == Some("circuit_open");
    assert_eq!(is_open, response.head.get("retry-after").is_some());
    is_open && proxy.metric("ringway_breakers_open", "origin") >= 1.0
}

/// Open, then exactly so many trials over all cores, then closed.
#[test]
fn the_breaker_opens_and_closes() {
    for scope in ["upstream", "endpoint", "both"] {
        let is_bad = Arc::new(AtomicBool::new(true));
        let of_origin = Arc::clone(&is_bad);
        let origin = Origin::auto(move |_| {
            let status = if of_origin.load(Ordering::Relaxed) { 500 } else { 200 };
            vec![Step::Send(reply(status, "x"))]
        });
        let breaker = format!(
            "[upstream.circuit_breaker]\nopen_for = \"1s\"\nhalf_open_requests = 2\nscope = \"{scope}\""
        );
        let proxy = Ringway::start(&Conf::to(origin.address).more(&breaker));
        let mut client = proxy.connect();
        let statuses: Vec<u16> = (0..3).map(|_| client.fetch("/x").status()).collect();
        assert_eq!((statuses, origin.seen_count()), (vec![500; 3], 3), "{scope}");
        assert!(open(&proxy, &mut client), "{scope}");
        assert_eq!(origin.seen_count(), 3, "{scope}: nothing reached it");
        assert!(proxy.metric("ringway_breaker_opened_total", "origin") >= 1.0);
        // A trial fails: open again, for another second.
        eventually("a trial", PATIENCE, || (client.fetch("/x").status() == 500).then_some(()));
        assert!(open(&proxy, &mut client), "{scope}");
        is_bad.store(false, Ordering::Relaxed);
        eventually("the breaker to close", PATIENCE, || {
            client.fetch("/x");
            (proxy.metric("ringway_breakers_open", "origin") == 0.0).then_some(())
        });
        assert_eq!(errors(&fetch(&proxy, 20)), 0, "{scope}");
    }
}

/// What keeps requests from an endpoint, and who refused one, is there to be seen.
#[test]
fn who_keeps_requests_away_is_shown() {
    let bad = Origin::auto(|_| vec![Step::Send(reply(500, "no"))]);
    let conf = Conf::to(bad.address).one_core();
    let proxy = Ringway::start(
        &conf.more("[upstream.circuit_breaker]\nconsecutive_failures = 2\nscope = \"endpoint\""),
    );
    assert_eq!(fetch(&proxy, 3), [500, 500, 503]);
    let shown = eventually("the counts of a tick", PATIENCE, || {
        let page = proxy.admin("/v1/upstreams/origin/status").body;
        let page: serde_json::Value = serde_json::from_slice(&page).expect("JSON");
        Some(page["endpoints"][0].clone()).filter(|one| one["errors"] == 2)
    });
    assert_eq!((&shown["state"], &shown["breaker"]), (&"up".into(), &"open".into()));
    assert_eq!(shown["kept_by"], serde_json::json!(["breaker"]));
    assert_eq!((&shown["requests"], &shown["in_flight"]), (&2.into(), &0.into()));
    assert_eq!(proxy.metric("ringway_shed_total", "endpoint_breakers"), 1.0);
    assert_eq!(proxy.metric("ringway_endpoint_breaker", "state=\"open\""), 1.0);
    assert_eq!(proxy.metric("ringway_endpoint_state", "state=\"up\""), 1.0);
    assert_eq!(proxy.metric("ringway_endpoint_errors_total", &bad.address.to_string()), 2.0);
}

/// One that sends a byte now and then is never silent: it is cut, and then left alone.
#[test]
fn an_endpoint_that_trickles_is_cut_and_ejected() {
    let trickles = Origin::auto(|_| {
        let mut steps = vec![Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".into())];
        for _ in 0..1_000 {
            steps.extend([Step::Pause(Duration::from_millis(20)), Step::Send(b"x".into())]);
        }
        steps
    });
    let well = good();
    let conf = Conf::to_all(&[trickles.address, well.address]).one_core();
    let proxy = Ringway::start(
        &conf
            .timeout("body_rate_min = \"1KiB\"")
            .timeout("body_rate_grace = \"200ms\"")
            .more("[upstream.passive]\nconsecutive_errors = 2\neject_for = \"60s\""),
    );
    let mut cut = 0;
    while proxy.metric("ringway_endpoints_ejected", "origin") < 1.0 {
        let answer = proxy.connect().fetch("/x");
        cut += usize::from(answer.end != crate::support::wire::End::Complete);
        assert!(cut <= 2, "cut twice, and not ejected");
    }
    assert_eq!(proxy.metric("ringway_answers_total", "upstream_too_slow"), 2.0);
    for _ in 0..4 {
        assert_eq!(proxy.connect().fetch("/x").text(), "yes");
    }
}
