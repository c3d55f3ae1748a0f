//! `flame`: samples a proxy's threads under load, draws where the time goes, and says what share of it
//! is the kernel's and which functions of its own take most.

use inferno::collapse::Collapse;
use inferno::collapse::perf::{Folder, Options};
use inferno::flamegraph;
use ringway_bench::args::Args;
use ringway_bench::fleet::{self, Running, Scratch};
use ringway_bench::load::{Plan, Target};
use ringway_bench::peers::{self, Peer};
use ringway_bench::procfs;
use ringway_bench::scenario::Scenario;
use ringway_bench::setup::{self, Cubic};
use ringway_bench::shares;
use ringway_bench::sys::{self, Placement};
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

const HELP: &str = "\
Draws a flame graph of one proxy, alone on its core, in one scenario of bench/compare.

  --scenario NAME   (small)
  --peer NAME       ringway, nginx, haproxy...   (ringway)
  --ringway PATH    the binary to sample (target/release/ringway)
  --seconds N       how long to sample           (5)
  --layout T|S      T: proxy alone on its core; S: everything on that core (T)
  --shares          no graph: what a request costs by part, microseconds
  --out FILE        (flamegraphs/DATE-COMMIT-SCENARIO.svg)";

/// Samples per second: not a divisor of any timer's frequency, and few, as each copies a part of the stack.
const FREQUENCY: &str = "499";
/// Narrower frames are not drawn, percent of the whole: the file stays small enough to be kept.
const WIDTH_MIN_PERCENT: f64 = 0.15;
/// How the folded stacks mark a function of the kernel.
const KERNEL: &str = "_[k]";
/// Functions in the table.
const TOP: usize = 16;
/// Stacks are unwound by the binary's debug information from so much of them: no build of its own with
/// frame pointers, which would not be what users run.
const CALL_GRAPH: &str = "dwarf,4096";
/// Until the load runs evenly.
const WARMUP_NS: u64 = 500_000_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flame: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut args = Args::from_env();
    if args.flag("--help") {
        println!("{HELP}");
        return Ok(());
    }
    let scenario = Scenario::named(&args.value("--scenario", "small".to_owned())?)?;
    let name = args.value("--peer", "ringway".to_owned())?;
    let root = peers::bench_dir().join("..");
    let binary = root.join("target/release/ringway");
    let binary = args.text("--ringway")?.map_or(binary, PathBuf::from);
    let seconds = args.value("--seconds", 5u64)?;
    let out = args.text("--out")?.map(PathBuf::from);
    let layout = args.value("--layout", 'T')?;
    let parts = args.flag("--shares");
    args.finish()?;
    if peers::installed("perf").is_none() {
        return Err("perf is not installed; apt-get install linux-perf".to_owned());
    }
    sys::catch_interrupts();
    let peer = Peer::named(&name, &binary)?;
    let scratch = Scratch::new()?;
    let load = Load { scenario, layout, seconds };
    let (graph, frequency) = if parts { ("fp", "1997") } else { (CALL_GRAPH, FREQUENCY) };
    let Sampled { file: samples, micros, code_shift } =
        sample(&peer, load, (graph, frequency), scratch.path())?;
    if parts {
        let text = fs::read_to_string(&samples).map_err(|error| format!("perf: {error}"))?;
        let shares = shares::shares(&text, peer.binary(), code_shift)?;
        print!("{name}, {}, layout {layout}\n{}", scenario.what, shares::table(&shares, micros));
        return Ok(());
    }
    let out = match out {
        Some(path) => path,
        None => {
            let dir = root.join("flamegraphs");
            fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
            let what = if name == "ringway" { String::new() } else { format!("-{name}") };
            let commit = setup::commit();
            dir.join(format!("{}-{commit}-{}{what}.svg", setup::today(), scenario.name))
        }
    };
    draw(&samples, &format!("{name}: {}", scenario.what), &out)?;
    println!("{}", out.display());
    Ok(())
}

/// What the proxy has to do meanwhile.
#[derive(Clone, Copy)]
struct Load {
    scenario: Scenario,
    layout: char,
    seconds: u64,
}

/// What came of it.
struct Sampled {
    /// What perf saw, as text.
    file: PathBuf,
    /// CPU time per request, sampling included.
    micros: f64,
    /// Of a proxy whose code can be told apart.
    code_shift: Option<u64>,
}

/// Runs the scenario against the proxy; `how` are kind of stacks and samples per second.
fn sample(
    peer: &Peer,
    Load { scenario, layout, seconds }: Load,
    how: (&str, &str),
    dir: &Path,
) -> Result<Sampled, String> {
    let cores = sys::allowed_cores().map_err(|error| format!("cores: {error}"))?;
    let core = *cores.get(1).unwrap_or(&cores[0]);
    let client = if layout == 'S' { core } else { cores[0] };
    // As in bench/compare, but only where perf has the other core to itself.
    let fifo = layout == 'S' && setup::fifo_permitted();
    let place = |core| Placement { core, fifo };
    let _cubic = Cubic::ensure()?;
    let ports = setup::free_ports(2)?;
    let origin = Running::origin(ports[0], place(client), dir)?;
    let proxy = Running::peer(peer, ports[1], ports[0], place(core), dir, false)?;
    let plan = Plan {
        scenario,
        cycles: 1,
        warmup_cycles: 0,
        slice_ms: (seconds + 2) * 500, // a cycle loads its target twice
        targets: vec![Target { name: peer.name.clone(), port: proxy.port, pid: proxy.pid() }],
        origin_pid: Some(origin.pid()),
    };
    let scripted = dir.join("perf.txt");
    let shift = || shares::code_shift(proxy.pid(), peer.binary());
    let code_shift = peer.has_sources().then(shift).transpose()?;
    let outcome = std::thread::scope(|scope| {
        let load = scope.spawn(|| fleet::run_load(&plan, place(client), dir));
        sys::sleep_ns(WARMUP_NS);
        let recorded = record(proxy.pid(), seconds, how, dir);
        let loaded = load.join().map_err(|_| "the load generator's thread died".to_owned())?;
        recorded.and(loaded)
    })?;
    let data = dir.join("perf.data");
    let mut script = Command::new("perf");
    script.arg("script").arg("--no-inline").arg("-i").arg(data);
    if how.0 == "fp" {
        script.args(["-F", "ip,sym,dso"]);
    }
    script.stdout(File::create(&scripted).map_err(|error| format!("perf: {error}"))?);
    script.stderr(Stdio::null());
    if !fleet::finish(script, Duration::from_secs(120))? {
        return Err("perf script failed".to_owned());
    }
    proxy.stop()?;
    origin.stop()?;
    let slice = outcome.cycles.first().and_then(|cycle| cycle.first()).cloned().unwrap_or_default();
    let micros = slice.cpu_ns as f64 / slice.requests.max(1) as f64 / 1000.0;
    Ok(Sampled { file: scripted, micros, code_shift })
}

/// Samples all threads of the proxy, kernel included, by the clock: hardware counters are not
/// there on most virtual machines.
fn record(
    pid: u32,
    seconds: u64,
    (graph, frequency): (&str, &str),
    dir: &Path,
) -> Result<(), String> {
    let threads: Vec<String> = procfs::family(pid)
        .into_iter()
        .flat_map(procfs::threads)
        .map(|thread| thread.to_string())
        .collect();
    let mut perf = Command::new("perf");
    perf.args(["record", "-q", "-e", "cpu-clock", "-F", frequency, "--call-graph", graph])
        .args(["-t", &threads.join(",")])
        .arg("-o")
        .arg(dir.join("perf.data"))
        .args(["--", "sleep", &seconds.to_string()])
        .stdin(Stdio::null());
    let patience = Duration::from_secs(seconds + 30);
    if fleet::finish(perf, patience)? { Ok(()) } else { Err("perf record failed".to_owned()) }
}

fn draw(samples: &Path, title: &str, out: &Path) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", out.display());
    let mut folded = Vec::new();
    let mut options = Options::default();
    options.annotate_kernel = true;
    Folder::from(options).collapse_file(Some(samples), &mut folded).map_err(wrong)?;
    if folded.is_empty() {
        return Err("perf saw no samples".to_owned());
    }
    tell(&String::from_utf8_lossy(&folded));
    let mut options = flamegraph::Options::default();
    options.title = title.to_owned();
    options.count_name = "ns".to_owned();
    options.min_width = WIDTH_MIN_PERCENT;
    let file = File::create(out).map_err(wrong)?;
    flamegraph::from_reader(&mut options, folded.as_slice(), file).map_err(wrong)
}

/// Says what share of the samples is the kernel's, and where the others are.
fn tell(folded: &str) {
    let lines = folded.lines().filter_map(|line| line.rsplit_once(' '));
    let samples = lines.filter_map(|(stack, count)| Some((stack, count.parse::<u64>().ok()?)));
    let (mut all, mut kernel) = (0, 0);
    let mut own: HashMap<&str, u64> = HashMap::new();
    for (stack, count) in samples {
        let function = stack.rsplit(';').next().unwrap_or(stack);
        all += count;
        if function.ends_with(KERNEL) {
            kernel += count;
        } else {
            *own.entry(function).or_default() += count;
        }
    }
    let share = |count: u64| count as f64 * 100.0 / all.max(1) as f64;
    println!("{:5.1} %  the kernel", share(kernel));
    let mut own: Vec<(&str, u64)> = own.into_iter().collect();
    own.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    for (name, count) in own.into_iter().take(TOP) {
        println!("{:5.2} %  {name}", share(count));
    }
}
