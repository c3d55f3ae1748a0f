//! `load --scenario NAME --proxy NAME=PORT,PID...`: loads proxies in turn, prints JSON.
//!
//! Options: `--cycles 20`, `--warmup-cycles 1`, `--slice-ms 100`, `--origin-pid PID`. Core and
//! scheduling class are those it is started with.

use ringway_bench::args::Args;
use ringway_bench::load::{self, Plan, Target};
use ringway_bench::scenario::Scenario;
use ringway_bench::sys;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut args = Args::from_env();
    let plan = Plan {
        scenario: Scenario::named(&args.value("--scenario", "small".to_owned())?)?,
        cycles: args.value("--cycles", 20)?,
        warmup_cycles: args.value("--warmup-cycles", 1)?,
        slice_ms: args.value("--slice-ms", 100)?,
        targets: args
            .texts("--proxy")?
            .iter()
            .map(|text| Target::parse(text))
            .collect::<Result<_, _>>()?,
        origin_pid: args
            .text("--origin-pid")?
            .map(|pid| pid.parse().map_err(|error| format!("--origin-pid {pid}: {error}")))
            .transpose()?,
    };
    args.finish()?;
    if plan.targets.is_empty() {
        return Err("at least one --proxy NAME=PORT,PID".to_owned());
    }
    sys::raise_file_limit().map_err(|error| format!("file limit: {error}"))?;
    sys::sharpen_timers().map_err(|error| format!("timers: {error}"))?;
    println!("{}", load::run(&plan)?.to_json());
    Ok(())
}
