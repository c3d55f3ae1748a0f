//! What the kernel and the shell know about a process.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

/// Sends a signal ("TERM", "HUP", "KILL") to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let line = format!("kill -{name} {pid}");
    let status = Command::new("sh").args(["-c", &line]).stderr(Stdio::null()).status();
    assert!(status.is_ok(), "`{line}` could not be run: {status:?}");
}

/// Sends a signal to all processes of a group; none is no error.
pub(crate) fn signal_group(group: u32, name: &str) {
    let line = format!("kill -s {name} -- -{group}"); // as dash and bash both read it
    let _ = Command::new("sh").args(["-c", &line]).stderr(Stdio::null()).status();
}

/// A line of `/proc/PID/status` that holds KiB ("RssAnon", "VmRSS"), in bytes.
pub(crate) fn status_bytes(pid: u32, key: &str) -> u64 {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let line = text
        .lines()
        .find(|line| line.starts_with(key) && line[key.len()..].starts_with(':'))
        .unwrap_or_else(|| panic!("{path} has no {key}"));
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib * 1024
}

/// Memory of a process that is its own (no file pages), bytes.
pub(crate) fn private_memory(pid: u32) -> u64 {
    status_bytes(pid, "RssAnon")
}

/// Open file descriptors of a process.
pub(crate) fn fd_count(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// How many files this process may open (soft limit).
pub(crate) fn files_max() -> u64 {
    let text = std::fs::read_to_string("/proc/self/limits").expect("/proc/self/limits");
    let line = text.lines().find(|line| line.starts_with("Max open files")).expect("the limit");
    line.split_whitespace().nth(3).and_then(|n| n.parse().ok()).unwrap_or(u64::MAX)
}

/// Where a program is: on the search path, or where `scripts/setup` unpacks what it fetches.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let own = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/usr/bin"));
    let directories = std::env::split_paths(&path).chain([own]);
    directories.map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Runs the binary under test with `args` to its end.
pub(crate) fn ringway(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the binary under test runs")
}
