//! What is handed to the `h2` crate to be sent: a pooled buffer as it is, or a copy of a little.

use bytes::Bytes;

use crate::{base::limits, rt};

/// Body bytes on their way out.
pub(super) enum Chunk {
    /// All that is left in a buffer.
    Pooled(rt::Buf),
    /// A copy.
    Copied(Bytes),
}

impl Chunk {
    /// Nothing.
    pub(super) fn empty() -> Self {
        Self::Copied(Bytes::new())
    }

    /// A buffer, if it is full enough to be kept until it is sent; else a copy of its bytes, so that
    /// a queue of small pieces does not hold large buffers.
    pub(super) fn of(buf: rt::Buf) -> Self {
        if buf.len() >= limits::H2_POOLED_BYTES_MIN {
            Self::Pooled(buf)
        } else {
            Self::Copied(Bytes::copy_from_slice(buf.data()))
        }
    }
}

impl Chunk {
    /// What it has in memory of its own, if that is much less than it holds.
    pub(super) fn shrunk(self) -> Self {
        match self {
            Self::Pooled(buf) if buf.len() <= limits::H2_WAITING_COPIED_MAX => {
                Self::Copied(Bytes::copy_from_slice(buf.data()))
            }
            chunk => chunk,
        }
    }

    /// Bytes of memory it holds.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Pooled(buf) => buf.room(),
            Self::Copied(bytes) => bytes.len(),
        }
    }
}

impl bytes::Buf for Chunk {
    fn remaining(&self) -> usize {
        match self {
            Self::Pooled(buf) => buf.len(),
            Self::Copied(bytes) => bytes.len(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Pooled(buf) => buf.data(),
            Self::Copied(bytes) => bytes,
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Pooled(buf) => buf.consume(count),
            Self::Copied(bytes) => bytes::Buf::advance(bytes, count),
        }
    }
}
