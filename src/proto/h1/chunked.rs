//! The chunked coding.

use std::ops::Range;

use crate::base::reason::Reason;

/// The last chunk and an empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What one call of [`ChunkDecoder::decode`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where in the buffer the payload lies now.
    pub data: Range<usize>,
    /// Bytes of the buffer that belong to this body; all of it unless `done`.
    pub consumed: usize,
    /// Whether the last chunk and its trailers are complete.
    pub done: bool,
}

/// Why a chunked body was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// The size is missing, not hexadecimal, or too long.
    Size,
    /// An extension breaks the grammar.
    Extension,
    /// The line, or all extensions of the message, are longer than allowed.
    ExtensionTooLong,
    /// A chunk is not followed by CRLF.
    DataEnd,
    /// A trailer line breaks the grammar.
    Trailer,
    /// The trailers are longer or more than allowed.
    TrailerTooLarge,
}

impl ChunkError {
    /// What a client is told when its request body was refused.
    pub const fn reason(self) -> Reason {
        Reason::BadChunk
    }

    /// What is logged when an endpoint's response body was refused.
    pub const fn upstream_reason(self) -> Reason {
        Reason::UpstreamInvalid
    }
}

/// Decodes a chunked body piece by piece.
#[derive(Debug, Default)]
pub struct ChunkDecoder {}

#[allow(missing_docs)]
impl ChunkDecoder {
    pub fn reset(&mut self) {
        todo!()
    }
    pub fn decode(&mut self, buf: &mut [u8]) -> Result<Chunk, ChunkError> {
        let _ = buf;
        todo!()
    }
    pub fn trailers(&self) -> &[u8] {
        todo!()
    }
}

/// Writes the size line of a chunk of `n` bytes to the start of `out` and returns its length.
pub fn write_chunk_size(out: &mut [u8; 18], n: usize) -> usize {
    let _ = (out, n);
    todo!()
}
