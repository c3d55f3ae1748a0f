//! HTTP/1: strict heads as offsets into the receive buffer, framing decided once, chunks decoded
//! in place, heads rewritten by copying runs of untouched lines.
//!
//! A head is parsed by [`RequestHead::parse`] or [`ResponseHead::parse`], called again with more
//! bytes until complete. [`write_request_head`] and [`write_response_head`] make what goes to the
//! other side; framing fields are never copied, always made anew from [`Framing`]. Bodies with
//! [`Framing::Chunked`] go through [`ChunkDecoder`].

mod answer;
mod chunked;
mod connection;
mod error;
mod field;
mod framing;
mod head;
mod method;
mod request;
mod response;
mod section;
mod target;
mod trailer;
mod write_request;
mod write_response;

#[cfg(test)]
mod cases;

pub use answer::{Answer, reason_phrase, write_answer};
pub use chunked::{Chunk, ChunkDecoder, ChunkError, LAST_CHUNK, write_chunk_size};
pub use error::HeadError;
pub use field::{Field, FieldId};
pub use head::{Framing, HeadLimits, Parse, Version};
pub use method::Method;
pub use request::RequestHead;
pub use response::{ResponseHead, ResponseTo};
pub use target::TargetForm;
pub use write_request::{ForwardedOut, RequestForward, write_request_head};
pub use write_response::{ResponseForward, write_response_head};
