//! Listeners come, go and change while the process runs.

use std::{
    net::{TcpListener, TcpStream},
    time::Duration,
};

use crate::support::{Client, Conf, Load, Origin, PATIENCE, Ringway, eventually, load::Echo};

const SECOND: &str = "[[listener]]\nname = \"second\"\naddress = \"{listen2}\"\n";

fn rules(origin: &Origin) -> Conf {
    Conf::to(origin.address).runtime("drain_timeout = \"1500ms\"")
}

fn refuses(address: std::net::SocketAddr) -> Option<()> {
    TcpStream::connect_timeout(&address, PATIENCE).is_err().then_some(())
}

#[test]
fn a_listener_is_added_and_removed_under_load() {
    let origin = Origin::echo();
    let (one, two) = (rules(&origin).text(), rules(&origin).more(SECOND).text());
    let proxy = Ringway::start_text(&one);
    let load = Load::start(proxy.address(), 3, Echo);
    for _ in 0..5 {
        proxy.replace(&two).wait_until_applied_on_all_cores();
        let mut client = proxy.connect2();
        assert_eq!(client.fetch("/second").text(), "GET /second");
        let listeners = proxy.status()["listeners"].as_array().map(Vec::len);
        assert_eq!(listeners, Some(2));
        proxy.replace(&one).wait_until_applied_on_all_cores();
        let answer = client.fetch("/last");
        assert_eq!(answer.text(), "GET /last", "the rules it had still hold");
        assert_eq!(answer.head.get("connection"), Some("close"), "and it is told to go");
        client.assert_closed();
        eventually("the port to be free", PATIENCE, || refuses(proxy.address2()));
    }
    load.stop();
}

/// What waits in the queue when a listener goes is served; what is under way has `drain_timeout`.
#[test]
fn a_listener_that_goes_finishes_what_it_began() {
    let origin = Origin::start();
    let proxy = Ringway::start_text(&rules(&origin).one_core().more(SECOND).text());
    let mut busy = proxy.connect2();
    busy.get("/busy");
    let request = origin.next_request();
    let mut stuck = proxy.connect2();
    stuck.get("/stuck");
    let _never = origin.next_request();
    let mut idle = proxy.connect2();
    let mut first = proxy.connect();
    first.get("/first");
    let other = origin.next_request();
    proxy.replace(&rules(&origin).one_core().text()).wait_until_applied_on_all_cores();
    request.reply(200, "done");
    let answer = busy.response();
    assert_eq!((answer.text().as_str(), answer.head.get("connection")), ("done", Some("close")));
    stuck.assert_closes_within(Duration::from_secs(4));
    idle.assert_closed();
    other.reply(200, "first");
    assert_eq!(first.response().text(), "first", "another listener's connection does not care");
}

/// A busy port refuses the whole change: the route that came with it is not there either.
#[test]
fn a_busy_port_refuses_the_change() {
    let origin = Origin::echo();
    let narrow = rules(&origin).route("path = \"/old\"");
    let wide = rules(&origin).more(SECOND);
    let proxy = Ringway::start_text(&narrow.text());
    let stranger = TcpListener::bind(proxy.address2()).expect("a stranger's port");
    let before = proxy.versions();
    proxy.replace(&wide.text());
    let line = proxy.wait_for_line("cannot listen on");
    assert!(line.contains("`second`") && line.contains("ss -ltnp"), "{line}");
    assert_eq!(proxy.versions(), before);
    assert_eq!(proxy.connect().fetch("/new").status(), 404);
    assert!(proxy.status()["sources"][0]["error"].to_string().contains("cannot listen on"));
    drop(stranger);
    proxy.reload(&wide.text()).wait_until_applied_on_all_cores();
    assert_eq!(proxy.connect2().fetch("/new").status(), 200);
    assert!(proxy.status()["sources"][0]["error"].is_null());
}

/// Names, limits and trust change in place; connections stay.
#[test]
fn a_listener_changes_in_place() {
    let origin = Origin::echo();
    let proxy = Ringway::start_text(&rules(&origin).one_core().more(SECOND).text());
    let mut client = proxy.connect();
    assert_eq!(client.fetch("/one").status(), 200);
    let changed = rules(&origin).one_core().limit("header_bytes_max = \"1KiB\"").text();
    // The other one goes first in the file, so every position is another.
    let text = changed.replace("[[listener]]", &format!("{SECOND}[[listener]]"));
    let text = text.replace("name = \"edge\"", "name = \"front\"");
    proxy.replace(&text).wait_until_applied_on_all_cores();
    assert_eq!(client.fetch("/two").status(), 200, "the same connection");
    let long = "x".repeat(2000);
    assert_eq!(client.fetch(&format!("/{long}")).status(), 414);
    assert_eq!(proxy.connect2().fetch(&format!("/{long}")).status(), 200, "the other's limit");
    let log = proxy.access_log(4);
    let names: Vec<_> = log.iter().map(|line| line["listener"].as_str().unwrap_or("")).collect();
    assert_eq!(names, ["edge", "front", "front", "second"]);
}

#[test]
fn a_listener_moves_and_trades_places() {
    let origin = Origin::echo();
    let text = rules(&origin).more(SECOND).text();
    let proxy = Ringway::start_text(&text);
    let mut clients: Vec<Client> = (0..4).map(|_| proxy.connect()).collect();
    // `edge` is where `second` was, and the other way round: two names, the same sockets.
    let traded = text
        .replace("{listen}", "{x}")
        .replace("{listen2}", "{listen}")
        .replace("{x}", "{listen2}");
    proxy.replace(&traded).wait_until_applied_on_all_cores();
    for client in &mut clients {
        assert_eq!(client.fetch("/traded").status(), 200);
    }
    let alone = rules(&origin).text().replace("{listen}", "{listen2}");
    proxy.replace(&alone).wait_until_applied_on_all_cores();
    assert_eq!(proxy.connect2().fetch("/moved").status(), 200);
    eventually("the old port to be free", PATIENCE, || refuses(proxy.address()));
}

/// A change of what a process keeps for life is refused as a whole, each key named; the rest of it is in
/// force as soon as the file leaves those keys alone.
#[test]
fn what_needs_a_restart_refuses_the_change() {
    let origin = Origin::echo();
    let proxy = Ringway::start_text(&rules(&origin).one_core().route("path = \"/old\"").text());
    for (runtime, limit, key) in [
        ("ring_entries = 256", "", "runtime.ring_entries"),
        ("connections_max = 99", "", "runtime.connections_max"),
        ("", "header_bytes_max = \"64KiB\"", "listener.limits.header_bytes_max"),
    ] {
        let mut text = rules(&origin).one_core();
        text = if runtime.is_empty() { text.limit(limit) } else { text.runtime(runtime) };
        proxy.replace(&text.text());
        proxy.wait_for_line(key);
        proxy.wait_for_line("SIGUSR2");
        assert_eq!(proxy.connect().fetch("/new").status(), 404, "{key}");
    }
    proxy.replace(&rules(&origin).one_core().text()).wait_until_applied_on_all_cores();
    assert_eq!(proxy.connect().fetch("/new").status(), 200);
}
