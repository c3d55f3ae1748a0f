//! How much of an upstream's work ringway takes on: a limit on requests in flight for the whole
//! process, fixed or following latency, and who goes first when it is reached. Time is an argument.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// `[upstream.overload]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverloadRule {
    /// Requests in flight, for the whole process.
    pub requests_max: u32,
    /// Connections to its endpoints, unused ones included, for the whole process; `None` for any number.
    pub connections_max: Option<u32>,
    /// Requests that wait, for the whole process.
    pub pending_max: u32,
    /// How long one waits, milliseconds.
    pub pending_timeout_ms: u64,
    /// Whether the limit follows latency; `requests_max` bounds it then.
    pub adaptive: bool,
}

/// `importance` of a route: who is refused first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Importance {
    /// Gets what the others leave: refused from four fifths of the limit on, and never waits.
    Low,
    /// Waits if it has to.
    #[default]
    Normal,
    /// Waits in front of the others.
    High,
}

/// How many requests are with one upstream and how many wait, over all cores. Exact: each entry is
/// one compare-and-swap on a line that only upstreams with a limit touch.
#[derive(Debug, Default)]
pub struct LoadCell {
    in_flight: AtomicU32,
    pending: AtomicU32,
    adaptive: Adaptive,
}

impl LoadCell {
    /// The limit in force.
    pub fn limit(&self, rule: &OverloadRule) -> u32 {
        if rule.adaptive { self.adaptive.limit().min(rule.requests_max) } else { rule.requests_max }
    }

    /// Takes a place among the requests in flight; whether there was one. To be given back by
    /// [`LoadCell::leave`].
    pub fn enter(&self, rule: &OverloadRule, importance: Importance) -> bool {
        let limit = self.limit(rule);
        let limit = if importance == Importance::Low { limit - limit / 5 } else { limit };
        let next = |count: u32| (count < limit).then_some(count + 1);
        self.in_flight.fetch_update(AcqRel, Relaxed, next).is_ok()
    }

    /// Gives a place back.
    pub fn leave(&self) {
        let before = self.in_flight.fetch_sub(1, AcqRel);
        debug_assert!(before > 0, "each place is given back once");
    }

    /// Takes a place among those who wait; whether there was one.
    pub fn wait(&self, rule: &OverloadRule) -> bool {
        let next = |count: u32| (count < rule.pending_max).then_some(count + 1);
        self.pending.fetch_update(AcqRel, Relaxed, next).is_ok()
    }

    /// Gives up waiting.
    pub fn stop_waiting(&self) {
        let before = self.pending.fetch_sub(1, AcqRel);
        debug_assert!(before > 0, "each place is given back once");
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Acquire)
    }

    /// Requests that wait.
    pub fn pending(&self) -> u32 {
        self.pending.load(Acquire)
    }

    /// Adds what a core saw since it last did: responses and their time to the head together. Now and
    /// then the limit is set anew by it.
    pub fn learn(&self, rule: &OverloadRule, responses: u64, micros: u64, now_ms: u64) {
        self.adaptive.learn(rule, responses, micros, self.in_flight(), now_ms);
    }
}

/// Responses from which on a mean says something.
const RESPONSES_MIN: u64 = 20;
/// How often the limit is set, milliseconds.
const STEP_MS: u64 = 100;
/// The limit at first, and the lowest one.
const LIMIT_FIRST: u32 = 20;
const LIMIT_MIN: f64 = 2.0;
/// Latency above the baseline by this much is taken for a queue.
const TOLERANCE: f64 = 1.25;
/// The limit grows by this part of its root per step where there is none.
const GROWTH: f64 = 0.3;
/// Steps between two looks at what the latency is without a queue,
const STEPS_TO_PROBE: u32 = 100;
/// and while such looks still find it lower than was thought.
const STEPS_TO_PROBE_SOON: u32 = 10;
/// Such a look lowers the limit to this share of where there should be no queue.
const PROBE_SHARE: f64 = 0.6;
/// Steps such a look takes: the queue empties in all but the last.
const PROBE_STEPS: u32 = 3;

/// Where the limit stands. What one step makes of it is [`Stand::step`], which is pure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stand {
    /// Requests in flight at most.
    pub limit: f64,
    /// Latency without a queue, microseconds; 0 while it is not known.
    pub baseline: f64,
    /// Steps until the next probe; within one, how many are left, plus [`STEPS_TO_PROBE`].
    pub until_probe: u32,
    /// The limit to go back to after a probe.
    pub kept: f64,
}

impl Stand {
    /// Before anything was seen.
    pub const FIRST: Self = Self {
        limit: LIMIT_FIRST as f64,
        baseline: 0.0,
        until_probe: STEPS_TO_PROBE_SOON,
        kept: 0.0,
    };

    /// The limit after responses with this mean latency, while at most `in_flight` were under way.
    ///
    /// A gradient: the limit shrinks by how much slower responses are than without a queue, and grows
    /// by a part of its root where they are not. The baseline is the least mean seen; as it can only
    /// fall, now and then the limit is lowered to where there should be no queue, and what is
    /// measured then is the new one. Sources: Netflix concurrency-limits (gradient), BBR (probing).
    #[must_use]
    pub fn step(self, mean: f64, in_flight: u32) -> Self {
        if self.until_probe > STEPS_TO_PROBE {
            return self.probe(mean);
        }
        let baseline = if self.baseline == 0.0 { mean } else { self.baseline.min(mean) };
        if self.until_probe == 0 {
            let empty = (self.limit * baseline / mean * PROBE_SHARE).max(LIMIT_MIN);
            let until_probe = STEPS_TO_PROBE + PROBE_STEPS;
            return Self { limit: empty, baseline, until_probe, kept: self.limit };
        }
        let gradient = (baseline * TOLERANCE / mean).clamp(0.5, 1.0);
        let mut target = self.limit * gradient + self.limit.sqrt() * GROWTH;
        if f64::from(in_flight) < self.limit / 2.0 {
            target = target.min(self.limit); // nobody asked for more
        }
        let limit = ((self.limit + target) / 2.0).max(LIMIT_MIN);
        Self { limit, baseline, until_probe: self.until_probe - 1, ..self }
    }

    fn probe(self, mean: f64) -> Self {
        let left = self.until_probe - STEPS_TO_PROBE;
        if left > 1 {
            return Self { until_probe: self.until_probe - 1, ..self };
        }
        // Never far above at once: a probe in a bad moment must not undo what is known.
        let baseline = mean.min(self.baseline * 2.0);
        let is_news = baseline < self.baseline * 0.9;
        let until_probe = if is_news { STEPS_TO_PROBE_SOON } else { STEPS_TO_PROBE };
        Self { limit: self.kept, baseline, until_probe, kept: 0.0 }
    }
}

/// The stand in words that cores share. One core at a time makes a step: the one that moves
/// `next_ms`.
#[derive(Debug)]
struct Adaptive {
    limit: AtomicU32,
    next_ms: AtomicU64,
    responses: AtomicU64,
    micros: AtomicU64,
    peak: AtomicU32,
    stand: [AtomicU64; 3],
    until_probe: AtomicU32,
}

impl Default for Adaptive {
    fn default() -> Self {
        let first = Stand::FIRST;
        Self {
            limit: AtomicU32::new(LIMIT_FIRST),
            next_ms: AtomicU64::new(0),
            responses: AtomicU64::new(0),
            micros: AtomicU64::new(0),
            peak: AtomicU32::new(0),
            stand: [first.limit, first.baseline, first.kept]
                .map(|number| AtomicU64::new(number.to_bits())),
            until_probe: AtomicU32::new(first.until_probe),
        }
    }
}

impl Adaptive {
    fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    fn learn(&self, rule: &OverloadRule, responses: u64, micros: u64, in_flight: u32, now_ms: u64) {
        self.micros.fetch_add(micros, Relaxed);
        self.peak.fetch_max(in_flight, Relaxed);
        let seen = self.responses.fetch_add(responses, AcqRel) + responses;
        let next_ms = self.next_ms.load(Acquire);
        if seen < RESPONSES_MIN || now_ms < next_ms {
            return;
        }
        let is_mine =
            self.next_ms.compare_exchange(next_ms, now_ms + STEP_MS, AcqRel, Relaxed).is_ok();
        if !is_mine {
            return;
        }
        let responses = self.responses.swap(0, AcqRel);
        let mean = self.micros.swap(0, AcqRel) as f64 / responses.max(1) as f64;
        let peak = self.peak.swap(in_flight, AcqRel);
        let [limit, baseline, kept] =
            [0, 1, 2].map(|at: usize| f64::from_bits(self.stand[at].load(Relaxed)));
        let stand = Stand { limit, baseline, kept, until_probe: self.until_probe.load(Relaxed) };
        let mut stand = stand.step(mean.max(1.0), peak);
        stand.limit = stand.limit.min(f64::from(rule.requests_max));
        for (word, number) in self.stand.iter().zip([stand.limit, stand.baseline, stand.kept]) {
            word.store(number.to_bits(), Relaxed);
        }
        self.until_probe.store(stand.until_probe, Relaxed);
        self.limit.store((stand.limit as u32).max(1), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(adaptive: bool) -> OverloadRule {
        OverloadRule {
            requests_max: 10,
            connections_max: None,
            pending_max: 3,
            pending_timeout_ms: 100,
            adaptive,
        }
    }

    #[test]
    fn the_limit_holds_and_the_unimportant_are_refused_first() {
        let load = LoadCell::default();
        let enter = |importance| load.enter(&rule(false), importance);
        let low = (0..20).filter(|_| enter(Importance::Low)).count();
        let normal = (0..20).filter(|_| enter(Importance::Normal)).count();
        assert_eq!((low, normal), (8, 2));
        assert!(!enter(Importance::High), "a limit is a limit");
        load.leave();
        assert!(!enter(Importance::Low) && enter(Importance::High));
        assert_eq!((0..9).filter(|_| load.wait(&rule(false))).count(), 3);
        load.stop_waiting();
        assert_eq!((load.in_flight(), load.pending()), (10, 2));
    }

    #[test]
    fn cores_that_enter_at_once_never_exceed_it() {
        let load = LoadCell::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        if load.enter(&rule(false), Importance::Normal) {
                            assert!(load.in_flight() <= 10);
                            load.leave();
                        }
                    }
                });
            }
        });
        assert_eq!(load.in_flight(), 0);
    }

    /// `cargo test --release --lib what_a_place_costs -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn what_a_place_costs() {
        const ROUNDS: u32 = 10_000_000;
        for cores in [1, 2, 4] {
            let load = LoadCell::default();
            let rule = OverloadRule { requests_max: 1_000, ..rule(false) };
            let begin = std::time::Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..cores {
                    scope.spawn(|| {
                        for _ in 0..ROUNDS {
                            assert!(load.enter(&rule, Importance::Normal));
                            load.leave();
                        }
                    });
                }
            });
            let each = begin.elapsed() / ROUNDS;
            println!("{cores} threads that do nothing else: {each:?} for a place and its return");
        }
    }

    /// An upstream of `workers` that each need `service` microseconds: with more in flight they
    /// queue. Returns the mean latency and the responses of a step.
    fn serve(workers: f64, service: f64, in_flight: f64) -> (f64, f64) {
        let latency = service * (in_flight / workers).max(1.0);
        (latency, in_flight / latency)
    }

    #[test]
    fn the_limit_finds_the_capacity_and_follows_it() {
        for (workers, service) in [(8.0, 10_000.0), (100.0, 2_000.0), (2.0, 50_000.0)] {
            let mut stand = Stand::FIRST;
            let run = |stand: &mut Stand, workers: f64, service: f64, steps: u32| {
                let (mut sum, mut worst) = (0.0, 0.0_f64);
                for _ in 0..steps {
                    let (mean, rate) = serve(workers, service, stand.limit); // all the clients want
                    *stand = stand.step(mean, stand.limit as u32);
                    sum += rate / (workers / service);
                    worst = worst.max(mean / service);
                }
                (sum / f64::from(steps), worst)
            };
            run(&mut stand, workers, service, 200);
            let (goodput, worst) = run(&mut stand, workers, service, 1_000);
            assert!(goodput > 0.9, "{workers} workers: {goodput}");
            assert!(worst < 3.0, "{workers} workers: {worst} times as slow");
            run(&mut stand, workers, service * 4.0, 1_000); // it has become slower, for good
            let (goodput, worst) = run(&mut stand, workers, service * 4.0, 1_000);
            assert!(goodput > 0.9 && worst < 3.0, "{workers} slower workers: {goodput} {worst}");
        }
    }

    #[test]
    fn the_limit_does_not_grow_for_nobody() {
        let mut stand = Stand::FIRST;
        for _ in 0..1_000 {
            stand = stand.step(1_000.0, 3);
        }
        assert!(stand.limit <= Stand::FIRST.limit, "{stand:?}");
    }

    #[test]
    fn cores_teach_one_limit() {
        let load = LoadCell::default();
        let rule = OverloadRule { requests_max: 1_000, ..rule(true) };
        for step in 0..400 {
            for _ in 0..4 {
                load.adaptive.peak.store(load.limit(&rule), Relaxed);
                load.learn(&rule, 10, 10_000, step * STEP_MS);
            }
        }
        assert!(load.limit(&rule) > 500, "{}", load.limit(&rule));
        for step in 400..440 {
            load.learn(&rule, 100, 100 * 50_000, step * STEP_MS);
        }
        assert!(load.limit(&rule) < 100, "{}", load.limit(&rule));
    }
}
