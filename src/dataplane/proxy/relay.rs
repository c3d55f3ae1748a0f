//! Moves one body from one socket to the other, in bounded memory: the next receive begins when the
//! last send is done. The same loop serves uploads and downloads; what differs is in [`Ways`].

use std::{cell::Cell, future::poll_fn, pin::pin, task::Poll};

use super::piece::{Piece, Sink, Source, next_piece};
use crate::{
    base::reason::Reason,
    dataplane::{
        shard::Shard,
        socket::{Broken, Socket},
    },
    proto::{
        grpc_web::Recoder,
        h1::{ChunkError, LAST_CHUNK, write_chunk_size},
    },
    rt::{self, Buf, Pipe, SpliceError, splice_exact},
};

/// What an upload and a download do differently: deadlines, blame, accounts.
pub(super) trait Ways {
    /// Sets the deadline of the next read.
    fn before_read(&self);
    /// Sets the deadline of the next write.
    fn before_write(&self);
    /// Why a read failed.
    fn read_failed(&self, broken: Broken) -> Reason;
    /// Why a write failed.
    fn write_failed(&self, broken: Broken) -> Reason;
    /// Why the source must not end here.
    fn ended_early(&self) -> Reason;
    /// Whether ringway itself ended the source, so that its end ends no body.
    fn is_cut(&self) -> bool;
    /// Why a chunk was refused.
    fn bad_chunk(&self, error: ChunkError) -> Reason;
    /// Accounts for body bytes.
    fn count(&self, payload: u64);
    /// Whether more body bytes have come than may.
    fn is_too_long(&self) -> bool;
    /// Notes that the receiver took something.
    fn sent(&self);
}

/// One body on its way.
pub(super) struct Relay<'a, W> {
    /// This core.
    pub(super) shard: &'a Shard,
    /// Where the body comes from.
    pub(super) from: &'a Socket,
    /// Where it goes.
    pub(super) to: &'a Socket,
    /// What has been received already; what is left when the body ends stays there.
    pub(super) input: &'a mut Option<Buf>,
    /// The head that goes first; empty when it has gone.
    pub(super) head: &'a mut Vec<u8>,
    /// How the body arrives.
    pub(super) source: Source<'a>,
    /// How it leaves.
    pub(super) sink: Sink,
    /// What writes its payload anew, if that is needed.
    pub(super) recode: Option<&'a mut Recoder>,
    /// Deadlines, blame, accounts.
    pub(super) ways: W,
}

impl<W: Ways> Relay<'_, W> {
    /// Sends the head and the whole body.
    ///
    /// # Errors
    /// The first thing that went wrong, on either side.
    ///
    /// # Cancel safety
    /// Not cancel safe: both sockets are of no use afterwards.
    pub(super) async fn run(&mut self) -> Result<(), Reason> {
        if self.recode.is_some() {
            return Box::pin(self.run_recoded()).await;
        }
        loop {
            let piece = self.next_piece()?;
            self.ways.count(piece.payload as u64);
            if self.ways.is_too_long() {
                return Err(Reason::BodyTooLarge);
            }
            self.send(piece).await?;
            if self.source.is_done() {
                return Ok(());
            }
            if let Some(pipe) = self.pipe() {
                self.splice(pipe).await?;
                continue;
            }
            if self.fill().await? == 0 {
                return self.end_by_close().await;
            }
        }
    }

    /// The same for a body whose payload is written anew, piece by piece.
    async fn run_recoded(&mut self) -> Result<(), Reason> {
        let mut payload = Vec::new();
        loop {
            let piece = match self.input {
                Some(buf) if !buf.is_empty() => next_piece(buf, &mut self.source, Sink::Plain)
                    .map_err(|error| self.ways.bad_chunk(error))?,
                _ => Piece::default(),
            };
            self.ways.count(piece.payload as u64);
            if self.ways.is_too_long() {
                return Err(Reason::BodyTooLarge);
            }
            payload.clear();
            if let Some(recode) = &mut self.recode {
                let bytes = self.input.as_ref().map_or(&[][..], Buf::data);
                let written = recode.write(&bytes[..piece.payload], &mut payload);
                let ended = match self.source.is_done() {
                    true => recode.end(self.source.trailers(), &mut payload),
                    false => Ok(()),
                };
                written.and(ended).map_err(|_| Reason::BadRequest)?;
            }
            self.write_payload(&payload);
            skip(self.input, piece.send + piece.skip);
            if !self.head.is_empty() {
                self.send_head().await?;
            }
            if self.source.is_done() {
                return Ok(());
            }
            if self.fill().await? == 0 {
                return Err(self.ways.ended_early());
            }
        }
    }

    /// Puts payload behind what is due, in the framing of the receiver.
    fn write_payload(&mut self, payload: &[u8]) {
        if self.sink == Sink::Plain {
            self.head.extend_from_slice(payload);
            return;
        }
        if !payload.is_empty() {
            let mut line = [0; 18];
            let length = write_chunk_size(&mut line, payload.len());
            self.head.extend_from_slice(&line[..length]);
            self.head.extend_from_slice(payload);
            self.head.extend_from_slice(b"\r\n");
        }
        if self.source.is_done() {
            append_end(self.head, &[]);
        }
    }

    fn next_piece(&mut self) -> Result<Piece, Reason> {
        match self.input {
            Some(buf) if !buf.is_empty() => next_piece(buf, &mut self.source, self.sink)
                .map_err(|error| self.ways.bad_chunk(error)),
            _ => Ok(Piece::default()),
        }
    }

    /// Sends what is due: the head if it has not gone, the piece, the last chunk. Head and piece
    /// leave in one send where the head fits in front of the piece.
    async fn send(&mut self, piece: Piece) -> Result<(), Reason> {
        let mut count = piece.send;
        if count > 0 && !self.head.is_empty() {
            let fits = self.input.as_mut().is_some_and(|buf| buf.prepend(self.head));
            if fits {
                count += self.head.len();
                self.head.clear();
            }
        }
        let end_is_due = self.sink == Sink::Chunks && self.source.is_done() && !piece.ended;
        if count == 0 && end_is_due {
            append_end(self.head, self.source.trailers());
        }
        if !self.head.is_empty() {
            self.send_head().await?;
        }
        if count > 0 {
            self.ways.before_write();
            let sent = self.to.send(self.input, count).await;
            self.to.write_without_deadline();
            sent.map_err(|broken| self.ways.write_failed(broken))?;
            self.ways.sent();
        }
        if piece.skip > 0 {
            skip(self.input, piece.skip);
        }
        if count > 0 && end_is_due {
            append_end(self.head, self.source.trailers());
            self.send_head().await?;
        }
        Ok(())
    }

    async fn send_head(&mut self) -> Result<(), Reason> {
        self.ways.before_write();
        let sent = self.to.send_bytes(self.head).await;
        self.to.write_without_deadline();
        self.head.clear();
        sent.map_err(|broken| self.ways.write_failed(broken))?;
        self.ways.sent();
        Ok(())
    }

    async fn fill(&mut self) -> Result<usize, Reason> {
        if let Some(buf) = self.input.as_mut()
            && buf.spare() == 0
        {
            buf.compact(); // an unfinished chunk line at the very end of the buffer
        }
        if self.to.is_pressed() {
            return Box::pin(self.fill_as_taken()).await; // it waits anyway
        }
        self.ways.before_read();
        let received = self.from.fill(self.input, &self.shard.buffers).await;
        self.from.read_without_deadline(); // it is not its turn while the other side is written to
        received.map_err(|broken| self.ways.read_failed(broken))
    }

    /// As [`Relay::fill`] for a receiver for which much waits: what it has no room for stays with the
    /// sender, but for a few bytes that may be the end, which needs none. Room is kept only while bytes are there to
    /// fill it, as others may have a use for it.
    #[cold]
    async fn fill_as_taken(&mut self) -> Result<usize, Reason> {
        #[derive(PartialEq)]
        enum WaitsFor {
            Nothing,
            Room,
            Bytes,
        }
        let Self { shard, from, to, input, ways, source, .. } = self;
        let to_the_end = source.bytes_to_the_end();
        let max = Cell::new(0);
        let mut filling = pin!(from.fill_at_most(input, &shard.buffers, &max));
        let mut waits_for = WaitsFor::Nothing;
        let filled = poll_fn(|cx| {
            match to.poll_room(cx) {
                Poll::Ready(Ok(room)) => max.set(room),
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(ways.write_failed(broken))),
                Poll::Pending if to_the_end > 0 => max.set(to_the_end),
                Poll::Pending => {
                    if std::mem::replace(&mut waits_for, WaitsFor::Room) != WaitsFor::Room {
                        from.read_without_deadline();
                        ways.before_write();
                    }
                    return Poll::Pending;
                }
            }
            let filled = filling.as_mut().poll(cx);
            if filled.is_pending() {
                to.leave_room();
                if std::mem::replace(&mut waits_for, WaitsFor::Bytes) != WaitsFor::Bytes {
                    to.write_without_deadline();
                    ways.before_read();
                }
            }
            filled.map_err(|broken| ways.read_failed(broken))
        });
        let filled = filled.await;
        from.read_without_deadline();
        to.write_without_deadline();
        filled
    }

    async fn end_by_close(&mut self) -> Result<(), Reason> {
        if !matches!(self.source, Source::UntilClose) || self.ways.is_cut() {
            return Err(self.ways.ended_early());
        }
        self.source = Source::Length(0);
        self.send(Piece::default()).await
    }

    /// A pipe, if what is left of the body is worth moving through one and one is free.
    fn pipe(&self) -> Option<Pipe> {
        match self.source {
            Source::Length(left)
                if left >= self.shard.splice_bytes_min
                    && self.sink == Sink::Plain
                    && self.input.is_none()
                    && Socket::spliceable(self.from, self.to).is_some() =>
            {
                self.shard.pipes.take()
            }
            _ => None,
        }
    }

    /// Moves the rest of a body of known length without it passing through user space.
    async fn splice(&mut self, mut pipe: Pipe) -> Result<(), Reason> {
        let Source::Length(left) = self.source else { return Ok(()) };
        let (from, to) = (self.from, self.to);
        let Some(streams) = Socket::spliceable(from, to) else { return Ok(()) };
        let steps = Steps { ways: &self.ways, shard: self.shard, from, to };
        let moved = splice_exact(streams.0, streams.1, &mut pipe, left, &steps).await;
        // Both sockets may live on: nothing of this body may end what comes after it.
        from.read_without_deadline();
        to.write_without_deadline();
        match moved {
            Ok(_) => {
                self.source = Source::Length(0);
                Ok(())
            }
            Err(SpliceError::FromEnded) => Err(match from.read_expired() {
                Some(tag) => self.ways.read_failed(Broken::Deadline(tag)),
                None => self.ways.ended_early(),
            }),
            Err(SpliceError::From(_)) => Err(self.ways.read_failed(from.broken_read())),
            Err(SpliceError::To(_)) => Err(self.ways.write_failed(to.broken_write())),
        }
    }
}

/// Moves the deadlines and the accounts along with a splice.
struct Steps<'a, W> {
    ways: &'a W,
    shard: &'a Shard,
    from: &'a Socket,
    to: &'a Socket,
}

impl<W: Ways> rt::Progress for Steps<'_, W> {
    fn before_receive(&self) {
        self.to.write_without_deadline();
        self.ways.before_read();
    }

    fn before_send(&self) {
        self.from.read_without_deadline();
        self.ways.before_write();
    }

    fn advance(&self, bytes: u64) {
        self.ways.count(bytes);
        self.shard.stats.spliced_bytes.add(bytes);
        self.ways.sent();
    }
}

fn append_end(out: &mut Vec<u8>, trailers: &[u8]) {
    if trailers.is_empty() {
        out.extend_from_slice(LAST_CHUNK);
    } else {
        out.extend_from_slice(b"0\r\n");
        out.extend_from_slice(trailers);
        out.extend_from_slice(b"\r\n");
    }
}

fn skip(input: &mut Option<Buf>, count: usize) {
    if let Some(buf) = input {
        buf.consume(count);
        if buf.is_empty() {
            *input = None;
        }
    }
}
