//! Starting and stopping what takes part, so that nothing is left behind.

use crate::load::{self, Outcome, Plan, probe};
use crate::peers::{Blanks, Peer};
use crate::procfs;
use crate::scenario::{ALL, Scenario};
use crate::sys::{self, Placement};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ready is a matter of milliseconds; Envoy on a busy machine takes seconds.
const START_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// A directory under the system's temporary one that goes away with its owner.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("ringway-bench-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that ends when this value does, or when we do.
#[derive(Debug)]
pub struct Running {
    /// Its name in messages.
    pub name: String,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts the origin.
    ///
    /// # Errors
    /// It does not answer on its port.
    pub fn origin(port: u16, placement: Placement, dir: &Path) -> Result<Self, String> {
        let mut command = Command::new(sibling("origin")?);
        command.arg("--port").arg(port.to_string());
        Self::start("origin", command, port, placement, dir)
    }

    /// Starts a proxy in front of the origin.
    ///
    /// # Errors
    /// Somebody listens on its port, before it or with it; it ends or does not answer rightly.
    pub fn peer(
        peer: &Peer,
        port: u16,
        origin: u16,
        placement: Placement,
        dir: &Path,
        logs: bool,
    ) -> Result<Self, String> {
        let dir = dir.join(&peer.name);
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let core = placement.core;
        let command = peer.command(&Blanks { port, origin, core, dir: &dir, logs })?;
        Self::start(&peer.name, command, port, placement, &dir)
    }

    fn start(
        name: &str,
        mut command: Command,
        port: u16,
        placement: Placement,
        dir: &Path,
    ) -> Result<Self, String> {
        let wrong = |error: std::io::Error| format!("{name}: {error}");
        if !procfs::listeners(port).is_empty() {
            return Err(format!("{name}: somebody listens on port {port} already; see ss -ltnp"));
        }
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log).map_err(wrong)?;
        command.stdin(Stdio::null()).stdout(out.try_clone().map_err(wrong)?).stderr(out);
        sys::place(&mut command, placement);
        let child = command.spawn().map_err(wrong)?;
        let mut running = Self { name: name.to_owned(), port, child, log };
        running.await_ready()?;
        running.check_listeners()?;
        Ok(running)
    }

    fn await_ready(&mut self) -> Result<(), String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let start = Instant::now();
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            if sys::interrupted() {
                return Err("interrupted".to_owned());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{} ended, {status}:\n{}", self.name, self.log_tail()));
            }
            if start.elapsed() > START_MAX {
                return Err(format!("{} does not listen:\n{}", self.name, self.log_tail()));
            }
            std::thread::sleep(POLL);
        }
        let scenario: &Scenario = &ALL[0];
        probe(scenario, self.port)
            .map_err(|error| format!("{}: {error}\n{}", self.name, self.log_tail()))
    }

    /// A dead proxy's child keeps its share of a reuseport port and makes its successor look
    /// twice as cheap: every listener on the port must be ours.
    ///
    /// # Errors
    /// Another process listens on the port as well.
    pub fn check_listeners(&self) -> Result<(), String> {
        let own = procfs::sockets(self.pid());
        let strays = procfs::listeners(self.port).into_iter().filter(|inode| !own.contains(inode));
        match strays.count() {
            0 => Ok(()),
            _ => Err(format!("{}: others listen on port {} too; ss -ltnp", self.name, self.port)),
        }
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Ends it and makes sure that nobody listens on its port any more.
    ///
    /// # Errors
    /// Somebody does.
    pub fn stop(mut self) -> Result<(), String> {
        self.end();
        let start = Instant::now();
        while !procfs::listeners(self.port).is_empty() {
            if start.elapsed() > STOP_MAX {
                return Err(format!(
                    "{}: port {} is still open after its end",
                    self.name, self.port
                ));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn end(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return; // ended and reaped: the pid may be somebody else's
        }
        sys::terminate(self.child.id());
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > STOP_MAX {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs the load generator in a process of its own, which `placement` puts where it belongs.
///
/// # Errors
/// What the generator says, or it takes much longer than it should.
pub fn run_load(plan: &Plan, placement: Placement, dir: &Path) -> Result<Outcome, String> {
    let mut command = load_command(plan)?;
    sys::place(&mut command, placement);
    let (out, err) = (dir.join("load.json"), dir.join("load.log"));
    let create = |path: &Path| File::create(path).map_err(|error| format!("load: {error}"));
    command.stdin(Stdio::null()).stdout(create(&out)?).stderr(create(&err)?);
    let slices = (plan.cycles + plan.warmup_cycles) * 2 * plan.targets.len();
    let patience = Duration::from_millis(slices as u64 * plan.slice_ms * 4 + 60_000);
    let success = finish(command, patience)?;
    let said = fs::read_to_string(&err).unwrap_or_default();
    if !success {
        return Err(said.trim().to_owned());
    }
    let text = fs::read_to_string(&out).map_err(|error| format!("load: {error}"))?;
    let value = serde_json::from_str(&text).map_err(|error| format!("load: {error}"))?;
    Outcome::from_json(&value).ok_or_else(|| "load: unexpected output".to_owned())
}

/// Waits for a process to succeed (`true`) or fail; ends it when `patience` is over.
///
/// # Errors
/// It cannot be started, or had to be ended.
pub fn finish(mut command: Command, patience: Duration) -> Result<bool, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) if start.elapsed() < patience && !sys::interrupted() => {
                std::thread::sleep(POLL * 4);
            }
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                let seconds = start.elapsed().as_secs();
                let why = if sys::interrupted() { "interrupted" } else { "took too long" };
                return Err(format!("{program}: {why}, ended after {seconds} s"));
            }
        }
    }
}

fn load_command(plan: &Plan) -> Result<Command, String> {
    let mut command = Command::new(sibling("load")?);
    command
        .args(["--scenario", plan.scenario.name])
        .args(["--cycles", &plan.cycles.to_string()])
        .args(["--warmup-cycles", &plan.warmup_cycles.to_string()])
        .args(["--slice-ms", &plan.slice_ms.to_string()]);
    if let Some(pid) = plan.origin_pid {
        command.args(["--origin-pid", &pid.to_string()]);
    }
    for load::Target { name, port, pid } in &plan.targets {
        command.args(["--proxy", &format!("{name}={port},{pid}")]);
    }
    Ok(command)
}

/// Another binary of this crate, built beside the one that runs.
fn sibling(name: &str) -> Result<PathBuf, String> {
    let here = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    Ok(here.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_stray_listener_is_noticed() {
        let stray = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = stray.local_addr().unwrap().port();
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let log = PathBuf::from("/nonexistent");
        let running = Running { name: "sleep".to_owned(), port, child, log };
        assert!(running.check_listeners().unwrap_err().contains("others listen"));
        drop(stray);
        assert_eq!(running.check_listeners(), Ok(()));
        assert_eq!(running.stop(), Ok(()));
    }

    #[test]
    fn a_taken_port_is_refused_before_anything_starts() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let core = sys::allowed_cores().unwrap()[0];
        let place = Placement { core, fifo: false };
        let scratch = std::env::temp_dir();
        let refused =
            Running::start("true", Command::new("true"), port, place, &scratch).unwrap_err();
        assert!(refused.contains("already"), "{refused}");
    }

    #[test]
    fn what_hangs_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let error = finish(command, Duration::from_millis(50)).unwrap_err();
        assert!(error.contains("took too long"), "{error}");
    }
}
