//! The wall clock, looked at once per tick: the value of `Date`, and times in the access log.

use std::{
    cell::Cell,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Bytes of an IMF-fixdate. Source: RFC 9110 §5.6.7.
pub(super) const DATE_BYTES: usize = 29;

/// The current date as `Date` wants it, refreshed by the tick.
pub struct DateCache {
    /// When the wall clock was looked at, and the microseconds since 1970 that it showed.
    seen: Cell<(Instant, u64)>,
    second: Cell<u64>,
    text: Cell<[u8; DATE_BYTES]>,
}

impl DateCache {
    /// A cache that holds the date of now.
    pub fn new() -> Self {
        let cache = Self {
            seen: Cell::new((Instant::now(), 0)),
            second: Cell::new(u64::MAX),
            text: Cell::new([b' '; DATE_BYTES]),
        };
        cache.refresh();
        cache
    }

    /// The date, at most a tick old.
    pub fn get(&self) -> [u8; DATE_BYTES] {
        self.text.get()
    }

    /// Microseconds since 1970 at a moment, counted from what the last tick saw.
    pub fn unix_micros(&self, at: Instant) -> u64 {
        let (seen, unix_micros) = self.seen.get();
        match at.checked_duration_since(seen) {
            Some(later) => unix_micros.saturating_add(micros(later)),
            None => unix_micros.saturating_sub(micros(seen.duration_since(at))),
        }
    }

    /// Looks at the wall clock, and makes the text anew if the second has changed, forward or back.
    pub fn refresh(&self) {
        let now = SystemTime::now();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.seen.set((Instant::now(), micros(since)));
        let second = since.as_secs();
        if self.second.replace(second) == second {
            return;
        }
        let text = httpdate::fmt_http_date(now);
        if let Ok(bytes) = <[u8; DATE_BYTES]>::try_from(text.as_bytes()) {
            self.text.set(bytes);
        }
    }
}

fn micros(length: Duration) -> u64 {
    length.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(length.subsec_micros()))
}

impl Default for DateCache {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_before_and_after_the_last_look_are_told() {
        let before = Instant::now();
        let cache = DateCache::new();
        let wall = micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        let second = Duration::from_secs(1);
        assert!(cache.unix_micros(before) <= cache.unix_micros(Instant::now()));
        assert!(wall.abs_diff(cache.unix_micros(Instant::now())) < 500_000);
        let apart = cache.unix_micros(before + second) - cache.unix_micros(before);
        assert!(apart.abs_diff(1_000_000) <= 1, "each is rounded down by itself: {apart}");
    }

    #[test]
    fn the_date_is_an_imf_fixdate_of_now() {
        let text = DateCache::new().get();
        let parsed = httpdate::parse_http_date(std::str::from_utf8(&text).unwrap()).unwrap();
        let age = SystemTime::now().duration_since(parsed).unwrap();
        assert!(age.as_secs() <= 1, "{age:?}");
    }
}
