//! Requests that ringway accepts are framed alike by httparse and monoio-http: if two other parsers
//! find the same fields and the same end, nothing can hide between them. The other direction is not
//! asked for: both accept much that ringway refuses.
//!
//! Known differences of monoio-http 0.3.12, each a refusal or a shortcoming that costs a request but
//! frames none differently:
//! 1. a target that `http::Uri` does not take (an authority with `;`, `=`, ...) is refused;
//! 2. chunk extensions and trailers are refused;
//! 3. it waits for more after a last chunk that it has not seen the end of.

use bytes::BytesMut;
use monoio_codec::{Decoded, Decoder};
use monoio_http::{
    common::{body::StreamHint, error::HttpError},
    h1::codec::decoder::{
        ChunkedBodyDecoder, DecodeError, DirectWrapper, GenericHeadDecoder, PayloadDecoder,
        RequestHeadDecoder,
    },
};
use ringway::proto::h1::{Framing, Parse, RequestHead};

use crate::{LIMITS, chunked::decode};

/// Panics if another parser frames an accepted request differently.
pub fn check(data: &[u8]) {
    let mut head = RequestHead::default();
    let Ok(Parse::Complete { head_bytes }) = head.parse(data, LIMITS) else { return };
    same_for_httparse(&head, data, head_bytes);
    same_for_monoio_http(&head, data, head_bytes);
}

fn same_for_httparse(head: &RequestHead, data: &[u8], head_bytes: usize) {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut other = httparse::Request::new(&mut headers);
    let status = other.parse(data);
    assert_eq!(status, Ok(httparse::Status::Complete(head_bytes)), "{}", data.escape_ascii());
    assert_eq!(other.method.map(str::as_bytes), Some(head.method_bytes(data)));
    assert_eq!(other.path.map(str::as_bytes), Some(head.target(data)));
    assert_eq!(other.version == Some(1), head.version() == ringway::proto::h1::Version::Http11);
    let ours = head.fields(data).map(|field| (field.name, field.value));
    let theirs = other.headers.iter().map(|field| (field.name.as_bytes(), field.value));
    assert!(ours.eq(theirs), "fields of {}", data.escape_ascii());
}

fn same_for_monoio_http(head: &RequestHead, data: &[u8], head_bytes: usize) {
    let mut src = BytesMut::from(data);
    let mut decoder =
        GenericHeadDecoder::<(), RequestHeadDecoder, DirectWrapper>::new(RequestHeadDecoder);
    let (their_head, body) = match decoder.decode(&mut src) {
        Ok(Decoded::Some(parsed)) => parsed,
        Err(HttpError::H1DecodeError(DecodeError::Uri(_))) => return, // known difference 1
        Ok(_) => panic!("monoio-http waits: {}", data.escape_ascii()),
        Err(error) => panic!("monoio-http refuses: {error:?}: {}", data.escape_ascii()),
    };
    assert_eq!(src.len(), data.len() - head_bytes, "end of {}", data.escape_ascii());
    let length = their_head.headers.get("content-length");
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match (head.framing(), body.hint()) {
        (Framing::Empty, StreamHint::None) => assert_eq!(length, None),
        (Framing::Length(0), StreamHint::None) => {}
        (Framing::Length(ours), StreamHint::Fixed) => assert_eq!(Some(ours), length),
        (Framing::Chunked, StreamHint::Stream) => {
            let PayloadDecoder::Streamed(decoder) = body else { unreachable!("hint says so") };
            same_chunks(decoder, src, &data[head_bytes..]);
        }
        (ours, _) => panic!("{ours:?} is not theirs: {}", data.escape_ascii()),
    }
}

fn same_chunks(mut decoder: ChunkedBodyDecoder, mut src: BytesMut, data: &[u8]) {
    let Ok(Some(body)) = decode(data, data.len().max(1)) else { return };
    let mut payload = Vec::new();
    loop {
        match decoder.decode(&mut src) {
            Ok(Decoded::Some(Some(piece))) => payload.extend_from_slice(&piece),
            Ok(Decoded::Some(None)) => break,
            Ok(_) | Err(_) => return, // known differences 2 and 3
        }
    }
    assert_eq!(payload, body.payload, "payload of {}", data.escape_ascii());
    assert_eq!(data.len() - src.len(), body.length, "end of {}", data.escape_ascii());
}
