//! Listeners with `mode = "tcp"`: connections pass through as they are, by the name that TLS clients
//! ask for.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use crate::support::{
    Conf, Origin, PATIENCE, Ringway, eventually, pattern,
    tls::{Authority, everywhere},
};

/// An endpoint that says its name, then sends back what it gets until its client has finished.
pub(crate) fn echo(name: &'static str) -> SocketAddr {
    serve(move |mut stream| {
        stream.write_all(name.as_bytes()).ok();
        let mut buffer = [0; 65_536];
        while let Ok(1..) = stream
            .read(&mut buffer)
            .map(|count| stream.write_all(&buffer[..count]).map_or(0, |()| count))
        {}
    })
}

/// An endpoint that does this with each connection.
fn serve(script: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let script = script.clone();
            std::thread::spawn(move || script(stream));
        }
    });
    address
}

/// Where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address")
}

pub(crate) fn connect(proxy: &Ringway) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream
}

/// One listener, and routes from `sni` to an endpoint each; "" for none.
pub(crate) fn conf(listener: &str, routes: &[(&str, SocketAddr)]) -> String {
    // In single quotes: the listener stays without TLS where all others have it.
    let mut text = format!(
        "[runtime]\ncores = \"0\"\npin = false\ndrain_timeout = \"300ms\"\n\
         [[listener]]\nname = \"pass\"\naddress = '{{listen}}'\nmode = \"tcp\"\n{listener}\n"
    );
    for (number, (sni, endpoint)) in routes.iter().enumerate() {
        let sni = if sni.is_empty() { String::new() } else { format!("sni = [\"{sni}\"]\n") };
        text += &format!(
            "[[route]]\nid = \"r{number}\"\n{sni}upstream = \"u{number}\"\n\
             [[upstream]]\nname = \"u{number}\"\nendpoints = [\"tcp://{endpoint}\"]\n"
        );
    }
    text
}

fn start(listener: &str, routes: &[(&str, SocketAddr)]) -> Ringway {
    Ringway::start_text(&conf(listener, routes))
}

/// The first flight of a TLS client that asks for a name; for an address it asks for none.
fn hello(name: &str) -> Vec<u8> {
    hello_with(name, &[])
}

/// The same, with protocols that it offers.
fn hello_with(name: &str, alpn: &[Vec<u8>]) -> Vec<u8> {
    let mut config = Authority::new().client().config();
    config.alpn_protocols = alpn.to_vec();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = rustls::ClientConnection::new(config.into(), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a hello");
    bytes
}

/// The same hello in records of so many bytes.
fn in_records(hello: &[u8], bytes: usize) -> Vec<u8> {
    let (mut message, mut rest) = (Vec::new(), hello);
    while let [_, _, _, high, low, after @ ..] = rest {
        let (part, next) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        message.extend(part);
        rest = next;
    }
    let record = |part: &[u8]| [&hello[..3], &(part.len() as u16).to_be_bytes(), part].concat();
    message.chunks(bytes).flat_map(record).collect()
}

/// Sends, finishes, and returns all that comes back.
fn ask(proxy: &Ringway, bytes: &[u8]) -> String {
    let mut stream = connect(proxy);
    stream.write_all(bytes).expect("sent");
    stream.shutdown(Shutdown::Write).expect("half closed");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    match answer.strip_suffix(bytes) {
        Some(name) => String::from_utf8_lossy(name).into_owned(),
        None => format!("changed: {}", answer.escape_ascii()),
    }
}

#[test]
fn the_name_that_is_asked_for_decides() {
    let routes =
        [("db.test", echo("exact")), ("*.db.test", echo("wildcard")), ("", echo("default"))];
    let proxy = start("", &routes);
    for (name, to) in [
        ("db.test", "exact"),
        ("DB.Test", "exact"),
        ("a.db.test", "wildcard"),
        ("a.b.db.test", "wildcard"),
        ("other.test", "default"),
        ("192.0.2.1", "default"),
    ] {
        assert_eq!(ask(&proxy, &hello(name)), to, "{name}");
    }
    for bytes in
        [&b"SSH-2.0-x\r\n"[..], b"GET / HTTP/1.1\r\n\r\n", b"\0", b"\x16\x03\x01\0\x01\x05"]
    {
        assert_eq!(ask(&proxy, bytes), "default", "{}", bytes.escape_ascii());
    }
    let log = proxy.access_log(10);
    assert_eq!((&log[0]["route"], &log[0]["host"]), (&"r0".into(), &"db.test".into()));
    assert_eq!((&log[0]["version"], &log[0]["status"]), (&"TCP".into(), &200.into()));
    let sent = hello("db.test").len() as u64;
    assert_eq!((&log[0]["bytes_in"], &log[0]["bytes_out"]), (&sent.into(), &(sent + 5).into()));
    eventually("all counted", PATIENCE, || {
        (proxy.metric("ringway_tcp_connections_open", "") == 0.0).then_some(())
    });
    assert_eq!(proxy.metric("ringway_tcp_connections_total", "route=\"r0\""), 2.0);
    assert_eq!(proxy.metric("ringway_tcp_connections_total", "route=\"r2\""), 6.0);
    assert_eq!(proxy.metric("http_requests_total", ""), 0.0, "no requests");
}

#[test]
fn a_hello_may_come_in_any_pieces() {
    let routes = [("db.test", echo("exact")), ("", echo("default"))];
    let proxy = start("", &routes);
    let hello = hello("db.test");
    for record_bytes in [1, 3, 200] {
        assert_eq!(ask(&proxy, &in_records(&hello, record_bytes)), "exact", "{record_bytes}");
    }
    let large = hello_with("db.test", &vec![vec![b'x'; 255]; 235]);
    assert_eq!(ask(&proxy, &in_records(&large, 1000)), "exact", "{} bytes", large.len());
    let mut stream = connect(&proxy);
    for byte in &hello {
        stream.write_all(&[*byte]).expect("sent");
    }
    stream.shutdown(Shutdown::Write).expect("half closed");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    assert!(answer == [&b"exact"[..], &hello].concat());
}

#[test]
fn tls_goes_through_from_end_to_end() {
    if everywhere().is_some() {
        return; // the endpoint of this test says itself what it speaks
    }
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.issue("a", &["a.test"]);
    let tls = format!("tls = {{ certificates = [{{ {} }}] }}", pair.toml());
    let behind = Ringway::start(&Conf::to(origin.address).one_core().listener(&tls));
    let proxy = start("", &[("a.test", behind.address())]);
    let mut client = authority.client().connect(proxy.address());
    for _ in 0..3 {
        assert_eq!(client.fetch("/x").status(), 200);
    }
}

#[test]
fn without_a_route_the_connection_is_closed_and_counted() {
    let proxy = start("", &[("db.test", echo("exact"))]);
    let mut stream = connect(&proxy);
    stream.write_all(&hello("other.test")).expect("sent");
    assert_eq!(stream.read(&mut [0; 9]).expect("closed"), 0);
    let log = proxy.access_log(1);
    assert_eq!((&log[0]["reason"], &log[0]["host"]), (&"no_route".into(), &"other.test".into()));
    assert_eq!(proxy.metric("ringway_answers_total", "no_route"), 1.0);
}

#[test]
fn who_speaks_first_does_not_matter_where_no_name_does() {
    let proxy = start("", &[("", echo("default"))]);
    let mut stream = connect(&proxy);
    let mut greeting = [0; 7];
    stream.read_exact(&mut greeting).expect("the endpoint speaks first");
    assert_eq!(&greeting, b"default");
    assert_eq!(ask(&start("", &[("*", echo("any"))]), b""), "any");
}

#[test]
fn megabytes_pass_both_ways_and_each_way_ends_by_itself() {
    let body = pattern(5_000_001);
    let late = serve(move |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("the client finishes");
        stream.write_all(&all).expect("its half is still open");
    });
    for endpoint in [late, echo("")] {
        let proxy = start("", &[("", endpoint)]);
        let stream = connect(&proxy);
        let mut writer = stream.try_clone().expect("a clone");
        let sent = body.clone();
        let writing = std::thread::spawn(move || {
            writer.write_all(&sent).expect("sent");
            writer.shutdown(Shutdown::Write).expect("half closed");
        });
        let mut answer = Vec::new();
        (&stream).read_to_end(&mut answer).expect("an answer");
        writing.join().expect("sent");
        assert!(answer == body, "{} bytes came back", answer.len());
        eventually("bytes that did not pass user space", PATIENCE, || {
            (proxy.metric("ringway_spliced_bytes_total", "") > 5e6).then_some(())
        });
    }
}

#[test]
fn what_is_cut_does_not_look_whole() {
    let endpoint = serve(|mut stream| {
        stream.write_all(b"half of it").ok();
        stream.read_exact(&mut [0; 1]).ok();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok();
    });
    let proxy = start("", &[("", endpoint)]);
    let mut stream = connect(&proxy);
    stream.read_exact(&mut [0; 10]).expect("what came before");
    stream.write_all(b"x").expect("sent");
    let end = stream.read(&mut [0; 9]).expect_err("a reset");
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn each_silence_has_its_end() {
    let limits = "limits = { header_timeout = \"100ms\", idle_timeout = \"200ms\" }";
    let routes = [("db.test", echo("exact")), ("", echo("default"))];
    let proxy = start(limits, &routes);
    let hello = hello("db.test");
    let mut slow = connect(&proxy);
    slow.write_all(&hello[..hello.len() - 1]).expect("sent");
    assert_eq!(slow.read(&mut [0; 9]).expect("closed"), 0);
    assert_eq!(proxy.access_log(1)[0]["reason"], "header_timeout");
    let mut idle = connect(&proxy);
    idle.write_all(&hello).expect("sent");
    let begin = Instant::now();
    let mut all = Vec::new();
    idle.read_to_end(&mut all).expect("closed");
    assert!(begin.elapsed() >= Duration::from_millis(200), "{:?}", begin.elapsed());
    assert_eq!(all.len(), 5 + hello.len());
}

#[test]
fn endpoints_that_refuse_are_passed_over() {
    let (gone, here) = (nobody(), echo("here"));
    let text = conf("", &[("", here)]);
    let both = format!("[\"tcp://{gone}\", \"http://{here}\"]");
    let proxy = Ringway::start_text(&text.replace(&format!("[\"tcp://{here}\"]"), &both));
    for _ in 0..4 {
        assert_eq!(ask(&proxy, b"x"), "here");
    }
    let proxy = start("", &[("", gone)]);
    let mut stream = connect(&proxy);
    assert_eq!(stream.read(&mut [0; 9]).expect("closed"), 0);
    assert_eq!(proxy.access_log(1)[0]["reason"], "upstream_connect_refused");
}

#[test]
fn one_too_many_is_closed_without_a_word() {
    let limits = "limits = { connections_max_per_core = 1 }";
    let proxy = start(limits, &[("", echo("x"))]);
    let mut first = connect(&proxy);
    first.read_exact(&mut [0; 1]).expect("served");
    let mut second = connect(&proxy);
    assert!(matches!(second.read(&mut [0; 9]), Ok(0) | Err(_)), "no HTTP in it");
}

#[test]
fn the_client_is_who_the_balancer_says() {
    let listener = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]";
    let proxy = start(listener, &[("db.test", echo("exact"))]);
    let mut stream = connect(&proxy);
    stream.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.2 50123 443\r\n").expect("sent");
    stream.write_all(&hello("db.test")).expect("sent");
    stream.read_exact(&mut [0; 5]).expect("served");
    drop(stream);
    assert_eq!(proxy.access_log(1)[0]["client"], "192.0.2.7:50123");
}

#[test]
fn what_goes_ends_in_time_and_the_rest_stays() {
    let (gone, stays) = (echo("gone"), echo("stays"));
    let proxy = start("", &[("gone.test", gone), ("", stays)]);
    let mut of_gone = connect(&proxy);
    of_gone.write_all(&hello("gone.test")).expect("sent");
    of_gone.read_exact(&mut [0; 4]).expect("served");
    let mut of_other = connect(&proxy);
    of_other.write_all(b"hello").expect("sent");
    of_other.read_exact(&mut [0; 10]).expect("served");
    let text = conf("", &[("new.test", gone), ("", stays)]).replace("id = \"r0\"", "id = \"new\"");
    proxy.reload(&text).wait_until_applied_on_all_cores();
    of_gone.read_to_end(&mut Vec::new()).expect("its time is over");
    of_other.write_all(b"again").expect("sent");
    of_other.read_exact(&mut [0; 5]).expect("still served");
    let begin = Instant::now();
    assert!(proxy.stop().status.success());
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(matches!(of_other.read(&mut [0; 9]), Ok(0) | Err(_)));
}

#[test]
fn connections_to_endpoints_are_limited() {
    let text = conf("", &[("", echo("one"))]);
    let rules =
        "[upstream.overload]\nconnections_max = 1\npending_max = 1\npending_timeout = \"5s\"";
    let proxy = Ringway::start_text(&format!("{text}{rules}\n"));
    let read = |stream: &mut TcpStream| {
        let mut said = [0; 3];
        stream.read_exact(&mut said).map(|()| said)
    };
    let mut first = connect(&proxy);
    assert_eq!(&read(&mut first).expect("the endpoint's name"), b"one");
    let mut second = connect(&proxy);
    eventually("one that waits", PATIENCE, || {
        (proxy.metric("ringway_upstream_requests_pending", "u0") == 1.0).then_some(())
    });
    assert!(read(&mut connect(&proxy)).is_err(), "a third one has no place to wait");
    assert_eq!(proxy.metric("ringway_shed_total", "why=\"connections\""), 1.0);
    drop(first);
    assert_eq!(&read(&mut second).expect("the endpoint's name"), b"one");
}
