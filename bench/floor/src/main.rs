//! The floor: what any HTTP/1.1 proxy has to pay on this machine, and nothing else.
//!
//! Passes bytes from clients to pooled connections of one origin and back. It looks for the end of
//! a response (its head's end and `Content-Length`), so that it knows when a connection is free
//! again; it rewrites, checks, limits and counts nothing, has no deadlines, and ends when anything
//! is unusual. For comparisons only: see `docs/performance.md`.
//!
//! ```text
//! floor --port 8080 --origin 9000 [--driver uring|epoll] [--buffers 64] [--send ring|direct]
//!       [--wait 1] [--expect sends] [--files fixed] [--pages huge]
//! floor --port 8443 --origin 9000 --cert c.pem --key k.pem     TLS of clients, by epoll
//! ```

mod epoll;
mod relay;
mod ring;
mod socket;
mod tls;

use std::process::ExitCode;

/// What can be asked for on the command line.
#[derive(Clone, Debug, Default)]
struct Options {
    /// Where it listens, on 127.0.0.1.
    port: u16,
    /// Where the origin listens.
    origin: u16,
    /// Readiness by epoll(7) instead of the ring.
    epoll: bool,
    /// Receive buffers of 32 KiB that the kernel takes turns with; a power of two.
    buffers: u16,
    /// Sends by send(2) instead of the ring.
    direct: bool,
    /// Completions waited for at once.
    wait: u32,
    /// Sends are expected to end while they are submitted: a wait is for one completion more.
    expect: bool,
    /// Descriptors are registered with the ring.
    fixed: bool,
    /// Buffers lie in pages of 2 MiB.
    huge: bool,
    /// Files of a certificate and its key: clients speak TLS.
    cert: String,
    key: String,
}

fn options() -> Result<Options, String> {
    let mut options = Options { buffers: 64, wait: 1, ..Options::default() };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
        let number = || value.parse::<u32>().map_err(|error| format!("{flag} {value}: {error}"));
        match flag.as_str() {
            "--port" => options.port = number()? as u16,
            "--origin" => options.origin = number()? as u16,
            "--driver" => options.epoll = value == "epoll",
            "--buffers" => options.buffers = (number()? as u16).next_power_of_two(),
            "--send" => options.direct = value == "direct",
            "--wait" => options.wait = number()?,
            "--files" => options.fixed = value == "fixed",
            "--pages" => options.huge = value == "huge",
            "--cert" => options.cert = value,
            "--key" => options.key = value,
            "--expect" => options.expect = value == "sends",
            _ => return Err(format!("{flag}: unknown")),
        }
    }
    if options.port == 0 || options.origin == 0 {
        return Err("--port and --origin are needed".to_owned());
    }
    Ok(options)
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--version") {
        println!("floor {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let result = options().and_then(|options| {
        let run = if options.epoll || !options.cert.is_empty() { epoll::run } else { ring::run };
        run(options).map_err(|error| error.to_string())
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}
