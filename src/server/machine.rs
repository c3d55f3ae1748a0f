//! What the machine allows, raised where it may be, said where it is too little.

use crate::{
    controlplane::{config::RuntimeConfig, log},
    rt::{
        Choice, machine,
        probe::{Probe, fits},
    },
};

/// Descriptors that are not connections: rings, listeners, eventfds, logs, the control side.
const DESCRIPTORS_BESIDE: u64 = 64;

/// Raises the limit of open files as far as it may be, and says what is too little, each with its
/// remedy. Nothing here is fatal.
pub(super) fn prepare(runtime: &RuntimeConfig, driver: &Choice) {
    if let Some(reason) = driver.reason() {
        log::warn(format_args!(
            "epoll was taken: {reason}. Everything works, at more CPU time per request; \
             `driver = \"epoll\"` in [runtime] says that this is meant"
        ));
    }
    if let Choice::IoUring(probe) = driver {
        check_ring(runtime, probe);
    }
    let wanted = files_wanted(runtime);
    match machine::raise_open_files_max(wanted) {
        Ok(allowed) if allowed >= wanted => {}
        Ok(allowed) => log::warn(format_args!("{}", too_few_files(allowed, wanted, runtime))),
        Err(error) => log::warn(format_args!(
            "the limit of open files could not be read or raised: {error}; see `ulimit -n`"
        )),
    }
}

/// Says what the rings of this machine lack.
fn check_ring(runtime: &RuntimeConfig, probe: &Probe) {
    if !probe.flags.defer_taskrun {
        log::warn(format_args!(
            "Linux {} lacks IORING_SETUP_DEFER_TASKRUN: everything works, with more system calls; \
             Linux 6.1 has it",
            probe.kernel
        ));
    }
    let locked = machine::locked_memory_max().unwrap_or(u64::MAX);
    if !fits(&probe.kernel, rings_bytes(runtime), locked) {
        log::warn(format_args!(
            "this kernel counts rings as locked memory and only {} KiB are allowed; raise \
             `ulimit -l` (LimitMEMLOCK= in systemd) to {} KiB",
            locked / 1024,
            rings_bytes(runtime) / 1024
        ));
    }
}

/// What it means that fewer files may be open than a full process would have, and what to do.
fn too_few_files(allowed: u64, wanted: u64, runtime: &RuntimeConfig) -> String {
    let cores = runtime.workers.len() as u64;
    let fit = (allowed / cores).saturating_sub(DESCRIPTORS_BESIDE) / 2;
    format!(
        "{allowed} files may be open, {wanted} are wanted when every core has all its connections; \
         raise `ulimit -Hn` (LimitNOFILE={wanted} in systemd), or set `connections_max = {fit}` in \
         [runtime]"
    )
}

/// Bytes of all rings: 64 per submission, 16 for each of its four completions.
pub(super) fn rings_bytes(runtime: &RuntimeConfig) -> u64 {
    runtime.workers.iter().map(|worker| u64::from(worker.ring_entries) * (64 + 4 * 16)).sum()
}

/// Files that a full process would have open: each connection of a client may have one to an
/// endpoint, each pipe has two ends.
fn files_wanted(runtime: &RuntimeConfig) -> u64 {
    let per_core = |worker: &crate::snapshot::WorkerSettings| {
        2 * worker.connections_max as u64 + 2 * worker.pipes_max as u64 + DESCRIPTORS_BESIDE
    };
    runtime.workers.iter().map(per_core).sum()
}

/// Cores as Linux writes them: `0-3,8`.
pub(super) fn ranges(cores: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for core in cores {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *core => *last = *core,
            _ => parts.push((*core, *core)),
        }
    }
    let part = |(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_as_linux_writes_them() {
        assert_eq!(ranges(&[0]), "0");
        assert_eq!(ranges(&[0, 1, 2, 3]), "0-3");
        assert_eq!(ranges(&[0, 2, 3, 8]), "0,2-3,8");
    }
}
