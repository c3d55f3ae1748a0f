//! What must be right before anything is measured.

use crate::procfs;
use crate::{sys, wire};
use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
/// Ports are taken from here up, below the range that the kernel gives to clients.
const FIRST_PORT: u16 = 21_000;
const LAST_PORT: u16 = 31_999;

/// Cubic for as long as this value lives; then what it was before. With bbr the figures of large
/// bodies change sign, and a connection keeps what it was opened with.
#[derive(Debug)]
pub struct Cubic {
    before: Option<String>,
}

impl Cubic {
    /// Sets it, where it is not set.
    ///
    /// # Errors
    /// It is something else and cannot be set.
    pub fn ensure() -> Result<Self, String> {
        let before = congestion_control();
        if before == "cubic" {
            return Ok(Self { before: None });
        }
        fs::write(CONGESTION_CONTROL, "cubic").map_err(|error| {
            format!(
                "net.ipv4.tcp_congestion_control is {before} and cannot be changed ({error}); \
                 sysctl -w net.ipv4.tcp_congestion_control=cubic"
            )
        })?;
        Ok(Self { before: Some(before) })
    }

    /// Whether it had to be changed, and from what.
    pub fn was(&self) -> Option<&str> {
        self.before.as_deref()
    }
}

impl Drop for Cubic {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = fs::write(CONGESTION_CONTROL, before);
        }
    }
}

/// What new connections use.
pub fn congestion_control() -> String {
    fs::read_to_string(CONGESTION_CONTROL).unwrap_or_default().trim().to_owned()
}

/// `count` ports on which nobody listens and which can be bound.
///
/// # Errors
/// There are not so many.
pub fn free_ports(count: usize) -> Result<Vec<u16>, String> {
    let start = FIRST_PORT + (std::process::id() % 8000) as u16; // two runs rarely meet
    let free = |port: &u16| {
        procfs::listeners(*port).is_empty() && TcpListener::bind(("127.0.0.1", *port)).is_ok()
    };
    let ports: Vec<u16> =
        (start..LAST_PORT).chain(FIRST_PORT..start).filter(free).take(count).collect();
    if ports.len() == count { Ok(ports) } else { Err("not enough free ports".to_owned()) }
}

/// Whether SCHED_FIFO is permitted: tried on this process, which is put back at once.
pub fn fifo_permitted() -> bool {
    sys::fifo_self(sys::FIFO_PRIORITY).is_ok() && sys::ordinary_self().is_ok()
}

/// Kernel release.
pub fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// What the first processor calls itself.
pub fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, name)| name).to_owned()
}

/// The date in UTC, as 2026-11-20.
pub fn today() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let (year, month, day) = wire::civil(now / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// The commit of the working tree, with `-dirty` if it has changes; "unknown" outside git.
pub fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=9", "--exclude=*"])
        .current_dir(crate::peers::bench_dir())
        .stderr(Stdio::null());
    let output = git.output().ok().filter(|output| output.status.success());
    output.map_or("unknown".to_owned(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_free_and_different() {
        let ports = free_ports(3).unwrap();
        assert_eq!(ports.len(), 3);
        assert!(ports.windows(2).all(|pair| pair[0] != pair[1]));
        let _held = TcpListener::bind(("127.0.0.1", ports[0])).unwrap();
        assert!(!procfs::listeners(ports[0]).is_empty());
    }

    #[test]
    fn the_machine_is_described() {
        assert!(kernel().contains('.'));
        assert!(!processor().is_empty());
    }
}
