//! The response on its way to the client: interim heads, the final head, the body.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use super::{
    browser::ForBrowser,
    piece::{Sink, Source},
    relay::{Relay, Ways},
    retry::Retries,
    timing::{Timing, tag, ticks_long},
    upload::UploadState,
};
use crate::{
    base::{limits, reason::Reason},
    dataplane::{
        shard::{Shard, Watch},
        socket::{Broken, Socket},
    },
    policy::pace::Pace,
    proto::{
        grpc,
        h1::{
            ChunkDecoder, ChunkError, Framing, HeadLimits, Method, Parse, ResponseForward,
            ResponseHead, ResponseTo, Version, write_response_head,
        },
    },
    rt::{self, Buf},
};

/// Bounds on the head of a response.
const HEAD_LIMITS: HeadLimits = HeadLimits {
    bytes_max: limits::RESPONSE_HEAD_BYTES_MAX,
    count_max: limits::RESPONSE_HEADER_COUNT_MAX,
};

/// What is known of the response, also when it ends early.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// The endpoint has sent at least a byte: it has seen the request.
    pub(super) endpoint_spoke: bool,
    /// The endpoint has ended its side in order, with a FIN.
    pub(super) endpoint_ended: bool,
    /// The status of the final head, once it is on its way to the client; 0 before.
    pub(super) status: u16,
    /// Whether the client can tell a cut body from a whole one only by a reset.
    pub(super) is_close_delimited: bool,
    /// Body bytes sent.
    pub(super) bytes: u64,
    /// A gRPC call failed, inside a response whose status is 200.
    pub(super) call_failed: bool,
    /// When the final head arrived.
    pub(super) head_at: Option<Instant>,
}

/// How a response ended that was passed on whole.
pub(super) enum Responded {
    /// All of it was sent.
    Whole {
        /// Whether the endpoint's connection can serve another request.
        endpoint_reusable: bool,
        /// Whether the client was told that its connection stays open.
        client_keeps: bool,
    },
    /// Nothing was passed on: its status asks for another try.
    Refused {
        /// The status.
        status: u16,
        /// Whether the endpoint's connection can serve another request.
        endpoint_reusable: bool,
    },
    /// The endpoint switched protocols; what it already sent in the new one is in the buffer.
    Upgraded(Option<Buf>),
}

/// What the client's request means for its response.
#[derive(Clone, Copy)]
pub(super) struct RequestFacts {
    /// Its method.
    pub(super) method: Method,
    /// Its version.
    pub(super) version: Version,
    /// Whether an upgrade was asked for.
    pub(super) upgrade: bool,
    /// Whether it is a gRPC call.
    pub(super) is_call: bool,
    /// Whether the client wants to keep its connection.
    pub(super) keep_alive: bool,
}

/// Passes one response on.
pub(super) struct Respond<'a> {
    pub(super) shard: &'a Shard,
    pub(super) endpoint: &'a Socket,
    pub(super) client: &'a Socket,
    pub(super) watch: &'a Watch,
    pub(super) timing: &'a Timing,
    pub(super) upload: &'a UploadState,
    pub(super) request: RequestFacts,
    pub(super) response: &'a mut ResponseHead,
    pub(super) out: &'a mut Vec<u8>,
    /// Fields to add to the final response.
    pub(super) cookies: &'a mut Vec<u8>,
    /// What is done with it for a browser.
    pub(super) browser: Option<&'a mut ForBrowser>,
    pub(super) decoder: &'a mut ChunkDecoder,
    pub(super) progress: &'a mut Progress,
    /// What has arrived of it already.
    pub(super) heard: &'a mut Option<Buf>,
    /// How fast its body has to come.
    pub(super) pace: &'a Pace,
    /// What may ask for another try instead of passing the response on.
    pub(super) gate: Option<&'a Retries<'a>>,
}

impl Respond<'_> {
    /// Reads the response and sends it to the client.
    ///
    /// # Errors
    /// The first thing that went wrong; `progress` tells whether the client has seen a head.
    ///
    /// # Cancel safety
    /// Not cancel safe: both sockets are of no use afterwards.
    pub(super) async fn run(&mut self) -> Result<Responded, Reason> {
        let mut input = self.heard.take();
        let mut interim_left = limits::INTERIM_RESPONSES_MAX;
        loop {
            let head_bytes = self.read_head(&mut input).await?;
            if !self.response.is_interim() {
                return self.final_response(&mut input, head_bytes).await;
            }
            interim_left = interim_left.checked_sub(1).ok_or(Reason::UpstreamInvalid)?;
            self.pass_interim(&mut input, head_bytes).await?;
        }
    }

    async fn read_head(&mut self, input: &mut Option<Buf>) -> Result<usize, Reason> {
        let of = ResponseTo { method: self.request.method, upgrade: self.request.upgrade };
        let mut begun = false;
        loop {
            if let Some(buf) = input {
                if !std::mem::replace(&mut begun, true) {
                    self.response.clear(); // here, so that waiting for a response touches none of it
                }
                match self.response.parse(buf.data(), HEAD_LIMITS, of) {
                    Ok(Parse::Complete { head_bytes }) => {
                        if self.endpoint.is_stream() {
                            self.response.note_http2();
                        }
                        return Ok(head_bytes);
                    }
                    Ok(Parse::Partial) => {}
                    Err(error) => return Err(error.upstream_reason()),
                }
                if buf.spare() == 0 {
                    buf.compact();
                    if buf.spare() == 0 {
                        return Err(Reason::UpstreamHeaderTooLarge);
                    }
                }
            }
            self.before_head();
            self.upload.head_is_awaited.set(true);
            let received = match self.client.is_pressed() {
                false => self.endpoint.fill(input, &self.shard.buffers).await,
                true => Box::pin(self.fill_little(input)).await,
            };
            self.upload.head_is_awaited.set(false);
            self.endpoint.read_without_deadline();
            match received {
                Ok(0) => {
                    self.progress.endpoint_ended = true;
                    return Err(self.closed());
                }
                Ok(_) => self.progress.endpoint_spoke = true,
                Err(broken) => return Err(self.head_failed(broken)),
            }
        }
    }

    /// As little as there may be behind the head: it has to wait for a window, as much else does.
    #[cold]
    async fn fill_little(&self, input: &mut Option<Buf>) -> Result<usize, Broken> {
        let max = Cell::new(limits::H2_FIRST_BYTES_PRESSED);
        self.endpoint.fill_at_most(input, &self.shard.buffers, &max).await
    }

    /// The endpoint's time for its head begins when it has the whole request, or all it will take.
    fn before_head(&self) {
        let now_tick = self.shard.deadlines.now_tick();
        let is_its_turn = self.upload.is_done.get() || self.upload.endpoint_refused.get();
        let (after, tag) = if is_its_turn {
            self.timing.until_head(now_tick)
        } else {
            // While the client has the word, the endpoint may be silent.
            self.timing.at_most(Duration::MAX, tag::UPSTREAM, now_tick)
        };
        self.endpoint.read_within(after, tag);
    }

    fn closed(&self) -> Reason {
        match () {
            () if self.watch.is_gone() => Reason::ClientGone,
            () if self.endpoint.is_malformed() => Reason::UpstreamInvalid,
            () => Reason::UpstreamClosed,
        }
    }

    fn head_failed(&self, broken: Broken) -> Reason {
        match broken {
            Broken::Deadline(tag::ROUTE) => Reason::RouteTimeout,
            Broken::Deadline(_) => Reason::UpstreamTimeout,
            Broken::Reset => self.closed(),
            Broken::NoBuffer => Reason::Overloaded,
        }
    }

    /// Passes a 1xx on; HTTP/1.0 clients do not know them.
    async fn pass_interim(
        &mut self,
        input: &mut Option<Buf>,
        head_bytes: usize,
    ) -> Result<(), Reason> {
        self.upload.awaits_continue.set(false);
        if let Some(buf) = input {
            if self.request.version == Version::Http11 {
                self.out.clear();
                let forward = ResponseForward {
                    framing: Framing::Empty,
                    keep_content_length: false,
                    client_version: self.request.version,
                    keep_alive: true,
                    date: &[],
                    fields: &[],
                };
                write_response_head(self.out, buf.data(), self.response, &forward);
            }
            consume(input, head_bytes);
        }
        if self.out.is_empty() {
            return Ok(());
        }
        self.client.write_within(self.timing.client, tag::CLIENT);
        let sent = self.client.send_bytes(self.out).await;
        self.client.write_without_deadline();
        self.out.clear();
        self.watch.progress(self.shard.deadlines.now_tick());
        sent.map_err(client_write_failed)
    }

    async fn final_response(
        &mut self,
        input: &mut Option<Buf>,
        head_bytes: usize,
    ) -> Result<Responded, Reason> {
        self.progress.head_at = Some(rt::turn_time());
        if let Some(gate) = self.gate
            && gate.refuse(self.response.status(), self.shard)
        {
            return Ok(self.refused(input, head_bytes));
        }
        let upgraded = self.response.is_upgrade();
        if !upgraded && self.response.status() / 100 == 2 && self.client.is_tunnel() {
            // To the client this would be the tunnel, which the endpoint knows nothing of.
            return Err(Reason::UpstreamInvalid);
        }
        let head = input.as_ref().map_or(&[][..], Buf::data);
        if self.request.is_call {
            // A call may fail without a body: then its status is here.
            let mut statuses = self.response.field_values(head, b"grpc-status");
            self.progress.call_failed = statuses.next().is_some_and(|status| status != b"0");
        }
        let recode = match self.browser.take() {
            Some(browser) => browser.respond(self.response, head, self.cookies),
            None => None,
        };
        let has_body = !matches!(self.response.framing(), Framing::Empty | Framing::Length(0));
        let recode = recode.filter(|_| has_body);
        let plan = self.plan(recode.is_some());
        self.write_head(input, plan);
        consume(input, head_bytes);
        self.progress.status = self.response.status();
        self.progress.is_close_delimited = plan.framing == Framing::UntilClose;
        let endpoint_reusable = self.response.keep_alive();
        if upgraded {
            self.client.write_within(self.timing.client, tag::CLIENT);
            let sent = self.client.send_bytes(self.out).await;
            self.client.write_without_deadline(); // the tunnel may be silent for longer
            sent.map_err(client_write_failed)?;
            return Ok(Responded::Upgraded(input.take()));
        }
        if !plan.keep_alive {
            self.announce_end(plan.framing);
        }
        let framing = self.response.framing();
        let discarded = plan.discard && framing != Framing::Empty;
        let mut relay = Relay {
            shard: self.shard,
            from: self.endpoint,
            to: self.client,
            input: &mut *input,
            head: self.out,
            source: if discarded { Source::Length(0) } else { Source::new(framing, self.decoder) },
            sink: if plan.framing == Framing::Chunked { Sink::Chunks } else { Sink::Plain },
            recode,
            ways: DownloadWays {
                shard: self.shard,
                endpoint: self.endpoint,
                client: self.client,
                watch: self.watch,
                timing: self.timing,
                pace: self.pace,
                bytes: Cell::from_mut(&mut self.progress.bytes),
            },
        };
        let sent = relay.run().await;
        let has_failed = grpc::has_failed(relay.source.trailers());
        if sent.is_err() && !relay.head.is_empty() {
            // Nothing has left yet: the client can still be told.
            self.progress.status = 0;
            self.progress.is_close_delimited = false;
            self.client.end_after(u64::MAX);
        }
        sent?;
        self.progress.call_failed |= self.request.is_call && has_failed;
        let whole = self.upload.is_done.get();
        // Bytes behind the response answer no request: nobody must ever get them.
        let endpoint_reusable = endpoint_reusable
            && whole
            && input.is_none()
            && framing != Framing::UntilClose
            && !discarded;
        Ok(Responded::Whole { endpoint_reusable, client_keeps: plan.keep_alive })
    }

    /// The response is the last thing on its connection: where its length is known, that is said in the
    /// same send.
    #[cold]
    fn announce_end(&self, framing: Framing) {
        let head_bytes = self.out.len() as u64;
        match framing {
            Framing::Length(length) => self.client.end_after(head_bytes.saturating_add(length)),
            Framing::Empty => self.client.end_after(head_bytes),
            Framing::Chunked | Framing::UntilClose => {}
        }
    }

    /// Drops the response. What of its body has not arrived is not waited for: closing is cheaper.
    fn refused(&self, input: &Option<Buf>, head_bytes: usize) -> Responded {
        let here = input.as_ref().map_or(0, Buf::len).saturating_sub(head_bytes) as u64;
        let is_whole = match self.response.framing() {
            Framing::Empty => here == 0,
            Framing::Length(length) => here == length,
            Framing::Chunked | Framing::UntilClose => false,
        };
        let endpoint_reusable = is_whole && self.response.keep_alive() && self.upload.is_done.get();
        Responded::Refused { status: self.response.status(), endpoint_reusable }
    }

    /// `is_recoded`: the body will be of another length.
    fn plan(&self, is_recoded: bool) -> Plan {
        let is_reset_content = self.response.status() == 205;
        let framing = match self.response.framing() {
            // RFC 9110 §15.3.6: a 205 has no content, whatever its endpoint sent.
            _ if is_reset_content => Framing::Empty,
            framing if is_recoded || matches!(framing, Framing::Chunked | Framing::UntilClose) => {
                match self.request.version {
                    Version::Http11 => Framing::Chunked,
                    Version::Http10 => Framing::UntilClose,
                }
            }
            known => known,
        };
        let keep_alive = self.request.keep_alive
            && framing != Framing::UntilClose
            && self.upload.is_done.get()
            && !self.shard.is_draining()
            && !self.watch.is_leaving();
        Plan { framing, keep_alive, discard: is_reset_content }
    }

    fn write_head(&mut self, input: &Option<Buf>, plan: Plan) {
        let date = self.shard.date.get();
        let forward = ResponseForward {
            framing: plan.framing,
            keep_content_length: !plan.discard,
            client_version: self.request.version,
            keep_alive: plan.keep_alive,
            date: &date,
            fields: self.cookies,
        };
        self.out.clear();
        let bytes = input.as_ref().map_or(&[][..], Buf::data);
        write_response_head(self.out, bytes, self.response, &forward);
    }
}

/// How the final response leaves.
#[derive(Clone, Copy)]
struct Plan {
    framing: Framing,
    keep_alive: bool,
    discard: bool,
}

/// Deadlines, blame and accounts of a download.
struct DownloadWays<'a> {
    shard: &'a Shard,
    endpoint: &'a Socket,
    client: &'a Socket,
    watch: &'a Watch,
    timing: &'a Timing,
    pace: &'a Pace,
    bytes: &'a Cell<u64>,
}

impl Ways for DownloadWays<'_> {
    fn before_read(&self) {
        let now_tick = self.shard.deadlines.now_tick();
        let (mut after, mut tag) =
            self.timing.at_most(self.timing.upstream, tag::UPSTREAM, now_tick);
        if let Some(left) = self.pace.wait(now_tick).map(ticks_long).filter(|left| *left < after) {
            (after, tag) = (left, tag::PACE);
        }
        self.endpoint.read_within(after, tag);
    }

    fn before_write(&self) {
        let now_tick = self.shard.deadlines.now_tick();
        self.pace.rest(now_tick);
        let (after, tag) = self.timing.at_most(self.timing.client, tag::CLIENT, now_tick);
        self.client.write_within(after, tag);
    }

    fn read_failed(&self, broken: Broken) -> Reason {
        match broken {
            Broken::Deadline(tag::ROUTE) => Reason::RouteTimeout,
            Broken::Deadline(tag::PACE) => Reason::UpstreamTooSlow,
            Broken::Deadline(_) => Reason::UpstreamTimeout,
            Broken::Reset => self.ended_early(),
            Broken::NoBuffer => Reason::Overloaded,
        }
    }

    fn write_failed(&self, broken: Broken) -> Reason {
        client_write_failed(broken)
    }

    fn ended_early(&self) -> Reason {
        if self.watch.is_gone() { Reason::ClientGone } else { Reason::UpstreamTruncated }
    }

    fn is_cut(&self) -> bool {
        self.watch.is_gone()
    }

    fn bad_chunk(&self, error: ChunkError) -> Reason {
        error.upstream_reason()
    }

    fn count(&self, payload: u64) {
        self.bytes.set(self.bytes.get() + payload);
        self.pace.earn(payload);
    }

    /// An endpoint may send as much as it likes.
    fn is_too_long(&self) -> bool {
        false
    }

    fn sent(&self) {
        self.watch.progress(self.shard.deadlines.now_tick());
    }
}

fn client_write_failed(broken: Broken) -> Reason {
    match broken {
        Broken::Deadline(tag::ROUTE) => Reason::RouteTimeout,
        Broken::Deadline(_) => Reason::ClientStalled,
        Broken::Reset | Broken::NoBuffer => Reason::ClientGone,
    }
}

fn consume(input: &mut Option<Buf>, count: usize) {
    if let Some(buf) = input {
        buf.consume(count);
        if buf.is_empty() {
            *input = None;
        }
    }
}
