//! A second endpoint for requests that take long: who speaks first answers, and only once.

use std::time::{Duration, Instant};

use crate::support::{Conf, Origin, PATIENCE, Ringway, Step, eventually, origin::reply};

/// Answers with its name and the path; before that where the path has `slow` in it, `pause`.
fn origin(name: &'static str, slow: &'static str, pause: Step) -> Origin {
    Origin::auto(move |seen| {
        let path = seen.head.word(1);
        let answer = Step::Send(reply(200, &format!("{name} {path}")));
        match path.contains(slow) {
            true => vec![pause.clone(), answer],
            false => vec![answer],
        }
    })
}

fn proxy(origins: &[&Origin], after: &str, more: &str) -> Ringway {
    let addresses: Vec<_> = origins.iter().map(|one| one.address).collect();
    let hedge = format!("hedge = {{ after = \"{after}\" }}");
    Ringway::start(&Conf::to_all(&addresses).one_core().route(&hedge).more(more))
}

#[test]
fn who_is_slow_is_passed_over_and_not_blamed() {
    let (slow, quick) = (origin("slow", "/", Step::Hang), origin("quick", "never", Step::Hang));
    let passive = "[upstream.passive]\nconsecutive_errors = 1\neject_for = \"60s\"";
    let proxy = proxy(&[&slow, &quick], "20ms", passive);
    let begin = Instant::now();
    let mut client = proxy.connect();
    for number in 0..6 {
        assert_eq!(client.fetch(&format!("/{number}")).text(), format!("quick /{number}"));
    }
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let hedged = || proxy.metric("ringway_hedged_total", "answered=\"second\"");
    assert_eq!(hedged(), 6.0, "in turn: a second try takes the turn of the quick one");
    assert_eq!(proxy.metric("ringway_endpoints_ejected", ""), 0.0);
    eventually("the counts of a tick", PATIENCE, || {
        let of = |name: &str, one: &Origin| proxy.metric(name, &one.address.to_string());
        let left = of("ringway_endpoint_requests_in_flight", &slow);
        let errors = of("ringway_endpoint_errors_total", &slow);
        let second = of("ringway_endpoint_retries_total", &quick);
        (left == 0.0 && errors == 0.0 && second == 6.0).then_some(())
    });
    // What may change something is sent once, however long it takes.
    let mut hanging = proxy.connect();
    hanging.post("/post", b"");
    slow.wait_seen(7);
    for path in ["/direct", "/hedged"] {
        assert_eq!(client.fetch(path).text(), format!("quick {path}"));
    }
    assert_eq!(hedged(), 7.0);
    assert_eq!((slow.seen_count(), quick.seen_count()), (8, 8));
}

#[test]
fn each_is_answered_once_and_by_its_own_answer() {
    let pause = Step::Pause(Duration::from_millis(4));
    let (one, two) = (origin("one", "7", pause.clone()), origin("two", "3", pause));
    let proxy = proxy(&[&one, &two], "2ms", "");
    std::thread::scope(|scope| {
        for client in 0..4 {
            let proxy = &proxy;
            scope.spawn(move || {
                let mut connection = proxy.connect();
                for number in 0..60 {
                    let path = format!("/{client}/{number}");
                    let text = connection.fetch(&path).text();
                    assert!(text.ends_with(&format!(" {path}")), "{path}: {text}");
                }
            });
        }
    });
    assert!(proxy.metric("ringway_hedged_total", "") > 0.0);
    let all = || proxy.metric("http_requests_total", "");
    eventually("the last ones to be counted", PATIENCE, || (all() == 240.0).then_some(()));
}

/// When everything is slow, second requests would make it slower: the budget allows few.
#[test]
fn the_budget_bounds_second_requests() {
    let pause = Step::Pause(Duration::from_millis(40));
    let (one, two) = (origin("one", "/", pause.clone()), origin("two", "/", pause));
    let proxy = proxy(&[&one, &two], "2ms", "");
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = proxy.connect();
                (0..8).for_each(|_| assert_eq!(client.fetch("/").status(), 200));
            });
        }
    });
    let sent = one.seen_count() + two.seen_count();
    let free = 10.0 + 10.0 * begin.elapsed().as_secs_f64();
    assert!((sent as f64) <= 64.0 * 1.2 + free, "{sent} were sent for 64");
    assert!(proxy.metric("ringway_retries_denied_total", "") > 0.0);
}

/// Of an upstream that is quick for most, a quantile is learned by itself.
#[test]
fn a_quantile_is_learned() {
    let (one, two) = (origin("one", "slow", Step::Hang), origin("two", "never", Step::Hang));
    let proxy = proxy(&[&one, &two], "p90", "");
    let mut client = proxy.connect();
    (0..40).for_each(|_| assert_eq!(client.fetch("/quick").status(), 200));
    for _ in 0..2 {
        assert_eq!(client.fetch("/slow").text(), "two /slow");
    }
    assert!(proxy.metric("ringway_hedged_total", "answered=\"second\"") >= 1.0);
}

/// The rules change while two endpoints are asked that the new ones do not have: one of them still
/// answers, the other is let go of, and what comes next obeys the new rules.
#[test]
fn the_rules_change_while_two_are_asked() {
    let (one, two, third) = (Origin::start(), Origin::start(), Origin::echo());
    let proxy = proxy(&[&one, &two], "5ms", "");
    let mut client = proxy.connect();
    client.get("/");
    let (first, second) = (one.next_request(), two.next_request());
    proxy.reload(&Conf::to(third.address).one_core().text()).wait_until_applied_on_all_cores();
    second.reply(200, "second");
    assert_eq!(client.response().text(), "second");
    assert_eq!(client.fetch("/next").text(), "GET /next");
    drop(first);
    assert_eq!(proxy.stop().access_log.len(), 2, "each request is logged exactly once");
}

/// The second is another one, also where the strategy would give the same one again.
#[test]
fn a_key_does_not_bring_both_to_one_endpoint() {
    let (one, two) = (Origin::start(), Origin::start());
    let conf = Conf::to_all(&[one.address, two.address]).route("hedge = { after = \"5ms\" }");
    let proxy = Ringway::start(&conf.one_core().upstream("strategy = \"consistent-hash\""));
    let mut client = proxy.connect();
    client.get("/");
    let (first, second) = (one.next_request(), two.next_request());
    first.reply(200, "first");
    assert_eq!(client.response().text(), "first");
    drop(second);
}
