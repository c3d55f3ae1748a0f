//! Numbers with one writer and any number of readers.
//!
//! Each belongs to one core, so an addition is a load and a store without a lock prefix; a reader
//! on another thread sees a value that was true a moment ago.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// A number that only rises. Only the core that owns it may write.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `n`; wraps after 2^64.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Raises the value to `n` if it is lower: for the largest of something.
    #[inline]
    pub fn raise_to(&self, n: u64) {
        if n > self.0.load(Relaxed) {
            self.0.store(n, Relaxed);
        }
    }

    /// The value a moment ago.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that rises and falls. Only the core that owns it may write.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// A gauge at zero.
    pub const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: i64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Takes one away.
    #[inline]
    pub fn dec(&self) {
        self.add(-1);
    }

    /// Replaces the value.
    #[inline]
    pub fn set(&self, n: i64) {
        self.0.store(n, Relaxed);
    }

    /// The value a moment ago.
    #[inline]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_up_and_down() {
        let counter = Counter::new();
        counter.inc();
        counter.add(41);
        assert_eq!(counter.get(), 42);
        counter.raise_to(7);
        assert_eq!(counter.get(), 42);
        counter.raise_to(50);
        assert_eq!(counter.get(), 50);
        let gauge = Gauge::new();
        gauge.inc();
        gauge.dec();
        gauge.dec();
        assert_eq!(gauge.get(), -1);
        gauge.set(9);
        assert_eq!(gauge.get(), 9);
    }

    #[test]
    fn a_reader_on_another_thread_sees_a_rising_value() {
        let counter = std::sync::Arc::new(Counter::new());
        let reader = {
            let counter = std::sync::Arc::clone(&counter);
            std::thread::spawn(move || {
                let mut last = 0;
                while last < 100_000 {
                    let now = counter.get();
                    assert!(now >= last);
                    last = now;
                }
            })
        };
        for _ in 0..100_000 {
            counter.inc();
        }
        reader.join().expect("the reader saw a falling value");
    }
}
