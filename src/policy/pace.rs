//! Whether a body comes fast enough: an endpoint that has to deliver `rate` bytes a second may fall
//! behind by as much as `grace` lets it. Only the time in which it was waited for counts, so that a
//! slow client is never its fault. Ticks in, a deadline out; no clock.

use std::{cell::Cell, time::Duration};

use crate::base::limits::TICK;

/// `upstream.timeouts.body_rate_min` and `body_rate_grace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceRule {
    /// Bytes a second.
    pub rate: u64,
    /// For how long it may send nothing, at most.
    pub grace: Duration,
}

/// How far one body is ahead.
#[derive(Debug, Default)]
pub struct Pace {
    /// Bytes a second; 0 for no rule.
    rate: Cell<u64>,
    /// What it may still owe, in bytes times ticks a second.
    credit: Cell<u64>,
    /// The same at most.
    credit_max: Cell<u64>,
    /// Since when it is waited for; 0 while it is not.
    since_tick: Cell<u64>,
}

/// Ticks of a second.
const TICKS: u64 = 1_000 / TICK.as_millis() as u64;

impl Pace {
    /// A body begins.
    pub fn begin(&self, rule: Option<PaceRule>) {
        let rule = rule.unwrap_or(PaceRule { rate: 0, grace: Duration::ZERO });
        let grace_ticks = u64::try_from(rule.grace.as_millis() / TICK.as_millis()).unwrap_or(0);
        self.rate.set(rule.rate);
        self.credit_max.set(rule.rate.saturating_mul(grace_ticks.max(1)));
        self.credit.set(self.credit_max.get());
        self.since_tick.set(0);
    }

    /// It is waited for from now on; how many ticks it has. `None` without a rule.
    #[inline]
    pub fn wait(&self, now_tick: u64) -> Option<u64> {
        (self.rate.get() > 0).then(|| {
            self.rest(now_tick);
            self.since_tick.set(now_tick.max(1));
            self.credit.get() / self.rate.get()
        })
    }

    /// It is not waited for any more.
    #[inline]
    pub fn rest(&self, now_tick: u64) {
        let since_tick = self.since_tick.take();
        let waited = if since_tick > 0 { now_tick.saturating_sub(since_tick) } else { 0 };
        let spent = waited.saturating_mul(self.rate.get());
        // What has come since counts against what was spent, before there is too much of it.
        let credit = self.credit.get().saturating_sub(spent);
        self.credit.set(credit.min(self.credit_max.get()));
    }

    /// So many bytes have come.
    #[inline]
    pub fn earn(&self, bytes: u64) {
        if self.rate.get() > 0 {
            self.credit.set(self.credit.get().saturating_add(bytes.saturating_mul(TICKS)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tick at which a body is cut that sends `bytes` every `every` ticks, if it is within a
    /// minute; the client takes `client` ticks for each.
    fn cut_at(rule: PaceRule, bytes: u64, every: u64, client: u64) -> Option<u64> {
        let pace = Pace::default();
        pace.begin(Some(rule));
        let mut now = 100;
        while now < 100 + 60 * TICKS {
            let left = pace.wait(now).expect("a rule");
            if left < every {
                return Some(now + left - 100);
            }
            now += every;
            pace.earn(bytes);
            pace.rest(now);
            now += client;
        }
        None
    }

    #[test]
    fn who_trickles_is_cut_and_who_keeps_the_pace_is_not() {
        let rule = PaceRule { rate: 1_000, grace: Duration::from_secs(5) };
        assert_eq!(cut_at(rule, 1, 1_000, 0), Some(5 * TICKS), "silent");
        let trickles = cut_at(rule, 1, 2, 0).expect("cut");
        assert!((5 * TICKS..6 * TICKS).contains(&trickles), "{trickles}");
        assert_eq!(cut_at(rule, 50, 1, 0), None, "exactly as fast as it must");
        assert_eq!(cut_at(rule, 4_000, 4 * TICKS, 0), None, "in bursts");
        let half = cut_at(rule, 500, TICKS, 0).expect("half as fast");
        assert!((9 * TICKS..=11 * TICKS).contains(&half), "{half}");
        assert_eq!(cut_at(rule, 50, 1, 30), None, "it is the client that is slow");
    }

    #[test]
    fn without_a_rule_nothing_is_asked() {
        let pace = Pace::default();
        pace.begin(None);
        assert_eq!(pace.wait(7), None);
        pace.earn(5);
        pace.rest(9);
        assert_eq!(pace.wait(10), None);
    }
}
