//! One client connection: request after request until either side has enough.

use std::{net::SocketAddr, rc::Rc};

use super::{
    answer::{send, write_refusal},
    exchange::{Exchange, Reuse},
    finish::{self, Record},
    respond::Progress,
    upload::UploadState,
};
use crate::{
    base::{ids::ListenerId, reason::Reason},
    dataplane::{
        downstream::{Downstream, HeadEnd},
        shard::{Phase, Place, Shard, Watch},
    },
    proto::h1::Method,
    rt::Stream,
};

/// A client's connection under way.
struct Connection {
    /// Goes before the client: its descriptor must still be the client's.
    watch: Watch,
    client: Downstream,
    shard: Rc<Shard>,
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
    let watch = shard.connections.add(client.socket.fd(), listener);
    // Made here, not inside: what an async block captures is held once, its locals once more.
    let mut connection = Connection { watch, client, shard, _place: place };
    async move { connection.serve().await }
}

impl Connection {
    async fn serve(&mut self) {
        let end = loop {
            match self.serve_next().await {
                Reuse::Keep => {}
                end => break end,
            }
        };
        self.enter(Phase::Busy);
        // Boxed, like `refuse`: it happens once, and is not small.
        Box::pin(close(&self.shard, &mut self.client, end)).await;
    }

    /// Waits for a request and serves it.
    async fn serve_next(&mut self) -> Reuse {
        if self.shard.has_ended_idle() && self.client.input.is_none() {
            return Reuse::Close;
        }
        self.enter(Phase::Idle);
        if let Err(end) = self.wait().await {
            return Box::pin(self.refuse(end, false)).await;
        }
        self.enter(Phase::Busy);
        // The rules of the moment a request arrives, not of the moment its connection went idle.
        let Some(table) = self.shard.table_for(self.client.listener) else { return Reuse::Close };
        let Some((listener_index, listener)) = table.listener(self.client.listener) else {
            return Reuse::Close;
        };
        let mut context = self.shard.contexts.lease();
        let buffers = &self.shard.buffers;
        let head_bytes = match self.client.read_head(&mut context, buffers, &listener.limits).await
        {
            HeadEnd::Head(head_bytes) => head_bytes,
            end => {
                let to_head = context.head.method() == Method::Head;
                return Box::pin(self.refuse(end, to_head)).await;
            }
        };
        // In memory of its own: the task of an idle connection stays small.
        let exchange = self.shard.futures.place(|| {
            Exchange {
                shard: &self.shard,
                table: &table,
                listener,
                listener_index,
                client: &mut self.client,
                watch: &self.watch,
                context: &mut context,
                head_bytes,
                forwarded: false,
                upload: UploadState::default(),
                progress: Progress::default(),
                pool: None,
                record: Record::new(),
            }
            .run()
        });
        exchange.await
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

    /// Tells the client why its request could not be read.
    async fn refuse(&mut self, end: HeadEnd, to_head: bool) -> Reuse {
        let HeadEnd::Refused(reason) = end else { return Reuse::Close };
        let Some(table) = self.shard.table_for(self.client.listener) else { return Reuse::Close };
        let Some((_, listener)) = table.listener(self.client.listener) else { return Reuse::Close };
        let mut out = Vec::new();
        write_refusal(&self.shard, reason, to_head, &mut out);
        finish::refused(&self.shard, &self.client, &table, listener, reason);
        let sent = send(&self.client.socket, listener.limits.body_timeout, &mut out).await;
        match (sent, reason) {
            (true, Reason::HeaderTimeout) | (false, _) => Reuse::Close,
            (true, _) => Reuse::Linger,
        }
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
