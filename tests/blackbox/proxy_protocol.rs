//! Clients behind a balancer that speaks the PROXY protocol.

use std::net::TcpStream;

use crate::support::{
    Client, Conf, Origin, PATIENCE, Ringway, eventually,
    tls::{Authority, rules_out},
};

const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

fn v2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend_from_slice(&[192, 0, 2, 7, 198, 51, 100, 2, 0xC3, 0xCB, 0x01, 0xBB]);
    header
}

fn start(origin: &Origin, trusted: &str) -> Ringway {
    let conf = Conf::to(origin.address).one_core().listener("proxy_protocol = true");
    Ringway::start(&conf.listener(&format!("trusted_proxies = [\"{trusted}\"]")))
}

/// A client whose first bytes are not those of a handshake.
fn connect(proxy: &Ringway) -> Client {
    Client::over(TcpStream::connect(proxy.address()).expect("a connection"))
}

/// When all listeners speak TLS, a header can't be followed by a request.
fn is_tls() -> bool {
    rules_out("proxy_protocol", "its listeners say themselves whether they speak TLS")
}

/// The `X-Forwarded-For` that the endpoint sees of a request behind `header`.
fn forwarded_for(client: &mut Client, origin: &Origin, header: &[u8]) -> String {
    client.send([header, b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"].concat());
    assert_eq!(client.response().status(), 200);
    let seen = origin.seen();
    let request = seen.last().expect("a request");
    request.head.get("x-forwarded-for").expect("the field").to_owned()
}

#[test]
fn the_client_is_who_the_balancer_says() {
    if is_tls() {
        return;
    }
    let origin = Origin::echo();
    let proxy = start(&origin, "127.0.0.0/8");
    let v1 = b"PROXY TCP4 192.0.2.7 198.51.100.2 50123 443\r\n";
    let six = b"PROXY TCP6 2001:db8::7 2001:db8::2 50123 443\r\n";
    let v2 = v2();
    for (header, client) in [
        (&v1[..], "192.0.2.7"),
        (&six[..], "2001:db8::7"),
        (&v2[..], "192.0.2.7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (V2_LOCAL, "127.0.0.1"),
    ] {
        let mut connection = connect(&proxy);
        assert_eq!(forwarded_for(&mut connection, &origin, header), client);
        assert_eq!(forwarded_for(&mut connection, &origin, b""), client, "for each request of it");
    }
    let log = proxy.access_log(10);
    assert_eq!(log[0]["client"], "192.0.2.7:50123");
}

#[test]
fn a_header_torn_at_every_byte() {
    if is_tls() {
        return;
    }
    let origin = Origin::echo();
    let proxy = start(&origin, "127.0.0.1");
    for header in [b"PROXY TCP4 192.0.2.7 198.51.100.2 50123 443\r\n".to_vec(), v2()] {
        for cut in 1..header.len() {
            let mut connection = connect(&proxy);
            connection.send(&header[..cut]);
            let seen = forwarded_for(&mut connection, &origin, &header[cut..]);
            assert_eq!(seen, "192.0.2.7", "cut at {cut}");
        }
    }
}

#[test]
fn what_is_no_header_ends_the_connection() {
    if is_tls() {
        return;
    }
    let origin = Origin::echo();
    let proxy = start(&origin, "127.0.0.1");
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    for bad in ["", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1 70000\r\n"] {
        let mut connection = connect(&proxy);
        connection.send(format!("{bad}{request}"));
        connection.assert_closed();
    }
    assert!(origin.seen().is_empty(), "nothing reached the endpoint");
    eventually("three refusals", PATIENCE, || {
        (proxy.metric("ringway_proxy_headers_refused_total", "") == 3.0).then_some(())
    });
}

#[test]
fn a_stranger_may_not_say_who_it_is() {
    if is_tls() {
        return;
    }
    let origin = Origin::echo();
    let proxy = start(&origin, "10.0.0.0/8");
    let mut connection = connect(&proxy);
    connection.send("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    connection.assert_closed();
    assert!(origin.seen().is_empty());
}

#[test]
fn a_header_that_does_not_come_has_a_deadline() {
    let origin = Origin::echo();
    let conf = Conf::to(origin.address).one_core().listener("proxy_protocol = true");
    let conf = conf.listener("trusted_proxies = [\"127.0.0.1\"]");
    let proxy = Ringway::start(&conf.limit("header_timeout = \"100ms\""));
    let mut connection = connect(&proxy);
    connection.send("PROXY TCP4 1.2.3");
    connection.assert_closed();
}

#[test]
fn behind_the_header_may_come_tls() {
    if is_tls() {
        return;
    }
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.issue("a", &["a.test"]);
    let tls = format!("tls = {{ certificates = [{{ {} }}] }}", pair.toml());
    let conf = Conf::to(origin.address).one_core().listener("proxy_protocol = true");
    let conf = conf.listener("trusted_proxies = [\"127.0.0.1\"]").listener(&tls);
    let proxy = Ringway::start(&conf);
    let mut client = authority.client().after(&v2()).connect(proxy.address());
    assert_eq!(forwarded_for(&mut client, &origin, b""), "192.0.2.7");
}
