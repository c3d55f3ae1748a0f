//! What the machine allows, raised where it may be, said where it is too little.

use crate::{
    controlplane::{config::RuntimeConfig, log},
    rt::machine,
};

/// Descriptors that are not connections: rings, listeners, eventfds, logs, the control side.
const DESCRIPTORS_BESIDE: u64 = 64;

/// Raises the limit of open files as far as it may be, and says what is too little, each with its
/// remedy. Nothing here is fatal.
pub(super) fn prepare(runtime: &RuntimeConfig) {
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
