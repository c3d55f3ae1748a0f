//! One client connection that speaks HTTP/2: each of its streams is a task that serves one request as
//! if it had come over a connection of its own.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use super::connection::{refuse, serve_request};
use crate::{
    base::{ids::ListenerId, limits},
    dataplane::{
        downstream::{Downstream, TlsFacts},
        shard::{Phase, Shard, Watch},
        socket::Socket,
        streams::{Accepted, Carrier, CarrierEnd, CarrierLimits, Stream, StreamGuard},
    },
    rt,
    snapshot::ListenerLimits,
};

/// What the streams of a connection have in common.
struct Carried {
    shard: Rc<Shard>,
    peer: SocketAddr,
    local: Rc<SocketAddr>,
    peer_text: Rc<[u8]>,
    listener: ListenerId,
    tls: Option<TlsFacts>,
}

/// Serves the streams of a client until its connection ends.
///
/// # Cancel safety
/// Not cancel safe: requests under way would be lost. To end it, shut the socket down.
pub(super) async fn serve(
    shard: &Rc<Shard>,
    client: Downstream,
    watch: &Watch,
    limits: &ListenerLimits,
) {
    let local = Rc::new(client.local());
    let Downstream { socket, input, peer, peer_text, listener, tls, .. } = client;
    let shared = Rc::clone(shard);
    let carried = Rc::new(Carried { shard: shared, peer, local, peer_text, listener, tls });
    let opened = Carrier::open(
        Rc::new(socket),
        input,
        &shard.buffers,
        &shard.deadlines,
        &shard.held,
        carrier_limits(limits),
    );
    let Some(mut carrier) = opened.await else { return };
    shard.stats.http2_connections.inc();
    let random = || shard.random();
    let end = poll_fn(|cx| {
        watch.wake_to_leave(cx);
        carrier.begin_turn(cx, shard.is_draining() || watch.is_leaving());
        let ended = poll_turn(&carried, &mut carrier, &random, cx);
        let phase = if carrier.open_count() == 0 { Phase::Idle } else { Phase::Carrying };
        watch.enter(phase, shard.deadlines.now_tick());
        ended
    })
    .await;
    if end == CarrierEnd::Violation {
        shard.stats.http2_violations.inc();
    }
    watch.enter(Phase::Carrying, shard.deadlines.now_tick());
    carrier.close(&shard.buffers).await;
}

/// One turn of a connection: begins the streams that have come. Ready when it has ended.
fn poll_turn(
    carried: &Rc<Carried>,
    carrier: &mut Carrier,
    random: &dyn Fn() -> u64,
    cx: &mut Context<'_>,
) -> Poll<CarrierEnd> {
    let stats = &carried.shard.stats;
    for _ in 0..limits::H2_STREAMS_BEGUN_AT_ONCE {
        match ready!(carrier.poll_next(cx, random)) {
            Ok(Accepted::Stream(stream, guard)) => spawn(carried, stream, guard),
            Ok(Accepted::Malformed(_)) => stats.http2_streams_malformed.inc(),
            Ok(Accepted::Refused) => stats.http2_streams_refused.inc(),
            Err(end) => return Poll::Ready(end),
        }
    }
    cx.waker().wake_by_ref(); // for the rest, when others have had their turn
    Poll::Pending
}

fn carrier_limits(limits: &ListenerLimits) -> CarrierLimits {
    CarrierLimits {
        streams_max: limits.streams_max,
        header_bytes_max: limits.header_bytes_max,
        head_within: limits.header_timeout,
        idle: limits.idle_timeout,
        write_within: limits.body_timeout,
    }
}

/// Serves a stream in a task of its own.
fn spawn(carried: &Rc<Carried>, stream: Rc<Stream>, guard: StreamGuard) {
    let serving = serve_stream(Rc::clone(carried), stream, guard);
    rt::spawn_guarded(serving, carried.shard.at_panic());
}

/// Serves the one request of a stream. A client that resets it has gone: what the endpoint does for
/// it is cancelled.
async fn serve_stream(carried: Rc<Carried>, stream: Rc<Stream>, guard: StreamGuard) {
    let shard = &carried.shard;
    shard.stats.http2_streams.inc();
    let watch = shard.connections.add(stream.handle(), carried.listener);
    let mut client = Downstream {
        socket: Socket::of_stream(Rc::clone(&stream)),
        input: None,
        peer: carried.peer,
        local: Some(Rc::clone(&carried.local)),
        peer_text: Rc::clone(&carried.peer_text),
        listener: carried.listener,
        tls: carried.tls,
    };
    {
        let mut serving = pin!(serve_one(shard, &mut client, &watch));
        let mut has_begun = false;
        let mut is_reset = false;
        let mut is_cancelled = false;
        poll_fn(|cx| {
            if !has_begun {
                has_begun = true;
                is_reset = stream.poll_reset(cx).is_ready();
                // What was given up before anybody looked at it costs no endpoint anything.
                return if is_reset { Poll::Ready(()) } else { serving.as_mut().poll(cx) };
            }
            if serving.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            is_reset = is_reset || stream.poll_reset(cx).is_ready();
            if is_reset && !is_cancelled {
                is_cancelled = watch.cancel();
            }
            Poll::Pending
        })
        .await;
        if stream.is_malformed() {
            shard.stats.http2_streams_malformed.inc();
        } else if is_reset {
            shard.stats.http2_streams_reset.inc();
        }
    }
    drop(guard);
}

async fn serve_one(shard: &Rc<Shard>, client: &mut Downstream, watch: &Watch) {
    if let Err((end, to_head)) = serve_request(shard, client, watch).await {
        Box::pin(refuse(shard, client, end, to_head)).await; // rare, and not small
    }
}
