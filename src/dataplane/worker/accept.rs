//! Takes connections from a socket in batches and starts a task for each.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
};

use crate::{
    base::{ids::ListenerId, limits},
    dataplane::{
        proxy,
        shard::{Seat, Shard, Spread},
    },
    rt::{self, Accepted, Either, Listener},
    snapshot::messages::{FromWorker, ReportSender},
};

/// Sent to a client of a listener without TLS that is one too many, before its connection is closed.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nserver: ringway\r\n\
    x-ringway-reason: connection_limit\r\nretry-after: 1\r\ncontent-length: 0\r\n\
    connection: close\r\n\r\n";

/// A socket that connections are taken from, until it is told to stop.
#[derive(Clone)]
pub(super) struct Accepting {
    shard: Rc<Shard>,
    spread: Rc<Spread>,
    listener: Rc<Listener>,
    batch_max: usize,
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
        spread: &Rc<Spread>,
        listener: Listener,
        batch_max: usize,
        id: ListenerId,
        reports: &ReportSender,
    ) -> Self {
        let accepting = Self {
            shard: Rc::clone(shard),
            spread: Rc::clone(spread),
            listener: Rc::new(listener),
            batch_max,
            id,
            reports: reports.clone(),
            halt: Rc::default(),
        };
        accepting.clone().spawn();
        accepting
    }

    /// Lets nobody begin to connect any more. Who has begun is accepted until [`Accepting::close`]: a
    /// connection that is in the queue then would be reset.
    pub(super) fn take_no_more(&self) {
        // Without a filter a few are reset, as with any server that ends.
        let _ = self.listener.take_no_more();
    }

    /// Accepts what is in the queue and then no more. Connections that come later are refused by the
    /// kernel as soon as no core (and no successor) has a socket of this address.
    pub(super) fn close(self) {
        self.take_no_more();
        let mut batch = Vec::new();
        while let Ok(1..) = self.listener.accept_waiting(&mut batch, self.batch_max) {
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
        let mut batch = Vec::with_capacity(self.batch_max);
        let mut halted = pin!(self.halt.halted());
        loop {
            let accepted = {
                let next = pin!(self.listener.accept_batch(&mut batch, self.batch_max));
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

    fn admit_all(&self, batch: &mut Vec<Accepted>) {
        for accepted in batch.drain(..) {
            self.shard.stats.connections_accepted.inc();
            match self.spread.place(accepted, self.id) {
                Some((accepted, seat)) => {
                    admit(&self.shard, &self.reports, accepted, self.id, seat);
                }
                None => self.shard.stats.connections_handed.inc(),
            }
        }
    }
}

/// Starts serving a connection, or refuses it.
pub(super) fn admit(
    shard: &Rc<Shard>,
    reports: &ReportSender,
    accepted: Accepted,
    listener: ListenerId,
    seat: Seat,
) {
    let peer = accepted.peer;
    let stream = accepted.into_stream();
    let Some(place) = shard.take_place(listener, seat) else {
        shard.stats.connections_refused.inc();
        // Whoever waits for a handshake, or for an endpoint, would take it for something else.
        if shard.speaks_plain_http(listener) {
            let _ = stream.try_send(TOO_MANY);
        }
        return;
    };
    let (reports, at_panic) = (reports.clone(), Rc::clone(shard));
    let serving = proxy::serve(Rc::clone(shard), stream, peer, listener, place);
    rt::spawn_guarded(serving, move |place| {
        at_panic.stats.panics.inc();
        let core = at_panic.core;
        reports.send(FromWorker::Panicked { core, place: place.to_string().into() });
    });
}
