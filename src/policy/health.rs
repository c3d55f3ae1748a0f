//! When an endpoint that is checked counts as up or down, and when it is checked next. Pure: results,
//! chance and time come in as arguments.

use std::time::Duration;

/// How many results in a row change the verdict; each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Failed checks until an endpoint is down.
    pub fails: u32,
    /// Passed checks until it is up again.
    pub passes: u32,
}

/// What the checks of one endpoint say so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    up: bool,
    /// Results in a row that speak against `up`.
    against: u32,
}

impl Verdict {
    /// Before the first check.
    pub const fn new(up: bool) -> Self {
        Self { up, against: 0 }
    }

    /// Whether it is up.
    pub const fn is_up(self) -> bool {
        self.up
    }

    /// Takes in a result. Whether the verdict changed.
    pub fn note(&mut self, passed: bool, thresholds: Thresholds) -> bool {
        if passed == self.up {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        let needed = if self.up { thresholds.fails } else { thresholds.passes };
        if self.against < needed {
            return false;
        }
        *self = Self::new(!self.up);
        true
    }
}

/// Longest time until the first check of an endpoint.
const FIRST_MAX: Duration = Duration::from_secs(1);

/// How long after the last check began the next one does. The first comes soon, the second anywhere in
/// the interval, so that thousands of endpoints that were added together do not stay together; from
/// then on the interval, give or take its jitter.
///
/// `checks` is how many there were, `jitter_per_10k` a share of the interval, `random` any number,
/// evenly spread.
pub fn delay(checks: u64, interval: Duration, jitter_per_10k: u16, random: u64) -> Duration {
    let chance = (random >> 11) as f64 / (1_u64 << 53) as f64; // in 0..1
    match checks {
        0 => interval.min(FIRST_MAX).mul_f64(chance),
        1 => interval.mul_f64(0.25 + 0.75 * chance),
        _ => {
            let jitter = f64::from(jitter_per_10k.min(10_000)) / 10_000.0;
            interval.mul_f64(1.0 + jitter * (2.0 * chance - 1.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    #[test]
    fn down_after_fails_in_a_row_and_up_after_passes() {
        let thresholds = Thresholds { fails: 3, passes: 2 };
        let mut verdict = Verdict::new(true);
        let changes = |verdict: &mut Verdict, results: &str| -> String {
            let note = |result| match verdict.note(result == '+', thresholds) {
                true => '!',
                false => '.',
            };
            results.chars().map(note).collect()
        };
        assert_eq!(changes(&mut verdict, "--+--"), ".....", "a pass in between begins anew");
        assert_eq!(changes(&mut verdict, "-"), "!");
        assert!(!verdict.is_up());
        assert_eq!(changes(&mut verdict, "-+-+"), "....");
        assert_eq!(changes(&mut verdict, "+"), "!");
        assert!(verdict.is_up());
    }

    /// The verdict against one that is worked out from the whole history.
    #[test]
    fn any_history_gives_the_verdict_of_its_last_runs() {
        for seed in 0..2_000 {
            let mut state = seed;
            let thresholds = Thresholds {
                fails: (random(&mut state) % 5 + 1) as u32,
                passes: (random(&mut state) % 5 + 1) as u32,
            };
            let first = random(&mut state).is_multiple_of(2);
            let (mut verdict, mut up, mut run) = (Verdict::new(first), first, Vec::new());
            for _ in 0..200 {
                let passed = !random(&mut state).is_multiple_of(3);
                let changed = verdict.note(passed, thresholds);
                run.push(passed);
                let needed = if up { thresholds.fails } else { thresholds.passes } as usize;
                let turned = run.len() >= needed
                    && run[run.len() - needed..].iter().all(|result| *result != up);
                if turned {
                    up = !up;
                    run.clear();
                }
                assert_eq!((changed, verdict.is_up()), (turned, up), "seed {seed}");
            }
        }
    }

    #[test]
    fn checks_are_spread_and_keep_their_interval() {
        let interval = Duration::from_secs(10);
        let mut state = 1;
        for _ in 0..10_000 {
            let mut draw = |checks| delay(checks, interval, 1_000, random(&mut state));
            assert!(draw(0) < FIRST_MAX);
            assert!((2_500..=10_000).contains(&draw(1).as_millis()));
            assert!((9_000..=11_000).contains(&draw(2).as_millis()));
        }
        assert_eq!(delay(9, interval, 0, random(&mut state)), interval);
        assert!(delay(0, Duration::from_millis(100), 0, u64::MAX) <= Duration::from_millis(100));
    }
}
