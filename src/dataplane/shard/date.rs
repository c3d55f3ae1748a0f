//! The value of `Date`, made once a second instead of once a response.

use std::{
    cell::Cell,
    time::{SystemTime, UNIX_EPOCH},
};

/// Bytes of an IMF-fixdate. Source: RFC 9110 §5.6.7.
pub(super) const DATE_BYTES: usize = 29;

/// The current date as `Date` wants it, refreshed by the tick.
pub struct DateCache {
    second: Cell<u64>,
    text: Cell<[u8; DATE_BYTES]>,
}

impl DateCache {
    /// A cache that holds the date of now.
    pub fn new() -> Self {
        let cache = Self { second: Cell::new(u64::MAX), text: Cell::new([b' '; DATE_BYTES]) };
        cache.refresh();
        cache
    }

    /// The date, at most a tick old.
    pub fn get(&self) -> [u8; DATE_BYTES] {
        self.text.get()
    }

    /// Makes the text anew if the second has changed, forward or back.
    pub fn refresh(&self) {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.second.replace(second) == second {
            return;
        }
        let text = httpdate::fmt_http_date(now);
        if let Ok(bytes) = <[u8; DATE_BYTES]>::try_from(text.as_bytes()) {
            self.text.set(bytes);
        }
    }
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
    fn the_date_is_an_imf_fixdate_of_now() {
        let text = DateCache::new().get();
        let parsed = httpdate::parse_http_date(std::str::from_utf8(&text).unwrap()).unwrap();
        let age = SystemTime::now().duration_since(parsed).unwrap();
        assert!(age.as_secs() <= 1, "{age:?}");
    }
}
