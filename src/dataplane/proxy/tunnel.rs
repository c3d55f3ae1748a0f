//! Both directions of a connection whose protocol was switched (WebSocket and others): bytes pass
//! as they come, each direction ends by itself.

use std::{cell::Cell, pin::pin};

use super::timing::tag;
use crate::{
    base::limits,
    dataplane::{shard::Shard, socket::Socket},
    rt::{self, Buf, Either, SpliceError, race, splice_exact},
};

/// The two ends, with what each has already sent.
pub(super) struct Ends<'a> {
    pub(super) shard: &'a Shard,
    pub(super) client: &'a Socket,
    pub(super) client_input: Option<Buf>,
    pub(super) endpoint: &'a Socket,
    pub(super) endpoint_input: Option<Buf>,
}

/// Bytes moved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    pub(super) up: u64,
    pub(super) down: u64,
}

/// Moves bytes until both directions have ended, one has failed, or neither has moved anything for
/// [`limits::TUNNEL_IDLE_MAX`].
///
/// # Cancel safety
/// Not cancel safe: both sockets are of no use afterwards.
pub(super) async fn run(ends: Ends<'_>) -> Moved {
    let Ends { shard, client, client_input, endpoint, endpoint_input } = ends;
    let (up, down) = (Cell::new(0), Cell::new(0));
    {
        let mut upwards = pin!(direction(shard, client, endpoint, client_input, &up));
        let mut downwards = pin!(direction(shard, endpoint, client, endpoint_input, &down));
        // A direction that ended cleanly leaves the other one running.
        match race(upwards.as_mut(), downwards.as_mut()).await {
            Either::Left(true) => drop(downwards.await),
            Either::Right(true) => drop(upwards.await),
            Either::Left(false) | Either::Right(false) => {}
        }
    }
    client.shutdown();
    endpoint.shutdown();
    Moved { up: up.get(), down: down.get() }
}

/// Moves bytes one way until the sender closes its side, which the receiver is told. Whether it
/// ended so, and not by a failure.
async fn direction(
    shard: &Shard,
    from: &Socket,
    to: &Socket,
    mut input: Option<Buf>,
    moved: &Cell<u64>,
) -> bool {
    loop {
        let count = input.as_ref().map_or(0, Buf::len);
        if count > 0 {
            to.write_within(limits::TUNNEL_IDLE_MAX, tag::CLIENT);
            let sent = to.send(&mut input, count).await;
            to.write_without_deadline(); // who has nothing to send is not late with it
            if sent.is_err() {
                return false;
            }
            moved.set(moved.get() + count as u64);
            // Something moved: the silence of the other direction begins anew.
            to.read_within(limits::TUNNEL_IDLE_MAX, tag::CLIENT);
        }
        if count >= limits::BUFFER_BYTES / 2
            && let Some(ended) = splice(shard, from, to, moved).await
        {
            return ended;
        }
        from.read_within(limits::TUNNEL_IDLE_MAX, tag::CLIENT);
        match from.fill(&mut input, &shard.buffers).await {
            Ok(0) => {
                to.end_write().await;
                return true;
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

/// Bytes that move through a pipe before the direction is looked at again: small messages are
/// cheaper to copy, and others may need the pipe.
const SPLICE_BURST_BYTES: u64 = 1024 * 1024;

/// Moves a burst through a pipe. `None`: go on copying (no pipe is free, or the burst is over).
/// Otherwise whether the direction ended cleanly.
async fn splice(shard: &Shard, from: &Socket, to: &Socket, moved: &Cell<u64>) -> Option<bool> {
    let streams = Socket::spliceable(from, to)?;
    let mut pipe = shard.pipes.take()?;
    let steps = Steps { shard, from, to, moved };
    let burst = SPLICE_BURST_BYTES;
    let burst = splice_exact(streams.0, streams.1, &mut pipe, burst, &steps).await;
    to.write_without_deadline();
    match burst {
        Ok(_) => None,
        Err(SpliceError::FromEnded) if from.read_expired().is_none() => {
            to.end_write().await;
            Some(true)
        }
        Err(_) => Some(false),
    }
}

/// Moves the deadlines and the accounts along with a splice.
struct Steps<'a> {
    shard: &'a Shard,
    from: &'a Socket,
    to: &'a Socket,
    moved: &'a Cell<u64>,
}

impl rt::Progress for Steps<'_> {
    fn before_receive(&self) {
        self.to.write_without_deadline();
        self.from.read_within(limits::TUNNEL_IDLE_MAX, tag::CLIENT);
    }

    fn before_send(&self) {
        self.to.write_within(limits::TUNNEL_IDLE_MAX, tag::CLIENT);
    }

    fn advance(&self, bytes: u64) {
        self.moved.set(self.moved.get() + bytes);
        self.shard.stats.spliced_bytes.add(bytes);
        self.to.read_within(limits::TUNNEL_IDLE_MAX, tag::CLIENT);
    }
}
