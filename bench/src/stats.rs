//! Medians, bootstrap intervals and a latency histogram with about 1.5 % resolution.

/// A middle value with the interval that holds it in 95 of 100 resamples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The statistic of the sample itself.
    pub middle: f64,
    /// 2.5 % of the resamples are below.
    pub low: f64,
    /// 2.5 % of the resamples are above.
    pub high: f64,
}

/// Number of resamples: the interval's ends then move by well under its width from seed to seed.
const RESAMPLES: usize = 2000;

/// The median; 0 for nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// Median of `values` with its bootstrap interval. The seed is fixed: the same measurements give the
/// same interval.
pub fn estimate(values: &[f64]) -> Estimate {
    let middle = median(values);
    if values.len() < 2 {
        return Estimate { middle, low: middle, high: middle };
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut results: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let pick = |_| values[random.below(values.len())];
            median(&(0..values.len()).map(pick).collect::<Vec<_>>())
        })
        .collect();
    results.sort_by(f64::total_cmp);
    let at = |share: f64| results[(share * (RESAMPLES - 1) as f64).round() as usize];
    Estimate { middle, low: at(0.025), high: at(0.975) }
}

/// xorshift64*: good enough to pick indices.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit as u64) as usize
    }
}

/// Counts of values in buckets 1/64 of a power of two wide.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
}

const SUB_BITS: u32 = 6;
const SUB: u64 = 1 << SUB_BITS;

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.add(bucket(value), 1);
    }

    /// Adds `count` to the bucket with this index.
    pub fn add(&mut self, bucket: usize, count: u64) {
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += count;
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        other.counts.iter().enumerate().for_each(|(index, &count)| self.add(index, count));
    }

    /// The buckets that are not empty, with their counts.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.counts.iter().copied().enumerate().filter(|&(_, count)| count > 0)
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The share (0 to 1) of all values that are above one; 0 when empty.
    pub fn share_above(&self, value: u64) -> f64 {
        let above = self.buckets().filter(|&(index, _)| middle_of(index) > value);
        let above: u64 = above.map(|(_, count)| count).sum();
        above as f64 / self.total().max(1) as f64
    }

    /// The value that a share of `quantile` (0 to 1) of all values do not exceed; 0 when empty.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let rank = (quantile * self.total() as f64).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets() {
            seen += count;
            if seen >= rank {
                return middle_of(index);
            }
        }
        0
    }
}

fn bucket(value: u64) -> usize {
    if value < SUB {
        return value as usize;
    }
    let shift = value.ilog2() - SUB_BITS;
    (u64::from(shift + 1) * SUB + (value >> shift) - SUB) as usize
}

fn middle_of(bucket: usize) -> u64 {
    let (row, column) = (bucket as u64 / SUB, bucket as u64 % SUB);
    match row {
        0 => column,
        _ => ((SUB + column) << (row - 1)) + ((1 << (row - 1)) >> 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_close_to_their_values() {
        for value in
            (0..40).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + (1 << bit) / 3])
        {
            let back = middle_of(bucket(value));
            assert!(back.abs_diff(value) as f64 <= value as f64 / 64.0, "{value} became {back}");
        }
    }

    #[test]
    fn quantiles_of_a_ramp() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|value| histogram.record(value * 1000));
        assert_eq!(histogram.total(), 1000);
        for (quantile, expected) in [(0.5, 500_000.0), (0.99, 990_000.0), (1.0, 1_000_000.0)] {
            let found = histogram.quantile(quantile) as f64;
            assert!((found / expected - 1.0).abs() < 0.02, "{quantile}: {found}");
        }
        for (value, expected) in [(0, 1.0), (900_000, 0.1), (2_000_000, 0.0)] {
            assert!((histogram.share_above(value) - expected).abs() < 0.02, "{value}");
        }
    }

    #[test]
    fn the_interval_surrounds_the_median() {
        let values: Vec<f64> = (0..21).map(|i| 0.6 + f64::from(i % 7) * 0.01).collect();
        let Estimate { middle, low, high } = estimate(&values);
        assert_eq!(middle, 0.63);
        assert!(low <= middle && middle <= high && high - low < 0.06);
        assert_eq!(median(&[]), 0.0);
    }
}
