//! Further tries of a request by its route's rule: what has to be kept for them, when they are allowed,
//! and how long they wait. The decisions are those of `policy::retry`.

use std::sync::Arc;

use super::{
    exchange::{Exchange, Reuse},
    respond::Progress,
    timing::{Timing, tag},
    upload::UploadState,
};
use crate::{
    base::{limits, reason::Reason},
    dataplane::{shard::Shard, socket::Broken},
    policy::retry::{Cause, RetryRule},
    proto::h1::Framing,
    rt,
    snapshot::Upstream,
};

/// The further tries of one request.
pub(super) struct Retries<'a> {
    rule: &'a RetryRule,
    upstream: &'a Upstream,
    /// How many there were.
    count: u8,
    /// Whether the request is still here, whole, until a response has begun.
    is_kept: bool,
}

/// A try that may be followed by another.
pub(super) struct Repeat {
    reason: Reason,
    cause: Option<Cause>,
    is_paid: bool,
}

impl Repeat {
    /// A response was dropped for another try.
    pub(super) fn granted(status: u16) -> Self {
        let cause = Some(Cause::Status(status));
        Self { reason: Reason::UpstreamClosed, cause, is_paid: true }
    }

    /// A try failed.
    pub(super) fn asked(reason: Reason) -> Self {
        Self { reason, cause: cause(reason), is_paid: false }
    }

    /// What the client is told if there is no further try.
    pub(super) fn into_result(self) -> Result<Reuse, Reason> {
        Err(self.reason)
    }
}

/// What a failure is to the rule; none where another try is out of the question.
fn cause(reason: Reason) -> Option<Cause> {
    match reason {
        Reason::UpstreamConnectRefused
        | Reason::UpstreamConnectTimeout
        | Reason::UpstreamConnectFailed
        | Reason::UpstreamTlsFailed => Some(Cause::Connect),
        Reason::UpstreamClosed | Reason::UpstreamTruncated => Some(Cause::Reset),
        Reason::UpstreamTimeout => Some(Cause::Timeout),
        Reason::UpstreamInvalid | Reason::UpstreamHeaderTooLarge => Some(Cause::Invalid),
        _ => None,
    }
}

impl Retries<'_> {
    /// Whether a response with this status is dropped for another try, which is paid for then.
    pub(super) fn refuse(&self, status: u16, shard: &Shard) -> bool {
        self.rule.covers(Cause::Status(status)) && pay(shard, self.upstream)
    }

    /// The timing of the try that begins now.
    pub(super) fn timing(&self, timing: Timing, now_tick: u64) -> Timing {
        match self.rule.per_try_timeout {
            Some(length) => timing.for_try(length, now_tick),
            None => timing,
        }
    }
}

impl Exchange<'_> {
    /// Gets a request ready for further tries: what it earns, and its body.
    pub(super) async fn retries<'a>(
        &mut self,
        rule: &'a RetryRule,
        upstream: &'a Arc<Upstream>,
    ) -> Result<Retries<'a>, Reason> {
        self.shard.tallied(upstream).tally.earn(rule.budget_per_10k);
        let is_kept = rule.attempts > 0 && self.keep_body(rule.body_bytes_max).await?;
        if is_kept {
            self.replay_bytes_max = rule.body_bytes_max;
        }
        Ok(Retries { rule, upstream, count: 0, is_kept })
    }

    /// Whether the whole request is in the client's input, its body received if it has one that may
    /// be kept.
    pub(super) async fn keep_body(&mut self, body_bytes_max: usize) -> Result<bool, Reason> {
        let head = &self.context.head;
        let length = match head.framing() {
            Framing::Empty => return Ok(true),
            Framing::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
            Framing::Chunked | Framing::UntilClose => return Ok(false),
        };
        // A client that waits for a 100 would wait for it here.
        if length > body_bytes_max || head.expects_continue() {
            return Ok(length == 0);
        }
        let whole = self.head_bytes + length;
        loop {
            let Some(input) = &mut self.client.input else { return Ok(false) };
            if input.len() >= whole {
                return Ok(true);
            }
            if input.len() + input.spare() < whole {
                input.compact();
                if input.len() + input.spare() < whole {
                    return Ok(false);
                }
            }
            let socket = &self.client.socket;
            socket.read_within(self.timing.client, tag::CLIENT);
            let received = socket.fill(&mut self.client.input, &self.shard.buffers).await;
            socket.read_without_deadline();
            match received {
                Ok(0) | Err(Broken::Reset) => return Err(Reason::ClientGone),
                Ok(_) => {}
                Err(Broken::Deadline(_)) => return Err(Reason::BodyTimeout),
                Err(Broken::NoBuffer) => return Err(Reason::Overloaded),
            }
        }
    }

    /// Whether the status of the next response may ask for another try.
    pub(super) fn is_gated(&self, retries: &Retries<'_>) -> bool {
        self.may_follow(retries) && !retries.rule.statuses.is_empty()
    }

    /// Whether the next try may be followed by another one if it fails.
    fn may_follow(&self, retries: &Retries<'_>) -> bool {
        let rule = retries.rule;
        retries.is_kept
            && retries.count < rule.attempts
            && (rule.non_idempotent || self.context.head.method().is_idempotent())
    }

    /// Whether there is another try; waits until it is due.
    pub(super) async fn repeat(&mut self, retries: &mut Retries<'_>, failure: &Repeat) -> bool {
        let Some(cause) = failure.cause else { return false };
        let may = match cause {
            // Nothing was sent: safe whatever it is.
            Cause::Connect => retries.count < retries.rule.attempts,
            _ => self.may_follow(retries),
        };
        let is_whole = !self.forwarded && self.progress.status == 0 && !self.watch.is_gone();
        if !may || !is_whole || !retries.rule.covers(cause) {
            return false;
        }
        if !failure.is_paid && !pay(self.shard, retries.upstream) {
            return false;
        }
        retries.count += 1;
        let pause = retries.rule.pause(retries.count, self.shard.random());
        if !pause.is_zero() {
            rt::sleep(pause).await;
        }
        if self.timing.is_over(self.shard.deadlines.now_tick()) {
            return false;
        }
        self.progress = Progress::default();
        self.upload = UploadState::default();
        self.note_retry(retries.upstream, Some(cause));
        true
    }

    /// Counts a further try; `None` for one because a pooled connection had died.
    pub(super) fn note_retry(&mut self, upstream: &Upstream, cause: Option<Cause>) {
        self.record.retries = self.record.retries.saturating_add(1);
        self.shard.stats.upstream_retries.inc();
        let kind = cause.map_or(Cause::KINDS, Cause::kind);
        if let Some(counter) = self.shard.stats.upstream(upstream.stats).retries.get(kind) {
            counter.inc();
        }
    }
}

/// Takes a further try out of the budget, or counts that there was none.
pub(super) fn pay(shard: &Shard, upstream: &Upstream) -> bool {
    let is_paid = upstream.cell.retry_budget().take(shard.now_ms());
    if !is_paid {
        shard.stats.upstream(upstream.stats).retries_denied.inc();
    }
    is_paid
}

const _: () = assert!(limits::RETRY_BODY_BYTES_MAX < limits::BUFFER_BYTES);
