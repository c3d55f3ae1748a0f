//! TLS to endpoints: certificates both ways, what is cut off, what comes unasked.
//! Sources: RFC 8446, RFC 9112 §9.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
};

use rustls::ServerConnection;

use crate::support::{
    Conf, End, Origin, Ringway, pattern,
    tls::{Authority, server},
};
use crate::tls::{conf, with};

/// A ringway that speaks TLS as the endpoint of another one.
#[test]
fn endpoints_that_speak_tls() {
    let (origin, authority, others) = (Origin::echo(), Authority::new(), Authority::new());
    let pair = authority.issue("b", &["b.test"]);
    let ours = authority.issue("gateway", &["gateway"]);
    let tls = format!("client_ca = {:?}, {}", authority.path(), with(&[&pair]));
    let behind = Ringway::start(&conf(&origin, &tls));
    let front = |tls: &str| {
        let text = Conf::to(behind.address()).one_core().text().replace("http://", "https://");
        Ringway::start_text(&format!("{text}\n[upstream.tls]\n{tls}\n"))
    };
    let ca = |authority: &Authority| format!("ca = {:?}\n", authority.path());
    let good = format!("sni = \"b.test\"\n{}{}\n", ca(&authority), ours.toml().replace(", ", "\n"));
    let proxy = front(&good);
    let mut client = proxy.connect();
    for number in 0..20 {
        assert_eq!(client.fetch(&format!("/{number}")).text(), format!("GET /{number}"));
    }
    let body = pattern(300_000);
    client.post("/upload", &body);
    assert_eq!(client.response().text(), "POST /upload");
    assert!(origin.wait_seen(21)[20].body == body);
    assert_eq!(behind.metric("ringway_connections_accepted_total", ""), 1.0, "one is reused");
    // New rules with the same TLS: the session is resumed.
    let wrong_name = good.replace("b.test", "c.test");
    let wrong_ca = good.replace(&ca(&authority), &ca(&others));
    let no_certificate = format!("sni = \"b.test\"\n{}", ca(&authority));
    for (what, tls) in [("name", &wrong_name), ("ca", &wrong_ca), ("certificate", &no_certificate)]
    {
        let proxy = front(tls);
        let answer = proxy.connect().fetch("/");
        assert_eq!(answer.status(), 502, "{what}");
        if what != "certificate" {
            assert_eq!(answer.reason(), Some("upstream_tls_failed"), "{what}");
            proxy.wait_for_line("upstream `origin`: no TLS with");
        }
    }
    let careless = front(&format!("verify = false\n{}\n", ours.toml().replace(", ", "\n")));
    assert_eq!(careless.connect().fetch("/careless").text(), "GET /careless");
    careless.wait_for_line("are not checked");
}

/// Serves one connection after the other, with their numbers.
fn endpoint(serve: impl Fn(usize, TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            serve(number, stream.expect("accepted"));
        }
    });
    address
}

/// A session of an endpoint, and what a proxy needs that is to believe it.
fn sessions(authority: &Authority) -> (impl Fn() -> ServerConnection + use<>, String) {
    let config = server(&authority.issue("b", &["127.0.0.1"]));
    let session = move || ServerConnection::new(Arc::clone(&config)).expect("a session");
    (session, format!("[upstream.tls]\nca = {:?}\n", authority.path()))
}

fn over_tls(address: SocketAddr, tls: &str) -> Ringway {
    let text = Conf::to(address).one_core().text().replace("http://", "https://");
    Ringway::start_text(&format!("{text}\n{tls}"))
}

/// An endpoint that is cut off inside TLS has not ended its response.
#[test]
fn what_an_endpoint_cuts_off_is_incomplete() {
    let authority = Authority::new();
    let (session, tls) = sessions(&authority);
    let address = endpoint(move |number, mut stream| {
        let mut session = session();
        let mut both = rustls::Stream::new(&mut session, &mut stream);
        let _ = both.read(&mut [0; 1024]);
        let _ = both.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf");
        if number == 0 {
            session.send_close_notify();
            let _ = session.complete_io(&mut stream);
        }
    });
    let proxy = over_tls(address, &tls);
    let whole = proxy.connect().fetch("/whole");
    assert_eq!((whole.text().as_str(), whole.end), ("half", End::Complete));
    let cut = proxy.connect().fetch("/cut");
    assert!(matches!(cut.end, End::Truncated(_)), "{:?}", cut.end);
}

/// When an endpoint that answers says more than it was asked for, and that it has.
struct Unasked {
    was_answered: Sender<()>,
    sent: Receiver<()>,
}

impl Unasked {
    /// That, and what serves a connection.
    fn new() -> (Self, impl Fn(usize, &mut dyn ReadWrite) + Send + use<>) {
        let (was_answered, answered) = mpsc::channel();
        let (has_sent, sent) = mpsc::channel();
        let serve = move |number: usize, both: &mut dyn ReadWrite| {
            let _ = both.read(&mut [0; 1024]);
            let response = |what: &str| {
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{what}", what.len())
            };
            both.write_all(response(&format!("connection {number}")).as_bytes()).expect("sent");
            if number == 0 {
                answered.recv().expect("the client has it");
                both.write_all(response("nobody asked").as_bytes()).expect("sent");
                has_sent.send(()).expect("the test waits");
            }
            let _ = both.read_to_end(&mut Vec::new());
        };
        (Self { was_answered, sent }, serve)
    }

    /// It is nobody's response, and its connection is not used again.
    fn check(self, proxy: &Ringway) {
        let mut client = proxy.connect();
        assert_eq!(client.fetch("/first").text(), "connection 0");
        self.was_answered.send(()).expect("the endpoint waits");
        self.sent.recv().expect("sent"); // on loopback it has arrived, then
        assert_eq!(client.fetch("/second").text(), "connection 1");
    }
}

trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

#[test]
fn what_an_endpoint_sends_unasked_ends_its_connection() {
    let (unasked, serve) = Unasked::new();
    let address = endpoint(move |number, mut stream| {
        stream.set_nodelay(true).expect("set"); // or it would come behind the next request
        serve(number, &mut stream);
    });
    unasked.check(&Ringway::start(&Conf::to(address).one_core()));
}

#[test]
fn what_an_endpoint_sends_unasked_over_tls_ends_its_connection() {
    let authority = Authority::new();
    let (session, tls) = sessions(&authority);
    let (unasked, serve) = Unasked::new();
    let address = endpoint(move |number, mut stream| {
        stream.set_nodelay(true).expect("set");
        serve(number, &mut rustls::Stream::new(&mut session(), &mut stream));
    });
    unasked.check(&over_tls(address, &tls));
}
