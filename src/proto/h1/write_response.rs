//! The head that goes to the client.

use super::{
    FieldId, Framing, ResponseHead, Version,
    section::Line,
    write_request::{push_length, push_upgrade, via},
};
use crate::proto::bytes::push_decimal;

/// What of a response head is ringway's to say.
#[derive(Clone, Copy, Debug)]
pub struct ResponseForward<'a> {
    /// How the body will be sent. [`Framing::Empty`] writes no framing field where none may or need
    /// be (1xx, 204, 304, answers to HEAD), else `content-length: 0`.
    pub framing: Framing,
    /// Whether the Content-Length of an answer to HEAD or of a 304 is passed on.
    pub keep_content_length: bool,
    /// The version of the client's request.
    pub client_version: Version,
    /// Whether the client's connection stays open.
    pub keep_alive: bool,
    /// The Date to add when the endpoint sent none.
    pub date: &'a [u8],
    /// Whole field lines to add to a final response.
    pub fields: &'a [u8],
}

/// Appends the head to send to the client, always as HTTP/1.1. Runs of lines that need no change
/// are copied whole; framing and connection fields are made anew and follow, as do Via, and Date if
/// it is missing. An interim response gets none of these.
pub fn write_response_head(
    out: &mut Vec<u8>,
    buf: &[u8],
    head: &ResponseHead,
    f: &ResponseForward<'_>,
) {
    let mut run = start_run(out, head);
    for line in head.lines() {
        if !line.dropped && line.id != FieldId::ContentLength {
            continue;
        }
        out.extend_from_slice(&buf[run..line.start()]);
        run = line.end();
    }
    let end = head.lines().last().map_or(head.fields_start(), Line::end);
    out.extend_from_slice(&buf[run..end]);
    if head.is_upgrade() {
        push_upgrade(out, buf, head.lines());
        out.extend_from_slice(b"connection: upgrade\r\n");
    }
    if head.status() >= 200 {
        push_final(out, head, f);
    }
    out.extend_from_slice(b"\r\n");
}

/// Begins the first run of copied bytes: with the status line, or with what follows its version.
fn start_run(out: &mut Vec<u8>, head: &ResponseHead) -> usize {
    //= https://www.rfc-editor.org/rfc/rfc9112#section-4
    //# A server MUST send the space that separates the status-code from the
    //# reason-phrase even when the reason-phrase is absent (i.e., the
    //# status-line would end with the space).
    if !head.has_phrase_space() {
        out.extend_from_slice(b"HTTP/1.1 ");
        push_decimal(out, u64::from(head.status()));
        out.extend_from_slice(b" \r\n");
        return head.fields_start();
    }
    match head.version() {
        Version::Http11 => 0,
        Version::Http10 => {
            out.extend_from_slice(b"HTTP/1.1 ");
            b"HTTP/1.0 ".len()
        }
    }
}

/// What a final response has and an interim one has not.
fn push_final(out: &mut Vec<u8>, head: &ResponseHead, f: &ResponseForward<'_>) {
    //= https://www.rfc-editor.org/rfc/rfc9110#section-6.6.1
    //# A recipient with a clock that receives a response message without a
    //# Date header field MUST record the time it was received and append a
    //# corresponding Date header field to the message's header section if it is
    //# cached or forwarded downstream.
    if !head.has_date() && !f.date.is_empty() {
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(f.date);
        out.extend_from_slice(b"\r\n");
    }
    if !f.fields.is_empty() {
        out.extend_from_slice(f.fields);
    }
    out.extend_from_slice(via(head.version(), head.is_over_http2()));
    push_keep_alive(out, f.client_version, f.keep_alive);
    push_framing(out, head, f);
}

/// Says what the client would not assume: 1.1 stays open, 1.0 does not. Source: RFC 9112 §9.3.
pub(super) fn push_keep_alive(out: &mut Vec<u8>, client: Version, keep_alive: bool) {
    let line: &[u8] = match (client, keep_alive) {
        (Version::Http11, true) => b"",
        (Version::Http10, true) => b"connection: keep-alive\r\n",
        (_, false) => b"connection: close\r\n",
    };
    out.extend_from_slice(line);
}

fn push_framing(out: &mut Vec<u8>, head: &ResponseHead, f: &ResponseForward<'_>) {
    //= https://www.rfc-editor.org/rfc/rfc9110#section-8.6
    //# A server MUST NOT send a Content-Length header field in any response
    //# with a status code of 1xx (Informational) or 204 (No Content).
    if head.status() == 204 {
        return;
    }
    match f.framing {
        Framing::Length(length) => push_length(out, length),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::UntilClose => {}
        Framing::Empty => match head.content_length() {
            Some(length) if f.keep_content_length => push_length(out, length),
            _ if f.keep_content_length || !head.may_have_body() => {}
            _ => push_length(out, 0),
        },
    }
}
