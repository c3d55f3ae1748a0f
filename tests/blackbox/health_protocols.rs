//! Active health checks in gRPC, over HTTP/2 and over TLS.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::SeqCst},
    },
};

use http::{HeaderMap, Response};
use serde_json::Value;

use crate::support::{
    Conf, Origin, PATIENCE, Ringway, Step, eventually, frames::endpoint, origin::reply,
    tls::Authority,
};

const EVERY: &str = "[upstream.health_check]\ninterval = \"100ms\"\nfails = 1\n";

fn wait_for(ringway: &Ringway, check_error: Value) {
    eventually(&format!("a check to say {check_error}"), PATIENCE, || {
        let status = ringway.status();
        let shown = &status["health"]["endpoints"][0];
        let is_up = check_error.is_null();
        (shown["check_up"] == is_up && shown["check_error"] == check_error).then_some(())
    });
}

/// A gRPC server that knows one service, whose status is this number; on a thread of its own.
fn grpc_server(status: &Arc<AtomicU8>) -> SocketAddr {
    let status = Arc::clone(status);
    endpoint(move |stream| answer(stream, Arc::clone(&status)))
}

async fn answer(stream: tokio::net::TcpStream, status: Arc<AtomicU8>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let status = Arc::clone(&status);
        tokio::spawn(async move {
            let (head, mut body) = request.into_parts();
            let asked = body.data().await.expect("a message").expect("read");
            let is_known = asked[..] == *b"\0\0\0\0\x0b\x0a\x09shop.Cart";
            assert_eq!(head.uri.path(), "/grpc.health.v1.Health/Check");
            assert_eq!(head.headers["te"], "trailers");
            let head = Response::builder().header("content-type", "application/grpc");
            if !is_known {
                let head = head.header("grpc-status", "5").body(()).expect("a head");
                let _ = respond.send_response(head, true);
                return;
            }
            let Ok(mut send) = respond.send_response(head.body(()).expect("a head"), false) else {
                return;
            };
            let message = vec![0, 0, 0, 0, 2, 8, status.load(SeqCst)];
            let _ = send.send_data(message.into(), false);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().expect("a value"));
            let _ = send.send_trailers(trailers);
        });
    }
}

#[test]
fn a_grpc_server_says_how_its_service_is() {
    let status = Arc::new(AtomicU8::new(1));
    let endpoint = grpc_server(&status);
    let conf = |service: &str| {
        let check = format!("{EVERY}type = \"grpc\"\nservice = \"{service}\"");
        Conf::to(endpoint).one_core().upstream("http = \"h2\"").more(&check)
    };
    let ringway = Ringway::start(&conf("shop.Cart"));
    wait_for(&ringway, Value::Null);
    status.store(2, SeqCst);
    wait_for(&ringway, "NOT_SERVING".into());
    status.store(1, SeqCst);
    wait_for(&ringway, Value::Null);
    ringway.reload(&conf("shop.Dog").text()).wait_until_applied_on_all_cores();
    wait_for(&ringway, "grpc-status 5".into());
}

/// What the endpoints speak is what is asked, with the certificates that requests need too.
#[test]
fn endpoints_that_speak_tls_are_asked_over_tls() {
    let origin = Origin::auto(|_| vec![Step::Send(reply(200, "all well"))]);
    let authority = Authority::new();
    let pair = authority.issue("a", &["a.test"]);
    let tls =
        format!("http = [\"h1\", \"h2\"]\ntls = {{ certificates = [{{ {} }}] }}", pair.toml());
    let behind = Ringway::start(&Conf::to(origin.address).one_core().listener(&tls));
    let front = |http: &str, more: &str| {
        let check = format!("{EVERY}path = \"/health\"\nbody = \"all well\"\n{more}");
        let conf = Conf::to(behind.address()).one_core().upstream(http).more(&check);
        let text = conf.text().replace("http://", "https://");
        let ca = authority.path();
        format!("{text}\n[upstream.tls]\nca = {ca:?}\nsni = \"a.test\"\n")
    };
    let ringway = Ringway::start_text(&front("", ""));
    wait_for(&ringway, Value::Null);
    assert_eq!(origin.wait_seen(1)[0].head.get("via"), Some("1.1 ringway"));
    let before = behind.metric("ringway_http2_connections_total", "");
    ringway.reload(&front("http = \"h2\"", "")).wait_until_applied_on_all_cores();
    eventually("checks over HTTP/2", PATIENCE, || {
        (behind.metric("ringway_http2_connections_total", "") > before).then_some(())
    });
    wait_for(&ringway, Value::Null);
    ringway.reload(&front("", "tls = false")).wait_until_applied_on_all_cores();
    wait_for(&ringway, "status 400".into()); // plain HTTP where TLS is spoken
    let other = front("", "").replace("a.test", "b.test");
    ringway.reload(&other).wait_until_applied_on_all_cores();
    let said = eventually("a check to meet the wrong name", PATIENCE, || {
        let said = ringway.status()["health"]["endpoints"][0]["check_error"].clone();
        said.as_str().filter(|said| said.starts_with("TLS: ")).map(str::to_owned)
    });
    assert!(said.contains("invalid peer certificate"), "{said}");
}
