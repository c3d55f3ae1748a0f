//! What /proc says: CPU time and memory of a process with its children, listening sockets.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};

/// CPU time in nanoseconds of all threads of `pid` and of its descendants (nginx's workers), from
/// `/proc/PID/task/*/schedstat`. Exact only while they sleep: the kernel adds a running slice late.
/// A thread that has ended takes its time with it; proxies under test keep theirs.
pub fn cpu_ns(pid: u32) -> u64 {
    family(pid).into_iter().flat_map(threads).map(thread_cpu_ns).sum()
}

/// CPU time in nanoseconds that one ringway has spent outside its cores' threads (`ringway-0`, ...), with what
/// threads that have ended took. To 10 ms: `/proc/PID/stat` counts in hundredths of a second.
pub fn beside_the_cores_ns(pid: u32) -> u64 {
    let is_core = |thread: &u32| {
        let name = fs::read_to_string(format!("/proc/{thread}/comm")).unwrap_or_default();
        let number = name.trim().strip_prefix("ringway-");
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let cores = threads(pid).into_iter().filter(is_core).map(thread_cpu_ns).sum();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    (ticks * 10_000_000).saturating_sub(cores)
}

/// Resident memory in bytes of `pid` and its descendants. Pages they share count in each.
pub fn resident_bytes(pid: u32) -> u64 {
    let kib = |pid| kib(&format!("/proc/{pid}/status"), "VmRSS:");
    family(pid).into_iter().filter_map(kib).sum::<u64>() * 1024
}

/// `pid` and all its descendants.
pub fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while next < all.len() {
        for thread in threads(all[next]) {
            let path = format!("/proc/{thread}/task/{thread}/children");
            let children = fs::read_to_string(path).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        next += 1;
    }
    all
}

/// Thread ids of one process; empty when it is gone.
pub fn threads(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn thread_cpu_ns(thread: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{thread}/schedstat")).unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// The same, but a page shared by n processes counts as 1/n in each (Pss). 0 where not permitted.
pub fn proportional_bytes(pid: u32) -> u64 {
    let kib = |pid| kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:");
    family(pid).into_iter().filter_map(kib).sum::<u64>() * 1024
}

fn kib(path: &str, key: &str) -> Option<u64> {
    let status = fs::read_to_string(path).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Inodes of the sockets that listen on `port`, on any address, IPv4 and IPv6.
pub fn listeners(port: u16) -> Vec<u64> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().filter_map(|path| File::open(path).ok());
    tables.flat_map(|table| listeners_in(BufReader::new(table), port)).collect()
}

/// The kernel lists listening sockets first. Reading on would take long: after a scenario with a
/// connection per request a hundred thousand others follow, in TIME_WAIT.
fn listeners_in(table: impl BufRead, port: u16) -> Vec<u64> {
    let rows = table.lines().skip(1).map_while(|line| listener(&line.ok()?));
    rows.filter(|&(_, local)| local == port).map(|(inode, _)| inode).collect()
}

/// Inode and port of a row of /proc/net/tcp if that socket listens. Source: proc_net(5).
fn listener(row: &str) -> Option<(u64, u16)> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = row.split_whitespace().collect();
    let port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
    let inode = fields.get(9)?.parse().ok()?;
    (*fields.get(3)? == LISTEN).then_some((inode, port))
}

/// Inodes of all sockets that `pid` and its descendants hold.
pub fn sockets(pid: u32) -> HashSet<u64> {
    let links =
        family(pid).into_iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok());
    links
        .flatten()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn finds_our_own_listener_and_knows_it_is_ours() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = listeners(listener.local_addr().unwrap().port());
        assert_eq!(found.len(), 1);
        assert!(sockets(std::process::id()).contains(&found[0]));
    }

    #[test]
    fn burning_cpu_shows() {
        let before = cpu_ns(std::process::id());
        let mut sum = 0u64;
        for i in 0..50_000_000u64 {
            sum = std::hint::black_box(sum ^ i);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(cpu_ns(std::process::id()) - before > 1_000_000);
        assert!(resident_bytes(std::process::id()) > 100_000);
    }
}
