//! The request on its way to the endpoint.

use std::cell::Cell;

use super::{
    relay::Ways,
    timing::{Timing, tag},
};
use crate::{
    base::reason::Reason,
    dataplane::{
        shard::Shard,
        socket::{Broken, Socket},
    },
    proto::h1::ChunkError,
};

/// How far the upload is, for the side that reads the response.
#[derive(Default)]
pub(super) struct UploadState {
    /// Whether the request has been sent completely.
    pub(super) is_done: Cell<bool>,
    /// Whether the response's head is being waited for right now.
    pub(super) head_is_awaited: Cell<bool>,
    /// Whether the client may be waiting for a 100 that has not come.
    pub(super) awaits_continue: Cell<bool>,
    /// Body bytes sent so far.
    pub(super) bytes: Cell<u64>,
    /// Whether the endpoint, not the client, made the upload fail: a response may still be there.
    pub(super) endpoint_refused: Cell<bool>,
}

/// Deadlines, blame and accounts of an upload.
pub(super) struct UploadWays<'a> {
    /// This core.
    pub(super) shard: &'a Shard,
    /// Where the body comes from.
    pub(super) client: &'a Socket,
    /// Where it goes.
    pub(super) endpoint: &'a Socket,
    /// How long each step may take.
    pub(super) timing: &'a Timing,
    /// Where the other side looks.
    pub(super) state: &'a UploadState,
    /// Body bytes at most.
    pub(super) bytes_max: u64,
}

impl UploadState {
    /// Why a write failed.
    pub(super) fn write_failed(&self, broken: Broken) -> Reason {
        match broken {
            Broken::Deadline(tag::ROUTE) => Reason::RouteTimeout,
            Broken::Deadline(_) => Reason::UpstreamTimeout,
            Broken::Reset | Broken::NoBuffer => {
                self.endpoint_refused.set(true);
                Reason::UpstreamClosed
            }
        }
    }
}

/// Sets the deadline of the next write to the endpoint.
pub(super) fn before_write(shard: &Shard, endpoint: &Socket, timing: &Timing) {
    let now_tick = shard.deadlines.now_tick();
    let (after, tag) = timing.at_most(timing.upstream, tag::UPSTREAM, now_tick);
    endpoint.write_within(after, tag);
}

impl Ways for UploadWays<'_> {
    /// While the client has the word, the endpoint's silence is not its fault.
    fn before_read(&self) {
        let now_tick = self.shard.deadlines.now_tick();
        let length = if self.state.awaits_continue.get() {
            self.timing.client.max(self.timing.upstream) // it is the endpoint that has the word
        } else {
            self.timing.client
        };
        let (after, tag) = self.timing.at_most(length, tag::CLIENT, now_tick);
        self.client.read_within(after, tag);
    }

    fn before_write(&self) {
        before_write(self.shard, self.endpoint, self.timing);
    }

    fn read_failed(&self, broken: Broken) -> Reason {
        match broken {
            Broken::Deadline(tag::ROUTE) => Reason::RouteTimeout,
            Broken::Deadline(_) => Reason::BodyTimeout,
            Broken::Reset => Reason::ClientGone,
            Broken::NoBuffer => Reason::Overloaded,
        }
    }

    fn write_failed(&self, broken: Broken) -> Reason {
        self.state.write_failed(broken)
    }

    fn ended_early(&self) -> Reason {
        Reason::ClientGone
    }

    fn is_cut(&self) -> bool {
        false
    }

    fn bad_chunk(&self, error: ChunkError) -> Reason {
        error.reason()
    }

    fn count(&self, payload: u64) {
        if payload > 0 {
            self.state.awaits_continue.set(false); // it has not waited, or not any longer
        }
        self.state.bytes.set(self.state.bytes.get() + payload);
    }

    fn is_too_long(&self) -> bool {
        self.state.bytes.get() > self.bytes_max
    }

    fn sent(&self) {}
}
