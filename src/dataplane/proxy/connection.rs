//! One client connection: request after request until either side has enough.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use super::{
    affinity::Affinity,
    answer::{send, write_refusal},
    connect::Tried,
    exchange::{Exchange, Reuse},
    finish::{self, Record},
    http2, pass,
    respond::Progress,
    timing::Timing,
    tls,
    upload::UploadState,
};
use crate::{
    base::{ids::ListenerId, reason::Reason},
    dataplane::{
        downstream::{Downstream, HeadEnd},
        shard::{Phase, Place, Shard, Watch},
    },
    proto::{h1::Method, h2::is_preface},
    rt::Stream,
    tls::{Alpn, ServerTls},
};

/// A client's connection under way.
struct Connection {
    /// Goes before the client: its descriptor must still be the client's.
    watch: Watch,
    client: Downstream,
    shard: Rc<Shard>,
    /// No request has been served yet.
    is_first: bool,
    _place: Place,
}

/// Serves a client until its connection ends.
///
/// # Cancel safety
/// Not cancel safe: a request under way would be lost. To end it, shut the socket down.
pub fn serve(
    shard: Rc<Shard>,
    stream: Stream,
    peer: SocketAddr,
    listener: ListenerId,
    place: Place,
) -> impl Future<Output = ()> {
    let client = Downstream::new(stream, peer, listener, &shard.deadlines);
    let watch = shard.connections.add(client.socket.handle(), listener);
    // Made here, not inside: what an async block captures is held once, its locals once more.
    let mut connection = Connection { watch, client, shard, is_first: true, _place: place };
    async move {
        match connection.serve().await {
            // Boxed, like `refuse`: it happens once, and is not small.
            Next::Http2 => Box::pin(connection.serve_http2()).await,
            Next::Pass => Box::pin(connection.pass()).await,
            Next::End(end) => Box::pin(close(&connection.shard, &mut connection.client, end)).await,
            Next::Request => {}
        }
    }
}

/// What comes after a request.
enum Next {
    /// Another one.
    Request,
    /// The end of the connection.
    End(Reuse),
    /// The client speaks HTTP/2.
    Http2,
    /// It is passed through.
    Pass,
}

impl Connection {
    /// Serves requests until there are no more of them.
    async fn serve(&mut self) -> Next {
        match self.begin().await {
            Next::Request => {}
            next => return next,
        }
        loop {
            match self.serve_next().await {
                Next::Request => {}
                next => {
                    self.enter(Phase::Busy);
                    return next;
                }
            }
        }
    }

    /// Makes the connection one that requests can come over.
    async fn begin(&mut self) -> Next {
        if self.is_proxied() && !Box::pin(self.learn_origin()).await {
            self.shard.stats.proxy_headers_refused.inc();
            return Next::End(Reuse::Reset);
        }
        if self.shard.is_passed_through(self.client.listener) {
            return Next::Pass;
        }
        let Some(tls) = self.tls() else { return Next::Request };
        self.enter(Phase::Busy);
        // Boxed, as it happens once, and is not small.
        match Box::pin(tls::accept(&self.shard, &mut self.client, &tls)).await {
            Ok(Alpn::Http2) => Next::Http2,
            Ok(Alpn::Http11) => Next::Request,
            Err(Some(reason)) => {
                let end = HeadEnd::Refused(reason);
                Next::End(Box::pin(refuse(&self.shard, &mut self.client, end, false)).await)
            }
            Err(None) => Next::End(Reuse::Linger),
        }
    }

    /// Whether the listener's connections begin with a PROXY protocol header.
    fn is_proxied(&self) -> bool {
        self.shard.table_for(self.client.listener).is_some_and(|table| {
            table.listener(self.client.listener).is_some_and(|(_, rules)| rules.proxy_protocol)
        })
    }

    /// Takes the client's address from the balancer in front; whether it could.
    async fn learn_origin(&mut self) -> bool {
        self.enter(Phase::Busy);
        let Some(table) = self.shard.table_for(self.client.listener) else { return false };
        let Some((_, rules)) = table.listener(self.client.listener) else { return false };
        let within = rules.limits.header_timeout;
        self.client.learn_origin(&self.shard.buffers, &rules.trusted_proxies, within).await
    }

    /// The TLS of the listener, if it has any.
    fn tls(&self) -> Option<Arc<ServerTls>> {
        let table = self.shard.table_for(self.client.listener)?;
        table.listener(self.client.listener)?.1.tls.clone()
    }

    async fn pass(mut self) {
        let end = pass::serve(&self.shard, &mut self.client, &self.watch).await;
        close(&self.shard, &mut self.client, end).await;
    }

    async fn serve_http2(self) {
        let Self { watch, client, shard, _place, .. } = self;
        let Some(table) = shard.table_for(client.listener) else { return };
        let Some((_, listener)) = table.listener(client.listener) else { return };
        let limits = listener.limits;
        drop(table);
        http2::serve(&shard, client, &watch, &limits).await;
    }

    /// Waits for a request and serves it.
    async fn serve_next(&mut self) -> Next {
        if self.shard.has_ended_idle() && self.client.input.is_none() {
            return Next::End(Reuse::Close);
        }
        if self.is_first && self.offers() == Some((false, true)) {
            return Next::Http2;
        }
        self.enter(Phase::Idle);
        if let Err(end) = self.wait().await {
            return Next::End(Box::pin(refuse(&self.shard, &mut self.client, end, false)).await);
        }
        self.enter(Phase::Busy);
        match serve_request(&self.shard, &mut self.client, &self.watch).await {
            Ok(Reuse::Keep) => {
                self.is_first = false;
                Next::Request
            }
            Ok(end) => Next::End(end),
            Err((HeadEnd::Refused(_), _)) if self.speaks_http2() => Next::Http2,
            Err((end, to_head)) => {
                Next::End(Box::pin(refuse(&self.shard, &mut self.client, end, to_head)).await)
            }
        }
    }

    /// Whether what could not be read as a request is the beginning of HTTP/2, where that is spoken.
    fn speaks_http2(&self) -> bool {
        self.is_first
            && self.client.tls.is_none() // where it is agreed on beforehand
            && is_preface(self.client.input_bytes())
            && matches!(self.offers(), Some((_, true)))
    }

    /// Whether HTTP/1 and HTTP/2 are spoken here.
    fn offers(&self) -> Option<(bool, bool)> {
        let table = self.shard.table_for(self.client.listener)?;
        let (_, listener) = table.listener(self.client.listener)?;
        Some((listener.http1, listener.http2))
    }

    /// Waits for the first byte of a request.
    async fn wait(&mut self) -> Result<(), HeadEnd> {
        let Some(idle_timeout) = self.shard.table_for(self.client.listener).and_then(|table| {
            table.listener(self.client.listener).map(|(_, rules)| rules.limits.idle_timeout)
        }) else {
            return Err(HeadEnd::Closed);
        };
        self.client.wait(&self.shard.buffers, idle_timeout).await
    }

    fn enter(&self, phase: Phase) {
        self.watch.enter(phase, self.shard.deadlines.now_tick());
    }
}

/// Serves the request that has begun to arrive.
///
/// # Errors
/// When its head could not be read, and whether it could be seen to be a HEAD.
pub(super) async fn serve_request(
    shard: &Rc<Shard>,
    client: &mut Downstream,
    watch: &Watch,
) -> Result<Reuse, (HeadEnd, bool)> {
    // The rules of the moment a request arrives, not of the moment its connection went idle.
    let Some(table) = shard.table_for(client.listener) else { return Ok(Reuse::Close) };
    let Some((listener_index, listener)) = table.listener(client.listener) else {
        return Ok(Reuse::Close);
    };
    let mut context = shard.contexts.lease();
    context.head.clear();
    let head = client.read_head(&mut context, &shard.buffers, &listener.limits).await;
    let HeadEnd::Head(head_bytes) = head else {
        let to_head = context.head.method() == Method::Head;
        return Err((head, to_head));
    };
    // In memory of its own: the task of an idle connection stays small.
    let exchange = shard.futures.place(|| {
        let timeout = listener.limits.body_timeout;
        let mut exchange = Exchange {
            shard,
            table: &table,
            listener,
            listener_index,
            client,
            watch,
            context: &mut context,
            head_bytes,
            forwarded: false,
            upload: UploadState::default(),
            progress: Progress::default(),
            connection: None,
            fresh_only: false,
            tried: Tried::default(),
            timing: Timing::new(timeout, timeout, None, 0), // until its route is known
            pool: None,
            affinity: Affinity::default(),
            lease: None,
            record: Record::new(),
            call: None,
            browser: None,
            replay_bytes_max: 0,
            retry_after_ms: None,
        };
        async move { exchange.run().await }
    });
    Ok(exchange.await)
}

/// Tells the client why its request could not be read.
pub(super) async fn refuse(
    shard: &Shard,
    client: &mut Downstream,
    end: HeadEnd,
    to_head: bool,
) -> Reuse {
    let HeadEnd::Refused(reason) = end else { return Reuse::Close };
    let Some(table) = shard.table_for(client.listener) else { return Reuse::Close };
    let Some((_, listener)) = table.listener(client.listener) else { return Reuse::Close };
    let mut out = Vec::new();
    write_refusal(shard, reason, to_head, &mut out);
    finish::refused(shard, client, &table, listener, reason);
    let sent = send(&client.socket, listener.limits.body_timeout, &mut out).await;
    match (sent, reason) {
        (true, Reason::HeaderTimeout) | (false, _) => Reuse::Close,
        (true, _) => Reuse::Linger,
    }
}

async fn close(shard: &Shard, client: &mut Downstream, end: Reuse) {
    match end {
        Reuse::Reset => client.socket.reset_on_close(),
        Reuse::Linger => client.linger(&shard.buffers).await,
        // Closing with unread bytes would reset the connection under the last answer.
        Reuse::Close | Reuse::Keep => {
            if client.input.is_some() || client.socket.has_input() {
                client.linger(&shard.buffers).await;
            } else {
                client.socket.say_goodbye().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the future a function returns, without calling it.
    fn size_of_future<A, B, C, D, E, F>(_: impl Fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_task_of_a_connection_is_small() {
        let bytes = size_of_future(serve);
        assert!(bytes <= 1000, "{bytes} bytes for each connection, idle or not");
    }
}
