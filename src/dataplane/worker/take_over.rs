//! Serves the connections that other cores accepted and handed over: see `shard::spread`.

use std::rc::Rc;

use super::accept::admit;
use crate::{
    base::limits,
    dataplane::shard::{Handed, Shard, Spread},
    rt,
    snapshot::messages::{FromWorker, ReportSender},
};

/// Takes over until the worker ends.
pub(super) fn spawn(shard: &Rc<Shard>, spread: &Rc<Spread>, reports: &ReportSender) {
    let again = (Rc::clone(shard), Rc::clone(spread), reports.clone());
    let (shard, spread, reports) = again.clone();
    let taking = async move {
        while let Some(handed) = spread.handed().await {
            if shard.table_for(handed.listener).is_some() {
                take(&shard, &reports, handed);
            } else {
                await_listener(Rc::clone(&shard), reports.clone(), handed);
            }
        }
    };
    rt::spawn_guarded(taking, move |place| {
        let (shard, spread, reports) = again;
        let core = shard.core;
        shard.stats.panics.inc();
        reports.send(FromWorker::Panicked { core, place: place.to_string().into() });
        spawn(&shard, &spread, &reports); // others go on handing over
    });
}

fn take(shard: &Rc<Shard>, reports: &ReportSender, handed: Handed) {
    admit(shard, reports, handed.accepted, handed.listener, handed.seat);
}

/// Where a listener is new, the core that accepted may have heard of it before this one did.
fn await_listener(shard: Rc<Shard>, reports: ReportSender, handed: Handed) {
    let waiting = async move {
        let mut ticks_left = limits::HANDED_WAIT_TICKS;
        while shard.table_for(handed.listener).is_none() && ticks_left > 0 {
            rt::sleep(limits::TICK).await;
            ticks_left -= 1;
        }
        take(&shard, &reports, handed);
    };
    rt::spawn_guarded(waiting, |_| {}); // a panic costs the one connection
}
