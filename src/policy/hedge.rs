//! When a request that has not been answered yet is sent to a second endpoint: after a fixed time, or
//! after what most requests of its upstream take. Samples in, a time out; no clock.

use std::{cell::Cell, time::Duration};

use crate::base::limits::HEDGE_AFTER_MIN;

/// `route.hedge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HedgeRule {
    /// How long the first endpoint is waited for.
    pub after: After,
}

/// How long that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Always as long.
    Fixed(Duration),
    /// As long as this share of requests takes.
    Quantile(Quantile),
}

/// A share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantile {
    /// A half.
    P50,
    /// Three quarters.
    P75,
    /// 90 %.
    P90,
    /// 95 %.
    P95,
    /// 99 %.
    P99,
}

impl Quantile {
    /// All, by discriminant.
    pub const ALL: [Self; 5] = [Self::P50, Self::P75, Self::P90, Self::P95, Self::P99];
    /// Their words in TOML.
    pub const NAMES: [&str; 5] = ["p50", "p75", "p90", "p95", "p99"];

    const fn share(self) -> f64 {
        [0.5, 0.75, 0.9, 0.95, 0.99][self as usize]
    }
}

/// Answers before a quantile is believed.
const SAMPLES_MIN: u32 = 20;

/// How far an estimate moves by one sample.
const STEP: f64 = 0.02;

/// What one core knows of how long an upstream takes to its first byte. Each sample moves each
/// estimate up or down by a part of itself, so much that it comes to rest where the wanted share lies
/// below: a word per quantile instead of a histogram, off by some percent. Source: Ma, Muthukrishnan,
/// Sandler, "Frugal Streaming for Estimating Quantiles", 2013.
#[derive(Debug, Default)]
pub struct Latencies {
    samples: Cell<u32>,
    micros: [Cell<f64>; Quantile::ALL.len()],
}

impl Latencies {
    /// Takes a time in. One that was given up counts with what had passed: it was at least as long.
    pub fn note(&self, took: Duration) {
        let micros = took.as_secs_f64() * 1e6;
        let is_first = self.samples.get() == 0;
        self.samples.set(self.samples.get().saturating_add(1));
        for (quantile, cell) in Quantile::ALL.iter().zip(&self.micros) {
            let (known, share) = (cell.get(), quantile.share());
            cell.set(match micros > known {
                _ if is_first => micros,
                true => known * (1.0 + STEP * share),
                false => known * (1.0 - STEP * (1.0 - share)),
            });
        }
    }

    /// How long to wait; `None` while too little is known.
    pub fn patience(&self, after: After) -> Option<Duration> {
        match after {
            After::Fixed(length) => Some(length),
            After::Quantile(_) if self.samples.get() < SAMPLES_MIN => None,
            After::Quantile(quantile) => {
                let micros = self.micros[quantile as usize].get();
                Some(Duration::from_micros(micros as u64).max(HEDGE_AFTER_MIN))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_comes_to_rest_at_its_quantile_and_follows_it() {
        let latencies = Latencies::default();
        let mut random = 1_u64;
        for scale in [1.0, 10.0, 0.5] {
            let (mut all, mut sums) = (Vec::new(), [0.0; Quantile::ALL.len()]);
            for _ in 0..20_000 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let uniform = ((random >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
                let millis = scale * (5.0 - 2.0 * uniform.ln()); // a long tail
                all.push(millis);
                latencies.note(Duration::from_secs_f64(millis / 1e3));
                if all.len() > 15_000 {
                    for (sum, cell) in sums.iter_mut().zip(&latencies.micros) {
                        *sum += cell.get() / 5_000.0;
                    }
                }
            }
            all.sort_by(f64::total_cmp);
            for quantile in Quantile::ALL {
                // The mean of what it came to: each of its steps is off by a little.
                let known = sums[quantile as usize] / 1e3;
                let below = all.partition_point(|one| *one < known) as f64 / 20_000.0;
                let off = (below - quantile.share()).abs();
                assert!(off < 0.06, "{quantile:?} at {scale}: {below} lie below");
            }
        }
    }

    #[test]
    fn too_little_is_known_at_first() {
        let latencies = Latencies::default();
        let after = After::Quantile(Quantile::P95);
        for _ in 1..SAMPLES_MIN {
            latencies.note(Duration::from_micros(3));
            assert_eq!(latencies.patience(after), None);
        }
        latencies.note(Duration::from_micros(3));
        assert_eq!(latencies.patience(after), Some(HEDGE_AFTER_MIN));
        let fixed = Duration::from_millis(50);
        assert_eq!(latencies.patience(After::Fixed(fixed)), Some(fixed));
    }
}
