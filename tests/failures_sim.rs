//! A seeded simulation of upstreams that fail: the pure rules for ejections, breakers, further tries and
//! overload together, over random histories of endpoints that die, fail in part, slow down and recover,
//! on several simulated cores. No socket, no clock. What they answer is compared with `failures/model.rs`
//! at every step, so a rule that is off by one is found whether or not a bound is broken by it.
//!
//! A failure prints its seed; `RINGWAY_SIM_SEED=n cargo test --test failures_sim` runs that one alone.

#[path = "failures/model.rs"]
mod model;

use ringway::{
    base::limits,
    policy::{
        breaker::{BreakerCell, BreakerRule, Leave, Outcome, State},
        outlier::{self, Panic, PassiveRule, Seen},
        overload::{Importance, LoadCell, OverloadRule},
        retry::{RetryBudget, RetryRule},
    },
    snapshot::cells::{EndpointCell, Health, UpstreamCell, Voice},
};
use std::{sync::Arc, time::Duration};

/// Histories of one run.
const SEEDS: u64 = 10_000;
/// Time between two steps while endpoints fail, and when all are good again, milliseconds.
const STEP_MS: u64 = 50;
const GOOD_STEP_MS: u64 = 250;
/// Steps in which endpoints fail.
const BAD_STEPS: u64 = 60;
/// Steps after the last ejection in which all must be as if nothing had happened: time for the trial
/// that was lost last.
const GOOD_STEPS: u64 = 40;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// One simulated endpoint: how much of what it gets fails, of 100, now.
struct Endpoint {
    cell: Arc<EndpointCell>,
    fails: u64,
    noted: Seen,
    record: model::Record,
}

struct World {
    random: Random,
    now_ms: u64,
    endpoints: Vec<Endpoint>,
    passive: PassiveRule,
    breaker: BreakerRule,
    retry: RetryRule,
    overload: OverloadRule,
    upstream_breaker: BreakerCell,
    breaker_model: model::Breaker,
    budget: RetryBudget,
    budget_model: model::Budget,
    load: LoadCell,
    /// Requests under way that hold leave of the breaker and a place: hung ones.
    hung: Vec<(u64, Option<(Leave, model::Passed)>)>,
    received: u64,
    further: u64,
    trials: u64,
    /// Whether clients leave and requests hang.
    is_lossy: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let upstream = UpstreamCell::new();
        let endpoint = |_| Endpoint {
            cell: EndpointCell::new(&upstream),
            fails: 0,
            noted: Seen::default(),
            record: model::Record::default(),
        };
        let endpoints = (0..1 + random.below(6)).map(endpoint).collect();
        let passive = PassiveRule {
            consecutive_errors: random.one_of(&[0, 2, 5]),
            error_rate_per_10k: random.one_of(&[0, 2_000, 5_000]),
            window_ms: random.one_of(&[1_000, 2_000]),
            requests_min: random.one_of(&[1, 10]),
            eject_for_ms: random.one_of(&[100, 400]),
            eject_max_per_10k: random.one_of(&[0, 3_400, 5_000, 10_000]),
            panic: random.one_of(&[Panic::All, Panic::Refuse]),
            success_gap_per_10k: random.one_of(&[0, 2_000]),
            latency_factor: random.one_of(&[0, 3]),
        };
        let breaker = BreakerRule {
            consecutive_failures: random.one_of(&[1, 3, 10]),
            open_for_ms: random.one_of(&[100, 500]),
            half_open_requests: random.one_of(&[1, 2, 5]),
            of_upstream: true,
            of_endpoints: false,
        };
        let retry = RetryRule {
            attempts: random.one_of(&[1, 2, 10]),
            kinds: [true; 5],
            statuses: [500].into(),
            budget_per_10k: random.one_of(&[0, 2_000, 10_000]),
            backoff: Duration::ZERO,
            per_try_timeout: None,
            non_idempotent: false,
            body_bytes_max: 0,
        };
        let overload = OverloadRule {
            requests_max: random.one_of(&[1, 5, 50]),
            connections_max: None,
            pending_max: 2,
            pending_timeout_ms: 100,
            adaptive: random.below(2) == 0,
        };
        Self {
            random,
            now_ms: 1,
            endpoints,
            passive,
            breaker,
            retry,
            overload,
            upstream_breaker: BreakerCell::default(),
            breaker_model: model::Breaker::default(),
            budget: RetryBudget::default(),
            budget_model: model::Budget::new(),
            load: LoadCell::default(),
            hung: Vec::new(),
            received: 0,
            further: 0,
            trials: 0,
            is_lossy: true,
        }
    }

    fn pick(&mut self, avoid: Option<usize>) -> Option<usize> {
        let usable = |one: &Endpoint| one.cell.is_available(self.now_ms);
        let can_be_used = |one: &&Endpoint| usable(one) && !one.cell.is_on_trial();
        let unusable = self.endpoints.len() - self.endpoints.iter().filter(can_be_used).count();
        let panic = outlier::is_panic(&self.passive, self.endpoints.len(), unusable);
        let is_much = unusable > model::ejected_max(&self.passive, self.endpoints.len());
        assert_eq!(panic, is_much && self.passive.panic == Panic::All);
        let all: Vec<usize> = (0..self.endpoints.len())
            .filter(|at| Some(*at) != avoid && (panic || usable(&self.endpoints[*at])))
            .collect();
        (!all.is_empty()).then(|| self.random.one_of(&all))
    }

    fn eject(&mut self, at: usize, again: bool) {
        let now_ms = self.now_ms;
        let out = self.endpoints.iter().filter(|one| one.cell.is_out(now_ms)).count();
        let cell = &self.endpoints[at].cell;
        if !again && out >= outlier::eject_max(&self.passive, self.endpoints.len()) {
            return;
        }
        let length_ms = outlier::ejection_ms(&self.passive, cell.ejections());
        assert_eq!(length_ms, self.endpoints[at].record.eject(&self.passive));
        let (cell, until_ms) = (&self.endpoints[at].cell, now_ms + length_ms);
        let done = if again { cell.eject_again(until_ms) } else { cell.eject(until_ms, now_ms) };
        assert!(done, "one core: nobody was faster");
    }

    /// One try of an endpoint; whether it was good, `None` if leave was not given or it hangs.
    fn attempt(&mut self, at: usize) -> Option<bool> {
        let now_ms = self.now_ms;
        let cell = Arc::clone(&self.endpoints[at].cell);
        let is_trial = cell.is_on_trial() && cell.ejected_until_ms() <= now_ms;
        if is_trial {
            assert!(cell.claim_trial(now_ms) && !cell.claim_trial(now_ms), "one trial at a time");
            self.trials += 1;
            if self.is_lossy && self.random.below(10) == 0 {
                return None; // its client left, and nobody said so
            }
        }
        let is_good = self.random.below(100) >= self.endpoints[at].fails;
        let micros = 1_000 + self.endpoints[at].fails * 50;
        self.endpoints[at].noted.note(!is_good, micros);
        match (is_trial, is_good) {
            (true, true) => {
                cell.readmit(now_ms);
                self.endpoints[at].record.readmit();
            }
            (true, false) => self.eject(at, true),
            (false, true) => cell.note_success(),
            (false, false) => {
                let limit = self.passive.consecutive_errors;
                if limit > 0 && cell.note_error() >= limit && !cell.is_out(now_ms) {
                    self.eject(at, false);
                }
            }
        }
        Some(is_good)
    }

    /// One request, with its further tries.
    fn request(&mut self) {
        self.received += 1;
        self.budget.earn(u64::from(self.retry.budget_per_10k), self.now_ms);
        self.budget_model.earn(self.retry.budget_per_10k, self.now_ms);
        let importance =
            self.random.one_of(&[Importance::Low, Importance::Normal, Importance::High]);
        let (limit, before) = (self.load.limit(&self.overload), self.load.in_flight());
        let is_room = match importance {
            Importance::Low => before < limit - limit / 5,
            _ => before < limit,
        };
        assert_eq!(self.load.enter(&self.overload, importance), is_room);
        if !is_room {
            return;
        }
        assert!(self.load.in_flight() <= self.overload.requests_max);
        let leave = self.upstream_breaker.admit(&self.breaker, self.now_ms).ok();
        let passed = self.breaker_model.admit(&self.breaker, self.now_ms);
        assert_eq!(leave.is_some(), passed.is_some(), "{:?}", self.breaker_model);
        let Some(leave) = leave.zip(passed) else { return self.load.leave() };
        let (mut last, mut outcome) = (None, Outcome::Unknown);
        for number in 0..=self.retry.attempts {
            if number > 0 {
                let is_paid = self.budget.take(self.now_ms);
                assert_eq!(is_paid, self.budget_model.take(self.now_ms), "{:?}", self.budget_model);
                if !is_paid {
                    break;
                }
                self.further += 1;
            }
            let picked = self.pick(last).or_else(|| self.pick(None));
            let Some(at) = picked else { break };
            last = Some(at);
            match self.attempt(at) {
                Some(true) => {
                    outcome = Outcome::Good;
                    break;
                }
                Some(false) => outcome = Outcome::Failed,
                None => break,
            }
        }
        if self.is_lossy && self.random.below(50) == 0 {
            let until = self.now_ms + self.random.below(2_000);
            // Half of those that hang never tell the breaker anything.
            let leave = (self.random.below(2) == 0).then_some(leave);
            return self.hung.push((until, leave));
        }
        self.report(leave, outcome);
        self.load.leave();
    }

    fn report(&mut self, (leave, passed): (Leave, model::Passed), outcome: Outcome) {
        self.upstream_breaker.report(leave, outcome, &self.breaker, self.now_ms);
        self.breaker_model.report(passed, outcome, &self.breaker, self.now_ms);
        assert_eq!(self.upstream_breaker.state(), self.breaker_model.state());
    }

    fn step(&mut self, after_ms: u64, requests: u64) {
        self.now_ms += after_ms;
        let (due, left): (Vec<_>, Vec<_>) =
            self.hung.drain(..).partition(|(until, _)| *until <= self.now_ms);
        self.hung = left;
        for (_, leave) in due {
            if let Some(leave) = leave {
                self.report(leave, Outcome::Failed);
            }
            self.load.leave();
        }
        for _ in 0..requests {
            self.request();
        }
        let slow = if self.is_lossy { self.random.one_of(&[1, 1, 1, 30]) } else { 1 };
        self.load.learn(&self.overload, requests, requests * slow * 1_000, self.now_ms);
        let limit = self.load.limit(&self.overload);
        assert!(limit >= self.overload.requests_max.min(2), "a limit of {limit} never grows again");
        self.judge();
        let out = self.endpoints.iter().filter(|one| one.cell.is_out(self.now_ms)).count();
        let most = model::ejected_max(&self.passive, self.endpoints.len());
        assert!(out <= most, "{out} of {} are ejected, {most} may be", self.endpoints.len());
        let budget = self.received * u64::from(self.retry.budget_per_10k) / 10_000;
        let floor = self.now_ms / limits::RETRY_FLOOR_INTERVAL.as_millis() as u64;
        let most = budget + floor + limits::RETRY_FLOOR_BURST + 1;
        assert!(self.further <= most, "{} further tries for {}", self.further, self.received);
    }

    fn judge(&mut self) {
        let (now_ms, window_ms) = (self.now_ms, self.passive.window_ms);
        for one in &mut self.endpoints {
            let noted = std::mem::take(&mut one.noted);
            one.cell.window().add(noted, window_ms, now_ms);
            one.record.add(noted, now_ms);
            assert_eq!(
                one.cell.window().sum(window_ms, now_ms),
                one.record.sum(&self.passive, now_ms)
            );
        }
        let sum = |one: &Endpoint| one.cell.window().sum(window_ms, now_ms);
        let sums: Vec<Seen> = self.endpoints.iter().map(sum).collect();
        for at in 0..self.endpoints.len() {
            if self.endpoints[at].cell.is_out(now_ms) {
                continue;
            }
            let alone = outlier::judge_alone(&self.passive, &sums[at]);
            assert_eq!(alone.is_some(), model::fails_too_often(&self.passive, &sums[at]));
            let why = alone.or_else(|| {
                let others = sums.iter().enumerate().filter(|(other, _)| {
                    *other != at && !self.endpoints[*other].cell.is_out(now_ms)
                });
                let others = others.map(|(_, seen)| *seen);
                outlier::judge_among(&self.passive, &sums[at], others, &mut Vec::new())
            });
            if why.is_some() {
                self.eject(at, false);
            }
        }
    }

    fn run(mut self) -> (u64, u64) {
        for _ in 0..BAD_STEPS {
            if self.random.below(10) == 0 {
                let at = self.random.below(self.endpoints.len() as u64) as usize;
                self.endpoints[at].fails = self.random.one_of(&[0, 0, 30, 100, 100]);
            }
            if self.random.below(10) == 0 {
                let at = self.random.below(self.endpoints.len() as u64) as usize;
                let health = self.random.one_of(&[Health::Up, Health::Down, Health::Draining]);
                self.endpoints[at].cell.set_health(Voice::Check, health, self.now_ms);
            }
            let requests = self.random.one_of(&[0, 1, 2, 8, 40]);
            self.step(STEP_MS, requests);
        }
        // From here on all are good. The longest ejection of this history and a lost trial or two
        // must be over in time, whatever happened before.
        for one in &mut self.endpoints {
            one.fails = 0;
            one.cell.set_health(Voice::Check, Health::Up, self.now_ms);
        }
        let longest = self.endpoints.iter().map(|one| one.cell.ejected_until_ms()).max();
        let wait_ms = longest.unwrap_or(0).saturating_sub(self.now_ms);
        self.is_lossy = false;
        for _ in 0..wait_ms / GOOD_STEP_MS + GOOD_STEPS {
            self.step(GOOD_STEP_MS, 8);
        }
        let out = self.endpoints.iter().filter(|one| one.cell.is_out(self.now_ms)).count();
        assert_eq!(out, 0, "all endpoints are back");
        assert_eq!(self.upstream_breaker.state(), State::Closed, "the breaker has closed");
        assert!(self.hung.is_empty(), "what hung has ended");
        assert_eq!(self.load.in_flight(), 0, "every place was given back");
        assert!(self.load.enter(&self.overload, Importance::Normal), "there is room again");
        (self.trials, self.further)
    }
}

#[test]
fn endpoints_come_back_and_every_bound_holds_in_ten_thousand_histories() {
    let given = std::env::var("RINGWAY_SIM_SEED").ok().map(|text| text.parse().expect("a number"));
    let seeds = given.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    let (mut trials, mut further) = (0, 0);
    for seed in seeds {
        let world = World::new(seed);
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
        match run {
            Ok(counts) => (trials, further) = (trials + counts.0, further + counts.1),
            Err(panic) => {
                eprintln!("RINGWAY_SIM_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{trials} trials of endpoints, {further} further tries");
    assert!(given.is_some() || (trials > 1_000 && further > 1_000), "nothing was tried");
}
