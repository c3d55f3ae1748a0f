//! The metrics scrape: reads every core's counters where they are and never makes a core wait.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use crate::{
    base::{
        clock::now_ms,
        limits::{ENDPOINT_SERIES_MAX, SPLIT_SERIES_MAX, UPSTREAM_SERIES_MAX},
        reason::Reason,
    },
    controlplane::{
        export::{endpoints, exposition::Exposition, process},
        rollout,
        series::Series,
        state::{Phase, State},
    },
    policy::{
        breaker,
        overload::{LoadCell, OverloadRule},
        split::WHOLE,
    },
    snapshot::{Route, Snapshot},
    telemetry::{
        CoreStats, RouteStats, TcpStats, UpstreamStats,
        histogram::BOUNDS_MICROS,
        names::{self, Metric, OTHER},
        upstream_stats::{EJECTION_REASONS, Hedged, RETRY_CAUSES, Refuser},
    },
};

/// All metrics of the process, in the text format.
pub fn render(state: &State) -> Vec<u8> {
    let mut out = Exposition::default();
    {
        let rules = state.rules();
        requests(&mut out, state, &rules.series);
        durations(&mut out, state, &rules.series);
        out.single(&names::HTTP_IN_FLIGHT, sum_gauge(state, |core| core.requests_in_flight.get()));
        tcp(&mut out, state, &rules.series);
        answers(&mut out, state);
        upstreams(&mut out, state, &rules.series, &rules.snapshot);
        endpoints::write(&mut out, &rules.snapshot);
    }
    rollouts(&mut out, state);
    mirrors(&mut out, state);
    tls(&mut out, state);
    checks(&mut out, state);
    dns(&mut out, state);
    per_core(&mut out, state);
    control(&mut out, state);
    process_metrics(&mut out, state);
    out.finish()
}

/// Requests by route, method and status, added up over the cores.
fn requests(out: &mut Exposition, state: &State, series: &Series) {
    let metric = &names::HTTP_REQUESTS;
    out.begin(metric);
    let mut counts = BTreeMap::new();
    for (slot, route) in series.routes() {
        let mut other = 0;
        counts.clear();
        for stats in state.cores.iter().filter_map(|core| core.route_if_used(slot)) {
            stats.for_each(|method, status, count| {
                *counts.entry((method, status)).or_insert(0u64) += count;
            });
            other += stats.other();
        }
        for ((method, status), count) in &counts {
            out.sample(metric, &[route, names::method(*method), &status.to_string()], count);
        }
        if other > 0 {
            out.sample(metric, &[route, OTHER, OTHER], other);
        }
    }
}

/// Durations by route, in exact buckets.
fn durations(out: &mut Exposition, state: &State, series: &Series) {
    let metric = &names::HTTP_DURATION;
    out.begin(metric);
    let bounds: Vec<String> = BOUNDS_MICROS.iter().map(|micros| seconds(*micros)).collect();
    for (slot, route) in series.routes() {
        let (mut counts, mut sum, mut used) = ([0; BOUNDS_MICROS.len() + 1], 0, false);
        for stats in state.cores.iter().filter_map(|core| core.route_if_used(slot)) {
            stats.durations().add_bounds_to(&mut counts);
            sum += stats.durations().sum_micros();
            used = true;
        }
        if !used {
            continue;
        }
        let mut cumulated = 0;
        for (bound, count) in bounds.iter().map(String::as_str).chain(["+Inf"]).zip(counts) {
            cumulated += count;
            out.part(metric, "_bucket", &[route], Some(bound), cumulated);
        }
        out.part(metric, "_sum", &[route], None, seconds(sum));
        out.part(metric, "_count", &[route], None, cumulated);
    }
}

/// Connections that were passed through, by route.
fn tcp(out: &mut Exposition, state: &State, series: &Series) {
    type Number = fn(&TcpStats) -> i128;
    let numbers: [(&Metric, Number); 4] = [
        (&names::TCP_CONNECTIONS, |tcp| tcp.connections.get().into()),
        (&names::TCP_OPEN, |tcp| tcp.open.get().into()),
        (&names::TCP_RECEIVED, |tcp| tcp.received.get().into()),
        (&names::TCP_SENT, |tcp| tcp.sent.get().into()),
    ];
    for (metric, number) in numbers {
        out.begin(metric);
        for (slot, route) in series.routes() {
            let cores = state.cores.iter().filter_map(|core| core.route_if_used(slot));
            let used: Vec<&TcpStats> = cores.filter_map(RouteStats::tcp_if_used).collect();
            if !used.is_empty() {
                out.sample(metric, &[route], used.iter().map(|tcp| number(tcp)).sum::<i128>());
            }
        }
    }
}

/// Answers of ringway's own. Every reason has its series from the start, so that an alert on one
/// sees its first occurrence.
fn answers(out: &mut Exposition, state: &State) {
    out.begin(&names::ANSWERS);
    for reason in Reason::ALL {
        let count = state.sum(|core| core.reasons[*reason as usize].get());
        out.sample(&names::ANSWERS, &[reason.code()], count);
    }
}

/// Exchanges by upstream, and what was done about those that failed.
fn upstreams(out: &mut Exposition, state: &State, series: &Series, snapshot: &Snapshot) {
    let used: Vec<Used<'_>> = series
        .upstreams()
        .map(|(slot, name)| Used {
            name,
            cores: state.cores.iter().filter_map(|core| core.upstream_if_used(slot)).collect(),
        })
        .filter(|used| !used.cores.is_empty())
        .collect();
    let metric = &names::UPSTREAM_EXCHANGES;
    out.begin(metric);
    for one in &used {
        out.part(metric, "_sum", &[one.name], None, seconds(one.sum(UpstreamStats::micros)));
        out.part(metric, "_count", &[one.name], None, one.sum(UpstreamStats::exchanges));
    }
    out.begin(&names::UPSTREAM_FAILURES);
    for one in &used {
        out.sample(&names::UPSTREAM_FAILURES, &[one.name], one.sum(UpstreamStats::failures));
    }
    by_word(out, &used, &names::RETRIES, &RETRY_CAUSES, |stats, at| stats.retries[at].get());
    out.begin(&names::RETRIES_DENIED);
    for one in &used {
        let denied = one.sum(|stats| stats.retries_denied.get());
        out.sample(&names::RETRIES_DENIED, &[one.name], denied);
    }
    by_word(out, &used, &names::HEDGED, &Hedged::NAMES, |stats, at| stats.hedged[at].get());
    by_word(out, &used, &names::EJECTIONS, &EJECTION_REASONS, |stats, at| {
        stats.ejections[at].get()
    });
    out.begin(&names::EJECTIONS_DENIED);
    for one in &used {
        let denied = one.sum(|stats| stats.ejections_denied.get());
        out.sample(&names::EJECTIONS_DENIED, &[one.name], denied);
    }
    let guarded = || snapshot.upstreams.iter().filter(|one| one.guards.is_some());
    let guarded = || guarded().take(UPSTREAM_SERIES_MAX);
    out.begin(&names::EJECTED);
    for one in guarded() {
        let now_ms = now_ms();
        let ejected = one.endpoints.iter().filter(|one| one.cell.is_out(now_ms)).count();
        out.sample(&names::EJECTED, &[&one.name], ejected);
    }
    out.begin(&names::BREAKER_OPENED);
    for one in &used {
        let opened = one.sum(|stats| stats.breaker_opened.get());
        out.sample(&names::BREAKER_OPENED, &[one.name], opened);
    }
    out.begin(&names::BREAKERS_OPEN);
    for one in guarded() {
        let endpoints = one.endpoints.iter().map(|endpoint| endpoint.cell.breaker());
        let all = endpoints.chain([one.cell.breaker()]);
        let open = all.filter(|breaker| breaker.state() != breaker::State::Closed).count();
        out.sample(&names::BREAKERS_OPEN, &[&one.name], open);
    }
    by_word(out, &used, &names::SHED, &Refuser::NAMES, |stats, at| stats.refused[at].get());
    loads(out, snapshot);
    connections(out, snapshot);
    splits(out, snapshot);
}

/// The shares in force of routes with a split.
fn splits(out: &mut Exposition, snapshot: &Snapshot) {
    out.begin(&names::SPLIT_SHARE);
    let with_split = |route: &'_ Route| route.extra.as_ref().and_then(|extra| extra.split.clone());
    let splits = snapshot.routes.iter().filter_map(|one| Some((one, with_split(one)?)));
    for (route, split) in splits.take(SPLIT_SERIES_MAX) {
        for (choice, share) in split.choices.iter().zip(split.cell.shares()) {
            let ratio = share as f64 / WHOLE as f64;
            out.sample(&names::SPLIT_SHARE, &[&route.id, &choice.name], ratio);
        }
    }
}

/// What upstreams with a limit have to do.
fn loads(out: &mut Exposition, snapshot: &Snapshot) {
    type Number = fn(&LoadCell, &OverloadRule) -> u32;
    let numbers: [(&Metric, Number); 3] = [
        (&names::LIMITED_IN_FLIGHT, |load, _| load.in_flight()),
        (&names::LIMITED_PENDING, |load, _| load.pending()),
        (&names::REQUEST_LIMIT, |load, rule| load.limit(rule)),
    ];
    for (metric, number) in numbers {
        out.begin(metric);
        for one in snapshot.upstreams.iter().take(UPSTREAM_SERIES_MAX) {
            let rule = one.guards.as_deref().and_then(|guards| guards.overload.as_ref());
            if let Some(rule) = rule {
                out.sample(metric, &[&one.name], number(one.cell.load(), rule));
            }
        }
    }
}

/// Connections of upstreams that limit them.
fn connections(out: &mut Exposition, snapshot: &Snapshot) {
    out.begin(&names::LIMITED_CONNECTIONS);
    for one in snapshot.upstreams.iter().take(UPSTREAM_SERIES_MAX) {
        if one.guards.as_deref().is_some_and(|guards| guards.connections_max().is_some()) {
            let open = one.cell.connections().open();
            out.sample(&names::LIMITED_CONNECTIONS, &[&one.name], open);
        }
    }
}

/// Copies of requests, by what became of them.
fn mirrors(out: &mut Exposition, state: &State) {
    type Number = fn(&CoreStats) -> u64;
    let results: [(&str, Number); 4] = [
        ("answered", |c| c.mirrored_answered.get()),
        ("failed", |c| c.mirrored_failed.get()),
        ("full", |c| c.mirrored_full.get()),
        ("unfit", |c| c.mirrored_unfit.get()),
    ];
    out.begin(&names::MIRRORED);
    for (result, number) in results {
        out.sample(&names::MIRRORED, &[result], state.sum(number));
    }
}

/// Rollouts and what they have come to.
fn rollouts(out: &mut Exposition, state: &State) {
    let shown = state.rollouts.shown();
    out.begin(&names::ROLLOUT_STATE);
    for one in &shown {
        for word in rollout::State::ALL {
            let is = u8::from(one.state == word);
            out.sample(&names::ROLLOUT_STATE, &[&one.name, word.word()], is);
        }
    }
    out.begin(&names::ROLLOUT_SHARE);
    for one in &shown {
        out.sample(&names::ROLLOUT_SHARE, &[&one.name], one.share);
    }
    out.begin(&names::ROLLOUT_PROMOTIONS);
    for one in &shown {
        out.sample(&names::ROLLOUT_PROMOTIONS, &[&one.name], one.promoted);
    }
    out.begin(&names::ROLLOUT_ROLLBACKS);
    for one in &shown {
        out.sample(&names::ROLLOUT_ROLLBACKS, &[&one.name], one.rolled_back);
    }
}

/// An upstream and the cores that used it.
struct Used<'a> {
    name: &'a str,
    cores: Vec<&'a UpstreamStats>,
}

impl Used<'_> {
    fn sum(&self, number: impl Fn(&UpstreamStats) -> u64) -> u64 {
        self.cores.iter().map(|stats| number(stats)).sum()
    }
}

/// One sample for each upstream and word.
fn by_word(
    out: &mut Exposition,
    used: &[Used<'_>],
    metric: &Metric,
    words: &[&str],
    number: fn(&UpstreamStats, usize) -> u64,
) {
    out.begin(metric);
    for one in used {
        for (at, word) in words.iter().enumerate() {
            out.sample(metric, &[one.name, word], one.sum(|stats| number(stats, at)));
        }
    }
}

/// What the health checks say of each endpoint.
fn checks(out: &mut Exposition, state: &State) {
    out.begin(&names::ENDPOINT_UP);
    for one in state.checks.shown().iter().take(ENDPOINT_SERIES_MAX) {
        let labels = [&*one.upstream, &*one.endpoint, &one.address.to_string()];
        out.sample(&names::ENDPOINT_UP, &labels, u8::from(one.up));
    }
    let counts = state.checks.counts();
    out.begin(&names::HEALTH_CHECKS);
    out.sample(&names::HEALTH_CHECKS, &["passed"], counts.passed.load(Relaxed));
    out.sample(&names::HEALTH_CHECKS, &["failed"], counts.failed.load(Relaxed));
}

/// How the name servers answer.
fn dns(out: &mut Exposition, state: &State) {
    let names = &state.names;
    out.begin(&names::DNS_QUERIES);
    out.sample(&names::DNS_QUERIES, &["answered"], names.answered.load(Relaxed));
    out.sample(&names::DNS_QUERIES, &["failed"], names.failed.load(Relaxed));
    out.single(&names::DNS_FAILING, names.failing());
}

/// One sample per core of each of its own numbers.
fn per_core(out: &mut Exposition, state: &State) {
    type Number = fn(&CoreStats) -> i128;
    let numbers: &[(&Metric, Number)] = &[
        (&names::UPSTREAM_CONNECTS, |c| c.upstream_connects.get().into()),
        (&names::UPSTREAM_CONNECT_FAILURES, |c| c.upstream_connect_failures.get().into()),
        (&names::UPSTREAM_REUSES, |c| c.upstream_reuses.get().into()),
        (&names::UPSTREAM_RETRIES, |c| c.upstream_retries.get().into()),
        (&names::POOL_IDLE, |c| c.pool_idle.get().into()),
        (&names::POOL_STALE, |c| c.pool_stale.get().into()),
        (&names::CONNECTIONS_ACCEPTED, |c| c.connections_accepted.get().into()),
        (&names::CONNECTIONS_OPEN, |c| c.connections_open.get().into()),
        (&names::CONNECTIONS_HANDED, |c| c.connections_handed.get().into()),
        (&names::CONNECTIONS_REFUSED, |c| c.connections_refused.get().into()),
        (&names::CORE_REQUESTS, |c| c.requests_total.get().into()),
        (&names::DOWNSTREAM_RECEIVED, |c| c.downstream_bytes_in.get().into()),
        (&names::DOWNSTREAM_SENT, |c| c.downstream_bytes_out.get().into()),
        (&names::SPLICED, |c| c.spliced_bytes.get().into()),
        (&names::CLIENT_GONE, |c| c.client_gone.get().into()),
        (&names::HTTP2_CONNECTIONS, |c| c.http2_connections.get().into()),
        (&names::HTTP2_VIOLATIONS, |c| c.http2_violations.get().into()),
        (&names::HTTP2_STREAMS, |c| c.http2_streams.get().into()),
        (&names::HTTP2_STREAMS_RESET, |c| c.http2_streams_reset.get().into()),
        (&names::HTTP2_STREAMS_REFUSED, |c| c.http2_streams_refused.get().into()),
        (&names::HTTP2_HELD_BYTES, |c| c.http2_held_bytes.get().into()),
        (&names::HTTP2_STREAMS_MALFORMED, |c| c.http2_streams_malformed.get().into()),
        (&names::PANICS, |c| c.panics.get().into()),
        (&names::BUFFERS, |c| c.buffers_in_use.get().into()),
        (&names::PROXY_HEADERS_REFUSED, |c| c.proxy_headers_refused.get().into()),
        (&names::LOOP_TICKS, |c| c.loop_ticks.get().into()),
        (&names::SNAPSHOT_VERSION, |c| c.snapshot_version.get().into()),
    ];
    let ids: Vec<String> = state.cores.iter().map(|core| core.core().to_string()).collect();
    for (metric, number) in numbers {
        out.begin(metric);
        for (core, id) in state.cores.iter().zip(&ids) {
            out.sample(metric, &[id], number(core));
        }
    }
    out.begin(&names::CORE_BUSY);
    for (core, id) in state.cores.iter().zip(&ids) {
        out.sample(&names::CORE_BUSY, &[id], seconds(core.busy_micros.get()));
    }
    out.begin(&names::LOOP_STALL);
    for (core, id) in state.cores.iter().zip(&ids) {
        out.sample(&names::LOOP_STALL, &[id], seconds(core.loop_stall_micros_max.get()));
    }
    out.begin(&names::RULES_SWAP);
    for (core, id) in state.cores.iter().zip(&ids) {
        out.sample(&names::RULES_SWAP, &[id], seconds(core.rules_swap_micros_max.get()));
    }
    out.begin(&names::LOG_DROPPED);
    for (core, id) in state.cores.iter().zip(&ids) {
        out.sample(&names::LOG_DROPPED, &[id], core.access_log_dropped.get());
    }
    loop_time(out, &ids);
}

/// Handshakes and certificates.
fn tls(out: &mut Exposition, state: &State) {
    type Number = fn(&CoreStats) -> u64;
    let results: [(&str, Number); 10] = [
        ("full", |c| c.tls_full.get()),
        ("resumed", |c| c.tls_resumed.get()),
        ("incompatible", |c| c.tls_incompatible.get()),
        ("certificate", |c| c.tls_certificate.get()),
        ("alert", |c| c.tls_alert.get()),
        ("protocol", |c| c.tls_protocol.get()),
        ("timeout", |c| c.tls_timeout.get()),
        ("closed", |c| c.tls_closed.get()),
        ("refused", |c| c.tls_refused.get()),
        ("other", |c| c.tls_other.get()),
    ];
    let rules = state.rules();
    out.begin(&names::TLS_HANDSHAKES);
    for (result, number) in results {
        out.sample(&names::TLS_HANDSHAKES, &[result], state.sum(number));
    }
    out.begin(&names::CERTIFICATE_NOT_AFTER);
    for listener in &rules.snapshot.listeners {
        for one in listener.tls.iter().flat_map(|tls| tls.certificates()) {
            let labels = [&*listener.name, &*one.label];
            out.sample(&names::CERTIFICATE_NOT_AFTER, &labels, one.pair.not_after);
        }
    }
}

/// Processor time of each core's thread, as the kernel counts it.
fn loop_time(out: &mut Exposition, ids: &[String]) {
    out.begin(&names::LOOP_BUSY);
    for thread in process::threads().unwrap_or_default() {
        let Some(name) = thread.name() else { continue };
        let Some(id) = name.strip_prefix(WORKER_NAME) else { continue };
        if ids.iter().any(|known| known == id)
            && let Some(time) = thread.cpu_time()
        {
            out.sample(&names::LOOP_BUSY, &[id], time.as_secs_f64());
        }
    }
}

/// What the name of a core's thread begins with (`dataplane::worker::start` gives it); the number of
/// the CPU follows.
const WORKER_NAME: &str = "ringway-";

/// What the control side itself did.
fn control(out: &mut Exposition, state: &State) {
    let (written, lost) = state.log_lines();
    out.single(&names::LOG_LOST, lost);
    out.single(&names::LOG_WRITTEN, written);
    let rules = state.rules();
    out.begin(&names::RELOADS);
    out.sample(&names::RELOADS, &["applied"], rules.reloads_applied);
    out.sample(&names::RELOADS, &["refused"], rules.reloads_refused);
    out.single(&names::RELOAD_OK, u8::from(rules.error.is_none()));
    out.single(&names::RELOAD_TIME, rules.accepted_unix);
    out.single(&names::RELOAD_TOOK, rules.took.as_secs_f64());
    out.single(&names::DRAINING, u8::from(state.phase() == Phase::Draining));
    out.begin(&names::RUNTIME);
    out.sample(&names::RUNTIME, &[state.driver.name], 1);
    out.begin(&names::BUILD);
    out.sample(&names::BUILD, &[env!("CARGO_PKG_VERSION")], 1);
}

/// What the kernel says of the process.
fn process_metrics(out: &mut Exposition, state: &State) {
    if let Some(time) = process::cpu_time() {
        out.single(&names::PROCESS_CPU, time.as_secs_f64());
    }
    let numbers = [
        (&names::PROCESS_RESIDENT, process::resident_bytes()),
        (&names::PROCESS_OPEN_FDS, process::open_fds()),
        (&names::PROCESS_MAX_FDS, process::max_fds()),
    ];
    for (metric, number) in numbers {
        if let Some(number) = number {
            out.single(metric, number);
        }
    }
    out.single(&names::PROCESS_START, state.started_unix);
}

fn sum_gauge(state: &State, number: impl Fn(&CoreStats) -> i64) -> i64 {
    state.cores.iter().map(|core| number(core)).sum()
}

/// Microseconds as seconds, without rounding.
fn seconds(micros: u64) -> String {
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    let text = format!("{whole}.{rest:06}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        io::Write,
        process::{Command, Stdio},
    };

    use super::*;
    use crate::{
        base::ids::StatsSlot,
        controlplane::fixtures,
        telemetry::core_stats::{ROUTE_NONE, ROUTE_OTHER},
    };

    fn text(state: &State) -> String {
        String::from_utf8(render(state)).expect("UTF-8")
    }

    #[test]
    fn cores_are_added_up() {
        let state = fixtures::state(2);
        state.cores[0].route(StatsSlot(0)).record(0, 200, 90);
        state.cores[1].route(StatsSlot(0)).record(0, 200, 2_000);
        state.cores[1].route(StatsSlot(0)).record(2, 502, 40_000_000);
        state.cores[0].route(ROUTE_NONE).record(0, 404, 50);
        state.cores[1].route(ROUTE_OTHER).record(255, 200, 50);
        state.cores[0].requests_in_flight.inc();
        state.cores[1].reason(Reason::NoRoute);
        state.cores[1].upstream(StatsSlot(0)).record(1_500_000, true);
        let text = text(&state);
        for line in [
            r#"http_requests_total{route="first",method="GET",status_code="200"} 2"#,
            r#"http_requests_total{route="first",method="POST",status_code="502"} 1"#,
            r#"http_requests_total{route="(none)",method="GET",status_code="404"} 1"#,
            r#"http_requests_total{route="(other)",method="(other)",status_code="200"} 1"#,
            r#"http_request_duration_seconds_bucket{route="first",le="0.0001"} 1"#,
            r#"http_request_duration_seconds_bucket{route="first",le="0.001"} 1"#,
            r#"http_request_duration_seconds_bucket{route="first",le="0.0025"} 2"#,
            r#"http_request_duration_seconds_bucket{route="first",le="30"} 2"#,
            r#"http_request_duration_seconds_bucket{route="first",le="+Inf"} 3"#,
            r#"http_request_duration_seconds_sum{route="first"} 40.00209"#,
            r#"http_request_duration_seconds_count{route="first"} 3"#,
            "http_requests_in_flight 1",
            r#"ringway_answers_total{reason="no_route"} 1"#,
            r#"ringway_answers_total{reason="internal"} 0"#,
            r#"ringway_upstream_response_seconds_sum{upstream="first"} 1.5"#,
            r#"ringway_upstream_failures_total{upstream="first"} 1"#,
            r#"ringway_connections_open{core="1"} 0"#,
            "ringway_config_last_reload_successful 1",
        ] {
            assert!(text.lines().any(|found| found == line), "missing {line} in\n{text}");
        }
    }

    /// The data plane hands over `Method::index`; the labels are named in telemetry, which does not
    /// know HTTP.
    #[test]
    fn methods_are_named_by_their_index() {
        for method in crate::proto::h1::Method::ALL {
            let label = names::method(method.index() as u8);
            assert!(label == method.name() || label == OTHER, "{method:?} is {label}");
        }
    }

    #[test]
    fn every_metric_appears_and_no_series_twice() {
        let state = fixtures::state(2);
        state.cores[0].route(StatsSlot(0)).record(0, 200, 90);
        let text = text(&state);
        for metric in names::ALL {
            let word = format!("# TYPE {} {}\n", metric.name, metric.kind.word());
            assert_eq!(text.matches(&word).count(), 1, "{}", metric.name);
        }
        let mut seen = HashSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, _) = line.rsplit_once(' ').expect("a value");
            assert!(seen.insert(series), "{series} twice");
        }
    }

    #[test]
    fn a_core_s_thread_is_timed() {
        let state = fixtures::state(1);
        let (ended, wait) = std::sync::mpsc::channel::<()>();
        let worker = std::thread::Builder::new()
            .name(format!("{WORKER_NAME}0"))
            .spawn(move || _ = wait.recv())
            .expect("a thread");
        while !text(&state).contains(r#"ringway_loop_cpu_seconds_total{core="0"} "#) {
            std::thread::yield_now();
        }
        drop(ended);
        worker.join().expect("ends");
    }

    /// `promtool check metrics` (package `prometheus`) where it is installed.
    #[test]
    fn promtool_finds_nothing() {
        let state = fixtures::state(2);
        state.cores[0].route(StatsSlot(0)).record(0, 200, 90);
        state.cores[0].upstream(StatsSlot(0)).record(1_500_000, true);
        let Ok(mut promtool) = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
        else {
            eprintln!("promtool is not installed: skipped");
            return;
        };
        let mut stdin = promtool.stdin.take().expect("piped");
        stdin.write_all(&render(&state)).expect("written");
        drop(stdin);
        let output = promtool.wait_with_output().expect("ended");
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}
