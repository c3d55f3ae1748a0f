//! What a request costs by part: samples of a proxy's threads, told apart by what they are doing.
//!
//! A sample in the kernel belongs to what was asked of it: a send (with the receiver's work in it), a
//! receive, all else. A sample of our own code belongs to the room of the innermost function of ours, inlined or not,
//! which the debug information of the binary tells (`addr2line` of binutils or LLVM).

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the proxy's own code is told apart by: the first that fits the path of the source.
const ROOMS: [(&str, &str); 12] = [
    ("/src/proto/h1/write_", "rewrite"),
    ("/src/proto/", "parse"),
    ("/src/policy/", "route"),
    ("/src/proxy/target", "route"),
    ("/src/snapshot/", "route"),
    ("/src/telemetry/", "accounts"),
    ("/src/dataplane/proxy/finish", "accounts"),
    ("/src/dataplane/shard/", "accounts"),
    ("/src/rt/", "executor, driver"),
    ("/src/dataplane/", "exchange"),
    ("/bench/floor/src/", "exchange"),
    ("/io-uring-", "executor, driver"),
];

/// In the order of the table.
const PARTS: [&str; 10] = [
    "kernel: send",
    "kernel: receive",
    "kernel: rest",
    "parse",
    "route",
    "rewrite",
    "exchange",
    "accounts",
    "executor, driver",
    "libc, std",
];

/// The samples of each part.
pub type Shares = BTreeMap<&'static str, u64>;

/// Reads what `perf script -F ip,sym,dso` has written: a stack each, the innermost function first. With
/// `sources`, the [`code_shift`] of the binary, its code is told apart; without it is all one.
///
/// # Errors
/// The sources of the binary's code cannot be found out.
pub fn shares(text: &str, binary: &Path, sources: Option<u64>) -> Result<Shares, String> {
    let name = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut shares = Shares::new();
    let mut own: HashMap<u64, u64> = HashMap::new();
    for stack in text.split("\n\n") {
        let frames: Vec<&str> =
            stack.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let Some(leaf) = frames.first() else { continue };
        let address = leaf.split(' ').next().and_then(|ip| u64::from_str_radix(ip, 16).ok());
        let Some(address) = address else { continue };
        if address >> 63 == 1 {
            *shares.entry(of_kernel(&frames)).or_default() += 1;
        } else if leaf.contains(&format!("/{name})")) {
            match sources {
                Some(shift) => *own.entry(address.wrapping_add(shift)).or_default() += 1,
                None => *shares.entry("exchange").or_default() += 1,
            }
        } else {
            *shares.entry("libc, std").or_default() += 1;
        }
    }
    if own.is_empty() {
        return Ok(shares);
    }
    for (part, count) in rooms(&own, binary)? {
        *shares.entry(part).or_default() += count;
    }
    Ok(shares)
}

fn of_kernel(frames: &[&str]) -> &'static str {
    let any =
        |names: &[&str]| frames.iter().any(|frame| names.iter().any(|name| frame.contains(name)));
    if any(&["tcp_sendmsg", "tcp_splice_eof", "splice_to_socket"]) {
        "kernel: send"
    } else if any(&["tcp_recvmsg", "tcp_splice_read", "io_recv", "inet_recvmsg"]) {
        "kernel: receive"
    } else {
        "kernel: rest"
    }
}

/// Adds up the addresses of the binary by room.
fn rooms(own: &HashMap<u64, u64>, binary: &Path) -> Result<Shares, String> {
    let wrong = |error: std::io::Error| format!("addr2line: {error}");
    let mut command = Command::new("addr2line");
    command.args(["-a", "-i", "-e"]).arg(binary).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().map_err(wrong)?;
    let mut input = child.stdin.take().ok_or("addr2line: no input")?;
    let asked: String = own.keys().map(|address| format!("{address:#x}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(asked.as_bytes()));
    let output = child.wait_with_output().map_err(wrong)?;
    writer.join().map_err(|_| "addr2line: died".to_owned())?.map_err(wrong)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut shares = Shares::new();
    let (mut count, mut found) = (0, None);
    for line in text.lines() {
        if let Some(address) = line.strip_prefix("0x") {
            *shares.entry(found.unwrap_or("libc, std")).or_default() += count;
            let address = u64::from_str_radix(address, 16).map_err(|error| error.to_string())?;
            (count, found) = (own.get(&address).copied().unwrap_or(0), None);
        } else if found.is_none() {
            found = ROOMS.iter().find(|(path, _)| line.contains(path)).map(|(_, room)| *room);
        }
    }
    *shares.entry(found.unwrap_or("libc, std")).or_default() += count;
    Ok(shares)
}

/// What to add to an offset in the file of a running binary, which is what perf tells, to get the
/// address that its code was linked for.
///
/// # Errors
/// The process is gone.
pub fn code_shift(pid: u32, binary: &Path) -> Result<u64, String> {
    let binary =
        fs::canonicalize(binary).map_err(|error| format!("{}: {error}", binary.display()))?;
    let maps =
        fs::read_to_string(format!("/proc/{pid}/maps")).map_err(|error| error.to_string())?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let mut of_file = maps.lines().filter(|line| line.ends_with(&*binary.to_string_lossy()));
    let mut fields = of_file.clone().map(|line| line.split_whitespace());
    let start = |range: Option<&str>| hex(range?.split('-').next()?);
    let base = fields.next().and_then(|mut first| start(first.next()));
    let code = of_file.find(|line| line.contains(" r-xp ")).and_then(|line| {
        let mut words = line.split_whitespace();
        Some((start(words.next())?, hex(words.nth(1)?)?))
    });
    match (base, code) {
        (Some(base), Some((start, offset))) => Ok(start.wrapping_sub(offset).wrapping_sub(base)),
        _ => Err(format!("{} does not run as {pid}", binary.display())),
    }
}

/// A line for each part: microseconds per request, and its share.
pub fn table(shares: &Shares, micros: f64) -> String {
    let all = shares.values().sum::<u64>().max(1) as f64;
    let line = |part: &str, share: f64| {
        format!("{:7.2} us  {:5.1} %  {part}\n", share * micros, share * 100.0)
    };
    let parts =
        PARTS.iter().map(|part| line(part, shares.get(part).copied().unwrap_or(0) as f64 / all));
    parts.collect::<String>() + &line("all", 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_and_libraries_are_told_apart() {
        let text = "\tffffffff81000000 memcpy ([kernel])\n\tffffffff81000001 tcp_sendmsg ([kernel])\n\n\
                    \tffffffff81000002 io_recv ([kernel])\n\n\tffffffff81000003 schedule ([kernel])\n\n\
                    \t7f0000000000 memcpy (/usr/lib/libc.so.6)\n\n";
        let shares = shares(text, Path::new("/nonexistent/none"), None).unwrap_or_default();
        let expected =
            [("kernel: send", 1), ("kernel: receive", 1), ("kernel: rest", 1), ("libc, std", 1)];
        let counted: Vec<_> = expected.iter().map(|(part, _)| shares.get(part).copied()).collect();
        assert!(counted.iter().all(|count| *count == Some(1)), "{shares:?}");
        assert!(table(&shares, 8.0).starts_with("   2.00 us   25.0 %  kernel: send\n"));
    }
}
