//! Takes connections from a listener in batches and starts a task for each.

use std::{net::SocketAddr, rc::Rc};

use crate::{
    base::{ids::ListenerIndex, limits},
    dataplane::{proxy, shard::Shard},
    rt::{self, Listener, Stream},
    snapshot::messages::{FromWorker, ReportSender},
};

/// Sent to a client that is one too many, before its connection is closed.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nserver: ringway\r\n\
    x-ringway-reason: connection_limit\r\nretry-after: 1\r\ncontent-length: 0\r\n\
    connection: close\r\n\r\n";

/// Accepts until the listener is closed.
pub(super) fn spawn(
    shard: Rc<Shard>,
    listener: Rc<Listener>,
    index: ListenerIndex,
    reports: ReportSender,
) {
    let (again, at_panic, panics) = (Rc::clone(&shard), Rc::clone(&listener), reports.clone());
    let accept = async move {
        let mut batch = Vec::with_capacity(limits::ACCEPT_BATCH);
        loop {
            match listener.accept_batch(&mut batch, limits::ACCEPT_BATCH).await {
                Ok(_) => {}
                Err(_) if shard.is_draining() => return,
                // No descriptor or memory is free: some connection has to end first.
                Err(_) => rt::sleep(limits::TICK).await,
            }
            for (stream, peer) in batch.drain(..) {
                admit(&shard, stream, peer, index, &reports);
            }
            if shard.is_draining() {
                return;
            }
        }
    };
    rt::spawn_guarded(accept, move |place| {
        let core = again.core;
        again.stats.panics.inc();
        panics.send(FromWorker::Panicked { core, place: place.to_string().into() });
        spawn(again, at_panic, index, panics); // a core without its listener would be a dead core
    });
}

/// Takes the connections that wait in the queue of a listener that is about to be closed, which
/// would reset them: their clients have been let in, and may have sent a request.
pub(super) fn take_last(
    shard: &Rc<Shard>,
    listener: &Listener,
    index: ListenerIndex,
    reports: &ReportSender,
) {
    let mut batch = Vec::with_capacity(limits::ACCEPT_BATCH);
    // An error ends it as well: what is left then can't be had.
    while listener.accept_waiting(&mut batch, limits::ACCEPT_BATCH).is_ok_and(|taken| taken > 0) {
        for (stream, peer) in batch.drain(..) {
            admit(shard, stream, peer, index, reports);
        }
    }
}

fn admit(
    shard: &Rc<Shard>,
    stream: Stream,
    peer: SocketAddr,
    index: ListenerIndex,
    reports: &ReportSender,
) {
    let stats = &shard.stats;
    stats.connections_accepted.inc();
    let Some(place) = shard.take_place(index) else {
        stats.connections_refused.inc();
        let _ = stream.try_send(TOO_MANY);
        return;
    };
    let reports = reports.clone();
    let (task, at_panic) = (Rc::clone(shard), Rc::clone(shard));
    rt::spawn_guarded(proxy::serve(task, stream, peer, index, place), move |place| {
        at_panic.stats.panics.inc();
        reports.send(FromWorker::Panicked { core: at_panic.core, place: place.to_string().into() });
    });
}
