//! The start: everything that can fail, in the order that makes its errors clear.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle, time::timeout_at};

use crate::{
    base::limits::{BUFFER_BYTES, MAILBOX_MESSAGES_MAX},
    controlplane::{
        admin,
        broadcast::{Broadcast, Send},
        by_hand::ByHand,
        carry::Carry,
        certificates::files,
        changes::{Changes, Orders},
        config::{Driver, RuntimeConfig},
        export::access_log::Writer,
        log,
        rollout::Rollouts,
        series::Series,
        source::Stamp,
        state::{DriverInfo, Phase, Rules, State},
    },
    dataplane::worker::{self, WorkerInput},
    rt::{self, Choice, DriverKind, Undelivered},
    server::{
        changing::Changing,
        control::{Control, Requests, Stops, Worker},
        error::ServerError,
        listen::{self, Inherited},
        machine,
        prepare::Preparer,
        reader::Reader,
        rules::{self, Fixed, Kept, Loaded, OwnBase, Source},
        systemd,
        upgrade::{self, Held, Predecessor, Program},
        upgrading::Upgrading,
        watch,
    },
    snapshot::{
        Mode, Snapshot,
        messages::{FromWorker, ListenSocket, ReportSender, ToWorker, reports},
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

/// How a process serves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether the files of the source are watched.
    pub watch: bool,
}

/// Serves until a signal ends it. `on_ready` is called once, on the control thread, when all cores
/// accept connections: it must not wait.
///
/// # Errors
/// Why the process could not start or had to end; each says what to do.
pub fn run(
    source: Source,
    options: Options,
    on_ready: impl FnOnce(Running),
) -> Result<(), ServerError> {
    let started = Instant::now();
    rt::memory::map_large_blocks(); // of the control thread, which this one becomes
    let origin = Origin::find_out()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServerError::Control)?;
    let requests = {
        let _entered = runtime.enter();
        Requests::install().map_err(ServerError::Control)?
    };
    let stamp = source.own_stamp();
    let kept = rules::kept(&source).map_err(ServerError::Config)?;
    let reader = Reader::start().map_err(ServerError::Control)?;
    let (base, version) = (OwnBase::Source(source.clone()), origin.inherited.version + 1);
    let read = || rules::load(&reader, base, &kept.overlay, Default::default(), version);
    let loaded = rt::memory::sparingly(read).map_err(ServerError::Config)?;
    let stamp = stamp.map(|stamp| stamp.and(files::as_read()));
    reader.yield_to_workers();
    log::set_level(loaded.level);
    for warning in &loaded.warnings {
        log::warn(format_args!("{warning:#}"));
    }
    let boot = Boot::new(started, (source, reader), stamp, (loaded, kept), origin)?;
    runtime.block_on(boot.serve(requests, options, on_ready))
}

/// Where this process comes from.
struct Origin {
    program: Program,
    inherited: Inherited,
    predecessor: Option<Predecessor>,
}

impl Origin {
    /// Must come before anything opens a descriptor.
    fn find_out() -> Result<Self, ServerError> {
        let program = Program::of_this_process().map_err(ServerError::Control)?;
        let activated = systemd::sockets().map_err(ServerError::Inherit)?;
        let taken_over = upgrade::take_over().map_err(ServerError::Inherit)?;
        let (predecessor, mut inherited) = match taken_over {
            Some((predecessor, inherited)) => (Some(predecessor), inherited),
            None => (None, Inherited::default()),
        };
        inherited.listeners.extend(activated.into_iter().map(|bound| (None, bound)));
        Ok(Self { program, inherited, predecessor })
    }
}

/// What the start has got together before the first worker runs.
struct Boot {
    fixed: Fixed,
    driver: DriverKind,
    preparer: Preparer,
    snapshot: Arc<Snapshot>,
    sockets: Vec<Vec<ListenSocket>>,
    held: Held,
    admin: Option<std::net::TcpListener>,
    writer: Writer,
    log_senders: Vec<LogSender>,
    state: Arc<State>,
    orders: Orders,
    program: Program,
    predecessor: Option<Predecessor>,
}

/// The workers that were started, and the way to each.
#[derive(Default)]
struct Workers {
    threads: Vec<Worker>,
    mailboxes: Vec<(usize, Send)>,
}

impl Boot {
    fn new(
        started: Instant,
        (source, reader): (Source, Reader),
        stamp: Option<Stamp>,
        (loaded, kept): (Loaded, Kept),
        origin: Origin,
    ) -> Result<Self, ServerError> {
        let Loaded { mut snapshot, fixed, known, .. } = loaded;
        let Origin { program, mut inherited, predecessor } = origin;
        let (mut series, mut carry) = (Series::default(), Carry::default());
        carry.assign(None, &mut snapshot);
        series.assign(None, &mut snapshot);
        let snapshot = Arc::new(snapshot);
        let driver = choose_driver(&fixed.runtime)?;
        machine::prepare(&fixed.runtime, &driver);
        let cores: Vec<usize> = fixed.runtime.workers.iter().map(|worker| worker.core).collect();
        let admin = fixed.admin.as_ref().map(|one| listen::bind_admin(one, &mut inherited));
        let admin = admin.transpose()?;
        let sockets = listen::bind_new(None, &snapshot, &cores, &mut inherited)?.name(&snapshot);
        for (_, left) in inherited.listeners {
            let address = left.local_addr();
            log::warn(format_args!("no listener has the inherited address {address}; closed"));
        }
        let mut held = Held::default();
        held.keep_all(&cores, &sockets, admin.as_ref()).map_err(ServerError::Control)?;
        let stats: Vec<Arc<CoreStats>> = cores.iter().map(|core| CoreStats::new(*core)).collect();
        let (log_senders, batches) = log_ring(&stats);
        let writer = start_writer(&snapshot, batches)?;
        let mut rules = Rules::new(Arc::clone(&snapshot), series, source.name());
        (rules.overlay, rules.known) = (Arc::clone(&kept.overlay), known);
        let log = Arc::clone(writer.stats());
        let (changes, orders) = Changes::new();
        let mut state = State::new(started, stats, log, describe(&driver), changes, rules);
        state.names = Arc::clone(&reader.names);
        let by_hand = ByHand::go_on(inherited.by_hand, kept.directory.as_deref(), &snapshot);
        state.by_hand = Arc::new(by_hand);
        let saved = rules::rollouts(inherited.rollouts, kept.directory.as_deref());
        state.rollouts = Arc::new(Rollouts::new(saved, kept.directory));
        let state = Arc::new(state);
        let preparer = Preparer {
            source,
            reader,
            keeps: true,
            store: kept.store,
            overlay: kept.overlay,
            carry,
            stamp,
            fixed: fixed.clone(),
            head_bytes_max: head_bytes_max(&snapshot, &fixed),
            state: Arc::clone(&state),
        };
        Ok(Self {
            fixed,
            driver: driver.kind(),
            preparer,
            snapshot,
            sockets,
            held,
            admin,
            writer,
            log_senders,
            state,
            orders,
            program,
            predecessor,
        })
    }

    /// Starts admin API and workers, then stays in the control loop.
    async fn serve(
        mut self,
        requests: Requests,
        options: Options,
        on_ready: impl FnOnce(Running),
    ) -> Result<(), ServerError> {
        let stops = Stops::install().map_err(ServerError::Control)?;
        let stop = Stopper(Arc::new(Notify::new()));
        let listeners = self.addresses();
        let (admin, admin_task) = self.start_admin()?.unzip();
        let wake = Arc::new(Notify::new());
        let waker = Arc::clone(&wake);
        let (reports, receiver) = reports(move || waker.notify_one());
        self.introduce(&listeners, admin);
        self.state.checks.follow(None, &self.snapshot);
        self.state.heartbeats.follow(&self.snapshot);
        self.state.names.follow(None, &self.snapshot);
        self.state.rollouts.follow(&self.snapshot);
        tokio::spawn(Arc::clone(&self.state.names).apply(self.state.changes.clone()));
        let Workers { threads, mailboxes } = self.start_workers(&reports)?;
        wait_until_ready(&receiver, &wake, threads.len()).await?;
        if let Some(predecessor) = self.predecessor.take() {
            predecessor.ready().map_err(|_| ServerError::Orphaned)?;
        }
        self.state.set_phase(Phase::Ready);
        systemd::ready();
        log::info(format_args!(
            "ready: {} from {}, after {} ms",
            rules::summary(&self.snapshot),
            self.preparer.source.name(),
            self.state.started.elapsed().as_millis(),
        ));
        if options.watch {
            let seen = self.preparer.stamp.clone();
            watch::start(&self.preparer.source, seen, &self.state.changes);
        }
        rt::memory::give_back_program();
        on_ready(Running { listeners, admin, stop: stop.clone() });
        let control = Control {
            broadcast: Broadcast::new(self.snapshot, mailboxes), // not a copy: it is to be let go of
            state: self.state,
            changing: Changing::new(self.preparer, self.orders),
            writer: self.writer,
            workers: threads,
            reports: receiver,
            upgrading: Upgrading::new(self.program, self.held),
            admin: admin_task,
        };
        control.run(requests, stops, &wake, &stop.0).await
    }

    fn start_admin(&mut self) -> Result<Option<(SocketAddr, JoinHandle<()>)>, ServerError> {
        let (Some(listener), Some(settings)) = (self.admin.take(), &self.fixed.admin) else {
            return Ok(None);
        };
        let listener = TcpListener::from_std(listener).map_err(ServerError::Control)?;
        let address = listener.local_addr().map_err(ServerError::Control)?;
        let router = admin::router(Arc::clone(&self.state), settings, rt::memory::give_back);
        Ok(Some((address, tokio::spawn(admin::serve(listener, router)))))
    }

    fn start_workers(&mut self, reports: &ReportSender) -> Result<Workers, ServerError> {
        let mut workers = Workers::default();
        let runtime = &self.fixed.runtime;
        let spread = worker::spread(runtime.workers.len(), runtime.is_spread);
        let parts = self.sockets.drain(..).zip(self.log_senders.drain(..)).zip(spread);
        for ((settings, stats), ((sockets, log), spread)) in
            runtime.workers.iter().zip(&self.state.cores).zip(parts)
        {
            let core = settings.core;
            let fail = |error| ServerError::Worker { core, step: "start", error };
            let (sender, mailbox) = rt::mailbox(MAILBOX_MESSAGES_MAX);
            let thread = worker::start(WorkerInput {
                settings: settings.clone(),
                driver: self.driver,
                snapshot: Arc::clone(&self.snapshot),
                sockets,
                spread,
                mailbox,
                reports: reports.clone(),
                stats: Arc::clone(stats),
                log: Some(log),
            })
            .map_err(fail)?;
            workers.threads.push(Worker { core, thread, ended: false });
            let send: Send = Box::new(move |message: ToWorker| {
                sender.send(message).map_err(|undelivered| match undelivered {
                    Undelivered::Full(message) | Undelivered::Closed(message) => message,
                })
            });
            workers.mailboxes.push((core, send));
        }
        Ok(workers)
    }

    /// Names and addresses of the listeners, with the ports the kernel chose.
    fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let sockets = self.sockets.first().map_or(&[][..], Vec::as_slice);
        let address = |id| sockets.iter().find(|one| one.listener == id).map(|one| one.address);
        let listeners = self.snapshot.listeners.iter().zip(&self.snapshot.listener_ids);
        listeners
            .map(|(one, id)| (one.name.to_string(), address(*id).unwrap_or(one.address)))
            .collect()
    }

    /// The start-up report: what runs, on what, and where it is reached.
    fn introduce(&self, listeners: &[(String, SocketAddr)], admin: Option<SocketAddr>) {
        let cores: Vec<usize> = self.fixed.runtime.workers.iter().map(|w| w.core).collect();
        let (version, driver) = (env!("CARGO_PKG_VERSION"), &self.state.driver.description);
        log::info(format_args!("version {version}, {driver}, cores {}", machine::ranges(&cores)));
        for (name, address) in listeners {
            let mut all = self.snapshot.listeners.iter();
            let scheme = match all.find(|one| *one.name == **name) {
                Some(one) if one.mode == Mode::Tcp => "tcp",
                Some(one) if one.tls.is_some() => "https",
                _ => "http",
            };
            log::info(format_args!("listener `{name}` on {scheme}://{address}"));
        }
        match admin {
            Some(address) => log::info(format_args!(
                "admin on http://{address} (/healthz /readyz /metrics /v1/status /v1/openapi.json)"
            )),
            None => log::info(format_args!("admin is off")),
        }
    }
}

/// What the loops will run on.
fn choose_driver(runtime: &RuntimeConfig) -> Result<Choice, ServerError> {
    let wanted = match runtime.driver {
        Driver::Auto => None,
        Driver::IoUring => Some(DriverKind::IoUring),
        Driver::Epoll => Some(DriverKind::Epoll),
    };
    rt::choose(wanted, machine::rings_bytes(runtime)).map_err(ServerError::Driver)
}

fn describe(driver: &Choice) -> DriverInfo {
    DriverInfo {
        name: driver.kind().name(),
        description: driver.to_string(),
        reason: driver.reason().map(ToString::to_string),
    }
}

/// The largest request head that the cores' buffers are made for.
fn head_bytes_max(snapshot: &Snapshot, fixed: &Fixed) -> usize {
    let all = snapshot.listeners.iter().map(|listener| listener.limits.header_bytes_max);
    let buffers = fixed.runtime.workers.iter().map(|worker| worker.buffer_bytes);
    all.fold(buffers.min().unwrap_or(BUFFER_BYTES), usize::max)
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
