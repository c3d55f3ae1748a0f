//! New rules take effect between two requests; refused ones change nothing; what did not change goes on.
//! By SIGHUP and by the watch. Listeners: `listeners.rs`; what can go wrong: `faults.rs`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::support::{
    Client, Conf, Load, Origin, PATIENCE, Random, Ringway, eventually, load::Ask,
    origin::OriginRequest, process::signal, wire::Message,
};

fn route_to(origin: &Origin) -> Conf {
    Conf::to(origin.address)
}

/// A request in flight ends under the rules it began with; the next one on the same connection gets
/// the new rules.
#[test]
fn reload_takes_effect_between_two_requests_of_one_connection() {
    let (blue, green) = (Origin::start(), Origin::start());
    let proxy = Ringway::start(&route_to(&blue));
    let mut client = proxy.connect();
    client.get("/");
    let request = blue.next_request(); // arrived, not answered: now it is in flight
    proxy.reload(&route_to(&green).text()).wait_until_applied_on_all_cores();
    request.reply(200, "blue");
    assert_eq!(client.response().text(), "blue");
    client.get("/");
    green.next_request().reply(200, "green");
    assert_eq!(client.response().text(), "green");
    assert_eq!(proxy.stop().access_log.len(), 2, "each request is logged exactly once");
}

#[test]
fn a_refused_change_leaves_the_old_rules_and_says_why() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&route_to(&origin).one_core());
    let before = proxy.versions();
    proxy.reload(
        "[[listener]]\nname = \"edge\"\naddress = \"{listen}\"\n[[route]]\nupstraem = \"x\"\n",
    );
    proxy.wait_for_line("upstraem");
    eventually("the error in /v1/status", Duration::from_secs(15), || {
        proxy.status().to_string().contains("upstraem").then_some(())
    });
    assert_eq!(proxy.versions(), before);
    assert_eq!(proxy.connect().fetch("/still").text(), "GET /still");
    proxy.reload(&route_to(&origin).one_core().text()).wait_until_applied_on_all_cores();
    assert_eq!(proxy.connect().fetch("/fixed").text(), "GET /fixed");
}

#[test]
fn no_request_is_lost_while_rules_change() {
    let (blue, green) = (Origin::echo(), Origin::echo());
    let proxy = Ringway::start(&route_to(&blue));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = proxy.connect();
                    for number in 0..400 {
                        let path = format!("/{number}");
                        assert_eq!(client.fetch(&path).text(), format!("GET {path}"));
                    }
                })
            })
            .collect();
        for round in 0..10 {
            let to = if round % 2 == 0 { &green } else { &blue };
            proxy.reload(&route_to(to).text()).wait_until_applied_on_all_cores();
        }
        for client in clients {
            client.join().expect("each request is answered");
        }
    });
    assert_eq!(blue.seen_count() + green.seen_count(), 1600, "each exactly once");
}

/// Log rotation: the file is moved away, SIGHUP makes a new one.
#[test]
fn the_access_log_is_reopened() {
    let origin = Origin::echo();
    let directory = tempfile::tempdir().expect("a directory");
    let (log, old) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
    let section = format!("[log]\naccess = \"{}\"", log.display());
    let proxy = Ringway::start(&route_to(&origin).one_core().more(&section));
    assert_eq!(proxy.connect().fetch("/one").status(), 200);
    eventually("the first line", Duration::from_secs(15), || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("/one")).then_some(())
    });
    std::fs::rename(&log, &old).expect("rename");
    signal(proxy.pid(), "HUP");
    eventually("a new file", Duration::from_secs(15), || log.exists().then_some(()));
    // What is on its way meanwhile may still go to the old file.
    eventually("a line in the new file", Duration::from_secs(15), || {
        assert_eq!(proxy.connect().fetch("/two").status(), 200);
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("/two")).then_some(())
    });
    assert_eq!(proxy.connect().fetch("/three").status(), 200);
    eventually("the third line", Duration::from_secs(15), || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("/three")).then_some(())
    });
    assert!(!std::fs::read_to_string(&old).expect("the old file").contains("/three"));
}

const ROUTES: u64 = 10_000;

/// Of 10,000 routes each hundredth changes where it leads to: to `/GENERATION/ID`.
fn generations(round: u64, to: &Origin) -> String {
    let mut text = Conf::to(to.address).route("path = \"/never\"").text();
    text += "\n[log]\naccess = \"off\"\n";
    for id in 0..ROUTES {
        let generation = generation(id, round);
        text += &format!(
            "[[route]]\nid = \"r{id}\"\npath = \"/r{id}\"\nrewrite = \"/{generation}/{id}\"\n\
             upstream = \"origin\"\n"
        );
    }
    text
}

/// The last round up to `round` that changed a route.
fn generation(id: u64, round: u64) -> u64 {
    (0..100).map(|back| round.saturating_sub(back)).find(|at| at % 100 == id % 100).unwrap_or(0)
}

/// Knows which generations a route may have while rounds begin and end.
#[derive(Default)]
struct Rounds {
    begun: AtomicU64,
    applied: AtomicU64,
}

struct AskRounds(Arc<Rounds>);

impl Ask for AskRounds {
    type Sent = (u64, u64);

    fn path(&self, random: &mut Random) -> (String, Self::Sent) {
        // Mostly routes that are about to change.
        let applied = self.0.applied.load(SeqCst);
        let id = match random.below(3) {
            0 => random.below(ROUTES as usize) as u64,
            near => 100 * random.below(100) as u64 + (applied + near as u64 - 1) % 100,
        };
        (format!("/r{id}"), (id, applied))
    }

    fn check(&self, path: &str, (id, applied): Self::Sent, answer: &Message) -> Result<(), String> {
        let begun = self.0.begun.load(SeqCst);
        let text = answer.text();
        let ok = (applied..=begun).any(|at| text == format!("GET /{}/{id}", generation(id, at)));
        match ok {
            true => Ok(()),
            false => Err(format!("{path} in rounds {applied}..={begun} went to {text}")),
        }
    }
}

/// 1 % of 10,000 routes change again and again under load: each answer is that of a version that may
/// be in force, none fails, no version comes back.
#[test]
fn many_changes_of_many_routes() {
    let origin = Origin::echo();
    let proxy = Ringway::start_text(&generations(0, &origin));
    let rounds = Arc::new(Rounds::default());
    let load = Load::start(proxy.address(), 4, AskRounds(Arc::clone(&rounds)));
    for round in 1..=12 {
        rounds.begun.store(round, SeqCst);
        proxy.replace(&generations(round, &origin)).wait_until_applied_on_all_cores();
        rounds.applied.store(round, SeqCst);
        let before = load.done();
        eventually("requests under these rules", PATIENCE, || {
            (load.done() > before + 20).then_some(())
        });
    }
    let requests = load.stop();
    assert!(requests > 240, "{requests}");
}

const ASK: &str =
    "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const YES: &str =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

fn tunnel(proxy: &Ringway, origin: &Origin) -> (Client, OriginRequest) {
    let mut client = proxy.connect();
    client.send(ASK);
    let mut request = origin.next_request();
    request.send(YES);
    assert_eq!(client.response().status(), 101);
    (client, request)
}

fn chat(client: &mut Client, endpoint: &mut OriginRequest) {
    client.send("ping");
    assert_eq!(endpoint.wire().read_bytes(4).0, b"ping");
    endpoint.send("pong");
    assert_eq!(client.read_bytes(4).0, b"pong");
}

/// A WebSocket lives through changes of everything but its own route and endpoint.
#[test]
fn a_websocket_of_an_unchanged_route_stays() {
    let (origin, other) = (Origin::start(), Origin::echo());
    let rules = |more: &str| Conf::to(origin.address).one_core().more(more).text();
    let proxy = Ringway::start_text(&rules(""));
    let (mut client, mut endpoint) = tunnel(&proxy, &origin);
    for round in 0..20 {
        let name = format!("x{round}");
        let more = format!(
            "[[route]]\nid = \"{name}\"\npath = \"/{name}\"\nupstream = \"{name}\"\n\
             [[upstream]]\nname = \"{name}\"\nendpoints = [\"http://{}\"]\n",
            other.address
        );
        proxy.replace(&rules(&more)).wait_until_applied_on_all_cores();
        chat(&mut client, &mut endpoint);
        let answer = proxy.connect().fetch(&format!("/{name}"));
        assert_eq!(answer.text(), format!("GET /{name}"));
    }
}

/// Two hundred changes of other routes, as fast as they come: a WebSocket and a kept connection notice
/// nothing, and each answer is one of rules that were there.
#[test]
fn two_hundred_changes_close_nothing() {
    let (origin, other) = (Origin::start(), Origin::echo());
    let rules = |round: u64| {
        let mut more =
            format!("[[upstream]]\nname = \"other\"\nendpoints = [\"http://{}\"]\n", other.address);
        for route in 0..100 {
            let changed = if round < route { 0 } else { round - (round - route) % 100 };
            more += &format!(
                "[[route]]\nid = \"r{route}\"\npath = \"/r{route}\"\nupstream = \"other\"\n\
                 rewrite = \"/{changed}/{route}\"\n"
            );
        }
        Conf::to(origin.address).one_core().more(&more).text()
    };
    let proxy = Ringway::start_text(&rules(0));
    let (mut client, mut endpoint) = tunnel(&proxy, &origin);
    let mut kept = proxy.connect();
    for round in 1..=200 {
        let reload = proxy.replace(&rules(round));
        if round % 20 == 0 {
            reload.wait_until_applied_on_all_cores();
            chat(&mut client, &mut endpoint);
        }
        let answer = kept.fetch("/r7");
        assert!(answer.text().ends_with("/7"), "{}", answer.text());
    }
    chat(&mut client, &mut endpoint);
}

/// The WebSocket of a route that is gone, or of an endpoint that is gone, has `drain_timeout`.
#[test]
fn a_websocket_of_a_removed_route_has_a_deadline() {
    let (origin, other) = (Origin::start(), Origin::echo());
    let rules = |id: &str, to: &Origin| {
        let text = Conf::to(to.address).one_core().runtime("drain_timeout = \"600ms\"").text();
        text.replace("id = \"all\"", &format!("id = \"{id}\""))
    };
    let proxy = Ringway::start_text(&rules("first", &origin));
    let (mut client, mut endpoint) = tunnel(&proxy, &origin);
    proxy.replace(&rules("second", &origin)).wait_until_applied_on_all_cores();
    chat(&mut client, &mut endpoint);
    client.assert_closes_within(Duration::from_secs(3));

    let (mut client, mut endpoint) = tunnel(&proxy, &origin);
    proxy.replace(&rules("second", &other)).wait_until_applied_on_all_cores();
    chat(&mut client, &mut endpoint);
    client.assert_closes_within(Duration::from_secs(3));
}

/// Idle connections to endpoints that stay are used on; those to endpoints that go are closed at once.
#[test]
fn pools_are_carried_over() {
    let (blue, green) = (Origin::echo(), Origin::echo());
    let rules = |id: &str, to: &Origin| {
        let text = Conf::to(to.address).one_core().text();
        text.replace("id = \"all\"", &format!("id = \"{id}\""))
    };
    let proxy = Ringway::start_text(&rules("a", &blue));
    for round in 0..5 {
        assert_eq!(proxy.connect().fetch("/x").status(), 200);
        proxy.replace(&rules(&format!("b{round}"), &blue)).wait_until_applied_on_all_cores();
    }
    assert_eq!((blue.connections(), blue.open()), (1, 1), "one connection for all versions");
    proxy.replace(&rules("c", &green)).wait_until_applied_on_all_cores();
    eventually("the idle connection to close", PATIENCE, || (blue.open() == 0).then_some(()));
    assert_eq!(proxy.metric("ringway_pool_idle_connections", ""), 0.0);
    assert_eq!(proxy.connect().fetch("/x").status(), 200);
    assert_eq!(green.connections(), 1);
}

/// A thousand changes later the process is as large as after the first hundred.
#[test]
fn changes_leave_nothing_behind() {
    let origin = Origin::echo();
    let rules = |round: u32| {
        let mut conf = Conf::to(origin.address).one_core();
        for id in 0..50 {
            conf = conf.more(&format!(
                "[[route]]\nid = \"r{round}-{id}\"\npath = \"/{id}\"\nupstream = \"u{round}-{id}\"\n\
                 [[upstream]]\nname = \"u{round}-{id}\"\nendpoints = [\"http://127.0.0.1:{}\"]\n",
                1 + (round * 50 + id) % 60_000
            ));
        }
        conf.text()
    };
    let proxy = Ringway::start_text(&rules(0));
    let mut sizes = Vec::new();
    for round in 1..=200 {
        proxy.replace(&rules(round)).wait_until_applied_on_all_cores();
        if round % 100 == 0 {
            let fds = crate::support::process::fd_count(proxy.pid());
            sizes.push((crate::support::process::private_memory(proxy.pid()), fds));
        }
    }
    let [(first, first_fds), (last, last_fds)] = sizes[..] else { panic!("{sizes:?}") };
    assert!(last <= first + first / 5 + 1_000_000, "{first} -> {last} bytes");
    assert!(last_fds <= first_fds + 4, "{first_fds} -> {last_fds} descriptors");
}
