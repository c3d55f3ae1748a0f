//! Chunked bodies.

use super::*;
use crate::base::limits::{CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};

type Decoded = Result<Option<(Vec<u8>, Vec<u8>, usize)>, ChunkError>;

/// Payload, trailers and length of a body; `None` if it is not complete.
fn decode(body: &[u8]) -> Decoded {
    let whole = decode_in(body, body.len().max(1));
    for size in 1..=8 {
        let torn = decode_in(body, size);
        assert_eq!(whole, torn, "{} in pieces of {size}", body.escape_ascii());
    }
    whole
}

fn decode_in(body: &[u8], size: usize) -> Decoded {
    let mut decoder = ChunkDecoder::default();
    let (mut payload, mut consumed) = (Vec::new(), 0);
    for piece in body.chunks(size) {
        let mut piece = piece.to_vec();
        let chunk = decoder.decode(&mut piece)?;
        payload.extend_from_slice(&piece[chunk.data]);
        consumed += chunk.consumed;
        if chunk.done {
            return Ok(Some((payload, decoder.trailers().to_vec(), consumed)));
        }
        assert_eq!(chunk.consumed, piece.len());
    }
    Ok(None)
}

#[test]
fn accepted() {
    for (body, payload, trailers) in [
        ("0\r\n\r\n", "", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", ""),
        ("a\r\n0123456789\r\n0\r\n\r\n", "0123456789", ""),
        ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789", ""),
        ("00005\r\nhello\r\n000\r\n\r\n", "hello", ""),
        ("0000000000000001\r\nx\r\n0000000000000000\r\n\r\n", "x", ""),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n", ""),
        ("5;a\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5;a=b\r\nhello\r\n0;c\r\n\r\n", "hello", ""),
        ("5;a=b;c=d;e\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5 ; a = b ; c\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5\t;\ta\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5;a=\"b c\"\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5;a=\"b\\\"c;\\\\\";d\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5;a=\"\"\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5;a=\"\u{e9}\"\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("1\r\nx\r\n0\r\nA: b\r\n\r\n", "x", "A: b\r\n"),
        ("0\r\nA: b\r\nC:d\r\n\r\n", "", "A: b\r\nC:d\r\n"),
        ("0\r\nContent-Length: 5\r\nA: b\r\n\r\n", "", "A: b\r\n"),
        ("0\r\nTransfer-Encoding: chunked\r\nHost: a\r\n\r\n", "", ""),
        ("0\r\nA:\r\n\r\n", "", "A:\r\n"),
    ] {
        let want = (payload.into(), trailers.into(), body.len());
        assert_eq!(decode(body.as_bytes()), Ok(Some(want.clone())), "{body:?}");
        let behind = format!("{body}GET / HTTP/1.1\r\n");
        assert_eq!(decode(behind.as_bytes()), Ok(Some(want)), "{body:?}");
        for end in 0..body.len() {
            assert_eq!(decode(&body.as_bytes()[..end]), Ok(None), "{body:?} up to {end}");
        }
    }
}

#[test]
fn refused() {
    for (body, error) in [
        ("\r\n", ChunkError::Size),
        ("\r\n\r\n", ChunkError::Size),
        ("\n", ChunkError::Size),
        (" 5\r\nhello\r\n", ChunkError::Size),
        ("\t5\r\nhello\r\n", ChunkError::Size),
        ("+5\r\nhello\r\n", ChunkError::Size),
        ("-5\r\nhello\r\n", ChunkError::Size),
        ("-0\r\n\r\n", ChunkError::Size),
        ("0x5\r\nhello\r\n", ChunkError::Size),
        ("0X5\r\nhello\r\n", ChunkError::Size),
        ("x5\r\nhello\r\n", ChunkError::Size),
        ("5g\r\nhello\r\n", ChunkError::Size),
        ("5_0\r\n", ChunkError::Size),
        ("5,5\r\n", ChunkError::Size),
        ("5.0\r\n", ChunkError::Size),
        ("5h\r\n", ChunkError::Size),
        ("'5'\r\n", ChunkError::Size),
        ("\"5\"\r\n", ChunkError::Size),
        ("g\r\n", ChunkError::Size),
        (";a\r\n", ChunkError::Size),
        ("5\nhello\r\n0\r\n\r\n", ChunkError::Size),
        ("5\rhello", ChunkError::Size),
        ("5\r\rhello", ChunkError::Size),
        ("5\0\r\nhello", ChunkError::Size),
        ("\x005\r\nhello", ChunkError::Size),
        ("5\x0b\r\n", ChunkError::Size),
        ("5\u{a0}\r\n", ChunkError::Size),
        ("\u{ff15}\r\n", ChunkError::Size),
        ("10000000000000000\r\n", ChunkError::Size),
        ("00000000000000005\r\nhello", ChunkError::Size),
        ("fffffffffffffffff\r\n", ChunkError::Size),
        ("ffffffffffffffff\r\n", ChunkError::Size),
        ("8000000000000000\r\n", ChunkError::Size),
        ("5 \r\nhello\r\n", ChunkError::Extension),
        ("5\t\r\nhello\r\n", ChunkError::Extension),
        ("5 5\r\nhello\r\n", ChunkError::Extension),
        ("0 \r\n\r\n", ChunkError::Extension),
        ("5;\r\nhello\r\n", ChunkError::Extension),
        ("5; \r\nhello\r\n", ChunkError::Extension),
        ("5;;\r\nhello\r\n", ChunkError::Extension),
        ("5;=b\r\nhello\r\n", ChunkError::Extension),
        ("5;a=\r\nhello\r\n", ChunkError::Extension),
        ("5;a=;b\r\nhello\r\n", ChunkError::Extension),
        ("5;a=b=c\r\nhello\r\n", ChunkError::Extension),
        ("5;a \r\nhello\r\n", ChunkError::Extension),
        ("5;a=b \r\nhello\r\n", ChunkError::Extension),
        ("5;a b\r\nhello\r\n", ChunkError::Extension),
        ("5;a\nhello\r\n", ChunkError::Extension),
        ("5;\nhello\r\n", ChunkError::Extension),
        ("5;a\rX\r\n", ChunkError::Size),
        ("5;a\0\r\n", ChunkError::Extension),
        ("5;a=\"b\r\nhello\r\n", ChunkError::Extension),
        ("5;a=\"b\nc\"\r\nhello\r\n", ChunkError::Extension),
        ("5;a=\"b\\\r\n\"\r\n", ChunkError::Extension),
        ("5;a=\"b\x7f\"\r\n", ChunkError::Extension),
        ("5;a=\"b\"c\r\n", ChunkError::Extension),
        ("5;a\u{e9}\r\n", ChunkError::Extension),
        ("5;a/b\r\n", ChunkError::Extension),
        ("5\r\nhello0\r\n\r\n", ChunkError::DataEnd),
        ("5\r\nhello\n0\r\n\r\n", ChunkError::DataEnd),
        ("5\r\nhello\r0\r\n\r\n", ChunkError::DataEnd),
        ("5\r\nhello \r\n0\r\n\r\n", ChunkError::DataEnd),
        ("4\r\nhello\r\n0\r\n\r\n", ChunkError::DataEnd),
        ("6\r\nhello\r\n0\r\n\r\n", ChunkError::DataEnd),
        ("5\r\nhello\r\n\r\n0\r\n\r\n", ChunkError::Size),
        ("5\r\nhello\r\n 0\r\n\r\n", ChunkError::Size),
        ("1\r\nx\r\nGET / HTTP/1.1\r\n", ChunkError::Size),
        ("0\n\n", ChunkError::Size),
        ("0\r\n\n", ChunkError::Trailer),
        ("0\r\n\rx", ChunkError::Trailer),
        ("0\r\nGET / HTTP/1.1\r\n", ChunkError::Trailer),
        ("0\r\nA: b\n\r\n", ChunkError::Trailer),
        ("0\r\nA : b\r\n\r\n", ChunkError::Trailer),
        ("0\r\n A: b\r\n\r\n", ChunkError::Trailer),
        ("0\r\nA: b\r\n c\r\n\r\n", ChunkError::Trailer),
        ("0\r\nA: \0\r\n\r\n", ChunkError::Trailer),
        ("0\r\nA\r\n\r\n", ChunkError::Trailer),
        ("0\r\n: b\r\n\r\n", ChunkError::Trailer),
    ] {
        assert_eq!(decode(body.as_bytes()), Err(error), "{body:?}");
    }
    assert_eq!(ChunkError::Size.reason().status(), 400);
    assert_eq!(ChunkError::Size.upstream_reason().status(), 502);
}

#[test]
fn bounds() {
    let longest = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(CHUNK_LINE_BYTES_MAX - 3));
    assert!(matches!(decode(longest.as_bytes()), Ok(Some(_))));
    let longer = format!("1;{}", "a".repeat(CHUNK_LINE_BYTES_MAX - 1));
    assert_eq!(decode(longer.as_bytes()), Err(ChunkError::ExtensionTooLong));
    let endless = format!("1;a=\"{}", "b".repeat(100_000));
    assert_eq!(decode(endless.as_bytes()), Err(ChunkError::ExtensionTooLong));
    let endless = format!("0\r\n{}", "a: b\r\n".repeat(TRAILER_BYTES_MAX));
    assert_eq!(decode(endless.as_bytes()), Err(ChunkError::TrailerTooLarge));
    let endless = format!("0\r\nX: {}", "a".repeat(TRAILER_BYTES_MAX));
    assert_eq!(decode(endless.as_bytes()), Err(ChunkError::TrailerTooLarge));
    let huge = b"7fffffffffffffff\r\nabc";
    assert_eq!(decode(huge), Ok(None));
}
