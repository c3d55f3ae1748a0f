//! The beat of a core: deadlines, clients that have gone, idle pools, the date, the log.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    base::limits,
    dataplane::shard::Shard,
    rt,
    snapshot::messages::{FromWorker, ReportSender},
};

/// Ticks between two sweeps of the pools (connections, buffers): a second.
const SWEEP_TICKS: u32 = 20;

/// Beats until the worker ends.
pub(super) fn spawn(shard: Rc<Shard>, reports: ReportSender) {
    let (again, panics) = (Rc::clone(&shard), reports.clone());
    let beat = async move {
        let mut last = Instant::now();
        let mut until_sweep = SWEEP_TICKS;
        loop {
            rt::sleep(limits::TICK).await;
            let now = Instant::now();
            note_stall(&shard, now - last);
            let busy = rt::clock::thread_micros();
            shard.stats.busy_micros.add(busy.saturating_sub(shard.stats.busy_micros.get()));
            last = now;
            let mut now = now;
            while shard.deadlines.advance(now) {
                rt::yield_now().await; // who is woken by these has work to do, and others have, too
                now = Instant::now();
            }
            shard.advance_clock();
            shard.connections.cancel_gone(shard.deadlines.now_tick());
            shard.end_leaving();
            shard.upstreams.tell();
            shard.bring_tallies();
            shard.upstreams.give_way(&shard.stats);
            shard.date.refresh();
            shard.tick_log();
            let in_use = i64::try_from(shard.buffers.stats().in_use).unwrap_or(i64::MAX);
            shard.stats.buffers_in_use.set(in_use);
            let held = i64::try_from(shard.held.bytes()).unwrap_or(i64::MAX);
            shard.stats.http2_held_bytes.set(held);
            until_sweep -= 1;
            if until_sweep == 0 {
                until_sweep = SWEEP_TICKS;
                shard.upstreams.sweep(&shard.deadlines, &shard.stats);
                shard.buffers.trim(limits::BUFFERS_TRIMMED_PER_SWEEP);
            }
        }
    };
    rt::spawn_guarded(beat, move |place| {
        let core = again.core;
        again.stats.panics.inc();
        panics.send(FromWorker::Panicked { core, place: place.to_string().into() });
        spawn(again, panics); // without it no deadline would ever pass
    });
}

/// How much later than due this beat came: somebody held the core that long.
fn note_stall(shard: &Shard, since_last: Duration) {
    let late = since_last.saturating_sub(limits::TICK);
    shard.stats.loop_ticks.inc();
    shard.stats.loop_stall_micros_max.raise_to(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
}
