//! `churn RINGWAY`: what changes do to traffic, and how long they take.
//!
//! ```text
//! churn BINARY reload   [--rounds 200] [--seconds 60] [--routes 10000] [--table]
//! churn BINARY endpoint [--rounds 500] [--routes 10000]
//! churn BINARY upgrade  [--rounds 20]
//! churn BINARY memory   [--rounds 1000] [--routes 5000]
//! ```
//!
//! All but `memory` run at `--load 0.7` of what it can carry, or at `--rate` requests per second. What it
//! can carry is measured first: the highest rate that is answered with a p99 below [`CARRIED_NS`], as it is
//! at the start and not as it is asked for in a loop, where a machine that also makes the load answers
//! more, in rows. Exit code 1 when a condition fails
//! that does not depend on how busy the machine is.

use ringway_bench::args::Args;
use ringway_bench::churn::load::{Load, Plan, Report, Shared};
use ringway_bench::churn::{
    origin,
    ringway::{Ringway, Rules, What},
};
use ringway_bench::procfs;
use ringway_bench::stats::{Histogram, estimate, median};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A rate that is answered later than this, one time in a hundred, is more than is carried: a queue
/// grows.
const CARRIED_NS: u64 = 5_000_000;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("churn: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Setup {
    binary: PathBuf,
    directory: PathBuf,
    rules: Rules,
    rounds: usize,
    seconds: u64,
    share: f64,
    /// Requests per second in place of that; 0 for none.
    rate: u64,
    connections: usize,
}

fn run() -> Result<bool, String> {
    let mut args = Args::from_env();
    let (Some(binary), Some(scenario)) = (args.word(), args.word()) else {
        return Err("churn BINARY reload|endpoint|upgrade|memory".into());
    };
    let rounds = match scenario.as_str() {
        "endpoint" => 500,
        "upgrade" => 20,
        "memory" => 1000,
        _ => 200,
    };
    let routes = args.value("--routes", if scenario == "memory" { 5_000 } else { 10_000 })?;
    let what = if args.flag("--table") { What::Table } else { What::Targets };
    let origin = origin::start().map_err(|error| error.to_string())?;
    let rules = Rules::new(routes, what, origin).map_err(|error| error.to_string())?;
    let directory = std::env::temp_dir().join(format!("churn-{}", std::process::id()));
    std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let setup = Setup {
        binary: std::fs::canonicalize(&binary).map_err(|error| format!("{binary}: {error}"))?,
        directory: directory.clone(),
        rules,
        rounds: args.value("--rounds", rounds)?,
        seconds: args.value("--seconds", 60)?,
        share: args.value("--load", 0.7)?,
        rate: args.value("--rate", 0)?,
        connections: args.value("--connections", 32)?,
    };
    args.finish()?;
    let result = match scenario.as_str() {
        "reload" => reload(&setup),
        "endpoint" => endpoint(setup),
        "upgrade" => upgrade(&setup),
        "memory" => memory(&setup),
        other => Err(format!("{other}: not known")),
    };
    let _ = std::fs::remove_dir_all(directory);
    result
}

impl Setup {
    fn plan(&self, rate: u64) -> Plan {
        Plan {
            port: self.rules.port(),
            routes: self.rules.routes,
            connections: self.connections,
            short: 0,
            websockets: 4,
            rate,
        }
    }

    fn start(&self) -> Result<Ringway, String> {
        Ringway::start(&self.binary, &self.directory, &self.rules)
    }

    /// The files of all rounds, made beforehand: two milliseconds of work and a write of a megabyte are no
    /// part of what is measured.
    fn files(&self) -> Result<Vec<PathBuf>, String> {
        let aside = self.directory.join("rounds");
        let failed = |error: std::io::Error| format!("{}: {error}", aside.display());
        std::fs::create_dir(&aside).map_err(failed)?;
        let make = |round: usize| {
            let path = aside.join(format!("{round}.toml"));
            let mut file = std::fs::File::create(&path)?;
            file.write_all(self.rules.text(round).as_bytes())?;
            file.sync_all().map(|()| path)
        };
        (1..=self.rounds).map(make).collect::<Result<_, _>>().map_err(failed)
    }

    /// How many requests per second it carries, and the share of them that is asked for.
    fn rate(&self) -> Result<u64, String> {
        if self.rate > 0 {
            return Ok(self.rate);
        }
        let most = self.answered(0)?.0;
        let (mut carried, mut p99) = (most, u64::MAX);
        while p99 > CARRIED_NS && carried > most / 10.0 {
            carried *= 0.93;
            p99 = self.answered(carried as u64)?.1;
        }
        let rate = (carried * self.share) as u64;
        println!(
            "answers {most:.0} requests/s in a loop; carries {carried:.0} (p99 {:.1} ms); \
             load: {rate} requests/s",
            p99 as f64 / 1e6
        );
        Ok(rate)
    }

    /// Requests answered per second at a rate (0: in a loop), and the p99 in nanoseconds.
    fn answered(&self, rate: u64) -> Result<(f64, u64), String> {
        let shared = Arc::new(Shared::default());
        let load = Load::start(self.plan(rate), &shared)?;
        sleep(Duration::from_millis(500));
        let began = Instant::now();
        shared.phase.store(1, SeqCst);
        sleep(Duration::from_secs(2));
        shared.phase.store(0, SeqCst);
        let took = began.elapsed();
        let latency = &load.stop()?.latency[0];
        Ok((latency.total() as f64 / took.as_secs_f64(), latency.quantile(0.99)))
    }
}

/// Changes of 1 % of the routes, one at the start of every other slice of [`Setup::seconds`] by
/// [`Setup::rounds`]: neighbours have what else happens on the machine in common.
fn reload(setup: &Setup) -> Result<bool, String> {
    let files = setup.files()?;
    let ringway = setup.start()?;
    let rate = setup.rate()?;
    let shared = Arc::new(Shared::default());
    let load = Load::start(setup.plan(rate), &shared)?;
    let slice = Duration::from_secs(setup.seconds) / setup.rounds as u32;
    let (mut took, mut phase) = (Vec::new(), 0);
    sleep(Duration::from_secs(1));
    let spent_ns = procfs::beside_the_cores_ns(ringway.pid);
    // Slices without a change (odd) and with one at their start, in turn.
    for file in &files {
        for has_change in [false, true] {
            phase += 1;
            shared.phase.store(phase, SeqCst);
            let end = Instant::now() + slice;
            if has_change {
                shared.published.store(took.len() + 1, SeqCst);
                took.push(ringway.replace_by(file)?);
                shared.obeyed.store(took.len(), SeqCst);
            }
            sleep(end.saturating_duration_since(Instant::now()));
        }
    }
    shared.phase.store(0, SeqCst);
    let spent_ns = procfs::beside_the_cores_ns(ringway.pid) - spent_ns;
    let report = load.stop()?;
    println!("{} changes of 1 % of {} routes", took.len(), setup.rules.routes);
    for share in [0.5, 0.9, 0.99, 0.999] {
        show_share(&report, share);
    }
    show_all(&report);
    show_times("rename to last core", &mut took);
    println!(
        "CPU time of a change beside the cores: {:.2} ms",
        spent_ns as f64 / took.len() as f64 / 1e6
    );
    Ok(show_losses(&report, false))
}

/// Changes of one endpoint through the Admin API, each awaited on all cores.
fn endpoint(mut setup: Setup) -> Result<bool, String> {
    let state = setup.directory.join("state");
    std::fs::create_dir_all(&state).map_err(|error| error.to_string())?;
    setup.rules.admin = format!("state_dir = \"{}\"\n", state.display());
    let ringway = setup.start()?;
    let mut admin = ringway.admin()?;
    let body = "{\"endpoints\": [{\"url\": \"http://127.0.0.1:1\"}]}";
    admin.call("PUT", "/v1/upstreams/other?wait=applied", body)?;
    ringway.wait_in_force()?;
    let rate = setup.rate()?;
    let shared = Arc::new(Shared::default());
    let load = Load::start(setup.plan(rate), &shared)?;
    sleep(Duration::from_secs(1));
    let (mut endpoints, mut routes) = (<[Vec<Duration>; 2]>::default(), <[_; 2]>::default());
    let mut put = |path: &str, body: &str, took: &mut [Vec<Duration>; 2]| -> Result<(), String> {
        let began = Instant::now();
        took[1].push(admin.call("PUT", path, body)?.1);
        took[0].push(ringway.wait_in_force()?.saturating_duration_since(began));
        sleep(Duration::from_millis(20));
        Ok(())
    };
    for round in 0..setup.rounds {
        let body = format!("{{\"weight\": {}}}", 1 + round % 9);
        let path = "/v1/upstreams/other/endpoints/127.0.0.1:2?wait=applied";
        put(path, &body, &mut endpoints)?;
        if round % 10 == 0 {
            let path = format!("/v1/routes/more-{round}?wait=applied");
            let body = format!("{{\"path\": \"/more-{round}\", \"upstream\": \"other\"}}");
            put(&path, &body, &mut routes)?;
        }
    }
    let report = load.stop()?;
    let [mut in_force, mut answered] = endpoints;
    show_times("PUT of an endpoint to last core", &mut in_force);
    show_times("PUT of an endpoint to its answer", &mut answered);
    let [mut in_force, mut answered] = routes;
    show_times("PUT of a route to last core", &mut in_force);
    show_times("PUT of a route to its answer", &mut answered);
    Ok(show_losses(&report, false))
}

/// Successors by SIGUSR2, one after the other, and one that ends at its start.
fn upgrade(setup: &Setup) -> Result<bool, String> {
    let binary = setup.directory.join("ringway");
    let install = |from: &Path| {
        let new = setup.directory.join("new");
        std::fs::copy(from, &new).and_then(|_| std::fs::rename(&new, &binary))
    };
    install(&setup.binary).map_err(|error| error.to_string())?;
    let mut ringway = Ringway::start(&binary, &setup.directory, &setup.rules)?;
    let rate = setup.rate()?;
    let plan = Plan { short: setup.connections / 4, websockets: 0, ..setup.plan(rate) };
    let load = Load::start(plan, &Arc::new(Shared::default()))?;
    sleep(Duration::from_secs(1));
    let mut took = Vec::new();
    for round in 0..setup.rounds {
        install(&setup.binary).map_err(|error| error.to_string())?;
        let began = Instant::now();
        ringway.upgrade()?;
        took.push(began.elapsed());
        if round == setup.rounds / 2 {
            install(Path::new("/bin/false")).map_err(|error| error.to_string())?;
            ringway.signal("USR2")?;
            let (_, line) = ringway.wait_for("no upgrade")?;
            println!("a binary that exits at its start: {line}");
        }
        sleep(Duration::from_millis(500));
    }
    let report = load.stop()?;
    show_times("SIGUSR2 to taken over", &mut took);
    Ok(show_losses(&report, true))
}

/// Memory at the start and after changes.
fn memory(setup: &Setup) -> Result<bool, String> {
    let ringway = setup.start()?;
    let settle = || {
        sleep(Duration::from_secs(3)); // memory is given back when no change has come for a second
        let rss = ringway.memory("VmRSS") as f64 / f64::from(1 << 20);
        (rss, ringway.memory("RssAnon") as f64 / f64::from(1 << 20))
    };
    let show = |after: usize, (rss, anonymous): (f64, f64)| {
        println!(
            "{:6} changes: {rss:.2} MiB in all, {anonymous:.2} MiB without the program itself",
            after
        );
    };
    let first = settle();
    show(0, first);
    for round in 1..=setup.rounds {
        ringway.replace(&setup.rules.text(round))?;
        if round == setup.rounds / 100
            || round == setup.rounds / 10
            || round % (setup.rounds / 4).max(1) == 0
        {
            show(round, settle());
        }
    }
    let last = settle();
    let growth = last.0 / first.0 - 1.0;
    println!("most ever: {:.2} MiB", ringway.memory("VmHWM") as f64 / f64::from(1 << 20));
    println!("from the start to the last change: {:+.1} %", growth * 100.0);
    Ok(first.0 < 16.0 && last.0 < 16.0 && growth < 0.05)
}

/// One quantile of the slices without and with changes, and the ratio of neighbours: the median of all,
/// with its interval, so that a stall of the machine counts for one slice.
fn show_share(report: &Report, share: f64) {
    let slices: Vec<f64> =
        report.latency.iter().map(|slice| slice.quantile(share) as f64 / 1e3).collect();
    let every_other = |first| slices.iter().copied().skip(first).step_by(2).collect::<Vec<_>>();
    let ratios: Vec<f64> = slices.chunks_exact(2).map(|pair| pair[1] / pair[0]).collect();
    let ratio = estimate(&ratios);
    println!(
        "p{:<5} without changes {:.0} us, with changes {:.0} us, ratio {:.2} ({:.2} to {:.2}) of {} pairs",
        share * 100.0,
        median(&every_other(0)),
        median(&every_other(1)),
        ratio.middle,
        ratio.low,
        ratio.high,
        ratios.len()
    );
}

/// The slices without changes as one, and those with them: the p99, and how many requests took longer
/// than is seldom the case.
fn show_all(report: &Report) {
    let all = [0, 1].map(|first| {
        let mut all = Histogram::default();
        report.latency.iter().skip(first).step_by(2).for_each(|slice| all.merge(slice));
        all
    });
    let [without, with] = all.each_ref().map(|all| all.quantile(0.99) as f64 / 1e3);
    let ratio = with / without;
    println!(
        "p99 of all slices: without changes {without:.0} us, with changes {with:.0} us, ratio {ratio:.2}"
    );
    for limit_us in [300, 600, 1200] {
        let [without, with] = all.each_ref().map(|all| 100.0 * all.share_above(limit_us * 1000));
        println!(
            "later than {limit_us} us: without changes {without:.2} %, with changes {with:.2} %"
        );
    }
}

fn show_times(title: &str, took: &mut [Duration]) {
    took.sort();
    let at = |share: f64| {
        let place = (share * took.len() as f64) as usize;
        took.get(place.min(took.len().saturating_sub(1))).map_or(0.0, |one| one.as_secs_f64() * 1e3)
    };
    println!(
        "{title}: p50 {:.2} ms   p90 {:.2} ms   p99 {:.2} ms   max {:.2} ms   of {}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        took.len()
    );
}

/// Whether nothing was lost. In an upgrade kept connections end in order, each after an answer that
/// says so, and what has no request until the drain's end is closed.
fn show_losses(report: &Report, upgrade: bool) -> bool {
    println!(
        "{} answered, {} failed, {} misrouted; connections closed: {}, told so before: {}; \
         WebSocket messages {}, WebSockets closed {}",
        report.answered,
        report.failed,
        report.misrouted,
        report.closed,
        report.told_to_close,
        report.echoes,
        report.websockets_closed
    );
    if !report.first_error.is_empty() {
        println!("first error: {}", report.first_error);
    }
    let kept = report.closed + report.told_to_close + report.websockets_closed;
    report.failed + report.misrouted == 0 && (upgrade || kept == 0)
}
