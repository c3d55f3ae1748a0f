//! Responses of endpoints.

use super::*;
use crate::base::limits::BODY_LENGTH_MAX;

const HEAD: ResponseTo = ResponseTo { method: Method::Head, upgrade: false };
const UPGRADE: ResponseTo = ResponseTo { method: Method::Get, upgrade: true };

fn accepted(text: &str, of: ResponseTo) -> ResponseHead {
    let (head, length) = parse_response(text.as_bytes(), of)
        .unwrap_or_else(|error| panic!("{text:?}: {error:?}"))
        .unwrap_or_else(|| panic!("{text:?}: waits for more"));
    assert_eq!(length, text.len());
    for end in 0..length {
        assert!(matches!(parse_response(&text.as_bytes()[..end], of), Ok(None)), "{text:?} {end}");
    }
    head
}

fn refused(text: &[u8], of: ResponseTo) -> HeadError {
    let error = parse_response(text, of).expect_err(&text.escape_ascii().to_string());
    assert_eq!(error.upstream_reason().status(), 502);
    error
}

/// Status line and fields -> status, framing, whether the connection may be used again.
#[test]
fn framing_and_reuse() {
    use Framing::{Chunked, Empty, Length, UntilClose};
    for (text, of, status, framing, reuse) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", GET, 200, Length(5), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", GET, 200, Length(0), true),
        ("HTTP/1.1 200 OK\r\nContent-Length:  05\t\r\n", GET, 200, Length(5), true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", GET, 200, Chunked, true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n", GET, 200, Chunked, true),
        ("HTTP/1.1 200 OK\r\n", GET, 200, UntilClose, false),
        ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n", GET, 200, UntilClose, false),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n",
            GET,
            200,
            Length(5),
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, Close\r\n",
            GET,
            200,
            Length(5),
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n",
            GET,
            200,
            Length(5),
            true,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: a;b\r\n", GET, 200, Length(5), false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n", GET, 200, Length(5), false),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n",
            GET,
            200,
            Length(5),
            true,
        ),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive, close\r\n",
            GET,
            200,
            Length(5),
            false,
        ),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", GET, 200, UntilClose, false),
        ("HTTP/1.0 200 OK\r\n", GET, 200, UntilClose, false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", HEAD, 200, Empty, true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", HEAD, 200, Empty, true),
        ("HTTP/1.1 200 OK\r\n", HEAD, 200, Empty, true),
        ("HTTP/1.0 200 OK\r\n", HEAD, 200, Empty, false),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n", HEAD, 404, Empty, true),
        ("HTTP/1.1 204 No Content\r\n", GET, 204, Empty, true),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n", GET, 204, Empty, true),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n", GET, 204, Empty, false),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n", GET, 204, Empty, false),
        ("HTTP/1.1 204 No Content\r\nConnection: close\r\n", GET, 204, Empty, false),
        ("HTTP/1.1 304 Not Modified\r\n", GET, 304, Empty, true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n", GET, 304, Empty, true),
        ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n", GET, 304, Empty, true),
        ("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n", GET, 205, Length(0), true),
        ("HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n", GET, 205, Chunked, true),
        ("HTTP/1.1 100 Continue\r\n", GET, 100, Empty, true),
        ("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n", GET, 103, Empty, true),
        ("HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n", GET, 100, Empty, false),
        ("HTTP/1.1 201 Created\r\nContent-Length: 1\r\n", GET, 201, Length(1), true),
        ("HTTP/1.1 206 Partial\r\nContent-Length: 1\r\n", GET, 206, Length(1), true),
        ("HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n", GET, 301, Length(0), true),
        ("HTTP/1.1 407 x\r\nContent-Length: 0\r\n", GET, 407, Length(0), true),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n", GET, 500, Length(2), true),
        ("HTTP/1.1 600 What\r\nContent-Length: 2\r\n", GET, 600, Length(2), true),
        ("HTTP/1.1 999 Request denied\r\nContent-Length: 2\r\n", GET, 999, Length(2), true),
        ("HTTP/1.1 200\r\nContent-Length: 2\r\n", GET, 200, Length(2), true),
        ("HTTP/1.1 200 \r\nContent-Length: 2\r\n", GET, 200, Length(2), true),
        ("HTTP/1.1 200  two  spaces \r\nContent-Length: 2\r\n", GET, 200, Length(2), true),
        ("HTTP/1.1 200 caf\u{e9}\r\nContent-Length: 2\r\n", GET, 200, Length(2), true),
        ("HTTP/1.1 200 a\tb\r\nContent-Length: 2\r\n", GET, 200, Length(2), true),
        ("HTTP/1.1 200 200\r\nContent-Length: 2\r\n", GET, 200, Length(2), true),
        (
            "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n",
            UPGRADE,
            101,
            Empty,
            false,
        ),
        ("HTTP/1.1 101\r\nUpgrade: websocket\r\n", UPGRADE, 101, Empty, false),
        ("HTTP/1.1 426 Upgrade\r\nUpgrade: a\r\nContent-Length: 0\r\n", GET, 426, Length(0), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", UPGRADE, 200, Length(5), true),
        (
            "HTTP/1.1 200 OK\r\nContent_Length: 5\r\nContent-Length: 6\r\n",
            GET,
            200,
            Length(6),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 6\r\n",
            GET,
            200,
            Length(6),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n",
            GET,
            200,
            Length(BODY_LENGTH_MAX),
            true,
        ),
    ] {
        let head = accepted(&format!("{text}\r\n"), of);
        assert_eq!(head.status(), status, "{text:?}");
        assert_eq!(head.framing(), framing, "{text:?}");
        assert_eq!(head.keep_alive(), reuse, "{text:?}");
        assert_eq!(head.is_interim(), (100..200).contains(&status) && status != 101);
        assert_eq!(head.is_upgrade(), status == 101);
    }
}

#[test]
fn status_lines_refused() {
    for (text, error) in [
        ("HTTP/1.1 20 OK\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 2000 OK\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 099 OK\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 000 OK\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 2x0 OK\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 -20 OK\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 +20 OK\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 2 0 OK\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1  200 OK\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1\t200 OK\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 200\tOK\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 200OK\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 OK 200\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 \r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.2 200 OK\r\n\r\n", HeadError::StatusLine),
        ("HTTP/2.0 200 OK\r\n\r\n", HeadError::StatusLine),
        ("HTTP/2 200\r\n\r\n", HeadError::StatusLine),
        ("HTTP/0.9 200 OK\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.10 200 OK\r\n\r\n", HeadError::StatusLine),
        ("HTTP/11 200 OK\r\n\r\n", HeadError::StatusLine),
        ("http/1.1 200 OK\r\n\r\n", HeadError::StatusLine),
        ("ICY 200 OK\r\n\r\n", HeadError::StatusLine),
        (" HTTP/1.1 200 OK\r\n\r\n", HeadError::StatusLine),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", HeadError::StatusLine),
        ("\nHTTP/1.1 200 OK\r\n\r\n", HeadError::StatusLine),
        ("<html></html>", HeadError::StatusLine),
        ("hello", HeadError::StatusLine),
        ("SSH-2.0-OpenSSH_9.2\r\n", HeadError::StatusLine),
        ("220 smtp.test ESMTP\r\n", HeadError::StatusLine),
        ("\0", HeadError::StatusLine),
        ("GET / HTTP/1.1\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 200 O\0K\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 200 O\x07K\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 200 O\x7fK\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 200 OK\n\r\n", HeadError::BareLf),
        ("HTTP/1.1 200\n\r\n", HeadError::BareLf),
        ("HTTP/1.1 200 OK\rX: y\r\n\r\n", HeadError::BareCr),
        ("HTTP/1.1 200\rX\r\n\r\n", HeadError::BareCr),
        ("HTTP/1.1 200 OK\r\r\n\r\n", HeadError::BareCr),
    ] {
        assert_eq!(refused(text.as_bytes(), GET), error, "{text:?}");
    }
}

#[test]
fn fields_refused() {
    for (lines, error) in [
        ("Content-Length: 5\r\nContent-Length: 5\r\n", HeadError::LengthRepeated),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", HeadError::LengthRepeated),
        ("Content-Length: 5, 5\r\n", HeadError::LengthInvalid),
        ("Content-Length: 5,6\r\n", HeadError::LengthInvalid),
        ("Content-Length: +5\r\n", HeadError::LengthInvalid),
        ("Content-Length: -1\r\n", HeadError::LengthInvalid),
        ("Content-Length:\r\n", HeadError::LengthInvalid),
        ("Content-Length: x\r\n", HeadError::LengthInvalid),
        ("Content-Length: 0x5\r\n", HeadError::LengthInvalid),
        ("Content-Length: 5 5\r\n", HeadError::LengthInvalid),
        ("Content-Length: 18446744073709551616\r\n", HeadError::LengthInvalid),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", HeadError::LengthAndCoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", HeadError::LengthAndCoding),
        ("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n", HeadError::LengthAndCoding),
        ("Transfer-Encoding: gzip\r\n", HeadError::CodingUnsupported),
        ("Transfer-Encoding: identity\r\n", HeadError::CodingUnsupported),
        ("Transfer-Encoding: gzip, chunked\r\n", HeadError::CodingUnsupported),
        ("Transfer-Encoding: chunked, gzip\r\n", HeadError::CodingInvalid),
        ("Transfer-Encoding: chunked, chunked\r\n", HeadError::CodingInvalid),
        ("Transfer-Encoding: xchunked\r\n", HeadError::CodingInvalid),
        ("Transfer-Encoding:\r\n", HeadError::CodingInvalid),
        ("Transfer-Encoding: chunked;x\r\n", HeadError::CodingInvalid),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", HeadError::CodingRepeated),
        (
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
            HeadError::CodingRepeated,
        ),
        ("X: y\r\n z\r\n", HeadError::ObsFold),
        (" X: y\r\n", HeadError::ObsFold),
        ("\tX: y\r\n", HeadError::ObsFold),
        ("X : y\r\n", HeadError::FieldName),
        ("X\r\n", HeadError::FieldName),
        (": y\r\n", HeadError::FieldName),
        ("X Y: z\r\n", HeadError::FieldName),
        ("X\0: z\r\n", HeadError::FieldName),
        ("X: a\0b\r\n", HeadError::FieldValue),
        ("X: a\x08b\r\n", HeadError::FieldValue),
        ("X: y\n", HeadError::BareLf),
        ("X: y\nZ: 1\r\n", HeadError::BareLf),
        ("\n", HeadError::BareLf),
        ("X: y\rZ: 1\r\n", HeadError::BareCr),
        ("\rX: y\r\n", HeadError::BareCr),
    ] {
        for of in [GET, HEAD] {
            let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
            assert_eq!(refused(text.as_bytes(), of), error, "{lines:?}");
            let text = format!("HTTP/1.1 304 x\r\n{lines}\r\n");
            assert_eq!(refused(text.as_bytes(), of), error, "{lines:?}");
        }
    }
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(old.as_bytes(), GET), HeadError::CodingInHttp10);
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(refused(old.as_bytes(), GET), HeadError::LengthAndCoding);
}

#[test]
fn switches_refused() {
    for (text, of) in [
        ("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", GET),
        ("HTTP/1.1 101 x\r\n\r\n", GET),
        ("HTTP/1.1 101 x\r\n\r\n", HEAD),
        ("HTTP/1.1 101 x\r\n\r\n", UPGRADE),
        ("HTTP/1.1 101 x\r\nUpgrade:\r\n\r\n", UPGRADE),
        ("HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", UPGRADE),
    ] {
        assert_eq!(refused(text.as_bytes(), of), HeadError::SwitchUnasked, "{text:?}");
    }
}

#[test]
fn limits() {
    let parse = |text: &[u8], bytes_max, count_max| {
        ResponseHead::default().parse(text, HeadLimits { bytes_max, count_max }, GET)
    };
    let text = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n";
    let complete = Ok(Parse::Complete { head_bytes: text.len() });
    assert_eq!(parse(text, text.len(), 1), complete);
    assert_eq!(parse(text, text.len() - 1, 1), Err(HeadError::HeadTooLarge));
    assert_eq!(parse(text, 10, 1), Err(HeadError::HeadTooLarge));
    assert_eq!(parse(text, text.len(), 0), Err(HeadError::FieldsTooMany));
    let endless = [b"HTTP/1.1 200 ".to_vec(), vec![b'a'; 70_000]].concat();
    assert_eq!(parse(&endless, usize::MAX, 1), Err(HeadError::HeadTooLarge));
    assert_eq!(HeadError::HeadTooLarge.upstream_reason().code(), "upstream_header_too_large");
    assert_eq!(HeadError::FieldsTooMany.upstream_reason().code(), "upstream_header_too_large");
    assert_eq!(HeadError::BareLf.upstream_reason().code(), "upstream_invalid");
}

#[test]
fn one_response_after_another() {
    let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let mut head = ResponseHead::default();
    let Ok(Parse::Complete { head_bytes }) = head.parse(text, LIMITS, GET) else { panic!() };
    assert!(head.is_interim());
    head.clear();
    let rest = &text[head_bytes..];
    let Ok(Parse::Complete { head_bytes }) = head.parse(rest, LIMITS, GET) else { panic!() };
    assert_eq!((head.status(), head.framing()), (200, Framing::Length(2)));
    assert_eq!(&rest[head_bytes..], b"hi");
    assert_eq!(head.content_length(), Some(2));
    let values: Vec<_> = head.field_values(rest, b"content-length").collect();
    assert_eq!(values, [b"2"]);
}
