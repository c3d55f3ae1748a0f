//! gRPC: how calls fail in their own terms, and their deadlines. What passes is HTTP/2 with trailers
//! (`http2_upstream`); real peers of gRPC are in `scripts/peers`.

use std::time::Instant;

use http::Request;

use crate::support::{
    Conf, Origin, Ringway,
    frames::{Answer, Http2, block_on},
    ringway::free_address,
};

fn call(timeout: Option<&str>) -> Request<()> {
    let mut request =
        Request::post("http://a.test/test.Echo/Say").header("content-type", "application/grpc");
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    request.header("te", "trailers").body(()).unwrap()
}

fn make(proxy: &Ringway, timeout: Option<&str>) -> Answer {
    block_on(async {
        let client = Http2::connect(proxy.address()).await;
        client.request(call(timeout), Some("\0\0\0\0\0".into()), None).await.unwrap()
    })
}

#[track_caller]
fn assert_failed(answer: &Answer, status: &str, reason: &str) {
    assert_eq!(answer.status, 200);
    assert_eq!(answer.fields["content-type"], "application/grpc");
    assert_eq!(answer.fields["grpc-status"], status);
    assert_eq!(answer.fields["grpc-message"], format!("ringway: {reason}"));
    assert!(answer.body.is_empty() && answer.trailers.is_empty());
}

#[test]
fn a_call_fails_with_a_status_of_its_own() {
    let conf = Conf::to(free_address()).one_core().listener("http = [\"h1\", \"h2\"]");
    let proxy = Ringway::start(&conf.route("path_prefix = \"/test.Echo\""));
    assert_failed(&make(&proxy, None), "14", "upstream_connect_refused");
    let elsewhere = block_on(async {
        let client = Http2::connect(proxy.address()).await;
        let mut request = call(None);
        *request.uri_mut() = "http://a.test/other.Service/Say".parse().unwrap();
        client.request(request, None, None).await.unwrap()
    });
    assert_failed(&elsewhere, "12", "no_route");
}

#[test]
fn a_deadline_is_kept_and_passed_on() {
    let origin = Origin::start();
    let conf = Conf::to(origin.address).one_core().listener("http = [\"h1\", \"h2\"]");
    let proxy = Ringway::start(&conf);
    let begin = Instant::now();
    let answer = make(&proxy, Some("300m"));
    assert_failed(&answer, "4", "route_timeout");
    assert!(begin.elapsed().as_millis() >= 300);
    assert_eq!(origin.next_head().head.get("grpc-timeout"), Some("300m"));
}
