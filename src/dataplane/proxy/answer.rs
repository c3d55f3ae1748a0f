//! The responses that ringway makes by itself.

use super::exchange::{Exchange, Reuse};
use crate::{
    base::{limits, reason::Reason},
    dataplane::{
        shard::{Phase, Shard},
        socket::Socket,
    },
    policy::route::RouteQuery,
    proto::grpc,
    proto::h1::{Answer, Framing, Method, Version, reason_phrase, write_answer},
};

use super::{target::Fields, timing::tag};

/// What ringway offers where no route says more.
const METHODS: &[u8] = b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

/// The body of an answer: for people who read it in a terminal and programs that parse it.
fn write_body(out: &mut Vec<u8>, status: u16, reason: Reason) {
    out.extend_from_slice(b"{\"status\":");
    let digits = [status / 100 % 10, status / 10 % 10, status % 10];
    out.extend(digits.map(|digit| b'0' + u8::try_from(digit).unwrap_or(0)));
    out.extend_from_slice(b",\"reason\":\"");
    out.extend_from_slice(reason.code().as_bytes());
    out.extend_from_slice(b"\",\"message\":\"");
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// `Retry-After` for so many milliseconds, rounded up to seconds. Source: RFC 9110 §10.2.3.
fn retry_after(after_ms: u64) -> Vec<u8> {
    format!("retry-after: {}\r\n", after_ms.div_ceil(1_000).max(1)).into_bytes()
}

/// Appends a whole answer for a connection whose request could not be read; `to_head` if what could
/// be read of it says HEAD.
pub(super) fn write_refusal(shard: &Shard, reason: Reason, to_head: bool, out: &mut Vec<u8>) {
    let mut body = Vec::new(); // a refused head is rare, and the connection ends with it
    write_body(&mut body, reason.status(), reason);
    write_answer(
        out,
        &Answer {
            status: reason.status(),
            reason: reason.code(),
            body: &body,
            content_type: "application/json",
            allow: None,
            keep_alive: false,
            client_version: Version::Http11,
            head_request: to_head,
            date: &shard.date.get(),
            extra: b"",
        },
    );
}

impl Exchange<'_> {
    /// Ends the request with an error: an answer while the client has seen no head, a visible cut
    /// otherwise.
    pub(super) async fn fail(&mut self, reason: Reason) -> Reuse {
        self.record.reason = Some(reason);
        if self.progress.status != 0 {
            // The client takes a missing end for what it is, unless closing is the end.
            if self.progress.is_close_delimited {
                return Reuse::Reset;
            }
            return Reuse::Close;
        }
        let (status, keep_alive) = self.answer_kind(reason);
        self.record.status = status;
        if matches!(reason, Reason::ClientGone | Reason::ClientStalled) {
            return Reuse::Close;
        }
        self.write_error(reason, status, keep_alive);
        self.watch.enter(Phase::Busy, self.shard.deadlines.now_tick());
        if !send(&self.client.socket, self.listener.limits.body_timeout, &mut self.context.out)
            .await
        {
            return Reuse::Close;
        }
        self.after_answer(keep_alive).await
    }

    /// The status for a reason here, and whether the connection can go on afterwards.
    fn answer_kind(&self, reason: Reason) -> (u16, bool) {
        let head = &self.context.head;
        let status = match reason {
            Reason::MaxForwards if head.method() == Method::Trace => 405,
            reason => reason.status(),
        };
        let body_can_be_dropped = !self.forwarded
            && match head.framing() {
                Framing::Empty => true,
                Framing::Length(length) => {
                    length <= limits::DISCARD_BYTES_MAX as u64 && !head.expects_continue()
                }
                Framing::Chunked | Framing::UntilClose => false,
            };
        let body_is_gone = self.forwarded && self.upload.is_done.get();
        // What follows may be meant for the tunnel: as a request to us it would be a smuggled one.
        // RFC 9931 §8 has a proxy that refuses CONNECT close, whatever the client asked for.
        let is_http_next = reason != Reason::ConnectRefused;
        let is_framing_known =
            status < 400 || matches!(status, 403 | 404 | 405 | 413 | 417 | 500..);
        let keep_alive = head.keep_alive()
            && (body_can_be_dropped || body_is_gone)
            && is_http_next
            && is_framing_known
            && !self.shard.is_draining()
            && !self.watch.is_leaving();
        (status, keep_alive)
    }

    fn write_error(&mut self, reason: Reason, status: u16, keep_alive: bool) {
        if let Some((content_type, fields)) = self.web_failure(reason) {
            return self.write_web_failure(&content_type, &fields, reason, keep_alive);
        }
        if self.call.is_some() {
            self.context.out.clear();
            grpc::write_answer(&mut self.context.out, reason, &self.shard.date.get());
            return;
        }
        let mut allow = std::mem::take(&mut self.context.target);
        allow.clear();
        match reason {
            Reason::MethodNotAllowed => self.write_allowed(&mut allow),
            Reason::ConnectRefused | Reason::MaxForwards => allow.extend_from_slice(METHODS),
            _ => {}
        }
        let is_empty = status < 300;
        let mut body = std::mem::take(&mut self.context.response_out);
        body.clear();
        if !is_empty {
            write_body(&mut body, status, reason);
        }
        let mut extra = self.retry_after_ms.map(retry_after).unwrap_or_default();
        if let Some(browser) = &self.browser {
            extra.extend_from_slice(&browser.response.fields);
        }
        let head = &self.context.head;
        self.context.out.clear();
        write_answer(
            &mut self.context.out,
            &Answer {
                status,
                reason: reason.code(),
                body: &body,
                content_type: if is_empty { "" } else { "application/json" },
                allow: (!allow.is_empty()).then_some(&allow),
                keep_alive,
                client_version: head.version(),
                head_request: head.method() == Method::Head,
                date: &self.shard.date.get(),
                extra: &extra,
            },
        );
        self.record.bytes_out = body.len() as u64;
        self.context.target = allow;
        self.context.response_out = body;
    }

    fn write_allowed(&self, allow: &mut Vec<u8>) {
        let bytes = self.client.input_bytes();
        let head = &self.context.head;
        let query = RouteQuery {
            listener: self.listener_index,
            host: &self.context.host,
            path: &self.context.path,
            query: head.query(bytes),
            method: head.method_bytes(bytes),
            fields: &Fields { head, bytes },
        };
        self.table.snapshot.table.allow(&query, allow);
    }

    async fn after_answer(&mut self, keep_alive: bool) -> Reuse {
        if self.client.socket.is_stream() {
            return Reuse::Close; // what its client still sends is in nobody's way
        }
        if !keep_alive {
            return Reuse::Linger;
        }
        if self.forwarded {
            return Reuse::Keep;
        }
        self.client.consume(self.head_bytes);
        if let Framing::Length(length) = self.context.head.framing() {
            let limits = &self.listener.limits;
            if self.client.discard(length, &self.shard.buffers, limits).await.is_err() {
                return Reuse::Close;
            }
        }
        Reuse::Keep
    }
}

/// Sends bytes to a client within `after`; whether it took them.
pub(super) async fn send(client: &Socket, after: std::time::Duration, bytes: &mut Vec<u8>) -> bool {
    client.write_within(after, tag::CLIENT);
    let sent = client.send_bytes(bytes).await;
    client.write_without_deadline();
    sent.is_ok()
}
