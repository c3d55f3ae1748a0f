//! The API over a real socket, spoken to in plain HTTP.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use super::*;
use crate::{base::limits, controlplane::fixtures};

/// Serves on a port of the kernel's choice until the test ends.
fn start(token: Option<&str>) -> (SocketAddr, Arc<State>) {
    start_within(token, limits::ADMIN_CONNECTIONS_MAX, limits::ADMIN_IDLE_MAX)
}

fn start_within(
    token: Option<&str>,
    connections_max: usize,
    silence_max: Duration,
) -> (SocketAddr, Arc<State>) {
    let state = Arc::new(fixtures::state(2));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("non-blocking");
    let address = listener.local_addr().expect("an address");
    let settings = AdminSettings { address, token: token.map(Into::into), state_dir: None };
    let router = router(Arc::clone(&state), &settings, || {});
    thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            serve::serve_within(listener, router, connections_max, silence_max).await;
        });
    });
    (address, state)
}

fn call(address: SocketAddr, method: &str, path: &str, more: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connected");
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let status = text.get(9..12).and_then(|digits| digits.parse().ok()).expect("a status");
    (status, text)
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    call(address, "GET", path, "")
}

#[test]
fn probes_follow_the_life_of_the_process() {
    let (address, state) = start(None);
    assert_eq!(get(address, "/healthz").0, 200);
    assert_eq!(get(address, "/readyz").0, 503);
    state.set_phase(Phase::Ready);
    assert_eq!(get(address, "/readyz").0, 200);
    state.set_phase(Phase::Draining);
    assert_eq!(get(address, "/readyz").0, 503);
    state.set_phase(Phase::Ready);
    assert_eq!(get(address, "/readyz").0, 503, "never back");
    assert_eq!(get(address, "/healthz").0, 200);
}

#[test]
fn metrics_and_status_are_served() {
    let (address, _state) = start(None);
    let (status, text) = get(address, "/metrics");
    assert_eq!(status, 200);
    assert!(text.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(text.contains("# TYPE http_requests_total counter\n"));
    let (status, text) = get(address, "/v1/status");
    assert_eq!(status, 200);
    let (_, body) = text.split_once("\r\n\r\n").expect("a body");
    let page: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(page["cores"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_token_guards_everything_but_the_probes() {
    let (address, _state) = start(Some("s3cret"));
    assert_eq!(get(address, "/healthz").0, 200);
    assert_eq!(get(address, "/readyz").0, 503);
    for path in ["/metrics", "/v1/status"] {
        let (status, text) = get(address, path);
        assert_eq!(status, 401, "{path}");
        assert!(text.contains("www-authenticate: Bearer"));
        let right = "authorization: Bearer s3cret\r\n";
        assert_eq!(call(address, "GET", path, right).0, 200, "{path}");
        let wrong = "authorization: Bearer s3cre\r\n";
        assert_eq!(call(address, "GET", path, wrong).0, 401, "{path}");
    }
}

#[test]
fn an_unknown_path_or_method_is_told_what_there_is() {
    let (address, _state) = start(None);
    let (status, text) = get(address, "/v1/rutes");
    assert_eq!(status, 404);
    assert!(text.contains("application/json") && text.contains("/v1/status"));
    assert_eq!(call(address, "DELETE", "/metrics", "").0, 405);
    assert_eq!(call(address, "HEAD", "/healthz", "").0, 200);
}

/// The places are bounded, and whoever is silent loses its place: the next caller waits for that.
#[test]
fn silent_callers_do_not_keep_others_out() {
    let (address, _state) = start_within(None, 3, Duration::from_millis(50));
    let mut silent: Vec<_> =
        (0..3).map(|_| TcpStream::connect(address).expect("connected")).collect();
    assert_eq!(get(address, "/healthz").0, 200);
    assert_eq!(silent[0].read(&mut [0]).ok(), Some(0), "closed for its silence");
}
