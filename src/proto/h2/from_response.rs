//! A response of a stream as HTTP/1.1 text.

use http::response;

use super::fields::{Malformed, has_trailers, push_line, write_fields};
use crate::proto::{
    bytes::push_decimal,
    h1::{Framing, reason_phrase},
};

/// Appends a response as an HTTP/1.1 head and says how its body has to be written. `ended` when
/// nothing follows the fields, `to_head` when nothing may.
///
/// # Errors
/// When the response is malformed; `out` then holds a part of it.
pub fn write_response(
    out: &mut Vec<u8>,
    parts: &response::Parts,
    ended: bool,
    to_head: bool,
) -> Result<Framing, Malformed> {
    let status = parts.status.as_u16();
    //= https://www.rfc-editor.org/rfc/rfc9113#section-8.6
    //# HTTP/2 removes support for the 101 (Switching Protocols)
    //# informational status code
    if status == 101 {
        return Err(Malformed::Status);
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    let bodiless = to_head || matches!(status, 100..=199 | 204 | 304);
    let is_chunked = !ended && !bodiless && has_trailers(&parts.headers);
    let facts = write_fields(out, &parts.headers, !is_chunked)?;
    let framing = match facts.length {
        _ if bodiless => Framing::Empty,
        Some(1..) if ended => return Err(Malformed::ContentLength),
        Some(length) if !is_chunked => Framing::Length(length),
        None if ended => {
            push_line(out, b"content-length", b"0");
            Framing::Length(0)
        }
        _ => {
            push_line(out, b"transfer-encoding", b"chunked");
            Framing::Chunked
        }
    };
    out.extend_from_slice(b"\r\n");
    Ok(framing)
}

/// Appends the acceptance of a tunnel for WebSockets as an HTTP/1.1 head. What the endpoint says to the
/// key is left out: the answer to it is ours.
///
/// Source: RFC 8441 §5.
///
/// # Errors
/// As [`write_response`].
pub fn write_upgrade(
    out: &mut Vec<u8>,
    parts: &mut response::Parts,
    accept: &[u8],
) -> Result<Framing, Malformed> {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    push_line(out, b"connection", b"upgrade");
    push_line(out, b"upgrade", b"websocket");
    push_line(out, b"sec-websocket-accept", accept);
    parts.headers.remove("sec-websocket-accept");
    write_fields(out, &parts.headers, false)?;
    out.extend_from_slice(b"\r\n");
    Ok(Framing::UntilClose)
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    fn text(status: u16, length: Option<u64>, ended: bool, to_head: bool) -> (String, Framing) {
        let mut response = Response::builder().status(status);
        if let Some(length) = length {
            response = response.header("content-length", length);
        }
        let (parts, ()) = response.body(()).unwrap().into_parts();
        let mut out = Vec::new();
        let framing = write_response(&mut out, &parts, ended, to_head).unwrap();
        (String::from_utf8(out).unwrap(), framing)
    }

    #[test]
    fn how_a_body_ends() {
        let (written, framing) = text(200, None, false, false);
        assert_eq!(written, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(framing, Framing::Chunked);
        assert_eq!(text(200, Some(3), false, false).1, Framing::Length(3));
        assert_eq!(text(200, None, true, false).1, Framing::Length(0));
        assert_eq!(text(200, Some(3), true, true).1, Framing::Empty);
        assert_eq!(
            text(204, None, true, false),
            ("HTTP/1.1 204 No Content\r\n\r\n".into(), Framing::Empty)
        );
        assert_eq!(text(304, Some(9), true, false).1, Framing::Empty);
        assert_eq!(text(103, None, false, false).1, Framing::Empty);
    }
}
