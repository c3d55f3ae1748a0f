//! More than an upstream can do: the limit holds for all cores together, few wait, the rest is told at
//! once.

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::{Duration, Instant},
};

use crate::support::{Client, Conf, Origin, PATIENCE, Ringway, Step, eventually};

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

/// Three are served, whichever cores they are on; all others are refused at once.
fn three_of_nine_are_served(key: &str, metric: &str, why: &str) -> Ringway {
    let origin = Origin::start();
    let proxy = with(&origin, &format!("{key} = 3\npending_max = 0"));
    let served = ask(&proxy, 3);
    let requests: Vec<_> = (0..3).map(|_| origin.next_request()).collect();
    for mut refused in ask(&proxy, 6) {
        let response = refused.response();
        response.assert_own(503, "upstream_overloaded");
        assert_eq!(response.head.get("retry-after"), Some("1"));
    }
    gauge(&proxy, metric, 3.0);
    assert_eq!(proxy.metric("ringway_shed_total", &format!("why=\"{why}\"")), 6.0);
    requests.into_iter().for_each(|request| request.reply(200, "yes"));
    for mut client in served {
        assert_eq!(client.response().status(), 200);
    }
    proxy
}

#[test]
fn the_limit_holds_for_all_cores_together() {
    let in_flight = "ringway_upstream_requests_in_flight";
    let proxy = three_of_nine_are_served("requests_max", in_flight, "limit");
    gauge(&proxy, in_flight, 0.0);
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

#[test]
fn connections_are_limited_for_all_cores_together() {
    three_of_nine_are_served("connections_max", "ringway_upstream_connections", "connections");
}

#[test]
fn a_few_wait_for_a_connection_and_in_vain_for_a_while() {
    let origin = Origin::start();
    let rules = "connections_max = 1\npending_max = 1\npending_timeout = \"400ms\"";
    let proxy = with(&origin, rules);
    let mut first = ask(&proxy, 1);
    let request = origin.next_request();
    ask(&proxy, 1)[0].response().assert_own(503, "pending_timeout");
    let mut second = ask(&proxy, 1);
    gauge(&proxy, "ringway_upstream_requests_pending", 1.0);
    request.reply(200, "one");
    assert_eq!(first[0].response().text(), "one");
    origin.next_request().reply(200, "two");
    assert_eq!(second[0].response().text(), "two");
    gauge(&proxy, "ringway_upstream_requests_pending", 0.0);
}

/// Unused connections of one core, or to one endpoint, are no reason to keep another waiting.
#[test]
fn unused_connections_make_room_for_other_cores_and_other_endpoints() {
    let origins = [Origin::echo(), Origin::echo()];
    let conf = Conf::to_all(&[origins[0].address, origins[1].address]);
    let rules = "[upstream.overload]\nconnections_max = 1\npending_timeout = \"5s\"";
    let proxy = Ringway::start(&conf.runtime("pin = false").more(rules));
    let mut clients: Vec<Client> = (0..4).map(|_| proxy.connect()).collect();
    for round in 0..3 {
        for client in &mut clients {
            assert_eq!(client.fetch(&format!("/{round}")).status(), 200);
        }
    }
    assert!(proxy.metric("ringway_upstream_connections", "origin") <= 1.0);
    assert_eq!(proxy.metric("ringway_shed_total", "origin"), 0.0);
}

/// With fewer connections than cores and requests on all of them, each is served in time.
#[test]
fn no_core_starves_at_the_limit() {
    static BUSY: AtomicUsize = AtomicUsize::new(0);
    let origin = Origin::auto(|_| {
        assert!(BUSY.fetch_add(1, SeqCst) < 1, "one at a time");
        std::thread::sleep(Duration::from_millis(2));
        BUSY.fetch_sub(1, SeqCst);
        vec![Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec())]
    });
    let rules = "[upstream.overload]\nconnections_max = 1\npending_timeout = \"10s\"";
    let proxy = Ringway::start(&Conf::to(origin.address).runtime("pin = false").more(rules));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut client = proxy.connect();
            std::thread::spawn(move || {
                (0..25).for_each(|_| assert_eq!(client.fetch("/").status(), 200));
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("all were served"));
    gauge(&proxy, "ringway_upstream_requests_pending", 0.0);
}
