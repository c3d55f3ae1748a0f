//! What browsers are told of other origins.

use crate::support::{Client, Conf, Message, Origin, Ringway, Step};

fn start(origin: &Origin, cors: &str) -> Ringway {
    let conf = Conf::to(origin.address).one_core().route("methods = [\"POST\"]");
    Ringway::start(&conf.route("path = \"/x\"").route(&format!("cors = {{ {cors} }}")))
}

fn endpoint() -> Origin {
    Origin::auto(|_| {
        let head = "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nVary: Accept\r\n";
        vec![Step::Send(format!("{head}Content-Length: 0\r\n\r\n").into_bytes())]
    })
}

fn ask(client: &mut Client, method: &str, path: &str, fields: &str) -> Message {
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
    client.response_to(method)
}

fn preflight(client: &mut Client, origin: &str) -> Message {
    let fields = format!(
        "Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n\
         Access-Control-Request-Headers: x-grpc-web,authorization\r\n"
    );
    ask(client, "OPTIONS", "/x", &fields)
}

#[test]
fn preflights_are_answered_for_the_route_they_ask_for() {
    let origin = endpoint();
    let proxy =
        start(&origin, "origins = [\"https://app.test\"], credentials = true, max_age = \"10m\"");
    let mut client = proxy.connect();
    let answer = preflight(&mut client, "https://app.test");
    assert_eq!(answer.status(), 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.test"),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", "x-grpc-web,authorization"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "600"),
        ("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
        ("x-ringway-reason", "cors_preflight"),
    ] {
        assert_eq!(answer.head.get(name), Some(value), "{name}");
    }
    let answer = preflight(&mut client, "https://evil.test");
    assert_eq!((answer.status(), answer.reason()), (403, Some("cors_refused")));
    assert_eq!(answer.head.get("access-control-allow-origin"), None);
    let elsewhere = "Origin: https://app.test\r\nAccess-Control-Request-Method: GET\r\n";
    assert_eq!(ask(&mut client, "OPTIONS", "/x", elsewhere).status(), 405, "no route takes GET");
    assert_eq!(ask(&mut client, "OPTIONS", "/x", "").status(), 405, "no preflight");
    assert!(origin.seen().is_empty(), "none of it concerns the endpoint");
    let log = proxy.access_log(4);
    assert_eq!((&log[0]["route"], &log[0]["reason"]), (&"all".into(), &"cors_preflight".into()));
}

#[test]
fn responses_say_what_the_route_says() {
    let origin = endpoint();
    let proxy = start(&origin, "origins = [\"https://*.app.test\"], expose_headers = [\"x-a\"]");
    let mut client = proxy.connect();
    let body = "Content-Length: 0\r\n";
    let answer = ask(&mut client, "POST", "/x", &format!("Origin: https://a.app.test\r\n{body}"));
    assert_eq!(answer.head.all("access-control-allow-origin"), ["https://a.app.test"]);
    assert_eq!(answer.head.get("access-control-expose-headers"), Some("x-a"));
    assert_eq!(answer.head.all("vary"), ["Accept", "Origin"]);
    for origin in ["", "Origin: https://evil.test\r\n"] {
        let answer = ask(&mut client, "POST", "/x", &format!("{origin}{body}"));
        assert_eq!(answer.head.get("access-control-allow-origin"), None, "not the endpoint's");
        assert_eq!(answer.head.all("vary"), ["Accept", "Origin"]);
    }
}

#[test]
fn failures_can_be_read_too() {
    let address = crate::support::ringway::free_address();
    let conf = Conf::to(address).one_core().route("cors = { origins = [\"*\"] }");
    let proxy = Ringway::start(&conf);
    let answer = ask(&mut proxy.connect(), "GET", "/x", "Origin: https://a.test\r\n");
    answer.assert_own(502, "upstream_connect_refused");
    assert_eq!(answer.head.get("access-control-allow-origin"), Some("*"));
}
