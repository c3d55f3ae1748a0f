//! The start: everything that can fail, in the order that makes its errors clear.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use tokio::{net::TcpListener, sync::Notify, time::timeout_at};

use crate::{
    base::limits::MAILBOX_MESSAGES_MAX,
    controlplane::{
        admin,
        broadcast::{Broadcast, Send},
        changes::Changes,
        export::access_log::Writer,
        log,
        series::Series,
        state::{Phase, Rules, State},
    },
    dataplane::worker::{self, WorkerInput},
    rt::{self, Bound},
    server::{
        control::{Control, Requests, Stops, Worker},
        error::ServerError,
        listen, machine,
        rules::{self, Fixed, Loaded, Source},
    },
    snapshot::{
        Snapshot,
        messages::{FromWorker, ReportSender, ToWorker, reports},
    },
    telemetry::{
        CoreStats, LogSender,
        log_ring::{LogReceiver, log_ring},
    },
};

/// How long the workers may take until they accept connections.
const START_MAX: Duration = Duration::from_secs(10);

/// A process that serves, for whoever started it.
#[derive(Debug)]
pub struct Running {
    /// Names and addresses of the listeners, with the ports the kernel chose.
    pub listeners: Vec<(String, SocketAddr)>,
    /// The admin API, if it is on.
    pub admin: Option<SocketAddr>,
    /// Ends the process as SIGTERM does.
    pub stop: Stopper,
}

/// Ends the process as SIGTERM does, from any thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<Notify>);

impl Stopper {
    /// Drains and ends.
    pub fn stop(&self) {
        self.0.notify_one();
    }
}

/// Serves until a signal ends it. `on_ready` is called once, on the control thread, when all cores
/// accept connections: it must not wait.
///
/// # Errors
/// Why the process could not start or had to end; each says what to do.
pub fn run(source: Source, on_ready: impl FnOnce(Running)) -> Result<(), ServerError> {
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServerError::Control)?;
    let requests = {
        let _entered = runtime.enter();
        Requests::install().map_err(ServerError::Control)?
    };
    let loaded = rules::load(&source, 1).map_err(ServerError::Config)?;
    log::set_level(loaded.level);
    for warning in &loaded.warnings {
        log::warn(format_args!("{warning}"));
    }
    let boot = Boot::new(started, source, loaded)?;
    runtime.block_on(boot.serve(requests, on_ready))
}

/// What the start has got together before the first worker runs.
struct Boot {
    source: Source,
    fixed: Fixed,
    snapshot: Arc<Snapshot>,
    sockets: Vec<Vec<Bound>>,
    admin: Option<std::net::TcpListener>,
    writer: Writer,
    log_senders: Vec<LogSender>,
    state: Arc<State>,
}

/// The workers that were started, and the way to each.
#[derive(Default)]
struct Workers {
    threads: Vec<Worker>,
    mailboxes: Vec<(usize, Send)>,
}

impl Boot {
    fn new(started: Instant, source: Source, loaded: Loaded) -> Result<Self, ServerError> {
        let Loaded { mut snapshot, fixed, .. } = loaded;
        let mut series = Series::default();
        series.assign(&mut snapshot);
        let snapshot = Arc::new(snapshot);
        let driver = rt::probe().map_err(ServerError::Driver)?;
        machine::prepare(&fixed.runtime, &driver);
        let sockets = listen::bind_all(&snapshot, fixed.runtime.workers.len())?;
        let admin = fixed.admin.as_ref().map(listen::bind_admin).transpose()?;
        let stats: Vec<Arc<CoreStats>> =
            fixed.runtime.workers.iter().map(|worker| CoreStats::new(worker.core)).collect();
        let (log_senders, batches) = log_ring(&stats);
        let writer = start_writer(&snapshot, batches)?;
        let rules = Rules::new(Arc::clone(&snapshot), series, source.name());
        let log = Arc::clone(writer.stats());
        let (changes, _orders) = Changes::new();
        let driver = driver.to_string();
        let state = Arc::new(State::new(started, stats, log, driver, changes, rules));
        Ok(Self { source, fixed, snapshot, sockets, admin, writer, log_senders, state })
    }

    /// Starts admin API and workers, then stays in the control loop.
    async fn serve(
        mut self,
        requests: Requests,
        on_ready: impl FnOnce(Running),
    ) -> Result<(), ServerError> {
        let stops = Stops::install().map_err(ServerError::Control)?;
        let stop = Stopper(Arc::new(Notify::new()));
        let admin = self.start_admin()?;
        let wake = Arc::new(Notify::new());
        let waker = Arc::clone(&wake);
        let (reports, receiver) = reports(move || waker.notify_one());
        let listeners = self.addresses();
        self.introduce(&listeners, admin);
        let Workers { threads, mailboxes } = self.start_workers(&reports)?;
        wait_until_ready(&receiver, &wake, threads.len()).await?;
        self.state.set_phase(Phase::Ready);
        log::info(format_args!(
            "ready: {} from {}, after {} ms",
            rules::summary(&self.snapshot),
            self.source.name(),
            self.state.started.elapsed().as_millis(),
        ));
        on_ready(Running { listeners, admin, stop: stop.clone() });
        let control = Control {
            broadcast: Broadcast::new(Arc::clone(&self.snapshot), mailboxes),
            state: self.state,
            source: self.source,
            fixed: self.fixed,
            writer: self.writer,
            workers: threads,
            reports: receiver,
        };
        control.run(requests, stops, &wake, &stop.0).await
    }

    fn start_admin(&mut self) -> Result<Option<SocketAddr>, ServerError> {
        let (Some(listener), Some(settings)) = (self.admin.take(), &self.fixed.admin) else {
            return Ok(None);
        };
        let listener = TcpListener::from_std(listener).map_err(ServerError::Control)?;
        let address = listener.local_addr().map_err(ServerError::Control)?;
        let router = admin::router(Arc::clone(&self.state), settings);
        tokio::spawn(admin::serve(listener, router));
        Ok(Some(address))
    }

    fn start_workers(&mut self, reports: &ReportSender) -> Result<Workers, ServerError> {
        let mut workers = Workers::default();
        let parts = self.sockets.drain(..).zip(self.log_senders.drain(..));
        for ((settings, stats), (listeners, log)) in
            self.fixed.runtime.workers.iter().zip(&self.state.cores).zip(parts)
        {
            let core = settings.core;
            let fail = |error| ServerError::Worker { core, step: "start", error };
            let (sender, mailbox) = rt::mailbox(MAILBOX_MESSAGES_MAX);
            let thread = worker::start(WorkerInput {
                settings: settings.clone(),
                snapshot: Arc::clone(&self.snapshot),
                listeners,
                mailbox,
                reports: reports.clone(),
                stats: Arc::clone(stats),
                log: Some(log),
            })
            .map_err(fail)?;
            workers.threads.push(Worker { core, thread, ended: false });
            let send: Send = Box::new(move |message: ToWorker| sender.send(message).is_ok());
            workers.mailboxes.push((core, send));
        }
        Ok(workers)
    }

    /// Names and addresses of the listeners, with the ports the kernel chose.
    fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let sockets = self.sockets.first().map_or(&[][..], Vec::as_slice);
        let names = self.snapshot.listeners.iter().map(|listener| listener.name.to_string());
        names.zip(sockets.iter().map(Bound::local_addr)).collect()
    }

    /// The start-up report: what runs, on what, and where it is reached.
    fn introduce(&self, listeners: &[(String, SocketAddr)], admin: Option<SocketAddr>) {
        let cores: Vec<usize> = self.fixed.runtime.workers.iter().map(|w| w.core).collect();
        let (version, driver) = (env!("CARGO_PKG_VERSION"), &self.state.driver);
        log::info(format_args!("version {version}, {driver}, cores {}", machine::ranges(&cores)));
        for (name, address) in listeners {
            log::info(format_args!("listener `{name}` on http://{address}"));
        }
        match admin {
            Some(address) => log::info(format_args!(
                "admin on http://{address} (/healthz /readyz /metrics /v1/status)"
            )),
            None => log::info(format_args!("admin is off")),
        }
    }
}

fn start_writer(snapshot: &Snapshot, batches: LogReceiver) -> Result<Writer, ServerError> {
    let sink = rules::open_log(snapshot)
        .map_err(|(target, error)| ServerError::AccessLog { target, error })?;
    Writer::start(batches, sink).map_err(ServerError::Control)
}

/// Waits until every core accepts connections.
async fn wait_until_ready(
    reports: &Receiver<FromWorker>,
    wake: &Notify,
    cores: usize,
) -> Result<(), ServerError> {
    let deadline = tokio::time::Instant::now() + START_MAX;
    let mut ready = 0;
    loop {
        while let Ok(report) = reports.try_recv() {
            match report {
                FromWorker::Ready { .. } => ready += 1,
                FromWorker::Failed { core, step, error } => {
                    return Err(ServerError::Worker { core, step, error });
                }
                _ => {}
            }
        }
        if ready == cores {
            return Ok(());
        }
        if timeout_at(deadline, wake.notified()).await.is_err() {
            return Err(ServerError::Late { ready, cores });
        }
    }
}
