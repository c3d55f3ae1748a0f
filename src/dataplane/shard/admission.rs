//! A place among an upstream's requests in flight: taken at once, waited for, or refused. The limit is
//! that of the whole process (`policy::overload`); who waits, waits on its own core.

use std::{rc::Rc, sync::Arc, time::Duration};

use crate::{
    base::reason::Reason,
    dataplane::upstream::Waiting,
    policy::overload::{Importance, OverloadRule},
    snapshot::cells::UpstreamCell,
};

/// A place; given back when dropped, also by a panic.
pub struct InFlight {
    cell: Arc<UpstreamCell>,
    waiting: Rc<Waiting>,
    stress_after: Duration,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.cell.load().leave();
        self.waiting.call_one(self.stress_after);
    }
}

/// Counted among those who wait, until dropped.
struct Counted<'a>(&'a UpstreamCell);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.load().stop_waiting();
    }
}

impl InFlight {
    /// Takes a place if one is free.
    pub fn enter_now(
        waiting: &Rc<Waiting>,
        cell: &Arc<UpstreamCell>,
        rule: &OverloadRule,
        importance: Importance,
    ) -> Option<Self> {
        cell.load().enter(rule, importance).then(|| Self {
            cell: Arc::clone(cell),
            waiting: Rc::clone(waiting),
            stress_after: Duration::from_millis(rule.pending_timeout_ms),
        })
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// [`Reason::UpstreamOverloaded`] when not even a place to wait is free, or the request is not
    /// important enough; [`Reason::PendingTimeout`] when it waited in vain.
    ///
    /// # Cancel safety
    /// Cancel safe: a place that was waited for is given up.
    pub async fn enter(
        waiting: &Rc<Waiting>,
        cell: &Arc<UpstreamCell>,
        rule: &OverloadRule,
        importance: Importance,
    ) -> Result<Self, Reason> {
        if importance == Importance::Low || !cell.load().wait(rule) {
            return Err(Reason::UpstreamOverloaded);
        }
        let _counted = Counted(cell);
        let within = Duration::from_millis(rule.pending_timeout_ms);
        let enter = || Self::enter_now(waiting, cell, rule, importance);
        waiting.wait(within, importance, enter).await.ok_or(Reason::PendingTimeout)
    }
}
