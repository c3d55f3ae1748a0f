//! One ringway with many routes: its configuration, its process, what it logs and its Admin API.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Longest wait for anything it should do at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// One route in a hundred is another one after each round.
pub const SHARE: usize = 100;

/// The round in which a route changed last, as of `round`.
pub fn changed_in(route: usize, round: usize) -> usize {
    if round < route % SHARE { 0 } else { round - (round - route % SHARE) % SHARE }
}

/// What a change changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// Where routes lead to.
    Targets,
    /// The order in which routes are tried as well, so that the table is another one.
    Table,
}

/// What is written into the file.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How many routes.
    pub routes: usize,
    /// What differs from round to round.
    pub what: What,
    /// More keys of `[admin]`.
    pub admin: String,
    listen: u16,
    admin_port: u16,
    origin: u16,
}

impl Rules {
    /// Rules on ports that are free now.
    ///
    /// # Errors
    /// No free port.
    pub fn new(routes: usize, what: What, origin: u16) -> io::Result<Self> {
        // Both at once, so that they are two.
        let free = || TcpListener::bind("127.0.0.1:0");
        let (listen, admin) = (free()?, free()?);
        Ok(Self {
            routes,
            what,
            admin: String::new(),
            listen: listen.local_addr()?.port(),
            admin_port: admin.local_addr()?.port(),
            origin,
        })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.listen
    }

    /// The file of a round.
    pub fn text(&self, round: usize) -> String {
        let Self { listen, admin_port, origin, admin, .. } = self;
        let mut text = format!(
            "[runtime]\ndrain_timeout = \"10s\"\n[admin]\naddress = \"127.0.0.1:{admin_port}\"\n{admin}\
             [log]\naccess = \"off\"\n[[listener]]\nname = \"edge\"\naddress = \"127.0.0.1:{listen}\"\n\
             [[upstream]]\nname = \"u\"\nendpoints = [\"http://127.0.0.1:{origin}\"]\n\
             [[route]]\nid = \"ws\"\npath = \"/ws\"\nupstream = \"u\"\n"
        );
        for route in 0..self.routes {
            let changed = changed_in(route, round);
            let priority = match self.what {
                What::Targets => String::new(),
                What::Table => format!("priority = {changed}\n"),
            };
            text.push_str(&format!(
                "[[route]]\nid = \"route-{route}\"\npath = \"/r{route}\"\n\
                 rewrite = \"/s/{changed}/{route}\"\n{priority}upstream = \"u\"\n"
            ));
        }
        text
    }
}

/// A line of its log, and when it came.
pub type Line = (Instant, String);

/// The process, and those that take over from it.
#[derive(Debug)]
pub struct Ringway {
    child: Child,
    lines: Receiver<Line>,
    file: PathBuf,
    /// The process that serves now.
    pub pid: u32,
    admin: u16,
}

impl Ringway {
    /// Starts a binary and waits until it serves.
    ///
    /// # Errors
    /// It does not serve in time.
    pub fn start(binary: &Path, directory: &Path, rules: &Rules) -> Result<Self, String> {
        let file = directory.join("ringway.toml");
        let failed = |error: io::Error| format!("{}: {error}", binary.display());
        std::fs::write(&file, rules.text(0)).map_err(failed)?;
        let mut child = Command::new(binary)
            .args(["run", "-c"])
            .arg(&file)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (sender, lines) = channel();
        let stderr = child.stderr.take().ok_or("no stderr")?;
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.send((Instant::now(), line));
            }
        });
        let pid = child.id();
        let ringway = Self { child, lines, file, pid, admin: rules.admin_port };
        ringway.wait_for("ready: ")?;
        Ok(ringway)
    }

    /// Waits for a line of the log that contains `text`.
    ///
    /// # Errors
    /// It does not come.
    pub fn wait_for(&self, text: &str) -> Result<Line, String> {
        let end = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        let why = loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.1.contains(text) => return Ok(line),
                Ok((_, line)) => lines.push(line),
                Err(RecvTimeoutError::Timeout) => break format!("no \"{text}\" in the log"),
                Err(RecvTimeoutError::Disconnected) => break "it ended".to_owned(),
            }
        };
        Err(format!("{why}: {}", lines.join("\n")))
    }

    /// Renames a new file over the old one; how long until all cores obey it.
    ///
    /// # Errors
    /// They don't.
    pub fn replace(&self, text: &str) -> Result<Duration, String> {
        let new = self.file.with_extension("new");
        std::fs::write(&new, text).map_err(|error| error.to_string())?;
        self.replace_by(&new)
    }

    /// The same with a file that is there already.
    ///
    /// # Errors
    /// They don't.
    pub fn replace_by(&self, new: &Path) -> Result<Duration, String> {
        let began = Instant::now();
        std::fs::rename(new, &self.file).map_err(|error| error.to_string())?;
        Ok(self.wait_in_force()?.saturating_duration_since(began))
    }

    /// Waits until all cores obey a change; when they did.
    ///
    /// # Errors
    /// They don't.
    pub fn wait_in_force(&self) -> Result<Instant, String> {
        Ok(self.wait_for("is in force on all cores")?.0)
    }

    /// SIGUSR2; waits until a successor has taken over.
    ///
    /// # Errors
    /// None does.
    pub fn upgrade(&mut self) -> Result<(), String> {
        self.signal("USR2")?;
        let (_, line) = self.wait_for("has taken over")?;
        let words: Vec<&str> = line.split(' ').collect();
        let place = words.iter().position(|word| *word == "process").ok_or("no process id")?;
        self.pid = words.get(place + 1).and_then(|pid| pid.parse().ok()).ok_or("no process id")?;
        Ok(())
    }

    /// Sends a signal to the process that serves.
    ///
    /// # Errors
    /// There is none.
    pub fn signal(&self, name: &str) -> Result<(), String> {
        let status = Command::new("kill").args([format!("-{name}"), self.pid.to_string()]).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("kill -{name} {}: {other:?}", self.pid)),
        }
    }

    /// A connection to its Admin API.
    ///
    /// # Errors
    /// It does not take one.
    pub fn admin(&self) -> Result<Admin, String> {
        let stream = TcpStream::connect(("127.0.0.1", self.admin)).map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Admin(stream))
    }

    /// A number of `/proc/PID/status` in bytes.
    pub fn memory(&self, key: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.unwrap_or(0) * 1024
    }
}

impl Drop for Ringway {
    fn drop(&mut self) {
        let _ = self.signal("KILL");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A keep-alive connection to an Admin API.
#[derive(Debug)]
pub struct Admin(TcpStream);

impl Admin {
    /// Makes a call; its status and how long it took.
    ///
    /// # Errors
    /// The connection breaks.
    pub fn call(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(u16, Duration), String> {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let failed = |error: io::Error| format!("{method} {path}: {error}");
        let began = Instant::now();
        self.0.write_all(request.as_bytes()).map_err(failed)?;
        let (mut bytes, mut room) = (Vec::new(), [0; 16 * 1024]);
        loop {
            let count = self.0.read(&mut room).map_err(failed)?;
            if count == 0 {
                return Err(format!("{method} {path}: closed"));
            }
            bytes.extend_from_slice(&room[..count]);
            let head = crate::wire::response(&bytes).map_err(|_| "not HTTP/1")?;
            if let Some(head) = head
                && bytes.len() >= head.head_bytes + head.body_bytes.unwrap_or(0)
            {
                return Ok((head.status, began.elapsed()));
            }
        }
    }
}
