//! Milliseconds that all threads of the process agree on, for points in time that cores and the
//! control plane tell each other: an endpoint is ejected until then, is up since then.

use std::{sync::LazyLock, time::Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since shortly before the first call in this process; never 0, so that 0 can mean
/// "never". Monotonic, the same on all threads. Reads the clock through the vDSO: a core does so
/// once per tick, not per request.
pub fn now_ms() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_runs_forward_in_milliseconds() {
        let before = now_ms();
        assert!(before > 0);
        std::thread::sleep(std::time::Duration::from_millis(5));
        let passed = now_ms() - before;
        assert!((5..5_000).contains(&passed), "{passed}");
    }
}
