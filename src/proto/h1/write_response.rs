//! The head that goes to the client.

use super::{Framing, ResponseHead, Version};

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
}

/// Appends the head to send to the client.
pub fn write_response_head(
    out: &mut Vec<u8>,
    buf: &[u8],
    head: &ResponseHead,
    f: &ResponseForward<'_>,
) {
    let _ = (out, buf, head, f);
    todo!()
}
