//! Copies of requests to another upstream: the original never notices.

use std::time::{Duration, Instant};

use crate::support::{
    Conf, Origin, PATIENCE, Ringway, Step, eventually,
    frames::{Http2, block_on},
    origin::{Seen, reply},
    tls::{Authority, rules_out},
};

/// A route to the first origin with a mirror to the second.
fn text(origin: &Origin, shadow: std::net::SocketAddr, mirror: &str) -> String {
    format!(
        "[runtime]\npin = false\ncores = \"0\"\n[log]\naccess = \"stdout\"\n[[listener]]\nname = \"edge\"\n\
         address = \"{{listen}}\"\nhttp = [\"h1\", \"h2\"]\n[[route]]\nid = \"all\"\npath_prefix = \"/in\"\n\
         strip_path = true\nupstream = \"o\"\nretry = {{ attempts = 2 }}\n\
         mirror = {{ upstream = \"shadow\"{mirror} }}\n\
         [[upstream]]\nname = \"o\"\nendpoints = [\"http://{}\"]\n\
         [[upstream]]\nname = \"shadow\"\nendpoints = [\"http://{shadow}\"]\n\
         [upstream.timeouts]\nconnect = \"500ms\"\nresponse = \"2s\"\n",
        origin.address
    )
}

fn results(proxy: &Ringway, result: &str) -> f64 {
    proxy.metric("ringway_mirrored_requests_total", &format!("result=\"{result}\""))
}

fn wait_for(proxy: &Ringway, result: &str, count: f64) {
    eventually(result, PATIENCE, || (results(proxy, result) >= count).then_some(()));
}

#[test]
fn copies_are_whole_and_marked_and_their_answers_are_dropped() {
    let origin = Origin::echo();
    let shadow = Origin::auto(|seen| {
        let status = if seen.head.word(0) == "GET" { 500 } else { 200 };
        vec![Step::Send(reply(status, "nobody sees this"))]
    });
    let proxy = Ringway::start_text(&text(&origin, shadow.address, ""));
    let mut client = proxy.connect();
    for n in 0..5 {
        assert_eq!(client.fetch(&format!("/in/{n}?a=b")).text(), format!("GET /{n}?a=b"));
        wait_for(&proxy, "answered", f64::from(n + 1));
    }
    assert_eq!(shadow.connections(), 1, "it is used again");
    // The body comes later than the head.
    client.send("POST /in/p HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\n");
    client.send("hel");
    client.send("lo");
    assert_eq!(client.response().status(), 200);
    let seen = shadow.wait_seen(6);
    let is_marked = |one: &Seen| one.head.get("x-ringway-mirror") == Some("1");
    assert!(seen.iter().all(is_marked) && !origin.seen().iter().any(is_marked));
    assert_eq!((seen[0].head.word(1), seen[0].head.get("host")), ("/0?a=b", Some("a.test")));
    assert_eq!((seen[5].head.word(0), &seen[5].body[..]), ("POST", &b"hello"[..]));
    wait_for(&proxy, "answered", 6.0);
    let log = proxy.access_log(6);
    assert!(log.iter().all(|line| line["status"] == 200 && line["upstream"] == "o"), "{log:?}");
    assert_eq!(proxy.metric("ringway_upstream_response_seconds_count", "upstream=\"shadow\""), 6.0);
    // What can't be copied is sent as ever.
    client.send("POST /in/c HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    let large = vec![b'x'; 100_000];
    client.post("/in/l", &large);
    assert_eq!(client.response().status(), 200);
    assert_eq!(results(&proxy, "unfit"), 2.0);
    assert_eq!(shadow.seen_count(), 6);
}

#[test]
fn a_share_of_the_requests_is_mirrored() {
    let (origin, shadow) = (Origin::echo(), Origin::echo());
    let proxy = Ringway::start_text(&text(&origin, shadow.address, ", share = \"25%\""));
    let mut client = proxy.connect();
    (0..400).for_each(|_| assert_eq!(client.fetch("/in/x").status(), 200));
    wait_for(&proxy, "answered", 50.0);
    let seen = shadow.seen_count();
    // Five standard deviations of 400 draws.
    assert!((57..=143).contains(&seen), "{seen} of 400 at 25 %");
}

/// A mirror that hangs, or is down, costs the original nothing, and fills up no more than its bound.
#[test]
fn a_mirror_that_hangs_or_is_down_is_not_noticed() {
    let (origin, hanging) = (Origin::echo(), Origin::start());
    let proxy = Ringway::start_text(&text(&origin, hanging.address, ""));
    let mut client = proxy.connect();
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(client.fetch("/in/x").status(), 200);
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(results(&proxy, "full") >= 30.0, "{}", results(&proxy, "full"));
    wait_for(&proxy, "failed", 60.0); // their time is over
    let stopped = proxy.stop();
    assert!(stopped.status.success());
    assert!(stopped.access_log.iter().all(|line| line["retries"] == 0 && line["status"] == 200));

    let down = Origin::start().kill();
    let proxy = Ringway::start_text(&text(&origin, down, ""));
    let mut client = proxy.connect();
    (0..20).for_each(|_| assert_eq!(client.fetch("/in/x").status(), 200));
    wait_for(&proxy, "failed", 20.0);
    assert_eq!(proxy.metric("ringway_retries_total", "upstream=\"o\",cause=\"connect\""), 0.0);
}

#[test]
fn streams_of_http2_are_mirrored_too() {
    let (origin, shadow) = (Origin::echo(), Origin::echo());
    let proxy = Ringway::start_text(&text(&origin, shadow.address, ""));
    block_on(async {
        let client = Http2::connect(proxy.address()).await;
        assert_eq!(client.get("/in/h2").await.expect("an answer").status, 200);
    });
    assert_eq!(shadow.wait_seen(1)[0].head.word(1), "/h2");
}

/// The endpoints of a mirror may want TLS, HTTP/2 or the PROXY protocol like any others: they are played
/// by another ringway.
#[test]
fn copies_go_by_tls_http2_and_the_proxy_protocol() {
    if rules_out("mirrors", "the listeners behind say themselves what they speak") {
        return;
    }
    let authority = Authority::new();
    let pair = authority.issue("a", &["a.test"]);
    let tls = format!("tls = {{ certificates = [{{ {} }}] }}", pair.toml());
    let trust = format!("[upstream.tls]\nca = {:?}\nsni = \"a.test\"\n", authority.path());
    let h2 = "http = \"h2\"\n";
    let cases = [
        (format!("http = [\"h1\"]\n{tls}"), String::new(), trust.clone()),
        (format!("http = [\"h2\"]\n{tls}"), h2.to_owned(), trust),
        ("http = [\"h2\"]".to_owned(), h2.to_owned(), String::new()),
        (
            "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1/32\"]".to_owned(),
            "proxy_protocol = \"v2\"\n".to_owned(),
            String::new(),
        ),
    ];
    for (listener, upstream, more) in cases {
        let (origin, shadow) = (Origin::echo(), Origin::echo());
        let behind = Ringway::start(&Conf::to(shadow.address).one_core().listener(&listener));
        let text = text(&origin, behind.address(), "");
        let text = match more.is_empty() {
            true => text,
            false => text.replace(
                &format!("http://{}", behind.address()),
                &format!("https://{}", behind.address()),
            ),
        };
        let text = text.replace("name = \"shadow\"\n", &format!("name = \"shadow\"\n{upstream}"));
        let proxy = Ringway::start_text(&format!("{text}{more}"));
        let mut client = proxy.connect();
        for n in 0..3 {
            client.post(&format!("/in/{n}"), b"hello");
            assert_eq!(client.response().status(), 200);
            wait_for(&proxy, "answered", f64::from(n + 1));
        }
        let seen = shadow.wait_seen(3);
        assert!(seen.iter().all(|one| one.head.get("x-ringway-mirror") == Some("1")), "{listener}");
        assert!(seen.iter().all(|one| one.body == b"hello"), "{listener}");
        let accepted = behind.metric("ringway_connections_accepted_total", "");
        assert_eq!(accepted, 1.0, "one after the other on one connection: {listener}");
    }
}
