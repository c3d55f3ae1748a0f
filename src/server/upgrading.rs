//! Where the process stands with its successor.

use std::io;

use crate::{
    base::ids::ListenerId,
    controlplane::log,
    server::upgrade::{self, Handover, Held, Program, Starting},
    snapshot::messages::ListenSocket,
};

/// A successor that may be wanted, or started.
pub(super) struct Upgrading {
    program: Program,
    held: Held,
    wanted: bool,
    starting: Option<Starting>,
}

impl Upgrading {
    pub(super) fn new(program: Program, held: Held) -> Self {
        Self { program, held, wanted: false, starting: None }
    }

    /// Somebody wants a successor. As soon as nothing else is going on, [`Self::start`] makes one.
    pub(super) fn want(&mut self) {
        if self.is_under_way() {
            log::warn(format_args!("SIGUSR2: a successor is starting already"));
        } else if std::process::id() == 1 {
            log::error(format_args!(
                "SIGUSR2: this is process 1, whose end is the end of its container; replace the \
                 container instead"
            ));
        } else {
            self.wanted = true;
        }
    }

    /// Whether changes have to wait: what the successor reads must not change under it.
    pub(super) fn is_under_way(&self) -> bool {
        self.wanted || self.starting.is_some()
    }

    /// Starts the successor, if one is wanted; whether one is on its way.
    pub(super) fn start(&mut self, state: Handover) -> bool {
        if !std::mem::take(&mut self.wanted) {
            return self.starting.is_some();
        }
        let path = self.program.path().display().to_string();
        log::info(format_args!("SIGUSR2: starting {path}, which is to take over"));
        match upgrade::start(&self.program, &self.held.all(), state) {
            Ok(starting) => self.starting = Some(starting),
            Err(error) => log::error(format_args!(
                "no upgrade: {path} cannot be started: {error}; this process goes on"
            )),
        }
        self.starting.is_some()
    }

    /// Waits for the successor's word: its process id, or why it will not take over.
    ///
    /// # Cancel safety
    /// Cancel safe: an answer is not lost.
    pub(super) async fn answer(&mut self) -> Result<u32, String> {
        let Some(starting) = &mut self.starting else { return std::future::pending().await };
        let result = starting.answer().await;
        self.starting = None;
        result
    }

    /// Keeps copies of new sockets; forgets those of listeners that are gone.
    pub(super) fn hold(
        &mut self,
        cores: &[usize],
        sockets: &[Vec<ListenSocket>],
        is_there: impl Fn(ListenerId) -> bool,
    ) {
        self.held.keep_only(is_there);
        if let Err(error) = self.held.keep_all(cores, sockets, None) {
            log::warn(format_args!(
                "a successor will have to bind a listener anew: {error}; raise `ulimit -n`"
            ));
        }
    }

    /// Forgets all sockets: from now on they live as long as the cores have them. A successor that is
    /// still starting would outlive the end that somebody wants, and is called off.
    pub(super) fn let_go(&mut self) {
        self.held = Held::default();
        self.wanted = false;
        if let Some(successor) = self.starting.take().and_then(Starting::call_off) {
            log::warn(format_args!(
                "process {successor} had taken over before and goes on; SIGTERM ends it, too"
            ));
        }
    }
}

impl Held {
    /// Keeps copies of the sockets of all cores, and of the admin API's.
    pub(super) fn keep_all(
        &mut self,
        cores: &[usize],
        sockets: &[Vec<ListenSocket>],
        admin: Option<&std::net::TcpListener>,
    ) -> io::Result<()> {
        for (core, sockets) in cores.iter().zip(sockets) {
            for socket in sockets {
                self.keep(*core, socket)?;
            }
        }
        admin.map_or(Ok(()), |listener| self.keep_admin(listener))
    }
}
