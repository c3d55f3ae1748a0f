//! Strategies as clients and endpoints see them: real upstreams, several cores.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::support::{
    Client, Conf, Origin, PATIENCE, Ringway, Step, eventually, origin::reply, skipped,
};

/// One listener, one route, and an upstream with these endpoints (tables without their braces) and
/// further keys.
fn text(upstream: &str, endpoints: &[String]) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|one| format!("{{ {one} }}")).collect();
    format!(
        "[runtime]\npin = false\n[[listener]]\nname = \"edge\"\naddress = \"{{listen}}\"\n\
         [[route]]\nid = \"all\"\nupstream = \"o\"\n[[upstream]]\nname = \"o\"\n{upstream}\n\
         endpoints = [{}]\n",
        endpoints.join(", ")
    )
}

fn urls(origins: &[Origin]) -> Vec<String> {
    origins.iter().map(|origin| format!("url = \"http://{}\"", origin.address)).collect()
}

fn echoes(count: usize) -> Vec<Origin> {
    (0..count).map(|_| Origin::echo()).collect()
}

/// An origin that answers this much later, and `/health` at once with this status.
fn origin(status: &Arc<AtomicU16>, delay: Duration) -> Origin {
    let status = Arc::clone(status);
    Origin::auto(move |seen| match seen.head.word(1) {
        "/health" => vec![Step::Send(reply(status.load(SeqCst), ""))],
        _ => vec![Step::Pause(delay), Step::Send(reply(200, "x"))],
    })
}

/// Requests of clients that each origin has seen.
fn served(origins: &[Origin]) -> Vec<usize> {
    let is_check = |seen: &crate::support::origin::Seen| seen.head.word(1) == "/health";
    origins.iter().map(|one| one.count(|seen| !is_check(seen))).collect()
}

/// Sends requests over new connections, ten over each, so that all cores serve some.
fn ask(proxy: &Ringway, count: usize) {
    for _ in 0..count / 10 {
        let mut client = proxy.connect();
        for _ in 0..10 {
            assert_eq!(client.fetch("/x").status(), 200);
        }
    }
}

fn fetch_with(client: &mut Client, field: &str) -> crate::support::wire::Message {
    client.send(format!("GET /x HTTP/1.1\r\nHost: a.test\r\n{field}\r\n\r\n"));
    client.response()
}

/// Which origin served the next request with this field.
fn served_by(origins: &[Origin], client: &mut Client, field: &str) -> usize {
    let before = served(origins);
    assert_eq!(fetch_with(client, field).status(), 200);
    let after = served(origins);
    (0..origins.len()).find(|one| after[*one] > before[*one]).expect("somebody served it")
}

fn cores(proxy: &Ringway) -> usize {
    proxy.status()["cores"].as_array().expect("cores").len()
}

#[test]
fn shares_follow_the_strategy_on_all_cores() {
    for strategy in ["round-robin", "weighted-round-robin", "random"] {
        let origins = echoes(3);
        let weighted: Vec<String> = urls(&origins)
            .iter()
            .zip([5, 3, 2])
            .map(|(url, w)| format!("{url}, weight = {w}"))
            .collect();
        let proxy = Ringway::start_text(&text(&format!("strategy = \"{strategy}\""), &weighted));
        ask(&proxy, 600);
        let counts = served(&origins);
        let (ideal, cores) = ([300.0, 180.0, 120.0], cores(&proxy) as f64);
        for (count, weighted) in counts.iter().zip(ideal) {
            let (ideal, bound) = match strategy {
                "round-robin" => (200.0, cores),
                "weighted-round-robin" => (weighted, cores * 1.25),
                _ => (weighted, 4.5 * 12.3), // standard deviations of 600 draws
            };
            let error = (*count as f64 - ideal).abs();
            assert!(error <= bound, "{strategy}: {counts:?} on {cores} cores");
        }
    }
}

#[test]
fn least_connections_leaves_a_busy_endpoint_alone() {
    let origins = [Origin::start(), Origin::echo()];
    let proxy = Ringway::start_text(&text("strategy = \"least-connections\"", &urls(&origins)));
    let mut clients: Vec<Client> = (0..40).map(|_| proxy.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.get(&format!("/{n}"));
        // One after the other, so that each is counted before the next.
        eventually("the request to arrive", PATIENCE, || {
            let seen = origins[1].seen_count() + origins[0].open();
            (seen > n).then_some(())
        });
    }
    let busy = origins[0].open();
    assert!(busy <= 2, "{busy} requests for an endpoint that answers none of them");
    assert!(origins[1].seen_count() >= 38);
}

#[test]
fn p2c_sends_little_to_a_slow_endpoint() {
    let up = Arc::new(AtomicU16::new(200));
    let origins: Vec<Origin> = [60, 2, 2].map(|ms| origin(&up, Duration::from_millis(ms))).into();
    let proxy = Ringway::start_text(&text("strategy = \"p2c-ewma\"", &urls(&origins)));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| ask(&proxy, 150));
        }
    });
    let counts = served(&origins);
    assert!(counts[0] < 50, "a quarter of its share: {counts:?}");
    assert!(counts[1].abs_diff(counts[2]) < 150, "{counts:?}");
}

#[test]
fn a_key_stays_where_it_is_when_another_endpoint_leaves() {
    for algorithm in ["ring", "maglev"] {
        let origins = echoes(4);
        let hash = format!(
            "strategy = \"consistent-hash\"\n\
             hash = {{ key = \"header:x-user\", algorithm = \"{algorithm}\" }}"
        );
        let proxy = Ringway::start_text(&text(&hash, &urls(&origins)));
        let users: Vec<String> = (0..40).map(|n| format!("X-User: user-{n}")).collect();
        let where_to = || -> Vec<usize> {
            let on_new_connection = |user: &String| {
                let mut client = proxy.connect();
                served_by(&origins, &mut client, user)
            };
            users.iter().map(on_new_connection).collect()
        };
        let before = where_to();
        assert_eq!(before, where_to(), "{algorithm}: on whichever core");
        for origin in 0..4 {
            assert!(before.contains(&origin), "{algorithm}: {before:?}");
        }
        let mut left = urls(&origins);
        left.remove(2);
        proxy.reload(&text(&hash, &left)).wait_until_applied_on_all_cores();
        let after = where_to();
        assert!(!after.contains(&2));
        let stayed = before.iter().zip(&after).filter(|(before, after)| before == after).count();
        let should = before.iter().filter(|one| **one != 2).count();
        // A Maglev table may move a key or two of the others.
        assert!(stayed + 1 >= should, "{algorithm}: {before:?}, {after:?}");
    }
}

#[test]
fn keys_are_found_wherever_they_may_be() {
    for (key, path, one, other) in [
        ("cookie:sid", "/", "/x HTTP/1.1\r\nCookie: a=b; sid=1", "/x HTTP/1.1\r\nCookie: sid=1"),
        ("query:q", "/", "/x?q=7&r=1 HTTP/1.1", "/y?r=2&q=7 HTTP/1.1"),
        ("path:id", "/users/{id}/{*rest}", "/users/7/a HTTP/1.1", "/users/7/b?x HTTP/1.1"),
        ("ip", "/", "/1 HTTP/1.1", "/2 HTTP/1.1"),
    ] {
        let origins = echoes(5);
        let hash = format!("strategy = \"consistent-hash\"\nhash = {{ key = \"{key}\" }}");
        let path = match path {
            "/" => String::new(),
            path => format!("path = \"{path}\"\n"),
        };
        let text = text(&hash, &urls(&origins))
            .replace("id = \"all\"\n", &format!("id = \"all\"\n{path}"));
        let proxy = Ringway::start_text(&text);
        for n in 0..20 {
            let mut client = proxy.connect();
            let line = if n % 2 == 0 { one } else { other };
            client.send(format!("GET {line}\r\nHost: a.test\r\n\r\n"));
            assert_eq!(client.response().status(), 200);
        }
        let counts = served(&origins);
        assert_eq!(counts.iter().filter(|count| **count > 0).count(), 1, "{key}: {counts:?}");
    }
}

#[test]
fn a_hot_key_spills_over_at_its_bound() {
    let origins: Vec<Origin> = (0..4).map(|_| Origin::start()).collect();
    let hash = "strategy = \"consistent-hash\"\n\
                hash = { key = \"header:x-user\", bounded_load = \"150%\" }";
    let proxy = Ringway::start_text(&text(hash, &urls(&origins)));
    let mut clients: Vec<Client> = (0..24).map(|_| proxy.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send("GET /x HTTP/1.1\r\nHost: a.test\r\nX-User: hot\r\n\r\n");
        eventually("the request to arrive", PATIENCE, || {
            (origins.iter().map(Origin::open).sum::<usize>() > n).then_some(())
        });
    }
    let open: Vec<usize> = origins.iter().map(Origin::open).collect();
    assert!(open.iter().all(|count| *count <= 9), "150 % of 24 / 4: {open:?}");
}

#[test]
fn a_cookie_keeps_a_client_on_its_endpoint_while_that_may_be_picked() {
    let origins = echoes(3);
    let sticky = "sticky = { cookie = \"sid\", ttl = \"1h\" }";
    let proxy = Ringway::start_text(&text(sticky, &urls(&origins)));
    let mut cookies = Vec::new();
    for _ in 0..6 {
        let mut client = proxy.connect();
        let answer = client.fetch("/x");
        let cookie = answer.head.get("set-cookie").expect("a cookie").to_owned();
        assert!(cookie.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"), "{cookie}");
        assert!(!cookie.contains("127.0.0.1"), "the name isn't told: {cookie}");
        let pair = cookie.split(';').next().expect("a value").to_owned();
        let field = format!("Cookie: x=y; {pair}");
        let home = served_by(&origins, &mut client, &field);
        for _ in 0..10 {
            let mut client = proxy.connect();
            let before = origins[home].seen_count();
            let answer = fetch_with(&mut client, &field);
            assert_eq!(origins[home].seen_count(), before + 1);
            assert_eq!(answer.head.get("set-cookie"), None, "it has one");
        }
        cookies.push((field, home));
    }
    let (field, home) = cookies[0].clone();
    let mut endpoints = urls(&origins);
    endpoints[home] += ", enabled = false";
    proxy.reload(&text(sticky, &endpoints)).wait_until_applied_on_all_cores();
    let mut client = proxy.connect();
    let answer = fetch_with(&mut client, &field);
    assert_eq!(answer.status(), 200);
    assert!(answer.head.get("set-cookie").is_some(), "it gets another one");
    let mut client = proxy.connect();
    assert!(fetch_with(&mut client, "Cookie: sid=forged").head.get("set-cookie").is_some());
}

const CHECK: &str = "\n[upstream.health_check]\npath = \"/health\"\ninterval = \"250ms\"\n\
                     fails = 2\npasses = 1\n";

fn wait_for(proxy: &Ringway, endpoint: &Origin, health: &str) {
    let name = endpoint.address.to_string();
    eventually(&format!("{name} to be {health}"), PATIENCE, || {
        let status = proxy.status();
        let all = status["health"]["endpoints"].as_array().expect("endpoints").clone();
        all.iter().any(|one| one["endpoint"] == *name && one["health"] == *health).then_some(())
    });
}

#[test]
fn a_backup_serves_only_while_nobody_else_can() {
    let (up, toggled) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU16::new(200)));
    let origins = [
        origin(&toggled, Duration::ZERO),
        origin(&toggled, Duration::ZERO),
        origin(&up, Duration::ZERO),
    ];
    let mut endpoints = urls(&origins);
    endpoints[1] += ", priority = 1";
    endpoints[2] += ", backup = true";
    let proxy = Ringway::start_text(&(text("", &endpoints) + CHECK));
    ask(&proxy, 30);
    assert_eq!(served(&origins), [30, 0, 0]);
    toggled.store(500, SeqCst);
    wait_for(&proxy, &origins[0], "down");
    wait_for(&proxy, &origins[1], "down");
    ask(&proxy, 30);
    assert_eq!(served(&origins), [30, 0, 30]);
    toggled.store(200, SeqCst);
    wait_for(&proxy, &origins[0], "up");
    ask(&proxy, 30);
    assert_eq!(served(&origins), [60, 0, 30]);
}

#[test]
fn a_backup_serves_a_request_that_nobody_else_took() {
    let (gone, backup) = (Origin::echo(), Origin::echo());
    let endpoints = [
        format!("url = \"http://{}\"", gone.address),
        format!("url = \"http://{}\", backup = true", backup.address),
    ];
    let proxy = Ringway::start_text(&text("", &endpoints));
    gone.kill();
    ask(&proxy, 10);
    assert_eq!(backup.seen_count(), 10);
}

#[test]
fn an_endpoint_that_comes_back_starts_slowly() {
    let (up, toggled) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU16::new(500)));
    let origins = [origin(&up, Duration::ZERO), origin(&toggled, Duration::ZERO)];
    let proxy = Ringway::start_text(&(text("slow_start = \"8s\"", &urls(&origins)) + CHECK));
    wait_for(&proxy, &origins[1], "down");
    toggled.store(200, SeqCst);
    wait_for(&proxy, &origins[1], "up");
    let began = Instant::now();
    let share = || {
        let before = served(&origins);
        ask(&proxy, 100);
        let after = served(&origins);
        (after[1] - before[1]) as f64 / 100.0
    };
    let first = share();
    if began.elapsed() < Duration::from_secs(2) {
        assert!(first < 0.28, "in its first two seconds: {first}"); // 1/4 : 1, as weights
    }
    let is_even = || Some(share()).filter(|share| (0.46..=0.54).contains(share));
    let last = eventually("an even share in the end", Duration::from_secs(60), is_even);
    assert!(first < last);
}

/// Where cores share the endpoints out among them, each has connections to its own.
#[test]
fn each_core_has_connections_to_its_endpoints_only() {
    let origins = [Origin::echo(), Origin::echo(), Origin::echo(), Origin::echo()];
    let addresses = origins.each_ref().map(|origin| origin.address);
    let conf = Conf::to_all(&addresses).pool("endpoints_per_core = 2");
    let proxy = Ringway::start(&conf.runtime("pin = false"));
    if cores(&proxy) != 2 {
        return skipped("endpoints shared out", "it is written for two cores");
    }
    let mut clients: Vec<Client> = (0..6).map(|_| proxy.connect()).collect();
    for _ in 0..10 {
        clients.iter_mut().for_each(|client| assert_eq!(client.fetch("/").status(), 200));
    }
    for origin in &origins {
        assert_eq!(origin.connections(), 1, "one core uses it, for one request at a time");
        assert_eq!(origin.seen_count(), 15);
    }
}

/// `examples/strategy.rs`: a program of its own, which registers a strategy.
#[test]
fn a_strategy_of_a_program_of_its_own_is_used() {
    let built = std::process::Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", "strategy"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.expect("cargo runs").success());
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_ringway")).with_file_name("examples");
    let origins = [Origin::start(), Origin::start(), Origin::start()];
    let proxy = Ringway::start_as(&text("strategy = \"fill-up\"", &urls(&origins)), |config| {
        let mut command = std::process::Command::new(program.join("strategy"));
        command.arg("run").arg("-c").arg(config).stdin(std::process::Stdio::null());
        command
    });
    let mut clients: Vec<Client> = (0..12).map(|_| proxy.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.get("/x");
        eventually("the request to arrive", PATIENCE, || {
            (origins.iter().map(Origin::open).sum::<usize>() > n).then_some(())
        });
    }
    let open: Vec<usize> = origins.iter().map(Origin::open).collect();
    assert_eq!(open, [8, 4, 0], "the first is filled before the second");
}
