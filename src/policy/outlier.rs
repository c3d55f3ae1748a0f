//! Which endpoints live traffic says to leave alone, and for how long. Counts in, verdict out; time is
//! an argument. `snapshot::cells` keeps who is ejected, this room decides who deserves it.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Relaxed},
};

use crate::base::limits::EJECT_FOR_MAX;

/// `[upstream.passive]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassiveRule {
    /// Errors in a row that eject; 0 for never.
    pub consecutive_errors: u32,
    /// Share of errors in the window that ejects, in parts of 10,000; 0 for never.
    pub error_rate_per_10k: u16,
    /// How far the window looks back, milliseconds.
    pub window_ms: u64,
    /// Requests an endpoint must have had in the window to be judged by shares and means.
    pub requests_min: u32,
    /// How long the first ejection lasts, milliseconds.
    pub eject_for_ms: u64,
    /// Share of the endpoints that may be ejected at once, in parts of 10,000.
    pub eject_max_per_10k: u16,
    /// What happens when more than that can't be used.
    pub panic: Panic,
    /// How far below the mean of the others a success rate ejects, in parts of 10,000; 0 for never.
    pub success_gap_per_10k: u16,
    /// How many times the median of the others a mean latency ejects; 0 for never.
    pub latency_factor: u32,
}

/// What happens when more endpoints than may be ejected can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Panic {
    /// All are used, as if none were ejected: a guess is better than a flood for the few.
    All,
    /// Only those left are used, and without any requests are refused.
    Refuse,
}

/// Why an endpoint deserves to be ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Too many errors in a row.
    ConsecutiveErrors,
    /// Too large a share of errors.
    ErrorRate,
    /// Fewer successes than the others have.
    SuccessRate,
    /// Slower than the others.
    Latency,
    /// It came back from an ejection, was tried once, and failed.
    Trial,
}

impl Why {
    /// How many reasons there are.
    pub const COUNT: usize = 5;

    /// Their words in metrics, by discriminant.
    pub const NAMES: [&str; Self::COUNT] =
        ["consecutive_errors", "error_rate", "success_rate", "latency", "trial"];
}

/// What was seen of an endpoint in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Tries that ended.
    pub requests: u64,
    /// Of those, the ones that were errors.
    pub errors: u64,
    /// Time to their response heads together, microseconds.
    pub micros: u64,
}

impl Seen {
    /// Adds one try.
    pub fn note(&mut self, is_error: bool, micros: u64) {
        self.requests += 1;
        self.errors += u64::from(is_error);
        self.micros = self.micros.saturating_add(micros);
    }

    fn success_per_10k(&self) -> u64 {
        (self.requests - self.errors.min(self.requests)) * 10_000 / self.requests.max(1)
    }

    fn mean_micros(&self) -> u64 {
        self.micros / self.requests.max(1)
    }
}

/// Whether its own errors eject an endpoint.
pub fn judge_alone(rule: &PassiveRule, seen: &Seen) -> Option<Why> {
    let is_known = seen.requests >= u64::from(rule.requests_min.max(1));
    let rate = u64::from(rule.error_rate_per_10k);
    (rate > 0 && is_known && seen.errors * 10_000 >= rate * seen.requests).then_some(Why::ErrorRate)
}

/// Whether it is worse than the others by so much that it is ejected. `others` are those that had
/// enough requests to be compared with; `scratch` is overwritten.
pub fn judge_among(
    rule: &PassiveRule,
    seen: &Seen,
    others: impl Iterator<Item = Seen>,
    scratch: &mut Vec<u64>,
) -> Option<Why> {
    let enough = |seen: &Seen| seen.requests >= u64::from(rule.requests_min.max(1));
    if !enough(seen) {
        return None;
    }
    scratch.clear();
    let (mut success, mut count) = (0, 0);
    for other in others.filter(enough) {
        success += other.success_per_10k();
        count += 1;
        scratch.push(other.mean_micros());
    }
    if count == 0 {
        return None;
    }
    let gap = u64::from(rule.success_gap_per_10k);
    if gap > 0 && seen.success_per_10k() + gap <= success / count {
        return Some(Why::SuccessRate);
    }
    let middle = scratch.len() / 2;
    let (_, median, _) = scratch.select_nth_unstable(middle);
    let factor = u64::from(rule.latency_factor);
    let is_slow = factor > 0 && seen.mean_micros() > median.saturating_mul(factor).max(1);
    is_slow.then_some(Why::Latency)
}

/// How long an ejection lasts after `before` earlier ones in a row: twice as long each time.
pub fn ejection_ms(rule: &PassiveRule, before: u32) -> u64 {
    let longest = (EJECT_FOR_MAX.as_millis() as u64).max(rule.eject_for_ms);
    rule.eject_for_ms.saturating_mul(1 << before.min(32)).min(longest)
}

/// How many of `endpoints` may be ejected at once.
pub fn eject_max(rule: &PassiveRule, endpoints: usize) -> usize {
    endpoints * usize::from(rule.eject_max_per_10k) / 10_000
}

/// Whether so many can't be used that it must not matter any more.
pub fn is_panic(rule: &PassiveRule, endpoints: usize, unusable: usize) -> bool {
    rule.panic == Panic::All && unusable > eject_max(rule, endpoints)
}

/// Parts of a window.
const BUCKETS: usize = 10;

/// Counts over the last while, written by all cores: ten buckets, of which the oldest is dropped.
/// Each bucket is one word (epoch 16 bits, errors 24, requests 24), so what was added is never lost
/// or counted for another time. A bucket that is full (16 million) counts no further.
#[derive(Debug, Default)]
pub struct Window {
    counts: [AtomicU64; BUCKETS],
    micros: [AtomicU64; BUCKETS],
}

const COUNT_MAX: u64 = (1 << 24) - 1;
const MICROS_MAX: u64 = (1 << 48) - 1;

impl Window {
    /// Adds what a core saw since it last did.
    pub fn add(&self, seen: Seen, window_ms: u64, now_ms: u64) {
        let epoch = epoch(window_ms, now_ms);
        let bucket = (epoch % BUCKETS as u64) as usize;
        let tag = (epoch & 0xffff) << 48;
        let mut is_full = false;
        let _ = self.counts[bucket].fetch_update(AcqRel, Relaxed, |word| {
            let word = if word & !MICROS_MAX == tag { word } else { tag };
            let (errors, requests) = (word >> 24 & COUNT_MAX, word & COUNT_MAX);
            is_full = requests + seen.requests > COUNT_MAX;
            (!is_full).then(|| tag | (errors + seen.errors) << 24 | (requests + seen.requests))
        });
        if is_full {
            return;
        }
        let _ = self.micros[bucket].fetch_update(AcqRel, Relaxed, |word| {
            let word = if word & !MICROS_MAX == tag { word } else { tag };
            Some(tag | (word & MICROS_MAX).saturating_add(seen.micros).min(MICROS_MAX))
        });
    }

    /// What was seen in the window that ends now.
    pub fn sum(&self, window_ms: u64, now_ms: u64) -> Seen {
        let newest = epoch(window_ms, now_ms);
        let mut seen = Seen::default();
        for (counts, micros) in self.counts.iter().zip(&self.micros) {
            let (counts, micros) = (counts.load(Relaxed), micros.load(Relaxed));
            let age = newest.wrapping_sub(counts >> 48) & 0xffff;
            if age >= BUCKETS as u64 {
                continue;
            }
            seen.requests += counts & COUNT_MAX;
            seen.errors += counts >> 24 & COUNT_MAX;
            if micros >> 48 == counts >> 48 {
                seen.micros += micros & MICROS_MAX;
            }
        }
        seen
    }

    /// Forgets everything: an endpoint that comes back is not judged by what it was.
    pub fn clear(&self) {
        self.counts.iter().chain(&self.micros).for_each(|word| word.store(0, Relaxed));
    }
}

fn epoch(window_ms: u64, now_ms: u64) -> u64 {
    now_ms / (window_ms / BUCKETS as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> PassiveRule {
        PassiveRule {
            consecutive_errors: 5,
            error_rate_per_10k: 5_000,
            window_ms: 10_000,
            requests_min: 20,
            eject_for_ms: 5_000,
            eject_max_per_10k: 5_000,
            panic: Panic::All,
            success_gap_per_10k: 2_000,
            latency_factor: 3,
        }
    }

    fn seen(requests: u64, errors: u64, mean: u64) -> Seen {
        Seen { requests, errors, micros: requests * mean }
    }

    #[test]
    fn a_share_counts_from_enough_requests_on() {
        assert_eq!(judge_alone(&rule(), &seen(19, 19, 1)), None);
        assert_eq!(judge_alone(&rule(), &seen(20, 9, 1)), None);
        assert_eq!(judge_alone(&rule(), &seen(20, 10, 1)), Some(Why::ErrorRate));
        assert_eq!(
            judge_alone(&PassiveRule { error_rate_per_10k: 0, ..rule() }, &seen(99, 99, 1)),
            None
        );
    }

    #[test]
    fn who_is_worse_than_the_others_stands_out() {
        let good = [seen(100, 1, 1_000), seen(100, 0, 1_200), seen(5, 5, 1)];
        let judge = |one: Seen| judge_among(&rule(), &one, good.into_iter(), &mut Vec::new());
        assert_eq!(judge(seen(100, 2, 2_000)), None);
        assert_eq!(judge(seen(100, 30, 1_000)), Some(Why::SuccessRate));
        assert_eq!(judge(seen(100, 0, 3_700)), Some(Why::Latency));
        assert_eq!(judge(seen(10, 9, 90_000)), None, "too few to say");
        let alone = judge_among(&rule(), &seen(99, 99, 9), [].into_iter(), &mut Vec::new());
        assert_eq!(alone, None, "nobody to compare with");
    }

    #[test]
    fn ejections_grow_and_have_a_ceiling() {
        let times: Vec<u64> = (0..8).map(|before| ejection_ms(&rule(), before)).collect();
        assert_eq!(times, [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]);
        assert_eq!(ejection_ms(&rule(), u32::MAX), 300_000);
        assert_eq!(
            [1, 2, 3, 4, 10].map(|endpoints| eject_max(&rule(), endpoints)),
            [0, 1, 1, 2, 5]
        );
        assert!(!is_panic(&rule(), 4, 2) && is_panic(&rule(), 4, 3));
        assert!(!is_panic(&PassiveRule { panic: Panic::Refuse, ..rule() }, 4, 4));
    }

    #[test]
    fn the_window_forgets() {
        let window = Window::default();
        for now in (1_000..=20_000).step_by(100) {
            window.add(seen(1, 1, 7), 10_000, now);
        }
        let seen_now = window.sum(10_000, 20_000);
        assert!((91..=100).contains(&seen_now.requests), "{seen_now:?}");
        assert_eq!(seen_now.errors * 7, seen_now.micros);
        assert!(window.sum(10_000, 25_000).requests < 60);
        assert_eq!(window.sum(10_000, 40_000), Seen::default());
        window.clear();
        assert_eq!(window.sum(10_000, 20_000), Seen::default());
    }

    #[test]
    fn cores_that_add_at_once_lose_nothing() {
        let window = Window::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..1_000).for_each(|at| window.add(seen(2, 1, 3), 10_000, 5_000 + at))
                });
            }
        });
        assert_eq!(window.sum(10_000, 6_000), seen(8_000, 4_000, 3));
    }
}
