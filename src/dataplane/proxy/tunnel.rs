//! Both directions of a connection whose protocol was switched (WebSocket and others), or that is
//! passed through: bytes pass as they come, each direction ends by itself.

use std::{cell::Cell, pin::pin, time::Duration};

use super::timing::tag;
use crate::{
    base::limits,
    dataplane::{
        shard::Shard,
        socket::{Broken, Socket},
    },
    rt::{self, Buf, Either, SpliceError, race, splice_exact},
};

/// The two ends, with what each has already sent.
pub(super) struct Ends<'a> {
    pub(super) shard: &'a Shard,
    pub(super) client: &'a Socket,
    pub(super) client_input: Option<Buf>,
    pub(super) endpoint: &'a Socket,
    pub(super) endpoint_input: Option<Buf>,
    /// How long neither may send anything.
    pub(super) idle: Duration,
}

/// Bytes moved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    pub(super) up: u64,
    pub(super) down: u64,
    /// Whether one of the two has failed: what was sent may not have arrived.
    pub(super) is_cut: bool,
}

/// Moves bytes until both directions have ended, one has failed, or neither has moved anything for
/// `idle`. Where one has failed the sockets are left as they are, to be reset.
///
/// # Cancel safety
/// Not cancel safe: both sockets are of no use afterwards.
pub(super) async fn run(ends: Ends<'_>) -> Moved {
    let Ends { shard, client, client_input, endpoint, endpoint_input, idle } = ends;
    let (up, down) = (Cell::new(0), Cell::new(0));
    let result = {
        let upwards = Way { shard, from: client, to: endpoint, moved: &up, idle };
        let downwards = Way { shard, from: endpoint, to: client, moved: &down, idle };
        let mut upwards = pin!(upwards.run(client_input));
        let mut downwards = pin!(downwards.run(endpoint_input));
        // A direction that ended cleanly leaves the other one running.
        match race(upwards.as_mut(), downwards.as_mut()).await {
            Either::Left(Ok(())) => downwards.await,
            Either::Right(Ok(())) => upwards.await,
            Either::Left(failed) | Either::Right(failed) => failed,
        }
    };
    let is_cut = result == Err(Broken::Reset);
    if !is_cut {
        client.shutdown();
        endpoint.shutdown();
    }
    Moved { up: up.get(), down: down.get(), is_cut }
}

/// One direction.
struct Way<'a> {
    shard: &'a Shard,
    from: &'a Socket,
    to: &'a Socket,
    moved: &'a Cell<u64>,
    idle: Duration,
}

impl Way<'_> {
    /// Moves bytes until the sender closes its side, which the receiver is told.
    async fn run(&self, mut input: Option<Buf>) -> Result<(), Broken> {
        let Self { shard, from, to, .. } = *self;
        loop {
            let count = input.as_ref().map_or(0, Buf::len);
            if count > 0 {
                to.write_within(self.idle, tag::CLIENT);
                let sent = to.send(&mut input, count).await;
                to.write_without_deadline(); // who has nothing to send is not late with it
                sent?;
                self.note(count as u64);
            }
            if count >= limits::BUFFER_BYTES / 2
                && let Some(ended) = self.splice().await
            {
                return ended;
            }
            from.read_within(self.idle, tag::CLIENT);
            if from.fill(&mut input, &shard.buffers).await? == 0 {
                to.end_write().await;
                return Ok(());
            }
        }
    }

    /// Something moved: the silence of the other direction begins anew.
    fn note(&self, bytes: u64) {
        self.moved.set(self.moved.get() + bytes);
        self.to.read_within(self.idle, tag::CLIENT);
    }

    /// Moves a burst through a pipe. `None`: go on copying (no pipe is free, or the burst is over).
    /// Otherwise how the direction ended.
    async fn splice(&self) -> Option<Result<(), Broken>> {
        let Self { shard, from, to, .. } = *self;
        let streams = Socket::spliceable(from, to)?;
        let mut pipe = shard.pipes.take()?;
        let burst = SPLICE_BURST_BYTES;
        let burst = splice_exact(streams.0, streams.1, &mut pipe, burst, self).await;
        to.write_without_deadline();
        match burst {
            Ok(_) => None,
            Err(SpliceError::FromEnded) if from.read_expired().is_none() => {
                to.end_write().await;
                Some(Ok(()))
            }
            Err(SpliceError::To(_)) => Some(Err(to.broken_write())),
            Err(_) => Some(Err(from.broken_read())),
        }
    }
}

/// Bytes that move through a pipe before the direction is looked at again: small messages are
/// cheaper to copy, and others may need the pipe.
const SPLICE_BURST_BYTES: u64 = 1024 * 1024;

/// Moves the deadlines and the accounts along with a splice.
impl rt::Progress for Way<'_> {
    fn before_receive(&self) {
        self.to.write_without_deadline();
        self.from.read_within(self.idle, tag::CLIENT);
    }

    fn before_send(&self) {
        self.to.write_within(self.idle, tag::CLIENT);
    }

    fn advance(&self, bytes: u64) {
        self.shard.stats.spliced_bytes.add(bytes);
        self.note(bytes);
    }
}
