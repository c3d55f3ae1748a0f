//! The rules in force on one core: the shared snapshot, handed back to the control plane by the last
//! request that obeys it.

use std::sync::Arc;

use crate::{
    base::ids::{ListenerId, ListenerIndex},
    snapshot::{
        Listener, Snapshot,
        messages::{FromWorker, ReportSender},
    },
};

/// A snapshot, as long as a request of this core obeys it.
pub struct Table {
    /// The rules all cores share.
    pub snapshot: Arc<Snapshot>,
    reports: ReportSender,
}

impl Table {
    /// A table that goes back by `reports`.
    pub fn new(snapshot: Arc<Snapshot>, reports: ReportSender) -> Self {
        Self { snapshot, reports }
    }

    /// The listener a connection came in by, if these rules have it.
    pub fn listener(&self, id: ListenerId) -> Option<(ListenerIndex, &Listener)> {
        let index = self.snapshot.listener_index(id)?;
        Some((index, self.snapshot.listener(index)))
    }
}

impl Drop for Table {
    /// Freeing the rules of ten thousand routes takes a millisecond: not here.
    fn drop(&mut self) {
        self.reports.send(FromWorker::Retired(Arc::clone(&self.snapshot)));
    }
}
