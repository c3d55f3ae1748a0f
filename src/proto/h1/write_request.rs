//! The head that goes to the endpoint.

use super::{FieldId, Framing, RequestHead, Version, connection::protocols, section::Line};
use crate::proto::bytes::push_decimal;

/// What of a request head is ringway's to say.
#[derive(Clone, Copy, Debug)]
pub struct RequestForward<'a> {
    /// The complete target to send: origin-form or `*`.
    pub path_and_query: &'a [u8],
    /// The Host to send.
    pub host: &'a [u8],
    /// What is told about the client.
    pub forwarded: &'a ForwardedOut<'a>,
    /// The Max-Forwards to send, already decremented; `None` leaves the field as it is.
    pub max_forwards: Option<u32>,
    /// How the body will be sent; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// Whether the endpoint is asked to close the connection afterwards.
    pub close: bool,
    /// Whether it is told that the request came as early data of TLS. Source: RFC 8470 §5.1.
    pub early: bool,
}

/// What the endpoint is told about the client.
#[derive(Clone, Copy, Debug)]
pub struct ForwardedOut<'a> {
    /// Whether what the client sent of `X-Forwarded-*`, `Forwarded` and `X-Real-IP` is kept.
    pub trusted: bool,
    /// The client's address as text, IPv6 without brackets.
    pub client_ip: &'a [u8],
    /// `http` or `https`.
    pub proto: &'a [u8],
    /// The Host the client sent; empty if it sent none.
    pub host: &'a [u8],
    /// Whether `Forwarded` (RFC 7239) is sent beside `X-Forwarded-*`.
    pub forwarded: bool,
}

/// Appends the head to send to the endpoint, always as HTTP/1.1. Runs of lines that need no change
/// are copied whole, names and spacing as the client sent them; framing, connection and client
/// fields are made anew and follow.
pub fn write_request_head(
    out: &mut Vec<u8>,
    buf: &[u8],
    head: &RequestHead,
    f: &RequestForward<'_>,
) {
    let host_kept = head.host_field_is(buf, f.host);
    let mut run = start_run(out, buf, head, f, host_kept);
    let mut trust = Trusted::default();
    for line in head.lines() {
        if keeps(line, f, host_kept) {
            trust.note(line.id);
            continue;
        }
        out.extend_from_slice(&buf[run..line.start()]);
        run = line.end();
    }
    let end = head.lines().last().map_or(head.fields_start(), Line::end);
    out.extend_from_slice(&buf[run..end]);
    push_client(out, buf, head, f.forwarded, trust);
    if let Some(hops) = f.max_forwards {
        out.extend_from_slice(b"max-forwards: ");
        push_decimal(out, u64::from(hops));
        out.extend_from_slice(b"\r\n");
    }
    //= https://www.rfc-editor.org/rfc/rfc9110#section-7.6.3
    //# A proxy MUST send an appropriate Via header field, as described below,
    //# in each message that it forwards.
    out.extend_from_slice(via(head.version(), head.is_over_http2()));
    if f.early {
        out.extend_from_slice(b"early-data: 1\r\n");
    }
    push_connection(out, buf, head, f.close);
    push_framing(out, f.framing);
    out.extend_from_slice(b"\r\n");
}

/// Begins the first run of copied bytes: with the request line if that can stay as it is.
fn start_run(
    out: &mut Vec<u8>,
    buf: &[u8],
    head: &RequestHead,
    f: &RequestForward<'_>,
    host_kept: bool,
) -> usize {
    let same_line = head.version() == Version::Http11 && head.target(buf) == f.path_and_query;
    if same_line && host_kept {
        return head.method_start();
    }
    if same_line {
        out.extend_from_slice(&buf[head.method_start()..head.fields_start()]);
    } else {
        out.extend_from_slice(head.method_bytes(buf));
        out.push(b' ');
        out.extend_from_slice(f.path_and_query);
        out.extend_from_slice(b" HTTP/1.1\r\n");
    }
    if !host_kept {
        push_line(out, b"host: ", f.host);
    }
    head.fields_start()
}

/// Whether the line goes on as it is.
fn keeps(line: &Line, f: &RequestForward<'_>, host_kept: bool) -> bool {
    if line.dropped {
        return false;
    }
    match line.id {
        FieldId::Unknown => true,
        FieldId::Host => host_kept,
        FieldId::ContentLength | FieldId::XForwardedFor => false,
        FieldId::MaxForwards => f.max_forwards.is_none(),
        id => f.forwarded.trusted || !id.is_client_identity(),
    }
}

/// Which fields about the client a trusted peer sent.
#[derive(Clone, Copy, Default)]
struct Trusted {
    proto: bool,
    host: bool,
}

impl Trusted {
    fn note(&mut self, id: FieldId) {
        self.proto |= id == FieldId::XForwardedProto;
        self.host |= id == FieldId::XForwardedHost;
    }
}

fn push_client(
    out: &mut Vec<u8>,
    buf: &[u8],
    head: &RequestHead,
    about: &ForwardedOut<'_>,
    trust: Trusted,
) {
    out.extend_from_slice(b"x-forwarded-for: ");
    if about.trusted {
        let earlier = head.lines().iter().filter(|line| line.id == FieldId::XForwardedFor);
        for line in earlier.filter(|line| !line.dropped && !line.value.of(buf).is_empty()) {
            out.extend_from_slice(line.value.of(buf));
            out.extend_from_slice(b", ");
        }
    }
    out.extend_from_slice(about.client_ip);
    out.extend_from_slice(b"\r\n");
    if !trust.proto {
        push_line(out, b"x-forwarded-proto: ", about.proto);
    }
    if !trust.host && !about.host.is_empty() {
        push_line(out, b"x-forwarded-host: ", about.host);
    }
    if about.forwarded {
        push_forwarded(out, about);
    }
}

/// One element; the elements of earlier proxies stand in lines before it. Source: RFC 7239 §4.
fn push_forwarded(out: &mut Vec<u8>, about: &ForwardedOut<'_>) {
    out.extend_from_slice(b"forwarded: for=");
    if about.client_ip.contains(&b':') {
        //= https://www.rfc-editor.org/rfc/rfc7239#section-4
        //# Note that as ":" and "[]" are not valid characters in "token", IPv6
        //# addresses are written as "quoted-string".
        for part in [&b"\"["[..], about.client_ip, b"]\""] {
            out.extend_from_slice(part);
        }
    } else {
        out.extend_from_slice(about.client_ip);
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(about.proto);
    if !about.host.is_empty() {
        for part in [&b";host=\""[..], about.host, b"\""] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Connection and what it nominates: what is true of our connection to the endpoint.
fn push_connection(out: &mut Vec<u8>, buf: &[u8], head: &RequestHead, close: bool) {
    let upgrade = head.upgrade();
    if upgrade {
        push_upgrade(out, buf, head.lines());
    }
    if head.te_trailers() {
        out.extend_from_slice(b"te: trailers\r\n");
    }
    let options: &[u8] = match (upgrade, close, head.te_trailers()) {
        (true, _, true) => b"connection: upgrade, te\r\n",
        (true, _, false) => b"connection: upgrade\r\n",
        (false, true, true) => b"connection: close, te\r\n",
        (false, true, false) => b"connection: close\r\n",
        (false, false, true) => b"connection: te\r\n",
        (false, false, false) => b"",
    };
    out.extend_from_slice(options);
}

fn push_framing(out: &mut Vec<u8>, framing: Framing) {
    debug_assert!(framing != Framing::UntilClose, "a request can't end with its connection");
    match framing {
        Framing::Length(length) => push_length(out, length),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Empty | Framing::UntilClose => {}
    }
}

/// Appends Upgrade with the protocols that may be passed on, if there are any.
pub(super) fn push_upgrade(out: &mut Vec<u8>, buf: &[u8], lines: &[Line]) {
    let values = lines.iter().filter(|line| line.id == FieldId::Upgrade);
    let mut before: &[u8] = b"upgrade: ";
    for protocol in values.flat_map(|line| protocols(line.value.of(buf))) {
        out.extend_from_slice(before);
        out.extend_from_slice(protocol);
        before = b", ";
    }
    if before == b", " {
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends Content-Length.
pub(super) fn push_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    push_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Our line of Via, with the version the message was received in.
pub(super) fn via(received: Version, over_http2: bool) -> &'static [u8] {
    match received {
        _ if over_http2 => b"via: 2.0 ringway\r\n",
        Version::Http11 => b"via: 1.1 ringway\r\n",
        Version::Http10 => b"via: 1.0 ringway\r\n",
    }
}

fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
