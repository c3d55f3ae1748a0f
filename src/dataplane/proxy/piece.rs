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
            Framing::Chunked => {
                decoder.reset(); // here, so that requests without chunks don't touch it
                Source::Chunked { decoder, done: false }
            }
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

    /// How many bytes to read to learn whether it ends here, although there is no room for payload.
    pub(super) fn bytes_to_the_end(&self) -> usize {
        match self {
            Source::Length(_) => 0,
            Source::Chunked { decoder, .. } => decoder.bytes_beside_payload(),
            Source::UntilClose => 1,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::BufPool;

    /// Feeds `wire` in two parts, cut at `cut`, and returns what leaves and what is left.
    fn pass(wire: &[u8], cut: usize, framing: Framing, sink: Sink) -> (Vec<u8>, Vec<u8>) {
        let pool = BufPool::new(4096, 4);
        let mut decoder = ChunkDecoder::default();
        let mut source = Source::new(framing, &mut decoder);
        let mut out = Vec::new();
        let mut buf = pool.take().unwrap();
        for part in [&wire[..cut], &wire[cut..]] {
            assert!(buf.append(part));
            if source.is_done() || buf.is_empty() {
                continue;
            }
            let piece = next_piece(&mut buf, &mut source, sink).unwrap();
            out.extend_from_slice(&buf.data()[..piece.send]);
            buf.consume(piece.send + piece.skip);
            if source.is_done() && sink == Sink::Chunks && !piece.ended {
                out.extend_from_slice(b"0\r\n");
                out.extend_from_slice(source.trailers());
                out.extend_from_slice(b"\r\n");
            }
        }
        (out, buf.data().to_vec())
    }

    /// The payload and trailers of a chunked body, read by a decoder that is not ours.
    fn unchunk(mut wire: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut payload = Vec::new();
        loop {
            let line = wire.windows(2).position(|two| two == b"\r\n").unwrap();
            let size =
                usize::from_str_radix(std::str::from_utf8(&wire[..line]).unwrap(), 16).unwrap();
            wire = &wire[line + 2..];
            if size == 0 {
                return (payload, wire.strip_suffix(b"\r\n").unwrap().to_vec());
            }
            payload.extend_from_slice(&wire[..size]);
            assert_eq!(&wire[size..size + 2], b"\r\n");
            wire = &wire[size + 2..];
        }
    }

    const CHUNKED: &[u8] =
        b"5\r\nhello\r\n1;x=y\r\n,\r\n0006\r\n world\r\n0\r\nx-sum: 1\r\n\r\nGET / HTTP/1.1\r\n";

    #[test]
    fn chunks_are_made_anew_wherever_they_are_cut() {
        for cut in 0..=CHUNKED.len() {
            let (out, left) = pass(CHUNKED, cut, Framing::Chunked, Sink::Chunks);
            let (payload, trailers) = unchunk(&out);
            assert_eq!(payload, b"hello, world", "cut at {cut}");
            assert_eq!(trailers, b"x-sum: 1\r\n", "cut at {cut}");
            assert_eq!(left, b"GET / HTTP/1.1\r\n", "cut at {cut}: the next request is untouched");
        }
    }

    #[test]
    fn a_whole_body_without_trailers_leaves_in_one_piece() {
        let wire = b"3\r\nabc\r\n0\r\n\r\n";
        for cut in 0..=wire.len() {
            let (out, left) = pass(wire, cut, Framing::Chunked, Sink::Chunks);
            assert_eq!(unchunk(&out), (b"abc".to_vec(), Vec::new()), "cut at {cut}");
            assert!(left.is_empty());
        }
        let (out, _) = pass(wire, wire.len(), Framing::Chunked, Sink::Chunks);
        assert_eq!(out, wire);
    }

    #[test]
    fn chunks_become_plain_bytes() {
        for cut in 0..=CHUNKED.len() {
            let (out, left) = pass(CHUNKED, cut, Framing::Chunked, Sink::Plain);
            assert_eq!(out, b"hello, world", "cut at {cut}");
            assert_eq!(left, b"GET / HTTP/1.1\r\n");
        }
    }

    #[test]
    fn a_length_ends_where_it_says() {
        for cut in 0..=8 {
            let (out, left) = pass(b"12345GET", cut, Framing::Length(5), Sink::Plain);
            assert_eq!((&out[..], &left[..]), (&b"12345"[..], &b"GET"[..]), "cut at {cut}");
        }
    }

    #[test]
    fn a_body_until_close_is_framed_in_chunks() {
        for cut in 0..=6 {
            let (mut out, left) = pass(b"abcdef", cut, Framing::UntilClose, Sink::Chunks);
            out.extend_from_slice(b"0\r\n\r\n");
            assert_eq!(unchunk(&out).0, b"abcdef", "cut at {cut}");
            assert!(left.is_empty());
        }
    }
}
