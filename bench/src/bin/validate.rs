//! `validate`: is our load generator as fast on nginx as wrk is? Prints both; fails beyond 10 %.

use ringway_bench::args::Args;
use ringway_bench::fleet::{self, Running, Scratch};
use ringway_bench::load::{Plan, Target};
use ringway_bench::peers::{self, Peer};
use ringway_bench::scenario::Scenario;
use ringway_bench::setup::{self, Cubic};
use ringway_bench::stats;
use ringway_bench::sys::{self, Placement};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// Short alternating turns, so that a drift of the machine weighs on both.
const TURNS: usize = 5;
const TURN: Duration = Duration::from_secs(2);
/// Those that wrk can do the same way: with a body to check off it does other work than we do.
const SCENARIOS: [&str; 3] = ["small", "16k", "c512"];
const TOLERANCE: f64 = 0.10;

const HELP: &str = "\
Compares requests/s of bench/load and wrk on the same nginx, in alternating turns; about a minute.

  --core N       where nginx, origin and generator run, all of them  (the last allowed)
  --tolerance X  how far apart the medians may be                    (0.10)";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("validate: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether both agree in every scenario.
fn run() -> Result<bool, String> {
    let mut args = Args::from_env();
    if args.flag("--help") {
        println!("{HELP}");
        return Ok(true);
    }
    let allowed = sys::allowed_cores().map_err(|error| format!("cores: {error}"))?;
    let core = args.value("--core", allowed[allowed.len() - 1])?;
    let tolerance = args.value("--tolerance", TOLERANCE)?;
    args.finish()?;
    if peers::installed("wrk").is_none() {
        return Err(format!("wrk is not installed; {}", peers::REMEDY));
    }
    sys::catch_interrupts();
    let _cubic = Cubic::ensure()?;
    let scratch = Scratch::new()?;
    let dir = scratch.path();
    // On one core nobody waits for anybody: what differs is the generators' own cost. Without
    // SCHED_FIFO, under which wrk's threads and its main thread would starve one another.
    let place = Placement { core, fifo: false };
    let ports = setup::free_ports(2)?;
    let origin = Running::origin(ports[0], place, dir)?;
    let nginx = Peer::named("nginx", Path::new(""))?;
    let nginx = Running::peer(&nginx, ports[1], ports[0], place, dir, false)?;
    let mut agreed = true;
    for name in SCENARIOS {
        let scenario = Scenario::named(name)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            ours.push(load(scenario, &nginx, origin.pid(), place, dir)?);
            theirs.push(wrk(&scenario, nginx.port, place, dir)?);
        }
        let (ours, theirs) = (stats::median(&ours), stats::median(&theirs));
        let ratio = ours / theirs;
        let close = (ratio - 1.0).abs() <= tolerance;
        agreed &= close;
        let word = if close { "agree" } else { "DIFFER" };
        println!("{name:<8} load {ours:>8.0} req/s   wrk {theirs:>8.0} req/s   {ratio:.3}  {word}");
    }
    nginx.stop()?;
    origin.stop()?;
    Ok(agreed)
}

fn load(
    scenario: Scenario,
    nginx: &Running,
    origin_pid: u32,
    place: Placement,
    dir: &Path,
) -> Result<f64, String> {
    let target = Target { name: nginx.name.clone(), port: nginx.port, pid: nginx.pid() };
    let plan = Plan {
        scenario,
        cycles: 1,
        warmup_cycles: 0,
        slice_ms: TURN.as_millis() as u64 / 2, // a cycle loads its target twice
        targets: vec![target],
        origin_pid: Some(origin_pid),
    };
    let outcome = fleet::run_load(&plan, place, dir)?;
    let slice = outcome.cycles.first().and_then(|cycle| cycle.first()).ok_or("no slice")?;
    Ok(slice.requests as f64 / slice.wall_ns as f64 * 1e9)
}

fn wrk(scenario: &Scenario, port: u16, place: Placement, dir: &Path) -> Result<f64, String> {
    let log = dir.join("wrk.log");
    let out = File::create(&log).map_err(|error| format!("wrk: {error}"))?;
    let mut command = Command::new("wrk");
    command
        .args(["-t1", "-c", &scenario.connections.to_string()])
        .args(["-d", &format!("{}s", TURN.as_secs())])
        .arg(format!("http://127.0.0.1:{port}{}", scenario.path))
        .stdin(Stdio::null())
        .stdout(out);
    sys::place(&mut command, place);
    if !fleet::finish(command, TURN + Duration::from_secs(20))? {
        return Err("wrk failed".to_owned());
    }
    let text = fs::read_to_string(&log).map_err(|error| format!("wrk: {error}"))?;
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return Err(format!("wrk saw errors:\n{text}"));
    }
    let line = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    line.and_then(|number| number.trim().parse().ok()).ok_or(format!("wrk said:\n{text}"))
}
