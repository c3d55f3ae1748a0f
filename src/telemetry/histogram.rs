//! How long requests took: fine log-linear buckets for percentiles, and the exact counts that the
//! Prometheus histogram needs. Recording is three relaxed stores and no allocation.

use crate::telemetry::counter::Counter;

/// Values below this many microseconds have a bucket each.
const LINEAR: u64 = 32;
/// Buckets in each doubling above: a value is off by at most 1/16 (6 %) of itself.
const PER_DOUBLING: usize = 16;
/// Doublings from [`LINEAR`] up to 2^32 microseconds (71 minutes); longer ones count as that long.
const DOUBLINGS: usize = 27;
/// Buckets in all.
pub const BUCKETS: usize = LINEAR as usize + DOUBLINGS * PER_DOUBLING;

/// Upper bounds of the Prometheus buckets, microseconds; what is longer is in `+Inf` only.
pub const BOUNDS_MICROS: [u64; 17] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

/// Durations of one core and one route.
#[derive(Debug)]
pub struct Histogram {
    fine: [Counter; BUCKETS],
    bounds: [Counter; BOUNDS_MICROS.len() + 1],
    sum_micros: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            fine: [const { Counter::new() }; BUCKETS],
            bounds: [const { Counter::new() }; BOUNDS_MICROS.len() + 1],
            sum_micros: Counter::new(),
        }
    }
}

impl Histogram {
    /// Counts one duration.
    #[inline]
    pub fn record(&self, micros: u64) {
        self.fine[bucket(micros)].inc();
        // Not short-circuited: seventeen comparisons without a branch beat a search.
        let bound = BOUNDS_MICROS.iter().filter(|bound| micros > **bound).count();
        self.bounds[bound].inc();
        self.sum_micros.add(micros);
    }

    /// The sum of all durations, microseconds.
    pub fn sum_micros(&self) -> u64 {
        self.sum_micros.get()
    }

    /// Adds this core's exact counts to `into`: one per bound, the last for what is longer.
    pub fn add_bounds_to(&self, into: &mut [u64; BOUNDS_MICROS.len() + 1]) {
        for (sum, counter) in into.iter_mut().zip(&self.bounds) {
            *sum += counter.get();
        }
    }

    /// Adds this core's counts to `into`, by bucket; it has [`BUCKETS`] of them.
    pub fn add_to(&self, into: &mut [u64]) {
        into.iter_mut().zip(&self.fine).for_each(|(sum, counter)| *sum += counter.get());
    }

    /// Calls `each(middle of the bucket in microseconds, count)` for every bucket in use.
    pub fn for_each(&self, mut each: impl FnMut(u64, u64)) {
        for (index, counter) in self.fine.iter().enumerate() {
            let count = counter.get();
            if count > 0 {
                each(middle(index), count);
            }
        }
    }
}

/// The bucket of a duration.
#[inline]
fn bucket(micros: u64) -> usize {
    let micros = micros.min(u64::from(u32::MAX));
    if micros < LINEAR {
        return micros as usize;
    }
    let exponent = micros.ilog2() as usize;
    let within = (micros >> (exponent - 4)) as usize & (PER_DOUBLING - 1);
    LINEAR as usize + (exponent - 5) * PER_DOUBLING + within
}

/// The middle of a bucket, microseconds.
pub fn middle(index: usize) -> u64 {
    let Some(above) = index.checked_sub(LINEAR as usize) else { return index as u64 };
    let shift = above / PER_DOUBLING + 1;
    let low = ((PER_DOUBLING + above % PER_DOUBLING) as u64) << shift;
    low + ((1u64 << shift) - 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_within_six_percent_of_its_bucket() {
        let mut value = 0u64;
        while value < u64::from(u32::MAX) {
            let error = middle(bucket(value)).abs_diff(value);
            assert!(error * 100 <= value * 6, "{value} is shown as {}", middle(bucket(value)));
            value = value * 1009 / 1000 + 1;
        }
    }

    #[test]
    fn buckets_are_dense_and_in_order() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(31), 31);
        assert_eq!(bucket(32), 32);
        assert_eq!(bucket(u64::from(u32::MAX)), BUCKETS - 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        for index in 1..BUCKETS {
            assert_eq!(bucket(middle(index)), index);
            assert!(middle(index) > middle(index - 1));
        }
    }

    #[test]
    fn bounds_are_exact_and_inclusive() {
        let histogram = Histogram::default();
        for micros in [100, 101, 1_000, 1_001, 30_000_001] {
            histogram.record(micros);
        }
        let mut bounds = [0; BOUNDS_MICROS.len() + 1];
        histogram.add_bounds_to(&mut bounds);
        assert_eq!(bounds[0], 1, "100 us is within 0.0001 s");
        assert_eq!(bounds[1], 1, "101 us is not");
        assert_eq!(bounds[3], 1);
        assert_eq!(bounds[4], 1);
        assert_eq!(bounds[BOUNDS_MICROS.len()], 1);
        assert_eq!(histogram.sum_micros(), 30_002_203);
        let mut total = 0;
        histogram.for_each(|_, count| total += count);
        assert_eq!(total, 5);
    }
}
