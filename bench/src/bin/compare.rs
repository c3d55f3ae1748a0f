//! `compare`: ringway beside its peers, in interleaved slices, in two layouts. See `docs/benchmarks.md`.

use ringway_bench::args::Args;
use ringway_bench::fleet::{self, Running, Scratch};
use ringway_bench::load::{Plan, Target, open_idle};
use ringway_bench::peers::{self, Peer};
use ringway_bench::procfs;
use ringway_bench::report::{self, Row};
use ringway_bench::scenario::{self, Scenario};
use ringway_bench::setup::{self, Cubic};
use ringway_bench::sys::{self, Placement};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const HELP: &str = "\
Runs ringway and its peers side by side and prints CPU time per request, with ratios.

  bench/compare                        the whole table, 10 to 15 minutes
  bench/compare --smoke                does the set-up work? under a minute, figures meaningless
  bench/compare --scenarios small,1m --peers ringway,nginx

  --ringway PATH          the binary to measure     (target/release/ringway)
  --also NAME=BIN[,CONF]  one more ringway, such as an older build; may be repeated
  --peers LIST            of ringway,nginx,nginxb,nginxt,haproxy,haproxyb,envoy; ratios are about the first
                          (all that are installed); also floor, floor:driver:epoll: see bench/floor
  --scenarios LIST        of small,16k,post16k,1m,upload,c512,rate8k,ws,close,memory  (all)
  --layouts LIST          T: proxy alone on its core; S: everything on that core  (T,S)
  --cores CLIENT,PROXY    which two cores            (the first two allowed)
  --cycles N              measured cycles            (20)
  --slice-ms N            length of a slice          (100)
  --idle N                idle connections of `memory` (9000)
  --logs                  access logs on, at all
  --no-fifo               ordinary scheduling even where SCHED_FIFO is permitted
  --any-congestion-control  don't insist on cubic
  --json FILE             write the results, too";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    smoke: bool,
    peers: Vec<Peer>,
    scenarios: Vec<Scenario>,
    memory: bool,
    layouts: Vec<Layout>,
    cycles: usize,
    slice_ms: u64,
    idle: usize,
    logs: bool,
    fifo: bool,
    json: Option<PathBuf>,
}

/// Which core is whose.
#[derive(Clone, Copy)]
struct Layout {
    name: char,
    proxy: usize,
    client: usize,
}

/// Memory of one proxy.
struct Memory {
    proxy: String,
    /// Shared pages count in full in each of its processes.
    start_bytes: u64,
    /// Shared pages count once.
    start_share_bytes: u64,
    idle_bytes: u64,
    connections: usize,
}

/// Whether every answer was right.
fn run() -> Result<bool, String> {
    let mut args = Args::from_env();
    if args.flag("--help") || args.flag("-h") {
        println!("{HELP}");
        return Ok(true);
    }
    sys::catch_interrupts();
    let any_control = args.flag("--any-congestion-control");
    let options = options(args)?;
    let cubic = if any_control { None } else { Some(Cubic::ensure()?) };
    sys::raise_file_limit().map_err(|error| format!("file limit: {error}"))?;
    let scratch = Scratch::new()?;
    println!("{}", preamble(&options, cubic.as_ref()));

    let start = Instant::now();
    let mut rows = Vec::new();
    for layout in &options.layouts {
        rows.extend(measure_layout(&options, *layout, scratch.path())?);
    }
    let memory =
        if options.memory { measure_memory(&options, scratch.path())? } else { Vec::new() };
    if options.peers[0].name == "ringway" && !options.smoke {
        println!("\ngoals (5 % tolerance)");
        report::verdicts(&rows).iter().for_each(|line| println!("{line}"));
        memory.first().iter().for_each(|memory| println!("{}", memory.verdict()));
    }
    let seconds = start.elapsed().as_secs();
    println!("\n{seconds} s");
    if let Some(path) = &options.json {
        let results = results(&options, &rows, &memory, seconds);
        std::fs::write(path, format!("{results:#}\n"))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let errors: u64 = rows.iter().map(|row| row.tally.errors).sum();
    if errors > 0 {
        eprintln!("compare: {errors} wrong or missing answers: don't use these figures");
    }
    Ok(errors == 0)
}

fn options(mut args: Args) -> Result<Options, String> {
    let smoke = args.flag("--smoke");
    let ringway = args.text("--ringway")?.map_or_else(default_ringway, PathBuf::from);
    let peers = peers(args.text("--peers")?, &ringway, &args.texts("--also")?)?;
    let chosen = args.text("--scenarios")?;
    let names: Vec<&str> = match &chosen {
        Some(list) => list.split(',').collect(),
        None => scenario::ALL.iter().map(|one| one.name).chain(["memory"]).collect(),
    };
    let mut scenarios = Vec::new();
    for name in names.iter().filter(|name| **name != "memory") {
        scenarios.push(Scenario::named(name)?);
    }
    let cores = args.text("--cores")?;
    let options = Options {
        smoke,
        peers,
        scenarios,
        memory: names.contains(&"memory"),
        layouts: layouts(&args.value("--layouts", "T,S".to_owned())?, cores.as_deref())?,
        cycles: args.value("--cycles", if smoke { 1 } else { 20 })?,
        slice_ms: args.value("--slice-ms", if smoke { 20 } else { 100 })?,
        idle: args.value("--idle", if smoke { 200 } else { 9000 })?,
        logs: args.flag("--logs"),
        fifo: !args.flag("--no-fifo") && setup::fifo_permitted(),
        json: args.text("--json")?.map(PathBuf::from),
    };
    args.finish()?;
    if options.cycles == 0 || options.slice_ms == 0 {
        return Err("--cycles and --slice-ms must be above 0".to_owned());
    }
    Ok(options)
}

fn default_ringway() -> PathBuf {
    peers::bench_dir().join("../target/release/ringway")
}

/// Those asked for, which must be there; or all but an Envoy that is not installed.
fn peers(list: Option<String>, ringway: &Path, also: &[String]) -> Result<Vec<Peer>, String> {
    let asked = list.is_some();
    let names = list.unwrap_or_else(|| peers::NAMES.join(","));
    let mut peers = Vec::new();
    for name in names.split(',') {
        match Peer::named(name, ringway) {
            Ok(peer) => peers.push(peer),
            Err(error) if name == "envoy" && !asked => eprintln!("without envoy: {error}"),
            Err(error) => return Err(error),
        }
        if peers.len() == 1 {
            for text in also {
                peers.push(Peer::other_ringway(text)?);
            }
        }
    }
    Ok(peers)
}

fn layouts(list: &str, cores: Option<&str>) -> Result<Vec<Layout>, String> {
    let allowed = sys::allowed_cores().map_err(|error| format!("cores: {error}"))?;
    let (client, proxy) = match cores {
        Some(text) => text
            .split_once(',')
            .and_then(|(client, proxy)| Some((client.parse().ok()?, proxy.parse().ok()?)))
            .ok_or_else(|| format!("--cores {text}: expected CLIENT,PROXY"))?,
        None => (allowed[0], *allowed.get(1).unwrap_or(&allowed[0])),
    };
    if !allowed.contains(&client) || !allowed.contains(&proxy) {
        return Err(format!("--cores: this process may use {allowed:?} only"));
    }
    let mut layouts = Vec::new();
    for name in list.split(',') {
        match name {
            "T" if client == proxy => eprintln!("one core only: without layout T"),
            "T" => layouts.push(Layout { name: 'T', proxy, client }),
            "S" => layouts.push(Layout { name: 'S', proxy, client: proxy }),
            _ => return Err(format!("--layouts {name}: T and S are the layouts")),
        }
    }
    Ok(layouts)
}

fn preamble(options: &Options, cubic: Option<&Cubic>) -> String {
    let mut text = format!(
        "commit {}, kernel {}, {}\ncongestion control {}",
        setup::commit(),
        setup::kernel(),
        setup::processor(),
        setup::congestion_control()
    );
    if let Some(before) = cubic.and_then(Cubic::was) {
        text.push_str(&format!(" (for this run; it was {before})"));
    }
    let scheduling = if options.fifo { "SCHED_FIFO" } else { "ordinary" };
    text.push_str(&format!(", scheduling {scheduling}\n"));
    for peer in &options.peers {
        text.push_str(&format!("{:<9} {}\n", peer.name, peer.version()));
    }
    text
}

fn measure_layout(options: &Options, layout: Layout, dir: &Path) -> Result<Vec<Row>, String> {
    let Layout { name, proxy, client } = layout;
    println!("layout {name}: proxy on core {proxy}, load generator and origin on core {client}");
    if options.scenarios.is_empty() {
        return Ok(Vec::new());
    }
    let place = |core| Placement { core, fifo: options.fifo };
    let ports = setup::free_ports(options.peers.len() + 1)?;
    let origin = Running::origin(ports[0], place(client), dir)?;
    let mut running = Vec::new();
    for (peer, port) in options.peers.iter().zip(&ports[1..]) {
        running.push(Running::peer(peer, *port, ports[0], place(proxy), dir, options.logs)?);
    }
    let targets: Vec<Target> = running
        .iter()
        .map(|peer| Target { name: peer.name.clone(), port: peer.port, pid: peer.pid() })
        .collect();
    let names: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
    println!("{}", report::headline(&names[0]));
    let mut rows = Vec::new();
    for scenario in &options.scenarios {
        running.iter().try_for_each(Running::check_listeners)?;
        let plan = Plan {
            scenario: *scenario,
            cycles: options.cycles,
            warmup_cycles: usize::from(!options.smoke),
            slice_ms: options.slice_ms,
            targets: targets.clone(),
            origin_pid: Some(origin.pid()),
        };
        let outcome = fleet::run_load(&plan, place(client), dir)
            .map_err(|error| format!("{}, layout {name}: {error}", scenario.name))?;
        let new = report::rows(name, scenario.name, &names, &outcome);
        new.iter().for_each(|row| println!("{}", row.line()));
        rows.extend(new);
    }
    println!();
    running.into_iter().try_for_each(Running::stop)?;
    origin.stop()?;
    Ok(rows)
}

/// Each proxy alone and fresh: memory at start, then with idle connections.
fn measure_memory(options: &Options, dir: &Path) -> Result<Vec<Memory>, String> {
    let Some(layout) = options.layouts.first() else { return Ok(Vec::new()) };
    let place = |core| Placement { core, fifo: false };
    println!("memory: resident, {} idle keep-alive connections", options.idle);
    let mut all = Vec::new();
    for peer in &options.peers {
        let ports = setup::free_ports(2)?;
        let origin = Running::origin(ports[0], place(layout.client), dir)?;
        let proxy =
            Running::peer(peer, ports[1], ports[0], place(layout.proxy), dir, options.logs)?;
        let start_bytes = procfs::resident_bytes(proxy.pid());
        let start_share_bytes = procfs::proportional_bytes(proxy.pid());
        let small = &scenario::ALL[0];
        let connections = open_idle(small, proxy.port, options.idle)
            .map_err(|error| format!("{}: {error}", peer.name))?;
        sys::sleep_ns(500_000_000); // pools and buffers come to rest
        let idle_bytes = procfs::resident_bytes(proxy.pid());
        drop(connections);
        proxy.stop()?;
        origin.stop()?;
        let name = peer.name.clone();
        let connections = options.idle;
        let memory =
            Memory { proxy: name, start_bytes, start_share_bytes, idle_bytes, connections };
        println!("{}", memory.line());
        all.push(memory);
    }
    Ok(all)
}

impl Memory {
    fn per_connection(&self) -> f64 {
        (self.idle_bytes as f64 - self.start_bytes as f64) / self.connections.max(1) as f64
    }

    fn line(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        format!(
            "{:<9} at start {:>6.1} MiB resident, {:>6.1} proportional; idle {:>6.1} MiB, \
             {:.2} KiB per connection",
            self.proxy,
            mib(self.start_bytes),
            mib(self.start_share_bytes),
            mib(self.idle_bytes),
            self.per_connection() / 1024.0
        )
    }

    /// At most 8 MiB at start and 1.5 KiB for an idle connection.
    fn verdict(&self) -> String {
        const START_BYTES_MAX: u64 = 8 << 20;
        const IDLE_BYTES_MAX: f64 = 1536.0;
        let word = |met| if met { "met" } else { "MISSED" };
        format!(
            "  memory at start {:.1} MiB <= 8  {};  idle connection {:.2} KiB <= 1.5  {}",
            self.start_bytes as f64 / f64::from(1 << 20),
            word(self.start_bytes <= START_BYTES_MAX),
            self.per_connection() / 1024.0,
            word(self.per_connection() <= IDLE_BYTES_MAX)
        )
    }

    fn to_json(&self) -> Value {
        json!({
            "proxy": self.proxy,
            "start_bytes": self.start_bytes,
            "start_proportional_bytes": self.start_share_bytes,
            "idle_bytes": self.idle_bytes,
            "connections": self.connections,
            "bytes_per_connection": self.per_connection(),
        })
    }
}

fn results(options: &Options, rows: &[Row], memory: &[Memory], seconds: u64) -> Value {
    let versions: serde_json::Map<String, Value> =
        options.peers.iter().map(|peer| (peer.name.clone(), json!(peer.version()))).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    json!({
        "date": ringway_bench::wire::http_date(now),
        "commit": setup::commit(),
        "kernel": setup::kernel(),
        "processor": setup::processor(),
        "congestion_control": setup::congestion_control(),
        "sched_fifo": options.fifo,
        "access_logs": options.logs,
        "versions": versions,
        "cycles": options.cycles,
        "slice_ms": options.slice_ms,
        "seconds": seconds,
        "rows": rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        "memory": memory.iter().map(Memory::to_json).collect::<Vec<_>>(),
    })
}
