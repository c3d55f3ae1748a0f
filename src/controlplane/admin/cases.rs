//! Changes over the API, with the shortest pipeline that keeps its promises behind it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
};

use serde_json::{Value, json};

use super::{operations::OPERATIONS, *};
use crate::{
    base::limits,
    controlplane::{
        changes::{Applied, Current, Edit, Effect, Orders, Plan, Refused},
        compile::{self, Resolve},
        config::{self, Base, overlay::Overlay},
        fixtures,
    },
};

const FILE: &str = r#"
[admin]
address = "127.0.0.1:9180"
token = "s3cret"
[[listener]]
name = "edge"
address = "127.0.0.1:8080"
[[route]]
id = "of-file"
hosts = ["file.test"]
upstream = "of-file"
[[route]]
path = "/unnamed"
upstream = "of-file"
[[upstream]]
name = "of-file"
endpoints = ["http://127.0.0.1:9000"]
"#;

/// What the API is told, in force at once.
struct Pipeline {
    state: Arc<State>,
    /// Whether the second core obeys what it is told after the start.
    obeyed: bool,
}

impl Pipeline {
    fn load(&self, overlay: &Arc<Overlay>, dry_run: bool) -> Result<Applied, Refused> {
        let loaded =
            config::load_with(Base::Text("ringway.toml", FILE), overlay, &config::Kept::default())?;
        let version = self.state.rules().snapshot.version + 1;
        let (snapshot, _) = compile::compile(loaded.config, version, Resolve::No)?;
        if !dry_run {
            let mut rules = self.state.rules();
            rules.accept(Arc::new(snapshot), Arc::clone(overlay), None, true);
            rules.known = loaded.known;
            let obeying = if self.obeyed || version == 2 { 2 } else { 1 };
            let cores = self.state.cores.iter().take(obeying);
            cores.for_each(|core| core.snapshot_version.set(version as i64));
            self.state.acknowledged.notify_waiters();
        }
        Ok(Applied { version, warnings: loaded.warnings })
    }

    async fn run(self, mut orders: Orders) {
        while let Some(order) = orders.recv().await {
            let (snapshot, overlay) = {
                let rules = self.state.rules();
                (Arc::clone(&rules.snapshot), Arc::clone(&rules.overlay))
            };
            let Edit::With(edit) = &order.change.edit else { panic!("no file was read") };
            let plan =
                edit(&Current { snapshot: &snapshot, overlay: &overlay, names: &Arc::default() });
            let result = plan.and_then(|Plan { overlay, effect }| {
                if let Effect::Upstreams(upstreams) = effect {
                    assert_eq!(upstreams.len(), 1, "the quick way");
                }
                self.load(&overlay, order.change.dry_run)
            });
            order.answer(result);
        }
    }
}

struct Server(SocketAddr);

fn start() -> Server {
    start_with(true)
}

fn start_with(obeyed: bool) -> Server {
    let (state, orders) = fixtures::state_and_orders(2);
    let state = Arc::new(state);
    let pipeline = Pipeline { state: Arc::clone(&state), obeyed };
    pipeline.load(&Arc::default(), false).expect("the file is valid");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("non-blocking");
    let address = listener.local_addr().expect("an address");
    let settings = AdminSettings { address, token: None, state_dir: None };
    let router = router(state, &settings, || {});
    thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            tokio::spawn(pipeline.run(orders));
            serve::serve_within(listener, router, 9, limits::ADMIN_IDLE_MAX).await;
        });
    });
    Server(address)
}

/// Status, head and body.
struct Answer(u16, String, Value);

impl Answer {
    fn etag(&self) -> String {
        let line = self.1.lines().find_map(|line| line.strip_prefix("etag: "));
        line.expect("an ETag").to_owned()
    }

    fn message(&self) -> &str {
        self.2["error"].as_str().unwrap_or_else(|| panic!("{} {}", self.0, self.2))
    }
}

impl Server {
    fn raw(&self, method: &str, path: &str, head: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.0).expect("connected");
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.0\r\nhost: 127.0.0.1\r\ncontent-length: {length}\r\n{head}\r\n{body}"
        );
        stream.write_all(text.as_bytes()).expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.get(9..12).and_then(|digits| digits.parse().ok()).expect("a status");
        Answer(status, head.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.call_if(method, path, "", body)
    }

    fn call_if(&self, method: &str, path: &str, condition: &str, body: Value) -> Answer {
        let head = format!("content-type: application/json\r\n{condition}");
        self.raw(method, path, &head, &body.to_string())
    }

    fn get(&self, path: &str) -> Answer {
        self.raw("GET", path, "", "")
    }

    fn delete(&self, path: &str) -> Answer {
        self.raw("DELETE", path, "", "")
    }
}

#[test]
fn a_route_comes_changes_and_goes() {
    let server = start();
    let upstream = json!({ "endpoints": ["http://127.0.0.1:9001"] });
    let made = server.call("PUT", "/v1/upstreams/u?wait=applied", upstream);
    assert_eq!((made.0, &made.2["change"]), (201, &json!("created")), "{}", made.2);
    assert_eq!(made.2["applied"], true);
    assert_eq!(made.2["cores"], json!([{ "id": 0, "version": 3 }, { "id": 1, "version": 3 }]));
    assert_eq!(made.2["kept"], false);
    assert!(made.2["note"].as_str().is_some_and(|note| note.contains("state_dir")));
    let route = json!({ "hosts": ["a.test"], "upstream": "u" });
    let made = server.call("PUT", "/v1/routes/a%2Fb", route.clone());
    assert_eq!((made.0, &made.2["version"]), (201, &json!(4)));
    let sources = server.get("/v1/status").2["sources"].clone();
    assert_eq!(sources[1], json!({ "name": "the admin API", "version": 4, "error": null }));
    let read = server.get("/v1/routes/a%2Fb");
    assert_eq!(read.2, json!({ "id": "a/b", "hosts": ["a.test"], "upstream": "u" }));
    assert_eq!(read.etag(), made.etag());
    assert!(read.1.contains("ringway-owner: api"));
    let again = server.call("PUT", "/v1/routes/a%2Fb", route);
    assert_eq!((again.0, &again.2["change"]), (200, &json!("unchanged")));
    let patch = json!({ "hosts": null, "timeout": "3s" });
    let patched = server.call("PATCH", "/v1/routes/a%2Fb", patch);
    assert_eq!(patched.2["route"], json!({ "id": "a/b", "timeout": "3s", "upstream": "u" }));
    let in_use = server.delete("/v1/upstreams/u");
    assert_eq!(in_use.0, 409, "{}", in_use.2);
    assert_eq!(in_use.2["problems"][0]["file"], "admin API: route \"a/b\"");
    assert_eq!(server.delete("/v1/routes/a%2Fb").2["change"], "deleted");
    assert_eq!(server.delete("/v1/upstreams/u").0, 200);
    for missing in [server.get("/v1/routes/a%2Fb"), server.delete("/v1/upstreams/u")] {
        assert_eq!(missing.0, 404);
    }
    assert_eq!(server.call("PATCH", "/v1/routes/x", json!({})).0, 404);
}

/// The change is made all the same: who waited is told how far it got.
#[test]
fn a_stuck_core_is_not_waited_for_without_end() {
    let server = start_with(false);
    let route = json!({ "path": "/a", "upstream": "of-file" });
    let late = server.call("PUT", "/v1/routes/a?wait=applied&timeout=20ms", route);
    assert_eq!((late.0, &late.2["applied"]), (202, &json!(false)), "{}", late.2);
    assert_eq!(late.2["cores"], json!([{ "id": 0, "version": 3 }, { "id": 1, "version": 2 }]));
    assert_eq!(server.get("/v1/routes/a").0, 200);
    assert_eq!(server.delete("/v1/routes/a?wait=applied&timeout=2h").0, 400);
}

#[test]
fn mistakes_are_all_named_as_in_files() {
    let server = start();
    let route = json!({ "upstraem": "of-file", "path": "/a/{x", "priority": "high" });
    let refused = server.call("PUT", "/v1/routes/a", route);
    assert_eq!(refused.0, 400);
    let problems = refused.2["problems"].as_array().expect("a list");
    let all = refused.2.to_string();
    assert!(problems.len() >= 3, "{all}");
    assert!(problems.iter().all(|one| one["file"] == "request" && one.get("line").is_none()));
    assert!(all.contains("did you mean \\\"upstream\\\"?") && all.contains("route.priority"));
    for (body, part) in [
        (json!({ "upstream": null }), "null"),
        (json!({ "upstream": "${HOME}" }), "expressions"),
        (json!({ "upstream": "of-file", "id": "other" }), "in the path"),
        (json!([1]), "not an object"),
        (json!({ "upstream": "nothing" }), "there is no upstream"),
    ] {
        let refused = server.call("PUT", "/v1/routes/a", body);
        assert_eq!(refused.0, 400);
        assert!(refused.message().contains(part), "{}", refused.2);
    }
    let json = "content-type: application/json\r\n";
    let refused = server.raw("PUT", "/v1/routes/a", json, "{\n \"a\" 1}");
    assert_eq!((refused.0, &refused.2["problems"][0]["line"]), (400, &json!(2)));
    let refused = server.raw("PUT", "/v1/routes/a", json, "{\"path\": \"/x\",\n\"path\": \"/y\"}");
    assert!(refused.message().contains("the key \"path\" stands twice"), "{}", refused.2);
    assert!(server.call("PUT", "/v1/routes/%ff", json!({})).message().contains("UTF-8"));
    let misspelt = json!({ "routes": [], "listener": [] });
    let refused = server.call("POST", "/v1/config", misspelt);
    assert!(refused.2.to_string().contains("did you mean \\\"route\\\"?"), "{}", refused.2);
    let form = "content-type: text/plain\r\n";
    assert_eq!(server.raw("PUT", "/v1/routes/a", form, "{}").0, 415);
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(limits::ADMIN_OBJECT_BYTES_MAX));
    let refused = server.raw("PUT", "/v1/routes/a", json, &long);
    assert_eq!((refused.0, refused.message()), (413, "the body is too long"));
    assert!(
        server.call("PUT", "/v1/routes/a?wiat=applied", json!({})).2["hint"]
            .as_str()
            .is_some_and(|hint| hint.contains("\"wait\""))
    );
    assert_eq!(server.get("/v1/status").2["version"], 2, "nothing changed");
}

#[test]
fn files_own_what_they_name() {
    let server = start();
    let file = server.get("/v1/routes/of-file");
    assert!(file.1.contains("ringway-owner: file ringway.toml:8"), "{}", file.1);
    let body = json!({ "upstream": "of-file" });
    for refused in [
        server.call("PUT", "/v1/routes/of-file", body.clone()),
        server.call("PATCH", "/v1/routes/of-file", body.clone()),
        server.delete("/v1/routes/of-file"),
        server.call("PATCH", "/v1/upstreams/of-file/endpoints/127.0.0.1:9000", json!({})),
    ] {
        assert_eq!(refused.0, 409, "{}", refused.2);
        assert!(refused.message().contains("ringway.toml:"), "{}", refused.2);
    }
    let body = json!({ "path": "/beside", "upstream": "of-file" });
    assert_eq!(server.call("PUT", "/v1/routes/beside", body).0, 201, "beside the files");
}

#[test]
fn two_writers_do_not_undo_each_other() {
    let server = start();
    let route = |path: &str| json!({ "path": path, "upstream": "of-file" });
    let first = server.call_if("PUT", "/v1/routes/a", "if-none-match: *\r\n", route("/1"));
    assert_eq!(first.0, 201);
    let second = server.call_if("PUT", "/v1/routes/a", "if-none-match: *\r\n", route("/2"));
    assert_eq!(second.0, 412);
    let condition = format!("if-match: {}\r\n", first.etag());
    assert_eq!(server.call_if("PUT", "/v1/routes/a", &condition, route("/3")).0, 200);
    let late = server.call_if("PUT", "/v1/routes/a", &condition, route("/4"));
    assert_eq!(late.0, 412);
    assert!(late.message().contains(&server.get("/v1/routes/a").etag()), "{}", late.2);
    assert_eq!(server.call_if("DELETE", "/v1/routes/a", &condition, json!({})).0, 412);
    assert_eq!(server.get("/v1/routes/a").2["path"], "/3");
    let known = format!("if-none-match: {}\r\n", server.get("/v1/routes/a").etag());
    assert_eq!(server.raw("GET", "/v1/routes/a", &known, "").0, 304);
}

#[test]
fn endpoints_come_drain_and_go() {
    let server = start();
    let upstream = json!({ "endpoints": ["http://127.0.0.1:9001"] });
    for name in ["before", "u", "behind"] {
        let path = format!("/v1/upstreams/{name}");
        assert_eq!(server.call("PUT", &path, upstream.clone()).0, 201);
    }
    let path = "/v1/upstreams/u/endpoints/LOCALHOST:9002";
    let added = server.call("PUT", path, json!({ "weight": 3 }));
    assert_eq!(added.0, 201, "{}", added.2);
    let expected = json!({ "url": "http://localhost:9002", "weight": 3, "enabled": true });
    assert_eq!(added.2["endpoint"], expected);
    let drained = server.call("PATCH", path, json!({ "enabled": false }));
    assert_eq!((drained.0, &drained.2["change"]), (200, &json!("replaced")));
    let list = server.get("/v1/upstreams/u/endpoints");
    assert_eq!(list.2["endpoints"][1]["value"]["enabled"], false);
    assert_eq!(list.2["endpoints"][0]["endpoint"], "127.0.0.1:9001");
    let stale = format!("if-match: {}\r\n", added.etag());
    assert_eq!(server.call_if("PATCH", path, &stale, json!({ "weight": 9 })).0, 412);
    let wrong = server.call("PATCH", path, json!({ "wieght": 9 }));
    assert_eq!((wrong.0, wrong.message()), (400, "unknown key \"wieght\""));
    assert_eq!(wrong.2["problems"][0]["file"], "request", "{}", wrong.2);
    assert_eq!(server.get(path).2["weight"], 3);
    assert_eq!(server.delete(path).0, 200);
    assert_eq!(server.get(path).0, 404);
    let last = server.delete("/v1/upstreams/u/endpoints/127.0.0.1:9001");
    assert_eq!(last.0, 400);
    assert!(last.message().contains("last"), "{}", last.2);
    assert_eq!(server.call("PUT", "/v1/upstreams/u/endpoints/x:y:z", json!({})).0, 400);
}

/// Nothing that was meant for TLS is sent in plain text because a call names an endpoint by `host:port`.
#[test]
fn endpoints_are_spoken_to_as_their_urls_say() {
    let server = start();
    let tls = json!({ "verify": false });
    let upstream = json!({ "endpoints": ["https://127.0.0.1:9001"], "tls": tls });
    assert_eq!(server.call("PUT", "/v1/upstreams/u", upstream).0, 201);
    let put = |port: u16, keys| {
        let path = format!("/v1/upstreams/u/endpoints/127.0.0.1:{port}");
        let answer = server.call("PUT", &path, keys);
        (answer.0, answer.2["endpoint"]["url"].clone())
    };
    let https = |port| json!(format!("https://127.0.0.1:{port}"));
    let http = |port| json!(format!("http://127.0.0.1:{port}"));
    assert_eq!(put(9001, json!({ "weight": 2 })), (200, https(9001)), "as before");
    assert_eq!(put(9002, json!({})), (201, https(9002)), "as the others");
    assert_eq!(put(9003, json!({ "url": http(9003) })), (201, http(9003)), "as it says");
    assert_eq!(put(9003, json!({ "weight": 2 })), (200, http(9003)), "as before");
    assert_eq!(put(9004, json!({})), (400, Value::Null), "it could be either");
    assert_eq!(put(9004, json!({ "url": https(9004) })), (201, https(9004)));
}

#[test]
fn the_whole_configuration_is_read_and_replaced() {
    let server = start();
    let read = server.get("/v1/config");
    assert_eq!(read.2["admin"]["token"], "***");
    let mut whole = read.2.clone();
    let upstream = json!({ "name": "u", "endpoints": ["http://127.0.0.1:9001"] });
    whole["upstream"].as_array_mut().expect("a list").push(upstream);
    let route = json!({ "id": "a", "path": "/a", "upstream": "u" });
    whole["route"].as_array_mut().expect("a list").push(route);
    let tried = server.call("POST", "/v1/config?dry_run=true", whole.clone());
    assert_eq!(tried.0, 200, "{}", tried.2);
    assert_eq!(tried.2["told"].as_array().map(Vec::len), Some(2), "{}", tried.2);
    assert_eq!(server.get("/v1/config").etag(), read.etag(), "nothing changed");
    let condition = format!("if-match: {}\r\n", read.etag());
    let done = server.call_if("POST", "/v1/config", &condition, whole.clone());
    assert_eq!((done.0, &done.2["change"]), (200, &json!("replaced")), "{}", done.2);
    assert_eq!(server.call_if("POST", "/v1/config", &condition, whole.clone()).0, 412);
    assert_eq!(server.get("/v1/routes/a").2["path"], "/a");
    let toml = "content-type: application/toml\r\n";
    let other = server.raw("POST", "/v1/config", toml, &FILE.replace("s3cret", "other"));
    assert_eq!(other.0, 409, "{}", other.2);
    assert!(!other.2.to_string().contains("s3cret"));
    assert_eq!(server.raw("POST", "/v1/config?dry_run=true", toml, FILE).0, 200);
    assert_eq!(server.call("POST", "/v1/config", read.2.clone()).0, 200, "the token is masked");
    assert_eq!(server.get("/v1/routes/a").0, 404, "what is left out is gone");
    whole["route"][0]["hosts"] = json!(["other.test"]);
    let conflict = server.call("POST", "/v1/config", whole.clone());
    assert_eq!(conflict.0, 409);
    assert!(conflict.message().contains("route \"of-file\" is not as in ringway.toml:8"));
    let broken = server.raw("POST", "/v1/config", toml, "[[route]]\nupstream = 1\n");
    assert_eq!((broken.0, &broken.2["problems"][0]["line"]), (400, &json!(1)), "{}", broken.2);
}

#[test]
fn lists_have_pages() {
    let server = start();
    for number in 0..3 {
        let body = json!({ "path": format!("/{number}"), "upstream": "of-file" });
        assert_eq!(server.call("PUT", &format!("/v1/routes/r{number}"), body).0, 201);
    }
    let first = server.get("/v1/routes?limit=3");
    assert_eq!(first.2["total"], 5);
    assert_eq!(first.2["next"], "r0");
    assert_eq!(first.2["routes"][1]["id"], "#2");
    let second = server.get("/v1/routes?limit=3&after=r0");
    let ids: Vec<&Value> =
        second.2["routes"].as_array().expect("a list").iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, ["r1", "r2"]);
    assert_eq!(second.2["next"], Value::Null);
    assert_eq!(server.get("/v1/upstreams").2["upstreams"][0]["upstream"]["name"], "of-file");
    assert_eq!(server.get("/v1/routes?after=nothing").0, 400);
}

#[test]
fn requests_are_explained() {
    let server = start();
    let question = json!({ "method": "GET", "url": "http://file.test/x" });
    let asked = server.call("POST", "/v1/explain", question);
    assert_eq!((&asked.2["route"], &asked.2["version"]), (&json!("of-file"), &json!(2)));
    let asked = server.get("/v1/explain?method=GET&url=/unnamed&header=host:%20a.test");
    assert_eq!((&asked.2["route"], &asked.2["upstream"]), (&json!("#2"), &json!("of-file")));
    assert!(asked.2["text"].as_str().is_some_and(|text| text.starts_with("route #2 sends")));
    assert_eq!(server.get("/v1/explain?method=GET").0, 400);
    assert_eq!(server.call("POST", "/v1/explain", json!({ "metod": "GET" })).0, 400);
}

/// Document and router are one list; this asks the router itself, so that a handler that is not
/// there, or one that the document lacks, shows.
#[test]
fn the_document_and_the_router_agree() {
    let server = start();
    let document = server.get("/v1/openapi.json").2;
    let paths = document["paths"].as_object().expect("paths");
    let mut described = 0;
    for (path, operations) in paths {
        let operations = operations.as_object().expect("operations");
        let path = path.replace("{id}", "x").replace("{name}", "x").replace("{endpoint}", "x:1");
        let mut allowed = Vec::new();
        for method in ["get", "put", "post", "patch", "delete"] {
            let answer = server.call(&method.to_uppercase(), &path, json!({}));
            let unknown = answer.2["error"].as_str().is_some_and(|text| {
                text.starts_with("no such path") || text.contains("does not take")
            });
            assert_eq!(operations.contains_key(method), !unknown, "{method} {path}: {}", answer.2);
            allowed.extend((!unknown).then_some(method));
        }
        described += allowed.len();
    }
    assert_eq!(described, OPERATIONS.len());
}

#[test]
fn pages_of_other_sites_can_not_call() {
    let server = start();
    let mut stream = TcpStream::connect(server.0).expect("connected");
    let call = "DELETE /v1/routes/a HTTP/1.0\r\nhost: evil.test:9180\r\n\r\n";
    stream.write_all(call.as_bytes()).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.0 403") && text.contains("by name"), "{text}");
}
