//! The TLS handshake of a client's connection: bounded in time and number, and counted.

use std::{sync::Arc, time::Duration};

use crate::{
    base::{limits, reason::Reason},
    dataplane::{
        downstream::{Downstream, TlsFacts},
        shard::Shard,
        socket::{Broken, HandshakeEnd},
    },
    telemetry::CoreStats,
    tls::{Alpn, Failure, Kind, ServerTls},
};

/// Makes TLS of a connection that was just accepted. Afterwards requests can be read, also those
/// that came as early data.
///
/// # Errors
/// The connection is to end: with an answer in plain text, if there is a reason for one.
///
/// # Cancel safety
/// Not cancel safe: only drop it with the connection.
pub(super) async fn accept(
    shard: &Shard,
    client: &mut Downstream,
    tls: &Arc<ServerTls>,
) -> Result<Alpn, Option<Reason>> {
    let stats = &shard.stats;
    // A hello that stops half way holds a buffer: others get theirs nevertheless.
    let turns = limits::TLS_HANDSHAKES_MAX_PER_CORE.min(shard.buffers.count_max() / 4);
    let Some(_turn) = shard.handshakes.begin(turns) else {
        stats.tls_refused.inc();
        return Err(None);
    };
    let within = tls.handshake_timeout();
    client.socket.read_within(within, DEADLINE);
    client.socket.write_within(within, DEADLINE);
    let accepted =
        client.socket.accept_tls(tls, &shard.buffers, &shard.signing, &mut client.input).await;
    client.socket.read_without_deadline();
    client.socket.write_without_deadline();
    match accepted {
        Ok(name) => {
            let is_resumed = client.socket.with_session(|session| session.is_resumed());
            match is_resumed {
                Some(true) => stats.tls_resumed.inc(),
                _ => stats.tls_full.inc(),
            }
            client.tls = Some(TlsFacts { profile: tls.profile(name.as_deref()) });
            let alpn = client.socket.alpn();
            // Streams can't wait for the handshake of the connection that carries them.
            if alpn == Alpn::Http2 && client.socket.is_early() && !finish(client, within).await {
                stats.tls_closed.inc();
                return Err(None);
            }
            Ok(alpn)
        }
        Err(end) => {
            count(stats, &end);
            let reason = matches!(end, HandshakeEnd::PlainHttp).then_some(Reason::PlainHttp);
            if reason.is_none() {
                client.input = None;
            }
            Err(reason)
        }
    }
}

/// Waits for the end of a handshake that early data has overtaken. Whether it came.
///
/// # Cancel safety
/// As [`accept`].
pub(super) async fn finish(client: &mut Downstream, within: Duration) -> bool {
    client.socket.read_within(within, DEADLINE);
    let finished = client.socket.finish_handshake(&mut client.input).await;
    client.socket.read_without_deadline();
    finished.is_ok()
}

/// The tag of both deadlines.
const DEADLINE: u8 = 1;

fn count(stats: &CoreStats, end: &HandshakeEnd) {
    match end {
        HandshakeEnd::Silent => {} // a look whether somebody listens: no handshake was begun
        HandshakeEnd::Broken(Broken::Deadline(_)) => stats.tls_timeout.inc(),
        HandshakeEnd::Broken(Broken::Reset) => stats.tls_closed.inc(),
        HandshakeEnd::Broken(Broken::NoBuffer) => stats.tls_refused.inc(),
        HandshakeEnd::PlainHttp | HandshakeEnd::NotTls | HandshakeEnd::TooLong => {
            stats.tls_protocol.inc()
        }
        HandshakeEnd::Failed(failure) => count_failure(stats, failure),
    }
}

fn count_failure(stats: &CoreStats, failure: &Failure) {
    match failure.kind() {
        Kind::Incompatible => stats.tls_incompatible.inc(),
        Kind::Certificate => stats.tls_certificate.inc(),
        Kind::Alert => stats.tls_alert.inc(),
        Kind::Protocol => stats.tls_protocol.inc(),
        Kind::Other => stats.tls_other.inc(),
    }
}
