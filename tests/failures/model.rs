//! What the rules are meant to do, written a second time and as plainly as can be: one core, no atomics,
//! no packing. The simulation asks both and compares.

use ringway::policy::{
    breaker::{BreakerRule, Outcome, State},
    outlier::{PassiveRule, Seen},
};

/// The breaker: which requests pass, and what their ends make of it.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    phase: Phase,
    /// How many phases there were: what began in an older one is no news.
    number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Closed { failures: u32 },
    Open { until_ms: u64 },
    HalfOpen { under_way: u16, good: u16, until_ms: u64 },
}

impl Default for Phase {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

/// A request that passed: in which phase, and whether as a trial.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    phase: u64,
    is_trial: bool,
}

impl Breaker {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.number += 1;
    }

    /// Its point in time has a grain of 50 ms.
    fn after(rule: &BreakerRule, now_ms: u64) -> u64 {
        (now_ms + rule.open_for_ms).div_ceil(50) * 50
    }

    /// Whether a request passes.
    pub(crate) fn admit(&mut self, rule: &BreakerRule, now_ms: u64) -> Option<Passed> {
        match &mut self.phase {
            Phase::Closed { .. } => return Some(Passed { phase: self.number, is_trial: false }),
            Phase::HalfOpen { under_way, .. } if *under_way < rule.half_open_requests => {
                *under_way += 1;
            }
            Phase::Open { until_ms } | Phase::HalfOpen { until_ms, .. } => {
                if now_ms < *until_ms {
                    return None;
                }
                let until_ms = Self::after(rule, now_ms);
                self.enter(Phase::HalfOpen { under_way: 1, good: 0, until_ms });
            }
        }
        Some(Passed { phase: self.number, is_trial: true })
    }

    /// A request that passed has ended.
    pub(crate) fn report(
        &mut self,
        passed: Passed,
        outcome: Outcome,
        rule: &BreakerRule,
        now_ms: u64,
    ) {
        // A success ends the row of failures whenever it began.
        if let (false, Outcome::Good, Phase::Closed { failures }) =
            (passed.is_trial, outcome, &mut self.phase)
        {
            *failures = 0;
        }
        if passed.phase != self.number {
            return;
        }
        let opens = match &mut self.phase {
            Phase::Closed { failures } => {
                *failures += u32::from(outcome == Outcome::Failed);
                *failures >= rule.consecutive_failures
            }
            Phase::Open { .. } => false,
            Phase::HalfOpen { under_way, good, .. } => {
                match outcome {
                    Outcome::Good => *good += 1,
                    Outcome::Unknown => *under_way -= 1,
                    Outcome::Failed => {}
                }
                let is_proved = *good >= rule.half_open_requests;
                if is_proved {
                    self.enter(Phase::default());
                }
                outcome == Outcome::Failed
            }
        };
        if opens {
            self.enter(Phase::Open { until_ms: Self::after(rule, now_ms) });
        }
    }

    /// What it is.
    pub(crate) fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }
}

/// The budget of further tries: earned tries that fade within ten seconds, and ten a second for free, of
/// which ten may be taken at once.
#[derive(Debug)]
pub(crate) struct Budget {
    earned: i64,
    aged_ms: u64,
    free_ms: u64,
    free_since_ms: u64,
}

impl Budget {
    /// Nothing is earned yet, all that is free may be taken.
    pub(crate) fn new() -> Self {
        Self { earned: 0, aged_ms: 0, free_ms: 1_000, free_since_ms: 0 }
    }

    /// A request earned so many parts of 10,000.
    pub(crate) fn earn(&mut self, per_10k: u16, now_ms: u64) {
        let passed_ms = (now_ms - self.aged_ms).min(10_000) as i64;
        self.earned -= self.earned * passed_ms / 10_000;
        self.aged_ms = now_ms;
        self.earned += i64::from(per_10k);
    }

    /// Whether there is a further try.
    pub(crate) fn take(&mut self, now_ms: u64) -> bool {
        if self.earned >= 10_000 {
            self.earned -= 10_000;
            return true;
        }
        self.free_ms = (self.free_ms + now_ms - self.free_since_ms).min(1_000);
        self.free_since_ms = now_ms;
        let is_free = self.free_ms >= 100;
        self.free_ms -= if is_free { 100 } else { 0 };
        is_free
    }
}

/// What was seen of an endpoint lately, with its time, and how often it was ejected.
#[derive(Debug, Default)]
pub(crate) struct Record {
    seen: Vec<(u64, Seen)>,
    ejections: u32,
}

impl Record {
    /// Adds what was seen lately.
    pub(crate) fn add(&mut self, seen: Seen, now_ms: u64) {
        self.seen.retain(|(at_ms, _)| now_ms - at_ms < 10_000); // longer than any window here
        if seen.requests > 0 {
            self.seen.push((now_ms, seen));
        }
    }

    /// What lies in the window: its ten parts, the one of now among them.
    pub(crate) fn sum(&self, rule: &PassiveRule, now_ms: u64) -> Seen {
        let part = |at_ms: u64| at_ms / (rule.window_ms / 10);
        let mut sum = Seen::default();
        for (_, seen) in self.seen.iter().filter(|(at, _)| part(now_ms) - part(*at) < 10) {
            sum.requests += seen.requests;
            sum.errors += seen.errors;
            sum.micros += seen.micros;
        }
        sum
    }

    /// It is ejected: for how long. What was seen before is forgotten.
    pub(crate) fn eject(&mut self, rule: &PassiveRule) -> u64 {
        self.seen.clear();
        self.ejections += 1;
        (1..self.ejections).fold(rule.eject_for_ms, |length, _| length * 2).min(300_000)
    }

    /// It is back.
    pub(crate) fn readmit(&mut self) {
        self.seen.clear();
    }
}

/// Endpoints that may be out at once.
pub(crate) fn ejected_max(rule: &PassiveRule, endpoints: usize) -> usize {
    (endpoints as f64 * f64::from(rule.eject_max_per_10k) / 10_000.0 + 1e-9).floor() as usize
}

/// Whether the share of errors alone ejects.
pub(crate) fn fails_too_often(rule: &PassiveRule, seen: &Seen) -> bool {
    let share = seen.errors as f64 / seen.requests.max(1) as f64 * 10_000.0;
    rule.error_rate_per_10k > 0
        && seen.requests >= u64::from(rule.requests_min)
        && share + 1e-6 >= f64::from(rule.error_rate_per_10k)
}
