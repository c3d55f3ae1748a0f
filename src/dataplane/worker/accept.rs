//! Takes connections from a socket in batches and starts a task for each.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
};

use crate::{
    base::{ids::ListenerId, limits},
    dataplane::{proxy, shard::Shard},
    rt::{self, Either, Listener, Stream},
    snapshot::messages::{FromWorker, ReportSender},
};

/// Sent to a client that is one too many, before its connection is closed.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nserver: ringway\r\n\
    x-ringway-reason: connection_limit\r\nretry-after: 1\r\ncontent-length: 0\r\n\
    connection: close\r\n\r\n";

/// A socket that connections are taken from, until it is told to stop.
#[derive(Clone)]
pub(super) struct Accepting {
    shard: Rc<Shard>,
    listener: Rc<Listener>,
    /// Which listener the socket belongs to.
    pub(super) id: ListenerId,
    reports: ReportSender,
    halt: Rc<Halt>,
}

/// Ends the task that waits for connections.
#[derive(Default)]
struct Halt {
    halted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Halt {
    fn halt(&self) {
        self.halted.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// # Cancel safety
    /// Cancel safe: it only looks.
    async fn halted(&self) {
        poll_fn(|cx| {
            if self.halted.get() {
                return Poll::Ready(());
            }
            self.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

impl Accepting {
    /// Starts accepting.
    pub(super) fn start(
        shard: &Rc<Shard>,
        listener: Listener,
        id: ListenerId,
        reports: &ReportSender,
    ) -> Self {
        let accepting = Self {
            shard: Rc::clone(shard),
            listener: Rc::new(listener),
            id,
            reports: reports.clone(),
            halt: Rc::default(),
        };
        accepting.clone().spawn();
        accepting
    }

    /// Accepts what is in the queue and then no more. Connections that come later are refused by the
    /// kernel as soon as no core (and no successor) has a socket of this address.
    pub(super) fn close(self) {
        let mut batch = Vec::new();
        while let Ok(1..) = self.listener.accept_waiting(&mut batch, limits::ACCEPT_BATCH) {
            self.admit_all(&mut batch);
        }
        self.listener.close();
        self.halt.halt();
    }

    /// Accepts no more; what is in the queue is for another process that has this socket.
    pub(super) fn hand_over(self) {
        self.halt.halt();
    }

    fn spawn(self) {
        let (again, panics) = (self.clone(), self.reports.clone());
        rt::spawn_guarded(self.run(), move |place| {
            let core = again.shard.core;
            again.shard.stats.panics.inc();
            panics.send(FromWorker::Panicked { core, place: place.to_string().into() });
            again.spawn(); // a core without its listener would be a dead core
        });
    }

    /// # Cancel safety
    /// Cancel safe: connections are taken and admitted without a wait in between.
    async fn run(self) {
        let mut batch = Vec::with_capacity(limits::ACCEPT_BATCH);
        let mut halted = pin!(self.halt.halted());
        loop {
            let accepted = {
                let next = pin!(self.listener.accept_batch(&mut batch, limits::ACCEPT_BATCH));
                rt::race(halted.as_mut(), next).await
            };
            match accepted {
                Either::Left(()) => return,
                Either::Right(Ok(_)) => {}
                // No descriptor or memory is free: some connection has to end first.
                Either::Right(Err(_)) => rt::sleep(limits::TICK).await,
            }
            self.admit_all(&mut batch);
        }
    }

    fn admit_all(&self, batch: &mut Vec<(Stream, SocketAddr)>) {
        for (stream, peer) in batch.drain(..) {
            self.admit(stream, peer);
        }
    }

    fn admit(&self, stream: Stream, peer: SocketAddr) {
        let shard = &self.shard;
        let stats = &shard.stats;
        stats.connections_accepted.inc();
        let Some(place) = shard.take_place(self.id) else {
            stats.connections_refused.inc();
            let _ = stream.try_send(TOO_MANY);
            return;
        };
        let reports = self.reports.clone();
        let (task, at_panic) = (Rc::clone(shard), Rc::clone(shard));
        rt::spawn_guarded(proxy::serve(task, stream, peer, self.id, place), move |place| {
            at_panic.stats.panics.inc();
            let core = at_panic.core;
            reports.send(FromWorker::Panicked { core, place: place.to_string().into() });
        });
    }
}
