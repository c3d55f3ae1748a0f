//! HTTP/2 messages as HTTP/1 text and back: what lies between a stream and the rest of ringway.
//!
//! A stream's head is checked by the rules of RFC 9113 §8 and written as an HTTP/1.1 head, which the
//! strict parser of [`super::h1`] reads again: what the two do not agree on goes nowhere. The other
//! way, [`Unframer`] takes what ringway's own writers made apart into frames. Frames and header
//! compression are the `h2` crate's.
//!
//! [`FrameMeter`] looks at raw frames for what that crate does not bound, or look at.

mod block;
mod fields;
mod from_request;
mod from_response;
mod huffman;
mod mend;
mod meter;
mod responses;
mod unframe;

pub use fields::{Malformed, write_trailers};
pub use from_request::{RequestText, write_request};
pub use from_response::{write_response, write_upgrade};
pub use meter::{FrameMeter, Passed, Refusal, Windows};
pub use responses::Suspect;
pub use unframe::{Frames, Side, Tunnel, Unframer};

/// What a client that speaks HTTP/2 without being asked begins with. Source: RFC 9113 §3.4.
pub const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// Whether `bytes` can be the beginning of an HTTP/2 connection and of no HTTP/1 request.
pub fn is_preface(bytes: &[u8]) -> bool {
    const TOLD_APART: usize = b"PRI * ".len();
    let seen = bytes.len().min(PREFACE_LINE.len());
    seen >= TOLD_APART && bytes[..seen] == PREFACE_LINE[..seen]
}
