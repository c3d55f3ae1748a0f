//! How long each step of an exchange may take.

use std::time::Duration;

use crate::base::limits;

/// Tags of the deadlines of an exchange: which of them fired decides what the client is told.
pub(super) mod tag {
    /// The client paused inside its body, or does not read.
    pub(crate) const CLIENT: u8 = 10;
    /// The endpoint is silent, or does not read.
    pub(crate) const UPSTREAM: u8 = 11;
    /// The route's time for the whole exchange is over.
    pub(crate) const ROUTE: u8 = 12;
    /// The endpoint sends its body too slowly.
    pub(crate) const PACE: u8 = 13;
}

/// The lengths that hold for one exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// For a pause of the client.
    pub(super) client: Duration,
    /// For a silence of the endpoint.
    pub(super) upstream: Duration,
    /// The tick at which the whole exchange has to be over, or [`NEVER`].
    route_tick: u64,
    /// The tick at which this try has to have its response head, or [`NEVER`].
    try_tick: u64,
}

/// A tick that does not come: cheaper to carry than an `Option`.
const NEVER: u64 = u64::MAX;

impl Timing {
    /// The lengths of an exchange that begins now.
    pub(super) fn new(
        client: Duration,
        upstream: Duration,
        route: Option<Duration>,
        now_tick: u64,
    ) -> Self {
        let route_tick = route.map_or(NEVER, |length| tick_after(length, now_tick));
        Self { client, upstream, route_tick, try_tick: NEVER }
    }

    /// The same for a try that begins now and may take so long to its response head.
    pub(super) fn for_try(self, length: Duration, now_tick: u64) -> Self {
        Self { try_tick: tick_after(length, now_tick), ..self }
    }

    /// How long the endpoint may be silent before its response head, with the tag to blame.
    pub(super) fn until_head(&self, now_tick: u64) -> (Duration, u8) {
        self.of_try(self.upstream, now_tick)
    }

    /// The shorter of `length`, what is left for this try, and what is left for the exchange.
    pub(super) fn of_try(&self, length: Duration, now_tick: u64) -> (Duration, u8) {
        let length = match self.try_tick {
            NEVER => length,
            end => ticks_long(end.saturating_sub(now_tick)).min(length),
        };
        self.at_most(length, tag::UPSTREAM, now_tick)
    }

    /// The shorter of `length` and what is left for the whole exchange, with the tag to blame.
    pub(super) fn at_most(&self, length: Duration, tag: u8, now_tick: u64) -> (Duration, u8) {
        match self.route_tick {
            NEVER => (length, tag),
            end => {
                let left = ticks_long(end.saturating_sub(now_tick));
                if left < length { (left, tag::ROUTE) } else { (length, tag) }
            }
        }
    }

    /// Whether the route's time is over.
    pub(super) fn is_over(&self, now_tick: u64) -> bool {
        self.route_tick != NEVER && now_tick >= self.route_tick
    }
}

/// The tick at which a length of time that begins now is over.
fn tick_after(length: Duration, now_tick: u64) -> u64 {
    let ticks = length.as_millis().div_ceil(limits::TICK.as_millis());
    now_tick.saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX))
}

/// How long this many ticks are.
pub(super) fn ticks_long(ticks: u64) -> Duration {
    limits::TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_exchange_bounds_each_step() {
        let second = Duration::from_secs(1);
        let timing = Timing::new(second, second, Some(second * 2), 100);
        assert_eq!(timing.at_most(second, tag::UPSTREAM, 100), (second, tag::UPSTREAM));
        assert_eq!(timing.at_most(second, tag::UPSTREAM, 130), (second / 2, tag::ROUTE));
        assert!(!timing.is_over(139));
        assert!(timing.is_over(140));
        let hurried = timing.for_try(second / 4, 100);
        assert_eq!(hurried.until_head(100), (second / 4, tag::UPSTREAM));
        assert_eq!(hurried.until_head(200), (Duration::ZERO, tag::UPSTREAM));
        assert_eq!(hurried.at_most(second, tag::UPSTREAM, 110), (second, tag::UPSTREAM));
        let free = Timing::new(second, second, None, 0);
        assert_eq!(free.at_most(second, tag::CLIENT, u64::MAX), (second, tag::CLIENT));
    }
}
