//! Copies of requests to another upstream, whose answers nobody sees.
//!
//! A copy is made before the request leaves, and sent by a task of its own: the request does not wait
//! for it, and whatever becomes of it changes nothing for the request. There are a bounded number of
//! them; a drain does not wait for any. Routes without `mirror` pay one branch.

use std::{cell::Cell, pin::pin, rc::Rc, sync::Arc};

use super::{
    connect::tls_of,
    exchange::Exchange,
    guard::Usable,
    links::{connect_stream, keep_limits},
    piece::{Sink, Source, next_piece},
    timing::tag,
};
use crate::{
    base::{ids::EndpointIndex, limits, reason::Reason},
    dataplane::{
        shard::{Shard, Wish},
        upstream::{EndpointPool, TlsWish, UpstreamConnection},
    },
    proto::{
        h1::{ChunkDecoder, Framing, HeadLimits, Method, Parse, ResponseHead, ResponseTo},
        proxy_protocol::Behalf,
    },
    rt::{self, Buf, Either, race},
    snapshot::{Mirror, Route, Upstream},
};

/// What tells a copy from the request, behind its other fields.
const MARK: &[u8] = b"x-ringway-mirror: 1\r\n\r\n";

const HEAD_LIMITS: HeadLimits = HeadLimits {
    bytes_max: limits::RESPONSE_HEAD_BYTES_MAX,
    count_max: limits::RESPONSE_HEADER_COUNT_MAX,
};

/// A copy on its way.
struct Shadow {
    shard: Rc<Shard>,
    upstream: Arc<Upstream>,
    endpoint: EndpointIndex,
    method: Method,
    /// Whom the endpoint is told about where the connection begins.
    behalf: Option<Behalf>,
    /// Head and body.
    bytes: Vec<u8>,
}

impl Drop for Shadow {
    fn drop(&mut self) {
        count_down(&self.shard.mirrors_open);
    }
}

fn count_down(open: &Cell<usize>) {
    open.set(open.get().saturating_sub(1));
}

impl Exchange<'_> {
    /// Sends a copy of the request, if it is one of those that are mirrored and can be copied.
    ///
    /// # Errors
    /// When the client failed while its body was received.
    pub(super) async fn mirror(&mut self, mirror: &Mirror, route: &Route) -> Result<(), Reason> {
        if self.shard.random() % 10_000 >= u64::from(mirror.share_per_10k) {
            return Ok(());
        }
        let stats = &self.shard.stats;
        if self.shard.mirrors_open.get() >= limits::MIRRORS_MAX_PER_CORE {
            stats.mirrored_full.inc();
            return Ok(());
        }
        if self.context.head.upgrade() || !self.keep_body(limits::MIRROR_BODY_BYTES_MAX).await? {
            self.shard.stats.mirrored_unfit.inc();
            return Ok(());
        }
        match self.copy(mirror, route) {
            Some(shadow) => rt::spawn_guarded(shadow.run(), self.shard.at_panic()),
            None => self.shard.stats.mirrored_failed.inc(),
        }
        Ok(())
    }

    /// The copy; `None` if there is no endpoint for it.
    fn copy(&mut self, mirror: &Mirror, route: &Route) -> Option<Shadow> {
        let (shard, table) = (self.shard, self.table);
        let upstream = table.snapshot.shared_upstream(mirror.upstream);
        let state = shard.upstreams.state(upstream);
        let wish = Wish { key: None, sticky: None, avoid: &[] };
        let endpoint = Usable::new(upstream, &state, shard).pick(&state, wish, shard.random())?;
        self.write_head(route, upstream, endpoint);
        let body = match self.context.head.framing() {
            Framing::Length(length) => usize::try_from(length).ok()?,
            _ => 0,
        };
        let body = self.client.input_bytes().get(self.head_bytes..self.head_bytes + body)?;
        let head = self.context.out.strip_suffix(b"\r\n")?;
        let bytes = [head, MARK, body].concat();
        let behalf = upstream.proxy_protocol.map(|version| self.client.behalf(version));
        let (upstream, method) = (Arc::clone(upstream), self.context.head.method());
        shard.mirrors_open.set(shard.mirrors_open.get() + 1);
        Some(Shadow { shard: Rc::clone(shard), upstream, endpoint, method, behalf, bytes })
    }
}

impl Shadow {
    /// Sends it and drops its answer, within the time that the upstream has to answer.
    async fn run(mut self) {
        let began = rt::turn_time();
        let stats = Arc::clone(&self.shard.stats);
        let (slot, within) = (self.upstream.stats, self.upstream.response_timeout);
        let is_answered = {
            let (sending, late) = (pin!(self.send()), pin!(rt::sleep(within)));
            matches!(race(sending, late).await, Either::Left(Ok(())))
        };
        let counter = if is_answered { &stats.mirrored_answered } else { &stats.mirrored_failed };
        counter.inc();
        let micros = (rt::turn_time() - began).as_micros();
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        stats.upstream(slot).record(micros, !is_answered);
    }

    async fn send(&mut self) -> Result<(), Reason> {
        let state = self.shard.upstreams.state(&self.upstream);
        let _lease = Rc::clone(&state).lease(self.endpoint);
        let pool = state.pool(self.endpoint).ok_or(Reason::UpstreamConnectFailed)?;
        let mut connection = self.connect(pool).await?;
        let within = self.upstream.response_timeout;
        connection.sent += self.bytes.len() as u64;
        connection.socket.write_within(within, tag::UPSTREAM);
        let sent = connection.socket.send_bytes(&mut self.bytes).await;
        sent.map_err(|_| Reason::UpstreamClosed)?;
        connection.socket.write_without_deadline();
        if self.drop_response(&connection).await? {
            let Shard { buffers, deadlines, stats, .. } = &*self.shard;
            pool.checkin(connection, keep_limits(&self.upstream), buffers, deadlines, stats);
        }
        Ok(())
    }

    async fn connect(&self, pool: &EndpointPool) -> Result<Box<UpstreamConnection>, Reason> {
        let Self { shard, upstream, endpoint, .. } = self;
        let deadlines = &shard.deadlines;
        let within = upstream.connect_timeout;
        let failed = |end: &_| shard.note_tls_failure(upstream, *endpoint, end);
        let tls = tls_of(upstream, *endpoint).map(|(tls, name)| {
            let buffers = &shard.buffers;
            TlsWish { tls, name, buffers, failed: &failed }
        });
        let state = shard.upstreams.state(upstream);
        let permit = || state.permit(upstream);
        if upstream.http2 {
            return match pool.links.try_stream() {
                Some(stream) => Ok(UpstreamConnection::of_stream(stream, deadlines)),
                None => connect_stream(shard, pool, upstream, tls, within, &permit).await,
            }
            .map(Box::new);
        }
        let (now_tick, stats) = (deadlines.now_tick(), &shard.stats);
        let kept = match &self.behalf {
            None => pool.checkout(true, now_tick, stats),
            Some(behalf) => pool.checkout_for(behalf, now_tick, stats),
        };
        if let Some(connection) = kept {
            return Ok(connection);
        }
        // A copy waits for nobody.
        let permit = permit().map_err(|_| Reason::UpstreamOverloaded)?;
        let behalf = self.behalf.as_ref();
        let made =
            UpstreamConnection::connect(pool.address, within, deadlines, behalf, tls).await?;
        Ok(Box::new(made.with_permit(permit)))
    }

    /// Reads the response to its end; whether the connection can serve another request.
    async fn drop_response(&self, connection: &UpstreamConnection) -> Result<bool, Reason> {
        let (mut head, mut input) = (ResponseHead::default(), None);
        let of = ResponseTo { method: self.method, upgrade: false };
        loop {
            head.clear();
            let head_bytes = loop {
                if let Some(buf) = &mut input {
                    let buf: &mut Buf = buf;
                    match head.parse(buf.data(), HEAD_LIMITS, of) {
                        Ok(Parse::Complete { head_bytes }) => break head_bytes,
                        Ok(Parse::Partial) => {}
                        Err(error) => return Err(error.upstream_reason()),
                    }
                }
                self.receive(connection, &mut input).await?;
            };
            drop_front(&mut input, head_bytes);
            if !head.is_interim() {
                break;
            }
        }
        let mut decoder = ChunkDecoder::default();
        let mut source = Source::new(head.framing(), &mut decoder);
        while !source.is_done() {
            let mut passed = 0;
            if let Some(buf) = &mut input {
                let before = buf.len();
                let piece = next_piece(buf, &mut source, Sink::Plain);
                let piece = piece.map_err(|error| error.upstream_reason())?;
                passed = before - buf.len() + piece.send + piece.skip;
                drop_front(&mut input, piece.send + piece.skip);
            }
            if passed == 0 && !source.is_done() {
                match (self.receive(connection, &mut input).await, &source) {
                    (Err(Reason::UpstreamClosed), Source::UntilClose) => return Ok(false),
                    (received, _) => received?,
                }
            }
        }
        Ok(head.keep_alive() && input.is_none())
    }

    async fn receive(
        &self,
        connection: &UpstreamConnection,
        input: &mut Option<Buf>,
    ) -> Result<(), Reason> {
        if let Some(buf) = input
            && buf.spare() == 0
        {
            buf.compact();
            if buf.spare() == 0 {
                return Err(Reason::UpstreamHeaderTooLarge);
            }
        }
        let socket = &connection.socket;
        socket.read_within(self.upstream.response_timeout, tag::UPSTREAM);
        let received = socket.fill(input, &self.shard.buffers).await;
        socket.read_without_deadline();
        match received {
            Ok(0) | Err(_) => Err(Reason::UpstreamClosed),
            Ok(_) => Ok(()),
        }
    }
}

fn drop_front(input: &mut Option<Buf>, bytes: usize) {
    if let Some(buf) = input {
        buf.consume(bytes);
        if buf.is_empty() {
            *input = None;
        }
    }
}
