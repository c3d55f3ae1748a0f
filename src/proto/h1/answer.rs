//! Responses that ringway makes itself.

use super::Version;

/// A response made by ringway itself.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// 200..=599
    pub status: u16,
    /// The code for `x-ringway-reason`; empty for none.
    pub reason: &'a str,
    /// The body; left out for HEAD, its length is still told.
    pub body: &'a [u8],
    /// The type of the body; empty for none.
    pub content_type: &'a str,
    /// The methods for Allow.
    pub allow: Option<&'a [u8]>,
    /// Whether the client's connection stays open.
    pub keep_alive: bool,
    /// The version of the client's request; 1.1 if that is unknown.
    pub client_version: Version,
    /// Whether the request was a HEAD.
    pub head_request: bool,
    /// The Date.
    pub date: &'a [u8],
    /// More complete field lines, each with its CRLF.
    pub extra: &'a [u8],
}

/// Appends a complete response.
pub fn write_answer(out: &mut Vec<u8>, a: &Answer<'_>) {
    let _ = (out, a);
    todo!()
}

/// The phrase of RFC 9110 §15 for a status; empty if it has none.
pub const fn reason_phrase(status: u16) -> &'static str {
    let _ = status;
    todo!()
}
