//! Content-Length and Transfer-Encoding of requests: where smuggling starts.

use super::*;
use crate::base::limits::BODY_LENGTH_MAX;

#[test]
fn accepted() {
    for (lines, framing) in [
        ("", Framing::Empty),
        ("Content-Length: 0\r\n", Framing::Length(0)),
        ("Content-Length: 5\r\n", Framing::Length(5)),
        ("content-length:5\r\n", Framing::Length(5)),
        ("CONTENT-LENGTH: \t5 \r\n", Framing::Length(5)),
        ("Content-Length: 0005\r\n", Framing::Length(5)),
        ("Content-Length: 9223372036854775807\r\n", Framing::Length(BODY_LENGTH_MAX)),
        ("Transfer-Encoding: chunked\r\n", Framing::Chunked),
        ("transfer-encoding:CHUNKED\r\n", Framing::Chunked),
        ("Transfer-Encoding: \tChunked\t \r\n", Framing::Chunked),
        ("Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Framing::Chunked),
        ("X-Content-Length: 5\r\nX-Transfer-Encoding: chunked\r\n", Framing::Empty),
        ("Content-Lengths: 5\r\n", Framing::Empty),
        ("ContentLength: 5\r\nTransferEncoding: chunked\r\n", Framing::Empty),
        ("Content.Length: 5\r\n", Framing::Empty),
    ] {
        let text = post_with(lines);
        assert_eq!(accept(&text).framing(), framing, "{lines:?}");
        let text = get_with(lines);
        assert_eq!(accept(&text).framing(), framing, "{lines:?}");
    }
}

#[test]
fn lengths_refused() {
    for value in [
        "",
        "+5",
        "-5",
        "-0",
        "5,5",
        "5, 5",
        "5,6",
        "5 5",
        "5;5",
        "0x5",
        "5.0",
        "5e0",
        "9223372036854775808",
        "18446744073709551615",
        "five",
        "5\u{a0}",
        "\u{665}",
        "18446744073709551616",
        "99999999999999999999999",
        "'5'",
        "\"5\"",
        ",5",
        "5,",
        "5\t5",
        "_5",
        "1_0",
        "NaN",
        "5 chunked",
        "5h",
        "\u{b2}",
        "0b1",
        "0o7",
        "5/1",
        "=5",
        "5:",
    ] {
        let text = post_with(&format!("Content-Length: {value}\r\n"));
        let error = refuse(text.as_bytes());
        assert_eq!(error, HeadError::LengthInvalid, "{value:?}");
        assert_eq!(error.reason().code(), "bad_framing");
    }
    for (lines, error) in [
        ("Content-Length: 5\r\nContent-Length: 5\r\n", HeadError::LengthRepeated),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", HeadError::LengthRepeated),
        ("Content-Length: 0\r\nX: y\r\ncontent-length: 35\r\n", HeadError::LengthRepeated),
        ("Content-Length: 5\r\nContent-Length:\r\n", HeadError::LengthRepeated),
        ("Content-Length:\r\nContent-Length: 5\r\n", HeadError::LengthInvalid),
        ("Content-Length : 5\r\n", HeadError::FieldName),
        ("Content-Length\t: 5\r\n", HeadError::FieldName),
        ("Content-Length\x0b: 5\r\n", HeadError::FieldName),
        ("Content-Length: 5\r\n 6\r\n", HeadError::ObsFold),
        ("Content-Length:\r\n 6\r\n", HeadError::LengthInvalid),
        ("Content-Length: 5\x0b\r\n", HeadError::FieldValue),
        ("Content-Length: \x005\r\n", HeadError::FieldValue),
        ("Content-Length: 5\rX: y\r\n", HeadError::BareCr),
        ("Content_Length: 5\r\n", HeadError::FieldNameLookalike),
        ("content_length: 5\r\n", HeadError::FieldNameLookalike),
        ("Content-Length 5\r\n", HeadError::FieldName),
        (" Content-Length: 5\r\n", HeadError::ObsFold),
        ("Content Length: 5\r\n", HeadError::FieldName),
        ("\u{212a}eep: 5\r\n", HeadError::FieldName),
        ("Content-Length\0: 5\r\n", HeadError::FieldName),
    ] {
        assert_eq!(refuse(post_with(lines).as_bytes()), error, "{lines:?}");
    }
}

#[test]
fn codings_refused() {
    for (value, error) in [
        ("", HeadError::CodingInvalid),
        ("gzip", HeadError::CodingUnsupported),
        ("deflate", HeadError::CodingUnsupported),
        ("compress", HeadError::CodingUnsupported),
        ("identity", HeadError::CodingUnsupported),
        ("gzip, chunked", HeadError::CodingUnsupported),
        ("gzip,chunked", HeadError::CodingUnsupported),
        ("identity, chunked", HeadError::CodingUnsupported),
        ("cow, chunked", HeadError::CodingUnsupported),
        ("cow", HeadError::CodingInvalid),
        ("xchunked", HeadError::CodingInvalid),
        ("chunkedx", HeadError::CodingInvalid),
        ("chunked, chunked", HeadError::CodingInvalid),
        ("chunked,chunked", HeadError::CodingInvalid),
        ("chunked, gzip", HeadError::CodingInvalid),
        ("chunked, identity", HeadError::CodingInvalid),
        ("chunked, cow", HeadError::CodingInvalid),
        ("chunked,", HeadError::CodingInvalid),
        (",chunked", HeadError::CodingInvalid),
        (", chunked", HeadError::CodingInvalid),
        ("chunked;", HeadError::CodingInvalid),
        ("chunked;q=0.5", HeadError::CodingInvalid),
        ("chunked;foo=bar", HeadError::CodingInvalid),
        ("chunked foo", HeadError::CodingInvalid),
        ("chunked\u{a0}", HeadError::CodingInvalid),
        ("\u{a0}chunked", HeadError::CodingInvalid),
        ("\"chunked\"", HeadError::CodingInvalid),
        ("'chunked'", HeadError::CodingInvalid),
        ("chunk", HeadError::CodingInvalid),
        ("chunke\u{313}d", HeadError::CodingInvalid),
        ("\u{ff}chunked", HeadError::CodingInvalid),
        ("c hunked", HeadError::CodingInvalid),
        ("=chunked", HeadError::CodingInvalid),
        ("chunked=", HeadError::CodingInvalid),
        (":chunked", HeadError::CodingInvalid),
        ("none", HeadError::CodingInvalid),
        ("\x0bchunked", HeadError::FieldValue),
        ("chunked\x0c", HeadError::FieldValue),
        ("\x00chunked", HeadError::FieldValue),
        ("chunked\x7f", HeadError::FieldValue),
        ("chunked\rX: y", HeadError::BareCr),
        ("chunked\nX: y", HeadError::BareLf),
        ("\r\n chunked", HeadError::ObsFold),
        ("chunked\r\n ", HeadError::ObsFold),
        ("chunked\r\n\tgzip", HeadError::ObsFold),
    ] {
        let text = post_with(&format!("Transfer-Encoding: {value}\r\n"));
        assert_eq!(refuse(text.as_bytes()), error, "{value:?}");
    }
    assert_eq!(HeadError::CodingUnsupported.reason().status(), 501);
    assert_eq!(HeadError::CodingInvalid.reason().status(), 400);
    for (lines, error) in [
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", HeadError::CodingRepeated),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", HeadError::CodingRepeated),
        (
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
            HeadError::CodingRepeated,
        ),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", HeadError::CodingRepeated),
        ("Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n", HeadError::CodingRepeated),
        ("Transfer-Encoding : chunked\r\n", HeadError::FieldName),
        ("Transfer-Encoding\t: chunked\r\n", HeadError::FieldName),
        ("Transfer_Encoding: chunked\r\n", HeadError::FieldNameLookalike),
        ("TRANSFER_ENCODING: x\r\n", HeadError::FieldNameLookalike),
        ("Keep_Alive: x\r\n", HeadError::FieldNameLookalike),
        ("X: y\nTransfer-Encoding: chunked\r\n", HeadError::BareLf),
        ("X: y\rTransfer-Encoding: chunked\r\n", HeadError::BareCr),
        ("Transfer Encoding: chunked\r\n", HeadError::FieldName),
        ("[Transfer-Encoding]: chunked\r\n", HeadError::FieldName),
        ("Transfer-Encoding\u{a0}: chunked\r\n", HeadError::FieldName),
        (
            "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
            HeadError::NominatedFraming,
        ),
        ("Connection: content-length\r\nContent-Length: 3\r\n", HeadError::NominatedFraming),
        ("Connection: close, Content-Length\r\n", HeadError::NominatedFraming),
    ] {
        assert_eq!(refuse(post_with(lines).as_bytes()), error, "{lines:?}");
    }
}

#[test]
fn both_together() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding:\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nX: y\r\nX: y\r\ntransfer-encoding: CHUNKED\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: gzip\r\n",
    ] {
        assert_eq!(refuse(post_with(lines).as_bytes()), HeadError::LengthAndCoding, "{lines:?}");
        let old = format!("POST / HTTP/1.0\r\n{lines}\r\n");
        assert_eq!(refuse(old.as_bytes()), HeadError::LengthAndCoding, "{lines:?}");
    }
    for lines in ["Transfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip\r\n"] {
        let old = format!("POST / HTTP/1.0\r\nConnection: keep-alive\r\n{lines}\r\n");
        assert_eq!(refuse(old.as_bytes()), HeadError::CodingInHttp10, "{lines:?}");
    }
}

#[test]
fn framing_errors_come_before_others_of_the_whole_head() {
    let no_host = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n";
    assert_eq!(refuse(no_host.as_bytes()), HeadError::LengthAndCoding);
    let expects = post_with("Expect: x\r\nTransfer-Encoding: gzip\r\n");
    assert_eq!(refuse(expects.as_bytes()), HeadError::CodingUnsupported);
}
