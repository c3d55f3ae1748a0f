//! Connections to endpoints: kept, used again, given up; and what happens when endpoints refuse,
//! hang, die or go quiet. One worker, so that who uses which connection is certain.

use std::{net::Ipv4Addr, time::Duration};

use socket2::{Domain, Socket, Type};

use crate::support::{
    Conf, End, Origin, PATIENCE, Ringway, Step, eventually, origin::reply, ringway::free_address,
};

fn start(origin: &Origin) -> Ringway {
    Ringway::start(&Conf::to(origin.address).one_core())
}

#[test]
fn clients_share_the_connections_of_a_core() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    for number in 0..30 {
        let path = format!("/{number}");
        assert_eq!(proxy.connect().fetch(&path).text(), format!("GET {path}"));
    }
    assert_eq!(origin.connections(), 1, "one after the other needs one connection");
}

#[test]
fn the_last_used_connection_is_used_first() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let (mut a, mut b) = (proxy.connect(), proxy.connect());
    a.get("/a");
    let first = origin.next_request();
    b.get("/b");
    let second = origin.next_request();
    let number = second.connection;
    first.reply(200, "a");
    assert_eq!(a.response().text(), "a");
    second.reply(200, "b");
    assert_eq!(b.response().text(), "b");
    for _ in 0..3 {
        a.get("/again");
        let request = origin.next_request();
        assert_eq!(request.connection, number, "the warmest one");
        request.reply(200, "ok");
        assert_eq!(a.response().text(), "ok");
    }
    assert_eq!(origin.connections(), 2);
}

#[test]
fn idle_connections_are_bounded_and_given_up() {
    let origin = Origin::start();
    let conf =
        Conf::to(origin.address).one_core().pool("idle = \"400ms\"").pool("idle_max_per_core = 2");
    let proxy = Ringway::start(&conf);
    let mut clients: Vec<_> = (0..5).map(|_| proxy.connect()).collect();
    let mut requests = Vec::new();
    for client in &mut clients {
        client.get("/");
        requests.push(origin.next_request());
    }
    for request in requests {
        request.reply(200, "ok");
    }
    for client in &mut clients {
        assert_eq!(client.response().text(), "ok");
    }
    origin.wait_open(2, Duration::from_secs(15));
    origin.wait_open(0, Duration::from_secs(15));
    clients[0].get("/new");
    origin.next_request().reply(200, "new");
    assert_eq!(clients[0].response().text(), "new");
}

/// An endpoint may close an idle connection at any time; clients never notice.
#[test]
fn idle_connections_that_die_are_noticed() {
    let origin = Origin::echo();
    let proxy = start(&origin);
    for number in 0..30 {
        let mut client = proxy.connect();
        if number % 3 == 0 {
            client.post("/p", b"body");
        } else {
            client.get("/g");
        }
        assert_eq!(client.response().status(), 200, "round {number}");
        origin.cut_all();
        origin.wait_open(0, Duration::from_secs(15));
    }
}

/// The endpoint takes the request on a used connection and closes without a word: it may have been
/// closing all along. An idempotent request is tried again on a new connection, once.
#[test]
fn a_used_connection_that_dies_is_retried_for_idempotent_requests_only() {
    let retry = |method: &str, body: &str| {
        let origin = Origin::start();
        let proxy = start(&origin);
        let mut client = proxy.connect();
        client.get("/warm");
        let request = origin.next_request();
        let warm = request.connection;
        request.reply(200, "warm");
        assert_eq!(client.response().text(), "warm");
        let length = body.len();
        client.send(format!(
            "{method} /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        let request = origin.next_head();
        assert_eq!(request.connection, warm, "{method}: the warm connection is used");
        request.close();
        (origin, proxy, client)
    };
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let (origin, _proxy, mut client) = retry(method, "");
        let again = origin.next_request();
        assert_eq!(again.head.word(0), method);
        again.reply(200, "");
        assert_eq!(client.response_to(method).status(), 200, "{method}");
    }
    for (method, body) in [("POST", ""), ("POST", "pay"), ("PATCH", "x")] {
        let (origin, _proxy, mut client) = retry(method, body);
        client.response().assert_own(502, "upstream_closed");
        assert!(!origin.got_another(Duration::from_millis(300)), "{method} is never sent twice");
    }
}

/// On a fresh connection a silent close is the endpoint's answer: nothing is tried again.
#[test]
fn a_fresh_connection_that_dies_is_not_retried() {
    for reset in [false, true] {
        let origin = Origin::start();
        let proxy = start(&origin);
        let mut client = proxy.connect();
        client.get("/x");
        let request = origin.next_request();
        if reset {
            request.reset()
        } else {
            request.close()
        }
        client.response().assert_own(502, "upstream_closed");
        assert!(!origin.got_another(Duration::from_millis(200)));
        client.get("/y");
        origin.next_request().reply(200, "fine");
        assert_eq!(client.response().text(), "fine", "the client's connection lives on");
    }
}

#[test]
fn refused_silent_and_unreachable_endpoints() {
    let refused = Ringway::start(&Conf::to(free_address()).one_core());
    let mut client = refused.connect();
    for _ in 0..3 {
        client.get("/x");
        client.response().assert_own(502, "upstream_connect_refused");
    }
    let log = refused.access_log(3);
    assert_eq!(log[0]["reason"], "upstream_connect_refused", "{log:?}");
    assert_eq!(log[0]["status"], 502);

    let origin = Origin::start();
    let silent =
        Ringway::start(&Conf::to(origin.address).one_core().timeout("response = \"300ms\""));
    let mut client = silent.connect();
    client.get("/x");
    let mut request = origin.next_request();
    client.response().assert_own(504, "upstream_timeout");
    assert!(request.cancelled_within(Duration::from_secs(3)));
    client.get("/y");
    origin.next_request().reply(200, "fine");
    assert_eq!(client.response().text(), "fine");
}

/// A listener whose accept queue is full: the kernel drops our SYN, as a dead host would.
#[test]
fn connecting_takes_too_long() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("bind");
    socket.listen(0).expect("listen");
    let address = socket.local_addr().expect("address");
    let fill: Vec<Socket> = (0..4)
        .map(|_| {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
            filler.set_nonblocking(true).expect("nonblocking");
            let _ = filler.connect(&address);
            filler
        })
        .collect();
    let address = address.as_socket().expect("an IP address");
    let proxy = Ringway::start(&Conf::to(address).one_core().timeout("connect = \"300ms\""));
    let mut client = proxy.connect();
    client.get("/x");
    client.response().assert_own(504, "upstream_connect_timeout");
    drop(fill);
}

/// Connecting is tried at another endpoint while nothing of the request was sent anywhere.
#[test]
fn a_refusing_endpoint_is_passed_over() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to_all(&[free_address(), origin.address]).one_core());
    let mut client = proxy.connect();
    for number in 0..10 {
        client.post("/x", b"body");
        assert_eq!(client.response().status(), 200, "request {number}");
    }
    assert!(origin.seen().iter().all(|seen| seen.body == b"body"));
}

#[test]
fn round_robin_over_endpoints() {
    let origins = [Origin::echo(), Origin::echo(), Origin::echo()];
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let proxy = Ringway::start(&Conf::to_all(&addresses).one_core());
    let mut client = proxy.connect();
    for _ in 0..30 {
        assert_eq!(client.fetch("/").status(), 200);
    }
    let counts: Vec<usize> = origins.iter().map(Origin::seen_count).collect();
    assert_eq!(counts, [10, 10, 10]);
}

#[test]
fn smooth_weighted_round_robin() {
    let origins = [Origin::echo(), Origin::echo()];
    let text = format!(
        "[runtime]\ncores = \"0\"\npin = false\n[[listener]]\nname = \"edge\"\naddress = \"{{listen}}\"\n\
         [[route]]\nid = \"all\"\nupstream = \"o\"\n[[upstream]]\nname = \"o\"\n\
         strategy = \"weighted-round-robin\"\n\
         endpoints = [{{ url = \"http://{}\", weight = 3 }}, {{ url = \"http://{}\" }}]\n",
        origins[0].address, origins[1].address
    );
    let proxy = Ringway::start_text(&text);
    let mut client = proxy.connect();
    for round in 1..=10 {
        for _ in 0..4 {
            assert_eq!(client.fetch("/").status(), 200);
        }
        let counts: Vec<usize> = origins.iter().map(Origin::seen_count).collect();
        assert_eq!(counts, [3 * round, round], "spread evenly: exact in each round");
    }
}

#[test]
fn an_upstream_process_that_is_killed_in_the_middle_of_a_response() {
    for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
        let origin = Origin::start();
        let proxy = start(&origin);
        let mut client = proxy.connect();
        client.get("/big");
        let mut request = origin.next_request();
        request.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nhello\r\n"));
        let head = client.read_head().expect("the head was sent");
        origin.cut_all();
        drop(request);
        let answer = client.read_body(head, crate::support::wire::Kind::Response("GET"));
        let answer = answer.expect("what came is well-formed");
        assert!(matches!(answer.end, End::Truncated(_)), "{framing}: {:?}", answer.end);
        let log = proxy.access_log(1);
        assert_eq!(log[0]["reason"], "upstream_truncated", "{log:?}");
        let address = origin.kill();
        let mut next = proxy.connect();
        next.get("/next");
        let answer = next.response();
        assert_eq!(answer.status(), 502, "{address} is gone");
        assert_eq!(answer.reason(), Some("upstream_connect_refused"));
    }
}

#[test]
fn an_endpoint_that_falls_silent_in_the_middle_of_a_body() {
    let origin = Origin::auto(|_| {
        vec![Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec()), Step::Hang]
    });
    let proxy =
        Ringway::start(&Conf::to(origin.address).one_core().timeout("response = \"300ms\""));
    let answer = proxy.connect().fetch("/");
    assert!(matches!(answer.end, End::Truncated(_)), "{:?}", answer.end);
    assert_eq!(answer.body, b"half");
    origin.wait_open(0, Duration::from_secs(15));
}

#[test]
fn a_route_timeout_ends_the_exchange() {
    let origin = Origin::start();
    let proxy = Ringway::start(&Conf::to(origin.address).one_core().route("timeout = \"300ms\""));
    let mut client = proxy.connect();
    client.get("/x");
    let mut request = origin.next_request();
    client.response().assert_own(504, "route_timeout");
    assert!(request.cancelled_within(Duration::from_secs(3)));
}

/// An answer that came before the request's body was read must not leave the connection in the pool
/// with half a request in it.
#[test]
fn a_connection_with_an_unfinished_request_is_not_pooled() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut client = proxy.connect();
    client.send("POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\npart");
    let mut request = origin.next_head();
    request.send(reply(200, "early"));
    assert_eq!(client.response().text(), "early");
    let first = request.connection;
    drop(client);
    assert!(request.cancelled_within(Duration::from_secs(5)), "closed, not pooled");
    let mut other = proxy.connect();
    other.get("/y");
    let next = origin.next_request();
    assert_ne!(next.connection, first);
    next.reply(200, "other");
    assert_eq!(other.response().text(), "other");
}

#[test]
fn no_descriptor_is_left_behind() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address).one_core().pool("idle = \"300ms\""));
    assert_eq!(proxy.connect().fetch("/warm").status(), 200);
    origin.wait_open(0, Duration::from_secs(15));
    let before = crate::support::process::fd_count(proxy.pid());
    for number in 0..200 {
        let mut client = proxy.connect();
        match number % 4 {
            0 => drop(client.fetch("/x")),
            1 => client.send("GARBAGE\r\n\r\n"),
            2 => client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhalf"),
            _ => {}
        }
    }
    eventually("all descriptors to be closed", Duration::from_secs(10), || {
        (crate::support::process::fd_count(proxy.pid()) <= before).then_some(())
    });
}

/// A reset may have been sent by a program that read the request: the kernel's word that nothing was
/// acknowledged proves nothing then.
#[test]
fn a_post_that_was_reset_is_not_repeated() {
    let origin = Origin::auto(|seen| match seen.head.word(0) {
        "POST" => vec![Step::Reset],
        _ => vec![Step::Send(reply(200, "warm"))],
    });
    let proxy = start(&origin);
    for round in 0..20 {
        let mut client = proxy.connect();
        for _ in 0..3 {
            assert_eq!(client.fetch("/warm").status(), 200);
        }
        // Requests that wait in the same buffer are no bytes of this one.
        let mut wire = "PUT /p HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx".to_owned();
        wire += &"GET /warm HTTP/1.1\r\nHost: a.test\r\n\r\n".repeat(4);
        client.send(wire);
        for _ in 0..5 {
            assert_eq!(client.response().status(), 200);
        }
        client.send(format!("POST /{round} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n"));
        client.response().assert_own(502, "upstream_closed");
    }
    let posts = origin.count(|seen| seen.head.word(0) == "POST");
    assert_eq!(posts, 20, "each is seen once");
}

#[test]
fn a_short_body_is_sent_again_with_its_head() {
    let origin = Origin::start();
    let proxy = start(&origin);
    let mut client = proxy.connect();
    client.get("/warm");
    origin.next_request().reply(200, "");
    client.response();
    client.send("PUT /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello");
    client.get("/behind");
    origin.next_request().close();
    let again = origin.next_request();
    assert_eq!((again.head.word(0), &again.body[..]), ("PUT", &b"hello"[..]));
    again.reply(200, "stored");
    assert_eq!(client.response().text(), "stored");
    let behind = origin.next_request();
    assert_eq!(behind.head.word(1), "/behind");
    behind.reply(200, "next");
    assert_eq!(client.response().text(), "next");
}

#[test]
fn a_connection_unused_for_its_idle_time_is_not_used_again() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address).one_core().pool("idle = \"200ms\""));
    let mut client = proxy.connect();
    for _ in 0..4 {
        client.fetch("/");
        std::thread::sleep(Duration::from_millis(350));
    }
    assert_eq!(origin.connections(), 4);
}

/// A close that comes right after a response can't be told from a live connection in time. Once it
/// was seen, requests that can't be repeated no longer run into it.
#[test]
fn an_endpoint_that_closes_silently_gets_posts_on_new_connections() {
    let origin = Origin::auto(|_| {
        vec![Step::Send(reply(200, "")), Step::Pause(Duration::from_millis(30)), Step::Close]
    });
    let proxy = start(&origin);
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(client.fetch("/").status(), 200);
        eventually("the close is found in the pool", PATIENCE, || {
            (proxy.metric("ringway_upstream_connections", "origin") == 0.0).then_some(())
        });
    }
    for _ in 0..5 {
        client.post("/x", &[b'x'; 5000]);
        assert_eq!(client.response().status(), 200);
    }
}
