//! Heartbeats: endpoints that say through the Admin API that they live.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::support::{Conf, Origin, PATIENCE, Ringway, eventually};

/// The status of a PUT without a body.
fn put(ringway: &Ringway, path: &str) -> u16 {
    let mut stream = TcpStream::connect(ringway.admin).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let head = format!("PUT {path} HTTP/1.0\r\nhost: {}\r\n\r\n", ringway.admin);
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.get(9..12).and_then(|digits| digits.parse().ok()).expect("a status")
}

#[test]
fn an_endpoint_that_falls_silent_is_out_until_it_is_heard_again() {
    let (one, two) = (Origin::echo(), Origin::echo());
    let conf = Conf::to_all(&[one.address, two.address]).one_core();
    let ringway = Ringway::start(&conf.upstream("heartbeat = { ttl = \"100ms\" }"));
    let beat = |origin: &Origin, more: &str| {
        let endpoint = origin.address;
        put(&ringway, &format!("/v1/upstreams/origin/endpoints/{endpoint}/heartbeat{more}"))
    };
    assert_eq!(beat(&one, "?ttl=1h"), 200);
    eventually("the silent one to be down", PATIENCE, || {
        let page = ringway.admin("/v1/upstreams/origin/status").text();
        page.contains("\"kept_by\":[\"heartbeat\"]").then_some(())
    });
    ringway.wait_for_line(&format!("{} is down: no heartbeat for 100ms", two.address));
    let mut client = ringway.connect();
    (0..4).for_each(|_| assert_eq!(client.fetch("/x").status(), 200));
    assert_eq!((one.seen_count(), two.seen_count()), (4, 0));
    assert_eq!(beat(&two, "?ttl=1h"), 200);
    (0..4).for_each(|_| assert_eq!(client.fetch("/x").status(), 200));
    assert_eq!((one.seen_count(), two.seen_count()), (6, 2));
    assert_eq!(beat(&two, "?ttl=soon"), 400);
    assert_eq!(put(&ringway, "/v1/upstreams/origin/endpoints/127.0.0.1:9/heartbeat"), 404);
    assert_eq!(put(&ringway, "/v1/upstreams/nobody/endpoints/127.0.0.1:9/heartbeat"), 404);
    let plain = Conf::to_all(&[one.address, two.address]).one_core().text();
    ringway.reload(&plain).wait_until_applied_on_all_cores();
    assert_eq!(beat(&two, ""), 409, "nobody expects it");
}
