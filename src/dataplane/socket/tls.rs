//! TLS between a wire and those who read and write plaintext.
//!
//! An idle connection holds no buffer: ciphertext lies in a pooled one only while a record is
//! incomplete, plaintext only until it is asked for. What arrives is taken in completely at once; so
//! what is left is always less than a record, and writing never meets plaintext on its way.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::{Future, poll_fn},
    io::ErrorKind,
    pin::{Pin, pin},
    task::{Poll, ready},
};

use super::{Broken, Wire};
use crate::{
    base::limits,
    rt::{Buf, BufPool},
    tls::{Alpn, Failure, Session, alert},
};

/// Why a handshake did not come to its end.
#[derive(Debug)]
pub enum HandshakeEnd {
    /// The connection ended, or its time was up.
    Broken(Broken),
    /// The peer closed before it had said anything.
    Silent,
    /// The client speaks plain HTTP.
    PlainHttp,
    /// The first bytes are no TLS.
    NotTls,
    /// A message of the handshake is longer than those that are taken.
    TooLong,
    /// What the other side sent, or did not have, rules it out. It was told so.
    Failed(Failure),
}

impl fmt::Display for HandshakeEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(Broken::Deadline(_)) => f.write_str("it took too long"),
            Self::Broken(_) | Self::Silent => f.write_str("the peer closed the connection"),
            Self::PlainHttp | Self::NotTls => f.write_str("the peer does not speak TLS"),
            Self::TooLong => f.write_str("the peer sent a message that is too long"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

/// The TLS side of a connection.
pub(super) struct Tls {
    state: RefCell<State>,
    /// Whether a send is under way: nobody else may write to the socket then.
    sending: Cell<bool>,
    /// Plaintext bytes until our end of the connection, where that is known.
    ends_after: Cell<u64>,
    /// Plaintext bytes sent since the connection was last idle, and the tick of the last ones.
    burst: Cell<(u32, u64)>,
    pool: BufPool,
}

struct State {
    session: Session,
    /// What has arrived and is not yet a whole record.
    cipher: Option<Buf>,
    /// What was decrypted and not yet asked for.
    plain: Option<Buf>,
    failed: bool,
}

impl Tls {
    /// A session whose first bytes may have arrived already.
    pub(super) fn new(session: Session, cipher: Option<Buf>, pool: &BufPool) -> Self {
        let state = State { session, cipher, plain: None, failed: false };
        Self {
            state: RefCell::new(state),
            sending: Cell::new(false),
            ends_after: Cell::new(u64::MAX),
            burst: Cell::new((0, 0)),
            pool: pool.clone(),
        }
    }

    /// Goes on with the handshake to its end, or until early data has come. Plaintext that comes
    /// with it goes into `slot`.
    ///
    /// # Cancel safety
    /// Not cancel safe: a part of an answer may have been sent.
    pub(super) async fn handshake(
        &self,
        wire: &Wire,
        slot: &mut Option<Buf>,
        accept_early: bool,
    ) -> Result<(), HandshakeEnd> {
        loop {
            let taken = self.take_in(slot);
            if let Err(TakeIn::Failed(failure)) = taken {
                return Err(self.give_up(wire, failure).await);
            }
            if !(matches!(taken, Ok(1..)) && self.may_wait()) {
                self.flush(wire).await.map_err(HandshakeEnd::Broken)?;
            }
            if taken.is_err() {
                return Err(HandshakeEnd::Broken(Broken::NoBuffer));
            }
            {
                let state = self.state.borrow();
                let early = accept_early && state.session.is_early();
                if !state.session.is_handshaking() || early {
                    drop(state);
                    self.give_room_back();
                    return Ok(());
                }
            }
            if self.is_cramped()
                && self.is_full()
                && let Err(end) = self.make_room()
            {
                if !self.with_session(Session::has_begun) {
                    wire.alert(alert::DECODE_ERROR); // otherwise it would have to be encrypted
                }
                return Err(end);
            }
            match self.receive(wire).await {
                Ok(0) => return Err(HandshakeEnd::Broken(wire.broken_read())),
                Ok(_) => {}
                Err(broken) => return Err(HandshakeEnd::Broken(broken)),
            }
        }
    }

    /// Tells the peer why the handshake has failed.
    ///
    /// # Cancel safety
    /// As [`Tls::send`].
    pub(super) async fn give_up(&self, wire: &Wire, failure: Failure) -> HandshakeEnd {
        match self.flush(wire).await {
            Ok(()) => HandshakeEnd::Failed(failure),
            Err(broken) => HandshakeEnd::Broken(broken),
        }
    }

    /// Whether what is pending can go with the answer to a request that is here: tickets.
    fn may_wait(&self) -> bool {
        let session = &self.state.borrow().session;
        session.is_server() && session.is_tls13() && !session.is_handshaking()
    }

    /// As [`super::Socket::fill`].
    ///
    /// # Cancel safety
    /// Cancel safe: what has arrived is kept.
    pub(super) async fn fill(&self, wire: &Wire, slot: &mut Option<Buf>) -> Result<usize, Broken> {
        loop {
            if let Some(count) = self.take_plain(slot) {
                return Ok(count);
            }
            {
                let state = self.state.borrow();
                if state.session.peer_closed() {
                    return Ok(0);
                }
                if state.failed {
                    return Err(Broken::Reset);
                }
            }
            if self.receive(wire).await? == 0 {
                return Err(wire.broken_read()); // cut off: no close_notify came
            }
            let taken = self.take_in(slot);
            self.push_pending(wire);
            match taken {
                Ok(0) => {}
                Ok(count) => return Ok(count),
                Err(TakeIn::NoBuffer) => return Err(Broken::NoBuffer),
                Err(TakeIn::Failed(_)) => return Err(Broken::Reset),
            }
        }
    }

    /// Whether there is no room behind an incomplete message.
    fn is_cramped(&self) -> bool {
        self.state.borrow().cipher.as_ref().is_some_and(|buf| buf.spare() == 0)
    }

    /// Whether what is left of an incomplete message fills its buffer, so that no more of it can come.
    fn is_full(&self) -> bool {
        let cipher = &mut self.state.borrow_mut().cipher;
        cipher.as_mut().is_some_and(|buf| {
            buf.compact();
            buf.spare() == 0
        })
    }

    /// Finds more room for an incomplete message.
    #[cold]
    fn make_room(&self) -> Result<(), HandshakeEnd> {
        self.state.borrow_mut().cipher.as_mut().map_or(Ok(()), make_room)
    }

    /// After the handshake no message is large.
    fn give_room_back(&self) {
        if let Some(buf) = &mut self.state.borrow_mut().cipher {
            buf.reduce(&self.pool);
        }
    }

    /// Receives behind what is left of an incomplete record. 0 at the end of the stream.
    ///
    /// # Cancel safety
    /// Cancel safe: the buffer stays here while it waits.
    async fn receive(&self, wire: &Wire) -> Result<usize, Broken> {
        if self.is_cramped() && self.is_full() {
            return Err(Broken::Reset); // a handshake message that fits nowhere
        }
        let received = poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            pin!(wire.stream.fill(&mut state.cipher, &self.pool)).poll(cx)
        });
        match received.await {
            Ok(0) if wire.read_deadline.fired().is_some() => Err(wire.broken_read()),
            Ok(count) => Ok(count),
            Err(error) if error.kind() == ErrorKind::OutOfMemory => Err(Broken::NoBuffer),
            Err(_) => Err(wire.broken_read()),
        }
    }

    /// Takes in what has arrived. Returns the plaintext bytes that came into `slot`.
    fn take_in(&self, slot: &mut Option<Buf>) -> Result<usize, TakeIn> {
        let State { session, cipher, plain, failed } = &mut *self.state.borrow_mut();
        let mut filled = 0;
        let mut lost = false;
        let mut keep = |bytes: &[u8]| {
            let mut rest = bytes;
            if plain.is_none() {
                let count = put(slot, &self.pool, rest);
                filled += count;
                rest = &rest[count..];
            }
            lost |= put(plain, &self.pool, rest) < rest.len();
        };
        let result = match cipher {
            Some(buf) => session.receive(buf.data_mut(), &mut keep),
            None => session.receive(&mut [], &mut keep),
        };
        match result {
            Ok(used) => {
                if let Some(buf) = cipher {
                    buf.consume(used);
                    if buf.is_empty() {
                        *cipher = None;
                    }
                }
                if lost {
                    *failed = true;
                    return Err(TakeIn::NoBuffer);
                }
                Ok(filled)
            }
            Err(failure) => {
                *cipher = None;
                *failed = true;
                Err(TakeIn::Failed(failure))
            }
        }
    }

    /// Gives out plaintext that waits; `None` if there is none.
    fn take_plain(&self, slot: &mut Option<Buf>) -> Option<usize> {
        let plain = &mut self.state.borrow_mut().plain;
        let waiting = plain.as_mut()?;
        match slot {
            Some(buf) if !buf.is_empty() => {
                let count = waiting.len().min(buf.spare());
                buf.append(&waiting.data()[..count]);
                waiting.consume(count);
                if waiting.is_empty() {
                    *plain = None;
                }
                Some(count)
            }
            slot => {
                let count = waiting.len();
                *slot = plain.take();
                Some(count)
            }
        }
    }

    /// Sends `bytes`, and what is pending before and after them.
    ///
    /// # Cancel safety
    /// Not cancel safe: a part may have been sent.
    pub(super) fn send<'a>(
        &'a self,
        wire: &'a Wire,
        mut bytes: &'a [u8],
    ) -> impl Future<Output = Result<(), Broken>> + 'a {
        self.send_sealed(wire, move || {
            let sealed = self.seal(wire, bytes)?;
            Ok(sealed.map(|(used, out)| {
                bytes = &bytes[used..];
                out
            }))
        })
    }

    /// The same with the first `count` bytes of `slot`, whose buffer is given back as soon as all of
    /// it is in records: whoever takes the next one finds it in the cache.
    ///
    /// # Cancel safety
    /// As [`Tls::send`].
    pub(super) fn send_from<'a>(
        &'a self,
        wire: &'a Wire,
        slot: &'a mut Option<Buf>,
        mut count: usize,
    ) -> impl Future<Output = Result<(), Broken>> + 'a {
        self.send_sealed(wire, move || {
            let bytes = slot.as_ref().map_or(&[][..], |buf| &buf.data()[..count]);
            let Some((used, out)) = self.seal(wire, bytes)? else { return Ok(None) };
            count -= used;
            if let Some(buf) = slot {
                buf.consume(used);
            }
            if slot.as_ref().is_some_and(Buf::is_empty) {
                *slot = None;
            }
            Ok(Some(out))
        })
    }

    /// Sends one buffer of records after the other. Not an async fn: that would hold each of them
    /// twice.
    fn send_sealed<'a>(
        &'a self,
        wire: &'a Wire,
        mut next: impl FnMut() -> Result<Option<Buf>, Broken> + 'a,
    ) -> impl Future<Output = Result<(), Broken>> + 'a {
        let mut sending = None;
        poll_fn(move |cx| {
            loop {
                let under_way = match &mut sending {
                    Some(under_way) => under_way,
                    idle => {
                        let Some(out) = next()? else { return Poll::Ready(Ok(())) };
                        let count = out.len();
                        self.sending.set(true);
                        idle.insert(wire.stream.send(out, count))
                    }
                };
                let (result, _) = ready!(Pin::new(under_way).poll(cx));
                self.sending.set(false);
                sending = None;
                if result.is_err() {
                    return Poll::Ready(Err(wire.broken_write()));
                }
            }
        })
    }

    /// Our side ends behind the next `bytes`: the close_notify leaves with the last of them.
    pub(super) fn end_after(&self, bytes: u64) {
        self.ends_after.set(bytes);
    }

    /// Sends what is pending.
    ///
    /// # Cancel safety
    /// As [`Tls::send`].
    pub(super) async fn flush(&self, wire: &Wire) -> Result<(), Broken> {
        self.send(wire, &[]).await
    }

    /// The next buffer to be sent, with the plaintext bytes it holds; `None` if there is nothing.
    fn seal(&self, wire: &Wire, bytes: &[u8]) -> Result<Option<(usize, Buf)>, Broken> {
        let State { session, cipher, failed, .. } = &mut *self.state.borrow_mut();
        if bytes.is_empty() && session.pending().is_empty() {
            return Ok(None);
        }
        let mut out = self.pool.take().ok_or(Broken::NoBuffer)?;
        let record = self.record_bytes(wire.read_deadline.now_tick(), bytes.len());
        let input = cipher.as_mut().map_or(&mut [][..], Buf::data_mut);
        let mut used = 0;
        let mut result = Ok(());
        let until_end = self.ends_after.get();
        out.write(|room| match session.seal(input, bytes, record, room) {
            Ok((taken, filled)) => {
                used = taken;
                if taken as u64 == until_end {
                    session.close(input);
                    return filled + session.take_pending(&mut room[filled..]);
                }
                filled
            }
            Err(failure) => {
                result = Err(failure);
                0
            }
        });
        if result.is_err() {
            *failed = true;
            return Err(Broken::Reset);
        }
        if until_end != u64::MAX {
            self.ends_after.set(until_end.saturating_sub(used as u64));
        }
        Ok(Some((used, out)))
    }

    /// How long records may be. The first bytes after a pause go in small ones, so that the peer can
    /// use what one segment brings; then they grow, as each costs the same however long it is.
    fn record_bytes(&self, now_tick: u64, bytes: usize) -> usize {
        let (mut sent, last_tick) = self.burst.get();
        if now_tick.wrapping_sub(last_tick) > limits::TLS_BURST_PAUSE_TICKS {
            sent = 0;
        }
        let grown = sent.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.burst.set((grown, now_tick));
        match sent as usize {
            0..limits::TLS_SMALL_RECORDS_BYTES => limits::TLS_SMALL_RECORD_BYTES,
            _ => limits::TLS_RECORD_BYTES,
        }
    }

    /// Sends what is pending (an alert, a key update, a ticket) as far as the socket takes it now; the
    /// rest goes with the next write, and all of it if one is under way.
    fn push_pending(&self, wire: &Wire) {
        let session = &mut self.state.borrow_mut().session;
        if self.sending.get() || session.pending().is_empty() {
            return;
        }
        if let Ok(count) = wire.stream.try_send(session.pending()) {
            session.sent(count);
        }
    }

    /// Sends a close_notify.
    ///
    /// # Cancel safety
    /// As [`Tls::send`].
    pub(super) async fn close(&self, wire: &Wire) {
        {
            let State { session, cipher, failed, .. } = &mut *self.state.borrow_mut();
            if *failed || self.sending.get() {
                return; // the peer was told, or is not listening
            }
            session.close(cipher.as_mut().map_or(&mut [][..], Buf::data_mut));
        }
        let _ = self.flush(wire).await;
    }

    /// The same as far as it goes without waiting.
    pub(super) fn close_now(&self, wire: &Wire) {
        {
            let State { session, cipher, failed, .. } = &mut *self.state.borrow_mut();
            if *failed || self.sending.get() {
                return;
            }
            session.close(cipher.as_mut().map_or(&mut [][..], Buf::data_mut));
        }
        self.push_pending(wire);
    }

    /// Whether nothing has come but what the session takes for itself (tickets, key updates).
    pub(super) fn is_quiet(&self, wire: &Wire) -> bool {
        let mut asked = false;
        loop {
            {
                let state = self.state.borrow();
                if state.failed || state.session.peer_closed() || state.plain.is_some() {
                    return false;
                }
            }
            if wire.stream.is_quiet() {
                return true;
            }
            if asked || !self.take_arrived(wire) {
                return false;
            }
            asked = true;
            if !matches!(self.take_in(&mut None), Ok(0)) {
                return false; // it is over, or something came that nobody has asked for
            }
            self.push_pending(wire);
        }
    }

    /// Receives what is there, without waiting. Whether it was something.
    fn take_arrived(&self, wire: &Wire) -> bool {
        let cipher = &mut self.state.borrow_mut().cipher;
        if cipher.is_none() {
            *cipher = self.pool.take();
        }
        cipher.as_mut().is_some_and(|buf| matches!(wire.stream.try_recv(buf), Ok(1..)))
    }

    /// Whether plaintext waits to be asked for.
    pub(super) fn has_plain(&self) -> bool {
        self.state.borrow().plain.is_some()
    }

    /// Whether what was given out came before the handshake had ended.
    pub(super) fn is_early(&self) -> bool {
        self.state.borrow().session.is_early()
    }

    /// The protocol that was agreed on.
    pub(super) fn alpn(&self) -> Alpn {
        self.state.borrow().session.alpn()
    }

    /// Looks at the session.
    pub(super) fn with_session<T>(&self, look: impl FnOnce(&Session) -> T) -> T {
        look(&self.state.borrow().session)
    }
}

/// Moves the beginning of a handshake message that fits into no ordinary buffer to a larger one, of which
/// there are few.
#[cold]
pub(super) fn make_room(buf: &mut Buf) -> Result<(), HandshakeEnd> {
    if !buf.has_larger() {
        return Err(HandshakeEnd::TooLong);
    }
    match buf.enlarge() {
        true => Ok(()),
        false => Err(HandshakeEnd::Broken(Broken::NoBuffer)),
    }
}

/// Why what has arrived could not be taken in.
enum TakeIn {
    NoBuffer,
    Failed(Failure),
}

/// Appends to a buffer as much as fits; how much that was.
fn put(slot: &mut Option<Buf>, pool: &BufPool, bytes: &[u8]) -> usize {
    if bytes.is_empty() {
        return 0;
    }
    if slot.is_none() {
        *slot = pool.take();
    }
    let Some(buf) = slot else { return 0 };
    let count = bytes.len().min(buf.spare());
    buf.append(&bytes[..count]);
    count
}
