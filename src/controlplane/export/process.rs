//! What the kernel says of this process: memory, descriptors, processor time of each thread.
//!
//! Read from `/proc/self`, so that no core is asked. A file that cannot be read (another mount of
//! `/proc`, a kernel without it) leaves its metric out. Source: proc(5).

use std::{fs, time::Duration};

/// Bytes of the process that are in RAM (`VmRSS`).
pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// File descriptors open.
pub fn open_fds() -> Option<u64> {
    // Since Linux 6.2 the size of the directory is the number; counting entries of a proxy with
    // 100,000 connections takes a while.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64),
        count => Some(count),
    }
}

/// File descriptors that may be open; `None` if there is no limit.
pub fn max_fds() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processor time of the whole process, user and system, threads that ended included.
pub fn cpu_time() -> Option<Duration> {
    // The second field is the program's name in parentheses and may hold spaces itself.
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks * 10)) // USER_HZ is 100 on every architecture of ours
}

/// A thread of this process.
#[derive(Debug)]
pub struct Thread {
    id: String,
}

impl Thread {
    /// Its name, at most 15 bytes.
    pub fn name(&self) -> Option<String> {
        let name = fs::read_to_string(format!("/proc/self/task/{}/comm", self.id)).ok()?;
        Some(name.trim_end().to_owned())
    }

    /// Processor time it used, to the nanosecond.
    pub fn cpu_time(&self) -> Option<Duration> {
        let text = fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.id)).ok()?;
        text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    }
}

/// The threads of this process that run now.
pub fn threads() -> Option<Vec<Thread>> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    let id = |entry: fs::DirEntry| entry.file_name().into_string().ok().map(|id| Thread { id });
    Some(tasks.filter_map(|entry| id(entry.ok()?)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers() {
        assert!(resident_bytes().expect("VmRSS") > 1024 * 1024);
        assert!(open_fds().expect("descriptors") >= 3);
        assert!(cpu_time().is_some());
        assert!(max_fds().is_none_or(|max| max >= 64));
    }

    #[test]
    fn a_thread_is_found_by_its_name() {
        let (ended, wait) = std::sync::mpsc::channel::<()>();
        let worker = std::thread::Builder::new()
            .name("ringway-core-9".into())
            .spawn(move || _ = wait.recv())
            .expect("a thread");
        let seen = loop {
            let names: Vec<_> =
                threads().expect("threads").iter().filter_map(Thread::name).collect();
            if names.iter().any(|name| name == "ringway-core-9") {
                break true;
            }
        };
        assert!(seen);
        drop(ended);
        worker.join().expect("ends");
    }
}
