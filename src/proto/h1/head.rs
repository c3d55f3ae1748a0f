//! The small types that requests and responses share.

/// Bounds on one head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes from the first byte to the empty line, both included. Values above 65,535 count as
    /// 65,535: offsets are 16 bit.
    pub bytes_max: usize,
    /// Field lines.
    pub count_max: usize,
}

/// How far a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse {
    /// Correct so far; parse again when there are more bytes.
    Partial,
    /// The whole head is there.
    Complete {
        /// Bytes from the start of the buffer to after the empty line, a skipped leading CRLF
        /// included.
        head_bytes: usize,
    },
}

/// The versions ringway speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How the body of a message ends. Source: RFC 9112 §6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// After this many bytes.
    Length(u64),
    /// With the last chunk and its trailers.
    Chunked,
    /// When the connection closes: responses only.
    UntilClose,
}
