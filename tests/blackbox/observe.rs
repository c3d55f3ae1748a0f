//! What an operator sees: reason codes, the access log, metrics, probes, the report at start.

use std::{io::Write, process::Stdio, time::Duration};

use crate::support::{
    Conf, Origin, Ringway, Step, eventually, process::find_program, ringway::driver,
};

#[test]
fn each_request_is_logged_once_with_what_matters() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address).one_core().route("path_prefix = \"/in\""));
    let mut client = proxy.connect();
    client.send("GET /in?q=1 HTTP/1.1\r\nHost: A.test\r\nUser-Agent: test/1 \"quoted\"\r\nReferer: r\r\n\r\n");
    client.response();
    client.post("/in/body", b"hello");
    client.response();
    client.get("/out");
    client.response();
    client.send("GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
    client.response();
    let log = proxy.access_log(4);
    let first = &log[0];
    for (key, value) in [
        ("listener", "edge"),
        ("route", "all"),
        ("upstream", "origin"),
        ("method", "GET"),
        ("host", "A.test"),
        ("target", "/in?q=1"),
        ("user_agent", "test/1 \"quoted\""),
        ("referer", "r"),
    ] {
        assert_eq!(first[key], value, "{key} in {first}");
    }
    assert_eq!(first["endpoint"], origin.address.to_string());
    assert_eq!(first["status"], 200);
    assert!(first["reason"].is_null(), "{first}");
    assert!(first["client"].as_str().is_some_and(|c| c.starts_with("127.0.0.1:")), "{first}");
    assert!(first["duration_us"].as_u64().is_some_and(|us| us > 0 && us < 10_000_000), "{first}");
    assert!(first["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{first}");
    assert!(first["bytes_out"].as_u64().is_some_and(|n| n > 0), "{first}");
    assert_eq!(log[1]["method"], "POST");
    assert!(log[1]["bytes_in"].as_u64().is_some_and(|n| n >= 5), "{}", log[1]);
    assert_eq!((log[2]["status"].as_u64(), &log[2]["reason"]), (Some(404), &"no_route".into()));
    assert!(log[2]["route"].is_null() && log[2]["upstream"].is_null(), "{}", log[2]);
    assert_eq!((log[3]["status"].as_u64(), &log[3]["reason"]), (Some(400), &"bad_host".into()));
}

/// No byte a client sends can end a log line or a string in it.
#[test]
fn log_lines_cannot_be_forged() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address).one_core());
    let mut client = proxy.connect();
    client.send(
        b"GET /x HTTP/1.1\r\nHost: a.test\r\nUser-Agent: \"}\xff\xfe\x80{\"status\":1}\t\\\r\n\r\n"
            .as_slice(),
    );
    client.response();
    let mut client = proxy.connect();
    client.send(b"\x01\xffGET \"\\\n".as_slice());
    client.response();
    let log = proxy.access_log(2); // each line is parsed as JSON
    assert_eq!(log.len(), 2);
    assert_eq!(log[0]["status"], 200);
}

#[test]
fn the_log_can_be_a_file_sampled_and_in_other_formats() {
    let origin = Origin::echo();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let log = format!(
        "[log]\naccess = {{ to = \"{}\", format = \"combined\", sample = \"0%\", keep = [\"errors\"] }}",
        file.path().display()
    );
    let conf = Conf::to(origin.address).one_core().route("path = \"/ok\"").more(&log);
    let proxy = Ringway::start(&conf);
    let mut client = proxy.connect();
    for _ in 0..20 {
        assert_eq!(client.fetch("/ok").status(), 200);
    }
    assert_eq!(client.fetch("/missing").status(), 404);
    let stopped = proxy.stop();
    assert!(stopped.access_log.is_empty(), "nothing on standard output");
    let text = std::fs::read_to_string(file.path()).expect("the log");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1, "errors are kept, the rest is sampled away: {text}");
    assert!(
        lines[0].starts_with("127.0.0.1 - - [")
            && lines[0].contains("\"GET /missing HTTP/1.1\" 404 ")
    );
}

#[test]
fn metrics_count_and_promtool_finds_nothing() {
    let origin = Origin::auto(|seen| {
        let status = if seen.head.word(1) == "/bad" { 500 } else { 200 };
        vec![Step::Send(crate::support::origin::reply(status, "x"))]
    });
    let proxy = Ringway::start(&Conf::to(origin.address).route("methods = [\"GET\", \"POST\"]"));
    for number in 0..30 {
        let mut client = proxy.connect();
        client.get(if number % 3 == 0 { "/bad" } else { "/good" });
        client.response();
        client.post("/p", b"x");
        client.response();
    }
    let mut client = proxy.connect();
    client.send("DELETE /x HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.response().assert_own(405, "method_not_allowed");
    for (labels, wanted) in [
        (r#"method="GET",status_code="200""#, 20.0),
        (r#"method="GET",status_code="500""#, 10.0),
        (r#"method="POST",status_code="200""#, 30.0),
    ] {
        eventually(&format!("{labels} = {wanted}"), Duration::from_secs(15), || {
            (proxy.metric("http_requests_total", labels) == wanted).then_some(())
        });
    }
    assert_eq!(proxy.metric("http_request_duration_seconds_count", "route=\"all\""), 60.0);
    assert_eq!(proxy.metric("http_requests_in_flight", ""), 0.0);
    let answers = proxy.metric("ringway_answers_total", "reason=\"method_not_allowed\"");
    assert_eq!(answers, 1.0);
    assert_eq!(proxy.metric("ringway_panics_total", ""), 0.0);

    let answer = proxy.admin("/metrics");
    let kind = answer.head.get("content-type").unwrap_or("");
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let promtool = find_program("promtool")
        .expect("promtool is missing: apt-get install prometheus (scripts/setup does it)");
    let mut child = std::process::Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    child.stdin.take().expect("piped").write_all(&answer.body).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.trim().is_empty(), "promtool: {said}");
}

/// A scrape reads counters only; a busy core and a scrape don't wait for each other.
#[test]
fn requests_in_flight_are_shown() {
    let origin = Origin::start();
    let proxy = Ringway::start(&Conf::to(origin.address).one_core());
    let mut client = proxy.connect();
    client.get("/slow");
    let request = origin.next_request();
    assert_eq!(proxy.metric("http_requests_in_flight", ""), 1.0);
    request.reply(200, "done");
    client.response();
    eventually("no request in flight", Duration::from_secs(15), || {
        (proxy.metric("http_requests_in_flight", "") == 0.0).then_some(())
    });
}

#[test]
fn probes_and_status() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address));
    assert_eq!(proxy.admin("/healthz").status(), 200);
    assert_eq!(proxy.admin("/readyz").status(), 200);
    let missing = proxy.admin("/nothing-here");
    assert_eq!(missing.status(), 404);
    assert!(
        serde_json::from_slice::<serde_json::Value>(&missing.body).is_ok(),
        "{}",
        missing.text()
    );
    let status = proxy.status();
    let cores = status["cores"].as_array().expect("cores");
    assert!(!cores.is_empty());
    assert!(cores.iter().all(|core| core["id"].is_u64() && core["version"] == 1), "{status}");
}

#[test]
fn the_admin_api_wants_its_token() {
    let origin = Origin::echo();
    let admin = "[admin]\naddress = \"{admin}\"\ntoken = \"s3cret-token\"";
    let proxy = Ringway::start(&Conf::to(origin.address).one_core().more(admin));
    assert_eq!(proxy.admin("/healthz").status(), 200, "probes need none");
    assert_eq!(proxy.admin("/v1/status").status(), 401);
    let mut client = crate::support::Client::connect(proxy.admin);
    client.send("GET /v1/status HTTP/1.1\r\nhost: x\r\nauthorization: Bearer wrong-token!\r\n\r\n");
    assert_eq!(client.response().status(), 401);
    client.send("GET /v1/status HTTP/1.1\r\nhost: x\r\nauthorization: Bearer s3cret-token\r\n\r\n");
    assert_eq!(client.response().status(), 200);
}

#[test]
fn the_start_report_says_what_runs() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address).one_core());
    proxy.wait_for_line("ready");
    let report = proxy.stderr().join("\n");
    let driver = driver().unwrap_or("io_uring".to_owned());
    for word in [env!("CARGO_PKG_VERSION"), &driver, &proxy.address().to_string()] {
        assert!(report.contains(word), "{word:?} is not in the report:\n{report}");
    }
}

/// Own answers tell people and machines why.
#[test]
fn own_answers_carry_their_reason() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address).one_core().route("path = \"/only\""));
    for (request, status, reason) in [
        ("GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n", 404, "no_route"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "bad_host"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad_host"),
        ("GET /%00 HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_target"),
        ("GET /../x HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_target"),
        ("GET / HTTP/2.0\r\nHost: a.test\r\n\r\n", 505, "version_unsupported"),
        ("get / HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nX : y\r\n\r\n", 400, "bad_request"),
        (
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "bad_framing",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip\r\n\r\n",
            501,
            "coding_unsupported",
        ),
        (
            "POST /only HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            400,
            "bad_chunk",
        ),
        ("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", 405, "connect_refused"),
        ("GET /only HTTP/1.1\r\nHost: a.test\r\nExpect: magic\r\n\r\n", 417, "expectation_failed"),
    ] {
        let mut client = proxy.connect();
        client.send(request);
        let answer = client.response();
        answer.assert_own(status, reason);
        assert!(!answer.body.is_empty(), "a person reads it: {request:?}");
    }
}
