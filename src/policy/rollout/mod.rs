//! Whether a rollout goes on: compares what the new version did with what the old one did meanwhile.
//! Pure: counts and time are arguments, so that thousands of rollouts can be simulated.
//!
//! Noise must not roll a good version back, and a bad one must be caught early. So shares of errors
//! are compared by their confidence intervals (Wilson), and so are 99th percentiles, as the share of
//! requests that took longer: a version is bad when even the best that its numbers allow is worse than the worst that the other
//! one's allow, by more than the margin. With few requests the intervals are wide and nothing
//! happens.

use std::fmt;

/// One-sided width of the intervals in standard deviations. Looked at again and again over a stage, 4
/// for both sides together keeps false alarms below one in thousands of rollouts (see the tests).
const Z: f64 = 4.0;

/// Requests of the new version from which on its errors count.
const ERRORS_MIN: u64 = 20;

/// Requests of each version from which on latencies count.
const LATENCIES_MIN: u64 = 200;

/// Requests of the old version without which an interval has nothing to compare with: then all that
/// it did earlier in the rollout stands for it.
const OLD_MIN: u64 = 50;

/// How a rollout goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutRule {
    /// In their order; at least one.
    pub stages: Box<[Stage]>,
    /// How far back the quick comparison looks, milliseconds; half as far at least.
    pub window_ms: u64,
    /// By how much the share of errors may be higher, of 10,000.
    pub error_margin_per_10k: u16,
    /// By how much the 99th percentile may be higher, in percent of the old one.
    pub latency_margin_percent: u32,
    /// Differences of the 99th percentile up to this are never too much, microseconds.
    pub latency_floor_us: u64,
}

/// One step of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The new version's share of what both versions get, of 10,000.
    pub share_per_10k: u16,
    /// How long it lasts at least, milliseconds.
    pub time_ms: u64,
    /// How many requests the new version has to have served in it.
    pub requests: u64,
}

/// What one version did over some time, or since ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that ended.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// How many took how long, by bucket.
    pub latencies: Vec<u64>,
}

/// What both versions did: the old one, the new one.
pub type Both = [Counts; 2];

impl Counts {
    /// What happened since an earlier look at the same counters.
    fn since(&self, before: &Self) -> Self {
        let at = |latencies: &[u64], bucket| latencies.get(bucket).copied().unwrap_or(0);
        let passed =
            |(bucket, count): (usize, &u64)| count.saturating_sub(at(&before.latencies, bucket));
        Self {
            requests: self.requests.saturating_sub(before.requests),
            errors: self.errors.saturating_sub(before.errors),
            latencies: self.latencies.iter().enumerate().map(passed).collect(),
        }
    }

    fn add(&mut self, more: &Self) {
        self.requests += more.requests;
        self.errors += more.errors;
        if self.latencies.len() < more.latencies.len() {
            self.latencies.resize(more.latencies.len(), 0);
        }
        self.latencies.iter_mut().zip(&more.latencies).for_each(|(sum, count)| *sum += count);
    }

    /// The share of errors, 0 to 1.
    fn error_rate(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 }
    }

    /// The 99th percentile as measured, if enough is known.
    pub fn p99_us(&self, micros: impl Fn(usize) -> u64) -> Option<u64> {
        self.slower_than_all_but(|slower, count| slower * 100 <= count, micros)
    }

    /// The highest that the 99th percentile may be, if enough is known.
    fn p99_worst_us(&self, micros: impl Fn(usize) -> u64) -> Option<u64> {
        self.slower_than_all_but(|slower, count| wilson(slower, count).1 <= 0.01, micros)
    }

    /// The time of the first bucket of which `is_few(those that took longer, all)`.
    fn slower_than_all_but(
        &self,
        is_few: impl Fn(u64, u64) -> bool,
        micros: impl Fn(usize) -> u64,
    ) -> Option<u64> {
        let count: u64 = self.latencies.iter().sum();
        let mut slower = count;
        let bucket = self.latencies.iter().position(|one| {
            slower -= one;
            is_few(slower, count)
        })?;
        (count >= LATENCIES_MIN).then(|| micros(bucket))
    }

    /// Whether more than one of a hundred certainly took longer than this.
    fn is_certainly_slower(&self, than_us: u64, micros: impl Fn(usize) -> u64) -> bool {
        let count: u64 = self.latencies.iter().sum();
        let is_slow = |(bucket, _): &(usize, &u64)| micros(*bucket) > than_us;
        let slower = self.latencies.iter().enumerate().filter(is_slow).map(|(_, one)| one).sum();
        count >= LATENCIES_MIN && wilson(slower, count).0 > 0.01
    }
}

/// The interval that a share is in, seen `hits` times among `count`. Source: Wilson, "Probable
/// inference, the law of succession, and statistical inference", 1927.
fn wilson(hits: u64, count: u64) -> (f64, f64) {
    if count == 0 {
        return (0.0, 1.0);
    }
    let (n, share) = (count as f64, hits as f64 / count as f64);
    let centre = share + Z * Z / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let whole = 1.0 + Z * Z / n;
    (((centre - half) / whole).max(0.0), ((centre + half) / whole).min(1.0))
}

/// Why a version is too bad to go on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It fails more often. Shares of requests, 0 to 1, and how many the new one has served.
    Errors {
        /// Of the new version.
        new: f64,
        /// Of the old one.
        old: f64,
        /// Requests of the new version.
        requests: u64,
    },
    /// It is slower. 99th percentiles, microseconds.
    Latency {
        /// Of the new version.
        new_us: u64,
        /// Of the old one.
        old_us: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errors { new, old, requests } => write!(
                f,
                "{:.2}% of {requests} requests failed, {:.2}% with the old version",
                new * 100.0,
                old * 100.0
            ),
            Self::Latency { new_us, old_us } => write!(
                f,
                "the 99th percentile is {} ms, {} ms with the old version",
                *new_us as f64 / 1e3,
                *old_us as f64 / 1e3
            ),
        }
    }
}

/// Why a rollout stays where it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hold {
    /// The stage is not old enough: milliseconds left.
    Time(u64),
    /// The new version has not served enough: requests left.
    Requests(u64),
    /// It looks worse than the margin allows, but that may be chance.
    Doubt(Fault),
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(ms) => write!(f, "the stage lasts {:.1} s more", *ms as f64 / 1e3),
            Self::Requests(count) => {
                write!(f, "the new version has to serve {count} requests more")
            }
            Self::Doubt(fault) => write!(f, "looks worse, which may be chance: {fault}"),
        }
    }
}

/// What a look at the numbers comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Stay at this stage.
    Hold(Hold),
    /// Go on to the next stage, or to the end.
    Promote,
    /// Back to the old version.
    RollBack(Fault),
}

/// Whether the new version is certainly too bad.
fn fault(
    rule: &RolloutRule,
    old: &Counts,
    new: &Counts,
    micros: fn(usize) -> u64,
) -> Option<Fault> {
    if new.requests >= ERRORS_MIN {
        let (best, worst) =
            (wilson(new.errors, new.requests).0, wilson(old.errors, old.requests).1);
        if best > worst + margin(rule) {
            return Some(errors(old, new));
        }
    }
    let allowed_us = allowed_us(rule, old.p99_worst_us(micros)?);
    new.is_certainly_slower(allowed_us, micros).then(|| latency(old, new, micros)).flatten()
}

/// Whether it looks too bad.
fn doubt(
    rule: &RolloutRule,
    old: &Counts,
    new: &Counts,
    micros: fn(usize) -> u64,
) -> Option<Fault> {
    if new.error_rate() > old.error_rate() + margin(rule) {
        return Some(errors(old, new));
    }
    let (new_us, old_us) = (new.p99_us(micros)?, old.p99_us(micros)?);
    (new_us > allowed_us(rule, old_us)).then_some(Fault::Latency { new_us, old_us })
}

fn margin(rule: &RolloutRule) -> f64 {
    f64::from(rule.error_margin_per_10k) / 1e4
}

/// How high the 99th percentile may be when that of the old version is `old_us`.
fn allowed_us(rule: &RolloutRule, old_us: u64) -> u64 {
    let more = old_us.saturating_mul(rule.latency_margin_percent.into()) / 100;
    old_us.saturating_add(more.max(rule.latency_floor_us))
}

fn errors(old: &Counts, new: &Counts) -> Fault {
    Fault::Errors { new: new.error_rate(), old: old.error_rate(), requests: new.requests }
}

fn latency(old: &Counts, new: &Counts, micros: fn(usize) -> u64) -> Option<Fault> {
    Some(Fault::Latency { new_us: new.p99_us(micros)?, old_us: old.p99_us(micros)? })
}

/// What is remembered of a stage between two looks.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    began_ms: u64,
    at_begin: Both,
    /// Where the window began: the one before the current one, and that.
    windows: [(u64, Both); 2],
    /// What the old version did in earlier stages.
    pub earlier: Counts,
}

impl Watch {
    /// A stage begins; `totals` are the counters as they are now. `earlier` stays.
    pub fn begin(&mut self, now_ms: u64, totals: &Both) {
        self.began_ms = now_ms;
        self.at_begin = totals.clone();
        self.windows = [(now_ms, totals.clone()), (now_ms, totals.clone())];
    }

    /// A stage ends well: what the old version did in it can be compared with from now on.
    pub fn end(&mut self, totals: &Both) {
        let old = totals[0].since(&self.at_begin[0]);
        self.earlier.add(&old);
    }

    /// What both versions did since the stage began.
    pub fn stage(&self, totals: &Both) -> Both {
        [0, 1].map(|version| totals[version].since(&self.at_begin[version]))
    }

    /// Looks at the counters. `micros` is how long the requests of a bucket took.
    pub fn look(
        &mut self,
        rule: &RolloutRule,
        stage: &Stage,
        now_ms: u64,
        totals: &Both,
        micros: fn(usize) -> u64,
    ) -> Step {
        if now_ms.saturating_sub(self.windows[1].0) >= rule.window_ms / 2 {
            self.windows.swap(0, 1);
            self.windows[1] = (now_ms, totals.clone());
        }
        let since = |then: &Both| [0, 1].map(|version| totals[version].since(&then[version]));
        let [recent, whole] = [&self.windows[0].1, &self.at_begin].map(since);
        let old = |both: &Both| match both[0].requests {
            0..OLD_MIN if self.earlier.requests >= OLD_MIN => self.earlier.clone(),
            _ => both[0].clone(),
        };
        let sides = [(old(&recent), &recent[1]), (old(&whole), &whole[1])];
        let found = sides.iter().find_map(|(old, new)| fault(rule, old, new, micros));
        if let Some(fault) = found {
            return Step::RollBack(fault);
        }
        let passed_ms = now_ms.saturating_sub(self.began_ms);
        if passed_ms < stage.time_ms {
            return Step::Hold(Hold::Time(stage.time_ms - passed_ms));
        }
        if whole[1].requests < stage.requests {
            return Step::Hold(Hold::Requests(stage.requests - whole[1].requests));
        }
        match doubt(rule, &sides[1].0, &whole[1], micros) {
            Some(fault) => Step::Hold(Hold::Doubt(fault)),
            None => Step::Promote,
        }
    }
}

#[cfg(test)]
mod cases;
