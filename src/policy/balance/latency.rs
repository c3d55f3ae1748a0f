//! The moving average of an endpoint's latency, kept once for all cores.

/// One new value counts an eighth: about the last eight requests decide.
const SHARE: u32 = 8;

/// An average that gets no new value halves in this time, so that an endpoint which was slow is asked
/// again.
const HALF_LIFE_MS: u64 = 5_000;

/// The average after one more value, microseconds; 0 means that none is known. At least 1.
pub fn moving_average(before_us: u32, value_us: u32) -> u32 {
    let value_us = value_us.max(1);
    if before_us == 0 {
        return value_us;
    }
    let (before, value) = (i64::from(before_us), i64::from(value_us));
    let step = (value - before) / i64::from(SHARE);
    let step = if step == 0 { (value - before).signum() } else { step };
    (before + step) as u32 // between the two
}

/// The average as it counts after `idle_ms` without a new value.
pub fn fade(average_us: u32, idle_ms: u64) -> u32 {
    let halves = idle_ms / HALF_LIFE_MS;
    if halves >= 31 { average_us.min(1) } else { (average_us >> halves).max(average_us.min(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_goes_to_where_the_values_are() {
        let mut average = moving_average(0, 1_000);
        assert_eq!(average, 1_000);
        for _ in 0..60 {
            average = moving_average(average, 50);
        }
        assert!((50..55).contains(&average), "{average}");
        assert_eq!(moving_average(0, 0), 1, "known, if only just");
        assert_eq!(moving_average(u32::MAX, u32::MAX), u32::MAX);
        assert!(moving_average(5_000, 2_000_000) > 250_000, "one outlier is felt");
    }

    #[test]
    fn an_average_fades_but_stays_known() {
        assert_eq!(fade(8_000, 4_999), 8_000);
        assert_eq!(fade(8_000, 10_000), 2_000);
        assert_eq!(fade(8_000, u64::MAX), 1);
        assert_eq!(fade(0, 100_000), 0);
    }
}
