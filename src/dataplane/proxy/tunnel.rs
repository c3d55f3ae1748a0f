//! Both directions of a connection whose protocol was switched (WebSocket and others), or that is
//! passed through: bytes pass as they come, each direction ends by itself.

use std::{cell::Cell, io::ErrorKind, pin::pin, time::Duration};

use super::timing::tag;
use crate::{
    base::limits,
    dataplane::{
        shard::Shard,
        socket::{Broken, Socket},
    },
    rt::{self, Buf, Either, Relayed, SpliceError, Stream, race, splice_exact},
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
    async fn run(&self, input: Option<Buf>) -> Result<(), Broken> {
        self.from.read_within(self.idle, tag::CLIENT);
        match Socket::spliceable(self.from, self.to) {
            Some(streams) => self.relay(streams, input).await?,
            None => self.pass(input).await?,
        }
        self.to.end_write().await;
        Ok(())
    }

    /// As they are: small messages one by one, what comes in bulk through a pipe.
    async fn relay(
        &self,
        (from, to): (&Stream, &Stream),
        mut input: Option<Buf>,
    ) -> Result<(), Broken> {
        loop {
            let (pool, messages) = (&self.shard.buffers, Messages(self));
            let relayed = rt::relay(from, to, input.take(), pool, LARGE_BYTES, &messages).await;
            match relayed.map_err(|error| self.broken(error)) {
                Ok(Relayed::Large) => {}
                Ok(Relayed::Ended) => return self.ended(),
                Err(broken) => return Err(broken),
            }
            if let Some(ended) = self.splice((from, to)).await {
                return ended;
            }
        }
    }

    /// Through TLS or HTTP/2: one piece after the other.
    async fn pass(&self, mut input: Option<Buf>) -> Result<(), Broken> {
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
            from.read_within(self.idle, tag::CLIENT);
            if from.fill(&mut input, &shard.buffers).await? == 0 {
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
    async fn splice(&self, (from, to): (&Stream, &Stream)) -> Option<Result<(), Broken>> {
        let mut pipe = self.shard.pipes.take()?;
        let burst = splice_exact(from, to, &mut pipe, SPLICE_BURST_BYTES, self).await;
        self.to.write_without_deadline();
        match burst {
            Ok(_) => None,
            Err(SpliceError::FromEnded) => Some(self.ended()),
            Err(error) => Some(Err(self.broken(error))),
        }
    }

    /// The sender has ended its side, or its deadline did.
    fn ended(&self) -> Result<(), Broken> {
        self.from.read_expired().map_or(Ok(()), |tag| Err(Broken::Deadline(tag)))
    }

    fn broken(&self, error: SpliceError) -> Broken {
        match error {
            SpliceError::To(_) => self.to.broken_write(),
            SpliceError::From(error) if error.kind() == ErrorKind::OutOfMemory => Broken::NoBuffer,
            SpliceError::From(_) | SpliceError::FromEnded => self.from.broken_read(),
        }
    }
}

/// From here on a message is taken for the begin of many bytes.
const LARGE_BYTES: usize = limits::BUFFER_BYTES / 2;

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

/// The same with messages that are copied. The receiver has a deadline only where it lets them wait:
/// most are taken at once.
struct Messages<'a>(&'a Way<'a>);

impl rt::Progress for Messages<'_> {
    fn before_receive(&self) {
        self.0.to.write_without_deadline();
    }

    fn before_send(&self) {
        self.0.to.write_within(self.0.idle, tag::CLIENT);
    }

    fn advance(&self, bytes: u64) {
        self.0.note(bytes);
        self.0.from.read_within(self.0.idle, tag::CLIENT);
    }
}
