//! What ringway's own writers made (a head, a body in its framing), taken apart into frames.

use std::ops::Range;

use ::h2::ext::Protocol;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};

use crate::proto::{
    bytes::{find_byte, parse_u64},
    h1::ChunkDecoder,
    websocket::accept,
};

/// The text is not what one of our writers makes, or can't be said in HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsayable;

/// Whose messages these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Responses: to a client, whose request may have been a HEAD.
    Server {
        /// Whether it was.
        to_head: bool,
    },
    /// Requests: to an endpoint.
    Client {
        /// Whether they go over TLS.
        is_https: bool,
    },
}

/// The next thing to send.
#[derive(Debug)]
pub enum Frames {
    /// Nothing yet: framing only, or the end of the text.
    None,
    /// The head of a request.
    Request {
        /// The head.
        head: Box<Request<()>>,
        /// Whether nothing follows.
        ended: bool,
    },
    /// A 1xx.
    Interim(Box<Response<()>>),
    /// The head of a response.
    Response {
        /// The head.
        head: Box<Response<()>>,
        /// Whether nothing follows.
        ended: bool,
    },
    /// A part of the body, where it lies in the text; may be empty when it is the last one.
    Data {
        /// Its place.
        range: Range<usize>,
        /// Whether nothing follows.
        ended: bool,
    },
    /// The trailers, which end the message.
    Trailers(HeaderMap),
}

enum Step {
    Head,
    Length(u64),
    Chunked(Box<ChunkDecoder>),
    /// The trailers of the last chunk are still to be told.
    Trailers(Box<ChunkDecoder>),
    /// A tunnel: bytes as they are, until it is closed.
    Raw,
    Done,
}

/// A request that becomes a tunnel; in the extensions of its head.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel {
    /// The Sec-WebSocket-Accept that its client waits for.
    pub accept: [u8; 28],
}

/// Takes one message apart.
pub struct Unframer {
    side: Side,
    step: Step,
    /// What follows a body whose length is told: text has no place for it.
    trailers: Option<Box<ChunkDecoder>>,
}

impl Unframer {
    /// For the next message of this side.
    pub fn new(side: Side) -> Self {
        Self { side, step: Step::Head, trailers: None }
    }

    /// The message ends with the trailers that `last_chunk` has, even if its length is told.
    ///
    /// # Errors
    /// [`Unsayable`], if they are not what trailers may be.
    pub fn end_with(&mut self, last_chunk: &[u8]) -> Result<(), Unsayable> {
        let is_due = matches!(self.step, Step::Head | Step::Length(_)) && self.trailers.is_none();
        if !is_due {
            return Ok(());
        }
        let mut decoder = Box::<ChunkDecoder>::default();
        let chunk = decoder.decode(&mut last_chunk.to_vec()).map_err(|_| Unsayable)?;
        let is_some = !decoder.trailers().is_empty(); // those that nobody may pass on are gone
        self.trailers = (chunk.done && is_some).then_some(decoder);
        Ok(())
    }

    /// Whether the message was told to its end.
    pub fn is_done(&self) -> bool {
        matches!(self.step, Step::Done)
    }

    /// The end of a tunnel; whether there was one.
    pub fn end_tunnel(&mut self) -> bool {
        let is_tunnel = matches!(self.step, Step::Raw);
        if is_tunnel {
            self.step = Step::Done;
        }
        is_tunnel
    }

    /// Takes the next thing from the front of `text`. Returns how many bytes it was, and what.
    /// Heads come whole. Payload may be moved within the bytes taken.
    ///
    /// # Errors
    /// [`Unsayable`]; the message has to be given up.
    pub fn next(&mut self, text: &mut [u8]) -> Result<(usize, Frames), Unsayable> {
        match &mut self.step {
            Step::Head => self.take_head(text),
            Step::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(text.len());
                *left -= count as u64;
                if *left == 0 {
                    self.step = self.trailers.take().map_or(Step::Done, Step::Trailers);
                }
                Ok((count, Frames::Data { range: 0..count, ended: self.is_done() }))
            }
            Step::Chunked(decoder) => {
                let chunk = decoder.decode(text).map_err(|_| Unsayable)?;
                let has_trailers = chunk.done && !decoder.trailers().is_empty();
                let ended = chunk.done && !has_trailers;
                match std::mem::replace(&mut self.step, Step::Done) {
                    Step::Chunked(decoder) if has_trailers => self.step = Step::Trailers(decoder),
                    Step::Chunked(decoder) if !chunk.done => self.step = Step::Chunked(decoder),
                    _ => {}
                }
                if chunk.data.is_empty() && !ended {
                    return Ok((chunk.consumed, Frames::None));
                }
                Ok((chunk.consumed, Frames::Data { range: chunk.data, ended }))
            }
            Step::Trailers(decoder) => {
                let read = read_trailers(decoder.trailers());
                self.step = Step::Done;
                read.map(|fields| (0, Frames::Trailers(fields)))
            }
            Step::Raw => Ok((text.len(), Frames::Data { range: 0..text.len(), ended: false })),
            Step::Done if text.is_empty() => Ok((0, Frames::None)),
            Step::Done => Err(Unsayable),
        }
    }

    /// Whether something is left to be told although all text was taken.
    pub fn has_more(&self) -> bool {
        matches!(self.step, Step::Trailers(_))
    }

    fn take_head(&mut self, text: &[u8]) -> Result<(usize, Frames), Unsayable> {
        let (line, lines) = split_line(text).ok_or(Unsayable)?;
        let (frames, left) = match self.side {
            Side::Server { to_head } => self.response(line, lines, to_head)?,
            Side::Client { is_https } => self.request(line, lines, is_https)?,
        };
        Ok((text.len() - left, frames))
    }

    /// A response, and how many bytes follow its head.
    fn response(
        &mut self,
        line: &[u8],
        lines: &[u8],
        to_head: bool,
    ) -> Result<(Frames, usize), Unsayable> {
        let status = line.get(9..12).ok_or(Unsayable)?;
        let status = StatusCode::from_bytes(status).map_err(|_| Unsayable)?;
        let mut head = Box::new(Response::new(()));
        *head.status_mut() = status;
        let (facts, left) = Facts::read(lines, head.headers_mut())?;
        //= https://www.rfc-editor.org/rfc/rfc8441#section-5
        //# HTTP/2 uses the 2xx (Successful) status codes instead of 101
        if status == StatusCode::SWITCHING_PROTOCOLS {
            *head.status_mut() = StatusCode::OK;
            self.step = Step::Raw;
            return Ok((Frames::Response { head, ended: false }, left));
        }
        if status.is_informational() {
            return Ok((Frames::Interim(head), left));
        }
        let bodiless = to_head || matches!(status.as_u16(), 204 | 304);
        let ended = self.begin(if bodiless { Facts::default() } else { facts });
        Ok((Frames::Response { head, ended }, left))
    }

    /// A request, and how many bytes follow its head.
    fn request(
        &mut self,
        line: &[u8],
        lines: &[u8],
        is_https: bool,
    ) -> Result<(Frames, usize), Unsayable> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target)) = (parts.next(), parts.next()) else {
            return Err(Unsayable);
        };
        let mut head = Box::new(Request::new(()));
        let (facts, left) = Facts::read(lines, head.headers_mut())?;
        *head.method_mut() = Method::from_bytes(method).map_err(|_| Unsayable)?;
        let host = head.headers_mut().remove(http::header::HOST).ok_or(Unsayable)?;
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(if is_https { Scheme::HTTPS } else { Scheme::HTTP });
        uri.authority = Some(Authority::try_from(host.as_bytes()).map_err(|_| Unsayable)?);
        uri.path_and_query = Some(PathAndQuery::try_from(target).map_err(|_| Unsayable)?);
        *head.uri_mut() = Uri::from_parts(uri).map_err(|_| Unsayable)?;
        if facts.te_trailers {
            head.headers_mut().insert(http::header::TE, HeaderValue::from_static("trailers"));
        }
        if let Some(protocol) = &facts.upgrade {
            self.tunnel(&mut head, protocol)?;
            return Ok((Frames::Request { head, ended: false }, left));
        }
        let ended = self.begin(facts);
        Ok((Frames::Request { head, ended }, left))
    }

    /// Makes an extended CONNECT of the head of an upgrade. Of the protocols that have one only that of
    /// WebSockets is known here.
    fn tunnel(&mut self, head: &mut Request<()>, protocol: &HeaderValue) -> Result<(), Unsayable> {
        if !protocol.as_bytes().eq_ignore_ascii_case(b"websocket") {
            return Err(Unsayable);
        }
        // RFC 8441 §5.1 has no use for the key, but an intermediary that speaks HTTP/1.1 with the server
        // behind it has (Envoy makes none of its own), so it stays.
        let key = head.headers().get("sec-websocket-key");
        let accept = accept(key.map_or(&[], HeaderValue::as_bytes));
        *head.method_mut() = Method::CONNECT;
        head.extensions_mut().insert(Protocol::from_static("websocket"));
        head.extensions_mut().insert(Tunnel { accept });
        self.step = Step::Raw;
        Ok(())
    }

    /// Goes on to the body; whether there is none.
    fn begin(&mut self, facts: Facts) -> bool {
        self.step = match (facts.chunked, facts.length) {
            (true, _) => Step::Chunked(Box::default()),
            (false, None) => Step::Done,
            (false, Some(0)) => self.trailers.take().map_or(Step::Done, Step::Trailers),
            (false, Some(length)) => Step::Length(length),
        };
        self.is_done()
    }
}

/// What the fields say of the body and of the connection.
#[derive(Clone, Default)]
struct Facts {
    chunked: bool,
    length: Option<u64>,
    te_trailers: bool,
    upgrade: Option<HeaderValue>,
}

impl Facts {
    /// Adds each field up to the empty line that speaks of the message to `fields`, and keeps what speaks of the
    /// connection. Returns how many bytes follow the empty line, too.
    fn read(lines: &[u8], fields: &mut HeaderMap) -> Result<(Self, usize), Unsayable> {
        let mut facts = Self::default();
        let mut rest = lines;
        loop {
            if let Some(after) = rest.strip_prefix(b"\r\n") {
                return Ok((facts, after.len()));
            }
            let (name, value, after) = split_field(rest)?;
            rest = after;
            match name.as_str() {
                "connection" | "keep-alive" | "proxy-connection" => {}
                "upgrade" => facts.upgrade = Some(value),
                "transfer-encoding" => facts.chunked = true,
                "te" => facts.te_trailers = true, // our writers write no other
                _ => {
                    if name == http::header::CONTENT_LENGTH {
                        facts.length = parse_u64(value.as_bytes());
                    }
                    fields.append(name, value);
                }
            }
        }
    }
}

/// A line, and what follows its end. Our writers write no carriage return but there.
fn split_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\r', text)?;
    let after = text[end + 1..].strip_prefix(b"\n")?;
    Some((&text[..end], after))
}

/// The field in the first line, and what follows the line.
fn split_field(text: &[u8]) -> Result<(HeaderName, HeaderValue, &[u8]), Unsayable> {
    let colon = find_byte(text, 0, b':');
    let name = HeaderName::from_bytes(&text[..colon]).map_err(|_| Unsayable)?; // none has a line's end in it
    let (value, after) = split_line(text.get(colon + 1..).ok_or(Unsayable)?).ok_or(Unsayable)?;
    let value = HeaderValue::from_bytes(value.trim_ascii()).map_err(|_| Unsayable)?;
    Ok((name, value, after))
}

fn read_trailers(lines: &[u8]) -> Result<HeaderMap, Unsayable> {
    let mut fields = HeaderMap::new();
    let mut rest = lines;
    while !rest.is_empty() {
        let (name, value, after) = split_field(rest)?;
        fields.append(name, value);
        rest = after;
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Side = Side::Server { to_head: false };

    /// Everything the text says, one line per frame.
    fn told(side: Side, pieces: &[&str]) -> Result<Vec<String>, Unsayable> {
        told_by(Unframer::new(side), pieces)
    }

    fn told_by(mut unframer: Unframer, pieces: &[&str]) -> Result<Vec<String>, Unsayable> {
        let mut told = Vec::new();
        for piece in pieces {
            let mut text = piece.as_bytes().to_vec();
            let mut at = 0;
            while at < text.len() || unframer.has_more() {
                let (taken, frames) = unframer.next(&mut text[at..])?;
                match frames {
                    Frames::None => {}
                    Frames::Request { head, ended } => {
                        told.push(format!("{} {} {ended}", head.method(), head.uri()));
                        told.extend(head.headers().iter().map(|(n, v)| format!("{n}={v:?}")));
                    }
                    Frames::Interim(head) => told.push(format!("{}", head.status().as_u16())),
                    Frames::Response { head, ended } => {
                        told.push(format!("{} {ended}", head.status().as_u16()));
                        told.extend(head.headers().iter().map(|(n, v)| format!("{n}={v:?}")));
                    }
                    Frames::Data { range, ended } => {
                        let data = &text[at..at + taken][range];
                        told.push(format!("{} {ended}", data.escape_ascii()));
                    }
                    Frames::Trailers(fields) => told.push(format!("{fields:?}")),
                }
                at += taken;
            }
        }
        Ok(told)
    }

    #[test]
    fn a_websocket_is_an_extended_connect() {
        let client = Side::Client { is_https: true };
        let head = "GET /chat HTTP/1.1\r\nhost: a.test\r\nsec-websocket-version: 13\r\n\
            sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nupgrade: WebSocket\r\n\
            connection: upgrade\r\n\r\n";
        assert_eq!(
            told(client, &[head, "any", "bytes"]).unwrap(),
            [
                "CONNECT https://a.test/chat false",
                "sec-websocket-key=\"dGhlIHNhbXBsZSBub25jZQ==\"",
                "sec-websocket-version=\"13\"",
                "any false",
                "bytes false"
            ]
        );
        assert!(told(client, &[&head.replace("WebSocket", "other")]).is_err());
    }

    #[test]
    fn responses() {
        let chunked = "HTTP/1.1 200 OK\r\nA: b\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(
            told(SERVER, &[chunked, "3\r\nabc\r\n0\r\n\r\n"]).unwrap(),
            ["200 false", "a=\"b\"", "abc true"]
        );
        assert_eq!(
            told(SERVER, &[chunked, "3\r\nabc\r\n", "0\r\nx: y\r\n\r\n"]).unwrap(),
            ["200 false", "a=\"b\"", "abc false", "{\"x\": \"y\"}"]
        );
        assert_eq!(told(SERVER, &[chunked, "0\r\n\r\n"]).unwrap()[2], " true");
        assert_eq!(
            told(SERVER, &["HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", "c"]).unwrap()[2..],
            ["ab false", "c true"]
        );
        assert_eq!(
            told(SERVER, &["HTTP/1.1 103 Early Hints\r\n\r\n", "HTTP/1.1 204 No\r\n\r\n"]).unwrap(),
            ["103", "204 true"]
        );
        let to_head = Side::Server { to_head: true };
        assert_eq!(
            told(to_head, &["HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"]).unwrap()[0],
            "200 true"
        );
        assert_eq!(
            told(SERVER, &["HTTP/1.1 101 S\r\nupgrade: websocket\r\n\r\n", "raw"]).unwrap(),
            ["200 false", "raw false"]
        );
        assert_eq!(told(SERVER, &["HTTP/1.1 204 No\r\n\r\n", "more"]).unwrap_err(), Unsayable);
    }

    #[test]
    fn trailers_beside_a_length() {
        let told = |last_chunk: &str, text: &str| {
            let mut unframer = Unframer::new(SERVER);
            unframer.end_with(last_chunk.as_bytes())?;
            told_by(unframer, &[text])
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
        let body = head.to_owned() + "ab";
        let told_all = told("0\r\nx: y\r\n\r\n", &body).unwrap();
        assert_eq!(told_all[2..], ["ab false", "{\"x\": \"y\"}"]);
        let nothing = head.replace('2', "0").replace("00", "200");
        let told_all = told("0\r\nx: y\r\n\r\n", &nothing).unwrap();
        assert_eq!(told_all, ["200 false", "content-length=\"0\"", "{\"x\": \"y\"}"]);
        for forbidden in ["content-length: 3", "transfer-encoding: chunked", "host: b.test"] {
            let told_all = told(&format!("0\r\n{forbidden}\r\n\r\n"), &body).unwrap();
            assert_eq!(told_all[2..], ["ab true"], "{forbidden}");
        }
        assert!(told("0\r\n :y\r\n\r\n", &body).is_err());
        let told_all = told("0\r\nx: y\r\n\r\n", "HTTP/1.1 204 No\r\n\r\n").unwrap();
        assert_eq!(told_all, ["204 true"]);
    }

    #[test]
    fn requests() {
        let side = Side::Client { is_https: false };
        assert_eq!(
            told(
                side,
                &["GET /a?b HTTP/1.1\r\nhost: a.test\r\nconnection: te\r\nte: trailers\r\n\r\n"]
            )
            .unwrap(),
            ["GET http://a.test/a?b true", "te=\"trailers\""]
        );
        assert_eq!(
            told(side, &["POST / HTTP/1.1\r\nhost: a:1\r\ncontent-length: 2\r\n\r\n", "xy"])
                .unwrap(),
            ["POST http://a:1/ false", "content-length=\"2\"", "xy true"]
        );
        assert_eq!(told(side, &["OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"]).unwrap().len(), 1);
    }
}
