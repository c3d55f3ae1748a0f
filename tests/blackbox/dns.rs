//! Names of endpoints: a name server whose answers change, fail and come back, under load.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{
    Load, Origin, PATIENCE, Ringway, Step,
    dns::{Dns, Zone},
    eventually,
    load::Echo,
    origin::reply,
};

/// Origins on one port of several loopback addresses, as the addresses of one name are.
fn origins(addresses: &[[u8; 4]]) -> Vec<Origin> {
    let echo = |seen: &crate::support::origin::Seen| {
        vec![Step::Send(reply(200, &format!("GET {}", seen.head.word(1))))]
    };
    loop {
        let first = Origin::auto_at((addresses[0], 0).into(), echo).expect("a free port");
        let port = first.address.port();
        let others: Option<Vec<Origin>> =
            addresses[1..].iter().map(|ip| Origin::auto_at((*ip, port).into(), echo)).collect();
        if let Some(others) = others {
            return std::iter::once(first).chain(others).collect();
        }
    }
}

fn conf(dns: &Dns, upstream: &str) -> String {
    format!(
        "[runtime]\ncores = \"0\"\npin = false\n\
         [dns]\nservers = [\"{}\"]\nttl_min = \"100ms\"\ntimeout = \"300ms\"\n\
         [[listener]]\nname = \"edge\"\naddress = \"{{listen}}\"\n\
         [[route]]\nid = \"all\"\nupstream = \"users\"\n\
         [[upstream]]\nname = \"users\"\n{upstream}\n",
        dns.address
    )
}

fn named(ringway: &Ringway, name: &str) -> Value {
    let status = ringway.status();
    let names = status["names"].as_array().expect("names");
    names.iter().find(|one| one["name"] == *name).cloned().unwrap_or(Value::Null)
}

#[test]
fn other_addresses_take_over_under_load_and_no_request_is_lost() {
    let dns = Dns::start();
    let all = origins(&[[127, 0, 0, 2], [127, 0, 0, 3], [127, 0, 0, 4]]);
    let port = all[0].address.port();
    dns.addresses("users.test", &[[127, 0, 0, 2], [127, 0, 0, 3]]);
    let text = conf(&dns, &format!("endpoints = [\"http://users.test:{port}\"]"));
    let ringway = Ringway::start_text(&text);
    assert_eq!(
        named(&ringway, "users.test")["addresses"],
        serde_json::json!(["127.0.0.2", "127.0.0.3"]),
        "the start waits for the first answer"
    );
    let load = Load::start(ringway.address(), 4, Echo);
    let serves = |origin: &Origin| {
        let before = origin.seen_count();
        eventually("it to serve", PATIENCE, || (origin.seen_count() > before + 5).then_some(()));
    };
    serves(&all[0]);
    serves(&all[1]);
    assert_eq!(all[2].seen_count(), 0);
    for now in [&[1, 2][..], &[2, 0], &[0], &[0, 1, 2], &[1]] {
        let addresses: Vec<[u8; 4]> = now.iter().map(|at| [127, 0, 0, 2 + *at as u8]).collect();
        dns.addresses("users.test", &addresses);
        now.iter().for_each(|at| serves(&all[*at]));
        for (at, gone) in all.iter().enumerate().filter(|(at, _)| !now.contains(at)) {
            eventually(&format!("the address {at} to be left alone"), PATIENCE, || {
                let before = gone.seen_count();
                (0..50).for_each(|_| serves(&all[now[0]]));
                (gone.seen_count() == before).then_some(())
            });
        }
    }
    assert!(load.stop() > 0);
}

#[test]
fn without_an_answer_the_last_one_stays_and_is_asked_for_again() {
    let dns = Dns::start();
    let all = origins(&[[127, 0, 0, 2], [127, 0, 0, 3]]);
    let port = all[0].address.port();
    dns.addresses("users.test", &[[127, 0, 0, 2]]);
    let text = conf(&dns, &format!("endpoints = [\"http://users.test:{port}\"]"));
    let ringway = Ringway::start_text(&text);
    let load = Load::start(ringway.address(), 2, Echo);
    for (zone, why) in [
        (Zone::Code(2), "the name servers failed (SERVFAIL)"),
        (Zone::Code(3), "no such name"),
        (Zone::Addresses(Vec::new(), 1), "no such record"),
        (Zone::Silence, "no answer in time"),
    ] {
        dns.set("users.test", zone);
        let shown = eventually(why, PATIENCE * 4, || {
            Some(named(&ringway, "users.test")).filter(|one| one["error"] == why)
        });
        assert_eq!(shown["addresses"], serde_json::json!(["127.0.0.2"]));
        ringway.wait_for_line(&format!("name `users.test`: {why}; its last addresses stay"));
    }
    assert!(ringway.metric("ringway_dns_queries_total", "failed") >= 4.0);
    dns.addresses("users.test", &[[127, 0, 0, 3]]);
    let patience = PATIENCE * 4; // questions have become rare
    eventually("the other to serve", patience, || (all[1].seen_count() > 5).then_some(()));
    ringway.wait_for_line("name `users.test`: answered again");
    assert!(load.stop() > 0);
}

#[test]
fn a_name_that_is_not_known_at_the_start_does_not_stop_it() {
    let dns = Dns::start();
    let all = origins(&[[127, 0, 0, 2]]);
    let port = all[0].address.port();
    let text = conf(&dns, &format!("endpoints = [\"http://users.test:{port}\"]"));
    let ringway = Ringway::start_text(&text);
    ringway.wait_for_line("\"users.test\" has no address: no such name");
    assert_eq!(ringway.connect().fetch("/x").status(), 502);
    dns.addresses("users.test", &[[127, 0, 0, 2]]);
    eventually("the name to be known", PATIENCE, || {
        (ringway.connect().fetch("/x").status() == 200).then_some(())
    });
}

#[test]
fn services_bring_ports_and_weights_and_the_time_to_live_counts() {
    let dns = Dns::start();
    let echo = || {
        Origin::auto(|seen| {
            let host = seen.head.get("host").unwrap_or("").to_owned();
            vec![Step::Send(reply(200, &host))]
        })
    };
    let (heavy, light, late) = (echo(), echo(), echo());
    for name in ["a.test", "b.test", "c.test"] {
        dns.set(name, Zone::Addresses(vec!["127.0.0.1".parse().expect("an IP")], 3600));
    }
    let service = |priority, weight, origin: &Origin, target: &str| {
        (priority, weight, origin.address.port(), target.to_owned())
    };
    let services = vec![
        service(1, 3, &heavy, "a.test"),
        service(1, 1, &light, "b.test"),
        service(9, 9, &late, "c.test"),
    ];
    dns.set("_http._tcp.users.test", Zone::Services(services, 3600));
    let upstream = "strategy = \"weighted-round-robin\"\n\
                    discovery = { dns = { name = \"_http._tcp.users.test\", type = \"SRV\" } }";
    let text =
        conf(&dns, upstream).replace("id = \"all\"", "id = \"all\"\nhost_header = \"upstream\"");
    let ringway = Ringway::start_text(&text);
    let mut client = ringway.connect();
    for _ in 0..40 {
        let host = client.fetch("/x").text();
        assert!(host.starts_with("a.test:") || host.starts_with("b.test:"), "{host}");
    }
    assert_eq!((heavy.seen_count(), light.seen_count(), late.seen_count()), (30, 10, 0));
    // An answer that is good for an hour is not asked for again; a reload keeps it.
    let asked = dns.asked("_http._tcp.users.test");
    ringway
        .reload(&text.replace("[runtime]", "[runtime]\ndrain_timeout = \"9s\""))
        .wait_until_applied_on_all_cores();
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        assert_eq!(client.fetch("/x").status(), 200);
    }
    assert_eq!(dns.asked("_http._tcp.users.test"), asked);
    // Other settings ask anew.
    let services = vec![service(9, 9, &late, "c.test")];
    dns.set("_http._tcp.users.test", Zone::Services(services, 3600));
    ringway
        .reload(&text.replace("ttl_min = \"100ms\"", "ttl_min = \"200ms\""))
        .wait_until_applied_on_all_cores();
    eventually("the other to serve", PATIENCE, || {
        client.fetch("/x");
        (late.seen_count() > 5).then_some(())
    });
}

/// Each address of a name is an endpoint of its own, with a health of its own.
#[test]
fn addresses_of_a_name_are_checked_one_by_one() {
    let dns = Dns::start();
    let all = origins(&[[127, 0, 0, 2]]);
    let port = all[0].address.port();
    dns.addresses("users.test", &[[127, 0, 0, 2], [127, 0, 0, 9]]);
    let check = "[upstream.health_check]\ntype = \"tcp\"\ninterval = \"50ms\"\nfails = 1";
    let text = conf(&dns, &format!("endpoints = [\"http://users.test:{port}\"]\n{check}"));
    let ringway = Ringway::start_text(&text);
    eventually("one of two to be down", PATIENCE, || {
        let health = &ringway.status()["health"];
        (health["checked"] == 2 && health["down"] == 1).then_some(())
    });
    let down = &ringway.status()["health"]["endpoints"][0];
    assert_eq!(down["address"], format!("127.0.0.9:{port}"));
    assert_eq!(down["endpoint"], format!("users.test:{port}"));
    dns.addresses("users.test", &[[127, 0, 0, 2]]);
    eventually("it to be forgotten", PATIENCE, || {
        (ringway.status()["health"]["checked"] == 1).then_some(())
    });
}
