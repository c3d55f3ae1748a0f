//! Active health checks: real upstreams that die, lie, hang and come back.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{
    Conf, Load, Origin, PATIENCE, Ringway, Step, eventually, load::Echo, origin::reply,
};

/// An origin that echoes and answers `/health` with this status and body.
fn healthy(status: &Arc<AtomicU16>, body: &'static str) -> Origin {
    let status = Arc::clone(status);
    Origin::auto(move |seen| match seen.head.word(1) {
        "/health" => vec![Step::Send(reply(status.load(SeqCst), body))],
        path => vec![Step::Send(reply(200, &format!("GET {path}")))],
    })
}

fn checked(endpoints: &[SocketAddr], check: &str) -> Conf {
    Conf::to_all(endpoints).one_core().more(&format!(
        "[upstream.health_check]\ninterval = \"50ms\"\nfails = 3\npasses = 2\n{check}"
    ))
}

/// What `/v1/status` says of an endpoint.
fn shown(ringway: &Ringway, endpoint: SocketAddr) -> Value {
    let status = ringway.status();
    let all = status["health"]["endpoints"].as_array().expect("endpoints");
    let name = endpoint.to_string();
    all.iter().find(|one| one["endpoint"] == *name).cloned().unwrap_or(Value::Null)
}

fn wait_for(ringway: &Ringway, endpoint: SocketAddr, health: &str) -> Value {
    eventually(&format!("{endpoint} to be {health}"), PATIENCE, || {
        Some(shown(ringway, endpoint)).filter(|one| one["health"] == *health)
    })
}

/// Requests of clients that an origin has seen.
fn served(origin: &Origin) -> usize {
    origin.count(|seen| !seen.head.start.contains(" /health "))
}

fn ask(ringway: &Ringway, times: usize) {
    let mut client = ringway.connect();
    for _ in 0..times {
        assert_eq!(client.fetch("/x").status(), 200);
    }
}

#[test]
fn an_endpoint_that_fails_is_out_after_fails_and_back_after_passes() {
    let (good, bad) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU16::new(200)));
    let (steady, shaky) = (healthy(&good, "ok"), healthy(&bad, "ok"));
    let check = "path = \"/health\"\nstatus = \"200-299,404\"";
    let text = checked(&[steady.address, shaky.address], check).text();
    let ringway = Ringway::start_text(&text.replace("\"50ms\"", "\"500ms\""));
    let load = Load::start(ringway.address(), 2, Echo);
    eventually("both to serve", PATIENCE, || (served(&shaky) > 10).then_some(()));
    let checks = || shaky.seen_count() - served(&shaky);
    let checks_before = checks();
    bad.store(500, SeqCst);
    let down = wait_for(&ringway, shaky.address, "down");
    // The first of the three may have been on its way.
    assert!(checks() >= checks_before + 2, "three checks in a row");
    assert_eq!((&down["check_up"], &down["check_error"]), (&false.into(), &"status 500".into()));
    let line = ringway.wait_for_line("is down: status 500 (failed 3 in a row)");
    assert!(line.contains(&format!("upstream `origin`: {}", shaky.address)), "{line}");
    assert_eq!(ringway.metric("ringway_endpoint_up", &shaky.address.to_string()), 0.0);
    assert_eq!(ringway.metric("ringway_endpoint_up", &steady.address.to_string()), 1.0);
    // What was on its way is over soon; from then on nothing comes.
    let the_other_serves = || {
        let elsewhere = served(&steady);
        let serves = || (served(&steady) > elsewhere + 2_000).then_some(());
        eventually("the other to serve", PATIENCE, serves);
    };
    let before = eventually("requests in flight to end", PATIENCE, || {
        let before = served(&shaky);
        the_other_serves();
        (served(&shaky) == before).then_some(before)
    });
    the_other_serves();
    assert_eq!(served(&shaky), before);
    bad.store(404, SeqCst); // of the set
    wait_for(&ringway, shaky.address, "up");
    ringway.wait_for_line("is up (passed 2 in a row)");
    eventually("it to serve again", PATIENCE, || (served(&shaky) > before + 10).then_some(()));
    assert!(ringway.metric("ringway_health_checks_total", "passed") > 5.0);
    assert!(load.stop() > 0);
}

#[test]
fn the_reason_is_said_whatever_it_is() {
    let ok = Arc::new(AtomicU16::new(200));
    let lies = healthy(&ok, "all ill");
    let hangs = Origin::auto(|_| vec![Step::Hang]);
    let dead = Origin::start().kill();
    let check = "path = \"/health\"\nbody = \"~^all (well|good)$\"\ntimeout = \"50ms\"";
    let all = [lies.address, hangs.address, dead];
    let ringway = Ringway::start(&checked(&all, check));
    for (endpoint, why) in [
        (lies.address, "the body does not match"),
        (hangs.address, "timeout"),
        (dead, "connect refused"),
    ] {
        // On a busy machine an answer may be late before one is in time.
        eventually(why, PATIENCE, || {
            let shown = shown(&ringway, endpoint);
            (shown["health"] == "down" && shown["check_error"] == why).then_some(())
        });
    }
    assert_eq!(ringway.status()["health"]["down"], 3);
    // Nobody is left: that is said, not tried.
    let mut client = ringway.connect();
    assert_eq!(client.fetch("/x").status(), 503);
}

#[test]
fn a_tcp_check_follows_the_port_and_nothing_is_sent() {
    let origin =
        Origin::auto(|seen| vec![Step::Send(reply(200, &format!("GET {}", seen.head.word(1))))]);
    let port = TcpListener::bind("127.0.0.1:0").expect("a port");
    let own = port.local_addr().expect("its address");
    let check = format!("type = \"tcp\"\nport = {}", own.port());
    let ringway = Ringway::start(&checked(&[origin.address], &check));
    eventually("a check", PATIENCE, || {
        (ringway.metric("ringway_health_checks_total", "passed") > 2.0).then_some(())
    });
    assert_eq!(shown(&ringway, origin.address)["health"], "up");
    drop(port);
    assert_eq!(wait_for(&ringway, origin.address, "down")["check_error"], "connect refused");
    assert_eq!(origin.seen_count(), 0, "its own port was not asked");
    let again = TcpListener::bind(own).expect("the same port");
    wait_for(&ringway, origin.address, "up");
    drop(again);
    ask(&ringway, 1);
}

/// A reload that leaves a check alone does not disturb it; one that removes it ends what it said.
#[test]
fn checks_follow_the_rules() {
    let (status, other) = (Arc::new(AtomicU16::new(500)), Arc::new(AtomicU16::new(200)));
    let (down, up) = (healthy(&status, ""), healthy(&other, ""));
    let conf = checked(&[down.address, up.address], "path = \"/health\"");
    let ringway = Ringway::start(&conf);
    wait_for(&ringway, down.address, "down");
    let checks = || down.count(|seen| seen.head.start.contains("/health"));
    let text = conf.clone().route("timeout = \"9s\"").text();
    ringway.reload(&text).wait_until_applied_on_all_cores();
    assert_eq!(shown(&ringway, down.address)["health"], "down", "no moment of grace");
    let (seen, began) = (checks(), Instant::now());
    eventually("checks to go on", PATIENCE, || (checks() > seen + 5).then_some(()));
    assert!(began.elapsed() >= Duration::from_millis(200), "one watch, not two");
    assert_eq!(served(&down), 0);
    ask(&ringway, 4);
    assert_eq!(served(&down), 0);
    let plain = Conf::to_all(&[down.address, up.address]).one_core().text();
    ringway.reload(&plain).wait_until_applied_on_all_cores();
    assert_eq!(ringway.status()["health"]["checked"], 0);
    let seen = checks();
    ask(&ringway, 4);
    assert_eq!(served(&down), 2, "nobody says that it is down");
    assert_eq!(checks(), seen, "nobody asks any more");
}

#[test]
fn an_endpoint_may_have_to_show_first_that_it_is_up() {
    let release = Arc::new(AtomicBool::new(false));
    let waits = Arc::clone(&release);
    let origin = Origin::auto(move |seen| {
        let status = match seen.head.start.contains(" /health ") && !waits.load(SeqCst) {
            true => 503,
            false => 200,
        };
        vec![Step::Send(reply(status, "GET /x"))]
    });
    let check = "path = \"/health\"\ninitial = \"down\"";
    let ringway = Ringway::start(&checked(&[origin.address], check));
    let mut client = ringway.connect();
    assert_eq!(client.fetch("/x").status(), 503);
    assert_eq!(served(&origin), 0);
    release.store(true, SeqCst);
    wait_for(&ringway, origin.address, "up");
    ask(&ringway, 1);
}
