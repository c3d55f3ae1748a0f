//! The fields of a message, as lines of text.

use http::HeaderMap;

/// Why a message breaks the rules of HTTP/2. Its stream is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A name or a value with bytes that none may have, or a `#` in a pseudo-field.
    Field,
    /// A field that speaks about a connection.
    ConnectionField,
    /// A value that begins or ends with white space.
    FieldValue,
    /// Content-Length repeated, not a number, or more than a body that is not there.
    ContentLength,
    /// Host repeated, or not what `:authority` says.
    Host,
    /// A target that is neither a path nor an asterisk.
    Target,
    /// A scheme other than http and https.
    Scheme,
    /// A `:protocol` that is not the name of one.
    Protocol,
    /// A status that has no meaning in HTTP/2 (101).
    Status,
}

/// What the fields of a message say that its text needs to say in its own way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The one Content-Length.
    pub(super) length: Option<u64>,
    /// Whether there is a Host.
    pub(super) host: bool,
    /// Whether there is a Sec-WebSocket-Key.
    pub(super) websocket_key: bool,
}

/// Appends the fields of a message as lines. Host is left out, Content-Length written as it is
/// (or left out too, without `with_length`), and cookies that were cut into crumbs are put together.
///
/// Source: RFC 9113 §8.2.
///
/// # Errors
/// What makes a message malformed there and could be told apart from text only with difficulty.
pub(super) fn write_fields(
    out: &mut Vec<u8>,
    fields: &HeaderMap,
    with_length: bool,
) -> Result<Facts, Malformed> {
    let mut facts = Facts::default();
    for (name, value) in fields {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        check_value(value)?;
        match name {
            //= https://www.rfc-editor.org/rfc/rfc9113#section-8.2.2
            //# An endpoint MUST NOT generate an HTTP/2 message containing
            //# connection-specific header fields.
            b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding"
            | b"upgrade" => return Err(Malformed::ConnectionField),
            b"te" if value != b"trailers" => return Err(Malformed::ConnectionField),
            b"content-length" if facts.length.is_some() => return Err(Malformed::ContentLength),
            b"content-length" => {
                facts.length = Some(parse_length(value).ok_or(Malformed::ContentLength)?);
                if !with_length {
                    continue;
                }
            }
            b"host" if facts.host => return Err(Malformed::Host),
            b"host" => {
                facts.host = true;
                continue;
            }
            b"cookie" => continue,
            b"sec-websocket-key" => facts.websocket_key = true,
            _ => {}
        }
        push_line(out, name, value);
    }
    write_cookies(out, fields);
    Ok(facts)
}

/// Whether trailers are to be expected behind a body: they are announced, or it is gRPC's, which ends
/// with its status. HTTP/1.1 has no place for them beside a Content-Length, which is left out
/// then; the crate has compared it with the body anyway.
pub(super) fn has_trailers(fields: &HeaderMap) -> bool {
    fields.contains_key(http::header::TRAILER)
        || fields.get(http::header::CONTENT_TYPE).is_some_and(|kind| {
            let kind = kind.as_bytes();
            kind.get(..16).is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/grpc"))
        })
}

/// One line for all crumbs.
fn write_cookies(out: &mut Vec<u8>, fields: &HeaderMap) {
    let mut before: &[u8] = b"cookie: ";
    for crumb in fields.get_all(http::header::COOKIE) {
        out.extend_from_slice(before);
        out.extend_from_slice(crumb.as_bytes());
        //= https://www.rfc-editor.org/rfc/rfc9113#section-8.2.3
        //# If there are multiple Cookie header fields after decompression,
        //# these MUST be concatenated into a single octet string using the
        //# two-octet delimiter of 0x3b, 0x20 (the ASCII string "; ") before
        //# being passed into a non-HTTP/2 context
        before = b"; ";
    }
    if before == b"; " {
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the last chunk with these trailers. What must not be in them is sorted out where they are
/// read.
///
/// # Errors
/// When one of them has a value that is malformed.
pub fn write_trailers(out: &mut Vec<u8>, fields: &HeaderMap) -> Result<(), Malformed> {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in fields {
        check_value(value.as_bytes())?;
        push_line(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn check_value(value: &[u8]) -> Result<(), Malformed> {
    //= https://www.rfc-editor.org/rfc/rfc9113#section-8.2.1
    //# A field value MUST NOT start or end with an ASCII whitespace
    //# character (ASCII SP or HTAB, 0x20 or 0x09).
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    match is_space(value.first()) || is_space(value.last()) {
        true => Err(Malformed::FieldValue),
        false => Ok(()),
    }
}

pub(super) fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn parse_length(value: &[u8]) -> Option<u64> {
    crate::proto::bytes::parse_u64(value)
}
