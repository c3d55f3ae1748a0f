//! Endpoints while the rules change: what an operator says of them by hand, and what all cores know of
//! them, outlive changes; a change that can't be kept is taken back.

use serde_json::{Value, json};

use crate::{
    admin::{call, fetched, get, kept_in, upstream_of},
    support::{
        Conf, Load, Origin, PATIENCE, Ringway, Step, eventually, load::Echo, origin::reply,
        process::signal,
    },
};

fn by_hand(proxy: &Ringway, origin: &Origin, health: &str) -> Value {
    let path = format!("/v1/upstreams/origin/endpoints/{}/health", origin.address);
    call(proxy, "PUT", &path, json!({ "health": health })).is(200).body
}

/// How many of ten requests each of two origins gets.
fn shares(proxy: &Ringway, blue: &Origin, green: &Origin) -> (usize, usize) {
    let before = (blue.seen_count(), green.seen_count());
    for _ in 0..10 {
        assert_eq!(fetched(proxy, "/x").0, 200);
    }
    (blue.seen_count() - before.0, green.seen_count() - before.1)
}

#[test]
fn an_endpoint_of_a_file_is_taken_out_by_hand_and_stays_out() {
    let (blue, green) = (Origin::echo(), Origin::echo());
    let conf = Conf::to_all(&[blue.address, green.address]);
    let proxy = Ringway::start(&conf);
    let said = by_hand(&proxy, &blue, "draining");
    assert_eq!((&said["health"], &said["by_hand"]), (&json!("draining"), &json!("draining")));
    assert_eq!(shares(&proxy, &blue, &green), (0, 10), "at once, and for all cores");
    // Other rules, for its upstream too, and another endpoint beside it.
    let more = Conf::to_all(&[blue.address, green.address]).timeout("connect = \"3s\"");
    proxy.replace(&more.text()).wait_until_applied_on_all_cores();
    assert_eq!(shares(&proxy, &blue, &green), (0, 10), "after a change");
    let shown = proxy.status()["health"]["by_hand"].clone();
    let expected = json!([{
        "upstream": "origin", "endpoint": blue.address.to_string(), "health": "draining",
    }]);
    assert_eq!(shown, expected);
    assert_eq!(by_hand(&proxy, &blue, "up")["health"], "up");
    assert_eq!(by_hand(&proxy, &green, "down")["by_hand"], "down");
    assert_eq!(shares(&proxy, &blue, &green), (10, 0));
    let path = format!("/v1/upstreams/origin/endpoints/{}/health", green.address);
    assert_eq!(get(&proxy, &path).is(200).body["health"], "down");
    // What is wrong with a call is said.
    let wrong = call(&proxy, "PUT", &path, json!({ "health": "drain" })).is(400);
    assert!(wrong.body["hint"].as_str().is_some_and(|hint| hint.contains("draining")));
    call(&proxy, "PUT", &path, json!({ "helth": "up" })).is(400);
    let missing = "/v1/upstreams/origin/endpoints/127.0.0.1:1/health";
    call(&proxy, "PUT", missing, json!({ "health": "up" })).is(404);
    get(&proxy, "/v1/upstreams/other/endpoints/127.0.0.1:1/health").is(404);
}

/// With a `state_dir` it is known after a restart and an upgrade, as long as the endpoint is in the rules.
#[test]
fn what_was_said_by_hand_survives_the_process() {
    let (blue, green) = (Origin::echo(), Origin::echo());
    let directory = tempfile::tempdir().expect("a directory");
    let admin =
        format!("[admin]\naddress = \"{{admin}}\"\nstate_dir = \"{}\"", directory.path().display());
    let conf = Conf::to_all(&[blue.address, green.address]).more(&admin);
    let proxy = Ringway::start(&conf);
    assert_eq!(by_hand(&proxy, &blue, "draining")["kept"], true);
    let old = proxy.pid_now();
    signal(old, "USR2");
    eventually("the successor alone", PATIENCE * 3, || {
        let all_new = (0..20).all(|_| proxy.try_pid_now().is_some_and(|(pid, _)| pid != old));
        all_new.then_some(())
    });
    assert_eq!(shares(&proxy, &blue, &green), (0, 10), "after an upgrade");
    signal(proxy.pid_now(), "KILL");
    proxy.stop();
    let proxy = Ringway::start(&conf);
    assert_eq!(shares(&proxy, &blue, &green), (0, 10), "after a crash");
    assert_eq!(by_hand(&proxy, &blue, "up")["kept"], true);
    by_hand(&proxy, &green, "down");
    proxy.stop();
    let proxy = Ringway::start(&conf);
    assert_eq!(shares(&proxy, &blue, &green), (10, 0), "the last word counts");
    // Out of the rules and back: nothing is known of it any more.
    let one = Conf::to(blue.address).more(&admin);
    proxy.replace(&one.text()).wait_until_applied_on_all_cores();
    let file = directory.path().join("by-hand.json");
    eventually("it to be forgotten", PATIENCE, || {
        (std::fs::read_to_string(&file).ok()?.trim() == "[]").then_some(())
    });
    proxy.replace(&conf.text()).wait_until_applied_on_all_cores();
    assert_eq!(shares(&proxy, &blue, &green), (5, 5));
    // What can't be written holds all the same, and that it will not last is said.
    std::fs::create_dir(directory.path().join(".by-hand.json.new")).expect("made");
    assert_eq!(by_hand(&proxy, &blue, "down")["kept"], false);
    assert_eq!(shares(&proxy, &blue, &green), (0, 10));
}

/// The disk takes the bytes and then breaks: the rules are in force already, and go back.
#[test]
fn a_change_that_can_not_be_kept_is_taken_back() {
    let origin = Origin::echo();
    let directory = tempfile::tempdir().expect("a directory");
    let proxy = Ringway::start(&kept_in(directory.path(), &origin));
    call(&proxy, "PUT", "/v1/upstreams/u", upstream_of(&origin)).is(201);
    let route = json!({ "path": "/a", "upstream": "u" });
    let made = call(&proxy, "PUT", "/v1/routes/a?wait=applied", route).is(201);
    let version = made.body["version"].as_u64().expect("a version");
    let state = directory.path().join("api.toml");
    let kept = std::fs::read(&state).expect("the state");
    // A directory can't be replaced by a file.
    std::fs::remove_file(&state).expect("removed");
    std::fs::create_dir(&state).expect("made");
    let path = format!("/v1/upstreams/u/endpoints/{}?wait=applied", origin.address);
    let refused = call(&proxy, "PATCH", &path, json!({ "enabled": false })).is(507);
    assert!(refused.body["error"].as_str().is_some_and(|text| text.contains("can't be written")));
    proxy.wait_for_line(&format!("version {} is in force on all cores", version + 2));
    assert_eq!(fetched(&proxy, "/a").0, 200, "as before");
    assert_eq!(get(&proxy, &path).is(200).body["enabled"], true);
    std::fs::remove_dir(&state).expect("removed");
    std::fs::write(&state, kept).expect("put back");
    call(&proxy, "PATCH", &path, json!({ "enabled": false })).is(200);
    assert_eq!(fetched(&proxy, "/a").0, 503);
    let kept = std::fs::read_to_string(&state).expect("the state");
    assert!(kept.contains("enabled = false"), "{kept}");
}

/// Breakers, retries and limits belong to the names of upstreams and endpoints, not to a version: on
/// all cores they go on where they were, whatever changes meanwhile.
#[test]
fn what_is_known_of_endpoints_outlives_changes_on_all_cores() {
    let good = Origin::echo();
    let bad = Origin::auto(|_| vec![Step::Send(reply(500, "no"))]);
    let conf = |path: &str| {
        Conf::to_all(&[good.address, bad.address])
            .more("[upstream.circuit_breaker]\nscope = \"endpoint\"")
            .more("[upstream.overload]\nrequests_max = 8")
            .more(&format!("[[route]]\nid = \"other\"\npath = \"{path}\"\nupstream = \"origin\""))
            .route("[route.retry]\non = [\"500\"]\nattempts = 3\nbudget = \"100%\"")
            .text()
    };
    let proxy = Ringway::start_text(&conf("/other/0"));
    let load = Load::start(proxy.address(), 4, Echo);
    for round in 1..=4 {
        proxy.replace(&conf(&format!("/other/{round}"))).wait_until_applied_on_all_cores();
        let path = format!("/v1/upstreams/u{}", round % 2);
        call(&proxy, "PUT", &path, upstream_of(&good));
        let path = format!("/v1/upstreams/origin/endpoints/{}/health", good.address);
        call(&proxy, "PUT", &path, json!({ "health": "up" })).is(200);
    }
    let served = load.stop();
    // Three failures in a row open it, for a minute; each client may have one more under way.
    let tried = bad.seen_count();
    assert!((3..=3 + 4).contains(&tried), "{tried} tries of {served} requests");
    eventually("the last ones to be done with", PATIENCE, || {
        (proxy.metric("ringway_upstream_requests_in_flight", "origin") == 0.0).then_some(())
    });
    assert_eq!(proxy.metric("ringway_shed_total", "limit"), 0.0);
}
