//! A request of a stream as HTTP/1.1 text.

use http::{Method, request};

use super::fields::{Malformed, has_trailers, push_line, write_fields};
use crate::proto::{bytes::is_token, h1::Framing, host::same_authority};

/// How a request was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestText {
    /// How the body has to be written.
    pub framing: Framing,
    /// Whether the stream becomes a tunnel once it is accepted.
    pub is_tunnel: bool,
}

/// Appends a request as an HTTP/1.1 head. `ended` when nothing follows the fields; `key` is the
/// Sec-WebSocket-Key of an extended CONNECT, which has none of its own.
///
/// Source: RFC 9113 §8.3.1, RFC 8441 §5.
///
/// # Errors
/// When the request is malformed; `out` then holds a part of it.
pub fn write_request(
    out: &mut Vec<u8>,
    parts: &request::Parts,
    protocol: Option<&[u8]>,
    ended: bool,
    key: &[u8],
) -> Result<RequestText, Malformed> {
    write_line(out, parts, protocol.is_some())?;
    let at_host = out.len();
    write_host(out, parts)?;
    let has_host = out.len() > at_host;
    let is_chunked = !ended && protocol.is_none() && has_trailers(&parts.headers);
    let facts = write_fields(out, &parts.headers, !is_chunked)?;
    if let Some(protocol) = protocol {
        // The name of one protocol: a list would be read as several.
        if !protocol.split(|byte| *byte == b'/').all(is_token) {
            return Err(Malformed::Protocol);
        }
        push_line(out, b"connection", b"upgrade");
        push_line(out, b"upgrade", protocol);
        if protocol == b"websocket" && !facts.websocket_key {
            push_line(out, b"sec-websocket-key", key);
        }
        out.extend_from_slice(b"\r\n");
        let is_plain = !ended && facts.length.is_none() && has_host;
        return match is_plain {
            true => Ok(RequestText { framing: Framing::Empty, is_tunnel: true }),
            false => Err(Malformed::ContentLength),
        };
    }
    let framing = match facts.length {
        //= https://www.rfc-editor.org/rfc/rfc9113#section-8.1.1
        //# A request or response that includes message content can include a
        //# content-length header field.  A request or response is also malformed
        //# if the value of a content-length header field does not equal the sum
        //# of the DATA frame payload lengths that form the content
        Some(1..) if ended => return Err(Malformed::ContentLength),
        Some(length) if !is_chunked => Framing::Length(length),
        None if ended || parts.method == Method::CONNECT => Framing::Empty,
        _ => {
            push_line(out, b"transfer-encoding", b"chunked");
            Framing::Chunked
        }
    };
    out.extend_from_slice(b"\r\n");
    Ok(RequestText { framing, is_tunnel: false })
}

fn write_line(
    out: &mut Vec<u8>,
    parts: &request::Parts,
    is_extended: bool,
) -> Result<(), Malformed> {
    let is_known =
        |scheme: &str| ["http", "https"].iter().any(|it| it.eq_ignore_ascii_case(scheme));
    if !parts.uri.scheme_str().is_none_or(is_known) {
        return Err(Malformed::Scheme);
    }
    let method = if is_extended { "GET" } else { parts.method.as_str() };
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    match (parts.uri.path_and_query(), parts.uri.authority()) {
        (None, Some(authority)) if parts.method == Method::CONNECT => {
            out.extend_from_slice(authority.as_str().as_bytes());
        }
        //= https://www.rfc-editor.org/rfc/rfc9113#section-8.3.1
        //# This pseudo-header field MUST NOT be empty for "http" or "https"
        //# URIs; "http" or "https" URIs that do not contain a path component
        //# MUST include a value of '/'.
        (Some(target), _) if target.as_str().starts_with('/') || target.as_str() == "*" => {
            out.extend_from_slice(target.as_str().as_bytes());
        }
        _ => return Err(Malformed::Target),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    Ok(())
}

/// The one host: `:authority`, with which a Host has to agree.
fn write_host(out: &mut Vec<u8>, parts: &request::Parts) -> Result<(), Malformed> {
    let mut hosts = parts.headers.get_all(http::header::HOST).iter();
    let (field, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Err(Malformed::Host);
    }
    match (parts.uri.authority(), field) {
        (None, None) => {} // the parser of the text says what is missing
        (None, Some(field)) => push_line(out, b"host", field.as_bytes()),
        (Some(authority), field) => {
            let authority = authority.as_str().as_bytes();
            let is_https =
                parts.uri.scheme_str().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
            let port = if is_https { 443 } else { 80 };
            //= https://www.rfc-editor.org/rfc/rfc9113#section-8.3.1
            //# A server SHOULD treat a request as malformed if it contains a Host
            //# header field that identifies an entity that differs from the entity
            //# in the ":authority" pseudo-header field.
            if field.is_some_and(|field| !same_authority(field.as_bytes(), authority, port)) {
                return Err(Malformed::Host);
            }
            push_line(out, b"host", authority);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn text(request: request::Builder, ended: bool) -> Result<(String, RequestText), Malformed> {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let mut out = Vec::new();
        let written = write_request(&mut out, &parts, None, ended, b"")?;
        Ok((String::from_utf8(out).unwrap(), written))
    }

    fn get(uri: &str) -> request::Builder {
        Request::builder().uri(uri)
    }

    #[test]
    fn a_plain_one() {
        let (written, how) = text(get("https://a.test/x?y=1").header("a", "b"), true).unwrap();
        assert_eq!(written, "GET /x?y=1 HTTP/1.1\r\nhost: a.test\r\na: b\r\n\r\n");
        assert_eq!(how, RequestText { framing: Framing::Empty, is_tunnel: false });
    }

    #[test]
    fn bodies() {
        let post = || get("http://a.test/").method("POST");
        let (written, how) = text(post(), false).unwrap();
        assert!(written.ends_with("transfer-encoding: chunked\r\n\r\n"));
        assert_eq!(how.framing, Framing::Chunked);
        let (_, how) = text(post().header("content-length", "7"), false).unwrap();
        assert_eq!(how.framing, Framing::Length(7));
        let (_, how) = text(post().header("content-length", "0"), true).unwrap();
        assert_eq!(how.framing, Framing::Length(0));
        for lengths in [&["7"][..], &["0", "0"], &["x"], &["-1"], &["+1"], &["1,1"], &[""]] {
            let request =
                lengths.iter().fold(post(), |post, length| post.header("content-length", *length));
            assert_eq!(text(request, true).unwrap_err(), Malformed::ContentLength, "{lengths:?}");
        }
    }

    #[test]
    fn trailers_beside_a_length() {
        let post = || get("http://a.test/").method("POST").header("content-length", "7");
        for (name, value) in [("trailer", "x"), ("content-type", "application/grpc+proto")] {
            let (written, how) = text(post().header(name, value), false).unwrap();
            assert!(!written.contains("content-length"), "{written}");
            assert!(written.ends_with("transfer-encoding: chunked\r\n\r\n"), "{written}");
            assert_eq!(how.framing, Framing::Chunked);
        }
        let two = post().header("content-length", "7").header("trailer", "x");
        assert_eq!(text(two, false).unwrap_err(), Malformed::ContentLength);
    }

    #[test]
    fn crumbs_are_put_together() {
        let request = get("http://a.test/").header("cookie", "a=1").header("x", "y");
        let (written, _) = text(request.header("cookie", "b=2"), true).unwrap();
        assert!(written.ends_with("x: y\r\ncookie: a=1; b=2\r\n\r\n"), "{written}");
    }

    #[test]
    fn hosts() {
        let (written, _) = text(get("/").header("host", "a.test"), true).unwrap();
        assert_eq!(written, "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
        let (written, _) = text(get("http://a.test/").header("host", "A.TEST:80"), true).unwrap();
        assert_eq!(written, "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
        let (written, _) = text(get("HTTPS://a.test/").header("host", "a.test:443"), true).unwrap();
        assert_eq!(written, "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
        let other = get("http://a.test/").header("host", "b.test");
        assert_eq!(text(other, true).unwrap_err(), Malformed::Host);
        let two = get("/").header("host", "a.test").header("host", "a.test");
        assert_eq!(text(two, true).unwrap_err(), Malformed::Host);
    }

    #[test]
    fn what_is_malformed() {
        for (name, value) in [
            ("connection", "close"),
            ("keep-alive", "1"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("te", "trailers, deflate"),
        ] {
            let error = text(get("http://a.test/").header(name, value), true).unwrap_err();
            assert_eq!(error, Malformed::ConnectionField, "{name}: {value}");
        }
        for value in [" a", "a ", "\ta", "a\t", " "] {
            let error = text(get("http://a.test/").header("x", value), true).unwrap_err();
            assert_eq!(error, Malformed::FieldValue, "{value:?}");
        }
        assert_eq!(text(get("ftp://a.test/"), true).unwrap_err(), Malformed::Scheme);
    }

    #[test]
    fn an_extended_connect_becomes_an_upgrade() {
        let request =
            get("https://a.test/chat").method("CONNECT").header("sec-websocket-version", "13");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let mut out = Vec::new();
        let how = write_request(&mut out, &parts, Some(b"websocket"), false, b"key==").unwrap();
        assert!(how.is_tunnel);
        assert_eq!(
            String::from_utf8(std::mem::take(&mut out)).unwrap(),
            "GET /chat HTTP/1.1\r\nhost: a.test\r\nsec-websocket-version: 13\r\n\
             connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: key==\r\n\r\n"
        );
        for bad in [&b""[..], b"websocket, x", b"a b", b"a/"] {
            let written = write_request(&mut out, &parts, Some(bad), false, b"");
            assert_eq!(written.unwrap_err(), Malformed::Protocol, "{}", bad.escape_ascii());
        }
    }
}
