//! Which route takes a request, through the whole program: the order of spec section 5, the targets
//! that are sent, 404 and 405. The table itself is tested against an oracle in `policy::route`.

use crate::support::{Origin, Ringway};

/// Starts with these routes (`[[route]]` bodies), all to one echoing origin.
fn start(origin: &Origin, routes: &[&str]) -> Ringway {
    let mut text = String::from(
        "[runtime]\ncores = \"0\"\npin = false\n[[listener]]\nname = \"edge\"\naddress = \"{listen}\"\n\
         [[listener]]\nname = \"inner\"\naddress = \"{listen2}\"\nmerge_slashes = false\n",
    );
    for route in routes {
        text += &format!("[[route]]\nupstream = \"origin\"\n{route}\n");
    }
    text += &format!(
        "[[upstream]]\nname = \"origin\"\nendpoints = [{{ url = \"http://{}\" }}]\n",
        origin.address
    );
    Ringway::start_text(&text)
}

/// Sends each request (method, host, target, fields) and compares the route in the access log:
/// `""` for 404, `"405"` for a method that no route takes.
fn check(routes: &[&str], requests: &[(&str, &str, &str, &str, &str)]) {
    let origin = Origin::echo();
    let proxy = start(&origin, routes);
    let mut client = proxy.connect();
    let mut statuses = Vec::new();
    for (method, host, target, fields, _) in requests {
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
        statuses.push(client.response_to(method).status());
    }
    let log = proxy.access_log(requests.len());
    let mut failures = Vec::new();
    for ((request, status), line) in requests.iter().zip(statuses).zip(&log) {
        let route = line["route"].as_str().unwrap_or("");
        let got = match status {
            200 => route,
            404 => "",
            405 => "405",
            _ => "another status",
        };
        if got != request.4 {
            failures.push(format!("{request:?} went to {got:?} ({status}, {line})"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn classes_of_paths() {
    check(
        &[
            "id = \"root\"\npath = \"/\"",
            "id = \"exact\"\npath = \"/a/b\"",
            "id = \"param\"\npath = \"/a/{x}\"",
            "id = \"digits\"\npath = \"/a/{x:[0-9]+}\"",
            "id = \"two\"\npath = \"/a/{x}/{y}\"",
            "id = \"lit-param\"\npath = \"/{x}/b\"",
            "id = \"year\"\npath = \"/y/{x:[0-9]{4}}\"",
            "id = \"regex\"\npath_regex = \"^/r[0-9]+/\"",
            "id = \"prefix\"\npath_prefix = \"/p\"",
            "id = \"deeper\"\npath_prefix = \"/p/q/\"",
            "id = \"rest\"\npath = \"/f/{*rest}\"",
            "id = \"colon\"\npath = \"/c/:id/*rest\"",
        ],
        &[
            ("GET", "a.test", "/", "", "root"),
            ("GET", "a.test", "/a/b", "", "exact"),
            ("GET", "a.test", "/a/c", "", "param"),
            ("GET", "a.test", "/a/7", "", "digits"),
            ("GET", "a.test", "/a/7x", "", "param"),
            ("GET", "a.test", "/a/x/y", "", "two"),
            ("GET", "a.test", "/a/", "", ""),
            ("GET", "a.test", "/a", "", ""),
            ("GET", "a.test", "/a/b/", "", ""),
            ("GET", "a.test", "/z/b", "", "lit-param"),
            ("GET", "a.test", "/y/2026", "", "year"),
            ("GET", "a.test", "/y/20267", "", ""),
            ("GET", "a.test", "/r12/x", "", "regex"),
            ("GET", "a.test", "/r/x", "", ""),
            ("GET", "a.test", "/p", "", "prefix"),
            ("GET", "a.test", "/p/", "", "prefix"),
            ("GET", "a.test", "/p/x/y", "", "prefix"),
            ("GET", "a.test", "/pq", "", ""),
            ("GET", "a.test", "/p/q", "", "deeper"),
            ("GET", "a.test", "/p/q/r", "", "deeper"),
            ("GET", "a.test", "/p/qr", "", "prefix"),
            ("GET", "a.test", "/f/", "", "rest"),
            ("GET", "a.test", "/f/x/y", "", "rest"),
            ("GET", "a.test", "/f", "", ""),
            ("GET", "a.test", "/c/7/x/y", "", "colon"),
            ("GET", "a.test", "/%61/%62", "", "exact"),
            ("GET", "a.test", "/x/../a/b", "", "exact"),
            ("GET", "a.test", "//a//b", "", "exact"),
            ("GET", "a.test", "/a/b?q=1", "", "exact"),
            ("GET", "a.test", "/a%2Fb", "", ""),
            ("GET", "a.test", "/A/b", "", "lit-param"),
        ],
    );
}

#[test]
fn hosts() {
    check(
        &[
            "id = \"exact\"\nhosts = [\"api.x.test\"]",
            "id = \"wild\"\nhosts = [\"*.x.test\"]",
            "id = \"longer\"\nhosts = [\"*.b.x.test\"]",
            "id = \"any-exact-path\"\npath = \"/only\"",
            "id = \"any\"\nhosts = [\"*\"]",
        ],
        &[
            ("GET", "api.x.test", "/", "", "exact"),
            ("GET", "API.X.TEST", "/", "", "exact"),
            ("GET", "api.x.test:8080", "/", "", "exact"),
            ("GET", "api.x.test.", "/", "", "exact"),
            ("GET", "www.x.test", "/", "", "wild"),
            ("GET", "a.b.c.x.test", "/", "", "wild"),
            ("GET", "a.b.x.test", "/", "", "longer"),
            ("GET", "x.test", "/", "", "any"),
            ("GET", "y.test", "/", "", "any"),
            ("GET", "127.0.0.1", "/", "", "any"),
            ("GET", "y.test", "/only", "", "any-exact-path"),
            ("GET", "api.x.test", "/only", "", "exact"),
            ("GET", "evilx.test", "/", "", "any"),
        ],
    );
}

#[test]
fn conditions_and_priority() {
    check(
        &[
            "id = \"plain\"\npath = \"/x\"",
            "id = \"gray\"\npath = \"/x\"\nheaders = { x-env = \"gray\" }",
            "id = \"gray-debug\"\npath = \"/x\"\nheaders = { x-env = \"gray\" }\nquery = { debug = \"1\" }",
            "id = \"beta\"\npath = \"/x\"\nheaders = { x-beta = \"present\" }",
            "id = \"number\"\npath = \"/x\"\nheaders = { x-id = \"~^[0-9]+$\" }",
            "id = \"post\"\npath = \"/x\"\nmethods = [\"POST\"]",
            "id = \"first\"\npath_prefix = \"/\"\nheaders = { x-first = \"1\" }\npriority = 10",
            "id = \"joined\"\npath = \"/j\"\nheaders = { x-many = \"a, b\" }",
            "id = \"plus\"\npath = \"/q\"\nquery = { v = \"a+b\" }",
            "id = \"decoded\"\npath = \"/q\"\nquery = { v = \"a b\" }",
            "id = \"last\"\npath_prefix = \"/\"\npriority = -1",
        ],
        &[
            ("GET", "a.test", "/x", "", "plain"),
            ("GET", "a.test", "/x", "X-Env: gray\r\n", "gray"),
            ("GET", "a.test", "/x?debug=1", "X-Env: gray\r\n", "gray-debug"),
            ("GET", "a.test", "/x?debug=2", "X-Env: gray\r\n", "gray"),
            ("GET", "a.test", "/x", "X-Env: Gray\r\n", "plain"),
            ("GET", "a.test", "/x", "X-Beta:\r\n", "beta"),
            ("GET", "a.test", "/x", "X-Id: 77\r\n", "number"),
            ("GET", "a.test", "/x", "X-Id: 77a\r\n", "plain"),
            ("POST", "a.test", "/x", "Content-Length: 0\r\n", "post"),
            ("PUT", "a.test", "/x", "Content-Length: 0\r\n", "plain"),
            ("GET", "a.test", "/x", "X-First: 1\r\n", "first"),
            ("GET", "a.test", "/j", "X-Many: a\r\nX-Many: b\r\n", "joined"),
            ("GET", "a.test", "/j", "X-Many: a\r\n", "last"),
            ("GET", "a.test", "/q?v=a+b", "", "plus"),
            ("GET", "a.test", "/q?v=a%2Bb", "", "plus"),
            ("GET", "a.test", "/q?v=a%20b", "", "decoded"),
            ("GET", "a.test", "/q?v=x&v=a+b", "", "last"),
            ("GET", "a.test", "/other", "", "last"),
        ],
    );
}

#[test]
fn methods_404_and_405() {
    let routes = [
        "id = \"get\"\npath = \"/m\"\nmethods = [\"GET\"]",
        "id = \"put\"\npath = \"/m\"\nmethods = [\"PUT\", \"PATCH\"]",
        "id = \"conditional\"\npath = \"/m\"\nmethods = [\"DELETE\"]\nheaders = { x-admin = \"1\" }",
    ];
    check(
        &routes,
        &[
            ("GET", "a.test", "/m", "", "get"),
            ("PATCH", "a.test", "/m", "Content-Length: 0\r\n", "put"),
            ("HEAD", "a.test", "/m", "", "405"),
            ("OPTIONS", "a.test", "/m", "", "405"),
            ("DELETE", "a.test", "/m", "", "405"),
            ("DELETE", "a.test", "/m", "X-Admin: 1\r\n", "conditional"),
            ("GET", "a.test", "/n", "", ""),
        ],
    );
    let origin = Origin::echo();
    let proxy = start(&origin, &routes);
    let mut client = proxy.connect();
    client.send("POST /m HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello");
    let answer = client.response();
    answer.assert_own(405, "method_not_allowed");
    assert_eq!(answer.head.get("allow"), Some("GET, PUT, PATCH"));
    client.get("/n");
    client.response().assert_own(404, "no_route");
    client.send("HEAD /n HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status(), 404);
    assert_eq!(client.fetch("/m").text(), "GET /m", "the connection is kept through it all");
}

#[test]
fn targets_that_are_sent() {
    let origin = Origin::echo();
    let proxy = start(
        &origin,
        &[
            "id = \"strip\"\npath = \"/api/users/{id:[0-9]+}\"\nstrip_path = true",
            "id = \"strip-exact\"\npath = \"/health\"\nstrip_path = true",
            "id = \"strip-prefix\"\npath_prefix = \"/app\"\nstrip_path = true",
            "id = \"rewrite\"\npath = \"/people/{id}\"\nrewrite = \"/v2/{id}/profile\"",
            "id = \"rest\"\npath = \"/files/{*rest}\"\nrewrite = \"/store/{rest}\"",
            "id = \"prefix-rest\"\npath_prefix = \"/old\"\nrewrite = \"/new/{rest}\"",
            "id = \"named\"\npath_regex = \"^/v(?P<v>[0-9]+)/(?P<r>.*)$\"\nrewrite = \"/{r}/{v}\"",
            "id = \"keep\"\npath = \"/keep/{x}\"",
        ],
    );
    let mut client = proxy.connect();
    for (sent, forwarded) in [
        ("/api/users/7", "/7"),
        ("/api/users/7?a=b", "/7?a=b"),
        ("/health", "/"),
        ("/health?x", "/?x"),
        ("/app", "/"),
        ("/app/", "/"),
        ("/app/x/y?z", "/x/y?z"),
        ("/people/a%20b", "/v2/a%20b/profile"),
        ("/people/7?q=1", "/v2/7/profile?q=1"),
        ("/files/a/b.txt", "/store/a/b.txt"),
        ("/old/x/y", "/new/x/y"),
        ("/v3/a/b", "/a/b/3"),
        ("/keep/%7ex", "/keep/~x"),
        ("/keep//a", "/keep/a"),
        ("/keep//../a", "/keep/a"),
        ("//../keep/a", "/keep/a"),
    ] {
        assert_eq!(client.fetch(sent).text(), format!("GET {forwarded}"), "{sent}");
    }
}

#[test]
fn host_header_and_listeners() {
    let origin = Origin::echo();
    let proxy = start(
        &origin,
        &[
            "id = \"keep\"\npath = \"/keep\"",
            "id = \"upstream\"\npath = \"/upstream\"\nhost_header = \"upstream\"",
            "id = \"literal\"\npath = \"/literal\"\nhost_header = \"inner.test:81\"",
            "id = \"inner\"\npath_prefix = \"/inner\"\nlisteners = [\"inner\"]",
        ],
    );
    let mut client = proxy.connect();
    let authority = origin.address.to_string();
    for (path, host) in
        [("/keep", "a.test"), ("/upstream", authority.as_str()), ("/literal", "inner.test:81")]
    {
        assert_eq!(client.fetch(path).status(), 200);
        let seen = origin.seen();
        assert_eq!(seen[seen.len() - 1].head.get("host"), Some(host), "{path}");
        assert_eq!(seen[seen.len() - 1].head.get("x-forwarded-host"), Some("a.test"), "{path}");
    }
    assert_eq!(client.fetch("/inner").status(), 404, "not on this listener");
    let mut inner = proxy.connect2();
    assert_eq!(inner.fetch("/inner").text(), "GET /inner");
    assert_eq!(inner.fetch("/inner//x").text(), "GET /inner//x", "merge_slashes = false");
    assert_eq!(inner.fetch("/keep").text(), "GET /keep", "routes without listeners are on all");
}

#[test]
fn a_hundred_routes_of_one_kind() {
    let origin = Origin::echo();
    let routes: Vec<String> =
        (0..100).map(|number| format!("id = \"r{number}\"\npath = \"/r{number}/{{x}}\"")).collect();
    let texts: Vec<&str> = routes.iter().map(String::as_str).collect();
    let proxy = start(&origin, &texts);
    let mut client = proxy.connect();
    for number in 0..100 {
        let path = format!("/r{number}/x");
        assert_eq!(client.fetch(&path).text(), format!("GET {path}"));
    }
    let log = proxy.access_log(100);
    for (number, line) in log.iter().enumerate() {
        assert_eq!(line["route"], format!("r{number}"));
    }
}
