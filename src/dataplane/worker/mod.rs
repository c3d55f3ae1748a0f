//! The loop of one core: starts, accepts, ticks, obeys its mailbox, drains.
//!
//! `server` starts one worker per core with [`start`]; from then on the two talk through a mailbox
//! and a channel of reports. A worker that loses the control plane goes on with its last rules.

mod accept;
mod take_over;
mod tick;

use std::{
    io,
    rc::Rc,
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use self::accept::Accepting;
use super::shard::Shard;
pub use super::shard::{Spread, spread};
use crate::{
    base::limits,
    rt::{self, Bound, DriverKind, Listener, Mailbox, RuntimeSettings},
    snapshot::{
        Snapshot, WorkerSettings,
        messages::{End, FromWorker, ListenSocket, ReportSender, ToWorker, Update},
    },
    telemetry::{CoreStats, LogSender},
};

/// Bytes of a worker's stack. Connection tasks live on the heap; the stack only carries one poll.
const STACK_BYTES: usize = 1024 * 1024;

/// What a worker needs to start.
pub struct WorkerInput {
    /// How its loop is set up.
    pub settings: WorkerSettings,
    /// What it asks the kernel with.
    pub driver: DriverKind,
    /// The first rules.
    pub snapshot: Arc<Snapshot>,
    /// This core's sockets of the snapshot's listeners.
    pub sockets: Vec<ListenSocket>,
    /// How its connections compare with those of the other cores.
    pub spread: Spread,
    /// Orders from the control plane.
    pub mailbox: Mailbox<ToWorker>,
    /// The way back.
    pub reports: ReportSender,
    /// What is counted.
    pub stats: Arc<CoreStats>,
    /// Where access log lines go.
    pub log: Option<LogSender>,
}

/// Starts the thread of one core. It reports [`FromWorker::Ready`] or [`FromWorker::Failed`].
///
/// # Errors
/// When the system gives no thread.
pub fn start(input: WorkerInput) -> io::Result<JoinHandle<()>> {
    Builder::new()
        .name(format!("ringway-{}", input.settings.core))
        .stack_size(STACK_BYTES)
        .spawn(move || run(input))
}

fn run(input: WorkerInput) {
    let core = input.settings.core;
    let reports = input.reports.clone();
    let failed = |step, error| reports.send(FromWorker::Failed { core, step, error });
    if input.settings.pin
        && let Err(error) = rt::pin_to_core(core)
    {
        return failed("pin", error);
    }
    let settings = RuntimeSettings {
        driver: input.driver,
        ring_entries: input.settings.ring_entries,
        busy_poll: input.settings.busy_poll,
        ..RuntimeSettings::default()
    };
    match rt::run(settings, || serve(input)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => failed("listen", error),
        Err(error) => failed(settings.driver.name(), error),
    }
}

async fn serve(input: WorkerInput) -> io::Result<()> {
    let WorkerInput { settings, snapshot, sockets, spread, mailbox, reports, stats, log, .. } =
        input;
    let core = settings.core;
    let version = snapshot.version;
    stats.snapshot_version.set(i64::try_from(version).unwrap_or(i64::MAX));
    let shard = Rc::new(Shard::new(&settings, snapshot, stats, log, reports.clone()));
    let accept_batch = settings.accept_batch;
    let spread = Rc::new(spread);
    let mut worker = Worker { shard, spread, reports, accept_batch, accepting: Vec::new() };
    for socket in sockets {
        worker.listen(socket)?;
    }
    take_over::spawn(&worker.shard, &worker.spread, &worker.reports);
    tick::spawn(Rc::clone(&worker.shard), worker.reports.clone());
    worker.reports.send(FromWorker::Ready { core });
    let (within, end) = worker.obey(&mailbox).await;
    let cut = worker.drain(within, end).await;
    worker.shard.flush_log();
    worker.reports.send(FromWorker::Drained { core, cut });
    Ok(())
}

/// What the loop of a core works with.
struct Worker {
    shard: Rc<Shard>,
    spread: Rc<Spread>,
    reports: ReportSender,
    accept_batch: usize,
    accepting: Vec<Accepting>,
}

impl Worker {
    /// Accepts from a socket.
    fn listen(&mut self, socket: ListenSocket) -> io::Result<()> {
        let listener = Listener::adopt(Bound::adopt(socket.fd, socket.foreign)?)?;
        let (shard, spread, reports) = (&self.shard, &self.spread, &self.reports);
        let (batch_max, id) = (self.accept_batch, socket.listener);
        let accepting = Accepting::start(shard, spread, listener, batch_max, id, reports);
        self.accepting.push(accepting);
        Ok(())
    }

    /// Takes rules as told, until the order to drain; returns how long that may take, and how.
    async fn obey(&mut self, mailbox: &Mailbox<ToWorker>) -> (Duration, End) {
        loop {
            match mailbox.recv().await {
                // The control plane is gone; the last rules go on.
                None => std::future::pending().await,
                Some(ToWorker::Rules(update)) => self.take(*update),
                Some(ToWorker::Drain { within, end }) => return (within, end),
            }
        }
    }

    /// Obeys newer rules from now on.
    fn take(&mut self, Update { snapshot, gone, sockets }: Update) {
        let (core, version, begin) = (self.shard.core, snapshot.version, Instant::now());
        // First what waits at listeners that go: it came while they were there.
        for accepting in self.accepting.extract_if(.., |one| gone.listeners.contains(&one.id)) {
            accepting.close();
        }
        self.shard.swap_table(snapshot, &gone);
        for socket in sockets {
            if let Err(error) = self.listen(socket) {
                // Only a descriptor that is none could do this; the process has to end.
                self.reports.send(FromWorker::Failed { core, step: "listen", error });
            }
        }
        let micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shard.stats.rules_swap_micros_max.raise_to(micros);
        self.reports.send(FromWorker::Applied { core, version });
    }

    /// Waits until the last connection has ended, or cuts those left when the time is over. How many
    /// were cut in the middle of something.
    async fn drain(&mut self, within: Duration, how: End) -> u64 {
        let begin = Instant::now();
        let accepting = std::mem::take(&mut self.accepting).into_iter();
        match how {
            End::Stop => {
                self.shard.start_draining();
                accepting.as_slice().iter().for_each(Accepting::take_no_more);
                rt::sleep(limits::LISTEN_LINGER.min(within)).await;
                accepting.for_each(Accepting::close);
            }
            End::HandOver => {
                accepting.for_each(Accepting::hand_over);
                self.shard.let_leave();
            }
        }
        self.spread.close();
        let connections = &self.shard.connections;
        while !connections.is_empty() || !self.spread.is_empty() {
            if how == End::Stop && begin.elapsed() >= limits::DRAIN_IDLE_GRACE {
                self.shard.end_idle();
            }
            if begin.elapsed() >= within {
                let cut = connections.busy_count() as u64;
                connections.close_all();
                rt::sleep(limits::TICK * 2).await; // their tasks see it, log and end
                return cut;
            }
            rt::sleep(limits::TICK).await;
        }
        0
    }
}
