//! The circuit breaker of an upstream or an endpoint: closed, open, half-open. One word that all cores
//! change by compare-and-swap, so the number of trials is exact however many cores there are. Time is
//! an argument.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// `[upstream.circuit_breaker]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerRule {
    /// Failures in a row that open it.
    pub consecutive_failures: u32,
    /// How long it stays open, milliseconds.
    pub open_for_ms: u64,
    /// Trials while half-open; when all are good it closes.
    pub half_open_requests: u16,
    /// Whether the upstream as a whole has one.
    pub of_upstream: bool,
    /// Whether each endpoint has one.
    pub of_endpoints: bool,
}

/// What a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything passes.
    Closed,
    /// Nothing passes.
    Open,
    /// A few pass, as trials.
    HalfOpen,
}

impl State {
    /// The word in metrics and the Admin API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Leave to pass, to be given back with what became of it ([`BreakerCell::report`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    /// Which phase of the breaker it belongs to: what comes from an older one is no news.
    generation: u16,
    is_trial: bool,
}

/// How a request ended, as far as a breaker is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint did its part.
    Good,
    /// It did not.
    Failed,
    /// Nothing was learned: the client left, or the request was never sent.
    Unknown,
}

/// What changed by a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is open now.
    Opened,
    /// It is closed now.
    Closed,
}

/// The state of one breaker. The word: state 2 bits, generation 10, trials taken 10, trials that were
/// good 10, and a point in time in units of [`UNIT_MS`], 32 bits (six years).
#[derive(Debug, Default)]
pub struct BreakerCell {
    word: AtomicU64,
    failures: AtomicU32,
}

/// Largest number of trials: ten bits.
pub const TRIALS_MAX: u16 = 1_000;

const UNIT_MS: u64 = 50;
const TEN_BITS: u64 = 0x3ff;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Word {
    state: State,
    generation: u16,
    taken: u16,
    good: u16,
    /// Open: until when. Half-open: from when on trials that told nothing are replaced.
    until: u32,
}

impl Word {
    fn unpack(word: u64) -> Self {
        let ten = |shift: u32| (word >> shift & TEN_BITS) as u16;
        let state = match word >> 62 {
            0 => State::Closed,
            1 => State::Open,
            _ => State::HalfOpen,
        };
        Self { state, generation: ten(52), taken: ten(42), good: ten(32), until: word as u32 }
    }

    fn pack(self) -> u64 {
        let state = match self.state {
            State::Closed => 0,
            State::Open => 1,
            State::HalfOpen => 2_u64,
        };
        let ten = |number: u16| u64::from(number) & TEN_BITS;
        state << 62
            | ten(self.generation) << 52
            | ten(self.taken) << 42
            | ten(self.good) << 32
            | u64::from(self.until)
    }

    /// The next phase.
    fn then(self, state: State, until_ms: u64) -> Self {
        let until = u32::try_from(until_ms.div_ceil(UNIT_MS)).unwrap_or(u32::MAX);
        let generation = (self.generation + 1) & TEN_BITS as u16;
        Self { state, generation, taken: 0, good: 0, until }
    }

    fn until_ms(self) -> u64 {
        u64::from(self.until) * UNIT_MS
    }
}

impl BreakerCell {
    /// What it is now. One that has been open for long enough is still called open until somebody
    /// asks to pass.
    pub fn state(&self) -> State {
        Word::unpack(self.word.load(Relaxed)).state
    }

    /// Whether [`BreakerCell::admit`] would refuse, without taking a trial.
    #[inline]
    pub fn is_shut(&self, rule: &BreakerRule, now_ms: u64) -> bool {
        let word = self.word.load(Relaxed);
        word >> 62 != 0 && would_refuse(Word::unpack(word), rule, now_ms)
    }

    /// Asks to pass.
    ///
    /// # Errors
    /// In how many milliseconds to ask again, while it is open or its trials are under way.
    #[inline]
    pub fn admit(&self, rule: &BreakerRule, now_ms: u64) -> Result<Leave, u64> {
        let seen = self.word.load(Acquire);
        let word = Word::unpack(seen);
        if word.state == State::Closed {
            return Ok(Leave { generation: word.generation, is_trial: false });
        }
        self.admit_slowly(seen, rule, now_ms)
    }

    #[cold]
    fn admit_slowly(&self, mut seen: u64, rule: &BreakerRule, now_ms: u64) -> Result<Leave, u64> {
        loop {
            let word = Word::unpack(seen);
            let next = match word.state {
                State::Closed => {
                    return Ok(Leave { generation: word.generation, is_trial: false });
                }
                _ if would_refuse(word, rule, now_ms) => {
                    return Err(word.until_ms().saturating_sub(now_ms).max(1));
                }
                State::HalfOpen if word.taken < rule.half_open_requests => {
                    Word { taken: word.taken + 1, ..word }
                }
                // Open for long enough; or half-open, but its trials told nothing in time.
                State::Open | State::HalfOpen => {
                    Word { taken: 1, ..word.then(State::HalfOpen, now_ms + rule.open_for_ms) }
                }
            };
            match self.word.compare_exchange(seen, next.pack(), AcqRel, Acquire) {
                Ok(_) => return Ok(Leave { generation: next.generation, is_trial: true }),
                Err(now) => seen = now,
            }
        }
    }

    /// Tells what became of a request that was let pass. In the steady state of good requests it
    /// only reads.
    pub fn report(
        &self,
        leave: Leave,
        outcome: Outcome,
        rule: &BreakerRule,
        now_ms: u64,
    ) -> Option<Change> {
        match (leave.is_trial, outcome) {
            (false, Outcome::Unknown) => None,
            (false, Outcome::Good) => {
                if self.failures.load(Relaxed) != 0 {
                    self.failures.store(0, Relaxed);
                }
                None
            }
            (false, Outcome::Failed) => {
                let word = Word::unpack(self.word.load(Acquire));
                if word.generation != leave.generation {
                    return None; // it began before the breaker last changed
                }
                let failures = self.failures.fetch_add(1, Relaxed) + 1;
                (failures >= rule.consecutive_failures).then(|| {
                    self.change(leave, |word| {
                        Some(word.then(State::Open, now_ms + rule.open_for_ms))
                    })
                })?
            }
            (true, Outcome::Failed) => {
                self.change(leave, |word| Some(word.then(State::Open, now_ms + rule.open_for_ms)))
            }
            (true, Outcome::Good) => self.change(leave, |word| {
                let good = word.good + 1;
                Some(if good >= rule.half_open_requests {
                    word.then(State::Closed, 0)
                } else {
                    Word { good, ..word }
                })
            }),
            // Somebody else may try instead.
            (true, Outcome::Unknown) => self
                .change(leave, |word| Some(Word { taken: word.taken.saturating_sub(1), ..word })),
        }
    }

    /// Changes the word, if it is still that of the leave's phase.
    fn change(&self, leave: Leave, next: impl Fn(Word) -> Option<Word>) -> Option<Change> {
        let mut seen = self.word.load(Acquire);
        loop {
            let word = Word::unpack(seen);
            if word.generation != leave.generation {
                return None;
            }
            let next = next(word)?;
            match self.word.compare_exchange(seen, next.pack(), AcqRel, Acquire) {
                Ok(_) if next.generation == word.generation => return None,
                Ok(_) => {
                    self.failures.store(0, Relaxed);
                    return Some(match next.state {
                        State::Closed => Change::Closed,
                        State::Open | State::HalfOpen => Change::Opened,
                    });
                }
                Err(now) => seen = now,
            }
        }
    }
}

fn would_refuse(word: Word, rule: &BreakerRule, now_ms: u64) -> bool {
    match word.state {
        State::Closed => false,
        State::Open => now_ms < word.until_ms(),
        State::HalfOpen => word.taken >= rule.half_open_requests && now_ms < word.until_ms(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> BreakerRule {
        BreakerRule {
            consecutive_failures: 3,
            open_for_ms: 1_000,
            half_open_requests: 2,
            of_upstream: true,
            of_endpoints: true,
        }
    }

    fn opened() -> BreakerCell {
        let cell = BreakerCell::default();
        for number in 1..=3 {
            let leave = cell.admit(&rule(), 0).unwrap();
            let change = cell.report(leave, Outcome::Failed, &rule(), 0);
            assert_eq!(change, (number == 3).then_some(Change::Opened));
        }
        cell
    }

    #[test]
    fn failures_in_a_row_open_it_and_good_trials_close_it() {
        let cell = opened();
        assert_eq!(cell.admit(&rule(), 400), Err(600));
        assert!(cell.is_shut(&rule(), 999) && !cell.is_shut(&rule(), 1_000));
        let trials = [cell.admit(&rule(), 1_000).unwrap(), cell.admit(&rule(), 1_000).unwrap()];
        assert_eq!(cell.state(), State::HalfOpen);
        assert!(cell.admit(&rule(), 1_500).is_err(), "no third trial");
        assert_eq!(cell.report(trials[0], Outcome::Good, &rule(), 1_100), None);
        assert_eq!(cell.report(trials[1], Outcome::Good, &rule(), 1_100), Some(Change::Closed));
        assert_eq!(cell.state(), State::Closed);
    }

    #[test]
    fn a_success_in_between_ends_the_row() {
        let cell = BreakerCell::default();
        for outcome in
            [Outcome::Failed, Outcome::Failed, Outcome::Good, Outcome::Failed, Outcome::Failed]
        {
            let leave = cell.admit(&rule(), 0).unwrap();
            assert_eq!(cell.report(leave, outcome, &rule(), 0), None);
        }
    }

    #[test]
    fn a_failed_trial_opens_it_again_and_late_ones_change_nothing() {
        let cell = opened();
        let (bad, late) =
            (cell.admit(&rule(), 1_000).unwrap(), cell.admit(&rule(), 1_000).unwrap());
        assert_eq!(cell.report(bad, Outcome::Failed, &rule(), 1_200), Some(Change::Opened));
        assert_eq!(cell.report(late, Outcome::Good, &rule(), 1_300), None);
        assert_eq!(cell.admit(&rule(), 2_199), Err(1));
        let again = cell.admit(&rule(), 2_200).unwrap();
        assert_eq!(cell.report(late, Outcome::Failed, &rule(), 2_200), None, "of an older phase");
        assert_eq!(cell.report(again, Outcome::Good, &rule(), 2_200), None);
    }

    #[test]
    fn trials_that_tell_nothing_are_replaced() {
        let cell = opened();
        let gone = cell.admit(&rule(), 1_000).unwrap();
        assert_eq!(cell.report(gone, Outcome::Unknown, &rule(), 1_001), None);
        assert!(cell.admit(&rule(), 1_002).is_ok() && cell.admit(&rule(), 1_003).is_ok());
        assert!(cell.admit(&rule(), 1_900).is_err());
        assert!(cell.admit(&rule(), 2_000).is_ok(), "both were lost: others try");
    }

    #[test]
    fn cores_that_ask_at_once_share_the_trials() {
        let cell = opened();
        let admitted: usize = std::thread::scope(|scope| {
            let ask = || (0..100).filter(|_| cell.admit(&rule(), 1_000).is_ok()).count();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(admitted, 2);
    }
}
