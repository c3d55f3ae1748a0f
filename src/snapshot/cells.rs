//! What the whole process knows of an upstream and its endpoints, and what changes without new rules:
//! up or not, ejected or not, how many requests are in flight.
//!
//! Plain atomics behind `Arc`s that snapshots share: `controlplane::compile` makes them,
//! `controlplane::carry` brings those of the version before into the next by (name of the upstream,
//! authority of the endpoint). The control plane and the cores write, each core reads; nobody waits.
//! What cores read for each request is written rarely and lies apart from what they write often, so
//! its cache line stays with all of them.
//!
//! Whoever changes which endpoints may be picked goes through a method here: it raises the
//! upstream's [`UpstreamCell::epoch`], by which cores see that what they made of the cells is out of
//! date. Points in time are those of [`crate::base::clock::now_ms`] and always arguments.

use std::sync::{
    Arc,
    atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

use crate::{
    base::limits::TRIAL_MAX,
    policy::{
        balance::{fade, moving_average},
        breaker::BreakerCell,
        connections::ConnectionsCell,
        outlier::Window,
        overload::LoadCell,
        retry::RetryBudget,
    },
};

/// A value on cache lines of its own (two, for the prefetcher that fetches pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Padded<T>(pub T);

/// What the control plane says of an endpoint: its checks, or an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Takes requests.
    Up,
    /// Takes none.
    Down,
    /// Finishes what it has, takes nothing new.
    Draining,
}

impl Health {
    /// The word in the Admin API, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Draining => "draining",
        }
    }
}

/// Who in the control plane says so. Each speaks for itself; an endpoint is up if all say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Its health checks.
    Check,
    /// Its heartbeats.
    Heartbeat,
    /// An operator.
    Hand,
}

impl Voice {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 3] = [Self::Check, Self::Heartbeat, Self::Hand];

    /// The word in the Admin API: who keeps requests from an endpoint.
    pub fn name(self) -> &'static str {
        match self {
            Self::Check => "health_check",
            Self::Heartbeat => "heartbeat",
            Self::Hand => "hand",
        }
    }

    /// Two bits of a byte: down, draining.
    const fn bits(self, health: Health) -> u8 {
        let said = match health {
            Health::Up => 0b00,
            Health::Down => 0b01,
            Health::Draining => 0b10,
        };
        said << (2 * self as u8)
    }

    /// Both of its bits.
    const fn mask(self) -> u8 {
        0b11 << (2 * self as u8)
    }
}

/// The bits by which somebody says "down".
const DOWN: u8 = Voice::Check.bits(Health::Down)
    | Voice::Heartbeat.bits(Health::Down)
    | Voice::Hand.bits(Health::Down);

/// What all voices together mean: the worst of them.
const fn health_of(said: u8) -> Health {
    match said {
        0 => Health::Up,
        said if said & DOWN != 0 => Health::Down,
        _ => Health::Draining,
    }
}

/// What all cores know of one upstream.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct UpstreamCell {
    /// Rises with each change of which endpoints may be picked.
    epoch: AtomicU32,
    in_flight: Padded<AtomicU32>,
    /// What its requests have earned for further tries.
    retry_budget: Padded<RetryBudget>,
    breaker: BreakerCell,
    /// Its requests in flight, where they are limited.
    load: Padded<LoadCell>,
    /// Its connections, where they are limited.
    connections: Padded<ConnectionsCell>,
}

impl UpstreamCell {
    /// One of which nothing has been said yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How often one of its endpoints has become, or ceased to be, one that may be picked, but for
    /// what time alone brings. Wraps. What was written before it rose is seen by who reads it.
    #[inline]
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Acquire)
    }

    /// Requests that are with its endpoints now, all cores together; kept up like
    /// [`EndpointCell::in_flight`].
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.0.load(Relaxed)
    }

    /// The breaker of the upstream as a whole.
    pub fn breaker(&self) -> &BreakerCell {
        &self.breaker
    }

    /// Its requests in flight, where they are limited.
    pub fn load(&self) -> &LoadCell {
        &self.load.0
    }

    /// Its connections, where they are limited.
    pub fn connections(&self) -> &ConnectionsCell {
        &self.connections.0
    }

    /// What further tries of its requests are paid with.
    pub fn retry_budget(&self) -> &RetryBudget {
        &self.retry_budget.0
    }

    /// Tells all cores to look at the endpoints again.
    pub fn changed(&self) {
        self.epoch.fetch_add(1, Release);
    }
}

/// What all cores know of one endpoint of one upstream.
#[derive(Debug)]
#[repr(align(128))]
pub struct EndpointCell {
    /// What each [`Voice`] of the control plane says.
    said: AtomicU8,
    /// Failures in a row, as all cores see them.
    consecutive_errors: AtomicU32,
    /// Ejections in a row, for times that grow.
    ejections: AtomicU32,
    /// 0: never ejected.
    ejected_until_ms: AtomicU64,
    /// 0: since ever.
    up_since_ms: AtomicU64,
    /// It was ejected and has not shown since that it is good.
    on_trial: AtomicBool,
    breaker: BreakerCell,
    upstream: Arc<UpstreamCell>,
    window: Padded<Window>,
    busy: Padded<Busy>,
}

/// What cores write while they serve.
#[derive(Debug, Default)]
struct Busy {
    in_flight: AtomicU32,
    /// 0: not known.
    latency_us: AtomicU32,
    latency_ms: AtomicU64,
    begun: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
}

/// Tries of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// That began.
    pub begun: u64,
    /// That ended.
    pub ended: u64,
    /// That were the endpoint's failure: no usable response, or a status from 500 on.
    pub failed: u64,
    /// That were not the first one of their request.
    pub retried: u64,
}

impl Counts {
    /// Those that are with the endpoint now.
    pub fn in_flight(&self) -> u64 {
        self.begun.saturating_sub(self.ended)
    }
}

/// State is no part of the rules: upstreams are the same rules whatever happened to their endpoints.
impl PartialEq for EndpointCell {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for EndpointCell {}

/// The same.
impl PartialEq for UpstreamCell {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for UpstreamCell {}

impl EndpointCell {
    /// An endpoint that is up, has always been, and has nothing to do.
    pub fn new(upstream: &Arc<UpstreamCell>) -> Arc<Self> {
        Self::added(upstream, 0)
    }

    /// An endpoint that joins an upstream which others serve already: its slow start begins now.
    pub fn added(upstream: &Arc<UpstreamCell>, now_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            said: AtomicU8::new(0),
            consecutive_errors: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until_ms: AtomicU64::new(0),
            up_since_ms: AtomicU64::new(now_ms),
            on_trial: AtomicBool::new(false),
            breaker: BreakerCell::default(),
            window: Padded::default(),
            upstream: Arc::clone(upstream),
            busy: Padded::default(),
        })
    }

    /// The upstream it belongs to.
    pub fn upstream(&self) -> &Arc<UpstreamCell> {
        &self.upstream
    }

    /// What the control plane says: the worst of what its voices say.
    pub fn health(&self) -> Health {
        health_of(self.said.load(Relaxed))
    }

    /// What one of the voices says.
    pub fn said_by(&self, voice: Voice) -> Health {
        health_of(self.said.load(Relaxed) & voice.mask())
    }

    /// One of the voices says what an endpoint is; whether that changes what it is. One that comes up
    /// from being down is up since `now_ms`.
    pub fn set_health(&self, voice: Voice, health: Health, now_ms: u64) -> bool {
        let (mask, bits) = (voice.mask(), voice.bits(health));
        let say = |said: u8| Some(said & !mask | bits);
        let said = self.said.fetch_update(Relaxed, Relaxed, say).unwrap_or_else(|said| said);
        let (before, after) = (health_of(said), health_of(said & !mask | bits));
        if before == after {
            return false;
        }
        if after == Health::Up && before == Health::Down {
            self.up_since_ms.store(now_ms, Relaxed);
        }
        self.upstream.changed();
        true
    }

    /// Whether it may be picked: up, and not ejected.
    pub fn is_available(&self, now_ms: u64) -> bool {
        self.health() == Health::Up && !self.is_ejected(now_ms)
    }

    /// Whether live traffic said to leave it alone for now.
    pub fn is_ejected(&self, now_ms: u64) -> bool {
        self.ejected_until_ms() > now_ms
    }

    /// Until when it is, or was, ejected; 0 for never.
    pub fn ejected_until_ms(&self) -> u64 {
        self.ejected_until_ms.load(Relaxed)
    }

    /// Ejects it until `until_ms`; counts that. Of several cores that come to it at once one is
    /// told `true`; it stays `false` while it is ejected.
    pub fn eject(&self, until_ms: u64, now_ms: u64) -> bool {
        let before = self.ejected_until_ms();
        let is_mine = before <= now_ms
            && self.ejected_until_ms.compare_exchange(before, until_ms, AcqRel, Relaxed).is_ok();
        if is_mine {
            self.note_ejection();
        }
        is_mine
    }

    /// Ejects it anew, because its trial failed; whether it was on trial.
    pub fn eject_again(&self, until_ms: u64) -> bool {
        let is_on_trial = self.is_on_trial();
        if is_on_trial {
            self.ejected_until_ms.store(until_ms, Relaxed);
            self.note_ejection();
        }
        is_on_trial
    }

    fn note_ejection(&self) {
        self.on_trial.store(true, Relaxed);
        self.ejections.fetch_add(1, Relaxed);
        self.consecutive_errors.store(0, Relaxed);
        self.window.0.clear();
        self.upstream.changed();
    }

    /// Whether it was ejected and has not shown since that it is good. When its time is over one
    /// request may try it ([`EndpointCell::claim_trial`]).
    #[inline]
    pub fn is_on_trial(&self) -> bool {
        self.on_trial.load(Relaxed)
    }

    /// Whether it is ejected, or was and has to prove itself.
    pub fn is_out(&self, now_ms: u64) -> bool {
        self.is_on_trial() || self.is_ejected(now_ms)
    }

    /// Asks to be the one request that tries it. For all others it stays ejected meanwhile, for
    /// [`TRIAL_MAX`] at most: a trial that told nothing by then is followed by another.
    pub fn claim_trial(&self, now_ms: u64) -> bool {
        let before = self.ejected_until_ms();
        let until_ms = now_ms + TRIAL_MAX.as_millis() as u64;
        let is_mine = before <= now_ms
            && self.ejected_until_ms.compare_exchange(before, until_ms, AcqRel, Relaxed).is_ok();
        if is_mine {
            self.upstream.changed();
        }
        is_mine
    }

    /// The trial told nothing: somebody else may try.
    pub fn give_trial_back(&self, now_ms: u64) {
        self.ejected_until_ms.store(now_ms, Relaxed);
        self.upstream.changed();
    }

    /// It is good again: takes requests from now on, as one that has just come up.
    pub fn readmit(&self, now_ms: u64) {
        self.on_trial.store(false, Relaxed);
        self.consecutive_errors.store(0, Relaxed);
        self.window.0.clear();
        self.ejected_until_ms.store(now_ms, Relaxed);
        self.upstream.changed();
    }

    /// The breaker of this endpoint.
    pub fn breaker(&self) -> &BreakerCell {
        &self.breaker
    }

    /// What was seen of it lately.
    pub fn window(&self) -> &Window {
        &self.window.0
    }

    /// Ends an ejection before its time; whether there was one.
    pub fn restore(&self, now_ms: u64) -> bool {
        let until_ms = self.ejected_until_ms();
        let is_mine = until_ms > now_ms
            && self.ejected_until_ms.compare_exchange(until_ms, now_ms, AcqRel, Relaxed).is_ok();
        if is_mine {
            self.on_trial.store(false, Relaxed);
            self.upstream.changed();
        }
        is_mine
    }

    /// How often it was ejected since [`EndpointCell::forgive`].
    pub fn ejections(&self) -> u32 {
        self.ejections.load(Relaxed)
    }

    /// It was good for long enough: the next ejection is as short as the first.
    pub fn forgive(&self) {
        if self.ejections() != 0 {
            self.ejections.store(0, Relaxed);
        }
    }

    /// Notes a failure; how many that makes in a row, over all cores.
    pub fn note_error(&self) -> u32 {
        self.consecutive_errors.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// Notes a success: the row of failures ends. Only reads where there is none.
    #[inline]
    pub fn note_success(&self) {
        if self.consecutive_errors.load(Relaxed) != 0 {
            self.consecutive_errors.store(0, Relaxed);
        }
    }

    /// Failures in a row.
    pub fn consecutive_errors(&self) -> u32 {
        self.consecutive_errors.load(Relaxed)
    }

    /// Since when it may be picked without a break, as of `now_ms`; 0 for since ever. An ejection
    /// that ended counts as a break.
    pub fn up_since_ms(&self, now_ms: u64) -> u64 {
        let ejected_until_ms = self.ejected_until_ms();
        let back_ms = if ejected_until_ms <= now_ms { ejected_until_ms } else { 0 };
        self.up_since_ms.load(Relaxed).max(back_ms)
    }

    /// Requests that are with it now, all cores together; kept up only where the upstream's strategy
    /// or a limit asks for it.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.busy.0.in_flight.load(Relaxed)
    }

    /// A request goes to it; how many that makes. To be followed by one [`EndpointCell::end`].
    #[inline]
    pub fn begin(&self) -> u32 {
        self.upstream.in_flight.0.fetch_add(1, Relaxed);
        self.busy.0.in_flight.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// A request has left it.
    #[inline]
    pub fn end(&self) {
        self.upstream.in_flight.0.fetch_sub(1, Relaxed);
        let before = self.busy.0.in_flight.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "each end has its begin");
    }

    /// Takes a latency into the moving average. Of cores that do so at the same moment one may not be
    /// heard, which an average can bear; they don't wait for each other.
    #[inline]
    pub fn learn_latency(&self, us: u32, now_ms: u64) {
        let average = moving_average(self.busy.0.latency_us.load(Relaxed), us);
        self.busy.0.latency_us.store(average, Relaxed);
        self.busy.0.latency_ms.store(now_ms, Relaxed);
    }

    /// The moving average of the latency, faded since the last request; `None` while none is known.
    #[inline]
    pub fn latency_us(&self, now_ms: u64) -> Option<u32> {
        let idle_ms = now_ms.saturating_sub(self.busy.0.latency_ms.load(Relaxed));
        Some(fade(self.busy.0.latency_us.load(Relaxed), idle_ms)).filter(|us| *us > 0)
    }

    /// Adds what a core has counted since its last tick.
    pub fn add_counts(&self, counts: Counts) {
        let Busy { begun, ended, failed, retried, .. } = &self.busy.0;
        begun.fetch_add(counts.begun, Relaxed);
        ended.fetch_add(counts.ended, Relaxed);
        for (sum, count) in [(failed, counts.failed), (retried, counts.retried)] {
            if count > 0 {
                sum.fetch_add(count, Relaxed);
            }
        }
    }

    /// Tries since it is an endpoint of its upstream, as of the last ticks of the cores.
    pub fn counts(&self) -> Counts {
        let Busy { begun, ended, failed, retried, .. } = &self.busy.0;
        // In this order, so that no more have ended than began.
        let ended = ended.load(Relaxed);
        let (failed, retried) = (failed.load(Relaxed), retried.load(Relaxed));
        Counts { begun: begun.load(Relaxed), ended, failed, retried }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_often_lies_apart_from_what_is_read_often() {
        let cell = EndpointCell::new(&UpstreamCell::new());
        let address = |field: *const u8| field as usize / 128;
        let (health, in_flight) = (&raw const cell.said, &raw const cell.busy);
        assert!(address(health.cast()) != address(in_flight.cast()));
        assert_eq!(address(health.cast()), address((&raw const cell.ejected_until_ms).cast()));
        assert_eq!(align_of::<UpstreamCell>(), 128);
    }

    #[test]
    fn health_decides_and_cores_hear_of_it() {
        let upstream = UpstreamCell::new();
        let cell = EndpointCell::new(&upstream);
        assert!(cell.is_available(5));
        assert_eq!(cell.up_since_ms(5), 0, "no slow start for what was always there");
        for health in [Health::Down, Health::Draining, Health::Down] {
            let epoch = upstream.epoch();
            assert!(cell.set_health(Voice::Hand, health, 7));
            assert!(!cell.set_health(Voice::Hand, health, 8), "no news");
            assert_eq!(cell.said_by(Voice::Hand), health);
            assert_eq!((cell.health(), cell.is_available(9)), (health, false));
            assert_eq!(upstream.epoch(), epoch + 1);
        }
        assert!(cell.set_health(Voice::Hand, Health::Up, 40));
        assert!(cell.is_available(40));
        assert_eq!(cell.up_since_ms(50), 40);
        cell.set_health(Voice::Hand, Health::Draining, 60);
        cell.set_health(Voice::Hand, Health::Up, 70);
        assert_eq!(cell.up_since_ms(80), 40, "draining does not cool an endpoint down");
    }

    #[test]
    fn each_voice_speaks_for_itself_and_the_worst_counts() {
        use Health::{Down, Draining, Up};
        use Voice::{Check, Hand, Heartbeat};
        let cell = EndpointCell::new(&UpstreamCell::new());
        for (voice, says, is_news, is) in [
            (Check, Down, true, Down),
            (Hand, Draining, false, Down),
            (Heartbeat, Down, false, Down),
            (Check, Up, false, Down),
            (Heartbeat, Up, true, Draining),
            (Hand, Up, true, Up),
        ] {
            assert_eq!(cell.set_health(voice, says, 9), is_news, "{voice:?} says {says:?}");
            assert_eq!(cell.health(), is, "{voice:?} said {says:?}");
        }
    }

    #[test]
    fn an_ejection_ends_by_itself() {
        let upstream = UpstreamCell::new();
        let cell = EndpointCell::new(&upstream);
        assert!(cell.eject(100, 10));
        assert!(!cell.eject(200, 99), "it is ejected already");
        assert_eq!((cell.ejections(), upstream.epoch()), (1, 1));
        assert!(!cell.is_available(99) && cell.is_available(100));
        assert_eq!((cell.up_since_ms(99), cell.up_since_ms(100)), (0, 100));
        assert!(cell.eject(300, 100) && cell.restore(150) && !cell.restore(151));
        assert!(cell.is_available(150));
        assert_eq!((cell.ejections(), cell.up_since_ms(160)), (2, 150));
        cell.forgive();
        assert_eq!(cell.ejections(), 0);
    }

    #[test]
    fn one_request_tries_an_endpoint_that_comes_back() {
        let upstream = UpstreamCell::new();
        let cell = EndpointCell::new(&upstream);
        cell.note_error();
        assert!(cell.eject(100, 10) && cell.is_on_trial() && cell.consecutive_errors() == 0);
        assert!(!cell.claim_trial(99), "too early");
        assert!(cell.claim_trial(100) && !cell.claim_trial(100), "one");
        assert!(!cell.is_available(100) && cell.is_out(100));
        assert!(cell.eject_again(300) && cell.ejections() == 2);
        assert!(cell.claim_trial(300));
        cell.give_trial_back(310);
        assert!(cell.claim_trial(310));
        let lost_ms = 310 + TRIAL_MAX.as_millis() as u64;
        assert!(cell.claim_trial(lost_ms), "a lost one is followed by another");
        cell.readmit(lost_ms + 1);
        assert!(cell.is_available(lost_ms + 1) && !cell.is_out(lost_ms + 1));
        assert!(!cell.eject_again(1), "it has proved itself");
        assert_eq!(cell.up_since_ms(lost_ms + 2), lost_ms + 1);
    }

    #[test]
    fn of_many_threads_one_ejects() {
        let cell = EndpointCell::new(&UpstreamCell::new());
        let ejected: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| usize::from(cell.eject(100, 10)))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!((ejected, cell.ejections()), (1, 1));
    }

    #[test]
    fn errors_in_a_row_and_requests_in_flight_are_counted_over_cores() {
        let cell = EndpointCell::new(&UpstreamCell::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        cell.begin();
                        cell.note_error();
                    }
                });
            }
        });
        assert_eq!((cell.in_flight(), cell.consecutive_errors()), (4_000, 4_000));
        assert_eq!(cell.upstream().in_flight(), 4_000);
        cell.note_success();
        assert_eq!((cell.consecutive_errors(), cell.note_error()), (0, 1));
        (0..4_000).for_each(|_| cell.end());
        assert_eq!((cell.in_flight(), cell.upstream().in_flight()), (0, 0));
    }

    #[test]
    fn latency_is_an_average_that_fades() {
        let cell = EndpointCell::new(&UpstreamCell::new());
        assert_eq!(cell.latency_us(7), None);
        cell.learn_latency(8_000, 1_000);
        assert_eq!((cell.latency_us(1_000), cell.latency_us(11_000)), (Some(8_000), Some(2_000)));
        cell.learn_latency(16_000, 11_000);
        assert_eq!(cell.latency_us(11_000), Some(9_000));
    }
}
