//! The command line as people and scripts use it: exit codes, messages, the commands that run.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use crate::support::{
    Client, Origin, Row, eventually,
    process::{ringway, signal},
    ringway::free_address,
    row,
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Twelve mistakes of different kinds; each is named with its place, and the exit code is 78.
#[test]
fn check_names_all_mistakes_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("bad.toml");
    let lines = [
        "[runtime]",
        "ring_entries = 5000", // 2: no power of two
        "[admin]",
        "adress = \"127.0.0.1:9180\"", // 4: unknown key
        "[[listener]]",
        "name = \"edge\"",
        "address = \"nowhere\"", // 7: no address
        "[listener.limits]",
        "header_timeout = \"10 parsecs\"", // 9: no unit
        "header_count_max = \"many\"",     // 10: wrong type
        "[[route]]",
        "id = \"a\"",
        "path = \"/x/{id\"",     // 13: bad pattern
        "upstream = \"nobody\"", // 14: dangling
        "[[route]]",
        "id = \"b\"",
        "path_regex = \"(\"", // 17: bad regex
        "upstream = \"users\"",
        "[[route]]",
        "id = \"c\"",
        "path = \"/y\"",
        "path_prefix = \"/y\"", // 22 (or 21): two path keys
        "upstream = \"users\"",
        "plugins = [\"jwt\"]", // 24: not available yet
        "[[upstream]]",
        "name = \"users\"",
        "strategy = \"round-robbin\"", // 27: did you mean
        "endpoints = [{ url = \"http://127.0.0.1:80\", weight = 0 }]", // 28: range
        "[upstream.timeouts]",
        "connect = \"${NO_SUCH_VARIABLE_HERE}\"", // 30: missing variable
    ];
    std::fs::write(&file, lines.join("\n")).expect("write");
    let name = file.display().to_string();
    for args in [["check", "-c", &name], ["-t", "-c", &name]] {
        let output = ringway(&args);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        for line in [2, 4, 7, 9, 10, 13, 14, 17, 24, 27, 28, 30] {
            assert!(
                said.contains(&format!("bad.toml:{line}:")),
                "line {line} is missing in:\n{said}"
            );
        }
        assert!(said.contains("bad.toml:22:") || said.contains("bad.toml:21:"), "{said}");
        assert!(said.contains("round-robin"), "a did-you-mean:\n{said}");
    }
    let output = ringway(&["check", "--json", "-c", &name]);
    let problems: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let problems = problems.as_array().expect("an array");
    assert!(problems.len() >= 13, "{problems:?}");
    for key in ["file", "line", "column", "key", "message", "hint", "severity"] {
        assert!(problems.iter().all(|problem| problem.get(key).is_some()), "{key}: {problems:?}");
    }
    let output = ringway(&["run", "-c", &name]);
    assert_eq!(output.status.code(), Some(78), "run refuses what check refuses");
}

#[test]
fn check_of_a_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let write =
        |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("write");
    write("10-listen.toml", "[[listener]]\nname = \"edge\"\naddress = \"127.0.0.1:8080\"\n");
    write("20-routes.toml", "[[route]]\nid = \"a\"\nupstream = \"users\"\n");
    write(
        "30-up.toml",
        "[[upstream]]\nname = \"users\"\nendpoints = [{ url = \"http://127.0.0.1:1\" }]\n",
    );
    write("ignored.txt", "not toml at all");
    let path = directory.path().display().to_string();
    let output = ringway(&["check", "-c", &path]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    write(
        "30-up.toml",
        "[[upstream]]\nname = \"user\"\nendpoints = [{ url = \"http://127.0.0.1:1\" }]\n",
    );
    let output = ringway(&["check", "-c", &path]);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("20-routes.toml:3:"), "the place of the dangling reference: {said}");
}

#[test]
fn exit_codes_and_help() {
    for (args, code) in [
        (&["--version"][..], 0),
        (&["--help"], 0),
        (&["run", "--help"], 0),
        (&["proxy", "--help"], 0),
        (&["demo", "--help"], 0),
        (&["check", "--help"], 0),
        (&["schema", "--help"], 0),
        (&["no-such-command"], 2),
        (&["run", "--no-such-flag"], 2),
        (&["run", "-c", "/no/such/file.toml"], 78),
        (&["check", "-c", "/no/such/file.toml"], 78),
    ] {
        let output = ringway(args);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(!said.trim().is_empty(), "{args:?} says nothing");
    }
    let version = text(&ringway(&["--version"]).stdout);
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}

#[test]
fn the_schema_is_a_json_schema() {
    let output = ringway(&["schema"]);
    assert!(output.status.success());
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(schema["$schema"].as_str().is_some_and(|url| url.contains("json-schema.org")));
    for key in ["runtime", "admin", "log", "listener", "route", "upstream"] {
        assert!(schema["properties"].get(key).is_some(), "{key}");
    }
}

/// Every example in `config/` is valid.
#[test]
fn the_examples_are_valid() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/config");
    let mut count = 0;
    for entry in std::fs::read_dir(directory).expect("config/") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|end| end == "toml") {
            let output = ringway(&["check", "-c", &path.display().to_string()]);
            let said = text(&output.stderr) + &text(&output.stdout);
            assert!(output.status.success(), "{}: {said}", path.display());
            count += 1;
        }
    }
    assert!(count > 0, "config/ has no example");
}

#[test]
fn the_configuration_in_the_readme_is_valid() {
    let readme = include_str!("../../README.md");
    let block = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ringway.toml");
    std::fs::write(&file, block.expect("a TOML block")).expect("write");
    let output = ringway(&["check", "-c", &file.display().to_string()]);
    assert!(output.status.success(), "{}", text(&output.stderr) + &text(&output.stdout));
}

#[test]
fn a_busy_port_is_an_error_at_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let output = ringway(&["proxy", "--listen", &address, "--to", "http://127.0.0.1:9"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&address), "{said}");
}

/// A command that runs until it is told to stop; killed when dropped.
struct Running(Child);

impl Running {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Running(command.spawn().expect("the binary under test starts"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_connect(address: std::net::SocketAddr) -> Client {
    eventually("the port to open", crate::support::PATIENCE, || {
        std::net::TcpStream::connect(address).ok().map(|_| ())
    });
    Client::connect(address)
}

#[test]
fn proxy_needs_no_file() {
    let (one, two) = (Origin::echo(), Origin::echo());
    let address = free_address();
    let (to_one, to_two) = (format!("http://{}", one.address), format!("http://{}", two.address));
    let listen = address.to_string();
    let mut running =
        Running::start(&["proxy", "--listen", &listen, "--to", &to_one, "--to", &to_two]);
    let mut client = wait_connect(address);
    for number in 0..10 {
        let path = format!("/{number}");
        assert_eq!(client.fetch(&path).text(), format!("GET {path}"));
    }
    assert_eq!((one.seen_count(), two.seen_count()), (5, 5));
    signal(running.0.id(), "TERM");
    let status =
        eventually("it to end", crate::support::PATIENCE, || running.0.try_wait().expect("wait"));
    assert!(status.success(), "{status:?}");
}

/// One demo at a time: each looks for a free port and takes it a moment later.
static DEMO: Mutex<()> = Mutex::new(());

/// The demo prints curl lines that work: one routes, one shows an error answer, one the metrics.
#[test]
fn the_demo_prints_lines_that_work() {
    let _turn = DEMO.lock();
    let mut running = Running::start(&["demo"]);
    let stdout = running.0.stdout.take().expect("piped");
    let mut urls = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.expect("text");
        if line.trim_start().starts_with("curl") {
            let url = line.split_whitespace().map(|word| word.trim_matches(['\'', '"']));
            urls.extend(url.filter(|word| word.starts_with("http://")).map(str::to_owned));
        }
        if urls.len() == 3 {
            break;
        }
    }
    assert_eq!(urls.len(), 3, "three curl lines: {urls:?}");
    let mut statuses = Vec::new();
    for url in &urls {
        let rest = url.trim_start_matches("http://");
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut client = wait_connect(authority.parse().expect("an address"));
        client.send(format!("GET /{path} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
        statuses.push(client.response().status());
    }
    assert!(statuses.iter().filter(|status| **status == 200).count() >= 2, "{urls:?} {statuses:?}");
    assert!(statuses.iter().any(|status| *status >= 400), "{urls:?} {statuses:?}");
}

/// The README's first command: three requests and what came back, then it ends.
#[test]
fn the_demo_shows_requests_and_ends() {
    let _turn = DEMO.lock();
    let output = ringway(&["demo", "--once"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", text(&output.stderr));
    for part in ["/people/7", "x-ringway-reason: upstream_connect_refused", "http_requests_total{"]
    {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
}

/// The rows of the tables can fail: a table that expects the wrong thing is refused.
#[test]
fn the_tables_of_these_tests_can_fail() {
    let rows: Vec<Row> = vec![
        row("wrong status", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").own(&[404]),
        row("wrong line", "GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n").line("GET /b HTTP/1.1"),
    ];
    for row in rows {
        let result = std::panic::catch_unwind(|| crate::support::run_rows(vec![row]));
        assert!(result.is_err());
    }
}

/// A configuration with these routes.
fn routes(text: &str) -> String {
    format!(
        "[[listener]]\nname = \"edge\"\naddress = \"127.0.0.1:8080\"\n{text}\
         [[upstream]]\nname = \"u\"\nendpoints = [\"http://127.0.0.1:1\"]\n"
    )
}

#[test]
fn diff_tells_by_its_exit_code_and_in_words() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("write");
        path.display().to_string()
    };
    let old =
        write("old.toml", &routes("[[route]]\nid = \"a\"\npath = \"/a\"\nupstream = \"u\"\n"));
    let same = write(
        "same.toml",
        &routes("[[route]]\nid = \"a\"\nupstream = \"u\"\npath = \"/a\"\npriority = 0\n"),
    );
    let new =
        write("new.toml", &routes("[[route]]\nid = \"a\"\npath = \"/b\"\nupstream = \"u\"\n"));
    let bad = write("bad.toml", "[[route]]\nupstraem = 1\n");
    let line = |target: &str| {
        format!(
            "{{\"listener\":\"edge\",\"method\":\"GET\",\"host\":\"a.test\",\"target\":\"{target}\"}}\n"
        )
    };
    let log = write("access.log", &[line("/a"), line("/a?x=1"), line("/b"), line("/c")].concat());
    let output = ringway(&["diff", &old, &same]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "no difference\n".into()));
    let output = ringway(&["diff", &old, &new, "--traffic", &log]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stdout);
    for part in [
        "route \"a\" changed: path \"/a\" -> \"/b\"\n",
        "3 of 4 requests go elsewhere",
        "2  route \"a\" to upstream \"u\" -> 404\n",
        "1  404 -> route \"a\" to upstream \"u\"\n",
        "GET a.test /a?x=1\n",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let output = ringway(&["diff", &old, &new, "--traffic", &log, "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&json["same"], &json["traffic"]["moved"]), (&false.into(), &3.into()));
    let output = ringway(&["diff", &old, &bad]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("did you mean \"upstream\"?"));
    for wrong in [vec!["diff", &old], vec!["diff", &old, &new, "--traffic", "/no/such/log"]] {
        assert_eq!(ringway(&wrong).status.code(), Some(2), "{wrong:?}");
    }
}
