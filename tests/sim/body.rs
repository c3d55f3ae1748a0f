//! Bodies on their way through the gateway of the simulation.

use ringway::proto::h1::{ChunkDecoder, Framing, LAST_CHUNK, write_chunk_size};

/// Where a body comes from.
pub(crate) enum Source {
    Length(u64),
    Chunked(Box<ChunkDecoder>),
    Close,
}

impl Source {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Empty => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Box::default()),
            Framing::UntilClose => Self::Close,
        }
    }

    /// Moves what has come from `input` to `out`; whether the body is complete.
    pub(crate) fn pump(
        &mut self,
        input: &mut Vec<u8>,
        in_chunks: bool,
        out: &mut Vec<u8>,
    ) -> Result<bool, ()> {
        match self {
            Self::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= here as u64;
                out.extend(input.drain(..here));
                Ok(*left == 0)
            }
            Self::Close => {
                push(&input[..], in_chunks, out);
                input.clear();
                Ok(false)
            }
            Self::Chunked(decoder) => {
                let behind = input.clone();
                let chunk = decoder.decode(input).map_err(|_| ())?;
                assert_eq!(
                    input[chunk.consumed..],
                    behind[chunk.consumed..],
                    "it belongs to others"
                );
                push(&input[chunk.data], in_chunks, out);
                input.drain(..chunk.consumed);
                if chunk.done && in_chunks {
                    if decoder.trailers().is_empty() {
                        out.extend_from_slice(LAST_CHUNK);
                    } else {
                        out.extend_from_slice(b"0\r\n");
                        out.extend_from_slice(decoder.trailers());
                        out.extend_from_slice(b"\r\n");
                    }
                }
                Ok(chunk.done)
            }
        }
    }
}

fn push(payload: &[u8], in_chunks: bool, out: &mut Vec<u8>) {
    if !in_chunks {
        out.extend_from_slice(payload);
    } else if !payload.is_empty() {
        let mut line = [0; 18];
        let length = write_chunk_size(&mut line, payload.len());
        out.extend_from_slice(&line[..length]);
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
    }
}
