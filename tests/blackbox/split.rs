//! Routes that share their requests out over several upstreams, as clients and endpoints see them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Client, Origin, PATIENCE, Ringway, eventually, wire::Message};

/// Two upstreams `v1` and `v2` with an endpoint each, and a route with these keys.
fn text(origins: &[Origin; 2], route: &str) -> String {
    let upstream = |(name, origin): (&str, &Origin)| {
        format!("[[upstream]]\nname = \"{name}\"\nendpoints = [\"http://{}\"]\n", origin.address)
    };
    let upstreams: String = ["v1", "v2"].into_iter().zip(origins).map(upstream).collect();
    format!(
        "[runtime]\npin = false\n[log]\naccess = \"stdout\"\n[[listener]]\nname = \"edge\"\n\
         address = \"{{listen}}\"\n[[route]]\nid = \"all\"\npath_prefix = \"/x\"\n\
         methods = [\"GET\"]\n{route}\n{upstreams}"
    )
}

fn echoes() -> [Origin; 2] {
    [Origin::echo(), Origin::echo()]
}

fn counts(origins: &[Origin; 2]) -> (usize, usize) {
    (origins[0].seen_count(), origins[1].seen_count())
}

fn fetch(client: &mut Client, fields: &str) -> Message {
    client.send(format!("GET /x HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
    client.response()
}

/// Which origin served a request with these fields.
fn version_of(origins: &[Origin; 2], client: &mut Client, fields: &str) -> usize {
    let before = counts(origins);
    assert_eq!(fetch(client, fields).status(), 200);
    usize::from(counts(origins).1 > before.1)
}

/// Sends requests over new connections, ten over each, so that all cores serve some.
fn ask(proxy: &Ringway, count: usize) {
    for _ in 0..count / 10 {
        let mut client = proxy.connect();
        (0..10).for_each(|_| assert_eq!(fetch(&mut client, "").status(), 200));
    }
}

fn call(proxy: &Ringway, method: &str, path: &str, body: &Value) -> Message {
    let body = body.to_string();
    let mut client = Client::connect(proxy.admin);
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        proxy.admin,
        body.len()
    ));
    client.response()
}

#[test]
fn requests_are_shared_out_by_weight_on_all_cores() {
    let origins = echoes();
    let split = "split = [{ upstream = \"v1\", weight = 90 }, { upstream = \"v2\", weight = 10 }]";
    let proxy = Ringway::start_text(&text(&origins, split));
    ask(&proxy, 400);
    let cores = proxy.status()["cores"].as_array().expect("cores").len();
    let (old, new) = counts(&origins);
    assert!(old + new == 400 && new.abs_diff(40) <= cores, "{old} + {new} on {cores} cores");
    // What no route takes is told apart as ever, and nobody's turn.
    let mut client = proxy.connect();
    client.send("POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
    client.response().assert_own(405, "method_not_allowed");
    client.fetch("/y").assert_own(404, "no_route");
    assert_eq!(counts(&origins), (old, new));
    let mut logged = BTreeMap::new();
    for line in proxy.access_log(402) {
        *logged.entry(line["upstream"].as_str().unwrap_or("-").to_owned()).or_insert(0) += 1;
    }
    let expected = [("-", 2), ("v1", old), ("v2", new)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(logged, BTreeMap::from(expected));
    assert!((proxy.metric("ringway_split_share_ratio", "upstream=\"v2\"") - 0.1).abs() < 1e-6);
    let count = proxy.metric("ringway_upstream_response_seconds_count", "upstream=\"v2\"");
    assert_eq!(count, new as f64);
}

#[test]
fn fields_and_cookies_come_before_weights() {
    let origins = echoes();
    let split = "split = [{ upstream = \"v1\", weight = 1, headers = { x-canary = \"never\" } }, \
                 { upstream = \"v2\", headers = { x-canary = \"present\" } }]\n\
                 [[route]]\nid = \"cookies\"\npath = \"/x\"\npriority = -1\nmethods = [\"HEAD\"]\n\
                 split = [{ upstream = \"v1\" }, { upstream = \"v2\", weight = 0, \
                 cookies = { group = \"beta\" }, headers = { x-staff = \"yes\" } }]";
    let proxy = Ringway::start_text(&text(&origins, split));
    let mut client = proxy.connect();
    for (fields, version) in [
        ("", 0),
        ("X-Canary: always\r\n", 1),
        ("X-Canary: never\r\n", 0),
        ("x-canary:\r\n", 1),
        ("", 0),
    ] {
        assert_eq!(version_of(&origins, &mut client, fields), version, "{fields:?}");
    }
    for (fields, version) in [
        ("Cookie: group=beta\r\nX-Staff: yes\r\n", 1),
        ("Cookie: group=beta\r\n", 0),
        ("X-Staff: yes\r\n", 0),
        ("Cookie: a=b; group=beta2\r\nX-Staff: yes\r\n", 0),
    ] {
        let before = counts(&origins);
        client.send(format!("HEAD /x HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
        assert_eq!(client.response_to("HEAD").status(), 200);
        assert_eq!(usize::from(counts(&origins).1 > before.1), version, "{fields:?}");
    }
}

/// A client stays with its version, and a client that is on the new one stays there while its share
/// grows by the admin API.
#[test]
fn clients_stay_on_the_new_version_while_its_share_grows() {
    let kinds =
        [("split_key", json!("header:x-user")), ("split_sticky", json!({ "cookie": "ver" }))];
    for (key, value) in kinds {
        let origins = echoes();
        let proxy = Ringway::start_text(&text(&origins, "upstream = \"v1\""));
        let split = |weight: u32| {
            let old = 100 - weight;
            json!([{ "upstream": "v1", "weight": old }, { "upstream": "v2", "weight": weight }])
        };
        let route = json!({ "path": "/x", "split": split(20), key: value });
        assert_eq!(call(&proxy, "PUT", "/v1/routes/told?wait=applied", &route).status(), 201);
        let mut client = proxy.connect();
        // Who each client is: its key, or the cookie it was given.
        let mut clients: Vec<String> = (0..40).map(|n| format!("X-User: u{n}\r\n")).collect();
        if key == "split_sticky" {
            for fields in &mut clients {
                let given = fetch(&mut client, "");
                let cookie = given.head.get("set-cookie").expect("a place").to_owned();
                assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
                *fields = format!("Cookie: {}\r\n", cookie.split(';').next().expect("a pair"));
                assert_eq!(fetch(&mut client, fields).head.get("set-cookie"), None, "has one");
            }
        }
        let mut before = vec![0; clients.len()];
        for weight in [20, 50, 100] {
            let patch = json!({ "split": split(weight) });
            let path = "/v1/routes/told?wait=applied";
            assert_eq!(call(&proxy, "PATCH", path, &patch).status(), 200);
            let mut on_new = 0;
            for (fields, before) in clients.iter().zip(&mut before) {
                let version = version_of(&origins, &mut client, fields);
                assert_eq!(version_of(&origins, &mut client, fields), version, "stays");
                assert!(version >= *before, "{key}: {fields} went back at {weight} %");
                *before = version;
                on_new += version;
            }
            // Six standard deviations.
            let bound = 6.0 * (0.4 * f64::from(weight) * f64::from(100 - weight) / 100.0).sqrt();
            let error = (on_new as f64 - 0.4 * f64::from(weight)).abs();
            assert!(error <= bound, "{on_new} of 40 at {weight} %");
        }
    }
}

/// Who has a version that fails is told so: its requests do not silently go to the other one.
#[test]
fn a_side_without_an_endpoint_fails_alone() {
    let origins = echoes();
    let split = "retry = { attempts = 2, on = [\"connect\", \"503\"] }\n\
                 split = [{ upstream = \"v1\" }, { upstream = \"v2\" }]";
    let proxy = Ringway::start_text(&text(&origins, split));
    let [old, new] = origins;
    new.kill();
    let statuses: Vec<u16> = (0..10).map(|_| proxy.connect().fetch("/x").status()).collect();
    let failed = statuses.iter().filter(|status| **status == 502).count();
    assert!((4..=6).contains(&failed), "{statuses:?}");
    eventually("the others to be served", PATIENCE, || {
        (old.seen_count() + failed == 10).then_some(())
    });
}
