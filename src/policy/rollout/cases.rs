//! Rollouts simulated: good versions get through, bad ones do not get far.

use super::*;
use crate::policy::balance::next_random;

/// Milliseconds between two looks.
const LOOK_MS: u64 = 1_000;

fn rule() -> RolloutRule {
    let stage = |share_per_10k| Stage { share_per_10k, time_ms: 60_000, requests: 500 };
    RolloutRule {
        stages: [500, 2_500, 5_000, 10_000].map(stage).into(),
        window_ms: 60_000,
        error_margin_per_10k: 100,
        latency_margin_percent: 50,
        latency_floor_us: 10_000,
    }
}

/// Buckets as wide as a doubling by sixteenths.
fn micros(bucket: usize) -> u64 {
    100 + 2f64.powf(bucket as f64 / 16.0) as u64
}

/// How a version behaves: its share of errors, and its median latency.
#[derive(Clone, Copy)]
struct Version {
    errors: f64,
    median_us: f64,
}

const GOOD: Version = Version { errors: 0.0, median_us: 5_000.0 };

struct Dice(u64);

impl Dice {
    /// In 0..1.
    fn roll(&mut self) -> f64 {
        self.0 = next_random(self.0);
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }
}

impl Version {
    fn serve(self, counts: &mut Counts, dice: &mut Dice) {
        counts.requests += 1;
        counts.errors += u64::from(dice.roll() < self.errors);
        // A long tail: one in a hundred takes ten times the median and more.
        let tail = (1.0 / dice.roll()).powf(0.5);
        let us = self.median_us * 0.7 * tail;
        let bucket = ((us - 100.0).max(1.0).log2() * 16.0) as usize;
        counts.latencies.resize(512, 0);
        counts.latencies[bucket.min(511)] += 1;
    }
}

/// How a rollout ended.
struct End {
    fault: Option<Fault>,
    requests: u64,
    /// Requests that failed because of the new version.
    failed: u64,
    seconds: u64,
}

/// Plays one rollout. `later` is how the new version behaves from the given second on.
fn play(seed: u64, per_second: u64, old: Version, new: Version, later: (u64, Version)) -> End {
    let (rule, mut dice) = (rule(), Dice(seed));
    let (mut totals, mut watch) = (Both::default(), Watch::default());
    let (mut stage, mut seconds) = (0, 0);
    watch.begin(0, &totals);
    loop {
        let share = f64::from(rule.stages[stage].share_per_10k) / 1e4;
        let new = if seconds >= later.0 { later.1 } else { new };
        for _ in 0..per_second {
            match dice.roll() < share {
                true => new.serve(&mut totals[1], &mut dice),
                false => old.serve(&mut totals[0], &mut dice),
            }
        }
        seconds += 1;
        let step = watch.look(&rule, &rule.stages[stage], seconds * LOOK_MS, &totals, micros);
        let requests = totals[0].requests + totals[1].requests;
        let end = |fault| End { fault, requests, failed: totals[1].errors, seconds };
        match step {
            Step::Hold(_) if seconds < 36_000 => {}
            Step::Hold(hold) => panic!("seed {seed}: holds for ever: {hold}"),
            Step::RollBack(fault) => return end(Some(fault)),
            Step::Promote => {
                watch.end(&totals);
                stage += 1;
                if stage == rule.stages.len() {
                    return end(None);
                }
                watch.begin(seconds * LOOK_MS, &totals);
            }
        }
    }
}

const NEVER: (u64, Version) = (u64::MAX, GOOD);

#[test]
fn five_percent_of_errors_are_rolled_back_before_two_percent_of_all_have_failed() {
    let bad = Version { errors: 0.05, ..GOOD };
    for seed in 0..200 {
        for per_second in [20, 200] {
            let end = play(seed, per_second, GOOD, bad, NEVER);
            let fault = end.fault.unwrap_or_else(|| panic!("seed {seed}: it went through"));
            assert!(matches!(fault, Fault::Errors { .. }), "seed {seed}: {fault}");
            let share = end.failed as f64 / end.requests as f64;
            assert!(share < 0.02, "seed {seed}: {share} of all, after {} s", end.seconds);
        }
    }
}

#[test]
fn a_good_version_gets_through() {
    for (errors, seeds) in [(0.0, 15), (0.001, 25), (0.01, 25), (0.05, 25)] {
        let both = Version { errors, ..GOOD };
        for seed in 0..seeds {
            let end = play(seed, 60, both, both, NEVER);
            assert!(end.fault.is_none(), "seed {seed}, {errors}: {}", end.fault.expect("one"));
        }
    }
}

#[test]
fn a_slow_version_is_rolled_back_and_one_that_is_a_little_slower_is_not() {
    for seed in 0..50 {
        let end = play(seed, 100, GOOD, Version { median_us: 15_000.0, ..GOOD }, NEVER);
        assert!(matches!(end.fault, Some(Fault::Latency { .. })), "seed {seed}");
        let end = play(seed, 100, GOOD, Version { median_us: 5_500.0, ..GOOD }, NEVER);
        assert!(end.fault.is_none(), "seed {seed}: {}", end.fault.expect("one"));
    }
}

/// A version that turns bad late is caught by the window, not diluted by its good past; also at the
/// last stage, where no old version is left to compare with.
#[test]
fn a_version_that_turns_bad_is_caught_at_any_stage() {
    for seed in 0..40 {
        for after in [90, 190, 215] {
            let bad = Version { errors: 0.2, ..GOOD };
            let end = play(seed, 400, GOOD, GOOD, (after, bad));
            assert!(end.fault.is_some(), "seed {seed}, after {after} s");
            assert!(end.seconds - after <= 20, "seed {seed}: {} s for {after}", end.seconds);
        }
    }
}

#[test]
fn what_harms_both_versions_rolls_nothing_back() {
    let rule = rule();
    let mut watch = Watch::default();
    let mut totals = Both::default();
    watch.begin(0, &totals);
    for second in 1..=30 {
        for (counts, requests) in totals.iter_mut().zip([95, 5]) {
            counts.requests += requests;
            counts.errors += if second > 10 { requests / 2 } else { 0 };
        }
        let step = watch.look(&rule, &rule.stages[0], second * LOOK_MS, &totals, micros);
        assert!(matches!(step, Step::Hold(_)), "second {second}: {step:?}");
    }
}

#[test]
fn nothing_is_promoted_before_its_time_and_its_requests() {
    let (rule, mut watch) = (rule(), Watch::default());
    watch.begin(1_000, &Both::default());
    let mut look = |now_ms, requests| {
        let totals = [1_000, requests].map(|requests| Counts { requests, ..Counts::default() });
        watch.look(&rule, &rule.stages[0], now_ms, &totals, micros)
    };
    assert_eq!(look(31_000, 600), Step::Hold(Hold::Time(30_000)));
    assert_eq!(look(61_000, 499), Step::Hold(Hold::Requests(1)));
    assert_eq!(look(61_000, 500), Step::Promote);
}

#[test]
fn few_requests_prove_nothing_but_an_outage() {
    let rule = rule();
    let counts = |requests, errors| Counts { requests, errors, latencies: Vec::new() };
    let found = |new| fault(&rule, &counts(4_000, 0), &new, micros);
    assert!(found(counts(19, 19)).is_none(), "too few");
    assert!(found(counts(20, 2)).is_none(), "chance");
    assert!(found(counts(20, 20)).is_some(), "an outage");
    let words = found(counts(200, 10)).expect("certain").to_string();
    assert_eq!(words, "5.00% of 200 requests failed, 0.00% with the old version");
}
