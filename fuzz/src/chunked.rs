//! Chunked bodies: any cut gives the same payload, trailers and end.

use ringway::proto::h1::{ChunkDecoder, ChunkError};

use crate::{cut, stops};

/// Panics if a cut changes the outcome, or what was decoded does not survive another coding.
pub fn check(data: &[u8]) {
    let (size, text) = cut(data);
    let whole = decode(text, text.len().max(1));
    assert_eq!(whole, decode(text, size));
    if let Ok(Some(body)) = whole {
        let again = decode(&encode(&body), 3).expect("what we write").expect("whole");
        assert_eq!((again.payload, again.trailers), (body.payload, body.trailers));
    }
}

/// A complete body.
#[derive(Debug, PartialEq, Eq)]
pub struct Body {
    /// Its bytes.
    pub payload: Vec<u8>,
    /// The trailers that may be passed on.
    pub trailers: Vec<u8>,
    /// How many bytes it took.
    pub length: usize,
}

/// Decodes a body cut into pieces of `size` bytes; `None` if it is not complete.
pub fn decode(text: &[u8], size: usize) -> Result<Option<Body>, ChunkError> {
    let mut decoder = ChunkDecoder::default();
    let (mut payload, mut start) = (Vec::new(), 0);
    for stop in stops(text.len(), size) {
        let mut piece = text[start..stop].to_vec();
        let chunk = decoder.decode(&mut piece)?;
        payload.extend_from_slice(&piece[chunk.data]);
        start += chunk.consumed;
        if chunk.done {
            assert_eq!(&piece[chunk.consumed..], &text[start..stop], "bytes behind the body");
            let trailers = decoder.trailers().to_vec();
            return Ok(Some(Body { payload, trailers, length: start }));
        }
        assert_eq!(start, stop);
    }
    Ok(None)
}

fn encode(body: &Body) -> Vec<u8> {
    let mut text = Vec::new();
    if !body.payload.is_empty() {
        text.extend_from_slice(format!("{:x}\r\n", body.payload.len()).as_bytes());
        text.extend_from_slice(&body.payload);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"0\r\n");
    text.extend_from_slice(&body.trailers);
    text.extend_from_slice(b"\r\n");
    text
}
