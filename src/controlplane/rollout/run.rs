//! One rollout: where it is, and what moves it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Order, Refusal, saved::Saved};
use crate::{
    controlplane::{log, state::unix_now},
    policy::rollout::{Both, Counts, Step, Watch},
    snapshot::{rollout::Rollout, split::SplitCell},
    telemetry::histogram::middle,
};

/// Whether a rollout goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is at a stage, and moves by itself.
    Running,
    /// It is at a stage, and stays there.
    Paused,
    /// It has passed its last stage.
    Done,
    /// All requests go to the old version again.
    RolledBack,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Running, Self::Paused, Self::Done, Self::RolledBack];

    /// The word in the API and the metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// A rollout as the API shows it.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// Its name.
    pub name: Box<str>,
    /// The id of its route.
    pub route: Box<str>,
    /// The upstream of the old version.
    pub from: Box<str>,
    /// The upstream of the new version.
    pub to: Box<str>,
    /// Whether it goes on.
    pub state: State,
    /// The stage it is at, from 1.
    pub stage: usize,
    /// How many there are.
    pub stages: usize,
    /// What the new version gets of the requests of both, 0 to 1.
    pub share: f64,
    /// Why it is where it is.
    pub why: Box<str>,
    /// When the stage began, or it ended, seconds since 1970.
    pub since: f64,
    /// The old version since then.
    pub old: Fared,
    /// The new version since then.
    pub new: Fared,
    /// Stages it went on to, in this process.
    pub promoted: u64,
    /// How often it went back, in this process.
    pub rolled_back: u64,
}

/// How a version fared.
#[derive(Debug, Serialize)]
pub struct Fared {
    /// Requests that ended.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// The 99th percentile of the time to the response head, microseconds; once enough is known.
    pub p99_us: Option<u64>,
}

impl Fared {
    fn of(counts: &Counts) -> Self {
        let Counts { requests, errors, .. } = *counts;
        Self { requests, errors, p99_us: counts.p99_us(middle) }
    }
}

/// One rollout under way, or over.
#[derive(Debug)]
pub(super) struct Run {
    rollout: Arc<Rollout>,
    definition: String,
    cell: Arc<SplitCell>,
    state: State,
    stage: usize,
    why: Box<str>,
    since: f64,
    watch: Watch,
    promoted: u64,
    rolled_back: u64,
}

impl Run {
    /// A rollout that begins.
    pub(super) fn begin(rollout: &Arc<Rollout>, cell: &Arc<SplitCell>, now_ms: u64) -> Self {
        let mut run = Self::at(rollout, cell, State::Running, 0);
        run.enter(0, "it begins", now_ms);
        run
    }

    /// One that was under way in the life of the process before: its stage begins anew.
    pub(super) fn restore(
        rollout: &Arc<Rollout>,
        cell: &Arc<SplitCell>,
        saved: Saved,
        now_ms: u64,
    ) -> Self {
        let name = &rollout.name;
        if saved.definition != rollout.definition() || saved.stage >= rollout.rule.stages.len() {
            log::warn(format_args!(
                "rollout `{name}`: it says something else now, and begins anew"
            ));
            return Self::begin(rollout, cell, now_ms);
        }
        let mut run = Self::at(rollout, cell, saved.state, saved.stage);
        (run.why, run.since) = (saved.why, saved.since);
        (run.watch.earlier.requests, run.watch.earlier.errors) = saved.earlier;
        run.share_out();
        run.watch.begin(now_ms, &run.totals());
        let (state, stage, stages) = (run.state.word(), run.stage + 1, rollout.rule.stages.len());
        log::info(format_args!(
            "rollout `{name}`: goes on as it was: {state}, stage {stage} of {stages}"
        ));
        run
    }

    fn at(rollout: &Arc<Rollout>, cell: &Arc<SplitCell>, state: State, stage: usize) -> Self {
        Self {
            definition: rollout.definition(),
            rollout: Arc::clone(rollout),
            cell: Arc::clone(cell),
            state,
            stage,
            why: Box::default(),
            since: unix_now(),
            watch: Watch::default(),
            promoted: 0,
            rolled_back: 0,
        }
    }

    /// The same under new rules.
    pub(super) fn go_on(
        mut self,
        rollout: &Arc<Rollout>,
        cell: &Arc<SplitCell>,
        now_ms: u64,
    ) -> Self {
        self.rollout = Arc::clone(rollout);
        if !Arc::ptr_eq(&self.cell, cell) {
            // Other counters: what was counted of this stage is lost, and it begins anew.
            self.cell = Arc::clone(cell);
            self.watch.begin(now_ms, &self.totals());
        }
        self.share_out();
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.rollout.name
    }

    /// Whether it says what this one does.
    pub(super) fn is_of(&self, rollout: &Rollout) -> bool {
        self.definition == rollout.definition()
    }

    pub(super) fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// The shortest time in which something may happen.
    pub(super) fn shortest_ms(&self) -> u64 {
        let rule = &self.rollout.rule;
        let stages = rule.stages.iter().map(|stage| stage.time_ms);
        stages.min().unwrap_or(u64::MAX).min(rule.window_ms)
    }

    fn totals(&self) -> Both {
        [self.rollout.from, self.rollout.to].map(|choice| self.cell.counts(choice))
    }

    /// What the new version gets, of 10,000.
    fn share_per_10k(&self) -> u16 {
        match self.state {
            State::RolledBack => 0,
            _ => self.rollout.rule.stages.get(self.stage).map_or(0, |stage| stage.share_per_10k),
        }
    }

    fn share_out(&self) {
        self.cell.set_shares(&self.rollout.shares(self.share_per_10k()));
    }

    /// Goes to a stage, which begins now.
    fn enter(&mut self, stage: usize, why: &str, now_ms: u64) {
        (self.state, self.stage) = (State::Running, stage);
        self.say(why);
        self.share_out();
        self.watch.begin(now_ms, &self.totals());
        let (share, stages) =
            (f64::from(self.share_per_10k()) / 100.0, self.rollout.rule.stages.len());
        log::info(format_args!(
            "rollout `{}`: stage {} of {stages}: {share}% of the requests go to `{}`: {why}",
            self.name(),
            stage + 1,
            self.rollout.to_name,
        ));
    }

    fn say(&mut self, why: &str) {
        (self.why, self.since) = (why.into(), unix_now());
    }

    /// On to the next stage, or to the end.
    fn promote(&mut self, why: &str, now_ms: u64) {
        self.promoted += 1;
        self.watch.end(&self.totals());
        if self.stage + 1 < self.rollout.rule.stages.len() {
            return self.enter(self.stage + 1, why, now_ms);
        }
        self.state = State::Done;
        self.say(why);
        log::info(format_args!(
            "rollout `{}`: done: `{}` stays at {}%: {why}",
            self.name(),
            self.rollout.to_name,
            f64::from(self.share_per_10k()) / 100.0,
        ));
    }

    fn roll_back(&mut self, why: &str) {
        self.rolled_back += 1;
        self.state = State::RolledBack;
        self.share_out();
        self.say(why);
        log::warn(format_args!(
            "rollout `{}`: rolled back at stage {}, `{}` gets no requests: {why}",
            self.name(),
            self.stage + 1,
            self.rollout.to_name,
        ));
    }

    /// Looks at the numbers; `Some` if it moved.
    pub(super) fn look(&mut self, now_ms: u64) -> Option<()> {
        let rollout = Arc::clone(&self.rollout);
        let stage = rollout.rule.stages.get(self.stage).filter(|_| self.is_running())?;
        let totals = self.totals();
        match self.watch.look(&rollout.rule, stage, now_ms, &totals, middle) {
            Step::Hold(hold) => {
                self.why = hold.to_string().into();
                return None;
            }
            Step::Promote => self.promote("no worse than the old version", now_ms),
            Step::RollBack(fault) => self.roll_back(&fault.to_string()),
        }
        Some(())
    }

    /// Does what somebody asks for.
    pub(super) fn obey(&mut self, order: Order, now_ms: u64) -> Result<(), Refusal> {
        match (order, self.state) {
            (Order::Pause, State::Running) => {
                self.state = State::Paused;
                self.say("paused through the admin API");
                log::info(format_args!("rollout `{}`: paused", self.name()));
            }
            (Order::Resume, State::Paused) => {
                self.enter(self.stage, "resumed through the admin API", now_ms);
            }
            (Order::Resume, State::RolledBack) => {
                self.watch.earlier = Counts::default();
                self.enter(0, "begun anew through the admin API", now_ms);
            }
            (Order::Promote, State::Running | State::Paused) => {
                self.promote("promoted through the admin API", now_ms);
            }
            (Order::Abort, State::Running | State::Paused | State::Done) => {
                self.roll_back("aborted through the admin API");
            }
            (_, state) => return Err(Refusal::State(state)),
        }
        Ok(())
    }

    pub(super) fn shown(&self) -> Shown {
        let [old, new] = self.watch.stage(&self.totals());
        let Rollout { name, route_id, from_name, to_name, rule, .. } = &*self.rollout;
        Shown {
            name: name.clone(),
            route: route_id.clone(),
            from: from_name.clone(),
            to: to_name.clone(),
            state: self.state,
            stage: self.stage + 1,
            stages: rule.stages.len(),
            share: f64::from(self.share_per_10k()) / 1e4,
            why: self.why.clone(),
            since: self.since,
            old: Fared::of(&old),
            new: Fared::of(&new),
            promoted: self.promoted,
            rolled_back: self.rolled_back,
        }
    }

    pub(super) fn saved(&self) -> Saved {
        Saved {
            name: self.rollout.name.clone(),
            definition: self.definition.clone(),
            state: self.state,
            stage: self.stage,
            why: self.why.clone(),
            since: self.since,
            earlier: (self.watch.earlier.requests, self.watch.earlier.errors),
        }
    }
}
