//! What the machine and the process may do: cores, limits, kernel.

use std::fmt;
use std::fs;
use std::io;

use super::sys::{self, Limit};

/// The cores this process may run on, ascending: what `taskset`, cgroups (cpuset) and the machine
/// leave. Numbers as Linux gives them, perhaps with gaps.
///
/// # Errors
/// As sched_getaffinity(2).
pub fn cores() -> io::Result<Vec<usize>> {
    sys::affinity()
}

/// How many files and sockets this process may have open.
///
/// # Errors
/// As getrlimit(2).
pub fn open_files_max() -> io::Result<u64> {
    Ok(sys::limit(Limit::OpenFiles)?.0)
}

/// Raises the limit of open files to at least `wanted`, if that is allowed, and says what it is
/// then: the hard limit if `wanted` lies beyond it and the process has no right to raise that.
///
/// # Errors
/// As setrlimit(2).
pub fn raise_open_files_max(wanted: u64) -> io::Result<u64> {
    let (soft, hard) = sys::limit(Limit::OpenFiles)?;
    if soft >= wanted {
        return Ok(soft);
    }
    if wanted > hard && sys::set_limit(Limit::OpenFiles, wanted, wanted).is_ok() {
        return Ok(wanted);
    }
    sys::set_limit(Limit::OpenFiles, wanted.min(hard), hard)?;
    Ok(wanted.min(hard))
}

/// How much memory this process may lock, bytes; `u64::MAX` is no limit. Rings count against it up
/// to Linux 5.11.
///
/// # Errors
/// As getrlimit(2).
pub fn locked_memory_max() -> io::Result<u64> {
    Ok(sys::limit(Limit::LockedMemory)?.0)
}

/// The running kernel's version. Compares by number; shows the whole release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelVersion {
    major: u32,
    minor: u32,
    release: String,
}

impl KernelVersion {
    /// Reads a release such as `6.1.0-13-amd64`; numbers that are not there are 0.
    pub fn parse(release: &str) -> Self {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().ok());
        let mut next = || numbers.next().flatten().unwrap_or(0);
        Self { major: next(), minor: next(), release: release.to_owned() }
    }

    /// Whether this kernel is `major.minor` or newer. Distributions add features to old versions:
    /// where it can be asked for, ask for the feature.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.release)
    }
}

/// The running kernel.
pub fn kernel_version() -> KernelVersion {
    KernelVersion::parse(&sys::kernel_release())
}

/// `kernel.io_uring_disabled`: 0 on for all, 1 only for members of a group, 2 off. `None` before
/// Linux 6.6, which has no such switch, or where /proc is not mounted.
pub fn io_uring_disabled() -> Option<u8> {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_compare_by_number() {
        let debian = KernelVersion::parse("6.1.0-13-amd64");
        assert!(debian.is_at_least(5, 15) && debian.is_at_least(6, 1));
        assert!(!debian.is_at_least(6, 2));
        assert!(KernelVersion::parse("6.18.44").is_at_least(6, 9));
        assert!(!KernelVersion::parse("nonsense").is_at_least(1, 0));
        assert_eq!(debian.to_string(), "6.1.0-13-amd64");
    }

    #[test]
    fn the_machine_answers() {
        let cores = cores().unwrap();
        assert!(!cores.is_empty() && cores.is_sorted());
        assert!(kernel_version().is_at_least(5, 0));
        assert!(locked_memory_max().unwrap() > 0);
        let files = open_files_max().unwrap();
        assert_eq!(raise_open_files_max(1).unwrap(), files, "never lowered");
    }

    #[test]
    fn a_thread_can_be_pinned_to_a_core_it_has() {
        std::thread::spawn(|| {
            let last = *cores().unwrap().last().unwrap();
            super::super::pin_to_core(last).unwrap();
            assert_eq!(cores().unwrap(), [last]);
            let none = super::super::pin_to_core(1 << 20).unwrap_err();
            assert_eq!(none.kind(), io::ErrorKind::InvalidInput);
        })
        .join()
        .unwrap();
    }
}
