//! Rollouts with real versions: a bad one goes back, a good one gets through, orders are obeyed, and
//! what was reached survives a reload, a restart and a takeover.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use serde_json::{Value, json};

use crate::support::{
    Client, Origin, PATIENCE, Ringway, Step, eventually,
    frames::{Http2, block_on},
    origin::reply,
    process::signal,
    wire::Message,
};

/// A version that fails each n-th request; 0 for none.
fn version(fails: &Arc<AtomicUsize>) -> Origin {
    let (fails, count) = (Arc::clone(fails), AtomicUsize::new(0));
    Origin::auto(move |_| {
        let is_failed = match fails.load(SeqCst) {
            0 => false,
            each => count.fetch_add(1, SeqCst) % each == each - 1,
        };
        vec![Step::Send(reply(if is_failed { 500 } else { 200 }, "x"))]
    })
}

fn never() -> Arc<AtomicUsize> {
    Arc::default()
}

/// A rollout between two versions with these keys; what it comes to is kept in `directory`, if there is one.
fn text(versions: [&Origin; 2], directory: Option<&Path>, keys: &str) -> String {
    let kept = directory.map(|path| format!("state_dir = \"{}\"\n", path.display()));
    let upstream = |(name, origin): (&str, &Origin)| {
        format!("[[upstream]]\nname = \"{name}\"\nendpoints = [\"http://{}\"]\n", origin.address)
    };
    let upstreams: String = ["v1", "v2"].into_iter().zip(versions).map(upstream).collect();
    format!(
        "[runtime]\npin = false\n[admin]\naddress = \"{{admin}}\"\n{}[[listener]]\n\
         name = \"edge\"\naddress = \"{{listen}}\"\n[[route]]\nid = \"all\"\nupstream = \"v1\"\n\
         [[rollout]]\nname = \"r\"\nroute = \"all\"\nfrom = \"v1\"\nto = \"v2\"\n{keys}\n{upstreams}",
        kept.unwrap_or_default()
    )
}

/// Short stages; a latency is no reason on a busy machine.
const QUICK: &str = "stage_time = \"100ms\"\nstage_requests = 20\nlatency_margin = \"10000%\"\n\
                     latency_floor = \"10s\"\nwindow = \"1s\"";

fn state(proxy: &Ringway) -> Value {
    let answer = proxy.admin("/v1/rollouts/r");
    serde_json::from_str(&answer.text()).unwrap_or_else(|_| panic!("{}", answer.text()))
}

fn wait_for(proxy: &Ringway, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(what, PATIENCE, || Some(state(proxy)).filter(&holds))
}

fn order(proxy: &Ringway, word: &str) -> Message {
    let mut client = Client::connect(proxy.admin);
    client.send(format!(
        "POST /v1/rollouts/r/{word} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: 2\r\n\r\n{{}}",
        proxy.admin
    ));
    client.response()
}

/// Four clients that ask until the rollout has ended; how it ended, how many requests there were, and
/// how many failed.
fn play(proxy: &Ringway) -> (Value, usize, usize) {
    let (is_over, done, failed) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let ask = || {
        let mut client = proxy.connect();
        while !is_over.load(SeqCst) {
            let is_failed = client.fetch("/").status() != 200;
            done.fetch_add(1, SeqCst);
            failed.fetch_add(usize::from(is_failed), SeqCst);
        }
    };
    let end = std::thread::scope(|scope| {
        (0..4).for_each(|_| drop(scope.spawn(ask)));
        let end = wait_for(proxy, "the end of the rollout", |state| state["state"] != "running");
        is_over.store(true, SeqCst);
        end
    });
    (end, done.into_inner(), failed.into_inner())
}

#[test]
fn a_bad_version_is_rolled_back_before_two_percent_of_all_have_failed() {
    let directory = tempfile::tempdir().expect("a directory");
    let (good, bad) = (version(&never()), version(&Arc::new(AtomicUsize::new(20))));
    let keys = QUICK.replace("stage_requests = 20", "stage_requests = 200");
    let proxy = Ringway::start_text(&text([&good, &bad], Some(directory.path()), &keys));
    let (end, done, failed) = play(&proxy);
    assert_eq!((&end["state"], &end["share"]), (&json!("rolled_back"), &json!(0.0)), "{end}");
    assert!(end["why"].as_str().is_some_and(|why| why.contains("with the old version")), "{end}");
    assert!(failed * 50 < done, "{failed} of {done} failed");
    let seen = bad.seen_count();
    (0..40).for_each(|_| assert_eq!(proxy.connect().fetch("/").status(), 200));
    assert_eq!(bad.seen_count(), seen, "it gets nothing");
    proxy.wait_for_line("rollout `r`: rolled back at stage 1");
    assert_eq!(proxy.metric("ringway_rollout_rollbacks_total", "r"), 1.0);
    assert_eq!(proxy.status()["rollouts"][0]["state"], "rolled_back");
    assert_eq!(order(&proxy, "pause").status(), 409);
    // Begun anew it runs again.
    assert_eq!(order(&proxy, "resume").status(), 200);
    assert_eq!(state(&proxy)["state"], "running");
}

/// gRPC calls fail inside a response with status 200, in its trailers or, without a body, in its head.
#[test]
fn a_version_whose_calls_fail_is_rolled_back() {
    let answers = |status: u8| {
        Origin::auto(move |seen| {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n";
            let rest = match seen.head.word(1) {
                "/t/Trailers" => {
                    format!("transfer-encoding: chunked\r\n\r\n0\r\ngrpc-status: {status}\r\n\r\n")
                }
                _ => format!("content-length: 0\r\ngrpc-status: {status}\r\n\r\n"),
            };
            vec![Step::Send(format!("{head}{rest}").into_bytes())]
        })
    };
    let (good, bad) = (answers(0), answers(13));
    for path in ["/t/Trailers", "/t/Head"] {
        let directory = tempfile::tempdir().expect("a directory");
        let keys = format!("{QUICK}\nstages = [\"50%\", \"100%\"]");
        let text = text([&good, &bad], Some(directory.path()), &keys);
        let listener = "http = [\"h1\", \"h2\"]\n[[route]]";
        let proxy = Ringway::start_text(&text.replacen("[[route]]", listener, 1));
        let end = block_on(async {
            let client = Http2::connect(proxy.address()).await;
            loop {
                for _ in 0..40 {
                    let call = http::Request::post(format!("http://a.test{path}"))
                        .header("content-type", "application/grpc")
                        .body(())
                        .expect("a request");
                    let answer = client.request(call, Some("\0\0\0\0\0".into()), None).await;
                    assert_eq!(answer.expect("an answer").status, 200);
                }
                let state = state(&proxy);
                if state["state"] != "running" {
                    break state;
                }
            }
        });
        assert_eq!(end["state"], "rolled_back", "{path}: {end}");
    }
}

#[test]
fn a_good_version_reaches_all_by_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    let versions = [version(&never()), version(&never())];
    let proxy =
        Ringway::start_text(&text([&versions[0], &versions[1]], Some(directory.path()), QUICK));
    let (end, _, failed) = play(&proxy);
    assert_eq!((&end["state"], &end["share"]), (&json!("done"), &json!(1.0)), "{end}");
    assert_eq!(failed, 0);
    let seen = versions[0].seen_count();
    (0..40).for_each(|_| assert_eq!(proxy.connect().fetch("/").status(), 200));
    assert_eq!(versions[0].seen_count(), seen, "all go to the new version");
    for stage in 1..=4 {
        proxy.wait_for_line(&format!("rollout `r`: stage {stage} of 4"));
    }
    assert_eq!(proxy.metric("ringway_rollout_promotions_total", "r"), 4.0);
    // Somebody changes his mind.
    assert_eq!(order(&proxy, "abort").status(), 200);
    assert_eq!(state(&proxy)["why"], "aborted through the admin API");
}

#[test]
fn orders_are_obeyed_and_survive_reload_and_takeover() {
    let versions = [version(&never()), version(&never())];
    let text = text([&versions[0], &versions[1]], None, "stage_time = \"1h\"");
    let at = |state: &Value| (state["state"].clone(), state["stage"].clone());
    let proxy = Ringway::start_text(&text);
    assert_eq!(at(&state(&proxy)), (json!("running"), json!(1)));
    assert_eq!(order(&proxy, "promote").status(), 200);
    assert_eq!(order(&proxy, "pause").status(), 200);
    assert_eq!(order(&proxy, "pause").status(), 409);
    assert_eq!(order(&proxy, "fly").status(), 404);
    let paused = (json!("paused"), json!(2));
    assert_eq!(at(&state(&proxy)), paused);
    let share = || proxy.metric("ringway_split_share_ratio", "upstream=\"v2\"");
    assert!((share() - 0.25).abs() < 1e-6, "{}", share());
    // Rules that leave it alone.
    proxy
        .reload(&text.replace("upstream = \"v1\"", "upstream = \"v1\"\ntimeout = \"9s\""))
        .wait_until_applied_on_all_cores();
    assert_eq!(at(&state(&proxy)), paused);
    assert!((share() - 0.25).abs() < 1e-6, "{}", share());
    // A successor goes on from there.
    let before = proxy.pid_now();
    signal(before, "USR2");
    eventually("the successor", PATIENCE, || (proxy.try_pid_now()?.0 != before).then_some(()));
    let state_now = wait_for(&proxy, "the successor's answer", |state| state["name"] == "r");
    assert_eq!(at(&state_now), paused);
    assert!((share() - 0.25).abs() < 1e-6, "{}", share());
    // Another definition is another rollout.
    proxy.replace(&text.replace("1h", "2h")).wait_until_applied_on_all_cores();
    let anew = (json!("running"), json!(1));
    wait_for(&proxy, "a rollout from its first stage", |state| at(state) == anew);
    proxy.wait_for_line("it says something else now, and begins anew");
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    let versions = [version(&never()), version(&never())];
    let text = text([&versions[0], &versions[1]], Some(directory.path()), "stage_time = \"1h\"");
    let proxy = Ringway::start_text(&text);
    for _ in 0..2 {
        assert_eq!(order(&proxy, "promote").status(), 200);
    }
    eventually("the state to be kept", PATIENCE, || {
        let kept = std::fs::read_to_string(directory.path().join("rollouts.json")).ok()?;
        kept.contains("\"stage\": 2").then_some(())
    });
    drop(proxy); // killed
    let proxy = Ringway::start_text(&text);
    let state = state(&proxy);
    assert_eq!((&state["state"], &state["stage"]), (&json!("running"), &json!(3)), "{state}");
    for _ in 0..10 {
        let mut client = proxy.connect();
        (0..10).for_each(|_| assert_eq!(client.fetch("/").status(), 200));
    }
    let new = versions[1].seen_count();
    assert!((45..=55).contains(&new), "{new} of 100 at 50 %");
}
