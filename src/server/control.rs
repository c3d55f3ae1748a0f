//! The control loop: signals, reports of the cores, reloads, the drain.

use std::{
    io,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    task::{self, JoinHandle as Task},
    time::{interval, sleep_until},
};

use crate::{
    controlplane::{
        broadcast::Broadcast,
        export::access_log::{Sink, Writer},
        log,
        state::{Phase, State},
    },
    server::{
        error::ServerError,
        rules::{self, Fixed, Reload, Source},
    },
    snapshot::messages::{FromWorker, ToWorker},
};

/// What a core may take beyond the drain's deadline to cut its connections and say so.
const DRAIN_SLACK: Duration = Duration::from_secs(1);

/// How often the control loop looks whether all worker threads live.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// How long the last access log lines may take to reach their file.
const LOG_END_MAX: Duration = Duration::from_secs(1);

/// Signals that ask for something. Caught from the beginning: a reload that comes too early must
/// not end the process.
pub(super) struct Requests {
    hangup: Signal,
    reopen: Signal,
    upgrade: Signal,
}

impl Requests {
    /// From now on these signals no longer end the process.
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }
}

/// Signals that end the process in order. Caught when there is something to drain: until then
/// Ctrl-C ends a start that hangs (in a name server, say).
pub(super) struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    /// From now on these signals no longer end the process by themselves.
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of them.
    ///
    /// # Cancel safety
    /// A signal that came is not lost.
    async fn recv(&mut self) -> &'static str {
        select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// One worker's thread.
pub(super) struct Worker {
    pub(super) core: usize,
    pub(super) thread: JoinHandle<()>,
    /// It said that it has nothing left to do.
    pub(super) ended: bool,
}

/// What the control loop works with.
pub(super) struct Control {
    pub(super) broadcast: Broadcast,
    pub(super) state: Arc<State>,
    pub(super) source: Source,
    pub(super) fixed: Fixed,
    pub(super) writer: Writer,
    pub(super) workers: Vec<Worker>,
    pub(super) reports: Receiver<FromWorker>,
}

/// A reload under way, on a thread that may wait.
struct Reloading {
    task: Option<Task<Result<Reload, String>>>,
    /// Asked for again meanwhile.
    again: bool,
}

impl Control {
    /// Runs until the process has to end.
    pub(super) async fn run(
        mut self,
        mut requests: Requests,
        mut stops: Stops,
        wake: &Notify,
        stop: &Notify,
    ) -> Result<(), ServerError> {
        let mut reloading = Reloading { task: None, again: false };
        let mut watch = interval(WATCH_EVERY);
        let mut deadline: Option<Instant> = None;
        loop {
            select! {
                () = wake.notified() => self.take_reports()?,
                _ = watch.tick() => self.watch_workers()?,
                result = finished(&mut reloading.task) => {
                    self.finish_reload(result);
                    if std::mem::take(&mut reloading.again) {
                        reloading.task = Some(self.start_reload());
                    }
                }
                _ = requests.hangup.recv() => match reloading.task {
                    _ if deadline.is_some() => self.reopen_log(), // these rules are the last ones
                    Some(_) => reloading.again = true,
                    None => reloading.task = Some(self.start_reload()),
                },
                // Both would end the process if nobody listened.
                _ = requests.reopen.recv() => self.reopen_log(),
                _ = requests.upgrade.recv() => log::warn(format_args!(
                    "SIGUSR2: a new binary cannot take the sockets over yet; restart instead"
                )),
                name = stops.recv() => match deadline {
                    Some(_) => return self.end("second signal"),
                    None => deadline = Some(self.start_drain(name)),
                },
                () = stop.notified(), if deadline.is_none() => {
                    deadline = Some(self.start_drain("asked to"));
                }
                () = past(deadline) => return self.end("the drain's time is up"),
            }
            if self.workers.iter().all(|worker| worker.ended) {
                return self.end("drained");
            }
        }
    }

    /// Takes what the cores said. Rules that come back are freed here and not on a core.
    fn take_reports(&mut self) -> Result<(), ServerError> {
        while let Ok(report) = self.reports.try_recv() {
            match report {
                FromWorker::Applied { core, version } => {
                    self.broadcast.applied(core, version);
                    if self.broadcast.settled() {
                        log::info(format_args!("version {version} is in force on all cores"));
                    }
                }
                FromWorker::Panicked { core, place } => log::error(format_args!(
                    "core {core}: a defect at {place} cost one connection; please report it"
                )),
                FromWorker::Failed { core, step, error } => {
                    return Err(ServerError::Worker { core, step, error });
                }
                FromWorker::Drained { core, cut } => {
                    if cut > 0 {
                        log::warn(format_args!("core {core}: {cut} connections were cut"));
                    }
                    for worker in self.workers.iter_mut().filter(|worker| worker.core == core) {
                        worker.ended = true;
                    }
                }
                FromWorker::Retired(_) | FromWorker::Ready { .. } => {}
            }
        }
        Ok(())
    }

    /// A thread that is gone without having said so takes the process with it: a supervisor starts
    /// it anew, a core that silently serves nobody is worse.
    fn watch_workers(&self) -> Result<(), ServerError> {
        match self.workers.iter().find(|worker| worker.thread.is_finished() && !worker.ended) {
            // Its last word may still be on its way.
            Some(worker) if self.reports.is_empty() => {
                Err(ServerError::WorkerLost { core: worker.core })
            }
            _ => Ok(()),
        }
    }

    fn start_reload(&self) -> Task<Result<Reload, String>> {
        log::info(format_args!("reloading {}", self.source.name()));
        let (source, old) = (self.source.clone(), Arc::clone(&self.state.rules().snapshot));
        task::spawn_blocking(move || rules::prepare(&source, &old))
    }

    /// Applies a prepared reload, or notes why there is none: then the old rules stay.
    fn finish_reload(&mut self, result: Result<Reload, String>) {
        match result {
            Ok(reload) => self.apply(reload),
            Err(reasons) => {
                log::error(format_args!("reload refused, the rules stay as they are:\n{reasons}"));
                self.state.rules().refuse(reasons);
                self.reopen_log();
            }
        }
    }

    fn apply(&mut self, Reload { loaded, log }: Reload) {
        for warning in &loaded.warnings {
            log::warn(format_args!("{warning}"));
        }
        if loaded.fixed != self.fixed {
            log::warn(format_args!(
                "changes of [runtime] and [admin] take effect with a restart only"
            ));
        }
        log::set_level(loaded.level);
        self.redirect_log(log);
        let mut snapshot = loaded.snapshot;
        let snapshot = {
            let mut rules = self.state.rules();
            rules.series.assign(&mut snapshot);
            let snapshot = Arc::new(snapshot);
            rules.accept(Arc::clone(&snapshot));
            snapshot
        };
        log::info(format_args!("version {}: {}", snapshot.version, rules::summary(&snapshot)));
        self.broadcast.publish(snapshot);
    }

    /// SIGHUP means a rotated access log too, whatever became of the rules; SIGUSR1 only that.
    fn reopen_log(&self) {
        let snapshot = Arc::clone(&self.state.rules().snapshot);
        match rules::open_log(&snapshot) {
            Ok(sink) => self.redirect_log(sink),
            Err((name, error)) => log::error(format_args!(
                "access log: cannot open {name} anew: {error}; lines go where they went"
            )),
        }
    }

    fn redirect_log(&self, sink: Option<Sink>) {
        if !self.writer.redirect(sink) {
            log::error(format_args!("access log: its writer hangs; the file was not opened anew"));
        }
    }

    /// Begins the end: no new connections, requests in flight finish. Returns when it is over at
    /// the latest.
    fn start_drain(&self, why: &str) -> Instant {
        let within = self.fixed.runtime.drain_timeout;
        log::info(format_args!(
            "{why}: draining, at most {} s; a second signal ends it at once",
            within.as_secs_f64()
        ));
        self.state.set_phase(Phase::Draining);
        self.broadcast.tell(&ToWorker::Drain { within });
        Instant::now() + within + DRAIN_SLACK
    }

    fn end(self, why: &str) -> Result<(), ServerError> {
        let open: i64 = self.state.cores.iter().map(|core| core.connections_open.get()).sum();
        if self.workers.iter().all(|worker| worker.ended) {
            self.writer.finish(LOG_END_MAX);
        } else if open > 0 {
            log::warn(format_args!("{open} connections were cut"));
        }
        log::info(format_args!("stopped: {why}"));
        Ok(())
    }
}

/// The result of a reload, when there is one under way and it is done.
///
/// # Cancel safety
/// A task that is not done stays where it is.
async fn finished(task: &mut Option<Task<Result<Reload, String>>>) -> Result<Reload, String> {
    let Some(running) = task else { return std::future::pending().await };
    let result = running.await;
    *task = None;
    result.unwrap_or_else(|error| Err(format!("a defect of ringway: {error}; please report it")))
}

/// Waits for a point in time; for ever without one.
async fn past(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
