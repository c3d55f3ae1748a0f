//! Cheap monotonic time for durations in logs and metrics.

use std::sync::LazyLock;
use std::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Microseconds since the first call in this process. Monotonic, the same on all cores; one read
/// of the clock through the vDSO, no system call.
pub fn now_micros() -> u64 {
    let since = START.elapsed();
    since.as_secs() * 1_000_000 + u64::from(since.subsec_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_runs_forward_in_microseconds() {
        let before = now_micros();
        std::thread::sleep(std::time::Duration::from_millis(5));
        let passed = now_micros() - before;
        assert!((5_000..5_000_000).contains(&passed), "{passed}");
    }
}
