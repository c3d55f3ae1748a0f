//! `origin --port P [--core N] [--fifo] [--header "Name: value"]...`: the server behind the proxies.

use ringway_bench::args::Args;
use ringway_bench::{origin, sys};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("origin: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut args = Args::from_env();
    let port = args.value("--port", 9000)?;
    let core = args.text("--core")?;
    let fifo = args.flag("--fifo");
    let headers = args.texts("--header")?;
    args.finish()?;
    if let Some(core) = core {
        let core = core.parse().map_err(|error| format!("--core {core}: {error}"))?;
        sys::pin_self(core).map_err(|error| format!("core {core}: {error}"))?;
    }
    if fifo {
        sys::fifo_self(sys::FIFO_PRIORITY).map_err(|error| format!("SCHED_FIFO: {error}"))?;
    }
    sys::raise_file_limit().map_err(|error| format!("file limit: {error}"))?;
    origin::serve(port, &headers).map_err(|error| format!("port {port}: {error}"))
}
