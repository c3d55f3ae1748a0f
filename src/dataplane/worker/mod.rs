//! The loop of one core: starts, accepts, ticks, obeys its mailbox, drains.
//!
//! `server` starts one worker per core with [`start`]; from then on the two talk through a mailbox
//! and a channel of reports. A worker that loses the control plane goes on with its last rules.

mod accept;
mod tick;

use std::{
    io,
    rc::Rc,
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use super::shard::Shard;
use crate::{
    base::{ids::ListenerIndex, limits},
    rt::{self, Bound, Listener, Mailbox, RuntimeSettings},
    snapshot::{
        Snapshot, WorkerSettings,
        messages::{FromWorker, ReportSender, ToWorker},
    },
    telemetry::{CoreStats, LogSender},
};

/// Bytes of a worker's stack. Connection tasks live on the heap; the stack only carries one poll.
const STACK_BYTES: usize = 1024 * 1024;

/// What a worker needs to start.
pub struct WorkerInput {
    /// How its loop is set up.
    pub settings: WorkerSettings,
    /// The first rules.
    pub snapshot: Arc<Snapshot>,
    /// This core's socket of each listener of the snapshot, in its order.
    pub listeners: Vec<Bound>,
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
    let settings =
        RuntimeSettings { ring_entries: input.settings.ring_entries, ..RuntimeSettings::default() };
    match rt::run(settings, || serve(input)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => failed("listen", error),
        Err(error) => failed("io_uring", error),
    }
}

async fn serve(input: WorkerInput) -> io::Result<()> {
    let WorkerInput { settings, snapshot, listeners, mailbox, reports, stats, log } = input;
    let core = settings.core;
    let version = snapshot.version;
    stats.snapshot_version.set(i64::try_from(version).unwrap_or(i64::MAX));
    let shard = Rc::new(Shard::new(&settings, snapshot, stats, log));
    let mut accepting = Vec::with_capacity(listeners.len());
    for (index, bound) in listeners.into_iter().enumerate() {
        let index = ListenerIndex(u16::try_from(index).unwrap_or(u16::MAX));
        let listener = Rc::new(Listener::adopt(bound)?);
        accept::spawn(Rc::clone(&shard), Rc::clone(&listener), index, reports.clone());
        accepting.push(listener);
    }
    tick::spawn(Rc::clone(&shard), reports.clone());
    reports.send(FromWorker::Ready { core });
    let within = obey(&shard, &mailbox, &reports).await;
    shard.start_draining();
    for listener in accepting {
        listener.close();
    }
    let cut = drain(&shard, within).await;
    shard.flush_log();
    reports.send(FromWorker::Drained { core, cut });
    Ok(())
}

/// Swaps tables as told, until the order to drain; returns how long that may take.
async fn obey(shard: &Shard, mailbox: &Mailbox<ToWorker>, reports: &ReportSender) -> Duration {
    loop {
        match mailbox.recv().await {
            // The control plane is gone; the last rules go on.
            None => std::future::pending().await,
            Some(ToWorker::Snapshot(snapshot)) => {
                let version = snapshot.version;
                let retired = Arc::clone(&shard.table().snapshot);
                shard.swap_table(snapshot);
                reports.send(FromWorker::Applied { core: shard.core, version });
                reports.send(FromWorker::Retired(retired));
            }
            Some(ToWorker::Drain { within }) => return within,
        }
    }
}

/// Waits until the last connection has ended, or cuts those left when the time is over. How many
/// were cut.
async fn drain(shard: &Shard, within: Duration) -> u64 {
    let end = Instant::now() + within;
    while !shard.connections.is_empty() {
        if Instant::now() >= end {
            let cut = shard.connections.len() as u64;
            shard.connections.close_all();
            rt::sleep(limits::TICK * 2).await; // their tasks see it, log and end
            return cut;
        }
        rt::sleep(limits::TICK).await;
    }
    0
}
