//! Leave to have connections to the endpoints of an upstream, where their number is limited
//! (`overload.connections_max`). The limit is that of the whole process (`policy::connections`).

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use super::Waiting;
use crate::{
    policy::{
        connections::Holder,
        overload::{Importance, OverloadRule},
    },
    snapshot::cells::UpstreamCell,
};

/// The connections of one core to the endpoints of one upstream.
pub struct Permits {
    cell: Arc<UpstreamCell>,
    core: u32,
    cores: u32,
    held: Cell<u32>,
    /// By the rules of the last request.
    max: Cell<u32>,
    stress_after: Cell<Duration>,
    waiting: Waiting,
}

/// Leave to have one connection; given back when dropped, also by a panic.
pub struct Permit(Rc<Permits>);

/// Counted among those who wait for a connection, for the other cores to see, until dropped.
struct Counted<'a>(&'a UpstreamCell);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.connections().stop_waiting();
        self.0.load().stop_waiting();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let permits = &self.0;
        permits.held.set(permits.held.get() - 1);
        permits.cell.connections().give_back();
        permits.waiting.call_one(permits.stress_after.get());
    }
}

impl Permit {
    /// Whether its connection may be kept for the next request: others may need it more.
    pub fn may_be_kept(&self) -> bool {
        let permits = &self.0;
        permits.cell.connections().may_keep(permits.max.get(), permits.holder())
    }

    /// Its connection is unused now: who waits may have it.
    pub fn note_unused(&self) {
        self.0.waiting.call_one(self.0.stress_after.get());
    }
}

impl Permits {
    /// Those of the core with this number, of so many, for an upstream.
    pub fn new(cell: &Arc<UpstreamCell>, core: u32, cores: u32) -> Rc<Self> {
        Rc::new(Self {
            cell: Arc::clone(cell),
            core,
            cores,
            held: Cell::new(0),
            max: Cell::new(0),
            stress_after: Cell::default(),
            waiting: Waiting::default(),
        })
    }

    fn holder(&self) -> Holder {
        let waiting = u32::try_from(self.waiting.count()).unwrap_or(u32::MAX);
        Holder { core: self.core, cores: self.cores, held: self.held.get(), waiting }
    }

    /// Leave for one more connection, if there may be one.
    pub fn take(self: &Rc<Self>, rule: &OverloadRule) -> Option<Permit> {
        let max = rule.connections_max.unwrap_or(u32::MAX);
        self.max.set(max);
        self.stress_after.set(Duration::from_millis(rule.pending_timeout_ms));
        self.cell.connections().take(max, self.holder()).then(|| {
            self.held.set(self.held.get() + 1);
            Permit(Rc::clone(self))
        })
    }

    /// Waits until `get` gives something that will do.
    ///
    /// # Errors
    /// [`Full`]: no place to wait is free, or the request is not important enough to wait, or it waited in
    /// vain.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn wait<T>(
        &self,
        rule: &OverloadRule,
        importance: Importance,
        get: impl FnMut() -> Option<T>,
    ) -> Result<T, Full> {
        if importance == Importance::Low || !self.cell.load().wait(rule) {
            return Err(Full::Queue);
        }
        self.cell.connections().wait();
        let _counted = Counted(&self.cell);
        let within = Duration::from_millis(rule.pending_timeout_ms);
        self.waiting.wait(within, importance, get).await.ok_or(Full::TimedOut)
    }

    /// How many this core may have however many other cores want.
    pub fn share(&self) -> usize {
        (self.max.get() / self.cores.max(1)) as usize
    }

    /// How many requests of other cores wait for a connection.
    pub fn others_waiting(&self) -> u32 {
        self.cell.connections().others_waiting(self.holder())
    }
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// It may not wait.
    Queue,
    /// It waited in vain.
    TimedOut,
}
