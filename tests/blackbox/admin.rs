//! The admin API of the real binary: changes reach the cores, survive a restart, and are refused
//! whole when something is wrong.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    Conf, Origin, Ringway, eventually,
    process::{ringway, signal},
    ringway::free_address,
    skipped,
};

/// Status, head and JSON of an answer.
pub(crate) struct Answer {
    status: u16,
    head: String,
    pub(crate) body: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    fn etag(&self) -> String {
        let line = self.head.lines().find_map(|line| line.strip_prefix("etag: "));
        line.expect("an ETag").to_owned()
    }

    fn error(&self) -> &str {
        self.body["error"].as_str().unwrap_or_default()
    }
}

/// One call; `more` are further fields of its head.
fn call_with(admin: SocketAddr, method: &str, path: &str, more: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(admin).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nhost: {admin}\r\ncontent-length: {length}\r\n{more}\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    Answer {
        status: head.get(9..12).and_then(|digits| digits.parse().ok()).expect("a status"),
        head: head.to_owned(),
        body: serde_json::from_str(body).unwrap_or(Value::Null),
    }
}

const JSON: &str = "content-type: application/json\r\n";

pub(crate) fn call(proxy: &Ringway, method: &str, path: &str, body: Value) -> Answer {
    let body = if method == "GET" { String::new() } else { body.to_string() };
    call_with(proxy.admin, method, path, JSON, &body)
}

pub(crate) fn get(proxy: &Ringway, path: &str) -> Answer {
    call(proxy, "GET", path, Value::Null)
}

pub(crate) fn upstream_of(origin: &Origin) -> Value {
    json!({ "endpoints": [{ "url": format!("http://{}", origin.address) }] })
}

/// Two cores, everything to one origin, and a place for what the API is told.
pub(crate) fn kept_in(directory: &Path, origin: &Origin) -> Conf {
    let admin =
        format!("[admin]\naddress = \"{{admin}}\"\nstate_dir = \"{}\"", directory.display());
    Conf::to(origin.address).route("path_prefix = \"/file\"").more(&admin)
}

/// What a fetch of `path` gets, from whichever core.
pub(crate) fn fetched(proxy: &Ringway, path: &str) -> (u16, String) {
    let answer = proxy.connect().fetch(path);
    (answer.status(), answer.text())
}

#[test]
fn routes_and_endpoints_change_while_it_runs() {
    let (of_file, blue, green) = (Origin::echo(), Origin::echo(), Origin::echo());
    let proxy = Ringway::start(&Conf::to(of_file.address).route("path_prefix = \"/file\""));
    assert_eq!(fetched(&proxy, "/api/1").0, 404);
    call(&proxy, "PUT", "/v1/upstreams/u", upstream_of(&blue)).is(201);
    let route = json!({ "path": "/api/{id}", "rewrite": "/v2/{id}", "upstream": "u" });
    let made = call(&proxy, "PUT", "/v1/routes/api?wait=applied", route).is(201);
    assert_eq!(made.body["applied"], true);
    let version = &made.body["version"];
    assert!(made.body["cores"].as_array().is_some_and(|all| {
        !all.is_empty() && all.iter().all(|core| core["version"] == *version)
    }));
    assert_eq!(fetched(&proxy, "/api/1"), (200, "GET /v2/1".into()));
    assert_eq!(fetched(&proxy, "/file").0, 200, "the file's route is still there");
    // The other endpoint takes over, then the first is drained.
    let path = format!("/v1/upstreams/u/endpoints/{}", green.address);
    call(&proxy, "PUT", &path, json!({ "weight": 2 })).is(201);
    let path = format!("/v1/upstreams/u/endpoints/{}?wait=applied", blue.address);
    let drained = call(&proxy, "PATCH", &path, json!({ "enabled": false })).is(200);
    assert_eq!(drained.body["applied"], true);
    let seen = blue.seen_count();
    for _ in 0..10 {
        assert_eq!(fetched(&proxy, "/api/2").0, 200);
    }
    assert_eq!((blue.seen_count(), green.seen_count()), (seen, 10), "no new requests");
    // Without any endpoint left there is an answer that says so.
    let path = format!("/v1/upstreams/u/endpoints/{}?wait=applied", green.address);
    call(&proxy, "PATCH", &path, json!({ "enabled": false })).is(200);
    assert_eq!(fetched(&proxy, "/api/2").0, 503);
    call(&proxy, "PATCH", &path, json!({ "enabled": true })).is(200);
    assert_eq!(fetched(&proxy, "/api/2").0, 200);
    call(&proxy, "DELETE", "/v1/routes/api?wait=applied", Value::Null).is(200);
    assert_eq!(fetched(&proxy, "/api/1").0, 404);
    call(&proxy, "DELETE", "/v1/upstreams/u", Value::Null).is(200);
}

#[test]
fn what_is_refused_changes_nothing_and_says_why() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address));
    let before = (proxy.versions(), get(&proxy, "/v1/config").etag());
    let route = json!({ "upstream": "origni", "path": "/a/{", "timeout": 5 });
    let refused = call(&proxy, "PUT", "/v1/routes/a", route).is(400);
    let text = refused.body.to_string();
    assert!(text.contains("did you mean \\\"origin\\\"?") && text.contains("route.path"), "{text}");
    assert!(text.contains("5s") && text.contains("\"file\":\"request\""), "{text}");
    let own = call(&proxy, "PUT", "/v1/routes/all", json!({ "upstream": "origin" })).is(409);
    assert!(own.error().contains("files own what they name"), "{}", own.body);
    assert!(own.error().contains("ringway.toml:"), "{}", own.body);
    let dry = json!({ "path": "/dry", "upstream": "origin" });
    let tried = call(&proxy, "PUT", "/v1/routes/dry?dry_run=true", dry).is(200);
    assert_eq!(tried.body["dry_run"], true);
    get(&proxy, "/v1/routes/dry").is(404);
    let toml = "content-type: application/toml\r\n";
    let broken = "[[listener]]\nname = \"edge\"\nadress = \"x\"\n";
    let refused = call_with(proxy.admin, "POST", "/v1/config?dry_run=true", toml, broken).is(400);
    let first = &refused.body["problems"][0];
    assert_eq!((&first["file"], first["line"].is_u64()), (&json!("request"), true), "{first}");
    assert_eq!((proxy.versions(), get(&proxy, "/v1/config").etag()), before);
    assert_eq!(fetched(&proxy, "/x").0, 200);
}

#[test]
fn what_it_is_told_survives_a_restart() {
    let (origin, other) = (Origin::echo(), Origin::echo());
    let directory = tempfile::tempdir().expect("a directory");
    let conf = kept_in(directory.path(), &origin);
    let proxy = Ringway::start(&conf);
    call(&proxy, "PUT", "/v1/upstreams/u", upstream_of(&other)).is(201);
    let route = json!({ "path": "/kept", "headers": { "x y": "1" }, "upstream": "u" });
    call(&proxy, "PUT", "/v1/routes/bad", route).is(400);
    let route = json!({ "path": "/kept", "headers": { "x-a": "~^\"ü\"$" }, "upstream": "u" });
    call(&proxy, "PUT", "/v1/routes/odd", route).is(201);
    let made = call(&proxy, "PUT", "/v1/routes/kept", json!({ "path": "/kept", "upstream": "u" }));
    assert_eq!((made.status, &made.body["kept"]), (201, &json!(true)));
    let before = get(&proxy, "/v1/config").body;
    proxy.stop();
    // A crash while a later state was written leaves this behind.
    std::fs::write(directory.path().join(".api.toml.new"), "[[route]]\nid =").expect("written");
    let proxy = Ringway::start(&conf);
    assert_eq!(fetched(&proxy, "/kept"), (200, "GET /kept".into()));
    assert_eq!(other.seen_count(), 1);
    let after = get(&proxy, "/v1/config").body;
    assert_eq!((&after["route"], &after["upstream"]), (&before["route"], &before["upstream"]));
    call(&proxy, "DELETE", "/v1/routes/kept", Value::Null).is(200);
    proxy.stop();
    let proxy = Ringway::start(&conf);
    assert_eq!(fetched(&proxy, "/kept").0, 404);
}

/// SIGUSR2: the successor knows what its predecessor was told, and goes on keeping it.
#[test]
fn what_it_is_told_survives_a_takeover() {
    let origin = Origin::echo();
    let directory = tempfile::tempdir().expect("a directory");
    let proxy = Ringway::start(&kept_in(directory.path(), &origin));
    let route = |path: &str| json!({ "path": path, "upstream": "origin" });
    let made = call(&proxy, "PUT", "/v1/routes/a?wait=applied", route("/a")).is(201);
    let old = proxy.pid_now();
    signal(old, "USR2");
    eventually("the successor alone", Duration::from_secs(30), || {
        let all_new = (0..5).all(|_| proxy.try_pid_now().is_some_and(|(pid, _)| pid != old));
        all_new.then_some(())
    });
    assert_eq!(fetched(&proxy, "/a").0, 200);
    let next = call(&proxy, "PUT", "/v1/routes/b?wait=applied", route("/b")).is(201);
    assert!(next.body["version"].as_u64() > made.body["version"].as_u64(), "{}", next.body);
    assert_eq!(get(&proxy, "/v1/routes").body["total"], 3);
}

#[test]
fn a_drained_endpoint_finishes_what_it_began() {
    let (slow, other) = (Origin::start(), Origin::echo());
    let conf = Conf::to(other.address).route("path_prefix = \"/file\"");
    let proxy = Ringway::start(&conf.runtime("drain_timeout = \"100ms\""));
    call(&proxy, "PUT", "/v1/upstreams/u", upstream_of(&slow)).is(201);
    let route = json!({ "path": "/a", "upstream": "u" });
    call(&proxy, "PUT", "/v1/routes/a?wait=applied", route).is(201);
    let mut client = proxy.connect();
    client.get("/a");
    let request = slow.next_request();
    let path = format!("/v1/upstreams/u/endpoints/{}?wait=applied", slow.address);
    call(&proxy, "PATCH", &path, json!({ "enabled": false })).is(200);
    // Well beyond the time that what is removed would have.
    let began = Instant::now();
    eventually("time to pass", Duration::from_secs(5), || {
        (began.elapsed() > Duration::from_millis(500)).then_some(())
    });
    assert_eq!(fetched(&proxy, "/a").0, 503, "nothing new");
    request.reply(200, "late");
    assert_eq!(client.response().text(), "late");
}

#[test]
fn a_full_disk_refuses_the_change_and_nothing_changes() {
    let origin = Origin::echo();
    let directory = tempfile::tempdir().expect("a directory");
    let conf = kept_in(directory.path(), &origin);
    let proxy = Ringway::start(&conf);
    let route = |path: &str| json!({ "path": path, "upstream": "origin" });
    call(&proxy, "PUT", "/v1/routes/a?wait=applied", route("/a")).is(201);
    let kept = std::fs::read(directory.path().join("api.toml")).expect("the state");
    let versions = proxy.versions();
    symlink("/dev/full", directory.path().join(".api.toml.new")).expect("a full disk");
    let refused = call(&proxy, "PUT", "/v1/routes/b", route("/b")).is(507);
    assert!(refused.error().contains("No space left"), "{}", refused.body);
    assert_eq!(fetched(&proxy, "/b").0, 404);
    assert_eq!(proxy.versions(), versions);
    assert_eq!(std::fs::read(directory.path().join("api.toml")).expect("the state"), kept);
    // Space again.
    let _ = std::fs::remove_file(directory.path().join(".api.toml.new"));
    call(&proxy, "PUT", "/v1/routes/b?wait=applied", route("/b")).is(201);
    assert_eq!(fetched(&proxy, "/b").0, 200);
}

/// The same on a filesystem that really is full: a small one that only this ringway sees.
#[test]
fn a_filesystem_that_fills_up_refuses_the_change() {
    const MOUNT: &str = "mount -t tmpfs -o size=256k none \"$1\" && shift && exec \"$@\"";
    let mut allowed = Command::new("unshare");
    allowed.args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]);
    if !allowed.output().is_ok_and(|output| output.status.success()) {
        return skipped("a_filesystem_that_fills_up", "this user may not make a mount namespace");
    }
    let origin = Origin::echo();
    let directory = tempfile::tempdir().expect("a directory");
    let proxy = Ringway::start_as(&kept_in(directory.path(), &origin).text(), |config| {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", MOUNT, "sh"]).arg(directory.path());
        command.arg(env!("CARGO_BIN_EXE_ringway")).args(["run", "-c"]).arg(config);
        command
    });
    let long = "x".repeat(20_000);
    let put = |number: usize| {
        let path = format!("/v1/routes/r{number}?wait=applied");
        let route =
            json!({ "path": format!("/r{number}"), "upstream": "origin", "description": long });
        call(&proxy, "PUT", &path, route)
    };
    let full = (0..20).map(put).position(|answer| answer.status == 507).expect("it fills up");
    assert!(full > 2, "{full}");
    let versions = proxy.versions();
    let refused = put(full).is(507);
    assert!(refused.error().contains("No space left"), "{}", refused.body);
    assert_eq!(proxy.versions(), versions);
    assert_eq!(fetched(&proxy, &format!("/r{full}")).0, 404);
    assert_eq!(fetched(&proxy, "/r0").0, 200);
    proxy.wait_for_line("No space left");
    call(&proxy, "DELETE", "/v1/routes/r0?wait=applied", Value::Null).is(200);
    put(full).is(201);
}

#[test]
fn a_damaged_state_is_never_read_in_part() {
    let origin = Origin::echo();
    let directory = tempfile::tempdir().expect("a directory");
    let conf = kept_in(directory.path(), &origin);
    let proxy = Ringway::start(&conf);
    let route = json!({ "path": "/a", "upstream": "origin" });
    call(&proxy, "PUT", "/v1/routes/a", route).is(201);
    proxy.stop();
    let file = directory.path().join("api.toml");
    let text = std::fs::read(&file).expect("the state");
    std::fs::write(&file, &text[..text.len() - 20]).expect("cut");
    let config = directory.path().join("again.toml");
    let admin = free_address().to_string();
    let text = conf.text().replace("{admin}", &admin).replace("{listen}", "127.0.0.1:1");
    std::fs::write(&config, text).expect("written");
    let output = ringway(&["run", "-c", &config.display().to_string()]);
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("api.toml") && said.contains("damaged"), "{said}");
}

/// Writers that read, change and write back, each insisting on what it read: no change is lost.
#[test]
fn writers_at_once_do_not_undo_each_other() {
    const WRITERS: usize = 4;
    const CHANGES: usize = 5;
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address));
    call(&proxy, "PUT", "/v1/upstreams/u", upstream_of(&origin)).is(201);
    let admin = proxy.admin;
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                for change in 0..CHANGES {
                    let url = format!("http://127.0.0.2:{}", 1 + writer * CHANGES + change);
                    loop {
                        let read = call_with(admin, "GET", "/v1/upstreams/u", "", "");
                        let mut upstream = read.body.clone();
                        let list = upstream["endpoints"].as_array_mut().expect("a list");
                        list.push(json!({ "url": url }));
                        let head = format!("{JSON}if-match: {}\r\n", read.etag());
                        let text = upstream.to_string();
                        match call_with(admin, "PUT", "/v1/upstreams/u", &head, &text) {
                            Answer { status: 412, .. } => {}
                            answer => break drop(answer.is(200)),
                        }
                    }
                }
            });
        }
    });
    let list = get(&proxy, "/v1/upstreams/u/endpoints").body;
    assert_eq!(list["endpoints"].as_array().map(Vec::len), Some(1 + WRITERS * CHANGES));
}

#[test]
fn a_file_that_takes_a_name_over_wins_and_gives_it_back() {
    let (origin, of_api) = (Origin::echo(), Origin::echo());
    let conf = Conf::to(origin.address).route("path_prefix = \"/file\"");
    let proxy = Ringway::start(&conf);
    call(&proxy, "PUT", "/v1/upstreams/u", upstream_of(&of_api)).is(201);
    let route = json!({ "path": "/a", "upstream": "u" });
    call(&proxy, "PUT", "/v1/routes/a?wait=applied", route.clone()).is(201);
    let other = json!({ "path": "/b", "upstream": "u" });
    call(&proxy, "PUT", "/v1/routes/b?wait=applied", other).is(201);
    let more = "[[route]]\nid = \"a\"\npath = \"/a\"\nupstream = \"origin\"\n\
                [[route]]\nid = \"b\"\npath = \"/b\"\nupstream = \"origin\"";
    proxy.reload(&conf.clone().more(more).text()).wait_until_applied_on_all_cores();
    proxy.wait_for_line("steps aside");
    assert_eq!(fetched(&proxy, "/a").0, 200);
    assert_eq!((origin.seen_count(), of_api.seen_count()), (1, 0));
    assert!(get(&proxy, "/v1/routes/a").head.contains("ringway-owner: file "));
    call(&proxy, "PUT", "/v1/routes/a", route).is(409);
    call(&proxy, "DELETE", "/v1/routes/b", Value::Null).is(200); // the one that stepped aside
    assert_eq!(fetched(&proxy, "/b").0, 200, "the file's is still there");
    proxy.reload(&conf.text()).wait_until_applied_on_all_cores();
    assert_eq!(fetched(&proxy, "/a").0, 200);
    assert_eq!((origin.seen_count(), of_api.seen_count()), (2, 1));
    assert_eq!(fetched(&proxy, "/b").0, 404);
}

/// What is on the disk counts when the files are read, not when the API is called: a file may be
/// half written then.
#[test]
fn a_call_does_not_take_up_files_that_are_being_edited() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address));
    let route = json!({ "path": "/a", "upstream": "origin" });
    call(&proxy, "PUT", "/v1/routes/a?wait=applied", route).is(201);
    proxy.reload("[[route]]\nbroken");
    proxy.wait_for_line("refused");
    let route = json!({ "path": "/b", "upstream": "origin" });
    call(&proxy, "PUT", "/v1/routes/b?wait=applied", route).is(201);
    assert_eq!(fetched(&proxy, "/b").0, 200);
}

#[test]
fn a_token_guards_every_call() {
    let origin = Origin::echo();
    let admin = "[admin]\naddress = \"{admin}\"\ntoken = \"s3cret-token\"";
    let proxy = Ringway::start(&Conf::to(origin.address).one_core().more(admin));
    let token = "authorization: Bearer s3cret-token\r\n";
    let document = call_with(proxy.admin, "GET", "/v1/openapi.json", token, "").is(200).body;
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let path = path.replace("{id}", "x").replace("{name}", "x").replace("{endpoint}", "x:1");
        for (method, operation) in operations.as_object().expect("operations") {
            let answer = call_with(proxy.admin, &method.to_uppercase(), &path, JSON, "{}");
            let open = operation["security"] == json!([]);
            assert_eq!(answer.status == 401, !open, "{method} {path}: {}", answer.status);
        }
    }
    let config = call_with(proxy.admin, "GET", "/v1/config", token, "").is(200).body;
    assert_eq!(config["admin"]["token"], "***");
}

/// Each call of the document is answered by something, and nothing else is.
#[test]
fn the_document_describes_what_is_served() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address).one_core());
    let document = get(&proxy, "/v1/openapi.json").is(200).body;
    assert_eq!(document["openapi"], "3.1.0");
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let path = path.replace("{id}", "x").replace("{name}", "x").replace("{endpoint}", "x:1");
        for method in ["get", "put", "post", "patch", "delete"] {
            let answer = call_with(proxy.admin, &method.to_uppercase(), &path, JSON, "{}");
            let unknown = answer.error().starts_with("no such path") || answer.status == 405;
            let described = operations.get(method).is_some();
            assert_eq!(described, !unknown, "{method} {path}: {}", answer.body);
        }
    }
}

#[test]
fn a_running_ringway_explains_and_compares() {
    let origin = Origin::echo();
    let directory = tempfile::tempdir().expect("a directory");
    let proxy = Ringway::start(&Conf::to(origin.address));
    let admin = proxy.admin.to_string();
    let route = json!({ "path": "/a/{id}", "rewrite": "/b/{id}", "upstream": "origin" });
    call(&proxy, "PUT", "/v1/routes/a?wait=applied", route).is(201);
    let explain = ["explain", "--live", "--admin", &admin, "GET", "http://x.test/a/7"];
    let output = ringway(&explain);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("route a sends /b/7 to upstream origin\n"), "{text}");
    let output = ringway(&[&explain[..], &["--json"]].concat());
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&json["route"], &json["target"]), (&json!("a"), &json!("/b/7")));
    let wrong = ringway(&["explain", "--live", "--admin", &admin, "GET", "/no-host"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", String::from_utf8_lossy(&wrong.stderr));
    // What is in force, written down, is what is in force.
    let config = get(&proxy, "/v1/config").body;
    let same = directory.path().join("same.toml");
    std::fs::write(&same, to_toml(&config)).expect("written");
    let diff = |file: &Path| {
        let file = file.display().to_string();
        ringway(&["diff", "--live", "--admin", &admin, &file])
    };
    let output = diff(&same);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let other = directory.path().join("other.toml");
    std::fs::write(&other, to_toml(&config).replace("/b/{id}", "/c/{id}")).expect("written");
    let output = diff(&other);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text, "route \"a\" changed: rewrite \"/b/{id}\" -> \"/c/{id}\"\n");
    drop(proxy);
    eventually("nobody to ask", Duration::from_secs(5), || {
        (diff(&same).status.code() == Some(2)).then_some(())
    });
}

/// The configuration of `GET /v1/config` as TOML: inline tables only.
fn to_toml(config: &Value) -> String {
    fn value(of: &Value) -> String {
        match of {
            Value::Object(fields) => {
                let one = |(key, of): (&String, &Value)| format!("\"{key}\" = {}", value(of));
                format!("{{ {} }}", fields.iter().map(one).collect::<Vec<_>>().join(", "))
            }
            Value::Array(all) => {
                format!("[{}]", all.iter().map(value).collect::<Vec<_>>().join(", "))
            }
            other => other.to_string(),
        }
    }
    let fields = config.as_object().expect("an object").iter();
    fields.map(|(key, of)| format!("{key} = {}\n", value(of))).collect()
}
