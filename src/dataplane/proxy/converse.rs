//! The request out, the response back, side by side where both are under way.

use std::pin::pin;

use super::{
    browser::Browser,
    exchange::Exchange,
    piece::{Sink, Source},
    relay::Relay,
    respond::{RequestFacts, Respond, Responded},
    retry::Retries,
    timing::Timing,
    upload::{self, UploadState, UploadWays},
};
use crate::{
    base::{limits, reason::Reason},
    dataplane::{shard::Shard, socket::Socket},
    proto::h1::Framing,
    rt::{Buf, Either, race},
};

impl Exchange<'_> {
    /// Sends the request and reads the response, side by side where the body is still on its way.
    pub(super) async fn converse(
        &mut self,
        gate: Option<&Retries<'_>>,
    ) -> Result<Responded, Reason> {
        let Self { shard, client, watch, context, head_bytes, forwarded, upload, .. } = self;
        let (shard, timing) = (*shard, &self.timing);
        let Some(connection) = &mut self.connection else { return Err(Reason::Internal) };
        let kept_max = match self.replay_bytes_max {
            0 if connection.reused => limits::REPLAY_BYTES_MAX,
            max => max,
        };
        let is_recoded = self.browser.as_ref().is_some_and(|one| one.request.is_some());
        let kept_max = if is_recoded { 0 } else { kept_max };
        let (recode, browser) = match self.browser.as_deref_mut() {
            Some(Browser { request, response }) => (request.as_mut(), Some(response)),
            None => (None, None),
        };
        let head = &context.head;
        let framing = head.framing();
        let request = RequestFacts {
            method: head.method(),
            version: head.version(),
            upgrade: head.upgrade(),
            is_call: self.call.is_some(),
            keep_alive: head.keep_alive(),
        };
        let has_body = !matches!(framing, Framing::Empty | Framing::Length(0));
        let copied = match &client.input {
            Some(input) if has_body && kept_max > 0 => {
                copy_body(&input.data()[*head_bytes..], framing, kept_max, &mut context.out)
            }
            _ => 0,
        };
        let stays = !has_body || copied > 0;
        upload.is_done.set(stays);
        upload.awaits_continue.set(head.expects_continue());
        connection.sent += context.out.len() as u64;
        let endpoint = &connection.socket;
        Socket::pair(&client.socket, endpoint);
        let mut respond = Respond {
            shard,
            endpoint,
            client: &client.socket,
            watch,
            timing,
            upload,
            request,
            response: &mut context.response,
            out: &mut context.response_out,
            cookies: &mut context.cookies,
            decoder: &mut context.download,
            progress: &mut self.progress,
            heard: &mut context.heard,
            pace: &context.pace,
            gate: gate.filter(|_| stays),
            browser,
        };
        if stays {
            // The request stays in the input: should the connection be dead, it is sent once more.
            upload::before_write(shard, endpoint, timing);
            let sent = endpoint.send_bytes(&mut context.out).await;
            endpoint.write_without_deadline();
            if let Err(broken) = sent
                && !endpoint.has_input()
            {
                return Err(upload.write_failed(broken));
            }
            upload.bytes.set(copied as u64);
            let result = respond.run().await;
            if self.progress.status != 0 {
                take_sent(&mut client.input, *head_bytes + copied, forwarded);
            }
            return result;
        }
        take_sent(&mut client.input, *head_bytes, forwarded);
        let at_hand = client.input.as_ref().map_or(0, |buf| buf.len() as u64);
        let here = match framing {
            Framing::Length(length) if length <= at_hand => Some(length),
            _ => None,
        };
        let mut relay = Relay {
            shard,
            from: &client.socket,
            to: endpoint,
            input: &mut client.input,
            head: &mut context.out,
            source: Source::new(framing, &mut context.upload),
            sink: match (framing, is_recoded) {
                (Framing::Chunked, _) | (_, true) => Sink::Chunks,
                _ => Sink::Plain,
            },
            recode,
            ways: UploadWays {
                shard,
                client: &client.socket,
                endpoint,
                timing,
                state: upload,
                bytes_max: self.listener.limits.body_bytes_max,
            },
        };
        if let Some(length) = here {
            if let Err(reason) = relay.run().await {
                if !upload.endpoint_refused.get() {
                    return Err(reason);
                }
                // What was not sent must never be read as the next request: the upload stays
                // undone, which ends the client's connection.
                *relay.input = None;
                return respond.run().await;
            }
            connection.sent += length;
            upload.is_done.set(true);
            return respond.run().await;
        }
        shard.uploads.place(|| side_by_side(relay, respond, upload, timing, shard)).await
    }
}

/// Appends the body to the head in `out` if it is short and all of it has arrived. How many bytes
/// it has; 0 where it is sent the usual way.
fn copy_body(arrived: &[u8], framing: Framing, max: usize, out: &mut Vec<u8>) -> usize {
    let Framing::Length(length) = framing else { return 0 };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    match arrived.get(..length) {
        Some(body) if length <= max => {
            out.extend_from_slice(body);
            length
        }
        _ => 0,
    }
}

/// Takes what was sent off the client's input: it can't be sent again.
fn take_sent(input: &mut Option<Buf>, bytes: usize, forwarded: &mut bool) {
    *forwarded = true;
    if let Some(buf) = input {
        buf.consume(bytes);
        if buf.is_empty() {
            *input = None;
        }
    }
}

/// Uploads and responds at the same time. The one that fails ends the other: both sockets are given
/// up then, so that dropping what was under way loses nothing anybody could use.
async fn side_by_side(
    mut relay: Relay<'_, UploadWays<'_>>,
    mut respond: Respond<'_>,
    upload: &UploadState,
    timing: &Timing,
    shard: &Shard,
) -> Result<Responded, Reason> {
    let endpoint = respond.endpoint;
    let mut sending = pin!(relay.run());
    let mut responding = pin!(respond.run());
    match race(sending.as_mut(), responding.as_mut()).await {
        Either::Right(result) => result,
        Either::Left(Ok(())) => {
            upload.is_done.set(true);
            if upload.head_is_awaited.get() {
                let now_tick = shard.deadlines.now_tick();
                let (after, tag) = timing.until_head(now_tick);
                endpoint.read_within(after, tag); // its turn to speak begins now
            }
            responding.await
        }
        // It would not take the rest, and may be telling why: an early answer is an answer.
        Either::Left(Err(_)) if upload.endpoint_refused.get() => responding.await,
        Either::Left(Err(reason)) => Err(reason),
    }
}
