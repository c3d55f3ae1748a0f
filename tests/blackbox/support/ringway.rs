//! The real binary as a child process, with its ports, its output and its end.

use std::{
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    Client, Conf, PATIENCE, eventually, process,
    wire::{Message, Wire},
};

/// What a process wrote, line by line, as it comes.
#[derive(Debug, Default)]
struct Output {
    lines: Mutex<[Vec<String>; 2]>,
    changed: Condvar,
}

const STDOUT: usize = 0;
const STDERR: usize = 1;

impl Output {
    fn collect(self: &Arc<Self>, which: usize, from: impl Read + Send + 'static) {
        let output = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n') {
                let Ok(line) = line else { break };
                let line = String::from_utf8_lossy(&line).into_owned();
                output.lines.lock().expect("no panic while locked")[which].push(line);
                output.changed.notify_all();
            }
        });
    }

    fn get(&self, which: usize) -> Vec<String> {
        self.lines.lock().expect("no panic while locked")[which].clone()
    }

    /// Waits until `check` yields a value; `None` when it doesn't within `within`.
    fn wait<T>(
        &self,
        within: Duration,
        check: impl Fn(&[Vec<String>; 2]) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + within;
        let mut lines = self.lines.lock().expect("no panic while locked");
        loop {
            if let Some(value) = check(&lines) {
                return Some(value);
            }
            let left = end.checked_duration_since(Instant::now())?;
            lines = self.changed.wait_timeout(lines, left).expect("no panic while locked").0;
        }
    }
}

/// A running ringway; killed when dropped.
#[derive(Debug)]
pub(crate) struct Ringway {
    child: Child,
    listen: SocketAddr,
    listen2: SocketAddr,
    /// Where the admin API listens.
    pub(crate) admin: SocketAddr,
    output: Arc<Output>,
    directory: tempfile::TempDir,
    ended: Option<ExitStatus>,
}

/// What a stopped ringway left behind.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Its access log, one object per request.
    pub(crate) access_log: Vec<Value>,
}

/// An address nobody listens on now, never the same twice, below the ports that the kernel gives out by
/// itself: an origin or a client would get one of those before ringway takes it, and answer in its
/// place. Another process may take it still: starting is therefore tried again with new ones.
pub(crate) fn free_address() -> SocketAddr {
    const PORTS: std::ops::Range<u32> = 10_000..32_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let count = PORTS.end - PORTS.start;
    let first = std::process::id().wrapping_mul(101) % count; // not where other processes look
    loop {
        let port = PORTS.start + (first + GIVEN.fetch_add(1, Ordering::Relaxed)) % count;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// `ringway run` on a configuration.
pub(crate) fn run(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.arg("run").arg("-c").arg(config).stdin(Stdio::null());
    command
}

impl Ringway {
    /// Starts with a configuration and waits until it is ready.
    pub(crate) fn start(conf: &Conf) -> Self {
        Self::start_text(&conf.text())
    }

    /// The same with a configuration as text with holes.
    pub(crate) fn start_text(text: &str) -> Self {
        Self::start_as(text, run)
    }

    /// The same with a command of the test's own, which is given the path of the configuration.
    pub(crate) fn start_as(text: &str, command: impl Fn(&Path) -> Command) -> Self {
        let mut last = Vec::new();
        for _ in 0..5 {
            let mut ringway = Self::spawn_as(text, &command);
            match ringway.wait_ready() {
                Ok(()) => return ringway,
                Err(stderr) => last = stderr,
            }
            if !last.iter().any(|line| line.to_lowercase().contains("in use")) {
                break;
            }
        }
        panic!("ringway did not start; it said:\n{}\nconfiguration:\n{text}", last.join("\n"));
    }

    /// Starts without waiting.
    fn spawn_as(text: &str, command: &impl Fn(&Path) -> Command) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = command(&directory.path().join("ringway.toml"));
        // Successors are of the same group: all end with the test.
        command.process_group(0);
        let listen = (free_address(), free_address());
        let admin = free_address();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let ringway = Ringway {
            child: {
                let file = directory.path().join("ringway.toml");
                std::fs::write(file, fill(text, listen, admin)).expect("the configuration");
                command.spawn().expect("the binary under test starts")
            },
            listen: listen.0,
            listen2: listen.1,
            admin,
            output: Arc::default(),
            directory,
            ended: None,
        };
        ringway.collect()
    }

    fn collect(mut self) -> Self {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        self.output.collect(STDOUT, stdout.expect("piped"));
        self.output.collect(STDERR, stderr.expect("piped"));
        self
    }

    /// Asks `/readyz` until it says yes. A line of output or a few milliseconds pass in between.
    fn wait_ready(&mut self) -> Result<(), Vec<String>> {
        let end = Instant::now() + PATIENCE;
        loop {
            if self.is_ready() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().expect("wait") {
                self.ended = Some(status);
                self.output.wait(Duration::from_millis(200), |_| None::<()>);
                return Err(self.output.get(STDERR));
            }
            if Instant::now() > end {
                return Err(self.output.get(STDERR));
            }
            let seen = self.output.get(STDERR).len() + self.output.get(STDOUT).len();
            self.output.wait(Duration::from_millis(3), |lines| {
                (lines[STDOUT].len() + lines[STDERR].len() > seen).then_some(())
            });
        }
    }

    /// Whether `/readyz` says yes now.
    pub(crate) fn is_ready(&self) -> bool {
        self.try_admin("/readyz").is_some_and(|answer| answer.status() == 200)
    }

    fn try_admin(&self, path: &str) -> Option<Message> {
        let stream = std::net::TcpStream::connect_timeout(&self.admin, PATIENCE).ok()?;
        let mut wire = Wire::new(stream);
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.admin);
        if !wire.try_send(request) {
            return None;
        }
        let head = wire.read_head().ok()?;
        wire.read_body(head, super::wire::Kind::Response("GET")).ok()
    }

    /// A page of the admin API.
    pub(crate) fn admin(&self, path: &str) -> Message {
        self.try_admin(path).unwrap_or_else(|| panic!("the admin API does not answer {path}"))
    }

    /// `/v1/status`.
    pub(crate) fn status(&self) -> Value {
        let answer = self.admin("/v1/status");
        assert_eq!(answer.status(), 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).expect("/v1/status is JSON")
    }

    /// The sum of all samples of a metric whose labels contain `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.admin("/metrics").text();
        let samples = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(labels))
        });
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// A client of the listener.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.listen)
    }

    /// A client of the second listener.
    pub(crate) fn connect2(&self) -> Client {
        Client::connect(self.listen2)
    }

    /// Where the listener listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listen
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything on standard error so far.
    pub(crate) fn stderr(&self) -> Vec<String> {
        self.output.get(STDERR)
    }

    /// Waits for a line on standard error or output that contains `text`.
    pub(crate) fn wait_for_line(&self, text: &str) -> String {
        let found = self.output.wait(PATIENCE, |lines| {
            lines.iter().flatten().find(|line| line.contains(text)).cloned()
        });
        found.unwrap_or_else(|| panic!("no line with {text:?} in {:?}", self.output))
    }

    /// Waits until the access log has `count` lines and returns them.
    pub(crate) fn access_log(&self, count: usize) -> Vec<Value> {
        let log = self.output.wait(PATIENCE, |lines| {
            let log = log_lines(&lines[STDOUT]);
            (log.len() >= count).then_some(log)
        });
        log.unwrap_or_else(|| {
            let log = log_lines(&self.output.get(STDOUT));
            panic!("waited for {count} access log lines; there are {}: {log:?}", log.len())
        })
    }

    /// Where its configuration is.
    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("ringway.toml")
    }

    /// A configuration with its holes filled.
    pub(crate) fn fill(&self, text: &str) -> String {
        fill(text, (self.listen, self.listen2), self.admin)
    }

    /// Renames a new configuration over the old one, as editors do, and lets the watch find it.
    pub(crate) fn replace(&self, text: &str) -> Reload<'_> {
        let before = self.versions();
        let new = self.directory.path().join("new");
        std::fs::write(&new, self.fill(text)).expect("configuration");
        std::fs::rename(new, self.config()).expect("renamed");
        Reload { ringway: self, before: before.iter().copied().max().unwrap_or(0) }
    }

    /// The process that answers now.
    pub(crate) fn pid_now(&self) -> u32 {
        let pid = self.status()["pid"].as_u64().expect("/v1/status has a pid");
        u32::try_from(pid).expect("a pid")
    }

    /// The same and the version of its rules, while perhaps nobody answers.
    pub(crate) fn try_pid_now(&self) -> Option<(u32, u64)> {
        let answer = self.try_admin("/v1/status")?;
        let status: Value = serde_json::from_slice(&answer.body).ok()?;
        Some((u32::try_from(status["pid"].as_u64()?).ok()?, status["version"].as_u64()?))
    }

    /// Where the second listener listens.
    pub(crate) fn address2(&self) -> SocketAddr {
        self.listen2
    }

    /// Writes a new configuration into the same file and sends SIGHUP.
    pub(crate) fn reload(&self, text: &str) -> Reload<'_> {
        let before = self.versions();
        let text = fill(text, (self.listen, self.listen2), self.admin);
        std::fs::write(self.directory.path().join("ringway.toml"), text).expect("configuration");
        process::signal(self.pid(), "HUP");
        Reload { ringway: self, before: before.iter().copied().max().unwrap_or(0) }
    }

    /// The version of the rules each core obeys.
    pub(crate) fn versions(&self) -> Vec<u64> {
        let status = self.status();
        let cores = status["cores"].as_array().expect("/v1/status has cores");
        cores.iter().map(|core| core["version"].as_u64().expect("a version per core")).collect()
    }

    /// SIGTERM, and what is left when it has ended.
    pub(crate) fn stop(mut self) -> Stopped {
        self.terminate();
        self.wait_ended(PATIENCE)
    }

    /// SIGTERM without waiting.
    pub(crate) fn terminate(&self) {
        process::signal(self.pid(), "TERM");
    }

    /// Waits until the process has ended.
    pub(crate) fn wait_ended(&mut self, within: Duration) -> Stopped {
        let what = "ringway to end after SIGTERM";
        let status = eventually(what, within, || self.child.try_wait().expect("wait"));
        self.ended = Some(status);
        let lines = self.output.get(STDERR);
        assert!(!panicked(&lines), "ringway panicked:\n{}", lines.join("\n"));
        Stopped { status, access_log: self.final_log() }
    }

    /// The pipe may still hold lines when the process has ended: reads until it is quiet.
    fn final_log(&self) -> Vec<Value> {
        let mut count = usize::MAX;
        loop {
            let seen = self.output.get(STDOUT).len();
            if seen == count {
                return log_lines(&self.output.get(STDOUT));
            }
            count = seen;
            self.output.wait(Duration::from_millis(30), |lines| {
                (lines[STDOUT].len() > seen).then_some(())
            });
        }
    }
}

/// A change that was submitted.
pub(crate) struct Reload<'a> {
    ringway: &'a Ringway,
    before: u64,
}

impl Reload<'_> {
    /// Waits until each core obeys newer rules.
    pub(crate) fn wait_until_applied_on_all_cores(self) {
        eventually("all cores to apply the new rules", PATIENCE, || {
            self.ringway.versions().iter().all(|version| *version > self.before).then_some(())
        });
    }
}

impl Drop for Ringway {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        process::signal_group(self.child.id(), "KILL");
        let lines = self.output.get(STDERR);
        if std::thread::panicking() {
            eprintln!("--- stderr of ringway\n{}\n---", lines.join("\n"));
        } else {
            assert!(!panicked(&lines), "ringway panicked:\n{}", lines.join("\n"));
        }
    }
}

fn panicked(lines: &[String]) -> bool {
    lines.iter().any(|line| line.contains("panicked"))
}

fn log_lines(lines: &[String]) -> Vec<Value> {
    let objects = lines.iter().filter(|line| line.starts_with('{'));
    objects
        .map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("log line {line:?}: {error}"))
        })
        .collect()
}

/// The driver that `RINGWAY_TEST_DRIVER` names, for all that don't choose one themselves.
pub(crate) fn driver() -> Option<String> {
    std::env::var("RINGWAY_TEST_DRIVER").ok()
}

/// Fills the holes, and adds the sections every test wants unless the text has its own.
fn fill(text: &str, listen: (SocketAddr, SocketAddr), admin: SocketAddr) -> String {
    let mut text = text.to_owned();
    if !text.contains("[log]") {
        text += "\n[log]\naccess = { to = \"stdout\", format = \"json\" }\n";
    }
    if !text.contains("[admin]") {
        text += "\n[admin]\naddress = \"{admin}\"\n";
    }
    if let Some((_, pair)) = super::tls::everywhere() {
        let tls = format!("\ntls = {{ certificates = [{{ {} }}] }}", pair.toml());
        for hole in ["address = \"{listen}\"", "address = \"{listen2}\""] {
            text = text.replace(hole, &format!("{hole}{tls}"));
        }
    }
    if let Some(driver) = driver()
        && !text.contains("driver =")
    {
        let line = format!("[runtime]\ndriver = \"{driver}\"\n");
        text = match text.contains("[runtime]\n") {
            true => text.replacen("[runtime]\n", &line, 1),
            false => text + "\n" + &line,
        };
    }
    text.replace("{listen}", &listen.0.to_string())
        .replace("{listen2}", &listen.1.to_string())
        .replace("{admin}", &admin.to_string())
}
