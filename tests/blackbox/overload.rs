//! More than an upstream can do: the limit holds for all cores together, few wait, the rest is told at
//! once.

use std::time::{Duration, Instant};

use crate::support::{Client, Conf, Origin, PATIENCE, Ringway, eventually};

fn with(origin: &Origin, overload: &str) -> Ringway {
    Ringway::start(&Conf::to(origin.address).more(&format!("[upstream.overload]\n{overload}")))
}

/// Clients that have each sent a request.
fn ask(proxy: &Ringway, count: usize) -> Vec<Client> {
    let one = |_| {
        let mut client = proxy.connect();
        client.get("/x");
        client
    };
    (0..count).map(one).collect()
}

fn gauge(proxy: &Ringway, name: &str, value: f64) {
    eventually(name, PATIENCE, || (proxy.metric(name, "origin") == value).then_some(()));
}

#[test]
fn the_limit_holds_for_all_cores_together() {
    let origin = Origin::start();
    let proxy = with(&origin, "requests_max = 3\npending_max = 0");
    let served = ask(&proxy, 3);
    let requests: Vec<_> = (0..3).map(|_| origin.next_request()).collect();
    for mut refused in ask(&proxy, 8) {
        let response = refused.response();
        response.assert_own(503, "upstream_overloaded");
        assert_eq!(response.head.get("retry-after"), Some("1"));
    }
    gauge(&proxy, "ringway_upstream_requests_in_flight", 3.0);
    assert_eq!(proxy.metric("ringway_shed_total", "limit"), 8.0);
    requests.into_iter().for_each(|request| request.reply(200, "yes"));
    for mut client in served {
        assert_eq!(client.response().status(), 200);
    }
    gauge(&proxy, "ringway_upstream_requests_in_flight", 0.0);
}

#[test]
fn a_few_wait_for_a_while() {
    let origin = Origin::start();
    let proxy = with(&origin, "requests_max = 1\npending_max = 1\npending_timeout = \"5s\"");
    let mut first = ask(&proxy, 1);
    let request = origin.next_request();
    let mut second = ask(&proxy, 1);
    gauge(&proxy, "ringway_upstream_requests_pending", 1.0);
    ask(&proxy, 1)[0].response().assert_own(503, "upstream_overloaded");
    request.reply(200, "one");
    assert_eq!(first[0].response().text(), "one");
    origin.next_request().reply(200, "two");
    assert_eq!(second[0].response().text(), "two");
    gauge(&proxy, "ringway_upstream_requests_pending", 0.0);
}

#[test]
fn who_waits_in_vain_is_told() {
    let origin = Origin::start();
    let proxy = with(&origin, "requests_max = 1\npending_timeout = \"100ms\"");
    let _first = ask(&proxy, 1);
    let _request = origin.next_request();
    let begin = Instant::now();
    ask(&proxy, 1)[0].response().assert_own(503, "pending_timeout");
    assert!(begin.elapsed() >= Duration::from_millis(100));
    assert_eq!(proxy.metric("ringway_shed_total", "pending_timeout"), 1.0);
    gauge(&proxy, "ringway_upstream_requests_pending", 0.0);
}

/// A client that leaves while its request waits or is served gives its place back.
#[test]
fn places_of_clients_that_left_are_given_back() {
    let origin = Origin::start();
    let proxy = with(&origin, "requests_max = 1\npending_timeout = \"300ms\"");
    let first = ask(&proxy, 1);
    let request = origin.next_request();
    drop(ask(&proxy, 1));
    drop(first);
    gauge(&proxy, "ringway_upstream_requests_in_flight", 0.0);
    gauge(&proxy, "ringway_upstream_requests_pending", 0.0);
    drop(request);
}

#[test]
fn the_unimportant_give_way_first() {
    let origin = Origin::start();
    let conf = Conf::to(origin.address).route("importance = \"low\"");
    let proxy = Ringway::start(&conf.more("[upstream.overload]\nrequests_max = 5"));
    let _served = ask(&proxy, 4);
    let _requests: Vec<_> = (0..4).map(|_| origin.next_request()).collect();
    ask(&proxy, 1)[0].response().assert_own(503, "upstream_overloaded");
}
