//! SIGHUP: new rules take effect between two requests; refused ones change nothing.

use std::time::Duration;

use crate::support::{Conf, Origin, Ringway, eventually, process::signal};

fn route_to(origin: &Origin) -> Conf {
    Conf::to(origin.address)
}

/// A request in flight ends under the rules it began with; the next one on the same connection gets
/// the new rules.
#[test]
fn reload_takes_effect_between_two_requests_of_one_connection() {
    let (blue, green) = (Origin::start(), Origin::start());
    let proxy = Ringway::start(&route_to(&blue));
    let mut client = proxy.connect();
    client.get("/");
    let request = blue.next_request(); // arrived, not answered: now it is in flight
    proxy.reload(&route_to(&green).text()).wait_until_applied_on_all_cores();
    request.reply(200, "blue");
    assert_eq!(client.response().text(), "blue");
    client.get("/");
    green.next_request().reply(200, "green");
    assert_eq!(client.response().text(), "green");
    assert_eq!(proxy.stop().access_log.len(), 2, "each request is logged exactly once");
}

#[test]
fn a_refused_change_leaves_the_old_rules_and_says_why() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&route_to(&origin).one_core());
    let before = proxy.versions();
    proxy.reload(
        "[[listener]]\nname = \"edge\"\naddress = \"{listen}\"\n[[route]]\nupstraem = \"x\"\n",
    );
    proxy.wait_for_line("upstraem");
    eventually("the error in /v1/status", Duration::from_secs(15), || {
        proxy.status().to_string().contains("upstraem").then_some(())
    });
    assert_eq!(proxy.versions(), before);
    assert_eq!(proxy.connect().fetch("/still").text(), "GET /still");
    proxy.reload(&route_to(&origin).one_core().text()).wait_until_applied_on_all_cores();
    assert_eq!(proxy.connect().fetch("/fixed").text(), "GET /fixed");
}

#[test]
fn no_request_is_lost_while_rules_change() {
    let (blue, green) = (Origin::echo(), Origin::echo());
    let proxy = Ringway::start(&route_to(&blue));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = proxy.connect();
                    for number in 0..400 {
                        let path = format!("/{number}");
                        assert_eq!(client.fetch(&path).text(), format!("GET {path}"));
                    }
                })
            })
            .collect();
        for round in 0..10 {
            let to = if round % 2 == 0 { &green } else { &blue };
            proxy.reload(&route_to(to).text()).wait_until_applied_on_all_cores();
        }
        for client in clients {
            client.join().expect("each request is answered");
        }
    });
    assert_eq!(blue.seen_count() + green.seen_count(), 1600, "each exactly once");
}

/// Log rotation: the file is moved away, SIGHUP makes a new one.
#[test]
fn the_access_log_is_reopened() {
    let origin = Origin::echo();
    let directory = tempfile::tempdir().expect("a directory");
    let (log, old) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
    let section = format!("[log]\naccess = \"{}\"", log.display());
    let proxy = Ringway::start(&route_to(&origin).one_core().more(&section));
    assert_eq!(proxy.connect().fetch("/one").status(), 200);
    eventually("the first line", Duration::from_secs(15), || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("/one")).then_some(())
    });
    std::fs::rename(&log, &old).expect("rename");
    signal(proxy.pid(), "HUP");
    eventually("a new file", Duration::from_secs(15), || log.exists().then_some(()));
    // What is on its way meanwhile may still go to the old file.
    eventually("a line in the new file", Duration::from_secs(15), || {
        assert_eq!(proxy.connect().fetch("/two").status(), 200);
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("/two")).then_some(())
    });
    assert_eq!(proxy.connect().fetch("/three").status(), 200);
    eventually("the third line", Duration::from_secs(15), || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("/three")).then_some(())
    });
    assert!(!std::fs::read_to_string(&old).expect("the old file").contains("/three"));
}
