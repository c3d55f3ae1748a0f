//! Rollouts under way: looks at how both versions fare, and moves their shares.
//!
//! One task on the control thread's runtime looks at the counters of the cores every now and then
//! ([`Rollouts::follow`] starts it where there is something to look at), asks [`crate::policy::rollout`],
//! and writes the shares into the cell of the route's split, where the cores read them: no new rules,
//! no message. What a rollout has come to survives changes of the rules by its name, a restart in a file of
//! `[admin] state_dir`, and a takeover by a message ([`Saved`]).
//! Tests: in the files, and `tests/blackbox/rollouts.rs`.

mod run;
mod saved;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{task::AbortHandle, time::sleep};

use self::run::Run;
pub use self::{
    run::{Shown, State},
    saved::{Saved, load},
};
use crate::{
    base::{
        clock::now_ms,
        limits::{ROLLOUT_LOOK_MAX, ROLLOUT_LOOK_MIN},
    },
    controlplane::log,
    snapshot::Snapshot,
};

/// All rollouts of the rules in force.
#[derive(Debug, Default)]
pub struct Rollouts {
    inner: Mutex<Inner>,
    /// Held while the file is written, so that the newest state is what it has in the end.
    writing: Mutex<()>,
    /// Where the state is kept, if it is.
    directory: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct Inner {
    runs: Vec<Run>,
    /// Of the life of the process before; taken by the first rollouts of the same name.
    saved: Vec<Saved>,
    /// Nothing moves while a successor reads what there is.
    is_held: bool,
    task: Option<AbortHandle>,
}

/// What may be asked of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing happens by itself from now on.
    Pause,
    /// Go on; from the beginning if it was rolled back.
    Resume,
    /// To the next stage, whatever the numbers say.
    Promote,
    /// Back to the old version.
    Abort,
}

/// Why an order is not obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such rollout.
    Unknown,
    /// It makes no sense in this state.
    State(State),
}

impl Rollouts {
    /// Those of a process that goes on where another one was. `directory`: where the state is kept.
    pub fn new(saved: Vec<Saved>, directory: Option<PathBuf>) -> Self {
        let inner = Inner { saved, ..Inner::default() };
        Self { inner: Mutex::new(inner), writing: Mutex::default(), directory }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the rollouts of new rules, before any core obeys these. Must be called on the control
    /// thread's runtime.
    pub fn follow(self: &Arc<Self>, new: &Snapshot) {
        let mut inner = self.lock();
        if inner.runs.is_empty() && new.rollouts.is_empty() {
            return;
        }
        let mut before = std::mem::take(&mut inner.runs);
        for rollout in new.rollouts.iter() {
            let Some(cell) = rollout.cell(new) else { continue };
            let known = before.iter().position(|run| run.name() == &*rollout.name);
            let run = match known.map(|at| before.swap_remove(at)) {
                Some(run) if run.is_of(rollout) => run.go_on(rollout, cell, now_ms()),
                Some(_) => {
                    let name = &rollout.name;
                    log::warn(format_args!(
                        "rollout `{name}`: it says something else now, and begins anew"
                    ));
                    Run::begin(rollout, cell, now_ms())
                }
                None => match inner.saved.iter().position(|saved| saved.name == rollout.name) {
                    Some(at) => Run::restore(rollout, cell, inner.saved.swap_remove(at), now_ms()),
                    None => Run::begin(rollout, cell, now_ms()),
                },
            };
            inner.runs.push(run);
        }
        for run in &before {
            log::info(format_args!("rollout `{}`: it is not configured any more", run.name()));
        }
        inner.runs.sort_by(|a, b| a.name().cmp(b.name()));
        self.watch(&mut inner);
        drop(inner);
        self.keep();
    }

    /// Starts the task that looks, if there is something to look at, or ends it.
    fn watch(self: &Arc<Self>, inner: &mut Inner) {
        let wanted = inner.runs.iter().any(Run::is_running);
        if let Some(task) = inner.task.take_if(|task| !wanted || task.is_finished()) {
            task.abort();
        }
        if wanted && inner.task.is_none() {
            inner.task = Some(tokio::spawn(Arc::clone(self).look_again()).abort_handle());
        }
    }

    async fn look_again(self: Arc<Self>) {
        loop {
            sleep(self.look_every()).await;
            self.look(now_ms());
        }
    }

    /// A tenth of the shortest stage or window, within bounds.
    fn look_every(&self) -> Duration {
        let inner = self.lock();
        let shortest = inner.runs.iter().filter(|run| run.is_running()).map(Run::shortest_ms).min();
        let every = Duration::from_millis(shortest.unwrap_or(u64::MAX) / 10);
        every.clamp(ROLLOUT_LOOK_MIN, ROLLOUT_LOOK_MAX)
    }

    /// Looks at all that run.
    fn look(self: &Arc<Self>, now_ms: u64) {
        let mut inner = self.lock();
        if inner.is_held {
            return;
        }
        let moved = inner.runs.iter_mut().filter_map(|run| run.look(now_ms)).count();
        drop(inner);
        if moved > 0 {
            self.keep_aside();
        }
    }

    /// Does what somebody asks for; how the rollout stands then.
    ///
    /// # Errors
    /// Why it is not done.
    pub fn obey(self: &Arc<Self>, name: &str, order: Order) -> Result<Shown, Refusal> {
        let mut inner = self.lock();
        let run = inner.runs.iter_mut().find(|run| run.name() == name).ok_or(Refusal::Unknown)?;
        run.obey(order, now_ms())?;
        let shown = run.shown();
        self.watch(&mut inner);
        drop(inner);
        self.keep_aside();
        Ok(shown)
    }

    /// All rollouts, by name.
    pub fn shown(&self) -> Vec<Shown> {
        self.lock().runs.iter().map(Run::shown).collect()
    }

    /// From now on nothing moves, or again: a successor is about to go on from what there is.
    pub fn hold(&self, is_held: bool) {
        self.lock().is_held = is_held;
    }

    /// What a successor goes on from.
    pub fn saved(&self) -> Vec<Saved> {
        self.lock().runs.iter().map(Run::saved).collect()
    }

    /// Writes the state down beside the control thread, which answers probes and scrapes.
    fn keep_aside(self: &Arc<Self>) {
        if self.directory.is_some() {
            let this = Arc::clone(self);
            tokio::task::spawn_blocking(move || this.keep());
        }
    }

    /// Writes the state down.
    fn keep(&self) {
        let Some(directory) = &self.directory else { return };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = saved::save(directory, &self.saved()) {
            log::error(format_args!(
                "rollouts: what they came to can't be written to {}: {error}; a restart would begin \
                 them anew",
                directory.display()
            ));
        }
    }
}
