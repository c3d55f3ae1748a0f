//! One request, from its head to its log line. The branches are here, the straight lines in the
//! files beside.

use std::{rc::Rc, time::Duration};

use super::{
    affinity::Affinity,
    browser::Browser,
    connect::Tried,
    finish::Record,
    respond::Progress,
    target::{self, Fields},
    timing::Timing,
    tls,
    upload::UploadState,
};
use crate::{
    base::{
        ids::{ListenerIndex, RouteIndex},
        reason::Reason,
    },
    dataplane::{
        context::RequestContext,
        downstream::Downstream,
        shard::{Lease, Shard, Table, Watch},
        upstream::{EndpointPool, UpstreamConnection},
    },
    policy::route::{RouteMatch, RouteQuery},
    proto::{
        grpc,
        h1::{Framing, Method},
    },
    snapshot::Listener,
};

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    /// It may send another request.
    Keep,
    /// It ends; nothing more is on its way to us.
    Close,
    /// It ends; the client may still be sending.
    Linger,
    /// It ends so that the client can tell that its response was cut.
    Reset,
}

/// One request and all it touches. What several of its steps need is here and not among their
/// arguments: those are kept twice by each future, and with many requests under way every line of
/// memory is a cold one.
pub(super) struct Exchange<'a> {
    pub(super) shard: &'a Rc<Shard>,
    /// Pinned: one version of the rules, start to end.
    pub(super) table: &'a Table,
    pub(super) listener: &'a Listener,
    /// Where the listener stands in that version.
    pub(super) listener_index: ListenerIndex,
    pub(super) client: &'a mut Downstream,
    pub(super) watch: &'a Watch,
    pub(super) context: &'a mut RequestContext,
    /// Bytes of the head at the front of the client's input, until it is forwarded.
    pub(super) head_bytes: usize,
    /// Whether the head (and what followed it) has left the client's input.
    pub(super) forwarded: bool,
    pub(super) upload: UploadState,
    pub(super) progress: Progress,
    /// The connection to the endpoint of this try.
    pub(super) connection: Option<Box<UpstreamConnection>>,
    /// The pooled connection was dead: another one could be, too.
    pub(super) fresh_only: bool,
    pub(super) tried: Tried,
    pub(super) timing: Timing,
    /// Where the connection to the endpoint goes when it is not needed any more.
    pub(super) pool: Option<Rc<EndpointPool>>,
    /// What ties the request to an endpoint.
    pub(super) affinity: Affinity,
    /// The endpoint it is with.
    pub(super) lease: Option<Lease>,
    pub(super) record: Record,
    /// When it is worth asking again, if that is known: milliseconds, for `Retry-After`.
    pub(super) retry_after_ms: Option<u64>,
    /// Bodies up to this many bytes are kept on any connection; 0: as the connection needs it.
    pub(super) replay_bytes_max: usize,
    pub(super) call: Option<Call>,
    /// What the route does for browsers, if it does anything.
    pub(super) browser: Option<Box<Browser>>,
}

/// A gRPC call, which has its own way to fail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// How long its client waits.
    pub(super) timeout: Option<Duration>,
}

impl Exchange<'_> {
    /// Serves the request. All paths meet at `finish`: each is counted and logged once.
    pub(super) async fn run(&mut self) -> Reuse {
        self.shard.stats.requests_in_flight.inc();
        self.remember_head();
        self.note_call();
        let result = match self.decide() {
            // Boxed, as it is rare, and is not small.
            Ok(route) if self.client.socket.is_early() => Box::pin(self.forward_early(route)).await,
            Ok(route) => self.forward(route).await,
            Err(reason) => Err(reason),
        };
        let reuse = match result {
            Ok(reuse) => reuse,
            Err(reason) => self.fail(reason).await,
        };
        self.lease = None;
        self.settle();
        self.finish();
        reuse
    }

    /// A request that came before its TLS handshake had ended: it waits for that, unless its route
    /// takes it as it is. Source: RFC 8470 §3.
    async fn forward_early(&mut self, route: RouteIndex) -> Result<Reuse, Reason> {
        let extra = self.table.snapshot.route(route).extra.as_deref();
        if !extra.is_some_and(|extra| extra.early_data)
            && !tls::finish(self.client, self.listener.limits.header_timeout).await
        {
            return Err(Reason::ClientGone);
        }
        self.forward(route).await
    }

    /// Whether this is a gRPC call; only HTTP/2 carries them.
    fn note_call(&mut self) {
        if !self.client.socket.is_stream() {
            return;
        }
        let bytes = self.client.input_bytes();
        let head = &self.context.head;
        if head.field_values(bytes, b"content-type").next().is_some_and(grpc::is_call) {
            let timeout = head.field_values(bytes, b"grpc-timeout").next();
            self.call = Some(Call { timeout: timeout.and_then(grpc::parse_timeout) });
        }
    }

    /// Which route takes the request.
    fn decide(&mut self) -> Result<RouteIndex, Reason> {
        let head = &self.context.head;
        match (head.method(), head.max_forwards()) {
            (Method::Connect, _) => return Err(Reason::ConnectRefused),
            (Method::Trace | Method::Options, Some(0)) => return Err(Reason::MaxForwards),
            // An extended CONNECT for what is not passed on would be a plain GET, which nobody asked for.
            _ if self.client.socket.is_tunnel() && !head.upgrade() => {
                return Err(Reason::UpgradeUnsupported);
            }
            _ => {}
        }
        let bytes = self.client.input_bytes();
        target::normalise(self.context, bytes, self.listener.merge_slashes)?;
        if let Some(tls) = &self.listener.tls
            && !tls.has_one_profile()
            && tls.profile(std::str::from_utf8(&self.context.host).ok())
                != self.client.tls.and_then(|facts| facts.profile)
        {
            return Err(Reason::Misdirected);
        }
        if self.context.head.method() == Method::Options
            && self.is_preflight()
            && let Some(reason) = self.preflight()
        {
            return Err(reason);
        }
        let bytes = self.client.input_bytes();
        let RequestContext { head, host, path, captures, .. } = &mut *self.context;
        let query = RouteQuery {
            listener: self.listener_index,
            host,
            path,
            query: head.query(bytes),
            method: head.method_bytes(bytes),
            fields: &Fields { head, bytes },
        };
        let route = match self.table.snapshot.table.find(&query, captures) {
            RouteMatch::Found(route) => route,
            RouteMatch::MethodNotAllowed => return Err(Reason::MethodNotAllowed),
            RouteMatch::NotFound => return Err(Reason::NoRoute),
        };
        self.record.route = Some(route);
        if let Some(extra) = self.table.snapshot.route(route).extra.as_deref()
            && (extra.cors.is_some() || extra.grpc_web)
        {
            self.note_browser(extra);
        }
        match self.context.head.framing() {
            Framing::Length(length) if length > self.listener.limits.body_bytes_max => {
                Err(Reason::BodyTooLarge)
            }
            _ => Ok(route),
        }
    }

    /// Brings what the two directions noted into the record.
    fn settle(&mut self) {
        self.record.bytes_in = self.upload.bytes.get();
        if self.progress.status != 0 {
            self.record.status = self.progress.status;
            self.record.bytes_out = self.progress.bytes;
        }
    }
}
