//! Whether a request that failed is tried again, how long it waits before, and the budget that keeps
//! tries from becoming a storm. Time and chance are arguments.
//!
//! The budget counts, it does not look at what is in flight: each request earns a share of a try, a
//! further try costs a whole one. So with every endpoint failing at once, however slow or fast, no
//! more than `1 + budget` requests leave for each that came, plus a floor for quiet times.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::base::limits::{RETRY_BUDGET_MEMORY, RETRY_FLOOR_BURST, RETRY_FLOOR_INTERVAL};

/// Why a try failed, as far as trying again is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No connection could be made: nothing was sent.
    Connect,
    /// The endpoint ended the connection before a whole response head.
    Reset,
    /// It was silent for too long.
    Timeout,
    /// What it sent is no response.
    Invalid,
    /// It answered with this status.
    Status(u16),
}

impl Cause {
    /// How many kinds are counted apart.
    pub const KINDS: usize = 5;

    /// Their words in TOML and metrics, by [`Cause::kind`].
    pub const NAMES: [&str; Self::KINDS] = ["connect", "reset", "timeout", "invalid", "status"];

    /// Its place in [`Cause::NAMES`].
    pub const fn kind(self) -> usize {
        match self {
            Self::Connect => 0,
            Self::Reset => 1,
            Self::Timeout => 2,
            Self::Invalid => 3,
            Self::Status(_) => 4,
        }
    }
}

/// `route.retry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryRule {
    /// Further tries after the first, at most.
    pub attempts: u8,
    /// Which causes count, by [`Cause::kind`]; statuses are listed apart.
    pub kinds: [bool; Cause::KINDS],
    /// Statuses that count, ascending.
    pub statuses: Box<[u16]>,
    /// What each request earns, in parts of 10,000 of a try.
    pub budget_per_10k: u16,
    /// Longest pause before the first further try; doubles with each one after it.
    pub backoff: Duration,
    /// For one try, from its connection to its response head.
    pub per_try_timeout: Option<Duration>,
    /// Whether requests are repeated that may change something each time (POST, PATCH).
    pub non_idempotent: bool,
    /// Bodies up to this many bytes are kept until the response comes.
    pub body_bytes_max: usize,
}

impl RetryRule {
    /// Whether a try that failed so may be followed by another one.
    pub fn covers(&self, cause: Cause) -> bool {
        match cause {
            Cause::Status(status) => self.statuses.binary_search(&status).is_ok(),
            other => self.kinds[other.kind()],
        }
    }

    /// How long to wait before further try number `number`, counted from 1: anything between nothing
    /// and a bound that doubles, so that those who failed together do not come back together.
    /// Source: M. Brooker, "Exponential Backoff and Jitter", 2015 ("full jitter").
    pub fn pause(&self, number: u8, random: u64) -> Duration {
        let doublings = u32::from(number.saturating_sub(1)).min(10);
        let bound =
            self.backoff.saturating_mul(1 << doublings).min(crate::base::limits::RETRY_BACKOFF_MAX);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(((u128::from(random) * u128::from(nanos)) >> 64) as u64)
    }
}

/// What a whole try costs, in the unit of [`RetryRule::budget_per_10k`].
const COST: i64 = 10_000;

/// What an upstream's requests have earned. One for the whole process; cores bring what their
/// requests earned once per tick, so that it is at most that much too small, never too large.
#[derive(Debug, Default)]
pub struct RetryBudget {
    balance: AtomicI64,
    /// When the balance last shrank with time.
    aged_ms: AtomicU64,
    /// Of the floor: when it will have recovered from what was taken (a GCRA).
    floor_ms: AtomicU64,
}

impl RetryBudget {
    /// Adds what requests earned, and lets old earnings fade: those of a busy hour are no licence for
    /// the minute in which everything fails.
    pub fn earn(&self, earned: u64, now_ms: u64) {
        let aged_ms = self.aged_ms.load(Relaxed);
        let passed_ms = now_ms.saturating_sub(aged_ms);
        if passed_ms > 0 && self.aged_ms.compare_exchange(aged_ms, now_ms, Relaxed, Relaxed).is_ok()
        {
            let memory_ms = RETRY_BUDGET_MEMORY.as_millis() as i64;
            let passed_ms = i64::try_from(passed_ms).unwrap_or(i64::MAX).min(memory_ms);
            let balance = self.balance.load(Relaxed).max(0);
            self.balance.fetch_sub(balance.saturating_mul(passed_ms) / memory_ms, Relaxed);
        }
        self.balance.fetch_add(i64::try_from(earned).unwrap_or(0), Relaxed);
    }

    /// Takes a further try out of it, or out of the floor; whether there was one.
    pub fn take(&self, now_ms: u64) -> bool {
        let pay = |balance: i64| (balance >= COST).then_some(balance - COST);
        self.balance.fetch_update(Relaxed, Relaxed, pay).is_ok() || self.take_of_floor(now_ms)
    }

    fn take_of_floor(&self, now_ms: u64) -> bool {
        let interval = RETRY_FLOOR_INTERVAL.as_millis() as u64;
        let burst = interval * (RETRY_FLOOR_BURST - 1);
        let next = |until: u64| (until <= now_ms + burst).then(|| until.max(now_ms) + interval);
        self.floor_ms.fetch_update(Relaxed, Relaxed, next).is_ok()
    }

    /// Whole tries that could be taken now, those of the floor apart.
    pub fn left(&self) -> u64 {
        u64::try_from(self.balance.load(Relaxed) / COST).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> RetryRule {
        RetryRule {
            attempts: 2,
            kinds: [true, true, false, false, false],
            statuses: [502, 503].into(),
            budget_per_10k: 2_000,
            backoff: Duration::from_millis(10),
            per_try_timeout: None,
            non_idempotent: false,
            body_bytes_max: 1024,
        }
    }

    #[test]
    fn only_what_is_listed_is_tried_again() {
        let rule = rule();
        for (cause, covered) in [
            (Cause::Connect, true),
            (Cause::Reset, true),
            (Cause::Timeout, false),
            (Cause::Invalid, false),
            (Cause::Status(503), true),
            (Cause::Status(500), false),
        ] {
            assert_eq!(rule.covers(cause), covered, "{cause:?}");
        }
    }

    #[test]
    fn pauses_are_spread_over_a_bound_that_doubles() {
        let rule = rule();
        assert_eq!(rule.pause(1, 0), Duration::ZERO);
        for (number, bound) in [(1, 10), (2, 20), (3, 40), (200, 1_000)] {
            let longest = rule.pause(number, u64::MAX);
            let bound = Duration::from_millis(bound);
            assert!(longest < bound && longest > bound * 9 / 10, "{number}: {longest:?}");
        }
        let middle = rule.pause(1, u64::MAX / 2);
        assert!(middle > Duration::from_millis(4) && middle < Duration::from_millis(6));
    }

    #[test]
    fn a_share_of_the_requests_and_the_floor() {
        let budget = RetryBudget::default();
        let mut taken = 0;
        for _ in 0..1_000 {
            budget.earn(2_000, 1);
            taken += u64::from(budget.take(1));
        }
        assert_eq!(taken, 200 + RETRY_FLOOR_BURST);
        let quiet = RetryBudget::default();
        let seconds = 100;
        let taken = (0..seconds * 1_000).filter(|now| quiet.take(*now)).count() as u64;
        let floor = seconds * 1_000 / RETRY_FLOOR_INTERVAL.as_millis() as u64;
        assert!((floor..=floor + RETRY_FLOOR_BURST).contains(&taken), "{taken}");
    }

    #[test]
    fn earnings_fade() {
        let budget = RetryBudget::default();
        budget.earn(COST as u64 * 100, 1);
        budget.earn(0, 1 + RETRY_BUDGET_MEMORY.as_millis() as u64 / 2);
        assert_eq!(budget.left(), 50);
        budget.earn(0, 1 + RETRY_BUDGET_MEMORY.as_millis() as u64 * 3);
        assert_eq!(budget.left(), 0);
    }

    #[test]
    fn threads_never_take_more_than_there_is() {
        let budget = RetryBudget::default();
        budget.earn(COST as u64 * 1_000, 5);
        let taken: u64 = std::thread::scope(|scope| {
            let take = || (0..1_000).filter(|_| budget.take(5)).count() as u64;
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(taken, 1_000 + RETRY_FLOOR_BURST);
    }
}
