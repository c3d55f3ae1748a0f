//! The head that goes to the endpoint.

use super::{Framing, RequestHead};

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

/// Appends the head to send to the endpoint, always as HTTP/1.1.
pub fn write_request_head(
    out: &mut Vec<u8>,
    buf: &[u8],
    head: &RequestHead,
    f: &RequestForward<'_>,
) {
    let _ = (out, buf, head, f);
    todo!()
}
