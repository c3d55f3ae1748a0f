//! The control loop: signals, reports of the cores, changes, the successor, the drain.

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
    task::JoinHandle as Task,
    time::{Interval, interval, sleep_until},
};

use crate::{
    controlplane::{
        broadcast::Broadcast,
        by_hand,
        changes::{Applied, Change, Edit, Order, Refused, Why},
        export::access_log::{Sink, Writer},
        log,
        state::{Phase, State},
    },
    server::{
        changing::{Changing, Event},
        error::ServerError,
        prepare::{Done, Kept, Outcome, Ready},
        rules, systemd,
        upgrade::Handover,
        upgrading::Upgrading,
    },
    snapshot::{
        Snapshot,
        messages::{End, FromWorker},
    },
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
    pub(super) changing: Changing,
    pub(super) upgrading: Upgrading,
    pub(super) writer: Writer,
    pub(super) workers: Vec<Worker>,
    pub(super) reports: Receiver<FromWorker>,
    /// Accepts for the admin API.
    pub(super) admin: Option<Task<()>>,
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
        let mut watch = interval(WATCH_EVERY);
        let mut alive = systemd::watchdog().map(|every| interval(every / 2));
        let mut deadline: Option<Instant> = None;
        loop {
            select! {
                () = wake.notified() => self.take_reports()?,
                _ = watch.tick() => self.watch_workers()?,
                () = beat(&mut alive) => systemd::alive(),
                event = self.changing.next() => match event {
                    Event::Submitted => {}
                    Event::Done(done) => self.finish_change(done, deadline.is_some()),
                    Event::Kept(kept) => self.finish_keeping(kept, deadline.is_some()),
                },
                answer = self.upgrading.answer() => match answer {
                    Ok(successor) => deadline = Some(self.hand_over(successor)),
                    Err(reason) => {
                        self.state.rollouts.hold(false);
                        log::error(format_args!(
                            "no upgrade: {reason}; its own lines above say why; this process goes on"
                        ));
                    }
                },
                _ = requests.hangup.recv() => self.hang_up(deadline.is_some()),
                // Both would end the process if nobody listened.
                _ = requests.reopen.recv() => self.reopen_log(),
                _ = requests.upgrade.recv() => match deadline {
                    Some(_) => log::warn(format_args!("SIGUSR2: this process is ending already")),
                    None => self.upgrading.want(),
                },
                name = stops.recv() => match deadline {
                    Some(_) => return self.end("second signal"),
                    None => deadline = Some(self.stop(name)),
                },
                () = stop.notified(), if deadline.is_none() => {
                    deadline = Some(self.stop("asked to"));
                }
                () = past(deadline) => return self.end("the drain's time is up"),
            }
            if self.workers.iter().all(|worker| worker.ended) {
                return self.end("drained");
            }
            if deadline.is_none() {
                self.start_what_waits();
            }
        }
    }

    /// Changes and upgrades take turns: a successor reads what is in force.
    fn start_what_waits(&mut self) {
        if !self.upgrading.is_under_way() {
            self.changing.start();
        } else if !self.changing.is_preparing() {
            let snapshot = Arc::clone(&self.state.rules().snapshot);
            // What the successor goes on from must not move meanwhile.
            self.state.rollouts.hold(true);
            let is_started = self.upgrading.start(Handover {
                version: snapshot.version,
                rollouts: self.state.rollouts.saved(),
                by_hand: by_hand::said(&snapshot).collect(),
            });
            self.state.rollouts.hold(is_started);
        }
    }

    /// Takes what the cores said. Rules that come back are freed on the thread that reads, not on a core.
    fn take_reports(&mut self) -> Result<(), ServerError> {
        while let Ok(report) = self.reports.try_recv() {
            match report {
                FromWorker::Applied { core, version } => self.note_applied(core, version),
                FromWorker::TlsFailed { upstream, endpoint, error } => log::warn(format_args!(
                    "upstream `{upstream}`: no TLS with {endpoint}: {error}"
                )),
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
                FromWorker::Retired(snapshot) => self.let_go(snapshot),
                FromWorker::Ready { .. } => {}
            }
        }
        Ok(())
    }

    /// The last of those who hold rules takes them to the thread that frees them: it takes a while, and not from
    /// a core.
    fn let_go(&self, snapshot: Arc<Snapshot>) {
        if let Some(snapshot) = Arc::into_inner(snapshot) {
            self.changing.reader().let_go(move || drop(snapshot));
        }
    }

    fn note_applied(&mut self, core: usize, version: u64) {
        let was_settled = self.broadcast.settled();
        if let Some(before) = self.broadcast.applied(core, version) {
            self.let_go(before);
        }
        self.state.acknowledged.notify_waiters();
        let everywhere = self.broadcast.version_everywhere();
        if self.broadcast.settled() && !was_settled {
            let took = self.state.rules().settle();
            log::info(format_args!(
                "version {everywhere} is in force on all cores, {:.1} ms after it was asked for",
                took.as_secs_f64() * 1e3
            ));
        }
    }

    /// A thread that is gone without having said so takes the process with it: a supervisor starts
    /// it anew, a core that silently serves nobody is worse.
    fn watch_workers(&mut self) -> Result<(), ServerError> {
        self.broadcast.send_to_all();
        self.changing.tidy();
        match self.workers.iter().find(|worker| worker.thread.is_finished() && !worker.ended) {
            // Its last word may still be on its way.
            Some(worker) if self.reports.is_empty() => {
                Err(ServerError::WorkerLost { core: worker.core })
            }
            _ => Ok(()),
        }
    }

    /// SIGHUP: the rules are read again, and the file of the access log is opened anew.
    fn hang_up(&mut self, is_ending: bool) {
        if is_ending {
            return self.reopen_log(); // these rules are the last ones
        }
        systemd::reloading();
        let change = Change { from: "SIGHUP".into(), edit: Edit::Reread, dry_run: false };
        if !self.state.changes.post(change) {
            log::warn(format_args!("SIGHUP: too many changes wait already"));
            systemd::ready();
        }
    }

    /// Sends a prepared change on, or notes why there is none: then the old rules stay.
    fn finish_change(&mut self, done: Done, is_ending: bool) {
        let Done { orders, outcome } = done;
        match outcome {
            Outcome::Ready(ready) => {
                let is_kept = ready.is_kept;
                let applied = match is_ending {
                    // Kept, but no core takes rules any more.
                    true => Applied { version: ready.snapshot.version, warnings: ready.warnings },
                    false => self.apply(*ready, &orders),
                };
                self.changing.accept(orders, applied, is_kept);
                if is_ending && is_kept {
                    self.changing.close();
                }
            }
            Outcome::Unchanged(applied) => self.changing.accept(orders, applied, true),
            Outcome::Refused(_) if orders.len() > 1 && !is_ending => {
                return self.changing.try_alone(orders); // somebody among them is not to blame
            }
            Outcome::Refused(refused) => self.refuse(orders, &refused),
        }
        systemd::ready(); // ends what `reloading` began
    }

    /// Answers those whose rules are in force and kept on the disk now. If they could not be kept the
    /// rules before are put in force again.
    fn finish_keeping(&mut self, kept: Kept, is_ending: bool) {
        match kept {
            Kept::Yes => self.changing.kept(),
            Kept::No { refused, before } => {
                let orders = self.changing.not_kept();
                if !is_ending {
                    self.apply(*before, &orders);
                }
                self.refuse(orders, &refused);
            }
        }
        if is_ending {
            self.changing.close();
        }
    }

    /// Tells whoever asked, and the log, why the rules stay as they are.
    fn refuse(&self, orders: Vec<Order>, refused: &Refused) {
        let first = orders.first();
        if !first.is_some_and(|order| order.change.dry_run) {
            self.note_refused(first, refused);
        }
        for order in orders {
            order.answer(Err(refused.clone()));
        }
    }

    fn note_refused(&self, order: Option<&Order>, refused: &Refused) {
        let is_of_the_api = order.is_some_and(|one| matches!(one.change.edit, Edit::With(_)));
        let from = order.map_or("a change", |order| &*order.change.from);
        // Who calls the API is told there; here only what the caller may not be able to mend.
        if !is_of_the_api || matches!(refused.why, Why::Invalid | Why::Machine) {
            log::error(format_args!("{from}: refused, the rules stay as they are:\n{refused}"));
        }
        if is_of_the_api {
            self.state.rules().refuse_call();
        } else {
            self.state.rules().refuse(refused.to_string());
            self.reopen_log();
        }
    }

    /// Puts rules in force: nothing here can fail.
    fn apply(&mut self, ready: Ready, orders: &[Order]) -> Applied {
        let Ready { snapshot, sockets, overlay, mut read, warnings, is_kept: _ } = ready;
        let mut known = read.as_mut().map(|read| std::mem::take(&mut read.known));
        for warning in &warnings {
            log::warn(format_args!("{warning:#}"));
        }
        if let Some(read) = read {
            log::set_level(read.level);
            self.redirect_log(read.log);
        }
        let asked = orders.iter().map(|order| order.received).min();
        let is_read = orders.iter().any(|order| !matches!(order.change.edit, Edit::With(_)));
        {
            let mut rules = self.state.rules();
            self.state.checks.follow(Some(&rules.snapshot), &snapshot);
            self.state.heartbeats.follow(&snapshot);
            self.state.names.follow(Some(&rules.snapshot), &snapshot);
            self.state.rollouts.follow(&snapshot);
            rules.accept(Arc::clone(&snapshot), overlay, asked, is_read);
            if let Some(known) = &mut known {
                std::mem::swap(&mut rules.known, known);
            }
        }
        self.state.by_hand.keep_aside(&snapshot); // endpoints that are gone are forgotten
        let cores: Vec<usize> = self.workers.iter().map(|worker| worker.core).collect();
        self.upgrading.hold(&cores, &sockets, |id| snapshot.listener_index(id).is_some());
        let version = snapshot.version;
        log::info(format_args!("version {version}: {}", rules::summary(&snapshot)));
        self.broadcast.publish(snapshot, sockets);
        if let Some(before) = known {
            self.changing.reader().let_go(move || before.kept.let_go());
        }
        Applied { version, warnings }
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

    /// Begins the end for good: no new connections, requests in flight finish.
    fn stop(&mut self, why: &str) -> Instant {
        systemd::stopping();
        self.start_drain(why, End::Stop)
    }

    /// Begins the end because a successor serves.
    fn hand_over(&mut self, successor: u32) -> Instant {
        systemd::main_pid(successor);
        if let Some(admin) = self.admin.take() {
            admin.abort(); // accepts no more; answers under way are other tasks
        }
        self.start_drain(&format!("process {successor} has taken over"), End::HandOver)
    }

    /// Returns when it is over at the latest.
    fn start_drain(&mut self, why: &str, end: End) -> Instant {
        let within = self.state.rules().snapshot.drain_timeout;
        log::info(format_args!(
            "{why}: draining, at most {} s; a second signal ends it at once",
            within.as_secs_f64()
        ));
        self.state.set_phase(Phase::Draining);
        self.upgrading.let_go();
        if !self.changing.is_preparing() {
            self.changing.close();
        }
        self.broadcast.drain(within, end);
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

/// Waits for the next beat; for ever if nobody wants one.
async fn beat(alive: &mut Option<Interval>) {
    match alive {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

/// Waits for a point in time; for ever without one.
async fn past(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
