//! Tables of raw messages and what must become of them, by topic. Each is parsed whole, byte by
//! byte, and with another message right behind it: the outcome must be the same.

mod chunks;
mod fields;
mod forwarding;
mod framing;
mod hosts;
mod random;
mod request_line;
mod responses;

use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes_max: 4096, count_max: 64 };

/// A request head and its length; `None` if it is not complete.
fn parse_request(text: &[u8]) -> Result<Option<(RequestHead, usize)>, HeadError> {
    let whole = request_in(text, &[text.len()]);
    let every_byte: Vec<usize> = (0..=text.len()).collect();
    let torn = request_in(text, &every_byte);
    let outcome = |result: &Result<Option<(RequestHead, usize)>, HeadError>| match result {
        Ok(Some((head, length))) => format!("{length} {head:?}"),
        Ok(None) => "partial".to_owned(),
        Err(error) => format!("{error:?}"),
    };
    assert_eq!(outcome(&whole), outcome(&torn), "{}", text.escape_ascii());
    if !matches!(whole, Ok(None)) {
        let behind = [text, b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n"].concat();
        let pipelined = request_in(&behind, &[behind.len()]);
        assert_eq!(outcome(&whole), outcome(&pipelined), "{}", text.escape_ascii());
    }
    whole
}

/// Parses what is there at each of `stops`.
fn request_in(text: &[u8], stops: &[usize]) -> Result<Option<(RequestHead, usize)>, HeadError> {
    let mut head = RequestHead::default();
    for &stop in stops {
        if let Parse::Complete { head_bytes } = head.parse(&text[..stop], LIMITS)? {
            return Ok(Some((head, head_bytes)));
        }
    }
    Ok(None)
}

/// A complete request head; panics if it is refused or not complete.
fn accept(text: &str) -> RequestHead {
    match parse_request(text.as_bytes()) {
        Ok(Some((head, length))) => {
            assert_eq!(length, text.len(), "{text:?}");
            head
        }
        other => panic!("{text:?}: {other:?}"),
    }
}

/// Why a request head is refused; panics if it is not.
fn refuse(text: &[u8]) -> HeadError {
    match parse_request(text) {
        Err(error) => error,
        Ok(Some(_)) => panic!("{}: accepted", text.escape_ascii()),
        Ok(None) => panic!("{}: waits for more", text.escape_ascii()),
    }
}

/// A GET of HTTP/1.1 with these field lines besides Host.
fn get_with(lines: &str) -> String {
    format!("GET /p HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")
}

/// A POST of HTTP/1.1 with these field lines besides Host.
fn post_with(lines: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")
}

const GET: ResponseTo = ResponseTo { method: Method::Get, upgrade: false };

/// A response head and its length; `None` if it is not complete.
fn parse_response(text: &[u8], of: ResponseTo) -> Result<Option<(ResponseHead, usize)>, HeadError> {
    let whole = response_in(text, of, &[text.len()]);
    let every_byte: Vec<usize> = (0..=text.len()).collect();
    let torn = response_in(text, of, &every_byte);
    assert_eq!(format!("{whole:?}"), format!("{torn:?}"), "{}", text.escape_ascii());
    whole
}

fn response_in(
    text: &[u8],
    of: ResponseTo,
    stops: &[usize],
) -> Result<Option<(ResponseHead, usize)>, HeadError> {
    let mut head = ResponseHead::default();
    for &stop in stops {
        if let Parse::Complete { head_bytes } = head.parse(&text[..stop], LIMITS, of)? {
            return Ok(Some((head, head_bytes)));
        }
    }
    Ok(None)
}
