//! One client connection: request after request until either side has enough.

use std::{net::SocketAddr, rc::Rc};

use super::{
    answer::{send, write_refusal},
    exchange::{Exchange, Reuse},
    finish::Record,
};
use crate::{
    base::{ids::ListenerIndex, reason::Reason},
    dataplane::{
        downstream::{Downstream, HeadEnd},
        shard::{Phase, Shard, Table},
    },
    rt::{PeerState, Stream},
    snapshot::Listener,
};

/// Serves a client until its connection ends.
///
/// # Cancel safety
/// Not cancel safe: a request under way would be lost. To end it, shut the socket down.
pub async fn serve(shard: Rc<Shard>, stream: Stream, peer: SocketAddr, listener: ListenerIndex) {
    let mut client = Downstream::new(stream, peer, listener, &shard.deadlines);
    // Declared after the client, so that it goes first: its descriptor must still be the client's.
    let watch = shard.connections.add(client.socket.stream.fd());
    let end = loop {
        let table = shard.table();
        let Some(listener) = table.snapshot.listeners.get(usize::from(listener.0)) else {
            break Reuse::Close;
        };
        if shard.is_draining() && client.input.is_none() {
            break Reuse::Close;
        }
        watch.enter(Phase::Idle, shard.deadlines.now_tick());
        if let Err(end) = client.wait(&shard.buffers, &listener.limits).await {
            break Box::pin(refuse(&shard, &mut client, &table, listener, end)).await;
        }
        watch.enter(Phase::Busy, shard.deadlines.now_tick());
        // The rules of the moment a request arrives, not of the moment its connection went idle.
        let table = shard.table();
        let Some(listener) = table.snapshot.listeners.get(usize::from(client.listener.0)) else {
            break Reuse::Close;
        };
        let mut context = shard.contexts.lease();
        let head_bytes =
            match client.read_head(&mut context, &shard.buffers, &listener.limits).await {
                HeadEnd::Head(head_bytes) => head_bytes,
                end => break Box::pin(refuse(&shard, &mut client, &table, listener, end)).await,
            };
        let exchange = Exchange {
            shard: &shard,
            table: &table,
            listener,
            client: &mut client,
            watch: &watch,
            context: &mut context,
            head_bytes,
            forwarded: false,
            upload: Default::default(),
            progress: Default::default(),
            record: Record::new(),
        };
        // In memory of its own: the task of an idle connection stays small.
        match shard.futures.place(|| exchange.run()).await {
            Reuse::Keep => {}
            end => break end,
        }
    };
    watch.enter(Phase::Busy, shard.deadlines.now_tick());
    Box::pin(close(&shard, &mut client, end)).await; // boxed like `refuse`: rare, and not small
}

/// Tells the client why its request could not be read.
async fn refuse(
    shard: &Shard,
    client: &mut Downstream,
    table: &Table,
    listener: &Listener,
    end: HeadEnd,
) -> Reuse {
    let HeadEnd::Refused(reason) = end else { return Reuse::Close };
    let mut out = Vec::new();
    write_refusal(shard, reason, &mut out);
    super::finish::refused(shard, client, table, listener, reason);
    let sent = send(&client.socket, listener.limits.body_timeout, &mut out).await;
    match (sent, reason) {
        (true, Reason::HeaderTimeout) | (false, _) => Reuse::Close,
        (true, _) => Reuse::Linger,
    }
}

async fn close(shard: &Shard, client: &mut Downstream, end: Reuse) {
    match end {
        Reuse::Reset => client.socket.stream.reset_on_close(),
        Reuse::Linger => client.linger(&shard.buffers).await,
        // Closing with unread bytes would reset the connection under the last answer.
        Reuse::Close | Reuse::Keep => {
            let unread = client.input.is_some()
                || matches!(client.socket.stream.peek_state(), PeerState::HasBytes);
            if unread {
                client.linger(&shard.buffers).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the future a function returns, without calling it.
    fn size_of_future<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_task_of_a_connection_is_small() {
        let bytes = size_of_future(serve);
        assert!(bytes <= 1100, "{bytes} bytes for each connection, idle or not");
    }
}
