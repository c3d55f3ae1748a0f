//! What the control thread knows of the running process; the admin API and the scrape show it.
//!
//! Shared by the control loop (which writes) and the admin API (which reads), both on the control
//! thread or helpers of it. No core ever sees it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU8,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::Notify;

use crate::{
    controlplane::{
        by_hand::ByHand,
        changes::Changes,
        config::{Known, overlay::Overlay},
        dns::Names,
        export::access_log::WriterStats,
        health::Checks,
        heartbeats::Heartbeats,
        rollout::Rollouts,
        series::Series,
    },
    snapshot::Snapshot,
    telemetry::CoreStats,
};

/// Where in its life the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not all cores accept connections yet.
    Starting,
    /// Serving.
    Ready,
    /// Finishing requests before it ends.
    Draining,
}

impl Phase {
    /// The word in `/v1/status`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// What moves connections and bytes, in words.
#[derive(Clone, Debug)]
pub struct DriverInfo {
    /// `io_uring` or `epoll`.
    pub name: &'static str,
    /// Kernel, name and setup flags.
    pub description: String,
    /// Why `io_uring` was not taken, and what to do; `None` if it was, or was not wanted.
    pub reason: Option<String>,
}

/// What the control thread knows.
#[derive(Debug)]
pub struct State {
    /// When the process started.
    pub started: Instant,
    /// The same, seconds since 1970.
    pub started_unix: f64,
    /// The counters of each core.
    pub cores: Vec<Arc<CoreStats>>,
    /// How the access log fares.
    pub log: Arc<WriterStats>,
    /// What moves connections and bytes.
    pub driver: DriverInfo,
    /// Where changes of the rules are submitted.
    pub changes: Changes,
    /// The endpoints that are checked.
    pub checks: Checks,
    /// The endpoints whose heartbeats are expected.
    pub heartbeats: Heartbeats,
    /// Names of endpoints and what they stand for.
    pub names: Arc<Names>,
    /// Rollouts and what they have come to.
    pub rollouts: Arc<Rollouts>,
    /// Where it is written down what operators say of endpoints.
    pub by_hand: Arc<ByHand>,
    /// Wakes whoever waits for cores to obey, each time that one does.
    pub acknowledged: Notify,
    phase: AtomicU8,
    rules: Mutex<Rules>,
}

/// The rules in force and how the last attempt to change them went.
#[derive(Debug)]
pub struct Rules {
    /// The newest rules that were accepted.
    pub snapshot: Arc<Snapshot>,
    /// What the Admin API has said; part of the snapshot already.
    pub overlay: Arc<Overlay>,
    /// The files as they were read, and which objects of the overlay step aside for them.
    pub known: Known,
    /// Which counters belong to which name.
    pub series: Series,
    /// Where the rules come from.
    pub source: String,
    /// When they were accepted, seconds since 1970.
    pub accepted_unix: f64,
    asked: Instant,
    /// How long the last change took, from the wish to the last core.
    pub took: Duration,
    /// Why the files' last change was refused; `None` if it was not.
    pub error: Option<String>,
    /// Changes accepted after the first rules.
    pub reloads_applied: u64,
    /// Changes refused.
    pub reloads_refused: u64,
}

impl Rules {
    /// The first rules.
    pub fn new(snapshot: Arc<Snapshot>, series: Series, source: String) -> Self {
        Self {
            snapshot,
            overlay: Arc::default(),
            known: Known::default(),
            series,
            source,
            accepted_unix: unix_now(),
            asked: Instant::now(),
            took: Duration::ZERO,
            error: None,
            reloads_applied: 0,
            reloads_refused: 0,
        }
    }

    /// Notes newer rules, which were asked for at `asked`. `is_read`: their files were read, so that
    /// what was wrong with them is no more.
    pub fn accept(
        &mut self,
        snapshot: Arc<Snapshot>,
        overlay: Arc<Overlay>,
        asked: Option<Instant>,
        is_read: bool,
    ) {
        self.snapshot = snapshot;
        self.overlay = overlay;
        self.accepted_unix = unix_now();
        self.asked = asked.unwrap_or_else(Instant::now);
        if is_read {
            self.error = None;
        }
        self.reloads_applied += 1;
    }

    /// Notes that all cores obey the newest rules; how long that took.
    pub fn settle(&mut self) -> Duration {
        self.took = self.asked.elapsed();
        self.took
    }

    /// Notes why a change was refused.
    pub fn refuse(&mut self, error: String) {
        self.error = Some(error);
        self.reloads_refused += 1;
    }

    /// Notes that a call of the Admin API was refused: its caller was told why.
    pub fn refuse_call(&mut self) {
        self.reloads_refused += 1;
    }
}

impl State {
    /// A process that is starting.
    pub fn new(
        started: Instant,
        cores: Vec<Arc<CoreStats>>,
        log: Arc<WriterStats>,
        driver: DriverInfo,
        changes: Changes,
        rules: Rules,
    ) -> Self {
        let started_unix = unix_now() - started.elapsed().as_secs_f64();
        let phase = AtomicU8::new(Phase::Starting as u8);
        Self {
            started,
            started_unix,
            cores,
            log,
            driver,
            changes,
            checks: Checks::default(),
            heartbeats: Heartbeats::default(),
            names: Arc::default(),
            rollouts: Arc::default(),
            by_hand: Arc::default(),
            acknowledged: Notify::new(),
            phase,
            rules: Mutex::new(rules),
        }
    }

    /// Where in its life the process is.
    pub fn phase(&self) -> Phase {
        match self.phase.load(SeqCst) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Moves on; never back.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, SeqCst);
    }

    /// The rules in force, locked: copy what is needed and let go.
    pub fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sum of one number over all cores.
    pub fn sum(&self, number: impl Fn(&CoreStats) -> u64) -> u64 {
        self.cores.iter().map(|core| number(core)).sum()
    }

    /// Lines of the access log that reached their file, and those that did not.
    pub fn log_lines(&self) -> (u64, u64) {
        (self.log.written.load(Relaxed), self.log.lost.load(Relaxed))
    }
}

/// Seconds since 1970.
pub fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
