//! The next piece of a body: framing decoded on one side, made anew for the other, in place.

use crate::{
    proto::h1::{ChunkDecoder, ChunkError, Framing, write_chunk_size},
    rt::Buf,
};

/// How the body arrives, and how much of it is left.
pub(super) enum Source<'a> {
    /// This many bytes more.
    Length(u64),
    /// In chunks.
    Chunked {
        /// Where the decoding stands.
        decoder: &'a mut ChunkDecoder,
        /// Whether the last chunk has been seen.
        done: bool,
    },
    /// Until the endpoint closes.
    UntilClose,
}

impl<'a> Source<'a> {
    /// The source of a message with this framing.
    pub(super) fn new(framing: Framing, decoder: &'a mut ChunkDecoder) -> Self {
        match framing {
            Framing::Empty => Source::Length(0),
            Framing::Length(length) => Source::Length(length),
            Framing::Chunked => Source::Chunked { decoder, done: false },
            Framing::UntilClose => Source::UntilClose,
        }
    }

    /// Whether nothing more will come.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Source::Length(left) => *left == 0,
            Source::Chunked { done, .. } => *done,
            Source::UntilClose => false,
        }
    }

    /// The trailer lines of a chunked body that is done.
    pub(super) fn trailers(&self) -> &[u8] {
        match self {
            Source::Chunked { decoder, done: true } => decoder.trailers(),
            _ => &[],
        }
    }
}

/// How the body leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    /// As it is: the receiver knows its length, or reads until the connection closes.
    Plain,
    /// In chunks.
    Chunks,
}

/// What to do with the front of the buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    /// Send this many bytes,
    pub(super) send: usize,
    /// then drop this many: framing of the source that has served its purpose.
    pub(super) skip: usize,
    /// How many of the sent bytes are body.
    pub(super) payload: usize,
    /// Whether the bytes to send end with the last chunk.
    pub(super) ended: bool,
}

const CRLF: &[u8] = b"\r\n";
const CRLF_LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// Turns what lies in `buf` into the next piece. Bytes behind the body (a pipelined request) are
/// left alone. The buffer may come out with nothing to send: then only framing had arrived.
///
/// # Errors
/// When the chunked coding of the source is broken.
pub(super) fn next_piece(
    buf: &mut Buf,
    source: &mut Source<'_>,
    sink: Sink,
) -> Result<Piece, ChunkError> {
    match source {
        Source::Length(left) => {
            let payload = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
            *left -= payload as u64;
            Ok(match sink {
                Sink::Plain => Piece { send: payload, payload, ..Piece::default() },
                Sink::Chunks => as_chunk(buf, payload, 0, false),
            })
        }
        Source::UntilClose => {
            let payload = buf.len();
            Ok(match sink {
                Sink::Plain => Piece { send: payload, payload, ..Piece::default() },
                Sink::Chunks => as_chunk(buf, payload, 0, false),
            })
        }
        Source::Chunked { decoder, done } => {
            let chunk = decoder.decode(buf.data_mut())?;
            *done = chunk.done;
            let payload = chunk.data.len();
            let gap = chunk.consumed - chunk.data.end;
            if payload == 0 {
                return Ok(Piece { skip: chunk.consumed, ..Piece::default() });
            }
            buf.consume(chunk.data.start);
            Ok(match sink {
                Sink::Plain => Piece { send: payload, skip: gap, payload, ended: false },
                Sink::Chunks => {
                    as_chunk(buf, payload, gap, chunk.done && decoder.trailers().is_empty())
                }
            })
        }
    }
}

/// Frames the first `payload` bytes as one chunk. Behind them lie `gap` bytes of old framing, which
/// give room to the new; where they don't, nothing else has arrived, and the tailroom is free.
fn as_chunk(buf: &mut Buf, payload: usize, gap: usize, last: bool) -> Piece {
    if payload == 0 {
        return Piece { skip: gap, ..Piece::default() };
    }
    let end = if last { CRLF_LAST_CHUNK } else { CRLF };
    let skip = if gap >= end.len() {
        buf.data_mut()[payload..payload + end.len()].copy_from_slice(end);
        gap - end.len()
    } else {
        assert!(buf.len() == payload + gap, "the end of a chunk must not overwrite what follows");
        buf.truncate(payload);
        assert!(buf.append(end), "the tailroom holds the end of a chunk");
        0
    };
    let mut line = [0; 18];
    let length = write_chunk_size(&mut line, payload);
    assert!(buf.prepend(&line[..length]), "the headroom holds a chunk size");
    Piece { send: length + payload + end.len(), skip, payload, ended: last }
}
