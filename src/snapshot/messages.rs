//! What the two planes say to each other: rules and orders go down, reports come up.

use std::{fmt, io, sync::Arc, time::Duration};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::{base::limits::REPORTS_MAX, snapshot::Snapshot};

/// Control plane to one core.
#[derive(Clone, Debug)]
pub enum ToWorker {
    /// Swap to these rules. Versions only rise; of several waiting ones only the last counts.
    Snapshot(Arc<Snapshot>),
    /// Accept no more, finish what runs, end with [`FromWorker::Drained`] after at most `within`.
    Drain {
        /// How long requests in flight may take.
        within: Duration,
    },
}

/// One core to the control plane.
#[derive(Debug)]
pub enum FromWorker {
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
