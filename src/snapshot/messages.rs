//! What the two planes say to each other: rules and orders go down, reports come up.

use std::{fmt, io, net::SocketAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::{
    base::{
        ids::{Identity, ListenerId, RouteKey},
        limits::REPORTS_MAX,
    },
    snapshot::Snapshot,
};

/// Control plane to one core.
#[derive(Debug)]
pub enum ToWorker {
    /// Swap to newer rules. Versions only rise.
    Rules(Box<Update>),
    /// Accept no more, finish what runs, end with [`FromWorker::Drained`] after at most `within`.
    Drain {
        /// How long requests in flight may take.
        within: Duration,
        /// What becomes of the listeners and of clients between two requests.
        end: End,
    },
}

/// Newer rules for one core, with all it needs to obey them at once.
#[derive(Debug)]
pub struct Update {
    /// The rules.
    pub snapshot: Arc<Snapshot>,
    /// What it has to let go of, compared with the rules it obeys.
    pub gone: Arc<Gone>,
    /// Its sockets of new listeners.
    pub sockets: Vec<ListenSocket>,
}

/// What one version has and a later one has not; each list sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// Listeners to close, whose connections end.
    pub listeners: Box<[ListenerId]>,
    /// Routes whose exchanges under way end.
    pub routes: Box<[RouteKey]>,
    /// Upstreams whose balancers begin anew, or that are not there any more.
    pub upstreams: Box<[Identity]>,
    /// Addresses that no endpoint has any more.
    pub pools: Box<[Identity]>,
}

/// One core's socket of a listener, listening.
#[derive(Debug)]
pub struct ListenSocket {
    /// Whose it is.
    pub listener: ListenerId,
    /// The socket.
    pub fd: OwnedFd,
    /// The address, with the port the kernel chose if 0 was asked for.
    pub address: SocketAddr,
    /// Somebody else (systemd) goes on listening when this process stops.
    pub foreign: bool,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// For good: listeners close, clients between two requests are told to go.
    Stop,
    /// A successor accepts from the same sockets: they stay open, and clients between two requests
    /// may send one more, so that no request meets a closing connection.
    HandOver,
}

/// One core to the control plane.
#[derive(Debug)]
pub enum FromWorker {
    /// TLS with an endpoint could not be begun.
    TlsFailed {
        /// The upstream.
        upstream: Box<str>,
        /// The endpoint's authority.
        endpoint: Box<str>,
        /// Why.
        error: Box<str>,
    },
    /// The core accepts connections.
    Ready {
        /// The CPU the worker stands for.
        core: usize,
    },
    /// The core could not start, or its loop ended with an error: the process has to end.
    Failed {
        /// The CPU the worker stands for.
        core: usize,
        /// Which step failed, in words: `bind`, `io_uring`, ...
        step: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The core obeys these rules from now on.
    Applied {
        /// The CPU the worker stands for.
        core: usize,
        /// The version of the rules.
        version: u64,
    },
    /// The core dropped its last use of these rules; freed by whoever receives this.
    Retired(Arc<Snapshot>),
    /// A task of the core panicked; its connection is closed, the core goes on.
    Panicked {
        /// The CPU the worker stands for.
        core: usize,
        /// File and line, as the panic gave them.
        place: Box<str>,
    },
    /// The core has nothing left to do and its loop has ended.
    Drained {
        /// The CPU the worker stands for.
        core: usize,
        /// Connections that were cut because the time was up.
        cut: u64,
    },
}

/// A core's way to the control plane. Never waits.
#[derive(Clone)]
pub struct ReportSender {
    reports: Sender<FromWorker>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl ReportSender {
    /// Hands a report over and wakes the control thread. Beyond [`REPORTS_MAX`] waiting reports, or
    /// when the control thread has ended, the report is dropped: a core does not depend on it.
    pub fn send(&self, report: FromWorker) {
        if self.reports.try_send(report).is_ok() {
            (self.wake)();
        }
    }
}

impl fmt::Debug for ReportSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportSender").field("waiting", &self.reports.len()).finish_non_exhaustive()
    }
}

/// Makes both ends. `wake` is called after each report, on the core that sent it: it must not wait.
pub fn reports(wake: impl Fn() + Send + Sync + 'static) -> (ReportSender, Receiver<FromWorker>) {
    let (reports, receiver) = bounded(REPORTS_MAX);
    (ReportSender { reports, wake: Arc::new(wake) }, receiver)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[test]
    fn each_report_wakes_and_a_flood_is_bounded() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&wakes);
        let (sender, receiver) = reports(move || {
            counted.fetch_add(1, Relaxed);
        });
        for core in 0..REPORTS_MAX + 10 {
            sender.send(FromWorker::Ready { core });
        }
        assert_eq!(receiver.len(), REPORTS_MAX);
        assert_eq!(wakes.load(Relaxed), REPORTS_MAX);
        drop(receiver);
        sender.send(FromWorker::Ready { core: 0 });
        assert_eq!(wakes.load(Relaxed), REPORTS_MAX);
    }
}
