//! Responses that ringway makes itself.

use super::{Version, write_request::push_length, write_response::push_keep_alive};
use crate::proto::bytes::push_decimal;

/// A response made by ringway itself.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// 200..=599
    pub status: u16,
    /// The code for `x-ringway-reason`; empty for none.
    pub reason: &'a str,
    /// The body; left out for HEAD, its length is still told.
    pub body: &'a [u8],
    /// The type of the body; empty for none.
    pub content_type: &'a str,
    /// The methods for Allow.
    pub allow: Option<&'a [u8]>,
    /// Whether the client's connection stays open.
    pub keep_alive: bool,
    /// The version of the client's request; 1.1 if that is unknown.
    pub client_version: Version,
    /// Whether the request was a HEAD.
    pub head_request: bool,
    /// The Date.
    pub date: &'a [u8],
    /// More complete field lines, each with its CRLF.
    pub extra: &'a [u8],
}

/// Appends a complete response, head and body. A 204 or 304 gets neither body nor Content-Length.
pub fn write_answer(out: &mut Vec<u8>, a: &Answer<'_>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(out, u64::from(a.status));
    push_parts(out, &[b" ", reason_phrase(a.status).as_bytes(), b"\r\nserver: ringway\r\n"]);
    if !a.date.is_empty() {
        push_parts(out, &[b"date: ", a.date, b"\r\n"]);
    }
    if !a.reason.is_empty() {
        push_parts(out, &[b"x-ringway-reason: ", a.reason.as_bytes(), b"\r\n"]);
    }
    if let Some(methods) = a.allow {
        push_parts(out, &[b"allow: ", methods, b"\r\n"]);
    }
    let bodiless = matches!(a.status, 204 | 304);
    if !bodiless {
        if !a.content_type.is_empty() {
            push_parts(out, &[b"content-type: ", a.content_type.as_bytes(), b"\r\n"]);
        }
        push_length(out, a.body.len() as u64);
    }
    push_keep_alive(out, a.client_version, a.keep_alive);
    push_parts(out, &[a.extra, b"\r\n"]);
    if !bodiless && !a.head_request {
        out.extend_from_slice(a.body);
    }
}

fn push_parts(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// The phrase of a status; empty if it has none. Source: RFC 9110 §15, RFC 6585.
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        425 => "Too Early",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::reason::Reason;

    fn answer() -> Answer<'static> {
        Answer {
            status: 404,
            reason: "no_route",
            body: b"no route\n",
            content_type: "text/plain",
            allow: None,
            keep_alive: true,
            client_version: Version::Http11,
            head_request: false,
            date: b"Fri, 20 Nov 2026 00:00:00 GMT",
            extra: b"",
        }
    }

    fn written(a: &Answer<'_>) -> String {
        let mut out = Vec::new();
        write_answer(&mut out, a);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_plain_one() {
        assert_eq!(
            written(&answer()),
            "HTTP/1.1 404 Not Found\r\nserver: ringway\r\ndate: Fri, 20 Nov 2026 00:00:00 GMT\r\n\
             x-ringway-reason: no_route\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\nno route\n"
        );
    }

    #[test]
    fn variants() {
        let to_head = written(&Answer { head_request: true, ..answer() });
        assert!(to_head.ends_with("content-length: 9\r\n\r\n"));
        let closing = written(&Answer { keep_alive: false, extra: b"a: b\r\n", ..answer() });
        assert!(closing.ends_with("connection: close\r\na: b\r\n\r\nno route\n"));
        let old = written(&Answer { client_version: Version::Http10, ..answer() });
        assert!(old.contains("\r\nconnection: keep-alive\r\n"));
        let allow = written(&Answer { status: 405, allow: Some(b"GET, HEAD"), ..answer() });
        assert!(allow.contains("\r\nallow: GET, HEAD\r\n"));
        let empty = written(&Answer { status: 204, body: b"", content_type: "", ..answer() });
        assert!(!empty.contains("content-"));
    }

    #[test]
    fn every_reason_has_a_phrase() {
        for reason in Reason::ALL {
            assert!(reason.status() == 499 || !reason_phrase(reason.status()).is_empty());
        }
    }
}
