//! Endpoints that are told of the client by the PROXY protocol, before anything else.

use std::{
    io::Read,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
};

use crate::support::{
    Client, Conf, Origin, PATIENCE, Ringway, eventually,
    frames::{Http2, block_on},
    ringway::free_address,
    skipped,
    tls::{Authority, everywhere},
    wire::Wire,
};

/// An endpoint that tells what each connection begins with and answers requests.
struct Endpoint {
    address: SocketAddr,
    headers: Receiver<Vec<u8>>,
}

impl Endpoint {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let (tell, headers) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let tell = tell.clone();
                std::thread::spawn(move || serve(stream, &tell));
            }
        });
        Self { address, headers }
    }

    fn next(&self) -> Vec<u8> {
        self.headers.recv_timeout(PATIENCE).expect("a connection")
    }

    fn next_line(&self) -> String {
        String::from_utf8(self.next()).expect("text")
    }
}

fn serve(mut stream: TcpStream, tell: &Sender<Vec<u8>>) -> Option<()> {
    tell.send(read_header(&mut stream)?).ok()?;
    let mut wire = Wire::new(stream);
    loop {
        wire.read_head().ok()?;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
}

fn read_header(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut header = vec![0; 6];
    stream.read_exact(&mut header).ok()?;
    if header.starts_with(b"PROXY ") {
        while !header.ends_with(b"\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            header.push(byte[0]);
        }
    } else {
        header.resize(16, 0);
        stream.read_exact(&mut header[6..]).ok()?;
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        header.resize(16 + length, 0);
        stream.read_exact(&mut header[16..]).ok()?;
    }
    Some(header)
}

fn local(client: &Client) -> SocketAddr {
    client.stream.local_addr().expect("its address")
}

/// When all listeners speak TLS, the client's own address is another one.
fn is_tls() -> bool {
    if everywhere().is_some() {
        skipped("proxy_protocol_out", "clients of these tests speak for themselves");
    }
    everywhere().is_some()
}

#[test]
fn each_client_has_connections_of_its_own() {
    if is_tls() {
        return;
    }
    let endpoint = Endpoint::start();
    let conf = Conf::to(endpoint.address).one_core().upstream("proxy_protocol = \"v1\"");
    let proxy = Ringway::start(&conf);
    for _ in 0..2 {
        let mut client = proxy.connect();
        for _ in 0..3 {
            assert_eq!(client.fetch("/").status(), 200);
        }
        let (from, to) = (local(&client), proxy.address());
        let expected =
            format!("PROXY TCP4 {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
        assert_eq!(endpoint.next_line(), expected, "once: its connection is used again");
    }
    assert!(endpoint.headers.try_recv().is_err());
}

#[test]
fn version_2_and_what_a_balancer_in_front_said() {
    if is_tls() {
        return;
    }
    let endpoint = Endpoint::start();
    let conf = Conf::to(endpoint.address).one_core().upstream("proxy_protocol = \"v2\"");
    let conf = conf.listener("proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]");
    let proxy = Ringway::start(&conf);
    let mut client = proxy.connect();
    client.send("PROXY TCP6 2001:db8::7 2001:db8::2 50123 443\r\n");
    assert_eq!(client.fetch("/").status(), 200);
    let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    expected.extend_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    expected.extend_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    expected.extend_from_slice(&[0xc3, 0xcb, 1, 0xbb]);
    assert_eq!(endpoint.next(), expected);
}

#[test]
fn streams_are_on_behalf_of_their_connections_client() {
    if is_tls() {
        return;
    }
    let endpoint = Endpoint::start();
    let conf = Conf::to(endpoint.address).one_core().upstream("proxy_protocol = \"v1\"");
    let proxy = Ringway::start(&conf.listener("http = [\"h1\", \"h2\"]"));
    block_on(async {
        let client = Http2::connect(proxy.address()).await;
        for _ in 0..2 {
            let request = http::Request::get("http://a.test/").body(()).expect("a request");
            assert_eq!(client.request(request, None, None).await.expect("an answer").status, 200);
        }
    });
    let line = endpoint.next_line();
    assert!(line.ends_with(&format!(" {}\r\n", proxy.address().port())), "{line}");
    assert!(endpoint.headers.try_recv().is_err(), "the second went over the same connection");
}

#[test]
fn connections_that_pass_through_begin_with_it_too() {
    let endpoint = Endpoint::start();
    let conf = format!(
        "[runtime]\ncores = \"0\"\npin = false\n[[listener]]\nname = \"pass\"\naddress = '{{listen}}'\n\
         mode = \"tcp\"\n[[route]]\nupstream = \"u\"\n[[upstream]]\nname = \"u\"\n\
         endpoints = [\"tcp://{}\"]\nproxy_protocol = \"v1\"\n",
        endpoint.address
    );
    let proxy = Ringway::start_text(&conf);
    let mut client = Client::over(TcpStream::connect(proxy.address()).expect("a connection"));
    assert_eq!(client.fetch("/").status(), 200);
    let from = local(&client);
    assert!(endpoint.next_line().contains(&format!(" {} ", from.port())));
}

#[test]
fn checks_speak_for_themselves() {
    for (version, expected) in
        [("v1", &b"PROXY UNKNOWN\r\n"[..]), ("v2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")]
    {
        let endpoint = Endpoint::start();
        let conf = Conf::to(endpoint.address).one_core();
        let conf = conf.upstream(&format!("proxy_protocol = \"{version}\""));
        let conf = conf.upstream("health_check = { interval = \"100ms\", timeout = \"100ms\" }");
        let _proxy = Ringway::start(&conf);
        assert_eq!(endpoint.next(), expected);
    }
}

/// A program that ends with the test.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// HAProxy as the endpoint: it takes connections with a header only, and says whom that named.
#[test]
fn haproxy_believes_it() {
    if is_tls() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let (address, file) = (free_address(), directory.path().join("haproxy.cfg"));
    let text = format!(
        "defaults\n mode http\n timeout client 9s\n timeout server 9s\n timeout connect 9s\n\
         frontend f\n bind {address} accept-proxy\n \
         http-request return status 200 content-type text/plain lf-string \"%[src]:%[src_port]\"\n"
    );
    std::fs::write(&file, text).expect("written");
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&file);
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = quiet.spawn();
    let Ok(child) = started else {
        return skipped("haproxy_believes_it", "there is no haproxy: apt-get install haproxy");
    };
    let _peer = Peer(child);
    eventually("haproxy to listen", PATIENCE, || TcpStream::connect(address).ok());
    for version in ["v1", "v2"] {
        let conf = Conf::to(address).one_core();
        let proxy = Ringway::start(&conf.upstream(&format!("proxy_protocol = \"{version}\"")));
        let mut client = proxy.connect();
        let answer = client.fetch("/");
        assert_eq!(answer.text(), local(&client).to_string(), "{version}");
        drop(client);
    }
}

/// A client that does not reach its endpoint is told, and nobody's connection is given to another.
#[test]
fn many_clients_at_once_are_never_mixed_up() {
    if is_tls() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let line = String::from_utf8(read_header(&mut stream)?).ok()?;
                let port = line.split(' ').nth(4)?;
                let mut wire = Wire::new(stream);
                while wire.read_head().is_ok() {
                    let length = port.len();
                    wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{port}"));
                }
                Some(())
            });
        }
    });
    let conf = Conf::to(address).one_core().upstream("proxy_protocol = \"v1\"");
    let proxy = Ringway::start(&conf.pool("idle_max_per_core = 2"));
    let mut clients: Vec<Client> = (0..5).map(|_| proxy.connect()).collect();
    for _ in 0..5 {
        for client in &mut clients {
            let port = local(client).port().to_string();
            assert_eq!(client.fetch("/").text(), port);
        }
    }
}

#[test]
fn it_goes_before_the_handshake() {
    if is_tls() {
        return;
    }
    let (origin, authority) = (Origin::echo(), Authority::new());
    let pair = authority.issue("a", &["a.test"]);
    let tls = format!("tls = {{ certificates = [{{ {} }}] }}", pair.toml());
    let behind = Conf::to(origin.address).one_core().listener("proxy_protocol = true");
    let behind = behind.listener("trusted_proxies = [\"127.0.0.1\"]").listener(&tls);
    let behind = Ringway::start(&behind);
    let conf = Conf::to(behind.address()).one_core().upstream("proxy_protocol = \"v2\"");
    let ca = authority.path().display().to_string();
    let conf = conf.upstream(&format!("tls = {{ ca = \"{ca}\", sni = \"a.test\" }}"));
    let proxy = Ringway::start_text(&conf.text().replace("http://", "https://"));
    let mut client = proxy.connect();
    assert_eq!(client.fetch("/").status(), 200);
    assert_eq!(behind.access_log(1)[0]["client"], local(&client).to_string());
}
